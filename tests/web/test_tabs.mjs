// test_tabs.mjs - many tabs and one engine: who leads, what happens when a tab or a worker is killed, or hangs.
import { readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { check, equal, main, shipped, sleep } from '../node/node.mjs';
import { bareTab, closeAll, launch, n, newContext, openPage, up } from './browser.mjs';
import { Site, changedWorker, serveChanged, slower } from './site.mjs';

const open = (page, o = {}) => page.evaluate(async (o) => { window.nigh = await sdk.open({ backend: 'tab', ...o }); }, o);
const leads = (page) => page.evaluate(() => nigh.backend.leads);
const engines = (pages) => pages.reduce((s, p) => s + p.workers().length, 0);
// On a machine that others use, times are printed and only gross faults are failures.
const busy = process.env.NIGH_BUSY || loadavg()[0] > 0.75 * cpus().length;
let seed = Number(process.env.NIGH_SEED ?? Date.now() % 1e6);
const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;

async function tabs(count) {
  const context = await newContext(), pages = [];
  for (let i = 0; i < count; i++) {
    pages.push(await openPage(context));
    await open(pages[i]);
  }
  return { context, pages };
}

// It takes five seconds to be sure of it, so the other tests run meanwhile.
let hanging = null;
const hangWorker = (page) => void page.workers()[0].evaluate(() => { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); }).catch(() => {});
async function hang() {
  const { context, pages } = await tabs(2);
  hangWorker(pages[0]);
  const texts = await Promise.all(pages.map((p) => p.evaluate(async () => (await nigh.complete('The king', { maxTokens: 5, seed: 3 })).text)));
  await context.close();
  return texts;
}
// And ten where the leading page itself is as good as dead, without having been told: here a dialog holds it.
let held = null;
async function hold() {
  const { context, pages: [leader, other] } = await tabs(2);
  let dialog = null;
  leader.on('dialog', (d) => { dialog = d; });
  const blocked = leader.evaluate(() => {
    window.answer = nigh.complete('The king', { maxTokens: 5, seed: 3 });
    answer.then(() => {}, () => {});
    alert('hold');
  }).catch(() => {});
  while (!dialog) await sleep(10);
  hangWorker(leader);
  await sleep(100);
  const begun = Date.now(), text = await other.evaluate(async () => (await nigh.complete('The king', { maxTokens: 5, seed: 3 })).text);
  const ms = Date.now() - begun, took = await leads(other);
  await dialog.dismiss();
  await blocked;
  const texts = [text, await leader.evaluate(async () => (await answer).text)];
  await leader.waitForFunction(() => !nigh.backend.leads);
  await context.close();
  return { texts, ms, took };
}

up('three tabs, one engine, the same text', async () => {
  hanging = hang();
  hanging.catch(() => {});
  held = hold();
  held.catch(() => {});
  const { context, pages } = await tabs(3);
  equal(engines(pages), 1);
  equal(await Promise.all(pages.map(leads)), [true, false, false]);
  const texts = await Promise.all(pages.map((p) => p.evaluate(async () => (await nigh.complete('The king', { maxTokens: 20, seed: 3 })).text)));
  equal(new Set(texts).size, 1);
  const vectors = await pages[1].evaluate(async () => (await nigh.embed(['a', 'b'])).vectors.map((v) => [v.constructor.name, v.length]));
  equal(vectors, [['Float32Array', 256], ['Float32Array', 256]]);
  const cancelled = await pages[2].evaluate(async () => {
    const a = nigh.complete('The king', { maxTokens: 400, temperature: 0 });
    for await (const piece of a) if (piece) break;
    return a.then(() => 'none', (e) => e.code);
  });
  equal(cancelled, 'ECANCEL');
  await context.close();
});

// ---- the ways a leading tab goes, in the middle of another tab's text ----

