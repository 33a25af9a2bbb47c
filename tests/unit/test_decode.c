// SPDX-License-Identifier: BSD-2-Clause
/*
 * arch/x86/decode.c: cases worked out by hand from the SDM, and a comparison with Zydis over systematic and
 * random bytes. Fails when a field of an accepted instruction differs from what Zydis says, when an
 * instruction of the set with an operand in memory is refused, when one that Zydis refuses is accepted, or
 * when a byte past the given ones is read (the sanitizer sees it).
 */
#include "arch/x86/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>
#include <cmocka.h>

#define NONE DECODE_NO_REGISTER

/* ---- By hand --------------------------------------------------------------------------------- */

struct accepted {
    const char *bytes;
    uint8_t size;
    uint8_t mode;
    uint8_t operation;
    uint8_t operand_size;
    uint8_t memory_size;
    uint8_t destination;
    uint8_t source;
    struct decode_register reg;
    struct decode_memory memory;
    uint64_t immediate;
};

#define BYTES(text) text, sizeof(text) - 1
#define REG(number, high)                                                                                    \
    {                                                                                                        \
        number, high                                                                                         \
    }
#define MEM(segment, base, index, scale, rip_relative, displacement)                                         \
    {                                                                                                        \
        DECODE_##segment, base, index, scale, rip_relative, (int64_t)(displacement)                          \
    }
#define CASE(bytes, mode, operation, operand_size, memory_size, destination, source, reg, memory, immediate) \
    {                                                                                                        \
        BYTES(bytes), DECODE_MODE_##mode, DECODE_##operation, operand_size, memory_size,                     \
            DECODE_OPERAND_##destination, DECODE_OPERAND_##source, reg, memory, (uint64_t)(immediate)        \
    }

static const struct accepted accepted[] = {
    /* mov %eax, 0xfee000b0(,%riz): an EOI, absolute by SIB */
    CASE("\x89\x04\x25\xb0\x00\xe0\xfe", 64, MOV, 4, 4, MEMORY, REGISTER, REG(0, false),
         MEM(DS, NONE, NONE, 0, false, (int32_t)0xfee000b0), 0),
    /* mov 0xfee00020, %eax by moffs32 */
    CASE("\xa1\x20\x00\xe0\xfe", 32, MOV, 4, 4, REGISTER, MEMORY, REG(0, false),
         MEM(DS, NONE, NONE, 0, false, 0xfee00020), 0),
    /* movabs %al, moffs64 */
    CASE("\xa2\x01\x02\x03\x04\x05\x06\x07\x88", 64, MOV, 1, 1, MEMORY, REGISTER, REG(0, false),
         MEM(DS, NONE, NONE, 0, false, (int64_t)0x8807060504030201), 0),
    /* movl $-1, -8(%rip) */
    CASE("\xc7\x05\xf8\xff\xff\xff\xff\xff\xff\xff", 64, MOV, 4, 4, MEMORY, IMMEDIATE, REG(0, false),
         MEM(DS, NONE, NONE, 0, true, -8), UINT64_MAX),
    /* mov %ch, (%rbx); with a REX prefix the same number is %bpl */
    CASE("\x88\x2b", 64, MOV, 1, 1, MEMORY, REGISTER, REG(1, true), MEM(DS, 3, NONE, 0, false, 0), 0),
    CASE("\x40\x88\x2b", 64, MOV, 1, 1, MEMORY, REGISTER, REG(5, false), MEM(DS, 3, NONE, 0, false, 0), 0),
    /* a REX before another prefix counts for nothing */
    CASE("\x4f\x66\x01\x18", 64, ADD, 2, 2, MEMORY, REGISTER, REG(3, false), MEM(DS, 0, NONE, 0, false, 0),
         0),
    /* movzwl %fs:0x10(%bp,%si), %edx in real mode with an operand-size prefix */
    CASE("\x64\x66\x0f\xb7\x52\x10", 16, MOVZX, 4, 2, REGISTER, MEMORY, REG(2, false),
         MEM(FS, 5, 6, 1, false, 0x10), 0),
    /* orb $0x80, (%bp): the stack segment */
    CASE("\x80\x4e\x00\x80", 16, OR, 1, 1, MEMORY, IMMEDIATE, REG(0, false), MEM(SS, 5, NONE, 0, false, 0),
         (uint64_t)-128),
    /* cmpq $-2, -4(%r13,%r12,8) */
    CASE("\x4b\x83\x7c\xe5\xfc\xfe", 64, CMP, 8, 8, MEMORY, IMMEDIATE, REG(0, false),
         MEM(DS, 13, 12, 8, false, -4), (uint64_t)-2),
    /* pushq 8(%rsp) */
    CASE("\xff\x74\x24\x08", 64, PUSH, 8, 8, STACK, MEMORY, REG(0, false), MEM(SS, 4, NONE, 0, false, 8), 0),
    /* rep stosl: the segment of rDI cannot be changed */
    CASE("\xf3\x26\x65\xab", 32, STOS, 4, 4, MEMORY, REGISTER, REG(0, false), MEM(ES, 7, NONE, 0, false, 0),
         0),
    /* neg %r8-based byte */
    CASE("\x41\xf6\x18", 64, NEG, 1, 1, MEMORY, NONE, REG(0, false), MEM(DS, 8, NONE, 0, false, 0), 0),
    /* sarl (%rdi); rclq %cl, (%rdi) */
    CASE("\xd1\x3f", 64, SAR, 4, 4, MEMORY, IMMEDIATE, REG(0, false), MEM(DS, 7, NONE, 0, false, 0), 1),
    CASE("\x48\xd3\x17", 64, RCL, 8, 8, MEMORY, REGISTER, REG(1, false), MEM(DS, 7, NONE, 0, false, 0), 0),
    /* imulw $-2, (%rdi), %r9w; idivb (%rdi) */
    CASE("\x66\x44\x6b\x0f\xfe", 64, IMUL, 2, 2, REGISTER, MEMORY, REG(9, false),
         MEM(DS, 7, NONE, 0, false, 0), (uint64_t)-2),
    CASE("\xf6\x3f", 64, IDIV, 1, 1, WIDE, MEMORY, REG(0, false), MEM(DS, 7, NONE, 0, false, 0), 0),
    /* cmovne (%edi), %eax; sete (%edi) */
    CASE("\x0f\x45\x07", 32, CMOV, 4, 4, REGISTER, MEMORY, REG(0, false), MEM(DS, 7, NONE, 0, false, 0), 0),
    CASE("\x0f\x94\x07", 32, SET, 1, 1, MEMORY, NONE, REG(0, false), MEM(DS, 7, NONE, 0, false, 0), 0),
};

