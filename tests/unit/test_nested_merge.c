// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/merge.c. Fails when a field of VMCS02 is not what its row of the table says, when a control, an
 * exception, a register or a bit of the MSR bitmap is not whose it is, and when a merge writes what has not
 * changed.
 */
#include "nested/merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nested/entry.h"
#include "tests/unit/nested_pair.h"

/* ---- What was seen of each row ---------------------------------------------------------------------------
 */

/*
 * A field that Lv1 has a say in has been seen both ways when tests have looked at two values of it in VMCS02;
 * one that is Lv1's alone, when VMCS12's value came through, and one that is not Lv1's, when it did not.
 */
static struct {
    bool looked, both;
    uint64_t first;
} seen[VMCS_FIELD_COUNT];

static uint64_t look(struct vmcs_field field)
{
    const uint64_t value = get02(field);

    seen[field.index].both =
        seen[field.index].both || (seen[field.index].looked && value != seen[field.index].first);
    if (!seen[field.index].looked)
        seen[field.index].first = value;
    seen[field.index].looked = true;
    return value;
}

#define get02 look

/* The merge alone: VMCS02 is current after it. */
static void merge(void)
{
    if (fake_beside.current != n.vcpu02.vmcs.value)
        vcpu_switch(&vcpu01);
    nested_merge(&n, &input, &entry);
}

/* ---- The table ----------------------------------------------------------------------------------------- */

static void test_table(void **state)
{
    unsigned owners[NESTED_FIELD_ABSENT + 1] = {0};

    (void)state;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field field = vmcs_field_at(i);
        const enum nested_field_owner owner = nested_merge_owner(field);
        const enum vmcs_class class = vmcs_field_class(field);

        owners[owner]++;
        assert_true(strlen(nested_merge_rule(field)) > 0 && strlen(nested_merge_reason(field)) > 0);
        /* Umbra is the host, and what the processor tells is nobody's to set. */
        if (class == VMCS_CLASS_HOST || class == VMCS_CLASS_INFORMATION)
            assert_true(owner == NESTED_FIELD_LV0 || owner == NESTED_FIELD_ABSENT);
        /* What is copied is there on every processor, and so may be written without a question. */
        if (owner == NESTED_FIELD_LV1)
            assert_true(vmcs_field_exists(field, &(struct vmx_capabilities){0}));
        /* What Lv1 has not got, it has no say in; what is absent, it has not got. */
        if (!vmcs_field_exists(field, &policy.capabilities.offered))
            assert_true(owner == NESTED_FIELD_ABSENT || owner == NESTED_FIELD_LV0);
        if (owner == NESTED_FIELD_ABSENT && i != VMCS_INDEX_EXECUTIVE_VMCS_POINTER)
            assert_false(vmcs_field_exists(field, &policy.capabilities.offered));
    }
    printf("%u fields: %u Lv1's, %u Lv0's, %u merged, %u translated, %u computed, %u absent\n",
           VMCS_FIELD_COUNT, owners[0], owners[1], owners[2], owners[3], owners[4], owners[5]);
}

/* Whatever VMCS12 has in each field: in VMCS02 it is there if the field is Lv1's, and it is not seen at all
 * if the field is Umbra's or absent. */
static void test_every_field(void **state)
{
    static uint64_t before[VMCS_FIELD_COUNT];

    (void)state;
    merge();
    memcpy(before, fake_vmcs.values, sizeof(before));
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field field = vmcs_field_at(i);
        const enum nested_field_owner owner = nested_merge_owner(field);
        const uint64_t kept = get12(field);
        const uint64_t value = (0xa5a5a5a5a5a50000 | i) & vmcs_width_mask(vmcs_field_width(field));

        if (owner != NESTED_FIELD_LV1 && owner != NESTED_FIELD_LV0 && owner != NESTED_FIELD_ABSENT)
            continue;
        set12(field, value);
        merge();
        for (unsigned j = 0; j < VMCS_FIELD_COUNT; j++)
            assert_int_equal(fake_vmcs.values[j], j == i && owner == NESTED_FIELD_LV1 ? value : before[j]);
        set12(field, kept);
        merge();
        assert_memory_equal(fake_vmcs.values, before, sizeof(before));
        seen[i].both = true;
    }
}

/* An entry at which nothing changed writes nothing; one with one field written writes that. */
static void test_unchanged(void **state)
{
    (void)state;
    merge();
    fake_vmcs.writes = 0;
    merge();
    assert_int_equal(fake_vmcs.writes, 0);
    vmcs12_forget_written(&n.vmcs12);
    n.vmcs12.values[VMCS_INDEX_GUEST_RSP] = 1; /* as no VMWRITE of Lv1's can: nobody looks */
    merge();
    assert_int_equal(fake_vmcs.writes, 0);
    set12(VMCS_GUEST_RIP, 0x4321);
    merge();
    assert_int_equal(fake_vmcs.writes, 1);
    assert_int_equal(get02(VMCS_GUEST_RIP), 0x4321);
}

/* ---- Controls -------------------------------------------------------------------------------------------
 */

/* What a control of VMCS02 is, where Lv1 sets it alone: the default is 0 however Lv1 has it. */
enum expected { ZERO, ONE, LV1S };

