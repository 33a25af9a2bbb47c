// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the loaders share. Nothing outside core/loader includes this.
 */
#include "core/config/layout.h"
#include "core/loader/loader.h"

/* Writes to guest memory until the first error, which it keeps. */
struct loader_writer {
    struct loader_memory *memory;
    int error;
};

void loader_put(struct loader_writer *writer, uint64_t address, const void *from, uint64_t size);
void loader_fill(struct loader_writer *writer, uint64_t address, uint64_t size); /* with zeros */
void loader_put_u8(struct loader_writer *writer, uint64_t address, uint8_t value);
void loader_put_u16(struct loader_writer *writer, uint64_t address, uint16_t value);
void loader_put_u32(struct loader_writer *writer, uint64_t address, uint32_t value);
void loader_put_u64(struct loader_writer *writer, uint64_t address, uint64_t value);
/* A slice, and the zero that ends a string. */
void loader_put_string(struct loader_writer *writer, uint64_t address, struct slice text);

/* 4-level page tables at LAYOUT_PAGE_TABLES that map the first 4 GiB to themselves; the value for CR3. */
uint64_t loader_put_page_tables(struct loader_writer *writer);

/*
 * Multiboot information: tables and strings one after the other from LAYOUT_MULTIBOOT_INFO to LAYOUT_LOW_END.
 * When there is no more room, `full` stays set, nothing more is written, and addresses mean nothing.
 */
struct loader_area {
    struct loader_writer *writer;
    uint64_t next;
    bool full;
};

/* Room for `size` bytes; its address. */
uint64_t loader_area_take(struct loader_area *area, uint64_t size);

/* How far RAM goes from `start` up to `limit` without a hole, in KiB. */
uint32_t loader_ram_from(const struct loader_request *request, uint64_t start, uint64_t limit);

/* What both Multiboot versions say of memory in two numbers: in front of the video hole, and from 1 MiB. */
#define LOADER_LOWER_MAX   KIB(640)
#define LOADER_UPPER_START MIB(1)
#define LOADER_UPPER_MAX   GIB(4)

#define LOADER_NAME        SLICE("Umbra")

/*
 * The protocols: what the kernel is told of what `layout` says of kernel and files, and `entry`, which is
 * zeroed, but for its instruction pointer and descriptor table. Errors as loader_load.
 */
int loader_linux(struct loader_writer *writer, const struct loader_request *request,
                 const struct layout *layout, struct loader_entry *entry, const char **why) __must_check;
int loader_multiboot(struct loader_writer *writer, const struct loader_request *request,
                     const struct layout *layout, struct loader_entry *entry, const char **why) __must_check;
/* Flat ELF programs too. */
int loader_multiboot2(struct loader_writer *writer, const struct loader_request *request,
                      const struct layout *layout, struct loader_entry *entry, const char **why) __must_check;
