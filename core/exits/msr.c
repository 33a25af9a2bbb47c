// SPDX-License-Identifier: BSD-2-Clause
/* RDMSR and WRMSR that the policy table does not let through: one handler for each enum msr_handler. */
#include "arch/x86/cpu.h"
#include "arch/x86/exception.h"
#include "arch/x86/mtrr.h"
#include "arch/x86/trap.h"
#include "core/exits/exits.h"
#include "core/nested_guest.h"
#include "core/paging.h"
#include "lib/errors.h"
#include "vmx/events.h"

#define MTRR_TYPES_VALID                                                                                     \
    (BIT(MEMORY_TYPE_UC) | BIT(MEMORY_TYPE_WC) | BIT(MEMORY_TYPE_WT) | BIT(MEMORY_TYPE_WP) |                 \
     BIT(MEMORY_TYPE_WB))
#define MISC_ENABLE_GUEST (MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_LIMIT_CPUID)

/* One access: `row` is the register's, `value` what is read or written. False: #GP. */
typedef bool msr_access(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                        uint64_t *value);

static bool is_memory_type(uint64_t value)
{
    return value < 8 && (MTRR_TYPES_VALID & BIT(value)) != 0;
}

static bool write_ignored(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                          uint64_t *value)
{
    (void)v, (void)msr, (void)row, (void)value;
    return true;
}

static bool read_constant(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                          uint64_t *value)
{
    (void)v, (void)msr;
    *value = row->value;
    return true;
}

static bool read_processor(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                           uint64_t *value)
{
    (void)v, (void)row;
    if (!trap_rdmsr_safe(msr, value))
        *value = 0;
    return true;
}

static bool read_processor_and(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                               uint64_t *value)
{
    read_processor(v, msr, row, value);
    *value &= row->value;
    return true;
}

static bool read_tsc(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                     uint64_t *value)
{
    (void)msr, (void)row;
    *value = partition_tsc(v->partition) + v->msrs.tsc_adjust;
    return true;
}

static bool read_deadline(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                          uint64_t *value)
{
    (void)row;
    if (lapic_msr_read(partition_vcpu_lapic(v), msr, value) != 0)
        return false;
    if (*value != 0)
        *value += v->msrs.tsc_adjust;
    return true;
}

/*
 * A deadline is a value of the guest's TSC, which IA32_TSC_ADJUST moves against the time of the devices. One
 * that has passed is due at once, also where it lies before that time's beginning.
 */
static bool write_deadline(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                           uint64_t *value)
{
    uint64_t now = partition_tsc(v->partition);
    uint64_t guest_now = now + v->msrs.tsc_adjust;
    uint64_t deadline = now;

    (void)row;
    v->deadline_changed = true;
    if (*value == 0)
        deadline = 0;
    else if (*value > guest_now)
        deadline = now + min_u64(*value - guest_now, VDEV_NEVER - now);
    return lapic_msr_write(partition_vcpu_lapic(v), msr, deadline) == 0;
}

/* The guest's TSC moves by the change of IA32_TSC_ADJUST; an armed deadline stays what it is on it. */
static void set_tsc_adjust(struct partition_vcpu *v, uint64_t adjust)
{
    uint64_t deadline;
    bool armed = read_deadline(v, MSR_IA32_TSC_DEADLINE, NULL, &deadline) && deadline != 0;

    v->msrs.tsc_adjust = adjust;
    partition_vcpu_apply_tsc(v);
    if (armed)
        (void)write_deadline(v, MSR_IA32_TSC_DEADLINE, NULL, &deadline);
}

static bool write_tsc(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                      uint64_t *value)
{
    (void)msr, (void)row;
    set_tsc_adjust(v, *value - partition_tsc(v->partition));
    return true;
}

static bool read_tsc_adjust(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                            uint64_t *value)
{
    (void)msr, (void)row;
    *value = v->msrs.tsc_adjust;
    return true;
}

static bool write_tsc_adjust(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                             uint64_t *value)
{
    (void)msr, (void)row;
    set_tsc_adjust(v, *value);
    return true;
}

static bool read_lapic(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                       uint64_t *value)
{
    (void)row;
    return lapic_msr_read(partition_vcpu_lapic(v), msr, value) == 0;
}

