// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/vcpu.h"

#include "arch/x86/cpu.h"
#include "arch/x86/descriptor.h"
#include "arch/x86/exception.h"
#include "arch/x86/percpu.h"
#include "arch/x86/registers.h"
#include "lib/errors.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/barriers.h"
#include "vmx/events.h"

/* Segment access rights (SDM vol. 3, "Guest register state"). */
#define RIGHTS_CODE_64       0xa09b
#define RIGHTS_CODE_32       0xc09b
#define RIGHTS_DATA          0xc093
#define RIGHTS_LDTR          0x0082
#define RIGHTS_TSS_32        0x008b
#define RIGHTS_UNUSABLE      0x10000
#define RIGHTS_CODE_16       0x009b
#define RIGHTS_DATA_16       0x0093
#define RIGHTS_TYPE_CODE     BIT(3)
#define RIGHTS_DPL_SHIFT     5
#define LIMIT_16             0xffff

#define SELECTOR_RPL         3

#define EPTP_WALK_4          (3 << 3)

#define CR4_RESET_GUEST_LONG X86_CR4_PAE

/* The exceptions that exit. #DB and #AC: a guest could otherwise keep the processor delivering them for ever.
 */
#define EXCEPTION_BITMAP     (BIT(X86_VECTOR_DB) | BIT(X86_VECTOR_AC) | BIT(X86_VECTOR_MC))

/*
 * Bits of CR4 that the processor ignores without paging. It does not know that the guest has none where
 * shadow tables stand in for it. (PKE is none of them: keys count in long mode only, RDPKRU wants it always.)
 */
#define CR4_OF_PAGING        (X86_CR4_SMEP | X86_CR4_SMAP)

/* PAUSE-loop exiting, in ticks of the TSC: what lies closer together is one loop; how long one may last. */
#define PAUSE_LOOP_GAP       128
#define PAUSE_LOOP_WINDOW    8192

/* entry.S relies on these. */
_Static_assert(offsetof(struct vcpu, registers) == 0, "entry.S: registers come first");
_Static_assert(offsetof(struct vcpu, host_rsp) == 0x80, "entry.S: HOST_RSP");

PERCPU static struct vcpu *loaded;

/* The words of controls that a VMCS of Umbra's has. */
static const struct {
    enum vmx_word word;
    uint8_t field; /* its index */
} control_words[] = {
    {VMX_WORD_PIN, VMCS_INDEX_PIN_CONTROLS},
    {VMX_WORD_PRIMARY, VMCS_INDEX_PRIMARY_CONTROLS},
    {VMX_WORD_SECONDARY, VMCS_INDEX_SECONDARY_CONTROLS},
    {VMX_WORD_EXIT, VMCS_INDEX_EXIT_CONTROLS},
    {VMX_WORD_ENTRY, VMCS_INDEX_ENTRY_CONTROLS},
};

void vcpu_intercept_exceptions(struct vcpu *vcpu, bool all)
{
    const uint64_t usual = EXCEPTION_BITMAP | (vcpu->regime == VCPU_REGIME_SHADOW ? BIT(X86_VECTOR_PF) : 0);

    vcpu_write(vcpu, VMCS_EXCEPTION_BITMAP, all ? UINT32_MAX : usual | vcpu->exceptions);
}

/* What else of the VMCS is another in each regime. */
static void write_regime(struct vcpu *vcpu)
{
    const bool shadow = vcpu->regime == VCPU_REGIME_SHADOW;

    vcpu_intercept_exceptions(vcpu, false);
    vcpu_write(vcpu, VMCS_MSR_BITMAPS, vcpu->msr_bitmaps[vcpu->regime].value);
    if (shadow && vmx_controls_have(&vcpu->controls, VMX_WORD_ENTRY, VMX_ENTRY_LOAD_PAT))
        vcpu_write(vcpu, VMCS_GUEST_PAT, PAT_RESET); /* the tables of the virtual TLB are written for it */
}

