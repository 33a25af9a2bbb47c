// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/policy_keys.c. Fails when a row that may be overridden has no key or another name than its own, when a
 * key is there that is no such row's, when a key's value does not override its row and nothing else, and when
 * a register's policy does not follow.
 */
#include "core/policy_keys.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/registers.h"

static uint8_t policies[CONFIG_POLICIES_MAX];

/* The key of a row: its name in lower case; -1 if there is none. */
static int find_key(const char *row)
{
    for (int i = 0; core_policy_keys[i].name != NULL; i++) {
        const char *name = core_policy_keys[i].name;
        size_t length = strlen(name), at = 0;

        while (at < length && tolower((unsigned char)row[at]) == name[at])
            at++;
        if (at == length && row[at] == '\0')
            return i;
    }
    return -1;
}

static void every_row(void **state)
{
    bool used[CORE_POLICIES_COUNT] = {false};
    size_t count;
    const struct cr_policy_row *rows = policy_cr_rows(&count);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        const int key = find_key(rows[i].name);
        struct policy_overrides overrides, expected = {0};

        assert_int_equal(key >= 0, rows[i].may_override);
        if (key < 0)
            continue;
        used[key] = true;
        assert_string_equal(core_policy_keys[key].values[1], "intercept");
        assert_null(core_policy_keys[key].values[2]);
        memset(policies, 0, sizeof(policies));
        policies[key] = 1;
        memset(&overrides, 0xff, sizeof(overrides));
        core_policy_overrides(policies, &overrides);
        expected.cr0 = rows[i].reg == POLICY_CR0 ? BIT(rows[i].bit) : 0;
        expected.cr4 = rows[i].reg == POLICY_CR4 ? BIT(rows[i].bit) : 0;
        expected.cr3 = rows[i].reg == POLICY_CR3;
        expected.tpr = rows[i].reg == POLICY_TPR;
        assert_int_equal(overrides.cr0, expected.cr0);
        assert_int_equal(overrides.cr4, expected.cr4);
        assert_int_equal(overrides.cr3, expected.cr3);
        assert_int_equal(overrides.tpr, expected.tpr);
    }
    for (unsigned i = 0; i < CORE_POLICIES_COUNT; i++)
        if (!used[i])
            fail_msg("the key %s is no row's", core_policy_keys[i].name);
    assert_null(core_policy_keys[CORE_POLICIES_COUNT].name);
}

/* All at once: what was through is an intercept then, and what Umbra holds for itself stays as it was. */
static void all_of_them(void **state)
{
    struct register_policy_settings settings = {
        .cr0_fixed0 = 0x80000021,
        .cr0_fixed1 = 0xffffffff,
        .cr4_fixed0 = X86_CR4_VMXE,
        .cr4_fixed1 = 0x7fffff,
        .cr4_offered = 0x7727ff,
        .efer_offered = X86_EFER_LME,
    };

    (void)state;
    for (unsigned instance = 0; instance < CR_INSTANCES; instance++) {
        struct register_policy before, after;

        settings.instance = instance;
        memset(policies, 0, sizeof(policies));
        core_policy_overrides(policies, &settings.overrides);
        assert_int_equal(policy_cr_derive(&before, &settings, NULL), 0);
        memset(policies, 1, sizeof(policies));
        core_policy_overrides(policies, &settings.overrides);
        assert_int_equal(policy_cr_derive(&after, &settings, NULL), 0);
        assert_int_equal(after.tpr, POLICY_INTERCEPT);
        assert_int_equal(after.cr3, POLICY_INTERCEPT);
        assert_int_equal(after.cr0.intercept & settings.overrides.cr0,
                         settings.overrides.cr0 & ~before.cr0.shadowing);
        assert_int_equal(after.cr4.intercept & settings.overrides.cr4,
                         settings.overrides.cr4 & ~before.cr4.shadowing);
        assert_int_equal(after.cr0.shadowing, before.cr0.shadowing);
        assert_int_equal(after.cr4.shadowing, before.cr4.shadowing);
        assert_int_equal(after.cr0.allowed, before.cr0.allowed);
        assert_int_equal(after.cr4.allowed, before.cr4.allowed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(all_of_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
