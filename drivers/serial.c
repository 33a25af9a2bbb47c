// SPDX-License-Identifier: BSD-2-Clause
#include "drivers/serial.h"

#include "arch/x86/cpu.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/ring.h"

enum {
    REGISTER_DATA = 0,
    REGISTER_DIVISOR_LOW = 0,
    REGISTER_INTERRUPT_ENABLE = 1,
    REGISTER_DIVISOR_HIGH = 1,
    REGISTER_INTERRUPT_ID = 2,
    REGISTER_FIFO_CONTROL = 2,
    REGISTER_LINE_CONTROL = 3,
    REGISTER_MODEM_CONTROL = 4,
    REGISTER_LINE_STATUS = 5,
    REGISTER_SCRATCH = 7,
};

#define INTERRUPT_RECEIVED    0x01
#define INTERRUPT_TRANSMITTER 0x02
#define INTERRUPT_ID_NONE     0x01
#define FIFO_ENABLE_AND_CLEAR 0x07
#define LINE_8N1              0x03
#define LINE_DIVISOR_LATCH    0x80
#define MODEM_DTR_RTS_OUT2    0x0b
#define STATUS_RECEIVED       0x01
#define STATUS_TRANSMIT_EMPTY 0x20
#define STATUS_LINE_IDLE      0x40
#define FIFO_DEPTH            16
#define CLOCK_BAUD            115200

/* So that a dead line cannot hang Umbra: far more polls than the slowest byte takes. */
#define TRANSMIT_POLLS_MAX    10000000

struct serial {
    uint16_t port; /* 0: no UART */
    bool by_interrupt;
    uint64_t waited;       /* TSC ticks spent in waiting for the line */
    bool transmitter_idle; /* nothing is under way, so no transmitter interrupt will come */
    struct ring transmit;
    struct ring receive;
    struct print_sink sink;
    struct panic_hook panic_hook;
};

static char transmit_buffer[16384];
static char receive_buffer[1024];
static struct serial serial;

static uint8_t read_register(unsigned number)
{
    return cpu_in8((uint16_t)(serial.port + number));
}

static void write_register(unsigned number, uint8_t value)
{
    cpu_out8((uint16_t)(serial.port + number), value);
}

static void write_waiting(char byte)
{
    uint64_t start = cpu_rdtsc();

    for (unsigned polls = 0; polls < TRANSMIT_POLLS_MAX; polls++)
        if (read_register(REGISTER_LINE_STATUS) & STATUS_TRANSMIT_EMPTY)
            break;
    write_register(REGISTER_DATA, (uint8_t)byte);
    serial.waited += cpu_rdtsc() - start;
}

static void wait_for_line(void)
{
    for (unsigned polls = 0; serial.port != 0 && polls < TRANSMIT_POLLS_MAX; polls++)
        if (read_register(REGISTER_LINE_STATUS) & STATUS_LINE_IDLE)
            break;
}

/* Fills the transmitter's FIFO, which is known to be empty. */
static void refill(void)
{
    char byte;
    unsigned count = 0;

    while (count < FIFO_DEPTH && ring_get(&serial.transmit, &byte)) {
        write_register(REGISTER_DATA, (uint8_t)byte);
        count++;
    }
    serial.transmitter_idle = count == 0;
}

void serial_write(const char *bytes, size_t length)
{
    if (serial.port == 0)
        return;
    if (!serial.by_interrupt) {
        for (size_t i = 0; i < length; i++)
            write_waiting(bytes[i]);
        return;
    }
    for (size_t i = 0; i < length; i++)
        ring_put(&serial.transmit, bytes[i]);
    if (serial.transmitter_idle)
        refill();
}

static void write_text(struct print_sink *sink, const char *text, size_t length)
{
    (void)sink;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n')
            serial_write("\r", 1);
        serial_write(&text[i], 1);
    }
}

static void on_panic(struct panic_hook *hook)
{
    (void)hook;
    serial_set_synchronous();
}

bool serial_init(uint16_t port, uint32_t baud)
{
    uint16_t divisor = (uint16_t)(baud == 0 || baud > CLOCK_BAUD ? 1 : CLOCK_BAUD / baud);
    bool again = serial.port != 0;

    serial.port = port;
    write_register(REGISTER_SCRATCH, 0x5a);
    if (read_register(REGISTER_SCRATCH) != 0x5a) {
        serial.port = 0;
        return false;
    }
    write_register(REGISTER_INTERRUPT_ENABLE, 0);
    write_register(REGISTER_LINE_CONTROL, LINE_DIVISOR_LATCH | LINE_8N1);
    write_register(REGISTER_DIVISOR_LOW, (uint8_t)divisor);
    write_register(REGISTER_DIVISOR_HIGH, (uint8_t)(divisor >> 8));
    write_register(REGISTER_LINE_CONTROL, LINE_8N1);
    write_register(REGISTER_FIFO_CONTROL, FIFO_ENABLE_AND_CLEAR);
    write_register(REGISTER_MODEM_CONTROL, MODEM_DTR_RTS_OUT2);

    ring_init(&serial.transmit, transmit_buffer, sizeof(transmit_buffer));
    ring_init(&serial.receive, receive_buffer, sizeof(receive_buffer));
    if (!again) {
        serial.sink.write = write_text;
        print_sink_register(&serial.sink);
        serial.panic_hook.run = on_panic;
        panic_hook_register(&serial.panic_hook);
    }
    return true;
}

int serial_irq(void)
{
    static const struct {
        uint16_t port;
        int irq;
    } lines[] = {
        {SERIAL_COM1, 4},
        {0x2f8, 3},
        {0x3e8, 4},
        {0x2e8, 3},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
        if (lines[i].port == serial.port)
            return lines[i].irq;
    return -1;
}

void serial_enable_interrupts(void)
{
    if (serial.port == 0)
        return;
    wait_for_line(); /* so that the FIFO is known to be empty */
    serial.by_interrupt = true;
    serial.transmitter_idle = true;
    write_register(REGISTER_INTERRUPT_ENABLE, INTERRUPT_RECEIVED | INTERRUPT_TRANSMITTER);
}

uint64_t serial_waited(void)
{
    return serial.waited;
}

void serial_poll(void)
{
    if (serial.port == 0 || serial.by_interrupt)
        return;
    while (read_register(REGISTER_LINE_STATUS) & STATUS_RECEIVED)
        ring_put(&serial.receive, (char)read_register(REGISTER_DATA));
}

void serial_interrupt(void)
{
    while ((read_register(REGISTER_INTERRUPT_ID) & INTERRUPT_ID_NONE) == 0) {
        uint8_t status = read_register(REGISTER_LINE_STATUS);

        while (status & STATUS_RECEIVED) {
            ring_put(&serial.receive, (char)read_register(REGISTER_DATA));
            status = read_register(REGISTER_LINE_STATUS);
        }
        if (status & STATUS_TRANSMIT_EMPTY)
            refill();
    }
}

void serial_set_synchronous(void)
{
    char byte;

    if (serial.port == 0 || !serial.by_interrupt)
        return;
    serial.by_interrupt = false;
    write_register(REGISTER_INTERRUPT_ENABLE, 0);
    while (ring_get(&serial.transmit, &byte))
        write_waiting(byte);
}

void serial_drain(void)
{
    serial_set_synchronous();
    wait_for_line();
}

size_t serial_room(void)
{
    return serial.port == 0 ? SIZE_MAX : serial.transmit.size - ring_used(&serial.transmit);
}

bool serial_read(char *byte)
{
    return ring_get(&serial.receive, byte);
}
