// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/capabilities.c over recorded processors. Fails when something is offered that neither the processor
 * has nor Umbra does in its place, or that the partition may not have; when a register differs from what is
 * written down here; when a capability that the processor loses is still offered, or takes another one with
 * it; and when Umbra itself could not run on what it offers.
 */
#include "nested/capabilities.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nested/vmcs12.h"
#include "tests/unit/processors.h"

static const struct vmx_msr_ops ops = {processor_rdmsr, processor_cpuid};

static struct vmx_capabilities capabilities_of(unsigned which)
{
    struct vmx_capabilities capabilities;

    processor = &processors[which];
    changed_msr = 0;
    vmx_capabilities_read(&capabilities, &ops);
    return capabilities;
}

/* Everything that a partition may have: bits of `settings` below. */
enum {
    EPT,
    EXECUTE_ONLY,
    UNRESTRICTED,
    VPID,
    RDTSCP,
    INVPCID,
    XSAVES,
    GATES,
};
#define ALL  ((1u << GATES) - 1)
#define CR4S 0x003606f7ULL /* some features; not VMXE, nor LA57 */

static struct nested_capabilities derive(const struct vmx_capabilities *hardware, unsigned gates)
{
    const struct nested_capabilities_settings settings = {
        .hardware = hardware,
        .ept = gates >> EPT & 1,
        .execute_only = gates >> EXECUTE_ONLY & 1,
        .unrestricted_guest = gates >> UNRESTRICTED & 1,
        .vpid = gates >> VPID & 1,
        .rdtscp = gates >> RDTSCP & 1,
        .invpcid = gates >> INVPCID & 1,
        .xsaves = gates >> XSAVES & 1,
        .cr4 = CR4S,
    };
    struct nested_capabilities capabilities;

    memset(&capabilities, 0xa5, sizeof(capabilities));
    nested_capabilities_derive(&capabilities, &settings);
    return capabilities;
}

/* What Lv1 reads, by hand. */
#define NOT_THERE 0x1234567812345678
static const struct {
    unsigned processor, gates;
    struct recorded_msr msrs[22];
} written_down[] = {
    {SKYLAKE_X,
     ALL,
     {{0x03a, 0x5},
      {0x480, 0x00d810004d425255},
      {0x481, 0x0000007f00000016},
      {0x482, 0xfff9fffe0401e172},
      {0x483, 0x007fefff00036dff},
      {0x484, 0x0000d3ff000011ff},
      {0x485, 0x0000000040040167},
      {0x486, 0x0000000080000021},
      {0x487, 0x00000000ffffffff},
      {0x488, 0x0000000000002000},
      {0x489, 0x00000000003626f7},
      {0x48a, 0x000000000000002e},
      {0x48b, 0x00111cff00000000},
      {0x48c, 0x00000f0106334141},
      {0x48d, 0x0000007f00000016},
      {0x48e, 0xfff9fffe04006172},
      {0x48f, 0x007fefff00036dfb},
      {0x490, 0x0000d3ff000011fb},
      {0x491, NOT_THERE},
      {0x492, NOT_THERE},
      {0x493, NOT_THERE},
      {0x47f, NOT_THERE}}},
    /* Nothing of it: neither EPT nor VPID, so there is no 48CH. */
    {SKYLAKE_X,
     0,
     {{0x480, 0x00d810004d425255},
      {0x482, 0xfff9fffe0401e172},
      {0x489, 0x00000000003626f7},
      {0x48b, 0x00010c5500000000},
      {0x48c, NOT_THERE},
      {0x490, 0x0000d3ff000011fb}}},
    /* EPT, VPID, the preemption timer and TRUE controls are Umbra's there. */
    {PENRYN,
     ALL,
     {{0x03a, 0x5},
      {0x480, 0x00d810004d425255},
      {0x481, 0x0000007f00000016},
      {0x482, 0xf7f9fffe0401e172},
      {0x483, 0x0043efff00036dff},
      {0x484, 0x000013ff000011ff},
      {0x485, 0x0000000000040160},
      {0x489, 0x00000000000426f7},
      {0x48a, 0x000000000000002e},
      {0x48b, 0x0000006300000000},
      {0x48c, 0x00000f0106334140},
      {0x48d, 0x0000007f00000016},
      {0x48e, 0xf7f9fffe04006172},
      {0x48f, 0x0043efff00036dfb},
      {0x490, 0x000013ff000011fb}}},
};

