// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/policy_cr.h"

#include "arch/x86/registers.h"
#include "lib/errors.h"

/*
 * The table. Its second instance column is seed 004's Fig. 4, row by row; the first differs where
 * unrestricted guest lets PE and PG be the guest's, the third where shadow page tables need the paging flags
 * for themselves.
 */
// clang-format off
#define THROUGH   {POLICY_THROUGH, CR_VALUE_GUEST}
#define INTERCEPT {POLICY_INTERCEPT, CR_VALUE_GUEST}
#define SHADOW_0  {POLICY_SHADOWING, CR_VALUE_0}
#define SHADOW_1  {POLICY_SHADOWING, CR_VALUE_1}
#define RESERVED  {POLICY_RESERVED, CR_VALUE_0}

#define CR0(BIT, CLASS, A, B, C, OVERRIDE, REASON) \
    {POLICY_CR0, __builtin_ctzll(X86_CR0_##BIT), "CR0." #BIT, CLASS_##CLASS, {A, B, C}, OVERRIDE, REASON}
#define CR4(BIT, CLASS, A, B, C, OVERRIDE, REASON) \
    {POLICY_CR4, __builtin_ctzll(X86_CR4_##BIT), "CR4." #BIT, CLASS_##CLASS, {A, B, C}, OVERRIDE, REASON}
#define WHOLE(REG, NAME, CLASS, A, B, C, OVERRIDE, REASON) \
    {POLICY_##REG, POLICY_WHOLE, NAME, CLASS_##CLASS, {A, B, C}, OVERRIDE, REASON}

static const struct cr_policy_row rows[] = {
    /*                   class unrestricted restricted shadow override */
    CR0(PE,         MODE, THROUGH,   SHADOW_1, SHADOW_1,  true,  "else must be 1 in VMX operation"),
    CR0(MP,         USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's FPU"),
    CR0(EM,         USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's FPU"),
    CR0(TS,         USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's FPU; toggled often"),
    CR0(ET,         USER, THROUGH,   THROUGH,  THROUGH,   false, "hard-wired to 1"),
    CR0(NE,         USER, SHADOW_1,  SHADOW_1, SHADOW_1,  false, "must be 1 in VMX operation"),
    CR0(WP,         MODE, THROUGH,   THROUGH,  SHADOW_1,  true,  "shadow tables track dirty pages by it"),
    CR0(AM,         USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's alignment checks"),
    CR0(NW,         MODE, SHADOW_0,  SHADOW_0, SHADOW_0,  false, "the caches are not the guest's"),
    CR0(CD,         MODE, SHADOW_0,  SHADOW_0, SHADOW_0,  false, "the caches are not the guest's"),
    CR0(PG,         MODE, INTERCEPT, SHADOW_1, SHADOW_1,  false, "paging and long mode begin and end by it"),

    WHOLE(CR2, "CR2", VECTOR, THROUGH, THROUGH, THROUGH, false, "switched by software"),
    WHOLE(CR3, "CR3", STRUCTURE, THROUGH, THROUGH, INTERCEPT, true, "shadow tables have their own roots"),

    CR4(VME,        USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's virtual-8086 mode"),
    CR4(PVI,        USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's virtual interrupts"),
    CR4(TSD,        USER, THROUGH,   THROUGH,  THROUGH,   true,  "who may read the guest's time"),
    CR4(DE,         USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's debug registers"),
    CR4(PSE,        MODE, THROUGH,   THROUGH,  SHADOW_0,  true,  "shadow tables are PAE or 4-level"),
    CR4(PAE,        MODE, THROUGH,   THROUGH,  SHADOW_1,  true,  "shadow tables are PAE or 4-level"),
    CR4(MCE,        USER, SHADOW_1,  SHADOW_1, SHADOW_1,  false, "0 would shut the processor down"),
    CR4(PGE,        MODE, THROUGH,   THROUGH,  SHADOW_0,  true,  "the virtual TLB keeps globals by itself"),
    CR4(PCE,        USER, THROUGH,   THROUGH,  THROUGH,   true,  "RDPMC exits anyway"),
    CR4(OSFXSR,     USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's FPU"),
    CR4(OSXMMEXCPT, USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's FPU"),
    CR4(UMIP,       USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's own protection"),
    CR4(LA57,       MODE, THROUGH,   THROUGH,  INTERCEPT, false, "shadow tables have as many levels"),
    CR4(VMXE,       MODE, SHADOW_1,  SHADOW_1, SHADOW_1,  false, "must be 1 in VMX operation"),
    CR4(SMXE,       MODE, SHADOW_1,  SHADOW_1, SHADOW_1,  false, "1 where there is SMX; GETSEC exits"),
    CR4(FSGSBASE,   USER, THROUGH,   THROUGH,  THROUGH,   true,  "the guest's segment bases"),
    CR4(PCIDE,      MODE, THROUGH,   THROUGH,  SHADOW_0,  true,  "the virtual TLB tags its roots itself"),
    CR4(OSXSAVE,    USER, THROUGH,   THROUGH,  THROUGH,   true,  "XSETBV exits anyway"),
    CR4(KL,         USER, RESERVED,  RESERVED, RESERVED,  false, "key locker is not offered"),
    CR4(SMEP,       MODE, THROUGH,   THROUGH,  INTERCEPT, true,  "part of a shadow root's role"),
    CR4(SMAP,       MODE, THROUGH,   THROUGH,  INTERCEPT, true,  "part of a shadow root's role"),
    CR4(PKE,        USER, THROUGH,   THROUGH,  INTERCEPT, true,  "part of a shadow root's role"),
    CR4(CET,        USER, RESERVED,  RESERVED, RESERVED,  false, "CET is not offered"),
    CR4(PKS,        USER, RESERVED,  RESERVED, RESERVED,  false, "supervisor keys are not offered"),
    CR4(UINTR,      USER, RESERVED,  RESERVED, RESERVED,  false, "user interrupts are not offered"),
    CR4(LASS,       MODE, RESERVED,  RESERVED, RESERVED,  false, "address-space separation is not offered"),
    CR4(LAM_SUP,    MODE, RESERVED,  RESERVED, RESERVED,  false, "address masking is not offered"),

    WHOLE(TPR, "TPR", MODE, SHADOW_0, SHADOW_0, SHADOW_0, true, "in the virtual-APIC page"),
    WHOLE(VMCS_POINTER, "VMCS pointer", STRUCTURE, INTERCEPT, INTERCEPT, INTERCEPT, false, "Umbra's"),
};
// clang-format on

const struct cr_policy_row *policy_cr_rows(size_t *count)
{
    *count = ARRAY_SIZE(rows);
    return rows;
}

/* What the architecture says of a register beside the table, and what the processor fixes in it. */
struct register_limits {
    enum policy_register reg;
    uint64_t offered;   /* bits that the guest's features let it set */
    uint64_t ignored;   /* bits whose written value is lost */
    uint64_t fixed;     /* of these, the ones that read as 1 */
    uint64_t must;      /* bits that VMX operation wants to be 1 in the hardware */
    uint64_t may;       /* bits that VMX operation lets be 1 */
    uint64_t overrides; /* rows that the configuration turned into intercept */
};

/* Enters one row into the policy of its register; 0 or a negative errno. */
static int enter_row(struct cr_policy *policy, const struct cr_policy_row *row, enum cr_instance instance,
                     const struct register_limits *limits)
{
    uint64_t bit = BIT(row->bit);
    enum policy kind = row->instance[instance].policy;
    enum cr_value value = row->instance[instance].value;

    if ((limits->overrides & bit) && !row->may_override)
        return -EPERM;
    if ((limits->overrides & bit) && kind == POLICY_THROUGH)
        kind = POLICY_INTERCEPT;

    /* A bit that follows the guest can only be as the guest wants it if the processor leaves it free. */
    if (value == CR_VALUE_GUEST && (limits->must & bit)) {
        kind = POLICY_SHADOWING;
        value = CR_VALUE_1;
    }
    if (value == CR_VALUE_GUEST && !(limits->may & bit)) {
        kind = POLICY_RESERVED;
        value = CR_VALUE_0;
    }
    if (value == CR_VALUE_1 && !(limits->may & bit))
        value = CR_VALUE_0;
    if (value == CR_VALUE_0 && (limits->must & bit))
        return -EOPNOTSUPP;

    if (kind != POLICY_RESERVED)
        policy->allowed |= limits->offered & bit;
    if (kind == POLICY_THROUGH && (limits->offered & bit))
        return 0;
    policy->mask |= bit;
    if (value == CR_VALUE_1)
        policy->value |= bit;
    if (value == CR_VALUE_GUEST && (limits->offered & bit))
        policy->follow |= bit;
    if (kind == POLICY_INTERCEPT)
        policy->intercept |= bit;
    if (kind == POLICY_SHADOWING)
        policy->shadowing |= bit;
    return 0;
}

static int derive_register(struct cr_policy *policy, enum cr_instance instance,
                           const struct register_limits *limits, const char **row)
{
    uint64_t known = 0;

    *policy = (struct cr_policy){.ignored = limits->ignored, .fixed = limits->fixed};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int error;

        if (rows[i].reg != limits->reg)
            continue;
        known |= BIT(rows[i].bit);
        error = enter_row(policy, &rows[i], instance, limits);
        if (error != 0) {
            if (row != NULL)
                *row = rows[i].name;
            return error;
        }
    }
    if (limits->overrides & ~known)
        return -EPERM;

    /* Bits without a row are nobody's: held as VMX operation wants them, and not for the guest. */
    policy->mask |= ~known;
    policy->value |= limits->must & ~known;
    return 0;
}

/* The policy of a register that is taken as a whole; an override turns what is not an intercept into one. */
static int derive_whole(enum policy *policy, enum policy_register reg, enum cr_instance instance,
                        bool override, const char **row)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].reg != reg)
            continue;
        *policy = override ? POLICY_INTERCEPT : rows[i].instance[instance].policy;
        if (!override || rows[i].may_override)
            return 0;
        if (row != NULL)
            *row = rows[i].name;
        return -EPERM;
    }
    return -EPERM;
}

/*
 * CR0 bits 31:0 that mean nothing, and ET, take any value and do not change; bits 63:32 are #GP (SDM vol. 2,
 * MOV to control registers).
 */
#define CR0_DEFINED                                                                                          \
    (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | \
     X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)

int policy_cr_derive(struct register_policy *policy, const struct register_policy_settings *settings,
                     const char **row)
{
    uint64_t free = settings->instance == CR_INSTANCE_UNRESTRICTED ? X86_CR0_PE | X86_CR0_PG : 0;
    const struct register_limits cr0 = {
        .reg = POLICY_CR0,
        .offered = CR0_DEFINED,
        .ignored = (0xffffffff & ~CR0_DEFINED) | X86_CR0_ET,
        .fixed = X86_CR0_ET,
        .must = settings->cr0_fixed0 & ~free,
        .may = settings->cr0_fixed1,
        .overrides = settings->overrides.cr0,
    };
    const struct register_limits cr4 = {
        .reg = POLICY_CR4,
        .offered = settings->cr4_offered,
        .must = settings->cr4_fixed0,
        .may = settings->cr4_fixed1,
        .overrides = settings->overrides.cr4,
    };
    enum cr_instance instance = settings->instance;
    int error;

    policy->instance = instance;
    policy->efer = settings->efer_offered;
    error = derive_register(&policy->cr0, instance, &cr0, row);
    if (error == 0)
        error = derive_register(&policy->cr4, instance, &cr4, row);
    if (error == 0)
        error = derive_whole(&policy->cr3, POLICY_CR3, instance, settings->overrides.cr3, row);
    if (error == 0)
        error = derive_whole(&policy->tpr, POLICY_TPR, instance, settings->overrides.tpr, row);
    return error;
}

bool policy_cr_uses_pdptes(const struct cr_state *state)
{
    return (state->cr0 & X86_CR0_PG) && (state->cr4 & X86_CR4_PAE) && !(state->efer & X86_EFER_LMA);
}

enum cr_answer policy_cr0_write(const struct register_policy *policy, struct cr_state *state, uint64_t value,
                                unsigned *effects)
{
    struct cr_state after = *state;
    uint64_t changed;

    *effects = 0;
    if (value & ~(policy->cr0.allowed | policy->cr0.ignored))
        return CR_GP;
    after.cr0 = (value & ~policy->cr0.ignored) | policy->cr0.fixed;
    changed = after.cr0 ^ state->cr0;

    if ((after.cr0 & X86_CR0_PG) && !(after.cr0 & X86_CR0_PE))
        return CR_GP;
    if ((after.cr0 & X86_CR0_NW) && !(after.cr0 & X86_CR0_CD))
        return CR_GP;
    if ((state->cr4 & X86_CR4_CET) && !(after.cr0 & X86_CR0_WP))
        return CR_GP;
    if ((changed & after.cr0 & X86_CR0_PG) && (state->efer & X86_EFER_LME)) {
        if (!(state->cr4 & X86_CR4_PAE) || state->cs_l)
            return CR_GP;
        after.efer |= X86_EFER_LMA;
    }
    if (changed & state->cr0 & X86_CR0_PG) {
        if ((state->cr4 & X86_CR4_PCIDE) || ((state->efer & X86_EFER_LMA) && state->cs_l))
            return CR_GP;
        after.efer &= ~X86_EFER_LMA;
    }

    if (after.efer != state->efer)
        *effects |= CR_EFFECT_LONG_MODE;
    if ((changed & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)) && policy_cr_uses_pdptes(&after))
        *effects |= CR_EFFECT_PDPTES;
    if (changed & X86_CR0_PG)
        *effects |= CR_EFFECT_FLUSH;
    *state = after;
    return CR_DONE;
}

enum cr_answer policy_cr4_write(const struct register_policy *policy, struct cr_state *state, uint64_t value,
                                unsigned *effects)
{
    struct cr_state after = *state;
    bool long_mode = state->efer & X86_EFER_LMA;
    uint64_t changed = value ^ state->cr4;

    *effects = 0;
    after.cr4 = value;
    if (value & ~policy->cr4.allowed)
        return CR_GP;
    if (long_mode && (!(value & X86_CR4_PAE) || (changed & X86_CR4_LA57)))
        return CR_GP;
    if ((changed & value & X86_CR4_PCIDE) && (!long_mode || (state->cr3 & X86_CR3_PCID)))
        return CR_GP;
    if ((value & X86_CR4_CET) && !(state->cr0 & X86_CR0_WP))
        return CR_GP;

    /* SDM vol. 3, 4.4.1 and 4.10.4.1; PSE and the setting of PCIDE change what a virtual TLB has entries of.
     */
    if ((changed & (X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PSE | X86_CR4_SMEP)) && policy_cr_uses_pdptes(&after))
        *effects |= CR_EFFECT_PDPTES;
    if ((changed & (X86_CR4_PGE | X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PCIDE)) ||
        (changed & value & X86_CR4_SMEP))
        *effects |= CR_EFFECT_FLUSH;
    *state = after;
    return CR_DONE;
}

enum cr_answer policy_efer_write(const struct register_policy *policy, struct cr_state *state, uint64_t value,
                                 unsigned *effects)
{
    *effects = 0;
    if (value & ~(policy->efer | X86_EFER_LMA))
        return CR_GP;
    if (((value ^ state->efer) & X86_EFER_LME) && (state->cr0 & X86_CR0_PG))
        return CR_GP;
    state->efer = (value & ~X86_EFER_LMA) | (state->efer & X86_EFER_LMA);
    return CR_DONE;
}

/* LMSW loads PE, MP, EM and TS, but cannot clear PE (SDM vol. 2, LMSW). */
uint64_t policy_cr0_lmsw(uint64_t cr0, uint16_t source)
{
    return (cr0 & ~(X86_CR0_MP | X86_CR0_EM | X86_CR0_TS)) |
           (source & (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS));
}

uint64_t policy_cr0_clts(uint64_t cr0)
{
    return cr0 & ~X86_CR0_TS;
}

void policy_register_demand(const struct register_policy *policy, struct vmx_demands *demands)
{
    static const struct {
        uint32_t primary, secondary;
    } instances[CR_INSTANCES] = {
        [CR_INSTANCE_UNRESTRICTED] = {0, VMX_SECONDARY_EPT | VMX_SECONDARY_UNRESTRICTED_GUEST},
        [CR_INSTANCE_RESTRICTED] = {0, VMX_SECONDARY_EPT},
        [CR_INSTANCE_SHADOW] = {VMX_PRIMARY_INVLPG_EXITING, 0},
    };
    uint64_t *primary = &demands->words[VMX_WORD_PRIMARY];

    *primary |= instances[policy->instance].primary;
    demands->words[VMX_WORD_SECONDARY] |= instances[policy->instance].secondary;
    if (policy->cr3 == POLICY_INTERCEPT)
        *primary |= VMX_PRIMARY_CR3_LOAD_EXITING | VMX_PRIMARY_CR3_STORE_EXITING;
    if (policy->tpr == POLICY_SHADOWING)
        *primary |= VMX_PRIMARY_TPR_SHADOW;
    if (policy->tpr == POLICY_INTERCEPT)
        *primary |= VMX_PRIMARY_CR8_LOAD_EXITING | VMX_PRIMARY_CR8_STORE_EXITING;
}
