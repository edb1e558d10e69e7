// test_api.mjs - the API: fields and their borders, answers, streams, errors, receipts (docs/api.md).
import { readFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { Node, check, equal, main, needing, program, root, test } from './node.mjs';

const n = await Node.start(['--parallel', '4']).catch((e) => ({ error: e }));
const up = needing(n);
const text = async (body) => {
  const r = await n.post('/v1/completions', body);
  return { status: r.status, headers: r.headers, ...(await r.json()) };
};
const chat = async (body) => {
  const r = await n.post('/v1/chat/completions', body);
  return { status: r.status, headers: r.headers, ...(await r.json()) };
};
const events = async (route, body) => {
  const all = await (await n.post(route, { ...body, stream: true })).text();
  return all
    .split('\n\n')
    .filter((e) => e)
    .map((e) => {
      check(e.startsWith('data: ') && !e.includes('\n'), `one line each: ${e}`);
      return e === 'data: [DONE]' ? 'DONE' : JSON.parse(e.slice(6));
    });
};
const minimal = {
  '/v1/completions': { prompt: 'Once', max_tokens: 1 },
  '/v1/chat/completions': { messages: [{ role: 'user', content: 'Once' }], max_tokens: 1 },
  '/v1/embeddings': { input: 'Once' },
};

up('S17 every field of the table at its borders', async () => {
  const fields = JSON.parse(spawnSync(program, ['serve', '--fields'], { encoding: 'utf8' }).stdout);
  const pid = n.child.pid;
  let tried = 0;
  for (const f of fields)
    for (const [route, on] of [
      ['/v1/completions', f.completions],
      ['/v1/chat/completions', f.chat],
      ['/v1/embeddings', f.embeddings],
    ]) {
      if (!on) continue;
      const values = [
        '-1',
        '2147483648',
        '9007199254740993',
        '9223372036854775808',
        '1e308',
        '-1e308',
        '-0',
        '"1"',
        'null',
        '[]',
        '{}',
        'true',
        '1.5',
        '0.5',
        '1e400',
        '99999999999999999999999',
        '""',
      ];
      if (f.kind === 'int' || f.kind === 'float')
        for (const d of [-1, 0, 1])
          for (const edge of [f.min, f.max]) values.push(String(BigInt(Math.trunc(edge)) + BigInt(d)));
      for (const v of values) {
        const body = JSON.stringify(minimal[route])
          .replace(new RegExp(`"${f.name}":[^,}]*,?`), '')
          .replace(/,}$/, '}');
        const few = ['n', 'best_of', 'seed', 'top_k'].includes(f.name) && route !== '/v1/embeddings';
        const more =
          (f.name === 'top_logprobs' ? ',"logprobs":true' : '') +
          (f.name === 'best_of' ? `,"n":${v}` : '') +
          (few && !body.includes('max_tokens') ? ',"max_tokens":1' : '');
        const full = `${body.slice(0, -1)}${body === '{}' ? '' : ','}"${f.name}":${v}${more}}`;
        const r = await n.post(route, full);
        const said = await r.text();
        const number = Number(v),
          isNumber = /^[-0-9.e+]+$/.test(v) && Number.isFinite(number);
        const whole = /^-?\d+$/.test(v) && BigInt(v) >= -(2n ** 63n) && BigInt(v) < 2n ** 63n;
        let good = v === 'null';
        if (f.kind === 'int') good ||= whole && number >= f.min && number <= f.max;
        if (f.kind === 'float') good ||= isNumber && number >= f.min && number <= f.max;
        if (f.kind === 'bool') good ||= v === 'true';
        if (f.kind === 'text') good ||= v === '""' || v === '"1"';
        const right =
          f.name === 'dimensions' && good && v !== 'null'
            ? [200, 400]
            : f.name === 'model' && v === '"1"'
              ? [404]
              : good
                ? [200]
                : [400];
        check(right.includes(r.status), `${route} ${f.name}=${v}: ${r.status} ${said.slice(0, 300)}`);
        if (r.status !== 200)
          check(JSON.parse(said).error.message && !said.includes('Once'), 'an error without the prompt');
        tried++;
      }
    }
  check(tried > 500, `only ${tried} values`);
  check(n.alive() && n.child.pid === pid, 'the node died');
});

