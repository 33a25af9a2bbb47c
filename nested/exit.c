// SPDX-License-Identifier: BSD-2-Clause
#include "nested/exit.h"

#include "arch/x86/exception.h"
#include "arch/x86/msr.h"
#include "arch/x86/registers.h"
#include "lib/string.h"
#include "nested/away.h"
#include "nested/merge.h"
#include "nested/msr_list.h"
#include "nested/shadow.h"
#include "nested/stand_in.h"
#include "vmx/events.h"

/* Access rights that a VM exit gives (SDM vol. 3, "Loading Host Segment and Descriptor-Table Registers"). */
#define RIGHTS_CODE_64     0xa09b
#define RIGHTS_CODE_32     0xc09b
#define RIGHTS_DATA        0xc093
#define RIGHTS_TSS         0x008b
#define RIGHTS_UNUSABLE    0x10000
#define RIGHTS_LONG        BIT(13)
#define LIMIT_TSS          0x67
#define LIMIT_TABLE        0xffff

/* Bits of CR0 that a VM exit leaves as they are: ET, NW, CD, and reserved ones. */
#define CR0_KEPT           0xffffffff7ffaffd0ULL

/* Parts of exit qualifications. */
#define ACCESS_REGISTER(q) ((unsigned)(q)&15)
#define ACCESS_TYPE(q)     ((unsigned)(q) >> 4 & 3)
#define ACCESS_GPR(q)      ((unsigned)(q) >> 8 & 15)
#define ACCESS_MOV_TO      0
#define ACCESS_LMSW        3
#define ACCESS_LMSW_MEMORY BIT(6)
#define IO_STRING          BIT(4)

#define INFO_REGISTER      BIT(10) /* of an instruction: its operand is no memory */

/* Events that have an instruction length. */
static bool is_software_event(uint32_t information)
{
    return EVENT_TYPE(information) >= VCPU_EVENT_SOFTWARE_INTERRUPT &&
           EVENT_TYPE(information) <= VCPU_EVENT_SOFTWARE_EXCEPTION;
}

static bool is_entry_failure(const struct nested_exit_information *information)
{
    return (information->reason & EXIT_REASON_ENTRY_FAILURE) != 0;
}

/* ---- Exit information -------------------------------------------------------------------------------------
 */

/* What an exit reason defines (SDM vol. 3, "Recording VM-Exit Information and Updating VM-entry Control
 * Fields"). */
#define Q 1u  /* exit qualification; cleared for all other reasons */
#define L 2u  /* instruction length */
#define I 4u  /* instruction information */
#define G 8u  /* guest-linear address */
#define P 16u /* guest-physical address */

/*
 * The SDM leaves the instruction length undefined for accesses to memory. Processors have it there as well,
 * and guest hypervisors move past an emulated access by it: it is passed on.
 */
