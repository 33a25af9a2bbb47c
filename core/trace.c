// SPDX-License-Identifier: BSD-2-Clause
#include "core/trace.h"

#include "lib/printf.h"
#include "lib/string.h"

static uint64_t timing(uint64_t exit, uint64_t ticks)
{
    return exit << 32 | min_u64(ticks, UINT32_MAX);
}

void trace_reset(struct trace *trace)
{
    uint64_t period = __atomic_load_n(&trace->period, __ATOMIC_RELAXED);

    memset(trace, 0, sizeof(*trace));
    trace_time_all(trace, period == 1);
    trace->until_timed = trace->period;
}

void trace_timed(struct trace *trace, uint64_t ticks)
{
    uint64_t newest = trace->count - 1;

    trace->timings[newest & (TRACE_RECORDS - 1)] = timing(newest, ticks);
    trace->until_timed = __atomic_load_n(&trace->period, __ATOMIC_RELAXED);
}

void trace_time_all(struct trace *trace, bool all)
{
    __atomic_store_n(&trace->period, all ? 1 : TRACE_PERIOD, __ATOMIC_RELAXED);
}

const struct trace_record *trace_at(const struct trace *trace, unsigned index)
{
    if (index >= trace_length(trace))
        return NULL;
    return &trace->records[(trace->count - trace_length(trace) + index) & (TRACE_RECORDS - 1)];
}

/* The oldest exit whose record is not the one that may be being written. */
static uint64_t oldest(const struct trace *trace)
{
    uint64_t count = __atomic_load_n(&trace->count, __ATOMIC_ACQUIRE);

    return count < TRACE_RECORDS ? 0 : count - TRACE_RECORDS + 1;
}

bool trace_read(const struct trace *trace, uint64_t *position, struct trace_record *record,
                uint32_t *duration)
{
    uint64_t wanted = *position;

    /* Ends: each time round the vCPU has overwritten what was being copied, and recorded more than that. */
    for (;;) {
        wanted = max_u64(wanted, oldest(trace));
        if (wanted >= __atomic_load_n(&trace->count, __ATOMIC_ACQUIRE))
            return false;
        *record = trace->records[wanted & (TRACE_RECORDS - 1)];
        /* The copy comes before the second look at the count (TSO); the compiler is told so. */
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (wanted >= oldest(trace))
            break;
    }
    uint64_t timed = __atomic_load_n(&trace->timings[wanted & (TRACE_RECORDS - 1)], __ATOMIC_RELAXED);
    *duration = timed >> 32 == (uint32_t)wanted ? (uint32_t)timed : 0;
    *position = wanted + 1;
    return true;
}

void trace_keep(const struct trace *trace, struct trace *kept)
{
    struct trace_record record;
    uint64_t position = 0;
    uint32_t duration;

    memset(kept, 0, sizeof(*kept));
    /* Not more than were there when it began: the vCPU goes on. */
    for (unsigned n = trace_length(trace); n > 0 && trace_read(trace, &position, &record, &duration); n--) {
        kept->timings[kept->count] = timing(kept->count, duration);
        kept->records[kept->count++] = record;
    }
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

void trace_format_saved(const struct trace_record *record, unsigned vcpu, uint32_t duration, char *line,
                        size_t size)
{
    format_text(line, size, "trace %x %lx %x %lx %lx %lx %x", vcpu, record->tsc, record->reason, record->rip,
                record->qualification, record->detail, duration);
}
