// test_golden.mjs - the core in WebAssembly computes the same bits as the program: logits are compared as bytes, for
// every processor choice that the program has here. Ends with the counted line. Without build/nigh-simd.wasm or the
// reference models the cases are skipped, and say so.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { fromFile, reader } from './files.mjs';
import { Failure } from './nigh.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const kinds = ['simd', 'simd-threads'], native = join(root, 'build/nigh');
const module = (kind) => join(root, `build/nigh-${kind}.wasm`), wasm = module('simd');
const golden = join(process.env.NIGH_SHARED ?? join(root, '../shared'), 'golden');
const stories = join(golden, 'stories260K.gguf');
const folder = mkdtempSync(join(tmpdir(), 'nigh-wasm-'));
const counts = { passed: 0, failed: 0, skipped: 0 };

class Skip extends Error {}
const need = (path) => { if (!existsSync(path)) throw new Skip(`there is no ${path.replace(root + '/', '')}`); };
const equal = (a, b, what) => {
  if (a !== b) throw new Error(`${what}: ${JSON.stringify(a)} is not ${JSON.stringify(b)}`);
};

function test(name, body) {
  try {
    body();
    counts.passed++;
  } catch (e) {
    if (e instanceof Skip) { counts.skipped++; console.log(`  skipped ${name}: ${e.message}`); return; }
    counts.failed++;
    console.error(`  FAILED ${name}: ${e.message}`);
  }
}

function program(args, cpu, input = '') {
  const env = { ...process.env, ...(cpu ? { NIGH_CPU: cpu } : {}) };
  return execFileSync(native, args, { env, input, stdio: ['pipe', 'pipe', 'pipe'] }).toString();
}

function nativeLogits(model, ids, cpu) {
  const out = join(folder, 'logits.f32');
  program(['logits', model, '--ids', ids.join(','), '--out', out], cpu);
  return readFileSync(out);
}

function nativeVector(model, ids, cpu) {
  const rows = JSON.parse(program(['embed', model, '--ids', ids.join(','), '--raw'], cpu)).flat();
  return Buffer.from(Float32Array.from(rows).buffer);
}

// Which of the two rows differ first, for the message.
function compare(ours, theirs, vocab, what) {
  equal(ours.length, theirs.length, `${what}: bytes`);
  if (ours.equals(theirs)) return;
  let at = 0;
  while (ours.readInt32LE(at) === theirs.readInt32LE(at)) at += 4;
  const i = at / 4;
  throw new Error(`${what}: position ${Math.floor(i / vocab)}, token ${i % vocab}: `
    + `${ours.readFloatLE(at)} in WebAssembly, ${theirs.readFloatLE(at)} in the program`);
}

const cpus = ['scalar', 'avx2', 'avx512'];
const runIds = [1, 403, 407, 261, 378, 432, 429, 426, 385, 286, 261, 408, 393, 286, 372, 411, 263];

function sameBits(path, kind) {
  need(path);
  need(native);
  const nigh = fromFile(module(kind)), model = nigh.open(readFileSync(path)), { vocab, embed, encoder } = nigh.about(model);
  const ids = runIds.map((id) => id % vocab);
  if (encoder) {
    const vector = Buffer.from(nigh.embed(nigh.seat(model), ids));
    for (const cpu of cpus) compare(vector, nativeVector(path, ids, cpu), embed, cpu);
    return;
  }
  const whole = Buffer.from(nigh.logits(nigh.seat(model), ids, vocab));
  const parts = nigh.seat(model, 0, 4);
  const pieces = [ids.slice(0, 1), ids.slice(1, 6), ids.slice(6)];
  const cut = Buffer.concat(pieces.map((some) => nigh.logits(parts, some, vocab)));
  compare(cut, whole, vocab, 'a prompt in parts');
  for (const cpu of cpus) compare(whole, nativeLogits(path, ids, cpu), vocab, cpu);
}

