// SPDX-License-Identifier: BSD-2-Clause
/*
 * What one operation costs, in ticks of the TSC: the difference of two RDTSCs around it, less that of two
 * around nothing. On a bare processor the same rows are the cost without exits.
 */
#include "lib/printf.h"
#include "tests/guests/lib/pc.h"

#define SAMPLES   2000
#define UART_LSR  0x3fd
#define VECTOR_IT 0x61

static uint64_t samples[SAMPLES];

static void nothing(void)
{
}

static void do_cpuid(void)
{
    (void)cpuid(0, 0);
}

static void do_port_read(void)
{
    (void)inb(UART_LSR);
}

/* IA32_APIC_BASE: emulated wherever the local APIC is virtual. */
static void do_rdmsr(void)
{
    (void)rdmsr(MSR_APIC_BASE);
}

/* IA32_TSC_DEADLINE, disarmed. */
static void do_wrmsr(void)
{
    wrmsr(MSR_TSC_DEADLINE, 0);
}

static void do_ioapic_read(void)
{
    (void)*(volatile uint32_t *)(IOAPIC_BASE + 0x10);
}

static void do_tpr_write(void)
{
    lapic_write(LAPIC_TPR, 0);
}

static void do_cr8(void)
{
    write_cr8(read_cr8());
}

static void do_ts(void)
{
    write_cr0(read_cr0() ^ CR0_TS);
}

static void do_wp(void)
{
    write_cr0(read_cr0() ^ CR0_WP);
}

static void do_pge(void)
{
    write_cr4(read_cr4() ^ CR4_PGE);
}

static void do_cr3(void)
{
    write_cr3(read_cr3());
}

static void do_invlpg(void)
{
    invlpg(samples);
}

static void do_self_ipi(void)
{
    unsigned before = pc_hits[VECTOR_IT];

    lapic_write(LAPIC_ICR_LOW, ICR_SELF | VECTOR_IT);
    while (pc_hits[VECTOR_IT] == before)
        take_pending_interrupts();
}

static void do_deadline(void)
{
    unsigned before = pc_hits[VECTOR_IT];

    wrmsr(MSR_TSC_DEADLINE, rdtsc() - 1);
    while (pc_hits[VECTOR_IT] == before)
        take_pending_interrupts();
}

static const struct {
    const char *name;
    void (*act)(void);
} acts[] = {
    {"cpuid", do_cpuid},
    {"port-read", do_port_read},
    {"rdmsr", do_rdmsr},
    {"wrmsr", do_wrmsr},
    {"ioapic-read", do_ioapic_read},
    {"tpr-write", do_tpr_write},
    {"cr8", do_cr8},
    {"cr0-ts", do_ts},
    {"cr0-wp", do_wp},
    {"cr4-pge", do_pge},
    {"cr3", do_cr3},
    {"invlpg", do_invlpg},
    {"self-ipi", do_self_ipi},
    {"tsc-deadline", do_deadline},
};

static void measure(void (*volatile act)(void))
{
    void (*call)(void) = act;

    for (unsigned i = 0; i < SAMPLES; i++) {
        uint64_t start = rdtsc();
        call();
        samples[i] = rdtsc() - start;
    }
}

static uint64_t least(void)
{
    uint64_t value = samples[0];

    for (unsigned i = 1; i < SAMPLES; i++)
        value = min_u64(value, samples[i]);
    return value;
}

void guest_main(void)
{
    lapic_init(false);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_IT | LVT_DEADLINE);
    guest_handlers[VECTOR_IT] = pc_count_lapic;

    measure(nothing);
    uint64_t overhead = least();
    for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
        measure(acts[i].act);
        measure(acts[i].act); /* the second time nothing is cold */
        while ((inb(UART_LSR) & 0x40) == 0)
            pause();
        guest_bench(acts[i].name, samples, SAMPLES, overhead);
    }
    write_cr0(read_cr0() & ~(CR0_TS | CR0_WP));
}
