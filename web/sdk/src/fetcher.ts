// fetcher.ts - brings a model into memory: stored chunks from the disk, the others over the network, each checked.
import { checkSignature, readManifest, sha256, type Manifest } from './manifest.js';
import type { Store } from './store.js';
import { NighError, asError } from './status.js';
import type { Progress } from './types.js';

const AT_ONCE = 3, ATTEMPTS = 3;

export interface Source {
  store: Store | null;
  key?: string;
  publicKeys?: string[];
  signal: AbortSignal;
  progress: (p: Omit<Progress, 'model'>) => void;
}

const auth = (key?: string): Record<string, string> => (key ? { authorization: `Bearer ${key}` } : {});

/** The manifest at an address; when nobody answers there, the one that was stored. */
export async function getManifest(url: string, s: Source): Promise<Manifest> {
  let reply: Response | null = null;
  try {
    reply = await fetch(url, { headers: auth(s.key), signal: s.signal });
  } catch (e) {
    if (s.signal.aborted) throw new NighError('ECANCEL');
    const stored = await s.store?.find(url);
    if (!stored) throw new NighError('EIO', `${url} cannot be reached, and nothing is stored: ${(e as Error).message}`);
    await checkSignature(stored, s.publicKeys);
    return stored;
  }
  if (reply.status === 401) throw new NighError('EAUTH');
  if (!reply.ok) {
    const stored = reply.status >= 500 ? await s.store?.find(url) : null;
    if (stored) return stored;
    throw new NighError(reply.status === 404 ? 'ENOENT' : 'EIO', `${url} answered ${reply.status}`);
  }
  const manifest = readManifest(await reply.text(), url);
  await checkSignature(manifest, s.publicKeys);
  return manifest;
}

class Fetching {
  loaded = 0;
  fetched = 0;
  kept = true;
  whole: Uint8Array<ArrayBuffer> | null = null;
  constructor(
    readonly m: Manifest,
    readonly s: Source,
    readonly view: (at: number, bytes: number) => Uint8Array,
  ) {
    this.kept = s.store !== null;
  }

  span(i: number): [number, number] {
    const at = i * this.m.chunkBytes;
    return [at, Math.min(this.m.chunkBytes, this.m.bytes - at)];
  }

  tell(stage: Progress['stage']): void {
    this.s.progress({ stage, loaded: this.loaded, total: this.m.bytes, fetched: this.fetched, kept: this.kept });
  }

  async readStored(i: number): Promise<boolean> {
    const [at, bytes] = this.span(i);
    if (!(await this.s.store!.read(this.m.chunks[i]!, () => this.view(at, bytes)))) return false;
    this.loaded += bytes;
    this.tell('read');
    return true;
  }

  /** The bytes of one chunk from the network, not checked yet. */
  async download(at: number, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.whole) return this.whole.slice(at, at + bytes);
    const reply = await fetch(this.m.file, {
      headers: { ...auth(this.s.key), range: `bytes=${at}-${at + bytes - 1}` }, signal: this.s.signal, cache: 'no-store',
    });
    if (!reply.ok) throw new NighError(reply.status === 404 ? 'ENOENT' : 'EIO', `${this.m.file} answered ${reply.status}`);
    const got = new Uint8Array(await reply.arrayBuffer());
    this.fetched += got.length;
    if (reply.status !== 200 || got.length !== this.m.bytes || this.m.chunks.length === 1) return got;
    this.whole = got; // a server that knows no ranges sent everything at once
    return got.slice(at, at + bytes);
  }

  async fetch(i: number): Promise<void> {
    const [at, bytes] = this.span(i), hash = this.m.chunks[i]!;
    let last: NighError | null = null;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (this.s.signal.aborted) throw new NighError('ECANCEL');
      if (attempt) await new Promise((done) => setTimeout(done, 100 * 4 ** (attempt - 1)));
      try {
        const got = await this.download(at, bytes);
        if (got.length === bytes && (await sha256(got)) === hash) {
          this.view(at, bytes).set(got);
          this.loaded += bytes;
          await this.save(hash, got);
          this.tell('download');
          return;
        }
        this.whole = null;
        last = new NighError('EDATA', `a piece of ${this.m.name} came damaged ${attempt + 1} times`);
      } catch (e) {
        if (this.s.signal.aborted) throw new NighError('ECANCEL');
        last = asError(e);
        if (last.code === 'ENOENT') break;
      }
    }
    throw last!;
  }

  async save(hash: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.kept) return;
    try {
      await this.s.store!.write(hash, bytes);
    } catch {
      this.kept = false; // no room: it works from memory, and `kept` says that it will be gone
    }
  }
}

/** Fills view(at, bytes), the memory of the whole file. Gives how many bytes came over the network. */
export async function bring(m: Manifest, s: Source, view: (at: number, bytes: number) => Uint8Array): Promise<{ fetched: number; kept: boolean }> {
  const f = new Fetching(m, s, view);
  const present = (await s.store?.present()) ?? new Set<string>();
  const missing: number[] = [];
  const checked = (await s.store?.isChecked(m)) ?? false;
  if (s.store && !checked) await s.store.keep(m, false).catch(() => (f.kept = false));
  for (let i = 0; i < m.chunks.length; i++)
    if (!s.store || !s.store.has(present, m.chunks[i]!) || !(await f.readStored(i))) missing.push(i);
  if (f.kept && missing.length) await makeRoom(f, missing);
  const lane = async (): Promise<void> => {
    for (let i; (i = missing.shift()) !== undefined; ) await f.fetch(i);
  };
  const first = missing.shift(); // alone: it tells whether the server knows ranges
  if (first !== undefined) await f.fetch(first);
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  if (!checked) {
    if ((await sha256(view(0, m.bytes))) !== m.sha256)
      throw new NighError('EDATA', `${m.name}: every piece is right, but the whole has another hash than the manifest says`);
    if (f.kept) await s.store!.keep(m, true).catch(() => {});
  }
  return { fetched: f.fetched, kept: f.kept };
}

/** Asks how much room there is; when it is too little, what no model needs any more goes first. */
async function makeRoom(f: Fetching, missing: number[]): Promise<void> {
  const need = missing.reduce((sum, i) => sum + f.span(i)[1], 0) * 1.02;
  const room = async (): Promise<number> => {
    const { quota = 0, usage = 0 } = await navigator.storage.estimate();
    return quota - usage;
  };
  if ((await room()) >= need) return;
  await f.s.store!.sweep();
  f.kept = (await room()) >= need;
}
