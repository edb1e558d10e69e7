// test_console.mjs - the first page in a real browser: type, stream, stop, take back, receipt, key; light, dark and phone.
// Pictures go to tests/web/artifacts; NIGH_MODEL chooses another model for them.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { Node, check, equal, main, root, sleep } from '../node/node.mjs';
import { art, browser, closeAll, lowContrast, n, up } from './browser.mjs';

// A page, and everything it asked for or complained about.
async function open({ node = n, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const said = [],
    asked = [];
  page.on('console', (m) => {
    if (m.type() === 'error') said.push(m.text());
  });
  page.on('pageerror', (e) => said.push(String(e)));
  page.on('request', (r) => asked.push(r.url()));
  await page.goto(`http://${node.host}/`);
  return { page, said, asked, context };
}
const receipt = (page) => page.locator('#receipt');
const done = async (page) =>
  page.waitForFunction(() => /tokens\/s|stopped/.test(document.querySelector('#receipt').textContent), null, {
    timeout: 30000,
  });
const write = async (page, text, { length = '40', seed = '3' } = {}) => {
  await page.locator('#text').fill(text);
  await page.locator('#length').fill(length);
  await page.locator('#seed').fill(seed);
};

up('type, Ctrl+Enter, the text goes on, the receipt tells', async () => {
  const { page, said, asked, context } = await open();
  equal(await page.title(), 'Nigh');
  check(await page.evaluate(() => document.activeElement.id === 'text'), 'the text has the focus');
  await write(page, 'Once upon a time, there was a little dog');
  await page.locator('#text').focus();
  await page.keyboard.press('Control+Enter');
  await done(page);
  const whole = await page.locator('#text').textContent();
  check(whole.startsWith('Once upon a time, there was a little dog') && whole.length > 60, whole);
  const made = page.locator('#text .made');
  equal(await made.count(), 1);
  check(
    await made.evaluate((e) => getComputedStyle(e).color !== getComputedStyle(e.parentElement).color),
    'another colour',
  );
  const line = await receipt(page).textContent();
  check(/^on this device · model [0-9a-f]{12} · 0 bytes sent · \d+ ms · \d+ tokens\/s$/.test(line), line);
  equal(said, [], 'nothing was complained about');
  check(
    asked.every((u) => u.startsWith(`http://${n.host}/`)),
    `asked elsewhere: ${asked}`,
  );
  await page.locator('#back').click();
  equal(await page.locator('#text').textContent(), 'Once upon a time, there was a little dog');
  await context.close();
});

up('same seed, same text; a second run goes on from both', async () => {
  const { page, context } = await open();
  const run = async () => {
    await write(page, 'The sun');
    await page.locator('#run').click();
    await done(page);
    return page.locator('#text').textContent();
  };
  const first = await run();
  await page.evaluate(() => {
    document.querySelector('#receipt').textContent = '';
  });
  equal(await run(), first);
  await page.evaluate(() => {
    document.querySelector('#receipt').textContent = '';
  });
  await page.locator('#text').focus();
  await page.keyboard.press('Control+Enter');
  await done(page);
  const second = await page.locator('#text').textContent();
  check(second.startsWith(first) && second.length > first.length, second);
  equal(await page.locator('#text .made').count(), 2);
  await context.close();
});

up('Esc stops, on the page and in the node', async () => {
  const { page, context } = await open();
  // The way to the page is slowed down, so that there is time to stop a quick model.
  await page.route('**/v1/completions', async (route) => {
    await page.evaluate(() => {
      const native = ReadableStream.prototype.pipeThrough;
      ReadableStream.prototype.pipeThrough = function (t) {
        const slow = new TransformStream({
          async transform(c, out) {
            for (let i = 0; i < c.length; i += 200) {
              await new Promise((r) => setTimeout(r, 20));
              out.enqueue(c.subarray(i, i + 200));
            }
          },
        });
        return native.call(native.call(this, slow), t);
      };
    });
    await route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), ignore_eos: true }) });
  });
  await write(page, 'Once upon a time', { length: '400' });
  await page.keyboard.press('Control+Enter');
  await page.waitForFunction(() => document.querySelector('#text .made')?.textContent.length > 5);
  equal(await page.locator('#text').getAttribute('aria-busy'), 'true');
  check(
    (await page.locator('#stop').isVisible()) && !(await page.locator('#run').isVisible()),
    'stop instead of run',
  );
  await page.keyboard.press('Escape');
  await done(page);
  check(/stopped$/.test(await receipt(page).textContent()), await receipt(page).textContent());
  check(await page.locator('#run').isVisible(), 'run is back');
  await sleep(250);
  equal(await n.metric('nigh_running_sequences'), 0);
  await context.close();
});

up('everything is reached by keyboard and has a name', async () => {
  const { page, context } = await open();
  const seen = [];
  await page.locator('#text').focus();
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press('Tab');
    seen.push(await page.evaluate(() => document.activeElement.id));
  }
  for (const id of ['run', 'clear', 'length', 'temperature', 'seed'])
    check(seen.includes(id), `${id} is not reached: ${seen}`);
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll('button, input, select, [role=textbox]')]
      .filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-labelledby')))
      .map((e) => e.id),
  );
  equal(nameless, []);
  equal(await receipt(page).getAttribute('aria-live'), 'polite');
  await page.locator('#seed').focus();
  await page.keyboard.press('Tab');
  await page.locator('#run').focus();
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Tab');
  check(await page.locator('#run').evaluate((e) => getComputedStyle(e).outlineStyle !== 'none'), 'the focus is seen');
  await context.close();
});

