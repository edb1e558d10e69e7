/* egress.c - see egress.h.
 *
 * IPv4 goes by the table of special addresses (IANA's registry, RFC 6890 and its successors): what is not in it is
 * the internet. IPv6 goes the other way round: only 2000::/3 is the internet, less the tunnels and documentation
 * inside it; of the rest ::1 and fc00::/7 are one's own and everything else is never connected to. Among that are all
 * the ways to write an IPv4 address into an IPv6 one: mapped, compatible, translated (NAT64), 6to4, Teredo. They are
 * refused as such, without a look at what is inside: no service is reached in these ways only. */
#include "node/egress.h"

#include <arpa/inet.h>

/* ---- addresses ---- */
typedef struct { uint32_t net, bits; nigh_egress_kind kind; const char *what; } v4_range;

static const v4_range v4_ranges[] = {     /* the first that fits counts */
    { 0xa9fea9fe, 32, NIGH_EGRESS_NEVER, "a metadata address" },           /* 169.254.169.254 */
    { 0x646464c8, 32, NIGH_EGRESS_NEVER, "a metadata address" },           /* 100.100.100.200 */
    { 0xa83f8110, 32, NIGH_EGRESS_NEVER, "a metadata address" },           /* 168.63.129.16 */
    { 0x7f000000, 8, NIGH_EGRESS_OWN, "a loopback address" },
    { 0x0a000000, 8, NIGH_EGRESS_OWN, "a private address" },
    { 0xac100000, 12, NIGH_EGRESS_OWN, "a private address" },
    { 0xc0a80000, 16, NIGH_EGRESS_OWN, "a private address" },
    { 0x64400000, 10, NIGH_EGRESS_OWN, "a private address" },              /* 100.64/10, RFC 6598 */
    { 0x00000000, 8, NIGH_EGRESS_NEVER, "an address of no network" },
    { 0xa9fe0000, 16, NIGH_EGRESS_NEVER, "a link-local address" },
    { 0xc0000000, 24, NIGH_EGRESS_NEVER, "a reserved address" },
    { 0xc0000200, 24, NIGH_EGRESS_NEVER, "an address for documentation" },
    { 0xc0586300, 24, NIGH_EGRESS_NEVER, "a reserved address" },
    { 0xc6120000, 15, NIGH_EGRESS_NEVER, "a reserved address" },
    { 0xc6336400, 24, NIGH_EGRESS_NEVER, "an address for documentation" },
    { 0xcb007100, 24, NIGH_EGRESS_NEVER, "an address for documentation" },
    { 0xe0000000, 4, NIGH_EGRESS_NEVER, "a multicast address" },
    { 0xf0000000, 4, NIGH_EGRESS_NEVER, "a reserved address" },
};

static nigh_egress_kind kind_of_v4(uint32_t ip, const char **what) {
    for (size_t i = 0; i < NIGH_COUNT(v4_ranges); i++) {
        const v4_range *r = &v4_ranges[i];
        if ((ip ^ r->net) >> (32 - r->bits)) continue;
        *what = r->what;
        return r->kind;
    }
    *what = "a public address";
    return NIGH_EGRESS_PUBLIC;
}

typedef struct { uint8_t net[16]; uint32_t bits; nigh_egress_kind kind; const char *what; } v6_range;

static const v6_range v6_ranges[] = {
    { { [15] = 1 }, 128, NIGH_EGRESS_OWN, "a loopback address" },
    { { 0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, 0x54 }, 128, NIGH_EGRESS_NEVER, "a metadata address" },
    { { 0xfd, 0x20, 0x00, 0xce, [14] = 0x02, 0x54 }, 128, NIGH_EGRESS_NEVER, "a metadata address" },
    { { 0xfc }, 7, NIGH_EGRESS_OWN, "a private address" },
    { { [10] = 0xff, 0xff }, 96, NIGH_EGRESS_NEVER, "an IPv4 address inside an IPv6 one" },
    { { 0x00, 0x64, 0xff, 0x9b }, 32, NIGH_EGRESS_NEVER, "a translated address (NAT64)" },
    { { 0 }, 96, NIGH_EGRESS_NEVER, "an address of no network" },
    { { 0xfe, 0x80 }, 10, NIGH_EGRESS_NEVER, "a link-local address" },
    { { 0xff }, 8, NIGH_EGRESS_NEVER, "a multicast address" },
    { { 0x20, 0x01 }, 23, NIGH_EGRESS_NEVER, "a tunnel's or reserved address" },   /* Teredo and its neighbours */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32, NIGH_EGRESS_NEVER, "an address for documentation" },
    { { 0x20, 0x02 }, 16, NIGH_EGRESS_NEVER, "a tunnel's address (6to4)" },
    { { 0x3f, 0xff }, 20, NIGH_EGRESS_NEVER, "an address for documentation" },
    { { 0x20 }, 3, NIGH_EGRESS_PUBLIC, "a public address" },
};

