// SPDX-License-Identifier: BSD-2-Clause
/* core/vdev/platform.c: who is wired to whom. The devices have tests of their own; here they only have to
 * meet. */
#include "core/vdev/platform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/fake_host.h"

#define TSC_HZ  1000000000ULL
#define START   1700000000
#define VCPUS   3
#define IOAPIC  0xfec00000ULL
#define LAPIC   0xfee00000ULL
#define PENDING PLATFORM_INTERRUPT_EXTERNAL

static struct fake_host fake;
static struct platform platform;
static void *pages[VCPUS];

static void power_on(bool console)
{
    const struct platform_settings settings = {
        .vcpus = VCPUS,
        .memory_low = MIB(256),
        .wall_clock = START,
        .console_uart = console,
        .lapic_timer_hz = TSC_HZ,
        .physical_address_bits = 39,
    };

    fake_host_init(&fake, TSC_HZ);
    platform_init(&platform, &fake.host, &settings, pages);
}

static int set_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VCPUS; i++) {
        pages[i] = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
        memset(pages[i], 0, PAGE_SIZE);
    }
    power_on(true);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VCPUS; i++)
        free(pages[i]);
    return 0;
}

/* The owner of vCPU `vcpu` receives and looks; or takes. */
static int pending_at(unsigned vcpu)
{
    platform_receive(&platform, vcpu);
    return platform_interrupt_pending(&platform, vcpu);
}

static int take_at(unsigned vcpu)
{
    platform_receive(&platform, vcpu);
    return platform_interrupt_take(&platform, vcpu);
}

static void out(uint16_t port, uint8_t value)
{
    platform_port_write(&platform, port, 1, value);
}

static uint8_t in(uint16_t port)
{
    return (uint8_t)platform_port_read(&platform, port, 1);
}

static uint32_t read32(unsigned vcpu, uint64_t address)
{
    uint64_t value;

    assert_true(platform_mmio_read(&platform, vcpu, GPA(address), 4, &value));
    return (uint32_t)value;
}

static void write32(unsigned vcpu, uint64_t address, uint32_t value)
{
    assert_true(platform_mmio_write(&platform, vcpu, GPA(address), 4, value));
}

static void route(unsigned pin, uint32_t entry)
{
    write32(0, IOAPIC, 0x11 + 2 * pin);
    write32(0, IOAPIC + 0x10, 0);
    write32(0, IOAPIC, 0x10 + 2 * pin);
    write32(0, IOAPIC + 0x10, entry);
}

/* Both 8259s from vector 0x20, everything masked but `unmasked`. */
static void start_pics(uint16_t unmasked)
{
    static const uint8_t words[2][4] = {{0x11, 0x20, 4, 1}, {0x11, 0x28, 2, 1}};

    for (unsigned chip = 0; chip < 2; chip++) {
        uint16_t port = chip ? 0xa0 : 0x20;

        out(port, words[chip][0]);
        for (unsigned i = 1; i < 4; i++)
            out(port + 1, words[chip][i]);
        out(port + 1, (uint8_t)(~unmasked >> 8 * chip));
    }
}

/* Counter 0 as everybody starts it: mode 2, about 1 kHz. Its output rises with the control word already. */
static void start_pit(void)
{
    out(0x43, 0x34);
    out(0x40, 0xa9);
    out(0x40, 0x04);
}

static void run_to_deadline(unsigned vcpu)
{
    uint64_t deadline = platform_deadline(&platform, vcpu);

    assert_true(deadline != VDEV_NEVER && deadline > fake.now);
    fake.now = deadline;
    platform_expire(&platform, vcpu, fake.now);
}

/* PIT, 8259, LINT0 in virtual wire mode, vCPU 0. Fails when a wire is missing, or another vCPU is
 * interrupted. */
