// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * APIC virtualisation: what the processor does of a local APIC by itself, on the register page that the model
 * keeps (SDM vol. 3, chapter "APIC Virtualization and Virtual Interrupts"). Which of its features are used is
 * chosen once for a partition; which of them are on follows the mode of each vCPU's local APIC:
 *
 *   xAPIC   "virtualize APIC accesses" on a page of the partition's own that stands at the APIC's address
 *   x2APIC  "virtualize x2APIC mode", and an MSR bitmap that lets the virtual registers through
 *   none    disabled: the TPR shadow alone
 *
 * The mode is the same in both regimes: with EPT the access page stands in the guest's memory, with shadow
 * paging in the tables that the processor walks. In the first two modes, where the processor has them,
 * together with "APIC-register virtualization" and "virtual-interrupt delivery", and posted interrupts. Where
 * it has not, and where a partition's policy is to intercept the TPR, everything is emulated from exits; the
 * model is the same.
 *
 * There is no state but the VMCS and the register page: RVI, SVI and the EOI-exit bitmap are made of IRR, ISR
 * and TMR whenever events are looked at (vmx/events.c).
 */
#include "vmx/vcpu.h"

/* The vector that makes a processor look at the posted interrupts of the vCPU that it runs. */
#define APICV_NOTIFICATION_VECTOR 0xf2

enum apicv_mode {
    APICV_NONE,
    APICV_XAPIC,
    APICV_X2APIC,
};

/* One partition's. The frames are the caller's, for as long as its vCPUs live. */
struct apicv {
    bool accesses;     /* virtualize APIC accesses */
    bool x2apic;       /* virtualize x2APIC mode */
    bool delivery;     /* APIC-register virtualization and virtual-interrupt delivery */
    bool posted;       /* posted interrupts */
    hpa_t access_page; /* if `accesses`: a zeroed frame, the partition's */
    /* By regime; 0 for one that no vCPU is ever in. */
    hpa_t msr_bitmap[VCPU_REGIMES];        /* filled by policy_msr_bitmap */
    hpa_t msr_bitmap_x2apic[VCPU_REGIMES]; /* if `x2apic`: filled by policy_msr_bitmap_x2apic */
};

/*
 * Says which features a partition with `controls` can use; the caller then fills in the frames. None without
 * the TPR shadow, which all of them build on. Start-up.
 */
void apicv_choose(struct apicv *apicv, const struct vmx_capabilities *capabilities,
                  const struct vmx_controls *controls);

/*
 * Prepares the VMCS of a vCPU that was built with `controls`, in mode APICV_NONE. `posted`: its
 * posted-interrupt descriptor. The VMCS is current.
 */
void apicv_init(const struct apicv *apicv, struct vcpu *vcpu, hpa_t posted);

/*
 * The vCPU's local APIC is in `mode` now: controls and MSR bitmap follow. The caller sees to it that the
 * access page stands at the APIC's address in APICV_XAPIC, and nowhere otherwise. The VMCS is current.
 */
void apicv_set_mode(const struct apicv *apicv, struct vcpu *vcpu, enum apicv_mode mode);

/* Whether the processor delivers the local APIC's interrupts by itself now. The VMCS is current. */
static inline bool apicv_delivers(struct vcpu *vcpu)
{
    return (vcpu_read(vcpu, VMCS_SECONDARY_CONTROLS) & VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY) != 0;
}

/*
 * If so, tells it what IRR, ISR and TMR say: requesting and servicing vector, and which EOIs exit. The VMCS
 * is current; exit path, when events have changed.
 */
void apicv_before_entry(struct vcpu *vcpu);
