// SPDX-License-Identifier: BSD-2-Clause
/*
 * The clocks of a PC, each against the others. All are measured in ticks of the TSC, so a row fails if two of
 * them disagree by more than it says, on any machine; rates that a machine may choose are rows that may
 * differ.
 */
#include "lib/printf.h"
#include "tests/guests/lib/pc.h"

#define VECTOR_TIMER 0x61
#define VECTOR_PIT   (PIC_BASE + 0)
#define VECTOR_RTC   (PIC_BASE + 8)

static uint64_t tsc_hz; /* by the PIT's second counter */

static bool within(uint64_t seen, uint64_t expected, unsigned percent)
{
    return seen * 100 >= expected * (100 - percent) && seen * 100 <= expected * (100 + percent);
}

static void check_within(const char *name, uint64_t seen, uint64_t expected, unsigned percent)
{
    guest_check(within(seen, expected, percent), name, "%lu, not %lu by %u %%", seen, expected, percent);
}

/* Ticks of the TSC until channel 2, mode 0, has counted `count` down and its output rises. */
static uint64_t pit_one_shot(uint16_t count)
{
    outb(0x61, PIT_GATE2);
    pit_program(2, 0, count);
    uint64_t start = rdtsc();
    while ((inb(0x61) & PIT_OUT2) == 0 && rdtsc() - start < 10000000000UL)
        pause();
    return rdtsc() - start;
}

/* ---- PIT ---------------------------------------------------------------------------------------------- */

static void pit_rows(void)
{
    tsc_hz = pit_one_shot(59659) * 20; /* 50 ms */
    guest_value("tsc-mhz-rounded-to-10", (tsc_hz / 1000000 + 5) / 10 * 10);
    check_within("pit-one-shot-scales", pit_one_shot(11932) * 5, pit_one_shot(59659), 2);

    pit_program(2, 0, 50000);
    CHECK("pit-mode-0-output-low", (inb(0x61) & PIT_OUT2) == 0);
    uint16_t first = pit_read(2), second = pit_read(2);
    CHECK("pit-counts-down", second <= first && first <= 50000 && second > 40000);
    outb(0x61, 0);
    first = pit_read(2);
    for (unsigned i = 0; i < 1000; i++)
        (void)inb(0x61);
    guest_equal("pit-gate-stops", pit_read(2), first);
    outb(0x61, PIT_GATE2);
    for (unsigned i = 0; i < 1000; i++)
        (void)inb(0x61);
    CHECK("pit-gate-goes-on", pit_read(2) < first);

    /* The read-back command: status of channel 2, then its count (8254 data sheet). */
    outb(0x43, 0xc0 | 2 << 2 | 0);
    outb(0x43, 0xc0 | BIT(5) | 2 << 2); /* status only */
    (void)inb(0x42);
    pit_program(2, 3, 0x1234);
    outb(0x43, 0xe8);
    guest_equal("pit-status-mode-3", inb(0x42) & 0x3f, 0x36);
    pit_program(2, 2, 1000);
    outb(0x43, 0xe8);
    guest_equal("pit-status-mode-2", inb(0x42) & 0x3f, 0x34);
    bool inside = true;
    for (unsigned i = 0; i < 1000; i++) {
        uint16_t count = pit_read(2);
        inside &= count >= 1 && count <= 1000;
    }
    CHECK("pit-mode-2-reloads", inside);
    outb(0x43, 0x80 | 0x10); /* channel 2, low byte only, mode 0 */
    outb(0x42, 200);
    CHECK("pit-low-byte-only", inb(0x42) <= 200);
    outb(0x61, 0);
}

static void pit_interrupt_rows(void)
{
    guest_handlers[VECTOR_PIT] = pc_count_pic;
    pic_init(PIC_ALL);
    lapic_init(true);
    for (unsigned mode = 2; mode <= 3; mode++) {
        char name[32];

        pc_hits_clear();
        pit_program(0, mode, PIT_HZ / 1000);
        pic_mask(PIC_ALL & ~1);
        (void)pc_wait(VECTOR_PIT, 1, tsc_hz);
        uint64_t start = rdtsc();
        bool came = pc_wait(VECTOR_PIT, 21, tsc_hz);
        uint64_t ticks = rdtsc() - start;
        pic_mask(PIC_ALL);
        format_text(name, sizeof(name), "pit-irq-mode-%u", mode);
        CHECK(name, came);
        format_text(name, sizeof(name), "pit-irq-mode-%u-rate", mode);
        check_within(name, ticks, tsc_hz / 50, 5);
    }

    pit_program(0, 0, PIT_HZ / 1000);
    pic_init(PIC_ALL & ~1);
    pc_hits_clear();
    CHECK("pit-mode-0-irq", pc_wait(VECTOR_PIT, 1, tsc_hz));
    CHECK("pit-mode-0-irq-once", !pc_wait(VECTOR_PIT, 2, tsc_hz / 100));
    pic_mask(PIC_ALL);
}

