// browser.mjs - a headless Chromium and a node for the tests of SDK and console; what a page asked for and complained of.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { Node, root, shipped, skip, test } from '../node/node.mjs';

const there = existsSync(path.join(root, 'tests/web/node_modules/playwright-core'));
const chrome = ['chromium', 'chromium-browser', 'google-chrome']
  .map((c) => spawnSync('which', [c], { encoding: 'utf8' }).stdout.trim())
  .find((c) => c);
export const art = path.join(root, 'tests/web/artifacts');
mkdirSync(art, { recursive: true });

export let browser = null, n = null;
let setup = null;
const asked = [];           // every request of every page, worker and service worker of this run

export async function launch(args = []) {
  const { chromium } = await import('playwright-core');
  return chromium.launch({ executablePath: chrome, args: ['--no-sandbox', '--disable-gpu', ...args] });
}

if (there && chrome) {
  try {
    n = await Node.start([], existsSync(shipped) ? { model: process.env.NIGH_MODEL ?? shipped } : {});
    browser = await launch();
  } catch (e) {
    setup = e;
  }
}

const built = async () => {
  const ok = async (file) => (await fetch(`http://${n.host}/sdk/${file}`)).ok;
  return (await ok('nigh.js')) && ok('nigh-simd.wasm');
};
let isBuilt = null;
export const up = (name, run) =>
  test(name, async () => {
    if (!there) skip('tests/web/node_modules is not installed (npm ci in tests/web)');
    if (!chrome) skip('there is no Chromium here');
    if (setup) throw setup;
    isBuilt ??= await built();
    if (!isBuilt) skip('the SDK was not built: that wants web/node_modules and clang-19');
    const begun = Date.now();
    await run();
    if (process.env.NIGH_TIMES) console.log(`  ${Date.now() - begun} ms: ${name}`);
  });

/** A context whose requests are written down. */
export async function newContext(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  context.on('request', (r) => asked.push(r.url()));
  return context;
}

/** A page of the node with the SDK as `sdk`. said: what it complained of. */
export async function openPage(context, url = `http://${n.host}/`, { sdk = true } = {}) {
  const page = await context.newPage(), said = [];
  page.on('console', (m) => {
    if (m.type() === 'error') said.push(m.text());
  });
  page.on('pageerror', (e) => said.push(String(e)));
  await page.goto(url);
  if (sdk) await page.evaluate(async () => { window.sdk = await import('/sdk/nigh.js'); });
  page.said = said;
  return page;
}

/** Requests to anywhere but this machine's servers, of the whole run. */
export const foreign = () => asked.filter((u) => /^(https?|wss?):/.test(u) && !/^https?:\/\/(127\.0\.0\.1|localhost)[:/]/.test(u));

export async function closeAll() {
  await browser?.close();
}
process.on('exit', () => browser?.close().catch(() => {}));
