// SPDX-License-Identifier: BSD-2-Clause
/* core/vdev/rtc.c: the calendar against the C library's, the interrupts tick by tick, the memory bytes. */
#include "core/vdev/rtc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/fake_host.h"

#define IRQ    8
#define TSC_HZ 1000000007ULL /* a prime: nothing divides evenly */
#define START  1700000000    /* Tuesday, 14 November 2023, 22:13:20 */

enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY,
    MONTH,
    YEAR,
    A,
    B,
    C,
    D
};
#define CENTURY 0x32

static struct fake_host fake;
static struct rtc rtc;

static void start(int64_t wall_clock)
{
    /* A device does not begin at TSC 0. */
    fake_host_init(&fake, TSC_HZ);
    fake.now = 12345;
    rtc_init(&rtc, &fake.host, IRQ, wall_clock, MIB(256), 0);
}

static int set_up(void **state)
{
    (void)state;
    start(START);
    return 0;
}

static uint8_t in(uint8_t index)
{
    rtc_write(&rtc, 0, index);
    return rtc_read(&rtc, 1);
}

static void out(uint8_t index, uint8_t value)
{
    rtc_write(&rtc, 0, index);
    rtc_write(&rtc, 1, value);
}

static uint8_t bcd(int value)
{
    return (uint8_t)(value / 10 << 4 | value % 10);
}

static void seconds_pass(uint64_t seconds)
{
    fake.now += seconds * TSC_HZ;
}

/* Lets the run loop's deadline come, and says how far away it was. */
static uint64_t run_to_deadline(void)
{
    uint64_t deadline = rtc_deadline(&rtc);
    uint64_t distance = deadline - fake.now;

    assert_true(deadline != VDEV_NEVER && deadline > fake.now);
    fake.now = deadline - 1;
    rtc_expire(&rtc, fake.now);
    assert_false(fake.irq[IRQ]);
    fake.now = deadline;
    rtc_expire(&rtc, fake.now);
    assert_true(fake.irq[IRQ]);
    return distance;
}

static void assert_time(time_t expected)
{
    struct tm tm;

    gmtime_r(&expected, &tm);
    assert_int_equal(in(SECONDS), bcd(tm.tm_sec));
    assert_int_equal(in(MINUTES), bcd(tm.tm_min));
    assert_int_equal(in(HOURS), bcd(tm.tm_hour));
    assert_int_equal(in(WEEKDAY), tm.tm_wday + 1);
    assert_int_equal(in(DAY), bcd(tm.tm_mday));
    assert_int_equal(in(MONTH), bcd(tm.tm_mon + 1));
    assert_int_equal(in(YEAR), bcd(tm.tm_year % 100));
    assert_int_equal(in(CENTURY), bcd(19 + tm.tm_year / 100));
}

/* Fails when any field of the date differs from the C library's, at init or after time has passed. */
static void calendar(void **state)
{
    static const int64_t starts[] = {
        0,
        951782399 /* before 29 February 2000 */,
        1709164799 /* before 29 February 2024 */,
        1740787199 /* before 1 March 2025 */,
        START,
        4107542399 /* before 1 March 2100 */,
        253402300799 - 40000000,
    };
    static const uint64_t steps[] = {0, 1, 59, 61, 3600, 86399, 86400, 86401, 2678400, 31536000};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(starts); i++) {
        int64_t time = starts[i];

        start(time);
        for (unsigned k = 0; k < ARRAY_SIZE(steps); k++) {
            seconds_pass(steps[k]);
            time += (int64_t)steps[k];
            assert_time(time);
        }
    }
    start(-1);
    assert_time(0);
}

/* Fails when a second is not exactly as many ticks as the TSC has: over a day, at any phase. */
static void no_drift(void **state)
{
    (void)state;
    fake.now += TSC_HZ - 1;
    assert_time(START);
    fake.now += 1;
    assert_time(START + 1);
    for (unsigned i = 0; i < 1000; i++) {
        fake.now += TSC_HZ / 7 * 3;
        in(SECONDS);
    }
    fake.now = 12345 + 86400 * TSC_HZ - 1;
    assert_time(START + 86399);
    fake.now++;
    assert_time(START + 86400);
}

