// SPDX-License-Identifier: BSD-2-Clause
/* Checks on the controls (SDM vol. 3, 27.2.1): an entry that fails one is VMfailValid(7). */
#include "arch/x86/exception.h"
#include "nested/checks_rows.h"

/* ---- Words of controls ------------------------------------------------------------------------------- */

static bool word_is_offered(const struct nested_check_context *c, unsigned field, enum vmx_word word)
{
    const struct vmx_capabilities *offered = &c->capabilities->offered;
    uint64_t controls = check_value(c, field);

    return (vmx_controls_must(offered, word) & ~controls) == 0 &&
           (controls & ~vmx_controls_may(offered, word)) == 0;
}

static bool is_pin(const struct nested_check_context *c, unsigned field)
{
    return word_is_offered(c, field, VMX_WORD_PIN);
}

static bool is_primary(const struct nested_check_context *c, unsigned field)
{
    return word_is_offered(c, field, VMX_WORD_PRIMARY);
}

static bool is_secondary(const struct nested_check_context *c, unsigned field)
{
    return word_is_offered(c, field, VMX_WORD_SECONDARY);
}

static bool is_exit(const struct nested_check_context *c, unsigned field)
{
    return word_is_offered(c, field, VMX_WORD_EXIT);
}

static bool is_entry(const struct nested_check_context *c, unsigned field)
{
    return word_is_offered(c, field, VMX_WORD_ENTRY);
}

static bool is_cr3_target_count(const struct nested_check_context *c, unsigned field)
{
    uint64_t most = c->capabilities->offered.misc >> VMX_MISC_CR3_TARGETS_SHIFT & VMX_MISC_CR3_TARGETS_MASK;

    return check_value(c, field) <= most;
}

/* What one control asks of others; each is asked only where the row's own control is 1. */
static bool has_nmi_exiting(const struct nested_check_context *c, unsigned field __unused)
{
    return vmcs12_has_pin(c->vmcs, VMX_PIN_NMI_EXITING);
}

static bool has_virtual_nmis(const struct nested_check_context *c, unsigned field __unused)
{
    return vmcs12_has_pin(c->vmcs, VMX_PIN_VIRTUAL_NMIS);
}

static bool has_tpr_shadow(const struct nested_check_context *c, unsigned field __unused)
{
    return vmcs12_has_primary(c->vmcs, VMX_PRIMARY_TPR_SHADOW);
}

static bool has_no_apic_accesses(const struct nested_check_context *c, unsigned field __unused)
{
    return !vmcs12_has_secondary(c->vmcs, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES);
}

static bool has_ept(const struct nested_check_context *c, unsigned field __unused)
{
    return vmcs12_has_secondary(c->vmcs, VMX_SECONDARY_EPT);
}

static bool has_preemption_timer(const struct nested_check_context *c, unsigned field __unused)
{
    return vmcs12_has_pin(c->vmcs, VMX_PIN_PREEMPTION_TIMER);
}

/*
 * Without virtual-interrupt delivery, posted interrupts, VM functions, VMCS shadowing, PML, #VE and the like:
 * they are not offered, and who sets one of them fails by the word's reserved bits.
 */
static const struct nested_check_row execution_rows[] = {
    ROW(PIN_CONTROLS, "pin-based controls", "27.2.1.1", is_pin),
    ROW(PRIMARY_CONTROLS, "primary processor-based controls", "27.2.1.1", is_primary),
    ROW(SECONDARY_CONTROLS, "secondary processor-based controls", "27.2.1.1", is_secondary,
        IF(PRIMARY, SECONDARY_CONTROLS)),
    ROW(CR3_TARGET_COUNT, "CR3-target count", "27.2.1.1", is_cr3_target_count),
    ROW(PIN_CONTROLS, "virtual NMIs want NMI exiting", "27.2.1.1", has_nmi_exiting, IF(PIN, VIRTUAL_NMIS)),
    ROW(PRIMARY_CONTROLS, "NMI-window exiting wants virtual NMIs", "27.2.1.1", has_virtual_nmis,
        IF(PRIMARY, NMI_WINDOW_EXITING)),
    ROW(SECONDARY_CONTROLS, "x2APIC mode wants a TPR shadow", "27.2.1.1", has_tpr_shadow,
        IF(SECONDARY, VIRTUALIZE_X2APIC)),
    ROW(SECONDARY_CONTROLS, "x2APIC mode excludes APIC accesses", "27.2.1.1", has_no_apic_accesses,
        IF(SECONDARY, VIRTUALIZE_X2APIC)),
    ROW(SECONDARY_CONTROLS, "unrestricted guest wants EPT", "27.2.1.1", has_ept,
        IF(SECONDARY, UNRESTRICTED_GUEST)),
};
TABLE(execution, "VM-execution controls", execution_rows);