/* ---- PM timer ----------------------------------------------------------------------------------------- */

static void pm_rows(void)
{
    uint16_t port = pm_timer_port();

    CHECK("pm-timer-in-fadt", port != 0);
    if (port == 0)
        return;
    guest_equal("pm-timer-24-bits", inl(port) >> 24, 0);
    bool rising = true;
    uint32_t last = inl(port);
    for (unsigned i = 0; i < 1000; i++) {
        uint32_t now = inl(port);
        rising &= ((now - last) & 0xffffff) < 0x10000;
        last = now;
    }
    CHECK("pm-timer-rises", rising);
    uint32_t start = inl(port);
    uint64_t tsc = rdtsc();
    while (((inl(port) - start) & 0xffffff) < PM_TIMER_HZ / 20)
        pause();
    check_within("pm-timer-by-pit", (rdtsc() - tsc) * 20, tsc_hz, 1);
}

/* ---- RTC ---------------------------------------------------------------------------------------------- */

#define RTC_A   10
#define RTC_B   11
#define RTC_C   12
#define RTC_D   13
#define RTC_PIE BIT(6)
#define RTC_UIE BIT(4)
#define RTC_24H BIT(1)

static void count_rtc(struct guest_frame *frame)
{
    (void)cmos_read(RTC_C);
    pc_count_pic(frame);
}

static unsigned from_bcd(uint8_t value)
{
    return (value >> 4) * 10U + (value & 15);
}

static void rtc_rows(void)
{
    guest_equal("rtc-b-at-start", cmos_read(RTC_B) & ~0x20, RTC_24H);
    guest_equal("rtc-a", cmos_read(RTC_A) & 0x7f, 0x26);
    CHECK("rtc-d-valid", (cmos_read(RTC_D) & 0x80) != 0);
    CHECK("rtc-date-sane", from_bcd(cmos_read(0)) < 60 && from_bcd(cmos_read(2)) < 60 &&
                               from_bcd(cmos_read(4)) < 24 && from_bcd(cmos_read(7)) >= 1 &&
                               from_bcd(cmos_read(7)) <= 31 && from_bcd(cmos_read(8)) >= 1 &&
                               from_bcd(cmos_read(8)) <= 12);

    guest_handlers[VECTOR_RTC] = count_rtc;
    pic_init(PIC_ALL & ~(1 << 8 | 1 << 2));
    pc_hits_clear();
    (void)cmos_read(RTC_C);
    cmos_write(RTC_B, RTC_24H | RTC_PIE);
    (void)pc_wait(VECTOR_RTC, 1, tsc_hz);
    uint64_t start = rdtsc();
    bool came = pc_wait(VECTOR_RTC, 65, tsc_hz);
    uint64_t ticks = rdtsc() - start;
    cmos_write(RTC_B, RTC_24H);
    CHECK("rtc-periodic", came);
    check_within("rtc-periodic-1024-hz", ticks, tsc_hz / 16, 5);

    (void)cmos_read(RTC_C);
    pc_hits_clear();
    CHECK("rtc-disabled-is-quiet", !pc_wait(VECTOR_RTC, 1, tsc_hz / 100));
    cmos_write(RTC_B, RTC_24H | RTC_UIE);
    (void)pc_wait(VECTOR_RTC, 1, 2 * tsc_hz);
    uint8_t second = cmos_read(0);
    start = rdtsc();
    came = pc_wait(VECTOR_RTC, 2, 2 * tsc_hz);
    ticks = rdtsc() - start;
    cmos_write(RTC_B, RTC_24H);
    CHECK("rtc-update", came);
    check_within("rtc-update-1-second", ticks, tsc_hz, 2);
    guest_equal("rtc-second-advances", from_bcd(cmos_read(0)), (from_bcd(second) + 1) % 60);
    pic_mask(PIC_ALL);

    for (unsigned i = 0; i < 4; i++) {
        uint8_t reg = (uint8_t)(0x50 + i), before = cmos_read(reg);
        char name[32];
        cmos_write(reg, (uint8_t)(0xa5 + i));
        format_text(name, sizeof(name), "cmos-%02x", reg);
        guest_equal(name, cmos_read(reg), 0xa5U + i);
        cmos_write(reg, before);
    }
}

