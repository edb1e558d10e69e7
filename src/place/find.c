/* find.c - see find.h. The text is walked byte by byte until one that some form cannot do without:
 *
 *     @  mail        :  addresses, hardware, URLs, "password: ..."     .  hosts
 *     -  sk-..., PEM _  ghp_...    =  password=...                     digits: everything else (find_number.c)
 *
 * Around such a byte the forms that need it are tried. What was found or refused is not looked at again, but for a
 * bounded number of bytes before it (LOOK_BACK), so the walk is linear. */
#include "place/find_parts.h"
#include "place/policy.h"

enum { LOOK_BACK = 320, SECRET_MAX = 4096, HOST_MAX = 253, PEM_MAX = 65536 };

/* How far text was looked at in vain, so that no run of bytes is walked once for each of its bytes. */
typedef struct { size_t floor, token_end, local_end; } walk;

static const char *const words[] = {
#define WORD(name, word, secret) word,
    NIGH_FIND_KINDS(WORD)
#undef WORD
};

const char *nigh_find_word(nigh_find_kind kind) { return words[kind]; }

unsigned nigh_find_kinds(unsigned redact) {
    unsigned bits = 0;
#define BITS(name, word, secret) \
    if (redact & (secret ? NIGH_REDACT_SECRETS : NIGH_REDACT_PII)) bits |= 1u << NIGH_FIND_##name;
    NIGH_FIND_KINDS(BITS)
#undef BITS
    return bits;
}

static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
static bool is_local(char c) { return is_alnum(c) || is_wide(c) || (c && strchr("._%+-'", c)); }
static bool is_token(char c) { return is_alnum(c) || (c && strchr("_-./+=", c)); }
static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static bool matches(nigh_str s, size_t i, const char *word) {
    for (; *word; word++, i++)
        if (lower(at(s, i)) != *word) return false;
    return true;
}

/* ---- hosts, mail, URLs ---- */

/* The end of labels joined by dots from `i` on, the last of two or more letters; i when there is none. */
static size_t host_end(nigh_str s, size_t i) {
    size_t begin = i, good = i, label = i;
    s.len = nigh_min(s.len, i + HOST_MAX);
    for (; i < s.len && (is_alnum(s.ptr[i]) || is_wide(s.ptr[i]) || s.ptr[i] == '-' || s.ptr[i] == '.'); i++) {
        if (s.ptr[i] != '.') continue;
        if (i == label || !(is_alnum(at(s, i + 1)) || is_wide(at(s, i + 1)))) break;
        label = i + 1;
    }
    size_t last = label;
    while (last < i && (is_letter(s.ptr[last]) || is_wide(s.ptr[last]))) last++;
    if (label > begin && last - label >= 2) good = last;
    return good;
}

static bool find_mail(nigh_str s, size_t floor, size_t i, nigh_found *out) {
    size_t begin = i, low = i > floor + 64 ? i - 64 : floor;
    while (begin > low && is_local(s.ptr[begin - 1])) begin--;
    while (begin < i && !is_alnum(s.ptr[begin]) && !is_wide(s.ptr[begin])) begin++;
    size_t end = host_end(s, i + 1);
    return begin < i && end > i + 1 && found(out, NIGH_FIND_EMAIL, begin, end);
}

static bool is_url_byte(char c) { return !is_space(c) && c != '\0' && !strchr("<>\"'`|{}()[]", c); }

/* scheme://rest; with user:password@ in it, a secret. */
static bool find_url(nigh_str s, size_t floor, size_t colon, nigh_found *out) {
    if (at(s, colon + 1) != '/' || at(s, colon + 2) != '/') return false;
    size_t begin = colon, end = colon + 3, secret = 0;
    while (begin > floor && colon - begin < 16 && (is_alnum(s.ptr[begin - 1]) || s.ptr[begin - 1] == '+')) begin--;
    if (begin == colon) return false;
    bool colon_seen = false, slash = false;
    for (; end < s.len && is_url_byte(s.ptr[end]) && end - begin < SECRET_MAX; end++) {
        slash = slash || s.ptr[end] == '/';
        if (s.ptr[end] == ':' && !slash) colon_seen = true;
        if (s.ptr[end] == '@' && colon_seen && !slash) secret = end;
    }
    while (end > colon + 3 && strchr(".,;:!?", s.ptr[end - 1])) end--;
    if (end - colon < 6) return false;
    return found(out, secret ? NIGH_FIND_SECRET : NIGH_FIND_URL, begin, end);
}

