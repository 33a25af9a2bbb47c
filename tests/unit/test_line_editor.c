// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/line_editor.c on a model of a terminal's row. Fails when a key leaves line, cursor or history other
 * than it should, or when the row on the terminal is not prompt and line with the cursor at its place.
 */
#include "core/line_editor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PROMPT "umbra> "

/* ---- A terminal of one row, 80 columns: what the editor may use of a VT100 ------------------- */

struct terminal {
    char row[81]; /* without what trails */
    unsigned column;
    unsigned bells;
    unsigned rows; /* ended by a line feed */
    char ended[81];
    char parameter[8];
    unsigned sequence;
};

static struct terminal terminal;
static struct line_editor editor;

static void erase_from(unsigned column)
{
    memset(terminal.row + column, '\0', sizeof(terminal.row) - column);
}

static void take_final(char byte)
{
    unsigned count = (unsigned)atoi(terminal.parameter);

    switch (byte) {
    case 'K':
        erase_from(terminal.column);
        break;
    case 'C':
        terminal.column += count == 0 ? 1 : count;
        break;
    case 'D':
        terminal.column -= count == 0 ? 1 : count;
        break;
    case 'H':
        terminal.column = 0;
        break;
    case 'J':
        assert_int_equal(count, 2);
        erase_from(0);
        break;
    default:
        fail_msg("terminal: unknown sequence ending in %c", byte);
    }
}

static void show(char byte)
{
    if (terminal.sequence == 1) {
        assert_int_equal(byte, '[');
        terminal.sequence = 2;
        memset(terminal.parameter, 0, sizeof(terminal.parameter));
    } else if (terminal.sequence == 2 && byte >= '0' && byte <= '9') {
        terminal.parameter[strlen(terminal.parameter)] = byte;
    } else if (terminal.sequence == 2) {
        terminal.sequence = 0;
        take_final(byte);
    } else if (byte == '\x1b') {
        terminal.sequence = 1;
    } else if (byte == '\r') {
        terminal.column = 0;
    } else if (byte == '\n') {
        terminal.rows++;
        memcpy(terminal.ended, terminal.row, sizeof(terminal.row));
        erase_from(0);
    } else if (byte == '\b') {
        terminal.column--;
    } else if (byte == '\a') {
        terminal.bells++;
    } else {
        assert_in_range(byte, ' ', '~');
        terminal.row[terminal.column++] = byte;
    }
    assert_in_range(terminal.column, 0, 79);
}

static void write_terminal(void *context, const char *text, size_t length)
{
    assert_ptr_equal(context, &terminal);
    assert_true(length > 0);
    for (size_t i = 0; i < length; i++)
        show(text[i]);
}

static size_t complete(void *context, const char *line, size_t length, char *text, size_t size)
{
    (void)context;
    assert_true(size >= 4);
    if (length != 2 || memcmp(line, "st", 2) != 0)
        return 0;
    memcpy(text, "art ", 4);
    return 4;
}

static const struct line_editor_ops ops = {write_terminal, complete};

static int start(void **state)
{
    (void)state;
    memset(&terminal, 0, sizeof(terminal));
    line_editor_init(&editor, &ops, &terminal, PROMPT);
    line_editor_show(&editor);
    return 0;
}

/* Types; the keys after the one that ends a line are not typed. Returns whether one did. */
static bool type(const char *keys)
{
    for (; *keys != '\0'; keys++)
        if (line_editor_input(&editor, *keys))
            return true;
    return false;
}

/* The line is `line` with the cursor before its byte `cursor`, and so the terminal shows it, as far as it
 * fits. */
static void expect(const char *line, unsigned cursor)
{
    char part[LINE_EDITOR_WIDTH + 1];

    assert_string_equal(editor.line, line);
    assert_int_equal(editor.length, strlen(line));
    assert_int_equal(editor.cursor, cursor);
    assert_memory_equal(terminal.row, PROMPT, strlen(PROMPT));
    if (strlen(line) <= LINE_EDITOR_WIDTH)
        assert_int_equal(editor.left, 0);
    assert_in_range(cursor - editor.left, 0, LINE_EDITOR_WIDTH);
    snprintf(part, sizeof(part), "%.*s", LINE_EDITOR_WIDTH, line + editor.left);
    assert_string_equal(terminal.row + strlen(PROMPT), part);
    assert_int_equal(terminal.column, strlen(PROMPT) + cursor - editor.left);
    assert_int_equal(terminal.sequence, 0);
}

static void enter(const char *line)
{
    assert_false(type(line));
    assert_true(type("\r"));
    line_editor_reset(&editor);
    line_editor_show(&editor);
}

