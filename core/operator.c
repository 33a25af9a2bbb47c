// SPDX-License-Identifier: BSD-2-Clause
#include "core/operator_private.h"

#include "arch/x86/cpu.h"
#include "arch/x86/trap.h"
#include "core/partition.h"
#include "core/run.h"
#include "drivers/serial.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "mm/physmap.h"
#include "vmx/processor.h"

#define MONITOR_RING_SIZE KIB(16)
#define LOG_SIZE          KIB(64)
#define SCRUB_FRAMES      64 /* that one step clears of the memory that partitions gave back */
#define HOUSEKEEPING_HZ                                                                                      \
    100 /* so often the housekeeper looks around uncalled: at a UART without interrupt, too */

struct operator operator;

/* ---- Console ------------------------------------------------------------------------------------------- */

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

static enum console_input console_input(void *context, unsigned channel, char byte)
{
    (void)context;
    if (channel == CONSOLE_MONITOR)
        return monitor_input(&operator.monitor, byte) ? CONSOLE_TAKEN : CONSOLE_LATER;

    struct partition *partition = partition_at(channel - 1);
    if (partition->state == PARTITION_PAUSED)
        return CONSOLE_LATER;
    if (partition->state != PARTITION_RUNNING)
        return CONSOLE_LOST;
    if (!platform_console_input(&partition->platform, byte))
        return CONSOLE_LATER;
    /* A byte below the receiver's trigger level asks for nothing but a time-out. */
    partition_vcpu_post(&partition->vcpus[0], MAIL_DEADLINE);
    return CONSOLE_TAKEN;
}

static void monitor_has_focus(void *context)
{
    (void)context;
    monitor_focused(&operator.monitor);
}

static const struct console_ops console_ops = {
    .read = terminal_read,
    .room = terminal_room,
    .write = terminal_write,
    .input = console_input,
    .monitor_focused = monitor_has_focus,
};

void operator_add_console(struct partition *partition)
{
    if (partition->config->console_uart && partition->state != PARTITION_REFUSED)
        console_add_partition(&operator.console, partition->number, partition->config->name,
                              partition->console_ring);
}

void operator_partition_write(unsigned partition, char byte)
{
    if (console_put(&operator.console, partition + 1, byte))
        run_attend(0);
}

/* The newest hook, so it runs first: the console's own then shows what waits, byte by byte. */
static void on_panic(struct panic_hook *hook)
{
    (void)hook;
    serial_set_synchronous();
}

static struct panic_hook panic_hook = {.run = on_panic};

/* ---- Start --------------------------------------------------------------------------------------------- */

static char *allocate(uint64_t bytes)
{
    hpa_t base;

    if (frame_allocate(operator.frames, FRAME_OWNER_UMBRA, bytes / PAGE_SIZE, PAGE_SHIFT, FRAME_ANYWHERE,
                       &base) != 0)
        panic("no memory for the console");
    return physmap_pointer(base);
}

void operator_init(struct config *config, struct frame_pool *frames, const struct acpi_machine *acpi)
{
    operator.config = config;
    operator.frames = frames;
    operator.acpi = acpi;
    console_init(&operator.console, &console_ops, NULL, config->escape, allocate(MONITOR_RING_SIZE),
                 MONITOR_RING_SIZE, allocate(LOG_SIZE), LOG_SIZE);
    monitor_init(&operator.monitor, &operator_monitor_ops, NULL);
    panic_hook_register(&panic_hook);
}

/* Brings a partition up while nobody waits for anything else. */
static void start(struct partition *partition)
{
    if (partition_start(partition) == 0)
        while (partition->state == PARTITION_STARTING)
            (void)partition_step(partition);
    if (partition->state == PARTITION_RUNNING)
        print("partition %.*s: started, %lu MiB\n", SLICE_ARGUMENTS(partition->config->name),
              partition->memory >> 20);
    else if (partition->state == PARTITION_REFUSED)
        print("partition %.*s: not started: %s\n", SLICE_ARGUMENTS(partition->config->name),
              partition->reason);
}

void operator_start_partitions(void)
{
    for (unsigned i = 0; i < partition_slots(); i++) {
        struct partition *partition = partition_at(i);

        if (partition == NULL)
            continue;
        operator_add_console(partition);
        if (!partition->config->start_manually || partition->state == PARTITION_REFUSED)
            start(partition);
    }
}

void operator_start(void)
{
    console_start(&operator.console);
    for (unsigned i = 0; i < partition_slots(); i++) {
        const struct partition *partition = partition_at(i);
        if (partition != NULL && partition->state == PARTITION_RUNNING &&
            console_focus(&operator.console, i + 1) == 0)
            return;
    }
    console_focus(&operator.console, CONSOLE_MONITOR);
}

/* ---- Steps --------------------------------------------------------------------------------------------- */

/* An NMI of the machine's is that partition's which the configuration names, or it is reported. */
static void route_nmis(void)
{
    static const struct lapic_message message = {.destination = 0, .mode = LAPIC_NMI};
    unsigned count = trap_take_nmis();
    struct partition *partition;
    bool routed = false;

    if (count == 0)
        return;
    partition = operator.config->nmi.length == 0
                    ? NULL
                    : partition_at(config_find(operator.config, operator.config->nmi));
    if (partition != NULL && partition->state == PARTITION_RUNNING)
        routed = lapic_deliver(partition->platform.lapics, partition->vcpu_count, &message);
    if (!routed)
        print("umbra: %u non-maskable interrupts of the machine\n", count);
}

static uint64_t step_partitions(void)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < partition_slots(); i++) {
        struct partition *partition = partition_at(i);
        if (partition != NULL)
            next = min_u64(next, partition_step(partition));
    }
    return next;
}

uint64_t operator_step(void)
{
    /* An NMI, or a machine check, may have come between the last look and the sleep. */
    uint64_t next = cpu_rdtsc() + partition_machine()->tsc_hz / HOUSEKEEPING_HZ;

    route_nmis();
    serial_poll();
    monitor_step(&operator.monitor);
    console_step(&operator.console);
    /* last_words shows what still waits. */
    if (operator.power_off_requested)
        operator_power_off();
    if (operator.reboot_requested)
        operator_reboot();
    next = min_u64(next, min_u64(step_partitions(), monitor_deadline(&operator.monitor)));
    if (frame_scrub_step(operator.frames, SCRUB_FRAMES) > 0 ||
        (console_has_work(&operator.console) && serial_room() > 0))
        return 0;
    return next;
}

/* ---- The end ------------------------------------------------------------------------------------------- */

static void last_words(const char *line)
{
    vmx_processor_stop_others();
    serial_set_synchronous();
    console_stop(&operator.console);
    print("\numbra: %s\n", line);
    serial_drain();
}

void operator_power_off(void)
{
    last_words("off");
    acpi_machine_power_off(operator.acpi);
    cpu_stop();
}

void operator_reboot(void)
{
    last_words("reboot");
    vcpu_unload_current();
    vmx_processor_disable(); /* INIT, which some resets are, is blocked in VMX operation */
    acpi_machine_reset(operator.acpi);
    cpu_stop();
}
