// nigh.mjs - the browser module under node: loads a build/nigh-*.wasm and gives its exports plain JavaScript clothes.
import { readFileSync } from 'node:fs';

export class Failure extends Error {
  constructor(code, text) { super(text); this.code = code; }
}

// The memory that a threaded module wants to be given; undefined for the others, which bring their own.
export const memoryOf = (module) => WebAssembly.Module.imports(module).length
  ? new WebAssembly.Memory({ initial: 32, maximum: 65536, shared: true }) : undefined;

export class Nigh {
  constructor(path) {
    const module = new WebAssembly.Module(readFileSync(path)), memory = memoryOf(module);
    this.x = { ...new WebAssembly.Instance(module, memory ? { env: { memory } } : {}).exports };
    this.x.memory ??= memory;
  }

  bytes(ptr, len) { return new Uint8Array(this.x.memory.buffer, ptr, len); }
  result() { return Buffer.from(this.bytes(this.x.result_ptr(), this.x.result_len())); }

  // Throws with the module's own sentence when a status is negative or a handle is 0.
  check(value) {
    if (this.x.error_code() === 0 && value >= 0) return value;
    const from = this.x.error_text(), all = new Uint8Array(this.x.memory.buffer);
    throw new Failure(this.x.error_code(), Buffer.from(all.subarray(from, all.indexOf(0, from))).toString());
  }

  // Copies bytes in, calls use(ptr, length), frees them.
  with(bytes, use) {
    const ptr = this.x.alloc(Math.max(bytes.length, 1));
    if (!ptr) throw new Failure(-4, 'not enough memory');
    this.bytes(ptr, bytes.length).set(bytes);
    try { return use(ptr, bytes.length); } finally { this.x.free(ptr); }
  }

  withIds(ids, use) {
    const list = Int32Array.from(ids);
    return this.with(new Uint8Array(list.buffer), (ptr) => use(ptr, list.length));
  }

  open(file) { return this.with(file, (ptr, len) => this.check(this.x.model_open(ptr, len))); }

  about(model) {
    this.check(this.x.model_about(model));
    return JSON.parse(this.result().toString());
  }

  tokenize(model, text, flags) {
    this.with(Buffer.from(text), (ptr, len) => this.check(this.x.tokenize(model, ptr, len, flags)));
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
    return Buffer.from(this.bytes(this.x.seat_logits(seat), ids.length * vocab * 4));
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
      if (out.finish === 0) out.ids.push(this.x.generate_token(seat));
    }
    return { ...out, text: Buffer.concat(out.text).toString() };
  }
}
