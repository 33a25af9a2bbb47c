// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The IO-APIC: an 82093AA with 24 pins and the EOI register of its successors (version 20H). Polarity bits
 * are stored only: a pin is told whether it is asserted.
 */
#include "core/vdev/lapic.h"

#define IOAPIC_BASE_DEFAULT 0xfec00000ULL
#define IOAPIC_PINS         24

struct ioapic {
    struct lapic *lapics; /* where messages go */
    unsigned lapic_count;
    uint8_t id;
    uint8_t select; /* IOREGSEL */
    uint32_t pins;  /* bit n: pin n is asserted */
    uint64_t redirection[IOAPIC_PINS];
};

/* Power-on state. `lapics` is the partition's array of `lapic_count`, kept. */
void ioapic_init(struct ioapic *ioapic, struct lapic *lapics, unsigned lapic_count);

/* RESET: as after ioapic_init. The pins keep their levels: they are the devices'. */
void ioapic_reset(struct ioapic *ioapic);

/*
 * Access at byte `offset` below 4096 of the register page, `size` 1, 2, 4 or 8. A read may touch part of a
 * register; bytes that belong to none read as zero. Writes: aligned 32-bit ones, and to IOREGSEL of any size.
 */
uint64_t ioapic_mmio_read(const struct ioapic *ioapic, unsigned offset, unsigned size);
void ioapic_mmio_write(struct ioapic *ioapic, unsigned offset, unsigned size, uint64_t value);

/* Pin `pin` (0 to 23) is asserted or not. */
void ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level);

/* A local APIC broadcasts the EOI of level-triggered vector `vector` (lapic_settings.eoi). */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);
