// record.cjs - loaded in front of a test (node --require): what the test sends, and what its nodes write, stays in the folder
// NIGH_RECORD for tests/node/test_silence.mjs.
//   sent/N    every byte that one of its connections sent: its prompts are in there
//   said/N    what a program that it started wrote to standard output and standard error
//   kept/N    databases with their journals, as they were when a node was told to end
// Nothing that lies below NIGH_RECORD is deleted; TMPDIR should be there. But for the folder of test_place_canary.mjs in which
// it has a core dump written on purpose, to see that its own search finds what is in it.
const fs = require('node:fs'), net = require('node:net'), path = require('node:path'), child = require('node:child_process');
const { Duplex } = require('node:stream');

const folder = process.env.NIGH_RECORD, inside = (p) => path.resolve(String(p)).startsWith(folder + path.sep);
const name = (kind) => {
  const dir = path.join(folder, kind);
  fs.mkdirSync(dir, { recursive: true });
  return path.join(dir, `${process.pid}-${name.next++}`);
};
name.next = 0;
const append = (file, bytes) => fs.appendFileSync(file, bytes);

// A connection that this process opened; those it accepted are a provider's.
const file = Symbol('file');
net.Socket.prototype.write = function write(chunk, encoding, done) {
  if (!this.server && !this._server && chunk?.length && this instanceof net.Socket && this.constructor === net.Socket) {
    this[file] ??= name('sent');
    append(this[file], typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8') : chunk);
  }
  return Duplex.prototype.write.call(this, chunk, encoding, done);
};

function databases(dir, out = []) {
  for (const e of fs.readdirSync(dir, { withFileTypes: true })) {
    const at = path.join(dir, e.name);
    if (e.isDirectory() && !['sent', 'said', 'kept'].includes(e.name)) databases(at, out);
    else if (/\.db(-wal|-shm|-journal)?$/.test(e.name)) out.push(at);
  }
  return out;
}
const { spawn } = child;
child.spawn = (command, ...rest) => {
  const made = spawn(command, ...rest), out = name('said'), { kill } = made;
  made.stdout?.on('data', (d) => append(out, d));
  made.stderr?.on('data', (d) => append(out, d));
  made.kill = (signal) => {
    for (const f of databases(folder)) fs.copyFileSync(f, `${name('kept')}-${path.basename(f)}`);
    return kill.call(made, signal);
  };
  return made;
};
const { rmSync } = fs;
fs.rmSync = (p, options) => (inside(p) && !/nigh-dump-/.test(p) ? undefined : rmSync(p, options));
require('node:module').syncBuiltinESMExports();
