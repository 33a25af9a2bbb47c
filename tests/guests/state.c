// SPDX-License-Identifier: BSD-2-Clause
/*
 * Every register that a program or a kernel keeps, filled with numbers that no other guest has, held for a
 * while and looked at again. Two partitions with different seeds on one processor: what one finds of the
 * other is a leak. Words: seed=0 … seed=63 (0), rounds=10, =100, … =100000 (100).
 *
 * Not held: RSP, TR, CS, SS, and DS and ES, which the framework's stubs set, are what the guest stands on;
 * IA32_XSS takes nothing but 0, for no state component of it is offered. PKRU is read and written by its own
 * instructions; user pages have key 0, to which nothing is denied.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"

#define VECTOR_TIMER   0x61 /* its priority, 6, is above every CR8 below */

#define MSR_SPEC_CTRL  0x48
#define MSR_DEBUGCTL   0x1d9
#define DEBUGCTL_BTF   BIT(1) /* nothing, without RFLAGS.TF */
#define XSAVE_SIZE     4096
#define XSAVE_HEADER   512
#define XSAVE_KNOWN    0xe7 /* x87, SSE, AVX, AVX-512: bits of XCR0 */
#define FXSAVE_TESTED  416  /* the rest is not the processor's */
#define GENERAL        16

#define CR0_FREE       (CR0_MP | CR0_NE | CR0_WP | CR0_AM)
#define CR3_FREE       (BIT(3) | BIT(4))
#define CR4_FREE       (CR4_TSD | CR4_DE | CR4_OSXMMEXCPT)
#define RFLAGS_FREE    (RFLAGS_IOPL | RFLAGS_NT | RFLAGS_AC | BIT(21))
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

/* ---- The registers that are read and written one by one ----------------------------------------------- */

static uint64_t components; /* of the extended state: all that XCR0 can enable; 0: FXSAVE only */

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

/* A register of which some bits may be anything, and the rest stays. */
#define FREE_BITS(name, read, write, free)                                                                   \
    static uint64_t name##_bits(uint64_t x)                                                                  \
    {                                                                                                        \
        return x & (free);                                                                                   \
    }                                                                                                        \
    static uint64_t name##_read(void)                                                                        \
    {                                                                                                        \
        return read & (free);                                                                                \
    }                                                                                                        \
    static void name##_write(uint64_t value)                                                                 \
    {                                                                                                        \
        uint64_t whole = (read & ~(uint64_t)(free)) | value;                                                 \
        write(whole);                                                                                        \
    }

#define WRITE_EFER(value) wrmsr(MSR_EFER, value)

FREE_BITS(cr0, read_cr0(), write_cr0, CR0_FREE)
FREE_BITS(cr3, read_cr3(), write_cr3, CR3_FREE)
FREE_BITS(cr4, read_cr4(), write_cr4, CR4_FREE)
FREE_BITS(rflags, read_flags(), write_flags, RFLAGS_FREE)
FREE_BITS(efer, rdmsr(MSR_EFER), WRITE_EFER, EFER_SCE)

/* Selectors of data segments; the bases are numbers of their own. */
static uint64_t data_selector(uint64_t x)
{
    static const uint16_t selectors[] = {0, 1, 2, 3, SELECTOR_DATA, SELECTOR_USER_DATA, SELECTOR_USER_DATA2};

    return selectors[x % ARRAY_SIZE(selectors)];
}

/* LDTs that nobody looks into: their descriptors are in the slots from SELECTOR_FREE on, two each. */
#define LDTS 4

static uint64_t ldt_selector(uint64_t x)
{
    return x % (LDTS + 1) == 0 ? 0 : SELECTOR_FREE + 16 * (x % (LDTS + 1) - 1);
}

static void ldt_init(void)
{
    for (unsigned i = 0; i < LDTS; i++) {
        guest_segment((uint16_t)(SELECTOR_FREE + 16 * i), (uint32_t)(uint64_t)guest_gdt, 7,
                      SEGMENT_PRESENT | SEGMENT_TYPE(2));
        guest_gdt[SELECTOR_FREE / 8 + 2 * i + 1] = 0;
    }
}

#define SELECTOR_REGISTER(name, load, store)                                                                 \
    static uint64_t name##_read(void)                                                                        \
    {                                                                                                        \
        uint16_t selector;                                                                                   \
        __asm__ volatile(store : "=r"(selector));                                                            \
        return selector;                                                                                     \
    }                                                                                                        \
    static void name##_write(uint64_t value)                                                                 \
    {                                                                                                        \
        __asm__ volatile(load : : "r"((uint16_t)value));                                                     \
    }

SELECTOR_REGISTER(fs, "movw %0, %%fs", "movw %%fs, %0")
SELECTOR_REGISTER(gs, "movw %0, %%gs", "movw %%gs, %0")
SELECTOR_REGISTER(ldtr, "lldt %0", "sldt %0")

/* Limits beyond the tables: what is behind them is never used. */
static uint64_t gdt_limit(uint64_t x)
{
    return sizeof(guest_gdt) - 1 + x % (0x10000 - sizeof(guest_gdt));
}

static uint64_t idt_limit(uint64_t x)
{
    return sizeof(guest_idt) - 1 + x % (0x10000 - sizeof(guest_idt));
}

/* The limit; 0 if the base is not `base`. */
static uint64_t limit_of(const struct descriptor_pointer *pointer, const void *base)
{
    return pointer->base == (uint64_t)base ? pointer->limit : 0;
}

static uint64_t gdtr_read(void)
{
    struct descriptor_pointer pointer;

    __asm__ volatile("sgdt %0" : "=m"(pointer));
    return limit_of(&pointer, guest_gdt);
}

static void gdtr_write(uint64_t limit)
{
    struct descriptor_pointer pointer = {(uint16_t)limit, (uint64_t)guest_gdt};

    __asm__ volatile("lgdt %0" : : "m"(pointer));
}

static uint64_t idtr_read(void)
{
    struct descriptor_pointer pointer;

    __asm__ volatile("sidt %0" : "=m"(pointer));
    return limit_of(&pointer, guest_idt);
}

static void idtr_write(uint64_t limit)
{
    guest_idt_load((uint16_t)limit);
}

/* State that is disabled is kept, and looked at when all is enabled again. */
static uint64_t enabled_components(uint64_t x)
{
    static const uint8_t sets[] = {0x01, 0x03, 0x07, XSAVE_KNOWN};

    return sets[x % ARRAY_SIZE(sets)] & components;
}