/* Fails when 12-hour or binary formats are shown or counted wrongly. */
static void formats(void **state)
{
    static const struct {
        uint8_t b;
        uint8_t before, after; /* of the hours register around each hour boundary */
    } rows[] = {
        {0x02, 0x23, 0x00}, {0x06, 23, 0},      {0x00, 0x91, 0x12}, {0x04, 0x8b, 12},   {0x00, 0x11, 0x92},
        {0x04, 11, 0x8c},   {0x00, 0x12, 0x01}, {0x00, 0x92, 0x81}, {0x02, 0x09, 0x10}, {0x06, 9, 10},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint8_t fifty_nine = rows[i].b & 0x04 ? 59 : 0x59;

        start(START);
        out(B, 0x80 | rows[i].b);
        out(HOURS, rows[i].before);
        out(MINUTES, fifty_nine);
        out(SECONDS, fifty_nine);
        out(B, rows[i].b);
        assert_int_equal(in(HOURS), rows[i].before);
        seconds_pass(1);
        assert_int_equal(in(HOURS), rows[i].after);
        assert_int_equal(in(MINUTES), 0);
        assert_int_equal(in(SECONDS), 0);
        /* Midnight is the start of another day: the 14th in BCD, the 20th in binary. */
        if (i < 4)
            assert_int_equal(in(DAY), 0x15);
    }
}

/* Fails when SET does not stop the registers, or they do not go on from what was written. */
static void set_bit(void **state)
{
    (void)state;
    out(B, 0x92);
    assert_int_equal(in(B), 0x82); /* SET clears UIE */
    seconds_pass(10);
    assert_time(START);
    out(SECONDS, 0x30);
    out(YEAR, 0x99);
    seconds_pass(5);
    assert_int_equal(in(SECONDS), 0x30);
    in(C);
    seconds_pass(5);
    assert_int_equal(in(C), 0x40); /* no update ended, only periods */
    out(B, 0x02);
    assert_int_equal(in(SECONDS), 0x30);
    seconds_pass(1);
    assert_int_equal(in(SECONDS), 0x31);
    assert_int_equal(in(YEAR), 0x99);
}

/* The way Linux and others set the clock. Fails when the first second after it is not half a second long. */
static void divider_reset(void **state)
{
    (void)state;
    out(B, 0x82);
    out(A, 0x76);
    out(SECONDS, 0x00);
    seconds_pass(3);
    out(B, 0x02);
    assert_int_equal(in(A), 0x76);
    out(B, 0x12);
    assert_true(rtc_deadline(&rtc) == VDEV_NEVER);
    seconds_pass(3);
    assert_int_equal(in(SECONDS), 0x00);
    out(A, 0x26);
    fake.now += TSC_HZ / 2;
    assert_int_equal(in(SECONDS), 0x00);
    fake.now += 1;
    assert_int_equal(in(SECONDS), 0x01);
    fake.now += TSC_HZ - 1;
    assert_int_equal(in(SECONDS), 0x01);
    fake.now += 1;
    assert_int_equal(in(SECONDS), 0x02);
}

/* Fails when UIP is not up just for the last 73 of 32768 parts of a second, or shows while nothing updates.
 */
static void update_in_progress(void **state)
{
    uint64_t before = 12345 + TSC_HZ * (32768 - 73) / 32768;

    (void)state;
    assert_int_equal(in(A), 0x26);
    fake.now = before;
    assert_int_equal(in(A), 0x26);
    fake.now = before + 1;
    assert_int_equal(in(A), 0xa6);
    out(A, 0xa6);
    out(B, 0x82);
    assert_int_equal(in(A), 0x26);
    out(B, 0x02);
    fake.now = 12345 + TSC_HZ - 1;
    assert_int_equal(in(A), 0xa6);
    assert_time(START);
    fake.now++;
    assert_int_equal(in(A), 0x26);
    assert_time(START + 1);
}

/* Fails when the update interrupt is not once a second, or C's flags survive a read. */
static void update_interrupt(void **state)
{
    (void)state;
    assert_true(rtc_deadline(&rtc) == VDEV_NEVER);
    in(C);
    out(B, 0x12);
    assert_true(run_to_deadline() == TSC_HZ);
    assert_true(rtc_deadline(&rtc) == VDEV_NEVER); /* until the guest has seen it */
    assert_int_equal(in(C), 0xd0);
    assert_false(fake.irq[IRQ]);
    assert_int_equal(in(C), 0x00);
    assert_true(run_to_deadline() == TSC_HZ);
    /* A flag that is up raises the line as soon as it is enabled. */
    out(B, 0x02);
    assert_false(fake.irq[IRQ]);
    assert_int_equal(rtc_read(&rtc, 1), 0x02);
    out(B, 0x12);
    assert_true(fake.irq[IRQ]);
}

