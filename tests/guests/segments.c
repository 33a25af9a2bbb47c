// SPDX-License-Identifier: BSD-2-Clause
/*
 * Descriptors and what loads them (SDM vol. 3, "Protection"): every descriptor type under every instruction
 * that inspects one, segment limits in 32-bit code, far transfers, the TSS, FS and GS bases, fast system
 * calls.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/guest.h"

#define PRESENT_CODE64 (SEGMENT_PRESENT | SEGMENT_CODE_DATA | SEGMENT_LONG | SEGMENT_TYPE(10))
#define PRESENT_DATA   (SEGMENT_PRESENT | SEGMENT_CODE_DATA | SEGMENT_BIG | SEGMENT_TYPE(2))

/* ---- Every type --------------------------------------------------------------------------------------- */

static bool is_code(unsigned type)
{
    return (type & 0x18) == 0x18;
}

static bool is_data(unsigned type)
{
    return (type & 0x18) == 0x10;
}

static bool is_readable(unsigned type)
{
    return is_data(type) || (is_code(type) && (type & 2) != 0);
}

static bool is_writable(unsigned type)
{
    return is_data(type) && (type & 2) != 0;
}

/* SDM vol. 2, LAR and LSL, the tables of types valid in IA-32e mode. */
static bool has_limit(unsigned type)
{
    return type >= 0x10 || type == 2 || type == 9 || type == 11;
}

static bool has_rights(unsigned type)
{
    return has_limit(type) || type == 12;
}

#define TEST_LIMIT 0x12345

static void type_row(const char *word, unsigned type, bool good)
{
    char name[32];

    format_text(name, sizeof(name), "%s-type-%02x", word, type);
    guest_expect_vector(name, good ? NO_VECTOR : VECTOR_GP, SELECTOR_FREE);
}

static void flag_row(const char *word, unsigned type, bool seen, bool good)
{
    char name[32];

    format_text(name, sizeof(name), "%s-type-%02x", word, type);
    guest_equal(name, seen, good);
}

/* LAR, LSL, VERR and VERW of `selector`: the results in one word, and ZF of each. */
struct verdict {
    uint64_t rights, limit;
    bool lar, lsl, verr, verw;
};

static struct verdict inspect(uint64_t selector)
{
    struct verdict v = {0};

    __asm__ volatile("lar %2, %0; setz %1" : "+r"(v.rights), "=qm"(v.lar) : "r"(selector) : "cc");
    __asm__ volatile("lsl %2, %0; setz %1" : "+r"(v.limit), "=qm"(v.lsl) : "r"(selector) : "cc");
    __asm__ volatile("verr %w1; setz %0" : "=qm"(v.verr) : "r"(selector) : "cc");
    __asm__ volatile("verw %w1; setz %0" : "=qm"(v.verw) : "r"(selector) : "cc");
    return v;
}

static void type_rows(void)
{
    for (unsigned type = 0; type < 32; type++) {
        uint64_t attributes = SEGMENT_PRESENT | SEGMENT_TYPE(type);
        guest_segment(SELECTOR_FREE, 0, TEST_LIMIT, attributes);
        guest_gdt[SELECTOR_FREE / 8 + 1] = 0;

        struct verdict v = inspect(SELECTOR_FREE);
        flag_row("lar", type, v.lar && v.rights == (attributes >> 32 | 0x10000), has_rights(type));
        flag_row("lsl", type, v.lsl && v.limit == TEST_LIMIT, has_limit(type));
        flag_row("verr", type, v.verr, is_readable(type));
        flag_row("verw", type, v.verw, is_writable(type));

        TRY("movl %0, %%ds", : : "r"(SELECTOR_FREE) : "memory");
        __asm__ volatile("movl %0, %%ds" : : "r"(SELECTOR_DATA));
        type_row("ds", type, is_readable(type));
        TRY("movl %0, %%ss", : : "r"(SELECTOR_FREE) : "memory");
        __asm__ volatile("movl %0, %%ss" : : "r"(SELECTOR_DATA));
        type_row("ss", type, is_writable(type));
        guest_segment(SELECTOR_FREE, 0, TEST_LIMIT, attributes);
        TRY("lldt %w0", : : "r"(SELECTOR_FREE) : "memory");
        type_row("lldt", type, type == 2);
        guest_segment(SELECTOR_FREE, 0, TEST_LIMIT, attributes);
        TRY("ltr %w0", : : "r"(SELECTOR_FREE) : "memory");
        guest_tss_load(sizeof(guest_tss) - 1);
        type_row("ltr", type, type == 9);
        __asm__ volatile("lldt %w0" : : "r"(0));
        guest_segment(SELECTOR_FREE, 0, TEST_LIMIT, attributes | SEGMENT_LONG);
        TRY("pushq %0; pushq $1f; lretq; 1:", : : "r"((uint64_t)SELECTOR_FREE) : "memory");
        __asm__ volatile("pushq %0; pushq $1f; lretq; 1:" : : "r"((uint64_t)SELECTOR_CODE) : "memory");
        type_row("lret", type, is_code(type));
    }
}

