// fetcher.ts - brings a model, chunk by chunk and in order: stored ones from the disk, the others over the network, each
// checked before it is given away. A few are on their way at a time, each in a slot of the engine's memory:
//
//     given away | given now | hash is computed | is read | is asked for          slot = number of the chunk % SLOTS
import { checkSignature, readManifest, sha256, type Manifest } from './manifest.js';
import type { Store } from './store.js';
import { NighError, asError } from './status.js';
import type { Progress } from './types.js';

const SLOTS = 4, AT_ONCE = 3, ATTEMPTS = 3;

export interface Source {
  store: Store | null;
  key?: string;
  publicKeys?: string[];
  signal: AbortSignal;
  progress: (p: Omit<Progress, 'model'>) => void;
}

const auth = (key?: string): Record<string, string> => (key ? { authorization: `Bearer ${key}` } : {});

/** The manifest at an address; when nobody answers there, the one that was stored. */
export async function getManifest(url: string, s: Omit<Source, 'store'> & { store: Promise<Store | null> }): Promise<Manifest> {
  let reply: Response | null = null;
  try {
    reply = await fetch(url, { headers: auth(s.key), signal: s.signal });
  } catch (e) {
    if (s.signal.aborted) throw new NighError('ECANCEL');
    const stored = await (await s.store)?.find(url);
    if (!stored) throw new NighError('EIO', `${url} cannot be reached, and nothing is stored: ${(e as Error).message}`);
    await checkSignature(stored, s.publicKeys);
    return stored;
  }
  if (reply.status === 401) throw new NighError('EAUTH');
  if (!reply.ok) {
    const stored = reply.status >= 500 ? await (await s.store)?.find(url) : null;
    if (stored) return stored;
    throw new NighError(reply.status === 404 ? 'ENOENT' : 'EIO', `${url} answered ${reply.status}`);
  }
  const manifest = readManifest(await reply.text(), url);
  await checkSignature(manifest, s.publicKeys);
  return manifest;
}

/** What lies in memory that the caller has. */
export interface Slots {
  alloc(bytes: number): number;
  free(ptr: number): void;
  view(ptr: number, bytes: number): Uint8Array;
}

export class Chunks {
  loaded = 0;
  fetched = 0;
  kept = true;
  #m: Manifest;
  #s: Source;
  #memory: Slots;
  #slots: number[] = [];
  #coming = new Map<number, Promise<void>>();
  #begun = 0; // chunks that are on their way or were
  #lanes: Promise<void>[]; // of the network
  #ranges: Promise<void> | null = null; // the first answer of the network, which tells whether the server knows ranges
  #room: Promise<void> | null = null;
  #saves: Promise<void>[] = [];
  #whole: Uint8Array<ArrayBuffer> | null = null;

  constructor(m: Manifest, s: Source, memory: Slots) {
    this.#m = m;
    this.#s = s;
    this.#memory = memory;
    this.kept = s.store !== null;
    this.#lanes = Array.from({ length: AT_ONCE }, () => Promise.resolve());
    for (let i = 0; i < Math.min(SLOTS, m.chunks.length); i++) this.#slots.push(memory.alloc(this.#span(i)[1]));
  }

  get count(): number {
    return this.#m.chunks.length;
  }

  #span(i: number): [number, number] {
    const at = i * this.#m.chunkBytes;
    return [at, Math.min(this.#m.chunkBytes, this.#m.bytes - at)];
  }

  #slot(i: number): number {
    return this.#slots[i % this.#slots.length]!;
  }

