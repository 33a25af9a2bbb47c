// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/emulate.c, by hand, what a processor in 64-bit mode cannot show (test_emulate_native.c has the rest):
 * other modes, faults, bounds, operands that are not the exit's, undefined flags. Fails when a register or a
 * byte of memory is not what the SDM says, when an access goes to the wrong side, or when a repeated
 * instruction runs on past its bound.
 */
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "tests/unit/emulate_machine.h"

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

static void assert_accesses(const struct machine *m, unsigned device_reads, unsigned device_writes,
                            unsigned memory_reads, unsigned memory_writes)
{
    assert_int_equal(m->device_reads, device_reads);
    assert_int_equal(m->device_writes, device_writes);
    assert_int_equal(m->memory_reads, memory_reads);
    assert_int_equal(m->memory_writes, memory_writes);
}

/*
 * The guest changed its code after the exit. Fails when the instruction that is there now is taken to go
 * where the exit's went, though its operand is elsewhere, crosses a page, or is used otherwise.
 */
static void another_instruction(void **state)
{
    struct machine *m = fresh();
    const struct decode_instruction *load;

    (void)state;
    load = rep("\x8b\x08"); /* mov (%rax), %ecx */
    memcpy(m->memory + 0x20, "\x44\x33\x22\x11", 4);
    m->registers[RAX] = ARENA + 0x20;
    assert_int_equal(take_exit(m, load, ARENA + 0x24, false), EMULATE_DONE);
    assert_int_equal(m->registers[RCX], 0x11223344);
    assert_accesses(m, 0, 0, 1, 0);
    assert_int_equal(take_exit(m, load, ARENA + 0x20, true), EMULATE_DONE);
    assert_accesses(m, 0, 0, 2, 0);

    /* a store, after a read: whether the guest may has not been asked */
    assert_int_equal(take_exit(m, rep("\x89\x10"), ARENA + 0x20, false), EMULATE_DONE);
    assert_accesses(m, 0, 0, 2, 1);
    assert_int_equal(word_at(m, 0x20), 0);
    /* addl, after a read or a write: the device's */
    assert_int_equal(take_exit(m, rep("\x01\x10"), ARENA + 0x20, false), EMULATE_DONE);
    assert_int_equal(take_exit(m, rep("\x01\x10"), ARENA + 0x20, true), EMULATE_DONE);
    assert_accesses(m, 2, 2, 2, 1);

    /* stosl that exits with a read, lodsl with a write */
    m = fresh();
    m->registers[RSI] = m->registers[RDI] = ARENA;
    assert_int_equal(take_exit(m, rep("\xab"), ARENA, false), EMULATE_DONE);
    assert_int_equal(take_exit(m, rep("\xad"), ARENA, true), EMULATE_DONE);
    assert_accesses(m, 0, 0, 1, 1);
}

/* Across a page's end. Fails when the device is asked for bytes of the next page. */
static void crossing(void **state)
{
    struct machine *m = fresh();
    const uint64_t end = ARENA + PAGE_SIZE;

    (void)state;
    memcpy(m->memory + PAGE_SIZE - 2, "\x44\x33\x22\x11", 4);
    m->registers[RAX] = m->registers[RDX] = end - 2;
    assert_int_equal(take_exit(m, rep("\x8b\x08"), end - 2, false), EMULATE_DONE);
    assert_int_equal(m->registers[RCX], 0x11223344);
    assert_int_equal(take_exit(m, rep("\xff\x02"), end, true), EMULATE_DONE); /* incl: of the second page */
    assert_int_equal(word_at(m, PAGE_SIZE - 2), 0x11223345);
    assert_accesses(m, 0, 0, 2, 1);

    /* rep stosl, up and down: what the exit tells is not taken for an element's that is elsewhere */
    for (unsigned down = 0; down < 2; down++) {
        m = fresh();
        m->rflags |= down ? X86_RFLAGS_DF : 0;
        m->registers[RAX] = 0x11223344;
        m->registers[RDI] = end - 2;
        m->registers[RCX] = 3;
        while (take_exit(m, rep("\xf3\xab"), end, true) == EMULATE_AGAIN)
            continue;
        assert_int_equal(m->registers[RCX], 0);
        for (unsigned element = 0; element < 3; element++)
            assert_int_equal(word_at(m, PAGE_SIZE - 2 + 4 * element - down * 8), 0x11223344);
        assert_accesses(m, 0, 0, 0, 3);
    }
}

