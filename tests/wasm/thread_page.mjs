// thread_page.mjs - one more thread of a threaded module, in a browser: an instance over the same memory that helps until
// the end.
onmessage = (e) => {
  const { module, memory, stack, tls, i } = e.data;
  const x = new WebAssembly.Instance(module, { env: { memory, now: () => performance.now() } }).exports;
  x.__stack_pointer.value = stack;
  x.__wasm_init_tls(tls);
  postMessage('here');
  x.thread_run(i);
};
