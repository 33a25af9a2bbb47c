// SPDX-License-Identifier: BSD-2-Clause
/* core/vdev/uart.c, register by register, and the probes that Linux's 8250 driver makes of a port. */
#include "core/vdev/uart.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/fake_host.h"

#define IRQ    4
#define TSC_HZ 115200000ULL /* 1000 ticks a bit at full speed */

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static struct fake_host fake;
static struct uart uart;

static int set_up(void **state)
{
    (void)state;
    fake_host_init(&fake, TSC_HZ);
    uart_init(&uart, &fake.host, IRQ, true);
    return 0;
}

static uint8_t in(unsigned offset)
{
    return uart_read(&uart, offset);
}

static void out(unsigned offset, uint8_t value)
{
    uart_write(&uart, offset, value);
}

static void receive(const char *text)
{
    for (; *text; text++)
        assert_true(uart_receive(&uart, (uint8_t)*text));
}

static void advance(uint64_t ticks)
{
    fake.now += ticks;
    uart_expire(&uart, fake.now);
}

/* Fails when a register holds bits that the chip has not, or DLAB does not switch. */
static void registers(void **state)
{
    (void)state;
    assert_int_equal(in(IIR), 0x01);
    assert_int_equal(in(LSR), 0x60);
    assert_int_equal(in(MSR), 0xb0);
    out(IER, 0xff);
    assert_int_equal(in(IER), 0x0f);
    out(IER, 0);
    out(MCR, 0xef);
    assert_int_equal(in(MCR), 0x0f);
    out(SCR, 0x5a);
    assert_int_equal(in(SCR), 0x5a);
    out(LSR, 0);
    out(MSR, 0);
    assert_int_equal(in(LSR), 0x60);
    assert_int_equal(in(MSR), 0xb0);

    out(LCR, 0x83);
    out(DATA, 0x34);
    out(IER, 0x12);
    assert_int_equal(in(DATA), 0x34);
    assert_int_equal(in(IER), 0x12);
    assert_int_equal(fake.console_length, 0);
    out(LCR, 0x03);
    assert_int_equal(in(LCR), 0x03);
    assert_int_equal(in(IER), 0);
    out(LCR, 0x80);
    assert_int_equal(in(DATA), 0x34);
    assert_int_equal(in(IER), 0x12);
}

/* Fails when a byte is not written at once, or the transmitter ever looks busy. */
static void transmits(void **state)
{
    (void)state;
    for (const char *byte = "hello"; *byte; byte++) {
        out(DATA, (uint8_t)*byte);
        assert_int_equal(in(LSR), 0x60);
    }
    assert_string_equal(fake.console, "hello");
    assert_int_equal(fake.rises[IRQ], 0);
}

/* Fails when the THRE interrupt does not come on enabling, does not go by IIR, or does not come again for
 * each byte. */
static void thre_interrupt(void **state)
{
    (void)state;
    out(MCR, 0x08);
    out(IER, 0x02);
    assert_true(fake.irq[IRQ]);
    assert_int_equal(in(IIR), 0x02);
    assert_false(fake.irq[IRQ]);
    assert_int_equal(in(IIR), 0x01);

    /* Once more, though the transmitter has been empty all the time. */
    out(IER, 0x00);
    out(IER, 0x02);
    assert_true(fake.irq[IRQ]);
    assert_int_equal(in(IIR), 0x02);

    /* Writing what is already enabled is no enabling. */
    out(IER, 0x03);
    assert_false(fake.irq[IRQ]);

    out(DATA, 'a');
    assert_int_equal(fake.rises[IRQ], 3);
    /* A driver that does not read IIR sees an edge for each byte all the same. */
    out(DATA, 'b');
    assert_int_equal(fake.rises[IRQ], 4);
    assert_true(fake.irq[IRQ]);
    assert_int_equal(in(IIR), 0x02);

    /* IIR that reports something higher does not use it up. */
    out(DATA, 'c');
    receive("x");
    assert_int_equal(in(IIR), 0x04);
    assert_int_equal(in(DATA), 'x');
    assert_true(fake.irq[IRQ]);
    assert_int_equal(in(IIR), 0x02);
}

