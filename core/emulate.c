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

/* One operand in memory, and how it is reached. */
struct place {
    gla_t gla;
    unsigned size;
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

static enum emulate_result find_place(struct emulate *e, const struct decode_instruction *i,
                                      const struct decode_memory *m, int64_t bias, unsigned size, bool write,
                                      struct place *place)
{
    place->size = size;
    place->device = false;
    if (!e->ops->linear(e->context, m->segment, offset_of(e, i, m, bias), size, write, &place->gla,
                        &e->fault))
        return EMULATE_FAULT;
    return EMULATE_DONE;
}

/* Whether `place` can be where the exit's access went: the same byte of a page, and within that page. */
static bool is_device(const struct emulate *e, const struct place *place)
{
    uint64_t offset = place->gla.value % PAGE_SIZE;

    return offset == e->gpa.value % PAGE_SIZE && offset + place->size <= PAGE_SIZE;
}

static enum emulate_result result_of(enum emulate_access access)
{
    switch (access) {
    case EMULATE_ACCESS_DONE:
        return EMULATE_DONE;
    case EMULATE_ACCESS_FAULT:
        return EMULATE_FAULT;
    case EMULATE_ACCESS_AGAIN:
        return EMULATE_RETRY;
    default:
        return EMULATE_UNSUPPORTED;
    }
}

static enum emulate_result read_place(struct emulate *e, const struct place *place, uint64_t *value)
{
    *value = 0;
    if (place->device)
        e->ops->mmio_read(e->context, e->gpa, place->size, value);
    else {
        enum emulate_access access =
            e->ops->memory_read(e->context, place->gla, place->size, value, &e->fault);
        if (access != EMULATE_ACCESS_DONE)
            return result_of(access);
    }
    *value &= mask_of(place->size);
    return EMULATE_DONE;
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

/* What an operation does beside computing. */
enum {
    USE_READ = 1,   /* the destination's old value is wanted */
    USE_WRITE = 2,  /* the destination gets the result */
    USE_SOURCE = 4, /* the source gets the destination's old value: XCHG, XADD */
};

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
 * MOVS and CMPS. Whatever can fail comes before anything changes: a device's write is the last step, and only
 * MOVS writes memory.
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

    uint64_t result = compute(e, i, a, b);
    if (use & USE_SOURCE)
        write_operand_register(e, i, a);
    if ((use & USE_WRITE) && to_register)
        write_operand_register(e, i, result);
    else if (use & USE_WRITE)
        done = write_place(e, to, result);
    return done;
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
    bool write = i->destination == DECODE_OPERAND_MEMORY && (uses[i->operation] & USE_WRITE);
    int64_t bias = 0;
    struct place place;

    /* A bit offset in a register reaches beyond the operand (SDM vol. 2, BT). */
    if (i->operation >= DECODE_BT && i->operation <= DECODE_BTC && i->source == DECODE_OPERAND_REGISTER) {
        int64_t bit = (int64_t)sign_extend(read_operand_register(e, i), i->operand_size);
        bias = (bit >> 3) & -(int64_t)i->operand_size;
    }

    enum emulate_result done = find_place(e, i, &i->memory, bias, i->memory_size, write, &place);
    if (done != EMULATE_DONE)
        return done;
    if (!is_device(e, &place) || (e->write && !write))
        return EMULATE_UNSUPPORTED;
    place.device = true;
    return i->destination == DECODE_OPERAND_WIDE ? execute_wide(e, i, &place) : execute(e, i, &place, NULL);
}

/*
 * PUSH and POP of a device register; the stack is memory. POP's address is computed with the stack pointer
 * already moved (SDM vol. 2, POP).
 */
static enum emulate_result execute_stack(struct emulate *e, const struct decode_instruction *i)
{
    bool pop = i->operation == DECODE_POP;
    unsigned size = i->operand_size;
    uint64_t old = e->registers[REGISTER_SP];
    uint64_t top = (pop ? old : old - size) & mask_of(e->stack_size);
    struct place stack = {.size = size};
    struct place place;
    uint64_t value;

    if (e->write != pop)
        return EMULATE_UNSUPPORTED;
    if (!e->ops->linear(e->context, DECODE_SS, top, size, !pop, &stack.gla, &e->fault))
        return EMULATE_FAULT;

    if (pop)
        write_register(e, REGISTER_SP, e->stack_size, old + size);
    enum emulate_result done = find_place(e, i, &i->memory, 0, size, pop, &place);
    if (done == EMULATE_DONE && !is_device(e, &place))
        done = EMULATE_UNSUPPORTED;
    place.device = true;
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
 * Finds the operands of one element of a string instruction, and which of the two of MOVS and CMPS is the
 * device's. MOVS: the one that the exit's access fits. CMPS reads both: if both are at the exit's place in
 * their page, the first is the device's unless memory is there.
 */
static enum emulate_result find_string_places(struct emulate *e, const struct decode_instruction *i,
                                              struct place *place, struct place *other)
{
    bool two = i->operation == DECODE_MOVS || i->operation == DECODE_CMPS;
    enum emulate_result done;

    done = find_place(e, i, &i->memory, 0, i->memory_size, i->operation == DECODE_STOS, place);
    if (done == EMULATE_DONE && two)
        done = find_place(e, i, &i->other, 0, i->memory_size, i->operation == DECODE_MOVS, other);
    if (done != EMULATE_DONE)
        return done;

    if (e->write != (i->operation == DECODE_STOS) && !(e->write && i->operation == DECODE_MOVS))
        return EMULATE_UNSUPPORTED;
    place->device = is_device(e, place);
    if (!two)
        return place->device ? EMULATE_DONE : EMULATE_UNSUPPORTED;

    other->device = is_device(e, other);
    if (i->operation == DECODE_MOVS) {
        place->device &= !e->write;
        other->device &= e->write;
    } else if (place->device && other->device) {
        uint64_t value;
        bool memory = e->ops->memory_read(e->context, place->gla, place->size, &value, &e->fault) !=
                      EMULATE_ACCESS_NOT_MEMORY;
        place->device = !memory;
        other->device = memory;
    }
    return place->device || other->device ? EMULATE_DONE : EMULATE_UNSUPPORTED;
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
 * the next one.
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
    /* Elements that were done stand: an odd one after them is left to the exit that it will cause. */
    if (done == EMULATE_UNSUPPORTED && e->gpa.value != first.value)
        done = EMULATE_AGAIN;
    e->gpa = first;
    return done;
}

enum emulate_result emulate_instruction(struct emulate *e, const struct decode_instruction *instruction)
{
    switch (instruction->operation) {
    case DECODE_NONE:
        return EMULATE_UNSUPPORTED;
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
