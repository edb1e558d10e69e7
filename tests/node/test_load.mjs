// test_load.mjs - many clients, bad clients, and the end: no sequence is left behind, nobody waits for ever.
// NIGH_SEED changes the random choices; the seed is printed when a case fails.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { Node, anyModel, check, equal, main, needing, random as numbers, sanitized, sleep, test, watch } from './node.mjs';

const begun = Number(process.env.NIGH_SEED ?? 1),
  random = numbers(begun);
const n = await Node.start(['--parallel', '4']).catch((e) => ({ error: e }));
const up = needing(n);
const long = { prompt: 'Once upon a time', max_tokens: 480, ignore_eos: true, stream: true };
const bytes = (node, body, route = '/v1/completions') => {
  const text = JSON.stringify(body);
  return `POST ${route} HTTP/1.1\r\nHost: ${node.host}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
};
// Waits until nothing runs and waits; fails after `ms`.
const quiet = async (node, ms) => {
  for (const passed = watch(node), end = Date.now() + 20000; ;) {
    const now = [await node.metric('nigh_running_sequences'), await node.metric('nigh_queued_sequences')];
    if (now[0] === 0 && now[1] === 0) return;
    check(passed() < ms && Date.now() < end, `${now[0]} running and ${now[1]} waiting after ${ms} ms (seed ${begun})`);
    await sleep(10);
  }
};
// Waits until no token is made any more: all that have a place wait for their clients.
const stalled = async (node) => {
  for (let made = -1, same = 0, end = Date.now() + 60000; same < 3; await sleep(100)) {
    const now = await node.metric('nigh_generated_tokens_total');
    check(Date.now() < end, 'those who do not read are written to without end');
    same = now === made ? same + 1 : 0;
    made = now;
  }
};
const files = (node) =>
  spawnSync('ls', [`/proc/${node.child.pid}/fd`], { encoding: 'utf8' }).stdout.split('\n').length;
const resident = (node) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.child.pid}/status`, 'utf8'))[1]) * 1024;

up('R16 100 random connects and drops leave no running sequence', async () => {
  const before = files(n);
  await Promise.all(
    Array.from({ length: 100 }, async () => {
      const stream = random() < 0.7,
        text = bytes(n, { ...long, stream, n: 1 + Math.floor(random() * 2) });
      const cut = random() < 0.2 ? Math.floor(random() * text.length) : text.length,
        kind = random(),
        after = Math.floor(random() * 60);
      await sleep(Math.floor(random() * 400));
      await new Promise((done) => {
        const s = net.connect(n.port, '127.0.0.1');
        s.on('error', () => {});
        s.on('close', done);
        s.on('data', () => {});
        s.on('connect', async () => {
          s.write(text.slice(0, cut));
          await sleep(after);
          if (kind < 0.4) s.resetAndDestroy();
          else if (kind < 0.7) s.destroy();
          else {
            s.end();
            setTimeout(() => s.destroy(), 500);
          }
        });
      });
    }),
  );
  await quiet(n, sanitized ? 5000 : 600);
  check(n.alive(), 'the node died');
  await sleep(200);
  check(files(n) <= before + 4, `${files(n)} open files, ${before} before (seed ${begun})`);
});

up('R16 a client that leaves frees its place within 250 ms', async () => {
  for (const stream of [true, false])
    for (const how of ['resetAndDestroy', 'destroy', 'end']) {
      const s = net.connect(n.port, '127.0.0.1');
      s.on('error', () => {});
      s.on('data', () => {});
      s.write(bytes(n, { ...long, prompt: 'The', n: 8, stream }));
      await sleep(25);
      s[how]();
      await quiet(n, sanitized ? 5000 : 250);
      s.destroy();
    }
});