/* Fails when OUT2 does not gate the interrupt, or loopback leaves the gate open. */
static void out2_gate(void **state)
{
    (void)state;
    out(IER, 0x02);
    assert_false(fake.irq[IRQ]);
    assert_int_equal(in(IIR), 0x02);
    out(IER, 0x00);
    out(IER, 0x02);
    out(MCR, 0x08);
    assert_true(fake.irq[IRQ]);
    out(MCR, 0x18);
    assert_false(fake.irq[IRQ]);
    out(MCR, 0x08);
    assert_true(fake.irq[IRQ]);
    out(MCR, 0x00);
    assert_false(fake.irq[IRQ]);
}

/* Fails when bytes are lost, reordered, or taken beyond the room there is. */
static void receives(void **state)
{
    (void)state;
    /* Without FIFOs there is room for one. */
    receive("a");
    assert_false(uart_receive(&uart, 'b'));
    assert_int_equal(in(LSR), 0x61);
    assert_int_equal(in(DATA), 'a');
    assert_int_equal(in(LSR), 0x60);

    out(IIR, 0x01);
    assert_int_equal(in(IIR), 0xc1);
    receive("0123456789abcdef");
    assert_false(uart_receive(&uart, 'g'));
    for (const char *byte = "0123456789"; *byte; byte++)
        assert_int_equal(in(DATA), *byte);
    receive("ghijklmnop");
    for (const char *byte = "abcdefghijklmnop"; *byte; byte++) {
        assert_int_equal(in(LSR), 0x61);
        assert_int_equal(in(DATA), *byte);
    }
    assert_int_equal(in(LSR), 0x60);
    assert_int_equal(in(DATA), 0);
}

/* Fails when the interrupt does not follow each of the four trigger levels both ways. */
static void trigger_levels(void **state)
{
    static const unsigned levels[] = {1, 4, 8, 14};

    (void)state;
    out(MCR, 0x08);
    out(IER, 0x01);
    for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
        out(IIR, (uint8_t)(i << 6 | 0x03));
        for (unsigned count = 1; count <= UART_FIFO_SIZE; count++) {
            receive("x");
            assert_int_equal(fake.irq[IRQ], count >= levels[i]);
            assert_int_equal(in(IIR), count >= levels[i] ? 0xc4 : 0xc1);
        }
        for (unsigned count = UART_FIFO_SIZE; count-- > 0;) {
            in(DATA);
            assert_int_equal(fake.irq[IRQ], count >= levels[i]);
        }
    }
}

/* Fails when the timeout comes early, late, not at all, for nobody, or does not go with a read. */
static void receive_timeout(void **state)
{
    (void)state;
    out(MCR, 0x08);
    out(LCR, 0x1f); /* 8 bits, parity, 2 stop bits: 12 bits a character */
    out(IIR, 0x81); /* trigger level 8 */
    receive("a");
    assert_true(uart_deadline(&uart) == VDEV_NEVER); /* not enabled */
    out(IER, 0x01);
    assert_true(uart_deadline(&uart) == 48000);
    advance(20000);
    receive("b");
    assert_true(uart_deadline(&uart) == 68000);
    advance(47999);
    assert_int_equal(in(IIR), 0xc1);
    advance(1);
    assert_true(fake.irq[IRQ]);
    assert_int_equal(in(IIR), 0xcc);
    assert_true(uart_deadline(&uart) == VDEV_NEVER);
    assert_int_equal(in(DATA), 'a');
    assert_false(fake.irq[IRQ]);
    assert_true(uart_deadline(&uart) == fake.now + 48000);
    in(DATA);
    assert_true(uart_deadline(&uart) == VDEV_NEVER);

    /* At 9600 Baud, 8 bits, no parity, one stop bit. */
    out(LCR, 0x83);
    out(DATA, 12);
    out(IER, 0);
    out(LCR, 0x03);
    receive("c");
    assert_true(uart_deadline(&uart) == fake.now + 4 * 10 * 12 * 1000);
    /* From the trigger level on there is no need of it. */
    receive("1234567");
    assert_true(uart_deadline(&uart) == VDEV_NEVER);
    /* Clearing the FIFO clears it too. */
    out(IIR, 0x83);
    receive("d");
    advance(4 * 10 * 12 * 1000);
    assert_int_equal(in(IIR), 0xcc);
    out(IIR, 0x83);
    assert_int_equal(in(IIR), 0xc1);
    assert_false(fake.irq[IRQ]);
}

