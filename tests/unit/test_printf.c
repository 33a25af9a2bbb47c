// SPDX-License-Identifier: BSD-2-Clause
/* lib/printf.c against the C library's own formatter. Fails when any conversion differs in text or length. */
#include "lib/printf.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SAME(format, ...)                                                                                    \
    do {                                                                                                     \
        char ours[64], theirs[64];                                                                           \
        int a = format_text(ours, sizeof(ours), format, __VA_ARGS__);                                        \
        int b = snprintf(theirs, sizeof(theirs), format, __VA_ARGS__);                                       \
        assert_string_equal(ours, theirs);                                                                   \
        assert_int_equal(a, b);                                                                              \
    } while (0)

static void numbers(void **state)
{
    (void)state;
    static const long values[] = {0,     1,          -1,           9,         10,       255, 256,
                                  -4096, 2147483647, -2147483648L, INT64_MAX, INT64_MIN};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        SAME("%ld", values[i]);
        SAME("%lu", (unsigned long)values[i]);
        SAME("%#lx", (unsigned long)values[i]);
        SAME("%016lX", (unsigned long)values[i]);
        SAME("%+30ld|", values[i]);
        SAME("%-30ld|", values[i]);
        SAME("% .25ld", values[i]);
        SAME("%d", (int)values[i]);
        SAME("%hhu", (unsigned char)values[i]);
        SAME("%hx", (unsigned short)values[i]);
        SAME("%zu", (size_t)values[i]);
        SAME("%*d", 12, (int)values[i]);
    }
}

static void texts(void **state)
{
    (void)state;
    SAME("%s|%10s|%-10s|", "a", "bc", "def");
    SAME("%.2s|%.*s|", "abcdef", 3, "abcdef");
    SAME("%c%%%c", 'x', 'y');
    SAME("%p", (void *)0x1234);
}

static void cut(void **state)
{
    (void)state;
    char buffer[4] = "???";

    assert_int_equal(format_text(buffer, sizeof(buffer), "%s", "abcdef"), 6);
    assert_string_equal(buffer, "abc");
    assert_int_equal(format_text(buffer, 0, "%s", "xyz"), 3);
    assert_string_equal(buffer, "abc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(texts),
        cmocka_unit_test(cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
