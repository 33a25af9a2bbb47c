// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Instruction bytes to a struct, for the instructions with which software reaches device registers: those
 * that have one general-register-sized operand in memory, and the string instructions (SDM vol. 2). Pure: no
 * memory but the bytes handed in, no state. core/emulate.h executes what this makes.
 *
 * The set: MOV (also to and from moffs), MOVZX, MOVSX, MOVSXD, MOVNTI, MOVBE, ADD, OR, ADC, SBB, AND, SUB,
 * XOR, CMP, TEST, INC, DEC, NOT, NEG, MUL, IMUL, DIV, IDIV, ROL, ROR, RCL, RCR, SHL, SHR, SAR, XCHG, XADD,
 * CMPXCHG, BT, BTS, BTR, BTC, BSF, BSR, CMOVcc, SETcc, PUSH and POP of memory, MOVS, CMPS, STOS, LODS, SCAS.
 * Moves of segment, control and debug registers are not in it.
 */
#include "lib/errors.h"
#include "lib/types.h"

/* The longest instruction that a processor executes. */
#define DECODE_LENGTH_MAX  15

/* No register: a base or index that is not there. */
#define DECODE_NO_REGISTER 0xff

/* What the code segment says: CS.L and CS.D. The value is the default address size in bytes. */
enum decode_mode {
    DECODE_MODE_16 = 2,
    DECODE_MODE_32 = 4,
    DECODE_MODE_64 = 8,
};

/* As the processor numbers them. */
enum decode_segment {
    DECODE_ES,
    DECODE_CS,
    DECODE_SS,
    DECODE_DS,
    DECODE_FS,
    DECODE_GS,
};

enum decode_operation {
    DECODE_NONE, /* not in the set */
    DECODE_ADD,
    DECODE_OR,
    DECODE_ADC,
    DECODE_SBB,
    DECODE_AND,
    DECODE_SUB,
    DECODE_XOR,
    DECODE_CMP,
    DECODE_TEST,
    DECODE_NOT,
    DECODE_NEG,
    DECODE_INC,
    DECODE_DEC,
    DECODE_BT,
    DECODE_BTS,
    DECODE_BTR,
    DECODE_BTC,
    DECODE_BSF,
    DECODE_BSR,
    DECODE_ROL,
    DECODE_ROR,
    DECODE_RCL,
    DECODE_RCR,
    DECODE_SHL,
    DECODE_SHR,
    DECODE_SAR,
    DECODE_MUL,
    DECODE_IMUL,
    DECODE_DIV,
    DECODE_IDIV,
    DECODE_CMOV, /* the condition: the low four bits of the opcode */
    DECODE_SET,  /* likewise */
    DECODE_MOV,
    DECODE_MOVNTI,
    DECODE_MOVBE,
    DECODE_MOVZX,
    DECODE_MOVSX,
    DECODE_MOVSXD,
    DECODE_XCHG,
    DECODE_XADD,
    DECODE_CMPXCHG,
    DECODE_PUSH,
    DECODE_POP,
    DECODE_MOVS,
    DECODE_CMPS,
    DECODE_STOS,
    DECODE_LODS,
    DECODE_SCAS,
    DECODE_OPERATIONS,
};

/* What an operand is. The destination of CMP, TEST and BT is read only. */
enum decode_operand {
    DECODE_OPERAND_NONE,
    DECODE_OPERAND_MEMORY,    /* `memory` */
    DECODE_OPERAND_OTHER,     /* `other`: the second memory operand of MOVS and CMPS */
    DECODE_OPERAND_STACK,     /* the top of the stack */
    DECODE_OPERAND_REGISTER,  /* `reg`; CL as the count of a shift, whatever operand_size */
    DECODE_OPERAND_IMMEDIATE, /* `immediate` */
    DECODE_OPERAND_WIDE,      /* rDX:rAX, AX for bytes: MUL, IMUL, DIV and IDIV with one operand */
};

enum decode_repeat {
    DECODE_REPEAT_NONE,
    DECODE_REPEAT_EQUAL,     /* F3: REP, REPE */
    DECODE_REPEAT_NOT_EQUAL, /* F2: REPNE */
};

/* A general register, or one of AH, CH, DH, BH: bits 15:8 of registers 0 to 3. */
struct decode_register {
    uint8_t number; /* 0: rAX, 1: rCX, … 15: R15, the processor's order */
    bool high_byte;
};

/*
 * segment:[base + index * scale + displacement], in address_size bytes. RIP-relative: the base is the address
 * of the next instruction.
 */
struct decode_memory {
    uint8_t segment; /* enum decode_segment; what a prefix says, where it counts */
    uint8_t base;    /* register or DECODE_NO_REGISTER */
    uint8_t index;   /* register or DECODE_NO_REGISTER */
    uint8_t scale;   /* 1, 2, 4, 8; 0 without index */
    bool rip_relative;
    int64_t displacement; /* sign-extended; a moffs is zero-extended */
};

struct decode_instruction {
    uint8_t mode;         /* enum decode_mode */
    uint8_t length;       /* bytes */
    uint8_t operation;    /* enum decode_operation */
    uint8_t opcode;       /* the last opcode byte */
    uint8_t rex;          /* the REX prefix in force, or 0 */
    uint8_t modrm;        /* 0 if there is none */
    uint8_t sib;          /* 0 if there is none */
    uint8_t repeat;       /* enum decode_repeat; NONE unless it is a string instruction */
    bool lock;            /* LOCK prefix (XCHG locks without, too) */
    uint8_t address_size; /* bytes: 2, 4, 8 */
    uint8_t operand_size; /* bytes: 1, 2, 4, 8: of the destination, and of the operation */
    uint8_t memory_size;  /* bytes read or written at `memory`: differs for MOVZX, MOVSX, MOVSXD */
    uint8_t destination;  /* enum decode_operand */
    uint8_t source;       /* enum decode_operand */
    bool three_operands;  /* IMUL: register ← memory * immediate */
    struct decode_register reg;
    struct decode_memory memory;
    struct decode_memory other; /* of MOVS and CMPS: ES:[rDI], while `memory` is segment:[rSI] */
    uint64_t immediate;         /* sign-extended to 64 bits */
};

/*
 * Decodes the instruction at the start of `bytes`, of which `length` (any number) may be read, into
 * `instruction` (caller's). Any context. Returns 0 if it is in the set, else
 * - -EOPNOTSUPP: it is not, or its operand is not in memory; instruction->length is set where it is known,
 * else 0;
 * - -EINVAL: the processor would refuse it: undefined, LOCK where it may not be, or longer than 15 bytes;
 * - -EAGAIN: it goes on after `length` bytes.
 */
__must_check int decode_instruction_bytes(struct decode_instruction *instruction, enum decode_mode mode,
                                          const uint8_t *bytes, size_t length);

/* The operation's name in lower case, as an assembler writes it; CMOVcc and SETcc without the condition. */
const char *decode_operation_name(enum decode_operation operation);
