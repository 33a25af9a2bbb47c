// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The monitor: Umbra's operator's commands, as a state machine of bounded steps. It knows neither partitions
 * nor VMX: everything it shows or does goes through struct monitor_ops. Commands that print much get their
 * text line by line, as fast as the console takes it, so that none ever holds up a guest; commands that take
 * their time are polled, once a step.
 *
 * Two ways to talk: to people, with a prompt, an editor and a live table; and, after `plain on` or on a line
 * that begins with `--plain`, to programs: no prompt, no echo, no escape sequences, and after each command
 * exactly one line `ok` or `error: …`.
 *
 * All functions run on the housekeeping pCPU, from the run loop.
 */
#include "core/line_editor.h"
#include "core/monitor_inspect.h"
#include "core/monitor_top.h"
#include "core/trace.h"
#include "lib/slice.h"
#include "lib/types.h"

#define MONITOR_LINE_MAX      256  /* bytes of a line, its terminator among them */
#define MONITOR_STEP_LINES    4    /* the most that one monitor_step writes */
#define MONITOR_SECTION_MAX   4096 /* bytes of the section that `create` takes */
#define MONITOR_COMPLAINTS    8    /* errors of such a section that are shown */
#define MONITOR_ARGUMENTS_MAX 3
#define MONITOR_NAME_MAX      32

enum monitor_state {
    MONITOR_ABSENT,  /* there is no partition of this number (any more): it is passed over */
    MONITOR_REFUSED, /* its configuration is bad: it cannot be started */
    MONITOR_STOPPED,
    MONITOR_STARTING, /* memory being cleared, kernel being loaded */
    MONITOR_RUNNING,
    MONITOR_HALTED, /* running; every vCPU waits for an interrupt */
    MONITOR_PAUSED,
    MONITOR_STOPPING, /* asked to power off, or its vCPUs are on their way out */
    MONITOR_CRASHED,
};

/* One row of `list`. */
struct monitor_partition {
    struct slice name;
    enum monitor_state state;
    unsigned vcpus;
    uint64_t cpus;      /* pCPUs of its vCPUs, a bit each; 0: none yet */
    bool shared;        /* others may run there too */
    uint64_t memory;    /* bytes */
    uint64_t exits;     /* since it was started */
    const char *reason; /* why it is in that state; NULL or empty if there is nothing to say */
};

/* Why an action failed: one line, no newline. */
struct monitor_error {
    char text[MONITOR_LINE_MAX];
};

enum monitor_result {
    MONITOR_DONE,
    MONITOR_AGAIN,  /* under way: ask again in the next step */
    MONITOR_FAILED, /* the error is filled in */
};

/* What can be done to a partition. */
enum monitor_action {
    MONITOR_START, /* done when it runs */
    MONITOR_STOP,  /* done when it is stopped: by its guest, or by force after its timeout */
    MONITOR_RESET, /* done when it runs again; starts a stopped one */
    MONITOR_PAUSE, /* done when all its vCPUs stand still */
    MONITOR_RESUME,
    MONITOR_DESTROY, /* done when its number is free */
    MONITOR_FOCUS,   /* gives it the console; fails if it has none */
};

/*
 * `partition` counts from 0, in the order of the configuration; a partition keeps its number as long as it
 * lives, whatever is created and destroyed beside it. A line function writes line `number` (from 0,
 * ascending) of its text into `line`, cut and terminated, no newline; false past the last.
 *
 * An op with a result is called with `again` false once, when the command is given, and after MONITOR_AGAIN
 * with `again` true, once a step, until it answers something else. When the operator stops waiting (^C) it is
 * just not called any more: what is under way goes on.
 */
struct monitor_ops {
    /* Row `partition`; false past the last. What it points at must live until the next call. */
    bool (*partition)(void *context, unsigned partition, struct monitor_partition *row);
    enum monitor_result (*act)(void *context, enum monitor_action action, unsigned partition, bool again,
                               struct monitor_error *error);
    /*
     * Makes a partition of `text`, which begins with the line `[partition NAME]` and is the caller's: what is
     * to live on must be copied. Says what is wrong with it by monitor_complain, once for each error, and
     * then fails.
     */
    enum monitor_result (*create)(void *context, const char *text, size_t length, bool again,
                                  struct monitor_error *error);

    /* `set`: the key `number` that may change while a partition lives, NULL past the last. */
    const char *(*set_key)(void *context, unsigned number);
    /* Gives it a value, as in the configuration; `key` is one of those. */
    bool (*set)(void *context, unsigned partition, struct slice key, struct slice value,
                struct monitor_error *error);

    /*
     * Has registers and VMCS of a vCPU copied by its own processor, for dump_line and frame: MONITOR_AGAIN
     * until it is done. Fails if there is no such vCPU.
     */
    enum monitor_result (*snapshot)(void *context, unsigned partition, unsigned vcpu, bool again,
                                    struct monitor_error *error);
    bool (*dump_line)(void *context, unsigned partition, unsigned vcpu, unsigned number, char *line,
                      size_t size);
    /* Where the vCPU of the last snapshot stands (report_snapshot_frame). */
    void (*frame)(void *context, unsigned partition, unsigned vcpu, struct monitor_frame *frame);
    /*
     * Copies guest memory; false unless all of it is there. `address + size` is at most 2^64. `linear` goes
     * through the page tables of the vCPU of the last snapshot.
     */
    bool (*read_linear)(void *context, unsigned partition, unsigned vcpu, uint64_t address, void *bytes,
                        size_t size);
    bool (*read_physical)(void *context, unsigned partition, uint64_t address, void *bytes, size_t size);

