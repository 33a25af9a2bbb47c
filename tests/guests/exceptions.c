// SPDX-License-Identifier: BSD-2-Clause
/*
 * Every exception that software can provoke: vector, error code, saved RIP, and what delivery itself may meet
 * (SDM vol. 3, chapter "Interrupt and Exception Handling"). A row fails if any of the three is another.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/guest.h"

#define DR6_CLEAR   0xffff0ff0UL
#define DR6_B0      BIT(0)
#define DR6_BD      BIT(13)
#define DR6_BS      BIT(14)
#define DR7_CLEAR   0x400UL
#define DR7_L0      BIT(0)
#define DR7_GD      BIT(13)
#define DR7_WRITE   (1UL << 16)
#define DR7_IO      (2UL << 16)
#define DR7_4       (3UL << 18)

#define VECTOR_TEST 0x50

#define ROW(name, vector, error, offset, code)                                                               \
    do {                                                                                                     \
        TRY_PLAIN(code);                                                                                     \
        guest_expect(name, vector, error, offset);                                                           \
    } while (0)

static void plain_rows(void)
{
    ROW("none", NO_VECTOR, 0, 0, "nop");
    ROW("de-div", VECTOR_DE, 0, 4, "xorl %%ecx, %%ecx; xorl %%edx, %%edx; div %%ecx");
    ROW("de-idiv-overflow", VECTOR_DE, 0, 11, "movl $0x80000000, %%eax; cltd; movl $-1, %%ecx; idiv %%ecx");
    ROW("de-div-overflow", VECTOR_DE, 0, 10, "movl $1, %%edx; movl $1, %%ecx; div %%ecx");
    ROW("bp-cc", VECTOR_BP, 0, 1, "int3");
    ROW("bp-cd03", VECTOR_BP, 0, 2, ".byte 0xcd, 3");
    ROW("int-4", VECTOR_OF, 0, 2, "int $4");
    ROW("int-64", VECTOR_LEAVE, 0, 2, "int " VECTOR_LEAVE_TEXT);
    ROW("int1", VECTOR_DB, 0, 1, ".byte 0xf1");
    ROW("ud-ud2", VECTOR_UD, 0, 0, "ud2");
    ROW("ud-ud1", VECTOR_UD, 0, 0, ".byte 0x0f, 0xb9, 0xc0");
    ROW("ud-lock-nop", VECTOR_UD, 0, 0, ".byte 0xf0, 0x90");
    ROW("ud-lock-load", VECTOR_UD, 0, 0, ".byte 0xf0, 0x8b, 0x04, 0x24");
    ROW("ud-lock-register", VECTOR_UD, 0, 0, ".byte 0xf0, 0x01, 0xc0");
    ROW("ud-rsm", VECTOR_UD, 0, 0, "rsm");
    ROW("ud-vmread", VECTOR_UD, 0, 0, "vmread %%rax, %%rcx");
    ROW("ud-vmlaunch", VECTOR_UD, 0, 0, "vmlaunch");
    ROW("ud-vmxoff", VECTOR_UD, 0, 0, "vmxoff");
    ROW("ud-mov-cr1", VECTOR_UD, 0, 0, ".byte 0x0f, 0x20, 0xc8");
    ROW("ud-mov-cr5", VECTOR_UD, 0, 0, ".byte 0x0f, 0x20, 0xe8");
    ROW("ud-mov-to-cs", VECTOR_UD, 0, 0, ".byte 0x8e, 0xc8");
    ROW("ud-mov-segment-6", VECTOR_UD, 0, 0, ".byte 0x8e, 0xf0");
    ROW("gp-non-canonical-read", VECTOR_GP, 0, 10, "movabs $0x8000000000000000, %%rax; movb (%%rax), %%al");
    ROW("gp-non-canonical-write", VECTOR_GP, 0, 10, "movabs $0x800000000000, %%rax; movb %%al, (%%rax)");
    ROW("gp-non-canonical-jump", VECTOR_GP, 0, 10, "movabs $0x800000000000, %%rax; jmp *%%rax");
    ROW("gp-non-canonical-return", VECTOR_GP, 0, 11, "movabs $0x800000000000, %%rax; pushq %%rax; retq");
    guest_idt[VECTOR_SS].ist = IST_FREE;
    ROW("ss-non-canonical-push", VECTOR_SS, 0, 13,
        "movabs $0x8000000000000000, %%rax; movq %%rax, %%rsp; pushq %%rax");
    ROW("ss-non-canonical-rsp-base", VECTOR_SS, 0, 13,
        "movabs $0x8000000000000000, %%rax; movq %%rax, %%rsp; movb (%%rsp), %%al");
    guest_gate_reset(VECTOR_SS);
    ROW("gp-length-16", VECTOR_GP, 0, 0,
        ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, "
        "0x90");
    ROW("length-15", NO_VECTOR, 0, 0,
        ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90");
    ROW("gp-movaps-unaligned-needs-sse", VECTOR_UD, 0, 0, "movaps 1(%%rsp), %%xmm0");
    ROW("pf-read", VECTOR_PF, 0, 5, "movl $0xa0000000, %%eax; movb (%%rax), %%al");
    guest_equal("pf-read-cr2", guest_fault.cr2, GUEST_UNMAPPED);
    ROW("pf-write", VECTOR_PF, PF_WRITE, 5, "movl $0xa0000123, %%eax; movb %%al, (%%rax)");
    guest_equal("pf-write-cr2", guest_fault.cr2, GUEST_UNMAPPED + 0x123);
    ROW("pf-fetch", VECTOR_PF, 0, GUEST_UNMAPPED - (int64_t)guest_try.start,
        "movl $0xa0000000, %%eax; jmp *%%rax");
    ROW("pf-read-modify-write", VECTOR_PF, PF_WRITE, 5, "movl $0xa0000000, %%eax; incl (%%rax)");
}

/* Opcodes that 64-bit mode took away or never had, each at the start of a buffer. */
static void opcode_rows(void)
{
    static const uint8_t opcodes[][3] = {
        {0x06},       {0x07},       {0x0e},       {0x16},       {0x17},       {0x1e},       {0x1f},
        {0x27},       {0x2f},       {0x37},       {0x3f},       {0x60},       {0x61},       {0x82, 0xc0},
        {0x9a},       {0xce},       {0xd4, 0x0a}, {0xd5, 0x0a}, {0xd6},       {0xea},       {0x0f, 0x04},
        {0x0f, 0x0a}, {0x0f, 0x0c}, {0x0f, 0x24}, {0x0f, 0x36}, {0x0f, 0xa6}, {0x0f, 0xff}, {0xfe, 0xf8},
        {0xff, 0xf8}, {0xc6, 0xc8}, {0x8f, 0xc8}, {0x8d, 0xc0},
    };
    uint8_t *code = (uint8_t *)GUEST_PLAYGROUND;

    for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
        char name[32];

        memset(code, 0x90, 32);
        memcpy(code, opcodes[i], sizeof(opcodes[i]));
        format_text(name, sizeof(name), "ud-%02x-%02x", opcodes[i][0], opcodes[i][1]);
        TRY("call *%0",
            :
            : "r"(code)
            : "memory", "cc", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
        guest_expect(name, VECTOR_UD, 0, (int64_t)((uint64_t)code - guest_try.start));
    }
}

