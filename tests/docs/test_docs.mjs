// test_docs.mjs - runs every command and every code block that stands in a document, and ends with a counted line.
//
// A fenced block marked sh is a list of commands; each one is a case. What cannot simply be run is listed in HOW with
// the way it is run here instead; everything else is run as it stands and must end well. Blocks marked js are run with
// node; nginx and caddyfile blocks are tried with those programs where they are there; json must parse. A block without
// a mark is a drawing or an output and may hold no command.
//
// Commands run in a folder of their own with `build`, FILE.gguf, two policies, pairs and some notes in it, and with a node of their own:
// 127.0.0.1:6444 is replaced by where that node listens.
import { execFileSync, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const { existsSync, writeFileSync } = fs;
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const folder = fs.mkdtempSync(join(tmpdir(), 'nigh-docs-'));
const counts = { passed: 0, failed: 0, skipped: 0 };
class Skip extends Error {}

const HOW = [ // pattern of a command, in words how it is run here, and the deed; the first that matches counts
  [/^cd /, 'is a place, not a test', () => {}],
  [/^make run\b/, 'started, asked for /health, stopped', () => serve('make', ['-C', root, 'run', 'ARGS=--port 0'])],
  [/^(\w+=\S+ )*make (test|tidy|test-native|fuzz|bench|bench-kernel|clean|uninstall)\b/, 'planned only: it runs long, or itself',
    (command) => sh(command.replace('make', `make -n -C ${root}`))],
  [/^(sudo )?make install\b/, 'into a folder of its own',
    () => sh(`make -s -C ${root} install PREFIX=${folder}/prefix && ${folder}/prefix/bin/nigh --version`)],
  [/^tools\/train_stories\.sh/, 'its syntax only: it needs the corpora and an hour',
    () => sh(`sh -n ${root}/tools/train_stories.sh`)],
  [/^make\b/, 'at the root', (command) => sh(command.replace('make', `make -s -C ${root}`))],
  [/nigh serve .*--new-(key|peer)/, 'as it stands', (command) => sh(command)],
  [/nigh serve .*--host 0\.0\.0\.0/, 'with a key, on a free port',
    (command) => serve('bash', ['-c', withPort(command)], true)],
  [/nigh serve\b/, 'started, asked for /health, stopped', (command) => serve('bash', ['-c', withPort(command)])],
  [/^sudo (build\/)?nigh prove\b/, 'with two requests, where root may make a network', (command) => prove(command)],
  [/nigh (where|ledger|verify)\b/, 'with the ledger of a node that answered once', (command) => withLedger(command)],
  [/nigh learn\b/, 'with a very small model', (command) => sh(`${command} -n 12 --decay 4 --warmup 2 --vocab 300 `
    + '--dim 32 --layers 1 --heads 2 --kv-heads 1 --ff 64 -c 32 -b 8 --held-out 100')],
];

// A node with a policy answers once, so that there is a ledger with a record in it.
let ledger = null;
async function withLedger(command) {
  if (!shipped) throw new Skip('no model is shipped yet');
  ledger ??= (async () => {
    const policy = { version: 1, classes: { personal: { level: 1, may_cross: ['device'] } },
      targets: { tiny: { tier: 'device', model: 'nigh-stories' } },
      features: { story: { class: 'personal', place: ['tiny'], degrade: ['error'] } } };
    writeFileSync(join(folder, 'story.json'), JSON.stringify(policy));
    const request = { model: 'feature/story', prompt: 'Once upon a time', max_tokens: 20, seed: 7 };
    writeFileSync(join(folder, 'request.json'), JSON.stringify(request));
    const home = ['--policy', 'story.json', '--ledger', join(folder, 'home/ledger.db'), '--port', '0'];
    const placed = await start('nigh', ['serve', ...home]);
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`${placed.base}/v1/completions`, { method: 'POST', headers, body: JSON.stringify(request) });
    writeFileSync(join(folder, 'answer.json'), await answer.text());
    await placed.stop();
    if (!answer.ok) throw new Error(`the feature answered ${answer.status}`);
  })();
  await ledger;
  sh(command);
}

function prove(command) {
  if (process.getuid() !== 0) throw new Skip('only root can make a network');
  try {
    sh(command.replace('sudo ', '').replace(/--requests \d+/, '--requests 2'));
  } catch (error) {
    if (error.status === 10) throw new Skip(String(error.stderr).trim());
    throw error;
  }
}

const withPort = (command) => `exec ${command.replace(/--port \d+/, '')} --port 0`;
const environment = { ...process.env, PATH: `${root}/build:${process.env.PATH}`, NIGH_HOME: join(folder, 'home') };

