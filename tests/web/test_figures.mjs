// test_figures.mjs - how long a person waits: from a cold page to the first suggestion, from a warm one, from a keystroke;
// and whether the page is ever held up meanwhile. With the shipped model, from this machine, one thread of the engine.
import { existsSync, readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import path from 'node:path';
import { check, equal, main, root, shipped, skip } from '../node/node.mjs';
import { closeAll, n, newContext, up } from './browser.mjs';
import { Site } from './site.mjs';

// On a machine that others use, figures are printed and only gross faults are failures.
const shared = process.env.NIGH_BUSY || loadavg()[0] > 0.75 * cpus().length, slack = shared ? 8 : 1;
const PAGE = `<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title><textarea id="text"></textarea>
<script type="module" src="/first.js"></script></html>`;
const SCRIPT = `window.tasks = [];
new PerformanceObserver((l) => { for (const e of l.getEntries()) tasks.push(Math.round(e.duration)); }).observe({ type: 'longtask', buffered: true });
const { open } = await import('/sdk/nigh.js');
window.nigh = await open({ backend: 'tab', model: '/m.json' });
window.openedMs = performance.now();
for await (const piece of nigh.complete('Once upon a time there was', { maxTokens: 4, temperature: 0, priority: 'now' })) {
  window.firstMs ??= performance.now();
}`;
let site = null, context = null, page = null;

async function visit() {
  page = await context.newPage();
  await page.goto(`${site.origin}/first.html`);
  await page.waitForFunction(() => window.firstMs, null, { timeout: 30000, polling: 10 });
  return page.evaluate(() => ({ firstMs, openedMs, tasks, engine: nigh.model.engine.file, isolated: crossOriginIsolated }));
}

up('a cold page to its first suggestion: at most 1.5 s', async () => {
  if (!existsSync(shipped)) skip('the shipped model is not here');
  const manifest = await (await fetch(`http://${n.host}/nigh/models/nigh-stories/manifest`)).json();
  const extra = { '/first.html': PAGE, '/first.js': SCRIPT, '/file': readFileSync(shipped), '/m.json': JSON.stringify(manifest) };
  site = await Site.start({ extra });
  const all = [];
  for (let i = 0; i < 3; i++) {
    context = await newContext();
    all.push(await visit());
    if (i < 2) await context.close();
  }
  const best = Math.min(...all.map((v) => v.firstMs));
  console.log(`  cold: ${all.map((v) => Math.round(v.firstMs)).join(', ')} ms to the first piece (${all[0].engine})`);
  console.log(`  long tasks: ${JSON.stringify(all.map((v) => v.tasks))}; load of the machine ${loadavg()[0].toFixed(1)}`);
  check(best <= 1500 * slack, `${best} ms`);
});

up('a warm one: at most 300 ms', async () => {
  const all = [];
  for (let i = 0; i < 4; i++) {
    await page.close();
    all.push(await visit());
  }
  const best = Math.min(...all.map((v) => v.firstMs));
  console.log(`  warm: ${all.map((v) => Math.round(v.firstMs)).join(', ')} ms; long tasks: ${JSON.stringify(all.map((v) => v.tasks))}`);
  check(best <= 300 * slack, `${best} ms`);
});

up('a keystroke to a suggestion: p95 at most 20 ms; a page that writes is never held up for 50 ms', async () => {
  const got = await page.evaluate(async () => {
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
  const p = (q) => got.times[Math.floor(q * (got.times.length - 1))];
  const ms = [0.5, 0.95, 1].map((q) => p(q).toFixed(1));
  console.log(`  ${got.times.length} keystrokes: p50 ${ms[0]} ms, p95 ${ms[1]} ms, most ${ms[2]} ms; long tasks ${JSON.stringify(got.tasks)}`);
  check(p(0.95) <= 20 * slack, `p95 ${p(0.95)} ms`);
  if (slack === 1) equal(got.tasks, [], 'long tasks while it writes');
});

up('program and model together: less than 12 MB', async () => {
  const { statSync } = await import('node:fs');
  const bytes = statSync(path.join(root, 'build/nigh')).size + statSync(shipped).size;
  console.log(`  ${(bytes / 1e6).toFixed(1)} MB`);
  check(bytes < 12e6, `${bytes} bytes`);
  await site?.stop();
  await closeAll();
});
await main('test_figures');
