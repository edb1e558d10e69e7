// test_access.mjs - who may talk to a node: hosts, origins and keys, before any body is read (docs/security-http.md).
import { chmodSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { Node, anyModel, check, equal, folder, main, program, skip, test } from './node.mjs';

const routes = [
  // method, path, is it open to all?
  ['GET', '/health', true],
  ['HEAD', '/health', true],
  ['GET', '/', true],
  ['GET', '/console.js', true],
  ['GET', '/console.css', true],
  ['GET', '/icon.svg', true],
  ['GET', '/metrics', false],
  ['GET', '/v1/models', false],
  ['GET', '/v1/models/x', false],
  ['GET', '/api/v1/models', false],
  ['GET', '/models', false],
  ['POST', '/v1/completions', false],
  ['POST', '/v1/chat/completions', false],
  ['POST', '/v1/embeddings', false],
  ['POST', '/api/v1/completions', false],
  ['POST', '/completions', false],
  ['GET', '/v1/completions', false],
  ['GET', '/nothing', false],
  ['POST', '/', false],
  ['DELETE', '/v1/models/x', false],
  ['GET', '/v1', false],
  ['GET', '/metrics/', false],
];
const request = (n, method, target, fields) =>
  method === 'POST'
    ? `POST ${target} HTTP/1.1\r\n${fields}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`
    : `${method} ${target} HTTP/1.1\r\n${fields}\r\n`;

test('hosts: 29 names on loopback', async () => {
  const n = await Node.start(['--allow-host', 'nigh.example', '--allow-host', 'Other.Example:9999']);
  const p = n.port;
  const rows = [
    [`127.0.0.1:${p}`, true],
    [`localhost:${p}`, true],
    [`LOCALHOST:${p}`, true],
    [`[::1]:${p}`, true],
    ['nigh.example', true],
    [`nigh.example:${p}`, true],
    ['other.example:9999', true],
    ['other.example', false],
    ['evil.com', false],
    [`evil.com:${p}`, false],
    [`127.0.0.1.evil.com:${p}`, false],
    [`localhost.:${p}`, false],
    [`localhost.evil.com:${p}`, false],
    [`0.0.0.0:${p}`, false],
    [`[::]:${p}`, false],
    [`[::ffff:127.0.0.1]:${p}`, false],
    [`2130706433:${p}`, false],
    [`0x7f.1:${p}`, false],
    [`127.1:${p}`, false],
    [`x.local:${p}`, false],
    [`x.internal:${p}`, false],
    ['', false],
    [`user@127.0.0.1:${p}`, false],
    ['127.0.0.1', false],
    [`127.0.0.1:${p + 1}`, false],
    [`127.0.0.1:0${p}`, true],
    ['nigh.example:80', true],
    ['nigh.example:81', false],
    ['other.example:80', false],
  ];
  for (const [host, good] of rows)
    for (const [method, target] of routes) {
      const r = await n.raw(request(n, method, target, `Host: ${host}\r\n`), { wait: 200, once: true });
      if (good) check(![421, 403].includes(r.status), `${host} ${method} ${target}: ${r.status}`);
      else check(r.status === 421 || r.status === 400, `${host} ${method} ${target}: ${r.status}`);
      if (r.status === 400 && good && method !== 'POST') throw new Error(`${host}: 400`);
    }
  await n.stop();
});

test('origins: 16 origins x all routes x preflight', async () => {
  const n = await Node.start(['--allow-origin', 'https://app.example', '--allow-origin', 'chrome-extension://abc']);
  const own = `http://127.0.0.1:${n.port}`;
  const rows = [
    [own, true],
    [`http://localhost:${n.port}`, true],
    ['https://app.example', true],
    ['chrome-extension://abc', true],
    ['null', false],
    ['file://', false],
    ['http://evil.com', false],
    ['https://app.example.evil.com', false],
    ['http://app.example', false],
    ['https://app.example:444', false],
    ['https://APP.example', false],
    [`https://127.0.0.1:${n.port}`, false],
    ['http://127.0.0.1', false],
    [`http://127.0.0.1:${n.port}/`, false],
    [`http://0.0.0.0:${n.port}`, false],
    ['chrome-extension://abd', false],
    [`${own}, http://evil.com`, false],
  ];
  for (const [origin, good] of rows) {
    for (const [method, target] of routes) {
      const r = await n.raw(request(n, method, target, `Host: ${n.host}\r\nOrigin: ${origin}\r\n`), {
        wait: 200,
        once: true,
      });
      equal(r.status === 403, !good, `${origin} ${method} ${target}`);
      equal(r.fields['access-control-allow-origin'], good ? origin : undefined, `${origin} ${method} ${target}`);
      check(/Origin/.test(r.fields.vary ?? ''), 'Vary: Origin');
    }
    const pre = await n.raw(
      `OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: ${n.host}\r\nOrigin: ${origin}\r\nAccess-Control-Request-Method: POST\r\n` +
        'Access-Control-Request-Headers: authorization,content-type,x-stainless-os\r\nAccess-Control-Request-Private-Network: true\r\n\r\n',
      { once: true },
    );
    equal(pre.status, good ? 204 : 403, `preflight of ${origin}`);
    equal(
      /x-stainless-retry-count/.test(pre.fields['access-control-allow-headers'] ?? ''),
      good,
      `preflight fields of ${origin}`,
    );
    equal(
      pre.fields['access-control-allow-private-network'],
      good && !origin.startsWith('http://') ? 'true' : undefined,
      `private network for ${origin}`,
    );
  }
  await n.stop();
});

test('another site: simple requests, images and forms have no effect', async () => {
  const n = await Node.start();
  for (const mode of ['no-cors', 'cors', 'navigate', 'websocket'])
    for (const [method, target] of routes) {
      const r = await n.raw(
        request(n, method, target, `Host: ${n.host}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: ${mode}\r\n`),
        { wait: 200, once: true },
      );
      const link =
        mode === 'navigate' && method === 'GET' && ['/', '/console.js', '/console.css', '/icon.svg'].includes(target);
      equal(r.status === 403, !link, `${mode} ${method} ${target}: ${r.status}`);
    }
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonp',
    'text/json',
  ])
    equal(
      (
        await n.raw(
          `POST /v1/completions HTTP/1.1\r\nHost: ${n.host}\r\nContent-Type: ${type}\r\nContent-Length: 14\r\n\r\n{"prompt":"a"}`,
          { once: true },
        )
      ).status,
      415,
      type,
    );
  for (const [method, target] of routes.filter((r) => r[0] === 'GET'))
    check(!(await n.raw(request(n, method, target, `Host: ${n.host}\r\n`), { once: true })).text.includes('evil'), target);
  await n.stop();
});

