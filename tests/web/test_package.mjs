// test_package.mjs - the npm package: packed, installed into an empty folder without a network, and what its README and the
// examples say, run in a browser from a plain static server.
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { check, equal, main, root, skip, sleep } from '../node/node.mjs';
import { art, closeAll, fits, lowContrast, newContext, unnamed, up } from './browser.mjs';
import { Site } from './site.mjs';

const app = mkdtempSync(path.join(tmpdir(), 'nigh-app-')), home = path.join(app, 'node_modules/nigh');
const run = (command, args, cwd) => {
  const r = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${r.stderr.slice(-2000)}`);
  return r.stdout.trim();
};
const readme = () => readFileSync(path.join(home, 'README.md'), 'utf8');
const blocks = (kind) => [...readme().matchAll(new RegExp(`\`\`\`${kind}\n([\\s\\S]*?)\`\`\``, 'g'))].map((m) => m[1]);
let site = null, context = null;
const filesIn = (folder, at) => Object.assign({}, ...readdirSync(folder).map((f) => {
  const whole = path.join(folder, f);
  return statSync(whole).isDirectory() ? filesIn(whole, `${at}/${f}`) : { [`${at}/${f}`]: readFileSync(whole) };
}));

// A program that is understood, but for its last call; it takes a while, and the other tests run meanwhile.
let checking = null;
function checkTypes() {
  writeFileSync(path.join(app, 'a.ts'), `import { open, type Receipt, NighError } from 'nigh';
const nigh = await open({ backend: 'tab' });
let text = '';
for await (const piece of nigh.complete('a', { maxTokens: 3 })) text += piece;
const r: Receipt = (await nigh.chat([{ role: 'user', content: 'x' }])).receipt;
const v: Float32Array[] = (await nigh.embed('x')).vectors;
// @ts-expect-error there is no such option
nigh.complete('a', { tokens: 3 });
console.log(text, r.bytesOut, v, new NighError('EIO').http);\n`);
  const tsc = path.join(root, 'web/node_modules/typescript/bin/tsc');
  const options = '--noEmit --strict --target es2022 --module es2022 --moduleResolution bundler --lib es2023,dom,dom.asynciterable a.ts';
  const child = spawn(process.execPath, [tsc, ...options.split(' ')], { cwd: app, stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.on('data', (d) => { out += d; });
  return new Promise((done) => child.on('close', (code) => done([code, out])));
}

async function open(name, { ready } = {}) {
  const page = await context.newPage(), said = [];
  page.on('console', (m) => { if (m.type() === 'error' && !/404/.test(m.text())) said.push(m.text()); });
  page.on('pageerror', (e) => said.push(String(e)));
  await page.goto(`${site.origin}/${name}`);
  if (ready) await page.waitForFunction(ready, null, { timeout: 20000 });
  page.said = said;
  return page;
}

up('npm pack makes a package that installs without a network', async () => {
  if (spawnSync('npm', ['--version']).status !== 0) skip('there is no npm');
  run('make', ['-s', '--no-print-directory', 'sdk'], root);
  const tgz = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', app], path.join(root, 'build/web/package')))[0];
  writeFileSync(path.join(app, 'package.json'), '{"name":"app","private":true}');
  run('npm', ['install', '--offline', '--no-audit', '--no-fund', path.join(app, tgz.filename)], app);
  const own = JSON.parse(readFileSync(path.join(home, 'package.json'), 'utf8'));
  equal([own.name, own.dependencies, own.type], ['nigh', undefined, 'module']);
  for (const f of ['nigh.js', 'worker.js', 'sw.js', 'nigh-simd.wasm', 'types/index.d.ts', 'bin/manifest.mjs', 'model/nigh-stories.manifest.json', 'LICENSE'])
    check(existsSync(path.join(home, f)), f);
  const packed = new Map(), one = (f) => gzipSync(readFileSync(path.join(home, f)), { level: 9 }).length;
  const gz = (files) => files.reduce((s, f) => s + (packed.get(f) ?? packed.set(f, one(f)).get(f)), 0);
  const loaded = gz(['nigh.js', 'worker.js', 'nigh-relaxed-threads.wasm']);
  console.log(`  package: ${(tgz.size / 1e6).toFixed(2)} MB with its model; a page loads ${(loaded / 1e3).toFixed(0)} KB gz beside the model`);
  for (const build of ['relaxed-threads', 'simd-threads', 'simd']) {
    const bytes = gz(['nigh.js', 'worker.js', 'sw.js', `nigh-${build}.wasm`]);
    check(bytes <= 400e3, `${build}: ${bytes} bytes`);
  }
  equal(readFileSync(path.join(home, 'nigh.js'), 'utf8').includes(root), false, 'no path of this machine');

  const extra = { ...filesIn(home, '/nigh'), ...filesIn(path.join(root, 'web/examples'), '') };
  extra['/sw.js'] = extra['/nigh/sw.js'];
  extra['/ten.html'] = `<!doctype html><meta charset="utf-8">${blocks('html')[0]}`;
  site = await Site.start({ extra });
  context = await newContext();
  checking = checkTypes();
});

up('a page made with Vite: as it is developed, and as it is built', async () => {
  const vite = await import(path.join(root, 'web/node_modules/vite/dist/node/index.js'));
  cpSync(home, path.join(app, 'public/nigh'), { recursive: true });
  writeFileSync(path.join(app, 'index.html'), '<!doctype html><title>v</title><p id="out"></p><script type="module" src="./main.ts"></script>');
  writeFileSync(path.join(app, 'main.ts'), `import { open } from 'nigh';
const nigh = await open({ files: '/nigh/' });
const { text, receipt } = await nigh.complete('Once upon a time', { maxTokens: 5, temperature: 0 });
document.getElementById('out')!.textContent = receipt.place + ':' + text;\n`);
  const options = { root: app, configFile: false, logLevel: 'error', build: { target: 'es2022' } };
  const shows = async (page) => {
    await page.waitForFunction(() => /^tab:.../.test(document.getElementById('out').textContent), null, { timeout: 20000 });
    return page.locator('#out').textContent();
  };
  const server = await vite.createServer({ ...options, server: { host: '127.0.0.1', port: 0, hmr: false } });
  await server.listen();
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${server.httpServer.address().port}/`);
  const developed = await shows(page);
  await page.close();
  await server.close();
  await vite.build(options);
  const built = await Site.start({ extra: filesIn(path.join(app, 'dist'), '') });
  const other = await context.newPage();
  await other.goto(`${built.origin}/index.html`);
  equal(await shows(other), developed);
  await other.close();
  await built.stop();
});

up('the ten lines of the README', async () => {
  check(blocks('html')[0].trim().split('\n').length <= 10, 'they are ten');
  const page = await open('ten.html');
  await page.waitForFunction(() => document.getElementById('go').onclick, null, { timeout: 20000 });
  await page.locator('#go').click();
  await page.waitForFunction(() => document.getElementById('receipt').textContent.includes('"place":"tab"'));
  check((await page.locator('#text').inputValue()).length > 60, 'text was written');
  equal(page.said, []);
});

up('every other block of the README runs', async () => {
  const page = await open('ten.html', { ready: () => document.getElementById('go').onclick });
  const [what, ...rest] = blocks('js');
  const code = `import { open } from './nigh/nigh.js';\n${what}`;
  const opening = "$1import { open } from './nigh/nigh.js';\nconst nigh = await open();\n";
  const wants = (b) => /\bnigh\b(?!\.js|\/|-)/.test(b.replace(/import.*/g, ''));
  const all = [code, ...rest.map((b) => (wants(b) ? b.replace(/(import.*\n)/, opening) : b))];
  for (const [i, source] of all.entries()) {
    site.extra[`/block${i}.js`] = `${source}\nexport {};\n`;
    const error = await page.evaluate((i) => import(`/block${i}.js`).then(() => '', (e) => `${e.name} ${e.message}`), i);
    equal(error, '', source.slice(0, 200));
  }
  equal(page.said, []);
});

up('example: plain HTML with one script tag', async () => {
  equal(readFileSync(path.join(root, 'web/examples/plain.html'), 'utf8').match(/<script/g).length, 1);
  const page = await open('plain.html', { ready: () => !document.getElementById('go').disabled });
  const before = await page.locator('#text').inputValue();
  await page.locator('#go').click();
  await page.waitForFunction(() => /made in this tab by nigh-stories, 0 bytes sent/.test(document.getElementById('receipt').textContent));
  check((await page.locator('#text').inputValue()).length > before.length + 20, 'text was written');
  await page.locator('#go').click();
  await page.locator('#stop').click({ timeout: 2000 }).catch(() => {});
  equal(page.said, []);
});

up('example: a textarea that completes, a keystroke at a time', async () => {
  const page = await open('autocomplete.html', { ready: () => !document.getElementById('text').disabled });
  await page.locator('#text').pressSequentially('Once upon a time there was a little girl who lived in a small house near the sea', { delay: 15 });
  await page.waitForFunction(() => document.getElementById('ghost').textContent.length > 0);
  await sleep(100);
  const ghost = await page.locator('#ghost').textContent(), before = await page.locator('#text').inputValue();
  await page.keyboard.press('Tab');
  equal(await page.locator('#text').inputValue(), before + ghost);
  const times = (await page.evaluate(() => times)).sort((a, b) => a - b);
  const p = (q) => times[Math.floor(q * (times.length - 1))].toFixed(1);
  console.log(`  keystroke to suggestion: ${times.length} of them, p50 ${p(0.5)} ms, p95 ${p(0.95)} ms`);
  check(times.length > 40, `${times.length} suggestions`);
  equal(page.said, []);
});

up('example: a form classifier by vectors', async () => {
  const page = await open('classifier.html', { ready: () => window.classify && /Type a note/.test(document.getElementById('said').textContent) });
  const notes = {
    sea: ['The waves were high and the boat went down.', 'A whale swam beside the ship.', 'The sailors saw an island.'],
    kitchen: ['She made a pie with apples and sugar.', 'There was bread and milk for supper.', 'The cook put the soup on the table.'],
    forest: ['The rabbit ran behind a tree.', 'A bird sat on a branch in the wood.', 'The fox and the bear met under the oak.'],
  };
  let right = 0;
  for (const [shelf, all] of Object.entries(notes))
    for (const note of all) right += (await page.evaluate((t) => classify(t), note)).shelf === shelf;
  console.log(`  ${right} of 9 notes that it had not seen`);
  check(right >= 7, `${right} of 9`);
  await page.locator('#note').fill('The sailor stood on the deck of his boat.');
  await page.waitForFunction(() => /^sea, in \d+ ms, in this tab; 0 bytes sent/.test(document.getElementById('said').textContent));
  equal(await page.locator('#shelf').inputValue(), 'sea');
  equal(page.said, []);
});

up('example: OpenAI\'s client against the tab', async () => {
  const { build } = await import(path.join(root, 'web/node_modules/esbuild/lib/main.js'));
  const entryPoints = [path.join(root, 'tests/web/node_modules/openai/index.mjs')];
  const made = await build({ entryPoints, bundle: true, format: 'esm', write: false, logLevel: 'silent' });
  site.extra['/openai.js'] = made.outputFiles[0].text;
  const page = await open('openai.html', { ready: () => !document.getElementById('go').disabled });
  await page.locator('#go').click();
  await page.waitForFunction(() => document.getElementById('out').dataset.done === 'yes');
  check((await page.locator('#out').textContent()).length > 20, 'an answer');
  equal(page.said, []);
});

up('the examples on a phone, in light and dark: nothing beside the screen, every control named, every text readable', async () => {
  const shown = { 'plain.html': () => !document.getElementById('go').disabled, 'autocomplete.html': () => !document.getElementById('text').disabled,
    'classifier.html': () => window.classify, 'openai.html': () => !document.getElementById('go').disabled };
  for (const [name, ready] of Object.entries(shown)) {
    const page = await open(name, { ready });
    await page.setViewportSize({ width: 360, height: 640 });
    if (name === 'autocomplete.html') {
      await page.locator('#text').pressSequentially('Once upon a time there was a', { delay: 20 });
      await page.waitForFunction(() => document.getElementById('ghost').textContent.length > 0);
    }
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      equal([await fits(page), await unnamed(page), await lowContrast(page)], [true, [], []], `${name} ${colorScheme}`);
      await page.screenshot({ path: path.join(art, `example-${name.replace('.html', '')}-${colorScheme}.png`) });
    }
    if (name === 'autocomplete.html') {
      await page.keyboard.press('Escape');
      equal(await page.locator('#ghost').textContent(), '');
      await page.keyboard.press('Tab');
      check(await page.evaluate(() => document.activeElement.id !== 'text'), 'the field is left by Esc and Tab');
    }
    await page.close();
  }
});

up('its types are understood, strictly', async () => equal(await checking, [0, '']));

up('nobody else was asked', async () => {
  await site?.stop();
  await closeAll();
});
await main('test_package');
