// SPDX-License-Identifier: BSD-2-Clause
/*
 * A region that two partitions share, and their doorbells: the PCI function as a driver sees it, and the
 * hypercalls that say the same (docs/hypercalls.md). Two of this guest run at once, each in a partition with
 * the region as its only one; `first` or `second` on the command line says which, and that is the partition's
 * number, its name, and its number among the members.
 *
 * What one of them can see alone comes first, with much of ringing, as a member may ring itself. Then the two
 * go step by step together, by phases that each writes into the region. Every wait has a limit, which ends
 * the guest with a FAIL row.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"

#define PCI_ADDRESS         0xcf8
#define PCI_DATA            0xcfc
#define PCI_ENABLE          BIT(31)
#define PCI_DEVICES         32
#define PCI_ID              0x00
#define PCI_COMMAND         0x04 /* status in the upper half */
#define PCI_CLASS           0x08 /* revision in the lowest byte */
#define PCI_BAR(n)          (0x10U + 4 * (n))
#define PCI_SUBSYSTEM       0x2c
#define PCI_CAPABILITY      0x34
#define COMMAND_MEMORY      BIT(1)
#define COMMAND_MASTER      BIT(2)
#define STATUS_CAPABILITIES BIT(20)

#define ID_IVSHMEM          0x11101af4
#define ID_MSIX             0x11
#define MSIX_ENABLE         BIT(31) /* in the capability's first double word */
#define MSIX_MASK_ALL       BIT(30)
#define MSIX_PENDING        (0x800 / 4) /* words of BAR 1 */
#define MASKED              1
#define VECTORS             8

#define POSITION            (0x08 / 4) /* words of BAR 0 */
#define DOORBELL            (0x0c / 4)
#define REGISTERS_SIZE      0x100

#define REGION_SIZE         MIB(1)
#define DEVICES             0xc0000000UL /* what the guest maps for devices begins here */
#define ELSEWHERE           0xd0000000UL /* in it, and far below where BARs are assigned */

#define HYPERCALL_VERSION   0
#define HYPERCALL_INFO      1
#define HYPERCALL_DOORBELL  4
#define ENOENT              2
#define EINVAL              22
#define ENOSYS              38

#define VECTOR_BELL         0x51 /* vector 0 of the function; vector n: n more */
#define VECTOR_LIMIT        0x61
#define LIMIT               500000000U /* ticks of the TSC, or of the local APIC's timer: for ever */
#define ROUNDS              50
#define INCREMENTS          10000

/* The region's first page. The rest: a half is each member's, for the other to read. */
struct mailbox {
    uint32_t reached[2]; /* the phase of each member */
    uint32_t counter;
    uint32_t token;
};

static unsigned self, peer;
static uint32_t device; /* bus, device, function for PCI_ADDRESS */
static unsigned msix;   /* where the capability stands */
static volatile uint32_t *registers, *table;
static volatile uint64_t *region;
static volatile struct mailbox *mailbox;

/* ---- Configuration space ------------------------------------------------------------------------------- */

static uint32_t config_read(unsigned reg)
{
    outl(PCI_ADDRESS, (uint32_t)(PCI_ENABLE | device | reg));
    return inl(PCI_DATA);
}

static void config_write(unsigned reg, uint32_t value)
{
    outl(PCI_ADDRESS, (uint32_t)(PCI_ENABLE | device | reg));
    outl(PCI_DATA, value);
}

static void find_device(void)
{
    unsigned found = 0;
    uint32_t there = 0;

    for (unsigned i = 0; i < PCI_DEVICES; i++) {
        device = i << 11;
        if (config_read(PCI_ID) == ID_IVSHMEM) {
            there = device;
            found++;
        }
    }
    guest_equal("functions-found", found, 1);
    if (found == 0)
        guest_finish();
    device = there;
    guest_equal("device-number", device >> 11, 1);
}

