// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/lib/pc.h"

#include "lib/string.h"

/* ---- 8259 --------------------------------------------------------------------------------------------- */

void pic_mask(uint16_t mask)
{
    outb(PIC_MASTER + 1, (uint8_t)mask);
    outb(PIC_SLAVE + 1, (uint8_t)(mask >> 8));
}

void pic_init(uint16_t mask)
{
    outb(PIC_MASTER, 0x11);
    outb(PIC_MASTER + 1, PIC_BASE);
    outb(PIC_MASTER + 1, 1 << 2);
    outb(PIC_MASTER + 1, 0x01);
    outb(PIC_SLAVE, 0x11);
    outb(PIC_SLAVE + 1, PIC_BASE + 8);
    outb(PIC_SLAVE + 1, 2);
    outb(PIC_SLAVE + 1, 0x01);
    pic_mask(mask);
}

void pic_eoi(unsigned irq)
{
    if (irq >= 8)
        outb(PIC_SLAVE, PIC_NON_SPEC);
    outb(PIC_MASTER, PIC_NON_SPEC);
}

uint16_t pic_read(uint8_t what)
{
    outb(PIC_MASTER, what);
    outb(PIC_SLAVE, what);
    return (uint16_t)(inb(PIC_MASTER) | inb(PIC_SLAVE) << 8);
}

/* ---- Local APIC, IO-APIC ------------------------------------------------------------------------------ */

uint32_t lapic_read(unsigned reg)
{
    return *(volatile uint32_t *)(LAPIC_BASE + reg);
}

void lapic_write(unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(LAPIC_BASE + reg) = value;
}

void lapic_init(bool extint)
{
    static const uint16_t table[] = {LAPIC_LVT_TIMER, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1, LAPIC_LVT_ERROR};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        lapic_write(table[i], LVT_MASKED);
    lapic_write(LAPIC_SVR, 0x1ff);
    lapic_write(LAPIC_TPR, 0);
    if (extint)
        lapic_write(LAPIC_LVT_LINT0, LVT_EXTINT);
}

bool lapic_bit(unsigned reg, unsigned vector)
{
    return (lapic_read(reg + (vector / 32) * 16) >> (vector % 32) & 1) != 0;
}

uint32_t ioapic_read(uint8_t reg)
{
    *(volatile uint32_t *)IOAPIC_BASE = reg;
    return *(volatile uint32_t *)(IOAPIC_BASE + 0x10);
}

void ioapic_write(uint8_t reg, uint32_t value)
{
    *(volatile uint32_t *)IOAPIC_BASE = reg;
    *(volatile uint32_t *)(IOAPIC_BASE + 0x10) = value;
}

void ioapic_route(unsigned pin, uint32_t low)
{
    ioapic_write((uint8_t)(0x11 + 2 * pin), 0);
    ioapic_write((uint8_t)(0x10 + 2 * pin), low);
}

/* ---- 8254, RTC ---------------------------------------------------------------------------------------- */

void pit_program(unsigned channel, unsigned mode, uint16_t count)
{
    outb(0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
    outb((uint16_t)(0x40 + channel), (uint8_t)count);
    outb((uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

uint16_t pit_read(unsigned channel)
{
    outb(0x43, (uint8_t)(channel << 6));
    uint8_t low = inb((uint16_t)(0x40 + channel));
    return (uint16_t)(low | inb((uint16_t)(0x40 + channel)) << 8);
}

uint8_t cmos_read(uint8_t reg)
{
    outb(0x70, reg);
    return inb(0x71);
}

void cmos_write(uint8_t reg, uint8_t value)
{
    outb(0x70, reg);
    outb(0x71, value);
}

/* ---- ACPI tables: RSDP, RSDT or XSDT (ACPI, "Root System Description Pointer" and following) ------- */

#define FADT_PM_TIMER 76
#define TABLE_HEADER  36

static const uint8_t *find_rsdp(void)
{
    for (const uint8_t *p = (const uint8_t *)0xe0000; p < (const uint8_t *)0x100000; p += 16)
        if (memcmp(p, "RSD PTR ", 8) == 0)
            return p;
    return NULL;
}

static uint32_t load32(const uint8_t *p)
{
    uint32_t value;

    memcpy(&value, p, sizeof(value));
    return value;
}

const uint8_t *acpi_table(const char *signature)
{
    const uint8_t *rsdp = find_rsdp();

    if (rsdp == NULL)
        return NULL;
    /* Revision 2 has an XSDT of 64-bit pointers; tables are below 4 GiB on all that a guest runs on. */
    bool extended = rsdp[15] >= 2 && load32(rsdp + 24) != 0;
    const uint8_t *root = (const uint8_t *)(uintptr_t)load32(rsdp + (extended ? 24 : 16));
    unsigned size = extended ? 8 : 4;

    for (unsigned at = TABLE_HEADER; at + size <= load32(root + 4); at += size) {
        const uint8_t *table = (const uint8_t *)(uintptr_t)load32(root + at);
        if (memcmp(table, signature, 4) == 0)
            return table;
    }
    return NULL;
}

uint16_t pm_timer_port(void)
{
    const uint8_t *fadt = acpi_table("FACP");

    return fadt == NULL ? 0 : (uint16_t)load32(fadt + FADT_PM_TIMER);
}

/* ---- Interrupts counted ------------------------------------------------------------------------------- */

volatile unsigned pc_hits[256];
volatile uint8_t pc_order[64];
volatile unsigned pc_order_count;

static void count(unsigned vector)
{
    pc_hits[vector]++;
    if (pc_order_count < ARRAY_SIZE(pc_order))
        pc_order[pc_order_count++] = (uint8_t)vector;
}

void pc_count_lapic(struct guest_frame *frame)
{
    count((unsigned)frame->vector);
    lapic_write(LAPIC_EOI, 0);
}

void pc_count_pic(struct guest_frame *frame)
{
    count((unsigned)frame->vector);
    pic_eoi((unsigned)frame->vector - PIC_BASE);
}

void pc_hits_clear(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pc_hits); i++)
        pc_hits[i] = 0;
    pc_order_count = 0;
}

bool pc_wait(unsigned vector, unsigned hits, uint64_t ticks)
{
    uint64_t end = rdtsc() + ticks;

    while (pc_hits[vector] < hits && rdtsc() < end)
        take_pending_interrupts();
    return pc_hits[vector] >= hits;
}
