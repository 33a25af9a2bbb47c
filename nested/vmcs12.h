// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The cached VMCS12: what a guest hypervisor wrote into one of its VMCSs, by field. Guest memory is read when
 * it makes the VMCS current and written when it clears it; in between the processor may keep a VMCS wherever
 * it likes (SDM vol. 3, "Format of the VMCS Region"), and this is where. Pure.
 */
#include "lib/types.h"
#include "vmx/fields.h"

#define VMCS12_FIELD_WORDS ((VMCS_FIELD_COUNT + 63) / 64)

struct vmcs12 {
    uint64_t launched; /* 0: clear; with the values behind it, an image of the region */
    uint64_t values[VMCS_FIELD_COUNT];
    uint64_t written[VMCS12_FIELD_WORDS]; /* by Lv1, since the last vmcs12_forget_written */
    uint64_t away[VMCS12_FIELD_WORDS];    /* VMCS02 has the value: nested_exit_fetch brings it here */
    bool changed;                         /* guest memory has not got all of it */
};

/* A field's bit in word `word` of a set of fields, which is VMCS12_FIELD_WORDS of them; and those of all
 * fields from one to another. Constant expressions, without the VMCS_ of the names. */
#define VMCS12_BITS_BELOW(COUNT, WORD)                                                                       \
    ((int)(COUNT) <= 64 * (int)(WORD)         ? 0                                                            \
     : (int)(COUNT) >= 64 * ((int)(WORD) + 1) ? ~0ULL                                                        \
                                              : BIT(((int)(COUNT)-64 * (int)(WORD)) & 63) - 1)
#define VMCS12_RANGE(FIRST, LAST, WORD)                                                                      \
    (VMCS12_BITS_BELOW(VMCS_INDEX_##LAST + 1, WORD) & ~VMCS12_BITS_BELOW(VMCS_INDEX_##FIRST, WORD))
#define VMCS12_BIT(FIELD, WORD) VMCS12_RANGE(FIELD, FIELD, WORD)

/* The value of a field that is not away; 0 for one that was never written. */
static inline uint64_t vmcs12_read(const struct vmcs12 *vmcs, struct vmcs_field field)
{
    return vmcs->values[field.index];
}

static inline bool vmcs12_is_away(const struct vmcs12 *vmcs, struct vmcs_field field)
{
    return (vmcs->away[field.index / 64] >> (field.index % 64) & 1) != 0;
}

/* Lv1 gives a field a value, which fits its width. */
static inline void vmcs12_write(struct vmcs12 *vmcs, struct vmcs_field field, uint64_t value)
{
    vmcs->values[field.index] = value;
    vmcs->written[field.index / 64] |= BIT(field.index % 64);
    vmcs->away[field.index / 64] &= ~BIT(field.index % 64);
    vmcs->changed = true;
}

/*
 * A logical exit saves a value that an entry has no need to look at: the processor made it, and VMCS02 has it
 * as well or never gets it. The caller sees to `changed`; the field is none that is ever away.
 */
static inline void vmcs12_save(struct vmcs12 *vmcs, struct vmcs_field field, uint64_t value)
{
    vmcs->values[field.index] = value;
}

static inline bool vmcs12_is_written(const struct vmcs12 *vmcs, struct vmcs_field field)
{
    return (vmcs->written[field.index / 64] >> (field.index % 64) & 1) != 0;
}

/* Whether a field of the set `fields` was written. */
static inline bool vmcs12_any_written(const struct vmcs12 *vmcs, const uint64_t fields[VMCS12_FIELD_WORDS])
{
    uint64_t found = 0;

#pragma GCC unroll 4
    for (unsigned word = 0; word < VMCS12_FIELD_WORDS; word++)
        found |= vmcs->written[word] & fields[word];
    return found != 0;
}

/* Whether all controls of `mask` (VMX_PRIMARY_… and so on) are 1 in the VMCS: false for a secondary control
 * without "activate secondary controls". */
static inline bool vmcs12_has_pin(const struct vmcs12 *vmcs, uint32_t mask)
{
    return (vmcs12_read(vmcs, VMCS_PIN_CONTROLS) & mask) == mask;
}

static inline bool vmcs12_has_primary(const struct vmcs12 *vmcs, uint32_t mask)
{
    return (vmcs12_read(vmcs, VMCS_PRIMARY_CONTROLS) & mask) == mask;
}

static inline bool vmcs12_has_secondary(const struct vmcs12 *vmcs, uint32_t mask)
{
    return vmcs12_has_primary(vmcs, VMX_PRIMARY_SECONDARY_CONTROLS) &&
           (vmcs12_read(vmcs, VMCS_SECONDARY_CONTROLS) & mask) == mask;
}

static inline bool vmcs12_has_exit(const struct vmcs12 *vmcs, uint32_t mask)
{
    return (vmcs12_read(vmcs, VMCS_EXIT_CONTROLS) & mask) == mask;
}

static inline bool vmcs12_has_entry(const struct vmcs12 *vmcs, uint32_t mask)
{
    return (vmcs12_read(vmcs, VMCS_ENTRY_CONTROLS) & mask) == mask;
}

/* What was written counts as seen: an entry has taken it up. */
static inline void vmcs12_forget_written(struct vmcs12 *vmcs)
{
#pragma GCC unroll 4
    for (unsigned word = 0; word < VMCS12_FIELD_WORDS; word++)
        vmcs->written[word] = 0;
}

/*
 * The region in guest memory: 4 KiB, of which VMCS12_REGION_SIZE bytes are used. Bytes 0-3 are the revision
 * identifier, 4-7 the VMX-abort indicator; from VMCS12_LAUNCH_STATE on come launch state (64 bits: 0 is
 * clear, all else launched) and values, as `launched` and `values` are: one copy.
 */
#define VMCS12_REVISION     0x4d425255u /* bit 31 is 0 */
#define VMCS12_ABORT        4
#define VMCS12_LAUNCH_STATE 8
#define VMCS12_IMAGE_SIZE   (8 + 8 * VMCS_FIELD_COUNT)
#define VMCS12_REGION_SIZE  (VMCS12_LAUNCH_STATE + VMCS12_IMAGE_SIZE)

/*
 * The image was copied here from guest memory. What no VMWRITE could have put there (bits beyond a field's
 * width) is dropped; all counts as written, nothing is away.
 */
void vmcs12_accept(struct vmcs12 *vmcs);
