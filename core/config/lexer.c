// SPDX-License-Identifier: BSD-2-Clause
#include "core/config/lexer.h"

#include "core/config/values.h"

static const struct slice byte_order_mark = {"\xef\xbb\xbf", 3};

void config_lexer_start(struct config_lexer *lexer, struct slice text)
{
    size_t mark = byte_order_mark.length;

    if (text.length >= mark && memcmp(text.start, byte_order_mark.start, mark) == 0)
        text = (struct slice){text.start + mark, text.length - mark};
    *lexer = (struct config_lexer){.rest = text};
}

/* The index of `byte` in `text` at or after `from`, or the text's length. */
static size_t find_byte(struct slice text, size_t from, char byte)
{
    while (from < text.length && text.start[from] != byte)
        from++;
    return from;
}

static size_t skip_blanks(struct slice text, size_t from)
{
    while (from < text.length && config_is_blank(text.start[from]))
        from++;
    return from;
}

/* Where the comment of a line begins, if only from `from` on one may: at its '#', or the line's length. */
static size_t find_comment(struct slice text, size_t from)
{
    for (size_t at = find_byte(text, from, '#'); at < text.length; at = find_byte(text, at + 1, '#'))
        if (at == 0 || config_is_blank(text.start[at - 1]))
            return at;
    return text.length;
}

/* The part [from, to) of line `number` without blanks at its ends. */
static struct config_token token(struct slice text, unsigned number, size_t from, size_t to)
{
    from = min_u64(skip_blanks(text, from), to);
    while (to > from && config_is_blank(text.start[to - 1]))
        to--;
    return (struct config_token){{text.start + from, to - from}, {number, (unsigned)from + 1}};
}

static void set_fault(struct config_line *line, enum config_fault fault, unsigned number, size_t at)
{
    if (line->fault != CONFIG_FAULT_NONE)
        return;
    line->fault = fault;
    line->fault_place = (struct config_place){number, (unsigned)at + 1};
}

/* Finds the first byte of `part` that does not belong in a text, and empties the part if there is one. */
static bool check_bytes(struct config_line *line, struct config_token *part)
{
    for (size_t i = 0; i < part->text.length; i++) {
        uint8_t byte = (uint8_t)part->text.start[i];

        if (config_is_blank((char)byte) || (byte > ' ' && byte < 0x7f))
            continue;
        if (line->fault == CONFIG_FAULT_NONE || line->fault_place.column > part->place.column + i) {
            line->fault = CONFIG_FAULT_BYTE;
            line->fault_place = (struct config_place){part->place.line, part->place.column + (unsigned)i};
            line->fault_byte = byte;
        }
        part->text.length = 0;
        return false;
    }
    return true;
}

/* `[NAME REST]`, the bracket being at `from`. */
static void read_header(struct config_line *line, struct slice text, unsigned number, size_t from)
{
    size_t comment = find_comment(text, from);
    size_t close = min_u64(find_byte(text, from, ']'), comment);
    struct config_token inside = token(text, number, from + 1, close);
    struct slice rest = inside.text;
    size_t after = skip_blanks(text, close + 1);

    line->kind = CONFIG_LINE_SECTION;
    if (close == comment)
        set_fault(line, CONFIG_FAULT_OPEN_HEADER, number, from);
    else if (after < comment)
        set_fault(line, CONFIG_FAULT_AFTER_HEADER, number, after);
    line->name = (struct config_token){config_take_word(&rest), inside.place};
    line->value = token(text, number, (size_t)(rest.start - text.start), close);
}

/* A value in quotes, the first of them at `from`. */
static void read_quoted(struct config_line *line, struct slice text, unsigned number, size_t from)
{
    size_t close = find_byte(text, from + 1, '"');
    size_t after;

    line->quoted = true;
    line->value = (struct config_token){{text.start + from + 1, 0}, {number, (unsigned)from + 2}};
    if (close == text.length) {
        set_fault(line, CONFIG_FAULT_OPEN_QUOTE, number, from);
        return;
    }
    line->value.text.length = close - from - 1;
    after = skip_blanks(text, close + 1);
    if (after < find_comment(text, close + 1))
        set_fault(line, CONFIG_FAULT_AFTER_QUOTE, number, after);
}

/* `KEY = VALUE`, beginning at `from`. */
static void read_setting(struct config_line *line, struct slice text, unsigned number, size_t from)
{
    size_t comment = find_comment(text, from);
    size_t equals = min_u64(find_byte(text, from, '='), comment);
    size_t value = min_u64(skip_blanks(text, equals + 1), comment);

    line->kind = CONFIG_LINE_SETTING;
    line->name = token(text, number, from, equals);
    if (equals == comment) {
        line->kind = CONFIG_LINE_BROKEN;
        set_fault(line, CONFIG_FAULT_NO_EQUALS, number, from);
    } else if (equals == from) {
        line->kind = CONFIG_LINE_BROKEN;
        set_fault(line, CONFIG_FAULT_NO_KEY, number, from);
    } else if (value < comment && text.start[value] == '"') {
        read_quoted(line, text, number, value);
    } else {
        line->value = token(text, number, value, comment);
    }
}

/* Takes the next line off the text, without its end. */
static struct slice take_line(struct config_lexer *lexer)
{
    size_t end = find_byte(lexer->rest, 0, '\n');
    size_t next = min_u64(end + 1, lexer->rest.length);
    struct slice text = {lexer->rest.start, end};

    lexer->rest = (struct slice){lexer->rest.start + next, lexer->rest.length - next};
    lexer->line++;
    if (text.length && text.start[text.length - 1] == '\r')
        text.length--;
    return text;
}

bool config_lexer_next(struct config_lexer *lexer, struct config_line *line)
{
    struct slice text;
    size_t from;

    if (lexer->rest.length == 0)
        return false;
    text = take_line(lexer);
    from = skip_blanks(text, 0);
    *line = (struct config_line){.kind = CONFIG_LINE_BLANK};
    if (from == text.length || text.start[from] == '#')
        return true;
    if (text.start[from] == '[')
        read_header(line, text, lexer->line, from);
    else
        read_setting(line, text, lexer->line, from);
    if (!check_bytes(line, &line->name) && line->kind == CONFIG_LINE_SETTING)
        line->kind = CONFIG_LINE_BROKEN;
    check_bytes(line, &line->value);
    return true;
}
