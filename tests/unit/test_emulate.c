// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/emulate.c: random instructions executed by this very processor and by the emulation, and by hand what
 * a processor in 64-bit mode cannot show: other modes, faults, bounds, refusals. Fails when a register, a
 * flag that the SDM defines, or a byte of memory differs, when an access goes to the wrong side, or when a
 * repeated instruction runs on past its bound.
 */
#include "core/emulate.h"

#include "arch/x86/registers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

enum {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
};

#define CODE        0x20000000ULL
#define ARENA       0x30000000ULL
#define ARENA_SIZE  (2 * PAGE_SIZE)
#define DEVICE_BIAS 0x7700000000ULL /* guest-physical minus linear address of the device */

/* ---- A machine for the emulation: one arena of bytes, any page of which can be the device ---- */

struct machine {
    uint64_t registers[16];
    uint64_t rflags;
    uint8_t memory[ARENA_SIZE];
    unsigned device_reads, device_writes, memory_reads, memory_writes;
    uint64_t fault_at;      /* guest memory from this linear address on faults; 0: none does */
    uint64_t not_memory_at; /* the page at this linear address is no memory; 0: all is */
    struct emulate emulate;
};

static bool linear(void *context, enum decode_segment segment, uint64_t offset, unsigned size, bool write,
                   gla_t *gla, struct emulate_fault *fault)
{
    (void)context;
    (void)segment;
    (void)size;
    (void)write;
    (void)fault;
    *gla = GLA(offset);
    return true;
}

static uint8_t *arena_bytes(struct machine *m, uint64_t address, unsigned size)
{
    assert_in_range(address, ARENA, ARENA + ARENA_SIZE - size);
    return m->memory + (address - ARENA);
}

static enum emulate_access check_memory(struct machine *m, gla_t gla, unsigned size,
                                        struct emulate_fault *fault)
{
    if (m->not_memory_at != 0 && align_down(gla.value, PAGE_SIZE) == m->not_memory_at)
        return EMULATE_ACCESS_NOT_MEMORY;
    if (m->fault_at == 0 || gla.value + size <= m->fault_at)
        return EMULATE_ACCESS_DONE;
    *fault = (struct emulate_fault){.vector = 14, .address = gla.value};
    return EMULATE_ACCESS_FAULT;
}

static enum emulate_access memory_read(void *context, gla_t gla, unsigned size, uint64_t *value,
                                       struct emulate_fault *fault)
{
    struct machine *m = context;
    enum emulate_access access = check_memory(m, gla, size, fault);

    if (access != EMULATE_ACCESS_DONE)
        return access;
    m->memory_reads++;
    *value = 0;
    memcpy(value, arena_bytes(m, gla.value, size), size);
    return access;
}

static enum emulate_access memory_write(void *context, gla_t gla, unsigned size, uint64_t value,
                                        struct emulate_fault *fault)
{
    struct machine *m = context;
    enum emulate_access access = check_memory(m, gla, size, fault);

    if (access != EMULATE_ACCESS_DONE)
        return access;
    m->memory_writes++;
    memcpy(arena_bytes(m, gla.value, size), &value, size);
    return access;
}

/* A device may leave rubbish above the bytes that it was asked for. */
static void mmio_read(void *context, gpa_t gpa, unsigned size, uint64_t *value)
{
    struct machine *m = context;

    assert_true(gpa.value % PAGE_SIZE + size <= PAGE_SIZE);
    m->device_reads++;
    *value = 0xa5a5a5a5a5a5a5a5;
    memcpy(value, arena_bytes(m, gpa.value - DEVICE_BIAS, size), size);
}

static void mmio_write(void *context, gpa_t gpa, unsigned size, uint64_t value)
{
    struct machine *m = context;

    assert_true(gpa.value % PAGE_SIZE + size <= PAGE_SIZE);
    m->device_writes++;
    memcpy(arena_bytes(m, gpa.value - DEVICE_BIAS, size), &value, size);
}

static const struct emulate_ops ops = {linear, memory_read, memory_write, mmio_read, mmio_write};

/* The exit at `device` of the instruction that `m` stands before. */
static enum emulate_result take_exit(struct machine *m, const struct decode_instruction *i, uint64_t device,
                                     bool write)
{
    m->emulate = (struct emulate){
        .ops = &ops,
        .context = m,
        .registers = m->registers,
        .rflags = &m->rflags,
        .rip = CODE,
        .stack_size = i->mode,
        .gpa = GPA(device + DEVICE_BIAS),
        .write = write,
    };
    return emulate_instruction(&m->emulate, i);
}