static void registers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(written_down); i++) {
        const struct vmx_capabilities hardware = capabilities_of(written_down[i].processor);
        const struct nested_capabilities offered = derive(&hardware, written_down[i].gates);

        for (size_t j = 0; j < ARRAY_SIZE(written_down[i].msrs); j++) {
            const struct recorded_msr *msr = &written_down[i].msrs[j];
            uint64_t value = 0;

            if (msr->number == 0)
                continue;
            if (nested_capabilities_read_msr(&offered, msr->number, &value) != (msr->value != NOT_THERE) ||
                (msr->value != NOT_THERE && value != msr->value))
                fail_msg("%zu: MSR %#x reads %#lx", i, msr->number, value);
        }
    }
}

/* What Umbra does in the processor's place, by hand. */
static const uint64_t emulated[VMX_WORDS] = {
    [VMX_WORD_PIN] = BIT(6),
    [VMX_WORD_PRIMARY] = BIT(25),
    [VMX_WORD_SECONDARY] = BIT(1) | BIT(5),
    [VMX_WORD_EXIT] = BIT(22),
};

/* What the default-1 class has of reserved bits, and of controls. */
static const struct {
    uint64_t reserved, controls;
    uint32_t plain, true_;
} default_1[VMX_WORDS] = {
    [VMX_WORD_PIN] = {0x16, 0, 0x481, 0x48d},
    [VMX_WORD_PRIMARY] = {0x04006172, 0x18000, 0x482, 0x48e},
    [VMX_WORD_EXIT] = {0x36dfb, 4, 0x483, 0x48f},
    [VMX_WORD_ENTRY] = {0x11fb, 4, 0x484, 0x490},
};

static void offered_is_had(const struct vmx_capabilities *hardware, const struct nested_capabilities *c)
{
    const struct vmx_capabilities *offered = &c->offered;
    uint64_t plain, true_;

    for (unsigned word = 0; word < VMX_WORDS; word++) {
        uint64_t must = vmx_controls_must(offered, word), may = vmx_controls_may(offered, word);

        assert_int_equal(must, default_1[word].reserved);
        assert_int_equal(must & ~may, 0);
        assert_int_equal(may & ~must & ~vmx_controls_may(hardware, word) & ~emulated[word], 0);
        if (default_1[word].plain == 0)
            continue;
        assert_true(nested_capabilities_read_msr(c, default_1[word].plain, &plain));
        assert_true(nested_capabilities_read_msr(c, default_1[word].true_, &true_));
        assert_int_equal(true_, offered->controls[word]);
        assert_int_equal(plain >> 32, true_ >> 32);
        assert_int_equal((uint32_t)plain, (uint32_t)true_ | (default_1[word].controls & may));
    }
    assert_int_equal(offered->misc & ~hardware->misc & ~0x40160ULL, 0);
    assert_int_equal(offered->misc & 0x1f, hardware->misc & 0x1f);
    assert_int_equal(offered->ept_vpid & ~0xf0106334140ULL & ~(hardware->ept_vpid & 1), 0);
    assert_int_equal(offered->vmfunc, 0);
    /* What Lv1 may have in its registers, the processor takes, and the other way round. */
    assert_int_equal(offered->cr0_fixed0, hardware->cr0_fixed0);
    assert_int_equal(offered->cr0_fixed1, hardware->cr0_fixed1);
    assert_int_equal(offered->cr4_fixed0, hardware->cr4_fixed0);
    assert_int_equal(offered->cr4_fixed1, (hardware->cr4_fixed1 & CR4S) | BIT(13));
}

