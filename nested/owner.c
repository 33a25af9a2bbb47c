// SPDX-License-Identifier: BSD-2-Clause
#include "nested/owner.h"

#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "vmx/events.h"

/* Exit qualification of a control-register access (SDM vol. 3, table of that name). */
#define ACCESS_REGISTER(q)    ((unsigned)(q)&15)
#define ACCESS_TYPE(q)        ((enum access_type)((q) >> 4 & 3))
#define ACCESS_LMSW_SOURCE(q) ((q) >> 16 & 0xffff)

enum access_type {
    ACCESS_MOV_TO,
    ACCESS_MOV_FROM,
    ACCESS_CLTS,
    ACCESS_LMSW,
};

/* Exit qualification of an I/O instruction. */
#define IO_SIZE(q)          ((unsigned)((q)&7) + 1)
#define IO_PORT(q)          ((uint16_t)((q) >> 16))
#define IO_PORTS            0x10000u

#define MSR_BITMAP_COVERS   0x2000u /* registers from 0, and from: */
#define MSR_BITMAP_HIGH     0xc0000000u

/* The last bit of a bitmap by function stands for all from there on. */
#define FUNCTION_BITMAP_END 63u

/* ---- Lv1's controls, and Lv0's wishes ----------------------------------------------------------------- */

static bool has_pin(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return vmcs12_has_pin(exit->vmcs12, row->controls);
}

static bool has_primary(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return vmcs12_has_primary(exit->vmcs12, row->controls);
}

static bool lacks_primary(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return !has_primary(exit, row);
}

static bool has_secondary(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return vmcs12_has_secondary(exit->vmcs12, row->controls);
}

static bool lacks_secondary(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return !has_secondary(exit, row);
}

static bool has_tertiary(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return vmcs12_has_primary(exit->vmcs12, VMX_PRIMARY_TERTIARY_CONTROLS) &&
           (vmcs12_read(exit->vmcs12, VMCS_TERTIARY_CONTROLS) & row->controls) != 0;
}

/* `controls` are enum nested_lv0_wants here. */
static bool lv0_wants(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return (exit->lv0_wants & row->controls) != 0;
}

static bool always(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)exit, (void)row;
    return true;
}

/* ---- Exceptions -------------------------------------------------------------------------------------------
 */

static bool is_hardware_exception(const struct nested_owner_exit *exit, unsigned vector)
{
    return EVENT_TYPE(exit->interruption) == VCPU_EVENT_HARDWARE_EXCEPTION &&
           EVENT_VECTOR(exit->interruption) == vector;
}

static bool is_no_event(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    const uint32_t types = BIT(VCPU_EVENT_NMI) | BIT(VCPU_EVENT_HARDWARE_EXCEPTION) |
                           BIT(VCPU_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION) | BIT(VCPU_EVENT_SOFTWARE_EXCEPTION);

    (void)row;
    return (exit->interruption & EVENT_VALID) == 0 || EVENT_VECTOR(exit->interruption) > 31 ||
           (types & BIT(EVENT_TYPE(exit->interruption))) == 0;
}

static bool is_nmi(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return EVENT_TYPE(exit->interruption) == VCPU_EVENT_NMI;
}

static bool is_machine_check(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return is_hardware_exception(exit, X86_VECTOR_MC);
}

static bool is_shadow_fault(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return lv0_wants(exit, row) && is_hardware_exception(exit, X86_VECTOR_PF);
}

static bool is_step(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return lv0_wants(exit, row) && is_hardware_exception(exit, X86_VECTOR_DB);
}

/* The exception bitmap; its bit for page faults counts if the error code matches, and the other way round if
 * not. */
static bool is_lv1_exception(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    const unsigned vector = EVENT_VECTOR(exit->interruption);
    const bool bit = (vmcs12_read(exit->vmcs12, VMCS_EXCEPTION_BITMAP) >> vector & 1) != 0;

    (void)row;
    if (vector != X86_VECTOR_PF)
        return bit;
    return bit == ((exit->error_code & vmcs12_read(exit->vmcs12, VMCS_PAGE_FAULT_ERROR_MASK)) ==
                   vmcs12_read(exit->vmcs12, VMCS_PAGE_FAULT_ERROR_MATCH));
}

/* The event that an entry injects to bring about this exit (SDM vol. 3, "Injection of pending MTF VM exits").
 */
static bool is_injected_mtf(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    const uint64_t injected = vmcs12_read(exit->vmcs12, VMCS_ENTRY_INTERRUPTION_INFO);

    (void)row;
    return (injected & EVENT_VALID) != 0 && EVENT_TYPE(injected) == VCPU_EVENT_OTHER &&
           EVENT_VECTOR(injected) == 0;
}

/* ---- Control registers ------------------------------------------------------------------------------------
 */

static bool is_access(const struct nested_owner_exit *exit, enum access_type type, unsigned reg)
{
    return ACCESS_TYPE(exit->qualification) == type && ACCESS_REGISTER(exit->qualification) == reg;
}

