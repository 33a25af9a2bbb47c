// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the monitor's commands and the panic screen show, line by line, so that nothing has to be printed in
 * one go. Each line function writes line `number` (from 0) into `line`, cut and terminated, without newline;
 * false past the last. Nothing here touches a VMCS: what is in one comes as a snapshot.
 *
 * On the housekeeper. Counters of vCPUs that run elsewhere are read as they are: each is a word.
 */
#include "core/monitor_inspect.h"
#include "core/monitor_top.h"
#include "core/partition.h"

/* `dump`: state, who translates, registers, every VMCS field that this processor has, the last exits of vCPU
 * `vcpu`. */
bool report_dump_line(const struct partition *partition, unsigned vcpu, const struct vcpu_snapshot *snapshot,
                      unsigned number, char *line, size_t size);

/* Where the vCPU stands, for a back-trace. The snapshot is valid. */
void report_snapshot_frame(const struct vcpu_snapshot *snapshot, struct monitor_frame *frame);

/*
 * `stats`: lines `name value`: the sum over the vCPUs, and if there are several, each one's with `vcpuN_`
 * before the name. What only a virtual TLB over the guest's own tables counts is left out where none can be.
 */
bool report_stats_line(const struct partition *partition, unsigned number, char *line, size_t size);

/* Adds a vCPU's exits by reason (`exits`, EXIT_REASON_COUNT of them) up by kind, for `top`. */
void report_exit_kinds(const uint64_t *exits, uint64_t kinds[MONITOR_EXIT_KINDS]);

/* Who, beside Umbra itself, may own frames: a partition, a region that partitions share. */
struct report_owner {
    struct slice name;
    uint16_t owner; /* of frames */
};

/*
 * `memory`: who owns how much, in KiB; the line before the last is the sum. `owner` yields owner `number`
 * (from 0), false past the last.
 */
bool report_memory_line(const struct frame_pool *frames,
                        bool (*owner)(unsigned number, struct report_owner *owner), unsigned number,
                        char *line, size_t size);

/* A processor of the machine. */
struct report_processor {
    uint32_t apic_id;
    char serves[48];  /* "housekeeper", the partitions that have it, … */
    uint64_t elapsed; /* ticks since it was started */
    uint64_t idle;    /* of these, asleep */
};

/*
 * `cpu`: the processors, the clock, the capabilities in words. `processor` yields pCPU `number`, false past
 * the last.
 */
bool report_cpu_line(bool (*processor)(unsigned number, struct report_processor *processor), unsigned number,
                     char *line, size_t size);

/* The name of an exit-reason field's basic reason. */
const char *report_reason_name(uint32_t reason);
