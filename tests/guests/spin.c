// SPDX-License-Identifier: BSD-2-Clause
/*
 * Load for a processor, and a witness of how much of it one gets. A word of the command line chooses:
 *
 * - `counter` counts for ever; a byte on the serial line has it say COUNT ticks loops: the TSC, and the turns
 * of its loop.
 *
 * - `cli` counts for ever with interrupts off, and never says anything after SPIN.
 *
 * - `tick` has a timer every 10 ms; a byte has it say TICKS number greatest: how many came, and the greatest
 * delay of one in ticks of the TSC, since the last byte.
 *
 * - `halt` halts, and a byte has it say AWAKE and halt again.
 *
 * - `watch` counts, and a byte has it say WATCH ticks loops good: whether all its memory is as it was made.
 *
 * Each says SPIN word first. The loop is the same number of instructions each turn, and touches no port but
 * once in a hundred thousand turns.
 */
#include "lib/printf.h"
#include "tests/guests/lib/pc.h"

#define UART         0x3f8
#define UART_IRQ     4
#define VECTOR_TIMER 0x61
#define VECTOR_UART  0x71
#define BATCH        100000 /* turns between two looks at the serial line */

static bool byte_came(void)
{
    if ((inb(UART + 5) & 1) == 0)
        return false;
    (void)inb(UART);
    return true;
}

static void turn(void)
{
    uint64_t left = BATCH;

    __asm__ volatile("1: dec %0; jnz 1b" : "+r"(left) : : "cc");
}

static void counter(void)
{
    for (uint64_t turns = 0;; turns++) {
        turn();
        if (byte_came())
            print("COUNT %lu %lu\n", rdtsc(), turns);
    }
}

static void spin_cli(void)
{
    for (;;)
        turn();
}

/* ---- tick --------------------------------------------------------------------------------------------- */

static volatile uint64_t deadline, greatest, ticks, interval;

static void on_tick(struct guest_frame *frame)
{
    uint64_t now = rdtsc();

    (void)frame;
    ticks++;
    greatest = max_u64(greatest, now - deadline);
    /* From now on: one that is late makes no other late. */
    deadline = now + interval;
    wrmsr(MSR_TSC_DEADLINE, deadline);
    lapic_write(LAPIC_EOI, 0);
}

/* Ticks of the TSC in 10 ms, by the PIT's second counter. */
static uint64_t measure_10ms(void)
{
    outb(0x61, PIT_GATE2);
    pit_program(2, 0, PIT_HZ / 100);
    uint64_t start = rdtsc();
    while ((inb(0x61) & PIT_OUT2) == 0)
        pause();
    return rdtsc() - start;
}

static void tick(void)
{
    interval = measure_10ms();
    print("INTERVAL %lu\n", interval);
    lapic_init(false);
    guest_handlers[VECTOR_TIMER] = on_tick;
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_DEADLINE);
    __asm__ volatile("mfence" : : : "memory");
    deadline = rdtsc() + interval;
    wrmsr(MSR_TSC_DEADLINE, deadline);
    for (;;) {
        sti_hlt_cli();
        if (byte_came()) {
            print("TICKS %lu %lu\n", ticks, greatest);
            ticks = 0;
            greatest = 0;
        }
    }
}

/* ---- halt --------------------------------------------------------------------------------------------- */

static void on_uart(struct guest_frame *frame)
{
    (void)frame;
    while (byte_came())
        print("AWAKE\n");
    lapic_write(LAPIC_EOI, 0);
}

static void halt(void)
{
    lapic_init(false);
    guest_handlers[VECTOR_UART] = on_uart;
    ioapic_route(UART_IRQ, VECTOR_UART);
    outb(UART + 4, 0x0b);
    outb(UART + 1, 1);
    for (;;)
        sti_hlt_cli();
}

/* ---- watch -------------------------------------------------------------------------------------------- */

extern char image_end[];

static uint64_t pattern(uint64_t at)
{
    return at * 0x9e3779b97f4a7c15UL ^ at >> 7;
}

static void watch(void)
{
    uint64_t end = MIB(1) + guest_memory_size();
    uint64_t from = ((uint64_t)image_end + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);

    /* ACPI tables and the like may stand at the end. */
    end -= MIB(1);
    for (uint64_t at = from; at < end; at += 8)
        *(volatile uint64_t *)at = pattern(at);
    print("WATCHING %lu\n", end - from);
    for (uint64_t turns = 0;; turns++) {
        turn();
        if (!byte_came())
            continue;
        uint64_t bad = 0;
        for (uint64_t at = from; at < end; at += 8)
            bad += *(volatile uint64_t *)at != pattern(at);
        print("WATCH %lu %lu %s\n", rdtsc(), turns, bad == 0 ? "good" : "bad");
    }
}

static const struct {
    const char *word;
    void (*act)(void);
} acts[] = {
    {"counter", counter}, {"cli", spin_cli}, {"tick", tick}, {"halt", halt}, {"watch", watch},
};

void guest_main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(acts); i++)
        if (guest_argument(acts[i].word)) {
            print("SPIN %s\n", acts[i].word);
            acts[i].act();
        }
    guest_check(false, "spin", "none of its words on the command line");
}
