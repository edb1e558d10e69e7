// bench_place.mjs - `make bench-place`: one table of what Place is to do, and what was seen. Each row is a figure that a
// test or a bench prints (docs/place.md says which, and what it means). About half an hour; the figures of time count on a
// machine that does nothing else. The exit code is 0 also when something is not reached, and 1 when something was not
// measured.
//
//     NIGH_BENCH_WHAT=a,b     only these parts: policy, canary, prove, entities, restore, faults, silence, node
//     NIGH_SHORT=1            small counts, about two minutes: to see that it works
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const SHORT = process.env.NIGH_SHORT === '1', ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const BUILD = path.resolve(ROOT, process.env.NIGH_BUILD ?? 'build'), program = process.env.NIGH ?? path.join(BUILD, 'nigh');
const wanted = (part) => !process.env.NIGH_BENCH_WHAT || process.env.NIGH_BENCH_WHAT.split(',').includes(part);

// ---- the table ----

const rows = [];
let unmeasured = 0;
// good: was it reached? null: the row says no more than itself.
function row(what, asked, seen, good = null) {
  rows.push([what, asked, String(seen), good === null ? '' : good ? 'yes' : 'NO']);
  console.error(`  ${what}: ${seen}`);
}
function missing(what, asked, why) {
  unmeasured++;
  row(what, asked, `not measured: ${why}`);
}
function print() {
  const head = ['what', 'asked', 'seen', 'reached'], width = head.map((h, i) => Math.max(h.length, ...rows.map((r) => r[i].length)));
  const line = (r) => r.map((c, i) => c.padEnd(width[i])).join(' | ').trimEnd();
  console.log(`\n${line(head)}\n${width.map((w) => '-'.repeat(w)).join('-|-')}`);
  for (const r of rows) console.log(line(r));
  const asked = rows.filter((r) => r[3]).length, missed = rows.filter((r) => r[3] === 'NO').length;
  console.log(`\n${cpus()[0].model}, ${availableParallelism()} threads, load ${loadavg()[0].toFixed(1)}${SHORT ? ', short' : ''}; ` +
    `${asked - missed} of ${asked} reached, ${unmeasured} not measured`);
}

// ---- a test or a bench, and its figures: lines "figure NAME key=value ..." ----

function run(words, env = {}) {
  const [command, ...rest] = words[0].endsWith('.mjs') ? [process.execPath, ...words] : words;
  console.error(`${words.map((w) => path.relative(ROOT, w) || w).join(' ')} ${Object.entries(env).map(([k, v]) => `${k}=${v}`).join(' ')}`);
  const clean = { ...process.env };
  delete clean.NIGH_SHORT;
  const made = spawnSync(command, rest, { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 28, env: { ...clean, NIGH: program, ...env } });
  const out = made.stdout ?? '', figures = {};
  for (const [, name, text] of out.matchAll(/^\s*figure (\S+) (.*)$/gm))
    (figures[name] ??= []).push(Object.fromEntries(text.split(' ').map((w) => w.split('='))));
  const why = /^\s*(skipped .*|FAILED .*)$/m.exec(out)?.[1] ?? made.error?.message ?? (made.stderr ?? '').trim().split('\n').at(-1) ?? '';
  return { out, why: why.slice(0, 120) || 'it printed no figure', good: made.status === 0, of: (name) => figures[name] ?? [] };
}
const test = (name) => path.join(ROOT, 'tests', name), built = (name) => path.join(BUILD, name);

// ---- the parts ----

function policy() {
  const asked = '0', checked = run([built('tests/prop/test_place')], SHORT ? { NIGH_SHORT: '1' } : {}), [f] = checked.of('decisions');
  if (f) row(`decisions that break a hard rule, of ${Number(f.checked).toLocaleString('en')}`, asked, f.wrong, f.wrong === '0' && checked.good);
  else missing('decisions that break a hard rule', asked, checked.why);
  const bench = run([built('bench/bench_place')]), number = (re) => Number(re.exec(bench.out)?.[1] ?? NaN);
  const p99 = number(/^decision,p99_ns,(\d+)/m) / 1000, speed = number(/^redact made text,MB_per_s,(\d+)/m);
  if (p99 > 0) row('a decision, p99, us', '2', `${p99.toFixed(2)} (p50 ${(number(/^decision,p50_ns,(\d+)/m) / 1000).toFixed(2)})`, p99 <= 2);
  else missing('a decision, p99, us', '2', bench.why);
  if (speed > 0) row('redaction of text without findings, one core, MB/s', '500', speed, speed >= 500);
  else missing('redaction of text without findings, one core, MB/s', '500', bench.why);
}

function canary() {
  const count = SHORT ? 2000 : 100000, what = 'private values found where they may not be';
  const made = run([test('node/test_place_canary.mjs')], { NIGH_CANARIES: count, NIGH_SEED: '1' });
  const [sent] = made.of('canary'), [files] = made.of('canary_files'), [dumps] = made.of('canary_dumps');
  if (sent) row(`${what}, of ${Number(sent.values).toLocaleString('en')}: sent, said, logged, counted`, '0', sent.found, sent.found === '0');
  else missing(what, '0', made.why);
  if (files) row('... in files', '0', files.found, files.found === '0');
  else missing('... in files', '0', made.why);
  if (dumps) row('... in crash dumps', '0', `${dumps.found} (${dumps.died} nodes died, ${dumps.files} dumps)`, dumps.found === '0' && made.good);
  else missing('... in crash dumps', '0', made.why);
}

