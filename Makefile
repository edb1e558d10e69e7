# Nigh: one Makefile, no configure step. `make help` lists what it can do.
CC      ?= cc
SAN     ?=
comma   := ,
B       ?= build$(if $(SAN),-$(subst $(comma),-,$(SAN)))
PREFIX  ?= /usr/local
MAKEFLAGS += --no-builtin-rules

# ---- flags ----
# The arithmetic is part of the contract: no contraction, no fast-math (docs/ARCHITECTURE.md).
OPT      ?= $(if $(SAN),-O1,-O3)
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla \
            -Wformat=2 -Wimplicit-fallthrough -Werror
CPPFLAGS := -Iinclude -Isrc
CFLAGS   := -std=c11 -g $(OPT) -ffp-contract=off -fno-math-errno -fno-trapping-math -fvisibility=hidden \
            -fno-omit-frame-pointer $(WARN)
LDLIBS   := -lpthread -lm
ifneq ($(SAN),)
# Instrumented code misleads the compiler's warnings (-Wformat-truncation and the like); the other builds have them.
CFLAGS   += -fsanitize=$(SAN) -fno-sanitize-recover=all -w
LDFLAGS  += -fsanitize=$(SAN)
else
# What a release is hardened with; tests/unit/test_elf.sh reads it back from the program. A compiler that does not
# know all of the second line builds without it. Not under sanitizers: they would see less.
HARDEN   := -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fno-delete-null-pointer-checks
HARDEN2  := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-clash-protection -ftrivial-auto-var-init=zero
HARDEN   += $(if $(shell $(CC) -Werror -O2 $(HARDEN2) -x c -c /dev/null -o /dev/null 2>&1),,$(HARDEN2))
CFLAGS   += $(HARDEN)
LDFLAGS  += -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code -Wl,--as-needed
endif

