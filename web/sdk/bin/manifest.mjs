#!/usr/bin/env node
// manifest.mjs - writes the manifest of a model file, so that pages of any static server can load it; signs it with a key.
// usage: nigh-manifest MODEL.gguf [--name NAME] [--key KEY.pem] [--out FILE]      the default is MODEL.manifest.json
//        nigh-manifest --new-key KEY.pem        makes an Ed25519 key and prints its public half, for open({ publicKeys })
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const CHUNK = 1 << 20;
const words = process.argv.slice(2), options = {}, files = [];
while (words.length) {
  const w = words.shift();
  if (!w.startsWith('--')) files.push(w);
  else if (words.length && ['--name', '--key', '--out', '--new-key'].includes(w)) options[w.slice(2)] = words.shift();
  else end(`unknown word: ${w}`);
}

function end(why) {
  console.error(`nigh-manifest: ${why}\nusage: nigh-manifest MODEL.gguf [--name NAME] [--key KEY.pem] [--out FILE] | --new-key KEY.pem`);
  process.exit(1);
}

const publicHex = (key) => createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex');

export function manifestOf(file, name, privateKey) {
  const fd = openSync(file, 'r'), bytes = fstatSync(fd).size, whole = createHash('sha256'), chunks = [];
  const buffer = Buffer.alloc(CHUNK);
  for (let at = 0; at < bytes; at += CHUNK) {
    const n = readSync(fd, buffer, 0, CHUNK, at);
    whole.update(buffer.subarray(0, n));
    chunks.push(createHash('sha256').update(buffer.subarray(0, n)).digest('hex'));
  }
  closeSync(fd);
  const sha256 = whole.digest('hex');
  const m = { format: 'nigh-manifest', version: 1, name, bytes, chunk_bytes: CHUNK, sha256, file: path.basename(file), chunks };
  if (!privateKey) return m;
  const text = ['nigh-manifest 1', name, bytes, CHUNK, sha256, ...chunks].join('\n') + '\n';
  return { ...m, key: publicHex(privateKey), signature: sign(null, Buffer.from(text), privateKey).toString('hex') };
}

function main() {
  if (options['new-key']) {
    const { privateKey } = generateKeyPairSync('ed25519');
    writeFileSync(options['new-key'], privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600, flag: 'wx' });
    console.log(publicHex(privateKey));
    return;
  }
  if (files.length !== 1) end('one model file is wanted');
  const key = options.key ? createPrivateKey(readFileSync(options.key)) : null;
  const name = options.name ?? path.basename(files[0]).replace(/\.gguf$/, '');
  const out = options.out ?? files[0].replace(/(\.gguf)?$/, '.manifest.json');
  writeFileSync(out, JSON.stringify(manifestOf(files[0], name, key)) + '\n');
  console.log(out);
}

if (process.argv[1] && import.meta.url.endsWith(path.basename(process.argv[1]))) main();
