// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/* The PC's interrupt controllers and clocks, as guests use them. All polled, none allocates. */
#include "tests/guests/lib/guest.h"

/* ---- 8259 --------------------------------------------------------------------------------------------- */

#define PIC_MASTER   0x20
#define PIC_SLAVE    0xa0
#define PIC_BASE     0x20 /* vector of IRQ 0 after pic_init; IRQ 8 is at 0x28 */
#define PIC_READ_IRR 0x0a
#define PIC_READ_ISR 0x0b
#define PIC_NON_SPEC 0x20
#define PIC_ALL      0xffff

/* Both controllers, edge-triggered, fully nested, with `mask` (bit: IRQ). */
void pic_init(uint16_t mask);
void pic_mask(uint16_t mask);
void pic_eoi(unsigned irq);
/* IRR or ISR of both, by PIC_READ_*. */
uint16_t pic_read(uint8_t what);

/* ---- Local APIC --------------------------------------------------------------------------------------- */

#define LAPIC_BASE      0xfee00000UL
#define LAPIC_ID        0x20
#define LAPIC_VERSION   0x30
#define LAPIC_TPR       0x80
#define LAPIC_PPR       0xa0
#define LAPIC_EOI       0xb0
#define LAPIC_LDR       0xd0
#define LAPIC_DFR       0xe0
#define LAPIC_SVR       0xf0
#define LAPIC_ISR       0x100
#define LAPIC_TMR       0x180
#define LAPIC_IRR       0x200
#define LAPIC_ESR       0x280
#define LAPIC_ICR_LOW   0x300
#define LAPIC_ICR_HIGH  0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_LVT_LINT1 0x360
#define LAPIC_LVT_ERROR 0x370
#define LAPIC_TIMER_ICR 0x380
#define LAPIC_TIMER_CCR 0x390
#define LAPIC_TIMER_DCR 0x3e0

#define LVT_MASKED      BIT(16)
#define LVT_PERIODIC    BIT(17)
#define LVT_DEADLINE    BIT(18)
#define LVT_EXTINT      0x700

#define ICR_SELF        0x40000
#define ICR_ALL         0x80000
#define ICR_ASSERT      0x4000
#define ICR_NMI         0x400

#define DIVIDE_BY_1     0xb

uint32_t lapic_read(unsigned reg);
void lapic_write(unsigned reg, uint32_t value);
/* Enabled, spurious vector 0xff, priority 0, all of the local vector table masked but LINT0: ExtINT if
 * `extint`. */
void lapic_init(bool extint);
/* Bit `vector` of the 256-bit register (LAPIC_ISR, _TMR, _IRR). */
bool lapic_bit(unsigned reg, unsigned vector);

/* ---- IO-APIC ------------------------------------------------------------------------------------------ */

#define IOAPIC_BASE   0xfec00000UL
#define IOAPIC_PINS   24
#define IOAPIC_LEVEL  BIT(15)
#define IOAPIC_REMOTE BIT(14)
#define IOAPIC_MASKED BIT(16)
#define IOAPIC_NMI    0x400

uint32_t ioapic_read(uint8_t reg);
void ioapic_write(uint8_t reg, uint32_t value);
/* Redirection entry of `pin`, to the local APIC 0. */
void ioapic_route(unsigned pin, uint32_t low);

/* ---- 8254 --------------------------------------------------------------------------------------------- */

#define PIT_HZ    1193182
#define PIT_GATE2 BIT(0)
#define PIT_OUT2  BIT(5)

/* Loads `count` (0 is 65536) in `mode`, binary, low byte first. */
void pit_program(unsigned channel, unsigned mode, uint16_t count);
/* The latched count. */
uint16_t pit_read(unsigned channel);

/* ---- RTC ---------------------------------------------------------------------------------------------- */

uint8_t cmos_read(uint8_t reg);
void cmos_write(uint8_t reg, uint8_t value);

/* ---- ACPI ---------------------------------------------------------------------------------------------- */

/* The first table with this signature of four letters, in memory below 4 GiB; NULL if there is none. */
const uint8_t *acpi_table(const char *signature);

/* ---- PM timer ----------------------------------------------------------------------------------------- */

#define PM_TIMER_HZ 3579545

/* Its port, as the FADT says; 0 if there is none. */
uint16_t pm_timer_port(void);

/* ---- Interrupts counted ------------------------------------------------------------------------------- */

extern volatile unsigned pc_hits[256];
/* The vectors in the order in which they came, and how many. */
extern volatile uint8_t pc_order[64];
extern volatile unsigned pc_order_count;

/* Handlers for guest_handlers[]: count, and end the interrupt at the local APIC, or at the 8259s (for
 * PIC_BASE on). */
void pc_count_lapic(struct guest_frame *frame);
void pc_count_pic(struct guest_frame *frame);
/* Forgets all hits. */
void pc_hits_clear(void);
/* Opens interrupts until `vector` has come `count` times, at most `ticks` of the TSC. True if it has. */
bool pc_wait(unsigned vector, unsigned count, uint64_t ticks);
