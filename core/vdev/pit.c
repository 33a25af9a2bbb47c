// SPDX-License-Identifier: BSD-2-Clause
/*
 * The 8254 (Intel data sheet 231164). CLK pulses are numbered from TSC 0; an event between pulses n and n + 1
 * happens at `n`, and its effect on the counting element, if it needs a pulse, at n + 1. A counter holds what
 * was loaded into it and at which pulse; count and output follow. Of future events there is at most one, the
 * next load.
 */
#include "core/vdev/pit.h"
#include "lib/muldiv.h"

#define PORT_CONTROL      0x43
#define REFRESH_PULSE     18 /* what a PC's firmware gives counter 1 */

/* Control word. */
#define CONTROL_BCD       0x01
#define READ_BACK         3 /* in place of the counter */
#define NO_LATCH_STATUS   0x10
#define NO_LATCH_COUNT    0x20
#define STATUS_NULL_COUNT 0x40
#define STATUS_OUT        0x80

/* Port 61H. */
#define SYSTEM_GATE       0x01
#define SYSTEM_WRITABLE   0x0f
#define SYSTEM_REFRESH    0x10
#define SYSTEM_OUT        0x20

static uint64_t pulses_at(const struct pit *pit, uint64_t tsc)
{
    return muldiv_u64(tsc, PIT_HZ, pit->host->tsc_hz);
}

/* The first TSC at which pulse number `pulse` has come. */
static uint64_t tsc_of(const struct pit *pit, uint64_t pulse)
{
    return pulse == VDEV_NEVER ? VDEV_NEVER : muldiv_up_u64(pulse, pit->host->tsc_hz, PIT_HZ);
}

/* ---- The counting element ----------------------------------------------------------------------------- */

static bool is_periodic(const struct pit_channel *channel)
{
    return channel->mode == 2 || channel->mode == 3;
}

/* Modes 1 and 5 are started by the gate; in all others its level lets the counter count. */
static bool is_triggered(const struct pit_channel *channel)
{
    return channel->mode == 1 || channel->mode == 5;
}

/* The first of two bytes of a new count stops a counter in mode 0, as a low gate does. */
static bool may_count(const struct pit_channel *channel)
{
    return is_triggered(channel) || (channel->gate && !(channel->mode == 0 && channel->high_next));
}

/* Pulses counted since the last load. */
static uint64_t elapsed(const struct pit_channel *channel, uint64_t now)
{
    return channel->held ? channel->elapsed : now - channel->start;
}

static uint32_t high_pulses(const struct pit_channel *channel)
{
    return (channel->count + 1) / 2;
}

/* Where in its period a counter in mode 2 or 3 is; in mode 3 the high half comes first. */
static uint32_t position(const struct pit_channel *channel, uint64_t now)
{
    uint64_t counted = elapsed(channel, now) + (channel->low_half ? high_pulses(channel) : 0);

    return (uint32_t)(counted % channel->count);
}

static void load(struct pit_channel *channel, uint64_t now)
{
    /* A load at the end of a half continues with the other one; the first, and one by the gate, begins anew.
     */
    channel->low_half = channel->mode == 3 && channel->loaded && !channel->held &&
                        position(channel, now) >= high_pulses(channel);
    channel->count = channel->reload;
    channel->start = now;
    channel->elapsed = 0;
    channel->held = !may_count(channel);
    channel->loaded = true;
    channel->null_count = false;
    channel->load_at = VDEV_NEVER;
}

/* Brings the counter to pulse `now`. To be done before anything else is asked of it. */
static void catch_up(struct pit_channel *channel, uint64_t now)
{
    if (channel->load_at <= now)
        load(channel, channel->load_at);
}

static bool output(const struct pit_channel *channel, uint64_t now)
{
    if (!channel->loaded)
        return channel->mode != 0;
    switch (channel->mode) {
    case 0:
        return !channel->null_count && !channel->high_next && elapsed(channel, now) >= channel->count;
    case 1:
        return elapsed(channel, now) >= channel->count;
    case 2:
        return channel->held || position(channel, now) != channel->count - 1;
    case 3:
        return channel->held || position(channel, now) < high_pulses(channel);
    default:
        return elapsed(channel, now) != channel->count;
    }
}

static uint16_t to_bcd(uint32_t value)
{
    return (uint16_t)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 % 10 << 12);
}

