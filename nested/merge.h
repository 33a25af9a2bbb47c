// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * VMCS02: the merge of what Lv1 wrote (VMCS12) and of how Umbra runs a guest (vcpu02 as vcpu_init made it,
 * and VMCS01). One table (nested/merge_table.h) says of each field of a VMCS whose it is and by which rule it
 * comes about.
 */
#include "nested/msr_list.h"
#include "nested/nested.h"

/* Who determines a field of VMCS02. */
enum nested_field_owner {
    NESTED_FIELD_LV1,        /* copied from VMCS12 */
    NESTED_FIELD_LV0,        /* Umbra's own, whatever VMCS12 has */
    NESTED_FIELD_MERGED,     /* of both, by the rule */
    NESTED_FIELD_TRANSLATED, /* an address of Lv1's, in the machine's memory */
    NESTED_FIELD_COMPUTED,   /* made for the entry */
    NESTED_FIELD_ABSENT,     /* what it belongs to is not offered to Lv1 */
};

enum nested_field_owner nested_merge_owner(struct vmcs_field field);

/* The rule's name, a few letters for dumps, and the sentence that says why. Constants. */
const char *nested_merge_rule(struct vmcs_field field);
const char *nested_merge_reason(struct vmcs_field field);

/* What the floor above decides of an entry. */
struct nested_merge_input {
    hpa_t root;       /* as for vcpu_set_root, in the regime EPT: of Lv2's memory */
    uint16_t vpid;    /* of Lv2; not 0, and not Lv1's */
    hpa_t msr_bitmap; /* a frame of this nested vCPU's, filled with ones at first */
    uint64_t *pdptes; /* the shadow regime: where the four that Lv2 uses go, if it uses PAE paging */
};

/*
 * What an entry needs besides VMCS12: registers that it may leave as Lv1 has them, the pages of Lv1's by host
 * address, and what it has loaded from memory.
 */
struct nested_merge_entry {
    struct {
        uint64_t cr0, efer, pat, dr7, debugctl;
    } lv1;                          /* as they are in VMCS01 */
    hpa_t virtual_apic;             /* of VMCS12, if it uses the TPR shadow */
    hpa_t apic_access;              /* of VMCS12, if it virtualizes APIC accesses */
    uint64_t pdptes[4];             /* if Lv2 uses PAE paging and Lv1 has no EPT for it */
    struct cr_state state;          /* the control registers that Lv2 begins with */
    struct nested_list_values list; /* what the MSR list of the entry wrote */
};

/* The control registers that Lv2 begins with, before the MSR list: of VMCS12, and of what an entry leaves as
 * Lv1 has it. */
void nested_merge_state(const struct vmcs12 *vmcs, uint64_t lv1_cr0, uint64_t lv1_efer,
                        struct cr_state *state);

/*
 * Brings VMCS02 up to date for an entry: all fields but the event that the entry injects. What VMCS12 says
 * has been checked. VMCS02 is current.
 */
void nested_merge(struct nested_vcpu *n, const struct nested_merge_input *in,
                  const struct nested_merge_entry *entry);

/*
 * Lv2's own CR0, CR3, CR4, IA32_EFER and CS.L: what a logical exit puts into VMCS12, and what address
 * translation goes by (Fig. 9). VMCS02 is current.
 */
void nested_read_control_state(struct nested_vcpu *n, struct cr_state *state);

/* Gives Lv2 new values of them, by Figs. 11 and 13. VMCS02 is current. */
void nested_write_control_state(struct nested_vcpu *n, const struct cr_state *state);

/*
 * Lv2's MOV to CR0 or CR4 of `operand` whose exit Lv1 did not want: as policy_cr0_write and policy_cr4_write,
 * which do not know of Lv1's masks nor of what Lv1's VMX operation fixes. For LMSW and CLTS, `operand` is
 * what policy_cr0_lmsw and policy_cr0_clts make of state->cr0. *state is of nested_read_control_state; when
 * it has the new values the caller does what *effects says, and nested_write_control_state.
 */
enum cr_answer nested_cr0_write(const struct nested_vcpu *n, struct cr_state *state, uint64_t operand,
                                unsigned *effects) __must_check;
enum cr_answer nested_cr4_write(const struct nested_vcpu *n, struct cr_state *state, uint64_t operand,
                                unsigned *effects) __must_check;

/*
 * The TPR threshold of VMCS02, where Umbra would have `own` for the vCPU's own TPR: for vcpu02's
 * vcpu_interrupt_ops.
 */
uint8_t nested_merge_tpr_threshold(const struct nested_vcpu *n, uint8_t own);

/* The TSC offset of VMCS02 follows VMCS01's, which has changed while Lv2 runs. VMCS02 is current. */
void nested_merge_tsc_offset(struct nested_vcpu *n);

/*
 * Fills in `bitmap` (physmap pointer to nested_merge_input.msr_bitmap) the bits of those registers that may
 * be through for Lv2: through in Umbra's policy (vcpu02.msr_bitmaps, the ones without x2APIC registers) and
 * not intercepted by Lv1. All others stay 1. Reads Lv1's bitmap from guest memory.
 */
void nested_merge_msr_bitmap(struct nested_vcpu *n, uint64_t *bitmap);

/*
 * Where the page of Lv1's that VMCS12 names is: *address. False: there is no memory, or none with the rights
 * that the processor or Umbra needs. What was found is kept.
 */
bool nested_merge_translate(struct nested_vcpu *n, enum nested_page page, hpa_t *address) __must_check;
