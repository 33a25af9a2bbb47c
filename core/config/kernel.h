// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What a kernel image is, read from its headers: a Linux bzImage (Linux, Documentation/arch/x86/boot.rst) or
 * its ELF vmlinux, a Multiboot 1 or Multiboot2 kernel, a flat ELF program. The file is not trusted: whatever
 * is in struct kernel_image after a successful probe has been checked against the file's size and against the
 * address space, and a loader needs no header again, but for the ELF section headers, which it hands on.
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

/* In which of the places that it allows a kernel wants to be. */
enum kernel_preference {
    KERNEL_ANYWHERE, /* where its segments say, if that can be */
    KERNEL_LOWEST,
    KERNEL_HIGHEST,
};

/* Where a kernel can be loaded, as a whole: its lowest segment goes to a multiple of `alignment`. */
struct kernel_place {
    uint64_t alignment; /* a power of two; 0: only where its segments say */
    uint64_t lowest;    /* no byte below; at least KERNEL_ADDRESS_MIN */
    uint64_t highest;   /* no byte above; below KERNEL_ADDRESS_MAX */
    enum kernel_preference preference;
};

/* The section header table of an ELF file, for kernels that are told of it. */
struct kernel_sections {
    uint64_t offset; /* in the file; all of the table lies in it, and the content of each section */
    uint32_t count;  /* 0: there is none, or it makes no sense */
    uint32_t entry_size;
    uint32_t names; /* which section holds the names */
    uint64_t room;  /* bytes of memory for the content of those sections that no segment brings */
};

struct kernel_image {
    enum kernel_kind kind;
    uint64_t file_size;
    struct kernel_segment segments[KERNEL_SEGMENTS_MAX];
    unsigned segment_count; /* at least 1 */
    uint64_t start;         /* first address of all segments */
    uint64_t end;           /* first address after all segments */
    uint64_t entry;         /* guest-physical; for a bzImage the 64-bit entry point */
    struct kernel_place place;

    bool elf64;                      /* the file is an ELF file of 64 bits */
    struct kernel_sections sections; /* Multiboot2 and flat ELF only */

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

/* Content of a section: `size` bytes at `offset` of the file. */
struct kernel_section {
    uint64_t offset;
    uint64_t size;
    unsigned address_at; /* where its header has the address, and of how many bytes */
    unsigned address_size;
};

/* The content of a section begins in memory at a multiple of it. */
#define KERNEL_SECTION_ALIGN 16

/*
 * Whether section `index` (below image->sections.count) of the file that `image` was read from has content
 * that no segment brings, a symbol table for example; `section` then tells of it. Any context.
 */
bool kernel_section_loose(const struct kernel_image *image, const void *data, unsigned index,
                          struct kernel_section *section);
