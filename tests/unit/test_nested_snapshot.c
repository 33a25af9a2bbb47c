// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/snapshot.c. Fails when a column holds another VMCS's values, whoever runs; when a field that a
 * processor lacks or that Lv1 is not offered counts as known, or anything of a VMCS12 that is not there; and
 * when taking it leaves another VMCS current or changes one.
 */
#include "nested/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/nested_pair.h"

static struct nested_snapshot snapshot;

/* What the three VMCSs have in a field, each in its own way. */
static uint64_t mark(enum nested_snapshot_vmcs vmcs, unsigned index)
{
    return (0x1111111111110000 * (vmcs + 1) | index) &
           vmcs_width_mask(vmcs_field_width(vmcs_field_at(index)));
}

static void forget(struct vcpu *vcpu)
{
    memset(vcpu->known, 0, sizeof(vcpu->known));
    memset(vcpu->known_lasting, 0, sizeof(vcpu->known_lasting));
}

/* Marks all fields where they are; the caches of the two vCPUs know nothing of it. */
static void mark_all(void)
{
    const bool lv2 = n.mode == NESTED_NON_ROOT;

    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        fake_vmcs.values[i] = mark(lv2 ? NESTED_VMCS02 : NESTED_VMCS01, i);
        fake_beside.values[i] = mark(lv2 ? NESTED_VMCS01 : NESTED_VMCS02, i);
        n.vmcs12.values[i] = mark(NESTED_VMCS12, i);
    }
    forget(&vcpu01);
    forget(&n.vcpu02);
}

static void expect_all(bool vmcs12)
{
    for (unsigned vmcs = 0; vmcs < NESTED_VMCSS; vmcs++)
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
            const struct vmcs_field field = vmcs_field_at(i);
            const bool exists = vmcs == NESTED_VMCS12
                                    ? vmcs12 && vmcs_field_exists(field, &policy.capabilities.offered)
                                    : vmcs_field_exists(field, &hardware);
            uint64_t value;

            if (nested_snapshot_value(&snapshot, (enum nested_snapshot_vmcs)vmcs, field, &value) != exists)
                fail_msg("VMCS %u: %s %s", vmcs, vmcs_field_name(field), exists ? "is missing" : "is there");
            if (exists)
                assert_int_equal(value, mark(vmcs, i));
        }
}

static void take(enum nested_mode mode)
{
    const uint64_t current = mode == NESTED_NON_ROOT ? n.vcpu02.vmcs.value : vcpu01.vmcs.value;

    n.mode = mode;
    if (mode == NESTED_NON_ROOT)
        vcpu_switch(&vcpu01);
    assert_int_equal(fake_beside.current, current);
    mark_all();
    memset(&snapshot, 0xa5, sizeof(snapshot));
    nested_snapshot_take(&n, &snapshot);
    assert_int_equal(fake_beside.current, current);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        assert_int_equal(fake_vmcs.values[i],
                         mark(mode == NESTED_NON_ROOT ? NESTED_VMCS02 : NESTED_VMCS01, i));
    assert_int_equal(snapshot.mode, mode);
}

static void test_lv1_runs(void **state)
{
    (void)state;
    n.vmxon_pointer = 0x5000;
    take(NESTED_ROOT);
    assert_int_equal(snapshot.vmxon_pointer, 0x5000);
    assert_int_equal(snapshot.current, n.current);
    expect_all(true);
}

static void test_lv2_runs(void **state)
{
    (void)state;
    take(NESTED_NON_ROOT);
    expect_all(true);
}

/* A field that a logical exit left in VMCS02 is VMCS12's all the same. */
static void test_away(void **state)
{
    const struct vmcs_field away = VMCS_GUEST_DS_BASE, here = VMCS_GUEST_RIP;
    uint64_t value;

    (void)state;
    n.vmcs12.away[away.index / 64] |= BIT(away.index % 64);
    take(NESTED_ROOT);
    assert_true(nested_snapshot_value(&snapshot, NESTED_VMCS12, away, &value));
    assert_int_equal(value, mark(NESTED_VMCS02, away.index));
    assert_true(nested_snapshot_value(&snapshot, NESTED_VMCS12, here, &value));
    assert_int_equal(value, mark(NESTED_VMCS12, here.index));
    assert_true(vmcs12_is_away(&n.vmcs12, away));
}

static void test_no_vmcs12(void **state)
{
    (void)state;
    n.current = NESTED_NO_VMCS;
    take(NESTED_OFF);
    expect_all(false);
}

static int set_up_each(void **state)
{
    setup(state);
    vcpu_switch(&vcpu01); /* both have host state on this processor */
    vcpu_switch(&n.vcpu02);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lv1_runs, set_up_each),
        cmocka_unit_test_setup(test_lv2_runs, set_up_each),
        cmocka_unit_test_setup(test_away, set_up_each),
        cmocka_unit_test_setup(test_no_vmcs12, set_up_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
