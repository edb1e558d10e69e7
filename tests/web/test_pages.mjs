// test_pages.mjs - the console's pages: the switch between tab and device, chat, models, device; pictures of each.
// Pictures go to tests/web/artifacts.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Node, check, equal, main, shipped, skip, sleep, tiny } from '../node/node.mjs';
import { art, closeAll, fits, lowContrast, n, newContext, openPage, unnamed, up, walk } from './browser.mjs';

const home = () => `http://${n.host}/`;
const go = (page, name) => page.evaluate((h) => { location.hash = h; }, name);
const receiptOf = async (page, id) => {
  const find = (id) => /bytes sent|stopped|did not/.test(document.querySelector(id).textContent); // one of a single token has no speed
  await page.waitForFunction(find, id, { timeout: 30000 });
  return page.locator(id).textContent();
};

up('one click: this tab writes what this device wrote', async () => {
  const context = await newContext(), page = await openPage(context, home(), { sdk: false });
  const write = async () => {
    await page.locator('#text').fill('The sun');
    await page.locator('#seed').fill('3');
    await page.locator('#run').click();
    const line = await receiptOf(page, '#receipt');
    const text = await page.locator('#text').textContent();
    await page.locator('#clear').click();
    return { line, text };
  };
  const device = await write();
  check(/^on this device · model/.test(device.line), device.line);
  await page.locator('label:has(#place-tab)').click();
  await page.waitForFunction(() => document.querySelector('#place-tab').checked);
  const tab = await write();
  check(/^in this tab · model [0-9a-f]{12} · 0 bytes sent · \d+ ms · \d+ tokens\/s$/.test(tab.line), tab.line);
  equal(tab.text, device.text);
  await page.locator('#place-tab').focus();
  await page.keyboard.press('ArrowRight');
  check(await page.locator('#place-device').isChecked(), 'the switch is used by keys');
  await page.keyboard.press('ArrowLeft');
  await page.waitForFunction(() => navigator.serviceWorker.controller);
  await page.reload();
  check(await page.locator('#place-tab').isChecked(), 'the choice is remembered');
  equal((await write()).text, tab.text);
  equal(page.said, []);
  await context.close();
});

up('a conversation, with its own receipt, stopped and begun anew', async () => {
  const context = await newContext(), page = await openPage(context, home(), { sdk: false });
  await page.locator('#say').fill('Tell me about the sea.');
  await page.keyboard.press('Enter');
  check(/^on this device/.test(await receiptOf(page, '#chat-receipt')), 'its receipt');
  equal(await page.locator('#log li').count(), 2);
  check((await page.locator('#log .assistant').textContent()).length > 10, 'an answer');
  await page.locator('#say').fill('<b>And</b> then?');
  await page.locator('#send').click();
  await page.waitForFunction(() => document.querySelectorAll('#log li').length === 4);
  equal(await page.locator('#log b').count(), 0, 'what is said is text and nothing else');
  await page.waitForFunction(() => !document.querySelector('#forget').disabled);
  // A stop keeps what was said, and is no failure.
  await page.evaluate(() => { window.ownFetch = window.fetch; window.fetch = (u, o) => (/chat/.test(u) ? new Promise((_, no) => {
    o.signal.addEventListener('abort', () => no(new DOMException('', 'AbortError'))); }) : ownFetch(u, o)); });
  await page.locator('#say').fill('Wait');
  await page.keyboard.press('Enter');
  await page.locator('#chat-stop').waitFor();
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => document.querySelector('#chat-receipt').textContent === 'Stopped.');
  equal([await page.locator('#log li').count(), await page.locator('#chat-receipt.bad').count()], [5, 0]);
  await page.evaluate(() => { window.fetch = ownFetch; });
  // An answer without a word is one, too.
  const empty = [{ choices: [{ delta: { content: '' }, finish_reason: 'stop' }] }].map((o) => `data: ${JSON.stringify(o)}\n\n`).join('');
  await page.route('**/v1/chat/completions', (r) => r.fulfill({ contentType: 'text/event-stream', body: `${empty}data: [DONE]\n\n` }));
  await page.locator('#say').fill('Silence?');
  await page.locator('#send').click();
  await page.waitForFunction(() => document.querySelectorAll('#log li').length === 7 && !document.querySelector('#forget').disabled);
  check(/\(nothing\)$/.test(await page.locator('#log li').last().textContent()), await page.locator('#log li').last().textContent());
  await page.locator('#forget').click();
  equal(await page.locator('#log li').count(), 0);
  equal(page.said, []);
  await context.close();
});