/* Fails when a rate is not that of the data sheet, or the ticks drift against the second. */
static void periodic_interrupt(void **state)
{
    static const unsigned rates[] = {0, 256, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2};

    (void)state;
    for (unsigned select = 0; select < ARRAY_SIZE(rates); select++) {
        start(START);
        out(A, (uint8_t)(0x20 | select));
        in(C);
        out(B, 0x42);
        if (rates[select] == 0) {
            assert_true(rtc_deadline(&rtc) == VDEV_NEVER);
            continue;
        }
        for (unsigned i = 1; i <= 2 * rates[select]; i++) {
            run_to_deadline();
            assert_true(fake.now == 12345 + (i * TSC_HZ + rates[select] - 1) / rates[select]);
            assert_int_equal(in(C)&0xc0, 0xc0);
        }
        assert_true(fake.now == 12345 + 2 * TSC_HZ);
    }
    /* Another rate is no period's end. */
    fake.now += TSC_HZ / 5 * 4;
    in(C);
    out(A, 0x2e);
    assert_int_equal(in(C)&0x40, 0x00);
    assert_true(rtc_deadline(&rtc) == 12345 + 3 * TSC_HZ);
    fake.now = rtc_deadline(&rtc);
    rtc_expire(&rtc, fake.now);
    in(C);
    /* Missed ones are one. */
    fake.now += TSC_HZ;
    rtc_expire(&rtc, fake.now);
    assert_int_equal(in(C)&0xc0, 0xc0);
    assert_int_equal(in(C)&0xc0, 0x00);
}

/* Fails when an alarm is not at its time, with "don't care" fields, over midnight, or comes when it cannot.
 */
static void alarm_interrupt(void **state)
{
    static const struct {
        uint8_t hours, minutes, seconds;
        uint64_t distance; /* from 22:13:20, 0: never */
    } rows[] = {
        {0x22, 0x13, 0x21, 1},
        {0x22, 0x13, 0x20, 86400},
        {0x22, 0x13, 0x19, 86399},
        {0x22, 0x14, 0x00, 40},
        {0x23, 0x00, 0x00, 46 * 60 + 40},
        {0x00, 0x00, 0x00, 3600 + 46 * 60 + 40},
        {0x22, 0x10, 0x30, 86400 - 3 * 60 + 10},
        {0xff, 0x13, 0x21, 1},
        {0xff, 0x13, 0x20, 3600},
        {0xff, 0x00, 0x05, 46 * 60 + 45},
        {0xff, 0xff, 0x20, 60},
        {0xff, 0xff, 0x19, 59},
        {0xff, 0xff, 0xff, 1},
        {0xc0, 0xc0, 0xc0, 1},
        {0x22, 0xff, 0xff, 1},
        {0x23, 0xff, 0xff, 46 * 60 + 40},
        {0x22, 0x12, 0xff, 86400 - 80},
        {0x24, 0x00, 0x00, 0},
        {0x22, 0x60, 0x00, 0},
        {0x22, 0x13, 0x61, 0},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        start(START);
        out(HOURS_ALARM, rows[i].hours);
        out(MINUTES_ALARM, rows[i].minutes);
        out(SECONDS_ALARM, rows[i].seconds);
        in(C);
        out(B, 0x22);
        if (rows[i].distance == 0) {
            assert_true(rtc_deadline(&rtc) == VDEV_NEVER);
            continue;
        }
        assert_true(run_to_deadline() == rows[i].distance * TSC_HZ);
        assert_int_equal(in(C), 0xf0);
        assert_false(fake.irq[IRQ]);
        assert_time(START + (time_t)rows[i].distance);
    }
    /* In 12-hour format, and again the next day. */
    start(START);
    out(B, 0x00);
    out(HOURS, 0x90);
    out(HOURS_ALARM, 0x11);
    out(MINUTES_ALARM, 0x00);
    out(SECONDS_ALARM, 0x00);
    in(C);
    out(B, 0x20);
    assert_true(run_to_deadline() == (12 * 3600 + 46 * 60 + 40) * TSC_HZ);
    in(C);
    assert_true(run_to_deadline() == 86400 * TSC_HZ);
    in(C);
    /* While the registers stand still there is none. */
    out(B, 0xa0);
    assert_true(rtc_deadline(&rtc) == VDEV_NEVER);
    out(B, 0x20);
    assert_true(rtc_deadline(&rtc) == fake.now + 86400 * TSC_HZ);
    out(A, 0x60);
    assert_true(rtc_deadline(&rtc) == VDEV_NEVER);
}

