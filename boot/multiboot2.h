// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the boot loader hands over, read once into plain structs (Multiboot2 specification 2.0, section 3).
 * The tags themselves are not looked at again.
 */
#include "lib/slice.h"
#include "lib/types.h"

#define MULTIBOOT2_LOADER_MAGIC 0x36d76289

#define BOOT_MEMORY_RANGES_MAX  128
#define BOOT_MODULES_MAX        128

/* Memory types as in e820. */
enum boot_memory_type {
    BOOT_MEMORY_RAM = 1,
    BOOT_MEMORY_RESERVED = 2,
    BOOT_MEMORY_ACPI = 3,
    BOOT_MEMORY_NVS = 4,
    BOOT_MEMORY_BAD = 5,
};

struct boot_memory_range {
    hpa_t base;
    uint64_t size;
    uint32_t type;
};

struct boot_module {
    hpa_t base;
    uint64_t size;
    struct slice name;      /* first word of its string, without device, /umbra/, ./ or / in front */
    struct slice arguments; /* the rest */
};

struct boot_framebuffer {
    hpa_t base;
    uint32_t pitch, width, height;
    uint8_t bits_per_pixel;
    uint8_t kind; /* 0 indexed, 1 RGB, 2 EGA text */
};

struct boot_information {
    hpa_t base; /* of the tags themselves, which hold the strings */
    uint64_t size;
    struct slice command_line;
    struct slice loader_name;
    struct boot_memory_range memory[BOOT_MEMORY_RANGES_MAX];
    unsigned memory_count;
    unsigned memory_ignored; /* beyond BOOT_MEMORY_RANGES_MAX */
    struct boot_module modules[BOOT_MODULES_MAX];
    unsigned module_count;
    unsigned modules_ignored; /* beyond BOOT_MODULES_MAX */
    bool has_framebuffer;
    struct boot_framebuffer framebuffer;
    const void *rsdp; /* a copy of the ACPI root pointer inside the tags, or NULL */
};

/*
 * Reads the tags at `tags` (`physical`: their address) into `information`. 0, or -EINVAL when they are
 * malformed.
 */
int multiboot2_parse(struct boot_information *information, const void *tags, hpa_t physical) __must_check;

/* The module called `name` (a path of the configuration, which loses a leading ./ or / first), or NULL. */
const struct boot_module *boot_module_find(const struct boot_information *information, struct slice name);
