// SPDX-License-Identifier: BSD-2-Clause
/*
 * An enemy of whoever translates for it: all its processors rewrite the tables that they run on, at random
 * and without any agreement, and use what comes out. Entries refer to tables and pages at random, tables are
 * pages and pages tables, at every level and in each other; entries lead to holes, to addresses beyond the
 * memory, and to frames that others may have; rights, CR0.WP, CR4.PGE, PSE, SMEP, SMAP, PCIDE and EFER.NXE
 * change meanwhile; addresses are read, written, executed, invalidated, or not. It goes on for ever and says
 *
 *     HOSTILE paging processors
 *     ALIVE operations faults others
 *
 * each REPORT operations of processor 0: its own, the faults that it took, the operations of the others.
 *
 * The word `alone` leaves the other processors out. One processor alone does the same on each run.
 *
 * How it survives. Its own code, data, stacks and descriptors are the island: entry 0 of each root, which is
 * the framework's map and no part of the game. All else that can ever be an entry is a value that
 * random_entry() made, with flags that anything may have changed, or rubble: stores are aligned, of such
 * values, or of a first byte, which holds flags. Wherever such a value stands and whatever it is taken for,
 * it leads to the arena, to where no memory is, or nowhere: the island cannot be written by any address. The
 * first word of each page is left alone: in a root it is the island, elsewhere it is RUBBLE, which is not
 * present, and INT3s when executed.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/smp.h"

#define ARENA       GUEST_PLAYGROUND
#define ARENA_PAGES 128 /* the more it uses them again, the stranger the tables */
#define ROOTS       4   /* the first of them */
#define RUBBLE      0xccccccccccccccccUL
#define ENTRY_FLAGS (BIT(12) - 1)
#define FRAME       0xffffffffff000UL
#define REPORT      (1UL << 16)
#define VECTOR_LOST 0x41 /* its stack is at an address that is never mapped */
#define IST_LOST    5

/* ---- Chance ------------------------------------------------------------------------------------------- */

/* What each processor has of its own. */
static struct self {
    uint64_t resume_rsp; /* attempt() stores it: offset 0 */
    uint64_t random;
    volatile uint64_t operations, faults;
} __aligned(64) selves[SMP_MAX];

/* xorshift64* */
static uint64_t random(struct self *self)
{
    self->random ^= self->random >> 12;
    self->random ^= self->random << 25;
    self->random ^= self->random >> 27;
    return self->random * 0x2545f4914f6cdd1dUL >> 8; /* the lowest bits are the poorest */
}

static uint64_t below(struct self *self, uint64_t limit)
{
    return random(self) % limit;
}

static bool one_in(struct self *self, unsigned n)
{
    return below(self, n) == 0;
}

static volatile uint64_t *arena_page(uint64_t n)
{
    return (volatile uint64_t *)(ARENA + n * PAGE_SIZE);
}

/* Width of physical addresses. */
static unsigned width;

/*
 * Where an entry leads to. Never to the island, below ARENA, whatever the size of the page: a size that does
 * not suit the address makes reserved bits of it. Nor to the devices below 4 GiB, by which a partition can
 * end.
 */
static uint64_t random_frame(struct self *self)
{
    switch (below(self, 64)) {
    case 0: /* behind its memory, where others and Umbra have theirs */
        return guest_memory_size() + MIB(2) + (below(self, MIB(512)) & FRAME);
    case 1:
        return (GIB(1) + below(self, GIB(1))) & FRAME;
    case 2:
        return (GIB(4) + below(self, GIB(60))) & FRAME;
    case 3: /* the last that there are */
        return (BIT(width) - MIB(4) + below(self, MIB(4))) & FRAME;
    case 4: /* more than there are */
        return (random(self) | BIT(width)) & FRAME;
    default:
        return ARENA + below(self, ARENA_PAGES) * PAGE_SIZE;
    }
}

