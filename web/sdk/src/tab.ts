// tab.ts - the page's end of the engine in this browser: one tab of many owns the worker, all tabs ask it.
//
// Who holds the lock of the channel leads: it starts the worker and looks after it. The others reach the same worker
// over a BroadcastChannel. When the leader goes away the browser gives the lock to the next one at once; when its
// worker ends, the lock that the worker held tells (wire.ts); one that ends before it holds it is missed when its first
// word takes several times as long as that of one before it; when a worker hangs, its missing beats tell. A page that
// is frozen, or kept for the way back, lets go of the lead first and asks for it again when it is woken.
// Whatever happens, a request stands in `#jobs` of its own page until it has ended, and every path below ends it.
import type { Answer } from './answer.js';
import { newId, type Backend, type Settings, type Work } from './backend.js';
import { NighError, type StatusName } from './status.js';
import type { About, Priority, Progress, Receipt, Vectors } from './types.js';
import { BEAT_MS, aliveLock, type FromEngine, type JobBody, type JobMessage, type Result, type ToEngine } from './wire.js';

const HANG_MS = 5000, STEAL_MS = 2 * HANG_MS, WATCH_MS = 500, RUNS_MAX = 12;
// An engine that never gets ready is given up after so many attempts, but not before so much time.
const STARTS_MAX = 6, STARTS_MS = 15000;

export interface TabOptions {
  files: string;
  manifests: string[];
  key?: string;
  publicKeys?: string[];
  encrypt: boolean;
  context: number;
  threads: number;
  signal?: AbortSignal;
  onprogress?: (p: Progress) => void;
}

interface Open {
  m: JobMessage; // as it was last sent: to which epoch, with which number
  begun: number;
  first: number;
  drop: number; // characters of a repeated run that its caller has already
  text: string;
  runs: number; // engines that began it
  piece(text: string): void;
  done(r: Result, job: Open): void;
  fail(e: NighError): void;
}

function digest(text: string): string {
  let h = 0xcbf29ce484222325n;
  for (const c of new TextEncoder().encode(text)) h = BigInt.asUintN(64, (h ^ BigInt(c)) * 0x100000001b3n);
  return h.toString(16);
}

let firstMs = 0; // what the slowest worker of this page took to its first word, said when it holds its lock; 0: none has yet

const TIME_DIGITS = 9;
let lastEpoch = 0;
/** Younger ones are larger, also over tabs, and when the clock is set back. */
function newEpoch(known: string): string {
  lastEpoch = Math.max(Date.now(), 1 + lastEpoch, 1 + (parseInt(known.slice(0, TIME_DIGITS), 36) || 0));
  return newId(`${lastEpoch.toString(36).padStart(TIME_DIGITS, '0')}-`);
}

export class TabBackend implements Backend {
  readonly place = 'tab' as const;
  about!: About;
  #o: TabOptions;
  #me = newId('page-');
  #channelName = '';
  #channel: BroadcastChannel | null = null;
  #worker: Worker | null = null;
  #epoch = ''; // of the engine that is known to be up; '' while there is none
  #mine = ''; // of the worker of this page
  #ready = false;
  #jobs = new Map<number, Open>();
  #nextId = 1;
  #nextRun = 1;
  #heard = performance.now();
  #silent = 0;
  #watched = performance.now();
  #watch: ReturnType<typeof setInterval> | undefined;
  #starts = 0; // of engines that never got ready
  #firstStart = 0;
  #restart: ReturnType<typeof setTimeout> | undefined;
  #first: ReturnType<typeof setTimeout> | undefined;
  #slept = false;
  #closed: NighError | null = null;
  #release: (() => void) | null = null;
  #waiting: AbortController | null = null;
  #gone = new AbortController();
  #opened!: { done: (a: About) => void; failed: (e: NighError) => void };

  private constructor(o: TabOptions) {
    this.#o = o;
  }

