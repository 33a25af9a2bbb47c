// SPDX-License-Identifier: BSD-2-Clause
/*
 * Checks on the guest-state area but for its segment registers (SDM vol. 3, 27.3.1): an entry that fails one
 * exits with reason 33.
 */
#include "arch/x86/exception.h"
#include "arch/x86/paging_x86.h"
#include "nested/checks_rows.h"

/* Bits of the access rights. */
#define RIGHTS_LONG        BIT(13)
#define RIGHTS_DPL(rights) ((rights) >> 5 & 3)

/* ---- Control registers, debug registers, MSRs -------------------------------------------------------- */

/* An unrestricted guest is free to leave out protection and paging; CD and NW are not loaded, but both of
 * their values are allowed in VMX operation in any case. */
static bool is_guest_cr0(const struct nested_check_context *c, unsigned field)
{
    uint64_t free = check_is_unrestricted(c) ? X86_CR0_PE | X86_CR0_PG : 0;

    return nested_capabilities_cr0_valid(c->capabilities, check_value(c, field) | free);
}

static bool pages_in_protected_mode(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & X86_CR0_PG) == 0 || check_is_protected(c);
}

static bool has_paging(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & X86_CR0_PG) != 0;
}

static bool has_pae(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & X86_CR4_PAE) != 0;
}

static bool may_use_pcids(const struct nested_check_context *c, unsigned field)
{
    return check_is_ia32e_guest(c) || (check_value(c, field) & X86_CR4_PCIDE) == 0;
}

static bool is_debugctl(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & ~c->debugctl) == 0;
}

static bool is_dr7(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) >> 32 == 0;
}

static bool is_guest_lma(const struct nested_check_context *c, unsigned field)
{
    return ((check_value(c, field) & X86_EFER_LMA) != 0) == check_is_ia32e_guest(c);
}

/* Without paging, LME may be 1 alone: IA-32e mode comes with paging. */
static bool is_guest_lme(const struct nested_check_context *c, unsigned field)
{
    uint64_t efer = check_value(c, field);

    return (vmcs12_read(c->vmcs, VMCS_GUEST_CR0) & X86_CR0_PG) == 0 ||
           ((efer & X86_EFER_LMA) != 0) == ((efer & X86_EFER_LME) != 0);
}

static const struct nested_check_row register_rows[] = {
    ROW(GUEST_CR0, "CR0", "27.3.1.1", is_guest_cr0),
    ROW(GUEST_CR0, "CR0.PG without PE", "27.3.1.1", pages_in_protected_mode),
    ROW(GUEST_CR4, "CR4", "27.3.1.1", nested_check_is_cr4),
    ROW(GUEST_DEBUGCTL, "IA32_DEBUGCTL", "27.3.1.1", is_debugctl, IF(ENTRY, LOAD_DEBUG_CONTROLS)),
    ROW(GUEST_CR0, "IA-32e mode without paging", "27.3.1.1", has_paging, IF(ENTRY, IA32E_GUEST)),
    ROW(GUEST_CR4, "IA-32e mode without PAE", "27.3.1.1", has_pae, IF(ENTRY, IA32E_GUEST)),
    ROW(GUEST_CR4, "CR4.PCIDE outside IA-32e mode", "27.3.1.1", may_use_pcids),
    ROW(GUEST_CR3, "CR3", "27.3.1.1", nested_check_fits),
    ROW(GUEST_DR7, "DR7", "27.3.1.1", is_dr7, IF(ENTRY, LOAD_DEBUG_CONTROLS)),
    ROW(GUEST_SYSENTER_ESP, "IA32_SYSENTER_ESP", "27.3.1.1", nested_check_is_canonical),
    ROW(GUEST_SYSENTER_EIP, "IA32_SYSENTER_EIP", "27.3.1.1", nested_check_is_canonical),
    ROW(GUEST_PAT, "IA32_PAT", "27.3.1.1", nested_check_is_pat, IF(ENTRY, LOAD_PAT)),
    ROW(GUEST_EFER, "IA32_EFER", "27.3.1.1", nested_check_is_efer, IF(ENTRY, LOAD_EFER)),
    ROW(GUEST_EFER, "IA32_EFER.LMA", "27.3.1.1", is_guest_lma, IF(ENTRY, LOAD_EFER)),
    ROW(GUEST_EFER, "IA32_EFER.LME", "27.3.1.1", is_guest_lme, IF(ENTRY, LOAD_EFER)),
};
TABLE(registers, "registers", register_rows);

