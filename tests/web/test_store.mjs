// test_store.mjs - models kept in the browser: killed downloads, broken and foreign pieces, signatures, quota, encryption.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { check, equal, main, root, shipped, sleep } from '../node/node.mjs';
import { browser, closeAll, n, newContext, openPage, up } from './browser.mjs';
import { Site, changedWorker } from './site.mjs';

const MiB = 1 << 20, folder = mkdtempSync(path.join(tmpdir(), 'nigh-store-'));
const tool = (...args) => {
  const r = spawnSync(process.execPath, [path.join(root, 'web/sdk/bin/manifest.mjs'), ...args], { encoding: 'utf8' });
  if (r.status !== 0) throw new Error(r.stderr);
  return r.stdout.trim();
};
let site = null, file = null, manifest = null, publicKey = '', seed = Number(process.env.NIGH_SEED ?? Date.now() % 1e6);
const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;

up('the tool writes a manifest, and signs it', async () => {
  const key = path.join(folder, 'key.pem'), out = path.join(folder, 'm.json');
  publicKey = tool('--new-key', key);
  tool(shipped, '--key', key, '--out', out);
  file = readFileSync(shipped);
  manifest = JSON.parse(readFileSync(out, 'utf8'));
  equal([manifest.key, manifest.bytes, manifest.chunks.length], [publicKey, file.length, Math.ceil(file.length / MiB)]);
  const own = await (await fetch(`http://${n.host}/nigh/models/nigh-stories/manifest`)).json();
  equal([own.chunks, own.sha256, own.bytes], [manifest.chunks, manifest.sha256, manifest.bytes], 'the node says the same');
  site = await Site.start({ extra: { '/m.json': JSON.stringify(manifest), '/nigh-stories.gguf': file, '/page.html': '<!doctype html><title>t</title>' } });
});

up('the node serves ranges as RFC 9110 wants them', async () => {
  const get = async (headers) => {
    const r = await fetch(`http://${n.host}/nigh/models/nigh-stories/file`, { headers });
    return [r.status, r.headers.get('content-range'), Buffer.from(await r.arrayBuffer()), r.headers.get('etag')];
  };
  const [status, range, bytes, etag] = await get({ range: 'bytes=100-199' });
  equal([status, range, bytes.equals(file.subarray(100, 200)), etag], [206, `bytes 100-199/${file.length}`, true, `"${manifest.sha256}"`]);
  equal((await get({ range: 'bytes=-5' }))[2].equals(file.subarray(-5)), true);
  equal((await get({ range: `bytes=${file.length}-` })).slice(0, 2), [416, `bytes */${file.length}`]);
  for (const headers of [{}, { range: 'bytes=0-1,5-6' }, { range: 'bytes=0-1', 'if-range': '"other"' }]) {
    const whole = await get(headers);
    equal([whole[0], whole[2].length], [200, file.length], JSON.stringify(headers));
  }
  equal((await fetch(`http://${n.host}/nigh/models/nigh-stories/secret`)).status, 404);
  equal((await fetch(`http://${n.host}/nigh/models/none/file`)).status, 404);
});

const openHere = (page, options = {}) => page.evaluate(async (options) => {
  const seen = [];
  try {
    const nigh = await sdk.open({ backend: 'tab', model: '/m.json', onprogress: (p) => seen.push(p), ...options });
    const text = (await nigh.complete('Once', { maxTokens: 3, temperature: 0 })).text;
    nigh.close();
    return { text, last: seen.at(-1), sha: nigh.model.sha256 };
  } catch (e) {
    return { code: e.code, text: e.message };
  }
}, options);
const fresh = async () => {
  const context = await newContext();
  return { context, page: await openPage(context, `${site.origin}/page.html`) };
};

