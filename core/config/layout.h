// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Where the boot files go in a partition's memory. The configuration check asks whether they fit, the loaders
 * where they go, and both get the same answer.
 *
 *   0x00001000  descriptor table
 *   0x00007000  Linux: boot_params
 *   0x00009000  Linux: page tables, 0x6000 bytes
 *   0x00010000  Multiboot: information, its tables and strings, up to 0x90000
 *   0x00020000  Linux: command line, up to 0x90000
 *   0x00100000  kernel segments, where the image wants them
 *
 * The other files are page-aligned: Linux's initrd as high as the kernel allows (so that its early memory
 * allocation does not meet it), Multiboot modules one after the other behind the kernel.
 */
#include "core/config/config.h"
#include "core/config/kernel.h"

#define LAYOUT_GDT               0x1000
#define LAYOUT_LINUX_PARAMS      0x7000
#define LAYOUT_LINUX_PAGE_TABLES 0x9000
#define LAYOUT_LINUX_CMDLINE     0x20000
#define LAYOUT_MULTIBOOT_INFO    0x10000
#define LAYOUT_LOW_END           0x90000

/* The most RAM that a partition has from address 0 in one piece; the rest of it begins at 4 GiB. */
#define LAYOUT_LOW_MEMORY_MAX    GIB(3)

/* How much of `memory` bytes lies from address 0. */
static inline uint64_t layout_low_memory(uint64_t memory)
{
    return min_u64(memory, LAYOUT_LOW_MEMORY_MAX);
}

struct layout {
    uint64_t files[CONFIG_MODULES_MAX]; /* guest-physical addresses of initrd or modules */
    uint64_t needed; /* bytes of low memory from which on everything fits, also on -ENOSPC */
};

/*
 * Places `count` (at most CONFIG_MODULES_MAX; 1 for Linux) files of `sizes` bytes beside `image` in a
 * partition that has `low_memory` bytes of RAM from address 0. 0; -ENOSPC: more memory is needed,
 * layout->needed bytes; -E2BIG: no memory is enough. Any context.
 */
int layout_plan(struct layout *layout, const struct kernel_image *image, uint64_t low_memory,
                const uint64_t *sizes, unsigned count) __must_check;
