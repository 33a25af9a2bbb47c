// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/pit.c and lib/muldiv.h: each mode's waveform as the data sheet draws it, random programs against
 * a model that counts one CLK pulse at a time, and long runs against exact arithmetic. Fails when a count, a
 * status, an output or an edge of IRQ 0 differs in any pulse.
 */
#include "core/vdev/pit.h"
#include "lib/muldiv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct pit pit;
static uint64_t now;
static unsigned edges;
static bool irq;

static uint64_t read_now(void *context)
{
    (void)context;
    return now;
}

static void set_irq(void *context, unsigned line, bool level)
{
    (void)context;
    assert_int_equal(line, 0);
    assert_int_not_equal(irq, level);
    irq = level;
    edges += level;
}

static const struct vdev_ops ops = {.now = read_now, .set_irq = set_irq};
static struct vdev_host host = {.ops = &ops};

static void start(uint64_t tsc_hz, uint64_t tsc)
{
    host.tsc_hz = tsc_hz;
    now = tsc;
    edges = 0;
    irq = false;
    pit_init(&pit, &host);
}

/* One tick of the TSC is one CLK pulse. */
static int setup(void **state)
{
    (void)state;
    start(PIT_HZ, 1000);
    return 0;
}

static void tick(void)
{
    now++;
    if (now >= pit_deadline(&pit))
        pit_expire(&pit, now);
}

/* ---- Waveforms ---------------------------------------------------------------------------------------- */

static bool out2(void)
{
    return pit_read(&pit, 0x61) & 0x20;
}

static unsigned latched2(void)
{
    unsigned low;

    pit_write(&pit, 0x43, 0x80);
    low = pit_read(&pit, 0x42);
    return low | (unsigned)pit_read(&pit, 0x42) << 8;
}

/* Counter 2 with a count, from the pulse after the write or trigger on: output, and the count in hexadecimal.
 */
static const struct waveform {
    uint8_t mode;
    uint16_t count;
    bool trigger; /* by the gate, else it is up all the time */
    bool before;  /* output just after the write or trigger */
    const char *output;
    const char *counts;
} waveforms[] = {
    {0, 4, false, false, "LLLLHHHH", "43210FED"},
    {1, 3, true, true, "LLLHHHHH", "3210FEDC"},
    {2, 3, false, true, "HHLHHLHHL", "321321321"},
    {2, 2, false, true, "HLHLHL", "212121"},
    {3, 4, false, true, "HHLLHHLLHH", "4242424242"},
    {3, 5, false, true, "HHHLLHHHLLHHHLLH", "4204242042420424"},
    {3, 2, false, true, "HLHLHL", "222222"},
    {3, 3, false, true, "HHLHHLHHL", "202202202"},
    {4, 3, false, true, "HHHLHHHH", "3210FEDC"},
    {5, 3, true, true, "HHHLHHHH", "3210FEDC"},
};

static void waveform(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(waveforms); i++) {
        const struct waveform *wave = &waveforms[i];

        setup(NULL);
        pit_write(&pit, 0x61, wave->trigger ? 0 : 1);
        pit_write(&pit, 0x43, (uint8_t)(0xb0 | wave->mode << 1));
        assert_int_equal(out2(), wave->mode != 0);
        pit_write(&pit, 0x42, (uint8_t)wave->count);
        pit_write(&pit, 0x42, 0);
        tick();
        tick();
        if (wave->trigger)
            pit_write(&pit, 0x61, 1);
        else
            now -= 2;
        assert_int_equal(out2(), wave->before);
        for (size_t pulse = 0; wave->output[pulse] != '\0'; pulse++) {
            char digit;

            tick();
            assert_int_equal(out2(), wave->output[pulse] == 'H');
            digit = "0123456789ABCDEF"[latched2() & 15];
            assert_int_equal(digit, wave->counts[pulse]);
        }
    }
}