static void write_controls(struct vcpu *vcpu, const struct vcpu_settings *settings)
{
    const struct vmx_controls *controls = &vcpu->controls;
    const struct vcpu_msr_lists lists = vcpu_state_msr_lists(vcpu->state);
    const struct {
        struct vmcs_field field;
        uint64_t value;
    } constants[] = {
        {VMCS_PAGE_FAULT_ERROR_MASK, 0},
        {VMCS_PAGE_FAULT_ERROR_MATCH, 0},
        {VMCS_CR3_TARGET_COUNT, 0},
        {VMCS_EXIT_MSR_STORE_ADDRESS, lists.guest.value},
        {VMCS_EXIT_MSR_STORE_COUNT, lists.count},
        {VMCS_ENTRY_MSR_LOAD_ADDRESS, lists.guest.value},
        {VMCS_ENTRY_MSR_LOAD_COUNT, lists.count},
        {VMCS_EXIT_MSR_LOAD_ADDRESS, lists.host.value},
        {VMCS_EXIT_MSR_LOAD_COUNT, lists.count},
        {VMCS_TSC_OFFSET, 0},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(control_words); i++)
        vcpu_write(vcpu, vmcs_field_at(control_words[i].field), controls->words[control_words[i].word]);
    for (unsigned i = 0; i < ARRAY_SIZE(constants); i++)
        vcpu_write(vcpu, constants[i].field, constants[i].value);

    write_regime(vcpu);
    vcpu_set_root(vcpu, settings->root);
    if (vmx_controls_have(controls, VMX_WORD_SECONDARY, VMX_SECONDARY_VPID))
        vcpu_write(vcpu, VMCS_VPID, settings->vpid);
    if (vmx_controls_have(controls, VMX_WORD_SECONDARY, VMX_SECONDARY_PAUSE_LOOP_EXITING)) {
        vcpu_write(vcpu, VMCS_PLE_GAP, PAUSE_LOOP_GAP);
        vcpu_write(vcpu, VMCS_PLE_WINDOW, PAUSE_LOOP_WINDOW);
    }
    if (vmx_controls_have(controls, VMX_WORD_SECONDARY, VMX_SECONDARY_XSAVES))
        vcpu_write(vcpu, VMCS_XSS_EXITING_BITMAP, 0);
    if (vmx_controls_have(controls, VMX_WORD_SECONDARY, VMX_SECONDARY_ENCLS_EXITING))
        vcpu_write(vcpu, VMCS_ENCLS_EXITING_BITMAP, UINT64_MAX);
    if (vmx_controls_have(controls, VMX_WORD_SECONDARY, VMX_SECONDARY_ENCLV_EXITING))
        vcpu_write(vcpu, VMCS_ENCLV_EXITING_BITMAP, UINT64_MAX);
    if (vmx_controls_have(controls, VMX_WORD_PRIMARY, VMX_PRIMARY_TPR_SHADOW)) {
        vcpu_write(vcpu, VMCS_VIRTUAL_APIC_ADDRESS, settings->virtual_apic.value);
        vcpu_write(vcpu, VMCS_TPR_THRESHOLD, 0);
    }
    vcpu_write(vcpu, VMCS_VMCS_LINK_POINTER, UINT64_MAX);
}

