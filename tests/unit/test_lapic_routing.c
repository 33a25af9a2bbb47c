// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/lapic_delivery.c, exhaustively: every delivery mode, shorthand, destination mode and trigger, to
 * every destination there is, in each arrangement of the APICs, from 1 to 20 of them; against the SDM's words
 * written down here as a predicate of one APIC. Fails when any APIC gets what it should not, or not what it
 * should.
 */
#include "tests/unit/apic_board.h"

#include "core/vdev/lapic_private.h"

#define VECTOR 0x61

enum arrangement {
    FLAT,     /* xAPIC, flat model, APICs n and n + 8 share a bit */
    CLUSTERS, /* xAPIC, cluster model, four to a cluster */
    X2APIC,
    MIXED,    /* every third in x2APIC mode, the others flat */
    DISABLED, /* flat; every third is software-disabled, every fifth by IA32_APIC_BASE */
    ARRANGEMENTS,
};

static bool in_x2apic(enum arrangement arrangement, unsigned apic)
{
    return arrangement == X2APIC || (arrangement == MIXED && apic % 3 == 2);
}

static bool globally_disabled(enum arrangement arrangement, unsigned apic)
{
    return arrangement == DISABLED && apic % 5 == 4;
}

static bool software_disabled(enum arrangement arrangement, unsigned apic)
{
    return arrangement == DISABLED && apic % 3 == 2;
}

static void arrange(enum arrangement arrangement, unsigned count)
{
    board_start(BOARD_TSC_HZ, BOARD_TSC_HZ, true);
    board.asleep = true;
    for (unsigned i = 0; i < BOARD_APICS; i++) {
        board.apics[i].settings.count = count;
        if (in_x2apic(arrangement, i)) {
            to_x2apic(i);
            continue;
        }
        if (arrangement == CLUSTERS) {
            put(i, LAPIC_DFR, 0);
            put(i, LAPIC_LDR, (i / 4 << 4 | 1u << i % 4) << 24);
        } else {
            put(i, LAPIC_LDR, 1u << (24 + i % 8));
        }
        if (software_disabled(arrangement, i))
            put(i, LAPIC_SVR, 0xff);
        if (globally_disabled(arrangement, i))
            assert_int_equal(wrmsr(i, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT), 0);
    }
}

/*
 * SDM vol. 3, "Determining IPI Destination": whether APIC `apic` is meant by `destination`; 8 bits of it if
 * `narrow`, else 32.
 */
static bool is_meant(enum arrangement arrangement, unsigned apic, uint32_t destination, bool logical,
                     bool narrow)
{
    if (destination == (narrow ? 0xff : 0xffffffff)) /* broadcast, in either mode */
        return true;
    if (!logical)
        return destination == apic;
    if (in_x2apic(arrangement, apic)) /* LDR: cluster in bits 31:16, one bit of 15:0 */
        return destination / 65536 == apic / 16 && (destination >> apic % 16 & 1);
    if (destination > 0xff)
        return false;
    if (arrangement == CLUSTERS)
        return destination / 16 == apic / 4 && (destination >> apic % 4 & 1);
    return destination >> apic % 8 & 1;
}

/* SDM vol. 3, table "Valid combinations for the local APIC's interrupt command register". */
static bool is_valid(unsigned mode, unsigned shorthand)
{
    return shorthand == 0 || shorthand == 3 || mode == LAPIC_FIXED;
}

/* What reached an APIC, one bit each. */
enum { GOT_VECTOR = 1, GOT_NMI = 2, GOT_INIT = 4, GOT_SIPI = 8, GOT_LEVEL = 16 };

static unsigned kind_of(unsigned mode)
{
    switch (mode) {
    case LAPIC_FIXED:
    case LAPIC_LOWEST_PRIORITY:
        return GOT_VECTOR;
    case LAPIC_NMI:
        return GOT_NMI;
    case LAPIC_INIT:
        return GOT_INIT;
    case LAPIC_SIPI:
        return GOT_SIPI;
    default:
        return 0;
    }
}

/* Looks into the mailbox, or for what the sender sent itself into its IRR; and takes it out. */
static unsigned got(unsigned apic)
{
    struct lapic_mailbox *mailbox = &board.apics[apic].mailbox;
    uint32_t *irr = &board.apics[apic].page[(LAPIC_IRR + VECTOR / 32 * 16) / 4];
    unsigned result = 0;

    if ((mailbox->posted.requests[VECTOR / 64] >> VECTOR % 64 & 1) || (*irr >> VECTOR % 32 & 1))
        result |= GOT_VECTOR;
    if (mailbox->levels[VECTOR / 64] >> VECTOR % 64 & 1)
        result |= GOT_LEVEL;
    result |= mailbox->mail & LAPIC_MAIL_NMI ? GOT_NMI : 0;
    result |= mailbox->mail & LAPIC_MAIL_INIT ? GOT_INIT : 0;
    if (mailbox->mail & LAPIC_MAIL_SIPI) {
        result |= GOT_SIPI;
        assert_int_equal(mailbox->mail >> LAPIC_MAIL_VECTOR_SHIFT, VECTOR);
    }
    assert_int_equal(board.wakes[apic] != 0, result != 0);
    *mailbox = (struct lapic_mailbox){0};
    *irr = 0;
    board.wakes[apic] = 0;
    return result;
}