up('a download killed 20 times at random points completes, and no piece that was kept comes twice', async () => {
  const context = await newContext(), first = seed;
  site.log.length = 0;
  site.slowMs = 15;
  site.extra['/load.html'] = '<!doctype html><script type="module" src="/load.js"></script>';
  site.extra['/load.js'] = "import { open } from '/sdk/nigh.js'; open({ backend: 'tab', model: '/m.json' });";
  const victim = await context.newPage();
  for (let kill = 0; kill < 20; kill++) {
    await victim.goto(`${site.origin}/load.html`);
    await sleep(60 + random() * 150);
  }
  await victim.close();
  site.slowMs = 0;
  const page = await openPage(context, `${site.origin}/page.html`);
  const got = await openHere(page);
  equal([got.sha, got.last?.kept], [manifest.sha256, true], JSON.stringify(got));
  const sent = site.of('.gguf').reduce((s, e) => s + e.sent, 0), whole = {};
  for (const e of site.of('.gguf')) if (e.whole) whole[e.first] = (whole[e.first] ?? 0) + 1;
  const twice = Object.values(whole).reduce((s, c) => s + c - 1, 0);
  console.log(`  killed 20 times (seed ${first}): ${(sent / file.length).toFixed(2)} files sent, ${site.of('.gguf').length} requests, ${twice} pieces twice`);
  check(Object.values(whole).every((c) => c <= 21) && sent <= file.length + 20 * 3 * MiB, `${sent} bytes, seed ${first}`);
  site.log.length = 0;
  equal((await openHere(page)).last.fetched, 0);
  equal(site.of('.gguf').length, 0, 'the second time nothing is fetched');
  await context.close();
});

up('a broken piece is fetched again, alone', async () => {
  const { context, page } = await fresh();
  await openHere(page);
  await page.evaluate(async (hash) => {
    const chunks = await (await (await navigator.storage.getDirectory()).getDirectoryHandle('nigh')).getDirectoryHandle('chunks');
    const out = await (await chunks.getFileHandle(hash)).createWritable({ keepExistingData: true });
    await out.write({ type: 'write', position: 1000, data: new Uint8Array(16) });
    await out.close();
  }, manifest.chunks[2]);
  site.log.length = 0;
  const got = await openHere(page);
  equal([got.sha, got.last.fetched], [manifest.sha256, MiB]);
  equal(site.of('.gguf').map((e) => [e.first, e.last]), [[2 * MiB, 3 * MiB - 1]]);
  await context.close();
});

up('what comes damaged is asked for again; what stays damaged is refused and never kept', async () => {
  const { context, page } = await fresh();
  let times = 0;
  site.spoil = (name, e) => name.endsWith('.gguf') && e.first === MiB && times++ < 1;
  equal((await openHere(page)).sha, manifest.sha256);
  await page.evaluate(() => sdk.remove('nigh-stories'));
  site.spoil = (name, e) => name.endsWith('.gguf') && e.first === MiB;
  const bad = await openHere(page);
  equal(bad.code, 'EDATA', bad.text);
  site.spoil = null;
  const kept = await page.evaluate(() => sdk.models());
  check(!kept[0].complete && kept[0].storedBytes < file.length, JSON.stringify(kept));
  await context.close();
});

up('signatures: a changed manifest, another key, none at all', async () => {
  const { context, page } = await fresh();
  const code = async (m, o = {}) => {
    site.extra['/m.json'] = typeof m === 'string' ? m : JSON.stringify(m);
    const r = await openHere(page, o);
    return r.code ?? 'taken';
  };
  const other = { ...manifest, chunks: [manifest.chunks[1], ...manifest.chunks.slice(1)] }, { key: _k, signature: _s, ...plain } = manifest;
  equal(await code(other), 'EAUTH', 'a changed hash');
  equal(await code({ ...manifest, name: 'other' }), 'EAUTH', 'a changed name');
  equal(await code(manifest, { publicKeys: [publicKey] }), 'taken');
  equal(await code(manifest, { publicKeys: ['00'.repeat(32)] }), 'EAUTH', 'a key nobody expects');
  equal(await code(plain, { publicKeys: [publicKey] }), 'EAUTH', 'unsigned where a signature is wanted');
  equal(await code(plain), 'taken', 'unsigned where none is');
  const lie = { ...plain, sha256: 'ab'.repeat(32) };
  equal(await code(lie), 'EDATA', 'the hash of the whole');
  for (const bad of ['', '{', '[]', 'null', '{"format":"nigh-manifest","version":1}', JSON.stringify({ ...plain, bytes: -1 }),
    JSON.stringify({ ...plain, chunks: [] }),
    JSON.stringify({ ...plain, bytes: 1e15 }), JSON.stringify({ ...plain, chunk_bytes: 1 }), JSON.stringify({ ...plain, sha256: '../x' })])
    equal(await code(bad), 'EDATA', bad.slice(0, 60));
  equal(await code({ ...manifest, version: 2 }), 'ENOSUP');
  await context.close();
  site.extra['/m.json'] = JSON.stringify(manifest);
});

