// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Between the files of the monitor: monitor.c, the machine that types, prints and waits, and the commands,
 * which tell it what to do.
 */
#include "core/monitor.h"

/* What may stand in the place of an argument. */
enum monitor_argument {
    ARGUMENT_NONE, /* nothing: the arguments are over */
    ARGUMENT_PARTITION,
    ARGUMENT_NUMBER,
    ARGUMENT_KEY,
    ARGUMENT_REST, /* of the line, blanks included */
    ARGUMENT_COMMAND,
    ARGUMENT_ON_OFF,
    ARGUMENT_TRACE, /* on, off, save */
    ARGUMENT_ONCE,
    ARGUMENT_KINDS,
};

struct monitor_command {
    const char *name;
    const char *usage; /* its arguments, for people */
    const char *help;
    enum monitor_argument arguments[MONITOR_ARGUMENTS_MAX];
    unsigned required; /* how many of them must be there */
    /* With the arguments set, and partition and name if it takes a partition. */
    void (*run)(struct monitor *monitor);
};

/* ---- monitor.c ---------------------------------------------------------------------------------------- */

/* Writes one line, newline added. */
void monitor_say(struct monitor *monitor, const char *format, ...) __printf_format(2, 3);

/* The command ends, or will when what it prints is printed, with `error: ` and this. */
void monitor_fail(struct monitor *monitor, const char *format, ...) __printf_format(2, 3);

/* Begins to print what `lines` yields, a few lines a step. */
void monitor_print(struct monitor *monitor, bool (*lines)(struct monitor *, unsigned, char *, size_t));

/*
 * Asks `poll` now and at each step until it is done, then calls `then` (NULL: nothing). If it fails, so does
 * the command, with the error that `poll` filled in.
 */
void monitor_wait(struct monitor *monitor,
                  enum monitor_result (*poll)(struct monitor *, bool again, struct monitor_error *error),
                  void (*then)(struct monitor *));

/* Whether the command talks to a program. */
static inline bool monitor_is_plain(const struct monitor *monitor)
{
    return monitor->plain || monitor->plain_once;
}

/* ---- monitor_words.c ------------------------------------------------------------------------------------
 */

/* Begins the command of `line`, or fails. An empty line is none. */
void monitor_execute(struct monitor *monitor, struct slice line);

/* The line editor's question: `context` is the monitor. */
size_t monitor_complete(void *context, const char *line, size_t length, char *text, size_t size);

/* Takes white space off both ends. */
struct slice monitor_trim(struct slice text);

/* ---- monitor_commands.c ------------------------------------------------------------------------------- */

/* All commands; the last has no name. */
extern const struct monitor_command monitor_commands[];

/* ---- monitor_create.c --------------------------------------------------------------------------------- */

/* The command, and a line of the section that it takes. */
void monitor_create(struct monitor *monitor);
void monitor_create_line(struct monitor *monitor, struct slice line);
