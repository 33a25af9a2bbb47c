// SPDX-License-Identifier: BSD-2-Clause
/*
 * The mailbox of a local APIC: what other processors leave there, and how its owner takes it.
 *
 * A sender first leaves the request, then marks the mailbox (`outstanding` for vectors that a processor may
 * post by itself, a bit of `mail` for everything else), and wakes the owner if the mark was not there yet.
 * The owner first takes the mark away, then the requests: one that comes later finds no mark, and wakes
 * again.
 */
#include "core/vdev/lapic_private.h"

static void wake(struct lapic *lapic)
{
    const struct vdev_host *host = lapic->settings.host;

    host->ops->wake(host->context, lapic->id);
}

static void wake_posted(struct lapic *lapic)
{
    const struct vdev_host *host = lapic->settings.host;

    if (host->ops->posted != NULL)
        host->ops->posted(host->context, lapic->id);
    else
        wake(lapic);
}

/* Changes `mail`, unless it has one of the bits `unless`. */
static void change_mail(struct lapic *lapic, uint32_t unless, uint32_t clear, uint32_t set)
{
    uint32_t *mail = &lapic->mailbox.mail;
    uint32_t old = __atomic_load_n(mail, __ATOMIC_RELAXED);

    do {
        if (old & unless)
            return;
    } while (!__atomic_compare_exchange_n(mail, &old, (old & ~clear) | set, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    if (old == 0)
        wake(lapic);
}

/* An INIT makes a start-up message that came before it meaningless. */
void lapic_post_mail(struct lapic *lapic, uint32_t mail)
{
    change_mail(lapic, 0, mail & LAPIC_MAIL_INIT ? LAPIC_MAIL_SIPI | LAPIC_MAIL_VECTOR : 0, mail);
}

/* Of several start-up messages the first counts: by the second the processor would be running. */
void lapic_post_sipi(struct lapic *lapic, uint8_t vector)
{
    change_mail(lapic, LAPIC_MAIL_SIPI, 0, LAPIC_MAIL_SIPI | (uint32_t)vector << LAPIC_MAIL_VECTOR_SHIFT);
}

void lapic_post_vector(struct lapic *lapic, uint8_t vector, bool level)
{
    struct lapic_mailbox *mailbox = &lapic->mailbox;
    uint64_t *requests = level ? mailbox->levels : mailbox->posted.requests;

    __atomic_fetch_or(&requests[vector / 64], BIT(vector % 64), __ATOMIC_RELEASE);
    if (level)
        lapic_post_mail(lapic, LAPIC_MAIL_LEVELS);
    else if (!(__atomic_fetch_or(&mailbox->posted.control, LAPIC_POSTED_OUTSTANDING, __ATOMIC_ACQ_REL) &
               LAPIC_POSTED_OUTSTANDING))
        wake_posted(lapic);
}

/* The APIC has been disabled since the message was sent: the source must not wait for an end. */
static void refuse_levels(struct lapic *lapic, unsigned word, uint32_t bits)
{
    for (; bits != 0; bits &= bits - 1)
        lapic->settings.eoi(lapic->settings.host->context,
                            (uint8_t)(word * 32 + (unsigned)__builtin_ctz(bits)));
}

static void receive_word(struct lapic *lapic, unsigned word, uint32_t bits, bool level)
{
    if (bits != 0 && !lapic_accept_word(lapic, word, bits, level) && level)
        refuse_levels(lapic, word, bits);
}

static void receive_vectors(struct lapic *lapic, uint64_t *requests, bool level)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t bits = 0;

        if (__atomic_load_n(&requests[i], __ATOMIC_RELAXED) != 0)
            bits = __atomic_exchange_n(&requests[i], 0, __ATOMIC_ACQUIRE);
        receive_word(lapic, 2 * i, (uint32_t)bits, level);
        receive_word(lapic, 2 * i + 1, (uint32_t)(bits >> 32), level);
    }
}

static void receive_mail(struct lapic *lapic, uint32_t mail)
{
    const struct vdev_host *host = lapic->settings.host;

    if (mail & LAPIC_MAIL_LEVELS)
        receive_vectors(lapic, lapic->mailbox.levels, true);
    if (mail & LAPIC_MAIL_ILLEGAL)
        lapic_error(lapic, LAPIC_ERROR_RECEIVE_VECTOR);
    if ((mail & LAPIC_MAIL_EXTINT) && lapic_is_software_enabled(lapic))
        lapic->extint = true;
    for (unsigned pin = 0; pin < ARRAY_SIZE(lapic->lint); pin++) {
        if (mail & (uint32_t)LAPIC_MAIL_LINT0 << pin)
            lapic_evaluate_lint(lapic, pin, true);
    }
    if (mail & LAPIC_MAIL_NMI)
        host->ops->ipi(host->context, lapic->id, VDEV_IPI_NMI, 0);
    if (mail & LAPIC_MAIL_INIT)
        host->ops->ipi(host->context, lapic->id, VDEV_IPI_INIT, 0);
    if (mail & LAPIC_MAIL_SIPI)
        host->ops->ipi(host->context, lapic->id, VDEV_IPI_SIPI, (uint8_t)(mail >> LAPIC_MAIL_VECTOR_SHIFT));
}

void lapic_receive(struct lapic *lapic)
{
    struct lapic_mailbox *mailbox = &lapic->mailbox;
    uint32_t mail = 0;

    if (__atomic_fetch_and(&mailbox->posted.control, ~(uint32_t)LAPIC_POSTED_OUTSTANDING, __ATOMIC_ACQ_REL) &
        LAPIC_POSTED_OUTSTANDING)
        receive_vectors(lapic, mailbox->posted.requests, false);
    if (__atomic_load_n(&mailbox->mail, __ATOMIC_RELAXED) != 0)
        mail = __atomic_exchange_n(&mailbox->mail, 0, __ATOMIC_ACQ_REL);
    receive_mail(lapic, mail);
}
