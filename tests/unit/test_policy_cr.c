// SPDX-License-Identifier: BSD-2-Clause
/*
 * vmx/policy_cr.c against seed 004: its Fig. 4 as printed, and one-bit transcriptions of Figs. 11, 13, 17 and
 * 18 that are run beside it. Fails when a row differs from the figure, when mask, hardware value, read shadow
 * or guest value of any bit differs from the figures', or when a write faults where the SDM's rules say
 * otherwise.
 */
#include "vmx/policy_cr.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/registers.h"

/* ---- Fig. 4 ---------------------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    char policy; /* t, i, s */
    int value;   /* -1: none */
} figure_4[] = {
    {"CR0.PE", 's', 1},        {"CR0.MP", 't', -1},  {"CR0.EM", 't', -1},      {"CR0.TS", 't', -1},
    {"CR0.ET", 't', -1},       {"CR0.NE", 's', 1},   {"CR0.WP", 't', -1},      {"CR0.AM", 't', -1},
    {"CR0.NW", 's', 0},        {"CR0.CD", 's', 0},   {"CR0.PG", 's', 1},       {"CR2", 't', -1},
    {"CR3", 't', -1},          {"CR4.VME", 't', -1}, {"CR4.PVI", 't', -1},     {"CR4.TSD", 't', -1},
    {"CR4.DE", 't', -1},       {"CR4.PSE", 't', -1}, {"CR4.PAE", 't', -1},     {"CR4.MCE", 's', 1},
    {"CR4.PGE", 't', -1},      {"CR4.PCE", 't', -1}, {"CR4.OSFXSR", 't', -1},  {"CR4.OSXMMEXCPT", 't', -1},
    {"CR4.VMXE", 's', 1},      {"CR4.SMXE", 's', 1}, {"CR4.OSXSAVE", 't', -1}, {"TPR", 's', 0},
    {"VMCS pointer", 'i', -1},
};

static const struct cr_policy_row *row_named(const char *name)
{
    size_t count;
    const struct cr_policy_row *rows = policy_cr_rows(&count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    fail_msg("no row %s", name);
    return NULL;
}

static void as_printed(void **state)
{
    (void)state;
    static const char letters[] = "tisr";

    for (size_t i = 0; i < ARRAY_SIZE(figure_4); i++) {
        const struct cr_policy_row *row = row_named(figure_4[i].name);

        if (letters[row->instance[CR_INSTANCE_RESTRICTED].policy] != figure_4[i].policy)
            fail_msg("%s", row->name);
        if (figure_4[i].value >= 0)
            assert_int_equal(row->instance[CR_INSTANCE_RESTRICTED].value, figure_4[i].value);
    }
}

/* The other two instances, where they differ from the figure, and nowhere else. */
static void other_instances(void **state)
{
    (void)state;
    static const struct {
        enum cr_instance instance;
        const char *name;
        enum policy policy;
        enum cr_value value;
    } different[] = {
        {CR_INSTANCE_UNRESTRICTED, "CR0.PE", POLICY_THROUGH, CR_VALUE_GUEST},
        {CR_INSTANCE_UNRESTRICTED, "CR0.PG", POLICY_INTERCEPT, CR_VALUE_GUEST},
        {CR_INSTANCE_SHADOW, "CR0.WP", POLICY_SHADOWING, CR_VALUE_1},
        {CR_INSTANCE_SHADOW, "CR3", POLICY_INTERCEPT, CR_VALUE_GUEST},
        {CR_INSTANCE_SHADOW, "CR4.PSE", POLICY_SHADOWING, CR_VALUE_0},
        {CR_INSTANCE_SHADOW, "CR4.PAE", POLICY_SHADOWING, CR_VALUE_1},
        {CR_INSTANCE_SHADOW, "CR4.PGE", POLICY_SHADOWING, CR_VALUE_0},
        {CR_INSTANCE_SHADOW, "CR4.PCIDE", POLICY_SHADOWING, CR_VALUE_0},
        {CR_INSTANCE_SHADOW, "CR4.LA57", POLICY_INTERCEPT, CR_VALUE_GUEST},
        {CR_INSTANCE_SHADOW, "CR4.SMEP", POLICY_INTERCEPT, CR_VALUE_GUEST},
        {CR_INSTANCE_SHADOW, "CR4.SMAP", POLICY_INTERCEPT, CR_VALUE_GUEST},
        {CR_INSTANCE_SHADOW, "CR4.PKE", POLICY_INTERCEPT, CR_VALUE_GUEST},
    };
    size_t count;
    const struct cr_policy_row *rows = policy_cr_rows(&count);

    for (size_t i = 0; i < count; i++) {
        for (unsigned instance = 0; instance < CR_INSTANCES; instance++) {
            enum policy policy = rows[i].instance[CR_INSTANCE_RESTRICTED].policy;
            enum cr_value value = rows[i].instance[CR_INSTANCE_RESTRICTED].value;

            for (size_t j = 0; j < ARRAY_SIZE(different); j++) {
                if (different[j].instance == instance && strcmp(different[j].name, rows[i].name) == 0) {
                    policy = different[j].policy;
                    value = different[j].value;
                }
            }
            if (rows[i].instance[instance].policy != policy || rows[i].instance[instance].value != value)
                fail_msg("%s in instance %u", rows[i].name, instance);
            assert_true(strlen(rows[i].reason) > 0);
        }
    }
}

/* The monitor lists what the table has: each flag that the architecture defines beside those of the figure.
 */
static void newer_flags(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t bit;
        enum policy policy;
    } newer[] = {
        {"CR4.UMIP", X86_CR4_UMIP, POLICY_THROUGH},
        {"CR4.LA57", X86_CR4_LA57, POLICY_THROUGH},
        {"CR4.FSGSBASE", X86_CR4_FSGSBASE, POLICY_THROUGH},
        {"CR4.PCIDE", X86_CR4_PCIDE, POLICY_THROUGH},
        {"CR4.KL", X86_CR4_KL, POLICY_RESERVED},
        {"CR4.SMEP", X86_CR4_SMEP, POLICY_THROUGH},
        {"CR4.SMAP", X86_CR4_SMAP, POLICY_THROUGH},
        {"CR4.PKE", X86_CR4_PKE, POLICY_THROUGH},
        {"CR4.CET", X86_CR4_CET, POLICY_RESERVED},
        {"CR4.PKS", X86_CR4_PKS, POLICY_RESERVED},
        {"CR4.UINTR", X86_CR4_UINTR, POLICY_RESERVED},
        {"CR4.LASS", X86_CR4_LASS, POLICY_RESERVED},
        {"CR4.LAM_SUP", X86_CR4_LAM_SUP, POLICY_RESERVED},
    };

    for (size_t i = 0; i < ARRAY_SIZE(newer); i++) {
        const struct cr_policy_row *row = row_named(newer[i].name);

        assert_int_equal(BIT(row->bit), newer[i].bit);
        assert_int_equal(row->instance[CR_INSTANCE_RESTRICTED].policy, newer[i].policy);
    }
}

