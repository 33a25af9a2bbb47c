// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/* What the files of the local APIC share among themselves. */
#include "core/vdev/lapic.h"

#define LAPIC_FIRST_VECTOR         16 /* lower ones are illegal in a message */

#define LAPIC_SVR_ENABLE           BIT(8)
#define LAPIC_SVR_SUPPRESS_EOI     BIT(12)

#define LAPIC_LVT_REMOTE_IRR       BIT(14)
#define LAPIC_LVT_LEVEL            BIT(15)
#define LAPIC_LVT_MASKED           BIT(16)

/* Bits of ESR (SDM vol. 3, "Error Handling"). */
#define LAPIC_ERROR_SEND_VECTOR    BIT(5)
#define LAPIC_ERROR_RECEIVE_VECTOR BIT(6)
#define LAPIC_ERROR_ADDRESS        BIT(7)

static inline uint32_t lapic_get(const struct lapic *lapic, unsigned offset)
{
    return lapic->page[offset / 4];
}

static inline void lapic_put(struct lapic *lapic, unsigned offset, uint32_t value)
{
    lapic->page[offset / 4] = value;
}

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
    return (lapic->base & LAPIC_BASE_X2APIC) != 0;
}

static inline bool lapic_is_enabled(const struct lapic *lapic)
{
    return (lapic->base & LAPIC_BASE_ENABLE) != 0;
}

/* By the spurious-interrupt vector register; never while disabled by IA32_APIC_BASE. */
static inline bool lapic_is_software_enabled(const struct lapic *lapic)
{
    return (lapic_get(lapic, LAPIC_SVR) & LAPIC_SVR_ENABLE) != 0;
}

/* lapic.c */

/* Takes fixed interrupt `vector` into IRR and TMR. False if the APIC is software-disabled or the vector
 * illegal. */
bool lapic_accept(struct lapic *lapic, uint8_t vector, bool level);

/* Records ESR bits, and raises the error interrupt for the first since ESR was last written. */
void lapic_error(struct lapic *lapic, uint32_t bits);

/* The source behind the LVT entry at `offset` signals an (edge-triggered) interrupt. */
void lapic_lvt_signal(struct lapic *lapic, unsigned offset);

/* lapic_delivery.c */

/* Sends what the ICR says. */
void lapic_send(struct lapic *lapic);

/* Sends `vector` to this APIC itself. */
void lapic_send_self(struct lapic *lapic, uint8_t vector);

/* lapic_timer.c: writes to the timer's registers, with reserved bits already removed. */

void lapic_timer_write_lvt(struct lapic *lapic, uint32_t value);
void lapic_timer_write_initial_count(struct lapic *lapic, uint32_t value);
void lapic_timer_write_divide(struct lapic *lapic, uint32_t value);
uint32_t lapic_timer_current_count(const struct lapic *lapic);

/* IA32_TSC_DEADLINE. */
uint64_t lapic_timer_read_deadline(const struct lapic *lapic);
void lapic_timer_write_deadline(struct lapic *lapic, uint64_t value);
