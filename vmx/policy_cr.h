// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The register-emulation policy table for CR0, CR2, CR3, CR4, the TPR and the VMCS pointer, and everything
 * that is derived from it: guest/host masks, read shadows, hardware values, the processor-based controls of
 * CR3 and the TPR. Nothing of that is decided anywhere else. Pure.
 */
#include "lib/types.h"
#include "vmx/controls.h"
#include "vmx/policy.h"

/* Which instance of the table is in force. */
enum cr_instance {
    CR_INSTANCE_UNRESTRICTED, /* EPT with unrestricted guest */
    CR_INSTANCE_RESTRICTED,   /* EPT without it */
    CR_INSTANCE_SHADOW,       /* shadow page tables */
    CR_INSTANCES,
};

enum policy_register {
    POLICY_CR0,
    POLICY_CR2,
    POLICY_CR3,
    POLICY_CR4,
    POLICY_TPR,
    POLICY_VMCS_POINTER,
};

/* The bit number of a row that is about a whole register. */
#define POLICY_WHOLE 64

/*
 * What the hardware's bit holds under a policy other than through. Under POLICY_SHADOWING it is 0 or 1; a bit
 * under POLICY_INTERCEPT may follow the guest's, which is why its changes are of interest.
 */
enum cr_value {
    CR_VALUE_0,
    CR_VALUE_1,
    CR_VALUE_GUEST,
};

struct cr_policy_row {
    enum policy_register reg;
    uint8_t bit;
    const char *name;
    enum state_class class;
    struct {
        enum policy policy;
        enum cr_value value;
    } instance[CR_INSTANCES];
    bool may_override; /* a configuration may turn through, or the TPR's shadowing, into intercept */
    const char *reason;
};

/* The table, for those who list or test it; *count is its length. */
const struct cr_policy_row *policy_cr_rows(size_t *count);

/* The policy of one control register, derived for one partition. */
struct cr_policy {
    uint64_t mask;      /* the guest/host mask */
    uint64_t follow;    /* bits of `mask` that the hardware holds as the guest wrote them */
    uint64_t value;     /* what the hardware holds in the other bits of `mask` */
    uint64_t intercept; /* bits under POLICY_INTERCEPT, overrides included: a subset of `mask` */
    uint64_t shadowing; /* bits under POLICY_SHADOWING: a subset of `mask` */
    uint64_t allowed;   /* bits that a guest may have set; setting another is a #GP */
    uint64_t ignored;   /* bits whose written value is lost; they read as in `fixed` */
    uint64_t fixed;
};

/* The policies of a partition's registers. */
struct register_policy {
    enum cr_instance instance;
    struct cr_policy cr0;
    struct cr_policy cr4;
    enum policy cr3;
    enum policy tpr;
    uint64_t efer; /* bits of IA32_EFER that a guest may have set */
};

/* Rows that a configuration turned into intercept. */
struct policy_overrides {
    uint64_t cr0; /* by bit */
    uint64_t cr4;
    bool cr3;
    bool tpr;
};

struct register_policy_settings {
    enum cr_instance instance;
    struct policy_overrides overrides;
    uint64_t cr0_fixed0, cr0_fixed1; /* IA32_VMX_CR0_FIXED0/1 */
    uint64_t cr4_fixed0, cr4_fixed1;
    uint64_t cr4_offered;  /* bits of CR4 whose features the guest's CPUID has: cpuid_image_cr4 */
    uint64_t efer_offered; /* likewise for IA32_EFER: cpuid_image_efer */
};

/*
 * Derives a partition's policies. -EPERM if an override names a row that may not be overridden, -EOPNOTSUPP
 * if the processor's fixed bits contradict the table; *row (may be NULL) is then the row's name.
 */
int policy_cr_derive(struct register_policy *policy, const struct register_policy_settings *settings,
                     const char **row) __must_check;

/* The guest/host mask. */
static inline uint64_t policy_cr_mask(const struct cr_policy *policy)
{
    return policy->mask;
}

/* What the hardware's register (the guest field of the VMCS) holds when the guest's register is `guest`. */
static inline uint64_t policy_cr_hardware(const struct cr_policy *policy, uint64_t guest)
{
    uint64_t guests = ~policy->mask | policy->follow;

    return (guest & guests) | (policy->value & ~guests);
}

/* The read shadow when the guest's register is `guest`: what it reads in the bits of the mask. */
static inline uint64_t policy_cr_shadow(const struct cr_policy *policy, uint64_t guest)
{
    return guest & policy->mask;
}

/* The guest's register, from the VMCS: what MOV from the register gives it (seed 004, Fig. 17). */
static inline uint64_t policy_cr_guest(uint64_t hardware, uint64_t shadow, uint64_t mask)
{
    return (hardware & ~mask) | (shadow & mask);
}

/* The registers of a vCPU as its guest sees them, as far as a write to one of them depends on the others. */
struct cr_state {
    uint64_t cr0;
    uint64_t cr3;
    uint64_t cr4;
    uint64_t efer;
    bool cs_l; /* CS.L: with IA32_EFER.LMA it makes 64-bit mode */
};

/* PAE paging is in use: the PDPTEs are registers of the processor (SDM vol. 3, 4.4.1). */
bool policy_cr_uses_pdptes(const struct cr_state *state);

/* What else a successful write brings about. */
#define CR_EFFECT_LONG_MODE 1u /* IA32_EFER.LMA changed: the "IA-32e mode guest" control follows it */
#define CR_EFFECT_PDPTES                                                                                     \
    2u /* PAE paging: the four PDPTEs are loaded, before anything changes; bad ones are #GP */
#define CR_EFFECT_FLUSH 4u /* every translation of this vCPU by linear address goes, global ones included */

enum cr_answer {
    CR_DONE, /* *state has the new values */
    CR_GP,   /* general-protection exception with error code 0; *state is unchanged */
};

/*
 * A guest's MOV to CR0 or CR4 that exited, with `value` the whole operand: checks it as the processor does
 * (SDM vol. 3, 2.5 and 4.1) and brings *state up to date, IA32_EFER.LMA included. The caller then writes
 * hardware value and read shadow by the functions above (seed 004, Fig. 13), and does what *effects says.
 */
enum cr_answer policy_cr0_write(const struct register_policy *policy, struct cr_state *state, uint64_t value,
                                unsigned *effects) __must_check;
enum cr_answer policy_cr4_write(const struct register_policy *policy, struct cr_state *state, uint64_t value,
                                unsigned *effects) __must_check;

/* A guest's WRMSR to IA32_EFER; LMA in `value` is ignored. */
enum cr_answer policy_efer_write(const struct register_policy *policy, struct cr_state *state, uint64_t value,
                                 unsigned *effects) __must_check;

/* The operand of a MOV to CR0 that does the same as LMSW `source`, and as CLTS. */
uint64_t policy_cr0_lmsw(uint64_t cr0, uint16_t source);
uint64_t policy_cr0_clts(uint64_t cr0);

/* Adds the controls that the instance and the policies of CR3 and TPR ask for: also who translates (EPT,
 * unrestricted guest, INVLPG exiting). */
void policy_register_demand(const struct register_policy *policy, struct vmx_demands *demands);