/* Endings of hosts that are taken for one without a scheme in front. */
static bool known_ending(nigh_str s, size_t begin, size_t end) {
    static const char *const endings[] = { "com", "org", "net", "edu", "gov", "info", "biz", "io", "dev", "app", "eu",
                                           "uk", "de", "fr", "it", "es", "nl", "be", "ch", "at", "se", "dk", "no", "fi",
                                           "pl", "pt", "cz", "hu", "us", "ca", "au", "nz", "br", "jp", "in", "za" };
    for (size_t i = 0; i < NIGH_COUNT(endings); i++)
        if (strlen(endings[i]) == end - begin && matches(s, begin, endings[i])) return true;
    return false;
}

static bool find_host(nigh_str s, size_t floor, size_t dot, nigh_found *out) {
    if (!is_alnum(at(s, dot + 1)) || dot == floor || !is_alnum(s.ptr[dot - 1])) return false;
    size_t begin = dot, low = dot > floor + 63 ? dot - 63 : floor;
    while (begin > low && (is_alnum(s.ptr[begin - 1]) || s.ptr[begin - 1] == '-')) begin--;
    char before = begin > floor ? s.ptr[begin - 1] : ' ';
    if (before == '@' || before == '.' || is_wide(before)) return false;
    size_t end = host_end(s, begin), last = end;
    if (at(s, end) == '@' || is_digit(at(s, end))) return false;
    while (last > begin && s.ptr[last - 1] != '.') last--;
    if (end <= dot || !(matches(s, begin, "www.") || known_ending(s, last, end))) return false;
    if (at(s, end) == '/')
        while (end < s.len && is_url_byte(s.ptr[end])) end++;
    while (strchr(".,;:!?", s.ptr[end - 1])) end--;
    return found(out, NIGH_FIND_URL, begin, end);
}

/* ---- addresses of machines ---- */

/* Six pairs of hexadecimal digits; the first separator stands at i. */
static bool find_mac(nigh_str s, size_t floor, size_t i, nigh_found *out) {
    char separator = s.ptr[i];
    if (i < floor + 2 || i + 15 > s.len) return false;
    size_t begin = i - 2;
    if (begin > floor && (is_alnum(s.ptr[begin - 1]) || s.ptr[begin - 1] == separator)) return false;
    for (size_t k = 0; k < 17; k++)
        if (k % 3 == 2 ? s.ptr[begin + k] != separator : !is_hex(s.ptr[begin + k])) return false;
    if (is_alnum(at(s, begin + 17)) || at(s, begin + 17) == separator) return false;
    return found(out, NIGH_FIND_MAC, begin, begin + 17);
}

/* RFC 4291: eight groups, or fewer with one "::". The first colon stands at i. */
static bool find_ipv6(nigh_str s, size_t floor, size_t i, nigh_found *out) {
    size_t begin = i, end, groups = 0, gaps = 0;
    while (begin > floor && i - begin < 4 && is_hex(s.ptr[begin - 1])) begin--;
    if (begin > floor && (is_alnum(s.ptr[begin - 1]) || s.ptr[begin - 1] == ':')) return false;
    for (end = begin; end < s.len;) {
        size_t run = end;
        while (run < s.len && run - end < 5 && is_hex(s.ptr[run])) run++;
        if (run - end > 4) return false;
        if (run > end) groups++;
        end = run;
        if (at(s, end) != ':') break;
        if (at(s, end + 1) == ':') {
            gaps++;
            end += 2;
        } else if (is_hex(at(s, end + 1))) end++;
        else break;
    }
    if (is_alnum(at(s, end)) || end - begin < 6) return false;
    return (gaps == 0 ? groups == 8 : gaps == 1 && groups >= 2 && groups <= 7) && found(out, NIGH_FIND_IP, begin, end);
}