/* ---- Presence, privilege, tables ---------------------------------------------------------------------- */

static void selector_rows(void)
{
    guest_segment(SELECTOR_FREE, 0, 0xfffff, PRESENT_DATA & ~SEGMENT_PRESENT);
    TRY("movl %0, %%ds", : : "r"(SELECTOR_FREE) : "memory");
    guest_expect("np-ds", VECTOR_NP, SELECTOR_FREE, 0);
    TRY("movl %0, %%ss", : : "r"(SELECTOR_FREE) : "memory");
    guest_expect("ss-not-present", VECTOR_SS, SELECTOR_FREE, 0);
    TRY("movl %0, %%ds", : : "r"(GDT_SLOTS * 8) : "memory");
    guest_expect("gp-ds-beyond-gdt", VECTOR_GP, GDT_SLOTS * 8, 0);
    TRY("movl %0, %%fs", : : "r"(SELECTOR_FREE | 3) : "memory");
    guest_expect("gp-fs-rpl", VECTOR_GP, SELECTOR_FREE, 0);
    TRY("movl %0, %%ss", : : "r"(SELECTOR_DATA | 3) : "memory");
    guest_expect("gp-ss-rpl", VECTOR_GP, SELECTOR_DATA, 0);
    TRY("movl %0, %%ss", : : "r"(SELECTOR_USER_DATA & ~3) : "memory");
    guest_expect("gp-ss-dpl", VECTOR_GP, SELECTOR_USER_DATA & ~3UL, 0);
    TRY("movl %0, %%ss; movl %1, %%ss", : : "r"(0), "r"(SELECTOR_DATA) : "memory");
    guest_expect("ss-null-ring-0", NO_VECTOR, 0, 0);
    TRY("movl %0, %%es; movb %%es:(%%rsp), %%al", : : "r"(0) : "memory", "rax");
    guest_expect("es-null-is-usable", NO_VECTOR, 0, 0);

    guest_segment(SELECTOR_FREE, 0, 0xfffff, SEGMENT_TYPE(9));
    TRY("ltr %w0", : : "r"(SELECTOR_FREE) : "memory");
    guest_expect("np-ltr", VECTOR_NP, SELECTOR_FREE, 0);
    guest_segment(SELECTOR_FREE, 0, 0xfffff, SEGMENT_TYPE(2));
    TRY("lldt %w0", : : "r"(SELECTOR_FREE) : "memory");
    guest_expect("np-lldt", VECTOR_NP, SELECTOR_FREE, 0);
    TRY("ltr %w0", : : "r"(0) : "memory");
    guest_expect("gp-ltr-null", VECTOR_GP, 0, 0);
    TRY("lldt %w0", : : "r"(0) : "memory");
    guest_expect("lldt-null", NO_VECTOR, 0, 0);
    TRY("lldt %w0", : : "r"(SELECTOR_FREE | 4) : "memory");
    guest_expect("gp-lldt-in-ldt", VECTOR_GP, SELECTOR_FREE | 4, 0);
    TRY("ltr %w0", : : "r"(SELECTOR_TSS) : "memory");
    guest_expect("gp-ltr-busy", VECTOR_GP, SELECTOR_TSS, 0);
    guest_equal("tss-is-busy", guest_gdt[SELECTOR_TSS / 8] >> 40 & 0xf, 11);
    guest_segment(SELECTOR_FREE, 0, 0x67, SEGMENT_PRESENT | SEGMENT_TYPE(9));
    guest_gdt[SELECTOR_FREE / 8 + 1] = 0x8000;
    TRY("ltr %w0", : : "r"(SELECTOR_FREE) : "memory");
    guest_expect("gp-ltr-non-canonical-base", VECTOR_GP, SELECTOR_FREE, 0);
    guest_tss_load(sizeof(guest_tss) - 1);

    guest_segment(SELECTOR_FREE, 0, 0xfffff, PRESENT_DATA);
    guest_equal("accessed-clear", guest_gdt[SELECTOR_FREE / 8] >> 40 & 1, 0);
    (void)inspect(SELECTOR_FREE);
    guest_equal("accessed-not-by-lar", guest_gdt[SELECTOR_FREE / 8] >> 40 & 1, 0);
    __asm__ volatile("movl %0, %%es" : : "r"(SELECTOR_FREE) : "memory");
    guest_equal("accessed-by-load", guest_gdt[SELECTOR_FREE / 8] >> 40 & 1, 1);

    /* A local table of two entries in the playground. */
    uint64_t *ldt = (uint64_t *)GUEST_PLAYGROUND;
    ldt[0] = guest_gdt[SELECTOR_DATA / 8];
    ldt[1] = guest_gdt[SELECTOR_DATA / 8];
    TRY("movl %0, %%es", : : "r"(8 | 4) : "memory");
    guest_expect("gp-no-ldt", VECTOR_GP, 8 | 4, 0);
    guest_segment(SELECTOR_FREE, GUEST_PLAYGROUND, 15, SEGMENT_PRESENT | SEGMENT_TYPE(2));
    guest_gdt[SELECTOR_FREE / 8 + 1] = 0;
    TRY("lldt %w0; movl %1, %%es", : : "r"(SELECTOR_FREE), "r"(8 | 4) : "memory");
    guest_expect("ldt-load", NO_VECTOR, 0, 0);
    TRY("movl %0, %%es", : : "r"(0 | 4) : "memory");
    guest_expect("ldt-entry-0", NO_VECTOR, 0, 0);
    TRY("movl %0, %%es", : : "r"(16 | 4) : "memory");
    guest_expect("gp-beyond-ldt", VECTOR_GP, 16 | 4, 0);
    uint16_t selector;
    __asm__ volatile("sldt %0" : "=m"(selector));
    guest_equal("sldt", selector, SELECTOR_FREE);
    __asm__ volatile("movl %0, %%es; lldt %w1" : : "r"(SELECTOR_DATA), "r"(0));
    __asm__ volatile("str %0" : "=m"(selector));
    guest_equal("str", selector, SELECTOR_TSS);

    struct descriptor_pointer pointer;
    __asm__ volatile("sgdt %0" : "=m"(pointer));
    CHECK("sgdt", pointer.limit == sizeof(guest_gdt) - 1 && pointer.base == (uint64_t)guest_gdt);
    __asm__ volatile("sidt %0" : "=m"(pointer));
    CHECK("sidt", pointer.limit == sizeof(guest_idt) - 1 && pointer.base == (uint64_t)guest_idt);
    pointer.base = NON_CANONICAL;
    TRY("lgdt %0", : : "m"(pointer) : "memory");
    guest_expect_vector("gp-lgdt-non-canonical", VECTOR_GP, 0);
    TRY("lidt %0", : : "m"(pointer) : "memory");
    guest_expect_vector("gp-lidt-non-canonical", VECTOR_GP, 0);
}

