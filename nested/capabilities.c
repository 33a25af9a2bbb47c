// SPDX-License-Identifier: BSD-2-Clause
#include "nested/capabilities.h"

#include "lib/string.h"
#include "mm/walk_ept.h"
#include "nested/vmcs12.h"

/* ---- What is offered --------------------------------------------------------------------------------- */

/* What the partition's settings have to allow as well. */
enum gate {
    GATE_NONE,
    GATE_EPT,
    GATE_EXECUTE_ONLY,
    GATE_UNRESTRICTED,
    GATE_VPID,
    GATE_RDTSCP,
    GATE_INVPCID,
    GATE_XSAVES,
    GATES,
};

/*
 * Every control of vmx/control_table.h.
 *
 * X(WORD, NAME, OFFER, GATE, "why")
 */
// clang-format off
#define OFFERED_CONTROLS(X)                                                                                  \
    X(PIN, EXTERNAL_INTERRUPT_EXITING, HARDWARE, NONE, "asked for an interrupt of Lv1's that is due")        \
    X(PIN, NMI_EXITING, HARDWARE, NONE, "asked for an NMI of Lv1's")                                         \
    X(PIN, VIRTUAL_NMIS, HARDWARE, NONE, "Lv2's blocking is that of VMCS02")                                 \
    X(PIN, PREEMPTION_TIMER, EMULATED, NONE, "one of the vCPU's deadlines")                                  \
    X(PIN, POSTED_INTERRUPTS, NEVER, NONE, "without virtual-interrupt delivery")                             \
    X(PRIMARY, INTERRUPT_WINDOW_EXITING, HARDWARE, NONE, "Lv0's own window is told from it")                 \
    X(PRIMARY, TSC_OFFSETTING, HARDWARE, NONE, "the offsets add up")                                         \
    X(PRIMARY, HLT_EXITING, HARDWARE, NONE, "an instruction's exit")                                         \
    X(PRIMARY, INVLPG_EXITING, HARDWARE, NONE, "an instruction's exit")                                      \
    X(PRIMARY, MWAIT_EXITING, HARDWARE, NONE, "an instruction's exit")                                       \
    X(PRIMARY, RDPMC_EXITING, HARDWARE, NONE, "an instruction's exit")                                       \
    X(PRIMARY, RDTSC_EXITING, HARDWARE, NONE, "an instruction's exit")                                       \
    X(PRIMARY, CR3_LOAD_EXITING, HARDWARE, NONE, "an instruction's exit")                                    \
    X(PRIMARY, CR3_STORE_EXITING, HARDWARE, NONE, "an instruction's exit")                                   \
    X(PRIMARY, TERTIARY_CONTROLS, NEVER, NONE, "none of them is offered")                                    \
    X(PRIMARY, CR8_LOAD_EXITING, HARDWARE, NONE, "an instruction's exit")                                    \
    X(PRIMARY, CR8_STORE_EXITING, HARDWARE, NONE, "an instruction's exit")                                   \
    X(PRIMARY, TPR_SHADOW, HARDWARE, NONE, "on Lv1's page, or on Lv0's (seed 004, Fig. 12)")                 \
    X(PRIMARY, NMI_WINDOW_EXITING, HARDWARE, NONE, "Lv0's own window is told from it")                       \
    X(PRIMARY, MOV_DR_EXITING, HARDWARE, NONE, "an instruction's exit")                                      \
    X(PRIMARY, UNCONDITIONAL_IO_EXITING, HARDWARE, NONE, "every port exits as it is")                        \
    X(PRIMARY, IO_BITMAPS, EMULATED, NONE, "read when a port has exited")                                    \
    X(PRIMARY, MONITOR_TRAP_FLAG, HARDWARE, NONE, "Umbra has no use of it")                                  \
    X(PRIMARY, MSR_BITMAPS, HARDWARE, NONE, "what VMCS02's lets through, neither side wants")                \
    X(PRIMARY, MONITOR_EXITING, HARDWARE, NONE, "an instruction's exit")                                     \
    X(PRIMARY, PAUSE_EXITING, HARDWARE, NONE, "an instruction's exit")                                       \
    X(PRIMARY, SECONDARY_CONTROLS, HARDWARE, NONE, "some of them are offered")                               \
    X(SECONDARY, VIRTUALIZE_APIC_ACCESSES, HARDWARE, NONE, "on Lv1's page, translated")                      \
    X(SECONDARY, EPT, EMULATED, EPT, "stages of the virtual TLB")                                            \
    X(SECONDARY, DESCRIPTOR_TABLE_EXITING, HARDWARE, NONE, "an instruction's exit")                          \
    X(SECONDARY, RDTSCP, HARDWARE, RDTSCP, "as CPUID says")                                                  \
    X(SECONDARY, VIRTUALIZE_X2APIC, HARDWARE, NONE, "on the page of the TPR shadow")                         \
    X(SECONDARY, VPID, EMULATED, VPID, "a VPID of the processor's each, or flushes")                         \
    X(SECONDARY, WBINVD_EXITING, HARDWARE, NONE, "an instruction's exit")                                    \
    X(SECONDARY, UNRESTRICTED_GUEST, HARDWARE, UNRESTRICTED, "as Umbra runs Lv1")                            \
    X(SECONDARY, APIC_REGISTER_VIRTUALIZATION, NEVER, NONE, "with virtual-interrupt delivery")               \
    X(SECONDARY, VIRTUAL_INTERRUPT_DELIVERY, NEVER, NONE, "EOI bitmaps and RVI are not merged")              \
    X(SECONDARY, PAUSE_LOOP_EXITING, HARDWARE, NONE, "an instruction's exit")                                \
    X(SECONDARY, RDRAND_EXITING, HARDWARE, NONE, "an instruction's exit")                                    \
    X(SECONDARY, INVPCID, HARDWARE, INVPCID, "as CPUID says")                                                \
    X(SECONDARY, VM_FUNCTIONS, NEVER, NONE, "an EPTP would change without an exit")                          \
    X(SECONDARY, VMCS_SHADOWING, NEVER, NONE, "one VMCS of Lv1's is current, not two")                       \
    X(SECONDARY, ENCLS_EXITING, NEVER, NONE, "SGX is not offered")                                           \
    X(SECONDARY, RDSEED_EXITING, HARDWARE, NONE, "an instruction's exit")                                    \
    X(SECONDARY, PML, NEVER, NONE, "the log would have Umbra's addresses")                                   \
    X(SECONDARY, EPT_VIOLATION_VE, NEVER, NONE, "violations are Umbra's first")                              \
    X(SECONDARY, CONCEAL_VMX_FROM_PT, NEVER, NONE, "processor trace is not offered")                         \
    X(SECONDARY, XSAVES, HARDWARE, XSAVES, "as CPUID says")                                                  \
    X(SECONDARY, PASID_TRANSLATION, NEVER, NONE, "ENQCMD is not offered")                                    \
    X(SECONDARY, MODE_BASED_EXECUTE, NEVER, NONE, "the virtual TLB has one right to execute")                \
    X(SECONDARY, SUB_PAGE_WRITE, NEVER, NONE, "pages are the unit")                                          \
    X(SECONDARY, PT_GUEST_PHYSICAL, NEVER, NONE, "processor trace is not offered")                           \
    X(SECONDARY, TSC_SCALING, NEVER, NONE, "the ratios are not merged")                                      \
    X(SECONDARY, USER_WAIT, NEVER, NONE, "WAITPKG is not offered")                                           \
    X(SECONDARY, PCONFIG, NEVER, NONE, "memory keys are not offered")                                        \
    X(SECONDARY, ENCLV_EXITING, NEVER, NONE, "SGX is not offered")                                           \
    X(SECONDARY, BUS_LOCK_DETECTION, NEVER, NONE, "not policed")                                             \
    X(SECONDARY, INSTRUCTION_TIMEOUT, NEVER, NONE, "not policed")                                            \
    X(TERTIARY, LOADIWKEY_EXITING, NEVER, NONE, "key locker is not offered")                                 \
    X(TERTIARY, HLAT, NEVER, NONE, "not offered to Lv1 either")                                              \
    X(TERTIARY, EPT_PAGING_WRITE, NEVER, NONE, "goes with HLAT")                                             \
    X(TERTIARY, GUEST_PAGING_VERIFICATION, NEVER, NONE, "goes with HLAT")                                    \
    X(TERTIARY, IPI_VIRTUALIZATION, NEVER, NONE, "needs posted interrupts")                                  \
    X(TERTIARY, MSR_LIST_INSTRUCTIONS, NEVER, NONE, "not offered to Lv1 either")                             \
    X(TERTIARY, VIRTUALIZE_SPEC_CTRL, NEVER, NONE, "switched whole")                                         \
    X(EXIT, SAVE_DEBUG_CONTROLS, HARDWARE, NONE, "DR7, IA32_DEBUGCTL")                                       \
    X(EXIT, HOST_64, HARDWARE, NONE, "Lv1 may run in 64-bit mode")                                           \
    X(EXIT, LOAD_PERF_GLOBAL_CTRL, NEVER, NONE, "no counters are offered")                                   \
    X(EXIT, ACKNOWLEDGE_INTERRUPT, HARDWARE, NONE, "by Lv1's local APIC")                                    \
    X(EXIT, SAVE_PAT, HARDWARE, NONE, "a register's switch")                                                 \
    X(EXIT, LOAD_PAT, HARDWARE, NONE, "a register's switch")                                                 \
    X(EXIT, SAVE_EFER, HARDWARE, NONE, "a register's switch")                                                \
    X(EXIT, LOAD_EFER, HARDWARE, NONE, "a register's switch")                                                \
    X(EXIT, SAVE_PREEMPTION_TIMER, EMULATED, NONE, "what is left until the deadline")                        \
    X(EXIT, CLEAR_BNDCFGS, NEVER, NONE, "MPX is not offered")                                                \
    X(EXIT, CONCEAL_FROM_PT, NEVER, NONE, "processor trace is not offered")                                  \
    X(EXIT, CLEAR_RTIT_CTL, NEVER, NONE, "processor trace is not offered")                                   \
    X(EXIT, CLEAR_LBR_CTL, NEVER, NONE, "branch records are not offered")                                    \
    X(EXIT, CLEAR_UINV, NEVER, NONE, "user interrupts are not offered")                                      \
    X(EXIT, LOAD_CET, NEVER, NONE, "CET is not offered")                                                     \
    X(EXIT, LOAD_PKRS, NEVER, NONE, "supervisor keys are not offered")                                       \
    X(EXIT, SAVE_PERF_GLOBAL_CTRL, NEVER, NONE, "no counters are offered")                                   \
    X(EXIT, SECONDARY_CONTROLS, NEVER, NONE, "none of them is offered")                                      \
    X(EXIT2, SAVE_FRED, NEVER, NONE, "FRED is not offered")                                                  \
    X(EXIT2, LOAD_FRED, NEVER, NONE, "FRED is not offered")                                                  \
    X(EXIT2, PREMATURELY_BUSY, NEVER, NONE, "CET is not offered")                                            \
    X(ENTRY, LOAD_DEBUG_CONTROLS, HARDWARE, NONE, "DR7, IA32_DEBUGCTL")                                      \
    X(ENTRY, IA32E_GUEST, HARDWARE, NONE, "Lv2 may be in IA-32e mode")                                       \
    X(ENTRY, TO_SMM, NEVER, NONE, "no SMM monitor")                                                          \
    X(ENTRY, DEACTIVATE_DUAL_MONITOR, NEVER, NONE, "no SMM monitor")                                         \
    X(ENTRY, LOAD_PERF_GLOBAL_CTRL, NEVER, NONE, "no counters are offered")                                  \
    X(ENTRY, LOAD_PAT, HARDWARE, NONE, "a register's switch")                                                \
    X(ENTRY, LOAD_EFER, HARDWARE, NONE, "a register's switch")                                               \
    X(ENTRY, LOAD_BNDCFGS, NEVER, NONE, "MPX is not offered")                                                \
    X(ENTRY, CONCEAL_FROM_PT, NEVER, NONE, "processor trace is not offered")                                 \
    X(ENTRY, LOAD_RTIT_CTL, NEVER, NONE, "processor trace is not offered")                                   \
    X(ENTRY, LOAD_UINV, NEVER, NONE, "user interrupts are not offered")                                      \
    X(ENTRY, LOAD_CET, NEVER, NONE, "CET is not offered")                                                    \
    X(ENTRY, LOAD_LBR_CTL, NEVER, NONE, "branch records are not offered")                                    \
    X(ENTRY, LOAD_PKRS, NEVER, NONE, "supervisor keys are not offered")                                      \
    X(ENTRY, LOAD_FRED, NEVER, NONE, "FRED is not offered")

