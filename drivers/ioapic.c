// SPDX-License-Identifier: BSD-2-Clause
#include "drivers/ioapic.h"

#include "arch/x86/cpu.h"
#include "lib/errors.h"
#include "mm/address_space.h"

#define IOAPICS_MAX          8
#define REGISTER_VERSION     0x01
#define REGISTER_REDIRECTION 0x10
#define REDIRECTION_MASKED   BIT(16)
#define REDIRECTION_LEVEL    BIT(15)
#define REDIRECTION_LOW      BIT(13)

#define PIC_MASTER_COMMAND   0x20
#define PIC_MASTER_DATA      0x21
#define PIC_SLAVE_COMMAND    0xa0
#define PIC_SLAVE_DATA       0xa1

struct ioapic_unit {
    volatile uint32_t *registers; /* [0] selects, [4] is the window */
    uint32_t gsi_base;
    unsigned pins;
};

static struct ioapic_unit units[IOAPICS_MAX];
static unsigned unit_count;

static uint32_t read_register(const struct ioapic_unit *unit, unsigned number)
{
    unit->registers[0] = number;
    return unit->registers[4];
}

static void write_register(const struct ioapic_unit *unit, unsigned number, uint32_t value)
{
    unit->registers[0] = number;
    unit->registers[4] = value;
}

static void write_pin(const struct ioapic_unit *unit, unsigned pin, uint64_t entry)
{
    write_register(unit, REGISTER_REDIRECTION + 2 * pin, REDIRECTION_MASKED);
    write_register(unit, REGISTER_REDIRECTION + 2 * pin + 1, (uint32_t)(entry >> 32));
    write_register(unit, REGISTER_REDIRECTION + 2 * pin, (uint32_t)entry);
}

void ioapic_add(hpa_t base, uint32_t gsi_base)
{
    if (unit_count == IOAPICS_MAX)
        return;

    struct ioapic_unit *unit = &units[unit_count++];
    unit->registers = address_space_map_device(base, PAGE_SIZE);
    unit->gsi_base = gsi_base;
    unit->pins = (read_register(unit, REGISTER_VERSION) >> 16 & 0xff) + 1;
    for (unsigned pin = 0; pin < unit->pins; pin++)
        write_pin(unit, pin, REDIRECTION_MASKED);
}

int ioapic_route(uint32_t gsi, uint8_t vector, uint32_t destination, bool level, bool active_low)
{
    for (unsigned i = 0; i < unit_count; i++) {
        if (gsi - units[i].gsi_base >= units[i].pins)
            continue;
        write_pin(&units[i], gsi - units[i].gsi_base,
                  (uint64_t)destination << 56 | (level ? REDIRECTION_LEVEL : 0) |
                      (active_low ? REDIRECTION_LOW : 0) | vector);
        return 0;
    }
    return -ENOENT;
}

void pic_disable(void)
{
    static const struct {
        uint16_t port;
        uint8_t value;
    } sequence[] = {
        {PIC_MASTER_COMMAND, 0x11}, /* ICW1: edge, cascade, ICW4 follows */
        {PIC_SLAVE_COMMAND, 0x11},
        {PIC_MASTER_DATA, 0x20}, /* ICW2: vectors 0x20-0x27 and 0x28-0x2f, should a spurious one come */
        {PIC_SLAVE_DATA, 0x28},
        {PIC_MASTER_DATA, 0x04}, /* ICW3: the slave is at line 2 */
        {PIC_SLAVE_DATA, 0x02},
        {PIC_MASTER_DATA, 0x01}, /* ICW4: 8086 mode */
        {PIC_SLAVE_DATA, 0x01},
        {PIC_MASTER_DATA, 0xff}, /* OCW1: all masked */
        {PIC_SLAVE_DATA, 0xff},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(sequence); i++)
        cpu_out8(sequence[i].port, sequence[i].value);
}
