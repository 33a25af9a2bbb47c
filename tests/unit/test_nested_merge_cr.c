// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/merge_cr.c against seed 004. Figs. 9, 11, 12, 13 and 19 stand here flag by flag, step by step and
 * with the numbers of their steps; the functions must agree with them on every input of a flag, wherever in
 * the register it is, and on random registers under the policies of real processors. Fails when a step goes
 * to another field, takes its value from elsewhere, or is left out.
 */
#include "nested/merge_cr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arch/x86/registers.h"

/* ---- The figures --------------------------------------------------------------------------------------- */

/* One flag of a VMCS: the shadowing enable flag, the shadow data, the guest-operation register value. */
struct flag {
    bool mask, shadow, guest;
};

/* The row of a flag in the register emulation policy table. */
struct row {
    bool shadowing;      /* the emulation policy is "shadowing" */
    bool follows;        /* ours: a held flag whose hypervisor-specific value is what the guest has */
    bool specific_value; /* the hypervisor-specific value otherwise */
};

static bool specific_value(struct row row, bool guest_has)
{
    return row.follows ? guest_has : row.specific_value;
}

/* Fig. 11: from the flag in the Lv1 VMCS to the flag in the Lv0 VMCS. */
static struct flag figure_11(struct row row, struct flag lv1)
{
    struct flag lv0 = {0};

    if (!lv1.mask) {               /* S1005 */
        if (!row.shadowing) {      /* S1010 */
            lv0.mask = false;      /* S1015 */
            lv0.guest = lv1.guest; /* S1020 */
        } else {
            lv0.shadow = lv1.guest;                     /* S1025 */
            lv0.mask = true;                            /* S1030 */
            lv0.guest = specific_value(row, lv1.guest); /* S1035 */
        }
        return lv0;
    }
    lv0.shadow = lv1.shadow;   /* S1040, S1045 */
    lv0.mask = true;           /* S1050 */
    if (!row.shadowing)        /* S1060 */
        lv0.guest = lv1.guest; /* S1065 */
    else
        lv0.guest = specific_value(row, lv1.guest); /* S1070 */
    return lv0;
}

/* Fig. 9, S1310 to S1355: the flag's guest-operation register value in the Lv1 VMCS. */
static bool figure_9(struct row row, struct flag lv1, struct flag lv0)
{
    if (lv1.mask) /* S1320 */
        return lv1.guest;
    if (!row.shadowing)   /* S1330 */
        return lv0.guest; /* S1340 */
    return lv0.shadow;    /* S1350 */
}

/* Fig. 13: the guest writes `written`; a held flag's own value may follow it. */
static struct flag figure_13(struct row row, struct flag lv1, struct flag lv0, bool written)
{
    if (!lv0.mask) {         /* S1510 */
        lv0.guest = written; /* S1520 */
    } else {
        lv0.shadow = written; /* S1530 */
        if (!lv1.mask)
            lv0.guest = specific_value(row, written);
    }
    return lv0;
}

/* Fig. 17: what an instruction reads. */
static bool figure_17(struct flag lv0)
{
    return lv0.mask ? lv0.shadow : lv0.guest; /* S1920, S1940, S1930 */
}

/* ---- A register of one flag, anywhere ------------------------------------------------------------------ */

#define KINDS 6

/* All that a policy can be for a flag; the same as a policy of the register with the flag at `bit`. */
static struct row kind_of(unsigned kind, unsigned bit, struct cr_policy *policy)
{
    static const struct {
        struct row row;
        enum policy policy;
    } kinds[KINDS] = {
        {{false, false, false}, POLICY_THROUGH}, {{true, false, false}, POLICY_SHADOWING},
        {{true, false, true}, POLICY_SHADOWING}, {{true, true, false}, POLICY_INTERCEPT},
        {{true, false, true}, POLICY_INTERCEPT}, {{true, false, false}, POLICY_RESERVED},
    };
    const struct row row = kinds[kind].row;