# ---- rooms ----
ROOMS    := base kernel engine place learn node cli
# Files of instruction sets that the compiler does not build for are left out.
ARCH     := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
FOR_X86  := %_avx2.c %_avx512.c %_amx.c
FOR_ARM  := %_neon.c %_dotprod.c
FOREIGN  := %_wasm.c $(if $(filter x86_64,$(ARCH)),,$(FOR_X86)) $(if $(filter aarch64 arm64,$(ARCH)),,$(FOR_ARM))
SRC      := $(foreach r,$(filter-out cli,$(ROOMS)),$(filter-out $(FOREIGN),$(wildcard src/$r/*.c)))
CLI_SRC  := $(wildcard src/cli/*.c)
OBJ      := $(SRC:%.c=$B/%.o) $(if $(filter node,$(ROOMS)),$B/gen/console_data.o)
CLI_OBJ  := $(CLI_SRC:%.c=$B/%.o)
LIB      := $B/libnigh.a
NODE_LIBS := $(if $(filter node,$(ROOMS)),-lmicrohttpd -lsodium -lsqlite3 -ldl)

KINDS    := unit prop golden conform fault
UNIT     := $(patsubst tests/%.c,$B/tests/%,$(foreach k,$(KINDS),$(wildcard tests/$k/test_*.c)))
SCRIPTS  := $(wildcard tests/*/test_*.sh tests/*/test_*.mjs)
FUZZ     := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
UNIT     += $(FUZZ:%=$B/tests/fuzz/fuzz_%)
# TESTS="pool runner" keeps only the tests with one of these words in their names.
CHOSEN   := $(if $(TESTS),$(foreach t,$(UNIT),$(if $(strip $(foreach w,$(TESTS),$(findstring $w,$(notdir $t)))),$t)), \
            $(UNIT))
TIDY     := $B/tools/tidy

all: $(if $(CLI_SRC),$B/nigh) $(LIB)   ## the program, build/nigh, and the library, build/libnigh.a

# One file per instruction set, and only these files see its flags.
$B/src/kernel/%_avx2.o:   CFLAGS += -mavx2 -mf16c
$B/src/kernel/%_avx512.o: CFLAGS += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mf16c \
                                    -mprefer-vector-width=512
$B/src/kernel/%_amx.o:    CFLAGS += -mamx-tile -mamx-int8 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mf16c \
                                    -mprefer-vector-width=512
$B/src/kernel/%_dotprod.o: CFLAGS += -march=armv8.2-a+dotprod
# Training's products are not under the bit contract (src/kernel/gemm.h).
$B/src/kernel/gemm_avx2.o:        CFLAGS += -mfma
$B/src/kernel/gemm_bf16_avx512.o: CFLAGS += -mavx512bf16

# Under sanitizers these two files, all of it inlined, would take minutes at -O3.
ifneq ($(SAN),)
$B/src/kernel/%_avx2.o $B/src/kernel/%_avx512.o $B/src/kernel/%_amx.o: CFLAGS += -O1
endif
# And no fuzz target is after them: clang takes minutes to instrument these.
ifneq ($(FUZZER),)
$B/src/kernel/%_avx2.o $B/src/kernel/%_avx512.o $B/src/kernel/%_amx.o: CFLAGS += -fno-sanitize=all
endif

# gcc 12 for ARM ends in an internal error on one of the tests otherwise.
ifneq ($(filter aarch64 arm64,$(ARCH)),)
$B/tests/%: private CFLAGS += -fno-tree-vectorize
endif

$B/%.o: %.c
	@mkdir -p $(@D)
	@echo '  cc $<'
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# The console, the SDK and the engine for the browser, as a part of the program: built when Node.js and the packages of
# web/package.json are there (tools/install.sh run), else one page that says so.
WEB_READY := $(and $(shell command -v node 2> /dev/null),$(wildcard web/node_modules/.package-lock.json))
WEB_SRC  := $(sort $(shell find web -type f -not -path '*/node_modules/*' -not -path '*/artifacts/*'))
WASM_READY := $(and $(shell command -v $(or $(WASM_CC),clang-19) 2> /dev/null),$(shell command -v wasm-ld-19 2> /dev/null))
SITE     := $(if $(WEB_READY),build/web/site,web/plain)
$B/gen/console_data.c: $(if $(WEB_READY),build/web/site.stamp,$(WEB_SRC)) $B/tools/embed
	@mkdir -p $(@D)
	@$B/tools/embed $@ $(SITE) $$(find $(SITE) -type f | LC_ALL=C sort)
$B/gen/console_data.o: $B/gen/console_data.c
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(OBJ)
	@rm -f $@
	@ar rcs $@ $^

# The symbols for a debugger go into a file beside the program.
$B/nigh: $(CLI_OBJ) $(LIB)
	@echo '  ld $@'
	@$(CC) $(CFLAGS) $(LDFLAGS) $(CLI_OBJ) $(LIB) $(LDLIBS) $(NODE_LIBS) -o $@
ifeq ($(SAN),)
	@objcopy --only-keep-debug $@ $@.debug && objcopy --strip-unneeded --add-gnu-debuglink=$@.debug $@
endif

$B/tests/%: tests/%.c tests/test.h $(LIB)
	@mkdir -p $(@D)
	@echo '  cc $<'
	@$(CC) $(CPPFLAGS) -Itests $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d $< $(LIB) $(LDLIBS) $(NODE_LIBS) -lm -o $@

# A fuzz target is a test that runs over its corpus; with FUZZER (see fuzz below) libFuzzer is its main instead.
FUZZER   ?=
$B/tests/fuzz/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/replay.c $(LIB)
	@mkdir -p $(@D)
	@echo '  cc $<'
	@$(CC) $(CPPFLAGS) -Itests $(CFLAGS) $(LDFLAGS) $(if $(FUZZER),-fsanitize=fuzzer) -MMD -MP -MF $@.d $< \
	    $(if $(FUZZER),,tests/fuzz/replay.c) $(LIB) $(LDLIBS) $(NODE_LIBS) -lm -o $@

# Reference models, made once for all lanes; the golden tests find them by this variable.
export NIGH_GOLDEN_MODELS ?= $(CURDIR)/build/golden-models
golden-models:
	@tools/golden_models.sh $(NIGH_GOLDEN_MODELS)

$B/tools/%: tools/%.c tests/test.h
	@mkdir -p $(@D)
	@echo '  cc $<'
	@$(CC) $(CPPFLAGS) -Itests $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d $< -o $@

# ---- what one types ----
.PHONY: golden-models fuzz-programs arm test-arm sdk
.PHONY: bench-tab bench-place
.PHONY: all run test test-native tidy wasm bench-ledger bench-node bench-kernel bench-matrix bench-start bench-peers fuzz install uninstall clean help
run:            ## install what is missing, build, start the node at http://127.0.0.1:6444
	@tools/install.sh run
	@$(MAKE) -s --no-print-directory -j$$(nproc) all
	@exec $B/nigh serve $(ARGS)

test:           ## install what is missing, build, run every test; ends with "N passed, N failed, N skipped"
	@tools/install.sh test || echo 'some packages are missing: the tests that need them are skipped'
	@$(MAKE) -s --no-print-directory -j$$(nproc) all $(TIDY) $(UNIT) wasm arm golden-models
	@JOBS=$${JOBS:-$$(nproc)} tools/run_tests.sh $(TIDY) $(UNIT) $(SCRIPTS)

# For example: SAN=address,undefined or SAN=thread, TESTS="pool json", NIGH_SHORT=1
test-native: all $(CHOSEN) golden-models    ## the C tests only, also under sanitizers
	@JOBS=$${JOBS:-$$(nproc)} tools/run_tests.sh $(CHOSEN)

$B/bench/%: bench/%.c $(LIB)
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $< $(LIB) $(LDLIBS) $(NODE_LIBS) -o $@

bench-ledger: $B/bench/bench_ledger   ## what a record of the ledger costs, as CSV; ARGS="RECORDS RATE"
	@$B/bench/bench_ledger $(ARGS)

bench-node: all $B/bench/bench_node     ## what a node with a policy adds to an answer, as CSV; ARGS="SECONDS RATE AT_ONCE STREAMS"
	@$B/bench/bench_node $B/nigh models/nigh-stories.gguf $(ARGS)

bench-kernel: $B/bench/bench_kernel   ## the arithmetic alone, as CSV; ARGS="THREADS TYPE ISA" narrows it
	@$B/bench/bench_kernel $(ARGS)

bench-matrix: $B/bench/bench_matrix   ## what each matrix of a model costs, as CSV; ARGS="MODEL THREADS ISA TYPE"
	@$B/bench/bench_matrix $(ARGS)

bench-start: all $B/bench/bench_start  ## from the start of the program to its first token, as CSV; ARGS="FILE.gguf..."
	@NIGH=$(CURDIR)/$B/nigh $B/bench/bench_start $(ARGS)

# NIGH_SHORT=1 for two minutes; ARGS="FILE.gguf" for a file of one's own; more in bench/peers/peers.mjs.
bench-peers: all $B/bench/bench_limits  ## our speed, llama.cpp's (from npm, for this alone) and the machine's limits
	@NIGH=$(CURDIR)/$B/nigh NIGH_LIMITS=$(CURDIR)/$B/bench/bench_limits node bench/peers/peers.mjs $(ARGS)

# NIGH_SHORT=1 to see that it works; ARGS="FILE.gguf" for a file of one's own; more in bench/bench_tab.mjs.
bench-tab: all      ## what the tab is to do, and what is seen: speed beside wllama, waiting, kills, requests (Chromium)
	@tools/install.sh test
	@node bench/bench_tab.mjs $(ARGS)

# Of all targets, or of FUZZ="gguf json"; FUZZ_SECONDS each. The instrumented build lies in build-fuzz.
FUZZ_CC  ?= clang-19
fuzz:           ## every fuzz target for FUZZ_SECONDS=60 under ASan and UBSan (needs clang-19)
	@$(MAKE) -s --no-print-directory -j$$(nproc) CC=$(FUZZ_CC) SAN=address,undefined B=build-fuzz FUZZER=1 WARN= \
	    OPT='-O2 -fsanitize=fuzzer-no-link' fuzz-programs
	@tools/fuzz.sh build-fuzz $(FUZZ)
SEEDS    := $(wildcard $(FUZZ:%=tests/fuzz/seeds_%.c))
fuzz-programs: $(FUZZ:%=$B/tests/fuzz/fuzz_%) $(SEEDS:%.c=$B/%)

# NIGH_SHORT=1 for two minutes; what each line means: docs/place.md. As root it also counts packets.
PLACE_PROOFS := $(addprefix $B/,bench/bench_place bench/bench_node tests/prop/test_place tests/prop/test_redact \
    tests/golden/test_find)
bench-place: all $(PLACE_PROOFS)    ## what Place is to do, and what is seen: decisions, leaks, faults, packets, added time
	@NIGH_BUILD=$(CURDIR)/$B node bench/bench_place.mjs

tidy: $(TIDY)   ## the rules of the house: include direction, lengths, banned calls, dead links
	@$(TIDY)

install: all    ## copy the program and its models below PREFIX (/usr/local), DESTDIR in front
	@install -D -m 755 $B/nigh $(DESTDIR)$(PREFIX)/bin/nigh
	@for m in $(wildcard models/*.gguf); do install -D -m 644 $$m $(DESTDIR)$(PREFIX)/share/nigh/$$m; done
	@install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/nigh/LICENSE
	@echo "installed $(DESTDIR)$(PREFIX)/bin/nigh"

uninstall:      ## remove what install copied
	rm -rf $(DESTDIR)$(PREFIX)/bin/nigh $(DESTDIR)$(PREFIX)/share/nigh $(DESTDIR)$(PREFIX)/share/doc/nigh

clean:          ## remove everything that was built
	rm -rf build build-*

help:           ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# ---- 64-bit ARM: the core rooms and their tests, static, run by an emulator (tests/arm) ----
ARM_CC   ?= aarch64-linux-gnu-gcc
NIGH_ARM ?= all
ARM_TESTS := unit/test_kernel unit/test_quant prop/test_bits golden/test_logits
arm:            ## the core and its tests for 64-bit ARM, build-arm, if a cross compiler is there
	@if echo 'int main(void) { return 0; }' | $(ARM_CC) -static -x c - -o /dev/null 2> /dev/null; \
	 then $(MAKE) -s --no-print-directory -j$$(nproc) CC=$(ARM_CC) B=build-arm ROOMS='base kernel engine' HARDEN= \
	    LDFLAGS=-static $(ARM_TESTS:%=build-arm/tests/%); \
	 else echo 'no $(ARM_CC) with a C library: nothing is built for ARM (tools/install.sh test)'; fi

test-arm: arm $B/tests/prop/test_bits golden-models     ## the arithmetic on emulated 64-bit ARM, same bits as here
	@NIGH_ARM=$(NIGH_ARM) tools/run_tests.sh tests/arm/test_arm.sh

# ---- the browser: the core rooms without a C library, once for each kind of machine ----
WASM_CC  ?= clang-19
WASM_LD  ?= wasm-ld-19
WASM_KINDS := simd simd-threads relaxed-threads
NOT_WASM := %_posix.c %/pool.c $(FOR_X86) $(FOR_ARM)
WASM_SRC := $(filter-out $(NOT_WASM),$(foreach r,base kernel engine place wasm,$(wildcard src/$r/*.c)))
WASM_CORE := $(filter-out src/engine/% src/place/% src/wasm/exports.c,$(WASM_SRC))
# Not -ffreestanding: it would make each memcpy of four bytes a call, and no loop with one in it a vector's.
WASM_FLAGS := --target=wasm32 -std=c11 -g0 -O3 -nostdlib -nostdlibinc -isystem src/wasm/include \
              -mbulk-memory -msimd128 -ffp-contract=off -fno-math-errno -fvisibility=hidden $(WARN)
WASM_THREADS := -matomics -ftls-model=local-exec
build/wasm-simd-threads/%.o:    WASM_FLAGS += $(WASM_THREADS)
build/wasm-relaxed-threads/%.o: WASM_FLAGS += $(WASM_THREADS) -mrelaxed-simd
build/wasm-%/src/wasm/libc.o:   WASM_FLAGS += -fno-builtin
build/wasm-%-threads/src/wasm/libc.o: WASM_FLAGS += -fno-builtin

# A threaded module is given its memory, which grows to 4 GiB at most; each thread has a stack of its own.
WASM_LDFLAGS := --no-entry --gc-sections --strip-all --stack-first -z stack-size=1048576 --initial-memory=2097152
WASM_SHARED := --shared-memory --import-memory --max-memory=4294967296 --export=__stack_pointer --export=__tls_size \
               --export=__tls_align --export=__wasm_init_tls
build/nigh-%-threads.wasm build/wasm-%-threads/kernel_bits.wasm: WASM_LDFLAGS += $(WASM_SHARED)

define WASM_RULES
build/wasm-$1/%.o: %.c
	@mkdir -p $$(@D)
	@echo '  wasm $1 $$<'
	@$$(WASM_CC) $$(CPPFLAGS) $$(WASM_FLAGS) -MMD -MP -c $$< -o $$@
build/nigh-$1.wasm: $(WASM_SRC:%.c=build/wasm-$1/%.o)
	@$$(WASM_LD) $$(WASM_LDFLAGS) $$^ -o $$@
	@echo "  ld $$@: $$$$(stat -c %s $$@) bytes, $$$$(gzip -9 < $$@ | wc -c) as gzip"
build/wasm-$1/kernel_bits.wasm: $(patsubst %.c,build/wasm-$1/%.o,tests/wasm/kernel_bits.c $(WASM_CORE))
	@$$(WASM_LD) $$(WASM_LDFLAGS) $$^ -o $$@
-include $(WASM_SRC:%.c=build/wasm-$1/%.d) build/wasm-$1/tests/wasm/kernel_bits.d
endef
$(foreach kind,$(WASM_KINDS),$(eval $(call WASM_RULES,$(kind))))

# ---- the SDK: its npm package, and the site that the program carries ----
build/web/%.stamp: $(WEB_SRC) $(if $(WASM_READY),$(WASM_KINDS:%=build/nigh-%.wasm))
	@echo '  web $*'
	@node web/build.mjs $*

sdk: build/web/package.stamp    ## the npm package of the SDK, build/web/package (npm pack makes a file of it)

wasm:           ## the core for the browser, build/nigh-*.wasm, if clang-19 and lld-19 are there
	@if command -v $(WASM_CC) > /dev/null && command -v $(WASM_LD) > /dev/null; \
	 then $(MAKE) -s --no-print-directory $(WASM_KINDS:%=build/nigh-%.wasm) \
	    $(WASM_KINDS:%=build/wasm-%/kernel_bits.wasm); \
	 else echo 'no clang-19 or lld-19: build/nigh-*.wasm is not built (tools/install.sh test)'; fi

-include $(OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(UNIT:=.d) $(TIDY).d
