// engine.ts - the WebAssembly module in plain JavaScript clothes. Runs in the worker only.
import { NighError, nameOfValue } from './status.js';

/** The builds of the module, best first, and what each wants of the browser. Filled in when the SDK is built. */
declare const __BUILDS__: { file: string; relaxed: boolean; threads: boolean }[];

type Exports = Record<string, (...args: number[]) => number> & { memory: WebAssembly.Memory };

// (module (func (drop (i32x4.relaxed_dot ...)))) by hand: magic, type, function, code.
const RELAXED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253,
  128, 2, 11,
];
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const valid = (bytes: number[]): boolean => WebAssembly.validate(new Uint8Array(bytes));

export const features = (): { simd: boolean; relaxed: boolean; threads: boolean } => ({
  simd: valid(SIMD),
  relaxed: valid(RELAXED),
  threads: globalThis.crossOriginIsolated === true && typeof SharedArrayBuffer !== 'undefined',
});

export interface ModelFacts {
  name: string; arch: string; context: number; vocab: number; embed: number; layers: number; parameters: number;
  weight_bytes: number; encoder: boolean;
}

const importsFor = (memory?: WebAssembly.Memory): WebAssembly.Imports => ({
  env: { now: () => performance.now(), ...(memory ? { memory } : {}) },
});

export interface ThreadMessage {
  t: 'thread';
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  stack: number;
  tls: number;
  i: number;
}

/** One more thread: an instance over the same memory, which helps until the end. Does not come back before. */
export async function runThread(m: ThreadMessage): Promise<void> {
  const x = (await WebAssembly.instantiate(m.module, importsFor(m.memory))).exports as Record<string, unknown>;
  (x.__stack_pointer as WebAssembly.Global).value = m.stack;
  (x.__wasm_init_tls as (tls: number) => void)(m.tls);
  (x.thread_run as (i: number) => void)(m.i);
}

/** Beside the weights: the scratch of a pass, and a conversation. */
const HEADROOM = 8 << 20;

interface Exported {
  begin(head: number, have: number): number; // 0: the head is too short
  next(l: number, most: number): [bytes: number, at: number];
  feed(l: number, ptr: number): void;
  end(l: number): void;
  free(l: number): void;
}

/**
 * Takes a file as it comes, piece by piece and forward, and packs what it holds at once. What lies over the border of two
 * pieces is put together; nothing else is copied.
 */
export class Loading {
  #e: Engine;
  #x: Exported;
  #bytes: number;
  #l = 0;
  #at = 0; // of the file, what came so far
  #head = 0;
  #headBytes = 0;
  #part = 0; // what is put together: its memory, its size there, what it is to be, what is there
  #partRoom = 0;
  #part0 = 0;
  #partBytes = 0;

  constructor(e: Engine, bytes: number, x: Exported) {
    this.#e = e;
    this.#bytes = bytes;
    this.#x = x;
  }

