// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/pic.c: the data sheet's commands one by one, and a random stream against a model that keeps the
 * inputs in a list sorted by priority. Fails when a register, the INT output or an acknowledged vector
 * differs.
 */
#include "core/vdev/pic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct pic pic;
static struct vdev_host host = {.context = &pic};
static bool intr;
static unsigned rises;

static void output(void *context, bool level)
{
    assert_ptr_equal(context, &pic);
    assert_int_not_equal(intr, level);
    intr = level;
    rises += level;
}

/* As a PC's firmware does it: vectors 20H and 28H, everything unmasked. `icw4` for both chips. */
static void start(uint8_t icw4)
{
    intr = false;
    rises = 0;
    pic_init(&pic, &host, output);
    pic_write(&pic, 0x20, 0x11);
    pic_write(&pic, 0x21, 0x20);
    pic_write(&pic, 0x21, 0x04);
    pic_write(&pic, 0x21, icw4);
    pic_write(&pic, 0xa0, 0x11);
    pic_write(&pic, 0xa1, 0x28);
    pic_write(&pic, 0xa1, 0x02);
    pic_write(&pic, 0xa1, icw4);
}

static int setup(void **state)
{
    (void)state;
    start(0x01);
    return 0;
}

static void raise(unsigned line)
{
    pic_set_line(&pic, line, false);
    pic_set_line(&pic, line, true);
}

static void acknowledges(int vector)
{
    assert_true(pic_pending(&pic));
    assert_true(intr);
    assert_int_equal(pic_take(&pic), vector);
}

static void quiet(void)
{
    assert_false(pic_pending(&pic));
    assert_false(intr);
}

static void power_on(void **state)
{
    (void)state;
    pic_init(&pic, &host, output);
    for (unsigned line = 0; line < PIC_LINES; line++)
        pic_set_line(&pic, line, true);
    quiet();
    assert_int_equal(pic_read(&pic, 0x21), 0xff);
    assert_int_equal(pic_read(&pic, 0xa1), 0xff);
    assert_int_equal(pic_read(&pic, 0x20), 0xfb); /* the slave does not ask */
    pic_write(&pic, 0x21, 0x00);
    acknowledges(0x00);
}

static void each_line(void **state)
{
    (void)state;
    for (unsigned line = 0; line < PIC_LINES; line++) {
        raise(line);
        if (line == 2) {
            quiet();
            continue;
        }
        acknowledges(0x20 + (int)line);
        quiet();
        pic_write(&pic, 0x20, 0x0b);
        assert_int_equal(pic_read(&pic, 0x20), line < 8 ? 1 << line : 1 << 2);
        pic_write(&pic, 0xa0, 0x0b);
        assert_int_equal(pic_read(&pic, 0xa0), line < 8 ? 0 : 1 << (line - 8));
        if (line >= 8)
            pic_write(&pic, 0xa0, 0x20);
        pic_write(&pic, 0x20, 0x20);
        quiet(); /* the line is still up: an edge is one interrupt */
        assert_int_equal(pic_read(&pic, 0x20), 0);
    }
}

static void fully_nested(void **state)
{
    (void)state;
    raise(5);
    acknowledges(0x25);
    raise(6); /* lower, and the same again: not before the end */
    raise(5);
    quiet();
    raise(9); /* by the cascade higher */
    acknowledges(0x29);
    raise(8); /* higher within the slave, but the master is serving its input 2 */
    quiet();
    raise(1);
    acknowledges(0x21);
    pic_write(&pic, 0x20, 0x20);
    quiet();
    pic_write(&pic, 0x20, 0x20);
    acknowledges(0x28);
    pic_write(&pic, 0xa0, 0x20);
    pic_write(&pic, 0xa0, 0x20);
    pic_write(&pic, 0x20, 0x20);
    pic_write(&pic, 0x20, 0x20);
    acknowledges(0x25);
    pic_write(&pic, 0x20, 0x20);
    acknowledges(0x26);
}

static void special_fully_nested(void **state)
{
    (void)state;
    start(0x11);
    raise(9);
    acknowledges(0x29);
    raise(3);
    quiet();
    raise(8);
    acknowledges(0x28);
    raise(9);
    quiet();
}