static void port_61(void **state)
{
    (void)state;
    unsigned toggles = 0;
    uint8_t last;

    pit_write(&pit, 0x43, 0x90); /* at power-on the gate is down: loaded, but not counted */
    pit_write(&pit, 0x42, 3);
    now += 10;
    assert_false(out2());
    pit_write(&pit, 0x61, 0xff);
    assert_int_equal(pit_read(&pit, 0x61) & 0xcf, 0x0f);
    now += 3;
    assert_true(out2());
    for (pit_write(&pit, 0x61, 0x00); !(pit_read(&pit, 0x61) & 0x10); now++)
        ;
    assert_int_equal(pit_read(&pit, 0x61), 0x30); /* refresh and output, nothing else */
    pit_write(&pit, 0x61, 0x0f);
    pit_reset(&pit);
    assert_int_equal(pit_read(&pit, 0x61) & 0xcf, 0x00);
    pit_write(&pit, 0x61, 0x0f);
    assert_int_equal(pit_read(&pit, 0x61) & 0xcf, 0x0f);
    pit_write(&pit, 0x61, 0x00);
    assert_int_equal(pit_read(&pit, 0x61) & 0xcf, 0x00);
    last = pit_read(&pit, 0x61);
    for (unsigned pulse = 0; pulse < 1800; pulse++) {
        tick();
        toggles += ((pit_read(&pit, 0x61) ^ last) & 0x10) != 0;
        last = pit_read(&pit, 0x61);
    }
    assert_int_equal(toggles, 100);
    assert_int_equal(pit_read(&pit, 0x43), 0xff);
}

/* Status before count, each held until read; the second of two latch commands is ignored. */
static void read_back(void **state)
{
    (void)state;
    pit_write(&pit, 0x43, 0x34);
    pit_write(&pit, 0x43, 0xe2);
    assert_int_equal(pit_read(&pit, 0x40), 0xf4); /* output high, null count */
    pit_write(&pit, 0x40, 0x34);
    pit_write(&pit, 0x40, 0x12);
    tick();
    pit_write(&pit, 0x43, 0xc2); /* count and status */
    now += 5;
    pit_write(&pit, 0x43, 0xc2);
    assert_int_equal(pit_read(&pit, 0x40), 0xb4);
    assert_int_equal(pit_read(&pit, 0x40), 0x34);
    now += 5;
    assert_int_equal(pit_read(&pit, 0x40), 0x12);
    assert_int_equal(pit_read(&pit, 0x40), 0x2a); /* live again */
    assert_int_equal(pit_read(&pit, 0x40), 0x12);
    pit_write(&pit, 0x43, 0x00);
    pit_write(&pit, 0x43, 0x34); /* a new control word drops the latch */
    assert_int_equal(pit_read(&pit, 0x40), 0);
    pit_write(&pit, 0x43, 0x3f); /* modes 6 and 7 are 2 and 3 */
    pit_write(&pit, 0x43, 0xe2);
    assert_int_equal(pit_read(&pit, 0x40), 0xf7);
    pit_write(&pit, 0x43, 0x3c);
    pit_write(&pit, 0x43, 0xe2);
    assert_int_equal(pit_read(&pit, 0x40), 0xf4);
}

static void bcd(void **state)
{
    (void)state;
    pit_write(&pit, 0x61, 1);
    pit_write(&pit, 0x43, 0xb5);
    pit_write(&pit, 0x42, 0x00);
    pit_write(&pit, 0x42, 0x00);
    tick();
    assert_int_equal(latched2(), 0x0000); /* 10000 */
    tick();
    assert_int_equal(latched2(), 0x9999);
    now += 9998;
    assert_int_equal(latched2(), 0x0001);
    tick();
    assert_int_equal(latched2(), 0x0000);
    pit_write(&pit, 0x43, 0xb1);
    pit_write(&pit, 0x42, 0x01);
    pit_write(&pit, 0x42, 0x12);
    now += 3;
    assert_int_equal(latched2(), 0x1199);
    now += 1199;
    assert_int_equal(latched2(), 0x0000);
    tick();
    assert_int_equal(latched2(), 0x9999);
}

/* ---- IRQ 0 -------------------------------------------------------------------------------------------- */

static void program0(uint8_t control, unsigned count)
{
    pit_write(&pit, 0x43, control);
    pit_write(&pit, 0x40, (uint8_t)count);
    pit_write(&pit, 0x40, (uint8_t)(count >> 8));
}

