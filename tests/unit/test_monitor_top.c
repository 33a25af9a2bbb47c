// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/monitor_top.c: fails when a share or a rate is not the difference of two samples over the time between
 * them, when a vCPU is compared with another one, or when a row is missing, out of order or too wide.
 */
#include "core/monitor_top.h"

#include "lib/printf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct monitor_sample before, now;
static struct monitor_top table;

static int clear(void **state)
{
    (void)state;
    memset(&before, 0, sizeof(before));
    memset(&now, 0, sizeof(now));
    before.cpu_count = 2;
    now.cpu_count = 2;
    return 0;
}

static struct monitor_sample_vcpu *add(struct monitor_sample *sample, unsigned partition, unsigned vcpu,
                                       unsigned cpu, uint64_t ran)
{
    struct monitor_sample_vcpu *v = &sample->vcpus[sample->vcpu_count++];

    *v = (struct monitor_sample_vcpu){
        .partition = (uint16_t)partition, .vcpu = (uint16_t)vcpu, .cpu = (uint16_t)cpu, .ran = ran};
    format_text(v->name, sizeof(v->name), "p%u", partition);
    return v;
}

static void expect_line(unsigned number, const char *text)
{
    char line[160];

    assert_true(monitor_top_line(&table, number, line, sizeof(line)));
    assert_string_equal(line, text);
}

/* Shares are of the time between the samples, whatever the clock's rate; rates are per second. */
static void differences(void **state)
{
    char line[160];

    (void)state;
    before.time = 5000000000;
    now.time = before.time + 300000; /* 0.3 s */
    before.idle[0] = 77;
    now.idle[0] = 77 + 100000;
    add(&before, 0, 0, 1, 1000)->exits[MONITOR_EXIT_MSR] = 50;
    add(&before, 1, 3, 0, 5);
    struct monitor_sample_vcpu *v = add(&now, 0, 0, 1, 1000 + 225000);
    v->exits[MONITOR_EXIT_MSR] = 50 + 30;
    v->exits[MONITOR_EXIT_HALT] = 30000;
    v->exits[MONITOR_EXIT_IO] = 300000;
    v->exits[MONITOR_EXIT_OTHER] = 4500000000;
    v->exits[MONITOR_EXIT_INTERRUPT] = 29999;
    add(&now, 1, 3, 0, 5 + 200000);
    monitor_top_compare(&table, &before, &now, 1000000);

    expect_line(0, "2 processors, 0.300 s");
    expect_line(1, "cpu partition    vcpu  share  exits/s   irq    io   mem   msr cpuid  halt other");
    expect_line(2, "  0 p1              3   66.6%        0     0     0     0     0     0     0     0");
    expect_line(3, "  0 idle            -   33.3%");
    expect_line(4, "  1 p0              0   75.0%      15G 99996 1000k     0   100     0  100k   15G");
    expect_line(5, "  1 idle            -    0.0%");
    assert_false(monitor_top_line(&table, 6, line, sizeof(line)));
    assert_true(monitor_top_line(&table, 4, line, 30));
    assert_string_equal(line, "  1 p0              0   75.0%");
}

/* Two vCPUs are the same by their numbers, wherever they stand in a sample. */
static void identity(void **state)
{
    (void)state;
    now.time = 1000;
    add(&before, 0, 0, 0, 100);
    add(&before, 0, 1, 0, 200);
    add(&before, 2, 0, 1, 300);
    add(&now, 2, 0, 1, 310);
    add(&now, 1, 0, 0, 320); /* created meanwhile */
    add(&now, 0, 1, 0, 230);
    monitor_top_compare(&table, &before, &now, 1000);
    assert_int_equal(table.row_count, 5);
    assert_int_equal(table.rows[0].permille, 320);
    assert_int_equal(table.rows[1].permille, 30);
    assert_true(table.rows[2].idle);
    assert_int_equal(table.rows[3].permille, 10);
    assert_ptr_equal(table.rows[3].name, now.vcpus[0].name);
}

/* Counters that have begun again count from 0, all of them together. */
static void begun_anew(void **state)
{
    (void)state;
    now.time = 1000;
    add(&before, 0, 0, 0, 100)->exits[MONITOR_EXIT_IO] = 1000;
    add(&now, 0, 0, 0, 400)->exits[MONITOR_EXIT_IO] = 7;
    add(&before, 1, 0, 1, 600)->exits[MONITOR_EXIT_IO] = 1;
    add(&now, 1, 0, 1, 500)->exits[MONITOR_EXIT_IO] = 8;
    monitor_top_compare(&table, &before, &now, 1000);
    assert_int_equal(table.rows[0].permille, 400);
    assert_int_equal(table.rows[0].exits[MONITOR_EXIT_IO], 7);
    assert_int_equal(table.rows[0].exits_all, 7);
    assert_int_equal(table.rows[2].permille, 500);
    assert_int_equal(table.rows[2].exits[MONITOR_EXIT_IO], 8);
}

/* A share is at most all; no time at all is not divided by. */
static void limits(void **state)
{
    (void)state;
    add(&before, 0, 0, 0, 0);
    add(&now, 0, 0, 0, UINT64_MAX)->exits[MONITOR_EXIT_IO] = UINT64_MAX;
    add(&now, 0, 1, 9, 1); /* on a processor that is not there */
    monitor_top_compare(&table, &before, &now, 1000);
    assert_int_equal(table.rows[0].permille, 1000);
    assert_int_equal(table.row_count, 3);
    expect_line(2, "  0 p0              0  100.0%   18446P     0 18446P     0     0     0     0     0");
}

/* All vCPUs that there can be have their rows, and each its processor's sleep behind it. */
static void most(void **state)
{
    unsigned last = 0, idle = 0;

    (void)state;
    now.time = 1;
    now.cpu_count = MONITOR_SAMPLE_CPUS;
    for (unsigned n = 0; n < MONITOR_SAMPLE_VCPUS; n++)
        add(&now, n / 32, n % 32, n % MONITOR_SAMPLE_CPUS, 0);
    monitor_top_compare(&table, &before, &now, 1000);
    assert_int_equal(table.row_count, MONITOR_SAMPLE_VCPUS + MONITOR_SAMPLE_CPUS);
    for (unsigned n = 0; n < table.row_count; n++) {
        assert_true(table.rows[n].cpu >= last);
        last = table.rows[n].cpu;
        idle += table.rows[n].idle;
        if (table.rows[n].idle)
            assert_int_equal(n, (last + 1) * (MONITOR_SAMPLE_VCPUS / MONITOR_SAMPLE_CPUS + 1) - 1);
    }
    assert_int_equal(idle, MONITOR_SAMPLE_CPUS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(differences, clear), cmocka_unit_test_setup(identity, clear),
        cmocka_unit_test_setup(begun_anew, clear),  cmocka_unit_test_setup(limits, clear),
        cmocka_unit_test_setup(most, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
