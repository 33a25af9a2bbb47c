// SPDX-License-Identifier: BSD-2-Clause
/*
 * The timer of the local APIC (SDM vol. 3, "APIC Timer"). Its clock is the partition's TSC scaled to timer_hz
 * and free-running from TSC 0; periods are whole numbers of that clock, so a periodic timer never drifts.
 */
#include "core/vdev/lapic_private.h"
#include "lib/muldiv.h"

enum timer_mode {
    TIMER_ONE_SHOT = 0,
    TIMER_PERIODIC = 1,
    TIMER_TSC_DEADLINE = 2,
};

static enum timer_mode timer_mode_of(uint32_t lvt)
{
    return (enum timer_mode)((lvt >> 17) & 3);
}

static enum timer_mode timer_mode(const struct lapic *lapic)
{
    return timer_mode_of(lapic_get(lapic, LAPIC_LVT_TIMER));
}

static uint64_t timer_clock(const struct lapic *lapic, uint64_t tsc)
{
    const struct lapic_settings *settings = &lapic->settings;

    if (settings->timer_hz == settings->host->tsc_hz)
        return tsc;
    return muldiv_u64(tsc, settings->timer_hz, settings->host->tsc_hz);
}

/* The first TSC at which the timer's clock shows `clock`. */
static uint64_t timer_tsc(const struct lapic *lapic, uint64_t clock)
{
    const struct lapic_settings *settings = &lapic->settings;

    if (settings->timer_hz == settings->host->tsc_hz)
        return clock;
    return muldiv_up_u64(clock, settings->host->tsc_hz, settings->timer_hz);
}

/* log2 of the divisor: bits 3, 1 and 0 of the register count 2, 4, ... 128, 1. */
static unsigned timer_divide_shift(const struct lapic *lapic)
{
    uint32_t divide = lapic_get(lapic, LAPIC_DIVIDE);

    return (((divide & 3) | ((divide >> 1) & 4)) + 1) & 7;
}

/* Of one-shot and periodic mode, in timer clocks. */
static uint64_t timer_period(const struct lapic *lapic)
{
    return (uint64_t)lapic_get(lapic, LAPIC_INITIAL_COUNT) << timer_divide_shift(lapic);
}

static void timer_arm(struct lapic *lapic, uint64_t start)
{
    lapic->timer_start = start;
    lapic->deadline = timer_tsc(lapic, start + timer_period(lapic));
}

/*
 * Into and out of TSC-deadline mode the timer is disarmed. Between the other two it counts on, as processors
 * do, though the SDM's words can be read otherwise: systems program the count first and the mode later.
 */
void lapic_timer_write_lvt(struct lapic *lapic, uint32_t value)
{
    bool was_deadline = timer_mode(lapic) == TIMER_TSC_DEADLINE;
    bool is_deadline = timer_mode_of(value) == TIMER_TSC_DEADLINE;

    if (was_deadline != is_deadline)
        lapic->deadline = VDEV_NEVER;
    lapic_put(lapic, LAPIC_LVT_TIMER, value);
}

void lapic_timer_write_initial_count(struct lapic *lapic, uint32_t value)
{
    if (timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return;
    lapic_put(lapic, LAPIC_INITIAL_COUNT, value);
    if (value == 0)
        lapic->deadline = VDEV_NEVER;
    else
        timer_arm(lapic, timer_clock(lapic, vdev_now(lapic->settings.host)));
}

/* A running count goes on from where it is at the new rate. */
void lapic_timer_write_divide(struct lapic *lapic, uint32_t value)
{
    uint64_t counted = lapic_get(lapic, LAPIC_INITIAL_COUNT) - lapic_timer_current_count(lapic);

    lapic_put(lapic, LAPIC_DIVIDE, value);
    if (lapic->deadline == VDEV_NEVER || timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return;
    timer_arm(lapic,
              timer_clock(lapic, vdev_now(lapic->settings.host)) - (counted << timer_divide_shift(lapic)));
}

uint32_t lapic_timer_current_count(const struct lapic *lapic)
{
    uint64_t period = timer_period(lapic), elapsed;

    if (lapic->deadline == VDEV_NEVER || timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return 0;
    elapsed = timer_clock(lapic, vdev_now(lapic->settings.host)) - lapic->timer_start;
    if (elapsed >= period) {
        if (timer_mode(lapic) != TIMER_PERIODIC)
            return 0;
        elapsed %= period;
    }
    return lapic_get(lapic, LAPIC_INITIAL_COUNT) - (uint32_t)(elapsed >> timer_divide_shift(lapic));
}

uint64_t lapic_timer_read_deadline(const struct lapic *lapic)
{
    if (lapic->deadline == VDEV_NEVER || timer_mode(lapic) != TIMER_TSC_DEADLINE)
        return 0;
    return lapic->deadline;
}

/* The highest value there is stands for "never" here, and is: it lies centuries after the start of the TSC.
 */
void lapic_timer_write_deadline(struct lapic *lapic, uint64_t value)
{
    if (timer_mode(lapic) != TIMER_TSC_DEADLINE)
        return;
    lapic->deadline = value == 0 ? VDEV_NEVER : value;
    if (value != 0)
        lapic_expire(lapic, vdev_now(lapic->settings.host));
}

void lapic_expire(struct lapic *lapic, uint64_t now)
{
    if (now < lapic->deadline || lapic->deadline == VDEV_NEVER)
        return;
    if (timer_mode(lapic) == TIMER_PERIODIC) {
        uint64_t elapsed = timer_clock(lapic, now) - lapic->timer_start;

        timer_arm(lapic, lapic->timer_start + elapsed - elapsed % timer_period(lapic));
    } else {
        lapic->deadline = VDEV_NEVER;
    }
    lapic_lvt_signal(lapic, LAPIC_LVT_TIMER);
}