/* Mostly one that can be used: an address goes through four of them. */
static uint64_t random_entry(struct self *self)
{
    uint64_t flags = PAGE_PRESENT | PAGE_WRITE | PAGE_USER;

    if (one_in(self, 24))
        return RUBBLE;
    if (one_in(self, 8))
        flags = (random(self) & ENTRY_FLAGS & ~PAGE_LARGE) | PAGE_PRESENT;
    if (one_in(self, 8)) /* a supervisor's is what SMEP and SMAP let through */
        flags &= ~PAGE_USER;
    if (one_in(self, 24))
        flags |= PAGE_NX;
    if (one_in(self, 64))
        flags |= below(self, 0x800) << 52;
    if (one_in(self, 16))
        return (one_in(self, 2) ? ARENA : random_frame(self)) | flags | PAGE_LARGE;
    return random_frame(self) | flags;
}

/* A word of a page, but the first. */
static unsigned random_slot(struct self *self)
{
    /* Mostly few of them, so that addresses hit them. */
    return one_in(self, 4) ? 1 + (unsigned)below(self, 511) : 1 + (unsigned)below(self, 7);
}

/* An address outside of the island, in a page at `offset`. */
static uint64_t random_address(struct self *self, unsigned offset)
{
    uint64_t address = 0;

    for (unsigned level = 0; level < 4; level++)
        address = address << 9 | random_slot(self);
    address = address << 12 | offset;
    return (uint64_t)((int64_t)(address << 16) >> 16);
}

/* ---- Attempts ----------------------------------------------------------------------------------------- */

/* Runs code(a, b), and comes back whatever that raises. */
void attempt(struct self *self, const char *code, uint64_t a, uint64_t b);
extern const char attempt_over[];

__asm__(".pushsection .text\n"
        "attempt: pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
        "movq %rsp, (%rdi); movq %rsi, %rax; movq %rdx, %rdi; movq %rcx, %rsi; call *%rax\n"
        "attempt_over: popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx; ret\n"
        ".popsection");

