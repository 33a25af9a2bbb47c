// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/lapic_delivery.c: destinations in every mode, ICR shorthands and delivery modes, illegal vectors.
 * Fails when a message reaches another set of APICs than the one written down here.
 */
#include "tests/unit/apic_board.h"

#define EVERYBODY ((1u << BOARD_APICS) - 1)

/* Sends fixed vector 60H to `destination` and says who got it. */
static uint32_t reached(uint32_t destination, bool logical)
{
    struct lapic_message message = {.destination = destination, .logical = logical, .vector = 0x60};
    bool accepted = lapic_deliver(board.apics, BOARD_APICS, &message);
    uint32_t set = who_has(0x60);

    assert_int_equal(accepted, set != 0);
    for (unsigned i = 0; i < BOARD_APICS; i++) {
        if (set >> i & 1) {
            assert_int_equal(lapic_take(&board.apics[i]), 0x60);
            lapic_eoi(&board.apics[i]);
            assert_true(board.wakes[i] > 0);
        } else {
            assert_int_equal(board.wakes[i], 0);
        }
        board.wakes[i] = 0;
    }
    return set;
}

static void physical(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BOARD_APICS; i++)
        assert_int_equal(reached(i, false), 1u << i);
    assert_int_equal(reached(BOARD_APICS, false), 0);
    assert_int_equal(reached(0xff, false), 0);
    assert_int_equal(reached(LAPIC_BROADCAST, false), EVERYBODY);

    /* Not to those that are disabled, by either switch. */
    put(1, LAPIC_SVR, 0xff);
    assert_int_equal(wrmsr(2, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT), 0);
    assert_int_equal(reached(1, false), 0);
    assert_int_equal(reached(2, false), 0);
    put(BOARD_APICS - 1, LAPIC_SVR, 0xff);
    assert_int_equal(reached(LAPIC_BROADCAST, false), EVERYBODY & ~6u & ~(1u << (BOARD_APICS - 1)));
}

static void physical_beyond_count(void **state)
{
    (void)state;
    struct lapic_message message = {.destination = 4, .vector = 0x60};

    assert_false(lapic_deliver(board.apics, 4, &message));
    assert_true(lapic_deliver(board.apics, 5, &message));
    assert_int_equal(who_has(0x60), 1 << 4);
}

static void logical_flat(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        put(i, LAPIC_LDR, 1u << (24 + i));
    put(8, LAPIC_LDR, 0xc0u << 24);
    for (unsigned destination = 0; destination < 256; destination++)
        assert_int_equal(reached(destination, true), destination | (destination & 0xc0 ? 1 << 8 : 0));
    assert_int_equal(reached(0x100, true), 0);
    assert_int_equal(reached(LAPIC_BROADCAST, true), EVERYBODY);
}

static void logical_cluster(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BOARD_APICS; i++) {
        put(i, LAPIC_DFR, 0);
        put(i, LAPIC_LDR, (i / 4 << 4 | 1u << i % 4) << 24);
    }
    for (unsigned destination = 0; destination < 0xf0; destination++) {
        uint64_t wanted = (uint64_t)(destination & 0xf) << destination / 16 * 4;

        assert_int_equal(reached(destination, true), wanted & EVERYBODY);
    }
    assert_int_equal(reached(LAPIC_BROADCAST, true), EVERYBODY);
}

static void logical_x2apic(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BOARD_APICS; i++)
        to_x2apic(i);
    for (unsigned bit = 0; bit < 16; bit++) {
        assert_int_equal(reached(1u << bit, true), 1u << bit);
        assert_int_equal(reached(0x10000 | 1u << bit, true), bit < 4 ? 1u << (16 + bit) : 0);
        assert_int_equal(reached(0x20000 | 1u << bit, true), 0);
    }
    assert_int_equal(reached(0xffff, true), 0xffff);
    assert_int_equal(reached(0x1ffff, true), 0xf0000);
    assert_int_equal(reached(LAPIC_BROADCAST, true), EVERYBODY);
    assert_int_equal(reached(LAPIC_BROADCAST, false), EVERYBODY);
    assert_int_equal(reached(0xff, false), 0);
}

