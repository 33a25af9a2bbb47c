// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The operator's side of Umbra: console and monitor, bound to the serial line, to the partitions and to the
 * machine. The housekeeper's.
 */
#include "core/config/config.h"
#include "drivers/acpi_tables.h"
#include "mm/frame.h"

/* Prepares console and monitor. Everything is borrowed for ever. Start-up, before partitions are built. */
void operator_init(struct config *config, struct frame_pool *frames, const struct acpi_machine *acpi);

/* Gives every partition that was built its console, and starts those that are to start. Start-up. */
void operator_start_partitions(void);

/* From now on the terminal is shared: the first running partition has the focus, else the monitor. */
void operator_start(void);

/* A byte that partition `partition` writes to its console. Anybody. */
void operator_partition_write(unsigned partition, char byte);

/*
 * One bounded step of all of it. Returns the host TSC at which it wants to be called again, though nothing
 * happens before; 0: at once.
 */
uint64_t operator_step(void);

/* Ends Umbra: says so in its last line and powers the machine off, or resets it. */
__noreturn void operator_power_off(void);
__noreturn void operator_reboot(void);
