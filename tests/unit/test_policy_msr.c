// SPDX-License-Identifier: BSD-2-Clause
/*
 * vmx/policy_msr.c. Fails when the table is not ascending, when a row contradicts itself, when the lookup
 * finds another row than a search of the table, when a bit of the bitmap differs from its row, or when a
 * register that a stock kernel uses without guard at boot has no row.
 */
#include "vmx/policy_msr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/processors.h"

static const struct msr_policy_row *search(uint32_t msr)
{
    size_t count;
    const struct msr_policy_row *rows = policy_msr_rows(&count);

    for (size_t i = 0; i < count; i++) {
        if (rows[i].first <= msr && msr <= rows[i].last)
            return &rows[i];
    }
    return NULL;
}

static void rows_are_sound(void **state)
{
    (void)state;
    size_t count;
    const struct msr_policy_row *rows = policy_msr_rows(&count);

    assert_true(count > 25);
    for (size_t i = 0; i < count; i++) {
        const struct msr_policy_row *row = &rows[i];
        bool exits = false, passes = false;

        for (unsigned regime = 0; regime < VCPU_REGIMES; regime++) {
            exits |= row->read[regime] != POLICY_THROUGH && row->read[regime] != POLICY_RESERVED;
            exits |= row->write[regime] != POLICY_THROUGH && row->write[regime] != POLICY_RESERVED;
            passes |= row->read[regime] == POLICY_THROUGH || row->write[regime] == POLICY_THROUGH;
        }

        assert_true(row->first <= row->last);
        if (i > 0)
            assert_true(rows[i - 1].last < row->first);
        assert_true(strlen(row->name) > 0 && strlen(row->reason) > 0);
        assert_true(row->handler < MSR_HANDLERS);
        /* Who exits is handled, and who does not is not. */
        assert_int_equal(exits, row->handler != MSR_HANDLER_NONE);
        /* A register that the bitmap cannot let through must not claim to be. */
        if (passes)
            assert_true(row->last < 0x2000 || (row->first >= 0xc0000000 && row->last < 0xc0002000));
    }
}

static void lookup(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 0x30000; i++) {
        uint32_t msr = (uint32_t)(i < 0x10000   ? i
                                  : i < 0x20000 ? 0xbfff8000 + i - 0x10000
                                                : 0x3fff8000 + i - 0x20000);
        const struct msr_policy_row *row = policy_msr_find(msr);

        assert_non_null(row);
        if (search(msr) != NULL) {
            assert_ptr_equal(row, search(msr));
            continue;
        }
        for (unsigned regime = 0; regime < VCPU_REGIMES; regime++) {
            assert_int_equal(row->read[regime], POLICY_RESERVED);
            assert_int_equal(row->write[regime], POLICY_RESERVED);
        }
        assert_int_equal(row->handler, MSR_HANDLER_NONE);
    }
    assert_int_equal(policy_msr_find(0xffffffff)->read[VCPU_REGIME_SHADOW], POLICY_RESERVED);
}

static void bitmap(void **state)
{
    (void)state;
    static uint8_t bits[4096];
    static const uint32_t feature_sets[] = {0xffffffff, 1u << MSR_FEATURE_ALWAYS, 0x55555555 | 1,
                                            0xaaaaaaaa | 1};

    for (size_t f = 0; f < ARRAY_SIZE(feature_sets) * VCPU_REGIMES; f++) {
        const unsigned regime = f % VCPU_REGIMES;
        const uint32_t set = feature_sets[f / VCPU_REGIMES];

        policy_msr_bitmap(bits, set, regime);
        for (uint32_t i = 0; i < 0x4000; i++) {
            uint32_t msr = i < 0x2000 ? i : 0xc0000000 + i - 0x2000;
            const struct msr_policy_row *row = search(msr);
            bool there = row != NULL && (set & (1u << row->feature));
            bool read_exits = bits[i / 8] & (1 << i % 8);
            bool write_exits = bits[2048 + i / 8] & (1 << i % 8);

            assert_int_equal(read_exits, !(there && row->read[regime] == POLICY_THROUGH));
            assert_int_equal(write_exits, !(there && row->write[regime] == POLICY_THROUGH));
        }
    }
}

/*
 * What differs between the regimes: the two registers that are Umbra's where it translates. Fails when one of
 * them passes there, which would let a guest change how the processor reads Umbra's tables, and when anything
 * else exits.
 */
static void bitmap_of_shadow_regime(void **state)
{
    (void)state;
    static uint8_t ept[4096], shadow[4096];
    const unsigned pat = 0x277, efer = 0x400 * 8 + 0x80, write = 2048 * 8;

    policy_msr_bitmap(ept, UINT32_MAX, VCPU_REGIME_EPT);
    policy_msr_bitmap(shadow, UINT32_MAX, VCPU_REGIME_SHADOW);
    for (unsigned bit = 0; bit < 4096 * 8; bit++) {
        bool only_ept = bit == pat || bit == write + pat || bit == efer;
        bool exits = shadow[bit / 8] & (1 << bit % 8);

        if (only_ept)
            assert_int_equal(ept[bit / 8] & (1 << bit % 8), 0);
        assert_int_equal(exits, only_ept || (ept[bit / 8] & (1 << bit % 8)) != 0);
    }
    assert_int_equal(policy_msr_find(MSR_IA32_PAT)->handler, MSR_HANDLER_PAT);
    assert_int_equal(policy_msr_find(MSR_IA32_EFER)->handler, MSR_HANDLER_EFER);
}

