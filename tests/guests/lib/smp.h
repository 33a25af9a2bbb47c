// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Guests on several processors. Processor 0 is the one that runs guest_main(); the others are numbered from 1
 * in the order of the MADT. They share page tables, GDT and IDT, have a TSS and stacks of their own, and wait
 * with interrupts off, spinning on memory, for a function to run.
 *
 * TRY belongs to processor 0 alone: an exception on another one that has no handler in guest_handlers[] ends
 * the guest.
 */
#include "tests/guests/lib/pc.h"

#define SMP_MAX          8

/* Where a start-up IPI's vector points: pages that smp_start() writes its code to. */
#define SMP_PAGE_FIRST   8
#define SMP_PAGE_LAST    15

/* Delivery and destination modes of the interrupt command register (SDM vol. 3, "Interrupt Command
 * Register"), as pc.h's ICR_… */
#define ICR_LOWEST       0x100
#define ICR_INIT         0x500
#define ICR_STARTUP      0x600
#define ICR_LOGICAL      BIT(11)
#define ICR_OTHERS       0xc0000
#define ICR_PENDING      BIT(12)

#define APIC_BASE_BSP    BIT(8)
#define APIC_BASE_X2APIC BIT(10)
#define APIC_BASE_ENABLE BIT(11)

/* The registers with which a processor began, as smp_start()'s code at the vector saw them. */
struct smp_begin {
    uint32_t eax, ebx, ecx, edx, esi, edi, ebp, esp;
    uint32_t eflags;
    uint32_t cr0, cr2, cr3, cr4;
    uint32_t dr0, dr1, dr2, dr3, dr6, dr7;
    uint32_t efer;
    uint16_t cs, ds, es, ss, fs, gs;
    uint16_t gdt_limit;
    uint32_t gdt_base;
    uint16_t idt_limit;
    uint32_t idt_base;
} __packed;

typedef void smp_function(void *argument);

struct smp_processor {
    uint32_t apic_id;
    volatile unsigned starts;        /* how often it has come up */
    volatile unsigned hits[256];     /* by smp_count_hit() */
    smp_function *volatile function; /* what it runs; NULL: it waits */
    void *volatile argument;
};

extern struct smp_processor smp_processors[SMP_MAX];
/* Processors that the MADT lists as enabled, at most SMP_MAX. 0 before smp_init(). */
extern unsigned smp_count;

/* Reads the MADT. Call first, on processor 0. Starts nobody. */
void smp_init(void);

/*
 * Starts processor `n` (not 0) by INIT, start-up, start-up, at page `page` (SMP_PAGE_…) of memory. What it
 * ran before is lost. Returns false if it does not come up. Call on processor 0.
 */
bool smp_start(unsigned n, unsigned page);
/* How the processor that was started last at `page` began. */
const struct smp_begin *smp_begun(unsigned page);
/* Writes the code that smp_start() uses to `page`, without starting anybody. */
void smp_prepare(unsigned n, unsigned page);

/* The number of the processor that asks; costs no exit. */
unsigned smp_self(void);

/* Has processor `n` run function(argument): at once if n is 0. Call on processor 0. */
void smp_call(unsigned n, smp_function *function, void *argument);
/* Waits until processor `n` is done with it; the guest ends with a FAIL row if that takes for ever. */
void smp_join(unsigned n);
/* Both, one after the other, on each processor of `mask`. */
void smp_run(unsigned n, smp_function *function, void *argument);
void smp_run_each(uint32_t mask, smp_function *function, void *argument);
/* Has all processors of `mask` run it at the same time, and waits for all. */
void smp_run_together(uint32_t mask, smp_function *function, void *argument);
static inline uint32_t smp_all(void)
{
    return (1U << smp_count) - 1;
}

/* About 10 ms on the emulator, and long enough for INIT anywhere. */
void smp_delay(void);
/* Spins until *value is not `old`; false if that takes for ever. */
bool smp_wait_change(const volatile unsigned *value, unsigned old);

/* ---- The executing processor's local APIC, xAPIC or x2APIC as it is set ------------------------------- */

uint32_t apic_read(unsigned reg);
void apic_write(unsigned reg, uint32_t value);
/* Writes the interrupt command register: `destination` an APIC ID or logical address in the mode's own width.
 */
void apic_send(uint32_t destination, uint32_t low);
/* Bit `vector` of a 256-bit register. */
bool apic_bit(unsigned reg, unsigned vector);

/* For guest_handlers[]: counts in the executing processor's hits, and ends the interrupt (an NMI has no end).
 */
void smp_count_hit(struct guest_frame *frame);
