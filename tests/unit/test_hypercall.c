// SPDX-License-Identifier: BSD-2-Clause
/* core/hypercall.c over a partition of 64 KiB with a hole: each call's results, errors and effects. */
#include "core/hypercall.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mm/p2m.h"

#define OWNER     FRAME_OWNER_PARTITION
#define SIZE      KIB(64)
#define READ_ONLY 0xf000 /* the last page, */
#define HOLE      0xe000 /* and none before it */

static struct frame_extent extents[4];
static struct frame_pool pool;
static struct p2m_region regions[4];
static struct p2m p2m;
static struct stage_chain chain = {.stages = {&p2m.stage}, .count = 1};
static struct hypercall_vcpu vcpu;
static uint8_t *memory;

static struct {
    unsigned yields, powers, doorbells;
    enum hypercall_power power;
    uint64_t doorbell[3];
    char text[HYPERCALL_CONSOLE_MAX + 1];
    size_t length;
} seen;

static void op_info(void *context, struct hypercall_info *info)
{
    assert_ptr_equal(context, &seen);
    info->number = 3;
    info->vcpus = 4;
    info->vcpu = 1;
    info->memory = SIZE;
    info->tsc_hz = 2000000000;
    info->regions = 2;
    strcpy(info->name, "guest");
}

static void op_time(void *context, struct hypercall_time *time)
{
    assert_ptr_equal(context, &seen);
    time->tsc = 0x1122334455667788;
    time->wall_clock = -5;
    time->tsc_hz = 2000000000;
    time->tsc_offset = UINT64_MAX;
    time->tsc_multiplier = BIT(48);
}

static void op_yield(void *context)
{
    assert_ptr_equal(context, &seen);
    seen.yields++;
}

static int op_doorbell(void *context, uint64_t region, uint64_t peer, uint64_t vector)
{
    assert_ptr_equal(context, &seen);
    seen.doorbells++;
    seen.doorbell[0] = region;
    seen.doorbell[1] = peer;
    seen.doorbell[2] = vector;
    return peer == 9 ? -ENOENT : 0;
}

static void op_console_write(void *context, const char *text, size_t length)
{
    assert_ptr_equal(context, &seen);
    assert_true(seen.length + length < sizeof(seen.text));
    memcpy(&seen.text[seen.length], text, length);
    seen.length += length;
}

static void op_power(void *context, enum hypercall_power what)
{
    assert_ptr_equal(context, &seen);
    seen.powers++;
    seen.power = what;
}

static const struct hypercall_ops ops = {op_info, op_time, op_yield, op_doorbell, op_console_write, op_power};

/* What is at `i` in the beginning: no two pieces of 256 bytes are alike. */
static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 7 + i / 256);
}

static int set_up(void **state)
{
    (void)state;
    memory = aligned_alloc(PAGE_SIZE, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        memory[i] = pattern(i);
    memset(&seen, 0, sizeof(seen));
    hypercall_reset(&vcpu);
    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), NULL);
    const hpa_t base = HPA((uintptr_t)memory);
    assert_int_equal(frame_pool_add(&pool, base, SIZE, FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&pool, base, SIZE, OWNER), 0);
    p2m_init(&p2m, regions, ARRAY_SIZE(regions), &pool, OWNER);
    const struct p2m_region low = {GPA(0), base, HOLE, PAGING_READ | PAGING_WRITE, MEMORY_TYPE_WB};
    const struct p2m_region high = {GPA(READ_ONLY), HPA(base.value + READ_ONLY), PAGE_SIZE, PAGING_READ,
                                    MEMORY_TYPE_WB};
    assert_int_equal(p2m_add(&p2m, &low), 0);
    assert_int_equal(p2m_add(&p2m, &high), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(memory);
    return 0;
}

static int64_t call(uint64_t number, uint64_t rbx, uint64_t rcx, uint64_t rdx)
{
    const struct hypercall_caller caller = {.ops = &ops, .context = &seen, .memory = &chain, .vcpu = &vcpu};
    const uint64_t arguments[] = {rbx, rcx, rdx, 0x5151515151515151};

    return hypercall_execute(&caller, number, arguments);
}

/* All of the guest's memory but [from, from + size) is as it was. */
static void assert_untouched(size_t from, size_t size)
{
    for (size_t i = 0; i < SIZE; i++) {
        if (i < from || i >= from + size)
            assert_int_equal(memory[i], pattern(i));
    }
}

static uint64_t word(size_t at, size_t size)
{
    uint64_t value = 0;

    memcpy(&value, &memory[at], size);
    return value;
}

