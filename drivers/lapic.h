// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Each processor's own local APIC (SDM vol. 3, "Advanced programmable interrupt controller"): enabling, end
 * of interrupt, interrupts between processors, and a one-shot timer for when no guest runs. In xAPIC mode by
 * its page, in x2APIC mode by its MSRs: all processors use the same.
 *
 * Unless said otherwise a function speaks of the processor that calls it, and wants interrupts off.
 */
#include "lib/types.h"

/* Vectors of Umbra's own interrupts; the highest classes, above every device. */
enum {
    VECTOR_SERIAL = 0xe0,
    VECTOR_TIMER = 0xf0,
    VECTOR_KICK = 0xf1,   /* another processor wants this one to look at its mail */
    VECTOR_POSTED = 0xf2, /* notification of posted interrupts; one that arrives outside the guest is only
                             ended */
    VECTOR_SPURIOUS = 0xff,
};

/* The largest id that xAPIC mode can address; 255 is all processors. */
#define LAPIC_XAPIC_ID_MAX 254

/*
 * Decides the mode for all processors: x2APIC if firmware left this one in it, or if `large_ids` (some
 * processor's id is above LAPIC_XAPIC_ID_MAX) and the processor has it. Then lapic_id, lapic_reaches work.
 * Start-up, first processor, before everything else here.
 */
void lapic_choose_mode(bool large_ids);

/*
 * Enables this processor's APIC: all local sources masked, but for the machine's NMI on the first processor;
 * the timer ready, measured the first time if the TSC cannot drive it. Start-up of each processor; the first
 * processor goes first.
 */
void lapic_enable(void);

/* This APIC's id. */
uint32_t lapic_id(void);

/* Whether an APIC with this id can be sent anything in the mode that was chosen. */
bool lapic_reaches(uint32_t apic_id);

/* Ends the interrupt in service. */
void lapic_end_of_interrupt(void);

/*
 * Asks for VECTOR_TIMER when the host's TSC reaches `tsc`; once, replacing what was asked before. UINT64_MAX:
 * never.
 */
void lapic_timer_arm(uint64_t tsc);

/*
 * To the processor whose APIC has the id `apic_id`: an interrupt with `vector`; an NMI; an INIT; a start-up
 * interrupt that makes it begin in real mode at `code` (a frame below 1 MiB). All that was written to memory
 * before is visible to the processor that is interrupted. They return when the message is on its way.
 */
void lapic_send_vector(uint32_t apic_id, uint8_t vector);
void lapic_send_nmi(uint32_t apic_id);
void lapic_send_init(uint32_t apic_id);
void lapic_send_startup(uint32_t apic_id, hpa_t code);
