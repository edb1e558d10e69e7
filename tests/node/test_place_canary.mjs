// test_place_canary.mjs - private values of many kinds in every field, through every target, fault, cache and queue; then
// everything that was sent, logged, counted or written is searched for them, and a node dies with them in its memory. All
// hold the digits of the mark, so that one search finds any of them, also with spaces or dashes inside.
//   NIGH_CANARIES=100000 node tests/node/test_place_canary.mjs     NIGH_SEED=N for the same values again
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, anyModel, check, equal, folder, main, program, random, skip, sleep, test } from './node.mjs';
import { iban, luhn, valuesFrom } from './values.mjs';

const MARK = '31415926', CANARIES = Number(process.env.NIGH_CANARIES ?? 1200);
const SEED = Number(process.env.NIGH_SEED ?? Date.now() % 1e9);
const model = path.basename(anyModel() ?? 'none.gguf', '.gguf');
const home = folder('canary');
const provider = await startProvider();

const rand = random(SEED), { below, digits } = valuesFrom(rand);
const spaced = (text) => text.match(/.{1,4}/g).join(' ');
const kinds = [
  () => `k${digits(4)}.${MARK}@firm-${digits(3)}.de`,
  () => luhn(`4${MARK}${digits(6)}`),
  () => spaced(luhn(`5${1 + below(5)}${MARK}${digits(5)}`)),
  () => iban(`${MARK}${digits(10)}`),
  () => spaced(iban(`${MARK}${digits(10)}`)),
  () => `sk-proj-${MARK}a9Kx${digits(6)}bQzR7tLmN2vW8yE4uHpJ`,
  () => `ghp_${MARK}aB3dE5fG7hJ9kL${digits(4)}nP1qR2sT4`.slice(0, 40).padEnd(40, 'x'),
];
const canary = () => kinds[below(kinds.length)]();
const finds = (text) => {
  const at = String(text).replace(/[\s-]|\\u0020/g, '').indexOf(MARK);
  return at < 0 ? null : String(text).replace(/[\s-]/g, '').slice(Math.max(0, at - 60), at + 60);
};

const classes = {
  public: { level: 0, may_cross: ['device', 'edge', 'cloud'] },
  personal: { level: 2, may_cross: ['device', 'edge:redacted', 'cloud:redacted'], redact: ['pii', 'secrets'] },
  secret: { level: 3, may_cross: ['device'] },
};
const cloud = (name, more = {}) => ({ tier: 'cloud', model: name, url: provider.url, region: 'FR', retention: 'none',
  trains: false, cost: { in: 0, out: 0 }, can: ['tools', 'json'], ...more });
const feature = (place, cls, more = {}) => ({ class: cls, place, rank: 'cost',
  retention: { prompt: '0', output: '1h', cache: '1h' }, latency: { total_ms: 5000 }, ...more });
const allow = ['--allow-private', `127.0.0.1:${provider.port}`];

async function setUp() {
  const edgeFile = path.join(home, 'edge.json');
  // The edge hands on to the provider itself, so that what reaches it is seen there.
  writeFileSync(edgeFile, JSON.stringify({ version: 1, classes, targets: { on: cloud('any?echo=1') },
    features: { relay: { class: 'public', place: ['on'] } }, aliases: { 'relay-model': 'relay' } }));
  const edge = await Node.start(['--policy', edgeFile, ...allow]);
  const targets = {
    tiny: { tier: 'device', model, can: ['tools', 'json'] },
    mid: { tier: 'edge', model: 'relay-model', url: edge.url, region: 'DE', retention: 'none', trains: false,
      can: ['tools', 'json'] },
    chat: cloud('any?echo=1'), claude: cloud('any?echo=1', { api: 'anthropic' }),
    responses: cloud('any?echo=1', { api: 'openai-responses' }),
    bad: cloud('any?status=500'), rude: cloud('any?status=400'), cuts: cloud('any?echo=1&cut=2&gap=2'),
    garbled: cloud('any?echo=1&malformed=json'), gone: cloud('any', { url: 'http://127.0.0.1:9/v1' }),
  };
  const features = {};
  for (const t of Object.keys(targets)) features[`p-${t}`] = feature([t], 'personal');
  for (const t of Object.keys(targets)) features[`s-${t}`] = feature([t], 'secret');
  features['p-ladder'] = feature(['gone', 'bad', 'garbled', 'claude'], 'personal', { stream_failure: 'continue' });
  features['p-cuts-on'] = feature(['cuts', 'chat'], 'personal', { stream_failure: 'continue' });
  features['p-kept'] = feature(['chat'], 'personal', { cache: 'user', degrade: ['cache:stale<=1h', 'error'] });
  features['p-queued'] = feature(['gone'], 'personal', { degrade: ['queue:<=1h', 'error'] });
  features['s-mixed'] = feature(['mid', 'chat', 'tiny'], 'secret');
  const file = path.join(home, 'features.json');
  writeFileSync(file, JSON.stringify({ version: 1, classes, targets, features }));
  return { edge, n: await Node.start(['--policy', file, '--queue', '256', '--context', '512', ...allow]),
    features: Object.keys(features) };
}
const all = await setUp().catch((e) => ({ error: e }));
const { edge, n, features } = all;