static bool is_lv1_to_cr0(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return is_access(exit, ACCESS_MOV_TO, 0) &&
           ((exit->operand ^ vmcs12_read(exit->vmcs12, VMCS_CR0_READ_SHADOW)) &
            vmcs12_read(exit->vmcs12, VMCS_CR0_MASK)) != 0;
}

static bool is_lv1_to_cr4(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return is_access(exit, ACCESS_MOV_TO, 4) &&
           ((exit->operand ^ vmcs12_read(exit->vmcs12, VMCS_CR4_READ_SHADOW)) &
            vmcs12_read(exit->vmcs12, VMCS_CR4_MASK)) != 0;
}

static bool is_lv1_clts(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return ACCESS_TYPE(exit->qualification) == ACCESS_CLTS &&
           (vmcs12_read(exit->vmcs12, VMCS_CR0_READ_SHADOW) & vmcs12_read(exit->vmcs12, VMCS_CR0_MASK) &
            X86_CR0_TS) != 0;
}

/* LMSW writes PE, MP, EM and TS, but does not clear PE. */
static bool is_lv1_lmsw(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    const uint64_t shadow = vmcs12_read(exit->vmcs12, VMCS_CR0_READ_SHADOW);
    const uint64_t source = ACCESS_LMSW_SOURCE(exit->qualification);
    const uint64_t changed =
        ((source ^ shadow) & (X86_CR0_MP | X86_CR0_EM | X86_CR0_TS)) | (source & ~shadow & X86_CR0_PE);

    (void)row;
    return ACCESS_TYPE(exit->qualification) == ACCESS_LMSW &&
           (changed & vmcs12_read(exit->vmcs12, VMCS_CR0_MASK)) != 0;
}

static bool is_cr3_target(const struct vmcs12 *vmcs12, uint64_t value)
{
    const uint64_t count = vmcs12_read(vmcs12, VMCS_CR3_TARGET_COUNT);

    for (unsigned i = 0; i < 4 && i < count; i++)
        if (vmcs12_read(vmcs12, vmcs_field_at(VMCS_INDEX_CR3_TARGET0 + i)) == value)
            return true;
    return false;
}

static bool is_lv1_to_cr3(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return is_access(exit, ACCESS_MOV_TO, 3) && has_primary(exit, row) &&
           !is_cr3_target(exit->vmcs12, exit->operand);
}

static bool is_lv1_from_cr3(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return is_access(exit, ACCESS_MOV_FROM, 3) && has_primary(exit, row);
}

static bool is_lv1_to_cr8(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return is_access(exit, ACCESS_MOV_TO, 8) && has_primary(exit, row);
}

static bool is_lv1_from_cr8(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return is_access(exit, ACCESS_MOV_FROM, 8) && has_primary(exit, row);
}

static bool is_cr_update(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return ACCESS_TYPE(exit->qualification) >= ACCESS_CLTS || is_access(exit, ACCESS_MOV_TO, 0) ||
           is_access(exit, ACCESS_MOV_TO, 4);
}

static bool is_cr3_or_cr8(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return ACCESS_REGISTER(exit->qualification) == 3 || ACCESS_REGISTER(exit->qualification) == 8;
}

/* ---- Ports, MSRs, bitmaps by function ---------------------------------------------------------------------
 */

static bool is_wrapping_io(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return has_primary(exit, row) && IO_PORT(exit->qualification) + IO_SIZE(exit->qualification) > IO_PORTS;
}

static bool is_lv1_port(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return has_primary(exit, row) &&
           exit->ops->lv1_io_bit(exit->context, IO_PORT(exit->qualification), IO_SIZE(exit->qualification));
}

static bool is_unconditional_io(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return has_primary(exit, row) && !vmcs12_has_primary(exit->vmcs12, VMX_PRIMARY_IO_BITMAPS);
}

static bool is_beyond_msr_bitmap(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    const uint32_t index = (uint32_t)exit->operand;

    (void)row;
    return (index & ~MSR_BITMAP_HIGH) >= MSR_BITMAP_COVERS || (index >> 30 != 0 && index >> 30 != 3);
}

static bool is_lv1_msr(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return exit->ops->lv1_msr_bit(exit->context, (uint32_t)exit->operand,
                                  (exit->reason & EXIT_REASON_BASIC) == EXIT_REASON_WRMSR);
}

static bool is_lv1_xss(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return (exit->operand & exit->xss & vmcs12_read(exit->vmcs12, VMCS_XSS_EXITING_BITMAP)) != 0;
}

static bool has_function_bit(uint64_t bitmap, const struct nested_owner_exit *exit)
{
    return (bitmap >> min_u64((uint32_t)exit->operand, FUNCTION_BITMAP_END) & 1) != 0;
}

static bool is_lv1_encls(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return has_secondary(exit, row) &&
           has_function_bit(vmcs12_read(exit->vmcs12, VMCS_ENCLS_EXITING_BITMAP), exit);
}

static bool is_lv1_enclv(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return has_secondary(exit, row) &&
           has_function_bit(vmcs12_read(exit->vmcs12, VMCS_ENCLV_EXITING_BITMAP), exit);
}

