// SPDX-License-Identifier: BSD-2-Clause
#include "core/config/report.h"

#include "lib/printf.h"

/* So that a message which quotes twice still fits into CONFIG_REASON_MAX. */
#define QUOTED_MAX 64

void config_report(struct config_report *report, struct config_partition *partition,
                   struct config_place place, const char *format, ...)
{
    char message[CONFIG_REASON_MAX] = "";
    va_list arguments;

    va_start(arguments, format);
    format_text_va(message, sizeof(message), format, arguments);
    va_end(arguments);
    report->errors++;
    if (partition && !partition->refused) {
        partition->refused = true;
        memcpy(partition->reason, message, sizeof(message));
    }
    report->reporter->error(report->reporter, place, message);
}

struct slice config_quotable(struct slice text)
{
    return (struct slice){text.start, min_u64(text.length, QUOTED_MAX)};
}
