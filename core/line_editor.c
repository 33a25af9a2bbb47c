// SPDX-License-Identifier: BSD-2-Clause
#include "core/line_editor.h"

#include "lib/printf.h"
#include "lib/string.h"

#define CONTROL(letter) ((letter)&0x1f)
#define ESCAPE          '\x1b'
#define DELETE          '\x7f'

#define ERASE_TO_END    "\x1b[K"
#define CLEAR_SCREEN    "\x1b[H\x1b[2J"

/* How much of a long line stays in view beyond the cursor when it has to move. */
#define SCROLL          20

static void write_bytes(struct line_editor *e, const char *text, size_t length)
{
    if (length > 0 && !e->silent)
        e->ops->write(e->context, text, length);
}

static void write_text(struct line_editor *e, const char *text)
{
    write_bytes(e, text, strlen(text));
}

static void bell(struct line_editor *e)
{
    write_text(e, "\a");
}

void line_editor_init(struct line_editor *e, const struct line_editor_ops *ops, void *context,
                      const char *prompt)
{
    *e = (struct line_editor){.ops = ops, .context = context, .prompt = prompt};
}

void line_editor_set(struct line_editor *e, const char *prompt, bool silent)
{
    e->prompt = prompt;
    e->silent = silent;
}

/* Sees to it that the cursor is in view. True if another part of the line is shown then. */
static bool scroll(struct line_editor *e)
{
    size_t left = e->left;

    if (e->length <= LINE_EDITOR_WIDTH)
        e->left = 0;
    else if (e->cursor < e->left)
        e->left = e->cursor - min_u64(e->cursor, SCROLL);
    else if (e->cursor - e->left > LINE_EDITOR_WIDTH)
        e->left = e->cursor - LINE_EDITOR_WIDTH + SCROLL;
    return e->left != left;
}

void line_editor_show(struct line_editor *e)
{
    char back[16];

    scroll(e);
    size_t end = min_u64(e->length, e->left + LINE_EDITOR_WIDTH);
    write_text(e, "\r");
    write_text(e, e->prompt);
    write_bytes(e, e->line + e->left, end - e->left);
    write_text(e, ERASE_TO_END);
    if (e->cursor < end) {
        format_text(back, sizeof(back), "\x1b[%zuD", end - e->cursor);
        write_text(e, back);
    }
}

void line_editor_hide(struct line_editor *e)
{
    write_text(e, "\r" ERASE_TO_END);
}

void line_editor_reset(struct line_editor *e)
{
    e->line[0] = '\0';
    e->length = 0;
    e->cursor = 0;
    e->history_back = 0;
}

/* ---- Changing the line ----------------------------------------------------------------------- */

static void insert(struct line_editor *e, const char *text, size_t length)
{
    bool at_end = e->cursor == e->length;

    if (length > LINE_EDITOR_LENGTH_MAX - e->length) {
        bell(e);
        return;
    }
    memmove(e->line + e->cursor + length, e->line + e->cursor, e->length - e->cursor + 1);
    memcpy(e->line + e->cursor, text, length);
    e->length += length;
    e->cursor += length;
    if (!at_end || scroll(e))
        line_editor_show(e);
    else
        write_bytes(e, text, length);
}

/* Takes the bytes from `from` up to `to` out, and leaves the cursor there. */
static void cut(struct line_editor *e, size_t from, size_t to)
{
    if (from == to) {
        bell(e);
        return;
    }
    memmove(e->line + from, e->line + to, e->length - to + 1);
    e->length -= to - from;
    e->cursor = from;
    line_editor_show(e);
}