/* What the processor is to find after an exit. Control registers and tables are this processor's own. */
static void write_host_state(struct vcpu *vcpu)
{
    vcpu_write(vcpu, VMCS_HOST_CR0, cpu_read_cr0() & ~X86_CR0_TS);
    vcpu_write(vcpu, VMCS_HOST_CR3, cpu_read_cr3());
    vcpu_write(vcpu, VMCS_HOST_CR4, cpu_read_cr4());
    if (vmx_controls_have(&vcpu->controls, VMX_WORD_EXIT, VMX_EXIT_LOAD_EFER))
        vcpu_write(vcpu, VMCS_HOST_EFER, cpu_rdmsr(MSR_IA32_EFER));
    if (vmx_controls_have(&vcpu->controls, VMX_WORD_EXIT, VMX_EXIT_LOAD_PAT))
        vcpu_write(vcpu, VMCS_HOST_PAT, cpu_rdmsr(MSR_IA32_PAT));
    vcpu_write(vcpu, VMCS_HOST_CS_SELECTOR, SELECTOR_CODE);
    vcpu_write(vcpu, VMCS_HOST_SS_SELECTOR, SELECTOR_DATA);
    vcpu_write(vcpu, VMCS_HOST_DS_SELECTOR, SELECTOR_DATA);
    vcpu_write(vcpu, VMCS_HOST_ES_SELECTOR, SELECTOR_DATA);
    vcpu_write(vcpu, VMCS_HOST_FS_SELECTOR, 0);
    vcpu_write(vcpu, VMCS_HOST_GS_SELECTOR, 0);
    vcpu_write(vcpu, VMCS_HOST_TR_SELECTOR, SELECTOR_TSS);
    vcpu_write(vcpu, VMCS_HOST_FS_BASE, 0);
    vcpu_write(vcpu, VMCS_HOST_GS_BASE, this_cpu(percpu_offset));
    vcpu_write(vcpu, VMCS_HOST_TR_BASE, descriptor_tss_base());
    vcpu_write(vcpu, VMCS_HOST_GDTR_BASE, descriptor_gdt_base());
    vcpu_write(vcpu, VMCS_HOST_IDTR_BASE, descriptor_idt_base());
    vcpu_write(vcpu, VMCS_HOST_SYSENTER_CS, 0);
    vcpu_write(vcpu, VMCS_HOST_SYSENTER_ESP, 0);
    vcpu_write(vcpu, VMCS_HOST_SYSENTER_EIP, 0);
    vcpu_write(vcpu, VMCS_HOST_RIP, vcpu_barriers_way_out(vcpu_state_barriers()));
    vcpu->has_host_state = true;
}

int vcpu_init(struct vcpu *vcpu, const struct vcpu_settings *settings)
{
    uint32_t *region = physmap_pointer(settings->vmcs);
    const struct vmx_controls *first = settings->controls[settings->regime];

    *vcpu = (struct vcpu){
        .vmcs = settings->vmcs,
        .enter = vcpu_barriers_way_in(vcpu_state_barriers()),
        .vpid = settings->vpid,
        .controls = *first,
        .regime = settings->regime,
        .policy = settings->policy[settings->regime],
        .guest.pat = PAT_RESET,
        .interrupt_ops = settings->interrupt_ops,
        .interrupt_context = settings->interrupt_context,
        .has_preemption_timer = vmx_controls_have(first, VMX_WORD_PIN, VMX_PIN_PREEMPTION_TIMER),
        .preemption_timer_shift = settings->capabilities->misc & VMX_MISC_TIMER_SHIFT,
    };
    for (unsigned regime = 0; regime < VCPU_REGIMES; regime++) {
        vcpu->policies[regime] = settings->policy[regime];
        vcpu->msr_bitmaps[regime] = settings->msr_bitmap[regime];
        if (settings->controls[regime] != NULL)
            vcpu->regime_controls[regime] = *settings->controls[regime];
    }
    if (settings->beside != NULL) {
        vcpu->state = settings->beside->state;
        vcpu->beside = settings->beside;
        settings->beside->beside = vcpu;
    } else {
        vcpu->state = &vcpu->own_state;
        vcpu->state->xsave_area = settings->xsave_area;
        vcpu->state->owner = settings->owner;
        vcpu_state_reset(vcpu->state);
    }
    vcpu_events_reset(vcpu);

    memset(region, 0, PAGE_SIZE);
    region[0] = (uint32_t)(settings->capabilities->basic & VMX_BASIC_REVISION);
    if (!vmx_clear(settings->vmcs))
        return -EIO;
    vcpu_load(vcpu);
    write_controls(vcpu, settings);
    return 0;
}