/*
 * SDM vol. 3, "Virtualizing MSR-Based APIC Accesses": the reads that the page answers, the writes that are
 * completed without Umbra. Everything else of the range must exit; outside of it both bitmaps are the same.
 */
static void bitmap_x2apic(void **state)
{
    (void)state;
    static uint8_t plain[4096], bits[4096];
    static const char reads[] = /* one character a register from 800H: r, w */
        "..rr"
        "...."
        "b.rw"
        ".r.r"
        "rrrrrrrrrrrrrrrrrrrrrrrr"
        "r......."
        "r.rrrrrrr....."
        "rw";

    assert_int_equal(sizeof(reads) - 1, 0x40);
    for (unsigned n = 0; n < 2 * VCPU_REGIMES; n++) {
        const unsigned delivery = n % 2, regime = n / 2;

        policy_msr_bitmap(plain, UINT32_MAX, regime);
        policy_msr_bitmap_x2apic(bits, UINT32_MAX, regime, delivery);
        for (uint32_t i = 0; i < 0x4000; i++) {
            bool read_exits = bits[i / 8] & (1 << i % 8), write_exits = bits[2048 + i / 8] & (1 << i % 8);
            char kind = i >= 0x800 && i < 0x840 ? reads[i - 0x800] : '.';

            if (!delivery && i != 0x808)
                kind = '.';
            if (i < 0x800 || i > 0x8ff) {
                assert_int_equal(read_exits, (plain[i / 8] & (1 << i % 8)) != 0);
                assert_int_equal(write_exits, (plain[2048 + i / 8] & (1 << i % 8)) != 0);
                continue;
            }
            assert_int_equal(read_exits, kind != 'r' && kind != 'b');
            assert_int_equal(write_exits, kind != 'w' && kind != 'b');
        }
    }
    policy_msr_bitmap(plain, 1u << MSR_FEATURE_ALWAYS, VCPU_REGIME_EPT);
    policy_msr_bitmap_x2apic(bits, 1u << MSR_FEATURE_ALWAYS, VCPU_REGIME_EPT, true);
    assert_memory_equal(plain, bits, sizeof(bits));
}

/* Registers whose mistaken passing would let a guest reach Umbra or the machine. */
static void never_through(void **state)
{
    (void)state;
    static const uint32_t guarded[] = {
        MSR_IA32_APIC_BASE,
        MSR_IA32_FEATURE_CONTROL,
        MSR_IA32_BIOS_UPDT_TRIG,
        MSR_IA32_MISC_ENABLE,
        MSR_IA32_DEBUGCTL,
        MSR_IA32_MTRR_PHYSBASE0,
        MSR_IA32_MTRR_DEF_TYPE,
        MSR_IA32_TSC_DEADLINE,
        MSR_IA32_X2APIC_FIRST,
        0x830,
        MSR_IA32_EFER,
        MSR_IA32_XSS,
        MSR_IA32_TSC,
        MSR_IA32_TSC_ADJUST,
        MSR_IA32_DS_AREA,
        MSR_IA32_PERF_GLOBAL_CTRL,
        MSR_IA32_VMX_BASIC,
        0x9b,
        0x570,
        MSR_POWER_CTL,
    };

    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++)
        for (unsigned regime = 0; regime < VCPU_REGIMES; regime++)
            assert_int_not_equal(policy_msr_find(guarded[i])->write[regime], POLICY_THROUGH);
}

static uint32_t features_of(unsigned which, struct cpuid_image *image)
{
    const struct cpuid_settings s = {.vcpus = 1,
                                     .tsc_hz = 1000000000,
                                     .xcr0 = ~0ULL,
                                     .rdtscp = true,
                                     .invpcid = true,
                                     .xsaves = true,
                                     .compaction = true};

    processor = &processors[which];
    cpuid_policy_build(image, processor_cpuid, &s);
    return policy_msr_features(image);
}