    *policy = (struct cr_policy){
        .mask = row.shadowing ? BIT(bit) : 0,
        .follow = row.follows ? BIT(bit) : 0,
        .value = row.specific_value ? BIT(bit) : 0,
        .intercept = kinds[kind].policy == POLICY_INTERCEPT ? BIT(bit) : 0,
        .shadowing = kinds[kind].policy == POLICY_SHADOWING ? BIT(bit) : 0,
    };
    return row;
}

static struct nested_cr at(struct flag flag, unsigned bit)
{
    return (struct nested_cr){(uint64_t)flag.mask << bit, (uint64_t)flag.shadow << bit,
                              (uint64_t)flag.guest << bit};
}

static struct flag combination(unsigned n)
{
    return (struct flag){n & 1, n & 2, n & 4};
}

static void assert_same(struct nested_cr a, struct nested_cr b)
{
    assert_int_equal(a.mask, b.mask);
    assert_int_equal(a.shadow, b.shadow);
    assert_int_equal(a.guest, b.guest);
}

static void test_flag_entry(void **state)
{
    struct cr_policy policy;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++)
        for (unsigned kind = 0; kind < KINDS; kind++)
            for (unsigned n = 0; n < 8; n++) {
                const struct row row = kind_of(kind, bit, &policy);
                const struct nested_cr lv1 = at(combination(n), bit);

                assert_same(nested_cr_merge(&policy, &lv1), at(figure_11(row, combination(n)), bit));
            }
}

/* With any flag in the Lv0 VMCS, also one that no merge leaves behind. */
static void test_flag_exit(void **state)
{
    struct cr_policy policy;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++)
        for (unsigned kind = 0; kind < KINDS; kind++)
            for (unsigned n = 0; n < 8; n++)
                for (unsigned m = 0; m < 8; m++) {
                    const struct row row = kind_of(kind, bit, &policy);
                    const struct nested_cr lv1 = at(combination(n), bit), lv0 = at(combination(m), bit);

                    assert_int_equal(nested_cr_return(&policy, &lv1, &lv0),
                                     (uint64_t)figure_9(row, combination(n), combination(m)) << bit);
                }
}

/* After a write of Lv2's that is Lv0's: what Fig. 13 makes of what Fig. 11 made; and it reads as written. */
static void test_flag_write(void **state)
{
    struct cr_policy policy;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++)
        for (unsigned kind = 0; kind < KINDS; kind++)
            for (unsigned n = 0; n < 8; n++)
                for (unsigned written = 0; written < 2; written++) {
                    const struct row row = kind_of(kind, bit, &policy);
                    const struct flag lv1 = combination(n), lv0 = figure_11(row, lv1);
                    const struct flag expected = figure_13(row, lv1, lv0, written);
                    struct nested_cr after = at(lv1, bit);

                    if (lv1.mask && written != lv1.shadow)
                        continue; /* Lv1's exit */
                    after.guest = nested_cr_written(after.mask, after.guest, (uint64_t)written << bit);
                    assert_same(nested_cr_merge(&policy, &after), at(expected, bit));
                    assert_int_equal(figure_17(expected), written);
                    assert_int_equal((after.guest >> bit & 1) != 0, figure_9(row, lv1, expected));
                }
}

/* ---- Whole registers ------------------------------------------------------------------------------------
 */

static uint64_t seed;

static uint64_t random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static struct flag flag_of(const struct nested_cr *cr, unsigned bit)
{
    return (struct flag){cr->mask >> bit & 1, cr->shadow >> bit & 1, cr->guest >> bit & 1};
}

static struct row row_of(const struct cr_policy *policy, unsigned bit)
{
    return (struct row){policy->mask >> bit & 1, policy->follow >> bit & 1, policy->value >> bit & 1};
}

