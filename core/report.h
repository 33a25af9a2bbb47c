// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the monitor's commands and the panic screen show, line by line, so that nothing has to be printed in
 * one go. Each function writes line `number` (from 0) into `line`, cut and terminated, without newline; false
 * past the last.
 */
#include "core/partition.h"

/* `dump`: state, registers, every VMCS field, the last exits of the first vCPU. */
bool report_dump_line(struct partition *partition, unsigned number, char *line, size_t size);

/* `stats`: lines `name value`. */
bool report_stats_line(struct partition *partition, unsigned number, char *line, size_t size);

/* `memory`: who owns how much. */
bool report_memory_line(const struct frame_pool *frames, unsigned number, char *line, size_t size);

/* `cpu`: capabilities in words. */
bool report_cpu_line(unsigned number, char *line, size_t size);

/* One exit of a trace, e.g. for the panic screen. */
const char *report_reason_name(uint32_t reason);
