// SPDX-License-Identifier: BSD-2-Clause
/*
 * For the tests of `umbra ctl`: Umbra's own monitor and console multiplexer on a line, which is descriptor 0.
 * What they show of a machine is made up here; how they show it is what the hypervisor does.
 *
 * Three partitions: linux, which has the console at first and echoes what is typed there between < and >, as
 * a guest with an echoing terminal would; quiet; and dead, which has no console. Options, as letters of the
 * first argument:
 *
 *   t  half a line is typed at the monitor already       c  `create` waits for its lines
 *   e  the escape key has been typed                     s  `stop linux` waits for ever
 *   p  another program has left `plain on`               T  `top` is live
 *   n  the guest never stops to print                    l  the log grows all the time
 */
#include "core/console.h"
#include "core/monitor.h"
#include "lib/printf.h"
#include "lib/string.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define LINE         0
#define NOISE        "[quiet]\r\nok\r\nerror: no\r\numbra> umbra: off\r\nlog: [monitor"
#define LOG_INTERVAL 1000000 /* ns */

static struct console console;
static struct monitor monitor;
static const char *options;
static char unread[256]; /* typed bytes that the monitor's side has not taken */
static size_t unread_length;
static bool off;
static uint64_t log_written;

static char monitor_ring[KIB(16)], log_ring[KIB(64)], linux_ring[CONSOLE_RING_SIZE],
    quiet_ring[CONSOLE_RING_SIZE];

void panic_at(const char *file, int line, const char *format, ...)
{
    (void)file, (void)line, (void)format;
    abort();
}

void panic_hook_register(struct panic_hook *hook)
{
    (void)hook;
}

