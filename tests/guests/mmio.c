// SPDX-License-Identifier: BSD-2-Clause
/*
 * Device registers accessed by many instructions: a hypervisor decodes and carries out each. The register is
 * the local APIC's task priority (8 bits) or its initial timer count (32 bits, timer masked), or an entry of
 * the IO-APIC.
 */
#include "lib/printf.h"
#include "tests/guests/lib/pc.h"

#define TPR   (LAPIC_BASE + LAPIC_TPR)
#define COUNT (LAPIC_BASE + LAPIC_TIMER_ICR)
#define HOLE  0xd0000000UL /* nobody decodes this */

static volatile uint32_t *const tpr = (volatile uint32_t *)TPR;
static volatile uint32_t *const count = (volatile uint32_t *)COUNT;

/* ---- Read-modify-write and their flags ---------------------------------------------------------------- */

#define ARITHMETIC (BIT(0) | BIT(2) | BIT(6) | BIT(7) | BIT(11))

/*
 * `code` on the register at RDI (memory on the second run, which is the oracle) with RAX = `operand`: the
 * same value left behind, the same RAX and the same flags.
 */
#define SAME(name, code, start, operand)                                                                     \
    do {                                                                                                     \
        volatile uint32_t memory_ = (start);                                                                 \
        uint64_t a_ = (operand), b_ = (operand), flags_a_, flags_b_;                                         \
        *count = (start);                                                                                    \
        __asm__ volatile("pushq $0x2; popfq; " code "; pushfq; popq %1"                                      \
                         : "+a"(a_), "=r"(flags_a_)                                                          \
                         : "D"(count), "c"(operand)                                                          \
                         : "memory", "cc");                                                                  \
        uint32_t left_ = *count;                                                                             \
        __asm__ volatile("pushq $0x2; popfq; " code "; pushfq; popq %1"                                      \
                         : "+a"(b_), "=r"(flags_b_)                                                          \
                         : "D"(&memory_), "c"(operand)                                                       \
                         : "memory", "cc");                                                                  \
        guest_check(left_ == memory_ && a_ == b_ && ((flags_a_ ^ flags_b_) & ARITHMETIC) == 0, name,         \
                    "%#x %#lx %#lx, not %#x %#lx %#lx", left_, a_, flags_a_, memory_, b_, flags_b_);         \
    } while (0)