/* ---- #DB ---------------------------------------------------------------------------------------------- */

static volatile uint32_t watched;
static unsigned handled;
static uint64_t handler_flags, handler_rflags;

static void resume_with_rf(struct guest_frame *frame)
{
    handled++;
    frame->rflags |= RFLAGS_RF;
}

static void clear_debug(void)
{
    write_dr7(DR7_CLEAR);
    write_dr6(DR6_CLEAR);
}

static void debug_rows(void)
{
    clear_debug();
    ROW("db-single-step", VECTOR_DB, 0, 10, "pushfq; orl $0x100, (%%rsp); popfq; nop; nop");
    guest_equal("db-single-step-dr6", guest_fault.dr6, DR6_CLEAR | DR6_BS);
    CHECK("db-single-step-tf-saved", (guest_fault.frame.rflags & RFLAGS_TF) != 0);
    clear_debug();
    TRY("pushfq; orl $0x100, (%%rsp); popfq; movl %%edx, %%ss; nop; nop",
        :
        : "d"(SELECTOR_DATA)
        : "memory", "cc");
    guest_expect("db-single-step-after-mov-ss", VECTOR_DB, 0, 12);
    clear_debug();
    ROW("db-single-step-over-int", VECTOR_BP, 0, 10, "pushfq; orl $0x100, (%%rsp); popfq; int3; nop");
    clear_debug();
    ROW("db-single-step-popf-clears", VECTOR_DB, 0, 11,
        "pushfq; pushfq; orl $0x100, (%%rsp); popfq; popfq; nop");
    clear_debug();

    write_dr0((uint64_t)&watched);
    write_dr7(DR7_CLEAR | DR7_L0 | DR7_WRITE | DR7_4);
    TRY("movl $1, (%%rdi); nop", : : "D"(&watched) : "memory");
    guest_expect("db-write", VECTOR_DB, 0, 6);
    guest_equal("db-write-dr6", guest_fault.dr6, DR6_CLEAR | DR6_B0);
    guest_equal("db-write-done", watched, 1);
    clear_debug();
    write_dr7(DR7_CLEAR | DR7_L0 | DR7_WRITE | DR7_4);
    TRY("movl (%%rdi), %%eax; nop", : : "D"(&watched) : "memory", "rax");
    guest_expect("db-write-not-on-read", NO_VECTOR, 0, 0);
    TRY("movb %%al, 3(%%rdi); nop", : : "D"(&watched) : "memory", "rax");
    guest_expect("db-write-last-byte", VECTOR_DB, 0, 3);
    clear_debug();

    handled = 0;
    guest_handlers[VECTOR_DB] = resume_with_rf;
    __asm__ volatile("movq $1f, %%rax; movq %%rax, %%dr0; movq %0, %%dr7; 1: nop"
                     :
                     : "r"(DR7_CLEAR | DR7_L0)
                     : "memory", "rax");
    clear_debug();
    guest_handlers[VECTOR_DB] = NULL;
    guest_equal("db-execute-and-rf", handled, 1);

    write_cr4(read_cr4() | CR4_DE);
    write_dr0(0x80);
    write_dr7(DR7_CLEAR | DR7_L0 | DR7_IO);
    ROW("db-io", VECTOR_DB, 0, 2, "outb %%al, $0x80; nop");
    clear_debug();
    write_dr7(DR7_CLEAR | DR7_L0 | DR7_IO);
    ROW("db-io-other-port", NO_VECTOR, 0, 0, "outb %%al, $0x81; nop");
    clear_debug();
    ROW("ud-dr4-with-de", VECTOR_UD, 0, 0, "movq %%dr4, %%rax");
    ROW("ud-dr5-with-de", VECTOR_UD, 0, 0, "movq %%rax, %%dr5");
    write_cr4(read_cr4() & ~CR4_DE);
    ROW("dr4-without-de", NO_VECTOR, 0, 0, "movq %%dr4, %%rax");

    write_dr7(DR7_CLEAR | DR7_GD);
    ROW("db-general-detect", VECTOR_DB, 0, 0, "movq %%dr0, %%rax");
    guest_equal("db-general-detect-dr6", guest_fault.dr6, DR6_CLEAR | DR6_BD);
    guest_equal("db-general-detect-clears-gd", read_dr7(), DR7_CLEAR);
    clear_debug();
    ROW("gp-dr7-high", VECTOR_GP, 0, 10, "movabs $0x100000400, %%rax; movq %%rax, %%dr7");
    ROW("gp-dr6-high", VECTOR_GP, 0, 10, "movabs $0x100000000, %%rax; movq %%rax, %%dr6");
    write_dr7(~0xffff2000UL & 0xffffffff);
    write_dr6(0);
    guest_equal("dr6-fixed-bits", read_dr6() & 0xffff1ff0, 0xffff0ff0);
    clear_debug();
    guest_equal("dr7-readback", read_dr7(), DR7_CLEAR);
    write_dr1(0x123456789abcUL);
    write_dr2(NON_CANONICAL);
    write_dr3(~0UL);
    CHECK("dr-readback", read_dr1() == 0x123456789abcUL && read_dr2() == NON_CANONICAL && read_dr3() == ~0UL);
}

