// SPDX-License-Identifier: BSD-2-Clause
/*
 * IN, OUT, INS and OUTS. Fails when a value goes to the wrong part of RAX, when a string instruction leaves
 * its registers otherwise than the processor would after as many elements, when a segment or page that
 * forbids an access does not fault as it would, or when a device loses what the guest could not take.
 */
#include "core/exits/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_machine.h"

#define LENGTH 2
#define UART   0x3f8
#define POST   0x80
#define PCI    0xcf8

/* SDM vol. 3, table "Exit qualification for I/O instructions". */
#define IN     BIT(3)
#define STRING BIT(4)
#define REP    BIT(5)

/* Segments and address sizes of the instruction information. */
enum { ES, CS, SS, DS, FS, GS };
enum { ADDRESS_16, ADDRESS_32, ADDRESS_64 };

static uint64_t reg(unsigned number)
{
    return guest->vcpu.registers[number];
}

static void set_reg(unsigned number, uint64_t value)
{
    guest->vcpu.registers[number] = value;
}

static void io_exit(uint16_t port, unsigned size, uint64_t flags)
{
    run_to_exit(EXIT_REASON_IO_INSTRUCTION, (uint64_t)port << 16 | flags | (size - 1), LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED);
}

static void io(uint16_t port, unsigned size, uint64_t flags)
{
    io_exit(port, size, flags);
    handle();
    assert_done(GUEST_RIP + LENGTH);
}

static void string_exit(uint16_t port, unsigned size, uint64_t flags, unsigned address_size, unsigned segment)
{
    io_exit(port, size, flags | STRING);
    fake_set(VMCS_EXIT_INSTRUCTION_INFO, address_size << 7 | segment << 15);
}

static void string(uint16_t port, unsigned size, uint64_t flags, unsigned address_size)
{
    string_exit(port, size, flags, address_size, DS);
    handle();
}

static void plain(void **state)
{
    (void)state;
    set_reg(VCPU_RAX, 0x1122334455667788);
    io(POST, 1, 0);
    assert_int_equal(partition->platform.post_code, 0x88);
    assert_true(guest->deadline_changed);
    set_reg(VCPU_RAX, UINT64_MAX);
    io(POST, 1, IN);
    assert_int_equal(reg(VCPU_RAX), 0xffffffffffffff88);
    set_reg(VCPU_RAX, 0);
    io(POST, 2, IN); /* nobody answers at 81H */
    assert_int_equal(reg(VCPU_RAX), 0xff88);
    set_reg(VCPU_RAX, UINT64_MAX);
    io(POST, 2, IN);
    assert_int_equal(reg(VCPU_RAX), 0xffffffffffffff88);
    set_reg(VCPU_RAX, 0xffffffff80001234);
    io(PCI, 4, 0);
    set_reg(VCPU_RAX, UINT64_MAX);
    io(PCI, 4, IN);
    assert_int_equal(reg(VCPU_RAX), 0x80001234);
    set_reg(VCPU_RAX, 0);
    io(0xfffe, 4, IN);
    assert_int_equal(reg(VCPU_RAX), 0xffffffff);
}