static const uint8_t defined_by_reason[EXIT_REASON_COUNT] = {
    [EXIT_REASON_EXCEPTION_OR_NMI] = Q | L,
    [EXIT_REASON_SIPI] = Q,
    [EXIT_REASON_TASK_SWITCH] = Q | L,
    [EXIT_REASON_CPUID] = L,
    [EXIT_REASON_GETSEC] = L,
    [EXIT_REASON_HLT] = L,
    [EXIT_REASON_INVD] = L,
    [EXIT_REASON_INVLPG] = Q | L,
    [EXIT_REASON_RDPMC] = L,
    [EXIT_REASON_RDTSC] = L,
    [EXIT_REASON_RSM] = L,
    [EXIT_REASON_VMCALL] = L,
    [EXIT_REASON_VMCLEAR] = Q | L | I,
    [EXIT_REASON_VMLAUNCH] = L,
    [EXIT_REASON_VMPTRLD] = Q | L | I,
    [EXIT_REASON_VMPTRST] = Q | L | I,
    [EXIT_REASON_VMREAD] = Q | L | I,
    [EXIT_REASON_VMRESUME] = L,
    [EXIT_REASON_VMWRITE] = Q | L | I,
    [EXIT_REASON_VMXOFF] = L,
    [EXIT_REASON_VMXON] = Q | L | I,
    [EXIT_REASON_CR_ACCESS] = Q | L | G,
    [EXIT_REASON_MOV_DR] = Q | L,
    [EXIT_REASON_IO_INSTRUCTION] = Q | L | I | G,
    [EXIT_REASON_RDMSR] = L,
    [EXIT_REASON_WRMSR] = L,
    [EXIT_REASON_ENTRY_FAILURE_GUEST_STATE] = Q,
    [EXIT_REASON_ENTRY_FAILURE_MSR_LOADING] = Q,
    [EXIT_REASON_MWAIT] = Q | L,
    [EXIT_REASON_MONITOR] = L,
    [EXIT_REASON_PAUSE] = L,
    [EXIT_REASON_APIC_ACCESS] = Q | L,
    [EXIT_REASON_VIRTUALIZED_EOI] = Q,
    [EXIT_REASON_GDTR_IDTR_ACCESS] = Q | L | I,
    [EXIT_REASON_LDTR_TR_ACCESS] = Q | L | I,
    [EXIT_REASON_EPT_VIOLATION] = Q | L | G | P,
    [EXIT_REASON_EPT_MISCONFIGURATION] = L | P,
    [EXIT_REASON_INVEPT] = Q | L | I,
    [EXIT_REASON_RDTSCP] = L,
    [EXIT_REASON_INVVPID] = Q | L | I,
    [EXIT_REASON_WBINVD] = L,
    [EXIT_REASON_XSETBV] = L,
    [EXIT_REASON_APIC_WRITE] = Q,
    [EXIT_REASON_RDRAND] = L | I,
    [EXIT_REASON_INVPCID] = Q | L | I,
    [EXIT_REASON_VMFUNC] = L,
    [EXIT_REASON_ENCLS] = L,
    [EXIT_REASON_RDSEED] = L | I,
    [EXIT_REASON_PML_FULL] = Q,
    [EXIT_REASON_XSAVES] = Q | L | I,
    [EXIT_REASON_XRSTORS] = Q | L | I,
    [EXIT_REASON_PCONFIG] = L,
    [EXIT_REASON_SUB_PAGE] = Q | L | G | P,
    [EXIT_REASON_UMWAIT] = L | I,
    [EXIT_REASON_TPAUSE] = L | I,
    [EXIT_REASON_LOADIWKEY] = L | I,
    [EXIT_REASON_ENCLV] = L,
    [EXIT_REASON_ENQCMD_PASID] = Q | L | I,
    [EXIT_REASON_ENQCMDS_PASID] = Q | L | I,
    [EXIT_REASON_INSTRUCTION_TIMEOUT] = Q,
};

static unsigned defined_by(uint32_t reason)
{
    const uint32_t basic = reason & EXIT_REASON_BASIC;

    return basic < EXIT_REASON_COUNT ? defined_by_reason[basic] : 0;
}

/* Of what the reason may define, what this exit has: the operands of string I/O and of LMSW are seldom there.
 */
static unsigned defined_by_exit(uint32_t reason, uint64_t qualification)
{
    unsigned defined = defined_by(reason);

    if ((reason & EXIT_REASON_BASIC) == EXIT_REASON_IO_INSTRUCTION && (qualification & IO_STRING) == 0)
        defined &= ~(I | G);
    if ((reason & EXIT_REASON_BASIC) == EXIT_REASON_CR_ACCESS &&
        (ACCESS_TYPE(qualification) != ACCESS_LMSW || (qualification & ACCESS_LMSW_MEMORY) == 0))
        defined &= ~G;
    return defined;
}

/* Whether the operand that might be in memory, as its displacement in the qualification might say, is not. */
static bool has_register_operand(uint32_t basic_reason, uint32_t instruction_information)
{
    return (instruction_information & INFO_REGISTER) != 0 &&
           (basic_reason == EXIT_REASON_VMREAD || basic_reason == EXIT_REASON_VMWRITE ||
            basic_reason == EXIT_REASON_LDTR_TR_ACCESS);
}

void nested_exit_information(struct nested_vcpu *n, struct nested_exit_information *information)
{
    struct vcpu *vcpu = &n->vcpu02;
    const uint32_t reason = (uint32_t)vcpu_read(vcpu, VMCS_EXIT_REASON);
    const uint32_t basic = reason & EXIT_REASON_BASIC;
    unsigned defined = defined_by(reason);

    *information = (struct nested_exit_information){.reason = reason};
    if ((defined & Q) != 0)
        information->qualification = vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION);
    defined = defined_by_exit(reason, information->qualification);
    if ((defined & L) != 0)
        information->instruction_length = (uint32_t)vcpu_read(vcpu, VMCS_EXIT_INSTRUCTION_LENGTH);
    if ((defined & I) != 0)
        information->instruction_information = (uint32_t)vcpu_read(vcpu, VMCS_EXIT_INSTRUCTION_INFO);
    /* No displacement: 0. Not every emulator says so (docs/notes/bochs.md). */
    if (has_register_operand(basic, information->instruction_information))
        information->qualification = 0;
    if ((defined & G) != 0)
        information->linear_address = vcpu_read(vcpu, VMCS_GUEST_LINEAR_ADDRESS);
    if ((defined & P) != 0)
        information->physical_address = vcpu_read(vcpu, VMCS_GUEST_PHYSICAL_ADDRESS);
    if (basic == EXIT_REASON_EXCEPTION_OR_NMI || basic == EXIT_REASON_EXTERNAL_INTERRUPT)
        information->interruption = (uint32_t)vcpu_read(vcpu, VMCS_EXIT_INTERRUPTION_INFO);
    if ((information->interruption & EVENT_HAS_ERROR_CODE) != 0)
        information->interruption_error_code = (uint32_t)vcpu_read(vcpu, VMCS_EXIT_INTERRUPTION_ERROR_CODE);
}

