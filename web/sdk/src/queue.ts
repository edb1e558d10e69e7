// queue.ts - several requests over one engine: who may go on, one token or one piece of a prompt at a time.
//
// Each request is a generator that yields between two pieces of work. A request needs a seat (a conversation's memory);
// it takes the free one that holds the longest beginning of its text already. The last seat that there is room for is
// kept for requests of priority "now", so that a keystroke never waits for the end of a summary.
import type { Settings } from './backend.js';
import type { Engine } from './engine.js';
import { NighError, asError } from './status.js';
import type { JobBody, Result } from './wire.js';
import type { Priority } from './types.js';

const SEATS = 3, PIECE = 32, SLICE_MS = 4;
const RANK: Record<Priority, number> = { now: 0, normal: 1, idle: 2 };

interface Seat {
  at: number;
  ids: number[];
  busy: boolean;
}

export interface Job {
  key: string;
  body: JobBody;
  settings?: Settings;
  priority: Priority;
  began(): void;
  text(piece: string): void;
  done(result: Result): void;
  failed(e: NighError): void;
}

interface Running extends Job {
  work: Generator<void, Result>;
  seat: Seat | null;
  order: number;
  started: boolean;
}

const common = (a: number[], b: number[]): number => {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
};

export class Queue {
  #engine: Engine;
  #context: number;
  #jobs: Running[] = [];
  #seats: Seat[] = [];
  #full = false; // no memory for more seats
  #order = 0;
  #turning = false;
  #tick = new MessageChannel();
  #wake: (() => void) | null = null;
  /** Called between two pieces of work. */
  between: () => void = () => {};

  constructor(engine: Engine, context: number) {
    this.#engine = engine;
    this.#context = context;
    this.#tick.port1.onmessage = () => this.#wake?.();
    this.#newSeat();
    if (!this.#seats.length) throw new NighError('ENOMEM', 'not enough memory for a conversation');
  }

  get context(): number {
    return this.#context;
  }

  /** The first seat may be smaller than wished when memory is short; the others are of its size, or are not. */
  #newSeat(): void {
    for (;;) {
      try {
        this.#seats.push({ at: this.#engine.seat(this.#context), ids: [], busy: false });
        return;
      } catch (e) {
        if (this.#seats.length || this.#context <= 256 || asError(e).code !== 'ENOMEM') {
          this.#full = true;
          return;
        }
        this.#context = Math.max(256, this.#context >> 1);
      }
    }
  }

  add(job: Job): void {
    if (this.#jobs.some((j) => j.key === job.key)) return;
    const running: Running = { ...job, work: undefined as never, seat: null, order: this.#order++, started: false };
    running.work = this.#work(running);
    this.#jobs.push(running);
    if (!this.#turning) void this.#turn();
  }

  cancel(key: string): void {
    const j = this.#jobs.find((one) => one.key === key);
    if (j) this.#end(j);
  }

  #end(j: Running): void {
    if (j.seat) j.seat.busy = false;
    j.seat = null;
    this.#jobs = this.#jobs.filter((one) => one !== j);
  }

  #chooseSeat(j: Running, ids: number[]): Seat | null {
    const busy = this.#seats.filter((s) => s.busy).length;
    const most = j.priority === 'now' ? SEATS : SEATS - 1;
    if (busy >= most) return null;
    const free = this.#seats.filter((s) => !s.busy);
    let best: Seat | null = null;
    for (const s of free) if (!best || common(s.ids, ids) > common(best.ids, ids)) best = s;
    // A seat that holds another text is worth keeping while there is memory for one more.
    const shared = best ? common(best.ids, ids) : 0;
    if ((!best || (shared < 8 && best.ids.length > 8)) && this.#seats.length < SEATS && !this.#full) {
      this.#newSeat();
      best = this.#seats.find((s) => !s.busy && s.ids.length === 0) ?? best;
    }
    if (best) best.busy = true;
    return best;
  }

  async #turn(): Promise<void> {
    this.#turning = true;
    while (this.#jobs.length) {
      const until = performance.now() + SLICE_MS;
      const waiting = new Set<Running>();
      do {
        const j = this.#next(waiting);
        if (!j) break;
        this.#step(j, waiting);
      } while (performance.now() < until);
      this.between();
      await new Promise<void>((wake) => {
        this.#wake = wake;
        this.#tick.port2.postMessage(0);
      });
    }
    this.#turning = false;
  }

