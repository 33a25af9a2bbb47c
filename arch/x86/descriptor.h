// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Umbra's own descriptor tables: one GDT, IDT and TSS for each processor (SDM vol. 3, chapters
 * "Protected-mode memory management", "Interrupt and exception handling", "Task management"). Umbra has no
 * ring 3 of its own.
 */
#include "lib/types.h"

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS  0x18

/* Interrupt stacks of their own, for what may come at any instruction. */
enum ist {
    IST_NMI = 1,
    IST_DOUBLE_FAULT = 2,
    IST_MACHINE_CHECK = 3,
    IST_COUNT = 3,
};

/*
 * Builds and loads this processor's GDT, TSS and the common IDT. `stack_tops`: tops of the interrupt stacks,
 * by enum ist less one. Interrupts off.
 */
void descriptor_load(const uint64_t stack_tops[IST_COUNT]);

/* Where this processor's tables lie, for the host-state area of its VMCSs. */
uint64_t descriptor_gdt_base(void);
uint64_t descriptor_idt_base(void);
uint64_t descriptor_tss_base(void);
