// test_place_quick.mjs - what makes a node with a policy quick and small, seen from outside: the HTTP library is loaded with
// the first call to another place, and its absence is said; an answer that is there whole goes out in one piece; requests
// that are read on their socket's thread end well when the node stops; the number of connections is what was asked for.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, anyModel, check, equal, main, program, skip, sleep, test } from './node.mjs';

const folder = mkdtempSync(path.join(tmpdir(), 'nigh-quick-'));
const model = path.basename(anyModel() ?? 'none.gguf', '.gguf');
const provider = await startProvider();

const cloud = { tier: 'cloud', model: 'any?text=good', url: provider.url, region: 'FR', retention: 'none', trains: false };
const feature = (place, more = {}) => ({ class: 'public', place, retention: { prompt: '0', output: '1h', cache: '1h' }, ...more });
const policy = path.join(folder, 'features.json');
writeFileSync(policy, JSON.stringify({
  version: 1,
  classes: { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] } },
  targets: {
    here: { tier: 'device', model }, away: cloud,
    slow: { ...cloud, model: 'any?text=good&delay=300' }, drips: { ...cloud, model: 'any?gap=60' },
  },
  features: {
    away: feature(['away']), here: feature(['here']), slow: feature(['slow']), drips: feature(['drips']),
    both: feature(['away', 'here']), kept: feature(['away'], { cache: 'tenant' }),
  },
}));
const start = (args = [], options = {}) => Node.start(['--policy', policy, '--allow-private', `127.0.0.1:${provider.port}`, ...args], options);
const ask = (n, name, more = {}) => n.post('/v1/chat/completions',
  { model: `feature/${name}`, messages: [{ role: 'user', content: 'Once upon a time' }], max_tokens: 8, temperature: 0, ...more });
const maps = (n) => readFileSync(`/proc/${n.child.pid}/maps`, 'utf8');

test('the HTTP library is loaded with the first call to another place', async () => {
  const n = await start();
  check(!maps(n).includes('libcurl'), 'loaded before it was needed');
  equal((await ask(n, 'here')).status, 200);
  check(!maps(n).includes('libcurl'), 'loaded for an answer of this device');
  equal((await ask(n, 'away')).status, 200);
  check(maps(n).includes('libcurl'), 'not loaded');
  await n.stop();
});

test('without the library the answer says what is missing, and the next target is asked', async () => {
  const broken = path.join(folder, 'lib');
  mkdirSync(broken);
  for (const name of ['libcurl-gnutls.so.4', 'libcurl.so.4']) writeFileSync(path.join(broken, name), 'no library\n');
  const n = await start([], { env: { LD_LIBRARY_PATH: broken } });
  const r = await ask(n, 'away'), body = await r.json();
  equal([r.status, body.error.code], [503, 'policy_no_target']);
  check(body.error.message.includes('need libcurl'), body.error.message);
  const both = await ask(n, 'both');
  equal([both.status, /target=(\w+)/.exec(both.headers.get('x-placement'))[1]], [200, 'here']);
  const about = await (await fetch(`http://${n.host}/nigh/placement`)).json();
  check(about.targets.find((t) => t.target === 'away').last_error.includes('libcurl'), JSON.stringify(about.targets));
  await n.stop();
});

test('a stream that is over before its head left goes out in one piece, a slow one in chunks', async () => {
  const n = await start();
  await ask(n, 'kept');
  const kept = await ask(n, 'kept', { stream: true }), text = await kept.text();
  equal(kept.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  equal(Number(kept.headers.get('content-length')), Buffer.byteLength(text));
  check(text.startsWith('data: {') && text.endsWith('data: [DONE]\n\n'), text);
  check(kept.headers.get('x-placement').includes('why=cache'), kept.headers.get('x-placement'));
  const slow = await ask(n, 'drips', { stream: true }), words = await slow.text();
  equal([slow.headers.get('content-length'), slow.headers.get('transfer-encoding')], [null, 'chunked']);
  check(words.endsWith('data: [DONE]\n\n'), words);
  await n.stop();
});

test('many at once, small and large, for every kind of target', async () => {
  const n = await start();
  const kinds = ['away', 'here', 'kept', 'both', 'slow'];
  const long = 'word '.repeat(6000);
  const all = await Promise.all(Array.from({ length: 60 }, async (_, i) => {
    const r = await ask(n, kinds[i % 5], { stream: i % 2 === 1,
      messages: [{ role: 'user', content: i % 10 < 5 || i % 5 === 1 || i % 5 === 3 ? 'hello' : long }] });
    const text = await r.text();
    if (r.status !== 200) return `${kinds[i % 5]} ${r.status} ${text}`;
    return (i % 2 === 0 ? JSON.parse(text).choices.length === 1 : text.endsWith('data: [DONE]\n\n'));
  }));
  equal(all.filter((ok) => ok !== true), [], 'answers that failed');
  await n.stop();
});

test('the node ends well while requests come in', async () => {
  for (let round = 0; round < 3; round++) {
    const n = await start();
    let going = true;
    const ends = Array.from({ length: 16 }, async () => {
      while (going) await ask(n, 'away').then((r) => r.text()).catch(() => { going = false; });
    });
    await sleep(200 + 50 * round);
    equal((await n.stop()).code, 0);
    going = false;
    await Promise.all(ends);
  }
});

test('--connections: as many as asked for, the others wait; too many for the system are an error', async () => {
  const n = await start(['--connections', '8']);
  const sockets = Array.from({ length: 20 }, () => net.connect(n.port, '127.0.0.1'));
  const answered = new Set();
  for (const s of sockets) {
    s.on('error', () => {});
    s.on('data', () => answered.add(s));
    s.write(`GET /health HTTP/1.1\r\nHost: ${n.host}\r\n\r\n`);
  }
  await sleep(600);
  check(answered.size > 0 && answered.size <= 8, `${answered.size} of 20 were answered`);
  for (const s of sockets) s.destroy();
  for (let round = 0; round < 3; round++) {
    const full = Array.from({ length: 8 }, () => net.connect(n.port, '127.0.0.1'));
    for (const s of full) s.on('error', () => {});
    await sleep(300);
    for (const s of full) s.destroy();      // all at once
    await sleep(100);
    equal((await fetch(`http://${n.host}/health`, { signal: AbortSignal.timeout(5000), headers: { connection: 'close' } })).status, 200);
  }
  await n.stop();
  const most = Number(readFileSync('/proc/sys/fs/nr_open', 'utf8'));
  if (most > 2 * (1 << 20)) skip('this system allows two million open files');
  const r = spawnSync(program, ['serve', anyModel(), '--port', '0', '--connections', String(1 << 20)], { encoding: 'utf8' });
  check(r.status !== 0 && /1048576 connections want 2097408 open files, the system allows \d+/.test(r.stderr), r.stderr);
});

process.on('exit', () => provider.close());
await main('test_place_quick');
