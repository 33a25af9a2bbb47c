// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The formats behind kernel_probe, one file each. Nothing else includes this.
 *
 * `..._recognise` tells whether the file is of that kind at all; `..._probe` reads one that is. The latter
 * returns true, or false with *why in words that follow "FILE: ".
 */
#include "core/config/kernel.h"
#include "lib/string.h"

struct kernel_file {
    const uint8_t *data;
    uint64_t size;
};

bool kernel_bzimage_recognise(const struct kernel_file *file);
bool kernel_bzimage_probe(const struct kernel_file *file, struct kernel_image *image, const char **why);

bool kernel_elf_recognise(const struct kernel_file *file);
/* Segments, sections and entry point of an ELF program for this processor, of 32 or 64 bits. */
bool kernel_elf_probe(const struct kernel_file *file, struct kernel_image *image, const char **why);
/* The same but for a check of the entry point. */
bool kernel_elf_read(const struct kernel_file *file, struct kernel_image *image, const char **why);
bool kernel_elf_probe_linux(const struct kernel_file *file, struct kernel_image *image, const char **why);

bool kernel_multiboot_recognise(const struct kernel_file *file);
bool kernel_multiboot_probe(const struct kernel_file *file, struct kernel_image *image, const char **why);
/* What is wrong with a file that is not recognised. */
const char *kernel_multiboot_obstacle(const struct kernel_file *file);

bool kernel_multiboot2_recognise(const struct kernel_file *file);
bool kernel_multiboot2_probe(const struct kernel_file *file, struct kernel_image *image, const char **why);
const char *kernel_multiboot2_obstacle(const struct kernel_file *file);

/* Adds a segment that has been checked against the file's size, if it is one that can be loaded. */
bool kernel_segment_add(struct kernel_image *image, const struct kernel_segment *segment, const char **why);

/* Whether the entry point is a byte of a segment. */
bool kernel_check_entry(const struct kernel_image *image, const char **why);

/* Whether [offset, offset + size) lies in the file. */
static inline bool kernel_file_has(const struct kernel_file *file, uint64_t offset, uint64_t size)
{
    return offset <= file->size && size <= file->size - offset;
}

/* Little-endian numbers at an offset of which the caller has made sure. */
static inline uint16_t kernel_file_u16(const struct kernel_file *file, uint64_t offset)
{
    uint16_t value;

    memcpy(&value, file->data + offset, sizeof(value));
    return value;
}

static inline uint32_t kernel_file_u32(const struct kernel_file *file, uint64_t offset)
{
    uint32_t value;

    memcpy(&value, file->data + offset, sizeof(value));
    return value;
}

static inline uint64_t kernel_file_u64(const struct kernel_file *file, uint64_t offset)
{
    uint64_t value;

    memcpy(&value, file->data + offset, sizeof(value));
    return value;
}
