// store.ts - models in the origin's private file system (OPFS), chunk by chunk.
//
//   nigh/models/<sha256 of the file>     the manifest as it came, in front of it one line of our own
//   nigh/chunks/<sha256 of the chunk>    the chunk; with .enc: a random vector of 12 bytes, then AES-GCM
//
// A chunk is written under its name only when its hash was right, so what is there after a crash is whole, or not what it
// says; the hash is checked again whenever it is read, so nothing waits for the disk (flush). Reading and writing want a worker (sync access handles);
// listing and deleting work anywhere.
import { readManifest, sha256, type Manifest } from './manifest.js';
import { NighError, asError } from './status.js';
import type { StorageState, StoredModel } from './types.js';

interface SyncHandle {
  read(into: Uint8Array, o?: { at: number }): number;
  write(from: Uint8Array, o?: { at: number }): number;
  truncate(bytes: number): void;
  getSize(): number;
  close(): void;
}
type SyncFile = FileSystemFileHandle & { createSyncAccessHandle(o?: { mode: string }): Promise<SyncHandle> };
type Folder = FileSystemDirectoryHandle & { keys(): AsyncIterableIterator<string> };

const KEY_BYTES = 12, TAG_BYTES = 16;

export class Store {
  #models: Folder;
  #chunks: Folder;
  #key: CryptoKey | null;
  private constructor(models: Folder, chunks: Folder, key: CryptoKey | null) {
    this.#models = models;
    this.#chunks = chunks;
    this.#key = key;
  }

  /** null: this browser, or this page, has no such storage. */
  static async open(encrypt = false): Promise<Store | null> {
    if (!globalThis.isSecureContext || !navigator.storage?.getDirectory) return null;
    try {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('nigh', { create: true });
      const folder = (name: string): Promise<Folder> => root.getDirectoryHandle(name, { create: true }) as Promise<Folder>;
      const [models, chunks, key] = await Promise.all([folder('models'), folder('chunks'), encrypt ? storageKey() : null]);
      return new Store(models, chunks, key);
    } catch (e) {
      if (encrypt) throw asError(e);
      return null; // a private window of some browsers, or storage that is switched off
    }
  }

  get encrypts(): boolean {
    return this.#key !== null;
  }

