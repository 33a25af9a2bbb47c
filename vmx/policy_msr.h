// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The MSR policy: a total table of the registers that a partition's processor has. The MSR bitmap and what
 * the exit handlers do both come from it; every register without a row is #GP. Pure.
 */
#include "arch/x86/msr.h"
#include "lib/types.h"
#include "vmx/policy.h"
#include "vmx/policy_cpuid.h"

/* Who answers an access that exits, under a policy of intercept or shadowing. */
enum msr_handler {
    MSR_HANDLER_NONE,      /* nobody: the register is through, or reserved */
    MSR_HANDLER_CONSTANT,  /* reads give the row's value, writes are ignored */
    MSR_HANDLER_PROCESSOR, /* reads give the processor's own value (0 if it has none), writes are ignored */
    MSR_HANDLER_PROCESSOR_AND, /* likewise, but only the bits of the row's value */
    MSR_HANDLER_TSC,           /* a write moves the TSC offset, and IA32_TSC_ADJUST by as much */
    MSR_HANDLER_TSC_ADJUST,    /* a write moves the TSC offset by the difference; reset value: the row's */
    MSR_HANDLER_TSC_DEADLINE,  /* the local APIC's timer */
    MSR_HANDLER_APIC_BASE,     /* the local APIC's place and mode */
    MSR_HANDLER_X2APIC,        /* the local APIC's registers, #GP when not in x2APIC mode */
    MSR_HANDLER_EFER,          /* policy_efer_write */
    MSR_HANDLER_PAT,         /* kept and checked as the processor does; what Umbra's tables say follows it */
    MSR_HANDLER_XSS,         /* 0 is the only value; another is #GP */
    MSR_HANDLER_MISC_ENABLE, /* reset value: the row's; a write keeps no bit but FAST_STRINGS and LIMIT_CPUID
                              */
    MSR_HANDLER_MTRR,        /* kept and checked as the processor does, without effect on EPT memory types */
    MSR_HANDLER_MCG_STATUS,  /* reads 0; writing anything but 0 is #GP */
    MSR_HANDLER_DEBUGCTL,    /* the VMCS's guest field; bits outside the row's value are #GP */
    MSR_HANDLER_VMX,         /* capabilities of the virtual VT-x; without one, the row's value */
    MSR_HANDLERS,
};

/* What must be offered by CPUID for a row to be in force. A set of them is a mask of BIT(feature). */
enum msr_feature {
    MSR_FEATURE_ALWAYS,
    MSR_FEATURE_LONG_MODE,
    MSR_FEATURE_RDTSCP,
    MSR_FEATURE_SYSENTER,
    MSR_FEATURE_MTRR,
    MSR_FEATURE_PAT,
    MSR_FEATURE_MCA,
    MSR_FEATURE_X2APIC,
    MSR_FEATURE_TSC_DEADLINE,
    MSR_FEATURE_TSC_ADJUST,
    MSR_FEATURE_XSAVES,
    MSR_FEATURE_EFER,      /* any of SYSCALL, NX, long mode */
    MSR_FEATURE_SPEC_CTRL, /* IBRS/IBPB, STIBP or SSBD */
    MSR_FEATURE_PRED_CMD,
    MSR_FEATURE_L1D_FLUSH,
    MSR_FEATURE_ARCH_CAPABILITIES,
    MSR_FEATURE_VMX,
};

struct msr_policy_row {
    uint32_t first;
    uint32_t last;
    const char *name;
    uint8_t read[VCPU_REGIMES];  /* enum policy */
    uint8_t write[VCPU_REGIMES]; /* enum policy */
    uint8_t handler;             /* enum msr_handler */
    uint8_t feature;             /* enum msr_feature */
    uint8_t class;               /* enum state_class */
    uint64_t value;              /* reset value, constant or mask, as the handler says */
    const char *reason;
};

/* The table, ascending, for those who list or test it; *count is its length. */
const struct msr_policy_row *policy_msr_rows(size_t *count);

/* The features of a partition, for the functions below. */
uint32_t policy_msr_features(const struct cpuid_image *image);

/* The row of `msr`; for a register without one, a row whose policies are reserved. Constant time, never NULL.
 */
const struct msr_policy_row *policy_msr_find(uint32_t msr);

/* The policy of an access to a register of `row` by a vCPU in `regime`, in a partition with `features`. */
static inline enum policy policy_msr_on_read(const struct msr_policy_row *row, uint32_t features,
                                             enum vcpu_regime regime)
{
    return features & BIT(row->feature) ? (enum policy)row->read[regime] : POLICY_RESERVED;
}

static inline enum policy policy_msr_on_write(const struct msr_policy_row *row, uint32_t features,
                                              enum vcpu_regime regime)
{
    return features & BIT(row->feature) ? (enum policy)row->write[regime] : POLICY_RESERVED;
}

/* Fills the 4 KiB MSR bitmap at `bitmap`: a 0 for every access that is through, a 1 for all others. */
void policy_msr_bitmap(void *bitmap, uint32_t features, enum vcpu_regime regime);

/*
 * The same for a vCPU in x2APIC mode whose processor virtualises that mode (SDM vol. 3, "Virtualizing
 * MSR-Based APIC Accesses"): what the processor does by itself is through as well; `delivery`: with
 * APIC-register virtualization and virtual-interrupt delivery, else the TPR alone. Never to be used without
 * the control "virtualize x2APIC mode": the guest would reach the machine's own APIC.
 */
void policy_msr_bitmap_x2apic(void *bitmap, uint32_t features, enum vcpu_regime regime, bool delivery);

/* The value of the register `row` after reset, for rows that have one. */
static inline uint64_t policy_msr_reset_value(const struct msr_policy_row *row)
{
    return row->value;
}
