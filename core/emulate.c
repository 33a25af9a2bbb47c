// SPDX-License-Identifier: BSD-2-Clause
#include "core/emulate.h"

#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "core/emulate_alu.h"

enum {
    REGISTER_AX = 0,
    REGISTER_CX = 1,
    REGISTER_DX = 2,
    REGISTER_SP = 4,
    REGISTER_SI = 6,
    REGISTER_DI = 7,
};

/* What an operation does with its destination beside computing; of the first two, what becomes of a place. */
enum {
    USE_READ = 1,   /* the old value is wanted */
    USE_WRITE = 2,  /* it gets the result */
    USE_SOURCE = 4, /* the source gets the destination's old value: XCHG, XADD */
};

/* One operand in memory, and how it is reached. */
struct place {
    gla_t gla;
    unsigned size;
    unsigned use;
    bool device; /* at emulate->gpa */
};

static uint64_t byte_swap(uint64_t value, unsigned size)
{
    return __builtin_bswap64(value) >> (64 - 8 * size);
}

/*
 * Writes the low `size` bytes of register `number` as the processor does: a 32-bit result clears the upper
 * half, a smaller one keeps it (SDM vol. 1, 3.4.1.1).
 */
static void write_register(struct emulate *e, unsigned number, unsigned size, uint64_t value)
{
    uint64_t keep = size < 4 ? ~mask_of(size) : 0;

    e->registers[number] = (e->registers[number] & keep) | (value & mask_of(size));
}

static uint64_t read_operand_register(const struct emulate *e, const struct decode_instruction *i)
{
    return (e->registers[i->reg.number] >> (i->reg.high_byte ? 8 : 0)) & mask_of(i->operand_size);
}

static void write_operand_register(struct emulate *e, const struct decode_instruction *i, uint64_t value)
{
    uint64_t *reg = &e->registers[i->reg.number];

    if (i->reg.high_byte)
        *reg = (*reg & ~0xff00ULL) | (value & 0xff) << 8;
    else
        write_register(e, i->reg.number, i->operand_size, value);
}

/* ---- Operands in memory ---------------------------------------------------------------------- */

/* The offset in its segment of `m`, `bias` bytes on. */
static uint64_t offset_of(const struct emulate *e, const struct decode_instruction *i,
                          const struct decode_memory *m, int64_t bias)
{
    uint64_t offset = (uint64_t)m->displacement + (uint64_t)bias;

    if (m->rip_relative)
        offset += e->rip + i->length;
    if (m->base != DECODE_NO_REGISTER)
        offset += e->registers[m->base];
    if (m->index != DECODE_NO_REGISTER)
        offset += e->registers[m->index] * m->scale;
    return offset & mask_of(i->address_size);
}

/*
 * Whether `place` is what the exit's access went to: the same byte of a page, within that page, used like
 * that.
 */
static bool is_device(const struct emulate *e, const struct place *place)
{
    uint64_t offset = place->gla.value % PAGE_SIZE;

    return offset == e->gpa.value % PAGE_SIZE && offset + place->size <= PAGE_SIZE &&
           (place->use & (e->write ? USE_WRITE : USE_READ)) != 0;
}

static enum emulate_result find_place(struct emulate *e, enum decode_segment segment, uint64_t offset,
                                      unsigned size, unsigned use, struct place *place)
{
    place->size = size;
    place->use = use;
    if (!e->ops->linear(e->context, segment, offset, size, (use & USE_WRITE) != 0, &place->gla, &e->fault))
        return EMULATE_FAULT;
    place->device = is_device(e, place);
    return EMULATE_DONE;
}

static enum emulate_result result_of(enum emulate_access access)
{
    static const enum emulate_result results[] = {
        [EMULATE_ACCESS_DONE] = EMULATE_DONE,
        [EMULATE_ACCESS_FAULT] = EMULATE_FAULT,
        [EMULATE_ACCESS_AGAIN] = EMULATE_RETRY,
    };

    return results[access];
}

