// SPDX-License-Identifier: BSD-2-Clause
/* The 16550A. Register and bit names are those of the data sheet (National Semiconductor PC16550D). */
#include "core/vdev/uart.h"

#include "lib/muldiv.h"

/* Registers by offset; the first two are the divisor latch while LCR.DLAB is set. */
enum uart_register {
    UART_RBR_THR = 0,
    UART_IER = 1,
    UART_IIR_FCR = 2,
    UART_LCR = 3,
    UART_MCR = 4,
    UART_LSR = 5,
    UART_MSR = 6,
    UART_SCR = 7,
};

#define IER_RECEIVED      0x01
#define IER_TRANSMITTER   0x02
#define IER_LINE          0x04
#define IER_MODEM         0x08
#define IER_MASK          0x0f

#define IIR_MODEM         0x00
#define IIR_NONE          0x01
#define IIR_TRANSMITTER   0x02
#define IIR_RECEIVED      0x04
#define IIR_LINE          0x06
#define IIR_TIMEOUT       0x0c
#define IIR_FIFOS         0xc0

#define FCR_ENABLE        0x01
#define FCR_RESET_RX      0x02
#define FCR_DMA           0x08
#define FCR_TRIGGER_SHIFT 6

#define LCR_LENGTH        0x03 /* plus five bits */
#define LCR_STOP          0x04
#define LCR_PARITY        0x08
#define LCR_DLAB          0x80

#define MCR_DTR           0x01
#define MCR_RTS           0x02
#define MCR_OUT1          0x04
#define MCR_OUT2          0x08
#define MCR_LOOP          0x10
#define MCR_MASK          0x1f

#define LSR_DATA_READY    0x01
#define LSR_OVERRUN       0x02
#define LSR_THRE          0x20
#define LSR_TEMT          0x40

#define MSR_CTS           0x10
#define MSR_DSR           0x20
#define MSR_RI            0x40
#define MSR_DCD           0x80
#define MSR_DELTA         0x0f
#define MSR_DELTA_SHIFT   4

#define UART_BAUD_MAX     115200

static const uint8_t trigger_levels[] = {1, 4, 8, 14};

static bool fifo_enabled(const struct uart *uart)
{
    return uart->fcr & FCR_ENABLE;
}

static unsigned rx_capacity(const struct uart *uart)
{
    return fifo_enabled(uart) ? UART_FIFO_SIZE : 1;
}