/* Fails when nonsense in the registers leads to more than nonsense. */
static void nonsense(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 8; b += 2) {
        for (unsigned value = 0; value < 256; value += 5) {
            start(START);
            for (uint8_t index = SECONDS; index <= YEAR; index++)
                out(index, (uint8_t)value);
            out(CENTURY, (uint8_t)value);
            out(B, (uint8_t)(0x70 | b));
            seconds_pass(1000000);
            rtc_expire(&rtc, fake.now);
            in(C);
            assert_true(rtc_deadline(&rtc) > fake.now);
            seconds_pass(1);
            rtc_expire(&rtc, fake.now);
            in(C);
        }
    }
}

/* Fails when a port or register is readable or writable that is not. */
static void ports(void **state)
{
    (void)state;
    rtc_write(&rtc, 0, 0x8d); /* bit 7 is the NMI mask */
    assert_int_equal(rtc_read(&rtc, 1), 0x80);
    assert_int_equal(rtc_read(&rtc, 0), 0xff);
    out(D, 0x00);
    out(C, 0xff);
    assert_int_equal(in(D), 0x80);
    assert_int_equal(in(C), 0x00);
    for (uint8_t index = 0x0e; index < 0x80; index++) {
        out(index, index ^ 0x55);
        assert_int_equal(in(index), index ^ 0x55);
    }
}

static unsigned number(uint8_t index, unsigned bytes)
{
    unsigned value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (unsigned)in((uint8_t)(index + i)) << 8 * i;
    return value;
}

/* Fails when a memory size is wrong or wraps, or the checksum does not hold. */
static void memory_sizes(void **state)
{
    static const struct {
        uint64_t low, high;
        unsigned base, extended, above_16m, above_4g;
    } rows[] = {
        {KIB(512), 0, 512, 0, 0, 0},
        {MIB(8), 0, 640, 7168, 0, 0},
        {MIB(256), 0, 640, 65535, 3840, 0},
        {GIB(3), GIB(5), 640, 65535, 48896, 81920},
        {GIB(4) - KIB(64), GIB(1 << 20), 640, 65535, 65279, 0xffffff},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        unsigned sum = 0;

        rtc_init(&rtc, &fake.host, IRQ, START, rows[i].low, rows[i].high);
        assert_int_equal(number(0x15, 2), rows[i].base);
        assert_int_equal(number(0x17, 2), rows[i].extended);
        assert_int_equal(number(0x30, 2), rows[i].extended);
        assert_int_equal(number(0x34, 2), rows[i].above_16m);
        assert_int_equal(number(0x5b, 3), rows[i].above_4g);
        for (uint8_t index = 0x10; index <= 0x2d; index++)
            sum += in(index);
        assert_int_equal(in(0x2e) << 8 | in(0x2f), sum);
    }
}

/* Fails when a reset leaves an interrupt, the index or a stopped clock, or loses the memory. */
static void reset(void **state)
{
    (void)state;
    out(A, 0x70);
    out(B, 0xf6);
    out(A, 0x26);
    out(0x0f, 0x0a);
    out(0x15, 0x00);
    out(0x40, 0x77);
    out(B, 0x76);
    seconds_pass(1);
    rtc_expire(&rtc, fake.now);
    assert_true(fake.irq[IRQ]);
    fake.now = 5; /* the TSC starts anew */
    rtc_reset(&rtc, START + 100);
    assert_false(fake.irq[IRQ]);
    assert_int_equal(rtc_read(&rtc, 1), bcd(0));
    assert_int_equal(in(A), 0x26);
    assert_int_equal(in(B), 0x02);
    assert_int_equal(in(C), 0x00);
    assert_int_equal(in(0x0f), 0x00);
    assert_int_equal(in(0x15), 0x80);
    assert_int_equal(in(0x40), 0x77);
    assert_time(START + 100);
    seconds_pass(2);
    assert_time(START + 102);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(calendar, set_up),
        cmocka_unit_test_setup(no_drift, set_up),
        cmocka_unit_test_setup(formats, set_up),
        cmocka_unit_test_setup(set_bit, set_up),
        cmocka_unit_test_setup(divider_reset, set_up),
        cmocka_unit_test_setup(update_in_progress, set_up),
        cmocka_unit_test_setup(update_interrupt, set_up),
        cmocka_unit_test_setup(periodic_interrupt, set_up),
        cmocka_unit_test_setup(alarm_interrupt, set_up),
        cmocka_unit_test_setup(nonsense, set_up),
        cmocka_unit_test_setup(ports, set_up),
        cmocka_unit_test_setup(memory_sizes, set_up),
        cmocka_unit_test_setup(reset, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
