// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * MSI-X of one function (PCI Local Bus Specification 3.0, section 6.8.2): a table of messages and the bits of
 * those that wait because they are masked, both in one page of a BAR.
 *
 * msix_raise may be called by any processor at any time: what it looks at is published for it, a word for
 * each vector, and it takes no lock. Everything else is called as the function's other registers are, under
 * the lock of its board.
 */
#include "core/vdev/lapic.h"

#define MSIX_VECTORS_MAX  32
#define MSIX_TABLE_OFFSET 0x000 /* in the page */
#define MSIX_PBA_OFFSET   0x800
#define MSIX_PAGE_SIZE    0x1000

/* Bits of message control, the capability's word 2. */
#define MSIX_ENABLE       BIT(15)
#define MSIX_MASK_ALL     BIT(14)

/* Where messages go. */
struct msix_ops {
    /* Delivers `message` to the local APICs of the function's partition. Any processor; it takes no lock. */
    void (*deliver)(void *context, const struct lapic_message *message);
};

struct msix_entry {
    uint64_t address;
    uint32_t data;
    uint32_t control; /* bit 0: masked */
};

struct msix {
    const struct msix_ops *ops;
    void *context;
    unsigned count;
    bool open; /* MSI-X is on, the function may send and is not masked as a whole */
    struct msix_entry entries[MSIX_VECTORS_MAX];
    /* Shared with whoever raises: */
    bool enabled;                     /* MSI-X is on: what cannot go waits */
    uint32_t pending;                 /* bit n: vector n waits */
    uint64_t armed[MSIX_VECTORS_MAX]; /* what may go now: data << 32 | address | 1; else 0 */
};

/* Power-on state: off, every vector masked. `count` is 1 to MSIX_VECTORS_MAX, `ops` and `context` are kept.
 */
void msix_init(struct msix *msix, unsigned count, const struct msix_ops *ops, void *context);
void msix_reset(struct msix *msix);

/*
 * Message control is `control` now, and the function may send (bus master) or not. What waited and may go,
 * goes.
 */
void msix_set_control(struct msix *msix, uint16_t control, bool may_send);

/*
 * Access to the page at `offset`, `size` 1, 2, 4 or 8, not reaching beyond MSIX_PAGE_SIZE. Writes have an
 * effect if they are aligned and of 4 or 8 bytes, as the specification asks; what is neither table nor
 * pending bits reads as zero.
 */
uint64_t msix_read(const struct msix *msix, unsigned offset, unsigned size);
void msix_write(struct msix *msix, unsigned offset, unsigned size, uint64_t value);

/*
 * Sends the message of `vector`, or remembers to when it may go. Lost if MSI-X is off or there is no such
 * vector. Any processor; the msix must live as long as the call.
 */
void msix_raise(struct msix *msix, unsigned vector);

/*
 * The interrupt that a write of `data` to `address` means to the local APICs (SDM vol. 3, "Message Address
 * Register Format", "Message Data Register Format"). False: none.
 */
bool msix_decode(uint64_t address, uint32_t data, struct lapic_message *message);
