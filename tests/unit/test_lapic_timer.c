// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/lapic_timer.c: TSC-deadline mode rule by rule, long periodic runs against exact arithmetic, all
 * modes against a model that counts one tick at a time. Fails when an expiry or a current count is a tick
 * off.
 */
#include "tests/unit/apic_board.h"

static bool timer_fired(unsigned apic)
{
    bool fired = lapic_pending(&board.apics[apic]) == 0xee;

    if (fired) {
        lapic_take(&board.apics[apic]);
        lapic_eoi(&board.apics[apic]);
    }
    return fired;
}

static void timer_deadline_mode(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[0];
    uint64_t value;

    assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, 2000), 0); /* not in this mode */
    assert_int_equal(lapic_deadline(apic), VDEV_NEVER);
    put(0, LAPIC_LVT_TIMER, 0x400ee);
    assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, 2000), 0);
    assert_int_equal(rdmsr(0, LAPIC_MSR_TSC_DEADLINE, &value), 0);
    assert_int_equal(value, 2000);
    assert_int_equal(lapic_deadline(apic), 2000);
    lapic_expire(apic, 1999);
    assert_false(timer_fired(0));
    lapic_expire(apic, 2000);
    assert_true(timer_fired(0));
    assert_int_equal(rdmsr(0, LAPIC_MSR_TSC_DEADLINE, &value), 0);
    assert_int_equal(value, 0);
    lapic_expire(apic, 3000);
    assert_false(timer_fired(0));

    board.now = 5000; /* the past, the present */
    assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, 1), 0);
    assert_true(timer_fired(0));
    assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, 5000), 0);
    assert_true(timer_fired(0));
    assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, 5001), 0);
    assert_false(timer_fired(0));
    assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, 0), 0);
    assert_int_equal(lapic_deadline(apic), VDEV_NEVER);

    /* The count registers are dead in this mode, and leaving it disarms. */
    put(0, LAPIC_INITIAL_COUNT, 77);
    assert_int_equal(get(0, LAPIC_INITIAL_COUNT), 0);
    assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, 9000), 0);
    assert_int_equal(get(0, LAPIC_CURRENT_COUNT), 0);
    put(0, LAPIC_DIVIDE, 0xb);
    assert_int_equal(lapic_deadline(apic), 9000);
    put(0, LAPIC_LVT_TIMER, 0x500ee); /* the mask alone does not */
    assert_int_equal(lapic_deadline(apic), 9000);
    lapic_expire(apic, 9000);
    assert_false(timer_fired(0));
    assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, 9000), 0);
    put(0, LAPIC_LVT_TIMER, 0x000ee);
    assert_int_equal(lapic_deadline(apic), VDEV_NEVER);
    assert_int_equal(rdmsr(0, LAPIC_MSR_TSC_DEADLINE, &value), 0);
    assert_int_equal(value, 0);
    put(0, LAPIC_INITIAL_COUNT, 77);
    put(0, LAPIC_LVT_TIMER, 0x400ee); /* as does entering it */
    assert_int_equal(lapic_deadline(apic), VDEV_NEVER);
}

/* Read after its end and before lapic_expire was called, the count is what it is by then. */
static void timer_read_late(void **state)
{
    (void)state;
    put(0, LAPIC_DIVIDE, 0xb);
    put(0, LAPIC_LVT_TIMER, 0x000ee);
    put(0, LAPIC_INITIAL_COUNT, 100);
    board.now += 100;
    assert_int_equal(get(0, LAPIC_CURRENT_COUNT), 0);
    board.now += 30;
    assert_int_equal(get(0, LAPIC_CURRENT_COUNT), 0);
    put(0, LAPIC_LVT_TIMER, 0x200ee);
    assert_int_equal(get(0, LAPIC_CURRENT_COUNT), 70);
    board.now += 70;
    assert_int_equal(get(0, LAPIC_CURRENT_COUNT), 100);
    put(0, LAPIC_INITIAL_COUNT, 100);
    board.now += 100;
    assert_int_equal(get(0, LAPIC_CURRENT_COUNT), 100);
}

