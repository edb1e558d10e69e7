// test_place_faults.mjs - random faults behind a policy: refused, slow, half a stream, malformed, 429, 500, a name that is
// not found, a line that is cut, a process that is killed. Each answer is right, or degraded and marked, or an error that
// names a rule, within the feature's time; and no stream ends as if it were whole when it is not.
//   NIGH_FAULTS=1000 node tests/fault/test_place_faults.mjs     NIGH_SEED=N for the same faults again
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, check, equal, folder, main, modelName as model, random, root, sleep, test } from '../node/node.mjs';

const FAULTS = Number(process.env.NIGH_FAULTS ?? 90);
const SEED = Number(process.env.NIGH_SEED ?? Date.now() % 1e9);
const LANES = 5, TOTAL_MS = 1200, SLACK_MS = 1500;
const SENTENCE = 'The quick brown fox jumps over the lazy dog and says "hello" to the \u4e16\u754c \u{1f98a}.';
const home = folder('faults');

// What a provider does next; null: nothing wrong.
const faults = [
  null, null, { refuse: 1 }, { status: 500 }, { status: 503, retry: 1 }, { status: 429, retryms: 80 }, { status: 401 },
  { status: 400, context: 1 }, { silent: 1 }, { mute: 1 }, { delay: 2000 }, { first: 3000 }, { gap: 300 }, { cut: 0 },
  { cut: 4, gap: 5 }, { cut: 9, gap: 5 }, { noend: 1 }, { inner: 'server', at: 3, gap: 5 }, { inner: 'overloaded', at: 1 },
  { malformed: 'json' }, { malformed: 'sse' }, { malformed: 'html' }, { malformed: 'http' }, { malformed: 'utf8' },
  { malformed: 'nothing' }, { malformed: 'finish' }, { length: 'long' }, { redirect: 'http://127.0.0.1:1/' }, { head: 40000 },
  { never: 1, gap: 10 }, { split: 1 }, { stream: 0 }, 'killed',
];
const GOOD = [null, { split: 1 }, { stream: 0 }];

// A provider of its own process, so that it can be killed in the middle of an answer.
class Victim {
  async start(port = 0) {
    this.child = spawn(process.execPath, [path.join(root, 'tests/web/provider.mjs'), '--port', String(port)]);
    this.port = await new Promise((done, fail) => {
      this.child.stdout.on('data', (d) => done(Number(/on (\d+)/.exec(String(d))[1])));
      this.child.on('exit', () => fail(new Error('the provider did not start')));
    });
    return this;
  }

  async kill() {
    const gone = new Promise((done) => this.child.once('exit', done));
    this.child.kill('SIGKILL');
    await gone;
  }
}

const lanes = [];
async function setUp() {
  const targets = {
    tiny: { tier: 'device', model },
    'no-name': { tier: 'cloud', model: 'x', url: 'https://name.invalid/v1', region: 'FR', retention: 'none', trains: false,
      cost: { in: 0, out: 0 } },
  };
  const features = {}, allow = [];
  for (let i = 0; i < LANES; i++) {
    const lane = { a: await startProvider(), b: await startProvider(), victim: await new Victim().start() };
    lanes.push(lane);
    const cloud = (port) => ({ tier: 'cloud', model: 'any', url: `http://127.0.0.1:${port}/v1`, region: 'FR',
      retention: 'none', trains: false, cost: { in: 0, out: 0 } });
    Object.assign(targets, { [`a${i}`]: cloud(lane.a.port), [`b${i}`]: cloud(lane.b.port), [`v${i}`]: cloud(lane.victim.port) });
    for (const p of [lane.a.port, lane.b.port, lane.victim.port]) allow.push('--allow-private', `127.0.0.1:${p}`);
    const feature = (place, more) => ({ class: 'public', place, rank: 'cost', retention: { prompt: '0' },
      latency: { total_ms: TOTAL_MS }, ...more });
    features[`two${i}`] = feature([`a${i}`, `b${i}`], { stream_failure: 'error' });
    features[`on${i}`] = feature([`a${i}`, 'no-name', `b${i}`], { stream_failure: 'continue' });
    features[`home${i}`] = feature([`a${i}`, `v${i}`, 'tiny'], { stream_failure: 'continue',
      escalate: { when: ['context_overflow'] } });
    features[`victim${i}`] = feature([`v${i}`, `b${i}`], { stream_failure: 'error', degrade: ['error'] });
    features[`hedge${i}`] = feature([`a${i}`, `b${i}`], { stream_failure: 'continue', hedge: { after_ms: 60 },
      weights: { [`a${i}`]: 3, [`b${i}`]: 1 } });
    features[`race${i}`] = feature([`a${i}`, 'no-name', `b${i}`, `v${i}`], { stream_failure: 'error',
      hedge: { after_ms: 0, p95: true }, weights: { [`v${i}`]: 2 }, escalate: { when: ['context_overflow', 'timeout'] } });
    features[`small${i}`] = feature([`a${i}`], { degrade: ['error'] });
  }
  const classes = { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] } };
  const file = path.join(home, 'features.json');
  writeFileSync(file, JSON.stringify({ version: 1, classes, targets, features }));
  return Node.start(['--policy', file, ...allow, '--parallel', '8']);
}
const n = await setUp().catch((e) => ({ error: e }));

