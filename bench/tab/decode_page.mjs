// decode_page.mjs - the page of bench_tab.mjs that holds our builds and wllama side by side over the same file:
// window.engines[NAME](count) writes so many tokens and gives tokens a second.
window.engines = {};

window.addOurs = (name, options) => new Promise((done, fail) => {
  const worker = new Worker('/engine_worker.mjs', { type: 'module' });
  let told = { done, fail };
  worker.onmessage = (e) => (e.data.error ? told.fail(new Error(e.data.error)) : told.done(e.data.ok));
  worker.onerror = (e) => told.fail(new Error(e.message));
  engines[name] = (count) => new Promise((ok, bad) => { told = { done: ok, fail: bad }; worker.postMessage({ write: count }); });
  worker.postMessage({ open: options });
});

// Its own clock: the server inside counts the time of the tokens without that of the messages.
window.addTheirs = async (name, { file, threads }) => {
  const { Wllama, LoggerWithoutDebug } = await import('/wllama/index.min.js');
  const w = new Wllama({ default: '/wllama/wasm/wllama.wasm' }, { logger: LoggerWithoutDebug, suppressNativeLog: true });
  w.setCompat(null);
  const blob = await (await fetch(file)).blob();
  await w.loadModel([blob], { n_ctx: 512, n_threads: threads, n_gpu_layers: 0 });
  engines[name] = async (count) => {
    const r = await w.createCompletion({ prompt: 'Once upon a time', max_tokens: count, temperature: 0, ignore_eos: true, cache_prompt: false });
    return r.timings?.predicted_per_second ?? NaN;
  };
  return { multithread: w.isMultithread?.() ?? null, threads: w.getNumThreads?.() ?? null };
};
window.ready = true;
