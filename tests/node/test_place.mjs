// test_place.mjs - a policy at work in a node: features, classes, decisions, receipts, the routes that tell of them.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { Node, anyModel, check, equal, folder, main, modelName as model, needing, placement, program, test } from './node.mjs';

const home = folder('place');
const policy = {
  version: 3,
  default_feature: 'unknown',
  classes: {
    public: { level: 0, may_cross: ['device', 'edge', 'cloud'] },
    personal: { level: 2, may_cross: ['device', 'edge', 'cloud:redacted'], redact: ['pii', 'secrets'] },
    secret: { level: 3, may_cross: ['device'] },
  },
  targets: {
    tiny: { tier: 'device', model },
    wrong: { tier: 'device', model: `${model}@sha256:${'0'.repeat(64)}` },
    nowhere: { tier: 'cloud', model: 'large', url: 'https://provider.invalid/v1', retention: 'none', trains: false },
  },
  features: {
    story: { class: 'public', place: ['wrong', 'tiny'], latency: { total_ms: 60000 }, degrade: ['error'] },
    sure: { class: 'public', place: ['tiny'], escalate: { when: ['confidence'], threshold: 0.9 } },
    wrong: { class: 'public', place: ['wrong'] },
    away: { class: 'personal', place: ['nowhere'] },
    unknown: { class: 'secret', place: ['tiny'] },
  },
  aliases: { 'gpt-4o-mini': 'story' },
};
const file = path.join(home, 'features.json');
writeFileSync(file, JSON.stringify(policy));
const n = await Node.start(['--policy', file]).catch((e) => ({ error: e }));
const up = needing(n);
const messages = [{ role: 'user', content: 'Once upon a time' }];
const ask = async (body, headers = {}, route = '/v1/chat/completions') => {
  const r = await n.post(route, { messages, max_tokens: 6, temperature: 0, ...body }, headers);
  return { status: r.status, headers: r.headers, placement: placement(r), ...(await r.json()) };
};

up('a feature by model, header, metadata and alias', async () => {
  for (const [body, headers] of [
    [{ model: 'feature/story' }, {}],
    [{}, { 'x-feature': 'story' }],
    [{ metadata: { feature: 'story' } }, {}],
    [{ model: 'gpt-4o-mini' }, {}],
  ]) {
    const r = await ask(body, headers);
    equal([r.status, r.placement.tier, r.placement.target, r.placement.class], [200, 'device', 'tiny', 'public']);
    const receipt = r.nigh_receipt;
    equal([receipt.feature, receipt.policy_version, receipt.bytes_out, receipt.degraded], ['story', 3, 0, false]);
    equal([receipt.hops.length, receipt.hops[0].ended, receipt.id], [1, 'ok', r.placement.rid]);
    check(r.headers.get('nigh-receipt').includes('place=device'), 'the older header stays');
  }
});

up('the same text as the model gives when it is asked itself', async () => {
  const plain = await ask({ model });
  const placed = await ask({ model: 'feature/story' });
  equal(placed.choices, plain.choices);
  equal([plain.placement.tier, plain.nigh_receipt.feature], [undefined, undefined], 'plain as without a policy');
});

up('a stream says in its head what is known, and all of it at the end', async () => {
  for (const feature of ['story', 'sure']) {
    const r = await n.post('/v1/chat/completions', { model: `feature/${feature}`, messages, max_tokens: 6, stream: true,
      temperature: 0 });
    check(/tier=device;target=tiny;.*rid=rcpt-/.test(r.headers.get('x-placement')), r.headers.get('x-placement'));
    const events = (await r.text()).trim().split('\n\n');
    equal(events.at(-1), 'data: [DONE]');
    const last = JSON.parse(events.at(-2).slice(6));
    equal([last.nigh_receipt.feature, last.nigh_receipt.target], [feature, 'tiny']);
    const whole = await ask({ model: `feature/${feature}` });
    const text = events.slice(0, -1).map((e) => JSON.parse(e.slice(6)).choices[0].delta.content ?? '').join('');
    equal(text, whole.choices[0].message.content);
  }
});

up('an unknown feature stays here, in the most private class', async () => {
  const r = await ask({ model: 'feature/nobody-declared-it' });
  equal([r.status, r.placement.tier, r.placement.class], [200, 'device', 'secret']);
});

up('a caller raises the class and never lowers it; an unknown one is the most private', async () => {
  for (const [name, want] of [['secret', 'secret'], ['personal', 'personal'], ['public', 'public'], ['none-such', 'secret']])
    equal((await ask({ model: 'feature/story' }, { 'x-data-class': name })).placement.class, want, name);
  const away = await ask({ model: 'feature/away' }, { 'x-data-class': 'public' });
  equal([away.placement.class, away.nigh_receipt], ['personal', undefined], 'the floor');
});

