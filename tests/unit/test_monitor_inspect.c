// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/monitor_inspect.c: fails when a byte of memory appears as another or where there is none, when a frame
 * is missed or read from elsewhere, or when the chain ends late, early or without its reason.
 */
#include "core/monitor_inspect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BASE 0x10000u

/* Guest memory: [BASE, BASE + size of bytes). */
static uint8_t bytes[0x1000];
static struct monitor_backtrace backtrace;

static bool read_bytes(void *context, uint64_t address, void *to, size_t size)
{
    assert_ptr_equal(context, bytes);
    if (address < BASE || address - BASE > sizeof(bytes) - size)
        return false;
    memcpy(to, bytes + (address - BASE), size);
    return true;
}

static const struct monitor_memory memory = {read_bytes, bytes};

static int clear(void **state)
{
    (void)state;
    memset(bytes, 0, sizeof(bytes));
    return 0;
}

static void expect_bytes(uint64_t address, size_t count, const char *text)
{
    char line[160];

    monitor_memory_line(&memory, address, count, line, sizeof(line));
    assert_string_equal(line, text);
}

static void memory_lines(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 32; n++)
        bytes[n] = (uint8_t)(n * 8 + 7);
    expect_bytes(BASE, 16,
                 "0000000000010000  07 0f 17 1f 27 2f 37 3f  47 4f 57 5f 67 6f 77 7f  |....'/7?GOW_gow.|");
    expect_bytes(BASE + 1, 1, "0000000000010001  0f                                                |.|");
    expect_bytes(BASE - 2, 4, "000000000000fffe  ?? ?? 07 0f                                       |....|");
    bytes[sizeof(bytes) - 1] = '~';
    expect_bytes(BASE + sizeof(bytes) - 1, 2,
                 "0000000000010fff  7e ??                                             |~.|");
}

static void memory_cut(void **state)
{
    char line[24];

    (void)state;
    monitor_memory_line(&memory, BASE, 16, line, sizeof(line));
    assert_string_equal(line, "0000000000010000  00 00");
}

/* A frame at `at`: the caller's frame pointer, and the return address above it. */
static void put_frame(unsigned width, uint64_t at, uint64_t caller, uint64_t address)
{
    memcpy(bytes + (at - BASE), &caller, width);
    memcpy(bytes + (at - BASE) + width, &address, width);
}

static void begin(uint64_t rip, uint64_t rbp, unsigned width)
{
    const struct monitor_frame frame = {.rip = rip, .rbp = rbp, .width = (uint8_t)width};

    monitor_backtrace_begin(&backtrace, &frame);
}

static void expect(const char *text)
{
    char line[160];

    assert_true(monitor_backtrace_line(&backtrace, &memory, line, sizeof(line)));
    assert_string_equal(line, text);
}

static void expect_end(const char *text)
{
    char line[160];

    expect(text);
    assert_false(monitor_backtrace_line(&backtrace, &memory, line, sizeof(line)));
}

static void chain(void **state)
{
    (void)state;
    put_frame(8, BASE + 0x100, BASE + 0x140, 0xffffffff81000123);
    put_frame(8, BASE + 0x140, 0, 0xffffffff81000456);
    begin(0xffffffff81000000, BASE + 0x100, 8);
    expect("#0  ffffffff81000000");
    expect("#1  ffffffff81000123  frame 0000000000010100");
    expect("#2  ffffffff81000456  frame 0000000000010140");
    expect_end("end: frame 0000000000000000 ends the chain");
}

static void broken(void **state)
{
    static const struct {
        uint64_t next;
        const char *end;
    } rows[] = {
        {BASE + 0x104, "end: frame 0000000000010104 is misaligned"},
        {BASE + 0x100, "end: frame 0000000000010100 is not above the one before"},
        {BASE + 0x0f8, "end: frame 00000000000100f8 is not above the one before"},
        {BASE + 0x1000, "end: frame 0000000000011000 is unreadable"},
        {BASE + 0xff8, "end: frame 0000000000010ff8 is unreadable"},
        {UINT64_MAX - 7, "end: frame fffffffffffffff8 is unreadable"},
    };

    (void)state;
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        put_frame(8, BASE + 0x100, rows[n].next, 0x1234);
        begin(0x1000, BASE + 0x100, 8);
        expect("#0  0000000000001000");
        expect("#1  0000000000001234  frame 0000000000010100");
        expect_end(rows[n].end);
    }
    begin(0x1000, 3, 8);
    expect("#0  0000000000001000");
    expect_end("end: frame 0000000000000003 is misaligned");
}

/* A chain that goes on is followed so far. */
static void long_chain(void **state)
{
    char text[80];

    (void)state;
    for (unsigned n = 0; n < 100; n++)
        put_frame(8, BASE + n * 16, BASE + (n + 1) * 16, n);
    begin(0, BASE, 8);
    expect("#0  0000000000000000");
    for (unsigned n = 1; n < 32; n++) {
        snprintf(text, sizeof(text), "#%-2u %016x  frame %016x", n, n - 1, BASE + (n - 1) * 16);
        expect(text);
    }
    expect_end("end: frame 00000000000101f0 is not looked at: that is enough");
}

/* In other modes slots are narrower, segments have bases, and what lies above a register's part is not its.
 */
static void narrow(void **state)
{
    struct monitor_frame frame = {
        .rip = 0x7c05, .rbp = 0xdead0100, .code_base = 0x7c00, .stack_base = BASE, .width = 2};

    (void)state;
    put_frame(2, BASE + 0x100, 0x180, 0x22);
    put_frame(2, BASE + 0x180, 0, 0x33);
    monitor_backtrace_begin(&backtrace, &frame);
    expect("#0  0000000000007c05");
    expect("#1  0000000000007c22  frame 0000000000000100");
    expect("#2  0000000000007c33  frame 0000000000000180");
    expect_end("end: frame 0000000000000000 ends the chain");

    frame = (struct monitor_frame){
        .rip = 0x1000, .rbp = 0xffffffff00010100, .code_base = 0xfffff000, .stack_base = 0, .width = 4};
    put_frame(4, BASE + 0x100, BASE + 0x200, 0x1234);
    put_frame(4, BASE + 0x200, 0, 0);
    monitor_backtrace_begin(&backtrace, &frame);
    expect("#0  0000000000001000");
    expect("#1  0000000000000234  frame 0000000000010100");
    expect("#2  00000000fffff000  frame 0000000000010200");
    frame = (struct monitor_frame){.rbp = 0x10200, .stack_base = 0xffffff00, .width = 4};
    monitor_backtrace_begin(&backtrace, &frame);
    expect("#0  0000000000000000");
    expect("#1  0000000000001234  frame 0000000000010200"); /* at 0x10100: addresses wrap at 4 GiB */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_lines, clear), cmocka_unit_test_setup(memory_cut, clear),
        cmocka_unit_test_setup(chain, clear),        cmocka_unit_test_setup(broken, clear),
        cmocka_unit_test_setup(long_chain, clear),   cmocka_unit_test_setup(narrow, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