  #name(hash: string): string {
    return this.#key ? `${hash}.enc` : hash;
  }

  // ---- manifests ----

  /** checked: the hash of the whole file was seen to be right, so that the hashes of its chunks are enough from now on. */
  async keep(m: Manifest, checked: boolean): Promise<void> {
    const head = JSON.stringify({ url: m.url, encrypted: this.encrypts, checked });
    await write(this.#models, m.sha256, new TextEncoder().encode(`${head}\n${m.text}`));
  }

  /** What was stored under that address or hash, for when nobody can be asked. */
  async find(want: string): Promise<Manifest | null> {
    for (const { manifest } of await this.#all())
      if (manifest.url === want || manifest.sha256 === want || manifest.name === want) return manifest;
    return null;
  }

  async isChecked(m: Manifest): Promise<boolean> {
    try {
      const text = await (await (await this.#models.getFileHandle(m.sha256)).getFile()).text(), line = text.indexOf('\n');
      return (JSON.parse(text.slice(0, line)) as { checked?: boolean }).checked === true && text.slice(line + 1) === m.text;
    } catch {
      return false;
    }
  }

  async #all(): Promise<{ manifest: Manifest; encrypted: boolean }[]> {
    const all = [];
    for await (const name of this.#models.keys()) {
      try {
        const text = await (await (await this.#models.getFileHandle(name)).getFile()).text(), line = text.indexOf('\n');
        const { url, encrypted } = JSON.parse(text.slice(0, line)) as { url: string; encrypted: boolean };
        all.push({ manifest: readManifest(text.slice(line + 1), url), encrypted });
      } catch {
        await this.#models.removeEntry(name).catch(() => {}); // half written: nothing is lost but its name
      }
    }
    return all;
  }

  // ---- chunks ----

  /** The sizes of the chunks that are there. */
  async present(): Promise<Set<string>> {
    const names = new Set<string>();
    for await (const name of this.#chunks.keys()) names.add(name);
    return names;
  }

  has(present: Set<string>, hash: string): boolean {
    return present.has(this.#name(hash));
  }

  /** Reads a chunk straight to where it is wanted. False: it is not there, or not what it should be. */
  async read(hash: string, into: () => Uint8Array): Promise<boolean> {
    const bytes = into().length, extra = this.#key ? KEY_BYTES + TAG_BYTES : 0;
    let handle: SyncHandle | null = null;
    try {
      const file = (await this.#chunks.getFileHandle(this.#name(hash))) as SyncFile;
      handle = await openSync(file);
      if (handle.getSize() !== bytes + extra) return false;
      if (this.#key) {
        const sealed = new Uint8Array(bytes + extra);
        handle.read(sealed, { at: 0 });
        const plain = await crypto.subtle.decrypt(this.#gcm(sealed.subarray(0, KEY_BYTES), hash), this.#key, sealed.subarray(KEY_BYTES));
        into().set(new Uint8Array(plain));
      } else if (handle.read(into(), { at: 0 }) !== bytes) return false;
      handle.close();
      handle = null;
      return (await sha256(into())) === hash;
    } catch {
      return false;
    } finally {
      handle?.close();
    }
  }

  #gcm(iv: Uint8Array<ArrayBuffer>, hash: string): AesGcmParams {
    return { name: 'AES-GCM', iv, additionalData: new TextEncoder().encode(hash) };
  }

  /** Fails: ERANGE when the browser gives no more room. */
  async write(hash: string, plain: Uint8Array<ArrayBuffer>): Promise<void> {
    let bytes = plain;
    if (this.#key) {
      const iv = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
      const sealed = new Uint8Array(await crypto.subtle.encrypt(this.#gcm(iv, hash), this.#key, plain));
      bytes = new Uint8Array(KEY_BYTES + sealed.length);
      bytes.set(iv);
      bytes.set(sealed, KEY_BYTES);
    }
    await write(this.#chunks, this.#name(hash), bytes);
  }

  // ---- for people ----

  async list(): Promise<StoredModel[]> {
    const present = await this.present();
    return (await this.#all()).map(({ manifest: m, encrypted }) => {
      const there = m.chunks.map((c) => present.has(encrypted ? `${c}.enc` : c));
      const last = m.bytes - (m.chunks.length - 1) * m.chunkBytes;
      const storedBytes = there.reduce((sum, t, i) => sum + (t ? (i + 1 < there.length ? m.chunkBytes : last) : 0), 0);
      return {
        name: m.name, sha256: m.sha256, bytes: m.bytes, storedBytes, complete: there.every(Boolean), encrypted,
        signedBy: m.key, manifest: m.url,
      };
    });
  }

  /** Deletes a model (name or hash) and every chunk that no other model needs. Gives the bytes that became free. */
  async remove(want: string): Promise<number> {
    const all = await this.#all();
    const gone = all.filter(({ manifest: m }) => m.name === want || m.sha256 === want);
    for (const { manifest } of gone) await this.#models.removeEntry(manifest.sha256);
    return gone.length ? this.sweep() : 0;
  }

  /** Deletes the chunks that no stored model needs. */
  async sweep(): Promise<number> {
    const wanted = new Set<string>();
    for (const { manifest, encrypted } of await this.#all()) for (const c of manifest.chunks) wanted.add(encrypted ? `${c}.enc` : c);
    let freed = 0;
    for (const name of await this.present()) {
      if (wanted.has(name)) continue;
      freed += (await (await this.#chunks.getFileHandle(name)).getFile()).size;
      await this.#chunks.removeEntry(name);
    }
    return freed;
  }
}

/** A handle that was left open by a worker that has just died is free again in a moment. */
async function openSync(file: SyncFile, mode = 'read-only'): Promise<SyncHandle> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await file.createSyncAccessHandle({ mode });
    } catch (e) {
      if (attempt >= 20 || (e as Error).name !== 'NoModificationAllowedError') throw e;
      await new Promise((done) => setTimeout(done, 25));
    }
  }
}

async function write(folder: FileSystemDirectoryHandle, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const file = (await folder.getFileHandle(name, { create: true })) as SyncFile;
  const handle = await openSync(file, 'readwrite');
  try {
    handle.truncate(0);
    if (handle.write(bytes, { at: 0 }) !== bytes.length) throw new NighError('ERANGE', 'the storage that the browser gives is full');
    handle.close();
  } catch (e) {
    handle.close();
    await folder.removeEntry(name).catch(() => {});
    throw asError(e);
  }
}

/** One key for each origin, made once. It lies in IndexedDB, and nobody can read its bytes through the browser. */
function storageKey(): Promise<CryptoKey> {
  return new Promise((done, failed) => {
    const opening = indexedDB.open('nigh', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('keys');
    opening.onerror = () => failed(opening.error);
    opening.onsuccess = async () => {
      try {
        const made = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
        const t = opening.result.transaction('keys', 'readwrite'), keys = t.objectStore('keys'), asked = keys.get('store');
        let key = made;
        asked.onsuccess = () => {
          if (asked.result) key = asked.result as CryptoKey;
          else keys.put(made, 'store');
        };
        t.oncomplete = () => {
          opening.result.close();
          done(key);
        };
        t.onerror = () => failed(t.error);
      } catch (e) {
        failed(e);
      }
    };
  });
}

export async function storageState(): Promise<StorageState> {
  const s = globalThis.isSecureContext ? navigator.storage : undefined;
  if (!s?.getDirectory) return { available: false, persisted: false, usedBytes: 0, quotaBytes: 0 };
  const [estimate, persisted] = await Promise.all([s.estimate(), s.persisted()]);
  return { available: true, persisted, usedBytes: estimate.usage ?? 0, quotaBytes: estimate.quota ?? 0 };
}