/*
 * Every other capability that is one bit of a register.
 *
 * X(SOURCE, MASK, OFFER, GATE, "why")
 */
#define OFFERED_FEATURES(X)                                                                                  \
    X(BASIC, VMX_BASIC_32BIT_ADDRESS, NEVER, NONE, "regions are wherever memory is")                         \
    X(BASIC, VMX_BASIC_DUAL_MONITOR, NEVER, NONE, "no SMM monitor")                                          \
    X(BASIC, VMX_BASIC_INS_OUTS_INFO, HARDWARE, NONE, "passed on from VMCS02")                               \
    X(BASIC, VMX_BASIC_TRUE_CONTROLS, EMULATED, NONE, "what only the processor insists on, Umbra handles")   \
    X(BASIC, VMX_BASIC_ANY_ERROR_CODE, NEVER, NONE, "goes with CET")                                         \
    X(MISC, VMX_MISC_STORE_LMA, EMULATED, NONE, "by the logical exit")                                       \
    X(MISC, VMX_MISC_ACTIVITY_HLT, EMULATED, NONE, "the vCPU waits")                                         \
    X(MISC, VMX_MISC_ACTIVITY_SHUTDOWN, NEVER, NONE, "a partition's processor never rests in it")            \
    X(MISC, VMX_MISC_ACTIVITY_SIPI, EMULATED, NONE, "the vCPU waits")                                        \
    X(MISC, VMX_MISC_PROCESSOR_TRACE, NEVER, NONE, "processor trace is not offered")                         \
    X(MISC, VMX_MISC_SMBASE_MSR, NEVER, NONE, "no SMM")                                                      \
    X(MISC, VMX_MISC_SMM_MONITOR_CTL, NEVER, NONE, "no SMM")                                                 \
    X(MISC, VMX_MISC_VMWRITE_ANY, NEVER, NONE, "exit information is read-only")                              \
    X(MISC, VMX_MISC_INJECT_ZERO_LENGTH, HARDWARE, NONE, "the length is passed on to VMCS02")                \
    X(EPT_VPID, VMX_EPT_EXECUTE_ONLY, HARDWARE, EXECUTE_ONLY, "x86 page tables cannot express them")         \
    X(EPT_VPID, VMX_EPT_WALK_4, EMULATED, EPT, "by the walker")                                              \
    X(EPT_VPID, VMX_EPT_WALK_5, NEVER, NONE, "no guest-physical address is as wide")                         \
    X(EPT_VPID, VMX_EPT_MEMORY_UC, EMULATED, EPT, "the walker reads coherently in any case")                 \
    X(EPT_VPID, VMX_EPT_MEMORY_WB, EMULATED, EPT, "by the walker")                                           \
    X(EPT_VPID, VMX_EPT_PAGE_2M, EMULATED, EPT, "in pieces where the processor's are smaller")               \
    X(EPT_VPID, VMX_EPT_PAGE_1G, EMULATED, EPT, "in pieces where the processor's are smaller")               \
    X(EPT_VPID, VMX_EPT_INVEPT, EMULATED, EPT, "drops translations of the virtual TLB")                      \
    X(EPT_VPID, VMX_EPT_ACCESSED_DIRTY, EMULATED, EPT, "set by the walker")                                  \
    X(EPT_VPID, VMX_EPT_ADVANCED_EXIT_INFO, NEVER, NONE, "the walker does not know the linear side")         \
    X(EPT_VPID, VMX_EPT_SUPERVISOR_SHADOW_STACK, NEVER, NONE, "CET is not offered")                          \
    X(EPT_VPID, VMX_EPT_INVEPT_SINGLE, EMULATED, EPT, "likewise")                                            \
    X(EPT_VPID, VMX_EPT_INVEPT_ALL, EMULATED, EPT, "likewise")                                               \
    X(EPT_VPID, VMX_VPID_INVVPID, EMULATED, VPID, "drops translations of linear addresses")                  \
    X(EPT_VPID, VMX_VPID_INVVPID_ADDRESS, EMULATED, VPID, "likewise")                                        \
    X(EPT_VPID, VMX_VPID_INVVPID_SINGLE, EMULATED, VPID, "likewise")                                         \
    X(EPT_VPID, VMX_VPID_INVVPID_ALL, EMULATED, VPID, "likewise")                                            \
    X(EPT_VPID, VMX_VPID_INVVPID_RETAIN_GLOBALS, EMULATED, VPID, "likewise")
