// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A lock for what several processors touch for a few instructions: fair (tickets are served in their order).
 * Interrupts are off wherever Umbra takes one, so it is never taken again by its holder. Zeroed memory is an
 * open lock.
 */
#include "lib/types.h"

struct spinlock {
    uint32_t next;    /* ticket to be drawn */
    uint32_t serving; /* the holder's */
};

static inline void spinlock_acquire(struct spinlock *lock)
{
    uint32_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);

    while (__atomic_load_n(&lock->serving, __ATOMIC_ACQUIRE) != ticket)
        __builtin_ia32_pause();
}

static inline void spinlock_release(struct spinlock *lock)
{
    __atomic_store_n(&lock->serving, lock->serving + 1, __ATOMIC_RELEASE);
}
