// SPDX-License-Identifier: BSD-2-Clause
#include "drivers/cmos_clock.h"

#include "arch/x86/cpu.h"
#include "lib/string.h"

#define PORT_INDEX 0x70
#define PORT_DATA  0x71

enum {
    REGISTER_SECONDS = 0x00,
    REGISTER_MINUTES = 0x02,
    REGISTER_HOURS = 0x04,
    REGISTER_DAY = 0x07,
    REGISTER_MONTH = 0x08,
    REGISTER_YEAR = 0x09,
    REGISTER_A = 0x0a,
    REGISTER_B = 0x0b,
};

#define A_UPDATE_IN_PROGRESS 0x80
#define B_BINARY             0x04
#define B_24_HOURS           0x02
#define HOURS_PM             0x80
#define POLLS_MAX            100000

static uint8_t read_register(uint8_t number)
{
    cpu_out8(PORT_INDEX, number);
    return cpu_in8(PORT_DATA);
}

static unsigned from_bcd(unsigned value)
{
    return (value >> 4) * 10 + (value & 15);
}

/* Days from 1970-01-01 to the given day of the Gregorian calendar, counting years from March so that leap
 * days come last. */
static int64_t days_since_1970(unsigned year, unsigned month, unsigned day)
{
    unsigned y = month <= 2 ? year - 1 : year;
    unsigned shifted_month = month <= 2 ? month + 9 : month - 3;

    return (int64_t)y * 365 + y / 4 - y / 100 + y / 400 + (153 * shifted_month + 2) / 5 + day - 1 - 719468;
}

int64_t cmos_clock_read(void)
{
    static const uint8_t registers[] = {REGISTER_SECONDS, REGISTER_MINUTES, REGISTER_HOURS,
                                        REGISTER_DAY,     REGISTER_MONTH,   REGISTER_YEAR};
    unsigned value[ARRAY_SIZE(registers)], again[ARRAY_SIZE(registers)];
    unsigned polls = 0;

    /* Two equal readings: no update came in between. */
    do {
        while ((read_register(REGISTER_A) & A_UPDATE_IN_PROGRESS) != 0 && polls < POLLS_MAX)
            polls++;
        for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
            value[i] = read_register(registers[i]);
        for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
            again[i] = read_register(registers[i]);
    } while (memcmp(value, again, sizeof(value)) != 0 && polls++ < POLLS_MAX);

    uint8_t mode = read_register(REGISTER_B);
    bool pm = (mode & B_24_HOURS) == 0 && (value[2] & HOURS_PM) != 0;
    if ((mode & B_24_HOURS) == 0)
        value[2] &= ~(unsigned)HOURS_PM;
    if ((mode & B_BINARY) == 0)
        for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
            value[i] = from_bcd(value[i]);
    if ((mode & B_24_HOURS) == 0)
        value[2] = value[2] % 12 + (pm ? 12 : 0);
    if (value[3] == 0 || value[3] > 31 || value[4] == 0 || value[4] > 12)
        return 0;
    return days_since_1970(2000 + value[5], value[4], value[3]) * 86400 + value[2] * 3600 + value[1] * 60 +
           value[0];
}