static void assert_memory(const struct decode_memory *a, const struct decode_memory *b)
{
    assert_int_equal(a->segment, b->segment);
    assert_int_equal(a->base, b->base);
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->scale, b->scale);
    assert_int_equal(a->rip_relative, b->rip_relative);
    assert_int_equal(a->displacement, b->displacement);
}

static void accepts(void **state)
{
    (void)state;
    for (size_t n = 0; n < ARRAY_SIZE(accepted); n++) {
        const struct accepted *c = &accepted[n];
        struct decode_instruction i;

        assert_int_equal(decode_instruction_bytes(&i, c->mode, (const uint8_t *)c->bytes, c->size), 0);
        assert_int_equal(i.length, c->size);
        assert_int_equal(i.operation, c->operation);
        assert_int_equal(i.operand_size, c->operand_size);
        assert_int_equal(i.memory_size, c->memory_size);
        assert_int_equal(i.destination, c->destination);
        assert_int_equal(i.source, c->source);
        assert_int_equal(i.reg.number, c->reg.number);
        assert_int_equal(i.reg.high_byte, c->reg.high_byte);
        assert_int_equal(i.immediate, c->immediate);
        assert_memory(&i.memory, &c->memory);
    }
}

#define REFUSED(bytes, mode, error, length)                                                                  \
    {                                                                                                        \
        BYTES(bytes), DECODE_MODE_##mode, -(error), length                                                   \
    }