static void masks(void **state)
{
    (void)state;
    pic_write(&pic, 0x21, 0x08);
    raise(3);
    quiet();
    pic_write(&pic, 0x20, 0x0a);
    assert_int_equal(pic_read(&pic, 0x20), 0x08); /* IRR shows it */
    pic_write(&pic, 0x20, 0x09);                  /* ISR is not selected without the enable bit */
    assert_int_equal(pic_read(&pic, 0x20), 0x08);
    pic_write(&pic, 0x21, 0x00);
    acknowledges(0x23);
    pic_write(&pic, 0x20, 0x20);
    pic_write(&pic, 0x21, 0x04); /* masks the whole slave */
    raise(12);
    quiet();
    pic_write(&pic, 0x21, 0x00);
    acknowledges(0x2c);
}

static void edges_must_stay(void **state)
{
    (void)state;
    raise(3);
    assert_true(pic_pending(&pic));
    pic_set_line(&pic, 3, false);
    quiet();
    assert_int_equal(pic_take(&pic), 0x27); /* nobody asks: spurious, not in service */
    pic_write(&pic, 0x20, 0x0b);
    assert_int_equal(pic_read(&pic, 0x20), 0);
}

/* The slave's request is gone between the two INTA pulses: the master believes it, the slave answers with 7.
 */
static void spurious_slave(void **state)
{
    (void)state;
    pic_write(&pic, 0x20, 0x0c); /* poll the master: acknowledges input 2 only */
    raise(11);
    assert_int_equal(pic_read(&pic, 0x20), 0x82);
    pic_write(&pic, 0x20, 0x20);
    pic.chips[0].irr |= 1 << 2; /* its edge was seen, */
    pic.chips[1].irr = 0;       /* but the slave's input is down again */
    assert_int_equal(pic_take(&pic), 0x2f);
    pic_write(&pic, 0xa0, 0x0b);
    assert_int_equal(pic_read(&pic, 0xa0), 0);
    pic_write(&pic, 0x20, 0x0b);
    assert_int_equal(pic_read(&pic, 0x20), 1 << 2);
}

static void level_triggered(void **state)
{
    (void)state;
    pic_write(&pic, 0x4d0, 0xff);
    pic_write(&pic, 0x4d1, 0xff);
    assert_int_equal(pic_read(&pic, 0x4d0), 0xf8);
    assert_int_equal(pic_read(&pic, 0x4d1), 0xde);
    pic_set_line(&pic, 5, true);
    acknowledges(0x25);
    pic_write(&pic, 0x20, 0x20);
    acknowledges(0x25); /* still up */
    pic_set_line(&pic, 5, false);
    pic_write(&pic, 0x20, 0x20);
    quiet();
    pic_write(&pic, 0x4d0, 0);
    pic_set_line(&pic, 5, true);
    acknowledges(0x25);
    pic_write(&pic, 0x20, 0x20);
    quiet();
    pic_write(&pic, 0x4d0, 0x20); /* becomes level-triggered while up */
    acknowledges(0x25);
}

static void specific_eoi(void **state)
{
    (void)state;
    raise(5);
    acknowledges(0x25);
    raise(3);
    acknowledges(0x23);
    pic_write(&pic, 0x20, 0x65);
    pic_write(&pic, 0x20, 0x0b);
    assert_int_equal(pic_read(&pic, 0x20), 0x08);
    pic_write(&pic, 0x20, 0x43); /* no operation */
    assert_int_equal(pic_read(&pic, 0x20), 0x08);
    pic_write(&pic, 0x20, 0x63);
    assert_int_equal(pic_read(&pic, 0x20), 0x00);
}

static void rotation(void **state)
{
    (void)state;
    pic_write(&pic, 0x20, 0xc3); /* input 3 lowest: 4 is highest */
    raise(3);
    raise(4);
    raise(1);
    acknowledges(0x24);
    pic_write(&pic, 0x20, 0xa0); /* rotate on non-specific EOI: 5 is highest */
    raise(4);
    acknowledges(0x21);
    pic_write(&pic, 0x20, 0xe6); /* rotate on specific EOI, of one not in service */
    quiet();
    pic_write(&pic, 0x20, 0x20);
    acknowledges(0x23);
    pic_write(&pic, 0x20, 0x20);
    acknowledges(0x24);
}