const models = [stories];
const made = process.env.NIGH_GOLDEN_MODELS ?? join(root, 'build/golden-models'); // of these one type for each family
for (const [where, end] of [[join(golden, 'models'), '.gguf'], [made, '-q8_0.gguf'], [join(root, 'models'), '.gguf']])
  if (existsSync(where)) models.push(...readdirSync(where).filter((f) => f.endsWith(end)).map((f) => join(where, f)));

if (!kinds.every((kind) => existsSync(module(kind)))) {
  console.log('  skipped everything: there is no build/nigh-*.wasm (make wasm needs clang-19 and lld-19)');
  console.log('test_golden.mjs: 0 passed, 0 failed, 1 skipped');
  process.exit(0);
}

for (const kind of kinds)
  for (const path of models) test(`same bits, ${kind}: ${path.split('/').pop()}`, () => sameBits(path, kind));

test('greedy text equals the reference', () => {
  const expected = join(golden, 'logits/stories260K.json');
  need(expected);
  const nigh = fromFile(wasm), model = nigh.open(readFileSync(stories));
  for (const run of JSON.parse(readFileSync(expected)).runs) {
    const made = nigh.generate(nigh.seat(model), run.ids, { max_tokens: 60 });
    const close = run.greedy_margins.findIndex((margin) => margin < 8e-4);
    const sure = Math.min(made.ids.length, close < 0 ? 60 : close);
    equal(made.ids.slice(0, sure).join(), run.greedy.slice(0, sure).join(), 'ids');
  }
});

test('text to ids and back, as the program does it', () => {
  need(stories);
  need(native);
  const nigh = fromFile(wasm), model = nigh.open(readFileSync(stories));
  const text = 'Once upon a time, Zoë found 3 keys — and <s> a \u{1F511}.';
  const ids = nigh.tokenize(model, text, 0);
  const theirs = program(['tokenize', stories], null, text).trim();
  equal(ids.join(), theirs.split(/[\s,]+/).join(), 'ids');
  equal(nigh.detokenize(model, ids, false), text, 'text');
});

test('same seed, same text; a stop string ends it; the context ends it', () => {
  need(stories);
  const nigh = fromFile(wasm), model = nigh.open(readFileSync(stories));
  const prompt = nigh.tokenize(model, 'Once upon a time', 1);
  const draw = (options, context = 0) =>
    nigh.generate(nigh.seat(model, context), prompt, { max_tokens: 40, temperature: 1, ...options });
  equal(draw({ seed: 7 }).text, draw({ seed: 7 }).text, 'two runs');
  if (draw({ seed: 7 }).text === draw({ seed: 8 }).text) throw new Error('another seed gave the same text');
  const stopped = draw({ temperature: 0, stop: ['.'] });
  equal(stopped.finish, 1, 'finish at a stop string');
  if (stopped.text.includes('.')) throw new Error(`the stop string was shown: ${stopped.text}`);
  equal(draw({ temperature: 0, max_tokens: 0 }, 24).finish, 2, 'finish in a context of 24 tokens');
});

test('a model in pieces: the same bits, and never the whole file in memory', () => {
  need(stories);
  const file = readFileSync(stories), ids = runIds;
  const whole = fromFile(wasm), parts = fromFile(wasm);
  const open = whole.open(file), model = parts.load(reader(file), file.length, 4096);
  compare(Buffer.from(parts.logits(parts.seat(model), ids, 512)), Buffer.from(whole.logits(whole.seat(open), ids, 512)),
    512, 'logits');
  const before = parts.x.live_bytes();
  for (const wrong of [() => parts.load(reader(file), file.length - 1000),
    () => parts.load((at, view) => view.fill(66), 8)]) {
    try { wrong(); } catch (e) { if (e instanceof Failure && e.code === -6) continue; throw e; }
    throw new Error('a damaged file was taken');
  }
  equal(parts.x.live_bytes(), before, 'live bytes');
});