/* ---- Limits and rights in 32-bit code ----------------------------------------------------------------- */

SNIPPET(limit_read_8, 32, "movl %edi, %ds; movb (%esi), %al");
SNIPPET(limit_read_32, 32, "movl %edi, %ds; movl (%esi), %eax");
SNIPPET(limit_write_8, 32, "movl %edi, %ds; movb %al, (%esi)");
SNIPPET(limit_stack, 32, "movl %edi, %ss; movl %esi, %esp; pushl %eax; movl %edx, %ss");
SNIPPET(limit_base, 32, "movl %edi, %ds; movl (%esi), %eax");
SNIPPET(limit_code_read, 32, "movb %cs:(%esi), %al");
SNIPPET(limit_code_write, 32, "movb %al, %cs:(%esi)");
SNIPPET(limit_jump, 32, "jmp *%esi");

static const struct {
    const char *name;
    const char *code;
    uint32_t base, limit;
    uint64_t attributes;
    uint32_t address;
    int vector;
    int64_t offset;
} limits[] = {
    {"limit-last-byte", limit_read_8, 0x1000000, 0xfff, PRESENT_DATA, 0xfff, VECTOR_LEAVE, 6},
    {"limit-behind", limit_read_8, 0x1000000, 0xfff, PRESENT_DATA, 0x1000, VECTOR_GP, 2},
    {"limit-straddle", limit_read_32, 0x1000000, 0xfff, PRESENT_DATA, 0xffd, VECTOR_GP, 2},
    {"limit-last-word", limit_read_32, 0x1000000, 0xfff, PRESENT_DATA, 0xffc, VECTOR_LEAVE, 6},
    {"limit-pages", limit_read_8, 0x1000000, 1, PRESENT_DATA | SEGMENT_PAGES, 0x1fff, VECTOR_LEAVE, 6},
    {"limit-pages-behind", limit_read_8, 0x1000000, 1, PRESENT_DATA | SEGMENT_PAGES, 0x2000, VECTOR_GP, 2},
    {"limit-down-below", limit_read_8, 0, 0xfff, PRESENT_DATA | SEGMENT_TYPE(4), 0xfff, VECTOR_GP, 2},
    {"limit-down-first", limit_read_8, 0, 0xfff, PRESENT_DATA | SEGMENT_TYPE(4), 0x1000, VECTOR_LEAVE, 6},
    {"limit-down-16-bit-top", limit_read_8, 0, 0xfff, (PRESENT_DATA & ~SEGMENT_BIG) | SEGMENT_TYPE(4),
     0x10000, VECTOR_GP, 2},
    {"limit-write", limit_write_8, 0x1000000, 0xfff, PRESENT_DATA, 0xfff, VECTOR_LEAVE, 6},
    {"limit-write-read-only", limit_write_8, 0x1000000, 0xfff, PRESENT_DATA & ~SEGMENT_TYPE(2), 0, VECTOR_GP,
     2},
    {"limit-read-only", limit_read_8, 0x1000000, 0xfff, PRESENT_DATA & ~SEGMENT_TYPE(2), 0, VECTOR_LEAVE, 6},
    {"limit-base-wraps", limit_base, 0xfffff000, 0xfffff, PRESENT_DATA | SEGMENT_PAGES, 0x1001000,
     VECTOR_LEAVE, 6},
};

