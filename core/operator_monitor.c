// SPDX-License-Identifier: BSD-2-Clause
/* What the monitor's commands do to the partitions and tell of the machine. */
#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "core/operator_private.h"
#include "core/partition.h"
#include "core/policy_keys.h"
#include "core/report.h"
#include "core/run.h"
#include "core/shared.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/physmap.h"

/* ---- Partitions ---------------------------------------------------------------------------------------- */

static enum monitor_state state_of(const struct partition *partition)
{
    switch (partition->state) {
    case PARTITION_RUNNING:
        if (partition->stopping || partition->parking)
            return MONITOR_STOPPING;
        return partition_is_waiting(partition) ? MONITOR_HALTED : MONITOR_RUNNING;
    case PARTITION_STARTING:
        return MONITOR_STARTING;
    case PARTITION_PAUSED:
        return MONITOR_PAUSED;
    case PARTITION_CRASHED:
        return MONITOR_CRASHED;
    case PARTITION_REFUSED:
        return MONITOR_REFUSED;
    default:
        return MONITOR_STOPPED;
    }
}

static bool op_partition(void *context, unsigned number, struct monitor_partition *row)
{
    const struct partition *partition = partition_at(number);

    (void)context;
    if (number >= partition_slots())
        return false;
    *row = (struct monitor_partition){.state = MONITOR_ABSENT};
    if (partition == NULL)
        return true;
    *row = (struct monitor_partition){
        .name = partition->config->name,
        .state = state_of(partition),
        .vcpus = partition->config->vcpus,
        .shared = !partition->config->cpus.dedicated,
        .memory = partition->config->memory,
        .reason = partition->reason,
    };
    for (unsigned i = 0; partition->vcpus != NULL && i < partition->vcpu_count; i++) {
        row->exits += partition->vcpus[i].trace.count;
        if (partition_is_placed(partition))
            row->cpus |= BIT(partition->vcpus[i].home);
    }
    return true;
}

static enum monitor_result fail(struct monitor_error *error, const char *format, ...) __printf_format(2, 3);

