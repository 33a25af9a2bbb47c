// SPDX-License-Identifier: BSD-2-Clause
#include "core/monitor_top.h"

#include "lib/muldiv.h"
#include "lib/printf.h"
#include "lib/string.h"

#define HEAD_LINES 2

/* ---- Two samples make a table ---------------------------------------------------------------- */

/* The same vCPU in `sample`, or NULL. It is looked for from place `hint` on: there it usually is. */
static const struct monitor_sample_vcpu *find(const struct monitor_sample *sample,
                                              const struct monitor_sample_vcpu *vcpu, unsigned hint)
{
    for (unsigned i = 0; i < sample->vcpu_count; i++) {
        const struct monitor_sample_vcpu *v = &sample->vcpus[(hint + i) % sample->vcpu_count];
        if (v->partition == vcpu->partition && v->vcpu == vcpu->vcpu)
            return v;
    }
    return NULL;
}

/* Whether a counter of `now` is behind `before`: then all of them have begun again. */
static bool begun_anew(const struct monitor_sample_vcpu *before, const struct monitor_sample_vcpu *now)
{
    bool anew = now->ran < before->ran;

    for (unsigned kind = 0; kind < MONITOR_EXIT_KINDS; kind++)
        anew |= now->exits[kind] < before->exits[kind];
    return anew;
}

static uint16_t permille(uint64_t part, uint64_t whole)
{
    return (uint16_t)min_u64(1000, muldiv_u64(min_u64(part, whole), 1000, whole));
}

static void compare_vcpu(struct monitor_top_row *row, const struct monitor_sample_vcpu *before,
                         const struct monitor_sample_vcpu *now, uint64_t interval, uint64_t tick_hz)
{
    static const struct monitor_sample_vcpu none;

    if (before == NULL || begun_anew(before, now))
        before = &none;
    *row = (struct monitor_top_row){.name = now->name, .cpu = now->cpu, .vcpu = now->vcpu};
    row->permille = permille(now->ran - before->ran, interval);
    for (unsigned kind = 0; kind < MONITOR_EXIT_KINDS; kind++) {
        uint64_t exits = now->exits[kind] - before->exits[kind];
        row->exits[kind] = muldiv_u64(exits, tick_hz, interval);
        row->exits_all += exits;
    }
    row->exits_all = muldiv_u64(row->exits_all, tick_hz, interval);
}

void monitor_top_compare(struct monitor_top *table, const struct monitor_sample *before,
                         const struct monitor_sample *now, uint64_t tick_hz)
{
    uint64_t interval = max_u64(1, now->time - before->time);

    table->milliseconds = muldiv_u64(interval, 1000, tick_hz);
    table->cpu_count = now->cpu_count;
    table->row_count = 0;
    for (unsigned cpu = 0; cpu < now->cpu_count; cpu++) {
        for (unsigned i = 0; i < now->vcpu_count; i++)
            if (now->vcpus[i].cpu == cpu)
                compare_vcpu(&table->rows[table->row_count++], find(before, &now->vcpus[i], i),
                             &now->vcpus[i], interval, tick_hz);
        table->rows[table->row_count++] = (struct monitor_top_row){
            .name = "idle",
            .cpu = (uint16_t)cpu,
            .idle = true,
            .permille = permille(now->idle[cpu] - before->idle[cpu], interval),
        };
    }
}

/* ---- The table as text ----------------------------------------------------------------------- */

/* In at most five places. */
static const char *rate_text(uint64_t rate, char *text, size_t size)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    unsigned unit = 0;

    if (rate < 100000) {
        format_text(text, size, "%lu", rate);
        return text;
    }
    for (; rate >= 10000 && unit + 1 < ARRAY_SIZE(units); unit++)
        rate /= 1000;
    format_text(text, size, "%lu%s", rate, units[unit]);
    return text;
}

bool monitor_top_line(const struct monitor_top *table, unsigned number, char *line, size_t size)
{
    static const char *const kinds[MONITOR_EXIT_KINDS] = {
        [MONITOR_EXIT_INTERRUPT] = "irq", [MONITOR_EXIT_IO] = "io",       [MONITOR_EXIT_MEMORY] = "mem",
        [MONITOR_EXIT_MSR] = "msr",       [MONITOR_EXIT_CPUID] = "cpuid", [MONITOR_EXIT_HALT] = "halt",
        [MONITOR_EXIT_OTHER] = "other",
    };
    const struct monitor_top_row *row = NULL;
    char text[24];
    size_t length;

    if (number == 0) {
        format_text(line, size, "%u processors, %lu.%03lu s", table->cpu_count, table->milliseconds / 1000,
                    table->milliseconds % 1000);
        return true;
    }
    if (number >= HEAD_LINES + table->row_count)
        return false;
    if (number == 1) {
        length = (size_t)format_text(line, size, "%3s %-12s %4s %6s %8s", "cpu", "partition", "vcpu", "share",
                                     "exits/s");
    } else {
        row = &table->rows[number - HEAD_LINES];
        format_text(text, sizeof(text), row->idle ? "-" : "%u", row->vcpu);
        length = (size_t)format_text(line, size, "%3u %-12s %4s %4u.%u%%", row->cpu, row->name, text,
                                     row->permille / 10, row->permille % 10);
        if (row->idle)
            return true;
        length += (size_t)format_text(line + length, size - length, " %8s",
                                      rate_text(row->exits_all, text, sizeof(text)));
    }
    for (unsigned kind = 0; kind < MONITOR_EXIT_KINDS && length < size; kind++)
        length +=
            (size_t)format_text(line + length, size - length, " %5s",
                                row == NULL ? kinds[kind] : rate_text(row->exits[kind], text, sizeof(text)));
    return true;
}