static void subset(void **state)
{
    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++) {
        const struct vmx_capabilities hardware = capabilities_of(which);

        for (unsigned gates = 0; gates <= ALL; gates++) {
            const struct nested_capabilities c = derive(&hardware, gates);
            const bool ept = gates >> EPT & 1;
            const uint64_t secondary = vmx_controls_may(&c.offered, VMX_WORD_SECONDARY);
            uint64_t highest = 0;

            offered_is_had(&hardware, &c);
            assert_int_equal((secondary & BIT(1)) != 0, ept);
            assert_int_equal((c.offered.ept_vpid & 0xffffffff & ~1ULL), ept ? 0x06334140 : 0);
            assert_int_equal(secondary >> 5 & 1, gates >> VPID & 1);
            assert_int_equal(c.offered.ept_vpid >> 32, gates >> VPID & 1 ? 0xf01 : 0);
            for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
                if (vmcs_field_exists(vmcs_field_at(i), &c.offered))
                    highest = max_u64(highest, vmcs_field_at(i).encoding >> 1 & 0x1ff);
            assert_int_equal(c.offered.vmcs_enum, highest << 1);
        }
    }
}

/* The set of fields is that of what is offered. */
static void assert_fields(const struct nested_capabilities *c)
{
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        assert_int_equal(nested_capabilities_have_field(c, vmcs_field_at(i)),
                         vmcs_field_exists(vmcs_field_at(i), &c->offered));
}

/* Each permission, by what it is of: without it nothing else changes. */
static void each_permission(void **state)
{
    (void)state;
    static const struct {
        uint64_t secondary, ept_vpid;
    } of[GATES] = {
        [EPT] = {BIT(1) | BIT(7), 0xffffffff},
        [EXECUTE_ONLY] = {0, 1},
        [UNRESTRICTED] = {BIT(7), 0},
        [VPID] = {BIT(5), 0xffffffff00000000},
        [RDTSCP] = {BIT(3), 0},
        [INVPCID] = {BIT(12), 0},
        [XSAVES] = {BIT(20), 0},
    };

    for (unsigned which = 0; which < PROCESSORS; which++) {
        const struct vmx_capabilities hardware = capabilities_of(which);
        const struct nested_capabilities all = derive(&hardware, ALL);

        for (unsigned gate = 0; gate < GATES; gate++) {
            struct nested_capabilities expected = all;
            const struct nested_capabilities c = derive(&hardware, ALL & ~(1u << gate));

            expected.offered.controls[VMX_WORD_SECONDARY] &= ~(of[gate].secondary << 32);
            expected.offered.ept_vpid &= ~of[gate].ept_vpid;
            assert_memory_equal(&c.offered, &expected.offered, sizeof(c.offered));
            assert_fields(&c);
        }
    }
}

/* The controls once more, numbered as the table has them. */
static const struct {
    enum vmx_word word;
    uint64_t mask;
} controls[] = {
#define X(WORD, BIT, NAME, TEXT, WANT, WHY) {VMX_WORD_##WORD, 1u << (BIT)},
    VMX_CONTROLS(X)
#undef X
};

/* What goes with a control that the processor has no more: by hand. */
static const struct {
    enum vmx_word word;
    uint64_t mask;
    uint64_t gone[VMX_WORDS];
} followers[] = {
    {VMX_WORD_PRIMARY, BIT(21), {[VMX_WORD_SECONDARY] = BIT(4)}},
    {VMX_WORD_EXIT, BIT(18), {[VMX_WORD_EXIT] = BIT(18) | BIT(19), [VMX_WORD_ENTRY] = BIT(14)}},
    {VMX_WORD_EXIT, BIT(19), {[VMX_WORD_EXIT] = BIT(18) | BIT(19), [VMX_WORD_ENTRY] = BIT(14)}},
    {VMX_WORD_ENTRY, BIT(14), {[VMX_WORD_EXIT] = BIT(18) | BIT(19), [VMX_WORD_ENTRY] = BIT(14)}},
    {VMX_WORD_EXIT, BIT(20), {[VMX_WORD_EXIT] = BIT(20) | BIT(21), [VMX_WORD_ENTRY] = BIT(15)}},
    {VMX_WORD_EXIT, BIT(21), {[VMX_WORD_EXIT] = BIT(20) | BIT(21), [VMX_WORD_ENTRY] = BIT(15)}},
    {VMX_WORD_ENTRY, BIT(15), {[VMX_WORD_EXIT] = BIT(20) | BIT(21), [VMX_WORD_ENTRY] = BIT(15)}},
};

