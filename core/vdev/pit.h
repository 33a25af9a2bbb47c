// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The 8254 interval timer of a PC and port 61H. Nothing ticks: the number of CLK pulses that have passed is
 * computed exactly from the partition's TSC, and each counter from that number.
 *
 * Counter 0's output is IRQ 0. Only its rising edges are kept to the moment; it is lowered just before the
 * next one, or when the guest programs the counter. Counter 2's gate and output are at port 61H, whose
 * refresh bit toggles every 18 CLK pulses.
 */
#include "core/vdev/vdev.h"

#define PIT_HZ          1193182
#define PIT_CHANNELS    3
#define PIT_PORT_SYSTEM 0x61 /* system control port B */

struct pit_channel {
    /* Control word. */
    uint8_t mode;   /* 0 to 5 */
    uint8_t access; /* 1 low byte, 2 high byte, 3 low then high */
    bool bcd;
    /* Count register: what the guest wrote. */
    uint32_t reload;  /* 1 to 65536 */
    uint8_t low_byte; /* the first of two bytes */
    bool high_next;   /* the next written byte is the second of two */
    bool written;     /* `reload` was written since the control word */
    bool null_count;  /* `reload` has not been loaded yet */
    /* Counting element; times are numbers of CLK pulses. */
    bool loaded;      /* since the control word */
    bool low_half;    /* mode 3: `start` began a low half */
    bool held;        /* not counting */
    uint32_t count;   /* what was loaded, 1 to 65536 */
    uint64_t start;   /* when it was loaded; not counting the time held */
    uint64_t elapsed; /* if held: pulses counted before */
    uint64_t load_at; /* when `reload` will be loaded, VDEV_NEVER if not known */
    bool gate;
    /* Output latches. */
    bool count_latched;
    bool status_latched;
    bool read_high; /* the next read byte is the second of two */
    uint8_t status;
    uint16_t latch;
};

struct pit {
    const struct vdev_host *host;
    struct pit_channel channels[PIT_CHANNELS];
    uint64_t deadline; /* partition TSC of the next rising edge of counter 0 */
    bool irq;          /* what IRQ 0 was last told */
    uint8_t system;    /* low four bits of port 61H */
};

/* Power-on state: no counter counts. `host` is kept. */
void pit_init(struct pit *pit, const struct vdev_host *host);

/* RESET: as after pit_init. */
void pit_reset(struct pit *pit);

/* One byte from or to port 40H to 43H or 61H. */
uint8_t pit_read(struct pit *pit, uint16_t port);
void pit_write(struct pit *pit, uint16_t port, uint8_t value);

/* The partition TSC at which pit_expire must be called, or VDEV_NEVER. */
static inline uint64_t pit_deadline(const struct pit *pit)
{
    return pit->deadline;
}

/* Signals IRQ 0 if counter 0's output has risen; does nothing before. Edges that were missed are one. */
void pit_expire(struct pit *pit, uint64_t now);
