// test_place_race.mjs - requests that are shared out by weights, two tries at once (hedge), and escalation by a threshold
// that may pass on only a share: what is taken, what is cancelled, what is counted and said.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, anyModel, check, equal, main, sanitized, sleep, test } from './node.mjs';

const folder = mkdtempSync(path.join(tmpdir(), 'nigh-race-'));
const model = path.basename(anyModel() ?? 'none.gguf', '.gguf');
const a = await startProvider(), b = await startProvider();
const SENTENCE = 'The quick brown fox jumps over the lazy dog and says "hello" to the \u4e16\u754c \u{1f98a}.';

async function setUp() {
  const cloud = (p, name, more = {}) => ({ tier: 'cloud', model: name, url: p.url, region: 'FR', retention: 'none', trains: false,
    cost: { in: 1000, out: 1000 }, can: ['tools'], ...more });
  const targets = {
    tiny: { tier: 'device', model }, handy: { tier: 'device', model, can: ['json'] },
    'quick-json': cloud(b, 'any?text=quick', { can: ['json'] }),
    a: cloud(a, 'any'), b: cloud(b, 'any'),
    slow: cloud(a, 'any?first=700'), quick: cloud(b, 'any?text=quick'), dead: cloud(b, 'any?status=500&delay=100'),
    wordy: cloud(a, 'any?gap=60'), tools: cloud(b, 'any?tools=1'), late: cloud(a, 'any?delay=900&text=late'),
  };
  const feature = (place, more = {}) => ({ class: 'public', place, rank: 'cost', retention: { prompt: '0' },
    latency: { total_ms: 8000 }, ...more });
  const hedge = { after_ms: 150 };
  const features = {
    shared: feature(['a', 'b'], { weights: { a: 3 } }),
    cheapest: feature(['a', 'b', 'tiny'], { weights: { a: 3, tiny: 0 } }),
    one: feature(['slow', 'quick']),
    two: feature(['slow', 'quick'], { hedge }),
    fine: feature(['wordy', 'quick'], { hedge }),
    'second-fails': feature(['slow', 'dead'], { hedge }),
    'both-fail': feature(['late', 'dead'], { hedge, latency: { total_ms: 900 }, degrade: ['error'] }),
    personal: feature(['slow', 'quick'], { hedge, class: 'personal' }),
    dear: feature(['slow', 'quick'], { hedge, cost: { per_call_usd: 0.02 } }),
    tools: feature(['late', 'tools'], { hedge }),
    home: feature(['slow', 'tiny'], { hedge, latency: { total_ms: 3000 } }),
    measured: feature(['slow', 'quick'], { hedge: { after_ms: 3000, p95: true } }),
    'no-ground': feature(['handy', 'quick-json'], { rank: 'local-first' }),
    unsupported: feature(['handy', 'quick-json'], { rank: 'local-first', escalate: { when: ['unsupported'] } }),
    'late-here': feature(['tiny', 'quick'], { rank: 'local-first', latency: { total_ms: 1000 } }),
    'late-here-on': feature(['tiny', 'quick'], { rank: 'local-first', latency: { total_ms: 1000 }, escalate: { when: ['timeout'] } }),
    rate: feature(['tiny', 'quick'], { rank: 'local-first', escalate: { when: ['confidence'], threshold: 1, target_rate: 0 } }),
    few: feature(['tiny', 'quick'], { rank: 'local-first', escalate: { when: ['confidence'], threshold: 1, target_rate: 0.1 } }),
  };
  const classes = { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] },
    personal: { level: 1, may_cross: ['cloud:redacted'], redact: ['pii'] } };
  const file = path.join(folder, 'features.json');
  writeFileSync(file, JSON.stringify({ version: 1, classes, targets, features }));
  const allow = [a, b].flatMap((p) => ['--allow-private', `127.0.0.1:${p.port}`]);
  return Node.start(['--policy', file, ...allow]);
}
const n = await setUp().catch((e) => ({ error: e }));
const on = (name, run) => test(name, () => {
  if (n.error) throw n.error;
  a.clear();
  b.clear();
  return run();
});
const body = (feature, more) => ({ model: `feature/${feature}`, messages: [{ role: 'user', content: 'Once upon a time' }],
  max_tokens: 8, temperature: 0, ...more });