static enum monitor_result fail(struct monitor_error *error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    format_text_va(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    return MONITOR_FAILED;
}

/* How a start that is under way stands. */
static enum monitor_result wait_running(const struct partition *partition, struct monitor_error *error)
{
    switch (partition->state) {
    case PARTITION_RUNNING:
        return partition->parking ? MONITOR_AGAIN : MONITOR_DONE;
    case PARTITION_STARTING:
        return MONITOR_AGAIN;
    default:
        return fail(error, "%s",
                    partition->reason[0] != '\0' ? partition->reason : "it was stopped meanwhile");
    }
}

static enum monitor_result start(struct partition *partition, bool again, struct monitor_error *error)
{
    if (!again && partition_start(partition) == -EBUSY)
        return fail(error, "it runs already");
    return wait_running(partition, error);
}

static enum monitor_result stop(struct partition *partition, bool again, struct monitor_error *error)
{
    if (!again && partition_stop(partition, partition->config->timeout) != 0)
        return fail(error, "it does not run");
    if (partition->state == PARTITION_CRASHED)
        return fail(error, "it crashed meanwhile: %s", partition->reason);
    return partition->state == PARTITION_STOPPED ? MONITOR_DONE : MONITOR_AGAIN;
}

static enum monitor_result reset(struct partition *partition, bool again, struct monitor_error *error)
{
    if (!again && partition_reset(partition) != 0)
        return fail(error, "%s", partition->reason);
    /* Until the request is served, the old life goes on. */
    if (partition->state == PARTITION_RUNNING &&
        __atomic_load_n(&partition->request, __ATOMIC_ACQUIRE) != PARTITION_REQUEST_NONE)
        return MONITOR_AGAIN;
    return wait_running(partition, error);
}

static enum monitor_result pause(struct partition *partition, bool again, struct monitor_error *error)
{
    if (!again && partition_pause(partition) != 0)
        return fail(error, "it does not run");
    if (partition->state == PARTITION_RUNNING)
        return MONITOR_AGAIN;
    return partition->state == PARTITION_PAUSED ? MONITOR_DONE : fail(error, "it stopped meanwhile");
}

static enum monitor_result resume(struct partition *partition, bool again, struct monitor_error *error)
{
    (void)again;
    return partition_resume(partition) == 0 ? MONITOR_DONE : fail(error, "it is not paused");
}

/* The text that a partition was created of, by its slot, a frame each: its configuration points into it. */
static char *sections[CONFIG_PARTITIONS_MAX];
_Static_assert(MONITOR_SECTION_MAX <= PAGE_SIZE, "a section fits into a frame");

static bool keep_section(unsigned slot, const char *text, size_t length)
{
    hpa_t frame;

    if (frame_allocate(operator.frames, FRAME_OWNER_UMBRA, 1, PAGE_SHIFT, FRAME_ANYWHERE, &frame) != 0)
        return false;
    sections[slot] = physmap_pointer(frame);
    memcpy(sections[slot], text, length);
    return true;
}

static void drop_section(unsigned slot)
{
    if (sections[slot] != NULL)
        invariant(frame_release(operator.frames, physmap_address(sections[slot]), PAGE_SIZE,
                                FRAME_OWNER_UMBRA) == 0);
    sections[slot] = NULL;
}

/* Frees the slot of a partition that is gone, or never came to be. */
static void free_slot(unsigned slot)
{
    config_remove(operator.config, slot);
    drop_section(slot);
}

static enum monitor_result destroy(struct partition *partition, bool again, struct monitor_error *error)
{
    unsigned number = partition->number;

    (void)again;
    if (partition_destroy(partition) != 0)
        return fail(error, "it is not stopped");
    console_remove_partition(&operator.console, number);
    free_slot(number);
    return MONITOR_DONE;
}

static enum monitor_result focus(struct partition *partition, bool again, struct monitor_error *error)
{
    (void)again;
    return console_focus(&operator.console, partition->number + 1) == 0 ? MONITOR_DONE
                                                                        : fail(error, "it has no console");
}

static enum monitor_result op_act(void *context, enum monitor_action action, unsigned number, bool again,
                                  struct monitor_error *error)
{
    static enum monitor_result (*const actions[])(struct partition *, bool, struct monitor_error *) = {
        [MONITOR_START] = start, [MONITOR_STOP] = stop,     [MONITOR_RESET] = reset,
        [MONITOR_PAUSE] = pause, [MONITOR_RESUME] = resume, [MONITOR_DESTROY] = destroy,
        [MONITOR_FOCUS] = focus,
    };
    struct partition *partition = partition_at(number);

    (void)context;
    return partition == NULL ? fail(error, "it is gone") : actions[action](partition, again, error);
}

/* ---- Creation ------------------------------------------------------------------------------------------ */

static void complain(struct config_reporter *reporter, struct config_place place, const char *message)
{
    (void)reporter;
    monitor_complain(&operator.monitor, place.line, place.column, message);
}

static unsigned first_free_slot(void)
{
    unsigned slot = 0;

    while (slot < CONFIG_PARTITIONS_MAX && operator.config->partitions[slot].in_use)
        slot++;
    return slot;
}

/* Parses and checks. The new slot, or CONFIG_PARTITIONS_MAX: what is wrong has been said. */
static unsigned parse(const char *text, size_t length)
{
    struct config_reporter reporter = {.error = complain};
    unsigned slot = first_free_slot(), index;

    if (slot < CONFIG_PARTITIONS_MAX && !keep_section(slot, text, length)) {
        monitor_complain(&operator.monitor, 1, 1, "no memory for the text");
        return CONFIG_PARTITIONS_MAX;
    }
    /* If there is no slot the parser says so. */
    if (config_parse_section(operator.config, SLICE(""), slot < CONFIG_PARTITIONS_MAX ? sections[slot] : text,
                             length, core_policy_keys, &reporter, &index) != 0) {
        if (slot < CONFIG_PARTITIONS_MAX)
            drop_section(slot);
        return CONFIG_PARTITIONS_MAX;
    }
    invariant(index == slot);
    uint64_t available = PAGE_SIZE * (frame_total(operator.frames, FRAME_OWNER_FREE) +
                                      frame_total(operator.frames, FRAME_OWNER_DIRTY));
    if (config_check_partition(operator.config, slot, partition_machine()->files, available, percpu_count,
                               &reporter) == 0)
        return slot;
    free_slot(slot);
    return CONFIG_PARTITIONS_MAX;
}

/* A partition that has a vCPU on one of these pCPUs now, though it may go elsewhere; NULL: none. */
static const struct partition *find_tenant(uint64_t processors)
{
    for (unsigned i = 0; i < partition_slots(); i++) {
        const struct partition *partition = partition_at(i);

        for (unsigned n = 0; partition != NULL && partition_is_placed(partition) && n < partition->vcpu_count;
             n++)
            if (processors & BIT(partition->vcpus[n].home))
                return partition;
    }
    return NULL;
}

static enum monitor_result op_create(void *context, const char *text, size_t length, bool again,
                                     struct monitor_error *error)
{
    static unsigned slot; /* of the creation that is under way */
    int result;

    (void)context;
    if (!again)
        slot = parse(text, length);
    if (!again && slot < CONFIG_PARTITIONS_MAX && operator.config->partitions[slot].cpus.dedicated) {
        const struct partition *tenant = find_tenant(operator.config->partitions[slot].cpus.set);

        if (tenant != NULL) {
            free_slot(slot);
            return fail(error, "%.*s runs on a processor that would be its alone",
                        SLICE_ARGUMENTS(tenant->config->name));
        }
    }
    if (slot == CONFIG_PARTITIONS_MAX)
        return fail(error, "the section has errors");
    /* Memory that came back is being cleared. What a failed attempt gives back would have to be as well. */
    if (again && frame_total(operator.frames, FRAME_OWNER_DIRTY) > 0)
        return MONITOR_AGAIN;
    result = partition_create(slot);
    if (result == -EAGAIN)
        return MONITOR_AGAIN;
    if (result != 0) {
        fail(error, "%s", partition_at(slot)->reason);
        invariant(partition_destroy(partition_at(slot)) == 0); /* it is refused, so it can go */
        free_slot(slot);
        return MONITOR_FAILED;
    }
    operator_add_console(partition_at(slot));
    return MONITOR_DONE;
}

/* ---- Settings ------------------------------------------------------------------------------------------ */

static const char *op_set_key(void *context, unsigned number)
{
    static const char *const keys[] = {"weight", "cap", "on-stop", "timeout"};

    (void)context;
    return number < ARRAY_SIZE(keys) ? keys[number] : NULL;
}

static bool op_set(void *context, unsigned number, struct slice key, struct slice value,
                   struct monitor_error *error)
{
    char reason[CONFIG_REASON_MAX];

    (void)context;
    if (config_set(&operator.config->partitions[number], key, value, reason) != 0) {
        fail(error, "%s", reason);
        return false;
    }
    partition_update_schedule(partition_at(number));
    return true;
}

/* ---- A look inside ------------------------------------------------------------------------------------- */

static enum monitor_result op_snapshot(void *context, unsigned number, unsigned vcpu, bool again,
                                       struct monitor_error *error)
{
    struct partition *partition = partition_at(number);

    (void)context;
    if (partition->vcpus == NULL || vcpu >= partition->vcpu_count)
        return fail(error, "it has no vCPU %u", vcpu);

    struct vcpu_snapshot *snapshot = &partition->vcpus[vcpu].snapshot;
    static bool asked; /* for the snapshot that is under way */

    if (!again)
        asked = false;
    if (partition->parking)
        return MONITOR_AGAIN;
    /* A parked vCPU has left one when it was; one that runs is asked, once. */
    if (partition->state == PARTITION_RUNNING && !asked) {
        asked = true;
        __atomic_store_n(&snapshot->valid, false, __ATOMIC_RELEASE);
        partition_vcpu_post(&partition->vcpus[vcpu], MAIL_SNAPSHOT);
    }
    if (__atomic_load_n(&snapshot->valid, __ATOMIC_ACQUIRE))
        return MONITOR_DONE;
    return partition->state == PARTITION_RUNNING ? MONITOR_AGAIN : fail(error, "it has not run yet");
}

static bool op_dump_line(void *context, unsigned number, unsigned vcpu, unsigned line_number, char *line,
                         size_t size)
{
    const struct partition *partition = partition_at(number);

    (void)context;
    return partition != NULL &&
           report_dump_line(partition, vcpu, &partition->vcpus[vcpu].snapshot, line_number, line, size);
}

static void op_frame(void *context, unsigned number, unsigned vcpu, struct monitor_frame *frame)
{
    (void)context;
    report_snapshot_frame(&partition_at(number)->vcpus[vcpu].snapshot, frame);
}

static bool op_read_physical(void *context, unsigned number, uint64_t address, void *bytes, size_t size)
{
    const struct partition *partition = partition_at(number);

    (void)context;
    return partition != NULL && partition->vcpus != NULL &&
           guest_memory_read(&partition->memory_chain, GPA(address), bytes, size, NULL) == 0;
}

/* By the page tables that the vCPU had at the snapshot. */
static bool op_read_linear(void *context, unsigned number, unsigned vcpu, uint64_t address, void *bytes,
                           size_t size)
{
    struct partition *partition = partition_at(number);
    const struct partition_vcpu *v = &partition->vcpus[vcpu];
    const uint64_t *values = v->snapshot.values;
    /* Without EPT the VMCS holds no PDPTEs; the walker keeps them for the guest. */
    const uint64_t *pdptes = v->level->vcpu->regime == VCPU_REGIME_SHADOW ? v->level->walk.registers.pdpte
                                                                          : &values[VMCS_INDEX_GUEST_PDPTE0];
    const struct walk_x86_registers registers = {
        .cr0 = values[VMCS_INDEX_GUEST_CR0],
        .cr3 = values[VMCS_INDEX_GUEST_CR3],
        .cr4 = values[VMCS_INDEX_GUEST_CR4],
        .efer = values[VMCS_INDEX_GUEST_EFER],
        .pat = values[VMCS_INDEX_GUEST_PAT],
        .physical_bits = partition->physical_bits,
        .gigabyte_pages = partition->gigabyte_pages,
        .pdpte = {pdptes[0], pdptes[1], pdptes[2], pdptes[3]},
    };
    struct walk_x86 walk;
    struct stage_chain chain = {.stages = {&walk.stage, &partition->p2m.stage}, .count = 2};

    (void)context;
    walk_x86_init(&walk, &partition->memory_chain);
    walk_x86_set(&walk, &registers);
    return guest_linear_read(&chain, GLA(address), bytes, size, STAGE_ACCESS_AC | STAGE_ACCESS_PROBE, NULL) ==
           0;
}

/* ---- Traces and counters ------------------------------------------------------------------------------- */

static const struct trace *op_trace(void *context, unsigned number, unsigned vcpu)
{
    const struct partition *partition = partition_at(number);

    (void)context;
    if (partition == NULL || partition->vcpus == NULL || vcpu >= partition->vcpu_count)
        return NULL;
    return partition->trace_off ? &partition->vcpus[vcpu].kept_trace : &partition->vcpus[vcpu].trace;
}

static bool op_trace_switch(void *context, unsigned number, bool on, struct monitor_error *error)
{
    struct partition *partition = partition_at(number);

    (void)context;
    if (partition->vcpus == NULL) {
        fail(error, "it has no vCPUs");
        return false;
    }
    partition->trace_off = !on;
    for (unsigned i = 0; i < partition->vcpu_count; i++) {
        struct partition_vcpu *v = &partition->vcpus[i];

        trace_time_all(&v->trace, on);
        if (!on)
            trace_keep(&v->trace, &v->kept_trace);
    }
    return true;
}

static bool op_stats_line(void *context, unsigned number, unsigned line_number, char *line, size_t size)
{
    (void)context;
    return partition_at(number) != NULL && report_stats_line(partition_at(number), line_number, line, size);
}

static void op_sample(void *context, struct monitor_sample *sample)
{
    (void)context;
    sample->time = cpu_rdtsc();
    sample->cpu_count = percpu_count;
    for (unsigned i = 0; i < percpu_count; i++)
        sample->idle[i] = run_idle_ticks(i);
    for (unsigned i = 0; i < partition_slots(); i++) {
        const struct partition *partition = partition_at(i);

        for (unsigned n = 0; partition != NULL && partition_is_placed(partition) && n < partition->vcpu_count;
             n++) {
            const struct partition_vcpu *v = &partition->vcpus[n];

            if (sample->vcpu_count == MONITOR_SAMPLE_VCPUS)
                return;
            struct monitor_sample_vcpu *row = &sample->vcpus[sample->vcpu_count++];

            row->partition = (uint16_t)i;
            row->vcpu = (uint16_t)n;
            row->cpu = (uint16_t)v->home;
            row->ran = run_vcpu_ticks(v);
            format_text(row->name, sizeof(row->name), "%.*s", SLICE_ARGUMENTS(partition->config->name));
            report_exit_kinds(v->exits, row->exits);
        }
    }
}

static uint64_t op_now(void *context)
{
    (void)context;
    return cpu_rdtsc();
}

static uint64_t op_tick_hz(void *context)
{
    (void)context;
    return partition_machine()->tsc_hz;
}

/* ---- The machine --------------------------------------------------------------------------------------- */

/* Each partition's memory, what Umbra keeps for it, and the regions that partitions share. */
static bool memory_owner(unsigned number, struct report_owner *owner)
{
    static char name[CONFIG_NAME_MAX + sizeof("umbra for ")];
    struct shared_report region;

    for (unsigned i = 0; i < partition_slots(); i++) {
        const struct partition *partition = partition_at(i);

        if (partition == NULL)
            continue;
        if (number == 0) {
            *owner = (struct report_owner){partition->config->name, partition->frame_owner};
            return partition->frame_owner != 0;
        }
        if (number == 1) {
            format_text(name, sizeof(name), "umbra for %.*s", SLICE_ARGUMENTS(partition->config->name));
            *owner = (struct report_owner){slice_of(name), partition->kept_owner};
            return true;
        }
        number -= 2;
    }
    if (!shared_report(number, &region))
        return false;
    *owner = (struct report_owner){slice_of(region.name), region.owner};
    return true;
}

static bool op_memory_line(void *context, unsigned line_number, char *line, size_t size)
{
    (void)context;
    return report_memory_line(operator.frames, memory_owner, line_number, line, size);
}

/* Whom the processor serves, as far as there is room to say it. */
static void describe_service(unsigned number, char *text, size_t size)
{
    size_t length = (size_t)format_text(text, size, "%s", number == 0 ? "housekeeper" : "");

    for (unsigned i = 0; i < partition_slots(); i++) {
        const struct partition *partition = partition_at(i);
        bool serves = false;

        for (unsigned n = 0; partition != NULL && partition_is_placed(partition) && n < partition->vcpu_count;
             n++)
            serves |= partition->vcpus[n].home == number;
        if (serves && length < size)
            length += (size_t)format_text(text + length, size - length, "%s%.*s", length == 0 ? "" : ", ",
                                          SLICE_ARGUMENTS(partition->config->name));
    }
}

static bool processor(unsigned number, struct report_processor *processor)
{
    if (number >= percpu_count)
        return false;
    processor->apic_id = percpu_apic_ids[number];
    processor->elapsed = cpu_rdtsc() - run_started(number);
    processor->idle = run_idle_ticks(number);
    describe_service(number, processor->serves, sizeof(processor->serves));
    return true;
}

static bool op_cpu_line(void *context, unsigned line_number, char *line, size_t size)
{
    (void)context;
    return report_cpu_line(processor, line_number, line, size);
}

static bool op_log_line(void *context, uint64_t *position, char *line, size_t size)
{
    (void)context;
    return console_log_line(&operator.console, position, line, size);
}

static void op_poweroff(void *context)
{
    (void)context;
    operator.power_off_requested = true;
}

static void op_reboot(void *context)
{
    (void)context;
    operator.reboot_requested = true;
}

static size_t op_room(void *context)
{
    (void)context;
    return console_monitor_room(&operator.console);
}

static void op_write(void *context, const char *text, size_t length)
{
    (void)context;
    for (size_t i = 0; i < length; i++)
        console_put(&operator.console, CONSOLE_MONITOR, text[i]);
}

const struct monitor_ops operator_monitor_ops = {
    .partition = op_partition,
    .act = op_act,
    .create = op_create,
    .set_key = op_set_key,
    .set = op_set,
    .snapshot = op_snapshot,
    .dump_line = op_dump_line,
    .frame = op_frame,
    .read_linear = op_read_linear,
    .read_physical = op_read_physical,
    .trace = op_trace,
    .trace_switch = op_trace_switch,
    .stats_line = op_stats_line,
    .memory_line = op_memory_line,
    .cpu_line = op_cpu_line,
    .log_line = op_log_line,
    .sample = op_sample,
    .now = op_now,
    .tick_hz = op_tick_hz,
    .poweroff = op_poweroff,
    .reboot = op_reboot,
    .room = op_room,
    .write = op_write,
};