static void automatic_eoi(void **state)
{
    (void)state;
    start(0x03);
    raise(0);
    raise(1);
    acknowledges(0x20);
    pic_write(&pic, 0x20, 0x0b);
    assert_int_equal(pic_read(&pic, 0x20), 0);
    acknowledges(0x21);
    pic_write(&pic, 0x20, 0x80); /* rotate in this mode */
    raise(0);
    raise(1);
    acknowledges(0x20);
    raise(0);
    acknowledges(0x21);
    pic_write(&pic, 0x20, 0x00);
    raise(1);
    acknowledges(0x20);
    raise(0);
    acknowledges(0x20);
    acknowledges(0x21);
    /* The slave in this mode asks again at once: its INT must make a new edge. */
    raise(8);
    raise(14);
    acknowledges(0x28);
    acknowledges(0x2e);
    quiet();
}

static void special_mask(void **state)
{
    (void)state;
    raise(3);
    acknowledges(0x23);
    raise(5);
    quiet();
    pic_write(&pic, 0x21, 0x08);
    quiet();
    pic_write(&pic, 0x20, 0x68);
    acknowledges(0x25);
    pic_write(&pic, 0x20, 0x20); /* ends 5; the masked 3 is not seen by a non-specific EOI */
    pic_write(&pic, 0x20, 0x20);
    pic_write(&pic, 0x20, 0x0b);
    assert_int_equal(pic_read(&pic, 0x20), 0x08);
    pic_write(&pic, 0x20, 0x08); /* neither the mode nor what is read changes without its enable bit */
    assert_int_equal(pic_read(&pic, 0x20), 0x08);
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(pic_read(&pic, 0x20), 0x08);
    pic_write(&pic, 0x20, 0x4b); /* off */
    pic_write(&pic, 0x20, 0x20);
    assert_int_equal(pic_read(&pic, 0x20), 0);
}

static void poll(void **state)
{
    (void)state;
    pic_write(&pic, 0x20, 0x0c);
    assert_int_equal(pic_read(&pic, 0x20), 0);
    raise(4);
    pic_write(&pic, 0x21, 0x01);
    pic_write(&pic, 0x20, 0x0c);
    assert_int_equal(pic_read(&pic, 0x21), 0x84); /* from either port, */
    assert_int_equal(pic_read(&pic, 0x21), 0x01); /* once */
    quiet();
    pic_write(&pic, 0x20, 0x20);
    raise(13);
    pic_write(&pic, 0xa0, 0x0c);
    assert_int_equal(pic_read(&pic, 0xa0), 0x85);
    quiet();
}

/* ICW1 alone ends what went on before. */
static void initialised_again(void **state)
{
    (void)state;
    pic_write(&pic, 0x4d0, 0x20);
    pic_set_line(&pic, 5, true);
    raise(6);
    raise(3);
    acknowledges(0x23);
    pic_write(&pic, 0x20, 0xc0);
    pic_write(&pic, 0x20, 0x6b);
    pic_write(&pic, 0x21, 0xff);
    pic_write(&pic, 0x20, 0x12);                  /* single, no ICW4: only ICW2 follows */
    assert_int_equal(pic_read(&pic, 0x20), 0x20); /* IRR: the level, not the edge */
    pic_write(&pic, 0x21, 0x77);
    assert_int_equal(pic_read(&pic, 0x21), 0);
    pic_write(&pic, 0x21, 0x01);
    assert_int_equal(pic_read(&pic, 0x21), 0x01);
    acknowledges(0x75);
    pic_write(&pic, 0x20, 0x11); /* with ICW3 and ICW4 */
    pic_write(&pic, 0x21, 0x20);
    pic_write(&pic, 0x21, 0xff);
    pic_write(&pic, 0x21, 0x01);
    assert_int_equal(pic_read(&pic, 0x21), 0);
    pic_write(&pic, 0x20, 0x13); /* single with ICW4 */
    pic_write(&pic, 0x21, 0x40);
    pic_write(&pic, 0x21, 0x03);
    assert_int_equal(pic_read(&pic, 0x21), 0);
    acknowledges(0x45);
    acknowledges(0x45); /* automatic EOI, level */
}

