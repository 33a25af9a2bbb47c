// SPDX-License-Identifier: BSD-2-Clause
#include "nested/merge.h"

#include "arch/x86/msr.h"
#include "arch/x86/registers.h"
#include "mm/physmap.h"
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

/* ---- The MSR bitmap ----------------------------------------------------------------------------------- */

/*
 * The registers that may be through for Lv2. A register that the policy lets through and that is missing here
 * would only cost exits. `virtual`: of Lv2's own local APIC, through where the processor virtualizes x2APIC
 * mode for it (never for the APIC of the machine).
 */
static const struct {
    uint32_t first, last;
    bool virtual;
} through[] = {
    {MSR_IA32_TSC, MSR_IA32_TSC, false},
    {MSR_IA32_SPEC_CTRL, MSR_IA32_PRED_CMD, false},
    {MSR_IA32_FLUSH_CMD, MSR_IA32_FLUSH_CMD, false},
    {MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_EIP, false},
    {MSR_IA32_PAT, MSR_IA32_PAT, false},
    {MSR_IA32_X2APIC_TPR, MSR_IA32_X2APIC_TPR, true},
    {MSR_IA32_EFER, MSR_IA32_FMASK, false},
    {MSR_IA32_FS_BASE, MSR_IA32_TSC_AUX, false},
};

/* Lv1's bitmap where Umbra can read it; NULL: everything is intercepted. */
static const uint8_t *bitmap12(const struct nested_vcpu *n)
{
    struct translation translation;
    struct stage_fault fault;

    if (!vmcs12_has_primary(&n->vmcs12, VMX_PRIMARY_MSR_BITMAPS) ||
        stage_chain_walk(n->memory, vmcs12_read(&n->vmcs12, VMCS_MSR_BITMAPS), PAGING_READ, &translation,
                         &fault) != STAGE_DONE)
        return NULL;
    return physmap_pointer(HPA(translation.address));
}

/* Of a run of bits, the bytes that the registers from `first` to `last` have bits in; other bits stay. */
static void merge_run(uint8_t *to, const uint8_t *own, const uint8_t *lv1, uint32_t first, uint32_t last)
{
    for (uint32_t byte = first / 8; byte <= last / 8; byte++) {
        const uint32_t low = byte == first / 8 ? first % 8 : 0, high = byte == last / 8 ? last % 8 : 7;
        const uint32_t bits = (2U << high) - (1U << low);
        /* Lv1 may be writing it: one look. */
        const uint32_t wanted = lv1 != NULL ? __atomic_load_n(&lv1[byte], __ATOMIC_RELAXED) : 0xff;

        to[byte] = (uint8_t)((to[byte] & ~bits) | ((wanted | (own != NULL ? own[byte] : 0)) & bits));
    }
}

