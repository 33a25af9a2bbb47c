// SPDX-License-Identifier: BSD-2-Clause
/*
 * Operations of the local APIC, so that somebody outside can count what exits they cost. Each step waits for
 * a byte on the serial line, repeats its operation ROUNDS times without any other exit, and says so:
 *
 *     STEP name rounds      ready; a byte begins it
 *     END name
 *
 * On the way to a byte and between the lines only ports are touched. Needs two processors; the word `alone`
 * leaves out what needs the second.
 */
#include "lib/printf.h"
#include "tests/guests/lib/smp.h"

#define ROUNDS      1000
#define UART        0x3f8
#define VECTOR_IPI  0x51
#define VECTOR_TIME 0x61

static struct smp_processor *const self = &smp_processors[0];

static void eoi_x2apic(void)
{
    wrmsr(MSR_X2APIC + LAPIC_EOI / 16, 0);
}

static void eoi_xapic(void)
{
    lapic_write(LAPIC_EOI, 0);
}

static void tpr_xapic(void)
{
    lapic_write(LAPIC_TPR, 0x20);
    (void)lapic_read(LAPIC_TPR);
    lapic_write(LAPIC_TPR, 0);
}

static void cr8(void)
{
    write_cr8(2);
    (void)read_cr8();
    write_cr8(0);
}

static void wait_hit(unsigned vector, unsigned before)
{
    while (self->hits[vector] == before)
        take_pending_interrupts();
}

static void self_ipi_xapic(void)
{
    unsigned before = self->hits[VECTOR_IPI];

    lapic_write(LAPIC_ICR_LOW, ICR_SELF | VECTOR_IPI);
    wait_hit(VECTOR_IPI, before);
}

static void timer(void)
{
    unsigned before = self->hits[VECTOR_TIME];

    wrmsr(MSR_TSC_DEADLINE, rdtsc() + 5000);
    wait_hit(VECTOR_TIME, before);
}

/* The other processor takes what comes until it is told to stop. */
static volatile bool stop;

static void serve(void *unused)
{
    (void)unused;
    while (!stop)
        take_pending_interrupts();
}

static void wait_other(unsigned before)
{
    while (smp_processors[1].hits[VECTOR_IPI] == before)
        continue;
}

/* One write: the high half stays. */
static void ipi_xapic(void)
{
    unsigned before = smp_processors[1].hits[VECTOR_IPI];

    lapic_write(LAPIC_ICR_LOW, VECTOR_IPI);
    wait_other(before);
}

static void ipi_x2apic(void)
{
    unsigned before = smp_processors[1].hits[VECTOR_IPI];

    wrmsr(MSR_X2APIC + LAPIC_ICR_LOW / 16, (uint64_t)smp_processors[1].apic_id << 32 | VECTOR_IPI);
    wait_other(before);
}

static void tpr_x2apic(void)
{
    wrmsr(MSR_X2APIC + LAPIC_TPR / 16, 0x20);
    (void)rdmsr(MSR_X2APIC + LAPIC_TPR / 16);
    wrmsr(MSR_X2APIC + LAPIC_TPR / 16, 0);
}

static void self_ipi_x2apic(void)
{
    unsigned before = self->hits[VECTOR_IPI];

    wrmsr(MSR_X2APIC + 0x3f, VECTOR_IPI);
    wait_hit(VECTOR_IPI, before);
}

static const struct {
    const char *name;
    void (*act)(void);
    bool x2apic, two;
} steps[] = {
    {"eoi", eoi_xapic, false, false},
    {"tpr", tpr_xapic, false, false},
    {"cr8", cr8, false, false},
    {"self-ipi", self_ipi_xapic, false, false},
    {"timer", timer, false, false},
    {"ipi", ipi_xapic, false, true},
    {"x2apic-eoi", eoi_x2apic, true, false},
    {"x2apic-tpr", tpr_x2apic, true, false},
    {"x2apic-self-ipi", self_ipi_x2apic, true, false},
    {"x2apic-timer", timer, true, false},
    {"x2apic-ipi", ipi_x2apic, true, true},
};

static void set_x2apic(void *unused)
{
    (void)unused;
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
}

static void count_xapic(struct guest_frame *frame)
{
    smp_processors[smp_self()].hits[frame->vector]++;
    lapic_write(LAPIC_EOI, 0);
}

static void count_x2apic(struct guest_frame *frame)
{
    smp_processors[smp_self()].hits[frame->vector]++;
    wrmsr(MSR_X2APIC + LAPIC_EOI / 16, 0);
}

static void wait_byte(void)
{
    while ((inb(UART + 5) & 1) == 0)
        pause();
    (void)inb(UART);
}

static void run_step(size_t i)
{
    print("STEP %s %u\n", steps[i].name, ROUNDS);
    wait_byte();
    for (unsigned round = 0; round < ROUNDS; round++)
        steps[i].act();
    print("END %s\n", steps[i].name);
}

static void enable(void *unused)
{
    (void)unused;
    lapic_init(false);
}

void guest_main(void)
{
    bool alone = guest_argument("alone"), x2apic = false;

    smp_init();
    lapic_init(false);
    if (!alone && smp_count > 1 && smp_start(1, SMP_PAGE_FIRST))
        smp_run(1, enable, NULL);
    else
        alone = true;
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIME | LVT_DEADLINE);
    lapic_write(LAPIC_ICR_HIGH, smp_processors[1].apic_id << 24);
    guest_handlers[VECTOR_IPI] = count_xapic;
    guest_handlers[VECTOR_TIME] = count_xapic;

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        if (steps[i].two && alone)
            continue;
        if (steps[i].x2apic && !x2apic) {
            x2apic = true;
            smp_run(0, set_x2apic, NULL);
            if (!alone)
                smp_run(1, set_x2apic, NULL);
            guest_handlers[VECTOR_IPI] = count_x2apic;
            guest_handlers[VECTOR_TIME] = count_x2apic;
        }
        stop = false;
        if (steps[i].two)
            smp_call(1, serve, NULL);
        run_step(i);
        stop = true;
        if (steps[i].two)
            smp_join(1);
    }
    /* Somebody may want to count what the last one cost. */
    print("STEP end 0\n");
    wait_byte();
}
