// test_placement.mjs - a policy seen in a browser: the console's placement page, and the demonstration of examples/place-demo.
// One node has the policy; two more play the office's (edge) and a provider (cloud). Pictures go to tests/web/artifacts.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Node, check, equal, main, root, shipped } from '../node/node.mjs';
import { art, closeAll, fits, lowContrast, newContext, openPage, unnamed, up, walk } from './browser.mjs';
import { Site } from './site.mjs';

const demo = path.join(root, 'examples/place-demo'), folder = mkdtempSync(path.join(tmpdir(), 'nigh-placement-'));
async function setUp() {
  const [edge, cloud] = [await Node.start([], { model: shipped }), await Node.start([], { model: shipped })];
  const site = await Site.start({ isolated: false, extra: { '/demo.html': readFileSync(path.join(demo, 'index.html')) } });
  const file = path.join(folder, 'features.json');
  writeFileSync(file, readFileSync(path.join(demo, 'features.json'), 'utf8').replace('127.0.0.1:6445', edge.host).replace('127.0.0.1:6446', cloud.host));
  const n = await Node.start(['--policy', file, '--allow-private', cloud.host, '--allow-origin', site.origin], { model: shipped });
  return { edge, cloud, site, n };
}
const all = await setUp().catch((e) => ({ error: e })), { site, n } = all;
const placed = (name, run) => up(name, () => { if (all.error) throw all.error; return run(); });

const ask = async (feature, content) => (await n.post('/v1/chat/completions',
  { model: `feature/${feature}`, messages: [{ role: 'user', content }], max_tokens: 8, temperature: 0 })).json();
const open = async (options = {}) => {
  const context = await newContext(options), page = await openPage(context, `http://${n.host}/#placement`, { sdk: false });
  await page.locator('#features-title').waitFor();
  return { context, page };
};
const has = (page, selector, pattern) => page.waitForFunction(([s, p]) => new RegExp(p).test(document.querySelector(s)?.textContent ?? ''),
  [selector, pattern], { timeout: 15000 }).catch(async () => {
  throw new Error(`${selector} has no ${pattern}: ${await page.locator(selector).textContent()}`);
});

placed('a node without a policy says so', async () => {
  const context = await newContext(), page = await openPage(context, `http://${all.edge.host}/#placement`, { sdk: false });
  await has(page, '#placement', 'This node has no policy');
  equal(page.said.filter((t) => !/404/.test(t)), []);
  await context.close();
});

placed('features and their shares, targets, and why', async () => {
  for (let i = 0; i < 3; i++) await ask('medical-note', `note ${i}`);
  await ask('translate', 'The sea');
  await ask('mail-summary', 'Write to ann@example.org');
  const { context, page } = await open();
  await has(page, '.feature:nth-child(1)', 'mail-summary personal.*office 100 % · 1 answer');
  await has(page, '.feature:nth-child(3)', 'medical-note secret.*here 100 % · 3 answers');
  equal(await page.locator('.feature:nth-child(2) .share').getAttribute('aria-label'), 'provider 100 %, here 0 %');
  await has(page, '.targets', 'office.*edge, DE.*Sent there[1-9]');
  await page.locator('.feature:nth-child(3) summary').focus();
  await page.keyboard.press('Enter');
  await has(page, '.feature:nth-child(3) .why', 'here \\(this device\\): asked first\\.');
  await page.locator('.feature:nth-child(1) summary').click();
  await has(page, '.feature:nth-child(1) .why', 'office \\(edge, DE\\): asked first.*provider \\(cloud, FR\\): asked as number 2');
  await has(page, '.feature:nth-child(1) .why', 'personal data and secrets replaced.*cache, then queue, then error');
  equal(page.said, []);
  await context.close();
});

placed('can this leave? no, yes, and yes but redacted', async () => {
  const { context, page } = await open();
  const answer = async (feature, of, pattern) => {
    await page.locator('#leave-feature').selectOption(feature);
    await page.locator('#leave-class').selectOption(of);
    await page.locator('#leave-words').fill('a word');
    await page.locator('#leave-ask').focus();
    await page.keyboard.press('Enter');
    await has(page, '#leave-said', pattern);
  };
  await answer('medical-note', '', 'No\\. As secret, medical-note reaches no place outside this device.*office \\(edge, DE\\): never');
  await answer('translate', '', 'Yes\\. As public, translate may reach provider \\(cloud, FR\\)');
  await answer('mail-summary', '', 'Yes, redacted\\. As personal');
  await answer('translate', 'secret', 'No\\. As secret, translate');        // a class can only be raised
  await answer('medical-note', 'public', 'No\\. As secret, medical-note');
  const before = await (await fetch(`http://${n.host}/nigh/placement`)).json();
  equal(before.features[1].answers, 1, 'a question is not run');
  equal(page.said, []);
  await context.close();
});

