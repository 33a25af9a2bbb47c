// SPDX-License-Identifier: BSD-2-Clause
#include "drivers/lapic.h"

#include "arch/x86/cpu.h"
#include "arch/x86/cpuid.h"
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
    REGISTER_COMMAND = 0x300,
    REGISTER_COMMAND_HIGH = 0x310,
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

#define X2APIC_MSR(reg)         (0x800 + ((reg) >> 4))
#define SPURIOUS_ENABLE         0x100
#define LVT_MASKED              0x10000
#define LVT_NMI                 0x400
#define LVT_TSC_DEADLINE        0x40000
#define DIVIDE_BY_16            0x3
#define POLLS_MAX               10000000
#define MEASURED_COUNTS         2000

/* The interrupt command register (SDM vol. 3, "Issuing interprocessor interrupts"). */
#define COMMAND_FIXED           0x00000
#define COMMAND_NMI             0x00400
#define COMMAND_INIT            0x00500
#define COMMAND_STARTUP         0x00600
#define COMMAND_PENDING         0x01000 /* the last one is not yet on its way; xAPIC mode only */
#define COMMAND_ASSERT          0x04000
#define COMMAND_TARGET_SHIFT    24 /* in the upper half, xAPIC mode */
#define COMMAND_X2_TARGET_SHIFT 32

/* Of all processors, by the first one. */
static volatile uint32_t *page; /* NULL in x2APIC mode */
static uint64_t base_address;
static bool deadline_timer;
static uint64_t tsc_per_count_shifted; /* TSC ticks per timer count, 32.32 fixed point; 0: not measured */

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

/*
 * Whatever firmware left on. LINT1 is the machine's NMI, which is wired to all processors: the first takes it
 * for all.
 */
static void mask_local_sources(bool first)
{
    static const uint16_t sources[] = {REGISTER_LVT_LINT0, REGISTER_LVT_ERROR, REGISTER_LVT_PERFORMANCE,
                                       REGISTER_LVT_THERMAL, REGISTER_LVT_CMCI};
    unsigned entries =
        (read_register(REGISTER_VERSION) >> 16 & 0xff) + 1; /* 4: no performance, 5: no thermal, 6: no CMCI */
    unsigned count = entries >= 7 ? 5 : entries == 6 ? 4 : entries == 5 ? 3 : 2;

    for (unsigned i = 0; i < count; i++)
        write_register(sources[i], LVT_MASKED);
    write_register(REGISTER_LVT_LINT1, first ? LVT_NMI : LVT_MASKED);
}

/* An interrupt that firmware took and never ended would hold back all of its class and below. */
static void end_left_interrupts(void)
{
    for (unsigned i = 0; i < 8; i++)
        for (uint32_t left = read_register(REGISTER_IN_SERVICE + i * 0x10); left != 0; left &= left - 1)
            lapic_end_of_interrupt();
}

/*
 * The way from any mode to the chosen one, by the transitions that there are (SDM vol. 3, "x2APIC state
 * transitions"): from x2APIC mode back to xAPIC mode only by way of disabled, and from disabled to x2APIC
 * mode only by way of xAPIC mode.
 */
static void enter_mode(void)
{
    uint64_t own = cpu_rdmsr(MSR_IA32_APIC_BASE);
    uint64_t wanted = (own & APIC_BASE_BSP) | base_address | APIC_BASE_ENABLE;

    if (page != NULL && (own & APIC_BASE_X2APIC) != 0)
        cpu_wrmsr(MSR_IA32_APIC_BASE, wanted & ~APIC_BASE_ENABLE);
    if (page != NULL || (own & APIC_BASE_ENABLE) == 0)
        cpu_wrmsr(MSR_IA32_APIC_BASE, wanted);
    if (page == NULL && (own & APIC_BASE_X2APIC) == 0)
        cpu_wrmsr(MSR_IA32_APIC_BASE, wanted | APIC_BASE_X2APIC);
}

void lapic_choose_mode(bool large_ids)
{
    uint64_t base = cpu_rdmsr(MSR_IA32_APIC_BASE);
    uint32_t features = cpu_cpuid(1, 0).ecx;

    base_address = base & APIC_BASE_ADDRESS;
    deadline_timer = (features & CPUID_1_ECX_TSC_DEADLINE) != 0;
    if ((base & APIC_BASE_X2APIC) == 0 && !(large_ids && (features & CPUID_1_ECX_X2APIC) != 0))
        page = address_space_map_device(HPA(base_address), PAGE_SIZE);
    enter_mode();
}

void lapic_enable(void)
{
    enter_mode();
    mask_local_sources((cpu_rdmsr(MSR_IA32_APIC_BASE) & APIC_BASE_BSP) != 0);
    write_register(REGISTER_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
    write_register(REGISTER_TASK_PRIORITY, 0);
    end_left_interrupts();

    write_register(REGISTER_DIVIDE, DIVIDE_BY_16);
    if (deadline_timer) {
        write_register(REGISTER_LVT_TIMER, LVT_TSC_DEADLINE | VECTOR_TIMER);
        cpu_fence(); /* the mode comes before the first deadline (SDM vol. 3, "TSC-deadline mode") */
    } else if (tsc_per_count_shifted == 0) {
        measure_timer();
    }
}

uint32_t lapic_id(void)
{
    return page == NULL ? read_register(REGISTER_ID) : read_register(REGISTER_ID) >> 24;
}

bool lapic_reaches(uint32_t apic_id)
{
    return page == NULL || apic_id <= LAPIC_XAPIC_ID_MAX;
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

static void send(uint32_t apic_id, uint32_t command)
{
    if (page == NULL) {
        cpu_fence(); /* this WRMSR does not wait for writes to memory */
        cpu_wrmsr(X2APIC_MSR(REGISTER_COMMAND), (uint64_t)apic_id << COMMAND_X2_TARGET_SHIFT | command);
        return;
    }
    write_register(REGISTER_COMMAND_HIGH, apic_id << COMMAND_TARGET_SHIFT);
    write_register(REGISTER_COMMAND, command);
    for (unsigned polls = 0; polls < POLLS_MAX; polls++)
        if ((read_register(REGISTER_COMMAND) & COMMAND_PENDING) == 0)
            return;
}

void lapic_send_vector(uint32_t apic_id, uint8_t vector)
{
    send(apic_id, COMMAND_ASSERT | COMMAND_FIXED | vector);
}

void lapic_send_nmi(uint32_t apic_id)
{
    send(apic_id, COMMAND_ASSERT | COMMAND_NMI);
}

void lapic_send_init(uint32_t apic_id)
{
    send(apic_id, COMMAND_ASSERT | COMMAND_INIT);
}

void lapic_send_startup(uint32_t apic_id, hpa_t code)
{
    send(apic_id, COMMAND_ASSERT | COMMAND_STARTUP | (uint32_t)(code.value >> PAGE_SHIFT));
}
