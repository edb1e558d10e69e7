/* amx_emulator.h - AMX int8 instructions on a processor that lacks them, for tests.
 *
 * Without AMX each of them raises #UD, which Linux delivers as SIGILL. The handler takes the instruction apart at RIP,
 * does to eight tiles of the thread what the manual says (Intel SDM, volume 2, and the AMX chapter of volume 1), and
 * goes on behind it. It is stricter than a processor: whatever would fault there, and sizes that do not fit each
 * other, end the program with a sentence. Known: LDTILECFG STTILECFG TILERELEASE TILEZERO TILELOADD TILELOADDT1
 * TILESTORED TDPBSSD TDPBSUD TDPBUSD TDPBUUD; any other instruction ends the program as it would have.
 *
 *     byte 0   C4                         byte 1   R X B (inverted), map 2 (0F 38)
 *     byte 2   W=0, vvvv (inverted), L=0, pp (0 none, 1 66, 2 F3, 3 F2)
 *     byte 3   49 configuration, zero; 4B load, store; 5E products
 *     byte 4   ModRM, then SIB and displacement where it says so */
#ifndef NIGH_AMX_EMULATOR_H
#define NIGH_AMX_EMULATOR_H

/* The test that includes this defines _GNU_SOURCE first: the registers of ucontext have their names by it. */
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

typedef struct { uint8_t palette, start_row, zero[14]; uint16_t row_bytes[16]; uint8_t rows[16]; } amx_config;
typedef struct { bool configured; amx_config config; uint8_t tile[8][16][64]; } amx_file;

static _Thread_local amx_file amx;
static atomic_ulong amx_products;               /* so that a test knows that it ran here */

static _Noreturn void amx_misuse(const char *what) {
    static const char lead[] = "amx_emulator: ";
    (void)!write(2, lead, sizeof lead - 1);
    (void)!write(2, what, strlen(what));
    (void)!write(2, "\n", 1);
    _exit(70);
}
static void amx_must(bool ok, const char *what) { if (!ok) amx_misuse(what); }

/* ---- operands ---- */

typedef struct { const uint8_t *at; uint8_t r, x, b, vvvv, pp, opcode, modrm; bool wide; } amx_code;

static int64_t amx_register(const ucontext_t *u, unsigned n) {
    static const int order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    return u->uc_mcontext.gregs[order[n]];
}

typedef struct { int64_t base, stride; bool has_sib; size_t length; } amx_address;

/* The memory operand; at: the byte behind ModRM. */
static amx_address amx_operand(const amx_code *c, const ucontext_t *u, const uint8_t *at) {
    amx_address a = { 0 };
    const uint8_t *begin = at;
    unsigned mod = c->modrm >> 6, rm = c->modrm & 7;
    bool no_base = mod == 0 && rm == 5, relative = no_base;
    if (rm == 4) {
        unsigned sib = *at++, index = (sib >> 3 & 7) | c->x << 3, base = (sib & 7) | c->b << 3;
        a.has_sib = true;
        no_base = mod == 0 && (sib & 7) == 5;
        if (index != 4) a.stride = amx_register(u, index) * (1 << (sib >> 6));
        if (!no_base) a.base = amx_register(u, base);
    } else if (!no_base) {
        a.base = amx_register(u, rm | c->b << 3);
    }
    if (mod == 1) a.base += (int8_t)*at++;
    if (mod == 2 || no_base) {
        int32_t by;
        memcpy(&by, at, 4);
        at += 4;
        a.base += by;
    }
    a.length = (size_t)(at - begin);
    if (relative) a.base += (int64_t)(intptr_t)at;
    return a;
}

static bool amx_decode(const uint8_t *p, amx_code *c) {
    if (p[0] != 0xc4 || (p[1] & 31) != 2) return false;
    *c = (amx_code){ .at = p, .r = !(p[1] & 128), .x = !(p[1] & 64), .b = !(p[1] & 32), .wide = p[2] >> 7,
                     .vvvv = ~p[2] >> 3 & 15, .pp = p[2] & 3, .opcode = p[3], .modrm = p[4] };
    return (p[2] & 4) == 0 && !c->wide && (c->opcode == 0x49 || c->opcode == 0x4b || c->opcode == 0x5e);
}

/* ---- what they do ---- */

static void amx_configure(int64_t from) {
    amx_config g;
    memcpy(&g, (const void *)(intptr_t)from, sizeof g);
    memset(&amx, 0, sizeof amx);
    if (g.palette == 0) return;
    amx_must(g.palette == 1, "ldtilecfg: palette");
    amx_must(g.start_row == 0, "ldtilecfg: start_row");
    for (size_t i = 0; i < sizeof g.zero; i++) amx_must(g.zero[i] == 0, "ldtilecfg: reserved bytes");
    for (size_t i = 0; i < 16; i++) {
        amx_must(i < 8 || (g.row_bytes[i] == 0 && g.rows[i] == 0), "ldtilecfg: tiles 8 to 15");
        amx_must(g.row_bytes[i] <= 64 && g.rows[i] <= 16, "ldtilecfg: a tile is at most 16 rows of 64 bytes");
        amx_must(!g.row_bytes[i] == !g.rows[i], "ldtilecfg: rows without bytes, or bytes without rows");
    }
    amx.config = g;
    amx.configured = true;
}