// clang-format on

struct offer {
    uint8_t word;  /* enum vmx_word */
    uint8_t offer; /* enum nested_offer */
    uint8_t gate;  /* enum gate */
    uint32_t mask;
    const char *reason;
};

static const struct offer offers[VMX_CONTROL_ROWS] = {
#define X(WORD, NAME, OFFER, GATE, WHY)                                                                      \
    [VMX_CONTROL_##WORD##_##NAME] = {.word = VMX_WORD_##WORD,                                                \
                                     .offer = NESTED_OFFER_##OFFER,                                          \
                                     .gate = GATE_##GATE,                                                    \
                                     .mask = VMX_##WORD##_##NAME,                                            \
                                     .reason = WHY},
    OFFERED_CONTROLS(X)
#undef X
};

/* No control has two rows (the compiler warns of that), so as many rows as controls are all of them. */
#define X(WORD, NAME, OFFER, GATE, WHY) +1
_Static_assert(0 OFFERED_CONTROLS(X) == VMX_CONTROL_ROWS, "a control has no row");
#undef X

/* The registers that tell of other capabilities than controls. */
enum source {
    SOURCE_BASIC,
    SOURCE_MISC,
    SOURCE_EPT_VPID,
    SOURCES,
};

static const struct {
    uint8_t source; /* enum source */
    uint8_t offer;  /* enum nested_offer */
    uint8_t gate;   /* enum gate */
    uint64_t mask;
} feature_offers[] = {
#define X(SOURCE, MASK, OFFER, GATE, WHY) {SOURCE_##SOURCE, NESTED_OFFER_##OFFER, GATE_##GATE, MASK},
    OFFERED_FEATURES(X)
#undef X
};

