// test_kernel.mjs - the kernels of the browser give the bits of plain C: simd128 under node, relaxed SIMD in Chromium
// (node 20 computes its products wrongly). Ends with the counted line.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inWorker, missing, root } from './chrome.mjs';
import { wrongs } from './kernel_cases.mjs';

const counts = { passed: 0, failed: 0, skipped: 0 };
const seed = Number(process.env.NIGH_SEED ?? Date.now() % 1_000_000);
const path = (kind) => join(root, `build/wasm-${kind}/kernel_bits.wasm`);

async function test(name, why, run) {
  if (why) { counts.skipped++; console.log(`  skipped ${name}: ${why}`); return; }
  const found = await run().catch((e) => [e.message]);
  if (found.length === 0) { counts.passed++; return; }
  counts.failed++;
  console.error(`  FAILED ${name} (NIGH_SEED=${seed}): ${found.length} differ; ${found.slice(0, 5).join('; ')}`);
}

const built = (kind) => (existsSync(path(kind)) ? '' : 'not built (make wasm needs clang-19 and lld-19)');
const main = `import { wrongs } from '/kernel_cases.mjs';
  onmessage = async (e) => {
    try { postMessage({ ok: wrongs(await WebAssembly.compileStreaming(fetch('/kernel.wasm')), e.data) }); }
    catch (error) { postMessage({ error: error.stack }); }
  };`;
const chromium = (kind) => () => inWorker({ 'main.mjs': Buffer.from(main), 'kernel.wasm': path(kind),
  'kernel_cases.mjs': join(root, 'tests/wasm/kernel_cases.mjs') }, seed);

await test('simd128, node', built('simd'), async () => wrongs(new WebAssembly.Module(readFileSync(path('simd'))), seed));
await test('simd128 with threads, Chromium', built('simd-threads') || missing(), chromium('simd-threads'));
await test('relaxed, Chromium', built('relaxed-threads') || missing(), chromium('relaxed-threads'));
console.log(`test_kernel.mjs: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed ? 1 : 0);
