// SPDX-License-Identifier: BSD-2-Clause
/* What all boot protocols have in common: segments, files, descriptor table. */
#include "core/loader/loader.h"

#include "core/loader/loader_private.h"
#include "lib/errors.h"

/* Flat segments, accessed (SDM vol. 3, section 3.4.5), and by mode the code among them. */
#define DESCRIPTOR_DATA    0x00cf93000000ffffULL
#define DESCRIPTOR_CODE_32 0x00cf9b000000ffffULL
#define DESCRIPTOR_CODE_64 0x00af9b000000ffffULL

static const uint64_t code_descriptors[] = {
    [LOADER_LONG_64] = DESCRIPTOR_CODE_64,
    [LOADER_PROTECTED_32] = DESCRIPTOR_CODE_32,
};

void loader_put(struct loader_writer *writer, uint64_t address, const void *from, uint64_t size)
{
    if (!writer->error && size)
        writer->error = writer->memory->write(writer->memory, GPA(address), from, size);
}

void loader_fill(struct loader_writer *writer, uint64_t address, uint64_t size)
{
    if (!writer->error && size)
        writer->error = writer->memory->fill(writer->memory, GPA(address), 0, size);
}

void loader_put_u8(struct loader_writer *writer, uint64_t address, uint8_t value)
{
    loader_put(writer, address, &value, sizeof(value));
}

void loader_put_u16(struct loader_writer *writer, uint64_t address, uint16_t value)
{
    loader_put(writer, address, &value, sizeof(value));
}

void loader_put_u32(struct loader_writer *writer, uint64_t address, uint32_t value)
{
    loader_put(writer, address, &value, sizeof(value));
}

void loader_put_u64(struct loader_writer *writer, uint64_t address, uint64_t value)
{
    loader_put(writer, address, &value, sizeof(value));
}

void loader_put_string(struct loader_writer *writer, uint64_t address, struct slice text)
{
    loader_put(writer, address, text.start, text.length);
    loader_put_u8(writer, address + text.length, 0);
}

/* Whether request and image belong together. */
static bool check_request(const struct loader_request *request)
{
    for (unsigned i = 0; i < request->image->segment_count; i++) {
        const struct kernel_segment *segment = &request->image->segments[i];

        if (segment->offset > request->kernel.size ||
            segment->file_size > request->kernel.size - segment->offset)
            return false;
    }
    return request->file_count <= CONFIG_MODULES_MAX && request->map_count <= LOADER_RANGES_MAX;
}

static void put_segments(struct loader_writer *writer, const struct loader_request *request)
{
    for (unsigned i = 0; i < request->image->segment_count; i++) {
        const struct kernel_segment *segment = &request->image->segments[i];

        loader_put(writer, segment->address, (const uint8_t *)request->kernel.data + segment->offset,
                   segment->file_size);
        /* A bzImage takes its memory as it finds it, and clears of it what it wants cleared. */
        if (request->image->kind != KERNEL_LINUX_BZIMAGE)
            loader_fill(writer, segment->address + segment->file_size,
                        segment->memory_size - segment->file_size);
    }
}

static void put_descriptors(struct loader_writer *writer, struct loader_entry *entry)
{
    const uint64_t table[] = {
        [LOADER_CODE_SELECTOR / 8] = code_descriptors[entry->mode],
        [LOADER_DATA_SELECTOR / 8] = DESCRIPTOR_DATA,
    };

    loader_put(writer, LAYOUT_GDT, table, sizeof(table));
    entry->gdt_base = LAYOUT_GDT;
    entry->gdt_limit = sizeof(table) - 1;
}

static int load_by_kind(struct loader_writer *writer, const struct loader_request *request,
                        const struct layout *layout, struct loader_entry *entry, const char **why)
{
    switch (request->image->kind) {
    case KERNEL_LINUX_BZIMAGE:
    case KERNEL_LINUX_ELF:
        return loader_linux(writer, request, layout, entry, why);
    case KERNEL_MULTIBOOT:
        return loader_multiboot(writer, request, layout, entry, why);
    case KERNEL_MULTIBOOT2:
    case KERNEL_ELF:
        break;
    }
    *why = "this version loads linux and multiboot";
    return -EOPNOTSUPP;
}

int loader_load(struct loader_memory *memory, const struct loader_request *request,
                struct loader_entry *entry, const char **why)
{
    struct loader_writer writer = {memory, 0};
    uint64_t sizes[CONFIG_MODULES_MAX];
    struct layout layout;
    int error;

    *entry = (struct loader_entry){0};
    if (!check_request(request)) {
        *why = "kernel, files and memory map are not what was checked";
        return -EINVAL;
    }
    for (unsigned i = 0; i < request->file_count; i++)
        sizes[i] = request->files[i].size;
    error = layout_plan(&layout, request->image, memory->low_size, sizes, request->file_count);
    if (error) {
        *why = error == -ENOSPC ? "kernel and files do not fit into the partition's memory"
                                : "kernel and files are too large for any memory";
        return error;
    }
    error = load_by_kind(&writer, request, &layout, entry, why);
    if (error)
        return error;
    put_segments(&writer, request);
    for (unsigned i = 0; i < request->file_count; i++)
        loader_put(&writer, layout.files[i], request->files[i].data, sizes[i]);
    put_descriptors(&writer, entry);
    if (writer.error)
        *why = "the partition's memory cannot be written";
    return writer.error;
}