static void write_segment(struct vcpu *vcpu, unsigned segment, uint16_t selector, uint64_t base,
                          uint32_t limit, uint32_t rights)
{
    vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_SELECTOR + segment), selector);
    vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_BASE + segment), base);
    vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_LIMIT + segment), limit);
    vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + segment), rights);
}

enum { ES, CS, SS, DS, FS, GS, LDTR, TR };

static void start_segments(struct vcpu *vcpu, const struct vcpu_start *start)
{
    static const struct {
        uint32_t code_rights, data_rights, limit;
    } modes[] = {
        [VCPU_START_PROTECTED_32] = {RIGHTS_CODE_32, RIGHTS_DATA, UINT32_MAX},
        [VCPU_START_LONG_64] = {RIGHTS_CODE_64, RIGHTS_DATA, UINT32_MAX},
        [VCPU_START_REAL] = {RIGHTS_CODE_16, RIGHTS_DATA_16, LIMIT_16},
    };
    bool real = start->mode == VCPU_START_REAL;
    uint32_t limit = modes[start->mode].limit;

    write_segment(vcpu, CS, start->code_selector, real ? start->code_selector << 4 : 0, limit,
                  modes[start->mode].code_rights);
    for (unsigned segment = ES; segment <= GS; segment++)
        if (segment != CS)
            write_segment(vcpu, segment, start->data_selector, 0, limit, modes[start->mode].data_rights);
    write_segment(vcpu, LDTR, 0, 0, LIMIT_16, real ? RIGHTS_LDTR : RIGHTS_LDTR | RIGHTS_UNUSABLE);
    write_segment(vcpu, TR, 0, 0, LIMIT_16, RIGHTS_TSS_32);
    vcpu_write(vcpu, VMCS_GUEST_GDTR_BASE, start->gdt_base);
    vcpu_write(vcpu, VMCS_GUEST_GDTR_LIMIT, real ? LIMIT_16 : start->gdt_limit);
    vcpu_write(vcpu, VMCS_GUEST_IDTR_BASE, 0);
    vcpu_write(vcpu, VMCS_GUEST_IDTR_LIMIT, LIMIT_16);
}

void vcpu_reset(struct vcpu *vcpu)
{
    const struct {
        struct vmcs_field field;
        uint64_t value;
    } constants[] = {
        {VMCS_GUEST_DEBUGCTL, 0},
        {VMCS_GUEST_SYSENTER_CS, 0},
        {VMCS_GUEST_SYSENTER_ESP, 0},
        {VMCS_GUEST_SYSENTER_EIP, 0},
    };

    const struct cr_state control = {.cr0 = X86_CR0_ET | X86_CR0_CD | X86_CR0_NW};

    vcpu_state_reset(vcpu->state);
    vcpu_state_load(vcpu->state);
    if (vcpu->shadow.vmcs.value != 0)
        vcpu_link_shadow(vcpu, false);
    vcpu_write_control_state(vcpu, &control);
    vcpu_write_pat(vcpu, PAT_RESET);
    for (unsigned i = 0; i < ARRAY_SIZE(constants); i++)
        vcpu_write(vcpu, constants[i].field, constants[i].value);
}

/* CR0, CR3, CR4 and EFER of a start. INIT leaves the caching bits of CR0 as they are. */
static struct cr_state start_control(struct vcpu *vcpu, const struct vcpu_start *start)
{
    switch (start->mode) {
    case VCPU_START_PROTECTED_32:
        return (struct cr_state){.cr0 = X86_CR0_PE | X86_CR0_ET, .cr3 = start->cr3};
    case VCPU_START_LONG_64:
        return (struct cr_state){
            .cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG | X86_CR0_NE,
            .cr3 = start->cr3,
            .cr4 = CR4_RESET_GUEST_LONG,
            .efer = X86_EFER_LME | X86_EFER_LMA,
        };
    default:
        return (struct cr_state){
            .cr0 = X86_CR0_ET | (vcpu_read_cr0(vcpu) & (X86_CR0_CD | X86_CR0_NW)),
            .cr3 = start->cr3,
        };
    }
}

