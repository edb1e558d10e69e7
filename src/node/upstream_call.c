/* upstream_call.c - one call: libcurl hands in the lines of the answer's head and the bytes of its body; what comes
 * out are the caller's events and, once, its end.
 *
 * The end is OK in one way only: the dialect saw its own end mark. How libcurl then ended the transfer does not
 * matter. Without the mark the reasons are asked in this order: stopped by the caller, refused address, our times,
 * the answer itself (it failed, it is an error, it is a redirect), libcurl's own reason. */
#include "node/upstream_parts.h"

#include "base/os.h"

/* ---- the head ---- */
static bool is_name(nigh_str line, const char *name, nigh_str *value) {
    size_t n = strlen(name);
    if (line.len <= n || line.ptr[n] != ':') return false;
    for (size_t i = 0; i < n; i++) {
        char c = line.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? (char)(c | 32) : c) != name[i]) return false;
    }
    *value = nigh_str_trim(nigh_str_slice(line, n + 1, line.len));
    return true;
}

static bool holds(nigh_str text, const char *word) {
    return nigh_str_find(text, nigh_str_of(word), 0) != SIZE_MAX;
}

static uint32_t to_ms(int64_t v, int64_t unit) {
    if (v <= 0) return 0;
    return v > UINT32_MAX / unit ? UINT32_MAX : (uint32_t)(v * unit);
}

/* Seconds, or a date. Milliseconds win: they are said by those who mean it exactly. */
static void read_retry(call_state *c, nigh_str value, bool is_ms) {
    char date[64];
    int64_t n;
    double seconds;
    if (is_ms) {
        if (nigh_str_to_f64(value, &seconds) && seconds > 0 && seconds < 4e9) c->retry_ms = (uint32_t)seconds;
        return;
    }
    if (c->retry_ms) return;
    if (nigh_str_to_i64(value, &n)) { c->retry_ms = to_ms(n, 1000); return; }
    if (value.len >= sizeof date) return;
    nigh_format(date, sizeof date, "%.*s", (int)value.len, value.ptr);
    time_t at = c->u->curl.getdate(date, NULL);
    if (at > 0) c->retry_ms = to_ms((int64_t)at - (int64_t)(nigh_os_unix_ms() / 1000), 1000);
}

static void read_status(call_state *c, nigh_str line) {
    size_t space = nigh_min(nigh_str_find(line, NIGH_STR(" "), 0), line.len);
    int64_t status = 0;
    c->http = nigh_str_to_i64(nigh_str_slice(line, space + 1, space + 4), &status) ? (int)status : 0;
    c->is_stream = c->head_done = false;
    c->retry_ms = 0;
    c->limits = (nigh_upstream_limits){ 0 };
    c->request_id[0] = '\0';
}

static void read_receipt(call_state *c, nigh_str value) {
    if (c->rule.tier != NIGH_TIER_EDGE || c->read_begun || c->sealed) return;
    c->answer = (nigh_dialect_answer){ .edge = true, .calls = &c->calls, .ud = c->ud };
    nigh_dialect_receipt(&c->answer, value);
}

static void read_line(call_state *c, nigh_str line) {
    nigh_str value;
    switch (line.len ? line.ptr[0] | 32 : 0) {
    case 'c':
        if (is_name(line, "content-type", &value)) c->is_stream = holds(value, "event-stream");
        break;
    case 'r':
        if (is_name(line, "retry-after", &value)) read_retry(c, value, false);
        else if (is_name(line, "retry-after-ms", &value)) read_retry(c, value, true);
        else if (is_name(line, "request-id", &value))
            nigh_format(c->request_id, sizeof c->request_id, "%.*s", (int)nigh_min(value.len, 99), value.ptr);
        break;
    case 'x':
        if (is_name(line, "x-request-id", &value))
            nigh_format(c->request_id, sizeof c->request_id, "%.*s", (int)nigh_min(value.len, 99), value.ptr);
        break;
    case 'n':
        if (is_name(line, "nigh-receipt", &value)) read_receipt(c, value);
        break;
    default: break;
    }
}

size_t nigh_upstream_on_head(char *line, size_t one, size_t bytes, void *ud) {
    call_state *c = ((handle *)ud)->call;
    nigh_str text = nigh_str_trim((nigh_str){ line, one * bytes });
    if (!c || atomic_load_explicit(&c->want_cancel, memory_order_relaxed)) return 0;
    c->head_bytes += (uint32_t)(one * bytes);
    if (c->head_bytes > NIGH_UPSTREAM_HEAD_MAX) return 0;
    if (nigh_str_starts(text, NIGH_STR("HTTP/"))) read_status(c, text);
    else if (!text.len) c->head_done = c->http >= 200;
    else read_line(c, text);
    if (c->http == 429 && text.len) nigh_upstream_limits_line(&c->limits, text, nigh_os_unix_ms());
    return one * bytes;
}

