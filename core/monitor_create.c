// SPDX-License-Identifier: BSD-2-Clause
/* `create`: a section of the configuration, typed or pasted line by line, and what is wrong with it. */
#include "core/monitor_private.h"
#include "lib/printf.h"
#include "lib/string.h"

void monitor_complain(struct monitor *m, unsigned line, unsigned column, const char *message)
{
    if (m->section.complaint_count < MONITOR_COMPLAINTS)
        format_text(m->section.complaints[m->section.complaint_count], MONITOR_LINE_MAX, "%u:%u: %s", line,
                    column, message);
    m->section.complaint_count++;
}

static bool complaint_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    if (number >= m->section.complaint_count || number > MONITOR_COMPLAINTS)
        return false;
    if (number == MONITOR_COMPLAINTS)
        format_text(line, size, "and %u more", m->section.complaint_count - MONITOR_COMPLAINTS);
    else
        format_text(line, size, "%s", m->section.complaints[number]);
    return true;
}

static enum monitor_result poll_create(struct monitor *m, bool again, struct monitor_error *error)
{
    struct monitor_error why = {.text = ""};
    enum monitor_result result = m->ops->create(m->context, m->section.text, m->section.length, again, &why);

    if (result != MONITOR_FAILED)
        return result;
    format_text(error->text, sizeof(error->text), "cannot create it: %s", why.text);
    if (m->section.complaint_count > 0)
        monitor_print(m, complaint_line);
    return result;
}

static void created(struct monitor *m)
{
    if (!monitor_is_plain(m))
        monitor_say(m, "created");
}

void monitor_create(struct monitor *m)
{
    m->section.length = 0;
    m->section.too_long = false;
    m->section.complaint_count = 0;
    m->section_open = true;
    if (!monitor_is_plain(m))
        monitor_say(m, "the section's lines, then `end` (^C: never mind)");
}

void monitor_create_line(struct monitor *m, struct slice line)
{
    struct slice word = monitor_trim(line);

    if (!slice_is(word, "end") && !slice_is(word, ".")) {
        /* What is too long is still read up to its end: it is no command. */
        if (line.length + 1 > MONITOR_SECTION_MAX - m->section.length) {
            m->section.too_long = true;
            return;
        }
        memcpy(m->section.text + m->section.length, line.start, line.length);
        m->section.length += line.length;
        m->section.text[m->section.length++] = '\n';
        return;
    }
    m->section_open = false;
    if (m->section.too_long)
        monitor_fail(m, "cannot create it: the section has more than %u bytes", MONITOR_SECTION_MAX);
    else
        monitor_wait(m, poll_create, created);
}