/* Of the state that stays loaded, what an INIT clears. */
static void clear_debug_state(void)
{
    cpu_write_cr2(0);
    cpu_write_dr0(0);
    cpu_write_dr1(0);
    cpu_write_dr2(0);
    cpu_write_dr3(0);
    cpu_write_dr6(X86_DR6_INIT);
}

void vcpu_start(struct vcpu *vcpu, const struct vcpu_start *start)
{
    const struct cr_state control = start_control(vcpu, start);
    const struct {
        struct vmcs_field field;
        uint64_t value;
    } constants[] = {
        {VMCS_GUEST_DR7, X86_DR7_RESERVED},
        {VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED},
        {VMCS_GUEST_INTERRUPTIBILITY, 0},
        {VMCS_GUEST_ACTIVITY, 0},
        {VMCS_GUEST_PENDING_DEBUG, 0},
        /* A failed entry leaves the valid bit of what it was to inject. */
        {VMCS_ENTRY_INTERRUPTION_INFO, 0},
    };

    clear_debug_state();
    vcpu_events_reset(vcpu);
    memset(vcpu->registers, 0, sizeof(vcpu->registers));
    vcpu->registers[VCPU_RAX] = start->rax;
    vcpu->registers[VCPU_RBX] = start->rbx;
    vcpu->registers[VCPU_RDX] = start->rdx;
    vcpu->registers[VCPU_RSI] = start->rsi;
    for (unsigned i = 0; i < ARRAY_SIZE(constants); i++)
        vcpu_write(vcpu, constants[i].field, constants[i].value);
    vcpu_write(vcpu, VMCS_GUEST_RIP, start->rip);
    vcpu_write(vcpu, VMCS_GUEST_RSP, start->rsp);
    start_segments(vcpu, start);
    vcpu_write_control_state(vcpu, &control);
    vcpu_flush_linear(vcpu);
}

bool vcpu_load(struct vcpu *vcpu)
{
    if (this_cpu(loaded) == vcpu)
        return false;
    if (this_cpu(loaded) != NULL)
        vcpu_unload(this_cpu(loaded));
    if (!vmx_load(vcpu->vmcs))
        panic("VMPTRLD of %#lx failed", vcpu->vmcs.value);
    this_cpu(loaded) = vcpu;
    vcpu_state_load(vcpu->state);
    write_host_state(vcpu);
    return true;
}

void vcpu_switch(struct vcpu *vcpu)
{
    struct vcpu *to = vcpu->beside;

    if (!vmx_load(to->vmcs))
        panic("VMPTRLD of %#lx failed", to->vmcs.value);
    this_cpu(loaded) = to;
    if (!to->has_host_state)
        write_host_state(to);
}

static void deactivate(struct vcpu *vcpu)
{
    if (!vmx_clear(vcpu->vmcs))
        panic("VMCLEAR of %#lx failed", vcpu->vmcs.value);
    /* The processor may have cached it like one that is active. */
    if (vcpu->shadow.vmcs.value != 0 && !vmx_clear(vcpu->shadow.vmcs))
        panic("VMCLEAR of %#lx failed", vcpu->shadow.vmcs.value);
    vcpu->launched = false;
    vcpu->has_host_state = false;
}

void vcpu_unload(struct vcpu *vcpu)
{
    if (this_cpu(loaded) != vcpu)
        return;
    vcpu_state_save(vcpu->state);
    this_cpu(loaded) = NULL;
    deactivate(vcpu);
    if (vcpu->beside != NULL)
        deactivate(vcpu->beside);
}