static bool is_lv1_pconfig(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    return has_secondary(exit, row) &&
           has_function_bit(vmcs12_read(exit->vmcs12, VMCS_PCONFIG_EXITING_BITMAP), exit);
}

static bool lacks_smx(const struct nested_owner_exit *exit, const struct nested_owner_row *row)
{
    (void)row;
    return (exit->cr4 & X86_CR4_SMXE) == 0;
}

/* ---- The table --------------------------------------------------------------------------------------------
 */

#define NO            0
#define QUALIFICATION NESTED_NEEDS_QUALIFICATION
#define ACCESS        (NESTED_NEEDS_QUALIFICATION | NESTED_NEEDS_OPERAND)
#define INTERRUPTION  NESTED_NEEDS_INTERRUPTION
#define OPERAND       NESTED_NEEDS_OPERAND
#define XSS           (NESTED_NEEDS_OPERAND | NESTED_NEEDS_XSS)
#define CR4           NESTED_NEEDS_CR4

// clang-format off

/*
 * WHEN(REASON, CASE, rule, controls, needs, OWNER, "the case in words", "source")
 * ELSE(REASON, OWNER, "the case in words", "source")
 *
 * Sources are sections of the SDM's volume 3, steps of seed 004's Fig. 8, or rules of the architecture page.
 */