/* Fails when elements come in another order, at another address, or are not counted. */
static void out_strings(void **state)
{
    (void)state;
    guest_put(0x5000, "abcdef", 6);
    set_reg(VCPU_RSI, 0x5000);
    set_reg(VCPU_RCX, 77);
    string(UART, 1, 0, ADDRESS_32);
    assert_done(GUEST_RIP + LENGTH);
    assert_string_equal(guest_console, "a");
    assert_int_equal(reg(VCPU_RSI), 0x5001);
    assert_int_equal(reg(VCPU_RCX), 77);

    set_reg(VCPU_RSI, 0xffffffff00005001); /* 32-bit addresses have no upper half, and lose it */
    set_reg(VCPU_RCX, 0xffffffff00000003);
    string(UART, 1, REP, ADDRESS_32);
    assert_done(GUEST_RIP + LENGTH);
    assert_string_equal(guest_console, "abcd");
    assert_int_equal(reg(VCPU_RSI), 0x5004);
    assert_int_equal(reg(VCPU_RCX), 0);

    string(UART, 1, REP, ADDRESS_32);
    assert_done(GUEST_RIP + LENGTH);
    assert_string_equal(guest_console, "abcd");
    assert_int_equal(reg(VCPU_RSI), 0x5004);

    set_reg(VCPU_RSI, 0x5005);
    set_reg(VCPU_RCX, 2);
    string_exit(UART, 1, REP, ADDRESS_32, DS);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_DF);
    handle();
    assert_string_equal(guest_console, "abcdfe");
    assert_int_equal(reg(VCPU_RSI), 0x5003);

    /* 16-bit registers wrap at 64 KiB and leave the rest alone; wider elements take wider steps. */
    const uint32_t doubles[] = {0x80000000, 0x80001000};
    guest_put(0xfffc, &doubles[0], 4);
    guest_put(0, &doubles[1], 4);
    set_reg(VCPU_RSI, 0xabcd00010000fffc);
    set_reg(VCPU_RCX, 0xabcd000100000002);
    string(PCI, 4, REP, ADDRESS_16);
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(reg(VCPU_RSI), 0xabcd000100000004);
    assert_int_equal(reg(VCPU_RCX), 0xabcd000100000000);
    io(PCI, 4, IN);
    assert_int_equal(reg(VCPU_RAX), 0x80001000);
}

static void in_strings(void **state)
{
    (void)state;
    const uint32_t zero = 0;
    uint32_t got;

    partition->platform.post_code = 0x42;
    set_reg(VCPU_RDI, 0x5000);
    set_reg(VCPU_RCX, 2);
    string(POST, 2, REP | IN, ADDRESS_32);
    assert_done(GUEST_RIP + LENGTH);
    guest_take(0x5000, &got, 4);
    assert_int_equal(got, 0xff42ff42);
    assert_int_equal(reg(VCPU_RDI), 0x5004);

    /* The destination is ES, whatever the information says. */
    guest_put(0x6000, &zero, 4);
    set_reg(VCPU_RDI, 0);
    string_exit(POST, 1, IN, ADDRESS_32, SS);
    fake_set(VMCS_GUEST_ES_BASE, 0x6000);
    handle();
    guest_take(0x6000, &got, 4);
    assert_int_equal(got, 0x42);
}

/* Fails when a long repetition is done at once, is not gone on with, or traps at its end only. */
static void bounded(void **state)
{
    char text[100];
    (void)state;

    memset(text, 'x', sizeof(text));
    guest_put(0x5000, text, sizeof(text));
    set_reg(VCPU_RSI, 0x5000);
    set_reg(VCPU_RCX, sizeof(text));
    string(UART, 1, REP, ADDRESS_32);
    assert_done(GUEST_RIP);
    assert_int_equal(reg(VCPU_RCX), 36);
    assert_int_equal(reg(VCPU_RSI), 0x5000 + 64);
    string(UART, 1, REP, ADDRESS_32);
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(reg(VCPU_RCX), 0);
    assert_int_equal(strlen(guest_console), 100);

    set_reg(VCPU_RCX, 2);
    for (unsigned left = 2; left-- > 0;) {
        string_exit(UART, 1, REP, ADDRESS_32, DS);
        fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_TF);
        fake_set(VMCS_GUEST_PENDING_DEBUG, 0);
        handle();
        assert_int_equal(reg(VCPU_RCX), left);
        assert_int_equal(fake_get(VMCS_GUEST_PENDING_DEBUG), X86_DR6_BS);
        /* Whether the instruction is over is found out when it goes on with none left. */
        if (left > 0)
            assert_int_equal(fake_get(VMCS_GUEST_RIP), GUEST_RIP);
    }
}

