// bench_tab.mjs - `make bench-tab`: one table of what the tab is to do, and what was seen, in headless Chromium on this
// machine. About six minutes; figures count on a machine that does nothing else.
//
//     node bench/bench_tab.mjs [FILE.gguf]      the shape of SmolLM2-135M in Q4_0; absent: made, or build/peers/models
//
//     NIGH_BENCH_WHAT=a,b     only these parts: decode, first, opfs, tests
//     NIGH_SHORT=1            few rounds of a few tokens: to see that it works
//     NIGH_BENCH_MODELS=DIR   where the bench model lies or is made (build/peers/models)
//     NIGH_PEERS=0            without wllama (also where it cannot be installed)
//
// wllama, llama.cpp for the browser, comes from npm, pinned below, into build/peers-tab; it is no part of the SDK or of
// its tests. It and our builds lie in one page, over the same file, and write in turn; wllama's figure is that of its own
// clock. The profile lies on the disk, as a person's does: a private window keeps OPFS in memory and reads it slower.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { median } from './peers/table.mjs';

const SHORT = process.env.NIGH_SHORT === '1', WLLAMA = '3.8.1', ROUNDS = SHORT ? 1 : 5, TOKENS = SHORT ? 12 : 48;
const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..'), OUT = path.join(ROOT, 'build/peers-tab');
const say = (text) => process.stderr.write(`${text}\n`), sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const wanted = (part) => !process.env.NIGH_BENCH_WHAT || process.env.NIGH_BENCH_WHAT.split(',').includes(part);
const { Site } = await import('../tests/web/site.mjs'), { launch, takeLog } = await import('../tests/web/chromium.mjs');
const { filesOf, part, type, visit } = await import('../tests/web/first.mjs');
const shipped = path.join(ROOT, 'models/nigh-stories.gguf');

// ---- the table ----

const rows = [];
// asked: a text; good: whether it was reached, null: it says no more than itself.
function row(what, asked, seen, good) {
  rows.push([what, asked, seen, good === null ? '' : good ? 'yes' : 'NO']);
  say(`  ${what}: ${seen}`);
}
function print() {
  const head = ['what', 'asked', 'seen', 'reached'], width = head.map((h, i) => Math.max(h.length, ...rows.map((r) => r[i].length)));
  const line = (r) => r.map((c, i) => c.padEnd(width[i])).join(' | ').trimEnd();
  console.log(`\n${line(head)}\n${width.map((w) => '-'.repeat(w)).join('-|-')}`);
  for (const r of rows) console.log(line(r));
  const missed = rows.filter((r) => r[3] === 'NO').length;
  const asked = rows.filter((r) => r[3]).length, machine = `${cpus()[0].model}, ${availableParallelism()} threads`;
  console.log(`\n${machine}, load ${loadavg()[0].toFixed(1)}; ${missed} of ${asked} not reached`);
}
const three = (list) => `${median(list).toFixed(0)} (${Math.min(...list).toFixed(0)} to ${Math.max(...list).toFixed(0)})`;

// ---- what is needed ----

function modelFile() {
  if (process.argv[2]) return process.argv[2];
  const folder = process.env.NIGH_BENCH_MODELS ?? path.join(ROOT, 'build/peers/models'), file = path.join(folder, 'smollm2-135m-q4_0.gguf');
  const maker = path.join(ROOT, '../shared/tools/benchgguf.c'), program = path.join(OUT, 'benchgguf');
  if (existsSync(file)) return file;
  if (!existsSync(maker)) return say('skipped: the model of 135M (it is made by ../shared/tools/benchgguf.c, which is not here)'), null;
  mkdirSync(folder, { recursive: true });
  spawnSync('cc', ['-O2', '-o', program, maker, '-lm'], { stdio: 'inherit' });
  spawnSync(program, ['smollm2-135m', 'q4_0', file], { stdio: 'inherit' });
  return existsSync(file) ? file : null;
}

function wllamaFolder() {
  if (process.env.NIGH_PEERS === '0') return null;
  const folder = path.join(OUT, 'node_modules/@wllama/wllama'), at = path.join(folder, 'package.json');
  const there = () => existsSync(at) && JSON.parse(readFileSync(at, 'utf8')).version === WLLAMA;
  mkdirSync(OUT, { recursive: true });
  if (!there()) {
    say(`installing @wllama/wllama ${WLLAMA} into build/peers-tab ...`);
    const words = ['--prefix', OUT, '--no-audit', '--no-fund', '--ignore-scripts', 'install', `@wllama/wllama@${WLLAMA}`];
    const made = spawnSync('npm', words, { encoding: 'utf8' });
    if (made.status !== 0) say((made.stderr ?? String(made.error)).trim().split('\n')[0]);
  }
  return there() ? path.join(folder, 'esm') : say('without wllama: it is not installed'), there() ? path.join(folder, 'esm') : null;
}