up('what the model or the user writes is text and nothing else', async () => {
  const { page, said, context } = await open();
  await write(page, '<img src=x onerror="document.title=1"><script>document.title=2</script>', { length: '10' });
  await page.keyboard.press('Control+Enter');
  await done(page);
  equal(await page.title(), 'Nigh');
  equal(await page.locator('#text img, #text script').count(), 0);
  equal(said, []);
  await context.close();
});

up('an error is said, and the next attempt works', async () => {
  const { page, context } = await open();
  await write(page, 'word '.repeat(4000), { length: '10' });
  await page.locator('#run').click();
  await page.waitForFunction(() => document.querySelector('#receipt').classList.contains('bad'));
  check(/longer than/.test(await receipt(page).textContent()), await receipt(page).textContent());
  await write(page, 'Once', { length: '10' });
  await page.locator('#run').click();
  await done(page);
  check(!(await receipt(page).evaluate((e) => e.classList.contains('bad'))), 'the error is gone');
  await context.close();
});

up('a stream that breaks off is said to be broken', async () => {
  const { page, context } = await open();
  await page.route('**/v1/completions', (route) =>
    route.fulfill({
      status: 200,
      contentType: 'text/event-stream',
      body: 'data: {"choices":[{"text":" half"}]}\n\n',
    }),
  );
  await write(page, 'Once');
  await page.locator('#run').click();
  await page.waitForFunction(() => document.querySelector('#receipt').classList.contains('bad'));
  check(/broke off/.test(await receipt(page).textContent()), await receipt(page).textContent());
  await context.close();
});

up('a burst is shown once a frame, not letter by letter', async () => {
  const { page, context } = await open();
  const words = Array.from({ length: 400 }, (_, i) => ` word${i}`), data = (o) => `data: ${JSON.stringify(o)}\n\n`;
  const body = [...words.map((text) => data({ choices: [{ text }] })), data({ choices: [{ text: '', finish_reason: 'length' }] }),
    data({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 400 } }), 'data: [DONE]\n\n'].join('');
  await page.route('**/v1/completions', (route) => route.fulfill({ status: 200, contentType: 'text/event-stream', body }));
  await page.evaluate(() => {
    const own = Element.prototype.getBoundingClientRect;
    window.layouts = 0;
    Element.prototype.getBoundingClientRect = function () { layouts++; return own.call(this); };
  });
  await write(page, 'Once');
  await page.locator('#run').click();
  await done(page);
  equal(await page.locator('#text').textContent(), `Once${words.join('')}`);
  const layouts = await page.evaluate(() => window.layouts);
  check(layouts >= 1 && layouts < 40, `${layouts} layouts for 400 pieces`);
  await context.close();
});

up('a node with a key asks for it once', async () => {
  const { mkdtempSync } = await import('node:fs');
  const { tmpdir } = await import('node:os');
  const home = mkdtempSync(path.join(tmpdir(), 'nigh-web-'));
  const key = spawnSync(path.join(root, 'build/nigh'), ['serve', '--new-key'], {
    env: { ...process.env, NIGH_HOME: home },
    encoding: 'utf8',
  }).stdout.trim();
  const locked = await Node.start([], { home });
  const { page, context } = await open({ node: locked });
  await page.locator('#keyrow').waitFor({ state: 'visible' });
  await page.locator('#key').fill('wrong');
  await page.keyboard.press('Enter');
  await sleep(200);
  check(await page.locator('#keyrow').isVisible(), 'a wrong key is not taken');
  await page.locator('#key').fill(key);
  await page.keyboard.press('Enter');
  await page.locator('#keyrow').waitFor({ state: 'hidden' });
  await write(page, 'Once', { length: '10' });
  await page.locator('#run').click();
  await done(page);
  await context.close();
  await locked.stop();
});

for (const [name, options] of [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  [
    'phone',
    {
      colorScheme: 'light',
      viewport: { width: 375, height: 760 },
      deviceScaleFactor: 2,
      isMobile: true,
      hasTouch: true,
    },
  ],
  [
    'phone-dark',
    {
      colorScheme: 'dark',
      viewport: { width: 375, height: 760 },
      deviceScaleFactor: 2,
      isMobile: true,
      hasTouch: true,
    },
  ],
  ['narrow', { colorScheme: 'light', viewport: { width: 320, height: 700 } }],
])
  up(`picture: ${name}`, async () => {
    const { page, said, context } = await open(options);
    await page.locator('#length').fill('80');
    await page.locator('#seed').fill('3');
    await page.locator('#run').click();
    await done(page);
    equal(
      await page.evaluate(() => document.documentElement.scrollWidth - innerWidth <= 0),
      true,
      'nothing lies beside the screen',
    );
    equal(await lowContrast(page), [], 'texts that cannot be read');
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: path.join(art, `${name}.png`), fullPage: name !== 'light' && name !== 'dark' });
    equal(said, []);
    await context.close();
  });

up('the browser closes, and nobody else was asked', closeAll);
await main('test_console');