#define OWNER_ROWS(WHEN, ELSE)                                                                             \
    WHEN(EXCEPTION_OR_NMI, NOTHING, is_no_event, 0, INTERRUPTION, LV0_UNEXPECTED,                          \
         "no event that exits so", "24.9.2")                                                               \
    WHEN(EXCEPTION_OR_NMI, NMI, is_nmi, 0, INTERRUPTION, LV0, "NMI", "closed list: NMIs are Lv0's")        \
    WHEN(EXCEPTION_OR_NMI, MC, is_machine_check, 0, INTERRUPTION, LV0, "machine check", "closed list")     \
    WHEN(EXCEPTION_OR_NMI, SHADOW, is_shadow_fault, NESTED_LV0_WANTS_PAGE_FAULTS, INTERRUPTION,            \
         LV0_MEMORY, "page fault with shadow tables", "closed list: it may be Lv0's doing")                \
    WHEN(EXCEPTION_OR_NMI, STEP, is_step, NESTED_LV0_WANTS_STEP, INTERRUPTION, LV0,                        \
         "#DB while Lv0 steps Lv2", "closed list: what is left of it is asked about again")                \
    WHEN(EXCEPTION_OR_NMI, BITMAP, is_lv1_exception, 0, INTERRUPTION, LV1, "exception in Lv1's bitmap",    \
         "25.2; S1210")                                                                                    \
    ELSE(EXCEPTION_OR_NMI, LV0_EMULATE, "exception that Lv0 alone intercepts: delivered to Lv2", "S1270")  \
    ELSE(EXTERNAL_INTERRUPT, LV0, "interrupts are Lv0's", "closed list")                                   \
    ELSE(TRIPLE_FAULT, LV1, "always", "25.2; S1210")                                                       \
    ELSE(INIT, LV0, "of the physical processor", "closed list")                                            \
    ELSE(SIPI, LV0, "of the physical processor", "closed list")                                            \
    ELSE(IO_SMI, LV0_UNEXPECTED, "no SMM monitor", "34.15")                                                \
    ELSE(OTHER_SMI, LV0_UNEXPECTED, "no SMM monitor", "34.15")                                             \
    WHEN(INTERRUPT_WINDOW, LV0, lv0_wants, NESTED_LV0_WANTS_INTERRUPT_WINDOW, NO, LV0, "Lv0 waits",        \
         "closed list: if it is still open then, Lv1's exits again")                                       \
    WHEN(INTERRUPT_WINDOW, LV1, has_primary, VMX_PRIMARY_INTERRUPT_WINDOW_EXITING, NO, LV1, "Lv1 waits",   \
         "25.2; S1210")                                                                                    \
    ELSE(INTERRUPT_WINDOW, LV0, "Lv0 waited", "closed list")                                               \
    WHEN(NMI_WINDOW, LV0, lv0_wants, NESTED_LV0_WANTS_NMI_WINDOW, NO, LV0, "Lv0 waits",                    \
         "closed list: likewise")                                                                          \
    WHEN(NMI_WINDOW, LV1, has_primary, VMX_PRIMARY_NMI_WINDOW_EXITING, NO, LV1, "Lv1 waits",               \
         "25.2; S1210")                                                                                    \
    ELSE(NMI_WINDOW, LV0, "Lv0 waited", "closed list")                                                     \
    ELSE(TASK_SWITCH, LV1, "always", "25.2; S1210")                                                        \
    ELSE(CPUID, LV1, "always", "25.1.2; S1210")                                                            \
    WHEN(GETSEC, UNDEFINED, lacks_smx, 0, CR4, LV0_UNDEFINED, "CR4.SMXE = 0",                              \
         "25.1.1: #UD comes before the exit")                                                              \
    ELSE(GETSEC, LV1, "CR4.SMXE = 1", "25.1.2; S1210")                                                     \
    WHEN(HLT, LV1, has_primary, VMX_PRIMARY_HLT_EXITING, NO, LV1, "HLT exiting", "25.1.3; S1210")          \
    ELSE(HLT, LV0_EMULATE, "Lv2 halts the vCPU", "S1270")                                                  \
    ELSE(INVD, LV1, "always", "25.1.2; S1210")                                                             \
    WHEN(INVLPG, LV1, has_primary, VMX_PRIMARY_INVLPG_EXITING, NO, LV1, "INVLPG exiting", "25.1.3; S1210") \
    ELSE(INVLPG, LV0_EMULATE, "with shadow tables", "S1270")                                               \
    WHEN(RDPMC, LV1, has_primary, VMX_PRIMARY_RDPMC_EXITING, NO, LV1, "RDPMC exiting", "25.1.3; S1210")    \
    ELSE(RDPMC, LV0_EMULATE, "there are no counters", "S1270")                                             \
    WHEN(RDTSC, LV1, has_primary, VMX_PRIMARY_RDTSC_EXITING, NO, LV1, "RDTSC exiting", "25.1.3; S1210")    \
    ELSE(RDTSC, LV0_EMULATE, "Lv0 alone", "S1270")                                                         \
    ELSE(RSM, LV0_UNDEFINED, "outside SMM", "25.1.3")                                                      \
    ELSE(VMCALL, LV1, "always", "25.1.2; S1210")                                                           \
    ELSE(VMCLEAR, LV1, "always", "25.1.2; S1210")                                                          \
    ELSE(VMLAUNCH, LV1, "always", "25.1.2; S1210")                                                         \
    ELSE(VMPTRLD, LV1, "always", "25.1.2; S1210")                                                          \
    ELSE(VMPTRST, LV1, "always", "25.1.2; S1210")                                                          \
    ELSE(VMREAD, LV1, "always: VMCS shadowing is not offered", "25.1.3; S1210")                            \
    ELSE(VMRESUME, LV1, "always", "25.1.2; S1210")                                                         \
    ELSE(VMWRITE, LV1, "always: VMCS shadowing is not offered", "25.1.3; S1210")                           \
    ELSE(VMXOFF, LV1, "always", "25.1.2; S1210")                                                           \
    ELSE(VMXON, LV1, "always", "25.1.2; S1210")                                                            \
    WHEN(CR_ACCESS, TO_CR0, is_lv1_to_cr0, 0, ACCESS, LV1, "MOV to CR0 changes what Lv1 masks",            \
         "25.1.3; S1210")                                                                                  \
    WHEN(CR_ACCESS, CLTS, is_lv1_clts, 0, ACCESS, LV1, "CLTS, and Lv1 masks TS and shows 1",               \
         "25.1.3; S1210")                                                                                  \
    WHEN(CR_ACCESS, LMSW, is_lv1_lmsw, 0, ACCESS, LV1, "LMSW changes what Lv1 masks", "25.1.3; S1210")     \
    WHEN(CR_ACCESS, TO_CR4, is_lv1_to_cr4, 0, ACCESS, LV1, "MOV to CR4 changes what Lv1 masks",            \
         "25.1.3; S1210")                                                                                  \
    WHEN(CR_ACCESS, TO_CR3, is_lv1_to_cr3, VMX_PRIMARY_CR3_LOAD_EXITING, ACCESS, LV1,                      \
         "CR3-load exiting, and no target value", "25.1.3; S1210")                                         \
    WHEN(CR_ACCESS, FROM_CR3, is_lv1_from_cr3, VMX_PRIMARY_CR3_STORE_EXITING, ACCESS, LV1,                 \
         "CR3-store exiting", "25.1.3; S1210")                                                             \
    WHEN(CR_ACCESS, TO_CR8, is_lv1_to_cr8, VMX_PRIMARY_CR8_LOAD_EXITING, ACCESS, LV1, "CR8-load exiting",  \
         "25.1.3; S1210")                                                                                  \
    WHEN(CR_ACCESS, FROM_CR8, is_lv1_from_cr8, VMX_PRIMARY_CR8_STORE_EXITING, ACCESS, LV1,                 \
         "CR8-store exiting", "25.1.3; S1210")                                                             \
    WHEN(CR_ACCESS, UPDATE, is_cr_update, 0, ACCESS, LV0_CR, "any other update of CR0 or CR4",             \
         "S1230; Fig. 13")                                                                                 \
    WHEN(CR_ACCESS, CR3_CR8, is_cr3_or_cr8, 0, ACCESS, LV0_EMULATE, "any other access to CR3 or CR8",      \
         "S1270")                                                                                          \
    ELSE(CR_ACCESS, LV0_UNEXPECTED, "an access that never exits", "table 27-3")                            \
    WHEN(MOV_DR, LV1, has_primary, VMX_PRIMARY_MOV_DR_EXITING, NO, LV1, "MOV-DR exiting", "25.1.3; S1210") \
    ELSE(MOV_DR, LV0_EMULATE, "Lv0 alone", "S1270")                                                        \
    WHEN(IO_INSTRUCTION, WRAP, is_wrapping_io, VMX_PRIMARY_IO_BITMAPS, QUALIFICATION, LV1,                 \
         "bitmaps, and beyond the last port", "25.1.3; S1210")                                             \
    WHEN(IO_INSTRUCTION, BITMAP, is_lv1_port, VMX_PRIMARY_IO_BITMAPS, QUALIFICATION, LV1,                  \
         "port in Lv1's bitmaps", "25.1.3; S1210")                                                         \
    WHEN(IO_INSTRUCTION, ALL, is_unconditional_io, VMX_PRIMARY_UNCONDITIONAL_IO_EXITING, QUALIFICATION,    \
         LV1, "unconditional I/O exiting without bitmaps", "25.1.3; S1210")                                \
    ELSE(IO_INSTRUCTION, LV0_EMULATE, "port that Lv1 lets through", "S1270")                               \
    WHEN(RDMSR, ALL, lacks_primary, VMX_PRIMARY_MSR_BITMAPS, OPERAND, LV1, "no MSR bitmaps",               \
         "25.1.3; S1210")                                                                                  \
    WHEN(RDMSR, BEYOND, is_beyond_msr_bitmap, 0, OPERAND, LV1, "register without a bit", "25.1.3; S1210")  \
    WHEN(RDMSR, BITMAP, is_lv1_msr, 0, OPERAND, LV1, "register in Lv1's bitmap", "25.1.3; S1210")          \
    ELSE(RDMSR, LV0_EMULATE, "register that Lv1 lets through", "S1270")                                    \
    WHEN(WRMSR, ALL, lacks_primary, VMX_PRIMARY_MSR_BITMAPS, OPERAND, LV1, "no MSR bitmaps",               \
         "25.1.3; S1210")                                                                                  \
    WHEN(WRMSR, BEYOND, is_beyond_msr_bitmap, 0, OPERAND, LV1, "register without a bit", "25.1.3; S1210")  \
    WHEN(WRMSR, BITMAP, is_lv1_msr, 0, OPERAND, LV1, "register in Lv1's bitmap", "25.1.3; S1210")          \
    ELSE(WRMSR, LV0_EMULATE, "register that Lv1 lets through", "S1270")                                    \
    ELSE(ENTRY_FAILURE_GUEST_STATE, LV0_UNEXPECTED, "Umbra has checked the state of VMCS02", "26.3")       \
    ELSE(ENTRY_FAILURE_MSR_LOADING, LV0_UNEXPECTED, "the lists of VMCS02 are Lv0's", "26.4")               \
    ELSE(RESERVED_35, LV0_UNEXPECTED, "no such reason", "appendix C")                                      \
    WHEN(MWAIT, LV1, has_primary, VMX_PRIMARY_MWAIT_EXITING, NO, LV1, "MWAIT exiting", "25.1.3; S1210")    \
    ELSE(MWAIT, LV0_UNDEFINED, "not offered", "S1270")                                                     \
    WHEN(MONITOR_TRAP_FLAG, LV1, has_primary, VMX_PRIMARY_MONITOR_TRAP_FLAG, NO, LV1, "monitor trap flag", \
         "25.5.2; S1210")                                                                                  \
    WHEN(MONITOR_TRAP_FLAG, INJECTED, is_injected_mtf, 0, NO, LV1, "injected by Lv1", "26.6.2; S1210")     \
    ELSE(MONITOR_TRAP_FLAG, LV0_UNEXPECTED, "nobody asked for it", "25.5.2")                               \
    ELSE(RESERVED_38, LV0_UNEXPECTED, "no such reason", "appendix C")                                      \
    WHEN(MONITOR, LV1, has_primary, VMX_PRIMARY_MONITOR_EXITING, NO, LV1, "MONITOR exiting",               \
         "25.1.3; S1210")                                                                                  \
    ELSE(MONITOR, LV0_UNDEFINED, "not offered", "S1270")                                                   \
    WHEN(PAUSE, LV1, has_primary, VMX_PRIMARY_PAUSE_EXITING, NO, LV1, "PAUSE exiting", "25.1.3; S1210")    \
    WHEN(PAUSE, LOOP, has_secondary, VMX_SECONDARY_PAUSE_LOOP_EXITING, NO, LV1, "PAUSE-loop exiting",      \
         "25.1.3; S1210")                                                                                  \
    ELSE(PAUSE, LV0_EMULATE, "a loop that gives way to other vCPUs", "S1270")                              \
    ELSE(ENTRY_FAILURE_MACHINE_CHECK, LV0, "machine check", "closed list")                                 \
    ELSE(RESERVED_42, LV0_UNEXPECTED, "no such reason", "appendix C")                                      \
    WHEN(TPR_BELOW_THRESHOLD, LV1, has_primary, VMX_PRIMARY_TPR_SHADOW, NO, LV1, "Lv1's virtual APIC",     \
         "29.1.2; S1210")                                                                                  \
    ELSE(TPR_BELOW_THRESHOLD, LV0, "the vCPU's own: a window of Lv0's", "closed list")                     \
    WHEN(APIC_ACCESS, LV1, has_secondary, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES, NO, LV1,                 \
         "Lv1's virtual APIC", "29.4; S1210")                                                              \
    ELSE(APIC_ACCESS, LV0_EMULATE, "the vCPU's own", "S1270")                                              \
    WHEN(VIRTUALIZED_EOI, LV1, has_secondary, VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY, NO, LV1,           \
         "Lv1's virtual APIC", "29.1.4; S1210")                                                            \
    ELSE(VIRTUALIZED_EOI, LV0_EMULATE, "the vCPU's own", "S1270")                                          \
    WHEN(GDTR_IDTR_ACCESS, LV1, has_secondary, VMX_SECONDARY_DESCRIPTOR_TABLE_EXITING, NO, LV1,            \
         "descriptor-table exiting", "25.1.3; S1210")                                                      \
    ELSE(GDTR_IDTR_ACCESS, LV0_EMULATE, "Lv0 alone", "S1270")                                              \
    WHEN(LDTR_TR_ACCESS, LV1, has_secondary, VMX_SECONDARY_DESCRIPTOR_TABLE_EXITING, NO, LV1,              \
         "descriptor-table exiting", "25.1.3; S1210")                                                      \
    ELSE(LDTR_TR_ACCESS, LV0_EMULATE, "Lv0 alone", "S1270")                                                \
    ELSE(EPT_VIOLATION, LV0_MEMORY, "who caused it, the tables say", "closed list; 28.2")                  \
    ELSE(EPT_MISCONFIGURATION, LV0_UNEXPECTED, "the tables are Lv0's", "closed list; 28.2")                \
    ELSE(INVEPT, LV1, "always", "25.1.2; S1210")                                                           \
    WHEN(RDTSCP, UNDEFINED, lacks_secondary, VMX_SECONDARY_RDTSCP, NO, LV0_UNDEFINED, "not enabled",       \
         "25.3")                                                                                           \
    WHEN(RDTSCP, LV1, has_primary, VMX_PRIMARY_RDTSC_EXITING, NO, LV1, "RDTSC exiting", "25.1.3; S1210")   \
    ELSE(RDTSCP, LV0_EMULATE, "Lv0 alone", "S1270")                                                        \
    WHEN(PREEMPTION_TIMER, LV0, lv0_wants, NESTED_LV0_WANTS_TIMER, NO, LV0, "Lv0's deadline",              \
         "closed list: Lv1's, if over as well, exits again")                                               \
    WHEN(PREEMPTION_TIMER, LV1, has_pin, VMX_PIN_PREEMPTION_TIMER, NO, LV1, "Lv1's timer",                 \
         "25.5.1; S1210")                                                                                  \
    ELSE(PREEMPTION_TIMER, LV0, "Lv0's deadline", "closed list")                                           \
    ELSE(INVVPID, LV1, "always", "25.1.2; S1210")                                                          \
    WHEN(WBINVD, LV1, has_secondary, VMX_SECONDARY_WBINVD_EXITING, NO, LV1, "WBINVD exiting",              \
         "25.1.3; S1210")                                                                                  \
    ELSE(WBINVD, LV0_EMULATE, "memory is coherent", "S1270")                                               \
    ELSE(XSETBV, LV1, "always", "25.1.2; S1210")                                                           \
    WHEN(APIC_WRITE, REGISTERS, has_secondary, VMX_SECONDARY_APIC_REGISTER_VIRTUALIZATION, NO, LV1,        \
         "Lv1's virtual APIC", "29.4.3; S1210")                                                            \
    WHEN(APIC_WRITE, DELIVERY, has_secondary, VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY, NO, LV1,           \
         "Lv1's virtual APIC", "29.4.3; S1210")                                                            \
    ELSE(APIC_WRITE, LV0_EMULATE, "the vCPU's own", "S1270")                                               \
    WHEN(RDRAND, LV1, has_secondary, VMX_SECONDARY_RDRAND_EXITING, NO, LV1, "RDRAND exiting",              \
         "25.1.3; S1210")                                                                                  \
    ELSE(RDRAND, LV0_EMULATE, "Lv0 alone", "S1270")                                                        \
    WHEN(INVPCID, UNDEFINED, lacks_secondary, VMX_SECONDARY_INVPCID, NO, LV0_UNDEFINED, "not enabled",     \
         "25.3")                                                                                           \
    WHEN(INVPCID, LV1, has_primary, VMX_PRIMARY_INVLPG_EXITING, NO, LV1, "INVLPG exiting",                 \
         "25.1.3; S1210")                                                                                  \
    ELSE(INVPCID, LV0_EMULATE, "with shadow tables", "S1270")                                              \
    WHEN(VMFUNC, LV1, has_secondary, VMX_SECONDARY_VM_FUNCTIONS, NO, LV1,                                  \
         "a function that is not enabled", "25.5.6.2; S1210")                                              \
    ELSE(VMFUNC, LV0_UNDEFINED, "not enabled", "25.5.6.2")                                                 \
    WHEN(ENCLS, LV1, is_lv1_encls, VMX_SECONDARY_ENCLS_EXITING, OPERAND, LV1, "function in Lv1's bitmap",  \
         "25.1.3; S1210")                                                                                  \
    ELSE(ENCLS, LV0_UNDEFINED, "not offered", "S1270")                                                     \
    WHEN(RDSEED, LV1, has_secondary, VMX_SECONDARY_RDSEED_EXITING, NO, LV1, "RDSEED exiting",              \
         "25.1.3; S1210")                                                                                  \
    ELSE(RDSEED, LV0_EMULATE, "Lv0 alone", "S1270")                                                        \
    ELSE(PML_FULL, LV0_UNEXPECTED, "the processor keeps no log of Lv2", "28.2.6")                          \
    WHEN(XSAVES, UNDEFINED, lacks_secondary, VMX_SECONDARY_XSAVES, NO, LV0_UNDEFINED, "not enabled",       \
         "25.3")                                                                                           \
    WHEN(XSAVES, LV1, is_lv1_xss, 0, XSS, LV1, "component in Lv1's bitmap", "25.1.3; S1210")               \
    ELSE(XSAVES, LV0_EMULATE, "Lv0 alone", "S1270")                                                        \
    WHEN(XRSTORS, UNDEFINED, lacks_secondary, VMX_SECONDARY_XSAVES, NO, LV0_UNDEFINED, "not enabled",      \
         "25.3")                                                                                           \
    WHEN(XRSTORS, LV1, is_lv1_xss, 0, XSS, LV1, "component in Lv1's bitmap", "25.1.3; S1210")              \
    ELSE(XRSTORS, LV0_EMULATE, "Lv0 alone", "S1270")                                                       \
    WHEN(PCONFIG, LV1, is_lv1_pconfig, VMX_SECONDARY_PCONFIG, OPERAND, LV1, "function in Lv1's bitmap",    \
         "25.1.3; S1210")                                                                                  \
    ELSE(PCONFIG, LV0_UNDEFINED, "not offered", "S1270")                                                   \
    ELSE(SUB_PAGE, LV0_UNEXPECTED, "the tables are Lv0's, and have none", "28.2.4")                        \
    WHEN(UMWAIT, UNDEFINED, lacks_secondary, VMX_SECONDARY_USER_WAIT, NO, LV0_UNDEFINED, "not enabled",    \
         "25.3")                                                                                           \
    WHEN(UMWAIT, LV1, has_primary, VMX_PRIMARY_RDTSC_EXITING, NO, LV1, "RDTSC exiting", "25.1.3; S1210")   \
    ELSE(UMWAIT, LV0_EMULATE, "Lv0 alone", "S1270")                                                        \
    WHEN(TPAUSE, UNDEFINED, lacks_secondary, VMX_SECONDARY_USER_WAIT, NO, LV0_UNDEFINED, "not enabled",    \
         "25.3")                                                                                           \
    WHEN(TPAUSE, LV1, has_primary, VMX_PRIMARY_RDTSC_EXITING, NO, LV1, "RDTSC exiting", "25.1.3; S1210")   \
    ELSE(TPAUSE, LV0_EMULATE, "Lv0 alone", "S1270")                                                        \
    WHEN(LOADIWKEY, LV1, has_tertiary, VMX_TERTIARY_LOADIWKEY_EXITING, NO, LV1, "LOADIWKEY exiting",       \
         "25.1.3; S1210")                                                                                  \
    ELSE(LOADIWKEY, LV0_UNDEFINED, "not offered", "S1270")                                                 \
    WHEN(ENCLV, LV1, is_lv1_enclv, VMX_SECONDARY_ENCLV_EXITING, OPERAND, LV1, "function in Lv1's bitmap",  \
         "25.1.3; S1210")                                                                                  \
    ELSE(ENCLV, LV0_UNDEFINED, "not offered", "S1270")                                                     \
    ELSE(RESERVED_71, LV0_UNEXPECTED, "no such reason", "appendix C")                                      \
    WHEN(ENQCMD_PASID, LV1, has_secondary, VMX_SECONDARY_PASID_TRANSLATION, NO, LV1, "PASID translation",  \
         "25.5.8; S1210")                                                                                  \
    ELSE(ENQCMD_PASID, LV0_UNEXPECTED, "Lv0 has none", "25.5.8")                                           \
    WHEN(ENQCMDS_PASID, LV1, has_secondary, VMX_SECONDARY_PASID_TRANSLATION, NO, LV1, "PASID translation", \
         "25.5.8; S1210")                                                                                  \
    ELSE(ENQCMDS_PASID, LV0_UNEXPECTED, "Lv0 has none", "25.5.8")                                          \
    WHEN(BUS_LOCK, LV1, has_secondary, VMX_SECONDARY_BUS_LOCK_DETECTION, NO, LV1, "bus-lock detection",    \
         "25.2; S1210")                                                                                    \
    ELSE(BUS_LOCK, LV0_UNEXPECTED, "Lv0 has none", "25.2")                                                 \
    WHEN(INSTRUCTION_TIMEOUT, LV1, has_secondary, VMX_SECONDARY_INSTRUCTION_TIMEOUT, NO, LV1,              \
         "instruction timeout", "25.2; S1210")                                                             \
    ELSE(INSTRUCTION_TIMEOUT, LV0_UNEXPECTED, "Lv0 has none", "25.2")                                      \
    ELSE(SEAMCALL, LV0_UNDEFINED, "not offered", "S1270")                                                  \
    ELSE(TDCALL, LV0_UNDEFINED, "not offered", "S1270")
