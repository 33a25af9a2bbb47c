// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/ioapic.c with real local APICs behind it. Fails when a register holds other bits than the data
 * sheet gives it, or when a pin's edge or level is delivered other than once per edge or per EOI.
 */
#include "tests/unit/apic_board.h"

#define MASKED 0x10000
#define LEVEL  0x8000
#define REMOTE 0x4000

static uint32_t read_register(unsigned index)
{
    ioapic_mmio_write(&board.ioapic, 0, 4, index);
    return (uint32_t)ioapic_mmio_read(&board.ioapic, 0x10, 4);
}

static void write_register(unsigned index, uint32_t value)
{
    ioapic_mmio_write(&board.ioapic, 0, 4, index);
    ioapic_mmio_write(&board.ioapic, 0x10, 4, value);
}

static void set_entry(unsigned pin, uint32_t destination, uint32_t low)
{
    write_register(0x11 + pin * 2, destination << 24);
    write_register(0x10 + pin * 2, low);
}

/* Takes and ends the interrupt that `apic` has pending. */
static int serve(unsigned apic)
{
    int vector = lapic_pending(&board.apics[apic]);

    if (vector >= 0) {
        lapic_take(&board.apics[apic]);
        lapic_eoi(&board.apics[apic]);
    }
    return vector;
}

static void registers(void **state)
{
    (void)state;
    assert_int_equal(read_register(0), 0);
    assert_int_equal(read_register(1), 0x00170020);
    write_register(0, 0xffffffff);
    write_register(1, 0xffffffff);
    write_register(2, 0);
    assert_int_equal(read_register(0), 0x0f000000);
    write_register(0, 0x05000000);
    assert_int_equal(read_register(0), 0x05000000);
    write_register(0, 0xffffffff);
    assert_int_equal(read_register(0), 0x0f000000);
    assert_int_equal(read_register(1), 0x00170020);
    assert_int_equal(read_register(2), 0x0f000000);
    for (unsigned index = 3; index < 256; index++) {
        bool low = index % 2 == 0, entry = index >= 0x10 && index < 0x40;

        assert_int_equal(read_register(index), entry && low ? MASKED : 0);
        write_register(index, 0xffffffff);
        assert_int_equal(read_register(index), !entry ? 0 : low ? 0x1afff : 0xff000000);
        write_register(index, MASKED);
        assert_int_equal(read_register(index), entry && low ? MASKED : 0);
    }
    ioapic_reset(&board.ioapic);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0, 4), 0);
    assert_int_equal(read_register(0), 0);
}

static void access_sizes(void **state)
{
    (void)state;
    ioapic_mmio_write(&board.ioapic, 0, 1, 0x01);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0, 1), 1);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0x10, 1), 0x20);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0x12, 2), 0x17);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0x10, 8), 0x170020);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0x14, 4), 0);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0x40, 4), 0);
    ioapic_mmio_write(&board.ioapic, 0, 2, 0x10);
    ioapic_mmio_write(&board.ioapic, 0x10, 2, 0x44);
    ioapic_mmio_write(&board.ioapic, 0x11, 4, 0x44);
    assert_int_equal(read_register(0x10), MASKED);
    write_register(0x10, 0x1a7ff);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0x10, 1), 0xff);
    assert_int_equal(ioapic_mmio_read(&board.ioapic, 0x10, 2), 0xa7ff);
}

static void edges(void **state)
{
    (void)state;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        set_entry(pin, 1, MASKED | (0x40 + pin));
        ioapic_set_pin(&board.ioapic, pin, true);
        set_entry(pin, 1, 0x40 + pin); /* the edge was lost */
        assert_int_equal(serve(1), -1);
        ioapic_set_pin(&board.ioapic, pin, true);
        assert_int_equal(serve(1), -1);
        ioapic_set_pin(&board.ioapic, pin, false);
        assert_int_equal(serve(1), -1);
        ioapic_set_pin(&board.ioapic, pin, true);
        assert_int_equal(serve(1), 0x40 + pin);
        assert_int_equal(serve(1), -1);
        assert_int_equal(read_register(0x10 + pin * 2), 0x40 + pin);
    }
    assert_int_equal(board.eois, 0);
}

