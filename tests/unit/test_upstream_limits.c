/* What busy places say of their limits. */
#include "node/upstream_parts.h"
#include "test.h"

static const uint64_t now_ms = 1795284000000;      /* 2026-11-21T18:00:00Z */

static void test_lines(void) {
    static const struct { const char *lines[4]; uint32_t ms; } cases[] = {
        { { "x-ratelimit-reset-requests: 1s" }, 1000 },
        { { "X-RateLimit-Reset-Requests: 6m0s" }, 360000 },
        { { "x-ratelimit-reset-tokens:20ms" }, 20 },
        { { "x-ratelimit-reset-tokens: 2m59.56s" }, 179560 },
        { { "x-ratelimit-reset-tokens: 1h2m3s" }, 3723000 },
        { { "x-ratelimit-reset-tokens: 7" }, 7000 },
        { { "x-ratelimit-reset-tokens: 400d" }, 86400000 },
        { { "x-ratelimit-reset-requests: 1s", "x-ratelimit-reset-tokens: 9s" }, 9000 },
        { { "x-ratelimit-reset-requests: 1s", "x-ratelimit-reset-tokens: 9s", "x-ratelimit-remaining-tokens: 5" },
          1000 },
        { { "x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 1s", "x-ratelimit-reset-tokens: 9s",
            "x-ratelimit-remaining-tokens: 5" }, 1000 },
        { { "x-ratelimit-reset-requests: 1s", "x-ratelimit-remaining-requests: 3" }, 0 },
        { { "anthropic-ratelimit-tokens-reset: 2026-11-21T18:00:30Z" }, 30000 },
        { { "anthropic-ratelimit-requests-reset: 2026-11-21T17:00:30Z" }, 0 },
        { { "anthropic-ratelimit-tokens-reset: 2026-11-21T18:00:30Z", "anthropic-ratelimit-tokens-remaining: 1" }, 0 },
        { { "x-ratelimit-reset-requests: " }, 0 },      { { "x-ratelimit-reset-requests: soon" }, 0 },
        { { "x-ratelimit-reset-requests: 1.2.3s" }, 0 }, { { "x-ratelimit-reset-requests: 1y" }, 0 },
        { { "x-ratelimit-reset-requests: -1s" }, 0 },   { { "x-ratelimit-reset-requests: 1s1" }, 2000 },
        { { "x-ratelimit-reset-requests-day: 1s" }, 0 }, { { "x-ratelimit-limit-requests: 60" }, 0 },
        { { "anthropic-ratelimit-input-tokens-reset: 2026-11-21T18:00:30Z" }, 0 }, { { "content-type: x" }, 0 } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_upstream_limits l = { 0 };
        for (size_t k = 0; k < 4 && cases[i].lines[k]; k++)
            nigh_upstream_limits_line(&l, nigh_str_of(cases[i].lines[k]), now_ms);
        uint32_t ms = nigh_upstream_limits_ms(&l);
        CHECK_MSG(ms == cases[i].ms, "case %zu: %u", i, ms);
    }
}

TEST_MAIN(T(test_lines))
