// provider.mjs - a provider of answers for tests: speaks the formats that upstream speaks (and edge nodes do), and does what
// a real one does on a bad day when it is told to. Node 18 or later, no packages.
//
//   node provider.mjs [--port N] [--host A] [--cert FILE --key FILE]      prints one line: listening on PORT
//   import { startProvider } from './provider.mjs'      -> { port, url, seen(), clear(), set(switches), close() }
//   startProvider({ plan })      plan(body): more switches for this request
//
//   POST .../chat/completions    OpenAI chat (an edge node too)      POST .../responses    OpenAI responses
//   POST .../messages            Anthropic messages                  GET  /_seen           all requests it got:
//   DELETE /_seen                forgets them                             [{ path, headers, body (text) }]
//   POST /_set                   switches for all later requests: a JSON object; {} takes them back
//   GET /_stats                  { requests, open, connections }
//
// Switches stand behind a ? in the name of the model ("any?delay=50&cut=3"), and win over those of /_set:
//   text=T        the answer, given out word by word; default: a sentence        tokens=N   N made-up words instead
//   echo=1        the answer is what the last user message says
//   delay=MS      before the head       first=MS  between head and first word       gap=MS    between words
//   silent=1      takes the request, never answers         mute=1    head, then nothing       never=1   words without end
//   refuse=1      closes the connection without an answer
//   cut=N         closes the connection after N words      noend=1   all words, a clean end, no end mark
//   status=C      answers with this HTTP status and an error in the format    retry=S, retryms=MS, retrydate=S: its hints
//   limits=MS     (with status=429) says in x-ratelimit fields, or Anthropic's own, when there is room again
//   context=1     (with status=400) says that the request is too long         quota=1 (with 429)   says that money is out
//   secret=1      its error repeats the key it was given
//   inner=KIND    after `at` words (default 2) an error inside the stream: overloaded, server, context
//   malformed=H   json: an event that is no JSON; sse: no events at all; finish: a reason nobody knows; nothing: no reason;
//                 http: not HTTP; html: a page; utf8: bytes that are not; index: a second answer
//   split=N       writes N bytes at a time                 stream=0  ignores that a stream was asked for
//   length=H      long: promises more bytes than it sends; short: fewer (both without a stream)
//   tools=N       N tool calls instead of text             thoughts=1  thinks first       pings=1   comments and pings between
//   pieces=A,B    words, and arguments of tools, of so many letters in turn               call=JSON one tool call with these arguments
//   finish=R      stop, length, content_filter             usage=0   says nothing about tokens
//   receipt=H     1: a nigh_receipt in the last chunk; header: as a header; huge: of 20 KiB
//   redirect=URL  302 to there          big=N   one word of N bytes          head=N    N bytes of header        close=1
//                 closes the connection behind its answer  crlf=1    lines end in CR LF
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const SENTENCE = 'The quick brown fox jumps over the lazy dog and says "hello" to the \u4e16\u754c \u{1f98a}.';
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const FINISH = {
    messages: { stop: 'end_turn', length: 'max_tokens', content_filter: 'refusal', tool_calls: 'tool_use' },
};

function switchesOf(body, common) {
    const model = String(body?.model ?? '');
    const mark = model.indexOf('?');
    const own = mark < 0 ? {} : Object.fromEntries(new URLSearchParams(model.slice(mark + 1)));
    return { ...common, ...own };
}

export function lastUserText(body) {
    const list = body?.messages ?? body?.input ?? [];
    const last = [...list].reverse().find((m) => m.role === 'user');
    if (typeof last?.content === 'string') return last.content;
    return (last?.content ?? []).map((p) => p.text ?? '').join('');
}

function piecesOf(text, sizes) {
    const letters = Array.from(text), list = String(sizes).split(',').map(Number), out = [];
    for (let at = 0, i = 0; at < letters.length; i++) {
        const count = Math.max(1, list[i % list.length]);
        out.push(letters.slice(at, at + count).join(''));
        at += count;
    }
    return out;
}
const argumentsOf = (t, s) => (s.pieces ? piecesOf(t.arguments, s.pieces) : t.arguments.match(/.{1,5}/gu));

function wordsOf(s, body) {
    if (s.big) return ['b'.repeat(Number(s.big))];
    if (s.tokens) return Array.from({ length: Number(s.tokens) }, (_, i) => `w${i} `);
    const text = s.echo ? lastUserText(body) : s.text ?? SENTENCE;
    if (s.pieces) return piecesOf(text, s.pieces);
    return text.match(/\s*\S+\s*$|\s*\S+/gu) ?? [''];
}