/* INT goes down with each acknowledge: an edge-triggered LINT0 sees every request. */
static void output_edges(void **state)
{
    (void)state;
    start(0x03);
    raise(3);
    raise(4);
    raise(5);
    assert_int_equal(rises, 1);
    acknowledges(0x23);
    assert_int_equal(rises, 2);
    acknowledges(0x24);
    assert_int_equal(rises, 3);
    acknowledges(0x25);
    assert_int_equal(rises, 3);
    raise(5);
    pic_reset(&pic);
    quiet();
}

/* ---- The model: everything spelled out in arrays ------------------------------------------------------ */

struct slow_chip {
    int order[8]; /* inputs, highest priority first */
    bool line[8], edge[8], level[8], mask[8], service[8];
    bool auto_eoi, rotate_auto, special_mask, nested;
};

static struct slow_chip slow[2];

static bool slow_asks(const struct slow_chip *chip, int input)
{
    return !chip->mask[input] && chip->line[input] && (chip->level[input] || chip->edge[input]);
}

static int slow_request(const struct slow_chip *chip)
{
    for (int place = 0; place < 8; place++) {
        int input = chip->order[place];
        bool serving = chip->service[input] && !(chip->special_mask && chip->mask[input]);

        if (serving)
            return chip->nested && input == 2 && slow_asks(chip, 2) ? 2 : -1;
        if (slow_asks(chip, input))
            return input;
    }
    return -1;
}

static void slow_line(struct slow_chip *chip, int input, bool level)
{
    if (level && !chip->line[input])
        chip->edge[input] = true;
    if (!level)
        chip->edge[input] = false;
    chip->line[input] = level;
}

static void slow_lowest(struct slow_chip *chip, int input)
{
    for (int place = 7; place >= 0; place--, input = (input + 7) % 8)
        chip->order[place] = input;
}

static void slow_update(void)
{
    slow_line(&slow[0], 2, slow_request(&slow[1]) >= 0);
}

static int slow_acknowledge(unsigned index)
{
    struct slow_chip *chip = &slow[index];
    int input = slow_request(chip);

    if (index == 1)
        slow_line(&slow[0], 2, false);
    if (input < 0)
        return -1;
    chip->edge[input] = false;
    if (!chip->auto_eoi)
        chip->service[input] = true;
    else if (chip->rotate_auto)
        slow_lowest(chip, input);
    return input;
}

static int slow_take(void)
{
    int input = slow_acknowledge(0), vector = 0x20 + (input < 0 ? 7 : input);

    if (input == 2) {
        input = slow_acknowledge(1);
        vector = 0x28 + (input < 0 ? 7 : input);
    }
    slow_update();
    return vector;
}

static void slow_end(struct slow_chip *chip, int input, bool rotate)
{
    for (int place = 0; input < 0 && place < 8; place++) {
        int candidate = chip->order[place];

        if (chip->service[candidate] && !(chip->special_mask && chip->mask[candidate]))
            input = candidate;
    }
    if (input < 0)
        return;
    chip->service[input] = false;
    if (rotate)
        slow_lowest(chip, input);
}

static uint8_t bits(const bool *flags)
{
    uint8_t value = 0;

    for (int i = 0; i < 8; i++)
        value |= (uint8_t)(flags[i] << i);
    return value;
}

static uint8_t slow_irr(const struct slow_chip *chip)
{
    bool asks[8];

    for (int i = 0; i < 8; i++)
        asks[i] = chip->line[i] && (chip->level[i] || chip->edge[i]);
    return bits(asks);
}

static uint64_t seed;

static int below(int limit)
{
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (int)((seed >> 33) % (unsigned)limit);
}

static void random_ocw2(unsigned index)
{
    uint16_t port = index ? 0xa0 : 0x20;
    struct slow_chip *chip = &slow[index];
    int input = below(8);

    switch (below(12)) {
    case 0:
        pic_write(&pic, port, (uint8_t)(0xc0 | input));
        slow_lowest(chip, input);
        break;
    case 1:
        pic_write(&pic, port, 0x80);
        chip->rotate_auto = true;
        break;
    case 2:
        pic_write(&pic, port, 0x00);
        chip->rotate_auto = false;
        break;
    case 3:
        pic_write(&pic, port, 0xa0);
        slow_end(chip, -1, true);
        break;
    case 4:
        pic_write(&pic, port, (uint8_t)(0xe0 | input));
        slow_end(chip, input, true);
        break;
    case 5:
        pic_write(&pic, port, (uint8_t)(0x60 | input));
        slow_end(chip, input, false);
        break;
    default:
        pic_write(&pic, port, 0x20);
        slow_end(chip, -1, false);
        break;
    }
}

