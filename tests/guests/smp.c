// SPDX-License-Identifier: BSD-2-Clause
/*
 * Several processors: how they start (SDM vol. 3, "Multiple-Processor Initialization" and "Processor State
 * After INIT"), every way to send an interrupt to another (SDM vol. 3, "Issuing Interprocessor Interrupts"),
 * and what they share. No row depends on who is faster: each waits for what it expects, and only then looks
 * that nothing else happened. x2APIC mode comes last, as there is no way back.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/smp.h"

#define VECTOR_IPI   0x51
#define VECTOR_SHOOT 0x61
#define VECTOR_TIMER 0x71
#define VECTOR_UART  0x81

#define PAGE_START   8  /* of the start-up IPIs that first start everybody, */
#define PAGE_AGAIN   9  /* of those that start somebody again, */
#define PAGE_IGNORED 10 /* and of one that must do nothing */

static const uint64_t patience = 200000000; /* ticks: 2 s of the emulator's time */

static char name_text[64];

static const char *row_name(const char *format, unsigned n)
{
    format_text(name_text, sizeof(name_text), format, n);
    return name_text;
}

/* A row in which the bare emulator is wrong: declared different, and held to `expected` in a partition. */
static void differs(const char *name, uint64_t seen, uint64_t expected)
{
    if (guest_under_umbra() && seen != expected)
        guest_check(false, name, "%#lx, not %#lx", seen, expected);
    else
        guest_differs(name, seen);
}

/* ---- Start -------------------------------------------------------------------------------------------- */

struct identity {
    uint32_t leaf1, leaf_b, lapic, version, lvts[5];
    uint64_t base;
};

static const uint16_t lvt_registers[] = {0x320, 0x330, 0x340, 0x350, 0x370};

static void read_identity(void *argument)
{
    struct identity *i = argument;

    i->leaf1 = cpuid(1, 0).ebx >> 24;
    i->leaf_b = cpuid(0xb, 0).edx;
    i->lapic = apic_read(LAPIC_ID);
    i->version = apic_read(LAPIC_VERSION);
    i->base = rdmsr(MSR_APIC_BASE);
}

/* What INIT leaves in the local APIC (SDM vol. 3, "Local APIC State After It Has Been Software Reset" and
 * "… After INIT"). */
static void read_fresh_lapic(void *argument)
{
    uint32_t *values = argument;
    static const uint16_t registers[] = {LAPIC_SVR, LAPIC_TPR,       LAPIC_LDR,
                                         LAPIC_DFR, LAPIC_TIMER_ICR, LAPIC_TIMER_DCR};

    for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
        values[i] = apic_read(registers[i]);
    for (size_t i = 0; i < ARRAY_SIZE(lvt_registers); i++)
        values[ARRAY_SIZE(registers) + i] = apic_read(lvt_registers[i]);
}

static void fresh_lapic_rows(void)
{
    static const struct {
        const char *name;
        uint32_t value;
    } expected[] = {
        {"svr", 0xff},
        {"tpr", 0},
        {"ldr", 0},
        {"dfr", 0xffffffff},
        {"initial-count", 0},
        {"divide", 0},
        {"lvt-timer", 0x10000},
        {"lvt-thermal", 0x10000},
        {"lvt-pmi", 0x10000},
        {"lvt-lint0", 0x10000},
        {"lvt-error", 0x10000},
    };
    uint32_t seen[ARRAY_SIZE(expected)];

    smp_run(1, read_fresh_lapic, seen);
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        format_text(name_text, sizeof(name_text), "lapic-after-init-%s", expected[i].name);
        guest_equal(name_text, seen[i], expected[i].value);
    }
}

