// thread.mjs - one more thread of a threaded module, under node: an instance over the same memory that helps until the end.
import { parentPort, workerData } from 'node:worker_threads';

const { module, memory, stack, tls, i } = workerData;
const x = new WebAssembly.Instance(module, { env: { memory, now: () => performance.now() } }).exports;
x.__stack_pointer.value = stack;
x.__wasm_init_tls(tls);
parentPort.postMessage('here');
x.thread_run(i);