void vcpu_unload_current(void)
{
    if (this_cpu(loaded) != NULL)
        vcpu_unload(this_cpu(loaded));
}

/* Where the VMCS has Umbra's, the guest's own: also where the processor has no such field. */
static void take_own_values(struct vcpu *vcpu, struct vcpu_snapshot *snapshot)
{
    const struct {
        unsigned index;
        uint64_t value;
    } own[] = {
        {VMCS_INDEX_GUEST_CR0, vcpu_read_cr0(vcpu)}, {VMCS_INDEX_GUEST_CR3, vcpu_read_cr3(vcpu)},
        {VMCS_INDEX_GUEST_CR4, vcpu_read_cr4(vcpu)}, {VMCS_INDEX_GUEST_EFER, vcpu_read_efer(vcpu)},
        {VMCS_INDEX_GUEST_PAT, vcpu_read_pat(vcpu)},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(own); i++) {
        snapshot->values[own[i].index] = own[i].value;
        snapshot->known[own[i].index / 64] |= BIT(own[i].index % 64);
    }
}

void vcpu_take_snapshot(struct vcpu *vcpu, struct vcpu_snapshot *snapshot)
{
    memset(snapshot->known, 0, sizeof(snapshot->known));
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        struct vmcs_field field = vmcs_field_at(i);

        snapshot->values[i] = 0;
        if (vcpu_try_read(vcpu, field, &snapshot->values[i]))
            snapshot->known[i / 64] |= BIT(i % 64);
    }
    memcpy(snapshot->registers, vcpu->registers, sizeof(snapshot->registers));
    snapshot->registers[VCPU_RSP] = snapshot->values[VMCS_INDEX_GUEST_RSP];
    take_own_values(vcpu, snapshot);
    __atomic_store_n(&snapshot->valid, true, __ATOMIC_RELEASE);
}

void vcpu_read_control_state(struct vcpu *vcpu, struct cr_state *state)
{
    state->cr0 = vcpu_read_cr0(vcpu);
    state->cr3 = vcpu_read_cr3(vcpu);
    state->cr4 = vcpu_read_cr4(vcpu);
    state->efer = vcpu_read_efer(vcpu);
    state->cs_l = (vcpu_read(vcpu, VMCS_GUEST_CS_ACCESS_RIGHTS) & BIT(13)) != 0;
}

/* IA32_EFER as the hardware holds it while the guest runs. */
static uint64_t hardware_efer(const struct vcpu *vcpu, uint64_t efer)
{
    if (vcpu->regime == VCPU_REGIME_EPT)
        return efer;
    /* The hardware's paging is always on: LME is LMA. Shadow tables use the no-execute bit for their own. */
    return (efer & X86_EFER_SCE) | X86_EFER_NXE | (efer & X86_EFER_LMA ? X86_EFER_LME | X86_EFER_LMA : 0);
}

static void write_efer(struct vcpu *vcpu, uint64_t efer)
{
    vcpu->guest.efer = efer;
    if (vmx_controls_have(&vcpu->controls, VMX_WORD_ENTRY, VMX_ENTRY_LOAD_EFER))
        vcpu_write(vcpu, VMCS_GUEST_EFER, hardware_efer(vcpu, efer));
    else
        vcpu_state_write_efer(efer);
}

