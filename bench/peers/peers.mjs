// peers.mjs - `make bench-peers`: one table, from one run on one machine, of our figures, llama.cpp's and the machine's
// own limits; then what the goals say of each row; and a CSV.
//
//     node bench/peers/peers.mjs [FILE.gguf...]       files of your own instead of the bench models
//
//     NIGH_SHORT=1             one model, few rounds: about two minutes instead of ten to fifteen
//     NIGH_PEERS=0             without llama.cpp (also where it cannot be installed)
//     NIGH_BENCH_OUT=DIR       what is installed and written (build/peers)
//     NIGH_BENCH_MODELS=DIR    where the bench models lie or are made (OUT/models)
//     NIGH_BENCH_WHAT=a,b      only these parts: tokens, start, busy, avx2, one thread
//     NIGH_BENCH_CSV=FILE      where the CSV goes (OUT/peers.csv)
//     NIGH_BENCH_WRAP="cmd"    a command in front of every part (a lock, taskset, numactl)
//     LLAMA_BENCH=FILE         a llama-bench of one's own, as one more column
//
// Both programs are loaded, then asked in turn for one prompt or one answer at a time (ours, theirs, ours, theirs), and
// the memory is read between: the speed of a machine that is shared moves, and so it moves for both. llama.cpp comes
// from the npm package node-llama-cpp, pinned below, into build/peers; it is no part of the program or of its tests.
// Its settings are the best that were found: flash attention, f16 cache, weights in malloc'd memory on huge pages.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { bytesOf, csv, median, printTable, printVerdicts } from './table.mjs';

const VERSION = '3.22.1';                       // of node-llama-cpp; it brings llama.cpp v0.5.0
const HERE = path.dirname(fileURLToPath(import.meta.url)), ROOT = path.resolve(HERE, '../..');
const OUT = path.resolve(process.env.NIGH_BENCH_OUT ?? path.join(ROOT, 'build/peers'));
const NIGH = process.env.NIGH ?? path.join(ROOT, 'build/nigh');
const LIMITS = process.env.NIGH_LIMITS ?? path.join(ROOT, 'build/bench/bench_limits');
const SHORT = process.env.NIGH_SHORT === '1';
const PEER_ENV = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1', UV_THREADPOOL_SIZE: '1' };
const CPUS = os.availableParallelism();
const SHAPES = ['smollm2-135m', 'qwen2.5-0.5b', 'llama-3.2-1b'];
// Multiplications and additions a token of the matrices, without the output matrix (a prompt needs it once).
const PROMPT_GOP = { 'smollm2-135m': 0.2124, 'qwen2.5-0.5b': 0.7156, 'llama-3.2-1b': 1.9462 };
// Bytes of an f16 cache for one token; of a q8_0 cache they are 9/16 (a byte a value, a float for 32).
const CACHE_BYTES = { 'smollm2-135m': 23040, 'qwen2.5-0.5b': 12288, 'llama-3.2-1b': 32768 };
const CACHE_SHARE = { f16: 1, q8_0: 9 / 16 };
const shapeOf = file => SHAPES.find(shape => file.startsWith(shape));
const say = text => process.stderr.write(`${text}\n`);

// ---- a loaded program that measures when told ----

const OTHERS_MAX = 0.07;                        // of all processors' time

// Time of the processors in ticks: spent by a process, idle, and all. Where the system does not tell: nothing is known
// to disturb.
function usage(pid) {
    if (process.platform !== 'linux') return { own: performance.now(), idle: 0, all: performance.now() };
    const all = fs.readFileSync('/proc/stat', 'utf8').split('\n', 1)[0].trim().split(/ +/).slice(1, 9).map(Number);
    const own = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return { own: Number(own[11]) + Number(own[12]), idle: all[3] + all[4], all: all.reduce((sum, one) => sum + one, 0) };
}

class Steps {
    constructor(command, args, env = {}) {
        this.child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'inherit'] });
        this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
        this.child.stdin.on('error', () => {});  // the answer that does not come tells more
    }
    async answer() {
        const { value, done } = await this.lines.next();
        if (done) throw new Error(`${this.child.spawnargs.slice(0, 3).join(' ')} ended early`);
        return JSON.parse(value);
    }
    ask(line) {
        this.child.stdin.write(`${line}\n`);
        return this.answer();
    }
    // A round during which others used much of the processors is taken again, a few times, but not for ever: within
    // the process's first 40 s. The least disturbed counts.
    async measure(line, key) {
        let best = null;
        for (let i = 0; i < 4 && (i === 0 || (best.others >= OTHERS_MAX && performance.now() < 40e3)); i++) {
            const before = usage(this.child.pid), value = (await this.ask(line))[key], after = usage(this.child.pid);
            const others = 1 - (after.own - before.own + after.idle - before.idle) / (after.all - before.all);
            if (!best || others < best.others) best = { value, others };
        }
        return best.value;
    }
    close() {
        return new Promise(done => {
            this.child.once('exit', done);
            this.child.stdin.end();
            if (this.child.exitCode !== null) done();
        });
    }
}