static void limit_rows(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        guest_segment(SELECTOR_FREE, limits[i].base, limits[i].limit, limits[i].attributes);
        guest_run(SELECTOR_CODE32, limits[i].code, SELECTOR_FREE, limits[i].address, 0);
        guest_expect(limits[i].name, limits[i].vector, 0, limits[i].offset);
    }

    *(volatile uint32_t *)(GUEST_PLAYGROUND + 0x40) = 0x600dcafe;
    guest_segment(SELECTOR_FREE, GUEST_PLAYGROUND, 0xfff, PRESENT_DATA);
    guest_run(SELECTOR_CODE32, limit_base, SELECTOR_FREE, 0x40, 0);
    guest_equal("base-in-32-bit-code", guest_fault.frame.rax, 0x600dcafe);

    guest_idt[VECTOR_SS].ist = IST_FREE;
    guest_run(SELECTOR_CODE32, limit_stack, SELECTOR_FREE, 0x1000, 0);
    guest_expect("limit-stack-inside", VECTOR_LEAVE, 0, 9);
    guest_run(SELECTOR_CODE32, limit_stack, SELECTOR_FREE, 0x1004, 0);
    guest_expect("limit-stack-behind", VECTOR_SS, 0, 4);
    guest_run(SELECTOR_CODE32, limit_stack, SELECTOR_FREE, 2, 0);
    guest_expect("limit-stack-wraps", VECTOR_SS, 0, 4);
    guest_gate_reset(VECTOR_SS);

    guest_segment(SELECTOR_FREE, 0, 0xfffff, PRESENT_CODE64 | SEGMENT_PAGES | SEGMENT_BIG);
    guest_gdt[SELECTOR_FREE / 8] &= ~SEGMENT_LONG;
    guest_run(SELECTOR_FREE, limit_code_read, 0, GUEST_PLAYGROUND, 0);
    guest_expect("code-readable", VECTOR_LEAVE, 0, 5);
    guest_run(SELECTOR_FREE, limit_code_write, 0, GUEST_PLAYGROUND, 0);
    guest_expect("code-not-writable", VECTOR_GP, 0, 0);
    guest_gdt[SELECTOR_FREE / 8] &= ~SEGMENT_TYPE(2);
    guest_run(SELECTOR_FREE, limit_code_read, 0, GUEST_PLAYGROUND, 0);
    guest_expect("code-execute-only", VECTOR_GP, 0, 0);
    guest_segment(SELECTOR_FREE, 0, 0x7ff, PRESENT_CODE64 | SEGMENT_PAGES | SEGMENT_BIG);
    guest_gdt[SELECTOR_FREE / 8] &= ~SEGMENT_LONG;
    guest_run(SELECTOR_FREE, limit_jump, 0, 0x900000, 0);
    guest_expect("code-jump-behind-limit", VECTOR_GP, 0, 0);

    /* 64-bit code: bases and limits of DS do not count, of FS the base does. */
    *(volatile uint32_t *)(GUEST_PLAYGROUND + PAGE_SIZE) = 0x0ddba11;
    uint32_t seen = 0;
    guest_segment(SELECTOR_FREE, GUEST_PLAYGROUND, 0, PRESENT_DATA);
    TRY("movl %1, %%ds; movl (%2), %0; movl %3, %%ds",
        : "=&r"(seen)
        : "r"(SELECTOR_FREE), "r"(GUEST_PLAYGROUND + PAGE_SIZE), "r"(SELECTOR_DATA)
        : "memory");
    guest_equal("long-ds-base-ignored", seen, 0x0ddba11);
    TRY("movl %1, %%fs; movl %%fs:(%2), %0", : "=&r"(seen) : "r"(SELECTOR_FREE), "r"(PAGE_SIZE) : "memory");
    guest_equal("long-fs-base-counts", seen, 0x0ddba11);
    guest_equal("fs-base-msr-follows", rdmsr(MSR_FS_BASE), GUEST_PLAYGROUND);
}