// A conversation with k values in all the places where words may stand.
function conversation(k) {
  const words = () => `please look at ${canary()} and at ${canary()} now`;
  const id = `call ${canary()}`;
  const body = { messages: [{ role: 'system', content: words() }], max_tokens: 4, metadata: { note: canary() },
    user: canary() };
  const tool = rand() < 0.4;
  if (tool) {
    body.tools = [{ type: 'function', function: { name: 'send', description: words(), parameters: { type: 'object',
      properties: { to: { type: 'string', description: words(), enum: [canary()] } } } } }];
    body.messages.push({ role: 'user', content: words() },
      { role: 'assistant', content: null, tool_calls: [{ id, type: 'function', function: { name: 'send',
        arguments: JSON.stringify({ to: canary(), deep: { list: [canary()], card: Number(luhn(`4${MARK}${digits(6)}`)) } }) } }] },
      { role: 'tool', tool_call_id: id, content: rand() < 0.5 ? words() : JSON.stringify({ got: canary() }) });
  }
  if (rand() < 0.3) body.stop = [`stop ${canary()}`];
  body.messages.push({ role: 'user', name: 'person', content: rand() < 0.5 ? words() : [{ type: 'text', text: words() }] });
  return { body, values: k + (tool ? 9 : 0) };
}

const leaks = [];
const note = (where, text) => {
  const found = finds(text);
  if (found) leaks.push(`${where}: ...${found}...`);
};
const textOf = (m) => (typeof m.content === 'string' ? m.content : m.content.map((p) => p.text).join(''));

async function one(i) {
  const name = features[i % features.length], { body, values } = conversation(5), stream = rand() < 0.5;
  const want = textOf(body.messages.at(-1));
  const r = await n.post('/v1/chat/completions', { ...body, model: `feature/${name}`, stream });
  const raw = await r.text();
  note(`${name}: head of the answer`, JSON.stringify([...r.headers]));
  const errors = /"error"/.test(raw) || r.status !== 200;
  if (r.status !== 200) note(`${name}: error`, raw);
  if (!errors && !stream && name === 'p-mid') {
    const inner = JSON.parse(raw).nigh_receipt.inner;
    equal([inner.tier, inner.feature, inner.class], ['cloud', 'relay', 'personal'], 'the receipt inside: edge, then cloud');
  }
  if (!errors && /^p-(mid|chat|claude|responses|ladder|kept|cuts-on)$/.test(name)) {
    const text = raw.startsWith('data:')
      ? raw.trim().split('\n\n').filter((e) => e.startsWith('data: {')).map((e) => JSON.parse(e.slice(6)).choices?.[0]?.delta
        ?.content ?? '').join('')
      : JSON.parse(raw).choices[0].message.content;
    equal(text, want, `${name}: what comes back`);
  }
  return { values, ok: !errors };
}

test(`${CANARIES} private values through ${features?.length ?? 0} features`, async () => {
  if (all.error) throw all.error;
  console.log(`  seed ${SEED}`);
  let sent = 0, answered = 0;
  for (let i = 0; sent < CANARIES; ) {
    const batch = await Promise.all(Array.from({ length: 8 }, () => one(i++)));
    for (const b of batch) { sent += b.values; answered += b.ok; }
    for (const s of provider.seen()) note('sent to the provider', `${s.body} ${JSON.stringify(s.headers)} ${s.path}`);
    check(provider.seen().length < 20000, 'too many to look at');
    provider.clear();
    if (leaks.length > 20) break;
  }
  await sleep(1500);
  for (const s of provider.seen()) note('sent to the provider late', `${s.body} ${JSON.stringify(s.headers)}`);
  for (const route of ['/metrics', '/nigh/placement', '/nigh/ledger?limit=1000', '/v1/models'])
    note(route, await (await fetch(`http://${n.host}${route}`)).text());
  for (const node of [n, edge]) { note('log', node.err); note('log', node.out); }
  console.log(`  figure canary values=${sent} answers=${answered} found=${leaks.length}`);
  check(answered > 0, 'nothing was answered');
  equal(leaks, [], `leaks (seed ${SEED})`);
});