static enum expected expected_control(enum vmx_control_row row)
{
    switch (row) {
    case VMX_CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING:
    case VMX_CONTROL_PIN_NMI_EXITING:
    case VMX_CONTROL_PIN_VIRTUAL_NMIS:
    case VMX_CONTROL_PIN_PREEMPTION_TIMER:
    case VMX_CONTROL_PRIMARY_TSC_OFFSETTING:
    case VMX_CONTROL_PRIMARY_HLT_EXITING:
    case VMX_CONTROL_PRIMARY_MWAIT_EXITING:
    case VMX_CONTROL_PRIMARY_RDPMC_EXITING:
    case VMX_CONTROL_PRIMARY_TPR_SHADOW:
    case VMX_CONTROL_PRIMARY_UNCONDITIONAL_IO_EXITING:
    case VMX_CONTROL_PRIMARY_MSR_BITMAPS:
    case VMX_CONTROL_PRIMARY_MONITOR_EXITING:
    case VMX_CONTROL_PRIMARY_SECONDARY_CONTROLS:
    case VMX_CONTROL_SECONDARY_EPT:
    case VMX_CONTROL_SECONDARY_VPID:
    case VMX_CONTROL_SECONDARY_WBINVD_EXITING:
    case VMX_CONTROL_SECONDARY_PAUSE_LOOP_EXITING:
    case VMX_CONTROL_EXIT_SAVE_DEBUG_CONTROLS:
    case VMX_CONTROL_EXIT_HOST_64:
    case VMX_CONTROL_EXIT_ACKNOWLEDGE_INTERRUPT:
    case VMX_CONTROL_EXIT_SAVE_PAT:
    case VMX_CONTROL_EXIT_LOAD_PAT:
    case VMX_CONTROL_EXIT_SAVE_EFER:
    case VMX_CONTROL_EXIT_LOAD_EFER:
    case VMX_CONTROL_EXIT_SAVE_PREEMPTION_TIMER:
    case VMX_CONTROL_ENTRY_LOAD_DEBUG_CONTROLS:
    case VMX_CONTROL_ENTRY_LOAD_PAT:
    case VMX_CONTROL_ENTRY_LOAD_EFER:
        return ONE;
    case VMX_CONTROL_PRIMARY_INTERRUPT_WINDOW_EXITING:
    case VMX_CONTROL_PRIMARY_INVLPG_EXITING:
    case VMX_CONTROL_PRIMARY_RDTSC_EXITING:
    case VMX_CONTROL_PRIMARY_CR3_LOAD_EXITING:
    case VMX_CONTROL_PRIMARY_CR3_STORE_EXITING:
    case VMX_CONTROL_PRIMARY_CR8_LOAD_EXITING:
    case VMX_CONTROL_PRIMARY_CR8_STORE_EXITING:
    case VMX_CONTROL_PRIMARY_NMI_WINDOW_EXITING:
    case VMX_CONTROL_PRIMARY_MOV_DR_EXITING:
    case VMX_CONTROL_PRIMARY_MONITOR_TRAP_FLAG:
    case VMX_CONTROL_PRIMARY_PAUSE_EXITING:
    case VMX_CONTROL_SECONDARY_VIRTUALIZE_APIC_ACCESSES:
    case VMX_CONTROL_SECONDARY_DESCRIPTOR_TABLE_EXITING:
    case VMX_CONTROL_SECONDARY_RDTSCP:
    case VMX_CONTROL_SECONDARY_VIRTUALIZE_X2APIC:
    case VMX_CONTROL_SECONDARY_UNRESTRICTED_GUEST:
    case VMX_CONTROL_SECONDARY_RDRAND_EXITING:
    case VMX_CONTROL_SECONDARY_INVPCID:
    case VMX_CONTROL_SECONDARY_RDSEED_EXITING:
    case VMX_CONTROL_SECONDARY_XSAVES:
    case VMX_CONTROL_ENTRY_IA32E_GUEST:
        return LV1S;
    default:
        return ZERO;
    }
}

/* Skylake-X has none of the others. */
static const struct vmcs_field word_fields[VMX_WORDS] = {
    [VMX_WORD_PIN] = {0x4000, VMCS_INDEX_PIN_CONTROLS},
    [VMX_WORD_PRIMARY] = {0x4002, VMCS_INDEX_PRIMARY_CONTROLS},
    [VMX_WORD_SECONDARY] = {0x401e, VMCS_INDEX_SECONDARY_CONTROLS},
    [VMX_WORD_EXIT] = {0x400c, VMCS_INDEX_EXIT_CONTROLS},
    [VMX_WORD_ENTRY] = {0x4012, VMCS_INDEX_ENTRY_CONTROLS},
};

static void check_control(enum vmx_control_row row, enum vmx_word word, uint32_t mask)
{
    const struct vmcs_field field = word_fields[word];
    const enum expected expected = expected_control(row);

    for (unsigned on = 0; on < 2; on++) {
        good_vmcs12();
        add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
        drop12(field, mask);
        set12(field, get12(field) | (on ? mask : 0));
        nested_merge_state(&n.vmcs12, 0x80000031, 0, &entry.state);
        merge();
        if ((get02(field) & mask) != (expected == ONE || (expected == LV1S && on) ? mask : 0))
            fail_msg("%s: %#lx with %u", vmx_control_name(row), get02(field), on);
    }
}

