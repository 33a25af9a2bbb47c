// SPDX-License-Identifier: BSD-2-Clause
/*
 * Exits of APIC virtualisation (SDM vol. 3, chapter "APIC Virtualization and Virtual Interrupts"): what the
 * processor leaves to be done of accesses to the local APIC.
 */
#include "arch/x86/exception.h"
#include "core/exits/exits.h"
#include "core/nested_guest.h"
#include "core/paging.h"
#include "vmx/apicv.h"
#include "vmx/events.h"

/* Exit qualification for APIC accesses (SDM vol. 3, table "Exit Qualification for APIC-Access VM Exits"). */
#define QUALIFICATION_OFFSET(q) ((unsigned)(q)&0xfff)
#define QUALIFICATION_TYPE(q)   ((unsigned)((q) >> 12) & 0xf)

enum access_type {
    ACCESS_READ = 0,
    ACCESS_WRITE = 1,
    ACCESS_FETCH = 2,
    ACCESS_DELIVERY = 3,           /* by a linear address, during event delivery */
    ACCESS_PHYSICAL_DELIVERY = 10, /* by a guest-physical address (page tables), during event delivery */
    ACCESS_PHYSICAL = 15,          /* the same for an instruction */
};

void exit_apic_mode_changed(struct partition_vcpu *v)
{
    static const enum apicv_mode modes[] = {
        [LAPIC_MODE_DISABLED] = APICV_NONE,
        [LAPIC_MODE_INVALID] = APICV_NONE,
        [LAPIC_MODE_XAPIC] = APICV_XAPIC,
        [LAPIC_MODE_X2APIC] = APICV_X2APIC,
    };
    const struct apicv *apicv = &v->partition->apicv;
    const struct lapic *lapic = partition_vcpu_lapic(v);
    const enum apicv_mode mode = modes[lapic_mode(lapic)];
    const struct translation page = {
        .address = apicv->access_page.value,
        .rights = PAGING_READ | PAGING_WRITE, /* a fetch is an EPT violation, as from any device */
        .memory_type = MEMORY_TYPE_WB,
        .page_shift = PAGE_SHIFT,
    };

    paging_set_overlay(v, lapic->base, mode == APICV_XAPIC && apicv->accesses ? &page : NULL);
    apicv_set_mode(apicv, &v->vcpu, mode);
    if (v->nested != NULL)
        nested_memory_forget(&v->nested->memory);
}

/* An access that the processor does not virtualise: what it would do at any device's register. */
void exit_apic_access(struct partition_vcpu *v)
{
    const uint64_t qualification = vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION);
    const unsigned type = QUALIFICATION_TYPE(qualification);
    const gpa_t gpa =
        GPA(align_down(partition_vcpu_lapic(v)->base, PAGE_SIZE) | QUALIFICATION_OFFSET(qualification));

    if (v->level->vcpu->injection != 0 || type == ACCESS_DELIVERY || type == ACCESS_PHYSICAL_DELIVERY)
        partition_crash(v, "event delivery through its local APIC at %#lx", gpa.value);
    else if (type == ACCESS_READ || type == ACCESS_WRITE)
        exit_emulate_access(v, gpa, type == ACCESS_WRITE);
    else if (type == ACCESS_FETCH)
        exit_inject(v, X86_VECTOR_UD); /* as where nobody answers; the page is not executable anyway */
    else
        partition_crash(v, "page tables in its local APIC at %#lx", gpa.value);
}

/* After an instruction whose write to a register the processor has put into the page. */
void exit_apic_write(struct partition_vcpu *v)
{
    v->deadline_changed = true;
    vcpu_events_changed(&v->vcpu);
    lapic_write_virtualized(partition_vcpu_lapic(v),
                            QUALIFICATION_OFFSET(vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION)));
}

/* After an EOI of a vector that the EOI-exit bitmap names. */
void exit_virtualized_eoi(struct partition_vcpu *v)
{
    lapic_eoi_virtualized(partition_vcpu_lapic(v),
                          (uint8_t)vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION));
}
