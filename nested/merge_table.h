// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Every field of a VMCS and how VMCS02 comes by it, in the order of vmx/fields.h. One table: the merge, the
 * dump and the tests all go by it.
 *
 * X(FIELD, RULE, "why")
 */
#include "vmx/fields.h"

/* X(RULE, OWNER, "name"): rules, and whose a field is by them (enum nested_field_owner). */
// clang-format off
#define NESTED_RULES(X)                                                                                     \
    X(LV1, LV1, "Lv1's")                                                                                    \
    X(LV0, LV0, "Umbra's")                                                                                  \
    X(PROCESSOR, LV0, "processor's")                                                                        \
    X(ABSENT, ABSENT, "absent")                                                                             \
    X(UNION, MERGED, "union")                                                                               \
    X(EITHER, MERGED, "either's")                                                                           \
    X(CR, MERGED, "Fig. 11")                                                                                \
    X(TPR, MERGED, "Figs. 12, 19")                                                                          \
    X(LOADED, MERGED, "if loaded")                                                                          \
    X(SUM, MERGED, "sum")                                                                                   \
    X(TRANSLATED, TRANSLATED, "translated")                                                                 \
    X(COMPUTED, COMPUTED, "computed")

#define NESTED_FIELDS(X)                                                                                    \
    X(VPID, COMPUTED, "every guest of Lv1's has a tag of its own")                                          \
    X(POSTED_INTERRUPT_VECTOR, ABSENT, "posted interrupts are not offered")                                 \
    X(EPTP_INDEX, ABSENT, "#VE is not offered")                                                             \
    X(HLAT_PREFIX_SIZE, ABSENT, "HLAT is not offered")                                                      \
    X(LAST_PID_POINTER_INDEX, ABSENT, "IPI virtualization is not offered")                                  \
    X(GUEST_ES_SELECTOR, LV1, "guest state")                                                                \
    X(GUEST_CS_SELECTOR, LV1, "guest state")                                                                \
    X(GUEST_SS_SELECTOR, LV1, "guest state")                                                                \
    X(GUEST_DS_SELECTOR, LV1, "guest state")                                                                \
    X(GUEST_FS_SELECTOR, LV1, "guest state")                                                                \
    X(GUEST_GS_SELECTOR, LV1, "guest state")                                                                \
    X(GUEST_LDTR_SELECTOR, LV1, "guest state")                                                              \
    X(GUEST_TR_SELECTOR, LV1, "guest state")                                                                \
    X(GUEST_INTERRUPT_STATUS, ABSENT, "virtual-interrupt delivery is not offered")                          \
    X(PML_INDEX, ABSENT, "page-modification logging is not offered")                                        \
    X(GUEST_UINV, ABSENT, "user interrupts are not offered")                                                \
    X(HOST_ES_SELECTOR, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                        \
    X(HOST_CS_SELECTOR, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                        \
    X(HOST_SS_SELECTOR, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                        \
    X(HOST_DS_SELECTOR, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                        \
    X(HOST_FS_SELECTOR, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                        \
    X(HOST_GS_SELECTOR, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                        \
    X(HOST_TR_SELECTOR, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                        \
    X(IO_BITMAP_A, LV0, "every port exits; Lv1's bitmaps are asked then")                                   \
    X(IO_BITMAP_B, LV0, "every port exits; Lv1's bitmaps are asked then")                                   \
    X(MSR_BITMAPS, COMPUTED, "through by the MSR policy and not intercepted by Lv1")                        \
    X(EXIT_MSR_STORE_ADDRESS, LV0, "Umbra's own list; Lv1's is gone through by nested/msr_list.c")          \
    X(EXIT_MSR_LOAD_ADDRESS, LV0, "Umbra's own list; Lv1's is gone through by nested/msr_list.c")           \
    X(ENTRY_MSR_LOAD_ADDRESS, LV0, "Umbra's own list; Lv1's is gone through by nested/msr_list.c")          \
    X(EXECUTIVE_VMCS_POINTER, ABSENT, "no SMM monitor")                                                     \
    X(PML_ADDRESS, ABSENT, "page-modification logging is not offered")                                      \
    X(TSC_OFFSET, SUM, "Lv1's, if it uses one, is relative to Lv1's own time")                              \
    X(VIRTUAL_APIC_ADDRESS, TPR, "whose TPR Lv2 uses")                                                      \
    X(APIC_ACCESS_ADDRESS, TRANSLATED, "Lv1's page; the vCPU's own where Lv2 uses Lv1's local APIC")        \
    X(POSTED_INTERRUPT_DESCRIPTOR, ABSENT, "posted interrupts are not offered")                             \
    X(VM_FUNCTION_CONTROLS, ABSENT, "VM functions are not offered")                                         \
    X(EPT_POINTER, COMPUTED, "the root that the virtual TLB fills for Lv2's memory")                        \
    X(EOI_EXIT_BITMAP0, ABSENT, "virtual-interrupt delivery is not offered")                                \
    X(EOI_EXIT_BITMAP1, ABSENT, "virtual-interrupt delivery is not offered")                                \
    X(EOI_EXIT_BITMAP2, ABSENT, "virtual-interrupt delivery is not offered")                                \
    X(EOI_EXIT_BITMAP3, ABSENT, "virtual-interrupt delivery is not offered")                                \
    X(EPTP_LIST_ADDRESS, ABSENT, "VM functions are not offered")                                            \
    X(VMREAD_BITMAP, ABSENT, "VMCS shadowing is used, not offered")                                         \
    X(VMWRITE_BITMAP, ABSENT, "VMCS shadowing is used, not offered")                                        \
    X(VE_INFORMATION_ADDRESS, ABSENT, "#VE is not offered")                                                 \
    X(XSS_EXITING_BITMAP, EITHER, "Lv1's: no component is Umbra's concern")                                 \
    X(ENCLS_EXITING_BITMAP, LV0, "SGX is not offered: all exit")                                            \
    X(SUB_PAGE_TABLE_POINTER, ABSENT, "sub-page permissions are not offered")                               \
    X(TSC_MULTIPLIER, ABSENT, "TSC scaling is not offered")                                                 \
    X(TERTIARY_CONTROLS, ABSENT, "none of them is offered")                                                 \
    X(ENCLV_EXITING_BITMAP, LV0, "SGX is not offered: all exit")                                            \
    X(LOW_PASID_DIRECTORY, ABSENT, "PASID translation is not offered")                                      \
    X(HIGH_PASID_DIRECTORY, ABSENT, "PASID translation is not offered")                                     \
    X(PCONFIG_EXITING_BITMAP, ABSENT, "PCONFIG is not offered")                                             \
    X(HLAT_POINTER, ABSENT, "HLAT is not offered")                                                          \
    X(PID_POINTER_TABLE, ABSENT, "IPI virtualization is not offered")                                       \
    X(SECONDARY_EXIT_CONTROLS, ABSENT, "none of them is offered")                                           \
    X(SPEC_CTRL_MASK, ABSENT, "virtual IA32_SPEC_CTRL is not offered")                                      \
    X(SPEC_CTRL_SHADOW, ABSENT, "virtual IA32_SPEC_CTRL is not offered")                                    \
    X(INJECTED_EVENT_DATA, ABSENT, "FRED is not offered")                                                   \
    X(GUEST_PHYSICAL_ADDRESS, PROCESSOR, "an exit tells it")                                                \
    X(ORIGINAL_EVENT_DATA, ABSENT, "FRED is not offered")                                                   \
    X(VMCS_LINK_POINTER, LV0, "Lv2 has no shadow VMCS")                                                     \
    X(GUEST_DEBUGCTL, LOADED, "by \"load debug controls\"")                                                 \
    X(GUEST_PAT, LOADED, "by \"load IA32_PAT\"")                                                            \
    X(GUEST_EFER, LOADED, "by \"load IA32_EFER\"; LMA and LME follow \"IA-32e mode guest\"")                \
    X(GUEST_PERF_GLOBAL_CTRL, ABSENT, "no counters")                                                        \
    X(GUEST_PDPTE0, COMPUTED, "of VMCS12 where Lv1 has EPT, else from memory")                              \
    X(GUEST_PDPTE1, COMPUTED, "of VMCS12 where Lv1 has EPT, else from memory")                              \
    X(GUEST_PDPTE2, COMPUTED, "of VMCS12 where Lv1 has EPT, else from memory")                              \
    X(GUEST_PDPTE3, COMPUTED, "of VMCS12 where Lv1 has EPT, else from memory")                              \
    X(GUEST_BNDCFGS, ABSENT, "MPX is not offered")                                                          \
    X(GUEST_RTIT_CTL, ABSENT, "processor trace is not offered")                                             \
    X(GUEST_LBR_CTL, ABSENT, "branch records are not offered")                                              \
    X(GUEST_PKRS, ABSENT, "supervisor keys are not offered")                                                \
    X(GUEST_FRED_CONFIG, ABSENT, "FRED is not offered")                                                     \
    X(GUEST_FRED_RSP1, ABSENT, "FRED is not offered")                                                       \
    X(GUEST_FRED_RSP2, ABSENT, "FRED is not offered")                                                       \
    X(GUEST_FRED_RSP3, ABSENT, "FRED is not offered")                                                       \
    X(GUEST_FRED_STKLVLS, ABSENT, "FRED is not offered")                                                    \
    X(GUEST_FRED_SSP1, ABSENT, "FRED is not offered")                                                       \
    X(GUEST_FRED_SSP2, ABSENT, "FRED is not offered")                                                       \
    X(GUEST_FRED_SSP3, ABSENT, "FRED is not offered")                                                       \
    X(HOST_PAT, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                                \
    X(HOST_EFER, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                               \
    X(HOST_PERF_GLOBAL_CTRL, ABSENT, "no counters")                                                         \
    X(HOST_PKRS, ABSENT, "supervisor keys are not offered")                                                 \
    X(HOST_FRED_CONFIG, ABSENT, "FRED is not offered")                                                      \
    X(HOST_FRED_RSP1, ABSENT, "FRED is not offered")                                                        \
    X(HOST_FRED_RSP2, ABSENT, "FRED is not offered")                                                        \
    X(HOST_FRED_RSP3, ABSENT, "FRED is not offered")                                                        \
    X(HOST_FRED_STKLVLS, ABSENT, "FRED is not offered")                                                     \
    X(HOST_FRED_SSP1, ABSENT, "FRED is not offered")                                                        \
    X(HOST_FRED_SSP2, ABSENT, "FRED is not offered")                                                        \
    X(HOST_FRED_SSP3, ABSENT, "FRED is not offered")                                                        \
    X(PIN_CONTROLS, LV0, "NMIs and interrupts are Umbra's before they are Lv1's; its timer ends slices")    \
    X(PRIMARY_CONTROLS, UNION, "exits of either's; instructions of Lv2's are those that Lv1 enables")       \
    X(EXCEPTION_BITMAP, UNION, "exceptions of either's")                                                    \
    X(PAGE_FAULT_ERROR_MASK, EITHER, "Lv1's, unless Umbra wants every page fault")                          \
    X(PAGE_FAULT_ERROR_MATCH, EITHER, "Lv1's, unless Umbra wants every page fault")                         \
    X(CR3_TARGET_COUNT, EITHER, "Lv1's, unless Umbra wants every load of CR3")                              \
    X(EXIT_CONTROLS, LV0, "Umbra is the host")                                                              \
    X(EXIT_MSR_STORE_COUNT, LV0, "Umbra's own list; Lv1's is gone through by nested/msr_list.c")            \
    X(EXIT_MSR_LOAD_COUNT, LV0, "Umbra's own list; Lv1's is gone through by nested/msr_list.c")             \
    X(ENTRY_CONTROLS, COMPUTED, "Umbra's; \"IA-32e mode guest\" follows Lv2's IA32_EFER.LMA")               \
    X(ENTRY_MSR_LOAD_COUNT, LV0, "Umbra's own list; Lv1's is gone through by nested/msr_list.c")            \
    X(ENTRY_INTERRUPTION_INFO, COMPUTED, "through the queue of vmx/events.h")                               \
    X(ENTRY_EXCEPTION_ERROR_CODE, COMPUTED, "through the queue of vmx/events.h")                            \
    X(ENTRY_INSTRUCTION_LENGTH, COMPUTED, "through the queue of vmx/events.h")                              \
    X(TPR_THRESHOLD, TPR, "whose TPR Lv2 uses")                                                             \
    X(SECONDARY_CONTROLS, UNION, "exits of either's; instructions of Lv2's are those that Lv1 enables")     \
    X(PLE_GAP, EITHER, "Lv1's, if it uses PAUSE-loop exiting")                                              \
    X(PLE_WINDOW, EITHER, "Lv1's, if it uses PAUSE-loop exiting")                                           \
    X(INSTRUCTION_TIMEOUT, ABSENT, "instruction timeout is not offered")                                    \
    X(VM_INSTRUCTION_ERROR, PROCESSOR, "an exit tells it")                                                  \
    X(EXIT_REASON, PROCESSOR, "an exit tells it")                                                           \
    X(EXIT_INTERRUPTION_INFO, PROCESSOR, "an exit tells it")                                                \
    X(EXIT_INTERRUPTION_ERROR_CODE, PROCESSOR, "an exit tells it")                                          \
    X(IDT_VECTORING_INFO, PROCESSOR, "an exit tells it")                                                    \
    X(IDT_VECTORING_ERROR_CODE, PROCESSOR, "an exit tells it")                                              \
    X(EXIT_INSTRUCTION_LENGTH, PROCESSOR, "an exit tells it")                                               \
    X(EXIT_INSTRUCTION_INFO, PROCESSOR, "an exit tells it")                                                 \
    X(GUEST_ES_LIMIT, LV1, "guest state")                                                                   \
    X(GUEST_CS_LIMIT, LV1, "guest state")                                                                   \
    X(GUEST_SS_LIMIT, LV1, "guest state")                                                                   \
    X(GUEST_DS_LIMIT, LV1, "guest state")                                                                   \
    X(GUEST_FS_LIMIT, LV1, "guest state")                                                                   \
    X(GUEST_GS_LIMIT, LV1, "guest state")                                                                   \
    X(GUEST_LDTR_LIMIT, LV1, "guest state")                                                                 \
    X(GUEST_TR_LIMIT, LV1, "guest state")                                                                   \
    X(GUEST_GDTR_LIMIT, LV1, "guest state")                                                                 \
    X(GUEST_IDTR_LIMIT, LV1, "guest state")                                                                 \
    X(GUEST_ES_ACCESS_RIGHTS, LV1, "guest state")                                                           \
    X(GUEST_CS_ACCESS_RIGHTS, LV1, "guest state")                                                           \
    X(GUEST_SS_ACCESS_RIGHTS, LV1, "guest state")                                                           \
    X(GUEST_DS_ACCESS_RIGHTS, LV1, "guest state")                                                           \
    X(GUEST_FS_ACCESS_RIGHTS, LV1, "guest state")                                                           \
    X(GUEST_GS_ACCESS_RIGHTS, LV1, "guest state")                                                           \
    X(GUEST_LDTR_ACCESS_RIGHTS, LV1, "guest state")                                                         \
    X(GUEST_TR_ACCESS_RIGHTS, LV1, "guest state")                                                           \
    X(GUEST_INTERRUPTIBILITY, LV1, "guest state")                                                           \
    X(GUEST_ACTIVITY, COMPUTED, "always active: Umbra waits in Lv2's place")                                \
    X(GUEST_SMBASE, LV0, "an entry does not load it")                                                       \
    X(GUEST_SYSENTER_CS, LV1, "guest state")                                                                \
    X(PREEMPTION_TIMER_VALUE, LV0, "ends a slice; Lv1's own timer is one of Umbra's deadlines")             \
    X(HOST_SYSENTER_CS, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                        \
    X(CR0_MASK, CR, "by the policy of each flag")                                                           \
    X(CR4_MASK, CR, "by the policy of each flag")                                                           \
    X(CR0_READ_SHADOW, CR, "by the policy of each flag")                                                    \
    X(CR4_READ_SHADOW, CR, "by the policy of each flag")                                                    \
    X(CR3_TARGET0, LV1, "as many as the count says")                                                        \
    X(CR3_TARGET1, LV1, "as many as the count says")                                                        \
    X(CR3_TARGET2, LV1, "as many as the count says")                                                        \
    X(CR3_TARGET3, LV1, "as many as the count says")                                                        \
    X(EXIT_QUALIFICATION, PROCESSOR, "an exit tells it")                                                    \
    X(IO_RCX, PROCESSOR, "an exit tells it")                                                                \
    X(IO_RSI, PROCESSOR, "an exit tells it")                                                                \
    X(IO_RDI, PROCESSOR, "an exit tells it")                                                                \
    X(IO_RIP, PROCESSOR, "an exit tells it")                                                                \
    X(GUEST_LINEAR_ADDRESS, PROCESSOR, "an exit tells it")                                                  \
    X(GUEST_CR0, CR, "by the policy of each flag")                                                          \
    X(GUEST_CR3, EITHER, "Lv1's; in the shadow regime the root of shadow tables")                           \
    X(GUEST_CR4, CR, "by the policy of each flag")                                                          \
    X(GUEST_ES_BASE, LV1, "guest state")                                                                    \
    X(GUEST_CS_BASE, LV1, "guest state")                                                                    \
    X(GUEST_SS_BASE, LV1, "guest state")                                                                    \
    X(GUEST_DS_BASE, LV1, "guest state")                                                                    \
    X(GUEST_FS_BASE, LV1, "guest state")                                                                    \
    X(GUEST_GS_BASE, LV1, "guest state")                                                                    \
    X(GUEST_LDTR_BASE, LV1, "guest state")                                                                  \
    X(GUEST_TR_BASE, LV1, "guest state")                                                                    \
    X(GUEST_GDTR_BASE, LV1, "guest state")                                                                  \
    X(GUEST_IDTR_BASE, LV1, "guest state")                                                                  \
    X(GUEST_DR7, LOADED, "by \"load debug controls\"")                                                      \
    X(GUEST_RSP, LV1, "guest state")                                                                        \
    X(GUEST_RIP, LV1, "guest state")                                                                        \
    X(GUEST_RFLAGS, LV1, "guest state")                                                                     \
    X(GUEST_PENDING_DEBUG, LV1, "guest state")                                                              \
    X(GUEST_SYSENTER_ESP, LV1, "guest state")                                                               \
    X(GUEST_SYSENTER_EIP, LV1, "guest state")                                                               \
    X(GUEST_S_CET, ABSENT, "CET is not offered")                                                            \
    X(GUEST_SSP, ABSENT, "CET is not offered")                                                              \
    X(GUEST_SSP_TABLE, ABSENT, "CET is not offered")                                                        \
    X(HOST_CR0, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                                \
    X(HOST_CR3, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                                \
    X(HOST_CR4, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                                \
    X(HOST_FS_BASE, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                            \
    X(HOST_GS_BASE, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                            \
    X(HOST_TR_BASE, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                            \
    X(HOST_GDTR_BASE, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                          \
    X(HOST_IDTR_BASE, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                          \
    X(HOST_SYSENTER_ESP, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                       \
    X(HOST_SYSENTER_EIP, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                       \
    X(HOST_RSP, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                                \
    X(HOST_RIP, LV0, "Umbra is the host; Lv1's is loaded at a logical exit")                                \
    X(HOST_S_CET, ABSENT, "CET is not offered")                                                             \
    X(HOST_SSP, ABSENT, "CET is not offered")                                                               \
    X(HOST_SSP_TABLE, ABSENT, "CET is not offered")
// clang-format on

/* NESTED_RULE_LV1 … */
enum nested_rule {
#define X(RULE, OWNER, NAME) NESTED_RULE_##RULE,
    NESTED_RULES(X)
#undef X
};

/* NESTED_ROW_VPID …: the rows of the table, counted from 0. */
enum nested_row {
#define X(FIELD, RULE, WHY) NESTED_ROW_##FIELD,
    NESTED_FIELDS(X)
#undef X
        NESTED_ROWS,
};

/* The table is total, and in the order of the other one. */
_Static_assert((int)NESTED_ROWS == (int)VMCS_FIELD_COUNT, "a field has no row, or more than one");
#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE)                                                           \
    _Static_assert((int)NESTED_ROW_##NAME == (int)VMCS_INDEX_##NAME, #NAME " is not in its place");
VMCS_FIELDS(X)
#undef X