const toolsOf = (s) => s.call ? [{ id: 'call_0', name: 'send', arguments: s.call }] : Array.from({ length: Number(s.tools ?? 0) }, (_, i) => ({
    id: `call_${i}`, name: `tool_${i}`, arguments: JSON.stringify({ city: 'Köln', n: i }),
}));
const usageOf = (words) => ({ in: 11, out: words.length, cached: 3 });
const receiptOf = (s) => (s.receipt === 'huge' ? { id: 'rcpt-1', pad: 'x'.repeat(20 << 10) } : { id: 'rcpt-1', place: 'device' });

// ---- events of a stream: objects { event, data } ----
function* chatEvents(s, body, words) {
    const base = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'provider-1' };
    const chunk = (delta, finish = null, more = {}) =>
        ({ data: { ...base, choices: [{ index: 0, delta, finish_reason: finish }], ...more } });
    const receipt = s.receipt && s.receipt !== 'header' ? { nigh_receipt: receiptOf(s) } : {};
    yield chunk({ role: 'assistant', content: '' });
    if (s.thoughts) yield chunk({ reasoning_content: 'hm' });
    const tools = toolsOf(s);
    for (const [i, t] of tools.entries()) {
        yield chunk({ tool_calls: [{ index: i, id: t.id, type: 'function', function: { name: t.name, arguments: '' } }] });
        for (const piece of argumentsOf(t, s)) yield chunk({ tool_calls: [{ index: i, function: { arguments: piece } }] });
    }
    if (!tools.length) for (const w of words) yield { ...chunk({ content: w }), word: true };
    const finish = s.malformed === 'finish' ? 'bored' : s.finish ?? (tools.length ? 'tool_calls' : 'stop');
    if (s.malformed === 'index') yield { data: { ...base, choices: [{ index: 1, delta: { content: 'x' } }] } };
    if (s.malformed !== 'nothing') yield chunk({}, finish, s.usage === '0' ? receipt : {});
    const u = usageOf(words);
    if (s.usage !== '0') {
        yield { data: { ...base, choices: [], usage: { prompt_tokens: u.in, completion_tokens: u.out, total_tokens: u.in + u.out,
            prompt_tokens_details: { cached_tokens: u.cached } }, ...receipt } };
    }
    if (!s.noend) yield { data: '[DONE]' };
}

function responseObject(s, words, status) {
    const u = usageOf(words);
    const tools = toolsOf(s).map((t, i) => ({ type: 'function_call', id: `fc_${i}`, call_id: t.id, name: t.name,
        arguments: t.arguments, status: 'completed' }));
    const message = { type: 'message', id: 'msg_1', status: 'completed', role: 'assistant',
        content: [{ type: 'output_text', text: words.join(''), annotations: [], logprobs: [] }] };
    const why = { length: 'max_output_tokens', content_filter: 'content_filter' }[s.finish];
    return { id: 'resp_1', object: 'response', created_at: 1, model: 'provider-1',
        status: status ?? (why ? 'incomplete' : 'completed'), incomplete_details: why ? { reason: why } : null, error: null,
        output: status ? [] : tools.length ? tools : [message],
        usage: s.usage === '0' || status ? null : { input_tokens: u.in, output_tokens: u.out, total_tokens: u.in + u.out,
            input_tokens_details: { cached_tokens: u.cached }, output_tokens_details: { reasoning_tokens: 0 } } };
}

function* responseEvents(s, body, words) {
    let n = 0;
    const e = (type, more) => ({ event: type, data: { type, sequence_number: n++, ...more } });
    yield e('response.created', { response: responseObject(s, words, 'in_progress') });
    yield e('response.in_progress', { response: responseObject(s, words, 'in_progress') });
    if (s.thoughts) yield e('response.reasoning_summary_text.delta', { output_index: 0, delta: 'hm' });
    const final = responseObject(s, words);
    for (const [i, item] of final.output.entries()) {
        if (item.type === 'function_call') {
            yield e('response.output_item.added', { output_index: i, item: { ...item, arguments: '', status: 'in_progress' } });
            for (const delta of argumentsOf(item, s))
                yield e('response.function_call_arguments.delta', { output_index: i, item_id: item.id, delta });
            yield e('response.function_call_arguments.done', { output_index: i, item_id: item.id, arguments: item.arguments });
        } else {
            yield e('response.output_item.added', { output_index: i, item: { ...item, content: [], status: 'in_progress' } });
            yield e('response.content_part.added', { output_index: i, content_index: 0, part: { type: 'output_text', text: '' } });
            for (const delta of words)
                yield { ...e('response.output_text.delta', { output_index: i, content_index: 0, delta }), word: true };
            yield e('response.output_text.done', { output_index: i, content_index: 0, text: words.join('') });
            yield e('response.content_part.done', { output_index: i, content_index: 0, part: item.content[0] });
        }
        yield e('response.output_item.done', { output_index: i, item });
    }
    if (s.malformed === 'nothing' || s.malformed === 'finish') { yield { data: { no: 'type' } }; return; }
    if (!s.noend) yield e(`response.${final.status}`, { response: final });
}