static void test_controls(void **state)
{
    (void)state;
#define X(WORD, BIT, NAME, TEXT, WANT, WHY)                                                                  \
    if (vmx_controls_available(&hardware, VMX_WORD_##WORD, VMX_##WORD##_##NAME) &&                           \
        word_fields[VMX_WORD_##WORD].encoding != 0)                                                          \
        check_control(VMX_CONTROL_##WORD##_##NAME, VMX_WORD_##WORD, VMX_##WORD##_##NAME);
    VMX_CONTROLS(X)
#undef X
}

/* Without "activate secondary controls" Lv1's word says nothing. */
static void test_no_secondary(void **state)
{
    (void)state;
    drop12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
    set12(VMCS_SECONDARY_CONTROLS, UINT32_MAX);
    merge();
    assert_int_equal(get02(VMCS_SECONDARY_CONTROLS) &
                         (VMX_SECONDARY_RDTSCP | VMX_SECONDARY_INVPCID | VMX_SECONDARY_RDRAND_EXITING |
                          VMX_SECONDARY_UNRESTRICTED_GUEST | VMX_SECONDARY_VIRTUALIZE_X2APIC),
                     0);
}

/* What Umbra has of its own and no guest of Lv1's may have: ports without exits, an unrestricted guest
 * without EPT. */
static void test_not_for_lv2(void **state)
{
    (void)state;
    n.vcpu02.controls.words[VMX_WORD_PRIMARY] |= VMX_PRIMARY_IO_BITMAPS;
    n.vcpu02.controls.words[VMX_WORD_PRIMARY] &= ~(uint64_t)VMX_PRIMARY_UNCONDITIONAL_IO_EXITING;
    merge();
    assert_int_equal(get02(VMCS_PRIMARY_CONTROLS) &
                         (VMX_PRIMARY_IO_BITMAPS | VMX_PRIMARY_UNCONDITIONAL_IO_EXITING),
                     VMX_PRIMARY_UNCONDITIONAL_IO_EXITING);
    set_up(CR_INSTANCE_SHADOW, false);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_UNRESTRICTED_GUEST);
    merge();
    assert_int_equal(get02(VMCS_SECONDARY_CONTROLS) & (VMX_SECONDARY_UNRESTRICTED_GUEST | VMX_SECONDARY_EPT),
                     0);
}

/* Lv1's windows stay when vcpu02's own events are looked at. */
static void test_windows(void **state)
{
    (void)state;
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_INTERRUPT_WINDOW_EXITING);
    merge();
    vcpu_events_decide(&n.vcpu02);
    assert_int_equal(get02(VMCS_PRIMARY_CONTROLS) &
                         (VMX_PRIMARY_INTERRUPT_WINDOW_EXITING | VMX_PRIMARY_NMI_WINDOW_EXITING),
                     VMX_PRIMARY_INTERRUPT_WINDOW_EXITING);
    drop12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_INTERRUPT_WINDOW_EXITING);
    merge();
    assert_int_equal(get02(VMCS_PRIMARY_CONTROLS) & VMX_PRIMARY_INTERRUPT_WINDOW_EXITING, 0);
}

static void test_pause_loop(void **state)
{
    const uint64_t gap = fake_get(VMCS_PLE_GAP), window = fake_get(VMCS_PLE_WINDOW);

    (void)state;
    set12(VMCS_PLE_GAP, 3);
    set12(VMCS_PLE_WINDOW, 4);
    merge();
    assert_int_equal(get02(VMCS_PLE_GAP), gap);
    assert_int_equal(get02(VMCS_PLE_WINDOW), window);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_PAUSE_LOOP_EXITING);
    merge();
    assert_int_equal(get02(VMCS_PLE_GAP), 3);
    assert_int_equal(get02(VMCS_PLE_WINDOW), 4);
    set12(VMCS_SECONDARY_CONTROLS, 0);
    merge();
    assert_int_equal(get02(VMCS_PLE_GAP), gap);
    assert_int_equal(get02(VMCS_PLE_WINDOW), window);
}

/* Components that exit are Lv1's to choose, where it lets Lv2 have XSAVES. */
static void test_xss(void **state)
{
    (void)state;
    set12(VMCS_XSS_EXITING_BITMAP, 0x300);
    merge();
    assert_int_equal(get02(VMCS_XSS_EXITING_BITMAP), 0);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_XSAVES);
    merge();
    assert_int_equal(get02(VMCS_XSS_EXITING_BITMAP), 0x300);
}

