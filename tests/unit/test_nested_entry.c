// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/entry.c. Fails when an entry leaves anything of Lv2's behind, when an entry that must not happen is
 * not answered as the processor would, or changes what it leaves, and when an event is injected otherwise
 * than VMCS12 says.
 */
#include "nested/entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nested/exit.h"
#include "tests/unit/nested_pair.h"
#include "vmx/reasons.h"

/* ---- Entries ---------------------------------------------------------------------------------------------
 */

static struct nested_entry_failure failure;

static enum nested_entry_result enter(void)
{
    failure = (struct nested_entry_failure){0};
    return nested_enter(&n, &input, &failure);
}

/* VMCS01 is as it was, and Lv1 is where it was. */
static void assert_not_entered(void)
{
    assert_int_equal(fake_beside.current, vcpu01.vmcs.value);
    assert_int_equal(n.mode, NESTED_ROOT);
    assert_false(n.vmcs12.launched);
    assert_true(vmcs12_is_written(&n.vmcs12, VMCS_GUEST_RIP));
    assert_int_equal(fake_get(VMCS_GUEST_RIP), 0);
}

static void test_enter(void **state)
{
    (void)state;
    assert_int_equal(enter(), NESTED_ENTERED);
    assert_int_equal(n.mode, NESTED_NON_ROOT);
    assert_true(n.vmcs12.launched);
    assert_int_equal(get02(VMCS_GUEST_RIP), 0x1234);
    assert_int_equal(get02(VMCS_GUEST_CR3), 0x8000);
    assert_int_equal(n.vcpu02.registers[VCPU_RAX], 100);
    assert_int_equal(n.vcpu02.registers[VCPU_R8 + 7], 115);
    /* Lv1 loads none of these. */
    assert_int_equal(get02(VMCS_GUEST_EFER), X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE);
    assert_int_equal(get02(VMCS_GUEST_PAT), 0x0606060606060606);
    /* Umbra's host state, at once. */
    assert_int_equal(get02(VMCS_HOST_CR3), 0x7000);
    vcpu_events_before_entry(&n.vcpu02);
    assert_int_equal(fake_injection(), 0);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        assert_false(vmcs12_is_written(&n.vmcs12, vmcs_field_at(i)));
}

/* After a logical exit, the next entry of the same VMCS writes only what Lv1 wrote. */
static void test_enter_again(void **state)
{
    (void)state;
    assert_int_equal(enter(), NESTED_ENTERED);
    vcpu_switch(&n.vcpu02);
    n.mode = NESTED_ROOT;
    set12(VMCS_GUEST_RIP, 0x9999);
    fake_vmcs.writes = 0;
    assert_int_equal(enter(), NESTED_ENTERED);
    assert_int_equal(fake_vmcs.writes, 1);
    assert_int_equal(get02(VMCS_GUEST_RIP), 0x9999);
}

static void test_injection(void **state)
{
    (void)state;
    set12(VMCS_ENTRY_INTERRUPTION_INFO, BIT(31) | BIT(11) | 3 << 8 | 14);
    set12(VMCS_ENTRY_EXCEPTION_ERROR_CODE, 5);
    assert_int_equal(enter(), NESTED_ENTERED);
    vcpu_events_before_entry(&n.vcpu02);
    fake_check_entry();
    assert_int_equal(fake_injection(), BIT(31) | BIT(11) | 3 << 8 | 14);
    assert_int_equal(get02(VMCS_ENTRY_EXCEPTION_ERROR_CODE), 5);
}

/* Without virtual NMIs, an NMI can be injected where NMIs are blocked. */
/*
 * Lv1 has no CET, and its exception 21 no error code; a processor that has CET would refuse that. Fails when
 * VMCS02 has it nevertheless, when the processor without CET gets anything else than Lv1 said, and when Lv1
 * is told of the stand-in.
 */
static void test_exception_21(void **state)
{
    const uint64_t event = BIT(31) | 3 << 8 | 21;
    struct nested_exit_information information = {.reason = EXIT_REASON_EXTERNAL_INTERRUPT};

    (void)state;
    set12(VMCS_ENTRY_INTERRUPTION_INFO, event);
    assert_int_equal(enter(), NESTED_ENTERED);
    vcpu_events_before_entry(&n.vcpu02);
    assert_int_equal(fake_injection(), event);

    assert_int_equal(setup(NULL), 0);
    hardware.cr4_fixed1 |= X86_CR4_CET;
    set12(VMCS_ENTRY_INTERRUPTION_INFO, event);
    set12(VMCS_ENTRY_INSTRUCTION_LENGTH, 0);
    assert_int_equal(enter(), NESTED_ENTERED);
    vcpu_events_before_entry(&n.vcpu02);
    assert_int_equal(fake_injection(), BIT(31) | 5 << 8 | 21);
    assert_int_equal(get02(VMCS_ENTRY_INSTRUCTION_LENGTH), 0);
    assert_int_equal(nested_exit_save(&n, &information), NESTED_ABORT_NONE);
    assert_int_equal(get12(VMCS_IDT_VECTORING_INFO), event);
}

