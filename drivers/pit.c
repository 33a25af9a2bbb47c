// SPDX-License-Identifier: BSD-2-Clause
#include "drivers/pit.h"

#include "arch/x86/cpu.h"

#define PIT_HZ           1193182
#define PORT_CHANNEL_2   0x42
#define PORT_COMMAND     0x43
#define PORT_CONTROL     0x61
#define CONTROL_GATE_2   0x01
#define CONTROL_SPEAKER  0x02
#define COMMAND_2_MODE_2 0xb4 /* channel 2, both bytes, rate generator */
#define COMMAND_LATCH_2  0x80
#define MEASURED_TICKS   11932 /* 10 ms */
#define POLLS_MAX        10000000

static uint16_t latch(void)
{
    cpu_out8(PORT_COMMAND, COMMAND_LATCH_2);
    uint8_t low = cpu_in8(PORT_CHANNEL_2);
    uint8_t high = cpu_in8(PORT_CHANNEL_2);
    return (uint16_t)(low | high << 8);
}

/*
 * The counter is read at both ends right after it has changed, each time together with the TSC, so that the
 * error is that of a few instructions, not of a tick of the 8254.
 */
static bool wait_for_change(uint16_t *count, uint64_t *tsc)
{
    uint16_t before = latch();

    for (unsigned polls = 0; polls < POLLS_MAX; polls++) {
        *count = latch();
        *tsc = cpu_rdtsc();
        if (*count != before)
            return true;
    }
    return false;
}

uint64_t pit_measure_tsc(void)
{
    uint8_t control = cpu_in8(PORT_CONTROL);
    uint16_t first, last = 0;
    uint64_t start, end = 0;
    uint64_t result = 0;

    cpu_out8(PORT_CONTROL, (uint8_t)((control & ~CONTROL_SPEAKER) | CONTROL_GATE_2));
    cpu_out8(PORT_COMMAND, COMMAND_2_MODE_2);
    cpu_out8(PORT_CHANNEL_2, 0xff);
    cpu_out8(PORT_CHANNEL_2, 0xff);
    if (wait_for_change(&first, &start)) {
        do {
            if (!wait_for_change(&last, &end))
                break;
        } while ((uint16_t)(first - last) < MEASURED_TICKS);
        if ((uint16_t)(first - last) >= MEASURED_TICKS)
            result = (end - start) * PIT_HZ / (uint16_t)(first - last);
    }
    cpu_out8(PORT_CONTROL, control);
    return result;
}