static bool in_range(const uint8_t *ip, const v6_range *r) {
    size_t whole = r->bits / 8, rest = r->bits % 8;
    if (memcmp(ip, r->net, whole) != 0) return false;
    return rest == 0 || (ip[whole] ^ r->net[whole]) >> (8 - rest) == 0;
}

nigh_egress_kind nigh_egress_kind_of(const uint8_t *bytes, size_t count, const char **what) {
    if (count == 4)
        return kind_of_v4((uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3],
                          what);
    for (size_t i = 0; count == 16 && i < NIGH_COUNT(v6_ranges); i++)
        if (in_range(bytes, &v6_ranges[i])) { *what = v6_ranges[i].what; return v6_ranges[i].kind; }
    *what = "a reserved address";
    return NIGH_EGRESS_NEVER;
}

nigh_egress_kind nigh_egress_kind_of_text(const char *numeric, const char **what) {
    uint8_t bytes[16];
    if (inet_pton(AF_INET, numeric, bytes) == 1) return nigh_egress_kind_of(bytes, 4, what);
    if (inet_pton(AF_INET6, numeric, bytes) == 1) return nigh_egress_kind_of(bytes, 16, what);
    *what = "no address";
    return NIGH_EGRESS_NEVER;
}

const char *nigh_egress_refuses(const nigh_egress_rule *rule, nigh_egress_kind kind) {
    if (kind == NIGH_EGRESS_NEVER) return "no target may be such an address";
    if (rule->tier == NIGH_TIER_EDGE)
        return kind == NIGH_EGRESS_PUBLIC && !rule->https ? "an edge target on the internet must be asked over https"
                                                          : NULL;
    if (rule->tier != NIGH_TIER_CLOUD) return "only edge and cloud targets are asked over the network";
    if (rule->allowed) return NULL;
    if (!rule->https) return "a cloud target must be asked over https";
    return kind == NIGH_EGRESS_PUBLIC ? NULL : "a cloud target may not be in this machine or its network";
}

/* ---- text ---- */
/* Ports on which something else than HTTP listens: the list of the Fetch standard, and databases. */
static const uint16_t other_ports[] = { 1,    7,    9,    11,   13,   15,    17,    19,   20,   21,   22,   23,
                                        25,   37,   42,   43,   53,   69,    77,    79,   87,   95,   101,  102,
                                        103,  104,  109,  110,  111,  113,   115,   117,  119,  123,  135,  137,
                                        139,  143,  161,  179,  389,  427,   445,   465,  512,  513,  514,  515,
                                        526,  530,  531,  532,  540,  548,   554,   556,  563,  587,  601,  636,
                                        989,  990,  993,  995,  1433, 1521,  1719,  1720, 1723, 2049, 3306, 3389,
                                        3659, 4045, 4190, 5060, 5061, 5432,  5900,  6000, 6379, 6566, 6665, 6666,
                                        6667, 6668, 6669, 6679, 6697, 10080, 11211, 27017 };

static bool is_other_port(uint32_t port) {
    for (size_t i = 0; i < NIGH_COUNT(other_ports); i++) if (other_ports[i] == port) return true;
    return false;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return nigh_hex_digit(c) >= 0; }

/* The letters that may stand in an address at all (RFC 3986), with % only before two hex digits. */
static bool letters_are_plain(nigh_str t) {
    for (size_t i = 0; i < t.len; i++) {
        char c = t.ptr[i];
        if (c <= 0x20 || c >= 0x7f || strchr("\"<>\\^`{|}", c)) return false;
        if (c == '%' && (t.len - i < 3 || !is_hex(t.ptr[i + 1]) || !is_hex(t.ptr[i + 2]))) return false;
    }
    return true;
}

/* Four decimal numbers, no zero in front. */
static bool is_usual_v4(const char *host) {
    size_t parts = 0;
    for (const char *p = host;; p++, parts++) {
        uint32_t v = 0, digits = 0;
        for (; is_digit(*p) && digits < 4; p++, digits++) v = v * 10 + (uint32_t)(*p - '0');
        if (digits == 0 || digits > 3 || v > 255 || (digits > 1 && p[-(int)digits] == '0')) return false;
        if (*p == '\0') return parts == 3;
        if (*p != '.' || parts == 3) return false;
    }
}

/* Names of at most 253 letters, their parts of letters, digits, - and _ . */
static bool is_host_name(const char *host) {
    size_t len = strlen(host), part = 0;
    if (len == 0 || len > 253) return false;
    for (size_t i = 0; i <= len; i++) {
        char c = host[i];
        if (c == '.' || c == '\0') {
            if (part == 0 || part > 63 || host[i - 1] == '-') return false;
            part = 0;
            continue;
        }
        if (!is_digit(c) && !(c >= 'a' && c <= 'z') && c != '_' && (c != '-' || part == 0)) return false;
        part++;
    }
    return true;
}

