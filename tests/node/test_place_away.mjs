// test_place_away.mjs - a policy whose features run elsewhere: another node as the edge, a provider of ours as the cloud.
// What is right, what fails and is answered by the next target, what may not leave, what is said of it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, check, equal, folder, main, modelName as model, needing, placement, root, skip, sleep, test } from './node.mjs';

const home = folder('away');
const provider = await startProvider();
const key = 'provider-key-000';

async function setUp() {
  const edge = await Node.start();
  const cloud = (name, more = {}) => ({
    tier: 'cloud', model: name, url: provider.url, key: 'env:PLACE_TEST_KEY', region: 'FR', retention: 'none', trains: false,
    cost: { in: 2, out: 6 }, context_tokens: 100000, can: ['tools', 'json', 'vision'], ...more,
  });
  const targets = {
    tiny: { tier: 'device', model },
    mid: { tier: 'edge', model, zone: 'berlin', url: edge.url, retention: 'none', trains: false },
    other: { tier: 'edge', model: `${model}@sha256:${'0'.repeat(64)}`, zone: 'berlin', url: edge.url, retention: 'none', trains: false },
    good: cloud('good'),
    echo: cloud('any?echo=1'),
    claude: cloud('any?echo=1', { api: 'anthropic' }),
    responses: cloud('any?echo=1', { api: 'openai-responses' }),
    tools: cloud('any?tools=2'),
    refuses: cloud('any?refuse=1'),
    breaks: cloud('any?status=500'),
    busy: cloud('any?status=429&retryms=120'),
    wrong: cloud('any?malformed=json'),
    ...Object.fromEntries(['cuts', 'cuts-on', 'cuts-home', 'cuts-client', 'cuts-client-on'].map((x) => [x, cloud('any?cut=3&gap=40')])),
    mute: cloud('any?mute=1'),
    'cuts-now': cloud('any?cut=0'),
    long: cloud('any?status=400&context=1'),
    nokey: cloud('good', { key: 'env:PLACE_TEST_NO_KEY' }),
    unnamed: cloud('good', { url: 'http://127.0.0.1:9/v1' }),
  };
  const feature = (place, more = {}) => ({
    class: 'public', place, retention: { prompt: '0', output: '1h', cache: '1h' }, latency: { total_ms: 8000 }, ...more,
  });
  const features = {
    edge: feature(['mid']),
    other: feature(['other', 'good']),
    cloud: feature(['good']),
    local: feature(['tiny']),
    'edge-secret': feature(['mid'], { class: 'secret' }),
    personal: feature(['echo'], { class: 'personal' }),
    'personal-claude': feature(['claude'], { class: 'personal' }),
    'personal-responses': feature(['responses'], { class: 'personal' }),
    tools: feature(['tools']),
    ladder: feature(['refuses', 'breaks', 'wrong', 'good']),
    busy: feature(['busy', 'good']),
    'busy-alone': feature(['busy'], { latency: { total_ms: 1500 } }),
    slow: feature(['mute', 'good'], { latency: { total_ms: 1200 } }),
    cut: feature(['cuts', 'good']),
    'cut-on': feature(['cuts-on', 'good'], { stream_failure: 'continue' }),
    'cut-home': feature(['cuts-home', 'tiny'], { rank: 'cost', stream_failure: 'continue' }),
    'cut-now': feature(['cuts-now', 'good']),
    'cut-client': feature(['cuts-client', 'good']),
    'cut-client-on': feature(['cuts-client-on', 'good'], { stream_failure: 'continue' }),
    long: feature(['long', 'good']),
    'long-on': feature(['long', 'good'], { escalate: { when: ['context_overflow'] } }),
    'local-long': feature(['tiny', 'good'], { escalate: { when: ['context_overflow'] } }),
    sure: feature(['tiny', 'good'], { escalate: { when: ['confidence'], threshold: 1 } }),
    'sure-alone': feature(['tiny', 'breaks'], { escalate: { when: ['confidence'], threshold: 1 } }),
    nokey: feature(['nokey', 'good']),
    unnamed: feature(['unnamed']),
    kept: feature(['good'], { cache: 'user', degrade: ['cache:stale<=1h', 'error'] }),
    small: feature(['breaks', 'tiny'], { cost: {}, degrade: ['target:tiny,max_tokens=3', 'error'] }),
    queued: feature(['good'], { degrade: ['queue:<=1h', 'error'] }),
  };
  features['cut-home'].rank = 'quality';
  features['cut-home'].quality = { eval: 'e', min: 0 };
  const policy = {
    version: 9,
    classes: {
      public: { level: 0, may_cross: ['device', 'edge', 'cloud'] },
      personal: { level: 2, may_cross: ['device', 'edge', 'cloud:redacted'], redact: ['pii', 'secrets'] },
      secret: { level: 3, may_cross: ['device'] },
    },
    found: { secrets: 'secret', pii: 'personal' },
    zones: { berlin: { region: 'DE' } },
    targets,
    evals: { e: { 'cuts-home': 0.9, tiny: 0.1 } },
    features,
  };
  const file = path.join(home, 'features.json');
  writeFileSync(file, JSON.stringify(policy));
  const n = await Node.start(['--policy', file, '--allow-private', `127.0.0.1:${provider.port}`], {
    env: { PLACE_TEST_KEY: key },
  });
  return { edge, n };
}
const all = await setUp().catch((e) => ({ error: e }));
const { edge, n } = all;
const up = needing(all);
const user = (content) => [{ role: 'user', content }];
const ask = async (feature, body = {}, headers = {}) => {
  const r = await n.post('/v1/chat/completions',
    { model: `feature/${feature}`, messages: user('Once upon a time'), max_tokens: 12, temperature: 0, ...body }, headers);
  const text = await r.text();
  return { headers: r.headers, placement: placement(r), ...JSON.parse(text), raw: text, status: r.status };
};
const stream = async (feature, body = {}) => {
  const r = await n.post('/v1/chat/completions', { model: `feature/${feature}`, messages: user('Once upon a time'),
    max_tokens: 12, temperature: 0, stream: true, ...body });
  const raw = await r.text();
  if (!r.headers.get('content-type').startsWith('text/event-stream')) return { status: r.status, ...JSON.parse(raw), raw };
  const events = raw.trim().split('\n\n').filter((e) => e.startsWith('data: ')).map((e) => e.slice(6));
  const done = events.at(-1) === '[DONE]';
  const chunks = (done ? events.slice(0, -1) : events).map((e) => JSON.parse(e));
  return {
    status: r.status, placement: placement(r), done, chunks, raw,
    text: chunks.map((c) => c.choices?.[0]?.delta?.content ?? '').join(''),
    error: chunks.find((c) => c.error)?.error, receipt: chunks.at(-1)?.nigh_receipt,
  };
};
const SENTENCE = 'The quick brown fox jumps over the lazy dog and says "hello" to the \u4e16\u754c \u{1f98a}.';