static void test_sieves(void **state)
{
    (void)state;
    merge(); /* Lv1 wants none of them: #DB, #AC, #MC are Umbra's */
    assert_int_equal(get02(VMCS_EXCEPTION_BITMAP), BIT(1) | BIT(17) | BIT(18));
    set12(VMCS_EXCEPTION_BITMAP, BIT(3) | BIT(14));
    set12(VMCS_PAGE_FAULT_ERROR_MASK, 5);
    set12(VMCS_PAGE_FAULT_ERROR_MATCH, 1);
    set12(VMCS_CR3_TARGET_COUNT, 2);
    merge();
    assert_int_equal(get02(VMCS_EXCEPTION_BITMAP), BIT(1) | BIT(3) | BIT(14) | BIT(17) | BIT(18));
    assert_int_equal(get02(VMCS_PAGE_FAULT_ERROR_MASK), 5);
    assert_int_equal(get02(VMCS_PAGE_FAULT_ERROR_MATCH), 1);
    assert_int_equal(get02(VMCS_CR3_TARGET_COUNT), 2);

    set_up(CR_INSTANCE_SHADOW, false); /* where every page fault is Umbra's first */
    set12(VMCS_EXCEPTION_BITMAP, BIT(3));
    set12(VMCS_PAGE_FAULT_ERROR_MASK, 5);
    set12(VMCS_PAGE_FAULT_ERROR_MATCH, 1);
    set12(VMCS_CR3_TARGET_COUNT, 2);
    nested_merge_state(&n.vmcs12, 0x80000031, 0, &entry.state);
    merge();
    assert_int_equal(get02(VMCS_EXCEPTION_BITMAP), BIT(1) | BIT(3) | BIT(14) | BIT(17) | BIT(18));
    assert_int_equal(get02(VMCS_PAGE_FAULT_ERROR_MASK), 0);
    assert_int_equal(get02(VMCS_PAGE_FAULT_ERROR_MATCH), 0);
    assert_int_equal(get02(VMCS_CR3_TARGET_COUNT), 0);
    assert_int_equal(get02(VMCS_GUEST_CR3), 0x11000); /* the root, which is chosen after the merge */
    assert_int_equal(vcpu_read_cr3(&n.vcpu02), 0x8000);
}

static void test_tsc(void **state)
{
    (void)state;
    set12(VMCS_TSC_OFFSET, 0x234);
    merge();
    assert_int_equal(get02(VMCS_TSC_OFFSET), LV1_TSC_OFFSET);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_TSC_OFFSETTING);
    merge();
    assert_int_equal(get02(VMCS_TSC_OFFSET), LV1_TSC_OFFSET + 0x234);
    vcpu_switch(&n.vcpu02);
    vcpu_write(&vcpu01, VMCS_TSC_OFFSET, 1);
    vcpu_switch(&vcpu01);
    nested_merge_tsc_offset(&n);
    assert_int_equal(get02(VMCS_TSC_OFFSET), 0x235);
}

static void test_addresses(void **state)
{
    (void)state;
    merge();
    /* Another Lv2: other tables, another tag, another bitmap. */
    input = (struct nested_merge_input){HPA(0x55000), VPID_LV2 + 1, physmap_address(frames[0]), kept_pdptes};
    merge();
    assert_int_equal(get02(VMCS_EPT_POINTER) & ~0xfffULL, 0x55000);
    assert_int_equal(get02(VMCS_VPID), VPID_LV2 + 1);
    assert_int_equal(get02(VMCS_MSR_BITMAPS), physmap_address(frames[0]).value);
    setup(NULL);
    merge();
    assert_int_equal(get02(VMCS_EPT_POINTER) & ~0xfffULL, 0x22000);
    assert_int_equal(get02(VMCS_VPID), VPID_LV2);
    assert_int_equal(n.vcpu02.vpid, VPID_LV2);
    assert_int_equal(get02(VMCS_MSR_BITMAPS), input.msr_bitmap.value);
}

/* ---- The local APIC --------------------------------------------------------------------------------------
 */

static void test_tpr(void **state)
{
    (void)state;
    set12(VMCS_TPR_THRESHOLD, 7);
    entry.virtual_apic = HPA(0x33000);
    merge();
    assert_int_equal(get02(VMCS_VIRTUAL_APIC_ADDRESS), LV1_VIRTUAL);
    assert_int_equal(get02(VMCS_TPR_THRESHOLD), 0);
    assert_int_equal(nested_merge_tpr_threshold(&n, 5), 5);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_TPR_SHADOW);
    merge();
    assert_int_equal(get02(VMCS_VIRTUAL_APIC_ADDRESS), 0x33000);
    assert_int_equal(get02(VMCS_TPR_THRESHOLD), 7);
    assert_int_equal(nested_merge_tpr_threshold(&n, 5), 7);
    vcpu_events_changed(&n.vcpu02);
    vcpu_events_before_entry(&n.vcpu02);
    assert_int_equal(get02(VMCS_TPR_THRESHOLD), 7);

    set_up(CR_INSTANCE_UNRESTRICTED, true);
    merge();
    assert_int_equal(get02(VMCS_PRIMARY_CONTROLS) & (BIT(19) | BIT(20) | BIT(21)), BIT(19) | BIT(20));
}