/* ---- Descriptor tables ------------------------------------------------------------------------------- */

static bool is_table_limit(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) >> 16 == 0;
}

static const struct nested_check_row table_rows[] = {
    ROW(GUEST_GDTR_BASE, "GDTR base", "27.3.1.3", nested_check_is_canonical),
    ROW(GUEST_IDTR_BASE, "IDTR base", "27.3.1.3", nested_check_is_canonical),
    ROW(GUEST_GDTR_LIMIT, "GDTR limit", "27.3.1.3", is_table_limit),
    ROW(GUEST_IDTR_LIMIT, "IDTR limit", "27.3.1.3", is_table_limit),
};
TABLE(tables, "descriptor tables", table_rows);

/* ---- RIP and RFLAGS ---------------------------------------------------------------------------------- */

#define RFLAGS_RESERVED 0xffffffffffc08028 /* must be 0: 63:22, 15, 5, 3 */

/*
 * In 64-bit mode bits 63:N are alike, which is less than canonical: an instruction that ends at the last
 * canonical address below the hole leaves a RIP behind that points into it.
 */
static bool is_guest_rip(const struct nested_check_context *c, unsigned field)
{
    uint64_t rip = check_value(c, field);
    uint64_t high = UINT64_MAX << c->linear_bits;

    if (!check_is_ia32e_guest(c) || (vmcs12_read(c->vmcs, VMCS_GUEST_CS_ACCESS_RIGHTS) & RIGHTS_LONG) == 0)
        return rip >> 32 == 0;
    return (rip & high) == 0 || (rip & high) == high;
}

static bool is_rflags(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & (RFLAGS_RESERVED | X86_RFLAGS_RESERVED)) == X86_RFLAGS_RESERVED;
}

static bool may_be_virtual_8086(const struct nested_check_context *c, unsigned field __unused)
{
    return !check_is_virtual_8086(c) || (!check_is_ia32e_guest(c) && check_is_protected(c));
}

static bool takes_interrupts(const struct nested_check_context *c, unsigned field)
{
    return !check_injects(c, VCPU_EVENT_EXTERNAL_INTERRUPT) || (check_value(c, field) & X86_RFLAGS_IF) != 0;
}

static const struct nested_check_row rip_rows[] = {
    ROW(GUEST_RIP, "RIP", "27.3.1.4", is_guest_rip),
    ROW(GUEST_RFLAGS, "RFLAGS", "27.3.1.4", is_rflags),
    ROW(GUEST_RFLAGS, "RFLAGS.VM", "27.3.1.4", may_be_virtual_8086),
    ROW(GUEST_RFLAGS, "RFLAGS.IF with an interrupt", "27.3.1.4", takes_interrupts),
};
TABLE(rip, "RIP and RFLAGS", rip_rows);

/* ---- Non-register state ------------------------------------------------------------------------------ */

/* Activity states (SDM vol. 3, "Guest Non-Register State"). */
enum activity {
    ACTIVITY_ACTIVE,
    ACTIVITY_HLT,
    ACTIVITY_SHUTDOWN,
    ACTIVITY_WAIT_FOR_SIPI,
};

/* The interruptibility state: besides the bits of vmx/events.h, blocking by SMI and reserved ones; nobody is
 * in SMM, or in an enclave. */
#define BLOCKING_BY_SMI             BIT(2)
#define INTERRUPTIBILITY_RESERVED   0xfffffff0
#define BLOCKING_FOR_AN_INSTRUCTION (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)

/* Pending debug exceptions (table "Format of Pending-Debug-Exceptions"): B0 to B3, an enabled breakpoint, BS,
 * RTM. */
#define PENDING_ENABLED             BIT(12)
#define PENDING_BS                  BIT(14)
#define PENDING_RTM                 BIT(16)
#define PENDING_RESERVED            (~(0xfULL | PENDING_ENABLED | PENDING_BS | PENDING_RTM))