/* ---- What they refer to ------------------------------------------------------------------------------ */

static bool is_tpr_threshold(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) <= 15;
}

static bool is_vpid(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) != 0;
}

static bool is_eptp(const struct nested_check_context *c, unsigned field)
{
    return nested_capabilities_eptp_valid(c->capabilities, check_value(c, field), c->physical_bits);
}

static const struct nested_check_row address_rows[] = {
    ROW(IO_BITMAP_A, "I/O bitmap A", "27.2.1.1", nested_check_is_page, IF(PRIMARY, IO_BITMAPS)),
    ROW(IO_BITMAP_B, "I/O bitmap B", "27.2.1.1", nested_check_is_page, IF(PRIMARY, IO_BITMAPS)),
    ROW(MSR_BITMAPS, "MSR bitmaps", "27.2.1.1", nested_check_is_page, IF(PRIMARY, MSR_BITMAPS)),
    ROW(VIRTUAL_APIC_ADDRESS, "virtual-APIC address", "27.2.1.1", nested_check_is_page,
        IF(PRIMARY, TPR_SHADOW)),
    ROW(TPR_THRESHOLD, "TPR threshold", "27.2.1.1", is_tpr_threshold, IF(PRIMARY, TPR_SHADOW)),
    ROW(APIC_ACCESS_ADDRESS, "APIC-access address", "27.2.1.1", nested_check_is_page,
        IF(SECONDARY, VIRTUALIZE_APIC_ACCESSES)),
    ROW(VPID, "VPID", "27.2.1.1", is_vpid, IF(SECONDARY, VPID)),
    ROW(EPT_POINTER, "EPT pointer", "27.2.1.1", is_eptp, IF(SECONDARY, EPT)),
};
TABLE(addresses, "addresses of VM-execution controls", address_rows);

/* With accesses virtualized, an entry below the threshold succeeds and exits at once (27.7.7). */
static bool reaches_threshold(const struct nested_check_context *c, unsigned field)
{
    uint8_t tpr;

    /* Nothing is below 0: no need to look. */
    if ((check_value(c, field) & 15) == 0 ||
        vmcs12_has_secondary(c->vmcs, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES))
        return true;
    check_read(c, vmcs12_read(c->vmcs, VMCS_VIRTUAL_APIC_ADDRESS) + 0x80, &tpr, sizeof(tpr));
    return (check_value(c, field) & 15) <= tpr >> 4;
}

static const struct nested_check_row virtual_tpr_rows[] = {
    ROW(TPR_THRESHOLD, "virtual TPR below the threshold", "27.2.1.1", reaches_threshold,
        IF(PRIMARY, TPR_SHADOW)),
};
TABLE(virtual_tpr, "virtual TPR", virtual_tpr_rows);

/* ---- Exit and entry ---------------------------------------------------------------------------------- */

static const struct nested_check_row exit_rows[] = {
    ROW(EXIT_CONTROLS, "VM-exit controls", "27.2.1.2", is_exit),
    ROW(EXIT_CONTROLS, "saving the preemption timer wants it active", "27.2.1.2", has_preemption_timer,
        IF(EXIT, SAVE_PREEMPTION_TIMER)),
    ROW(EXIT_MSR_STORE_ADDRESS, "exit MSR-store list", "27.2.1.2", nested_check_is_list),
    ROW(EXIT_MSR_STORE_ADDRESS, "end of the exit MSR-store list", "27.2.1.2", nested_check_list_ends),
    ROW(EXIT_MSR_LOAD_ADDRESS, "exit MSR-load list", "27.2.1.2", nested_check_is_list),
    ROW(EXIT_MSR_LOAD_ADDRESS, "end of the exit MSR-load list", "27.2.1.2", nested_check_list_ends),
};
TABLE(exit, "VM-exit controls", exit_rows);

static const struct nested_check_row entry_rows[] = {
    ROW(ENTRY_CONTROLS, "VM-entry controls", "27.2.1.3", is_entry),
    ROW(ENTRY_MSR_LOAD_ADDRESS, "entry MSR-load list", "27.2.1.3", nested_check_is_list),
    ROW(ENTRY_MSR_LOAD_ADDRESS, "end of the entry MSR-load list", "27.2.1.3", nested_check_list_ends),
};
TABLE(entry, "VM-entry controls", entry_rows);

/* ---- Event injection --------------------------------------------------------------------------------- */

#define EVENT_RESERVED        0x7ffff000 /* bits 30:12 */
#define EVENT_TYPE_RESERVED   1
#define ERROR_CODE_RESERVED   0xffff0000
#define INSTRUCTION_LONGEST   15