up('the edge: another node answers, its receipt inside ours', async () => {
  const r = await ask('edge');
  equal([r.status, r.placement.tier, r.placement.target, r.placement.region], [200, 'edge', 'mid', 'DE']);
  const mine = await ask('local');
  equal(r.choices[0].message.content, mine.choices[0].message.content, 'the same model, the same text');
  equal([r.nigh_receipt.inner.place, r.nigh_receipt.inner.model], ['device', model]);
  check(r.nigh_receipt.bytes_out > 100 && r.nigh_receipt.hops[0].bytes_in > 100, JSON.stringify(r.nigh_receipt));
  const s = await stream('edge');
  equal([s.text, s.done, s.receipt.inner.place], [mine.choices[0].message.content, true, 'device']);
});

up('an edge node with another model than the policy names is not believed', async () => {
  const r = await ask('other');
  equal([r.placement.target, r.nigh_receipt.hops[0].ended], ['good', 'model']);
  const s = await stream('other');
  equal([s.done, s.error.code], [false, 'policy_stream_broken']);
});

up('a provider answers in each of the three formats, whole and streamed', async () => {
  const r = await ask('cloud');
  equal([r.status, r.placement.tier, r.placement.region, r.choices[0].message.content], [200, 'cloud', 'FR', SENTENCE]);
  check(Number(r.placement.out.slice(0, -1)) === r.nigh_receipt.bytes_out && r.nigh_receipt.bytes_out > 100, r.raw);
  const s = await stream('cloud', { stream_options: { include_usage: true } });
  equal([s.text, s.done, s.chunks.at(-1).usage.prompt_tokens], [SENTENCE, true, 11]);
  for (const f of ['personal', 'personal-claude', 'personal-responses'])
    equal((await stream(f, { messages: user('hello there') })).text, 'hello there', f);
});