test('a step reads a piece of the prompt or makes a token; a flag stops it and it goes on', () => {
  need(stories);
  const nigh = fromFile(module('simd-threads')), model = nigh.open(readFileSync(stories)), prompt = Array(100).fill(300);
  const expected = nigh.generate(nigh.seat(model), prompt, { max_tokens: 8 });
  const seat = nigh.seat(model), steps = [], x = nigh.x;
  nigh.withIds(prompt, (ptr, count) => nigh.check(x.generate_begin(seat, 0, 0, ptr, count)));
  const flag = x.cancel_flag(model) >>> 0, ids = [];
  for (let i = 0; ids.length < 8; i++) {
    steps.push(x.generate_left(seat));
    if (i % 3 === 1) {
      new Uint8Array(x.memory.buffer)[flag] = 1;
      equal(x.generate_step(seat, 40), -7, 'stopped');
    }
    nigh.check(x.generate_step(seat, 40));
    if (x.generate_token(seat) >= 0) ids.push(x.generate_token(seat));
  }
  equal(steps.slice(0, 4).join(), '100,60,20,0', 'tokens left to read');
  equal(ids.slice(0, expected.ids.length).join(), expected.ids.join(), 'ids');
});

test('a text leaves its seat for another and goes on as if nothing had happened', () => {
  need(stories);
  const nigh = fromFile(wasm), model = nigh.open(readFileSync(stories)), seat = nigh.seat(model), x = nigh.x;
  const prompt = nigh.tokenize(model, 'Once upon a time', 1), options = { max_tokens: 40, temperature: 1, seed: 3, stop: ['zzz'] };
  const alone = nigh.generate(nigh.seat(model), prompt, options), held = [...prompt];
  const read = (from) => nigh.withIds(held.slice(from), (ptr, count) => nigh.check(x.seat_eval(seat, ptr, count, 0)));
  equal(x.generate_leave(seat), 0, 'nothing to leave yet');
  nigh.begin(seat, prompt, options);
  equal(x.generate_leave(seat), 0, 'the prompt is not read yet');
  let text = '', finish = 0;
  for (let i = 0; finish === 0; i++) {
    if (i % 7 === 3) {
      const left = nigh.check(x.generate_leave(seat));
      nigh.generate(seat, [5, 6, 7], { max_tokens: 5 });
      x.seat_truncate(seat, 0);
      read(0);
      nigh.check(x.generate_join(seat, left));
    }
    finish = nigh.check(x.generate_step(seat));
    text += nigh.text();
    if (i > 0) held.push(alone.ids[i - 1]);
  }
  equal([text, finish].join(), [alone.text, alone.finish].join(), 'text and finish');
  const before = x.live_bytes();
  nigh.begin(seat, prompt, options);
  for (let i = 0; i < 3; i++) nigh.check(x.generate_step(seat));
  x.generate_drop(nigh.check(x.generate_leave(seat)));
  if (x.live_bytes() > before) throw new Error('what was dropped is still there');
});

test('memory that is asked for is not taken, and what is taken is zero', () => {
  const { x } = fromFile(wasm), bytes = (ptr, count) => new Uint8Array(x.memory.buffer, ptr >>> 0, count);
  const live = x.live_bytes(), big = 50 << 20;
  equal(x.room(big), 1, 'there is room');
  equal(x.room(2 ** 32 - 1) | x.room(0xfff00000), 0, 'there is none');
  equal(x.live_bytes(), live, 'nothing is taken');
  const size = x.memory_bytes(), ptr = x.alloc(big - 1024);
  equal(x.memory_bytes(), size, 'what was asked for is there');
  const kept = [], seen = (p, n) => equal(bytes(p, n).findIndex((b) => b !== 0), -1, 'all zero');
  seen(ptr, big - 1024);
  x.free(ptr);
  for (let i = 1; i < 200; i++) {
    const n = (i * 7919) % 100000 + 1, p = x.alloc(n);
    seen(p, n);
    bytes(p, n).fill(0xff);
    kept.push(p);
    if (i % 3 === 0) x.free(kept.splice((i * 31) % kept.length, 1)[0]);
  }
  kept.forEach((p) => x.free(p));
  equal(x.live_bytes(), live, 'live bytes');
  equal(x.memory_bytes(), size, 'nothing grew');
});