/* The counting element as it is read; 0 before the first load. */
static uint16_t current_count(const struct pit_channel *channel, uint64_t now)
{
    uint32_t modulus = channel->bcd ? 10000 : 65536;
    uint32_t place, value;

    if (!channel->loaded)
        return 0;
    if (channel->mode == 2) {
        value = channel->count - position(channel, now);
    } else if (channel->mode == 3) {
        place = position(channel, now);
        if (place >= high_pulses(channel))
            place -= high_pulses(channel);
        value = (channel->count & ~1u) - 2 * place;
    } else {
        value = channel->count + modulus - (uint32_t)(elapsed(channel, now) % modulus);
    }
    return channel->bcd ? to_bcd(value) : (uint16_t)value;
}

/* The pulse after `now` with which the output rises next, if the gate stays up; VDEV_NEVER if none. */
static uint64_t next_rise(const struct pit_channel *channel, uint64_t now)
{
    bool will_load = channel->load_at != VDEV_NEVER;
    uint64_t start = will_load ? channel->load_at : channel->start;
    uint64_t count = will_load ? channel->reload : channel->count;
    uint64_t rise;

    if (is_triggered(channel) || !may_count(channel) || (!channel->loaded && !will_load))
        return VDEV_NEVER;
    if (channel->mode == 4 && !output(channel, now)) /* a strobe ends, whether or not the pulse loads */
        return now + 1;
    if (!is_periodic(channel)) {
        rise = start + count + (channel->mode == 4);
        return rise > now ? rise : VDEV_NEVER;
    }
    if (count == 1) /* not allowed in these modes, and never changes */
        return VDEV_NEVER;
    if (!channel->loaded)
        return start + count;
    if (!will_load)
        return now + (count - position(channel, now));
    /* The load ends a period, or the high half. */
    if (channel->mode == 3 && position(channel, now) < high_pulses(channel))
        return start + count / 2;
    return start;
}

/* ---- What the guest does to a counter ----------------------------------------------------------------- */

static void hold(struct pit_channel *channel, uint64_t now)
{
    if (channel->held)
        return;
    channel->elapsed = now - channel->start;
    channel->held = true;
}

static void release(struct pit_channel *channel, uint64_t now)
{
    if (!channel->held)
        return;
    channel->start = now - channel->elapsed;
    channel->held = false;
}

static void set_gate(struct pit_channel *channel, uint64_t now, bool gate)
{
    if (channel->gate == gate)
        return;
    channel->gate = gate;
    if (is_triggered(channel) || is_periodic(channel)) {
        if (gate && channel->written)
            channel->load_at = now + 1;
        if (gate || is_triggered(channel))
            return;
        /* The period will not end, so what was to be loaded at its end waits for the gate. */
        if (channel->loaded && !channel->held)
            channel->load_at = VDEV_NEVER;
        hold(channel, now);
    } else if (may_count(channel)) {
        release(channel, now);
    } else {
        hold(channel, now);
    }
}

static void program(struct pit_channel *channel, uint8_t control)
{
    uint8_t mode = control >> 1 & 7;

    *channel = (struct pit_channel){
        .mode = mode > 5 ? mode & 3 : mode,
        .access = control >> 4 & 3,
        .bcd = (control & CONTROL_BCD) != 0,
        .null_count = true,
        .load_at = VDEV_NEVER,
        .gate = channel->gate,
    };
}

static void write_count(struct pit_channel *channel, uint64_t now, uint16_t value)
{
    uint32_t count = value;

    if (channel->bcd)
        count = (value >> 12) * 1000u + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u + (value & 15);
    if (count == 0)
        count = channel->bcd ? 10000 : 65536;
    channel->reload = count;
    channel->written = true;
    channel->null_count = true;

    if (is_triggered(channel))
        return;
    if (!is_periodic(channel) || !channel->loaded) {
        channel->load_at = now + 1;
    } else if (!channel->held && channel->load_at == VDEV_NEVER) {
        uint32_t place = position(channel, now);
        bool high = channel->mode == 3 && place < high_pulses(channel);

        channel->load_at = now + (high ? high_pulses(channel) : channel->count) - place;
    }
}

static void write_byte(struct pit_channel *channel, uint64_t now, uint8_t value)
{
    switch (channel->access) {
    case 1:
        write_count(channel, now, value);
        break;
    case 2:
        write_count(channel, now, (uint16_t)(value << 8));
        break;
    default:
        channel->high_next = !channel->high_next;
        if (channel->high_next)
            channel->low_byte = value;
        else
            write_count(channel, now, (uint16_t)(value << 8 | channel->low_byte));
        break;
    }
    if (!may_count(channel))
        hold(channel, now);
}

