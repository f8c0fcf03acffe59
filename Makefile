# Tarmac: one Makefile, `make help` lists the targets.
# Variants are the same rules with another B (build folder) and SAN (sanitizers).
B       ?= build
CC      ?= cc
SAN     ?=
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

PKGS     := libzmq libczmq libprotobuf-c sqlite3 jansson
WARN     := -Wall -Wextra -Wshadow -Wconversion -Werror
OPTIMISE ?= -O2 -g
CPPFLAGS += -I. -I$(B)/gen -D_GNU_SOURCE -DTARMAC_VERSION='"$(VERSION)"'
CFLAGS   ?= $(OPTIMISE)
ALL_CFLAGS = -std=gnu17 $(WARN) $(CFLAGS) -fno-omit-frame-pointer -pthread $(shell pkg-config --cflags $(PKGS)) $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
LDLIBS    = $(shell pkg-config --libs $(PKGS)) -lm -pthread $(if $(SAN),-fsanitize=$(SAN))

PROGRAMS := ventilator worker sink
BASE     := $(wildcard common/*.c proto/*.c tarmac/*.c)
PARTS    := $(foreach p,$(PROGRAMS),$(filter-out $(p)/main.c,$(wildcard $(p)/*.c)))
MAINS    := $(foreach p,$(PROGRAMS),$(wildcard $(p)/main.c))
BASE_O   := $(BASE:%.c=$(B)/obj/%.o) $(B)/obj/gen/wire.pb-c.o
PARTS_O  := $(PARTS:%.c=$(B)/obj/%.o)
BINS     := $(foreach p,$(PROGRAMS),$(if $(wildcard $(p)/main.c),$(B)/bin/$(p)))
UNIT     := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/test_*.c))

.PHONY: all programs help
all: programs
programs: $(BINS)

$(B)/gen/wire.pb-c.c $(B)/gen/wire.pb-c.h &: proto/wire.proto
	@mkdir -p $(B)/gen
	protoc-c --proto_path=proto --c_out=$(B)/gen proto/wire.proto

$(B)/obj/gen/%.o: $(B)/gen/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu17 $(CPPFLAGS) $(CFLAGS) $(if $(SAN),-fsanitize=$(SAN)) -MMD -c -o $@ $<

$(B)/obj/%.o: %.c | $(B)/gen/wire.pb-c.h
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(CPPFLAGS) -MMD -c -o $@ $<

$(B)/libbase.a: $(BASE_O)
	@rm -f $@; ar rcs $@ $^
$(B)/libparts.a: $(PARTS_O)
	@rm -f $@; ar rcs $@ $^

$(BINS): $(B)/bin/%: $(B)/obj/%/main.o $(B)/libparts.a $(B)/libbase.a
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(LDLIBS)

$(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(B)/libparts.a $(B)/libbase.a
	@mkdir -p $(@D)
	$(CC) -o $@ $^ -lcmocka $(LDLIBS)

.PHONY: unit
unit: $(UNIT)
	@for t in $(UNIT); do $$t || exit 1; done

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
