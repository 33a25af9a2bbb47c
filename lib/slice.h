// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A piece of text that belongs to somebody else: not terminated, not copied. Configuration values and module
 * names are slices of the modules that the boot loader left in memory.
 */
#include "lib/string.h"
#include "lib/types.h"

struct slice {
    const char *start;
    size_t length;
};

#define SLICE(literal)     ((struct slice){(literal), sizeof(literal) - 1})

/* For printf's %.*s. */
#define SLICE_ARGUMENTS(s) (int)(s).length, (s).start

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.length == b.length && memcmp(a.start, b.start, a.length) == 0;
}

static inline bool slice_is(struct slice a, const char *text)
{
    return slice_equal(a, slice_of(text));
}
