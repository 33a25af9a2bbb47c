// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The machine's IO-APICs (82093AA): which interrupt line reaches which vector. All lines are masked until
 * routed. The two 8259s, which the machine may still have, are masked for good.
 */
#include "lib/types.h"

/* Maps the IO-APIC at `base`, whose lines start at `gsi_base`, and masks all of them. Start-up only. */
void ioapic_add(hpa_t base, uint32_t gsi_base);

/* Sends line `gsi` as `vector` to the local APIC `destination`. -ENOENT if no IO-APIC has the line. */
int ioapic_route(uint32_t gsi, uint8_t vector, uint32_t destination, bool level,
                 bool active_low) __must_check;

/* Masks every line of both 8259s and moves their vectors out of the exceptions' way. */
void pic_disable(void);
