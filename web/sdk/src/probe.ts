// probe.ts - what this device is, measured once in a fraction of a second, kept with its date, and said in words.
import { features } from './engine.js';
import { storageState } from './store.js';
import type { About, StorageState } from './types.js';

export interface DeviceProbe {
  /** When it was measured, ISO 8601. */
  at: string;
  ms: number;
  cores: number;
  /** What the browser tells of the memory, rounded and at most 8 GiB in most; 0: nothing. */
  memoryGiB: number;
  simd: boolean;
  relaxedSimd: boolean;
  /** The page is isolated, so that several threads may share memory. */
  isolated: boolean;
  /** The build of the engine that fits, and its arithmetic: billions of 8-bit operations a second, one thread. */
  engine: string;
  gops: number;
  /** Bytes of weights that one thread gets through in a second. */
  bytesPerSecond: number;
  storage: StorageState;
  webgpu: { there: boolean; works: boolean; name: string };
}

export interface Verdict {
  grade: 'well' | 'slowly' | 'not';
  tokensPerSecond: number;
  text: string;
}

const KEPT = 'nigh:probe', DAYS = 7, PATIENCE_MS = 120;

const within = <T>(p: Promise<T>, ms: number, otherwise: T): Promise<T> =>
  Promise.race([p.catch(() => otherwise), new Promise<T>((done) => setTimeout(() => done(otherwise), ms))]);

function measure(files: string): Promise<{ file: string; gops: number; bytesPerSecond: number }> {
  const none = { file: '', gops: 0, bytesPerSecond: 0 };
  if (typeof Worker === 'undefined') return Promise.resolve(none);
  const worker = new Worker(new URL('worker.js', files), { type: 'module', name: 'nigh-probe' });
  const said = new Promise<typeof none>((done) => {
    worker.onmessage = (e) => done((e.data as { error?: string }).error ? none : (e.data as typeof none));
    worker.onerror = () => done(none);
    worker.postMessage({ t: 'probe', files });
  });
  return within(said, 3000, none).finally(() => worker.terminate());
}

const SHADER = `@group(0) @binding(0) var<storage, read_write> v: array<u32>;
@compute @workgroup_size(4) fn main(@builtin(global_invocation_id) i: vec3u) { v[i.x] = v[i.x] * 3u + i.x; }`;

/** Is there an adapter, and does it calculate? Four numbers there and back. */
async function gpu(): Promise<DeviceProbe['webgpu']> {
  // The types of WebGPU are not in TypeScript's own library.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  const api = (navigator as any).gpu, found = { there: false, works: false, name: '' };
  const adapter = await api?.requestAdapter();
  if (!adapter) return found;
  found.there = true;
  found.name = adapter.info?.description || adapter.info?.vendor || '';
  const device = await adapter.requestDevice();
  const buffer = device.createBuffer({ size: 16, usage: 0x80 | 0x4 | 0x8 }), back = device.createBuffer({ size: 16, usage: 0x1 | 0x8 });
  device.queue.writeBuffer(buffer, 0, new Uint32Array([5, 6, 7, 8]));
  const compute = { module: device.createShaderModule({ code: SHADER }), entryPoint: 'main' };
  const pipeline = device.createComputePipeline({ layout: 'auto', compute });
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] });
  const encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(buffer, 0, back, 0, 16);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(1);
  found.works = String(new Uint32Array(back.getMappedRange())) === '15,19,23,27';
  device.destroy();
  return found;
}

/** Measures this device, or tells what was measured in the last days. */
export async function probe(o: { fresh?: boolean; files?: string } = {}): Promise<DeviceProbe> {
  const kept = o.fresh ? null : globalThis.localStorage?.getItem(KEPT);
  if (kept) {
    const old = JSON.parse(kept) as DeviceProbe;
    if (Date.now() - Date.parse(old.at) < DAYS * 864e5) return old;
  }
  const begun = performance.now(), can = features();
  const files = new URL(o.files ?? './', o.files ? location.href : import.meta.url).href;
  const [speed, storage, webgpu] = await Promise.all([
    measure(files),
    within(storageState(), PATIENCE_MS, { available: false, persisted: false, usedBytes: 0, quotaBytes: 0 }),
    within(gpu(), 2 * PATIENCE_MS, { there: false, works: false, name: '' }),
  ]);
  const found: DeviceProbe = {
    at: new Date().toISOString(), ms: Math.round(performance.now() - begun), cores: navigator.hardwareConcurrency || 1,
    memoryGiB: (navigator as { deviceMemory?: number }).deviceMemory ?? 0, simd: can.simd, relaxedSimd: can.relaxed,
    isolated: can.threads, engine: speed.file, gops: speed.gops, bytesPerSecond: speed.bytesPerSecond, storage, webgpu,
  };
  try {
    if (found.gops) globalThis.localStorage?.setItem(KEPT, JSON.stringify(found));
  } catch {
    // full or forbidden: it is measured again next time
  }
  return found;
}

const mb = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;

// What a token costs beside its weights: attention, the choice, the messages. As seen with models of 5 and 91 MB.
const TOKEN_S = 0.0006;
/** What opening takes: the packed weights, one conversation, a few pieces of the file. */
export const memoryFor = (bytes: number): number => bytes * 1.05 + (24 << 20);

/** Will a model run well here? In words, with what the words stand on. */
export function explain(p: DeviceProbe, model: Pick<About, 'name'> & { bytes: number }): Verdict {
  const need = memoryFor(model.bytes);
  const speed = model.bytes > 0 && p.bytesPerSecond > 0 ? 1 / (model.bytes / p.bytesPerSecond + TOKEN_S) : 0;
  const no = (text: string): Verdict => ({ grade: 'not', tokensPerSecond: 0, text: `${model.name} will not run here: ${text}.` });
  if (!p.simd) return no('this browser has no SIMD in WebAssembly');
  if (need > 2 ** 32 - 2 ** 20) return no(`it needs ${mb(need)}, and a tab has 4,295 MB at most`);
  if (p.memoryGiB && need > p.memoryGiB * 2 ** 30 * 0.6) return no(`it needs ${mb(need)}, and this device has ${p.memoryGiB} GiB`);
  if (!p.bytesPerSecond) return { grade: 'slowly', tokensPerSecond: 0, text: `${model.name}: nothing could be measured here.` };
  const about = `about ${speed < 10 ? speed.toFixed(1) : Math.round(speed)} tokens/s on one thread`;
  const room = p.storage.available && p.storage.quotaBytes - p.storage.usedBytes < model.bytes
    ? ` The browser has no room to keep its ${mb(model.bytes)}, so it would be fetched each time.` : '';
  if (speed >= 10) return { grade: 'well', tokensPerSecond: speed, text: `${model.name} will run well: ${about}.${room}` };
  return { grade: 'slowly', tokensPerSecond: speed, text: `${model.name} will run slowly: ${about}, less than one reads.${room}` };
}
