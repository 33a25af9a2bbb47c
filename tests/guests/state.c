// SPDX-License-Identifier: BSD-2-Clause
/*
 * Every register that a program or a kernel keeps, filled with numbers that no other guest has, held for a
 * while and looked at again. Two partitions with different seeds on one processor: what one finds of the
 * other is a leak. Words: seed=0 … seed=63 (0), rounds=10, =100, … =100000 (100).
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"

#define VECTOR_TIMER   0x61 /* its priority, 6, is above every CR8 below */

#define MSR_SPEC_CTRL  0x48
#define XSAVE_SIZE     4096
#define XSAVE_HEADER   512
#define XSAVE_KNOWN    0xe7 /* x87, SSE, AVX, AVX-512: bits of XCR0 */
#define FXSAVE_TESTED  416  /* the rest is not the processor's */
#define GENERAL        16

#define DR6_CONSTANT   0xffff0ff0UL
#define DR6_FREE       0xe00fUL
#define DR7_CONSTANT   0x400UL
#define DR7_LENGTHS    0xcccc0000UL
#define PAT_LOW_HALF   0x00070406UL /* stays: WB for all memory of the guest's */
#define CANONICAL_BITS 0x00007fffffffffffUL

/* ---- Holding ------------------------------------------------------------------------------------------ */

/*
 * void state_hold(uint64_t registers[16], uint32_t halts, uint32_t spins): loads the general registers (by
 * number; RSP's place is not used), halts until an interrupt or spins, and stores them again.
 */
void state_hold(uint64_t *registers, uint32_t halts, uint32_t spins);
extern uint64_t state_registers;
extern uint32_t state_halts, state_spins;
uint64_t state_registers;
uint32_t state_halts, state_spins;

__asm__(".text\n"
        ".globl state_hold\n"
        "state_hold:\n"
        "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rdi, state_registers\n"
        "    movl %esi, state_halts\n"
        "    movl %edx, state_spins\n"
        "    movq 0(%rdi), %rax\n    movq 8(%rdi), %rcx\n    movq 16(%rdi), %rdx\n    movq 24(%rdi), %rbx\n"
        "    movq 40(%rdi), %rbp\n    movq 48(%rdi), %rsi\n"
        "    movq 64(%rdi), %r8\n    movq 72(%rdi), %r9\n    movq 80(%rdi), %r10\n    movq 88(%rdi), %r11\n"
        "    movq 96(%rdi), %r12\n    movq 104(%rdi), %r13\n    movq 112(%rdi), %r14\n"
        "    movq 120(%rdi), %r15\n    movq 56(%rdi), %rdi\n"
        "    cmpl $0, state_halts\n"
        "    je 1f\n"
        "    sti\n    hlt\n    cli\n"
        "    jmp 2f\n"
        "1:  decl state_spins\n"
        "    jnz 1b\n"
        "2:  pushq %rdi\n"
        "    movq state_registers, %rdi\n"
        "    movq %rax, 0(%rdi)\n    movq %rcx, 8(%rdi)\n    movq %rdx, 16(%rdi)\n    movq %rbx, 24(%rdi)\n"
        "    movq %rbp, 40(%rdi)\n    movq %rsi, 48(%rdi)\n    popq 56(%rdi)\n"
        "    movq %r8, 64(%rdi)\n    movq %r9, 72(%rdi)\n    movq %r10, 80(%rdi)\n    movq %r11, 88(%rdi)\n"
        "    movq %r12, 96(%rdi)\n    movq %r13, 104(%rdi)\n    movq %r14, 112(%rdi)\n"
        "    movq %r15, 120(%rdi)\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbp\n    popq %rbx\n"
        "    ret\n");

/* ---- Numbers ------------------------------------------------------------------------------------------ */

static unsigned seed;

/* The number of `what` in `round`: different for every seed, round and register. */
static uint64_t number(unsigned round, unsigned what)
{
    uint64_t x = ((uint64_t)(seed + 1) << 48 | (uint64_t)round << 16 | what) * 0x9e3779b97f4a7c15UL;

    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9UL;
    return x ^ x >> 32;
}

/* ---- The registers that are read and written one by one -------------------------------------------------
 */

/* An address that 48-bit paging can have. */
static uint64_t canonical(uint64_t x)
{
    return x & BIT(47) ? x | ~CANONICAL_BITS : x & CANONICAL_BITS;
}

static uint64_t any(uint64_t x)
{
    return x;
}

static uint64_t word(uint64_t x)
{
    return (uint32_t)x;
}

static uint64_t status(uint64_t x)
{
    return DR6_CONSTANT | (x & DR6_FREE);
}

/* Breakpoints of any length, all off. */
static uint64_t lengths(uint64_t x)
{
    return DR7_CONSTANT | (x & DR7_LENGTHS);
}

static uint64_t priority(uint64_t x)
{
    return x % 6;
}