/* ---- the body ---- */
static void begin_reading(call_state *c, nigh_str bytes) {
    nigh_str start = nigh_str_trim(bytes);
    bool receipt_given = c->answer.receipt_given;
    c->read_begun = true;
    c->answer = (nigh_dialect_answer){ .api = c->api, .edge = c->rule.tier == NIGH_TIER_EDGE, .calls = &c->calls,
        .ud = c->ud, .request_id = c->request_id, .key = c->key, .receipt_given = receipt_given };
    /* Some servers say nothing about the type, some answer with one object although a stream was asked for. */
    char first = start.len ? start.ptr[0] : '\0';
    c->answer.stream = c->is_stream ? first != '{' : first == 'd' || first == 'e' || first == ':';
}

static size_t take_error(call_state *c, nigh_str bytes) {
    c->error_body.limit = NIGH_UPSTREAM_ERROR_MAX;
    size_t room = NIGH_UPSTREAM_ERROR_MAX - c->error_body.len;
    if (nigh_buf_add(&c->error_body, nigh_str_slice(bytes, 0, room)) != NIGH_OK) return 0;
    return bytes.len <= room ? bytes.len : 0;      /* enough to know why */
}

/* Anything but all bytes ends the transfer. */
static size_t take_answer(call_state *c, nigh_str bytes) {
    nigh_dialect_answer *a = &c->answer;
    if (!c->read_begun) begin_reading(c, bytes);
    if (a->ended) {
        c->tail_bytes += (uint32_t)bytes.len;
        return c->tail_bytes <= NIGH_UPSTREAM_TAIL_MAX ? bytes.len : 0;
    }
    bool first = a->first, alive = a->alive;
    nigh_dialect_feed(a, bytes);
    if (!first && a->first) c->first_ns = nigh_os_now_ns();
    if (!alive && a->alive) nigh_upstream_set_deadline(c, nigh_upstream_next_look(c));
    if (a->failure != NIGH_CALL_OK) return 0;
    if (a->ended) {
        c->ended_ns = nigh_os_now_ns();
        nigh_upstream_set_deadline(c, c->ended_ns + (uint64_t)NIGH_UPSTREAM_GRACE_MS * 1000000);
    }
    return bytes.len;
}

/* ---- a sealed answer ---- */

static nigh_status on_sealed_event(void *ud, nigh_str event, nigh_str data) {
    call_state *c = ud;
    nigh_buf plain = NIGH_BUF(NIGH_PEER_BODY_MAX);
    (void)event;
    nigh_status status = nigh_peer_open_event(&c->peer, data, &plain);
    if (status == NIGH_OK && take_answer(c, nigh_buf_str(&plain)) != plain.len) status = NIGH_ECANCEL;
    nigh_buf_release(&plain);
    return status;
}

/* Nothing counts that is not from the holder of the other node's key. */
static size_t take_sealed(call_state *c, nigh_str bytes) {
    nigh_status status = c->is_stream ? nigh_sse_feed(&c->peer_events, bytes, on_sealed_event, c) : NIGH_EAUTH;
    if (status == NIGH_OK) return bytes.len;
    if (status != NIGH_ECANCEL && c->answer.failure == NIGH_CALL_OK && !c->answer.ended) {
        if (!c->read_begun) begin_reading(c, (nigh_str){ 0 });
        c->answer.failure = NIGH_CALL_MALFORMED;
        nigh_format(c->answer.text, sizeof c->answer.text, "the answer is not sealed by the node that was asked");
    }
    return 0;
}

static void open_error(call_state *c) {
    nigh_buf plain = NIGH_BUF(NIGH_PEER_BODY_MAX);
    if (c->sealed && nigh_peer_open_whole(&c->peer, c->http, nigh_buf_str(&c->error_body), &plain) == NIGH_OK) {
        nigh_buf_release(&c->error_body);
        c->error_body = plain;
    } else nigh_buf_release(&plain);
}