static void header_rows(void)
{
    uint32_t command = config_read(PCI_COMMAND);

    guest_equal("class", config_read(PCI_CLASS) >> 8, 0x050000);
    guest_equal("revision", config_read(PCI_CLASS) & 0xff, 1);
    guest_equal("subsystem", config_read(PCI_SUBSYSTEM), 0x11001af4);
    guest_equal("enabled", command & (COMMAND_MEMORY | COMMAND_MASTER), COMMAND_MEMORY | COMMAND_MASTER);
    guest_equal("capabilities", command & STATUS_CAPABILITIES, STATUS_CAPABILITIES);
    config_write(PCI_ID, 0);
    guest_equal("identity-is-read-only", config_read(PCI_ID), ID_IVSHMEM);
}

/* Asks BAR register `n` how large it is, with decoding off, as systems do. */
static void bar_row(unsigned n, uint32_t flags, uint32_t mask)
{
    uint32_t before = config_read(PCI_BAR(n)), command = config_read(PCI_COMMAND) & 0xffff;
    char name[32];

    config_write(PCI_COMMAND, command & ~(uint32_t)COMMAND_MEMORY);
    config_write(PCI_BAR(n), UINT32_MAX);
    uint32_t sized = config_read(PCI_BAR(n));
    config_write(PCI_BAR(n), before);
    uint32_t restored = config_read(PCI_BAR(n));
    config_write(PCI_COMMAND, command);
    format_text(name, sizeof(name), "bar-%u-sized", n);
    guest_equal(name, sized, mask | flags);
    format_text(name, sizeof(name), "bar-%u-restored", n);
    guest_equal(name, restored, before);
    format_text(name, sizeof(name), "bar-%u-flags", n);
    guest_equal(name, before & ~mask, flags);
}

static void bar_rows(void)
{
    bar_row(0, 0, ~(REGISTERS_SIZE - 1U));
    bar_row(1, 0, ~(uint32_t)(PAGE_SIZE - 1));
    bar_row(2, 0xc, ~(uint32_t)(REGION_SIZE - 1));
    bar_row(3, 0, UINT32_MAX);
    bar_row(4, 0, 0);
    bar_row(5, 0, 0);

    uint64_t places[] = {config_read(PCI_BAR(0)), config_read(PCI_BAR(1)),
                         (uint64_t)config_read(PCI_BAR(3)) << 32 | (config_read(PCI_BAR(2)) & ~0xfU)};
    bool reached = true;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        reached = reached && places[i] >= DEVICES && places[i] < GIB(4);
    guest_check(reached, "bars-below-4-gib", "%#lx %#lx %#lx", places[0], places[1], places[2]);
    if (!reached)
        guest_finish();
    registers = (volatile uint32_t *)places[0];
    table = (volatile uint32_t *)places[1];
    region = (volatile uint64_t *)places[2];
    mailbox = (volatile struct mailbox *)places[2];
}

static void register_rows(void)
{
    unsigned others = 0;

    guest_equal("position", registers[POSITION], self);
    registers[POSITION] = 7;
    guest_equal("position-is-read-only", registers[POSITION], self);
    for (unsigned i = 0; i < REGISTERS_SIZE / 4; i++)
        others |= i == POSITION ? 0 : registers[i];
    guest_equal("other-registers", others, 0);
}

/* ---- MSI-X --------------------------------------------------------------------------------------------- */

static void msix_control(uint32_t bits)
{
    config_write(msix, bits);
}

static void msix_entry(unsigned vector, uint32_t address, uint32_t data, uint32_t control)
{
    table[4 * vector + 3] = MASKED;
    table[4 * vector] = address;
    table[4 * vector + 1] = 0;
    table[4 * vector + 2] = data;
    table[4 * vector + 3] = control;
}

