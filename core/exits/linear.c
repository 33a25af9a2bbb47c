// SPDX-License-Identifier: BSD-2-Clause
/* A guest's linear addresses and segments, for instructions that Umbra executes in its place. */
#include "core/exits/linear.h"

#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "core/paging.h"

/* Segment access rights in a VMCS. */
#define RIGHTS_TYPE_CODE     BIT(3)
#define RIGHTS_TYPE_WRITABLE BIT(1) /* of code: readable */
#define RIGHTS_TYPE_DOWN     BIT(2) /* of data: expands down */
#define RIGHTS_LONG          BIT(13)
#define RIGHTS_BIG           BIT(14)
#define RIGHTS_UNUSABLE      BIT(16)

static uint64_t segment_field(struct partition_vcpu *v, unsigned first, enum decode_segment segment)
{
    return vcpu_read(v->level->vcpu, vmcs_field_at(first + segment));
}

static uint64_t segment_rights(struct partition_vcpu *v, enum decode_segment segment)
{
    return segment_field(v, VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS, segment);
}

enum decode_mode linear_mode(struct partition_vcpu *v)
{
    uint64_t rights = segment_rights(v, DECODE_CS);

    if ((rights & RIGHTS_LONG) != 0 && (vcpu_read_efer(v->level->vcpu) & X86_EFER_LMA) != 0)
        return DECODE_MODE_64;
    return rights & RIGHTS_BIG ? DECODE_MODE_32 : DECODE_MODE_16;
}

unsigned linear_cpl(struct partition_vcpu *v)
{
    return (unsigned)vcpu_read(v->level->vcpu, VMCS_GUEST_SS_ACCESS_RIGHTS) >> 5 & 3;
}

unsigned linear_stack_size(struct partition_vcpu *v)
{
    if (linear_mode(v) == DECODE_MODE_64)
        return 8;
    return segment_rights(v, DECODE_SS) & RIGHTS_BIG ? 4 : 2;
}

unsigned linear_prepare(struct partition_vcpu *v)
{
    paging_update_walk(v);
    return linear_access(v);
}

unsigned linear_access(struct partition_vcpu *v)
{
    unsigned how = 0;

    if (linear_cpl(v) == 3)
        how |= PAGING_USER;
    if (vcpu_read(v->level->vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_AC)
        how |= STAGE_ACCESS_AC;
    return how;
}

static bool is_canonical(uint64_t address, bool five_levels)
{
    unsigned shift = five_levels ? 64 - 57 : 64 - 48;

    return (uint64_t)((int64_t)(address << shift) >> shift) == address;
}

bool linear_is_canonical(struct partition_vcpu *v, uint64_t address)
{
    return is_canonical(address, (paging_read_cr4(v) & X86_CR4_LA57) != 0);
}

/* Whether [offset, offset + size) lies inside a segment of a legacy mode. */
static bool within_limit(uint64_t offset, unsigned size, uint64_t limit, uint64_t rights)
{
    uint64_t last = offset + size - 1;

    if ((rights & RIGHTS_TYPE_CODE) == 0 && (rights & RIGHTS_TYPE_DOWN) != 0)
        return offset > limit && last <= (rights & RIGHTS_BIG ? UINT32_MAX : UINT16_MAX);
    return last <= limit;
}

static bool allows(uint64_t rights, bool write)
{
    if (rights & RIGHTS_UNUSABLE)
        return false;
    if (rights & RIGHTS_TYPE_CODE)
        return !write && (rights & RIGHTS_TYPE_WRITABLE) != 0;
    return !write || (rights & RIGHTS_TYPE_WRITABLE) != 0;
}

bool linear_address(struct partition_vcpu *v, enum decode_segment segment, uint64_t offset, unsigned size,
                    bool write, gla_t *gla, uint8_t *vector)
{
    uint64_t base = segment_field(v, VMCS_INDEX_GUEST_ES_BASE, segment);

    *vector = segment == DECODE_SS ? X86_VECTOR_SS : X86_VECTOR_GP;
    if (linear_mode(v) == DECODE_MODE_64) {
        bool based = segment == DECODE_FS || segment == DECODE_GS;
        *gla = GLA(based ? base + offset : offset);
        bool five_levels = (paging_read_cr4(v) & X86_CR4_LA57) != 0;
        return is_canonical(gla->value, five_levels) && is_canonical(gla->value + size - 1, five_levels);
    }

    uint64_t rights = segment_rights(v, segment);
    *gla = GLA((uint32_t)(base + offset));
    return allows(rights, write) &&
           within_limit(offset, size, segment_field(v, VMCS_INDEX_GUEST_ES_LIMIT, segment), rights);
}