async function openOurs(job, env = {}) {
    const steps = new Steps(NIGH, ['bench', job.path, '--steps', '-t', job.threads, '-p', job.prompt, '-n', job.tokens,
        '-c', Math.max(0, ...job.contexts), ...(job.cache ? ['--cache', job.cache] : [])].map(String), env);
    return { steps, about: await steps.answer() };
}

async function openPeer(job, folder = OUT) {
    if (!job.peers) return null;
    const options = { model: path.resolve(job.path), threads: job.threads, prompt: job.prompt, tokens: job.tokens,
        context: Math.max(0, ...job.contexts) };
    const steps = new Steps(process.execPath, [path.join(HERE, 'llama.mjs'), folder, JSON.stringify(options)], PEER_ENV);
    return { steps, about: await steps.answer() };
}

// ---- the parts; each runs in a process of its own and gives rows ----

function addShares(row) {
    const limits = readLimits(), memory = median(row.memory), gops = PROMPT_GOP[shapeOf(row.file)];
    // The ceiling that is asked for is that of the weights; behind a text the cache is counted, too.
    if (row.what.startsWith('decode') && memory > 0)
        row.share = median(row.ours) * (row.context ? bytesOf(row) : row.bytes) / 1e9 / memory;
    const int8 = limits.find(limit => limit.what === 'int8' && limit.threads === row.threads);
    if (row.what === 'prompt' && gops && int8) row.share = median(row.ours) * gops / int8.rate;
    return row;
}

const rowOf = (job, what, more) =>
    ({ file: job.file, what, threads: job.threads, unit: 'tok/s', ours: [], peer: [], bench: [], memory: [], ...more });

// Prompt and decode in turn; then decode behind each context.
async function partTokens(job) {
    const env = job.cpu ? { NIGH_CPU: job.cpu } : {};
    const ours = await openOurs(job, env), peer = await openPeer(job, job.cpu ? `${OUT}-${job.cpu}` : OUT);
    const cacheBytes = (CACHE_BYTES[shapeOf(job.file)] ?? 0) * CACHE_SHARE[job.cache ?? 'f16'];
    const more = { cpu: job.cpu, cache: job.cache, bytes: ours.about.decode_bytes, cacheBytes, context: 0 };
    const prompt = rowOf(job, 'prompt', { ...more, count: job.prompt });
    const decode = rowOf(job, 'decode', { ...more, count: job.tokens });
    for (const engine of [ours, peer])
        for (const line of job.rounds ? ['prompt', 'decode 0 8'] : []) await engine?.steps.ask(line);
    for (let i = 0; i < job.rounds; i++) {
        for (const [engine, name] of [[ours, 'ours'], [peer, 'peer']]) {
            if (!engine) continue;
            prompt[name].push(await engine.steps.measure('prompt', 'prompt_tps'));
            decode[name].push(await engine.steps.measure('decode', 'decode_tps'));
        }
        decode.memory.push((await ours.steps.ask('memory')).memory_gbps);
    }
    const rows = job.rounds ? [prompt, decode] : [];
    for (const context of job.contexts) rows.push(await decodeBehind(job, ours, peer, context, more));
    const variant = peer ? (await peer.steps.ask('cpu')).variant : undefined;
    await ours.steps.close();
    await peer?.steps.close();
    return rows.map(row => ({ ...row, variant, isa: ours.about.cpu }));
}

async function decodeBehind(job, ours, peer, context, more) {
    const row = rowOf(job, 'decode', { ...more, context, count: job.contextTokens });
    const line = `decode ${context} ${job.contextTokens}`;
    for (const engine of [ours, peer]) if (engine) await engine.steps.ask(line);
    for (let i = 0; i < job.contextRounds; i++) {
        row.ours.push(await ours.steps.measure(line, 'decode_tps'));
        if (peer) row.peer.push(await peer.steps.measure(line, 'decode_tps'));
        row.memory.push((await ours.steps.ask('memory')).memory_gbps);
    }
    return row;
}

