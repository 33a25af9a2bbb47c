// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Every VMX control that the SDM defines (vol. 3, 24.6 to 24.8), and what Umbra wants of it. One table: the
 * constants, the names, the computation and the listing of capabilities are all made from it.
 *
 * X(WORD, bit, NAME, "the SDM's name", WANT, "why")
 *
 * WANT is one of
 *   REQUIRED   always 1; without it Umbra does not run
 *   PREFERRED  1 where the processor can, else Umbra does without
 *   DEMANDED   1 when the demands say so (struct vmx_demands)
 *   BY_REGIME  likewise, for a regime (enum vcpu_regime): a processor that lacks it, or insists on it, may
 *              still have the other regime
 *   RUNTIME    0 at first, toggled while the guest runs; without it Umbra does not run
 *   BY_MODE    0 at first; where the processor can, follows the mode of the local APIC (vmx/apicv.h) or of a
 *              guest hypervisor (vcpu_link_shadow)
 *   NEVER      always 0
 */
// clang-format off
#define VMX_CONTROLS(X)                                                                                      \
    X(PIN, 0, EXTERNAL_INTERRUPT_EXITING, "external-interrupt exiting", REQUIRED, "interrupts are Umbra's")  \
    X(PIN, 3, NMI_EXITING, "NMI exiting", REQUIRED, "NMIs are Umbra's")                                      \
    X(PIN, 5, VIRTUAL_NMIS, "virtual NMIs", REQUIRED, "a guest has its own blocking, and a window")          \
    X(PIN, 6, PREEMPTION_TIMER, "VMX-preemption timer", PREFERRED, "else the local APIC timer ends a slice") \
    X(PIN, 7, POSTED_INTERRUPTS, "posted interrupts", BY_MODE, "with virtual-interrupt delivery")             \
    X(PRIMARY, 2, INTERRUPT_WINDOW_EXITING, "interrupt-window exiting", RUNTIME, "an interrupt waits")       \
    X(PRIMARY, 3, TSC_OFFSETTING, "TSC offsetting", REQUIRED, "a partition's time starts at 0")              \
    X(PRIMARY, 7, HLT_EXITING, "HLT exiting", REQUIRED, "a halted vCPU gives its processor back")            \
    X(PRIMARY, 9, INVLPG_EXITING, "INVLPG exiting", BY_REGIME, "by shadow paging")                           \
    X(PRIMARY, 10, MWAIT_EXITING, "MWAIT exiting", REQUIRED, "not offered: #UD")                             \
    X(PRIMARY, 11, RDPMC_EXITING, "RDPMC exiting", REQUIRED, "no counters are offered: #GP")                 \
    X(PRIMARY, 12, RDTSC_EXITING, "RDTSC exiting", NEVER, "the offset suffices")                             \
    X(PRIMARY, 15, CR3_LOAD_EXITING, "CR3-load exiting", BY_REGIME, "by the policy of CR3")                  \
    X(PRIMARY, 16, CR3_STORE_EXITING, "CR3-store exiting", BY_REGIME, "by the policy of CR3")                \
    X(PRIMARY, 17, TERTIARY_CONTROLS, "activate tertiary controls", NEVER, "none of them is wanted")         \
    X(PRIMARY, 19, CR8_LOAD_EXITING, "CR8-load exiting", DEMANDED, "by the policy of the TPR")               \
    X(PRIMARY, 20, CR8_STORE_EXITING, "CR8-store exiting", DEMANDED, "by the policy of the TPR")             \
    X(PRIMARY, 21, TPR_SHADOW, "use TPR shadow", DEMANDED, "by the policy of the TPR")                       \
    X(PRIMARY, 22, NMI_WINDOW_EXITING, "NMI-window exiting", RUNTIME, "an NMI waits")                        \
    X(PRIMARY, 23, MOV_DR_EXITING, "MOV-DR exiting", RUNTIME, "until its own ones are loaded")               \
    X(PRIMARY, 24, UNCONDITIONAL_IO_EXITING, "unconditional I/O exiting", REQUIRED, "every port is virtual") \
    X(PRIMARY, 25, IO_BITMAPS, "use I/O bitmaps", DEMANDED, "when a partition owns ports")                   \
    X(PRIMARY, 27, MONITOR_TRAP_FLAG, "monitor trap flag", NEVER, "guests are not single-stepped")           \
    X(PRIMARY, 28, MSR_BITMAPS, "use MSR bitmaps", REQUIRED, "by the MSR policy")                            \
    X(PRIMARY, 29, MONITOR_EXITING, "MONITOR exiting", REQUIRED, "not offered: #UD")                         \
    X(PRIMARY, 30, PAUSE_EXITING, "PAUSE exiting", NEVER, "only loops of it are of interest")                \
    X(PRIMARY, 31, SECONDARY_CONTROLS, "activate secondary controls", REQUIRED, "EPT and VPID stand there")  \
    X(SECONDARY, 0, VIRTUALIZE_APIC_ACCESSES, "virtualize APIC accesses", BY_MODE, "while in xAPIC mode")    \
    X(SECONDARY, 1, EPT, "enable EPT", BY_REGIME, "else shadow paging")                                      \
    X(SECONDARY, 2, DESCRIPTOR_TABLE_EXITING, "descriptor-table exiting", NEVER, "the guest's own")          \
    X(SECONDARY, 3, RDTSCP, "enable RDTSCP", PREFERRED, "RDTSCP and RDPID, offered where obtained")          \
    X(SECONDARY, 4, VIRTUALIZE_X2APIC, "virtualize x2APIC mode", BY_MODE, "while in x2APIC mode")            \
    X(SECONDARY, 5, VPID, "enable VPID", PREFERRED, "else each transition flushes the TLB")                  \
    X(SECONDARY, 6, WBINVD_EXITING, "WBINVD exiting", PREFERRED, "guest memory is coherent")                 \
    X(SECONDARY, 7, UNRESTRICTED_GUEST, "unrestricted guest", BY_REGIME, "for guests without paging")        \
    X(SECONDARY, 8, APIC_REGISTER_VIRTUALIZATION, "APIC-register virtualization", BY_MODE, "in both")        \
    X(SECONDARY, 9, VIRTUAL_INTERRUPT_DELIVERY, "virtual-interrupt delivery", BY_MODE, "in both")            \
    X(SECONDARY, 10, PAUSE_LOOP_EXITING, "PAUSE-loop exiting", DEMANDED, "when vCPUs share a processor")     \
    X(SECONDARY, 11, RDRAND_EXITING, "RDRAND exiting", NEVER, "random numbers are nobody's")                 \
    X(SECONDARY, 12, INVPCID, "enable INVPCID", PREFERRED, "offered where obtained")                         \
    X(SECONDARY, 13, VM_FUNCTIONS, "enable VM functions", NEVER, "none is offered")                          \
    X(SECONDARY, 14, VMCS_SHADOWING, "VMCS shadowing", BY_MODE, "while a guest hypervisor has a VMCS")       \
    X(SECONDARY, 15, ENCLS_EXITING, "enable ENCLS exiting", PREFERRED, "SGX is not offered: #UD")            \
    X(SECONDARY, 16, RDSEED_EXITING, "RDSEED exiting", NEVER, "random numbers are nobody's")                 \
    X(SECONDARY, 17, PML, "enable page-modification logging", NEVER, "nothing reads the log")                \
    X(SECONDARY, 18, EPT_VIOLATION_VE, "EPT-violation #VE", NEVER, "violations are Umbra's")                 \
    X(SECONDARY, 19, CONCEAL_VMX_FROM_PT, "conceal VMX from PT", NEVER, "processor trace is off")            \
    X(SECONDARY, 20, XSAVES, "enable XSAVES/XRSTORS", PREFERRED, "offered where obtained")                   \
    X(SECONDARY, 21, PASID_TRANSLATION, "PASID translation", NEVER, "ENQCMD is not offered")                 \
    X(SECONDARY, 22, MODE_BASED_EXECUTE, "mode-based execute control for EPT", DEMANDED, "for nesting")      \
    X(SECONDARY, 23, SUB_PAGE_WRITE, "sub-page write permissions for EPT", NEVER, "pages are the unit")      \
    X(SECONDARY, 24, PT_GUEST_PHYSICAL, "PT uses guest physical addresses", NEVER, "processor trace is off") \
    X(SECONDARY, 25, TSC_SCALING, "use TSC scaling", DEMANDED, "for a rate of one's own")                    \
    X(SECONDARY, 26, USER_WAIT, "enable user wait and pause", NEVER, "WAITPKG is not offered: #UD")          \
    X(SECONDARY, 27, PCONFIG, "enable PCONFIG", NEVER, "memory keys are not offered: #UD")                   \
    X(SECONDARY, 28, ENCLV_EXITING, "enable ENCLV exiting", PREFERRED, "SGX is not offered: #UD")            \
    X(SECONDARY, 30, BUS_LOCK_DETECTION, "VMM bus-lock detection", NEVER, "not policed")                     \
    X(SECONDARY, 31, INSTRUCTION_TIMEOUT, "instruction timeout", NEVER, "not policed")                       \
    X(TERTIARY, 0, LOADIWKEY_EXITING, "LOADIWKEY exiting", NEVER, "key locker is not offered")               \
    X(TERTIARY, 1, HLAT, "enable HLAT", NEVER, "not offered")                                                \
    X(TERTIARY, 2, EPT_PAGING_WRITE, "EPT paging-write control", NEVER, "goes with HLAT")                    \
    X(TERTIARY, 3, GUEST_PAGING_VERIFICATION, "guest-paging verification", NEVER, "goes with HLAT")          \
    X(TERTIARY, 4, IPI_VIRTUALIZATION, "IPI virtualization", NEVER, "needs posted interrupts")               \
    X(TERTIARY, 6, MSR_LIST_INSTRUCTIONS, "enable MSR-list instructions", NEVER, "not offered: #UD")         \
    X(TERTIARY, 7, VIRTUALIZE_SPEC_CTRL, "virtualize IA32_SPEC_CTRL", NEVER, "switched whole")               \
    X(EXIT, 2, SAVE_DEBUG_CONTROLS, "save debug controls", REQUIRED, "DR7, IA32_DEBUGCTL")                   \
    X(EXIT, 9, HOST_64, "host address-space size", REQUIRED, "Umbra runs in 64-bit mode")                    \
    X(EXIT, 12, LOAD_PERF_GLOBAL_CTRL, "exit: load IA32_PERF_GLOBAL_CTRL", NEVER, "no counters")             \
    X(EXIT, 15, ACKNOWLEDGE_INTERRUPT, "acknowledge interrupt on exit", REQUIRED, "for its vector")          \
    X(EXIT, 18, SAVE_PAT, "save IA32_PAT", PREFERRED, "with EPT, IA32_PAT is the guest's")                   \
    X(EXIT, 19, LOAD_PAT, "exit: load IA32_PAT", PREFERRED, "and Umbra has its own")                         \
    X(EXIT, 20, SAVE_EFER, "save IA32_EFER", PREFERRED, "IA32_EFER is the guest's")                          \
    X(EXIT, 21, LOAD_EFER, "exit: load IA32_EFER", PREFERRED, "and Umbra has its own")                       \
    X(EXIT, 22, SAVE_PREEMPTION_TIMER, "save VMX-preemption timer", PREFERRED, "what is left of a slice")    \
    X(EXIT, 23, CLEAR_BNDCFGS, "clear IA32_BNDCFGS", NEVER, "MPX is not offered")                            \
    X(EXIT, 24, CONCEAL_FROM_PT, "exit: conceal VMX from PT", NEVER, "processor trace is off")               \
    X(EXIT, 25, CLEAR_RTIT_CTL, "clear IA32_RTIT_CTL", NEVER, "processor trace is off")                      \
    X(EXIT, 26, CLEAR_LBR_CTL, "clear IA32_LBR_CTL", NEVER, "branch records are not offered")                \
    X(EXIT, 27, CLEAR_UINV, "clear UINV", NEVER, "user interrupts are not offered")                          \
    X(EXIT, 28, LOAD_CET, "exit: load CET state", NEVER, "CET is not offered")                               \
    X(EXIT, 29, LOAD_PKRS, "exit: load PKRS", NEVER, "supervisor keys are not offered")                      \
    X(EXIT, 30, SAVE_PERF_GLOBAL_CTRL, "save IA32_PERF_GLOBAL_CTRL", NEVER, "no counters")                   \
    X(EXIT, 31, SECONDARY_CONTROLS, "activate secondary VM-exit controls", NEVER, "none of them is wanted")  \
    X(EXIT2, 0, SAVE_FRED, "save IA32_FRED", NEVER, "FRED is not offered")                                   \
    X(EXIT2, 1, LOAD_FRED, "exit: load IA32_FRED", NEVER, "FRED is not offered")                             \
    X(EXIT2, 3, PREMATURELY_BUSY, "prematurely busy shadow stack", NEVER, "CET is not offered")              \
    X(ENTRY, 2, LOAD_DEBUG_CONTROLS, "load debug controls", REQUIRED, "DR7, IA32_DEBUGCTL")                  \
    X(ENTRY, 9, IA32E_GUEST, "IA-32e mode guest", RUNTIME, "follows the guest's IA32_EFER.LMA")              \
    X(ENTRY, 10, TO_SMM, "entry to SMM", NEVER, "no SMM monitor")                                            \
    X(ENTRY, 11, DEACTIVATE_DUAL_MONITOR, "deactivate dual-monitor treatment", NEVER, "no SMM monitor")      \
    X(ENTRY, 13, LOAD_PERF_GLOBAL_CTRL, "entry: load IA32_PERF_GLOBAL_CTRL", NEVER, "no counters")           \
    X(ENTRY, 14, LOAD_PAT, "entry: load IA32_PAT", PREFERRED, "with EPT, IA32_PAT is the guest's")           \
    X(ENTRY, 15, LOAD_EFER, "entry: load IA32_EFER", PREFERRED, "else vmx/state.h switches what differs")    \
    X(ENTRY, 16, LOAD_BNDCFGS, "load IA32_BNDCFGS", NEVER, "MPX is not offered")                             \
    X(ENTRY, 17, CONCEAL_FROM_PT, "entry: conceal VMX from PT", NEVER, "processor trace is off")             \
    X(ENTRY, 18, LOAD_RTIT_CTL, "load IA32_RTIT_CTL", NEVER, "processor trace is off")                       \
    X(ENTRY, 19, LOAD_UINV, "load UINV", NEVER, "user interrupts are not offered")                           \
    X(ENTRY, 20, LOAD_CET, "entry: load CET state", NEVER, "CET is not offered")                             \
    X(ENTRY, 21, LOAD_LBR_CTL, "load guest IA32_LBR_CTL", NEVER, "branch records are not offered")           \
    X(ENTRY, 22, LOAD_PKRS, "entry: load PKRS", NEVER, "supervisor keys are not offered")                    \
    X(ENTRY, 23, LOAD_FRED, "entry: load IA32_FRED", NEVER, "FRED is not offered")