const profile = () => mkdtempSync(path.join(tmpdir(), 'nigh-tab-'));
async function withBrowser(run) {
  const folder = profile(), context = await launch({ viewport: { width: 1280, height: 860 } }, folder);
  try {
    return await run(context);
  } finally {
    await context.close();
    rmSync(folder, { recursive: true, force: true });
    rmSync(takeLog(), { force: true });
  }
}

// ---- decode ----

const OURS = [['relaxed 1', 'relaxed-threads', 1], ['relaxed 2', 'relaxed-threads', 2], ['simd 1', 'simd-threads', 1], ['simd 2', 'simd-threads', 2]];
const THEIRS = [['wllama 1', 1], ['wllama 2', 2]];

// Each writes in turn, several times: tokens a second of each round by name.
async function inTurn(page, names, rounds, count = TOKENS) {
  const seen = Object.fromEntries(names.map((n) => [n, []]));
  for (let i = 0; i < rounds; i++)
    for (const name of names) seen[name].push(await page.evaluate(([n, c]) => engines[n](c), [name, count]));
  return seen;
}
// Of two engines that took turns: the ratio of each round, and its middle.
const ratio = (a, b) => median(a.map((x, i) => x / b[i]));

async function decode(file) {
  const esm = wllamaFolder(), here = (name) => path.join(ROOT, name), read = (name) => readFileSync(here(name));
  const extra = {
    '/decode.html': '<!doctype html><title>t</title><script type="module" src="/decode_page.mjs"></script>', '/model.gguf': readFileSync(file),
    '/decode_page.mjs': read('bench/tab/decode_page.mjs'), '/engine_worker.mjs': read('bench/tab/engine_worker.mjs'),
    '/nigh.mjs': read('tests/wasm/nigh.mjs'), '/thread_page.mjs': read('tests/wasm/thread_page.mjs'),
  };
  for (const kind of ['relaxed-threads', 'simd-threads']) extra[`/nigh-${kind}.wasm`] = read(`build/nigh-${kind}.wasm`);
  if (esm) for (const name of ['index.min.js', 'wasm/wllama.wasm']) extra[`/wllama/${name}`] = readFileSync(path.join(esm, name));
  const site = await Site.start({ extra });
  await withBrowser(async (context) => {
    const page = await context.newPage();
    await page.goto(`${site.origin}/decode.html`);
    await page.waitForFunction(() => window.ready);
    for (const [name, kind, threads] of OURS)
      await page.evaluate(([n, o]) => addOurs(n, o), [name, { wasm: `/nigh-${kind}.wasm`, file: '/model.gguf', threads }]);
    const names = OURS.map(([n]) => n);
    await inTurn(page, names, 1);
    const s = await inTurn(page, names, 2 * ROUNDS);
    row('decode, relaxed SIMD, one thread, tokens/s', '60', three(s['relaxed 1']), median(s['relaxed 1']) >= 60);
    row('decode, simd128, one thread, tokens/s', '40', three(s['simd 1']), median(s['simd 1']) >= 40);
    for (const kind of ['relaxed', 'simd']) {
      const by = ratio(s[`${kind} 2`], s[`${kind} 1`]);
      row(`two threads to one, ${kind}, a core is free`, '1.6', `${by.toFixed(2)} (${three(s[`${kind} 2`])} tokens/s)`, by >= 1.6);
    }
    for (const count of [1, availableParallelism()]) {
      const others = Array.from({ length: count }, () => spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }));
      try {
        await sleep(500);
        await inTurn(page, ['relaxed 2'], 2); // it notices that it is not alone
        const b = await inTurn(page, ['relaxed 1', 'relaxed 2'], ROUNDS), by = ratio(b['relaxed 2'], b['relaxed 1']);
        row(`the same, ${count} other busy ${count === 1 ? 'process' : 'processes'}`, '0.9', by.toFixed(2), by >= 0.9);
      } finally {
        for (const o of others) o.kill('SIGKILL');
      }
    }
    if (esm) await against(page);
  });
  await site.stop();
}

async function against(page) {
  for (const [name, threads] of THEIRS) await page.evaluate(([n, o]) => addTheirs(n, o), [name, { file: '/model.gguf', threads }]);
  const names = ['relaxed 1', 'wllama 1', 'relaxed 2', 'wllama 2', 'simd 1'];
  await inTurn(page, names, 1, 6);
  const s = await inTurn(page, names, ROUNDS, Math.min(TOKENS, 24));
  for (const t of [1, 2]) {
    const by = ratio(s[`relaxed ${t}`], s[`wllama ${t}`]);
    row(`x wllama ${WLLAMA}, ${t === 1 ? 'one thread' : 'two threads'} each`, t === 1 ? '5' : '',
      `${by.toFixed(1)} (it: ${three(s[`wllama ${t}`])} tokens/s)`, t === 1 ? by >= 5 : null);
  }
  const by = ratio(s['simd 1'], s['wllama 1']);
  row('x wllama, one thread, ours with simd128 only', '', by.toFixed(1), null);
}

// ---- first suggestions ----

