// test_anthropic.mjs - Anthropic's own client for Node against a node of ours: a model here, and features of a policy that
// run at providers of all three formats. What the client sends is taken, what it reads is there, errors are of its classes.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Node, anyModel, check, equal, main, program, root, skip, test } from '../node/node.mjs';
import { startProvider } from './provider.mjs';

const there = existsSync(path.join(root, 'tests/web/node_modules/@anthropic-ai/sdk'));
const Anthropic = there ? (await import('@anthropic-ai/sdk')).default : null;
const folder = mkdtempSync(path.join(tmpdir(), 'nigh-anthropic-'));
const provider = await startProvider();
const here = path.basename(anyModel() ?? 'none.gguf', '.gguf');

function writePolicy() {
  const cloud = (name, api = 'openai-chat') => ({
    tier: 'cloud', model: `any?${name}`, url: provider.url, key: 'env:PLACE_TEST_KEY', region: 'FR', retention: 'none', trains: false,
    cost: { in: 2, out: 6 }, context_tokens: 100000, can: ['tools', 'json', 'vision'], api,
  });
  const apis = ['openai-chat', 'openai-responses', 'anthropic'];
  const targets = {
    tiny: { tier: 'device', model: here }, echo: cloud('echo=1'), cut: cloud('cut=3&gap=30'),
    ...Object.fromEntries(apis.map((api) => [`tools-${api}`, cloud('tools=2', api)])),
    broken: cloud('refuse=1'),
  };
  const feature = (place, more = {}) => ({
    class: 'public', place, retention: { prompt: '0', output: '1h', cache: '1h' }, latency: { total_ms: 8000 }, ...more,
  });
  const file = path.join(folder, 'features.json');
  writeFileSync(file, JSON.stringify({
    version: 1,
    classes: {
      public: { level: 0, may_cross: ['device', 'edge', 'cloud'] },
      personal: { level: 2, may_cross: ['device', 'cloud:redacted'], redact: ['pii', 'secrets'] },
    },
    targets,
    features: {
      local: feature(['tiny']), echo: feature(['echo']), personal: feature(['echo'], { class: 'personal' }), cut: feature(['cut']),
      kept: feature(['tools-openai-chat'], { cache: 'user' }), queued: feature(['broken'], { degrade: ['queue:<=1h', 'error'] }),
      private_tools: feature(['tools-openai-chat'], { class: 'personal' }),
      ...Object.fromEntries(apis.map((api) => [`tools-${api}`, feature([`tools-${api}`])])),
    },
    aliases: { 'claude-of-ours': 'local' },
  }));
  return file;
}

const start = () =>
  Node.start(['--policy', writePolicy(), '--allow-private', `127.0.0.1:${provider.port}`], {
    env: { PLACE_TEST_KEY: 'provider-key-000' },
  });
const n = there ? await start().catch((e) => ({ error: e })) : null;
const client = n && !n.error ? new Anthropic({ baseURL: `http://${n.host}`, apiKey: 'anything', maxRetries: 0 }) : null;
const up = (name, run) =>
  test(name, () => {
    if (!there) skip('tests/web/node_modules is not installed (npm ci in tests/web)');
    if (n.error) throw n.error;
    return run();
  });
const user = (content) => [{ role: 'user', content }];
const ask = { model: here, max_tokens: 16, messages: user('Once upon a time') };
const tools = [{ name: 'weather', description: 'of a town', input_schema: { type: 'object', properties: { town: { type: 'string' } } } }];
const failure = (promise) => promise.then(() => null, (e) => e);

up('a whole answer', async () => {
  const { data: r, response } = await client.messages.create({ ...ask, system: 'You tell stories.' }).withResponse();
  equal([r.type, r.role, r.model, r.stop_reason, r.stop_sequence], ['message', 'assistant', here, 'max_tokens', null]);
  equal([r.content.length, r.content[0].type, r.usage.output_tokens], [1, 'text', 16]);
  check(r.content[0].text.length > 0 && r.usage.input_tokens > 4, JSON.stringify(r));
  check(response.headers.get('nigh-receipt').includes(`id=${r.nigh_receipt.id}`), 'the receipt of the header');
  equal([r.nigh_receipt.place, r.nigh_receipt.bytes_out], ['device', 0]);
});

up('a stream: every event in its order, and the same text', async () => {
  const whole = await client.messages.create({ ...ask, temperature: 0 });
  const types = [];
  let text = '', last = null, delta = null;
  for await (const e of await client.messages.create({ ...ask, temperature: 0, stream: true })) {
    if (types.at(-1) !== e.type) types.push(e.type);
    if (e.type === 'content_block_delta') text += e.delta.text;
    if (e.type === 'message_delta') delta = e;
    last = e;
  }
  equal(types, ['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop', 'message_delta', 'message_stop']);
  equal([text, delta.delta.stop_reason, delta.usage.output_tokens], [whole.content[0].text, 'max_tokens', 16]);
  equal([last.nigh_receipt.place, delta.usage.input_tokens + delta.usage.cache_read_input_tokens > 0], ['device', true]);
});

