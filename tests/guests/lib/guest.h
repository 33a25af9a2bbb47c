// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The framework of the bare-metal guests. A guest is one C file with guest_main(); it runs in ring 0 in long
 * mode with interrupts off, and says what it found in rows:
 *
 *     PASS name                 as expected
 *     FAIL name: what was seen
 *     VALUE name value          no expectation, but the same with and without a hypervisor
 *     DIFF name value           may differ; tests/guests/differences.txt says why
 *     BENCH name median min max count      in ticks of the TSC
 *     DONE passed failed        the last line
 *
 * Names have no spaces; a row's name carries no value that may vary.
 *
 * The address space, by boot page tables of 2 MiB pages:
 *
 *     0          – 0x3fffffff   memory, supervisor only; the image at 1 MiB
 *     0x40000000 – 0x7fffffff   the same memory for ring 3 (guest_user)
 *     0x80000000 – 0x801fffff   the window: 512 pages that a test maps as it likes
 *     0x80200000 – 0xbfffffff   not mapped
 *     0xc0000000 – 0xffffffff   devices, uncached
 */
#include "lib/types.h"
#include "tests/guests/lib/x86.h"

/* ---- The guest itself --------------------------------------------------------------------------------- */

/* The tests. Returning ends the guest. */
void guest_main(void);

/* True if the Multiboot command line has `word` as one of its words. */
bool guest_argument(const char *word);

/* What follows `key` ("size=") in the first word that begins with it, up to a space or the end; NULL if none
 * does. */
const char *guest_argument_value(const char *key);

/* Memory that tests may play with, 16–24 MiB: zeroed at the start, and nothing else lives there. A guest that
 * has less than 24 MiB has none. */
#define GUEST_PLAYGROUND      0x1000000UL
#define GUEST_PLAYGROUND_SIZE 0x800000UL

/* The window's first address, an address that is never mapped, and what maps the window. */
#define GUEST_WINDOW          0x80000000UL
#define GUEST_UNMAPPED        0xa0000000UL

#define PAGE_PRESENT          BIT(0)
#define PAGE_WRITE            BIT(1)
#define PAGE_USER             BIT(2)
#define PAGE_UNCACHED         (BIT(3) | BIT(4))
#define PAGE_ACCESSED         BIT(5)
#define PAGE_DIRTY            BIT(6)
#define PAGE_LARGE            BIT(7)
#define PAGE_GLOBAL           BIT(8)
#define PAGE_NX               BIT(63)

extern volatile uint64_t guest_window[512];
/* The tables above it: the PML4, the page-directory-pointer table of its first entry. */
extern volatile uint64_t guest_page_tables[512];
extern volatile uint64_t guest_pointers[512];
/* Writes entry `page` of the window, and invalidates it. Returns the page's address. */
volatile void *guest_map(unsigned page, uint64_t entry);

/* Bytes of memory from 1 MiB on, as the loader says. */
uint64_t guest_memory_size(void);

/* True if CPUID says that the hypervisor is Umbra. For rows that are declared different, and for nothing
 * else. */
bool guest_under_umbra(void);

/* Ends the guest at once: DONE, then power off. */
void guest_finish(void) __noreturn;

/* ---- Rows --------------------------------------------------------------------------------------------- */

void guest_check(bool good, const char *name, const char *seen, ...) __printf_format(3, 4);
void guest_value(const char *name, uint64_t value);
void guest_differs(const char *name, uint64_t value);

/* PASS if the two numbers are equal. */
void guest_equal(const char *name, uint64_t seen, uint64_t expected);

#define CHECK(name, condition) guest_check((condition), (name), "%s", #condition)

/* Sorts `samples` (caller's, reordered), takes `overhead` off each, prints a BENCH row. */
void guest_bench(const char *name, uint64_t *samples, size_t count, uint64_t overhead);

/* Where print() writes. Quiet: port 0xe9, which costs the emulator's clock nothing; for measured stretches.
 */
void guest_quiet(bool quiet);

/* ---- Descriptors -------------------------------------------------------------------------------------- */

/* In the order that SYSRET and SYSEXIT want them. */
#define SELECTOR_CODE        0x08
#define SELECTOR_DATA        0x10
#define SELECTOR_USER_CODE32 0x1b
#define SELECTOR_USER_DATA   0x23
#define SELECTOR_USER_CODE   0x2b
#define SELECTOR_USER_DATA2  0x33
#define SELECTOR_CODE32      0x38
#define SELECTOR_TSS         0x40 /* two slots */
#define SELECTOR_FREE        0x50 /* from here to the end: for tests */
#define GDT_SLOTS            64

/* Bits of a descriptor's high word. */
#define SEGMENT_TYPE(t)      ((uint64_t)(t) << 40)
#define SEGMENT_CODE_DATA    BIT(44)
#define SEGMENT_DPL(d)       ((uint64_t)(d) << 45)
#define SEGMENT_PRESENT      BIT(47)
#define SEGMENT_LONG         BIT(53)
#define SEGMENT_BIG          BIT(54)
#define SEGMENT_PAGES        BIT(55)