test('SHA-256 in pieces', () => {
  const nigh = fromFile(wasm), file = readFileSync(wasm);
  nigh.x.hash_begin();
  for (let at = 0; at < file.length; at += 100001)
    nigh.with(file.subarray(at, at + 100001), (ptr, count) => nigh.x.hash_add(ptr, count));
  nigh.check(nigh.x.hash_end());
  equal(nigh.text(), createHash('sha256').update(file).digest('hex'), 'hash');
});

test('a conversation becomes ids', () => {
  need(stories);
  const nigh = fromFile(wasm), model = nigh.open(readFileSync(stories));
  const ids = nigh.chat(model, { messages: [{ role: 'user', content: 'Hi <s>' }] });
  const text = nigh.detokenize(model, ids, false);
  if (!text.includes('User: Hi <s>') || !text.trimEnd().endsWith('Assistant:')) throw new Error(text);
});

test('what is wrong is refused with a sentence, and nothing is kept', () => {
  need(stories);
  const nigh = fromFile(wasm), file = readFileSync(stories), model = nigh.open(file), seat = nigh.seat(model);
  const refuses = (code, call) => {
    try { call(); } catch (e) {
      if (!(e instanceof Failure)) throw e;
      equal(e.code, code, e.message);
      if (e.message.length < 10) throw new Error(`no sentence: '${e.message}'`);
      return;
    }
    throw new Error(`status ${code} was expected`);
  };
  nigh.tokenize(model, 'warm', 0);
  refuses(-6, () => nigh.open(file.subarray(0, 100)));
  const before = nigh.x.live_bytes();
  for (const cut of [0, 4, 100, 20000, file.length - 1]) refuses(-6, () => nigh.open(file.subarray(0, cut)));
  refuses(-1, () => nigh.logits(seat, [512], 512));
  refuses(-3, () => nigh.logits(seat, Array(600).fill(5), 512));
  refuses(-1, () => nigh.generate(seat, [1], { temperature: -1 }));
  refuses(-1, () => nigh.generate(seat, [1], { heat: 1 }));
  refuses(-1, () => nigh.generate(seat, [1], { stop: 5 }));
  equal(nigh.logits(nigh.seat(model), [1, 2], 512).length, 4096, 'bytes of logits afterwards');
  for (let i = 0; i < 3; i++) nigh.x.seat_free(nigh.seat(model));
  equal(nigh.x.live_bytes() - before < 3 << 20, true, 'memory is given back');
});

test('memory is used again: fifty opens and closes do not grow it', () => {
  need(stories);
  const nigh = fromFile(wasm), file = readFileSync(stories);
  const once = () => {
    const model = nigh.open(file), seat = nigh.seat(model, 64);
    nigh.logits(seat, [1, 2, 3], 512);
    nigh.x.seat_free(seat);
    nigh.x.model_close(model);
  };
  once();
  const size = nigh.x.memory.buffer.byteLength, live = nigh.x.live_bytes();
  for (let i = 0; i < 50; i++) once();
  equal(nigh.x.memory.buffer.byteLength, size, 'bytes of memory');
  equal(nigh.x.live_bytes(), live, 'live bytes');
});

test('the modules are small; those with threads import their memory and a clock, and nothing else', () => {
  for (const kind of [...kinds, 'relaxed-threads']) {
    const bytes = readFileSync(module(kind)), packed = gzipSync(bytes, { level: 9 }).length;
    if (kinds.includes(kind)) {     // node 20 does not read the relaxed one
      const imports = WebAssembly.Module.imports(new WebAssembly.Module(bytes)).map((i) => `${i.module}.${i.name}`);
      equal(imports.sort().join(), kind === 'simd' ? '' : 'env.memory,env.now', `imports of ${kind}`);
    }
    console.log(`  build/nigh-${kind}.wasm: ${bytes.length} bytes, ${packed} as gzip`);
    if (packed > 250_000) throw new Error(`${packed} bytes as gzip; 250,000 are allowed`);
  }
});

rmSync(folder, { recursive: true, force: true });
console.log(`test_golden.mjs: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed || (!counts.passed && !counts.skipped) ? 1 : 0);
