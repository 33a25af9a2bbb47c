// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who gets an interrupt message: destinations and delivery modes (SDM vol. 3, "Determining IPI Destination",
 * "Interrupt Command Register", "Logical Destination Mode in x2APIC Mode").
 *
 * APIC IDs are indices into the array of APICs, in every mode; a set of APICs is a bit mask of them.
 */
#include "core/vdev/lapic_private.h"

#define DFR_CLUSTER     0x0fffffffu

#define ICR_LOGICAL     BIT(11)
#define ICR_ASSERT      BIT(14)
#define ICR_LEVEL       BIT(15)
#define ICR_BROADCAST_8 0xff

enum icr_shorthand {
    ICR_DESTINATION = 0,
    ICR_SELF = 1,
    ICR_ALL = 2,
    ICR_OTHERS = 3,
};

static bool logical_match(const struct lapic *lapic, uint32_t destination)
{
    uint32_t ldr = lapic_get(lapic, LAPIC_LDR);

    if (lapic_is_x2apic(lapic))
        return ldr >> 16 == destination >> 16 && (ldr & destination & 0xffff) != 0;
    ldr >>= 24;
    if (destination > 0xff)
        return false;
    if (lapic_get(lapic, LAPIC_DFR) == DFR_CLUSTER)
        return ldr >> 4 == destination >> 4 && (ldr & destination & 0xf) != 0;
    return (ldr & destination) != 0;
}

static uint64_t everybody(unsigned count)
{
    return UINT64_MAX >> (LAPIC_COUNT_MAX - count);
}

static uint64_t find_targets(const struct lapic *all, unsigned count, const struct lapic_message *message)
{
    uint64_t targets = 0;

    if (message->destination == LAPIC_BROADCAST)
        return everybody(count);
    if (!message->logical)
        return message->destination < count ? BIT(message->destination) : 0;
    for (unsigned i = 0; i < count; i++) {
        if (logical_match(&all[i], message->destination))
            targets |= BIT(i);
    }
    return targets;
}

/*
 * Lowest-priority arbitration: the software-enabled APIC with the lowest TPR class. Among equals the vector
 * chooses, so that a source stays with one processor and different sources spread.
 */
static uint64_t arbitrate(const struct lapic *all, uint64_t targets, uint8_t vector)
{
    uint64_t candidates = 0;
    unsigned lowest = 16, count = 0;

    for (; targets != 0; targets &= targets - 1) {
        unsigned i = (unsigned)__builtin_ctzll(targets);
        unsigned priority = lapic_cr8_read(&all[i]);

        if (!lapic_is_software_enabled(&all[i]) || priority > lowest)
            continue;
        if (priority < lowest) {
            lowest = priority;
            candidates = 0;
            count = 0;
        }
        candidates |= BIT(i);
        count++;
    }
    if (count == 0)
        return 0;
    for (unsigned skip = vector % count; skip > 0; skip--)
        candidates &= candidates - 1;
    return candidates & -candidates;
}

/* `self`: the sender is the target's owner. */
static bool deliver_vector(struct lapic *lapic, const struct lapic_message *message, bool self)
{
    if (self)
        return lapic_accept(lapic, message->vector, message->level);
    if (!lapic_is_software_enabled(lapic))
        return false;
    if (message->vector < LAPIC_FIRST_VECTOR) {
        lapic_post_mail(lapic, LAPIC_MAIL_ILLEGAL);
        return false;
    }
    lapic_post_vector(lapic, message->vector, message->level);
    return true;
}

