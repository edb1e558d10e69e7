// test_place_forget.mjs - the end of what is kept: records of the ledger by the policy's time, a user's kept answers and
// queued requests on request, by the route and by `nigh forget`, each only by those who may.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, check, equal, main, program, sleep, test } from './node.mjs';

const home = mkdtempSync(path.join(tmpdir(), 'nigh-forget-')), file = path.join(home, 'features.json'), KEEP_S = 2;
const provider = await startProvider();
const nigh = (words, env = {}) => spawnSync(program, words, { encoding: 'utf8', env: { ...process.env, NIGH_API_KEY: '', ...env, NIGH_HOME: home } });
const makeKey = (...words) => nigh(['serve', '--new-key', ...words]).stdout.trim();
const keys = { own: makeKey(), mine: makeKey('--user', '*'), app: makeKey('--tenant', 'acme', '--user', '*'), eve: makeKey('--tenant', 'acme', '--user', 'eve'),
  none: makeKey('--tenant', 'acme'), other: makeKey('--tenant', 'other', '--user', '*') };
const feature = (more) => ({ class: 'public', place: ['cloud'], retention: { prompt: '0', output: '1h', cache: '1h' }, ...more });
writeFileSync(file, JSON.stringify({ version: 1, ledger: { keep: `${KEEP_S}s` },
  classes: { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] } },
  targets: { cloud: { tier: 'cloud', model: 'any?echo=1', url: provider.url, region: 'FR', retention: 'none', trains: false,
    cost: { in: 0, out: 0 } } },
  features: { kept: feature({ cache: 'user', degrade: ['error'] }), shared: feature({ cache: 'tenant', degrade: ['error'] }),
    queued: feature({ degrade: ['queue:<=1h', 'error'] }) } }));
const start = () => Node.start(['--policy', file, '--allow-private', `127.0.0.1:${provider.port}`], { home });
let n = await start().catch((e) => ({ error: e }));

const as = (key, user) => ({ authorization: `Bearer ${keys[key]}`, ...(user ? { 'x-nigh-user': user } : {}) });
const ask = async (f, key, user, words = 'hello there') => {
  const r = await n.post('/v1/chat/completions', { model: `feature/${f}`, messages: [{ role: 'user', content: words }] }, as(key, user));
  return { http: r.status, ...(await r.json()) };
};
const forget = async (key, body) => {
  const r = await n.post('/nigh/forget', body, as(key));
  const e = await r.json();
  return r.status === 200 ? [e.tenant, e.user, e.answers, e.queued] : [r.status, e.error.code];
};
const fromCache = async (f, key, user) => Boolean((await ask(f, key, user)).nigh_receipt.cache);
const up = (name, run) => test(name, () => {
  if (n.error) throw n.error;
  return run();
});

up('kept answers of one user go, those of others stay', async () => {
  for (const [key, user] of [['app', 'ann'], ['app', 'bob'], ['other', 'ann'], ['mine', 'ann']]) await ask('kept', key, user);
  await ask('shared', 'app', 'ann');
  equal(await fromCache('shared', 'app', 'bob'), true, 'one answer for the tenant');
  equal(await forget('app', { user: 'ann' }), ['acme', 'ann', 2, 0]);
  equal(await forget('app', { user: 'ann' }), ['acme', 'ann', 0, 0]);
  equal([await fromCache('kept', 'app', 'bob'), await fromCache('kept', 'other', 'ann'), await fromCache('kept', 'mine', 'ann')], [true, true, true]);
  equal([await fromCache('kept', 'app', 'ann'), await fromCache('shared', 'app', 'bob')], [false, false]);
});

up('a key speaks for its own users only', async () => {
  equal(await forget('eve', { user: 'ann' }), [403, 'policy_user']);
  equal(await forget('eve', { all: true }), [403, 'policy_user']);
  equal(await forget('none', { all: true }), [403, 'policy_user']);
  equal(await forget('app', { user: 'ann', tenant: 'other' }), [403, 'policy_rights']);
  equal((await n.post('/nigh/forget', { user: 'ann' })).status, 401);
  const wrong = [{}, { user: '' }, { user: 7 }, { all: false }, { all: true, user: 'ann' }, { user: 'ann', tenant: 7 }, [], '{', { user: 'a'.repeat(200) }];
  for (const body of wrong)
    equal((await forget('own', body))[0], 400, JSON.stringify(body));
  await ask('kept', 'eve');
  equal(await forget('eve', { user: 'eve' }), ['acme', 'eve', 1, 0]);
  equal(await forget('own', { user: 'ann', tenant: 'other' }), ['other', 'ann', 1, 0]);
});

