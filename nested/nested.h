// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A vCPU's virtual VT-x (docs/design/nested.md): its state, and what the rooms of this floor ask of the one
 * above. All functions of this floor are called by the vCPU's home, on the exit path, unless said otherwise.
 */
#include "lib/types.h"
#include "mm/guest_memory.h"
#include "nested/capabilities.h"
#include "nested/checks.h"
#include "nested/vmcs12.h"
#include "vmx/policy_cr.h"
#include "vmx/vcpu.h"

/* Fields of VMCS01 that each logical exit loads (nested/exit.c). */
#define NESTED_HOST_VALUES   46

/* Fields in the shadow VMCS (nested/shadow.h). */
#define NESTED_SHADOW_VALUES 22

/* The current-VMCS pointer when there is none (SDM vol. 3, "Current VMCS"). */
#define NESTED_NO_VMCS       UINT64_MAX

enum nested_mode {
    NESTED_OFF,      /* outside VMX operation */
    NESTED_ROOT,     /* Lv1 runs, in VMX root operation: seed 004's logical VMX mode */
    NESTED_NON_ROOT, /* Lv2 runs */
};

struct nested_vcpu;

/* What the floor above does for a nested vCPU. `context` is nested_vcpu.context. */
struct nested_ops {
    /*
     * The control registers that Lv1 has from now on: what a logical exit loads. PDPTEs are loaded where PAE
     * paging is in use. False: they are bad (a VMX abort).
     */
    bool (*load_control_state)(void *context, const struct cr_state *state);
    /*
     * WRMSR and RDMSR of the vCPU as Lv1 would execute them, for the MSR lists: what exits for Lv1 is
     * emulated, what is through is done. False: #GP. VMCS01 is current for a write. A read may come with
     * VMCS02 current, but only of registers that neither holds.
     */
    bool (*write_msr)(void *context, uint32_t index, uint64_t value);
    bool (*read_msr)(void *context, uint32_t index, uint64_t *value);
    /* Translations by `eptp` (all of them: NULL) that Lv2 may have seen are forgotten; likewise by VPID (0:
     * of all). */
    void (*invalidate_ept)(void *context, const uint64_t *eptp);
    void (*invalidate_vpid)(void *context, uint16_t vpid, const uint64_t *address, bool keep_globals);
};

/* What is the same for all vCPUs of a partition. */
struct nested_policy {
    struct nested_capabilities capabilities; /* offered to Lv1 */
    const struct vmx_capabilities *hardware;
    const struct register_policy *registers; /* Umbra's own, of the regime that Lv2 runs in */
    uint8_t physical_bits;                   /* MAXPHYADDR, as Lv1's CPUID tells it */
    uint8_t linear_bits;                     /* 48 or 57, likewise */
    bool rtm;                                /* Lv1's CPUID tells of RTM */
};

/* Pages that VMCS12 names and that are used at each entry. */
enum nested_page {
    NESTED_PAGE_VIRTUAL_APIC,
    NESTED_PAGE_APIC_ACCESS,
    NESTED_PAGE_MSR_BITMAPS,
    NESTED_PAGES,
};

/* Where such a page was found. */
struct nested_translated {
    bool valid;
    uint64_t guest;
    hpa_t address;
};

struct nested_vcpu {
    const struct nested_policy *policy;
    const struct nested_ops *ops;
    void *context;
    const struct stage_chain *memory; /* guest-physical addresses of Lv1 */
    struct vcpu *vcpu01;
    struct vcpu vcpu02;

    enum nested_mode mode;
    uint64_t vmxon_pointer;
    uint64_t current; /* address of the current VMCS12; NESTED_NO_VMCS: none */
    struct vmcs12 vmcs12;
    struct nested_checked checked; /* of its last entry */
    uint64_t loaded_cr0;           /* Lv2's at its last entry: what that takes of VMCS12 is not all */
    struct cr_state state02;       /* Lv2's control registers as VMCS02 has them, while Lv1 runs */

    /* What the controls of VMCS02 were merged of besides VMCS12: of VMCS01, and pages of Lv1's. */
    struct nested_merged {
        uint64_t secondary, virtual_apic, apic_access;
    } merged;
    struct nested_translated pages[NESTED_PAGES];

    uint64_t host_values[NESTED_HOST_VALUES]; /* what the next exit loads, made of VMCS12 */
    bool host_is_prepared;

    bool shadow_linked;                           /* VMCS01 links to the shadow VMCS */
    uint64_t shadow_values[NESTED_SHADOW_VALUES]; /* what Umbra wrote there, or found there last */
};

/* Lv1's own memory is another than before: what was found in it has to be found again. */
static inline void nested_forget_pages(struct nested_vcpu *n)
{
    for (unsigned page = 0; page < NESTED_PAGES; page++)
        n->pages[page].valid = false;
}
