/* find_number.c - numbers of people and their money, for find.c: cards, accounts, national numbers, wallets,
 * machines' addresses, telephones.
 *
 * A number is read once into groups of digits with what stands between them; then each kind looks at the groups
 * from the first one on. Kinds with check digits come first, telephones last: they have none, so they need a country
 * code, a usual grouping, or a word near them ("call", "fax"). */
#include "base/sha256.h"
#include "place/find_parts.h"

enum { GROUPS_MAX = 8, DIGITS_MAX = 24, CONTEXT = 48 };

/* Groups of digits that are parted by at most two of " -./()". */
typedef struct {
    size_t begin;                       /* of the first digit */
    size_t count, digits;               /* groups; digits in all */
    size_t len[GROUPS_MAX], at[GROUPS_MAX], end[GROUPS_MAX];
    char parted[GROUPS_MAX];            /* the first byte before group i (i > 0) */
    uint8_t digit[DIGITS_MAX + 1];
} number;

static size_t separator_bytes(nigh_str s, size_t i) {
    static const char separators[] = " -./()";
    size_t n = 0;
    while (n < 2 && at(s, i + n) && strchr(separators, s.ptr[i + n])) n++;
    return is_digit(at(s, i + n)) ? n : 0;
}

static void read_number(nigh_str s, size_t i, number *n) {
    *n = (number){ .begin = i };
    while (n->count < GROUPS_MAX && is_digit(at(s, i))) {
        size_t g = n->count++;
        n->at[g] = i;
        for (; is_digit(at(s, i)) && n->digits < DIGITS_MAX; i++) n->digit[n->digits++] = (uint8_t)(s.ptr[i] - '0');
        n->end[g] = i;
        n->len[g] = i - n->at[g];
        if (is_digit(at(s, i))) break;              /* longer than anything that is known here */
        size_t gap = separator_bytes(s, i);
        if (gap == 0) break;
        if (g + 1 < GROUPS_MAX) n->parted[g + 1] = s.ptr[i];
        i += gap;
    }
}

static size_t first_digits(const number *n, size_t groups) {
    size_t sum = 0;
    for (size_t g = 0; g < groups; g++) sum += n->len[g];
    return sum;
}

static bool ends_here(nigh_str s, size_t end) { return !is_alnum(at(s, end)) && !is_wide(at(s, end)); }

static uint64_t value_of(const uint8_t *d, size_t count) {
    uint64_t v = 0;
    for (size_t i = 0; i < count; i++) v = v * 10 + d[i];
    return v;
}

/* ---- check digits ---- */

static bool luhn(const uint8_t *d, size_t count) {
    unsigned sum = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned v = d[count - 1 - i] * (i % 2 ? 2u : 1u);
        sum += v > 9 ? v - 9 : v;
    }
    return sum % 10 == 0;
}

/* ISO 7064 mod 11,10: the German tax number. */
static bool mod_11_10(const uint8_t *d, size_t count) {
    unsigned product = 10;
    for (size_t i = 0; i + 1 < count; i++) {
        unsigned sum = (d[i] + product) % 10;
        product = (sum ? sum : 10) * 2 % 11;
    }
    return (11 - product) % 10 == d[count - 1];
}

/* Verhoeff's dihedral code: Aadhaar. */
static bool verhoeff(const uint8_t *d, size_t count) {
    static const uint8_t times[10][10] = {
        { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 }, { 1, 2, 3, 4, 0, 6, 7, 8, 9, 5 }, { 2, 3, 4, 0, 1, 7, 8, 9, 5, 6 },
        { 3, 4, 0, 1, 2, 8, 9, 5, 6, 7 }, { 4, 0, 1, 2, 3, 9, 5, 6, 7, 8 }, { 5, 9, 8, 7, 6, 0, 4, 3, 2, 1 },
        { 6, 5, 9, 8, 7, 1, 0, 4, 3, 2 }, { 7, 6, 5, 9, 8, 2, 1, 0, 4, 3 }, { 8, 7, 6, 5, 9, 3, 2, 1, 0, 4 },
        { 9, 8, 7, 6, 5, 4, 3, 2, 1, 0 } };
    static const uint8_t turn[8][10] = {
        { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 }, { 1, 5, 7, 6, 2, 8, 3, 0, 9, 4 }, { 5, 8, 0, 3, 7, 9, 6, 1, 4, 2 },
        { 8, 9, 1, 6, 0, 4, 3, 5, 2, 7 }, { 9, 4, 5, 3, 1, 2, 6, 8, 7, 0 }, { 4, 2, 8, 6, 5, 7, 3, 9, 0, 1 },
        { 2, 7, 9, 3, 8, 0, 6, 4, 1, 5 }, { 7, 0, 4, 6, 9, 1, 3, 2, 5, 8 } };
    uint8_t c = 0;
    for (size_t i = 0; i < count; i++) c = times[c][turn[i % 8][d[count - 1 - i]]];
    return c == 0;
}