/* The lowest TPR class wins, among equals the vector decides; APICs that take nothing do not compete. */
static void lowest_priority(void **state)
{
    (void)state;
    struct lapic_message message = {.destination = 0x0f, .logical = true, .mode = LAPIC_LOWEST_PRIORITY};

    for (unsigned i = 0; i < 4; i++)
        put(i, LAPIC_LDR, 1u << (24 + i));
    for (unsigned winner = 0; winner < 4; winner++) {
        for (unsigned i = 0; i < 4; i++)
            put(i, LAPIC_TPR, i == winner ? 0x2f : 0x30 + i * 0x10);
        message.vector = (uint8_t)(0x41 + winner);
        assert_true(lapic_deliver(board.apics, BOARD_APICS, &message));
        assert_int_equal(who_has(message.vector), 1u << winner);
    }
    for (unsigned i = 0; i < 4; i++)
        put(i, LAPIC_TPR, i == 3 ? 0x10 : i);
    for (message.vector = 0x60; message.vector < 0x66; message.vector++) {
        assert_true(lapic_deliver(board.apics, BOARD_APICS, &message));
        assert_int_equal(who_has(message.vector), 1u << message.vector % 3);
    }
    for (unsigned i = 0; i < 3; i++)
        put(i, LAPIC_SVR, 0xff);
    message.vector = 0x70;
    assert_true(lapic_deliver(board.apics, BOARD_APICS, &message));
    assert_int_equal(who_has(0x70), 1 << 3);
    put(3, LAPIC_SVR, 0xff);
    message.vector = 0x71;
    assert_false(lapic_deliver(board.apics, BOARD_APICS, &message));
    assert_int_equal(who_has(0x71), 0);
}

/* ---- ICR ---------------------------------------------------------------------------------------------- */

/* Every delivery mode and shorthand, sent from APIC 3 to APIC 7: who gets it. */
static void icr_modes_and_shorthands(void **state)
{
    (void)state;
    const uint32_t others = EVERYBODY & ~(1u << 3);
    const struct icr_row {
        unsigned mode, shorthand;
        uint32_t fixed, nmi, init, sipi;
    } rows[] = {
        {LAPIC_FIXED, 0, 1 << 7, 0, 0, 0},
        {LAPIC_FIXED, 1, 1 << 3, 0, 0, 0},
        {LAPIC_FIXED, 2, EVERYBODY, 0, 0, 0},
        {LAPIC_FIXED, 3, others, 0, 0, 0},
        {LAPIC_LOWEST_PRIORITY, 0, 1 << 7, 0, 0, 0},
        {LAPIC_LOWEST_PRIORITY, 1, 0, 0, 0, 0},
        {LAPIC_LOWEST_PRIORITY, 2, 0, 0, 0, 0},
        /* 40H modulo 19 candidates, of which APIC 3 is none */
        {LAPIC_LOWEST_PRIORITY, 3, 1 << (7 + 1), 0, 0, 0},
        {LAPIC_SMI, 0, 0, 0, 0, 0},
        {LAPIC_SMI, 1, 0, 0, 0, 0},
        {LAPIC_SMI, 2, 0, 0, 0, 0},
        {LAPIC_SMI, 3, 0, 0, 0, 0},
        {3, 0, 0, 0, 0, 0},
        {3, 3, 0, 0, 0, 0},
        {LAPIC_NMI, 0, 0, 1 << 7, 0, 0},
        {LAPIC_NMI, 1, 0, 0, 0, 0},
        {LAPIC_NMI, 2, 0, 0, 0, 0},
        {LAPIC_NMI, 3, 0, others, 0, 0},
        {LAPIC_INIT, 0, 0, 0, 1 << 7, 0},
        {LAPIC_INIT, 1, 0, 0, 0, 0},
        {LAPIC_INIT, 2, 0, 0, 0, 0},
        {LAPIC_INIT, 3, 0, 0, others, 0},
        {LAPIC_SIPI, 0, 0, 0, 0, 1 << 7},
        {LAPIC_SIPI, 1, 0, 0, 0, 0},
        {LAPIC_SIPI, 2, 0, 0, 0, 0},
        {LAPIC_SIPI, 3, 0, 0, 0, others},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows) * 2; i++) {
        const struct icr_row *row = &rows[i / 2];
        uint32_t icr = 0x4040 | row->mode << 8 | row->shorthand << 18;

        board_setup(NULL);
        if (i % 2) {
            to_x2apic(3);
            to_x2apic(7);
            assert_int_equal(wrmsr(3, 0x830, 7ULL << 32 | icr), 0);
        } else {
            put(3, LAPIC_ICR_HIGH, 7u << 24);
            put(3, LAPIC_ICR, icr);
            assert_int_equal(get(3, LAPIC_ICR), icr);
        }
        assert_int_equal(who_has(0x40), row->fixed);
        assert_int_equal(who_got(VDEV_IPI_NMI), row->nmi);
        assert_int_equal(who_got(VDEV_IPI_INIT), row->init);
        assert_int_equal(who_got(VDEV_IPI_SIPI), row->sipi);
        if (row->sipi)
            assert_int_equal(board.ipi_vector[7], 0x40);
        assert_int_equal(board.apics[3].errors, 0);
    }
}