void vcpu_write_control_values(struct vcpu *vcpu, const struct cr_state *state)
{
    const struct register_policy *policy = vcpu->policy;
    const bool paging = vcpu->regime == VCPU_REGIME_EPT || (state->cr0 & X86_CR0_PG) != 0;
    const uint64_t cr4 = policy_cr_hardware(&policy->cr4, state->cr4);
    uint64_t entry = vcpu_read(vcpu, VMCS_ENTRY_CONTROLS) & ~(uint64_t)VMX_ENTRY_IA32E_GUEST;

    vcpu_write(vcpu, VMCS_GUEST_CR0, policy_cr_hardware(&policy->cr0, state->cr0));
    vcpu_write(vcpu, VMCS_GUEST_CR4, paging ? cr4 : cr4 & ~CR4_OF_PAGING);
    vcpu_write_cr3(vcpu, state->cr3);
    write_efer(vcpu, state->efer);
    vcpu_write(vcpu, VMCS_ENTRY_CONTROLS, entry | (state->efer & X86_EFER_LMA ? VMX_ENTRY_IA32E_GUEST : 0));
}

void vcpu_write_control_state(struct vcpu *vcpu, const struct cr_state *state)
{
    const struct register_policy *policy = vcpu->policy;

    vcpu_write(vcpu, VMCS_CR0_MASK, policy_cr_mask(&policy->cr0));
    vcpu_write(vcpu, VMCS_CR4_MASK, policy_cr_mask(&policy->cr4));
    vcpu_write(vcpu, VMCS_CR0_READ_SHADOW, policy_cr_shadow(&policy->cr0, state->cr0));
    vcpu_write(vcpu, VMCS_CR4_READ_SHADOW, policy_cr_shadow(&policy->cr4, state->cr4));
    vcpu_write_control_values(vcpu, state);
}

void vcpu_set_root(struct vcpu *vcpu, hpa_t root)
{
    if (vcpu->regime == VCPU_REGIME_SHADOW)
        vcpu_write(vcpu, VMCS_GUEST_CR3, root.value);
    else
        vcpu_write(vcpu, VMCS_EPT_POINTER, root.value | EPTP_WALK_4 | MEMORY_TYPE_WB);
}

/*
 * A guest that comes from real mode may have segments that the processor enters only with unrestricted guest
 * (SDM vol. 3, "Checks on guest segment registers"), until it has loaded them anew: a code segment that is of
 * a type for data, and selectors whose lowest bits are no privilege level. What does not fit is made to fit;
 * of it, the guest could see no more than those two bits of CS and SS.
 */
static void conform_segments(struct vcpu *vcpu)
{
    for (unsigned segment = ES; segment <= GS; segment++) {
        const struct vmcs_field selector = vmcs_field_at(VMCS_INDEX_GUEST_ES_SELECTOR + segment);
        const struct vmcs_field rights = vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + segment);
        const uint64_t level = vcpu_read(vcpu, selector) & SELECTOR_RPL;

        if (segment == CS || segment == SS)
            vcpu_write(vcpu, selector, vcpu_read(vcpu, selector) & ~(uint64_t)SELECTOR_RPL);
        else
            vcpu_write(vcpu, rights, vcpu_read(vcpu, rights) | level << RIGHTS_DPL_SHIFT);
    }
    vcpu_write(vcpu, VMCS_GUEST_CS_ACCESS_RIGHTS,
               vcpu_read(vcpu, VMCS_GUEST_CS_ACCESS_RIGHTS) | RIGHTS_TYPE_CODE);
}

void vcpu_set_regime(struct vcpu *vcpu, enum vcpu_regime regime, hpa_t root)
{
    const struct vmx_controls *to = &vcpu->regime_controls[regime];
    const uint64_t pat = vcpu_read_pat(vcpu);
    struct cr_state state;

    vcpu_read_control_state(vcpu, &state);
    if (vmx_controls_have(&vcpu->controls, VMX_WORD_SECONDARY, VMX_SECONDARY_UNRESTRICTED_GUEST) &&
        regime == VCPU_REGIME_SHADOW)
        conform_segments(vcpu);
    /* Only what differs between the regimes: the rest may have been switched since. */
    for (unsigned i = 0; i < ARRAY_SIZE(control_words); i++) {
        const struct vmcs_field field = vmcs_field_at(control_words[i].field);
        const enum vmx_word word = control_words[i].word;

        vcpu_write(vcpu, field, vcpu_read(vcpu, field) ^ vcpu->controls.words[word] ^ to->words[word]);
    }
    vcpu->regime = regime;
    vcpu->policy = vcpu->policies[regime];
    vcpu->controls = *to;
    write_regime(vcpu);
    vcpu_write_control_state(vcpu, &state);
    vcpu_write_pat(vcpu, pat);
    vcpu_set_root(vcpu, root);
    vcpu_flush_linear(vcpu);
}

