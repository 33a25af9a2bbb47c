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

/* Guest memory that is only measured: files may claim gigabytes. */
struct measured_memory {
    struct loader_memory memory;
    uint64_t entry;
    bool entry_written;
};

static int touch(struct loader_memory *memory, gpa_t address, size_t size)
{
    struct measured_memory *measured = container_of(memory, struct measured_memory, memory);

    require(size && address.value < memory->low_size && size <= memory->low_size - address.value);
    require(address.value >= MIB(1) || address.value + size <= 0xa0000);
    measured->entry_written |= measured->entry >= address.value && measured->entry - address.value < size;
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

static void require_image(const struct kernel_image *image, size_t size)
{
    require(image->segment_count <= KERNEL_SEGMENTS_MAX);
    require(image->segment_count || image->kind == KERNEL_MULTIBOOT2);
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct kernel_segment *a = &image->segments[i];

        require(a->offset <= size && a->file_size <= size - a->offset);
        require(a->file_size <= a->memory_size && a->memory_size);
        require(a->address >= KERNEL_ADDRESS_MIN && a->address < KERNEL_ADDRESS_MAX);
        require(a->memory_size <= KERNEL_ADDRESS_MAX - a->address);
        require(a->address + a->memory_size <= image->end);
        for (unsigned j = 0; j < i; j++) {
            const struct kernel_segment *b = &image->segments[j];

            require(a->address + a->memory_size <= b->address || b->address + b->memory_size <= a->address);
        }
    }
}

static void load(const struct kernel_image *image, const uint8_t *data, size_t size, uint64_t memory_size)
{
    static const struct loader_range map[] = {{0, 0xa0000, 1}, {MIB(1), MIB(1), 1}};
    const struct loader_file files[] = {{data, size, SLICE("file")}};
    struct measured_memory measured = {.memory = {write_memory, fill_memory, layout_low_memory(memory_size)},
                                       .entry = image->entry};
    struct loader_request request = {
        .image = image,
        .kernel = {.data = data, .size = size},
        .files = files,
        .file_count = 1,
        .cmdline = SLICE("console=ttyS0"),
        .map = map,
        .map_count = ARRAY_SIZE(map),
        .rsdp = GPA(0xe0000),
    };
    struct loader_entry entry;
    const char *why = NULL;
    int error = loader_load(&measured.memory, &request, &entry, &why);

    if (error) {
        require(why && why[0]);
        return;
    }
    require(entry.rip == image->entry && measured.entry_written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
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
        load(&image, data, size, MIB(64));
        load(&image, data, size, GIB(8));
    }
    return 0;
}
