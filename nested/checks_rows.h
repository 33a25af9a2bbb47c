// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the tables of entry checks are written with; for the files nested/checks*.c alone.
 */
#include "arch/x86/msr.h"
#include "arch/x86/registers.h"
#include "lib/string.h"
#include "nested/checks.h"
#include "vmx/events.h"

/* The rows of one group. */
struct nested_check_table {
    const char *name;
    const struct nested_check_row *rows;
    size_t count;
    /* True: all rows hold, as can be seen at a glance, and at nearly every entry. NULL: no such glance. */
    bool (*holds)(const struct nested_check_context *context);
};

extern const struct nested_check_table nested_checks_execution, nested_checks_addresses,
    nested_checks_virtual_tpr, nested_checks_exit, nested_checks_entry, nested_checks_event,
    nested_checks_host_registers, nested_checks_host_segments, nested_checks_address_space,
    nested_checks_registers, nested_checks_es, nested_checks_cs, nested_checks_ss, nested_checks_ds,
    nested_checks_fs, nested_checks_gs, nested_checks_ldtr, nested_checks_tr, nested_checks_tables,
    nested_checks_rip, nested_checks_non_register, nested_checks_link, nested_checks_pdptes,
    nested_checks_pdpte_table;

#define TABLE(GROUP, NAME, ROWS, ...)                                                                        \
    const struct nested_check_table nested_checks_##GROUP = {                                                \
        .name = (NAME), .rows = (ROWS), .count = ARRAY_SIZE(ROWS), __VA_ARGS__}

/* A row; at its end the control that it depends on, IF(WORD, CONTROL), unless it always applies. */
#define ROW(FIELD, NAME, SECTION, PREDICATE, ...)                                                            \
    {                                                                                                        \
        .name = (NAME), .section = (SECTION), .holds = (PREDICATE), .field = VMCS_INDEX_##FIELD, __VA_ARGS__ \
    }
#define IF(WORD, CONTROL) .word = VMX_WORD_##WORD, .mask = VMX_##WORD##_##CONTROL

static inline uint64_t check_value(const struct nested_check_context *c, unsigned field)
{
    return c->vmcs->values[field];
}

static inline bool check_is_unrestricted(const struct nested_check_context *c)
{
    return vmcs12_has_secondary(c->vmcs, VMX_SECONDARY_UNRESTRICTED_GUEST);
}

static inline bool check_is_ia32e_guest(const struct nested_check_context *c)
{
    return vmcs12_has_entry(c->vmcs, VMX_ENTRY_IA32E_GUEST);
}

static inline bool check_is_virtual_8086(const struct nested_check_context *c)
{
    return (vmcs12_read(c->vmcs, VMCS_GUEST_RFLAGS) & X86_RFLAGS_VM) != 0;
}

/* The guest will be in protected mode, by CR0.PE. */
static inline bool check_is_protected(const struct nested_check_context *c)
{
    return (vmcs12_read(c->vmcs, VMCS_GUEST_CR0) & X86_CR0_PE) != 0;
}

/* Whether the entry injects an event, one of `type` or any. */
static inline bool check_injects_any(const struct nested_check_context *c)
{
    return (vmcs12_read(c->vmcs, VMCS_ENTRY_INTERRUPTION_INFO) & EVENT_VALID) != 0;
}

static inline bool check_injects(const struct nested_check_context *c, enum vcpu_event_type type)
{
    return check_injects_any(c) && EVENT_TYPE(vmcs12_read(c->vmcs, VMCS_ENTRY_INTERRUPTION_INFO)) == type;
}

/* `address` sets no bit beyond the physical-address width. */
static inline bool check_fits(const struct nested_check_context *c, uint64_t address)
{
    return address >> c->physical_bits == 0;
}

static inline bool check_sign_extended(uint64_t address, unsigned bits)
{
    return (uint64_t)((int64_t)(address << (64 - bits)) >> (64 - bits)) == address;
}

/* `size` bytes of memory, ones where there is none. */
static inline void check_read(const struct nested_check_context *c, uint64_t address, void *to, size_t size)
{
    if (!c->read(c->context, address, to, size))
        memset(to, 0xff, size);
}

/* ---- Predicates of more than one table, nested/checks.c ---------------------------------------------- */

/* The field is an address that bases, and pointers in MSRs, may have: canonical on this processor in its
 * widest mode, whatever CR4.LA57. */
bool nested_check_is_canonical(const struct nested_check_context *c, unsigned field);

/* The field is the physical address of a page. */
bool nested_check_is_page(const struct nested_check_context *c, unsigned field);

/* The field sets no bit beyond the physical-address width: CR3. */
bool nested_check_fits(const struct nested_check_context *c, unsigned field);

/* The field is a value that WRMSR to IA32_PAT takes. */
bool nested_check_is_pat(const struct nested_check_context *c, unsigned field);

/* The field has no bit that software may not set in IA32_EFER. */
bool nested_check_is_efer(const struct nested_check_context *c, unsigned field);

/* The field is one that CR4 can have in VMX operation. */
bool nested_check_is_cr4(const struct nested_check_context *c, unsigned field);

/* The address of an MSR list, and the list's last byte; of no interest when the list is empty. */
bool nested_check_is_list(const struct nested_check_context *c, unsigned field);
bool nested_check_list_ends(const struct nested_check_context *c, unsigned field);
