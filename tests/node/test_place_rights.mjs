// test_place_rights.mjs - keys of tenants in front of a policy: what each may ask, how much, what it sees; an edge node that
// wants a key itself; signed policies.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, anyModel, check, equal, folder, main, makeKey, modelName as model, needing, program, test } from './node.mjs';

const home = folder('rights'), edgeHome = folder('edge');
const provider = await startProvider();
const keys = {
  own: makeKey(home),
  acme: makeKey(home, '--tenant', 'acme', '--user', '*'),
  other: makeKey(home, '--tenant', 'other', '--user', 'eve'),
  narrow: makeKey(home, '--tenant', 'acme', '--features', 'local'),
  slow: makeKey(home, '--tenant', 'acme', '--rpm', '2'),
  poor: makeKey(home, '--tenant', 'acme', '--usd-day', '0.000001'),
  edge: makeKey(edgeHome),
};
const file = path.join(home, 'features.json');
const feature = (place, more = {}) => ({ class: 'public', place, retention: { prompt: '0', output: '1h', cache: '1h' }, ...more });
const policy = {
  version: 4,
  classes: { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] } },
  zones: { berlin: { region: 'DE', tenants: ['acme'] } },
  targets: {
    tiny: { tier: 'device', model },
    cloud: { tier: 'cloud', model: 'any', url: provider.url, region: 'FR', retention: 'none', trains: false,
      cost: { in: 100, out: 100 } },
  },
  features: {
    local: feature(['tiny']),
    cloud: feature(['cloud'], { cache: 'user', degrade: ['queue:<=1h', 'error'] }),
    both: feature(['cloud', 'tiny'], { rank: 'quality', quality: { eval: 'e', min: 0 } }),
    shared: feature(['cloud'], { cache: 'tenant' }),
    edge: feature(['tiny']),
    day: feature(['cloud'], { cost: { per_user_day_usd: 0.06 } }),
  },
  evals: { e: { cloud: 0.9, tiny: 0.2 } },
};

async function setUp() {
  const edge = await Node.start([], { home: edgeHome });
  policy.targets.mid = { tier: 'edge', model, zone: 'berlin', url: edge.url, key: 'env:EDGE_KEY', retention: 'none',
    trains: false };
  policy.features.edge.place = ['mid'];
  writeFileSync(file, JSON.stringify(policy));
  const n = await Node.start(['--policy', file, '--allow-private', `127.0.0.1:${provider.port}`], {
    home, env: { EDGE_KEY: keys.edge },
  });
  return { edge, n };
}
const all = await setUp().catch((e) => ({ error: e }));
const { edge, n } = all;
const up = needing(all);
const as = (key, more = {}) => ({ authorization: `Bearer ${keys[key]}`, ...more });
const ask = async (key, f, { words = 'Once upon a time', headers = {}, model: m } = {}) => {
  const r = await n.post('/v1/chat/completions', { model: m ?? `feature/${f}`, max_tokens: 5, temperature: 0,
    messages: [{ role: 'user', content: words }] }, as(key, headers));
  const body = await r.json();
  return { ...body, status: r.status, headers: r.headers, code: body.error?.code };
};
const get = (key, route, more = {}) => fetch(`http://${n.host}${route}`, { headers: as(key, more) });

up('mutual keys: the edge wants one, and gets the target\u2019s', async () => {
  equal((await edge.post('/v1/chat/completions', { messages: [{ role: 'user', content: 'a' }] })).status, 401);
  const r = await ask('acme', 'edge');
  equal([r.status, r.nigh_receipt.tier, r.nigh_receipt.inner.place], [200, 'edge', 'device']);
});

up('a zone serves its tenants only', async () => {
  const r = await ask('other', 'edge');
  equal([r.status, r.code, r.error.param], [403, 'policy_no_target', 'tenant']);
});

up('a key with features may ask these, and no model by its name', async () => {
  equal((await ask('narrow', 'local')).status, 200);
  equal([(await ask('narrow', 'cloud')).code, (await ask('narrow', '', { model })).code], ['policy_rights', 'policy_rights']);
});

up('a key bound to a user may not name another', async () => {
  equal((await ask('other', 'local', { headers: { 'x-nigh-user': 'eve' } })).status, 200);
  equal((await ask('other', 'local', { headers: { 'x-nigh-user': 'bob' } })).code, 'policy_user');
});