function* messageEvents(s, body, words) {
    const e = (type, more) => ({ event: type, data: { type, ...more } });
    const u = usageOf(words);
    const usage = s.usage === '0' ? {} : { usage: { input_tokens: u.in - u.cached, cache_read_input_tokens: u.cached, output_tokens: 1 } };
    yield e('message_start', { message: { id: 'msg_1', type: 'message', role: 'assistant', model: 'provider-1', content: [],
        stop_reason: null, ...usage } });
    yield e('ping', {});
    let i = 0;
    if (s.thoughts) {
        yield e('content_block_start', { index: i, content_block: { type: 'thinking', thinking: '' } });
        yield e('content_block_delta', { index: i, delta: { type: 'thinking_delta', thinking: 'hm' } });
        yield e('content_block_stop', { index: i++ });
    }
    const tools = toolsOf(s);
    for (const t of tools) {
        yield e('content_block_start', { index: i, content_block: { type: 'tool_use', id: t.id, name: t.name, input: {} } });
        for (const piece of argumentsOf(t, s))
            yield e('content_block_delta', { index: i, delta: { type: 'input_json_delta', partial_json: piece } });
        yield e('content_block_stop', { index: i++ });
    }
    if (!tools.length) {
        yield e('content_block_start', { index: i, content_block: { type: 'text', text: '' } });
        for (const text of words) yield { ...e('content_block_delta', { index: i, delta: { type: 'text_delta', text } }), word: true };
        yield e('content_block_stop', { index: i });
    }
    const ours = s.finish ?? (tools.length ? 'tool_calls' : 'stop');
    const reason = s.malformed === 'finish' ? 'bored' : FINISH.messages[ours];
    const out = s.usage === '0' ? {} : { usage: { output_tokens: u.out } };
    if (s.malformed !== 'nothing') yield e('message_delta', { delta: { stop_reason: reason, stop_sequence: null }, ...out });
    if (!s.noend) yield e('message_stop', {});
}

// ---- whole answers and errors ----
function wholeAnswer(kind, s, words) {
    const u = usageOf(words), tools = toolsOf(s);
    if (kind === 'responses') return responseObject(s, words);
    const finish = s.finish ?? (tools.length ? 'tool_calls' : 'stop');
    if (kind === 'messages') {
        return { id: 'msg_1', type: 'message', role: 'assistant', model: 'provider-1', stop_reason: FINISH.messages[finish],
            content: tools.length ? tools.map((t) => ({ type: 'tool_use', id: t.id, name: t.name, input: JSON.parse(t.arguments) }))
                : [{ type: 'text', text: words.join('') }],
            usage: { input_tokens: u.in - u.cached, cache_read_input_tokens: u.cached, output_tokens: u.out } };
    }
    const message = { role: 'assistant', content: tools.length ? null : words.join('') };
    if (tools.length) {
        message.tool_calls = tools.map((t) => ({ id: t.id, type: 'function', function: { name: t.name, arguments: t.arguments } }));
    }
    return { id: 'chatcmpl-1', object: 'chat.completion', created: 1, model: 'provider-1',
        choices: [{ index: 0, message, finish_reason: finish }],
        usage: { prompt_tokens: u.in, completion_tokens: u.out, total_tokens: u.in + u.out, prompt_tokens_details: { cached_tokens: u.cached } },
        ...(s.receipt && s.receipt !== 'header' ? { nigh_receipt: receiptOf(s) } : {}) };
}

function errorBody(kind, what, note) {
    const known = {
        context: ['invalid_request_error', 'context_length_exceeded', 'prompt is too long: 9001 tokens > 4096 maximum'],
        overloaded: ['overloaded_error', 'overloaded', 'Overloaded'],
        quota: ['insufficient_quota', 'insufficient_quota', 'You exceeded your current quota'],
        rate: ['rate_limit_error', 'rate_limit_exceeded', 'Too many requests'],
        server: ['server_error', 'server_error', 'Something broke'],
        invalid: ['invalid_request_error', 'invalid_value', 'This field is wrong'],
    };
    const [type, code, text] = known[what] ?? known.server;
    const message = note ? `${text} ${note}` : text;
    if (kind === 'messages') return { type: 'error', error: { type, message }, request_id: 'req_1' };
    return { error: { message, type, param: null, code } };
}