static void start_rows(void)
{
    struct identity identity, own;

    smp_init();
    guest_value("madt-processors", smp_count);
    lapic_init(false);
    smp_run(0, read_identity, &own);
    CHECK("bsp-flag-0", (own.base & APIC_BASE_BSP) != 0);
    for (unsigned n = 1; n < smp_count; n++) {
        bool up = smp_start(n, PAGE_START);
        CHECK(row_name("starts-%u", n), up);
        if (!up)
            guest_finish();
        smp_run(n, read_identity, &identity);
        uint32_t id = smp_processors[n].apic_id;
        guest_value(row_name("apic-id-%u", n), id);
        guest_equal(row_name("cpuid-1-id-%u", n), identity.leaf1, id);
        guest_equal(row_name("cpuid-b-id-%u", n), identity.leaf_b, id);
        guest_equal(row_name("lapic-id-%u", n), identity.lapic >> 24, id);
        guest_equal(row_name("lapic-version-%u", n), identity.version, own.version);
        guest_equal(row_name("apic-base-%u", n), identity.base, own.base & ~APIC_BASE_BSP);
        guest_equal(row_name("starts-once-%u", n), smp_processors[n].starts, 1);
    }
}

/* ---- What INIT does ----------------------------------------------------------------------------------- */

static volatile unsigned ready;

/* Puts something into what INIT clears, and never comes back. */
static void make_mess(void *unused)
{
    (void)unused;
    write_dr0(0x1000);
    write_dr1(0x2000);
    write_dr2(0x3000);
    write_dr3(0x4000);
    write_dr7(0x700);
    write_cr2(0x5000);
    write_cr4(read_cr4() | CR4_PGE | CR4_DE);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | EFER_NXE);
    wrmsr(MSR_STAR, 0x0123456789abcdef);
    lapic_write(LAPIC_TPR, 0x20);
    lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    ready++;
    for (;;)
        pause();
}

static void read_star(void *value)
{
    *(uint64_t *)value = rdmsr(MSR_STAR);
}

static void check_begin(const char *format, const struct smp_begin *b, unsigned page)
{
    const struct {
        const char *name;
        uint32_t seen, expected;
    } rows[] = {
        {"eax", b->eax, 0},
        {"ebx", b->ebx, 0},
        {"ecx", b->ecx, 0},
        {"esi", b->esi, 0},
        {"edi", b->edi, 0},
        {"ebp", b->ebp, 0},
        {"esp", b->esp, 0},
        {"eflags", b->eflags, RFLAGS_FIXED},
        {"cr0", b->cr0 & ~(uint32_t)(CR0_CD | CR0_NW), CR0_ET},
        {"cr2", b->cr2, 0},
        {"cr3", b->cr3, 0},
        {"cr4", b->cr4, 0},
        {"dr0", b->dr0, 0},
        {"dr1", b->dr1, 0},
        {"dr2", b->dr2, 0},
        {"dr3", b->dr3, 0},
        {"dr6", b->dr6, 0xffff0ff0},
        {"dr7", b->dr7, 0x400},
        {"efer", b->efer, 0},
        {"cs", b->cs, page << 8},
        {"ds", b->ds, 0},
        {"es", b->es, 0},
        {"ss", b->ss, 0},
        {"fs", b->fs, 0},
        {"gs", b->gs, 0},
        {"gdt-base", b->gdt_base, 0},
        {"gdt-limit", b->gdt_limit, 0xffff},
        {"idt-base", b->idt_base, 0},
        {"idt-limit", b->idt_limit, 0xffff},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        format_text(name_text, sizeof(name_text), format, rows[i].name);
        guest_equal(name_text, rows[i].seen, rows[i].expected);
    }
}

