// SPDX-License-Identifier: BSD-2-Clause
#include "lib/panic.h"

#include "lib/printf.h"

static struct panic_hook *hooks;
static const struct panic_processors *processors;
static uint64_t owner; /* the processor that panicked first; 0: none yet */

void panic_hook_register(struct panic_hook *hook)
{
    hook->next = hooks;
    hooks = hook;
}

void panic_processors_register(const struct panic_processors *given)
{
    processors = given;
}

static __noreturn void stop(void)
{
    if (processors != NULL)
        processors->stop();
    for (;;)
        __builtin_trap();
}

/* Once, by the first processor that comes here; a panic in the middle of it goes on to print. */
static void begin(void)
{
    uint64_t self = processors != NULL ? processors->self() : 1;
    uint64_t first = 0;

    if (!__atomic_compare_exchange_n(&owner, &first, self, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        if (first != self)
            stop();
        return;
    }
    if (processors != NULL)
        processors->stop_others();
    for (struct panic_hook *hook = hooks; hook != NULL;) {
        struct panic_hook *next = hook->next;
        hook->run(hook);
        hook = next;
    }
}

void panic_at(const char *file, int line, const char *format, ...)
{
    char message[256];
    va_list arguments;

    begin();
    va_start(arguments, format);
    format_text_va(message, sizeof(message), format, arguments);
    va_end(arguments);
    print("\n%s:%d: %s\n", file, line, message);
    print("umbra: panic %s\n", message);
    stop();
}