const KINDS = ['two', 'on', 'home', 'victim', 'small', 'hedge', 'race'];
const CODES = ['policy_no_target', 'policy_timeout', 'policy_stream_broken', 'context_length_exceeded', 'queue_full'];
const seen = {};
let longest = 0, late = 0;

function judge(what, status, headers, raw, stream) {
  const say = `${what}: ${status} ${raw.slice(-700)}`;
  check(/rid=rcpt-/.test(headers.get('x-placement') ?? ''), `no placement: ${say}`);
  const rightText = (text, receipt) => {
    const cut = receipt.hops.some((h) => h.ended !== 'ok' && h.first_ms > 0);
    check(receipt.hops.at(-1).ended === 'ok', say);
    check(receipt.hops.slice(0, -1).every((h) => h.ended !== 'ok'), `two answers: ${say}`);
    const outrun = receipt.hops.some((h) => h.ended === 'outrun');
    if (outrun) seen.outrun = (seen.outrun ?? 0) + 1;
    if (receipt.tier === 'cloud') check(text === SENTENCE, `wrong text '${text}': ${say}`);
    else check(text.length > 0 && (cut || !text.startsWith('The quick')), `wrong text '${text}': ${say}`);
    return receipt.hops.length > 1 ? 'right, after others' : 'right';
  };
  const named = (e) => {
    check(e && CODES.includes(e.code), `an error that names no rule: ${say}`);
    return e.code;
  };
  if (!stream || !headers.get('content-type').startsWith('text/event-stream')) {
    const r = JSON.parse(raw);
    return status === 200 ? rightText(r.choices[0].message.content, r.nigh_receipt) : named(r.error);
  }
  const events = raw.trim().split('\n\n').filter((e) => e.startsWith('data: ')).map((e) => e.slice(6));
  const done = events.at(-1) === '[DONE]';
  const chunks = (done ? events.slice(0, -1) : events).map((e) => JSON.parse(e));
  if (!done) return named(chunks.at(-1)?.error);
  return rightText(chunks.map((c) => c.choices?.[0]?.delta?.content ?? '').join(''), chunks.at(-1).nigh_receipt);
}

async function once(i, rand) {
  const lane = lanes[i], kind = KINDS[Math.floor(rand() * KINDS.length)], stream = rand() < 0.6;
  const pick = () => rand() < 0.5 ? null : faults[Math.floor(rand() * faults.length)];
  let a = pick();
  const b = pick(), killed = [a, b].includes('killed') || ['victim', 'race'].includes(kind);
  if (a === 'killed') a = null;
  lane.a.set(a ?? {});
  lane.b.set(b && b !== 'killed' ? b : {});
  const what = JSON.stringify({ seed: SEED, kind, stream, a, b, killed });
  const start = Date.now();
  const asked = n.post('/v1/chat/completions', { model: `feature/${kind}${i}`, stream, max_tokens: 12, temperature: 0,
    messages: [{ role: 'user', content: 'Once upon a time' }] });
  if (killed) {
    await sleep(rand() * 15);
    await lane.victim.kill();
  }
  const r = await asked, raw = await r.text(), took = Date.now() - start;
  if (killed) await lane.victim.start(lane.victim.port);
  const end = judge(what, r.status, r.headers, raw, stream);
  longest = Math.max(longest, took);
  late += took >= TOTAL_MS + SLACK_MS;
  check(took < TOTAL_MS + SLACK_MS, `${took} ms: ${what} ${raw.slice(-400)}`);
  seen[end] = (seen[end] ?? 0) + 1;
  return a === null || GOOD.some((g) => JSON.stringify(g) === JSON.stringify(a));
}

test(`${FAULTS} random faults`, async () => {
  if (n.error) throw n.error;
  console.log(`  seed ${SEED}`);
  let left = FAULTS;
  const worst = [];
  await Promise.all(lanes.map(async (_, i) => {
    const rand = random(SEED * 31 + i);
    while (left-- > 0) await once(i, rand).catch((e) => worst.push(e));
  }));
  console.log(`  ${JSON.stringify(seen)}`);
  console.log(`  figure faults faults=${FAULTS} wrong=${worst.length - late} late=${late} longest_ms=${longest} total_ms=${TOTAL_MS}`);
  if (worst.length) throw new Error(`${worst.length} of ${FAULTS}: ${worst.slice(0, 3).map((e) => e.stack).join('\n')}`);
  check((seen.right ?? 0) > 0 && (seen['right, after others'] ?? 0) > 0, 'nothing was answered');
});

test('afterwards the node is as before: nothing runs, nothing is open, and it answers', async () => {
  if (n.error) throw n.error;
  for (const lane of lanes) lane.a.set({});
  for (let i = 0; i < 60 && (await n.metric('nigh_running_sequences')) > 0; i++) await sleep(50);
  equal([await n.metric('nigh_running_sequences'), await n.metric('nigh_queued_sequences')], [0, 0]);
  const open = () => lanes.reduce((sum, l) => sum + l.a.stats().open + l.b.stats().open, 0);
  for (let i = 0; i < 60 && open() > 0; i++) await sleep(50);
  equal(open(), 0, 'transfers that are still open');
  const r = await n.post('/v1/chat/completions', { messages: [{ role: 'user', content: 'a' }], max_tokens: 2 });
  equal(r.status, 200);
});

process.on('exit', () => lanes.forEach((l) => l.victim.child.kill('SIGKILL')));
await main('test_place_faults');
