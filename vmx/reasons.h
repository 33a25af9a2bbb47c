// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Basic exit reasons (SDM vol. 3, appendix C) and VM-instruction errors (30.4).
 */
#include "lib/types.h"

/* X(number, NAME, "name"); numbers that the SDM leaves out are rows as well, so that the table is total. */
// clang-format off
#define EXIT_REASONS(X)                                                                                      \
    X(0, EXCEPTION_OR_NMI, "exception or NMI")                                                               \
    X(1, EXTERNAL_INTERRUPT, "external interrupt")                                                           \
    X(2, TRIPLE_FAULT, "triple fault")                                                                       \
    X(3, INIT, "INIT signal")                                                                                \
    X(4, SIPI, "start-up IPI")                                                                               \
    X(5, IO_SMI, "I/O SMI")                                                                                  \
    X(6, OTHER_SMI, "other SMI")                                                                             \
    X(7, INTERRUPT_WINDOW, "interrupt window")                                                               \
    X(8, NMI_WINDOW, "NMI window")                                                                           \
    X(9, TASK_SWITCH, "task switch")                                                                         \
    X(10, CPUID, "CPUID")                                                                                    \
    X(11, GETSEC, "GETSEC")                                                                                  \
    X(12, HLT, "HLT")                                                                                        \
    X(13, INVD, "INVD")                                                                                      \
    X(14, INVLPG, "INVLPG")                                                                                  \
    X(15, RDPMC, "RDPMC")                                                                                    \
    X(16, RDTSC, "RDTSC")                                                                                    \
    X(17, RSM, "RSM")                                                                                        \
    X(18, VMCALL, "VMCALL")                                                                                  \
    X(19, VMCLEAR, "VMCLEAR")                                                                                \
    X(20, VMLAUNCH, "VMLAUNCH")                                                                              \
    X(21, VMPTRLD, "VMPTRLD")                                                                                \
    X(22, VMPTRST, "VMPTRST")                                                                                \
    X(23, VMREAD, "VMREAD")                                                                                  \
    X(24, VMRESUME, "VMRESUME")                                                                              \
    X(25, VMWRITE, "VMWRITE")                                                                                \
    X(26, VMXOFF, "VMXOFF")                                                                                  \
    X(27, VMXON, "VMXON")                                                                                    \
    X(28, CR_ACCESS, "control-register access")                                                              \
    X(29, MOV_DR, "MOV DR")                                                                                  \
    X(30, IO_INSTRUCTION, "I/O instruction")                                                                 \
    X(31, RDMSR, "RDMSR")                                                                                    \
    X(32, WRMSR, "WRMSR")                                                                                    \
    X(33, ENTRY_FAILURE_GUEST_STATE, "VM-entry failure: invalid guest state")                                \
    X(34, ENTRY_FAILURE_MSR_LOADING, "VM-entry failure: MSR loading")                                        \
    X(35, RESERVED_35, "reserved (35)")                                                                      \
    X(36, MWAIT, "MWAIT")                                                                                    \
    X(37, MONITOR_TRAP_FLAG, "monitor trap flag")                                                            \
    X(38, RESERVED_38, "reserved (38)")                                                                      \
    X(39, MONITOR, "MONITOR")                                                                                \
    X(40, PAUSE, "PAUSE")                                                                                    \
    X(41, ENTRY_FAILURE_MACHINE_CHECK, "VM-entry failure: machine-check event")                              \
    X(42, RESERVED_42, "reserved (42)")                                                                      \
    X(43, TPR_BELOW_THRESHOLD, "TPR below threshold")                                                        \
    X(44, APIC_ACCESS, "APIC access")                                                                        \
    X(45, VIRTUALIZED_EOI, "virtualized EOI")                                                                \
    X(46, GDTR_IDTR_ACCESS, "access to GDTR or IDTR")                                                        \
    X(47, LDTR_TR_ACCESS, "access to LDTR or TR")                                                            \
    X(48, EPT_VIOLATION, "EPT violation")                                                                    \
    X(49, EPT_MISCONFIGURATION, "EPT misconfiguration")                                                      \
    X(50, INVEPT, "INVEPT")                                                                                  \
    X(51, RDTSCP, "RDTSCP")                                                                                  \
    X(52, PREEMPTION_TIMER, "VMX-preemption timer expired")                                                  \
    X(53, INVVPID, "INVVPID")                                                                                \
    X(54, WBINVD, "WBINVD or WBNOINVD")                                                                      \
    X(55, XSETBV, "XSETBV")                                                                                  \
    X(56, APIC_WRITE, "APIC write")                                                                          \
    X(57, RDRAND, "RDRAND")                                                                                  \
    X(58, INVPCID, "INVPCID")                                                                                \
    X(59, VMFUNC, "VMFUNC")                                                                                  \
    X(60, ENCLS, "ENCLS")                                                                                    \
    X(61, RDSEED, "RDSEED")                                                                                  \
    X(62, PML_FULL, "page-modification log full")                                                            \
    X(63, XSAVES, "XSAVES")                                                                                  \
    X(64, XRSTORS, "XRSTORS")                                                                                \
    X(65, PCONFIG, "PCONFIG")                                                                                \
    X(66, SUB_PAGE, "sub-page write permission event")                                                       \
    X(67, UMWAIT, "UMWAIT")                                                                                  \
    X(68, TPAUSE, "TPAUSE")                                                                                  \
    X(69, LOADIWKEY, "LOADIWKEY")                                                                            \
    X(70, ENCLV, "ENCLV")                                                                                    \
    X(71, RESERVED_71, "reserved (71)")                                                                      \
    X(72, ENQCMD_PASID, "ENQCMD PASID translation failure")                                                  \
    X(73, ENQCMDS_PASID, "ENQCMDS PASID translation failure")                                                \
    X(74, BUS_LOCK, "bus lock")                                                                              \
    X(75, INSTRUCTION_TIMEOUT, "instruction timeout")                                                        \
    X(76, SEAMCALL, "SEAMCALL")                                                                              \
    X(77, TDCALL, "TDCALL")

