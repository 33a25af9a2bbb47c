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

/* What else can be in a mailbox. A bit stands for any number of requests of its kind. */
enum lapic_mail {
    LAPIC_MAIL_NMI = 1 << 0,
    LAPIC_MAIL_INIT = 1 << 1,
    LAPIC_MAIL_SIPI = 1 << 2,
    LAPIC_MAIL_EXTINT = 1 << 3,
    LAPIC_MAIL_LINT0 = 1 << 4, /* the pin has risen; LINT1 follows */
    LAPIC_MAIL_LINT1 = 1 << 5,
    LAPIC_MAIL_LEVELS = 1 << 6,  /* look at `levels` */
    LAPIC_MAIL_ILLEGAL = 1 << 7, /* a message with an illegal vector */
};

#define LAPIC_MAIL_VECTOR_SHIFT 8 /* of the SIPI */
#define LAPIC_MAIL_VECTOR       (0xffu << LAPIC_MAIL_VECTOR_SHIFT)

/* Senders look at registers while their owner writes them: each is read and written whole. */
static inline uint32_t lapic_get(const struct lapic *lapic, unsigned offset)
{
    return __atomic_load_n(&lapic->page[offset / 4], __ATOMIC_RELAXED);
}

static inline void lapic_put(struct lapic *lapic, unsigned offset, uint32_t value)
{
    __atomic_store_n(&lapic->page[offset / 4], value, __ATOMIC_RELAXED);
    lapic->copy[offset / 16] = value;
}

static inline uint64_t lapic_base(const struct lapic *lapic)
{
    return __atomic_load_n(&lapic->base, __ATOMIC_RELAXED);
}

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
    return (lapic_base(lapic) & LAPIC_BASE_X2APIC) != 0;
}

static inline bool lapic_is_enabled(const struct lapic *lapic)
{
    return (lapic_base(lapic) & LAPIC_BASE_ENABLE) != 0;
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

/* Takes all vectors of `bits` into word `word` (0-7) of IRR and TMR. False if the APIC is software-disabled.
 */
bool lapic_accept_word(struct lapic *lapic, unsigned word, uint32_t bits, bool level);

/* Pin `pin` has risen, or its LVT entry was written: what follows from its level. */
void lapic_evaluate_lint(struct lapic *lapic, unsigned pin, bool rising);

/* Records ESR bits, and raises the error interrupt for the first since ESR was last written. */
void lapic_error(struct lapic *lapic, uint32_t bits);

/* The source behind the LVT entry at `offset` signals an (edge-triggered) interrupt. */
void lapic_lvt_signal(struct lapic *lapic, unsigned offset);

/* lapic_mailbox.c: from any processor. */

/* Leaves a request for `vector`. */
void lapic_post_vector(struct lapic *lapic, uint8_t vector, bool level);

/* Leaves `mail`, a set of enum lapic_mail without SIPI. */
void lapic_post_mail(struct lapic *lapic, uint32_t mail);

/* Leaves a start-up message. */
void lapic_post_sipi(struct lapic *lapic, uint8_t vector);

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