/* ---- Far transfers ------------------------------------------------------------------------------------ */

struct __packed far_pointer {
    uint32_t offset;
    uint16_t selector;
};

static void far_jump(const char *name, uint16_t selector, int vector, uint64_t error)
{
    struct far_pointer pointer;

    /* Back to the kernel's segment behind the jump, whatever this one was. */
    TRY("movl $1f, (%0); movw %w1, 4(%0); ljmp *(%0); 1: pushq $8; pushq $2f; lretq; 2:",
        :
        : "r"(&pointer), "r"(selector)
        : "memory");
    guest_expect_vector(name, vector, error);
}

SNIPPET(gate_target, 64, "movl $0x5a5a, %eax");

static void far_rows(void)
{
    far_jump("far-jump", SELECTOR_CODE, NO_VECTOR, 0);
    far_jump("gp-far-jump-null", 0, VECTOR_GP, 0);
    far_jump("gp-far-jump-data", SELECTOR_DATA, VECTOR_GP, SELECTOR_DATA);
    far_jump("gp-far-jump-user", SELECTOR_USER_CODE & ~3, VECTOR_GP, SELECTOR_USER_CODE & ~3UL);
    far_jump("gp-far-jump-rpl", SELECTOR_CODE | 3, VECTOR_GP, SELECTOR_CODE);
    far_jump("gp-far-jump-beyond", GDT_SLOTS * 8, VECTOR_GP, GDT_SLOTS * 8);
    far_jump("gp-far-jump-busy-tss", SELECTOR_TSS, VECTOR_GP, SELECTOR_TSS);
    guest_segment(SELECTOR_FREE, 0, 0, PRESENT_CODE64 & ~SEGMENT_PRESENT);
    far_jump("np-far-jump", SELECTOR_FREE, VECTOR_NP, SELECTOR_FREE);
    guest_segment(SELECTOR_FREE, 0, 0, PRESENT_CODE64 | SEGMENT_TYPE(4));
    far_jump("far-jump-conforming", SELECTOR_FREE, NO_VECTOR, 0);
    guest_segment(SELECTOR_FREE, 0, 0, PRESENT_CODE64 | SEGMENT_BIG);
    far_jump("gp-far-jump-long-and-big", SELECTOR_FREE, VECTOR_GP, SELECTOR_FREE);
    guest_segment(SELECTOR_FREE, 0, 0x67, SEGMENT_PRESENT | SEGMENT_TYPE(9));
    guest_gdt[SELECTOR_FREE / 8 + 1] = 0;
    far_jump("gp-far-jump-available-tss", SELECTOR_FREE, VECTOR_GP, SELECTOR_FREE);
    guest_segment(SELECTOR_FREE, 0, 0, SEGMENT_PRESENT | SEGMENT_TYPE(5));
    far_jump("gp-far-jump-task-gate", SELECTOR_FREE, VECTOR_GP, SELECTOR_FREE);

    /* A 64-bit call gate: selector and offset where a segment has base and limit. */
    uint64_t target = (uint64_t)gate_target;
    guest_gdt[SELECTOR_FREE / 8] = (target & 0xffff) | (uint64_t)SELECTOR_CODE << 16 |
                                   (target >> 16 & 0xffff) << 48 | SEGMENT_PRESENT | SEGMENT_TYPE(12);
    guest_gdt[SELECTOR_FREE / 8 + 1] = target >> 32;
    struct far_pointer pointer = {.selector = SELECTOR_FREE};
    TRY("movq %1, %%rsp; lcall *(%0)",
        :
        : "r"(&pointer), "r"(GUEST_PLAYGROUND + PAGE_SIZE)
        : "memory", "rax");
    CHECK("call-gate", guest_fault.vector == VECTOR_LEAVE && guest_fault.frame.rax == 0x5a5a);
    guest_equal("call-gate-rsp", guest_fault.frame.rsp, GUEST_PLAYGROUND + PAGE_SIZE - 16);
    guest_equal("call-gate-pushed-cs", ((uint64_t *)(GUEST_PLAYGROUND + PAGE_SIZE))[-1], SELECTOR_CODE);
    guest_gdt[SELECTOR_FREE / 8 + 1] |= BIT(40);
    TRY("lcall *%0", : : "m"(pointer) : "memory", "rax");
    guest_expect_vector("gp-call-gate-upper-type", VECTOR_GP, SELECTOR_FREE);
    guest_gdt[SELECTOR_FREE / 8 + 1] = 0;
    guest_gdt[SELECTOR_FREE / 8] &= ~SEGMENT_PRESENT;
    TRY("lcall *%0", : : "m"(pointer) : "memory", "rax");
    guest_expect_vector("np-call-gate", VECTOR_NP, SELECTOR_FREE);
}

