// SPDX-License-Identifier: BSD-2-Clause
/*
 * The setup header of a bzImage (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
 * Offsets are those of the file.
 */
#include "core/config/kernel_formats.h"

enum {
    SETUP_SECTS = 0x1f1, /* u8 */
    SYSSIZE = 0x1f4,     /* u32, in units of 16 bytes */
    BOOT_FLAG = 0x1fe,   /* u16 */
    HEADER_LENGTH = 0x201,
    SIGNATURE = 0x202,
    VERSION = 0x206,   /* u16 */
    LOADFLAGS = 0x211, /* u8 */
    INITRD_ADDR_MAX = 0x22c,
    KERNEL_ALIGNMENT = 0x230,
    RELOCATABLE_KERNEL = 0x234, /* u8 */
    XLOADFLAGS = 0x236,         /* u16 */
    CMDLINE_SIZE = 0x238,
    PREF_ADDRESS = 0x258, /* u64 */
    INIT_SIZE = 0x260,
    HEADER_MIN = 0x264, /* where the fields end that are read here */
    HEADER_MAX = 0x290, /* where boot_params has no more room for the header */
};

#define BOOT_FLAG_VALUE 0xaa55
#define SIGNATURE_VALUE 0x53726448 /* "HdrS" */
#define VERSION_MIN     0x020c     /* the first with xloadflags */
#define LOADED_HIGH     0x01
#define XLF_KERNEL_64   0x01

#define SECTOR          512
#define SETUP_SECTS_OLD 4 /* what 0 stands for */
#define ENTRY_64        0x200

bool kernel_bzimage_recognise(const struct kernel_file *file)
{
    return file->size >= VERSION && kernel_file_u16(file, BOOT_FLAG) == BOOT_FLAG_VALUE &&
           kernel_file_u32(file, SIGNATURE) == SIGNATURE_VALUE;
}

/*
 * Where the code goes, its place of running: boot.rst lets a relocatable kernel be loaded there, too. Such a
 * one may be loaded higher as well, but below its preferred address it would move itself up to that.
 */
static bool place_code(const struct kernel_file *file, struct kernel_segment *code,
                       struct kernel_place *place, const char **why)
{
    uint64_t address = kernel_file_u64(file, PREF_ADDRESS);
    uint64_t alignment = kernel_file_u32(file, KERNEL_ALIGNMENT);

    if (file->data[RELOCATABLE_KERNEL]) {
        if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
            *why = "its Linux setup header is damaged: the alignment is no power of two";
            return false;
        }
        /* Anywhere above 4 GiB the answer is the same; so the sum does not wrap. */
        address = min_u64(address, KERNEL_ADDRESS_MAX);
        address = align_up(max_u64(address, KERNEL_ADDRESS_MIN), alignment);
        *place = (struct kernel_place){alignment, address, KERNEL_ADDRESS_MAX - 1, KERNEL_LOWEST};
    }
    code->address = address;
    code->memory_size = max_u64(kernel_file_u32(file, INIT_SIZE), code->file_size);
    return true;
}

/* The part of the file behind the boot sector and setup sectors. */
static bool find_code(const struct kernel_file *file, struct kernel_segment *code, const char **why)
{
    uint64_t sectors = file->data[SETUP_SECTS] ? file->data[SETUP_SECTS] : SETUP_SECTS_OLD;
    uint64_t declared = (uint64_t)kernel_file_u32(file, SYSSIZE) * 16;

    code->offset = (sectors + 1) * SECTOR;
    if (!kernel_file_has(file, code->offset, ENTRY_64 + 1)) {
        *why = "is cut short: a Linux kernel ends within its setup code";
        return false;
    }
    code->file_size = file->size - code->offset;
    /* The declared size is rounded up; a signature may follow. */
    if (declared > align_up(code->file_size, 16)) {
        *why = "is cut short: its Linux setup header says that it is longer";
        return false;
    }
    return true;
}

/* Whether the header has all that is needed here, and its kernel a 64-bit entry point. */
static bool check_header(const struct kernel_file *file, uint64_t end, const char **why)
{
    /* The version comes first: the fields of an older header are not there. */
    if (!kernel_file_has(file, VERSION, 2) || kernel_file_u16(file, VERSION) < VERSION_MIN)
        *why = "is a Linux kernel with a boot protocol older than 2.12";
    else if (end < HEADER_MIN || !kernel_file_has(file, 0, end))
        *why = "is cut short: its Linux setup header is not whole";
    else if (!(kernel_file_u16(file, XLOADFLAGS) & XLF_KERNEL_64))
        *why = "is a Linux kernel without a 64-bit entry point";
    else if (!(file->data[LOADFLAGS] & LOADED_HIGH))
        *why = "is a zImage, a Linux kernel for below 1M: bzImage is wanted";
    else
        return true;
    return false;
}

bool kernel_bzimage_probe(const struct kernel_file *file, struct kernel_image *image, const char **why)
{
    uint64_t end = min_u64(SIGNATURE + (uint64_t)file->data[HEADER_LENGTH], HEADER_MAX);
    struct kernel_segment code;

    if (!check_header(file, end, why) || !find_code(file, &code, why) ||
        !place_code(file, &code, &image->place, why) || !kernel_segment_add(image, &code, why))
        return false;
    image->entry = code.address + ENTRY_64;
    image->setup_size = (uint32_t)(end - SETUP_SECTS);
    image->boot_version = kernel_file_u16(file, VERSION);
    image->cmdline_max = kernel_file_u32(file, CMDLINE_SIZE);
    image->initrd_max = kernel_file_u32(file, INITRD_ADDR_MAX);
    return true;
}