  /** The next `bytes` of the file, which lie at ptr and may go afterwards. Fails: EDATA, ENOSUP, ENOMEM. */
  push(ptr: number, bytes: number): void {
    const from = this.#at;
    this.#at += bytes;
    if (this.#l) return this.#take(ptr, from, this.#at);
    this.#keepHead(ptr, from, bytes);
    this.#l = this.#x.begin(this.#head, this.#at);
    if (this.#l) this.#take(this.#head, 0, this.#at);
    else if (this.#at === this.#bytes) throw new NighError('EDATA', 'the file ends in the middle of its head');
  }

  #keepHead(ptr: number, from: number, bytes: number): void {
    if (this.#at > this.#headBytes) {
      const room = Math.min(Math.max(2 * this.#headBytes, this.#at), this.#bytes), more = this.#e.alloc(room);
      if (from) this.#e.view(more, from).set(this.#e.view(this.#head, from));
      this.#e.free(this.#head);
      this.#head = more;
      this.#headBytes = room;
    }
    this.#e.view(this.#head + from, bytes).set(this.#e.view(ptr, bytes));
  }

  /** Feeds what the bytes from..to of the file, which lie at ptr, complete. */
  #take(ptr: number, from: number, to: number): void {
    for (;;) {
      if (this.#partBytes) {
        const wanted = this.#partBytes - this.#part0, there = Math.min(wanted, to - from);
        this.#e.view(this.#part + this.#part0, there).set(this.#e.view(ptr, there));
        this.#part0 += there;
        if (there < wanted) return;
        this.#x.feed(this.#l, this.#part);
        this.#partBytes = 0;
      }
      let [bytes, at] = this.#x.next(this.#l, MOST);
      if (!bytes || at >= to) return;
      if (at + bytes > to) [bytes, at] = this.#x.next(this.#l, to - at);
      if (at < from) throw new NighError('EDATA', 'its tensors overlap');
      if (at + bytes <= to) this.#x.feed(this.#l, ptr + (at - from));
      else return this.#keepPart(ptr + (at - from), to - at, bytes);
    }
  }

  #keepPart(ptr: number, there: number, bytes: number): void {
    if (bytes > this.#partRoom) {
      this.#e.free(this.#part);
      this.#part = this.#e.alloc((this.#partRoom = bytes));
    }
    this.#e.view(this.#part, there).set(this.#e.view(ptr, there));
    this.#part0 = there;
    this.#partBytes = bytes;
  }

  /** Makes the model of it. Fails: EDATA when something has not come. */
  end(): void {
    this.#x.end(this.#l);
    this.#l = 0;
    this.free();
  }

  free(): void {
    if (this.#l) this.#x.free(this.#l);
    this.#e.free(this.#part);
    this.#e.free(this.#head);
    this.#l = this.#part = this.#head = 0;
  }
}

const MOST = 1 << 20; // packed at once, so that messages are heard between

export class Engine {
  readonly file: string;
  threads = 1;
  #x: Exports;
  #module: WebAssembly.Module;
  model = 0;
  facts!: ModelFacts;
  chatTemplate = false;
  #decoder = new TextDecoder();
  #encoder = new TextEncoder();

  private constructor(x: Exports, module: WebAssembly.Module, file: string) {
    this.#x = x;
    this.#module = module;
    this.file = file;
  }

  /** Compiles the best build that this browser takes. */
  static async load(files: string): Promise<Engine> {
    const can = features();
    if (!can.simd) throw new NighError('ENOSUP', 'this browser has no SIMD in WebAssembly');
    let last = new NighError('ENOENT', 'the SDK was built without a WebAssembly module');
    for (const b of __BUILDS__) {
      if ((b.relaxed && !can.relaxed) || (b.threads && !can.threads)) continue;
      try {
        const reply = await fetch(new URL(b.file, files));
        if (!reply.ok) throw new NighError('EIO', `${b.file}: the server answered ${reply.status}`);
        const module = await WebAssembly.compileStreaming(reply);
        // A build with threads is given its memory, which several workers may then share; the others bring their own.
        const memory = b.threads ? new WebAssembly.Memory({ initial: 32, maximum: 65536, shared: true }) : undefined;
        const made = await WebAssembly.instantiate(module, importsFor(memory));
        return new Engine({ memory, ...made.exports } as Exports, module, b.file);
      } catch (e) {
        last = e instanceof NighError ? e : new NighError('EIO', `${b.file}: ${(e as Error).message}`);
      }
    }
    throw last;
  }

  /** Before any model: more workers that share the memory. Those that cannot be had are done without. */
  startThreads(count: number, url: string): void {
    if (count < 2 || !this.#x.thread_begin || this.#x.thread_begin(count) !== 0) return;
    this.threads = count;
    for (let i = 1; i < count; i++) {
      const stack = this.#x.thread_stack!() >>> 0, tls = this.#x.thread_tls!() >>> 0;
      if (!stack || !tls) return;
      const { memory } = this.#x, worker = new Worker(url, { type: 'module', name: `nigh-thread-${i}` });
      worker.onerror = (e) => e.preventDefault(); // the engine does not wait for one that never comes
      worker.postMessage({ t: 'thread', module: this.#module, memory, stack, tls, i } satisfies ThreadMessage);
    }
  }

  get memoryBytes(): number {
    return this.#x.memory.buffer.byteLength;
  }

  view(ptr: number, bytes: number): Uint8Array {
    return new Uint8Array(this.#x.memory.buffer, ptr, bytes);
  }

  /** A copy of what the last call gave. */
  #result(): Uint8Array<ArrayBuffer> {
    return this.view(this.#x.result_ptr!() >>> 0, this.#x.result_len!() >>> 0).slice() as Uint8Array<ArrayBuffer>;
  }

  #text(): string {
    return this.#decoder.decode(this.#result());
  }

  #check(value: number): number {
    if (this.#x.error_code!() === 0 && value >= 0) return value;
    const from = this.#x.error_text!() >>> 0, all = this.view(from, 240);
    throw new NighError(nameOfValue(this.#x.error_code!() || value), this.#decoder.decode(all.slice(0, all.indexOf(0))));
  }

  /** Memory for a while. Fails: ENOMEM. */
  alloc(bytes: number): number {
    const ptr = this.#x.alloc!(Math.max(bytes, 1)) >>> 0;
    if (!ptr) throw new NighError('ENOMEM', `the browser does not give ${Math.ceil(bytes / 1e6)} MB of memory`);
    return ptr;
  }

  free(ptr: number): void {
    this.#x.free!(ptr);
  }

  #with<T>(bytes: Uint8Array, use: (ptr: number) => T): T {
    const ptr = this.alloc(bytes.length);
    this.view(ptr, bytes.length).set(bytes);
    try {
      return use(ptr);
    } finally {
      this.free(ptr);
    }
  }

  #withIds<T>(ids: ArrayLike<number>, use: (ptr: number) => T): T {
    return this.#with(new Uint8Array(Int32Array.from(ids).buffer), use);
  }

  /** Is there so much memory? Asked for, not taken. Fails: ENOMEM. */
  room(bytes: number): void {
    if (bytes >= 2 ** 32 || !this.#x.room!(bytes)) throw new NighError('ENOMEM', `the browser does not give ${Math.ceil(bytes / 1e6)} MB of memory`);
  }

  /** SHA-256 of what comes in pieces. */
  hashBegin(): void {
    this.#x.hash_begin!();
  }
  hashAdd(ptr: number, bytes: number): void {
    this.#x.hash_add!(ptr, bytes);
  }
  hashEnd(): string {
    this.#check(this.#x.hash_end!());
    return this.#text();
  }

  /** A model whose file comes in pieces, forward. */
  loading(bytes: number): Loading {
    const x = this.#x;
    return new Loading(this, bytes, {
      begin: (head, have) => {
        const l = x.load_begin!(head, have, bytes) >>> 0;
        if (!l && x.error_code!() === -3 && have < bytes) return 0;
        this.#check(l);
        this.room((x.load_bytes!(l) >>> 0) + HEADROOM);
        this.#check(x.load_take!(l));
        return l;
      },
      next: (l, most) => [x.load_next!(l, most) >>> 0, x.load_at!() >>> 0],
      feed: (l, ptr) => void this.#check(x.load_feed!(l, ptr)),
      end: (l) => {
        this.model = this.#check(x.load_end!(l) >>> 0);
        this.#check(x.model_about!(this.model));
        this.facts = JSON.parse(this.#text()) as ModelFacts;
        this.#check(x.model_chat_template!(this.model));
        this.chatTemplate = this.#result().length > 0;
      },
      free: (l) => x.load_free!(l),
    });
  }

  /** Gives the model's memory back; without one it does nothing. */
  close(): void {
    if (this.model) this.#x.model_close!(this.model);
    this.model = 0;
  }

  #ids(): number[] {
    return [...new Int32Array(this.#result().buffer)];
  }

  tokenize(text: string): number[] {
    const bytes = this.#encoder.encode(text);
    this.#with(bytes, (ptr) => this.#check(this.#x.tokenize!(this.model, ptr, bytes.length, 1)));
    return this.#ids();
  }

  /** The ids of a conversation, through the model's template, or joined where it has none. */
  chat(messages: { role: string; content: string }[], today: Date): number[] {
    const render = this.#x.chat_tokens ?? this.#x.chat_ids;
    if (!this.chatTemplate || !render) return this.tokenize(messages.map((m) => m.content).join('\n\n'));
    const request = this.#encoder.encode(JSON.stringify({ messages }));
    const day = [today.getFullYear(), today.getMonth() + 1, today.getDate()] as const;
    this.#with(request, (ptr) => this.#check(render(this.model, ptr, request.length, ...day)));
    return this.#ids();
  }

  seatBytes(context: number): number {
    return this.#x.seat_bytes!(this.model, context, 0) >>> 0;
  }

  seat(context: number): number {
    return this.#check(this.#x.seat_new!(this.model, context, 0) >>> 0);
  }

  truncate(seat: number, count: number): void {
    this.#x.seat_truncate!(seat, count);
  }

  eval(seat: number, ids: number[]): void {
    this.#withIds(ids, (ptr) => this.#check(this.#x.seat_eval!(seat, ptr, ids.length, 0)));
  }

  embed(seat: number, ids: number[]): Float32Array {
    this.#withIds(ids, (ptr) => this.#check(this.#x.seat_embed!(seat, ptr, ids.length)));
    return new Float32Array(this.#result().buffer.slice(0, 4 * this.facts.embed));
  }

  begin(seat: number, options: object, ids: number[]): void {
    const json = this.#encoder.encode(JSON.stringify(options));
    this.#with(json, (o) => this.#withIds(ids, (ptr) => this.#check(this.#x.generate_begin!(seat, o, json.length, ptr, ids.length))));
  }

  /** Takes the text that is under way off its seat, for join() or drop(). */
  leave(seat: number): number {
    return this.#check(this.#x.generate_leave!(seat) >>> 0);
  }
  join(seat: number, left: number): void {
    this.#check(this.#x.generate_join!(seat, left));
  }
  drop(left: number): void {
    this.#x.generate_drop!(left);
  }

  /** Products of a matrix of 8 bits for about `ms`: billions of operations a second, and bytes of weights a second. */
  speed(ms: number): { gops: number; bytesPerSecond: number } {
    const x = this.#x;
    if (!x.probe_product) return { gops: 0, bytesPerSecond: 0 };
    x.probe_product(4); // the first rounds run in the baseline tier
    const begun = performance.now();
    let rounds = 0, now = begun;
    for (; now - begun < ms; now = performance.now()) {
      if (x.probe_product(16) !== 0) return { gops: 0, bytesPerSecond: 0 };
      rounds += 16;
    }
    const seconds = (now - begun) / 1000, values = 1024 * 1024;
    return { gops: (rounds * values * 2) / seconds / 1e9, bytesPerSecond: (rounds * values * 1.0625) / seconds };
  }

  /** One token on: 0 goes on, 1 stopped, 2 long enough. */
  step(seat: number): { finish: number; text: string; token: number } {
    const finish = this.#check(this.#x.generate_step!(seat, 0));
    return { finish, text: this.#text(), token: this.#x.generate_token!(seat) };
  }
}