function sendError(kind, s, req, res) {
    const status = Number(s.status);
    const what = s.context ? 'context' : s.quota ? 'quota' : status === 429 ? 'rate' : status >= 500 ? 'server' : 'invalid';
    const key = req.headers.authorization?.replace('Bearer ', '') ?? req.headers['x-api-key'];
    const headers = { 'content-type': 'application/json', 'x-request-id': 'req_1' };
    if (s.retry) headers['retry-after'] = s.retry;
    if (s.retryms) headers['retry-after-ms'] = s.retryms;
    if (s.retrydate) headers['retry-after'] = new Date(Date.now() + Number(s.retrydate) * 1000).toUTCString();
    if (s.limits && kind === 'messages') {
        const at = new Date(Math.ceil((Date.now() + Number(s.limits)) / 1000) * 1000).toISOString().replace('.000', '');
        Object.assign(headers, { 'anthropic-ratelimit-tokens-remaining': 0, 'anthropic-ratelimit-tokens-reset': at,
            'anthropic-ratelimit-requests-remaining': 5, 'anthropic-ratelimit-requests-reset': '2099-01-01T00:00:00Z' });
    } else if (s.limits) {
        Object.assign(headers, { 'x-ratelimit-remaining-requests': 0, 'x-ratelimit-reset-requests': `0m${s.limits}ms`,
            'x-ratelimit-remaining-tokens': 900, 'x-ratelimit-reset-tokens': '9m' });
    }
    res.writeHead(status, headers);
    res.end(JSON.stringify(errorBody(kind, what, s.secret ? `(key ${key})` : '')));
}

// ---- sending ----
function drained(res) {
    return new Promise((done) => {
        const go = () => { res.off('drain', go); res.off('close', go); done(); };
        res.on('drain', go);
        res.on('close', go);
        if (res.destroyed) go();
    });
}

async function write(res, s, text) {
    const bytes = Buffer.isBuffer(text) ? text : Buffer.from(text);
    const step = Number(s.split ?? 0) || bytes.length;
    for (let at = 0; at < bytes.length && !res.destroyed; at += step) {
        if (!res.write(bytes.subarray(at, at + step))) await drained(res);
        if (s.split) await new Promise(setImmediate);
    }
}

function spell(e, s) {
    const nl = s.crlf ? '\r\n' : '\n';
    const data = typeof e.data === 'string' ? e.data : JSON.stringify(e.data);
    return `${e.event ? `event: ${e.event}${nl}` : ''}data: ${data}${nl}${nl}`;
}

async function sendStream(kind, s, body, res) {
    const events = { chat: chatEvents, responses: responseEvents, messages: messageEvents }[kind];
    const words = wordsOf(s, body);
    let sent = 0;
    if (s.first) await sleep(Number(s.first));
    if (s.malformed === 'sse') { await write(res, s, 'this is no stream of events\n\nat all\n\n'); res.end(); return; }
    if (s.malformed === 'utf8') { await write(res, s, Buffer.from('data: {"a":"\xff\xfe"}\n\n', 'latin1')); res.end(); return; }
    for (const e of events(s, body, words)) {
        if (res.destroyed) return;
        if (e.word && s.cut !== undefined && sent >= Number(s.cut)) { res.destroy(); return; }
        if (e.word && s.inner && sent >= Number(s.at ?? 2)) {
            await write(res, s, spell({ event: 'error', data: { type: 'error', ...errorBody(kind, s.inner) } }, s));
            res.end();
            return;
        }
        if (e.word && s.malformed === 'json' && sent === 2) await write(res, s, 'data: {"half": \n\n');
        if (e.word && s.gap && sent) await sleep(Number(s.gap));
        if (s.pings && e.word) {
            await write(res, s, `: a comment${s.crlf ? '\r\n' : '\n'}`);
            if (kind === 'messages') await write(res, s, spell({ event: 'ping', data: { type: 'ping' } }, s));
        }
        for (;;) {
            await write(res, s, spell(e, s));
            if (!(e.word && s.never) || res.destroyed) break;
            await sleep(Number(s.gap ?? 1));
        }
        if (e.word) sent++;
    }
    res.end();
}