static void latch_count(struct pit_channel *channel, uint64_t now)
{
    if (channel->count_latched)
        return;
    channel->latch = current_count(channel, now);
    channel->count_latched = true;
}

static void latch_status(struct pit_channel *channel, uint64_t now)
{
    if (channel->status_latched)
        return;
    channel->status =
        (uint8_t)((output(channel, now) ? STATUS_OUT : 0) | (channel->null_count ? STATUS_NULL_COUNT : 0) |
                  channel->access << 4 | channel->mode << 1 | (channel->bcd ? CONTROL_BCD : 0));
    channel->status_latched = true;
}

static uint8_t read_byte(struct pit_channel *channel, uint64_t now)
{
    uint16_t value = channel->count_latched ? channel->latch : current_count(channel, now);
    bool high = channel->access == 2 || channel->read_high;

    if (channel->status_latched) {
        channel->status_latched = false;
        return channel->status;
    }
    if (channel->access == 3)
        channel->read_high = !channel->read_high;
    if (!channel->read_high)
        channel->count_latched = false;
    return (uint8_t)(high ? value >> 8 : value);
}

/* ---- The chip ----------------------------------------------------------------------------------------- */

static void set_irq(struct pit *pit, bool level)
{
    if (pit->irq == level)
        return;
    pit->irq = level;
    vdev_set_irq(pit->host, 0, level);
}

void pit_expire(struct pit *pit, uint64_t now)
{
    uint64_t pulse;

    if (now < pit->deadline)
        return;
    set_irq(pit, false);
    set_irq(pit, true);
    pulse = pulses_at(pit, now);
    catch_up(&pit->channels[0], pulse);
    pit->deadline = tsc_of(pit, next_rise(&pit->channels[0], pulse));
}

/* After a write: what it made of counter 0's output, which was `before`, and when the next edge is. */
static void follow_output(struct pit *pit, uint64_t now, bool before)
{
    bool after = output(&pit->channels[0], now);

    if (before != after) {
        set_irq(pit, false);
        set_irq(pit, after);
    }
    pit->deadline = tsc_of(pit, next_rise(&pit->channels[0], now));
}

static void read_back(struct pit *pit, uint64_t now, uint8_t control)
{
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        if (!(control & 2u << i))
            continue;
        if (!(control & NO_LATCH_COUNT))
            latch_count(&pit->channels[i], now);
        if (!(control & NO_LATCH_STATUS))
            latch_status(&pit->channels[i], now);
    }
}

static void write_control(struct pit *pit, uint64_t now, uint8_t control)
{
    unsigned index = control >> 6;

    if (index == READ_BACK)
        read_back(pit, now, control);
    else if ((control >> 4 & 3) == 0)
        latch_count(&pit->channels[index], now);
    else
        program(&pit->channels[index], control);
}

uint8_t pit_read(struct pit *pit, uint16_t port)
{
    uint64_t now = pulses_at(pit, vdev_now(pit->host));

    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        catch_up(&pit->channels[i], now);
    switch (port) {
    case 0x40 ... 0x42:
        return read_byte(&pit->channels[port & 3], now);
    case PIT_PORT_SYSTEM:
        return pit->system | (now / REFRESH_PULSE % 2 ? SYSTEM_REFRESH : 0) |
               (output(&pit->channels[2], now) ? SYSTEM_OUT : 0);
    default: /* the control word cannot be read */
        return 0xff;
    }
}

void pit_write(struct pit *pit, uint16_t port, uint8_t value)
{
    uint64_t tsc = vdev_now(pit->host), now = pulses_at(pit, tsc);

    bool before;

    pit_expire(pit, tsc);
    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        catch_up(&pit->channels[i], now);
    before = output(&pit->channels[0], now);
    switch (port) {
    case 0x40 ... 0x42:
        write_byte(&pit->channels[port & 3], now, value);
        break;
    case PORT_CONTROL:
        write_control(pit, now, value);
        break;
    case PIT_PORT_SYSTEM:
        pit->system = value & SYSTEM_WRITABLE;
        set_gate(&pit->channels[2], now, (value & SYSTEM_GATE) != 0);
        break;
    default:
        break;
    }
    follow_output(pit, now, before);
}

void pit_reset(struct pit *pit)
{
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        pit->channels[i].gate = i != 2;
        program(&pit->channels[i], 3 << 4);
    }
    pit->system = 0;
    pit->deadline = VDEV_NEVER;
    set_irq(pit, false);
}

void pit_init(struct pit *pit, const struct vdev_host *host)
{
    *pit = (struct pit){.host = host};
    pit_reset(pit);
}