up('docs/api.md has every field of the table', () => {
  const page = readFileSync(path.join(root, 'docs/api.md'), 'utf8');
  const fields = JSON.parse(spawnSync(program, ['serve', '--fields'], { encoding: 'utf8' }).stdout);
  for (const f of fields) {
    const of = ['completions', 'chat', 'embeddings'].filter((k) => f[k]).join(', ');
    check(
      page.includes(`| \`${f.name}\` | ${of} | ${f.kind} |`) && page.includes(f.note),
      `docs/api.md lacks ${f.name} of ${of}`,
    );
  }
});

up('shapes that are wrong', async () => {
  const rows = [
    ['/v1/completions', '{}'],
    ['/v1/completions', '[]'],
    ['/v1/completions', ''],
    ['/v1/completions', '{"prompt":"a"'],
    ['/v1/completions', '{"prompt":"a"}x'],
    ['/v1/completions', '\ufeff{"prompt":"a"}'],
    ['/v1/completions', '{"prompt":"a",}'],
    ['/v1/completions', '{"prompt":"\\ud800"}'],
    ['/v1/completions', '{"prompt":"a","prompt":"b"}'],
    ['/v1/completions', '{"prompt":NaN}'],
    ['/v1/completions', '{"prompt":{}}'],
    ['/v1/completions', '{"prompt":[]}'],
    ['/v1/completions', '{"prompt":[1.5]}'],
    ['/v1/completions', '{"prompt":[-1]}'],
    ['/v1/completions', '{"prompt":[99999999]}'],
    ['/v1/completions', '{"prompt":["a",1]}'],
    ['/v1/completions', '{"prompt":[[1],"a"]}'],
    ['/v1/completions', '{"prompt":[[]]}'],
    ['/v1/completions', `{"prompt":${JSON.stringify(Array(17).fill('a'))}}`],
    ['/v1/completions', `${'['.repeat(100000)}`],
    ['/v1/completions', `{"prompt":"a","x":${'['.repeat(65)}${']'.repeat(65)}}`],
    ['/v1/completions', '{"prompt":"a","stop":""}'],
    ['/v1/completions', '{"prompt":"a","stop":[1]}'],
    ['/v1/completions', `{"prompt":"a","stop":${JSON.stringify(Array(17).fill('a'))}}`],
    ['/v1/completions', `{"prompt":"a","stop":"${'a'.repeat(1025)}"}`],
    ['/v1/completions', '{"prompt":"a","logit_bias":[]}'],
    ['/v1/completions', '{"prompt":"a","logit_bias":{"x":1}}'],
    ['/v1/completions', '{"prompt":"a","logit_bias":{"1":101}}'],
    ['/v1/completions', '{"prompt":"a","logit_bias":{"99999999":1}}'],
    ['/v1/completions', '{"prompt":"a","logit_bias":{"-1":1}}'],
    ['/v1/completions', '{"prompt":"a","stream_options":1}'],
    ['/v1/completions', '{"prompt":"a","stream_options":{"include_usage":1}}'],
    ['/v1/completions', '{"prompt":"a","best_of":2}'],
    ['/v1/chat/completions', '{"messages":{}}'],
    ['/v1/chat/completions', '{"messages":[]}'],
    ['/v1/chat/completions', '{"messages":[[]]}'],
    ['/v1/chat/completions', '{"messages":[null]}'],
    ['/v1/chat/completions', '{"messages":[{"role":"nobody","content":"a"}]}'],
    ['/v1/chat/completions', '{"messages":[{"role":"user"}]}'],
    ['/v1/chat/completions', '{"messages":[{"role":"user","content":1}]}'],
    ['/v1/chat/completions', '{"messages":[{"role":"user","content":[1]}]}'],
    ['/v1/chat/completions', '{"messages":[{"role":"user","content":[{"type":"text"}]}]}'],
    ['/v1/chat/completions', '{"messages":[{"role":"user","content":"a"}],"top_logprobs":1}'],
    ['/v1/chat/completions', '{"messages":[{"role":"user","content":"a"}],"tools":[{"function":{"name":""}}]}'],
    ['/v1/embeddings', '{"input":[]}'],
    ['/v1/embeddings', '{"input":"a","encoding_format":"int8"}'],
    ['/v1/embeddings', '{"input":"a","dimensions":1}'],
  ];
  for (const [route, body] of rows) {
    const r = await n.post(route, body);
    equal(r.status, 400, `${route} ${body.slice(0, 80)}`);
    const e = (await r.json()).error;
    equal(Object.keys(e), ['message', 'type', 'param', 'code']);
    equal([e.type, r.headers.get('x-should-retry')], ['invalid_request_error', 'false']);
  }
  for (const [route, body] of [
    ['/v1/chat/completions', { ...minimal['/v1/chat/completions'], response_format: { type: 'json_object' } }],
    ['/v1/chat/completions', { ...minimal['/v1/chat/completions'], tool_choice: 'required' }],
    ['/v1/completions', { prompt: 'a', suffix: 'b' }],
    ['/v1/completions', { prompt: 'a', echo: true, logprobs: 1 }],
    [
      '/v1/chat/completions',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'file:///etc/passwd' } }] }] },
    ],
  ])
    equal((await n.post(route, body)).status, 501, JSON.stringify(body));
});