static void init_rows(void)
{
    uint64_t star = 0;

    check_begin("first-start-%s", smp_begun(PAGE_START), PAGE_START);

    smp_call(1, make_mess, NULL);
    CHECK("init-victim-runs", smp_wait_change(&ready, 0));
    CHECK("init-starts-again", smp_start(1, PAGE_AGAIN));
    guest_equal("init-starts-once", smp_processors[1].starts, 2);
    check_begin("after-init-%s", smp_begun(PAGE_AGAIN), PAGE_AGAIN);
    fresh_lapic_rows();
    smp_run(1, read_star, &star);
    differs("after-init-msr-kept", star, 0x0123456789abcdef);
    differs("after-init-edx", smp_begun(PAGE_AGAIN)->edx, cpuid(1, 0).eax);

    /* A running processor ignores start-up IPIs. */
    smp_prepare(1, PAGE_IGNORED);
    apic_send(smp_processors[1].apic_id, ICR_STARTUP | PAGE_IGNORED);
    smp_delay();
    smp_run(1, read_star, &star);
    guest_equal("start-up-ignored", smp_processors[1].starts, 2);
    guest_equal("start-up-ignored-cs", smp_begun(PAGE_IGNORED)->cs, 0);

    /* An INIT level de-assert is nothing to processors since the Pentium 4. */
    apic_send(smp_processors[1].apic_id, ICR_INIT | IOAPIC_LEVEL);
    smp_delay();
    smp_run(1, read_star, &star);
    guest_equal("init-deassert-ignored", smp_processors[1].starts, 2);
}

/* ---- Who gets an interrupt ---------------------------------------------------------------------------- */

static unsigned expected_vector;

/* Opens interrupts until the one that is expected has come, or for a while. */
static void take(void *unused)
{
    const struct smp_processor *self = &smp_processors[smp_self()];
    uint64_t start = rdtsc();

    (void)unused;
    while (self->hits[expected_vector] == 0 && rdtsc() - start < patience)
        take_pending_interrupts();
}

static void look(void *unused)
{
    (void)unused;
    take_pending_interrupts();
}

static void clear_hits(void)
{
    for (unsigned n = 0; n < smp_count; n++)
        for (unsigned vector = 0; vector < 256; vector++)
            smp_processors[n].hits[vector] = 0;
}

/* How many interrupts of all vectors processor `n` had. */
static unsigned all_hits(unsigned n)
{
    unsigned sum = 0;

    for (unsigned vector = 0; vector < 256; vector++)
        sum += smp_processors[n].hits[vector];
    return sum;
}

/* PASS if the processors of `mask` get `vector` once each, and nobody anything else. */
static void reaches(const char *name, unsigned vector, uint32_t mask)
{
    uint32_t seen = 0;
    bool good = true;

    expected_vector = vector;
    smp_run_together(mask, take, NULL);
    smp_run_together(smp_all(), look, NULL);
    for (unsigned n = 0; n < smp_count; n++) {
        seen |= (smp_processors[n].hits[vector] != 0 ? 1U : 0U) << n;
        good &= all_hits(n) == (mask >> n & 1);
    }
    guest_check(good && seen == mask, name, "reached %#x, not %#x, or more than once", seen, mask);
    clear_hits();
}

/* PASS if exactly one of the processors of `mask` gets `vector`, and once. */
static void reaches_one(const char *name, unsigned vector, uint32_t mask)
{
    unsigned hits = 0, outside = 0;
    uint64_t start = rdtsc();

    while (hits == 0 && rdtsc() - start < patience) {
        smp_run_each(smp_all(), look, NULL);
        for (unsigned n = 0; n < smp_count; n++)
            hits += smp_processors[n].hits[vector];
    }
    smp_run_each(smp_all(), look, NULL);
    hits = 0;
    for (unsigned n = 0; n < smp_count; n++) {
        hits += all_hits(n);
        outside += (mask >> n & 1) != 0 ? 0 : all_hits(n);
    }
    guest_check(hits == 1 && outside == 0, name, "%u times, %u of them elsewhere", hits, outside);
    clear_hits();
}

static void enable(void *unused)
{
    (void)unused;
    lapic_init(false);
}

