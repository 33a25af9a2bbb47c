// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/trace.c: fails when a record is lost or out of order before or after the ring has gone round, or when
 * a line says something else than was recorded.
 */
#define _GNU_SOURCE
#include "core/trace.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static struct trace trace __aligned(PAGE_SIZE);

static int clear(void **state)
{
    (void)state;
    memset(&trace, 0, sizeof(trace));
    trace_reset(&trace);
    return 0;
}

static const char *name(uint32_t reason)
{
    return reason == 10 ? "CPUID" : "other";
}

static void empty(void **state)
{
    char line[8] = "as is";

    (void)state;
    assert_int_equal(trace_length(&trace), 0);
    assert_null(trace_at(&trace, 0));
    assert_false(trace_format(&trace, 0, name, line, sizeof(line)));
    assert_string_equal(line, "as is");
}

static void order(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 3 * TRACE_RECORDS + 7; n++) {
        trace_add(&trace, n, n & 0xff, n + 1, n + 3)->qualification = n + 2;
        assert_int_equal(trace_length(&trace), n + 1 < TRACE_RECORDS ? n + 1 : TRACE_RECORDS);
        const struct trace_record *newest = trace_at(&trace, trace_length(&trace) - 1);
        assert_int_equal(newest->tsc, n);
        assert_int_equal(newest->reason, n & 0xff);
        assert_int_equal(newest->rip, n + 1);
        assert_int_equal(newest->qualification, n + 2);
        assert_int_equal(newest->detail, n + 3);
    }
    assert_int_equal(trace.count, 3 * TRACE_RECORDS + 7);
    for (unsigned index = 0; index < TRACE_RECORDS; index++)
        assert_int_equal(trace_at(&trace, index)->tsc, 2 * TRACE_RECORDS + 7 + index);
    assert_null(trace_at(&trace, TRACE_RECORDS));
    assert_null(trace_at(&trace, UINT32_MAX));
}

static void lines(void **state)
{
    char line[160], cut[10];

    (void)state;
    trace_add(&trace, 1000, 10, 0xffffffff81000000, 0x16);
    trace_add(&trace, 1234, 48, 0x7c00, 0xfee000b0)->qualification = 0x181;
    assert_true(trace_format(&trace, 0, name, line, sizeof(line)));
    assert_string_equal(line, "-2   +0            rip ffffffff81000000 qualification 0 detail 16 CPUID");
    assert_true(trace_format(&trace, 1, name, line, sizeof(line)));
    assert_string_equal(line,
                        "-1   +234          rip 0000000000007c00 qualification 181 detail fee000b0 other");
    assert_false(trace_format(&trace, 2, name, line, sizeof(line)));
    assert_true(trace_format(&trace, 0, name, cut, sizeof(cut)));
    assert_string_equal(cut, "-2   +0  ");
}

/* Line of each record for programs, the duration where it was taken; past the ring's end nothing is left of
 * it. */
static void saved(void **state)
{
    struct trace_record record;
    uint32_t duration;
    uint64_t position = 0;
    char line[160];

    (void)state;
    assert_false(trace_read(&trace, &position, &record, &duration));
    trace_add(&trace, 1000, 0x8000000a, 0xffffffff81000000, 0x16);
    trace_timed(&trace, 0x3e9);
    trace_add(&trace, 1234, 48, 0x7c00, UINT64_MAX)->qualification = 0x181;
    trace_timed(&trace, 0x123456789a);
    trace_add(&trace, 1235, 1, 0, 0);
    assert_true(trace_read(&trace, &position, &record, &duration));
    trace_format_saved(&record, 31, duration, line, sizeof(line));
    assert_string_equal(line, "trace 1f 3e8 8000000a ffffffff81000000 0 16 3e9");
    assert_true(trace_read(&trace, &position, &record, &duration));
    trace_format_saved(&record, 0, duration, line, sizeof(line));
    assert_string_equal(line, "trace 0 4d2 30 7c00 181 ffffffffffffffff ffffffff");
    assert_true(trace_read(&trace, &position, &record, &duration));
    assert_int_equal(duration, 0);
    assert_int_equal(position, 3);
    assert_false(trace_read(&trace, &position, &record, &duration));
    assert_int_equal(position, 3);
}

/* What has been overwritten, or may be just now, is passed over. */
static void overtaken(void **state)
{
    struct trace_record record;
    uint32_t duration;
    uint64_t position = 0;

    (void)state;
    for (unsigned n = 0; n < TRACE_RECORDS - 1; n++)
        trace_add(&trace, n, 0, 0, 0);
    assert_true(trace_read(&trace, &position, &record, &duration));
    assert_int_equal(record.tsc, 0);
    for (unsigned n = TRACE_RECORDS - 1; n < TRACE_RECORDS + 10; n++)
        trace_add(&trace, n, 0, 0, 0);
    assert_true(trace_read(&trace, &position, &record, &duration));
    assert_int_equal(record.tsc, 11); /* 10 is where the next exit goes */
    assert_int_equal(position, 12);
    position = 12;
    assert_true(trace_read(&trace, &position, &record, &duration));
    assert_int_equal(record.tsc, 12);
}

/* A record that another processor writes is read whole or not at all. */
static void *writer(void *pointer)
{
    struct trace *shared = pointer;

    for (uint64_t n = 1; n < 3000000; n++)
        trace_add(shared, n, (uint32_t)n, n, n)->qualification = n;
    return NULL;
}