function sh(command) {
  const text = command.replaceAll('http://127.0.0.1:6444', base ?? 'http://127.0.0.1:6444');
  if (text.includes('127.0.0.1:6444') && !base) throw new Skip('there is no node to ask');
  const options = { cwd: folder, env: environment, stdio: 'pipe', timeout: 120_000 };
  execFileSync('bash', ['-euo', 'pipefail', '-c', text], options);
}

// Starts a node and gives its address, once it has said it and answers; `stop` ends it and waits until it has.
function start(program, args) {
  const child = spawn(program, args, { cwd: folder, env: environment, detached: true });
  const stop = () => new Promise((done) => {
    child.once('exit', done);
    try { process.kill(-child.pid, 'SIGTERM'); } catch { done(); }
  });
  return new Promise((resolve, reject) => {
    let said = '';
    const timer = setTimeout(() => { stop(); reject(new Error(`it did not start: ${said}`)); }, 60_000);
    const listen = (data) => {
      said += data;
      const address = /http:\/\/[0-9.]+:\d+/.exec(said);
      if (!address) return;
      clearTimeout(timer);
      resolve({ base: address[0].replace('0.0.0.0', '127.0.0.1'), stop });
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.once('exit', (code) => { clearTimeout(timer); reject(new Error(`it ended with ${code}: ${said}`)); });
  });
}

async function serve(program, args, key = false) {
  if (!shipped && !args.join().includes('.gguf')) throw new Skip('no model is shipped yet');
  if (key) sh('nigh serve --new-key');
  const node = await start(program, args);
  try {
    const answer = await fetch(`${node.base}/health`);
    if (!answer.ok) throw new Error(`/health answered ${answer.status}`);
  } finally { await node.stop(); }
}

async function test(name, body) {
  try {
    await body();
    counts.passed++;
  } catch (e) {
    if (e instanceof Skip) { counts.skipped++; console.log(`  skipped ${name}: ${e.message}`); return; }
    counts.failed++;
    console.error(`  FAILED ${name}: ${e.message.split('\n').slice(0, 4).join(' | ')} ${e.stderr ?? ''}`.trimEnd());
  }
}

// ---- what stands in the documents ----

function blocksOf(path) {
  const blocks = [], lines = fs.readFileSync(path, 'utf8').split('\n');
  for (let i = 0, open = null; i < lines.length; i++) {
    const fence = /^\s*```\s*(\S*)/.exec(lines[i]);
    if (fence && !open) open = { language: fence[1], line: i + 1, text: [] };
    else if (fence) { blocks.push({ ...open, text: open.text.join('\n') }); open = null; }
    else open?.text.push(lines[i]);
  }
  return blocks;
}

// One entry for each command: continued lines joined, comments and prompts taken away.
function commandsOf(text) {
  const lines = text.replaceAll(/\\\n\s*/g, ' ').split('\n');
  return lines.map((line) => line.replace(/(^|\s)#\s.*$/, '').replace(/^\$ /, '').trim()).filter(Boolean);
}

function runCommand(command) {
  const row = HOW.find(([pattern]) => pattern.test(command));
  return row ? row[2](command) : sh(command);
}

function has(program) {
  try { sh(`command -v ${program}`); return true; } catch { return false; }
}

// The site as it stands in the document, on a free port and in front of a node of ours: it must answer over TLS.
async function checkNginx(text) {
  if (!has('nginx') || !has('openssl')) throw new Skip('there is no nginx here');
  if (!base) throw new Skip('there is no node to ask');
  const name = /server_name (\S+);/.exec(text)[1], port = 20000 + process.pid % 20000;
  const at = (file) => join(folder, file);
  sh(`openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 1 -subj /CN=${name}`);
  const names = ['--allow-host', `${name}:80`, '--allow-origin', `https://${name}`];
  const behind = await start('nigh', ['serve', 'FILE.gguf', '--port', '0', ...names]);
  const site = text.replace(/ssl_certificate_key .*;/, `ssl_certificate_key ${at('tls.key')};`)
    .replace(/ssl_certificate .*;/, `ssl_certificate ${at('tls.crt')};`)
    .replace('listen 443', `listen 127.0.0.1:${port}`).replace('http://127.0.0.1:6444', behind.base);
  const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const paths = kinds.map((kind) => `${kind}_temp_path ${at(kind)};`).join(' ');
  writeFileSync(at('nginx.conf'), `daemon off; pid ${at('pid')}; error_log stderr; events {}\n`
    + `http { access_log off; ${paths}\n${site}\n}\n`);
  const nginx = spawn('nginx', ['-e', 'stderr', '-c', at('nginx.conf')], { stdio: 'ignore' });
  try {
    sh(`for i in $(seq 50); do sleep 0.1; curl -sk -o /dev/null https://127.0.0.1:${port}/ && break; done;`
      + `curl -skf --resolve ${name}:${port}:127.0.0.1 -H 'origin: https://${name}' -H 'host: ${name}' `
      + `https://${name}:${port}/health | grep -q '"ok"'`);
  } finally { nginx.kill(); await behind.stop(); }
}

function checkCaddy(text) {
  if (!has('caddy')) throw new Skip('there is no caddy here');
  writeFileSync(join(folder, 'Caddyfile'), text);
  execFileSync('caddy', ['validate', '--config', join(folder, 'Caddyfile')], { stdio: 'pipe' });
}

function runJs(text) {
  if (!existsSync(join(root, 'tests/web/node_modules/openai'))) throw new Skip('tests/web has no openai package');
  if (!base) throw new Skip('there is no node to ask');
  if (!shipped && text.includes('nigh-stories')) throw new Skip('no model is shipped yet');
  const file = join(root, 'tests/web/node_modules', `.nigh-docs-${process.pid}.mjs`);
  writeFileSync(file, text.replaceAll('http://127.0.0.1:6444', base));
  try {
    const out = execFileSync('node', [file], { stdio: 'pipe', timeout: 60_000 }).toString();
    if (!out.trim()) throw new Error('it printed nothing');
  } finally { fs.rmSync(file); }
}

const LANGUAGES = { js: runJs, nginx: checkNginx, caddyfile: checkCaddy, json: (text) => { JSON.parse(text); } };
const COMMAND = /^\s*(\$ |make |sudo |curl |git |nigh (run|serve|learn|bench|inspect|quantize|tokenize)|build\/nigh )/m;

async function testBlock(path, block) {
  const place = `${relative(root, path)}:${block.line}`;
  if (block.language === 'sh')
    for (const command of commandsOf(block.text)) await test(`${place} ${command}`, () => runCommand(command));
  else if (LANGUAGES[block.language])
    await test(`${place} (${block.language})`, () => LANGUAGES[block.language](block.text));
  else if (COMMAND.test(block.text))
    await test(place, () => { throw new Error('commands in a block that is not marked sh'); });
}

// ---- the place they run in ----

const filesOf = (where, end) => (existsSync(where) ? fs.readdirSync(where).filter((f) => f.endsWith(end)) : [])
  .map((f) => join(where, f));
const shipped = filesOf(join(root, 'models'), '.gguf')[0] ?? null;
const stories = join(process.env.NIGH_SHARED ?? join(root, '../shared'), 'golden/stories260K.gguf');
const model = shipped ?? (existsSync(stories) ? stories : null);
fs.symlinkSync(join(root, 'build'), join(folder, 'build'));
fs.mkdirSync(join(folder, 'notes'));
const story = ['hen', 'egg', 'king', 'boat', 'apple', 'river', 'mother', 'garden', 'stone', 'night', 'song'];
for (let i = 0; i < 40; i++) { // each note another one, for repeated text is removed
  const word = (k) => story[(i * 7 + k * (i % 5 + 3)) % story.length] + (k % 4 ? '' : i);
  const line = (n) => `The ${word(n)} saw a ${word(n + 1)} and the ${word(n + 2)} was by the ${word(n + 3)}.\n`;
  writeFileSync(join(folder, 'notes', `${i}.txt`), Array.from({ length: 9 }, (_, n) => line(n * 4 + i)).join(''));
}
writeFileSync(join(folder, 'mail-v3.jsonl'), Array.from({ length: 40 }, (_, i) => `{"confidence":${i / 40},"score":${i > 9 ? 1 : 0}}\n`).join(''));
for (const name of ['features.json', 'features.old.json'])
  fs.copyFileSync(join(root, 'examples/features.json'), join(folder, name));
if (model) fs.symlinkSync(model, join(folder, 'FILE.gguf'));

const node = model ? await start('build/nigh', ['serve', ...(shipped ? [] : ['FILE.gguf']), '--port', '0']) : null;
const base = node?.base;
const documents = [root, join(root, 'docs'), join(root, 'models')].flatMap((where) => filesOf(where, '.md'));
for (const path of documents) for (const block of blocksOf(path)) await testBlock(path, block);
await node?.stop();
fs.rmSync(folder, { recursive: true, force: true });
console.log(`test_docs.mjs: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed || !(counts.passed + counts.skipped) ? 1 : 0);
