// SPDX-License-Identifier: BSD-2-Clause
#include "nested/merge.h"

#include "arch/x86/msr.h"
#include "arch/x86/registers.h"
#include "mm/physmap.h"
#include "nested/away.h"
#include "nested/merge_cr.h"
#include "nested/merge_table.h"
#include "vmx/events.h"

/* ---- The table ---------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum nested_field_owner owner;
} rules[] = {
#define X(RULE, OWNER, NAME) [NESTED_RULE_##RULE] = {NAME, NESTED_FIELD_##OWNER},
    NESTED_RULES(X)
#undef X
};

static const struct {
    const char *reason;
    enum nested_rule rule;
} rows[] = {
#define X(FIELD, RULE, WHY) {WHY, NESTED_RULE_##RULE},
    NESTED_FIELDS(X)
#undef X
};

enum nested_field_owner nested_merge_owner(struct vmcs_field field)
{
    return rules[rows[field.index].rule].owner;
}

const char *nested_merge_rule(struct vmcs_field field)
{
    return rules[rows[field.index].rule].name;
}

const char *nested_merge_reason(struct vmcs_field field)
{
    return rows[field.index].reason;
}

/* ---- Controls ----------------------------------------------------------------------------------------- */

/*
 * Primary controls: what exits for Lv1, exits. Of the others, the windows come by vmx/events.c, the TPR's by
 * Figs. 12 and 19, and the rest is as Umbra runs every guest.
 */
#define PRIMARY_UNION                                                                                        \
    (VMX_PRIMARY_HLT_EXITING | VMX_PRIMARY_INVLPG_EXITING | VMX_PRIMARY_MWAIT_EXITING |                      \
     VMX_PRIMARY_RDPMC_EXITING | VMX_PRIMARY_RDTSC_EXITING | VMX_PRIMARY_CR3_LOAD_EXITING |                  \
     VMX_PRIMARY_CR3_STORE_EXITING | VMX_PRIMARY_MOV_DR_EXITING | VMX_PRIMARY_MONITOR_TRAP_FLAG |            \
     VMX_PRIMARY_MONITOR_EXITING | VMX_PRIMARY_PAUSE_EXITING)
#define WINDOWS (VMX_PRIMARY_INTERRUPT_WINDOW_EXITING | VMX_PRIMARY_NMI_WINDOW_EXITING)

/* Secondary controls: what exits for Lv1, exits; what is #UD without a control, and how Lv2's memory and
 * local APIC look, is Lv1's to say. */
#define SECONDARY_UNION                                                                                      \
    (VMX_SECONDARY_DESCRIPTOR_TABLE_EXITING | VMX_SECONDARY_WBINVD_EXITING |                                 \
     VMX_SECONDARY_PAUSE_LOOP_EXITING | VMX_SECONDARY_RDRAND_EXITING | VMX_SECONDARY_RDSEED_EXITING)
#define SECONDARY_LV1                                                                                        \
    (VMX_SECONDARY_RDTSCP | VMX_SECONDARY_INVPCID | VMX_SECONDARY_XSAVES |                                   \
     VMX_SECONDARY_UNRESTRICTED_GUEST | VMX_SECONDARY_VIRTUALIZE_X2APIC |                                    \
     VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES)

static uint32_t secondary12(const struct vmcs12 *vmcs)
{
    return vmcs12_has_primary(vmcs, VMX_PRIMARY_SECONDARY_CONTROLS)
               ? (uint32_t)vmcs12_read(vmcs, VMCS_SECONDARY_CONTROLS)
               : 0;
}

static struct nested_tpr merge_tpr(const struct nested_vcpu *n, uint8_t own, enum nested_tpr_page *page)
{
    const struct nested_tpr vmcs12 = {
        .controls = (uint32_t)vmcs12_read(&n->vmcs12, VMCS_PRIMARY_CONTROLS) & NESTED_TPR_CONTROLS,
        .threshold = vmcs12_read(&n->vmcs12, VMCS_TPR_THRESHOLD) & 0xf,
    };

