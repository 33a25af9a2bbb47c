// SPDX-License-Identifier: BSD-2-Clause
#include "lib/panic.h"

#include "lib/printf.h"

static struct panic_hook *show_hooks;
static struct panic_hook *stop_hooks;
static bool panicking;

static void prepend(struct panic_hook **list, struct panic_hook *hook)
{
    hook->next = *list;
    *list = hook;
}

void panic_hook_register(struct panic_hook *hook)
{
    prepend(&show_hooks, hook);
}

void panic_stop_register(struct panic_hook *hook)
{
    prepend(&stop_hooks, hook);
}

static void run(struct panic_hook *hook)
{
    while (hook != NULL) {
        struct panic_hook *next = hook->next;
        hook->run(hook);
        hook = next;
    }
}

void panic_at(const char *file, int line, const char *format, ...)
{
    char message[256];
    va_list arguments;

    va_start(arguments, format);
    format_text_va(message, sizeof(message), format, arguments);
    va_end(arguments);

    if (!panicking) {
        panicking = true;
        run(show_hooks);
    }
    print("\n%s:%d: %s\n", file, line, message);
    print("umbra: panic %s\n", message);
    run(stop_hooks);
    for (;;)
        __builtin_trap();
}