  static async open(o: TabOptions): Promise<TabBackend> {
    const b = new TabBackend(o);
    const ready = new Promise<About>((done, failed) => (b.#opened = { done, failed }));
    ready.catch(() => {});
    const aborted = (): void => b.#die(new NighError('ECANCEL'));
    o.signal?.addEventListener('abort', aborted);
    if (o.signal?.aborted) aborted();
    try {
      const { signal: _s, onprogress: _p, ...rest } = o;
      if (navigator.locks && typeof BroadcastChannel !== 'undefined') {
        b.#channelName = `nigh:${digest(JSON.stringify(rest))}`;
        b.#wake();
      } else b.#startWorker();
      b.#watch = setInterval(() => b.#look(), WATCH_MS);
      b.#followPage();
      b.about = await ready;
    } catch (e) {
      b.#die(e as NighError);
      throw e;
    } finally {
      o.signal?.removeEventListener('abort', aborted);
    }
    return b;
  }

  get leads(): boolean {
    return this.#worker !== null;
  }

  // ---- the page's own life ----

  #followPage(): void {
    const until = { signal: this.#gone.signal };
    addEventListener('pagehide', (e) => (e.persisted ? this.#rest() : this.close()), until);
    addEventListener('pageshow', () => this.#wake(), until);
    globalThis.document?.addEventListener('freeze', () => this.#rest(), until);
    globalThis.document?.addEventListener('resume', () => this.#wake(), until);
  }

  /** The page is about to sleep, for who knows how long: others take over, and it hears nothing meanwhile. */
  #rest(): void {
    if (this.#closed || !this.#channel) return;
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.abort();
    for (const id of this.#jobs.keys()) this.#post({ t: 'cancel', from: this.#me, id }); // written again later, from the seed
    this.#stopWorker();
    this.#release?.();
    this.#release = null;
    this.#channel.close();
    this.#channel = null;
    this.#epoch = ''; // so that what is open is sent again, also to an engine that it knows
  }

  #wake(): void {
    if (this.#closed || this.#channel || !this.#channelName) return;
    this.#heard = performance.now();
    this.#channel = new BroadcastChannel(this.#channelName);
    this.#channel.onmessage = (e) => {
      const m = e.data as FromEngine;
      if (!(this.#worker && 'epoch' in m && m.epoch === this.#mine)) this.#hear(m); // else it came from the worker itself, too
    };
    this.#channel.postMessage({ t: 'who', from: this.#me } satisfies ToEngine);
    this.#queueForLead(false);
  }

  // ---- who leads ----

  #queueForLead(steal: boolean): void {
    if (this.#closed) return;
    this.#waiting?.abort();
    const waiting = (this.#waiting = new AbortController());
    const options = steal ? { steal: true } : { signal: waiting.signal };
    navigator.locks
      .request(this.#channelName, options, () => {
        if (this.#closed || waiting !== this.#waiting) return undefined;
        this.#startWorker();
        return new Promise<void>((release) => (this.#release = release));
      })
      .catch(() => {
        // The wait was given up, or another page took the lead because this one looked asleep.
        if (this.#closed || waiting !== this.#waiting) return;
        this.#stopWorker();
        this.#queueForLead(false);
      });
  }

  #startWorker(): void {
    this.#stopWorker();
    const now = performance.now();
    if (!this.#starts) this.#firstStart = now;
    if (++this.#starts > STARTS_MAX && now - this.#firstStart > STARTS_MS) {
      this.#die(new NighError('EIO', `the engine stopped ${this.#starts - 1} times while it started`));
      return;
    }
    const epoch = (this.#mine = newEpoch(this.#epoch));
    const worker = (this.#worker = new Worker(new URL('worker.js', this.#o.files), { type: 'module', name: 'nigh' }));
    this.#heard = now;
    this.#silent = HANG_MS * (2 ** Math.min(this.#starts - 1, 3) - 1); // the file has to come first, and the line may be slow
    if (firstMs) {
      const late = (): void => this.#lost(epoch); // after what has come meanwhile
      this.#first = setTimeout(() => (this.#first = setTimeout(late, 50)), Math.max(500, 4 * firstMs) * 2 ** Math.min(this.#starts - 1, 5));
    }
    worker.onmessage = (e) => {
      if (this.#worker !== worker) return;
      this.#heard = performance.now();
      if (this.#epoch !== epoch) {
        firstMs = Math.max(firstMs, this.#heard - now);
        clearTimeout(this.#first);
      }
      this.#hear(e.data as FromEngine);
    };
    worker.onerror = (e) => {
      e.preventDefault();
      if (this.#starts >= STARTS_MAX) this.#die(new NighError('EIO', e.message || 'the worker does not start'));
      else this.#lost(epoch);
    };
    const { signal: _s, onprogress: _p, ...rest } = this.#o;
    worker.postMessage({ t: 'init', epoch, channel: this.#channelName, ...rest } satisfies ToEngine);
  }

  #stopWorker(): void {
    clearTimeout(this.#restart);
    clearTimeout(this.#first);
    this.#restart = undefined;
    this.#worker?.terminate();
    this.#worker = null;
  }

  /** The worker of this page is gone, or will never answer. */
  #lost(epoch: string): void {
    if (this.#closed || epoch !== this.#mine || !this.#worker || this.#restart !== undefined) return;
    // At once; later where engines die again and again before they are ready.
    const wait = this.#starts < 4 ? 0 : Math.min(50 * 2 ** (this.#starts - 4), 2000);
    if (!wait) this.#startWorker();
    else this.#restart = setTimeout(() => this.#startWorker(), wait);
  }

  /** Several times a second, seldom in a page that nobody sees: does the engine still live? */
  #look(): void {
    const now = performance.now(), asleep = now - this.#watched > 4 * WATCH_MS;
    // After a sleep what waits is heard first; but a page that is woken seldom does not wait for ever.
    if (asleep && !(this.#slept && this.#heard < this.#watched)) this.#heard = Math.max(this.#heard, now - HANG_MS / 2);
    this.#slept = asleep;
    this.#watched = now;
    const silence = now - this.#heard - this.#silent;
    if (this.#restart !== undefined) return;
    if (this.#worker && silence > HANG_MS) this.#lost(this.#mine);
    else if (!this.#worker && this.#channel && (this.#jobs.size || !this.#ready) && now - this.#heard > 1000) {
      if (silence > STEAL_MS) {
        this.#heard = now;
        this.#queueForLead(true);
      } else this.#channel.postMessage({ t: 'who', from: this.#me } satisfies ToEngine);
    }
  }

  /** To the engine that answers now, wherever it is. */
  #post(m: ToEngine): void {
    if (this.#worker && this.#epoch === this.#mine) this.#worker.postMessage(m);
    else this.#channel?.postMessage(m);
  }

  // ---- what the engine says ----

  #hear(m: FromEngine | ToEngine): void {
    if (this.#closed) return;
    if ('epoch' in m && m.t !== 'init') {
      if (!this.#follow(m.epoch)) return;
      if (m.epoch !== this.#epoch) {
        if (m.t !== 'fatal') this.#turnTo(m.epoch);
      }
      this.#heard = performance.now();
      if (m.t === 'beat') {
        this.#silent = m.silentMs;
        if (m.ready && !this.#ready) this.#post({ t: 'who', from: this.#me });
      } else if (m.t === 'up') this.#up(m.about);
      else if (m.t === 'progress') this.#o.onprogress?.(m.p);
      else this.#die(new NighError(m.code, m.text));
    } else if ('to' in m && m.to === this.#me) this.#hearJob(m as never);
  }

  /** A younger engine counts at once; an older one only when the younger has been silent for long. */
  #follow(epoch: string): boolean {
    if (epoch >= this.#epoch) return true;
    return performance.now() - this.#heard - this.#silent > HANG_MS && !this.#worker;
  }

  /** Another engine: what is open is sent to it. */
  #turnTo(epoch: string): void {
    this.#epoch = epoch;
    this.#silent = HANG_MS;
    if (epoch === this.#mine && this.#channelName) this.#waitForEnd(epoch);
    for (const job of [...this.#jobs.values()]) this.#send(job);
  }

  #hearJob(m: { t: string; run: number; id: number } & Partial<{ text: string; result: Result; code: StatusName }>): void {
    const job = this.#jobs.get(m.id);
    if (!job || m.run !== job.m.run) return; // an engine that was given up may still speak
    if (m.t === 'began') job.runs++;
    else if (m.t === 'text') {
      let text = m.text!;
      const drop = Math.min(job.drop, text.length);
      job.drop -= drop;
      text = text.slice(drop);
      if (!text) return;
      job.first ||= performance.now();
      job.text += text;
      job.piece(text);
    } else if (m.t === 'done') {
      this.#jobs.delete(m.id);
      job.done(m.result!, job);
    } else if (m.t === 'fail') {
      this.#jobs.delete(m.id);
      job.fail(new NighError(m.code!, m.text));
    }
  }

  #up(about: About | null): void {
    if (!about) return;
    this.about = about;
    this.#ready = true;
    this.#starts = 0;
    this.#opened.done(about);
  }

  /**
   * The worker holds this lock as long as it lives. When it is free although the worker has just spoken, the worker is
   * gone already; or the data of this site was cleared meanwhile, and then page and worker have no locks in common and
   * its beats alone must tell.
   */
  #waitForEnd(epoch: string): void {
    const name = aliveLock(this.#channelName, epoch);
    const ended = (): void => this.#lost(epoch);
    const look = (lock: Lock | null): void => {
      if (!lock) return void navigator.locks.request(name, ended).catch(() => {});
      const asked = performance.now();
      setTimeout(() => {
        if (this.#heard < asked + BEAT_MS / 2) ended();
      }, 3 * BEAT_MS);
    };
    navigator.locks.request(name, { ifAvailable: true }, look).catch(() => {});
  }

  // ---- requests ----

  #send(job: Open): void {
    if (job.runs >= RUNS_MAX) {
      this.#jobs.delete(job.m.id);
      job.fail(new NighError('EIO', `the engine stopped ${job.runs} times while it worked on this`));
      return;
    }
    job.m.to = this.#epoch;
    job.m.run = this.#nextRun++;
    job.drop = job.text.length;
    this.#post(job.m);
  }

  #add(body: JobBody, settings: Settings | undefined, priority: Priority, to: Pick<Open, 'piece' | 'done' | 'fail'>): () => void {
    const id = this.#nextId++;
    const m: JobMessage = { t: 'job', to: '', run: 0, from: this.#me, id, body, settings, priority };
    const job: Open = { m, begun: performance.now(), first: 0, drop: 0, text: '', runs: 0, ...to };
    if (this.#closed) {
      job.fail(this.#closed);
      return () => {};
    }
    this.#jobs.set(id, job);
    if (this.#epoch) this.#send(job);
    return () => {
      if (this.#jobs.delete(id)) this.#post({ t: 'cancel', from: this.#me, id });
    };
  }

  #receipt(job: Open, r: Result): Receipt {
    const now = performance.now(), n = r.completionTokens;
    return {
      id: newId('rcpt-'), place: 'tab', where: 'this tab', model: this.about.name, modelSha256: this.about.sha256,
      bytesOut: 0, ms: Math.round(now - job.begun), firstMs: Math.round((job.first || now) - job.begun), tokens: n,
      tokensPerSecond: n > 1 && r.writeMs > 0 ? ((n - 1) / r.writeMs) * 1000 : 0,
      seed: job.m.settings && job.m.settings.temperature > 0 ? job.m.settings.seed : null, at: new Date().toISOString(),
      restarts: Math.max(0, job.runs - 1),
    };
  }

  ask(work: Work, settings: Settings, priority: Priority, answer: Answer): () => void {
    return this.#add(work, settings, priority, {
      piece: (text) => answer.push(text),
      done: (r, job) => {
        const { promptTokens, cachedTokens, completionTokens } = r;
        const usage = { promptTokens, cachedTokens, completionTokens };
        answer.finish({ text: job.text, finish: r.finish, usage, receipt: this.#receipt(job, r) });
      },
      fail: (e) => answer.fail(e),
    });
  }

  #whole(body: JobBody, priority: Priority, signal?: AbortSignal): Promise<{ r: Result; job: Open }> {
    return new Promise((done, fail) => {
      const cancel = this.#add(body, undefined, priority, { piece() {}, done: (r, job) => done({ r, job }), fail });
      signal?.addEventListener('abort', () => {
        cancel();
        fail(new NighError('ECANCEL'));
      });
    });
  }

  async embed(texts: string[], priority: Priority, signal?: AbortSignal): Promise<Vectors> {
    const { r, job } = await this.#whole({ kind: 'embed', texts }, priority, signal);
    return { vectors: r.vectors!, usage: { promptTokens: r.promptTokens }, receipt: this.#receipt(job, r) };
  }

  async count(text: string): Promise<number> {
    return (await this.#whole({ kind: 'count', text }, 'now')).r.promptTokens;
  }

  // ---- the end ----

  #die(e: NighError): void {
    if (this.#closed) return;
    this.#closed = e;
    clearInterval(this.#watch);
    this.#opened.failed(e);
    for (const job of this.#jobs.values()) {
      this.#post({ t: 'cancel', from: this.#me, id: job.m.id });
      job.fail(e);
    }
    this.#jobs.clear();
    this.#gone.abort();
    this.#waiting?.abort();
    this.#stopWorker();
    this.#release?.();
    this.#channel?.close();
  }

  close(): void {
    this.#die(new NighError('ECANCEL', 'it was closed'));
  }

  /** For tests: where it stands, in one line. */
  get state(): string {
    const open = [...this.#jobs.values()].slice(0, 3).map((j) => `${j.m.id}:${j.m.body.kind}:${j.runs}:${j.m.to === this.#epoch}`);
    const heard = Math.round(performance.now() - this.#heard);
    return `leads ${this.leads} mine ${this.#mine === this.#epoch} ready ${this.#ready} starts ${this.#starts} heard ${heard} ms ago, ` +
      `silent ${this.#silent}, closed ${this.#closed?.message ?? 'no'}, ${this.#jobs.size} open: ${open.join(' ')}`;
  }

  /** For tests: ends the worker as a crash would. */
  kill(): boolean {
    this.#worker?.terminate();
    return this.#worker !== null;
  }
}