up('models: kept with one click, listed, deleted', async () => {
  const context = await newContext(), page = await openPage(context, `${home()}#models`, { sdk: false });
  await page.locator('button.fetch').click();
  await page.locator('button.delete').waitFor();
  check(/5\.0 MB/.test(await page.locator('#models .cards').first().textContent()), 'its size');
  check(/will run well: about \d+ tokens\/s/.test(await page.locator('.verdict').textContent()), await page.locator('.verdict').textContent());
  check(/Signed by[0-9a-f]{16}/.test(await page.locator('#models .cards').first().textContent()), 'who signed');
  await page.locator('button.delete').click();
  await page.waitForFunction(() => /are free again/.test(document.querySelector('#models-said').textContent));
  equal(await page.evaluate(async () => (await (await import('/sdk/nigh.js')).models()).length), 0);
  equal(await page.evaluate(() => document.activeElement.id), 'kept-title', 'the focus is where the button was');
  equal(page.said, []);
  await context.close();
});

up('two models: each is kept by itself, and the one that is chosen writes', async () => {
  if (!existsSync(tiny)) skip('the reference models are not here');
  const node = await Node.start([tiny], existsSync(shipped) ? { model: shipped } : {}), context = await newContext();
  const page = await openPage(context, `http://${node.host}/#models`, { sdk: false });
  const there = page.locator('section[aria-labelledby=there-title] li');
  check(/0\.3 M parameters at 32\.\d bits/.test(await there.nth(1).textContent()), await there.nth(1).textContent());
  await there.nth(1).locator('button.fetch').click();
  await page.waitForFunction(() => /^stories260K is kept in this browser/.test(document.querySelector('#models-said').textContent));
  await page.waitForFunction(() => document.querySelectorAll('button.delete').length === 1);
  check(/Also kept/.test(await there.nth(1).textContent()) && (await there.first().locator('button.fetch').count()) === 1, 'the other is not');
  await page.locator('#model').selectOption('stories260K');
  await page.locator('label:has(#place-tab)').click();
  await go(page, 'write');
  await page.locator('#run').click();
  const line = await receiptOf(page, '#receipt');
  const hash = await page.evaluate(async () => (await (await import('/sdk/nigh.js')).models())[0].sha256.slice(0, 12));
  check(line.startsWith(`in this tab · model ${hash} `), line);
  equal(page.said, []);
  await context.close();
  await node.stop();
});

up('device: the probe in words, tokens a second in both places, no long tasks', async () => {
  const context = await newContext(), page = await openPage(context, `${home()}#device`, { sdk: false });
  await page.locator('#probe').waitFor();
  check(/Arithmetic[\d.]+ billion/.test(await page.locator('#probe').textContent()), await page.locator('#probe').textContent());
  await page.locator('#race').click();
  await page.waitForFunction(() => document.querySelectorAll('figure').length === 2 && !document.querySelector('#race').disabled);
  check(/in this tab\d+ tokens\/s/.test(await page.locator('figure').first().textContent()), await page.locator('figure').first().textContent());
  await sleep(1100);
  console.log(`  long tasks: ${await page.locator('#tasks').textContent()}`);
  equal(page.said, []);
  await context.close();
});