/* Lv2 that uses Lv1's local APIC finds it where Lv1 does; one that has its own finds that. */
static void test_apic_access(void **state)
{
    (void)state;
    vcpu_write(&vcpu01, VMCS_SECONDARY_CONTROLS,
               fake_get(VMCS_SECONDARY_CONTROLS) | VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES |
                   VMX_SECONDARY_APIC_REGISTER_VIRTUALIZATION | VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY);
    vcpu_write(&vcpu01, VMCS_APIC_ACCESS_ADDRESS, LV1_APIC_PAGE);
    merge();
    assert_int_equal(get02(VMCS_SECONDARY_CONTROLS) & 0x311, 1);
    assert_int_equal(get02(VMCS_APIC_ACCESS_ADDRESS), LV1_APIC_PAGE);

    entry.apic_access = HPA(0x44000);
    entry.virtual_apic = HPA(0x33000);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS | VMX_PRIMARY_TPR_SHADOW);
    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES);
    merge();
    assert_int_equal(get02(VMCS_SECONDARY_CONTROLS) & 0x311, 1);
    assert_int_equal(get02(VMCS_APIC_ACCESS_ADDRESS), 0x44000);

    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_X2APIC);
    merge();
    assert_int_equal(get02(VMCS_SECONDARY_CONTROLS) & 0x311, 0x10);
}

/* ---- The MSR bitmap --------------------------------------------------------------------------------------
 */

static bool bit_of(const uint8_t *bitmap, uint32_t msr, bool write)
{
    const unsigned run = (msr >= MSR_BITMAP_HIGH_FIRST ? 1024 : 0) + (write ? 2048 : 0);

    return bitmap[run + msr % MSR_BITMAP_RUN / 8] >> msr % 8 & 1;
}

/* Every bit: no register is through that Umbra's policy or Lv1 intercepts, but the TPR of a local APIC that
 * the processor virtualizes for Lv2. `all`: and every other is. */
static void check_bitmap(const uint8_t *lv1, bool x2apic)
{
    unsigned passed = 0;

    for (unsigned high = 0; high < 2; high++)
        for (uint32_t i = 0; i < MSR_BITMAP_RUN; i++)
            for (unsigned write = 0; write < 2; write++) {
                const uint32_t msr = i + (high ? MSR_BITMAP_HIGH_FIRST : 0);
                const bool own = bit_of(frames[2], msr, write) && !(x2apic && msr == 0x808);
                const bool expected = own || lv1 == NULL || bit_of(lv1, msr, write);

                if (bit_of(frames[3], msr, write) != expected)
                    fail_msg("MSR %#x, write %u: %d", msr, write, !expected);
                passed += !expected;
            }
    if (lv1 == NULL)
        assert_int_equal(passed, 0);
}

static void test_msr_bitmap(void **state)
{
    uint64_t seed = 88172645463325252;

    (void)state;
    set12(VMCS_MSR_BITMAPS, PAGE_BITMAP);
    merge(); /* Lv1 does not use it: it intercepts everything */
    check_bitmap(NULL, false);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_MSR_BITMAPS);
    merge();
    check_bitmap(flat_memory + PAGE_BITMAP, false);
    assert_false(bit_of(frames[3], MSR_IA32_LSTAR, true));
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < PAGE_SIZE; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            flat_memory[PAGE_BITMAP + i] = (uint8_t)seed;
        }
        merge();
        check_bitmap(flat_memory + PAGE_BITMAP, false);
    }
    memset(flat_memory + PAGE_BITMAP, 0, PAGE_SIZE);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS | VMX_PRIMARY_TPR_SHADOW);
    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_X2APIC);
    merge();
    check_bitmap(flat_memory + PAGE_BITMAP, true);
    set12(VMCS_SECONDARY_CONTROLS, 0);
    merge();
    check_bitmap(flat_memory + PAGE_BITMAP, false);
    set12(VMCS_MSR_BITMAPS, NOWHERE); /* reads as ones */
    merge();
    check_bitmap(NULL, false);
}

/* ---- Guest state -----------------------------------------------------------------------------------------
 */

/* What an entry loads only if it is told to, else stays as Lv1 has it. */
static void test_loaded(void **state)
{
    (void)state;
    entry.lv1.pat = 1;
    entry.lv1.dr7 = 0x401;
    entry.lv1.debugctl = 2;
    set12(VMCS_GUEST_PAT, 0x404);
    set12(VMCS_GUEST_DR7, 0x402);
    set12(VMCS_GUEST_DEBUGCTL, 0);
    drop12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_PAT | VMX_ENTRY_LOAD_DEBUG_CONTROLS);
    merge();
    assert_int_equal(get02(VMCS_GUEST_PAT), 1);
    assert_int_equal(get02(VMCS_GUEST_DR7), 0x401);
    assert_int_equal(get02(VMCS_GUEST_DEBUGCTL), 2);
    add12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_PAT | VMX_ENTRY_LOAD_DEBUG_CONTROLS);
    merge();
    assert_int_equal(get02(VMCS_GUEST_PAT), 0x404);
    assert_int_equal(get02(VMCS_GUEST_DR7), 0x402);
    assert_int_equal(get02(VMCS_GUEST_DEBUGCTL), 0);
    /* The MSR list comes last. */
    entry.list = (struct nested_list_values){.present = 0x1f, .values = {0x100000011, 12, 13, 2, 15}};
    merge();
    assert_int_equal(get02(VMCS_GUEST_SYSENTER_CS), 0x11);
    assert_int_equal(get02(VMCS_GUEST_SYSENTER_ESP), 12);
    assert_int_equal(get02(VMCS_GUEST_SYSENTER_EIP), 13);
    assert_int_equal(get02(VMCS_GUEST_DEBUGCTL), 2);
    assert_int_equal(get02(VMCS_GUEST_PAT), 15);
}

