// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who raises and who unmasks may be different processors. The one sets the pending bit and then looks whether
 * the message may go; the other lets it go and then looks at the pending bit. Both orders are sequentially
 * consistent, so at least one of the two sees the other; who clears the bit, sends.
 */
#include "core/vdev/msix.h"

#include "lib/panic.h"
#include "lib/string.h"

#define ENTRY_SIZE            16
#define ENTRY_MASKED          1u
#define ARMED                 1u /* in the word of a message: bits 0 and 1 of an address are 0 */

/* Bits of a message's address and data. */
#define ADDRESS_APICS         0xfeeULL /* bits 63:20 */
#define ADDRESS_REDIRECTION   BIT(3)
#define ADDRESS_LOGICAL       BIT(2)
#define DATA_ASSERT           BIT(14)
#define DATA_LEVEL            BIT(15)
#define DESTINATION_EVERYBODY 0xff

bool msix_decode(uint64_t address, uint32_t data, struct lapic_message *message)
{
    uint8_t mode = data >> 8 & 7;
    uint32_t destination = address >> 12 & 0xff;

    if (address >> 20 != ADDRESS_APICS)
        return false;
    /* 011B and 110B are reserved here; the end of a level is nothing to a local APIC. */
    if (mode == 3 || mode == LAPIC_SIPI || ((data & DATA_LEVEL) != 0 && (data & DATA_ASSERT) == 0))
        return false;
    /* With the hint and logical mode, one of the destinations is enough. */
    if (mode == LAPIC_FIXED && (address & ADDRESS_REDIRECTION) != 0 && (address & ADDRESS_LOGICAL) != 0)
        mode = LAPIC_LOWEST_PRIORITY;
    *message = (struct lapic_message){
        .destination = destination == DESTINATION_EVERYBODY ? LAPIC_BROADCAST : destination,
        .logical = (address & ADDRESS_LOGICAL) != 0,
        .level = (data & DATA_LEVEL) != 0,
        .mode = mode,
        .vector = (uint8_t)data,
    };
    return true;
}

/* Sends what waits on `vector`, if it may go. Any processor. */
static void flush(struct msix *msix, unsigned vector)
{
    const uint32_t bit = 1u << vector;
    uint64_t word = __atomic_load_n(&msix->armed[vector], __ATOMIC_SEQ_CST);
    struct lapic_message message;

    if ((word & ARMED) == 0 || (__atomic_fetch_and(&msix->pending, ~bit, __ATOMIC_SEQ_CST) & bit) == 0)
        return;
    if (msix_decode((uint32_t)word & ~ARMED, (uint32_t)(word >> 32), &message))
        msix->ops->deliver(msix->context, &message);
}

void msix_raise(struct msix *msix, unsigned vector)
{
    if (vector >= msix->count || !__atomic_load_n(&msix->enabled, __ATOMIC_RELAXED))
        return;
    __atomic_fetch_or(&msix->pending, 1u << vector, __ATOMIC_SEQ_CST);
    flush(msix, vector);
}

/* Publishes what may go of `vector`. A message to above 4 GiB meets no local APIC, so it may have any
 * address. */
static void publish(struct msix *msix, unsigned vector)
{
    const struct msix_entry *entry = &msix->entries[vector];
    uint64_t word = 0;

    if (msix->open && (entry->control & ENTRY_MASKED) == 0)
        word = (uint64_t)entry->data << 32 | (entry->address < GIB(4) ? entry->address : 0) | ARMED;
    __atomic_store_n(&msix->armed[vector], word, __ATOMIC_SEQ_CST);
    flush(msix, vector);
}

void msix_set_control(struct msix *msix, uint16_t control, bool may_send)
{
    bool enabled = (control & MSIX_ENABLE) != 0;

    __atomic_store_n(&msix->enabled, enabled, __ATOMIC_RELAXED);
    msix->open = enabled && (control & MSIX_MASK_ALL) == 0 && may_send;
    if (!enabled)
        __atomic_store_n(&msix->pending, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < msix->count; i++)
        publish(msix, i);
}

static uint32_t read_word(const struct msix *msix, unsigned index)
{
    const struct msix_entry *entry;

    if (index == MSIX_PBA_OFFSET / 4)
        return __atomic_load_n(&msix->pending, __ATOMIC_RELAXED);
    if (index >= msix->count * (ENTRY_SIZE / 4))
        return 0;
    entry = &msix->entries[index / 4];
    switch (index % 4) {
    case 0:
        return (uint32_t)entry->address;
    case 1:
        return (uint32_t)(entry->address >> 32);
    case 2:
        return entry->data;
    default:
        return entry->control;
    }
}

static void write_word(struct msix *msix, unsigned index, uint32_t value)
{
    struct msix_entry *entry;

    if (index >= msix->count * (ENTRY_SIZE / 4))
        return;
    entry = &msix->entries[index / 4];
    switch (index % 4) {
    case 0:
        entry->address = (entry->address & ~(uint64_t)UINT32_MAX) | (value & ~3u);
        break;
    case 1:
        entry->address = (uint64_t)value << 32 | (uint32_t)entry->address;
        break;
    case 2:
        entry->data = value;
        break;
    default:
        entry->control = value & ENTRY_MASKED;
        break;
    }
}

uint64_t msix_read(const struct msix *msix, unsigned offset, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        unsigned at = offset + i;
        value |= (uint64_t)(read_word(msix, at / 4) >> 8 * (at % 4) & 0xff) << 8 * i;
    }
    return value;
}

void msix_write(struct msix *msix, unsigned offset, unsigned size, uint64_t value)
{
    if (size < 4 || !is_aligned(offset, size))
        return;
    /* What is written together is published together. */
    for (unsigned i = 0; i < size / 4; i++)
        write_word(msix, offset / 4 + i, (uint32_t)(value >> 32 * i));
    if (offset < msix->count * ENTRY_SIZE)
        publish(msix, offset / ENTRY_SIZE);
}

void msix_reset(struct msix *msix)
{
    memset(msix->entries, 0, sizeof(msix->entries));
    for (unsigned i = 0; i < msix->count; i++)
        msix->entries[i].control = ENTRY_MASKED;
    msix_set_control(msix, 0, false);
}

void msix_init(struct msix *msix, unsigned count, const struct msix_ops *ops, void *context)
{
    invariant(count >= 1 && count <= MSIX_VECTORS_MAX);
    *msix = (struct msix){.ops = ops, .context = context, .count = count};
    msix_reset(msix);
}
