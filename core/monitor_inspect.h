// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A look into a guest: lines of its memory, and the chain of its stack frames. Pure; memory is read through a
 * callback.
 */
#include "lib/types.h"

#define MONITOR_DUMP_BYTES    16 /* of memory on a line */
#define MONITOR_BACKTRACE_MAX 32 /* instruction pointers */

/* How guest memory is read: false unless all `size` bytes at `address` are there. */
struct monitor_memory {
    bool (*read)(void *context, uint64_t address, void *bytes, size_t size);
    void *context;
};

/*
 * One line of a hex dump: address, at most MONITOR_DUMP_BYTES bytes, the same as text; `??` where no memory
 * is. `count` bytes from `address` on.
 */
void monitor_memory_line(const struct monitor_memory *memory, uint64_t address, size_t count, char *line,
                         size_t size);

/* Where a processor stands. */
struct monitor_frame {
    uint64_t rip; /* linear, the code segment's base included */
    uint64_t rbp;
    uint64_t code_base, stack_base; /* of the segments; 0 in 64-bit mode */
    uint8_t width;                  /* bytes of a stack slot: 2, 4 or 8 */
};

struct monitor_backtrace {
    struct monitor_frame frame; /* rbp: the next to be looked at */
    uint64_t last;              /* the frame before */
    unsigned count;             /* lines told */
    bool ended;
};

/* Begins at `frame`. */
void monitor_backtrace_begin(struct monitor_backtrace *backtrace, const struct monitor_frame *frame);

/*
 * The next line: first the instruction pointer, then return addresses, innermost first, then why there are no
 * more. False after that. A frame is the caller's frame pointer and, above it, the return address.
 */
bool monitor_backtrace_line(struct monitor_backtrace *backtrace, const struct monitor_memory *memory,
                            char *line, size_t size);