static void check_register(const struct cr_policy *policy)
{
    const struct nested_cr lv1 = {random64() & random64(), random64(), random64()};
    const struct nested_cr lv0 = nested_cr_merge(policy, &lv1);
    const struct nested_cr any = {random64(), random64(), random64()};
    const uint64_t operand = (random64() & ~lv1.mask) | (lv1.shadow & lv1.mask);
    struct nested_cr written = lv1;

    written.guest = nested_cr_written(lv1.mask, lv1.guest, operand);
    const struct nested_cr after = nested_cr_merge(policy, &written);
    const uint64_t returned = nested_cr_return(policy, &lv1, &any);

    for (unsigned bit = 0; bit < 64; bit++) {
        const struct row row = row_of(policy, bit);
        const struct flag flag1 = flag_of(&lv1, bit), merged = figure_11(row, flag1);
        const struct flag update = figure_13(row, flag1, merged, operand >> bit & 1);
        const struct flag flag0 = flag_of(&lv0, bit), flag2 = flag_of(&after, bit);

        assert_memory_equal(&flag0, &merged, sizeof(merged));
        assert_memory_equal(&flag2, &update, sizeof(update));
        assert_int_equal(returned >> bit & 1, figure_9(row, flag1, flag_of(&any, bit)));
    }
    assert_int_equal(policy_cr_guest(after.guest, after.shadow, after.mask), operand);
}

static void test_registers(void **state)
{
    (void)state;
    seed = 0x2545f4914f6cdd1d;
    for (unsigned n = 0; n < 2000; n++) {
        struct cr_policy policy = {.mask = random64()};

        policy.follow = random64() & random64() & policy.mask;
        policy.value = random64() & policy.mask & ~policy.follow;
        check_register(&policy);
    }
}

/* The three instances, without overrides and with all. */
static void test_instances(void **state)
{
    static const struct policy_overrides overrides[] = {
        {.cr0 = 0},
        {.cr0 = X86_CR0_TS | X86_CR0_MP | X86_CR0_EM | X86_CR0_WP | X86_CR0_AM,
         .cr4 = X86_CR4_PGE | X86_CR4_PSE},
    };

    (void)state;
    seed = 0x9e3779b97f4a7c15;
    for (unsigned instance = 0; instance < CR_INSTANCES; instance++)
        for (unsigned i = 0; i < ARRAY_SIZE(overrides); i++) {
            const struct register_policy_settings settings = {
                .instance = (enum cr_instance)instance,
                .overrides = overrides[i],
                .cr0_fixed0 = 0x80000021,
                .cr0_fixed1 = 0xffffffff,
                .cr4_fixed0 = X86_CR4_VMXE,
                .cr4_fixed1 = 0x3727ff,
                .cr4_offered = 0x3727ff,
            };
            struct register_policy policy;

            assert_int_equal(policy_cr_derive(&policy, &settings, NULL), 0);
            for (unsigned n = 0; n < 500; n++) {
                check_register(&policy.cr0);
                check_register(&policy.cr4);
            }
        }
}

/* An Lv2 whose Lv1 masks nothing keeps what its own policy leaves through: no exit for it. */
static void test_object(void **state)
{
    const struct register_policy_settings settings = {
        .instance = CR_INSTANCE_UNRESTRICTED,
        .cr0_fixed0 = 0x80000021,
        .cr0_fixed1 = 0xffffffff,
        .cr4_fixed0 = X86_CR4_VMXE,
        .cr4_fixed1 = 0x3727ff,
        .cr4_offered = 0x3727ff,
    };
    const uint64_t toggled0 = X86_CR0_TS | X86_CR0_MP | X86_CR0_EM, toggled4 = X86_CR4_PGE;
    const struct nested_cr nothing = {.guest = 0x80000031};
    struct register_policy policy;

    (void)state;
    assert_int_equal(policy_cr_derive(&policy, &settings, NULL), 0);
    assert_int_equal(nested_cr_merge(&policy.cr0, &nothing).mask & toggled0, 0);
    assert_int_equal(nested_cr_merge(&policy.cr4, &nothing).mask & toggled4, 0);
}

