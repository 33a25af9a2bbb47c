// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Fields of VMCS12 that are away: a logical exit leaves guest state that a guest hypervisor seldom looks at
 * in VMCS02, where nothing changes it while Lv1 runs. It comes to VMCS12 when Lv1 asks for it, when the
 * checks of an entry want to look at it, and before VMCS12 goes back to guest memory; and what Lv1 neither
 * reads nor writes before it enters Lv2 again is never copied at all.
 */
#include "nested/nested.h"

/*
 * What each exit leaves away, by index. It is in VMCS02 as it is in VMCS12: segments but for the two sets of
 * access rights that tell mode and CPL, GDTR and IDTR, and the SYSENTER registers. By its exit controls an
 * exit may leave DR7 and IA32_PAT away as well.
 */
extern const uint64_t nested_away_fields[VMCS12_FIELD_WORDS];

static inline void nested_away_send(struct nested_vcpu *n, struct vmcs_field field)
{
    n->vmcs12.away[field.index / 64] |= BIT(field.index % 64);
}

/* All that is away comes to VMCS12; or one field, if it is away. VMCS01 is current, and is again afterwards.
 */
void nested_away_fetch(struct nested_vcpu *n);
void nested_away_fetch_field(struct nested_vcpu *n, struct vmcs_field field);

/* The same for a field that is away, while VMCS02 is current. */
void nested_away_keep(struct nested_vcpu *n, struct vmcs_field field);
