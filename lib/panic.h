// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The end, for Umbra's own broken invariants only: a guest's mistake never comes here.
 */
#include "lib/types.h"

/* Something to be done once when Umbra panics: turn consoles synchronous, show state, stop the processor. */
struct panic_hook {
    void (*run)(struct panic_hook *hook);
    struct panic_hook *next;
};

/*
 * Run before (show) or after (stop) the last line is printed, the newest first: a console that came up late
 * takes the output over before anything is shown. Start-up only.
 */
void panic_hook_register(struct panic_hook *hook);
void panic_stop_register(struct panic_hook *hook);

/* Prints where and why, runs the hooks, prints `umbra: panic MESSAGE` as the last line and stops. Any
 * context. */
#define panic(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)
__noreturn void panic_at(const char *file, int line, const char *format, ...) __printf_format(3, 4);

/* An invariant of Umbra itself. */
#define invariant(condition)                                                                                 \
    do {                                                                                                     \
        if (unlikely(!(condition)))                                                                          \
            panic("broken invariant: %s", #condition);                                                       \
    } while (0)
