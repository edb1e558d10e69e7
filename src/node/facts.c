/* facts.c - see facts.h. Small text files of the system, read whole; what is absent or odd is left out. */
#include "node/facts.h"

#include "base/os.h"
#include "kernel/kernel.h"

enum { TEXT_MAX = 65536, ZONES = 16 };

/* The file's text without white space around it, in b; empty when there is none. */
static nigh_str text_of(nigh_buf *b, const char *path) {
    b->len = 0;
    if (nigh_file_read(b, path, NULL) != NIGH_OK) b->len = 0;
    return nigh_str_trim(nigh_buf_str(b));
}

static unsigned isa_of(unsigned cpu) {
    unsigned isa = 0;
    if (cpu & NIGH_CPU_AVX2) isa |= NIGH_ISA_AVX2;
    if (cpu & NIGH_CPU_AVX512) isa |= NIGH_ISA_AVX512;
    return isa;
}

static void measure_power(nigh_buf *b, nigh_place_facts *facts) {
    static const char *const batteries[] = { "BAT0", "BAT1", "battery" };
    char path[128];
    facts->on_mains = true;
    for (size_t i = 0; i < NIGH_COUNT(batteries); i++) {
        int64_t percent;
        nigh_format(path, sizeof path, "/sys/class/power_supply/%s/capacity", batteries[i]);
        if (!nigh_str_to_i64(text_of(b, path), &percent) || percent < 0 || percent > 100) continue;
        nigh_format(path, sizeof path, "/sys/class/power_supply/%s/status", batteries[i]);
        facts->on_mains = !nigh_str_eq(text_of(b, path), NIGH_STR("Discharging"));
        facts->battery_percent = (uint32_t)percent;
        return;
    }
}

/* The hottest sensor: 75, 85 and 95 degrees are where "fair", "serious" and "critical" begin. */
static nigh_thermal measure_heat(nigh_buf *b) {
    char path[128];
    int64_t hottest = 0;
    for (unsigned i = 0; i < ZONES; i++) {
        int64_t milli;
        nigh_format(path, sizeof path, "/sys/class/thermal/thermal_zone%u/temp", i);
        if (!nigh_str_to_i64(text_of(b, path), &milli)) break;
        if (milli > hottest) hottest = milli;
    }
    if (hottest >= 95000) return NIGH_THERMAL_CRITICAL;
    return hottest >= 85000 ? NIGH_THERMAL_SERIOUS : hottest >= 75000 ? NIGH_THERMAL_FAIR : NIGH_THERMAL_NOMINAL;
}

/* Is there a route to anywhere? Whether it leads there, only a request can tell. */
static bool has_route(nigh_buf *b) {
    nigh_str routes = text_of(b, "/proc/net/route");
    if (nigh_str_find(routes, NIGH_STR("\n"), 0) != SIZE_MAX) return true;
    routes = text_of(b, "/proc/net/ipv6_route");
    for (size_t begin = 0; begin < routes.len;) {
        size_t end = nigh_min(nigh_str_find(routes, NIGH_STR("\n"), begin), routes.len);
        if (!nigh_str_ends(nigh_str_trim(nigh_str_slice(routes, begin, end)), NIGH_STR("lo"))) return true;
        begin = end + 1;
    }
    return false;
}

void nigh_facts_measure(nigh_place_facts *facts, unsigned cpu) {
    nigh_buf b = NIGH_BUF(TEXT_MAX);
    const char *metered = nigh_os_env("NIGH_METERED");
    *facts = (nigh_place_facts){ .now_s = nigh_os_unix_ms() / 1000,
                                 .ram_mb = (uint32_t)nigh_min(nigh_os_memory_available_bytes() >> 20, UINT32_MAX),
                                 .isa = isa_of(cpu),
                                 .thermal = measure_heat(&b),
                                 .metered = metered && metered[0] && metered[0] != '0',
                                 .online = has_route(&b) };
    measure_power(&b, facts);
    nigh_buf_release(&b);
}
