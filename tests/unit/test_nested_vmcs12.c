// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/vmcs12.c. Fails when a value does not survive a region, lands on another's place or outside of the
 * region, when a bit is taken over that no VMWRITE could have set, when the head of a region is touched, when
 * the launch state is lost, or when a field counts as written that was not, and the other way round.
 */
#include "nested/vmcs12.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 0x2545f4914f6cdd1d;

static uint64_t random_value(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x9e3779b97f4a7c15;
}

/* By the encoding: bits 14:13. */
static uint64_t width_mask(unsigned index)
{
    static const uint64_t masks[] = {0xffff, ~0ULL, 0xffffffff, ~0ULL};

    return masks[vmcs_field_at(index).encoding >> 13 & 3];
}

/* To a region, and from one: the copies that are made. */
static void pack(const struct vmcs12 *vmcs, uint8_t *region)
{
    memcpy(region + VMCS12_LAUNCH_STATE, &vmcs->launched, VMCS12_IMAGE_SIZE);
}

static void unpack(struct vmcs12 *vmcs, const uint8_t *region)
{
    memcpy(&vmcs->launched, region + VMCS12_LAUNCH_STATE, VMCS12_IMAGE_SIZE);
    vmcs12_accept(vmcs);
}

static void there_and_back(void **state)
{
    struct vmcs12 before, after;
    uint8_t region[VMCS12_REGION_SIZE + 1];

    (void)state;
    for (unsigned run = 0; run < 1000; run++) {
        memset(&before, 0, sizeof(before));
        memset(&after, 0xa5, sizeof(after));
        memset(region, 0x5a, sizeof(region));
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
            vmcs12_write(&before, vmcs_field_at(i), random_value() & width_mask(i));
        before.launched = random_value() >> 63;

        pack(&before, region);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(region[i], 0x5a);
        assert_int_equal(region[VMCS12_REGION_SIZE], 0x5a);
        unpack(&after, region);
        assert_memory_equal(before.values, after.values, sizeof(before.values));
        assert_int_equal(before.launched, after.launched);
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
            assert_true(vmcs12_is_written(&after, vmcs_field_at(i)) &&
                        !vmcs12_is_away(&after, vmcs_field_at(i)));
        assert_int_equal(after.written[VMCS12_FIELD_WORDS - 1] >> VMCS_FIELD_COUNT % 64, 0);
        assert_false(after.changed);
    }
}

/* Each field has bytes of its own, and all of them follow the launch state. */
static void places(void **state)
{
    struct vmcs12 vmcs;
    uint8_t empty[VMCS12_REGION_SIZE] = {0}, region[VMCS12_REGION_SIZE], all[VMCS12_REGION_SIZE] = {0};

    (void)state;
    assert_true(VMCS12_REGION_SIZE <= PAGE_SIZE);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        memset(&vmcs, 0, sizeof(vmcs));
        memset(region, 0, sizeof(region));
        vmcs12_write(&vmcs, vmcs_field_at(i), width_mask(i));
        pack(&vmcs, region);
        assert_memory_equal(region, empty, 16);
        assert_memory_not_equal(region, empty, sizeof(region));
        for (unsigned byte = 0; byte < sizeof(region); byte++) {
            assert_int_equal(region[byte] & all[byte], 0);
            all[byte] |= region[byte];
        }
    }
}

/* A region that nobody packed: what does not fit a field's width is not taken over, any launch state but 0 is
 * launched. */
static void any_bytes(void **state)
{
    struct vmcs12 vmcs;
    uint8_t region[VMCS12_REGION_SIZE];

    (void)state;
    memset(region, 0xff, sizeof(region));
    memset(&vmcs, 0, sizeof(vmcs));
    unpack(&vmcs, region);
    assert_true(vmcs.launched);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        assert_int_equal(vmcs12_read(&vmcs, vmcs_field_at(i)), width_mask(i));

    memset(region, 0, sizeof(region));
    unpack(&vmcs, region);
    assert_false(vmcs.launched);
    for (unsigned byte = VMCS12_LAUNCH_STATE; byte < VMCS12_LAUNCH_STATE + 8; byte++) {
        region[byte] = 0x80;
        unpack(&vmcs, region);
        assert_true(vmcs.launched);
        region[byte] = 0;
    }
}

