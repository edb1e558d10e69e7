// test_offline.mjs - the network goes away: reload, load, write; headers from the node, from the service worker, from nobody.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Node, check, equal, main, root, shipped } from '../node/node.mjs';
import { closeAll, launch, newContext, openPage, readLog, takeLog, up } from './browser.mjs';
import { Site, changedWorker } from './site.mjs';

const write = (page, o = {}) => page.evaluate(async (o) => {
  const nigh = await sdk.open({ backend: 'tab', ...o });
  const c = await nigh.complete('Once upon a time', { maxTokens: 8, temperature: 0 });
  nigh.close();
  return { text: c.text, place: c.receipt.place, engine: nigh.model.engine, isolated: crossOriginIsolated };
}, o);
const withSdk = (page) => page.evaluate(async () => { window.sdk = await import('/sdk/nigh.js'); });

let story = '';
function withModel() {
  const out = path.join(root, 'build/web/test.manifest.json');
  spawnSync(process.execPath, [path.join(root, 'web/sdk/bin/manifest.mjs'), shipped, '--out', out]);
  return { '/p.html': '<!doctype html><title>p</title>', '/m.json': readFileSync(out), '/nigh-stories.gguf': readFileSync(shipped) };
}

up('with the node gone, the page reloads from what it kept, and the model answers', async () => {
  const node = await Node.start([], existsSync(shipped) ? { model: shipped } : {});
  const context = await newContext(), page = await openPage(context, `http://${node.host}/`);
  const before = await write(page);
  equal(before.isolated, true, 'the node isolates its pages');
  check((await page.evaluate(() => sdk.goOffline('/sw.js', `${location.origin}/sdk/`))) >= 5, 'what was kept');
  await node.stop();
  const failed = [];
  page.on('requestfailed', (r) => failed.push(r.url()));
  await page.reload();
  await withSdk(page);
  const after = await write(page);
  equal([after.text, after.place, after.isolated], [before.text, 'tab', true]);
  equal(await page.evaluate(() => sdk.open({ backend: 'node' }).then(() => 'none', (e) => e.code)), 'EIO');
  const auto = await page.evaluate(async () => { const g = await sdk.open(); return [g.place, g.reason]; });
  equal(auto[0], 'tab', auto[1]);
  await context.setOffline(true);
  await page.reload();
  await withSdk(page);
  equal((await write(page)).text, before.text, 'also when the browser itself is offline');
  await context.close();
});

up('a server without headers: one thread works, and the service worker isolates the next load', async () => {
  const site = await Site.start({ isolated: false, extra: withModel() });
  const context = await newContext(), page = await openPage(context, `${site.origin}/p.html`);
  const plain = await write(page, { model: '/m.json' });
  equal([plain.isolated, plain.engine.file, plain.engine.threads], [false, 'nigh-simd.wasm', 1]);
  await page.evaluate(() => sdk.goOffline('/sw.js', `${location.origin}/sdk/`));
  await page.reload();
  await withSdk(page);
  const isolated = await write(page, { model: '/m.json' });
  equal([isolated.text, isolated.isolated, isolated.engine.file], [plain.text, true, 'nigh-relaxed-threads.wasm']);
  story = plain.text;
  site.down = true;
  await page.reload();
  await withSdk(page);
  const offline = await write(page, { model: '/m.json' });
  equal([offline.text, offline.isolated], [plain.text, true]);
  await site.stop();
  await context.close();
});

// What a worker sees of a browser that has not what this one has.
const OTHERS = {
  'no relaxed SIMD': ['const own = WebAssembly.validate; WebAssembly.validate = (b) => b.length !== 36 && own(b);', 'nigh-simd-threads.wasm'],
  'no shared memory': ["Object.defineProperty(globalThis, 'crossOriginIsolated', { value: false });", 'nigh-simd.wasm'],
  'a build that does not compile': [`const own = WebAssembly.compileStreaming;
    WebAssembly.compileStreaming = async (r) => { if (/relaxed/.test((await r).url)) throw new Error('no'); return own(r); };`, 'nigh-simd-threads.wasm'],
  'no SIMD': ['WebAssembly.validate = () => false;', 'ENOSUP'],
};

up('Document-Isolation-Policy isolates as well; in other browsers the next best build writes the same text', async () => {
  const site = await Site.start({ isolated: 'dip', extra: withModel() }), context = await newContext();
  for (const [i, [lines]] of Object.values(OTHERS).entries()) Object.assign(site.extra, changedWorker(`other${i}`, lines));
  const page = await openPage(context, `${site.origin}/p.html`), here = await write(page, { model: '/m.json' });
  equal([here.text, here.isolated, here.engine.file], [story, true, 'nigh-relaxed-threads.wasm']);
  for (const [i, [what, [, wanted]]] of Object.entries(OTHERS).entries()) {
    const failed = (e) => ({ engine: { file: /has no SIMD/.test(e.message) ? 'ENOSUP' : e.message } });
    const got = await write(page, { model: '/m.json', files: `/other${i}/` }).catch(failed);
    equal([got.engine.file, got.text ?? story], [wanted, story], what);
  }
  // The service worker leaves such a page as it is: with COOP its pop-ups would be cut off.
  await page.evaluate(() => sdk.goOffline('/sw.js', `${location.origin}/sdk/`));
  const reply = await page.reload();
  equal([reply.headers()['cross-origin-opener-policy'], reply.fromServiceWorker()], [undefined, true]);
  equal(await page.evaluate(() => crossOriginIsolated), true);
  await site.stop();
  await context.close();
});

up('the browser\'s log would tell of a request to somebody else, also of a worker\'s', async () => {
  const site = await Site.start({ extra: { '/p.html': '<!doctype html><title>p</title>' } });
  const other = await launch(), page = await other.newPage();
  await page.goto(`${site.origin}/p.html`);
  await page.evaluate(async () => {
    await fetch('http://outside.invalid/page').catch(() => {});
    const script = "fetch('http://outside.invalid/worker').catch(() => {}).then(() => postMessage(0))";
    const worker = new Worker(URL.createObjectURL(new Blob([script])));
    await new Promise((done) => (worker.onmessage = done));
  });
  await other.close();
  await site.stop();
  const log = takeLog(), found = readLog(log);
  rmSync(log);
  equal([...new Set(found.outside)].sort(), ['http://outside.invalid/page', 'http://outside.invalid/worker']);
});

up('nobody else was asked, by no page and no worker', async () => {
  await closeAll();
});
await main('test_offline');