void nested_merge_msr_bitmap(const struct nested_vcpu *n, uint8_t *bitmap)
{
    const uint8_t *own = physmap_pointer(n->vcpu02.msr_bitmaps[n->vcpu02.regime]);
    const uint8_t *lv1 = bitmap12(n);
    const bool virtual_x2apic = (secondary12(&n->vmcs12) & VMX_SECONDARY_VIRTUALIZE_X2APIC) != 0;

    for (unsigned i = 0; i < ARRAY_SIZE(through); i++) {
        const bool high = through[i].first >= MSR_BITMAP_HIGH_FIRST;
        const uint32_t runs[] = {high ? MSR_BITMAP_READ_HIGH : MSR_BITMAP_READ_LOW,
                                 high ? MSR_BITMAP_WRITE_HIGH : MSR_BITMAP_WRITE_LOW};
        const bool virtual = through[i].virtual && virtual_x2apic;

        for (unsigned run = 0; run < ARRAY_SIZE(runs); run++)
            merge_run(bitmap + runs[run], virtual ? NULL : own + runs[run],
                      lv1 != NULL ? lv1 + runs[run] : NULL, through[i].first % MSR_BITMAP_RUN,
                      through[i].last % MSR_BITMAP_RUN);
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

    vcpu_read_control_state(&n->vcpu02, state);
    state->cr0 = nested_cr_return(&policy->cr0, &cr0, &cr0_02);
    state->cr4 = nested_cr_return(&policy->cr4, &cr4, &cr4_02);
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

/* Fields that are Lv1's, as far as they were written: VMCS02 has the others since the last entry or exit. */
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

/* What the MSR list of the entry wrote to a register, or else `value`. */
static uint64_t listed(const struct nested_merge_entry *entry, enum nested_list_register which,
                       uint64_t value)
{
    return entry->list.present & BIT(which) ? entry->list.values[which] : value;
}

/* What an entry loads only if it is told to, and what its MSR list has loaded after that. */
static void write_loaded(struct nested_vcpu *n, const struct nested_merge_entry *entry)
{
    struct vcpu *vcpu = &n->vcpu02;
    const struct vmcs12 *vmcs = &n->vmcs12;
    const bool debug = vmcs12_has_entry(vmcs, VMX_ENTRY_LOAD_DEBUG_CONTROLS);
    const bool pat = vmcs12_has_entry(vmcs, VMX_ENTRY_LOAD_PAT);
    const uint64_t debugctl = debug ? vmcs12_read(vmcs, VMCS_GUEST_DEBUGCTL) : entry->lv1.debugctl;

    vcpu_write(vcpu, VMCS_GUEST_DR7, debug ? vmcs12_read(vmcs, VMCS_GUEST_DR7) : entry->lv1.dr7);
    vcpu_write(vcpu, VMCS_GUEST_DEBUGCTL, listed(entry, NESTED_LIST_DEBUGCTL, debugctl));
    vcpu_write_pat(vcpu,
                   listed(entry, NESTED_LIST_PAT, pat ? vmcs12_read(vmcs, VMCS_GUEST_PAT) : entry->lv1.pat));
    /* VMCS02 has them from VMCS12 already. */
    if (entry->list.present & BIT(NESTED_LIST_SYSENTER_CS))
        vcpu_write(vcpu, VMCS_GUEST_SYSENTER_CS, (uint32_t)entry->list.values[NESTED_LIST_SYSENTER_CS]);
    if (entry->list.present & BIT(NESTED_LIST_SYSENTER_ESP))
        vcpu_write(vcpu, VMCS_GUEST_SYSENTER_ESP, entry->list.values[NESTED_LIST_SYSENTER_ESP]);
    if (entry->list.present & BIT(NESTED_LIST_SYSENTER_EIP))
        vcpu_write(vcpu, VMCS_GUEST_SYSENTER_EIP, entry->list.values[NESTED_LIST_SYSENTER_EIP]);
}

/* The registers of PAE paging, which VMCS02 has where the processor translates. */
static void write_pdptes(struct nested_vcpu *n, const struct nested_merge_entry *entry)
{
    const bool lv1s = vmcs12_has_secondary(&n->vmcs12, VMX_SECONDARY_EPT);

    if (n->vcpu02.regime != VCPU_REGIME_EPT || !policy_cr_uses_pdptes(&entry->state))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(entry->pdptes); i++) {
        const struct vmcs_field field = vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i);

        vcpu_write(&n->vcpu02, field, lv1s ? vmcs12_read(&n->vmcs12, field) : entry->pdptes[i]);
    }
}

/* ---- The whole ---------------------------------------------------------------------------------------- */

void nested_merge(struct nested_vcpu *n, const struct nested_merge_input *in,
                  const struct nested_merge_entry *entry)
{
    struct vcpu *vcpu = &n->vcpu02;

    copy_fields(n);
    write_loaded(n, entry);
    n->loaded_cr0 = entry->state.cr0;
    nested_write_control_state(n, &entry->state);
    write_pdptes(n, entry);
    vcpu_write(vcpu, VMCS_GUEST_ACTIVITY, 0);

    write_controls(n, entry);
    write_sieves(n);
    nested_merge_tsc_offset(n);
    nested_merge_msr_bitmap(n, physmap_pointer(in->msr_bitmap));
    vcpu_write(vcpu, VMCS_MSR_BITMAPS, in->msr_bitmap.value);
    vcpu_set_root(vcpu, in->root);
    vcpu->vpid = in->vpid;
    if (vmx_controls_have(&vcpu->controls, VMX_WORD_SECONDARY, VMX_SECONDARY_VPID))
        vcpu_write(vcpu, VMCS_VPID, in->vpid);
}