function manifestOf(file) {
  const out = path.join(OUT, 'manifest.json');
  mkdirSync(OUT, { recursive: true });
  spawnSync(process.execPath, [path.join(ROOT, 'web/sdk/bin/manifest.mjs'), file, '--out', out], { stdio: ['ignore', 'ignore', 'inherit'] });
  return JSON.parse(readFileSync(out, 'utf8'));
}

async function first() {
  const site = await Site.start({ extra: filesOf({ first: { file: shipped, manifest: manifestOf(shipped) } }) }), cold = [], warm = [], tasks = [];
  for (let i = 0; i < ROUNDS; i++)
    await withBrowser(async (context) => {
      const v = await visit(context, site.origin, 'first');
      cold.push(v.firstMs);
      tasks.push(...v.tasks);
      let page = v.page;
      for (let k = 0; k < 3; k++) {
        await page.close();
        const again = await visit(context, site.origin, 'first');
        warm.push(again.firstMs);
        tasks.push(...again.tasks);
        page = again.page;
      }
      if (i < ROUNDS - 1) return;
      const got = await type(page);
      tasks.push(...got.tasks);
      row('a keystroke to a suggestion, p95, ms', '20',
        `${part(got.times, 0.95).toFixed(1)} (p50 ${part(got.times, 0.5).toFixed(1)})`, part(got.times, 0.95) <= 20);
    });
  row('a cold page to the first suggestion, ms', '1500', three(cold), median(cold) <= 1500);
  row('a warm one, ms', '300', three(warm), median(warm) <= 300);
  row('tasks of the page over 50 ms, loading and writing', '0', `${tasks.length}${tasks.length ? `: ${tasks.join(', ')} ms` : ''}`, !tasks.length);
  await site.stop();
}

async function opfs(file) {
  const site = await Site.start({ extra: filesOf({ large: { file, manifest: manifestOf(file) } }) }), times = [], whole = [];
  await withBrowser(async (context) => {
    let { page } = await visit(context, site.origin, 'large');
    site.log.length = 0;
    for (let i = 0; i < ROUNDS; i++) {
      await page.close();
      const v = await visit(context, site.origin, 'large');
      times.push(v.afterOpenMs);
      whole.push(v.firstMs);
      page = v.page;
    }
    if (site.of('.gguf').length) throw new Error('it was fetched again');
  });
  row('135M from OPFS to its first token, through the SDK, ms', '1200', `${three(times)}; with the page ${three(whole)}`, median(times) <= 1200);
  await site.stop();
}

// ---- what the tests prove ----

function tests() {
  const folder = path.join(ROOT, 'tests/web'), begun = Date.now(), said = {}, all = { passed: 0, failed: 0, skipped: 0 };
  for (const name of readdirSync(folder).filter((f) => /^test_.*\.mjs$/.test(f))) {
    const run = spawnSync(process.execPath, [path.join(folder, name)], { encoding: 'utf8', maxBuffer: 1 << 26 });
    said[name] = run.stdout;
    const counted = /(\d+) passed, (\d+) failed, (\d+) skipped\s*$/.exec(run.stdout.trim()) ?? [0, 0, 1, 0];
    all.passed += Number(counted[1]);
    all.failed += Number(counted[2]);
    all.skipped += Number(counted[3]);
    say(`  ${name}: ${counted[0]}`);
  }
  const seconds = (Date.now() - begun) / 1000, find = (name, re) => re.exec(said[name] ?? '')?.slice(1) ?? [];
  const logs = Object.values(said).flatMap((text) => [...text.matchAll(/the browser's log: (\d+) requests, (\d+) outside/g)]);
  const sum = (i) => logs.reduce((s, m) => s + Number(m[i]), 0);
  const [files, requests, twice] = find('test_store.mjs', /killed 20 times.*: ([\d.]+) files sent, (\d+) requests, (\d+) pieces twice/);
  row('a download killed 20 times', 'complete', `${files} files in ${requests} requests, ${twice} whole pieces twice`, Number(files) <= 21);
  const [killed, hung] = find('test_tabs.mjs', /killed (\d+ workers and \d+ leading tabs).* (\d+) hung/);
  row('50 random kills of workers and leading tabs', '0 hung', `${killed}: ${hung} hung`, hung === '0');
  row('requests outside the origin, in all of tests/web', '0', `${sum(2)} of ${sum(1)}`, sum(2) === 0 && sum(1) > 0);
  row('tests/web', 'all pass', `${all.passed} passed, ${all.failed} failed, ${all.skipped} skipped in ${seconds.toFixed(0)} s`, !all.failed && !all.skipped);
}

const file = wanted('decode') || wanted('opfs') ? modelFile() : null;
if (wanted('decode') && file) await decode(file);
if (wanted('first') && existsSync(shipped)) await first();
if (wanted('opfs') && file) await opfs(file);
if (wanted('tests')) tests();
print();
process.exit(rows.some((r) => r[3] === 'NO') ? 1 : 0);
