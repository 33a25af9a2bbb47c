// SPDX-License-Identifier: BSD-2-Clause
#include "core/report.h"

#include "arch/x86/registers.h"
#include "core/nested_guest.h"
#include "lib/muldiv.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "nested/owner.h"

const char *report_reason_name(uint32_t reason)
{
    return vmx_exit_reason_name(reason & EXIT_REASON_BASIC);
}

/* ---- dump ------------------------------------------------------------------------------------ */

/* What `auto` stands for was chosen when the partition was built. */
static const char *const paging_names[] = {
    [CONFIG_PAGING_AUTO] = "auto",
    [CONFIG_PAGING_EPT] = "ept",
    [CONFIG_PAGING_VTLB] = "vtlb (cached)",
    [CONFIG_PAGING_VTLB_BASE] = "vtlb (base)",
};

#define DUMP_HEAD_LINES     2
#define DUMP_REGISTER_LINES 4

static void dump_registers(const struct vcpu_snapshot *s, unsigned row, char *line, size_t size)
{
    static const char *const names[VCPU_REGISTERS] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    size_t length = 0;

    for (unsigned i = row * 4; i < row * 4 + 4 && length < size; i++)
        length += (size_t)format_text(line + length, size - length, "%s%-3s %016lx", i % 4 == 0 ? "" : "  ",
                                      names[i], s->registers[i]);
}

/* A field of the vCPU's VMCS, of all three where it has a virtual VT-x. False: there is no such field. */
static bool write_field(const struct vcpu_snapshot *s, const struct nested_snapshot *nested,
                        struct vmcs_field field, char *line, size_t size)
{
    const unsigned index = field.index;
    char texts[NESTED_VMCSS][20];
    bool exists = vmcs_field_exists(field, &partition_machine()->capabilities);
    uint64_t value;

    if (nested == NULL) {
        if (exists && (s->known[index / 64] >> (index % 64) & 1) != 0)
            format_text(line, size, "%-34s %016lx", vmcs_field_name(field), s->values[index]);
        else if (exists)
            format_text(line, size, "%-34s -", vmcs_field_name(field));
        return exists;
    }
    for (unsigned i = 0; i < NESTED_VMCSS; i++) {
        const bool known = nested_snapshot_value(nested, (enum nested_snapshot_vmcs)i, field, &value);

        format_text(texts[i], sizeof(texts[i]), known ? "%016lx" : "-", value);
        exists = exists || known;
    }
    format_text(line, size, "%-34s %-12s %-16s %-16s %s", vmcs_field_name(field), nested_merge_rule(field),
                texts[NESTED_VMCS01], texts[NESTED_VMCS12], texts[NESTED_VMCS02]);
    return exists;
}

/* The field that is `*number`-th among those that there are; else false, and *number is less by as many. */
static bool dump_field(const struct vcpu_snapshot *s, const struct nested_snapshot *nested, unsigned *number,
                       char *line, size_t size)
{
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        if (write_field(s, nested, vmcs_field_at(i), line, size) && (*number)-- == 0)
            return true;
    return false;
}

#define DUMP_NESTED_LINES 2

static void dump_nested(const struct nested_snapshot *s, unsigned row, char *line, size_t size)
{
    static const char *const modes[] = {
        [NESTED_OFF] = "VMX is off",
        [NESTED_ROOT] = "Lv1 runs, in VMX root operation",
        [NESTED_NON_ROOT] = "Lv2 runs",
    };
    size_t length;

    if (row == 1) {
        format_text(line, size, "%-34s %-12s %-16s %-16s %s", "field", "rule", "VMCS01", "VMCS12", "VMCS02");
        return;
    }
    length = (size_t)format_text(line, size, "nested: %s", modes[s->mode]);
    if (s->mode != NESTED_OFF && length < size)
        length += (size_t)format_text(line + length, size - length, ", VMXON region %#lx", s->vmxon_pointer);
    if (s->current != NESTED_NO_VMCS && length < size)
        format_text(line + length, size - length, ", VMCS12 %#lx", s->current);
}

