// SPDX-License-Identifier: BSD-2-Clause
#include "nested/snapshot.h"

#include "lib/string.h"
#include "nested/shadow.h"

static void set_value(struct nested_snapshot *s, enum nested_snapshot_vmcs vmcs, unsigned index,
                      uint64_t value)
{
    s->values[vmcs][index] = value;
    s->known[vmcs][index / 64] |= BIT(index % 64);
}

/* The VMCS of `vcpu` is current. */
static void copy_hardware(struct vcpu *vcpu, struct nested_snapshot *s, enum nested_snapshot_vmcs vmcs)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        if (vcpu_try_read(vcpu, vmcs_field_at(i), &value))
            set_value(s, vmcs, i, value);
}

/* VMCS02 is copied already: it has what is away (nested/away.h). */
static void copy_vmcs12(const struct nested_vcpu *n, struct nested_snapshot *s)
{
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field field = vmcs_field_at(i);

        if (vmcs_field_exists(field, &n->policy->capabilities.offered))
            set_value(s, NESTED_VMCS12, i,
                      vmcs12_is_away(&n->vmcs12, field) ? s->values[NESTED_VMCS02][i] : n->vmcs12.values[i]);
    }
}

void nested_snapshot_take(struct nested_vcpu *n, struct nested_snapshot *s)
{
    const bool lv2 = n->mode == NESTED_NON_ROOT;
    struct vcpu *runs = lv2 ? &n->vcpu02 : n->vcpu01;
    struct vcpu *rests = runs->beside;

    if (!lv2)
        nested_shadow_collect(n);
    s->mode = n->mode;
    s->vmxon_pointer = n->vmxon_pointer;
    s->current = n->current;
    memset(s->known, 0, sizeof(s->known));
    copy_hardware(runs, s, lv2 ? NESTED_VMCS02 : NESTED_VMCS01);
    vcpu_switch(runs);
    copy_hardware(rests, s, lv2 ? NESTED_VMCS01 : NESTED_VMCS02);
    vcpu_switch(rests);
    if (n->current != NESTED_NO_VMCS)
        copy_vmcs12(n, s);
}
