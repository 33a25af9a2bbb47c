// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The form of a configuration text: lines, and in each a section header or a key and its value. What they
 * mean is the parser's business. Grammar: config.h, config_parse.
 */
#include "core/config/config.h"

/* A piece of the text and where it stands. */
struct config_token {
    struct slice text;
    struct config_place place;
};

enum config_line_kind {
    CONFIG_LINE_BLANK,   /* nothing, or a comment */
    CONFIG_LINE_SECTION, /* name: the first word in the brackets; value: the rest */
    CONFIG_LINE_SETTING, /* name: the key; value: what follows '=' */
    CONFIG_LINE_BROKEN,  /* neither */
};

/* What is wrong with the form of a line. */
enum config_fault {
    CONFIG_FAULT_NONE,
    CONFIG_FAULT_BYTE,        /* neither printable ASCII nor a tab; the token that it is in is empty */
    CONFIG_FAULT_NO_EQUALS,   /* broken */
    CONFIG_FAULT_NO_KEY,      /* broken */
    CONFIG_FAULT_OPEN_HEADER, /* "]" is missing; the rest is as if it were there */
    CONFIG_FAULT_AFTER_HEADER,
    CONFIG_FAULT_OPEN_QUOTE, /* the closing quote is missing; the value is empty */
    CONFIG_FAULT_AFTER_QUOTE,
};

struct config_line {
    enum config_line_kind kind;
    struct config_token name;
    struct config_token value; /* without quotes; if empty, the place is where it would stand */
    bool quoted;
    enum config_fault fault;
    struct config_place fault_place;
    uint8_t fault_byte; /* for CONFIG_FAULT_BYTE */
};

struct config_lexer {
    struct slice rest; /* what has not been read */
    unsigned line;     /* lines read */
};

/* Begins at the start of `text`, behind a byte-order mark. */
void config_lexer_start(struct config_lexer *lexer, struct slice text);

/* Reads the next line; false at the end of the text. */
bool config_lexer_next(struct config_lexer *lexer, struct config_line *line);
