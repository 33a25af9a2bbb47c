# SPDX-License-Identifier: BSD-2-Clause
#
# make run     build everything, boot it in an emulator: the terminal is Umbra's console
# make test    every test
# (see docs/manual.md for the rest)

BUILD ?= build
CC    := gcc
.DEFAULT_GOAL := all

# ---- The hypervisor ------------------------------------------------------------------------------------------

rooms   := lib arch/x86 mm drivers vmx nested core core/config core/vdev core/loader boot
sources := $(foreach room,$(rooms),$(wildcard $(room)/*.c $(room)/*.S))
objects := $(patsubst %,$(BUILD)/umbra/%.o,$(sources))

warnings := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef \
            -Wvla -Wwrite-strings -Wcast-align -Wformat=2 -Wimplicit-fallthrough -Wno-format-nonliteral
CFLAGS   := -std=gnu11 -O2 -g $(warnings) -I. -MMD -MP
KFLAGS   := $(CFLAGS) -ffreestanding -mcmodel=kernel -mno-red-zone -mgeneral-regs-only -fno-pic -fno-pie \
            -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing \
            -fno-omit-frame-pointer -ffunction-sections -fdata-sections -fno-common

all: $(BUILD)/umbra.elf

$(BUILD)/umbra.elf: $(objects) boot/umbra.lds
	$(CC) -nostdlib -static -no-pie -Wl,-T,boot/umbra.lds -Wl,--build-id=none -Wl,--gc-sections \
	      -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -o $@ $(objects)

$(BUILD)/umbra/%.c.o: %.c
	@mkdir -p $(@D)
	$(CC) $(KFLAGS) -c -o $@ $<

$(BUILD)/umbra/%.S.o: %.S
	@mkdir -p $(@D)
	$(CC) $(KFLAGS) -D__ASSEMBLER__ -c -o $@ $<

# ---- Host tests: the pure rooms, unchanged, with ASan and UBSan -----------------------------------------------

pure := $(filter-out lib/string.c,$(wildcard lib/*.c)) $(wildcard core/config/*.c core/vdev/*.c core/loader/*.c) \
        $(filter-out mm/address_space.c,$(wildcard mm/*.c)) \
        $(wildcard vmx/policy_*.c vmx/controls.c vmx/fields.c arch/x86/decode.c arch/x86/paging_*.c \
                   core/emulate.c core/monitor*.c core/console.c core/line_editor.c core/trace.c)
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
	$(CC) $(HFLAGS) -o $@ $< $(BUILD)/host/libpure.a -lcmocka -lZydis -lm

unit: $(units)
	@set -e; for test in $(units); do echo "== $$test"; $$test; done

-include $(objects:.o=.d) $(host_objs:.o=.d) $(units:=.d)

clean:
	rm -rf $(BUILD)

.PHONY: all unit clean
.SECONDARY:
