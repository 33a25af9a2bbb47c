// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Formatted text without a C library, and the sinks that it goes to. A sink is a device that shows text;
 * drivers register theirs, so nothing here knows one.
 */
#include <stdarg.h>

#include "lib/types.h"

/*
 * Formats like the C library's snprintf into `buffer` (caller's, `size` bytes, always terminated if size >
 * 0). Conversions: %d %i %u %x %X %c %s %p %%, with flags - 0 + # and space, width and precision (also *),
 * and the lengths hh h l ll z t j. Returns the length that the whole text has, without its terminator. Any
 * context.
 */
int format_text(char *buffer, size_t size, const char *format, ...) __printf_format(3, 4);
int format_text_va(char *buffer, size_t size, const char *format, va_list arguments);

/* A place where printed text appears. `write` may be called in any context, and must not print. */
struct print_sink {
    void (*write)(struct print_sink *sink, const char *text, size_t length);
    struct print_sink *next;
};

/* Adds `sink` (borrowed for ever). Start-up only. */
void print_sink_register(struct print_sink *sink);

/* From now on printed text goes to `sink` (borrowed) alone; NULL: to every registered sink again. Any
 * context. */
void print_divert(struct print_sink *sink);

/* Writes formatted text (at most 511 bytes a call; the rest is cut) to every sink. Any context. */
void print(const char *format, ...) __printf_format(1, 2);
void print_va(const char *format, va_list arguments);
