// nigh.mjs - the browser module in plain JavaScript clothes, for tests and the bench: the same in node and in a worker of
// a browser. docs/wasm.md says what the exports mean.
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
  constructor(module) {
    const imports = importsOf(module);
    this.module = module;
    this.x = { memory: imports.env.memory, ...new WebAssembly.Instance(module, imports).exports };
  }

  // Starts count - 1 threads beside this one; before any model. start(data) gives a promise: the thread is there.
  async threads(count, start) {
    this.check(this.x.thread_begin(count));
    this.workers = await Promise.all(Array.from({ length: count - 1 }, (_, i) => start({ module: this.module,
      memory: this.x.memory, stack: this.x.thread_stack() >>> 0, tls: this.x.thread_tls() >>> 0, i: i + 1 })));
    return this;
  }

  // Pointers come as signed numbers: above 2 GiB they are negative.
  bytes(ptr, len) { return new Uint8Array(this.x.memory.buffer, ptr >>> 0, len >>> 0); }
  result() { return this.bytes(this.x.result_ptr(), this.x.result_len()).slice(); }
  text() { return new TextDecoder().decode(this.result()); }
  ids() { return [...new Int32Array(this.result().buffer)]; }

  // Throws with the module's own sentence when a status is negative or a handle is 0.
  check(value) {
    if (this.x.error_code() === 0) return value >>> 0;
    const from = this.x.error_text() >>> 0, all = new Uint8Array(this.x.memory.buffer);
    throw new Failure(this.x.error_code(), new TextDecoder().decode(all.slice(from, all.indexOf(0, from))));
  }

  take(bytes) {
    const ptr = this.x.alloc(Math.max(bytes, 1)) >>> 0;
    if (!ptr) throw new Failure(-4, 'not enough memory');
    return ptr;
  }

  // Copies bytes in, calls use(ptr, length), frees them.
  with(bytes, use) {
    const ptr = this.take(bytes.length);
    this.bytes(ptr, bytes.length).set(bytes);
    try { return use(ptr, bytes.length); } finally { this.x.free(ptr); }
  }

  withText(text, use) { return this.with(new TextEncoder().encode(text), use); }
  withIds(ids, use) { return this.with(new Uint8Array(Int32Array.from(ids).buffer), (ptr) => use(ptr, ids.length)); }

  open(file) { return this.with(file, (ptr, len) => this.check(this.x.model_open(ptr, len))); }

  // In pieces of about `most` bytes; read(at, view) fills the view with the file's bytes from there on. The file is
  // never whole in memory.
  load(read, fileBytes, most = 1 << 20) {
    for (let n = Math.min(1 << 16, fileBytes); ; n = Math.min(2 * n, fileBytes)) {
      const head = this.take(n);
      read(0, this.bytes(head, n));
      const loading = this.x.load_begin(head, n, fileBytes) >>> 0;
      if (!loading && this.x.error_code() === -3 && n < fileBytes) { this.x.free(head); continue; }
      let piece = 0, room = 0;
      try {
        this.check(loading);
        this.check(this.x.load_take(loading));
        for (let bytes; (bytes = this.x.load_next(loading, most) >>> 0) !== 0;) {
          if (bytes > room) { this.x.free(piece); piece = this.take(room = Math.max(bytes, most)); }
          read(this.x.load_at() >>> 0, this.bytes(piece, bytes));
          this.check(this.x.load_feed(loading, piece));
        }
        return this.check(this.x.load_end(loading));
      } catch (e) {
        this.x.load_free(loading);
        throw e;
      } finally {
        this.x.free(piece);
        this.x.free(head);
      }
    }
  }

  about(model) {
    this.check(this.x.model_about(model));
    return JSON.parse(this.text());
  }

  tokenize(model, text, flags) {
    this.withText(text, (ptr, len) => this.check(this.x.tokenize(model, ptr, len, flags)));
    return this.ids();
  }

  chat(model, request) {
    this.withText(JSON.stringify(request), (ptr, len) => this.check(this.x.chat_tokens(model, ptr, len, 0, 0, 0)));
    return this.ids();
  }

  detokenize(model, ids, special) {
    this.withIds(ids, (ptr, count) => this.check(this.x.detokenize(model, ptr, count, special ? 1 : 0)));
    return this.text();
  }

  seat(model, context = 0, batch = 0) { return this.check(this.x.seat_new(model, context, batch)); }

  // The logits of every id, as bytes: [ids][vocab] little-endian f32.
  logits(seat, ids, vocab) {
    this.withIds(ids, (ptr, count) => this.check(this.x.seat_eval(seat, ptr, count, 1)));
    return this.bytes(this.x.seat_logits(seat), ids.length * vocab * 4).slice();
  }

  // The vector of a text, as bytes: little-endian f32, not normalised.
  embed(seat, ids) {
    this.withIds(ids, (ptr, count) => this.check(this.x.seat_embed(seat, ptr, count)));
    return this.result();
  }

  begin(seat, ids, options) {
    this.withText(JSON.stringify(options), (json, len) =>
      this.withIds(ids, (ptr, count) => this.check(this.x.generate_begin(seat, json, len, ptr, count))));
  }

  // Greedy or drawn text behind a prompt of ids: { text, ids, finish }.
  generate(seat, ids, options) {
    this.begin(seat, ids, options);
    const out = { text: '', ids: [], finish: 0 };
    while (out.finish === 0) {
      out.finish = this.check(this.x.generate_step(seat));
      out.text += this.text();                    // only whole letters come
      if (out.finish === 0 && this.x.generate_token(seat) >= 0) out.ids.push(this.x.generate_token(seat));
    }
    return out;
  }
}