static void physical_rows(void)
{
    for (unsigned n = 0; n < smp_count; n++) {
        apic_send(smp_processors[n].apic_id, VECTOR_IPI);
        reaches(row_name("physical-%u", n), VECTOR_IPI, BIT(n));
    }
    apic_send(0xff, VECTOR_IPI);
    reaches("physical-broadcast", VECTOR_IPI, smp_all());
    apic_send(0x77, VECTOR_IPI);
    reaches("physical-nobody", VECTOR_IPI, 0);

    apic_send(0, ICR_SELF | VECTOR_IPI);
    reaches("shorthand-self", VECTOR_IPI, 1);
    apic_send(0, ICR_ALL | VECTOR_IPI);
    reaches("shorthand-all", VECTOR_IPI, smp_all());
    apic_send(0, ICR_OTHERS | VECTOR_IPI);
    reaches("shorthand-others", VECTOR_IPI, smp_all() & ~1U);
}

static void send_back(void *unused)
{
    (void)unused;
    apic_send(smp_processors[0].apic_id, VECTOR_IPI);
}

static void send_others(void *unused)
{
    (void)unused;
    apic_send(0, ICR_OTHERS | VECTOR_IPI);
}

static void from_others_rows(void)
{
    for (unsigned n = 1; n < smp_count; n++) {
        smp_run(n, send_back, NULL);
        reaches(row_name("physical-from-%u", n), VECTOR_IPI, 1);
        smp_run(n, send_others, NULL);
        reaches(row_name("others-from-%u", n), VECTOR_IPI, smp_all() & ~BIT(n));
    }
}

/* ---- Logical destinations of the xAPIC ---------------------------------------------------------------- */

#define DFR_FLAT    0xffffffff
#define DFR_CLUSTER 0x0fffffff

static void set_flat(void *unused)
{
    (void)unused;
    lapic_write(LAPIC_DFR, DFR_FLAT);
    lapic_write(LAPIC_LDR, 1U << (24 + smp_self()));
}

/* Two processors a cluster. */
static uint32_t cluster_address(unsigned n)
{
    return n / 2 << 4 | 1U << n % 2;
}

static void set_cluster(void *unused)
{
    (void)unused;
    lapic_write(LAPIC_DFR, DFR_CLUSTER);
    lapic_write(LAPIC_LDR, cluster_address(smp_self()) << 24);
}

static void flat_rows(void)
{
    smp_run_each(smp_all(), set_flat, NULL);
    for (unsigned n = 0; n < smp_count; n++) {
        apic_send(1U << n, ICR_LOGICAL | VECTOR_IPI);
        reaches(row_name("flat-%u", n), VECTOR_IPI, BIT(n));
    }
    apic_send(3, ICR_LOGICAL | VECTOR_IPI);
    reaches("flat-two", VECTOR_IPI, 3);
    apic_send(0xff, ICR_LOGICAL | VECTOR_IPI);
    reaches("flat-all", VECTOR_IPI, smp_all());
    apic_send(0x80, ICR_LOGICAL | VECTOR_IPI);
    reaches("flat-nobody", VECTOR_IPI, 0);

    for (unsigned n = 0; n < smp_count; n++) {
        apic_send(1U << n, ICR_LOGICAL | ICR_LOWEST | VECTOR_IPI);
        reaches(row_name("lowest-alone-%u", n), VECTOR_IPI, BIT(n));
    }
    for (unsigned i = 0; i < 4; i++) {
        apic_send(0xff, ICR_LOGICAL | ICR_LOWEST | VECTOR_IPI);
        reaches_one(row_name("lowest-one-of-all-%u", i), VECTOR_IPI, smp_all());
    }
    apic_send(2, ICR_LOGICAL | ICR_LOWEST | VECTOR_IPI);
    reaches_one("lowest-one-of-one", VECTOR_IPI, 2);
}

