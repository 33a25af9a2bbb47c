// SPDX-License-Identifier: BSD-2-Clause
/*
 * Exits of a guest whose addresses Umbra translates by shadow tables: page faults, INVLPG, INVPCID (SDM vol.
 * 3, "Page-Fault Exceptions", "Operations that Invalidate TLBs"; seed 003, Figs. 7 and 8).
 */
#include "core/paging.h"

#include "arch/x86/cpu.h"
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "lib/string.h"
#include "vmx/events.h"

/* VM-exit instruction information of INVPCID (SDM vol. 3, table 28-14). */
#define INFO_SCALE(i)         ((unsigned)(i)&3)
#define INFO_ADDRESS_SIZE(i)  ((unsigned)((i) >> 7) & 7)
#define INFO_SEGMENT(i)       ((enum decode_segment)((i) >> 15 & 7))
#define INFO_INDEX(i)         ((unsigned)((i) >> 18) & 15)
#define INFO_INDEX_INVALID(i) (((i) >> 22 & 1) != 0)
#define INFO_BASE(i)          ((unsigned)((i) >> 23) & 15)
#define INFO_BASE_INVALID(i)  (((i) >> 27 & 1) != 0)
#define INFO_REGISTER(i)      ((unsigned)((i) >> 28) & 15)

/* ---- Page faults -----------------------------------------------------------------------------------------
 */

/* The access that faulted, from the hardware's error code: NXE is always 1 there, so I/D is always told. */
static unsigned access_of(struct partition_vcpu *v, uint64_t error_code)
{
    unsigned access = PAGING_READ;

    if ((error_code & PAGE_FAULT_FETCH) != 0)
        access = PAGING_EXECUTE;
    else if ((error_code & PAGE_FAULT_WRITE) != 0)
        access = PAGING_WRITE;
    if ((error_code & PAGE_FAULT_USER) != 0)
        return access | PAGING_USER;
    /* How it is made else, only SMAP wants to know. */
    if ((v->level->walk.registers.cr4 & X86_CR4_SMAP) == 0)
        return access;
    /* A supervisor access at CPL 3 is one of the processor's own, which EFLAGS.AC does not concern. */
    const unsigned how = linear_access(v);
    return access | ((how & PAGING_USER) != 0 ? STAGE_ACCESS_IMPLICIT : how);
}

/*
 * The miss. An access with EFLAGS.AC = 1 that faults although its page is there, and may be accessed so, was
 * one of the processor's own (to a GDT, an IDT …), which AC does not let through under SMAP: the walk is made
 * again as such.
 */
static enum vtlb_outcome miss(struct partition_vcpu *v, uint64_t address, unsigned access,
                              uint64_t error_code, struct vtlb_result *result)
{
    const struct partition_level *level = v->level;
    const uint64_t stale = level->vtlb->statistics.stale;
    const enum vtlb_outcome outcome = vtlb_miss(level->context, address, access, result);

    if (likely((access & STAGE_ACCESS_AC) == 0 || (error_code & PAGE_FAULT_PRESENT) == 0 ||
               level->vtlb->statistics.stale == stale))
        return outcome;
    return vtlb_miss(level->context, address, (access & ~(unsigned)STAGE_ACCESS_AC) | STAGE_ACCESS_IMPLICIT,
                     result);
}

void exit_page_fault(struct partition_vcpu *v)
{
    struct partition_level *level = v->level;
    const uint64_t address = vcpu_read(level->vcpu, VMCS_EXIT_QUALIFICATION);
    const uint64_t error_code = vcpu_read(level->vcpu, VMCS_EXIT_INTERRUPTION_ERROR_CODE);
    const unsigned access = access_of(v, error_code);
    struct vtlb_result result;

    if (unlikely((level->walk.registers.cr4 & X86_CR4_PKE) != 0))
        paging_update_walk(v);
    paging_end_transient(level);
    switch (miss(v, address, access, error_code, &result)) {
    case VTLB_FILLED:
        vcpu_restore_nmi_blocking(level->vcpu, vcpu_read(level->vcpu, VMCS_EXIT_INTERRUPTION_INFO));
        if (unlikely(result.translation.transient))
            paging_begin_transient(level);
        break;
    case VTLB_GUEST_FAULT:
        /* The miss has invalidated the address already. */
        if (likely(result.fault.stage == &level->walk.stage))
            exit_pass_page_fault(v, result.fault.address, (uint32_t)result.fault.error_code);
        else
            level->ops->memory_fault(v, GLA(address), &result.fault);
        break;
    case VTLB_NO_MEMORY:
        exit_no_memory(v, GPA(result.fault.address), access);
        break;
    }
}

