// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A guest's linear addresses and segments, for instructions that Umbra executes in its place (SDM vol. 3,
 * "Limit checking", "Type checking"): the guest of the level that runs, whose VMCS is current.
 */
#include "arch/x86/decode.h"
#include "core/partition.h"

/* How the code segment says that instructions are to be decoded. */
enum decode_mode linear_mode(struct partition_vcpu *v);

/* The guest's privilege level. */
unsigned linear_cpl(struct partition_vcpu *v);

/* Bytes of the stack pointer: 8, 4 or 2. */
unsigned linear_stack_size(struct partition_vcpu *v);

/* How the guest accesses memory now: PAGING_USER at CPL 3, STAGE_ACCESS_AC by RFLAGS.AC. */
unsigned linear_access(struct partition_vcpu *v);

/*
 * Brings v->level->walk up to date with the guest's registers, so that v->level->linear translates its linear
 * addresses now. Returns linear_access.
 */
unsigned linear_prepare(struct partition_vcpu *v);

/*
 * The linear address of `size` bytes at segment:offset. False: the segment does not allow the access, and the
 * guest gets exception *vector with error code 0.
 */
bool linear_address(struct partition_vcpu *v, enum decode_segment segment, uint64_t offset, unsigned size,
                    bool write, gla_t *gla, uint8_t *vector) __must_check;

/* Whether `address` is canonical by the paging mode that the guest's CR4 chooses. */
bool linear_is_canonical(struct partition_vcpu *v, uint64_t address);