// llama-bench measures by itself; it cannot take turns. Its numbers go into the rows of the same name.
function partBench(job) {
    const rows = [rowOf(job, 'prompt', { count: job.prompt, context: 0 }), rowOf(job, 'decode', { count: job.tokens, context: 0 })];
    const args = ['-m', job.path, '-t', job.threads, '-p', job.prompt, '-n', job.tokens, '-r', job.rounds, '-fa', 1,
        '-lm', 'none', '-o', 'json'].map(String);
    const made = spawnSync(job.bench, args, { env: { ...process.env, ...PEER_ENV }, cwd: path.dirname(job.bench),
        encoding: 'utf8' });
    if (made.status !== 0) throw new Error(`llama-bench: ${made.stderr.trim().split('\n').at(-1)}`);
    for (const test of JSON.parse(made.stdout)) rows[test.n_gen ? 1 : 0].bench.push(...test.samples_ts);
    return rows;
}

const dropCache = file => spawnSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' });
function cached(file) {
    const made = spawnSync('fincore', ['-n', '-b', '-o', 'RES', file], { encoding: 'utf8' });
    return made.status === 0 ? Number(made.stdout) : NaN;
}

// Milliseconds from the begin of our process until it says that the first token came.
function startOurs(job, args) {
    return new Promise((done, fail) => {
        const begin = performance.now();
        const child = spawn(NIGH, ['bench', job.path, '--start', '--json', '-t', ...args].map(String));
        let ms = 0, text = '';
        child.stdout.on('data', data => {
            ms ||= performance.now() - begin;
            text += data;
        });
        child.on('error', fail);
        child.on('exit', code => code === 0 ? done({ ms, ...JSON.parse(text) }) : fail(new Error(`nigh ended with ${code}`)));
    });
}

function startPeer(job, more) {
    const options = JSON.stringify({ model: path.resolve(job.path), threads: job.threads, start: true, ...more });
    const made = execFileSync(process.execPath, [path.join(HERE, 'llama.mjs'), OUT, options],
        { env: { ...process.env, ...PEER_ENV }, encoding: 'utf8' });
    return JSON.parse(made);
}

async function partStart(job) {
    const warm = rowOf(job, 'start, warm', { unit: 'ms' }), peak = rowOf(job, 'peak memory', { unit: 'MB' });
    const cold = rowOf(job, 'start, cold', { unit: 'ms' });
    await startOurs(job, [job.threads]);
    for (let i = 0; i < job.rounds; i++) {
        warm.ours.push((await startOurs(job, [job.threads])).ms);
        if (job.peers) warm.peer.push(startPeer(job, { prompt: 1 }).start_ms);
    }
    for (let i = 0; i < Math.min(job.rounds, 3); i++) {
        peak.ours.push((await startOurs(job, [job.threads, '-p', job.prompt])).peak_mb);
        if (job.peers) peak.peer.push(startPeer(job, { prompt: job.prompt }).peak_mb);
    }
    peak.limit = (fs.statSync(job.path).size * 1.15 + (CACHE_BYTES[shapeOf(job.file)] ?? 0) * job.prompt) / 1e6;
    const rows = [warm, peak];
    for (let i = 0; i < Math.min(job.rounds, 3) && job.cold; i++) {
        dropCache(job.path);
        if (!(cached(job.path) < 1e6)) {
            say(`${job.file}: its pages stay in the cache, so there is no cold start`);
            return rows;
        }
        cold.ours.push((await startOurs(job, [job.threads])).ms);
        if (!job.peers) continue;
        dropCache(job.path);
        cold.peer.push(startPeer(job, { prompt: 1 }).start_ms);
    }
    return job.cold ? [...rows, cold] : rows;
}

// One process for each core that does nothing but count, beside both programs.
async function partBusy(job) {
    const ours = await openOurs(job), peer = await openPeer(job);
    const measure = async what => {
        const row = rowOf(job, what, { count: job.tokens, context: 0, bytes: ours.about.decode_bytes });
        for (let i = 0; i < job.rounds; i++) {
            row.ours.push((await ours.steps.ask('decode')).decode_tps);
            if (peer) row.peer.push((await peer.steps.ask('decode')).decode_tps);
        }
        return row;
    };
    for (const engine of [ours, peer]) if (engine) await engine.steps.ask('decode');
    const rows = [await measure('decode, idle')];
    const others = Array.from({ length: CPUS }, () => spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }));
    try {
        await new Promise(done => setTimeout(done, 500));
        rows.push(await measure('decode, busy'));
    } finally {
        for (const other of others) other.kill('SIGKILL');
    }
    await ours.steps.close();
    await peer?.steps.close();
    return rows;
}

