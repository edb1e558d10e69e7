// test_place_restore.mjs - what was taken out comes back: random texts with private values of two tenants, by every format
// of a provider, whole and in streams, as text and as arguments of a tool. The provider repeats what it got, cut into
// pieces at every position of a placeholder, sometimes with lost brackets, with a placeholder of the other tenant, or with
// one that nobody gave. No answer holds a placeholder of its own, nor a value that its caller did not send.
//   NIGH_RESTORES=10000 node tests/node/test_place_restore.mjs     NIGH_SEED=N for the same texts again
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { lastUserText, startProvider } from '../web/provider.mjs';
import { Node, check, equal, folder, main, program, random, test } from './node.mjs';
import { iban, luhn, valuesFrom } from './values.mjs';

const CASES = Number(process.env.NIGH_RESTORES ?? 1000), SEED = Number(process.env.NIGH_SEED ?? Date.now() % 1e9), AT_ONCE = 12;
const TOKEN = /<([A-Z_]+)_(\d+)_([a-z0-9]{4})>/g;
const home = folder('restore'), tenants = ['acme', 'other'];

const rand = random(SEED), { below, digits } = valuesFrom(rand), of = (list) => list[below(list.length)];
const kinds = [() => `p${digits(6)}@firm-${digits(4)}.de`, () => luhn(`4${digits(14)}`), () => iban(digits(18)),
  () => `sk-proj-${digits(8)}a9Kx${digits(6)}bQzR7tLmN2vW8yE4uHpJ`, () => `password=ab\\c${digits(6)}x`, () => `192.0.2.${1 + below(250)}`];
const fillers = ['please write', 'and', '<EMAIL_1>', 'EMAIL_', 'the 世界 \u{1f98a}', '{"a": 1}', '<', 'email_1_', '<b>now</b>', 'it costs 12.50',
  'back\\slash', '<URL_', 'a "quote"', 'line\nbreak', 'IBAN_2_abc', ''];

// ---- the cases: what is asked, and what the provider makes of it ----

const cases = [], tokensSeen = [[], []], cuts = new Set();
let tokens = 0;
function makeCase(i) {
  const tenant = below(2), values = Array.from({ length: below(4) }, () => of(kinds)());
  let text = `case-c${i} |`;
  for (const v of values) text += ` ${of(fillers)}${of([' ', '\n', ' (', ', '])}${v}${of([' ', ') ', ', ', '\n', '. ', ' '])}${of(fillers)}`;
  if (rand() < 0.2 && values.length) text += ` again ${values[0]}`;
  const c = { i, tenant, values, text: `${text}.`, tool: rand() < 0.3, stream: rand() < 0.6, more: of(['', '', '', 'foreign', 'unknown']),
    alter: of(['', '', '', '', 'lower', 'bare']), step: rand() < 0.5 ? 0 : 1 + below(9), feature: of(['chat', 'claude', 'responses', 'kept']) };
  cases[i] = c;
  return c;
}

// What the case's answer must be, once its provider has chosen what it adds.
const wanted = (c) => c.text + (c.adds ?? '');

function plan(body) {
  const got = lastUserText(body), c = cases[Number(/^case-c(\d+) /.exec(got)?.[1] ?? -1)];
  if (!c) return {};
  const own = [...got.matchAll(TOKEN)], mark = own[0]?.[3];
  tokens += own.length;
  tokensSeen[c.tenant].push(...own.map((m) => m[0]));
  tokensSeen[c.tenant].splice(0, tokensSeen[c.tenant].length - 100);
  let said = got, added = '';
  if (c.alter === 'lower') said = said.replace(TOKEN, (t) => t.toLowerCase());
  if (c.alter === 'bare') said = said.replace(TOKEN, (t) => t.slice(1, -1));
  const other = tokensSeen[1 - c.tenant].filter((t) => !t.endsWith(`_${mark}>`)).at(-1 - (c.i % 7));
  if (c.more === 'foreign' && other) { added = ` also ${other} then`; c.adds = added; }
  if (c.more === 'unknown' && mark) { added = ` also <EMAIL_77_${mark}> then`; c.adds = ' also [EMAIL?] then'; }
  const answer = c.tool ? JSON.stringify({ note: said + added, deep: { list: [said + added] } }) : said + added;
  const letters = Array.from(answer), first = answer.search(/<?[A-Za-z]+_\d+_[a-z0-9]{4}/);
  let pieces = String(c.step);
  if (!c.step) {                        // one cut, at the next position in and around the first placeholder
    const at = first < 0 ? 1 + (c.i % letters.length) : Array.from(answer.slice(0, first)).length + (c.i % 28);
    pieces = `${Math.max(1, at)},${letters.length}`;
    if (first >= 0) cuts.add(c.i % 28);
  }
  return c.tool ? { call: answer, pieces } : { text: answer, pieces };
}

