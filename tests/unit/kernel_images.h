// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Small kernel images, made by hand for the tests of their readers. Each fills a buffer and returns the size
 * of the file; tests then spoil single fields.
 */
#include <string.h>

#include "lib/types.h"

static inline void image_put(uint8_t *image, size_t offset, uint64_t value, size_t size)
{
    memcpy(image + offset, &value, size);
}

/* A bzImage of protocol 2.15: one setup sector, 0x1000 bytes of code of value 0xc0, runs at 16M for 1M. */
#define BZIMAGE_SIZE 0x1400

static inline size_t image_bzimage(uint8_t image[BZIMAGE_SIZE])
{
    memset(image, 0, BZIMAGE_SIZE);
    memset(image + 0x400, 0xc0, 0x1000);
    image_put(image, 0x1f1, 1, 1);
    image_put(image, 0x1f4, 0x100, 4);
    image_put(image, 0x1fe, 0xaa55, 2);
    memcpy(image + 0x200, "\xeb\x66HdrS", 6);
    image_put(image, 0x206, 0x020f, 2);
    image_put(image, 0x211, 0x01, 1);
    image_put(image, 0x22c, 0x7fffffff, 4);
    image_put(image, 0x230, 0x200000, 4);
    image_put(image, 0x234, 1, 1);
    image_put(image, 0x236, 0x0001, 2);
    image_put(image, 0x238, 2047, 4);
    image_put(image, 0x258, MIB(16), 8);
    image_put(image, 0x260, MIB(1), 4);
    return BZIMAGE_SIZE;
}

/* Where the fields of an ELF image are that tests change; segment headers are 32 and 56 bytes long. */
#define ELF32_SEGMENT 52
#define ELF64_SEGMENT 64
#define ELF_SIZE      0x2000

/*
 * A program with two segments: code, 0x800 bytes of 0xcd at 0x1000 of the file, for 0x800 bytes at 1M; and
 * data, 0x100 bytes of 0xda at 0x1800, for 0x3000 bytes at 2M. The 64-bit one is linked for the upper half,
 * its entry point is physical, 1M + 0x10.
 */
static inline size_t image_elf64(uint8_t image[ELF_SIZE])
{
    const uint64_t upper = 0xffffffff80000000;

    memset(image, 0, ELF_SIZE);
    memset(image + 0x1000, 0xcd, 0x800);
    memset(image + 0x1800, 0xda, 0x100);
    memcpy(image, "\177ELF\2\1\1", 7);
    image_put(image, 16, 2, 2);
    image_put(image, 18, 62, 2);
    image_put(image, 24, MIB(1) + 0x10, 8);
    image_put(image, 32, ELF64_SEGMENT, 8);
    image_put(image, 54, 56, 2);
    image_put(image, 56, 2, 2);
    image_put(image, ELF64_SEGMENT, 1, 4);
    image_put(image, ELF64_SEGMENT + 4, 5, 4);
    image_put(image, ELF64_SEGMENT + 8, 0x1000, 8);
    image_put(image, ELF64_SEGMENT + 16, upper + MIB(1), 8);
    image_put(image, ELF64_SEGMENT + 24, MIB(1), 8);
    image_put(image, ELF64_SEGMENT + 32, 0x800, 8);
    image_put(image, ELF64_SEGMENT + 40, 0x800, 8);
    image_put(image, ELF64_SEGMENT + 56, 1, 4);
    image_put(image, ELF64_SEGMENT + 56 + 4, 6, 4);
    image_put(image, ELF64_SEGMENT + 56 + 8, 0x1800, 8);
    image_put(image, ELF64_SEGMENT + 56 + 16, upper + MIB(2), 8);
    image_put(image, ELF64_SEGMENT + 56 + 24, MIB(2), 8);
    image_put(image, ELF64_SEGMENT + 56 + 32, 0x100, 8);
    image_put(image, ELF64_SEGMENT + 56 + 40, 0x3000, 8);
    return ELF_SIZE;
}