/* ---- x87, SSE, alignment ------------------------------------------------------------------------------ */

#define X87_DIVIDE "fninit; pushq $0x37b; fldcw (%%rsp); fld1; fldz; .byte 0xde, 0xf9; "
#define SSE_DIVIDE                                                                                           \
    "pushq $0x1d80; ldmxcsr (%%rsp); movl $0x3f800000, %%eax; movd %%eax, %%xmm1; xorps %%xmm0, %%xmm0; "    \
    "divss %%xmm0, %%xmm1"

static void float_rows(void)
{
    uint64_t cr0 = read_cr0(), cr4 = read_cr4();

    ROW("mf-fwait", VECTOR_MF, 0, 16, X87_DIVIDE "fwait");
    ROW("mf-next-x87", VECTOR_MF, 0, 16, X87_DIVIDE "fld1");
    ROW("mf-not-by-fninit", NO_VECTOR, 0, 0, X87_DIVIDE "fninit");
    write_cr0(cr0 | CR0_TS);
    ROW("nm-ts", VECTOR_NM, 0, 0, "fld1");
    ROW("nm-ts-mp-wait", VECTOR_NM, 0, 0, "fwait");
    write_cr0((cr0 | CR0_TS) & ~CR0_MP);
    ROW("ts-no-mp-wait", NO_VECTOR, 0, 0, "fwait");
    write_cr0(cr0 | CR0_EM);
    ROW("nm-em", VECTOR_NM, 0, 0, "fld1");
    write_cr0(cr0);
    ROW("ud-sse-without-osfxsr", VECTOR_UD, 0, 0, "xorps %%xmm0, %%xmm0");
    write_cr4(cr4 | CR4_OSFXSR);
    ROW("sse-with-osfxsr", NO_VECTOR, 0, 0, "xorps %%xmm0, %%xmm0");
    ROW("gp-movaps-unaligned", VECTOR_GP, 0, 0, "movaps 1(%%rsp), %%xmm0");
    ROW("ud-xm-without-osxmmexcpt", VECTOR_UD, 0, 21, SSE_DIVIDE);
    write_cr4(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);
    ROW("xm-divss", VECTOR_XM, 0, 21, SSE_DIVIDE);
    ROW("gp-mxcsr-reserved", VECTOR_GP, 0, 5, "pushq $0x10000; ldmxcsr (%%rsp)");
    ROW("mxcsr-default", NO_VECTOR, 0, 0, "pushq $0x1f80; ldmxcsr (%%rsp); popq %%rax");
    write_cr0(cr0 | CR0_TS);
    ROW("nm-ts-sse", VECTOR_NM, 0, 0, "xorps %%xmm0, %%xmm0");
    write_cr0(cr0 | CR0_EM);
    ROW("ud-em-sse", VECTOR_UD, 0, 0, "xorps %%xmm0, %%xmm0");
    write_cr0(cr0);
    write_cr4(cr4);
    ROW("ud-xsave-without-osxsave", VECTOR_UD, 0, 0, "xgetbv");
    ROW("ud-avx-without-osxsave", VECTOR_UD, 0, 0, "vxorps %%xmm0, %%xmm0, %%xmm0");
    write_cr0(cr0 | CR0_AM);
    ROW("ac-not-in-ring-0", NO_VECTOR, 0, 0,
        "pushfq; orl $0x40000, (%%rsp); popfq; movl 1(%%rsp), %%eax; pushfq; andl $~0x40000, (%%rsp); popfq");
    write_cr0(cr0);
}

/* ---- Gates -------------------------------------------------------------------------------------------- */

#define IDT_ERROR(vector) ((vector)*8UL + ERROR_IDT)

/*
 * #SS for a stack that the TSS names badly: the SDM's error code is 0 (INT n, "IF new RSP is not canonical"),
 * the emulator's is the old SS. A partition's deliveries are the processor's own, so the two must agree in
 * any case.
 */
static void expect_ss_any_error(const char *name)
{
    char value[64];

    guest_equal(name, (uint64_t)guest_fault.vector, VECTOR_SS);
    format_text(value, sizeof(value), "%s-error", name);
    guest_value(value, guest_fault.error);
}

static void test_gate_row(const char *name, int vector, uint64_t error)
{
    TRY_PLAIN("int $0x50");
    guest_expect(name, vector, error, vector == VECTOR_TEST ? 2 : 0);
    guest_gate_reset(VECTOR_TEST);
}

static void note_flags(struct guest_frame *frame)
{
    handled++;
    handler_flags = read_flags();
    handler_rflags = frame->rflags;
}

