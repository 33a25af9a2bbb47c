// SPDX-License-Identifier: BSD-2-Clause
/* core/vdev/msix.c: what a message means, when it goes, and that none is lost between two processors. */
#include "core/vdev/msix.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define VECTORS 8
#define APIC    0xfee00000ULL

static struct msix msix;
static unsigned delivered;
static struct lapic_message last;

static void deliver(void *context, const struct lapic_message *message)
{
    assert_ptr_equal(context, &msix);
    last = *message;
    __atomic_fetch_add(&delivered, 1, __ATOMIC_SEQ_CST);
}

static const struct msix_ops ops = {.deliver = deliver};

static int set_up(void **state)
{
    (void)state;
    msix_init(&msix, VECTORS, &ops, &msix);
    delivered = 0;
    return 0;
}

static void program(unsigned vector, uint64_t address, uint32_t data, uint32_t control)
{
    msix_write(&msix, 16 * vector, 8, address);
    msix_write(&msix, 16 * vector + 8, 4, data);
    msix_write(&msix, 16 * vector + 12, 4, control);
}

static uint32_t pending(void)
{
    return (uint32_t)msix_read(&msix, MSIX_PBA_OFFSET, 4);
}

/* Fails when a bit of address or data is taken for another. */
static void decoding(void **state)
{
    (void)state;
    static const struct {
        uint64_t address;
        uint32_t data;
        bool valid;
        struct lapic_message message;
    } cases[] = {
        {APIC, 0x41, true, {.vector = 0x41}},
        {APIC | 0x12000, 0x41, true, {.destination = 0x12, .vector = 0x41}},
        {APIC | 0xfe000, 0x41, true, {.destination = 0xfe, .vector = 0x41}},
        {APIC | 0xff000, 0x41, true, {.destination = LAPIC_BROADCAST, .vector = 0x41}},
        {APIC | 0x03004, 0x50, true, {.destination = 3, .logical = true, .vector = 0x50}},
        {APIC | 0x03008, 0x50, true, {.destination = 3, .vector = 0x50}},
        {APIC | 0x0300c,
         0x50,
         true,
         {.destination = 3, .logical = true, .mode = LAPIC_LOWEST_PRIORITY, .vector = 0x50}},
        {APIC, 0x150, true, {.mode = LAPIC_LOWEST_PRIORITY, .vector = 0x50}},
        {APIC, 0x250, true, {.mode = LAPIC_SMI, .vector = 0x50}},
        {APIC, 0x350, false, {0}},
        {APIC, 0x400, true, {.mode = LAPIC_NMI}},
        {APIC | 0xc, 0x400, true, {.logical = true, .mode = LAPIC_NMI}},
        {APIC, 0x500, true, {.mode = LAPIC_INIT}},
        {APIC, 0x650, false, {0}},
        {APIC, 0x700, true, {.mode = LAPIC_EXTINT}},
        {APIC, 0xc041, true, {.level = true, .vector = 0x41}},
        {APIC, 0x8041, false, {0}}, /* the end of a level */
        {APIC, 0x4041, true, {.vector = 0x41}},
        {APIC, 0xffff0041, true, {.vector = 0x41}},
        {0xfed00000, 0x41, false, {0}},
        {0xfef00000, 0x41, false, {0}},
        {0, 0x41, false, {0}},
        {BIT(32) | APIC, 0x41, false, {0}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct lapic_message message = {0};

        assert_int_equal(msix_decode(cases[i].address, cases[i].data, &message), cases[i].valid);
        assert_memory_equal(&message, &cases[i].message, sizeof(message));
    }
}

/* Fails when the table loses what is written, takes what it must not, or shows it elsewhere. */
static void table(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VECTORS; i++) {
        assert_int_equal(msix_read(&msix, 16 * i, 8), 0);
        assert_int_equal(msix_read(&msix, 16 * i + 8, 8), BIT(32)); /* masked */
    }
    for (unsigned i = 0; i < VECTORS; i++)
        program(i, 0x1234567800000003ULL + 16 * i, 0xabcd0000 + i, 0xfffffffe);
    for (unsigned i = 0; i < VECTORS; i++) {
        assert_true(msix_read(&msix, 16 * i, 8) == 0x1234567800000000ULL + 16 * i);
        assert_true(msix_read(&msix, 16 * i + 8, 8) == 0xabcd0000ULL + i);
        assert_int_equal(msix_read(&msix, 16 * i + 8, 2), i);
        assert_int_equal(msix_read(&msix, 16 * i + 11, 1), 0xab);
        assert_int_equal(msix_read(&msix, 16 * i + 6, 4), 0x1234 | i << 16);
    }
    /* Narrow and unaligned writes, and those beside the table. */
    msix_write(&msix, 8, 1, 0);
    msix_write(&msix, 8, 2, 0);
    msix_write(&msix, 10, 4, 0);
    msix_write(&msix, 4, 8, 0);
    for (unsigned at = 16 * VECTORS; at < MSIX_PAGE_SIZE; at += 8) {
        msix_write(&msix, at, 8, UINT64_MAX);
        assert_int_equal(msix_read(&msix, at, 8), 0);
    }
    assert_int_equal(msix_read(&msix, 8, 4), 0xabcd0000);
    msix_write(&msix, 8, 8, BIT(32) | 0x77); /* data and control at once */
    assert_int_equal(msix_read(&msix, 8, 4), 0x77);
    assert_int_equal(msix_read(&msix, 12, 4), 1);
}