/* ---- Local APIC timer --------------------------------------------------------------------------------- */

static const struct {
    uint32_t code;
    unsigned by;
} divisors[] = {{0xb, 1}, {0x0, 2}, {0x1, 4}, {0x2, 8}, {0x3, 16}, {0x8, 32}, {0x9, 64}, {0xa, 128}};

static void apic_rows(void)
{
    char name[48];

    lapic_init(false);
    guest_handlers[VECTOR_TIMER] = pc_count_lapic;
    guest_equal("apic-timer-at-start", lapic_read(LAPIC_TIMER_CCR), 0);

    lapic_write(LAPIC_TIMER_DCR, DIVIDE_BY_1);
    lapic_write(LAPIC_TIMER_ICR, 0xffffffff);
    uint32_t count = lapic_read(LAPIC_TIMER_CCR);
    uint64_t start = rdtsc();
    while (rdtsc() - start < tsc_hz / 50)
        pause();
    uint64_t apic_hz = (uint64_t)(count - lapic_read(LAPIC_TIMER_CCR)) * 50;
    guest_differs("apic-timer-mhz", (apic_hz + 500000) / 1000000);
    for (size_t i = 0; i < ARRAY_SIZE(divisors); i++) {
        lapic_write(LAPIC_TIMER_DCR, divisors[i].code);
        lapic_write(LAPIC_TIMER_ICR, 0xffffffff);
        count = lapic_read(LAPIC_TIMER_CCR);
        start = rdtsc();
        while (rdtsc() - start < tsc_hz / 200)
            pause();
        uint64_t counted = count - lapic_read(LAPIC_TIMER_CCR);
        format_text(name, sizeof(name), "apic-timer-divide-%u", divisors[i].by);
        check_within(name, counted * divisors[i].by, apic_hz / 200, 3);
    }
    lapic_write(LAPIC_TIMER_ICR, 0);
    guest_equal("apic-timer-stopped", lapic_read(LAPIC_TIMER_CCR), 0);

    uint32_t ms = (uint32_t)(apic_hz / 1000);
    lapic_write(LAPIC_TIMER_DCR, DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    pc_hits_clear();
    start = rdtsc();
    lapic_write(LAPIC_TIMER_ICR, ms * 5);
    bool came = pc_wait(VECTOR_TIMER, 1, tsc_hz);
    uint64_t ticks = rdtsc() - start;
    CHECK("apic-one-shot", came);
    check_within("apic-one-shot-time", ticks, tsc_hz / 200, 5);
    guest_equal("apic-one-shot-count", lapic_read(LAPIC_TIMER_CCR), 0);
    CHECK("apic-one-shot-once", !pc_wait(VECTOR_TIMER, 2, tsc_hz / 50));
    guest_equal("apic-initial-count-kept", lapic_read(LAPIC_TIMER_ICR), ms * 5);

    pc_hits_clear();
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_PERIODIC);
    start = rdtsc();
    lapic_write(LAPIC_TIMER_ICR, ms);
    came = pc_wait(VECTOR_TIMER, 20, tsc_hz);
    ticks = rdtsc() - start;
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_PERIODIC | LVT_MASKED);
    take_pending_interrupts();
    pc_hits_clear();
    CHECK("apic-periodic", came);
    check_within("apic-periodic-rate", ticks, tsc_hz / 50, 5);
    CHECK("apic-masked", !pc_wait(VECTOR_TIMER, 1, tsc_hz / 50));
    CHECK("apic-masked-counts-on", lapic_read(LAPIC_TIMER_CCR) != 0 || lapic_read(LAPIC_TIMER_CCR) != 0);
    lapic_write(LAPIC_TIMER_ICR, 0);

    /* A halted processor wakes. */
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    pc_hits_clear();
    start = rdtsc();
    lapic_write(LAPIC_TIMER_ICR, ms * 5);
    while (pc_hits[VECTOR_TIMER] == 0)
        sti_hlt_cli();
    ticks = rdtsc() - start;
    check_within("apic-wakes-from-hlt", ticks, tsc_hz / 200, 5);
}