static void replace(struct line_editor *e, const char *text)
{
    e->length = strlen(text);
    e->cursor = e->length;
    memcpy(e->line, text, e->length + 1);
    line_editor_show(e);
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static void key_left(struct line_editor *e)
{
    if (e->cursor == 0) {
        bell(e);
        return;
    }
    e->cursor--;
    if (scroll(e))
        line_editor_show(e);
    else
        write_text(e, "\b");
}

static void key_right(struct line_editor *e)
{
    if (e->cursor == e->length) {
        bell(e);
        return;
    }
    e->cursor++;
    if (scroll(e))
        line_editor_show(e);
    else
        write_text(e, "\x1b[C");
}

static void key_home(struct line_editor *e)
{
    e->cursor = 0;
    line_editor_show(e);
}

static void key_end(struct line_editor *e)
{
    e->cursor = e->length;
    line_editor_show(e);
}

static void key_backspace(struct line_editor *e)
{
    cut(e, e->cursor - (e->cursor > 0), e->cursor);
}

static void key_delete(struct line_editor *e)
{
    cut(e, e->cursor, e->cursor + (e->cursor < e->length));
}

static void key_cut_to_start(struct line_editor *e)
{
    cut(e, 0, e->cursor);
}

static void key_cut_to_end(struct line_editor *e)
{
    cut(e, e->cursor, e->length);
}

static void key_cut_word(struct line_editor *e)
{
    size_t start = e->cursor;

    while (start > 0 && e->line[start - 1] == ' ')
        start--;
    while (start > 0 && e->line[start - 1] != ' ')
        start--;
    cut(e, start, e->cursor);
}

static char *history_line(struct line_editor *e, unsigned back)
{
    return e->history[(e->history_count - back) & (LINE_EDITOR_HISTORY_MAX - 1)];
}

static void key_up(struct line_editor *e)
{
    if (e->history_back == min_u64(e->history_count, LINE_EDITOR_HISTORY_MAX)) {
        bell(e);
        return;
    }
    if (e->history_back == 0)
        memcpy(e->typed, e->line, e->length + 1);
    e->history_back++;
    replace(e, history_line(e, e->history_back));
}

static void key_down(struct line_editor *e)
{
    if (e->history_back == 0) {
        bell(e);
        return;
    }
    e->history_back--;
    replace(e, e->history_back == 0 ? e->typed : history_line(e, e->history_back));
}

static void key_tab(struct line_editor *e)
{
    char text[LINE_EDITOR_LENGTH_MAX];
    size_t length = 0;

    if (e->ops->complete != NULL)
        length = e->ops->complete(e->context, e->line, e->cursor, text, sizeof(text));
    if (length == 0)
        bell(e);
    else
        insert(e, text, length);
}

static void key_abandon(struct line_editor *e)
{
    write_text(e, "^C\r\n");
    line_editor_reset(e);
    line_editor_show(e);
}

static void key_clear(struct line_editor *e)
{
    write_text(e, CLEAR_SCREEN);
    line_editor_show(e);
}

struct key {
    char code; /* 0 ends the table */
    void (*press)(struct line_editor *editor);
};

static const struct key controls[] = {
    {CONTROL('A'), key_home},         {CONTROL('B'), key_left},
    {CONTROL('C'), key_abandon},      {CONTROL('D'), key_delete},
    {CONTROL('E'), key_end},          {CONTROL('F'), key_right},
    {CONTROL('H'), key_backspace},    {CONTROL('I'), key_tab},
    {CONTROL('K'), key_cut_to_end},   {CONTROL('L'), key_clear},
    {CONTROL('N'), key_down},         {CONTROL('P'), key_up},
    {CONTROL('U'), key_cut_to_start}, {CONTROL('W'), key_cut_word},
    {DELETE, key_backspace},          {0, NULL},
};

/* ESC [ or ESC O and a letter (ECMA-48, VT100). */
static const struct key letters[] = {
    {'A', key_up},   {'B', key_down}, {'C', key_right}, {'D', key_left},
    {'H', key_home}, {'F', key_end},  {0, NULL},
};

/* ESC [ number ~ (VT220). */
static const struct key numbers[] = {
    {1, key_home}, {3, key_delete}, {4, key_end}, {7, key_home}, {8, key_end}, {0, NULL},
};

static void press(struct line_editor *e, const struct key *keys, char code)
{
    for (; keys->code != 0; keys++) {
        if (keys->code == code) {
            keys->press(e);
            return;
        }
    }
}

/* One more byte of an escape sequence: parameters up to the byte that ends it. Unknown ones do nothing. */
static void take_sequence(struct line_editor *e, char byte)
{
    if (e->sequence == 1) {
        e->sequence = byte == '[' || byte == 'O' ? 2 : 0;
        e->parameter = 0;
    } else if (byte >= '0' && byte <= '9') {
        if (e->sequence == 2 && e->parameter < 10)
            e->parameter = (uint8_t)(e->parameter * 10 + (byte - '0'));
    } else if (byte > '9' && byte <= '?') {
        e->sequence = 3;
    } else {
        e->sequence = 0;
        if (byte == '~')
            press(e, numbers, (char)e->parameter);
        else
            press(e, letters, byte);
    }
}

/* ---- The whole line -------------------------------------------------------------------------- */

static void finish(struct line_editor *e)
{
    write_text(e, "\r\n");
    if (e->length == 0 || (e->history_count > 0 && strcmp(history_line(e, 1), e->line) == 0))
        return;
    memcpy(history_line(e, 0), e->line, e->length + 1);
    e->history_count++;
}

bool line_editor_input(struct line_editor *e, char byte)
{
    char previous = e->previous;

    e->previous = byte;
    if (e->sequence != 0) {
        take_sequence(e, byte);
    } else if (byte == '\r' || (byte == '\n' && previous != '\r')) {
        finish(e);
        return true;
    } else if (byte == ESCAPE) {
        e->sequence = 1;
    } else if (byte >= ' ' && byte < DELETE) {
        insert(e, &byte, 1);
    } else {
        press(e, controls, byte);
    }
    return false;
}