    /*
     * An APIC-access page with a TPR shadow has the TPR's register virtualised; Lv1 that uses the page alone
     * wants an exit for that one as well (SDM vol. 3, 29.4.2). Then the vCPU's own TPR is reached by exits,
     * as in Fig. 19.
     */
    const bool page_alone = (vmcs12.controls & VMX_PRIMARY_TPR_SHADOW) == 0 &&
                            (secondary12(&n->vmcs12) & VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES) != 0;

    return nested_tpr_merge(page_alone ? POLICY_INTERCEPT : n->policy->registers->tpr, &vmcs12, own, page);
}

uint8_t nested_merge_tpr_threshold(const struct nested_vcpu *n, uint8_t own)
{
    enum nested_tpr_page page;

    return merge_tpr(n, own, &page).threshold;
}

static void write_secondary(struct nested_vcpu *n, const struct nested_merge_entry *entry,
                            enum nested_tpr_page page)
{
    struct vcpu *vcpu = &n->vcpu02;
    const uint32_t lv0 = (uint32_t)vcpu->controls.words[VMX_WORD_SECONDARY];
    const uint32_t lv1 = secondary12(&n->vmcs12);
    const uint32_t own = (uint32_t)vcpu_read(n->vcpu01, VMCS_SECONDARY_CONTROLS);
    uint32_t controls = (lv0 & ~SECONDARY_LV1) | (lv1 & (SECONDARY_UNION | SECONDARY_LV1));
    hpa_t apic_access = entry->apic_access;

    if ((lv0 & VMX_SECONDARY_EPT) == 0)
        controls &= ~(uint32_t)VMX_SECONDARY_UNRESTRICTED_GUEST;
    /* Lv2 that uses Lv1's local APIC finds it as Lv1 does. */
    if (page == NESTED_TPR_PAGE_LV0 && (lv1 & VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES) == 0 &&
        (own & VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES) != 0) {
        controls |= VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES;
        apic_access = HPA(vcpu_read(n->vcpu01, VMCS_APIC_ACCESS_ADDRESS));
    }

    vcpu_write(vcpu, VMCS_SECONDARY_CONTROLS, controls);
    if (controls & VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES)
        vcpu_write(vcpu, VMCS_APIC_ACCESS_ADDRESS, apic_access.value);
    if (controls & VMX_SECONDARY_XSAVES)
        vcpu_write(vcpu, VMCS_XSS_EXITING_BITMAP, vmcs12_read(&n->vmcs12, VMCS_XSS_EXITING_BITMAP));
    if (controls & VMX_SECONDARY_PAUSE_LOOP_EXITING) {
        const bool lv1s = (lv1 & VMX_SECONDARY_PAUSE_LOOP_EXITING) != 0;
        const uint64_t gap =
            lv1s ? vmcs12_read(&n->vmcs12, VMCS_PLE_GAP) : vcpu_read(n->vcpu01, VMCS_PLE_GAP);
        const uint64_t window =
            lv1s ? vmcs12_read(&n->vmcs12, VMCS_PLE_WINDOW) : vcpu_read(n->vcpu01, VMCS_PLE_WINDOW);

        vcpu_write(vcpu, VMCS_PLE_GAP, gap);
        vcpu_write(vcpu, VMCS_PLE_WINDOW, window);
    }
}