static void typing(void **state)
{
    (void)state;
    expect("", 0);
    assert_false(type("lis"));
    expect("lis", 3);
    assert_true(type("t\r"));
    assert_string_equal(editor.line, "list");
    assert_int_equal(terminal.rows, 1);
    assert_string_equal(terminal.ended, PROMPT "list");
    assert_int_equal(terminal.column, 0);
    line_editor_reset(&editor);
    line_editor_show(&editor);
    expect("", 0);
}

/* \r, \n and \r\n each end one line. */
static void line_ends(void **state)
{
    (void)state;
    assert_true(type("a\r"));
    assert_false(type("\n"));
    assert_true(type("\n"));
    assert_true(type("\n"));
    assert_true(type("\r"));
    assert_true(type("\r"));
}

static void editing(void **state)
{
    (void)state;
    type("abc\x1b[D\x1b[DX"); /* left twice */
    expect("aXbc", 2);
    type("\x1b[C\x7f"); /* right, backspace */
    expect("aXc", 2);
    type("\x1b[3~"); /* delete */
    expect("aX", 2);
    type("\x1b[HY\x1b[FZ"); /* home, end */
    expect("YaXZ", 4);
    type("\x1bOH-\x1bOF-\x1b[1~<\x1b[4~>"); /* the other homes and ends */
    expect("<-YaXZ->", 8);
    type("\x01\x04\x06\x04\x05\x02\x08"); /* ^A ^D ^F ^D ^E ^B ^H */
    expect("-aXZ>", 4);
    assert_int_equal(terminal.bells, 0);
}

static void cutting(void **state)
{
    (void)state;
    type("dump  linux two\x17"); /* ^W */
    expect("dump  linux ", 12);
    type("\x17");
    expect("dump  ", 6);
    type("x y\x1b[D\x15"); /* ^U */
    expect("y", 0);
    type("zz\x0b"); /* ^K */
    expect("zz", 2);
    type("\x03"); /* ^C */
    expect("", 0);
    assert_string_equal(terminal.ended, PROMPT "zz^C");
}

/* At the ends there is nothing to move over or cut: the bell, and no change. */
static void ends(void **state)
{
    static const char *const keys[] = {"\x1b[D", "\x1b[C", "\x7f",   "\x1b[3~", "\x15",
                                       "\x0b",   "\x17",   "\x1b[A", "\x1b[B",  "\t"};

    (void)state;
    for (unsigned n = 0; n < ARRAY_SIZE(keys); n++) {
        type(keys[n]);
        expect("", 0);
        assert_int_equal(terminal.bells, n + 1);
    }
}

/* Prompt and line never reach the last column, whatever is typed. */
static void full(void **state)
{
    char line[LINE_EDITOR_LENGTH_MAX + 1] = {0};

    (void)state;
    memset(line, 'x', LINE_EDITOR_LENGTH_MAX);
    type(line);
    expect(line, LINE_EDITOR_LENGTH_MAX);
    assert_int_equal(terminal.bells, 0);
    type("y\x1b[Hy");
    expect(line, 0);
    assert_int_equal(terminal.bells, 2);
    assert_true(type("\r"));
    assert_string_equal(editor.line, line);
}

static void history(void **state)
{
    (void)state;
    enter("one");
    enter("two");
    enter("two"); /* not kept twice */
    enter("");    /* not kept */
    type("half\x1b[A");
    expect("two", 3);
    type("\x1b[A");
    expect("one", 3);
    type("\x1b[A");
    expect("one", 3);
    assert_int_equal(terminal.bells, 1);
    type("\x1b[B\x1b[B");
    expect("half", 4);
    type("\x10!"); /* ^P; an old line may be changed, and is a new one then */
    expect("two!", 4);
    assert_true(type("\r"));
    line_editor_reset(&editor);
    line_editor_show(&editor);
    type("\x10\x10");
    expect("two", 3);
    type("\x0e"); /* ^N */
    expect("two!", 4);
}

/* Of a long line the part about the cursor is shown, and it is redrawn only when that is another one. */
static void scrolling(void **state)
{
    char line[LINE_EDITOR_LENGTH_MAX + 1];

    (void)state;
    for (unsigned n = 0; n < 200; n++) {
        line[n] = (char)('a' + n % 26);
        line[n + 1] = '\0';
        type(line + n);
        expect(line, n + 1);
    }
    assert_int_equal(editor.left, 147);
    terminal.rows = 0;
    for (unsigned n = 199; n > 140; n--) {
        type("\x02"); /* ^B */
        expect(line, n);
    }
    assert_int_equal(editor.left, 126);
    for (unsigned n = 142; n <= 200; n++) {
        type("\x06"); /* ^F */
        expect(line, n);
    }
    type("\x01"); /* ^A */
    assert_int_equal(editor.left, 0);
    expect(line, 0);
    type("\x05");
    for (unsigned n = 199; n > 40; n--) {
        type("\x7f");
        line[n] = '\0';
        expect(line, n);
    }
    type("\x15");
    expect("", 0);
}

