// SPDX-License-Identifier: BSD-2-Clause
#include "core/monitor.h"

#include "lib/printf.h"
#include "lib/string.h"

#define PROMPT   "umbra> "

/* Room for the most that one key or one printed line needs, with the prompt drawn again after it. */
#define ROOM_MIN 512

struct command {
    const char *name;
    bool takes_partition;
    const char *help;
    /* With monitor->partition set if it takes one. May set monitor->lines. */
    void (*run)(struct monitor *monitor);
};

/* ---- Output ---------------------------------------------------------------------------------- */

static void write_line(struct monitor *m, const char *line)
{
    m->ops->write(m->context, line, strlen(line));
    m->ops->write(m->context, "\r\n", 2);
}

static __printf_format(2, 3) void say(struct monitor *m, const char *format, ...)
{
    char line[MONITOR_LINE_MAX];
    va_list arguments;

    va_start(arguments, format);
    format_text_va(line, sizeof(line), format, arguments);
    va_end(arguments);
    write_line(m, line);
}

/* Begins to print what `lines` yields, a few lines a step. */
static void print_lines(struct monitor *m, bool (*lines)(struct monitor *, unsigned, char *, size_t))
{
    m->lines = lines;
    m->line_number = 0;
}

/* ---- Commands that print --------------------------------------------------------------------- */

static const char *state_name(enum monitor_state state)
{
    static const char *const names[] = {
        [MONITOR_RUNNING] = "running", [MONITOR_HALTED] = "halted",   [MONITOR_STOPPED] = "stopped",
        [MONITOR_CRASHED] = "crashed", [MONITOR_REFUSED] = "refused",
    };

    return names[state];
}

/* "256M", in the largest unit that divides it. */
static const char *size_text(uint64_t bytes, char *text, size_t size)
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    unsigned unit = 0;

    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < ARRAY_SIZE(units)) {
        bytes /= 1024;
        unit++;
    }
    format_text(text, size, "%lu%s", bytes, units[unit]);
    return text;
}

static bool list_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    struct monitor_partition row;
    char memory[24];

    if (number == 0) {
        format_text(line, size, "%3s %-16s %-8s %5s %8s %12s  %s", "no.", "name", "state", "vcpus", "memory",
                    "exits", "reason");
        return true;
    }
    if (!m->ops->partition(m->context, number - 1, &row))
        return false;
    bool told = row.reason != NULL && row.reason[0] != '\0';
    format_text(line, size, "%3u %-16.*s %-8s %5u %8s %12lu%s%s", number, SLICE_ARGUMENTS(row.name),
                state_name(row.state), row.vcpus, size_text(row.memory, memory, sizeof(memory)), row.exits,
                told ? "  " : "", told ? row.reason : "");
    return true;
}

static bool dump_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    return m->ops->dump_line(m->context, m->partition, number, line, size);
}

static bool stats_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    return m->ops->stats_line(m->context, m->partition, number, line, size);
}

static bool memory_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    return m->ops->memory_line(m->context, number, line, size);
}

static bool cpu_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    return m->ops->cpu_line(m->context, number, line, size);
}

/* What the user has seen by `log` is not shown a second time. */
static bool log_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    if (number == 0)
        m->list_position = 0;
    if (m->ops->log_line(m->context, &m->list_position, line, size))
        return true;
    m->log_position = max_u64(m->log_position, m->list_position);
    return false;
}