up('no target: the error names the rule, and the status whether it may pass', async () => {
  const wrong = await ask({ model: 'feature/wrong' });
  equal([wrong.status, wrong.error.code, wrong.error.param], [403, 'policy_no_target', 'model']);
  const secret = await ask({ model: 'feature/away' }, { 'x-data-class': 'secret' });
  equal([secret.status, secret.error.code], [403, 'policy_no_target']);
  check(secret.error.param.split(',').includes('class'), secret.error.param);
  equal((await n.post('/nigh/offline', { offline: true })).status, 200);
  const off = await ask({ model: 'feature/away' });
  equal([off.status, off.error.code, off.error.param], [503, 'policy_no_target', 'offline']);
  equal((await n.post('/nigh/offline', { offline: 1 })).status, 400);
  equal((await n.post('/nigh/offline', { offline: false })).status, 200);
});

up('features stand among the models, for clients that choose from a list', async () => {
  const ids = (await (await fetch(`http://${n.host}/v1/models`)).json()).data.map((m) => m.id);
  equal(ids, [model, ...Object.keys(policy.features).map((f) => `feature/${f}`)]);
  equal((await (await fetch(`http://${n.host}/v1/models/feature/story`)).json()).id, 'feature/story');
  equal((await fetch(`http://${n.host}/v1/models/feature/none`)).status, 404);
});

up('explain decides and runs nothing', async () => {
  const before = await n.metric('nigh_generated_tokens_total');
  const r = await ask({ model: 'feature/away' }, { 'x-data-class': 'secret' }, '/v1/placement/explain');
  equal([r.status, r.feature, r.class, r.order, r.targets.length], [200, 'away', 'secret', [], 3]);
  const nowhere = r.targets.find((t) => t.target === 'nowhere');
  equal([nowhere.usable, nowhere.refused_by.map((w) => w.rule).includes('class')], [false, true]);
  const story = await ask({ model: 'feature/story' }, {}, '/v1/placement/explain');
  equal([story.order, story.degrade], [['tiny'], [{ step: 'error' }]]);
  equal((await ask({ model }, {}, '/v1/placement/explain')).feature, null);
  equal(await n.metric('nigh_generated_tokens_total'), before, 'tokens');
});

up('what the node tells of its targets and features', async () => {
  const all = await (await fetch(`http://${n.host}/nigh/placement`)).json();
  equal([all.policy_version, all.offline, all.targets.length, all.features.length], [3, false, 3, 5]);
  const tiny = all.targets.find((t) => t.target === 'tiny'), story = all.features.find((f) => f.feature === 'story');
  check(tiny.here && tiny.answers > 5 && tiny.total_ms.p95 > 0 && tiny.health === 'open', JSON.stringify(tiny));
  check(story.answers === story.on.tiny && story.on.tiny > 0, JSON.stringify(story));
});

up('completions and vectors run here; what asks more than a model here can is refused by name', async () => {
  const c = await n.post('/v1/completions', { prompt: 'Once', max_tokens: 3, model: 'feature/story' });
  equal([c.status, (await c.json()).nigh_receipt.target], [200, 'tiny']);
  const json = await ask({ model: 'feature/story', response_format: { type: 'json_object' } });
  equal([json.status, json.error.code], [403, 'policy_no_target']);
  check(json.error.param.includes('unsupported'), json.error.param);
});

up('fields of the head that stand twice or are too long are refused', async () => {
  const body = JSON.stringify({ model: 'feature/story', messages, max_tokens: 1 });
  const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: ${n.host}\r\nContent-Type: application/json\r\n`;
  const twice = await n.raw(`${head}x-data-class: public\r\nx-data-class: secret\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  equal(twice.status, 400);
  equal((await ask({}, { 'x-feature': 'f'.repeat(100) })).status, 400);
});

up('a node without a policy has none of these', async () => {
  const plain = await Node.start();
  equal((await plain.post('/v1/placement/explain', { messages })).status, 404);
  equal((await fetch(`http://${plain.host}/nigh/placement`)).status, 404);
  equal((await plain.post('/v1/chat/completions', { messages, model: 'feature/story' })).status, 404);
  await plain.stop();
});

up('a policy that is wrong is no policy: the node does not start', async () => {
  const bad = path.join(home, 'bad.json');
  writeFileSync(bad, JSON.stringify({ ...policy, surprise: 1 }));
  const e = spawnSync(program, ['serve', anyModel(), '--port', '0', '--policy', bad], { encoding: 'utf8' });
  check(e.status !== 0 && /surprise/.test(e.stderr), e.stderr);
});

if (n.error)
  test('the node starts', () => {
    throw n.error;
  });
await main('test_place');
