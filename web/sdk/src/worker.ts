// worker.ts - the worker that owns the engine. Loads a model, then answers what pages send, from its own page or from
// others (wire.ts). It reports a beat several times a second; before it goes silent for long it says so.
import { Engine, runThread, type ThreadMessage } from './engine.js';
import { bring, getManifest } from './fetcher.js';
import type { Manifest } from './manifest.js';
import { unit } from './node.js';
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
let lastBeat = 0;
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
  lastBeat = performance.now();
  all({ t: 'beat', epoch: init!.epoch, silentMs });
}

function progress(model: string): (p: Omit<Progress, 'model'>) => void {
  let last = '';
  let at = 0;
  return (p) => {
    const now = performance.now();
    if (p.stage === last && p.loaded < p.total && now - at < 50) return;
    last = p.stage;
    at = now;
    all({ t: 'progress', epoch: init!.epoch, p: { ...p, model } });
    if (now - lastBeat > BEAT_MS) beat();
  };
}

const THREADS_FROM = 16 << 20; // bytes of a model whose products are long enough to be split

/** What opening takes at its highest: the file, the packed weights, and conversations. */
const wanted = (bytes: number): number => bytes * 2 + (8 << 20);

async function openModel(engine: Engine, m: Manifest, store: Store | null): Promise<About> {
  const tell = progress(m.name);
  if (wanted(m.bytes) > 2 ** 32 - 2 ** 20) throw new NighError('ENOMEM', `${m.name} is too large for a tab`);
  if (m.bytes >= THREADS_FROM) engine.startThreads(init!.threads, self.location.href);
  engine.free(engine.alloc(wanted(m.bytes))); // asked for before anything is fetched
  const ptr = engine.alloc(m.bytes);
  const source = { store, key: init!.key, publicKeys: init!.publicKeys, signal: stop.signal, progress: tell };
  let got;
  try {
    got = await bring(m, source, (at, bytes) => engine.view(ptr + at, bytes));
  } catch (e) {
    engine.free(ptr);
    throw e;
  }
  tell({ stage: 'open', loaded: m.bytes, total: m.bytes, fetched: got.fetched, kept: got.kept });
  beat(5000 + m.bytes / 20e3); // 20 MB a second at worst
  engine.open(ptr, m.bytes);
  const f = engine.facts, context = Math.min(init!.context || 4096, f.context);
  queue = new Queue(engine, context);
  tell({ stage: 'ready', loaded: m.bytes, total: m.bytes, fetched: got.fetched, kept: got.kept });
  return {
    name: m.name, sha256: m.sha256, architecture: f.arch, parameters: f.parameters, contextTokens: queue.context,
    embeddingSize: f.embed, gives: f.encoder ? 'vectors' : 'text', chatTemplate: engine.chatTemplate, bytes: m.bytes,
    engine: { file: engine.file, threads: engine.threads, memoryBytes: engine.memoryBytes },
  };
}

async function start(): Promise<void> {
  const compiling = Engine.load(init!.files); // while the manifest is on its way
  compiling.catch(() => {});
  const store = await Store.open(init!.encrypt);
  let last: NighError | null = null;
  for (const url of init!.manifests) {
    const source = { store, key: init!.key, publicKeys: init!.publicKeys, signal: stop.signal, progress: () => {} };
    try {
      const manifest = await getManifest(url, source);
      about = await openModel(await compiling, manifest, store);
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
  all({ t: 'up', epoch: init!.epoch, about });
  for (const { m, send } of early.splice(0)) take(m, send);
}

function take(m: JobMessage, send: Send): void {
  if (!queue) {
    early.push({ m, send });
    return;
  }
  const { from: to, id } = m, run = init!.epoch;
  const job: Job = {
    key: `${to}:${id}`, body: m.body, settings: m.settings, priority: m.priority,
    began: () => send({ t: 'began', run, to, id }),
    text: (text) => send({ t: 'text', run, to, id, text }),
    done: (result) => {
      result.vectors?.forEach(unit);
      send({ t: 'done', run, to, id, result });
    },
    failed: (e) => send({ t: 'fail', run, to, id, code: e.code, text: e.message }),
  };
  queue.add(job);
}

function hear(m: ToEngine, send: Send): void {
  if (m.t === 'init') void begin(m);
  else if (m.t === 'job') take(m, send);
  else if (m.t === 'cancel') {
    const at = early.findIndex((e) => e.m.from === m.from && e.m.id === m.id);
    if (at >= 0) early.splice(at, 1);
    queue?.cancel(`${m.from}:${m.id}`);
  } else if (m.t === 'who' && init) {
    send({ t: 'up', epoch: init.epoch, about });
    beat();
  } else if (m.t === 'probe') void measure(m.files);
}

/** The speed of the arithmetic alone, for probe.ts. */
async function measure(files: string): Promise<void> {
  try {
    const engine = await Engine.load(files);
    self.postMessage({ file: engine.file, ...engine.speed(60) });
  } catch (e) {
    self.postMessage({ error: asError(e).message });
  }
}

async function begin(m: InitMessage): Promise<void> {
  init = m;
  if (navigator.locks && m.channel) {
    channel = new BroadcastChannel(m.channel);
    channel.onmessage = (e) => hear(e.data as ToEngine, away);
    await new Promise<void>((held) => {
      void navigator.locks.request(aliveLock(m.channel, m.epoch), () => {
        held();
        return new Promise(() => {}); // until the worker ends, whatever ends it
      });
    });
  }
  all({ t: 'up', epoch: m.epoch, about: null });
  beat();
  setInterval(() => beat(), BEAT_MS);
  try {
    await start();
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