up('the helper that gathers a stream', async () => {
  const stream = client.messages.stream({ ...ask, temperature: 0 });
  const pieces = [];
  stream.on('text', (t) => pieces.push(t));
  const r = await stream.finalMessage();
  equal([pieces.join(''), r.stop_reason], [r.content[0].text, 'max_tokens']);
});

up('a stop sequence is named', async () => {
  const stop = { ...ask, temperature: 0, max_tokens: 100, stop_sequences: ['never so', '.'] };
  const r = await client.messages.create(stop);
  equal([r.stop_reason, r.stop_sequence, r.content[0].text.includes('.')], ['stop_sequence', '.', false]);
  const s = await client.messages.stream(stop).finalMessage();
  equal([s.stop_reason, s.stop_sequence, s.content], ['stop_sequence', '.', r.content]);
});

up('tokens are counted as they are used', async () => {
  const system = [{ type: 'text', text: 'You tell stories.', cache_control: { type: 'ephemeral' } }];
  const count = await client.messages.countTokens({ model: here, messages: ask.messages, system });
  const { usage } = await client.messages.create({ ...ask, system });
  equal(count.input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
  const feature = await client.messages.countTokens({ model: 'feature/echo', messages: ask.messages, tools });
  check(feature.input_tokens > 5, 'an estimate for a feature');
  const wrong = await failure(client.messages.countTokens({ model: 'none', messages: ask.messages }));
  equal([wrong.constructor.name, wrong.status], ['NotFoundError', 404]);
});

up('a policy: a feature, an alias, a provider', async () => {
  const { data: r, response } = await client.messages.create({ ...ask, model: 'feature/echo' }).withResponse();
  equal(r.content, [{ type: 'text', text: 'Once upon a time' }]);
  equal([r.stop_reason, r.nigh_receipt.tier, r.nigh_receipt.target], ['end_turn', 'cloud', 'echo']);
  check(/^tier=cloud;target=echo/.test(response.headers.get('x-placement')), response.headers.get('x-placement'));
  check(r.usage.output_tokens > 0 && r.nigh_receipt.bytes_out > 0, JSON.stringify(r));
  const alias = await client.messages.create({ ...ask, model: 'claude-of-ours' });
  equal([alias.model, alias.nigh_receipt.feature], [here, 'local']);
  const s = await client.messages.stream({ ...ask, model: 'feature/echo' }).finalMessage();
  equal([s.content[0].text, s.stop_reason], ['Once upon a time', 'end_turn']);
});

up('private values stay here and come back', async () => {
  const said = 'Write to ann.example@mail.example.com now';
  provider.clear();
  const r = await client.messages.stream({ ...ask, model: 'feature/personal', messages: user([{ type: 'text', text: said }]) }).finalMessage();
  equal(r.content[0].text, said);
  check(!provider.seen()[0].body.includes('ann.example'), 'it left');
});

for (const api of ['openai-chat', 'openai-responses', 'anthropic'])
  up(`tools by way of ${api}, whole and streamed`, async () => {
    const request = { ...ask, model: `feature/tools-${api}`, tools, tool_choice: { type: 'auto' } };
    const r = await client.messages.create(request);
    const s = await client.messages.stream(request).finalMessage();
    for (const m of [r, s]) {
      equal([m.stop_reason, m.content.map((b) => b.type)], ['tool_use', ['tool_use', 'tool_use']]);
      check(m.content[0].id && m.content[0].id !== m.content[1].id && m.content[0].name, JSON.stringify(m.content));
      equal(typeof m.content[0].input, 'object');
    }
    equal(s.content.map((b) => [b.name, b.input]), r.content.map((b) => [b.name, b.input]));
    check(Object.keys(r.content[1].input).length > 0, 'arguments');
    provider.clear();
    await client.messages.create({
      ...request,
      messages: [
        ...ask.messages,
        { role: 'assistant', content: [{ type: 'thinking', thinking: 'hm', signature: 'x' }, { type: 'text', text: 'I look.' }, ...r.content] },
        { role: 'user', content: [
          { type: 'tool_result', tool_use_id: r.content[0].id, content: 'rain' },
          { type: 'tool_result', tool_use_id: r.content[1].id, content: [{ type: 'text', text: 'sun' }], is_error: true },
          { type: 'text', text: 'And now?' },
        ] },
      ],
    });
    const sent = provider.seen()[0].body;
    check(['I look.', 'rain', 'sun', 'And now?', r.content[1].id].every((word) => sent.includes(word)) && !sent.includes('hm"'), sent);
  });

up('tools behind redaction and out of the cache', async () => {
  const request = { ...ask, model: 'feature/private_tools', tools, messages: user('mail ann.example@mail.example.com') };
  const s = await client.messages.stream(request).finalMessage();
  equal(s.content.map((b) => b.type), ['tool_use', 'tool_use']);
  const kept = { ...ask, model: 'feature/kept', tools }, as = { headers: { 'x-nigh-user': 'a' } };
  const first = await client.messages.create(kept, as);
  const again = await client.messages.stream(kept, as).finalMessage();
  const third = await client.messages.create(kept, as);
  equal([again.content, third.content, third.nigh_receipt.why], [first.content, first.content, 'cache']);
  const functions = tools.map((t) => ({ type: 'function', function: { name: t.name, description: t.description, parameters: t.input_schema } }));
  const chat = await (await n.post('/v1/chat/completions', { ...kept, tools: functions }, as.headers)).json();
  equal([chat.nigh_receipt.why, chat.choices[0].message.tool_calls.map((t) => t.id)], ['cache', first.content.map((b) => b.id)]);
});

up('errors are of the right class, in Anthropic\'s shape', async () => {
  const none = await failure(client.messages.create({ ...ask, model: 'no-such-model' }));
  equal([none.constructor.name, none.status, none.error.type, none.error.error.type], ['NotFoundError', 404, 'error', 'not_found_error']);
  check(none.requestID?.startsWith('req-') && none.error.request_id === none.requestID, 'a request id');
  const range = await failure(client.messages.create({ ...ask, temperature: 3 }));
  equal([range.constructor.name, range.error.error.type, range.error.error.param], ['BadRequestError', 'invalid_request_error', 'temperature']);
  const long = await failure(client.messages.create({ ...ask, messages: user('long '.repeat(9000)) }));
  check(long.status === 400 && long.error.error.message.startsWith('prompt is too long'), JSON.stringify(long.error));
  const forced = await failure(client.messages.create({ ...ask, tools, tool_choice: { type: 'any' } }));
  equal([forced.status, forced.error.error.param], [501, 'tool_choice']);
  const source = { type: 'text', media_type: 'text/plain', data: 'x' };
  const file = await failure(client.messages.create({ ...ask, messages: user([{ type: 'document', source }]) }));
  equal([file.status, file.error.error.code], [501, 'unsupported_value']);
});

up('errors before any handler, and limits', async () => {
  const said = async (r) => { const body = await r.json(); return [r.status, body.type, body.error.type, body.error.code]; };
  const large = { ...ask, messages: user('x'.repeat(1 << 20)) };
  equal(await said(await n.post('/v1/messages', large)), [413, 'error', 'request_too_large', 'body_too_large']);
  equal(await said(await n.post('/v1/messages', ask, { 'content-type': 'text/plain' })), [415, 'error', 'invalid_request_error',
    'unsupported_media_type']);
  equal(await said(await n.post('/v1/messages?beta=true', '{"max_tokens":')), [400, 'error', 'invalid_request_error', 'invalid_json']);
  equal(await said(await n.post('/v1/messages', { ...ask, max_tokens: undefined })), [400, 'error', 'invalid_request_error', 'missing']);
  const many = Array.from({ length: 2049 }, () => ({ role: 'user', content: 'a' }));
  equal(await said(await n.post('/v1/messages', { ...ask, messages: many })), [400, 'error', 'invalid_request_error', 'too_many']);
  equal((await n.post('/messages', ask)).status, 200);
});

up('a stream that breaks throws', async () => {
  const broken = await failure(client.messages.stream({ ...ask, model: 'feature/cut' }).finalMessage());
  check(/broke off/.test(broken?.message ?? ''), String(broken));
});

up('a request that was queued is an error, once', async () => {
  const patient = new Anthropic({ baseURL: `http://${n.host}`, apiKey: 'anything', maxRetries: 3 });
  provider.clear();
  const queued = await failure(patient.messages.create({ ...ask, model: 'feature/queued' }));
  equal([queued.status, queued.error.error.code], [409, 'queued']);
  check(/GET \/v1\/queue\//.test(queued.message), queued.message);
  const streamed = await failure(client.messages.stream({ ...ask, model: 'feature/queued' }).finalMessage());
  check(/queued as/.test(streamed.message), streamed.message);
});

up('x-api-key is the key', async () => {
  const home = mkdtempSync(path.join(tmpdir(), 'nigh-key-'));
  const key = spawnSync(program, ['serve', '--new-key'], { env: { ...process.env, NIGH_HOME: home }, encoding: 'utf8' }).stdout
    .match(/nigh-[0-9a-f]{64}/)[0];
  const locked = await Node.start([], { home });
  const good = new Anthropic({ baseURL: `http://${locked.host}`, apiKey: key, maxRetries: 0 });
  equal((await good.messages.create(ask)).type, 'message');
  const bad = new Anthropic({ baseURL: `http://${locked.host}`, apiKey: 'wrong', maxRetries: 0 });
  const refused = await failure(bad.messages.create(ask));
  equal([refused.constructor.name, refused.error?.error?.type], ['AuthenticationError', 'authentication_error']);
  await locked.stop();
  rmSync(home, { recursive: true });
});

up('leaving a stream ends its sequence', async () => {
  const stream = await client.messages.create({ ...ask, max_tokens: 480, stream: true });
  for await (const e of stream) if (e.type === 'content_block_delta') break;
  await new Promise((done) => setTimeout(done, 250));
  equal(await n.metric('nigh_running_sequences'), 0);
});

process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
await main('test_anthropic');
