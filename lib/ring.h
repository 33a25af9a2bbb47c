// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A ring of bytes over a caller's buffer. A full ring drops its oldest byte and counts it, so that the newest
 * text of a console is always there: both ends move the head, so whoever shares a ring between processors
 * has a lock for it.
 */
#include "lib/types.h"

struct ring {
    char *buffer;     /* caller's, `size` bytes */
    size_t size;      /* a power of two */
    uint64_t head;    /* bytes ever taken or dropped */
    uint64_t tail;    /* bytes ever put */
    uint64_t dropped; /* bytes lost because the ring was full */
};

static inline void ring_init(struct ring *ring, char *buffer, size_t size)
{
    *ring = (struct ring){.buffer = buffer, .size = size};
}

static inline size_t ring_used(const struct ring *ring)
{
    return (size_t)(ring->tail - ring->head);
}

static inline void ring_put(struct ring *ring, char byte)
{
    if (ring_used(ring) == ring->size) {
        ring->head++;
        ring->dropped++;
    }
    ring->buffer[ring->tail++ & (ring->size - 1)] = byte;
}

/* Takes the oldest byte; false if there is none. */
static inline bool ring_get(struct ring *ring, char *byte)
{
    if (ring_used(ring) == 0)
        return false;
    *byte = ring->buffer[ring->head++ & (ring->size - 1)];
    return true;
}

/* Shows the oldest byte and leaves it; false if there is none. */
static inline bool ring_peek(const struct ring *ring, char *byte)
{
    if (ring_used(ring) == 0)
        return false;
    *byte = ring->buffer[ring->head & (ring->size - 1)];
    return true;
}