// clang-format on

/* The words that controls are in. */
enum vmx_word {
    VMX_WORD_PIN,       /* pin-based VM-execution controls */
    VMX_WORD_PRIMARY,   /* primary processor-based VM-execution controls */
    VMX_WORD_SECONDARY, /* secondary processor-based VM-execution controls */
    VMX_WORD_TERTIARY,  /* tertiary processor-based VM-execution controls: 64 bits, no bit must be 1 */
    VMX_WORD_EXIT,      /* primary VM-exit controls */
    VMX_WORD_EXIT2,     /* secondary VM-exit controls: 64 bits, no bit must be 1 */
    VMX_WORD_ENTRY,     /* VM-entry controls */
    VMX_WORDS,
};

/* VMX_PIN_NMI_EXITING, VMX_PRIMARY_HLT_EXITING, VMX_SECONDARY_EPT, VMX_EXIT_HOST_64 and so on: masks. */
enum vmx_control {
#define X(WORD, BIT, NAME, TEXT, WANT, WHY) VMX_##WORD##_##NAME = 1U << (BIT),
    VMX_CONTROLS(X)
#undef X
};

/* VMX_CONTROL_PIN_NMI_EXITING …: the rows of the table, counted from 0. */
enum vmx_control_row {
#define X(WORD, BIT, NAME, TEXT, WANT, WHY) VMX_CONTROL_##WORD##_##NAME,
    VMX_CONTROLS(X)
#undef X
        VMX_CONTROL_ROWS,
};
