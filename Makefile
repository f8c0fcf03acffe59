# Tarmac: one Makefile, `make help` lists the targets.
# Variants are the same rules with another B (build folder) and SAN (sanitizers).
B       ?= build
CC      ?= cc
SAN     ?=
PREFIX  ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/etc,$(PREFIX)/etc)
VERSION := 0.1.0
SEEDS   ?= 10000
FUZZ_SECONDS ?= 60
JOBS    ?= $(shell nproc)
IMAGE   ?= tarmac
V       ?=
Q        = $(if $(V),,@)
SAY      = @$(if $(V),:,printf '  %-4s %s\n')

PKGS     := libzmq libczmq libprotobuf-c sqlite3 jansson libmicrohttpd
WARN     := -Wall -Wextra -Wshadow -Wconversion -Werror
OPTIMISE ?= -O2 -g
CPPFLAGS += -I. -I$(B)/gen -D_GNU_SOURCE -DTARMAC_VERSION='"$(VERSION)"'
CFLAGS   ?= $(OPTIMISE)
ALL_CFLAGS = -std=gnu17 $(WARN) $(CFLAGS) -fPIC -fno-omit-frame-pointer -pthread $(PKG_CFLAGS) $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
LDLIBS    = $(PKG_LIBS) -lm -pthread $(if $(SAN),-fsanitize=$(SAN))
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)

