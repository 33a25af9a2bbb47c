// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/shadow.c, between a VMCS01 and a shadow VMCS of arrays. Fails when a field is through that the table
 * has not, or that Lv1's VMCSs have not, or that Lv1 could write and must not; when VMCS01 links without a
 * current VMCS12, or does not with one; when what Lv1 wrote without an exit is lost, or counts as written
 * though it was not; when Lv1 would read anything but VMCS12's value; when another VMCS than VMCS01 is
 * current afterwards, or the shadow VMCS is left active.
 */
#include "nested/shadow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/processors.h"

#define VMCS01  0x1000
#define SHADOW  0x2000
#define VMREAD  0x3000
#define VMWRITE 0x4000

static const struct vmx_msr_ops msr_ops = {processor_rdmsr, processor_cpuid};
static struct vmx_capabilities hardware;
static struct nested_policy policy;
static struct vcpu vcpu01;
static struct nested_vcpu n;
static uint8_t vmread[PAGE_SIZE], vmwrite[PAGE_SIZE];

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_value(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1d;
}

/* ---- The processor ------------------------------------------------------------------------------------ */

static struct {
    uint64_t vmcs01[VMCS_FIELD_COUNT], shadow[VMCS_FIELD_COUNT];
    bool shadow_is_current, shadow_is_active;
    unsigned loads, writes;
} machine;

static struct vmcs_field find(uint64_t encoding)
{
    struct vmcs_field field;
    bool high;

    assert_true(vmcs_field_find(encoding, &field, &high));
    assert_false(high);
    return field;
}

bool vmx_read(uint64_t encoding, uint64_t *value)
{
    *value = (machine.shadow_is_current ? machine.shadow : machine.vmcs01)[find(encoding).index];
    return true;
}

bool vmx_write(uint64_t encoding, uint64_t value)
{
    (machine.shadow_is_current ? machine.shadow : machine.vmcs01)[find(encoding).index] = value;
    machine.writes++;
    return true;
}

bool vmx_load(hpa_t vmcs)
{
    assert_true(vmcs.value == VMCS01 || vmcs.value == SHADOW);
    machine.shadow_is_current = vmcs.value == SHADOW;
    machine.shadow_is_active |= machine.shadow_is_current;
    machine.loads++;
    return true;
}

bool vmx_clear(hpa_t vmcs)
{
    assert_int_equal(vmcs.value, SHADOW);
    machine.shadow_is_active = machine.shadow_is_current = false;
    return true;
}

static void assert_at_rest(void)
{
    assert_false(machine.shadow_is_current);
    assert_false(machine.shadow_is_active);
}

/* ---- The table ---------------------------------------------------------------------------------------- */

/* By encoding. */
static const uint16_t only_read[] = {0x2400, 0x4402, 0x4404, 0x4406, 0x4408, 0x440a,
                                     0x440c, 0x440e, 0x4816, 0x4818, 0x6400, 0x640a};
static const uint16_t written[] = {0x4002, 0x4016, 0x4018, 0x401a, 0x401c,
                                   0x4824, 0x482e, 0x681c, 0x681e, 0x6820};

static bool is_in(unsigned encoding, const uint16_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == encoding)
            return true;
    return false;
}

static uint64_t mask_of(uint16_t encoding)
{
    return vmcs_width_mask(vmcs_field_width(find(encoding)));
}

static void offer(bool ept)
{
    const struct nested_capabilities_settings settings = {.hardware = &hardware, .ept = ept, .vpid = true};

    nested_capabilities_derive(&policy.capabilities, &settings);
}

static int setup(void **state)
{
    (void)state;
    processor = &processors[SKYLAKE_X];
    vmx_capabilities_read(&hardware, &msr_ops);
    hardware.controls[VMX_WORD_SECONDARY] |= (uint64_t)VMX_SECONDARY_VMCS_SHADOWING << 32;
    memset(&machine, 0, sizeof(machine));
    memset(&policy, 0, sizeof(policy));
    memset(&vcpu01, 0, sizeof(vcpu01));
    memset(&n, 0, sizeof(n));
    offer(true);
    policy.hardware = &hardware;
    vcpu01.vmcs = HPA(VMCS01);
    vcpu01.shadow = (struct vcpu_shadow){HPA(SHADOW), HPA(VMREAD), HPA(VMWRITE)};
    n.policy = &policy;
    n.vcpu01 = &vcpu01;
    n.current = 0x5000;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const uint64_t mask = vmcs_width_mask(vmcs_field_width(vmcs_field_at(i)));

        n.vmcs12.values[i] = random_value() & mask;
        machine.vmcs01[i] = random_value() & mask;
        machine.shadow[i] = random_value() & mask;
    }
    return 0;
}

static void bitmaps(void **state)
{
    (void)state;
    for (unsigned ept = 0; ept < 2; ept++) {
        offer(ept != 0);
        nested_shadow_build(&policy.capabilities, vmread, vmwrite);
        for (unsigned encoding = 0; encoding < 8 * PAGE_SIZE; encoding++) {
            const bool writes = is_in(encoding, written, ARRAY_SIZE(written));
            const bool reads = writes || is_in(encoding, only_read, ARRAY_SIZE(only_read));
            const bool is_there = encoding != 0x2400 || ept != 0; /* the guest-physical address */

            assert_int_equal(vmread[encoding / 8] >> encoding % 8 & 1, !(reads && is_there));
            assert_int_equal(vmwrite[encoding / 8] >> encoding % 8 & 1, !(writes && is_there));
        }
    }
}

