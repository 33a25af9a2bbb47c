// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * This processor's own local APIC (SDM vol. 3, "Advanced programmable interrupt controller"): enabling, end
 * of interrupt, and a one-shot timer for when no guest runs. In xAPIC mode by its page, in x2APIC mode by its
 * MSRs, as firmware left it.
 */
#include "lib/types.h"

/* Vectors of Umbra's own interrupts; the highest classes, above every device. */
enum {
    VECTOR_SERIAL = 0xe0,
    VECTOR_TIMER = 0xf0,
    VECTOR_SPURIOUS = 0xff,
};

/* Enables the APIC (at its page in the device map, if in xAPIC mode), measures its timer if the TSC cannot
 * drive it. Start-up. */
void lapic_enable(void);

/* This APIC's id. */
uint32_t lapic_id(void);

/* Ends the interrupt in service. */
void lapic_end_of_interrupt(void);

/* Asks for VECTOR_TIMER when the host's TSC reaches `tsc`; once, replacing what was asked before. UINT64_MAX:
 * never. */
void lapic_timer_arm(uint64_t tsc);