/* Sets of fields, as constant expressions. */
static void sets(void **state)
{
    static const uint64_t some[VMCS12_FIELD_WORDS] = {
        VMCS12_RANGE(GUEST_ES_LIMIT, GUEST_TR_LIMIT, 0), VMCS12_RANGE(GUEST_ES_LIMIT, GUEST_TR_LIMIT, 1),
        VMCS12_RANGE(GUEST_ES_LIMIT, GUEST_TR_LIMIT, 2), VMCS12_RANGE(GUEST_ES_LIMIT, GUEST_TR_LIMIT, 3)};
    static const uint64_t wide[] = {VMCS12_RANGE(VPID, HOST_RIP, 0), VMCS12_RANGE(VPID, HOST_RIP, 1),
                                    VMCS12_RANGE(GUEST_CS_SELECTOR, HOST_RIP, 0), VMCS12_BIT(VPID, 0),
                                    VMCS12_BIT(VPID, 1)};
    struct vmcs12 vmcs;

    (void)state;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const bool is_in = i >= VMCS_INDEX_GUEST_ES_LIMIT && i <= VMCS_INDEX_GUEST_TR_LIMIT;

        assert_int_equal(some[i / 64] >> i % 64 & 1, is_in);
        memset(&vmcs, 0, sizeof(vmcs));
        vmcs12_write(&vmcs, vmcs_field_at(i), 0);
        assert_int_equal(vmcs12_any_written(&vmcs, some), is_in);
    }
    assert_int_equal(wide[0], UINT64_MAX);
    assert_int_equal(wide[1], UINT64_MAX);
    assert_int_equal(wide[2], UINT64_MAX << VMCS_INDEX_GUEST_CS_SELECTOR);
    assert_int_equal(wide[3], 1);
    assert_int_equal(wide[4], 0);
}

static void written(void **state)
{
    struct vmcs12 vmcs;
    uint8_t region[VMCS12_REGION_SIZE] = {0};

    (void)state;
    memset(&vmcs, 0, sizeof(vmcs));
    unpack(&vmcs, region);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        vmcs12_forget_written(&vmcs);
        vmcs.away[i / 64] = BIT(i % 64);
        vmcs12_save(&vmcs, vmcs_field_at(i), 2);
        assert_true(vmcs12_is_away(&vmcs, vmcs_field_at(i)));
        assert_false(vmcs12_is_written(&vmcs, vmcs_field_at(i)));
        vmcs.changed = false;
        vmcs12_write(&vmcs, vmcs_field_at(i), 1);
        assert_false(vmcs12_is_away(&vmcs, vmcs_field_at(i)));
        assert_true(vmcs.changed);
        for (unsigned j = 0; j < VMCS_FIELD_COUNT; j++)
            assert_int_equal(vmcs12_is_written(&vmcs, vmcs_field_at(j)), i == j);
        assert_int_equal(vmcs12_read(&vmcs, vmcs_field_at(i)), 1);
    }
}

static void controls(void **state)
{
    struct vmcs12 vmcs;

    (void)state;
    memset(&vmcs, 0, sizeof(vmcs));
    vmcs12_write(&vmcs, VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_EPT | VMX_SECONDARY_VPID);
    assert_false(vmcs12_has_secondary(&vmcs, VMX_SECONDARY_EPT));
    vmcs12_write(&vmcs, VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS | VMX_PRIMARY_TPR_SHADOW);
    assert_true(vmcs12_has_secondary(&vmcs, VMX_SECONDARY_EPT | VMX_SECONDARY_VPID));
    assert_false(vmcs12_has_secondary(&vmcs, VMX_SECONDARY_EPT | VMX_SECONDARY_RDTSCP));
    assert_true(vmcs12_has_primary(&vmcs, VMX_PRIMARY_TPR_SHADOW));
    assert_false(vmcs12_has_primary(&vmcs, VMX_PRIMARY_TPR_SHADOW | VMX_PRIMARY_HLT_EXITING));
    vmcs12_write(&vmcs, VMCS_PIN_CONTROLS, VMX_PIN_NMI_EXITING);
    assert_true(vmcs12_has_pin(&vmcs, VMX_PIN_NMI_EXITING));
    assert_false(vmcs12_has_pin(&vmcs, VMX_PIN_NMI_EXITING | VMX_PIN_VIRTUAL_NMIS));
    vmcs12_write(&vmcs, VMCS_EXIT_CONTROLS, VMX_EXIT_HOST_64);
    assert_true(vmcs12_has_exit(&vmcs, VMX_EXIT_HOST_64));
    assert_false(vmcs12_has_entry(&vmcs, VMX_ENTRY_IA32E_GUEST));
    vmcs12_write(&vmcs, VMCS_ENTRY_CONTROLS, VMX_ENTRY_IA32E_GUEST);
    assert_true(vmcs12_has_entry(&vmcs, VMX_ENTRY_IA32E_GUEST));
    assert_false(vmcs12_has_exit(&vmcs, VMX_EXIT_HOST_64 | VMX_EXIT_SAVE_EFER));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(sets),    cmocka_unit_test(places),
        cmocka_unit_test(any_bytes),      cmocka_unit_test(written), cmocka_unit_test(controls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
