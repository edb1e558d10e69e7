// bench_wasm.mjs - the engine in headless Chromium, as CSV: load from OPFS, first token, prompt and decode, for each of the
// three modules and one or more threads.
//
//     node bench/bench_wasm.mjs MODEL.gguf [threads...]       1 and 2 threads by default
import { join } from 'node:path';
import { inWorker, missing, root } from '../tests/wasm/chrome.mjs';

const [model, ...some] = process.argv.slice(2), threads = some.length ? some.map(Number) : [1, 2];
if (!model || missing()) {
  console.error(missing() || 'usage: node bench/bench_wasm.mjs MODEL.gguf [threads...]');
  process.exit(1);
}
const here = (file) => join(root, 'tests/wasm', file);
console.log('module,threads,load_ms,first_token_ms,prompt_tokens_s,decode_tokens_s,decode_least,memory_mb');
for (const kind of ['simd', 'simd-threads', 'relaxed-threads'])
  for (const count of kind === 'simd' ? [1] : threads) {
    const r = await inWorker({ 'main.mjs': here('page.mjs'), 'nigh.mjs': here('nigh.mjs'),
      'thread_page.mjs': here('thread_page.mjs'), 'engine.wasm': join(root, `build/nigh-${kind}.wasm`), 'model.gguf': model },
    { work: 'bench', wasm: '/engine.wasm', model: '/model.gguf', threads: count, prompt: 128, decode: 48, rounds: 3 });
    console.log([kind, count, r.load_ms.toFixed(0), r.first_ms.toFixed(0), r.prompt.toFixed(1), r.decode.toFixed(1),
      r.decode_least.toFixed(1), (r.memory / 1e6).toFixed(0)].join());
  }