/* ---- The figures, a bit at a time ------------------------------------------------------------------------
 */

/* One flag of a register: in the hardware's register, in the read shadow, and in the guest/host mask. */
struct flag {
    bool hardware, shadow, mask;
};

/* Fig. 11 with an Lv1 that masks nothing (S1005 "no"); `follow` is the intercept that keeps the guest's
 * value. */
static struct flag figure_11(enum policy policy, bool hypervisor, bool follow, bool guest)
{
    struct flag flag;

    if (policy == POLICY_THROUGH) { /* S1010 no */
        flag.mask = false;          /* S1015 */
        flag.hardware = guest;      /* S1020 */
        flag.shadow = false;
    } else {                                         /* S1010 yes */
        flag.shadow = guest;                         /* S1025 */
        flag.mask = true;                            /* S1030 */
        flag.hardware = follow ? guest : hypervisor; /* S1035 */
    }
    return flag;
}

/* Fig. 17. */
static bool figure_17(struct flag flag)
{
    return flag.mask ? flag.shadow /* S1940 */ : flag.hardware /* S1930 */;
}

/* Fig. 18: true if the write exits; else the hardware's flag is written. */
static bool figure_18(struct flag *flag, bool value)
{
    if (flag->mask) {              /* S2020 yes */
        if (value != flag->shadow) /* S2030 no */
            return true;           /* S2060 */
        return false;              /* S2050: the flag keeps its value */
    }
    flag->hardware = value; /* S2040 */
    return false;
}

/* Fig. 13. */
static void figure_13(struct flag *flag, bool value, bool follow)
{
    if (!flag->mask)            /* S1510 no */
        flag->hardware = value; /* S1520 */
    else                        /* S1510 yes */
        flag->shadow = value;   /* S1530 */
    if (flag->mask && follow)
        flag->hardware = value;
}

#define CR4_OFFERED                                                                                          \
    (X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE |        \
     X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_FSGSBASE |     \
     X86_CR4_PCIDE | X86_CR4_OSXSAVE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE | X86_CR4_LA57)

static const struct register_policy_settings settings = {
    .cr0_fixed0 = 0x80000021,
    .cr0_fixed1 = 0xffffffff,
    .cr4_fixed0 = X86_CR4_VMXE,
    .cr4_fixed1 = CR4_OFFERED | X86_CR4_VMXE | X86_CR4_SMXE,
    .cr4_offered = CR4_OFFERED,
    .efer_offered = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE,
};

static struct register_policy derive(enum cr_instance instance, uint64_t cr0_overrides,
                                     uint64_t cr4_overrides)
{
    struct register_policy_settings s = settings;
    struct register_policy policy;
    const char *row = NULL;

    s.instance = instance;
    s.overrides.cr0 = cr0_overrides;
    s.overrides.cr4 = cr4_overrides;
    if (policy_cr_derive(&policy, &s, &row) != 0)
        fail_msg("instance %u: %s", instance, row);
    return policy;
}

static const struct cr_policy *cr_policy(const struct register_policy *policy, enum policy_register reg)
{
    return reg == POLICY_CR0 ? &policy->cr0 : &policy->cr4;
}

/* By the rows' places: a write went by without Umbra; one came to it, or was refused. */
static bool passed[64], stopped[64];