static unsigned weighted(const uint8_t *d, const uint8_t *weights, size_t count) {
    unsigned sum = 0;
    for (size_t i = 0; i < count; i++) sum += (unsigned)d[i] * weights[i];
    return sum;
}

/* ---- words near a number ---- */

/* One of `words` (small letters, separated by blanks) within CONTEXT bytes before `begin`, on this line or the one
 * above. */
static bool said_before(nigh_str s, size_t begin, const char *const *words, size_t count) {
    size_t low = begin > CONTEXT ? begin - CONTEXT : 0;
    for (size_t i = low; i < begin; i++) {
        if (i > 0 && is_letter(s.ptr[i - 1])) continue;
        for (size_t k = 0; k < count; k++) {
            size_t n = 0;
            while (words[k][n] && i + n < begin && lower(s.ptr[i + n]) == words[k][n]) n++;
            if (!words[k][n]) return true;
        }
    }
    return false;
}
#define SAID(s, begin, ...) \
    said_before(s, begin, (const char *const[]){ __VA_ARGS__ }, \
                sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

/* ---- cards, accounts ---- */

/* ISO 7812 prefixes and lengths. */
static bool is_card_form(const uint8_t *d, size_t n) {
    unsigned two = (unsigned)value_of(d, 2), four = (unsigned)value_of(d, 4);
    if (d[0] == 4) return n == 13 || n == 16 || n == 19;
    if ((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720)) return n == 16;
    if (two == 34 || two == 37) return n == 15;
    if (two == 36 || two == 38 || two == 39 || (four >= 3000 && four <= 3059)) return n == 14 || n == 16;
    if (four == 2131 || four == 1800) return n == 15;
    if (two == 35) return n == 16;
    if (two == 50 || (two >= 56 && two <= 69)) return n >= 12 && n <= 19;
    return false;
}

/* Groups as cards are printed: one, fours with a shorter last one, 4-6-5, 4-6-4; all parted alike. */
static bool is_card_grouping(const number *n, size_t groups) {
    if (groups == 1) return true;
    if (groups == 3 && n->len[0] == 4 && n->len[1] == 6 && (n->len[2] == 4 || n->len[2] == 5)) return true;
    for (size_t g = 0; g < groups; g++) {
        if (n->len[g] != 4 && !(g + 1 == groups && n->len[g] < 4)) return false;
        if (g > 1 && n->parted[g] != n->parted[1]) return false;
    }
    return groups >= 3;
}

static bool find_card(nigh_str s, const number *n, nigh_found *out) {
    for (size_t groups = n->count; groups > 0; groups--) {
        size_t digits = first_digits(n, groups);
        if (digits < 12 || digits > 19 || !is_card_grouping(n, groups) || !ends_here(s, n->end[groups - 1])) continue;
        if (is_card_form(n->digit, digits) && luhn(n->digit, digits))
            return found(out, NIGH_FIND_CARD, n->begin, n->end[groups - 1]);
    }
    return false;
}

/* ISO 13616 registry: lengths of the countries' accounts. */
static size_t iban_length(char a, char b) {
    static const char table[] =
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18FO18FR27GB22GE22"
        "GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21MC27MD24ME22MK19MR27MT31"
        "MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24SI19SK24SM27ST25SV28TL23TN24TR26UA29VA22VG24XK20";
    for (size_t i = 0; i + 4 <= sizeof table - 1; i += 4)
        if (table[i] == a && table[i + 1] == b) return (size_t)(table[i + 2] - '0') * 10 + (size_t)(table[i + 3] - '0');
    return 0;
}

/* Two letters stand before the digit at i. ISO 7064 mod 97,10 over what follows, the head last. */
static bool find_iban(nigh_str s, size_t floor, size_t i, nigh_found *out) {
    char text[34];
    size_t n = 0, end = i - 2;
    if (i < floor + 2 || !is_letter(s.ptr[i - 1]) || !is_letter(s.ptr[i - 2])) return false;
    if (i > floor + 2 && is_alnum(s.ptr[i - 3])) return false;
    size_t want = iban_length(upper(s.ptr[i - 2]), upper(s.ptr[i - 1]));
    while (n < want && end < s.len) {
        if (is_alnum(s.ptr[end])) text[n++] = upper(s.ptr[end]);
        else if (s.ptr[end] != ' ' || n % 4 || n == 0) return false;
        end++;
    }
    if (want == 0 || n < want || !ends_here(s, end)) return false;
    unsigned rest = 0;
    for (size_t k = 0; k < n; k++) {
        char c = text[(k + 4) % n];
        rest = is_digit(c) ? (rest * 10 + (unsigned)(c - '0')) % 97 : (rest * 100 + (unsigned)(c - 'A' + 10)) % 97;
    }
    return rest == 1 && found(out, NIGH_FIND_IBAN, i - 2, end);
}

/* ---- national numbers ---- */

static bool shaped(const number *n, size_t groups, size_t a, size_t b, size_t c) {
    return n->count >= groups && n->len[0] == a && (groups < 2 || n->len[1] == b) && (groups < 3 || n->len[2] == c);
}

/* 3-2-4: the Social Security Administration's rules, and taxpayers' numbers of the 9xx area. */
static bool find_ssn(nigh_str s, const number *n, nigh_found *out) {
    bool dashes = shaped(n, 3, 3, 2, 4) && n->parted[1] == '-' && n->parted[2] == '-';
    bool parted = dashes || (shaped(n, 3, 3, 2, 4) && n->parted[1] == ' ' && n->parted[2] == ' ');
    if (!parted && !shaped(n, 1, 9, 0, 0)) return false;
    if (!dashes && !SAID(s, n->begin, "ssn", "social security", "itin")) return false;
    size_t end = n->end[parted ? 2 : 0];
    uint64_t area = value_of(n->digit, 3), group = value_of(n->digit + 3, 2), serial = value_of(n->digit + 5, 4);
    if (!ends_here(s, end) || (at(s, end) == '-' && is_digit(at(s, end + 1)))) return false;
    if (area == 0 || area == 666 || group == 0 || serial == 0) return false;
    if (area >= 900 && !((group >= 50 && group <= 65) || (group >= 70 && group <= 88) || (group >= 90 && group != 93)))
        return false;
    return found(out, NIGH_FIND_SSN, n->begin, end);
}

/* Numbers that are told by their shape and check digits alone. */
static bool is_national_11(const uint8_t *d) {
    static const uint8_t pesel[] = { 1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1 };
    size_t seen[10] = { 0 }, most = 0, once = 0;
    unsigned month = d[2] % 2 * 10u + d[3], day = d[4] * 10u + d[5];
    if (weighted(d, pesel, 11) % 10 == 0 && month >= 1 && month <= 12 && day >= 1 && day <= 31) return true;
    for (size_t i = 0; i < 10; i++) seen[d[i]]++;
    for (size_t i = 0; i < 10; i++) {
        most = nigh_max(most, seen[i]);
        once += seen[i] > 1;
    }
    return d[0] != 0 && once == 1 && most <= 3 && mod_11_10(d, 11);     /* Germany: one digit two or three times */
}

static bool is_cpf(const uint8_t *d) {
    static const uint8_t first[] = { 10, 9, 8, 7, 6, 5, 4, 3, 2 }, second[] = { 11, 10, 9, 8, 7, 6, 5, 4, 3, 2 };
    unsigned a = weighted(d, first, 9) * 10 % 11 % 10, b = weighted(d, second, 10) * 10 % 11 % 10;
    return a == d[9] && b == d[10];
}

/* France: sex, year, month, ..., 97 minus the rest. */
static bool is_nir(const uint8_t *d) {
    unsigned month = d[3] * 10u + d[4];
    return (d[0] == 1 || d[0] == 2) && month >= 1 && month <= 12 && 97 - value_of(d, 13) % 97 == value_of(d + 13, 2);
}

static bool is_nhs(const uint8_t *d) {
    static const uint8_t weights[] = { 10, 9, 8, 7, 6, 5, 4, 3, 2 };
    unsigned check = 11 - weighted(d, weights, 9) % 11;
    return (check == 11 ? 0 : check) == d[9];
}

static bool is_bsn(const uint8_t *d) {
    static const uint8_t weights[] = { 9, 8, 7, 6, 5, 4, 3, 2 };
    return weighted(d, weights, 8) % 11 == d[8];
}

static bool find_national_digits(nigh_str s, const number *n, nigh_found *out) {
    size_t end = n->end[n->count - 1], one = n->end[0];
    const uint8_t *d = n->digit;
    bool whole = ends_here(s, one);
    if (whole && n->len[0] == 11 && is_national_11(d)) return found(out, NIGH_FIND_NATIONAL_ID, n->begin, one);
    bool last = ends_here(s, end);
    if (n->count == 4 && n->digits == 11 && shaped(n, 3, 3, 3, 3) && n->parted[1] == '.' && is_cpf(d) && last)
        return found(out, NIGH_FIND_NATIONAL_ID, n->begin, end);
    if (n->count == 3 && shaped(n, 3, 4, 4, 4) && d[0] >= 2 && verhoeff(d, 12) && last)
        return found(out, NIGH_FIND_NATIONAL_ID, n->begin, end);
    if (n->digits == 15 && last && is_nir(d)) return found(out, NIGH_FIND_NATIONAL_ID, n->begin, end);
    if (n->digits == 10 && last && is_nhs(d) && SAID(s, n->begin, "nhs"))
        return found(out, NIGH_FIND_NATIONAL_ID, n->begin, end);
    if (whole && n->len[0] == 9 && is_bsn(d) && SAID(s, n->begin, "bsn", "burgerservice"))
        return found(out, NIGH_FIND_NATIONAL_ID, n->begin, one);
    if (n->digits == 9 && last && luhn(d, 9) && SAID(s, n->begin, "sin ", "social insurance"))
        return found(out, NIGH_FIND_NATIONAL_ID, n->begin, end);
    return false;
}

/* Spain: eight digits and a letter, mod 23 (NIE: X, Y or Z for the first digit). */
static bool find_nif(nigh_str s, size_t floor, const number *n, nigh_found *out) {
    static const char letters[] = "TRWAGMYFPDXBNJZSQVHLCKE";
    size_t end = n->end[0] + (at(s, n->end[0]) == '-');
    uint64_t v = value_of(n->digit, n->len[0]);
    bool nie = n->len[0] == 7 && n->begin > floor;
    char lead = nie ? upper(s.ptr[n->begin - 1]) : '\0';
    if (nie && lead >= 'X' && lead <= 'Z') v += (uint64_t)(lead - 'X') * 10000000;
    else if (n->len[0] != 8) return false;
    else nie = false;
    size_t begin = n->begin - nie;
    if (!is_letter(at(s, end)) || upper(s.ptr[end]) != letters[v % 23] || !ends_here(s, end + 1)) return false;
    if (begin > floor && is_alnum(s.ptr[begin - 1])) return false;
    return found(out, NIGH_FIND_NATIONAL_ID, begin, end + 1);
}

/* Britain: two letters, six digits, a letter. */
static bool find_nino(nigh_str s, size_t floor, const number *n, nigh_found *out) {
    size_t i = n->begin;
    bool six = n->len[0] == 6 || (n->digits == 6 && n->count == 3 && shaped(n, 3, 2, 2, 2));
    size_t end = n->end[n->len[0] == 6 ? 0 : n->count - 1], gap = at(s, end) == ' ';
    if (!six || i < floor + 2) return false;
    size_t lead = s.ptr[i - 1] == ' ' ? i - 1 : i;
    if (lead < floor + 2 || !is_letter(s.ptr[lead - 1]) || !is_letter(s.ptr[lead - 2])) return false;
    char a = upper(s.ptr[lead - 2]), b = upper(s.ptr[lead - 1]), c = upper(at(s, end + gap));
    if (strchr("DFIQUV", a) || strchr("DFIOQUV", b) || c < 'A' || c > 'D' || !ends_here(s, end + gap + 1)) return false;
    if (lead > floor + 2 && is_alnum(s.ptr[lead - 3])) return false;
    return found(out, NIGH_FIND_NATIONAL_ID, lead - 2, end + gap + 1);
}

/* Italy: six letters, two digits, a letter, two digits, a letter, three digits, a check letter. i: the first digit. */
static bool find_codice_fiscale(nigh_str s, size_t floor, size_t i, nigh_found *out) {
    static const uint8_t odd[] = { 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25,
                                   24, 23 };
    static const char form[] = "LLLLLLDDLDDLDDDL";
    unsigned sum = 0;
    if (i < floor + 6 || i + 10 > s.len) return false;
    for (size_t k = 0; k < 16; k++) {
        char c = upper(s.ptr[i - 6 + k]);
        if (form[k] == 'L' ? !is_letter(c) : !is_digit(c)) return false;
        unsigned v = is_digit(c) ? (unsigned)(c - '0') : (unsigned)(c - 'A');
        if (k < 15) sum += k % 2 ? v : odd[v];
    }
    if (upper(s.ptr[i + 9]) != (char)('A' + sum % 26) || !ends_here(s, i + 10)) return false;
    if (i > floor + 6 && is_alnum(s.ptr[i - 7])) return false;
    return found(out, NIGH_FIND_NATIONAL_ID, i - 6, i + 10);
}

/* ---- machines and wallets ---- */

static bool find_ipv4(nigh_str s, const number *n, nigh_found *out) {
    if (n->count < 4 || n->parted[1] != '.' || n->parted[2] != '.' || n->parted[3] != '.') return false;
    const uint8_t *d = n->digit;
    for (size_t g = 0; g < 4; d += n->len[g++])
        if (n->len[g] > 3 || value_of(d, n->len[g]) > 255 || (g && n->at[g] != n->end[g - 1] + 1)) return false;
    bool more = n->count > 4 && n->parted[4] == '.';
    return !more && ends_here(s, n->end[3]) && found(out, NIGH_FIND_IP, n->begin, n->end[3]);
}

/* Base58Check: 25 bytes, the last four the head of a double SHA-256. */
static bool base58_checks(nigh_str text) {
    static const char letters[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    uint8_t bytes[25] = { 0 }, digest[32];
    for (size_t i = 0; i < text.len; i++) {
        const char *p = memchr(letters, text.ptr[i], 58);
        if (!p) return false;
        unsigned carry = (unsigned)(p - letters);
        for (size_t k = 25; k-- > 0;) {
            carry += bytes[k] * 58u;
            bytes[k] = (uint8_t)carry;
            carry >>= 8;
        }
        if (carry) return false;
    }
    nigh_sha256 sha;
    for (size_t round = 0; round < 2; round++) {
        nigh_sha256_init(&sha);
        nigh_sha256_add(&sha, round ? (nigh_str){ (const char *)digest, 32 } : (nigh_str){ (const char *)bytes, 21 });
        nigh_sha256_end(&sha, digest);
    }
    return memcmp(digest, bytes + 21, 4) == 0;
}

static bool find_wallet(nigh_str s, size_t floor, size_t i, nigh_found *out) {
    size_t begin = i, end = i;
    while (begin > floor && i - begin < 42 && is_alnum(s.ptr[begin - 1])) begin--;
    while (end < s.len && end - begin < 64 && is_alnum(s.ptr[end])) end++;
    nigh_str word = nigh_str_slice(s, begin, end);
    if (word.len == 42 && word.ptr[0] == '0' && lower(word.ptr[1]) == 'x') {
        for (size_t k = 2; k < 42; k++)
            if (!is_digit(word.ptr[k]) && !(lower(word.ptr[k]) >= 'a' && lower(word.ptr[k]) <= 'f')) return false;
        return found(out, NIGH_FIND_WALLET, begin, end);
    }
    if (word.len < 26 || word.len > 62) return false;
    bool old = word.len <= 35 && (word.ptr[0] == '1' || word.ptr[0] == '3') && base58_checks(word);
    bool bech32 = word.len >= 42 && nigh_str_starts(word, NIGH_STR("bc1"));
    return (old || bech32) && found(out, NIGH_FIND_WALLET, begin, end);
}

/* ---- telephones ---- */

static bool phone_word_near(nigh_str s, size_t begin, size_t end) {
    static const char *const after[] = { "office", "fax", "mobile", "cell", "home", "desk", "work" };
    if (SAID(s, begin, "phone", "tel", "fax", "mobile", "cell", "desk", "call", "contact", "whatsapp", "sms", "text me",
             "messages to", "my registered", "reach me", "dial", "answering at"))
        return true;
    while (at(s, end) == ' ' || at(s, end) == '-') end++;
    for (size_t k = 0; k < NIGH_COUNT(after); k++) {
        size_t n = 0;
        while (after[k][n] && lower(at(s, end + n)) == after[k][n]) n++;
        if (!after[k][n]) return true;
    }
    return false;
}

static bool is_date_like(const number *n, size_t groups) {
    if (groups < 3) return false;
    const uint8_t *d = n->digit;
    uint64_t a = value_of(d, n->len[0]), b = value_of(d + n->len[0], n->len[1]),
             c = value_of(d + n->len[0] + n->len[1], n->len[2]);
    bool short_middle = n->len[1] <= 2;
    bool year_last = n->len[0] <= 2 && short_middle && n->len[2] == 4 && a <= 31 && b <= 31 && c >= 1800 && c <= 2200;
    bool year_first = n->len[0] == 4 && short_middle && n->len[2] <= 2 && a >= 1800 && a <= 2200 && b <= 12 && c <= 31;
    return year_last || year_first || (n->digits == 6 && a <= 31 && b <= 31);
}

/* "10 000 000" and "1.234.567" may be amounts: then a word must say that it is a telephone. */
static bool is_amount_like(const number *n, size_t groups) {
    if (n->len[0] > 3 || (n->parted[1] != ' ' && n->parted[1] != '.')) return false;
    for (size_t g = 1; g < groups; g++)
        if (n->len[g] != 3) return false;
    return true;
}

/* The usual groupings need no word: a trunk or country code, or parts of two to four digits parted by - or (). */
static bool is_phone_shape(const number *n, size_t groups, bool open) {
    size_t digits = first_digits(n, groups);
    if (groups < 2 || digits < 8 || digits > 13 || is_date_like(n, groups) || is_amount_like(n, groups)) return false;
    if (shaped(n, 3, 3, 2, 4)) return false;        /* a social security number that is none */
    for (size_t g = 0; g < groups; g++)
        if (n->len[g] > 4 || (n->len[g] < 2 && g + 1 == groups)) return false;
    bool north_america = groups == 3 && n->len[0] == 3 && n->len[1] == 3 && n->len[2] == 4;
    bool dashes = groups >= 3 && n->parted[1] == '-' && n->parted[2] == '-' && n->len[groups - 1] >= 2;
    return north_america || open || (n->digit[0] == 0 && digits >= 9) || (dashes && digits >= 10);
}

static size_t extension(nigh_str s, size_t end) {
    size_t i = end;
    if (lower(at(s, i)) != 'x') return end;
    for (i++; is_digit(at(s, i)) && i - end < 7; i++) { }
    return i > end + 1 && ends_here(s, i) ? i : end;
}

static bool find_phone(nigh_str s, size_t floor, const number *n, nigh_found *out) {
    size_t begin = n->begin;
    bool plus = begin > floor && s.ptr[begin - 1] == '+', open = begin > floor && s.ptr[begin - 1] == '(';
    if (plus || open) begin--;
    if (open && begin > floor && s.ptr[begin - 1] == '+') { plus = true; begin--; }
    char before = begin > floor ? s.ptr[begin - 1] : ' ';
    if (is_alnum(before) || before == '/' || before == '$') return false;
    for (size_t groups = n->count; groups > 0; groups--) {
        size_t digits = first_digits(n, groups), end = extension(s, n->end[groups - 1]);
        bool extended = end > n->end[groups - 1], abroad = plus || (n->digit[0] == 0 && n->digit[1] == 0);
        if (digits < (groups == 3 ? 6 : 7) || digits > 15 || !ends_here(s, end)) continue;
        if ((plus && digits >= 8) || (extended && digits >= 9) || is_phone_shape(n, groups, open)
            || (abroad && groups > 2 && digits >= 10)
            || (digits <= 13 && !is_date_like(n, groups) && phone_word_near(s, begin, end)))
            return found(out, NIGH_FIND_PHONE, begin, end);
    }
    return false;
}

/* ---- the number at one place ---- */

bool nigh_find_number(nigh_str s, size_t floor, size_t i, nigh_found *out, size_t *skip) {
    number n;
    char before = i > floor ? s.ptr[i - 1] : '\0';
    read_number(s, i, &n);
    *skip = n.len[0];
    if (find_wallet(s, floor, i, out)) return true;
    if (is_letter(before))
        return find_iban(s, floor, i, out) || find_codice_fiscale(s, floor, i, out) || find_nino(s, floor, &n, out)
               || find_nif(s, floor, &n, out);
    if (is_wide(before) || (before == '.' && i > floor + 1 && is_digit(s.ptr[i - 2]))) return false;
    if (find_ipv4(s, &n, out)) return true;
    if (n.digits < 6) return false;
    bool plus = before == '+';
    if (!plus && (find_card(s, &n, out) || find_ssn(s, &n, out))) return true;
    if (find_nif(s, floor, &n, out) || find_nino(s, floor, &n, out)) return true;
    return (!plus && find_national_digits(s, &n, out)) || find_phone(s, floor, &n, out);
}
