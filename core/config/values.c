// SPDX-License-Identifier: BSD-2-Clause
#include "core/config/values.h"

#include "core/config/config.h"
#include "lib/errors.h"
#include "lib/printf.h"

const char *const config_boot_words[] = {
    [CONFIG_BOOT_LINUX] = "linux",
    [CONFIG_BOOT_MULTIBOOT] = "multiboot",
    [CONFIG_BOOT_MULTIBOOT2] = "multiboot2",
    [CONFIG_BOOT_ELF] = "elf",
    [CONFIG_BOOT_ELF + 1] = NULL,
};

const char *const config_paging_words[] = {
    [CONFIG_PAGING_AUTO] = "auto",        [CONFIG_PAGING_EPT] = "ept",
    [CONFIG_PAGING_VTLB] = "vtlb",        [CONFIG_PAGING_VTLB_BASE] = "vtlb base",
    [CONFIG_PAGING_VTLB_BASE + 1] = NULL,
};

const char *const config_yes_words[] = {"no", "yes", NULL};

const char *const config_on_stop_words[] = {
    [CONFIG_ON_STOP_STAY] = "stay",
    [CONFIG_ON_STOP_RESTART] = "restart",
    [CONFIG_ON_STOP_POWEROFF] = "poweroff",
    [CONFIG_ON_STOP_POWEROFF + 1] = NULL,
};

static const struct {
    char letter;
    uint64_t bytes;
} units[] = {{'G', GIB(1)}, {'M', MIB(1)}, {'K', KIB(1)}};

static char lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

/* The value of a digit, or 16 and more. */
static unsigned digit_value(char byte)
{
    byte = lower(byte);
    if (byte >= '0' && byte <= '9')
        return (unsigned)(byte - '0');
    if (byte >= 'a' && byte <= 'f')
        return (unsigned)(byte - 'a') + 10;
    return 16;
}

int config_number(struct slice text, uint64_t *value)
{
    unsigned base = 10;
    size_t i = 0;
    bool large = false;

    if (text.length >= 2 && text.start[0] == '0' && lower(text.start[1]) == 'x') {
        base = 16;
        i = 2;
    }
    if (i == text.length)
        return -EINVAL;
    *value = 0;
    /* To the last digit even when it has become too large: text that is no number is the worse mistake. */
    for (; i < text.length; i++) {
        unsigned digit = digit_value(text.start[i]);

        if (digit >= base)
            return -EINVAL;
        large |= __builtin_mul_overflow(*value, base, value);
        large |= __builtin_add_overflow(*value, digit, value);
    }
    return large ? -ERANGE : 0;
}

int config_size(struct slice text, uint64_t *bytes)
{
    uint64_t unit = 1;
    int error;

    for (size_t i = 0; text.length && i < ARRAY_SIZE(units); i++) {
        if (lower(text.start[text.length - 1]) == lower(units[i].letter)) {
            unit = units[i].bytes;
            text.length--;
            break;
        }
    }
    error = config_number(text, bytes);
    if (error)
        return error;
    return __builtin_mul_overflow(*bytes, unit, bytes) ? -ERANGE : 0;
}

int config_choice(struct slice text, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (slice_is(text, words[i]))
            return i;
    return -1;
}

const char *config_size_text(char text[CONFIG_SIZE_TEXT], uint64_t bytes)
{
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (bytes >= units[i].bytes && bytes % units[i].bytes == 0) {
            format_text(text, CONFIG_SIZE_TEXT, "%llu%c", (unsigned long long)(bytes / units[i].bytes),
                        units[i].letter);
            return text;
        }
    }
    format_text(text, CONFIG_SIZE_TEXT, "%llu", (unsigned long long)bytes);
    return text;
}

void config_text_add(struct config_text *text, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = format_text_va(text->buffer + text->used, text->size - text->used, format, arguments);
    va_end(arguments);
    text->used = min_u64(text->used + (size_t)length, text->size - 1);
}

struct slice config_take_word(struct slice *rest)
{
    size_t from = 0, to, next;
    struct slice word;

    while (from < rest->length && config_is_blank(rest->start[from]))
        from++;
    for (to = from; to < rest->length && !config_is_blank(rest->start[to]);)
        to++;
    for (next = to; next < rest->length && config_is_blank(rest->start[next]);)
        next++;
    word = (struct slice){rest->start + from, to - from};
    *rest = (struct slice){rest->start + next, rest->length - next};
    return word;
}
