// SPDX-License-Identifier: BSD-2-Clause
#include "nested/shadow.h"

#include "lib/string.h"

/* Places in the table; those that Lv1 writes come last. */
enum {
#define X(FIELD, ACCESS) PLACE_##FIELD,
    NESTED_SHADOW_FIELDS(X)
#undef X
        PLACES,
    FIRST_WRITTEN = PLACE_GUEST_RIP,
};

_Static_assert((int)PLACES == NESTED_SHADOW_VALUES, "struct nested_vcpu has another number of them");

enum access { READ, WRITE };
#define X(FIELD, ACCESS)                                                                                     \
    _Static_assert((ACCESS == WRITE) == (PLACE_##FIELD >= FIRST_WRITTEN), #FIELD " is on the wrong side");   \
    _Static_assert(ACCESS == READ || (VMCS_ENCODING_##FIELD >> 13 & 3) != VMCS_WIDTH_64,                     \
                   #FIELD " can be written by half");
NESTED_SHADOW_FIELDS(X)
#undef X

static const struct vmcs_field fields[] = {
#define X(FIELD, ACCESS) VMCS_FIELD(FIELD),
    NESTED_SHADOW_FIELDS(X)
#undef X
};

bool nested_shadow_possible(const struct vmx_capabilities *hardware)
{
    bool all = true;

    for (unsigned i = 0; i < PLACES; i++)
        all = all && vmcs_field_exists(fields[i], hardware);
    return all && (hardware->misc & VMX_MISC_VMWRITE_ANY) != 0 &&
           vmx_controls_available(hardware, VMX_WORD_SECONDARY, VMX_SECONDARY_VMCS_SHADOWING);
}

/* A bit by encoding; 1: it exits. */
static void let_through(uint8_t *bitmap, struct vmcs_field field)
{
    bitmap[field.encoding / 8] &= (uint8_t)~BIT(field.encoding % 8);
}

void nested_shadow_build(const struct nested_capabilities *capabilities, uint8_t *vmread, uint8_t *vmwrite)
{
    memset(vmread, 0xff, PAGE_SIZE);
    memset(vmwrite, 0xff, PAGE_SIZE);
    for (unsigned i = 0; i < PLACES; i++) {
        if (!nested_capabilities_have_field(capabilities, fields[i]))
            continue;
        let_through(vmread, fields[i]);
        if (i >= FIRST_WRITTEN)
            let_through(vmwrite, fields[i]);
    }
}

/* Between these two, VMREAD and VMWRITE are the shadow VMCS's. It is not left active: the processor reaches
 * it by the link alone, and that is defined for one that is clear. */
static void begin(const struct nested_vcpu *n)
{
    if (!vmx_load(n->vcpu01->shadow.vmcs))
        panic("VMPTRLD of a shadow VMCS failed");
}

static void end(const struct nested_vcpu *n)
{
    if (!vmx_clear(n->vcpu01->shadow.vmcs) || !vmx_load(n->vcpu01->vmcs))
        panic("VMCLEAR of a shadow VMCS failed");
}

static void put(struct nested_vcpu *n, unsigned place, uint64_t value)
{
    if (!vmx_write(fields[place].encoding, value))
        panic("VMWRITE of %#lx to field %#x of a shadow VMCS failed", value, fields[place].encoding);
    n->shadow_values[place] = value;
}

void nested_shadow_link(struct nested_vcpu *n)
{
    const bool linked = n->current != NESTED_NO_VMCS;

    if (n->vcpu01->shadow.vmcs.value == 0)
        return;
    vcpu_link_shadow(n->vcpu01, linked);
    n->shadow_linked = linked;
    if (!linked)
        return;
    begin(n);
    for (unsigned place = 0; place < PLACES; place++)
        put(n, place, vmcs12_read(&n->vmcs12, fields[place]));
    end(n);
}

void nested_shadow_collect(struct nested_vcpu *n)
{
    if (!n->shadow_linked)
        return;
    begin(n);
#pragma GCC unroll 16
    for (unsigned place = FIRST_WRITTEN; place < PLACES; place++) {
        uint64_t value;

        if (!vmx_read(fields[place].encoding, &value))
            panic("VMREAD of field %#x of a shadow VMCS failed", fields[place].encoding);
        if (value != n->shadow_values[place]) {
            n->shadow_values[place] = value;
            vmcs12_write(&n->vmcs12, fields[place], value);
        }
    }
    end(n);
}

void nested_shadow_publish(struct nested_vcpu *n)
{
    if (!n->shadow_linked)
        return;
    begin(n);
#pragma GCC unroll 32
    for (unsigned place = 0; place < PLACES; place++) {
        const uint64_t value = vmcs12_read(&n->vmcs12, fields[place]);

        if (value != n->shadow_values[place])
            put(n, place, value);
    }
    end(n);
}

/* Fields of the table, as a set. */
#define X(FIELD, ACCESS) | VMCS12_BIT(FIELD, WORD)
static const uint64_t shadowed[VMCS12_FIELD_WORDS] = {
#define WORD 0
    0 NESTED_SHADOW_FIELDS(X),
#undef WORD
#define WORD 1
    0 NESTED_SHADOW_FIELDS(X),
#undef WORD
#define WORD 2
    0 NESTED_SHADOW_FIELDS(X),
#undef WORD
#define WORD 3
    0 NESTED_SHADOW_FIELDS(X),
#undef WORD
};
#undef X

_Static_assert(VMCS12_FIELD_WORDS == 4, "the set has all words");

void nested_shadow_publish_field(struct nested_vcpu *n, struct vmcs_field field)
{
    if ((shadowed[field.index / 64] >> (field.index % 64) & 1) != 0)
        nested_shadow_publish(n);
}
