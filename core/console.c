// SPDX-License-Identifier: BSD-2-Clause
#include "core/console.h"

#include "lib/errors.h"

#define INTERRUPT '\x03' /* ^C */

/* ---- Print's sink, and the end --------------------------------------------------------------- */

static void log_text(struct print_sink *sink, const char *text, size_t length)
{
    struct console *console = container_of(sink, struct console, sink);

    for (size_t i = 0; i < length; i++)
        ring_put(&console->log, text[i]);
}

static void on_panic(struct panic_hook *hook)
{
    (void)hook;
    print_divert(NULL);
}

void console_start(struct console *console)
{
    console->panic_hook.run = on_panic;
    panic_hook_register(&console->panic_hook);
    print_divert(&console->sink);
}

/* ---- Channels -------------------------------------------------------------------------------- */

static void open_channel(struct console_channel *channel, struct slice name, char *buffer, size_t size)
{
    channel->present = true;
    format_text(channel->name, sizeof(channel->name), "%.*s", SLICE_ARGUMENTS(name));
    ring_init(&channel->output, buffer, size);
    ring_init(&channel->input, channel->input_buffer, sizeof(channel->input_buffer));
}

void console_init(struct console *console, const struct console_ops *ops, void *context, char escape,
                  char *monitor_buffer, size_t monitor_size, char *log_buffer, size_t log_size)
{
    memset(console, 0, sizeof(*console));
    console->ops = ops;
    console->context = context;
    console->escape = escape;
    console->focus = CONSOLE_MONITOR;
    ring_init(&console->notice, console->notice_buffer, sizeof(console->notice_buffer));
    ring_init(&console->log, log_buffer, log_size);
    open_channel(&console->channels[CONSOLE_MONITOR], SLICE("monitor"), monitor_buffer, monitor_size);
    console->sink.write = log_text;
    print_sink_register(&console->sink);
}

void console_add_partition(struct console *console, unsigned partition, struct slice name, char *buffer)
{
    struct console_channel *channel = &console->channels[partition + 1];

    memset(channel, 0, sizeof(*channel));
    open_channel(channel, name, buffer, CONSOLE_RING_SIZE);
}

void console_remove_partition(struct console *console, unsigned partition)
{
    unsigned channel = partition + 1;

    console->channels[channel].present = false;
    console->input_waiting &= ~(1u << channel);
    if (console->focus == channel)
        console_focus(console, CONSOLE_MONITOR);
}

static bool is_present(const struct console *console, unsigned channel)
{
    return channel < CONSOLE_CHANNELS && console->channels[channel].present;
}

bool console_put(struct console *console, unsigned channel, char byte)
{
    if (!is_present(console, channel))
        return false;

    struct console_channel *c = &console->channels[channel];
    spinlock_acquire(&c->lock);
    bool first = ring_used(&c->output) == 0;
    ring_put(&c->output, byte);
    spinlock_release(&c->lock);
    return first && __atomic_load_n(&console->focus, __ATOMIC_RELAXED) == channel;
}

/* How much output of the channel waits, and how much has been dropped. */
static size_t output_waiting(struct console_channel *c, uint64_t *dropped)
{
    spinlock_acquire(&c->lock);
    size_t used = ring_used(&c->output);
    *dropped = c->output.dropped;
    spinlock_release(&c->lock);
    return used;
}

size_t console_monitor_room(struct console *console)
{
    struct console_channel *c = &console->channels[CONSOLE_MONITOR];
    uint64_t dropped;

    return c->output.size - output_waiting(c, &dropped);
}

bool console_has_work(struct console *console)
{
    uint64_t dropped;

    return ring_used(&console->notice) != 0 ||
           output_waiting(&console->channels[console->focus], &dropped) != 0;
}

/* ---- What the multiplexer itself says -------------------------------------------------------- */

static void put_notice(struct console *console, const char *text)
{
    while (*text != '\0')
        ring_put(&console->notice, *text++);
}

static __printf_format(2, 3) void notify(struct console *console, const char *format, ...)
{
    char text[128];
    va_list arguments;

    va_start(arguments, format);
    format_text_va(text, sizeof(text), format, arguments);
    va_end(arguments);
    put_notice(console, "\r\n[");
    put_notice(console, text);
    put_notice(console, "]\r\n");
}

int console_focus(struct console *console, unsigned channel)
{
    if (!is_present(console, channel))
        return -ENOENT;

    struct console_channel *c = &console->channels[channel];
    uint64_t dropped;
    output_waiting(c, &dropped);
    uint64_t lost = dropped - c->dropped_told;
    __atomic_store_n(&console->focus, channel, __ATOMIC_RELAXED);
    c->dropped_told = dropped;
    c->lost_told = false;
    if (lost == 0)
        notify(console, "%s", c->name);
    else
        notify(console, "%s, %lu bytes lost", c->name, lost);
    if (channel == CONSOLE_MONITOR)
        console->ops->monitor_focused(console->context);
    return 0;
}

/* ---- Input ----------------------------------------------------------------------------------- */

/* Offers a byte to the receiver. False if it has to wait. That nobody takes what is typed is said once. */
static bool hand_over(struct console *console, unsigned channel, char byte)
{
    struct console_channel *c = &console->channels[channel];

    switch (console->ops->input(console->context, channel, byte)) {
    case CONSOLE_LATER:
        return false;
    case CONSOLE_LOST:
        if (!c->lost_told)
            notify(console, "%s does not run: what is typed is lost", c->name);
        c->lost_told = true;
        return true;
    default:
        c->lost_told = false;
        return true;
    }
}