/* A flag under `policy`, where it is of the kind `kind`: every guest value, and every value written to it. */
static void check_flag(size_t i, const struct cr_policy_row *row, enum cr_instance instance,
                       const struct register_policy *policy, enum policy kind)
{
    const struct cr_policy *cr = cr_policy(policy, row->reg);
    const uint64_t bit = BIT(row->bit);
    const bool is_offered = row->reg == POLICY_CR0 || (CR4_OFFERED & bit) != 0;
    const bool follow = row->instance[instance].value == CR_VALUE_GUEST;

    assert_int_equal((cr->allowed & bit) != 0, is_offered);
    if (!is_offered) {
        struct cr_state guest = {.cr0 = X86_CR0_PE};
        unsigned effects;

        assert_int_equal(policy_cr4_write(policy, &guest, bit, &effects), CR_GP);
        stopped[i] = true;
        if (kind == POLICY_THROUGH)
            kind = POLICY_RESERVED;
    }
    for (unsigned n = 0; n < 4; n++) {
        bool guest = n & 1, written = n & 2;
        struct flag flag;

        if (!is_offered && (guest || written))
            continue; /* a flag that cannot be 1 */
        flag = figure_11(kind, row->instance[instance].value == CR_VALUE_1, follow, guest);
        assert_int_equal((policy_cr_mask(cr) & bit) != 0, flag.mask);
        assert_int_equal((policy_cr_hardware(cr, guest ? bit : 0) & bit) != 0, flag.hardware);
        assert_int_equal((policy_cr_shadow(cr, guest ? bit : 0) & bit) != 0, flag.shadow);
        assert_int_equal(figure_17(flag), guest);

        if (figure_18(&flag, written)) {
            figure_13(&flag, written, follow);
            stopped[i] = true;
        } else {
            passed[i] = true;
        }
        assert_int_equal((policy_cr_hardware(cr, written ? bit : 0) & bit) != 0, flag.hardware);
        assert_int_equal((policy_cr_shadow(cr, written ? bit : 0) & bit) != 0, flag.shadow);
        assert_int_equal(figure_17(flag), written);
    }
}

/* Every flag of every instance, also overridden where it may be. */
static void each_flag(void **state)
{
    (void)state;
    size_t count;
    const struct cr_policy_row *rows = policy_cr_rows(&count);

    assert_true(count <= ARRAY_SIZE(passed));
    for (unsigned instance = 0; instance < CR_INSTANCES; instance++)
        for (size_t i = 0; i < count; i++) {
            enum policy kind = rows[i].instance[instance].policy;
            struct register_policy policy = derive(instance, 0, 0);

            if (rows[i].reg != POLICY_CR0 && rows[i].reg != POLICY_CR4)
                continue;
            check_flag(i, &rows[i], instance, &policy, kind);
            if (!rows[i].may_override)
                continue;
            policy = derive(instance, rows[i].reg == POLICY_CR0 ? BIT(rows[i].bit) : 0,
                            rows[i].reg == POLICY_CR4 ? BIT(rows[i].bit) : 0);
            check_flag(i, &rows[i], instance, &policy, kind == POLICY_THROUGH ? POLICY_INTERCEPT : kind);
        }
}

static uint64_t random_64(void)
{
    return (uint64_t)(uint32_t)mrand48() << 32 | (uint32_t)mrand48();
}

/* Whole registers, many writes one after the other, also with overrides: the 64 flags of the model stay in
 * step. */
static void random_registers(void **state)
{
    (void)state;
    static const uint64_t cr0_values =
        X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_WP | X86_CR0_AM | X86_CR0_PE | X86_CR0_CD;
    srand48(4);
    for (unsigned round = 0; round < 300; round++) {
        enum cr_instance instance = round % CR_INSTANCES;
        struct register_policy policy =
            derive(instance, random_64() & (X86_CR0_TS | X86_CR0_MP | X86_CR0_EM | X86_CR0_WP | X86_CR0_AM),
                   random_64() & (X86_CR4_PGE | X86_CR4_PAE | X86_CR4_TSD | X86_CR4_SMEP | X86_CR4_OSXSAVE));
        const struct cr_policy *crs[2] = {&policy.cr0, &policy.cr4};

        for (unsigned which = 0; which < 2; which++) {
            const struct cr_policy *cr = crs[which];
            struct cr_state guest = {.cr0 = X86_CR0_ET};
            uint64_t *reg = which == 0 ? &guest.cr0 : &guest.cr4;
            struct flag flags[64];

            for (unsigned b = 0; b < 64; b++)
                flags[b] = (struct flag){.mask = cr->mask >> b & 1,
                                         .shadow = policy_cr_shadow(cr, *reg) >> b & 1,
                                         .hardware = policy_cr_hardware(cr, *reg) >> b & 1};
            for (unsigned n = 0; n < 100; n++) {
                uint64_t value = which == 0 ? (random_64() & cr0_values) | X86_CR0_ET
                                            : random_64() & CR4_OFFERED & ~X86_CR4_PCIDE;
                uint64_t hardware = 0, shadow = 0;
                unsigned effects;
                bool exits = false;

                for (unsigned b = 0; b < 64; b++) {
                    struct flag before = flags[b];

                    exits |= figure_18(&before, value >> b & 1);
                }
                for (unsigned b = 0; b < 64; b++) {
                    if (exits)
                        figure_13(&flags[b], value >> b & 1, cr->follow >> b & 1);
                    else
                        figure_18(&flags[b], value >> b & 1);
                    hardware |= (uint64_t)flags[b].hardware << b;
                    shadow |= (uint64_t)flags[b].shadow << b;
                }
                if (which == 0)
                    assert_int_equal(policy_cr0_write(&policy, &guest, value, &effects), CR_DONE);
                else
                    assert_int_equal(policy_cr4_write(&policy, &guest, value, &effects), CR_DONE);
                assert_int_equal(*reg, value);
                assert_int_equal(policy_cr_hardware(cr, *reg), hardware);
                assert_int_equal(policy_cr_shadow(cr, *reg), shadow);
                assert_int_equal(policy_cr_guest(hardware, shadow, cr->mask), value);
            }
        }
    }
}

