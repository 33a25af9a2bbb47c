// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The three MSR lists of VMCS12 (SDM vol. 3, "Loading MSRs" of a VM entry and of a VM exit, "Saving MSRs").
 * Each entry of a list is read from guest memory once; a list that is longer than IA32_VMX_MISC recommends
 * fails at its first entry too many. An entry in memory that cannot be reached is one of all ones.
 */
#include "nested/nested.h"

/* Registers that an entry loads from VMCS12 and then from its list, which has the last word; IA32_EFER is
 * another one. */
enum nested_list_register {
    NESTED_LIST_SYSENTER_CS,
    NESTED_LIST_SYSENTER_ESP,
    NESTED_LIST_SYSENTER_EIP,
    NESTED_LIST_DEBUGCTL,
    NESTED_LIST_PAT,
    NESTED_LIST_REGISTERS,
};

/* What an entry's list wrote into them. */
struct nested_list_values {
    uint32_t present; /* BIT(enum nested_list_register) */
    uint64_t values[NESTED_LIST_REGISTERS];
};

/* The field of a guest's VMCS that holds MSR `index`; false: none does (IA32_EFER, see vcpu_read_efer,
 * aside). */
bool nested_msr_field(uint32_t index, struct vmcs_field *field) __must_check;

/* Entries that a list may have, by what Lv1 is offered. */
unsigned nested_msr_list_limit(const struct nested_vcpu *n);

/*
 * A logical entry loads MSRs. `state`: the control registers that Lv2 begins with; IA32_EFER in it is brought
 * up to date. 0, with *values; or the number of the entry that failed, counted from 1: the exit qualification
 * of the failed entry. VMCS01 is current.
 */
unsigned nested_msr_list_enter(struct nested_vcpu *n, struct cr_state *state,
                               struct nested_list_values *values) __must_check;

/* A logical exit stores MSRs of Lv2. False: a VMX abort, with indicator 1. VMCS02 is current. */
bool nested_msr_list_store(struct nested_vcpu *n) __must_check;

/* A logical exit loads MSRs, after the host state. False: a VMX abort, with indicator 4. VMCS01 is current.
 */
bool nested_msr_list_leave(struct nested_vcpu *n) __must_check;