static uint64_t blocking(const struct nested_check_context *c)
{
    return vmcs12_read(c->vmcs, VMCS_GUEST_INTERRUPTIBILITY);
}

/* Which ones there are besides the active state is one bit each of IA32_VMX_MISC, side by side. */
static bool is_activity(const struct nested_check_context *c, unsigned field)
{
    uint64_t activity = check_value(c, field);

    return activity <= ACTIVITY_WAIT_FOR_SIPI &&
           (activity == ACTIVITY_ACTIVE ||
            (c->capabilities->offered.misc & VMX_MISC_ACTIVITY_HLT << (activity - ACTIVITY_HLT)) != 0);
}

static bool may_halt(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) != ACTIVITY_HLT ||
           RIGHTS_DPL(vmcs12_read(c->vmcs, VMCS_GUEST_SS_ACCESS_RIGHTS)) == 0;
}

static bool is_active_if_blocked(const struct nested_check_context *c, unsigned field)
{
    return (blocking(c) & BLOCKING_FOR_AN_INSTRUCTION) == 0 || check_value(c, field) == ACTIVITY_ACTIVE;
}

/* Only what would end the state. */
static bool wakes(const struct nested_check_context *c, unsigned field)
{
    unsigned vector = EVENT_VECTOR(vmcs12_read(c->vmcs, VMCS_ENTRY_INTERRUPTION_INFO));
    bool exception = check_injects(c, VCPU_EVENT_HARDWARE_EXCEPTION);
    bool nmi_or_mc = check_injects(c, VCPU_EVENT_NMI) || (exception && vector == X86_VECTOR_MC);

    if (!check_injects_any(c))
        return true;
    switch (check_value(c, field)) {
    case ACTIVITY_ACTIVE:
        return true;
    case ACTIVITY_HLT:
        return nmi_or_mc || (exception && vector == X86_VECTOR_DB) ||
               check_injects(c, VCPU_EVENT_EXTERNAL_INTERRUPT) || check_injects(c, VCPU_EVENT_OTHER);
    case ACTIVITY_SHUTDOWN:
        return nmi_or_mc;
    default:
        return false;
    }
}

static bool has_no_reserved_blocking(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & INTERRUPTIBILITY_RESERVED) == 0;
}

static bool is_blocked_by_one(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & BLOCKING_FOR_AN_INSTRUCTION) != BLOCKING_FOR_AN_INSTRUCTION;
}

static bool may_be_blocked_by_sti(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & BLOCKING_BY_STI) == 0 ||
           (vmcs12_read(c->vmcs, VMCS_GUEST_RFLAGS) & X86_RFLAGS_IF) != 0;
}

static bool interrupts_are_open(const struct nested_check_context *c, unsigned field)
{
    return !check_injects(c, VCPU_EVENT_EXTERNAL_INTERRUPT) ||
           (check_value(c, field) & BLOCKING_FOR_AN_INSTRUCTION) == 0;
}

static bool nmis_are_open_to_mov_ss(const struct nested_check_context *c, unsigned field)
{
    return !check_injects(c, VCPU_EVENT_NMI) || (check_value(c, field) & BLOCKING_BY_MOV_SS) == 0;
}

static bool smis_are_open(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & BLOCKING_BY_SMI) == 0;
}

/* The SDM leaves this one to the processor; there are some that VMCS02 would fail on. */
static bool nmis_are_open_to_sti(const struct nested_check_context *c, unsigned field)
{
    return !check_injects(c, VCPU_EVENT_NMI) || (check_value(c, field) & BLOCKING_BY_STI) == 0;
}

static bool virtual_nmis_are_open(const struct nested_check_context *c, unsigned field)
{
    return !check_injects(c, VCPU_EVENT_NMI) || (check_value(c, field) & BLOCKING_BY_NMI) == 0;
}

static bool has_no_reserved_pending(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & PENDING_RESERVED) == 0;
}

/*
 * Where the guest stands right behind an instruction, single-stepping must have noticed that one. BTF is that
 * of the field, which the SDM names, also if the entry leaves the register as it is: settle_single_step() of
 * nested/entry.c makes up for VMCS02's other value.
 */
