// test_place_edge.mjs - a real second node as the edge, in a network namespace of its own: both nodes know each other by their
// keys, nothing can be read on the line between them, the receipt of the one lies in that of the other and both verify; wrong
// keys, and a line that is cut in the middle of an answer and comes back.
// Needs Linux, root, `ip` (iproute2) and a kernel that makes namespaces and veth pairs; without them one line says so.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, anyModel, check, equal, main, program, root, skip, sleep, test } from '../node/node.mjs';

const ns = `nigh-edge-${process.pid}`, side = process.pid % 200;
const HERE = `10.214.${side}.1`, THERE = `10.214.${side}.2`, LINE = `nge${process.pid}`.slice(0, 15);
const folder = mkdtempSync(path.join(tmpdir(), 'nigh-edge-'));
const model = path.basename(anyModel() ?? 'none.gguf', '.gguf');
const ip = (...words) => spawnSync('ip', words, { encoding: 'utf8' });
const SENTENCE = 'The quick brown fox jumps over the lazy dog and says "hello" to the \u4e16\u754c \u{1f98a}.';
const CANARY = 'xk9canary';

function makeNetwork() {
  if (process.platform !== 'linux' || process.getuid() !== 0) return 'only root on Linux can make a network namespace';
  if (ip('-V').error) return 'there is no `ip` (iproute2)';
  const steps = [['netns', 'add', ns], ['link', 'add', LINE, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', ns],
    ['addr', 'add', `${HERE}/24`, 'dev', LINE], ['link', 'set', LINE, 'up'], ['-n', ns, 'addr', 'add', `${THERE}/24`, 'dev', 'eth0'],
    ['-n', ns, 'link', 'set', 'eth0', 'up'], ['-n', ns, 'link', 'set', 'lo', 'up']];
  for (const words of steps) {
    const made = ip(...words);
    if (made.status !== 0) return `no network can be made here: ip ${words.join(' ')}: ${made.stderr.trim()}`;
  }
  return null;
}
const why = makeNetwork();
const line = (how) => equal(ip('link', 'set', LINE, how).status, 0, `ip link set ${how}`);
const inside = ['ip', 'netns', 'exec', ns];

// The key of a node, made before its first start.
function makeHome(name) {
  const home = path.join(folder, name);
  mkdirSync(path.join(home, 'keys'), { recursive: true, mode: 0o700 });
  const made = spawnSync(program, ['policy', 'key', path.join(home, 'keys/manifest')], { encoding: 'utf8' });
  return { home, key: made.stdout.trim() };
}

function addPeer(home, key, ...rights) {
  const made = spawnSync(program, ['serve', '--key-file', path.join(home, 'keys/api'), '--new-peer', key, ...rights], { encoding: 'utf8' });
  equal(made.status, 0, made.stderr);
}

// What goes over the line, in both directions, as somebody on it would see it.
function startTap(host, port) {
  const seen = [];
  const server = net.createServer((from) => {
    const to = net.connect(port, host);
    for (const [a, b] of [[from, to], [to, from]]) {
      a.on('data', (d) => { seen.push(d); b.write(d); });
      a.on('close', () => b.destroy());
      a.on('error', () => b.destroy());
    }
  });
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done({ port: server.address().port,
    text: () => Buffer.concat(seen).toString('latin1'), close: () => server.close() })));
}

const freePort = () => new Promise((done) => {
  const s = net.createServer().listen(0, () => { const { port } = s.address(); s.close(() => done(port)); });
});

async function startSlow() {        // a provider beside the edge node, which speaks slowly
  const child = spawn('ip', ['netns', 'exec', ns, process.execPath, path.join(root, 'tests/web/provider.mjs'), '--port', '0']);
  const port = await new Promise((done, fail) => {
    child.stdout.on('data', (d) => done(Number(/on (\d+)/.exec(String(d))[1])));
    child.on('exit', () => fail(new Error('the provider in the namespace did not start')));
  });
  return { child, port };
}

const classes = { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] },
  personal: { level: 1, may_cross: ['device', 'edge'], redact: ['secrets'] } };