/*
 * PUSH and POP whose exit is their stack's. Fails when the device is taken for the other operand, or the
 * order of the two changes.
 */
static void device_stack(void **state)
{
    struct machine *m = fresh();

    (void)state;
    memcpy(m->memory + 0x40, "\x78\x56\x34\x12\xf0\xde\xbc\x9a", 8);
    m->registers[RAX] = ARENA + 0x40;
    m->registers[RSP] = ARENA + PAGE_SIZE + 0x108;
    assert_int_equal(take_exit(m, rep("\xff\x30"), ARENA + PAGE_SIZE + 0x100, true), EMULATE_DONE);
    assert_accesses(m, 0, 1, 1, 0);
    assert_int_equal(m->registers[RSP], ARENA + PAGE_SIZE + 0x100);
    assert_memory_equal(m->memory + PAGE_SIZE + 0x100, m->memory + 0x40, 8);

    m->registers[RDX] = ARENA + 0x80;
    assert_int_equal(take_exit(m, rep("\x8f\x02"), ARENA + PAGE_SIZE + 0x100, false), EMULATE_DONE);
    assert_accesses(m, 1, 1, 1, 1);
    assert_int_equal(m->registers[RSP], ARENA + PAGE_SIZE + 0x108);
    assert_memory_equal(m->memory + 0x80, m->memory + 0x40, 8);
}

/*
 * CMPS with both operands at the exit's place in their pages: the addresses tell which is which. Fails when
 * the exit's is taken for the wrong one.
 */
static void compare_strings(void **state)
{
    struct machine *m = fresh();

    (void)state;
    m->registers[RSI] = ARENA + 0x40;
    m->registers[RDI] = ARENA + PAGE_SIZE + 0x40;
    m->memory[0x43] = 0x80;
    assert_int_equal(take_exit(m, rep("\xa7"), m->registers[RDI], false), EMULATE_DONE);
    assert_accesses(m, 0, 0, 2, 0);
    assert_false(m->rflags & X86_RFLAGS_ZF);
    assert_true(m->rflags & X86_RFLAGS_SF); /* the first less the second */

    m->registers[RSI] = ARENA + 0x40;
    m->registers[RDI] = ARENA + PAGE_SIZE + 0x80;
    assert_int_equal(take_exit(m, rep("\xa7"), m->registers[RDI], false), EMULATE_DONE);
    assert_accesses(m, 1, 0, 3, 0);
}

/*
 * A read-modify-write of what the guest must not write. Fails when it finds out by the write, when the fault
 * is a read's, or when a write that fails after all leaves a register or a flag changed.
 */
static void no_right_to_write(void **state)
{
    static const char *const instructions[] = {
        "\x01\x08",     /* addl %ecx, (%rax) */
        "\x0f\xc1\x08", /* xaddl %ecx, (%rax) */
        "\x87\x08",     /* xchgl %ecx, (%rax) */
        "\x0f\xb1\x08", /* cmpxchgl %ecx, (%rax) */
    };

    (void)state;
    for (unsigned n = 0; n < 2 * ARRAY_SIZE(instructions); n++) {
        struct machine *m = fresh();
        struct machine before;

        m->registers[RAX] = ARENA + PAGE_SIZE;
        m->registers[RCX] = 0x80000002;
        memcpy(m->memory + PAGE_SIZE, "\x01\x00\x00\x80", 4);
        m->read_only_at = ARENA + PAGE_SIZE;
        m->races = n >= ARRAY_SIZE(instructions);
        before = *m;
        assert_int_equal(take_exit(m, rep(instructions[n % ARRAY_SIZE(instructions)]), ARENA + 8, true),
                         EMULATE_FAULT);
        assert_int_equal(m->emulate.fault.error_code, 2);
        assert_accesses(m, 0, 0, m->races, 0);
        assert_memory_equal(m->registers, before.registers, sizeof(before.registers));
        assert_int_equal(m->rflags, before.rflags);
        assert_memory_equal(m->memory, before.memory, sizeof(before.memory));
    }
}