/* Pin-based, exit and entry controls are as vcpu_init left them: Umbra's, but for "IA-32e mode guest". */
static void write_controls(struct nested_vcpu *n, const struct nested_merge_entry *entry)
{
    struct vcpu *vcpu = &n->vcpu02;
    const uint32_t lv0 = (uint32_t)vcpu->controls.words[VMX_WORD_PRIMARY];
    const uint32_t lv1 = (uint32_t)vmcs12_read(&n->vmcs12, VMCS_PRIMARY_CONTROLS);
    enum nested_tpr_page page;
    const struct nested_tpr tpr = merge_tpr(n, 0, &page);

    vcpu->windows = lv1 & WINDOWS;
    vcpu_write(vcpu, VMCS_PRIMARY_CONTROLS,
               (lv0 & ~(NESTED_TPR_CONTROLS | WINDOWS | VMX_PRIMARY_IO_BITMAPS)) |
                   VMX_PRIMARY_UNCONDITIONAL_IO_EXITING | (lv1 & PRIMARY_UNION) | tpr.controls |
                   vcpu->windows);
    if (page != NESTED_TPR_PAGE_NONE) {
        vcpu_write(vcpu, VMCS_VIRTUAL_APIC_ADDRESS,
                   page == NESTED_TPR_PAGE_LV1 ? entry->virtual_apic.value
                                               : vcpu_read(n->vcpu01, VMCS_VIRTUAL_APIC_ADDRESS));
        vcpu_write(vcpu, VMCS_TPR_THRESHOLD, tpr.threshold);
    }
    write_secondary(n, entry, page);
}

/* Exceptions and loads of CR3: both have a finer sieve, which is Lv1's if Umbra does not want them all. */
static void write_sieves(struct nested_vcpu *n)
{
    struct vcpu *vcpu = &n->vcpu02;
    const bool every_fault = vcpu->regime == VCPU_REGIME_SHADOW;
    const bool every_cr3 = vmx_controls_have(&vcpu->controls, VMX_WORD_PRIMARY, VMX_PRIMARY_CR3_LOAD_EXITING);

    vcpu->exceptions = (uint32_t)vmcs12_read(&n->vmcs12, VMCS_EXCEPTION_BITMAP);
    vcpu_intercept_exceptions(vcpu, false);
    vcpu_write(vcpu, VMCS_PAGE_FAULT_ERROR_MASK,
               every_fault ? 0 : vmcs12_read(&n->vmcs12, VMCS_PAGE_FAULT_ERROR_MASK));
    vcpu_write(vcpu, VMCS_PAGE_FAULT_ERROR_MATCH,
               every_fault ? 0 : vmcs12_read(&n->vmcs12, VMCS_PAGE_FAULT_ERROR_MATCH));
    vcpu_write(vcpu, VMCS_CR3_TARGET_COUNT, every_cr3 ? 0 : vmcs12_read(&n->vmcs12, VMCS_CR3_TARGET_COUNT));
}

void nested_merge_tsc_offset(struct nested_vcpu *n)
{
    const bool lv1s = vmcs12_has_primary(&n->vmcs12, VMX_PRIMARY_TSC_OFFSETTING);

    vcpu_write(&n->vcpu02, VMCS_TSC_OFFSET,
               vcpu_read(n->vcpu01, VMCS_TSC_OFFSET) + (lv1s ? vmcs12_read(&n->vmcs12, VMCS_TSC_OFFSET) : 0));
}

/* ---- Pages of Lv1's ----------------------------------------------------------------------------------- */

static const struct {
    struct vmcs_field field;
    uint8_t access;
} pages[] = {
    [NESTED_PAGE_VIRTUAL_APIC] = {VMCS_FIELD(VIRTUAL_APIC_ADDRESS), PAGING_READ | PAGING_WRITE},
    [NESTED_PAGE_APIC_ACCESS] = {VMCS_FIELD(APIC_ACCESS_ADDRESS), PAGING_READ | PAGING_WRITE},
    [NESTED_PAGE_MSR_BITMAPS] = {VMCS_FIELD(MSR_BITMAPS), PAGING_READ},
};

_Static_assert(ARRAY_SIZE(pages) == NESTED_PAGES, "a page has no row");

bool nested_merge_translate(struct nested_vcpu *n, enum nested_page page, hpa_t *address)
{
    const uint64_t guest = vmcs12_read(&n->vmcs12, pages[page].field);
    struct nested_translated *known = &n->pages[page];
    struct translation translation;
    struct stage_fault fault;

    if (!known->valid || known->guest != guest) {
        known->valid =
            stage_chain_walk(n->memory, guest, pages[page].access, &translation, &fault) == STAGE_DONE;
        known->guest = guest;
        known->address = HPA(translation.address);
    }
    *address = known->address;
    return known->valid;
}

