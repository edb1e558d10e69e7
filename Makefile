# Nigh: one Makefile, no configure step.
#   make          the program, build/nigh, and the library, build/libnigh.a
#   make run      install what is missing, build, start the node at http://127.0.0.1:6444
#   make test     every test, ends with "N passed, N failed"
#   make SAN=address,undefined test-native     the same under sanitizers (also SAN=thread)
#   make bench | fuzz | wasm | install | tidy | clean
CC      ?= cc
SAN     ?=
B       ?= build$(if $(SAN),-$(subst $(comma),-,$(SAN)))
comma   := ,
PREFIX  ?= /usr/local

# The arithmetic is part of the contract: no contraction, no fast-math (docs/ARCHITECTURE.md).
OPT      ?= -O3
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
CPPFLAGS := -Iinclude -Isrc
CFLAGS   := -std=c11 -g $(OPT) -ffp-contract=off -fno-math-errno -fno-trapping-math -fvisibility=hidden -fno-omit-frame-pointer $(WARN)
LDLIBS   := -lpthread
ifneq ($(SAN),)
CFLAGS   += -fsanitize=$(SAN) -fno-sanitize-recover=all
LDFLAGS  += -fsanitize=$(SAN)
else
CFLAGS   += -fstack-protector-strong -D_FORTIFY_SOURCE=2
endif

# ---- rooms ----
ROOMS    := base kernel engine learn node cli
SRC      := $(foreach r,$(filter-out cli,$(ROOMS)),$(filter-out %_wasm.c,$(wildcard src/$r/*.c)))
CLI_SRC  := $(wildcard src/cli/*.c)
OBJ      := $(SRC:%.c=$B/%.o)
CLI_OBJ  := $(CLI_SRC:%.c=$B/%.o)
LIB      := $B/libnigh.a
NODE_LIBS := $(if $(wildcard src/node/*.c),-lmicrohttpd)

UNIT     := $(patsubst tests/%.c,$B/tests/%,$(wildcard tests/unit/test_*.c tests/prop/test_*.c tests/golden/test_*.c tests/conform/test_*.c tests/fault/test_*.c))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)

all: $(if $(CLI_SRC),$B/nigh) $(LIB)

# One file per instruction set, and only these files see its flags.
$B/src/kernel/%_avx2.o:   CFLAGS += -mavx2 -mf16c
$B/src/kernel/%_avx512.o: CFLAGS += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mf16c -mprefer-vector-width=512

$B/%.o: %.c
	@mkdir -p $(@D)
	@echo '  cc $<'
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(OBJ)
	@rm -f $@
	@ar rcs $@ $^

$B/nigh: $(CLI_OBJ) $(LIB)
	@echo '  ld $@'
	@$(CC) $(CFLAGS) $(LDFLAGS) $(CLI_OBJ) $(LIB) $(LDLIBS) $(NODE_LIBS) -o $@

$B/tests/%: tests/%.c tests/test.h $(LIB)
	@mkdir -p $(@D)
	@echo '  cc $<'
	@$(CC) $(CPPFLAGS) -Itests $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d $< $(LIB) $(LDLIBS) $(NODE_LIBS) -lm -o $@

.PHONY: all test test-native run clean
test-native: $(UNIT)
	@tools/run_tests.sh $(UNIT)
test: all test-native

clean:
	rm -rf build build-*

-include $(OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(UNIT:=.d)