/* The exceptions that deliver an error code where there is no #CP, as here. */
#define EXCEPTIONS_WITH_ERROR (X86_EXCEPTIONS_WITH_ERROR_CODE & ~BIT(X86_VECTOR_CP))

/* "Other event" is the monitor trap flag's exit, and there where that is. */
static bool is_event_type(const struct nested_check_context *c, unsigned field)
{
    unsigned type = EVENT_TYPE(check_value(c, field));

    if (!check_injects_any(c))
        return true;
    return type != EVENT_TYPE_RESERVED &&
           (type != VCPU_EVENT_OTHER || vmx_controls_available(&c->capabilities->offered, VMX_WORD_PRIMARY,
                                                               VMX_PRIMARY_MONITOR_TRAP_FLAG));
}

static bool is_event_vector(const struct nested_check_context *c, unsigned field)
{
    unsigned vector = EVENT_VECTOR(check_value(c, field));

    if (check_injects(c, VCPU_EVENT_NMI))
        return vector == X86_VECTOR_NMI;
    if (check_injects(c, VCPU_EVENT_HARDWARE_EXCEPTION))
        return vector < X86_VECTOR_FIRST_INTERRUPT;
    return !check_injects(c, VCPU_EVENT_OTHER) || vector == 0;
}

/* In real mode nothing delivers one; only an unrestricted guest can be there. */
static bool may_have_error_code(const struct nested_check_context *c, unsigned field)
{
    if (!check_injects_any(c) || (check_value(c, field) & EVENT_HAS_ERROR_CODE) == 0)
        return true;
    return check_injects(c, VCPU_EVENT_HARDWARE_EXCEPTION) &&
           (check_is_protected(c) || !check_is_unrestricted(c));
}

static bool has_error_code_of_vector(const struct nested_check_context *c, unsigned field)
{
    uint64_t information = check_value(c, field);
    bool wanted;

    if (!check_injects(c, VCPU_EVENT_HARDWARE_EXCEPTION) ||
        (c->capabilities->offered.basic & VMX_BASIC_ANY_ERROR_CODE) != 0 ||
        (check_is_unrestricted(c) && !check_is_protected(c)))
        return true;
    wanted = EVENT_VECTOR(information) < X86_VECTOR_FIRST_INTERRUPT &&
             (EXCEPTIONS_WITH_ERROR >> EVENT_VECTOR(information) & 1) != 0;
    return ((information & EVENT_HAS_ERROR_CODE) != 0) == wanted;
}

static bool has_no_reserved_event_bits(const struct nested_check_context *c, unsigned field)
{
    return !check_injects_any(c) || (check_value(c, field) & EVENT_RESERVED) == 0;
}

static bool is_error_code(const struct nested_check_context *c, unsigned field)
{
    if (!check_injects_any(c) ||
        (vmcs12_read(c->vmcs, VMCS_ENTRY_INTERRUPTION_INFO) & EVENT_HAS_ERROR_CODE) == 0)
        return true;
    return (check_value(c, field) & ERROR_CODE_RESERVED) == 0;
}

/* The events that return behind an instruction. */
static bool is_instruction_length(const struct nested_check_context *c, unsigned field)
{
    uint64_t length = check_value(c, field);

    if (!check_injects(c, VCPU_EVENT_SOFTWARE_INTERRUPT) &&
        !check_injects(c, VCPU_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION) &&
        !check_injects(c, VCPU_EVENT_SOFTWARE_EXCEPTION))
        return true;
    return length <= INSTRUCTION_LONGEST &&
           (length != 0 || (c->capabilities->offered.misc & VMX_MISC_INJECT_ZERO_LENGTH) != 0);
}

static const struct nested_check_row event_rows[] = {
    ROW(ENTRY_INTERRUPTION_INFO, "type of the event", "27.2.1.3", is_event_type),
    ROW(ENTRY_INTERRUPTION_INFO, "vector of the event", "27.2.1.3", is_event_vector),
    ROW(ENTRY_INTERRUPTION_INFO, "error code with such an event", "27.2.1.3", may_have_error_code),
    ROW(ENTRY_INTERRUPTION_INFO, "error code with such a vector", "27.2.1.3", has_error_code_of_vector),
    ROW(ENTRY_INTERRUPTION_INFO, "reserved bits of the event", "27.2.1.3", has_no_reserved_event_bits),
    ROW(ENTRY_EXCEPTION_ERROR_CODE, "error code of the event", "27.2.1.3", is_error_code),
    ROW(ENTRY_INSTRUCTION_LENGTH, "instruction length of the event", "27.2.1.3", is_instruction_length),
};

static bool injects_nothing(const struct nested_check_context *c)
{
    return !check_injects_any(c);
}

TABLE(event, "event injection", event_rows, .holds = injects_nothing);
