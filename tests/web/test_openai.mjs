// test_openai.mjs - OpenAI's own client for Node against a node of ours: what it sends is taken, what it reads is there.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Node, check, equal, main, root, skip, test } from '../node/node.mjs';
import { startProvider } from './provider.mjs';

const there = existsSync(path.join(root, 'tests/web/node_modules/openai'));
const OpenAI = there ? (await import('openai')).default : null;
const n = there ? await Node.start().catch((e) => ({ error: e })) : null;
const client =
  n && !n.error ? new OpenAI({ baseURL: `http://${n.host}/v1`, apiKey: 'anything', maxRetries: 0 }) : null;
const up = (name, run) =>
  test(name, () => {
    if (!there) skip('tests/web/node_modules is not installed (npm ci in tests/web)');
    if (n.error) throw n.error;
    return run();
  });
const model = async () => (await client.models.list()).data[0].id;
const messages = [
  { role: 'system', content: 'You tell stories.' },
  { role: 'user', content: 'Once upon a time' },
];

up('models: list and retrieve', async () => {
  const id = await model();
  equal((await client.models.retrieve(id)).id, id);
  const wrong = await client.models.retrieve('no/such:model').catch((e) => e);
  equal([wrong.constructor.name, wrong.status, wrong.code], ['NotFoundError', 404, 'model_not_found']);
});

up('chat, whole', async () => {
  const r = await client.chat.completions.create({
    model: await model(),
    messages,
    max_completion_tokens: 12,
    temperature: 0.8,
    seed: 5,
    n: 2,
  });
  equal(r.choices.length, 2);
  check(
    r.choices[0].message.content.length > 0 && r.usage.completion_tokens === 24 && r.nigh_receipt.bytes_out === 0,
    JSON.stringify(r),
  );
});