/*
 * What single-stepping has left pending agrees with the IA32_DEBUGCTL that VMCS02 has: VMCS12's if the entry
 * loads it, else Lv1's, in which BTF is 1. Fails when the processor would refuse the one or the other.
 */
static void test_single_step(void **state)
{
    for (unsigned loads = 0; loads < 2; loads++) {
        assert_int_equal(setup(state), 0);
        set12(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF | X86_RFLAGS_TF);
        set12(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
        set12(VMCS_GUEST_PENDING_DEBUG, X86_DR6_BS | 1);
        if (loads)
            add12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_DEBUG_CONTROLS);
        assert_int_equal(enter(), NESTED_ENTERED);
        assert_int_equal(get02(VMCS_GUEST_PENDING_DEBUG), loads ? X86_DR6_BS | 1 : 1);
    }
}

static void test_injected_nmi(void **state)
{
    (void)state;
    set12(VMCS_ENTRY_INTERRUPTION_INFO, BIT(31) | 2 << 8 | 2);
    set12(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    assert_int_equal(enter(), NESTED_ENTERED);
    vcpu_events_before_entry(&n.vcpu02);
    fake_check_entry();
    assert_int_equal(fake_injection(), BIT(31) | 2 << 8 | 2);
}

/* A halted Lv2 waits in Umbra, unless it is given an event. */
static void test_inactive(void **state)
{
    (void)state;
    set12(VMCS_GUEST_ACTIVITY, 1);
    fake_beside.values[VMCS_INDEX_GUEST_ACTIVITY] = 1;
    assert_int_equal(enter(), NESTED_ENTERED_INACTIVE);
    assert_int_equal(get02(VMCS_GUEST_ACTIVITY), 0);
    setup(NULL);
    set12(VMCS_GUEST_ACTIVITY, 1);
    set12(VMCS_ENTRY_INTERRUPTION_INFO, BIT(31) | 0x30);
    assert_int_equal(enter(), NESTED_ENTERED);
}

static void test_bad_control(void **state)
{
    (void)state;
    set12(VMCS_CR3_TARGET_COUNT, 5);
    set12(VMCS_HOST_CR0, 0);
    assert_int_equal(enter(), NESTED_ENTRY_VMFAIL);
    assert_string_equal(failure.row->name, "CR3-target count");
    assert_int_equal(get12(VMCS_VM_INSTRUCTION_ERROR), 7);
    assert_int_equal(fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_ZF, X86_RFLAGS_ZF);
    assert_not_entered();
}

static void test_bad_host(void **state)
{
    (void)state;
    set12(VMCS_HOST_CR0, 0);
    set12(VMCS_GUEST_RFLAGS, 0);
    assert_int_equal(enter(), NESTED_ENTRY_VMFAIL);
    assert_int_equal(get12(VMCS_VM_INSTRUCTION_ERROR), 8);
    assert_not_entered();
}

static void test_bad_guest(void **state)
{
    (void)state;
    set12(VMCS_GUEST_RFLAGS, 0);
    set12(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
    assert_int_equal(enter(), NESTED_ENTRY_FAILED);
    assert_int_equal(failure.reason, BIT(31) | 33);
    assert_int_equal(failure.qualification, 0);
    assert_int_equal(list_writes, 0);
    assert_not_entered();
    set12(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED);
    set12(VMCS_VMCS_LINK_POINTER, 0x123);
    assert_int_equal(enter(), NESTED_ENTRY_FAILED);
    assert_int_equal(failure.qualification, 4);
}

/* What may be in IA32_DEBUGCTL is what the MSR policy lets Lv1 write to it. */
static void test_debugctl(void **state)
{
    (void)state;
    add12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_DEBUG_CONTROLS);
    set12(VMCS_GUEST_DEBUGCTL, DEBUGCTL_LBR);
    assert_int_equal(enter(), NESTED_ENTRY_FAILED);
    assert_int_equal(failure.reason, BIT(31) | 33);
    set12(VMCS_GUEST_DEBUGCTL, DEBUGCTL_BTF);
    assert_int_equal(enter(), NESTED_ENTERED);
    assert_int_equal(get02(VMCS_GUEST_DEBUGCTL), DEBUGCTL_BTF);
}

static void test_bad_list(void **state)
{
    const uint64_t list[] = {MSR_IA32_LSTAR, 1, MSR_IA32_STAR, 2};

    (void)state;
    flat_memory_put(PAGE_LIST, list, sizeof(list));
    set12(VMCS_ENTRY_MSR_LOAD_ADDRESS, PAGE_LIST);
    set12(VMCS_ENTRY_MSR_LOAD_COUNT, 2);
    refused_msr = MSR_IA32_STAR;
    assert_int_equal(enter(), NESTED_ENTRY_FAILED);
    assert_int_equal(failure.reason, BIT(31) | 34);
    assert_int_equal(failure.qualification, 2);
    assert_not_entered();
    refused_msr = 0;
    assert_int_equal(enter(), NESTED_ENTERED);
}

static void test_pages(void **state)
{
    (void)state;
    add12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_TPR_SHADOW | VMX_PRIMARY_SECONDARY_CONTROLS);
    set12(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES);
    set12(VMCS_VIRTUAL_APIC_ADDRESS, PAGE_APIC);
    set12(VMCS_APIC_ACCESS_ADDRESS, NOWHERE);
    assert_int_equal(enter(), NESTED_ENTRY_VMFAIL);
    assert_int_equal(get12(VMCS_VM_INSTRUCTION_ERROR), 7);
    assert_not_entered();
    set12(VMCS_APIC_ACCESS_ADDRESS, PAGE_ACCESS);
    nested_forget_pages(&n); /* it was found, and is another now */
    flat_memory_read_only = PAGE_APIC;
    assert_int_equal(enter(), NESTED_ENTRY_VMFAIL);
    flat_memory_read_only = 0;
    assert_int_equal(enter(), NESTED_ENTERED);
    assert_int_equal(get02(VMCS_VIRTUAL_APIC_ADDRESS), physmap_address(flat_memory + PAGE_APIC).value);
    assert_int_equal(get02(VMCS_APIC_ACCESS_ADDRESS), physmap_address(flat_memory + PAGE_ACCESS).value);
}