    /*
     * The trace of a vCPU as `trace save` shows it: the live one, or after `trace off` what was kept then.
     * NULL past the last vCPU.
     */
    const struct trace *(*trace)(void *context, unsigned partition, unsigned vcpu);
    /* On: recorded live, each exit timed. Off: what is recorded by now is kept for `trace save`. */
    bool (*trace_switch)(void *context, unsigned partition, bool on, struct monitor_error *error);

    bool (*stats_line)(void *context, unsigned partition, unsigned number, char *line, size_t size);
    bool (*memory_line)(void *context, unsigned number, char *line, size_t size);
    bool (*cpu_line)(void *context, unsigned number, char *line, size_t size);
    /* The line of the log at or after *position (0: the oldest), which moves behind it. False: none. */
    bool (*log_line)(void *context, uint64_t *position, char *line, size_t size);

    /* The counters that `top` compares; `sample` is cleared but for what this fills in. */
    void (*sample)(void *context, struct monitor_sample *sample);
    /* The clock, and its ticks a second. */
    uint64_t (*now)(void *context);
    uint64_t (*tick_hz)(void *context);

    /* The end of Umbra; may return, and then takes effect when the run loop gets to it. */
    void (*poweroff)(void *context);
    void (*reboot)(void *context);

    /* The monitor's channel of the console. */
    size_t (*room)(void *context);
    void (*write)(void *context, const char *text, size_t length);
};

struct monitor_command;

struct monitor {
    const struct monitor_ops *ops;
    void *context;
    struct line_editor editor;
    bool awake;             /* has been focused or stepped */
    bool plain;             /* `plain on` */
    bool plain_once;        /* the present command alone: `--plain` stood before it */
    bool interrupted;       /* ^C, or any key under `top`, while a command is under way */
    uint64_t list_position; /* in the log, of the `log` command */
    uint64_t log_position;  /* in the log: what lies before has been shown */

    /* The command that is under way; NULL while the prompt is shown. */
    const struct monitor_command *command;
    struct slice arguments[MONITOR_ARGUMENTS_MAX]; /* as typed; valid while the command begins */
    unsigned argument_count;
    unsigned partition;
    char name[MONITOR_NAME_MAX]; /* the partition's */
    unsigned vcpu;
    enum monitor_action action;
    struct monitor_error error; /* how it ends; empty: well */

    /*
     * What it does now: wait for `poll`, and then go on with `then`; or print what `lines` yields, and then
     * go on with `more` (NULL: no more); or take lines that are typed. If it does none of them, it is over.
     */
    enum monitor_result (*poll)(struct monitor *monitor, bool again, struct monitor_error *error);
    bool polled; /* once at least */
    void (*then)(struct monitor *monitor);
    bool (*lines)(struct monitor *monitor, unsigned number, char *line, size_t size);
    unsigned line_number; /* the next one */
    void (*more)(struct monitor *monitor);
    bool section_open; /* `create` takes lines */

    /* Of single commands. */
    uint64_t address, length; /* memory */
    struct monitor_backtrace backtrace;
    struct {
        unsigned vcpu;
        uint64_t position; /* of the next record */
        uint64_t end;      /* behind the newest when this vCPU's turn came */
        uint64_t records, lost;
        bool ended;
    } save; /* trace */
    struct {
        char text[MONITOR_SECTION_MAX];
        size_t length;
        bool too_long;
        char complaints[MONITOR_COMPLAINTS][MONITOR_LINE_MAX];
        unsigned complaint_count; /* all, shown or not */
    } section;                    /* create */
    struct {
        bool live;          /* on a screen of its own, until a key is pressed */
        uint64_t next;      /* when the next sample is due */
        unsigned newest;    /* of the two samples */
        unsigned own_lines; /* of the table; those of the memory follow */
        struct monitor_sample samples[2];
        struct monitor_top table;
    } top;
};

/*
 * Prepares `monitor`. What the log holds when it is first focused or stepped counts as shown: print() has put
 * it on the terminal itself. Shows nothing before.
 */
void monitor_init(struct monitor *monitor, const struct monitor_ops *ops, void *context);

/* The monitor has got the console: shows the prompt on a fresh line, unless a command is under way. */
void monitor_focused(struct monitor *monitor);

/*
 * Takes a typed byte. False while a command is under way or the console is full: offer it again. ^C is taken
 * then too: it ends the command.
 */
bool monitor_input(struct monitor *monitor, char byte);

/* Goes on with the command, if there is room for what it may print; shows new lines of the log. */
void monitor_step(struct monitor *monitor);

/*
 * When monitor_step wants to be called at the latest, in ticks: 0: at once, as soon as the console has room;
 * UINT64_MAX: nothing is under way, new lines of the log apart. For the idle loop.
 */
uint64_t monitor_deadline(const struct monitor *monitor);

/*
 * An error in the text that `create` was given: line and column count from 1, in that text. Only while the op
 * `create` is called.
 */
void monitor_complain(struct monitor *monitor, unsigned line, unsigned column, const char *message);