static uint64_t memory_types(uint64_t x)
{
    static const uint8_t types[] = {0, 1, 4, 5, 6, 7};
    uint64_t pat = PAT_LOW_HALF;

    for (unsigned i = 4; i < 8; i++)
        pat |= (uint64_t)types[(x >> i * 8) % ARRAY_SIZE(types)] << i * 8;
    return pat;
}

/* IBRS, STIBP, SSBD: what CPUID offers. */
static uint64_t speculation(uint64_t x)
{
    uint32_t edx = cpuid(7, 0).edx;

    return x & ((edx & BIT(26) ? BIT(0) : 0) | (edx & BIT(27) ? BIT(1) : 0) | (edx & BIT(31) ? BIT(2) : 0));
}

static bool has_tsc_aux(void)
{
    return (cpuid(0x80000001, 0).edx & BIT(27)) != 0;
}

static bool has_spec_ctrl(void)
{
    return cpuid(0, 0).eax >= 7 && (cpuid(7, 0).edx & (BIT(26) | BIT(27) | BIT(31))) != 0;
}

static const struct {
    const char *name;
    uint64_t (*allowed)(uint64_t); /* a number made one that the register takes */
    uint64_t (*read)(void);        /* NULL: it is `msr` */
    void (*write)(uint64_t);
    uint32_t msr;
    bool (*exists)(void); /* NULL: always */
} singles[] = {
    {"cr2", any, read_cr2, write_cr2, 0, NULL},
    {"cr8", priority, read_cr8, write_cr8, 0, NULL},
    {"dr0", any, read_dr0, write_dr0, 0, NULL},
    {"dr1", any, read_dr1, write_dr1, 0, NULL},
    {"dr2", any, read_dr2, write_dr2, 0, NULL},
    {"dr3", any, read_dr3, write_dr3, 0, NULL},
    {"dr6", status, read_dr6, write_dr6, 0, NULL},
    {"dr7", lengths, read_dr7, write_dr7, 0, NULL},
    {"star", any, NULL, NULL, MSR_STAR, NULL},
    {"lstar", canonical, NULL, NULL, MSR_LSTAR, NULL},
    {"cstar", canonical, NULL, NULL, MSR_CSTAR, NULL},
    {"fmask", word, NULL, NULL, MSR_FMASK, NULL},
    {"fs-base", canonical, NULL, NULL, MSR_FS_BASE, NULL},
    {"gs-base", canonical, NULL, NULL, MSR_GS_BASE, NULL},
    {"kernel-gs-base", canonical, NULL, NULL, MSR_KERNEL_GS_BASE, NULL},
    {"sysenter-cs", word, NULL, NULL, MSR_SYSENTER_CS, NULL},
    {"sysenter-esp", canonical, NULL, NULL, MSR_SYSENTER_ESP, NULL},
    {"sysenter-eip", canonical, NULL, NULL, MSR_SYSENTER_EIP, NULL},
    {"pat", memory_types, NULL, NULL, MSR_PAT, NULL},
    {"tsc-aux", word, NULL, NULL, MSR_TSC_AUX, has_tsc_aux},
    {"spec-ctrl", speculation, NULL, NULL, MSR_SPEC_CTRL, has_spec_ctrl},
};

static bool single_exists[ARRAY_SIZE(singles)];

static uint64_t single_number(unsigned round, unsigned i)
{
    return singles[i].allowed(number(round, i));
}

static uint64_t single_read(unsigned i)
{
    return singles[i].read != NULL ? singles[i].read() : rdmsr(singles[i].msr);
}

static void single_write(unsigned i, uint64_t value)
{
    if (singles[i].write != NULL)
        singles[i].write(value);
    else
        wrmsr(singles[i].msr, value);
}

/* ---- Extended state ----------------------------------------------------------------------------------- */

static uint64_t components; /* in XCR0; 0: FXSAVE only */
static uint8_t wanted[XSAVE_SIZE] __aligned(64), seen[XSAVE_SIZE] __aligned(64);

static void extended_init(void)
{
    uint32_t low;

    write_cr0(read_cr0() & ~(uint64_t)(CR0_TS | CR0_EM));
    write_cr4(read_cr4() | CR4_OSFXSR);
    if ((cpuid(1, 0).ecx & BIT(26)) == 0)
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    low = cpuid(0xd, 0).eax & XSAVE_KNOWN;
    components = low;
    __asm__ volatile("xsetbv" : : "a"(low), "d"(0), "c"(0));
}

/* What belongs at byte `offset` of the area. */
static uint8_t extended_byte(unsigned round, unsigned offset)
{
    static unsigned last_round, last_offset;
    static uint64_t eight;

    if (round != last_round || offset / 8 != last_offset / 8 || eight == 0)
        eight = number(round, 4096 + offset / 8);
    last_round = round;
    last_offset = offset;
    return (uint8_t)(eight >> offset % 8 * 8);
}

/* In the format without compaction. */
static void fill_component(unsigned round, unsigned component)
{
    struct cpuid r = cpuid(0xd, component);

    for (uint32_t i = 0; i < r.eax; i++)
        wanted[r.ebx + i] = extended_byte(round, r.ebx + i);
}