static enum emulate_result read_place(struct emulate *e, const struct place *place, uint64_t *value)
{
    enum emulate_access access = EMULATE_ACCESS_DONE;

    *value = 0;
    if (place->device)
        e->ops->mmio_read(e->context, e->gpa, place->size, value);
    else
        access = e->ops->memory_read(e->context, place->gla, place->size, (place->use & USE_WRITE) != 0,
                                     value, &e->fault);
    *value &= mask_of(place->size);
    return result_of(access);
}

static enum emulate_result write_place(struct emulate *e, const struct place *place, uint64_t value)
{
    value &= mask_of(place->size);
    if (!place->device)
        return result_of(e->ops->memory_write(e->context, place->gla, place->size, value, &e->fault));
    e->ops->mmio_write(e->context, e->gpa, place->size, value);
    return EMULATE_DONE;
}

/* ---- Operations on a destination and a source ------------------------------------------------ */

static const uint8_t uses[DECODE_OPERATIONS] = {
    [DECODE_ADD] = USE_READ | USE_WRITE,
    [DECODE_OR] = USE_READ | USE_WRITE,
    [DECODE_ADC] = USE_READ | USE_WRITE,
    [DECODE_SBB] = USE_READ | USE_WRITE,
    [DECODE_AND] = USE_READ | USE_WRITE,
    [DECODE_SUB] = USE_READ | USE_WRITE,
    [DECODE_XOR] = USE_READ | USE_WRITE,
    [DECODE_CMP] = USE_READ,
    [DECODE_TEST] = USE_READ,
    [DECODE_NOT] = USE_READ | USE_WRITE,
    [DECODE_NEG] = USE_READ | USE_WRITE,
    [DECODE_INC] = USE_READ | USE_WRITE,
    [DECODE_DEC] = USE_READ | USE_WRITE,
    [DECODE_BT] = USE_READ,
    [DECODE_BTS] = USE_READ | USE_WRITE,
    [DECODE_BTR] = USE_READ | USE_WRITE,
    [DECODE_BTC] = USE_READ | USE_WRITE,
    [DECODE_ROL] = USE_READ | USE_WRITE,
    [DECODE_ROR] = USE_READ | USE_WRITE,
    [DECODE_RCL] = USE_READ | USE_WRITE,
    [DECODE_RCR] = USE_READ | USE_WRITE,
    [DECODE_SHL] = USE_READ | USE_WRITE,
    [DECODE_SHR] = USE_READ | USE_WRITE,
    [DECODE_SAR] = USE_READ | USE_WRITE,
    [DECODE_IMUL] = USE_READ | USE_WRITE,
    [DECODE_CMOV] = USE_READ | USE_WRITE,
    [DECODE_SET] = USE_WRITE,
    [DECODE_MOV] = USE_WRITE,
    [DECODE_MOVNTI] = USE_WRITE,
    [DECODE_MOVBE] = USE_WRITE,
    [DECODE_MOVZX] = USE_WRITE,
    [DECODE_MOVSX] = USE_WRITE,
    [DECODE_MOVSXD] = USE_WRITE,
    [DECODE_XCHG] = USE_READ | USE_WRITE | USE_SOURCE,
    [DECODE_XADD] = USE_READ | USE_WRITE | USE_SOURCE,
    [DECODE_CMPXCHG] = USE_READ | USE_WRITE,
    [DECODE_MOVS] = USE_WRITE,
    [DECODE_CMPS] = USE_READ,
    [DECODE_STOS] = USE_WRITE,
    [DECODE_LODS] = USE_WRITE,
    [DECODE_SCAS] = USE_READ,
};

/* CMPXCHG. A failed exchange writes the old value back; a successful one leaves all of rAX alone. */
static uint64_t compare_exchange(struct emulate *e, unsigned size, uint64_t a, uint64_t b)
{
    emulate_alu_compute(DECODE_CMP, size, e->registers[REGISTER_AX] & mask_of(size), a, e->rflags);
    if (*e->rflags & X86_RFLAGS_ZF)
        return b;
    write_register(e, REGISTER_AX, size, a);
    return a;
}