/* A timer whose clock is not a divisor of the TSC keeps its mean rate for ever, to the tick. */
static void timer_no_drift(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[0];
    uint64_t first;

    board_start(2999999999, 24000000, true);
    board.now = 123456789012345;
    first = (uint64_t)((unsigned __int128)board.now * 24000000 / 2999999999);
    put(0, LAPIC_DIVIDE, 0xb);
    put(0, LAPIC_LVT_TIMER, 0x200ee);
    put(0, LAPIC_INITIAL_COUNT, 24001);
    for (uint64_t n = 1; n < 100000; n++) {
        unsigned __int128 product = (unsigned __int128)(first + n * 24001) * 2999999999 + 23999999;

        assert_true(lapic_deadline(apic) == (uint64_t)(product / 24000000));
        board.now = lapic_deadline(apic) + n % 1000;
        lapic_expire(apic, board.now);
        assert_true(timer_fired(0));
    }
    board.now += 100 * 2999999999ULL; /* many periods missed: one interrupt, and the grid is kept */
    lapic_expire(apic, board.now);
    assert_true(timer_fired(0));
    assert_true(lapic_deadline(apic) > board.now && lapic_deadline(apic) - board.now < 3100000);
    assert_true((uint64_t)((unsigned __int128)lapic_deadline(apic) * 24000000 / 2999999999) % 24001 ==
                first % 24001);
}

/* The timer, one TSC tick at a time, with a prescaler that counts. */
static struct {
    unsigned mode, divide, prescaler;
    uint32_t initial, count; /* count 0: stopped */
    uint64_t deadline;       /* 0: disarmed */
    bool masked, fired;
} slow;

static void slow_tick(uint64_t tsc)
{
    bool clock = tsc * 300 / 1000 != (tsc - 1) * 300 / 1000;

    slow.fired = false;
    if (slow.mode == 2) {
        slow.fired = slow.deadline != 0 && tsc >= slow.deadline;
        if (slow.fired)
            slow.deadline = 0;
    } else if (clock && slow.count != 0 && ++slow.prescaler == slow.divide) {
        slow.prescaler = 0;
        slow.fired = --slow.count == 0;
        if (slow.fired && slow.mode == 1)
            slow.count = slow.initial;
    }
    slow.fired = slow.fired && !slow.masked;
}

static void slow_write(uint64_t *seed)
{
    static const unsigned divides[] = {2, 4, 8, 16, 32, 64, 128, 1};
    unsigned code, mode;

    switch (random_below(seed, 4)) {
    case 0:
        mode = random_below(seed, 3);
        slow.masked = random_below(seed, 8) == 0;
        if ((mode == 2) != (slow.mode == 2)) {
            slow.count = 0;
            slow.deadline = 0;
        }
        slow.mode = mode;
        put(0, LAPIC_LVT_TIMER, 0xee | mode << 17 | (unsigned)slow.masked << 16);
        break;
    case 1:
        code = random_below(seed, 8);
        slow.divide = divides[code];
        slow.prescaler = 0;
        put(0, LAPIC_DIVIDE, (code & 3) | (code & 4) << 1);
        break;
    case 2:
        code = random_below(seed, 30);
        put(0, LAPIC_INITIAL_COUNT, code);
        if (slow.mode == 2)
            break;
        slow.initial = slow.count = code;
        slow.prescaler = 0;
        break;
    default:
        code = random_below(seed, 8) ? (unsigned)board.now + 1 + random_below(seed, 100) : 0;
        assert_int_equal(wrmsr(0, LAPIC_MSR_TSC_DEADLINE, code), 0);
        if (slow.mode == 2)
            slow.deadline = code;
        break;
    }
}

static void timer_model(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[0];
    uint64_t seed = 7, value;

    board_start(1000, 300, true);
    memset(&slow, 0, sizeof(slow));
    slow.divide = 2;
    slow.masked = true;
    for (unsigned step = 0; step < 400000; step++) {
        board.now++;
        slow_tick(board.now);
        if (board.now >= lapic_deadline(apic))
            lapic_expire(apic, board.now);
        assert_int_equal(timer_fired(0), slow.fired);
        if (random_below(&seed, 40) == 0)
            slow_write(&seed);
        assert_int_equal(get(0, LAPIC_CURRENT_COUNT), slow.mode == 2 ? 0 : slow.count);
        assert_int_equal(rdmsr(0, LAPIC_MSR_TSC_DEADLINE, &value), 0);
        assert_int_equal(value, slow.mode == 2 ? slow.deadline : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(timer_deadline_mode, board_setup),
        cmocka_unit_test_setup(timer_read_late, board_setup),
        cmocka_unit_test_setup(timer_no_drift, board_setup),
        cmocka_unit_test_setup(timer_model, board_setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
