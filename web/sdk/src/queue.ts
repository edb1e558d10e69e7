// queue.ts - several requests over one engine: who may go on, one token or one piece of a prompt at a time.
//
// Each request is a generator that yields between two pieces of work. A request needs a seat (a conversation's memory);
// it takes the free one that holds the longest beginning of its text already. Where none is free, it takes the one of a
// request of lower priority, which goes on later, on any seat, from where it was: its tokens are read again, which is
// faster than writing them was, and no number changes. So a keystroke never waits for the end of a summary, also where
// there is memory for one seat only.
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
  /** Of two with the same key the later one counts. */
  run: number;
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
  left: number; // what it had begun on a seat that was taken from it; 0: nothing
  writing: boolean; // it has begun on its seat
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
  /** Called when the engine has failed in a way that leaves nothing to stand on. */
  broken: () => void = () => {};

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

  /** One pass, so that the browser begins to make fast code of the products before anybody waits for them. */
  warm(): void {
    const seat = this.#seats[0]!, { encoder } = this.#engine.facts;
    try {
      if (encoder) return;
      this.#engine.eval(seat.at, [0]);
      this.#engine.truncate(seat.at, 0);
    } catch {
      // the first request will say it
    }
  }

  add(job: Job): void {
    const same = this.#jobs.find((j) => j.key === job.key);
    if (same && same.run >= job.run) return;
    if (same) this.#end(same);
    const running: Running = {
      ...job, work: undefined as never, seat: null, left: 0, writing: false, order: this.#order++, started: false,
    };
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
    if (j.left) this.#engine.drop(j.left);
    j.left = 0;
    this.#jobs = this.#jobs.filter((one) => one !== j);
  }

  #chooseSeat(j: Running, ids: number[]): Seat | null {
    const busy = this.#seats.filter((s) => s.busy).length;
    const most = j.priority === 'now' ? SEATS : SEATS - 1; // the last is kept for keystrokes
    if (busy >= most) return this.#takeSeat(j);
    const free = this.#seats.filter((s) => !s.busy);
    let best: Seat | null = null;
    for (const s of free) if (!best || common(s.ids, ids) > common(best.ids, ids)) best = s;
    // A seat that holds another text is worth keeping while there is memory for one more.
    const shared = best ? common(best.ids, ids) : 0;
    if ((!best || (shared < 8 && best.ids.length > 8)) && this.#seats.length < SEATS && !this.#full) {
      this.#newSeat();
      best = this.#seats.find((s) => !s.busy && s.ids.length === 0) ?? best;
    }
    if (!best) return this.#takeSeat(j);
    best.busy = true;
    return best;
  }

  /** The seat of a request of lower priority; of several the lowest, and of these the one that came last. */
  #takeSeat(j: Running): Seat | null {
    let victim: Running | null = null;
    for (const one of this.#jobs) {
      if (!one.seat || RANK[one.priority] <= RANK[j.priority]) continue;
      if (!victim || RANK[one.priority] >= RANK[victim.priority]) victim = one;
    }
    if (!victim) return null;
    const seat = victim.seat!;
    if (victim.writing) victim.left = this.#engine.leave(seat.at);
    victim.writing = false;
    victim.seat = null;
    return seat;
  }

  async #turn(): Promise<void> {
    this.#turning = true;
    try {
      await this.#turns();
    } finally {
      this.#turning = false;
    }
  }

  async #turns(): Promise<void> {
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
      if (e instanceof WebAssembly.RuntimeError) this.broken();
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

  /** Has a seat that holds these tokens. Gives how many it held already. */
  *#hold(j: Running, ids: number[]): Generator<void, number> {
    let first = -1;
    for (;;) {
      const seat = j.seat ?? (yield* this.#seatFor(j, ids)), kept = common(seat.ids, ids);
      if (first < 0) first = kept;
      this.#engine.truncate(seat.at, kept);
      seat.ids.length = kept;
      if (kept === ids.length) return first;
      const piece = ids.slice(kept, kept + PIECE);
      this.#engine.eval(seat.at, piece);
      seat.ids.push(...piece);
      if (seat.ids.length < ids.length) yield; // and the seat may be gone
    }
  }

  *#generate(j: Running, ids: number[]): Generator<void, Result> {
    const { stop, ...o } = j.settings!, held = ids.slice(0, -1); // held: what the seat must hold before the next step
    const kept = yield* this.#hold(j, held);
    this.#engine.begin(j.seat!.at, stop.length ? { ...o, stop } : o, ids);
    j.writing = true;
    let tokens = 0, pending = ids.at(-1)!, first = 0;
    for (;;) {
      if (!j.seat) {
        yield* this.#hold(j, held);
        this.#engine.join(j.seat!.at, j.left);
        j.left = 0;
        j.writing = true;
      }
      const s = this.#engine.step(j.seat!.at);
      held.push(pending);
      j.seat!.ids.push(pending);
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