/* Compares who got something with who had to. */
static void check(enum arrangement arrangement, unsigned count, unsigned mode, bool level, uint64_t meant)
{
    unsigned candidates = 0, winners = 0;

    for (unsigned i = 0; i < BOARD_APICS; i++) {
        bool there = i < count && (meant >> i & 1) && !globally_disabled(arrangement, i);
        bool takes_vectors = there && !software_disabled(arrangement, i);
        unsigned seen = got(i);

        if (mode == LAPIC_LOWEST_PRIORITY) {
            candidates += takes_vectors;
            winners += seen != 0;
            assert_true(seen == 0 || (takes_vectors && seen == (level ? GOT_LEVEL : GOT_VECTOR)));
        } else if (mode == LAPIC_FIXED) {
            assert_int_equal(seen, !takes_vectors ? 0 : level ? GOT_LEVEL : GOT_VECTOR);
        } else {
            assert_int_equal(seen, there ? kind_of(mode) : 0);
        }
    }
    if (mode == LAPIC_LOWEST_PRIORITY)
        assert_int_equal(winners, candidates > 0);
}

static uint64_t all_meant(enum arrangement arrangement, uint32_t destination, bool logical, bool narrow)
{
    uint64_t set = 0;

    for (unsigned i = 0; i < BOARD_APICS; i++)
        set |= (uint64_t)is_meant(arrangement, i, destination, logical, narrow) << i;
    return set;
}

/* All that an ICR can say: `trigger` is level and trigger mode, bits 15:14. */
static void send_icr(enum arrangement arrangement, unsigned count, unsigned sender, uint32_t destination,
                     uint32_t icr)
{
    const unsigned mode = icr >> 8 & 7, shorthand = icr >> 18 & 3;
    const bool x2apic = in_x2apic(arrangement, sender), logical = icr & 0x800;
    uint64_t meant = all_meant(arrangement, destination, logical, !x2apic);

    if (x2apic) {
        assert_int_equal(wrmsr(sender, 0x830, (uint64_t)destination << 32 | icr), 0);
    } else {
        put(sender, LAPIC_ICR_HIGH, destination << 24);
        put(sender, LAPIC_ICR, icr);
    }
    if (shorthand == 1)
        meant = 1ULL << sender;
    else if (shorthand >= 2)
        meant = UINT64_MAX & ~(shorthand == 3 ? 1ULL << sender : 0);
    /* An INIT level de-assert (trigger mode level, level 0) is a message of old; and the invalid ones. */
    if (!is_valid(mode, shorthand) || (mode == LAPIC_INIT && (icr >> 14 & 3) == 2))
        meant = 0;
    check(arrangement, count, mode, false, meant);
}

/* Destinations beyond eight bits, for x2APIC mode. */
static const uint32_t wide[] = {0x100,   0x8000,  0xffff,  0x10000,    0x10001,    0x10008,
                                0x10010, 0x1ffff, 0x20001, 0xffff0001, 0xfffffffe, 0xffffffff};

static void for_each_destination(enum arrangement arrangement, unsigned count, unsigned sender, uint32_t icr)
{
    for (uint32_t destination = 0; destination < 256; destination++)
        send_icr(arrangement, count, sender, destination, icr);
    for (size_t i = 0; in_x2apic(arrangement, sender) && i < ARRAY_SIZE(wide); i++)
        send_icr(arrangement, count, sender, wide[i], icr);
}

static const unsigned counts[] = {1, 2, 3, 4, 5, 8, 9, 16, 17, BOARD_APICS};

static void icr(void **state)
{
    (void)state;
    for (enum arrangement a = 0; a < ARRANGEMENTS; a++) {
        for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
            const unsigned sender = a == DISABLED ? 0 : counts[c] / 2;

            arrange(a, counts[c]);
            for (unsigned mode = 0; mode < 8; mode++) {
                for (unsigned trigger = 0; trigger < 4; trigger++) {
                    const uint32_t low = trigger << 14 | mode << 8 | VECTOR;

                    for (unsigned logical = 0; logical < 2; logical++)
                        for_each_destination(a, counts[c], sender, low | logical << 11);
                    for (unsigned shorthand = 1; shorthand < 4; shorthand++)
                        send_icr(a, counts[c], sender, 0, low | shorthand << 18);
                }
            }
        }
    }
}

/* All that an IO-APIC's redirection entry can say, level-triggered messages included. */
static void messages(void **state)
{
    (void)state;
    for (enum arrangement a = 0; a < ARRANGEMENTS; a++) {
        for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
            arrange(a, counts[c]);
            for (unsigned n = 0; n < 8 * 2 * 2 * 256; n++) {
                const unsigned mode = n & 7, destination = n >> 5;
                const bool logical = n & 8;
                const struct lapic_message message = {
                    .destination = destination == 0xff ? LAPIC_BROADCAST : destination,
                    .logical = logical,
                    .level = (n & 16) && mode <= LAPIC_LOWEST_PRIORITY,
                    .mode = (uint8_t)mode,
                    .vector = VECTOR,
                };

                if (mode == LAPIC_EXTINT)
                    continue;
                lapic_deliver(board.apics, counts[c], &message);
                check(a, counts[c], mode, message.level, all_meant(a, destination, logical, true));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(icr),
        cmocka_unit_test(messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