up('chat, streamed, equals the whole answer', async () => {
  const ask = { model: await model(), messages, max_tokens: 20, temperature: 0.8, seed: 5 };
  const whole = await client.chat.completions.create(ask);
  const stream = await client.chat.completions.create({
    ...ask,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '',
    usage = null,
    last = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage ??= chunk.usage;
    last = chunk;
  }
  equal(text, whole.choices[0].message.content);
  equal(usage.completion_tokens, 20);
  equal(last.nigh_receipt.place, 'device');
});

up('the helper that gathers a stream', async () => {
  const runner = client.chat.completions.stream({ model: await model(), messages, max_tokens: 10, seed: 1 });
  const deltas = [];
  runner.on('content', (d) => deltas.push(d));
  const r = await runner.finalChatCompletion();
  equal(deltas.join(''), r.choices[0].message.content);
  equal(r.choices[0].finish_reason, 'length');
});

up('completions, whole and streamed', async () => {
  const ask = { model: await model(), prompt: 'Once upon a time', max_tokens: 16, temperature: 0 };
  const whole = await client.completions.create(ask);
  let text = '';
  for await (const c of await client.completions.create({ ...ask, stream: true })) text += c.choices[0]?.text ?? '';
  equal(text, whole.choices[0].text);
});

up('embeddings: the client asks for base64 on its own', async () => {
  const plain = await client.embeddings.create({
    model: await model(),
    input: ['a dog', 'a cat'],
    encoding_format: 'float',
  });
  const packed = await client.embeddings.create({ model: await model(), input: ['a dog', 'a cat'] });
  equal(packed.data[1].embedding.map(Math.fround), plain.data[1].embedding.map(Math.fround));
});

up('errors are of the right class', async () => {
  const bad = await client.chat.completions.create({ model: await model(), messages: [] }).catch((e) => e);
  equal([bad.constructor.name, bad.status, bad.param], ['BadRequestError', 400, 'messages']);
  const range = await client.chat.completions
    .create({ model: await model(), messages, temperature: 3 })
    .catch((e) => e);
  equal([range.status, range.param, range.code], [400, 'temperature', 'out_of_range']);
  const long = await client.completions
    .create({ model: await model(), prompt: 'long '.repeat(9000) })
    .catch((e) => e);
  equal(long.code, 'context_length_exceeded');
  const none = await client.chat.completions.create({ model: 'gpt-4o', messages }).catch((e) => e);
  equal([none.constructor.name, none.code], ['NotFoundError', 'model_not_found']);
  check((none.requestID ?? '').startsWith('req-'), 'a request id');
});

up('aborting a stream ends its sequence', async () => {
  const stream = await client.completions.create({
    model: await model(),
    prompt: 'Once',
    max_tokens: 480,
    stream: true,
    ignore_eos: true,
  });
  for await (const c of stream) {
    check(c.id);
    break;
  } // leaving the loop aborts
  await new Promise((done) => setTimeout(done, 250));
  equal(await n.metric('nigh_running_sequences'), 0);
});

up('tools are taken, and an answer comes', async () => {
  const tools = [
    {
      type: 'function',
      function: {
        name: 'weather',
        description: 'of a town',
        parameters: { type: 'object', properties: { town: { type: 'string' } } },
      },
    },
  ];
  const r = await client.chat.completions.create({
    model: await model(),
    messages,
    tools,
    tool_choice: 'auto',
    max_tokens: 4,
  });
  equal(r.choices.length, 1);
});

// ---- responses ----

const story = { input: 'Once upon a time', max_output_tokens: 12, temperature: 0 };

up('responses, whole: every member is there', async () => {
  const { data: r, response } = await client.responses
    .create({ ...story, model: await model(), instructions: 'You tell stories.', store: true, metadata: { a: 'b' } })
    .withResponse();
  equal([r.object, r.status, r.incomplete_details, r.error], ['response', 'incomplete', { reason: 'max_output_tokens' }, null]);
  equal([r.output.length, r.output[0].type, r.output[0].content[0].type], [1, 'message', 'output_text']);
  check(r.output_text.length > 0 && r.usage.output_tokens === 12 && r.usage.input_tokens > 4, JSON.stringify(r));
  equal([r.store, r.previous_response_id, r.instructions, r.metadata], [false, null, 'You tell stories.', { a: 'b' }]);
  const members = `id object created_at completed_at status incomplete_details model previous_response_id instructions output error tools
    tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs temperature reasoning usage
    max_output_tokens max_tool_calls store background service_tier metadata safety_identifier prompt_cache_key`.split(/\s+/);
  equal(members.filter((m) => !(m in r)), [], 'what is missing');
  check(response.headers.get('nigh-receipt').includes(r.nigh_receipt.id), 'the receipt of the header');
});

up('responses, streamed: every event, in its order, numbered; the helper folds them', async () => {
  const ask = { ...story, model: await model() };
  const whole = await client.responses.create(ask);
  const types = [];
  let text = '', last = null, count = 0;
  for await (const e of await client.responses.create({ ...ask, stream: true })) {
    equal(e.sequence_number, count++);
    if (types.at(-1) !== e.type) types.push(e.type);
    if (e.type === 'response.output_text.delta') text += e.delta;
    if (e.type === 'response.output_text.done') equal(e.text, text);
    last = e;
  }
  equal(types, ['created', 'in_progress', 'output_item.added', 'content_part.added', 'output_text.delta', 'output_text.done',
    'content_part.done', 'output_item.done', 'incomplete'].map((t) => `response.${t}`));
  equal([text, last.response.output[0].content[0].text, last.response.nigh_receipt.place], [whole.output_text, text, 'device']);
  const deltas = [];
  const runner = client.responses.stream({ ...ask, max_output_tokens: 400 });
  runner.on('response.output_text.delta', (e) => deltas.push(e.delta));
  const r = await runner.finalResponse();
  equal(deltas.join(''), r.output[0].content[0].text);
});

up('responses: a conversation with calls of tools, text in parts, tools nobody knows', async () => {
  const r = await client.responses.create({
    ...story,
    model: await model(),
    input: [
      { role: 'developer', content: 'Be brief.' },
      { role: 'user', content: [{ type: 'input_text', text: 'The weather?' }] },
      { type: 'reasoning', id: 'rs_1', summary: [] },
      { type: 'function_call', call_id: 'c1', name: 'weather', arguments: '{"town":"Paris"}' },
      { type: 'function_call_output', call_id: 'c1', output: 'rain' },
      { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'It rains.', annotations: [] }] },
      { role: 'user', content: 'And then?' },
    ],
    tools: [{ type: 'function', name: 'weather', parameters: { type: 'object', properties: {} }, strict: false }, { type: 'web_search' }],
    include: ['reasoning.encrypted_content'],
    store: false,
  });
  equal([r.output[0].type, r.tools.length], ['message', 2]);
});

up('responses: what cannot be is refused by name', async () => {
  const id = await model();
  const refused = async (more) => {
    const e = await client.responses.create({ model: id, input: 'a', ...more }).then(() => null, (x) => x);
    return [e?.status, e?.param, e?.code];
  };
  equal(await refused({ previous_response_id: 'resp_1' }), [501, 'previous_response_id', 'unsupported_value']);
  equal(await refused({ background: true }), [501, 'background', 'unsupported_value']);
  equal(await refused({ tool_choice: 'required' }), [501, 'tool_choice', 'unsupported_value']);
  equal(await refused({ text: { format: { type: 'json_object' } } }), [501, 'text.format', 'unsupported_value']);
  equal(await refused({ max_output_tokens: 0 }), [400, 'max_output_tokens', 'out_of_range']);
  equal(await refused({ input: 'long '.repeat(9000) }), [400, 'input', 'context_length_exceeded']);
  equal(await refused({ model: 'gpt-5' }), [404, 'model', 'model_not_found']);
});