static void modify_rows(void)
{
    lapic_init(false);
    lapic_write(LAPIC_TIMER_DCR, 0xa);

    SAME("mov-store", "movl %%eax, (%%rdi)", 1, 0x12345678);
    SAME("mov-load", "movl (%%rdi), %%eax", 0x87654321, 5);
    SAME("mov-load-clears-upper", "movl (%%rdi), %%eax", 0x87654321, ~0UL);
    SAME("mov-immediate", "movl $0x7654321, (%%rdi)", 1, 0);
    SAME("mov-immediate-negative", "movl $-2, (%%rdi)", 1, 0);
    SAME("add", "addl %%eax, (%%rdi)", 0x80000001, 0x80000003);
    SAME("add-immediate-8", "addl $-1, (%%rdi)", 0x80000000, 0);
    SAME("add-immediate-32", "addl $0x11223344, (%%rdi)", 0x7fffffff, 0);
    SAME("add-load", "addl (%%rdi), %%eax", 0xffffffff, 1);
    SAME("adc", "stc; adcl %%eax, (%%rdi)", 0xfffffffe, 1);
    SAME("adc-load", "stc; adcl (%%rdi), %%eax", 0x7ffffffe, 1);
    SAME("sub", "subl %%eax, (%%rdi)", 0x10, 0x20);
    SAME("sub-load", "subl (%%rdi), %%eax", 0x10, 0x20);
    SAME("sbb", "stc; sbbl %%eax, (%%rdi)", 0x80000000, 0);
    SAME("and", "andl %%eax, (%%rdi)", 0xf0f0f0f0, 0xffff0000);
    SAME("and-immediate-8", "andl $0x0f, (%%rdi)", 0xf0f0f0ff, 0);
    SAME("or", "orl %%eax, (%%rdi)", 0xf0f0f0f0, 0x0000ffff);
    SAME("or-load", "orl (%%rdi), %%eax", 0xf0f0f0f0, 0x0000ffff);
    SAME("xor", "xorl %%eax, (%%rdi)", 0xf0f0f0f0, 0xffffffff);
    SAME("xor-load", "xorl (%%rdi), %%eax", 0xf0f0f0f0, 0xf0f0f0f0);
    SAME("cmp", "cmpl %%eax, (%%rdi)", 0x7fffffff, 0x80000000);
    SAME("cmp-load", "cmpl (%%rdi), %%eax", 0x7fffffff, 0x80000000);
    SAME("cmp-immediate", "cmpl $0x12, (%%rdi)", 0x12, 0);
    SAME("test", "testl %%eax, (%%rdi)", 0x80000000, 0x80000000);
    SAME("test-immediate", "testl $0x7f, (%%rdi)", 0x80, 0);
    SAME("inc", "stc; incl (%%rdi)", 0x7fffffff, 0);
    SAME("dec", "decl (%%rdi)", 0x1, 0);
    SAME("neg", "negl (%%rdi)", 0x1, 0);
    SAME("not", "notl (%%rdi)", 0x12345678, 0);
    SAME("xchg", "xchgl %%eax, (%%rdi)", 0x11111111, 0x22222222);
    SAME("xadd", "xaddl %%eax, (%%rdi)", 0x7fffffff, 0x2);
    SAME("lock-add", "lock addl %%eax, (%%rdi)", 5, 6);
    SAME("lock-or", "lock orl $0x100, (%%rdi)", 5, 6);
    SAME("cmpxchg-equal", "cmpxchgl %%ecx, (%%rdi)", 0x55, 0x55);
    SAME("cmpxchg-other", "cmpxchgl %%ecx, (%%rdi)", 0x55, 0x66);
    SAME("bt", "btl $4, (%%rdi)", 0x10, 0);
    SAME("bts", "btsl $31, (%%rdi)", 0x10, 0);
    SAME("btr", "btrl $4, (%%rdi)", 0x30, 0);
    SAME("btc", "btcl $5, (%%rdi)", 0x30, 0);
    SAME("shl", "shll $1, (%%rdi)", 0xc0000001, 0);
    SAME("shr", "shrl $1, (%%rdi)", 0x80000001, 0);
    SAME("sar", "sarl $1, (%%rdi)", 0x80000001, 0);
    SAME("imul", "imull (%%rdi), %%eax", 0x10, 0x12);
    SAME("cmov", "stc; cmovc (%%rdi), %%eax", 0x1234, 0x5678);
    SAME("cmov-not", "clc; cmovc (%%rdi), %%eax", 0x1234, ~0UL);
    SAME("movslq", "movslq (%%rdi), %%rax", 0x80000000, 0);
    SAME("bsf", "bsfl (%%rdi), %%eax", 0x100, 0);
    *count = 0;
}

/* ---- Addressing and other widths ---------------------------------------------------------------------- */

