// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The 16550 that is Umbra's console (National Semiconductor PC16550D). Output goes through a transmit ring
 * that the interrupt handler empties, so that nobody waits for the line; input waits in a ring until it is
 * asked for. Before serial_enable_interrupts, and after serial_set_synchronous, each byte waits for the
 * transmitter.
 */
#include "lib/types.h"

#define SERIAL_COM1 0x3f8

/*
 * Programs the UART at `port` for `baud` bits a second, 8N1, FIFOs on, and makes it a sink of print(). False
 * if no UART answers there. Start-up only.
 */
bool serial_init(uint16_t port, uint32_t baud);

/* The ISA interrupt of the UART in use, or -1 if its port is not one of COM1 to COM4. */
int serial_irq(void);

/* From now on bytes go out by interrupt; the caller has routed the UART's line to serial_interrupt. */
void serial_enable_interrupts(void);

/* Moves bytes both ways where no interrupt does it: a UART whose line is not known. Any number of times. */
void serial_poll(void);

/* Handler of the UART's interrupt. */
void serial_interrupt(void);

/* Empties the transmit ring and waits for each byte from now on: for panic and power-off. */
void serial_set_synchronous(void);

/* Waits until the last byte has left the line: before the machine is switched off. */
void serial_drain(void);

/* How many bytes serial_write takes now without losing any. */
size_t serial_room(void);

/* Writes bytes as they are (print() makes \r\n of \n). Any context with interrupts off. */
void serial_write(const char *bytes, size_t length);

/* TSC ticks that output has waited for the line so far, before interrupts were enabled. */
uint64_t serial_waited(void);

/* The next received byte; false if there is none. */
bool serial_read(char *byte);
