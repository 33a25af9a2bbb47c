// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/decode.h"

/* How an instruction's operands are encoded. */
enum form {
    FORM_NONE,
    FORM_MR,      /* ModRM: r/m ← register */
    FORM_RM,      /* ModRM: register ← r/m */
    FORM_MI,      /* ModRM: r/m ← immediate of the operand's size, at most four bytes */
    FORM_MI8,     /* ModRM: r/m ← immediate byte */
    FORM_M1,      /* ModRM: r/m ← 1 */
    FORM_MC,      /* ModRM: r/m ← CL */
    FORM_RMI,     /* ModRM: register ← r/m, immediate as of FORM_MI */
    FORM_RMI8,    /* ModRM: register ← r/m, immediate byte */
    FORM_WIDE,    /* ModRM: rDX:rAX ← r/m */
    FORM_M,       /* ModRM: r/m alone */
    FORM_PUSH,    /* ModRM: stack ← r/m */
    FORM_POP,     /* ModRM: r/m ← stack */
    FORM_LOAD,    /* accumulator ← moffs */
    FORM_STORE,   /* moffs ← accumulator */
    FORM_MOVS,    /* ES:[rDI] ← segment:[rSI] */
    FORM_CMPS,    /* segment:[rSI], ES:[rDI] */
    FORM_TO_DI,   /* ES:[rDI] ← accumulator */
    FORM_FROM_DI, /* accumulator, ES:[rDI] */
    FORM_FROM_SI, /* accumulator ← segment:[rSI] */
    FORMS,
};

enum {
    FLAG_BYTE = 0x0001,     /* byte operands */
    FLAG_LOCK = 0x0002,     /* LOCK may stand before it, when it writes memory */
    FLAG_STACK = 0x0004,    /* in 64-bit mode the operand size is 8 unless a prefix makes it 2 */
    FLAG_SOURCE_8 = 0x0008, /* the operand in memory has this size, whatever the destination's */
    FLAG_SOURCE_16 = 0x0010,
    FLAG_SOURCE_32 = 0x0020,    /* at most: it is not larger than the destination */
    FLAG_NOT_64 = 0x0040,       /* undefined in 64-bit mode */
    FLAG_ONLY_64 = 0x0080,      /* another instruction outside 64-bit mode */
    FLAG_MEMORY = 0x0100,       /* undefined with a register in the place of memory */
    FLAG_NO_PREFIX = 0x0200,    /* undefined after 66, F2 and F3; the operand size is 4, or 8 by REX.W */
    FLAG_NO_REPEAT = 0x0400,    /* undefined after F3, another instruction after F2 */
    FLAG_UNDEFINED = 0x0800,    /* no such instruction */
    FLAG_REPEAT_OTHER = 0x1000, /* another instruction after F3 */
};

/* Opcodes that go on in ModRM.reg: where the eight rows of each begin in `groups`. */
enum group {
    GROUP_NONE = 0,
    GROUP_1 = 8,
    GROUP_1A = 16,
    GROUP_2 = 24,
    GROUP_3 = 32,
    GROUP_4 = 40,
    GROUP_5 = 48,
    GROUP_8 = 56,
    GROUP_11 = 64,
    GROUPS_END = 72,
};

/* What one opcode means. A row of `groups` adds to the row of the opcode that led there. */
struct row {
    uint8_t operation; /* enum decode_operation; NONE: not in the set */
    uint8_t form;      /* enum form */
    uint8_t group;     /* enum group */
    uint16_t flags;
};

/*
 * One opcode; two of which the first is for bytes; the four of an arithmetic operation; the sixteen of an
 * operation with a condition; one with a group.
 */
