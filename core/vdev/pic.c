// SPDX-License-Identifier: BSD-2-Clause
/* Two 8259A (Intel data sheet 231468), master and slave. */
#include "core/vdev/pic.h"

#define CASCADE               2 /* the master's input that the slave drives */
#define SPURIOUS              7 /* the input that a chip names when it has no request */

#define ICW1                  0x10
#define ICW1_WANTS_ICW4       0x01
#define ICW1_SINGLE           0x02
#define ICW4_AUTO_EOI         0x02
#define ICW4_NESTED           0x10

#define OCW2_EOI              0x20
#define OCW2_SPECIFIC         0x40
#define OCW2_ROTATE           0x80

#define OCW3                  0x08
#define OCW3_READ_ISR         0x01
#define OCW3_READ_SELECT      0x02
#define OCW3_POLL             0x04
#define OCW3_SPECIAL_MASK     0x20
#define OCW3_SPECIAL_MASK_SET 0x40

/* Inputs that can be made level-triggered: not timer, keyboard, cascade; not RTC, FPU error. */
static const uint8_t elcr_writable[2] = {0xf8, 0xde};

/* ---- One chip ----------------------------------------------------------------------------------------- */

/* How far from the highest priority: 0 to 7. */
static unsigned rank(const struct pic_chip *chip, unsigned input)
{
    return (input - chip->lowest - 1) & 7;
}

/* The input of highest priority in the set `inputs`, or -1. */
static int highest(const struct pic_chip *chip, uint8_t inputs)
{
    unsigned first = (chip->lowest + 1) & 7;
    unsigned twice = inputs | (unsigned)inputs << 8; /* so that a shift rotates */

    if (inputs == 0)
        return -1;
    return (int)(((unsigned)__builtin_ctz(twice >> first) + first) & 7);
}

/* What is in service and counts: in special mask mode masked inputs do not. */
static uint8_t in_service(const struct pic_chip *chip)
{
    return chip->special_mask ? chip->isr & (uint8_t)~chip->imr : chip->isr;
}

/* The input that the chip asks to be acknowledged, or -1. */
static int request(const struct pic_chip *chip)
{
    int asking = highest(chip, chip->irr & (uint8_t)~chip->imr);
    int serving = highest(chip, in_service(chip));

    if (asking < 0 || serving < 0)
        return asking;
    if (rank(chip, (unsigned)asking) < rank(chip, (unsigned)serving))
        return asking;
    /* Special fully nested mode: the slave may ask again while it is served. */
    if (chip->fully_nested && asking == CASCADE && serving == CASCADE)
        return asking;
    return -1;
}

static void set_line(struct pic_chip *chip, unsigned input, bool level)
{
    uint8_t bit = (uint8_t)(1u << input);
    bool rising = level && !(chip->lines & bit);

    if (!level) {
        chip->lines &= (uint8_t)~bit;
        chip->irr &= (uint8_t)~bit;
        return;
    }
    chip->lines |= bit;
    if (rising || (chip->elcr & bit))
        chip->irr |= bit;
}

/* Acknowledges the chip's request: the input, or -1 if there is none. */
static int acknowledge(struct pic_chip *chip)
{
    int input = request(chip);
    uint8_t bit;

    if (input < 0)
        return -1;
    bit = (uint8_t)(1u << input);
    chip->irr &= (uint8_t) ~(bit & ~chip->elcr);
    if (!chip->auto_eoi)
        chip->isr |= bit;
    else if (chip->rotate_auto)
        chip->lowest = (uint8_t)input;
    return input;
}

static void write_icw1(struct pic_chip *chip, uint8_t value)
{
    /* The latches of edge-triggered inputs are cleared, a level speaks for itself. */
    *chip = (struct pic_chip){
        .lines = chip->lines,
        .irr = chip->lines & chip->elcr,
        .elcr = chip->elcr,
        .vector_base = chip->vector_base,
        .lowest = 7,
        .next_icw = 2,
        .single = (value & ICW1_SINGLE) != 0,
        .wants_icw4 = (value & ICW1_WANTS_ICW4) != 0,
    };
}

static void write_ocw2(struct pic_chip *chip, uint8_t value)
{
    int input = value & OCW2_SPECIFIC ? value & 7 : highest(chip, in_service(chip));

    switch (value & (OCW2_ROTATE | OCW2_SPECIFIC | OCW2_EOI)) {
    case 0:
        chip->rotate_auto = false;
        break;
    case OCW2_ROTATE:
        chip->rotate_auto = true;
        break;
    case OCW2_SPECIFIC: /* no operation */
        break;
    case OCW2_ROTATE | OCW2_SPECIFIC:
        chip->lowest = (uint8_t)input;
        break;
    default: /* the four ends of interrupt */
        if (input < 0)
            break;
        chip->isr &= (uint8_t) ~(1u << input);
        if (value & OCW2_ROTATE)
            chip->lowest = (uint8_t)input;
        break;
    }
}

