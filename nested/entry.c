// SPDX-License-Identifier: BSD-2-Clause
#include "nested/entry.h"

#include "arch/x86/msr.h"
#include "arch/x86/registers.h"
#include "lib/string.h"
#include "mm/guest_memory.h"
#include "nested/away.h"
#include "nested/exit.h"
#include "nested/instructions.h"
#include "nested/stand_in.h"
#include "vmx/events.h"
#include "vmx/policy_msr.h"
#include "vmx/reasons.h"

static bool read_memory(void *context, uint64_t address, void *to, size_t size)
{
    const struct nested_vcpu *n = context;

    return guest_memory_read(n->memory, GPA(address), to, size, NULL) == 0;
}

/* All checks of the entry in the SDM's order: an enum vm_instruction_error, or 0 with *failed the row of
 * guest state that does not hold (NULL: all do). */
static unsigned check(struct nested_vcpu *n, uint64_t lv1_efer, uint64_t *pdptes,
                      const struct nested_check_row **failed)
{
    const struct nested_check_context context = {
        .vmcs = &n->vmcs12,
        .capabilities = &n->policy->capabilities,
        .current = n->current,
        .efer = n->policy->registers->efer,
        .debugctl = policy_msr_find(MSR_IA32_DEBUGCTL)->value,
        .physical_bits = n->policy->physical_bits,
        .linear_bits = n->policy->linear_bits,
        .ia32e_mode = (lv1_efer & X86_EFER_LMA) != 0,
        .rtm = n->policy->rtm,
        .read = read_memory,
        .context = n,
        .pdptes = pdptes,
    };
    const uint32_t groups = nested_check_groups(&context, &n->checked);

    if ((groups & NESTED_CHECKS_OF_AWAY) != 0)
        nested_away_fetch(n);
    *failed = nested_check_controls(&context, groups);
    if (*failed != NULL)
        return VM_ERROR_ENTRY_CONTROLS;
    *failed = nested_check_host(&context, groups);
    if (*failed != NULL)
        return VM_ERROR_ENTRY_HOST_STATE;
    *failed = nested_check_guest(&context, groups);
    if (*failed == NULL)
        nested_check_passed(&context, &n->checked);
    return 0;
}

/* A processor takes any address that it can form; here, there has to be memory. */
static bool translate_pages(struct nested_vcpu *n, struct nested_merge_entry *entry)
{
    const struct vmcs12 *vmcs = &n->vmcs12;

    if (vmcs12_has_primary(vmcs, VMX_PRIMARY_TPR_SHADOW) &&
        !nested_merge_translate(n, NESTED_PAGE_VIRTUAL_APIC, &entry->virtual_apic))
        return false;
    return !vmcs12_has_secondary(vmcs, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES) ||
           nested_merge_translate(n, NESTED_PAGE_APIC_ACCESS, &entry->apic_access);
}

/* What the entry may leave as Lv1 has it. */
static void take_lv1(struct nested_vcpu *n, struct nested_merge_entry *entry)
{
    struct vcpu *vcpu = n->vcpu01;

    entry->virtual_apic = entry->apic_access = HPA(0);
    entry->lv1.cr0 = vcpu_read_cr0(vcpu);
    entry->lv1.efer = vcpu_read_efer(vcpu);
    if (!vmcs12_has_entry(&n->vmcs12, VMX_ENTRY_LOAD_PAT))
        entry->lv1.pat = vcpu_read_pat(vcpu);
    if (vmcs12_has_entry(&n->vmcs12, VMX_ENTRY_LOAD_DEBUG_CONTROLS))
        return;
    entry->lv1.dr7 = vcpu_read(vcpu, VMCS_GUEST_DR7);
    entry->lv1.debugctl = vcpu_read(vcpu, VMCS_GUEST_DEBUGCTL);
}

/*
 * Behind an instruction that blocks events for one more, the processor compares what single-stepping has left
 * pending with RFLAGS.TF and the field IA32_DEBUGCTL (SDM vol. 3, "Checks on Guest Non-Register State").
 * VMCS12 has passed that check by its own field. VMCS02's has what Lv2 runs with: Lv1's value if the entry
 * loads none, or what the entry's MSR list wrote.
 */
