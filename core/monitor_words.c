// SPDX-License-Identifier: BSD-2-Clause
/* From a typed line to a command with its arguments, and the completion of what is half typed. */
#include "core/monitor_private.h"
#include "lib/printf.h"
#include "lib/string.h"

#define PLAIN "--plain"

/* The words that may stand for arguments of these kinds. */
static const char *const choices[ARGUMENT_KINDS][4] = {
    [ARGUMENT_ON_OFF] = {"on", "off"},
    [ARGUMENT_TRACE] = {"on", "off", "save"},
    [ARGUMENT_ONCE] = {"once"},
};

/* ---- Words ----------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice monitor_trim(struct slice text)
{
    while (text.length > 0 && is_blank(text.start[0]))
        text = (struct slice){text.start + 1, text.length - 1};
    while (text.length > 0 && is_blank(text.start[text.length - 1]))
        text.length--;
    return text;
}

/* Takes the next word off the front of `text`; empty at its end. */
static struct slice next_word(struct slice *text)
{
    struct slice word;

    while (text->length > 0 && is_blank(text->start[0]))
        *text = (struct slice){text->start + 1, text->length - 1};
    word = (struct slice){text->start, 0};
    while (word.length < text->length && !is_blank(word.start[word.length]))
        word.length++;
    *text = (struct slice){text->start + word.length, text->length - word.length};
    return word;
}

static const struct monitor_command *find_command(struct slice word)
{
    for (const struct monitor_command *c = monitor_commands; c->name != NULL; c++)
        if (slice_is(word, c->name))
            return c;
    return NULL;
}

/* ---- Arguments ------------------------------------------------------------------------------- */

static bool find_partition(struct monitor *m, struct slice name)
{
    struct monitor_partition row;

    for (unsigned i = 0; m->ops->partition(m->context, i, &row); i++) {
        if (row.state != MONITOR_ABSENT && slice_equal(row.name, name)) {
            m->partition = i;
            format_text(m->name, sizeof(m->name), "%.*s", SLICE_ARGUMENTS(name));
            return true;
        }
    }
    monitor_fail(m, "no partition named %.*s", SLICE_ARGUMENTS(name));
    return false;
}

static bool is_choice(enum monitor_argument kind, struct slice word)
{
    if (choices[kind][0] == NULL)
        return true;
    for (unsigned i = 0; i < ARRAY_SIZE(choices[kind]) && choices[kind][i] != NULL; i++)
        if (slice_is(word, choices[kind][i]))
            return true;
    return false;
}

static bool is_key(struct monitor *m, struct slice word)
{
    const char *key;

    for (unsigned i = 0; (key = m->ops->set_key(m->context, i)) != NULL; i++)
        if (slice_is(word, key))
            return true;
    monitor_fail(m, "no key named %.*s may be set (Tab shows them)", SLICE_ARGUMENTS(word));
    return false;
}

static void fail_usage(struct monitor *m, const struct monitor_command *c)
{
    if (c->arguments[0] == ARGUMENT_NONE)
        monitor_fail(m, "%s takes no argument", c->name);
    else if (c->arguments[0] == ARGUMENT_PARTITION && c->arguments[1] == ARGUMENT_NONE)
        monitor_fail(m, "%s takes the name of one partition", c->name);
    else
        monitor_fail(m, "usage: %s %s", c->name, c->usage);
}

/* Splits `rest` into the command's arguments. False if they are too few, too many, or none of the words. */
static bool split(struct monitor *m, const struct monitor_command *c, struct slice rest)
{
    m->argument_count = 0;
    for (unsigned i = 0; i < MONITOR_ARGUMENTS_MAX && c->arguments[i] != ARGUMENT_NONE; i++) {
        struct slice word = c->arguments[i] == ARGUMENT_REST ? monitor_trim(rest) : next_word(&rest);
        if (c->arguments[i] == ARGUMENT_REST)
            rest.length = 0;
        if (word.length == 0)
            break;
        if (!is_choice(c->arguments[i], word))
            return false;
        m->arguments[m->argument_count++] = word;
    }
    return m->argument_count >= c->required && next_word(&rest).length == 0;
}

/* Whether partitions and keys that the arguments name are there. */
static bool check(struct monitor *m, const struct monitor_command *c)
{
    for (unsigned i = 0; i < m->argument_count; i++) {
        if (c->arguments[i] == ARGUMENT_PARTITION && !find_partition(m, m->arguments[i]))
            return false;
        if (c->arguments[i] == ARGUMENT_KEY && !is_key(m, m->arguments[i]))
            return false;
    }
    return true;
}

/* What stands in the place of a command that is not there: it has failed already. */
static const struct monitor_command no_command = {.name = ""};

void monitor_execute(struct monitor *m, struct slice line)
{
    struct slice word = next_word(&line);

    if (slice_is(word, PLAIN)) {
        word = next_word(&line);
        m->plain_once = word.length > 0;
    }
    if (word.length == 0)
        return;

    const struct monitor_command *c = find_command(word);
    m->command = c == NULL ? &no_command : c;
    if (c == NULL)
        monitor_fail(m, "no command named %.*s (help lists them)", SLICE_ARGUMENTS(word));
    else if (!split(m, c, line))
        fail_usage(m, c);
    else if (check(m, c))
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

static void consider_commands(struct completion *c)
{
    for (const struct monitor_command *command = monitor_commands; command->name != NULL; command++)
        consider(c, slice_of(command->name));
}

static void consider_arguments(struct monitor *m, struct completion *c, enum monitor_argument kind)
{
    struct monitor_partition row;
    const char *key;

    if (kind == ARGUMENT_PARTITION)
        for (unsigned i = 0; m->ops->partition(m->context, i, &row); i++)
            if (row.state != MONITOR_ABSENT)
                consider(c, row.name);
    if (kind == ARGUMENT_KEY)
        for (unsigned i = 0; (key = m->ops->set_key(m->context, i)) != NULL; i++)
            consider(c, slice_of(key));
    if (kind == ARGUMENT_COMMAND)
        consider_commands(c);
    for (unsigned i = 0; i < ARRAY_SIZE(choices[kind]) && choices[kind][i] != NULL; i++)
        consider(c, slice_of(choices[kind][i]));
}

/* The first word is a command, and says what the others may be. A tab in other text is a blank. */
size_t monitor_complete(void *context, const char *line, size_t length, char *text, size_t size)
{
    struct monitor *m = context;
    struct slice rest = {line, length};
    struct completion c = {.text = text, .size = size};

    if (m->section_open || monitor_is_plain(m)) {
        text[0] = ' ';
        return 1;
    }
    c.word = next_word(&rest);
    if (rest.length > 0 && slice_is(c.word, PLAIN))
        c.word = next_word(&rest);
    if (rest.length == 0) {
        consider_commands(&c);
    } else {
        const struct monitor_command *command = find_command(c.word);
        unsigned place = 0;
        if (command == NULL)
            return 0;
        for (c.word = next_word(&rest); rest.length > 0; c.word = next_word(&rest))
            place++;
        if (place >= MONITOR_ARGUMENTS_MAX)
            return 0;
        consider_arguments(m, &c, command->arguments[place]);
    }
    if (c.matches == 1)
        text[c.length++] = ' ';
    return c.length;
}