/* PAE paging without EPT of Lv1's: the PDPTEs that the checks read are those that are loaded. */
static void test_pae(void **state)
{
    const uint64_t pdptes[] = {0x1001, 0x2001, 0, 0x3001};

    (void)state;
    flat_memory_put(PAGE_PDPT, pdptes, sizeof(pdptes));
    drop12(VMCS_ENTRY_CONTROLS, VMX_ENTRY_IA32E_GUEST);
    set_segment(1, 8, UINT32_MAX, 0xc09b);
    set12(VMCS_GUEST_CR3, PAGE_PDPT);
    assert_int_equal(enter(), NESTED_ENTERED);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(get02(vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i)), pdptes[i]);
    assert_int_equal(get02(VMCS_ENTRY_CONTROLS) & VMX_ENTRY_IA32E_GUEST, 0);
}

#define TEST(NAME) cmocka_unit_test_setup(test_##NAME, setup)

/*
 * Guest state that an exit left in VMCS02 is checked as it is there, when Lv1 has written what is checked
 * with it; what Lv1 has not touched is neither fetched nor written.
 */
static void test_away(void **state)
{
    struct nested_exit_information information = {.reason = EXIT_REASON_CPUID};

    for (unsigned good = 0; good < 2; good++) {
        setup(state);
        assert_int_equal(enter(), NESTED_ENTERED);
        fake_set(VMCS_GUEST_TR_LIMIT, good ? 0xffff : 0x67);
        fake_set(VMCS_GUEST_TR_ACCESS_RIGHTS, good ? 0x8b : 0x808b); /* G, with a limit that has none */
        memset(n.vcpu02.known, 0, sizeof(n.vcpu02.known));
        assert_int_equal(nested_exit_save(&n, &information), NESTED_ABORT_NONE);
        vcpu_switch(&n.vcpu02);
        n.mode = NESTED_ROOT;
        assert_true(vmcs12_is_away(&n.vmcs12, VMCS_GUEST_TR_ACCESS_RIGHTS));
        set12(VMCS_GUEST_RIP, 0x4444);
        assert_int_equal(enter(), NESTED_ENTERED);
        assert_true(vmcs12_is_away(&n.vmcs12, VMCS_GUEST_TR_ACCESS_RIGHTS));

        vcpu_switch(&n.vcpu02);
        n.mode = NESTED_ROOT;
        set12(VMCS_GUEST_TR_BASE, 0x1000);
        assert_int_equal(enter(), good ? NESTED_ENTERED : NESTED_ENTRY_FAILED);
        assert_int_equal(get12(VMCS_GUEST_TR_LIMIT), good ? 0xffff : 0x67);
        if (good)
            assert_int_equal(get02(VMCS_GUEST_TR_BASE), 0x1000);
        else
            assert_int_equal(fake_beside.current, vcpu01.vmcs.value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(enter),       TEST(enter_again), TEST(injection),   TEST(injected_nmi), TEST(exception_21),
        TEST(single_step), TEST(inactive),    TEST(bad_control), TEST(bad_host),     TEST(bad_guest),
        TEST(debugctl),    TEST(bad_list),    TEST(pages),       TEST(pae),          TEST(away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