extern uint64_t guest_gdt[GDT_SLOTS];
/* Writes the descriptor of `selector`. `attributes` are the bits above; `limit` in units of the granularity.
 */
void guest_segment(uint16_t selector, uint32_t base, uint32_t limit, uint64_t attributes);

struct __packed descriptor_pointer {
    uint16_t limit;
    uint64_t base;
};

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t attributes; /* type, DPL, present */
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};

#define GATE_INTERRUPT 0x8e
#define GATE_TRAP      0x8f
#define GATE_DPL3      0x60

extern struct gate guest_idt[256];
/* Points vector's gate at its stub again: interrupt gate, DPL 0, no IST (double fault, NMI, machine check:
 * IST 1–3). */
void guest_gate_reset(unsigned vector);
void guest_idt_load(uint16_t limit);

struct __packed tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7]; /* [0] is IST 1 */
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;
    uint8_t io_bits[8193];
};

extern struct tss guest_tss;
/* IST 4 is free for tests, and has a stack. */
#define IST_FREE 4
/* Makes the TSS descriptor available again with `limit`, and loads it. */
void guest_tss_load(uint32_t limit);

/* ---- Exceptions and interrupts ------------------------------------------------------------------------ */

struct guest_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* What a TRY met. */
struct guest_fault {
    int vector; /* -1: nothing happened */
    uint64_t error;
    uint64_t cr2, dr6;
    int64_t offset; /* saved RIP, from the first instruction of the TRY */
    struct guest_frame frame;
    uint64_t frame_address;
};

extern volatile struct guest_fault guest_fault;

/* Where a fault resumes. start: the tried code; rsp: as it was there. Used by TRY only. */
extern struct {
    uint64_t resume, start, rsp;
} guest_try;

/*
 * Runs the instructions `code` (an inline-assembly template; operands follow, first the colon of the outputs)
 * and comes back behind them whatever they raise: guest_fault says what it was. Vectors with a handler of
 * their own go there. RSP, CS, SS, DS, ES and RFLAGS are good again afterwards, other registers are as the
 * code left them.
 *
 *     TRY("rdmsr", : "=a"(low), "=d"(high) : "c"(msr) : "memory");
 */
#define TRY(code, ...)                                                                                       \
    __asm__ volatile("movl $-1, guest_fault\n\tmovq $771f, guest_try\n\tmovq $770f, guest_try + 8\n\t"       \
                     "movq %%rsp, guest_try + 16\n770: " code                                                \
                     "\n771: movq guest_try + 16, %%rsp\n\tmovq $0, guest_try" __VA_ARGS__)

/* The plainest form: no operands, anything may be clobbered that calls may clobber. */
#define TRY_PLAIN(code)                                                                                      \
    TRY(code, : : : "memory", "cc", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11")

#define NO_VECTOR (-1)
/* PASS if the last TRY raised `vector` (NO_VECTOR: nothing) with `error` at `offset` from its start. */
void guest_expect(const char *name, int vector, uint64_t error, int64_t offset);
/* As above where the place does not matter. */
void guest_expect_vector(const char *name, int vector, uint64_t error);

/* A handler takes its vector away from TRY. NULL: back to the default. It runs with interrupts off. */
typedef void guest_handler(struct guest_frame *frame);
extern guest_handler *guest_handlers[256];

/* Ring 3 and 32-bit code come back by INT VECTOR_LEAVE: a gate of DPL 3 that TRY catches as any other. */
#define VECTOR_LEAVE      0x40
#define VECTOR_LEAVE_TEXT "$0x40"

/*
 * A piece of code for guest_run, that C can name. `bits` is 64 or 32. It ends with a fault or INT
 * VECTOR_LEAVE; its first register arguments are RDI and RSI. Position-independent, for ring 3 runs it at its
 * alias; RBP stays as it is.
 */
#define SNIPPET(name, bits, code)                                                                            \
    extern const char name[];                                                                                \
    __asm__(".pushsection .text\n.code" #bits "\n" #name ": " code "\nint " VECTOR_LEAVE_TEXT                \
            "\n.code64\n.popsection")

/* The address of `pointer` for ring 3. */
static inline uint64_t guest_user(const volatile void *pointer)
{
    return (uint64_t)pointer + 0x40000000;
}

/*
 * Goes to `entry` by IRETQ with the given code segment, and comes back by a fault: guest_fault tells which,
 * with all registers in its frame and `offset` counted from `entry`. A ring-3 segment gets the entry's alias
 * and its own stack and data segment. `flags` are added to RFLAGS.
 */
void guest_run(uint16_t code_segment, const char *entry, uint64_t rdi, uint64_t rsi, uint64_t flags);