/* ---- What the owner is asked about ------------------------------------------------------------------------
 */

static uint64_t edx_eax(const struct vcpu *vcpu)
{
    return vcpu->registers[VCPU_RDX] << 32 | (uint32_t)vcpu->registers[VCPU_RAX];
}

/* The operand of a MOV to a control register: 32 bits outside 64-bit mode. */
static uint64_t move_operand(struct vcpu *vcpu, uint64_t qualification)
{
    const uint64_t value = vcpu_read_register(vcpu, ACCESS_GPR(qualification));

    if ((vcpu_read(vcpu, VMCS_GUEST_CS_ACCESS_RIGHTS) & RIGHTS_LONG) == 0 ||
        (vcpu_read_efer(vcpu) & X86_EFER_LMA) == 0)
        return (uint32_t)value;
    return value;
}

static uint64_t read_operand(struct vcpu *vcpu, const struct nested_owner_exit *exit)
{
    switch (exit->reason & EXIT_REASON_BASIC) {
    case EXIT_REASON_CR_ACCESS:
        return ACCESS_TYPE(exit->qualification) == ACCESS_MOV_TO ? move_operand(vcpu, exit->qualification)
                                                                 : 0;
    case EXIT_REASON_RDMSR:
    case EXIT_REASON_WRMSR:
        return (uint32_t)vcpu->registers[VCPU_RCX];
    case EXIT_REASON_XSAVES:
    case EXIT_REASON_XRSTORS:
        return edx_eax(vcpu);
    default:
        return (uint32_t)vcpu->registers[VCPU_RAX];
    }
}

void nested_exit_describe(struct nested_vcpu *n, struct nested_owner_exit *exit)
{
    struct vcpu *vcpu = &n->vcpu02;

    exit->vmcs12 = &n->vmcs12;
    exit->reason = (uint32_t)vcpu_read(vcpu, VMCS_EXIT_REASON);
    const unsigned needs = nested_owner_needs(exit->reason);
    if ((needs & NESTED_NEEDS_QUALIFICATION) != 0)
        exit->qualification = vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION);
    if ((needs & NESTED_NEEDS_INTERRUPTION) != 0) {
        exit->interruption = (uint32_t)vcpu_read(vcpu, VMCS_EXIT_INTERRUPTION_INFO);
        exit->error_code = (exit->interruption & EVENT_HAS_ERROR_CODE) != 0
                               ? (uint32_t)vcpu_read(vcpu, VMCS_EXIT_INTERRUPTION_ERROR_CODE)
                               : 0;
    }
    if ((needs & NESTED_NEEDS_OPERAND) != 0)
        exit->operand = read_operand(vcpu, exit);
    if ((needs & NESTED_NEEDS_CR4) != 0) {
        struct cr_state state;
        nested_read_control_state(n, &state);
        exit->cr4 = state.cr4;
    }
    if ((needs & NESTED_NEEDS_XSS) != 0 && !n->ops->read_msr(n->context, MSR_IA32_XSS, &exit->xss))
        exit->xss = 0;
}

/* ---- Saving -----------------------------------------------------------------------------------------------
 */

static void save_field(struct nested_vcpu *n, struct vmcs_field field)
{
    vmcs12_save(&n->vmcs12, field, vcpu_read(&n->vcpu02, field));
}

/* The SDM has PDPTEs saved with EPT only, and leaves them undefined without PAE paging. */
static void save_pdptes(struct nested_vcpu *n, const uint64_t *pdptes)
{
    for (unsigned i = 0; i < 4; i++) {
        const struct vmcs_field field = vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i);

        vmcs12_save(&n->vmcs12, field, pdptes != NULL ? pdptes[i] : vcpu_read(&n->vcpu02, field));
    }
}

/* IA32_PAT, as far as somebody asks for it: VMCS12, or Lv1, which has it after an exit that loads no other.
 */