/* ---- secrets ---- */

static const struct { const char *prefix; size_t least; } token_forms[] = {
    { "sk-", 20 },     { "sk_live_", 24 }, { "sk_test_", 24 }, { "rk_live_", 24 }, { "ghp_", 40 },   { "gho_", 40 },
    { "ghu_", 40 },    { "ghs_", 40 },     { "ghr_", 40 },     { "github_pat_", 40 }, { "akia", 20 }, { "asia", 20 },
    { "xoxb-", 20 },   { "xoxp-", 20 },    { "xoxa-", 20 },    { "xoxs-", 20 },    { "aiza", 39 },   { "hf_", 30 },
    { "glpat-", 20 },  { "npm_", 36 },     { "pypi-", 40 },    { "eyj", 40 },      { "ya29.", 40 },  { "sg.", 60 },
};

/* Letters of both kinds or digits among them: words joined by dashes are not keys. */
static bool looks_random(nigh_str s, size_t begin, size_t end) {
    size_t digits = 0, upper = 0, small = 0;
    for (size_t i = begin; i < end; i++) {
        digits += is_digit(s.ptr[i]);
        upper += s.ptr[i] >= 'A' && s.ptr[i] <= 'Z';
        small += s.ptr[i] >= 'a' && s.ptr[i] <= 'z';
    }
    return digits >= 2 && upper + small >= 2;
}

/* The token around i; a key when it begins like one. */
static bool find_token(nigh_str s, walk *w, size_t i, nigh_found *out) {
    size_t begin = i, end = i, low = i > w->floor + LOOK_BACK ? i - LOOK_BACK : w->floor;
    if (i < w->token_end) return false;
    while (begin > low && is_token(s.ptr[begin - 1]) && s.ptr[begin - 1] != '=') begin--;
    while (end < s.len && is_token(s.ptr[end]) && end - begin < SECRET_MAX) end++;
    w->token_end = end;
    while (end > begin && strchr(".-/=+", s.ptr[end - 1])) end--;
    for (size_t k = 0; k < NIGH_COUNT(token_forms); k++)
        if (end - begin >= token_forms[k].least && matches(s, begin, token_forms[k].prefix)
            && looks_random(s, begin + strlen(token_forms[k].prefix), end))
            return found(out, NIGH_FIND_SECRET, begin, end);
    return false;
}

/* -----BEGIN ... PRIVATE KEY----- to its end, or as far as the text goes. */
static bool find_pem(nigh_str s, size_t i, nigh_found *out) {
    if (!matches(s, i, "-----begin ")) return false;
    s.len = nigh_min(s.len, i + PEM_MAX);
    size_t line = nigh_str_find(nigh_str_slice(s, 0, i + 80), NIGH_STR("PRIVATE KEY-----"), i);
    if (line == SIZE_MAX) return false;
    size_t end = nigh_str_find(s, NIGH_STR("-----END "), line);
    size_t close = end == SIZE_MAX ? SIZE_MAX : nigh_str_find(s, NIGH_STR("KEY-----"), end);
    return found(out, NIGH_FIND_SECRET, i, close == SIZE_MAX ? s.len : close + 8);
}