/* An Lv2 that is to rest does so in Umbra. */
static void test_activity(void **state)
{
    (void)state;
    for (unsigned activity = 0; activity < 4; activity++) {
        set12(VMCS_GUEST_ACTIVITY, activity);
        merge();
        assert_int_equal(get02(VMCS_GUEST_ACTIVITY), 0);
    }
    seen[VMCS_INDEX_GUEST_ACTIVITY].both = true;
}

/* What an entry injects, and an entry that injects something else. */
static void test_event(void **state)
{
    static const struct {
        uint64_t information, error, length;
    } events[] = {
        {BIT(31) | BIT(11) | 3 << 8 | 14, 5, 0},
        {BIT(31) | BIT(11) | 3 << 8 | 13, 6, 0},
        {BIT(31) | 4 << 8 | 0x80, 0, 2},
        {BIT(31) | 6 << 8 | 3, 0, 1},
    };
    struct nested_entry_failure failure;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
        setup(NULL);
        set12(VMCS_ENTRY_INTERRUPTION_INFO, events[i].information);
        set12(VMCS_ENTRY_EXCEPTION_ERROR_CODE, events[i].error);
        set12(VMCS_ENTRY_INSTRUCTION_LENGTH, events[i].length);
        assert_int_equal(nested_enter(&n, &input, &failure), NESTED_ENTERED);
        vcpu_events_before_entry(&n.vcpu02);
        assert_int_equal(get02(VMCS_ENTRY_INTERRUPTION_INFO), events[i].information);
        if (events[i].information & BIT(11))
            assert_int_equal(get02(VMCS_ENTRY_EXCEPTION_ERROR_CODE), events[i].error);
        if (events[i].length != 0)
            assert_int_equal(get02(VMCS_ENTRY_INSTRUCTION_LENGTH), events[i].length);
    }
}

static void test_entry_state(void **state)
{
    const uint64_t lv1_efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
    struct cr_state s;

    (void)state;
    set12(VMCS_GUEST_CR0, 0x8001ffff & ~0x40000000ULL);
    set12(VMCS_GUEST_EFER, X86_EFER_NXE);
    drop12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_EFER);
    nested_merge_state(&n.vmcs12, 0x60000011, lv1_efer, &s);
    assert_int_equal(s.cr0, 0xe001003f); /* ET, NW and CD are Lv1's, reserved bits too */
    assert_int_equal(s.efer, lv1_efer);
    assert_true(s.cs_l);
    drop12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_IA32E_GUEST);
    nested_merge_state(&n.vmcs12, 0x11, lv1_efer, &s);
    assert_int_equal(s.efer, X86_EFER_SCE);
    set12(VMCS_GUEST_CR0, 0x11); /* without paging, LME stays */
    nested_merge_state(&n.vmcs12, 0x11, lv1_efer, &s);
    assert_int_equal(s.efer, X86_EFER_SCE | X86_EFER_LME);
    add12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_EFER);
    nested_merge_state(&n.vmcs12, 0x11, lv1_efer, &s);
    assert_int_equal(s.efer, X86_EFER_NXE);
}

/* In VMCS02, or in the shadow regime with the caller. */
static void assert_pdptes(uint64_t first)
{
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(n.vcpu02.regime == VCPU_REGIME_SHADOW
                             ? kept_pdptes[i]
                             : get02(vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i)),
                         first + i * 0x1000);
}

static void test_pdptes(void **state)
{
    static const enum cr_instance instances[] = {CR_INSTANCE_UNRESTRICTED, CR_INSTANCE_SHADOW};

    (void)state;
    for (unsigned instance = 0; instance < ARRAY_SIZE(instances); instance++) {
        set_up(instances[instance], false);
        for (unsigned i = 0; i < 4; i++) {
            set12(vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i), 0x1001 + i * 0x1000);
            entry.pdptes[i] = 0x8001 + i * 0x1000;
        }
        entry.state = (struct cr_state){.cr0 = 0x80000031, .cr4 = X86_CR4_VMXE | X86_CR4_PAE};
        merge(); /* Lv1 without EPT: as the checks found them in memory */
        assert_pdptes(0x8001);
        add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
        set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_EPT);
        merge();
        assert_pdptes(0x1001);
    }
}