static unsigned rx_trigger(const struct uart *uart)
{
    return fifo_enabled(uart) ? trigger_levels[uart->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The highest of the enabled interrupt causes, as IIR shows it. */
static uint8_t interrupt_cause(const struct uart *uart)
{
    if (uart->ier & IER_LINE && uart->overrun)
        return IIR_LINE;
    if (uart->ier & IER_RECEIVED && uart->rx_count >= rx_trigger(uart))
        return IIR_RECEIVED;
    if (uart->ier & IER_RECEIVED && uart->rx_timeout)
        return IIR_TIMEOUT;
    if (uart->ier & IER_TRANSMITTER && uart->thre_pending)
        return IIR_TRANSMITTER;
    if (uart->ier & IER_MODEM && uart->msr & MSR_DELTA)
        return IIR_MODEM;
    return IIR_NONE;
}

/* On a PC the interrupt output passes a gate that OUT2 opens; loopback takes OUT2 off its pin. */
static void update_line(struct uart *uart)
{
    bool gate = (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
    bool level = gate && interrupt_cause(uart) != IIR_NONE;

    if (level == uart->line)
        return;
    uart->line = level;
    vdev_set_irq(uart->host, uart->irq, level);
}

/* In partition TSC: the time of four characters at the programmed speed and format (data sheet, "FIFO
 * Interrupt Mode Operation"). */
static uint64_t timeout_duration(const struct uart *uart)
{
    unsigned divisor = uart->divisor ? uart->divisor : 0x10000;
    unsigned bits =
        1 + 5 + (uart->lcr & LCR_LENGTH) + !!(uart->lcr & LCR_PARITY) + (uart->lcr & LCR_STOP ? 2 : 1);

    return muldiv_u64(4 * bits * divisor, uart->host->tsc_hz, UART_BAUD_MAX);
}

static void rx_clear(struct uart *uart)
{
    uart->rx_first = 0;
    uart->rx_count = 0;
    uart->rx_timeout = false;
}

static void rx_put(struct uart *uart, uint8_t byte)
{
    uart->rx[(uart->rx_first + uart->rx_count++) % UART_FIFO_SIZE] = byte;
    uart->rx_deadline = vdev_now(uart->host) + timeout_duration(uart);
}

static uint8_t rx_get(struct uart *uart)
{
    uint8_t byte;

    if (uart->rx_count == 0)
        return 0;
    byte = uart->rx[uart->rx_first];
    uart->rx_first = (uint8_t)((uart->rx_first + 1) % UART_FIFO_SIZE);
    uart->rx_count--;
    uart->rx_timeout = false;
    uart->rx_deadline = vdev_now(uart->host) + timeout_duration(uart);
    update_line(uart);
    return byte;
}

/* The transmitter's output is the receiver's input, which cannot wait. */
static void loop_back(struct uart *uart, uint8_t byte)
{
    if (uart->rx_count < rx_capacity(uart)) {
        rx_put(uart, byte);
        return;
    }
    uart->overrun = true;
    if (!fifo_enabled(uart))
        uart->rx[uart->rx_first] = byte;
}

/*
 * The byte is gone at once. A driver that waits for the line to fall and rise again must see it do so, since
 * the interrupt controllers take edges; nobody looks while the interrupt is off.
 */
static void transmit(struct uart *uart, uint8_t byte)
{
    if (uart->ier & IER_TRANSMITTER && uart->thre_pending) {
        uart->thre_pending = false;
        update_line(uart);
    }
    if (uart->mcr & MCR_LOOP)
        loop_back(uart, byte);
    else if (uart->connected)
        uart->host->ops->console_write(uart->host->context, (char)byte);
    uart->thre_pending = true;
    if (uart->ier)
        update_line(uart);
}

/* The modem lines as they are now, in MSR's bits 7:4. Loopback crosses over the four outputs. */
static uint8_t modem_lines(const struct uart *uart)
{
    if (!(uart->mcr & MCR_LOOP))
        return uart->connected ? MSR_DCD | MSR_DSR | MSR_CTS : 0;
    return (uint8_t)((uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (uart->mcr & MCR_OUT1 ? MSR_RI : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void write_mcr(struct uart *uart, uint8_t value)
{
    uint8_t lines, changes;

    uart->mcr = value & MCR_MASK;
    lines = modem_lines(uart);
    changes = (lines ^ uart->msr) & (uint8_t)~MSR_DELTA;
    /* Of the ring indicator only the end is reported (TERI). */
    if (lines & MSR_RI)
        changes &= (uint8_t)~MSR_RI;
    uart->msr = (uint8_t)(lines | (uart->msr & MSR_DELTA) | (changes >> MSR_DELTA_SHIFT));
    update_line(uart);
}

/* Enabling the transmitter's interrupt while the transmitter is empty raises it, even if IIR has reported it
 * before. */
static void write_ier(struct uart *uart, uint8_t value)
{
    if (value & ~uart->ier & IER_TRANSMITTER)
        uart->thre_pending = true;
    uart->ier = value & IER_MASK;
    update_line(uart);
}

/* The other bits mean something only together with the enable bit, whose change empties the FIFOs. */
static void write_fcr(struct uart *uart, uint8_t value)
{
    if (!(value & FCR_ENABLE))
        value = 0;
    if ((value ^ uart->fcr) & FCR_ENABLE || value & FCR_RESET_RX)
        rx_clear(uart);
    uart->fcr = value & (FCR_ENABLE | FCR_DMA | 3 << FCR_TRIGGER_SHIFT);
    update_line(uart);
}

static uint8_t read_iir(struct uart *uart)
{
    uint8_t cause = interrupt_cause(uart);

    if (cause == IIR_TRANSMITTER) {
        uart->thre_pending = false;
        update_line(uart);
    }
    return fifo_enabled(uart) ? cause | IIR_FIFOS : cause;
}

static uint8_t read_lsr(struct uart *uart)
{
    uint8_t value = LSR_THRE | LSR_TEMT;

    if (uart->rx_count)
        value |= LSR_DATA_READY;
    if (uart->overrun) {
        value |= LSR_OVERRUN;
        uart->overrun = false;
        update_line(uart);
    }
    return value;
}

static uint8_t read_msr(struct uart *uart)
{
    uint8_t value = uart->msr;

    if (value & MSR_DELTA) {
        uart->msr &= (uint8_t)~MSR_DELTA;
        update_line(uart);
    }
    return value;
}

uint8_t uart_read(struct uart *uart, unsigned offset)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (offset) {
    case UART_RBR_THR:
        return dlab ? (uint8_t)uart->divisor : rx_get(uart);
    case UART_IER:
        return dlab ? (uint8_t)(uart->divisor >> 8) : uart->ier;
    case UART_IIR_FCR:
        return read_iir(uart);
    case UART_LCR:
        return uart->lcr;
    case UART_MCR:
        return uart->mcr;
    case UART_LSR:
        return read_lsr(uart);
    case UART_MSR:
        return read_msr(uart);
    default:
        return uart->scr;
    }
}

void uart_write(struct uart *uart, unsigned offset, uint8_t value)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (offset) {
    case UART_RBR_THR:
        if (dlab)
            uart->divisor = (uint16_t)((uart->divisor & 0xff00) | value);
        else
            transmit(uart, value);
        break;
    case UART_IER:
        if (dlab)
            uart->divisor = (uint16_t)((uart->divisor & 0x00ff) | value << 8);
        else
            write_ier(uart, value);
        break;
    case UART_IIR_FCR:
        write_fcr(uart, value);
        break;
    case UART_LCR:
        uart->lcr = value;
        break;
    case UART_MCR:
        write_mcr(uart, value);
        break;
    case UART_SCR:
        uart->scr = value;
        break;
    default: /* LSR and MSR are read-only outside the factory */
        break;
    }
}

bool uart_receive(struct uart *uart, uint8_t byte)
{
    if (!uart->connected)
        return true;
    if (uart->mcr & MCR_LOOP || uart->rx_count >= rx_capacity(uart))
        return false;
    rx_put(uart, byte);
    update_line(uart);
    return true;
}

uint64_t uart_deadline(const struct uart *uart)
{
    bool waits = uart->rx_count > 0 && uart->rx_count < rx_trigger(uart) && !uart->rx_timeout;

    return waits && uart->ier & IER_RECEIVED ? uart->rx_deadline : VDEV_NEVER;
}

void uart_expire(struct uart *uart, uint64_t now)
{
    if (now < uart_deadline(uart))
        return;
    uart->rx_timeout = true;
    update_line(uart);
}

void uart_reset(struct uart *uart)
{
    uart->ier = 0;
    uart->fcr = 0;
    uart->lcr = 0;
    uart->mcr = 0;
    uart->scr = 0;
    uart->divisor = 1;
    uart->msr = modem_lines(uart);
    uart->overrun = false;
    uart->thre_pending = false;
    rx_clear(uart);
    update_line(uart);
}

void uart_init(struct uart *uart, const struct vdev_host *host, unsigned irq, bool connected)
{
    *uart = (struct uart){.host = host, .irq = irq, .connected = connected};
    uart_reset(uart);
}