static uint64_t now(void *context)
{
    struct timespec time;

    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* ---- The line -------------------------------------------------------------------------------- */

static void wait_for(short events)
{
    struct pollfd line = {.fd = LINE, .events = events};

    poll(&line, 1, 1);
}

static bool line_read(void *context, char *byte)
{
    (void)context;
    if (unread_length == 0) {
        struct pollfd line = {.fd = LINE, .events = POLLIN};
        if (poll(&line, 1, 0) <= 0)
            return false;
        ssize_t length = read(LINE, unread, sizeof(unread));
        if (length <= 0)
            exit(0);
        unread_length = (size_t)length;
    }
    *byte = unread[0];
    memmove(unread, unread + 1, --unread_length);
    return true;
}

/* As much as a UART's transmitter would take. */
static size_t line_room(void *context)
{
    (void)context;
    return 16;
}

static void line_write(void *context, const char *bytes, size_t length)
{
    (void)context;
    while (length > 0) {
        ssize_t written = write(LINE, bytes, length);
        if (written < 0 && errno != EAGAIN)
            exit(0);
        if (written < 0)
            wait_for(POLLOUT);
        else
            bytes += written, length -= (size_t)written;
    }
}

static enum console_input input(void *context, unsigned channel, char byte)
{
    (void)context;
    if (channel == CONSOLE_MONITOR)
        return monitor_input(&monitor, byte) ? CONSOLE_TAKEN : CONSOLE_LATER;
    console_put(&console, channel, '<');
    console_put(&console, channel, byte);
    console_put(&console, channel, '>');
    return CONSOLE_TAKEN;
}

static void focused(void *context)
{
    (void)context;
    monitor_focused(&monitor);
}

static const struct console_ops console_ops = {
    .read = line_read,
    .room = line_room,
    .write = line_write,
    .input = input,
    .monitor_focused = focused,
};

/* ---- The machine ----------------------------------------------------------------------------- */

static bool op_partition(void *context, unsigned number, struct monitor_partition *row)
{
    static const struct monitor_partition rows[] = {
        {SLICE("linux"), MONITOR_RUNNING, 2, BIT(2) | BIT(3) | BIT(5), false, MIB(256), 182311, NULL},
        {SLICE("gone"), MONITOR_ABSENT, 0, 0, false, 0, 0, NULL},
        {SLICE("quiet"), MONITOR_HALTED, 1, BIT(1), true, KIB(1500), UINT64_MAX, ""},
        {SLICE("dead"), MONITOR_CRASHED, 1, 0, false, GIB(1) * 2048, 7, "triple fault at rip 0x100f2e"},
    };

    (void)context;
    if (number >= ARRAY_SIZE(rows))
        return false;
    *row = rows[number];
    return true;
}

static enum monitor_result op_act(void *context, enum monitor_action action, unsigned partition, bool again,
                                  struct monitor_error *error)
{
    (void)context, (void)again;
    if (action == MONITOR_STOP && partition == 0)
        return MONITOR_AGAIN;
    if (action == MONITOR_FOCUS && console_focus(&console, partition + 1) == 0)
        return MONITOR_DONE;
    if (action == MONITOR_FOCUS)
        format_text(error->text, sizeof(error->text), "it has no console");
    else
        format_text(error->text, sizeof(error->text), "it runs already");
    return action == MONITOR_FOCUS || action == MONITOR_START ? MONITOR_FAILED : MONITOR_DONE;
}

/* Shows by its complaints, line by line, what it has got. */
static enum monitor_result op_create(void *context, const char *text, size_t length, bool again,
                                     struct monitor_error *error)
{
    unsigned line = 0;

    (void)context, (void)again;
    if (length >= 14 && memcmp(text, "[partition ok]", 14) == 0)
        return MONITOR_DONE;
    for (size_t start = 0, end; start < length; start = end + 1) {
        char words[100];
        for (end = start; text[end] != '\n'; end++)
            continue;
        format_text(words, sizeof(words), "<%.*s>", (int)(end - start), text + start);
        monitor_complain(&monitor, ++line, 1, words);
    }
    format_text(error->text, sizeof(error->text), "%u errors", line);
    return MONITOR_FAILED;
}

static const char *op_set_key(void *context, unsigned number)
{
    (void)context;
    return number == 0 ? "weight" : NULL;
}

static bool op_set(void *context, unsigned partition, struct slice key, struct slice value,
                   struct monitor_error *error)
{
    (void)context, (void)partition, (void)key;
    format_text(error->text, sizeof(error->text), "'%.*s' is no weight", SLICE_ARGUMENTS(value));
    return false;
}

static enum monitor_result op_snapshot(void *context, unsigned partition, unsigned vcpu, bool again,
                                       struct monitor_error *error)
{
    (void)context, (void)partition, (void)vcpu, (void)again, (void)error;
    return MONITOR_DONE;
}

/* Long enough that it needs many steps. */
static bool op_dump_line(void *context, unsigned partition, unsigned vcpu, unsigned number, char *line,
                         size_t size)
{
    (void)context, (void)partition, (void)vcpu;
    format_text(line, size, "line %u of the dump, which says this and that and takes its place", number);
    return number < 400;
}

static const struct trace *op_trace(void *context, unsigned partition, unsigned vcpu)
{
    static struct trace traces[2];

    (void)context, (void)partition;
    if (vcpu >= ARRAY_SIZE(traces))
        return NULL;
    if (traces[vcpu].count == 0) {
        trace_time_all(&traces[vcpu], true);
        trace_reset(&traces[vcpu]);
        for (unsigned i = 0; i < 300; i++) {
            trace_add(&traces[vcpu], 0x2a51f00c3 + 1000 * i + vcpu, i % 3 == 0 ? 30 : 10, 0xffffffff8188d7ff,
                      i);
            if (i % 2 == 0)
                trace_timed(&traces[vcpu], 100 + i);
        }
    }
    return &traces[vcpu];
}

static bool op_trace_switch(void *context, unsigned partition, bool on, struct monitor_error *error)
{
    (void)context, (void)partition, (void)on, (void)error;
    return true;
}

/* One of several lines, as core/report.c prints them. */
static bool one_of(const char *const *lines, unsigned count, unsigned number, char *line, size_t size)
{
    if (number < count)
        format_text(line, size, "%s", lines[number]);
    return number < count;
}

static bool op_stats_line(void *context, unsigned partition, unsigned number, char *line, size_t size)
{
    static const char *const lines[] = {"starts 1", "exits 182311",
                                        "exits_I_O_instruction 18446744073709551615", "vcpu1_exits_CPUID 61"};

    (void)context, (void)partition;
    return one_of(lines, ARRAY_SIZE(lines), number, line, size);
}

static bool op_memory_line(void *context, unsigned number, char *line, size_t size)
{
    static const char *const lines[] = {
        "free                   740112 KiB", "being cleared               0 KiB",
        "umbra                    1876 KiB", "modules                 21044 KiB",
        "linux                  262144 KiB", "free-and-with-a-long-name 123456789012 KiB",
        "together              1025176 KiB", "largest free           737280 KiB",
    };

    (void)context;
    return one_of(lines, ARRAY_SIZE(lines), number, line, size);
}

static bool op_cpu_line(void *context, unsigned number, char *line, size_t size)
{
    static const char *const lines[] = {
        "cpu     apic    busy    idle  serves",
        "  0        0    0.9%   99.1%  housekeeper",
        "  1       1f  100.0%    0.0%  linux, quiet",
        "  2       20    0.0%  100.0%  ",
        "time stamp counter                       2893.412 MHz",
        "TRUE controls                            yes",
        "virtual-interrupt delivery               no",
    };

    (void)context;
    return one_of(lines, ARRAY_SIZE(lines), number, line, size);
}

static bool op_log_line(void *context, uint64_t *position, char *line, size_t size)
{
    (void)context;
    return console_log_line(&console, position, line, size);
}

static void op_sample(void *context, struct monitor_sample *sample)
{
    uint64_t time = now(context);

    sample->time = time;
    sample->cpu_count = 2;
    sample->idle[0] = time;
    sample->vcpu_count = 2;
    sample->vcpus[0] = (struct monitor_sample_vcpu){.name = "linux", .cpu = 1, .vcpu = 3, .ran = time};
    sample->vcpus[0].exits[MONITOR_EXIT_IO] = time * 5; /* 5G a second */
    sample->vcpus[1] = (struct monitor_sample_vcpu){.name = "idle", .partition = 1, .cpu = 1};
}

static uint64_t tick_hz(void *context)
{
    (void)context;
    return 1000000000;
}

static void op_end(void *context)
{
    (void)context;
    off = true;
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
    .act = op_act,
    .create = op_create,
    .set_key = op_set_key,
    .set = op_set,
    .snapshot = op_snapshot,
    .dump_line = op_dump_line,
    .trace = op_trace,
    .trace_switch = op_trace_switch,
    .stats_line = op_stats_line,
    .memory_line = op_memory_line,
    .cpu_line = op_cpu_line,
    .log_line = op_log_line,
    .sample = op_sample,
    .now = now,
    .tick_hz = tick_hz,
    .poweroff = op_end,
    .reboot = op_end,
    .room = op_room,
    .write = op_write,
};

/* ---- The run --------------------------------------------------------------------------------- */

static bool has_option(char letter)
{
    for (const char *option = options; *option != '\0'; option++)
        if (*option == letter)
            return true;
    return false;
}

static void step(void)
{
    if (has_option('l') && now(NULL) / LOG_INTERVAL != log_written) {
        log_written = now(NULL) / LOG_INTERVAL;
        print("partition linux: something has happened\n");
    }
    for (const char *c = NOISE; has_option('n') && *c != '\0'; c++)
        console_put(&console, 1, *c);
    monitor_step(&monitor);
    console_step(&console);
}

/* What somebody typed before. */
static void typed(const char *keys)
{
    memcpy(unread + unread_length, keys, strlen(keys));
    unread_length += strlen(keys);
    while (unread_length > 0)
        step();
    for (unsigned i = 0; i < 100; i++)
        step();
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    options = count > 1 ? words[1] : "";
    console_init(&console, &console_ops, NULL, count > 2 ? words[2][0] : '\x01', monitor_ring,
                 sizeof(monitor_ring), log_ring, sizeof(log_ring));
    console_add_partition(&console, 0, SLICE("linux"), linux_ring);
    console_add_partition(&console, 2, SLICE("quiet"), quiet_ring);
    monitor_init(&monitor, &monitor_ops, NULL);
    console_start(&console);
    console_focus(&console, 1);

    static const struct {
        char option;
        const char *keys;
    } pasts[] = {
        {'p', "\x01"
              "cplain on\r\x01"
              "1"},
        {'t', "\x01"
              "cstop qui"},
        {'c', "\x01"
              "ccreate\r[par"},
        {'s', "\x01"
              "cstop linux\r"},
        {'T', "\x01"
              "ctop\r"},
        {'e', "\x01"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(pasts); i++)
        if (has_option(pasts[i].option))
            typed(pasts[i].keys);
    while (!off) {
        if (!console_has_work(&console) && unread_length == 0)
            wait_for(POLLIN);
        step();
    }
    while (console_has_work(&console))
        console_step(&console);
    return 0;
}