up('null and unknown fields are ignored', async () => {
  const r = await chat({
    messages: [{ role: 'user', content: 'Hi', name: null }],
    max_tokens: 2,
    stop: null,
    seed: null,
    logit_bias: null,
    tools: null,
    store: true,
    metadata: { a: 'b' },
    user: 'u',
    service_tier: 'auto',
    parallel_tool_calls: true,
    zzz: [1],
  });
  equal(r.status, 200);
});

up('completions: shape, usage, receipt', async () => {
  const r = await text({ prompt: 'Once upon a time', max_tokens: 8, seed: 7 });
  equal(
    [r.status, r.object, r.choices.length, r.choices[0].index, r.choices[0].finish_reason],
    [200, 'text_completion', 1, 0, 'length'],
  );
  equal(r.usage.completion_tokens, 8);
  equal(r.usage.total_tokens, r.usage.prompt_tokens + 8);
  const q = r.nigh_receipt;
  equal([q.place, q.bytes_out, q.to, q.degraded, q.model], ['device', 0, 'loopback', false, r.model]);
  check(/^[0-9a-f]{64}$/.test(q.model_sha256), 'a hash');
  const header = r.headers.get('nigh-receipt');
  equal(
    header,
    `place=device; model=${r.model}@sha256:${q.model_sha256}; out=0B; to=loopback; ms=${q.ms}; id=${q.id}`,
  );
  check(r.headers.get('x-request-id'), 'a request id');
});

up('same seed, same text; temperature 0 needs none; the stream says the same', async () => {
  const ask = { prompt: 'The dog', max_tokens: 24, seed: 42, temperature: 0.9 };
  const a = await text(ask),
    b = await text(ask);
  equal(a.choices[0].text, b.choices[0].text);
  const zero = { prompt: 'The dog', max_tokens: 24, temperature: 0 };
  equal((await text(zero)).choices[0].text, (await text(zero)).choices[0].text);
  const all = await events('/v1/completions', ask);
  equal(
    all
      .filter((e) => e.choices)
      .map((e) => e.choices[0]?.text ?? '')
      .join(''),
    a.choices[0].text,
  );
  equal(all.at(-1), 'DONE');
  check(
    all.at(-2).nigh_receipt.ms >= 0 && all.at(-2).choices[0].finish_reason === 'length',
    'the last event has the receipt',
  );
});

up('company, prefix reuse and the order of requests do not change an answer', async () => {
  const asks = Array.from({ length: 12 }, (_, i) => ({
    prompt: ['Once upon a time', 'The cat', 'Once upon a day', 'Lily and Tom went to the park. '.repeat(6)][i % 4],
    max_tokens: 20 + i,
    seed: i,
    temperature: 1,
  }));
  const alone = [];
  for (const a of asks) alone.push((await text(a)).choices[0].text);
  const together = (await Promise.all(asks.map(text))).map((r) => r.choices[0].text);
  equal(together, alone);
  check((await n.metric('nigh_cached_tokens_total')) > 0, 'something was reused');
});

up('n, several prompts, ids, echo', async () => {
  const r = await text({ prompt: ['Once', 'The cat'], n: 3, max_tokens: 12, temperature: 1.5, seed: 1 });
  equal(
    r.choices.map((c) => c.index),
    [0, 1, 2, 3, 4, 5],
  );
  equal(r.usage.completion_tokens, 72);
  check(new Set(r.choices.slice(0, 3).map((c) => c.text)).size > 1, 'answers differ');
  equal((await text({ prompt: 'Once', n: 8, max_tokens: 1 })).choices.length, 8);
  equal((await n.post('/v1/completions', { prompt: ['a', 'b', 'c', 'd', 'e'], n: 8 })).status, 400);
  const e = await text({ prompt: 'The cat', echo: true, max_tokens: 3, temperature: 0 });
  check(e.choices[0].text.startsWith('The cat') && e.choices[0].text.length > 7, e.choices[0].text);
  equal((await text({ prompt: [1, 403], max_tokens: 1 })).status, 200);
  equal((await text({ prompt: [[1, 403], [1]], max_tokens: 1 })).choices.length, 2);
  equal((await text({ prompt: '', max_tokens: 1 })).status, 200);
});

