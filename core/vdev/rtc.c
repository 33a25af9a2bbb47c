// SPDX-License-Identifier: BSD-2-Clause
/*
 * The MC146818. Register and bit names are those of the data sheet (Motorola MC146818A).
 *
 * Everything that the chip does by itself is a function of the time since the divider chain was at zero;
 * catch_up does what was due since the last look. Between the guest's accesses only enabled interrupts need a
 * look.
 */
#include "core/vdev/rtc.h"

#include "lib/muldiv.h"

enum rtc_register {
    RTC_SECONDS = 0x00,
    RTC_SECONDS_ALARM = 0x01,
    RTC_MINUTES = 0x02,
    RTC_MINUTES_ALARM = 0x03,
    RTC_HOURS = 0x04,
    RTC_HOURS_ALARM = 0x05,
    RTC_WEEKDAY = 0x06, /* 1 is Sunday */
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0a,
    RTC_B = 0x0b,
    RTC_C = 0x0c,
    RTC_D = 0x0d,
    /* From here on plain memory, with a PC's meanings. */
    CMOS_SHUTDOWN = 0x0f,
    CMOS_FIRST_SUMMED = 0x10,
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_MEMORY = 0x15,     /* two bytes, in KiB */
    CMOS_EXTENDED_MEMORY = 0x17, /* two bytes, in KiB, from 1 MiB on */
    CMOS_LAST_SUMMED = 0x2d,
    CMOS_SUM = 0x2e,               /* high byte first */
    CMOS_EXTENDED_MEMORY_2 = 0x30, /* as found, the same as above */
    CMOS_CENTURY = 0x32,
    CMOS_MEMORY_ABOVE_16M = 0x34, /* two bytes, in 64 KiB */
    CMOS_MEMORY_ABOVE_4G = 0x5b,  /* three bytes, in 64 KiB */
};

#define A_UIP           0x80
#define A_DIVIDER       0x70
#define A_DIVIDER_HOLD  0x60 /* and 0x70: the divider chain is held in reset */
#define A_RATE          0x0f
#define A_FIRMWARE      0x26 /* 32768 Hz crystal, 1024 Hz rate */

#define B_24_HOURS      0x02
#define B_BINARY        0x04
#define B_UIE           0x10
#define B_AIE           0x20
#define B_PIE           0x40
#define B_SET           0x80

/* The flags of C stand where their enables do in B. */
#define C_UF            0x10
#define C_AF            0x20
#define C_PF            0x40
#define C_IRQF          0x80

#define D_VALID         0x80

#define HOURS_PM        0x80
#define ALARM_DONT_CARE 0xc0

#define EQUIPMENT_FPU   0x02

/*
 * UIP rises 8 periods of the 32768 Hz crystal (244 us) before an update cycle, which takes 65 more (1984 us).
 * The time registers change at its end.
 */
#define CRYSTAL_HZ      32768
#define UIP_PERIODS     73

#define DAY_SECONDS     86400
#define WALL_CLOCK_LAST 253402300799 /* the end of the year 9999 */
#define ANY             UINT32_MAX

/* ---- The time registers -------------------------------------------------------------------------------- */

