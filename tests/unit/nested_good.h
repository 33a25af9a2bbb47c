// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/* A VMCS12 that may be entered: Lv2 in 64-bit mode, of an Lv1 that uses as little as it can. */
#include <string.h>

#include "arch/x86/registers.h"
#include "nested/vmcs12.h"
#include "vmx/controls.h"

/* Fills in *vmcs, for an Lv1 that is offered `offered`. Lv1 goes on at `host_rip` with tables at `host_cr3`.
 */
static inline void nested_good_vmcs12(struct vmcs12 *vmcs, const struct vmx_capabilities *offered,
                                      uint64_t host_rip, uint64_t host_cr3)
{
    const struct {
        struct vmcs_field field;
        uint64_t value;
    } values[] = {
        {VMCS_PIN_CONTROLS, vmx_controls_must(offered, VMX_WORD_PIN)},
        {VMCS_PRIMARY_CONTROLS, vmx_controls_must(offered, VMX_WORD_PRIMARY)},
        {VMCS_EXIT_CONTROLS, vmx_controls_must(offered, VMX_WORD_EXIT) | VMX_EXIT_HOST_64},
        {VMCS_ENTRY_CONTROLS, vmx_controls_must(offered, VMX_WORD_ENTRY) | VMX_ENTRY_IA32E_GUEST},
        {VMCS_HOST_CR0, X86_CR0_PG | X86_CR0_NE | X86_CR0_ET | X86_CR0_PE},
        {VMCS_HOST_CR3, host_cr3},
        {VMCS_HOST_CR4, X86_CR4_VMXE | X86_CR4_PAE},
        {VMCS_HOST_CS_SELECTOR, 8},
        {VMCS_HOST_SS_SELECTOR, 16},
        {VMCS_HOST_TR_SELECTOR, 24},
        {VMCS_HOST_RIP, host_rip},
        {VMCS_GUEST_CR0, X86_CR0_PG | X86_CR0_NE | X86_CR0_ET | X86_CR0_PE},
        {VMCS_GUEST_CR3, 0x8000},
        {VMCS_GUEST_CR4, X86_CR4_VMXE | X86_CR4_PAE},
        {VMCS_GUEST_DR7, X86_DR7_INIT},
        {VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF},
        {VMCS_GUEST_RIP, 0x1234},
        {VMCS_GUEST_RSP, 0x5678},
        {VMCS_VMCS_LINK_POINTER, UINT64_MAX},
    };
    /* ES, CS, SS, DS, FS, GS, LDTR, TR. */
    static const struct {
        uint16_t selector;
        uint32_t limit, rights;
    } segments[] = {{16, UINT32_MAX, 0xc093}, {8, UINT32_MAX, 0xa09b},  {16, UINT32_MAX, 0xc093},
                    {16, UINT32_MAX, 0xc093}, {16, UINT32_MAX, 0xc093}, {16, UINT32_MAX, 0xc093},
                    {0, 0, 0x10000},          {24, 0x67, 0x8b}};

    memset(vmcs, 0, sizeof(*vmcs));
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        vmcs12_write(vmcs, vmcs_field_at(i), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
        vmcs12_write(vmcs, values[i].field, values[i].value);
    for (unsigned i = 0; i < ARRAY_SIZE(segments); i++) {
        vmcs12_write(vmcs, vmcs_field_at(VMCS_INDEX_GUEST_ES_SELECTOR + i), segments[i].selector);
        vmcs12_write(vmcs, vmcs_field_at(VMCS_INDEX_GUEST_ES_LIMIT + i), segments[i].limit);
        vmcs12_write(vmcs, vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + i), segments[i].rights);
    }
}