/* A silent editor keeps the line and shows nothing. */
static void silent(void **state)
{
    (void)state;
    terminal.rows = 0;
    memset(terminal.row, 0, sizeof(terminal.row));
    terminal.column = 0;
    line_editor_set(&editor, PROMPT, true);
    line_editor_show(&editor);
    assert_true(type("lixt\x7f\x7fst\x1b[D\x1b[C\t\r"));
    assert_string_equal(editor.line, "list");
    line_editor_reset(&editor);
    assert_string_equal(terminal.row, "");
    assert_int_equal(terminal.rows + terminal.column + terminal.bells, 0);
    line_editor_set(&editor, "? ", false);
    line_editor_show(&editor);
    assert_string_equal(terminal.row, "? ");
}

/* The oldest lines go, sixteen stay. */
static void long_history(void **state)
{
    char line[16];

    (void)state;
    for (unsigned n = 0; n < 40; n++) {
        snprintf(line, sizeof(line), "line %u", n);
        enter(line);
    }
    for (unsigned n = 0; n < LINE_EDITOR_HISTORY_MAX; n++)
        type("\x1b[A");
    expect("line 24", 7);
    assert_int_equal(terminal.bells, 0);
    type("\x1b[A");
    expect("line 24", 7);
    assert_int_equal(terminal.bells, 1);
}

static void completion(void **state)
{
    (void)state;
    type("st\t");
    expect("start ", 6);
    type("\t");
    expect("start ", 6);
    assert_int_equal(terminal.bells, 1);
}

/* Other output takes the row, and gives it back. */
static void interrupted(void **state)
{
    (void)state;
    type("sto\x1b[D");
    line_editor_hide(&editor);
    assert_string_equal(terminal.row, "");
    assert_int_equal(terminal.column, 0);
    write_terminal(&terminal, "news\r\n", 6);
    line_editor_show(&editor);
    expect("sto", 2);
    type("\x0c"); /* ^L */
    expect("sto", 2);
}

/* Sequences and bytes that mean nothing do nothing, and do not appear. */
static void unknown(void **state)
{
    (void)state;
    type("ab\x1b[1;5C\x1b[15~\x1bx\x1b[Z\x1b[?25h\xc3\xa9\x80\xff\x1a\x1b[D");
    expect("ab", 1);
    assert_int_equal(terminal.bells, 1); /* the first is "right", with a modifier */
}

/* Any bytes at all keep the terminal in step with the line. */
static void random_keys(void **state)
{
    static const char *const keys[] = {"a",      "b",      " ",      "\x1b[A",  "\x1b[B", "\x1b[C",
                                       "\x1b[D", "\x1b[H", "\x1b[F", "\x1b[3~", "\x7f",   "\x17",
                                       "\x15",   "\x0b",   "\t",     "\r"};
    uint64_t random = 88172645463325252ULL;
    char line[LINE_EDITOR_LENGTH_MAX + 1];

    (void)state;
    for (unsigned n = 0; n < 20000; n++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        /* the killing keys are rare, so that lines get long */
        unsigned key = (unsigned)(random >> 32) % 64;
        if (type(keys[key < ARRAY_SIZE(keys) ? key : key % 10])) {
            line_editor_reset(&editor);
            line_editor_show(&editor);
        }
        memcpy(line, editor.line, sizeof(line));
        assert_true(editor.length <= LINE_EDITOR_LENGTH_MAX && editor.cursor <= editor.length);
        expect(line, (unsigned)editor.cursor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(typing, start),     cmocka_unit_test_setup(line_ends, start),
        cmocka_unit_test_setup(editing, start),    cmocka_unit_test_setup(cutting, start),
        cmocka_unit_test_setup(ends, start),       cmocka_unit_test_setup(full, start),
        cmocka_unit_test_setup(history, start),    cmocka_unit_test_setup(long_history, start),
        cmocka_unit_test_setup(completion, start), cmocka_unit_test_setup(interrupted, start),
        cmocka_unit_test_setup(unknown, start),    cmocka_unit_test_setup(random_keys, start),
        cmocka_unit_test_setup(scrolling, start),  cmocka_unit_test_setup(silent, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
