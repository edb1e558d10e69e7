// node.mjs - starts a node for a test, counts the tests, and cleans up. Used by every tests/node and tests/web test.
// A test file ends with the counted line: "name: N passed, N failed, N skipped".
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const program = path.resolve(process.env.NIGH ?? path.join(root, 'build/nigh'));
const shared = process.env.NIGH_SHARED ?? path.join(root, '../shared');
export const tiny = path.join(shared, 'golden/stories260K.gguf');
export const shipped = path.join(root, 'models/nigh-stories.gguf');
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// A model for a test: the tiny one, or the shipped one where there is no reference data; null: none of both.
export const anyModel = () => [tiny, shipped].find((file) => existsSync(file)) ?? null;

export const modelName = path.basename(anyModel() ?? 'none.gguf', '.gguf');

// A folder of the test's own, removed at its end.
export function folder(name) {
  const made = mkdtempSync(path.join(tmpdir(), `nigh-${name}-`));
  process.on('exit', () => rmSync(made, { recursive: true, force: true }));
  return made;
}

// Begins the jobs in order, `lanes` of them at a time; an array of what they promise. For what mostly waits.
export function inLanes(lanes, jobs) {
  const begun = [];
  return jobs.map((job, i) => (begun[i] = i < lanes ? job() : begun[i - lanes].then(job, job)));
}

// Numbers in [0, 1) from a seed, the same everywhere (mulberry32).
export function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

let passed = 0,
  failed = 0,
  skipped = 0;
const cases = [];
export const test = (name, run) => cases.push({ name, run });
// Cases that need what was set up: const up = needing(n), where n may be { error } instead.
export const needing = (made) => (name, run) =>
  test(name, () => {
    if (made.error) throw made.error;
    return run();
  });
export const skip = (why) => {
  const e = new Error(why);
  e.skipped = true;
  throw e;
};
export function check(ok, text) {
  if (!ok) throw new Error(text);
}
export function equal(got, want, text = 'value') {
  const a = JSON.stringify(got),
    b = JSON.stringify(want);
  if (a !== b) throw new Error(`${text}: got ${a}, wanted ${b}`);
}

