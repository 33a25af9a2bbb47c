// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A 16550A serial port. What the guest sends leaves at once, so the transmitter is always empty and no guest
 * ever waits for it; what the guest receives goes through the 16-byte FIFO with its trigger level and
 * timeout.
 */
#include "core/vdev/vdev.h"

#define UART_PORTS     8 /* ports that it decodes */
#define UART_FIFO_SIZE 16

struct uart {
    const struct vdev_host *host;
    unsigned irq;
    bool connected;
    uint8_t ier;
    uint8_t fcr;
    uint8_t lcr;
    uint8_t mcr;
    uint8_t scr;
    uint8_t msr;          /* lines in bits 7:4, their changes since the last read in 3:0 */
    uint16_t divisor;     /* of 115200 Baud */
    bool overrun;         /* LSR.OE */
    bool thre_pending;    /* the transmitter has become empty, and IIR has not reported it yet */
    bool rx_timeout;      /* four character times without a byte coming or going */
    bool line;            /* what the interrupt line was last set to */
    uint64_t rx_deadline; /* partition TSC at which rx_timeout sets */
    uint8_t rx_first;     /* index of the oldest byte in rx[] */
    uint8_t rx_count;
    uint8_t rx[UART_FIFO_SIZE];
};

/*
 * Brings the port to its power-on state. `host` is kept, `irq` is the ISA line. A port that is not
 * `connected` is there, but has no cable: its modem lines are low, and what it sends is lost.
 */
void uart_init(struct uart *uart, const struct vdev_host *host, unsigned irq, bool connected);

/* As the reset line does. */
void uart_reset(struct uart *uart);

/* The register at `offset` (0-7) from the base port. */
uint8_t uart_read(struct uart *uart, unsigned offset);
void uart_write(struct uart *uart, unsigned offset, uint8_t value);

/* A byte arrives by the cable. False if there is no room for it now: the caller keeps it. */
bool uart_receive(struct uart *uart, uint8_t byte);

/* The partition TSC at which the receive timeout wants uart_expire, or VDEV_NEVER. */
uint64_t uart_deadline(const struct uart *uart);
void uart_expire(struct uart *uart, uint64_t now);
