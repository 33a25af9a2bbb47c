// SPDX-License-Identifier: BSD-2-Clause
#include "core/trace.h"

#include "lib/printf.h"

const struct trace_record *trace_at(const struct trace *trace, unsigned index)
{
    if (index >= trace_length(trace))
        return NULL;
    return &trace->records[(trace->count - trace_length(trace) + index) & (TRACE_RECORDS - 1)];
}

bool trace_format(const struct trace *trace, unsigned index, const char *(*reason_name)(uint32_t reason),
                  char *line, size_t size)
{
    const struct trace_record *record = trace_at(trace, index);
    const struct trace_record *before = index == 0 ? NULL : trace_at(trace, index - 1);

    if (record == NULL)
        return false;
    /* Its age in exits, the ticks since the exit before, and what was recorded. */
    format_text(line, size, "-%-3u +%-12lu rip %016lx qualification %lx detail %lx %s",
                trace_length(trace) - index, before == NULL ? 0 : record->tsc - before->tsc, record->rip,
                record->qualification, record->detail, reason_name(record->reason));
    return true;
}
