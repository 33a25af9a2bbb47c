// SPDX-License-Identifier: BSD-2-Clause
/* Exits that no instruction of the guest asked for: interrupts, exceptions, windows, and the ends of a
 * partition. */
#include "vmx/events.h"

#include "arch/x86/cpu.h"
#include "arch/x86/exception.h"
#include "arch/x86/machine_check.h"
#include "arch/x86/registers.h"
#include "arch/x86/trap.h"
#include "core/exits/exits.h"
#include "core/paging.h"

#define DR7_GENERAL_DETECT BIT(13)

void exit_external_interrupt(struct partition_vcpu *v)
{
    trap_dispatch((uint8_t)EVENT_VECTOR(vcpu_read(v->level->vcpu, VMCS_EXIT_INTERRUPTION_INFO)));
}

void exit_events_changed(struct partition_vcpu *v)
{
    vcpu_events_changed(v->level->vcpu);
}

void exit_triple_fault(struct partition_vcpu *v)
{
    if (v->level->ops != NULL)
        v->level->ops->triple_fault(v);
    else
        partition_crash(v, "triple fault at rip %#lx", vcpu_read(v->level->vcpu, VMCS_GUEST_RIP));
}

void exit_unexpected(struct partition_vcpu *v)
{
    uint32_t reason = (uint32_t)vcpu_read(v->level->vcpu, VMCS_EXIT_REASON);

    partition_crash(v, "unexpected exit %u (%s) at rip %#lx, qualification %#lx", reason & EXIT_REASON_BASIC,
                    vmx_exit_reason_name(reason & EXIT_REASON_BASIC),
                    vcpu_read(v->level->vcpu, VMCS_GUEST_RIP),
                    vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION));
}

void exit_flagged(struct partition_vcpu *v, uint32_t reason)
{
    unsigned basic = reason & EXIT_REASON_BASIC;

    if ((reason & EXIT_REASON_ENTRY_FAILURE) != 0)
        partition_crash(v, "VM entry failed: %s, qualification %#lx", vmx_exit_reason_name(basic),
                        vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION));
    else if (basic < EXIT_REASON_COUNT && (reason & ~(EXIT_REASON_BASIC | EXIT_FLAG_BUS_LOCK)) == 0)
        exit_handlers[basic](v);
    else
        exit_unexpected(v);
}

void exit_instruction_failure(struct partition_vcpu *v)
{
    partition_crash(
        v, "VM entry failed: %s",
        vmx_instruction_error_text((unsigned)vcpu_read(v->level->vcpu, VMCS_VM_INSTRUCTION_ERROR)));
}

/*
 * A debug exception that was intercepted has not changed DR6, DR7 and IA32_DEBUGCTL yet (SDM vol. 3,
 * "Architectural state before a VM exit"): that is done here, as its delivery would have.
 */
void exit_update_debug_registers(struct vcpu *vcpu, uint64_t qualification)
{
    const uint64_t breakpoints = X86_DR6_B(0) | X86_DR6_B(1) | X86_DR6_B(2) | X86_DR6_B(3);
    uint64_t dr6 = cpu_read_dr6() & ~breakpoints;

    dr6 |= qualification & (breakpoints | X86_DR6_BD | X86_DR6_BS | X86_DR6_BT);
    if (qualification & X86_DR6_RTM)
        dr6 &= ~X86_DR6_RTM;
    else
        dr6 |= X86_DR6_RTM;
    cpu_write_dr6(dr6);
    vcpu_write(vcpu, VMCS_GUEST_DR7, vcpu_read(vcpu, VMCS_GUEST_DR7) & ~DR7_GENERAL_DETECT);
    vcpu_write(vcpu, VMCS_GUEST_DEBUGCTL,
               vcpu_read(vcpu, VMCS_GUEST_DEBUGCTL) & ~(uint64_t)(DEBUGCTL_LBR | DEBUGCTL_BTF));
}

/*
 * In the shadow of STI or MOV SS an entry wants the pending single-step trap to agree with TF (SDM vol. 3,
 * "Checks on guest non-register state"), and an intercepted debug exception has not seen to that.
 */
void exit_settle_single_step(struct vcpu *vcpu)
{
    uint64_t pending = vcpu_read(vcpu, VMCS_GUEST_PENDING_DEBUG);
    bool steps = (vcpu_read(vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_TF) != 0 &&
                 (vcpu_read(vcpu, VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF) == 0;

    if ((vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) != 0)
        vcpu_write(vcpu, VMCS_GUEST_PENDING_DEBUG, steps ? pending | X86_DR6_BS : pending & ~X86_DR6_BS);
}

static void exception_or_nmi(struct partition_vcpu *v, uint64_t information)
{
    unsigned vector = EVENT_VECTOR(information);

    if (EVENT_TYPE(information) == VCPU_EVENT_NMI) {
        /* The exit left NMIs blocked; the IRET at the end of Umbra's own handler unblocks them. */
        cpu_handle_nmi();
        return;
    }
    if (vector == X86_VECTOR_MC) {
        if (!machine_check_handle(true))
            partition_crash(v, "machine check: the processor cannot go on at rip %#lx",
                            vcpu_read(v->level->vcpu, VMCS_GUEST_RIP));
        return;
    }
    vcpu_restore_nmi_blocking(v->level->vcpu, information);
    if (unlikely(v->level->stepping) && vector != X86_VECTOR_DB)
        paging_end_step(v->level);
    if (vector == X86_VECTOR_DB) {
        uint64_t qualification = vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION);

        if (unlikely(v->level->stepping)) {
            paging_end_step(v->level);
            qualification &= ~X86_DR6_BS;
            if (qualification == 0)
                return; /* Umbra's own step, and nothing of the guest's */
        }
        /* An exit that a guest hypervisor gets finds them as they were. */
        if (unlikely(v->level->ops != NULL) && EVENT_TYPE(information) == VCPU_EVENT_HARDWARE_EXCEPTION &&
            v->level->ops->takes_exception(v, X86_VECTOR_DB, 0, qualification))
            return;
        exit_update_debug_registers(v->level->vcpu, qualification);
        exit_settle_single_step(v->level->vcpu);
    }
    if (EVENT_TYPE(information) == VCPU_EVENT_HARDWARE_EXCEPTION) {
        exit_inject_error(v, (uint8_t)vector,
                          (uint32_t)vcpu_read(v->level->vcpu, VMCS_EXIT_INTERRUPTION_ERROR_CODE));
        return;
    }
    vcpu_requeue_event(v->level->vcpu, information, 0,
                       vcpu_read(v->level->vcpu, VMCS_EXIT_INSTRUCTION_LENGTH));
}

void exit_exception_or_nmi(struct partition_vcpu *v)
{
    const uint64_t information = vcpu_read(v->level->vcpu, VMCS_EXIT_INTERRUPTION_INFO);

    if (EVENT_VECTOR(information) == X86_VECTOR_PF)
        exit_page_fault(v);
    else
        exception_or_nmi(v, information);
}
