// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The last exits of one vCPU: a ring of fixed records, written on every exit in a few stores by the vCPU's
 * home, read by the monitor and by the panic screen. It is always on; what the monitor's `trace` switches is
 * how many exits are timed, and whether what there was is kept aside.
 */
#include "lib/types.h"

#define TRACE_RECORDS 256 /* a power of two */
#define TRACE_PERIOD  64  /* of so many exits one is timed, unless all are */

struct trace_record {
    uint64_t tsc;           /* of the pCPU, at the exit */
    uint64_t rip;           /* the guest's */
    uint64_t qualification; /* as the VMCS has it, if the handler looked at it */
    uint64_t detail;        /* the guest's RAX at the exit */
    uint32_t reason;        /* the whole exit-reason field */
};

struct trace {
    uint64_t count;       /* exits ever recorded */
    uint64_t until_timed; /* exits to the next one that is timed */
    uint64_t period;      /* what it then starts from: TRACE_PERIOD, or 1 */
    struct trace_record records[TRACE_RECORDS];
    /*
     * How long each took, where that was measured: apart from the records, so that an exit that is not timed
     * has nothing to write. The low half of the exit's number, from 0, tells whose it is; the ticks below.
     */
    uint64_t timings[TRACE_RECORDS];
};

/* Makes it empty. Before the vCPU's first exit, and at each start. */
void trace_reset(struct trace *trace);

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

/* Whether the exit that was recorded last is to be timed. Once an exit; in a condition, one instruction and a
 * branch. */
static inline bool trace_is_timed(struct trace *trace)
{
    return --trace->until_timed == 0;
}

/* It was timed: ticks of the TSC from the exit until Umbra was done with it. Counts to the next. */
void trace_timed(struct trace *trace, uint64_t ticks);

/* From now on every exit is timed, or one in TRACE_PERIOD again. By the housekeeper, at any time. */
void trace_time_all(struct trace *trace, bool all);

/* Copies what is recorded, in its order, to `kept`, which nobody writes. By the housekeeper, at any time. */
void trace_keep(const struct trace *trace, struct trace *kept);

/* How many records there are to read: at most TRACE_RECORDS. */
static inline unsigned trace_length(const struct trace *trace)
{
    return (unsigned)min_u64(trace->count, TRACE_RECORDS);
}

/* Record `index`, 0 being the oldest that is left; NULL past the newest. */
const struct trace_record *trace_at(const struct trace *trace, unsigned index);

/*
 * Copies the record of exit *position (counted from 0 since the trace was empty), or of the oldest exit that
 * can be told if that one is gone, and moves *position behind it. *duration: its ticks; 0: not timed. A
 * record that is overwritten meanwhile, by the vCPU on another processor, counts as gone; the newest may be
 * half written while the vCPU runs. False: there is none yet.
 */
bool trace_read(const struct trace *trace, uint64_t *position, struct trace_record *record,
                uint32_t *duration);

/*
 * Writes record `index` (0: the oldest that is left) as one line without newline into `line` (`size` bytes,
 * cut and terminated), for people. `reason_name` turns an exit-reason field into its name. False if there is
 * no such record.
 */
bool trace_format(const struct trace *trace, unsigned index, const char *(*reason_name)(uint32_t reason),
                  char *line, size_t size);

/* The same for programs: `trace VCPU TSC REASON RIP QUALIFICATION DETAIL DURATION`, numbers in hex. */
void trace_format_saved(const struct trace_record *record, unsigned vcpu, uint32_t duration, char *line,
                        size_t size);