static bool write_lapic(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                        uint64_t *value)
{
    (void)row;
    v->deadline_changed = true;
    vcpu_events_changed(&v->vcpu);
    return lapic_msr_write(partition_vcpu_lapic(v), msr, *value) == 0;
}

static bool write_apic_base(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                            uint64_t *value)
{
    if (!write_lapic(v, msr, row, value))
        return false;
    exit_apic_mode_changed(v);
    return true;
}

static bool read_efer(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                      uint64_t *value)
{
    (void)msr, (void)row;
    *value = vcpu_read_efer(v->level->vcpu);
    return true;
}

static bool write_efer(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                       uint64_t *value)
{
    struct cr_state state;
    unsigned effects = 0;

    (void)msr, (void)row;
    paging_read_control(v, &state);
    return policy_efer_write(v->level->vcpu->policy, &state, *value, &effects) != CR_GP &&
           paging_write_control(v, &state, effects);
}

static bool read_pat(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                     uint64_t *value)
{
    (void)msr, (void)row;
    *value = vcpu_read_pat(v->level->vcpu);
    return true;
}

/* SDM vol. 3, table "Memory Types That Can Be Encoded With PAT": types 2, 3 and what is above 7 are #GP. */
static bool write_pat(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                      uint64_t *value)
{
    (void)msr, (void)row;
    for (unsigned i = 0; i < 8; i++) {
        const uint64_t type = *value >> (8 * i) & 0xff;
        if (!is_memory_type(type) && type != MEMORY_TYPE_UC_MINUS)
            return false;
    }
    paging_write_pat(v, *value);
    return true;
}

static bool read_zero(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                      uint64_t *value)
{
    (void)v, (void)msr, (void)row;
    *value = 0;
    return true;
}

static bool write_zero(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                       uint64_t *value)
{
    (void)v, (void)msr, (void)row;
    return *value == 0;
}

static bool read_misc_enable(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                             uint64_t *value)
{
    (void)msr, (void)row;
    *value = v->msrs.misc_enable;
    return true;
}

static bool write_misc_enable(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                              uint64_t *value)
{
    (void)msr;
    v->msrs.misc_enable = (row->value & ~MISC_ENABLE_GUEST) | (*value & MISC_ENABLE_GUEST);
    return true;
}

static bool read_debugctl(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                          uint64_t *value)
{
    (void)msr, (void)row;
    *value = vcpu_read(v->level->vcpu, VMCS_GUEST_DEBUGCTL);
    return true;
}

static bool write_debugctl(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                           uint64_t *value)
{
    (void)msr;
    if ((*value & ~row->value) != 0)
        return false;
    vcpu_write(v->level->vcpu, VMCS_GUEST_DEBUGCTL, *value);
    return true;
}

/* Where the MTRR `msr` is kept; NULL for numbers in between that are none. */
static uint64_t *mtrr_place(struct partition_vcpu *v, uint32_t msr)
{
    if (msr == MSR_IA32_MTRR_DEF_TYPE)
        return &v->msrs.mtrr_default;
    if (msr - MSR_IA32_MTRR_PHYSBASE0 < ARRAY_SIZE(v->msrs.mtrr_variable))
        return &v->msrs.mtrr_variable[msr - MSR_IA32_MTRR_PHYSBASE0];
    for (unsigned i = 0; i < MTRR_FIXED_COUNT; i++)
        if (msr == mtrr_fixed_msr(i))
            return &v->msrs.mtrr_fixed[i];
    return NULL;
}

/* Whether the processor would take `value` (SDM vol. 3, "Memory type range registers": reserved bits and
 * types are #GP). */
static bool mtrr_accepts(struct partition_vcpu *v, uint32_t msr, uint64_t value)
{
    uint64_t address = (BIT(v->partition->physical_bits) - 1) & ~(PAGE_SIZE - 1);

    if (msr == MSR_IA32_MTRR_DEF_TYPE)
        return is_memory_type(value & 0xff) &&
               (value & ~(uint64_t)(0xff | MTRR_DEF_TYPE_ENABLE | MTRR_DEF_TYPE_FIXED_ENABLE)) == 0;
    if (msr - MSR_IA32_MTRR_PHYSBASE0 < ARRAY_SIZE(v->msrs.mtrr_variable)) {
        if ((msr - MSR_IA32_MTRR_PHYSBASE0) % 2 == 0)
            return is_memory_type(value & 0xff) && (value & ~(address | 0xff)) == 0;
        return (value & ~(address | MTRR_PHYSMASK_VALID)) == 0;
    }
    for (unsigned i = 0; i < 8; i++)
        if (!is_memory_type(value >> (8 * i) & 0xff))
            return false;
    return true;
}

