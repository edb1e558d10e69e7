// site.mjs - a plain static server over the built site, for what a node does not do: no isolating headers, slow lines,
// broken bytes, no ranges; and a list of what was asked.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { root, sleep } from '../node/node.mjs';

const types = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };

/** extra: path -> bytes or text, in front of the files of the site. */
export class Site {
  static async start({ isolated = true, extra = {}, ranges = true } = {}) {
    const s = new Site();
    Object.assign(s, { isolated, extra, ranges, log: [], slowMs: 0, spoil: null, down: false });
    s.server = createServer((q, r) => s.#answer(q, r).catch(() => r.destroy()));
    await new Promise((done) => s.server.listen(0, '127.0.0.1', done));
    s.origin = `http://127.0.0.1:${s.server.address().port}`;
    return s;
  }

  async #answer(q, r) {
    const name = decodeURIComponent(new URL(q.url, 'http://x').pathname);
    if (this.down) return void r.destroy();
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
    const head = { 'content-type': types[path.extname(name)] ?? 'application/octet-stream', 'cache-control': 'no-store' };
    if (this.isolated) Object.assign(head, { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' });
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