PROGRAMS := ventilator worker sink
BASE     := $(wildcard common/*.c proto/*.c tarmac/*.c)
PARTS    := $(foreach p,$(PROGRAMS),$(filter-out $(p)/main.c,$(wildcard $(p)/*.c)))
MAINS    := $(foreach p,$(PROGRAMS),$(wildcard $(p)/main.c))
PROTOS   := $(patsubst proto/%.proto,$(B)/gen/%.pb-c.h,$(wildcard proto/*.proto))
BASE_O   := $(BASE:%.c=$(B)/obj/%.o) $(PROTOS:$(B)/gen/%.h=$(B)/obj/gen/%.o)
# What the ventilator serves lies in the program itself.
PAGE     := $(wildcard ventilator/page/*.html ventilator/page/*.css ventilator/page/*.js ventilator/page/*.svg)
PARTS_O  := $(PARTS:%.c=$(B)/obj/%.o) $(B)/obj/gen/page.o
# libtarmac: what tarmac/tarmac.h declares, and nothing else can be seen from outside.
API_O    := $(patsubst %.c,$(B)/obj/%.o,$(wildcard tarmac/api*.c tarmac/context.c))
SONAME   := libtarmac.so.1
LIBTARMAC := $(B)/lib/libtarmac.a $(B)/lib/libtarmac.so.$(VERSION) $(B)/lib/libtarmac.pc
BINS     := $(foreach p,$(PROGRAMS),$(if $(wildcard $(p)/main.c),$(B)/bin/$(p)))

# Tests: each unit and fault test is a program of its own, the simulation is one program made of
# all of tests/sim; tests/support is what any of them may share.
UNIT_C   := $(wildcard tests/unit/test_*.c)
FAULT_C  := $(wildcard tests/fault/test_*.c)
SIM_C    := $(wildcard tests/sim/*.c)
FUZZ_C   := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_C  := $(wildcard tests/bench/bench_*.c)
PLUGIN_C := $(wildcard tests/unit/plugin_*.c tests/bench/plugin_*.c)
SUPPORT  := $(wildcard tests/support/*.c)
PLUGINS  := $(PLUGIN_C:%.c=$(B)/%.so)
UNIT     := $(UNIT_C:%.c=$(B)/%)
FAULT    := $(FAULT_C:%.c=$(B)/%)
SIM      := $(if $(SIM_C),$(B)/tests/sim)
FUZZ     := $(FUZZ_C:%.c=$(B)/%)
BENCH    := $(BENCH_C:%.c=$(B)/%)
RELAY    := $(B)/tests/relay $(B)/tests/pretender
CROWD    := $(B)/tests/bench/bench_crowd
POWERCUT := $(B)/tests/powercut.so
DISKSHIM := $(B)/tests/disk_shim.so
WALLCLOCK := $(B)/tests/wallclock.so
SOURCES  := $(BASE) $(PARTS) $(MAINS) $(UNIT_C) $(FAULT_C) $(SIM_C) $(BENCH_C) $(FUZZ_C) $(PLUGIN_C) $(SUPPORT) tests/e2e/relay.c tests/e2e/pretender.c tests/fault/powercut_shim.c tests/fault/disk_shim.c tests/e2e/wallclock_shim.c
LIBS     := $(B)/libparts.a $(B)/libbase.a
SUPPORT_O := $(SUPPORT:%.c=$(B)/obj/%.o)

# Builds started by other targets: in parallel, unless the caller said how.
BUILD = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

.PHONY: all programs library tests help
all: programs library    ## the three programs, in build/bin, and the library, in build/lib (the default)
programs: $(BINS)
library: $(LIBTARMAC)    ## libtarmac, static and shared
tests: $(UNIT) $(FAULT) $(SIM) $(RELAY) $(CROWD) $(POWERCUT) $(DISKSHIM) $(WALLCLOCK)    ## builds the test programs, runs nothing

help:    ## this list
	@printf 'make TARGET [B=build-folder] [SAN=address,undefined|thread] [SEEDS=10000] [V=1] [PREFIX=/usr/local] [DESTDIR=]\n\n'
	@sed -n 's/^\([a-z][a-z0-9-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

$(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h: proto/%.proto
	@mkdir -p $(B)/gen
	$(SAY) GEN $<
	$(Q)protoc-c --proto_path=proto --c_out=$(B)/gen $<
.PRECIOUS: $(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h

$(B)/gen/page.c: $(PAGE) ventilator/embed.sh Makefile
	@mkdir -p $(B)/gen
	$(SAY) GEN ventilator/page
	$(Q)ventilator/embed.sh $(PAGE) >$@

# Whatever the objects are compiled with: another compiler or other flags compile all of them anew.
FLAGS = $(CC) $(ALL_CFLAGS) $(CPPFLAGS)
$(B)/flags: FORCE
	@mkdir -p $(@D); [ "$$(cat $@ 2>/dev/null)" = '$(subst ','\'',$(FLAGS))' ] || printf '%s\n' '$(subst ','\'',$(FLAGS))' >$@
.PHONY: FORCE

$(B)/obj/gen/%.o: $(B)/gen/%.c $(B)/flags
	@mkdir -p $(@D)
	$(SAY) CC $<
	$(Q)$(CC) -std=gnu17 $(CPPFLAGS) $(CFLAGS) -fPIC $(if $(SAN),-fsanitize=$(SAN)) -MMD -c -o $@ $<

$(B)/obj/%.o: %.c $(B)/flags | $(PROTOS)
	@mkdir -p $(@D)
	$(SAY) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) $(CPPFLAGS) -MMD -c -o $@ $<

$(B)/libbase.a: $(BASE_O)
	@rm -f $@; ar rcs $@ $^
$(B)/libparts.a: $(PARTS_O)
	@rm -f $@; ar rcs $@ $^

# Plugins find the functions of tarmac.h in the program that hosts them.
$(B)/bin/worker $(B)/tests/unit/test_plugin: LDLIBS += -Wl,--dynamic-list=tarmac/plugin.list
$(B)/tests/unit/test_plugin: | $(PLUGINS)

# The control tower in the terminal; nothing else of the system draws.
$(B)/bin/ventilator: LDLIBS += -lncursesw -ltinfo

$(BINS): $(B)/bin/%: $(B)/obj/%/main.o $(LIBS)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -o $@ $^ $(LDLIBS)

# The fault tests make calls of our own code fail: tests/support/fail.c stands between.
$(FAULT): LDLIBS += -Wl,@tests/support/fail.wraps

$(B)/lib/libtarmac.a: $(API_O) $(B)/libbase.a
	@mkdir -p $(@D)
	$(SAY) AR $@
	$(Q)$(LD) -r -o $(B)/lib/tarmac.o $^ && objcopy --wildcard --keep-global-symbol='tarmac_*' $(B)/lib/tarmac.o
	$(Q)rm -f $@; ar rcs $@ $(B)/lib/tarmac.o; rm -f $(B)/lib/tarmac.o

$(B)/lib/libtarmac.so.$(VERSION): $(API_O) $(B)/libbase.a tarmac/libtarmac.map
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=tarmac/libtarmac.map -Wl,--as-needed -o $@ $(API_O) $(B)/libbase.a $(LDLIBS)
	$(Q)ln -sf $(@F) $(@D)/$(SONAME); ln -sf $(SONAME) $(@D)/libtarmac.so

$(B)/lib/libtarmac.pc: Makefile
	@mkdir -p $(@D)
	@printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' 'libdir=$${prefix}/lib' '' 'Name: libtarmac' \
	    'Description: contexts, and a client of the Tarmac task queue' 'Version: $(VERSION)' 'Cflags: -I$${includedir}' \
	    'Libs: -L$${libdir} -ltarmac' 'Libs.private: -pthread' 'Requires.private: libzmq libczmq libprotobuf-c sqlite3 jansson' >$@

$(UNIT) $(FAULT) $(BENCH): $(B)/%: $(B)/obj/%.o $(SUPPORT_O) $(LIBS)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -o $@ $^ -lcmocka $(LDLIBS)

$(B)/tests/sim: $(SIM_C:%.c=$(B)/obj/%.o) $(SUPPORT_O) $(LIBS)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -o $@ $^ $(LDLIBS)

# A network that the end-to-end tests can cut.
$(RELAY): $(B)/tests/%: $(B)/obj/tests/e2e/%.o $(LIBS)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -o $@ $^ $(LDLIBS)

# Preloaded into programs of any build, so it has no sanitizer of its own.
$(POWERCUT): tests/fault/powercut_shim.c tests/support/powercut.h
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -std=gnu17 $(WARN) $(CFLAGS) $(CPPFLAGS) -fPIC -shared -pthread -o $@ $<

$(DISKSHIM): tests/fault/disk_shim.c
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -std=gnu17 $(WARN) $(CFLAGS) $(CPPFLAGS) -fPIC -shared -pthread -o $@ $<

$(WALLCLOCK): tests/e2e/wallclock_shim.c
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -std=gnu17 $(WARN) $(CFLAGS) $(CPPFLAGS) -fPIC -shared -o $@ $<

# What test_plugin loads, made as anybody else's: without -ltarmac.
$(PLUGINS): $(B)/%.so: $(B)/obj/%.o
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) -shared -o $@ $< $(if $(SAN),-fsanitize=$(SAN))

# Needs clang: the fuzzer is its run-time library.
$(FUZZ): $(B)/%: %.c $(SUPPORT_O) $(LIBS)
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(CC) $(ALL_CFLAGS) $(CPPFLAGS) -DFUZZER -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

# ---- set-up and tests ----
SUITES    := $(if $(UNIT_C),unit) $(if $(FAULT_C),fault) $(if $(SIM_C),sim) e2e
RUN_TESTS = B=$(B) SAN=$(SAN) tools/run-tests.sh

.PHONY: setup test browser unit fault sim e2e asan tsan lint fuzz bench bench-quick bench-setup dispatch demo
setup:    ## installs the Debian packages that are missing
	@tools/setup.sh build metrics

test: setup    ## installs what is missing, builds, runs every test
	@$(BUILD) programs library tests
	@SEEDS=$(SEEDS) $(RUN_TESTS) $(SUITES)

unit: $(UNIT)    ## the unit tests only
	@$(RUN_TESTS) unit
fault: $(FAULT) $(POWERCUT)    ## the fault sweeps only
	@$(RUN_TESTS) fault
sim: $(SIM)    ## the simulation only; SEEDS=1000000 for a night
	@SEEDS=$(SEEDS) $(RUN_TESTS) sim
e2e: programs $(RELAY) $(CROWD) $(POWERCUT) $(DISKSHIM) $(WALLCLOCK) $(B)/tests/fault/test_powercut    ## the end-to-end tests only
	@$(RUN_TESTS) e2e

# The sanitizers' builds run the same tests; the end-to-end ones without those that measure memory, and without those that
# mostly wait: with SAN_ALL=1 these as well. One of the tests installs the library: without the flags of the build it would
# compile all of it anew, beside the others.
ASAN := SAN=address,undefined OPTIMISE="-O1 -g"
TSAN := SAN=thread OPTIMISE="-O1 -g"
asan: setup    ## tests under the address and undefined-behaviour sanitizers
	@$(BUILD) B=$(B)/asan $(ASAN) programs library tests
	@B=$(B)/asan $(ASAN) LABEL=asan SEEDS=1000 tools/run-tests.sh $(SUITES)
tsan: setup    ## tests under the thread sanitizer
	@$(BUILD) B=$(B)/tsan $(TSAN) programs library tests
	@B=$(B)/tsan $(TSAN) LABEL=tsan SEEDS=300 tools/run-tests.sh $(SUITES)

lint:    ## layers, bans, lengths, and a compile by gcc and clang without warnings
	@tools/setup.sh build lint
	@B=$(B) tools/lint.sh

fuzz:    ## each parser of foreign bytes for FUZZ_SECONDS=60; what it learned stays in build/fuzz/corpus
	@tools/setup.sh build fuzz
	@$(BUILD) B=$(B)/fuzz CC=clang SAN=address,undefined OPTIMISE="-O1 -g" fuzz-programs
	@set -e; for f in $(notdir $(FUZZ)); do mkdir -p $(B)/fuzz/corpus/$$f; \
	    $(B)/fuzz/tests/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -artifact_prefix=$(B)/fuzz/ $(B)/fuzz/corpus/$$f; done

# npm is not always a package of its own: where nodejs has brought it, that of Debian would take nodejs away.
browser: setup    ## the tests of the control tower's page in a real browser; WORD=part-of-a-name for some of them
	@tools/setup.sh browser; command -v npm >/dev/null || tools/setup.sh npm
	@$(BUILD) programs
	@cd tests/browser && npm ci --silent --no-audit --no-fund --ignore-scripts && B=$(abspath $(B)) timeout -k 10 600 node run.mjs $(WORD)

bench: setup    ## every benchmark beside its baseline, a table and build/bench.json; NAMES="noop latency": these only
	@$(BUILD) programs bench-programs
	@B=$(B) tools/bench.sh $(NAMES)
bench-quick: setup    ## the same in a minute
	@$(BUILD) programs bench-programs
	@B=$(B) tools/bench.sh --quick $(NAMES)
bench-setup:    ## installs what the benchmarks compare with: GNU parallel, Redis, beanstalkd
	@tools/setup.sh build bench

dispatch: $(B)/tests/bench/bench_dispatch    ## makespan over ideal at up to 10,000 workers, in virtual time; NAMES="times mixes": these tables only
	@$(B)/tests/bench/bench_dispatch $(NAMES)

demo: setup    ## 1,000 images through a ventilator, four workers and a sink
	@$(BUILD) programs
	@B=$(B) tools/demo.sh

fuzz-programs: $(FUZZ)
.PHONY: bench-programs fuzz-programs objects list-sources
bench-programs: $(BENCH) $(PLUGINS)
objects: $(SOURCES:%.c=$(B)/obj/%.o)    # everything compiled, nothing linked
list-sources:                           # what the rules above compile; the lint asks
	@printf '%s\n' $(SOURCES)

# ---- installing ----
MAN        := $(PROGRAMS:%=$(B)/man/%.1)
COMPLETION := $(PROGRAMS:%=$(B)/completion/%)

# Both come from the options tables, by way of the programs themselves.
$(MAN): $(B)/man/%.1: $(B)/bin/%
	@mkdir -p $(@D)
	$< --man >$@.new && mv $@.new $@
$(COMPLETION): $(B)/completion/%: $(B)/bin/%
	@mkdir -p $(@D)
	$< --completion >$@.new && mv $@.new $@

UNITS      := $(PROGRAMS:%=$(B)/systemd/tarmac-%.service)
$(UNITS): $(B)/systemd/%: systemd/%.in FORCE
	@mkdir -p $(@D); sed 's|@BINDIR@|$(PREFIX)/bin|g; s|@SYSCONFDIR@|$(SYSCONFDIR)|g' $< >$@

.PHONY: docs install install-programs install-units uninstall image clean
docs: $(MAN) $(COMPLETION)    ## man pages and bash completion
install: install-programs install-units library    ## programs, library, man pages, completion and systemd units under DESTDIR and PREFIX
	install -d $(DESTDIR)$(PREFIX)/include/tarmac $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 644 tarmac/tarmac.h $(DESTDIR)$(PREFIX)/include/tarmac
	install -m 644 docs/man/libtarmac.3 $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 644 $(B)/lib/libtarmac.a $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(B)/lib/libtarmac.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib
	ln -sf libtarmac.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libtarmac.so
	@rm -f $(B)/lib/libtarmac.pc; $(MAKE) -s --no-print-directory $(B)/lib/libtarmac.pc
	install -m 644 $(B)/lib/libtarmac.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig

install-programs: programs docs    ## programs, their man pages and completion only
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(BINS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(MAN) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(COMPLETION) $(DESTDIR)$(PREFIX)/share/bash-completion/completions

# What an operator has written into the configuration stays.
install-units: $(UNITS)    ## the systemd units, the user they run as, and their configuration in SYSCONFDIR
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(SYSCONFDIR)/tarmac
	install -m 644 $(UNITS) $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 644 systemd/tarmac.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/tarmac.conf
	for p in $(PROGRAMS); do [ -e $(DESTDIR)$(SYSCONFDIR)/tarmac/$$p.env ] || install -m 644 systemd/$$p.env $(DESTDIR)$(SYSCONFDIR)/tarmac; done

uninstall:    ## takes away what install put there
	rm -f $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%) $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/share/man/man1/%.1) \
	      $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/share/bash-completion/completions/%)
	rm -f $(DESTDIR)$(PREFIX)/include/tarmac/tarmac.h $(DESTDIR)$(PREFIX)/share/man/man3/libtarmac.3
	for p in $(PROGRAMS); do rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/tarmac-$$p.service; \
	    cmp -s systemd/$$p.env $(DESTDIR)$(SYSCONFDIR)/tarmac/$$p.env && rm -f $(DESTDIR)$(SYSCONFDIR)/tarmac/$$p.env; done; \
	    rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/tarmac.conf
	rm -f $(DESTDIR)$(PREFIX)/lib/libtarmac.* $(DESTDIR)$(PREFIX)/lib/pkgconfig/libtarmac.pc

image:    ## the container images, IMAGE:latest and IMAGE-worker:latest
	docker build --target service -t $(IMAGE):latest .
	docker build --target worker -t $(IMAGE)-worker:latest .

clean:    ## removes the build folder
	rm -rf $(B)

# A half-written file is not a made one.
.DELETE_ON_ERROR:

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
