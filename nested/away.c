// SPDX-License-Identifier: BSD-2-Clause
#include "nested/away.h"

#define AWAY(WORD)                                                                                           \
    (VMCS12_RANGE(GUEST_ES_SELECTOR, GUEST_TR_SELECTOR, WORD) |                                              \
     VMCS12_RANGE(GUEST_ES_LIMIT, GUEST_ES_ACCESS_RIGHTS, WORD) |                                            \
     VMCS12_RANGE(GUEST_DS_ACCESS_RIGHTS, GUEST_TR_ACCESS_RIGHTS, WORD) |                                    \
     VMCS12_BIT(GUEST_SYSENTER_CS, WORD) | VMCS12_RANGE(GUEST_ES_BASE, GUEST_IDTR_BASE, WORD) |              \
     VMCS12_RANGE(GUEST_SYSENTER_ESP, GUEST_SYSENTER_EIP, WORD))

const uint64_t nested_away_fields[VMCS12_FIELD_WORDS] = {AWAY(0), AWAY(1), AWAY(2), AWAY(3)};

_Static_assert(VMCS12_FIELD_WORDS == 4, "the set has all words");
_Static_assert(VMCS_INDEX_GUEST_TR_SELECTOR - VMCS_INDEX_GUEST_ES_SELECTOR == 7, "eight selectors");
_Static_assert(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS - VMCS_INDEX_GUEST_ES_LIMIT == 10, "ten limits");
_Static_assert(VMCS_INDEX_GUEST_CS_ACCESS_RIGHTS - VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS == 1, "ES, CS, SS, DS");
_Static_assert(VMCS_INDEX_GUEST_TR_ACCESS_RIGHTS - VMCS_INDEX_GUEST_DS_ACCESS_RIGHTS == 4, "DS to TR");
_Static_assert(VMCS_INDEX_GUEST_IDTR_BASE - VMCS_INDEX_GUEST_ES_BASE == 9, "ten bases");
_Static_assert(VMCS_INDEX_GUEST_SYSENTER_EIP - VMCS_INDEX_GUEST_SYSENTER_ESP == 1, "two pointers");

static void fetch(struct nested_vcpu *n, struct vmcs_field field)
{
    vmcs12_save(&n->vmcs12, field, vcpu_read(&n->vcpu02, field));
}

void nested_away_fetch(struct nested_vcpu *n)
{
    struct vmcs12 *vmcs12 = &n->vmcs12;
    uint64_t any = 0;

    for (unsigned word = 0; word < VMCS12_FIELD_WORDS; word++)
        any |= vmcs12->away[word];
    if (any == 0)
        return;
    vcpu_switch(n->vcpu01);
    for (unsigned word = 0; word < VMCS12_FIELD_WORDS; word++) {
        for (uint64_t bits = vmcs12->away[word]; bits != 0; bits &= bits - 1)
            fetch(n, vmcs_field_at(word * 64 + (unsigned)__builtin_ctzll(bits)));
        vmcs12->away[word] = 0;
    }
    vcpu_switch(&n->vcpu02);
}

void nested_away_fetch_field(struct nested_vcpu *n, struct vmcs_field field)
{
    if (!vmcs12_is_away(&n->vmcs12, field))
        return;
    vcpu_switch(n->vcpu01);
    nested_away_keep(n, field);
    vcpu_switch(&n->vcpu02);
}

void nested_away_keep(struct nested_vcpu *n, struct vmcs_field field)
{
    fetch(n, field);
    n->vmcs12.away[field.index / 64] &= ~BIT(field.index % 64);
}
