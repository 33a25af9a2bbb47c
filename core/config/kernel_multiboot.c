// SPDX-License-Identifier: BSD-2-Clause
/*
 * Multiboot headers: version 1 (Multiboot Specification 0.6.96, section 3.1) and 2 (Multiboot2
 * Specification 2.0, section 3.1). Both are found by their magic number and prove themselves by a checksum.
 */
#include "core/config/kernel_formats.h"

#define MULTIBOOT_MAGIC              0x1badb002
#define MULTIBOOT_SEARCH             8192
#define MULTIBOOT_ALIGN              4

#define MULTIBOOT2_MAGIC             0xe85250d6
#define MULTIBOOT2_SEARCH            32768
#define MULTIBOOT2_ALIGN             8
#define MULTIBOOT2_ARCHITECTURE_I386 0

/* Flags. The low half are demands that a loader must fulfil or refuse. */
enum {
    ALIGN_MODULES = 1 << 0,
    MEMORY_INFO = 1 << 1,
    VIDEO_MODE = 1 << 2,
    ADDRESSES = 1 << 16,
};
#define DEMANDS           0xffff
#define DEMANDS_FULFILLED (ALIGN_MODULES | MEMORY_INFO)

/* Offsets in the header. */
enum {
    FLAGS = 4,
    CHECKSUM = 8,
    HEADER_SIZE = 12,
    HEADER_ADDR = 12,
    LOAD_ADDR = 16,
    LOAD_END_ADDR = 20,
    BSS_END_ADDR = 24,
    ENTRY_ADDR = 28,
    HEADER_WITH_ADDRESSES = 32,

    ARCHITECTURE2 = 4,
    LENGTH2 = 8,
    HEADER2_SIZE = 16,
};

/* A way to find a header: `words` 32-bit words of it add up to 0. */
struct search {
    uint32_t magic;
    unsigned reach;
    unsigned alignment;
    unsigned words;
};

static const struct search search_1 = {MULTIBOOT_MAGIC, MULTIBOOT_SEARCH, MULTIBOOT_ALIGN, 3};
static const struct search search_2 = {MULTIBOOT2_MAGIC, MULTIBOOT2_SEARCH, MULTIBOOT2_ALIGN, 4};

/* *offset of the header; false if there is none. *magic_seen: at least the magic number is there. */
static bool find_header(const struct kernel_file *file, const struct search *search, uint64_t *offset,
                        bool *magic_seen)
{
    uint64_t size = search->words * sizeof(uint32_t);
    uint64_t reach = min_u64(file->size, search->reach);

    *magic_seen = false;
    for (*offset = 0; *offset + size <= reach; *offset += search->alignment) {
        uint32_t sum = 0;

        if (kernel_file_u32(file, *offset) != search->magic)
            continue;
        *magic_seen = true;
        for (unsigned i = 0; i < search->words; i++)
            sum += kernel_file_u32(file, *offset + i * sizeof(uint32_t));
        if (sum == 0)
            return true;
    }
    return false;
}

bool kernel_multiboot_recognise(const struct kernel_file *file)
{
    uint64_t offset;
    bool magic_seen;

    return find_header(file, &search_1, &offset, &magic_seen);
}

const char *kernel_multiboot_obstacle(const struct kernel_file *file)
{
    uint64_t offset;
    bool magic_seen;

    find_header(file, &search_1, &offset, &magic_seen);
    return magic_seen ? "not a Multiboot 1 kernel: its header has a wrong checksum"
                      : "not a Multiboot 1 kernel: no header in its first 8 KiB";
}

/* The segment that the address fields describe, for a kernel that is no ELF file. */
static bool read_addresses(const struct kernel_file *file, uint64_t header, struct kernel_image *image,
                           const char **why)
{
    uint64_t header_address, load, load_end, bss_end;
    struct kernel_segment segment;

    if (!kernel_file_has(file, header, HEADER_WITH_ADDRESSES)) {
        *why = "is cut short: its Multiboot header is not whole";
        return false;
    }
    header_address = kernel_file_u32(file, header + HEADER_ADDR);
    load = kernel_file_u32(file, header + LOAD_ADDR);
    load_end = kernel_file_u32(file, header + LOAD_END_ADDR);
    bss_end = kernel_file_u32(file, header + BSS_END_ADDR);
    image->entry = kernel_file_u32(file, header + ENTRY_ADDR);
    if (header_address < load || header_address - load > header) {
        *why = "has damaged addresses in its Multiboot header";
        return false;
    }
    segment.offset = header - (header_address - load);
    segment.address = load;
    segment.file_size = file->size - segment.offset;
    /* 0: load to the end of the file; no memory without content. */
    if (load_end) {
        if (load_end < load || load_end - load > segment.file_size) {
            *why = "is cut short: its Multiboot header says that it is longer";
            return false;
        }
        segment.file_size = load_end - load;
    }
    segment.memory_size = segment.file_size;
    if (bss_end)
        segment.memory_size = bss_end - load;
    if ((bss_end && bss_end < load) || segment.memory_size < segment.file_size || image->entry < load ||
        image->entry - load >= segment.memory_size) {
        *why = "has damaged addresses in its Multiboot header";
        return false;
    }
    return kernel_segment_add(image, &segment, why);
}

bool kernel_multiboot_probe(const struct kernel_file *file, struct kernel_image *image, const char **why)
{
    uint64_t header;
    bool magic_seen;
    uint32_t flags;

    if (!find_header(file, &search_1, &header, &magic_seen))
        return false;
    flags = kernel_file_u32(file, header + FLAGS);
    if (flags & VIDEO_MODE) {
        *why = "wants a video mode in its Multiboot header, and a partition has no screen";
        return false;
    }
    if (flags & DEMANDS & ~DEMANDS_FULFILLED) {
        *why = "has demands in its Multiboot header that are not known here";
        return false;
    }
    if (flags & ADDRESSES)
        return read_addresses(file, header, image, why);
    if (!kernel_elf_recognise(file)) {
        *why = "is a Multiboot 1 kernel, but neither an ELF file nor with addresses in its header";
        return false;
    }
    return kernel_elf_probe(file, image, why);
}

bool kernel_multiboot2_recognise(const struct kernel_file *file)
{
    uint64_t offset;
    bool magic_seen;

    return find_header(file, &search_2, &offset, &magic_seen);
}

const char *kernel_multiboot2_obstacle(const struct kernel_file *file)
{
    uint64_t offset;
    bool magic_seen;

    find_header(file, &search_2, &offset, &magic_seen);
    return magic_seen ? "not a Multiboot2 kernel: its header has a wrong checksum"
                      : "not a Multiboot2 kernel: no header in its first 32 KiB";
}

bool kernel_multiboot2_probe(const struct kernel_file *file, struct kernel_image *image __unused,
                             const char **why)
{
    uint64_t header, length;
    bool magic_seen;

    if (!find_header(file, &search_2, &header, &magic_seen))
        return false;
    if (kernel_file_u32(file, header + ARCHITECTURE2) != MULTIBOOT2_ARCHITECTURE_I386) {
        *why = "is a Multiboot2 kernel, but not for x86";
        return false;
    }
    length = kernel_file_u32(file, header + LENGTH2);
    if (length < HEADER2_SIZE || !kernel_file_has(file, header, length)) {
        *why = "is cut short: its Multiboot2 header is not whole";
        return false;
    }
    return true;
}