static void possible(void **state)
{
    (void)state;
    assert_true(nested_shadow_possible(&hardware));
    hardware.misc &= ~VMX_MISC_VMWRITE_ANY;
    assert_false(nested_shadow_possible(&hardware));
    setup(state);
    hardware.controls[VMX_WORD_SECONDARY] &= ~((uint64_t)VMX_SECONDARY_VMCS_SHADOWING << 32);
    assert_false(nested_shadow_possible(&hardware));
    setup(state);
    hardware.controls[VMX_WORD_PIN] &= ~((uint64_t)VMX_PIN_PREEMPTION_TIMER << 32); /* its value is a field */
    assert_false(nested_shadow_possible(&hardware));
}

/* ---- Values ------------------------------------------------------------------------------------------- */

static void assert_published(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(only_read); i++)
        assert_int_equal(machine.shadow[find(only_read[i]).index],
                         vmcs12_read(&n.vmcs12, find(only_read[i])));
    for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
        assert_int_equal(machine.shadow[find(written[i]).index], vmcs12_read(&n.vmcs12, find(written[i])));
}

static void links(void **state)
{
    const uint64_t others = machine.vmcs01[VMCS_INDEX_SECONDARY_CONTROLS] & ~BIT(14);

    (void)state;
    nested_shadow_link(&n);
    assert_at_rest();
    assert_published();
    assert_int_equal(machine.vmcs01[VMCS_INDEX_SECONDARY_CONTROLS], others | BIT(14));
    assert_int_equal(machine.vmcs01[VMCS_INDEX_VMCS_LINK_POINTER], SHADOW);
    assert_int_equal(machine.vmcs01[VMCS_INDEX_VMREAD_BITMAP], VMREAD);
    assert_int_equal(machine.vmcs01[VMCS_INDEX_VMWRITE_BITMAP], VMWRITE);

    n.current = NESTED_NO_VMCS;
    nested_shadow_link(&n);
    assert_at_rest();
    assert_int_equal(machine.vmcs01[VMCS_INDEX_SECONDARY_CONTROLS], others);
    assert_int_equal(machine.vmcs01[VMCS_INDEX_VMCS_LINK_POINTER], UINT64_MAX);
}

/* Where there is none, and while none is linked, nothing is touched. */
static void nothing(void **state)
{
    const struct vmcs12 before = n.vmcs12;

    (void)state;
    nested_shadow_collect(&n);
    nested_shadow_publish(&n);
    vcpu01.shadow.vmcs = HPA(0);
    nested_shadow_link(&n);
    nested_shadow_collect(&n);
    nested_shadow_publish(&n);
    assert_int_equal(machine.loads + machine.writes, 0);
    assert_memory_equal(&n.vmcs12, &before, sizeof(before));
}

/* Each field that Lv1 may write, alone: it comes, with its mark, and no other does. */
static void collects(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(written); i++) {
        const struct vmcs_field field = find(written[i]);
        struct vmcs12 expected;

        setup(state);
        nested_shadow_link(&n);
        expected = n.vmcs12;
        machine.shadow[field.index] ^= 1;
        vmcs12_write(&expected, field, machine.shadow[field.index]);
        nested_shadow_collect(&n);
        assert_at_rest();
        assert_memory_equal(&n.vmcs12, &expected, sizeof(expected));
        vmcs12_forget_written(&n.vmcs12);
        nested_shadow_collect(&n);
        assert_false(vmcs12_is_written(&n.vmcs12, field));
    }
}

/* Lv1 writes, enters, and exits change anything: it always reads what VMCS12 has, and what did not change is
 * not written. */
static void goes_round(void **state)
{
    (void)state;
    nested_shadow_link(&n);
    for (unsigned run = 0; run < 20000; run++) {
        unsigned changes = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
            if (random_value() % 4 == 0)
                machine.shadow[find(written[i]).index] = random_value() & mask_of(written[i]);
        nested_shadow_collect(&n);
        assert_published();
        machine.writes = 0;
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
            const struct vmcs_field field = vmcs_field_at(i);
            const uint64_t value = random_value() & vmcs_width_mask(vmcs_field_width(field));

            if (random_value() % 8 != 0 || value == vmcs12_read(&n.vmcs12, field))
                continue;
            vmcs12_save(&n.vmcs12, field, value);
            changes += is_in(field.encoding, only_read, ARRAY_SIZE(only_read)) ||
                       is_in(field.encoding, written, ARRAY_SIZE(written));
        }
        nested_shadow_publish(&n);
        assert_at_rest();
        assert_published();
        assert_int_equal(machine.writes, changes);
    }
}

/* A VMWRITE that exited: where Lv1 reads the field without an exit, it reads what was written. */
static void follows_writes(void **state)
{
    (void)state;
    nested_shadow_link(&n);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field field = vmcs_field_at(i);
        const bool reads = is_in(field.encoding, only_read, ARRAY_SIZE(only_read)) ||
                           is_in(field.encoding, written, ARRAY_SIZE(written));

        vmcs12_write(&n.vmcs12, field, vmcs12_read(&n.vmcs12, field) ^ 1);
        machine.loads = 0;
        nested_shadow_publish_field(&n, field);
        assert_at_rest();
        assert_published();
        assert_int_equal(machine.loads != 0, reads);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(bitmaps, setup),        cmocka_unit_test_setup(possible, setup),
        cmocka_unit_test_setup(links, setup),          cmocka_unit_test_setup(nothing, setup),
        cmocka_unit_test_setup(collects, setup),       cmocka_unit_test_setup(goes_round, setup),
        cmocka_unit_test_setup(follows_writes, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
