// nigh.mjs - the browser module under node: loads a build/nigh-*.wasm and gives its exports plain JavaScript clothes.
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';

export class Failure extends Error {
  constructor(code, text) { super(text); this.code = code; }
}

// What a module is to be given: a clock, and memory if it has threads (the others bring their own).
export const importsOf = (module) => {
  const env = { now: () => performance.now() };
  if (WebAssembly.Module.imports(module).some((i) => i.name === 'memory'))
    env.memory = new WebAssembly.Memory({ initial: 32, maximum: 65536, shared: true });
  return { env };
};

export class Nigh {
  constructor(path) {
    this.module = new WebAssembly.Module(readFileSync(path));
    const imports = importsOf(this.module);
    this.x = { memory: imports.env.memory, ...new WebAssembly.Instance(this.module, imports).exports };
  }

  // Starts count - 1 threads beside this one; before any model. close() ends them.
  async threads(count) {
    this.check(this.x.thread_begin(count));
    this.workers = await Promise.all(Array.from({ length: count - 1 }, (_, i) => new Promise((done, fail) => {
      const worker = new Worker(new URL('./thread.mjs', import.meta.url), { workerData: { module: this.module,
        memory: this.x.memory, stack: this.x.thread_stack() >>> 0, tls: this.x.thread_tls() >>> 0, i: i + 1 } });
      worker.once('message', () => done(worker)).once('error', fail);
    })));
    return this;
  }

  async close() {
    this.x.thread_end?.();
    await Promise.all((this.workers ?? []).map((worker) => new Promise((done) => worker.once('exit', done))));
  }

  // Pointers come as signed numbers: above 2 GiB they are negative.
  bytes(ptr, len) { return new Uint8Array(this.x.memory.buffer, ptr >>> 0, len >>> 0); }
  result() { return Buffer.from(this.bytes(this.x.result_ptr(), this.x.result_len()).slice()); }

  // Throws with the module's own sentence when a status is negative or a handle is 0.
  check(value) {
    if (this.x.error_code() === 0) return value >>> 0;
    const from = this.x.error_text() >>> 0, all = new Uint8Array(this.x.memory.buffer);
    throw new Failure(this.x.error_code(), Buffer.from(all.slice(from, all.indexOf(0, from))).toString());
  }

  // Copies bytes in, calls use(ptr, length), frees them.
  put(bytes) {
    const ptr = this.x.alloc(Math.max(bytes.length, 1));
    if (!ptr) throw new Failure(-4, 'not enough memory');
    this.bytes(ptr, bytes.length).set(bytes);
    return ptr;
  }

  with(bytes, use) {
    const ptr = this.put(bytes);
    try { return use(ptr, bytes.length); } finally { this.x.free(ptr); }
  }

  withIds(ids, use) {
    const list = Int32Array.from(ids);
    return this.with(new Uint8Array(list.buffer), (ptr) => use(ptr, list.length));
  }

  open(file) { return this.with(file, (ptr, len) => this.check(this.x.model_open(ptr, len))); }

  // In pieces of about `most` bytes; read(at, bytes) gives those bytes of the file. No copy of the file is made.
  load(read, fileBytes, most = 1 << 20) {
    for (let n = 1 << 16; ; n = Math.min(2 * n, fileBytes)) {
      const head = this.put(read(0, Math.min(n, fileBytes)));
      const loading = this.x.load_begin(head, Math.min(n, fileBytes), fileBytes) >>> 0;
      if (!loading && this.x.error_code() === -3 && n < fileBytes) { this.x.free(head); continue; }
      try {
        this.check(loading);
        for (let bytes; (bytes = this.x.load_next(loading, most)) !== 0;)
          this.with(read(this.x.load_at() >>> 0, bytes), (ptr) => this.check(this.x.load_feed(loading, ptr)));
        return this.check(this.x.load_end(loading));
      } catch (e) {
        this.x.load_free(loading);
        throw e;
      } finally {
        this.x.free(head);
      }
    }
  }

  about(model) {
    this.check(this.x.model_about(model));
    return JSON.parse(this.result().toString());
  }

  tokenize(model, text, flags) {
    this.with(Buffer.from(text), (ptr, len) => this.check(this.x.tokenize(model, ptr, len, flags)));
    const bytes = this.result();
    return [...new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))];
  }

  chat(model, request) {
    this.with(Buffer.from(JSON.stringify(request)), (ptr, len) => this.check(this.x.chat_tokens(model, ptr, len, 0, 0, 0)));
    const bytes = this.result();
    return [...new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))];
  }

  detokenize(model, ids, special) {
    this.withIds(ids, (ptr, count) => this.check(this.x.detokenize(model, ptr, count, special ? 1 : 0)));
    return this.result().toString();
  }

  seat(model, context = 0, batch = 0) { return this.check(this.x.seat_new(model, context, batch)); }

  // The logits of every id, as bytes: [ids][vocab] little-endian f32.
  logits(seat, ids, vocab) {
    this.withIds(ids, (ptr, count) => this.check(this.x.seat_eval(seat, ptr, count, 1)));
    return Buffer.from(this.bytes(this.x.seat_logits(seat), ids.length * vocab * 4).slice());
  }

  // The vector of a text, as bytes: little-endian f32, not normalised.
  embed(seat, ids) {
    this.withIds(ids, (ptr, count) => this.check(this.x.seat_embed(seat, ptr, count)));
    return this.result();
  }

  // Greedy or drawn text behind a prompt of ids: { text, ids, finish }.
  generate(seat, ids, options) {
    this.with(Buffer.from(JSON.stringify(options)), (json, len) =>
      this.withIds(ids, (ptr, count) => this.check(this.x.generate_begin(seat, json, len, ptr, count))));
    const out = { text: [], ids: [], finish: 0 };
    while (out.finish === 0) {
      out.finish = this.check(this.x.generate_step(seat));
      out.text.push(this.result());
      if (out.finish === 0 && this.x.generate_token(seat) >= 0) out.ids.push(this.x.generate_token(seat));
    }
    return { ...out, text: Buffer.concat(out.text).toString() };
  }
}