/* ---- Fixed bits, overrides -------------------------------------------------------------------------------
 */

static void fixed_bits(void **state)
{
    (void)state;
    struct register_policy_settings s = settings;
    struct register_policy policy;
    const char *row = NULL;

    for (unsigned instance = 0; instance < CR_INSTANCES; instance++) {
        uint64_t must = instance == CR_INSTANCE_UNRESTRICTED ? X86_CR0_NE : settings.cr0_fixed0;

        policy = derive(instance, 0, 0);
        for (unsigned n = 0; n < 1000; n++) {
            uint64_t guest = random_64();
            uint64_t cr0 = policy_cr_hardware(&policy.cr0, guest & policy.cr0.allowed);
            uint64_t cr4 = policy_cr_hardware(&policy.cr4, guest & policy.cr4.allowed);

            assert_int_equal(must & ~cr0, 0);
            assert_int_equal(cr0 & ~settings.cr0_fixed1, 0);
            assert_int_equal(settings.cr4_fixed0 & ~cr4, 0);
            assert_int_equal(cr4 & ~settings.cr4_fixed1, 0);
        }
    }

    /* SMXE is held 1 only where the processor has SMX; a guest never has it. */
    s.cr4_fixed1 &= ~X86_CR4_SMXE;
    assert_int_equal(policy_cr_derive(&policy, &s, &row), 0);
    assert_int_equal(policy_cr_hardware(&policy.cr4, 0), X86_CR4_VMXE | X86_CR4_MCE);
    s.cr4_fixed1 |= X86_CR4_SMXE;
    assert_int_equal(policy_cr_derive(&policy, &s, &row), 0);
    assert_int_equal(policy_cr_hardware(&policy.cr4, 0), X86_CR4_VMXE | X86_CR4_SMXE | X86_CR4_MCE);

    /* A processor that fixes a bit that is through: held, and a guest still has its own. */
    s.cr4_fixed0 |= X86_CR4_DE;
    assert_int_equal(policy_cr_derive(&policy, &s, &row), 0);
    assert_true(policy.cr4.mask & policy.cr4.shadowing & policy.cr4.allowed & X86_CR4_DE);
    assert_true(policy_cr_hardware(&policy.cr4, 0) & X86_CR4_DE);
    s.cr4_fixed0 |= BIT(40);
    assert_int_equal(policy_cr_derive(&policy, &s, &row), 0);
    assert_true(policy_cr_hardware(&policy.cr4, 0) & policy.cr4.mask & BIT(40));
    assert_false(policy.cr4.allowed & BIT(40));

    /* One that cannot set what is through: not there for a guest. */
    s.cr4_fixed1 &= ~X86_CR4_UMIP;
    assert_int_equal(policy_cr_derive(&policy, &s, &row), 0);
    assert_false(policy.cr4.allowed & X86_CR4_UMIP);
    assert_false(policy_cr_hardware(&policy.cr4, X86_CR4_UMIP) & X86_CR4_UMIP);

    /* One that wants what the table holds at 0. */
    s.cr0_fixed0 |= X86_CR0_CD;
    assert_int_equal(policy_cr_derive(&policy, &s, &row), -EOPNOTSUPP);
    assert_string_equal(row, "CR0.CD");
}

/* Fails when the hardware lets a guest have what its CPUID does not offer. */
static void not_offered(void **state)
{
    (void)state;
    size_t count;
    const struct cr_policy_row *rows = policy_cr_rows(&count);

    for (unsigned instance = 0; instance < CR_INSTANCES; instance++) {
        for (size_t i = 0; i < count; i++) {
            struct register_policy_settings s = settings;
            const uint64_t bit = rows[i].bit < 64 ? BIT(rows[i].bit) : 0;
            struct register_policy policy;

            if (rows[i].reg != POLICY_CR4)
                continue;
            s.instance = instance;
            s.cr4_offered &= ~bit;
            assert_int_equal(policy_cr_derive(&policy, &s, NULL), 0);
            assert_int_equal(policy.cr4.allowed & bit, 0);
            assert_int_equal(policy.cr4.mask & bit, bit);
            assert_int_equal(policy.cr4.follow & bit, 0);
            assert_int_equal(policy_cr_hardware(&policy.cr4, bit) & bit, policy.cr4.value & bit);
        }
    }
    const struct register_policy policy = derive(CR_INSTANCE_RESTRICTED, 0, 0);
    assert_int_equal(policy.cr0.fixed, X86_CR0_ET);
    assert_int_equal(policy.cr0.fixed & ~policy.cr0.ignored, 0); /* what is fixed cannot be written */
}