up('over its minute a key is told when to come back', async () => {
  const codes = [];
  for (let i = 0; i < 4; i++) codes.push(await ask('slow', 'local'));
  const refused = codes.find((r) => r.status === 429);
  check(refused && refused.code === 'rate_limited', JSON.stringify(codes.map((r) => r.status)));
  const ms = Number(refused.headers.get('retry-after-ms'));
  check(ms > 1000 && ms <= 60000 && Number(refused.headers.get('retry-after')) === Math.ceil(ms / 1000), `${ms}`);
});

up('without money only what costs nothing is left; a user has a day\u2019s budget', async () => {
  equal((await ask('poor', 'both')).nigh_receipt.target, 'cloud', 'the first one spends it');
  equal((await ask('poor', 'both')).nigh_receipt.target, 'tiny');
  const poor = await ask('poor', 'cloud');
  equal([poor.status, poor.error?.param], [403, 'cost'], 'to wait would not help');
  let last;
  for (let i = 0; i < 40; i++) {
    last = await ask('acme', 'day', { headers: { 'x-nigh-user': 'spender' } });
    if (last.status !== 200) break;
  }
  equal([last.status, last.error.param], [403, 'cost']);
  equal((await ask('acme', 'day', { headers: { 'x-nigh-user': 'another' } })).status, 200);
});

up('kept answers: a user\u2019s for the user, a tenant\u2019s for the tenant, never beyond', async () => {
  provider.clear();
  const from = async (key, f, user) => (await ask(key, f, { headers: user ? { 'x-nigh-user': user } : {} })).nigh_receipt.why;
  await from('acme', 'cloud', 'a');
  equal([await from('acme', 'cloud', 'a'), await from('acme', 'cloud', 'b'), await from('other', 'cloud')],
    ['cache', 'local-first', 'local-first']);
  await from('acme', 'shared', 'a');
  equal([await from('acme', 'shared', 'b'), await from('other', 'shared')], ['cache', 'local-first']);
});

up('a tenant sees its own records and its own queue', async () => {
  const mine = await ask('acme', 'local'), id = mine.nigh_receipt.id;
  equal([(await get('acme', `/nigh/where/${id}`)).status, (await get('other', `/nigh/where/${id}`)).status], [200, 404]);
  equal([(await get('own', `/nigh/receipt/${id}`)).status, (await get('other', `/nigh/receipt/${id}`)).status], [200, 404]);
  const theirs = await (await get('other', '/nigh/ledger?tenant=acme')).text();
  check(!theirs.includes('"acme"'), theirs.slice(0, 400));
  await n.post('/nigh/offline', { offline: true }, as('own'));
  const queued = await ask('acme', 'cloud', { words: 'later', headers: { 'x-nigh-user': 'a' } });
  equal(queued.status, 202);
  const see = async (key, user) => (await get(key, `/v1/queue/${queued.id}`, user ? { 'x-nigh-user': user } : {})).status;
  equal([await see('acme', 'a'), await see('acme', 'b'), await see('other')], [200, 404, 404]);
  await n.post('/nigh/offline', { offline: false }, as('own'));
});

up('without a key nothing is told', async () => {
  for (const route of ['/nigh/placement', '/nigh/ledger', '/nigh/where/x', '/nigh/receipt/x', '/v1/queue/x'])
    equal((await fetch(`http://${n.host}${route}`)).status, 401, route);
  equal((await n.post('/nigh/offline', { offline: true })).status, 401);
  equal((await fetch(`http://${n.host}/v1/queue/x`, { method: 'DELETE' })).status, 401);
});

up('a node with a trusted key takes no policy that it did not sign', async () => {
  const where = folder('trust');
  mkdirSync(path.join(where, 'x'));
  const e = spawnSync(program, ['serve', anyModel(), '--port', '0', '--policy', file, '--trust', 'ab'.repeat(32)], {
    encoding: 'utf8', env: { ...process.env, NIGH_HOME: where }, timeout: 20000,
  });
  check(e.status !== 0 && /sign/.test(e.stderr), `${e.status} ${e.stderr}`);
});

if (all.error)
  test('the nodes start', () => {
    throw all.error;
  });
process.on('exit', () => provider.close());
await main('test_place_rights');