/*
 * A control that is offered only if another one is. IA32_EFER and IA32_PAT are switched wholly or not at all,
 * as for Umbra's own guests. A row comes after those on what it needs.
 */
static const struct {
    uint8_t row;
    uint8_t needs;
} dependencies[] = {
    {VMX_CONTROL_SECONDARY_VIRTUALIZE_X2APIC, VMX_CONTROL_PRIMARY_TPR_SHADOW},
    {VMX_CONTROL_ENTRY_LOAD_PAT, VMX_CONTROL_EXIT_SAVE_PAT},
    {VMX_CONTROL_ENTRY_LOAD_PAT, VMX_CONTROL_EXIT_LOAD_PAT},
    {VMX_CONTROL_EXIT_SAVE_PAT, VMX_CONTROL_ENTRY_LOAD_PAT},
    {VMX_CONTROL_EXIT_LOAD_PAT, VMX_CONTROL_ENTRY_LOAD_PAT},
    {VMX_CONTROL_ENTRY_LOAD_EFER, VMX_CONTROL_EXIT_SAVE_EFER},
    {VMX_CONTROL_ENTRY_LOAD_EFER, VMX_CONTROL_EXIT_LOAD_EFER},
    {VMX_CONTROL_EXIT_SAVE_EFER, VMX_CONTROL_ENTRY_LOAD_EFER},
    {VMX_CONTROL_EXIT_LOAD_EFER, VMX_CONTROL_ENTRY_LOAD_EFER},
};