static void timer_by_pic(void **state)
{
    unsigned wakes;

    (void)state;
    start_pit();
    start_pics(1 << 0);
    wakes = fake.wakes[0];
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pending_at(0), -1);
        assert_int_equal(take_at(0), -1);
        run_to_deadline(0);
        assert_true(fake.wakes[0] > wakes);
        wakes = fake.wakes[0];
        for (unsigned vcpu = 1; vcpu < VCPUS; vcpu++)
            assert_int_equal(pending_at(vcpu), -1);
        assert_int_equal(pending_at(0), PENDING);
        assert_int_equal(take_at(0), 0x20);
        out(0x20, 0x20);
    }
    /* LINT0 masked, as systems with an IO-APIC leave it. */
    write32(0, LAPIC + 0x350, 0x10700);
    run_to_deadline(0);
    assert_int_equal(pending_at(0), -1);
    /* No local APIC at all: the 8259 is wired to the processor. */
    assert_int_equal(
        lapic_msr_write(&platform.lapics[0], LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT | LAPIC_BASE_BSP), 0);
    assert_int_equal(pending_at(0), PENDING);
    assert_int_equal(take_at(0), 0x20);
}

/* IRQ 0 is pin 2. Fails when it is another, or a local APIC's priorities hold back what the 8259 asks for. */
static void timer_by_ioapic(void **state)
{
    (void)state;
    route(0, 0x10000);
    start_pit();
    route(2, 0x31);
    assert_int_equal(pending_at(0), -1);
    run_to_deadline(0);
    assert_int_equal(pending_at(0), 0x31);
    assert_int_equal(take_at(0), 0x31);
    assert_int_equal(pending_at(0), -1);
    /* Edge: the next one waits for the end of this. */
    run_to_deadline(0);
    assert_int_equal(pending_at(0), -1);
    start_pics(1 << 0);
    run_to_deadline(0);
    assert_int_equal(take_at(0), 0x20);
    write32(0, LAPIC + 0xb0, 0);
    assert_int_equal(take_at(0), 0x31);
}

/* The 8259s' output is pin 0 of the IO-APIC too. Fails when an ExtINT message from there does not bring the
 * vector. */
static void pic_by_ioapic(void **state)
{
    (void)state;
    write32(0, LAPIC + 0x350, 0x10700);
    route(0, 0x700);
    start_pit();
    start_pics(1 << 0);
    assert_int_equal(pending_at(0), -1);
    run_to_deadline(0);
    assert_int_equal(pending_at(0), PENDING);
    assert_int_equal(take_at(0), 0x20);
    assert_int_equal(pending_at(0), -1);
    /* The message is used up: without another there is no way for the next one. */
    route(0, 0x10700);
    out(0x20, 0x20);
    run_to_deadline(0);
    assert_true(pic_pending(&platform.pic));
    assert_int_equal(pending_at(0), -1);
}

/* The SCI is level-triggered. Fails when the EOI does not reach the IO-APIC, or the line is not sampled
 * again. */
static void level_eoi(void **state)
{
    (void)state;
    route(9, 0x8039);
    platform_port_write(&platform, 0x602, 2, 0x0100);
    assert_true(platform_press_power_button(&platform));
    assert_int_equal(take_at(0), 0x39);
    assert_int_equal(pending_at(0), -1);
    write32(0, LAPIC + 0xb0, 0);
    assert_int_equal(take_at(0), 0x39);
    platform_port_write(&platform, 0x600, 2, 0x0100);
    write32(0, LAPIC + 0xb0, 0);
    assert_int_equal(pending_at(0), -1);
}

/* Fails when a line is not on the pin and the input of its number, or a high one reaches the 8259s. */
static void lines(void **state)
{
    (void)state;
    start_pics(0xffff);
    for (unsigned line = 0; line < 24; line++) {
        uint32_t pins = 1U << (line == 0 ? 2 : line);
        bool by_pic = line < 16 && line != 2;

        vdev_set_irq(&platform.inner, line, true);
        assert_int_equal(platform.ioapic.pins, pins | by_pic);
        assert_int_equal(pic_pending(&platform.pic), by_pic);
        if (by_pic)
            assert_int_equal(take_at(0), 0x20 + line);
        out(0xa0, 0x20);
        out(0x20, 0x20);
        vdev_set_irq(&platform.inner, line, false);
        assert_int_equal(platform.ioapic.pins, 0);
    }
}