/* ---- The processor --------------------------------------------------------------------------- */

/* All that the assembly below loads and stores. */
struct native {
    uint64_t registers[16];
    uint64_t rflags;
    uint64_t entry;
    uint64_t host_rsp;
};

struct native native;
void native_run(void);
void native_return(void);

/*
 * native_run: loads native.registers and native.rflags, jumps to native.entry; the code there ends with a
 * jump to native_return, which stores them again and returns to native_run's caller.
 */
__asm__(".text\n"
        ".globl native_run, native_return\n"
        "native_run:\n"
        "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, native+144(%rip)\n"
        "    pushq native+128(%rip)\n    popfq\n"
        "    movq native+0(%rip), %rax\n    movq native+8(%rip), %rcx\n    movq native+16(%rip), %rdx\n"
        "    movq native+24(%rip), %rbx\n    movq native+32(%rip), %rsp\n    movq native+40(%rip), %rbp\n"
        "    movq native+48(%rip), %rsi\n    movq native+56(%rip), %rdi\n    movq native+64(%rip), %r8\n"
        "    movq native+72(%rip), %r9\n    movq native+80(%rip), %r10\n    movq native+88(%rip), %r11\n"
        "    movq native+96(%rip), %r12\n    movq native+104(%rip), %r13\n    movq native+112(%rip), %r14\n"
        "    movq native+120(%rip), %r15\n"
        "    jmp *native+136(%rip)\n"
        "native_return:\n"
        "    movq %rax, native+0(%rip)\n    movq %rcx, native+8(%rip)\n    movq %rdx, native+16(%rip)\n"
        "    movq %rbx, native+24(%rip)\n    movq %rsp, native+32(%rip)\n    movq %rbp, native+40(%rip)\n"
        "    movq %rsi, native+48(%rip)\n    movq %rdi, native+56(%rip)\n    movq %r8, native+64(%rip)\n"
        "    movq %r9, native+72(%rip)\n    movq %r10, native+80(%rip)\n    movq %r11, native+88(%rip)\n"
        "    movq %r12, native+96(%rip)\n    movq %r13, native+104(%rip)\n    movq %r14, native+112(%rip)\n"
        "    movq %r15, native+120(%rip)\n"
        "    movq native+144(%rip), %rsp\n"
        "    pushfq\n    popq native+128(%rip)\n"
        "    cld\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbp\n    popq %rbx\n"
        "    ret\n");