static void extended_fill(unsigned round)
{
    uint64_t x = number(round, 1000);
    uint16_t control = (uint16_t)(0x37f | (x & 3) << 10), top = (uint16_t)((x >> 8 & 7) << 11);
    uint32_t mxcsr = (uint32_t)(0x1f80 | (x >> 16 & 7) << 13);

    memset(wanted, 0, sizeof(wanted));
    memcpy(wanted, &control, sizeof(control));
    memcpy(wanted + 2, &top, sizeof(top));
    wanted[4] = 0xff; /* no register is empty */
    memcpy(wanted + 24, &mxcsr, sizeof(mxcsr));
    for (unsigned i = 32; i < FXSAVE_TESTED; i++)
        if (i >= 160 || i % 16 < 10)
            wanted[i] = extended_byte(round, i);
    memcpy(wanted + XSAVE_HEADER, &components, sizeof(components));
    for (unsigned i = 2; i < 8; i++)
        if (components & BIT(i))
            fill_component(round, i);
    if (components != 0)
        __asm__ volatile("xrstor64 %0" : : "m"(wanted), "a"(-1), "d"(-1) : "memory");
    else
        __asm__ volatile("fxrstor64 %0" : : "m"(wanted) : "memory");
}

/* The first byte that differs, or -1. */
static int extended_difference(void)
{
    memset(seen, 0, sizeof(seen));
    if (components != 0)
        __asm__ volatile("xsave64 %0" : "+m"(seen) : "a"(-1), "d"(-1) : "memory");
    else
        __asm__ volatile("fxsave64 %0" : "+m"(seen) : : "memory");
    for (unsigned i = 0; i < XSAVE_SIZE; i++) {
        /* Last instruction and operand, and what FXSAVE and the header say of the save itself. */
        bool is_pointer = i >= 5 && i < 24;
        bool is_other = (i >= 28 && i < 32) || (i >= FXSAVE_TESTED && i < XSAVE_HEADER + 64);
        if (!is_pointer && !is_other && seen[i] != wanted[i])
            return (int)i;
    }
    return -1;
}

/* ---- Rounds ------------------------------------------------------------------------------------------- */

static void timer_arm(uint64_t x)
{
    lapic_write(LAPIC_TIMER_ICR, 1000 + (uint32_t)(x % 20000));
}

/* One round; false, with a FAIL row, if anything was not as it was left. */
static bool run_round(unsigned round)
{
    uint64_t registers[GENERAL], x = number(round, 2000);
    uint64_t found[ARRAY_SIZE(singles)];
    bool halts = x % 4 == 0;

    for (unsigned i = 0; i < GENERAL; i++)
        registers[i] = number(round, 3000 + i);
    extended_fill(round);
    for (unsigned i = 0; i < ARRAY_SIZE(singles); i++)
        if (single_exists[i])
            single_write(i, single_number(round, i));
    /* Last, so that it does halt: what comes before takes longer than the timer. */
    if (halts)
        timer_arm(x >> 8);
    state_hold(registers, halts, 1 + (uint32_t)(x >> 32) % 20000);
    for (unsigned i = 0; i < ARRAY_SIZE(singles); i++)
        if (single_exists[i])
            found[i] = single_read(i);

    int byte = extended_difference();
    for (unsigned i = 0; i < GENERAL; i++) {
        if (i == 4 || registers[i] == number(round, 3000 + i))
            continue;
        guest_check(false, "state", "round %u: register %u is %lx, not %lx", round, i, registers[i],
                    number(round, 3000 + i));
        return false;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(singles); i++) {
        if (!single_exists[i] || found[i] == single_number(round, i))
            continue;
        guest_check(false, "state", "round %u: %s is %lx, not %lx", round, singles[i].name, found[i],
                    single_number(round, i));
        return false;
    }
    if (byte >= 0)
        guest_check(false, "state", "round %u: byte %d of the extended state is %x, not %x", round, byte,
                    seen[byte], wanted[byte]);
    return byte < 0;
}

/* Whether the word NAME=value was given. */
static bool word_is(const char *name, unsigned value)
{
    char text[32];

    format_text(text, sizeof(text), "%s=%u", name, value);
    return guest_argument(text);
}

void guest_main(void)
{
    unsigned rounds = 100, round = 0;
    char row[32];

    for (unsigned i = 0; i < 64; i++)
        seed = word_is("seed", i) ? i : seed;
    for (unsigned i = 10; i <= 100000; i *= 10)
        rounds = word_is("rounds", i) ? i : rounds;
    for (unsigned i = 0; i < ARRAY_SIZE(singles); i++)
        single_exists[i] = singles[i].exists == NULL || singles[i].exists();
    extended_init();
    lapic_init(false);
    guest_handlers[VECTOR_TIMER] = pc_count_lapic;
    lapic_write(LAPIC_TIMER_DCR, DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    while (round < rounds && run_round(round))
        round++;
    if (round == rounds) {
        format_text(row, sizeof(row), "state rounds=%u", rounds);
        guest_check(true, row, "%s", "");
    }
}