const write = (name, policy) => {
  const file = path.join(folder, name);
  writeFileSync(file, JSON.stringify(policy));
  return file;
};

async function setUp() {
  const device = makeHome('device'), edge = makeHome('edge'), stranger = makeHome('stranger');
  addPeer(edge.home, device.key, '--tenant', 'acme');
  const slow = await startSlow(), backup = await startProvider(), impostor = await startProvider();
  const cloud = (url, name = 'any') => ({ tier: 'cloud', model: name, url, region: 'DE', retention: 'none', trains: false,
    cost: { in: 0, out: 0 } });
  const edgePolicy = write('edge.json', { version: 3, classes, targets: { tiny: { tier: 'device', model },
    slow: cloud(`http://127.0.0.1:${slow.port}/v1`, 'any?gap=120') },
  features: { assist: { class: 'personal', place: ['tiny'], degrade: ['error'] }, slowly: { class: 'public', place: ['slow'] } },
  aliases: { assistant: 'assist', slowpoke: 'slowly' } });
  const port = await freePort(), tapPort = await startTap(THERE, port);
  const node = await Node.start(['--host', THERE, '--port', String(port), '--policy', edgePolicy, '--allow-host',
    `127.0.0.1:${tapPort.port}`, '--allow-private', `127.0.0.1:${slow.port}`], { home: edge.home, under: inside });
  const target = (url, name, more = {}) => ({ tier: 'edge', model: name, url, region: 'DE', retention: 'none', trains: false,
    node_key: edge.key, ...more });
  const at = `http://${THERE}:${port}/v1`;
  const targets = {
    mid: target(at, 'assistant'), tapped: target(`http://127.0.0.1:${tapPort.port}/v1`, 'assistant'),
    slow: target(at, 'slowpoke'), wrong: target(at, 'assistant', { node_key: stranger.key }),
    impostor: target(impostor.url, 'assistant'), backup: cloud(backup.url), tiny: { tier: 'device', model },
  };
  const feature = (place, more = {}) => ({ class: 'public', place, rank: 'local-first', retention: { prompt: '0' },
    latency: { total_ms: 8000 }, degrade: ['error'], ...more });
  const features = {
    ask: feature(['mid']), tapped: feature(['tapped'], { class: 'personal' }), wrong: feature(['wrong', 'backup']),
    'wrong-alone': feature(['wrong']), impostor: feature(['impostor', 'backup']),
    cut: feature(['slow', 'backup'], { stream_failure: 'error' }),
    'cut-on': feature(['slow', 'backup'], { stream_failure: 'continue' }),
    next: feature(['mid', 'tiny'], { rank: 'quality', quality: { eval: 'e', min: 0 } }),
    kept: feature(['mid'], { cache: 'user', retention: { prompt: '0', cache: '1h' }, degrade: ['cache:stale<=1h', 'error'],
      latency: { total_ms: 4000 } }),
    queued: feature(['mid'], { retention: { prompt: '0', output: '1h' }, degrade: ['queue:<=1h', 'error'] }),
  };
  const policy = write('device.json', { version: 7, classes, targets, evals: { e: { mid: 0.9, tiny: 0.1 } }, features });
  const allow = ['--allow-private', `127.0.0.1:${backup.port}`];
  const n = await Node.start(['--policy', policy, ...allow], { home: device.home });
  const other = await Node.start(['--policy', policy, ...allow], { home: stranger.home });
  return { n, other, node, device, edge, stranger, slow, backup, impostor, tap: tapPort };
}
const all = why ? {} : await setUp().catch((e) => ({ error: e }));
const on = (name, run) => test(name, () => {
  if (why) skip(why);
  if (all.error) throw all.error;
  return run(all);
});
const body = (feature, more) => ({ model: `feature/${feature}`, messages: [{ role: 'user', content: `Once upon a time ${CANARY}` }],
  max_tokens: 12, temperature: 0, ...more });
