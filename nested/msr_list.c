// SPDX-License-Identifier: BSD-2-Clause
#include "nested/msr_list.h"

#include "arch/x86/msr.h"
#include "mm/guest_memory.h"

/* Of entries that IA32_VMX_MISC recommends at most, the unit (SDM vol. 3, A.6). */
#define LIST_UNIT 512

/* An entry of a list (SDM vol. 3, table "Format of an MSR Entry"). */
struct list_entry {
    uint32_t index;
    uint32_t reserved;
    uint64_t value;
};

_Static_assert(sizeof(struct list_entry) == 16, "the format of a list entry");

/*
 * What no list may name, whatever RDMSR and WRMSR would do (SDM vol. 3, "Loading MSRs", "Saving MSRs"): the
 * bases that segments have in the VMCS, the registers of a local APIC in x2APIC mode, those of SMM, and the
 * microcode's, which the manual leaves to the model.
 */
static const struct {
    uint32_t first, last;
    bool store, load; /* forbidden in such lists */
} forbidden[] = {
    {MSR_IA32_BIOS_UPDT_TRIG, MSR_IA32_BIOS_UPDT_TRIG, false, true},
    {MSR_IA32_BIOS_SIGN_ID, MSR_IA32_BIOS_SIGN_ID, false, true},
    {MSR_IA32_SMM_MONITOR_CTL, MSR_IA32_SMM_MONITOR_CTL, false, true},
    {MSR_IA32_SMBASE, MSR_IA32_SMBASE, true, true},
    {MSR_IA32_X2APIC_FIRST, MSR_IA32_X2APIC_LAST, true, true},
    {MSR_IA32_FS_BASE, MSR_IA32_GS_BASE, false, true},
};

/* Registers of a guest that its VMCS holds. */
static const struct {
    uint32_t index;
    uint16_t field; /* enum vmcs_index */
    uint8_t loaded; /* enum nested_list_register; NESTED_LIST_REGISTERS: no list loads it */
} in_vmcs[] = {
    {MSR_IA32_SYSENTER_CS, VMCS_INDEX_GUEST_SYSENTER_CS, NESTED_LIST_SYSENTER_CS},
    {MSR_IA32_SYSENTER_ESP, VMCS_INDEX_GUEST_SYSENTER_ESP, NESTED_LIST_SYSENTER_ESP},
    {MSR_IA32_SYSENTER_EIP, VMCS_INDEX_GUEST_SYSENTER_EIP, NESTED_LIST_SYSENTER_EIP},
    {MSR_IA32_DEBUGCTL, VMCS_INDEX_GUEST_DEBUGCTL, NESTED_LIST_DEBUGCTL},
    {MSR_IA32_PAT, VMCS_INDEX_GUEST_PAT, NESTED_LIST_PAT},
    {MSR_IA32_FS_BASE, VMCS_INDEX_GUEST_FS_BASE, NESTED_LIST_REGISTERS},
    {MSR_IA32_GS_BASE, VMCS_INDEX_GUEST_GS_BASE, NESTED_LIST_REGISTERS},
};

bool nested_msr_field(uint32_t index, struct vmcs_field *field)
{
    for (unsigned i = 0; i < ARRAY_SIZE(in_vmcs); i++) {
        if (in_vmcs[i].index != index)
            continue;
        *field = vmcs_field_at(in_vmcs[i].field);
        return true;
    }
    return false;
}

unsigned nested_msr_list_limit(const struct nested_vcpu *n)
{
    const uint64_t misc = n->policy->capabilities.offered.misc;

    return LIST_UNIT * ((unsigned)(misc >> VMX_MISC_MSR_LIST_SHIFT & VMX_MISC_MSR_LIST_MASK) + 1);
}

static bool is_forbidden(const struct list_entry *entry, bool load)
{
    for (unsigned i = 0; i < ARRAY_SIZE(forbidden); i++)
        if (entry->index >= forbidden[i].first && entry->index <= forbidden[i].last)
            return load ? forbidden[i].load : forbidden[i].store;
    return entry->reserved != 0;
}

/* Entry `number`, counted from 1, of the list at `list`: false if it is one too many, or must not be there.
 */
static bool read_entry(const struct nested_vcpu *n, gpa_t list, unsigned number, bool load,
                       struct list_entry *entry)
{
    const gpa_t place = GPA(list.value + (number - 1) * sizeof(*entry));

    if (number > nested_msr_list_limit(n))
        return false;
    if (guest_memory_read(n->memory, place, entry, sizeof(*entry), NULL) != 0)
        return false; /* all ones: the reserved bits are not 0 */
    return !is_forbidden(entry, load);
}

/*
 * Commands that take the processor long, and that are the same however often they are given while only the
 * list is gone through. A repetition waits for the end of the list, where it is given once: whatever a list
 * has, it costs two of each.
 */