static void irq_edges(void **state)
{
    (void)state;
    assert_int_equal(pit_deadline(&pit), VDEV_NEVER);
    program0(0x30, 100); /* mode 0: once */
    assert_int_equal(pit_deadline(&pit), 1101);
    assert_false(irq);
    pit_expire(&pit, 1100);
    assert_false(irq);
    now = 1101;
    pit_expire(&pit, now);
    assert_true(irq);
    assert_int_equal(pit_deadline(&pit), VDEV_NEVER);
    program0(0x30, 100); /* lowered by the control word */
    assert_false(irq);

    edges = 0;
    program0(0x34, 100); /* mode 2: its output is high, which is an edge */
    assert_int_equal(edges, 1);
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(pit_deadline(&pit), 1102 + i * 100);
        now = pit_deadline(&pit);
        pit_expire(&pit, now);
        assert_int_equal(edges, 1 + i);
        assert_true(irq);
    }
    now += 1050; /* ten edges missed are one */
    pit_expire(&pit, now);
    assert_int_equal(edges, 7);
    assert_int_equal(pit_deadline(&pit), 1102 + 1600);
    pit_write(&pit, 0x43, 0x00); /* latching changes nothing */
    assert_int_equal(pit_deadline(&pit), 1102 + 1600);
    assert_true(irq);
    pit_reset(&pit);
    assert_false(irq);
    assert_int_equal(pit_deadline(&pit), VDEV_NEVER);
}

/* An edge that is due when the guest writes is not lost. */
static void irq_before_write(void **state)
{
    (void)state;
    program0(0x30, 10);
    now += 20;
    pit_write(&pit, 0x43, 0x34);
    assert_int_equal(edges, 1);
}

/* Edges lie where exact arithmetic puts them, also after ten million periods, whatever the TSC's frequency.
 */
static void no_drift(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1000000007, 2099999999, 3500000000};

    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        uint64_t first = 987654321987654321 / (i + 1), pulse;

        start(rates[i], first);
        pulse = (uint64_t)((unsigned __int128)first * PIT_HZ / rates[i]);
        program0(0x34, 11932);
        for (uint64_t n = 1; n <= 100000; n++) {
            uint64_t wanted = pulse + 1 + n * 11932;
            unsigned __int128 product = (unsigned __int128)wanted * rates[i];

            assert_true(pit_deadline(&pit) == (uint64_t)((product + PIT_HZ - 1) / PIT_HZ));
            now = pit_deadline(&pit) + n % 5000;
            pit_expire(&pit, now);
        }
        assert_int_equal(edges, 100001); /* and that of the control word */
        now = first + 10000000ULL * 11932 / PIT_HZ * rates[i];
        pit_expire(&pit, now);
        pit_write(&pit, 0x43, 0x00);
        pulse = ((uint64_t)((unsigned __int128)now * PIT_HZ / rates[i]) - pulse - 1) % 11932;
        assert_int_equal(pit_read(&pit, 0x40), (11932 - pulse) & 0xff);
        assert_int_equal(pit_read(&pit, 0x40), (11932 - pulse) >> 8);
    }
}

/* Count 1 in modes 2 and 3 is the guest's mistake: the output never rises, and nothing else happens. */
static void illegal_count(void **state)
{
    (void)state;
    for (uint8_t control = 0x14; control <= 0x16; control += 2) {
        setup(NULL);
        pit_write(&pit, 0x43, control);
        edges = 0;
        for (unsigned pulse = 0; pulse < 20; pulse++) {
            if (pulse % 8 == 0)
                pit_write(&pit, 0x40, 1);
            assert_int_equal(pit_deadline(&pit), VDEV_NEVER);
            tick();
            assert_true(pit_read(&pit, 0x40) <= 1);
        }
        assert_int_equal(edges, 0);
    }
}

static void muldiv(void **state)
{
    (void)state;
    uint64_t seed = 3, value[3];

    for (unsigned step = 0; step < 100000; step++) {
        for (unsigned i = 0; i < 3; i++) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            value[i] = (seed ^ seed >> 29) >> (seed >> 58);
        }
        if (value[2] == 0) {
            assert_true(muldiv_u64(value[0], value[1], 0) == UINT64_MAX);
        } else {
            unsigned __int128 product = (unsigned __int128)value[0] * value[1];
            unsigned __int128 down = product / value[2];
            unsigned __int128 up = down + (product % value[2] != 0);

            assert_true(muldiv_u64(value[0], value[1], value[2]) ==
                        (down >> 64 ? UINT64_MAX : (uint64_t)down));
            assert_true(muldiv_up_u64(value[0], value[1], value[2]) ==
                        (up >> 64 ? UINT64_MAX : (uint64_t)up));
        }
    }
}

/* ---- The model: a counter that counts ----------------------------------------------------------------- */

struct counter {
    unsigned mode, access;
    bool bcd, gate, out, null, written, loaded, load_next, expired, second, odd;
    int register_count, element;
    uint8_t first_byte;
    bool status_latched, count_latched, read_second;
    uint8_t status;
    unsigned latch;
};