static unsigned get_number(const struct rtc *rtc, unsigned index)
{
    uint8_t value = rtc->cmos[index];

    return rtc->cmos[RTC_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static void put_number(struct rtc *rtc, unsigned index, unsigned value)
{
    rtc->cmos[index] = (uint8_t)(rtc->cmos[RTC_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

/* Hours of the day from register `index`, which counts to 12 twice if the guest wants it so. */
static unsigned get_hours(const struct rtc *rtc, unsigned index)
{
    uint8_t value = rtc->cmos[index] & (uint8_t)~HOURS_PM;
    bool pm = rtc->cmos[index] & HOURS_PM;

    if (rtc->cmos[RTC_B] & B_24_HOURS)
        return get_number(rtc, index);
    if (!(rtc->cmos[RTC_B] & B_BINARY))
        value = (uint8_t)((value >> 4) * 10 + (value & 15));
    return value % 12 + (pm ? 12 : 0);
}

static void put_hours(struct rtc *rtc, unsigned hours)
{
    if (rtc->cmos[RTC_B] & B_24_HOURS) {
        put_number(rtc, RTC_HOURS, hours);
        return;
    }
    put_number(rtc, RTC_HOURS, hours % 12 ? hours % 12 : 12);
    if (hours >= 12)
        rtc->cmos[RTC_HOURS] |= HOURS_PM;
}

static uint64_t get_second_of_day(const struct rtc *rtc)
{
    return get_hours(rtc, RTC_HOURS) * 3600 + get_number(rtc, RTC_MINUTES) * 60 +
           get_number(rtc, RTC_SECONDS);
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap);
}

static void advance_date(struct rtc *rtc, uint64_t days)
{
    unsigned year = get_number(rtc, CMOS_CENTURY) * 100 + get_number(rtc, RTC_YEAR);
    unsigned month = get_number(rtc, RTC_MONTH);
    uint64_t day = get_number(rtc, RTC_DAY) + days;

    put_number(rtc, RTC_WEEKDAY, (unsigned)((get_number(rtc, RTC_WEEKDAY) + 6 + days) % 7 + 1));
    /* The guest may have written what is no month. */
    if (month < 1 || month > 12)
        month = 1;
    for (unsigned length; day > (length = days_in_month(year, month)); day -= length) {
        year += month == 12;
        month = month % 12 + 1;
    }
    put_number(rtc, RTC_DAY, (unsigned)day);
    put_number(rtc, RTC_MONTH, month);
    put_number(rtc, RTC_YEAR, year % 100);
    put_number(rtc, CMOS_CENTURY, year / 100 % 100);
}

static void advance_time(struct rtc *rtc, uint64_t seconds)
{
    uint64_t time = get_second_of_day(rtc) + seconds;

    put_number(rtc, RTC_SECONDS, time % 60);
    put_number(rtc, RTC_MINUTES, time / 60 % 60);
    put_hours(rtc, time / 3600 % 24);
    if (time >= DAY_SECONDS)
        advance_date(rtc, time / DAY_SECONDS);
}

/* ---- What happens by itself ---------------------------------------------------------------------------- */

static bool divider_runs(const struct rtc *rtc)
{
    return (rtc->cmos[RTC_A] & A_DIVIDER_HOLD) != A_DIVIDER_HOLD;
}

static bool updates_run(const struct rtc *rtc)
{
    return divider_runs(rtc) && !(rtc->cmos[RTC_B] & B_SET);
}

/* The rate of the periodic interrupt in Hz, 0 for none (data sheet, table 5). */
static unsigned periodic_rate(const struct rtc *rtc)
{
    unsigned select = rtc->cmos[RTC_A] & A_RATE;

    if (select == 0 || !divider_runs(rtc))
        return 0;
    /* The two fastest rates are not to be had from this crystal. */
    if (select <= 2)
        select += 7;
    return CRYSTAL_HZ >> (select - 1);
}

static uint64_t count_periods(const struct rtc *rtc, uint64_t now)
{
    return muldiv_u64(now - rtc->divider, periodic_rate(rtc), rtc->host->tsc_hz);
}

static unsigned alarm_field(unsigned value, uint8_t raw)
{
    return raw >= ALARM_DONT_CARE ? ANY : value;
}

/* Seconds (1 to DAY_SECONDS) until time and alarm are next the same, 0 if they never are. */
static unsigned seconds_to_alarm(const struct rtc *rtc)
{
    const uint8_t *cmos = rtc->cmos;
    unsigned second = alarm_field(get_number(rtc, RTC_SECONDS_ALARM), cmos[RTC_SECONDS_ALARM]);
    unsigned minute = alarm_field(get_number(rtc, RTC_MINUTES_ALARM), cmos[RTC_MINUTES_ALARM]);
    unsigned hour = alarm_field(get_hours(rtc, RTC_HOURS_ALARM), cmos[RTC_HOURS_ALARM]);
    unsigned start = (unsigned)(get_second_of_day(rtc) % DAY_SECONDS);

    if ((second > 59 && second != ANY) || (minute > 59 && minute != ANY) || (hour > 23 && hour != ANY))
        return 0;
    /* Goes by hours to the hour, then by minutes to the minute, then by seconds: two rounds of each at most.
     */
    for (unsigned distance = 1; distance <= DAY_SECONDS;) {
        unsigned time = (start + distance) % DAY_SECONDS;

        if (hour != ANY && time / 3600 != hour)
            distance += 3600 - time % 3600;
        else if (minute != ANY && time / 60 % 60 != minute)
            distance += 60 - time % 60;
        else if (second != ANY && time % 60 != second)
            distance++;
        else
            return distance;
    }
    return 0;
}

static void find_alarm(struct rtc *rtc)
{
    unsigned distance = updates_run(rtc) ? seconds_to_alarm(rtc) : 0;

    rtc->alarm = distance ? rtc->divider + (rtc->seconds + distance) * rtc->host->tsc_hz : VDEV_NEVER;
}

static void update_line(struct rtc *rtc)
{
    bool level = rtc->cmos[RTC_B] & rtc->cmos[RTC_C] & (C_UF | C_AF | C_PF);

    if (level)
        rtc->cmos[RTC_C] |= C_IRQF;
    else
        rtc->cmos[RTC_C] &= (uint8_t)~C_IRQF;
    if (level == rtc->line)
        return;
    rtc->line = level;
    vdev_set_irq(rtc->host, rtc->irq, level);
}

/* Flags set whether or not their interrupt is enabled. */
static void catch_up(struct rtc *rtc, uint64_t now)
{
    uint64_t seconds, periods;

    periods = count_periods(rtc, now);
    if (periods != rtc->periods) {
        rtc->periods = periods;
        rtc->cmos[RTC_C] |= C_PF;
    }

    seconds = (now - rtc->divider) / rtc->host->tsc_hz;
    if (seconds != rtc->seconds) {
        uint64_t passed = seconds - rtc->seconds;

        rtc->seconds = seconds;
        if (updates_run(rtc)) {
            advance_time(rtc, passed);
            rtc->cmos[RTC_C] |= C_UF;
        }
    }
    if (now >= rtc->alarm) {
        rtc->cmos[RTC_C] |= C_AF;
        find_alarm(rtc);
    }
    update_line(rtc);
}

/* ---- The guest's accesses ------------------------------------------------------------------------------ */

static bool update_in_progress(const struct rtc *rtc, uint64_t now)
{
    uint64_t phase = (now - rtc->divider) % rtc->host->tsc_hz;

    return updates_run(rtc) && muldiv_u64(phase, CRYSTAL_HZ, rtc->host->tsc_hz) >= CRYSTAL_HZ - UIP_PERIODS;
}

uint8_t rtc_read(struct rtc *rtc, unsigned offset)
{
    uint8_t *cmos = rtc->cmos;
    uint64_t now;
    uint8_t value;

    if (offset == 0)
        return 0xff;
    if (rtc->index > RTC_D && rtc->index != CMOS_CENTURY)
        return cmos[rtc->index];

    now = vdev_now(rtc->host);
    catch_up(rtc, now);
    value = cmos[rtc->index];
    if (rtc->index == RTC_A && update_in_progress(rtc, now))
        value |= A_UIP;
    if (rtc->index == RTC_C) {
        cmos[RTC_C] = 0;
        update_line(rtc);
    }
    return value;
}

/* The first update comes half a second after the divider chain is let go. */
static void write_a(struct rtc *rtc, uint8_t value, uint64_t now)
{
    bool ran = divider_runs(rtc);

    rtc->cmos[RTC_A] = value & (uint8_t)~A_UIP;
    if (!ran && divider_runs(rtc)) {
        rtc->divider = now - rtc->host->tsc_hz / 2;
        rtc->seconds = 0;
    }
    rtc->periods = count_periods(rtc, now);
}

static void write_b(struct rtc *rtc, uint8_t value)
{
    if (value & ~rtc->cmos[RTC_B] & B_SET)
        value &= (uint8_t)~B_UIE;
    rtc->cmos[RTC_B] = value;
    update_line(rtc);
}

static void write_register(struct rtc *rtc, uint8_t value)
{
    uint64_t now = vdev_now(rtc->host);

    catch_up(rtc, now);
    switch (rtc->index) {
    case RTC_A:
        write_a(rtc, value, now);
        break;
    case RTC_B:
        write_b(rtc, value);
        break;
    case RTC_C:
    case RTC_D:
        return;
    default:
        rtc->cmos[rtc->index] = value;
        break;
    }
    find_alarm(rtc);
}

void rtc_write(struct rtc *rtc, unsigned offset, uint8_t value)
{
    /* The highest bit of port 0x70 masks NMIs, which a partition has none of from outside. */
    if (offset == 0)
        rtc->index = value & (RTC_CMOS_SIZE - 1);
    else if (rtc->index > RTC_D && rtc->index != CMOS_CENTURY)
        rtc->cmos[rtc->index] = value;
    else
        write_register(rtc, value);
}

uint64_t rtc_deadline(const struct rtc *rtc)
{
    uint8_t waits = rtc->cmos[RTC_B] & (uint8_t)~rtc->cmos[RTC_C];
    uint64_t tsc_hz = rtc->host->tsc_hz;
    uint64_t deadline = VDEV_NEVER;

    if (waits & B_PIE && periodic_rate(rtc))
        deadline = rtc->divider + muldiv_up_u64(rtc->periods + 1, tsc_hz, periodic_rate(rtc));
    if (waits & B_UIE && updates_run(rtc))
        deadline = min_u64(deadline, rtc->divider + (rtc->seconds + 1) * tsc_hz);
    if (waits & B_AIE)
        deadline = min_u64(deadline, rtc->alarm);
    return deadline;
}

void rtc_expire(struct rtc *rtc, uint64_t now)
{
    if (now >= rtc_deadline(rtc))
        catch_up(rtc, now);
}

/* ---- What firmware leaves behind ----------------------------------------------------------------------- */

static void put_bytes(struct rtc *rtc, unsigned index, unsigned count, uint64_t value)
{
    uint64_t most = BIT(8 * count) - 1;

    value = min_u64(value, most);
    for (unsigned i = 0; i < count; i++)
        rtc->cmos[index + i] = (uint8_t)(value >> 8 * i);
}

static void put_memory_sizes(struct rtc *rtc)
{
    uint64_t low = rtc->memory_low;
    uint64_t above_1m = low > MIB(1) ? low - MIB(1) : 0;
    uint64_t above_16m = low > MIB(16) ? low - MIB(16) : 0;
    unsigned sum = 0;

    rtc->cmos[CMOS_EQUIPMENT] = EQUIPMENT_FPU;
    put_bytes(rtc, CMOS_BASE_MEMORY, 2, min_u64(low / 1024, 640));
    put_bytes(rtc, CMOS_EXTENDED_MEMORY, 2, above_1m / 1024);
    put_bytes(rtc, CMOS_EXTENDED_MEMORY_2, 2, above_1m / 1024);
    put_bytes(rtc, CMOS_MEMORY_ABOVE_16M, 2, above_16m / KIB(64));
    put_bytes(rtc, CMOS_MEMORY_ABOVE_4G, 3, rtc->memory_high / KIB(64));
    for (unsigned i = CMOS_FIRST_SUMMED; i <= CMOS_LAST_SUMMED; i++)
        sum += rtc->cmos[i];
    rtc->cmos[CMOS_SUM] = (uint8_t)(sum >> 8);
    rtc->cmos[CMOS_SUM + 1] = (uint8_t)sum;
}

static void set_clock(struct rtc *rtc, int64_t wall_clock)
{
    uint64_t time = wall_clock < 0 ? 0 : min_u64((uint64_t)wall_clock, WALL_CLOCK_LAST);

    rtc->divider = vdev_now(rtc->host);
    rtc->seconds = 0;
    rtc->periods = 0;
    /* Midnight of Thursday, 1 January 1970; the wall clock counts from there. */
    put_number(rtc, CMOS_CENTURY, 19);
    put_number(rtc, RTC_YEAR, 70);
    put_number(rtc, RTC_MONTH, 1);
    put_number(rtc, RTC_DAY, 1);
    put_number(rtc, RTC_WEEKDAY, 5);
    put_number(rtc, RTC_HOURS, 0);
    put_number(rtc, RTC_MINUTES, 0);
    put_number(rtc, RTC_SECONDS, 0);
    advance_time(rtc, time);
    find_alarm(rtc);
}

void rtc_reset(struct rtc *rtc, int64_t wall_clock)
{
    rtc->index = 0;
    rtc->cmos[RTC_A] = A_FIRMWARE;
    rtc->cmos[RTC_B] = B_24_HOURS;
    rtc->cmos[RTC_C] = 0;
    rtc->cmos[RTC_D] = D_VALID;
    rtc->cmos[CMOS_SHUTDOWN] = 0;
    set_clock(rtc, wall_clock);
    put_memory_sizes(rtc);
    update_line(rtc);
}

void rtc_init(struct rtc *rtc, const struct vdev_host *host, unsigned irq, int64_t wall_clock,
              uint64_t memory_low, uint64_t memory_high)
{
    *rtc = (struct rtc){.host = host, .irq = irq, .memory_low = memory_low, .memory_high = memory_high};
    rtc_reset(rtc, wall_clock);
}