/* Fails when an access that its segment forbids is made, or faults otherwise (SDM vol. 3, "Limit checking").
 */
static void segments(void **state)
{
    (void)state;
    enum {
        DATA = 0xc093,
        READ_ONLY = 0xc091,
        DOWN = 0xc097,
        CODE = 0xc099,
        CODE_READ = 0xc09b,
        NONE = 0x10000
    };
    static const struct {
        bool in;
        unsigned segment;
        uint32_t rights, limit, offset;
        unsigned size;
        int fault; /* -1: none */
    } cases[] = {
        {false, DS, DATA, 0xfff, 0xfff, 1, -1},
        {false, DS, DATA, 0xfff, 0x1000, 1, X86_VECTOR_GP},
        {false, DS, DATA, 0xfff, 0xffd, 4, X86_VECTOR_GP},
        {false, SS, DATA, 0xfff, 0x1000, 1, X86_VECTOR_SS},
        {false, DS, DATA, UINT32_MAX, 0xfffffffe, 4, X86_VECTOR_GP},
        {false, DS, READ_ONLY, 0xfff, 0, 1, -1},
        {true, ES, READ_ONLY, 0xfff, 0, 1, X86_VECTOR_GP},
        {true, ES, DATA, 0xfff, 0, 1, -1},
        {true, ES, DATA, 0xfff, 0xfff, 2, X86_VECTOR_GP},
        {false, DS, DOWN, 0xfff, 0xfff, 1, X86_VECTOR_GP},
        {false, DS, DOWN, 0xfff, 0x1000, 1, -1},
        {false, DS, DOWN & ~0x4000, 0xfff, 0xffff, 2, X86_VECTOR_GP},
        {false, CS, CODE, 0xfff, 0, 1, X86_VECTOR_GP},
        {false, CS, CODE_READ, 0xfff, 0, 1, -1},
        {false, DS, NONE | DATA, 0xfff, 0, 1, X86_VECTOR_GP},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        start_32(state);
        set_reg(cases[i].in ? VCPU_RDI : VCPU_RSI, cases[i].offset);
        string_exit(POST, cases[i].size, cases[i].in ? IN : 0, ADDRESS_32, cases[i].segment);
        fake_set(vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + cases[i].segment), cases[i].rights);
        fake_set(vmcs_field_at(VMCS_INDEX_GUEST_ES_LIMIT + cases[i].segment), cases[i].limit);
        take_snapshot(&snapshot);
        handle();
        if (cases[i].fault < 0)
            assert_done(GUEST_RIP + LENGTH);
        else
            assert_fault((unsigned)cases[i].fault, 0);
    }

    /* In 64-bit mode only FS and GS have a base, and addresses are canonical. */
    start_64(state);
    guest_put(0x5000, "s", 1);
    set_reg(VCPU_RSI, 0x1000);
    string_exit(UART, 1, 0, ADDRESS_64, GS);
    fake_set(VMCS_GUEST_GS_BASE, 0x4000);
    handle();
    assert_done(GUEST_RIP + LENGTH);
    assert_string_equal(guest_console, "s");
    set_reg(VCPU_RSI, 0x7fffffffffff);
    string_exit(UART, 2, 0, ADDRESS_64, DS);
    take_snapshot(&snapshot);
    handle();
    assert_fault(X86_VECTOR_GP, 0);
    string_exit(UART, 2, 0, ADDRESS_64, SS);
    handle();
    assert_int_equal(next_injection(), 0x80000b0c);
}