/* password=..., api_key: "..."; the sign stands at i. Only the value is the finding. */
static bool find_password(nigh_str s, size_t floor, size_t i, nigh_found *out) {
    static const char *const names[] = { "password", "passwd", "pwd", "secret", "token", "api_key", "api-key", "apikey",
                                         "access_key", "passphrase" };
    size_t name = i, begin = i + 1;
    while (name > floor && i - name < 3 && strchr(" \"'", s.ptr[name - 1])) name--;
    bool named = false;
    for (size_t k = 0; k < NIGH_COUNT(names) && !named; k++) {
        size_t len = strlen(names[k]);
        named = name >= floor + len && matches(s, name - len, names[k]);
    }
    if (!named) return false;
    while (begin < s.len && begin - i < 4 && strchr(" \"'", s.ptr[begin])) begin++;
    size_t end = begin;
    while (end < s.len && end - begin < SECRET_MAX && !is_space(s.ptr[end]) && !strchr("\"',;)}]<>", s.ptr[end])) end++;
    while (end > begin && s.ptr[end - 1] == '.') end--;
    bool mixed = false, other = false;
    for (size_t k = begin; k < end; k++) {
        mixed = mixed || is_digit(s.ptr[k]) || (s.ptr[k] >= 'A' && s.ptr[k] <= 'Z' && k > begin);
        other = other || !is_alnum(s.ptr[k]);
    }
    return end - begin >= 6 && (mixed || other) && found(out, NIGH_FIND_SECRET, begin, end);
}

/* ---- the walk ---- */

enum { T_NONE, T_DIGIT, T_AT, T_COLON, T_DOT, T_DASH, T_UNDERSCORE, T_EQUALS };
static const uint8_t triggers[256] = {
    ['0'] = T_DIGIT, ['1'] = T_DIGIT, ['2'] = T_DIGIT, ['3'] = T_DIGIT, ['4'] = T_DIGIT, ['5'] = T_DIGIT,
    ['6'] = T_DIGIT, ['7'] = T_DIGIT, ['8'] = T_DIGIT, ['9'] = T_DIGIT, ['@'] = T_AT, [':'] = T_COLON,
    ['.'] = T_DOT, ['-'] = T_DASH, ['_'] = T_UNDERSCORE, ['='] = T_EQUALS
};

/* "user.name@host" shows itself at its dot first; what begins inside a longer finding must not win. So mail is looked
 * for to the right of a dot, a dash or a digit before anything else. */
static bool mail_ahead(nigh_str s, walk *w, size_t i, nigh_found *out) {
    size_t end = i;
    if (i < w->local_end) return false;
    while (end < s.len && end - i < 64 && is_local(s.ptr[end])) end++;
    if (at(s, end) == '@') return find_mail(s, w->floor, end, out) && out->begin <= i;
    w->local_end = end;
    return false;
}

/* Tries what the byte at i may be part of. skip: bytes after i that need no look, when nothing was found. */
static bool look(nigh_str s, walk *w, size_t i, nigh_found *out, size_t *skip) {
    switch (triggers[(unsigned char)s.ptr[i]]) {
    case T_AT: return find_mail(s, w->floor, i, out);
    case T_COLON:
        return find_url(s, w->floor, i, out) || find_mac(s, w->floor, i, out) || find_ipv6(s, w->floor, i, out)
               || find_password(s, w->floor, i, out);
    case T_EQUALS: return find_password(s, w->floor, i, out);
    case T_DOT: return mail_ahead(s, w, i, out) || find_host(s, w->floor, i, out);
    case T_DASH:
        return find_pem(s, i, out) || mail_ahead(s, w, i, out) || find_mac(s, w->floor, i, out)
               || find_token(s, w, i, out);
    case T_UNDERSCORE: return mail_ahead(s, w, i, out) || find_token(s, w, i, out);
    default:
        if (i > w->floor && is_digit(s.ptr[i - 1])) return false;
        return mail_ahead(s, w, i, out) || find_token(s, w, i, out) || nigh_find_number(s, w->floor, i, out, skip);
    }
}

bool nigh_find_next(nigh_str text, size_t *from, unsigned kinds, nigh_found *out) {
    walk w = { .floor = *from };
    size_t skip;
    for (size_t i = *from; i < text.len; i += skip) {
        while (i < text.len && !triggers[(unsigned char)text.ptr[i]]) i++;
        if (i == text.len) break;
        skip = 1;
        if (!look(text, &w, i, out, &skip)) continue;
        *from = w.floor = out->end;
        if (kinds >> out->kind & 1) return true;
        skip = out->end > i ? out->end - i : 1;
    }
    *from = text.len;
    return false;
}
