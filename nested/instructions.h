// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The VMX instructions of a guest hypervisor, outside of VMX operation and in root operation: operands,
 * faults, VMfail and effects, in the order of the SDM's own description (vol. 3, "VMX Instruction
 * Reference"). Not VMCALL and VMFUNC, and not what Lv2 executes. Called by the vCPU's home on the exit path,
 * VMCS01 current.
 */
#include "arch/x86/decode.h"
#include "lib/types.h"
#include "nested/nested.h"
#include "vmx/reasons.h"

/* The exception that an instruction ends in. */
struct nested_fault {
    uint8_t vector;
    bool has_error_code;
    uint32_t error_code;
    uint64_t address; /* CR2, for a page fault */
};

/* What became of an access to a memory operand. */
enum nested_access {
    NESTED_ACCESS_DONE,
    NESTED_ACCESS_FAULT, /* *fault is filled in; nothing was written */
    NESTED_ACCESS_AGAIN, /* the guest's tables changed under the walk, time and again; nothing was written */
};

/* Memory operands of Lv1: the checks of the segment, the translation and the copy are the floor above's. */
struct nested_operand_ops {
    /* `size` bytes, at most 16, at segment:offset, with the rights that the vCPU has now. `offset` is cut to
     * the instruction's address size. */
    enum nested_access (*read)(void *context, enum decode_segment segment, uint64_t offset, void *to,
                               unsigned size, struct nested_fault *fault);
    enum nested_access (*write)(void *context, enum decode_segment segment, uint64_t offset, const void *from,
                                unsigned size, struct nested_fault *fault);
};

/* The instruction that exited. */
struct nested_operands {
    enum exit_reason instruction; /* EXIT_REASON_VMCLEAR and so on */
    /*
     * The exit's instruction information (SDM vol. 3, tables "Format of the VM-Exit Instruction-Information
     * Field") and its qualification, the displacement; without meaning for an instruction without operands.
     */
    uint32_t information;
    uint64_t displacement;
    const struct nested_operand_ops *ops;
    void *context;
    struct nested_fault fault; /* result, with NESTED_FAULT */
};

enum nested_answer {
    NESTED_DONE,  /* executed, VMfail included: move past it */
    NESTED_FAULT, /* deliver operands->fault; nothing else has changed */
    NESTED_ENTER, /* VMLAUNCH or VMRESUME has passed its checks: a logical VM entry */
    NESTED_RETRY, /* the guest executes it again: nothing has changed */
};

/* What the exit that VMCS01 has says of the instruction. The caller adds ops and context. */
void nested_operands_from_exit(struct nested_operands *operands, struct nested_vcpu *n);

/* Executes the instruction. n->mode is not NESTED_NON_ROOT. */
enum nested_answer nested_instruction(struct nested_vcpu *n, struct nested_operands *operands) __must_check;

/* What a VMX instruction leaves behind in RFLAGS and, for the last, in the current VMCS (SDM vol. 3,
 * "Conventions"): for logical entries that fail as well. */
void nested_succeed(struct nested_vcpu *n);
void nested_fail(struct nested_vcpu *n, enum vm_instruction_error error);

/*
 * The current VMCS goes back to guest memory and stays current. What cannot be written there is lost, as what
 * a processor writes where no memory is. False: not now (STAGE_AGAIN).
 */
bool nested_write_back(struct nested_vcpu *n) __must_check;

/* The state after power-on: outside of VMX operation, no VMCS; guest memory is not touched. */
void nested_reset(struct nested_vcpu *n);
