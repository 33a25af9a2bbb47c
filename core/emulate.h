// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Executes one decoded instruction with an operand where no memory is: a device's register, or nothing at
 * all. The exit that brought us here says at which guest-physical address. The operand that fits that, whole
 * in its page, goes straight there; every other (the stack, the other side of a MOVS, one that crosses a
 * page's end, one of an instruction that is no longer that of the exit) goes to its linear address through an
 * op. Pure: state is reached through pointers and ops. Called from the exit handlers, on the vCPU's own pCPU.
 */
#include "arch/x86/decode.h"
#include "lib/types.h"

/* A repeated string instruction does at most so many elements a call, so that an exit stays short. */
#define EMULATE_ELEMENTS_MAX 64

enum emulate_result {
    EMULATE_DONE,  /* add the instruction's length to RIP */
    EMULATE_AGAIN, /* a repeated instruction is under way: registers are updated, RIP stays */
    EMULATE_FAULT, /* deliver `fault`; RIP stays. Completed elements of a repeated instruction stand. */
    EMULATE_RETRY, /* the guest's tables would not stand still: RIP stays; as after a fault without one */
};

/* The exception to deliver instead. */
struct emulate_fault {
    uint8_t vector;
    bool has_error_code;
    uint32_t error_code;
    uint64_t address; /* CR2, for a page fault */
};

/* What became of an access to a linear address. */
enum emulate_access {
    EMULATE_ACCESS_DONE,
    EMULATE_ACCESS_FAULT, /* the guest's own fault: *fault is filled in */
    EMULATE_ACCESS_AGAIN, /* its tables changed under the walk, time and again */
};

struct emulate_ops {
    /*
     * The linear address of `size` bytes at segment:offset as the segment registers say, after the checks of
     * limit, rights and canonical form. False: *fault is filled in.
     */
    bool (*linear)(void *context, enum decode_segment segment, uint64_t offset, unsigned size, bool write,
                   gla_t *gla, struct emulate_fault *fault);
    /*
     * What is at a linear address, memory or not, 1, 2, 4 or 8 bytes, also across a page boundary, with the
     * vCPU's present rights. An access that does not end as EMULATE_ACCESS_DONE has touched no device and
     * written nothing. `modify`: what is read will be written, and the guest must have the right to.
     */
    enum emulate_access (*memory_read)(void *context, gla_t gla, unsigned size, bool modify, uint64_t *value,
                                       struct emulate_fault *fault);
    enum emulate_access (*memory_write)(void *context, gla_t gla, unsigned size, uint64_t value,
                                        struct emulate_fault *fault);
    /* The device's registers, 1, 2, 4 or 8 bytes within one page; bits of *value above `size` are ignored. */
    void (*mmio_read)(void *context, gpa_t gpa, unsigned size, uint64_t *value);
    void (*mmio_write)(void *context, gpa_t gpa, unsigned size, uint64_t value);
};

struct emulate {
    const struct emulate_ops *ops;
    void *context;
    uint64_t *registers;        /* 16 general registers in the processor's order, RSP (number 4) among them */
    uint64_t *rflags;           /* only CF, PF, AF, ZF, SF and OF are changed; DF and TF are read */
    uint64_t rip;               /* of the instruction */
    uint8_t stack_size;         /* bytes of the stack pointer: 8 in 64-bit mode, else 4 or 2 by SS.B */
    gpa_t gpa;                  /* where the access that exited goes */
    bool write;                 /* that access was a write; of a read-modify-write either is right */
    struct emulate_fault fault; /* result */
};

/*
 * Executes `instruction`, which decode_instruction_bytes accepted, on `emulate`. Flags that the SDM leaves
 * undefined, and in which processors differ: AF is clear after logic, shifts and multiplications; ZF, SF and
 * PF are those of a product's low half; divisions keep all, bit tests all but CF, bit scans all but ZF.
 * With RFLAGS.TF set a repeated instruction does one element a call: the caller delivers the
 * single-step trap after EMULATE_DONE and EMULATE_AGAIN alike. Clearing RFLAGS.RF and the interrupt shadow is
 * the caller's, as for any exit.
 */
__must_check enum emulate_result emulate_instruction(struct emulate *emulate,
                                                     const struct decode_instruction *instruction);
