// SPDX-License-Identifier: BSD-2-Clause
/* Checks on the host-state area (SDM vol. 3, 27.2.2 to 27.2.4): an entry that fails one is VMfailValid(8). */
#include "nested/checks_rows.h"

static bool is_64_bit_host(const struct nested_check_context *c)
{
    return vmcs12_has_exit(c->vmcs, VMX_EXIT_HOST_64);
}

/* ---- Control registers and MSRs ---------------------------------------------------------------------- */

static bool is_host_cr0(const struct nested_check_context *c, unsigned field)
{
    return nested_capabilities_cr0_valid(c->capabilities, check_value(c, field));
}

/* LME and LMA are both what "host address-space size" says. */
static bool is_host_mode(const struct nested_check_context *c, unsigned field)
{
    uint64_t wanted = is_64_bit_host(c) ? X86_EFER_LME | X86_EFER_LMA : 0;

    return (check_value(c, field) & (X86_EFER_LME | X86_EFER_LMA)) == wanted;
}

static const struct nested_check_row register_rows[] = {
    ROW(HOST_CR0, "host CR0", "27.2.2", is_host_cr0),
    ROW(HOST_CR4, "host CR4", "27.2.2", nested_check_is_cr4),
    ROW(HOST_CR3, "host CR3", "27.2.2", nested_check_fits),
    ROW(HOST_SYSENTER_ESP, "host IA32_SYSENTER_ESP", "27.2.2", nested_check_is_canonical),
    ROW(HOST_SYSENTER_EIP, "host IA32_SYSENTER_EIP", "27.2.2", nested_check_is_canonical),
    ROW(HOST_PAT, "host IA32_PAT", "27.2.2", nested_check_is_pat, IF(EXIT, LOAD_PAT)),
    ROW(HOST_EFER, "host IA32_EFER", "27.2.2", nested_check_is_efer, IF(EXIT, LOAD_EFER)),
    ROW(HOST_EFER, "host IA32_EFER.LMA and LME", "27.2.2", is_host_mode, IF(EXIT, LOAD_EFER)),
};
TABLE(host_registers, "host registers", register_rows);

/* ---- Segment and descriptor-table registers ---------------------------------------------------------- */

#define SELECTOR_RPL_AND_TI 7

static bool is_host_selector(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & SELECTOR_RPL_AND_TI) == 0;
}

static bool is_not_null(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) != 0;
}

static bool is_host_ss(const struct nested_check_context *c, unsigned field)
{
    return check_value(c, field) != 0 || is_64_bit_host(c);
}

static const struct nested_check_row segment_rows[] = {
    ROW(HOST_ES_SELECTOR, "host ES", "27.2.3", is_host_selector),
    ROW(HOST_CS_SELECTOR, "host CS", "27.2.3", is_host_selector),
    ROW(HOST_SS_SELECTOR, "host SS", "27.2.3", is_host_selector),
    ROW(HOST_DS_SELECTOR, "host DS", "27.2.3", is_host_selector),
    ROW(HOST_FS_SELECTOR, "host FS", "27.2.3", is_host_selector),
    ROW(HOST_GS_SELECTOR, "host GS", "27.2.3", is_host_selector),
    ROW(HOST_TR_SELECTOR, "host TR", "27.2.3", is_host_selector),
    ROW(HOST_CS_SELECTOR, "host CS is null", "27.2.3", is_not_null),
    ROW(HOST_TR_SELECTOR, "host TR is null", "27.2.3", is_not_null),
    ROW(HOST_SS_SELECTOR, "host SS is null", "27.2.3", is_host_ss),
    ROW(HOST_FS_BASE, "host FS base", "27.2.3", nested_check_is_canonical),
    ROW(HOST_GS_BASE, "host GS base", "27.2.3", nested_check_is_canonical),
    ROW(HOST_GDTR_BASE, "host GDTR base", "27.2.3", nested_check_is_canonical),
    ROW(HOST_IDTR_BASE, "host IDTR base", "27.2.3", nested_check_is_canonical),
    ROW(HOST_TR_BASE, "host TR base", "27.2.3", nested_check_is_canonical),
};
TABLE(host_segments, "host segments", segment_rows);

/* ---- Address-space size ------------------------------------------------------------------------------ */

/* An exit brings Lv1 back to the mode that it entered from. */
static bool is_mode_of_entry(const struct nested_check_context *c, unsigned field __unused)
{
    return is_64_bit_host(c) == c->ia32e_mode;
}

static bool is_guest_of_64_bit_host(const struct nested_check_context *c, unsigned field __unused)
{
    return is_64_bit_host(c);
}

static bool may_use_pcids(const struct nested_check_context *c, unsigned field)
{
    return is_64_bit_host(c) || (check_value(c, field) & X86_CR4_PCIDE) == 0;
}

static bool has_pae(const struct nested_check_context *c, unsigned field)
{
    return (check_value(c, field) & X86_CR4_PAE) != 0;
}

/* The width is that of the paging mode that the exit brings about, by the CR4 that it loads. */
static bool is_host_rip(const struct nested_check_context *c, unsigned field)
{
    uint64_t rip = check_value(c, field);

    if (!is_64_bit_host(c))
        return rip >> 32 == 0;
    return check_sign_extended(rip, vmcs12_read(c->vmcs, VMCS_HOST_CR4) & X86_CR4_LA57 ? 57 : 48);
}

/* That there is no IA-32e mode guest outside IA-32e mode follows from the first two. */
static const struct nested_check_row address_space_rows[] = {
    ROW(EXIT_CONTROLS, "host address-space size", "27.2.4", is_mode_of_entry),
    ROW(ENTRY_CONTROLS, "IA-32e mode guest of a 32-bit host", "27.2.4", is_guest_of_64_bit_host,
        IF(ENTRY, IA32E_GUEST)),
    ROW(HOST_CR4, "host CR4.PCIDE", "27.2.4", may_use_pcids),
    ROW(HOST_CR4, "host CR4.PAE", "27.2.4", has_pae, IF(EXIT, HOST_64)),
    ROW(HOST_RIP, "host RIP", "27.2.4", is_host_rip),
};
TABLE(address_space, "address-space size", address_space_rows);