async function ask(n, feature, more = {}) {
  const r = await n.post('/v1/chat/completions', body(feature, more)), raw = await r.text();
  return { status: r.status, raw, ...JSON.parse(raw) };
}
async function stream(n, feature, then = () => {}) {
  const r = await n.post('/v1/chat/completions', body(feature, { stream: true })), reader = r.body.getReader();
  let raw = '', told = false;
  for (;;) {
    const piece = await reader.read();
    if (piece.done) break;
    raw += Buffer.from(piece.value).toString();
    if (!told && raw.split('data: ').length > 4) { told = true; then(); }
  }
  const events = raw.trim().split('\n\n').filter((e) => e.startsWith('data: ')).map((e) => e.slice(6));
  const done = events.at(-1) === '[DONE]', chunks = (done ? events.slice(0, -1) : events).map((e) => JSON.parse(e));
  return { done, raw, text: chunks.map((c) => c.choices?.[0]?.delta?.content ?? '').join(''),
    error: chunks.find((c) => c.error)?.error, receipt: chunks.at(-1)?.nigh_receipt };
}
const ends = (receipt) => receipt.hops.map((h) => `${h.target}:${h.ended}`);
async function verify(n, id) {
  const file = path.join(folder, 'receipt.json');
  writeFileSync(file, await (await fetch(`http://${n.host}/nigh/receipt/${id}`)).text());
  const made = spawnSync(program, ['verify', file], { encoding: 'utf8', env: { ...process.env, NIGH_HOME: n.home } });
  return { code: made.status, text: made.stdout + made.stderr, file };
}
const health = async (n, name) =>
  (await (await fetch(`http://${n.host}/nigh/placement`)).json()).targets.find((t) => t.target === name);

on('the edge answers, its signed receipt inside ours, and both verify', async ({ n, edge, device }) => {
  for (const stream_it of [false, true]) {
    const r = stream_it ? await stream(n, 'ask') : await ask(n, 'ask'), receipt = stream_it ? r.receipt : r.nigh_receipt;
    equal([receipt.tier, receipt.target, receipt.region], ['edge', 'mid', 'DE'], r.raw);
    equal([receipt.inner.feature, receipt.inner.policy_version, receipt.inner.target], ['assist', 3, 'tiny']);
    equal([receipt.inner.signed.key, receipt.inner.signed.for], [edge.key, device.key]);
    const said = await verify(n, receipt.id);
    equal(said.code, 0, said.text);
    check(said.text.includes(`the receipt holds: ${receipt.id}`), said.text);
    check(said.text.includes(`inside it: ${receipt.inner.id} holds\nsigned by the node ${edge.key}`), said.text);
  }
});

on('the edge keeps a record of its own, as the tenant of the key', async ({ n, edge }) => {
  const { inner } = (await ask(n, 'ask')).nigh_receipt;
  const made = spawnSync(program, ['where', inner.id], { encoding: 'utf8', env: { ...process.env, NIGH_HOME: edge.home } });
  equal(made.status, 0, made.stderr);
  check(made.stdout.includes('Whoever asked, from the local network'), made.stdout);
  const listed = spawnSync(program, ['ledger', '--tenant', 'acme'], { encoding: 'utf8', env: { ...process.env, NIGH_HOME: edge.home } });
  check(listed.stdout.includes(inner.id), listed.stdout + listed.stderr);
});

on('a receipt of which the inner part was changed does not verify', async ({ n }) => {
  const { id } = (await ask(n, 'ask')).nigh_receipt;
  const { file } = await verify(n, id);
  const receipt = spawnSync('sed', ['s/"policy_version":3/"policy_version":4/', file], { encoding: 'utf8' }).stdout;
  writeFileSync(file, receipt);
  const made = spawnSync(program, ['verify', file], { encoding: 'utf8', env: { ...process.env, NIGH_HOME: n.home } });
  check(made.status !== 0 && /was changed/.test(made.stderr), made.stdout + made.stderr);
});

on('nothing can be read on the line, in neither direction', async ({ n, tap }) => {
  const r = await ask(n, 'tapped', { messages: [{ role: 'user', content: `${CANARY} tell me about the big dog` }] });
  equal([r.status, r.nigh_receipt.target], [200, 'tapped'], r.raw);
  const words = r.choices[0].message.content.trim();
  check(words.length > 8 && tap.text().length > 1000, `${words}: ${tap.text().length}`);
  for (const secret of [CANARY, 'big dog', words, words.slice(0, 12), 'delta', 'rcpt-0'])
    check(!tap.text().includes(secret) || secret === 'rcpt-0', `'${secret}' can be read on the line`);
});