static void amx_usable(unsigned t) {
    amx_must(amx.configured, "a tile is used before ldtilecfg");
    amx_must(t < 8 && amx.config.rows[t] > 0, "a tile is used that is not configured");
}

static void amx_move(const amx_address *a, unsigned t, bool load) {
    amx_usable(t);
    amx_must(a->has_sib, "tileloadd, tilestored: no SIB byte");
    uint8_t *p = (uint8_t *)(intptr_t)a->base;
    if (load) memset(amx.tile[t], 0, sizeof amx.tile[t]);
    for (unsigned r = 0; r < amx.config.rows[t]; r++, p += a->stride) {
        if (load) memcpy(amx.tile[t][r], p, amx.config.row_bytes[t]);
        else memcpy(p, amx.tile[t][r], amx.config.row_bytes[t]);
    }
}

static int32_t amx_byte(uint8_t byte, bool is_signed) { return is_signed ? (int8_t)byte : byte; }

/* c += a b, a being rows of 4-byte groups, b its partner with four bytes of a column beside each other. */
static void amx_product(unsigned c, unsigned a, unsigned b, bool a_signed, bool b_signed) {
    amx_usable(a), amx_usable(b), amx_usable(c);
    const amx_config *g = &amx.config;
    amx_must(a != b && a != c && b != c, "a product with one tile twice");
    amx_must(g->row_bytes[a] % 4 == 0 && g->row_bytes[c] % 4 == 0, "a product: rows of odd sizes");
    amx_must(g->rows[a] == g->rows[c], "a product: rows of A are not those of C");
    amx_must(g->row_bytes[b] == g->row_bytes[c], "a product: columns of B are not those of C");
    amx_must(g->row_bytes[a] == 4 * g->rows[b], "a product: columns of A are not rows of B");
    for (unsigned m = 0; m < g->rows[c]; m++)
        for (unsigned k = 0; k < g->row_bytes[a] / 4u; k++)
            for (unsigned n = 0; n < g->row_bytes[c] / 4u; n++) {
                uint32_t sum;
                memcpy(&sum, amx.tile[c][m] + 4 * n, 4);
                for (unsigned i = 0; i < 4; i++)
                    sum += (uint32_t)(amx_byte(amx.tile[a][m][4 * k + i], a_signed)
                                      * amx_byte(amx.tile[b][k][4 * n + i], b_signed));
                memcpy(amx.tile[c][m] + 4 * n, &sum, 4);
            }
    for (unsigned m = g->rows[c]; m < 16; m++) memset(amx.tile[c][m], 0, 64);
    atomic_fetch_add(&amx_products, 1);
}

/* 49: by the prefix and the operand. False: not one of ours. */
static bool amx_manage(const amx_code *c, const amx_address *a, bool memory) {
    unsigned reg = c->modrm >> 3 & 7, rm = c->modrm & 7;
    if (memory && reg == 0 && c->pp == 0) amx_configure(a->base);
    else if (memory && reg == 0 && c->pp == 1) {
        amx_config none = { 0 };
        memcpy((void *)(intptr_t)a->base, amx.configured ? &amx.config : &none, sizeof none);
    } else if (!memory && c->pp == 0 && c->modrm == 0xc0) {
        memset(&amx, 0, sizeof amx);
    } else if (!memory && c->pp == 3 && rm == 0 && !c->r) {
        amx_usable(reg);
        memset(amx.tile[reg], 0, sizeof amx.tile[reg]);
    } else return false;
    return c->vvvv == 0;
}

static bool amx_run(const amx_code *c, ucontext_t *u) {
    bool memory = c->modrm >> 6 != 3, done = false;
    unsigned reg = (c->modrm >> 3 & 7) | c->r << 3;
    amx_address a = { 0 };
    if (memory) a = amx_operand(c, u, c->at + 5);
    if (c->opcode == 0x49) {
        done = amx_manage(c, &a, memory);
    } else if (c->opcode == 0x4b && memory && c->pp != 0 && c->vvvv == 0) {
        amx_move(&a, reg, c->pp != 2);
        done = true;
    } else if (c->opcode == 0x5e && !memory) {
        amx_product(reg, (c->modrm & 7) | c->b << 3, c->vvvv, c->pp >= 2, c->pp == 1 || c->pp == 3);
        done = true;
    }
    if (done) u->uc_mcontext.gregs[REG_RIP] = (intptr_t)c->at + 5 + (intptr_t)a.length;
    return done;
}

static void amx_on_illegal(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    amx_code c;
    (void)info;
    if (amx_decode((const uint8_t *)(intptr_t)u->uc_mcontext.gregs[REG_RIP], &c) && amx_run(&c, u)) return;
    signal(number, SIG_DFL);
}

/* For the rest of the program. */
static void amx_emulate(void) {
    struct sigaction a = { .sa_flags = SA_SIGINFO };
    a.sa_sigaction = amx_on_illegal;
    sigaction(SIGILL, &a, NULL);
}

#endif