async function ask(feature, more = {}, headers = {}) {
  const start = Date.now();
  const r = await n.post('/v1/chat/completions', body(feature, more), headers), raw = await r.text();
  return { status: r.status, took: Date.now() - start, raw, ...JSON.parse(raw) };
}
async function stream(feature, more = {}) {
  const start = Date.now();
  const r = await n.post('/v1/chat/completions', body(feature, { stream: true, ...more })), raw = await r.text();
  const events = raw.trim().split('\n\n').filter((e) => e.startsWith('data: ')).map((e) => e.slice(6));
  const done = events.at(-1) === '[DONE]', chunks = (done ? events.slice(0, -1) : events).map((e) => JSON.parse(e));
  return { done, raw, took: Date.now() - start, text: chunks.map((c) => c.choices?.[0]?.delta?.content ?? '').join(''),
    placement: r.headers.get('x-placement'), nigh_receipt: chunks.at(-1)?.nigh_receipt };
}
const ends = (r) => r.nigh_receipt.hops.map((h) => `${h.target}:${h.ended}`);
const text = (r) => r.choices[0].message.content;

on('weights: equals are drawn by their weights, and explain draws the same again', async () => {
  const explained = async (feature, query) => (await n.post(`/v1/placement/explain${query}`, body(feature))).json();
  const shares = async (feature) => Object.fromEntries((await explained(feature, '')).targets.map((t) => [t.target, t.share]));
  const some = await shares('shared'), all = await shares('cheapest');
  equal([some.a, some.b, some.quick], [0.75, 0.25, 0]);
  equal([all.tiny, all.a, all.b], [1, 0, 0], 'what costs nothing is no equal of the others');
  const seen = { a: 0, b: 0 };
  for (let i = 0; i < 24; i++) {
    const { target, id } = (await ask('shared')).nigh_receipt;
    seen[target]++;
    equal((await explained('shared', `?receipt=${id}`)).order[0], target, id);
  }
  check(seen.a > seen.b && seen.b > 0 && seen.a + seen.b === 24, JSON.stringify(seen));
});

on('without hedge a slow target is waited for', async () => {
  const r = await ask('one');
  equal([r.status, text(r), ends(r)], [200, SENTENCE, ['slow:ok']]);
});

on('hedge: a second target answers first, the other is cancelled; both are counted', async () => {
  for (const get of [ask, stream]) {
    const r = await get('two');
    equal([get === ask ? text(r) : r.text, r.nigh_receipt.target, ends(r)], ['quick', 'quick', ['slow:outrun', 'quick:ok']], r.raw);
    const [slow, quick] = r.nigh_receipt.hops;
    check(slow.bytes_out > 100 && quick.bytes_out > 100, r.raw);
    equal(r.nigh_receipt.bytes_out, slow.bytes_out + quick.bytes_out);
    check(r.took < 650, `${r.took} ms: the first one alone takes 700`);
    const where = await (await fetch(`http://${n.host}/nigh/receipt/${r.nigh_receipt.id}`)).json();
    equal(where.record.hops.map((h) => [h.target, h.ended, h.bytes_out]), [['slow', 'outrun', slow.bytes_out], ['quick', 'ok', quick.bytes_out]]);
    const { prompt_tokens: p, completion_tokens: c, cost_nusd: cost } = where.record;
    equal(cost, 2 * (p + c) * 1e6, 'both are paid for');
  }
  for (let i = 0; i < 40 && a.stats().open > 0; i++) await sleep(25);
  equal([a.stats().open, b.stats().open], [0, 0], 'transfers that are still open');
});

on('hedge: a first target that speaks in time is left alone', async () => {
  const r = await stream('fine');
  equal([r.text, r.done, ends(r)], [SENTENCE, true, ['wordy:ok']]);
  check(!/outrun|failed/.test(r.placement), r.placement);
  equal(b.seen().length, 0);
});

on('hedge: a second target that fails changes nothing', async () => {
  const r = await ask('second-fails');
  equal([r.status, text(r), ends(r)], [200, SENTENCE, ['dead:failed', 'slow:ok']]);
  const { first_ms: first, ms } = r.nigh_receipt;
  check(first >= 600 && first <= ms + 2, `first word after ${first} of ${ms} ms`);
  const s = await stream('second-fails');
  equal([s.text, s.done, ends(s)], [SENTENCE, true, ['dead:failed', 'slow:ok']]);
});

on('hedge: both fail, and the error names the rule in time', async () => {
  const r = await ask('both-fail');
  check([503, 504].includes(r.status) && r.error.code === 'policy_no_target', r.raw);
  check(r.took < 2000, `${r.took} ms`);
});