async function sendWhole(kind, s, body, res) {
    const text = Buffer.from(JSON.stringify(wholeAnswer(kind, s, wordsOf(s, body))));
    const length = s.length === 'long' ? text.length + 50 : s.length === 'short' ? text.length - 20 : undefined;
    if (length === undefined) { res.writeHead(200, { 'content-type': 'application/json' }); await write(res, s, text); res.end(); return; }
    res.socket.end(`HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n${text}`);
}

async function answer(kind, s, body, req, res) {
    if (s.refuse) { req.socket.destroy(); return; }
    if (s.silent) return;
    if (s.delay) await sleep(Number(s.delay));
    if (s.malformed === 'http') { res.socket.end('SMTP 220 hello\r\n\r\n'); return; }
    if (s.redirect) { res.writeHead(302, { location: s.redirect }); res.end(); return; }
    if (s.malformed === 'html') { res.writeHead(200, { 'content-type': 'text/html' }); res.end('<html><body>welcome</body></html>'); return; }
    if (s.status) { sendError(kind, s, req, res); return; }
    if (s.stream === '0' || s.length) { await sendWhole(kind, s, body, res); return; }
    const headers = { 'content-type': 'text/event-stream; charset=utf-8', 'x-request-id': 'req_1' };
    if (s.head) headers['x-large'] = 'h'.repeat(Number(s.head));
    if (s.receipt === 'header') headers['nigh-receipt'] = JSON.stringify(receiptOf(s));
    if (s.close) headers.connection = 'close';
    res.writeHead(200, headers);
    res.flushHeaders();
    if (!s.mute) await sendStream(kind, s, body, res);
}

// ---- the server ----
const KINDS = [['/chat/completions', 'chat'], ['/responses', 'responses'], ['/messages', 'messages']];

function readBody(req) {
    return new Promise((done, failed) => {
        const pieces = [];
        req.on('data', (piece) => pieces.push(piece));
        req.on('end', () => done(Buffer.concat(pieces).toString('utf8')));
        req.on('error', failed);
    });
}

function parse(text) {
    try { return JSON.parse(text); } catch { return undefined; }
}

export async function startProvider({ port = 0, host = '127.0.0.1', cert, key, plan } = {}) {
    let seen = [], common = {}, requests = 0, open = 0, connections = 0;
    const reply = (res, status, value) => { res.writeHead(status, { 'content-type': 'application/json' }); res.end(JSON.stringify(value)); };
    const handle = async (req, res) => {
        const path = req.url.split('?')[0], text = await readBody(req), body = parse(text);
        if (path === '/_seen' && req.method === 'DELETE') { seen = []; return reply(res, 200, {}); }
        if (path === '/_seen') return reply(res, 200, seen);
        if (path === '/_stats') return reply(res, 200, { requests, open, connections });
        if (path === '/_set') { common = body ?? {}; return reply(res, 200, common); }
        requests++;
        seen.push({ path: req.url, headers: req.headers, body: text });
        if (seen.length > 20000) seen.shift();
        const kind = KINDS.find(([end]) => path.endsWith(end))?.[1];
        if (!kind || req.method !== 'POST' || !body) return reply(res, kind ? 400 : 404, errorBody('chat', 'invalid'));
        open++;
        res.on('close', () => { open--; });
        return answer(kind, { ...switchesOf(body, common), ...plan?.(body) }, body, req, res);
    };
    const listener = (req, res) => { handle(req, res).catch(() => res.destroy()); };
    const limits = { maxHeaderSize: 1 << 17, keepAliveTimeout: 60000 };
    const server = cert ? createTlsServer({ ...limits, cert, key }, listener) : createServer(limits, listener);
    server.keepAliveTimeout = 60000;
    server.on('connection', () => { connections++; });
    await new Promise((done) => { server.listen(port, host, 4096, done); });
    const at = server.address().port;
    return {
        port: at, url: `http${cert ? 's' : ''}://${host}:${at}/v1`, seen: () => seen, clear: () => { seen = []; },
        set: (switches) => { common = switches; }, stats: () => ({ requests, open, connections }),
        close: () => new Promise((done) => { server.closeAllConnections?.(); server.close(done); }),
    };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
    const option = (name) => { const i = process.argv.indexOf(`--${name}`); return i < 0 ? undefined : process.argv[i + 1]; };
    const cert = option('cert'), key = option('key');
    const provider = await startProvider({ port: Number(option('port') ?? 0), host: option('host') ?? '127.0.0.1',
        cert: cert && readFileSync(cert), key: key && readFileSync(key) });
    console.log(`listening on ${provider.port}`);
    // Its parent holds our input: when the parent is gone, however it went, so are we.
    process.stdin.resume();
    process.stdin.on('end', () => process.exit(0));
}
