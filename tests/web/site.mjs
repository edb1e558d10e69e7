// site.mjs - a plain static server over the built site, for what a node does not do: no isolating headers, slow lines,
// broken bytes, no ranges; and a list of what was asked.
import { createServer } from 'node:http';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { root, sleep } from '../node/node.mjs';

const types = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };

/** The SDK in a folder of its own, with a few lines in front of its worker: for a browser that is other than this one. */
export function changedWorker(folder, lines) {
  const sdk = path.join(root, 'build/web/site/sdk'), extra = {};
  for (const f of readdirSync(sdk)) extra[`/${folder}/${f}`] = readFileSync(path.join(sdk, f));
  extra[`/${folder}/worker.js`] = `${lines}\n${extra[`/${folder}/worker.js`]}`;
  return extra;
}

/** Lines for it: each token takes `ms` longer. */
export const slower = (ms) => `const make = WebAssembly.instantiate;
WebAssembly.instantiate = async (m, i) => {
  const { generate_step: step, ...rest } = (await make(m, i)).exports;
  const slow = (...a) => { for (const until = performance.now() + ${ms}; performance.now() < until; ); return step(...a); };
  return { exports: { ...rest, generate_step: slow } };
};`;

/** Answers a page's requests for such a folder from here. */
export const serveChanged = (page, extra) => page.route((url) => extra[url.pathname] !== undefined, (r) => {
  const { pathname } = new URL(r.request().url()), contentType = types[path.extname(pathname)];
  return r.fulfill({ body: extra[pathname], headers: { 'content-type': contentType, 'cross-origin-embedder-policy': 'require-corp' } });
});

const ISOLATING = {
  coop: { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' },
  dip: { 'document-isolation-policy': 'isolate-and-require-corp' },
};

/** extra: path -> bytes or text, in front of the files of the site. isolated: by which headers; false: by none. */
export class Site {
  static async start({ isolated = 'coop', extra = {}, ranges = true } = {}) {
    const s = new Site();
    Object.assign(s, { isolated, extra, ranges, log: [], slowMs: 0, spoil: null, down: false });
    s.server = createServer((q, r) => s.#answer(q, r).catch(() => r.destroy()));
    await new Promise((done) => s.server.listen(0, '127.0.0.1', done));
    s.origin = `http://127.0.0.1:${s.server.address().port}`;
    return s;
  }

  async #answer(q, r) {
    const name = decodeURIComponent(new URL(q.url, 'http://x').pathname);
    if (this.down === true || (this.down && this.down.test(name))) return void r.destroy();
    let body = this.extra[name];
    if (body === undefined) {
      try {
        body = readFileSync(path.join(root, 'build/web/site', name === '/' ? 'index.html' : path.normalize(name)));
      } catch {
        r.writeHead(404);
        return void r.end();
      }
    }
    body = Buffer.isBuffer(body) ? body : Buffer.from(body); // a large one is not copied
    // What may not be stored is not kept for the way back, either, so pages only have to be asked for again.
    const kept = path.extname(name) === '.html' ? 'no-cache' : 'no-store';
    const head = { 'content-type': types[path.extname(name)] ?? 'application/octet-stream', 'cache-control': kept };
    if (this.isolated) Object.assign(head, ISOLATING[this.isolated]);
    const range = this.ranges ? /^bytes=(\d+)-(\d+)$/.exec(q.headers.range ?? '') : null;
    const entry = { name, first: 0, last: body.length - 1, sent: 0, whole: false };
    this.log.push(entry);
    if (range) {
      entry.first = Number(range[1]);
      entry.last = Math.min(Number(range[2]), body.length - 1);
      head['content-range'] = `bytes ${entry.first}-${entry.last}/${body.length}`;
      body = body.subarray(entry.first, entry.last + 1);
    }
    if (this.spoil?.(name, entry)) {
      body = Buffer.from(body);
      body[7] ^= 1;
    }
    r.writeHead(range ? 206 : 200, { ...head, 'content-length': body.length });
    let wake = () => {};
    r.on('drain', () => wake());
    r.on('close', () => wake());
    const slow = /\.gguf$/.test(name) ? this.slowMs : 0;
    for (let at = 0; at < body.length && !r.destroyed; at += 65536) {
      const piece = body.subarray(at, at + 65536);
      if (!r.write(piece)) await new Promise((d) => (wake = d));
      entry.sent += piece.length;
      if (slow) await sleep(slow);
    }
    entry.whole = !r.destroyed;
    r.end();
  }

  of(ending) {
    return this.log.filter((e) => e.name.endsWith(ending));
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }
}
