// SPDX-License-Identifier: BSD-2-Clause
/*
 * Multiboot2 (Multiboot2 Specification 2.0, sections 3.3 and 3.6), and flat ELF programs, which are told the
 * same. As with Multiboot 1, strings do not begin with the name of the file.
 */
#include "core/loader/loader_private.h"
#include "lib/errors.h"
#include "lib/string.h"

#define LOADER_MAGIC 0x36d76289
#define TAG_ALIGN    8

enum {
    TAG_END = 0,
    TAG_COMMAND_LINE = 1,
    TAG_LOADER_NAME = 2,
    TAG_MODULE = 3,
    TAG_BASIC_MEMORY = 4,
    TAG_MEMORY_MAP = 6,
    TAG_ELF_SECTIONS = 9,
    TAG_RSDP_OLD = 14,
    TAG_RSDP_NEW = 15,
    TAG_LOAD_BASE = 21,
};

enum {
    INFO_HEADER_SIZE = 8, /* total size u32, 0 */
    TAG_HEADER_SIZE = 8,  /* type u32, size u32 */
    RANGE_SIZE = 24,      /* base u64, size u64, type u32, 0 */

    /* The ACPI root pointer (ACPI 6.3, section 5.2.5.3). */
    RSDP_OLD_SIZE = 20,
    RSDP_REVISION = 15,
    RSDP_LENGTH = 20,
    RSDP_SIZE_MAX = 64,
};

/* A tag of `size` bytes, its header and what pads it to the next written; the address of what follows the
 * header. */
static uint64_t put_tag(struct loader_area *area, uint32_t type, uint64_t size)
{
    const uint64_t padded = align_up(size, TAG_ALIGN);
    const uint64_t at = loader_area_take(area, padded);

    loader_fill(area->writer, at + size, padded - size);
    loader_put_u32(area->writer, at, type);
    loader_put_u32(area->writer, at + 4, (uint32_t)size);
    return at + TAG_HEADER_SIZE;
}

static void put_string(struct loader_area *area, uint32_t type, struct slice text)
{
    uint64_t at = put_tag(area, type, TAG_HEADER_SIZE + text.length + 1);

    loader_put_string(area->writer, at, text);
}

static void put_memory(struct loader_area *area, const struct loader_request *request)
{
    uint64_t at = put_tag(area, TAG_BASIC_MEMORY, TAG_HEADER_SIZE + 8);

    loader_put_u32(area->writer, at, loader_ram_from(request, 0, LOADER_LOWER_MAX));
    loader_put_u32(area->writer, at + 4, loader_ram_from(request, LOADER_UPPER_START, LOADER_UPPER_MAX));

    at = put_tag(area, TAG_MEMORY_MAP, TAG_HEADER_SIZE + 8 + (uint64_t)request->map_count * RANGE_SIZE);
    loader_put_u32(area->writer, at, RANGE_SIZE);
    loader_put_u32(area->writer, at + 4, 0); /* version of the entries */
    at += 8;
    for (unsigned i = 0; i < request->map_count; i++, at += RANGE_SIZE) {
        loader_put_u64(area->writer, at, request->map[i].base);
        loader_put_u64(area->writer, at + 8, request->map[i].size);
        loader_put_u32(area->writer, at + 16, request->map[i].type);
        loader_put_u32(area->writer, at + 20, 0);
    }
}

static void put_modules(struct loader_area *area, const struct loader_request *request,
                        const struct layout *layout)
{
    for (unsigned i = 0; i < request->file_count; i++) {
        const struct loader_file *file = &request->files[i];
        uint64_t at = put_tag(area, TAG_MODULE, TAG_HEADER_SIZE + 8 + file->arguments.length + 1);

        loader_put_u32(area->writer, at, (uint32_t)layout->files[i]);
        loader_put_u32(area->writer, at + 4, (uint32_t)(layout->files[i] + file->size));
        loader_put_string(area->writer, at + 8, file->arguments);
    }
}