static void save_pat(struct nested_vcpu *n, struct nested_exit_information *information, uint64_t exit)
{
    const bool in_vmcs = n->vcpu02.regime == VCPU_REGIME_EPT;

    if ((exit & VMX_EXIT_LOAD_PAT) == 0 || ((exit & VMX_EXIT_SAVE_PAT) != 0 && !in_vmcs))
        information->kept.pat = vcpu_read_pat(&n->vcpu02);
    if ((exit & VMX_EXIT_SAVE_PAT) == 0)
        return;
    if (in_vmcs)
        nested_away_send(n, VMCS_GUEST_PAT);
    else
        vmcs12_save(&n->vmcs12, VMCS_GUEST_PAT, information->kept.pat);
}

/* Control registers and the MSRs that a control names; what Lv2 leaves to Lv1 in them is kept. */
static void save_control_state(struct nested_vcpu *n, struct nested_exit_information *information)
{
    struct vmcs12 *vmcs12 = &n->vmcs12;
    const uint64_t entry = vmcs12_read(vmcs12, VMCS_ENTRY_CONTROLS) & ~(uint64_t)VMX_ENTRY_IA32E_GUEST;
    const uint64_t exit = vmcs12_read(vmcs12, VMCS_EXIT_CONTROLS);
    struct cr_state *state = &n->state02;

    nested_read_control_state(n, state);
    information->kept.cr0 = state->cr0;
    information->kept.efer = state->efer;
    vmcs12_save(vmcs12, VMCS_GUEST_CR0, state->cr0);
    vmcs12_save(vmcs12, VMCS_GUEST_CR3, state->cr3);
    vmcs12_save(vmcs12, VMCS_GUEST_CR4, state->cr4);
    vmcs12_save(vmcs12, VMCS_ENTRY_CONTROLS,
                entry | (state->efer & X86_EFER_LMA ? VMX_ENTRY_IA32E_GUEST : 0));
    if (policy_cr_uses_pdptes(state) && vmcs12_has_secondary(vmcs12, VMX_SECONDARY_EPT))
        save_pdptes(n, information->pdptes);
    if ((exit & VMX_EXIT_SAVE_EFER) != 0)
        vmcs12_save(vmcs12, VMCS_GUEST_EFER, state->efer);
    save_pat(n, information, exit);
    if ((exit & VMX_EXIT_SAVE_DEBUG_CONTROLS) != 0) {
        nested_away_send(n, VMCS_GUEST_DR7);
        save_field(n, VMCS_GUEST_DEBUGCTL);
    }
}

/*
 * The delivery of an NMI blocks others, also one that was interrupted. The queue has undone that in VMCS02,
 * which then needs to be given what is in VMCS12.
 */
static void save_interruptibility(struct nested_vcpu *n)
{
    const uint64_t blocking = vcpu_read(&n->vcpu02, VMCS_GUEST_INTERRUPTIBILITY);

    if (EVENT_TYPE(n->vcpu02.injection) == VCPU_EVENT_NMI)
        vmcs12_write(&n->vmcs12, VMCS_GUEST_INTERRUPTIBILITY, blocking | BLOCKING_BY_NMI);
    else
        vmcs12_save(&n->vmcs12, VMCS_GUEST_INTERRUPTIBILITY, blocking);
}

/*
 * What of it is not away now: what checks of an entry that follows look at, whose own fields Lv1 writes, and
 * what is not in VMCS02 as it is. No entry has to check it again: a processor's own guest state is good.
 */
static void save_guest_state(struct nested_vcpu *n, struct nested_exit_information *information)
{
    static const struct vmcs_field saved[] = {
        VMCS_FIELD(GUEST_CS_ACCESS_RIGHTS),
        VMCS_FIELD(GUEST_SS_ACCESS_RIGHTS),
        VMCS_FIELD(GUEST_RSP),
        VMCS_FIELD(GUEST_RIP),
        VMCS_FIELD(GUEST_RFLAGS),
        VMCS_FIELD(GUEST_PENDING_DEBUG),
    };
    struct vmcs12 *vmcs12 = &n->vmcs12;

#pragma GCC unroll 8
    for (unsigned i = 0; i < ARRAY_SIZE(saved); i++)
        save_field(n, saved[i]);
#pragma GCC unroll 4
    for (unsigned word = 0; word < VMCS12_FIELD_WORDS; word++)
        vmcs12->away[word] |= nested_away_fields[word];
    save_control_state(n, information);
    save_interruptibility(n);
    vmcs12_save(vmcs12, VMCS_GUEST_ACTIVITY, information->activity);
    if (vmcs12_has_exit(vmcs12, VMX_EXIT_SAVE_PREEMPTION_TIMER))
        vmcs12_save(vmcs12, VMCS_PREEMPTION_TIMER_VALUE, information->preemption_timer);
    if (vmcs12_has_secondary(vmcs12, VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY))
        save_field(n, VMCS_GUEST_INTERRUPT_STATUS);
}

