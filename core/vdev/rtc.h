// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The real-time clock MC146818 with its 128 bytes of battery-backed memory ("CMOS"), at ports 0x70 and 0x71.
 * The time registers are brought up to date when somebody looks; between looks nothing runs.
 */
#include "core/vdev/vdev.h"

#define RTC_CMOS_SIZE 128

struct rtc {
    const struct vdev_host *host;
    unsigned irq;
    uint64_t memory_low;
    uint64_t memory_high;
    uint8_t index;
    bool line;        /* what the interrupt line was last set to */
    uint64_t divider; /* TSC at which the divider chain was last at zero: whole seconds count from here */
    uint64_t seconds; /* whole seconds since `divider` that are in the time registers */
    uint64_t periods; /* periods of the periodic rate since `divider` that PF has seen */
    uint64_t alarm;   /* TSC of the update that next matches the alarm, or VDEV_NEVER */
    uint8_t cmos[RTC_CMOS_SIZE]; /* the registers as the guest sees them, but for UIP */
};

/*
 * Sets the clock to `wall_clock` (seconds since 1970, UTC) and the memory size bytes to `memory_low` bytes of
 * RAM below 4 GiB and `memory_high` above. `host` is kept, `irq` is the ISA line.
 */
void rtc_init(struct rtc *rtc, const struct vdev_host *host, unsigned irq, int64_t wall_clock,
              uint64_t memory_low, uint64_t memory_high);

/*
 * As the reset line does, and the firmware after it: the memory stays, interrupts are off. The clock is set
 * as by rtc_init, since the partition's TSC may have been set back.
 */
void rtc_reset(struct rtc *rtc, int64_t wall_clock);

/* Ports 0x70 (`offset` 0: index, write-only) and 0x71 (`offset` 1: data). */
uint8_t rtc_read(struct rtc *rtc, unsigned offset);
void rtc_write(struct rtc *rtc, unsigned offset, uint8_t value);

/* The partition TSC at which the next enabled interrupt wants rtc_expire, or VDEV_NEVER. */
uint64_t rtc_deadline(const struct rtc *rtc);
void rtc_expire(struct rtc *rtc, uint64_t now);