/* ---- Invalidation ----------------------------------------------------------------------------------------
 */

void exit_invlpg(struct partition_vcpu *v)
{
    paging_invalidate_address(v, paging_tag(v), vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION));
    vcpu_skip_instruction(v->level->vcpu);
}

/* The offset of the instruction's memory operand in its segment. */
static uint64_t operand_offset(struct partition_vcpu *v, uint64_t information)
{
    static const uint64_t masks[] = {UINT16_MAX, UINT32_MAX, UINT64_MAX};
    const unsigned size = INFO_ADDRESS_SIZE(information);
    uint64_t offset = vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION); /* displacement, RIP included */

    if (!INFO_BASE_INVALID(information))
        offset += vcpu_read_register(v->level->vcpu, INFO_BASE(information));
    if (!INFO_INDEX_INVALID(information))
        offset += vcpu_read_register(v->level->vcpu, INFO_INDEX(information)) << INFO_SCALE(information);
    return offset & masks[size < ARRAY_SIZE(masks) ? size : ARRAY_SIZE(masks) - 1];
}

struct invpcid_descriptor {
    uint64_t tag;
    uint64_t address;
};

/* Reads the descriptor, ones where no memory is. False: the guest got an exception instead. */
static bool read_descriptor(struct partition_vcpu *v, uint64_t information,
                            struct invpcid_descriptor *descriptor)
{
    struct guest_transfer transfer;
    uint8_t vector;
    gla_t gla;

    if (!linear_address(v, INFO_SEGMENT(information), operand_offset(v, information), sizeof(*descriptor),
                        false, &gla, &vector)) {
        exit_inject(v, vector);
        return false;
    }
    const unsigned how = linear_prepare(v);
    if (guest_linear_read(&v->level->linear, gla, descriptor, sizeof(*descriptor), how, &transfer) == 0)
        return true;
    if (transfer.outcome == STAGE_NO_MEMORY) {
        memset((unsigned char *)descriptor + transfer.done, 0xff, sizeof(*descriptor) - transfer.done);
        return true;
    }
    if (transfer.outcome == STAGE_FAULT) /* else the guest tries once more */
        exit_inject_access_fault(v, GLA(gla.value + transfer.done), &transfer.fault);
    return false;
}

enum invpcid_type {
    INVPCID_ADDRESS,
    INVPCID_TAG,
    INVPCID_ALL,
    INVPCID_NOT_GLOBALS,
    INVPCID_TYPES,
};

/* SDM vol. 2, INVPCID: what is a #GP. */
static bool invpcid_is_valid(struct partition_vcpu *v, uint64_t type,
                             const struct invpcid_descriptor *descriptor)
{
    const bool tags = (paging_read_cr4(v) & X86_CR4_PCIDE) != 0;

    if (type >= INVPCID_TYPES || (descriptor->tag & ~(uint64_t)X86_CR3_PCID) != 0)
        return false;
    if (type == INVPCID_ADDRESS && !linear_is_canonical(v, descriptor->address))
        return false;
    return type >= INVPCID_ALL || tags || descriptor->tag == 0;
}

void exit_invpcid(struct partition_vcpu *v)
{
    const uint64_t information = vcpu_read(v->level->vcpu, VMCS_EXIT_INSTRUCTION_INFO);
    uint64_t type = vcpu_read_register(v->level->vcpu, INFO_REGISTER(information));
    struct invpcid_descriptor descriptor;

    if (linear_mode(v) != DECODE_MODE_64)
        type = (uint32_t)type;
    if (!read_descriptor(v, information, &descriptor))
        return;
    if (!invpcid_is_valid(v, type, &descriptor)) {
        exit_inject(v, X86_VECTOR_GP);
        return;
    }
    switch ((enum invpcid_type)type) {
    case INVPCID_ADDRESS:
        paging_invalidate_address(v, (uint16_t)descriptor.tag, descriptor.address);
        break;
    case INVPCID_TAG:
        paging_invalidate(v, VTLB_SCOPE_TAG, (uint16_t)descriptor.tag);
        break;
    case INVPCID_ALL:
        paging_invalidate(v, VTLB_SCOPE_ALL, 0);
        break;
    default:
        paging_invalidate(v, VTLB_SCOPE_NOT_GLOBALS, 0);
        break;
    }
    vcpu_skip_instruction(v->level->vcpu);
}
