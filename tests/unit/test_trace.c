// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/trace.c: fails when a record is lost or out of order before or after the ring has gone round, or when
 * a line says something else than was recorded.
 */
#include "core/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct trace trace;

static int clear(void **state)
{
    (void)state;
    memset(&trace, 0, sizeof(trace));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty, clear),
        cmocka_unit_test_setup(order, clear),
        cmocka_unit_test_setup(lines, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