const PARTS = { tokens: partTokens, 'one thread': partTokens, avx2: partTokens, start: partStart, busy: partBusy, bench: partBench, limits: partLimits };

// ---- what is needed: limits, models, the peer ----

function readLimits() {
    const file = path.join(OUT, 'limits.csv');
    if (!fs.existsSync(file)) return [];
    const lines = fs.readFileSync(file, 'utf8').trim().split('\n').slice(1);
    return lines.map(line => line.split(',')).map(([what, isa, threads, rate, unit]) =>
        ({ what, isa, threads: Number(threads), rate: Number(rate), unit }));
}

function wrap(command, args) {
    const front = (process.env.NIGH_BENCH_WRAP ?? '').split(' ').filter(Boolean);
    const all = [...front, command, ...args];
    return { command: all[0], args: all.slice(1) };
}

// The best of several measurements counts, and stays in a file.
function partLimits() {
    if (!fs.existsSync(LIMITS)) return [];
    const before = readLimits(), now = execFileSync(LIMITS, { encoding: 'utf8' });
    const lines = now.trim().split('\n').map((line, i) => {
        const old = before[i - 1], cells = line.split(',');
        if (old && old.rate > Number(cells[3])) cells[3] = old.rate;
        return cells.join(',');
    });
    fs.writeFileSync(path.join(OUT, 'limits.csv'), `${lines.join('\n')}\n`);
    return [];
}

function npm(args) {
    return spawnSync('npm', ['--prefix', OUT, '--no-audit', '--no-fund', '--ignore-scripts', '--omit=optional', ...args],
        { encoding: 'utf8' });
}

// The package and its libraries for this machine only. True when they are there.
function installPeer() {
    if (process.env.NIGH_PEERS === '0') return say('without llama.cpp: NIGH_PEERS=0'), false;
    const platform = `${process.platform === 'darwin' ? 'mac' : process.platform}-${process.arch}`;
    const binary = `@node-llama-cpp/${platform}${platform === 'mac-arm64' ? '-metal' : ''}`;
    const read = name => {
        try {
            return JSON.parse(fs.readFileSync(path.join(OUT, 'node_modules', name, 'package.json'), 'utf8')).version;
        } catch {
            return null;
        }
    };
    const present = () => read('node-llama-cpp') === VERSION && read(binary) === VERSION;
    if (!present()) {
        say(`installing node-llama-cpp ${VERSION} into ${path.relative(process.cwd(), OUT)} ...`);
        fs.mkdirSync(OUT, { recursive: true });
        fs.writeFileSync(path.join(OUT, 'package.json'), '{ "private": true }\n');
        const made = npm(['install', `node-llama-cpp@${VERSION}`, `${binary}@${VERSION}`]);
        if (made.status !== 0) say((made.stderr ?? String(made.error)).trim().split('\n').slice(0, 3).join('\n'));
    }
    if (!present()) say(`without llama.cpp: node-llama-cpp ${VERSION} is not installed, so these are our figures alone`);
    return present();
}