static void msix_rows(void)
{
    msix = config_read(PCI_CAPABILITY) & 0xff;
    while (msix != 0 && (config_read(msix) & 0xff) != ID_MSIX)
        msix = config_read(msix) >> 8 & 0xff;
    guest_check(msix != 0, "msix-capability", "none in the list");
    if (msix == 0)
        guest_finish();
    guest_equal("msix-control", config_read(msix) >> 16, VECTORS - 1);
    guest_equal("msix-table", config_read(msix + 4), 1);
    guest_equal("msix-pending-bits", config_read(msix + 8), 0x801);
    msix_control(UINT32_MAX);
    guest_equal("msix-control-writable", config_read(msix) & 0xffff0000, 0xc0000000 | (VECTORS - 1) << 16);
    msix_control(0);

    unsigned masked = 0;
    for (unsigned i = 0; i < VECTORS; i++)
        masked += table[4 * i + 3] == MASKED;
    guest_equal("msix-masked-at-first", masked, VECTORS);
    uint32_t address = (uint32_t)LAPIC_BASE | lapic_read(LAPIC_ID) >> 24 << 12;
    for (unsigned i = 0; i < VECTORS; i++) {
        guest_handlers[VECTOR_BELL + i] = pc_count_lapic;
        msix_entry(i, address, VECTOR_BELL + i, i == 0 ? 0 : MASKED);
    }
    CHECK("msix-table-kept", table[0] == address && table[1] == 0 && table[2] == VECTOR_BELL &&
                                 table[3] == 0 && table[4 * 7 + 2] == VECTOR_BELL + 7 &&
                                 table[4 * 7 + 3] == MASKED);
}

/* ---- Ringing ------------------------------------------------------------------------------------------- */

static void ring_register(unsigned whom, unsigned vector)
{
    registers[DOORBELL] = whom << 16 | vector;
}

static int64_t hypercall(uint64_t number, uint64_t rbx, uint64_t rcx, uint64_t rdx)
{
    int64_t result;

    __asm__ volatile("vmcall" : "=a"(result) : "a"(number), "b"(rbx), "c"(rcx), "d"(rdx) : "memory");
    return result;
}

static void ring_hypercall(unsigned whom, unsigned vector)
{
    int64_t result = hypercall(HYPERCALL_DOORBELL, 0, whom, vector);

    if (result != 0)
        guest_check(false, "hypercall-doorbell", "returned %ld", result);
}

/* Interrupts of the function that have come since the last call, on all of its vectors. */
static unsigned came(void)
{
    unsigned sum = 0;

    take_pending_interrupts();
    for (unsigned i = 0; i < VECTORS; i++)
        sum += pc_hits[VECTOR_BELL + i];
    pc_hits_clear();
    return sum;
}

/* A ring of one's own bell has arrived when the access is over: the local APIC is the same processor's. */
static void ring_self_rows(void)
{
    pc_hits_clear();
    ring_register(self, 0);
    guest_equal("ring-msix-off", came(), 0);
    msix_control(MSIX_ENABLE);
    guest_equal("ring-msix-off-is-lost", came(), 0);
    ring_register(self, 0);
    guest_equal("ring-self", came(), 1);
    ring_hypercall(self, 0);
    guest_equal("ring-self-hypercall", came(), 1);

    ring_register(self, 5);
    ring_register(self, 5);
    guest_equal("ring-masked", came(), 0);
    guest_equal("ring-masked-pending", table[MSIX_PENDING], BIT(5));
    table[4 * 5 + 3] = 0;
    guest_equal("ring-unmasked", pc_wait(VECTOR_BELL + 5, 1, LIMIT), 1);
    guest_equal("ring-unmasked-once", came(), 1);
    guest_equal("ring-unmasked-pending", table[MSIX_PENDING], 0);

    msix_control(MSIX_ENABLE | MSIX_MASK_ALL);
    ring_register(self, 0);
    guest_equal("ring-function-masked", came(), 0);
    msix_control(MSIX_ENABLE);
    guest_equal("ring-function-unmasked", came(), 1);

    ring_register(self, VECTORS);
    ring_register(2, 0);
    ring_register(0xffff, 0);
    *(volatile uint16_t *)&registers[DOORBELL] = (uint16_t)0;
    *((volatile uint16_t *)&registers[DOORBELL] + 1) = (uint16_t)self;
    *(volatile uint8_t *)&registers[DOORBELL] = 0;
    guest_equal("ring-nobody", came(), 0);
}

/* ---- Hypercalls ---------------------------------------------------------------------------------------- */