static void cluster_rows(void)
{
    uint32_t first = smp_all() & 3;

    smp_run_each(smp_all(), set_cluster, NULL);
    for (unsigned n = 0; n < smp_count; n++) {
        apic_send(cluster_address(n), ICR_LOGICAL | VECTOR_IPI);
        reaches(row_name("cluster-%u", n), VECTOR_IPI, BIT(n));
    }
    apic_send(0x03, ICR_LOGICAL | VECTOR_IPI);
    reaches("cluster-first", VECTOR_IPI, first);
    apic_send(0x0c, ICR_LOGICAL | VECTOR_IPI);
    reaches("cluster-nobody", VECTOR_IPI, 0);
    apic_send(0xff, ICR_LOGICAL | VECTOR_IPI);
    reaches("cluster-all", VECTOR_IPI, smp_all());
    apic_send(0x03, ICR_LOGICAL | ICR_LOWEST | VECTOR_IPI);
    reaches_one("cluster-lowest", VECTOR_IPI, first);
    smp_run_each(smp_all(), set_flat, NULL);
}

/* ---- NMI, HLT ----------------------------------------------------------------------------------------- */

static void nmi_rows(void)
{
    for (unsigned n = 1; n < smp_count; n++) {
        apic_send(smp_processors[n].apic_id, ICR_NMI);
        reaches(row_name("nmi-%u", n), VECTOR_NMI, BIT(n));
    }
    apic_send(0, ICR_OTHERS | ICR_NMI);
    reaches("nmi-others", VECTOR_NMI, smp_all() & ~1U);
    apic_send(2, ICR_LOGICAL | ICR_NMI | 0x33);
    reaches("nmi-vector-ignored", VECTOR_NMI, 2);
}

static void halt_until_interrupt(void *unused)
{
    const struct smp_processor *self = &smp_processors[smp_self()];

    (void)unused;
    while (self->hits[VECTOR_IPI] == 0)
        sti_hlt_cli();
}

static void halt_until_nmi(void *unused)
{
    const struct smp_processor *self = &smp_processors[smp_self()];

    (void)unused;
    while (self->hits[VECTOR_NMI] == 0)
        __asm__ volatile("hlt" : : : "memory");
}

static void halt_rows(void)
{
    for (unsigned n = 1; n < smp_count; n++) {
        unsigned woken = 0;
        for (unsigned i = 0; i < 8; i++) {
            smp_call(n, halt_until_interrupt, NULL);
            smp_delay();
            apic_send(smp_processors[n].apic_id, VECTOR_IPI);
            smp_join(n);
            woken += smp_processors[n].hits[VECTOR_IPI];
            clear_hits();
        }
        guest_equal(row_name("ipi-wakes-%u", n), woken, 8);

        /* With interrupts off only an NMI wakes it; an interrupt waits. */
        smp_call(n, halt_until_nmi, NULL);
        smp_delay();
        apic_send(smp_processors[n].apic_id, VECTOR_IPI);
        smp_delay();
        guest_check(smp_processors[n].function != NULL, row_name("halted-with-interrupts-off-%u", n),
                    "it runs on");
        apic_send(smp_processors[n].apic_id, ICR_NMI);
        smp_join(n);
        guest_equal(row_name("nmi-wakes-%u", n), smp_processors[n].hits[VECTOR_NMI], 1);
        smp_processors[n].hits[VECTOR_NMI] = 0;
        reaches(row_name("interrupt-had-waited-%u", n), VECTOR_IPI, BIT(n));
    }
}

/* INIT to a halted processor. */
static void halt_for_ever(void *unused)
{
    (void)unused;
    ready++;
    for (;;)
        __asm__ volatile("cli; hlt" : : : "memory");
}

static void init_halted_rows(void)
{
    for (unsigned n = 1; n < smp_count; n++) {
        unsigned before = ready, starts = smp_processors[n].starts;
        smp_call(n, halt_for_ever, NULL);
        (void)smp_wait_change(&ready, before);
        CHECK(row_name("init-wakes-halted-%u", n), smp_start(n, PAGE_AGAIN));
        guest_equal(row_name("init-halted-once-%u", n), smp_processors[n].starts, starts + 1);
    }
    smp_run_each(smp_all(), enable, NULL);
    smp_run_each(smp_all(), set_flat, NULL);
}