test('keys: all routes x all forms of a key', async () => {
  const home = folder('keys');
  const make = () =>
    spawnSync(program, ['serve', '--new-key'], { env: { ...process.env, NIGH_HOME: home }, encoding: 'utf8' });
  const first = make(),
    second = make();
  equal([first.status, second.status], [0, 0]);
  const key = first.stdout.trim(),
    other = second.stdout.trim();
  check(/^nigh-[0-9a-f]{64}$/.test(key) && key !== other, 'two different keys');
  const file = path.join(home, 'keys/api');
  equal(statSync(file).mode & 0o777, 0o600, 'mode of the key file');
  check(!readFileSync(file, 'utf8').includes(key.slice(5)), 'the key itself is not kept');
  const n = await Node.start([], { home });
  const wrong = key.slice(0, -1) + (key.endsWith('0') ? '1' : '0');
  const forms = [
    ['none', '', false],
    ['right bearer', `Authorization: Bearer ${key}\r\n`, true],
    ['second key', `Authorization: Bearer ${other}\r\n`, true],
    ['right x-api-key', `x-api-key: ${key}\r\n`, true],
    ['small letters', `authorization: bearer ${key}\r\n`, true],
    ['wrong', `Authorization: Bearer ${wrong}\r\n`, false],
    ['wrong x-api-key', `x-api-key: ${wrong}\r\n`, false],
    ['right and wrong', `Authorization: Bearer ${key}\r\nx-api-key: ${wrong}\r\n`, false],
    ['wrong and right', `Authorization: Bearer ${wrong}\r\nx-api-key: ${key}\r\n`, false],
    ['both right', `Authorization: Bearer ${key}\r\nx-api-key: ${other}\r\n`, true],
    ['basic', `Authorization: Basic ${Buffer.from(key).toString('base64')}\r\n`, false],
    ['bare', `Authorization: ${key}\r\n`, false],
    ['empty', 'Authorization: Bearer \r\n', false],
    ['prefix', `Authorization: Bearer ${key.slice(0, 40)}\r\n`, false],
    ['longer', `Authorization: Bearer ${key}0\r\n`, false],
    ['hash', `Authorization: Bearer ${readFileSync(file, 'utf8').split(' ')[0]}\r\n`, false],
    ['in the query', '', false, `?api_key=${key}`],
    ['two', `Authorization: Bearer ${key}\r\nAuthorization: Bearer ${key}\r\n`, 400],
  ];
  for (const [name, fields, good, query = ''] of forms)
    for (const [method, target, open] of routes) {
      const r = await n.raw(request(n, method, target + query, `Host: ${n.host}\r\n${fields}`), {
        wait: 200,
        once: true,
      });
      if (good === 400) {
        equal(r.status, 400, `${name} ${target}`);
        continue;
      }
      equal(r.status === 401, !good && !open, `${name}: ${method} ${target}: ${r.status}`);
    }
  const before = await n.raw(
    `POST /v1/completions HTTP/1.1\r\nHost: ${n.host}\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n`,
    { wait: 200 },
  );
  equal([before.status, before.closed], [401, true], 'refused before a large body');
  await n.stop();
});

