// answer.ts - text that is on its way: an async iterator of pieces and a promise of the whole, in one.
import { NighError, asError } from './status.js';
import type { Completion } from './types.js';

/** `for await` gives the pieces, `await` the whole. Leaving the loop early stops the answer. */
export class Answer implements AsyncIterable<string>, PromiseLike<Completion> {
  #pieces: string[] = [];
  #wake: (() => void) | null = null;
  #end: { error?: NighError } | null = null;
  #done!: (c: Completion) => void;
  #failed!: (e: NighError) => void;
  #whole = new Promise<Completion>((done, failed) => {
    this.#done = done;
    this.#failed = failed;
  });
  #stop: () => void;

  constructor(stop: () => void = () => {}) {
    this.#stop = stop;
    this.#whole.catch(() => {}); // who only iterates gets the failure there
  }

  /** Stops it: both the loop and the promise end with ECANCEL. */
  cancel(): void {
    if (this.#end) return;
    this.#stop();
    this.fail(new NighError('ECANCEL'));
  }

  get ended(): boolean {
    return this.#end !== null;
  }

  then<A = Completion, B = never>(
    ok?: ((c: Completion) => A | PromiseLike<A>) | null,
    bad?: ((e: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#whole.then(ok, bad);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    let at = 0;
    try {
      for (;;) {
        while (at < this.#pieces.length) yield this.#pieces[at++]!;
        if (this.#end?.error) throw this.#end.error;
        if (this.#end) return;
        await new Promise<void>((wake) => (this.#wake = wake));
      }
    } finally {
      if (!this.#end) this.cancel();
    }
  }

  // ---- for the backends ----
  /** @internal */
  push(text: string): void {
    if (this.#end || !text) return;
    this.#pieces.push(text);
    this.#signal();
  }
  /** @internal */
  finish(c: Completion): void {
    if (this.#end) return;
    this.#end = {};
    this.#done(c);
    this.#signal();
  }
  /** @internal */
  fail(e: unknown): void {
    if (this.#end) return;
    const error = asError(e);
    this.#end = { error };
    this.#failed(error);
    this.#signal();
  }
  #signal(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