/* The receiver may be full: then the byte waits in the channel's ring, behind those that wait already. */
static void deliver(struct console *console, unsigned channel, char byte)
{
    struct console_channel *c = &console->channels[channel];

    /* What interrupts the monitor does not wait: it takes what was typed before it along. */
    if (channel == CONSOLE_MONITOR && byte == INTERRUPT)
        ring_init(&c->input, c->input_buffer, sizeof(c->input_buffer));
    if (ring_used(&c->input) == 0 && hand_over(console, channel, byte))
        return;
    if (ring_used(&c->input) == c->input.size) {
        c->input_refused++;
        put_notice(console, "\a");
        return;
    }
    ring_put(&c->input, byte);
    console->input_waiting |= 1u << channel;
}

/* The name of a key: itself, or ^ and the letter of a control character. */
static const char *key_name(char byte, char *name)
{
    unsigned char code = (unsigned char)byte;
    bool control = code < ' ' || code == 0x7f;

    name[0] = control ? '^' : byte;
    name[1] = control ? (char)(code ^ 0x40) : '\0';
    name[2] = '\0';
    return code > 0x7f ? "that" : name;
}

/* The partition with a console that comes after the one in focus (`step` 1) or before it (-1), round and
 * round. */
static void focus_neighbour(struct console *console, int step)
{
    unsigned channel = console->focus;

    for (unsigned i = 0; i < CONSOLE_CHANNELS; i++) {
        channel = (channel + CONSOLE_CHANNELS + (unsigned)step) % CONSOLE_CHANNELS;
        if (channel != CONSOLE_MONITOR && console_focus(console, channel) == 0)
            return;
    }
    notify(console, "no partition has a console");
}

/* The key after the escape key. */
static void command(struct console *console, char byte)
{
    char key[3], escape[3];

    key_name(console->escape, escape);
    if (byte == console->escape)
        deliver(console, console->focus, byte);
    else if (byte == 'c')
        console_focus(console, CONSOLE_MONITOR);
    else if (byte == 'n' || byte == 'p')
        focus_neighbour(console, byte == 'n' ? 1 : -1);
    else if (byte == '?')
        notify(console, "%s then c: monitor, 1-9: partition, n/p: next/previous, %s: send %s, ?: this",
               escape, escape, escape);
    else if (byte < '1' || byte > '9')
        notify(console, "%s %s means nothing; %s ? helps", escape, key_name(byte, key), escape);
    else if (console_focus(console, (unsigned)(byte - '0')) != 0)
        notify(console, "partition %c has no console", byte);
}

static void take(struct console *console, char byte)
{
    if (console->escape_typed) {
        console->escape_typed = false;
        command(console, byte);
    } else if (byte == console->escape) {
        console->escape_typed = true;
    } else {
        deliver(console, console->focus, byte);
    }
}

/* Offers waiting bytes of `channel` again, at most `most`. */
static void offer(struct console *console, unsigned channel, unsigned most)
{
    struct ring *input = &console->channels[channel].input;
    char byte;

    while (most-- > 0 && ring_peek(input, &byte) && hand_over(console, channel, byte))
        ring_get(input, &byte);
    if (ring_used(input) == 0)
        console->input_waiting &= ~(1u << channel);
}

/* ---- The step -------------------------------------------------------------------------------- */

/*
 * Moves bytes of `ring` to the terminal, at most `most`. Returns how many. `lock` (NULL: none) is held only
 * while they are copied.
 */
static size_t show(struct console *console, struct ring *ring, struct spinlock *lock, size_t most)
{
    char bytes[CONSOLE_STEP_OUTPUT];
    size_t count = 0;

    if (lock != NULL)
        spinlock_acquire(lock);
    while (count < most && count < sizeof(bytes) && ring_get(ring, &bytes[count]))
        count++;
    if (lock != NULL)
        spinlock_release(lock);
    if (count > 0)
        console->ops->write(console->context, bytes, count);
    return count;
}

void console_step(struct console *console)
{
    char byte;

    for (uint32_t waiting = console->input_waiting; waiting != 0; waiting &= waiting - 1)
        offer(console, (unsigned)__builtin_ctz(waiting), CONSOLE_STEP_INPUT);
    for (unsigned i = 0; i < CONSOLE_STEP_INPUT && console->ops->read(console->context, &byte); i++)
        take(console, byte);

    if (!console_has_work(console))
        return;
    struct console_channel *focus = &console->channels[console->focus];
    size_t room = min_u64(console->ops->room(console->context), CONSOLE_STEP_OUTPUT);
    room -= show(console, &console->notice, NULL, room);
    show(console, &focus->output, &focus->lock, room);
}

void console_stop(struct console *console)
{
    while (show(console, &console->notice, NULL, SIZE_MAX) > 0)
        continue;
    while (show(console, &console->channels[console->focus].output, NULL, SIZE_MAX) > 0)
        continue;
    print_divert(NULL);
}

/* ---- The log --------------------------------------------------------------------------------- */

static char log_byte(const struct console *console, uint64_t position)
{
    return console->log.buffer[position & (console->log.size - 1)];
}

/* The position of the first newline from `position` on, or the log's end. */
static uint64_t find_newline(const struct console *console, uint64_t position)
{
    while (position < console->log.tail && log_byte(console, position) != '\n')
        position++;
    return position;
}

bool console_log_line(const struct console *console, uint64_t *position, char *line, size_t size)
{
    uint64_t start = *position;
    size_t length = 0;

    /* Of the line whose beginning has been overwritten the rest is passed over. */
    if (start < console->log.head)
        start = find_newline(console, console->log.head) + 1;
    uint64_t end = find_newline(console, start);
    if (end >= console->log.tail)
        return false;

    for (uint64_t at = start; at < end && length + 1 < size; at++)
        line[length++] = log_byte(console, at);
    line[length] = '\0';
    *position = end + 1;
    return true;
}