up('what waits in the queue goes with its words', async () => {
  await n.post('/nigh/offline', { offline: true }, as('own'));
  const ids = [];
  for (const user of ['ann', 'ann', 'bob']) ids.push((await ask('queued', 'app', user, `words of ${user}`)).id);
  const get = async (id, user) => (await fetch(`http://${n.host}/v1/queue/${id}`, { headers: as('app', user) })).status;
  equal(await get(ids[0], 'ann'), 200);
  equal((await forget('app', { user: 'ann' }))[3], 2);
  equal([await get(ids[0], 'ann'), await get(ids[1], 'ann'), await get(ids[2], 'bob')], [404, 404, 200]);
  provider.clear();
  await n.post('/nigh/offline', { offline: false }, as('own'));
  for (let i = 0; i < 100 && !provider.seen().length; i++) await sleep(50);
  await sleep(300);
  equal(provider.seen().map((s) => JSON.parse(s.body).messages.at(-1).content), ['words of bob'], 'what was sent');
  equal((await forget('app', { all: true }))[3], 1, 'the answer that waits to be fetched');
  equal(await get(ids[2], 'bob'), 404);
});

up('nigh forget asks the node', async () => {
  await ask('kept', 'app', 'zoe');
  const words = ['forget', 'zoe', '--tenant', 'acme', '--port', String(n.port)];
  const without = nigh(words), wrong = nigh(words, { NIGH_API_KEY: keys.other }), right = nigh(words, { NIGH_API_KEY: keys.app });
  equal([without.status, wrong.status, right.status], [9, 11, 0], `${without.stderr} ${wrong.stderr} ${right.stderr}`);
  equal(right.stdout, 'deleted 1 kept answer and 0 requests of the queue\n');
  for (const bad of [[], ['a', 'b'], ['a', '--all'], ['']]) equal(nigh(['forget', ...bad, '--port', '9']).status, 1, bad.join(' '));
});

up('records go when the policy says, and what is left verifies', async () => {
  const first = (await ask('kept', 'mine', 'x', 'the first')).nigh_receipt.id;
  const where = async (id) => (await fetch(`http://${n.host}/nigh/where/${id}`, { headers: as('own') })).status;
  equal(await where(first), 200);
  for (let i = 0; i < 80; i++) await ask('kept', 'mine', 'x', `words ${i}`);
  for (let i = 0; i < 80 && (await where(first)) === 200; i++) await sleep(100);
  equal(await where(first), 404, 'it is still there');
  const last = (await ask('kept', 'mine', 'x', 'the last')).nigh_receipt.id;
  equal(await where(last), 200);
  const seen = nigh(['verify', '--ledger']);
  equal(seen.status, 0, seen.stderr);
  check(/deleted|expired|older/.test(seen.stdout), seen.stdout);
  check(!readFileSync(path.join(home, 'ledger.db')).includes(first), 'the bytes of a deleted record are in the file');
});

up('without a node the queue\u2019s file is looked at, and a new start deletes old records', async () => {
  const receipt = (await ask('kept', 'mine', 'x', 'before the end')).nigh_receipt.id;
  await n.post('/nigh/offline', { offline: true }, as('own'));
  const { id } = await ask('queued', 'app', 'ann');
  check(id && receipt, 'nothing is queued');
  const busy = nigh(['forget', 'ann', '--tenant', 'acme', '--port', '9']);
  check(busy.status !== 0 && /open/.test(busy.stderr), `${busy.status} ${busy.stderr}`);
  await n.stop();
  const seen = nigh(['forget', 'ann', '--tenant', 'acme', '--port', '9']);
  equal([seen.status, seen.stdout], [0, 'deleted 0 kept answers and 1 request of the queue\n'], seen.stderr);
  check(/no node listens at port 9/.test(seen.stderr), seen.stderr);
  await sleep(KEEP_S * 1000 + 200);
  n = await start();
  let left = 200;
  for (let i = 0; i < 60 && left === 200; i++) {
    left = (await fetch(`http://${n.host}/nigh/where/${receipt}`, { headers: as('own') })).status;
    await sleep(50);
  }
  equal(left, 404, 'an old record');
});

process.on('exit', () => {
  provider.close();
  rmSync(home, { recursive: true, force: true });
});
await main('test_place_forget');
