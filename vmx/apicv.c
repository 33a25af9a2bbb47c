// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/apicv.h"

#include "mm/physmap.h"

/* Offsets in the register page: eight registers each, 10H apart. */
#define PAGE_ISR   0x100
#define PAGE_TMR   0x180
#define PAGE_IRR   0x200
#define PAGE_WORDS 8

/* Everything here that follows the mode. */
#define DELIVERY   (VMX_SECONDARY_APIC_REGISTER_VIRTUALIZATION | VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY)
#define MODES      (VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES | VMX_SECONDARY_VIRTUALIZE_X2APIC | DELIVERY)

void apicv_choose(struct apicv *apicv, const struct vmx_capabilities *capabilities,
                  const struct vmx_controls *controls)
{
    *apicv = (struct apicv){0};
    if (!vmx_controls_have(controls, VMX_WORD_PRIMARY, VMX_PRIMARY_TPR_SHADOW))
        return;
    apicv->accesses =
        vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES);
    apicv->x2apic = vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_VIRTUALIZE_X2APIC);
    /* One is of little use without the other, and no processor has one alone. */
    apicv->delivery = vmx_controls_available(capabilities, VMX_WORD_SECONDARY, DELIVERY);
    apicv->posted =
        apicv->delivery && vmx_controls_available(capabilities, VMX_WORD_PIN, VMX_PIN_POSTED_INTERRUPTS);
}

void apicv_init(const struct apicv *apicv, struct vcpu *vcpu, hpa_t posted)
{
    if (apicv->accesses)
        vcpu_write(vcpu, VMCS_APIC_ACCESS_ADDRESS, apicv->access_page.value);
    if (apicv->posted) {
        vcpu_write(vcpu, VMCS_POSTED_INTERRUPT_VECTOR, APICV_NOTIFICATION_VECTOR);
        vcpu_write(vcpu, VMCS_POSTED_INTERRUPT_DESCRIPTOR, posted.value);
    }
    apicv_set_mode(apicv, vcpu, APICV_NONE);
}

/* The secondary controls of a mode, of those that follow it. */
static uint32_t mode_controls(const struct apicv *apicv, enum apicv_mode mode)
{
    uint32_t virtualize = 0;

    if (mode == APICV_XAPIC && apicv->accesses)
        virtualize = VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES;
    else if (mode == APICV_X2APIC && apicv->x2apic)
        virtualize = VMX_SECONDARY_VIRTUALIZE_X2APIC;
    return virtualize != 0 && apicv->delivery ? virtualize | DELIVERY : virtualize;
}

void apicv_set_mode(const struct apicv *apicv, struct vcpu *vcpu, enum apicv_mode mode)
{
    const uint32_t controls = mode_controls(apicv, mode);
    const bool posts = apicv->posted && (controls & DELIVERY) != 0;
    const bool x2apic = (controls & VMX_SECONDARY_VIRTUALIZE_X2APIC) != 0;
    const uint64_t pin = vcpu_read(vcpu, VMCS_PIN_CONTROLS) & ~(uint64_t)VMX_PIN_POSTED_INTERRUPTS;

    vcpu_write(vcpu, VMCS_PIN_CONTROLS, pin | (posts ? VMX_PIN_POSTED_INTERRUPTS : 0));
    vcpu_write(vcpu, VMCS_SECONDARY_CONTROLS,
               (vcpu_read(vcpu, VMCS_SECONDARY_CONTROLS) & ~(uint64_t)MODES) | controls);
    for (unsigned regime = 0; regime < VCPU_REGIMES; regime++)
        vcpu->msr_bitmaps[regime] = x2apic ? apicv->msr_bitmap_x2apic[regime] : apicv->msr_bitmap[regime];
    vcpu_write(vcpu, VMCS_MSR_BITMAPS, vcpu->msr_bitmaps[vcpu->regime].value);
    /* An interrupt that waits is the processor's to deliver now, or no longer. */
    vcpu->events_changed = true;
    if (controls & DELIVERY) /* its check at the entry counts only without delivery */
        vcpu_write(vcpu, VMCS_TPR_THRESHOLD, 0);
}

static uint32_t word_of(const uint32_t *page, unsigned registers, unsigned word)
{
    return page[registers / 4 + word * 4];
}

/* The highest vector in eight registers, or 0, which no interrupt has. */
static unsigned highest(const uint32_t *page, unsigned registers)
{
    for (unsigned word = PAGE_WORDS; word-- > 0;) {
        uint32_t bits = word_of(page, registers, word);

        if (bits != 0)
            return word * 32 + 31 - (unsigned)__builtin_clz(bits);
    }
    return 0;
}

void apicv_before_entry(struct vcpu *vcpu)
{
    const uint32_t *page = physmap_pointer(HPA(vcpu_read(vcpu, VMCS_VIRTUAL_APIC_ADDRESS)));

    vcpu_write(vcpu, VMCS_GUEST_INTERRUPT_STATUS, highest(page, PAGE_ISR) << 8 | highest(page, PAGE_IRR));
    for (unsigned i = 0; i < 4; i++)
        vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_EOI_EXIT_BITMAP0 + i),
                   word_of(page, PAGE_TMR, 2 * i) | (uint64_t)word_of(page, PAGE_TMR, 2 * i + 1) << 32);
}
