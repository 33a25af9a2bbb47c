// SPDX-License-Identifier: BSD-2-Clause
#include "lib/printf.h"

#include "lib/string.h"

struct output {
    char *buffer;
    size_t size;
    size_t length; /* of the whole text, also of what did not fit */
};

struct conversion {
    bool left;
    bool zero;
    bool plus;
    bool space;
    bool alternative;
    int width;
    int precision; /* -1: not given */
};

static void put(struct output *o, char c)
{
    if (o->length + 1 < o->size)
        o->buffer[o->length] = c;
    o->length++;
}

static void put_repeated(struct output *o, char c, int count)
{
    while (count-- > 0)
        put(o, c);
}

static void put_text(struct output *o, const struct conversion *c, const char *text)
{
    if (text == NULL)
        text = "(null)";

    size_t length = c->precision >= 0 ? strnlen(text, (size_t)c->precision) : strlen(text);
    int padding = c->width - (int)length;

    if (!c->left)
        put_repeated(o, ' ', padding);
    for (size_t i = 0; i < length; i++)
        put(o, text[i]);
    if (c->left)
        put_repeated(o, ' ', padding);
}

static void put_number(struct output *o, const struct conversion *c, uint64_t value, unsigned base,
                       bool upper, const char *prefix)
{
    char digits[24];
    int count = 0;

    while (value != 0) {
        // cppcheck-suppress zerodivcond ; base is 10 or 16
        unsigned digit = (unsigned)(value % base);
        digits[count++] = (char)(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10);
        value /= base;
    }

    int least = c->precision >= 0 ? c->precision : 1;
    int zeros = least > count ? least - count : 0;
    int padding = c->width - count - zeros - (int)strlen(prefix);
    if (c->zero && !c->left && c->precision < 0 && padding > 0) {
        zeros += padding;
        padding = 0;
    }

    if (!c->left)
        put_repeated(o, ' ', padding);
    for (; *prefix != '\0'; prefix++)
        put(o, *prefix);
    put_repeated(o, '0', zeros);
    while (count > 0)
        put(o, digits[--count]);
    if (c->left)
        put_repeated(o, ' ', padding);
}

/* The length modifiers, folded to the size of the argument in bytes. */
static const char *parse_length(const char *format, size_t *size)
{
    *size = sizeof(int);
    if (format[0] == 'h') {
        *size = format[1] == 'h' ? sizeof(char) : sizeof(short);
        return format + (format[1] == 'h' ? 2 : 1);
    }
    if (format[0] == 'l') {
        *size = sizeof(long);
        return format + (format[1] == 'l' ? 2 : 1);
    }
    if (format[0] == 'z' || format[0] == 't' || format[0] == 'j') {
        *size = sizeof(long);
        return format + 1;
    }
    return format;
}

static const char *parse_flags(const char *format, struct conversion *c)
{
    for (;; format++) {
        switch (*format) {
        case '-':
            c->left = true;
            break;
        case '0':
            c->zero = true;
            break;
        case '+':
            c->plus = true;
            break;
        case ' ':
            c->space = true;
            break;
        case '#':
            c->alternative = true;
            break;
        default:
            return format;
        }
    }
}

static const char *parse_decimal(const char *format, int *value)
{
    *value = 0;
    while (*format >= '0' && *format <= '9')
        *value = *value * 10 + (*format++ - '0');
    return format;
}

static int64_t signed_argument(va_list *arguments, size_t size)
{
    int64_t value = size == sizeof(long) ? va_arg(*arguments, long) : va_arg(*arguments, int);

    if (size == sizeof(char))
        return (signed char)value;
    return size == sizeof(short) ? (short)value : value;
}

static uint64_t unsigned_argument(va_list *arguments, size_t size)
{
    uint64_t value = size == sizeof(long) ? va_arg(*arguments, unsigned long) : va_arg(*arguments, unsigned);

    if (size == sizeof(char))
        return (unsigned char)value;
    return size == sizeof(short) ? (unsigned short)value : value;
}

static void convert(struct output *o, struct conversion *c, char kind, size_t size, va_list *arguments)
{
    uint64_t value;
    char single[2] = {0, 0};

    switch (kind) {
    case 'd':
    case 'i': {
        int64_t number = signed_argument(arguments, size);
        const char *sign = number < 0 ? "-" : c->plus ? "+" : c->space ? " " : "";
        put_number(o, c, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 10, false, sign);
        break;
    }
    case 'u':
        put_number(o, c, unsigned_argument(arguments, size), 10, false, "");
        break;
    case 'x':
    case 'X':
        value = unsigned_argument(arguments, size);
        put_number(o, c, value, 16, kind == 'X',
                   c->alternative && value != 0 ? (kind == 'X' ? "0X" : "0x") : "");
        break;
    case 'p':
        put_number(o, c, (uintptr_t)va_arg(*arguments, void *), 16, false, "0x");
        break;
    case 'c':
        single[0] = (char)va_arg(*arguments, int);
        if (single[0] == '\0') {
            put(o, '\0');
            break;
        }
        put_text(o, c, single);
        break;
    case 's':
        put_text(o, c, va_arg(*arguments, const char *));
        break;
    default:
        put(o, kind);
        break;
    }
}

int format_text_va(char *buffer, size_t size, const char *format, va_list arguments)
{
    struct output o = {.buffer = buffer, .size = size};
    va_list list;

    va_copy(list, arguments);
    while (*format != '\0') {
        if (*format != '%') {
            put(&o, *format++);
            continue;
        }
        struct conversion c = {.precision = -1};
        format = parse_flags(format + 1, &c);
        if (*format == '*') {
            c.width = va_arg(list, int);
            format++;
        } else {
            format = parse_decimal(format, &c.width);
        }
        if (c.width < 0) {
            c.left = true;
            c.width = -c.width;
        }
        if (*format == '.') {
            format++;
            if (*format == '*') {
                c.precision = va_arg(list, int);
                format++;
            } else {
                format = parse_decimal(format, &c.precision);
            }
        }
        size_t argument_size;
        format = parse_length(format, &argument_size);
        if (*format == '\0')
            break;
        convert(&o, &c, *format++, argument_size, &list);
    }
    va_end(list);
    if (size > 0)
        buffer[o.length < size ? o.length : size - 1] = '\0';
    return (int)o.length;
}

int format_text(char *buffer, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = format_text_va(buffer, size, format, arguments);
    va_end(arguments);
    return length;
}

static struct print_sink *sinks;
static struct print_sink *diversion;

void print_sink_register(struct print_sink *sink)
{
    sink->next = sinks;
    sinks = sink;
}

void print_divert(struct print_sink *sink)
{
    diversion = sink;
}

void print_va(const char *format, va_list arguments)
{
    char text[512];
    size_t length = (size_t)format_text_va(text, sizeof(text), format, arguments);

    if (length >= sizeof(text))
        length = sizeof(text) - 1;
    if (diversion != NULL) {
        diversion->write(diversion, text, length);
        return;
    }
    for (struct print_sink *sink = sinks; sink != NULL; sink = sink->next)
        sink->write(sink, text, length);
}

void print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
}