const O = { maxTokens: 240, seed: 11, temperature: 0.8 };
let whole = null;
const SLOW = { files: '/slow/' }; // an engine that is not through before anything can happen to it
/** Two tabs, the second streams a text; the first is sent away by `go`. The text, and the longest pause in it. */
async function without(go, { slowTimers = false } = {}) {
  const context = await newContext(), leader = await openPage(context), other = await openPage(context);
  await serveChanged(context, changedWorker('slow', slower(5)));
  whole ??= await other.evaluate(async (o) => {
    const quick = await sdk.open({ backend: 'tab' }), { text } = await quick.complete('Once upon a time', o);
    quick.close();
    return text;
  }, O);
  await open(leader, SLOW);
  if (slowTimers) await other.evaluate(() => { const own = setInterval; window.setInterval = (run, ms, ...more) => own(run, Math.max(ms, 60000), ...more); });
  await open(other, SLOW);
  await other.evaluate((o) => {
    window.at = [];
    window.answer = nigh.complete('Once upon a time', o);
    window.text = '';
    (async () => { for await (const p of answer) { text += p; at.push(performance.now()); } })();
  }, O);
  await other.waitForFunction(() => at.length > 3);
  await go(leader, context);
  const got = await other.evaluate(async () => {
    const c = await answer;
    await new Promise((d) => setTimeout(d, 10));
    return { text: c.text, streamed: text, restarts: c.receipt.restarts, gap: Math.max(...at.map((t, i) => (i ? t - at[i - 1] : 0))) };
  });
  equal([got.text, got.streamed], [whole, whole]);
  equal(got.restarts, 1);
  check(await leads(other), 'the other tab leads now');
  check(got.gap < (busy ? 8000 : 1000), `a pause of ${got.gap} ms`);
  return { context, leader, other, gap: Math.round(got.gap) };
}
up('the leading tab is closed, or crashes: another tab\'s text goes on, byte for byte, within a second', async () => {
  const closed = await without((leader) => leader.close(), { slowTimers: true }); // as those of a tab that nobody sees
  await closed.context.close();
  const crashed = await without(async (leader, context) => void (await context.newCDPSession(leader)).send('Page.crash').catch(() => {}));
  await crashed.context.close();
  console.log(`  the longest pause: closed ${closed.gap} ms, crashed ${crashed.gap} ms`);
});

