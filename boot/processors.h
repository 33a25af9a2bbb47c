// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The other processors: from firmware's halt to Umbra's loop (SDM vol. 3, "Multiple-processor (MP)
 * initialization").
 */
#include "arch/x86/mtrr.h"
#include "drivers/acpi_tables.h"
#include "lib/types.h"
#include "mm/frame.h"
#include "vmx/controls.h"

/* Pages of each processor's own stack, and of each of its interrupt stacks. */
#define PROCESSOR_STACK_PAGES 8
#define PROCESSOR_IST_PAGES   2

struct processors_settings {
    struct frame_pool *frames;
    const struct acpi_machine *acpi;
    const struct vmx_capabilities *capabilities; /* of the first processor; NULL: it does not use VMX */
    const struct mtrr *mtrr;                     /* of the first processor, by processors_read_mtrrs */
    uint64_t tsc_hz;
    __noreturn void (*run)(void); /* what a processor does from then on */
};

/* Reads this processor's MTRRs. Every byte of *mtrr is set, so that two can be compared as memory. */
void processors_read_mtrrs(struct mtrr *mtrr);

/*
 * Starts every other processor that firmware lists as enabled, one at a time; each ends in settings->run, in
 * VMX operation if the first is, with a number (percpu_number), an entry in percpu_offsets and
 * percpu_apic_ids and its APIC enabled. percpu_count is final on return. Prints one line for each that is
 * left out and why, and one with the count. First processor, interrupts off, its APIC enabled, descriptor
 * tables loaded, handlers of interrupts set.
 */
void processors_start(const struct processors_settings *settings);