struct information {
    uint32_t size, number, vcpus, vcpu;
    uint64_t memory, tsc_hz;
    uint32_t regions, reserved;
    uint64_t hypercalls;
    char name[32];
};

static void hypercall_rows(void)
{
    static struct information info, part;

    guest_equal("hypercall-version", (uint64_t)hypercall(HYPERCALL_VERSION, 0, 0, 0), 0x00010000);
    guest_equal("hypercall-version-cpuid", cpuid(0x40000001, 0).eax, 0x00010000);
    guest_equal("hypercall-info", (uint64_t)hypercall(HYPERCALL_INFO, (uint64_t)&info, PAGE_SIZE, 0), 80);
    guest_equal("info-size", info.size, 80);
    guest_equal("info-number", info.number, self);
    guest_equal("info-vcpus", info.vcpus, 1);
    guest_equal("info-vcpu", info.vcpu, 0);
    guest_equal("info-memory", info.memory, MIB(16));
    guest_equal("info-tsc-hz", info.tsc_hz / 1000, cpuid(0x40000010, 0).eax);
    guest_equal("info-regions", info.regions, 1);
    guest_equal("info-hypercalls", info.hypercalls, cpuid(0x40000001, 0).ebx);
    guest_check(strcmp(info.name, self == 0 ? "first" : "second") == 0, "info-name", "%s", info.name);
    guest_equal("hypercall-info-part", (uint64_t)hypercall(HYPERCALL_INFO, (uint64_t)&part, 8, 0), 8);
    CHECK("hypercall-info-part-only", part.size == 80 && part.number == self && part.vcpus == 0);
    guest_equal("doorbell-no-region", (uint64_t)-hypercall(HYPERCALL_DOORBELL, 1, self, 0), EINVAL);
    guest_equal("doorbell-no-vector", (uint64_t)-hypercall(HYPERCALL_DOORBELL, 0, self, VECTORS), EINVAL);
    guest_equal("doorbell-no-member", (uint64_t)-hypercall(HYPERCALL_DOORBELL, 0, 2, 0), ENOENT);
    guest_equal("doorbell-no-number", (uint64_t)-hypercall(HYPERCALL_DOORBELL, 0, ~0UL, 0), ENOENT);
    guest_equal("hypercall-none", (uint64_t)-hypercall(63, 0, 0, 0), ENOSYS);
    guest_equal("doorbell-errors-ring-nobody", came(), 0);
}

/* ---- Together ------------------------------------------------------------------------------------------ */

/* Both members have come to this call. */
static void meet(void)
{
    static uint32_t phase;
    uint64_t end = rdtsc() + LIMIT;

    mailbox->reached[self] = ++phase;
    while (mailbox->reached[peer] < phase) {
        if (rdtsc() > end) {
            guest_check(false, "meet", "the other is at %u, not %u", mailbox->reached[peer], phase);
            guest_finish();
        }
        pause();
    }
}

/* The half of `member` without the first page, as indices into `region`. */
static size_t half_begin(unsigned member)
{
    return (member == 0 ? PAGE_SIZE : REGION_SIZE / 2) / 8;
}

static size_t half_end(unsigned member)
{
    return (member == 0 ? REGION_SIZE / 2 : REGION_SIZE) / 8;
}

static uint64_t pattern(unsigned member, uint64_t at)
{
    return (at + 1) * 0x9e3779b97f4a7c15UL ^ member;
}

static void memory_rows(void)
{
    uint64_t wrong = 0;

    for (size_t i = half_begin(self); i < half_end(self); i++)
        wrong += region[i] != 0;
    guest_equal("memory-zero-at-first", wrong, 0);
    for (size_t i = half_begin(self); i < half_end(self); i++)
        region[i] = pattern(self, i);
    meet();
    wrong = 0;
    for (size_t i = half_begin(peer); i < half_end(peer); i++)
        wrong += region[i] != pattern(peer, i);
    guest_equal("memory-of-the-other", wrong, 0);
    wrong = 0;
    for (size_t i = half_begin(self); i < half_end(self); i++)
        wrong += region[i] != pattern(self, i);
    guest_equal("memory-own", wrong, 0);

    for (unsigned i = 0; i < INCREMENTS; i++)
        __asm__ volatile("lock incl %0" : "+m"(mailbox->counter) : : "memory", "cc");
    meet();
    guest_equal("memory-locked", mailbox->counter, 2 * INCREMENTS);
}

