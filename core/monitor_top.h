// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The table of `top`: who had how much of each processor between two samples of ever-growing counters, and
 * how often each vCPU exited, by kind. Pure.
 */
#include "lib/types.h"

#define MONITOR_SAMPLE_VCPUS 64 /* more are not shown */
#define MONITOR_SAMPLE_CPUS  64
#define MONITOR_SAMPLE_NAME  13 /* with its terminator; longer names are cut */

/* The kinds of exit that have a column of their own. */
enum monitor_exit_kind {
    MONITOR_EXIT_INTERRUPT, /* of the machine, windows, the preemption timer */
    MONITOR_EXIT_IO,
    MONITOR_EXIT_MEMORY, /* EPT, page faults, invalidations, and devices in memory */
    MONITOR_EXIT_MSR,
    MONITOR_EXIT_CPUID,
    MONITOR_EXIT_HALT, /* HLT, PAUSE, MWAIT */
    MONITOR_EXIT_OTHER,
    MONITOR_EXIT_KINDS,
};

/* A vCPU that has a home. */
struct monitor_sample_vcpu {
    char name[MONITOR_SAMPLE_NAME]; /* its partition's */
    uint16_t partition, vcpu;       /* numbers: what makes it the same vCPU in two samples */
    uint16_t cpu;                   /* its pCPU */
    uint64_t ran;                   /* ticks that it has had of it, its exits included */
    uint64_t exits[MONITOR_EXIT_KINDS];
};

/* Counters at one moment. Those of a vCPU may begin again at 0 when its partition is started again. */
struct monitor_sample {
    uint64_t time; /* ticks */
    unsigned cpu_count;
    uint64_t idle[MONITOR_SAMPLE_CPUS]; /* ticks that each pCPU has slept */
    unsigned vcpu_count;
    struct monitor_sample_vcpu vcpus[MONITOR_SAMPLE_VCPUS];
};

/* A row of the table: a vCPU, or the sleep of a pCPU. */
struct monitor_top_row {
    const char *name; /* of the sample, or "idle" */
    uint16_t cpu;
    uint16_t vcpu;
    bool idle;
    uint16_t permille;  /* of the pCPU's time */
    uint64_t exits_all; /* a second */
    uint64_t exits[MONITOR_EXIT_KINDS];
};

struct monitor_top {
    uint64_t milliseconds; /* between the samples */
    unsigned cpu_count;
    unsigned row_count;
    struct monitor_top_row rows[MONITOR_SAMPLE_VCPUS + MONITOR_SAMPLE_CPUS];
};

/*
 * Compares two samples, `now` taken after `before`, of a clock with `tick_hz` ticks a second. `table` points
 * into `now`. Rows are sorted by pCPU; a vCPU that is new or has begun anew counts from 0.
 */
void monitor_top_compare(struct monitor_top *table, const struct monitor_sample *before,
                         const struct monitor_sample *now, uint64_t tick_hz);

/* Line `number` (from 0) of the table into `line`, cut and terminated, at most 79 columns; false past the
 * last. */
bool monitor_top_line(const struct monitor_top *table, unsigned number, char *line, size_t size);
