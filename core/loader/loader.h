// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Puts a kernel and its files into a partition's memory as a boot loader would, and tells in which state the
 * first processor starts. Pure: guest memory is reached by the caller's functions only. Addresses:
 * core/config/layout.h.
 */
#include "core/config/kernel.h"
#include "core/config/layout.h"
#include "lib/slice.h"
#include "lib/types.h"

/* Guest memory. All functions return 0 or a negative errno, which the loader hands on. */
struct loader_memory {
    int (*write)(struct loader_memory *memory, gpa_t address, const void *from, size_t size);
    int (*fill)(struct loader_memory *memory, gpa_t address, uint8_t byte, size_t size);
    int (*read)(struct loader_memory *memory, gpa_t address, void *to, size_t size);
};

/* A file in Umbra's memory. `arguments` is the string that a Multiboot module comes with. */
struct loader_file {
    const void *data;
    uint64_t size;
    struct slice arguments;
};

/* All of it is borrowed for the call. */
struct loader_request {
    const struct kernel_image *image; /* what kernel_probe said about `kernel` */
    struct loader_file kernel;        /* `arguments` is not looked at */
    const struct loader_file *files;  /* Linux: at most one, the initrd. Others: the modules */
    unsigned file_count;
    struct slice cmdline;
    /* As layout_map makes it: RAM at least from 0 to LAYOUT_LOW_END; LAYOUT_IRET can be written as well. */
    const struct layout_range *map;
    unsigned map_count; /* at most LOADER_RANGES_MAX */
    gpa_t rsdp;         /* the partition's ACPI root pointer, which is in its memory already; 0: none */
};

#define LOADER_RANGES_MAX 128

/*
 * Both modes: interrupts off (RFLAGS = 2), IDTR empty, LDTR unusable, TR a busy TSS (type 11; base 0, limit
 * 0x67); GDTR and the general registers as below, those not named 0; DR7 = 0x400. In the table at `gdt_base`,
 * selector 0x10 is the code segment (CS; execute/read, accessed: type 11) and 0x18 the data segment (DS, ES,
 * FS, GS, SS; read/write, accessed: type 3): base 0, limit 0xFFFFFFFF in 4 KiB units, DPL 0, present.
 */
enum loader_mode {
    /* CS.L = 1, CS.D = 0, SS.D = 1; CR0 = PE | ET | PG, CR4 = PAE, EFER = LME | LMA, CR3 as below. */
    LOADER_LONG_64,
    /* CS.L = 0, CS.D = 1, SS.D = 1; CR0 = PE | ET, CR3 = 0, CR4 = 0, EFER = 0. */
    LOADER_PROTECTED_32,
};

#define LOADER_CODE_SELECTOR 0x10
#define LOADER_DATA_SELECTOR 0x18

/*
 * What the general registers hold, by the kind of kernel; the others are 0. There is no stack. "Information"
 * is what sections 3.2 and 3.3 of the Multiboot Specification describe, and 3.3 and 3.6 of the Multiboot2
 * one.
 *
 *   kind                 mode          registers
 *   bzImage, Linux ELF   LONG_64       RSI: boot_params
 *   Multiboot 1          PROTECTED_32  EAX: 0x2BADB002, EBX: information
 *   Multiboot2           PROTECTED_32  EAX: 0x36D76289, EBX: information
 *   ELF of 64 bits       LONG_64       RAX and RBX: as Multiboot2's EAX and EBX
 *   ELF of 32 bits       PROTECTED_32  EAX and EBX: as Multiboot2's
 *
 * In LONG_64, the page tables at CR3 map the first 4 GiB to themselves by writable pages of 2 MiB.
 */
struct loader_entry {
    enum loader_mode mode;
    uint64_t rip;
    uint64_t rax;
    uint64_t rbx;
    uint64_t rsi;
    uint64_t cr3;
    uint64_t gdt_base;
    uint16_t gdt_limit;
};

/*
 * Loads by the protocol that request->image->kind asks for and fills `entry`. 0, or with *why in words (a
 * constant): -ENOSPC: the partition's memory is too small; -ENXIO: the kernel insists on an address where the
 * partition has no memory; -E2BIG: files, command line, memory map or strings are too long for any partition
 * or for the protocol; -EINVAL: the request makes no sense (image and file are not of each other, too
 * many files or ranges); or what `memory` returned. What guest memory holds after an error is not defined.
 * Start-up of a partition only; the work is proportional to the sizes of the files.
 */
int loader_load(struct loader_memory *memory, const struct loader_request *request,
                struct loader_entry *entry, const char **why) __must_check;
