// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/emulate.c: random instructions executed by this very processor and by the emulation. Fails when a
 * register, a flag that the SDM defines, or a byte of memory differs, when an access goes to the wrong side,
 * or when only one of the two divides.
 */
#define _GNU_SOURCE /* REG_RIP */

#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "tests/unit/emulate_machine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

/* ---- The processor --------------------------------------------------------------------------- */

/* All that the assembly below loads and stores. */
struct native {
    uint64_t registers[16];
    uint64_t rflags;
    uint64_t entry;
    uint64_t host_rsp;
    bool divide_error;
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

/* #DE: the registers as they were go to native_return, instead of back to the division. */
static void on_divide_error(int signal, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;

    (void)signal;
    if (info->si_addr != (void *)CODE)
        abort();
    native.divide_error = true;
    machine->uc_mcontext.gregs[REG_RIP] = (greg_t)native_return;
}

/* On a stack of its own: the instructions under test have anything in RSP. */
static void catch_divide_errors(void)
{
    static uint8_t bytes[65536];
    const stack_t stack = {.ss_sp = bytes, .ss_size = sizeof(bytes)};
    struct sigaction action = {.sa_sigaction = on_divide_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    assert_int_equal(sigaltstack(&stack, NULL), 0);
    assert_int_equal(sigaction(SIGFPE, &action, NULL), 0);
}

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
    "\x0f\x38\xf0", "\x0f\x38\xf1", "\x69",     "\x6b",     "\xc0",     "\xc1",     "\xd0",     "\xd1",
    "\xd2",         "\xd3",         "\xd1",     "\xc1",     "\xd3",     "\xd2",     "\xf7",     "\xf7",
    "\xf6",         "\x0f\xaf",     "\x0f\xbc", "\x0f\xbd", "\x0f\x40", "\x0f\x41", "\x0f\x42", "\x0f\x43",
    "\x0f\x44",     "\x0f\x45",     "\x0f\x46", "\x0f\x47", "\x0f\x48", "\x0f\x49", "\x0f\x4a", "\x0f\x4b",
    "\x0f\x4c",     "\x0f\x4d",     "\x0f\x4e", "\x0f\x4f", "\x0f\x90", "\x0f\x91", "\x0f\x92", "\x0f\x93",
    "\x0f\x94",     "\x0f\x95",     "\x0f\x96", "\x0f\x97", "\x0f\x98", "\x0f\x99", "\x0f\x9a", "\x0f\x9b",
    "\x0f\x9c",     "\x0f\x9d",     "\x0f\x9e", "\x0f\x9f",
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

/* The bytes of immediate at the end of the instruction. */
static unsigned immediate_bytes(const struct decode_instruction *i)
{
    if (!i->three_operands && i->source != DECODE_OPERAND_IMMEDIATE)
        return 0;
    switch (i->opcode) {
    case 0xd0:
    case 0xd1:
        return 0;
    case 0x6b:
    case 0x83:
    case 0xba:
    case 0xc0:
    case 0xc1:
        return 1;
    default:
        return (unsigned)min_u64(i->operand_size, 4);
    }
}

/* The displacement's last `size` bytes before the immediate become `value`. */
static void set_displacement(uint8_t *bytes, struct decode_instruction *i, uint64_t value, unsigned size)
{
    memcpy(bytes + i->length - immediate_bytes(i) - size, &value, size);
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

static bool divides(const struct decode_instruction *i)
{
    return i->operation == DECODE_DIV || i->operation == DECODE_IDIV;
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
    /* Most random dividends are too large. */
    if (divides(i) && random_below(4) != 0)
        m->registers[i->operand_size == 1 ? RAX : RDX] = random_below(200) - (random_u64() & 1) * 100;
    aim(m, bytes, i, random_below(8) == 0 ? ARENA + PAGE_SIZE - random_below(8) : random_target(1));

    uint64_t address = address_of(m, i);
    if (!in_arena(address, i->memory_size))
        return false;
    if (i->operation == DECODE_CMPXCHG && random_below(2) == 0)
        memcpy(m->memory + (address - ARENA), &m->registers[RAX], i->operand_size);
    if (i->operation == DECODE_PUSH)
        return in_arena(m->registers[RSP] - 8, 8);
    if (i->operation == DECODE_POP)
        return in_arena(m->registers[RSP], 8);
    return true;
}

/* After a shift or rotation: SDM vol. 2, "SAL/SAR/SHL/SHR" and "RCL/RCR/ROL/ROR". */
static uint64_t defined_after_shift(const struct decode_instruction *i, const struct machine *before)
{
    bool rotates = i->operation <= DECODE_RCR;
    uint64_t count = i->source == DECODE_OPERAND_REGISTER ? before->registers[RCX] : i->immediate;
    uint64_t undefined = rotates ? 0 : X86_RFLAGS_AF;

    count &= i->operand_size == 8 ? 63 : 31;
    if (count == 0)
        return UINT64_MAX;
    if (count != 1)
        undefined |= X86_RFLAGS_OF;
    if (!rotates && i->operation != DECODE_SAR && count >= 8 * i->operand_size)
        undefined |= X86_RFLAGS_CF;
    return ~undefined;
}

/* The flags that the SDM defines after `i`: the others differ between makers. */
static uint64_t defined_flags(const struct decode_instruction *i, const struct machine *before)
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
    case DECODE_BSF:
    case DECODE_BSR:
        return ~(X86_RFLAGS_CF | X86_RFLAGS_OF | X86_RFLAGS_SF | X86_RFLAGS_AF | X86_RFLAGS_PF);
    case DECODE_ROL:
    case DECODE_ROR:
    case DECODE_RCL:
    case DECODE_RCR:
    case DECODE_SHL:
    case DECODE_SHR:
    case DECODE_SAR:
        return defined_after_shift(i, before);
    case DECODE_MUL:
    case DECODE_IMUL:
        return ~(X86_RFLAGS_SF | X86_RFLAGS_ZF | X86_RFLAGS_AF | X86_RFLAGS_PF);
    case DECODE_DIV:
    case DECODE_IDIV:
        return ~(X86_RFLAGS_CF | X86_RFLAGS_PF | X86_RFLAGS_AF | X86_RFLAGS_ZF | X86_RFLAGS_SF |
                 X86_RFLAGS_OF);
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
    native.divide_error = false;
    native_run();
}

/* Whether `i` writes its operand without a look at it. */
static bool stores(const struct decode_instruction *i)
{
    switch (i->operation) {
    case DECODE_STOS:
    case DECODE_POP:
    case DECODE_SET:
        return true;
    case DECODE_MOV:
    case DECODE_MOVNTI:
    case DECODE_MOVBE:
        return i->destination == DECODE_OPERAND_MEMORY;
    default:
        return false;
    }
}

/* Exit after exit until the instruction is done, the device being one of its operands. */
static void run_emulation(struct machine *m, const struct decode_instruction *i)
{
    bool both = i->operation == DECODE_MOVS || i->operation == DECODE_CMPS;
    bool second =
        both && (random_below(2) == 0 || ((m->registers[RSI] ^ m->registers[RDI]) & address_mask(i)) == 0);
    bool write = stores(i) || (i->operation == DECODE_MOVS && second);
    enum emulate_result result;
    unsigned exits = 0;

    do {
        uint64_t device = address_of(m, i);
        if (second)
            device = m->registers[RDI] & address_mask(i);
        result = take_exit(m, i, device, write);
        assert_true(++exits < 200);
    } while (result == EMULATE_AGAIN);
    assert_int_equal(result, native.divide_error ? EMULATE_FAULT : EMULATE_DONE);
    if (native.divide_error) {
        assert_int_equal(m->emulate.fault.vector, X86_VECTOR_DE);
        assert_false(m->emulate.fault.has_error_code);
    }
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

/* Which accesses went to the exit's address, and which to the linear one. */
static void check_sides(const struct decode_instruction *i, const struct machine *m,
                        const struct machine *before)
{
    const bool stack = i->operation == DECODE_PUSH || i->operation == DECODE_POP;
    const bool crosses = !is_string(i) && !in_one_page(address_of(before, i), i->memory_size);
    const bool same_place =
        i->operation == DECODE_CMPS && (before->registers[RSI] - before->registers[RDI]) % PAGE_SIZE == 0;
    const bool nothing = i->repeat != DECODE_REPEAT_NONE && (before->registers[RCX] & address_mask(i)) == 0;

    /* The device is left alone only if its operand crosses a page's end or cannot be told, or by nothing. */
    assert_int_equal(m->device_reads + m->device_writes == 0, crosses || same_place || nothing);
    /* What the other operand is not: in a register, on the device's side. */
    if (!is_string(i) && !stack && !crosses)
        assert_int_equal(m->memory_reads + m->memory_writes, 0);
}

static void against_the_processor(void **state)
{
    static struct machine machine, before;
    unsigned long cases = 0;
    unsigned seen[DECODE_OPERATIONS] = {0};
    unsigned divide_errors = 0;

    (void)state;
    catch_divide_errors();
    map(CODE, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    map(ARENA, ARENA_SIZE, PROT_READ | PROT_WRITE);
    while (cases < 160000) {
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
        if (native.divide_error)
            divide_errors++;
        else
            seen[i.operation]++;

        uint64_t flags = defined_flags(&i, &before);
        if (memcmp(m->registers, native.registers, sizeof(m->registers)) != 0 ||
            ((m->rflags ^ native.rflags) & flags & ~X86_RFLAGS_IF) != 0 ||
            memcmp(m->memory, (void *)ARENA, ARENA_SIZE) != 0) {
            describe(bytes, &i, m);
            fail_msg("differs from the processor");
        }
        check_sides(&i, m, &before);
    }
    for (unsigned operation = DECODE_NONE + 1; operation < DECODE_OPERATIONS; operation++)
        assert_true(seen[operation] >= 100);
    assert_true(divide_errors >= 100);
    munmap((void *)CODE, PAGE_SIZE);
    munmap((void *)ARENA, ARENA_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_the_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