static void address_rows(void)
{
    uint64_t rax;

    *tpr = 0x20;
    __asm__ volatile("movabsl 0xfee00080, %%eax" : "=a"(rax) : : "memory");
    guest_equal("address-64-absolute", rax, 0x20);
    __asm__ volatile("movl 0x80(%1), %%eax" : "=a"(rax) : "r"(LAPIC_BASE) : "memory");
    guest_equal("address-displacement-32", rax, 0x20);
    __asm__ volatile("movl 0x10(%1), %%eax" : "=a"(rax) : "r"(LAPIC_BASE + 0x70) : "memory");
    guest_equal("address-displacement-8", rax, 0x20);
    __asm__ volatile("movl -0x10(%1), %%eax" : "=a"(rax) : "r"(LAPIC_BASE + 0x90) : "memory");
    guest_equal("address-displacement-negative", rax, 0x20);
    __asm__ volatile("movl (%1, %2), %%eax" : "=a"(rax) : "r"(LAPIC_BASE), "r"(0x80UL) : "memory");
    guest_equal("address-index", rax, 0x20);
    __asm__ volatile("movl 0x40(%1, %2, 8), %%eax" : "=a"(rax) : "r"(LAPIC_BASE), "r"(8UL) : "memory");
    guest_equal("address-index-8", rax, 0x20);
    __asm__ volatile("movl (, %1, 4), %%eax" : "=a"(rax) : "r"(TPR / 4) : "memory");
    guest_equal("address-index-only", rax, 0x20);
    __asm__ volatile("movq %1, %%r13; movl (%%r13), %%eax" : "=a"(rax) : "r"(TPR) : "memory", "r13");
    guest_equal("address-r13", rax, 0x20);
    __asm__ volatile("movq %1, %%r12; movl (%%r12), %%eax" : "=a"(rax) : "r"(TPR) : "memory", "r12");
    guest_equal("address-r12", rax, 0x20);
    __asm__ volatile("movq %1, %%r12; movl 0x80(%%rdx, %%r12, 2), %%r9d; movl %%r9d, %%eax"
                     : "=a"(rax)
                     : "r"(LAPIC_BASE / 2), "d"(0UL)
                     : "memory", "r9", "r12");
    guest_equal("address-r12-index-r9", rax, 0x20);
    __asm__ volatile("addr32 movl 0x80(%k1), %%eax"
                     : "=a"(rax)
                     : "r"(0xffffffff00000000UL | LAPIC_BASE)
                     : "memory");
    guest_equal("address-32", rax, 0x20);
    wrmsr(MSR_GS_BASE, LAPIC_BASE);
    __asm__ volatile("movl %%gs:0x80, %%eax" : "=a"(rax) : : "memory");
    wrmsr(MSR_GS_BASE, 0);
    guest_equal("address-gs", rax, 0x20);
    __asm__ volatile("leaq 1f(%%rip), %%rcx; jmp 1f; 1: movl 0x80(%1), %%r8d; movl %%r8d, %%eax"
                     : "=a"(rax)
                     : "r"(LAPIC_BASE)
                     : "memory", "rcx", "r8");
    guest_equal("address-to-r8", rax, 0x20);
    rax = ~0UL;
    __asm__ volatile("movzbl (%1), %%eax" : "=a"(rax) : "r"(TPR) : "memory");
    guest_equal("width-movzbl", rax, 0x20);
    rax = ~0UL;
    __asm__ volatile("movb (%1), %%al" : "+a"(rax) : "r"(TPR) : "memory");
    guest_equal("width-byte-keeps-rest", rax, 0xffffffffffffff20UL);
    *tpr = 0xf0;
    __asm__ volatile("movsbl (%1), %%eax" : "=a"(rax) : "r"(TPR) : "memory");
    guest_equal("width-movsbl", rax, 0xfffffff0UL);
    __asm__ volatile("movsbq (%1), %%rax" : "=a"(rax) : "r"(TPR) : "memory");
    guest_equal("width-movsbq", rax, 0xfffffffffffffff0UL);
    __asm__ volatile("movb (%1), %%ah; movzbl %%ah, %%eax" : "=a"(rax) : "d"(TPR) : "memory");
    guest_equal("width-ah", rax, 0xf0);
    __asm__ volatile("movzwl (%1), %%eax" : "=a"(rax) : "r"(TPR) : "memory");
    guest_equal("width-movzwl", rax, 0xf0);
    *tpr = 0;
}

/* ---- String instructions, stack, effects -------------------------------------------------------------- */

SNIPPET(compat_store, 32, "movl %edi, (%esi)");
SNIPPET(user_store, 64, "movl %edi, (%rsi)");