static bool is_single_step(const struct nested_check_context *c, unsigned field)
{
    bool steps = (vmcs12_read(c->vmcs, VMCS_GUEST_RFLAGS) & X86_RFLAGS_TF) != 0 &&
                 (vmcs12_read(c->vmcs, VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF) == 0;

    if ((blocking(c) & BLOCKING_FOR_AN_INSTRUCTION) == 0 &&
        vmcs12_read(c->vmcs, VMCS_GUEST_ACTIVITY) != ACTIVITY_HLT)
        return true;
    return ((check_value(c, field) & PENDING_BS) != 0) == steps;
}

/* An advanced debug exception of a transaction comes alone. */
static bool is_rtm(const struct nested_check_context *c, unsigned field)
{
    uint64_t pending = check_value(c, field);

    if ((pending & PENDING_RTM) == 0)
        return true;
    return c->rtm && pending == (PENDING_RTM | PENDING_ENABLED) && (blocking(c) & BLOCKING_BY_MOV_SS) == 0;
}

static const struct nested_check_row non_register_rows[] = {
    ROW(GUEST_ACTIVITY, "activity state", "27.3.1.5", is_activity),
    ROW(GUEST_ACTIVITY, "HLT above CPL 0", "27.3.1.5", may_halt),
    ROW(GUEST_ACTIVITY, "inactive behind STI or MOV SS", "27.3.1.5", is_active_if_blocked),
    ROW(GUEST_ACTIVITY, "event in such an activity state", "27.3.1.5", wakes),
    ROW(GUEST_INTERRUPTIBILITY, "interruptibility state", "27.3.1.5", has_no_reserved_blocking),
    ROW(GUEST_INTERRUPTIBILITY, "blocking by STI and MOV SS", "27.3.1.5", is_blocked_by_one),
    ROW(GUEST_INTERRUPTIBILITY, "blocking by STI without IF", "27.3.1.5", may_be_blocked_by_sti),
    ROW(GUEST_INTERRUPTIBILITY, "interrupt behind STI or MOV SS", "27.3.1.5", interrupts_are_open),
    ROW(GUEST_INTERRUPTIBILITY, "NMI behind MOV SS", "27.3.1.5", nmis_are_open_to_mov_ss),
    ROW(GUEST_INTERRUPTIBILITY, "blocking by SMI", "27.3.1.5", smis_are_open),
    ROW(GUEST_INTERRUPTIBILITY, "NMI behind STI", "27.3.1.5", nmis_are_open_to_sti,
        .qualification = NESTED_CHECK_QUALIFICATION_NMI),
    ROW(GUEST_INTERRUPTIBILITY, "NMI while virtual ones are blocked", "27.3.1.5", virtual_nmis_are_open,
        IF(PIN, VIRTUAL_NMIS)),
    ROW(GUEST_PENDING_DEBUG, "pending debug exceptions", "27.3.1.5", has_no_reserved_pending),
    ROW(GUEST_PENDING_DEBUG, "pending BS", "27.3.1.5", is_single_step),
    ROW(GUEST_PENDING_DEBUG, "pending RTM", "27.3.1.5", is_rtm),
};

/* Active, nothing blocked, nothing pending: any event may come. */
static bool runs_freely(const struct nested_check_context *c)
{
    return (vmcs12_read(c->vmcs, VMCS_GUEST_ACTIVITY) | blocking(c) |
            vmcs12_read(c->vmcs, VMCS_GUEST_PENDING_DEBUG)) == 0;
}

TABLE(non_register, "non-register state", non_register_rows, .holds = runs_freely);

/* ---- VMCS link pointer ------------------------------------------------------------------------------- */

#define NO_LINK UINT64_MAX

static bool is_link(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) == NO_LINK || nested_check_is_page(c, field);
}

/* Bit 31, that of a shadow VMCS, is the control "VMCS shadowing": 0. */
static bool links_to_vmcs(const struct nested_check_context *c, unsigned field)
{
    uint32_t revision;

    if (check_value(c, field) == NO_LINK)
        return true;
    check_read(c, check_value(c, field), &revision, sizeof(revision));
    return revision == VMCS12_REVISION;
}