static void overrides(void **state)
{
    (void)state;
    size_t count;
    const struct cr_policy_row *rows = policy_cr_rows(&count);

    for (size_t i = 0; i < count; i++) {
        for (unsigned instance = 0; instance < CR_INSTANCES; instance++) {
            struct register_policy_settings s = settings;
            struct register_policy policy;
            const char *row = NULL;
            uint64_t bit = rows[i].bit < 64 ? BIT(rows[i].bit) : 0;

            s.instance = instance;
            switch (rows[i].reg) {
            case POLICY_CR0:
                s.overrides.cr0 = bit;
                break;
            case POLICY_CR4:
                s.overrides.cr4 = bit;
                break;
            case POLICY_CR3:
                s.overrides.cr3 = true;
                break;
            case POLICY_TPR:
                s.overrides.tpr = true;
                break;
            case POLICY_CR2:
            case POLICY_VMCS_POINTER:
                continue;
            }
            assert_int_equal(policy_cr_derive(&policy, &s, &row), rows[i].may_override ? 0 : -EPERM);
            if (!rows[i].may_override) {
                assert_string_equal(row, rows[i].name);
                continue;
            }
            if (rows[i].reg == POLICY_TPR)
                assert_int_equal(policy.tpr, POLICY_INTERCEPT);
            if (rows[i].reg == POLICY_CR3)
                assert_int_equal(policy.cr3, POLICY_INTERCEPT);
            if (bit != 0 && rows[i].instance[instance].policy == POLICY_THROUGH) {
                const struct register_policy plain = derive(instance, 0, 0);
                const struct cr_policy *cr = cr_policy(&policy, rows[i].reg);
                const struct cr_policy *before = cr_policy(&plain, rows[i].reg);

                /* It, and no other. */
                assert_int_equal(cr->mask, before->mask | bit);
                assert_int_equal(cr->intercept, before->intercept | bit);
                assert_int_equal(cr->follow, before->follow | bit);

                assert_true(cr->mask & cr->intercept & bit);
                assert_true(policy_cr_hardware(cr, bit) & bit);
                assert_false(policy_cr_hardware(cr, 0) & bit);
            }
        }
    }

    struct register_policy_settings s = settings;
    struct register_policy policy;
    s.overrides.cr4 = BIT(50);
    assert_int_equal(policy_cr_derive(&policy, &s, NULL), -EPERM);
}

/* ---- Writes that fault -----------------------------------------------------------------------------------
 */

/* MOV to CR0, by the list of its #GP conditions (SDM vol. 2, MOV - move to/from control registers). */
static bool cr0_faults(const struct cr_state *s, uint64_t value)
{
    bool pg = value & X86_CR0_PG, was_pg = s->cr0 & X86_CR0_PG;

    if (value >> 32)
        return true;
    if (pg && !(value & X86_CR0_PE))
        return true;
    if (!(value & X86_CR0_CD) && (value & X86_CR0_NW))
        return true;
    if (pg && !was_pg && (s->efer & X86_EFER_LME) && !(s->cr4 & X86_CR4_PAE))
        return true;
    if (pg && !was_pg && (s->efer & X86_EFER_LME) && s->cs_l)
        return true;
    if (!pg && was_pg && (s->efer & X86_EFER_LMA) && s->cs_l)
        return true;
    if (!pg && was_pg && (s->cr4 & X86_CR4_PCIDE))
        return true;
    return false;
}

static void cr0_writes(void **state)
{
    (void)state;
    struct register_policy policy = derive(CR_INSTANCE_UNRESTRICTED, 0, 0);
    unsigned faults = 0, done = 0;

    for (unsigned n = 0; n < 1u << 12; n++) {
        struct cr_state before = {.cr0 = X86_CR0_PE | X86_CR0_ET | (n & 1 ? X86_CR0_PG : 0),
                                  .cr4 = (n & 2 ? X86_CR4_PAE : 0) | (n & 4 ? X86_CR4_PCIDE : 0),
                                  .efer = n & 8 ? X86_EFER_LME : 0,
                                  .cs_l = n & 16};
        uint64_t value = (n & 32 ? X86_CR0_PE : 0) | (n & 64 ? X86_CR0_PG : 0) | (n & 128 ? X86_CR0_NW : 0) |
                         (n & 256 ? X86_CR0_CD : 0) | (n & 512 ? BIT(32) : 0) | (n & 1024 ? 0x1ffaffc0 : 0) |
                         (n & 2048 ? X86_CR0_TS : 0);
        struct cr_state after;
        unsigned effects;
        bool lma_after;

        if ((before.cr0 & X86_CR0_PG) && (before.efer & X86_EFER_LME))
            before.efer |= X86_EFER_LMA;
        after = before;
        if (cr0_faults(&before, value)) {
            assert_int_equal(policy_cr0_write(&policy, &after, value, &effects), CR_GP);
            assert_memory_equal(&before, &after, sizeof(before));
            faults++;
            continue;
        }
        done++;
        assert_int_equal(policy_cr0_write(&policy, &after, value, &effects), CR_DONE);
        /* Undefined low bits are lost, ET is always 1. */
        assert_int_equal(after.cr0, (value & 0xe005003f) | X86_CR0_ET);
        lma_after = (value & X86_CR0_PG) && (before.efer & X86_EFER_LME);
        assert_int_equal((after.efer & X86_EFER_LMA) != 0, lma_after);
        assert_int_equal((effects & CR_EFFECT_LONG_MODE) != 0,
                         lma_after != ((before.efer & X86_EFER_LMA) != 0));
        assert_int_equal((effects & CR_EFFECT_FLUSH) != 0, ((before.cr0 ^ value) & X86_CR0_PG) != 0);
        assert_int_equal((effects & CR_EFFECT_PDPTES) != 0,
                         (value & X86_CR0_PG) && (before.cr4 & X86_CR4_PAE) && !lma_after &&
                             ((before.cr0 ^ value) & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)));
    }
    assert_true(faults > 100 && done > 100);
}

