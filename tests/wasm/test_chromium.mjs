// test_chromium.mjs - the logits of every reference model in a browser equal the program's, byte for byte: both threaded
// modules in headless Chromium, with one thread and with two. Ends with the counted line.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inWorker, missing, root } from './chrome.mjs';

const native = join(root, 'build/nigh'), shared = process.env.NIGH_SHARED ?? join(root, '../shared');
const folder = mkdtempSync(join(tmpdir(), 'nigh-chromium-'));
const counts = { passed: 0, failed: 0, skipped: 0 };
const ids = [1, 403, 407, 261, 378, 432, 429, 426, 385, 286, 261, 408, 393, 286, 372, 411, 263];

// Every type of one family, and one type of every family.
const made = process.env.NIGH_GOLDEN_MODELS ?? join(root, 'build/golden-models');
const paths = [];
for (const [where, wanted] of [[join(shared, 'golden'), /\.gguf$/], [join(shared, 'golden/models'), /\.gguf$/],
  [made, /-q8_0\.gguf$|llama.*\.gguf$/], [join(root, 'models'), /\.gguf$/]])
  if (existsSync(where)) paths.push(...readdirSync(where).filter((f) => wanted.test(f)).map((f) => join(where, f)));

const sha = (bytes) => createHash('sha256').update(bytes).digest('hex');
const program = (args) => execFileSync(native, args, { stdio: ['pipe', 'pipe', 'pipe'] }).toString();

// Of ids that the model has: it says how many those are.
function expected(path) {
  const about = program(['inspect', path, '--json']), vocab = Number(/"vocab[^"]*":\s*(\d+)/.exec(about)?.[1]);
  const list = ids.map((id) => id % (vocab || 512)).join(','), out = join(folder, 'logits');
  try {
    program(['logits', path, '--ids', list, '--out', out]);
    return sha(readFileSync(out));
  } catch {
    return sha(Buffer.from(Float32Array.from(JSON.parse(program(['embed', path, '--ids', list, '--raw'])).flat()).buffer));
  }
}

async function test(name, kind, threads) {
  const wasm = join(root, `build/nigh-${kind}.wasm`);
  const why = !existsSync(wasm) || !existsSync(native) ? 'not built' : paths.length === 0 ? 'no reference models' : missing();
  if (why) { counts.skipped++; console.log(`  skipped ${name}: ${why}`); return; }
  const here = (file) => join(root, 'tests/wasm', file), files = { 'main.mjs': here('page.mjs'), 'nigh.mjs': here('nigh.mjs'),
    'thread_page.mjs': here('thread_page.mjs'), 'engine.wasm': wasm };
  paths.forEach((path, i) => { files[`${i}.gguf`] = path; });
  try {
    const found = await inWorker(files, { work: 'golden', wasm: '/engine.wasm', threads, ids,
      models: paths.map((_, i) => `/${i}.gguf`) });
    const wrong = paths.filter((path, i) => found[`/${i}.gguf`] !== (wanted[i] ??= expected(path)));
    if (wrong.length) throw new Error(`other bits: ${wrong.map((path) => path.split('/').pop()).join(', ')}`);
    counts.passed += paths.length;
  } catch (e) {
    counts.failed++;
    console.error(`  FAILED ${name}: ${e.message}`);
  }
}

const wanted = [];
await test('relaxed, one thread', 'relaxed-threads', 1);
await test('relaxed, two threads', 'relaxed-threads', 2);
await test('simd128, two threads', 'simd-threads', 2);
rmSync(folder, { recursive: true, force: true });
console.log(`test_chromium.mjs: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed ? 1 : 0);
