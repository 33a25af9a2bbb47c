// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The two cascaded 8259A interrupt controllers of a PC, with the edge/level control registers of the PIIX
 * (ELCR; it decides the trigger mode, ICW1.LTIM is ignored). The slave is on input 2 of the master. A request
 * has to stay up until it is acknowledged, in edge mode too, as the data sheet has it.
 */
#include "core/vdev/vdev.h"

#define PIC_LINES 16

struct pic_chip {
    uint8_t lines;       /* levels of the inputs */
    uint8_t irr;         /* requests, not masked */
    uint8_t isr;         /* in service */
    uint8_t imr;         /* masked */
    uint8_t elcr;        /* level-triggered */
    uint8_t vector_base; /* ICW2 */
    uint8_t lowest;      /* the input that has the lowest priority; 7 unless rotated */
    uint8_t next_icw;    /* initialisation word expected next at the odd port, 2 to 4; 0: none, it is OCW1 */
    bool single;         /* ICW1: no ICW3 follows */
    bool wants_icw4;     /* ICW1 */
    bool auto_eoi;       /* ICW4 */
    bool fully_nested;   /* ICW4: special fully nested mode */
    bool rotate_auto;    /* OCW2: rotate in automatic EOI mode */
    bool special_mask;   /* OCW3 */
    bool poll;           /* OCW3: the next read is an acknowledge */
    bool read_isr;       /* OCW3: the even port reads ISR, not IRR */
};

struct pic {
    const struct vdev_host *host;
    void (*output)(void *context, bool level);
    bool level; /* of the master's INT output */
    struct pic_chip chips[2];
};

/*
 * Power-on state, all masked until the guest initialises the chips. `output` is called with the host's
 * context when the master's INT output changes (it goes to LINT0 of the local APICs and to pin 0 of the
 * IO-APIC). Host: kept.
 */
void pic_init(struct pic *pic, const struct vdev_host *host, void (*output)(void *context, bool level));

/* RESET: as after pic_init. The input lines keep their levels: they are the devices'. */
void pic_reset(struct pic *pic);

/* One byte from or to port 20H, 21H, A0H, A1H, 4D0H or 4D1H. */
uint8_t pic_read(struct pic *pic, uint16_t port);
void pic_write(struct pic *pic, uint16_t port, uint8_t value);

/* The level of input `line` (0 to 15; 2 is the cascade, and ignored). */
void pic_set_line(struct pic *pic, unsigned line, bool level);

/* True if the INT output is up. Alone of all here it may be asked by any processor at any time. */
bool pic_pending(const struct pic *pic);

/* The INTA cycle: acknowledges the highest request and returns its vector; without a request, the spurious
 * one. */
uint8_t pic_take(struct pic *pic);