/* NMI and the like are mail also when they are to the sender itself: they must not come within its exit. */
static bool deliver_to_one(struct lapic *lapic, const struct lapic_message *message, bool self)
{
    if (!lapic_is_enabled(lapic))
        return false;
    switch (message->mode) {
    case LAPIC_FIXED:
    case LAPIC_LOWEST_PRIORITY:
        return deliver_vector(lapic, message, self);
    case LAPIC_NMI:
        lapic_post_mail(lapic, LAPIC_MAIL_NMI);
        return true;
    case LAPIC_INIT:
        lapic_post_mail(lapic, LAPIC_MAIL_INIT);
        return true;
    case LAPIC_SIPI:
        lapic_post_sipi(lapic, message->vector);
        return true;
    case LAPIC_EXTINT:
        if (!lapic_is_software_enabled(lapic))
            return false;
        lapic_post_mail(lapic, LAPIC_MAIL_EXTINT);
        return true;
    default:
        return false; /* SMI: there is no SMM; 3 is reserved */
    }
}

/* `sender`: the local APIC that sends, or NULL if it is another device. */
static bool deliver_to_set(struct lapic *all, uint64_t targets, const struct lapic_message *message,
                           const struct lapic *sender)
{
    bool accepted = false;

    if (message->mode == LAPIC_LOWEST_PRIORITY)
        targets = arbitrate(all, targets, message->vector);
    for (; targets != 0; targets &= targets - 1) {
        struct lapic *lapic = &all[__builtin_ctzll(targets)];

        accepted |= deliver_to_one(lapic, message, lapic == sender);
    }
    return accepted;
}

bool lapic_deliver(struct lapic *all, unsigned count, const struct lapic_message *message)
{
    return deliver_to_set(all, find_targets(all, count, message), message, NULL);
}

static uint32_t icr_destination(const struct lapic *lapic)
{
    uint32_t destination = lapic_get(lapic, LAPIC_ICR_HIGH) >> 24;

    if (lapic_is_x2apic(lapic))
        return lapic_get(lapic, LAPIC_ICR + 4);
    return destination == ICR_BROADCAST_8 ? LAPIC_BROADCAST : destination;
}

/*
 * An illegal vector is an error here and again where it arrives. Combinations that the SDM's table of valid
 * ones excludes (self, and all including self, with anything but fixed mode) send nothing, and so does the
 * INIT level de-assert of the Pentium.
 */
void lapic_send(struct lapic *lapic)
{
    struct lapic *all = lapic->settings.all;
    unsigned count = lapic->settings.count;
    uint32_t icr = lapic_get(lapic, LAPIC_ICR);
    struct lapic_message message = {
        .destination = icr_destination(lapic),
        .logical = (icr & ICR_LOGICAL) != 0,
        .mode = (icr >> 8) & 7,
        .vector = (uint8_t)icr,
    };

    if (message.mode == LAPIC_INIT && (icr & (ICR_LEVEL | ICR_ASSERT)) == ICR_LEVEL)
        return;
    if (message.mode == LAPIC_EXTINT) /* an LVT entry's or IO-APIC's; reserved in the ICR */
        return;
    if (message.mode <= LAPIC_LOWEST_PRIORITY && message.vector < LAPIC_FIRST_VECTOR)
        lapic_error(lapic, LAPIC_ERROR_SEND_VECTOR);

    switch ((enum icr_shorthand)((icr >> 18) & 3)) {
    case ICR_DESTINATION:
        deliver_to_set(all, find_targets(all, count, &message), &message, lapic);
        break;
    case ICR_SELF:
        if (message.mode == LAPIC_FIXED)
            lapic_accept(lapic, message.vector, false);
        break;
    case ICR_ALL:
        if (message.mode == LAPIC_FIXED)
            deliver_to_set(all, everybody(count), &message, lapic);
        break;
    case ICR_OTHERS:
        deliver_to_set(all, everybody(count) & ~BIT(lapic->id), &message, lapic);
        break;
    }
}

void lapic_send_self(struct lapic *lapic, uint8_t vector)
{
    if (vector < LAPIC_FIRST_VECTOR)
        lapic_error(lapic, LAPIC_ERROR_SEND_VECTOR);
    lapic_accept(lapic, vector, false);
}