/*
 * The default-1 class (SDM vol. 3, A.2): bits that are reserved and must be 1, and controls that must be so
 * as far as the registers say that have no TRUE in their name.
 */
static const struct {
    uint32_t reserved;
    uint32_t controls;
} default_1[VMX_WORDS] = {
    [VMX_WORD_PIN] = {0x00000016, 0},
    [VMX_WORD_PRIMARY] = {0x04006172, VMX_PRIMARY_CR3_LOAD_EXITING | VMX_PRIMARY_CR3_STORE_EXITING},
    [VMX_WORD_EXIT] = {0x00036dfb, VMX_EXIT_SAVE_DEBUG_CONTROLS},
    [VMX_WORD_ENTRY] = {0x000011fb, VMX_ENTRY_LOAD_DEBUG_CONTROLS},
};

#define CR3_TARGETS 4ULL

/* ---- Derivation -------------------------------------------------------------------------------------- */

static bool is_offered(const struct nested_capabilities_settings *settings, enum nested_offer offer,
                       enum gate gate, bool in_hardware)
{
    const bool open[GATES] = {
        [GATE_NONE] = true,
        [GATE_EPT] = settings->ept,
        [GATE_EXECUTE_ONLY] = settings->ept && settings->execute_only,
        [GATE_UNRESTRICTED] = settings->ept && settings->unrestricted_guest,
        [GATE_VPID] = settings->vpid,
        [GATE_RDTSCP] = settings->rdtscp,
        [GATE_INVPCID] = settings->invpcid,
        [GATE_XSAVES] = settings->xsaves,
    };