#define CODE(name, text)                                                                                     \
    extern const char name[];                                                                                \
    __asm__(".pushsection .text\n" #name ": " text "; ret\n.popsection")

CODE(do_read, "movq (%rdi), %rax");
CODE(do_read_byte, "movb (%rdi), %al");
CODE(do_write, "movq %rsi, (%rdi)");
CODE(do_write_flags, "movb %sil, (%rdi)");
CODE(do_exchange, "lock xchgq %rsi, (%rdi)");
CODE(do_copy, "movq $64, %rcx; rep movsq");
CODE(do_execute, "jmp *%rdi");
CODE(do_user_access, "stac; movq (%rdi), %rax; clac");
CODE(do_invlpg, "invlpg (%rdi)");
CODE(do_invpcid, "pushq %rsi; movq %rdi, %rcx; shrq $2, %rcx; andl $0xfff, %ecx; pushq %rcx;"
                 "andl $3, %edi; invpcid (%rsp), %rdi; addq $16, %rsp");
CODE(do_cr0, "movq %rdi, %cr0");
CODE(do_cr3, "movq %rdi, %cr3");
CODE(do_cr4, "movq %rdi, %cr4");
CODE(do_efer, "movl $0xc0000080, %ecx; movl %edi, %eax; xorl %edx, %edx; wrmsr");
CODE(do_pat, "movl $0x277, %ecx; movl %edi, %eax; movl %esi, %edx; wrmsr");
CODE(do_lost, "int $0x41");
/* To ring 3, at the alias `rsi`, with RDI as it is; no stack is used there. */
CODE(do_user, "pushq $0x23; pushq $0; pushq $0x2; pushq $0x2b; pushq %rsi; iretq");

SNIPPET(user_read, 64, "movq (%rdi), %rax");
SNIPPET(user_write, 64, "lock orb $0x20, (%rdi)"); /* sets A, as a processor might */
SNIPPET(user_execute, 64, "jmp *%rdi");

static void on_fault(struct guest_frame *frame)
{
    struct self *self = &selves[smp_self()];

    self->faults++;
    frame->rip = (uint64_t)attempt_over;
    frame->cs = SELECTOR_CODE;
    frame->rflags = RFLAGS_FIXED;
    frame->rsp = self->resume_rsp;
    frame->ss = SELECTOR_DATA;
}

/* ---- Operations --------------------------------------------------------------------------------------- */

/* By the island: an entry somewhere in the arena. */
static void rewrite(struct self *self)
{
    unsigned slot = random_slot(self);

    arena_page(below(self, ARENA_PAGES))[slot] = random_entry(self);
}

/* A table anew, or one as another is. */
static void rewrite_table(struct self *self)
{
    volatile uint64_t *table = arena_page(below(self, ARENA_PAGES));
    volatile uint64_t *from = arena_page(below(self, ARENA_PAGES));
    bool copy = one_in(self, 2);

    for (unsigned slot = 1; slot < 16; slot++)
        table[slot] = copy ? from[slot] : random_entry(self);
}

static void flip_flags(struct self *self)
{
    volatile uint8_t *entry = (volatile uint8_t *)&arena_page(below(self, ARENA_PAGES))[random_slot(self)];
    uint8_t bit = (uint8_t)BIT(below(self, 8));

    __asm__ volatile("lock xorb %1, %0" : "+m"(*entry) : "q"(bit) : "memory", "cc");
}

static uint64_t word_address(struct self *self)
{
    return random_address(self, random_slot(self) * 8);
}

static void access(struct self *self)
{
    static const char *const reads[] = {do_read, do_read_byte, do_user_access};

    switch (below(self, 8)) {
    case 0:
    case 1:
        attempt(self, do_write, word_address(self), random_entry(self));
        break;
    case 2:
        attempt(self, do_write_flags, word_address(self), random(self));
        break;
    case 3:
        attempt(self, do_exchange, word_address(self), random_entry(self));
        break;
    case 4:
        attempt(self, do_execute, random_address(self, 0), 0);
        break;
    case 5: /* 64 words that end before the page does */
        attempt(self, do_copy, random_address(self, 8),
                random_address(self, 8 * (1 + (unsigned)below(self, 447))));
        break;
    default:
        attempt(self, reads[below(self, ARRAY_SIZE(reads))], word_address(self), 0);
        break;
    }
}

static void user_access(struct self *self)
{
    static const char *const codes[] = {user_read, user_write, user_execute};
    const char *code = codes[below(self, ARRAY_SIZE(codes))];
    uint64_t address = code == user_execute ? random_address(self, 0) : word_address(self);

    attempt(self, do_user, address, guest_user(code));
}

static void invalidate(struct self *self)
{
    if (one_in(self, 2))
        attempt(self, do_invlpg, random_address(self, 0), 0);
    else
        attempt(self, do_invpcid, random(self), random_address(self, 0));
}

/* One of the roots, as some PCID, with or without bit 63; now and then with reserved bits. */
static void load_root(struct self *self)
{
    uint64_t cr3 = (uint64_t)arena_page(below(self, ROOTS));

    if (one_in(self, 2))
        cr3 |= below(self, 8);
    if (one_in(self, 2))
        cr3 |= BIT(63);
    if (one_in(self, 64))
        cr3 |= BIT(width + below(self, 63 - width));
    attempt(self, do_cr3, cr3, 0);
}

static void change_mode(struct self *self)
{
    static const uint64_t cr4_bits[] = {CR4_PGE,  CR4_PGE,   CR4_PSE,   CR4_SMEP, CR4_SMAP,
                                        CR4_SMAP, CR4_PCIDE, CR4_PCIDE, CR4_PAE,  CR4_LA57};

    switch (below(self, 8)) {
    case 0:
    case 1:
        attempt(self, do_cr0, read_cr0() ^ CR0_WP, 0);
        break;
    case 2: /* is refused in 64-bit code */
        attempt(self, do_cr0, read_cr0() & ~CR0_PG, 0);
        break;
    case 3:
        attempt(self, do_efer, rdmsr(MSR_EFER) ^ EFER_NXE, 0);
        break;
    case 4:
        attempt(self, do_pat, random(self) & 0x07070707, random(self) & 0x07070707);
        break;
    case 5: /* PCID 0 is what CR4.PCIDE needs to be set */
        attempt(self, do_cr3, (uint64_t)arena_page(below(self, ROOTS)), 0);
        attempt(self, do_cr4, read_cr4() ^ CR4_PCIDE, 0);
        break;
    default:
        attempt(self, do_cr4, read_cr4() ^ cr4_bits[below(self, ARRAY_SIZE(cr4_bits))], 0);
        break;
    }
}

/* An event whose delivery faults. Only processor 0 has the stack for it. */
static void lose(struct self *self)
{
    if (self == &selves[0])
        attempt(self, do_lost, 0, 0);
}

static const struct {
    unsigned weight;
    void (*act)(struct self *self);
} operations[] = {
    {20, rewrite},   {2, rewrite_table}, {6, flip_flags},  {48, access}, {12, user_access},
    {6, invalidate}, {4, load_root},     {2, change_mode}, {1, lose},
};

static void operate(struct self *self)
{
    unsigned sum = 0;

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        sum += operations[i].weight;
    uint64_t chosen = below(self, sum);
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        if (chosen < operations[i].weight) {
            operations[i].act(self);
            break;
        }
        chosen -= operations[i].weight;
    }
    self->operations++;
}