up('1,000 requests over 32 connections all answer', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
  const one = (i) =>
    new Promise((done, fail) => {
      const body = JSON.stringify({ prompt: `Once ${i}`, max_tokens: 4, seed: i, stream: i % 3 === 0 });
      const r = http.request(
        {
          agent,
          port: n.port,
          host: '127.0.0.1',
          method: 'POST',
          path: '/v1/completions',
          headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        },
        (answer) => {
          let text = '';
          answer.on('data', (d) => {
            text += d;
          });
          answer.on('end', () => done({ status: answer.statusCode, text, streamed: i % 3 === 0 }));
        },
      );
      r.on('error', fail);
      r.end(body);
    });
  const all = await Promise.all(Array.from({ length: 1000 }, (_, i) => one(i)));
  equal(all.filter((a) => a.status !== 200).length, 0, 'refused');
  check(
    all.every((a) => (a.streamed ? a.text.endsWith('data: [DONE]\n\n') : JSON.parse(a.text).choices.length === 1)),
    'whole answers',
  );
  agent.destroy();
  await quiet(n, 500);
});

test('R18 a full queue is 429 with a time to come back, and those who were let in are answered', async () => {
  const small = await Node.start(['--parallel', '1', '--queue', '3']);
  const hold = Array.from({ length: 4 }, () =>
    small.post('/v1/completions', { ...long, max_tokens: 200, stream: false }),
  );
  const wave = await Promise.all(
    Array.from({ length: 40 }, () => small.post('/v1/completions', { ...long, max_tokens: 200, stream: false })),
  );
  const refused = wave.filter((r) => r.status === 429);
  check(refused.length >= 30, `${refused.length} refused`);
  for (const r of refused) {
    equal(
      [r.headers.get('retry-after'), r.headers.get('retry-after-ms'), r.headers.get('x-should-retry')],
      ['1', '500', 'true'],
    );
    equal((await r.json()).error.code, 'queue_full');
  }
  for (const r of await Promise.all(hold)) check([200, 429].includes(r.status), r.status);
  check(
    wave.some((r) => r.status === 200) || (await Promise.all(hold)).some((r) => r.status === 200),
    'some were answered',
  );
  equal((await small.metric('nigh_refused_busy_total')) >= refused.length, true);
  await quiet(small, 1000);
  await small.stop();
});

up('R15 a client that does not read stops its own text, not that of others', async () => {
  const slow = [];
  for (let i = 0; i < 2; i++) {
    // Six answers one behind the other, with logprobs, fill the socket's buffers (some 6 MB) and our 64 KiB.
    const s = net.connect({ port: n.port, host: '127.0.0.1' });
    s.on('error', () => {});
    s.pause();
    s.write(bytes(n, { ...long, n: 8, logprobs: 20 }).repeat(6));
    slow.push(s);
  }
  await stalled(n);
  equal(await n.metric('nigh_running_sequences'), 4, 'places that wait for a client');
  const before = resident(n),
    passed = watch(n);
  equal((await n.post('/v1/completions', { prompt: 'The cat', max_tokens: 20 })).status, 200);
  check(sanitized || passed() < 3000, `others wait: ${passed()} ms`);
  check(sanitized || resident(n) - before < 16 << 20, `grew by ${resident(n) - before}`);
  for (const s of slow) s.destroy();
  await quiet(n, 1000);
});

up('a slow reader gets the whole text in the end', async () => {
  const got = await new Promise((done) => {
    const s = net.connect(n.port, '127.0.0.1');
    let text = '';
    s.write(
      bytes(n, { ...long, max_tokens: 200, logprobs: 20 }).replace(
        'Content-Length',
        'Connection: close\r\nContent-Length',
      ),
    );
    s.on('data', (d) => {
      text += d;
      s.pause();
      setTimeout(() => s.resume(), 2);
    });
    s.on('close', () => done(text));
  });
  check(got.includes('data: [DONE]'), 'the end is there');
  equal((got.match(/"finish_reason":null/g) ?? []).length >= 190, true, 'events');
});

