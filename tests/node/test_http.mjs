// test_http.mjs - HTTP/1.1 as RFC 9110 and 9112 want it, over raw sockets: the groups H1-H20 of bad requests, each
// with the statuses that are right for it. "close": the connection must not be used again after the answer.
import net from 'node:net';
import { Node, check, equal, inLanes, main, sanitized, test } from './node.mjs';

const n = await Node.start().catch((e) => ({ error: e }));
const need = () => {
  if (n.error) throw n.error;
  return n;
};
const H = () => `Host: ${n.host}\r\n`;
const J = 'Content-Type: application/json\r\n';
const body = '{"prompt":"a","max_tokens":1}';
const get = (path = '/health') => `GET ${path} HTTP/1.1\r\n${H()}\r\n`;
const post = (fields, payload = '') => `POST /v1/completions HTTP/1.1\r\n${H()}${J}${fields}\r\n${payload}`;
const big = (c, count) => c.repeat(count);

// name, bytes, statuses that are right (0: closed without a word), must the connection be closed?
const bad = 400;
const table = () => [
  // H1: two ways to say where the body ends
  ['H1 length and chunked', post(`Content-Length: 5\r\nTransfer-Encoding: chunked\r\n`, '0\r\n\r\n'), [bad], true],
  ['H1 chunked and length', post(`Transfer-Encoding: chunked\r\nContent-Length: 29\r\n`, body), [bad], true],
  // H2: Content-Length
  ...['5, 5', '+5', '-0', '0x5', '1e1', '', '18446744073709551616', '99999999999999999999999', '5;', '5 5', '٥'].map(
    (v) => [`H2 length "${v}"`, post(`Content-Length: ${v}\r\n`, 'abcde'), [bad, 413], true],
  ),
  ['H2 two equal lengths', post(`Content-Length: 5\r\nContent-Length: 5\r\n`, 'abcde'), [bad], true],
  ['H2 two different lengths', post(`Content-Length: 5\r\nContent-Length: 6\r\n`, 'abcdef'), [bad], true],
  // H3: Transfer-Encoding
  ...[
    'chunked,',
    ',chunked',
    'xchunked',
    'identity',
    'gzip, chunked',
    'chunked, chunked',
    'chunked;q=1',
    '"chunked"',
    'chun\u0001ked',
    '\u000bchunked',
    '\u000cchunked',
    'chunked\u0000',
    '',
  ].map((v) => [`H3 coding ${JSON.stringify(v)}`, post(`Transfer-Encoding: ${v}\r\n`, `0\r\n\r\n`), [bad], true]),
  ['H3 two codings', post(`Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n`, '0\r\n\r\n'), [bad], true],
  ['H3 folded', post(`Transfer-Encoding:\r\n chunked\r\n`, '0\r\n\r\n'), [bad], true],
  [
    'H3 in HTTP/1.0',
    `POST /v1/completions HTTP/1.0\r\n${H()}${J}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    [bad],
    true,
  ],
  ['H3 space before the colon', post(`Transfer-Encoding : chunked\r\n`, '0\r\n\r\n'), [bad], true],
  // H4: chunk sizes
  ...['-1', '+5', '0x5', '5 ;', 'FFFFFFFFFFFFFFFF0', '1_0', ' 5', '', 'g', '5\r'].map((v) => [
    `H4 chunk size "${v.replace('\r', '\\r')}"`,
    post(`Transfer-Encoding: chunked\r\n`, `${v}\r\nabcde\r\n0\r\n\r\n`),
    [bad, 413],
    true,
  ]),
  ['H4 data longer than its chunk', post(`Transfer-Encoding: chunked\r\n`, `3\r\nabcde\r\n0\r\n\r\n`), [bad], true],
  // H6: lines
  ['H6 bare LF after the request line', `GET /health HTTP/1.1\n${H()}\r\n`, [bad], true],
  ['H6 bare LF after a field', `GET /health HTTP/1.1\r\nHost: ${n.host}\n\r\n`, [bad], true],
  ['H6 bare LF at the end', `GET /health HTTP/1.1\r\n${H()}\n`, [bad], true],
  ['H6 bare LF everywhere', `GET /health HTTP/1.1\nHost: ${n.host}\n\n`, [bad], true],
  ['H6 bare CR in a value', `GET /health HTTP/1.1\r\n${H()}X: a\rb\r\n\r\n`, [bad], true],
  ['H6 bare CR in the request line', `GET /health\r HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H6 folded line', `GET /health HTTP/1.1\r\n${H()}X: a\r\n b\r\n\r\n`, [bad], true],
  ['H6 folded line with a tab', `GET /health HTTP/1.1\r\n${H()}X: a\r\n\tb\r\n\r\n`, [bad], true],
  ['H6 folded first line', `GET /health HTTP/1.1\r\n X: a\r\n${H()}\r\n`, [bad], true],
  ['H6 space before the colon', `GET /health HTTP/1.1\r\n${H()}X : a\r\n\r\n`, [bad], true],
  ['H6 tab before the colon', `GET /health HTTP/1.1\r\n${H()}X\t: a\r\n\r\n`, [bad], true],
  ['H6 space in front of Host', `GET /health HTTP/1.1\r\n Host: ${n.host}\r\n\r\n`, [bad], true],
  ['H6 no colon', `GET /health HTTP/1.1\r\n${H()}X\r\n\r\n`, [bad], true],
  ['H6 empty name', `GET /health HTTP/1.1\r\n${H()}: a\r\n\r\n`, [bad], true],
  ...['(', ')', '<', '@', ',', ';', '\\', '"', '/', '[', '?', '=', '{', '\u0001', '\u007f', '\u00e9'].map((c) => [
    `H6 ${JSON.stringify(c)} in a name`,
    `GET /health HTTP/1.1\r\n${H()}X${c}Y: a\r\n\r\n`,
    [bad],
    true,
  ]),
  ['H6 an empty line in front', `\r\n${get()}`, [200, bad], false],
  // H7: Host
  ['H7 none', `GET /health HTTP/1.1\r\n\r\n`, [bad], true],
  ['H7 two', `GET /health HTTP/1.1\r\n${H()}${H()}\r\n`, [bad], true],
  ['H7 two in other letters', `GET /health HTTP/1.1\r\n${H()}hOST: evil.com\r\n\r\n`, [bad], true],
  ...[
    '',
    '127.0.0.1/x',
    `user@${n.host}`,
    `${n.host}, evil.com`,
    '127.0.0.1:99999',
    '127.0.0.1:',
    'xn--evil.com',
    'evil.com',
    `${n.host} evil.com`,
    '127.0.0.1:0',
    '127.0.0.1:abc',
  ].map((v) => [`H7 host "${v}"`, `GET /health HTTP/1.1\r\nHost: ${v}\r\n\r\n`, [bad, 421], true]),
  ['H7 none in HTTP/1.0', `GET /health HTTP/1.0\r\n\r\n`, [bad, 421], true],
  // H8: the request line
  ['H8 no target', `GET HTTP/1.1\r\n${H()}\r\n`, [bad, 505], true],
  ['H8 nothing but a method', `GET\r\n${H()}\r\n`, [bad, 0], true],
  ['H8 no version', `GET /health\r\n${H()}\r\n`, [bad, 0], true],
  ['H8 tab', `GET\t/health\tHTTP/1.1\r\n${H()}\r\n`, [bad, 0], true],
  ['H8 two spaces', `GET  /health HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H8 two spaces before the version', `GET /health  HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H8 space at the end', `GET /health HTTP/1.1 \r\n${H()}\r\n`, [bad], true],
  ['H8 space in front', ` GET /health HTTP/1.1\r\n${H()}\r\n`, [bad, 0], true],
  ['H8 space in the target', `GET /hea lth HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ...[
    'HTTP/1.10',
    'HTTP/01.1',
    'http/1.1',
    'HTTP/1',
    'HTTP/ 1.1',
    'HTTP/1.1x',
    'HTTP/2.0',
    'HTTP/0.9',
    'HTTP/3.1',
    'HTPT/1.1',
    'HTTP/1.2',
  ].map((v) => [`H8 version "${v}"`, `GET /health ${v}\r\n${H()}\r\n`, [bad, 505], true]),
  ['H8 HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [bad, 505], true],
  ['H8 a TLS hello', Buffer.from('160301020001000100fc0303aabbccdd0a0a', 'hex'), [bad, 0], false],
  ['H8 CONNECT', `CONNECT 127.0.0.1:1 HTTP/1.1\r\n${H()}\r\n`, [bad, 405, 501], true],
  ['H8 TRACE', `TRACE /health HTTP/1.1\r\n${H()}\r\n`, [405, 501], false],
  ['H8 unknown method', `FETCH /health HTTP/1.1\r\n${H()}\r\n`, [405, 501], false],
  ['H8 method in small letters', `get /health HTTP/1.1\r\n${H()}\r\n`, [bad, 405, 501], false],
  ['H8 method that is no token', `G@T /health HTTP/1.1\r\n${H()}\r\n`, [bad, 501], true],
  ['H8 * for GET', `GET * HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H8 fragment', `GET /health#x HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H8 target without slash', `GET health HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H8 absolute form of another host', `GET http://evil.com/health HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H8 absolute form with user', `GET http://a@${n.host}/health HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H8 absolute form of another scheme', `GET ftp://${n.host}/health HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  // H9: targets
  ...[
    '/%00',
    '/%2e%2e%2fetc/passwd',
    '/../etc/passwd',
    '/..;/x',
    '/a/./b',
    '/%0d%0aX:y',
    '/%',
    '/%z1',
    '/%2',
    '/a\\b',
    '/%5c..%5c',
    '/\u00e9',
    '/a"b',
    '/a<b',
    '/a^b',
    '/a`b',
    '/a{b}',
    '/a|b',
  ].map((t) => [`H9 ${JSON.stringify(t)}`, `GET ${t} HTTP/1.1\r\n${H()}\r\n`, [bad], false]),
  ['H9 //evil.com', get('//evil.com/health'), [404], false],
  ['H9 overlong UTF-8', get('/%c0%ae%c0%ae/'), [404, bad], false],
  ['H9 a target of 64 KiB', get(`/${big('a', 65536)}`), [414, 431], true],
  ['H9 10^4 parameters', get(`/health?${big('a=b&', 1500)}`), [200, 414, 431, 0], false],
  // H10: Expect
  ['H10 unknown expectation', post(`Expect: 200-ok\r\nContent-Length: ${body.length}\r\n`, body), [417], true],
  [
    'H10 refused before the body',
    `POST /v1/nothing HTTP/1.1\r\n${H()}${J}Expect: 100-continue\r\nContent-Length: 10\r\n\r\n`,
    [404],
    true,
  ],
  // H12-H18
  ['H12 GET with a body', `GET /health HTTP/1.1\r\n${H()}Content-Length: 3\r\n\r\nabc`, [413], false],
  [
    'H12 GET with a chunked body',
    `GET /health HTTP/1.1\r\n${H()}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`,
    [413],
    true,
  ],
  ['H14 10^4 fields', `GET /health HTTP/1.1\r\n${H()}${big('a: b\r\n', 10000)}\r\n`, [431], true],
  ['H14 200 fields', `GET /health HTTP/1.1\r\n${H()}${big('a: b\r\n', 200)}\r\n`, [431], true],
  ['H15 a field of 1 MiB', `GET /health HTTP/1.1\r\n${H()}X: ${big('a', 1 << 20)}\r\n\r\n`, [431, 0], true],
  ['H15 a field of 20 KiB', `GET /health HTTP/1.1\r\n${H()}X: ${big('a', 20000)}\r\n\r\n`, [431], true],
  ['H16 a name of 64 KiB', `GET /health HTTP/1.1\r\n${H()}${big('a', 65536)}: x\r\n\r\n`, [431], true],
  ['H17 cookies', `GET /health HTTP/1.1\r\n${H()}${big('Cookie: a=b\r\n', 1000)}\r\n`, [431], true],
  ...['\u0000', '\u0001', '\u0008', '\u000b', '\u001b', '\u007f'].map((c) => [
    `H18 ${JSON.stringify(c)} in a value`,
    `GET /health HTTP/1.1\r\n${H()}X: a${c}b\r\n\r\n`,
    [bad],
    true,
  ]),
  ['H18 NUL in a name', `GET /health HTTP/1.1\r\n${H()}X\u0000Y: a\r\n\r\n`, [bad], true],
  ['H18 NUL in the target', `GET /hea\u0000lth HTTP/1.1\r\n${H()}\r\n`, [bad], true],
  ['H18 NUL in the method', `G\u0000T /health HTTP/1.1\r\n${H()}\r\n`, [bad, 0], true],
  [
    'H18 NUL pairs that look like line ends',
    `GET /health HTTP/1.1\r\n${H()}X: a\u0000\u0000Y: b\r\n\r\n`,
    [bad],
    true,
  ],
  ['H19 a body over the limit', post(`Content-Length: 1048577\r\n`, ''), [413], true],
  [
    'H19 a chunked body over the limit',
    post(`Transfer-Encoding: chunked\r\n`, `120000\r\n${big(' ', 0x120000)}\r\n0\r\n\r\n`),
    [413],
    true,
  ],
  ['H23 a compressed body', post(`Content-Encoding: gzip\r\nContent-Length: 3\r\n`, 'abc'), [415], true],
  [
    'H23 another media type',
    `POST /v1/completions HTTP/1.1\r\n${H()}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}`,
    [415],
    false,
  ],
  ['H23 no media type', `POST /v1/completions HTTP/1.1\r\n${H()}Content-Length: 2\r\n\r\n{}`, [415], false],
  [
    'H23 a form',
    `POST /v1/completions HTTP/1.1\r\n${H()}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{}`,
    [415],
    false,
  ],
  // and what is right must be taken
  ['ok GET', get(), [200], false],
  ['ok HTTP/1.0', `GET /health HTTP/1.0\r\n${H()}\r\n`, [200], true],
  ['ok other letters in names', `GET /health HTTP/1.1\r\nhOsT: ${n.host}\r\n\r\n`, [200], false],
  [
    'ok white space around a value',
    `GET /health HTTP/1.1\r\nHost: \t ${n.host} \t\r\nX:\r\nY:  \r\n\r\n`,
    [200],
    false,
  ],
  ['ok host in capitals', `GET /health HTTP/1.1\r\nHost: LOCALHOST:${n.port}\r\n\r\n`, [200], false],
  ['ok absolute form', `GET http://${n.host}/health HTTP/1.1\r\n${H()}\r\n`, [200], false],
  ['ok query', get('/health?a=b&c'), [200], false],
  ['ok percent codes', get('/%68ealth'), [200], false],
  ['ok OPTIONS *', `OPTIONS * HTTP/1.1\r\n${H()}\r\n`, [204], false],
  ['ok 100 fields', `GET /health HTTP/1.1\r\n${H()}${big('a: b\r\n', 99)}\r\n`, [200], false],
  ['ok 100 fields, 16,000 bytes', `GET /health HTTP/1.1\r\n${H()}${big(`a: ${'b'.repeat(155)}\r\n`, 99)}\r\n`, [200], false],
  ['ok POST behind 16,000 bytes', post(`${big(`a: ${'b'.repeat(155)}\r\n`, 94)}Content-Length: ${body.length}\r\n`, body), [200], false],
  ['ok one field, 16,000 bytes', `GET /health HTTP/1.1\r\n${H()}a: ${'b'.repeat(15900)}\r\n\r\n`, [200], false],
  ['ok bytes over 127 in a value', `GET /health HTTP/1.1\r\n${H()}X: \u00e9\r\n\r\n`, [200], false],
  ['ok POST', post(`Content-Length: ${body.length}\r\n`, body), [200], false],
  [
    'ok chunked POST',
    post(`Transfer-Encoding: chunked\r\n`, `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`),
    [200],
    true,
  ],
  [
    'ok chunked in capitals',
    post(`Transfer-Encoding: CHUNKED\r\n`, `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`),
    [200],
    true,
  ],
  [
    'ok chunk extension',
    post(`Transfer-Encoding: chunked\r\n`, `${body.length.toString(16)};a=b\r\n${body}\r\n0\r\n\r\n`),
    [200],
    true,
  ],
  [
    'ok trailer',
    post(
      `Transfer-Encoding: chunked\r\n`,
      `${body.length.toString(16)}\r\n${body}\r\n0\r\nContent-Length: 7\r\nHost: evil.com\r\n\r\n`,
    ),
    [200],
    true,
  ],
  ['ok 100-continue', post(`Expect: 100-continue\r\nContent-Length: ${body.length}\r\n`, body), [200], false],
  [
    'ok media type with charset',
    `POST /v1/completions HTTP/1.1\r\n${H()}Content-Type: application/json; charset=utf-8\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    [200],
    false,
  ],
];

// R14: fifty clients that send a byte a second; they drip while all the other cases run.
const drip = () =>
  new Promise((done) => {
    const s = net.connect(n.port, '127.0.0.1'), begun = Date.now();
    const text = get().replace('\r\n\r\n', `\r\nX: ${big('a', 100)}`);
    let got = '', at = 0;
    const timer = setInterval(() => {
      if (!s.destroyed) s.write(text[at++ % text.length]);
    }, 1000);
    s.on('data', (d) => {
      got += d;
    });
    s.on('error', () => {});
    s.on('close', () => {
      clearInterval(timer);
      done({ got, ms: Date.now() - begun });
    });
  });
const drips = n.error ? [] : Array.from({ length: 50 }, drip);

const rows = n.error ? [] : table(), count = rows.length;
// Most of these wait for a silence, so they wait together.
let answers = null;
for (const [i, [name, , right, close]] of rows.entries()) {
  test(name, async () => {
    answers ??= inLanes(16, rows.map(([, bytes]) => () => n.raw(bytes, { wait: 250 })));
    const r = await answers[i];
    check(right.includes(r.status), `got ${r.status}, wanted ${right}: ${r.text.slice(0, 200)}`);
    // libmicrohttpd 0.9.75 writes the head of its own refusal of a bad length twice; the connection ends with it.
    check(
      r.statuses.length <= (name.startsWith('H2') ? 2 : 1) && r.statuses.every((s) => right.includes(s)),
      `answers: ${r.statuses}`,
    );
    if (close) check(r.closed, 'the connection stays open');
    if (r.status >= 400 && r.fields['content-type'] === 'application/json') {
      const e = JSON.parse(r.text.slice(r.text.indexOf('\r\n\r\n') + 4)).error;
      check(
        e && typeof e.message === 'string' && 'type' in e && 'param' in e && 'code' in e,
        'an error in the words of the API',
      );
    }
  });
}
test('is still alive', async () => {
  need();
  check(n.alive(), 'the node died');
  check(count > 170, `only ${count} cases`);
});

test('H11 a pipeline of 1,000 requests is answered in order', async () => {
  need();
  const r = await n.raw(get().repeat(1000), { wait: 1500 });
  equal(r.statuses.length, 1000, 'answers');
  check(
    r.statuses.every((s) => s === 200),
    'all 200',
  );
});
test('H11 what follows a bad request is dropped', async () => {
  need();
  const r = await n.raw(`GET /health HTTP/1.1\r\n${H()}X : a\r\n\r\n${get()}${get()}`, { wait: 300 });
  equal(r.statuses, [400]);
});
test('H1 no smuggling: what a length hides is never answered', async () => {
  need();
  const hidden = get('/metrics');
  for (const fields of [
    `Content-Length: ${hidden.length}\r\nTransfer-Encoding: chunked\r\n`,
    `Content-Length: 0\r\nContent-Length: ${hidden.length}\r\n`,
    `Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n`,
    `Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n`,
  ]) {
    const r = await n.raw(post(fields, `0\r\n\r\n${hidden}`), { wait: 300 });
    equal(r.statuses, [400], fields);
  }
});
test('H12 HEAD has the fields of GET and no body', async () => {
  need();
  const r = await n.raw(`HEAD /health HTTP/1.1\r\n${H()}\r\n${get()}`, { wait: 300 });
  equal(r.statuses, [200, 200]);
  equal(r.fields['content-length'], '15');
  check(r.text.split('\r\n\r\n')[1].startsWith('HTTP/1.1 200'), 'the next answer follows at once');
});
test('a refusal with a small body leaves the connection usable', async () => {
  need();
  const r = await n.raw(`POST /v1/nothing HTTP/1.1\r\n${H()}${J}Content-Length: 2\r\n\r\n{}${get()}`, { wait: 300 });
  equal(r.statuses, [404, 200]);
});
test('H14 leaves no memory behind: 200 large heads', async () => {
  need();
  await n.raw(get());
  const before = await n.metric('nigh_resident_bytes');
  for (let i = 0; i < 200; i++)
    await n.raw(`GET /health HTTP/1.1\r\n${H()}X: ${big('a', 20000)}\r\n\r\n`, { wait: 200 });
  const grown = (await n.metric('nigh_resident_bytes')) - before;
  check(sanitized || grown < 4 << 20, `grew by ${grown} bytes`);
});
test('R14 one byte a second is ended at 10 s with 408, and others do not feel it', async () => {
  need();
  const begun = performance.now();
  for (let i = 0; i < 20; i++) equal((await fetch(`http://${n.host}/health`)).status, 200);
  check(performance.now() - begun < 1000, 'health is slow');
  for (const d of await Promise.all(drips)) {
    check(d.ms > 8000 && d.ms < 13000, `ended after ${d.ms} ms`);
    check(d.got.startsWith('HTTP/1.1 408'), `said ${d.got.slice(0, 40)}`);
  }
});
test('is still alive at the end', async () => {
  need();
  check(n.alive(), 'the node died');
  equal((await n.raw(get())).status, 200);
});

if (n.error)
  test('the node starts', async () => {
    throw n.error;
  });
await main('test_http');
