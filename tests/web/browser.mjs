// browser.mjs - a headless Chromium and a node for the tests of SDK and console; what a page complained of.
import { existsSync } from 'node:fs';
import { Node, shipped, skip, test } from '../node/node.mjs';
import { chrome, launch, nobodyElse, there } from './chromium.mjs';

export { art, bareTab, launch, readLog, takeLog } from './chromium.mjs';
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

/** Texts that are seen whose contrast to what lies behind them is below 4.5; what is disabled is left out. */
export const lowContrast = (page) => page.evaluate(() => {
  const parse = (c) => c.match(/[\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const chain = (e) => (e ? [e, ...chain(e.parentElement)] : []);
  const sheet = document.body.appendChild(Object.assign(document.createElement('i'), { style: 'background: Canvas' }));
  const blank = parse(getComputedStyle(sheet).backgroundColor);
  sheet.remove();
  const ground = (e) => chain(e).map((p) => parse(getComputedStyle(p).backgroundColor)).find((c) => c[3] !== 0) ?? blank;
  const own = (e) => [...e.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
  const shown = (e) => e.checkVisibility({ visibilityProperty: true }) && parse(getComputedStyle(e).color)[3] !== 0;
  const seen = (e) => shown(e) && !e.closest('.unseen, .quiet, thead, option, noscript, script, style, :disabled');
  return [...document.body.querySelectorAll('*')].filter((e) => own(e) && seen(e)).map((e) => {
    const opacity = chain(e).reduce((o, p) => o * Number(getComputedStyle(p).opacity), 1), back = ground(e);
    const front = parse(getComputedStyle(e).color).slice(0, 3).map((v, i) => v * opacity + back[i] * (1 - opacity)), a = light(front), b = light(back);
    return [e.id || e.className || e.tagName, e.textContent.trim().slice(0, 20), ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)).toFixed(2)];
  }).filter(([, , ratio]) => ratio < 4.5);
});

/** Goes through a page by the Tab key: controls that are not reached, and those where nothing shows that they are. */
export async function walk(page) {
  const controls = 'a[href], button, input:not([type=radio]), input[type=radio]:checked, select, textarea, summary, [tabindex="0"]';
  await page.evaluate((controls) => {
    document.activeElement?.blur();
    scrollTo(0, 0);
    window.walkLeft = new Set([...document.querySelectorAll(controls)].filter((e) => !e.disabled && e.checkVisibility({ visibilityProperty: true })));
    window.walkBlind = new Set();
    window.walkAll = walkLeft.size;
    getSelection().removeAllRanges();
  }, controls);
  for (let i = 0; i < 80; i++) {
    await page.keyboard.press('Tab');
    const done = await page.evaluate(() => {
      const e = document.activeElement, again = !walkLeft.delete(e), name = (x) => x.id || x.outerHTML.slice(0, 60);
      const ring = (x) => x && (x.id === 'paper' || (getComputedStyle(x).outlineStyle !== 'none' && parseFloat(getComputedStyle(x).outlineWidth) >= 2));
      if (e !== document.body && ![e, e.closest('label'), e.closest('#paper')].some(ring)) walkBlind.add(name(e));
      return (again && walkLeft.size === 0) || walkLeft.size === 0;
    });
    if (done) break;
  }
  return page.evaluate(() => ({ all: walkAll, left: [...walkLeft].map((e) => e.id || e.outerHTML.slice(0, 80)), blind: [...walkBlind] }));
}

/** Controls without a name, and ids that stand twice. */
export const unnamed = (page) => page.evaluate(() => {
  const names = 'button, input, select, textarea, meter, progress, table, [role=textbox], [role=img], section, a[href], summary';
  const nameless = [...document.querySelectorAll(names)].filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-labelledby')
    || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby'))).map((e) => e.outerHTML.slice(0, 80));
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  return [...nameless, ...ids.filter((id, i) => ids.indexOf(id) !== i)];
});
export const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

/** Closes the browser; its log must know of no request to anywhere but this machine's servers. */
export async function closeAll() {
  if (!browser) return;
  await browser.close();
  nobodyElse();
}
process.on('exit', () => browser?.close().catch(() => {}));