/* What goes into VMCS02 by Fig. 11 comes back by Fig. 9, in each regime and under any masks of Lv1's. */
static void test_control_state(void **state)
{
    static const uint64_t masks[] = {0, UINT64_MAX, X86_CR0_NE | X86_CR0_CD | X86_CR4_VMXE,
                                     0x5555555555555555};

    (void)state;
    for (unsigned instance = 0; instance < CR_INSTANCES; instance++)
        for (unsigned i = 0; i < ARRAY_SIZE(masks); i++) {
            struct cr_state s, back;

            set_up((enum cr_instance)instance, false);
            set12(VMCS_CR0_MASK, masks[i]);
            set12(VMCS_CR4_MASK, masks[i]);
            set12(VMCS_CR0_READ_SHADOW, 0x60000010);
            set12(VMCS_CR4_READ_SHADOW, X86_CR4_MCE);
            set12(VMCS_GUEST_EFER, X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE);
            add12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_EFER);
            nested_merge_state(&n.vmcs12, 0xc0000031, 0, &s);
            entry.state = s;
            merge();
            nested_read_control_state(&n, &back);
            assert_int_equal(back.cr0, s.cr0);
            assert_int_equal(back.cr3, s.cr3);
            assert_int_equal(back.cr4, s.cr4);
            assert_int_equal(back.efer, s.efer);
            assert_int_equal(back.cs_l, s.cs_l);
            assert_int_equal(get02(VMCS_CR0_MASK), registers.cr0.mask | masks[i]);
            assert_int_equal(get02(VMCS_CR4_MASK), registers.cr4.mask | masks[i]);
            assert_int_equal(get02(VMCS_CR0_READ_SHADOW) & masks[i], 0x60000010 & masks[i]);
            assert_int_equal(get02(VMCS_CR4_READ_SHADOW) & masks[i], X86_CR4_MCE & masks[i]);
            assert_int_equal(get02(VMCS_CR0_READ_SHADOW) & ~masks[i] & registers.cr0.mask,
                             s.cr0 & ~masks[i] & registers.cr0.mask);
            assert_int_equal(get02(VMCS_CR4_READ_SHADOW) & ~masks[i] & registers.cr4.mask,
                             s.cr4 & ~masks[i] & registers.cr4.mask);
            assert_int_equal(get02(VMCS_GUEST_CR4) & ~registers.cr4.mask, s.cr4 & ~registers.cr4.mask);
            assert_int_equal(get02(VMCS_GUEST_CR0) & X86_CR0_CD, 0);
            assert_int_equal(get02(VMCS_ENTRY_CONTROLS) & VMX_ENTRY_IA32E_GUEST, VMX_ENTRY_IA32E_GUEST);

            assert_int_equal(get02(VMCS_GUEST_EFER) & X86_EFER_NXE, X86_EFER_NXE);
            if (instance != CR_INSTANCE_SHADOW)
                assert_int_equal(get02(VMCS_GUEST_CR3), s.cr3);

            back.cr0 ^= X86_CR0_TS & ~masks[i];
            back.cr4 ^= X86_CR4_PGE & ~masks[i];
            nested_write_control_state(&n, &back);
            nested_read_control_state(&n, &s);
            assert_int_equal(s.cr0, back.cr0);
            assert_int_equal(s.cr4, back.cr4);
            assert_int_equal(get02(VMCS_GUEST_CR4) & ~registers.cr4.mask, s.cr4 & ~registers.cr4.mask);
        }
}

/* IA32_EFER that the entry does not load is Lv1's, but for what "IA-32e mode guest" says. */
static void test_efer(void **state)
{
    (void)state;
    for (unsigned loads = 0; loads < 2; loads++) {
        const uint64_t own = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
        const uint64_t lv1 = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;

        setup(NULL);
        set12(VMCS_GUEST_EFER, own);
        if (loads)
            add12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_EFER);
        nested_merge_state(&n.vmcs12, 0x80000031, lv1, &entry.state);
        merge();
        assert_int_equal(get02(VMCS_GUEST_EFER), loads ? own : lv1);
    }
}

/* Writes that Lv1 did not want: what VMX operation of Lv1's fixes is #GP, but where Lv1 masks it. */
static void test_control_writes(void **state)
{
    struct cr_state s;
    unsigned effects;

    (void)state;
    nested_merge_state(&n.vmcs12, 0x31, X86_EFER_LME, &s);
    assert_int_equal(nested_cr4_write(&n, &s, X86_CR4_PAE, &effects), CR_GP); /* VMXE */
    set12(VMCS_CR4_MASK, X86_CR4_VMXE);
    assert_int_equal(nested_cr4_write(&n, &s, X86_CR4_PAE | X86_CR4_PGE, &effects), CR_DONE);
    assert_int_equal(s.cr4, X86_CR4_PAE | X86_CR4_PGE | X86_CR4_VMXE);
    assert_int_equal(effects, CR_EFFECT_FLUSH);

    assert_int_equal(nested_cr0_write(&n, &s, 0x80000011, &effects), CR_GP); /* NE */
    assert_int_equal(s.cr0, 0x80000031);
    assert_int_equal(nested_cr0_write(&n, &s, 0x80000039, &effects), CR_DONE);
    assert_int_equal(s.cr0, 0x80000039);
    set12(VMCS_CR0_MASK, X86_CR0_NE | X86_CR0_TS);
    assert_int_equal(nested_cr0_write(&n, &s, 0x80000013, &effects), CR_DONE);
    assert_int_equal(s.cr0, 0x8000003b);

    /* PG and PE, only for an unrestricted guest. */
    s.cs_l = false;
    assert_int_equal(nested_cr0_write(&n, &s, 0x00000031, &effects), CR_GP);
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_UNRESTRICTED_GUEST | VMX_SECONDARY_EPT);
    assert_int_equal(nested_cr0_write(&n, &s, 0x80000030, &effects), CR_GP); /* PG without PE */
    assert_int_equal(nested_cr0_write(&n, &s, 0x00000031, &effects), CR_DONE);
    assert_int_equal(effects, CR_EFFECT_LONG_MODE | CR_EFFECT_FLUSH);
}