static void levels(void **state)
{
    (void)state;
    set_entry(9, 1, MASKED | LEVEL | 0x50);
    ioapic_set_pin(&board.ioapic, 9, true);
    assert_int_equal(serve(1), -1);
    set_entry(9, 1, LEVEL | 0x50); /* unmasking finds the level */
    assert_int_equal(read_register(0x22), LEVEL | REMOTE | 0x50);
    write_register(0x22, LEVEL | 0x50); /* remote IRR is read-only, and holds the next one back */
    assert_int_equal(read_register(0x22), LEVEL | REMOTE | 0x50);
    assert_int_equal(lapic_take(&board.apics[1]), 0x50);
    ioapic_set_pin(&board.ioapic, 9, false);
    ioapic_set_pin(&board.ioapic, 9, true);
    assert_false(vector_bit(1, LAPIC_IRR, 0x50));
    lapic_eoi(&board.apics[1]); /* still asserted: again */
    assert_int_equal(lapic_take(&board.apics[1]), 0x50);
    ioapic_set_pin(&board.ioapic, 9, false);
    lapic_eoi(&board.apics[1]);
    assert_int_equal(serve(1), -1);
    assert_int_equal(read_register(0x22), LEVEL | 0x50);

    /* Masked while in service: the EOI clears remote IRR, nothing is sent. */
    ioapic_set_pin(&board.ioapic, 9, true);
    lapic_take(&board.apics[1]);
    write_register(0x22, MASKED | LEVEL | 0x50);
    lapic_eoi(&board.apics[1]);
    assert_int_equal(read_register(0x22), MASKED | LEVEL | 0x50);
    assert_int_equal(serve(1), -1);
}

static void level_lowest_priority(void **state)
{
    (void)state;
    set_entry(9, 1, LEVEL | LAPIC_LOWEST_PRIORITY << 8 | 0x50);
    ioapic_set_pin(&board.ioapic, 9, true);
    assert_int_equal(read_register(0x22), LEVEL | REMOTE | LAPIC_LOWEST_PRIORITY << 8 | 0x50);
    assert_true(vector_bit(1, LAPIC_TMR, 0x50));
    assert_int_equal(serve(1), 0x50);
    assert_int_equal(serve(1), 0x50);
}

static void level_refused(void **state)
{
    (void)state;
    put(1, LAPIC_SVR, 0xff);
    set_entry(9, 1, LEVEL | 0x50);
    ioapic_set_pin(&board.ioapic, 9, true);
    assert_int_equal(read_register(0x22), LEVEL | 0x50); /* nobody took it */
}

/* The EOI register, as for a local APIC that broadcasts none; and the older way, by making the pin
 * edge-triggered. */
static void explicit_eoi(void **state)
{
    (void)state;
    put(1, LAPIC_SVR, 0x11ff);
    set_entry(9, 1, LEVEL | 0x50);
    ioapic_set_pin(&board.ioapic, 9, true);
    lapic_take(&board.apics[1]);
    lapic_eoi(&board.apics[1]);
    assert_int_equal(board.eois, 0);
    assert_int_equal(serve(1), -1);
    ioapic_mmio_write(&board.ioapic, 0x40, 4, 0x51);
    ioapic_mmio_write(&board.ioapic, 0x40, 1, 0x50);
    ioapic_mmio_write(&board.ioapic, 0x20, 4, 0x50);
    assert_int_equal(serve(1), -1);
    ioapic_mmio_write(&board.ioapic, 0x40, 4, 0x50);
    assert_int_equal(serve(1), 0x50);
    assert_int_equal(read_register(0x22), LEVEL | REMOTE | 0x50);
    write_register(0x22, MASKED | 0x50);
    assert_int_equal(read_register(0x22), MASKED | 0x50);
    write_register(0x22, LEVEL | 0x50);
    assert_int_equal(serve(1), 0x50);
}