test('off loopback a key is needed, and its file must be ours alone', () => {
  const home = folder('keys'),
    model = anyModel();
  if (!model) skip('no model is here');
  const run = (...args) =>
    spawnSync(program, ['serve', model, '--port', '0', ...args], {
      env: { ...process.env, NIGH_HOME: home },
      encoding: 'utf8',
      timeout: 5000,
    });
  for (const host of ['0.0.0.0', '::', '192.168.0.1', '10.1.2.3']) {
    const r = run('--host', host);
    equal(r.status, 9, `${host} without a key: ${r.stderr}`);
  }
  equal(run('--host', 'example.com').status !== 0, true, 'a name');
  const file = path.join(home, 'k');
  const made = spawnSync(program, ['serve', '--new-key', '--key-file', file], { encoding: 'utf8' });
  equal(made.status, 0);
  chmodSync(file, 0o644);
  equal(run('--key-file', file).status, 1, 'readable by others');
  chmodSync(file, 0o600);
  symlinkSync(file, path.join(home, 'link'));
  check(run('--key-file', path.join(home, 'link')).status !== 0, 'a link');
  check(run('--key-file', path.join(home, 'none')).status !== 0, 'missing');
  for (const text of ['', 'nonsense\n', 'sha256:12\n', `sha256:${'g'.repeat(64)} 1\n`]) {
    writeFileSync(file, text, { mode: 0o600 });
    equal(run('--key-file', file).status, 1, `file ${JSON.stringify(text)}`);
  }
});

test('on 0.0.0.0 the same checks hold, also for the address one came in by', async () => {
  const home = folder('keys');
  const key = spawnSync(program, ['serve', '--new-key'], {
    env: { ...process.env, NIGH_HOME: home },
    encoding: 'utf8',
  }).stdout.trim();
  const n = await Node.start(['--host', '0.0.0.0'], { home });
  const ask = async (host, to = '127.0.0.1', fields = '') =>
    (
      await n.raw(`GET /v1/models HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${key}\r\n${fields}\r\n`, {
        host: to,
        once: true,
      })
    ).status;
  equal(await ask(`127.0.0.1:${n.port}`), 200);
  equal(await ask(`127.0.0.2:${n.port}`, '127.0.0.2'), 200, 'the address of the connection');
  equal(await ask(`127.0.0.2:${n.port}`, '127.0.0.1'), 421, 'an address of another connection');
  equal(await ask(`0.0.0.0:${n.port}`), 421);
  equal(await ask(`evil.com:${n.port}`), 421);
  equal(await ask(`127.0.0.1:${n.port}`, '127.0.0.1', 'Origin: null\r\n'), 403);
  await n.stop();
});

test('every answer carries the safety fields', async () => {
  const n = await Node.start();
  for (const [method, target] of routes) {
    const r = await n.raw(request(n, method, target, `Host: ${n.host}\r\nx-request-id: my.id-1\r\n`), {
      wait: 200,
      once: true,
    });
    equal(r.fields['x-content-type-options'], 'nosniff', target);
    equal(r.fields['cross-origin-opener-policy'], 'same-origin', target);
    equal(r.fields['cross-origin-embedder-policy'], 'require-corp', target);
    equal(r.fields['cross-origin-resource-policy'], 'same-origin', target);
    check(
      /frame-ancestors 'none'/.test(r.fields['content-security-policy']) &&
        !/unsafe/.test(r.fields['content-security-policy'].replace("'wasm-unsafe-eval'", '')),  // the engine in the tab
      target,
    );
    equal(r.fields['x-request-id'], 'my.id-1', target);
  }
  check(
    (await n.raw(request(n, 'GET', '/health', `Host: ${n.host}\r\nx-request-id: a b\r\n`), { once: true })).fields[
      'x-request-id'
    ].startsWith('req-'),
    'an odd id is not repeated',
  );
  await n.stop();
});

await main('test_access');