static void settle_single_step(struct vcpu *vcpu)
{
    const uint64_t blocking = vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY);

    if (likely((blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) == 0))
        return;
    const bool steps = (vcpu_read(vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_TF) != 0 &&
                       (vcpu_read(vcpu, VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF) == 0;
    const uint64_t others = vcpu_read(vcpu, VMCS_GUEST_PENDING_DEBUG) & ~(uint64_t)X86_DR6_BS;

    vcpu_write(vcpu, VMCS_GUEST_PENDING_DEBUG, others | (steps ? X86_DR6_BS : 0));
}

/*
 * The event that the entry injects goes through vcpu02's queue, as if an exit had interrupted its delivery.
 * Whatever was there before was Lv1's to know at the last exit.
 */
static void queue_event(struct nested_vcpu *n)
{
    struct vcpu *vcpu = &n->vcpu02;
    const uint64_t information = vmcs12_read(&n->vmcs12, VMCS_ENTRY_INTERRUPTION_INFO);

    settle_single_step(vcpu);
    if ((information & EVENT_VALID) == 0) {
        vcpu_requeue_event(vcpu, 0, 0, 0);
        return;
    }
    vcpu_requeue_event(vcpu, nested_stand_in(n->policy->hardware, information),
                       vmcs12_read(&n->vmcs12, VMCS_ENTRY_EXCEPTION_ERROR_CODE),
                       vmcs12_read(&n->vmcs12, VMCS_ENTRY_INSTRUCTION_LENGTH));
    /*
     * Without virtual NMIs, Lv1 may inject an NMI while others are blocked; VMCS02 always has virtual NMIs,
     * and must find none blocked. The injection blocks them again.
     */
    if (EVENT_TYPE(information) == VCPU_EVENT_NMI)
        vcpu_write(vcpu, VMCS_GUEST_INTERRUPTIBILITY,
                   vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) & ~BLOCKING_BY_NMI);
}

/* Whether Lv2 waits: not if an event is delivered to it (SDM vol. 3, "Activity state" of event injection). */
static bool is_inactive(const struct nested_vcpu *n)
{
    return vmcs12_read(&n->vmcs12, VMCS_GUEST_ACTIVITY) != 0 && n->vcpu02.injection == 0;
}

enum nested_entry_result nested_enter(struct nested_vcpu *n, const struct nested_merge_input *in,
                                      struct nested_entry_failure *failure)
{
    struct nested_merge_entry entry;
    const struct nested_check_row *failed;
    unsigned error, number;

    take_lv1(n, &entry);
    error = check(n, entry.lv1.efer, entry.pdptes, &failed);
    failure->row = failed;
    if (error == 0 && failed == NULL && !translate_pages(n, &entry))
        error = VM_ERROR_ENTRY_CONTROLS;
    if (error != 0) {
        nested_fail(n, (enum vm_instruction_error)error);
        return NESTED_ENTRY_VMFAIL;
    }
    if (failed != NULL) {
        failure->reason = EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE;
        failure->qualification = failed->qualification;
        return NESTED_ENTRY_FAILED;
    }

    nested_merge_state(&n->vmcs12, entry.lv1.cr0, entry.lv1.efer, &entry.state);
    number = nested_msr_list_enter(n, &entry.state, &entry.list);
    if (number != 0) {
        failure->reason = EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_MSR_LOADING;
        failure->qualification = number;
        return NESTED_ENTRY_FAILED;
    }

    vcpu_switch(n->vcpu01);
    memcpy(n->vcpu02.registers, n->vcpu01->registers, sizeof(n->vcpu02.registers));
    nested_merge(n, in, &entry);
    queue_event(n);
    nested_exit_prepare(n);
    vmcs12_forget_written(&n->vmcs12);
    n->vmcs12.launched = 1;
    n->mode = NESTED_NON_ROOT;
    return is_inactive(n) ? NESTED_ENTERED_INACTIVE : NESTED_ENTERED;
}