static bool read_mtrr(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                      uint64_t *value)
{
    const uint64_t *place = mtrr_place(v, msr);

    (void)row;
    if (place == NULL)
        return false;
    *value = *place;
    return true;
}

static bool write_mtrr(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                       uint64_t *value)
{
    uint64_t *place = mtrr_place(v, msr);

    (void)row;
    if (place == NULL || !mtrr_accepts(v, msr, *value))
        return false;
    *place = *value;
    return true;
}

static bool read_vmx(struct partition_vcpu *v, uint32_t msr, const struct msr_policy_row *row,
                     uint64_t *value)
{
    if (v->nested != NULL)
        return nested_guest_read_capability(v, msr, value);
    *value = row->value;
    return msr == MSR_IA32_FEATURE_CONTROL;
}

static const struct {
    msr_access *read;
    msr_access *write;
} handlers[MSR_HANDLERS] = {
    [MSR_HANDLER_CONSTANT] = {read_constant, write_ignored},
    [MSR_HANDLER_PROCESSOR] = {read_processor, write_ignored},
    [MSR_HANDLER_PROCESSOR_AND] = {read_processor_and, write_ignored},
    [MSR_HANDLER_TSC] = {read_tsc, write_tsc},
    [MSR_HANDLER_TSC_ADJUST] = {read_tsc_adjust, write_tsc_adjust},
    [MSR_HANDLER_TSC_DEADLINE] = {read_deadline, write_deadline},
    [MSR_HANDLER_APIC_BASE] = {read_lapic, write_apic_base},
    [MSR_HANDLER_X2APIC] = {read_lapic, write_lapic},
    [MSR_HANDLER_EFER] = {read_efer, write_efer},
    [MSR_HANDLER_PAT] = {read_pat, write_pat},
    [MSR_HANDLER_XSS] = {read_zero, write_zero},
    [MSR_HANDLER_MISC_ENABLE] = {read_misc_enable, write_misc_enable},
    [MSR_HANDLER_MTRR] = {read_mtrr, write_mtrr},
    [MSR_HANDLER_MCG_STATUS] = {read_zero, write_zero},
    [MSR_HANDLER_DEBUGCTL] = {read_debugctl, write_debugctl},
    [MSR_HANDLER_VMX] = {read_vmx, NULL},
};

bool exit_read_msr(struct partition_vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct msr_policy_row *row = policy_msr_find(msr);

    return policy_msr_on_read(row, v->partition->msr_features, v->level->vcpu->regime) != POLICY_RESERVED &&
           handlers[row->handler].read != NULL && handlers[row->handler].read(v, msr, row, value);
}

bool exit_write_msr(struct partition_vcpu *v, uint32_t msr, uint64_t value)
{
    const struct msr_policy_row *row = policy_msr_find(msr);

    return policy_msr_on_write(row, v->partition->msr_features, v->level->vcpu->regime) != POLICY_RESERVED &&
           handlers[row->handler].write != NULL && handlers[row->handler].write(v, msr, row, &value);
}

void exit_rdmsr(struct partition_vcpu *v)
{
    uint64_t *registers = v->vcpu.registers;
    uint64_t value;

    if (!exit_read_msr(v, (uint32_t)registers[VCPU_RCX], &value)) {
        exit_inject(v, X86_VECTOR_GP);
        return;
    }
    registers[VCPU_RAX] = (uint32_t)value;
    registers[VCPU_RDX] = value >> 32;
    vcpu_skip_instruction(&v->vcpu);
}

void exit_wrmsr(struct partition_vcpu *v)
{
    const uint64_t *registers = v->vcpu.registers;
    uint64_t value = registers[VCPU_RDX] << 32 | (uint32_t)registers[VCPU_RAX];

    if (!exit_write_msr(v, (uint32_t)registers[VCPU_RCX], value)) {
        exit_inject(v, X86_VECTOR_GP);
        return;
    }
    vcpu_skip_instruction(&v->vcpu);
}