/* ---- The MSR bitmap ----------------------------------------------------------------------------------- */

/*
 * The registers that may be through for Lv2, 64 to a row: `bits` from register `first` on. A register that
 * the policy lets through and that is missing here would only cost exits. `virtual`: of Lv2's own local APIC,
 * through where the processor virtualizes x2APIC mode for it (never for the APIC of the machine).
 */
#define MSRS(FIRST, LAST) ((BIT((LAST) % 64) << 1) - BIT((FIRST) % 64))
static const struct {
    uint32_t first;
    bool virtual;
    uint64_t bits;
} through[] = {
    {0x00, false, MSRS(MSR_IA32_TSC, MSR_IA32_TSC)},
    {0x40, false, MSRS(MSR_IA32_SPEC_CTRL, MSR_IA32_PRED_CMD)},
    {0x100, false, MSRS(MSR_IA32_FLUSH_CMD, MSR_IA32_FLUSH_CMD)},
    {0x140, false, MSRS(MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_EIP)},
    {0x240, false, MSRS(MSR_IA32_PAT, MSR_IA32_PAT)},
    {0x800, true, MSRS(MSR_IA32_X2APIC_TPR, MSR_IA32_X2APIC_TPR)},
    {0xc0000080, false, MSRS(MSR_IA32_EFER, MSR_IA32_FMASK)},
    {0xc0000100, false, MSRS(MSR_IA32_FS_BASE, MSR_IA32_TSC_AUX)},
};

/* Lv1's bitmap where Umbra can read it; NULL: everything is intercepted. */
static const uint64_t *bitmap12(struct nested_vcpu *n)
{
    hpa_t address;

    if (!vmcs12_has_primary(&n->vmcs12, VMX_PRIMARY_MSR_BITMAPS) ||
        !nested_merge_translate(n, NESTED_PAGE_MSR_BITMAPS, &address))
        return NULL;
    return physmap_pointer(address);
}

/* `bits` of one word, 1 where Umbra (`own`; NULL: it does not mind) or Lv1 (NULL: always) wants an exit. */
static inline void merge_word(uint64_t *to, const uint64_t *own, const uint64_t *lv1, uint64_t bits)
{
    /* Lv1 may be writing it: one look. */
    const uint64_t wanted = lv1 != NULL ? __atomic_load_n(lv1, __ATOMIC_RELAXED) : UINT64_MAX;

    *to = (*to & ~bits) | ((wanted | (own != NULL ? *own : 0)) & bits);
}

void nested_merge_msr_bitmap(struct nested_vcpu *n, uint64_t *bitmap)
{
    const uint64_t *own = physmap_pointer(n->vcpu02.msr_bitmaps[n->vcpu02.regime]);
    const uint64_t *lv1 = bitmap12(n);
    const bool virtual_x2apic = (secondary12(&n->vmcs12) & VMX_SECONDARY_VIRTUALIZE_X2APIC) != 0;

#pragma GCC unroll 8
    for (unsigned i = 0; i < ARRAY_SIZE(through); i++) {
        const bool high = through[i].first >= MSR_BITMAP_HIGH_FIRST;
        const unsigned word = through[i].first % MSR_BITMAP_RUN / 64;
        const unsigned read = (high ? MSR_BITMAP_READ_HIGH : MSR_BITMAP_READ_LOW) / 8 + word;
        const unsigned write = (high ? MSR_BITMAP_WRITE_HIGH : MSR_BITMAP_WRITE_LOW) / 8 + word;
        const bool virtual = through[i].virtual && virtual_x2apic;

        merge_word(bitmap + read, virtual ? NULL : own + read, lv1 != NULL ? lv1 + read : NULL,
                   through[i].bits);
        merge_word(bitmap + write, virtual ? NULL : own + write, lv1 != NULL ? lv1 + write : NULL,
                   through[i].bits);
    }
}

/* ---- Guest state -------------------------------------------------------------------------------------- */