up('the list tells what is kept; delete deletes, and spares what another model needs', async () => {
  const { context, page } = await fresh();
  const two = path.join(folder, 'two.gguf'), other = Buffer.from(file);
  other[other.length - 1] ^= 1; // a weight: all pieces but the last are the same
  writeFileSync(two, other);
  tool(two);
  Object.assign(site.extra, { '/two.json': readFileSync(path.join(folder, 'two.manifest.json')), '/two.gguf': other });
  await openHere(page);
  equal((await openHere(page, { model: '/two.json' })).last.fetched, file.length % MiB);
  const got = await page.evaluate(async () => {
    const out = { before: await sdk.models() };
    out.freed = [await sdk.remove('two'), await sdk.remove('nigh-stories'), await sdk.remove('nigh-stories')];
    out.after = await sdk.models();
    const chunks = await (await (await navigator.storage.getDirectory()).getDirectoryHandle('nigh')).getDirectoryHandle('chunks');
    out.left = [];
    for await (const k of chunks.keys()) out.left.push(k);
    return out;
  });
  equal(got.before.map((m) => [m.name, m.bytes, m.storedBytes, m.complete, m.signedBy]).sort(), [
    ['nigh-stories', file.length, file.length, true, publicKey], ['two', file.length, file.length, true, null]]);
  equal([got.freed, got.after, got.left], [[file.length % MiB, file.length, 0], [], []]);
  await context.close();
});

up('no room: it works from memory, says so, and keeps no half of it when there is none', async () => {
  const { context, page } = await fresh();
  const cdp = await context.newCDPSession(page);
  await cdp.send('Storage.overrideQuotaForOrigin', { origin: site.origin, quotaSize: 2 * MiB });
  const got = await openHere(page);
  equal([got.sha, got.last.kept], [manifest.sha256, false]);
  const state = await page.evaluate(() => sdk.storage());
  check(state.available && state.usedBytes < 2.2 * MiB, JSON.stringify(state));
  await cdp.send('Storage.overrideQuotaForOrigin', { origin: site.origin });
  equal((await openHere(page)).last.kept, true);
  await context.close();
});

up('encrypted at rest: no readable piece, a key that cannot be had, and it opens again', async () => {
  const { context, page } = await fresh();
  equal((await openHere(page, { encrypt: true })).last.kept, true);
  const got = await page.evaluate(async () => {
    const out = { names: [], magic: [], sizes: 0 };
    const chunks = await (await (await navigator.storage.getDirectory()).getDirectoryHandle('nigh')).getDirectoryHandle('chunks');
    for await (const [name, handle] of chunks.entries()) {
      const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
      out.names.push(name);
      out.magic.push(String.fromCharCode(...bytes.subarray(0, 16), ...bytes.subarray(12, 16)).includes('GGUF'));
      out.sizes += bytes.length;
    }
    const db = await new Promise((done) => { const o = indexedDB.open('nigh', 1); o.onsuccess = () => done(o.result); });
    const key = await new Promise((done) => { const q = db.transaction('keys').objectStore('keys').get('store'); q.onsuccess = () => done(q.result); });
    db.close();
    out.exported = await crypto.subtle.exportKey('raw', key).then(() => 'out', (e) => e.name);
    out.list = (await sdk.models()).map((m) => [m.encrypted, m.complete]);
    return out;
  });
  check(got.names.length === manifest.chunks.length && got.names.every((e) => e.endsWith('.enc')), got.names.join());
  equal([got.magic.includes(true), got.exported, got.list], [false, 'InvalidAccessError', [[true, true]]]);
  equal(got.sizes, file.length + 28 * manifest.chunks.length);
  site.log.length = 0;
  equal((await openHere(page, { encrypt: true })).last.fetched, 0);
  equal(site.of('.gguf').length, 0);
  await context.close();
});

up('a server without ranges is asked once', async () => {
  const { context, page } = await fresh();
  site.ranges = false;
  site.log.length = 0;
  equal((await openHere(page)).sha, manifest.sha256);
  equal(site.of('.gguf').length, 1);
  site.ranges = true;
  await context.close();
});

up('sealed pieces: one that was changed comes again, alone; without the key all come again', async () => {
  const { context, page } = await fresh();
  await openHere(page, { encrypt: true });
  await page.evaluate(async (hash) => {
    const chunks = await (await (await navigator.storage.getDirectory()).getDirectoryHandle('nigh')).getDirectoryHandle('chunks');
    const out = await (await chunks.getFileHandle(`${hash}.enc`)).createWritable({ keepExistingData: true });
    await out.write({ type: 'write', position: 5000, data: new Uint8Array(1) });
    await out.close();
  }, manifest.chunks[1]);
  equal((await openHere(page, { encrypt: true })).last.fetched, MiB);
  await page.evaluate(() => new Promise((done) => { indexedDB.deleteDatabase('nigh').onsuccess = done; }));
  const again = await openHere(page, { encrypt: true });
  equal([again.sha, again.last.fetched, again.last.kept], [manifest.sha256, file.length, true]);
  equal((await openHere(page, { encrypt: true })).last.fetched, 0);
  await context.close();
});