/*
 * The section headers as they are in the file, but for the address of a section that no segment brings: its
 * content is put into memory for it.
 */
static void put_sections(struct loader_area *area, const struct loader_request *request,
                         const struct layout *layout)
{
    const struct kernel_sections *sections = &request->image->sections;
    const uint8_t *file = request->kernel.data;
    const uint64_t size = (uint64_t)sections->count * sections->entry_size;
    uint64_t content = layout->sections;
    uint64_t at;

    if (sections->count == 0)
        return;
    at = put_tag(area, TAG_ELF_SECTIONS, TAG_HEADER_SIZE + 12 + size);
    loader_put_u32(area->writer, at, sections->count);
    loader_put_u32(area->writer, at + 4, sections->entry_size);
    loader_put_u32(area->writer, at + 8, sections->names);
    at += 12;
    loader_put(area->writer, at, file + sections->offset, size);
    for (unsigned i = 0; i < sections->count; i++, at += sections->entry_size) {
        struct kernel_section section;

        if (!kernel_section_loose(request->image, file, i, &section))
            continue;
        loader_put(area->writer, content, file + section.offset, section.size);
        loader_put(area->writer, at + section.address_at, &content, section.address_size);
        content += align_up(section.size, KERNEL_SECTION_ALIGN);
    }
}

/* Copies of the ACPI root pointer: the part that ACPI 1.0 has and, if it is newer, all of it. */
static void put_rsdp(struct loader_area *area, const struct loader_request *request)
{
    struct loader_writer *writer = area->writer;
    uint8_t rsdp[RSDP_SIZE_MAX];
    uint32_t length;

    if (request->rsdp.value == 0 || writer->error)
        return;
    writer->error = writer->memory->read(writer->memory, request->rsdp, rsdp, sizeof(rsdp));
    if (writer->error)
        return;
    loader_put(writer, put_tag(area, TAG_RSDP_OLD, TAG_HEADER_SIZE + RSDP_OLD_SIZE), rsdp, RSDP_OLD_SIZE);
    memcpy(&length, rsdp + RSDP_LENGTH, sizeof(length));
    if (rsdp[RSDP_REVISION] >= 2 && length <= sizeof(rsdp))
        loader_put(writer, put_tag(area, TAG_RSDP_NEW, TAG_HEADER_SIZE + length), rsdp, length);
}

int loader_multiboot2(struct loader_writer *writer, const struct loader_request *request,
                      const struct layout *layout, struct loader_entry *entry, const char **why)
{
    const struct kernel_image *image = request->image;
    const uint64_t info = LAYOUT_MULTIBOOT_INFO;
    struct loader_area area = {writer, info + INFO_HEADER_SIZE, false};

    put_string(&area, TAG_COMMAND_LINE, request->cmdline);
    put_string(&area, TAG_LOADER_NAME, LOADER_NAME);
    put_memory(&area, request);
    put_modules(&area, request, layout);
    put_sections(&area, request, layout);
    put_rsdp(&area, request);
    if (image->place.alignment)
        loader_put_u32(writer, put_tag(&area, TAG_LOAD_BASE, TAG_HEADER_SIZE + 4),
                       (uint32_t)(image->start + layout->shift));
    put_tag(&area, TAG_END, TAG_HEADER_SIZE);
    loader_put_u32(writer, info, (uint32_t)(area.next - info));
    loader_put_u32(writer, info + 4, 0);
    if (area.full) {
        *why = "command line and module arguments are too long";
        return -E2BIG;
    }
    entry->mode = image->kind == KERNEL_ELF && image->elf64 ? LOADER_LONG_64 : LOADER_PROTECTED_32;
    if (entry->mode == LOADER_LONG_64)
        entry->cr3 = loader_put_page_tables(writer);
    entry->rax = LOADER_MAGIC;
    entry->rbx = info;
    return 0;
}
