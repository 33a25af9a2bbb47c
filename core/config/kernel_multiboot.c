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

/* What a header of either version says of a kernel that is no ELF file. */
struct addresses {
    uint64_t header, load, load_end, bss_end;
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

/* The segment that the addresses describe; `header` is the header's place in the file. */
static bool add_addresses(const struct kernel_file *file, uint64_t header, const struct addresses *addresses,
                          struct kernel_image *image, const char **why)
{
    const uint64_t load = addresses->load;
    struct kernel_segment segment;

    if (addresses->header < load || addresses->header - load > header) {
        *why = "has damaged addresses in its Multiboot header";
        return false;
    }
    segment.offset = header - (addresses->header - load);
    segment.address = load;
    segment.file_size = file->size - segment.offset;
    /* 0: load to the end of the file; no memory without content. */
    if (addresses->load_end) {
        if (addresses->load_end < load || addresses->load_end - load > segment.file_size) {
            *why = "is cut short: its Multiboot header says that it is longer";
            return false;
        }
        segment.file_size = addresses->load_end - load;
    }
    segment.memory_size = segment.file_size;
    if (addresses->bss_end)
        segment.memory_size = addresses->bss_end - load;
    if ((addresses->bss_end && addresses->bss_end < load) || segment.memory_size < segment.file_size) {
        *why = "has damaged addresses in its Multiboot header";
        return false;
    }
    return kernel_segment_add(image, &segment, why) && kernel_check_entry(image, why);
}

static bool read_addresses(const struct kernel_file *file, uint64_t header, struct kernel_image *image,
                           const char **why)
{
    struct addresses addresses;

    if (!kernel_file_has(file, header, HEADER_WITH_ADDRESSES)) {
        *why = "is cut short: its Multiboot header is not whole";
        return false;
    }
    addresses.header = kernel_file_u32(file, header + HEADER_ADDR);
    addresses.load = kernel_file_u32(file, header + LOAD_ADDR);
    addresses.load_end = kernel_file_u32(file, header + LOAD_END_ADDR);
    addresses.bss_end = kernel_file_u32(file, header + BSS_END_ADDR);
    image->entry = kernel_file_u32(file, header + ENTRY_ADDR);
    return add_addresses(file, header, &addresses, image, why);
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

/* ---- The tags of a Multiboot2 header --------------------------------------------------------------------
 */

enum {
    TAG_END = 0,
    TAG_INFORMATION_REQUEST = 1,
    TAG_ADDRESS = 2,
    TAG_ENTRY_ADDRESS = 3,
    TAG_CONSOLE_FLAGS = 4,
    TAG_FRAMEBUFFER = 5,
    TAG_MODULE_ALIGNMENT = 6,
    TAG_EFI_BOOT_SERVICES = 7,
    TAG_EFI_I386_ENTRY = 8,
    TAG_EFI_AMD64_ENTRY = 9,
    TAG_RELOCATABLE = 10,

    TAG_TYPE_AT = 0,  /* u16 */
    TAG_FLAGS_AT = 2, /* u16 */
    TAG_SIZE_AT = 4,
    TAG_HEADER_SIZE = 8,

    TAG_OPTIONAL = 1 << 0,
    CONSOLE_REQUIRED = 1 << 0,
    LOAD_FROM_START = 0xffffffff,
};

/* Which information is given, as far as there is any: by core/loader/multiboot2.c. */
#define INFORMATION_GIVEN                                                                                    \
    (BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(6) | BIT(9) | BIT(14) | BIT(15) | BIT(21))

/* What the tags say. */
struct header2 {
    const struct kernel_file *file;
    bool has_addresses, has_entry;
    struct addresses addresses;
    uint64_t entry;
    struct kernel_place place;
};

/*
 * One function for each type that says something, with the place of a tag of `size` bytes. They return NULL,
 * or why the kernel cannot be loaded as it wants; what is only optional then goes without.
 */
static const char *read_request(struct header2 *header, uint64_t at, uint64_t size)
{
    for (uint64_t i = TAG_HEADER_SIZE; i + sizeof(uint32_t) <= size; i += sizeof(uint32_t)) {
        uint32_t type = kernel_file_u32(header->file, at + i);

        if (type >= 64 || !(INFORMATION_GIVEN & BIT(type)))
            return "asks in its Multiboot2 header for information that is not given";
    }
    return NULL;
}

static const char *read_address(struct header2 *header, uint64_t at, uint64_t size __unused)
{
    header->has_addresses = true;
    header->addresses.header = kernel_file_u32(header->file, at + 8);
    header->addresses.load = kernel_file_u32(header->file, at + 12);
    header->addresses.load_end = kernel_file_u32(header->file, at + 16);
    header->addresses.bss_end = kernel_file_u32(header->file, at + 20);
    return NULL;
}

static const char *read_entry(struct header2 *header, uint64_t at, uint64_t size __unused)
{
    header->has_entry = true;
    header->entry = kernel_file_u32(header->file, at + 8);
    return NULL;
}

static const char *read_console(struct header2 *header, uint64_t at, uint64_t size __unused)
{
    return kernel_file_u32(header->file, at + 8) & CONSOLE_REQUIRED
               ? "insists on a screen in its Multiboot2 header, and a partition has none"
               : NULL;
}

static const char *read_framebuffer(struct header2 *header __unused, uint64_t at __unused,
                                    uint64_t size __unused)
{
    return "wants a video mode in its Multiboot2 header, and a partition has no screen";
}

static const char *read_relocatable(struct header2 *header, uint64_t at, uint64_t size __unused)
{
    struct kernel_place place = {
        .lowest = max_u64(kernel_file_u32(header->file, at + 8), KERNEL_ADDRESS_MIN),
        .highest = kernel_file_u32(header->file, at + 12),
        .alignment = kernel_file_u32(header->file, at + 16),
        .preference = (enum kernel_preference)kernel_file_u32(header->file, at + 20),
    };

    if (place.alignment == 0 || (place.alignment & (place.alignment - 1)) != 0 ||
        place.lowest > place.highest || place.preference > KERNEL_HIGHEST)
        return "has a damaged tag for relocation in its Multiboot2 header";
    header->place = place;
    return NULL;
}

/* By type: the least size, and who reads it; NULL: what it says is so anyway, or concerns EFI firmware. */
static const struct tag_reader {
    uint32_t size;
    const char *(*read)(struct header2 *header, uint64_t at, uint64_t size);
} tag_readers[] = {
    [TAG_INFORMATION_REQUEST] = {8, read_request},
    [TAG_ADDRESS] = {24, read_address},
    [TAG_ENTRY_ADDRESS] = {12, read_entry},
    [TAG_CONSOLE_FLAGS] = {12, read_console},
    [TAG_FRAMEBUFFER] = {20, read_framebuffer},
    [TAG_MODULE_ALIGNMENT] = {8, NULL},
    [TAG_EFI_BOOT_SERVICES] = {8, NULL},
    [TAG_EFI_I386_ENTRY] = {12, NULL},
    [TAG_EFI_AMD64_ENTRY] = {12, NULL},
    [TAG_RELOCATABLE] = {24, read_relocatable},
};

static const char *read_tag(struct header2 *header, uint64_t at, uint64_t size)
{
    const uint16_t type = kernel_file_u16(header->file, at + TAG_TYPE_AT);
    const bool optional = kernel_file_u16(header->file, at + TAG_FLAGS_AT) & TAG_OPTIONAL;
    const char *why = NULL;

    if (type >= ARRAY_SIZE(tag_readers))
        why = "has demands in its Multiboot2 header that are not known here";
    else if (size < tag_readers[type].size)
        return "has a damaged Multiboot2 header";
    else if (tag_readers[type].read)
        why = tag_readers[type].read(header, at, size);
    return optional ? NULL : why;
}

/* The tags between `at` and `end`. */
static bool read_tags(struct header2 *header, uint64_t at, uint64_t end, const char **why)
{
    while (at + TAG_HEADER_SIZE <= end) {
        const uint64_t size = kernel_file_u32(header->file, at + TAG_SIZE_AT);

        if (size < TAG_HEADER_SIZE || size > end - at)
            break;
        if (kernel_file_u16(header->file, at + TAG_TYPE_AT) == TAG_END)
            return true;
        *why = read_tag(header, at, size);
        if (*why)
            return false;
        at = align_up(at + size, MULTIBOOT2_ALIGN);
    }
    *why = "has a damaged Multiboot2 header";
    return false;
}

/* Segments and entry point: the tags' word counts more than that of the ELF file. */
static bool read_image(const struct kernel_file *file, uint64_t offset, struct header2 *header,
                       struct kernel_image *image, const char **why)
{
    if (header->has_addresses) {
        if (!header->has_entry) {
            *why = "has addresses, but no entry point in its Multiboot2 header";
            return false;
        }
        if (header->addresses.load == LOAD_FROM_START)
            header->addresses.load = header->addresses.header - offset;
        image->entry = header->entry;
        return add_addresses(file, offset, &header->addresses, image, why);
    }
    if (!kernel_elf_recognise(file)) {
        *why = "is a Multiboot2 kernel, but neither an ELF file nor with addresses in its header";
        return false;
    }
    if (!kernel_elf_read(file, image, why))
        return false;
    if (header->has_entry)
        image->entry = header->entry;
    return kernel_check_entry(image, why);
}

bool kernel_multiboot2_probe(const struct kernel_file *file, struct kernel_image *image, const char **why)
{
    struct header2 header = {.file = file};
    uint64_t offset, length;
    bool magic_seen;

    if (!find_header(file, &search_2, &offset, &magic_seen))
        return false;
    if (kernel_file_u32(file, offset + ARCHITECTURE2) != MULTIBOOT2_ARCHITECTURE_I386) {
        *why = "is a Multiboot2 kernel, but not for x86";
        return false;
    }
    length = kernel_file_u32(file, offset + LENGTH2);
    if (length < HEADER2_SIZE || !kernel_file_has(file, offset, length)) {
        *why = "is cut short: its Multiboot2 header is not whole";
        return false;
    }
    if (!read_tags(&header, offset + HEADER2_SIZE, offset + length, why) ||
        !read_image(file, offset, &header, image, why))
        return false;
    image->place = header.place;
    return true;
}