    return open[gate] && (offer == NESTED_OFFER_EMULATED || (offer == NESTED_OFFER_HARDWARE && in_hardware));
}

static void derive_controls(struct vmx_capabilities *offered,
                            const struct nested_capabilities_settings *settings)
{
    uint32_t may[VMX_WORDS] = {0};

    for (unsigned i = 0; i < VMX_CONTROL_ROWS; i++) {
        const struct offer row = offers[i];
        bool in_hardware = vmx_controls_available(settings->hardware, (enum vmx_word)row.word, row.mask);

        if (is_offered(settings, (enum nested_offer)row.offer, (enum gate)row.gate, in_hardware))
            may[row.word] |= row.mask;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(dependencies); i++) {
        const struct offer *row = &offers[dependencies[i].row];
        const struct offer *needs = &offers[dependencies[i].needs];

        if (!(may[needs->word] & needs->mask))
            may[row->word] &= ~row->mask;
    }
    /* Of words of 64 bits, which are told otherwise, nothing is offered. */
    for (unsigned word = 0; word < VMX_WORDS; word++)
        offered->controls[word] =
            (uint64_t)(may[word] | default_1[word].reserved) << 32 | default_1[word].reserved;
}

static void derive_features(struct vmx_capabilities *offered,
                            const struct nested_capabilities_settings *settings)
{
    const struct vmx_capabilities *hardware = settings->hardware;
    const uint64_t has[SOURCES] = {hardware->basic, hardware->misc, hardware->ept_vpid};
    uint64_t *to[SOURCES] = {&offered->basic, &offered->misc, &offered->ept_vpid};

    offered->basic = VMCS12_REVISION | (uint64_t)PAGE_SIZE << VMX_BASIC_REGION_SHIFT |
                     (uint64_t)MEMORY_TYPE_WB << VMX_BASIC_TYPE_SHIFT;
    /* Lists of up to 512 MSRs are what 0 in their field means. */
    offered->misc = (hardware->misc & VMX_MISC_TIMER_SHIFT) | CR3_TARGETS << VMX_MISC_CR3_TARGETS_SHIFT;
    for (unsigned i = 0; i < ARRAY_SIZE(feature_offers); i++) {
        if (is_offered(settings, (enum nested_offer)feature_offers[i].offer,
                       (enum gate)feature_offers[i].gate,
                       (has[feature_offers[i].source] & feature_offers[i].mask) != 0))
            *to[feature_offers[i].source] |= feature_offers[i].mask;
    }
}

/* The highest index of a field that exists, where an encoding has it (SDM vol. 3, A.9). */
static uint64_t derive_enum(const struct vmx_capabilities *offered)
{
    uint64_t highest = 0;

    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        if (vmcs_field_exists(vmcs_field_at(i), offered))
            highest = max_u64(highest, vmcs_field_at(i).encoding & 0x3fe);
    }
    return highest;
}

static void derive_fields(struct nested_capabilities *capabilities)
{
    memset(capabilities->fields, 0, sizeof(capabilities->fields));
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        if (vmcs_field_exists(vmcs_field_at(i), &capabilities->offered))
            capabilities->fields[i / 64] |= BIT(i % 64);
}