/* Console, UART interrupt and receive timeout. Fails when a direction or the deadline is not wired. */
static void console(void **state)
{
    (void)state;
    route(4, 0x34);
    out(0x3fa, 0x81);
    out(0x3fc, 0x08);
    out(0x3f9, 0x01);
    out(0x3f8, 'h');
    out(0x3f8, 'i');
    assert_string_equal(fake.console, "hi");
    assert_true(platform_console_input(&platform, 'x'));
    run_to_deadline(0);
    assert_int_equal(take_at(0), 0x34);
    assert_int_equal(in(0x3fa), 0xcc);
    assert_int_equal(in(0x3f8), 'x');
    for (unsigned i = 0; i < UART_FIFO_SIZE; i++)
        assert_true(platform_console_input(&platform, 'y'));
    assert_false(platform_console_input(&platform, 'y'));
    /* A port with nothing connected takes everything and says nothing. */
    power_on(false);
    out(0x3f8, 'h');
    assert_int_equal(fake.console_length, 0);
    assert_true(platform_console_input(&platform, 'x'));
    assert_int_equal(in(0x3fd), 0x60);
}

/* RTC to IRQ 8 and to PM1's RTC_STS; PM timer's deadline. Fails when one of them is not wired. */
static void clocks(void **state)
{
    (void)state;
    route(8, 0x38);
    assert_true(platform_deadline(&platform, 0) == VDEV_NEVER);
    out(0x70, 0x0b);
    out(0x71, 0x12);
    assert_true(platform_deadline(&platform, 0) == TSC_HZ);
    run_to_deadline(0);
    assert_int_equal(take_at(0), 0x38);
    assert_int_equal(platform_port_read(&platform, 0x600, 2), 0x0400);
    out(0x70, 0x0b);
    out(0x71, 0x02);
    out(0x70, 0x00);
    assert_int_equal(in(0x71), 0x21);
    assert_int_equal(platform_port_read(&platform, 0x608, 4), 3579545);
    platform_port_write(&platform, 0x602, 2, 0x0001);
    assert_true(platform_deadline(&platform, 0) != VDEV_NEVER);
    run_to_deadline(0);
    assert_int_equal(platform.ioapic.pins, BIT(9));
    assert_int_equal(platform_port_read(&platform, 0x600, 2), 0x0401);
}

/* Each vCPU has its own local APIC and timer. Fails when one's deadline or registers are another's. */
static void local_apics(void **state)
{
    uint64_t value;

    (void)state;
    for (unsigned vcpu = 0; vcpu < VCPUS; vcpu++)
        assert_int_equal(read32(vcpu, LAPIC + 0x20), vcpu << 24);
    write32(1, LAPIC + 0xf0, 0x1ff);
    write32(1, LAPIC + 0x3e0, 0xb);
    write32(1, LAPIC + 0x320, 0x40);
    write32(1, LAPIC + 0x380, 1000);
    assert_true(platform_deadline(&platform, 0) == VDEV_NEVER);
    assert_true(platform_deadline(&platform, 2) == VDEV_NEVER);
    assert_true(platform_deadline(&platform, 1) == 1000);
    run_to_deadline(1);
    assert_int_equal(take_at(1), 0x40);
    assert_int_equal(pending_at(0), -1);
    /* The board's deadlines are vCPU 0's. */
    start_pit();
    assert_true(platform_deadline(&platform, 1) == VDEV_NEVER);
    assert_true(platform_deadline(&platform, 0) != VDEV_NEVER);
    fake.now = platform_deadline(&platform, 0);
    platform_expire(&platform, 1, fake.now);
    assert_true(platform_deadline(&platform, 0) == fake.now);

    /* The page moves with the base, and goes with x2APIC mode. */
    assert_int_equal(lapic_msr_write(&platform.lapics[1], LAPIC_MSR_BASE, 0xd0000000 | LAPIC_BASE_ENABLE), 0);
    assert_int_equal(read32(1, 0xd0000020), 1 << 24);
    assert_false(platform_mmio_read(&platform, 1, GPA(LAPIC + 0x20), 4, &value));
    assert_false(platform_mmio_read(&platform, 0, GPA(0xd0000020), 4, &value));
    assert_false(platform_mmio_write(&platform, 0, GPA(0xd0000020), 4, 0));
}