bool report_dump_line(const struct partition *partition, unsigned vcpu, const struct vcpu_snapshot *snapshot,
                      unsigned number, char *line, size_t size)
{
    const struct nested_snapshot *nested;

    if (number == 0) {
        format_text(line, size, "%.*s: %s%s%s", SLICE_ARGUMENTS(partition->config->name),
                    partition_state_name(partition), partition->reason[0] != '\0' ? ": " : "",
                    partition->reason);
        return true;
    }
    if (partition->vcpus == NULL || vcpu >= partition->vcpu_count)
        return false;
    if (number == 1) {
        format_text(line, size, "vcpu %u of %u, paging %s", vcpu, partition->vcpu_count,
                    paging_names[partition->paging]);
        return true;
    }
    number -= DUMP_HEAD_LINES;
    nested = partition->vcpus[vcpu].nested == NULL ? NULL : &partition->vcpus[vcpu].nested->snapshot;
    if (snapshot->valid) {
        if (number < DUMP_REGISTER_LINES) {
            dump_registers(snapshot, number, line, size);
            return true;
        }
        number -= DUMP_REGISTER_LINES;
        if (nested != NULL && number < DUMP_NESTED_LINES) {
            dump_nested(nested, number, line, size);
            return true;
        }
        number -= nested == NULL ? 0 : DUMP_NESTED_LINES;
        if (dump_field(snapshot, nested, &number, line, size))
            return true;
    }
    return trace_format(&partition->vcpus[vcpu].trace, number, report_reason_name, line, size);
}

/* ---- where ----------------------------------------------------------------------------------- */

/* Segment access rights in a VMCS. */
#define RIGHTS_LONG BIT(13)
#define RIGHTS_BIG  BIT(14)

void report_snapshot_frame(const struct vcpu_snapshot *s, struct monitor_frame *frame)
{
    const uint64_t *values = s->values;
    bool is_64 = (values[VMCS_INDEX_GUEST_EFER] & X86_EFER_LMA) != 0 &&
                 (values[VMCS_INDEX_GUEST_CS_ACCESS_RIGHTS] & RIGHTS_LONG) != 0;
    bool is_32 = (values[VMCS_INDEX_GUEST_SS_ACCESS_RIGHTS] & RIGHTS_BIG) != 0;

    *frame = (struct monitor_frame){
        .rbp = s->registers[VCPU_RBP],
        .code_base = is_64 ? 0 : values[VMCS_INDEX_GUEST_CS_BASE],
        .stack_base = is_64 ? 0 : values[VMCS_INDEX_GUEST_SS_BASE],
        .width = is_64   ? 8
                 : is_32 ? 4
                         : 2,
    };
    frame->rip = values[VMCS_INDEX_GUEST_RIP] + frame->code_base;
}

/* ---- stats ----------------------------------------------------------------------------------- */

/* What the virtual TLB counts. Those behind VTLB_COUNTERS_EPT move only where it reads a guest's tables. */
static const struct {
    const char *name;
    uint16_t offset; /* in struct vtlb_statistics */
} vtlb_counters[] = {
#define COUNTER(name, member)                                                                                \
    {                                                                                                        \
        "vtlb_" name, offsetof(struct vtlb_statistics, member)                                               \
    }
    COUNTER("misses", misses),
    COUNTER("filled", filled),
    COUNTER("no_memory", no_memory),
    COUNTER("fills_4k", fills[0]),
    COUNTER("fills_2m", fills[1]),
    COUNTER("fills_1g", fills[2]),
    COUNTER("stale", stale),
    COUNTER("evictions", evictions),
#define VTLB_COUNTERS_EPT 8
    COUNTER("guest_faults", guest_faults),
    COUNTER("again", again),
    COUNTER("prefetched", prefetched),
    COUNTER("prefetched_used", prefetched_used),
    COUNTER("raised", raised),
    COUNTER("splintered", splintered),
    COUNTER("transient", transient),
    COUNTER("flushes_root", flushes[VTLB_FLUSH_ROOT]),
    COUNTER("flushes_address", flushes[VTLB_FLUSH_ADDRESS]),
    COUNTER("flushes_tag", flushes[VTLB_FLUSH_TAG]),
    COUNTER("flushes_all", flushes[VTLB_FLUSH_ALL]),
    COUNTER("flushes_memory", flushes[VTLB_FLUSH_P2M]),
    COUNTER("flushes_reclaim", flushes[VTLB_FLUSH_RECLAIM]),
    COUNTER("flushes_destroy", flushes[VTLB_FLUSH_DESTROY]),
    COUNTER("flushed_entries", flushed_entries),
    COUNTER("compared", compared),
    COUNTER("changed", changed),
    COUNTER("contexts_made", contexts_made),
    COUNTER("contexts_hit", hits),
    COUNTER("contexts_evicted", contexts_evicted),
    COUNTER("cleaned_late", cleaned_late),
#undef COUNTER
};

_Static_assert(VTLB_FLUSH_CAUSES == 7 && VTLB_PAGE_SIZES == 3, "a counter has no row");

