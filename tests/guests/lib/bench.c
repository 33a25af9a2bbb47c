// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/lib/bench.h"

#include "lib/printf.h"
#include "tests/guests/lib/pc.h"

#define UART             0x3f8
#define UART_IRQ         4
#define UART_RECEIVED    BIT(0) /* of the interrupts that it may ask for */
#define UART_OUT2        0x0b   /* modem control: ready, and the board's gate of the interrupt open */
#define UART_ROOM        BIT(5) /* of the line's status: for a byte; */
#define UART_TRANSMITTED BIT(6) /* all has been said */

uint64_t bench_samples[BENCH_SAMPLES];
unsigned bench_taken;
uint64_t bench_began;

/* Since the start. */
static struct own {
    unsigned ports, halts;
} own;
static volatile bool byte_came;

static void on_byte(struct guest_frame *frame)
{
    (void)frame;
    (void)inb(UART);
    outb(PIC_MASTER, PIC_NON_SPEC);
    own.ports += 2;
    byte_came = true;
}

static bool waits(void)
{
    return guest_argument("wait");
}

void bench_init(void)
{
    pic_init((uint16_t)(PIC_ALL & ~BIT(UART_IRQ)));
    lapic_init(true);
    guest_handlers[PIC_BASE + UART_IRQ] = on_byte;
    outb(UART + 4, UART_OUT2);
}

/* Returns what was counted up to the halt. Nothing but the byte wakes the processor. */
static struct own wait_byte(void)
{
    struct own at_halt;

    if (!waits())
        return own;
    byte_came = false;
    outb(UART + 1, UART_RECEIVED);
    own.ports++;
    own.halts++;
    at_halt = own;
    while (!byte_came)
        sti_hlt_cli();
    outb(UART + 1, 0);
    own.ports++;
    return at_halt;
}

/* Until the serial line's status has one of these bits. */
static void wait_line(unsigned bits)
{
    do
        own.ports++;
    while ((inb(UART + 5) & bits) == 0);
}

/* As print(), but every port access is counted. */
static void say(const char *text)
{
    for (; *text != '\0'; text++) {
        wait_line(UART_ROOM);
        outb(UART, (uint8_t)*text);
        own.ports++;
    }
}

uint64_t bench_least(void)
{
    uint64_t least = ~0UL;

    while (bench_taken > 0)
        least = min_u64(least, bench_samples[--bench_taken]);
    return least;
}

uint64_t bench_overhead(void)
{
    for (bench_taken = 0; bench_taken < 64;) {
        bench_sample_begin();
        bench_sample_end();
    }
    return bench_least();
}

void bench_run(const struct bench_phase *phase, uint64_t overhead)
{
    struct own before, after;

    phase->prepare(phase->n, phase->m);
    bench_taken = 0;
    print("PHASE %s %u\n", phase->name, phase->operations);
    wait_line(UART_TRANSMITTED); /* what an interrupt of the machine's line costs belongs to no phase */
    before = wait_byte();
    phase->run(phase->n, phase->m);
    say("END ");
    say(phase->name);
    say("\r\n");
    after = wait_byte();
    if (waits())
        print("OWN %s %u %u\n", phase->name, after.ports - before.ports, after.halts - before.halts);
    guest_bench(phase->name, bench_samples, bench_taken, overhead);
}

void bench_end(void)
{
    print("PHASE end 0\n");
}
