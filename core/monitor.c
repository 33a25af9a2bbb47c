// SPDX-License-Identifier: BSD-2-Clause
#include "core/monitor.h"

#include "core/monitor_private.h"
#include "lib/printf.h"
#include "lib/string.h"

#define PROMPT         "umbra> "
#define SECTION_PROMPT "create> "
#define INTERRUPT      '\x03' /* ^C */

/* Room for the most that one key or one printed line needs, with the prompt drawn again after it. */
#define ROOM_MIN       512

/* How often a command that waits is asked for how it goes, if nothing else wakes the housekeeper. */
#define POLLS_A_SECOND 100

/* ---- Output ---------------------------------------------------------------------------------- */

static void write_text(struct monitor *m, const char *text)
{
    m->ops->write(m->context, text, strlen(text));
}

static void write_line(struct monitor *m, const char *line)
{
    write_text(m, line);
    write_text(m, "\r\n");
}

static bool has_room(const struct monitor *m)
{
    return m->ops->room(m->context) >= ROOM_MIN;
}

void monitor_say(struct monitor *m, const char *format, ...)
{
    char line[MONITOR_LINE_MAX];
    va_list arguments;

    va_start(arguments, format);
    format_text_va(line, sizeof(line), format, arguments);
    va_end(arguments);
    write_line(m, line);
}

/* ---- The life of a command ------------------------------------------------------------------- */

/* Whether what is typed goes into the editor. */
static bool takes_text(const struct monitor *m)
{
    return m->command == NULL || m->section_open;
}

static void show_prompt(struct monitor *m)
{
    line_editor_set(&m->editor, m->section_open ? SECTION_PROMPT : PROMPT, monitor_is_plain(m));
    line_editor_show(&m->editor);
}

/* A command that does nothing any more is over: the last line tells a program so. */
static void end_if_over(struct monitor *m)
{
    if (m->command == NULL || m->poll != NULL || m->lines != NULL || m->section_open)
        return;
    if (m->error.text[0] != '\0')
        monitor_say(m, "error: %s", m->error.text);
    else if (monitor_is_plain(m))
        write_line(m, "ok");
    m->command = NULL;
    m->plain_once = false;
}

void monitor_fail(struct monitor *m, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    format_text_va(m->error.text, sizeof(m->error.text), format, arguments);
    va_end(arguments);
}

void monitor_print(struct monitor *m, bool (*lines)(struct monitor *, unsigned, char *, size_t))
{
    m->lines = lines;
    m->line_number = 0;
}

static void ask(struct monitor *m)
{
    struct monitor_error error = {.text = ""};
    enum monitor_result result = m->poll(m, m->polled, &error);

    m->polled = true;
    if (result == MONITOR_AGAIN)
        return;
    m->poll = NULL;
    if (result == MONITOR_FAILED)
        m->error = error;
    else if (m->then != NULL)
        m->then(m);
}

void monitor_wait(struct monitor *m,
                  enum monitor_result (*poll)(struct monitor *, bool again, struct monitor_error *error),
                  void (*then)(struct monitor *))
{
    m->poll = poll;
    m->then = then;
    m->polled = false;
    ask(m);
}

static void interrupt(struct monitor *m)
{
    /* A key is how `top` ends well. */
    if (!m->top.live)
        monitor_fail(m, "interrupted");
    m->poll = NULL;
    m->lines = NULL;
    m->section_open = false;
}

static void begin(struct monitor *m, const char *line)
{
    m->error.text[0] = '\0';
    m->interrupted = false;
    m->more = NULL;
    m->top.live = false;
    m->top.next = 0;
    monitor_execute(m, slice_of(line));
}

/* ---- The machine ----------------------------------------------------------------------------- */

static void editor_write(void *context, const char *text, size_t length)
{
    struct monitor *m = context;

    m->ops->write(m->context, text, length);
}

static const struct line_editor_ops editor_ops = {.write = editor_write, .complete = monitor_complete};

void monitor_init(struct monitor *monitor, const struct monitor_ops *ops, void *context)
{
    memset(monitor, 0, sizeof(*monitor));
    monitor->ops = ops;
    monitor->context = context;
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
    if (takes_text(monitor))
        show_prompt(monitor);
}

bool monitor_input(struct monitor *m, char byte)
{
    if (!takes_text(m)) {
        if (byte != INTERRUPT && !m->top.live)
            return false;
        m->interrupted = true;
        return true;
    }
    if (!has_room(m))
        return false;
    if (m->section_open && byte == INTERRUPT) {
        if (!monitor_is_plain(m))
            write_line(m, "^C");
        interrupt(m);
    } else if (!line_editor_input(&m->editor, byte)) {
        return true;
    } else if (m->section_open) {
        monitor_create_line(m, slice_of(m->editor.line));
    } else {
        begin(m, m->editor.line);
    }
    line_editor_reset(&m->editor);
    end_if_over(m);
    if (takes_text(m))
        show_prompt(m);
    return true;
}

static void step_lines(struct monitor *m)
{
    char line[MONITOR_LINE_MAX];

    for (unsigned i = 0; i < MONITOR_STEP_LINES && has_room(m); i++) {
        if (!m->lines(m, m->line_number++, line, sizeof(line))) {
            m->lines = NULL;
            if (m->more != NULL)
                m->more(m);
            return;
        }
        write_line(m, line);
    }
}

/*
 * New lines of the log appear above the prompt, or while a command waits. A program gets them between its
 * commands, marked.
 */
static void step_log(struct monitor *m)
{
    char line[MONITOR_LINE_MAX];
    unsigned shown = 0;

    if (monitor_is_plain(m) ? m->command != NULL : m->top.live && m->command != NULL)
        return;
    while (shown < MONITOR_STEP_LINES && has_room(m) &&
           m->ops->log_line(m->context, &m->log_position, line, sizeof(line))) {
        if (shown++ == 0 && takes_text(m))
            line_editor_hide(&m->editor);
        if (monitor_is_plain(m))
            write_text(m, "log: ");
        write_line(m, line);
    }
    if (shown > 0 && takes_text(m))
        show_prompt(m);
}

void monitor_step(struct monitor *m)
{
    wake(m);
    if (!takes_text(m) && has_room(m)) {
        if (m->interrupted)
            interrupt(m);
        else if (m->lines != NULL)
            step_lines(m);
        else
            ask(m);
        end_if_over(m);
        if (takes_text(m))
            show_prompt(m);
        if (m->command == NULL || m->lines != NULL)
            return;
    }
    step_log(m);
}

uint64_t monitor_deadline(const struct monitor *m)
{
    if (takes_text(m))
        return UINT64_MAX;
    if (m->interrupted || m->lines != NULL)
        return 0;
    if (m->top.next != 0)
        return m->top.next;
    return m->ops->now(m->context) + m->ops->tick_hz(m->context) / POLLS_A_SECOND;
}
