// manifest.ts - reads what a server says of a model file, and checks who signed it. The format: docs/format-manifest.md.
import { NighError } from './status.js';

export interface Manifest {
  name: string;
  bytes: number;
  chunkBytes: number;
  sha256: string;
  chunks: string[];
  /** Address of the whole file. */
  file: string;
  key: string | null;
  signature: string | null;
  /** As it came, to be stored. */
  text: string;
  url: string;
}

const HEX64 = /^[0-9a-f]{64}$/;
const damaged = (why: string): never => {
  throw new NighError('EDATA', `the manifest is damaged: ${why}`);
};

const MiB = 1 << 20;

export function readManifest(text: string, url: string): Manifest {
  let m: Record<string, unknown>;
  try {
    m = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return damaged('it is no JSON');
  }
  if (!m || m.format !== 'nigh-manifest') return damaged('it does not say "format":"nigh-manifest"');
  if (m.version !== 1) throw new NighError('ENOSUP', `the manifest has version ${String(m.version)}; version 1 is known here`);
  const { name, bytes, chunk_bytes: chunkBytes, sha256, chunks, file, key, signature } = m;
  if (typeof name !== 'string' || !name || name.length > 128 || /[\n\0]/.test(name)) return damaged('the name');
  if (!Number.isSafeInteger(bytes) || (bytes as number) < 1 || (bytes as number) > 2 ** 36) return damaged('the size');
  if (!Number.isSafeInteger(chunkBytes) || (chunkBytes as number) < MiB / 16 || (chunkBytes as number) > 16 * MiB)
    return damaged('the size of a chunk');
  if (typeof sha256 !== 'string' || !HEX64.test(sha256)) return damaged('the hash of the file');
  const count = Math.ceil((bytes as number) / (chunkBytes as number));
  if (!Array.isArray(chunks) || chunks.length !== count || !chunks.every((c) => typeof c === 'string' && HEX64.test(c)))
    return damaged('the hashes of the chunks');
  if (typeof file !== 'string') return damaged('the place of the file');
  const signed = typeof key === 'string' && HEX64.test(key) && typeof signature === 'string' && /^[0-9a-f]{128}$/.test(signature);
  if (!signed && (key !== undefined || signature !== undefined)) return damaged('the signature');
  return {
    name, bytes: bytes as number, chunkBytes: chunkBytes as number, sha256, chunks: chunks as string[],
    file: new URL(file, url).href, key: signed ? (key as string) : null, signature: signed ? (signature as string) : null,
    text, url,
  };
}

/** The text that is signed; there is one way only to write it. */
export const signedText = (m: Manifest): string =>
  ['nigh-manifest 1', m.name, m.bytes, m.chunkBytes, m.sha256, ...m.chunks].join('\n') + '\n';

const fromHex = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.from(hex.match(/../g) ?? [], (h) => parseInt(h, 16));

/** Throws EAUTH when the signature is wrong, or when keys are given and none of them signed. */
export async function checkSignature(m: Manifest, publicKeys?: string[]): Promise<void> {
  if (publicKeys && (!m.key || !publicKeys.includes(m.key)))
    throw new NighError('EAUTH', `the manifest of ${m.name} is signed by ${m.key ? 'a key that is not expected' : 'nobody'}`);
  if (!m.key || !m.signature) return;
  let good = false;
  try {
    const key = await crypto.subtle.importKey('raw', fromHex(m.key), { name: 'Ed25519' }, false, ['verify']);
    good = await crypto.subtle.verify({ name: 'Ed25519' }, key, fromHex(m.signature), new TextEncoder().encode(signedText(m)));
  } catch (e) {
    if (publicKeys) throw new NighError('ENOSUP', `this browser cannot check Ed25519 signatures: ${(e as Error).message}`);
    return; // an old browser: the hashes are checked all the same
  }
  if (!good) throw new NighError('EAUTH', `the signature of the manifest of ${m.name} is wrong`);
}

export const hex = (bytes: ArrayBuffer): string => [...new Uint8Array(bytes)].map((b) => b.toString(16).padStart(2, '0')).join('');

/** SHA-256 in hex. Shared memory is copied first: WebCrypto does not take it. */
export async function sha256(bytes: Uint8Array): Promise<string> {
  const own = bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : (bytes.slice() as Uint8Array<ArrayBuffer>);
  return hex(await crypto.subtle.digest('SHA-256', own));
}