  /** Chunk number i, after all before it: where it lies until the next is asked for. Fails: EIO, EDATA, ECANCEL, ENOENT. */
  async take(i: number): Promise<{ ptr: number; bytes: number }> {
    while (this.#begun < Math.min(i + this.#slots.length, this.count)) {
      const next = this.#begun++, coming = this.#bring(next);
      coming.catch(() => {});
      this.#coming.set(next, coming);
    }
    await this.#coming.get(i);
    this.#coming.delete(i);
    return { ptr: this.#slot(i), bytes: this.#span(i)[1] };
  }

  /** After the last: all that can be kept is kept. */
  async end(): Promise<void> {
    await Promise.all(this.#saves);
  }

  free(): void {
    for (const ptr of this.#slots.splice(0)) this.#memory.free(ptr);
  }

  #tell(stage: Progress['stage']): void {
    this.#s.progress({ stage, loaded: this.loaded, total: this.#m.bytes, fetched: this.fetched, kept: this.kept });
  }

  async #bring(i: number): Promise<void> {
    const bytes = this.#span(i)[1], hash = this.#m.chunks[i]!;
    if (await this.#s.store?.read(hash, () => this.#memory.view(this.#slot(i), bytes))) {
      this.loaded += bytes;
      this.#tell('read');
      return;
    }
    if (this.kept) await (this.#room ??= this.#makeRoom());
    if (this.#ranges) await this.#ranges;
    const lane = i % AT_ONCE, before = this.#lanes[lane]!;
    const coming = before.then(() => this.#fetch(i));
    this.#ranges ??= coming.catch(() => {}).then(() => {});
    this.#lanes[lane] = coming.then((got) => this.#save(hash, got)).catch(() => {});
    this.#saves.push(this.#lanes[lane]!);
    this.#memory.view(this.#slot(i), bytes).set(await coming);
    this.loaded += bytes;
    this.#tell('download');
  }

  /** The bytes of one chunk from the network, not checked yet. */
  async #download(at: number, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#whole) return this.#whole.slice(at, at + bytes);
    const reply = await fetch(this.#m.file, {
      headers: { ...auth(this.#s.key), range: `bytes=${at}-${at + bytes - 1}` }, signal: this.#s.signal, cache: 'no-store',
    });
    if (!reply.ok) throw new NighError(reply.status === 404 ? 'ENOENT' : 'EIO', `${this.#m.file} answered ${reply.status}`);
    const got = new Uint8Array(await reply.arrayBuffer());
    this.fetched += got.length;
    if (reply.status !== 200 || got.length !== this.#m.bytes || this.#m.chunks.length === 1) return got;
    this.#whole = got; // a server that knows no ranges sent everything at once
    return got.slice(at, at + bytes);
  }

  async #fetch(i: number): Promise<Uint8Array<ArrayBuffer>> {
    const [at, bytes] = this.#span(i), hash = this.#m.chunks[i]!;
    let last: NighError | null = null;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (this.#s.signal.aborted) throw new NighError('ECANCEL');
      if (attempt) await new Promise((done) => setTimeout(done, 100 * 4 ** (attempt - 1)));
      try {
        const got = await this.#download(at, bytes);
        if (got.length === bytes && (await sha256(got)) === hash) return got;
        this.#whole = null;
        last = new NighError('EDATA', `a piece of ${this.#m.name} came damaged ${attempt + 1} times`);
      } catch (e) {
        if (this.#s.signal.aborted) throw new NighError('ECANCEL');
        last = asError(e);
        if (last.code === 'ENOENT') break;
      }
    }
    throw last!;
  }

  async #save(hash: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.kept) return;
    try {
      await this.#s.store!.write(hash, bytes);
    } catch {
      this.kept = false; // no room: it works from memory, and `kept` says that it will be gone
    }
  }

  /** Before the first chunk is fetched: is there room for it and what follows? When not, what no model needs goes first. */
  async #makeRoom(): Promise<void> {
    const store = this.#s.store!;
    await store.keep(this.#m, false).catch(() => (this.kept = false));
    const present = await store.present();
    let need = 0;
    for (let i = 0; i < this.count; i++) if (!store.has(present, this.#m.chunks[i]!)) need += this.#span(i)[1];
    const room = async (): Promise<number> => {
      const { quota = 0, usage = 0 } = await navigator.storage.estimate();
      return quota - usage;
    };
    need *= 1.02;
    if ((await room()) >= need) return;
    await store.sweep();
    this.kept &&= (await room()) >= need;
  }
}