/* ---- Memory that all share ---------------------------------------------------------------------------- */

#define SHOTS 16

static volatile uint64_t *const shot_page = (void *)GUEST_WINDOW;
static volatile uint64_t shot_frames[2][512] __aligned(4096);
static unsigned round_number;
static volatile unsigned stale;

static void shoot(struct guest_frame *frame)
{
    invlpg(shot_page);
    smp_count_hit(frame);
}

static void read_shot_page(void *unused)
{
    (void)unused;
    if (*shot_page != round_number % 2)
        __atomic_fetch_add(&stale, 1, __ATOMIC_SEQ_CST);
}

/* The page that everybody has in his TLB changes: whoever reads it after the interrupt sees the new frame. */
static void shoot_down_rows(void)
{
    guest_handlers[VECTOR_SHOOT] = shoot;
    shot_frames[1][0] = 1;
    expected_vector = VECTOR_SHOOT;
    for (round_number = 0; round_number < SHOTS; round_number++) {
        guest_map(0, (uint64_t)shot_frames[round_number % 2] | PAGE_PRESENT | PAGE_WRITE);
        apic_send(0, ICR_OTHERS | VECTOR_SHOOT);
        smp_run_together(smp_all() & ~1U, take, NULL);
        clear_hits();
        smp_run_together(smp_all(), read_shot_page, NULL);
    }
    guest_map(0, 0);
    guest_equal("shoot-down", stale, 0);
}

#define INCREMENTS 20000
#define LOCKED     500

static volatile uint64_t counter, guarded;
static volatile uint32_t guard;

static void contend(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < INCREMENTS; i++)
        __asm__ volatile("lock incq %0" : "+m"(counter) : : "cc");
    for (unsigned i = 0; i < LOCKED; i++) {
        while (__atomic_exchange_n(&guard, 1, __ATOMIC_ACQUIRE) != 0)
            pause();
        guarded = guarded + 1;
        __atomic_store_n(&guard, 0, __ATOMIC_RELEASE);
    }
}

static void contention_rows(void)
{
    smp_run_together(smp_all(), contend, NULL);
    guest_equal("locked-increments", counter, (uint64_t)INCREMENTS * smp_count);
    guest_equal("spin-lock", guarded, (uint64_t)LOCKED * smp_count);
}

/* ---- Time --------------------------------------------------------------------------------------------- */

static volatile uint64_t last_tsc;
static volatile unsigned backwards;

static void pass_tsc(void *unused)
{
    uint64_t now = rdtsc();

    (void)unused;
    if (now < last_tsc)
        backwards++;
    last_tsc = now;
}

static void tsc_rows(void)
{
    for (unsigned i = 0; i < 16; i++)
        smp_run_each(smp_all(), pass_tsc, NULL);
    guest_equal("tsc-never-back", backwards, 0);
}

static void arm_timer(void *unused)
{
    const struct smp_processor *self = &smp_processors[smp_self()];

    (void)unused;
    apic_write(LAPIC_TIMER_DCR, DIVIDE_BY_1);
    apic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    apic_write(LAPIC_TIMER_ICR, 100000);
    while (self->hits[VECTOR_TIMER] == 0)
        sti_hlt_cli();
}

static void arm_deadline(void *unused)
{
    const struct smp_processor *self = &smp_processors[smp_self()];

    (void)unused;
    apic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_DEADLINE);
    __asm__ volatile("mfence" : : : "memory");
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + 100000);
    while (self->hits[VECTOR_TIMER] == 0)
        sti_hlt_cli();
    apic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_MASKED);
}

