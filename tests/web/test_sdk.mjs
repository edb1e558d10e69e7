// test_sdk.mjs - the SDK in a real browser: both places, streams, stopping, who goes first, errors, adapters, probe.
import { existsSync, readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import path from 'node:path';
import { Node, check, equal, main, program, root, shipped, test } from '../node/node.mjs';
import { closeAll, launch, n, newContext, openPage, up } from './browser.mjs';
import { Site, changedWorker, serveChanged, slower } from './site.mjs';

test('one table of errors: the SDK has the one of status.h', async () => {
  const rows = [...readFileSync(path.join(root, 'include/nigh/status.h'), 'utf8').matchAll(/X\((\w+),\s*(-?\d+), (\d+), "([^"]+)"\)/g)];
  const mine = readFileSync(path.join(root, 'web/sdk/src/status.ts'), 'utf8');
  const own = [...mine.matchAll(/ {2}(\w+): \[(-?\d+), (\d+), '([^']+)'\]/g)];
  check(rows.length >= 11, 'rows were found');
  equal(own.map((r) => r.slice(1, 5)), rows.map((r) => r.slice(1, 5)));
});

// On a machine that others use, times are printed and only gross faults are failures.
const busy = process.env.NIGH_BUSY || loadavg()[0] > 0.75 * cpus().length;
let page = null, context = null;
up('a page opens the tab and the node', async () => {
  context = await newContext();
  page = await openPage(context);
  const got = await page.evaluate(async () => {
    const stages = [];
    window.tab = await sdk.open({ backend: 'tab', onprogress: (p) => stages.push(p.stage) });
    window.node = await sdk.open({ backend: 'node' });
    return { stages, tab: tab.model, node: node.model, places: [tab.place, node.place], reason: tab.reason };
  });
  equal(got.places, ['tab', 'device']);
  equal([got.tab.sha256, got.tab.contextTokens], [got.node.sha256, got.node.contextTokens]);
  check(got.stages.includes('download') && got.stages.at(-1) === 'ready', got.stages.join());
});

up('the same seed writes the same text in both places, and each tells its own', async () => {
  const [a, b] = await page.evaluate(async () => {
    const o = { maxTokens: 32, seed: 7, temperature: 0.8 };
    return [await tab.complete('Once upon a time', o), await node.complete('Once upon a time', o)];
  });
  equal(a.text, b.text);
  equal([a.finish, a.usage.promptTokens, a.usage.completionTokens], [b.finish, b.usage.promptTokens, b.usage.completionTokens]);
  equal([a.receipt.where, b.receipt.where], ['this tab', 'this device']);
  equal([a.receipt.modelSha256, a.receipt.bytesOut, a.receipt.seed], [b.receipt.modelSha256, 0, 7]);
  equal(b.receipt.bytesOut, 0);
});

up('chat and vectors agree, too', async () => {
  const got = await page.evaluate(async () => {
    const messages = [{ role: 'system', content: 'You tell stories.' }, { role: 'user', content: 'Once upon a time' }];
    const [x, y] = [await tab.chat(messages, { maxTokens: 8, seed: 1 }), await node.chat(messages, { maxTokens: 8, seed: 1 })];
    const [v, w] = [await tab.embed(['a dog', 'a cat']), await node.embed(['a dog', 'a cat'])];
    const dot = (p, q) => p.reduce((s, e, i) => s + e * q[i], 0);
    return { x: x.text, y: y.text, size: v.vectors.map((e) => e.length), one: dot(v.vectors[0], w.vectors[0]), self: dot(v.vectors[1], v.vectors[1]) };
  });
  equal(got.x, got.y);
  equal(got.size, [256, 256]);
  check(Math.abs(got.one - 1) < 1e-5 && Math.abs(got.self - 1) < 1e-5, JSON.stringify(got));
});

up('pieces come one by one; leaving the loop, a signal, and cancel() stop', async () => {
  const got = await page.evaluate(async () => {
    const out = {};
    const code = (p) => p.then(() => 'none', (e) => e.code);
    for (const [name, nigh] of Object.entries({ tab, node })) {
      const answer = nigh.complete('Once', { maxTokens: 400, temperature: 0 });
      let pieces = 0;
      for await (const piece of answer) if (piece && ++pieces === 3) break;
      const stop = new AbortController(), other = nigh.complete('Once', { maxTokens: 400, temperature: 0, signal: stop.signal });
      const failing = code(other);
      setTimeout(() => stop.abort(), 30);
      const gone = AbortSignal.abort();
      out[name] = [pieces, await code(answer), await failing, await code(nigh.complete('x', { signal: gone })), await code(nigh.embed('x', { signal: gone }))];
    }
    return out;
  });
  for (const name of ['tab', 'node']) equal(got[name], [3, 'ECANCEL', 'ECANCEL', 'ECANCEL', 'ECANCEL'], name);
});

up('a keystroke overtakes a summary', async () => {
  const got = await page.evaluate(async () => {
    const ends = [], begun = performance.now();
    const long = tab.complete('Once upon a time', { maxTokens: 300, temperature: 0, priority: 'idle' });
    const middle = tab.complete('The king', { maxTokens: 480, temperature: 0 });
    long.then(() => ends.push('idle'), () => {});
    middle.then(() => ends.push('normal'), () => {});
    await new Promise((d) => setTimeout(d, 20));         // both have begun; neither can be through
    const at = performance.now();
    const quick = await tab.complete('She said', { maxTokens: 4, temperature: 0, priority: 'now' });
    ends.push('now');
    const alone = (await tab.complete('She said', { maxTokens: 4, temperature: 0, priority: 'now' }), performance.now());
    const waited = quick.receipt.ms;
    await middle;
    long.cancel();
    return { ends, waited, at: at - begun, alone };
  });
  equal(got.ends, ['now', 'normal']);
});

up('where no seat is free, what is more urgent takes one, and who lost it writes the same text', async () => {
  const got = await page.evaluate(async () => {
    const o = { maxTokens: 200, seed: 4, temperature: 0.8 }, prompts = ['Once upon a time', 'The king', 'A little dog'], ends = [];
    const alone = [];
    for (const p of prompts) alone.push((await tab.complete(p, o)).text);
    const idle = prompts.map((p) => tab.complete(p, { ...o, priority: 'idle' }));
    const all = Promise.all(idle.map((a) => a.then((c) => { ends.push('idle'); return c.text; })));
    await new Promise((d) => setTimeout(d, 60));         // some have begun, and none can be through
    for (const priority of ['normal', 'now', 'normal'])
      await Promise.all(['She said', 'A house', 'The sea'].map((p) => tab.complete(p, { maxTokens: 6, temperature: 0, priority })));
    ends.push('urgent');
    return { ends, alone, texts: await all };
  });
  equal(got.ends, ['urgent', 'idle', 'idle', 'idle']);
  equal(got.texts, got.alone);
});

up('errors have their place in the table, the same in both places', async () => {
  const got = await page.evaluate(async () => {
    const code = async (f) => {
      try { await f(); return 'none'; } catch (e) { return `${e.name} ${e.code} ${e.http}`; }
    };
    const out = {};
    for (const [name, nigh] of Object.entries({ tab, node }))
      out[name] = [
        await code(() => nigh.complete('word '.repeat(3000))), await code(() => nigh.complete('x', { temperature: 9 })),
        await code(() => nigh.complete(5)), await code(() => nigh.chat([])), await code(() => nigh.embed([])),
      ];
    out.none = [await code(() => sdk.open({ backend: 'node', model: 'gpt-5' })), await code(() => sdk.open({ backend: 'tab', model: 'gpt-5' }))];
    out.dead = await code(() => sdk.open({ backend: 'node', base: 'http://127.0.0.1:9' }));
    return out;
  });
  const bad = 'NighError EINVAL 400';
  for (const name of ['tab', 'node']) equal(got[name], ['NighError ERANGE 413', bad, bad, bad, bad], name);
  equal(got.none, ['NighError ENOENT 404', 'NighError ENOENT 404']);
  equal(got.dead, 'NighError EIO 502');
});

up('auto measures, chooses, and says why', async () => {
  const got = await page.evaluate(async () => {
    const auto = await sdk.open();
    const said = [auto.place, auto.reason];
    auto.close();
    return said;
  });
  check(/^(tab|device)$/.test(got[0]) && /tokens\/s/.test(got[1]), got.join(': '));
});

up('auto goes to the node where the tab is slow or cannot, and says what it measured; with neither it says why', async () => {
  const extra = { ...changedWorker('slow', slower(100)), ...changedWorker('none', 'WebAssembly.validate = () => false;') };
  const site = await Site.start({ extra: { ...extra, '/p.html': '<!doctype html><title>p</title>' } }), own = await newContext(), there = await openPage(own);
  await serveChanged(there, extra);
  const auto = (page, o) => page.evaluate(async (o) => {
    try {
      const g = await sdk.open(o), said = [g.place, g.reason];
      g.close();
      return said;
    } catch (e) {
      return [e.code, e.message];
    }
  }, o);
  const like = (got, place, reason) => check(got[0] === place && reason.test(got[1]), got.join(': '));
  like(await auto(there, { files: '/slow/' }), 'device', /^the node: \d+ tokens\/s, this tab only \d+ tokens\/s, measured now$/);
  like(await auto(there, { files: '/none/' }), 'device', /^the node: this tab cannot \(this browser has no SIMD in WebAssembly\)$/);
  const alone = await openPage(own, `${site.origin}/p.html`), manifest = await (await fetch(`http://${n.host}/nigh/models/nigh-stories/manifest`)).json();
  Object.assign(site.extra, { '/m.json': JSON.stringify({ ...manifest, file: '/m.gguf' }), '/m.gguf': readFileSync(shipped) });
  like(await auto(alone, { files: '/slow/', model: '/m.json' }), 'tab', /^this tab: slow \(\d+ tokens\/s, measured now\), but there is no node/);
  like(await auto(alone, { files: '/none/', model: '/m.json' }), 'ENOSUP', /has no SIMD in WebAssembly; and the node: /);
  await own.close();
  await site.stop();
});

up('what is closed ends what is open', async () => {
  const got = await page.evaluate(async () => {
    const nigh = await sdk.open({ backend: 'tab', context: 256 });
    const answer = nigh.complete('Once', { maxTokens: 200 });
    nigh.close();
    const code = (p) => p.then(() => 'none', (e) => e.code);
    return [await code(answer), await code(nigh.complete('again')), await code(nigh.embed('again'))];
  });
  equal(got, ['ECANCEL', 'ECANCEL', 'ECANCEL']);
});

up('the shape of Chrome\'s LanguageModel', async () => {
  const got = await page.evaluate(async () => {
    const LanguageModel = sdk.languageModel(tab), progress = [];
    const session = await LanguageModel.create({
      initialPrompts: [{ role: 'system', content: 'Be brief.' }], temperature: 0, topK: 1,
      monitor: (m) => m.addEventListener('downloadprogress', (e) => progress.push(e.loaded)),
    });
    const text = await session.prompt('Once upon a time', { signal: AbortSignal.timeout(20000) });
    const used = session.inputUsage;
    const reader = session.promptStreaming('And then').getReader();
    const first = await reader.read();
    await reader.cancel();
    const aborted = await session.prompt('x', { signal: AbortSignal.abort() }).catch((e) => e.name);
    session.destroy();
    const after = await session.prompt('x').catch((e) => e.name);
    const available = await LanguageModel.availability(), quota = session.inputQuota, measured = await session.measureContextUsage('x');
    const newer = [session.contextUsage === session.inputUsage, session.contextWindow === quota, measured > 0];
    return { available, newer, text: text.length, used, quota, first: typeof first.value, aborted, after, progress };
  });
  equal([got.available, got.first, got.aborted, got.after, got.progress], ['available', 'string', 'AbortError', 'InvalidStateError', [1]]);
  equal(got.newer, [true, true, true]);
  check(got.text > 0 && got.used > 0 && got.quota === 512, JSON.stringify(got));
});

up('OpenAI\'s own client runs against the tab, and nothing is asked of anybody', async () => {
  const { build } = await import(path.join(root, 'web/node_modules/esbuild/lib/main.js'));
  const made = await build({
    stdin: { contents: "export { default as OpenAI } from 'openai';", resolveDir: path.join(root, 'tests/web') },
    bundle: true, format: 'esm', platform: 'browser', write: false, logLevel: 'silent',
  });
  await page.route('**/openai.js', (r) => r.fulfill({ contentType: 'text/javascript', body: made.outputFiles[0].text }));
  const before = await n.metric('nigh_requests_total').catch(() => NaN);
  const got = await page.evaluate(async () => {
    const { OpenAI } = await import('/openai.js');
    const client = new OpenAI({ apiKey: 'none', baseURL: 'http://tab.invalid/v1', fetch: sdk.fetchFor(tab), dangerouslyAllowBrowser: true, maxRetries: 0 });
    const model = (await client.models.list()).data[0].id;
    const ask = { model, messages: [{ role: 'user', content: 'Once upon a time' }], max_tokens: 12, temperature: 0.8, seed: 5 };
    const whole = await client.chat.completions.create(ask);
    let text = '', usage = null;
    for await (const c of await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
      text += c.choices[0]?.delta.content ?? '';
      usage ??= c.usage;
    }
    const completion = await client.completions.create({ model, prompt: 'Once', max_tokens: 5, temperature: 0 });
    const vectors = await client.embeddings.create({ model, input: ['a dog', 'a cat'] });
    const wrong = await client.chat.completions.create({ ...ask, model: 'gpt-5' }).catch((e) => e);
    const long = await client.completions.create({ model, prompt: 'word '.repeat(3000) }).catch((e) => e);
    const stream = await client.chat.completions.create({ ...ask, max_tokens: 400, stream: true });
    for await (const c of stream) if (c.id) break;
    return {
      whole: whole.choices[0].message.content, text, usage, place: whole.nigh_receipt.place, completion: completion.choices[0].text.length,
      vectors: vectors.data.map((d) => d.embedding.length), wrong: [wrong.constructor.name, wrong.code], long: long.code,
    };
  });
  equal(got.text, got.whole);
  equal([got.usage.completion_tokens, got.place, got.vectors], [12, 'tab', [256, 256]]);
  equal([got.wrong, got.long], [['NotFoundError', 'model_not_found'], 'context_length_exceeded']);
  check(got.completion > 0, 'a completion');
  equal(await n.metric('nigh_requests_total').catch(() => NaN), before);
});

up('the probe takes less than 300 ms, is kept, and speaks in words', async () => {
  const got = await page.evaluate(async () => {
    let first = await sdk.probe({ fresh: true });
    for (let i = 0; i < 5 && !first.gops; i++) first = await sdk.probe({ fresh: true }); // a busy machine
    const begun = performance.now(), again = await sdk.probe();
    return {
      first, same: first.at === again.at, ms: performance.now() - begun, small: sdk.explain(first, { name: 'small', bytes: 5e6 }),
      huge: sdk.explain(first, { name: 'huge', bytes: 9e9 }),
    };
  });
  check(got.first.simd && got.first.gops > 0 && /^nigh-relaxed-threads/.test(got.first.engine), JSON.stringify(got.first));
  check(got.same && got.ms < 20, 'it is kept');
  check(/will run (well|slowly): about [\d.]+ tokens\/s/.test(got.small.text), got.small.text);
  equal(got.huge.grade, 'not');
  check(/4,295 MB/.test(got.huge.text), got.huge.text);
  check(got.first.ms < (busy ? 3000 : 300), `it took ${got.first.ms} ms`);
  console.log(`  probe: ${got.first.ms} ms, ${got.first.gops.toFixed(2)} GOP/s, ${got.first.engine}`);
});

up('the probe says in words why a model will run well, slowly, or not', async () => {
  const p = {
    at: '', ms: 0, cores: 2, memoryGiB: 4, simd: true, relaxedSimd: true, isolated: true, engine: 'e', gops: 20, bytesPerSecond: 10e9,
    storage: { available: true, persisted: false, usedBytes: 1e6, quotaBytes: 2e9 }, webgpu: { there: false, works: false, name: '' },
  };
  const cases = [
    [{}, 100e6, 'well', /^m will run well: about 94 tokens\/s on one thread\.$/],
    [{}, 1.2e9, 'slowly', /about 8\.3 tokens\/s on one thread, less than one reads\.$/],
    [{ bytesPerSecond: 1e9 }, 500e6, 'slowly', /about 2\.0 tokens/], [{ simd: false }, 1e6, 'not', /will not run here: this browser has no SIMD/],
    [{ memoryGiB: 2 }, 2e9, 'not', /needs 2125 MB, and this device has 2 GiB/], [{}, 5e9, 'not', /a tab has 4,295 MB at most/],
    [{ bytesPerSecond: 0 }, 1e6, 'slowly', /nothing could be measured/],
    [{ storage: { ...p.storage, usedBytes: 1.95e9 } }, 100e6, 'well', /no room to keep its 100 MB, so it would be fetched each time/],
  ];
  const asked = cases.map(([change, bytes]) => [{ ...p, ...change }, { name: 'm', bytes }]);
  const got = await page.evaluate((all) => all.map(([p, m]) => sdk.explain(p, m)), asked);
  for (const [i, [, , grade, text]] of cases.entries()) check(got[i].grade === grade && text.test(got[i].text), `${i}: ${JSON.stringify(got[i])}`);
});

up('the probe sees a WebGPU adapter, and that it calculates', async () => {
  const own = await launch({ args: ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'] }, null);
  const other = await own.newContext(), p = await openPage(other);
  const got = await p.evaluate(async () => {
    for (let i = 0; i < 15; i++) {
      const found = await sdk.probe({ fresh: true });
      if (found.webgpu.works) return found.webgpu;
    }
    return [!!navigator.gpu, !!(await navigator.gpu?.requestAdapter())];
  });
  await own.close();
  equal([got.there, got.works], [true, true], JSON.stringify(got));
});

up('a node with a key: the tab and the node want it', async () => {
  const { spawnSync } = await import('node:child_process'), { mkdtempSync } = await import('node:fs'), { tmpdir } = await import('node:os');
  const home = mkdtempSync(path.join(tmpdir(), 'nigh-web-'));
  const env = { ...process.env, NIGH_HOME: home };
  const key = spawnSync(program, ['serve', '--new-key'], { env, encoding: 'utf8' }).stdout.trim();
  const locked = await Node.start([], { home, ...(existsSync(shipped) ? { model: shipped } : {}) });
  const other = await newContext(), p = await openPage(other, `http://${locked.host}/`);
  const got = await p.evaluate(async (key) => {
    const code = (o) => sdk.open(o).then(async (g) => (await g.complete('Once', { maxTokens: 2 })).finish, (e) => e.code);
    const out = [];
    for (const backend of ['tab', 'node']) out.push(await code({ backend }), await code({ backend, key: 'wrong' }), await code({ backend, key }));
    return out;
  }, key);
  equal(got, ['EAUTH', 'EAUTH', 'length', 'EAUTH', 'EAUTH', 'length']);
  await other.close();
  await locked.stop();
});

up('nothing was complained about, and nobody else was asked', async () => {
  equal(page.said.filter((s) => !/40[04]|ERR_CONNECTION_REFUSED|ERR_UNSAFE_PORT|Content Security Policy|127.0.0.1:9/.test(s)), []);
});
up('the browser closes', closeAll);
await main('test_sdk');