/* Fails when FCR's enable bit does not empty the FIFO, or the other bits work without it. */
static void fifo_control(void **state)
{
    (void)state;
    out(IIR, 0x01);
    receive("abc");
    out(IIR, 0x01);
    assert_int_equal(in(LSR), 0x61);
    out(IIR, 0x00);
    assert_int_equal(in(LSR), 0x60);
    assert_int_equal(in(IIR), 0x01);
    out(IER, 0x01);
    out(IIR, 0xc0);
    receive("d");
    assert_int_equal(in(IIR), 0x04);
    out(IIR, 0x02);
    assert_int_equal(in(LSR), 0x61);
}

/* Fails when loopback loses, leaks or overruns wrongly. */
static void loopback(void **state)
{
    (void)state;
    out(MCR, 0x10);
    assert_false(uart_receive(&uart, 'y'));
    out(DATA, 'x');
    assert_int_equal(fake.console_length, 0);
    assert_false(uart_receive(&uart, 'y'));
    assert_int_equal(in(LSR), 0x61);
    /* The character register is overwritten, the FIFO is not. */
    out(DATA, 'z');
    out(IER, 0x04);
    assert_int_equal(in(IIR), 0x06);
    assert_int_equal(in(LSR), 0x63);
    assert_int_equal(in(LSR), 0x61);
    assert_int_equal(in(IIR), 0x01);
    assert_int_equal(in(DATA), 'z');

    out(IIR, 0x01);
    for (unsigned i = 0; i < 17; i++)
        out(DATA, (uint8_t)i);
    assert_int_equal(in(LSR), 0x63);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(in(DATA), i);
    assert_int_equal(in(LSR), 0x60);
}

/* Fails when an output is looped to the wrong input, or a change is not reported or not forgotten. */
static void modem_lines(void **state)
{
    static const struct {
        uint8_t mcr, msr;
    } rows[] = {{0x12, 0x10}, {0x11, 0x20}, {0x14, 0x40}, {0x18, 0x80}, {0x1f, 0xf0}, {0x1a, 0x90}};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        out(MCR, rows[i].mcr);
        assert_int_equal(in(MSR)&0xf0, rows[i].msr);
    }
    out(MCR, 0x10);
    in(MSR);
    assert_int_equal(in(MSR), 0x00);
    out(MCR, 0x13);
    assert_int_equal(in(MSR), 0x33);
    assert_int_equal(in(MSR), 0x30);
    /* Of the ring indicator only the falling edge. */
    out(MCR, 0x17);
    assert_int_equal(in(MSR), 0x70);
    out(IER, 0x08);
    out(MCR, 0x13);
    assert_int_equal(in(IIR), 0x00);
    assert_int_equal(in(MSR), 0x34);
    assert_int_equal(in(IIR), 0x01);
    /* Changes add up until they are read. */
    out(MCR, 0x12);
    out(MCR, 0x10);
    out(MCR, 0x18);
    assert_int_equal(in(MSR), 0x8b);
}

/* Fails when IIR does not show the causes in the order of the data sheet. */
static void priorities(void **state)
{
    (void)state;
    out(IIR, 0x01);
    out(MCR, 0x10);
    for (unsigned i = 0; i < 17; i++)
        out(DATA, (uint8_t)i);
    out(IER, 0x0f);
    assert_int_equal(in(IIR), 0xc6);
    in(LSR);
    assert_int_equal(in(IIR), 0xc4);
    for (unsigned i = 0; i < 16; i++)
        in(DATA);
    assert_int_equal(in(IIR), 0xc2);
    assert_int_equal(in(IIR), 0xc0);
    in(MSR);
    assert_int_equal(in(IIR), 0xc1);
}