/* Bits of CR0 that no entry changes: ET, NW, CD and reserved ones (SDM vol. 3, "Loading guest control
 * registers, debug registers, and MSRs"). */
#define CR0_NOT_LOADED 0x7ffaffd0ULL

static uint64_t loaded_cr0(const struct vmcs12 *vmcs, uint64_t lv1_cr0)
{
    return (vmcs12_read(vmcs, VMCS_GUEST_CR0) & ~CR0_NOT_LOADED) | (lv1_cr0 & CR0_NOT_LOADED);
}

static uint64_t loaded_efer(const struct vmcs12 *vmcs, uint64_t cr0, uint64_t lv1_efer)
{
    const bool long_mode = vmcs12_has_entry(vmcs, VMX_ENTRY_IA32E_GUEST);

    if (vmcs12_has_entry(vmcs, VMX_ENTRY_LOAD_EFER))
        return vmcs12_read(vmcs, VMCS_GUEST_EFER);
    lv1_efer &= ~(uint64_t)(X86_EFER_LMA | (cr0 & X86_CR0_PG ? X86_EFER_LME : 0));
    return lv1_efer | (long_mode ? X86_EFER_LMA | X86_EFER_LME : 0);
}

void nested_merge_state(const struct vmcs12 *vmcs, uint64_t lv1_cr0, uint64_t lv1_efer,
                        struct cr_state *state)
{
    *state = (struct cr_state){
        .cr0 = loaded_cr0(vmcs, lv1_cr0),
        .cr3 = vmcs12_read(vmcs, VMCS_GUEST_CR3),
        .cr4 = vmcs12_read(vmcs, VMCS_GUEST_CR4),
        .cs_l = (vmcs12_read(vmcs, VMCS_GUEST_CS_ACCESS_RIGHTS) & BIT(13)) != 0,
    };
    state->efer = loaded_efer(vmcs, state->cr0, lv1_efer);
}

/* The mask, the read shadow and the value of CR0 and CR4 in VMCS12. */
static struct nested_cr cr0_12(const struct nested_vcpu *n, uint64_t guest)
{
    return (struct nested_cr){vmcs12_read(&n->vmcs12, VMCS_CR0_MASK),
                              vmcs12_read(&n->vmcs12, VMCS_CR0_READ_SHADOW), guest};
}

static struct nested_cr cr4_12(const struct nested_vcpu *n, uint64_t guest)
{
    return (struct nested_cr){vmcs12_read(&n->vmcs12, VMCS_CR4_MASK),
                              vmcs12_read(&n->vmcs12, VMCS_CR4_READ_SHADOW), guest};
}

void nested_read_control_state(struct nested_vcpu *n, struct cr_state *state)
{
    const struct register_policy *policy = n->vcpu02.policy;
    const struct nested_cr cr0 = cr0_12(n, n->loaded_cr0);
    const struct nested_cr cr4 = cr4_12(n, vmcs12_read(&n->vmcs12, VMCS_GUEST_CR4));
    const struct nested_cr cr0_02 = {.shadow = vcpu_read(&n->vcpu02, VMCS_CR0_READ_SHADOW),
                                     .guest = vcpu_read(&n->vcpu02, VMCS_GUEST_CR0)};
    const struct nested_cr cr4_02 = {.shadow = vcpu_read(&n->vcpu02, VMCS_CR4_READ_SHADOW),
                                     .guest = vcpu_read(&n->vcpu02, VMCS_GUEST_CR4)};

    state->cr0 = nested_cr_return(&policy->cr0, &cr0, &cr0_02);
    state->cr3 = vcpu_read_cr3(&n->vcpu02);
    state->cr4 = nested_cr_return(&policy->cr4, &cr4, &cr4_02);
    state->efer = vcpu_read_efer(&n->vcpu02);
    state->cs_l = (vcpu_read(&n->vcpu02, VMCS_GUEST_CS_ACCESS_RIGHTS) & BIT(13)) != 0;
}