static const struct {
    uint32_t index;
    uint64_t value;
} commands[] = {
    {MSR_IA32_PRED_CMD, PRED_CMD_IBPB},
    {MSR_IA32_FLUSH_CMD, FLUSH_CMD_L1D},
};

/* Of a list, so far: BIT(place in commands[]). */
struct given {
    unsigned once, again;
};

/* WRMSR of what an entry says. */
static bool write_register(struct nested_vcpu *n, const struct list_entry *entry, struct given *given)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        if (entry->index != commands[i].index || entry->value != commands[i].value)
            continue;
        if ((given->once & BIT(i)) != 0) {
            given->again |= (unsigned)BIT(i);
            return true;
        }
        given->once |= (unsigned)BIT(i);
    }
    return n->ops->write_msr(n->context, entry->index, entry->value);
}

/* The list has come to its end: what waited for that. */
static bool give_again(struct nested_vcpu *n, const struct given *given)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        if ((given->again & BIT(i)) != 0 &&
            !n->ops->write_msr(n->context, commands[i].index, commands[i].value))
            return false;
    return true;
}

/* WRMSR as the last of what an entry loads: of what VMCS02 holds, the merge has to know. */
static bool load_for_entry(struct nested_vcpu *n, const struct list_entry *entry, struct cr_state *state,
                           struct nested_list_values *values, struct given *given)
{
    unsigned effects;

    if (entry->index == MSR_IA32_EFER)
        return policy_efer_write(n->policy->registers, state, entry->value, &effects) == CR_DONE;
    if (!write_register(n, entry, given))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(in_vmcs); i++) {
        if (in_vmcs[i].index != entry->index)
            continue;
        values->present |= (uint32_t)BIT(in_vmcs[i].loaded);
        values->values[in_vmcs[i].loaded] = entry->value;
    }
    return true;
}

unsigned nested_msr_list_enter(struct nested_vcpu *n, struct cr_state *state,
                               struct nested_list_values *values)
{
    const gpa_t list = GPA(vmcs12_read(&n->vmcs12, VMCS_ENTRY_MSR_LOAD_ADDRESS));
    const uint64_t count = vmcs12_read(&n->vmcs12, VMCS_ENTRY_MSR_LOAD_COUNT);
    struct given given = {0};
    struct list_entry entry;

    values->present = 0;
    if (likely(count == 0))
        return 0;
    for (unsigned number = 1; number <= count; number++)
        if (!read_entry(n, list, number, true, &entry) || !load_for_entry(n, &entry, state, values, &given))
            return number;
    return give_again(n, &given) ? 0 : (unsigned)count;
}

/* RDMSR of Lv2. */
static bool read_register(struct nested_vcpu *n, uint32_t index, uint64_t *value)
{
    struct vmcs_field field;

    if (index == MSR_IA32_EFER || index == MSR_IA32_PAT) {
        *value = index == MSR_IA32_EFER ? vcpu_read_efer(&n->vcpu02) : vcpu_read_pat(&n->vcpu02);
        return true;
    }
    if (nested_msr_field(index, &field)) {
        *value = vcpu_read(&n->vcpu02, field);
        return true;
    }
    return n->ops->read_msr(n->context, index, value);
}

bool nested_msr_list_store(struct nested_vcpu *n)
{
    const gpa_t list = GPA(vmcs12_read(&n->vmcs12, VMCS_EXIT_MSR_STORE_ADDRESS));
    const uint64_t count = vmcs12_read(&n->vmcs12, VMCS_EXIT_MSR_STORE_COUNT);
    struct list_entry entry;

    if (likely(count == 0))
        return true;
    for (unsigned number = 1; number <= count; number++) {
        const gpa_t place =
            GPA(list.value + (number - 1) * sizeof(entry) + offsetof(struct list_entry, value));

        if (!read_entry(n, list, number, false, &entry) || !read_register(n, entry.index, &entry.value) ||
            guest_memory_write(n->memory, place, &entry.value, sizeof(entry.value), NULL) != 0)
            return false;
    }
    return true;
}

bool nested_msr_list_leave(struct nested_vcpu *n)
{
    const gpa_t list = GPA(vmcs12_read(&n->vmcs12, VMCS_EXIT_MSR_LOAD_ADDRESS));
    const uint64_t count = vmcs12_read(&n->vmcs12, VMCS_EXIT_MSR_LOAD_COUNT);
    struct given given = {0};
    struct list_entry entry;

    if (likely(count == 0))
        return true;
    for (unsigned number = 1; number <= count; number++)
        if (!read_entry(n, list, number, true, &entry) || !write_register(n, &entry, &given))
            return false;
    return give_again(n, &given);
}