/* Fails when a number changes its meaning, or one beyond the last does anything. */
static void numbers(void **state)
{
    static const uint64_t none[] = {8, 9, 255, 0x80000000, 0xffffffff, BIT(32), BIT(63), UINT64_MAX};

    (void)state;
    assert_int_equal(call(0, 1, 2, 3), 0x00010000);
    assert_int_equal(call(3, 1, 2, 3), 0);
    assert_int_equal(seen.yields, 1);
    for (size_t i = 0; i < ARRAY_SIZE(none); i++)
        assert_int_equal(call(none[i], 0x1000, 64, 0), -38);
    assert_int_equal(HYPERCALL_ALL, 0xff);
    assert_untouched(0, 0);
}

/* Fails when a member is not where docs/hypercalls.md says, or more is written than there is room for. */
static void info(void **state)
{
    (void)state;
    assert_int_equal(call(1, 0x1001, 1000, 0), 80);
    assert_untouched(0x1001, 80);
    assert_int_equal(word(0x1001, 4), 80);
    assert_int_equal(word(0x1005, 4), 3);
    assert_int_equal(word(0x1009, 4), 4);
    assert_int_equal(word(0x100d, 4), 1);
    assert_int_equal(word(0x1011, 8), SIZE);
    assert_int_equal(word(0x1019, 8), 2000000000);
    assert_int_equal(word(0x1021, 8), 2);
    assert_int_equal(word(0x1029, 8), 0xff);
    assert_memory_equal(&memory[0x1031], "guest\0\0\0", 8);
    assert_int_equal(word(0x1049, 8), 0);
}

static void info_small(void **state)
{
    (void)state;
    for (uint64_t room = 0; room < 4; room++)
        assert_int_equal(call(1, 0x1000, room, 0), -22);
    assert_untouched(0, 0);
    assert_int_equal(call(1, 0x1ffe, 6, 0), 6); /* over a page's end */
    assert_untouched(0x1ffe, 6);
    assert_int_equal(word(0x1ffe, 4), 80);
}

static void time(void **state)
{
    (void)state;
    assert_int_equal(call(2, 0x2000, 48, 0), 48);
    assert_untouched(0x2000, 48);
    assert_int_equal(word(0x2000, 8), 48);
    assert_true(word(0x2008, 8) == 0x1122334455667788);
    assert_true(word(0x2010, 8) == (uint64_t)-5);
    assert_int_equal(word(0x2018, 8), 2000000000);
    assert_true(word(0x2020, 8) == UINT64_MAX);
    assert_true(word(0x2028, 8) == BIT(48));
}

/* Fails when a call reaches what is not the partition's, or half a structure is written. */
static void bad_addresses(void **state)
{
    static const uint64_t addresses[] = {HOLE,    HOLE - 47, READ_ONLY,  SIZE,           SIZE - 1,
                                         BIT(48), BIT(63),   UINT64_MAX, UINT64_MAX - 40};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
        assert_int_equal(call(1, addresses[i], 80, 0), -14);
        assert_int_equal(call(2, addresses[i], 48, 0), -14);
        if (addresses[i] < READ_ONLY || addresses[i] >= SIZE - 1)
            assert_int_equal(call(6, addresses[i], 48, 0), -14);
    }
    assert_untouched(0, 0);
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
        assert_int_equal(call(5, addresses[i] & ~63ULL, 1, 0),
                         (addresses[i] & ~63ULL) == HOLE - 64 ? 0 : -14);
        hypercall_reset(&vcpu);
    }
    for (size_t i = HOLE - 64; i < HOLE; i++)
        memory[i] = pattern(i);
    assert_untouched(0, 0);
    assert_int_equal(seen.length, 0);
}

static void doorbell(void **state)
{
    (void)state;
    assert_int_equal(call(4, BIT(40), 7, 3), 0);
    assert_true(seen.doorbell[0] == BIT(40) && seen.doorbell[1] == 7 && seen.doorbell[2] == 3);
    assert_int_equal(call(4, 0, 9, 0), -2);
    assert_int_equal(seen.doorbells, 2);
}

static void power(void **state)
{
    (void)state;
    assert_int_equal(call(7, 2, 0, 0), -22);
    assert_int_equal(call(7, BIT(32), 0, 0), -22);
    assert_int_equal(seen.powers, 0);
    assert_int_equal(call(7, 0, 0, 0), 0);
    assert_int_equal(seen.power, HYPERCALL_POWER_OFF);
    assert_int_equal(call(7, 1, 0, 0), 0);
    assert_int_equal(seen.power, HYPERCALL_POWER_RESET);
    assert_int_equal(seen.powers, 2);
}