/* IRETQ with this frame; a good one comes back by INT VECTOR_LEAVE at `leave`. */
static void iret_row(const char *name, uint64_t rip, uint64_t cs, uint64_t flags, uint64_t rsp, uint64_t ss,
                     int vector, uint64_t error)
{
    TRY("pushq %4; pushq %3; pushq %2; pushq %1; pushq %0; iretq",
        :
        : "r"(rip), "r"(cs), "r"(flags), "r"(rsp), "r"(ss)
        : "memory", "cc", "rax");
    guest_expect_vector(name, vector, error);
}

SNIPPET(leave, 64, "nop");

static void iret_rows(void)
{
    uint64_t rip = (uint64_t)leave, rsp = GUEST_PLAYGROUND + PAGE_SIZE, user = guest_user(leave);

    iret_row("iret", rip, SELECTOR_CODE, 2, rsp, SELECTOR_DATA, VECTOR_LEAVE, 0);
    guest_equal("iret-loads-rsp", guest_fault.frame.rsp, rsp);
    iret_row("iret-user", user, SELECTOR_USER_CODE, 2, guest_user((void *)rsp), SELECTOR_USER_DATA,
             VECTOR_LEAVE, 0);
    iret_row("iret-ss-null-ring-0", rip, SELECTOR_CODE, 2, rsp, 0, VECTOR_LEAVE, 0);
    iret_row("gp-iret-ss-null-ring-3", user, SELECTOR_USER_CODE, 2, rsp, 0, VECTOR_GP, 0);
    iret_row("gp-iret-cs-null", rip, 0, 2, rsp, SELECTOR_DATA, VECTOR_GP, 0);
    iret_row("gp-iret-cs-data", rip, SELECTOR_DATA, 2, rsp, SELECTOR_DATA, VECTOR_GP, SELECTOR_DATA);
    iret_row("gp-iret-cs-rpl", rip, SELECTOR_CODE | 3, 2, rsp, SELECTOR_DATA, VECTOR_GP, SELECTOR_CODE);
    iret_row("gp-iret-ss-rpl", user, SELECTOR_USER_CODE, 2, rsp, SELECTOR_DATA, VECTOR_GP, SELECTOR_DATA);
    iret_row("gp-iret-ss-code", rip, SELECTOR_CODE, 2, rsp, SELECTOR_CODE, VECTOR_GP, SELECTOR_CODE);
    iret_row("gp-iret-non-canonical", NON_CANONICAL, SELECTOR_CODE, 2, rsp, SELECTOR_DATA, VECTOR_GP, 0);
    guest_segment(SELECTOR_FREE, 0, 0xfffff, PRESENT_DATA & ~SEGMENT_PRESENT);
    /* SDM vol. 2, IRET: #SS(selector). The emulator raises #NP(selector); see that a partition has the same.
     */
    TRY("pushq %0; pushq %1; pushq $2; pushq $8; pushq %2; iretq",
        :
        : "r"((uint64_t)SELECTOR_FREE), "r"(rsp), "r"(rip)
        : "memory", "cc");
    guest_value("iret-ss-not-present-vector", (uint64_t)guest_fault.vector);
    guest_value("iret-ss-not-present-error", guest_fault.error);
    guest_segment(SELECTOR_FREE, 0, 0xfffff, PRESENT_CODE64 & ~SEGMENT_PRESENT);
    iret_row("np-iret-cs-not-present", rip, SELECTOR_FREE, 2, rsp, SELECTOR_DATA, VECTOR_NP, SELECTOR_FREE);
    TRY_PLAIN("pushfq; orl $0x4000, (%%rsp); popfq; iretq");
    guest_expect_vector("gp-iret-nt", VECTOR_GP, 0);
    guest_run(SELECTOR_USER_CODE32, "\xcd\x40", 0, 0, 0);
    guest_equal("iret-compat-cs", guest_fault.frame.cs, SELECTOR_USER_CODE32);
    iret_row("iret-flags", rip, SELECTOR_CODE, 0x3ed7 & ~RFLAGS_TF & ~RFLAGS_IF, rsp, SELECTOR_DATA,
             VECTOR_LEAVE, 0);
    guest_equal("iret-flags-loaded", guest_fault.frame.rflags, 0x3ed7 & ~RFLAGS_TF & ~RFLAGS_IF);
}

