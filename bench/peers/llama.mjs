// llama.mjs - llama.cpp behind the words that `nigh bench --steps` and `nigh bench --start` understand, so that both
// programs are driven and timed alike.
//
//     node llama.mjs FOLDER OPTIONS
//
// FOLDER/node_modules holds node-llama-cpp. OPTIONS is JSON: model, threads, prompt, tokens and context as nigh bench's,
// start: true for the start, flash and mmap: settings of llama.cpp.
//
// What is timed is llama.cpp and nothing else worth naming: the model is loaded and batches are run through the addon
// beneath node-llama-cpp's classes, so no reading of the file by JavaScript, no queue, no sampling is inside. A call
// hops to a worker thread and back, and the library starts its threads anew for it: tens of microseconds that
// llama.cpp's own bench does not pay. Tokens are drawn before. UV_THREADPOOL_SIZE=1 keeps the calls on one worker.
import path from 'node:path';
import process from 'node:process';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const BATCH = 512;
const [folder, json] = process.argv.slice(2);
const o = { threads: 1, prompt: 512, tokens: 128, context: 0, flash: true, mmap: false, ...JSON.parse(json) };
const { getLlama } = await import(pathToFileURL(path.join(folder, 'node_modules/node-llama-cpp/dist/index.js')));
const llama = await getLlama({ gpu: false, build: 'never', progressLogs: false, logLevel: 'error', maxThreads: 0 });
const say = what => process.stdout.write(`${JSON.stringify(what)}\n`);
const mb = bytes => Math.round(bytes / 1e4) / 100;

const { AddonModel, AddonContext } = llama._bindings;
const bare = process.memoryUsage().rss;         // of node and the libraries, before any model
const begin = performance.now();
const model = new AddonModel(o.model, { useMmap: o.mmap, useDirectIo: false, gpuLayers: 0 });
if (!await model.init()) throw new Error(`${o.model} was not loaded`);
const addon = new AddonContext(model, {
    contextSize: Math.max(o.prompt, o.start ? 0 : o.context + o.tokens), batchSize: BATCH, sequences: 1,
    threads: o.threads, flashAttention: o.flash,
});
if (!await addon.init()) throw new Error('there is no context');
const loadMs = performance.now() - begin;
const draw = count => Uint32Array.from({ length: count }, () => Math.floor(Math.random() * 256));
const tokens = draw(Math.max(o.prompt, o.context, o.tokens));
let kept = 0;                                   // of `tokens`, at the beginning of the sequence

// Evaluates a part of `tokens` behind `at`; the logits of the last one are made.
async function run(at, from, count) {
    for (let i = 0; i < count; i += BATCH) {
        const part = tokens.subarray(from + i, from + Math.min(i + BATCH, count));
        addon.initBatch(part.length);
        addon.addToBatch(0, at + i, part, Uint32Array.from(i + BATCH >= count ? [part.length - 1] : []));
        await addon.decodeBatch();
    }
}

async function prompt() {
    addon.disposeSequence(0);
    const start = performance.now();
    await run(0, 0, o.prompt);
    kept = o.prompt;
    return { prompt_tps: o.prompt / (performance.now() - start) * 1e3 };
}

async function decode(behind, count) {
    if (behind < kept) {
        if (behind === 0) addon.disposeSequence(0);
        else addon.removeTokenCellsFromSequence(0, behind, -1);
    }
    if (behind > kept) await run(kept, kept, behind - kept);
    const start = performance.now();
    for (let i = 0; i < count; i++) await run(behind + i, i, 1);
    const tps = count / (performance.now() - start) * 1e3;
    if (behind === 0) addon.disposeSequence(0);
    else addon.removeTokenCellsFromSequence(0, behind, -1);
    kept = behind;
    return { decode_tps: tps, context: behind, tokens: count };
}

if (o.start) {
    await run(0, 0, o.prompt);
    say({ start_ms: performance.now() - begin, load_ms: loadMs, peak_mb: mb(process.resourceUsage().maxRSS * 1024 - bare) });
} else {
    say({ version: llama.llamaCppRelease.release, cpu: llama.systemInfo, threads: addon.getThreads(), load_ms: loadMs });
    for await (const line of createInterface({ input: process.stdin })) {
        const [word, behind, count] = line.trim().split(/ +/);
        if (word === 'prompt') say(await prompt());
        else if (word === 'decode') say(await decode(Number(behind ?? 0), Number(count ?? o.tokens)));
        else if (word === 'cpu') say({ variant: process.report.getReport().sharedObjects.join('\n').match(/libggml-cpu-(\w+)/)?.[1] });
        else throw new Error(`no such step: ${line}`);
    }
}
process.exit(0);
