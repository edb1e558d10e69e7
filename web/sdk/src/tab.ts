// tab.ts - the page's end of the engine in this browser: one tab of many owns the worker, all tabs ask it.
//
// Who holds the lock of the channel leads: it starts the worker and looks after it. The others reach the same worker
// over a BroadcastChannel. When the leader goes away the browser gives the lock to the next one at once; when its
// worker ends, the lock that the worker held tells (wire.ts); when a worker hangs, its missing beats do. Whatever
// happens, a request stands in `#jobs` of its own page until it has ended, and every path below ends it.
import type { Answer } from './answer.js';
import { newId, type Backend, type Settings, type Work } from './backend.js';
import { NighError, type StatusName } from './status.js';
import type { About, Priority, Progress, Receipt, Vectors } from './types.js';
import { aliveLock, type FromEngine, type JobBody, type JobMessage, type Result, type ToEngine } from './wire.js';

const HANG_MS = 5000, STEAL_MS = 2 * HANG_MS, WATCH_MS = 500, STARTS_MAX = 6, RUNS_MAX = 12;

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
  m: JobMessage;
  sent: string; // the epoch it was last sent to
  begun: number;
  first: number;
  drop: number; // characters of a repeated run that its caller has already
  text: string;
  runs: number;
  piece(text: string): void;
  done(r: Result, job: Open): void;
  fail(e: NighError): void;
}

async function digest(text: string): Promise<string> {
  let h = 0xcbf29ce484222325n;
  for (const c of new TextEncoder().encode(text)) h = BigInt.asUintN(64, (h ^ BigInt(c)) * 0x100000001b3n);
  return h.toString(16);
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
  #heard = performance.now();
  #silent = 0;
  #watched = performance.now();
  #watch: ReturnType<typeof setInterval> | undefined;
  #starts = 0;
  #closed: NighError | null = null;
  #release: (() => void) | null = null;
  #waiting: AbortController | null = null;
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
        b.#channelName = `nigh:${await digest(JSON.stringify(rest))}`;
        b.#channel = new BroadcastChannel(b.#channelName);
        b.#channel.onmessage = (e) => {
          const m = e.data as FromEngine;
          if (!(b.#worker && 'epoch' in m && m.epoch === b.#mine)) b.#hear(m); // else it came from the worker itself, too
        };
        b.#post({ t: 'who', from: b.#me });
        b.#queueForLead(false);
      } else b.#startWorker();
      b.#watch = setInterval(() => b.#look(), WATCH_MS);
      addEventListener('pagehide', () => b.close(), { once: true });
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
    this.#starts++;
    if (this.#starts > STARTS_MAX) {
      this.#die(new NighError('EIO', `the engine stopped ${STARTS_MAX} times while it started`));
      return;
    }
    const epoch = (this.#mine = newId('engine-'));
    const worker = (this.#worker = new Worker(new URL('worker.js', this.#o.files), { type: 'module', name: 'nigh' }));
    this.#heard = performance.now();
    this.#silent = HANG_MS * (2 ** (this.#starts - 1) - 1); // the file has to come first, and the line may be slow
    worker.onmessage = (e) => this.#hear(e.data as FromEngine);
    worker.onerror = (e) => {
      e.preventDefault();
      this.#lost(epoch, e.message);
    };
    const { signal: _s, onprogress: _p, ...rest } = this.#o;
    worker.postMessage({ t: 'init', epoch, channel: this.#channelName, ...rest } satisfies ToEngine);
  }

  #stopWorker(): void {
    this.#worker?.terminate();
    this.#worker = null;
  }

  /** The worker of this page is gone, or will never answer. */
  #lost(epoch: string, _why?: string): void {
    if (this.#closed || epoch !== this.#mine || !this.#worker) return;
    this.#startWorker();
  }

  /** Several times a second: does the engine still live? */
  #look(): void {
    const now = performance.now();
    if (now - this.#watched > 4 * WATCH_MS) this.#heard = now; // this page itself was asleep
    this.#watched = now;
    const silence = now - this.#heard - this.#silent;
    if (this.#worker && silence > HANG_MS) this.#lost(this.#mine);
    else if (!this.#worker && this.#channel && (this.#jobs.size || !this.#ready) && now - this.#heard > 1000) {
      if (silence > STEAL_MS) {
        this.#heard = now;
        this.#queueForLead(true);
      } else this.#post({ t: 'who', from: this.#me });
    }
  }

  #post(m: ToEngine): void {
    if (this.#worker) this.#worker.postMessage(m);
    else this.#channel?.postMessage(m);
  }

  // ---- what the engine says ----

  #hear(m: FromEngine | ToEngine): void {
    if (this.#closed) return;
    if ('epoch' in m && m.t !== 'init') {
      this.#heard = performance.now();
      if (m.t === 'beat') this.#silent = m.silentMs;
      else if (m.t === 'up') this.#up(m.epoch, m.about);
      else if (m.t === 'progress') this.#o.onprogress?.(m.p);
      else if (m.t === 'fatal') this.#die(new NighError(m.code, m.text));
    } else if ('to' in m && m.to === this.#me) this.#hearJob(m);
  }

  #hearJob(m: { t: string; run: string; id: number } & Partial<{ text: string; result: Result; code: StatusName }>): void {
    const job = this.#jobs.get(m.id);
    if (!job || m.run !== job.sent) return; // an engine that was given up may still speak
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

  #up(epoch: string, about: About | null): void {
    const isNew = epoch !== this.#epoch;
    this.#epoch = epoch;
    if (isNew) {
      this.#silent = HANG_MS;
      if (epoch === this.#mine && this.#channelName) this.#waitForEnd(epoch);
    }
    if (about) {
      this.about = about;
      this.#ready = true;
      this.#starts = 0;
      this.#opened.done(about);
    }
    for (const job of this.#jobs.values()) if (job.sent !== epoch) this.#send(job);
  }

  /** The worker holds this lock as long as it lives. */
  #waitForEnd(epoch: string): void {
    navigator.locks.request(aliveLock(this.#channelName, epoch), () => this.#lost(epoch)).catch(() => {});
  }

  // ---- requests ----

  #send(job: Open): void {
    if (job.runs >= RUNS_MAX) {
      this.#jobs.delete(job.m.id);
      job.fail(new NighError('EIO', `the engine stopped ${job.runs} times while it worked on this`));
      return;
    }
    job.sent = this.#epoch;
    job.drop = job.text.length;
    this.#post(job.m);
  }

  #add(body: JobBody, settings: Settings | undefined, priority: Priority, to: Pick<Open, 'piece' | 'done' | 'fail'>): () => void {
    const id = this.#nextId++;
    const m: JobMessage = { t: 'job', from: this.#me, id, body, settings, priority };
    const job: Open = { m, sent: '', begun: performance.now(), first: 0, drop: 0, text: '', runs: 0, ...to };
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
    const open = [...this.#jobs.values()].slice(0, 3).map((j) => `${j.m.id}:${j.m.body.kind}:${j.runs}:${j.sent === this.#epoch}`);
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
