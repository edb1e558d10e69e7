// worker.ts - the worker that owns the engine. Loads a model, then answers what pages send, from its own page or from
// others (wire.ts). It reports a beat several times a second; before it goes silent for long it says so.
import { Engine, runThread, type ThreadMessage } from './engine.js';
import { Chunks, getManifest, type Source } from './fetcher.js';
import type { Manifest } from './manifest.js';
import { unit } from './node.js';
import { memoryFor } from './probe.js';
import { Queue, type Job } from './queue.js';
import { NighError, asError } from './status.js';
import { Store } from './store.js';
import type { About, Progress } from './types.js';
import { BEAT_MS, aliveLock, type FromEngine, type InitMessage, type JobMessage, type ToEngine } from './wire.js';

type Send = (m: FromEngine) => void;

let init: InitMessage | null = null;
let channel: BroadcastChannel | null = null;
let queue: Queue | null = null;
let about: About | null = null;
let lastBeat = 0, living = false;
const stop = new AbortController();
const early: { m: JobMessage; send: Send }[] = [];
const home: Send = (m) => self.postMessage(m);
const away: Send = (m) => channel?.postMessage(m);
const all: Send = (m) => {
  home(m);
  away(m);
};

/** The next sign of life comes within so many ms. */
function beat(silentMs = 0): void {
  if (!living) return; // before the lock is held, nobody may hear of this engine
  lastBeat = performance.now();
  all({ t: 'beat', epoch: init!.epoch, silentMs, ready: about !== null });
}

function progress(model: string): (p: Omit<Progress, 'model'>) => void {
  let last = '';
  let at = 0;
  return (p) => {
    const now = performance.now();
    if (p.stage === last && p.loaded < p.total && now - at < 50) return;
    last = p.stage;
    at = now;
    if (living) all({ t: 'progress', epoch: init!.epoch, p: { ...p, model } });
    if (now - lastBeat > BEAT_MS) beat();
  };
}

const THREADS_FROM = 16 << 20; // bytes of a model whose products are long enough to be split

/** Chunk by chunk from disk or line into the engine, which packs each while the next are on their way. */
async function fill(engine: Engine, m: Manifest, chunks: Chunks, checked: boolean): Promise<void> {
  const loading = engine.loading(m.bytes);
  try {
    if (!checked) engine.hashBegin();
    for (let i = 0; i < chunks.count; i++) {
      const { ptr, bytes } = await chunks.take(i);
      if (!checked) engine.hashAdd(ptr, bytes);
      loading.push(ptr, bytes);
    }
    if (!checked && engine.hashEnd() !== m.sha256)
      throw new NighError('EDATA', `${m.name}: every piece is right, but the whole has another hash than the manifest says`);
    loading.end();
  } finally {
    loading.free();
  }
}

async function openModel(engine: Engine, m: Manifest, source: Source): Promise<About> {
  const { store } = source, tell = (source.progress = progress(m.name)), isChecked = store?.isChecked(m);
  if (memoryFor(m.bytes) > 2 ** 32 - 2 ** 20) throw new NighError('ENOMEM', `${m.name} is too large for a tab`);
  if (m.bytes >= THREADS_FROM) engine.startThreads(init!.threads, self.location.href);
  engine.room(memoryFor(m.bytes)); // asked for before anything is fetched
  const chunks = new Chunks(m, source, engine), checked = (await isChecked) ?? false;
  try {
    await fill(engine, m, chunks, checked);
    const state = { loaded: m.bytes, total: m.bytes, fetched: chunks.fetched };
    tell({ stage: 'open', ...state, kept: chunks.kept });
    const context = Math.min(init!.context || 4096, engine.facts.context);
    queue = new Queue(engine, context);
    queue.warm();
    await chunks.end();
    if (chunks.kept && !checked) await store!.keep(m, true).catch(() => {});
    tell({ stage: 'ready', ...state, kept: chunks.kept });
  } catch (e) {
    engine.close(); // a smaller one may be tried in its place
    throw e;
  } finally {
    chunks.free();
  }
  const f = engine.facts;
  return {
    name: m.name, sha256: m.sha256, architecture: f.arch, parameters: f.parameters, contextTokens: queue.context,
    embeddingSize: f.embed, gives: f.encoder ? 'vectors' : 'text', chatTemplate: engine.chatTemplate, bytes: m.bytes,
    engine: { file: engine.file, threads: engine.threads, memoryBytes: engine.memoryBytes },
  };
}