/*
 * One case for each flag that a rule asks for, with others in its register that it does not. Fails when a
 * rule takes one flag of a register for another.
 */
static void rules_of_cr0(void **state)
{
    (void)state;
    const uint64_t on = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET, off = X86_CR0_PE | X86_CR0_ET;
    static const uint64_t other = X86_EFER_NXE | X86_EFER_SCE;
    static const uint64_t cd = X86_CR0_CD, nw = X86_CR0_NW, wp = X86_CR0_WP;
    const struct {
        struct cr_state before;
        uint64_t value;
        enum cr_answer answer;
        unsigned effects;
    } cases[] = {
        /* CET wants WP. */
        {{.cr0 = off | wp, .cr4 = X86_CR4_CET}, off, CR_GP, 0},
        {{.cr0 = off | wp, .cr4 = X86_CR4_CET}, off | wp | X86_CR0_TS, CR_DONE, 0},
        /* Paging without long mode, though EFER is not 0. */
        {{.cr0 = off, .efer = other, .cs_l = true}, on, CR_DONE, CR_EFFECT_FLUSH},
        {{.cr0 = on, .efer = other, .cs_l = true}, off, CR_DONE, CR_EFFECT_FLUSH},
        {{.cr0 = off, .cr4 = X86_CR4_PAE, .efer = other}, on, CR_DONE, CR_EFFECT_FLUSH | CR_EFFECT_PDPTES},
        /* PDPTEs are loaded with CD and with NW. */
        {{.cr0 = on | cd | nw, .cr4 = X86_CR4_PAE}, on | cd, CR_DONE, CR_EFFECT_PDPTES},
        {{.cr0 = on | cd, .cr4 = X86_CR4_PAE}, on, CR_DONE, CR_EFFECT_PDPTES},
        {{.cr0 = on, .cr4 = X86_CR4_PAE}, on | wp, CR_DONE, 0},
    };
    const struct register_policy policy = derive(CR_INSTANCE_UNRESTRICTED, 0, 0);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cr_state s = cases[i].before;
        unsigned effects = UINT32_MAX;

        assert_int_equal(policy_cr0_write(&policy, &s, cases[i].value, &effects), cases[i].answer);
        assert_int_equal(effects, cases[i].effects);
        assert_int_equal(s.cr0, cases[i].answer == CR_DONE ? cases[i].value : cases[i].before.cr0);
    }
}

static void rules_of_cr4(void **state)
{
    (void)state;
    const uint64_t on = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET, pae = X86_CR4_PAE, pcide = X86_CR4_PCIDE;
    const uint64_t long_mode = X86_EFER_LME | X86_EFER_LMA;
    const struct {
        struct cr_state before;
        uint64_t value;
        enum cr_answer answer;
        unsigned effects;
    } cases[] = {
        /* PAE can be cleared outside long mode, though EFER is not 0; in it, it must stay. */
        {{.cr0 = on, .cr4 = pae, .efer = X86_EFER_NXE}, 0, CR_DONE, CR_EFFECT_FLUSH},
        {{.cr0 = on, .cr4 = pae, .efer = long_mode}, X86_CR4_PGE | X86_CR4_TSD, CR_GP, 0},
        /* A PCID is no hindrance to the end of PCIDs. */
        {{.cr0 = on, .cr3 = 0x1001, .cr4 = pae | pcide, .efer = long_mode}, pae, CR_DONE, CR_EFFECT_FLUSH},
        /* CET wants WP. */
        {{.cr0 = on}, X86_CR4_CET, CR_GP, 0},
        {{.cr0 = on | X86_CR0_WP}, X86_CR4_CET, CR_DONE, 0},
    };
    struct register_policy policy = derive(CR_INSTANCE_UNRESTRICTED, 0, 0);

    policy.cr4.allowed |= X86_CR4_CET; /* as if it were offered */
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cr_state s = cases[i].before;
        unsigned effects = UINT32_MAX;

        assert_int_equal(policy_cr4_write(&policy, &s, cases[i].value, &effects), cases[i].answer);
        assert_int_equal(effects, cases[i].effects);
        assert_int_equal(s.cr4, cases[i].answer == CR_DONE ? cases[i].value : cases[i].before.cr4);
    }

    /* SDM vol. 3, "PDPTE Registers": which flags load them, of all that can change under PAE paging. */
    for (unsigned n = 0; n < 64; n++) {
        struct cr_state s = {.cr0 = on, .cr4 = pae, .efer = X86_EFER_NXE};
        const uint64_t bit = BIT(n), loads = X86_CR4_PGE | X86_CR4_PSE | X86_CR4_SMEP;
        unsigned effects;

        if (!(CR4_OFFERED & bit & ~pae & ~pcide))
            continue;
        assert_int_equal(policy_cr4_write(&policy, &s, pae | bit, &effects), CR_DONE);
        assert_int_equal((effects & CR_EFFECT_PDPTES) != 0, (loads & bit) != 0);
    }
}

