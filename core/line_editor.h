// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * One line of input on a VT100: editing, history, completion. Bytes go in one at a time; what the terminal
 * must show goes out through an op. Pure.
 *
 * Keys: left, right, home, end (also ^B ^F ^A ^E), backspace, delete (also ^D), ^U (to the start), ^K (to the
 * end), ^W (word), up, down (also ^P ^N), tab, ^C (drops the line), ^L (clears the screen), enter.
 */
#include "lib/types.h"

/* Prompt and shown line together stay on an 80-column row; of a longer line the part about the cursor is
 * shown. */
#define LINE_EDITOR_WIDTH       70
#define LINE_EDITOR_LENGTH_MAX  250
#define LINE_EDITOR_HISTORY_MAX 16 /* a power of two */

struct line_editor_ops {
    /* Shows bytes on the terminal. */
    void (*write)(void *context, const char *text, size_t length);
    /*
     * What the first `length` bytes of `line` go on with, as far as it is certain: at most `size` bytes into
     * `text`. Returns how many. May be NULL.
     */
    size_t (*complete)(void *context, const char *line, size_t length, char *text, size_t size);
};

struct line_editor {
    const struct line_editor_ops *ops;
    void *context;
    const char *prompt; /* borrowed */
    bool silent;        /* nothing is shown */
    char line[LINE_EDITOR_LENGTH_MAX + 1];
    size_t length;
    size_t cursor;
    size_t left; /* the first byte that is shown */
    char history[LINE_EDITOR_HISTORY_MAX][LINE_EDITOR_LENGTH_MAX + 1];
    unsigned history_count;                 /* lines ever kept */
    unsigned history_back;                  /* how many lines up the user is; 0: the line being typed */
    char typed[LINE_EDITOR_LENGTH_MAX + 1]; /* that line, while the user is up in the history */
    uint8_t sequence;  /* how far an escape sequence is: 1: ESC, 2: in its first parameter, 3: past that */
    uint8_t parameter; /* the first, as far as keys have them */
    char previous;     /* the byte before, so that \r\n ends one line, not two */
};

/* `prompt` (borrowed, at most 9 bytes) stands before each line. Shows nothing yet. */
void line_editor_init(struct line_editor *editor, const struct line_editor_ops *ops, void *context,
                      const char *prompt);

/* Another prompt for the lines to come; `silent`: keys do the same, but nothing is shown. Shows nothing yet.
 */
void line_editor_set(struct line_editor *editor, const char *prompt, bool silent);

/* Shows prompt and line, the cursor where it belongs: at the start of a line, and after other output. */
void line_editor_show(struct line_editor *editor);

/* Takes prompt and line off the terminal's row, so that other text can be written there; nothing is lost. */
void line_editor_hide(struct line_editor *editor);

/*
 * Takes one byte from the keyboard. True when it ended the line: editor->line is the text, terminated, valid
 * until line_editor_reset.
 */
bool line_editor_input(struct line_editor *editor, char byte);

/* Starts an empty line; the last one has gone into the history when it ended. */
void line_editor_reset(struct line_editor *editor);
