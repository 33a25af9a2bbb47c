// SPDX-License-Identifier: BSD-2-Clause
#include "nested/checks.h"

#include "nested/checks_rows.h"

/* ---- Groups ------------------------------------------------------------------------------------------ */

#define GROUP(NAME) BIT(NESTED_CHECK_##NAME)

#define CONTROL_GROUPS                                                                                       \
    (GROUP(EXECUTION) | GROUP(ADDRESSES) | GROUP(VIRTUAL_TPR) | GROUP(EXIT) | GROUP(ENTRY) | GROUP(EVENT))
#define HOST_GROUPS  (GROUP(HOST_REGISTERS) | GROUP(HOST_SEGMENTS) | GROUP(ADDRESS_SPACE))
#define GUEST_GROUPS (NESTED_CHECK_ALL & ~(CONTROL_GROUPS | HOST_GROUPS))

static const struct nested_check_table *const tables[NESTED_CHECK_GROUPS] = {
    [NESTED_CHECK_EXECUTION] = &nested_checks_execution,
    [NESTED_CHECK_ADDRESSES] = &nested_checks_addresses,
    [NESTED_CHECK_VIRTUAL_TPR] = &nested_checks_virtual_tpr,
    [NESTED_CHECK_EXIT] = &nested_checks_exit,
    [NESTED_CHECK_ENTRY] = &nested_checks_entry,
    [NESTED_CHECK_EVENT] = &nested_checks_event,
    [NESTED_CHECK_HOST_REGISTERS] = &nested_checks_host_registers,
    [NESTED_CHECK_HOST_SEGMENTS] = &nested_checks_host_segments,
    [NESTED_CHECK_ADDRESS_SPACE] = &nested_checks_address_space,
    [NESTED_CHECK_REGISTERS] = &nested_checks_registers,
    [NESTED_CHECK_ES] = &nested_checks_es,
    [NESTED_CHECK_CS] = &nested_checks_cs,
    [NESTED_CHECK_SS] = &nested_checks_ss,
    [NESTED_CHECK_DS] = &nested_checks_ds,
    [NESTED_CHECK_FS] = &nested_checks_fs,
    [NESTED_CHECK_GS] = &nested_checks_gs,
    [NESTED_CHECK_LDTR] = &nested_checks_ldtr,
    [NESTED_CHECK_TR] = &nested_checks_tr,
    [NESTED_CHECK_TABLES] = &nested_checks_tables,
    [NESTED_CHECK_RIP] = &nested_checks_rip,
    [NESTED_CHECK_NON_REGISTER] = &nested_checks_non_register,
    [NESTED_CHECK_LINK] = &nested_checks_link,
    [NESTED_CHECK_PDPTES] = &nested_checks_pdptes,
    [NESTED_CHECK_PDPTE_TABLE] = &nested_checks_pdpte_table,
};

/*
 * The groups that look at a field. What is often written and of which nearly all groups look at one bit that
 * hardly ever changes is in `mode_groups` instead, further down, as far as that bit goes.
 */
