// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Local APICs without a machine around them: a clock to turn by hand, and a record of what they ask for.
 * Their owners receive at once when they are woken, unless board.asleep.
 */
#include "core/vdev/ioapic.h"
#include "core/vdev/lapic.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define BOARD_APICS  20 /* two clusters of x2APIC mode */
#define BOARD_TSC_HZ 3000000000ULL

static struct board {
    struct vdev_host host;
    struct lapic apics[BOARD_APICS];
    uint8_t pages[BOARD_APICS][PAGE_SIZE] __aligned(PAGE_SIZE);
    struct ioapic ioapic;
    uint64_t now;
    bool asleep; /* who is woken does not receive: the test does */
    unsigned wakes[BOARD_APICS];
    unsigned ipis[BOARD_APICS][3];    /* by enum vdev_ipi */
    unsigned ipi_vector[BOARD_APICS]; /* of the last one */
    unsigned eois;
    int eoi_vector; /* the last broadcast, or -1 */
} board;

static uint64_t board_now(void *context)
{
    assert_ptr_equal(context, &board);
    return board.now;
}

static void board_wake(void *context, unsigned vcpu)
{
    assert_ptr_equal(context, &board);
    board.wakes[vcpu]++;
    if (!board.asleep)
        lapic_receive(&board.apics[vcpu]);
}

static void board_ipi(void *context, unsigned vcpu, enum vdev_ipi kind, uint8_t vector)
{
    assert_ptr_equal(context, &board);
    board.ipis[vcpu][kind]++;
    board.ipi_vector[vcpu] = vector;
}

static void board_eoi(void *context, uint8_t vector)
{
    assert_ptr_equal(context, &board);
    board.eois++;
    board.eoi_vector = vector;
    ioapic_eoi(&board.ioapic, vector);
}

static const struct vdev_ops board_ops = {.now = board_now, .wake = board_wake, .ipi = board_ipi};

/* Power-on, with all APICs software-enabled, or not. */
static void board_start(uint64_t tsc_hz, uint64_t timer_hz, bool enable)
{
    memset(&board, 0, sizeof(board));
    memset(board.pages, 0xa5, sizeof(board.pages)); /* init has to clear them */
    board.host = (struct vdev_host){.ops = &board_ops, .context = &board, .tsc_hz = tsc_hz};
    board.eoi_vector = -1;
    board.now = 1000;
    for (unsigned i = 0; i < BOARD_APICS; i++) {
        struct lapic_settings settings = {
            .host = &board.host,
            .all = board.apics,
            .count = BOARD_APICS,
            .timer_hz = timer_hz,
            .physical_address_bits = 39,
            .eoi = board_eoi,
        };

        lapic_init(&board.apics[i], &settings, i, board.pages[i]);
        if (enable)
            lapic_mmio_write(&board.apics[i], LAPIC_SVR, 4, 0x1ff);
    }
    ioapic_init(&board.ioapic, board.apics, BOARD_APICS);
}

static __unused int board_setup(void **state)
{
    (void)state;
    board_start(BOARD_TSC_HZ, BOARD_TSC_HZ, true);
    return 0;
}

static __unused uint32_t get(unsigned apic, unsigned offset)
{
    return (uint32_t)lapic_mmio_read(&board.apics[apic], offset, 4);
}

static __unused void put(unsigned apic, unsigned offset, uint32_t value)
{
    lapic_mmio_write(&board.apics[apic], offset, 4, value);
}

static __unused int rdmsr(unsigned apic, uint32_t msr, uint64_t *value)
{
    return lapic_msr_read(&board.apics[apic], msr, value);
}

static __unused int wrmsr(unsigned apic, uint32_t msr, uint64_t value)
{
    return lapic_msr_write(&board.apics[apic], msr, value);
}

static __unused void to_x2apic(unsigned apic)
{
    assert_int_equal(wrmsr(apic, LAPIC_MSR_BASE, board.apics[apic].base | LAPIC_BASE_X2APIC), 0);
}

/* Register bit `vector` of IRR, ISR or TMR, read from the page as the hardware would. */
static __unused bool vector_bit(unsigned apic, unsigned offset, unsigned vector)
{
    uint32_t word;

    memcpy(&word, &board.pages[apic][offset + vector / 32 * 16], sizeof(word));
    return word >> vector % 32 & 1;
}

/* A set of APICs with `vector` in IRR, as a bit mask; clears nothing. */
static __unused uint32_t who_has(unsigned vector)
{
    uint32_t set = 0;

    for (unsigned i = 0; i < BOARD_APICS; i++)
        set |= (uint32_t)vector_bit(i, LAPIC_IRR, vector) << i;
    return set;
}

/* The same for those that got an IPI of `kind`, exactly one. */
static __unused uint32_t who_got(enum vdev_ipi kind)
{
    uint32_t set = 0;

    for (unsigned i = 0; i < BOARD_APICS; i++) {
        assert_true(board.ipis[i][kind] <= 1);
        set |= (uint32_t)board.ipis[i][kind] << i;
    }
    return set;
}

/* A repeatable stream of numbers below `below`. */
static __unused uint32_t random_below(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((*seed >> 33) % below);
}
