// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The values that a configuration is written in: numbers, sizes, words of a list. Pure; any context.
 */
#include "lib/slice.h"
#include "lib/types.h"

/*
 * The words of `boot`, by enum config_boot, of `on-stop`, by enum config_on_stop, and of `paging`, by enum
 * config_paging; each ends with NULL.
 */
extern const char *const config_boot_words[];
extern const char *const config_paging_words[];
extern const char *const config_yes_words[];
extern const char *const config_on_stop_words[];

/* A decimal number, or a hexadecimal one after 0x. 0; -EINVAL: it is none; -ERANGE: it takes more than 64
 * bits. */
int config_number(struct slice text, uint64_t *value) __must_check;

/* Bytes: a number and, optionally, K, M or G (1024, 1024^2, 1024^3). Errors as config_number. */
int config_size(struct slice text, uint64_t *bytes) __must_check;

/* The index of `text` in the NULL-ended `words`, or -1. */
int config_choice(struct slice text, const char *const *words);

#define CONFIG_SIZE_TEXT 32

/* Writes `bytes` into `text` as config_size would read it, in the largest unit that divides it. Returns
 * `text`. */
const char *config_size_text(char text[CONFIG_SIZE_TEXT], uint64_t bytes);

/* A line of text in the making. What does not fit is cut; it is terminated always. */
struct config_text {
    char *buffer;
    size_t size;
    size_t used;
};

/* Appends formatted text. */
void config_text_add(struct config_text *text, const char *format, ...) __printf_format(2, 3);

static inline bool config_is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* Takes the first word off *rest, and the blanks around it; empty if there is none. */
struct slice config_take_word(struct slice *rest);
