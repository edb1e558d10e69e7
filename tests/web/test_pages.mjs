// test_pages.mjs - the console's pages: the switch between tab and device, chat, models, device; pictures of each.
// Pictures go to tests/web/artifacts.
import path from 'node:path';
import { check, equal, main, sleep } from '../node/node.mjs';
import { art, closeAll, n, newContext, openPage, up } from './browser.mjs';

const home = () => `http://${n.host}/`;
const go = (page, name) => page.evaluate((h) => { location.hash = h; }, name);
const receiptOf = async (page, id) => {
  const find = (id) => /tokens\/s|stopped|did not/.test(document.querySelector(id).textContent);
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
  check(/^in this tab · model [0-9a-f]{12} · 0 bytes left · \d+ ms · \d+ tokens\/s$/.test(tab.line), tab.line);
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
  equal(page.said, []);
  await context.close();
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

up('every control of every page has a name, and the pages are reached by keys', async () => {
  const context = await newContext(), page = await openPage(context, home(), { sdk: false });
  for (const name of ['write', 'models', 'device']) {
    await page.locator(`nav a[href="#${name}"]`).focus();
    await page.keyboard.press('Enter');
    await page.waitForFunction((h) => document.querySelector(`nav a[href="#${h}"]`).getAttribute('aria-current') === 'page', name);
    const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, select, textarea, meter, [role=textbox], [role=img], section')]
      .filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-labelledby') || e.getAttribute('aria-label')))
      .map((e) => e.outerHTML.slice(0, 80)));
    equal(nameless, [], name);
    const twice = () => [...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, i, all) => all.indexOf(id) !== i);
    equal(await page.evaluate(twice), [], 'ids stand once');
  }
  await context.close();
});

const phone = { viewport: { width: 375, height: 760 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
for (const [look, options] of [['light', { colorScheme: 'light' }], ['dark', { colorScheme: 'dark' }], ['phone', { colorScheme: 'dark', ...phone }]])
  up(`pictures: ${look}`, async () => {
    const context = await newContext(options), page = await openPage(context, home(), { sdk: false });
    await page.locator('label:has(#place-tab)').click();
    await page.locator('#say').fill('Once there was a cat.');
    await page.locator('#send').click();
    await receiptOf(page, '#chat-receipt');
    for (const name of ['chat', 'models', 'device']) {
      if (name !== 'chat') await go(page, name);
      if (name === 'models') await page.locator('.verdict').waitFor();
      if (name === 'device') {
        await page.locator('#race').click();
        await page.waitForFunction(() => document.querySelectorAll('figure').length === 2 && !document.querySelector('#race').disabled);
        await page.locator('#probe').waitFor();
      }
      equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${name}: nothing lies beside the screen`);
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path: path.join(art, `${name}-${look}.png`), fullPage: true });
    }
    equal(page.said, []);
    await context.close();
  });

up('nobody else was asked', async () => {
  await closeAll();
});
await main('test_pages');