/* Two level-triggered pins with one vector: one EOI ends both. */
static void shared_vector(void **state)
{
    (void)state;
    set_entry(9, 1, LEVEL | 0x50);
    set_entry(10, 1, LEVEL | 0x50);
    set_entry(11, 1, LEVEL | 0x60);
    ioapic_set_pin(&board.ioapic, 9, true);
    ioapic_set_pin(&board.ioapic, 10, true);
    ioapic_set_pin(&board.ioapic, 11, true);
    ioapic_set_pin(&board.ioapic, 9, false);
    ioapic_eoi(&board.ioapic, 0x50);
    assert_int_equal(read_register(0x22), LEVEL | 0x50);
    assert_int_equal(read_register(0x24), LEVEL | REMOTE | 0x50); /* asserted: sent again */
    assert_int_equal(read_register(0x26), LEVEL | REMOTE | 0x60);
}

static void delivery_modes(void **state)
{
    (void)state;
    static const unsigned modes[] = {LAPIC_NMI, LAPIC_INIT, LAPIC_EXTINT, LAPIC_SMI};

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        set_entry(4, 2, LEVEL | modes[i] << 8 | 0x50); /* the trigger bit does not count */
        ioapic_set_pin(&board.ioapic, 4, true);
        ioapic_set_pin(&board.ioapic, 4, true);
        ioapic_set_pin(&board.ioapic, 4, false);
        assert_int_equal(read_register(0x18), LEVEL | modes[i] << 8 | 0x50);
    }
    assert_int_equal(who_got(VDEV_IPI_NMI), 1 << 2);
    assert_int_equal(who_got(VDEV_IPI_INIT), 1 << 2);
    assert_int_equal(who_got(VDEV_IPI_SIPI), 0);
    assert_true(lapic_accepts_extint(&board.apics[2]));
    assert_int_equal(who_has(0x50), 0);
}

static void destinations(void **state)
{
    (void)state;
    put(3, LAPIC_LDR, 0x10u << 24);
    put(4, LAPIC_LDR, 0x20u << 24);
    set_entry(4, 0x30, 0x0800 | 0x51); /* logical */
    ioapic_set_pin(&board.ioapic, 4, true);
    assert_int_equal(who_has(0x51), 3 << 3);
    put(3, LAPIC_TPR, 0x20);
    set_entry(5, 0x30, 0x0900 | 0x52); /* logical, lowest priority */
    ioapic_set_pin(&board.ioapic, 5, true);
    assert_int_equal(who_has(0x52), 1 << 4);
    set_entry(6, 0xff, 0x53); /* broadcast */
    ioapic_set_pin(&board.ioapic, 6, true);
    assert_int_equal(who_has(0x53), (1 << BOARD_APICS) - 1);
    set_entry(7, 3, 0x05); /* illegal vector */
    ioapic_set_pin(&board.ioapic, 7, true);
    put(3, LAPIC_ESR, 0);
    assert_int_equal(get(3, LAPIC_ESR), 0x40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(registers, board_setup),
        cmocka_unit_test_setup(access_sizes, board_setup),
        cmocka_unit_test_setup(edges, board_setup),
        cmocka_unit_test_setup(levels, board_setup),
        cmocka_unit_test_setup(level_refused, board_setup),
        cmocka_unit_test_setup(explicit_eoi, board_setup),
        cmocka_unit_test_setup(shared_vector, board_setup),
        cmocka_unit_test_setup(delivery_modes, board_setup),
        cmocka_unit_test_setup(destinations, board_setup),
        cmocka_unit_test_setup(level_lowest_priority, board_setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