/* Whether the exit is what became of the queued event. Other events (type 7) are exits themselves, and one
 * that another exit precedes is lost. */
static bool ends_delivery(const struct nested_vcpu *n, const struct nested_exit_information *information)
{
    return EVENT_TYPE(n->vcpu02.injection) == VCPU_EVENT_OTHER ||
           (information->reason & EXIT_REASON_BASIC) == EXIT_REASON_TRIPLE_FAULT ||
           (EVENT_TYPE(information->interruption) == VCPU_EVENT_HARDWARE_EXCEPTION &&
            EVENT_VECTOR(information->interruption) == X86_VECTOR_DF);
}

static void save_vectoring(struct nested_vcpu *n, const struct nested_exit_information *information)
{
    struct vmcs12 *vmcs12 = &n->vmcs12;
    const struct vcpu *vcpu = &n->vcpu02;
    const uint32_t vectoring =
        ends_delivery(n, information) ? 0 : (uint32_t)nested_stand_in_real(vcpu->injection);

    vmcs12_save(vmcs12, VMCS_IDT_VECTORING_INFO, vectoring);
    if ((vectoring & EVENT_HAS_ERROR_CODE) != 0)
        vmcs12_save(vmcs12, VMCS_IDT_VECTORING_ERROR_CODE, vcpu->injection_error_code);
    if (is_software_event(vectoring))
        vmcs12_save(vmcs12, VMCS_EXIT_INSTRUCTION_LENGTH, vcpu->injection_length);
}

static void save_information(struct nested_vcpu *n, const struct nested_exit_information *information)
{
    struct vmcs12 *vmcs12 = &n->vmcs12;
    const unsigned defined = defined_by_exit(information->reason, information->qualification);

    vmcs12_save(vmcs12, VMCS_EXIT_INTERRUPTION_INFO, information->interruption);
    if ((information->interruption & EVENT_HAS_ERROR_CODE) != 0)
        vmcs12_save(vmcs12, VMCS_EXIT_INTERRUPTION_ERROR_CODE, information->interruption_error_code);
    if ((defined & L) != 0)
        vmcs12_save(vmcs12, VMCS_EXIT_INSTRUCTION_LENGTH, information->instruction_length);
    if ((defined & I) != 0)
        vmcs12_save(vmcs12, VMCS_EXIT_INSTRUCTION_INFO, information->instruction_information);
    if ((defined & G) != 0)
        vmcs12_save(vmcs12, VMCS_GUEST_LINEAR_ADDRESS, information->linear_address);
    if ((defined & P) != 0)
        vmcs12_save(vmcs12, VMCS_GUEST_PHYSICAL_ADDRESS, information->physical_address);
    save_vectoring(n, information);
    vmcs12_save(vmcs12, VMCS_ENTRY_INTERRUPTION_INFO,
                vmcs12_read(vmcs12, VMCS_ENTRY_INTERRUPTION_INFO) & ~EVENT_VALID);
}

/* Nothing is queued for Lv2 any more. What is Lv1's own, because Lv1 takes it without an exit, goes there. */
static void hand_over_events(struct nested_vcpu *n)
{
    struct vcpu *vcpu02 = &n->vcpu02;

    if (n->vcpu01->deferred_interrupt < 0 && !vmcs12_has_pin(&n->vmcs12, VMX_PIN_EXTERNAL_INTERRUPT_EXITING))
        n->vcpu01->deferred_interrupt = vcpu02->deferred_interrupt;
    if (vcpu02->nmi_pending && !vmcs12_has_pin(&n->vmcs12, VMX_PIN_NMI_EXITING))
        n->vcpu01->nmi_pending = true;
    vcpu_events_reset(vcpu02);
}

enum nested_abort nested_exit_save(struct nested_vcpu *n, struct nested_exit_information *information)
{
    vmcs12_save(&n->vmcs12, VMCS_EXIT_REASON, information->reason);
    vmcs12_save(&n->vmcs12, VMCS_EXIT_QUALIFICATION, information->qualification);
    n->vmcs12.changed = true;
    if (is_entry_failure(information)) {
        /* All other fields stay as they are, and the event that the entry was to inject stays valid. */
        hand_over_events(n);
        return NESTED_ABORT_NONE;
    }
    save_information(n, information);
    save_guest_state(n, information);
    hand_over_events(n);
    memcpy(n->vcpu01->registers, n->vcpu02.registers, sizeof(n->vcpu01->registers));
    return nested_msr_list_store(n) ? NESTED_ABORT_NONE : NESTED_ABORT_STORE_MSRS;
}