static void two_processors(void **state)
{
    struct trace_record record;
    uint64_t before = 0, records = 0;
    uint32_t duration;
    pthread_t thread;

    (void)state;
    trace_add(&trace, 0, 0, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, writer, &trace), 0);
    while (pthread_tryjoin_np(thread, NULL) != 0) {
        uint64_t position = 0; /* the oldest: it is overwritten next */
        assert_true(trace_read(&trace, &position, &record, &duration));
        /* the first may be the newest, and half written */
        if (position == 1)
            continue;
        assert_int_equal(record.tsc, position - 1);
        assert_int_equal(record.rip, record.tsc);
        assert_int_equal(record.detail, record.tsc);
        assert_int_equal(record.reason, (uint32_t)record.tsc);
        assert_true(record.tsc >= before);
        before = record.tsc;
        records++;
    }
    assert_true(records > 0);
}

/* The vCPU overwrites a record just while it is copied: on the first touch of its page. */
static void overwrite(int signal)
{
    (void)signal;
    mprotect((char *)&trace + PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE);
    for (unsigned n = 0; n < 5; n++)
        trace_add(&trace, trace.count, 0, 0, 0);
}

static void overwritten(void **state)
{
    const struct sigaction action = {.sa_handler = overwrite};
    struct sigaction before;
    struct trace_record record;
    uint64_t position = 0;
    uint32_t duration;

    (void)state;
    for (unsigned n = 0; n < TRACE_RECORDS + 150; n++)
        trace_add(&trace, n, 0, 0, 0);
    assert_int_equal((uintptr_t)&trace.records[151] / PAGE_SIZE, (uintptr_t)&trace / PAGE_SIZE + 1);
    assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
    assert_int_equal(mprotect((char *)&trace + PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
    assert_true(trace_read(&trace, &position, &record, &duration)); /* 151, the oldest, is gone then */
    sigaction(SIGSEGV, &before, NULL);
    assert_int_equal(trace.count, TRACE_RECORDS + 155);
    assert_int_equal(record.tsc, 156);
    assert_int_equal(position, 157);
}

/* One exit in 64 is timed, or each; whoever looks at it as often gets the same answer. */
static void timing(void **state)
{
    unsigned timed = 0;

    (void)state;
    for (unsigned n = 0; n < 10 * TRACE_PERIOD; n++) {
        trace_add(&trace, n, 0, 0, 0);
        if (!trace_is_timed(&trace))
            continue;
        trace_timed(&trace, 7);
        assert_int_equal(n % TRACE_PERIOD, TRACE_PERIOD - 1);
        timed++;
    }
    assert_int_equal(timed, 10);
    trace_time_all(&trace, true);
    timed = 0;
    for (unsigned n = 0; n < 3 * TRACE_PERIOD; n++) {
        trace_add(&trace, n, 0, 0, 0);
        if (!trace_is_timed(&trace))
            continue;
        trace_timed(&trace, 7);
        timed++;
    }
    assert_int_equal(timed, 2 * TRACE_PERIOD + 1); /* the period that was under way ends first */
    trace_reset(&trace);                           /* does not change which are timed */
    assert_int_equal(trace.count, 0);
    assert_true(trace_is_timed(&trace));
    trace_time_all(&trace, false);
    trace_reset(&trace);
    for (unsigned n = 1; n < TRACE_PERIOD; n++)
        assert_false(trace_is_timed(&trace));
    assert_true(trace_is_timed(&trace));
}

/* A duration is that of its own exit, not of another that had the same place. */
static void durations(void **state)
{
    struct trace_record record;
    uint64_t position = TRACE_RECORDS + 3;
    uint32_t duration = 1;

    (void)state;
    for (unsigned n = 0; n < TRACE_RECORDS; n++) {
        trace_add(&trace, n, 0, 0, 0);
        trace_timed(&trace, 100);
    }
    for (unsigned n = 0; n < 10; n++)
        trace_add(&trace, n, 0, 0, 0);
    assert_true(trace_read(&trace, &position, &record, &duration));
    assert_int_equal(record.tsc, 3);
    assert_int_equal(duration, 0);
    position = 20;
    assert_true(trace_read(&trace, &position, &record, &duration));
    assert_int_equal(duration, 100);
}

/* What is kept does not change with the trace that it was taken from. */
static void kept(void **state)
{
    static struct trace copy;
    uint32_t duration;
    uint64_t position = 0;
    struct trace_record record;

    (void)state;
    copy.count = 5;
    trace_keep(&trace, &copy);
    assert_int_equal(copy.count, 0);
    for (unsigned n = 0; n < TRACE_RECORDS + 20; n++) {
        trace_add(&trace, n, 0, 0, 0);
        if (n % 2 == 0)
            trace_timed(&trace, n);
    }
    trace_keep(&trace, &copy);
    for (unsigned n = 0; n < TRACE_RECORDS; n++)
        trace_add(&trace, 1000000, 0, 0, 0);
    for (unsigned n = 21; n < TRACE_RECORDS + 20; n++) {
        assert_true(trace_read(&copy, &position, &record, &duration));
        assert_int_equal(record.tsc, n);
        assert_int_equal(duration, n % 2 == 0 ? n : 0);
    }
    assert_false(trace_read(&copy, &position, &record, &duration));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty, clear),     cmocka_unit_test_setup(order, clear),
        cmocka_unit_test_setup(lines, clear),     cmocka_unit_test_setup(saved, clear),
        cmocka_unit_test_setup(overtaken, clear), cmocka_unit_test_setup(two_processors, clear),
        cmocka_unit_test_setup(timing, clear),    cmocka_unit_test_setup(overwritten, clear),
        cmocka_unit_test_setup(kept, clear),      cmocka_unit_test_setup(durations, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