static void timer_rows(const char *one_shot, const char *deadline, const char *together)
{
    for (unsigned n = 0; n < smp_count; n++) {
        smp_run(n, arm_timer, NULL);
        reaches(row_name(one_shot, n), VECTOR_TIMER, BIT(n));
        smp_run(n, arm_deadline, NULL);
        reaches(row_name(deadline, n), VECTOR_TIMER, BIT(n));
    }
    /* All at once. */
    smp_run_together(smp_all(), arm_timer, NULL);
    reaches(together, VECTOR_TIMER, smp_all());
}

/* ---- IO-APIC ------------------------------------------------------------------------------------------ */

#define UART     0x3f8
#define UART_PIN 4

static volatile bool remote_irr;

static void uart_raise(void)
{
    while ((inb(UART + 5) & 0x40) == 0)
        pause();
    outb(UART + 4, 0x0b); /* OUT2 lets the interrupt out */
    outb(UART + 1, 2);
}

static void uart_handler(struct guest_frame *frame)
{
    outb(UART + 1, 0);
    (void)inb(UART + 2);
    smp_count_hit(frame);
    remote_irr |= (ioapic_read(0x10 + 2 * UART_PIN) & IOAPIC_REMOTE) != 0;
}

/* The row is printed by the same UART: its interrupt must be off by then. */
static void uart_nmi_handler(struct guest_frame *frame)
{
    outb(UART + 1, 0);
    smp_count_hit(frame);
}

static void ioapic_route_to(uint32_t destination, uint32_t low)
{
    ioapic_write(0x10 + 2 * UART_PIN, IOAPIC_MASKED);
    ioapic_write(0x11 + 2 * UART_PIN, destination << 24);
    ioapic_write(0x10 + 2 * UART_PIN, low);
}

static void ioapic_rows(void)
{
    guest_handlers[VECTOR_UART] = uart_handler;
    for (unsigned n = 0; n < smp_count; n++) {
        ioapic_route_to(smp_processors[n].apic_id, VECTOR_UART);
        uart_raise();
        reaches(row_name("ioapic-edge-%u", n), VECTOR_UART, BIT(n));
        ioapic_route_to(1U << n, ICR_LOGICAL | VECTOR_UART);
        uart_raise();
        reaches(row_name("ioapic-logical-%u", n), VECTOR_UART, BIT(n));

        /* The EOI is broadcast to the IO-APIC, or there would be no second one. */
        ioapic_route_to(smp_processors[n].apic_id, IOAPIC_LEVEL | VECTOR_UART);
        uart_raise();
        reaches(row_name("ioapic-level-%u", n), VECTOR_UART, BIT(n));
        uart_raise();
        reaches(row_name("ioapic-level-again-%u", n), VECTOR_UART, BIT(n));
    }
    CHECK("ioapic-no-remote-irr-after-eoi", !remote_irr);
    ioapic_route_to(0xff, ICR_LOGICAL | ICR_LOWEST | VECTOR_UART);
    uart_raise();
    reaches_one("ioapic-lowest", VECTOR_UART, smp_all());
    guest_handlers[VECTOR_NMI] = uart_nmi_handler;
    ioapic_route_to(0xff, ICR_LOGICAL | ICR_NMI);
    uart_raise();
    reaches("ioapic-nmi-all", VECTOR_NMI, smp_all());
    guest_handlers[VECTOR_NMI] = smp_count_hit;
    ioapic_route_to(0, IOAPIC_MASKED);
}

/* ---- x2APIC ------------------------------------------------------------------------------------------- */

static void set_x2apic(void *unused)
{
    (void)unused;
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
    wrmsr(MSR_X2APIC + LAPIC_SVR / 16, 0x1ff);
}

static void read_ldr(void *value)
{
    *(uint32_t *)value = apic_read(LAPIC_LDR);
}

#define X2APIC_SELF_IPI (MSR_X2APIC + 0x3f)

static void send_self(void *unused)
{
    (void)unused;
    wrmsr(X2APIC_SELF_IPI, VECTOR_IPI);
}