static void cr4_writes(void **state)
{
    (void)state;
    struct register_policy policy = derive(CR_INSTANCE_UNRESTRICTED, 0, 0);

    /* Each bit alone: allowed exactly if offered. */
    for (unsigned bit = 0; bit < 64; bit++) {
        struct cr_state s = {.cr0 = X86_CR0_PE | X86_CR0_ET};
        unsigned effects;
        bool faults = !(CR4_OFFERED & BIT(bit)) || BIT(bit) == X86_CR4_PCIDE;

        assert_int_equal(policy_cr4_write(&policy, &s, BIT(bit), &effects), faults ? CR_GP : CR_DONE);
        assert_int_equal(s.cr4, faults ? 0 : BIT(bit));
    }

    struct cr_state s = {.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET,
                         .cr4 = X86_CR4_PAE,
                         .efer = X86_EFER_LME | X86_EFER_LMA,
                         .cr3 = 0x1000};
    unsigned effects;

    assert_int_equal(policy_cr4_write(&policy, &s, 0, &effects), CR_GP);
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE | X86_CR4_LA57, &effects), CR_GP);
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE | X86_CR4_PCIDE, &effects), CR_DONE);
    assert_int_equal(effects, CR_EFFECT_FLUSH);
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE, &effects), CR_DONE);
    assert_int_equal(effects, CR_EFFECT_FLUSH);
    s.cr3 = 0x1001;
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE | X86_CR4_PCIDE, &effects), CR_GP);
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE | X86_CR4_PGE, &effects), CR_DONE);
    assert_int_equal(effects, CR_EFFECT_FLUSH);
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP, &effects),
                     CR_DONE);
    assert_int_equal(effects, CR_EFFECT_FLUSH);
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE | X86_CR4_PGE, &effects), CR_DONE);
    assert_int_equal(effects, 0);
    /* Whatever else is changed, nothing goes: another role is current, or the processor needs none. */
    assert_int_equal(policy_cr4_write(&policy, &s,
                                      X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMAP | X86_CR4_PKE | X86_CR4_TSD,
                                      &effects),
                     CR_DONE);
    assert_int_equal(effects, 0);

    /* PAE paging without long mode: its PDPTEs are loaded again. */
    s = (struct cr_state){.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET};
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE, &effects), CR_DONE);
    assert_int_equal(effects, CR_EFFECT_PDPTES | CR_EFFECT_FLUSH);
    assert_int_equal(policy_cr4_write(&policy, &s, X86_CR4_PAE | X86_CR4_PSE, &effects), CR_DONE);
    assert_int_equal(effects, CR_EFFECT_PDPTES | CR_EFFECT_FLUSH);
}

/*
 * What the real-mode part of a guest needs that is shadowed from CR0.PE = 1 on: PE exits, and the hardware
 * has the guest's. Fails when PE is not masked, or held by Umbra.
 */
static void protected_mode_exits(void **state)
{
    (void)state;
    struct register_policy policy = derive(CR_INSTANCE_UNRESTRICTED, X86_CR0_PE, 0);

    assert_true(policy.cr0.mask & policy.cr0.intercept & policy.cr0.follow & X86_CR0_PE);
    assert_false(policy_cr_hardware(&policy.cr0, X86_CR0_ET) & X86_CR0_PE);
    assert_true(policy_cr_hardware(&policy.cr0, X86_CR0_ET | X86_CR0_PE) & X86_CR0_PE);
    /* In the other instances Umbra holds it, and the override changes nothing. */
    policy = derive(CR_INSTANCE_SHADOW, X86_CR0_PE, 0);
    assert_true(policy.cr0.mask & policy.cr0.shadowing & policy.cr0.value & X86_CR0_PE);
}

/*
 * The hardware of a shadowed guest, whatever it has itself (docs/design/vtlb.md, "Who translates"). Fails
 * when one of the bits that its tables rely on follows the guest.
 */
static void shadow_hardware(void **state)
{
    (void)state;
    struct register_policy policy = derive(CR_INSTANCE_SHADOW, 0, 0);
    const uint64_t on = X86_CR0_PE | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG, off = X86_CR0_NW | X86_CR0_CD;
    const uint64_t follow = X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE | X86_CR4_LA57;

    for (unsigned n = 0; n < 1000; n++) {
        uint64_t cr0 = random_64() & policy.cr0.allowed, cr4 = random_64() & policy.cr4.allowed;
        uint64_t hardware = policy_cr_hardware(&policy.cr4, cr4);

        assert_int_equal(policy_cr_hardware(&policy.cr0, cr0) & (on | off), on);
        assert_int_equal(hardware & (X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PGE | X86_CR4_PCIDE), X86_CR4_PAE);
        assert_int_equal(hardware & follow, cr4 & follow);
        /* All of them exit: the role and the target follow them. */
        assert_int_equal(policy.cr4.mask & follow, follow);
    }
}

static void efer_writes(void **state)
{
    (void)state;
    struct register_policy policy = derive(CR_INSTANCE_UNRESTRICTED, 0, 0);
    struct cr_state s = {.cr0 = X86_CR0_PE | X86_CR0_PG, .efer = X86_EFER_LME | X86_EFER_LMA};
    unsigned effects;

    for (unsigned bit = 0; bit < 64; bit++) {
        struct cr_state t = {.cr0 = X86_CR0_PE};
        bool is_offered = settings.efer_offered & BIT(bit);

        assert_int_equal(policy_efer_write(&policy, &t, BIT(bit), &effects), is_offered ? CR_DONE : CR_GP);
        assert_int_equal(t.efer, is_offered && BIT(bit) != X86_EFER_LMA ? BIT(bit) : 0);
    }
    assert_int_equal(policy_efer_write(&policy, &s, X86_EFER_NXE, &effects), CR_GP);
    assert_int_equal(policy_efer_write(&policy, &s, X86_EFER_LME | X86_EFER_NXE, &effects), CR_DONE);
    assert_int_equal(s.efer, X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE);
    effects = UINT32_MAX;
    assert_int_equal(policy_efer_write(&policy, &s, X86_EFER_LME, &effects), CR_DONE);
    assert_int_equal(s.efer, X86_EFER_LME | X86_EFER_LMA); /* what is not written is 0 */
    assert_int_equal(effects, 0);

    /* LMA is ignored even where there is no long mode. */
    policy.efer = X86_EFER_NXE;
    s = (struct cr_state){.cr0 = X86_CR0_PE};
    assert_int_equal(policy_efer_write(&policy, &s, X86_EFER_LMA | X86_EFER_NXE, &effects), CR_DONE);
    assert_int_equal(s.efer, X86_EFER_NXE);
}