up('every page by keys alone: each control is reached, shows that it is, and has a name', async () => {
  const context = await newContext(), page = await openPage(context, home(), { sdk: false });
  for (const name of ['models', 'device', 'placement', 'write']) {
    await page.locator(`nav a[href="#${name}"]`).focus();
    await page.keyboard.press('Enter');
    await page.waitForFunction((h) => document.querySelector(`nav a[href="#${h}"]`).getAttribute('aria-current') === 'page', name);
    await page.locator({ models: 'button.fetch', device: '#probe', placement: '#placement', write: '#run' }[name]).waitFor();
    equal(await page.title(), name === 'write' ? 'Nigh' : `${name[0].toUpperCase()}${name.slice(1)} · Nigh`);
    const keys = await walk(page);
    equal([keys.left, keys.blind, keys.all > 4, await unnamed(page)], [[], [], true, []], name);
  }
  await context.close();
});

up('a node that went away: every page says so, and the tab goes on', async () => {
  const node = await Node.start([], existsSync(shipped) ? { model: shipped } : {}), context = await newContext();
  const page = await openPage(context, `http://${node.host}/`, { sdk: false });
  const has = (id, pattern) => page.waitForFunction(([i, p]) => new RegExp(p).test(document.querySelector(i)?.textContent ?? ''),
    [id, pattern], { timeout: 10000 });
  await page.locator('label:has(#place-tab)').click();
  await page.waitForFunction(() => navigator.serviceWorker.controller);
  await page.locator('label:has(#place-device)').click();
  await node.stop();
  await page.locator('#run').click();
  await has('#receipt.bad', 'That did not work: the node cannot be reached.*This tab can answer instead');
  await page.locator('#say').fill('Hello');
  await page.keyboard.press('Enter');
  await has('#chat-receipt.bad', 'That did not work');
  await page.screenshot({ path: path.join(art, 'gone-write.png') });
  const says = { models: ['#models', 'No node answers.*works without one'], device: ['#probe', 'Arithmetic'],
    placement: ['#placement', 'The node does not answer'] };
  for (const [name, [id, pattern]] of Object.entries(says)) {
    await go(page, name);
    await has(id, pattern);
    await page.screenshot({ path: path.join(art, `gone-${name}.png`), fullPage: true });
  }
  await page.locator('label:has(#place-tab)').click();
  await go(page, 'write');
  await page.locator('#run').click();
  check(/^in this tab/.test(await receiptOf(page, '#receipt')), await page.locator('#receipt').textContent());
  await context.close();
});

const phone = { viewport: { width: 360, height: 760 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
for (const [look, options] of [['light', { colorScheme: 'light' }], ['dark', { colorScheme: 'dark' }], ['phone', { colorScheme: 'dark', ...phone }]])
  up(`pictures: ${look}`, async () => {
    const context = await newContext(options), page = await openPage(context, home(), { sdk: false });
    equal(await page.locator('#run kbd').first().isVisible(), look !== 'phone', 'keys are named where there are some');
    await page.locator('label:has(#place-tab)').click();
    await page.locator('#say').fill('Once there was a cat.');
    await page.locator('#send').click();
    await receiptOf(page, '#chat-receipt');
    for (const name of ['chat', 'models', 'device', 'placement']) {
      if (name !== 'chat') await go(page, name);
      if (name === 'models') await page.locator('.verdict').waitFor();
      if (name === 'device') {
        await page.locator('#race').click();
        await page.waitForFunction(() => document.querySelectorAll('figure').length === 2 && !document.querySelector('#race').disabled);
        await page.locator('#probe').waitFor();
      }
      if (name === 'placement') await page.locator('#placement p').waitFor();
      check(await fits(page), `${name}: nothing lies beside the screen`);
      equal(await lowContrast(page), [], name);
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path: path.join(art, `${name === 'placement' ? 'no-policy' : name}-${look}.png`), fullPage: true });
    }
    equal(page.said.filter((t) => !/404/.test(t)), []);
    await context.close();
  });

up('nobody else was asked', async () => {
  await closeAll();
});
await main('test_pages');