/* Linked where it is loaded. */
static inline size_t image_elf32(uint8_t image[ELF_SIZE])
{
    memset(image, 0, ELF_SIZE);
    memset(image + 0x1000, 0xcd, 0x800);
    memset(image + 0x1800, 0xda, 0x100);
    memcpy(image, "\177ELF\1\1\1", 7);
    image_put(image, 16, 2, 2);
    image_put(image, 18, 3, 2);
    image_put(image, 24, MIB(1) + 0x10, 4);
    image_put(image, 28, ELF32_SEGMENT, 4);
    image_put(image, 42, 32, 2);
    image_put(image, 44, 2, 2);
    image_put(image, ELF32_SEGMENT, 1, 4);
    image_put(image, ELF32_SEGMENT + 4, 0x1000, 4);
    image_put(image, ELF32_SEGMENT + 8, MIB(1), 4);
    image_put(image, ELF32_SEGMENT + 12, MIB(1), 4);
    image_put(image, ELF32_SEGMENT + 16, 0x800, 4);
    image_put(image, ELF32_SEGMENT + 20, 0x800, 4);
    image_put(image, ELF32_SEGMENT + 24, 5, 4);
    image_put(image, ELF32_SEGMENT + 32, 1, 4);
    image_put(image, ELF32_SEGMENT + 32 + 4, 0x1800, 4);
    image_put(image, ELF32_SEGMENT + 32 + 8, MIB(2), 4);
    image_put(image, ELF32_SEGMENT + 32 + 12, MIB(2), 4);
    image_put(image, ELF32_SEGMENT + 32 + 16, 0x100, 4);
    image_put(image, ELF32_SEGMENT + 32 + 20, 0x3000, 4);
    image_put(image, ELF32_SEGMENT + 32 + 24, 6, 4);
    return ELF_SIZE;
}

/* Puts a Multiboot 1 header at `offset`. */
static inline void image_put_multiboot(uint8_t *image, size_t offset, uint32_t flags)
{
    image_put(image, offset, 0x1badb002, 4);
    image_put(image, offset + 4, flags, 4);
    image_put(image, offset + 8, 0U - 0x1badb002 - flags, 4);
}

/* Puts a Multiboot2 header with these tags, of `size` bytes and with an end tag among them, at `offset`. */
static inline void image_put_multiboot2_tags(uint8_t *image, size_t offset, const uint32_t *tags, size_t size)
{
    image_put(image, offset, 0xe85250d6, 4);
    image_put(image, offset + 4, 0, 4);
    image_put(image, offset + 8, 16 + size, 4);
    image_put(image, offset + 12, 0U - 0xe85250d6 - (16 + (uint32_t)size), 4);
    memcpy(image + offset + 16, tags, size);
}

/* One with nothing but its end tag. */
static inline void image_put_multiboot2(uint8_t *image, size_t offset)
{
    static const uint32_t end[] = {0, 8};

    image_put_multiboot2_tags(image, offset, end, sizeof(end));
}

/*
 * Gives an ELF image five section headers: none; code, in the first segment; a table of symbols, 0x21 bytes
 * at 0x1900, and the names, 0x10 bytes at 0x1930, which no segment brings; memory without content, at no
 * address.
 */
#define ELF_SECTIONS      5
#define ELF32_SECTIONS_AT 0x1b00
#define ELF64_SECTIONS_AT 0x1c00

static inline void image_put_sections(uint8_t *image, bool wide)
{
    static const struct {
        uint32_t type, flags, address, offset, size;
    } sections[ELF_SECTIONS] = {
        {0, 0, 0, 0, 0x100},     {1, 6, MIB(1), 0x1000, 0x800}, {2, 0, 0, 0x1900, 0x21},
        {3, 0, 0, 0x1930, 0x10}, {8, 3, 0, 0x1940, 0x100000},
    };
    const size_t at = wide ? ELF64_SECTIONS_AT : ELF32_SECTIONS_AT, header = wide ? 64 : 40,
                 word = wide ? 8 : 4;
    const size_t numbers = wide ? 58 : 46;

    memset(image + 0x1900, 0x5e, 0x21);
    memset(image + 0x1930, 0x4a, 0x10);
    image_put(image, wide ? 40 : 32, at, word);
    image_put(image, numbers, header, 2);
    image_put(image, numbers + 2, ELF_SECTIONS, 2);
    image_put(image, numbers + 4, 3, 2);
    for (size_t i = 0; i < ELF_SECTIONS; i++) {
        size_t section = at + i * header;

        image_put(image, section + 4, sections[i].type, 4);
        image_put(image, section + 8, sections[i].flags, word);
        image_put(image, section + 8 + word, sections[i].address, word);
        image_put(image, section + 8 + 2 * word, sections[i].offset, word);
        image_put(image, section + 8 + 3 * word, sections[i].size, word);
    }
}
