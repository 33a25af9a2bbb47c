// SPDX-License-Identifier: BSD-2-Clause
#include "nested/merge_cr.h"

struct nested_cr nested_cr_merge(const struct cr_policy *policy, const struct nested_cr *vmcs12)
{
    const uint64_t held = policy_cr_mask(policy);

    return (struct nested_cr){
        .mask = vmcs12->mask | held,
        .shadow = (vmcs12->shadow & vmcs12->mask) | (vmcs12->guest & held & ~vmcs12->mask),
        .guest = policy_cr_hardware(policy, vmcs12->guest),
    };
}

uint64_t nested_cr_return(const struct cr_policy *policy, const struct nested_cr *vmcs12,
                          const struct nested_cr *vmcs02)
{
    const uint64_t held = policy_cr_mask(policy);

    return (vmcs12->guest & vmcs12->mask) |
           (((vmcs02->shadow & held) | (vmcs02->guest & ~held)) & ~vmcs12->mask);
}

struct nested_tpr nested_tpr_merge(enum policy policy, const struct nested_tpr *vmcs12, uint8_t own_threshold,
                                   enum nested_tpr_page *page)
{
    /* With a TPR shadow of Lv1's, Lv2 has a TPR of its own, and Umbra wants nothing of it: both figures. */
    if (vmcs12->controls & VMX_PRIMARY_TPR_SHADOW) {
        *page = NESTED_TPR_PAGE_LV1;
        return *vmcs12;
    }
    if (policy == POLICY_SHADOWING) {
        *page = NESTED_TPR_PAGE_LV0;
        return (struct nested_tpr){vmcs12->controls | VMX_PRIMARY_TPR_SHADOW, own_threshold};
    }
    *page = NESTED_TPR_PAGE_NONE;
    return (struct nested_tpr){VMX_PRIMARY_CR8_LOAD_EXITING | VMX_PRIMARY_CR8_STORE_EXITING, 0};
}
