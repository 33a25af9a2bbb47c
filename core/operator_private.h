// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/* What the operator's two files share. */
#include "core/console.h"
#include "core/monitor.h"
#include "core/operator.h"

/* What the operator works on. One for the machine. */
struct operator
{
    struct console console;
    struct monitor monitor;
    struct config *config;
    struct frame_pool *frames;
    const struct acpi_machine *acpi;
    bool reboot_requested, power_off_requested;
};

extern struct operator operator;

/* Gives a partition that was built the console that its configuration asks for. */
struct partition;
void operator_add_console(struct partition *partition);

/* What the monitor's commands do: operator_monitor.c. */
extern const struct monitor_ops operator_monitor_ops;
