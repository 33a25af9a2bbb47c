// SPDX-License-Identifier: BSD-2-Clause
/*
 * Multiboot 1 (Multiboot Specification 0.6.96, sections 3.2 and 3.3). As GRUB 2 does it, the command line and
 * the strings of the modules do not begin with the name of the file.
 */
#include "core/loader/loader_private.h"
#include "lib/errors.h"

#define LOADER_MAGIC 0x2badb002

/* The information structure: offsets, all of them u32. */
enum {
    INFO_FLAGS = 0,
    INFO_MEM_LOWER = 4, /* KiB */
    INFO_MEM_UPPER = 8, /* KiB */
    INFO_CMDLINE = 16,
    INFO_MODS_COUNT = 20,
    INFO_MODS_ADDR = 24,
    INFO_MMAP_LENGTH = 44,
    INFO_MMAP_ADDR = 48,
    INFO_BOOT_LOADER_NAME = 64,
    INFO_SIZE = 120,

    MODULE_SIZE = 16, /* start, end, string, 0 */
    RANGE_SIZE = 24,  /* size of the rest, base u64, size u64, type */
};

/* Which fields are valid. */
enum {
    FLAG_MEMORY = 1 << 0,
    FLAG_CMDLINE = 1 << 2,
    FLAG_MODULES = 1 << 3,
    FLAG_MAP = 1 << 6,
    FLAG_LOADER_NAME = 1 << 9,
};

/* The address of a copy of `text`. */
static uint64_t take_string(struct loader_area *area, struct slice text)
{
    uint64_t address = loader_area_take(area, text.length + 1);

    loader_put_string(area->writer, address, text);
    return address;
}

static uint64_t put_map(struct loader_area *area, const struct loader_request *request)
{
    uint64_t table = loader_area_take(area, (uint64_t)request->map_count * RANGE_SIZE);

    for (unsigned i = 0; i < request->map_count; i++) {
        const struct layout_range *range = &request->map[i];
        uint64_t at = table + (uint64_t)i * RANGE_SIZE;

        loader_put_u32(area->writer, at, RANGE_SIZE - 4);
        loader_put_u64(area->writer, at + 4, range->base);
        loader_put_u64(area->writer, at + 12, range->size);
        loader_put_u32(area->writer, at + 20, range->type);
    }
    return table;
}

static uint64_t put_modules(struct loader_area *area, const struct loader_request *request,
                            const struct layout *layout)
{
    uint64_t table = loader_area_take(area, (uint64_t)request->file_count * MODULE_SIZE);

    for (unsigned i = 0; i < request->file_count; i++) {
        const struct loader_file *file = &request->files[i];
        uint64_t at = table + (uint64_t)i * MODULE_SIZE;

        loader_put_u32(area->writer, at, (uint32_t)layout->files[i]);
        loader_put_u32(area->writer, at + 4, (uint32_t)(layout->files[i] + file->size));
        loader_put_u32(area->writer, at + 8, (uint32_t)take_string(area, file->arguments));
        loader_put_u32(area->writer, at + 12, 0);
    }
    return table;
}

int loader_multiboot(struct loader_writer *writer, const struct loader_request *request,
                     const struct layout *layout, struct loader_entry *entry, const char **why)
{
    const uint64_t info = LAYOUT_MULTIBOOT_INFO;
    struct loader_area area = {writer, info + INFO_SIZE, false};
    uint32_t flags = FLAG_MEMORY | FLAG_CMDLINE | FLAG_MAP | FLAG_LOADER_NAME;

    loader_fill(writer, info, INFO_SIZE);
    loader_put_u32(writer, info + INFO_MEM_LOWER, loader_ram_from(request, 0, LOADER_LOWER_MAX));
    loader_put_u32(writer, info + INFO_MEM_UPPER,
                   loader_ram_from(request, LOADER_UPPER_START, LOADER_UPPER_MAX));
    loader_put_u32(writer, info + INFO_MMAP_LENGTH, request->map_count * RANGE_SIZE);
    loader_put_u32(writer, info + INFO_MMAP_ADDR, (uint32_t)put_map(&area, request));
    if (request->file_count) {
        flags |= FLAG_MODULES;
        loader_put_u32(writer, info + INFO_MODS_COUNT, request->file_count);
        loader_put_u32(writer, info + INFO_MODS_ADDR, (uint32_t)put_modules(&area, request, layout));
    }
    loader_put_u32(writer, info + INFO_BOOT_LOADER_NAME, (uint32_t)take_string(&area, LOADER_NAME));
    loader_put_u32(writer, info + INFO_CMDLINE, (uint32_t)take_string(&area, request->cmdline));
    loader_put_u32(writer, info + INFO_FLAGS, flags);
    if (area.full) {
        *why = "command line and module arguments are too long";
        return -E2BIG;
    }
    entry->mode = LOADER_PROTECTED_32;
    entry->rax = LOADER_MAGIC;
    entry->rbx = info;
    return 0;
}
