// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The console multiplexer: one terminal shared by Umbra's monitor and the partitions. Each has a channel with
 * a ring for its output; what the channel in focus writes is copied out as there is room, the others' waits
 * in their rings (a full ring drops its oldest bytes and counts them) and is shown when they get the focus.
 * The escape key and one more key choose: `c` the monitor, `1`…`9` a partition, `n` and `p` the next and the
 * previous partition, `?` a line of help, the escape key again sends itself.
 *
 * Umbra's own log lines, print(), are kept in the log. Until console_start they also appear on the terminal
 * at once, afterwards the monitor shows them.
 *
 * All functions run on the housekeeping pCPU with interrupts off, but for console_put, which any pCPU may
 * call: a channel's output ring has a lock. Pure: the terminal is reached through ops.
 */
#include "arch/x86/spinlock.h"
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

/* What became of a typed byte. */
enum console_input {
    CONSOLE_TAKEN,
    CONSOLE_LATER, /* the receiver is full: offer it again */
    CONSOLE_LOST,  /* there is no receiver: the partition does not run */
};

struct console_ops {
    /* The terminal: the next typed byte (false: none), how many bytes it takes now, and taking them. */
    bool (*read)(void *context, char *byte);
    size_t (*room)(void *context);
    void (*write)(void *context, const char *bytes, size_t length);
    /* Gives a typed byte to the monitor or to a partition. */
    enum console_input (*input)(void *context, unsigned channel, char byte);
    /* The monitor has got the focus: it should show its prompt. */
    void (*monitor_focused)(void *context);
};

struct console_channel {
    bool present;
    char name[CONSOLE_NAME_MAX];
    struct spinlock lock;   /* of `output`, which other processors write */
    struct ring output;     /* what has not been shown */
    uint64_t dropped_told;  /* bytes dropped that the user has been told about */
    struct ring input;      /* typed bytes that the receiver has not taken */
    uint64_t input_refused; /* typed bytes lost because that ring was full */
    bool lost_told;         /* the user knows that nobody takes what is typed here */
    char input_buffer[CONSOLE_INPUT_SIZE];
};

struct console {
    const struct console_ops *ops;
    void *context;
    char escape; /* the control character */
    bool escape_typed;
    unsigned focus;         /* channel; other processors read it in console_put */
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
 * cut; `buffer` (CONSOLE_RING_SIZE bytes, the caller's until the channel is removed) is its ring.
 */
void console_add_partition(struct console *console, unsigned partition, struct slice name, char *buffer);

/*
 * Takes the partition's channel away, with what it has not shown; nobody may write to it any more. If it has
 * the focus, the monitor gets it.
 */
void console_remove_partition(struct console *console, unsigned partition);

/* From now on print() only goes to the log; a panic undoes it. */
void console_start(struct console *console);

/*
 * The end of Umbra: shows all that waits for the terminal, whatever its room (the caller has made the
 * terminal wait for itself), and lets print() go straight to it again. No other processor runs a guest any
 * more; a lock that one of them held when it was stopped is not waited for.
 */
void console_stop(struct console *console);

/*
 * A byte of output of `channel`; lost if the channel is not there. Any pCPU, interrupts off. True if it is
 * the first that waits to be shown, so that a sleeping housekeeper should be woken for it.
 */
bool console_put(struct console *console, unsigned channel, char byte);

/* Bytes that the monitor's ring takes without dropping any. */
size_t console_monitor_room(struct console *console);

/* Moves the focus, and says so on the terminal. -ENOENT if the channel is not there. */
int console_focus(struct console *console, unsigned channel);

/* Moves a bounded number of bytes each way. Called from the run loop. */
void console_step(struct console *console);

/*
 * Whether there is output to show. Typed bytes that a partition has not taken are no work: it takes them
 * after it has run, and the step then offers them again.
 */
bool console_has_work(struct console *console);

/*
 * The first whole line of the log at or after *position (0: the oldest that is left), without its newline,
 * cut and terminated into `line`; *position moves behind it. False if there is none.
 */
bool console_log_line(const struct console *console, uint64_t *position, char *line, size_t size);
