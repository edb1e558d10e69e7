// test_tenants.mjs - two tenants of one node, over HTTP: what of a prompt was met (by the count that an answer tells, and by
// the time it took), whose turn it is when one of them is loud, and what a key without rights is told.
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Node, anyModel, check, equal, folder, main, makeKey, needing, sanitized, shipped, sleep } from './node.mjs';

const home = folder('tenants');
const file = existsSync(shipped) ? shipped : anyModel(), model = path.basename(file ?? 'none.gguf', '.gguf');
const keys = { acme: makeKey(home, '--tenant', 'acme', '--user', '*'), other: makeKey(home, '--tenant', 'other', '--user', '*') };
const policy = path.join(home, 'features.json');
const feature = (cache) => ({ class: 'public', place: ['tiny'], retention: { prompt: '0', output: '1h', cache: '1h' }, cache });
writeFileSync(policy, JSON.stringify({
  version: 1,
  classes: { public: { level: 0, may_cross: ['device'] } },
  targets: { tiny: { tier: 'device', model } },
  features: { mine: feature('none'), ours: feature('tenant') },
}));
const n = await Node.start(['--policy', policy, '--parallel', '4', '--queue', '64', '--no-speculation'], { home, model: file })
  .catch((e) => ({ error: e }));
const up = needing(n);

let serial = 0;
// A prompt that nobody asked before, or the `of`-th one again; different from its first word on.
const words = (of = ++serial) => `${of} ${'a little dog and a big cat went to the sea. '.repeat(12)}${of}`;
const ask = async (key, prompt, { user, ...more } = {}) => {
  const begun = performance.now();
  const r = await n.post('/v1/completions', { model, prompt, max_tokens: 1, temperature: 0, ...more },
    { authorization: `Bearer ${keys[key]}`, ...(user ? { 'x-nigh-user': user } : {}) });
  const body = await r.json();
  return { status: r.status, ms: performance.now() - begun, cached: body.usage?.prompt_tokens_details?.cached_tokens };
};

up('a prompt is met again by its own tenant and user, and by nobody else', async () => {
  for (const of of [model, 'feature/mine']) {
    const text = words(), more = { model: of };
    equal((await ask('acme', text, { user: 'ann', ...more })).cached, 0, 'the first');
    for (const [key, user] of [['other', 'ann'], ['acme', 'bob'], ['acme', undefined], ['other', undefined]])
      equal((await ask(key, text, { user, ...more })).cached, 0, `${of} ${key} ${user}`);
    check((await ask('other', text, { user: 'ann', ...more })).cached > 20, 'its own, again');
  }
});

up('a feature that caches for the tenant: any user of it, nobody beyond', async () => {
  const text = words(), more = { model: 'feature/ours' };
  equal((await ask('acme', text, { user: 'ann', ...more })).cached, 0);
  check((await ask('acme', `${text} and`, { user: 'bob', ...more })).cached > 20, 'another user of the tenant');
  equal((await ask('other', `${text} and`, { user: 'bob', ...more })).cached, 0, 'another tenant');
});

up('what is forgotten is not met again, and nobody else loses anything', async () => {
  const mine = words(), theirs = words();
  await ask('acme', mine, { user: 'ann' });
  await ask('other', theirs, { user: 'ann' });
  check((await ask('acme', mine, { user: 'ann' })).cached > 20, 'before');
  const r = await n.post('/nigh/forget', { user: 'ann' }, { authorization: `Bearer ${keys.acme}` });
  equal(r.status, 200);
  await sleep(100);
  equal((await ask('acme', mine, { user: 'ann' })).cached, 0, 'afterwards');
  check((await ask('other', theirs, { user: 'ann' })).cached > 20, 'another tenant');
});

// The chance that a request which should be quick was quicker than one which should not: 0.5 says nothing, 1 says all.
const wins = (q, slow) => slow.reduce((sum, w) => sum + (q < w ? 1 : q === w ? 0.5 : 0), 0);
const auc = (quick, slow) => quick.reduce((sum, q) => sum + wins(q, slow), 0) / (quick.length * slow.length);
up('by the time it takes, a tenant cannot tell what another one asked', async () => {
  const own = [], others = [], fresh = [], rounds = sanitized || process.env.NIGH_SHORT === '1' ? 10 : 80;
  for (let i = 0; i < rounds; i++) {
    const text = words(), mark = serial;
    await ask('acme', text, { user: 'ann' });
    const order = [
      () => ask('other', words(mark)).then((r) => others.push(r.ms)),
      () => ask('other', words()).then((r) => fresh.push(r.ms)),
    ];
    if (i % 2) order.reverse();
    for (const go of order) await go();
    own.push((await ask('acme', text, { user: 'ann' })).ms);
  }
  const same = auc(own, fresh), foreign = auc(others, fresh);
  console.log(`  told apart by time: one's own ${same.toFixed(2)}, another tenant's ${foreign.toFixed(2)} (${rounds} prompts)`);
  if (rounds < 80) return;
  check(same > 0.7, `one's own: ${same}`);
  check(Math.abs(foreign - 0.5) < 0.15, `another's: ${foreign}`);
});

up('a loud tenant does not hold a quiet one up, nor out', async () => {
  let ended = 0, refused = 0;
  const loud = Array.from({ length: 70 }, () => ask('acme', words(), { max_tokens: 40, ignore_eos: true })
    .then((r) => { if (r.status === 429) refused++; else ended++; }));
  await sleep(150);
  const quiet = await ask('other', words(), { max_tokens: 40, ignore_eos: true }), before = ended;
  await Promise.all(loud);
  console.log(`  ${before} of ${ended} loud answers came before the quiet one's, ${refused} were refused`);
  equal(quiet.status, 200);
  check(before <= 24, `${before} of ${ended} before it`);
});

await main('test_tenants');
