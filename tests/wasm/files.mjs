// files.mjs - nigh.mjs under node: modules from files, threads as node has them.
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { Nigh } from './nigh.mjs';

export const fromFile = (path) => new Nigh(new WebAssembly.Module(readFileSync(path)));

// A reader for Nigh.load.
export const reader = (file) => (at, view) => {
  const some = file.subarray(at, at + view.length);
  if (some.length !== view.length) throw new Error('read beyond the end of the file');
  view.set(some);
};

const start = (workerData) => new Promise((done, fail) => {
  const worker = new Worker(new URL('./thread.mjs', import.meta.url), { workerData });
  worker.once('message', () => done(worker)).once('error', fail);
});
export const withThreads = (path, count) => fromFile(path).threads(count, start);

// Ends the threads, and waits for it.
export async function endThreads(nigh) {
  nigh.x.thread_end();
  await Promise.all((nigh.workers ?? []).map((worker) => new Promise((done) => worker.once('exit', done))));
}
