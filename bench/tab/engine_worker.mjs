// engine_worker.mjs - one build of the engine with one model in a worker of a browser, for bench_tab.mjs: opened once, then
// told again and again to write some tokens and to say how fast that was.
import { Nigh } from '/nigh.mjs';

let nigh = null, seat = 0, ids = null;

const thread = (data) => new Promise((done, fail) => {
  const worker = new Worker('/thread_page.mjs', { type: 'module' });
  worker.onmessage = () => done(worker);
  worker.onerror = (e) => fail(new Error(e.message));
  worker.postMessage(data);
});

async function open({ wasm, file, threads }) {
  nigh = new Nigh(await WebAssembly.compileStreaming(fetch(wasm)));
  if (threads > 1) await nigh.threads(threads, thread);
  const bytes = new Uint8Array(await (await fetch(file)).arrayBuffer());
  const model = nigh.load((at, view) => view.set(bytes.subarray(at, at + view.length)), bytes.length);
  seat = nigh.seat(model, 512);
  ids = nigh.tokenize(model, 'Once upon a time', 1);
  return nigh.about(model);
}

// Greedy, as the other one does it; the time from the first token to the last.
function write(count) {
  nigh.x.seat_truncate(seat, 0);
  nigh.begin(seat, ids, { max_tokens: count + 1 });
  let made = 0, first = 0;
  for (let finish = 0; finish === 0;) {
    finish = nigh.check(nigh.x.generate_step(seat, 0));
    if (nigh.x.generate_token(seat) < 0 && finish === 0) continue;
    if (made++ === 0) first = performance.now();
  }
  return (made - 1) * 1000 / (performance.now() - first);
}

onmessage = async (e) => {
  try {
    postMessage({ ok: e.data.open ? await open(e.data.open) : write(e.data.write) });
  } catch (error) {
    postMessage({ error: error.stack });
  }
};