static uint8_t *map(uint64_t address, size_t size, int rights)
{
    void *at = mmap((void *)address, size, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    assert_ptr_equal(at, (void *)address);
    return at;
}

/* ---- Random instructions --------------------------------------------------------------------- */

static uint64_t random_state = 3;

/* xorshift64*: the same cases on every run. */
static uint64_t random_u64(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dULL;
}

static uint64_t random_below(uint64_t end)
{
    return random_u64() % end;
}

/* A number of any magnitude, with edges more often than chance would have them. */
static uint64_t random_value(void)
{
    static const uint64_t edges[] = {0,         1,       0x7f,       0x80,       0xff,
                                     0x7fff,    0x8000,  0x7fffffff, 0x80000000, UINT32_MAX,
                                     INT64_MAX, BIT(63), UINT64_MAX};

    return random_below(4) == 0 ? edges[random_below(ARRAY_SIZE(edges))] : random_u64() >> random_below(64);
}

/* The opcodes of the set; the decoder throws out what a random ModRM byte makes of some of them. */
static const char *const opcodes[] = {
    "\x01",         "\x03",         "\x09",     "\x0b",     "\x11",     "\x13",     "\x19",     "\x1b",
    "\x21",         "\x23",         "\x29",     "\x2b",     "\x31",     "\x33",     "\x39",     "\x3b",
    "\x02",         "\x08",         "\x10",     "\x1a",     "\x20",     "\x28",     "\x30",     "\x38",
    "\x3a",         "\x63",         "\x80",     "\x81",     "\x83",     "\x84",     "\x85",     "\x86",
    "\x87",         "\x88",         "\x89",     "\x8a",     "\x8b",     "\x8f",     "\xa0",     "\xa1",
    "\xa2",         "\xa3",         "\xa4",     "\xa5",     "\xa6",     "\xa7",     "\xaa",     "\xab",
    "\xac",         "\xad",         "\xae",     "\xaf",     "\xc6",     "\xc7",     "\xf6",     "\xf7",
    "\xfe",         "\xff",         "\x0f\xa3", "\x0f\xab", "\x0f\xb0", "\x0f\xb1", "\x0f\xb3", "\x0f\xb6",
    "\x0f\xb7",     "\x0f\xba",     "\x0f\xbb", "\x0f\xbe", "\x0f\xbf", "\x0f\xc0", "\x0f\xc1", "\x0f\xc3",
    "\x0f\x38\xf0", "\x0f\x38\xf1",
};

static void random_instruction(uint8_t *bytes)
{
    const char *opcode = opcodes[random_below(ARRAY_SIZE(opcodes))];
    unsigned at = 0;

    for (unsigned n = 0; n < DECODE_LENGTH_MAX; n++)
        bytes[n] = (uint8_t)random_u64();
    if (random_below(4) == 0)
        bytes[at++] = 0x66;
    if (random_below(4) == 0)
        bytes[at++] = 0x67;
    if (random_below(8) == 0)
        bytes[at++] = 0xf0;
    if (random_below(2) == 0 && opcode[0] != 0x0f)
        bytes[at++] = (uint8_t)(0xf2 + random_below(2));
    if (random_below(3) != 0)
        bytes[at++] = (uint8_t)(0x40 + random_below(16));
    memcpy(bytes + at, opcode, strlen(opcode));
    /* Displacements without a register are rare in random ModRM bytes. */
    if (random_below(8) == 0)
        bytes[at + strlen(opcode)] = (uint8_t)((random_u64() & 0x38) | 4 | random_below(2));
    if (random_below(2) == 0)
        bytes[at + strlen(opcode) + 1] = (uint8_t)((random_u64() & 0xf8) | 5);
}

/* ---- Putting the operands into the arena ----------------------------------------------------- */

static bool is_string(const struct decode_instruction *i)
{
    return i->operation >= DECODE_MOVS;
}

static uint64_t address_mask(const struct decode_instruction *i)
{
    return UINT64_MAX >> (64 - 8 * i->address_size);
}

/* Where the instruction's bit string operand is, relative to its address. */
static int64_t bit_bias(const struct machine *m, const struct decode_instruction *i)
{
    int64_t bits = 8 * i->operand_size;
    uint64_t value = m->registers[i->reg.number];

    if (i->operation < DECODE_BT || i->operation > DECODE_BTC || i->source != DECODE_OPERAND_REGISTER)
        return 0;
    int64_t offset = i->operand_size == 2   ? (int16_t)value
                     : i->operand_size == 4 ? (int32_t)value
                                            : (int64_t)value;
    int64_t quotient = offset / bits - (offset % bits < 0);
    return quotient * i->operand_size;
}

static uint64_t address_of(const struct machine *m, const struct decode_instruction *i)
{
    uint64_t address = (uint64_t)(i->memory.displacement + bit_bias(m, i));

    if (i->memory.rip_relative)
        address += CODE + i->length;
    if (i->memory.base != DECODE_NO_REGISTER)
        address += m->registers[i->memory.base] +
                   (i->operation == DECODE_POP && i->memory.base == RSP ? i->operand_size : 0);
    if (i->memory.index != DECODE_NO_REGISTER)
        address += m->registers[i->memory.index] * i->memory.scale;
    return address & address_mask(i);
}

/* Sets what an address-sized register holds: above the address size there may be anything. */
static void set_pointer(struct machine *m, const struct decode_instruction *i, unsigned number,
                        uint64_t value)
{
    m->registers[number] = (value & address_mask(i)) | (random_u64() & ~address_mask(i));
}

/* The displacement's last `size` bytes before the immediate become `value`. */
static void set_displacement(uint8_t *bytes, struct decode_instruction *i, uint64_t value, unsigned size)
{
    unsigned immediate = 0;

    if (i->source == DECODE_OPERAND_IMMEDIATE)
        immediate = i->opcode == 0x83 || i->opcode == 0xba ? 1 : (unsigned)min_u64(i->operand_size, 4);
    memcpy(bytes + i->length - immediate - size, &value, size);
    assert_int_equal(decode_instruction_bytes(i, DECODE_MODE_64, bytes, DECODE_LENGTH_MAX), 0);
}

/* Changes registers or displacement so that the memory operand lies about `target`. */
static void aim(struct machine *m, uint8_t *bytes, struct decode_instruction *i, uint64_t target)
{
    const struct decode_memory *o = &i->memory;
    bool moffs = i->operation == DECODE_MOV && i->opcode >= 0xa0 && i->opcode <= 0xa3;

    if (o->index != DECODE_NO_REGISTER && random_below(2) == 0)
        m->registers[o->index] = random_below(4096);
    if (moffs)
        set_displacement(bytes, i, target, i->address_size);
    else if (o->rip_relative)
        set_displacement(bytes, i, target - CODE - i->length, 4);
    else if (o->base == DECODE_NO_REGISTER && o->index == DECODE_NO_REGISTER)
        set_displacement(bytes, i, target, 4);
    else if (o->base == DECODE_NO_REGISTER)
        set_displacement(bytes, i, target - m->registers[o->index] * o->scale, 4);
    else if (o->base == o->index)
        set_pointer(m, i, o->base,
                    (uint64_t)((int64_t)(target - (uint64_t)o->displacement) / (1 + o->scale)));
    else
        set_pointer(m, i, o->base, m->registers[o->base] + target - address_of(m, i));
}

/* A linear address at which `size` bytes lie in one page of the arena, some way from its ends. */
static uint64_t random_target(unsigned size)
{
    return ARENA + 1024 + random_below(2) * PAGE_SIZE + random_below(2048) / size * size;
}

static bool in_arena(uint64_t address, unsigned size)
{
    return address >= ARENA && address - ARENA + size <= ARENA_SIZE;
}

static bool in_one_page(uint64_t address, unsigned size)
{
    return address % PAGE_SIZE + size <= PAGE_SIZE;
}

static void random_state_of_machine(struct machine *m)
{
    for (unsigned n = 0; n < 16; n++)
        m->registers[n] = random_value();
    m->rflags = X86_RFLAGS_RESERVED | (random_u64() & (X86_RFLAGS_CF | X86_RFLAGS_PF | X86_RFLAGS_AF |
                                                       X86_RFLAGS_ZF | X86_RFLAGS_SF | X86_RFLAGS_OF));
    if (random_below(4) == 0)
        m->rflags |= X86_RFLAGS_DF;
    /* Now few different bytes, so that strings are equal for a while; now any. */
    uint64_t keep = random_below(2) == 0 ? 0 : UINT64_MAX;
    for (unsigned n = 0; n < ARENA_SIZE; n += 8) {
        uint64_t word = random_u64() & keep;
        if (random_below(16) == 0)
            word = random_value();
        memcpy(m->memory + n, &word, 8);
    }
}

/* A random machine before `i`, all of whose accesses hit the arena. False: throw the dice again. */
static bool arrange(struct machine *m, uint8_t *bytes, struct decode_instruction *i)
{
    random_state_of_machine(m);
    if (is_string(i)) {
        set_pointer(m, i, RSI, random_target(i->operand_size));
        set_pointer(m, i, RDI, random_target(i->operand_size));
        if (i->repeat != DECODE_REPEAT_NONE)
            set_pointer(m, i, RCX, random_below(100));
        return true;
    }
    m->registers[RSP] = ARENA + 16 + random_below(ARENA_SIZE - 32);
    if (i->operation >= DECODE_BT && i->operation <= DECODE_BTC && i->source == DECODE_OPERAND_REGISTER)
        m->registers[i->reg.number] = random_below(4096) - 2048;
    aim(m, bytes, i, random_target(1));

    uint64_t address = address_of(m, i);
    if (!in_arena(address, i->memory_size) || !in_one_page(address, i->memory_size))
        return false;
    if (i->operation == DECODE_CMPXCHG && random_below(2) == 0)
        memcpy(m->memory + (address - ARENA), &m->registers[RAX], i->operand_size);
    if (i->operation == DECODE_PUSH)
        return in_arena(m->registers[RSP] - 8, 8);
    if (i->operation == DECODE_POP)
        return in_arena(m->registers[RSP], 8);
    return true;
}

/* The flags that the SDM defines after `i`. */
static uint64_t defined_flags(const struct decode_instruction *i)
{
    switch (i->operation) {
    case DECODE_AND:
    case DECODE_OR:
    case DECODE_XOR:
    case DECODE_TEST:
        return ~X86_RFLAGS_AF;
    case DECODE_BT:
    case DECODE_BTS:
    case DECODE_BTR:
    case DECODE_BTC:
        return ~(X86_RFLAGS_OF | X86_RFLAGS_SF | X86_RFLAGS_AF | X86_RFLAGS_PF);
    default:
        return UINT64_MAX;
    }
}

static void run_native(const uint8_t *bytes, unsigned length, const struct machine *before)
{
    uint8_t *code = (uint8_t *)CODE;
    static const uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0}; /* jmp *0(%rip), the address follows */
    uint64_t target = (uint64_t)native_return;

    memcpy(code, bytes, length);
    memcpy(code + length, jump, sizeof(jump));
    memcpy(code + length + sizeof(jump), &target, sizeof(target));
    memcpy((void *)ARENA, before->memory, ARENA_SIZE);
    memcpy(native.registers, before->registers, sizeof(native.registers));
    native.rflags = before->rflags;
    native.entry = CODE;
    native_run();
}