placed('the ledger and its four answers', async () => {
  const { context, page } = await open();
  await page.locator('#book tbody tr').first().waitFor();
  await page.locator('#book-feature').selectOption('mail-summary');
  await page.waitForFunction(() => document.querySelectorAll('#book tbody tr').length === 1);
  check(/office \(edge, DE\).*1 redacted.*answered/.test(await page.locator('#book tbody').textContent()), await page.locator('#book tbody').textContent());
  await page.locator('#book tbody button').focus();
  await page.keyboard.press('Enter');
  await has(page, '#four-where', 'office \\(edge, DE');
  await has(page, '#four-who', 'Whoever runs office');
  await has(page, '#four-kept', '.');
  await has(page, '#four-leave', 'No: version 1 of the policy');
  equal(page.said, []);
  await context.close();
});

placed('the network is cut, and comes back', async () => {
  const { context, page } = await open();
  await page.locator('#cut').click();
  await has(page, '#targets-title ~ .row', 'acts as if it had no network');
  await page.locator('.feature:nth-child(2) summary').click();
  await has(page, '.feature:nth-child(2) .why', 'not now: there is no network');
  await page.locator('#cut').click();
  await has(page, '#targets-title ~ .row', 'may use its network');
  equal(page.said, []);
  await context.close();
});

const phone = { viewport: { width: 360, height: 760 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const looks = [['light', { colorScheme: 'light' }], ['dark', { colorScheme: 'dark' }], ['phone', { colorScheme: 'dark', ...phone }]];
for (const [look, options] of looks)
  placed(`pictures of placement: ${look}`, async () => {
    const { context, page } = await open(options);
    await page.locator('.feature:nth-child(1) summary').click();
    await page.locator('.feature:nth-child(1) .why').waitFor();
    await page.locator('#leave-ask').click();
    await page.locator('#leave-said p').first().waitFor();
    await page.locator('#book tbody button').first().click();
    await page.locator('#four-leave').waitFor();
    check(await fits(page), 'nothing lies beside the screen');
    equal([await unnamed(page), await lowContrast(page)], [[], []]);
    if (look === 'light') {
      const keys = await walk(page);
      equal([keys.left, keys.blind, keys.all > 15], [[], [], true]);
      await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
    }
    await page.screenshot({ path: path.join(art, `placement-${look}.png`), fullPage: true });
    await context.close();
  });

// ---- the demonstration ----

const card = (page, id) => page.locator(`#${id}`);
const state = (page, id, what) => page.waitForFunction(([i, w]) => document.getElementById(i).dataset.state === w, [id, what], { timeout: 20000 })
  .catch(async () => { throw new Error(`${id} is not ${what}: ${await page.locator(`#${id}`).textContent()}`); });
const text = (page, id) => card(page, id).locator('dl').textContent();
placed('the demonstration: three features, with a line, without one, and with one again', async () => {
  const context = await newContext(), page = await openPage(context, `${site.origin}/demo.html?node=http://${n.host}`, { sdk: false });
  await has(page, '#line', 'The node has its network');
  await page.locator('#all').click();
  for (const id of ['mail-summary', 'translate', 'medical-note']) await state(page, id, 'answered');
  check(/office: edge, DE.*bytes, [2-9] values replaced/.test(await text(page, 'mail-summary')), await text(page, 'mail-summary'));
  check(/provider: cloud, FR.*bytes, 0 values/.test(await text(page, 'translate')), await text(page, 'translate'));
  check(/this device \(here\)Left the devicenothing/.test(await text(page, 'medical-note')), await text(page, 'medical-note'));
  await page.screenshot({ path: path.join(art, 'place-demo-light.png'), fullPage: true });

  await page.locator('#cut').click();
  await has(page, '#line', 'The node has no network');
  await page.locator('#all').click();
  for (const id of ['mail-summary', 'translate', 'medical-note']) await state(page, id, 'answered');
  check(/Degradedcache/.test(await text(page, 'mail-summary')), await text(page, 'mail-summary'));
  check(/this device \(here\)Left the devicenothing/.test(await text(page, 'translate')), await text(page, 'translate'));
  check(!/Degraded/.test(await text(page, 'medical-note')), await text(page, 'medical-note'));
  await card(page, 'mail-summary').locator('textarea').fill('Another mail, of today: call +49 30 901821.');
  await card(page, 'mail-summary').locator('button').click();
  await state(page, 'mail-summary', 'queued');
  await page.screenshot({ path: path.join(art, 'place-demo-cut.png'), fullPage: true });

  await page.locator('#cut').click();
  await state(page, 'mail-summary', 'answered');
  check(/office: edge, DE/.test(await text(page, 'mail-summary')), await text(page, 'mail-summary'));
  equal(page.said, []);
  await context.close();
});

placed('the demonstration on a phone, in the dark', async () => {
  const context = await newContext(looks[2][1]), page = await openPage(context, `${site.origin}/demo.html?node=http://${n.host}`, { sdk: false });
  await card(page, 'medical-note').locator('button').click();
  await state(page, 'medical-note', 'answered');
  check(await fits(page), 'nothing lies beside the screen');
  equal([await unnamed(page), await lowContrast(page)], [[], []]);
  await page.screenshot({ path: path.join(art, 'place-demo-phone.png'), fullPage: true });
  await context.close();
});

up('nobody else was asked', async () => {
  await closeAll();
  await site?.stop();
});
await main('test_placement');