static void x2apic_rows(void)
{
    struct identity identity;
    uint32_t ldr;

    smp_run_each(smp_all(), set_x2apic, NULL);
    for (unsigned n = 0; n < smp_count; n++) {
        uint32_t id = smp_processors[n].apic_id;

        smp_run(n, read_identity, &identity);
        guest_equal(row_name("x2apic-id-%u", n), identity.lapic, id);
        smp_run(n, read_ldr, &ldr);
        guest_equal(row_name("x2apic-ldr-%u", n), ldr, id >> 4 << 16 | 1U << (id & 15));

        apic_send(id, VECTOR_IPI);
        reaches(row_name("x2apic-physical-%u", n), VECTOR_IPI, BIT(n));
        apic_send(ldr, ICR_LOGICAL | VECTOR_IPI);
        reaches(row_name("x2apic-cluster-%u", n), VECTOR_IPI, BIT(n));
        apic_send(ldr, ICR_LOGICAL | ICR_LOWEST | VECTOR_IPI);
        reaches(row_name("x2apic-lowest-%u", n), VECTOR_IPI, BIT(n));
        smp_run(n, send_self, NULL);
        reaches(row_name("x2apic-self-ipi-%u", n), VECTOR_IPI, BIT(n));
        smp_run(n, send_others, NULL);
        reaches(row_name("x2apic-others-from-%u", n), VECTOR_IPI, smp_all() & ~BIT(n));
    }
    apic_send(0x00000003, ICR_LOGICAL | VECTOR_IPI);
    reaches("x2apic-cluster-two", VECTOR_IPI, 3);
    apic_send(0x0000ffff, ICR_LOGICAL | VECTOR_IPI);
    reaches("x2apic-cluster-all", VECTOR_IPI, smp_all());
    apic_send(0x0000ffff, ICR_LOGICAL | ICR_LOWEST | VECTOR_IPI);
    reaches_one("x2apic-lowest-one", VECTOR_IPI, smp_all());
    apic_send(0xffffffff, VECTOR_IPI);
    reaches("x2apic-broadcast", VECTOR_IPI, smp_all());
    apic_send(0x000000ff, VECTOR_IPI); /* xAPIC's broadcast, here the ID of nobody */
    smp_run_together(smp_all(), look, NULL);
    differs("x2apic-255-is-no-broadcast", smp_processors[0].hits[VECTOR_IPI], 0);
    clear_hits();
    apic_send(0x00050001, ICR_LOGICAL | VECTOR_IPI);
    reaches("x2apic-cluster-nobody", VECTOR_IPI, 0);
    apic_send(0, ICR_SELF | VECTOR_IPI);
    reaches("x2apic-shorthand-self", VECTOR_IPI, 1);
    apic_send(0, ICR_ALL | VECTOR_IPI);
    reaches("x2apic-shorthand-all", VECTOR_IPI, smp_all());
    apic_send(0, ICR_OTHERS | ICR_NMI);
    reaches("x2apic-nmi-others", VECTOR_NMI, smp_all() & ~1U);
    timer_rows("x2apic-timer-%u", "x2apic-deadline-%u", "x2apic-timers-together");
}

void guest_main(void)
{
    guest_handlers[VECTOR_NMI] = smp_count_hit;
    guest_handlers[VECTOR_IPI] = smp_count_hit;
    guest_handlers[VECTOR_TIMER] = smp_count_hit;

    start_rows();
    if (smp_count == 1) {
        guest_check(false, "processors", "there is but one");
        return;
    }
    init_rows();
    clear_hits();
    smp_run_each(smp_all(), enable, NULL);
    physical_rows();
    from_others_rows();
    flat_rows();
    cluster_rows();
    nmi_rows();
    halt_rows();
    init_halted_rows();
    shoot_down_rows();
    contention_rows();
    tsc_rows();
    timer_rows("timer-%u", "deadline-%u", "timers-together");
    ioapic_rows();
    x2apic_rows();
}
