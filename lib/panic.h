// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The end, for Umbra's own broken invariants only: a guest's mistake never comes here.
 */
#include "lib/types.h"

/* Something to be done once when Umbra panics: turn consoles synchronous, show state. No lock may be taken:
 * the other processors were stopped wherever they were. */
struct panic_hook {
    void (*run)(struct panic_hook *hook);
    struct panic_hook *next;
};

/*
 * Run before the last line is printed, the newest first: a console that came up late takes the output over
 * before anything is shown. Start-up only.
 */
void panic_hook_register(struct panic_hook *hook);

/* What panic has to know of processors. */
struct panic_processors {
    uint64_t (*self)(void);        /* not 0; another one on every processor */
    void (*stop_others)(void);     /* for good */
    __noreturn void (*stop)(void); /* the one that calls it */
};

/* Kept for ever. Without it there is one processor, which traps for ever. Start-up only. */
void panic_processors_register(const struct panic_processors *processors);

/*
 * Stops the other processors, runs the hooks, prints where and why, `umbra: panic MESSAGE` as the last line,
 * and stops. Of processors that panic at the same time only the first prints. Any context.
 */
#define panic(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)
__noreturn void panic_at(const char *file, int line, const char *format, ...) __printf_format(3, 4);

/* An invariant of Umbra itself. */
#define invariant(condition)                                                                                 \
    do {                                                                                                     \
        if (unlikely(!(condition)))                                                                          \
            panic("broken invariant: %s", #condition);                                                       \
    } while (0)