static void each_control_removed(void **state)
{
    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++) {
        const struct vmx_capabilities hardware = capabilities_of(which);

        for (size_t row = 0; row < ARRAY_SIZE(controls); row++) {
            const enum vmx_word word = controls[row].word;
            const bool wide = word == VMX_WORD_TERTIARY || word == VMX_WORD_EXIT2;
            struct vmx_capabilities poorer = hardware;
            struct nested_capabilities expected = derive(&hardware, ALL);

            poorer.controls[word] &= ~(controls[row].mask << (wide ? 0 : 32));
            const struct nested_capabilities c = derive(&poorer, ALL);

            if (!(emulated[word] & controls[row].mask))
                expected.offered.controls[word] &= ~(controls[row].mask << (wide ? 0 : 32));
            for (size_t i = 0; i < ARRAY_SIZE(followers); i++)
                for (unsigned w = 0; w < VMX_WORDS; w++)
                    if (followers[i].word == word && followers[i].mask == controls[row].mask)
                        expected.offered.controls[w] &= ~(followers[i].gone[w] << 32);
            offered_is_had(&poorer, &c);
            expected.offered.vmcs_enum = c.offered.vmcs_enum; /* see subset */
            assert_memory_equal(&c.offered, &expected.offered, sizeof(c.offered));
            assert_fields(&c);
        }
    }
}

/* Each other bit that a processor may lose: three are its own alone, the rest makes no difference. */
static void each_feature_removed(void **state)
{
    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++) {
        const struct vmx_capabilities hardware = capabilities_of(which);
        const struct nested_capabilities all = derive(&hardware, ALL);

        for (unsigned bit = 0; bit < 64; bit++) {
            struct vmx_capabilities poorer = hardware;
            struct nested_capabilities expected = all, c;

            poorer.basic &= ~BIT(bit);
            expected.offered.basic &= bit == 54 ? ~BIT(bit) : ~0ULL;
            c = derive(&poorer, ALL);
            assert_memory_equal(&c.offered, &expected.offered, sizeof(c.offered));
            assert_fields(&c);

            poorer = hardware;
            expected = all;
            poorer.misc &= ~BIT(bit);
            expected.offered.misc &= bit < 5 || bit == 30 ? ~BIT(bit) : ~0ULL;
            c = derive(&poorer, ALL);
            assert_memory_equal(&c.offered, &expected.offered, sizeof(c.offered));
            assert_fields(&c);

            poorer = hardware;
            expected = all;
            poorer.ept_vpid &= ~BIT(bit);
            expected.offered.ept_vpid &= bit == 0 ? ~BIT(bit) : ~0ULL;
            c = derive(&poorer, ALL);
            assert_memory_equal(&c.offered, &expected.offered, sizeof(c.offered));
            assert_fields(&c);
        }
    }
}

/* Whatever the processor says it has, no more than what is meant to be offered is. */
static void everything(void **state)
{
    (void)state;
    static const uint64_t may[VMX_WORDS] = {0x7f, 0xfff9fffe, 0x111cff, 0, 0x7fefff, 0, 0xd3ff};
    struct vmx_capabilities hardware;

    memset(&hardware, 0xff, sizeof(hardware));
    hardware.intel_vmx = hardware.smx = true;
    const struct nested_capabilities c = derive(&hardware, ALL);
    for (unsigned word = 0; word < VMX_WORDS; word++) {
        assert_int_equal(vmx_controls_may(&c.offered, word), may[word]);
        assert_int_equal(vmx_controls_must(&c.offered, word), default_1[word].reserved);
    }
    assert_int_equal(c.offered.basic, 0x00d810004d425255);
    assert_int_equal(c.offered.misc, 0x4004017f);
    assert_int_equal(c.offered.ept_vpid, 0xf0106334141);
    assert_int_equal(c.offered.vmfunc, 0);
    assert_false(c.offered.smx);
}

