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
    uint64_t values[VMCS_FIELD_COUNT];
    uint64_t
        written[VMCS12_FIELD_WORDS]; /* by Lv1, or by a logical exit, since the last vmcs12_forget_written */
    bool launched;
};

/* The value of a field; 0 for one that was never written. */
static inline uint64_t vmcs12_read(const struct vmcs12 *vmcs, struct vmcs_field field)
{
    return vmcs->values[field.index];
}

/* Gives a field a value that fits its width. */
static inline void vmcs12_write(struct vmcs12 *vmcs, struct vmcs_field field, uint64_t value)
{
    vmcs->values[field.index] = value;
    vmcs->written[field.index / 64] |= BIT(field.index % 64);
}

static inline bool vmcs12_is_written(const struct vmcs12 *vmcs, struct vmcs_field field)
{
    return (vmcs->written[field.index / 64] >> (field.index % 64) & 1) != 0;
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
void vmcs12_forget_written(struct vmcs12 *vmcs);

/*
 * The region in guest memory: 4 KiB, of which VMCS12_REGION_SIZE bytes are used. Bytes 0-3 are the revision
 * identifier, 4-7 the VMX-abort indicator, then launch state and values.
 */
#define VMCS12_REGION_SIZE  (16 + 8 * VMCS_FIELD_COUNT)
#define VMCS12_REVISION     0x4d425255u /* bit 31 is 0 */
#define VMCS12_ABORT        4
#define VMCS12_LAUNCH_STATE 8 /* 64 bits: 0 is clear, all else launched */

/* Takes the VMCS over from the `region` (VMCS12_REGION_SIZE bytes, copied from guest memory). What no VMWRITE
 * could have put there (bits beyond a field's width) is dropped; all counts as written. */
void vmcs12_unpack(struct vmcs12 *vmcs, const uint8_t *region);

/* The other way round; the revision identifier and the abort indicator in `region` are left as they are. */
void vmcs12_pack(const struct vmcs12 *vmcs, uint8_t *region);