void nested_write_control_state(struct nested_vcpu *n, const struct cr_state *state)
{
    struct vcpu *vcpu = &n->vcpu02;
    const struct nested_cr cr0_lv1 = cr0_12(n, state->cr0), cr4_lv1 = cr4_12(n, state->cr4);
    const struct nested_cr cr0 = nested_cr_merge(&vcpu->policy->cr0, &cr0_lv1);
    const struct nested_cr cr4 = nested_cr_merge(&vcpu->policy->cr4, &cr4_lv1);

    vcpu_write(vcpu, VMCS_CR0_MASK, cr0.mask);
    vcpu_write(vcpu, VMCS_CR0_READ_SHADOW, cr0.shadow);
    vcpu_write(vcpu, VMCS_CR4_MASK, cr4.mask);
    vcpu_write(vcpu, VMCS_CR4_READ_SHADOW, cr4.shadow);
    vcpu_write_control_values(vcpu, state); /* the guest fields: what the merge says of them, too */
}

/* What Lv1's VMX operation fixes of CR0 and CR4 (SDM vol. 3, "Changes to instruction behavior in VMX non-root
 * operation"). */
static bool keeps_fixed(const struct nested_vcpu *n, const struct cr_state *state)
{
    const struct vmx_capabilities *offered = &n->policy->capabilities.offered;
    const bool unrestricted = (secondary12(&n->vmcs12) & VMX_SECONDARY_UNRESTRICTED_GUEST) != 0;
    const uint64_t free = unrestricted ? X86_CR0_PE | X86_CR0_PG : 0;

    return (offered->cr0_fixed0 & ~free & ~state->cr0) == 0 && (state->cr0 & ~offered->cr0_fixed1) == 0 &&
           (offered->cr4_fixed0 & ~state->cr4) == 0 && (state->cr4 & ~offered->cr4_fixed1) == 0;
}

/* Carries `after` over to *state if nothing is against it. */
static enum cr_answer accept(const struct nested_vcpu *n, enum cr_answer answer, const struct cr_state *after,
                             struct cr_state *state)
{
    if (answer != CR_DONE || !keeps_fixed(n, after))
        return CR_GP;
    *state = *after;
    return CR_DONE;
}

enum cr_answer nested_cr0_write(const struct nested_vcpu *n, struct cr_state *state, uint64_t operand,
                                unsigned *effects)
{
    struct cr_state after = *state;
    const uint64_t value = nested_cr_written(vmcs12_read(&n->vmcs12, VMCS_CR0_MASK), state->cr0, operand);
    const enum cr_answer answer = policy_cr0_write(n->vcpu02.policy, &after, value, effects);

    return accept(n, answer, &after, state);
}

enum cr_answer nested_cr4_write(const struct nested_vcpu *n, struct cr_state *state, uint64_t operand,
                                unsigned *effects)
{
    struct cr_state after = *state;
    const uint64_t value = nested_cr_written(vmcs12_read(&n->vmcs12, VMCS_CR4_MASK), state->cr4, operand);
    const enum cr_answer answer = policy_cr4_write(n->vcpu02.policy, &after, value, effects);

    return accept(n, answer, &after, state);
}

/* Fields that are Lv1's, as far as it wrote them: VMCS02 has the others since the last entry or exit. */
static void copy_fields(struct nested_vcpu *n)
{
    for (unsigned word = 0; word < VMCS12_FIELD_WORDS; word++) {
        for (uint64_t bits = n->vmcs12.written[word]; bits != 0; bits &= bits - 1) {
            const unsigned index = word * 64 + (unsigned)__builtin_ctzll(bits);

            if (rows[index].rule == NESTED_RULE_LV1)
                vcpu_write(&n->vcpu02, vmcs_field_at(index), n->vmcs12.values[index]);
        }
    }
}

/*
 * A field that is away may stay so only if the entry loads it and the exit saves it: then VMCS12 and VMCS02
 * are one. Otherwise VMCS12 keeps what the last exit saved.
 */
