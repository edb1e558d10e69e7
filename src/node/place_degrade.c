/* place_degrade.c - what comes when no target is left, in the order the feature declares; at the end an error that
 * names the rules. A step obeys the same rules as everything else: it never makes a target allowed. */
#include "node/place_parts.h"

/* What became of the tries, in words: "mid unreachable, big-eu timeout". */
static void tries_text(const nigh_placed *pl, char *out, size_t cap) {
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < pl->hop_count && n < cap; i++) {
        nigh_str name = pl->place->policy->targets[pl->hops[i].target_idx].name;
        n += nigh_format(out + n, cap - n, "%s%.*s %s", n ? ", " : "", (int)nigh_min(name.len, 40), name.ptr,
            place_end_name((place_end)pl->hops[i].end));
    }
}

/* No target at all: 503 when it may be otherwise in a moment, 403 when only another request or policy would help. */
static void end_without(nigh_placed *pl) {
    char text[200], names[128];
    if (pl->hop_count) {
        bool late = !place_left_ms(pl);
        tries_text(pl, names, sizeof names);
        nigh_format(pl->rule, sizeof pl->rule, "%s", late ? "latency" : "health");
        nigh_format(text, sizeof text, "no target of this feature answered%s: %s", late ? " in its time" : "", names);
        place_error(pl, late ? 504 : 503, "policy_no_target", pl->rule, text);
        return;
    }
    place_why_names(pl->refused, names, sizeof names);
    nigh_format(pl->rule, sizeof pl->rule, "%s", names[0] ? names : "place");
    nigh_format(text, sizeof text, "no target may and can serve this; the rules that refuse them: %s", pl->rule);
    bool passes = pl->d.allowed && (pl->refused & (NIGH_WHY_OFFLINE | NIGH_WHY_HEALTH | NIGH_WHY_LATENCY));
    place_error(pl, passes ? 503 : 403, "policy_no_target", pl->rule, text);
}

void place_degrade(nigh_placed *pl) { end_without(pl); }
