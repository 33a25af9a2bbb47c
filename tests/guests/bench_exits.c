// SPDX-License-Identifier: BSD-2-Clause
/*
 * What operations cost that a hypervisor may have to do for its guest. On a bare processor the same rows are
 * the cost without exits; what such a processor lacks is left out there.
 */
#include "tests/guests/lib/bench.h"
#include "tests/guests/lib/pc.h"

#define SAMPLES        2000
#define HALTS          1000
#define UART_LSR       0x3fd
#define VECTOR_IT      0x61
#define AHEAD          50000       /* ticks from setting a deadline to it: a halt fits in */
#define NO_HYPERCALL   0x7fffffffU /* a number that no hypervisor knows */
#define ECX_DEADLINE   BIT(24)     /* CPUID 1 */
#define ECX_HYPERVISOR BIT(31)
#define FILLED_FROM    (GUEST_PLAYGROUND + GUEST_PLAYGROUND_SIZE)

static void nothing(void)
{
}

static void do_cpuid(void)
{
    (void)cpuid(0, 0);
}

static void do_vmcall(void)
{
    uint64_t number = NO_HYPERCALL;

    __asm__ volatile("vmcall" : "+a"(number) : : "memory");
}

/* The UART: a device of the machine's monitor, or of a program beside it. */
static void do_port_read(void)
{
    (void)inb(UART_LSR);
}

/* The 8259: where hypervisors have an interrupt controller of their own. */
static void do_pic_read(void)
{
    (void)inb(PIC_MASTER + 1);
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

/* Nothing is in service. */
static void do_eoi(void)
{
    lapic_write(LAPIC_EOI, 0);
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
    invlpg(bench_samples);
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

/* `ecx`: what CPUID 1 must say in ECX. */
static const struct {
    const char *name;
    void (*act)(void);
    uint32_t ecx;
} acts[] = {
    {"cpuid", do_cpuid, 0},
    {"vmcall", do_vmcall, ECX_HYPERVISOR},
    {"port-read", do_port_read, 0},
    {"pic-read", do_pic_read, 0},
    {"rdmsr", do_rdmsr, 0},
    {"wrmsr", do_wrmsr, ECX_DEADLINE},
    {"ioapic-read", do_ioapic_read, 0},
    {"tpr-write", do_tpr_write, 0},
    {"eoi", do_eoi, 0},
    {"cr8", do_cr8, 0},
    {"cr0-ts", do_ts, 0},
    {"cr0-wp", do_wp, 0},
    {"cr4-pge", do_pge, 0},
    {"cr3", do_cr3, 0},
    {"invlpg", do_invlpg, 0},
    {"self-ipi", do_self_ipi, 0},
    {"tsc-deadline", do_deadline, ECX_DEADLINE},
};

/* What is measured; the compiler is not to know it. */
static void (*volatile act)(void) = nothing;

static void run_act(unsigned n, unsigned m)
{
    void (*call)(void) = act;

    (void)m;
    bench_taken = 0;
    for (unsigned i = 0; i < n; i++) {
        bench_sample_begin();
        call();
        bench_sample_end();
    }
}

/* ---- A halt, ended by the timer -------------------------------------------------------------------------
 */

static volatile uint64_t woken;

static void on_wake(struct guest_frame *frame)
{
    woken = rdtsc();
    pc_count_lapic(frame);
}

/* A sample is what passes from the deadline to the handler. */
static void run_halt(unsigned n, unsigned m)
{
    (void)m;
    bench_taken = 0;
    guest_handlers[VECTOR_IT] = on_wake;
    for (unsigned i = 0; i < n; i++) {
        uint64_t deadline = rdtsc() + AHEAD;
        woken = 0;
        wrmsr(MSR_TSC_DEADLINE, deadline);
        while (woken == 0)
            sti_hlt_cli();
        bench_samples[bench_taken++] = woken - deadline;
    }
}

/* ---- Memory that nobody has touched yet -----------------------------------------------------------------
 */

static void prepare_nothing(unsigned n, unsigned m)
{
    (void)n;
    (void)m;
}

static void run_first_touch(unsigned n, unsigned m)
{
    (void)m;
    for (unsigned i = 0; i < n; i++) {
        volatile uint8_t *page = (volatile uint8_t *)(FILLED_FROM + i * MIB(2));
        bench_sample_begin();
        *page = 1;
        bench_sample_end();
    }
}

static void first_touch(void)
{
    uint64_t end = MIB(1) + guest_memory_size(), pages = 0;

    if (end > FILLED_FROM)
        pages = min_u64((end - FILLED_FROM) / MIB(2), BENCH_SAMPLES);
    if (pages == 0)
        return;
    struct bench_phase phase = {"first-touch-2m", (unsigned)pages, (unsigned)pages, 0,
                                prepare_nothing,  run_first_touch};
    bench_run(&phase, bench_overhead());
}

void guest_main(void)
{
    uint32_t ecx = cpuid(1, 0).ecx;

    bench_init();
    lapic_write(LAPIC_LVT_TIMER, VECTOR_IT | LVT_DEADLINE);
    guest_handlers[VECTOR_IT] = pc_count_lapic;

    run_act(SAMPLES, 0);
    uint64_t overhead = bench_least();
    first_touch();
    for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
        struct bench_phase phase = {acts[i].name, SAMPLES, SAMPLES, 0, run_act, run_act};
        if ((ecx & acts[i].ecx) != acts[i].ecx)
            continue;
        act = acts[i].act; /* the first time, in preparation, is cold */
        bench_run(&phase, overhead);
    }
    write_cr0(read_cr0() & ~(CR0_TS | CR0_WP));
    if ((ecx & ECX_DEADLINE) != 0) {
        static const struct bench_phase halt = {"halt", HALTS, HALTS, 0, run_halt, run_halt};
        bench_run(&halt, 0);
    }
    bench_end();
}
