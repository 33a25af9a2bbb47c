// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A partition's memory map, and where the boot files go in it. The configuration check asks whether they fit,
 * the loaders where they go, and both get the same answer.
 *
 *   0x00000000  real mode's interrupt vectors, all of which lead to 0xfff53
 *   0x00000400  BIOS data area, 0x100 bytes: where a PC's firmware leaves a few facts
 *   0x00001000  descriptor table
 *   0x00007000  Linux: boot_params
 *   0x00009000  Linux, 64-bit ELF: page tables, 0x6000 bytes
 *   0x00010000  Multiboot, ELF: information, its tables and strings, up to 0x90000
 *   0x00020000  Linux: command line, up to 0x90000
 *   0x000fff53  an IRET
 *   0x00100000  from here up and below 4 GiB, where there is RAM: kernel and files
 *
 * The kernel goes where it asks to be; one that can be moved goes where it likes best of the places that it
 * allows. The other files are page-aligned: Linux's initrd behind the kernel and as high as the kernel allows
 * (so that its early memory allocation does not meet it), modules one after the other behind the kernel or,
 * where they do not fit there, in the lowest place that is free.
 */
#include "core/config/config.h"
#include "core/config/kernel.h"

#define LAYOUT_VECTORS        0
#define LAYOUT_BIOS_DATA      0x400
#define LAYOUT_GDT            0x1000
#define LAYOUT_LINUX_PARAMS   0x7000
#define LAYOUT_PAGE_TABLES    0x9000
#define LAYOUT_LINUX_CMDLINE  0x20000
#define LAYOUT_MULTIBOOT_INFO 0x10000
#define LAYOUT_LOW_END        0x90000
#define LAYOUT_IRET           0xfff53

/* A partition's RAM in front of the video hole. */
#define LAYOUT_VIDEO_START    0xa0000

/* The most RAM that a partition has from address 0 in one piece; the rest of it begins at 4 GiB. */
#define LAYOUT_LOW_MEMORY_MAX GIB(3)

/* How much of `memory` bytes lies from address 0 (of a partition whose range is not fixed). */
static inline uint64_t layout_low_memory(uint64_t memory)
{
    return min_u64(memory, LAYOUT_LOW_MEMORY_MAX);
}

/* As in e820. */
enum layout_range_type {
    LAYOUT_RAM = 1,
    LAYOUT_RESERVED = 2,
};

/* One range of a partition's memory map. */
struct layout_range {
    uint64_t base;
    uint64_t size;
    uint32_t type;
};

#define LAYOUT_MAP_MAX 4

/*
 * The memory map of a partition, ascending, by its `memory`: RAM up to the video hole, what is reserved
 * behind it, and then RAM either from 1 MiB up to `memory` (with the rest at 4 GiB) or, of `memory = N at
 * BASE`, the N bytes at BASE, which is at least 1 MiB. Returns the number of ranges. Any context.
 */
unsigned layout_map(const struct config_partition *partition, struct layout_range map[LAYOUT_MAP_MAX]);

/* Addresses are guest-physical. */
struct layout {
    uint64_t shift; /* to add (modulo 2^64) to the addresses of segments and entry point */
    uint64_t files[CONFIG_MODULES_MAX]; /* initrd or modules */
    uint64_t sections; /* content of the ELF sections outside segments, image->sections.room bytes */
    uint64_t end;      /* on -ENOSPC: if RAM went on up to this address, everything would fit */
    uint64_t missing;  /* on -ENXIO: where the kernel insists to be, and there is no RAM */
};

/*
 * Places `image` and `count` (at most CONFIG_MODULES_MAX; 1 for Linux) files of `sizes` bytes in the RAM of
 * `map` (ascending). 0, or what keeps them out: -ENOSPC: more memory, of which layout->end says how much;
 * -E2BIG: no memory is enough; -ENXIO: the kernel cannot be moved to where memory is. Any context; the work
 * is bounded by the number of files.
 */
int layout_plan(struct layout *layout, const struct kernel_image *image, const struct layout_range *map,
                unsigned map_count, const uint64_t *sizes, unsigned count) __must_check;