// clang-format on

/* The rows of a reason end with its ELSE; a reason without one, or with two, does not compile. */
enum owner_row_index {
#define WHEN(REASON, CASE, ...) OWNER_ROW_##REASON##_##CASE,
#define ELSE(REASON, ...)       OWNER_LAST_##REASON,
    OWNER_ROWS(WHEN, ELSE)
#undef WHEN
#undef ELSE
        OWNER_ROW_NO_EXIT,
    OWNER_ROWS_COUNT,
};

static const struct nested_owner_row rows[OWNER_ROWS_COUNT] = {
#define WHEN(REASON, CASE, RULE, CONTROLS, NEEDS, OWNER, NAME, SOURCE)                                       \
    [OWNER_ROW_##REASON##_##                                                                                 \
        CASE] = {EXIT_REASON_##REASON, NESTED_##OWNER, NEEDS, RULE, CONTROLS, NAME, SOURCE},
#define ELSE(REASON, OWNER, NAME, SOURCE)                                                                    \
    [OWNER_LAST_##REASON] = {EXIT_REASON_##REASON, NESTED_##OWNER, NO, always, 0, NAME, SOURCE},
    OWNER_ROWS(WHEN, ELSE)
#undef WHEN
#undef ELSE
        [OWNER_ROW_NO_EXIT] = {EXIT_REASON_COUNT, NESTED_LV0_UNEXPECTED, NO, always, 0, "no such exit",
                               "appendix C"},
};

/* The last row of each reason. Those of the reason before it end where its own begin. */
static const uint8_t last_rows[EXIT_REASON_COUNT] = {
#define X(NUMBER, NAME, TEXT) [NUMBER] = OWNER_LAST_##NAME,
    EXIT_REASONS(X)
#undef X
};

_Static_assert(OWNER_ROWS_COUNT <= UINT8_MAX, "last_rows holds the index of any row");

static unsigned first_row(unsigned reason)
{
    return reason == 0 ? 0 : last_rows[reason - 1] + 1U;
}

/* Whether the flags beside the basic reason are such as an exit from Lv2 can have. */
static bool is_plain(uint32_t reason)
{
    const uint32_t flags = reason & ~EXIT_REASON_BASIC;

    switch (reason & EXIT_REASON_BASIC) {
    case EXIT_REASON_ENTRY_FAILURE_GUEST_STATE:
    case EXIT_REASON_ENTRY_FAILURE_MSR_LOADING:
    case EXIT_REASON_ENTRY_FAILURE_MACHINE_CHECK:
        return flags == EXIT_REASON_ENTRY_FAILURE;
    default:
        return (flags & ~EXIT_FLAG_BUS_LOCK) == 0;
    }
}

unsigned nested_owner_needs(uint32_t reason)
{
    const unsigned basic = reason & EXIT_REASON_BASIC;
    unsigned needs = 0;

    if (basic < EXIT_REASON_COUNT)
        for (unsigned i = first_row(basic); i <= last_rows[basic]; i++)
            needs |= rows[i].needs;
    return needs;
}

const struct nested_owner_row *nested_owner_find(const struct nested_owner_exit *exit)
{
    const unsigned basic = exit->reason & EXIT_REASON_BASIC;
    const struct nested_owner_row *row;

    if (unlikely(basic >= EXIT_REASON_COUNT || !is_plain(exit->reason)))
        return &rows[OWNER_ROW_NO_EXIT];
    row = &rows[first_row(basic)];
    while (!row->holds(exit, row))
        row++;
    return row;
}

const struct nested_owner_row *nested_owner_rows(size_t *count)
{
    *count = ARRAY_SIZE(rows);
    return rows;
}

const char *nested_owner_name(enum nested_owner owner)
{
    static const char *const names[NESTED_OWNERS] = {
        [NESTED_LV0] = "Lv0",
        [NESTED_LV0_MEMORY] = "Lv0, memory",
        [NESTED_LV0_CR] = "Lv0, CR update",
        [NESTED_LV0_EMULATE] = "Lv0, emulated",
        [NESTED_LV0_UNDEFINED] = "Lv0, #UD",
        [NESTED_LV0_UNEXPECTED] = "unexpected",
        [NESTED_LV1] = "Lv1",
    };

    return names[owner];
}