up('persist() is asked for; what the browser clears is noticed, while it runs, afterwards, and without a network', async () => {
  const { context, page } = await fresh(), cdp = await context.newCDPSession(page);
  const clear = () => cdp.send('Storage.clearDataForOrigin', { origin: site.origin, storageTypes: 'all' });
  const got = await page.evaluate(async () => {
    let asked = 0;
    const own = StorageManager.prototype.persist;
    StorageManager.prototype.persist = function () { asked++; return own.call(this); };
    window.nigh = await sdk.open({ backend: 'tab', model: '/m.json' });
    return { asked, state: await sdk.storage(), kept: (await sdk.models()).map((m) => m.complete) };
  });
  equal([got.asked, typeof got.state.persisted, got.kept], [1, 'boolean', [true]]);
  check(got.state.usedBytes >= file.length && got.state.quotaBytes > got.state.usedBytes, JSON.stringify(got.state));
  await clear();
  equal(await page.evaluate(async () => [(await nigh.complete('Once', { maxTokens: 3 })).usage.completionTokens, (await sdk.models()).length]), [3, 0]);
  await page.evaluate(() => nigh.close());
  // Workers that begin now have no lock in common with this page any more; they must not be taken for dead.
  await page.evaluate(() => {
    const Own = Worker;
    window.workers = 0;
    window.Worker = class extends Own { constructor(...a) { super(...a); workers++; } };
  });
  const again = await openHere(page);
  equal([again.sha, again.last.fetched, again.last.kept, await page.evaluate(() => workers)], [manifest.sha256, file.length, true, 1]);
  await page.evaluate(async () => {
    window.nigh = await sdk.open({ backend: 'tab', model: '/m.json' });
    await new Promise((done) => setTimeout(done, 1500));
    nigh.close();
  });
  equal(await page.evaluate(() => workers), 2, 'engines that were started');
  await clear();
  site.down = /m\.json|gguf/;
  const none = await openHere(page);
  site.down = false;
  equal(none.code, 'EIO');
  check(/cannot be reached, and nothing is stored/.test(none.text), none.text);
  await context.close();
});

up('memory is asked for before anything is fetched; where it is not given, the next smaller model is taken', async () => {
  const { context, page } = await fresh();
  const { key: _k, signature: _s, ...plain } = manifest;
  const named = (name, bytes) => {
    const chunks = Array(Math.ceil(bytes / MiB)).fill(manifest.chunks[0]);
    site.extra[`/${name}.json`] = JSON.stringify({ ...plain, name, bytes, chunks, file: `/${name}.gguf` });
    return `/${name}.json`;
  };
  const huge = named('huge', 4.2e9), middle = named('middle', 60e6);
  site.log.length = 0;
  equal((await openHere(page, { model: [huge, '/m.json'] })).sha, manifest.sha256, 'more than a tab can have');
  equal((await openHere(page, { model: huge })).code, 'ENOMEM');
  // A browser that gives 64 MiB: enough for the small one.
  const few = 'const Own = WebAssembly.Memory; WebAssembly.Memory = function (o) { return new Own({ ...o, maximum: 1024 }); };';
  Object.assign(site.extra, changedWorker('few', few));
  const got = await page.evaluate(async (model) => {
    const nigh = await sdk.open({ backend: 'tab', files: '/few/', model });
    return { sha: nigh.model.sha256, memory: nigh.model.engine.memoryBytes, text: (await nigh.complete('Once', { maxTokens: 3 })).usage.completionTokens };
  }, [huge, middle, '/m.json']);
  equal([got.sha, got.text], [manifest.sha256, 3]);
  check(got.memory <= 64 * MiB, `${got.memory} bytes`);
  const none = await openHere(page, { model: middle, files: '/few/' });
  equal([none.code, /does not give \d+ MB of memory/.test(none.text)], ['ENOMEM', true], none.text);
  equal(site.log.filter((e) => /(huge|middle)\.gguf/.test(e.name)), [], 'nothing of what does not fit is fetched');
  await context.close();
});

up('the test ends', async () => {
  await site.stop();
  check(browser.isConnected(), 'the browser lives');
  await closeAll();
});
await main('test_store');