function prove() {
  const what = "the ledger's bytes against the packets of the namespace", count = SHORT ? 50 : 1000;
  const made = run([test('fault/test_prove.mjs')], { NIGH_PROVE: count, NIGH_SEED: '1' }), all = made.of('prove');
  if (!all.length) missing(what, 'within headers', made.why);
  for (const f of all)
    row(`${what}: ${f.feature}, ${f.requests} requests`, 'within headers', f.differ === '0' ? `equal (${f.line_out} out, ${f.line_in} in)`
      : `${f.differ} bytes differ`, f.differ === '0');
}

function entities() {
  const made = run([built('tests/golden/test_find')]), all = [...made.out.matchAll(/^\s+(\S+\.json)\s+(\S+)\s+(\d+) spans\s+recall (\S+)\s+precision (\S+)/gm)];
  if (!all.length) missing('structured entities, recall and precision', '0.99, 0.98', made.why);
  for (const kind of new Set(all.map((m) => m[2]))) {
    const own = all.filter((m) => m[2] === kind), recall = Math.min(...own.map((m) => Number(m[4])));
    const precision = Math.min(...own.map((m) => Number(m[5]))), least = kind === 'PHONE_NUMBER' ? 0.95 : 0.98;
    row(`${kind}, recall and precision, ${own.reduce((s, m) => s + Number(m[3]), 0)} spans`, `0.99, ${least}`,
      `${recall.toFixed(3)}, ${precision.toFixed(3)}`, recall >= 0.99 && precision >= least);
  }
}

function restore() {
  const cuts = run([built('tests/prop/test_redact')], SHORT ? { NIGH_SHORT: '1' } : {}), [c] = cuts.of('restore');
  if (c) row(`texts not as before, there and back in pieces, of ${Number(c.texts).toLocaleString('en')}`, '0', c.wrong, c.wrong === '0' && cuts.good);
  else missing('texts not as before, there and back in pieces', '0', cuts.why);
  const made = run([test('node/test_place_restore.mjs')], { NIGH_RESTORES: SHORT ? 500 : 10000, NIGH_SEED: '1' }), [f] = made.of('restore_node');
  const placeholders = 'placeholders left in an answer', foreign = "another tenant's value in an answer";
  if (!f) { missing(placeholders, '0', made.why); missing(foreign, '0', made.why); return; }
  row(`${placeholders}, of ${Number(f.cases).toLocaleString('en')} answers of a node`, '0', f.placeholders, f.placeholders === '0' && f.wrong === '0');
  row(`${foreign}, the same`, '0', f.foreign, f.foreign === '0');
}

function faults() {
  const made = run([test('fault/test_place_faults.mjs')], { NIGH_FAULTS: SHORT ? 60 : 1000, NIGH_SEED: '7' }), [f] = made.of('faults');
  if (f) row(`random faults that end otherwise than right, marked or named, or late, of ${f.faults}`, '0, 0', `${f.wrong}, ${f.late} (longest ` +
    `${f.longest_ms} ms, the feature has ${f.total_ms})`, f.wrong === '0' && f.late === '0');
  else missing('random faults', '0', made.why);
  const killed = run([test('fault/test_place_kill.mjs')], { NIGH_KILLS: SHORT ? 4 : 200, NIGH_SEED: '2' }), [k] = killed.of('kills');
  if (k) row(`queued requests lost, doubled, after ${k.kills} kill -9`, '0, 0', `${k.lost}, ${k.doubled} (of ${k.acknowledged})`,
    k.lost === '0' && k.doubled === '0');
  else missing('queued requests lost, doubled', '0, 0', killed.why);
}

function silence() {
  const made = run([test('node/test_silence.mjs')], SHORT ? {} : { NIGH_SUITE: 'all' }), what = 'prompts of the test suite found in files, logs';
  const [f] = made.of('silence'), [packets] = made.of('silence_packets');
  if (f) row(`${what}, of ${Number(f.prompts).toLocaleString('en')} in ${f.files} files`, '0', f.found, f.found === '0');
  else missing(what, '0', made.why);
  if (packets) row('packets that leave a node with default settings', '0', packets.out, packets.out === '0');
  else missing('packets that leave a node with default settings', '0', made.why);
}

// Its own rows stand behind the line "asked for,asked,seen,reached".
function node() {
  const model = path.join(ROOT, 'models/nigh-stories.gguf'), words = SHORT ? ['1', '20000', '32', '500'] : ['3', '20000', '32', '10000'];
  const made = run([built('bench/bench_node'), program, model, ...words]), lines = made.out.trim().split('\n');
  const own = lines.slice(lines.indexOf('asked for,asked,seen,reached') + 1).map((l) => l.split(',')).filter((l) => l.length >= 4);
  if (!lines.includes('asked for,asked,seen,reached') || !own.length) return missing('what a node adds', 'see docs/place.md', made.why);
  for (const l of own) row(l.slice(0, -3).join(','), ...l.slice(-3, -1), l.at(-1) === 'yes');
}

if (!existsSync(program)) { console.error(`${program} is not built`); process.exit(1); }
for (const [name, part] of Object.entries({ policy, canary, prove, entities, restore, faults, silence, node })) if (wanted(name)) part();
print();
process.exit(unmeasured ? 1 : 0);