static void random_step(void)
{
    unsigned index = (unsigned)below(2);
    struct slow_chip *chip = &slow[index];
    int line = below(PIC_LINES), value, input;
    bool level = below(2);

    switch (below(16)) {
    case 0 ... 6:
        pic_set_line(&pic, (unsigned)line, level);
        if (line != 2)
            slow_line(&slow[line / 8], line % 8, level);
        break;
    case 7 ... 9:
        if (slow_request(&slow[0]) < 0 && below(4))
            break;
        assert_int_equal(pic_take(&pic), slow_take());
        break;
    case 10 ... 12:
        random_ocw2(index);
        break;
    case 13:
        value = below(4) ? below(256) & below(256) : 0;
        pic_write(&pic, index ? 0xa1 : 0x21, (uint8_t)value);
        for (int i = 0; i < 8; i++)
            chip->mask[i] = value >> i & 1;
        break;
    case 14:
        chip->special_mask = below(4) == 0;
        pic_write(&pic, index ? 0xa0 : 0x20, chip->special_mask ? 0x68 : 0x48);
        break;
    default:
        if (below(4)) {
            pic_write(&pic, index ? 0xa0 : 0x20, 0x0c);
            input = slow_acknowledge(index);
            assert_int_equal(pic_read(&pic, index ? 0xa0 : 0x20), input < 0 ? 0 : 0x80 | input);
        } else {
            /* Only inputs that are down: an edge that is remembered across a change is nobody's business. */
            value = below(256) & (index ? 0xde : 0xf8) & ~bits(chip->line);
            value |= bits(chip->level) & bits(chip->line);
            pic_write(&pic, (uint16_t)(0x4d0 + index), (uint8_t)value);
            for (int i = 0; i < 8; i++)
                chip->level[i] = value >> i & 1;
        }
        break;
    }
    slow_update();
}

static void model(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        seed = round;
        start((uint8_t)(1 | (round & 1) << 1 | (round & 2) << 3));
        memset(slow, 0, sizeof(slow));
        for (unsigned i = 0; i < 2; i++) {
            slow_lowest(&slow[i], 7);
            slow[i].auto_eoi = round & 1;
            slow[i].nested = i == 0 && (round & 2);
        }
        for (unsigned step = 0; step < 40000; step++) {
            random_step();
            assert_int_equal(pic_pending(&pic), slow_request(&slow[0]) >= 0);
            for (unsigned i = 0; i < 2; i++) {
                uint16_t port = i ? 0xa0 : 0x20;

                pic_write(&pic, port, 0x0a);
                assert_int_equal(pic_read(&pic, port), slow_irr(&slow[i]));
                pic_write(&pic, port, 0x0b);
                assert_int_equal(pic_read(&pic, port), bits(slow[i].service));
                assert_int_equal(pic_read(&pic, port + 1), bits(slow[i].mask));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(power_on, setup),       cmocka_unit_test_setup(each_line, setup),
        cmocka_unit_test_setup(fully_nested, setup),   cmocka_unit_test_setup(special_fully_nested, setup),
        cmocka_unit_test_setup(masks, setup),          cmocka_unit_test_setup(edges_must_stay, setup),
        cmocka_unit_test_setup(spurious_slave, setup), cmocka_unit_test_setup(level_triggered, setup),
        cmocka_unit_test_setup(specific_eoi, setup),   cmocka_unit_test_setup(rotation, setup),
        cmocka_unit_test_setup(automatic_eoi, setup),  cmocka_unit_test_setup(special_mask, setup),
        cmocka_unit_test_setup(poll, setup),           cmocka_unit_test_setup(initialised_again, setup),
        cmocka_unit_test_setup(output_edges, setup),   cmocka_unit_test_setup(model, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