up('private data leaves as placeholders and comes back as itself', async () => {
  const text = 'Write to anna.schmidt@web.de, card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00.';
  for (const f of ['personal', 'personal-claude', 'personal-responses'])
    for (const give of [ask, stream]) {
      provider.clear();
      const r = await give(f, { messages: user(text), user: 'anna.schmidt@web.de', metadata: { mail: 'anna.schmidt@web.de' } });
      const got = provider.seen()[0].body;
      check(!/anna|4111|3704/.test(got) && /<EMAIL_1_\w{4}>/.test(got), got);
      equal(give === ask ? r.choices[0].message.content : r.text, text, `${f}`);
      equal((give === ask ? r.nigh_receipt : r.receipt).redacted, 3);
    }
});

up('every place where words can stand is looked into', async () => {
  provider.clear();
  const mail = 'canary@firm.de';
  const r = await ask('personal', {
    messages: [
      { role: 'system', content: `system ${mail}` },
      { role: 'user', content: [{ type: 'text', text: `part ${mail}` }], name: 'canary' },
      { role: 'assistant', content: null, tool_calls: [{ id: mail, type: 'function', function: { name: 'send',
        arguments: JSON.stringify({ to: mail, deep: [{ card: 4111111111111111 }], esc: 'x' }).replace('@', '\\u0040') } }] },
      { role: 'tool', tool_call_id: mail, content: JSON.stringify({ from: mail }) },
      { role: 'user', content: 'go on' },
    ],
    tools: [{ type: 'function', function: { name: 'send', description: `to ${mail}`,
      parameters: { type: 'object', properties: { to: { type: 'string', default: mail, enum: [mail] } } } } }],
    stop: [`stop ${mail}`], user: mail, metadata: { a: mail }, prompt_cache_key: mail,
  });
  const got = provider.seen()[0];
  equal(r.status, 200, r.raw);
  check(!/canary|firm|4111111111111111/.test(got.body), got.body);
  check(!/canary|firm/.test(JSON.stringify(got.headers)), 'in the head');
  const sent = JSON.parse(got.body);
  equal(sent.messages[2].tool_calls[0].id, sent.messages[3].tool_call_id, 'ids still fit');
  const named = await ask('personal', { tools: [{ type: 'function', function: { name: 'send', parameters: {
    type: 'object', properties: { [mail]: {} } } } }] });
  equal([named.status, named.error.code, named.error.param], [403, 'policy_redaction', 'redact']);
  const image = await ask('personal', { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:,x' } }] }] });
  equal([image.status, image.error.code], [403, 'policy_redaction']);
});

up('calls of tools come back whole and as pieces', async () => {
  const tools = [{ type: 'function', function: { name: 'tool_0', parameters: { type: 'object' } } }];
  const r = await ask('tools', { tools });
  const calls = r.choices[0].message.tool_calls;
  equal([calls.length, calls[1].function.name, JSON.parse(calls[1].function.arguments), r.choices[0].finish_reason],
    [2, 'tool_1', { city: 'Köln', n: 1 }, 'tool_calls']);
  const s = await stream('tools', { tools });
  const args = ['', ''];
  for (const c of s.chunks)
    for (const t of c.choices?.[0]?.delta?.tool_calls ?? []) args[t.index] += t.function?.arguments ?? '';
  equal(args.map((a) => JSON.parse(a).n), [0, 1]);
});

up('a place that fails is followed by the next one, and each try is said', async () => {
  const r = await ask('ladder');
  equal([r.status, r.placement.target], [200, 'good']);
  equal(r.nigh_receipt.hops.map((h) => h.ended), ['unreachable', 'failed', 'malformed', 'ok'].map((e, i) =>
    r.nigh_receipt.hops[i].ended === 'cut' && i === 0 ? 'cut' : e));
  check(r.placement.why.includes('+breaks:failed'), r.placement.why);
  equal((await ask('nokey')).placement.target, 'good');
  const none = await ask('unnamed');
  equal([none.status, none.error.code], [503, 'policy_no_target']);
});

up('a busy place is asked again when it said, if there is no other', async () => {
  equal((await ask('busy')).placement.target, 'good');
  provider.clear();
  const alone = await ask('busy-alone');
  equal([alone.status, alone.error.code], [503, 'policy_no_target']);
  check(provider.seen().length >= 2, `asked ${provider.seen().length} times`);
});

up('a place that says nothing leaves half of the time to the next', async () => {
  const start = Date.now();
  const r = await ask('slow');
  equal([r.status, r.placement.target, r.nigh_receipt.hops[0].ended], [200, 'good', 'timeout']);
  check(Date.now() - start < 2500, `${Date.now() - start} ms`);
});

up('a stream that breaks is an error that can be seen, or goes on elsewhere without a word twice', async () => {
  const broken = await stream('cut');
  equal([broken.done, broken.error?.code], [false, 'policy_stream_broken'], broken.raw);
  const whole = await ask('cut');
  equal(whole.choices[0].message.content, SENTENCE, 'nothing was sent: begun anew');
  const on = await stream('cut-on');
  equal([on.text, on.done, on.receipt.hops.map((h) => h.ended)], [SENTENCE, true, ['cut', 'ok']]);
  const home = await stream('cut-home');
  check(home.done && home.text.startsWith('The quick') && home.text.length > 20, home.raw);
  equal(home.receipt.target, 'tiny');
});

up('what left for a place that cut at once is counted, on a kept connection too', async () => {
  await ask('cloud');
  const r = await ask('cut-now');
  const [cut, ok] = r.nigh_receipt.hops;
  equal([cut.ended, ok.ended], ['cut', 'ok']);
  check(cut.bytes_out > 100 && r.nigh_receipt.bytes_out === cut.bytes_out + ok.bytes_out, JSON.stringify(r.nigh_receipt));
});

up('escalation goes by declared grounds only', async () => {
  const no = await ask('long');
  equal([no.status, no.error.code], [400, 'context_length_exceeded']);
  equal((await ask('long-on')).placement.target, 'good');
  const words = user('Once upon a time. '.repeat(3000));
  equal((await ask('local', { messages: words })).error.code, 'context_length_exceeded');
  const up = await ask('local-long', { messages: words });
  equal([up.placement.target, up.nigh_receipt.hops[0].ended], ['good', 'context']);
  const sure = await ask('sure');
  equal([sure.placement.target, sure.nigh_receipt.hops[0].ended], ['good', 'unsure']);
  const alone = await ask('sure-alone');
  equal([alone.status, alone.placement.target, alone.nigh_receipt.degraded], [200, 'tiny', true]);
});

up('what may not leave does not', async () => {
  provider.clear();
  const r = await ask('cloud', {}, { 'x-data-class': 'secret' });
  equal([r.status, r.error.code], [403, 'policy_no_target']);
  equal((await ask('edge-secret')).status, 403);
  equal((await ask('cloud', {}, { 'x-data-class': 'nobody-knows' })).status, 403);
  equal(provider.seen().length, 0);
});

up('what is found in a request raises its class', async () => {
  provider.clear();
  const pii = await ask('cloud', { messages: user('Write to anna.schmidt@web.de') });
  equal([pii.status, pii.placement.class, pii.nigh_receipt.redacted], [200, 'personal', 1]);
  check(!provider.seen()[0].body.includes('anna'), provider.seen()[0].body);
  const secret = await ask('cloud', { messages: user('key sk-proj-abcdefghijklmnopqrstuvwxyz123456') });
  equal([secret.status, secret.placement.class, secret.error.code], [403, 'secret', 'policy_no_target']);
  equal((await ask('cloud')).placement.class, 'public');
});

up('kept answers: a repeat, a stale one without a line, and never for another user', async () => {
  provider.clear();
  const as = (name) => ({ 'x-nigh-user': name });
  const first = await ask('kept', {}, as('a'));
  const again = await ask('kept', {}, as('a'));
  equal([again.choices[0].message.content, provider.seen().length, again.placement.why, again.nigh_receipt.bytes_out],
    [first.choices[0].message.content, 1, 'cache', 0]);
  equal(again.nigh_receipt.cache.receipt, first.nigh_receipt.id);
  await ask('kept', {}, as('b'));
  equal(provider.seen().length, 2);
  await n.post('/nigh/offline', { offline: true });
  const stale = await ask('kept', {}, as('a')), none = await ask('kept', {}, as('c'));
  await n.post('/nigh/offline', { offline: false });
  equal([stale.status, stale.nigh_receipt.degraded, none.status, none.error.param], [200, true, 503, 'offline']);
  check(stale.nigh_receipt.degraded_how.startsWith('cache; age='), stale.nigh_receipt.degraded_how);
});

up('without a line a request waits, is answered later, and only its user sees it', async () => {
  await n.post('/nigh/offline', { offline: true });
  const headers = { 'idempotency-key': 'once', 'x-nigh-user': 'a' };
  const r = await ask('queued', {}, headers), twice = await ask('queued', {}, headers);
  equal([r.status, r.object, twice.id], [202, 'nigh.queued', r.id]);
  const s = await stream('queued');
  equal([s.done, s.error.code], [false, 'queued']);
  const get = (id, who) => fetch(`http://${n.host}/v1/queue/${id}`, { headers: { 'x-nigh-user': who } });
  equal((await (await get(r.id, 'a')).json()).status, 'waiting');
  equal((await get(r.id, 'b')).status, 404);
  await n.post('/nigh/offline', { offline: false });
  let e;
  for (let i = 0; i < 100 && e?.status !== 'answered'; i++) {
    e = await (await get(r.id, 'a')).json();
    await sleep(100);
  }
  equal([e.status, e.response.choices[0].message.content, e.receipt], ['answered', SENTENCE, e.response.nigh_receipt.id]);
  check(e.response.nigh_receipt.degraded_how.startsWith('queue; waited='), JSON.stringify(e));
  const gone = await fetch(`http://${n.host}/v1/queue/${r.id}`, { method: 'DELETE', headers: { 'x-nigh-user': 'a' } });
  equal([gone.status, (await get(r.id, 'a')).status], [200, 404]);
});

up('the ledger has a record of each answer, and no word of it', async () => {
  const r = await ask('edge', { messages: user('xk9canary') });
  const all = await (await fetch(`http://${n.host}/nigh/ledger?feature=edge&limit=10`)).json();
  check(all.records.some((x) => JSON.stringify(x).includes(r.nigh_receipt.id)), JSON.stringify(all).slice(0, 500));
  const where = await fetch(`http://${n.host}/nigh/where/${r.nigh_receipt.id}`);
  equal(where.status, 200);
  equal((await fetch(`http://${n.host}/nigh/where/rcpt-0000000000000000`)).status, 404);
  const plain = await n.post('/v1/chat/completions', { messages: user('xk9canary'), max_tokens: 2 });
  const id = (await plain.json()).nigh_receipt.id;
  equal((await fetch(`http://${n.host}/nigh/where/${id}`)).status, 200);
  for (const name of ['ledger.db', 'ledger.db-wal', 'queue.db', 'queue.db-wal', 'spent']) {
    const at = path.join(n.home, name);
    if (existsSync(at)) check(!readFileSync(at).includes('xk9canary'), `words in ${name}`);
  }
  check(!n.err.includes('canary') && !n.out.includes('canary'), 'words in the log');
});

up('a client that leaves ends the transfer', async () => {
  const before = provider.stats().open;
  provider.set({ never: 1, gap: 20 });
  const end = new AbortController();
  const r = await n.post('/v1/chat/completions', { model: 'feature/cloud', messages: user('a'), stream: true }, {},
    { signal: end.signal });
  await r.body.getReader().read();
  end.abort();
  for (let i = 0; i < 40 && provider.stats().open > before; i++) await sleep(50);
  provider.set({});
  equal(provider.stats().open, before, 'open transfers');
});

up("OpenAI's own client: a feature as a model, whole, streamed, tools, errors", async () => {
  const there = existsSync(path.join(root, 'tests/web/node_modules/openai'));
  if (!there) skip('tests/web/node_modules is not installed (npm ci in tests/web)');
  const OpenAI = (await import(path.join(root, 'tests/web/node_modules/openai/index.mjs'))).default;
  const client = new OpenAI({ baseURL: `http://${n.host}/v1`, apiKey: 'any', maxRetries: 0 });
  const r = await client.chat.completions.create({ model: 'feature/cloud', messages: user('a') });
  equal(r.choices[0].message.content, SENTENCE);
  let text = '';
  for await (const c of await client.chat.completions.create({ model: 'feature/cut-client-on', messages: user('a'),
    stream: true }))
    text += c.choices[0]?.delta.content ?? '';
  equal(text, SENTENCE);
  const tools = [{ type: 'function', function: { name: 'tool_0', parameters: { type: 'object', properties: {} } } }];
  const run = client.chat.completions.stream({ model: 'feature/tools', messages: user('a'), tools });
  equal((await run.finalChatCompletion()).choices[0].message.tool_calls.length, 2);
  const refused = await client.chat.completions.create({ model: 'feature/edge-secret', messages: user('a') }).catch((e) => e);
  equal([refused.status, refused.code], [403, 'policy_no_target']);
  let thrown;
  try {
    for await (const c of await client.chat.completions.create({ model: 'feature/cut-client', messages: user('a'),
      stream: true }))
      check(c.id);
  } catch (e) {
    thrown = e;
  }
  check(thrown, 'a cut looked complete');
});

if (all.error)
  test('the nodes start', () => {
    throw all.error;
  });
process.on('exit', () => provider.close());
void edge;
await main('test_place_away');