static void other_rows(void)
{
    volatile uint32_t memory[4] = {0x30, 0x40, 0, 0};
    uint64_t from = (uint64_t)memory, to = TPR, n = 1;

    __asm__ volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
    CHECK("movs-to-register", *tpr == 0x30 && to == TPR + 4 && from == (uint64_t)memory + 4);
    from = TPR;
    to = (uint64_t)&memory[2];
    __asm__ volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
    guest_equal("movs-from-register", memory[2], 0x30);
    to = TPR;
    __asm__ volatile("std; stosl; cld" : "+D"(to) : "a"(0x50) : "memory", "cc");
    CHECK("stos-down", *tpr == 0x50 && to == TPR - 4);
    uint64_t rax;
    from = TPR;
    __asm__ volatile("lodsl" : "=a"(rax), "+S"(from) : : "memory");
    CHECK("lods", rax == 0x50 && from == TPR + 4);
    to = TPR;
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(0x60) : "memory");
    CHECK("rep-stos", *tpr == 0x60 && n == 0 && to == TPR + 4);
    *tpr = 0;

    guest_run(SELECTOR_CODE32, compat_store, 0x70, TPR, 0);
    guest_expect("store-32-bit-code", VECTOR_LEAVE, 0, 4);
    guest_equal("store-32-bit-code-done", *tpr, 0x70);
    guest_run(SELECTOR_USER_CODE, user_store, 0, TPR, 0);
    guest_expect("store-from-ring-3", VECTOR_PF, PF_PRESENT | PF_WRITE | PF_USER, 0);
    guest_equal("store-from-ring-3-not-done", *tpr, 0x70);
    *tpr = 0;

    write_dr6(0xffff0ff0);
    TRY("pushfq; orl $0x100, (%%rsp); popfq; movl %0, (%1); nop", : : "a"(0x10), "d"(TPR) : "memory", "cc");
    guest_expect("step", VECTOR_DB, 0, 11);
    write_dr6(0xffff0ff0);
    *tpr = 0;

    /* The page by another linear address, and without the right to write. */
    volatile uint32_t *window = guest_map(0, LAPIC_BASE | PAGE_PRESENT | PAGE_WRITE | PAGE_UNCACHED);
    window[LAPIC_TPR / 4] = 0x90;
    guest_equal("other-linear-address", *tpr, 0x90);
    guest_map(0, LAPIC_BASE | PAGE_PRESENT);
    write_cr0(read_cr0() | CR0_WP);
    TRY("movl %0, (%1)", : : "a"(0x10), "d"(window + LAPIC_TPR / 4) : "memory");
    guest_expect("read-only-page", VECTOR_PF, PF_PRESENT | PF_WRITE, 0);
    guest_equal("read-only-page-not-written", *tpr, 0x90);
    write_cr0(read_cr0() & ~CR0_WP);
    *tpr = 0;

    /* The IO-APIC behind its index register. */
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        char name[32];
        ioapic_route(i, IOAPIC_MASKED | 0x20 | i);
        format_text(name, sizeof(name), "ioapic-%02u", i);
        guest_equal(name, ioapic_read((uint8_t)(0x10 + 2 * i)) & 0x1afff, IOAPIC_MASKED | 0x20 | i);
    }
    *(volatile uint32_t *)IOAPIC_BASE = 0x12;
    guest_equal("ioapic-index", *(volatile uint32_t *)IOAPIC_BASE & 0xff, 0x12);
    __asm__ volatile("orl $0x40, 0x10(%0)" : : "r"(IOAPIC_BASE) : "memory", "cc");
    guest_equal("ioapic-or", ioapic_read(0x12) & 0x1afff, IOAPIC_MASKED | 0x61);
    __asm__ volatile("movl $0x10055, %%eax; xchgl %%eax, 0x10(%1)"
                     : "=&a"(rax)
                     : "r"(IOAPIC_BASE)
                     : "memory");
    CHECK("ioapic-xchg",
          (rax & 0x1afff) == (IOAPIC_MASKED | 0x61) && (ioapic_read(0x12) & 0x1afff) == 0x10055);

    /* Nothing lives between the devices: all ones, and writes are lost. */
    *(volatile uint32_t *)HOLE = 0x12345678;
    guest_equal("hole-reads-ones", *(volatile uint32_t *)HOLE, 0xffffffff);
    guest_equal("hole-byte", *(volatile uint8_t *)HOLE, 0xff);
    guest_equal("hole-quadword", *(volatile uint64_t *)HOLE, ~0UL);
}

void guest_main(void)
{
    modify_rows();
    address_rows();
    other_rows();
}