/* Fails when text is lost, comes twice or in part, or one call takes more than it may. */
static void console(void **state)
{
    static const uint64_t lengths[] = {0, 1, 255, 256, 257, 4095, 4096, 4097, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        size_t taken = lengths[i] < 4096 ? lengths[i] : 4096;

        seen.length = 0;
        assert_int_equal(call(6, 0x123, lengths[i], 0), taken);
        assert_int_equal(seen.length, taken);
        assert_memory_equal(seen.text, &memory[0x123], taken);
    }
    seen.length = 0;
    assert_int_equal(call(6, READ_ONLY, 16, 0), 16);
    assert_int_equal(call(6, HOLE - 1000, 1001, 0), -14);
    assert_int_equal(seen.length, 16);
}

/* Fails when a reader could take a half-written page for a whole one, or it is written where it must not be.
 */
static void steal_time(void **state)
{
    (void)state;
    hypercall_steal_update(&vcpu, &chain, 5, 6);
    assert_int_equal(call(5, 0x3020, 1, 0), -22);
    assert_int_equal(call(5, 0x3000, 2, 0), -22);
    assert_int_equal(call(5, 0x3000, BIT(32), 0), -22);
    hypercall_steal_update(&vcpu, &chain, 5, 6);
    assert_untouched(0, 0);

    assert_int_equal(call(5, 0x3040, 1, 0), 0);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(memory[0x3040 + i], 0);
    for (unsigned i = 1; i <= 3; i++) {
        memory[0x3040] = 0x77; /* what a guest writes there does not count */
        hypercall_steal_update(&vcpu, &chain, 1000 * i, 5000 * i);
        assert_int_equal(word(0x3040, 8), 2 * i);
        assert_int_equal(word(0x3048, 8), 1000 * i);
        assert_int_equal(word(0x3050, 8), 5000 * i);
        assert_int_equal(word(0x3058, 8), 0);
    }
    assert_untouched(0x3040, 64);

    /* Elsewhere, from the start; then off. */
    assert_int_equal(call(5, 0x5000, 1, 0), 0);
    hypercall_steal_update(&vcpu, &chain, 9, 10);
    assert_int_equal(word(0x5000, 8), 2);
    assert_int_equal(word(0x3048, 8), 3000);
    assert_int_equal(call(5, UINT64_MAX, 0, 0), 0);
    hypercall_steal_update(&vcpu, &chain, 11, 12);
    assert_int_equal(word(0x5008, 8), 9);
    assert_int_equal(call(5, 0x5000, 1, 0), 0);
    hypercall_reset(&vcpu);
    hypercall_steal_update(&vcpu, &chain, 11, 12);
    assert_int_equal(word(0x5008, 8), 0);

    /* A bad address leaves things as they are. */
    assert_int_equal(call(5, 0x5000, 1, 0), 0);
    assert_int_equal(call(5, READ_ONLY, 1, 0), -14);
    hypercall_steal_update(&vcpu, &chain, 13, 14);
    assert_int_equal(word(0x5008, 8), 13);
}

/* What memory looks like at each write of an update: a walker that looks on. */
static unsigned walks;
static uint32_t versions[8];
static uint64_t stolen[8];

static enum stage_outcome watching_walk(const struct stage *stage, uint64_t address, unsigned access,
                                        struct translation *translation, struct stage_fault *fault)
{
    versions[walks] = (uint32_t)word(0x3000, 4);
    stolen[walks++] = word(0x3008, 8);
    (void)stage;
    return p2m.stage.walk(&p2m.stage, address, access, translation, fault);
}

static void steal_order(void **state)
{
    static const struct stage watching = {.walk = watching_walk};
    const struct stage_chain watched = {.stages = {&watching}, .count = 1};

    (void)state;
    assert_int_equal(call(5, 0x3000, 1, 0), 0);
    walks = 0;
    hypercall_steal_update(&vcpu, &watched, 77, 88);
    assert_int_equal(walks, 3);
    assert_int_equal(versions[1], 1); /* odd before anything else is written, */
    assert_int_equal(stolen[1], 0);
    assert_int_equal(versions[2], 1); /* and still when all is */
    assert_int_equal(stolen[2], 77);
    assert_int_equal(word(0x3000, 4), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(info, set_up, tear_down),
        cmocka_unit_test_setup_teardown(info_small, set_up, tear_down),
        cmocka_unit_test_setup_teardown(time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(doorbell, set_up, tear_down),
        cmocka_unit_test_setup_teardown(power, set_up, tear_down),
        cmocka_unit_test_setup_teardown(console, set_up, tear_down),
        cmocka_unit_test_setup_teardown(steal_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(steal_order, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