static struct counter counters[3];

static void count_down(struct counter *c, int by)
{
    c->element -= by;
    if (c->element < 0)
        c->element += c->bcd ? 10000 : 65536;
}

static void counter_load(struct counter *c)
{
    c->element = c->register_count;
    c->odd = c->mode == 3 && c->element % 2;
    c->element -= c->odd;
    c->null = false;
    c->loaded = true;
    c->expired = false;
}

static void counter_tick(struct counter *c)
{
    bool counts = c->gate && !(c->mode == 0 && c->second);

    if (c->load_next) {
        c->load_next = false;
        counter_load(c);
        c->out = c->mode != 0 && c->mode != 1;
        return;
    }
    if (!c->loaded)
        return;
    switch (c->mode) {
    case 0:
    case 1:
        if (c->mode == 0 && !counts)
            break;
        count_down(c, 1);
        if (c->element == 0 && !c->expired)
            c->expired = c->out = true;
        break;
    case 2:
        if (!counts)
            break;
        count_down(c, 1);
        if (c->element == 0) {
            counter_load(c);
            c->out = true;
        } else if (c->element == 1) {
            c->out = false;
        }
        break;
    case 3:
        if (!counts)
            break;
        if (!(c->odd && c->out && c->element == 0)) {
            count_down(c, 2);
            if (c->element != 0 || (c->odd && c->out))
                break;
        }
        c->out = !c->out;
        counter_load(c);
        break;
    default: /* a low gate freezes a strobe of mode 4 too */
        if (c->mode == 4 && !counts)
            break;
        count_down(c, 1);
        c->out = c->expired || c->element != 0;
        c->expired |= c->element == 0;
        break;
    }
}

static void counter_gate(struct counter *c, bool gate)
{
    bool rising = gate && !c->gate, periodic = c->mode == 2 || c->mode == 3;

    c->gate = gate;
    if (rising && c->written && (periodic || c->mode == 1 || c->mode == 5))
        c->load_next = true;
    if (!gate && periodic)
        c->out = true;
}

static void counter_control(struct counter *c, uint8_t control)
{
    bool gate = c->gate;

    *c = (struct counter){.gate = gate, .access = control >> 4 & 3, .bcd = control & 1, .null = true};
    c->mode = control >> 1 & 7;
    if (c->mode > 5)
        c->mode -= 4;
    c->out = c->mode != 0;
}

static void counter_count(struct counter *c, unsigned value)
{
    int count = (int)value;

    if (c->bcd) {
        count = 0;
        for (int shift = 12; shift >= 0; shift -= 4)
            count = count * 10 + (value >> shift & 15);
    }
    if (count == 0)
        count = c->bcd ? 10000 : 65536;
    c->register_count = count;
    c->written = c->null = true;
    if (c->mode == 0)
        c->out = false;
    if (c->mode == 0 || c->mode == 4 || ((c->mode == 2 || c->mode == 3) && !c->loaded))
        c->load_next = true;
}

static void counter_write(struct counter *c, uint8_t byte)
{
    if (c->access == 1) {
        counter_count(c, byte);
    } else if (c->access == 2) {
        counter_count(c, byte * 256u);
    } else if (c->second) {
        c->second = false;
        counter_count(c, byte * 256u + c->first_byte);
    } else {
        c->second = true;
        c->first_byte = byte;
        if (c->mode == 0)
            c->out = false;
    }
}

static unsigned counter_value(const struct counter *c)
{
    int value = c->loaded ? c->element : 0;

    if (!c->bcd)
        return (unsigned)value & 0xffff;
    return (unsigned)(value % 10 + value / 10 % 10 * 16 + value / 100 % 10 * 256 + value / 1000 % 10 * 4096);
}

static void counter_latch(struct counter *c)
{
    if (!c->count_latched)
        c->latch = counter_value(c);
    c->count_latched = true;
}