#define PRINTING(name)                                                                                       \
    static void run_##name(struct monitor *m)                                                                \
    {                                                                                                        \
        print_lines(m, name##_line);                                                                         \
    }

PRINTING(list)
PRINTING(dump)
PRINTING(stats)
PRINTING(memory)
PRINTING(cpu)
PRINTING(log)

/* ---- Commands that act ----------------------------------------------------------------------- */

static struct slice partition_name(struct monitor *m, unsigned partition)
{
    struct monitor_partition row = {.name = SLICE("")};

    m->ops->partition(m->context, partition, &row);
    return row.name;
}

/* Runs an op on the partition. `verb` is what it was to do, `done` what to say after it, or NULL. */
static bool act(struct monitor *m, bool (*op)(void *, unsigned, struct monitor_error *), const char *verb,
                const char *done)
{
    struct monitor_error error = {.text = ""};
    struct slice name = partition_name(m, m->partition);

    if (!op(m->context, m->partition, &error)) {
        say(m, "error: cannot %s %.*s: %s", verb, SLICE_ARGUMENTS(name), error.text);
        return false;
    }
    if (done != NULL)
        say(m, "%.*s %s", SLICE_ARGUMENTS(name), done);
    return true;
}

static void run_start(struct monitor *m)
{
    act(m, m->ops->start, "start", "started");
}

static void run_stop(struct monitor *m)
{
    act(m, m->ops->stop, "stop", "stopped");
}

static void run_reset(struct monitor *m)
{
    act(m, m->ops->reset, "reset", "reset");
}

static void run_console(struct monitor *m)
{
    act(m, m->ops->focus, "show the console of", NULL);
}

static void run_poweroff(struct monitor *m)
{
    m->ops->poweroff(m->context);
}

static void run_reboot(struct monitor *m)
{
    m->ops->reboot(m->context);
}

static void run_help(struct monitor *m);

static const struct command commands[] = {
    {"help", false, "this", run_help},
    {"list", false, "the partitions", run_list},
    {"start", true, "start a partition", run_start},
    {"stop", true, "stop it", run_stop},
    {"reset", true, "stop and start it", run_reset},
    {"dump", true, "its registers, VMCS and last exits", run_dump},
    {"stats", true, "its counters", run_stats},
    {"console", true, "give it the console", run_console},
    {"log", false, "what Umbra has reported", run_log},
    {"memory", false, "who owns the machine's memory", run_memory},
    {"cpu", false, "what the processor can do", run_cpu},
    {"poweroff", false, "stop everything and power the machine off", run_poweroff},
    {"reboot", false, "stop everything and reset the machine", run_reboot},
    {NULL, false, NULL, NULL},
};

static bool help_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    const struct command *c = &commands[number];

    (void)m;
    if (c->name == NULL)
        return false;
    format_text(line, size, "%-8s %-5s %s", c->name, c->takes_partition ? "NAME" : "", c->help);
    return true;
}

PRINTING(help)

/* ---- From a line to a command ---------------------------------------------------------------- */

/* Takes the next word off the front of `text`; empty at its end. */
static struct slice next_word(struct slice *text)
{
    struct slice word;

    while (text->length > 0 && *text->start == ' ')
        *text = (struct slice){text->start + 1, text->length - 1};
    word = (struct slice){text->start, 0};
    while (word.length < text->length && word.start[word.length] != ' ')
        word.length++;
    *text = (struct slice){text->start + word.length, text->length - word.length};
    return word;
}

static const struct command *find_command(struct slice word)
{
    for (const struct command *c = commands; c->name != NULL; c++)
        if (slice_is(word, c->name))
            return c;
    return NULL;
}

static bool find_partition(struct monitor *m, struct slice name)
{
    struct monitor_partition row;

    for (unsigned i = 0; m->ops->partition(m->context, i, &row); i++) {
        if (slice_equal(row.name, name)) {
            m->partition = i;
            return true;
        }
    }
    return false;
}

static void execute(struct monitor *m, struct slice line)
{
    struct slice word = next_word(&line);
    struct slice argument = next_word(&line);
    struct slice more = next_word(&line);
    const struct command *c = find_command(word);

    if (word.length == 0)
        return;
    if (c == NULL)
        say(m, "error: no command named %.*s (help lists them)", SLICE_ARGUMENTS(word));
    else if (!c->takes_partition && argument.length > 0)
        say(m, "error: %s takes no argument", c->name);
    else if (c->takes_partition && (argument.length == 0 || more.length > 0))
        say(m, "error: %s takes the name of one partition", c->name);
    else if (c->takes_partition && !find_partition(m, argument))
        say(m, "error: no partition named %.*s", SLICE_ARGUMENTS(argument));
    else
        c->run(m);
}

/* ---- Completion ------------------------------------------------------------------------------ */

