// test_silence.mjs - nothing of what is asked is written anywhere by default. Tests of the suite run with their bytes recorded
// (record.cjs); every prompt that they sent is then searched for, in every shape (search.mjs), in every file that their nodes
// left or had, databases with their journals among them, and in all that the nodes said. Then a node with nothing but default
// settings gets all of these prompts, whole, cut and in errors; its files are searched, and the packets that leave its network counted.
//   NIGH_SUITE=all node tests/node/test_silence.mjs        every test with a node; a,b: these; otherwise three
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { anyModel, check, equal, main, program, root, skip, sleep, test } from './node.mjs';
import { Finder, SHORTEST, shapesOf } from './search.mjs';

const ALL = process.env.NIGH_SUITE === 'all', PROMPTS_MAX = 4000, DEFAULT_MAX = 400;
const base = realpathSync(mkdtempSync(path.join(tmpdir(), 'nigh-silence-')));
const at = (...names) => path.join(base, ...names);
chmodSync(base, 0o755);                 // a test starts a node as another user

// ---- the prompts of the suite ----

const own = ['test_silence.mjs'], small = ['node/test_api.mjs', 'node/test_place_away.mjs', 'node/test_place_canary.mjs'];
const suite = ALL ? ['node', 'fault', 'web'].flatMap((d) => readdirSync(path.join(root, 'tests', d))
  .filter((f) => /^test_.*\.mjs$/.test(f) && !own.includes(f)).map((f) => `${d}/${f}`)) : process.env.NIGH_SUITE?.split(',') ?? small;

// What stands in JSON under these names is somebody's words.
const WORDS = /"(?:content|text|prompt|input|instructions|system|arguments|description)"\s*:\s*(\[\s*)?"((?:[^"\\]|\\.)*)"/g;
function promptsIn(text, out) {
  for (const [, , escaped] of text.matchAll(WORDS)) {
    let words;
    try { words = JSON.parse(`"${escaped}"`); } catch { continue; }
    if (Buffer.byteLength(words) >= SHORTEST && /\p{L}/u.test(words)) out.add(words);
  }
}
const filesIn = (dir) => (existsSync(dir) ? readdirSync(dir).map((f) => path.join(dir, f)) : []);