static void counter_latch_status(struct counter *c)
{
    if (!c->status_latched)
        c->status = (uint8_t)(c->out << 7 | c->null << 6 | c->access << 4 | c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static uint8_t counter_read(struct counter *c)
{
    unsigned value = c->count_latched ? c->latch : counter_value(c);

    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    if (c->access == 1 || c->access == 2) {
        c->count_latched = false;
        return (uint8_t)(c->access == 1 ? value : value >> 8);
    }
    c->read_second = !c->read_second;
    if (c->read_second)
        return (uint8_t)value;
    c->count_latched = false;
    return (uint8_t)(value >> 8);
}

static uint64_t seed;

static unsigned below(unsigned limit)
{
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)((seed >> 33) % limit);
}

/* Compares what can be seen of all counters, on copies: looking changes the latches. */
static void compare(void)
{
    struct pit saved = pit;

    assert_int_equal(out2(), counters[2].out);
    for (unsigned i = 0; i < 3; i++) {
        struct counter c = counters[i];

        pit_write(&pit, 0x43, (uint8_t)(0xc0 | 2u << i));
        counter_latch(&c);
        counter_latch_status(&c);
        for (unsigned byte = 0; byte < 3; byte++)
            assert_int_equal(pit_read(&pit, (uint16_t)(0x40 + i)), counter_read(&c));
    }
    pit = saved;
}

static unsigned model_edges;

static void model_tick(void)
{
    bool before = counters[0].out;

    for (unsigned i = 0; i < 3; i++)
        counter_tick(&counters[i]);
    model_edges += counters[0].out && !before;
    tick();
}

/* A new program for counter `i`; counts are short, since what is interesting happens at their ends. */
static void random_program(unsigned i)
{
    uint8_t control = (uint8_t)(i << 6 | (1 + below(3)) << 4 | below(8) << 1 | (below(4) == 0));

    pit_write(&pit, 0x43, control);
    counter_control(&counters[i], control);
}

/* Count 1 is not allowed in modes 2 and 3. */
static void random_count(unsigned i)
{
    struct counter *c = &counters[i];
    uint8_t byte = (uint8_t)(below(8) ? 2 + below(8) : below(256) & 0x77);

    if (c->access == 2 || c->second)
        byte = below(8) ? 0 : (uint8_t)below(2);
    if ((c->mode == 2 || c->mode == 3) && byte == 1 && (c->access == 1 || !c->second))
        byte = 2;
    pit_write(&pit, (uint16_t)(0x40 + i), byte);
    counter_write(c, byte);
}

static void random_latch(unsigned i)
{
    uint8_t control = (uint8_t)(i << 6);

    if (below(2)) {
        pit_write(&pit, 0x43, control);
        counter_latch(&counters[i]);
        return;
    }
    control = (uint8_t)(0xc0 | below(64));
    pit_write(&pit, 0x43, control);
    for (i = 0; i < 3; i++) {
        if (!(control >> (i + 1) & 1))
            continue;
        if (!(control & 0x20))
            counter_latch(&counters[i]);
        if (!(control & 0x10))
            counter_latch_status(&counters[i]);
    }
}

static void random_step(void)
{
    unsigned i = below(3), ticks;
    bool before = counters[0].out;

    switch (below(8)) {
    case 0:
        if (below(4) == 0)
            random_program(i);
        break;
    case 1:
    case 2:
        random_count(i);
        break;
    case 3:
        assert_int_equal(pit_read(&pit, (uint16_t)(0x40 + i)), counter_read(&counters[i]));
        break;
    case 4:
        random_latch(i);
        break;
    case 5:
        counter_gate(&counters[2], below(2));
        pit_write(&pit, 0x61, counters[2].gate);
        break;
    default:
        ticks = below(500) ? below(6) : below(70000);
        while (ticks-- > 0) {
            model_tick();
            before = counters[0].out;
            assert_int_equal(edges, model_edges);
        }
        break;
    }
    model_edges += counters[0].out && !before;
    assert_int_equal(edges, model_edges);
    compare();
}

static void model(void **state)
{
    (void)state;
    seed = 11;
    model_edges = 0;
    memset(counters, 0, sizeof(counters));
    for (unsigned i = 0; i < 3; i++) {
        counters[i].gate = i != 2;
        counter_control(&counters[i], 0x30);
    }
    for (unsigned step = 0; step < 200000; step++)
        random_step();
    assert_true(edges > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(waveform, setup),      cmocka_unit_test_setup(port_61, setup),
        cmocka_unit_test_setup(read_back, setup),     cmocka_unit_test_setup(bcd, setup),
        cmocka_unit_test_setup(irq_edges, setup),     cmocka_unit_test_setup(irq_before_write, setup),
        cmocka_unit_test_setup(illegal_count, setup), cmocka_unit_test_setup(no_drift, setup),
        cmocka_unit_test_setup(muldiv, setup),        cmocka_unit_test_setup(model, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