/* ---- The TPR --------------------------------------------------------------------------------------------
 */

/* The TPR's part of a VMCS: intercept setting (440, 540), shadowing setting (4301, 5301; 4303, 5303). */
struct tpr_setting {
    bool load_exiting, store_exiting, use_tpr_shadow;
    enum nested_tpr_page page;
};

/* Fig. 12. */
static struct tpr_setting figure_12(struct tpr_setting lv1)
{
    struct tpr_setting lv0 = {0};

    lv0.load_exiting = lv1.load_exiting;   /* S1100 */
    lv0.store_exiting = lv1.store_exiting; /* S1110 */
    if (!lv1.use_tpr_shadow) {             /* S1120 */
        lv0.use_tpr_shadow = true;         /* S1130 */
        lv0.page = NESTED_TPR_PAGE_LV0;    /* S1140: the logical TPR */
    } else {
        lv0.use_tpr_shadow = true;      /* S1150 */
        lv0.page = NESTED_TPR_PAGE_LV1; /* S1160 to S1180: Lv1's, converted */
    }
    return lv0;
}

/*
 * Fig. 19, with the errata: what it sets is in the Lv0 VMCS. S2110 to S2120 convert a page that without the
 * shadow nobody uses, and that Lv1 need not have: there is none.
 */
static struct tpr_setting figure_19(struct tpr_setting lv1)
{
    struct tpr_setting lv0 = {0};

    if (!lv1.use_tpr_shadow) {      /* S2100 */
        lv0.use_tpr_shadow = false; /* S2105 */
        lv0.page = NESTED_TPR_PAGE_NONE;
        lv0.load_exiting = true;  /* S2125 */
        lv0.store_exiting = true; /* S2130 */
    } else {
        lv0.use_tpr_shadow = true;             /* S2135 */
        lv0.page = NESTED_TPR_PAGE_LV1;        /* S2140 to S2150 */
        lv0.load_exiting = lv1.load_exiting;   /* S2155 */
        lv0.store_exiting = lv1.store_exiting; /* S2160 */
    }
    return lv0;
}

static uint32_t tpr_controls(struct tpr_setting setting)
{
    return (setting.load_exiting ? VMX_PRIMARY_CR8_LOAD_EXITING : 0) |
           (setting.store_exiting ? VMX_PRIMARY_CR8_STORE_EXITING : 0) |
           (setting.use_tpr_shadow ? VMX_PRIMARY_TPR_SHADOW : 0);
}

static void test_tpr(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 8; n++)
        for (uint8_t threshold = 0; threshold < 16; threshold++)
            for (uint8_t own = 0; own < 16; own++)
                for (unsigned second = 0; second < 2; second++) {
                    const struct tpr_setting lv1 = {n & 1, n & 2, n & 4, NESTED_TPR_PAGE_LV1};
                    const struct tpr_setting lv0 = second ? figure_19(lv1) : figure_12(lv1);
                    const struct nested_tpr vmcs12 = {tpr_controls(lv1), threshold};
                    enum nested_tpr_page page;
                    const struct nested_tpr tpr =
                        nested_tpr_merge(second ? POLICY_INTERCEPT : POLICY_SHADOWING, &vmcs12, own, &page);

                    assert_int_equal(tpr.controls, tpr_controls(lv0));
                    assert_int_equal(page, lv0.page);
                    /* Whose page it is, is whose threshold it is. */
                    assert_int_equal(tpr.threshold, page == NESTED_TPR_PAGE_LV1   ? threshold
                                                    : page == NESTED_TPR_PAGE_LV0 ? own
                                                                                  : 0);
                }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flag_entry), cmocka_unit_test(test_flag_exit),
        cmocka_unit_test(test_flag_write), cmocka_unit_test(test_registers),
        cmocka_unit_test(test_instances),  cmocka_unit_test(test_object),
        cmocka_unit_test(test_tpr),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
