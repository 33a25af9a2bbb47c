// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What a kernel image is, read from its headers: a Linux bzImage (Linux, Documentation/arch/x86/boot.rst) or
 * its ELF vmlinux, a Multiboot 1 or Multiboot2 kernel, a flat ELF program. The file is not trusted: whatever
 * is in struct kernel_image after a successful probe has been checked against the file's size and against the
 * address space, and a loader needs no header again.
 */
#include "core/config/config.h"
#include "lib/types.h"

#define KERNEL_SEGMENTS_MAX 16

/* Images are loaded into memory from here up (what lies below is the loader's) and below 4 GiB. */
#define KERNEL_ADDRESS_MIN  MIB(1)
#define KERNEL_ADDRESS_MAX  GIB(4)

enum kernel_kind {
    KERNEL_LINUX_BZIMAGE,
    KERNEL_LINUX_ELF,
    KERNEL_MULTIBOOT,
    KERNEL_MULTIBOOT2,
    KERNEL_ELF,
};

/*
 * `file_size` bytes at `offset` of the file go to guest-physical `address`; the segment takes `memory_size`
 * bytes there, which is not less. KERNEL_ADDRESS_MIN <= address, address + memory_size <= KERNEL_ADDRESS_MAX;
 * no two segments of an image overlap.
 */
struct kernel_segment {
    uint64_t offset;
    uint64_t file_size;
    uint64_t address;
    uint64_t memory_size;
};

struct kernel_image {
    enum kernel_kind kind;
    struct kernel_segment segments[KERNEL_SEGMENTS_MAX];
    unsigned segment_count; /* 0 only for KERNEL_MULTIBOOT2, of which no more than the header is looked at */
    uint64_t end;           /* first address after all segments */
    uint64_t entry;         /* guest-physical; for a bzImage the 64-bit entry point */

    /* Linux only. */
    uint32_t setup_size;   /* bytes of the setup header, from 0x1F1 of a bzImage; 0 for an ELF file */
    uint16_t boot_version; /* boot protocol, 0x020f for 2.15; of an ELF file the newest known here */
    uint32_t cmdline_max;  /* characters of the command line, without its terminator */
    uint64_t initrd_max;   /* last address that the initrd may take */
};

/*
 * Reads the headers of the file `data` (`size` bytes, borrowed for the call) as a kernel of kind `boot`. 0,
 * or -ENOEXEC: it is none; *why then says so in words that follow "FILE: " (a constant). Any context.
 */
int kernel_probe(enum config_boot boot, const void *data, size_t size, struct kernel_image *image,
                 const char **why) __must_check;