/* What changes without a VMWRITE is merged all the same: Lv2's registers by the entry, pages of Lv1's,
 * VMCS01. */
static void test_other_sources(void **state)
{
    const uint64_t secondary = vcpu_read(&vcpu01, VMCS_SECONDARY_CONTROLS);

    (void)state;
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_TPR_SHADOW | VMX_PRIMARY_SECONDARY_CONTROLS);
    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES);
    merge();
    vmcs12_forget_written(&n.vmcs12);
    n.state02 = entry.state;
    entry.virtual_apic = HPA(0x71000);
    merge();
    assert_int_equal(get02(VMCS_VIRTUAL_APIC_ADDRESS), 0x71000);
    entry.apic_access = HPA(0x72000);
    merge();
    assert_int_equal(get02(VMCS_APIC_ACCESS_ADDRESS), 0x72000);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t *const registers_of_lv2[] = {&entry.state.cr0, &entry.state.cr3, &entry.state.cr4,
                                              &entry.state.efer};
        static const struct vmcs_field fields[] = {VMCS_FIELD(GUEST_CR0), VMCS_FIELD(GUEST_CR3),
                                                   VMCS_FIELD(GUEST_CR4), VMCS_FIELD(GUEST_EFER)};
        const uint64_t bit = i == 0 ? X86_CR0_TS : i == 1 ? 0x1000 : i == 2 ? X86_CR4_PGE : X86_EFER_NXE;
        const uint64_t value = get02(fields[i]);

        n.state02 = entry.state;
        *registers_of_lv2[i] ^= bit;
        merge();
        assert_int_equal(get02(fields[i]), value ^ bit);
    }

    /* Lv2 uses Lv1's local APIC, whose mode changes. */
    setup(NULL);
    merge();
    vmcs12_forget_written(&n.vmcs12);
    vcpu_switch(&n.vcpu02);
    vcpu_write(&vcpu01, VMCS_APIC_ACCESS_ADDRESS, 0x73000);
    vcpu_write(&vcpu01, VMCS_SECONDARY_CONTROLS, secondary | VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES);
    merge();
    assert_int_equal(get02(VMCS_APIC_ACCESS_ADDRESS), 0x73000);
}

/*
 * What an exit left in VMCS02: it stays there as long as the entry loads it and the exit saves it. Fails when
 * VMCS12's stale value gets to VMCS02, when VMCS12 loses what the last exit saved, and when it is written
 * though it is there.
 */
static void test_away(void **state)
{
    static const struct {
        struct vmcs_field field;
        uint64_t loads, saves;
    } rows[] = {
        {VMCS_FIELD(GUEST_DR7), VMX_ENTRY_LOAD_DEBUG_CONTROLS, VMX_EXIT_SAVE_DEBUG_CONTROLS},
        {VMCS_FIELD(GUEST_PAT), VMX_ENTRY_LOAD_PAT, VMX_EXIT_SAVE_PAT},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned variant = 0; variant < 4; variant++) {
            const struct vmcs_field field = rows[i].field;
            const bool loads = variant & 1, saves = variant & 2;

            setup(state);
            entry.lv1.dr7 = entry.lv1.pat = 0x401;
            merge();
            fake_set(field, 0x402);
            memset(n.vcpu02.known, 0, sizeof(n.vcpu02.known));
            (loads ? add12 : drop12)(VMCS_ENTRY_CONTROLS, rows[i].loads);
            (saves ? add12 : drop12)(VMCS_EXIT_CONTROLS, rows[i].saves);
            set12(field, 0x403);
            vmcs12_forget_written(&n.vmcs12);
            n.vmcs12.away[field.index / 64] |= BIT(field.index % 64);
            merge();
            assert_int_equal(get02(field), loads ? 0x402 : 0x401);
            assert_int_equal(vmcs12_is_away(&n.vmcs12, field), loads && saves);
            if (!(loads && saves))
                assert_int_equal(get12(field), 0x402);
        }
}

/* After all others: a row of which only one side was seen is not tested. */
static void test_rows(void **state)
{
    unsigned complete = 0;

    (void)state;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        if (!seen[i].both)
            print_error("field %s (%s): %s\n", vmcs_field_name(vmcs_field_at(i)),
                        nested_merge_rule(vmcs_field_at(i)),
                        seen[i].looked ? "one value only" : "nobody looked at it");
        complete += seen[i].both;
    }
    print_message("field table: %u of %u rows seen both ways\n", complete, VMCS_FIELD_COUNT);
    assert_int_equal(complete, VMCS_FIELD_COUNT);
}

#define TEST(NAME) cmocka_unit_test_setup(test_##NAME, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(table),       TEST(every_field), TEST(unchanged),     TEST(controls),       TEST(no_secondary),
        TEST(not_for_lv2), TEST(windows),     TEST(pause_loop),    TEST(sieves),         TEST(tsc),
        TEST(addresses),   TEST(tpr),         TEST(apic_access),   TEST(msr_bitmap),     TEST(loaded),
        TEST(entry_state), TEST(pdptes),      TEST(control_state), TEST(control_writes), TEST(xss),
        TEST(activity),    TEST(event),       TEST(efer),          TEST(away),           TEST(other_sources),
        TEST(rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