static void gate_rows(void)
{
    struct gate *gate = &guest_idt[VECTOR_TEST];

    gate->attributes &= 0x7f;
    test_gate_row("np-gate", VECTOR_NP, IDT_ERROR(VECTOR_TEST));
    for (unsigned type = 0; type < 16; type++) {
        char name[32];
        bool good = type == 14 || type == 15;
        format_text(name, sizeof(name), "gate-type-%u", type);
        gate->attributes = (uint8_t)(0x80 | type);
        test_gate_row(name, good ? VECTOR_TEST : VECTOR_GP, good ? 0 : IDT_ERROR(VECTOR_TEST));
    }
    gate->attributes |= 0x10;
    test_gate_row("gp-gate-s-bit", VECTOR_GP, IDT_ERROR(VECTOR_TEST));
    gate->selector = 0;
    test_gate_row("gp-gate-null-selector", VECTOR_GP, 0);
    gate->selector = SELECTOR_DATA;
    test_gate_row("gp-gate-data-segment", VECTOR_GP, SELECTOR_DATA);
    gate->selector = SELECTOR_CODE32;
    test_gate_row("gp-gate-32-bit-segment", VECTOR_GP, SELECTOR_CODE32);
    gate->selector = GDT_SLOTS * 8;
    test_gate_row("gp-gate-beyond-gdt", VECTOR_GP, GDT_SLOTS * 8);
    guest_segment(SELECTOR_FREE, 0, 0xfffff, SEGMENT_CODE_DATA | SEGMENT_TYPE(11) | SEGMENT_LONG);
    gate->selector = SELECTOR_FREE;
    test_gate_row("np-gate-segment", VECTOR_NP, SELECTOR_FREE);
    guest_segment(SELECTOR_FREE, 0, 0xfffff,
                  SEGMENT_CODE_DATA | SEGMENT_TYPE(11) | SEGMENT_LONG | SEGMENT_PRESENT | SEGMENT_DPL(3));
    gate->selector = SELECTOR_FREE;
    test_gate_row("gp-gate-segment-dpl", VECTOR_GP, SELECTOR_FREE);
    gate->offset_high = 0x8000;
    test_gate_row("gp-gate-non-canonical", VECTOR_GP, 0);

    gate->ist = IST_FREE;
    TRY_PLAIN("int $0x50");
    guest_equal("ist-stack", guest_fault.frame_address + sizeof(struct guest_frame),
                guest_tss.ist[IST_FREE - 1]);
    guest_tss.ist[IST_FREE - 1] -= 5;
    TRY_PLAIN("int $0x50");
    guest_equal("ist-stack-aligned", guest_fault.frame_address + sizeof(struct guest_frame),
                guest_tss.ist[IST_FREE - 1] - 11);
    guest_tss.ist[IST_FREE - 1] += 5;
    uint64_t ist = guest_tss.ist[IST_FREE - 1];
    guest_tss.ist[IST_FREE - 1] = NON_CANONICAL;
    gate->ist = IST_FREE;
    TRY_PLAIN("int $0x50");
    guest_gate_reset(VECTOR_TEST);
    expect_ss_any_error("ss-ist-non-canonical");
    guest_tss.ist[IST_FREE - 1] = ist;

    guest_tss_load(0x67);
    gate->ist = IST_FREE;
    test_gate_row("ist-tss-limit-enough", VECTOR_TEST, 0);
    guest_tss_load(0x3b); /* IST 4 is at 0x3c; IST 1, for the double fault, at 0x24 */
    gate->ist = IST_FREE;
    test_gate_row("ts-ist-beyond-tss", VECTOR_TS, SELECTOR_TSS);
    guest_tss_load(sizeof(guest_tss) - 1);

    guest_idt_load(VECTOR_TEST * 16 - 1);
    test_gate_row("gp-idt-limit", VECTOR_GP, IDT_ERROR(VECTOR_TEST));
    guest_idt_load(VECTOR_TEST * 16 + 14);
    test_gate_row("gp-idt-limit-last-byte", VECTOR_GP, IDT_ERROR(VECTOR_TEST));
    guest_idt_load(sizeof(guest_idt) - 1);

    guest_handlers[VECTOR_TEST] = note_flags;
    write_flags(read_flags() | RFLAGS_IF | RFLAGS_DF);
    __asm__ volatile("int $0x50" : : : "memory");
    cli();
    CHECK("interrupt-gate-clears-if", (handler_flags & RFLAGS_IF) == 0 && (handler_rflags & RFLAGS_IF) != 0);
    guest_idt[VECTOR_TEST].attributes = GATE_TRAP;
    write_flags(read_flags() | RFLAGS_IF | RFLAGS_DF | RFLAGS_NT);
    __asm__ volatile("int $0x50" : : : "memory");
    write_flags(RFLAGS_FIXED);
    CHECK("trap-gate-keeps-if", (handler_flags & RFLAGS_IF) != 0);
    CHECK("gate-clears-nt", (handler_flags & RFLAGS_NT) == 0 && (handler_rflags & RFLAGS_NT) != 0);
    CHECK("gate-saves-df", (handler_rflags & RFLAGS_DF) != 0);
    guest_handlers[VECTOR_TEST] = NULL;
    guest_gate_reset(VECTOR_TEST);
}

