// SPDX-License-Identifier: BSD-2-Clause
#include "core/monitor_inspect.h"

#include "lib/printf.h"
#include "lib/string.h"

/* ---- Memory ---------------------------------------------------------------------------------- */

void monitor_memory_line(const struct monitor_memory *memory, uint64_t address, size_t count, char *line,
                         size_t size)
{
    uint8_t bytes[MONITOR_DUMP_BYTES];
    bool there[MONITOR_DUMP_BYTES];
    char text[MONITOR_DUMP_BYTES + 1];
    size_t length = (size_t)format_text(line, size, "%016lx ", address);

    /* Where a line holds the end of some memory, its bytes are asked for one by one. */
    count = min_u64(count, MONITOR_DUMP_BYTES);
    bool whole = memory->read(memory->context, address, bytes, count);
    for (size_t i = 0; i < count; i++)
        there[i] = whole || memory->read(memory->context, address + i, &bytes[i], 1);

    for (size_t i = 0; i < MONITOR_DUMP_BYTES && length < size; i++) {
        const char *gap = i == MONITOR_DUMP_BYTES / 2 ? "  " : " ";
        if (i >= count)
            length += (size_t)format_text(line + length, size - length, "%s  ", gap);
        else if (there[i])
            length += (size_t)format_text(line + length, size - length, "%s%02x", gap, bytes[i]);
        else
            length += (size_t)format_text(line + length, size - length, "%s??", gap);
    }
    for (size_t i = 0; i < count; i++)
        text[i] = (char)(there[i] && bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '.');
    text[count] = '\0';
    if (length < size)
        format_text(line + length, size - length, "  |%s|", text);
}

/* ---- Back-trace ------------------------------------------------------------------------------ */

void monitor_backtrace_begin(struct monitor_backtrace *b, const struct monitor_frame *frame)
{
    *b = (struct monitor_backtrace){.frame = *frame};
}

static bool tell_end(struct monitor_backtrace *b, char *line, size_t size, const char *why)
{
    b->ended = true;
    format_text(line, size, "end: frame %016lx %s", b->frame.rbp, why);
    return true;
}

bool monitor_backtrace_line(struct monitor_backtrace *b, const struct monitor_memory *memory, char *line,
                            size_t size)
{
    struct monitor_frame *frame = &b->frame;
    /* Outside 64-bit mode linear addresses have 32 bits. */
    uint64_t linear = frame->width == 8 ? UINT64_MAX : UINT32_MAX;
    uint64_t pointer = frame->width == 8 ? UINT64_MAX : BIT(frame->width * 8U) - 1;
    uint8_t bytes[2 * sizeof(uint64_t)];
    uint64_t caller = 0, address = 0;

    if (b->ended)
        return false;
    if (b->count == 0) {
        frame->rbp &= pointer;
        format_text(line, size, "#%-2u %016lx", b->count++, frame->rip);
        return true;
    }
    if (b->count == MONITOR_BACKTRACE_MAX)
        return tell_end(b, line, size, "is not looked at: that is enough");
    if (frame->rbp == 0)
        return tell_end(b, line, size, "ends the chain");
    /* A stack grows down, so callers' frames lie higher. */
    if (b->count > 1 && frame->rbp <= b->last)
        return tell_end(b, line, size, "is not above the one before");
    if (frame->rbp % frame->width != 0)
        return tell_end(b, line, size, "is misaligned");
    if (!memory->read(memory->context, (frame->stack_base + frame->rbp) & linear, bytes, frame->width * 2U))
        return tell_end(b, line, size, "is unreadable");

    memcpy(&caller, bytes, frame->width);
    memcpy(&address, bytes + frame->width, frame->width);
    format_text(line, size, "#%-2u %016lx  frame %016lx", b->count++, (frame->code_base + address) & linear,
                frame->rbp);
    b->last = frame->rbp;
    frame->rbp = caller;
    return true;
}