size_t nigh_upstream_on_body(char *bytes, size_t one, size_t count, void *ud) {
    call_state *c = ((handle *)ud)->call;
    nigh_str text = { bytes, one * count };
    if (!c || atomic_load_explicit(&c->want_cancel, memory_order_relaxed)) return 0;
    c->heard_ns = nigh_os_now_ns();
    if (atomic_load_explicit(&c->want_pause, memory_order_relaxed) && !c->answer.ended) {
        c->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (c->http < 200 || c->http >= 300) return take_error(c, text);
    return c->sealed ? take_sealed(c, text) : take_answer(c, text);
}

/* ---- the end ---- */
static void say(nigh_call_result *r, nigh_call_end end, const char *text) {
    r->end = end;
    nigh_format(r->text, sizeof r->text, "%s", text);
}

/* What libcurl says of a connection or of bytes that were no answer. */
static void say_code(const call_state *c, CURLcode code, nigh_call_result *r) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST: say(r, NIGH_CALL_UNREACHABLE, "the target's name was not found"); return;
    case CURLE_COULDNT_CONNECT:
        say(r, NIGH_CALL_UNREACHABLE, "no connection to the target: refused, or no way to it"); return;
    case CURLE_OPERATION_TIMEDOUT:
        r->end = NIGH_CALL_UNREACHABLE;
        nigh_format(r->text, sizeof r->text, "no connection to the target within %u ms", (unsigned)c->connect_ms);
        return;
    case CURLE_PEER_FAILED_VERIFICATION:
        say(r, NIGH_CALL_UNREACHABLE, "the target's certificate is not for this name, or nobody trusted signed it");
        return;
    case CURLE_SSL_CONNECT_ERROR: say(r, NIGH_CALL_UNREACHABLE, "no TLS connection to the target"); return;
    case CURLE_SSL_CACERT_BADFILE:
        say(r, NIGH_CALL_UNREACHABLE, "the file of trusted certificates cannot be read");
        return;
    case CURLE_OUT_OF_MEMORY: say(r, NIGH_CALL_FAILED, "not enough memory for the call"); return;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_WRITE_ERROR:
        say(r, NIGH_CALL_MALFORMED, "what the target answered is not HTTP as it should be");
        return;
    case CURLE_OK:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        if (c->sent) say(r, NIGH_CALL_CUT, "the target closed the connection before its answer was complete");
        else say(r, NIGH_CALL_UNREACHABLE, "the connection to the target was lost");
        return;
    default:
        r->end = c->sent ? NIGH_CALL_MALFORMED : NIGH_CALL_UNREACHABLE;
        nigh_format(r->text, sizeof r->text, "the HTTP client gave up (code %d)", (int)code);
    }
}

static void say_answer(call_state *c, CURLcode code, nigh_call_result *r) {
    nigh_dialect_answer *a = &c->answer;
    if (!c->read_begun) { begin_reading(c, (nigh_str){ 0 }); a->stream = true; }
    if (code != CURLE_OK && !a->stream && a->failure == NIGH_CALL_OK) {     /* do not read half a JSON */
        say_code(c, code == CURLE_WRITE_ERROR ? CURLE_PARTIAL_FILE : code, r);
        if (r->end == NIGH_CALL_UNREACHABLE) r->end = NIGH_CALL_CUT;
        return;
    }
    say(r, nigh_dialect_end(a), a->text);
    if (a->first && !c->first_ns) c->first_ns = nigh_os_now_ns();
    nigh_format(r->said, sizeof r->said, "%s", a->said);
}

void nigh_upstream_result(call_state *c, CURLcode code, nigh_call_result *r) {
    uint64_t now = nigh_os_now_ns();
    *r = (nigh_call_result){
        .http = c->http, .retry_ms = c->retry_ms, .bytes_out = c->bytes_out, .bytes_in = c->bytes_in, .sent = c->sent
    };
    nigh_format(r->address, sizeof r->address, "%s", c->address);
    r->total_ms = (uint32_t)(((c->ended_ns ? c->ended_ns : now) - c->begin_ns) / 1000000);
    if (c->answer.ended) say(r, NIGH_CALL_OK, "");
    else if (atomic_load(&c->want_cancel)) say(r, NIGH_CALL_CANCELLED, "stopped");
    else if (c->refused) {
        r->end = NIGH_CALL_REFUSED_ADDRESS;
        nigh_format(r->text, sizeof r->text, "the target's name stands for %s: %s", c->what, c->refused);
    } else if (c->timed_out) {
        r->end = NIGH_CALL_TIMEOUT;
        if (c->silent) nigh_format(r->text, sizeof r->text, "silent for %u ms in the middle of its answer",
                                   (unsigned)c->quiet_ms);
        else if (c->answer.alive) nigh_format(r->text, sizeof r->text, "no end within %u ms", (unsigned)c->total_ms);
        else
            nigh_format(r->text, sizeof r->text, "no word within %u ms",
                        (unsigned)nigh_min(c->first_ms, c->total_ms));
    } else if (c->answer.failure != NIGH_CALL_OK) {
        say(r, c->answer.failure, c->answer.text);
        nigh_format(r->said, sizeof r->said, "%s", c->answer.said);
    } else if (c->head_bytes > NIGH_UPSTREAM_HEAD_MAX)
        say(r, NIGH_CALL_MALFORMED, "the head of the answer is longer than 64 KiB");
    else if (c->head_done && c->http >= 400) {
        open_error(c);
        r->end = nigh_dialect_error(c->http, nigh_buf_str(&c->error_body), c->key, r->text, r->said);
    }
    else if (c->head_done && c->http >= 300) {
        r->end = NIGH_CALL_FAILED;
        nigh_format(r->text, sizeof r->text, "the target sends us elsewhere (HTTP %d): redirects are not followed",
                    c->http);
    } else if (c->head_done) say_answer(c, code, r);
    else say_code(c, code, r);
    if (c->first_ns) r->first_ms = (uint32_t)nigh_max((c->first_ns - c->begin_ns) / 1000000, 1);
    if (r->end != NIGH_CALL_BUSY && r->end != NIGH_CALL_FAILED) r->retry_ms = 0;
    else if (!r->retry_ms) r->retry_ms = nigh_upstream_limits_ms(&c->limits);
}
