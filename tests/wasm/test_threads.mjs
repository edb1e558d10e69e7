// test_threads.mjs - threads of the browser module, under node: the same bits with any number of them, whenever they
// come and go. Ends with the counted line.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { endThreads, fromFile, reader, withThreads } from './files.mjs';
import { Failure } from './nigh.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const wasm = join(root, 'build/nigh-simd-threads.wasm'), folder = join(root, 'models');
const name = existsSync(folder) && readdirSync(folder).find((file) => file.endsWith('.gguf'));
const counts = { passed: 0, failed: 0, skipped: 0 };

async function test(name_, body) {
  try {
    await body();
    counts.passed++;
  } catch (e) {
    counts.failed++;
    console.error(`  FAILED ${name_}: ${e.stack}`);
  }
}
const equal = (a, b, what) => { if (a !== b) throw new Error(`${what}: ${a} is not ${b}`); };

if (!existsSync(wasm) || !name) {
  console.log('  skipped everything: no build/nigh-simd-threads.wasm (make wasm) or no model in models/');
  console.log('test_threads.mjs: 0 passed, 0 failed, 1 skipped');
  process.exit(0);
}
const file = readFileSync(join(folder, name));
const prompt = Array.from({ length: 70 }, (_, i) => 5 + i * 7 % 900);

// Logits of the whole prompt, and what follows it.
function work(nigh) {
  const model = nigh.load(reader(file), file.length), seat = nigh.seat(model, 256);
  const logits = Buffer.from(nigh.logits(seat, prompt, nigh.about(model).vocab)).toString('base64');
  const text = nigh.generate(nigh.seat(model, 256), prompt, { max_tokens: 40 }).ids.join();
  return { logits, text, about: nigh.about(model) };
}
const alone = work(fromFile(wasm));

for (const count of [1, 2, 3, 5])
  await test(`${count} threads give the bits of one`, async () => {
    const nigh = await withThreads(wasm, count), made = work(nigh);
    equal(made.logits === alone.logits, true, 'logits');
    equal(made.text, alone.text, 'text');
    equal(made.about.threads, count, 'threads');
    await endThreads(nigh);
  });

await test('nobody waits for threads that never come, or came and went', async () => {
  const never = fromFile(wasm);
  never.check(never.x.thread_begin(4));
  equal(work(never).logits === alone.logits, true, 'logits without them');
  const gone = await withThreads(wasm, 3);
  await endThreads(gone);
  equal(work(gone).logits === alone.logits, true, 'logits after them');
});

await test('threads begin once, and 1 to 64 of them', async () => {
  const nigh = fromFile(wasm);
  for (const [count, code] of [[0, -3], [65, -3], [2, 0], [2, -1]]) {
    try {
      nigh.check(nigh.x.thread_begin(count));
      equal(0, code, `${count}`);
    } catch (e) {
      if (!(e instanceof Failure)) throw e;
      equal(e.code, code, `${count}`);
    }
  }
});

console.log(`test_threads.mjs: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed ? 1 : 0);
