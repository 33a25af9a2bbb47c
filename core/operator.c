// SPDX-License-Identifier: BSD-2-Clause
#include "core/operator.h"

#include "arch/x86/cpu.h"
#include "arch/x86/trap.h"
#include "core/console.h"
#include "core/monitor.h"
#include "core/partition.h"
#include "core/report.h"
#include "drivers/serial.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/processor.h"

#define MONITOR_RING_SIZE KIB(16)
#define LOG_SIZE          KIB(64)
#define SCRUB_FRAMES      4 /* that one step clears of the memory that partitions gave back */

static struct console console;
static struct monitor monitor;
static struct frame_pool *frames;
static const struct acpi_machine *acpi;
static bool reboot_requested, power_off_requested;

/* ---- Console
 * ---------------------------------------------------------------------------------------------------- */

static bool terminal_read(void *context, char *byte)
{
    (void)context;
    return serial_read(byte);
}

static size_t terminal_room(void *context)
{
    (void)context;
    return serial_room();
}

static void terminal_write(void *context, const char *bytes, size_t length)
{
    (void)context;
    serial_write(bytes, length);
}

static bool console_input(void *context, unsigned channel, char byte)
{
    (void)context;
    if (channel == CONSOLE_MONITOR)
        return monitor_input(&monitor, byte);

    struct partition *partition = partition_at(channel - 1);
    /* What is typed at a partition that does not run is lost, as at a PC that is off. */
    if (partition->state != PARTITION_RUNNING)
        return true;
    /* A byte below the receiver's trigger level asks for nothing but a time-out. */
    partition->vcpus[0].deadline_changed = true;
    return platform_console_input(&partition->platform, byte);
}

static void monitor_has_focus(void *context)
{
    (void)context;
    monitor_focused(&monitor);
}

static const struct console_ops console_ops = {
    .read = terminal_read,
    .room = terminal_room,
    .write = terminal_write,
    .input = console_input,
    .monitor_focused = monitor_has_focus,
};

/* ---- Monitor
 * ---------------------------------------------------------------------------------------------------- */

