// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/descriptor.h"

#include "arch/x86/percpu.h"
#include "arch/x86/trap.h"

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map_base;
} __packed;

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __packed;

enum { GDT_NULL, GDT_CODE, GDT_DATA, GDT_TSS_LOW, GDT_TSS_HIGH, GDT_COUNT };

/* Present, ring 0; 64-bit code, accessed; writable data, accessed; interrupt gate; available 64-bit TSS. */
#define DESCRIPTOR_CODE_64 0x00af9b000000ffffULL
#define DESCRIPTOR_DATA    0x00cf93000000ffffULL
#define DESCRIPTOR_TSS     0x0000890000000000ULL
#define GATE_INTERRUPT     0x8e

PERCPU static uint64_t gdt[GDT_COUNT];
PERCPU static struct tss tss;
static struct gate idt[256];

/* The IST of a vector, 0 for none. */
static uint8_t vector_ist(unsigned vector)
{
    switch (vector) {
    case 2:
        return IST_NMI;
    case 8:
        return IST_DOUBLE_FAULT;
    case 18:
        return IST_MACHINE_CHECK;
    default:
        return 0;
    }
}

static void idt_fill(void)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t entry = (uint64_t)trap_stubs + vector * TRAP_STUB_SIZE;
        idt[vector] = (struct gate){
            .offset_low = (uint16_t)entry,
            .selector = SELECTOR_CODE,
            .ist = vector_ist(vector),
            .type = GATE_INTERRUPT,
            .offset_middle = (uint16_t)(entry >> 16),
            .offset_high = (uint32_t)(entry >> 32),
        };
    }
}

void descriptor_load(const uint64_t stack_tops[IST_COUNT])
{
    uint64_t *table = (uint64_t *)descriptor_gdt_base();
    struct tss *state = (struct tss *)descriptor_tss_base();
    uint64_t base = (uint64_t)state;

    for (unsigned i = 0; i < IST_COUNT; i++)
        state->ist[i] = stack_tops[i];
    state->io_map_base = sizeof(*state);
    table[GDT_CODE] = DESCRIPTOR_CODE_64;
    table[GDT_DATA] = DESCRIPTOR_DATA;
    table[GDT_TSS_LOW] =
        DESCRIPTOR_TSS | (sizeof(*state) - 1) | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    table[GDT_TSS_HIGH] = base >> 32;
    if (this_cpu(percpu_number) == 0) /* the others share it, and may be using it */
        idt_fill();

    struct table_pointer gdt_pointer = {sizeof(gdt) - 1, (uint64_t)table};
    struct table_pointer idt_pointer = {sizeof(idt) - 1, (uint64_t)idt};
    uint64_t frame;

    __asm__ volatile("lgdt %[gdt]\n\t"
                     "lidt %[idt]\n\t"
                     "pushq %[code]\n\t"
                     "leaq 1f(%%rip), %[frame]\n\t"
                     "pushq %[frame]\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "mov %[data], %%ds\n\t"
                     "mov %[data], %%es\n\t"
                     "mov %[data], %%ss\n\t"
                     "ltr %w[task]"
                     : [frame] "=&r"(frame)
                     : [gdt] "m"(gdt_pointer), [idt] "m"(idt_pointer), [code] "i"(SELECTOR_CODE),
                       [data] "r"(SELECTOR_DATA), [task] "r"(SELECTOR_TSS)
                     : "memory");
}

uint64_t descriptor_gdt_base(void)
{
    return (uint64_t)this_cpu_pointer(gdt);
}

uint64_t descriptor_idt_base(void)
{
    return (uint64_t)idt;
}

uint64_t descriptor_tss_base(void)
{
    return (uint64_t)this_cpu_pointer(tss);
}
