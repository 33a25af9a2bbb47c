// SPDX-License-Identifier: BSD-2-Clause
/* ACPI fixed hardware and the reset registers. */
#include "core/vdev/acpi_pm.h"

#include "lib/muldiv.h"

#define STATUS_WAITS_FOR     (ACPI_PM_TMR | ACPI_PM_GBL | ACPI_PM_PWRBTN | ACPI_PM_RTC)
#define CONTROL_BM_RLD       0x0002
#define CONTROL_SLP_TYP      (7 << ACPI_PM_SLP_TYP_SHIFT)

/* The timer's highest bit, whose every change sets TMR_STS. */
#define TIMER_HIGH_SHIFT     31

#define RESET_SYSTEM         0x02 /* port 0xCF9: which kind of reset; a partition has one only */
#define RESET_CPU            0x04 /* its rising edge resets */

#define FAST_RESET           0x01
#define FAST_A20             0x02

/* Commands 0xF0-0xFF pulse those lines of the keyboard controller's output port whose bits are 0; 0 is the
 * reset. */
#define KEYBOARD_PULSE       0xf0
#define KEYBOARD_PULSE_RESET 0x01

static uint64_t timer_count(const struct acpi_pm *pm, uint64_t now)
{
    return muldiv_u64(now, ACPI_PM_TIMER_HZ, pm->host->tsc_hz);
}

static void update_line(struct acpi_pm *pm)
{
    bool level = pm->status & pm->enable;

    if (level == pm->line)
        return;
    pm->line = level;
    vdev_set_irq(pm->host, pm->irq, level);
}

/* Lets TMR_STS see all changes of the timer's highest bit up to `now`. */
static void catch_up(struct acpi_pm *pm, uint64_t now)
{
    uint64_t halves = timer_count(pm, now) >> TIMER_HIGH_SHIFT;

    if (halves == pm->halves)
        return;
    pm->halves = halves;
    pm->status |= ACPI_PM_TMR;
    update_line(pm);
}

uint32_t acpi_pm_read(struct acpi_pm *pm, unsigned offset, unsigned size)
{
    uint64_t now = vdev_now(pm->host);
    uint32_t words[ACPI_PM_PORTS / 4];
    uint32_t value = 0;

    catch_up(pm, now);
    words[0] = pm->status | (uint32_t)pm->enable << 16;
    words[1] = pm->control;
    words[2] = (uint32_t)timer_count(pm, now);
    for (unsigned i = 0; i < size; i++) {
        uint32_t word = words[(offset + i) / 4];

        value |= (word >> (offset + i) % 4 * 8 & 0xff) << 8 * i;
    }
    return value;
}

void acpi_pm_write(struct acpi_pm *pm, unsigned offset, unsigned size, uint32_t value)
{
    uint64_t mask, data;

    /* The timer is read-only: the eight bytes before it are written as one number. */
    if (offset >= 8)
        return;
    mask = (size == 4 ? UINT32_MAX : (1U << 8 * size) - 1) * BIT(8 * offset);
    data = value * BIT(8 * offset) & mask;

    catch_up(pm, vdev_now(pm->host));
    pm->status &= (uint16_t)~data;
    pm->enable = (uint16_t)((pm->enable & ~(mask >> 16)) | (data >> 16 & STATUS_WAITS_FOR));
    pm->control = (uint16_t)((pm->control & ~(mask >> 32)) |
                             (data >> 32 & (CONTROL_BM_RLD | CONTROL_SLP_TYP)) | ACPI_PM_SCI_EN);
    update_line(pm);

    if (data >> 32 & ACPI_PM_SLP_EN && (pm->control & CONTROL_SLP_TYP) == ACPI_PM_S5 << ACPI_PM_SLP_TYP_SHIFT)
        pm->host->ops->power(pm->host->context, VDEV_POWER_OFF);
}

static void pull_reset(const struct acpi_pm *pm)
{
    pm->host->ops->power(pm->host->context, VDEV_POWER_RESET);
}

uint8_t acpi_pm_read_reset(const struct acpi_pm *pm)
{
    return pm->reset_control;
}

void acpi_pm_write_reset(struct acpi_pm *pm, uint8_t value)
{
    uint8_t rising = value & ~pm->reset_control;

    pm->reset_control = value & (RESET_SYSTEM | RESET_CPU);
    if (rising & RESET_CPU)
        pull_reset(pm);
}

uint8_t acpi_pm_read_fast_reset(const struct acpi_pm *pm)
{
    (void)pm;
    return FAST_A20;
}

void acpi_pm_write_fast_reset(struct acpi_pm *pm, uint8_t value)
{
    if (value & FAST_RESET)
        pull_reset(pm);
}

void acpi_pm_write_keyboard(struct acpi_pm *pm, uint8_t command)
{
    if ((command & 0xf0) == KEYBOARD_PULSE && !(command & KEYBOARD_PULSE_RESET))
        pull_reset(pm);
}

bool acpi_pm_press_power_button(struct acpi_pm *pm)
{
    pm->status |= ACPI_PM_PWRBTN;
    update_line(pm);
    return pm->enable & ACPI_PM_PWRBTN;
}

void acpi_pm_signal_rtc(struct acpi_pm *pm)
{
    pm->status |= ACPI_PM_RTC;
    update_line(pm);
}

uint64_t acpi_pm_deadline(const struct acpi_pm *pm)
{
    if (!(pm->enable & ACPI_PM_TMR) || pm->status & ACPI_PM_TMR)
        return VDEV_NEVER;
    return muldiv_up_u64((pm->halves + 1) << TIMER_HIGH_SHIFT, pm->host->tsc_hz, ACPI_PM_TIMER_HZ);
}

void acpi_pm_expire(struct acpi_pm *pm, uint64_t now)
{
    catch_up(pm, now);
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    pm->status = 0;
    pm->enable = 0;
    pm->control = ACPI_PM_SCI_EN;
    pm->reset_control = 0;
    pm->halves = timer_count(pm, vdev_now(pm->host)) >> TIMER_HIGH_SHIFT;
    update_line(pm);
}

void acpi_pm_init(struct acpi_pm *pm, const struct vdev_host *host, unsigned irq)
{
    *pm = (struct acpi_pm){.host = host, .irq = irq};
    acpi_pm_reset(pm);
}