/* Fails when one of the ways to hold a message back does not, or forgets it. */
static void masking(void **state)
{
    (void)state;
    static const struct {
        uint16_t control;
        bool may_send;
        uint32_t mask;
        bool sent, waits;
    } cases[] = {
        {MSIX_ENABLE, true, 0, true, false},
        {MSIX_ENABLE, true, 1, false, true},
        {MSIX_ENABLE | MSIX_MASK_ALL, true, 0, false, true},
        {MSIX_ENABLE, false, 0, false, true},
        {0, true, 0, false, false},
        {MSIX_MASK_ALL, true, 0, false, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        set_up(NULL);
        msix_set_control(&msix, cases[i].control, cases[i].may_send);
        program(3, APIC | 0x1000, 0x55, cases[i].mask);
        msix_raise(&msix, 3);
        msix_raise(&msix, 3);
        assert_int_equal(delivered, cases[i].sent ? 2 : 0);
        assert_int_equal(pending(), cases[i].waits ? 8 : 0);
        /* Everything is let go: once, by what it says now. */
        msix_write(&msix, 3 * 16 + 8, 4, 0x56);
        msix_set_control(&msix, MSIX_ENABLE, true);
        msix_write(&msix, 3 * 16 + 12, 4, 0);
        assert_int_equal(delivered, cases[i].sent ? 2 : cases[i].waits ? 1 : 0);
        assert_int_equal(pending(), 0);
        if (cases[i].waits)
            assert_int_equal(last.vector, 0x56);
        if (delivered)
            assert_int_equal(last.destination, 1);
    }
}

/* Fails when a vector that is not there, a message to nowhere, or one of before a reset is sent. */
static void lost(void **state)
{
    (void)state;
    msix_set_control(&msix, MSIX_ENABLE, true);
    msix_raise(&msix, VECTORS);
    msix_raise(&msix, UINT32_MAX);
    assert_int_equal(pending(), 0);
    program(0, BIT(32) | APIC, 0x41, 0);
    program(1, 0x100000, 0x41, 0);
    msix_raise(&msix, 0);
    msix_raise(&msix, 1);
    assert_int_equal(pending(), 0);
    program(2, APIC, 0x41, 1);
    msix_raise(&msix, 2);
    assert_int_equal(pending(), 4);
    msix_set_control(&msix, 0, true);
    assert_int_equal(pending(), 0);
    msix_set_control(&msix, MSIX_ENABLE, true);
    msix_raise(&msix, 2);
    msix_reset(&msix);
    msix_set_control(&msix, MSIX_ENABLE, true);
    assert_int_equal(msix_read(&msix, 32, 8), 0);
    assert_int_equal(msix_read(&msix, 40, 8), BIT(32));
    program(2, APIC, 0x41, 0);
    assert_int_equal(delivered, 0);
}

#define RACES 20000

static bool race_over;

static void *mask_and_unmask(void *argument)
{
    (void)argument;
    while (!__atomic_load_n(&race_over, __ATOMIC_SEQ_CST)) {
        msix_write(&msix, 12, 4, 1);
        msix_write(&msix, 12, 4, 0);
    }
    return NULL;
}

/* Fails (by going on for ever, or by a count) when a ring that meets an unmasking is lost or heard twice. */
static void race(void **state)
{
    (void)state;
    pthread_t owner;

    msix_set_control(&msix, MSIX_ENABLE, true);
    program(0, APIC, 0x41, 0);
    race_over = false;
    assert_int_equal(pthread_create(&owner, NULL, mask_and_unmask, NULL), 0);
    for (unsigned i = 1; i <= RACES; i++) {
        msix_raise(&msix, 0);
        while (__atomic_load_n(&delivered, __ATOMIC_SEQ_CST) < i)
            sched_yield();
    }
    __atomic_store_n(&race_over, true, __ATOMIC_SEQ_CST);
    pthread_join(owner, NULL);
    assert_int_equal(delivered, RACES);
    assert_int_equal(pending(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(decoding, set_up), cmocka_unit_test_setup(table, set_up),
        cmocka_unit_test_setup(masking, set_up),  cmocka_unit_test_setup(lost, set_up),
        cmocka_unit_test_setup(race, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
