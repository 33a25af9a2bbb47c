// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * CR0, CR4 and the TPR of Lv2, merged of what Lv1 wrote into VMCS12 and what Umbra's policy says: seed 004's
 * Figs. 9, 11, 12, 13 and 19 on bit vectors. Pure.
 *
 * The figures know of two answers of the policy: the hypervisor shadows a flag, or it does not. A flag under
 * POLICY_INTERCEPT, and one that is not there for a guest, is held in the guest/host mask as well, and so
 * goes the way of a shadowed one; the value that the hardware holds in it may follow the guest's (struct
 * cr_policy, `follow`).
 */
#include "vmx/policy_cr.h"

/* One control register in one VMCS: guest/host mask, read shadow and guest field. */
struct nested_cr {
    uint64_t mask;
    uint64_t shadow;
    uint64_t guest;
};

/*
 * What VMCS02 holds when VMCS12 has `vmcs12` (Fig. 11). Its guest field is Lv2's register, its mask and read
 * shadow are Lv1's view of it. Bits of the read shadow outside the mask are 0.
 */
struct nested_cr nested_cr_merge(const struct cr_policy *policy, const struct nested_cr *vmcs12);

/*
 * Lv2's register while it runs, which is what a logical exit puts into the guest field of VMCS12 (Fig. 9): of
 * a flag that Lv1 masks it is what VMCS12 has.
 */
uint64_t nested_cr_return(const struct cr_policy *policy, const struct nested_cr *vmcs12,
                          const struct nested_cr *vmcs02);

/*
 * Lv2's register after Lv2 has written `operand` to it, if Lv1 did not want an exit for that; `guest` is its
 * value before. Flags that Lv1 masks stay. Whether that value may be written is another question
 * (policy_cr0_write). With it as the guest field of VMCS12, nested_cr_merge makes of VMCS02 what Fig. 13
 * does: each flag of `operand` goes to the read shadow or to the guest field, whichever Lv2 reads.
 */
static inline uint64_t nested_cr_written(uint64_t mask12, uint64_t guest, uint64_t operand)
{
    return (guest & mask12) | (operand & ~mask12);
}

/* Which virtual-APIC page VMCS02 has. */
enum nested_tpr_page {
    NESTED_TPR_PAGE_NONE, /* no TPR shadow */
    NESTED_TPR_PAGE_LV0,  /* the local APIC of the vCPU: Lv2 uses Lv1's own TPR */
    NESTED_TPR_PAGE_LV1,  /* the one in VMCS12, translated */
};

/* CR8-load exiting, CR8-store exiting and "use TPR shadow". */
#define NESTED_TPR_CONTROLS                                                                                  \
    (VMX_PRIMARY_CR8_LOAD_EXITING | VMX_PRIMARY_CR8_STORE_EXITING | VMX_PRIMARY_TPR_SHADOW)

struct nested_tpr {
    uint32_t controls; /* of NESTED_TPR_CONTROLS, as the primary controls have them */
    uint8_t threshold; /* TPR threshold */
};

/*
 * The controls, the threshold and (*page) the page of VMCS02: Fig. 12 under POLICY_SHADOWING, Fig. 19 under
 * POLICY_INTERCEPT. `own_threshold` is the one that Umbra wants where Lv2 uses the vCPU's own TPR: 0 unless
 * an interrupt waits.
 */
struct nested_tpr nested_tpr_merge(enum policy policy, const struct nested_tpr *vmcs12, uint8_t own_threshold,
                                   enum nested_tpr_page *page);
