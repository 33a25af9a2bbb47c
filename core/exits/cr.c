// SPDX-License-Identifier: BSD-2-Clause
/* Control-register accesses that the policy tables intercept (seed 004, Fig. 13; SDM vol. 3, table "Exit
 * qualification for control-register accesses"). */
#include "arch/x86/exception.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/nested_guest.h"
#include "core/paging.h"
#include "vmx/events.h"

enum access_type {
    ACCESS_MOV_TO,
    ACCESS_MOV_FROM,
    ACCESS_CLTS,
    ACCESS_LMSW,
};

#define QUALIFICATION_REGISTER(q) ((unsigned)(q)&15)
#define QUALIFICATION_TYPE(q)     ((enum access_type)((q) >> 4 & 3))
#define QUALIFICATION_GPR(q)      ((unsigned)((q) >> 8) & 15)
#define QUALIFICATION_LMSW(q)     ((uint16_t)((q) >> 16))

static void finish_write(struct partition_vcpu *v, enum cr_answer answer, const struct cr_state *state,
                         unsigned effects)
{
    if (answer == CR_GP || !paging_write_control(v, state, effects))
        exit_inject(v, X86_VECTOR_GP);
    else
        vcpu_skip_instruction(&v->vcpu);
}

static void write_cr0(struct partition_vcpu *v, struct cr_state *state, uint64_t value)
{
    unsigned effects = 0;
    enum cr_answer answer = policy_cr0_write(v->vcpu.policy, state, value, &effects);

    if (unlikely(v->nested != NULL) && !nested_guest_allows_cr0(v, state->cr0))
        answer = CR_GP;
    finish_write(v, answer, state, effects);
}

static void write_cr4(struct partition_vcpu *v, struct cr_state *state, uint64_t value)
{
    unsigned effects = 0;
    enum cr_answer answer = policy_cr4_write(v->vcpu.policy, state, value, &effects);

    if (unlikely(v->nested != NULL) && !nested_guest_allows_cr4(v, state->cr4))
        answer = CR_GP;
    finish_write(v, answer, state, effects);
}

/* The TPR under the policy intercept (seed 004, second embodiment). */
static void access_cr8(struct partition_vcpu *v, uint64_t qualification)
{
    struct lapic *lapic = &v->partition->platform.lapics[v->number];
    unsigned gpr = QUALIFICATION_GPR(qualification);

    if (QUALIFICATION_TYPE(qualification) == ACCESS_MOV_FROM) {
        vcpu_write_register(&v->vcpu, gpr, lapic_cr8_read(lapic));
    } else {
        uint64_t value = vcpu_read_register(&v->vcpu, gpr);
        if (value > 15) {
            exit_inject(v, X86_VECTOR_GP);
            return;
        }
        lapic_cr8_write(lapic, (uint8_t)value);
        vcpu_events_changed(&v->vcpu);
    }
    vcpu_skip_instruction(&v->vcpu);
}

/* The operand of a MOV to a control register: 32 bits outside 64-bit mode. */
static uint64_t read_operand(struct partition_vcpu *v, unsigned gpr)
{
    uint64_t value = vcpu_read_register(&v->vcpu, gpr);

    return linear_mode(v) == DECODE_MODE_64 ? value : (uint32_t)value;
}

/* CR3, where shadow tables stand in for the guest's. */
static void access_cr3(struct partition_vcpu *v, uint64_t qualification)
{
    const unsigned gpr = QUALIFICATION_GPR(qualification);

    if (QUALIFICATION_TYPE(qualification) == ACCESS_MOV_FROM) {
        vcpu_write_register(&v->vcpu, gpr, vcpu_read_cr3(&v->vcpu));
    } else if (!paging_move_to_cr3(v, read_operand(v, gpr))) {
        exit_inject(v, X86_VECTOR_GP);
        return;
    }
    vcpu_skip_instruction(&v->vcpu);
}

void exit_cr_access(struct partition_vcpu *v)
{
    uint64_t qualification = vcpu_read(&v->vcpu, VMCS_EXIT_QUALIFICATION);
    unsigned number = QUALIFICATION_REGISTER(qualification);
    enum access_type type = QUALIFICATION_TYPE(qualification);
    struct cr_state state;

    if (number == 8) {
        access_cr8(v, qualification);
        return;
    }
    if (number == 3) {
        access_cr3(v, qualification);
        return;
    }
    vcpu_read_control_state(&v->vcpu, &state);
    if (type == ACCESS_CLTS)
        write_cr0(v, &state, policy_cr0_clts(state.cr0));
    else if (type == ACCESS_LMSW)
        write_cr0(v, &state, policy_cr0_lmsw(state.cr0, QUALIFICATION_LMSW(qualification)));
    else if (type == ACCESS_MOV_TO && number == 0)
        write_cr0(v, &state, read_operand(v, QUALIFICATION_GPR(qualification)));
    else if (type == ACCESS_MOV_TO && number == 4)
        write_cr4(v, &state, read_operand(v, QUALIFICATION_GPR(qualification)));
    else
        exit_unexpected(v); /* reads of CR0 and CR4 never exit */
}