/* Fails when an address is decoded that is nobody's, or an access reaches from one page into the next. */
static void mmio_bounds(void **state)
{
    static const uint64_t nobody[] = {
        0,          0xa0000,        IOAPIC - 4,     IOAPIC + 0x1000,
        LAPIC - 4,  LAPIC + 0x1000, LAPIC + GIB(4), IOAPIC + GIB(4),
        UINT64_MAX,
    };
    uint64_t value = 5;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(nobody); i++) {
        assert_false(platform_mmio_read(&platform, 0, GPA(nobody[i]), 4, &value));
        assert_false(platform_mmio_write(&platform, 0, GPA(nobody[i]), 4, 0));
    }
    assert_false(platform_mmio_read(&platform, 0, GPA(LAPIC + 0xffc), 8, &value));
    assert_false(platform_mmio_write(&platform, 0, GPA(IOAPIC + 0xfff), 2, 0));
    assert_int_equal(value, 5);
    assert_true(platform_mmio_read(&platform, 0, GPA(IOAPIC + 0xff8), 8, &value));
}

/*
 * Each of the 65536 ports is one device's or nobody's, and it is those of the list. Fails when two ranges
 * overlap, a port is missing or an unclaimed one does not read as ones.
 */
static void port_map(void **state)
{
    static const struct {
        uint16_t first, last;
        const char *name;
    } expected[] = {
        {0x20, 0x21, "pic"},    {0x40, 0x43, "pit"},   {0x61, 0x61, "pit"},        {0x64, 0x64, "keyboard"},
        {0x70, 0x71, "rtc"},    {0x80, 0x80, "post"},  {0x92, 0x92, "fast reset"}, {0xa0, 0xa1, "pic"},
        {0x3f8, 0x3ff, "uart"}, {0x4d0, 0x4d1, "pic"}, {0x600, 0x60b, "acpi"},     {0xcf8, 0xcff, "pci"},
    };
    unsigned next = 0;

    (void)state;
    for (unsigned port = 0; port <= UINT16_MAX; port++) {
        const char *owner = NULL;

        for (unsigned i = 0; i < platform_port_range_count; i++) {
            const struct platform_port_range *range = &platform_port_ranges[i];

            if (port < range->first || port > range->last)
                continue;
            assert_null(owner);
            owner = range->name;
        }
        if (next < ARRAY_SIZE(expected) && port > expected[next].last)
            next++;
        if (next == ARRAY_SIZE(expected) || port < expected[next].first) {
            assert_null(owner);
            assert_int_equal(platform_port_read(&platform, (uint16_t)port, 1), 0xff);
            out((uint16_t)port, 0x55);
        } else {
            assert_non_null(owner);
            assert_string_equal(owner, expected[next].name);
        }
    }
    assert_int_equal(fake.powers[VDEV_POWER_OFF] + fake.powers[VDEV_POWER_RESET], 0);
}

/* Fails when a wide access is not the same as its bytes, where the device is a byte wide, or runs off its
 * range. */
static void wide_accesses(void **state)
{
    (void)state;
    assert_int_equal(platform_port_read(&platform, 0x1234, 4), 0xffffffff);
    assert_int_equal(platform_port_read(&platform, 0x1234, 2), 0xffff);
    assert_int_equal(platform_port_read(&platform, 0xffff, 4), 0xffffffff); /* wraps to port 0 */
    platform_port_write(&platform, 0x3fe, 2, 0xa500);                       /* MSR, SCR */
    assert_int_equal(in(0x3ff), 0xa5);
    assert_int_equal(platform_port_read(&platform, 0x3fd, 4), 0xffa5b060);
    platform_port_write(&platform, 0x70, 2, 0x4250);
    out(0x70, 0x50);
    assert_int_equal(in(0x71), 0x42);
    assert_int_equal(platform_port_read(&platform, 0x7f, 2), 0x00ff);
    out(0x80, 0x3c);
    assert_int_equal(platform_port_read(&platform, 0x7e, 4), 0xff3cffff);
    /* Beyond the end of a wide range. */
    assert_int_equal(platform_port_read(&platform, 0x60a, 4) >> 16, 0xffff);
    assert_int_equal(platform_port_read(&platform, 0xcfe, 4) >> 16, 0xffff);
    platform_port_write(&platform, 0x5fe, 4, 0x01000000);
    platform_port_write(&platform, 0x601, 2, 0x2100);
    assert_int_equal(platform_port_read(&platform, 0x602, 2), 0x21);
}