/* BSF, BSR. Without a one in the source all 64 bits of the destination stay. */
static void scan_bits(struct emulate *e, const struct decode_instruction *i, uint64_t source)
{
    *e->rflags &= ~X86_RFLAGS_ZF;
    if (source == 0)
        *e->rflags |= X86_RFLAGS_ZF;
    else if (i->operation == DECODE_BSF)
        write_operand_register(e, i, (uint64_t)__builtin_ctzll(source));
    else
        write_operand_register(e, i, 63 - (uint64_t)__builtin_clzll(source));
}

/* The new value of the destination, whose old one is `a`, from source `b`. Sets the flags. */
static uint64_t compute(struct emulate *e, const struct decode_instruction *i, uint64_t a, uint64_t b)
{
    switch (i->operation) {
    case DECODE_CMPXCHG:
        return compare_exchange(e, i->operand_size, a, b);
    case DECODE_BSF:
    case DECODE_BSR:
        scan_bits(e, i, b);
        return a;
    case DECODE_CMOV:
        return emulate_alu_condition(i->opcode, *e->rflags) ? b : a;
    case DECODE_SET:
        return emulate_alu_condition(i->opcode, *e->rflags);
    case DECODE_MOVBE:
        return byte_swap(b, i->operand_size);
    case DECODE_MOVSX:
    case DECODE_MOVSXD:
        return sign_extend(b, i->memory_size);
    default:
        return emulate_alu_compute(i->operation, i->operand_size, a, b, e->rflags);
    }
}

/*
 * One execution of any operation but PUSH and POP. `place` is the memory operand, `other` the second one of
 * MOVS and CMPS. What fails changes nothing: neither a register nor a flag, should another processor take
 * away the right to write between the two halves of a read-modify-write.
 */
static enum emulate_result execute(struct emulate *e, const struct decode_instruction *i,
                                   const struct place *place, const struct place *other)
{
    const struct place *to = i->destination == DECODE_OPERAND_OTHER ? other : place;
    bool to_register = i->destination == DECODE_OPERAND_REGISTER;
    unsigned use = uses[i->operation];
    enum emulate_result done = EMULATE_DONE;
    uint64_t a = 0;
    uint64_t b = 0;

    if (i->three_operands)
        a = i->immediate & mask_of(i->operand_size);
    else if (to_register)
        a = read_operand_register(e, i);
    else if (use & USE_READ)
        done = read_place(e, to, &a);
    if (done != EMULATE_DONE)
        return done;

    if (i->source == DECODE_OPERAND_REGISTER)
        b = read_operand_register(e, i);
    else if (i->source == DECODE_OPERAND_IMMEDIATE)
        b = i->immediate & mask_of(i->operand_size);
    else if (i->source != DECODE_OPERAND_NONE)
        done = read_place(e, i->source == DECODE_OPERAND_OTHER ? other : place, &b);
    if (done != EMULATE_DONE)
        return done;

    const uint64_t rflags = *e->rflags;
    const uint64_t accumulator = e->registers[REGISTER_AX];
    uint64_t result = compute(e, i, a, b);
    if ((use & USE_WRITE) && to_register)
        write_operand_register(e, i, result);
    else if (use & USE_WRITE)
        done = write_place(e, to, result);
    if (done != EMULATE_DONE) {
        *e->rflags = rflags;
        e->registers[REGISTER_AX] = accumulator;
        return done;
    }
    if (use & USE_SOURCE)
        write_operand_register(e, i, a);
    return EMULATE_DONE;
}

/*
 * MUL, IMUL, DIV and IDIV of rDX:rAX. A byte has AH:AL for them (SDM vol. 2, of each). A division that fails
 * has read the device.
 */
