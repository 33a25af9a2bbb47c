// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A copy of a virtual VT-x, to be looked at on any processor: the VMCS that runs Lv1 (VMCS01), the one that
 * Lv1 wrote (VMCS12) and their merge (VMCS02), field by field as they are. What a field of VMCS02 is made of,
 * nested/merge.h says.
 */
#include "nested/nested.h"

enum nested_snapshot_vmcs {
    NESTED_VMCS01,
    NESTED_VMCS12,
    NESTED_VMCS02,
    NESTED_VMCSS,
};

struct nested_snapshot {
    enum nested_mode mode;
    uint64_t vmxon_pointer;
    uint64_t current; /* address of VMCS12; NESTED_NO_VMCS: there is none, and nothing of it is known */
    uint64_t values[NESTED_VMCSS][VMCS_FIELD_COUNT];
    uint64_t known[NESTED_VMCSS][VCPU_FIELD_WORDS]; /* bit n: values[…][n] could be read */
};

/*
 * Copies all three. The vCPU is loaded; the VMCS of whoever runs, Lv1 or Lv2, is current, and is so
 * afterwards.
 */
void nested_snapshot_take(struct nested_vcpu *n, struct nested_snapshot *snapshot);

/* The value of a field. False: it is not known, since the processor lacks the field, Lv1 is not offered it,
 * there is no VMCS12, or VMCS02 alone has it (nested/away.h). Anybody. */
static inline bool nested_snapshot_value(const struct nested_snapshot *snapshot,
                                         enum nested_snapshot_vmcs vmcs, struct vmcs_field field,
                                         uint64_t *value)
{
    *value = snapshot->values[vmcs][field.index];
    return (snapshot->known[vmcs][field.index / 64] >> (field.index % 64) & 1) != 0;
}