// The same package with the libraries for AVX2 alone: hard links, without the variants for AVX-512.
function makeAvx2() {
    const folder = `${OUT}-avx2`;
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(folder);
    if (spawnSync('cp', ['-al', path.join(OUT, 'node_modules'), folder]).status !== 0) return false;
    const binaries = path.join(folder, 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64');
    if (!fs.existsSync(binaries)) return false;
    for (const name of fs.readdirSync(binaries))
        if (/^libggml-cpu-/.test(name) && !/haswell|alderlake|x64/.test(name)) fs.unlinkSync(path.join(binaries, name));
    return true;
}

function modelFiles(wanted) {
    const folder = process.env.NIGH_BENCH_MODELS ?? path.join(OUT, 'models');
    const maker = path.join(ROOT, '../shared/tools/benchgguf.c'), program = path.join(OUT, 'benchgguf');
    const missing = wanted.filter(name => !fs.existsSync(path.join(folder, `${name}.gguf`)));
    if (missing.length && !fs.existsSync(maker)) {
        say(`skipped: ${missing.join(', ')} (the bench models are made by ../shared/tools/benchgguf.c, which is not here)`);
        return wanted.filter(name => !missing.includes(name)).map(name => path.join(folder, `${name}.gguf`));
    }
    if (missing.length) {
        fs.mkdirSync(folder, { recursive: true });
        fs.mkdirSync(OUT, { recursive: true });
        execFileSync('cc', ['-std=c11', '-O2', maker, '-o', program]);
    }
    for (const name of missing) {
        const at = shapeOf(name).length;
        say(`making ${name}.gguf ...`);
        execFileSync(program, [name.slice(0, at), name.slice(at + 1), path.join(folder, `${name}.gguf`)]);
    }
    return wanted.map(name => path.join(folder, `${name}.gguf`));
}

// ---- the plan ----

const FILES = ['smollm2-135m-q8_0', 'smollm2-135m-q4_0', 'smollm2-135m-q4_k_m', 'qwen2.5-0.5b-q4_0', 'qwen2.5-0.5b-q4_k_m',
    'llama-3.2-1b-q4_0', 'llama-3.2-1b-q4_k_m'];

// A big model's rounds come from several processes. What matters most comes first: whoever stops early has it in the CSV.
function plan(files, peers) {
    const rounds = SHORT ? 2 : 5, jobs = [], most = Math.min(2, CPUS);
    const only = process.env.NIGH_BENCH_WHAT?.split(','), bench = process.env.LLAMA_BENCH;
    const add = (part, file, seconds, more) => {
        if (only && !only.includes(part)) return;
        jobs.push({ part, seconds, path: file, file: path.basename(file, '.gguf'), threads: most, prompt: 512, tokens: 128, contexts: [],
            contextTokens: 32, contextRounds: rounds, rounds, peers, ...more });
    };
    const known = file => FILES.includes(path.basename(file, '.gguf')), mixed = file => /k_m/.test(file);
    const small = file => /smollm2/.test(file), big = file => /llama-3.2/.test(file);
    const times = file => big(file) ? 6 : small(file) ? 1 : 2.5;
    // A file of one's own may be tiny.
    const size = file => known(file) ? {} : { prompt: 64, tokens: 16, contextTokens: 8 };
    const contexts = file => known(file) ? [128, 1024] : [16, 128];
    const none = { rounds: 0, prompt: 1 };
    for (const file of files) {
        jobs.push({ part: 'limits', file: 'this machine', seconds: 3 });
        for (const some of big(file) && !SHORT ? [2, 2, 1] : [rounds])
            add('tokens', file, big(file) ? 12 + 13 * some : 13 * times(file), { ...size(file), rounds: some });
        if (bench) add('bench', file, 6 * times(file), { ...size(file), bench, rounds: 3 });
    }
    for (const file of files) if (!mixed(file)) add('tokens', file, 8 * times(file), { ...size(file), ...none, contexts: contexts(file) });
    // Over the f16 cache the bytes alone keep the small files below the goal behind 1,024 tokens.
    for (const file of files) if (small(file) || !known(file))
        add('tokens', file, 5 * times(file), { ...size(file), ...none, contexts: contexts(file), cache: 'q8_0', peers: false });
    const light = files.filter(file => !/k_m|q8_0/.test(file));
    for (const file of SHORT ? light : files)
        add('start', file, (light.includes(file) ? 8 : 5) * times(file), { ...size(file), cold: !SHORT && light.includes(file) });
    const busy = files.find(file => /smollm2.*q8_0/.test(file)) ?? files[0];
    if (busy) add('busy', busy, 30, { ...size(busy), tokens: 24 });
    if (SHORT) return jobs;
    const some = files.filter(file => !mixed(file) && !big(file));
    if (process.arch === 'x64') for (const file of some) add('avx2', file, 13 * times(file), { ...size(file), cpu: 'avx2', rounds: 3 });
    for (const file of some) if (small(file)) add('tokens', file, 50, { ...none, contexts: [8064], contextRounds: 3 });
    if (most > 1) for (const file of some) add('one thread', file, 25 * times(file), { ...size(file), threads: 1 });
    return jobs;
}

// Neighbouring parts that take about half a minute together share one process and one turn of NIGH_BENCH_WRAP.
function group(jobs, seconds) {
    const groups = [];
    let left = 0;
    for (const job of jobs) {
        if (job.seconds > left) groups.push([]), left = seconds;
        groups.at(-1).push(job);
        left -= job.seconds;
    }
    return groups;
}

// The rows of the parts that ended, also when the process was stopped in the middle.
function runGroup(jobs, at, count) {
    say(`${String(at + 1).padStart(2)}/${count}  ${jobs.map(job => `${job.part} ${job.file}`).join(', ')}`);
    const { command, args } = wrap(process.execPath, [fileURLToPath(import.meta.url), '--jobs', JSON.stringify(jobs)]);
    const made = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26 });
    const lines = (made.stdout ?? '').split('\n').slice(0, -1);
    if (lines.length < jobs.length)
        say(`      ${jobs.length - lines.length} of these are left out: the process ended with ${made.status}`);
    return lines.flatMap(line => JSON.parse(line));
}