#define ROW(opcode, operation, form, flags)                                                                  \
    [(opcode)] = {DECODE_##operation, FORM_##form, GROUP_NONE, (flags)}
#define PAIR(opcode, operation, form, flags)                                                                 \
    ROW(opcode, operation, form, FLAG_BYTE | (flags)), ROW((opcode) + 1, operation, form, flags)
#define FOUR(opcode, operation, flags)                                                                       \
    PAIR(opcode, operation, MR, flags), PAIR((opcode) + 2, operation, RM, 0)
#define SIXTEEN(opcode, operation, form, flags)                                                              \
    [(opcode)...(opcode) + 15] = {DECODE_##operation, FORM_##form, GROUP_NONE, (flags)}
#define GROUP(opcode, group, form, flags) [(opcode)] = {DECODE_NONE, FORM_##form, GROUP_##group, (flags)}

/* SDM vol. 2, table A-2. */
static const struct row one_byte[256] = {
    FOUR(0x00, ADD, FLAG_LOCK),
    FOUR(0x08, OR, FLAG_LOCK),
    FOUR(0x10, ADC, FLAG_LOCK),
    FOUR(0x18, SBB, FLAG_LOCK),
    FOUR(0x20, AND, FLAG_LOCK),
    FOUR(0x28, SUB, FLAG_LOCK),
    FOUR(0x30, XOR, FLAG_LOCK),
    FOUR(0x38, CMP, 0),
    ROW(0x63, MOVSXD, RM, FLAG_SOURCE_32 | FLAG_ONLY_64),
    ROW(0x69, IMUL, RMI, 0),
    ROW(0x6b, IMUL, RMI8, 0),
    GROUP(0x80, 1, MI, FLAG_BYTE),
    GROUP(0x81, 1, MI, 0),
    GROUP(0x82, 1, MI, FLAG_BYTE | FLAG_NOT_64),
    GROUP(0x83, 1, MI8, 0),
    PAIR(0x84, TEST, MR, 0),
    PAIR(0x86, XCHG, MR, FLAG_LOCK),
    PAIR(0x88, MOV, MR, 0),
    PAIR(0x8a, MOV, RM, 0),
    GROUP(0x8f, 1A, POP, FLAG_STACK),
    PAIR(0xa0, MOV, LOAD, 0),
    PAIR(0xa2, MOV, STORE, 0),
    PAIR(0xa4, MOVS, MOVS, 0),
    PAIR(0xa6, CMPS, CMPS, 0),
    PAIR(0xaa, STOS, TO_DI, 0),
    PAIR(0xac, LODS, FROM_SI, 0),
    PAIR(0xae, SCAS, FROM_DI, 0),
    GROUP(0xc0, 2, MI8, FLAG_BYTE),
    GROUP(0xc1, 2, MI8, 0),
    GROUP(0xc6, 11, MI, FLAG_BYTE),
    GROUP(0xc7, 11, MI, 0),
    GROUP(0xd0, 2, M1, FLAG_BYTE),
    GROUP(0xd1, 2, M1, 0),
    GROUP(0xd2, 2, MC, FLAG_BYTE),
    GROUP(0xd3, 2, MC, 0),
    GROUP(0xf6, 3, M, FLAG_BYTE),
    GROUP(0xf7, 3, M, 0),
    GROUP(0xfe, 4, M, FLAG_BYTE),
    GROUP(0xff, 5, M, 0),
};

/* After 0F: SDM vol. 2, table A-3. */
static const struct row two_byte[256] = {
    SIXTEEN(0x40, CMOV, RM, 0),
    SIXTEEN(0x90, SET, M, FLAG_BYTE),
    ROW(0xa3, BT, MR, 0),
    ROW(0xab, BTS, MR, FLAG_LOCK),
    ROW(0xaf, IMUL, RM, 0),
    PAIR(0xb0, CMPXCHG, MR, FLAG_LOCK),
    ROW(0xb3, BTR, MR, FLAG_LOCK),
    ROW(0xb6, MOVZX, RM, FLAG_SOURCE_8),
    ROW(0xb7, MOVZX, RM, FLAG_SOURCE_16),
    GROUP(0xba, 8, MI8, 0),
    ROW(0xbb, BTC, MR, FLAG_LOCK),
    ROW(0xbc, BSF, RM, FLAG_REPEAT_OTHER),
    ROW(0xbd, BSR, RM, FLAG_REPEAT_OTHER),
    ROW(0xbe, MOVSX, RM, FLAG_SOURCE_8),
    ROW(0xbf, MOVSX, RM, FLAG_SOURCE_16),
    PAIR(0xc0, XADD, MR, FLAG_LOCK),
    ROW(0xc3, MOVNTI, MR, FLAG_MEMORY | FLAG_NO_PREFIX),
};

/* After 0F 38: SDM vol. 2, table A-4. */
static const struct row three_byte[256] = {
    ROW(0xf0, MOVBE, RM, FLAG_MEMORY | FLAG_NO_REPEAT),
    ROW(0xf1, MOVBE, MR, FLAG_MEMORY | FLAG_NO_REPEAT),
};

#define EXTENSION(group, reg, operation, form, flags)                                                        \
    [GROUP_##group + (reg)] = {DECODE_##operation, FORM_##form, GROUP_NONE, (flags)}
#define UNDEFINED(group, first, last)                                                                        \
    [GROUP_##group + (first)... GROUP_##group + (last)] = {.flags = FLAG_UNDEFINED}

/* By ModRM.reg: SDM vol. 2, table A-6. FORM_NONE: the opcode's. No row: outside the set. */
static const struct row groups[GROUPS_END] = {
    EXTENSION(1, 0, ADD, NONE, FLAG_LOCK),
    EXTENSION(1, 1, OR, NONE, FLAG_LOCK),
    EXTENSION(1, 2, ADC, NONE, FLAG_LOCK),
    EXTENSION(1, 3, SBB, NONE, FLAG_LOCK),
    EXTENSION(1, 4, AND, NONE, FLAG_LOCK),
    EXTENSION(1, 5, SUB, NONE, FLAG_LOCK),
    EXTENSION(1, 6, XOR, NONE, FLAG_LOCK),
    EXTENSION(1, 7, CMP, NONE, 0),
    EXTENSION(1A, 0, POP, NONE, 0),
    UNDEFINED(1A, 1, 7),
    EXTENSION(2, 0, ROL, NONE, 0),
    EXTENSION(2, 1, ROR, NONE, 0),
    EXTENSION(2, 2, RCL, NONE, 0),
    EXTENSION(2, 3, RCR, NONE, 0),
    EXTENSION(2, 4, SHL, NONE, 0),
    EXTENSION(2, 5, SHR, NONE, 0),
    EXTENSION(2, 6, SHL, NONE, 0), /* not in the SDM, but in every processor */
    EXTENSION(2, 7, SAR, NONE, 0),
    EXTENSION(3, 0, TEST, MI, 0),
    EXTENSION(3, 1, TEST, MI, 0), /* likewise */
    EXTENSION(3, 2, NOT, NONE, FLAG_LOCK),
    EXTENSION(3, 3, NEG, NONE, FLAG_LOCK),
    EXTENSION(3, 4, MUL, WIDE, 0),
    EXTENSION(3, 5, IMUL, WIDE, 0),
    EXTENSION(3, 6, DIV, WIDE, 0),
    EXTENSION(3, 7, IDIV, WIDE, 0),
    EXTENSION(4, 0, INC, NONE, FLAG_LOCK),
    EXTENSION(4, 1, DEC, NONE, FLAG_LOCK),
    UNDEFINED(4, 2, 7),
    EXTENSION(5, 0, INC, NONE, FLAG_LOCK),
    EXTENSION(5, 1, DEC, NONE, FLAG_LOCK),
    EXTENSION(5, 6, PUSH, PUSH, FLAG_STACK),
    UNDEFINED(5, 7, 7),
    UNDEFINED(8, 0, 3),
    EXTENSION(8, 4, BT, NONE, 0),
    EXTENSION(8, 5, BTS, NONE, FLAG_LOCK),
    EXTENSION(8, 6, BTR, NONE, FLAG_LOCK),
    EXTENSION(8, 7, BTC, NONE, FLAG_LOCK),
    EXTENSION(11, 0, MOV, NONE, 0),
    UNDEFINED(11, 1, 6),
};

#define OPERANDS(form, destination, source, modrm, immediate)                                                \
    [FORM_##form] = {DECODE_OPERAND_##destination, DECODE_OPERAND_##source, (modrm), (immediate)}

/* What a form's operands are. */
static const struct {
    uint8_t destination;
    uint8_t source;
    bool modrm;        /* there is a ModRM byte */
    uint8_t immediate; /* bytes, if the operand is not smaller */
} forms[FORMS] = {
    OPERANDS(MR, MEMORY, REGISTER, true, 0),       OPERANDS(RM, REGISTER, MEMORY, true, 0),
    OPERANDS(MI, MEMORY, IMMEDIATE, true, 4),      OPERANDS(MI8, MEMORY, IMMEDIATE, true, 1),
    OPERANDS(M1, MEMORY, IMMEDIATE, true, 0),      OPERANDS(MC, MEMORY, REGISTER, true, 0),
    OPERANDS(RMI, REGISTER, MEMORY, true, 4),      OPERANDS(RMI8, REGISTER, MEMORY, true, 1),
    OPERANDS(WIDE, WIDE, MEMORY, true, 0),         OPERANDS(M, MEMORY, NONE, true, 0),
    OPERANDS(PUSH, STACK, MEMORY, true, 0),        OPERANDS(POP, MEMORY, STACK, true, 0),
    OPERANDS(LOAD, REGISTER, MEMORY, false, 0),    OPERANDS(STORE, MEMORY, REGISTER, false, 0),
    OPERANDS(MOVS, OTHER, MEMORY, false, 0),       OPERANDS(CMPS, MEMORY, OTHER, false, 0),
    OPERANDS(TO_DI, MEMORY, REGISTER, false, 0),   OPERANDS(FROM_DI, REGISTER, MEMORY, false, 0),
    OPERANDS(FROM_SI, REGISTER, MEMORY, false, 0),
};

enum {
    REGISTER_CX = 1,
    REGISTER_BX = 3,
    REGISTER_SP = 4,
    REGISTER_BP = 5,
    REGISTER_SI = 6,
    REGISTER_DI = 7,
};

#define REX_W 0x08
#define REX_R 0x04
#define REX_X 0x02
#define REX_B 0x01

/* The bytes, and what the prefixes among them said. */
struct decoder {
    const uint8_t *bytes;
    size_t limit; /* how many may be read */
    size_t position;
    bool exhausted; /* one more was wanted */
    bool operand_prefix;
    bool address_prefix;
    bool lock;
    uint8_t repeat;  /* enum decode_repeat */
    uint8_t segment; /* of the last prefix that counts, or NO_SEGMENT */
};

#define NO_SEGMENT 0xff

/* The next byte, or 0 and `exhausted`. */
static uint8_t next_byte(struct decoder *d)
{
    if (d->position == d->limit) {
        d->exhausted = true;
        return 0;
    }
    return d->bytes[d->position++];
}

/* A little-endian number of `size` bytes, sign-extended. */
static int64_t next_number(struct decoder *d, unsigned size)
{
    uint64_t value = 0;

    if (size == 0)
        return 0;
    /* Mostly there are eight bytes to read: one load then does for any size. */
    if (d->limit - d->position >= sizeof(value)) {
        __builtin_memcpy(&value, d->bytes + d->position, sizeof(value));
        d->position += size;
    } else {
        for (unsigned i = 0; i < size; i++)
            value |= (uint64_t)next_byte(d) << (8 * i);
    }
    return (int64_t)(value << (64 - 8 * size)) >> (64 - 8 * size);
}

/* Takes one legacy prefix; false if `byte` is none. 64-bit mode ignores those of four segments. */
static bool take_prefix(struct decoder *d, uint8_t byte, enum decode_mode mode)
{
    switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
        if (mode != DECODE_MODE_64)
            d->segment = (byte >> 3) & 3;
        return true;
    case 0x64:
    case 0x65:
        d->segment = byte == 0x64 ? DECODE_FS : DECODE_GS;
        return true;
    case 0x66:
        d->operand_prefix = true;
        return true;
    case 0x67:
        d->address_prefix = true;
        return true;
    case 0xf0:
        d->lock = true;
        return true;
    case 0xf2:
        d->repeat = DECODE_REPEAT_NOT_EQUAL;
        return true;
    case 0xf3:
        d->repeat = DECODE_REPEAT_EQUAL;
        return true;
    default:
        return false;
    }
}

/* Reads all prefixes; returns the byte after them. A REX that is not the last of them counts for nothing. */
static uint8_t read_prefixes(struct decoder *d, struct decode_instruction *i)
{
    for (;;) {
        uint8_t byte = next_byte(d);

        if (d->exhausted)
            return 0;
        if (take_prefix(d, byte, i->mode))
            i->rex = 0;
        else if (i->mode == DECODE_MODE_64 && (byte & 0xf0) == 0x40)
            i->rex = byte;
        else
            return byte;
    }
}

/* Reads the opcode, of which `byte` is the first, and finds its row. */
static const struct row *read_opcode(struct decoder *d, struct decode_instruction *i, uint8_t byte)
{
    const struct row *map = one_byte;

    if (byte == 0x0f) {
        map = two_byte;
        byte = next_byte(d);
        if (byte == 0x38) {
            map = three_byte;
            byte = next_byte(d);
        }
    }
    i->opcode = byte;
    return &map[byte];
}

static uint8_t default_segment(const struct decoder *d, uint8_t segment)
{
    return d->segment == NO_SEGMENT ? segment : d->segment;
}

/* The registers that ModRM.rm adds up in 16-bit addressing (SDM vol. 2, table 2-1). */
static const uint8_t base_16[8] = {
    REGISTER_BX, REGISTER_BX, REGISTER_BP, REGISTER_BP, REGISTER_SI, REGISTER_DI, REGISTER_BP, REGISTER_BX,
};
static const uint8_t index_16[8] = {
    REGISTER_SI,        REGISTER_DI,        REGISTER_SI,        REGISTER_DI,
    DECODE_NO_REGISTER, DECODE_NO_REGISTER, DECODE_NO_REGISTER, DECODE_NO_REGISTER,
};

/* The rest of a memory operand in 16-bit addressing (SDM vol. 2, table 2-1). */
static void read_memory_16(struct decoder *d, struct decode_instruction *i)
{
    struct decode_memory *m = &i->memory;
    unsigned mod = i->modrm >> 6;
    unsigned rm = i->modrm & 7;

    m->base = base_16[rm];
    m->index = index_16[rm];
    m->scale = m->index == DECODE_NO_REGISTER ? 0 : 1;
    if (mod == 0 && rm == 6) {
        m->base = DECODE_NO_REGISTER;
        m->displacement = next_number(d, 2);
    } else {
        m->displacement = next_number(d, mod);
    }
    m->segment = default_segment(d, m->base == REGISTER_BP ? DECODE_SS : DECODE_DS);
}

/* The same in 32- and 64-bit addressing, with its SIB byte (SDM vol. 2, tables 2-2 and 2-3, 2.2.1). */
static void read_memory_32(struct decoder *d, struct decode_instruction *i)
{
    struct decode_memory *m = &i->memory;
    unsigned mod = i->modrm >> 6;
    uint8_t base = i->modrm & 7;

    m->index = DECODE_NO_REGISTER;
    if (base == 4) {
        i->sib = next_byte(d);
        base = i->sib & 7;
        uint8_t index = (uint8_t)(((i->sib >> 3) & 7) | (i->rex & REX_X ? 8 : 0));
        if (index != REGISTER_SP) {
            m->index = index;
            m->scale = (uint8_t)(1u << (i->sib >> 6));
        }
    } else if (base == 5 && mod == 0 && i->mode == DECODE_MODE_64) {
        m->rip_relative = true;
    }
    if (base == 5 && mod == 0) {
        m->base = DECODE_NO_REGISTER;
        m->displacement = next_number(d, 4);
    } else {
        m->base = (uint8_t)(base | (i->rex & REX_B ? 8 : 0));
        m->displacement = next_number(d, mod == 2 ? 4 : mod);
    }
    m->segment = default_segment(d, m->base == REGISTER_SP || m->base == REGISTER_BP ? DECODE_SS : DECODE_DS);
}

/* The operands that the form implies rather than encodes: string pointers and moffs. */
static void imply_memory(struct decoder *d, struct decode_instruction *i, enum form form)
{
    struct decode_memory source = {
        default_segment(d, DECODE_DS), REGISTER_SI, DECODE_NO_REGISTER, 0, false, 0};
    struct decode_memory destination = {DECODE_ES, REGISTER_DI, DECODE_NO_REGISTER, 0, false, 0};

    switch (form) {
    case FORM_LOAD:
    case FORM_STORE:
        i->memory = source;
        i->memory.base = DECODE_NO_REGISTER;
        i->memory.displacement = next_number(d, i->address_size);
        if (i->address_size < 8)
            i->memory.displacement &= (int64_t)(BIT(8 * i->address_size) - 1);
        return;
    case FORM_MOVS:
    case FORM_CMPS:
        i->memory = source;
        i->other = destination;
        break;
    case FORM_FROM_SI:
        i->memory = source;
        break;
    default:
        i->memory = destination;
        break;
    }
    i->repeat = d->repeat;
}

/* Operand and address size (SDM vol. 1, tables 3-3 and 3-4). */
static void find_sizes(const struct decoder *d, struct decode_instruction *i, unsigned flags)
{
    if (i->mode == DECODE_MODE_64)
        i->address_size = d->address_prefix ? 4 : 8;
    else
        i->address_size = (i->mode == DECODE_MODE_32) != d->address_prefix ? 4 : 2;

    if (flags & FLAG_BYTE)
        i->operand_size = 1;
    else if (i->rex & REX_W)
        i->operand_size = 8;
    else if (flags & FLAG_NO_PREFIX)
        i->operand_size = 4;
    else if (i->mode == DECODE_MODE_64 && (flags & FLAG_STACK))
        i->operand_size = d->operand_prefix ? 2 : 8;
    else
        i->operand_size = (i->mode == DECODE_MODE_16) == d->operand_prefix ? 4 : 2;

    i->memory_size = i->operand_size;
    if (flags & FLAG_SOURCE_8)
        i->memory_size = 1;
    else if (flags & FLAG_SOURCE_16)
        i->memory_size = 2;
    else if ((flags & FLAG_SOURCE_32) && i->operand_size > 4)
        i->memory_size = 4;
}

/* Register `number`: without REX, bytes 4 to 7 are the second bytes of 0 to 3 (SDM vol. 1, 3.4.1.1). */
static struct decode_register name_register(const struct decode_instruction *i, uint8_t number)
{
    if (i->operand_size == 1 && i->rex == 0 && number >= 4)
        return (struct decode_register){number & 3, true};
    return (struct decode_register){number, false};
}

/* 0, or why this instruction is none of ours although its opcode is. */
static int judge(const struct decoder *d, const struct decode_instruction *i, unsigned flags, bool in_memory)
{
    if ((flags & FLAG_UNDEFINED) || ((flags & FLAG_NOT_64) && i->mode == DECODE_MODE_64))
        return -EINVAL;
    if ((flags & FLAG_ONLY_64) && i->mode != DECODE_MODE_64)
        return -EOPNOTSUPP;
    if ((flags & FLAG_NO_PREFIX) && (d->operand_prefix || d->repeat != DECODE_REPEAT_NONE))
        return -EINVAL;
    if ((flags & FLAG_NO_REPEAT) && d->repeat != DECODE_REPEAT_NONE)
        return d->repeat == DECODE_REPEAT_EQUAL ? -EINVAL : -EOPNOTSUPP;
    if ((flags & FLAG_REPEAT_OTHER) && d->repeat == DECODE_REPEAT_EQUAL)
        return -EOPNOTSUPP;
    if (!in_memory && (flags & FLAG_MEMORY))
        return -EINVAL;
    if (d->lock && !((flags & FLAG_LOCK) && in_memory))
        return -EINVAL;
    return i->operation == DECODE_NONE ? -EOPNOTSUPP : 0;
}

int decode_instruction_bytes(struct decode_instruction *instruction, enum decode_mode mode,
                             const uint8_t *bytes, size_t length)
{
    struct decode_instruction *i = instruction;
    struct decoder d = {.bytes = bytes, .limit = min_u64(length, DECODE_LENGTH_MAX), .segment = NO_SEGMENT};
    bool in_memory = true;

    *i = (struct decode_instruction){.mode = (uint8_t)mode};

    const struct row *row = read_opcode(&d, i, read_prefixes(&d, i));
    if (!d.exhausted && row->form == FORM_NONE)
        return -EOPNOTSUPP;

    unsigned form = row->form;
    unsigned flags = row->flags;
    i->operation = row->operation;
    if (forms[form].modrm) {
        i->modrm = next_byte(&d);
        in_memory = i->modrm < 0xc0;
        if (row->group != GROUP_NONE) {
            row = &groups[row->group + ((i->modrm >> 3) & 7)];
            i->operation = row->operation;
            flags |= row->flags;
            if (row->form != FORM_NONE)
                form = row->form;
        }
    }
    find_sizes(&d, i, flags);

    if (!forms[form].modrm)
        imply_memory(&d, i, form);
    else if (in_memory && i->address_size == 2)
        read_memory_16(&d, i);
    else if (in_memory)
        read_memory_32(&d, i);
    i->immediate = (uint64_t)next_number(&d, (unsigned)min_u64(forms[form].immediate, i->operand_size));

    if (form == FORM_M1)
        i->immediate = 1;

    if (d.exhausted)
        return length < DECODE_LENGTH_MAX ? -EAGAIN : -EINVAL;
    i->length = (uint8_t)d.position;
    int error = judge(&d, i, flags, in_memory);
    if (error != 0)
        return error;
    if (!in_memory)
        return -EOPNOTSUPP;
    i->lock = d.lock;
    i->destination = forms[form].destination;
    i->source = forms[form].source;
    i->three_operands = form == FORM_RMI || form == FORM_RMI8;
    if (form == FORM_MC) {
        i->reg.number = REGISTER_CX;
    } else if (i->destination == DECODE_OPERAND_REGISTER || i->source == DECODE_OPERAND_REGISTER) {
        uint8_t number = (uint8_t)(((i->modrm >> 3) & 7) | (i->rex & REX_R && forms[form].modrm ? 8 : 0));
        i->reg = name_register(i, number);
    }
    return 0;
}

#define NAME(operation, name) [DECODE_##operation] = name

static const char *const names[DECODE_OPERATIONS] = {
    NAME(NONE, "(none)"), NAME(ADD, "add"),         NAME(OR, "or"),         NAME(ADC, "adc"),
    NAME(SBB, "sbb"),     NAME(AND, "and"),         NAME(SUB, "sub"),       NAME(XOR, "xor"),
    NAME(CMP, "cmp"),     NAME(TEST, "test"),       NAME(NOT, "not"),       NAME(NEG, "neg"),
    NAME(INC, "inc"),     NAME(DEC, "dec"),         NAME(BT, "bt"),         NAME(BTS, "bts"),
    NAME(BTR, "btr"),     NAME(BTC, "btc"),         NAME(BSF, "bsf"),       NAME(BSR, "bsr"),
    NAME(ROL, "rol"),     NAME(ROR, "ror"),         NAME(RCL, "rcl"),       NAME(RCR, "rcr"),
    NAME(SHL, "shl"),     NAME(SHR, "shr"),         NAME(SAR, "sar"),       NAME(MUL, "mul"),
    NAME(IMUL, "imul"),   NAME(DIV, "div"),         NAME(IDIV, "idiv"),     NAME(CMOV, "cmov"),
    NAME(SET, "set"),     NAME(MOV, "mov"),         NAME(MOVNTI, "movnti"), NAME(MOVBE, "movbe"),
    NAME(MOVZX, "movzx"), NAME(MOVSX, "movsx"),     NAME(MOVSXD, "movsxd"), NAME(XCHG, "xchg"),
    NAME(XADD, "xadd"),   NAME(CMPXCHG, "cmpxchg"), NAME(PUSH, "push"),     NAME(POP, "pop"),
    NAME(MOVS, "movs"),   NAME(CMPS, "cmps"),       NAME(STOS, "stos"),     NAME(LODS, "lods"),
    NAME(SCAS, "scas"),
};

const char *decode_operation_name(enum decode_operation operation)
{
    return (unsigned)operation < DECODE_OPERATIONS ? names[operation] : names[DECODE_NONE];
}