/* ---- FS, GS, SYSCALL, SYSENTER ------------------------------------------------------------------------ */

SNIPPET(user_syscall, 64, "syscall");
SNIPPET(user_syscall32, 32, ".byte 0x0f, 0x05");
SNIPPET(user_sysenter, 64, "sysenter");

static void base_rows(void)
{
    uint64_t seen;

    wrmsr(MSR_FS_BASE, GUEST_PLAYGROUND);
    wrmsr(MSR_GS_BASE, GUEST_PLAYGROUND + 8);
    wrmsr(MSR_KERNEL_GS_BASE, GUEST_PLAYGROUND + 16);
    memcpy((void *)GUEST_PLAYGROUND, (const uint64_t[]){0x11, 0x22, 0x33}, 24);
    __asm__ volatile("movq %%fs:0, %0" : "=r"(seen));
    guest_equal("fs-base", seen, 0x11);
    __asm__ volatile("movq %%gs:0, %0" : "=r"(seen));
    guest_equal("gs-base", seen, 0x22);
    __asm__ volatile("swapgs; movq %%gs:0, %0" : "=r"(seen));
    guest_equal("swapgs", seen, 0x33);
    guest_equal("swapgs-kernel-base", rdmsr(MSR_KERNEL_GS_BASE), GUEST_PLAYGROUND + 8);
    guest_equal("swapgs-base", rdmsr(MSR_GS_BASE), GUEST_PLAYGROUND + 16);
    wrmsr(MSR_FS_BASE, 0xffff800000000000UL);
    guest_equal("fs-base-64-bits", rdmsr(MSR_FS_BASE), 0xffff800000000000UL);
    guest_segment(SELECTOR_FREE, 0x89abcdef, 0, PRESENT_DATA);
    __asm__ volatile("movl %0, %%fs" : : "r"(SELECTOR_FREE));
    guest_equal("fs-load-sets-base", rdmsr(MSR_FS_BASE), 0x89abcdef);
    __asm__ volatile("movl %0, %%fs" : : "r"(0));
    guest_value("fs-load-null-base", rdmsr(MSR_FS_BASE));
    TRY_PLAIN("rdfsbase %%rax");
    guest_expect("ud-rdfsbase-without-fsgsbase", VECTOR_UD, 0, 0);

    if ((cpuid(7, 0).ebx & 1) != 0) {
        write_cr4(read_cr4() | CR4_FSGSBASE);
        TRY("wrfsbase %1; rdfsbase %0", : "=r"(seen) : "r"(0x123456789abcUL) : "memory");
        guest_equal("wrfsbase", seen, 0x123456789abcUL);
        guest_equal("wrfsbase-msr", rdmsr(MSR_FS_BASE), 0x123456789abcUL);
        TRY("wrgsbase %0", : : "r"(NON_CANONICAL) : "memory");
        guest_expect("gp-wrgsbase-non-canonical", VECTOR_GP, 0, 0);
        write_cr4(read_cr4() & ~CR4_FSGSBASE);
    }
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_GS_BASE, 0);
}