// A browser that keeps pages for the way back, and pages that it can freeze.
let own = null, site = null;
up('the leading tab is frozen: it hands over within a second, and has its own answer when it is woken', async () => {
  const manifest = await (await fetch(`http://${n.host}/nigh/models/nigh-stories/manifest`)).json(), p = '<!doctype html><title>p</title>';
  const model = { '/m.json': JSON.stringify({ ...manifest, file: '/m.gguf' }), '/m.gguf': readFileSync(shipped) };
  site = await Site.start({ extra: { '/p.html': p, '/q.html': p, ...model, ...changedWorker('slow', slower(5)) } });
  own = await launch({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
  const [leader, other] = [await bareTab(own, `${site.origin}/p.html`), await bareTab(own, `${site.origin}/p.html`)];
  const life = (tab, state) => tab.call('Page.setWebLifecycleState', { state });
  for (const tab of [leader, other])
    await tab.evaluate(async () => {
      window.sdk = await import('/sdk/nigh.js');
      window.nigh = await sdk.open({ backend: 'tab', files: '/slow/', model: '/m.json' });
      window.at = [];
      window.ask = async (o) => {
        window.text = '';
        window.answer = nigh.complete('Once upon a time', o);
        for await (const p of answer) { text += p; at.push(performance.now()); }
      };
      document.addEventListener('freeze', () => { window.frozen = (window.frozen ?? 0) + 1; });
    });
  const ask = (tab) => tab.evaluate((o) => void ask(o), O), said = (tab) => tab.evaluate(async () => [(await answer).text, text]);
  await ask(other);
  await ask(leader);
  await sleep(200);
  await life(leader, 'frozen');
  equal(await said(other), [whole, whole]);
  const got = await other.evaluate(async () => {
    const { restarts } = (await answer).receipt, gap = Math.max(...at.map((t, i) => (i ? t - at[i - 1] : 0)));
    return { leads: nigh.backend.leads, restarts, gap };
  });
  equal([got.leads, got.restarts, await leader.evaluate(() => [frozen, nigh.backend.leads])], [true, 1, [1, false]]);
  check(got.gap < (busy ? 8000 : 1000), `a pause of ${got.gap} ms`);
  await life(leader, 'active');
  equal(await said(leader), [whole, whole], 'of the one that was frozen');
  equal(await other.evaluate(() => nigh.backend.leads), true);
  // All sleep, and are woken: what was asked before is answered.
  for (const tab of [leader, other]) await tab.evaluate((o) => void ask(o), { ...O, maxTokens: 60 });
  for (const tab of [leader, other]) await life(tab, 'frozen');
  await sleep(100);
  equal([await leader.evaluate(() => nigh.backend.leads), await other.evaluate(() => nigh.backend.leads)], [false, false], 'no engine while all sleep');
  for (const tab of [leader, other]) await life(tab, 'active');
  for (const tab of [leader, other]) {
    const [text, streamed] = await said(tab);
    check(text === streamed && text.length > 60 && whole.startsWith(text), `after all slept: ${text}`);
  }
  console.log(`  the longest pause: ${Math.round(got.gap)} ms`);
});

up('a page that is left and comes back by the way back still answers', async () => {
  let kept = null;
  for (let i = 0; i < 5 && !kept?.[0]; i++) { // a browser in need of time does not keep it; then it begins anew
    const context = await own.newContext(), page = await openPage(context, `${site.origin}/p.html`);
    await open(page, { ...SLOW, model: '/m.json' });
    await page.evaluate((o) => {
      window.mine = nigh.complete('Once upon a time', o);
      mine.then(() => {}, () => {});
      addEventListener('pageshow', (e) => { window.shown = e.persisted; });
    }, O);
    await page.goto(`${site.origin}/q.html`);
    await page.goBack({ waitUntil: 'commit' });
    kept = await page.evaluate(() => [window.shown ?? false, JSON.stringify(performance.getEntriesByType('navigation')[0].notRestoredReasons)]);
    if (kept[0]) equal(await page.evaluate(async () => (await mine).text), whole);
    await context.close();
  }
  equal(kept[0], true, `it was never kept: ${kept[1]}`);
  await own.close();
  await site.stop();
});

up('the weights never pass through the page', async () => {
  const { context, pages: [page] } = await hooked(1);
  const got = await page.evaluate(async () => {
    let said = 0;
    hook.message = (m) => { said += JSON.stringify(m).length; };
    const { place } = await sdk.open({ backend: 'tab' });
    return { place, said, asked: performance.getEntriesByType('resource').map((e) => e.name).filter((u) => /\/file$|gguf/.test(u)) };
  });
  equal([got.place, got.asked], ['tab', []]);
  check(got.said > 100 && got.said < 60000, `${got.said} bytes of messages`);
  await context.close();
});

// ---- the windows in which a promise could be lost, each on purpose ----

// In the page: Worker, BroadcastChannel and locks are wrapped, so that a moment can be met exactly.
const hooks = () => {
  const Own = Worker, OwnChannel = BroadcastChannel, request = navigator.locks.request.bind(navigator.locks);
  window.hook = { message: null, made: null, late: 0, drop: null, lockMs: 0 };
  window.Worker = class extends Own {
    constructor(url, o) {
      super(url, o);
      if (o?.name !== 'nigh') return;
      hook.made?.(this);
      this.addEventListener('message', (e) => hook.message?.(e.data, this));
    }
  };
  window.BroadcastChannel = class extends OwnChannel {
    set onmessage(run) {
      super.onmessage = (e) => {
        if (hook.drop?.(e.data)) return;
        if (hook.late) setTimeout(() => run({ data: e.data }), Math.random() * hook.late);
        else run(e);
      };
    }
    postMessage(m) {
      window.channelName = this.name;
      super.postMessage(m);
    }
  };
  navigator.locks.request = (name, o, run) => {
    if (typeof o === 'function') return request(name, o);
    return request(name, o, async (lock) => {
      if (hook.lockMs) await new Promise((d) => setTimeout(d, hook.lockMs));
      return run(lock);
    });
  };
  // Some of each kind; how many came to an end within ms, and when the last did.
  window.askAll = async (ms = 8000) => {
    const begun = performance.now(), left = new Set();
    let last = 0;
    const note = (p) => {
      left.add(p);
      p.then(() => {}, (e) => { window.failed = e.message; }).then(() => { left.delete(p); last = performance.now() - begun; });
    };
    for (let i = 0; i < 3; i++) note(Promise.resolve(nigh.complete('Once upon', { maxTokens: 10 + i, seed: i + 1 }).then((c) => c)));
    note(nigh.embed('a dog'));
    note(nigh.count('a dog'));
    const all = left.size;
    while (left.size && performance.now() - begun < ms) await new Promise((d) => setTimeout(d, 10));
    return { all, open: left.size, ms: Math.round(last), failed: window.failed ?? '' };
  };
};
const hooked = async (count) => {
  const context = await newContext(), pages = [];
  await context.addInitScript(hooks);
  for (let i = 0; i < count; i++) pages.push(await openPage(context));
  return { context, pages };
};
const none = (got, what) => equal([got.open, got.failed], [0, ''], `${what}: ${JSON.stringify(got)}`);

up('a worker is killed at every step of its life: what was asked is answered', async () => {
  const { context, pages: [page] } = await hooked(1), times = [];
  await page.evaluate(async () => (await sdk.open({ backend: 'tab' })).close()); // how long a worker takes is known then
  for (const phase of ['new', 'soon', 'script', 'up', 'read', 'ready', 'began', 'text', 'done', 'twice']) {
    const got = await page.evaluate(async (phase) => {
      let kills = phase === 'twice' ? 2 : 1;
      const shoot = (worker) => { if (kills-- > 0) worker.terminate(); };
      hook.made = (worker) => {
        if (phase === 'new' || phase === 'twice') queueMicrotask(() => shoot(worker));
        if (phase === 'soon') setTimeout(() => shoot(worker), 3);
        if (phase === 'script') setTimeout(() => shoot(worker), 25);
      };
      hook.message = (m, worker) => {
        const now = m.t === 'up' ? (m.about ? 'ready' : 'up') : m.t === 'progress' ? m.p.stage : m.t;
        if (now === phase) shoot(worker);
      };
      window.nigh = null;
      const begun = performance.now();
      window.nigh = await sdk.open({ backend: 'tab' });
      const r = { opened: Math.round(performance.now() - begun), ...await askAll() };
      nigh.close();
      return r;
    }, phase);
    none(got, phase);
    times.push(`${phase} ${got.opened} + ${got.ms}`);
  }
  console.log(`  ms to open and to the last answer: ${times.join(', ')}`);
  await context.close();
});

up('the leader goes at every step of another tab\'s request: it is answered', async () => {
  const times = [], { context, pages } = await hooked(1);
  await open(pages[0]);
  for (const phase of ['job', 'began', 'text', 'done']) {
    const leader = pages.at(-1), other = await openPage(context);
    pages.push(other);
    await open(other);
    check(await leads(leader), 'who was there first leads');
    await leader.evaluate((phase) => {
      new BroadcastChannel(channelName).addEventListener('message', (e) => { if (e.data.t === phase) location.replace('about:blank'); });
    }, phase);
    await other.evaluate(() => { hook.lockMs = 150; }); // the lock is granted late, too
    const got = await other.evaluate(() => askAll());
    none(got, phase);
    times.push(`${phase} ${got.ms}`);
    await other.waitForFunction(() => nigh.backend.leads, null, { timeout: 5000 });
    await leader.close();
  }
  await context.close();
  console.log(`  ms to the last answer: ${times.join(', ')}`);
});

up('messages that are stale, late, out of order or lost', async () => {
  const { context, pages } = await hooked(2);
  for (const p of pages) await open(p);
  const [leader, other] = pages;
  // An engine long dead speaks once more.
  const stale = await other.evaluate(async () => {
    const asking = askAll(), ghost = new BroadcastChannel(channelName);
    for (const t of ['up', 'beat', 'up']) ghost.postMessage({ t, epoch: '000000000-dead', about: null, silentMs: 60000, ready: true });
    const got = await asking, again = await askAll();
    ghost.close();
    return { ...got, open: got.open + again.open };
  });
  none(stale, 'stale');
  // Nothing that tells of a new engine comes through but its beats.
  await other.evaluate(() => { hook.drop = (m) => m.t === 'up'; });
  const lost = other.evaluate(() => askAll());
  await leader.evaluate(() => nigh.backend.kill());
  none(await lost, 'lost');
  await other.evaluate(() => { hook.drop = null; hook.late = 200; });
  const late = other.evaluate(() => askAll(15000));
  for (let i = 0; i < 4; i++) {
    await sleep(150);
    await leader.evaluate(() => nigh.backend.kill());
  }
  none(await late, 'late');
  const text = (p) => p.evaluate(async () => (await nigh.complete('The king', { maxTokens: 40, seed: 9 })).text);
  await other.evaluate(() => { hook.late = 0; });
  equal(await text(other), await text(leader));
  console.log(`  ms to the last answer: stale ${stale.ms}, lost ${(await lost).ms}, late ${(await late).ms}`);
  await context.close();
});

up('a worker that hangs is replaced, and so is a leading page that does: nothing is lost', async () => {
  const texts = await (hanging ??= hang()), { texts: more, ms, took } = await (held ??= hold());
  equal([texts[1], ...more], Array(3).fill(texts[0]));
  check(took, 'the other page leads');
  console.log(`  the page was given up after ${ms} ms`);
});

up('50 random kills of workers and leading tabs: no promise hangs', async () => {
  const first = seed, context = await newContext(), pages = [];
  const add = async () => {
    const page = await openPage(context);
    await page.evaluate(() => {
      window.made = 0;
      window.ended = { ok: 0, codes: {} };
      const note = (p) => { made++; p.then(() => ended.ok++, (e) => (ended.codes[e.code] = (ended.codes[e.code] ?? 0) + 1)); };
      const ask = () => {
        note(nigh.complete('Once upon', { maxTokens: 1 + (made % 30), seed: made + 1 }));
        if (made % 5 === 0) note(nigh.embed('a dog'));
        if (made % 7 === 0) note(nigh.count('a dog'));
      };
      window.opened = sdk.open({ backend: 'tab' }).then((g) => { window.nigh = g; window.asking = setInterval(ask, 60); });
    });
    pages.push(page);
  };
  for (let i = 0; i < 3; i++) await add();
  await Promise.all(pages.map((p) => p.evaluate(() => opened)));
  let workers = 0, leaders = 0, made = 0;
  for (let kill = 0; kill < 50; kill++) {
    await sleep(20 + random() * 180);
    const who = await Promise.all(pages.map((p) => p.evaluate(() => window.nigh?.backend.leads ?? false)));
    const at = who.indexOf(true);
    if (at < 0) { kill--; continue; }
    if (random() < 0.7) {
      if (!(await pages[at].evaluate(() => nigh.backend.kill()))) kill--;
      else workers++;
    } else {
      made += await pages[at].evaluate(() => made);
      await pages[at].close();
      pages.splice(at, 1);
      await add();
      leaders++;
    }
  }
  await Promise.all(pages.map((p) => p.evaluate(async () => { await opened; clearInterval(asking); })));
  const state = () => Promise.all(pages.map((p) => p.evaluate(() => ({ made, ok: ended.ok, codes: ended.codes }))));
  let all = [], hung = 1;
  for (let i = 0; i < 100 && hung > 0; i++) {
    await sleep(100);
    all = await state();
    hung = all.reduce((s, p) => s + p.made - p.ok - Object.values(p.codes).reduce((a, b) => a + b, 0), 0);
  }
  const sum = (f) => all.reduce((s, p) => s + f(p), 0);
  console.log(`  killed ${workers} workers and ${leaders} leading tabs (seed ${first}): ${sum((p) => p.made)} requests in living tabs ` +
    `(${made} in closed ones), ${sum((p) => p.ok)} answered, failed ${JSON.stringify(all.map((p) => p.codes))}, ${hung} hung`);
  if (hung) for (const p of pages) console.log(`  ${await p.evaluate(() => nigh.backend.state)}`);
  equal(hung, 0, `hung with seed ${first}`);
  check(sum((p) => p.ok) > 20, 'most were answered');
  await context.close();
});

up('the test ends', async () => {
  await closeAll();
});
await main('test_tabs');
