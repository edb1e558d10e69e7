// search.mjs - many texts in many files, in every shape that a program could have given them: as they are, as JSON writes
// them, in base64 (at each alignment, both alphabets), hex, percent-encoded, UTF-16, backwards, and inside what gzip or zlib packed.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { inflateRawSync, inflateSync } from 'node:zlib';

export const SHORTEST = 8, PIECE = 24;

// A text that was written in part only is found, too: its begin, middle and end count.
export function piecesOf(text) {
  const letters = Array.from(text);
  if (letters.length <= PIECE) return [text];
  const at = (i) => letters.slice(i, i + PIECE).join('');
  return [at(0), at((letters.length - PIECE) >> 1), at(letters.length - PIECE)];
}

export function shapesOf(text) {
  const bytes = Buffer.from(text), out = new Map([['plain', bytes]]);
  const add = (name, value) => out.set(name, Buffer.isBuffer(value) ? value : Buffer.from(value));
  add('json', JSON.stringify(text).slice(1, -1));
  add('json ascii', JSON.stringify(text).slice(1, -1).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`));
  for (const skip of [0, 1, 2]) {       // the first and last letters hold bits of what stands beside
    const code = Buffer.concat([Buffer.alloc(skip), bytes]).toString('base64').replace(/=+$/, '').slice(skip ? skip + 1 : 0, -1);
    add(`base64 +${skip}`, code);
    add(`base64url +${skip}`, code.replaceAll('+', '-').replaceAll('/', '_'));
  }
  add('hex', bytes.toString('hex'));
  add('HEX', bytes.toString('hex').toUpperCase());
  add('percent', encodeURIComponent(text.toWellFormed?.() ?? text.replace(/[\ud800-\udfff]/g, '')));
  add('form', encodeURIComponent(text.toWellFormed?.() ?? text.replace(/[\ud800-\udfff]/g, '')).replaceAll('%20', '+'));
  add('utf-16le', Buffer.from(text, 'utf16le'));
  add('utf-16be', Buffer.from(text, 'utf16le').swap16());
  add('backwards', Buffer.from(bytes).reverse());
  return out;
}

// Where the packed bytes of a gzip member begin (RFC 1952).
function behindHead(bytes) {
  const flags = bytes[3], string = (i) => bytes.indexOf(0, i) + 1;
  let i = 10;
  if (flags & 4) i += 2 + bytes.readUInt16LE(i);
  if (flags & 8) i = string(i);
  if (flags & 16) i = string(i);
  return bytes.subarray(flags & 2 ? i + 2 : i);
}

const hash = (a, b, c, d) => (Math.imul((a | b << 8 | c << 16 | d << 24) >>> 0, 0x9e3779b1) >>> 10);
export class Finder {
  constructor(texts) {
    this.bits = new Uint8Array(1 << 22);
    this.table = new Map();
    this.count = 0;
    for (const text of texts)
      for (const piece of piecesOf(text))
        for (const [shape, bytes] of shapesOf(piece)) if (bytes.length >= SHORTEST) this.#add({ text, shape, bytes });
  }

  #add(p) {
    const h = hash(...p.bytes.subarray(0, 4)), list = this.table.get(h) ?? [];
    if (list.some((q) => q.bytes.equals(p.bytes))) return;
    this.bits[h] = 1;
    this.table.set(h, [...list, p]);
    this.count++;
  }

  // What is in there: [{ text, shape, at }], at most one a text and shape.
  in(bytes, packed = '') {
    const found = new Map(), { bits } = this;
    for (let i = 0; i + SHORTEST <= bytes.length; i++) {
      const h = hash(bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]);
      if (!bits[h]) continue;
      for (const p of this.table.get(h))
        if (bytes.subarray(i, i + p.bytes.length).equals(p.bytes)) found.set(`${p.shape} ${p.text}`, { text: p.text, shape: packed + p.shape, at: i });
    }
    return packed ? [...found.values()] : [...found.values(), ...this.#unpacked(bytes)];
  }

  #unpacked(bytes) {
    const out = [];
    for (let i = 0; i + 2 < bytes.length; i++) {
      const gzip = bytes[i] === 0x1f && bytes[i + 1] === 0x8b && bytes[i + 2] === 8;
      const zlib = bytes[i] === 0x78 && [0x01, 0x5e, 0x9c, 0xda].includes(bytes[i + 1]);
      if (!gzip && !zlib) continue;
      try {
        const options = { finishFlush: 2, maxOutputLength: 1 << 26 };  // what was cut short is read as far as it goes
        const plain = gzip ? inflateRawSync(behindHead(bytes.subarray(i)), options) : inflateSync(bytes.subarray(i), options);
        out.push(...this.in(plain, gzip ? 'gzip ' : 'zlib '));
      } catch { /* it only looked like one */ }
    }
    return out;
  }

  // Every file below a folder: { files, bytes, found: [{ file, text, shape, at }] }.
  below(folder, skip = () => false, seen = { files: 0, bytes: 0, found: [] }) {
    for (const name of readdirSync(folder)) {
      const at = path.join(folder, name), about = statSync(at, { throwIfNoEntry: false });
      if (!about || skip(at)) continue;
      if (about.isDirectory()) this.below(at, skip, seen);
      if (!about.isFile()) continue;
      const bytes = readFileSync(at);
      seen.files++;
      seen.bytes += bytes.length;
      for (const f of this.in(bytes)) seen.found.push({ file: at, ...f });
    }
    return seen;
  }
}