static void deadline_rows(void)
{
    if ((cpuid(1, 0).ecx & BIT(24)) == 0)
        return;
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_DEADLINE);
    __asm__ volatile("mfence");
    pc_hits_clear();

    uint64_t deadline = rdtsc() + tsc_hz / 200;
    wrmsr(MSR_TSC_DEADLINE, deadline);
    guest_equal("deadline-readback", rdmsr(MSR_TSC_DEADLINE), deadline);
    deadline = rdtsc() + tsc_hz / 200;
    wrmsr(MSR_TSC_DEADLINE, deadline);
    bool early = pc_wait(VECTOR_TIMER, 1, tsc_hz / 1000);
    bool came = pc_wait(VECTOR_TIMER, 1, tsc_hz);
    uint64_t now = rdtsc();
    CHECK("deadline-not-early", !early);
    CHECK("deadline-comes", came);
    CHECK("deadline-not-before", now >= deadline);
    check_within("deadline-time", now - deadline + tsc_hz / 200, tsc_hz / 200, 5);
    guest_differs("deadline-armed-after", rdmsr(MSR_TSC_DEADLINE) != 0);
    CHECK("deadline-once", !pc_wait(VECTOR_TIMER, 2, tsc_hz / 100));

    pc_hits_clear();
    wrmsr(MSR_TSC_DEADLINE, rdtsc() - 1);
    CHECK("deadline-past-comes-at-once", pc_wait(VECTOR_TIMER, 1, tsc_hz / 100));

    pc_hits_clear();
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + tsc_hz / 200);
    wrmsr(MSR_TSC_DEADLINE, 0);
    CHECK("deadline-disarmed", !pc_wait(VECTOR_TIMER, 1, tsc_hz / 50));
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + tsc_hz / 200);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + tsc_hz / 100);
    CHECK("deadline-moved", !pc_wait(VECTOR_TIMER, 1, tsc_hz / 150));
    CHECK("deadline-moved-comes", pc_wait(VECTOR_TIMER, 1, tsc_hz / 20));

    lapic_write(LAPIC_TIMER_ICR, 1000);
    guest_equal("deadline-mode-ignores-count", lapic_read(LAPIC_TIMER_CCR), 0);
    pc_hits_clear();
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + tsc_hz / 200);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    CHECK("deadline-mode-change-disarms", !pc_wait(VECTOR_TIMER, 1, tsc_hz / 50));
    guest_equal("deadline-zero-in-other-mode", rdmsr(MSR_TSC_DEADLINE), 0);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + tsc_hz / 200);
    guest_equal("deadline-write-ignored-in-other-mode", rdmsr(MSR_TSC_DEADLINE), 0);

    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_DEADLINE);
    __asm__ volatile("mfence");
    pc_hits_clear();
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + tsc_hz / 500);
    while (pc_hits[VECTOR_TIMER] == 0)
        sti_hlt_cli();
    guest_equal("deadline-wakes-from-hlt", pc_hits[VECTOR_TIMER], 1);
}

static void tsc_rows(void)
{
    bool rising = true;
    uint64_t last = rdtsc();

    for (unsigned i = 0; i < 10000; i++) {
        uint64_t now = rdtsc();
        rising &= now > last;
        last = now;
    }
    CHECK("tsc-rises", rising);
    /* SDM vol. 2, CPUID leaf 15H: if it names the TSC's rate, that is the rate. The emulator's does not tell
     * the truth. */
    struct cpuid rate = cpuid(0x15, 0);
    CHECK("cpuid-15h-is-the-truth",
          !guest_under_umbra() ||
              (rate.eax != 0 && within((uint64_t)rate.ecx * rate.ebx / rate.eax, tsc_hz, 1)));
}

void guest_main(void)
{
    pit_rows();
    pm_rows();
    pit_interrupt_rows();
    rtc_rows();
    apic_rows();
    deadline_rows();
    tsc_rows();
}