static void keep(struct nested_vcpu *n, struct vmcs_field field, bool loaded, uint32_t saved)
{
    if (vmcs12_is_away(&n->vmcs12, field) && !(loaded && vmcs12_has_exit(&n->vmcs12, saved)))
        nested_away_keep(n, field);
}

/* What the MSR list of the entry has loaded, behind all else. IA32_EFER is in entry->state. */
static void write_listed(struct nested_vcpu *n, const struct nested_list_values *list)
{
    struct vcpu *vcpu = &n->vcpu02;

    if (list->present & BIT(NESTED_LIST_DEBUGCTL))
        vcpu_write(vcpu, VMCS_GUEST_DEBUGCTL, list->values[NESTED_LIST_DEBUGCTL]);
    if (list->present & BIT(NESTED_LIST_PAT))
        vcpu_write_pat(vcpu, list->values[NESTED_LIST_PAT]);
    if (list->present & BIT(NESTED_LIST_SYSENTER_CS))
        vcpu_write(vcpu, VMCS_GUEST_SYSENTER_CS, (uint32_t)list->values[NESTED_LIST_SYSENTER_CS]);
    if (list->present & BIT(NESTED_LIST_SYSENTER_ESP))
        vcpu_write(vcpu, VMCS_GUEST_SYSENTER_ESP, list->values[NESTED_LIST_SYSENTER_ESP]);
    if (list->present & BIT(NESTED_LIST_SYSENTER_EIP))
        vcpu_write(vcpu, VMCS_GUEST_SYSENTER_EIP, list->values[NESTED_LIST_SYSENTER_EIP]);
}

/* What an entry loads only if it is told to; else Lv2 has it as Lv1 had. */
static void write_loaded(struct nested_vcpu *n, const struct nested_merge_entry *entry)
{
    struct vcpu *vcpu = &n->vcpu02;
    const struct vmcs12 *vmcs = &n->vmcs12;

    const bool debug = vmcs12_has_entry(vmcs, VMX_ENTRY_LOAD_DEBUG_CONTROLS);
    const bool pat = vmcs12_has_entry(vmcs, VMX_ENTRY_LOAD_PAT);

    keep(n, VMCS_GUEST_DR7, debug, VMX_EXIT_SAVE_DEBUG_CONTROLS);
    keep(n, VMCS_GUEST_PAT, pat, VMX_EXIT_SAVE_PAT);
    if (!vmcs12_is_away(vmcs, VMCS_GUEST_DR7))
        vcpu_write(vcpu, VMCS_GUEST_DR7, debug ? vmcs12_read(vmcs, VMCS_GUEST_DR7) : entry->lv1.dr7);
    vcpu_write(vcpu, VMCS_GUEST_DEBUGCTL,
               debug ? vmcs12_read(vmcs, VMCS_GUEST_DEBUGCTL) : entry->lv1.debugctl);
    if (!vmcs12_is_away(vmcs, VMCS_GUEST_PAT))
        vcpu_write_pat(vcpu, pat ? vmcs12_read(vmcs, VMCS_GUEST_PAT) : entry->lv1.pat);
    if (unlikely(entry->list.present != 0))
        write_listed(n, &entry->list);
}

/* The registers of PAE paging, which VMCS02 has where the processor translates. */
static void write_pdptes(struct nested_vcpu *n, const struct nested_merge_input *in,
                         const struct nested_merge_entry *entry)
{
    const bool lv1s = vmcs12_has_secondary(&n->vmcs12, VMX_SECONDARY_EPT);

    if (!policy_cr_uses_pdptes(&entry->state))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(entry->pdptes); i++) {
        const struct vmcs_field field = vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i);
        const uint64_t pdpte = lv1s ? vmcs12_read(&n->vmcs12, field) : entry->pdptes[i];

        if (n->vcpu02.regime == VCPU_REGIME_EPT)
            vcpu_write(&n->vcpu02, field, pdpte);
        else
            in->pdptes[i] = pdpte;
    }
}

/* ---- The whole ---------------------------------------------------------------------------------------- */

