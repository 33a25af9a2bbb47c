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

/*
 * The protocols. Kernel segments and files are in memory already (the latter where `layout` says); they write
 * what the kernel is told and fill `entry`, which is zeroed, but for its descriptor table. Errors as
 * loader_load.
 */
int loader_linux(struct loader_writer *writer, const struct loader_request *request,
                 const struct layout *layout, struct loader_entry *entry, const char **why) __must_check;
int loader_multiboot(struct loader_writer *writer, const struct loader_request *request,
                     const struct layout *layout, struct loader_entry *entry, const char **why) __must_check;