// ---- the node ----

const provider = await startProvider({ plan });
async function setUp() {
  const makeKey = (tenant) => spawnSync(program, ['serve', '--new-key', '--tenant', tenant, '--user', 'u'],
    { encoding: 'utf8', env: { ...process.env, NIGH_HOME: home } }).stdout.trim();
  const keys = tenants.map(makeKey);
  const cloud = (api) => ({ tier: 'cloud', model: 'any', api, url: provider.url, region: 'FR', retention: 'none', trains: false,
    cost: { in: 0, out: 0 }, can: ['tools', 'json'] });
  const feature = (target, more = {}) => ({ class: 'personal', place: [target], retention: { prompt: '0', output: '1h', cache: '1h' },
    degrade: ['error'], ...more });
  const file = path.join(home, 'features.json');
  writeFileSync(file, JSON.stringify({ version: 1,
    classes: { personal: { level: 1, may_cross: ['device', 'cloud:redacted'], redact: ['pii', 'secrets'] } },
    targets: { chat: cloud('openai-chat'), claude: cloud('anthropic'), responses: cloud('openai-responses') },
    features: { chat: feature('chat'), claude: feature('claude'), responses: feature('responses'), kept: feature('chat', { cache: 'tenant' }) } }));
  return { keys, n: await Node.start(['--policy', file, '--allow-private', `127.0.0.1:${provider.port}`], { home }) };
}
const all = await setUp().catch((e) => ({ error: e }));

function read(raw, c) {
  if (!raw.startsWith('data:')) {
    const m = JSON.parse(raw).choices?.[0]?.message;
    return c.tool ? m?.tool_calls?.[0]?.function.arguments : m?.content;
  }
  const chunks = raw.trim().split('\n\n').filter((e) => e.startsWith('data: {')).map((e) => JSON.parse(e.slice(6)));
  if (chunks.some((k) => k.error)) return undefined;
  return chunks.map((k) => k.choices?.[0]?.delta).map((d) => (c.tool ? d?.tool_calls?.[0]?.function?.arguments : d?.content) ?? '').join('');
}

const seen = { placeholders: 0, foreign: 0, wrong: 0 }, worst = [], recent = [[], []];
function judge(c, got) {
  const want = wanted(c);
  let note, good = false;
  try {
    note = c.tool ? JSON.parse(got) : null;
    good = c.tool ? note.note === want && note.deep.list[0] === want : got === want;
  } catch { good = false; }
  const rest = c.more === 'foreign' ? String(got).replaceAll(c.adds?.slice(6, -5) ?? '\0', '') : String(got);
  const left = TOKEN.test(rest);
  TOKEN.lastIndex = 0;
  const foreign = recent[1 - c.tenant].some((v) => !c.values.includes(v) && String(got).includes(v));
  seen.placeholders += left;
  seen.foreign += foreign;
  seen.wrong += !good;
  recent[c.tenant].push(...c.values.filter((v) => v.length > 14));
  recent[c.tenant].splice(0, recent[c.tenant].length - 200);
  if ((!good || left || foreign) && worst.length < 3) worst.push(JSON.stringify({ ...c, want, got }));
}

async function one(i) {
  const c = makeCase(i), body = { model: `feature/${c.feature}`, stream: c.stream, messages: [{ role: 'user', content: c.text }] };
  if (c.tool) body.tools = [{ type: 'function', function: { name: 'send', parameters: { type: 'object', properties: { note: { type: 'string' } } } } }];
  const ask = async () => (await all.n.post('/v1/chat/completions', body, { authorization: `Bearer ${all.keys[c.tenant]}` })).text();
  for (const raw of c.feature === 'kept' ? await Promise.all([ask(), ask()]) : [await ask()]) judge(c, read(raw, c));
  cases[i] = undefined;
}

test(`${CASES} texts, there and back`, async () => {
  if (all.error) throw all.error;
  console.log(`  seed ${SEED}`);
  let next = 0;
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (next < CASES) await one(next++);
  }));
  console.log(`  figure restore_node cases=${CASES} tokens=${tokens} cuts=${cuts.size} placeholders=${seen.placeholders} ` +
    `foreign=${seen.foreign} wrong=${seen.wrong}`);
  equal(seen, { placeholders: 0, foreign: 0, wrong: 0 }, `seed ${SEED}: ${worst.join('\n')}`);
  check(tokens > CASES / 2, `only ${tokens} placeholders were there`);
  check(CASES < 1000 || cuts.size === 28, `cuts at ${[...cuts]}`);
});

process.on('exit', () => provider.close());
await main('test_place_restore');