static const struct {
    const char *bytes;
    uint8_t size;
    uint8_t mode;
    int error;
    uint8_t length;
} refused[] = {
    REFUSED("\x89\xc8", 64, EOPNOTSUPP, 2),             /* mov %ecx, %eax: no memory */
    REFUSED("\x0f\xa2", 64, EOPNOTSUPP, 0),             /* cpuid */
    REFUSED("\xff\x10", 64, EOPNOTSUPP, 2),             /* call *(%rax) */
    REFUSED("\xf3\x0f\xbc\x00", 64, EOPNOTSUPP, 4),     /* tzcntl (%rax), %eax */
    REFUSED("\xf0\xd1\x20", 64, EINVAL, 3),             /* lock shl */
    REFUSED("\x63\x00", 32, EOPNOTSUPP, 2),             /* arpl */
    REFUSED("\xf2\x0f\x38\xf1\x00", 64, EOPNOTSUPP, 5), /* crc32l (%rax), %eax */
    REFUSED("\xf0\x8b\x00", 64, EINVAL, 3),             /* lock mov */
    REFUSED("\xf0\x01\xc0", 64, EINVAL, 3),             /* lock add to a register */
    REFUSED("\xf0\x3b\x00", 64, EINVAL, 3),             /* lock cmp */
    REFUSED("\xfe\x10", 64, EINVAL, 2),                 /* FE /2 */
    REFUSED("\x82\x00\x01", 64, EINVAL, 3),             /* only outside 64-bit mode */
    REFUSED("\x0f\xc3\xc0", 64, EINVAL, 3),             /* movnti to a register */
    REFUSED("\x8b", 64, EAGAIN, 0),
    REFUSED("\x8b\x05\x01\x02\x03", 64, EAGAIN, 0),
    REFUSED("\x66\x66\x66", 64, EAGAIN, 0),
    REFUSED("", 64, EAGAIN, 0),
    /* 15 bytes are an instruction, 16 are none, however many are at hand */
    REFUSED("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x8b\x00", 64, EINVAL, 0),
    REFUSED("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x8b", 64, EINVAL, 0),
};

static void refuses(void **state)
{
    (void)state;
    for (size_t n = 0; n < ARRAY_SIZE(refused); n++) {
        struct decode_instruction i;
        const uint8_t *bytes = (const uint8_t *)refused[n].bytes;

        assert_int_equal(decode_instruction_bytes(&i, refused[n].mode, bytes, refused[n].size),
                         refused[n].error);
        assert_int_equal(i.length, refused[n].length);
    }
}

static void names(void **state)
{
    (void)state;
    for (unsigned operation = 0; operation < DECODE_OPERATIONS; operation++)
        assert_non_null(decode_operation_name(operation));
    assert_string_equal(decode_operation_name(DECODE_SCAS), "scas");
    assert_string_equal(decode_operation_name(DECODE_OPERATIONS), "(none)");
}

/* ---- Against Zydis --------------------------------------------------------------------------- */