static enum emulate_result execute_wide(struct emulate *e, const struct decode_instruction *i,
                                        const struct place *place)
{
    bool is_signed = i->operation == DECODE_IMUL || i->operation == DECODE_IDIV;
    unsigned size = i->operand_size;
    uint64_t low = e->registers[REGISTER_AX] & mask_of(size);
    uint64_t high = (size == 1 ? e->registers[REGISTER_AX] >> 8 : e->registers[REGISTER_DX]) & mask_of(size);
    uint64_t value;

    enum emulate_result done = read_place(e, place, &value);
    if (done != EMULATE_DONE)
        return done;

    if (i->operation == DECODE_MUL || i->operation == DECODE_IMUL) {
        low = emulate_alu_multiply(is_signed, size, low, value, &high, e->rflags);
    } else if (!emulate_alu_divide(is_signed, size, &high, &low, value)) {
        e->fault = (struct emulate_fault){.vector = X86_VECTOR_DE};
        return EMULATE_FAULT;
    }
    if (size == 1) {
        write_register(e, REGISTER_AX, 2, (high & 0xff) << 8 | (low & 0xff));
    } else {
        write_register(e, REGISTER_AX, size, low);
        write_register(e, REGISTER_DX, size, high);
    }
    return EMULATE_DONE;
}

/* ---- The three shapes of instruction --------------------------------------------------------- */

static enum emulate_result execute_plain(struct emulate *e, const struct decode_instruction *i)
{
    unsigned use = i->destination == DECODE_OPERAND_MEMORY ? uses[i->operation] : USE_READ;
    int64_t bias = 0;
    struct place place;

    /* A bit offset in a register reaches beyond the operand (SDM vol. 2, BT). */
    if (i->operation >= DECODE_BT && i->operation <= DECODE_BTC && i->source == DECODE_OPERAND_REGISTER) {
        int64_t bit = (int64_t)sign_extend(read_operand_register(e, i), i->operand_size);
        bias = (bit >> 3) & -(int64_t)i->operand_size;
    }

    enum emulate_result done =
        find_place(e, i->memory.segment, offset_of(e, i, &i->memory, bias), i->memory_size, use, &place);
    if (done != EMULATE_DONE)
        return done;
    return i->destination == DECODE_OPERAND_WIDE ? execute_wide(e, i, &place) : execute(e, i, &place, NULL);
}

/*
 * PUSH and POP of an operand in memory. POP's address is computed with the stack pointer already moved (SDM
 * vol. 2, POP).
 */
static enum emulate_result execute_stack(struct emulate *e, const struct decode_instruction *i)
{
    bool pop = i->operation == DECODE_POP;
    unsigned size = i->operand_size;
    uint64_t old = e->registers[REGISTER_SP];
    uint64_t top = (pop ? old : old - size) & mask_of(e->stack_size);
    struct place stack, place;
    uint64_t value;

    enum emulate_result done = find_place(e, DECODE_SS, top, size, pop ? USE_READ : USE_WRITE, &stack);
    if (done != EMULATE_DONE)
        return done;

    if (pop)
        write_register(e, REGISTER_SP, e->stack_size, old + size);
    done = find_place(e, i->memory.segment, offset_of(e, i, &i->memory, 0), size, pop ? USE_WRITE : USE_READ,
                      &place);
    if (done == EMULATE_DONE)
        done = read_place(e, pop ? &stack : &place, &value);
    if (done == EMULATE_DONE)
        done = write_place(e, pop ? &place : &stack, value);

    if (done != EMULATE_DONE)
        e->registers[REGISTER_SP] = old;
    else if (!pop)
        write_register(e, REGISTER_SP, e->stack_size, top);
    return done;
}

/*
 * Finds the operands of one element of a string instruction. CMPS reads both of its: if both are at the
 * exit's place in their pages, the addresses have to tell which is which.
 */
static enum emulate_result find_string_places(struct emulate *e, const struct decode_instruction *i,
                                              struct place *place, struct place *other)
{
    bool two = i->operation == DECODE_MOVS || i->operation == DECODE_CMPS;
    enum emulate_result done;

