// chromium.mjs - a headless Chromium that writes down what its network stack does, and what the log says when it is closed.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { equal, root } from '../node/node.mjs';

export const there = existsSync(path.join(root, 'tests/web/node_modules/playwright-core'));
export const chrome = ['chromium', 'chromium-browser', 'google-chrome']
  .map((c) => spawnSync('which', [c], { encoding: 'utf8' }).stdout.trim())
  .find((c) => c);
export const art = path.join(root, 'tests/web/artifacts');
mkdirSync(art, { recursive: true });

// Every request is written down by the browser's own network stack, whoever made it: page, worker, service worker. No
// name outside this machine is resolved; who asks for one stands in the log all the same.
const logs = [];
process.on('exit', () => logs.forEach((file) => rmSync(file, { force: true }))); // of a run that did not come to look at them
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

/** A tab that Playwright leaves alone, so that it can be hidden and frozen. */
export async function bareTab(browser, url) {
  const root = await browser.newBrowserCDPSession(), { targetId } = await root.send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await root.send('Target.attachToTarget', { targetId, flatten: false }), waiting = new Map();
  root.on('Target.receivedMessageFromTarget', (e) => {
    const m = JSON.parse(e.message);
    if (e.sessionId === sessionId) waiting.get(m.id)?.(m);
  });
  let last = 0;
  const call = async (method, params = {}) => {
    const id = ++last, said = new Promise((done) => waiting.set(id, done));
    await root.send('Target.sendMessageToTarget', { sessionId, message: JSON.stringify({ id, method, params }) });
    const m = await said;
    if (m.error ?? m.result?.exceptionDetails) throw new Error(JSON.stringify(m.error ?? m.result.exceptionDetails));
    return m.result;
  };
  const evaluate = async (run, value = null) =>
    (await call('Runtime.evaluate', { expression: `(${run})(${JSON.stringify(value)})`, awaitPromise: true, returnByValue: true })).result.value;
  await call('Page.enable');
  await call('Page.navigate', { url });
  while (!(await evaluate(() => document.readyState === 'complete' && location.href !== 'about:blank'))) await new Promise((d) => setTimeout(d, 10));
  return { call, evaluate };
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