static bool links_elsewhere(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) != c->current;
}

static const struct nested_check_row link_rows[] = {
    ROW(VMCS_LINK_POINTER, "VMCS link pointer", "27.3.1.5", is_link,
        .qualification = NESTED_CHECK_QUALIFICATION_LINK),
    ROW(VMCS_LINK_POINTER, "revision of the linked VMCS", "27.3.1.5", links_to_vmcs,
        .qualification = NESTED_CHECK_QUALIFICATION_LINK),
    ROW(VMCS_LINK_POINTER, "VMCS linked to itself", "27.3.1.5", links_elsewhere,
        .qualification = NESTED_CHECK_QUALIFICATION_LINK),
};

static bool has_no_link(const struct nested_check_context *c)
{
    return vmcs12_read(c->vmcs, VMCS_VMCS_LINK_POINTER) == NO_LINK;
}

TABLE(link, "VMCS link pointer", link_rows, .holds = has_no_link);

/* ---- Page-directory-pointer-table entries ------------------------------------------------------------ */

#define PDPTE_LEVEL 3

/* The guest does not use PAE paging. */
static bool uses_no_pdptes(const struct nested_check_context *c)
{
    return check_is_ia32e_guest(c) || (vmcs12_read(c->vmcs, VMCS_GUEST_CR0) & X86_CR0_PG) == 0 ||
           (vmcs12_read(c->vmcs, VMCS_GUEST_CR4) & X86_CR4_PAE) == 0;
}

static bool is_good_pdpte(const struct nested_check_context *c, uint64_t pdpte)
{
    return (pdpte & PTE_PRESENT) == 0 ||
           (pdpte & paging_x86_reserved(&paging_x86_pae, PDPTE_LEVEL, false, c->physical_bits, false)) == 0;
}

static bool is_pdpte(const struct nested_check_context *c, unsigned field)
{
    return uses_no_pdptes(c) || is_good_pdpte(c, check_value(c, field));
}

/* All four are read at once, and once only: the entry is to load what was checked. */
static bool is_pdpte_table(const struct nested_check_context *c, unsigned field)
{
    uint64_t pdptes[4];

    if (uses_no_pdptes(c) || vmcs12_has_secondary(c->vmcs, VMX_SECONDARY_EPT))
        return true;
    check_read(c, check_value(c, field) & 0xffffffe0, pdptes, sizeof(pdptes));
    for (unsigned i = 0; i < ARRAY_SIZE(pdptes); i++)
        if (!is_good_pdpte(c, pdptes[i]))
            return false;
    memcpy(c->pdptes, pdptes, sizeof(pdptes));
    return true;
}

static const struct nested_check_row pdpte_rows[] = {
    ROW(GUEST_PDPTE0, "PDPTE 0", "27.3.1.6", is_pdpte, IF(SECONDARY, EPT),
        .qualification = NESTED_CHECK_QUALIFICATION_PDPTES),
    ROW(GUEST_PDPTE1, "PDPTE 1", "27.3.1.6", is_pdpte, IF(SECONDARY, EPT),
        .qualification = NESTED_CHECK_QUALIFICATION_PDPTES),
    ROW(GUEST_PDPTE2, "PDPTE 2", "27.3.1.6", is_pdpte, IF(SECONDARY, EPT),
        .qualification = NESTED_CHECK_QUALIFICATION_PDPTES),
    ROW(GUEST_PDPTE3, "PDPTE 3", "27.3.1.6", is_pdpte, IF(SECONDARY, EPT),
        .qualification = NESTED_CHECK_QUALIFICATION_PDPTES),
};
TABLE(pdptes, "PDPTEs", pdpte_rows, .holds = uses_no_pdptes);

static const struct nested_check_row pdpte_table_rows[] = {
    ROW(GUEST_CR3, "PDPTEs in memory", "27.3.1.6", is_pdpte_table,
        .qualification = NESTED_CHECK_QUALIFICATION_PDPTES),
};
TABLE(pdpte_table, "PDPTEs in memory", pdpte_table_rows, .holds = uses_no_pdptes);