static void syscall_rows(void)
{
    uint64_t user_rsp = guest_user((void *)(GUEST_PLAYGROUND + PAGE_SIZE));

    wrmsr(MSR_STAR, (uint64_t)SELECTOR_USER_CODE32 << 48 | (uint64_t)SELECTOR_CODE << 32);
    wrmsr(MSR_LSTAR, (uint64_t)leave);
    wrmsr(MSR_FMASK, RFLAGS_DF | RFLAGS_AC);
    guest_run(SELECTOR_USER_CODE, user_syscall, 0, 0, RFLAGS_DF);
    guest_expect("ud-syscall-without-sce", VECTOR_UD, 0, 0);
    TRY_PLAIN("sysretq");
    guest_expect("ud-sysret-without-sce", VECTOR_UD, 0, 0);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);

    guest_run(SELECTOR_USER_CODE, user_syscall, 0, 0, RFLAGS_DF | 1);
    guest_expect_vector("syscall", VECTOR_LEAVE, 0);
    guest_equal("syscall-rip", guest_fault.frame.rip, (uint64_t)leave + 3);
    guest_equal("syscall-cs", guest_fault.frame.cs, SELECTOR_CODE);
    guest_equal("syscall-ss", guest_fault.frame.ss, SELECTOR_DATA);
    guest_equal("syscall-rcx", guest_fault.frame.rcx, guest_user(user_syscall) + 2);
    guest_equal("syscall-r11", guest_fault.frame.r11, RFLAGS_DF | RFLAGS_FIXED | 1);
    guest_equal("syscall-flags-masked", guest_fault.frame.rflags, RFLAGS_FIXED | 1);
    guest_run(SELECTOR_USER_CODE32, user_syscall32, 0, 0, 0);
    guest_expect("ud-syscall-32-bit", VECTOR_UD, 0, 0);

    TRY("movq %0, %%rsp; movl $2, %%r11d; sysretq",
        :
        : "r"(user_rsp), "c"(guest_user(leave))
        : "memory", "r11");
    guest_expect_vector("sysret", VECTOR_LEAVE, 0);
    guest_equal("sysret-cs", guest_fault.frame.cs, SELECTOR_USER_CODE);
    guest_equal("sysret-ss", guest_fault.frame.ss, SELECTOR_USER_DATA);
    guest_equal("sysret-rip", guest_fault.frame.rip, guest_user(leave) + 3);
    TRY("movq %0, %%rsp; movl $0x802, %%r11d; sysretl",
        :
        : "r"(user_rsp), "c"(guest_user(leave))
        : "memory", "r11");
    guest_expect_vector("sysret-32", VECTOR_LEAVE, 0);
    guest_equal("sysret-32-cs", guest_fault.frame.cs, SELECTOR_USER_CODE32);
    guest_equal("sysret-32-flags", guest_fault.frame.rflags, 0x802);
    TRY("sysretq", : : "c"(NON_CANONICAL) : "memory", "r11");
    guest_expect("gp-sysret-non-canonical", VECTOR_GP, 0, 0);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SCE);

    wrmsr(MSR_SYSENTER_CS, 0);
    wrmsr(MSR_SYSENTER_EIP, (uint64_t)leave);
    wrmsr(MSR_SYSENTER_ESP, GUEST_PLAYGROUND + PAGE_SIZE);
    guest_run(SELECTOR_USER_CODE, user_sysenter, 0, 0, 0);
    guest_expect("gp-sysenter-cs-null", VECTOR_GP, 0, 0);
    TRY("sysexitq", : : "c"(user_rsp), "d"(guest_user(leave)) : "memory");
    guest_expect("gp-sysexit-cs-null", VECTOR_GP, 0, 0);
    wrmsr(MSR_SYSENTER_CS, SELECTOR_CODE);
    guest_run(SELECTOR_USER_CODE, user_sysenter, 0, 0, RFLAGS_DF);
    guest_expect_vector("sysenter", VECTOR_LEAVE, 0);
    guest_equal("sysenter-cs", guest_fault.frame.cs, SELECTOR_CODE);
    guest_equal("sysenter-ss", guest_fault.frame.ss, SELECTOR_DATA);
    guest_equal("sysenter-rip", guest_fault.frame.rip, (uint64_t)leave + 3);
    guest_equal("sysenter-rsp", guest_fault.frame.rsp, GUEST_PLAYGROUND + PAGE_SIZE);
    TRY("sysexitq", : : "c"(user_rsp), "d"(guest_user(leave)) : "memory");
    guest_expect_vector("sysexit", VECTOR_LEAVE, 0);
    guest_equal("sysexit-cs", guest_fault.frame.cs, SELECTOR_USER_CODE);
    guest_equal("sysexit-ss", guest_fault.frame.ss, SELECTOR_USER_DATA2);
    guest_equal("sysexit-rsp", guest_fault.frame.rsp, user_rsp);
    TRY("sysexitl", : : "c"(user_rsp), "d"(guest_user(leave)) : "memory");
    guest_expect_vector("sysexit-32", VECTOR_LEAVE, 0);
    guest_equal("sysexit-32-cs", guest_fault.frame.cs, SELECTOR_USER_CODE32);
    TRY("sysexitq", : : "c"(user_rsp), "d"(NON_CANONICAL) : "memory");
    guest_expect("gp-sysexit-non-canonical", VECTOR_GP, 0, 0);
}

void guest_main(void)
{
    type_rows();
    selector_rows();
    limit_rows();
    far_rows();
    iret_rows();
    base_rows();
    syscall_rows();
}