/* The same memory write-back, and where the guest has put the BAR. */
static void mapping_rows(void)
{
    size_t at = half_begin(self);
    volatile uint64_t *cached = guest_map(0, (uint64_t)&region[at] | PAGE_PRESENT | PAGE_WRITE);
    volatile uint64_t *moved = (volatile uint64_t *)ELSEWHERE;
    uint32_t before = config_read(PCI_BAR(2));

    cached[0] = 0x1122334455667788;
    guest_equal("memory-cached-write", region[at], 0x1122334455667788);
    region[at] = 0x99;
    guest_equal("memory-cached-read", cached[0], 0x99);
    config_write(PCI_BAR(2), (uint32_t)ELSEWHERE);
    guest_equal("bar-2-moved", config_read(PCI_BAR(2)), ELSEWHERE | 0xc);
    moved[at] = 0xfedcba9876543210;
    guest_equal("memory-moved-read", moved[at], 0xfedcba9876543210);
    guest_equal("memory-first-place", region[at], 0xfedcba9876543210);
    config_write(PCI_BAR(2), before);
    guest_equal("memory-not-moved", moved[at], ~0UL);
    guest_equal("memory-moved-back", region[at], 0xfedcba9876543210);
}

static bool wait_open(unsigned count)
{
    return pc_wait(VECTOR_BELL, count, LIMIT);
}

/* Sleeps until the bell has rung `count` times; the timer ends a sleep for ever. */
static bool wait_halted(unsigned count)
{
    lapic_write(LAPIC_TIMER_ICR, LIMIT);
    while (pc_hits[VECTOR_BELL] < count && pc_hits[VECTOR_LIMIT] == 0)
        sti_hlt_cli();
    lapic_write(LAPIC_TIMER_ICR, 0);
    return pc_hits[VECTOR_BELL] >= count;
}

/* By turns, a token goes to the other and a ring after it: one interrupt for each, none more. */
static void ping_pong(const char *name, void (*ring)(unsigned whom, unsigned vector),
                      bool (*wait)(unsigned count))
{
    unsigned stale = 0;
    char row[32];

    pc_hits_clear();
    meet();
    for (unsigned round = 1; round <= ROUNDS; round++) {
        if (self == 0) {
            mailbox->token = 2 * round;
            ring(peer, 0);
        }
        if (!wait(round)) {
            guest_check(false, name, "no ring in round %u", round);
            guest_finish();
        }
        stale += mailbox->token != 2 * round + (self == 0);
        if (self == 1) {
            mailbox->token = 2 * round + 1;
            ring(peer, 0);
        }
    }
    meet();
    guest_equal(name, came(), ROUNDS);
    format_text(row, sizeof(row), "%s-token", name);
    guest_equal(row, stale, 0);
}

void guest_main(void)
{
    self = guest_argument("second");
    peer = 1 - self;
    guest_check(guest_argument(self == 0 ? "first" : "second"), "word", "neither first nor second");
    lapic_init(false);
    lapic_write(LAPIC_TIMER_DCR, DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_LIMIT);
    guest_handlers[VECTOR_LIMIT] = pc_count_lapic;

    find_device();
    header_rows();
    bar_rows();
    register_rows();
    msix_rows();
    ring_self_rows();
    hypercall_rows();
    meet();
    memory_rows();
    ping_pong("doorbell-register", ring_register, wait_open);
    ping_pong("doorbell-register-halted", ring_register, wait_halted);
    ping_pong("doorbell-hypercall", ring_hypercall, wait_open);
    ping_pong("doorbell-hypercall-halted", ring_hypercall, wait_halted);
    mapping_rows();
    meet();
}
