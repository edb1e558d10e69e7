// chrome.mjs - a dedicated worker in headless Chromium, on a page that may share memory: runs a module of ours there
// and gives back what it says. For what node's older engine cannot do or does wrongly (relaxed SIMD).
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const driver = join(root, 'tests/web/node_modules/playwright-core');
const program = ['chromium', 'chromium-browser', 'google-chrome']
  .map((name) => spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim()).find((path) => path);

// Why there is no browser to use; '' when there is one.
export function missing() {
  if (!existsSync(driver)) return 'tests/web/node_modules is not installed (npm ci in tests/web)';
  return program ? '' : 'there is no Chromium here';
}

const types = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' };

// Serves /NAME from files[NAME] (a path or bytes), with the headers that make a page cross-origin isolated.
async function serve(files) {
  const server = createServer((request, response) => {
    const name = decodeURIComponent(request.url.slice(1)), file = name === '' ? Buffer.from('<!doctype html>') : files[name];
    if (file === undefined) { response.writeHead(404).end(); return; }
    response.writeHead(200, {
      'content-type': name === '' ? 'text/html' : types[name.slice(name.lastIndexOf('.'))] ?? 'application/octet-stream',
      'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp',
    });
    response.end(typeof file === 'string' ? readFileSync(file) : file);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server;
}

// Starts files['main.mjs'] as a worker, sends it `input`, gives back what it posts: { ok } or { error }.
export async function inWorker(files, input, timeout = 120_000) {
  const { chromium } = await import('../web/node_modules/playwright-core/index.mjs');
  const server = await serve(files);
  const browser = await chromium.launch({ executablePath: program,
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'] });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const answer = await Promise.race([
      page.evaluate((value) => new Promise((done) => {
        const worker = new Worker('/main.mjs', { type: 'module' });
        worker.onmessage = (e) => done(e.data);
        worker.onerror = (e) => done({ error: `worker: ${e.message}` });
        worker.postMessage(value);
      }), input),
      new Promise((_, fail) => setTimeout(() => fail(new Error(`no answer in ${timeout} ms`)), timeout)),
    ]);
    if (answer.error) throw new Error(answer.error);
    return answer.ok;
  } finally {
    await browser.close();
    server.close();
  }
}
