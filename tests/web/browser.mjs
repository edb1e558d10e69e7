// browser.mjs - a headless Chromium and a node for the tests of SDK and console; what a page complained of.
import { existsSync } from 'node:fs';
import { Node, shipped, skip, test } from '../node/node.mjs';
import { chrome, launch, nobodyElse, there } from './chromium.mjs';

export { art, launch, readLog, takeLog } from './chromium.mjs';
export let browser = null, n = null;
let setup = null;

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

export const newContext = (options = {}) => browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });

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

/** Closes the browser; its log must know of no request to anywhere but this machine's servers. */
export async function closeAll() {
  if (!browser) return;
  await browser.close();
  nobodyElse();
}
process.on('exit', () => browser?.close().catch(() => {}));
