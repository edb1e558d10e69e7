// test_openai.mjs - OpenAI's own client for Node against a node of ours: what it sends is taken, what it reads is there.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Node, check, equal, main, root, skip, test } from '../node/node.mjs';

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