/* Does a resolver read the last part as a number? Then the whole is an address in some spelling, never a name. */
static bool ends_in_number(const char *host) {
    const char *last = strrchr(host, '.');
    last = last ? last + 1 : host;
    if (!is_digit(last[0])) return false;
    if (last[0] == '0' && last[1] == 'x') last += 2;
    while (is_hex(*last)) last++;
    return *last == '\0';
}

static nigh_status check_host(nigh_egress_url *u, nigh_err *err) {
    if (is_usual_v4(u->host)) { u->is_v4 = true; return NIGH_OK; }
    if (ends_in_number(u->host))
        return nigh_fail(err, NIGH_EINVAL, 0, "url: a numeric address must be written as four decimal numbers");
    if (!is_host_name(u->host)) return nigh_fail(err, NIGH_EINVAL, 0, "url: this is not a host name");
    return NIGH_OK;
}

static nigh_status check_v6(nigh_egress_url *u, nigh_err *err) {
    uint8_t bytes[16];
    u->is_v6 = true;
    return inet_pton(AF_INET6, u->host, bytes) == 1
               ? NIGH_OK : nigh_fail(err, NIGH_EINVAL, 0, "url: this is not an IPv6 address");
}

/* Host and port, between // and the path. */
static nigh_status read_authority(nigh_egress_url *u, nigh_str a, nigh_err *err) {
    bool v6 = a.len && a.ptr[0] == '[';
    size_t host_end = nigh_str_find(a, v6 ? NIGH_STR("]") : NIGH_STR(":"), 0), skip = v6 ? 1 : 0;
    if (v6 && host_end == SIZE_MAX) return nigh_fail(err, NIGH_EINVAL, 0, "url: a [ without its ]");
    if (nigh_str_find(a, NIGH_STR("@"), 0) != SIZE_MAX)
        return nigh_fail(err, NIGH_EINVAL, 0, "url: no user name or password may stand in an address");
    nigh_str host = nigh_str_slice(a, skip, nigh_min(host_end, a.len));
    if (host.len >= sizeof u->host) return nigh_fail(err, NIGH_EINVAL, 0, "url: the host name is too long");
    for (size_t i = 0; i < host.len; i++) {
        char c = host.ptr[i];
        u->host[i] = c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
    }
    nigh_str rest = nigh_str_slice(a, nigh_min(host_end, a.len) + skip, a.len);
    uint32_t port = u->https ? 443 : 80;
    if (rest.len) {
        if (rest.ptr[0] != ':' || rest.len < 2 || rest.len > 6 || rest.ptr[1] == '0')
            return nigh_fail(err, NIGH_EINVAL, 0, "url: this is not a port");
        port = 0;
        for (size_t i = 1; i < rest.len; i++) {
            if (!is_digit(rest.ptr[i])) return nigh_fail(err, NIGH_EINVAL, 0, "url: this is not a port");
            port = port * 10 + (uint32_t)(rest.ptr[i] - '0');
        }
    }
    if (port == 0 || port > 65535) return nigh_fail(err, NIGH_EINVAL, 0, "url: this is not a port");
    if (is_other_port(port)) return nigh_failf(err, NIGH_EINVAL, 0, "url: port %u belongs to another protocol", port);
    u->port = (uint16_t)port;
    return v6 ? check_v6(u, err) : check_host(u, err);
}

nigh_status nigh_egress_parse(nigh_egress_url *out, nigh_str text, nigh_err *err) {
    *out = (nigh_egress_url){ 0 };
    if (text.len > NIGH_EGRESS_URL_MAX) return nigh_fail(err, NIGH_EINVAL, 0, "url: longer than 2,048 letters");
    if (!letters_are_plain(text))
        return nigh_fail(err, NIGH_EINVAL, 0, "url: a letter that must be written as %XX, or a % without its digits");
    if (nigh_str_find(text, NIGH_STR("#"), 0) != SIZE_MAX)
        return nigh_fail(err, NIGH_EINVAL, 0, "url: a # has no place here");
    if (nigh_str_starts(text, NIGH_STR("https://"))) out->https = true;
    else if (!nigh_str_starts(text, NIGH_STR("http://")))
        return nigh_fail(err, NIGH_EINVAL, 0, "url: it must begin with https:// or http://");
    size_t begin = out->https ? 8 : 7, end = begin;
    while (end < text.len && text.ptr[end] != '/' && text.ptr[end] != '?') end++;
    size_t query = nigh_min(nigh_str_find(text, NIGH_STR("?"), end), text.len);
    out->path = nigh_str_slice(text, end, query);
    out->query = nigh_str_slice(text, query, text.len);
    if (nigh_str_find(out->path, NIGH_STR("/../"), 0) != SIZE_MAX || nigh_str_ends(out->path, NIGH_STR("/..")))
        return nigh_fail(err, NIGH_EINVAL, 0, "url: /../ has no place in a path");
    return read_authority(out, nigh_str_slice(text, begin, end), err);
}

void nigh_egress_name(const nigh_egress_url *u, char *out, size_t cap) {
    nigh_format(out, cap, u->is_v6 ? "[%s]:%u" : "%s:%u", u->host, (unsigned)u->port);
}