on('hedge: what is taken out is taken out of both', async () => {
  const r = await ask('personal', { messages: [{ role: 'user', content: 'Mail anna.schmidt@web.de' }] });
  equal([r.status, ends(r), r.nigh_receipt.redacted], [200, ['slow:outrun', 'quick:ok'], 1]);
  for (const p of [a, b]) check(p.seen().length === 1 && !p.seen()[0].body.includes('anna'), p.seen()[0]?.body);
});

on('hedge: not beyond the budget, not with an idempotency-key, not to this device', async () => {
  const dear = await ask('dear', { max_tokens: 8 });
  equal([dear.status, ends(dear)], [200, ['slow:ok']], dear.raw);
  const keyed = await ask('two', {}, { 'idempotency-key': 'once' });
  equal([keyed.status, ends(keyed)], [200, ['slow:ok']]);
  equal(b.seen().length, 0);
  const home = await ask('home');
  equal(home.nigh_receipt.hops.length, 1);
});

on('hedge: calls of tools come from one of them', async () => {
  const tools = [{ type: 'function', function: { name: 'tool_0', parameters: { type: 'object' } } }];
  const r = await ask('tools', { tools });
  equal([r.choices[0].message.tool_calls.length, ends(r)], [1, ['late:outrun', 'tools:ok']]);
  equal(JSON.parse(r.choices[0].message.tool_calls[0].function.arguments), { city: 'Köln', n: 0 });
});

on('hedge: by the measured time, once there is one', async () => {
  for (let i = 0; i < 5; i++) await ask('one');
  const about = await (await fetch(`http://${n.host}/nigh/placement`)).json();
  const p95 = about.targets.find((t) => t.target === 'slow').first_ms.p95;
  check(p95 >= 600 && p95 < 3000, `p95 ${p95}`);
});

on('hedge: a client that leaves ends both', async () => {
  const end = new AbortController();
  a.set({ silent: 1 });
  b.set({ silent: 1 });
  const asked = n.post('/v1/chat/completions', { ...body('two'), stream: true }, {}, { signal: end.signal }).catch(() => null);
  for (let i = 0; i < 80 && b.stats().open === 0; i++) await sleep(25);
  equal([a.stats().open, b.stats().open], [1, 1]);
  end.abort();
  await asked;
  for (let i = 0; i < 80 && a.stats().open + b.stats().open > 0; i++) await sleep(25);
  a.set({});
  b.set({});
  equal([a.stats().open, b.stats().open], [0, 0], 'transfers that are still open');
});

on('unsupported and timeout of a model here are grounds only where they are declared', async () => {
  const json = { response_format: { type: 'json_object' } }; // no model here can, whatever the policy says
  const none = await ask('no-ground', json), on = await ask('unsupported', json);
  equal([none.status >= 400, none.error?.code], [true, 'unsupported_value'], none.raw);
  equal([on.status, ends(on)], [200, ['handy:unsupported', 'quick-json:ok']], on.raw);
  const crowd = Array.from({ length: sanitized ? 6 : 40 }, () => n.post('/v1/completions', { prompt: 'a', max_tokens: 480, ignore_eos: true })
    .then((r) => r.text()));
  await sleep(50);
  const [late, went] = await Promise.all([ask('late-here'), ask('late-here-on')]);
  await Promise.all(crowd);
  equal([late.status, late.error?.code], [504, 'policy_timeout'], late.raw.slice(0, 300));
  equal([went.status, ends(went)], [200, ['tiny:timeout', 'quick:ok']], went.raw.slice(0, 300));
});

on('target_rate: beyond the share the answer stays, marked; how sure stands in the receipt', async () => {
  const r = await ask('rate');
  equal([r.status, r.nigh_receipt.target, r.nigh_receipt.degraded_how], [200, 'tiny', 'confidence; over the rate']);
  check(r.nigh_receipt.confidence > 0 && r.nigh_receipt.confidence < 1, r.raw);
  const on = [];
  for (let i = 0; i < 14; i++) on.push((await ask('few')).nigh_receipt.target);
  equal([on.filter((t) => t === 'quick').length, on.at(-1)], [11, 'tiny'], on.join());
  const about = await (await fetch(`http://${n.host}/nigh/placement`)).json();
  equal(about.features.find((f) => f.feature === 'few').sure, { looked: 14, below: 14, escalated: 11 });
});

if (n.error) test('the node starts', () => { throw n.error; });
process.on('exit', () => { a.close(); b.close(); });
await main('test_place_race');
