// page.mjs - the worker of test_chromium.mjs and of the bench: the engine in a browser, told what to do by one message.
import { Nigh } from '/nigh.mjs';

const start = (data) => new Promise((done, fail) => {
  const worker = new Worker('/thread_page.mjs', { type: 'module' });
  worker.onmessage = () => done(worker);
  worker.onerror = (e) => fail(new Error(e.message));
  worker.postMessage(data);
});

async function engine({ wasm, threads = 1 }) {
  const nigh = new Nigh(await WebAssembly.compileStreaming(fetch(wasm)));
  return threads > 1 ? nigh.threads(threads, start) : nigh;
}

const file = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
const hex = async (bytes) => Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)),
  (b) => b.toString(16).padStart(2, '0')).join('');

// SHA-256 of the logits (or the vector) of ids, for each model.
async function golden({ models, ids, ...o }) {
  const found = {};
  for (const url of models) {
    const nigh = await engine(o), bytes = await file(url);
    const model = nigh.load((at, view) => view.set(bytes.subarray(at, at + view.length)), bytes.length);
    const { vocab, encoder } = nigh.about(model), list = ids.map((id) => id % vocab), seat = nigh.seat(model);
    found[url] = await hex(encoder ? nigh.embed(seat, list) : nigh.logits(seat, list, vocab));
    nigh.x.thread_end?.();
  }
  return found;
}

// The model goes into OPFS first; measured is what a page does after that.
async function stored(url) {
  const handle = await (await (await navigator.storage.getDirectory()).getFileHandle('model', { create: true }))
    .createSyncAccessHandle();
  const bytes = await file(url);
  if (handle.getSize() !== bytes.length) { handle.truncate(0); handle.write(bytes, { at: 0 }); handle.flush(); }
  return handle;
}

// { load_ms, first_ms, prompt, decode, decode_least, memory }: milliseconds, tokens a second, bytes
async function bench({ model, prompt, decode, rounds, ...o }) {
  const handle = await stored(model), bytes = handle.getSize(), begin = performance.now();
  const nigh = await engine(o), x = nigh.x;
  const m = nigh.load((at, view) => handle.read(view, { at }), bytes), loaded = performance.now();
  const seat = nigh.seat(m, 512), { vocab, kernels } = nigh.about(m), ids = [...Array(prompt).keys()].map((i) => i * 37 % vocab);
  const evaluate = (list) => nigh.withIds(list, (ptr, n) => nigh.check(x.seat_eval(seat, ptr, n, 0)));
  evaluate([1]);
  const first = performance.now(), best = { prompt: 0, decode: 0 }, all = [];
  for (let r = 0; r < rounds; r++) {
    x.seat_truncate(seat, 0);
    let from = performance.now();
    evaluate(ids);
    best.prompt = Math.max(best.prompt, prompt * 1000 / (performance.now() - from));
    from = performance.now();
    for (let i = 0; i < decode; i++) evaluate([i]);
    all.push(decode * 1000 / (performance.now() - from));
  }
  const sorted = all.toSorted((a, b) => a - b);
  return { kernels, load_ms: loaded - begin, first_ms: first - begin, prompt: best.prompt,
    decode: sorted[sorted.length >> 1], decode_least: sorted[0], memory: x.memory_bytes() >>> 0 };
}

onmessage = async (e) => {
  try {
    postMessage({ ok: await { golden, bench }[e.data.work](e.data) });
  } catch (error) {
    postMessage({ error: error.stack });
  }
};