/* ---- Processors --------------------------------------------------------------------------------------- */

static void play(void *unused)
{
    struct self *self = &selves[smp_self()];

    (void)unused;
    self->random = 0x9e3779b97f4a7c15UL * (smp_self() + 1);
    for (;;) {
        operate(self);
        if (self != &selves[0] || self->operations % REPORT != 0)
            continue;
        uint64_t others = 0;
        for (unsigned n = 1; n < SMP_MAX; n++)
            others += selves[n].operations;
        print("ALIVE %lu %lu %lu\n", self->operations, self->faults, others);
    }
}

/* Every exception, and what comes back from ring 3, on a stack of the processor's own. */
static void catch_all(void)
{
    for (unsigned vector = 0; vector < 32; vector++) {
        guest_handlers[vector] = on_fault;
        if (vector != VECTOR_DF)
            guest_idt[vector].ist = IST_FREE;
    }
    guest_handlers[VECTOR_LEAVE] = on_fault;
    guest_idt[VECTOR_LEAVE].ist = IST_FREE;
    guest_handlers[VECTOR_LOST] = on_fault;
    guest_idt[VECTOR_LOST].ist = IST_LOST;
    guest_tss.ist[IST_LOST - 1] = GUEST_UNMAPPED + PAGE_SIZE;
}

void guest_main(void)
{
    bool alone = guest_argument("alone");
    struct self first = {.random = 1};

    width = cpuid(0x80000008, 0).eax & 0xff;
    for (unsigned n = 0; n < MIB(2) / PAGE_SIZE; n++) /* as much as a large page shows */
        arena_page(n)[0] = RUBBLE;
    for (unsigned n = 0; n < ARENA_PAGES; n++)
        for (unsigned slot = 1; slot < 512; slot++)
            arena_page(n)[slot] = random_entry(&first);
    for (unsigned n = 0; n < ROOTS; n++)
        arena_page(n)[0] = guest_page_tables[0];
    smp_init();
    catch_all();
    unsigned count = 1;
    for (unsigned n = 1; n < smp_count && !alone; n++)
        if (smp_start(n, SMP_PAGE_FIRST)) {
            smp_call(n, play, NULL);
            count++;
        }
    print("HOSTILE paging %u\n", count);
    play(NULL);
}
