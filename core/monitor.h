// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The monitor: Umbra's operator's commands, as a state machine of bounded steps. It knows neither partitions
 * nor VMX: everything it shows or does goes through struct monitor_ops. Commands that print much get their
 * text line by line, as fast as the console takes it, so that none ever holds up a guest.
 *
 * All functions run on the housekeeping pCPU, from the run loop.
 */
#include "core/line_editor.h"
#include "lib/slice.h"
#include "lib/types.h"

#define MONITOR_LINE_MAX   160 /* bytes of a line, its terminator among them */
#define MONITOR_STEP_LINES 4   /* the most that one monitor_step writes */

enum monitor_state {
    MONITOR_RUNNING,
    MONITOR_HALTED, /* every vCPU waits for an interrupt */
    MONITOR_STOPPED,
    MONITOR_CRASHED,
    MONITOR_REFUSED, /* its configuration is bad: it cannot be started */
};

/* One row of `list`. */
struct monitor_partition {
    struct slice name;
    enum monitor_state state;
    unsigned vcpus;
    uint64_t memory;    /* bytes */
    uint64_t exits;     /* since it was started */
    const char *reason; /* why it is in that state; NULL or empty if there is nothing to say */
};

/* Why an action failed: one line, no newline. */
struct monitor_error {
    char text[MONITOR_LINE_MAX];
};

/*
 * `partition` counts from 0, in the order of the configuration. A line function writes line `number` (from 0,
 * ascending) of its text into `line`, cut and terminated, no newline; false past the last.
 */
struct monitor_ops {
    /* Row `partition`; false past the last. What it points at must live until the next call. */
    bool (*partition)(void *context, unsigned partition, struct monitor_partition *row);
    /* False: `error` is filled in. */
    bool (*start)(void *context, unsigned partition, struct monitor_error *error);
    bool (*stop)(void *context, unsigned partition, struct monitor_error *error);
    bool (*reset)(void *context, unsigned partition, struct monitor_error *error);
    /* Gives the partition the console; false if it has none. */
    bool (*focus)(void *context, unsigned partition, struct monitor_error *error);
    bool (*dump_line)(void *context, unsigned partition, unsigned number, char *line, size_t size);
    bool (*stats_line)(void *context, unsigned partition, unsigned number, char *line, size_t size);
    bool (*memory_line)(void *context, unsigned number, char *line, size_t size);
    bool (*cpu_line)(void *context, unsigned number, char *line, size_t size);
    /* The line of the log at or after *position (0: the oldest), which moves behind it. False: none. */
    bool (*log_line)(void *context, uint64_t *position, char *line, size_t size);
    /* The end of Umbra; may return, and then takes effect when the run loop gets to it. */
    void (*poweroff)(void *context);
    void (*reboot)(void *context);
    /* The monitor's channel of the console. */
    size_t (*room)(void *context);
    void (*write)(void *context, const char *text, size_t length);
};

struct monitor {
    const struct monitor_ops *ops;
    void *context;
    struct line_editor editor;
    /* What is being printed; NULL while the prompt is shown. */
    bool (*lines)(struct monitor *monitor, unsigned number, char *line, size_t size);
    unsigned partition;     /* that it is about */
    unsigned line_number;   /* the next one */
    uint64_t list_position; /* in the log, of the `log` command */
    uint64_t log_position;  /* in the log: what lies before has been shown */
    bool awake;             /* has been focused or stepped */
};

/*
 * Prepares `monitor`. What the log holds when it is first focused or stepped counts as shown: print() has put
 * it on the terminal itself. Shows nothing before.
 */
void monitor_init(struct monitor *monitor, const struct monitor_ops *ops, void *context);

/* The monitor has got the console: shows the prompt on a fresh line, unless a command is being printed. */
void monitor_focused(struct monitor *monitor);

/* Takes a typed byte. False while a command's output is under way: offer it again. */
bool monitor_input(struct monitor *monitor, char byte);

/* Prints some lines, if there are any and the console has room: of a command, or new ones of the log. */
void monitor_step(struct monitor *monitor);