// Prompts that a browser types are not in what the test sends; they stand in its source.
const TYPED = /(?:content|prompt|input|text|words|fill|type|ask|say|send)\w*\s*[:=(]\s*(['"`])((?:\\.|(?!\1)[^\\\n$])+)\1/g;
function typedIn(file) {
  const out = new Set();
  for (const [, , words] of readFileSync(file, 'utf8').matchAll(TYPED)) if (words.length >= SHORTEST && / /.test(words)) out.add(words);
  return out;
}

const all = new Set(), sums = { prompts: 0, files: 0, bytes: 0, found: 0 }, leaks = [];
// The files that a test itself wrote with its own words in them: what is asked, for a command to read; no node wrote these.
const notOurs = (file) => /\/(sent|provider)\b/.test(file.slice(base.length)) || /\.(gguf|json|mjs|html|js|pem|onnx|wasm)$/.test(file) ||
  /\/(chromium|nigh-chromium|playwright|nigh-tab|profile)[^/]*\//.test(file);

function watch(name) {
  const folder = at(name.replace(/\W/g, '-')), dirs = { TMPDIR: 'tmp', HOME: 'home', cwd: 'cwd' };
  for (const d of Object.values(dirs)) mkdirSync(path.join(folder, d), { recursive: true });
  const env = { ...process.env, NIGH_RECORD: folder, TMPDIR: path.join(folder, 'tmp'), HOME: path.join(folder, 'home'),
    NODE_OPTIONS: `--require ${path.join(root, 'tests/node/record.cjs')}`, NIGH_SUITE: '' };
  const made = spawnSync(process.execPath, [path.join(root, 'tests', name)], { encoding: 'utf8', env, cwd: path.join(folder, 'cwd'), maxBuffer: 1 << 28 });
  const prompts = new Set();
  for (const f of filesIn(path.join(folder, 'sent'))) promptsIn(readFileSync(f, 'utf8'), prompts);
  for (const words of typedIn(path.join(root, 'tests', name))) prompts.add(words);
  const chosen = [...prompts].slice(0, PROMPTS_MAX), seen = new Finder(chosen).below(folder, notOurs);
  for (const p of chosen) all.add(p);
  sums.prompts += chosen.length;
  for (const k of ['files', 'bytes']) sums[k] += seen[k];
  sums.found += seen.found.length;
  leaks.push(...seen.found.slice(0, 5).map((f) => `${name}: ${f.shape} of ${JSON.stringify(f.text.slice(0, 60))} in ${f.file} at ${f.at}`));
  const counted = /\d+ passed, \d+ failed, \d+ skipped/.exec(made.stdout.trim().split('\n').at(-1))?.[0] ?? made.stderr.slice(-300);
  console.log(`  ${name}: ${counted}; ${chosen.length} prompts, ${seen.files} files, ${(seen.bytes / 1e6).toFixed(1)} MB, ${seen.found.length} found`);
  rmSync(folder, { recursive: true, force: true });
}

test('the search finds each shape of a text, and nothing else', () => {
  const words = 'Köln says "good\nmorning" \u{1f98a} to all of the 世界', finder = new Finder([words]), noise = Buffer.alloc(5000, 'The king said no. ');
  for (const [shape, bytes] of shapesOf(words))
    for (const before of [0, 1, 2, 3]) {
      const found = finder.in(Buffer.concat([noise.subarray(0, 100 + before), bytes, noise]));
      check(found.length > 0, `${shape} behind ${before} is not found`);
    }
  for (const shift of [0, 1, 2]) {
    const code = Buffer.from(`${'x'.repeat(30 + shift)}${words} and more`).toString('base64');
    check(finder.in(Buffer.from(code)).length > 0, `base64 at ${shift} is not found`);
  }
  const packed = Buffer.concat([noise, gzipSync(`{"a":${JSON.stringify(words)}}`), noise]);
  check(finder.in(packed).some((f) => f.shape.startsWith('gzip')), 'what gzip packed is not found');
  equal(finder.in(noise), []);
});

test(`the prompts of ${ALL ? 'the whole suite' : 'three tests'} are in no file and in nothing that was said`, () => {
  if (!existsSync(program)) skip('build/nigh is not built');
  if (!anyModel()) skip('no model is here: neither the reference data nor models/nigh-stories.gguf');
  for (const name of suite) watch(name);
  console.log(`  figure silence prompts=${sums.prompts} files=${sums.files} mb=${(sums.bytes / 1e6).toFixed(0)} found=${sums.found}`);
  check(sums.prompts > 10 && sums.files > 10, 'too little was looked at');
  equal(leaks, []);
});

// ---- default settings ----

// In a network of its own, whose only line ends here, where packets are counted; null: this system has no such thing.
async function ownNetwork(argv, env, cwd) {
  const line = `nsil${process.pid % 10000}`, run = (...words) => spawnSync(words[0], words.slice(1), { encoding: 'utf8' }).status === 0;
  if (process.getuid() !== 0) return null;
  const child = spawn('unshare', ['-n', 'sh', '-c', 'read go; exec "$@"', 'sh', ...argv], { env, cwd });
  child.on('error', () => {});          // there is no unshare
  const netOf = (pid) => { try { return readlinkSync(`/proc/${pid}/ns/net`); } catch { return null; } };
  for (let i = 0; i < 200 && child.pid && child.exitCode === null && netOf(child.pid) === netOf('self'); i++) await sleep(20);
  if (!child.pid || child.exitCode !== null || netOf(child.pid) === netOf('self')) return null;
  const inside = (...words) => run('nsenter', '-t', String(child.pid), '-n', ...words), net = `10.214.${process.pid % 200}`;
  const good = run('ip', 'link', 'add', line, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(child.pid)) &&
    run('sh', '-c', `echo 1 > /proc/sys/net/ipv6/conf/${line}/disable_ipv6; ip addr add ${net}.1/24 dev ${line} && ip link set ${line} up`) &&
    inside('sh', '-c', `echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up && ip addr add ${net}.2/24 dev eth0 && ` +
      `ip link set eth0 up && ip route add default via ${net}.1`);
  if (!good) { child.kill('SIGKILL'); return null; }
  const packets = () => Number(readFileSync(`/sys/class/net/${line}/statistics/rx_packets`, 'utf8'));
  return { child, packets, before: packets(), knock: () => inside('bash', '-c', `echo hello > /dev/udp/${net}.1/9`) };
}

// The client, in the same network: each prompt whole, cut in the middle of the JSON, with a bad field, and by every route.
const CLIENT = `
const [port, file] = process.argv.slice(1), prompts = JSON.parse(require('fs').readFileSync(file, 'utf8'));
const user = (c) => [{ role: 'user', content: c }];
const routes = [['/v1/chat/completions', (c) => ({ messages: user(c), max_tokens: 1 })],
  ['/v1/completions', (c) => ({ prompt: c, max_tokens: 1, stream: true })], ['/v1/messages', (c) => ({ max_tokens: 1, messages: user(c) })],
  ['/v1/responses', (c) => ({ input: c, max_output_tokens: 1 })], ['/v1/embeddings', (c) => ({ input: c })]];
(async () => {
  let good = 0, bad = 0;
  for (const [i, words] of prompts.entries()) {
    const [route, make] = routes[i % routes.length], body = JSON.stringify(make(words));
    const wrong = [body.slice(0, -3), JSON.stringify({ ...make(words), temperature: words }), JSON.stringify({ ...make(words), model: words })][i % 3];
    for (const b of [body, wrong]) {
      const r = await fetch('http://127.0.0.1:' + port + route, { method: 'POST', headers: { 'content-type': 'application/json' }, body: b });
      await r.text();
      if (r.status === 200) good++; else bad++;
    }
  }
  for (const route of ['/', '/metrics', '/v1/models', '/nigh/placement', '/nigh/ledger']) await (await fetch('http://127.0.0.1:' + port + route)).text();
  console.log(JSON.stringify({ good, bad }));
})();`;

test('a node with default settings writes none of them down, and no packet leaves it', async () => {
  if (!existsSync(program) || !anyModel()) skip('there is no program, or no model');
  if (!all.size) skip('no prompts were gathered');
  const names = ['home', 'tmp', 'cwd'];
  for (const n of names) mkdirSync(at('default', n), { recursive: true });
  const prompts = [...all].filter((_, i) => i % Math.ceil(all.size / DEFAULT_MAX) === 0);
  writeFileSync(at('prompts.json'), JSON.stringify(prompts));
  const env = { PATH: process.env.PATH, HOME: at('default', 'home'), TMPDIR: at('default', 'tmp') }, argv = [program, 'serve', anyModel(), '--port', '0'];
  const net = await ownNetwork(argv, env, at('default', 'cwd')), child = net?.child ?? spawn(argv[0], argv.slice(1), { env, cwd: at('default', 'cwd') });
  let said = '';
  for (const s of [child.stdout, child.stderr]) s.on('data', (d) => { said += d; });
  if (net) child.stdin.write('go\n');
  for (let i = 0; i < 300 && !/is at http:\/\/127\.0\.0\.1:(\d+)/.test(said); i++) await sleep(100);
  const port = /is at http:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1];
  check(port, `the node did not start: ${said}`);
  const ask = [process.execPath, '-e', CLIENT, port, at('prompts.json')], words = net ? ['nsenter', '-t', String(child.pid), '-n', ...ask] : ask;
  const client = spawn(words[0], words.slice(1));
  let answers = '';
  client.stdout.on('data', (d) => { answers += d; });
  client.stderr.on('data', (d) => { answers += d; });
  await new Promise((done) => { client.on('exit', done); });
  const counts = /^\{.*\}$/m.test(answers) ? JSON.parse(/^\{.*\}$/m.exec(answers)[0]) : { error: answers.slice(-500) };
  check(counts.good > 0 && counts.bad > 0, JSON.stringify(counts));
  const finder = new Finder(prompts), running = finder.below(at('default'));
  const out = net ? net.packets() - net.before : null;
  const knocked = net && net.knock() && (await sleep(100), net.packets() - net.before);
  const ended = new Promise((done) => { child.on('exit', done); });
  child.kill('SIGTERM');
  await ended;
  writeFileSync(at('default', 'said'), said);
  const seen = finder.below(at('default')), found = [...running.found, ...seen.found];
  console.log(`  ${prompts.length} prompts: ${counts.good} answered, ${counts.bad} refused; ${seen.files} files: ${found.length} found`);
  if (net) console.log(`  figure silence_packets out=${out} after_one_was_sent=${knocked}`);
  else console.log('  the packets are not counted: that needs root, ip, unshare and a kernel that makes veth pairs');
  equal(found.slice(0, 5), []);
  if (net) equal([out, knocked > 0], [0, true], 'packets that left, and whether one that is sent is counted');
});

test('the commands leave no file at all', () => {
  if (!existsSync(program) || !anyModel()) skip('there is no program, or no model');
  for (const n of ['home', 'tmp', 'cwd']) mkdirSync(at('commands', n), { recursive: true });
  const env = { PATH: process.env.PATH, HOME: at('commands', 'home'), TMPDIR: at('commands', 'tmp') };
  const words = [...all].filter((w) => w.length < 400).slice(0, 4);
  if (!words.length) skip('no prompts were gathered');
  const run = (args, input) => spawnSync(program, args, { encoding: 'utf8', env, cwd: at('commands', 'cwd'), input }).status;
  for (const w of words) {
    const ends = [run(['run', anyModel(), '-n', '2', '-p', w]), run(['run', anyModel(), '-n', '2'], w), run(['embed', anyModel()], w),
      run(['tokenize', anyModel()], w)];
    check(ends.some((code) => code === 0), `nothing ran: ${ends}`);
  }
  equal(new Finder(words).below(at('commands')), { files: 0, bytes: 0, found: [] });
});

process.on('exit', () => rmSync(base, { recursive: true, force: true }));
await main('test_silence');