/** The engine is compiled while this script still waits to be told what to do: its files lie beside it. */
const here = new URL('./', self.location.href).href;
const compiled = self.name === 'nigh' || self.name === 'nigh-probe' ? Engine.load(here) : null;
compiled?.catch(() => {});
const load = (files: string): Promise<Engine> => (compiled && files === here ? compiled : Engine.load(files));

async function start(): Promise<void> {
  const compiling = load(init!.files), opening = Store.open(init!.encrypt);
  compiling.catch(() => {});
  opening.catch(() => {});
  let last: NighError | null = null;
  for (const url of init!.manifests) {
    const { key, publicKeys } = init!, source = { key, publicKeys, signal: stop.signal, progress: () => {} };
    try {
      const manifest = await getManifest(url, { ...source, store: opening });
      about = await openModel(await compiling, manifest, { ...source, store: await opening });
      break;
    } catch (e) {
      last = asError(e);
      if (last.code !== 'ENOMEM') break; // the next one is tried only where this one was too large
    }
  }
  if (!about) throw last ?? new NighError('EINVAL', 'no model was named');
  queue!.between = () => {
    if (performance.now() - lastBeat > BEAT_MS) beat();
  };
  queue!.broken = () => self.close(); // the page notices, and starts another
  await alive;
  all({ t: 'up', epoch: init!.epoch, about });
  for (const { m, send } of early.splice(0)) take(m, send);
}

function take(m: JobMessage, send: Send): void {
  if (m.to !== init?.epoch) return; // for an engine that is gone; it comes again
  if (!about) {
    early.push({ m, send });
    return;
  }
  const { from: to, id, run } = m;
  const job: Job = {
    key: `${to}:${id}`, run, body: m.body, settings: m.settings, priority: m.priority,
    began: () => send({ t: 'began', run, to, id }),
    text: (text) => send({ t: 'text', run, to, id, text }),
    done: (result) => {
      result.vectors?.forEach(unit);
      send({ t: 'done', run, to, id, result });
    },
    failed: (e) => send({ t: 'fail', run, to, id, code: e.code, text: e.message }),
  };
  queue!.add(job);
}

function hear(m: ToEngine, send: Send): void {
  if (m.t === 'init') void begin(m);
  else if (m.t === 'job') take(m, send);
  else if (m.t === 'cancel') {
    const at = early.findIndex((e) => e.m.from === m.from && e.m.id === m.id);
    if (at >= 0) early.splice(at, 1);
    queue?.cancel(`${m.from}:${m.id}`);
  } else if (m.t === 'who' && living) {
    send({ t: 'up', epoch: init!.epoch, about });
    beat();
  } else if (m.t === 'probe') void measure(m.files);
}

/** The speed of the arithmetic alone, for probe.ts. */
async function measure(files: string): Promise<void> {
  try {
    const engine = await load(files);
    self.postMessage({ file: engine.file, ...engine.speed(60) });
  } catch (e) {
    self.postMessage({ error: asError(e).message });
  }
}

let alive: Promise<void> = Promise.resolve();

/** Held until the worker ends, whatever ends it: who waits for this lock hears of it. */
const live = (name: string): Promise<void> =>
  new Promise((held) => {
    void navigator.locks.request(name, () => {
      held();
      return new Promise(() => {});
    });
  });

async function begin(m: InitMessage): Promise<void> {
  init = m;
  if (navigator.locks && m.channel) {
    channel = new BroadcastChannel(m.channel);
    channel.onmessage = (e) => hear(e.data as ToEngine, away);
    alive = live(aliveLock(m.channel, m.epoch));
  }
  const starting = start();
  starting.catch(() => {});
  await alive;
  living = true;
  all({ t: 'up', epoch: m.epoch, about: null });
  beat();
  setInterval(() => beat(), BEAT_MS);
  try {
    await starting;
  } catch (e) {
    const error = asError(e);
    all({ t: 'fatal', epoch: m.epoch, code: error.code, text: error.message });
  }
}

self.onmessage = (e: MessageEvent) => {
  const m = e.data as ToEngine | ThreadMessage;
  if (m.t === 'thread') void runThread(m);
  else hear(m, home);
};