/* Exit after exit until the instruction is done, the device being one of its operands. */
static void run_emulation(struct machine *m, const struct decode_instruction *i)
{
    bool both = i->operation == DECODE_MOVS || i->operation == DECODE_CMPS;
    bool second =
        both && (random_below(2) == 0 || ((m->registers[RSI] ^ m->registers[RDI]) & address_mask(i)) == 0);
    bool write =
        i->operation == DECODE_STOS || i->operation == DECODE_POP || (i->operation == DECODE_MOVS && second);
    enum emulate_result result;
    unsigned exits = 0;

    do {
        uint64_t device = address_of(m, i);
        if (second)
            device = m->registers[RDI] & address_mask(i);
        else if (both && i->operation == DECODE_CMPS && ((m->registers[RDI] ^ device) & (PAGE_SIZE - 1)) == 0)
            m->not_memory_at = align_down(device, PAGE_SIZE); /* both at the same place in their pages */
        result = take_exit(m, i, device, write);
        m->not_memory_at = 0;
        assert_true(++exits < 200);
    } while (result == EMULATE_AGAIN);
    assert_int_equal(result, EMULATE_DONE);
}

static void describe(const uint8_t *bytes, const struct decode_instruction *i, const struct machine *m)
{
    print_error("%s:", decode_operation_name(i->operation));
    for (unsigned n = 0; n < i->length; n++)
        print_error(" %02x", bytes[n]);
    print_error("\n");
    for (unsigned n = 0; n < 16; n++)
        if (m->registers[n] != native.registers[n])
            print_error("register %u: %016lx, the processor's %016lx\n", n, m->registers[n],
                        native.registers[n]);
    print_error("flags %06lx, the processor's %06lx\n", m->rflags, native.rflags);
}

