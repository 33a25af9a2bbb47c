// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The console multiplexer: one terminal shared by Umbra's monitor and the partitions. Each has a channel with
 * a ring for its output; what the channel in focus writes is copied out as there is room, the others' waits
 * in their rings (a full ring drops its oldest bytes and counts them) and is shown when they get the focus.
 * The escape key and one more key choose: `c` the monitor, `1`…`9` a partition, `?` a line of help, the
 * escape key again sends itself.
 *
 * Umbra's own log lines, print(), are kept in the log. Until console_start they also appear on the terminal
 * at once, afterwards the monitor shows them.
 *
 * All functions run on the housekeeping pCPU with interrupts off. Pure: the terminal is reached through ops.
 */
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/ring.h"
#include "lib/slice.h"
#include "lib/types.h"

#define CONSOLE_PARTITIONS_MAX 16
#define CONSOLE_CHANNELS       (1 + CONSOLE_PARTITIONS_MAX)
#define CONSOLE_MONITOR        0 /* the monitor's channel; partition n, counted from 0, has channel n + 1 */
#define CONSOLE_RING_SIZE      KIB(64)
#define CONSOLE_INPUT_SIZE     512
#define CONSOLE_NOTICE_SIZE    512
#define CONSOLE_NAME_MAX       32

/* The most that one console_step moves. */
#define CONSOLE_STEP_OUTPUT    256
#define CONSOLE_STEP_INPUT     64

struct console_ops {
    /* The terminal: the next typed byte (false: none), how many bytes it takes now, and taking them. */
    bool (*read)(void *context, char *byte);
    size_t (*room)(void *context);
    void (*write)(void *context, const char *bytes, size_t length);
    /* Gives a typed byte to the monitor or to a partition. False: not now, offer it again. */
    bool (*input)(void *context, unsigned channel, char byte);
    /* The monitor has got the focus: it should show its prompt. */
    void (*monitor_focused)(void *context);
};

struct console_channel {
    bool present;
    char name[CONSOLE_NAME_MAX];
    struct ring output;     /* what has not been shown */
    uint64_t dropped_told;  /* bytes dropped that the user has been told about */
    struct ring input;      /* typed bytes that the receiver has not taken */
    uint64_t input_refused; /* typed bytes lost because that ring was full */
    char input_buffer[CONSOLE_INPUT_SIZE];
};

struct console {
    const struct console_ops *ops;
    void *context;
    char escape; /* the control character */
    bool escape_typed;
    unsigned focus;         /* channel */
    uint32_t input_waiting; /* one bit a channel whose input ring is not empty */
    struct ring notice;     /* the multiplexer's own words; shown before anything else */
    char notice_buffer[CONSOLE_NOTICE_SIZE];
    struct ring log; /* only ever written: read by position, with console_log_line */
    struct print_sink sink;
    struct panic_hook panic_hook;
    struct console_channel channels[CONSOLE_CHANNELS];
};

/*
 * Prepares `console` with the monitor's channel in focus, and makes it a sink of print() so that it keeps the
 * log. The buffers are the caller's, for ever: `monitor_buffer` holds the monitor's output, `log_buffer` the
 * log; their sizes are powers of two. `escape` is a control character (1 to 26). Start-up only.
 */
void console_init(struct console *console, const struct console_ops *ops, void *context, char escape,
                  char *monitor_buffer, size_t monitor_size, char *log_buffer, size_t log_size);

/*
 * Gives partition `partition` (counted from 0, below CONSOLE_PARTITIONS_MAX) a channel. `name` is copied and
 * cut; `buffer` (CONSOLE_RING_SIZE bytes, the caller's, for ever) is its ring. Start-up only.
 */
void console_add_partition(struct console *console, unsigned partition, struct slice name, char *buffer);

/* From now on print() only goes to the log; a panic undoes it. */
void console_start(struct console *console);

/*
 * The end of Umbra: shows all that waits for the terminal, whatever its room (the caller has made the
 * terminal wait for itself), and lets print() go straight to it again.
 */
void console_stop(struct console *console);

/* A byte of output of `channel`; lost if the channel is not there. */
void console_put(struct console *console, unsigned channel, char byte);

/* Bytes that the monitor's ring takes without dropping any. */
size_t console_monitor_room(const struct console *console);

/* Moves the focus, and says so on the terminal. -ENOENT if the channel is not there. */
int console_focus(struct console *console, unsigned channel);

/* Moves a bounded number of bytes each way. Called from the run loop. */
void console_step(struct console *console);

/*
 * Whether there is output to show. A few instructions. Typed bytes that a partition has not taken are no
 * work: it takes them after it has run, and the step then offers them again.
 */
static inline bool console_has_work(const struct console *console)
{
    return ring_used(&console->notice) != 0 || ring_used(&console->channels[console->focus].output) != 0;
}

/*
 * The first whole line of the log at or after *position (0: the oldest that is left), without its newline,
 * cut and terminated into `line`; *position moves behind it. False if there is none.
 */
bool console_log_line(const struct console *console, uint64_t *position, char *line, size_t size);
