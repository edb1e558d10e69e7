// test_tabs.mjs - many tabs and one engine: who leads, what happens when a tab or a worker is killed, or hangs.
import { check, equal, main, sleep } from '../node/node.mjs';
import { closeAll, newContext, openPage, up } from './browser.mjs';

const open = (page) => page.evaluate(async () => { window.nigh = await sdk.open({ backend: 'tab' }); });
const leads = (page) => page.evaluate(() => nigh.backend.leads);
const engines = (pages) => pages.reduce((s, p) => s + p.workers().length, 0);
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

up('three tabs, one engine, the same text', async () => {
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

up('the leader is closed in the middle of another tab\'s text: it goes on, byte for byte, within a second', async () => {
  const { context, pages } = await tabs(2);
  const o = { maxTokens: 250, seed: 11, temperature: 0.8 };
  const whole = await pages[1].evaluate(async (o) => (await nigh.complete('Once upon a time', o)).text, o);
  await pages[1].evaluate((o) => {
    window.at = [];
    window.answer = nigh.complete('Once upon a time', o);
    window.text = '';
    (async () => { for await (const p of answer) { text += p; at.push(performance.now()); } })();
  }, o);
  await pages[1].waitForFunction(() => at.length > 30);
  await pages[0].close();
  const got = await pages[1].evaluate(async () => {
    const c = await answer;
    await new Promise((d) => setTimeout(d, 10));
    return { text: c.text, streamed: text, restarts: c.receipt.restarts, gap: Math.max(...at.map((t, i) => (i ? t - at[i - 1] : 0))) };
  });
  equal([got.text, got.streamed], [whole, whole]);
  equal(got.restarts, 1);
  check(await leads(pages[1]), 'the other tab leads now');
  console.log(`  the longest pause: ${Math.round(got.gap)} ms`);
  check(got.gap < (process.env.NIGH_BUSY ? 5000 : 1000), `a pause of ${got.gap} ms`);
  await context.close();
});

up('a worker that hangs is replaced, and nothing is lost', async () => {
  const { context, pages } = await tabs(2);
  const hang = pages[0].workers()[0].evaluate(() => { for (;;); });
  hang.catch(() => {});
  const texts = await Promise.all(pages.map((p) => p.evaluate(async () => (await nigh.complete('The king', { maxTokens: 5, seed: 3 })).text)));
  equal(texts[0], texts[1]);
  await context.close();
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