/* What all candidates so far go on with. */
struct completion {
    struct slice word; /* typed */
    char *text;
    size_t size;
    size_t length;
    unsigned matches;
};

static void consider(struct completion *c, struct slice candidate)
{
    size_t same = 0;

    if (candidate.length < c->word.length || memcmp(candidate.start, c->word.start, c->word.length) != 0)
        return;
    const char *rest = candidate.start + c->word.length;
    size_t length = min_u64(candidate.length - c->word.length, c->size - 1);
    if (c->matches++ == 0) {
        memcpy(c->text, rest, length);
        c->length = length;
        return;
    }
    while (same < length && same < c->length && rest[same] == c->text[same])
        same++;
    c->length = same;
}

/* The first word is a command, the second a partition, if the command takes one. */
static size_t complete(void *context, const char *line, size_t length, char *text, size_t size)
{
    struct monitor *m = context;
    struct slice rest = {line, length};
    struct slice first = next_word(&rest);
    struct completion c = {.word = first, .text = text, .size = size};
    struct monitor_partition row;

    if (rest.length == 0) {
        for (const struct command *command = commands; command->name != NULL; command++)
            consider(&c, slice_of(command->name));
    } else {
        const struct command *command = find_command(first);
        c.word = next_word(&rest);
        if (rest.length > 0 || command == NULL || !command->takes_partition)
            return 0;
        for (unsigned i = 0; m->ops->partition(m->context, i, &row); i++)
            consider(&c, row.name);
    }
    if (c.matches == 1)
        text[c.length++] = ' ';
    return c.length;
}

/* ---- The machine ----------------------------------------------------------------------------- */

static void editor_write(void *context, const char *text, size_t length)
{
    struct monitor *m = context;

    m->ops->write(m->context, text, length);
}

static const struct line_editor_ops editor_ops = {.write = editor_write, .complete = complete};

void monitor_init(struct monitor *monitor, const struct monitor_ops *ops, void *context)
{
    *monitor = (struct monitor){.ops = ops, .context = context};
    line_editor_init(&monitor->editor, &editor_ops, monitor, PROMPT);
}

static void wake(struct monitor *m)
{
    char line[MONITOR_LINE_MAX];

    if (m->awake)
        return;
    m->awake = true;
    while (m->ops->log_line(m->context, &m->log_position, line, sizeof(line)))
        continue;
}

void monitor_focused(struct monitor *monitor)
{
    wake(monitor);
    if (monitor->lines == NULL)
        line_editor_show(&monitor->editor);
}

bool monitor_input(struct monitor *monitor, char byte)
{
    if (monitor->lines != NULL || monitor->ops->room(monitor->context) < ROOM_MIN)
        return false;
    if (!line_editor_input(&monitor->editor, byte))
        return true;

    execute(monitor, slice_of(monitor->editor.line));
    line_editor_reset(&monitor->editor);
    if (monitor->lines == NULL)
        line_editor_show(&monitor->editor);
    return true;
}

static void step_command(struct monitor *m)
{
    char line[MONITOR_LINE_MAX];

    for (unsigned i = 0; i < MONITOR_STEP_LINES && m->ops->room(m->context) >= ROOM_MIN; i++) {
        if (!m->lines(m, m->line_number++, line, sizeof(line))) {
            m->lines = NULL;
            line_editor_show(&m->editor);
            return;
        }
        write_line(m, line);
    }
}

/* New lines of the log appear above the prompt. */
static void step_log(struct monitor *m)
{
    char line[MONITOR_LINE_MAX];
    unsigned shown = 0;

    while (shown < MONITOR_STEP_LINES && m->ops->room(m->context) >= ROOM_MIN &&
           m->ops->log_line(m->context, &m->log_position, line, sizeof(line))) {
        if (shown++ == 0)
            line_editor_hide(&m->editor);
        write_line(m, line);
    }
    if (shown > 0)
        line_editor_show(&m->editor);
}

void monitor_step(struct monitor *monitor)
{
    wake(monitor);
    if (monitor->lines != NULL)
        step_command(monitor);
    else
        step_log(monitor);
}
