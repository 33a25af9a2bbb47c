// SPDX-License-Identifier: BSD-2-Clause
#include "core/report.h"

#include "lib/printf.h"
#include "lib/string.h"
#include "mm/vtlb.h"

const char *report_reason_name(uint32_t reason)
{
    return vmx_exit_reason_name(reason & EXIT_REASON_BASIC);
}

/* ---- dump
 * ------------------------------------------------------------------------------------------------------- */

#define DUMP_REGISTER_LINES 4

static void dump_registers(struct partition_vcpu *v, unsigned row, char *line, size_t size)
{
    static const char *const names[VCPU_REGISTERS] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    size_t length = 0;

    for (unsigned i = row * 4; i < row * 4 + 4; i++)
        length += (size_t)format_text(line + length, size - length, "%s%-3s %016lx", i % 4 == 0 ? "" : "  ",
                                      names[i], vcpu_read_register(&v->vcpu, i));
}

/* The field that is `number`-th among those that this processor's VMCS has; false past the last. */
static bool nth_existing_field(unsigned number, struct vmcs_field *field)
{
    const struct vmx_capabilities *capabilities = &partition_machine()->capabilities;

    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        *field = vmcs_field_at(i);
        if (vmcs_field_exists(*field, capabilities) && number-- == 0)
            return true;
    }
    return false;
}

static unsigned existing_fields(void)
{
    static unsigned count;
    struct vmcs_field field;

    while (count == 0 || nth_existing_field(count, &field))
        count++;
    return count;
}

bool report_dump_line(struct partition *partition, unsigned number, char *line, size_t size)
{
    if (number == 0) {
        format_text(line, size, "%.*s: %s%s%s", SLICE_ARGUMENTS(partition->config->name),
                    partition_state_name(partition), partition->reason[0] != '\0' ? ": " : "",
                    partition->reason);
        return true;
    }
    if (partition->vcpus == NULL)
        return false;

    struct partition_vcpu *v = &partition->vcpus[0];
    number--;
    vcpu_load(&v->vcpu);
    if (number < DUMP_REGISTER_LINES) {
        dump_registers(v, number, line, size);
        return true;
    }
    number -= DUMP_REGISTER_LINES;
    struct vmcs_field field;
    if (nth_existing_field(number, &field)) {
        uint64_t value = 0;
        if (vcpu_try_read(&v->vcpu, field, &value))
            format_text(line, size, "%-34s %016lx", vmcs_field_name(field), value);
        else
            format_text(line, size, "%-34s -", vmcs_field_name(field));
        return true;
    }
    return trace_format(&v->trace, number - existing_fields(), report_reason_name, line, size);
}

/* ---- stats
 * ------------------------------------------------------------------------------------------------------ */

struct statistic {
    const char *name;
    uint64_t value;
};

/* The counters that are not one of a table; false past the last. */
static bool plain_statistic(const struct partition *partition, unsigned number, struct statistic *statistic)
{
    const struct partition_vcpu *v = &partition->vcpus[0];
    const struct vtlb_statistics *t = &v->vtlb.statistics;
    const struct statistic all[] = {
        {"starts", partition->starts},
        {"exits", v->trace.count},
        {"exits_sampled", v->sampled_exits},
        {"ticks_per_exit", v->sampled_exits == 0 ? 0 : v->sampled_ticks / v->sampled_exits},
        {"interrupts_injected", v->injected},
        {"mmio_emulated", v->mmio},
        {"first_entry_tsc", v->first_entry},
        {"scrub_ticks", partition->scrub_ticks},
        {"vtlb_misses", t->misses},
        {"vtlb_filled", t->filled},
        {"vtlb_no_memory", t->no_memory},
        {"vtlb_fills_4k", t->fills[0]},
        {"vtlb_fills_2m", t->fills[1]},
        {"vtlb_fills_1g", t->fills[2]},
        {"vtlb_stale", t->stale},
        {"vtlb_flushes",
         t->flushes[VTLB_FLUSH_ROOT] + t->flushes[VTLB_FLUSH_ADDRESS] + t->flushes[VTLB_FLUSH_P2M]},
        {"vtlb_evictions", t->evictions},
        {"vtlb_tables", t->tables_used},
        {"vtlb_tables_peak", t->tables_peak},
    };

    if (number >= ARRAY_SIZE(all))
        return false;
    *statistic = all[number];
    return true;
}

/* The `number`-th exit reason that has occurred. */
static bool exit_statistic(const struct partition_vcpu *v, unsigned number, unsigned *reason)
{
    for (unsigned r = 0; r < EXIT_REASON_COUNT; r++) {
        if (v->exits[r] == 0 || number-- != 0)
            continue;
        *reason = r;
        return true;
    }
    return false;
}

bool report_stats_line(struct partition *partition, unsigned number, char *line, size_t size)
{
    struct statistic statistic;
    unsigned reason;
    unsigned plain = 0;

    if (partition->vcpus == NULL)
        return false;
    if (plain_statistic(partition, number, &statistic)) {
        format_text(line, size, "%s %lu", statistic.name, statistic.value);
        return true;
    }
    while (plain_statistic(partition, plain, &statistic))
        plain++;
    if (!exit_statistic(&partition->vcpus[0], number - plain, &reason))
        return false;

    /* One word: the reason's name with _ for everything that is no letter or digit. */
    int length = format_text(line, size, "exits_%s", vmx_exit_reason_name(reason));
    for (int i = 0; i < length && (size_t)i < size; i++) {
        char c = line[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
            line[i] = '_';
    }
    format_text(line + length, size - (size_t)length, " %lu", partition->vcpus[0].exits[reason]);
    return true;
}

/* ---- memory, cpu
 * ------------------------------------------------------------------------------------------------ */

bool report_memory_line(const struct frame_pool *frames, unsigned number, char *line, size_t size)
{
    static const struct {
        uint16_t owner;
        const char *name;
    } owners[] = {
        {FRAME_OWNER_FREE, "free"},
        {FRAME_OWNER_DIRTY, "dirty"},
        {FRAME_OWNER_UMBRA, "umbra"},
        {FRAME_OWNER_MODULE, "modules"},
    };

    if (number < ARRAY_SIZE(owners)) {
        format_text(line, size, "%-16s %10lu KiB", owners[number].name,
                    frame_total(frames, owners[number].owner) * 4);
        return true;
    }
    number -= ARRAY_SIZE(owners);
    if (number == 0) {
        format_text(line, size, "%-16s %10lu KiB", "largest free", frame_largest_free(frames) * 4);
        return true;
    }
    const struct partition *partition = partition_at(number - 1);
    if (partition == NULL)
        return false;
    format_text(line, size, "%-16.*s %10lu KiB", SLICE_ARGUMENTS(partition->config->name),
                frame_total(frames, (uint16_t)(FRAME_OWNER_PARTITION + number - 1)) * 4);
    return true;
}

bool report_cpu_line(unsigned number, char *line, size_t size)
{
    const struct partition_machine *machine = partition_machine();
    bool present;

    if (number == 0) {
        format_text(line, size, "%-40s %lu.%03lu MHz", "time stamp counter", machine->tsc_hz / 1000000,
                    machine->tsc_hz / 1000 % 1000);
        return true;
    }
    const char *name = vmx_capabilities_describe(&machine->capabilities, number - 1, &present);
    if (name == NULL)
        return false;
    format_text(line, size, "%-40s %s", name, present ? "yes" : "no");
    return true;
}