/* Fails when what comes before the fault is undone, or what comes after it is done. */
static void page_faults(void **state)
{
    uint64_t rax;
    (void)state;

    guest_put(0x4ffe, "abcd", 4);
    guest_unmap(0x5000);
    set_reg(VCPU_RSI, 0x4ffe);
    set_reg(VCPU_RCX, 4);
    string(UART, 1, REP, ADDRESS_64);
    assert_int_equal(next_injection(), 0x80000b0e);
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), 0);
    assert_int_equal(fake_cpu.cr2, 0x5000);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), GUEST_RIP);
    assert_int_not_equal(fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_RF, 0);
    assert_int_equal(reg(VCPU_RSI), 0x5000);
    assert_int_equal(reg(VCPU_RCX), 2);
    assert_string_equal(guest_console, "ab");

    /* The receiver keeps what has no place to go, also where only the second half of it has none. */
    assert_true(platform_console_input(&partition->platform, '!'));
    for (uint64_t to = 0x4fff; to <= 0x5000; to++) {
        set_reg(VCPU_RDI, to);
        run_to_exit(EXIT_REASON_CPUID, 0, 2); /* the fault was delivered */
        handle();
        string_exit(UART, to == 0x5000 ? 1 : 2, IN, ADDRESS_64, ES);
        take_snapshot(&snapshot);
        handle();
        assert_fault(X86_VECTOR_PF, X86_PF_WRITE);
        assert_int_equal(fake_cpu.cr2, 0x5000);
    }
    run_to_exit(EXIT_REASON_CPUID, 0, 2);
    handle();
    io(UART, 1, IN);
    rax = reg(VCPU_RAX);
    assert_int_equal(rax & 0xff, '!');

    /* CPL 3 is SS's. */
    guest_put64(GUEST_TABLES + 0x3000 + 6 * 8, 0x6000 | 3);
    set_reg(VCPU_RSI, 0x6000);
    string_exit(POST, 1, 0, ADDRESS_64, DS);
    fake_set(VMCS_GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
    take_snapshot(&snapshot);
    handle();
    assert_fault(X86_VECTOR_PF, X86_PF_USER | X86_PF_PRESENT);
}

static void no_memory(void **state)
{
    (void)state;
    set_reg(VCPU_RDI, 0xa0000);
    string(POST, 1, IN, ADDRESS_32);
    assert_crashed("string I/O at 0xa0000");
}

/* Fails when an I/O breakpoint is missed, or hits what it is not meant for. */
static void breakpoints(void **state)
{
    (void)state;
    static const struct {
        uint64_t cr4, dr7, address;
        bool hit;
    } cases[] = {
        {X86_CR4_DE, 0x00020001, POST, true},
        {X86_CR4_DE, 0x00020002, POST, true},
        {0, 0x00020001, POST, false},
        {X86_CR4_DE, 0x00020000, POST, false},
        {X86_CR4_DE, 0x00010001, POST, false},
        {X86_CR4_DE, 0x00020001, POST + 1, false},
        {X86_CR4_DE, 0x000e0001, POST + 3, true},
        {X86_CR4_DE, 0x000e0001, POST + 4, false},
        {X86_CR4_DE, 0x00060001, POST - 1, false},
        {X86_CR4_DE, 0x00060001, POST + 1, true},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        start_32(state);
        io_exit(POST, 1, 0);
        fake_set(VMCS_GUEST_CR4, fake_get(VMCS_GUEST_CR4) | cases[i].cr4);
        fake_set(VMCS_GUEST_DR7, X86_DR7_RESERVED | cases[i].dr7);
        fake_cpu.dr[0] = cases[i].address;
        handle();
        assert_done(GUEST_RIP + LENGTH);
        assert_int_equal(fake_get(VMCS_GUEST_PENDING_DEBUG), cases[i].hit ? BIT(12) | X86_DR6_B(0) : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(plain, start_32),      cmocka_unit_test_setup(out_strings, start_32),
        cmocka_unit_test_setup(in_strings, start_32), cmocka_unit_test_setup(bounded, start_32),
        cmocka_unit_test_setup(segments, start_32),   cmocka_unit_test_setup(page_faults, start_64),
        cmocka_unit_test_setup(no_memory, start_32),  cmocka_unit_test_setup(breakpoints, start_32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