/* ---- Loading ----------------------------------------------------------------------------------------------
 */

/* Where what a field of VMCS01 gets comes from. */
enum load {
    LOAD_HOST,         /* a field of the host state, as it is */
    LOAD_CONSTANT,     /* each VM exit sets it to the same value */
    LOAD_DATA_SEGMENT, /* access rights, which a null selector makes unusable */
    LOAD_CODE_SEGMENT, /* access rights by "host address-space size" */
};

/* All of VMCS01 that an exit loads whatever Lv1 and Lv2 were doing, but for control registers. */
// clang-format off
#define LOADED(X)                                          \
    X(GUEST_ES_SELECTOR, HOST, HOST_ES_SELECTOR)           \
    X(GUEST_CS_SELECTOR, HOST, HOST_CS_SELECTOR)           \
    X(GUEST_SS_SELECTOR, HOST, HOST_SS_SELECTOR)           \
    X(GUEST_DS_SELECTOR, HOST, HOST_DS_SELECTOR)           \
    X(GUEST_FS_SELECTOR, HOST, HOST_FS_SELECTOR)           \
    X(GUEST_GS_SELECTOR, HOST, HOST_GS_SELECTOR)           \
    X(GUEST_TR_SELECTOR, HOST, HOST_TR_SELECTOR)           \
    X(GUEST_FS_BASE, HOST, HOST_FS_BASE)                   \
    X(GUEST_GS_BASE, HOST, HOST_GS_BASE)                   \
    X(GUEST_TR_BASE, HOST, HOST_TR_BASE)                   \
    X(GUEST_GDTR_BASE, HOST, HOST_GDTR_BASE)               \
    X(GUEST_IDTR_BASE, HOST, HOST_IDTR_BASE)               \
    X(GUEST_SYSENTER_CS, HOST, HOST_SYSENTER_CS)           \
    X(GUEST_SYSENTER_ESP, HOST, HOST_SYSENTER_ESP)         \
    X(GUEST_SYSENTER_EIP, HOST, HOST_SYSENTER_EIP)         \
    X(GUEST_RSP, HOST, HOST_RSP)                           \
    X(GUEST_RIP, HOST, HOST_RIP)                           \
    X(GUEST_ES_ACCESS_RIGHTS, DATA_SEGMENT, HOST_ES_SELECTOR) \
    X(GUEST_SS_ACCESS_RIGHTS, DATA_SEGMENT, HOST_SS_SELECTOR) \
    X(GUEST_DS_ACCESS_RIGHTS, DATA_SEGMENT, HOST_DS_SELECTOR) \
    X(GUEST_FS_ACCESS_RIGHTS, DATA_SEGMENT, HOST_FS_SELECTOR) \
    X(GUEST_GS_ACCESS_RIGHTS, DATA_SEGMENT, HOST_GS_SELECTOR) \
    X(GUEST_CS_ACCESS_RIGHTS, CODE_SEGMENT, EXIT_CONTROLS) \
    X(GUEST_ES_BASE, CONSTANT, 0)                          \
    X(GUEST_CS_BASE, CONSTANT, 0)                          \
    X(GUEST_SS_BASE, CONSTANT, 0)                          \
    X(GUEST_DS_BASE, CONSTANT, 0)                          \
    X(GUEST_ES_LIMIT, CONSTANT, UINT32_MAX)                \
    X(GUEST_CS_LIMIT, CONSTANT, UINT32_MAX)                \
    X(GUEST_SS_LIMIT, CONSTANT, UINT32_MAX)                \
    X(GUEST_DS_LIMIT, CONSTANT, UINT32_MAX)                \
    X(GUEST_FS_LIMIT, CONSTANT, UINT32_MAX)                \
    X(GUEST_GS_LIMIT, CONSTANT, UINT32_MAX)                \
    X(GUEST_LDTR_SELECTOR, CONSTANT, 0)                    \
    X(GUEST_LDTR_BASE, CONSTANT, 0)                        \
    X(GUEST_LDTR_LIMIT, CONSTANT, 0)                       \
    X(GUEST_LDTR_ACCESS_RIGHTS, CONSTANT, RIGHTS_UNUSABLE) \
    X(GUEST_TR_LIMIT, CONSTANT, LIMIT_TSS)                 \
    X(GUEST_TR_ACCESS_RIGHTS, CONSTANT, RIGHTS_TSS)        \
    X(GUEST_GDTR_LIMIT, CONSTANT, LIMIT_TABLE)             \
    X(GUEST_IDTR_LIMIT, CONSTANT, LIMIT_TABLE)             \
    X(GUEST_RFLAGS, CONSTANT, X86_RFLAGS_RESERVED)         \
    X(GUEST_DR7, CONSTANT, X86_DR7_INIT)                   \
    X(GUEST_DEBUGCTL, CONSTANT, 0)                         \
    X(GUEST_PENDING_DEBUG, CONSTANT, 0)                    \
    X(GUEST_ACTIVITY, CONSTANT, 0)