#define PLAIN(name) [DECODE_##name] = {ZYDIS_MNEMONIC_##name}
#define STRING(name)                                                                                         \
    [DECODE_##name] = {ZYDIS_MNEMONIC_##name##B, ZYDIS_MNEMONIC_##name##W, ZYDIS_MNEMONIC_##name##D,         \
                       ZYDIS_MNEMONIC_##name##Q}

#define CC(name, condition) ZYDIS_MNEMONIC_##name##condition
#define CONDITIONS(name)                                                                                     \
    [DECODE_##name] = {CC(name, O),  CC(name, NO),  CC(name, B),  CC(name, NB), CC(name, Z), CC(name, NZ),   \
                       CC(name, BE), CC(name, NBE), CC(name, S),  CC(name, NS), CC(name, P), CC(name, NP),   \
                       CC(name, L),  CC(name, NL),  CC(name, LE), CC(name, NLE)}

/* What Zydis calls them; string instructions have a name a size, CMOVcc and SETcc one a condition. */
static const ZydisMnemonic mnemonics[DECODE_OPERATIONS][16] = {
    PLAIN(ADD),   PLAIN(OR),    PLAIN(ADC),       PLAIN(SBB),      PLAIN(AND),   PLAIN(SUB),     PLAIN(XOR),
    PLAIN(CMP),   PLAIN(TEST),  PLAIN(NOT),       PLAIN(NEG),      PLAIN(INC),   PLAIN(DEC),     PLAIN(BT),
    PLAIN(BTS),   PLAIN(BTR),   PLAIN(BTC),       PLAIN(BSF),      PLAIN(BSR),   PLAIN(ROL),     PLAIN(ROR),
    PLAIN(RCL),   PLAIN(RCR),   PLAIN(SHL),       PLAIN(SHR),      PLAIN(SAR),   PLAIN(MUL),     PLAIN(IMUL),
    PLAIN(DIV),   PLAIN(IDIV),  CONDITIONS(CMOV), CONDITIONS(SET), PLAIN(MOV),   PLAIN(MOVNTI),  PLAIN(MOVBE),
    PLAIN(MOVZX), PLAIN(MOVSX), PLAIN(MOVSXD),    PLAIN(XCHG),     PLAIN(XADD),  PLAIN(CMPXCHG), PLAIN(PUSH),
    PLAIN(POP),   STRING(MOVS), STRING(CMPS),     STRING(STOS),    STRING(LODS), STRING(SCAS),
};

struct theirs {
    bool valid;
    enum decode_operation operation; /* NONE: not in the set */
    unsigned memory_operands;
    unsigned stack_operands;
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

static ZydisDecoder decoders[DECODE_MODE_64 + 1];
static uint8_t operation_of[ZYDIS_MNEMONIC_MAX_VALUE + 1];

static int set_up(void **state)
{
    (void)state;
    ZydisDecoderInit(&decoders[DECODE_MODE_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&decoders[DECODE_MODE_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&decoders[DECODE_MODE_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (unsigned operation = 0; operation < DECODE_OPERATIONS; operation++)
        for (unsigned n = 0; n < ARRAY_SIZE(mnemonics[0]); n++)
            if (mnemonics[operation][n] != ZYDIS_MNEMONIC_INVALID)
                operation_of[mnemonics[operation][n]] = (uint8_t)operation;
    return 0;
}

/* The stack of PUSH and POP, which Zydis lists as one more operand. */
static bool is_stack(const ZydisDecodedOperand *o)
{
    return o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
           ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->mem.base) == ZYDIS_REGISTER_RSP;
}

static void ask_zydis(struct theirs *t, enum decode_mode mode, const uint8_t *bytes)
{
    memset(t, 0, sizeof(*t));
    t->valid = ZYAN_SUCCESS(
        ZydisDecoderDecodeFull(&decoders[mode], bytes, DECODE_LENGTH_MAX, &t->instruction, t->operands));
    if (!t->valid || t->instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return;

    t->operation = operation_of[t->instruction.mnemonic];
    for (unsigned n = 0; n < t->instruction.operand_count; n++) {
        const ZydisDecodedOperand *o = &t->operands[n];

        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
            *(is_stack(o) ? &t->stack_operands : &t->memory_operands) += 1;
        /* Those with segment, control or vector registers are not ours. */
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
            ZydisRegisterClass class = ZydisRegisterGetClass(o->reg.value);
            if (class < ZYDIS_REGCLASS_GPR8 || class > ZYDIS_REGCLASS_GPR64)
                t->operation = DECODE_NONE;
        }
    }
}

static const uint8_t *failing_bytes;
static enum decode_mode failing_mode;

/* An assertion that shows the bytes. */
#define AGREE(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            disagree(#condition);                                                                            \
    } while (0)

static void disagree(const char *condition)
{
    char text[3 * DECODE_LENGTH_MAX + 1];

    for (unsigned n = 0; n < DECODE_LENGTH_MAX; n++)
        sprintf(text + 3 * n, "%02x ", failing_bytes[n]);
    fail_msg("%u-bit, %s: not %s", 8 * failing_mode, text, condition);
}

static uint8_t general_number(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_NONE || reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return NONE;
    return (uint8_t)ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg));
}

static void compare_memory(const struct decode_instruction *i, const struct decode_memory *ours,
                           unsigned size, const ZydisDecodedOperand *o)
{
    AGREE(o->type == ZYDIS_OPERAND_TYPE_MEMORY);
    /* Of MOVSXD with a 16-bit destination Zydis says that it reads 32 bits; SDM vol. 2 has r16, r/m16. */
    AGREE(o->size == 8 * size || (i->operation == DECODE_MOVSXD && size == 2));
    AGREE(ours->segment == o->mem.segment - ZYDIS_REGISTER_ES);
    AGREE(ours->rip_relative == (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP));
    /*
     * With 32-bit addresses Zydis gives SIB base 101 under mod 00 and REX.B the base R13D and no
     * displacement, with 64-bit ones the reverse. The SDM (vol. 2, table 2-5: "REX.B not decoded") and
     * processors (test_emulate.c runs it) do the latter in both.
     */
    bool known = o->mem.base == ZYDIS_REGISTER_R13D && (i->modrm & 0xc7) == 0x04 && (i->sib & 7) == 5;
    AGREE(ours->base == general_number(o->mem.base) || (known && ours->base == NONE));
    AGREE(ours->index == general_number(o->mem.index));
    AGREE(ours->index == NONE || ours->scale == o->mem.scale);
    uint64_t mask = UINT64_MAX >> (64 - 8 * i->address_size);
    AGREE(known || ((uint64_t)ours->displacement & mask) == ((uint64_t)o->mem.disp.value & mask));
}

static bool is_shift(const struct decode_instruction *i)
{
    return i->operation >= DECODE_ROL && i->operation <= DECODE_SAR;
}

static void compare_register(const struct decode_instruction *i, const ZydisDecodedOperand *o)
{
    ZydisRegister reg = o->reg.value;

    AGREE(o->type == ZYDIS_OPERAND_TYPE_REGISTER);
    AGREE(o->size == 8 * i->operand_size || (reg == ZYDIS_REGISTER_CL && is_shift(i)));
    AGREE(i->reg.high_byte == (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH));
    AGREE((i->reg.high_byte ? i->reg.number + 4 : i->reg.number) ==
          (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B ? ZydisRegisterGetId(reg) - 4
                                                                   : ZydisRegisterGetId(reg)));
}

static void compare_operand(const struct decode_instruction *i, enum decode_operand kind,
                            const ZydisDecodedOperand *o)
{
    switch (kind) {
    case DECODE_OPERAND_MEMORY:
        compare_memory(i, &i->memory, i->memory_size, o);
        break;
    case DECODE_OPERAND_OTHER:
        compare_memory(i, &i->other, i->memory_size, o);
        break;
    case DECODE_OPERAND_REGISTER:
        compare_register(i, o);
        break;
    case DECODE_OPERAND_IMMEDIATE: {
        uint64_t mask = UINT64_MAX >> (64 - o->size);
        AGREE(o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE);
        AGREE((i->immediate & mask) == (o->imm.value.u & mask));
        AGREE(i->immediate == o->imm.value.u || !o->imm.is_signed);
        break;
    }
    default:
        break;
    }
}

static void compare_accepted(const struct decode_instruction *i, const struct theirs *t)
{
    const ZydisDecodedInstruction *z = &t->instruction;
    const ZydisDecodedOperand *operand = t->operands;

    AGREE(t->valid);
    AGREE(i->operation == t->operation);
    AGREE(i->length == z->length);
    if (i->operation == DECODE_CMOV || i->operation == DECODE_SET)
        AGREE(z->mnemonic == mnemonics[i->operation][i->opcode & 15]);
    AGREE(i->address_size * 8 == z->address_width);
    /* Zydis tells the mode's size even of MOVNTI, which has its own. */
    AGREE(i->operand_size * 8 == z->operand_width || i->operation == DECODE_MOVNTI);
    AGREE(i->opcode == z->opcode);
    AGREE(i->lock == !!(z->attributes & ZYDIS_ATTRIB_HAS_LOCK));
    AGREE((i->repeat == DECODE_REPEAT_EQUAL) ==
          !!(z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)));
    AGREE((i->repeat == DECODE_REPEAT_NOT_EQUAL) == !!(z->attributes & ZYDIS_ATTRIB_HAS_REPNE));

    /* Zydis lists the stack and rDX:rAX after what the instruction names. */
    if (i->destination != DECODE_OPERAND_STACK && i->destination != DECODE_OPERAND_WIDE)
        compare_operand(i, i->destination, operand++);
    compare_operand(i, i->source, operand++);
    AGREE(i->three_operands == (z->operand_count_visible == 3));
    if (i->three_operands)
        compare_operand(i, DECODE_OPERAND_IMMEDIATE, operand);
}

/* Both decoders on 15 bytes. Returns whether ours accepts. */
static bool compare(enum decode_mode mode, const uint8_t *bytes)
{
    struct decode_instruction i;
    struct theirs t;
    int error = decode_instruction_bytes(&i, mode, bytes, DECODE_LENGTH_MAX);

    failing_bytes = bytes;
    failing_mode = mode;
    ask_zydis(&t, mode, bytes);
    AGREE(error == 0 || error == -EOPNOTSUPP || error == -EINVAL);
    if (error == 0)
        compare_accepted(&i, &t);
    else if (t.operation != DECODE_NONE)
        AGREE(t.memory_operands == 0);
    if (error == -EOPNOTSUPP && i.length != 0 && t.valid)
        AGREE(i.length == t.instruction.length);
    if (error == -EINVAL)
        AGREE(!t.valid || t.instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY);
    return error == 0;
}

/* Every shorter piece of an accepted instruction asks for more; a heap block shows a read past its end. */
static void compare_cut(enum decode_mode mode, const uint8_t *bytes)
{
    struct decode_instruction whole, i;

    assert_int_equal(decode_instruction_bytes(&whole, mode, bytes, DECODE_LENGTH_MAX), 0);
    for (unsigned length = 0; length <= whole.length; length++) {
        uint8_t *piece = malloc(length == 0 ? 1 : length);
        memcpy(piece, bytes, length);
        AGREE(decode_instruction_bytes(&i, mode, piece, length) == (length < whole.length ? -EAGAIN : 0));
        free(piece);
    }
    AGREE(memcmp(&i, &whole, sizeof(i)) == 0);
}

static uint64_t random_state;

/* xorshift64*: the same cases on every run. */
static uint64_t random_u64(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dULL;
}

static void random_bytes(uint8_t *bytes)
{
    uint64_t words[2] = {random_u64(), random_u64()};

    memcpy(bytes, words, DECODE_LENGTH_MAX);
}

static const uint8_t modes[] = {DECODE_MODE_16, DECODE_MODE_32, DECODE_MODE_64};
static const uint8_t prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

/* Every opcode of the three maps with every ModRM byte, after each of some prefixes, in every mode. */
static void systematic(void **state)
{
    static const char *const heads[] = {"",     "\x66", "\x67",         "\xf0", "\xf2",
                                        "\xf3", "\x64", "\x66\x67\x2e", "\x48", "\x66\x45"};
    static const char *const maps[] = {"", "\x0f", "\x0f\x38"};
    unsigned long cases = 0, ours = 0;

    (void)state;
    random_state = 1;
    for (unsigned n = 0; n < ARRAY_SIZE(modes) * ARRAY_SIZE(heads) * ARRAY_SIZE(maps) * 256 * 256; n++) {
        uint8_t bytes[DECODE_LENGTH_MAX];
        unsigned rest = n / 65536;
        const char *head = heads[rest % ARRAY_SIZE(heads)];
        const char *map = maps[rest / ARRAY_SIZE(heads) % ARRAY_SIZE(maps)];
        size_t at = strlen(head) + strlen(map);

        random_bytes(bytes);
        memcpy(bytes, head, strlen(head));
        memcpy(bytes + strlen(head), map, strlen(map));
        bytes[at] = (uint8_t)n;
        bytes[at + 1] = (uint8_t)(n >> 8);
        ours += compare(modes[rest / ARRAY_SIZE(heads) / ARRAY_SIZE(maps)], bytes);
        cases++;
    }
    print_message("%lu systematic cases, %lu accepted\n", cases, ours);
    assert_true(cases >= 1000000 && ours >= cases / 50);
}

/* Random prefixes and opcodes; now and then nothing but random bytes. */
static void randomised(void **state)
{
    unsigned long ours = 0;
    const unsigned long cases = 1000000;

    (void)state;
    random_state = 2;
    for (unsigned long n = 0; n < cases; n++) {
        uint8_t bytes[DECODE_LENGTH_MAX];
        uint64_t choice = random_u64();
        enum decode_mode mode = modes[choice % ARRAY_SIZE(modes)];
        unsigned at = 0;

        random_bytes(bytes);
        if (choice & 0x300) {
            while (at < 12 && (random_u64() & 3) == 0)
                bytes[at++] = prefixes[random_u64() % ARRAY_SIZE(prefixes)];
            if (mode == DECODE_MODE_64 && (choice & 0x400))
                bytes[at++] = (uint8_t)(0x40 | (random_u64() & 0xf));
            if (choice & 0x800)
                bytes[at++] = 0x0f;
        }
        if (compare(mode, bytes)) {
            ours++;
            if (n % 8 == 0)
                compare_cut(mode, bytes);
        }
    }
    print_message("%lu random cases, %lu accepted\n", cases, ours);
    assert_true(ours >= cases / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),    cmocka_unit_test(refuses),    cmocka_unit_test(names),
        cmocka_unit_test(systematic), cmocka_unit_test(randomised),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
