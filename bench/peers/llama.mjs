// llama.mjs - one measurement of llama.cpp, as `nigh bench --json` makes one of ours: a process of its own, one line of
// JSON on stdout.
//
//     node llama.mjs FOLDER OPTIONS      FOLDER/node_modules holds node-llama-cpp, OPTIONS is JSON (see below)
//
// What is timed is llama_decode and nothing else worth naming: the batches are filled and run through the addon under
// node-llama-cpp's classes (its own context calls the same three functions), so no queue, no sampling and no detokenizing
// of JavaScript is inside. Each call hops to a worker thread and back (about 30 us); tokens are drawn at random before.
// UV_THREADPOOL_SIZE=1 keeps it on one worker.
import process from 'node:process';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { performance } from 'node:perf_hooks';

const [folder, json] = process.argv.slice(2);
const o = { threads: 1, prompt: 512, tokens: 128, context: 0, rounds: 3, flash: true, mmap: false, ...JSON.parse(json) };
const begin = performance.now();
const { getLlama } = await import(pathToFileURL(path.join(folder, 'node_modules/node-llama-cpp/dist/index.js')));

const llama = await getLlama({ gpu: false, build: 'never', progressLogs: false, logLevel: 'error', maxThreads: 0 });
const loadBegin = performance.now();
const model = await llama.loadModel({ modelPath: o.model, useMmap: o.mmap, useDirectIo: false, gpuLayers: 0 });
const context = await model.createContext({
    contextSize: Math.max(o.prompt, o.context + o.tokens, 1) + 64, batchSize: 512, sequences: 1,
    threads: { ideal: o.threads, min: o.threads }, flashAttention: o.flash, ignoreMemorySafetyChecks: true,
});
const loadMs = performance.now() - loadBegin;
const addon = context._ctx;
addon.setThreads(o.threads);
const vocab = model.fileInfo.metadata.tokenizer.ggml.tokens.length;

// Runs `count` tokens from position `at` on; the logits of the last one are made.
async function run(at, tokens) {
    for (let i = 0; i < tokens.length; i += 512) {
        const part = tokens.subarray(i, i + 512), last = i + 512 >= tokens.length;
        addon.initBatch(part.length);
        addon.addToBatch(0, at + i, part, Uint32Array.from(last ? [part.length - 1] : []));
        await addon.decodeBatch();
    }
}

const draw = count => Uint32Array.from({ length: count }, () => Math.floor(Math.random() * vocab));

async function prompt(count) {
    const tokens = draw(count);
    addon.disposeSequence(0);
    const start = performance.now();
    await run(0, tokens);
    return count / (performance.now() - start) * 1e3;
}

async function decode(context, count) {
    const tokens = draw(count);
    addon.disposeSequence(0);
    if (context) await run(0, draw(context));
    const start = performance.now();
    for (let i = 0; i < count; i++) await run(context + i, tokens.subarray(i, i + 1));
    return count / (performance.now() - start) * 1e3;
}

const rss = () => process.resourceUsage().maxRSS / 1e3 * 1.024;
const result = { version: llama.llamaCppRelease.release, cpu: llama.systemInfo, load_ms: loadMs, prompt_rounds: [], decode_rounds: [] };
if (o.first) {                       // the time to a first token is taken by who started this process
    await run(0, draw(o.prompt));
    process.stdout.write('first\n');
}
for (let i = -1; i < o.rounds && o.prompt && !o.first; i++) {
    const rate = await prompt(i < 0 ? Math.min(o.prompt, 64) : o.prompt);
    if (i >= 0) result.prompt_rounds.push(rate);
}
for (let i = -1; i < o.rounds && o.tokens && !o.first; i++) {
    const rate = await decode(i < 0 ? 0 : o.context, i < 0 ? Math.min(o.tokens, 8) : o.tokens);
    if (i >= 0) result.decode_rounds.push(rate);
}
result.rss_mb = rss();
result.wall_ms = performance.now() - begin;
console.log(JSON.stringify(result));
process.exit(0);