export async function main(name) {
  const only = process.argv[2];
  for (const c of cases) {
    if (only && !new RegExp(only).test(c.name)) continue;
    try {
      await c.run();
      passed++;
    } catch (e) {
      if (e.skipped) {
        skipped++;
        console.log(`  skipped ${c.name}: ${e.message}`);
        continue;
      }
      failed++;
      console.log(`  FAILED ${c.name}: ${e.stack ?? e}`);
    }
  }
  for (const n of nodes) await n.stop();
  for (const text of badEnds) {
    failed++;
    console.log(`  FAILED at the end: ${text}`);
  }
  console.log(`${name}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exit(failed ? 1 : 0);
}

const nodes = new Set();
const badEnds = []; // nodes that did not end well when asked to: also what a sanitizer found
// Memory says nothing about us when a sanitizer keeps what was freed.
export const sanitized = /build-/.test(program);

// A new key in the key file of this $NIGH_HOME, with these rights.
export const makeKey = (home, ...args) =>
  spawnSync(program, ['serve', '--new-key', ...args], { encoding: 'utf8', env: { ...process.env, NIGH_HOME: home } })
    .stdout.trim();

// The parts of an answer's x-placement: { tier, target, ... }.
export const placement = (response) =>
  Object.fromEntries(
    (response.headers.get('x-placement') ?? '').split(';').map((part) => {
      const at = part.indexOf('=');
      return [part.slice(0, at), part.slice(at + 1)];
    }),
  );

// What each thread of a process has stood in line for a core so far, in ms; nothing where the system does not say.
function inLine(pid) {
  const waited = new Map();
  try {
    for (const t of readdirSync(`/proc/${pid}/task`))
      waited.set(t, Number(readFileSync(`/proc/${pid}/task/${t}/schedstat`, 'utf8').split(' ')[1]) / 1e6);
  } catch {
    // a thread that has just ended, or no Linux
  }
  return waited;
}

// A watch for limits of time: what it says has passed is without the time that a thread of the node (which may have come
// since) and one of this process stood in line for a core. On a quiet machine that is next to nothing, so a limit means
// what it says; on a busy one it does not fail for the neighbours.
export function watch(node) {
  const begun = performance.now(), before = new Map([...inLine(process.pid), ...inLine(node?.child.pid ?? 0)]);
  const longest = (pid) => Math.max(0, ...[...inLine(pid)].map(([thread, ms]) => ms - (before.get(thread) ?? 0)));
  return (now = node) => performance.now() - begun - longest(process.pid) - longest(now?.child.pid ?? 0);
}

export class Node {
  // args: more words for `nigh serve`; home: its $NIGH_HOME (a new empty one by default); under: a command in front of it.
  static async start(args = [], { model = anyModel(), home, env = {}, cwd, under = [], run = program } = {}) {
    if (!existsSync(run)) skip('build/nigh is not built');
    if (!model) skip('no model is here: neither the reference data nor models/nigh-stories.gguf');
    const n = new Node();
    n.home = home ?? mkdtempSync(path.join(tmpdir(), 'nigh-test-'));
    n.ownsHome = !home;
    const words = [...under, run, 'serve', model, '--port', '0', ...args];
    n.child = spawn(words[0], words.slice(1), { cwd, env: { ...process.env, ...env, NIGH_HOME: n.home } });
    n.exit = new Promise((done) => n.child.on('exit', (code, signal) => done({ code, signal })));
    n.out = '';
    n.err = '';
    n.child.stderr.on('data', (d) => {
      n.err += d;
    });
    nodes.add(n);
    await new Promise((done, fail) => {
      n.child.stdout.on('data', (d) => {
        n.out += d;
        if (/is at http:\/\/\S+/.test(n.out)) done();
      });
      n.child.on('exit', (code) => fail(new Error(`nigh serve ended with ${code}: ${n.err}`)));
      setTimeout(() => fail(new Error('nigh serve did not start within 30 s')), 30000).unref();
    });
    n.url = /is at (http:\/\/\S+)/.exec(n.out)[1];
    n.port = Number(/:(\d+)$/.exec(n.url)[1]);
    n.host = `127.0.0.1:${n.port}`;
    return n;
  }

  async stop(signal = 'SIGTERM') {
    nodes.delete(this);
    this.child.kill(signal);
    const killer = setTimeout(() => this.child.kill('SIGKILL'), 15000);
    const end = await this.exit;
    clearTimeout(killer);
    if (signal === 'SIGTERM' && end.code !== 0)
      badEnds.push(`a node ended with ${end.code ?? end.signal}: ${this.err.slice(-4000)}`);
    if (this.ownsHome) rmSync(this.home, { recursive: true, force: true });
    return end;
  }

  alive() {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async metric(name, headers = {}) {
    const text = await (await fetch(`http://${this.host}/metrics`, { headers })).text();
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)[1]);
  }

  post(route, body, headers = {}, options = {}) {
    return fetch(`http://${this.host}${route}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...options,
    });
  }

  // Sends bytes as they are and gathers what comes back until the other side closes or `wait` ms passed without a word;
  // with `once` until one answer of known length is whole (of HEAD its head).
  raw(bytes, { wait = 400, half = false, host = '127.0.0.1', once = false } = {}) {
    const head = String(bytes).startsWith('HEAD ');
    return new Promise((done) => {
      const socket = net.connect(this.port, host);
      let got = Buffer.alloc(0),
        closed = false,
        timer;
      const end = () => {
        clearTimeout(timer);
        socket.destroy();
        done({ text: got.toString('latin1'), closed, ...parse(got.toString('latin1')) });
      };
      const arm = () => {
        clearTimeout(timer);
        timer = setTimeout(end, wait);
      };
      socket.on('data', (d) => {
        got = Buffer.concat([got, d]);
        if (once && isWhole(got.toString('latin1'), head)) end();
        else arm();
      });
      socket.on('error', () => {
        closed = true;
        end();
      });
      socket.on('close', () => {
        closed = true;
        end();
      });
      socket.on('end', () => {
        closed = true;
      });
      socket.on('connect', () => {
        arm();
        for (const part of Array.isArray(bytes) ? bytes : [bytes])
          socket.write(Buffer.isBuffer(part) ? part : Buffer.from(part, 'latin1'));
        if (half) socket.end();
      });
    });
  }
}

function isWhole(text, head) {
  const at = text.indexOf('\r\n\r\n'),
    length = /\r\ncontent-length: (\d+)\r\n/i.exec(text);
  if (at < 0) return false;
  return head || /^HTTP\/1.1 (204|304)/.test(text) || (length !== null && text.length - at - 4 >= Number(length[1]));
}

// The status of the first answer, all statuses, and the fields of the first.
function parse(text) {
  const statuses = [...text.matchAll(/HTTP\/1\.[01] (\d{3})[^\r]*\r\n/g)]
    .map((m) => Number(m[1]))
    .filter((s) => s !== 100);
  const head = text.replace(/^HTTP\/1\.1 100 [^\r]*\r\n\r\n/, '').split('\r\n\r\n')[0];
  const fields = {};
  for (const line of head.split('\r\n').slice(1)) {
    const at = line.indexOf(':');
    const name = line.slice(0, at).toLowerCase();
    fields[name] = name in fields ? `${fields[name]}|${line.slice(at + 1).trim()}` : line.slice(at + 1).trim();
  }
  return { status: statuses[0] ?? 0, statuses, fields };
}
