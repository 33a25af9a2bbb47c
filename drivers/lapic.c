// SPDX-License-Identifier: BSD-2-Clause
#include "drivers/lapic.h"

#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "lib/panic.h"
#include "mm/address_space.h"
#include "mm/physmap.h"

enum {
    REGISTER_ID = 0x020,
    REGISTER_TASK_PRIORITY = 0x080,
    REGISTER_EOI = 0x0b0,
    REGISTER_SPURIOUS = 0x0f0,
    REGISTER_VERSION = 0x030,
    REGISTER_IN_SERVICE = 0x100,
    REGISTER_LVT_CMCI = 0x2f0,
    REGISTER_LVT_TIMER = 0x320,
    REGISTER_LVT_THERMAL = 0x330,
    REGISTER_LVT_PERFORMANCE = 0x340,
    REGISTER_LVT_LINT0 = 0x350,
    REGISTER_LVT_LINT1 = 0x360,
    REGISTER_LVT_ERROR = 0x370,
    REGISTER_INITIAL_COUNT = 0x380,
    REGISTER_CURRENT_COUNT = 0x390,
    REGISTER_DIVIDE = 0x3e0,
};

#define X2APIC_MSR(reg)      (0x800 + ((reg) >> 4))
#define SPURIOUS_ENABLE      0x100
#define LVT_MASKED           0x10000
#define LVT_NMI              0x400
#define LVT_TSC_DEADLINE     0x40000
#define DIVIDE_BY_16         0x3
#define CPUID_1_ECX_DEADLINE BIT(24)
#define POLLS_MAX            10000000
#define MEASURED_COUNTS      2000

static volatile uint32_t *page; /* NULL in x2APIC mode */
static bool deadline_timer;
static uint64_t tsc_per_count_shifted; /* TSC ticks per timer count, 32.32 fixed point */

static uint32_t read_register(unsigned number)
{
    return page == NULL ? (uint32_t)cpu_rdmsr(X2APIC_MSR(number)) : page[number / 4];
}

static void write_register(unsigned number, uint32_t value)
{
    if (page == NULL)
        cpu_wrmsr(X2APIC_MSR(number), value);
    else
        page[number / 4] = value;
}

static void measure_timer(void)
{
    write_register(REGISTER_DIVIDE, DIVIDE_BY_16);
    write_register(REGISTER_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    write_register(REGISTER_INITIAL_COUNT, UINT32_MAX);

    uint64_t start = cpu_rdtsc();
    uint32_t passed;
    unsigned polls = 0;
    do
        passed = UINT32_MAX - read_register(REGISTER_CURRENT_COUNT);
    while (passed < MEASURED_COUNTS && polls++ < POLLS_MAX);
    if (passed < MEASURED_COUNTS)
        panic("the local APIC's timer does not count");

    tsc_per_count_shifted = ((cpu_rdtsc() - start) << 32) / passed;
    write_register(REGISTER_INITIAL_COUNT, 0);
}

/* Whatever firmware left on, but for LINT1, which is the machine's NMI. */
static void mask_local_sources(void)
{
    static const uint16_t sources[] = {REGISTER_LVT_LINT0, REGISTER_LVT_ERROR, REGISTER_LVT_PERFORMANCE,
                                       REGISTER_LVT_THERMAL, REGISTER_LVT_CMCI};
    unsigned entries =
        (read_register(REGISTER_VERSION) >> 16 & 0xff) + 1; /* 4: no performance, 5: no thermal, 6: no CMCI */
    unsigned count = entries >= 7 ? 5 : entries == 6 ? 4 : entries == 5 ? 3 : 2;

    for (unsigned i = 0; i < count; i++)
        write_register(sources[i], LVT_MASKED);
}

/* An interrupt that firmware took and never ended would hold back all of its class and below. */
static void end_left_interrupts(void)
{
    for (unsigned vector = 0; vector < 256; vector++)
        if (read_register(REGISTER_IN_SERVICE + vector / 32 * 0x10) >> (vector % 32) & 1)
            lapic_end_of_interrupt();
}

void lapic_enable(void)
{
    uint64_t base = cpu_rdmsr(MSR_IA32_APIC_BASE);

    if ((base & APIC_BASE_ENABLE) == 0) {
        base |= APIC_BASE_ENABLE;
        cpu_wrmsr(MSR_IA32_APIC_BASE, base);
    }
    if ((base & APIC_BASE_X2APIC) == 0)
        page = address_space_map_device(HPA(base & APIC_BASE_ADDRESS), PAGE_SIZE);

    mask_local_sources();
    write_register(REGISTER_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
    write_register(REGISTER_TASK_PRIORITY, 0);
    write_register(REGISTER_LVT_LINT1, LVT_NMI);
    end_left_interrupts();

    deadline_timer = (cpu_cpuid(1, 0).ecx & CPUID_1_ECX_DEADLINE) != 0;
    if (deadline_timer)
        write_register(REGISTER_LVT_TIMER, LVT_TSC_DEADLINE | VECTOR_TIMER);
    else
        measure_timer();
}

uint32_t lapic_id(void)
{
    return page == NULL ? read_register(REGISTER_ID) : read_register(REGISTER_ID) >> 24;
}

void lapic_end_of_interrupt(void)
{
    write_register(REGISTER_EOI, 0);
}

void lapic_timer_arm(uint64_t tsc)
{
    if (deadline_timer) {
        cpu_wrmsr(MSR_IA32_TSC_DEADLINE, tsc == UINT64_MAX ? 0 : tsc);
        return;
    }

    uint32_t count = 0;
    if (tsc != UINT64_MAX) {
        uint64_t now = cpu_rdtsc();
        uint64_t wait = tsc > now ? min_u64(tsc - now, UINT32_MAX) : 0;
        uint64_t counts = (wait << 32) / tsc_per_count_shifted + 1; /* not before its time */
        count = (uint32_t)min_u64(max_u64(counts, 1), UINT32_MAX);
    }
    write_register(REGISTER_LVT_TIMER, VECTOR_TIMER | (count == 0 ? LVT_MASKED : 0));
    write_register(REGISTER_INITIAL_COUNT, count);
}
