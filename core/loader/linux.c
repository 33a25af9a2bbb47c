// SPDX-License-Identifier: BSD-2-Clause
/*
 * Linux by its 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol", and
 * zero-page.rst): RSI points at boot_params, the page tables map the first 4 GiB to themselves.
 */
#include "core/loader/loader_private.h"
#include "lib/errors.h"

/* struct boot_params; its setup header is at the same offsets as in a bzImage. */
enum {
    PARAMS_SIZE = 4096,
    ACPI_RSDP_ADDR = 0x070, /* u64, since protocol 2.14 */
    E820_ENTRIES = 0x1e8,   /* u8 */
    SETUP_HEADER = 0x1f1,
    BOOT_FLAG = 0x1fe,      /* u16 */
    SIGNATURE = 0x202,      /* u32 */
    VERSION = 0x206,        /* u16 */
    TYPE_OF_LOADER = 0x210, /* u8 */
    LOADFLAGS = 0x211,      /* u8 */
    RAMDISK_IMAGE = 0x218,  /* u32 */
    RAMDISK_SIZE = 0x21c,   /* u32 */
    CMD_LINE_PTR = 0x228,   /* u32 */
    E820_TABLE = 0x2d0,     /* of 20 bytes: base u64, size u64, type u32 */
    E820_ENTRY_SIZE = 20,
    E820_ENTRIES_MAX = 128,
};

_Static_assert(LOADER_RANGES_MAX <= E820_ENTRIES_MAX, "the memory map fits into boot_params");

#define LOADER_UNDEFINED  0xff
#define BOOT_FLAG_VALUE   0xaa55
#define SIGNATURE_VALUE   0x53726448 /* "HdrS" */
#define LOADED_HIGH       0x01
#define VERSION_WITH_RSDP 0x020e

static void put_setup_header(struct loader_writer *writer, const struct loader_request *request)
{
    const struct kernel_image *image = request->image;

    if (image->kind == KERNEL_LINUX_BZIMAGE) {
        loader_put(writer, LAYOUT_LINUX_PARAMS + SETUP_HEADER,
                   (const uint8_t *)request->kernel.data + SETUP_HEADER, image->setup_size);
    } else {
        loader_put_u16(writer, LAYOUT_LINUX_PARAMS + BOOT_FLAG, BOOT_FLAG_VALUE);
        loader_put_u32(writer, LAYOUT_LINUX_PARAMS + SIGNATURE, SIGNATURE_VALUE);
        loader_put_u16(writer, LAYOUT_LINUX_PARAMS + VERSION, image->boot_version);
        loader_put_u8(writer, LAYOUT_LINUX_PARAMS + LOADFLAGS, LOADED_HIGH);
    }
    loader_put_u8(writer, LAYOUT_LINUX_PARAMS + TYPE_OF_LOADER, LOADER_UNDEFINED);
}

static void put_map(struct loader_writer *writer, const struct loader_request *request)
{
    for (unsigned i = 0; i < request->map_count; i++) {
        const struct layout_range *range = &request->map[i];
        uint64_t at = LAYOUT_LINUX_PARAMS + E820_TABLE + (uint64_t)i * E820_ENTRY_SIZE;

        loader_put_u64(writer, at, range->base);
        loader_put_u64(writer, at + 8, range->size);
        loader_put_u32(writer, at + 16, range->type);
    }
    loader_put_u8(writer, LAYOUT_LINUX_PARAMS + E820_ENTRIES, (uint8_t)request->map_count);
}

int loader_linux(struct loader_writer *writer, const struct loader_request *request,
                 const struct layout *layout, struct loader_entry *entry, const char **why)
{
    if (request->cmdline.length > request->image->cmdline_max ||
        request->cmdline.length >= LAYOUT_LOW_END - LAYOUT_LINUX_CMDLINE) {
        *why = "the command line is longer than this kernel takes";
        return -E2BIG;
    }
    loader_fill(writer, LAYOUT_LINUX_PARAMS, PARAMS_SIZE);
    put_setup_header(writer, request);
    put_map(writer, request);
    if (request->image->boot_version >= VERSION_WITH_RSDP)
        loader_put_u64(writer, LAYOUT_LINUX_PARAMS + ACPI_RSDP_ADDR, request->rsdp.value);
    loader_put_string(writer, LAYOUT_LINUX_CMDLINE, request->cmdline);
    loader_put_u32(writer, LAYOUT_LINUX_PARAMS + CMD_LINE_PTR, LAYOUT_LINUX_CMDLINE);
    loader_put_u32(writer, LAYOUT_LINUX_PARAMS + RAMDISK_IMAGE, (uint32_t)layout->files[0]);
    loader_put_u32(writer, LAYOUT_LINUX_PARAMS + RAMDISK_SIZE,
                   request->file_count ? (uint32_t)request->files[0].size : 0);

    entry->mode = LOADER_LONG_64;
    entry->rsi = LAYOUT_LINUX_PARAMS;
    entry->cr3 = loader_put_page_tables(writer);
    return 0;
}