#define INDEX_HOST(NAME)         VMCS_INDEX_##NAME
#define INDEX_DATA_SEGMENT(NAME) VMCS_INDEX_##NAME
#define INDEX_CODE_SEGMENT(NAME) VMCS_INDEX_##NAME
#define INDEX_CONSTANT(VALUE)    VALUE
static const struct {
    uint8_t how;   /* enum load */
    uint32_t from; /* enum vmcs_index of VMCS12, or the value */
} loaded[] = {
#define X(GUEST, HOW, FROM) {LOAD_##HOW, INDEX_##HOW(FROM)},
    LOADED(X)
#undef X
};

static const struct vmcs_field loaded_fields[] = {
#define X(GUEST, HOW, FROM) VMCS_FIELD(GUEST),
    LOADED(X)
#undef X
};
// clang-format on

_Static_assert(ARRAY_SIZE(loaded) == NESTED_HOST_VALUES, "struct nested_vcpu has another number of them");

/* The fields of VMCS12 that this is made of: nearly never written. */
#define HOST_FIELDS(WORD)                                                                                    \
    (VMCS12_BIT(EXIT_CONTROLS, WORD) | VMCS12_RANGE(HOST_ES_SELECTOR, HOST_TR_SELECTOR, WORD) |              \
     VMCS12_BIT(HOST_SYSENTER_CS, WORD) | VMCS12_RANGE(HOST_CR0, HOST_RIP, WORD))
static const uint64_t host_fields[VMCS12_FIELD_WORDS] = {HOST_FIELDS(0), HOST_FIELDS(1), HOST_FIELDS(2),
                                                         HOST_FIELDS(3)};

static uint64_t host_value(const struct vmcs12 *vmcs12, unsigned i)
{
    const uint32_t from = loaded[i].from;

    switch ((enum load)loaded[i].how) {
    case LOAD_HOST:
        return vmcs12->values[from];
    case LOAD_CONSTANT:
        return from;
    case LOAD_DATA_SEGMENT:
        return vmcs12->values[from] != 0 ? RIGHTS_DATA : RIGHTS_UNUSABLE;
    case LOAD_CODE_SEGMENT:
        break;
    }
    return (vmcs12->values[from] & VMX_EXIT_HOST_64) != 0 ? RIGHTS_CODE_64 : RIGHTS_CODE_32;
}

static void prepare(struct nested_vcpu *n)
{
    for (unsigned i = 0; i < NESTED_HOST_VALUES; i++)
        n->host_values[i] = host_value(&n->vmcs12, i);
    n->host_is_prepared = true;
}

void nested_exit_prepare(struct nested_vcpu *n)
{
    if (!n->host_is_prepared || vmcs12_any_written(&n->vmcs12, host_fields))
        prepare(n);
}

/*
 * Blocking by NMI after the exit (SDM vol. 3, "Updating Non-Register State"). Virtual NMIs leave the
 * processor's own blocking clear; without them Lv2's was the processor's.
 */
