// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The VT-x that a guest hypervisor is offered: the IA32_VMX_* registers and IA32_FEATURE_CONTROL as it reads
 * them. What is offered is what the processor has, or Umbra does in its place, less what the partition may
 * not have; two tables (nested/capabilities.c) say of every control and of every other capability which of
 * these it is, and why. Pure.
 */
#include "lib/types.h"
#include "vmx/controls.h"
#include "vmx/fields.h"

struct nested_capabilities {
    /*
     * In the form of a processor's own, with the TRUE words in `controls`: vmx_controls_must/may/available
     * and vmcs_field_exists speak of Lv1's processor when they are given this. No named control must be 1,
     * only reserved bits of the default-1 class.
     */
    struct vmx_capabilities offered;
    uint64_t fields[(VMCS_FIELD_COUNT + 63) / 64]; /* a bit for each that Lv1's VMCSs have, by its index */
};

/* What a partition may have. What its CPUID does not tell is not offered here either. */
struct nested_capabilities_settings {
    const struct vmx_capabilities *hardware; /* with no obstacle (vmx_capabilities_obstacle) */
    bool ept;                                /* EPT, by the processor's or by the virtual TLB */
    bool execute_only; /* of it, pages that can be executed only: wants a target that can express them */
    bool unrestricted_guest; /* Lv2 without paging, and in real mode; nothing without `ept` */
    bool vpid;
    bool rdtscp; /* CPUID has RDTSCP; likewise */
    bool invpcid;
    bool xsaves;
    uint64_t cr4; /* the bits of CR4 whose features CPUID has: cpuid_image_cr4; VMXE is added */
};

/* Derives what is offered. When a partition is built. */
void nested_capabilities_derive(struct nested_capabilities *capabilities,
                                const struct nested_capabilities_settings *settings);

/*
 * RDMSR of register `index` by Lv1: true with *value, for IA32_FEATURE_CONTROL and those of IA32_VMX_BASIC to
 * IA32_VMX_EXIT_CTLS2 that its processor has; false: #GP, or not one of these. All of them are read-only.
 */
bool nested_capabilities_read_msr(const struct nested_capabilities *capabilities, uint32_t index,
                                  uint64_t *value) __must_check;

/*
 * Whether an entry with "enable EPT" would take `eptp` (SDM vol. 3, "VM-execution control fields"; INVEPT
 * asks the same). `physical_bits`: MAXPHYADDR as Lv1's CPUID tells it.
 */
bool nested_capabilities_eptp_valid(const struct nested_capabilities *capabilities, uint64_t eptp,
                                    uint8_t physical_bits) __must_check;

/* Whether CR0 and CR4 have such values as VMX operation allows (SDM vol. 3, "Restrictions on VMX operation").
 */
static inline bool nested_capabilities_cr0_valid(const struct nested_capabilities *capabilities, uint64_t cr0)
{
    return (capabilities->offered.cr0_fixed0 & ~cr0) == 0 && (cr0 & ~capabilities->offered.cr0_fixed1) == 0;
}

static inline bool nested_capabilities_cr4_valid(const struct nested_capabilities *capabilities, uint64_t cr4)
{
    return (capabilities->offered.cr4_fixed0 & ~cr4) == 0 && (cr4 & ~capabilities->offered.cr4_fixed1) == 0;
}

/* Whether Lv1's VMCSs have the field. */
static inline bool nested_capabilities_have_field(const struct nested_capabilities *capabilities,
                                                  struct vmcs_field field)
{
    return (capabilities->fields[field.index / 64] >> (field.index % 64) & 1) != 0;
}

/* How a control comes to be offered, or not. */
enum nested_offer {
    NESTED_OFFER_HARDWARE, /* where the processor has it: VMCS02 has it when Lv1 asks for it */
    NESTED_OFFER_EMULATED, /* everywhere: Umbra does it, whatever the processor has */
    NESTED_OFFER_NEVER,
};

/* What the table says of a control, for listings and for whoever merges it; the reason is a constant. */
enum nested_offer nested_control_offer(enum vmx_control_row row);
const char *nested_control_reason(enum vmx_control_row row);
