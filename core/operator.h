// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The operator's side of Umbra: console and monitor, bound to the serial line, to the partitions and to the
 * machine.
 */
#include "core/config/config.h"
#include "drivers/acpi_tables.h"
#include "mm/frame.h"

/* Prepares console and monitor for the partitions of `config`. Everything is borrowed for ever. Start-up. */
void operator_init(const struct config *config, struct frame_pool *frames, const struct acpi_machine *acpi);

/* From now on the terminal is shared: the first running partition has the focus, else the monitor. */
void operator_start(void);

/* A byte that partition `partition` writes to its console. */
void operator_partition_write(unsigned partition, char byte);

/* One bounded step of all of it. True if there is more to do at once. */
bool operator_step(void);

/* Ends Umbra: says so in its last line and powers the machine off, or resets it. */
__noreturn void operator_power_off(void);
__noreturn void operator_reboot(void);
