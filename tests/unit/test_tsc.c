// SPDX-License-Identifier: BSD-2-Clause
/* vmx/tsc.h: scaling by known values, its inverse, and that neither ever goes back. */
#include "vmx/tsc.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const uint64_t rates[] = {1, 1000, 100000000, 2095123457, 2400000000, 3500000000, 9000000000};

/* Fails when the fixed point is elsewhere, or rounding is not to the nearest. */
static void multipliers(void **state)
{
    (void)state;
    assert_true(tsc_multiplier(3500000000, 3500000000) == TSC_MULTIPLIER_ONE);
    assert_true(tsc_multiplier(7000000000, 3500000000) == 2 * TSC_MULTIPLIER_ONE);
    assert_true(tsc_multiplier(1, 2) == TSC_MULTIPLIER_ONE / 2);
    assert_true(tsc_multiplier(1, 3) == 0x555555555555);
    assert_true(tsc_multiplier(2, 3) == 0xaaaaaaaaaaab);
    assert_true(tsc_multiplier(65535, 1) == 0xffff000000000000);
    assert_true(tsc_multiplier(65536, 1) == 0);
    assert_true(tsc_multiplier(UINT64_MAX, 1) == 0);
    assert_true(tsc_multiplier(UINT64_MAX, UINT64_MAX) == TSC_MULTIPLIER_ONE);
    assert_true(tsc_multiplier(1, 0) == 0);
    assert_true(tsc_multiplier(0, 1) == 0);
}

/* Fails when a product is cut to 64 bits, or a second is not a second by the guest's clock. */
static void scaling(void **state)
{
    (void)state;
    assert_true(tsc_scale(UINT64_MAX, TSC_MULTIPLIER_ONE) == UINT64_MAX);
    assert_true(tsc_scale(UINT64_MAX, TSC_MULTIPLIER_ONE / 2) == UINT64_MAX / 2);
    assert_true(tsc_scale(3, TSC_MULTIPLIER_ONE / 2) == 1);
    assert_true(tsc_scale(UINT64_MAX, 2 * TSC_MULTIPLIER_ONE) == UINT64_MAX - 1); /* modulo 2^64 */
    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(rates); j++) {
            uint64_t multiplier = tsc_multiplier(rates[i], rates[j]);
            uint64_t scaled = tsc_scale(rates[j], multiplier);

            if (multiplier == 0)
                continue;
            assert_true(scaled <= rates[i] + 1 && scaled + 1 + (rates[j] >> 48) >= rates[i]);
        }
    }
}

/* Fails when time stands still for more than its ratio, goes back, or the inverse wakes too early or too
 * late. */
static void monotony(void **state)
{
    (void)state;
    static const uint64_t starts[] = {0, 1, 12345, BIT(32) - 50, BIT(48) - 50, 123456789012345678};

    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(rates); j++) {
            uint64_t multiplier = tsc_multiplier(rates[i], rates[j]);

            for (size_t k = 0; multiplier != 0 && k < ARRAY_SIZE(starts); k++) {
                if ((unsigned __int128)starts[k] * multiplier >> 112 != 0)
                    continue; /* the guest's TSC would wrap */
                for (uint64_t tsc = starts[k]; tsc < starts[k] + 100; tsc++) {
                    uint64_t scaled = tsc_scale(tsc, multiplier);
                    uint64_t step = tsc_scale(tsc + 1, multiplier) - scaled;
                    uint64_t first = tsc_unscale(scaled, multiplier);

                    assert_true(step == multiplier >> 48 || step == (multiplier >> 48) + 1);
                    assert_true(first <= tsc && tsc_scale(first, multiplier) == scaled);
                    assert_true(first == 0 || tsc_scale(first - 1, multiplier) < scaled);
                }
            }
        }
    }
    assert_true(tsc_unscale(UINT64_MAX, TSC_MULTIPLIER_ONE) == UINT64_MAX);
    assert_true(tsc_unscale(UINT64_MAX, TSC_MULTIPLIER_ONE - 1) == UINT64_MAX);
    assert_true(tsc_unscale(UINT64_MAX, 1) == UINT64_MAX);
    assert_true(tsc_unscale(1, 0) == UINT64_MAX);
    assert_true(tsc_unscale(0, 0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multipliers),
        cmocka_unit_test(scaling),
        cmocka_unit_test(monotony),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