  /** Of the highest priority the one that had its turn longest ago. */
  #next(waiting: Set<Running>): Running | null {
    let best: Running | null = null;
    for (const j of this.#jobs) {
      if (waiting.has(j)) continue;
      const d = best ? RANK[j.priority] - RANK[best.priority] || j.order - best.order : -1;
      if (d < 0) best = j;
    }
    return best;
  }

  #step(j: Running, waiting: Set<Running>): void {
    try {
      if (!j.started) {
        j.started = true;
        j.began();
      }
      const hadSeat = j.seat;
      const r = j.work.next();
      j.order = this.#order++;
      if (r.done) {
        this.#end(j);
        j.done(r.value);
      } else if (!hadSeat && !j.seat) waiting.add(j);
    } catch (e) {
      if (j.seat) j.seat.ids = []; // what it holds is not known for sure
      this.#end(j);
      j.failed(asError(e));
    }
  }

  *#work(j: Running): Generator<void, Result> {
    const b = j.body;
    if (b.kind === 'embed') return yield* this.#embed(j, b.texts);
    if (b.kind === 'count') return { ...NOTHING, promptTokens: this.#engine.tokenize(b.text).length };
    const ids = b.kind === 'chat' ? this.#engine.chat(b.messages, new Date()) : this.#engine.tokenize(b.prompt);
    if (!ids.length) throw new NighError('EINVAL', 'the text is empty');
    if (ids.length >= this.#context)
      throw new NighError('ERANGE', `the text is longer than the ${this.#context} tokens there is room for`);
    return yield* this.#generate(j, ids);
  }

  *#seatFor(j: Running, ids: number[]): Generator<void, Seat> {
    for (;;) {
      j.seat = this.#chooseSeat(j, ids);
      if (j.seat) return j.seat;
      yield;
    }
  }

  *#generate(j: Running, ids: number[]): Generator<void, Result> {
    const seat = yield* this.#seatFor(j, ids);
    const kept = Math.min(common(seat.ids, ids), ids.length - 1);
    this.#engine.truncate(seat.at, kept);
    seat.ids = ids.slice(0, kept);
    for (let at = kept; at < ids.length - 1; at += PIECE) {
      const piece = ids.slice(at, Math.min(at + PIECE, ids.length - 1));
      this.#engine.eval(seat.at, piece);
      seat.ids.push(...piece);
      yield;
    }
    const { stop, ...o } = j.settings!;
    this.#engine.begin(seat.at, stop.length ? { ...o, stop } : o, ids);
    seat.ids = ids.slice();
    let tokens = 0, pending = -1, first = 0;
    for (;;) {
      const s = this.#engine.step(seat.at);
      if (pending >= 0) seat.ids.push(pending);
      pending = s.token;
      first ||= performance.now();
      if (s.finish === 0 || s.finish === 2) tokens++;
      if (s.text) j.text(s.text);
      if (s.finish !== 0)
        return {
          finish: s.finish === 1 ? 'stop' : 'length', promptTokens: ids.length, cachedTokens: kept,
          completionTokens: Math.min(tokens, o.max_tokens), writeMs: performance.now() - first,
        };
      yield;
    }
  }

  *#embed(j: Running, texts: string[]): Generator<void, Result> {
    const vectors: Float32Array[] = [];
    let promptTokens = 0;
    for (const text of texts) {
      const ids = this.#engine.tokenize(text);
      if (!ids.length) throw new NighError('EINVAL', 'the text is empty');
      if (ids.length > Math.min(512, this.#context))
        throw new NighError('ERANGE', `the text is longer than the ${Math.min(512, this.#context)} tokens there is room for`);
      promptTokens += ids.length;
      const seat = yield* this.#seatFor(j, []);
      vectors.push(this.#engine.embed(seat.at, ids));
      seat.ids = [];
      this.#engine.truncate(seat.at, 0);
      seat.busy = false;
      j.seat = null;
      yield;
    }
    return { ...NOTHING, promptTokens, vectors };
  }
}

const NOTHING: Result = { finish: 'stop', promptTokens: 0, cachedTokens: 0, completionTokens: 0, writeMs: 0 };
