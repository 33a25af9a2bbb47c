// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The inside of the parser: parse.c reads sections and lines, keys.c knows what each key means, live.c uses
 * the same knowledge for what changes while a partition lives.
 */
#include "core/config/config.h"
#include "core/config/lexer.h"
#include "core/config/report.h"

/* The most rows of a key table. */
#define CONFIG_KEYS_MAX  20

#define CONFIG_NAME_RULE "a letter, then letters, digits, - and _, at most %d in all"

struct config_parser;

/* A key and its rule. */
struct config_key {
    const char *name;
    /* Reads the value of key `name`, which is not empty unless `may_be_empty`. */
    void (*read)(struct config_parser *parser, struct slice name, struct config_token value);
    bool repeatable;
    bool required;
    bool may_be_empty; /* written "" */
    unsigned boots;    /* the kinds of kernel that it is for: bit n for enum config_boot's n */
};

/* The kinds of section. */
struct config_section {
    const char *title;             /* for messages */
    const struct config_key *keys; /* ends with a row without a name */
    bool policies;
};

struct config_parser {
    struct config *config;
    const struct config_policy_key *policies;
    struct config_report report;
    bool alone; /* the text is one partition's, for a free slot */

    const struct config_section *section; /* NULL: none yet, or an unknown one */
    bool outside;                         /* no section has begun */
    bool headed;                          /* `alone`: its header or its first key has been met */
    struct config_place umbra;            /* of the first [umbra]; line 0: none yet */
    struct config_partition *partition;   /* of the section; NULL in another */
    /* For a partition that has no slot (yet): `alone`, or beyond the table's end, checked all the same. */
    struct config_partition spare;

    /* Where the keys of this section stand; line 0: not met. */
    struct config_place keys[CONFIG_KEYS_MAX];
    struct config_place policy_keys[CONFIG_POLICIES_MAX];
    struct config_place module_keys[CONFIG_MODULES_MAX];
    struct config_place key;   /* of this line */
    struct config_place vcpus; /* of the value of `vcpus` */
};

#define config_error_at(parser, place, ...)                                                                  \
    config_report(&(parser)->report, (parser)->partition, place, __VA_ARGS__)
#define CONFIG_QUOTE(text) SLICE_ARGUMENTS(config_quotable(text))

/* The sections, and the keys that config_set knows (the same rules, on a partition that lives). */
extern const struct config_section config_umbra_section;
extern const struct config_section config_partition_section;
extern const struct config_key config_live_keys[];

/* The row of `name` in `keys`, which ends with a row without a name; NULL if there is none. */
const struct config_key *config_find_key(const struct config_key *keys, struct slice name);

/* The index of the value in `words`, or -1 after a message. */
int config_read_choice(struct config_parser *parser, struct slice name, struct config_token value,
                       const char *const *words);

/* What a partition is before its first key. */
void config_default_partition(struct config_partition *partition);

/* The place of `part`, which lies in `token`. */
struct config_place config_place_in(const struct config_token *token, struct slice part);

/* A name that can be typed as one word and is no number: CONFIG_NAME_RULE, of CONFIG_NAME_MAX. */
bool config_is_name(struct slice text);