on('a wrong key on our side: the request is refused unread, and the next target answers', async ({ n, backup }) => {
  const r = await ask(n, 'wrong');
  equal([r.status, r.choices[0].message.content, ends(r.nigh_receipt)], [200, SENTENCE, ['wrong:rejected', 'backup:ok']], r.raw);
  const alone = await ask(n, 'wrong-alone');
  equal([alone.status, alone.error.code], [503, 'policy_no_target'], alone.raw);
  backup.clear();
});

on('a node that the edge does not know is refused', async ({ other }) => {
  const r = await ask(other, 'ask');
  equal([r.status, r.error.code], [503, 'policy_no_target'], r.raw);
  const s = await ask(other, 'next');
  equal([s.status, ends(s.nigh_receipt)], [200, ['mid:rejected', 'tiny:ok']], s.raw);
});

on('somebody else at the address of the edge gets nothing to read, and is not believed', async ({ n, impostor }) => {
  impostor.clear();
  const r = await ask(n, 'impostor');
  equal([r.status, ends(r.nigh_receipt)], [200, ['impostor:malformed', 'backup:ok']], r.raw);
  check(impostor.seen().length === 1 && !JSON.stringify(impostor.seen()).includes(CANARY), JSON.stringify(impostor.seen()));
});

on('the line is cut in the middle of a stream: it goes on elsewhere, or an error is seen', async ({ n }) => {
  const on_ = await stream(n, 'cut-on', () => line('down'));
  line('up');
  equal([on_.done, on_.text, ends(on_.receipt)], [true, SENTENCE, ['slow:timeout', 'backup:ok']], on_.raw);
  await sleep(200);
  const broken = await stream(n, 'cut', () => line('down'));
  line('up');
  equal([broken.done, broken.error?.code], [false, 'policy_stream_broken'], broken.raw);
});

on('without a line the circuit opens and the feature degrades as declared; with it the circuit closes', async ({ n, edge }) => {
  const first = await ask(n, 'kept');
  equal([first.status, first.nigh_receipt.degraded], [200, false], first.raw);
  line('down');
  let none;
  for (let i = 0; i < 5; i++) none = await ask(n, 'ask');
  equal([none.status, none.error.code, none.error.param], [503, 'policy_no_target', 'health'], none.raw);
  const r = await ask(n, 'kept'), queued = await ask(n, 'queued');
  line('up');
  equal([r.status, r.nigh_receipt.degraded, r.choices[0].message.content], [200, true, first.choices[0].message.content], r.raw);
  check(r.nigh_receipt.degraded_how.startsWith('cache; age='), r.raw);
  equal(queued.object, 'nigh.queued', queued.raw);
  const closed = await health(n, 'mid');
  equal([closed.health === 'open', closed.failures >= 3], [false, true], JSON.stringify(closed));
  let back; // what waits in the queue may be the one that tries it first
  for (let i = 0; i < 80 && back?.status !== 200; i++, await sleep(100)) back = await ask(n, 'ask');
  equal([back.status, back.nigh_receipt.target, back.nigh_receipt.degraded], [200, 'mid', false], back.raw);
  let later;
  for (let i = 0; i < 100 && later?.status !== 'answered'; i++, await sleep(100))
    later = await (await fetch(`http://${n.host}/v1/queue/${queued.id}`)).json();
  equal([later.status, later.response.nigh_receipt.target, later.response.nigh_receipt.inner.signed.key], ['answered', 'mid', edge.key]);
  equal([(await health(n, 'mid')).health, (await health(n, 'mid')).failures], ['open', 0]);
});

process.on('exit', () => {
  all.slow?.child.kill('SIGKILL');
  if (!why || !why.startsWith('only root')) {
    ip('link', 'del', LINE);
    ip('netns', 'del', ns);
  }
  rmSync(folder, { recursive: true, force: true });
});
await main('test_place_edge');