up('one whole event in each write: a reader that parses each piece on its own is not confused', async () => {
  await new Promise((done, fail) => {
    const s = net.connect(n.port, '127.0.0.1');
    let head = true,
      left = '';
    s.setNoDelay(true);
    s.write(bytes(n, { ...long, max_tokens: 50 }).replace('Content-Length', 'Connection: close\r\nContent-Length'));
    s.on('data', (d) => {
      left += d.toString();
      if (head) {
        const at = left.indexOf('\r\n\r\n');
        if (at < 0) return;
        left = left.slice(at + 4);
        head = false;
      }
      for (let m; (m = /^([0-9a-f]+)\r\n/.exec(left)) && left.length >= m[0].length + parseInt(m[1], 16) + 2;) {
        const piece = left.slice(m[0].length, m[0].length + parseInt(m[1], 16));
        left = left.slice(m[0].length + piece.length + 2);
        if (piece && (!piece.startsWith('data: ') || !piece.endsWith('\n\n')))
          fail(new Error(`a chunk that is no whole event: ${piece.slice(0, 100)}`));
      }
    });
    s.on('close', done);
  });
});

test('R20 SIGTERM: what runs ends, what comes is refused, and the streams that take too long say so', async () => {
  const node = await Node.start();
  const answer = node.post('/v1/completions', { prompt: 'Once', max_tokens: 300, ignore_eos: true });
  await sleep(30);
  const end = node.stop();
  equal((await answer).status, 200, 'the answer that was being written');
  await sleep(50);
  equal(
    await fetch(`http://${node.host}/health`).then(
      () => 'answered',
      () => 'refused',
    ),
    'refused',
  );
  equal((await end).code, 0);
});

test('a second signal ends at once', async () => {
  const node = await Node.start();
  const s = net.connect(node.port, '127.0.0.1');
  s.on('error', () => {});
  s.pause();
  s.write(bytes(node, { ...long, n: 8, logprobs: 20 }));
  s.write(bytes(node, { ...long, n: 8, logprobs: 20 }));
  await sleep(300);
  const start = Date.now(),
    end = node.stop('SIGINT');
  await sleep(100);
  node.child.kill('SIGINT');
  await end;
  check(Date.now() - start < 1000, 'it took long');
  s.destroy();
});

test('killed, it serves again within a second', async () => {
  for (let i = 0; i < 5; i++) {
    const node = await Node.start();
    await node.stop('SIGKILL');
    const passed = watch(),
      again = await Node.start();
    equal((await fetch(`http://${again.host}/health`)).status, 200);
    check(passed(again) < 1000, `${passed(again)} ms`);
    await again.stop();
  }
});

up('R17 2,000 connects, streams and aborts: files and memory stay', async () => {
  const round = async (count) => {
    for (let i = 0; i < count; i += 20)
      await Promise.all(
        Array.from(
          { length: 20 },
          () =>
            new Promise((done) => {
              const s = net.connect(n.port, '127.0.0.1');
              s.on('error', () => {});
              s.on('close', done);
              s.write(bytes(n, { ...long, max_tokens: 20 }));
              s.once('data', () => s.resetAndDestroy());
              setTimeout(() => s.destroy(), 2000).unref();
            }),
        ),
      );
    await quiet(n, 1000);
    await sleep(300);
  };
  await round(400);
  const before = [files(n), resident(n)];
  await round(1600);
  check(files(n) <= before[0] + 2, `${files(n)} files, ${before[0]} before`);
  check(sanitized || resident(n) - before[1] < 2 << 20, `grew by ${resident(n) - before[1]}`);
});

test('figures: start, idle memory, first token', async () => {
  const start = performance.now(),
    node = await Node.start();
  const ready = performance.now() - start,
    idle = resident(node) / 1e6;
  const firsts = [];
  for (let i = 0; i < 20; i++) {
    const t = performance.now(),
      r = await node.post('/v1/completions', { prompt: `Once upon a time ${i}`, max_tokens: 2, stream: true });
    await r.body.getReader().read();
    firsts.push(performance.now() - t);
    await r.body.cancel().catch(() => {});
  }
  firsts.sort((a, b) => a - b);
  console.log(
    `  ${anyModel().split('/').pop()}: serving after ${ready.toFixed(0)} ms, idle ${idle.toFixed(1)} MB, ` +
      `first token p50 ${firsts[10].toFixed(1)} ms, max ${firsts[19].toFixed(1)} ms`,
  );
  check(sanitized || idle < 60, `idle memory ${idle} MB`);
  check(firsts[10] < 100, `first token after ${firsts[10]} ms`);
  await node.stop();
});

if (n.error)
  test('the node starts', () => {
    throw n.error;
  });
await main('test_load');