up('stop strings cut the text, also across tokens, and hold nothing back at the end', async () => {
  const free = (await text({ prompt: 'Once upon a time', max_tokens: 60, temperature: 0 })).choices[0].text;
  const at = 20,
    stop = free.slice(at, at + 5);
  const r = await text({ prompt: 'Once upon a time', max_tokens: 60, temperature: 0, stop: [stop, 'never seen'] });
  equal(r.choices[0].text, free.slice(0, free.indexOf(stop)));
  equal(r.choices[0].finish_reason, 'stop');
  const s = await events('/v1/completions', { prompt: 'Once upon a time', max_tokens: 60, temperature: 0, stop });
  equal(
    s
      .filter((e) => e.choices)
      .map((e) => e.choices[0]?.text ?? '')
      .join(''),
    free.slice(0, free.indexOf(stop)),
  );
});

up('the context: too long is an error, full is "length"', async () => {
  const long = await n.post('/v1/completions', { prompt: 'Once upon a time there was a dog. '.repeat(2000) });
  equal([long.status, (await long.json()).error.code], [400, 'context_length_exceeded']);
  const full = await text({ prompt: 'Once', max_tokens: 100000, ignore_eos: true, temperature: 1, seed: 1 });
  equal([full.status, full.choices[0].finish_reason], [200, 'length']);
  const models = await (await fetch(`http://${n.host}/v1/models`)).json();
  check(full.usage.total_tokens <= models.data[0].nigh.context_tokens + 1, `${full.usage.total_tokens} tokens`);
});

up('chat: shape, stream, usage event', async () => {
  const ask = {
    messages: [
      { role: 'system', content: 'Be kind.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'Once upon' },
          { type: 'text', text: ' a time' },
        ],
      },
    ],
    max_tokens: 6,
    temperature: 0,
  };
  const r = await chat(ask);
  equal([r.status, r.object, r.choices[0].message.role], [200, 'chat.completion', 'assistant']);
  const all = await events('/v1/chat/completions', { ...ask, stream_options: { include_usage: true } });
  equal(all[0].choices[0].delta.role, 'assistant');
  equal(
    all
      .slice(0, -2)
      .map((e) => e.choices[0].delta.content ?? '')
      .join(''),
    r.choices[0].message.content,
  );
  check(
    all.slice(0, -2).every((e) => e.id === all[0].id && e.object === 'chat.completion.chunk' && e.usage === null),
    'one id, usage null',
  );
  equal(all.at(-3).choices[0].finish_reason, 'length');
  equal([all.at(-2).choices, all.at(-2).usage.completion_tokens, all.at(-1)], [[], 6, 'DONE']);
  check(all.at(-2).nigh_receipt.bytes_out === 0, 'the receipt is in the last event');
});

up('logprobs add up and name their tokens', async () => {
  const r = await chat({
    messages: [{ role: 'user', content: 'Once upon a time' }],
    max_tokens: 10,
    temperature: 0,
    logprobs: true,
    top_logprobs: 5,
  });
  const items = r.choices[0].logprobs.content;
  equal(items.length, 10);
  for (const i of items) {
    check(
      i.logprob <= 0 && i.top_logprobs.length === 5 && i.top_logprobs[0].token === i.token,
      'greedy takes the likeliest',
    );
    check(i.top_logprobs.reduce((s, t) => s + Math.exp(t.logprob), 0) <= 1.0001, 'a probability');
    equal(Buffer.from(i.bytes).toString(), i.token);
  }
  equal(items.map((i) => i.token).join(''), r.choices[0].message.content);
  const c = (await text({ prompt: 'Once upon a time', max_tokens: 6, temperature: 0, logprobs: 2 })).choices[0]
    .logprobs;
  equal(
    [c.tokens.length, c.token_logprobs.length, c.top_logprobs.length, c.text_offset.length, c.text_offset[0]],
    [6, 6, 6, 6, 0],
  );
  const s = (
    await events('/v1/completions', { prompt: 'Once upon a time', max_tokens: 6, temperature: 0, logprobs: 0 })
  ).filter((e) => e.choices?.[0]?.logprobs);
  equal(
    s.flatMap((e) => e.choices[0].logprobs.tokens),
    c.tokens,
  );
});

