// browser.mjs - a headless Chromium and a node for the tests of SDK and console; what a page asked for and complained of.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Node, equal, root, shipped, skip, test } from '../node/node.mjs';

const there = existsSync(path.join(root, 'tests/web/node_modules/playwright-core'));
const chrome = ['chromium', 'chromium-browser', 'google-chrome']
  .map((c) => spawnSync('which', [c], { encoding: 'utf8' }).stdout.trim())
  .find((c) => c);
export const art = path.join(root, 'tests/web/artifacts');
mkdirSync(art, { recursive: true });

export let browser = null, n = null;
let setup = null;

// Every request is written down by the browser's own network stack, whoever made it: page, worker, service worker. No
// name outside this machine is resolved; who asks for one stands in the log all the same.
const logs = [];
const flags = () => {
  const log = path.join(art, `netlog-${process.pid}-${logs.length}.json`);
  logs.push(log);
  return ['--no-sandbox', '--disable-gpu', `--log-net-log=${log}`, '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost'];
};

/** options: as Playwright's; folder: a profile on the disk, whose storage is a person's, not that of a private window. */
export async function launch(options = {}, folder = null) {
  const { chromium } = await import('playwright-core'), all = { executablePath: chrome, ...options, args: [...flags(), ...(options.args ?? [])] };
  return folder ? chromium.launchPersistentContext(folder, all) : chromium.launch(all);
}

const LOCAL = /^(https?|wss?):\/\/(127\.0\.0\.1|localhost)(:|\/|$)/;
/** What the log of a closed browser says: requests of pages, and those that left this machine's servers. Chromium's own (updates, its clock) are left out. */
export function readLog(file) {
  const lines = readFileSync(file, 'utf8').split('\n');
  const begin = JSON.parse(lines[0].replace(/^\{"constants":/, '').replace(/,$/, '')), type = begin.logEventTypes.URL_REQUEST_START_JOB;
  const urls = [];
  for (const line of lines.slice(2)) {
    if (!line.startsWith('{') || !line.includes(`"type":${type}`)) continue;
    const { params: p = {} } = JSON.parse(line.replace(/(,|\]\}?)$/, ''));
    const ofPage = /^https?:/.test(p.initiator ?? '') || p.request_type === 'main frame';
    if (p.url && ofPage) urls.push(p.url);
  }
  return { requests: urls.length, outside: urls.filter((u) => /^(https?|wss?):/.test(u) && !LOCAL.test(u)) };
}

/** The log of the browser that was launched last; it is not looked at then. */
export const takeLog = () => logs.pop();

/** After every browser of this test has been closed. */
export function nobodyElse() {
  const all = logs.splice(0).map((file) => { const found = readLog(file); rmSync(file); return found; });
  const requests = all.reduce((s, l) => s + l.requests, 0), outside = all.flatMap((l) => l.outside);
  console.log(`  the browser's log: ${requests} requests, ${outside.length} outside this machine`);
  equal([...new Set(outside)].slice(0, 5), []);
  if (!requests) throw new Error('the log is empty');
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