static void features(void **state)
{
    (void)state;
    static struct cpuid_image image;
    uint32_t sky = features_of(SKYLAKE_X, &image);
    uint32_t tiger = features_of(TIGER_LAKE, &image);
    uint32_t penryn = features_of(PENRYN, &image);
    const uint32_t common = BIT(MSR_FEATURE_ALWAYS) | BIT(MSR_FEATURE_LONG_MODE) | BIT(MSR_FEATURE_SYSENTER) |
                            BIT(MSR_FEATURE_MTRR) | BIT(MSR_FEATURE_PAT) | BIT(MSR_FEATURE_MCA) |
                            BIT(MSR_FEATURE_X2APIC) | BIT(MSR_FEATURE_TSC_DEADLINE) |
                            BIT(MSR_FEATURE_TSC_ADJUST) | BIT(MSR_FEATURE_EFER);

    assert_int_equal(penryn, common);
    assert_int_equal(sky, common | BIT(MSR_FEATURE_RDTSCP) | BIT(MSR_FEATURE_XSAVES));
    assert_int_equal(tiger, sky | BIT(MSR_FEATURE_SPEC_CTRL) | BIT(MSR_FEATURE_PRED_CMD) |
                                BIT(MSR_FEATURE_L1D_FLUSH) | BIT(MSR_FEATURE_ARCH_CAPABILITIES));

    const struct msr_policy_row *xss = policy_msr_find(MSR_IA32_XSS);
    assert_int_equal(policy_msr_on_read(xss, penryn, VCPU_REGIME_EPT), POLICY_RESERVED);
    assert_int_equal(policy_msr_on_write(xss, penryn, VCPU_REGIME_EPT), POLICY_RESERVED);
    assert_int_equal(policy_msr_on_write(xss, sky, VCPU_REGIME_EPT), POLICY_INTERCEPT);
}

/* What Linux 6.1 reads (r) and writes (w) without a guard while it boots on a Skylake without further
 * features. */
static void linux_at_boot(void **state)
{
    (void)state;
    static const struct {
        uint32_t msr;
        bool read, write;
    } used[] = {
        {MSR_IA32_TSC, true, false},
        {MSR_IA32_PLATFORM_ID, true, false},
        {MSR_IA32_APIC_BASE, true, true},
        {MSR_IA32_FEATURE_CONTROL, true, false},
        {MSR_IA32_TSC_ADJUST, true, true},
        {MSR_IA32_BIOS_SIGN_ID, true, true},
        {MSR_IA32_MTRRCAP, true, false},
        {MSR_IA32_SYSENTER_CS, true, true},
        {MSR_IA32_SYSENTER_EIP, true, true},
        {MSR_IA32_MCG_CAP, true, false},
        {MSR_IA32_MCG_STATUS, true, true},
        {MSR_IA32_MISC_ENABLE, true, true},
        {MSR_IA32_DEBUGCTL, true, true},
        {MSR_IA32_MTRR_PHYSBASE0 + 15, true, true},
        {MSR_IA32_MTRR_FIX64K_00000, true, true},
        {MSR_IA32_MTRR_FIX16K_A0000, true, true},
        {MSR_IA32_MTRR_FIX4K_F8000, true, true},
        {MSR_IA32_PAT, true, true},
        {MSR_IA32_MTRR_DEF_TYPE, true, true},
        {MSR_IA32_TSC_DEADLINE, true, true},
        {0x802, true, false},
        {0x80b, false, true},
        {0x830, true, true},
        {MSR_IA32_XSS, true, true},
        {MSR_IA32_EFER, true, true},
        {MSR_IA32_STAR, true, true},
        {MSR_IA32_LSTAR, true, true},
        {MSR_IA32_CSTAR, true, true},
        {MSR_IA32_FMASK, true, true},
        {MSR_IA32_FS_BASE, true, true},
        {MSR_IA32_GS_BASE, true, true},
        {MSR_IA32_KERNEL_GS_BASE, true, true},
        {MSR_IA32_TSC_AUX, true, true},
        {MSR_PLATFORM_INFO, true, false},
        {MSR_SMI_COUNT, true, false},
    };
    static struct cpuid_image image;
    uint32_t f = features_of(SKYLAKE_X, &image);

    for (size_t i = 0; i < ARRAY_SIZE(used); i++) {
        const struct msr_policy_row *row = policy_msr_find(used[i].msr);

        if (used[i].read)
            assert_int_not_equal(policy_msr_on_read(row, f, i % VCPU_REGIMES), POLICY_RESERVED);
        if (used[i].write)
            assert_int_not_equal(policy_msr_on_write(row, f, i % VCPU_REGIMES), POLICY_RESERVED);
    }

    /* Values that it acts upon. */
    assert_int_equal(policy_msr_reset_value(policy_msr_find(MSR_IA32_MTRRCAP)) & MTRRCAP_VCNT, 8);
    assert_int_equal(policy_msr_find(MSR_IA32_MTRR_PHYSBASE0)->last - MSR_IA32_MTRR_PHYSBASE0 + 1, 16);
    assert_int_equal(policy_msr_reset_value(policy_msr_find(MSR_IA32_MCG_CAP)) & 0xff, 0);
    assert_int_equal(policy_msr_reset_value(policy_msr_find(MSR_IA32_FEATURE_CONTROL)),
                     FEATURE_CONTROL_LOCKED);
    assert_int_equal(policy_msr_reset_value(policy_msr_find(MSR_IA32_PAT)), PAT_RESET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bitmap_of_shadow_regime),
        cmocka_unit_test(rows_are_sound),
        cmocka_unit_test(lookup),
        cmocka_unit_test(bitmap),
        cmocka_unit_test(bitmap_x2apic),
        cmocka_unit_test(never_through),
        cmocka_unit_test(features),
        cmocka_unit_test(linux_at_boot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