static void icr_destinations(void **state)
{
    (void)state;
    put(3, LAPIC_ICR_HIGH, 0xffu << 24); /* eight bits: broadcast */
    put(3, LAPIC_ICR, 0x4051);
    assert_int_equal(who_has(0x51), EVERYBODY);
    put(4, LAPIC_LDR, 0x10u << 24);
    put(3, LAPIC_ICR_HIGH, 0x10u << 24);
    put(3, LAPIC_ICR, 0x4852);
    assert_int_equal(who_has(0x52), 1 << 4);

    to_x2apic(3);
    assert_int_equal(wrmsr(3, 0x830, 0xffULL << 32 | 0x4053), 0); /* 32 bits: APIC 255 */
    assert_int_equal(who_has(0x53), 0);
    assert_int_equal(wrmsr(3, 0x830, 0xffffffffULL << 32 | 0x4054), 0);
    assert_int_equal(who_has(0x54), EVERYBODY);
}

static void icr_init_deassert(void **state)
{
    (void)state;
    put(3, LAPIC_ICR_HIGH, 7u << 24);
    put(3, LAPIC_ICR, 0x8500); /* level, de-assert: nothing */
    assert_int_equal(who_got(VDEV_IPI_INIT), 0);
    put(3, LAPIC_ICR, 0xc500); /* level, assert */
    assert_int_equal(who_got(VDEV_IPI_INIT), 1 << 7);
}

/* Trigger mode and level mean nothing for a fixed IPI: it is edge-triggered. */
static void icr_fixed_is_edge(void **state)
{
    (void)state;
    put(3, LAPIC_ICR_HIGH, 7u << 24);
    put(3, LAPIC_ICR, 0xc066);
    assert_true(vector_bit(7, LAPIC_IRR, 0x66));
    assert_false(vector_bit(7, LAPIC_TMR, 0x66));
    lapic_take(&board.apics[7]);
    put(7, LAPIC_EOI, 0);
    assert_int_equal(board.eois, 0);
}

static unsigned esr(unsigned apic)
{
    put(apic, LAPIC_ESR, 0);
    return get(apic, LAPIC_ESR);
}

static void illegal_vectors(void **state)
{
    (void)state;
    for (unsigned vector = 0; vector < 32; vector++) {
        bool illegal = vector < 16;

        board_setup(NULL);
        put(3, LAPIC_ICR_HIGH, 7u << 24);
        put(3, LAPIC_ICR, 0x4000 | vector);
        assert_int_equal(esr(3), illegal ? 0x20 : 0);
        assert_int_equal(esr(7), illegal ? 0x40 : 0);
        assert_int_equal(who_has(vector), illegal ? 0 : 1 << 7);
        put(3, LAPIC_ICR, 0x4100 | vector); /* lowest priority */
        assert_int_equal(esr(3), illegal ? 0x20 : 0);
        assert_int_equal(esr(7), illegal ? 0x40 : 0);
        put(3, LAPIC_ICR, 0x44000 | vector); /* self */
        assert_int_equal(esr(3), illegal ? 0x60 : 0);
        put(3, LAPIC_ICR, 0x4600 | vector); /* a start-up message may have any */
        assert_int_equal(esr(3), 0);
        assert_int_equal(who_got(VDEV_IPI_SIPI), 1 << 7);

        board_setup(NULL);
        to_x2apic(3);
        assert_int_equal(wrmsr(3, 0x83f, vector), 0);
        assert_int_equal(esr(3), illegal ? 0x60 : 0);
        assert_int_equal(who_has(vector), illegal ? 0 : 1 << 3);
        lapic_reset(&board.apics[3]);
        put(3, LAPIC_SVR, 0x1ff);
        put(3, LAPIC_LVT_LINT0, vector);
        lapic_set_lint(&board.apics[3], 0, true);
        assert_int_equal(esr(3), illegal ? 0x40 : 0);
    }
}

static void extint_message(void **state)
{
    (void)state;
    struct lapic_message message = {.destination = 2, .mode = LAPIC_EXTINT};

    assert_true(lapic_deliver(board.apics, BOARD_APICS, &message));
    assert_true(lapic_accepts_extint(&board.apics[2]));
    assert_int_equal(board.wakes[2], 1);
    lapic_extint_taken(&board.apics[2]);
    assert_false(lapic_accepts_extint(&board.apics[2]));
    put(2, LAPIC_SVR, 0xff);
    assert_false(lapic_deliver(board.apics, BOARD_APICS, &message));
    assert_false(lapic_accepts_extint(&board.apics[2]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(physical, board_setup),
        cmocka_unit_test_setup(physical_beyond_count, board_setup),
        cmocka_unit_test_setup(logical_flat, board_setup),
        cmocka_unit_test_setup(logical_cluster, board_setup),
        cmocka_unit_test_setup(logical_x2apic, board_setup),
        cmocka_unit_test_setup(lowest_priority, board_setup),
        cmocka_unit_test_setup(icr_modes_and_shorthands, board_setup),
        cmocka_unit_test_setup(icr_destinations, board_setup),
        cmocka_unit_test_setup(icr_init_deassert, board_setup),
        cmocka_unit_test_setup(icr_fixed_is_edge, board_setup),
        cmocka_unit_test_setup(illegal_vectors, board_setup),
        cmocka_unit_test_setup(extint_message, board_setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