static uint64_t xcr0_read(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static void xcr0_write(uint64_t value)
{
    __asm__ volatile("xsetbv" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(0) : "memory");
}

static uint64_t single_step_branches(uint64_t x)
{
    return x & DEBUGCTL_BTF;
}

static bool has_debugctl(void)
{
    uint32_t low = 0, high;

    TRY("wrmsr", : : "c"(MSR_DEBUGCTL), "a"((uint32_t)DEBUGCTL_BTF), "d"(0) : "memory");
    if (guest_fault.vector == NO_VECTOR)
        TRY("rdmsr", : "=a"(low), "=d"(high) : "c"(MSR_DEBUGCTL) : "memory");
    return guest_fault.vector == NO_VECTOR && low == DEBUGCTL_BTF;
}

static bool has_xcr0(void)
{
    return components != 0;
}

static bool has_tsc_aux(void)
{
    return (cpuid(0x80000001, 0).edx & BIT(27)) != 0;
}

static uint64_t other_keys(uint64_t x)
{
    return (uint32_t)x & ~3U;
}

static uint64_t pkru_read(void)
{
    uint32_t value;

    __asm__ volatile("rdpkru" : "=a"(value) : "c"(0) : "rdx");
    return value;
}

static void pkru_write(uint64_t value)
{
    __asm__ volatile("wrpkru" : : "a"((uint32_t)value), "c"(0), "d"(0) : "memory");
}

static bool has_pkru(void)
{
    const bool has = cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ecx & BIT(3)) != 0;

    if (has)
        write_cr4(read_cr4() | CR4_PKE);
    return has;
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
    {"rflags", rflags_bits, rflags_read, rflags_write, 0, NULL},
    {"cr0", cr0_bits, cr0_read, cr0_write, 0, NULL},
    {"cr3", cr3_bits, cr3_read, cr3_write, 0, NULL},
    {"cr4", cr4_bits, cr4_read, cr4_write, 0, NULL},
    {"cr2", any, read_cr2, write_cr2, 0, NULL},
    {"cr8", priority, read_cr8, write_cr8, 0, NULL},
    {"dr0", any, read_dr0, write_dr0, 0, NULL},
    {"dr1", any, read_dr1, write_dr1, 0, NULL},
    {"dr2", any, read_dr2, write_dr2, 0, NULL},
    {"dr3", any, read_dr3, write_dr3, 0, NULL},
    {"dr6", status, read_dr6, write_dr6, 0, NULL},
    {"dr7", lengths, read_dr7, write_dr7, 0, NULL},
    {"fs", data_selector, fs_read, fs_write, 0, NULL}, /* before its base, which it loads */
    {"gs", data_selector, gs_read, gs_write, 0, NULL},
    {"ldtr", ldt_selector, ldtr_read, ldtr_write, 0, NULL},
    {"gdtr", gdt_limit, gdtr_read, gdtr_write, 0, NULL},
    {"idtr", idt_limit, idtr_read, idtr_write, 0, NULL},
    {"efer", efer_bits, efer_read, efer_write, 0, NULL},
    {"debugctl", single_step_branches, NULL, NULL, MSR_DEBUGCTL, has_debugctl},
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
    {"pkru", other_keys, pkru_read, pkru_write, 0, has_pkru},
    {"xcr0", enabled_components, xcr0_read, xcr0_write, 0, has_xcr0},
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

static uint8_t wanted[XSAVE_SIZE] __aligned(64), seen[XSAVE_SIZE] __aligned(64);

static void extended_init(void)
{
    write_cr0(read_cr0() & ~(uint64_t)(CR0_TS | CR0_EM));
    write_cr4(read_cr4() | CR4_OSFXSR);
    if ((cpuid(1, 0).ecx & BIT(26)) == 0)
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    components = cpuid(0xd, 0).eax & XSAVE_KNOWN;
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

/*
 * All exceptions are masked, some have been met; the instruction that met them, and its operand, are where
 * they please. Components beyond SSE are in their initial configuration now and then.
 */
static void extended_fill(unsigned round)
{
    uint64_t x = number(round, 1000), instruction = canonical(number(round, 1001)),
             operand = canonical(number(round, 1002));
    uint64_t used = components & (0x3 | x >> 48);
    uint16_t control = (uint16_t)(0x37f | (x & 3) << 10), status_word = (uint16_t)(x >> 2 & 0x7f7f);
    uint16_t opcode = (uint16_t)(x >> 32 & 0x7ff);
    uint32_t mxcsr = (uint32_t)(0x1f80 | (x >> 17 & 7) << 13 | (x >> 20 & 0x3f));

    if (components != 0)
        xcr0_write(components);
    memset(wanted, 0, sizeof(wanted));
    memcpy(wanted, &control, sizeof(control));
    memcpy(wanted + 2, &status_word, sizeof(status_word));
    wanted[4] = (uint8_t)(x >> 26); /* registers that are not empty */
    memcpy(wanted + 6, &opcode, sizeof(opcode));
    memcpy(wanted + 8, &instruction, sizeof(instruction));
    memcpy(wanted + 16, &operand, sizeof(operand));
    memcpy(wanted + 24, &mxcsr, sizeof(mxcsr));
    for (unsigned i = 32; i < FXSAVE_TESTED; i++)
        if (i >= 160 || i % 16 < 10)
            wanted[i] = extended_byte(round, i);
    memcpy(wanted + XSAVE_HEADER, &used, sizeof(used));
    for (unsigned i = 2; i < 8; i++)
        if (used & BIT(i))
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
    if (components != 0) {
        xcr0_write(components);
        __asm__ volatile("xsave64 %0" : "+m"(seen) : "a"(-1), "d"(-1) : "memory");
    } else {
        __asm__ volatile("fxsave64 %0" : "+m"(seen) : : "memory");
    }
    for (unsigned i = 0; i < XSAVE_SIZE; i++) {
        /* The mask of MXCSR, what is nobody's, and what the header says of the save itself. */
        bool is_other = (i >= 28 && i < 32) || (i >= FXSAVE_TESTED && i < XSAVE_HEADER + 64);
        if (!is_other && seen[i] != wanted[i])
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
    bool halts = x % 2 == 0;

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
    extended_init();
    ldt_init();
    print("HOLDS components %#lx, all but", components);
    for (unsigned i = 0; i < ARRAY_SIZE(singles); i++) {
        single_exists[i] = singles[i].exists == NULL || singles[i].exists();
        if (!single_exists[i])
            print(" %s", singles[i].name);
    }
    print("\n");
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