static void lmsw_and_clts(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 256; n++) {
        uint64_t cr0 = X86_CR0_PG | X86_CR0_NE | (n & 15);
        uint64_t source = n >> 4;
        uint64_t expected = (cr0 & ~14ULL) | (source & 14) | (source & 1);

        assert_int_equal(policy_cr0_lmsw(cr0, (uint16_t)(source | 0xfff0)), expected);
        assert_int_equal(policy_cr0_clts(cr0), cr0 & ~8ULL);
    }
}

/* ---- CR3 and the TPR -------------------------------------------------------------------------------------
 */

static void note_whole(enum policy_register reg, bool exits)
{
    size_t count;
    const struct cr_policy_row *rows = policy_cr_rows(&count);

    for (size_t i = 0; i < count; i++)
        if (rows[i].reg == reg)
            (exits ? stopped : passed)[i] = true;
}

static void controls(void **state)
{
    (void)state;
    for (unsigned instance = 0; instance < CR_INSTANCES; instance++) {
        for (unsigned n = 0; n < 4; n++) {
            struct register_policy_settings s = settings;
            struct register_policy policy;
            struct vmx_demands demands = {{0}};
            static const uint64_t translation[CR_INSTANCES] = {
                [CR_INSTANCE_UNRESTRICTED] = BIT(1) | BIT(7), /* EPT, unrestricted guest */
                [CR_INSTANCE_RESTRICTED] = BIT(1),
            };
            uint64_t expected = 0;

            s.instance = instance;
            s.overrides.tpr = n & 1;
            s.overrides.cr3 = n & 2;
            assert_int_equal(policy_cr_derive(&policy, &s, NULL), 0);
            policy_register_demand(&policy, &demands);
            expected |=
                n & 1 ? VMX_PRIMARY_CR8_LOAD_EXITING | VMX_PRIMARY_CR8_STORE_EXITING : VMX_PRIMARY_TPR_SHADOW;
            if (instance == CR_INSTANCE_SHADOW || (n & 2))
                expected |= VMX_PRIMARY_CR3_LOAD_EXITING | VMX_PRIMARY_CR3_STORE_EXITING;
            if (instance == CR_INSTANCE_SHADOW)
                expected |= VMX_PRIMARY_INVLPG_EXITING;
            assert_int_equal(demands.words[VMX_WORD_PRIMARY], expected);
            assert_int_equal(demands.words[VMX_WORD_SECONDARY], translation[instance]);
            note_whole(POLICY_TPR, (expected & VMX_PRIMARY_CR8_LOAD_EXITING) != 0);
            note_whole(POLICY_CR3, (expected & VMX_PRIMARY_CR3_LOAD_EXITING) != 0);
        }
    }
}

/* After all others: a row of which only one side was seen is not tested, unless it has but one. */
static void each_row(void **state)
{
    static const struct {
        const char *name;
        bool stopped;
    } one_sided[] = {
        {"CR0.ET", false},      /* hard-wired */
        {"CR2", false},         /* no access to it exits */
        {"VMCS pointer", true}, /* every VMX instruction exits */
    };
    size_t count, complete = 0;
    const struct cr_policy_row *rows = policy_cr_rows(&count);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        for (size_t n = 0; n < ARRAY_SIZE(one_sided); n++)
            if (strcmp(rows[i].name, one_sided[n].name) == 0) {
                assert_false(one_sided[n].stopped ? passed[i] : stopped[i]);
                assert_false(rows[i].may_override);
                passed[i] = stopped[i] = true;
            }
        if (!passed[i] || !stopped[i])
            print_error("row %s: no write that %s\n", rows[i].name,
                        passed[i] ? "exits or is refused" : "the processor does");
        complete += passed[i] && stopped[i];
    }
    print_message(
        "policy table: %zu of %zu rows passed and stopped a write, %zu of them declared one-sided\n",
        complete, count, ARRAY_SIZE(one_sided));
    assert_int_equal(complete, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_printed),      cmocka_unit_test(newer_flags),
        cmocka_unit_test(not_offered),     cmocka_unit_test(rules_of_cr0),
        cmocka_unit_test(rules_of_cr4),    cmocka_unit_test(other_instances),
        cmocka_unit_test(each_flag),       cmocka_unit_test(random_registers),
        cmocka_unit_test(fixed_bits),      cmocka_unit_test(overrides),
        cmocka_unit_test(cr0_writes),      cmocka_unit_test(cr4_writes),
        cmocka_unit_test(efer_writes),     cmocka_unit_test(lmsw_and_clts),
        cmocka_unit_test(controls),        cmocka_unit_test(protected_mode_exits),
        cmocka_unit_test(shadow_hardware), cmocka_unit_test(each_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