#define LOOK(FIELD, GROUPS) [VMCS_INDEX_##FIELD] = (GROUPS)
#define SEGMENT(S, GROUPS)                                                                                   \
    LOOK(GUEST_##S##_SELECTOR, GROUP(S)), LOOK(GUEST_##S##_BASE, GROUP(S)),                                  \
        LOOK(GUEST_##S##_LIMIT, GROUP(S)), LOOK(GUEST_##S##_ACCESS_RIGHTS, GROUP(S) | (GROUPS))

static const uint32_t looks[VMCS_FIELD_COUNT] = {
    LOOK(PIN_CONTROLS, GROUP(EXECUTION) | GROUP(EXIT) | GROUP(NON_REGISTER)),
    LOOK(PRIMARY_CONTROLS, GROUP(EXECUTION) | GROUP(ADDRESSES) | GROUP(VIRTUAL_TPR)),
    LOOK(SECONDARY_CONTROLS, GROUP(EXECUTION) | GROUP(ADDRESSES) | GROUP(VIRTUAL_TPR)),
    LOOK(CR3_TARGET_COUNT, GROUP(EXECUTION)),
    LOOK(IO_BITMAP_A, GROUP(ADDRESSES)),
    LOOK(IO_BITMAP_B, GROUP(ADDRESSES)),
    LOOK(MSR_BITMAPS, GROUP(ADDRESSES)),
    LOOK(VIRTUAL_APIC_ADDRESS, GROUP(ADDRESSES) | GROUP(VIRTUAL_TPR)),
    LOOK(TPR_THRESHOLD, GROUP(ADDRESSES) | GROUP(VIRTUAL_TPR)),
    LOOK(APIC_ACCESS_ADDRESS, GROUP(ADDRESSES)),
    LOOK(VPID, GROUP(ADDRESSES)),
    LOOK(EPT_POINTER, GROUP(ADDRESSES)),

    LOOK(EXIT_CONTROLS, GROUP(EXIT) | GROUP(HOST_REGISTERS) | GROUP(HOST_SEGMENTS) | GROUP(ADDRESS_SPACE)),
    LOOK(EXIT_MSR_STORE_COUNT, GROUP(EXIT)),
    LOOK(EXIT_MSR_STORE_ADDRESS, GROUP(EXIT)),
    LOOK(EXIT_MSR_LOAD_COUNT, GROUP(EXIT)),
    LOOK(EXIT_MSR_LOAD_ADDRESS, GROUP(EXIT)),

    LOOK(ENTRY_CONTROLS, GROUP(ENTRY) | GROUP(ADDRESS_SPACE) | GROUP(REGISTERS) | GROUP(CS) | GROUP(TR) |
                             GROUP(RIP) | GROUP(PDPTES) | GROUP(PDPTE_TABLE)),
    LOOK(ENTRY_MSR_LOAD_COUNT, GROUP(ENTRY)),
    LOOK(ENTRY_MSR_LOAD_ADDRESS, GROUP(ENTRY)),
    LOOK(ENTRY_INTERRUPTION_INFO, GROUP(EVENT) | GROUP(RIP) | GROUP(NON_REGISTER)),
    LOOK(ENTRY_EXCEPTION_ERROR_CODE, GROUP(EVENT)),
    LOOK(ENTRY_INSTRUCTION_LENGTH, GROUP(EVENT)),

    LOOK(HOST_CR0, GROUP(HOST_REGISTERS)),
    LOOK(HOST_CR3, GROUP(HOST_REGISTERS)),
    LOOK(HOST_CR4, GROUP(HOST_REGISTERS) | GROUP(ADDRESS_SPACE)),
    LOOK(HOST_SYSENTER_ESP, GROUP(HOST_REGISTERS)),
    LOOK(HOST_SYSENTER_EIP, GROUP(HOST_REGISTERS)),
    LOOK(HOST_PAT, GROUP(HOST_REGISTERS)),
    LOOK(HOST_EFER, GROUP(HOST_REGISTERS)),
    LOOK(HOST_ES_SELECTOR, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_CS_SELECTOR, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_SS_SELECTOR, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_DS_SELECTOR, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_FS_SELECTOR, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_GS_SELECTOR, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_TR_SELECTOR, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_FS_BASE, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_GS_BASE, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_TR_BASE, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_GDTR_BASE, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_IDTR_BASE, GROUP(HOST_SEGMENTS)),
    LOOK(HOST_RIP, GROUP(ADDRESS_SPACE)),

    LOOK(GUEST_CR0, GROUP(REGISTERS) | GROUP(PDPTES) | GROUP(PDPTE_TABLE)),
    LOOK(GUEST_CR3, GROUP(REGISTERS) | GROUP(PDPTE_TABLE)),
    LOOK(GUEST_CR4, GROUP(REGISTERS) | GROUP(PDPTES) | GROUP(PDPTE_TABLE)),
    LOOK(GUEST_DEBUGCTL, GROUP(REGISTERS) | GROUP(NON_REGISTER)),
    LOOK(GUEST_DR7, GROUP(REGISTERS)),
    LOOK(GUEST_SYSENTER_ESP, GROUP(REGISTERS)),
    LOOK(GUEST_SYSENTER_EIP, GROUP(REGISTERS)),
    LOOK(GUEST_PAT, GROUP(REGISTERS)),
    LOOK(GUEST_EFER, GROUP(REGISTERS)),

    SEGMENT(ES, 0),
    SEGMENT(SS, GROUP(CS) | GROUP(NON_REGISTER)),
    SEGMENT(DS, 0),
    SEGMENT(FS, 0),
    SEGMENT(GS, 0),
    SEGMENT(LDTR, 0),
    SEGMENT(TR, 0),
    LOOK(GUEST_CS_SELECTOR, GROUP(CS) | GROUP(SS)),
    LOOK(GUEST_CS_BASE, GROUP(CS)),
    LOOK(GUEST_CS_LIMIT, GROUP(CS)),
    LOOK(GUEST_CS_ACCESS_RIGHTS, GROUP(CS) | GROUP(SS) | GROUP(RIP)),

    LOOK(GUEST_GDTR_BASE, GROUP(TABLES)),
    LOOK(GUEST_GDTR_LIMIT, GROUP(TABLES)),
    LOOK(GUEST_IDTR_BASE, GROUP(TABLES)),
    LOOK(GUEST_IDTR_LIMIT, GROUP(TABLES)),

    LOOK(GUEST_RIP, GROUP(RIP)),
    LOOK(GUEST_RFLAGS, GROUP(RIP) | GROUP(NON_REGISTER)),

    LOOK(GUEST_ACTIVITY, GROUP(NON_REGISTER)),
    LOOK(GUEST_INTERRUPTIBILITY, GROUP(NON_REGISTER)),
    LOOK(GUEST_PENDING_DEBUG, GROUP(NON_REGISTER)),
    LOOK(VMCS_LINK_POINTER, GROUP(LINK)),

    LOOK(GUEST_PDPTE0, GROUP(PDPTES)),
    LOOK(GUEST_PDPTE1, GROUP(PDPTES)),
    LOOK(GUEST_PDPTE2, GROUP(PDPTES)),
    LOOK(GUEST_PDPTE3, GROUP(PDPTES)),
};

/* Bits of struct nested_checked, and the groups that look at what they stand for. Those that look at memory
 * are checked in any case. */
enum mode {
    MODE_VIRTUAL_8086,
    MODE_UNRESTRICTED,
    MODE_PROTECTED,
    MODE_EPT,
    MODE_FROM_IA32E, /* Lv1 is in IA-32e mode */
};

static const uint32_t mode_groups[] = {
    [MODE_VIRTUAL_8086] = GROUP(ES) | GROUP(CS) | GROUP(SS) | GROUP(DS) | GROUP(FS) | GROUP(GS),
    [MODE_UNRESTRICTED] = GROUP(EVENT) | GROUP(REGISTERS) | GROUP(ES) | GROUP(CS) | GROUP(SS) | GROUP(DS) |
                          GROUP(FS) | GROUP(GS),
    [MODE_PROTECTED] = GROUP(EVENT) | GROUP(SS) | GROUP(RIP),
    [MODE_EPT] = GROUP(PDPTES),
    [MODE_FROM_IA32E] = GROUP(ADDRESS_SPACE),
};

static uint32_t modes_of(const struct nested_check_context *c)
{
    return (uint32_t)check_is_virtual_8086(c) << MODE_VIRTUAL_8086 |
           (uint32_t)check_is_unrestricted(c) << MODE_UNRESTRICTED |
           (uint32_t)check_is_protected(c) << MODE_PROTECTED |
           (uint32_t)vmcs12_has_secondary(c->vmcs, VMX_SECONDARY_EPT) << MODE_EPT |
           (uint32_t)c->ia32e_mode << MODE_FROM_IA32E;
}

/*
 * Groups that look at memory, which can change without a VMWRITE. Left out are those that hold whatever
 * memory has: by the fields alone they look at none.
 */
static uint32_t memory_groups(const struct nested_check_context *c)
{
    const struct vmcs12 *vmcs = c->vmcs;
    uint32_t groups = 0;

    if (vmcs12_has_primary(vmcs, VMX_PRIMARY_TPR_SHADOW) && (vmcs12_read(vmcs, VMCS_TPR_THRESHOLD) & 15) != 0)
        groups |= GROUP(VIRTUAL_TPR);
    if (vmcs12_read(vmcs, VMCS_VMCS_LINK_POINTER) != UINT64_MAX)
        groups |= GROUP(LINK);
    if (!check_is_ia32e_guest(c) && (vmcs12_read(vmcs, VMCS_GUEST_CR0) & X86_CR0_PG) != 0)
        groups |= GROUP(PDPTE_TABLE);
    return groups;
}

uint32_t nested_check_groups(const struct nested_check_context *context, const struct nested_checked *checked)
{
    uint32_t changed = modes_of(context) ^ checked->modes;
    uint32_t groups = memory_groups(context);

    for (; changed != 0; changed &= changed - 1)
        groups |= mode_groups[__builtin_ctz(changed)];
    for (unsigned i = 0; i < VMCS12_FIELD_WORDS; i++)
        for (uint64_t written = context->vmcs->written[i]; written != 0; written &= written - 1)
            groups |= looks[i * 64 + (unsigned)__builtin_ctzll(written)];
    return groups;
}

void nested_check_passed(const struct nested_check_context *context, struct nested_checked *checked)
{
    checked->modes = modes_of(context);
}

/* ---- Checking ---------------------------------------------------------------------------------------- */

/* The words of controls that rows depend on, as they are in force. */
struct words {
    uint32_t words[VMX_WORDS];
};

static struct words words_of(const struct vmcs12 *vmcs)
{
    struct words in_force = {{0}};

    in_force.words[VMX_WORD_PIN] = (uint32_t)vmcs12_read(vmcs, VMCS_PIN_CONTROLS);
    in_force.words[VMX_WORD_PRIMARY] = (uint32_t)vmcs12_read(vmcs, VMCS_PRIMARY_CONTROLS);
    if (vmcs12_has_primary(vmcs, VMX_PRIMARY_SECONDARY_CONTROLS))
        in_force.words[VMX_WORD_SECONDARY] = (uint32_t)vmcs12_read(vmcs, VMCS_SECONDARY_CONTROLS);
    in_force.words[VMX_WORD_EXIT] = (uint32_t)vmcs12_read(vmcs, VMCS_EXIT_CONTROLS);
    in_force.words[VMX_WORD_ENTRY] = (uint32_t)vmcs12_read(vmcs, VMCS_ENTRY_CONTROLS);
    return in_force;
}

static const struct nested_check_row *check(const struct nested_check_context *c, uint32_t groups)
{
    struct words in_force;

    if (groups == 0)
        return NULL;
    in_force = words_of(c->vmcs);
    for (; groups != 0; groups &= groups - 1) {
        const struct nested_check_table *table = tables[__builtin_ctz(groups)];

        if (table->holds != NULL && table->holds(c))
            continue;
        for (const struct nested_check_row *row = table->rows; row < table->rows + table->count; row++)
            if ((in_force.words[row->word] & row->mask) == row->mask && !row->holds(c, row->field))
                return row;
    }
    return NULL;
}

const struct nested_check_row *nested_check_controls(const struct nested_check_context *context,
                                                     uint32_t groups)
{
    return check(context, groups & CONTROL_GROUPS);
}

const struct nested_check_row *nested_check_host(const struct nested_check_context *context, uint32_t groups)
{
    return check(context, groups & HOST_GROUPS);
}

const struct nested_check_row *nested_check_guest(const struct nested_check_context *context, uint32_t groups)
{
    return check(context, groups & GUEST_GROUPS);
}

/* ---- Listings ---------------------------------------------------------------------------------------- */

const struct nested_check_row *nested_check_rows(enum nested_check_group group, size_t *count)
{
    *count = tables[group]->count;
    return tables[group]->rows;
}

const struct nested_check_row *nested_check_at(unsigned number)
{
    for (unsigned i = 0; i < NESTED_CHECK_GROUPS; number -= tables[i++]->count)
        if (number < tables[i]->count)
            return &tables[i]->rows[number];
    return NULL;
}

unsigned nested_check_number(const struct nested_check_row *row)
{
    unsigned before = 0;

    for (unsigned i = 0; i < NESTED_CHECK_GROUPS; before += (unsigned)tables[i++]->count) {
        const uintptr_t offset = (uintptr_t)row - (uintptr_t)tables[i]->rows;

        if (offset < tables[i]->count * sizeof(*row))
            return before + (unsigned)(offset / sizeof(*row));
    }
    return before;
}

const char *nested_check_group_name(enum nested_check_group group)
{
    return tables[group]->name;
}

uint32_t nested_check_field_groups(unsigned field)
{
    return looks[field];
}

/* ---- Predicates of more than one table --------------------------------------------------------------- */

bool nested_check_is_canonical(const struct nested_check_context *c, unsigned field)
{
    return check_sign_extended(check_value(c, field), c->linear_bits);
}

bool nested_check_is_page(const struct nested_check_context *c, unsigned field)
{
    uint64_t address = check_value(c, field);

    return is_aligned(address, PAGE_SIZE) && check_fits(c, address);
}

bool nested_check_fits(const struct nested_check_context *c, unsigned field)
{
    return check_fits(c, check_value(c, field));
}

bool nested_check_is_pat(const struct nested_check_context *c, unsigned field)
{
    static const uint8_t types = BIT(MEMORY_TYPE_UC) | BIT(MEMORY_TYPE_WC) | BIT(MEMORY_TYPE_WT) |
                                 BIT(MEMORY_TYPE_WP) | BIT(MEMORY_TYPE_WB) | BIT(MEMORY_TYPE_UC_MINUS);

    for (uint64_t pat = check_value(c, field); pat != 0; pat >>= 8)
        if ((pat & 0xff) > MEMORY_TYPE_UC_MINUS || (types >> (pat & 7) & 1) == 0)
            return false;
    return true;
}

bool nested_check_is_efer(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & ~(c->efer | X86_EFER_LMA)) == 0;
}

bool nested_check_is_cr4(const struct nested_check_context *c, unsigned field)
{
    return nested_capabilities_cr4_valid(c->capabilities, check_value(c, field));
}

/* An entry of a list is 16 bytes. */
#define LIST_ENTRY 16

static uint64_t list_size(const struct nested_check_context *c, unsigned address)
{
    struct vmcs_field count = address == VMCS_INDEX_EXIT_MSR_STORE_ADDRESS  ? VMCS_EXIT_MSR_STORE_COUNT
                              : address == VMCS_INDEX_EXIT_MSR_LOAD_ADDRESS ? VMCS_EXIT_MSR_LOAD_COUNT
                                                                            : VMCS_ENTRY_MSR_LOAD_COUNT;

    return vmcs12_read(c->vmcs, count) * LIST_ENTRY;
}

bool nested_check_is_list(const struct nested_check_context *c, unsigned field)
{
    uint64_t address = check_value(c, field);

    return list_size(c, field) == 0 || (is_aligned(address, LIST_ENTRY) && check_fits(c, address));
}

/* The sum does not wrap: the row before has seen to the address. */
bool nested_check_list_ends(const struct nested_check_context *c, unsigned field)
{
    uint64_t size = list_size(c, field);

    return size == 0 || check_fits(c, check_value(c, field) + size - 1);
}