/* X(number, NAME, "text"). */
#define VM_INSTRUCTION_ERRORS(X)                                                                             \
    X(1, VMCALL_IN_ROOT, "VMCALL executed in VMX root operation")                                            \
    X(2, VMCLEAR_ADDRESS, "VMCLEAR with invalid physical address")                                           \
    X(3, VMCLEAR_VMXON_POINTER, "VMCLEAR with VMXON pointer")                                                \
    X(4, VMLAUNCH_NOT_CLEAR, "VMLAUNCH with non-clear VMCS")                                                 \
    X(5, VMRESUME_NOT_LAUNCHED, "VMRESUME with non-launched VMCS")                                           \
    X(6, VMRESUME_AFTER_VMXOFF, "VMRESUME after VMXOFF")                                                     \
    X(7, ENTRY_CONTROLS, "VM entry with invalid control field(s)")                                           \
    X(8, ENTRY_HOST_STATE, "VM entry with invalid host-state field(s)")                                      \
    X(9, VMPTRLD_ADDRESS, "VMPTRLD with invalid physical address")                                           \
    X(10, VMPTRLD_VMXON_POINTER, "VMPTRLD with VMXON pointer")                                               \
    X(11, VMPTRLD_REVISION, "VMPTRLD with incorrect VMCS revision identifier")                               \
    X(12, UNSUPPORTED_FIELD, "VMREAD/VMWRITE from/to unsupported VMCS component")                            \
    X(13, READ_ONLY_FIELD, "VMWRITE to read-only VMCS component")                                            \
    X(15, VMXON_IN_ROOT, "VMXON executed in VMX root operation")                                             \
    X(16, ENTRY_EXECUTIVE_POINTER, "VM entry with invalid executive-VMCS pointer")                           \
    X(17, ENTRY_EXECUTIVE_NOT_LAUNCHED, "VM entry with non-launched executive VMCS")                         \
    X(18, ENTRY_EXECUTIVE_NOT_VMXON, "VM entry with executive-VMCS pointer not VMXON pointer")               \
    X(19, VMCALL_NOT_CLEAR, "VMCALL with non-clear VMCS")                                                    \
    X(20, VMCALL_EXIT_CONTROLS, "VMCALL with invalid VM-exit control fields")                                \
    X(22, VMCALL_MSEG_REVISION, "VMCALL with incorrect MSEG revision identifier")                            \
    X(23, VMXOFF_DUAL_MONITOR, "VMXOFF under dual-monitor treatment of SMIs and SMM")                        \
    X(24, VMCALL_SMM_FEATURES, "VMCALL with invalid SMM-monitor features")                                   \
    X(25, ENTRY_EXECUTIVE_CONTROLS, "VM entry with invalid VM-execution control fields in executive VMCS")   \
    X(26, ENTRY_MOV_SS, "VM entry with events blocked by MOV SS")                                            \
    X(28, INVEPT_INVVPID_OPERAND, "invalid operand to INVEPT/INVVPID")
// clang-format on

/* EXIT_REASON_CPUID … */
enum exit_reason {
#define X(NUMBER, NAME, TEXT) EXIT_REASON_##NAME = NUMBER,
    EXIT_REASONS(X)
#undef X
        EXIT_REASON_COUNT,
};

/* The exit-reason field beside the basic reason (SDM vol. 3, 24.9.1). */
#define EXIT_REASON_BASIC         0x0000ffffu
#define EXIT_FLAG_BUS_LOCK        (1u << 26)
#define EXIT_REASON_ENCLAVE       (1u << 27)
#define EXIT_REASON_PENDING_MTF   (1u << 28)
#define EXIT_REASON_FROM_ROOT     (1u << 29)
#define EXIT_REASON_ENTRY_FAILURE (1u << 31)

/* VM_ERROR_ENTRY_CONTROLS … */
enum vm_instruction_error {
#define X(NUMBER, NAME, TEXT) VM_ERROR_##NAME = NUMBER,
    VM_INSTRUCTION_ERRORS(X)
#undef X
        VM_ERROR_COUNT,
};

/* The name of a basic exit reason; "unknown exit reason" beyond the table. Any context. */
const char *vmx_exit_reason_name(unsigned basic_reason);

/* The SDM's text of a VM-instruction error; "unknown VM-instruction error" for a number without one. Any
 * context. */
const char *vmx_instruction_error_text(unsigned number);