/* Of a vCPU, or of several together. */
struct statistics {
    uint64_t exits, sampled_exits, sampled_ticks, injected, mmio, first_entry, switches;
    bool has_nested; /* with guest hypervisors; then also: */
    uint64_t nested_entries;
    struct nested_statistics nested;
    uint64_t flushes, tables, tables_peak, quota;
    uint64_t vtlb[ARRAY_SIZE(vtlb_counters)];
    unsigned vtlb_count; /* of these that are shown */
    uint64_t by_reason[EXIT_REASON_COUNT];
};

struct statistic {
    const char *name;
    uint64_t value;
};

static void add_vtlb(struct statistics *s, const struct vtlb *vtlb)
{
    const struct vtlb_statistics *t = &vtlb->statistics;

    for (unsigned i = 0; i < ARRAY_SIZE(vtlb_counters); i++)
        s->vtlb[i] += *(const uint64_t *)(const void *)((const char *)t + vtlb_counters[i].offset);
    for (unsigned i = 0; i < VTLB_FLUSH_CAUSES; i++)
        s->flushes += t->flushes[i];
    s->tables += t->tables_used;
    s->tables_peak += t->tables_peak;
    s->quota += vtlb->pages;
}

/* Exits of guests of a guest hypervisor's that Umbra answered by itself. */
static uint64_t nested_kept(const struct statistics *s)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < NESTED_OWNERS; i++)
        sum += s->nested.kept[i];
    return sum;
}

static void add_nested(struct nested_statistics *s, const struct nested_statistics *n)
{
    s->refused += n->refused;
    s->failed += n->failed;
    s->left += n->left;
    s->passed += n->passed;
    for (unsigned i = 0; i < NESTED_OWNERS; i++)
        s->kept[i] += n->kept[i];
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++)
        s->by_reason[i] += n->by_reason[i];
    for (unsigned i = 0; i < NESTED_CHECK_ROWS_MAX; i++)
        s->by_check[i] += n->by_check[i];
}

static void add_vcpu(struct statistics *s, const struct partition_vcpu *v)
{
    s->exits += v->trace.count;
    s->sampled_exits += v->sampled_exits;
    s->sampled_ticks += v->sampled_ticks;
    s->injected += v->injected;
    s->mmio += v->mmio;
    if (v->first_entry != 0 && (s->first_entry == 0 || v->first_entry < s->first_entry))
        s->first_entry = v->first_entry;
    s->switches += v->switches;
    add_vtlb(s, &v->vtlb);
    if (v->nested != NULL) {
        s->nested_entries += v->nested->entries;
        add_nested(&s->nested, &v->nested->statistics);
        add_vtlb(s, &v->nested->memory.vtlb);
    }
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++)
        s->by_reason[i] += v->exits[i];
}

/* The sum over `count` vCPUs of the partition's from `first` on. */
static void add_vcpus(struct statistics *s, const struct partition *partition, unsigned first, unsigned count)
{
    const bool shadow = partition->regimes[VCPU_REGIME_SHADOW] || partition->config->nested;

    *s = (struct statistics){.vtlb_count = shadow ? ARRAY_SIZE(vtlb_counters) : VTLB_COUNTERS_EPT,
                             .has_nested = partition->config->nested};
    for (unsigned i = first; i < first + count; i++)
        add_vcpu(s, &partition->vcpus[i]);
}

/* The counters that are not one of a kind of exit; false past the last. */
static bool plain_statistic(const struct statistics *s, unsigned number, struct statistic *statistic)
{
    const struct statistic all[] = {
        {"exits", s->exits},
        {"exits_sampled", s->sampled_exits},
        {"ticks_per_exit", s->sampled_exits == 0 ? 0 : s->sampled_ticks / s->sampled_exits},
        {"interrupts_injected", s->injected},
        {"mmio_emulated", s->mmio},
        {"first_entry_tsc", s->first_entry},
        {"switches", s->switches},
        {"vtlb_tables", s->tables},
        {"vtlb_tables_peak", s->tables_peak},
        {"vtlb_tables_quota", s->quota},
        {"vtlb_flushes", s->flushes},
    };
    const uint64_t *kept = s->nested.kept;
    const uint64_t nested_exits = s->nested.passed + nested_kept(s);
    const struct statistic nested[] = {
        {"lv1_exits", s->exits - nested_exits},
        {"nested_entries", s->nested_entries},
        {"nested_entries_refused", s->nested.refused},
        {"nested_entries_failed", s->nested.failed},
        {"nested_entries_ended", s->nested.left},
        {"nested_exits", nested_exits},
        {"nested_exits_passed", s->nested.passed},
        {"nested_exits_kept", nested_kept(s)},
        {"nested_exits_kept_own", kept[NESTED_LV0]},
        {"nested_exits_kept_memory", kept[NESTED_LV0_MEMORY]},
        {"nested_exits_kept_cr", kept[NESTED_LV0_CR]},
        {"nested_exits_kept_emulated", kept[NESTED_LV0_EMULATE]},
        {"nested_exits_kept_undefined", kept[NESTED_LV0_UNDEFINED]},
    };
    const unsigned nested_count = s->has_nested ? ARRAY_SIZE(nested) : 0;

    if (number < ARRAY_SIZE(all)) {
        *statistic = all[number];
        return true;
    }
    number -= ARRAY_SIZE(all);
    if (number < nested_count) {
        *statistic = nested[number];
        return true;
    }
    number -= nested_count;
    if (number >= s->vtlb_count)
        return false;
    *statistic = (struct statistic){vtlb_counters[number].name, s->vtlb[number]};
    return true;
}

