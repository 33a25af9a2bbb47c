// SPDX-License-Identifier: BSD-2-Clause
/* The map of I/O ports, and how an access finds its device. */
#include "core/vdev/platform.h"

#define UART_BASE 0x3f8
#define RTC_BASE  0x70

static uint32_t read_uart(struct platform *platform, uint16_t port, unsigned size)
{
    (void)size;
    return uart_read(&platform->uart, port - UART_BASE);
}

static void write_uart(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    (void)size;
    uart_write(&platform->uart, port - UART_BASE, (uint8_t)value);
}

static uint32_t read_post(struct platform *platform, uint16_t port, unsigned size)
{
    (void)port;
    (void)size;
    return platform->post_code;
}

static void write_post(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    (void)port;
    (void)size;
    platform->post_code = (uint8_t)value;
}

static uint32_t read_acpi_pm(struct platform *platform, uint16_t port, unsigned size)
{
    return acpi_pm_read(&platform->acpi_pm, port - ACPI_PM_BASE, size);
}

static void write_acpi_pm(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    acpi_pm_write(&platform->acpi_pm, port - ACPI_PM_BASE, size, value);
}

static uint32_t read_pic(struct platform *platform, uint16_t port, unsigned size)
{
    (void)size;
    return pic_read(&platform->pic, port);
}

static void write_pic(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    (void)size;
    pic_write(&platform->pic, port, (uint8_t)value);
}

static uint32_t read_pit(struct platform *platform, uint16_t port, unsigned size)
{
    (void)size;
    return pit_read(&platform->pit, port);
}

static void write_pit(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    (void)size;
    pit_write(&platform->pit, port, (uint8_t)value);
}

static uint32_t read_rtc(struct platform *platform, uint16_t port, unsigned size)
{
    (void)size;
    return rtc_read(&platform->rtc, port - RTC_BASE);
}

static void write_rtc(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    (void)size;
    rtc_write(&platform->rtc, port - RTC_BASE, (uint8_t)value);
}

/* The reset control register lies inside of the address register, and is told from it by the size of the
 * access. */
static uint32_t read_pci(struct platform *platform, uint16_t port, unsigned size)
{
    if (port == ACPI_PM_RESET && size == 1)
        return acpi_pm_read_reset(&platform->acpi_pm);
    return pci_read(&platform->pci, port - PCI_CONFIG_ADDRESS, size);
}

static void write_pci(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    if (port == ACPI_PM_RESET && size == 1)
        acpi_pm_write_reset(&platform->acpi_pm, (uint8_t)value);
    else
        pci_write(&platform->pci, port - PCI_CONFIG_ADDRESS, size, value);
}

/*
 * A keyboard controller that is always idle: there is none, but whoever resets by it waits first, some for
 * ever, until it is ready for a command.
 */
static uint32_t read_keyboard(struct platform *platform, uint16_t port, unsigned size)
{
    (void)platform;
    (void)port;
    (void)size;
    return 0;
}

static void write_keyboard(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    (void)port;
    (void)size;
    acpi_pm_write_keyboard(&platform->acpi_pm, (uint8_t)value);
}

static uint32_t read_fast_reset(struct platform *platform, uint16_t port, unsigned size)
{
    (void)port;
    (void)size;
    return acpi_pm_read_fast_reset(&platform->acpi_pm);
}

static void write_fast_reset(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    (void)port;
    (void)size;
    acpi_pm_write_fast_reset(&platform->acpi_pm, (uint8_t)value);
}

/* Port 0xED, which some write to for its delay, is nobody's, and slow all the same. */
const struct platform_port_range platform_port_ranges[] = {
    {UART_BASE, UART_BASE + UART_PORTS - 1, false, "uart", read_uart, write_uart},
    {ACPI_PM_BASE, ACPI_PM_BASE + ACPI_PM_PORTS - 1, true, "acpi", read_acpi_pm, write_acpi_pm},
    {0x20, 0x21, false, "pic", read_pic, write_pic},
    {0xa0, 0xa1, false, "pic", read_pic, write_pic},
    {0x40, 0x43, false, "pit", read_pit, write_pit},
    {0x80, 0x80, false, "post", read_post, write_post},
    {PCI_CONFIG_ADDRESS, PCI_CONFIG_ADDRESS + PCI_CONFIG_PORTS - 1, true, "pci", read_pci, write_pci},
    {RTC_BASE, RTC_BASE + 1, false, "rtc", read_rtc, write_rtc},
    {PIT_PORT_SYSTEM, PIT_PORT_SYSTEM, false, "pit", read_pit, write_pit},
    {0x64, 0x64, false, "keyboard", read_keyboard, write_keyboard},
    {0x92, 0x92, false, "fast reset", read_fast_reset, write_fast_reset},
    {0x4d0, 0x4d1, false, "pic", read_pic, write_pic},
};

const unsigned platform_port_range_count = ARRAY_SIZE(platform_port_ranges);

static const struct platform_port_range *find_range(uint16_t port)
{
    for (unsigned i = 0; i < ARRAY_SIZE(platform_port_ranges); i++) {
        if (port >= platform_port_ranges[i].first && port <= platform_port_ranges[i].last)
            return &platform_port_ranges[i];
    }
    return NULL;
}

static uint32_t read_byte(struct platform *platform, uint16_t port)
{
    const struct platform_port_range *range = find_range(port);

    return range ? range->read(platform, port, 1) : 0xff;
}

static void write_byte(struct platform *platform, uint16_t port, uint8_t value)
{
    const struct platform_port_range *range = find_range(port);

    if (range)
        range->write(platform, port, 1, value);
}

/* The range that takes an access of 2 or 4 bytes as it is, or NULL. */
static const struct platform_port_range *find_wide_range(uint16_t port, unsigned size)
{
    const struct platform_port_range *range = find_range(port);

    return range && range->wide && port + size - 1 <= range->last ? range : NULL;
}

static uint32_t read_ports(struct platform *platform, uint16_t port, unsigned size)
{
    const struct platform_port_range *range;
    uint32_t value = 0;

    if (size == 1)
        return read_byte(platform, port);
    range = find_wide_range(port, size);
    if (range)
        return range->read(platform, port, size);
    for (unsigned i = 0; i < size; i++)
        value |= read_byte(platform, (uint16_t)(port + i)) << 8 * i;
    return value;
}

static void write_ports(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    const struct platform_port_range *range;

    if (size == 1) {
        write_byte(platform, port, (uint8_t)value);
        return;
    }
    range = find_wide_range(port, size);
    if (range) {
        range->write(platform, port, size, value);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        write_byte(platform, (uint16_t)(port + i), (uint8_t)(value >> 8 * i));
}

uint32_t platform_port_read(struct platform *platform, uint16_t port, unsigned size)
{
    uint32_t value;

    spinlock_acquire(&platform->lock);
    value = read_ports(platform, port, size);
    spinlock_release(&platform->lock);
    return value;
}

void platform_port_write(struct platform *platform, uint16_t port, unsigned size, uint32_t value)
{
    spinlock_acquire(&platform->lock);
    write_ports(platform, port, size, value);
    spinlock_release(&platform->lock);
}
