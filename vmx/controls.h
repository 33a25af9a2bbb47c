// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the processor's VT-x can do, whether that is enough for Umbra, and the control words that follow from
 * it. Pure: the processor is reached through struct vmx_msr_ops only.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "lib/types.h"
#include "vmx/control_table.h"

/* How capabilities are read: cpu_rdmsr and cpu_cpuid on the machine, recordings in tests. */
struct vmx_msr_ops {
    uint64_t (*rdmsr)(uint32_t msr);
    struct cpuid_registers (*cpuid)(uint32_t leaf, uint32_t subleaf);
};

/* Raw values, 0 where the processor has no such register. */
struct vmx_capabilities {
    bool intel_vmx; /* CPUID.1:ECX.VMX; nothing below is read without it */
    bool smx;       /* CPUID.1:ECX.SMX */
    uint64_t feature_control;
    uint64_t basic;
    uint64_t misc;
    uint64_t cr0_fixed0, cr0_fixed1;
    uint64_t cr4_fixed0, cr4_fixed1;
    uint64_t vmcs_enum;
    uint64_t ept_vpid;
    uint64_t vmfunc;
    uint64_t controls[VMX_WORDS]; /* the TRUE registers where there are */
};

/*
 * Reads all capabilities; touches only registers that the processor says it has (SDM vol. 3, appendix A). Any
 * context on the machine whose processor is meant.
 */
void vmx_capabilities_read(struct vmx_capabilities *capabilities, const struct vmx_msr_ops *ops);

/*
 * NULL if Umbra can run here with `capabilities`; else one sentence (a constant, without full stop) that
 * tells the operator why not, the first obstacle first.
 */
const char *vmx_capabilities_obstacle(const struct vmx_capabilities *capabilities) __must_check;

/*
 * Whether guests can be run by EPT: its tables and their invalidation are as Umbra needs them, no exits of
 * shadow paging are insisted on, and IA32_EFER and IA32_PAT can be the guest's without exits.
 */
bool vmx_capabilities_have_ept(const struct vmx_capabilities *capabilities);

/* Whether guests without paging, and in real mode, can be run as well. Only with vmx_capabilities_have_ept.
 */
bool vmx_capabilities_have_unrestricted_guest(const struct vmx_capabilities *capabilities);

/* Whether guests can be run by shadow paging. One of it and EPT is there, or else there is an obstacle. */
bool vmx_capabilities_have_shadow(const struct vmx_capabilities *capabilities);

/* Whether VMCSs switch IA32_EFER between guest and Umbra: what vmx_controls_compute makes use of if it is so.
 */
bool vmx_capabilities_switch_efer(const struct vmx_capabilities *capabilities);

/* Bits of control word `word` that must be 1, and that may be 1 (SDM vol. 3, A.3 to A.5). */
uint64_t vmx_controls_must(const struct vmx_capabilities *capabilities, enum vmx_word word);
uint64_t vmx_controls_may(const struct vmx_capabilities *capabilities, enum vmx_word word);

/* Whether every bit of `mask` may be 1. */
static inline bool vmx_controls_available(const struct vmx_capabilities *capabilities, enum vmx_word word,
                                          uint64_t mask)
{
    return (vmx_controls_may(capabilities, word) & mask) == mask;
}

/* What one vCPU needs beyond the table's fixed wants: bits of DEMANDED rows. */
struct vmx_demands {
    uint64_t words[VMX_WORDS];
};

/* Control words as the VMCS takes them. TERTIARY and EXIT2 are 0, and their fields need not exist. */
struct vmx_controls {
    uint64_t words[VMX_WORDS];
};

/* Whether every control of `mask` is 1 in `controls`. */
static inline bool vmx_controls_have(const struct vmx_controls *controls, enum vmx_word word, uint64_t mask)
{
    return (controls->words[word] & mask) == mask;
}

/*
 * Computes the control words from the table, `demands` (NULL: none) and the processor. Returns 0, or
 *   -EOPNOTSUPP  the processor lacks a control that is required or demanded, or one that such a control
 * depends on -EINVAL      a demand names a control that the table does not leave to demands -EBUSY       the
 * processor insists on a control that Umbra never uses and then points *culprit (may be NULL) at the SDM's
 * name of that control, a constant.
 */
int vmx_controls_compute(struct vmx_controls *controls, const struct vmx_capabilities *capabilities,
                         const struct vmx_demands *demands, const char **culprit) __must_check;

/* The SDM's name of a control, and what the table says of it, for listings. */
const char *vmx_control_name(enum vmx_control_row row);
const char *vmx_control_reason(enum vmx_control_row row);

/*
 * Capabilities in words, for the monitor: the n-th one's name (a constant) and in *present whether this
 * processor has it; NULL after the last.
 */
const char *vmx_capabilities_describe(const struct vmx_capabilities *capabilities, unsigned n, bool *present);
