// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * ACPI's fixed hardware (ACPI 6.3, section 4.8): PM1a event and control blocks, the power management timer;
 * and the three ways in which software resets a PC. The board is always in ACPI mode (SMI_CMD is 0), so
 * SCI_EN is set for ever.
 */
#include "core/vdev/vdev.h"

#define ACPI_PM_BASE          0x600 /* PM1a event block: status and enable, 2 bytes each */
#define ACPI_PM_CONTROL       0x604 /* PM1a control block, 2 bytes */
#define ACPI_PM_TIMER         0x608 /* 4 bytes; all 32 bits count */
#define ACPI_PM_PORTS         12    /* ports from ACPI_PM_BASE */
#define ACPI_PM_TIMER_HZ      3579545
#define ACPI_PM_S5            0 /* SLP_TYP of the soft-off state */
#define ACPI_PM_RESET         0xcf9
#define ACPI_PM_RESET_NOW     0x06 /* what to write there */

/* PM1 status and enable bits. */
#define ACPI_PM_TMR           0x0001
#define ACPI_PM_GBL           0x0020
#define ACPI_PM_PWRBTN        0x0100
#define ACPI_PM_RTC           0x0400

/* PM1 control bits. */
#define ACPI_PM_SCI_EN        0x0001
#define ACPI_PM_SLP_TYP_SHIFT 10
#define ACPI_PM_SLP_EN        0x2000

struct acpi_pm {
    const struct vdev_host *host;
    unsigned irq;
    uint16_t status;
    uint16_t enable;
    uint16_t control;
    uint8_t reset_control; /* 0xCF9 */
    bool line;             /* what the interrupt line was last set to */
    uint64_t halves;       /* times that the timer's highest bit has changed, as far as TMR_STS has seen */
};

/* Brings everything to the power-on state. `host` is kept, `irq` is the ISA line of the SCI. */
void acpi_pm_init(struct acpi_pm *pm, const struct vdev_host *host, unsigned irq);

/* As the reset line does. */
void acpi_pm_reset(struct acpi_pm *pm);

/* `size` 1, 2 or 4 bytes at `offset` from ACPI_PM_BASE, not reaching beyond ACPI_PM_PORTS. */
uint32_t acpi_pm_read(struct acpi_pm *pm, unsigned offset, unsigned size);
void acpi_pm_write(struct acpi_pm *pm, unsigned offset, unsigned size, uint32_t value);

/* Port 0xCF9. */
uint8_t acpi_pm_read_reset(const struct acpi_pm *pm);
void acpi_pm_write_reset(struct acpi_pm *pm, uint8_t value);

/* Port 0x92, the fast reset and A20 gate. A20 is always open. */
uint8_t acpi_pm_read_fast_reset(const struct acpi_pm *pm);
void acpi_pm_write_fast_reset(struct acpi_pm *pm, uint8_t value);

/* A command to port 0x64, of which only the pulse on the reset line is understood: there is no keyboard
 * controller. */
void acpi_pm_write_keyboard(struct acpi_pm *pm, uint8_t command);

/* The power button is pressed. False if the guest has not enabled it, so that nobody will hear. */
bool acpi_pm_press_power_button(struct acpi_pm *pm);

/* The real-time clock has raised its interrupt. */
void acpi_pm_signal_rtc(struct acpi_pm *pm);

/* The partition TSC at which the timer's highest bit changes, if TMR_EN waits for it, or VDEV_NEVER. */
uint64_t acpi_pm_deadline(const struct acpi_pm *pm);
void acpi_pm_expire(struct acpi_pm *pm, uint64_t now);