/* PCI's address and the reset register share ports. Fails when one answers to the other's size of access. */
static void pci_and_reset(void **state)
{
    (void)state;
    platform_port_write(&platform, 0xcf8, 4, 0x80000000);
    assert_int_equal(platform_port_read(&platform, 0xcfc, 4), 0x12378086);
    assert_int_equal(platform_port_read(&platform, 0xcfe, 2), 0x1237);
    platform_port_write(&platform, 0xcf8, 4, 0x8000f600);
    platform_port_write(&platform, 0xcf9, 2, 0x0606);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 0);
    out(0xcf9, 0x02);
    assert_int_equal(in(0xcf9), 0x02);
    assert_int_equal(platform_port_read(&platform, 0xcf9, 2), 0xffff);
    assert_int_equal(platform_port_read(&platform, 0xcf8, 4), 0x8000f600);
    out(0xcf9, 0x06);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 1);
    out(0x92, 0x01);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 2);
    assert_int_equal(in(0x92), 0x02);
    assert_int_equal(in(0x64) & 3, 0); /* nothing to read, ready for a command */
    out(0x64, 0xfe);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 3);
    platform_port_write(&platform, 0x604, 2, 0x2001);
    assert_int_equal(fake.powers[VDEV_POWER_OFF], 1);
}

/* Fails when a reset leaves a device as it was, a line up or an interrupt pending. */
static void reset(void **state)
{
    (void)state;
    start_pics(0xffff);
    start_pit();
    route(4, 0x34);
    out(0x3fc, 0x08);
    out(0x3f9, 0x03);
    out(0x70, 0x0b);
    out(0x71, 0x72);
    platform_port_write(&platform, 0x602, 2, 0x0521);
    platform_press_power_button(&platform);
    platform_port_write(&platform, 0xcf8, 4, 0x80000000);
    out(0x80, 0x99);
    write32(1, LAPIC + 0xf0, 0x1ff);
    write32(0, LAPIC + 0x380, 1000);
    assert_true(pending_at(0) >= 0);

    fake.now = 100;
    platform_reset(&platform, START + 60);
    assert_int_equal(platform.ioapic.pins, 0);
    write32(0, IOAPIC, 0x18);
    assert_int_equal(read32(0, IOAPIC + 0x10), 0x10000);
    vdev_set_irq(&platform.inner, 4, true);
    assert_int_equal(pending_at(0), -1);
    vdev_set_irq(&platform.inner, 4, false);
    assert_int_equal(in(0x3f9), 0x00);
    assert_int_equal(in(0x80), 0x00);
    assert_int_equal(platform_port_read(&platform, 0x600, 4), 0);
    assert_int_equal(platform_port_read(&platform, 0xcf8, 4), 0);
    out(0x70, 0x02);
    assert_int_equal(in(0x71), 0x14);
    for (unsigned vcpu = 0; vcpu < VCPUS; vcpu++) {
        assert_true(platform_deadline(&platform, vcpu) == VDEV_NEVER);
        assert_int_equal(pending_at(vcpu), -1);
        /* Firmware's hand-over: the first in virtual wire mode, the others as the reset line leaves them. */
        assert_int_equal(read32(vcpu, LAPIC + 0xf0), vcpu ? 0xff : 0x1ff);
        assert_int_equal(read32(vcpu, LAPIC + 0x350), vcpu ? 0x10000 : 0x700);
    }
    /* And everything works again. */
    start_pit();
    start_pics(1 << 0);
    run_to_deadline(0);
    assert_int_equal(take_at(0), 0x20);
}

int main(void)
{
#define WIRING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WIRING(timer_by_pic), WIRING(timer_by_ioapic), WIRING(pic_by_ioapic), WIRING(level_eoi),
        WIRING(lines),        WIRING(console),         WIRING(clocks),        WIRING(local_apics),
        WIRING(mmio_bounds),  WIRING(port_map),        WIRING(wide_accesses), WIRING(pci_and_reset),
        WIRING(reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