static void against_the_processor(void **state)
{
    static struct machine machine, before;
    unsigned long cases = 0;
    unsigned seen[DECODE_OPERATIONS] = {0};

    (void)state;
    map(CODE, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    map(ARENA, ARENA_SIZE, PROT_READ | PROT_WRITE);
    while (cases < 120000) {
        uint8_t bytes[DECODE_LENGTH_MAX];
        struct decode_instruction i;
        struct machine *m = &machine;

        random_instruction(bytes);
        if (decode_instruction_bytes(&i, DECODE_MODE_64, bytes, sizeof(bytes)) != 0 ||
            i.memory.segment > DECODE_DS)
            continue;
        memset(m, 0, sizeof(*m));
        if (!arrange(m, bytes, &i))
            continue;

        before = *m;
        run_native(bytes, i.length, &before);
        run_emulation(m, &i);
        cases++;
        seen[i.operation]++;

        uint64_t flags = defined_flags(&i);
        if (memcmp(m->registers, native.registers, sizeof(m->registers)) != 0 ||
            ((m->rflags ^ native.rflags) & flags & ~X86_RFLAGS_IF) != 0 ||
            memcmp(m->memory, (void *)ARENA, ARENA_SIZE) != 0) {
            describe(bytes, &i, m);
            fail_msg("differs from the processor");
        }
        /* A counted string of no elements is the only one that leaves the device alone. */
        if (m->device_reads + m->device_writes == 0)
            assert_true(i.repeat != DECODE_REPEAT_NONE && (before.registers[RCX] & address_mask(&i)) == 0);
        /* What the other operand is not: in a register, on the device's side. */
        if (!is_string(&i) && i.operation != DECODE_PUSH && i.operation != DECODE_POP)
            assert_int_equal(m->memory_reads + m->memory_writes, 0);
    }
    for (unsigned operation = DECODE_NONE + 1; operation < DECODE_OPERATIONS; operation++)
        assert_true(seen[operation] >= 100);
    munmap((void *)CODE, PAGE_SIZE);
    munmap((void *)ARENA, ARENA_SIZE);
}

/* ---- By hand --------------------------------------------------------------------------------- */

static struct machine hand;

static struct machine *fresh(void)
{
    memset(&hand, 0, sizeof(hand));
    hand.rflags = X86_RFLAGS_RESERVED;
    return &hand;
}

static struct decode_instruction decode(enum decode_mode mode, const char *bytes, size_t size)
{
    struct decode_instruction i;

    assert_int_equal(decode_instruction_bytes(&i, mode, (const uint8_t *)bytes, size), 0);
    assert_int_equal(i.length, size);
    return i;
}

#define DECODE(mode, text) decode(mode, text, sizeof(text) - 1)

static const struct decode_instruction *rep(const char *bytes)
{
    static struct decode_instruction i;

    i = decode(DECODE_MODE_64, bytes, strlen(bytes));
    return &i;
}

static uint32_t word_at(const struct machine *m, unsigned offset)
{
    uint32_t word;

    memcpy(&word, m->memory + offset, 4);
    return word;
}

/* Sixty-four elements, then the next exit; and with TF one. */
static void bounds(void **state)
{
    struct machine *m = fresh();
    const struct decode_instruction *stos = rep("\xf3\xab");

    (void)state;
    m->registers[RDI] = ARENA;
    m->registers[RCX] = 100;
    m->registers[RAX] = 0x11223344;
    assert_int_equal(take_exit(m, stos, ARENA, true), EMULATE_AGAIN);
    assert_int_equal(m->device_writes, EMULATE_ELEMENTS_MAX);
    assert_int_equal(m->registers[RCX], 100 - EMULATE_ELEMENTS_MAX);
    assert_int_equal(m->registers[RDI], ARENA + 4 * EMULATE_ELEMENTS_MAX);
    assert_int_equal(m->emulate.gpa.value, ARENA + DEVICE_BIAS);
    assert_int_equal(word_at(m, 4 * EMULATE_ELEMENTS_MAX), 0);
    assert_int_equal(take_exit(m, stos, m->registers[RDI], true), EMULATE_DONE);
    assert_int_equal(m->registers[RCX], 0);
    assert_int_equal(word_at(m, 99 * 4), 0x11223344);
    assert_int_equal(word_at(m, 100 * 4), 0);

    m->registers[RCX] = 2;
    m->rflags |= X86_RFLAGS_TF;
    assert_int_equal(take_exit(m, stos, m->registers[RDI], true), EMULATE_AGAIN);
    assert_int_equal(m->registers[RCX], 1);
    assert_int_equal(take_exit(m, stos, m->registers[RDI], true), EMULATE_DONE);
}

/* A repeated instruction stops at the device page's end, both ways: what follows may be anything. */
static void page_ends(void **state)
{
    struct machine *m = fresh();
    const struct decode_instruction *stos = rep("\xf3\xab");

    (void)state;
    m->registers[RDI] = ARENA + PAGE_SIZE - 8;
    m->registers[RCX] = 5;
    assert_int_equal(take_exit(m, stos, m->registers[RDI], true), EMULATE_AGAIN);
    assert_int_equal(m->registers[RCX], 3);
    assert_int_equal(m->device_writes, 2);

    m->rflags |= X86_RFLAGS_DF;
    m->registers[RCX] = 5;
    assert_int_equal(take_exit(m, stos, m->registers[RDI], true), EMULATE_AGAIN);
    assert_int_equal(m->registers[RCX], 4);
    assert_int_equal(m->registers[RDI], ARENA + PAGE_SIZE - 4);
}

/* The sizes of 16- and 32-bit code: of operands, addresses and the stack pointer. */
static void sizes(void **state)
{
    struct machine *m = fresh();
    struct decode_instruction i =
        DECODE(DECODE_MODE_16, "\xf3\x67\x66\xab"); /* rep stosl, 32-bit addresses */

    (void)state;
    m->registers[RDI] = ARENA + 4;
    m->registers[RCX] = 0xabcd00000002;
    assert_int_equal(take_exit(m, &i, ARENA + 4, true), EMULATE_DONE);
    assert_int_equal(m->registers[RDI], ARENA + 12);
    assert_int_equal(m->registers[RCX], 0);

    i = DECODE(DECODE_MODE_32, "\xff\x30"); /* pushl (%eax) */
    m->registers[RAX] = ARENA + 0x100;
    memcpy(m->memory + 0x100, "\x78\x56\x34\x12", 4);
    m->registers[RSP] = ARENA + 0x804;
    assert_int_equal(take_exit(m, &i, ARENA + 0x100, false), EMULATE_DONE);
    assert_int_equal(m->registers[RSP], ARENA + 0x800);
    assert_int_equal(word_at(m, 0x800), 0x12345678);
}

static bool linear_16(void *context, enum decode_segment segment, uint64_t offset, unsigned size, bool write,
                      gla_t *gla, struct emulate_fault *fault)
{
    (void)context;
    if (offset + size > 0x10000) {
        *fault = (struct emulate_fault){.vector = segment == DECODE_SS ? 12 : 13, .has_error_code = true};
        return false;
    }
    assert_true(segment != DECODE_CS || !write);
    *gla = GLA(ARENA + (segment == DECODE_SS ? PAGE_SIZE : 0) + offset % PAGE_SIZE);
    return true;
}

static const struct emulate_ops ops_16 = {linear_16, memory_read, memory_write, mmio_read, mmio_write};

static enum emulate_result take_exit_16(struct machine *m, const struct decode_instruction *i,
                                        uint64_t device, bool write)
{
    m->emulate = (struct emulate){.ops = &ops_16,
                                  .context = m,
                                  .registers = m->registers,
                                  .rflags = &m->rflags,
                                  .stack_size = 2,
                                  .gpa = GPA(device + DEVICE_BIAS),
                                  .write = write};
    return emulate_instruction(&m->emulate, i);
}

/* Real mode: 16-bit pointers wrap and keep the upper halves; a limit's fault comes before any change. */
static void real_mode(void **state)
{
    struct machine *m = fresh();
    struct decode_instruction i;

    (void)state;
    i = DECODE(DECODE_MODE_16, "\xad"); /* lodsw */
    memcpy(m->memory + 0xffe, "\x34\x12", 2);
    m->registers[RSI] = 0xbbbb0000fffe;
    m->registers[RAX] = 0xcccccccc;
    assert_int_equal(take_exit_16(m, &i, ARENA + 0xffe, false), EMULATE_DONE);
    assert_int_equal(m->registers[RSI], 0xbbbb00000000);
    assert_int_equal(m->registers[RAX], 0xcccc1234);

    m->registers[RSI] = 0xffff; /* the second byte is past the limit */
    assert_int_equal(take_exit_16(m, &i, ARENA + 0xfff, false), EMULATE_FAULT);
    assert_int_equal(m->emulate.fault.vector, 13);
    assert_int_equal(m->registers[RSI], 0xffff);

    i = DECODE(DECODE_MODE_16, "\xff\x30"); /* push (%bx,%si), with SP at 0 */
    m->registers[RBX] = 0xfff0;
    m->registers[RSI] = 0x20;
    m->registers[RSP] = 0x5555000000010000;
    memcpy(m->memory + 0x10, "\xcd\xab", 2);
    assert_int_equal(take_exit_16(m, &i, ARENA + 0x10, false), EMULATE_DONE);
    assert_int_equal(m->registers[RSP], 0x555500000001fffe);
    assert_memory_equal(m->memory + PAGE_SIZE + 0xffe, "\xcd\xab", 2);

    m->registers[RSP] = 1; /* the stack's limit, before the device is read */
    m->device_reads = 0;
    assert_int_equal(take_exit_16(m, &i, ARENA + 0x10, false), EMULATE_FAULT);
    assert_int_equal(m->emulate.fault.vector, 12);
    assert_int_equal(m->registers[RSP], 1);
    assert_int_equal(m->device_reads, 0);
}

/* A fault leaves the registers as the last complete element had them. */
static void faults(void **state)
{
    struct machine *m = fresh();
    const struct decode_instruction *movs = rep("\xf3\xa5");

    (void)state;
    m->registers[RSI] = ARENA; /* the device */
    m->registers[RDI] = ARENA + PAGE_SIZE;
    m->registers[RCX] = 10;
    m->fault_at = ARENA + PAGE_SIZE + 12;
    assert_int_equal(take_exit(m, movs, ARENA, false), EMULATE_FAULT);
    assert_int_equal(m->emulate.fault.vector, 14);
    assert_int_equal(m->emulate.fault.address, ARENA + PAGE_SIZE + 12);
    assert_int_equal(m->registers[RCX], 7);
    assert_int_equal(m->registers[RSI], ARENA + 12);
    assert_int_equal(m->registers[RDI], ARENA + PAGE_SIZE + 12);
    assert_int_equal(m->memory_writes, 3);

    const struct decode_instruction *pop = rep("\x8f\x01"); /* pop (%rcx) */
    m->registers[RAX] = ARENA;
    m->registers[RCX] = ARENA;
    m->registers[RSP] = m->fault_at;
    assert_int_equal(take_exit(m, pop, ARENA, true), EMULATE_FAULT);
    assert_int_equal(m->registers[RSP], m->fault_at);
    assert_int_equal(m->device_writes, 0);

    const struct decode_instruction *push = rep("\xff\x30"); /* push (%rax) */
    m->registers[RSP] = m->fault_at + 16;
    assert_int_equal(take_exit(m, push, ARENA, false), EMULATE_FAULT);
    assert_int_equal(m->registers[RSP], m->fault_at + 16);
}

/* Bytes that do not fit the exit: the guest changed them meanwhile, or the access crosses a page. */
static void refusals(void **state)
{
    struct machine *m = fresh();
    const struct decode_instruction none = {.operation = DECODE_NONE};
    struct decode_instruction mov = DECODE(DECODE_MODE_64, "\x8b\x08"); /* mov (%rax), %ecx */

    (void)state;
    m->registers[RAX] = ARENA + 0x20;
    assert_int_equal(take_exit(m, &none, ARENA, false), EMULATE_UNSUPPORTED);
    assert_int_equal(take_exit(m, &mov, ARENA + 0x24, false), EMULATE_UNSUPPORTED);
    assert_int_equal(take_exit(m, &mov, ARENA + 0x20, true), EMULATE_UNSUPPORTED);
    m->registers[RAX] = ARENA + PAGE_SIZE - 2;
    assert_int_equal(take_exit(m, &mov, m->registers[RAX], false), EMULATE_UNSUPPORTED);
    assert_int_equal(m->device_reads, 0);

    /* the stack is the device: a write by PUSH, a read by POP */
    m->registers[RAX] = ARENA;
    m->registers[RCX] = ARENA;
    m->registers[RSP] = ARENA + 8;
    assert_int_equal(take_exit(m, rep("\xff\x30"), ARENA, true), EMULATE_UNSUPPORTED);
    assert_int_equal(take_exit(m, rep("\x8f\x01"), ARENA + 8, false), EMULATE_UNSUPPORTED);
    assert_int_equal(m->registers[RSP], ARENA + 8);

    /* a copy from device to device */
    m->registers[RSI] = ARENA;
    m->registers[RDI] = ARENA + PAGE_SIZE;
    m->not_memory_at = ARENA + PAGE_SIZE;
    assert_int_equal(take_exit(m, rep("\xa5"), ARENA, false), EMULATE_UNSUPPORTED);
    assert_int_equal(m->registers[RSI], ARENA);

    /* stosl that exits with a read, lodsl with a write */
    assert_int_equal(take_exit(m, rep("\xab"), ARENA + PAGE_SIZE, false), EMULATE_UNSUPPORTED);
    assert_int_equal(take_exit(m, rep("\xad"), ARENA, true), EMULATE_UNSUPPORTED);
    assert_int_equal(m->device_writes, 0);
}

/* CMPS with both operands at the exit's place in their pages: the one where no memory is, is the device's. */
static void compare_strings(void **state)
{
    struct machine *m = fresh();

    (void)state;
    m->registers[RSI] = ARENA + 0x40;
    m->registers[RDI] = ARENA + PAGE_SIZE + 0x40;
    m->not_memory_at = ARENA + PAGE_SIZE;
    assert_int_equal(take_exit(m, rep("\xa7"), m->registers[RDI], false), EMULATE_DONE);
    assert_int_equal(m->device_reads, 1);
    assert_true(m->rflags & X86_RFLAGS_ZF);

    m->registers[RSI] = ARENA + 0x40;
    m->registers[RDI] = ARENA + PAGE_SIZE + 0x40;
    m->not_memory_at = ARENA;
    m->memory[0x43] = 0x80;
    assert_int_equal(take_exit(m, rep("\xa7"), m->registers[RSI], false), EMULATE_DONE);
    assert_int_equal(m->device_reads, 2);
    assert_int_equal(m->memory_reads, 3); /* with the one that found out */
    assert_false(m->rflags & X86_RFLAGS_ZF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_the_processor),
        cmocka_unit_test(bounds),
        cmocka_unit_test(page_ends),
        cmocka_unit_test(sizes),
        cmocka_unit_test(real_mode),
        cmocka_unit_test(faults),
        cmocka_unit_test(refusals),
        cmocka_unit_test(compare_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
