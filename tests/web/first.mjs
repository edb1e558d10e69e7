// first.mjs - how long a person waits for the first suggestion, and for one after each keystroke: the page, and the clock in
// it. For test_figures.mjs and bench/bench_tab.mjs.
import { readFileSync } from 'node:fs';

const page = (model, script) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>
<link rel="modulepreload" href="/sdk/nigh.js"><textarea id="text"></textarea>
<script type="module">window.model = ${JSON.stringify(model)};</script><script type="module" src="${script}"></script></html>`;
const SCRIPT = `window.tasks = [];
new PerformanceObserver((l) => { for (const e of l.getEntries()) tasks.push(Math.round(e.duration)); }).observe({ type: 'longtask', buffered: true });
const { open } = await import('/sdk/nigh.js');
const begun = performance.now();
window.nigh = await open({ backend: 'tab', model });
window.openedMs = performance.now() - begun;
for await (const piece of nigh.complete('Once upon a time there was', { maxTokens: 4, temperature: 0, priority: 'now' })) {
  window.firstMs ??= performance.now();
}
window.firstMs ??= performance.now(); // random weights may write what cannot be shown
window.afterOpenMs = window.firstMs - begun;`;

/** What a Site needs beside the built files: pages /NAME.html for each model { name: { file, manifest } }. */
export function filesOf(models) {
  const extra = { '/first.js': SCRIPT };
  for (const [name, { file, manifest }] of Object.entries(models)) {
    Object.assign(extra, { [`/${name}.html`]: page(`/${name}.json`, '/first.js'), [`/${name}.json`]: JSON.stringify({ ...manifest, file: `/${name}.gguf` }) });
    extra[`/${name}.gguf`] = readFileSync(file);
  }
  return extra;
}

/** A new page until its first suggestion. firstMs: since the navigation began; afterOpenMs: since open() was called. */
export async function visit(context, origin, name) {
  const page = await context.newPage();
  await page.goto(`${origin}/${name}.html`);
  await page.waitForFunction(() => window.afterOpenMs, null, { timeout: 60000, polling: 10 });
  const seen = await page.evaluate(() => ({ firstMs, openedMs, afterOpenMs, tasks, engine: nigh.model.engine, isolated: crossOriginIsolated }));
  return { page, ...seen };
}

/** A suggestion after each letter of a text, then a long answer: { times, sorted, in ms; tasks over 50 ms of the page }. */
export const type = (page) => page.evaluate(async () => {
  const text = 'Once upon a time there was a little girl who lived in a small house near the sea with her mother and her old grandfather.';
  const times = [];
  tasks.length = 0;
  for (let i = 4; i < text.length; i++) {
    const begun = performance.now(), answer = nigh.complete(text.slice(0, i), { maxTokens: 4, temperature: 0, priority: 'now' });
    for await (const piece of answer) if (piece) break;
    times.push(performance.now() - begun);
    await new Promise((done) => setTimeout(done, 15));
  }
  for await (const piece of nigh.complete('The king', { maxTokens: 300 })) if (!piece) break;
  await new Promise((done) => setTimeout(done, 100));
  return { times: times.sort((a, b) => a - b), tasks: [...tasks] };
});
export const part = (sorted, q) => sorted[Math.floor(q * (sorted.length - 1))];