static void end_step(struct vcpu *vcpu)
{
    if ((vcpu_read(vcpu, VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF) == 0)
        vcpu_write(vcpu, VMCS_GUEST_PENDING_DEBUG, vcpu_read(vcpu, VMCS_GUEST_PENDING_DEBUG) | X86_DR6_BS);
}

void vcpu_end_step(struct vcpu *vcpu)
{
    if ((vcpu_read(vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_TF) != 0)
        end_step(vcpu);
}

/* Outside 64-bit mode EIP wraps at 32 bits. */
static uint64_t wrap(struct vcpu *vcpu, uint64_t rip)
{
    bool is_64 = (vcpu_read(vcpu, VMCS_GUEST_CS_ACCESS_RIGHTS) & BIT(13)) != 0 &&
                 (vcpu_read_efer(vcpu) & X86_EFER_LMA) != 0;

    return is_64 ? rip : (uint32_t)rip;
}

static void end_shadow(struct vcpu *vcpu, uint64_t blocking)
{
    vcpu_write(vcpu, VMCS_GUEST_INTERRUPTIBILITY, blocking & ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
    vcpu_events_changed(vcpu);
}

/* Moves RIP on. The three fields that this looks at are known. */
static __always_inline void skip(struct vcpu *vcpu, uint64_t length)
{
    uint64_t blocking = vcpu_fetched(vcpu, VMCS_GUEST_INTERRUPTIBILITY);
    uint64_t old = vcpu_fetched(vcpu, VMCS_GUEST_RIP);
    uint64_t rip = old + length;

    if (unlikely((rip ^ old) >> 32 != 0))
        rip = wrap(vcpu, rip);
    vcpu_put(vcpu, VMCS_GUEST_RIP, rip);
    if (unlikely((blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) != 0))
        end_shadow(vcpu, blocking);
    if (unlikely((vcpu_fetched(vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_TF) != 0))
        end_step(vcpu);
}

void vcpu_skip_instruction(struct vcpu *vcpu)
{
    if (vcpu_field_known(vcpu, VMCS_EXIT_INSTRUCTION_LENGTH)) {
        vcpu_skip_bytes(vcpu, vcpu_fetched(vcpu, VMCS_EXIT_INSTRUCTION_LENGTH));
        return;
    }
    /* The usual case: nobody has asked for any of these yet, and asking for all in a row is cheapest. */
    vcpu_fetch3(vcpu, VMCS_EXIT_INSTRUCTION_LENGTH, VMCS_GUEST_INTERRUPTIBILITY, VMCS_GUEST_RFLAGS);
    skip(vcpu, vcpu_fetched(vcpu, VMCS_EXIT_INSTRUCTION_LENGTH));
}

void vcpu_skip_bytes(struct vcpu *vcpu, uint64_t length)
{
    vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY);
    vcpu_read(vcpu, VMCS_GUEST_RFLAGS);
    skip(vcpu, length);
}

void vcpu_flush_linear(struct vcpu *vcpu)
{
    if (!vmx_controls_have(&vcpu->controls, VMX_WORD_SECONDARY, VMX_SECONDARY_VPID))
        return;
    if (!vmx_invvpid(INVVPID_CONTEXT, vcpu->vpid, GLA(0)) && !vmx_invvpid(INVVPID_ALL, 0, GLA(0)))
        panic("INVVPID failed");
}