up('logit_bias forbids and forces', async () => {
  const forced = await text({ prompt: 'Once', max_tokens: 3, logit_bias: { 403: 100 }, temperature: 0 });
  equal(new Set(forced.choices[0].text.match(/.{1,1}/gs)).size >= 1, true);
  const free = await text({ prompt: 'Once', max_tokens: 1, temperature: 0, logprobs: 1 });
  equal(free.status, 200);
});

up('embeddings: unit length, base64 equals float, order, limits', async () => {
  const f = await (
    await n.post('/v1/embeddings', { input: ['Once upon a time', 'The cat', 'Once upon a time'] })
  ).json();
  equal(
    f.data.map((d) => d.index),
    [0, 1, 2],
  );
  const v = f.data[0].embedding;
  check(Math.abs(Math.sqrt(v.reduce((s, x) => s + x * x, 0)) - 1) < 1e-5, 'length 1');
  equal(f.data[2].embedding, v);
  const b = await (
    await n.post('/v1/embeddings', { input: 'Once upon a time', encoding_format: 'base64', dimensions: v.length })
  ).json();
  const floats = new Float32Array(new Uint8Array(Buffer.from(b.data[0].embedding, 'base64')).buffer);
  equal([...floats], v.map(Math.fround));
  const many = await (
    await n.post('/v1/embeddings', { input: Array.from({ length: 512 }, (_, i) => `text ${i}`) })
  ).json();
  equal([many.data.length, many.data[511].index], [512, 511], 'a batch as LangChain sends it');
  equal((await n.post('/v1/embeddings', { input: 'a '.repeat(5000) })).status, 400);
  check(b.nigh_receipt && b.usage.prompt_tokens > 0, 'receipt and usage');
});

up('models by id, percent-coded or not, and below every prefix', async () => {
  for (const prefix of ['/v1', '/api/v1', '']) {
    const list = await (await fetch(`http://${n.host}${prefix}/models`)).json();
    const id = list.data[0].id;
    equal(list.object, 'list');
    for (const spelled of [id, `%${id.charCodeAt(0).toString(16)}${id.slice(1)}`])
      equal((await (await fetch(`http://${n.host}${prefix}/models/${spelled}`)).json()).id, id, spelled);
    for (const none of ['no', 'a/b:c', 'a%2Fb%3Ac', `${id}/`]) {
      const r = await fetch(`http://${n.host}${prefix}/models/${none}`);
      equal([r.status, (await r.json()).error.code], [404, 'model_not_found'], none);
    }
    equal((await n.post(`${prefix}/completions`, { prompt: 'a', max_tokens: 1, model: 'no' })).status, 404);
    equal((await n.post(`${prefix}/completions`, { prompt: 'a', max_tokens: 1, model: id })).status, 200);
  }
});

up('S19 errors hold neither words of the request nor paths', async () => {
  const canary = 'xk9canary';
  for (let i = 0; i < 120; i++) {
    const bodies = [
      `{"prompt":"${canary}`,
      `{"prompt":"${canary}","n":99}`,
      `{"messages":[{"role":"${canary}","content":"a"}]}`,
      `{"prompt":"${canary}","stop":[]${','.repeat(i)}}`,
      `{"model":"${canary}","prompt":"a"}`,
      `{"prompt":"a","${canary}":1,"${canary}":2}`,
      `{"prompt":"a","stop":{"${canary}":1}}`,
      `{"prompt":"a","logit_bias":{"${canary}":1}}`,
      `{"input":{"${canary}":1}}`,
    ];
    for (const route of Object.keys(minimal)) {
      const r = await n.post(route, bodies[i % bodies.length]),
        said = await r.text();
      if (r.status !== 200) check(!said.includes(canary) && !/\/(home|work|tmp|usr)\b|\.c:\d/.test(said), said);
    }
  }
  check(!n.err.includes(canary) && !n.out.includes(canary), 'the log holds no content');
});

up('metrics are well formed and count no bytes out', async () => {
  const all = await (await fetch(`http://${n.host}/metrics`)).text();
  for (const line of all.trim().split('\n'))
    check(/^(# (HELP|TYPE) nigh_\w+ .+|nigh_\w+(\{\w+="[^"]+"\})? -?[0-9.e+]+)$/.test(line), line);
  equal(await n.metric('nigh_bytes_out_total'), 0);
  equal([await n.metric('nigh_running_sequences'), await n.metric('nigh_queued_sequences')], [0, 0]);
});

if (n.error)
  test('the node starts', () => {
    throw n.error;
  });
await main('test_api');