/* Fields of VMCS12 that write_controls and write_sieves work on. */
#define CONTROL_FIELDS(WORD)                                                                                 \
    (VMCS12_BIT(PRIMARY_CONTROLS, WORD) | VMCS12_BIT(SECONDARY_CONTROLS, WORD) |                             \
     VMCS12_RANGE(EXCEPTION_BITMAP, CR3_TARGET_COUNT, WORD) | VMCS12_BIT(TPR_THRESHOLD, WORD) |              \
     VMCS12_RANGE(PLE_GAP, PLE_WINDOW, WORD) | VMCS12_BIT(XSS_EXITING_BITMAP, WORD) |                        \
     VMCS12_RANGE(VIRTUAL_APIC_ADDRESS, APIC_ACCESS_ADDRESS, WORD))
static const uint64_t control_fields[VMCS12_FIELD_WORDS] = {CONTROL_FIELDS(0), CONTROL_FIELDS(1),
                                                            CONTROL_FIELDS(2), CONTROL_FIELDS(3)};

/* And those of CR0 and CR4 beside their values. */
#define MASK_FIELDS(WORD) VMCS12_RANGE(CR0_MASK, CR4_READ_SHADOW, WORD)
static const uint64_t mask_fields[VMCS12_FIELD_WORDS] = {MASK_FIELDS(0), MASK_FIELDS(1), MASK_FIELDS(2),
                                                         MASK_FIELDS(3)};

_Static_assert(VMCS12_FIELD_WORDS == 4, "the sets have all words");

/* Whether what the controls are made of is as it was when they were merged last; else it is from now on. */
static bool controls_are_merged(struct nested_vcpu *n, const struct nested_merge_entry *entry)
{
    const struct nested_merged now = {
        .secondary = vcpu_read(n->vcpu01, VMCS_SECONDARY_CONTROLS),
        .virtual_apic = entry->virtual_apic.value,
        .apic_access = entry->apic_access.value,
    };
    const bool same = n->merged.secondary == now.secondary && n->merged.virtual_apic == now.virtual_apic &&
                      n->merged.apic_access == now.apic_access;

    n->merged = now;
    return same && !vmcs12_any_written(&n->vmcs12, control_fields);
}

static bool control_state_is_merged(const struct nested_vcpu *n, const struct cr_state *state)
{
    const struct cr_state *before = &n->state02;

    /* A processor that does not load IA32_EFER has one for both VMCSs. */
    return vmx_controls_have(&n->vcpu02.controls, VMX_WORD_ENTRY, VMX_ENTRY_LOAD_EFER) &&
           before->cr0 == state->cr0 && before->cr3 == state->cr3 && before->cr4 == state->cr4 &&
           before->efer == state->efer && !vmcs12_any_written(&n->vmcs12, mask_fields);
}

void nested_merge(struct nested_vcpu *n, const struct nested_merge_input *in,
                  const struct nested_merge_entry *entry)
{
    struct vcpu *vcpu = &n->vcpu02;

    copy_fields(n);
    write_loaded(n, entry);
    n->loaded_cr0 = entry->state.cr0;
    if (!control_state_is_merged(n, &entry->state))
        nested_write_control_state(n, &entry->state);
    write_pdptes(n, in, entry);
    if (!controls_are_merged(n, entry)) {
        write_controls(n, entry);
        write_sieves(n);
        /* It never changes by itself: a HLT of Lv2 exits. */
        vcpu_write(vcpu, VMCS_GUEST_ACTIVITY, 0);
        vcpu_write(vcpu, VMCS_MSR_BITMAPS, in->msr_bitmap.value);
    }
    nested_merge_tsc_offset(n);
    nested_merge_msr_bitmap(n, physmap_pointer(in->msr_bitmap));
    if (vcpu->regime == VCPU_REGIME_EPT)
        vcpu_set_root(vcpu, in->root);
    vcpu->vpid = in->vpid;
    if (vmx_controls_have(&vcpu->controls, VMX_WORD_SECONDARY, VMX_SECONDARY_VPID))
        vcpu_write(vcpu, VMCS_VPID, in->vpid);
}