/* Fails when a port without a cable writes to the console, shows modem lines or keeps the sender waiting. */
static void unconnected(void **state)
{
    (void)state;
    uart_init(&uart, &fake.host, IRQ, false);
    out(DATA, 'x');
    assert_int_equal(fake.console_length, 0);
    assert_true(uart_receive(&uart, 'y'));
    assert_int_equal(in(LSR), 0x60);
    assert_int_equal(in(MSR), 0);
}

/* Fails when a reset leaves anything behind, above all a raised line. */
static void reset(void **state)
{
    struct uart fresh = uart;

    (void)state;
    out(LCR, 0x80);
    out(DATA, 99);
    out(LCR, 0x1f);
    out(IIR, 0xc1);
    out(SCR, 7);
    out(MCR, 0x0b);
    out(IER, 0x0f);
    receive("abc");
    assert_true(fake.irq[IRQ]);
    uart_reset(&uart);
    assert_false(fake.irq[IRQ]);
    /* What is in an empty FIFO, and when it would have timed out, is nobody's business. */
    memcpy(uart.rx, fresh.rx, sizeof(fresh.rx));
    uart.rx_deadline = fresh.rx_deadline;
    assert_memory_equal(&uart, &fresh, sizeof(fresh));
}

/*
 * What Linux's drivers/tty/serial/8250 asks before it says "16550A" and works without a backup timer. Fails
 * when it would take the port for another chip or for a buggy one.
 */
static void linux_probe(void **state)
{
    uint8_t first, second;

    (void)state;
    /* Is it there: IER keeps four bits, loopback shows RTS and OUT2 as CTS and DCD. */
    out(IER, 0x00);
    assert_int_equal(in(IER)&0x0f, 0x00);
    out(IER, 0x0f);
    assert_int_equal(in(IER)&0x0f, 0x0f);
    out(IER, 0x00);
    out(MCR, 0x1a);
    assert_int_equal(in(MSR)&0xf0, 0x90);
    out(MCR, 0x00);
    /* FIFOs that work, and none of the later chips' registers where IIR or IER are. */
    out(LCR, 0xbf);
    out(IIR, 0x00);
    out(LCR, 0x00);
    out(IIR, 0x01);
    assert_int_equal(in(IIR) >> 6, 3);
    out(LCR, 0x80);
    assert_int_not_equal(in(IIR), 0x00);
    out(LCR, 0xbf);
    assert_int_not_equal(in(IIR), 0x00);
    out(LCR, 0x00);
    out(IIR, 0x21);
    assert_int_equal(in(IIR)&0x20, 0);
    out(IER, 0x40);
    assert_int_equal(in(IER)&0x40, 0);
    out(LCR, 0xe0);
    assert_int_equal(in(IIR)&0x10, 0);
    out(LCR, 0x00);
    /* The test of the THRE interrupt ("THRE bug"), and of enabling it on an empty transmitter ("TXEN bug").
     */
    out(IER, 0x02);
    first = in(IIR);
    out(IER, 0x00);
    out(IER, 0x02);
    second = in(IIR);
    out(IER, 0x00);
    assert_int_equal(first & 0x01, 0);
    assert_int_equal(second & 0x01, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(registers, set_up),       cmocka_unit_test_setup(transmits, set_up),
        cmocka_unit_test_setup(thre_interrupt, set_up),  cmocka_unit_test_setup(out2_gate, set_up),
        cmocka_unit_test_setup(receives, set_up),        cmocka_unit_test_setup(trigger_levels, set_up),
        cmocka_unit_test_setup(receive_timeout, set_up), cmocka_unit_test_setup(fifo_control, set_up),
        cmocka_unit_test_setup(loopback, set_up),        cmocka_unit_test_setup(modem_lines, set_up),
        cmocka_unit_test_setup(priorities, set_up),      cmocka_unit_test_setup(unconnected, set_up),
        cmocka_unit_test_setup(reset, set_up),           cmocka_unit_test_setup(linux_probe, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
