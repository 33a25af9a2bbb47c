// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Errors of a configuration on their way to whoever asked: each has a place and a message, is counted, and
 * stands against the partition that it was found in.
 */
#include "core/config/config.h"

struct config_report {
    struct config_reporter *reporter;
    unsigned errors;
};

/* Reports a formatted message; `partition` (NULL: none) is refused because of it. */
void config_report(struct config_report *report, struct config_partition *partition,
                   struct config_place place, const char *format, ...) __printf_format(4, 5);

/* Text of the user's for a message: as long as it may become there. */
struct slice config_quotable(struct slice text);