static void all_vectors(void)
{
    uint8_t *code = (uint8_t *)GUEST_PLAYGROUND;
    unsigned wrong = 0;

    memcpy(code, (const uint8_t[]){0xcd, 0, 0xc3}, 3);
    for (unsigned vector = 0; vector < 256; vector++) {
        /* The stubs of these expect an error code, which INT n does not push. */
        if (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
            continue;
        code[1] = (uint8_t)vector;
        TRY("call *%0", : : "r"(code) : "memory", "cc");
        wrong += guest_fault.vector != (int)vector;
    }
    guest_equal("int-n-all", wrong, 0);
}

/* ---- Faults while another is delivered (SDM vol. 3, "Double Fault Exception", table of combinations) -- */

static void break_gate(unsigned vector)
{
    guest_idt[vector].attributes = 0x80;
}

static void delivery_rows(void)
{
    uint64_t top = (uint64_t)guest_map(1, 0); /* a stack whose first push meets a page that is not there */

    guest_map(1, GUEST_PLAYGROUND | PAGE_PRESENT | PAGE_WRITE);

    guest_idt[VECTOR_UD].attributes = 0;
    ROW("ud-then-gp", VECTOR_GP, IDT_ERROR(VECTOR_UD) | ERROR_EXT, 0, "ud2");
    guest_idt[VECTOR_UD].attributes = GATE_INTERRUPT & 0x7f;
    ROW("ud-then-np", VECTOR_NP, IDT_ERROR(VECTOR_UD) | ERROR_EXT, 0, "ud2");
    guest_gate_reset(VECTOR_UD);
    break_gate(VECTOR_DE);
    TRY_PLAIN("xorl %%ecx, %%ecx; div %%ecx");
    guest_expect_vector("df-de-then-gp", VECTOR_DF, 0);
    guest_gate_reset(VECTOR_DE);
    break_gate(VECTOR_GP);
    TRY_PLAIN("movl $0xff0, %%eax; movl %%eax, %%ds");
    guest_expect_vector("df-gp-then-gp", VECTOR_DF, 0);
    guest_gate_reset(VECTOR_GP);
    guest_idt[VECTOR_GP].attributes = GATE_INTERRUPT & 0x7f;
    TRY_PLAIN("movl $0xff0, %%eax; movl %%eax, %%ds");
    guest_expect_vector("df-gp-then-np", VECTOR_DF, 0);
    guest_gate_reset(VECTOR_GP);
    break_gate(VECTOR_PF);
    TRY_PLAIN("movl $0xa0000000, %%eax; movb (%%rax), %%al");
    guest_expect_vector("df-pf-then-gp", VECTOR_DF, 0);
    guest_equal("df-pf-then-gp-cr2", guest_fault.cr2, GUEST_UNMAPPED);
    guest_gate_reset(VECTOR_PF);
    break_gate(VECTOR_NP);
    guest_segment(SELECTOR_FREE, 0, 0xfffff, SEGMENT_CODE_DATA | SEGMENT_TYPE(3));
    TRY("movl %%eax, %%ds", : : "a"(SELECTOR_FREE) : "memory");
    guest_expect_vector("df-np-then-gp", VECTOR_DF, 0);
    guest_gate_reset(VECTOR_NP);
    break_gate(VECTOR_NM);
    write_cr0(read_cr0() | CR0_TS);
    TRY_PLAIN("fld1");
    write_cr0(read_cr0() & ~CR0_TS);
    guest_expect("nm-then-gp", VECTOR_GP, IDT_ERROR(VECTOR_NM) | ERROR_EXT, 0);
    guest_gate_reset(VECTOR_NM);
    break_gate(VECTOR_BP);
    ROW("bp-then-gp-no-ext", VECTOR_GP, IDT_ERROR(VECTOR_BP), 0, "int3");
    guest_gate_reset(VECTOR_BP);

    /* The pushes fault: #PF goes to its own stack. */
    guest_idt[VECTOR_PF].ist = IST_FREE;
    TRY("movq %0, %%rsp; ud2", : : "r"(top) : "memory");
    guest_expect_vector("ud-push-then-pf", VECTOR_PF, PF_WRITE);
    guest_equal("ud-push-then-pf-cr2", guest_fault.cr2, top - 8);
    CHECK("ud-push-then-pf-rip", *(const uint16_t *)guest_fault.frame.rip == 0x0b0f);
    TRY("movq %0, %%rsp; int $0x50", : : "r"(top) : "memory");
    guest_expect_vector("int-push-then-pf", VECTOR_PF, PF_WRITE);
    CHECK("int-push-then-pf-rip", *(const uint16_t *)guest_fault.frame.rip == 0x50cd);
    TRY("movq %0, %%rsp; movl $0xff0, %%eax; movl %%eax, %%ds", : : "r"(top) : "memory", "rax");
    guest_expect_vector("gp-push-then-pf", VECTOR_PF, PF_WRITE);
    guest_gate_reset(VECTOR_PF);
    TRY("movq %0, %%rsp; movb (%1), %%al", : : "r"(top), "r"(GUEST_UNMAPPED) : "memory", "rax");
    guest_expect_vector("df-pf-push-then-pf", VECTOR_DF, 0);
    guest_equal("df-pf-push-then-pf-cr2", guest_fault.cr2, top - 8);
    TRY("movq %0, %%rsp; ud2", : : "r"(top) : "memory");
    guest_expect_vector("df-ud-push-pf-push", VECTOR_DF, 0);

    /* A stack of which only the lower half of the frame is missing: nothing of it may have been written
     * before. */
    uint64_t split = (uint64_t)guest_map(3, GUEST_PLAYGROUND | PAGE_PRESENT | PAGE_WRITE) + 16;
    guest_idt[VECTOR_PF].ist = IST_FREE;
    TRY("movq %0, %%rsp; ud2", : : "r"(split) : "memory");
    guest_expect_vector("ud-push-half-then-pf", VECTOR_PF, PF_WRITE);
    guest_equal("ud-push-half-then-pf-cr2", guest_fault.cr2, split - 24);
    guest_gate_reset(VECTOR_PF);

    TRY("movq %0, %%rsp; ud2", : : "r"(NON_CANONICAL) : "memory");
    guest_expect_vector("df-ss-twice", VECTOR_DF, 0);
    guest_idt[VECTOR_SS].ist = IST_FREE;
    TRY("movq %0, %%rsp; ud2", : : "r"(NON_CANONICAL) : "memory");
    guest_expect_vector("ud-then-ss", VECTOR_SS, ERROR_EXT);
    TRY("movq %0, %%rsp; int3", : : "r"(NON_CANONICAL) : "memory");
    guest_expect_vector("int-then-ss-no-ext", VECTOR_SS, 0);
    guest_gate_reset(VECTOR_SS);

    /* An instruction over the end of what is mapped: the address is that of the missing byte. */
    uint8_t *end = (uint8_t *)GUEST_PLAYGROUND + PAGE_SIZE - 2;
    memcpy(end, (const uint8_t[]){0xb8, 0x00}, 2);
    TRY("call *%0", : : "r"(GUEST_WINDOW + 2 * PAGE_SIZE - 2) : "memory", "rax");
    guest_expect("pf-second-half-of-instruction", VECTOR_PF, 0,
                 (int64_t)(GUEST_WINDOW + 2 * PAGE_SIZE - 2 - guest_try.start));
    guest_equal("pf-second-half-of-instruction-cr2", guest_fault.cr2, GUEST_WINDOW + 2 * PAGE_SIZE);
}

/* ---- Saved state, nesting ----------------------------------------------------------------------------- */

static unsigned depth;

static void nest(struct guest_frame *frame)
{
    frame->rip += 2;
    if (++depth < 8)
        __asm__ volatile("ud2" : : : "memory");
}

static void state_rows(void)
{
    TRY_PLAIN("ud2");
    CHECK("fault-saves-rf", (guest_fault.frame.rflags & RFLAGS_RF) != 0);
    CHECK("frame-aligned", ((guest_fault.frame_address + sizeof(struct guest_frame)) & 15) == 0);
    guest_equal("fault-saves-rsp", guest_fault.frame.rsp, guest_try.rsp);
    guest_equal("fault-saves-cs", guest_fault.frame.cs, SELECTOR_CODE);
    guest_equal("fault-saves-ss", guest_fault.frame.ss, SELECTOR_DATA);
    TRY_PLAIN("int3");
    CHECK("trap-saves-no-rf", (guest_fault.frame.rflags & RFLAGS_RF) == 0);
    TRY_PLAIN("movl $0xa0000000, %%eax; movb (%%rax), %%al");
    CHECK("pf-saves-rf", (guest_fault.frame.rflags & RFLAGS_RF) != 0);

    /* A REP that faults midway has done what it did, and its registers say so. */
    uint64_t to = (uint64_t)guest_map(1, GUEST_PLAYGROUND | PAGE_PRESENT | PAGE_WRITE) + PAGE_SIZE - 10,
             count = 64;
    TRY("rep stosb", : "+D"(to), "+c"(count) : "a"(0x5a) : "memory");
    guest_expect("rep-pf", VECTOR_PF, PF_WRITE, 0);
    guest_equal("rep-pf-count", count, 54);
    guest_equal("rep-pf-address", to, GUEST_WINDOW + 2 * PAGE_SIZE);

    depth = 0;
    guest_handlers[VECTOR_UD] = nest;
    __asm__ volatile("ud2" : : : "memory");
    guest_handlers[VECTOR_UD] = NULL;
    guest_equal("nested-eight", depth, 8);
}

/* ---- Ring 3 and 32-bit code --------------------------------------------------------------------------- */

SNIPPET(user_hlt, 64, "hlt");
SNIPPET(user_cli, 64, "cli");
SNIPPET(user_sti, 64, "sti");
SNIPPET(user_in, 64, "inb $0x80, %al");
SNIPPET(user_out, 64, "outb %al, $0x80");
SNIPPET(user_outl, 64, "outl %eax, $0x7f");
SNIPPET(user_read_cr0, 64, "mov %cr0, %rax");
SNIPPET(user_write_cr3, 64, "mov %rax, %cr3");
SNIPPET(user_read_cr8, 64, "mov %cr8, %rax");
SNIPPET(user_clts, 64, "clts");
SNIPPET(user_lmsw, 64, "lmsw %ax");
SNIPPET(user_lgdt, 64, "lgdt (%rsp)");
SNIPPET(user_lidt, 64, "lidt (%rsp)");
SNIPPET(user_lldt, 64, "lldt %ax");
SNIPPET(user_ltr, 64, "ltr %ax");
SNIPPET(user_invlpg, 64, "invlpg (%rsp)");
SNIPPET(user_wbinvd, 64, "wbinvd");
SNIPPET(user_invd, 64, "invd");
SNIPPET(user_rdmsr, 64, "movl $0x10, %ecx; rdmsr");
SNIPPET(user_wrmsr, 64, "movl $0x10, %ecx; wrmsr");
SNIPPET(user_read_dr, 64, "mov %dr0, %rax");
SNIPPET(user_rdpmc, 64, "xorl %ecx, %ecx; rdpmc");
SNIPPET(user_swapgs, 64, "swapgs");
SNIPPET(user_sysret, 64, "sysretq");
SNIPPET(user_sysexit, 64, "sysexitq");
SNIPPET(user_int_dpl0, 64, "int $0x50");
SNIPPET(user_int3, 64, "int3");
SNIPPET(user_int1, 64, ".byte 0xf1");
SNIPPET(user_ud, 64, "ud2");
SNIPPET(user_de, 64, "xorl %ecx, %ecx; xorl %edx, %edx; div %ecx");
SNIPPET(user_ac, 64, "movl -7(%rsp), %eax");
SNIPPET(user_popf, 64, "pushfq; orl $0x3200, (%rsp); popfq; pushfq; popq %rax");
SNIPPET(user_rdtsc, 64, "rdtsc");
SNIPPET(user_cpuid, 64, "xorl %eax, %eax; cpuid");
SNIPPET(user_ss_null, 64, "xorl %eax, %eax; movl %eax, %ss");
SNIPPET(user_ds_null, 64, "xorl %eax, %eax; movl %eax, %ds");
SNIPPET(user_ds_kernel, 64, "movl $0x10, %eax; movl %eax, %ds");
SNIPPET(user_ss_kernel, 64, "movl $0x10, %eax; movl %eax, %ss");
SNIPPET(user_far_return, 64, "pushq $8; pushq $0; lretq");
SNIPPET(user_read, 64, "movb (%rsi), %al");
SNIPPET(user_write, 64, "movb %al, (%rsi)");
SNIPPET(user_jump, 64, "jmp *%rsi");
SNIPPET(user_leave, 64, "nop");
SNIPPET(compat_into, 32, "movb $0x7f, %al; addb $1, %al; into");
SNIPPET(compat_into_not, 32, "xorl %eax, %eax; into");
SNIPPET(compat_bound, 32, "pushl $5; pushl $1; movl $9, %eax; bound %eax, (%esp)");
SNIPPET(compat_bound_in, 32, "pushl $5; pushl $1; movl $5, %eax; bound %eax, (%esp)");
SNIPPET(compat_aam, 32, ".byte 0xd4, 0");
SNIPPET(compat_swapgs, 32, ".byte 0x0f, 0x01, 0xf8");
SNIPPET(compat_null_ds, 32, "xorl %eax, %eax; movl %eax, %ds; movl (%eax), %eax");
SNIPPET(compat_wrap, 32, "movl $0x10000000, %ecx; movb 0xe0000000(, %ecx, 4), %al");

static const struct {
    const char *name;
    const char *code;
    uint16_t segment;
    int vector;
    uint64_t error;
    int64_t offset;
    uint64_t argument;
} runs[] = {
    {"user-leave", user_leave, SELECTOR_USER_CODE, VECTOR_LEAVE, 0, 3, 0},
    {"user-hlt", user_hlt, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-cli", user_cli, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-sti", user_sti, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-in", user_in, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-out", user_out, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-read-cr0", user_read_cr0, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-write-cr3", user_write_cr3, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-read-cr8", user_read_cr8, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-clts", user_clts, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-lmsw", user_lmsw, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-lgdt", user_lgdt, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-lidt", user_lidt, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-lldt", user_lldt, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-ltr", user_ltr, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-invlpg", user_invlpg, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-wbinvd", user_wbinvd, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-invd", user_invd, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-rdmsr", user_rdmsr, SELECTOR_USER_CODE, VECTOR_GP, 0, 5, 0},
    {"user-wrmsr", user_wrmsr, SELECTOR_USER_CODE, VECTOR_GP, 0, 5, 0},
    {"user-read-dr", user_read_dr, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-rdpmc", user_rdpmc, SELECTOR_USER_CODE, VECTOR_GP, 0, 2, 0},
    {"user-swapgs", user_swapgs, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-sysret-without-sce", user_sysret, SELECTOR_USER_CODE, VECTOR_UD, 0, 0, 0},
    {"user-sysexit", user_sysexit, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, 0},
    {"user-int-dpl0", user_int_dpl0, SELECTOR_USER_CODE, VECTOR_GP, IDT_ERROR(VECTOR_TEST), 0, 0},
    {"user-int3-dpl0", user_int3, SELECTOR_USER_CODE, VECTOR_GP, IDT_ERROR(VECTOR_BP), 0, 0},
    {"user-int1-any-dpl", user_int1, SELECTOR_USER_CODE, VECTOR_DB, 0, 1, 0},
    {"user-ud", user_ud, SELECTOR_USER_CODE, VECTOR_UD, 0, 0, 0},
    {"user-de", user_de, SELECTOR_USER_CODE, VECTOR_DE, 0, 4, 0},
    {"user-unaligned-without-ac", user_ac, SELECTOR_USER_CODE, VECTOR_LEAVE, 0, 6, 0},
    {"user-popf", user_popf, SELECTOR_USER_CODE, VECTOR_LEAVE, 0, 13, 0},
    {"user-rdtsc", user_rdtsc, SELECTOR_USER_CODE, VECTOR_LEAVE, 0, 4, 0},
    {"user-cpuid", user_cpuid, SELECTOR_USER_CODE, VECTOR_LEAVE, 0, 6, 0},
    {"user-ss-null", user_ss_null, SELECTOR_USER_CODE, VECTOR_GP, 0, 2, 0},
    {"user-ds-null", user_ds_null, SELECTOR_USER_CODE, VECTOR_LEAVE, 0, 6, 0},
    {"user-ds-kernel", user_ds_kernel, SELECTOR_USER_CODE, VECTOR_GP, SELECTOR_DATA, 5, 0},
    {"user-ss-kernel", user_ss_kernel, SELECTOR_USER_CODE, VECTOR_GP, SELECTOR_DATA, 5, 0},
    {"user-far-return", user_far_return, SELECTOR_USER_CODE, VECTOR_GP, SELECTOR_CODE, 4, 0},
    {"user-read-kernel", user_read, SELECTOR_USER_CODE, VECTOR_PF, PF_USER | PF_PRESENT, 0, 0x100000},
    {"user-write-kernel", user_write, SELECTOR_USER_CODE, VECTOR_PF, PF_USER | PF_PRESENT | PF_WRITE, 0,
     0x100000},
    {"user-read-hole", user_read, SELECTOR_USER_CODE, VECTOR_PF, PF_USER, 0, GUEST_UNMAPPED},
    {"user-write-hole", user_write, SELECTOR_USER_CODE, VECTOR_PF, PF_USER | PF_WRITE, 0, GUEST_UNMAPPED},
    {"user-non-canonical", user_read, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, NON_CANONICAL},
    {"user-jump-non-canonical", user_jump, SELECTOR_USER_CODE, VECTOR_GP, 0, 0, NON_CANONICAL},
    {"compat-into", compat_into, SELECTOR_CODE32, VECTOR_OF, 0, 5, 0},
    {"compat-into-not", compat_into_not, SELECTOR_CODE32, VECTOR_LEAVE, 0, 5, 0},
    {"compat-bound", compat_bound, SELECTOR_CODE32, VECTOR_BR, 0, 9, 0},
    {"compat-bound-inside", compat_bound_in, SELECTOR_CODE32, VECTOR_LEAVE, 0, 14, 0},
    {"compat-aam-0", compat_aam, SELECTOR_CODE32, VECTOR_DE, 0, 0, 0},
    {"compat-swapgs", compat_swapgs, SELECTOR_CODE32, VECTOR_UD, 0, 0, 0},
    {"compat-null-ds", compat_null_ds, SELECTOR_CODE32, VECTOR_GP, 0, 4, 0},
    {"compat-into-user", compat_into, SELECTOR_USER_CODE32, VECTOR_GP, IDT_ERROR(VECTOR_OF), 4, 0},
    {"compat-address-wraps", compat_wrap, SELECTOR_USER_CODE32, VECTOR_PF, PF_USER | PF_PRESENT, 5, 0},
};

static void run_rows(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
        guest_run(runs[i].segment, runs[i].code, 0, runs[i].argument, 0);
        guest_expect(runs[i].name, runs[i].vector, runs[i].error, runs[i].offset);
    }

    guest_run(SELECTOR_USER_CODE, user_leave, 0, 0, 0);
    guest_equal("user-saves-cs", guest_fault.frame.cs, SELECTOR_USER_CODE);
    guest_equal("user-saves-ss", guest_fault.frame.ss, SELECTOR_USER_DATA);
    guest_equal("user-enters-on-rsp0", guest_fault.frame_address + sizeof(struct guest_frame),
                guest_tss.rsp[0]);
    guest_run(SELECTOR_USER_CODE, user_popf, 0, 0, 0);
    CHECK("user-popf-keeps-if-iopl", (guest_fault.frame.rax & (RFLAGS_IF | RFLAGS_IOPL)) == 0);
    guest_run(SELECTOR_USER_CODE, user_cli, 0, 0, RFLAGS_IOPL);
    guest_expect("user-cli-iopl-3", VECTOR_LEAVE, 0, 3);
    guest_run(SELECTOR_USER_CODE, user_out, 0, 0, RFLAGS_IOPL);
    guest_expect("user-out-iopl-3", VECTOR_LEAVE, 0, 4);
    guest_run(SELECTOR_USER_CODE, user_hlt, 0, 0, RFLAGS_IOPL);
    guest_expect("user-hlt-iopl-3", VECTOR_GP, 0, 0);

    guest_tss.io_bits[0x80 / 8] &= 0xfe;
    guest_run(SELECTOR_USER_CODE, user_out, 0, 0, 0);
    guest_expect("user-out-io-map", VECTOR_LEAVE, 0, 4);
    guest_run(SELECTOR_USER_CODE, user_outl, 0, 0, 0);
    guest_expect("user-outl-io-map-partly", VECTOR_GP, 0, 0);
    guest_tss.io_bits[0x80 / 8] |= 1;

    write_cr4(read_cr4() | CR4_TSD);
    guest_run(SELECTOR_USER_CODE, user_rdtsc, 0, 0, 0);
    guest_expect("user-rdtsc-tsd", VECTOR_GP, 0, 0);
    ROW("rdtsc-tsd-ring-0", NO_VECTOR, 0, 0, "rdtsc");
    write_cr4(read_cr4() & ~CR4_TSD);
    write_cr0(read_cr0() | CR0_AM);
    guest_run(SELECTOR_USER_CODE, user_ac, 0, 0, RFLAGS_AC);
    guest_expect("user-ac", VECTOR_AC, 0, 0);
    write_cr0(read_cr0() & ~CR0_AM);
    guest_run(SELECTOR_USER_CODE, user_ac, 0, 0, RFLAGS_AC);
    guest_expect("user-ac-without-am", VECTOR_LEAVE, 0, 6);
    guest_idt[VECTOR_BP].attributes |= GATE_DPL3;
    guest_run(SELECTOR_USER_CODE, user_int3, 0, 0, 0);
    guest_expect("user-int3-dpl3", VECTOR_BP, 0, 1);
    guest_gate_reset(VECTOR_BP);

    uint64_t stack = guest_tss.rsp[0];
    guest_tss.rsp[0] = NON_CANONICAL;
    guest_idt[VECTOR_SS].ist = IST_FREE;
    guest_run(SELECTOR_USER_CODE, user_leave, 0, 0, 0);
    expect_ss_any_error("ss-rsp0-non-canonical");
    guest_gate_reset(VECTOR_SS);
    guest_tss.rsp[0] = stack;
}

void guest_main(void)
{
    plain_rows();
    opcode_rows();
    debug_rows();
    float_rows();
    gate_rows();
    all_vectors();
    delivery_rows();
    state_rows();
    run_rows();
}