up('responses by way of a provider: calls of tools, whole and streamed; a stream that breaks throws', async () => {
  const provider = await startProvider();
  const folder = mkdtempSync(path.join(tmpdir(), 'nigh-responses-'));
  const cloud = (name) => ({
    tier: 'cloud', model: name, url: provider.url, key: 'env:PLACE_TEST_KEY', region: 'FR', retention: 'none', trains: false,
    cost: { in: 2, out: 6 }, context_tokens: 100000, can: ['tools'],
  });
  const feature = (name) => ({ class: 'public', place: [name], retention: { prompt: '0' }, latency: { total_ms: 8000 } });
  const file = path.join(folder, 'features.json');
  writeFileSync(file, JSON.stringify({
    version: 1, classes: { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] } },
    targets: { tools: cloud('any?tools=2'), cut: cloud('any?cut=3&gap=30'), text: cloud('good') },
    features: { tools: feature('tools'), cut: feature('cut'), text: feature('text') },
  }));
  const node = await Node.start(['--policy', file, '--allow-private', `127.0.0.1:${provider.port}`], { env: { PLACE_TEST_KEY: 'k' } });
  const c = new OpenAI({ baseURL: `http://${node.host}/v1`, apiKey: 'x', maxRetries: 0 });
  const ask = { model: 'feature/tools', input: 'a', tools: [{ type: 'function', name: 'tool_0', parameters: {}, strict: false }] };
  const r = await c.responses.create(ask), s = await c.responses.stream(ask).finalResponse();
  const calls = (x) => x.output.map((o) => [o.type, o.status, o.call_id, o.name, JSON.parse(o.arguments).n]);
  equal(calls(r), [['function_call', 'completed', 'call_0', 'tool_0', 0], ['function_call', 'completed', 'call_1', 'tool_1', 1]]);
  equal([calls(s), s.status, s.nigh_receipt.target], [calls(r), 'completed', 'tools']);
  const types = [];
  for await (const e of await c.responses.create({ ...ask, stream: true })) if (types.at(-1) !== e.type) types.push(e.type);
  const call = ['output_item.added', 'function_call_arguments.delta', 'function_call_arguments.done', 'output_item.done'];
  equal(types, ['created', 'in_progress', ...call, ...call, 'completed'].map((t) => `response.${t}`));
  const text = await c.responses.stream({ model: 'feature/text', input: 'a' }).finalResponse();
  check(text.status === 'completed' && text.output[0].content[0].text.startsWith('The quick'), JSON.stringify(text));
  const broken = await c.responses.stream({ ...ask, model: 'feature/cut' }).finalResponse().then(() => null, (e) => e);
  check(/broke off/.test(broken?.message ?? ''), String(broken));
  const raw = await (await node.post('/v1/responses', { model: 'feature/cut', input: 'a', stream: true })).text();
  check(/event: error\n.*\n\nevent: response.failed\n.*"status":"failed"/.test(raw) && !raw.includes('[DONE]'), raw.slice(-800));
  await node.stop();
  await provider.close();
  rmSync(folder, { recursive: true });
});

up('a busy node is asked again after the time it named', async () => {
  const busy = await Node.start(['--parallel', '1', '--queue', '1']);
  const patient = new OpenAI({ baseURL: `http://${busy.host}/v1`, apiKey: 'x', maxRetries: 10 });
  const all = await Promise.all(
    Array.from({ length: 6 }, (_, i) =>
      patient.completions.create({ model: '', prompt: `a ${i}`, max_tokens: 60, ignore_eos: true }),
    ),
  );
  equal(all.length, 6);
  check((await busy.metric('nigh_refused_busy_total')) > 0, 'nothing was refused');
  await busy.stop();
});

up('a node that ends says so in the stream: the client throws', async () => {
  const node = await Node.start();
  const c = new OpenAI({ baseURL: `http://${node.host}/v1`, apiKey: 'x', maxRetries: 0 });
  // Eight long answers behind one slow reader, so that the text cannot end within the time of grace.
  const stream = await c.chat.completions.create({
    model: '',
    messages,
    max_tokens: 500,
    n: 8,
    logprobs: true,
    top_logprobs: 20,
    stream: true,
    ignore_eos: true,
  });
  const start = Date.now();
  const finished = new Set();
  let end = null,
    thrown = null;
  try {
    for await (const chunk of stream) {
      check(chunk.id);
      for (const choice of chunk.choices) if (choice.finish_reason) finished.add(choice.index);
      if (!end) end = node.stop();
      if (Date.now() - start < 11000) await new Promise((done) => setTimeout(done, 20));
    }
  } catch (e) {
    thrown = e;
  }
  // A quick model may be through before it is stopped; what is cut may never look complete. A client that has not
  // read its buffer when the grace is over sees the connection break ("terminated").
  check(thrown || finished.size === 8, 'the stream ended quietly');
  if (thrown) check(/stopping|does not read|terminated/.test(thrown.message), thrown.message);
  await end;
});

await main('test_openai');
