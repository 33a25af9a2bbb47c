// SPDX-License-Identifier: BSD-2-Clause
/* The IO-APIC (82093AA data sheet; the EOI register as in the ICH). */
#include "core/vdev/ioapic.h"

/* Memory-mapped registers. */
#define IOREGSEL             0x00
#define IOWIN                0x10
#define EOIR                 0x40

/* Registers behind IOREGSEL and IOWIN. */
#define REGISTER_ID          0x00
#define REGISTER_VERSION     0x01
#define REGISTER_ARBITRATION 0x02
#define REGISTER_REDIRECTION 0x10 /* low and high half of each pin */

#define VERSION_VALUE        (0x20 | (IOAPIC_PINS - 1) << 16)

/* Redirection entry. */
#define ENTRY_LOGICAL        BIT(11)
#define ENTRY_REMOTE_IRR     BIT(14)
#define ENTRY_LEVEL          BIT(15)
#define ENTRY_MASKED         BIT(16)
#define ENTRY_WRITABLE       0xff0000000001afffULL /* all but the reserved, delivery status and remote IRR */

static uint8_t entry_mode(uint64_t entry)
{
    return entry >> 8 & 7;
}

/* Only fixed and lowest-priority interrupts can be level-triggered; the trigger bit of others counts as edge.
 */
static bool entry_is_level(uint64_t entry)
{
    return (entry & ENTRY_LEVEL) && entry_mode(entry) <= LAPIC_LOWEST_PRIORITY;
}

static void send(struct ioapic *ioapic, unsigned pin)
{
    uint64_t entry = ioapic->redirection[pin];
    uint8_t destination = (uint8_t)(entry >> 56);
    struct lapic_message message = {
        .destination = destination == 0xff ? LAPIC_BROADCAST : destination,
        .logical = (entry & ENTRY_LOGICAL) != 0,
        .level = entry_is_level(entry),
        .mode = entry_mode(entry),
        .vector = (uint8_t)entry,
    };

    if (lapic_deliver(ioapic->lapics, ioapic->lapic_count, &message) && message.level)
        ioapic->redirection[pin] |= ENTRY_REMOTE_IRR;
}

/* Sends for a level-triggered pin if it is asserted and nobody is handling it. */
static void service_level(struct ioapic *ioapic, unsigned pin)
{
    uint64_t entry = ioapic->redirection[pin];

    if (entry_is_level(entry) && (ioapic->pins & BIT(pin)) && !(entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
        send(ioapic, pin);
}

void ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level)
{
    uint64_t entry = ioapic->redirection[pin];
    bool rising = level && !(ioapic->pins & BIT(pin));

    if (!level) {
        ioapic->pins &= (uint32_t)~BIT(pin);
        return;
    }
    ioapic->pins |= (uint32_t)BIT(pin);
    if (entry_is_level(entry))
        service_level(ioapic, pin);
    else if (rising && !(entry & ENTRY_MASKED)) /* an edge at a masked pin is lost */
        send(ioapic, pin);
}

void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *entry = &ioapic->redirection[pin];

        if (!(*entry & ENTRY_REMOTE_IRR) || (uint8_t)*entry != vector)
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        service_level(ioapic, pin);
    }
}

static uint32_t read_register(const struct ioapic *ioapic)
{
    unsigned half = ioapic->select - REGISTER_REDIRECTION;

    switch (ioapic->select) {
    case REGISTER_ID:
    case REGISTER_ARBITRATION: /* loaded with the ID, and nothing arbitrates */
        return (uint32_t)ioapic->id << 24;
    case REGISTER_VERSION:
        return VERSION_VALUE;
    case REGISTER_REDIRECTION ... REGISTER_REDIRECTION + 2 * IOAPIC_PINS - 1:
        return (uint32_t)(ioapic->redirection[half / 2] >> half % 2 * 32);
    default:
        return 0;
    }
}

/* Remote IRR stays, unless the pin is made edge-triggered: old systems clear it so. */
static void write_redirection(struct ioapic *ioapic, unsigned half, uint32_t value)
{
    uint64_t *entry = &ioapic->redirection[half / 2];
    uint64_t writable = ENTRY_WRITABLE & (half % 2 ? ~(uint64_t)UINT32_MAX : UINT32_MAX);

    *entry = (*entry & ~writable) | ((uint64_t)value << half % 2 * 32 & writable);
    if (!entry_is_level(*entry))
        *entry &= ~ENTRY_REMOTE_IRR;
    service_level(ioapic, half / 2);
}

static void write_register(struct ioapic *ioapic, uint32_t value)
{
    switch (ioapic->select) {
    case REGISTER_ID:
        ioapic->id = value >> 24 & 0xf;
        break;
    case REGISTER_REDIRECTION ... REGISTER_REDIRECTION + 2 * IOAPIC_PINS - 1:
        write_redirection(ioapic, ioapic->select - REGISTER_REDIRECTION, value);
        break;
    default: /* read-only, or nothing */
        break;
    }
}

uint64_t ioapic_mmio_read(const struct ioapic *ioapic, unsigned offset, unsigned size)
{
    unsigned byte = offset % 16;
    uint32_t value;

    if (byte >= 4)
        return 0;
    switch (offset - byte) {
    case IOREGSEL:
        value = ioapic->select;
        break;
    case IOWIN:
        value = read_register(ioapic);
        break;
    default:
        return 0;
    }
    value >>= byte * 8;
    return size < 4 ? value & ((1u << size * 8) - 1) : value;
}

void ioapic_mmio_write(struct ioapic *ioapic, unsigned offset, unsigned size, uint64_t value)
{
    if (offset == IOREGSEL)
        ioapic->select = (uint8_t)value;
    else if (offset == IOWIN && size == 4)
        write_register(ioapic, (uint32_t)value);
    else if (offset == EOIR && size == 4)
        ioapic_eoi(ioapic, (uint8_t)value);
}

void ioapic_reset(struct ioapic *ioapic)
{
    ioapic->id = 0;
    ioapic->select = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->redirection[pin] = ENTRY_MASKED;
}

void ioapic_init(struct ioapic *ioapic, struct lapic *lapics, unsigned lapic_count)
{
    *ioapic = (struct ioapic){.lapics = lapics, .lapic_count = lapic_count};
    ioapic_reset(ioapic);
}