/* A guest hypervisor as demanding as Umbra finds all that it needs. */
static void umbra_in_umbra(void **state)
{
    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++) {
        const struct vmx_capabilities hardware = capabilities_of(which);
        const struct nested_capabilities c = derive(&hardware, ALL);

        assert_null(vmx_capabilities_obstacle(&c.offered));
        assert_true(vmx_capabilities_have_shadow(&c.offered));
        assert_int_equal(vmx_capabilities_have_ept(&c.offered), which != PENRYN);
        assert_int_equal(vmx_capabilities_have_unrestricted_guest(&c.offered),
                         vmx_capabilities_have_unrestricted_guest(&hardware));
    }
}

static void table(void **state)
{
    (void)state;
    for (unsigned row = 0; row < VMX_CONTROL_ROWS; row++) {
        const bool is_emulated = (emulated[controls[row].word] & controls[row].mask) != 0;

        assert_true(strlen(nested_control_reason(row)) > 3);
        assert_int_equal(nested_control_offer(row) == NESTED_OFFER_EMULATED, is_emulated);
        /* A named control is none of the reserved bits. */
        assert_int_equal(default_1[controls[row].word].reserved & controls[row].mask, 0);
    }
}

static void values(void **state)
{
    (void)state;
    static const struct {
        uint64_t eptp;
        unsigned gates;
        bool valid;
    } eptps[] = {
        {0x0000000012345018 | 6, ALL, true},  {0x0000000012345018 | 0, ALL, true},
        {0x0000000012345058 | 6, ALL, true}, /* with A and D */
        {0x0000000012345018 | 6, 0, false},  /* there is no EPT */
        {0x0000000012345018 | 1, ALL, false}, {0x0000000012345018 | 5, ALL, false},
        {0x0000000012345010 | 6, ALL, false}, /* three levels */
        {0x0000000012345020 | 6, ALL, false}, /* five */
        {0x0000000012345098 | 6, ALL, false}, /* supervisor shadow stacks */
        {0x0000000012345818 | 6, ALL, false}, {0x0000000ffffff018 | 6, ALL, true},
        {0x0000001000000018 | 6, ALL, false}, /* beyond 36 bits */
        {0x8000000012345018 | 6, ALL, false},
    };
    const struct vmx_capabilities hardware = capabilities_of(SKYLAKE_X);
    const struct nested_capabilities c = derive(&hardware, ALL);

    for (size_t i = 0; i < ARRAY_SIZE(eptps); i++) {
        const struct nested_capabilities offered = derive(&hardware, eptps[i].gates);

        assert_int_equal(nested_capabilities_eptp_valid(&offered, eptps[i].eptp, 36), eptps[i].valid);
    }
    assert_true(nested_capabilities_cr0_valid(&c, 0x80000021));
    assert_true(nested_capabilities_cr0_valid(&c, 0xffffffff));
    assert_false(nested_capabilities_cr0_valid(&c, 0x180000021));
    assert_false(nested_capabilities_cr0_valid(&c, 0x80000001)); /* NE */
    assert_false(nested_capabilities_cr0_valid(&c, 0x80000020)); /* PE */
    assert_false(nested_capabilities_cr0_valid(&c, 0x00000021)); /* PG */
    assert_true(nested_capabilities_cr4_valid(&c, 0x2000));
    assert_true(nested_capabilities_cr4_valid(&c, 0x2020));
    assert_false(nested_capabilities_cr4_valid(&c, 0x0020));
    assert_false(nested_capabilities_cr4_valid(&c, 0x3000)); /* LA57: not in this CPUID */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers),
        cmocka_unit_test(subset),
        cmocka_unit_test(each_permission),
        cmocka_unit_test(each_control_removed),
        cmocka_unit_test(each_feature_removed),
        cmocka_unit_test(everything),
        cmocka_unit_test(umbra_in_umbra),
        cmocka_unit_test(table),
        cmocka_unit_test(values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