void nested_capabilities_derive(struct nested_capabilities *capabilities,
                                const struct nested_capabilities_settings *settings)
{
    const struct vmx_capabilities *hardware = settings->hardware;
    struct vmx_capabilities *offered = &capabilities->offered;

    *offered = (struct vmx_capabilities){
        .intel_vmx = true,
        .feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON_OUTSIDE_SMX,
        .cr0_fixed0 = hardware->cr0_fixed0,
        .cr0_fixed1 = hardware->cr0_fixed1,
        .cr4_fixed0 = hardware->cr4_fixed0,
        .cr4_fixed1 = hardware->cr4_fixed1 & (settings->cr4 | hardware->cr4_fixed0),
    };
    derive_controls(offered, settings);
    derive_features(offered, settings);
    offered->vmcs_enum = derive_enum(offered);
    derive_fields(capabilities);
}

/* ---- Questions --------------------------------------------------------------------------------------- */

/* A word as the register without TRUE has it. */
static uint64_t plain(const struct vmx_capabilities *offered, enum vmx_word word)
{
    return offered->controls[word] | (default_1[word].controls & vmx_controls_may(offered, word));
}

bool nested_capabilities_read_msr(const struct nested_capabilities *capabilities, uint32_t index,
                                  uint64_t *value)
{
    const struct vmx_capabilities *offered = &capabilities->offered;

    switch (index) {
    case MSR_IA32_FEATURE_CONTROL:
        *value = offered->feature_control;
        break;
    case MSR_IA32_VMX_BASIC:
        *value = offered->basic;
        break;
    case MSR_IA32_VMX_PINBASED_CTLS:
        *value = plain(offered, VMX_WORD_PIN);
        break;
    case MSR_IA32_VMX_PROCBASED_CTLS:
        *value = plain(offered, VMX_WORD_PRIMARY);
        break;
    case MSR_IA32_VMX_EXIT_CTLS:
        *value = plain(offered, VMX_WORD_EXIT);
        break;
    case MSR_IA32_VMX_ENTRY_CTLS:
        *value = plain(offered, VMX_WORD_ENTRY);
        break;
    case MSR_IA32_VMX_MISC:
        *value = offered->misc;
        break;
    case MSR_IA32_VMX_CR0_FIXED0:
        *value = offered->cr0_fixed0;
        break;
    case MSR_IA32_VMX_CR0_FIXED1:
        *value = offered->cr0_fixed1;
        break;
    case MSR_IA32_VMX_CR4_FIXED0:
        *value = offered->cr4_fixed0;
        break;
    case MSR_IA32_VMX_CR4_FIXED1:
        *value = offered->cr4_fixed1;
        break;
    case MSR_IA32_VMX_VMCS_ENUM:
        *value = offered->vmcs_enum;
        break;
    case MSR_IA32_VMX_PROCBASED_CTLS2:
        *value = offered->controls[VMX_WORD_SECONDARY];
        break;
    case MSR_IA32_VMX_EPT_VPID_CAP:
        if (offered->ept_vpid == 0)
            return false;
        *value = offered->ept_vpid;
        break;
    case MSR_IA32_VMX_TRUE_PINBASED_CTLS:
        *value = offered->controls[VMX_WORD_PIN];
        break;
    case MSR_IA32_VMX_TRUE_PROCBASED_CTLS:
        *value = offered->controls[VMX_WORD_PRIMARY];
        break;
    case MSR_IA32_VMX_TRUE_EXIT_CTLS:
        *value = offered->controls[VMX_WORD_EXIT];
        break;
    case MSR_IA32_VMX_TRUE_ENTRY_CTLS:
        *value = offered->controls[VMX_WORD_ENTRY];
        break;
    default:
        return false;
    }
    return true;
}

bool nested_capabilities_eptp_valid(const struct nested_capabilities *capabilities, uint64_t eptp,
                                    uint8_t physical_bits)
{
    const struct walk_ept_features features = {capabilities->offered.ept_vpid, physical_bits};
    struct walk_ept scratch;

    return walk_ept_set(&scratch, eptp, &features) == 0;
}

enum nested_offer nested_control_offer(enum vmx_control_row row)
{
    return (enum nested_offer)offers[row].offer;
}

const char *nested_control_reason(enum vmx_control_row row)
{
    return offers[row].reason;
}
