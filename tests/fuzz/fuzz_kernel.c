// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any bytes as a kernel, probed and loaded. Besides what the sanitizers see: what a probe promises holds, and
 * a loader writes only into the partition's memory, and starts the kernel at a byte that it has loaded.
 */
#include "core/loader/loader.h"

#include <stdlib.h>
#include <string.h>

#include "core/config/layout.h"
#include "lib/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

#define RSDP       0x80000
#define PIECES_MAX 600

/* Guest memory that is only measured: files may claim gigabytes. */
struct measured_memory {
    struct loader_memory memory;
    const struct layout_range *map;
    unsigned map_count;
    struct layout_range pieces[PIECES_MAX]; /* above 1 MiB: what was written, each piece once */
    unsigned count;
};

static bool holds(const struct layout_range *range, uint64_t address, uint64_t size)
{
    return address >= range->base && address - range->base < range->size &&
           size <= range->size - (address - range->base);
}

static int touch(struct loader_memory *memory, gpa_t address, size_t size)
{
    struct measured_memory *measured = container_of(memory, struct measured_memory, memory);
    const uint64_t end = address.value + size;
    bool found = false;

    if (address.value == LAYOUT_IRET && size == 1)
        return 0;
    for (unsigned i = 0; i < measured->map_count; i++)
        found |= measured->map[i].type == LAYOUT_RAM && holds(&measured->map[i], address.value, size);
    require(size && found);
    if (end <= LAYOUT_LOW_END)
        return 0;
    require(address.value >= MIB(1) && measured->count < PIECES_MAX);
    for (unsigned i = 0; i < measured->count; i++)
        require(end <= measured->pieces[i].base ||
                address.value >= measured->pieces[i].base + measured->pieces[i].size);
    measured->pieces[measured->count++] = (struct layout_range){address.value, size, LAYOUT_RAM};
    return 0;
}

static int write_memory(struct loader_memory *memory, gpa_t address, const void *from, size_t size)
{
    static volatile uint8_t sink;

    /* The sanitizer sees a source that does not reach that far. */
    sink = ((const uint8_t *)from)[0];
    sink = ((const uint8_t *)from)[size - 1];
    (void)sink;
    return touch(memory, address, size);
}

static int fill_memory(struct loader_memory *memory, gpa_t address, uint8_t byte, size_t size)
{
    require(byte == 0);
    return touch(memory, address, size);
}

static int read_memory(struct loader_memory *memory __unused, gpa_t address, void *to, size_t size)
{
    require(address.value == RSDP && size);
    memset(to, 2, size);
    return 0;
}

static void require_image(const struct kernel_image *image, size_t size)
{
    require(image->segment_count <= KERNEL_SEGMENTS_MAX);
    require(image->segment_count && image->start >= KERNEL_ADDRESS_MIN && image->start < image->end);
    require((image->place.alignment & (image->place.alignment - 1)) == 0);
    if (image->place.alignment)
        require(image->place.lowest >= KERNEL_ADDRESS_MIN && image->place.lowest <= image->place.highest &&
                image->place.highest < KERNEL_ADDRESS_MAX);
    require((uint64_t)image->sections.count * image->sections.entry_size <= size);
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct kernel_segment *a = &image->segments[i];

        require(a->offset <= size && a->file_size <= size - a->offset);
        require(a->file_size <= a->memory_size && a->memory_size);
        require(a->address >= KERNEL_ADDRESS_MIN && a->address < KERNEL_ADDRESS_MAX);
        require(a->memory_size <= KERNEL_ADDRESS_MAX - a->address);
        require(a->address >= image->start && a->address + a->memory_size <= image->end);
        for (unsigned j = 0; j < i; j++) {
            const struct kernel_segment *b = &image->segments[j];

            require(a->address + a->memory_size <= b->address || b->address + b->memory_size <= a->address);
        }
    }
}

static void load(const struct kernel_image *image, const uint8_t *data, size_t size,
                 const struct config_partition *partition)
{
    struct layout_range map[LAYOUT_MAP_MAX];
    const struct loader_file files[] = {{data, size, SLICE("file")}};
    struct measured_memory measured = {
        .memory = {write_memory, fill_memory, read_memory},
        .map = map,
        .map_count = layout_map(partition, map),
    };
    struct loader_request request = {
        .image = image,
        .kernel = {.data = data, .size = size},
        .files = files,
        .file_count = 1,
        .cmdline = SLICE("console=ttyS0"),
        .map = map,
        .map_count = measured.map_count,
        .rsdp = GPA(RSDP),
    };
    struct loader_entry entry;
    const char *why = NULL;
    int error = loader_load(&measured.memory, &request, &entry, &why);
    bool entry_written = false;

    if (error) {
        require(why && why[0]);
        return;
    }
    for (unsigned i = 0; i < measured.count; i++)
        entry_written |= holds(&measured.pieces[i], entry.rip, 1);
    require(entry_written && (image->place.alignment || entry.rip == image->entry));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct config_partition partitions[] = {
        {.memory = MIB(64)},
        {.memory = GIB(8)},
        {.memory = MIB(128), .memory_fixed = true, .memory_base = GIB(1) + 0x5000},
    };

    for (enum config_boot boot = CONFIG_BOOT_LINUX; boot <= CONFIG_BOOT_ELF; boot++) {
        struct kernel_image image;
        const char *why = NULL;
        int error = kernel_probe(boot, data, size, &image, &why);

        require(error == 0 || error == -ENOEXEC);
        if (error) {
            require(why && why[0]);
            continue;
        }
        require_image(&image, size);
        for (unsigned i = 0; i < ARRAY_SIZE(partitions); i++)
            load(&image, data, size, &partitions[i]);
    }
    return 0;
}