/* A division that fails has read the device and changed nothing; the edge of the range does not fail. */
static void divide_errors(void **state)
{
    struct machine *m = fresh();
    const struct decode_instruction *idiv = rep("\xf7\x3f"); /* idivl (%rdi) */

    (void)state;
    m->registers[RDI] = ARENA;
    m->registers[RAX] = 7;
    m->registers[RDX] = 0;
    assert_int_equal(take_exit(m, idiv, ARENA, false), EMULATE_FAULT);
    assert_int_equal(m->emulate.fault.vector, X86_VECTOR_DE);
    assert_false(m->emulate.fault.has_error_code);
    assert_int_equal(m->device_reads, 1);
    assert_int_equal(m->registers[RAX], 7);

    memcpy(m->memory, "\xff\xff\xff\xff", 4);
    m->registers[RAX] = 0x80000000;
    m->registers[RDX] = UINT32_MAX;
    assert_int_equal(take_exit(m, idiv, ARENA, false), EMULATE_FAULT); /* 80000000H is not in range */
    assert_int_equal(m->registers[RDX], UINT32_MAX);
    memcpy(m->memory, "\x01\x00\x00\x00", 4);
    assert_int_equal(take_exit(m, idiv, ARENA, false), EMULATE_DONE); /* -80000000H is */
    assert_int_equal(m->registers[RAX], 0x80000000);
    assert_int_equal(m->registers[RDX], 0);
}

/* Flags that the SDM leaves undefined, so that the processor that runs the tests does not decide. */
static void undefined_flags(void **state)
{
    struct machine *m = fresh();
    const uint64_t all = X86_RFLAGS_CF | X86_RFLAGS_PF | X86_RFLAGS_AF | X86_RFLAGS_ZF | X86_RFLAGS_SF |
                         X86_RFLAGS_OF | X86_RFLAGS_RESERVED;

    (void)state;
    m->registers[RDI] = ARENA;
    m->rflags = all;
    memcpy(m->memory, "\x03\x00\x00\x00", 4);
    m->registers[RAX] = 0x55555555;
    assert_int_equal(take_exit(m, rep("\xf7\x27"), ARENA, false), EMULATE_DONE); /* mull: ffffffffH */
    assert_int_equal(m->rflags, X86_RFLAGS_RESERVED | X86_RFLAGS_SF | X86_RFLAGS_PF);
    m->rflags = all;
    assert_int_equal(take_exit(m, rep("\xf7\x37"), ARENA, false), EMULATE_DONE); /* divl */
    assert_int_equal(m->rflags, all);
    assert_int_equal(take_exit(m, rep("\x0f\xbc\x07"), ARENA, false), EMULATE_DONE); /* bsfl */
    assert_int_equal(m->rflags, all & ~X86_RFLAGS_ZF);
    assert_int_equal(take_exit(m, rep("\xd1\x27"), ARENA, true), EMULATE_DONE); /* shll: 6 */
    assert_int_equal(m->rflags, X86_RFLAGS_RESERVED | X86_RFLAGS_PF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divide_errors),   cmocka_unit_test(undefined_flags),
        cmocka_unit_test(bounds),          cmocka_unit_test(page_ends),
        cmocka_unit_test(sizes),           cmocka_unit_test(real_mode),
        cmocka_unit_test(faults),          cmocka_unit_test(another_instruction),
        cmocka_unit_test(crossing),        cmocka_unit_test(device_stack),
        cmocka_unit_test(compare_strings), cmocka_unit_test(no_right_to_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
