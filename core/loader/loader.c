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

/*
 * What is there of firmware: a BIOS data area as far as there is something to say, and services that do
 * nothing, at the place where the PC's own BIOS had them. Kernels look there, and call them (Xen for one),
 * whatever their loader tells them.
 */
enum {
    BIOS_COM1 = 0x00,       /* u16, port */
    BIOS_EQUIPMENT = 0x10,  /* u16; bits 9-11: number of serial ports */
    BIOS_LOW_MEMORY = 0x13, /* u16, KiB */
    BIOS_DATA_SIZE = 0x100,
};

#define BIOS_COM1_PORT            0x3f8
#define BIOS_EQUIPMENT_ONE_SERIAL (1 << 9)
#define BIOS_SEGMENT              0xf000
#define VECTORS                   256
#define OPCODE_IRET               0xcf

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
    return request->kernel.size == request->image->file_size && request->file_count <= CONFIG_MODULES_MAX &&
           request->map_count <= LOADER_RANGES_MAX;
}

static void put_segments(struct loader_writer *writer, const struct loader_request *request,
                         const struct layout *layout)
{
    for (unsigned i = 0; i < request->image->segment_count; i++) {
        const struct kernel_segment *segment = &request->image->segments[i];
        const uint64_t address = segment->address + layout->shift;

        loader_put(writer, address, (const uint8_t *)request->kernel.data + segment->offset,
                   segment->file_size);
        /* A bzImage takes its memory as it finds it, and clears of it what it wants cleared. */
        if (request->image->kind != KERNEL_LINUX_BZIMAGE)
            loader_fill(writer, address + segment->file_size, segment->memory_size - segment->file_size);
    }
}

static void put_firmware(struct loader_writer *writer, const struct loader_request *request)
{
    uint16_t vectors[VECTORS][2];

    for (unsigned i = 0; i < VECTORS; i++) {
        vectors[i][0] = LAYOUT_IRET - (BIOS_SEGMENT << 4);
        vectors[i][1] = BIOS_SEGMENT;
    }
    loader_put(writer, LAYOUT_VECTORS, vectors, sizeof(vectors));
    loader_put_u8(writer, LAYOUT_IRET, OPCODE_IRET);
    loader_fill(writer, LAYOUT_BIOS_DATA, BIOS_DATA_SIZE);
    loader_put_u16(writer, LAYOUT_BIOS_DATA + BIOS_COM1, BIOS_COM1_PORT);
    loader_put_u16(writer, LAYOUT_BIOS_DATA + BIOS_EQUIPMENT, BIOS_EQUIPMENT_ONE_SERIAL);
    loader_put_u16(writer, LAYOUT_BIOS_DATA + BIOS_LOW_MEMORY,
                   (uint16_t)loader_ram_from(request, 0, LOADER_LOWER_MAX));
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
        return loader_multiboot2(writer, request, layout, entry, why);
    }
    *why = "of no kind that is known here";
    return -EINVAL;
}

static const char *why_not_placed(int error)
{
    if (error == -ENOSPC)
        return "kernel and files do not fit into the partition's memory";
    if (error == -ENXIO)
        return "wants to be loaded where the partition has no memory";
    return "kernel and files are too large for any memory";
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
    error =
        layout_plan(&layout, request->image, request->map, request->map_count, sizes, request->file_count);
    if (error) {
        *why = why_not_placed(error);
        return error;
    }
    entry->rip = request->image->entry + layout.shift;
    error = load_by_kind(&writer, request, &layout, entry, why);
    if (error)
        return error;
    put_segments(&writer, request, &layout);
    for (unsigned i = 0; i < request->file_count; i++)
        loader_put(&writer, layout.files[i], request->files[i].data, sizes[i]);
    put_firmware(&writer, request);
    put_descriptors(&writer, entry);
    if (writer.error)
        *why = "the partition's memory cannot be written";
    return writer.error;
}