test('no file holds one, neither while it runs nor afterwards', async () => {
  if (all.error) throw all.error;
  const look = (dir) => {
    for (const name of readdirSync(dir)) {
      const at = path.join(dir, name), s = statSync(at);
      if (s.isDirectory()) look(at);
      else note(at, readFileSync(at, 'latin1'));
    }
  };
  for (const node of [n, edge]) look(node.home);
  console.log(`  figure canary_files found=${leaks.length}`);
  check(readdirSync(n.home).includes('ledger.db') && readdirSync(n.home).includes('queue.db'), 'the files are there');
  equal(leaks, []);
});

// A node of a user who is not root, since root may read everything, dies while it waits for a provider.
const nobody = process.getuid() === 0 ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : [];
async function dies(signal, dumps) {
  const dir = mkdtempSync(path.join(tmpdir(), 'nigh-dump-')), at = (name) => path.join(dir, name);
  writeFileSync(at('features.json'), JSON.stringify({ version: 1, classes, targets: { mute: cloud('any?silent=1') },
    features: { f: feature(['mute'], 'personal') } }));
  copyFileSync(program, at('nigh'));
  copyFileSync(anyModel(), at('any.gguf'));
  mkdirSync(at('home'));
  for (const p of [dir, at('home')]) {
    chmodSync(p, 0o755);
    if (nobody.length) chownSync(p, 65534, 65534);
  }
  provider.clear();
  const d = await Node.start(['--policy', at('features.json'), ...allow], { home: at('home'), model: at('any.gguf'), cwd: dir,
    run: at('nigh'), under: ['bash', '-c', 'ulimit -c unlimited; exec "$@"', 'bash', ...nobody],
    env: { NIGH_CORE_DUMPS: dumps ? '1' : '', ASAN_OPTIONS: 'handle_segv=0:handle_abort=0' } });
  const asked = d.post('/v1/chat/completions', { model: 'feature/f', messages: [{ role: 'user', content: kinds[0]() }] }).catch(() => null);
  for (let i = 0; i < 500 && !provider.seen().length; i++) await sleep(20);
  check(provider.seen().length, 'it did not ask');
  const look = 'for f in environ maps mem; do (true < /proc/$0/$f) 2> /dev/null && printf "%s " $f; done; true';
  const [peek, ...words] = [...nobody, 'sh', '-c', look, String(d.child.pid)];
  const seen = spawnSync(peek, words, { encoding: 'utf8' }).stdout.trim();
  const limit = /Max core file size\s+(\S+)\s+(\S+)/.exec(readFileSync(`/proc/${d.child.pid}/limits`, 'utf8')).slice(1).join(' ');
  const end = await d.stop(signal);
  await asked;
  const files = readdirSync(dir).filter((f) => !['features.json', 'nigh', 'any.gguf', 'home'].includes(f));
  const found = files.filter((f) => readFileSync(at(f)).includes(MARK)).length;
  rmSync(dir, { recursive: true, force: true });
  return { ended: end.signal, limit, seen, files: files.length, found };
}

test('crash dumps: a node that dies with private text in its memory leaves none, and nobody else may look in', async () => {
  if (all.error) throw all.error;
  if (nobody.length && spawnSync(nobody[0], [...nobody.slice(1), 'true']).status !== 0) skip('there is no setpriv');
  for (const signal of ['SIGSEGV', 'SIGABRT'])
    equal(await dies(signal, false), { ended: signal, limit: '0 0', seen: '', files: 0, found: 0 }, 'by default');
  const open = await dies('SIGSEGV', true);
  console.log(`  figure canary_dumps died=2 files=0 found=0`);
  console.log(`  with NIGH_CORE_DUMPS=1: ${open.files} files, ${open.found} of them hold the text; read by others: ${open.seen || 'nothing'}`);
  check(open.files === 0 || open.found > 0, 'a core dump is there, and the search does not find what it must hold');
});

if (all.error)
  test('the nodes start', () => {
    throw all.error;
  });
process.on('exit', () => provider.close());
await main('test_place_canary');