// Rounds of the same row from several processes, and llama-bench's, come together.
function join(rows, more) {
    const key = row => [row.file, row.what, row.context, row.threads, row.cpu, row.cache, row.count].join();
    for (const row of more) {
        const same = rows.find(r => key(r) === key(row));
        if (!same) rows.push(row);
        else for (const name of ['ours', 'peer', 'bench', 'memory']) same[name].push(...row[name]);
    }
}

// ---- the whole ----

const text = (command, args) => spawnSync(command, args, { encoding: 'utf8', cwd: ROOT }).stdout?.trim() ?? '';

function describe(rows, peers) {
    const flags = fs.existsSync('/proc/cpuinfo')
        ? fs.readFileSync('/proc/cpuinfo', 'utf8').match(/^flags.*/m)?.[0].split(' ')
            .filter(flag => /^(avx|f16c|fma|amx)/.test(flag)).join(' ') ?? '' : '';
    const dirty = text('git', ['status', '--porcelain', '-uno', '--', 'src', 'include', 'Makefile']) ? '+changes' : '';
    const variant = rows.find(row => row.variant)?.variant;
    return {
        date: new Date().toISOString().slice(0, 16), commit: text('git', ['rev-parse', '--short', 'HEAD']) + dirty,
        machine: `${os.cpus()[0]?.model.trim()}, ${CPUS} cores, ${os.release()}`, flags,
        engines: { ours: 'nigh', peer: peers ? `llama.cpp of node-llama-cpp ${VERSION} (${variant ?? process.arch})` : '',
            bench: 'llama-bench' },
    };
}

async function main(files) {
    if (!fs.existsSync(NIGH)) throw new Error(`there is no ${NIGH}; make`);
    const models = files.length ? files : modelFiles(SHORT ? ['smollm2-135m-q4_0'] : FILES);
    const peers = installPeer(), begin = performance.now();
    fs.mkdirSync(OUT, { recursive: true });
    fs.rmSync(path.join(OUT, 'limits.csv'), { force: true });
    if (!fs.existsSync(LIMITS)) say(`the machine's limits are not measured: there is no ${path.relative(ROOT, LIMITS)}`);
    let jobs = plan(models, peers);
    if (peers && jobs.some(job => job.cpu) && !makeAvx2()) jobs = jobs.map(job => job.cpu ? { ...job, peers: false } : job);
    const target = process.env.NIGH_BENCH_CSV ?? path.join(OUT, 'peers.csv');
    const rows = [];
    let limitRows = [];
    let about = describe(rows, peers);
    const groups = group(jobs, 36);
    for (const [i, some] of groups.entries()) {
        join(rows, runGroup(some, i, groups.length));
        about = describe(rows, peers);
        rows.forEach(addShares);
        limitRows = readLimits().map(limit => ({ file: 'this machine', what: `${limit.what} ${limit.isa}`.trim(),
            threads: limit.threads, unit: limit.unit, ours: [limit.rate] }));
        fs.writeFileSync(target, csv([...limitRows, ...rows], about));
    }
    console.log(`${about.date} UTC, commit ${about.commit}, ${about.machine}`);
    if (peers) console.log(`peer: ${about.engines.peer}; flash attention, f16 cache, huge pages; without node's own start`);
    for (const limit of limitRows)
        console.log(`limit: ${limit.what}, ${limit.threads} thr.: ${limit.ours[0]} ${limit.unit}`);
    console.log(`\n${printTable(rows)}\n`);
    console.log(printVerdicts(rows));
    console.log(`\n${Math.round((performance.now() - begin) / 1e3)} s; each round is in ${path.relative(process.cwd(), target)}`);
}

if (process.argv[2] === '--jobs') {
    for (const job of JSON.parse(process.argv[3])) {
        try {
            console.log(JSON.stringify(await PARTS[job.part](job)));
        } catch (error) {
            say(`      ${job.part} ${job.file} failed: ${error.message}`);
            console.log('[]');
        }
    }
    process.exit(0);
} else {
    await main(process.argv.slice(2));
}