    done = find_place(e, i->memory.segment, offset_of(e, i, &i->memory, 0), i->memory_size,
                      i->operation == DECODE_STOS ? USE_WRITE : USE_READ, place);
    if (done == EMULATE_DONE && two)
        done = find_place(e, i->other.segment, offset_of(e, i, &i->other, 0), i->memory_size,
                          i->operation == DECODE_MOVS ? USE_WRITE : USE_READ, other);
    if (done == EMULATE_DONE && two && place->device && other->device)
        place->device = other->device = false;
    return done;
}

/* Moves the string pointers that the instruction uses by one element, in the direction of DF. */
static void advance(struct emulate *e, const struct decode_instruction *i)
{
    static const uint8_t pointers[DECODE_OPERATIONS] = {
        [DECODE_MOVS] = BIT(REGISTER_SI) | BIT(REGISTER_DI),
        [DECODE_CMPS] = BIT(REGISTER_SI) | BIT(REGISTER_DI),
        [DECODE_STOS] = BIT(REGISTER_DI),
        [DECODE_SCAS] = BIT(REGISTER_DI),
        [DECODE_LODS] = BIT(REGISTER_SI),
    };
    uint64_t step = i->memory_size;

    if (*e->rflags & X86_RFLAGS_DF)
        step = -step;
    for (unsigned number = REGISTER_SI; number <= REGISTER_DI; number++)
        if (pointers[i->operation] & BIT(number))
            write_register(e, number, i->address_size, e->registers[number] + step);
}

/* Counts one element of a repeated instruction; true if more follow (SDM vol. 2, REP: table 4-22). */
static bool count_down(struct emulate *e, const struct decode_instruction *i)
{
    bool compares = i->operation == DECODE_CMPS || i->operation == DECODE_SCAS;
    bool equal = *e->rflags & X86_RFLAGS_ZF;

    write_register(e, REGISTER_CX, i->address_size, e->registers[REGISTER_CX] - 1);
    if ((e->registers[REGISTER_CX] & mask_of(i->address_size)) == 0)
        return false;
    return !compares || equal == (i->repeat == DECODE_REPEAT_EQUAL);
}

/*
 * A string instruction, with REP a bounded number of its elements. The exit's guest-physical address follows
 * the device's operand, but only inside its page: past that, the guest's next access exits again and brings
 * the next one. An operand that did not fit it at first, or crosses into that page, does not later.
 */
static enum emulate_result execute_string(struct emulate *e, const struct decode_instruction *i)
{
    bool repeated = i->repeat != DECODE_REPEAT_NONE;
    unsigned most = *e->rflags & X86_RFLAGS_TF ? 1 : EMULATE_ELEMENTS_MAX;
    const gpa_t first = e->gpa;
    struct place place, other;
    enum emulate_result done;

    if (repeated && (e->registers[REGISTER_CX] & mask_of(i->address_size)) == 0)
        return EMULATE_DONE;

    for (unsigned element = 0;; element++) {
        done = find_string_places(e, i, &place, &other);
        if (done == EMULATE_DONE)
            done = execute(e, i, &place, &other);
        if (done != EMULATE_DONE)
            break;
        advance(e, i);
        if (!repeated || !count_down(e, i))
            break;

        done = EMULATE_AGAIN;
        gpa_t next = GPA(e->gpa.value + (*e->rflags & X86_RFLAGS_DF ? -(uint64_t)place.size : place.size));
        if (element + 1 == most || align_down(next.value, PAGE_SIZE) != align_down(first.value, PAGE_SIZE))
            break;
        e->gpa = next;
    }
    e->gpa = first;
    return done;
}

enum emulate_result emulate_instruction(struct emulate *e, const struct decode_instruction *instruction)
{
    switch (instruction->operation) {
    case DECODE_PUSH:
    case DECODE_POP:
        return execute_stack(e, instruction);
    case DECODE_MOVS:
    case DECODE_CMPS:
    case DECODE_STOS:
    case DECODE_LODS:
    case DECODE_SCAS:
        return execute_string(e, instruction);
    default:
        return execute_plain(e, instruction);
    }
}