static void write_ocw3(struct pic_chip *chip, uint8_t value)
{
    chip->poll = (value & OCW3_POLL) != 0;
    if (value & OCW3_READ_SELECT)
        chip->read_isr = (value & OCW3_READ_ISR) != 0;
    if (value & OCW3_SPECIAL_MASK_SET)
        chip->special_mask = (value & OCW3_SPECIAL_MASK) != 0;
}

static void write_even(struct pic_chip *chip, uint8_t value)
{
    if (value & ICW1)
        write_icw1(chip, value);
    else if (value & OCW3)
        write_ocw3(chip, value);
    else
        write_ocw2(chip, value);
}

static void write_odd(struct pic_chip *chip, uint8_t value, bool master)
{
    uint8_t last = chip->wants_icw4 ? 4 : 0;

    switch (chip->next_icw) {
    case 2:
        chip->vector_base = value & 0xf8;
        chip->next_icw = chip->single ? last : 3;
        break;
    case 3: /* says how the chips are wired, which they know */
        chip->next_icw = last;
        break;
    case 4:
        chip->auto_eoi = (value & ICW4_AUTO_EOI) != 0;
        chip->fully_nested = master && (value & ICW4_NESTED);
        chip->next_icw = 0;
        break;
    default:
        chip->imr = value;
        break;
    }
}

/* ---- The pair ----------------------------------------------------------------------------------------- */

static void set_output(struct pic *pic, bool level)
{
    if (pic->level == level)
        return;
    __atomic_store_n(&pic->level, level, __ATOMIC_RELEASE);
    pic->output(pic->host->context, level);
}

/* Lets a change at the inputs go through slave and master to the output. */
static void propagate(struct pic *pic)
{
    set_line(&pic->chips[0], CASCADE, request(&pic->chips[1]) >= 0);
    set_output(pic, request(&pic->chips[0]) >= 0);
}

/* An acknowledge takes INT down; if there is another request it comes up again, which is an edge. */
static int acknowledge_chip(struct pic *pic, unsigned index)
{
    int input = acknowledge(&pic->chips[index]);

    if (index == 1)
        set_line(&pic->chips[0], CASCADE, false);
    else
        set_output(pic, false);
    return input;
}

uint8_t pic_take(struct pic *pic)
{
    struct pic_chip *chip = &pic->chips[0];
    int input = acknowledge_chip(pic, 0);

    if (input == CASCADE) {
        chip = &pic->chips[1];
        input = acknowledge_chip(pic, 1);
    }
    propagate(pic);
    return chip->vector_base + (uint8_t)(input < 0 ? SPURIOUS : input);
}

bool pic_pending(const struct pic *pic)
{
    return __atomic_load_n(&pic->level, __ATOMIC_ACQUIRE);
}

void pic_set_line(struct pic *pic, unsigned line, bool level)
{
    if (line == CASCADE)
        return;
    set_line(&pic->chips[line / 8], line % 8, level);
    propagate(pic);
}

static uint8_t read_poll(struct pic *pic, unsigned index)
{
    int input = acknowledge_chip(pic, index);

    pic->chips[index].poll = false;
    propagate(pic);
    return input < 0 ? 0 : 0x80 | (uint8_t)input;
}

static uint8_t read_chip(struct pic *pic, unsigned index, bool odd)
{
    const struct pic_chip *chip = &pic->chips[index];

    if (chip->poll)
        return read_poll(pic, index);
    if (odd)
        return chip->imr;
    return chip->read_isr ? chip->isr : chip->irr;
}

uint8_t pic_read(struct pic *pic, uint16_t port)
{
    switch (port) {
    case 0x20:
    case 0x21:
        return read_chip(pic, 0, port & 1);
    case 0xa0:
    case 0xa1:
        return read_chip(pic, 1, port & 1);
    case 0x4d0:
    case 0x4d1:
        return pic->chips[port & 1].elcr;
    default:
        return 0xff;
    }
}

void pic_write(struct pic *pic, uint16_t port, uint8_t value)
{
    struct pic_chip *chip;

    switch (port) {
    case 0x20:
    case 0xa0:
        write_even(&pic->chips[port >> 7], value);
        break;
    case 0x21:
    case 0xa1:
        write_odd(&pic->chips[port >> 7], value, port == 0x21);
        break;
    case 0x4d0:
    case 0x4d1:
        chip = &pic->chips[port & 1];
        chip->elcr = value & elcr_writable[port & 1];
        chip->irr |= chip->lines & chip->elcr;
        break;
    default:
        break;
    }
    propagate(pic);
}

void pic_reset(struct pic *pic)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pic->chips); i++) {
        struct pic_chip *chip = &pic->chips[i];

        *chip = (struct pic_chip){.lines = chip->lines, .imr = 0xff, .lowest = 7};
    }
    propagate(pic);
}

void pic_init(struct pic *pic, const struct vdev_host *host, void (*output)(void *context, bool level))
{
    *pic = (struct pic){.host = host, .output = output};
    pic_reset(pic);
}
