// SPDX-License-Identifier: BSD-2-Clause
/* Control-register accesses that the policy tables intercept (seed 004, Fig. 13; SDM vol. 3, table "Exit
 * qualification for control-register accesses"). */
#include "arch/x86/exception.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/exits/qualifications.h"
#include "core/nested_guest.h"
#include "core/paging.h"
#include "vmx/events.h"

/* MOV to CR0 or CR4 of the partition's own guest, which may be in VMX operation. */
static enum cr_answer move_to_cr(struct partition_vcpu *v, unsigned number, struct cr_state *state,
                                 uint64_t value, unsigned *effects)
{
    const enum cr_answer answer = number == 0 ? policy_cr0_write(v->vcpu.policy, state, value, effects)
                                              : policy_cr4_write(v->vcpu.policy, state, value, effects);

    if (likely(v->nested == NULL))
        return answer;
    return (number == 0 ? nested_guest_allows_cr0(v, state->cr0) : nested_guest_allows_cr4(v, state->cr4))
               ? answer
               : CR_GP;
}

static void write_cr(struct partition_vcpu *v, unsigned number, struct cr_state *state, uint64_t value)
{
    const struct partition_level *level = v->level;
    unsigned effects = 0;
    const enum cr_answer answer = unlikely(level->ops != NULL)
                                      ? level->ops->move_to_cr(v, number, state, value, &effects)
                                      : move_to_cr(v, number, state, value, &effects);

    if (answer == CR_GP || !paging_write_control(v, state, effects))
        exit_inject(v, X86_VECTOR_GP);
    else
        vcpu_skip_instruction(level->vcpu);
}

/* The TPR under the policy intercept (seed 004, second embodiment). */
static void access_cr8(struct partition_vcpu *v, uint64_t qualification)
{
    struct lapic *lapic = partition_vcpu_lapic(v);
    struct vcpu *vcpu = v->level->vcpu;
    unsigned gpr = CR_ACCESS_GPR(qualification);

    if (CR_ACCESS_TYPE(qualification) == CR_ACCESS_MOV_FROM) {
        vcpu_write_register(vcpu, gpr, lapic_cr8_read(lapic));
    } else {
        uint64_t value = vcpu_read_register(vcpu, gpr);
        if (value > 15) {
            exit_inject(v, X86_VECTOR_GP);
            return;
        }
        lapic_cr8_write(lapic, (uint8_t)value);
        vcpu_events_changed(&v->vcpu); /* its local APIC may let something through to whoever runs */
    }
    vcpu_skip_instruction(vcpu);
}

/* The operand of a MOV to a control register: 32 bits outside 64-bit mode. */
static uint64_t read_operand(struct partition_vcpu *v, unsigned gpr)
{
    uint64_t value = vcpu_read_register(v->level->vcpu, gpr);

    return linear_mode(v) == DECODE_MODE_64 ? value : (uint32_t)value;
}

/* CR3, where shadow tables stand in for the guest's. */
static void access_cr3(struct partition_vcpu *v, uint64_t qualification)
{
    const unsigned gpr = CR_ACCESS_GPR(qualification);
    struct vcpu *vcpu = v->level->vcpu;

    if (CR_ACCESS_TYPE(qualification) == CR_ACCESS_MOV_FROM) {
        vcpu_write_register(vcpu, gpr, vcpu_read_cr3(vcpu));
    } else if (!paging_move_to_cr3(v, read_operand(v, gpr))) {
        exit_inject(v, X86_VECTOR_GP);
        return;
    }
    vcpu_skip_instruction(vcpu);
}

void exit_cr_access(struct partition_vcpu *v)
{
    uint64_t qualification = vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION);
    unsigned number = CR_ACCESS_NUMBER(qualification);
    enum cr_access type = CR_ACCESS_TYPE(qualification);
    struct cr_state state;

    if (number == 8) {
        access_cr8(v, qualification);
        return;
    }
    if (number == 3) {
        access_cr3(v, qualification);
        return;
    }
    paging_read_control(v, &state);
    if (type == CR_ACCESS_CLTS)
        write_cr(v, 0, &state, policy_cr0_clts(state.cr0));
    else if (type == CR_ACCESS_LMSW)
        write_cr(v, 0, &state, policy_cr0_lmsw(state.cr0, CR_ACCESS_SOURCE(qualification)));
    else if (type == CR_ACCESS_MOV_TO && (number == 0 || number == 4))
        write_cr(v, number, &state, read_operand(v, CR_ACCESS_GPR(qualification)));
    else
        exit_unexpected(v); /* reads of CR0 and CR4 never exit */
}