static enum monitor_state state_of(const struct partition *partition)
{
    switch (partition->state) {
    case PARTITION_RUNNING:
        return partition->vcpus[0].halted ? MONITOR_HALTED : MONITOR_RUNNING;
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
    if (partition == NULL)
        return false;
    *row = (struct monitor_partition){
        .name = partition->config->name,
        .state = state_of(partition),
        .vcpus = partition->config->vcpus,
        .memory = partition->config->memory,
        .exits = partition->vcpus == NULL ? 0 : partition->vcpus[0].trace.count,
        .reason = partition->reason,
    };
    return true;
}

static bool op_start(void *context, unsigned number, struct monitor_error *error)
{
    struct partition *partition = partition_at(number);
    int result = partition_start(partition);

    (void)context;
    if (result == -EBUSY)
        format_text(error->text, sizeof(error->text), "it runs already");
    else if (result != 0)
        format_text(error->text, sizeof(error->text), "%s", partition->reason);
    return result == 0;
}

static bool op_stop(void *context, unsigned number, struct monitor_error *error)
{
    struct partition *partition = partition_at(number);

    (void)context;
    if (partition->state != PARTITION_RUNNING) {
        format_text(error->text, sizeof(error->text), "it does not run");
        return false;
    }
    partition_stop(partition);
    return true;
}

static bool op_reset(void *context, unsigned number, struct monitor_error *error)
{
    partition_stop(partition_at(number));
    return op_start(context, number, error);
}

static bool op_focus(void *context, unsigned number, struct monitor_error *error)
{
    (void)context;
    if (console_focus(&console, number + 1) == 0)
        return true;
    format_text(error->text, sizeof(error->text), "it has no console");
    return false;
}

static bool op_dump_line(void *context, unsigned number, unsigned line_number, char *line, size_t size)
{
    (void)context;
    return report_dump_line(partition_at(number), line_number, line, size);
}

static bool op_stats_line(void *context, unsigned number, unsigned line_number, char *line, size_t size)
{
    (void)context;
    return report_stats_line(partition_at(number), line_number, line, size);
}

static bool op_memory_line(void *context, unsigned line_number, char *line, size_t size)
{
    (void)context;
    return report_memory_line(frames, line_number, line, size);
}

static bool op_cpu_line(void *context, unsigned line_number, char *line, size_t size)
{
    (void)context;
    return report_cpu_line(line_number, line, size);
}

static bool op_log_line(void *context, uint64_t *position, char *line, size_t size)
{
    (void)context;
    return console_log_line(&console, position, line, size);
}

static void op_poweroff(void *context)
{
    (void)context;
    power_off_requested = true;
}

static void op_reboot(void *context)
{
    (void)context;
    reboot_requested = true;
}

static size_t op_room(void *context)
{
    (void)context;
    return console_monitor_room(&console);
}

static void op_write(void *context, const char *text, size_t length)
{
    (void)context;
    for (size_t i = 0; i < length; i++)
        console_put(&console, CONSOLE_MONITOR, text[i]);
}

static const struct monitor_ops monitor_ops = {
    .partition = op_partition,
    .start = op_start,
    .stop = op_stop,
    .reset = op_reset,
    .focus = op_focus,
    .dump_line = op_dump_line,
    .stats_line = op_stats_line,
    .memory_line = op_memory_line,
    .cpu_line = op_cpu_line,
    .log_line = op_log_line,
    .poweroff = op_poweroff,
    .reboot = op_reboot,
    .room = op_room,
    .write = op_write,
};

/* The newest hook, so it runs first: the console's own then shows what waits, byte by byte. */
static void on_panic(struct panic_hook *hook)
{
    (void)hook;
    serial_set_synchronous();
}

static struct panic_hook panic_hook = {.run = on_panic};

/* ---- Both
 * ------------------------------------------------------------------------------------------------------- */

static char *allocate(uint64_t bytes)
{
    hpa_t base;

    if (frame_allocate(frames, FRAME_OWNER_UMBRA, bytes / PAGE_SIZE, PAGE_SHIFT, FRAME_ANYWHERE, &base) != 0)
        panic("no memory for the console");
    return physmap_pointer(base);
}

void operator_init(const struct config *config, struct frame_pool *pool, const struct acpi_machine *machine)
{
    frames = pool;
    acpi = machine;
    console_init(&console, &console_ops, NULL, config->escape, allocate(MONITOR_RING_SIZE), MONITOR_RING_SIZE,
                 allocate(LOG_SIZE), LOG_SIZE);
    for (unsigned i = 0; i < config->partition_count; i++)
        if (config->partitions[i].console_uart && !config->partitions[i].refused)
            console_add_partition(&console, i, config->partitions[i].name, allocate(CONSOLE_RING_SIZE));
    monitor_init(&monitor, &monitor_ops, NULL);
    panic_hook_register(&panic_hook);
}

void operator_start(void)
{
    console_start(&console);
    for (unsigned i = 0; i < partition_count(); i++)
        if (partition_at(i)->state == PARTITION_RUNNING && console_focus(&console, i + 1) == 0)
            return;
    console_focus(&console, CONSOLE_MONITOR);
}

void operator_partition_write(unsigned partition, char byte)
{
    console_put(&console, partition + 1, byte);
}

bool operator_step(void)
{
    unsigned nmis = trap_take_nmis();

    if (nmis > 0)
        print("umbra: %u non-maskable interrupts of the machine\n", nmis);
    serial_poll();
    monitor_step(&monitor);
    console_step(&console);
    /* last_words shows what still waits. */
    if (power_off_requested)
        operator_power_off();
    if (reboot_requested)
        operator_reboot();
    uint64_t cleared = frame_scrub_step(frames, SCRUB_FRAMES);
    return cleared > 0 || (console_has_work(&console) && serial_room() > 0);
}

static void last_words(const char *line)
{
    serial_set_synchronous();
    console_stop(&console);
    print("\numbra: %s\n", line);
    serial_drain();
}

static void leave_vmx(void)
{
    if (vmx_capabilities_obstacle(&partition_machine()->capabilities) != NULL)
        return;
    for (unsigned i = 0; i < partition_count(); i++)
        if (partition_at(i)->vcpus != NULL)
            vcpu_unload(&partition_at(i)->vcpus[0].vcpu);
    vmx_processor_disable();
}

void operator_power_off(void)
{
    last_words("off");
    acpi_machine_power_off(acpi);
    cpu_stop();
}

void operator_reboot(void)
{
    last_words("reboot");
    leave_vmx(); /* INIT, which some resets are, is blocked in VMX operation */
    acpi_machine_reset(acpi);
    cpu_stop();
}