static uint64_t host_blocking(struct nested_vcpu *n, const struct nested_exit_information *information)
{
    if (is_entry_failure(information))
        return vcpu_read(n->vcpu01, VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI;
    if ((information->reason & EXIT_REASON_BASIC) == EXIT_REASON_EXCEPTION_OR_NMI &&
        EVENT_TYPE(information->interruption) == VCPU_EVENT_NMI)
        return BLOCKING_BY_NMI;
    if (vmcs12_has_pin(&n->vmcs12, VMX_PIN_VIRTUAL_NMIS))
        return 0;
    return vmcs12_read(&n->vmcs12, VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI;
}

/*
 * What Lv1 itself left in these fields, only the processor knows: writing them costs no more than asking. The
 * next look at one of them asks.
 */
static void load_fields(struct nested_vcpu *n, uint64_t blocking)
{
    struct vcpu *vcpu = n->vcpu01;

    /* Unrolled, each is a VMWRITE from memory. */
#pragma GCC unroll 64
    for (unsigned i = 0; i < NESTED_HOST_VALUES; i++)
        vcpu_write_hardware(loaded_fields[i], n->host_values[i]);
    vcpu_forget(vcpu);
    vcpu_write(vcpu, VMCS_GUEST_INTERRUPTIBILITY, blocking);
    vcpu_events_changed(vcpu);
}

/* Whether loading `state` would change anything: nothing is read from memory for it. */
static bool has_control_state(struct vcpu *vcpu, const struct cr_state *state)
{
    /* A processor that does not load IA32_EFER has Lv2's by now. */
    return vmx_controls_have(&vcpu->controls, VMX_WORD_ENTRY, VMX_ENTRY_LOAD_EFER) &&
           vcpu_read_cr0(vcpu) == state->cr0 && vcpu_read_cr3(vcpu) == state->cr3 &&
           vcpu_read_cr4(vcpu) == state->cr4 && vcpu_read_efer(vcpu) == state->efer &&
           !policy_cr_uses_pdptes(state);
}

/* What host state does not say of CR0, IA32_EFER and IA32_PAT is as before: of Lv2, if it has run. False: bad
 * PDPTEs. */
static bool load_control_state(struct nested_vcpu *n, const struct nested_exit_information *information)
{
    const struct vmcs12 *vmcs12 = &n->vmcs12;
    const bool failed = is_entry_failure(information);
    const bool long_mode = vmcs12_has_exit(vmcs12, VMX_EXIT_HOST_64);
    const uint64_t cr0 = failed ? vcpu_read_cr0(n->vcpu01) : information->kept.cr0;
    const uint64_t efer = failed ? vcpu_read_efer(n->vcpu01) : information->kept.efer;
    const uint64_t host_cr4 = vmcs12_read(vmcs12, VMCS_HOST_CR4);
    uint64_t pat = vcpu_read_pat(n->vcpu01);
    struct cr_state state = {
        .cr0 = (vmcs12_read(vmcs12, VMCS_HOST_CR0) & ~CR0_KEPT) | (cr0 & CR0_KEPT),
        .cr3 = vmcs12_read(vmcs12, VMCS_HOST_CR3),
        .cr4 = long_mode ? host_cr4 | X86_CR4_PAE : host_cr4 & ~X86_CR4_PCIDE,
        .efer = long_mode ? efer | X86_EFER_LME | X86_EFER_LMA : efer & ~(X86_EFER_LME | X86_EFER_LMA),
        .cs_l = long_mode,
    };

    if (vmcs12_has_exit(vmcs12, VMX_EXIT_LOAD_EFER))
        state.efer = vmcs12_read(vmcs12, VMCS_HOST_EFER);
    if (vmcs12_has_exit(vmcs12, VMX_EXIT_LOAD_PAT))
        pat = vmcs12_read(vmcs12, VMCS_HOST_PAT);
    else if (!failed)
        pat = information->kept.pat;
    const bool same_types = pat == vcpu_read_pat(n->vcpu01);
    vcpu_write_pat(n->vcpu01, pat);
    /* Without VPIDs the exit has translations forgotten, whatever is loaded. */
    if (vmcs12_has_secondary(vmcs12, VMX_SECONDARY_VPID) && same_types &&
        has_control_state(n->vcpu01, &state))
        return true;
    return n->ops->load_control_state(n->context, &state);
}

enum nested_abort nested_exit_load(struct nested_vcpu *n, const struct nested_exit_information *information)
{
    uint64_t blocking;

    n->mode = NESTED_ROOT;
    if (!is_entry_failure(information) && (information->kept.efer & X86_EFER_LMA) != 0 &&
        !vmcs12_has_exit(&n->vmcs12, VMX_EXIT_HOST_64))
        return NESTED_ABORT_HOST_SIZE;
    nested_exit_prepare(n);
    blocking = host_blocking(n, information);
    if (!load_control_state(n, information))
        return NESTED_ABORT_HOST_PDPTES;
    load_fields(n, blocking);
    nested_shadow_publish(n);
    return nested_msr_list_leave(n) ? NESTED_ABORT_NONE : NESTED_ABORT_LOAD_MSRS;
}

const char *nested_abort_name(enum nested_abort cause)
{
    switch (cause) {
    case NESTED_ABORT_NONE:
        return "none";
    case NESTED_ABORT_STORE_MSRS:
        return "an MSR of the exit MSR-store list cannot be read";
    case NESTED_ABORT_HOST_PDPTES:
        return "the PDPTEs of the host state are bad";
    case NESTED_ABORT_LOAD_MSRS:
        return "an MSR of the exit MSR-load list cannot be written";
    case NESTED_ABORT_HOST_SIZE:
        return "from IA-32e mode to a host of 32 bits";
    }
    return "unknown";
}
