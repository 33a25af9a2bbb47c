// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The last exits of one vCPU: a ring of fixed records, written on every exit in a few stores, read by the
 * monitor and by the panic screen.
 */
#include "lib/types.h"

#define TRACE_RECORDS 256 /* a power of two */

struct trace_record {
    uint64_t tsc;           /* of the pCPU, at the exit */
    uint64_t rip;           /* the guest's */
    uint64_t qualification; /* as the VMCS has it, if the handler looked at it */
    uint64_t detail;        /* the guest's RAX at the exit */
    uint32_t reason;        /* the whole exit-reason field */
};

/* Zeroed memory is an empty trace. */
struct trace {
    uint64_t count; /* exits ever recorded */
    struct trace_record records[TRACE_RECORDS];
};

/*
 * Records an exit; the oldest record makes room. Returns the record, whose qualification is 0 until somebody
 * knows it. On the exit path of the vCPU that owns `trace`.
 */
static inline struct trace_record *trace_add(struct trace *trace, uint64_t tsc, uint32_t reason, uint64_t rip,
                                             uint64_t detail)
{
    struct trace_record *record = &trace->records[trace->count++ & (TRACE_RECORDS - 1)];

    record->tsc = tsc;
    record->rip = rip;
    record->qualification = 0;
    record->detail = detail;
    record->reason = reason;
    return record;
}

/* How many records there are to read: at most TRACE_RECORDS. */
static inline unsigned trace_length(const struct trace *trace)
{
    return (unsigned)min_u64(trace->count, TRACE_RECORDS);
}

/* Record `index`, 0 being the oldest that is left; NULL past the newest. */
const struct trace_record *trace_at(const struct trace *trace, unsigned index);

/*
 * Writes record `index` (0: the oldest that is left) as one line without newline into `line` (`size` bytes,
 * cut and terminated). `reason_name` turns an exit-reason field into its name. False if there is no such
 * record.
 */
bool trace_format(const struct trace *trace, unsigned index, const char *(*reason_name)(uint32_t reason),
                  char *line, size_t size);
