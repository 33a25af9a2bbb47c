// SPDX-License-Identifier: BSD-2-Clause
#include "core/config/kernel.h"

#include "core/config/kernel_formats.h"
#include "lib/errors.h"

/* What a file is when it is not what `boot` says. Rows: enum config_boot; columns: enum kernel_kind. */
static const char *const mismatches[][KERNEL_ELF + 1] = {
    [CONFIG_BOOT_LINUX] =
        {
            [KERNEL_MULTIBOOT] = "is a Multiboot 1 kernel, but boot = linux",
            [KERNEL_MULTIBOOT2] = "is a Multiboot2 kernel, but boot = linux",
        },
    [CONFIG_BOOT_MULTIBOOT] =
        {
            [KERNEL_LINUX_BZIMAGE] = "is a Linux kernel, but boot = multiboot",
            [KERNEL_MULTIBOOT2] = "is a Multiboot2 kernel, but boot = multiboot",
        },
    [CONFIG_BOOT_MULTIBOOT2] =
        {
            [KERNEL_LINUX_BZIMAGE] = "is a Linux kernel, but boot = multiboot2",
            [KERNEL_MULTIBOOT] = "is a Multiboot 1 kernel, but boot = multiboot2",
        },
    [CONFIG_BOOT_ELF] =
        {
            [KERNEL_LINUX_BZIMAGE] = "is a Linux kernel, but boot = elf",
        },
};

/* A kind that a file may be of. */
struct format {
    enum kernel_kind kind;
    bool (*recognise)(const struct kernel_file *file);
    bool (*probe)(const struct kernel_file *file, struct kernel_image *image, const char **why);
};

static const struct format bzimage = {KERNEL_LINUX_BZIMAGE, kernel_bzimage_recognise, kernel_bzimage_probe};
static const struct format linux_elf = {KERNEL_LINUX_ELF, kernel_elf_recognise, kernel_elf_probe_linux};
static const struct format multiboot = {KERNEL_MULTIBOOT, kernel_multiboot_recognise, kernel_multiboot_probe};
static const struct format multiboot2 = {KERNEL_MULTIBOOT2, kernel_multiboot2_recognise,
                                         kernel_multiboot2_probe};
static const struct format elf = {KERNEL_ELF, kernel_elf_recognise, kernel_elf_probe};

/*
 * By enum config_boot, in which order kinds are asked; the first that recognises the file has it. A vmlinux
 * is asked for only when no Multiboot header is in the file, since every ELF file looks like one.
 */
static const struct format *const orders[][4] = {
    [CONFIG_BOOT_LINUX] = {&bzimage, &multiboot, &multiboot2, &linux_elf},
    [CONFIG_BOOT_MULTIBOOT] = {&multiboot, &bzimage, &multiboot2},
    [CONFIG_BOOT_MULTIBOOT2] = {&multiboot2, &bzimage, &multiboot},
    [CONFIG_BOOT_ELF] = {&elf, &bzimage},
};

static const char *linux_obstacle(const struct kernel_file *file __unused)
{
    return "not a Linux kernel: no HdrS signature at 0x202, and no ELF file";
}

static const char *elf_obstacle(const struct kernel_file *file __unused)
{
    return "not an ELF file";
}

/* What to say of a file that no kind recognises. */
static const char *(*const obstacles[])(const struct kernel_file *file) = {
    [CONFIG_BOOT_LINUX] = linux_obstacle,
    [CONFIG_BOOT_MULTIBOOT] = kernel_multiboot_obstacle,
    [CONFIG_BOOT_MULTIBOOT2] = kernel_multiboot2_obstacle,
    [CONFIG_BOOT_ELF] = elf_obstacle,
};

bool kernel_segment_add(struct kernel_image *image, const struct kernel_segment *segment, const char **why)
{
    uint64_t end;

    if (segment->memory_size == 0)
        return true;
    if (segment->address < KERNEL_ADDRESS_MIN) {
        *why = "wants to be loaded below 1M";
        return false;
    }
    if (__builtin_add_overflow(segment->address, segment->memory_size, &end) || end > KERNEL_ADDRESS_MAX) {
        *why = "wants to be loaded above 4G";
        return false;
    }
    if (image->segment_count == KERNEL_SEGMENTS_MAX) {
        *why = "has more than 16 segments";
        return false;
    }
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct kernel_segment *other = &image->segments[i];

        if (segment->address < other->address + other->memory_size && other->address < end) {
            *why = "has segments that overlap in memory";
            return false;
        }
    }
    image->start = image->segment_count ? min_u64(image->start, segment->address) : segment->address;
    image->segments[image->segment_count++] = *segment;
    image->end = max_u64(image->end, end);
    return true;
}

bool kernel_check_entry(const struct kernel_image *image, const char **why)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct kernel_segment *segment = &image->segments[i];

        if (image->entry >= segment->address && image->entry - segment->address < segment->memory_size)
            return true;
    }
    *why = "has an entry point outside its segments";
    return false;
}

int kernel_probe(enum config_boot boot, const void *data, size_t size, struct kernel_image *image,
                 const char **why)
{
    const struct kernel_file file = {data, size};

    memset(image, 0, sizeof(*image));
    image->file_size = size;
    if (size == 0) {
        *why = "is empty";
        return -ENOEXEC;
    }
    for (size_t i = 0; i < ARRAY_SIZE(orders[boot]) && orders[boot][i]; i++) {
        const struct format *format = orders[boot][i];

        if (!format->recognise(&file))
            continue;
        image->kind = format->kind;
        *why = mismatches[boot][format->kind];
        return !*why && format->probe(&file, image, why) ? 0 : -ENOEXEC;
    }
    *why = obstacles[boot](&file);
    return -ENOEXEC;
}