/* Exits by reason: of all levels, of guest hypervisors, of their guests. */
static const struct {
    const char *name;
    bool lv1, lv2;
} reason_counters[] = {{"exits_", true, true}, {"lv1_exits_", true, false}, {"nested_exits_", false, true}};

static uint64_t exits_by_reason(const struct statistics *s, unsigned counter, unsigned reason)
{
    const uint64_t lv2 = s->nested.by_reason[reason], lv1 = s->by_reason[reason] - lv2;

    return (reason_counters[counter].lv1 ? lv1 : 0) + (reason_counters[counter].lv2 ? lv2 : 0);
}

/* A counter whose name ends with a text: one word, with _ for everything that is no letter or digit. */
static void write_word_line(const char *prefix, const char *name, const char *text, uint64_t value,
                            char *line, size_t size)
{
    size_t start = strlen(prefix);
    size_t length = (size_t)format_text(line, size, "%s%s%s", prefix, name, text);

    for (size_t i = start; i < length && i < size; i++) {
        char c = line[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
            line[i] = '_';
    }
    if (length < size)
        format_text(line + length, size - length, " %lu", value);
}

/* Line *number of the statistics. False past the last: *number is then counted from there. */
static bool statistics_line(const struct statistics *s, const char *prefix, unsigned *number, char *line,
                            size_t size)
{
    const unsigned counters = s->has_nested ? ARRAY_SIZE(reason_counters) : 1;
    struct statistic statistic;
    unsigned plain = 0;

    if (plain_statistic(s, *number, &statistic)) {
        format_text(line, size, "%s%s %lu", prefix, statistic.name, statistic.value);
        return true;
    }
    while (plain_statistic(s, plain, &statistic))
        plain++;
    *number -= plain;
    for (unsigned i = 0; i < counters * EXIT_REASON_COUNT; i++) {
        const unsigned counter = i / EXIT_REASON_COUNT, reason = i % EXIT_REASON_COUNT;
        const uint64_t value = exits_by_reason(s, counter, reason);

        if (value == 0 || (*number)-- != 0)
            continue;
        write_word_line(prefix, reason_counters[counter].name, vmx_exit_reason_name(reason), value, line,
                        size);
        return true;
    }
    for (unsigned i = 0; i < NESTED_CHECK_ROWS_MAX; i++) {
        if (s->nested.by_check[i] == 0 || (*number)-- != 0)
            continue;
        write_word_line(prefix, "nested_check_", nested_check_at(i)->name, s->nested.by_check[i], line, size);
        return true;
    }
    return false;
}

bool report_stats_line(const struct partition *partition, unsigned number, char *line, size_t size)
{
    const struct statistic own[] = {
        {"starts", partition->starts},
        {"scrub_ticks", partition->scrub_ticks},
    };
    struct statistics s;
    char prefix[16];

    if (partition->vcpus == NULL)
        return false;
    if (number < ARRAY_SIZE(own)) {
        format_text(line, size, "%s %lu", own[number].name, own[number].value);
        return true;
    }
    number -= ARRAY_SIZE(own);
    add_vcpus(&s, partition, 0, partition->vcpu_count);
    if (statistics_line(&s, "", &number, line, size))
        return true;
    for (unsigned i = 0; i < partition->vcpu_count && partition->vcpu_count > 1; i++) {
        add_vcpus(&s, partition, i, 1);
        format_text(prefix, sizeof(prefix), "vcpu%u_", i);
        if (statistics_line(&s, prefix, &number, line, size))
            return true;
    }
    return false;
}

/* ---- top ------------------------------------------------------------------------------------- */

void report_exit_kinds(const uint64_t *exits, uint64_t kinds[MONITOR_EXIT_KINDS])
{
    /* Those that are not named here are of the kind "other": 0 in the table, so it holds kinds less one. */
    static const uint8_t table[EXIT_REASON_COUNT] = {
#define KIND(reason, kind) [EXIT_REASON_##reason] = MONITOR_EXIT_##kind + 1
        KIND(EXTERNAL_INTERRUPT, INTERRUPT),
        KIND(INTERRUPT_WINDOW, INTERRUPT),
        KIND(NMI_WINDOW, INTERRUPT),
        KIND(PREEMPTION_TIMER, INTERRUPT),
        KIND(TPR_BELOW_THRESHOLD, INTERRUPT),
        KIND(VIRTUALIZED_EOI, INTERRUPT),
        KIND(APIC_WRITE, INTERRUPT),
        KIND(IO_INSTRUCTION, IO),
        KIND(EPT_VIOLATION, MEMORY),
        KIND(EPT_MISCONFIGURATION, MEMORY),
        KIND(APIC_ACCESS, MEMORY),
        KIND(EXCEPTION_OR_NMI, MEMORY), /* page faults, but for few */
        KIND(INVLPG, MEMORY),
        KIND(INVPCID, MEMORY),
        KIND(RDMSR, MSR),
        KIND(WRMSR, MSR),
        KIND(CPUID, CPUID),
        KIND(HLT, HALT),
        KIND(PAUSE, HALT),
        KIND(MWAIT, HALT),
#undef KIND
    };

    for (unsigned reason = 0; reason < EXIT_REASON_COUNT; reason++)
        kinds[table[reason] == 0 ? MONITOR_EXIT_OTHER : table[reason] - 1] += exits[reason];
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool memory_row(bool (*owner)(unsigned number, struct report_owner *owner), unsigned number,
                       struct report_owner *row)
{
    static const struct report_owner fixed[] = {
        {SLICE("free"), FRAME_OWNER_FREE},
        {SLICE("being cleared"), FRAME_OWNER_DIRTY},
        {SLICE("umbra"), FRAME_OWNER_UMBRA},
        {SLICE("modules"), FRAME_OWNER_MODULE},
    };

    if (number >= ARRAY_SIZE(fixed))
        return owner(number - ARRAY_SIZE(fixed), row);
    *row = fixed[number];
    return true;
}

static void write_frames(struct slice name, uint64_t frames, char *line, size_t size)
{
    format_text(line, size, "%-16.*s %12lu KiB", SLICE_ARGUMENTS(name), frames * (PAGE_SIZE / 1024));
}

bool report_memory_line(const struct frame_pool *frames,
                        bool (*owner)(unsigned number, struct report_owner *owner), unsigned number,
                        char *line, size_t size)
{
    struct report_owner row;
    uint64_t total = 0;
    unsigned rows = 0;

    if (memory_row(owner, number, &row)) {
        write_frames(row.name, frame_total(frames, row.owner), line, size);
        return true;
    }
    for (; memory_row(owner, rows, &row); rows++)
        total += frame_total(frames, row.owner);
    switch (number - rows) {
    case 0:
        write_frames(SLICE("together"), total, line, size);
        return true;
    case 1:
        write_frames(SLICE("largest free"), frame_largest_free(frames), line, size);
        return true;
    default:
        return false;
    }
}

/* ---- cpu ------------------------------------------------------------------------------------- */

static void write_processor(unsigned number, const struct report_processor *p, char *line, size_t size)
{
    uint64_t idle = p->elapsed == 0 ? 0 : muldiv_u64(min_u64(p->idle, p->elapsed), 1000, p->elapsed);

    format_text(line, size, "%3u %8x %4lu.%lu%% %4lu.%lu%%  %s", number, p->apic_id, (1000 - idle) / 10,
                (1000 - idle) % 10, idle / 10, idle % 10, p->serves);
}

bool report_cpu_line(bool (*processor)(unsigned number, struct report_processor *processor), unsigned number,
                     char *line, size_t size)
{
    const struct partition_machine *machine = partition_machine();
    struct report_processor p;
    unsigned count = 0;
    bool present;

    if (number == 0) {
        format_text(line, size, "%3s %8s %7s %7s  %s", "cpu", "apic", "busy", "idle", "serves");
        return true;
    }
    number--;
    if (processor(number, &p)) {
        write_processor(number, &p, line, size);
        return true;
    }
    while (processor(count, &p))
        count++;
    number -= count;
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
