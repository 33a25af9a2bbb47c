# SPDX-License-Identifier: BSD-2-Clause
#
# make run     build everything, boot it in an emulator: the terminal is Umbra's console
# make test    every test but the long ones
# make soak    the long ones
# (see docs/manual.md for the rest)

BUILD ?= build
CC    := gcc
.DEFAULT_GOAL := all

# ---- The hypervisor ------------------------------------------------------------------------------------------

rooms   := lib arch/x86 mm drivers vmx nested core core/config core/loader core/vdev core/exits boot
sources := $(foreach room,$(rooms),$(wildcard $(room)/*.c $(room)/*.S))
objects := $(patsubst %,$(BUILD)/umbra/%.o,$(sources))

warnings := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef \
            -Wvla -Wwrite-strings -Wcast-align -Wformat=2 -Wimplicit-fallthrough -Wno-format-nonliteral
CFLAGS   := -std=gnu11 -O2 -g $(warnings) -I. -I$(BUILD)/gen -MMD -MP
KFLAGS   := $(CFLAGS) -ffreestanding -mcmodel=kernel -mno-red-zone -mgeneral-regs-only -fno-pic -fno-pie \
            -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing \
            -ffunction-sections -fdata-sections -fno-common

all: $(BUILD)/umbra.elf

$(BUILD)/umbra.elf: $(objects) boot/umbra.lds
	$(CC) -nostdlib -static -Wl,-T,boot/umbra.lds -Wl,--build-id=none -Wl,--gc-sections \
	      -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -o $@ $(objects)

$(BUILD)/umbra/%.c.o: %.c
	@mkdir -p $(@D)
	$(CC) $(KFLAGS) -c -o $@ $<

$(BUILD)/umbra/%.S.o: %.S
	@mkdir -p $(@D)
	$(CC) $(KFLAGS) -D__ASSEMBLER__ -c -o $@ $<

# ---- Generated sources ------------------------------------------------------------------------------------------

# The ACPI source language to the elements of a C array.
$(BUILD)/gen/%.aml: %.asl
	@mkdir -p $(@D)
	iasl -vs -we -p $(basename $@) $<

$(BUILD)/gen/%.inc: $(BUILD)/gen/%.aml
	od -An -v -tu1 $< | sed 's/[0-9]\+/&,/g' > $@

$(BUILD)/umbra/core/vdev/acpi.c.o $(BUILD)/host/core/vdev/acpi.o \
$(BUILD)/fuzz/pure/core/vdev/acpi.o: $(BUILD)/gen/core/vdev/dsdt.inc

# ---- Host tests: the pure rooms, unchanged, with ASan and UBSan -----------------------------------------------

pure := $(filter-out lib/string.c,$(wildcard lib/*.c)) $(wildcard core/config/*.c core/vdev/*.c core/loader/*.c) \
        $(filter-out mm/address_space.c,$(wildcard mm/*.c)) \
        $(wildcard vmx/policy_*.c vmx/apicv.c vmx/events.c vmx/controls.c vmx/fields.c vmx/reasons.c arch/x86/decode.c arch/x86/paging_*.c arch/x86/mtrr.c arch/x86/machine_check.c drivers/acpi_tables.c boot/multiboot2.c \
                   core/emulate*.c core/monitor*.c core/console.c core/line_editor.c core/trace.c core/report.c core/policy_keys.c core/task_switch.c \
                   vmx/vcpu.c vmx/barriers.c nested/*.c core/nested_guest.c core/nested_memory.c core/paging.c core/partition*.c core/scheduler.c core/shared.c core/hypercall.c core/exits/*.c)
HFLAGS    := $(CFLAGS) -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
host_objs := $(patsubst %.c,$(BUILD)/host/%.o,$(pure))
units     := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))

$(BUILD)/host/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(HFLAGS) -c -o $@ $<

$(BUILD)/host/libpure.a: $(host_objs)
	@rm -f $@
	ar rcs $@ $^

# A unit test links against all pure rooms; the linker takes what it needs.
$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/host/libpure.a
	@mkdir -p $(@D)
	$(CC) $(HFLAGS) -o $@ $< $(BUILD)/host/libpure.a -pthread -lcmocka -lZydis -lm

# The model of the virtual TLB, for a long run: without the sanitizers, under which `unit` runs it.
$(BUILD)/plain/test_vtlb_model: tests/unit/test_vtlb_model.c $(filter mm/% lib/% arch/%,$(pure))
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ -lcmocka -lm

unit: $(units)
	@set -e; for test in $(units); do echo "== $$test"; $$test; done

-include $(objects:.o=.d) $(host_objs:.o=.d) $(units:=.d)

# ---- The configuration checker for the host -----------------------------------------------------------------------

checker := tools/check/umbra_check.c core/policy_keys.c lib/printf.c $(wildcard core/config/*.c)
checker_objs := $(checker:%.c=$(BUILD)/checker/%.o)

$(BUILD)/checker/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<

$(BUILD)/umbra-check: $(checker_objs)
	$(CC) -o $@ $^

# ---- Fuzzing: the pure rooms under libFuzzer ------------------------------------------------------------------------

FUZZ_RUNS ?= 200000
FUZZFLAGS := $(CFLAGS) -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
fuzz_objs := $(patsubst %.c,$(BUILD)/fuzz/pure/%.o,$(pure))
fuzzers   := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

$(BUILD)/fuzz/pure/%.o: %.c
	@mkdir -p $(@D)
	clang $(FUZZFLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<

$(BUILD)/fuzz/libpure.a: $(fuzz_objs)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/fuzz/%: tests/fuzz/fuzz_%.c $(BUILD)/fuzz/libpure.a
	@mkdir -p $(@D)
	clang $(FUZZFLAGS) -fsanitize=fuzzer -o $@ $< $(BUILD)/fuzz/libpure.a

# The same runs each time: the committed corpus, and what grows from it by a fixed seed. A fuzzer that wants other
# limits than these says so in tests/fuzz/NAME.options, one option a line; one that does much in a run has in
# tests/fuzz/NAME.share the number that its runs are divided by.
fuzz-short: $(fuzzers:%=$(BUILD)/fuzz/%)
	@set -e; for name in $(fuzzers); do echo "== fuzz $$name"; new=$(BUILD)/fuzz/corpus/$$name; \
	    rm -rf $$new; mkdir -p $$new; \
	    $(BUILD)/fuzz/$$name -seed=1 -runs=$$(($(FUZZ_RUNS) / $$(cat tests/fuzz/$$name.share 2>/dev/null || echo 1))) -max_len=4096 -verbosity=0 -print_final_stats=1 \
	        -artifact_prefix=$(BUILD)/fuzz/ $$(cat tests/fuzz/$$name.options 2>/dev/null) \
	        $$new tests/fuzz/corpus/$$name >$$new.log 2>&1 || { cat $$new.log; exit 1; }; \
	    sed -n 's/^stat::number_of_executed_units: *\(.*\)/   \1 inputs, no finding/p' $$new.log; done

-include $(checker_objs:.o=.d) $(fuzz_objs:.o=.d) $(fuzzers:%=$(BUILD)/fuzz/%.d)

.PHONY: fuzz-short

# ---- Bare-metal guests --------------------------------------------------------------------------------------------

include tests/guests/Makefile.inc

# ---- What a user calls ------------------------------------------------------------------------------------------

# Everything else waits until what it needs is installed.
setup:
	@tools/setup.sh

fetch:
	./umbra fetch

run: setup
	@$(MAKE) --no-print-directory all $(BUILD)/umbra-check fetch
	./umbra run examples/linux.conf

# Both compilers, layout, static analysis, floors, unit tests, a short fuzz.
c_sources := $(foreach room,$(rooms),$(wildcard $(room)/*.c)) $(wildcard tools/check/*.c)
c_files   := $(c_sources) $(foreach room,$(rooms),$(wildcard $(room)/*.h)) \
             $(wildcard tests/unit/*.[ch] tests/fuzz/*.[ch] tests/guests/*.[ch] tests/guests/lib/*.[ch] tests/guests/matrix/*.[ch] tests/guests/hostile/*.[ch])

check: all clang format floors analysis unit fuzz-short

clang:
	@$(MAKE) --no-print-directory CC=clang BUILD=$(BUILD)/clang $(BUILD)/clang/umbra.elf

format:
	clang-format --dry-run -Werror $(c_files)

floors:
	tools/floors.py

analysis:
	cppcheck -q -j2 --error-exitcode=1 --enable=warning,performance,portability --inline-suppr -U__ASSEMBLER__ \
	    -D__STDC_HOSTED__=0 -D__x86_64__ -I. -I$(BUILD)/gen --suppress=missingIncludeSystem $(c_sources)

test: setup
	@$(MAKE) --no-print-directory all $(BUILD)/umbra-check guests-elf fetch check
	/usr/bin/python3 -m pytest -n 2

# Changes of the code of the virtual TLB and of nesting that no unit test notices; MUTANTS="--only mm/vtlb.c" or
# "--sample 50 --seed 1" limits it.
mutants:
	tools/mutants.py --build $(BUILD) $(MUTANTS)

# Hours: the tests that are marked so, a hundred times the fuzzing and the model's operations, all mutants.
soak: setup
	@$(MAKE) --no-print-directory all $(BUILD)/umbra-check guests-elf fetch $(BUILD)/plain/test_vtlb_model \
	    $(BUILD)/unit/test_vtlb_nested_model
	@$(MAKE) --no-print-directory fuzz-short FUZZ_RUNS=20000000
	VTLB_MODEL_OPERATIONS=1000000000 $(BUILD)/plain/test_vtlb_model
	VTLB_MODEL_OPERATIONS=50000000 $(BUILD)/unit/test_vtlb_nested_model
	@$(MAKE) --no-print-directory mutants
	/usr/bin/python3 -m pytest -n 2 -m soak

# Exits and boots, counted in Bochs, bare, on Umbra and on KVM; words in PARTS limit it (umbra bench --help).
bench: setup
	@$(MAKE) --no-print-directory all $(BUILD)/umbra-check guests-elf fetch
	tools/bench.py $(PARTS)

clean:
	rm -rf $(BUILD)

.PHONY: all unit clean setup fetch run check clang format floors analysis test soak mutants bench
.SECONDARY:
