// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/config/kernel.c and the formats behind it. Fails when a good image is read wrongly, and when a spoilt
 * field is not noticed or is called something else than it is.
 */
#include "core/config/kernel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/errors.h"
#include "tests/unit/kernel_images.h"

static uint8_t image[0x10000];
static struct kernel_image got;

/* Probes a copy that is as long as the file, so that a read behind its end is seen. */
static int probe(enum config_boot boot, size_t size, const char **why)
{
    uint8_t *copy = malloc(size);
    int error;

    memcpy(copy, image, size);
    *why = "";
    error = kernel_probe(boot, copy, size, &got, why);
    free(copy);
    return error;
}

static void expect_good(enum config_boot boot, size_t size)
{
    const char *why;

    if (probe(boot, size, &why))
        fail_msg("refused: %s", why);
}

static void expect_bad(enum config_boot boot, size_t size, const char *wanted)
{
    const char *why;

    assert_int_equal(probe(boot, size, &why), -ENOEXEC);
    assert_string_equal(why, wanted);
}

static void expect_segment(unsigned index, uint64_t offset, uint64_t file_size, uint64_t address,
                           uint64_t memory_size)
{
    assert_true(index < got.segment_count);
    assert_int_equal(got.segments[index].offset, offset);
    assert_int_equal(got.segments[index].file_size, file_size);
    assert_int_equal(got.segments[index].address, address);
    assert_int_equal(got.segments[index].memory_size, memory_size);
}

static void expect_place(uint64_t alignment, uint64_t lowest, uint64_t highest,
                         enum kernel_preference preference)
{
    assert_int_equal(got.place.alignment, alignment);
    assert_int_equal(got.place.lowest, lowest);
    assert_int_equal(got.place.highest, highest);
    assert_int_equal(got.place.preference, preference);
}

/* A field of an image to be spoilt, and what is said then. */
struct spoil {
    size_t offset;
    uint64_t value;
    size_t size;
    const char *why;
};

/* ---- bzImage
 * ------------------------------------------------------------------------------------------------ */

static void bzimage(void **state)
{
    (void)state;
    expect_good(CONFIG_BOOT_LINUX, image_bzimage(image));
    assert_int_equal(got.kind, KERNEL_LINUX_BZIMAGE);
    assert_int_equal(got.segment_count, 1);
    expect_segment(0, 0x400, 0x1000, MIB(16), MIB(1));
    assert_int_equal(got.start, MIB(16));
    assert_int_equal(got.end, MIB(17));
    assert_int_equal(got.entry, MIB(16) + 0x200);
    assert_int_equal(got.file_size, BZIMAGE_SIZE);
    expect_place(MIB(2), MIB(16), GIB(4) - 1, KERNEL_LOWEST);
    assert_int_equal(got.sections.count, 0);
    assert_int_equal(got.setup_size, 0x202 + 0x66 - 0x1f1);
    assert_int_equal(got.boot_version, 0x020f);
    assert_int_equal(got.cmdline_max, 2047);
    assert_int_equal(got.initrd_max, 0x7fffffff);
}

static void bzimage_places(void **state)
{
    (void)state;
    /* Below 1M and off its alignment, a relocatable kernel moves up; another one does not. */
    image_bzimage(image);
    image_put(image, 0x258, 0x10000, 8);
    expect_good(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    assert_int_equal(got.segments[0].address, MIB(2));
    image_put(image, 0x258, MIB(16) + 0x1000, 8);
    expect_good(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    assert_int_equal(got.segments[0].address, MIB(18));
    expect_place(MIB(2), MIB(18), GIB(4) - 1, KERNEL_LOWEST);
    image_put(image, 0x234, 0, 1);
    expect_good(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    assert_int_equal(got.segments[0].address, MIB(16) + 0x1000);
    expect_place(0, 0, 0, KERNEL_ANYWHERE);

    /* 0 setup sectors are 4. The code of a kernel that claims less memory than it has is loaded whole. */
    image_bzimage(image);
    image_put(image, 0x1f1, 0, 1);
    image_put(image, 0x1f4, 0xa0, 4);
    image_put(image, 0x260, 0, 4);
    expect_good(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    expect_segment(0, 0xa00, 0xa00, MIB(16), 0xa00);

    /* A longer header than boot_params has room for is cut; the declared size is rounded up. */
    image_bzimage(image);
    image_put(image, 0x201, 0xff, 1);
    expect_good(CONFIG_BOOT_LINUX, BZIMAGE_SIZE - 15);
    assert_int_equal(got.setup_size, 0x290 - 0x1f1);
}

/* The last values that are still good. */
static void bzimage_limits(void **state)
{
    (void)state;
    image_bzimage(image);
    image_put(image, 0x206, 0x020c, 2);
    image_put(image, 0x201, 0x62, 1);
    image_put(image, 0x258, GIB(4) - MIB(2), 8);
    image_put(image, 0x260, MIB(2), 4);
    expect_good(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    assert_int_equal(got.setup_size, 0x264 - 0x1f1);
    assert_int_equal(got.end, GIB(4));
    expect_bad(CONFIG_BOOT_LINUX, 0x206, "is a Linux kernel with a boot protocol older than 2.12");
}

static void bzimage_mistakes(void **state)
{
    static const char short_code[] = "is cut short: its Linux setup header says that it is longer";
    static const struct spoil spoils[] = {
        {0x1fe, 0, 2, "not a Linux kernel: no HdrS signature at 0x202, and no ELF file"},
        {0x202, 0, 1, "not a Linux kernel: no HdrS signature at 0x202, and no ELF file"},
        {0x206, 0x020b, 2, "is a Linux kernel with a boot protocol older than 2.12"},
        {0x201, 0x61, 1, "is cut short: its Linux setup header is not whole"},
        {0x236, 0x0002, 2, "is a Linux kernel without a 64-bit entry point"},
        {0x211, 0xfe, 1, "is a zImage, a Linux kernel for below 1M: bzImage is wanted"},
        {0x1f1, 0x09, 1, "is cut short: a Linux kernel ends within its setup code"},
        {0x1f1, 0x08, 1, "is cut short: a Linux kernel ends within its setup code"},
        {0x1f4, 0x101, 4, short_code},
        {0x230, 0, 4, "its Linux setup header is damaged: the alignment is no power of two"},
        {0x230, 0x300000, 4, "its Linux setup header is damaged: the alignment is no power of two"},
        {0x258, UINT64_MAX, 8, "wants to be loaded above 4G"},
        {0x258, GIB(4) - KIB(4), 8, "wants to be loaded above 4G"},
        {0x260, UINT32_MAX, 4, "wants to be loaded above 4G"},
    };
    const char *why;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(spoils); i++) {
        image_bzimage(image);
        image_put(image, spoils[i].offset, spoils[i].value, spoils[i].size);
        expect_bad(CONFIG_BOOT_LINUX, BZIMAGE_SIZE, spoils[i].why);
    }
    image_bzimage(image);
    image_put(image, 0x234, 0, 1);
    image_put(image, 0x258, 0xff000, 8);
    expect_bad(CONFIG_BOOT_LINUX, BZIMAGE_SIZE, "wants to be loaded below 1M");
    image_put(image, 0x258, UINT64_MAX, 8);
    expect_bad(CONFIG_BOOT_LINUX, BZIMAGE_SIZE, "wants to be loaded above 4G");
    image_bzimage(image);
    expect_bad(CONFIG_BOOT_LINUX, BZIMAGE_SIZE - 16, short_code);
    expect_bad(CONFIG_BOOT_LINUX, 0x207, "is a Linux kernel with a boot protocol older than 2.12");
    expect_bad(CONFIG_BOOT_LINUX, 0x208, "is cut short: its Linux setup header is not whole");
    expect_bad(CONFIG_BOOT_LINUX, 0x205, "not a Linux kernel: no HdrS signature at 0x202, and no ELF file");
    expect_bad(CONFIG_BOOT_LINUX, 0, "is empty");
    for (size_t size = 1; size < BZIMAGE_SIZE - 15; size++)
        assert_int_equal(probe(CONFIG_BOOT_LINUX, size, &why), -ENOEXEC);
}

/* ---- ELF
 * ---------------------------------------------------------------------------------------------------- */

static void elf(void **state)
{
    (void)state;
    expect_good(CONFIG_BOOT_LINUX, image_elf64(image));
    assert_int_equal(got.kind, KERNEL_LINUX_ELF);
    assert_int_equal(got.segment_count, 2);
    expect_place(0, 0, 0, KERNEL_ANYWHERE);
    expect_segment(0, 0x1000, 0x800, MIB(1), 0x800);
    expect_segment(1, 0x1800, 0x100, MIB(2), 0x3000);
    assert_int_equal(got.end, MIB(2) + 0x3000);
    assert_int_equal(got.entry, MIB(1) + 0x10);
    assert_int_equal(got.setup_size, 0);
    assert_int_equal(got.cmdline_max, 2047);
    assert_int_equal(got.initrd_max, 0x7fffffff);

    /* The entry point by its virtual address; a position-independent program. */
    image_put(image, 24, 0xffffffff80000000 + MIB(1) + 0x20, 8);
    image_put(image, 16, 3, 2);
    expect_good(CONFIG_BOOT_LINUX, ELF_SIZE);
    assert_int_equal(got.entry, MIB(1) + 0x20);

    /* Data that is linked at 0 (as Linux links per-CPU data) does not draw the entry point to it. */
    image_elf64(image);
    image_put(image, ELF64_SEGMENT + 56 + 16, 0, 8);
    image_put(image, ELF64_SEGMENT + 56 + 40, MIB(2), 8);
    expect_good(CONFIG_BOOT_LINUX, ELF_SIZE);
    assert_int_equal(got.entry, MIB(1) + 0x10);

    image_elf64(image);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    assert_int_equal(got.kind, KERNEL_ELF);
    assert_true(got.elf64);
    expect_good(CONFIG_BOOT_ELF, image_elf32(image));
    assert_false(got.elf64);
    assert_int_equal(got.segment_count, 2);
    expect_segment(1, 0x1800, 0x100, MIB(2), 0x3000);
    assert_int_equal(got.entry, MIB(1) + 0x10);

    /* Headers that load nothing are passed over. */
    image_put(image, ELF32_SEGMENT + 32, 4, 4);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    assert_int_equal(got.segment_count, 1);
    image_elf32(image);
    image_put(image, ELF32_SEGMENT + 32 + 16, 0, 4);
    image_put(image, ELF32_SEGMENT + 32 + 20, 0, 4);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    assert_int_equal(got.segment_count, 1);
}

/* The section header table, of either class, and what counts as none. */
static void elf_sections(void **state)
{
    static const struct spoil spoils[] = {
        {58, 65, 2, ""},                               /* size of a header */
        {62, ELF_SECTIONS, 2, ""},                     /* names in a section that is not there */
        {60, 513, 2, ""},                              /* more than are read */
        {40, ELF_SIZE - ELF_SECTIONS * 64 + 1, 8, ""}, /* not in the file */
        {40, UINT64_MAX, 8, ""},
        {ELF64_SECTIONS_AT + 2 * 64 + 24, ELF_SIZE - 0x20, 8, ""}, /* nor is the content of one */
        {ELF64_SECTIONS_AT + 2 * 64 + 32, UINT64_MAX, 8, ""},
    };
    struct kernel_section section;

    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        (wide ? image_elf64 : image_elf32)(image);
        image_put_sections(image, wide);
        expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
        assert_int_equal(got.sections.offset, wide ? ELF64_SECTIONS_AT : ELF32_SECTIONS_AT);
        assert_int_equal(got.sections.count, ELF_SECTIONS);
        assert_int_equal(got.sections.entry_size, wide ? 64 : 40);
        assert_int_equal(got.sections.names, 3);
        assert_int_equal(got.sections.room, 0x30 + 0x10);
        for (unsigned i = 0; i < ELF_SECTIONS; i++)
            assert_int_equal(kernel_section_loose(&got, image, i, &section), i == 2 || i == 3);
        assert_true(kernel_section_loose(&got, image, 2, &section));
        assert_int_equal(section.offset, 0x1900);
        assert_int_equal(section.size, 0x21);
        assert_int_equal(section.address_at, wide ? 16 : 12);
        assert_int_equal(section.address_size, wide ? 8 : 4);
    }
    for (size_t i = 0; i < ARRAY_SIZE(spoils); i++) {
        image_elf64(image);
        image_put_sections(image, true);
        image_put(image, spoils[i].offset, spoils[i].value, spoils[i].size);
        expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
        if (got.sections.count | got.sections.room)
            fail_msg("row %zu: taken for good", i);
    }
    /* Multiboot 1 is not told of them. */
    image_elf64(image);
    image_put_sections(image, true);
    image_put_multiboot(image, 0x1000, 0x3);
    expect_good(CONFIG_BOOT_MULTIBOOT, ELF_SIZE);
    assert_int_equal(got.sections.count, 0);
}

static void elf_limits(void **state)
{
    const uint64_t upper = 0xffffffff80000000;

    (void)state;
    /* Segments that touch, in either order, and one that ends at 4G. */
    image_elf64(image);
    image_put(image, ELF64_SEGMENT + 40, MIB(1), 8);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    image_put(image, ELF64_SEGMENT + 24, MIB(2) + 0x3000, 8);
    image_put(image, 24, MIB(2) + 0x3000, 8);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    image_put(image, ELF64_SEGMENT + 56 + 24, GIB(4) - 0x3000, 8);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);

    /* Virtual entry points: the first and last byte of code, in the second segment, behind the first. */
    image_elf64(image);
    image_put(image, 24, upper + MIB(1), 8);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    assert_int_equal(got.entry, MIB(1));
    image_put(image, 24, upper + MIB(1) + 0x7ff, 8);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    assert_int_equal(got.entry, MIB(1) + 0x7ff);
    image_put(image, 24, upper + MIB(2) + 0x10, 8);
    image_put(image, ELF64_SEGMENT + 56 + 4, 7, 4);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    assert_int_equal(got.entry, MIB(2) + 0x10);
    image_put(image, ELF64_SEGMENT + 56 + 16, upper + MIB(1) + 0x800, 8);
    image_put(image, 24, upper + MIB(1) + 0x800, 8);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
    assert_int_equal(got.entry, MIB(2));

    /* As many program headers as are read, all but the first of them empty. */
    image_elf64(image);
    memset(image + ELF64_SEGMENT + 56, 0, 0x1000 - ELF64_SEGMENT - 56);
    image_put(image, 32, 0x1000, 8);
    memmove(image + 0x1000, image + ELF64_SEGMENT, 56);
    memset(image + 0x1000 + 56, 0, 127 * 56);
    image_put(image, 56, 128, 2);
    expect_good(CONFIG_BOOT_ELF, 0x1000 + 128 * 56);
    assert_int_equal(got.segment_count, 1);
}

static void elf_mistakes(void **state)
{
    static const char not_x86[] = "is an ELF file, but not for x86";
    static const char damaged[] = "has damaged ELF program headers";
    static const char outside[] = "has an entry point outside its segments";
    static const struct spoil spoils[] = {
        {1, 'e', 1, "not an ELF file"},
        {4, 3, 1, not_x86},
        {4, 1, 1, not_x86},
        {5, 2, 1, not_x86},
        {6, 0, 1, not_x86},
        {18, 183, 2, not_x86},
        {16, 1, 2, "is an ELF file, but no program that is linked"},
        {54, 57, 2, damaged},
        {56, 129, 2, damaged},
        {32, UINT64_MAX, 8, "is cut short: its ELF program headers are not in it"},
        {32, ELF_SIZE - 111, 8, "is cut short: its ELF program headers are not in it"},
        {ELF64_SEGMENT + 8, UINT64_MAX, 8, "is cut short: an ELF segment is not in it"},
        {ELF64_SEGMENT + 8, ELF_SIZE - 0x7ff, 8, "is cut short: an ELF segment is not in it"},
        {ELF64_SEGMENT + 32, 0x801, 8, damaged},
        {ELF64_SEGMENT + 40, 0x7ff, 8, damaged},
        {ELF64_SEGMENT + 24, MIB(1) - 1, 8, "wants to be loaded below 1M"},
        {ELF64_SEGMENT + 24, GIB(4) - 0x7ff, 8, "wants to be loaded above 4G"},
        {ELF64_SEGMENT + 24, UINT64_MAX, 8, "wants to be loaded above 4G"},
        {ELF64_SEGMENT + 40, UINT64_MAX, 8, "wants to be loaded above 4G"},
        {ELF64_SEGMENT + 40, MIB(1) + 1, 8, "has segments that overlap in memory"},
        {ELF64_SEGMENT + 56 + 24, MIB(1) + 0x7ff, 8, "has segments that overlap in memory"},
        {24, MIB(1) - 1, 8, outside},
        {24, MIB(1) + 0x800, 8, outside},
        {24, 0xffffffff80000000 + MIB(2), 8, outside},
        {56, 0, 2, outside},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(spoils); i++) {
        image_elf64(image);
        image_put(image, spoils[i].offset, spoils[i].value, spoils[i].size);
        expect_bad(CONFIG_BOOT_ELF, ELF_SIZE, spoils[i].why);
        if (kernel_probe(CONFIG_BOOT_LINUX, image, ELF_SIZE, &got, &(const char *){NULL}) == 0)
            fail_msg("as Linux: not noticed: %s", spoils[i].why);
    }
    image_elf64(image);
    expect_bad(CONFIG_BOOT_ELF, 19, "not an ELF file");
    expect_bad(CONFIG_BOOT_ELF, 20, "is cut short: its ELF header is not whole");
    expect_bad(CONFIG_BOOT_ELF, 63, "is cut short: its ELF header is not whole");
    expect_bad(CONFIG_BOOT_ELF, 64 + 111, "is cut short: its ELF program headers are not in it");
    image_elf32(image);
    expect_bad(CONFIG_BOOT_LINUX, ELF_SIZE, "is a 32-bit ELF file, no Linux kernel for x86-64");

    /* One segment more than there is room for. */
    image_elf64(image);
    image_put(image, 56, KERNEL_SEGMENTS_MAX + 1, 2);
    for (unsigned i = 1; i <= KERNEL_SEGMENTS_MAX; i++) {
        memcpy(image + ELF64_SEGMENT + i * 56, image + ELF64_SEGMENT, 56);
        image_put(image, ELF64_SEGMENT + i * 56 + 24, MIB(1 + i), 8);
    }
    expect_bad(CONFIG_BOOT_ELF, ELF_SIZE, "has more than 16 segments");
}

/* ---- Multiboot
 * ---------------------------------------------------------------------------------------------- */

static void multiboot(void **state)
{
    (void)state;
    image_elf32(image);
    image_put_multiboot(image, 0x1004, 0x3);
    expect_good(CONFIG_BOOT_MULTIBOOT, ELF_SIZE);
    assert_int_equal(got.kind, KERNEL_MULTIBOOT);
    expect_segment(0, 0x1000, 0x800, MIB(1), 0x800);
    assert_int_equal(got.entry, MIB(1) + 0x10);

    /* At the last place where a header may be; behind a false one; optional wishes; in a 64-bit file. */
    image_elf64(image);
    image_put(image, 0x1000, 0x1badb002, 4);
    image_put_multiboot(image, 8192 - 12, 0xfffe0000);
    expect_good(CONFIG_BOOT_MULTIBOOT, ELF_SIZE);
    assert_int_equal(got.entry, MIB(1) + 0x10);
}

static void put_addresses(uint32_t header, uint32_t load, uint32_t load_end, uint32_t bss_end, uint32_t entry)
{
    memset(image, 0, 0x3000);
    image_put_multiboot(image, 0x100, 0x10003);
    image_put(image, 0x10c, header, 4);
    image_put(image, 0x110, load, 4);
    image_put(image, 0x114, load_end, 4);
    image_put(image, 0x118, bss_end, 4);
    image_put(image, 0x11c, entry, 4);
}

static void multiboot_addresses(void **state)
{
    static const char damaged[] = "has damaged addresses in its Multiboot header";

    (void)state;
    put_addresses(0x200080, 0x200000, 0x201000, 0x205000, 0x200020);
    expect_good(CONFIG_BOOT_MULTIBOOT, 0x3000);
    assert_int_equal(got.segment_count, 1);
    expect_segment(0, 0x80, 0x1000, 0x200000, 0x5000);
    assert_int_equal(got.entry, 0x200020);
    put_addresses(0x200100, 0x200000, 0, 0, 0x202fff);
    expect_good(CONFIG_BOOT_MULTIBOOT, 0x3000);
    expect_segment(0, 0, 0x3000, 0x200000, 0x3000);

    put_addresses(0x200000, 0x200000, 0x202f00, 0x202f00, 0x200000);
    expect_good(CONFIG_BOOT_MULTIBOOT, 0x3000);
    expect_segment(0, 0x100, 0x2f00, 0x200000, 0x2f00);

    put_addresses(0x200000, 0x200001, 0, 0, 0x200001);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, damaged);
    put_addresses(0x200101, 0x200000, 0, 0, 0x200001);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, damaged);
    put_addresses(0x200080, 0x200000, 0x1fffff, 0, 0x200020);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, "is cut short: its Multiboot header says that it is longer");
    put_addresses(0x200100, 0x200000, 0x203001, 0, 0x200020);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, "is cut short: its Multiboot header says that it is longer");
    put_addresses(0x200080, 0x200000, 0x201000, 0x200fff, 0x200020);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, damaged);
    put_addresses(0x200080, 0x200000, 0x200000, 0x1fffff, 0x200020);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, damaged);
    put_addresses(0x200080, 0x200000, 0x201000, 0, 0x201000);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, "has an entry point outside its segments");
    put_addresses(0x200080, 0x200000, 0x201000, 0, 0x1fffff);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, "has an entry point outside its segments");
    put_addresses(0x80080, 0x80000, 0x81000, 0, 0x80000);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x3000, "wants to be loaded below 1M");
    put_addresses(0x200080, 0x200000, 0x201000, 0x205000, 0x200020);
    expect_bad(CONFIG_BOOT_MULTIBOOT, 0x11f, "is cut short: its Multiboot header is not whole");
}

static void multiboot_mistakes(void **state)
{
    static const char none[] = "not a Multiboot 1 kernel: no header in its first 8 KiB";

    (void)state;
    image_elf32(image);
    expect_bad(CONFIG_BOOT_MULTIBOOT, ELF_SIZE, none);
    image_put_multiboot(image, 0x1002, 0x3);
    expect_bad(CONFIG_BOOT_MULTIBOOT, ELF_SIZE, none);
    image_elf32(image);
    image_put_multiboot(image, 8192 - 8, 0x3);
    expect_bad(CONFIG_BOOT_MULTIBOOT, ELF_SIZE + 0x100, none);
    memset(image, 0, sizeof(image));
    expect_bad(CONFIG_BOOT_MULTIBOOT, 11, none);
    image_elf32(image);
    image_put_multiboot(image, 0x1000, 0x3);
    image_put(image, 0x1008, 0, 4);
    expect_bad(CONFIG_BOOT_MULTIBOOT, ELF_SIZE, "not a Multiboot 1 kernel: its header has a wrong checksum");
    image_put_multiboot(image, 0x1000, 0x7);
    expect_bad(CONFIG_BOOT_MULTIBOOT, ELF_SIZE,
               "wants a video mode in its Multiboot header, and a partition has no screen");
    image_put_multiboot(image, 0x1000, 0x8003);
    expect_bad(CONFIG_BOOT_MULTIBOOT, ELF_SIZE,
               "has demands in its Multiboot header that are not known here");
    image_put_multiboot(image, 0x1000, 0x3);
    image[0] = 0;
    expect_bad(CONFIG_BOOT_MULTIBOOT, ELF_SIZE,
               "is a Multiboot 1 kernel, but neither an ELF file nor with addresses in its header");
}

/* A Multiboot2 header in a 32-bit program, with these tags. */
static const char damaged2[] = "has a damaged Multiboot2 header";

static void put_tags(const uint32_t *tags, size_t size)
{
    image_elf32(image);
    image_put_multiboot2_tags(image, 0x1000, tags, size);
}

static void multiboot2(void **state)
{
    const size_t last = 0x7fe8, size = 0x8000;

    (void)state;
    memset(image, 0, sizeof(image));
    image_elf32(image);
    image_put_multiboot2(image, last);
    expect_good(CONFIG_BOOT_MULTIBOOT2, sizeof(image));
    assert_int_equal(got.kind, KERNEL_MULTIBOOT2);
    expect_segment(0, 0x1000, 0x800, MIB(1), 0x800);
    assert_int_equal(got.segment_count, 2);
    assert_int_equal(got.entry, MIB(1) + 0x10);
    expect_place(0, 0, 0, KERNEL_ANYWHERE);
    expect_good(CONFIG_BOOT_MULTIBOOT2, size);
    expect_bad(CONFIG_BOOT_MULTIBOOT2, size - 1, "is cut short: its Multiboot2 header is not whole");
    image_put(image, last + 8, 15, 4);
    image_put(image, last + 12, 0U - 0xe85250d6 - 15, 4);
    expect_bad(CONFIG_BOOT_MULTIBOOT2, sizeof(image), "is cut short: its Multiboot2 header is not whole");
    image_put(image, last + 4, 4, 4);
    image_put(image, last + 12, 0U - 0xe85250d6 - 15 - 4, 4);
    expect_bad(CONFIG_BOOT_MULTIBOOT2, sizeof(image), "is a Multiboot2 kernel, but not for x86");
    image_put(image, last + 12, 0, 4);
    expect_bad(CONFIG_BOOT_MULTIBOOT2, sizeof(image),
               "not a Multiboot2 kernel: its header has a wrong checksum");
    memset(image, 0, sizeof(image));
    image_put_multiboot2(image, 0x4004);
    image_put_multiboot2(image, 0x7ff8);
    expect_bad(CONFIG_BOOT_MULTIBOOT2, sizeof(image),
               "not a Multiboot2 kernel: no header in its first 32 KiB");
    memset(image, 0, sizeof(image));
    image_put_multiboot2(image, 0x1000);
    expect_bad(CONFIG_BOOT_MULTIBOOT2, sizeof(image),
               "is a Multiboot2 kernel, but neither an ELF file nor with addresses in its header");
}

/* Every kind of tag: what it makes of the kernel. Type and flags are one word: flags << 16 | type. */
static void multiboot2_tags(void **state)
{
    static const uint32_t plain[] = {
        1, 44, 1, 2,  3, 4, 6, 9, 14, 15, 21, 0, /* all information that is given, and what pads it */
        6, 8,  4, 12, 2, 0, 7, 8, 8,  12, 0,  0, 9, 12, 0, 0, 0, 8,
    };
    static const uint32_t optional[] = {
        0x10001, 16, 7, 11, 0x10004, 12, 1, 0, 0x10005, 20, 0, 0, 0, 0, 0x10063, 9, 0, 0, 0, 8,
    };
    static const uint32_t entry[] = {3, 12, MIB(1) + 0x20, 0, 0, 8};
    static const uint32_t place[] = {10, 24, MIB(2), 0xffffffff, MIB(2), 2, 0, 8};
    static const uint32_t low_place[] = {0x1000a, 24, 0, MIB(64) - 1, 1, 1, 0, 8};
    static const uint32_t bad_place[] = {0x1000a, 24, 0, MIB(64) - 1, 3, 1, 0, 8};

    (void)state;
    put_tags(plain, sizeof(plain));
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    put_tags(optional, sizeof(optional));
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    expect_place(0, 0, 0, KERNEL_ANYWHERE);
    put_tags(entry, sizeof(entry));
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    assert_int_equal(got.entry, MIB(1) + 0x20);
    /* Its word counts more than an entry point of the file's that makes no sense. */
    image_put(image, 24, 0, 4);
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    put_tags(place, sizeof(place));
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    expect_place(MIB(2), MIB(2), GIB(4) - 1, KERNEL_HIGHEST);
    put_tags(low_place, sizeof(low_place));
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    expect_place(1, MIB(1), MIB(64) - 1, KERNEL_LOWEST);
    put_tags(bad_place, sizeof(bad_place));
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    expect_place(0, 0, 0, KERNEL_ANYWHERE);
}

/* Each of these tags alone, and what is said of it. */
static void multiboot2_tag_mistakes(void **state)
{
    static const char information[] = "asks in its Multiboot2 header for information that is not given";
    static const char relocation[] = "has a damaged tag for relocation in its Multiboot2 header";
    static const char unknown[] = "has demands in its Multiboot2 header that are not known here";
    static const struct {
        uint32_t tag[8];
        const char *why;
    } rows[] = {
        {{1, 12, 5, 0, 0, 8}, information},
        {{1, 16, 1, 64, 0, 8}, information},
        {{1, 12, 0x10001, 0, 0, 8}, information},
        {{1, 7}, damaged2},
        {{2, 23}, damaged2},
        {{2, 24, MIB(1), MIB(1), 0, 0, 0, 8}, "has addresses, but no entry point in its Multiboot2 header"},
        {{3, 11}, damaged2},
        {{3, 12, MIB(1) + 0x800, 0, 0, 8}, "has an entry point outside its segments"},
        {{4, 12, 1, 0, 0, 8}, "insists on a screen in its Multiboot2 header, and a partition has none"},
        {{4, 11}, damaged2},
        {{5, 20, 0, 0, 0, 0, 0, 8},
         "wants a video mode in its Multiboot2 header, and a partition has no screen"},
        {{5, 19}, damaged2},
        {{8, 11}, damaged2},
        {{9, 11}, damaged2},
        {{10, 23}, damaged2},
        {{10, 24, 0, MIB(64), 0, 0, 0, 8}, relocation},
        {{10, 24, 0, MIB(64), 0x3000, 0, 0, 8}, relocation},
        {{10, 24, MIB(64), MIB(64) - 1, 0x1000, 0, 0, 8}, relocation},
        {{10, 24, 0, MIB(1) - 1, 0x1000, 0, 0, 8}, relocation},
        {{10, 24, 0, MIB(64), 0x1000, 3, 0, 8}, relocation},
        {{11, 8, 0, 8}, unknown},
        {{0xffff, 8, 0, 8}, unknown},
        {{6, 8, 6, 8, 6, 8, 6, 8}, damaged2},  /* no end */
        {{6, 8, 6, 33, 6, 8, 0, 8}, damaged2}, /* beyond it */
        {{6, 8, 0, 7}, damaged2},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        put_tags(rows[i].tag, sizeof(rows[i].tag));
        expect_bad(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE, rows[i].why);
    }
}

/* Address tags: they describe a segment as Multiboot 1's fields do, but for what loads a file from its start.
 */
static void multiboot2_addresses(void **state)
{
    uint32_t tags[] = {2, 24, 0x201000, 0x200800, 0x201800, 0x205000, 3, 12, 0x200820, 0, 0, 8};

    (void)state;
    put_tags(tags, sizeof(tags));
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    assert_int_equal(got.segment_count, 1);
    expect_segment(0, 0x800, 0x1000, 0x200800, 0x4800);
    assert_int_equal(got.entry, 0x200820);
    tags[3] = 0xffffffff;
    put_tags(tags, sizeof(tags));
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    expect_segment(0, 0, 0x1800, 0x200000, 0x5000);
    tags[2] = 0xfff; /* the start of the file would be below 0 */
    put_tags(tags, sizeof(tags));
    expect_bad(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE, "has damaged addresses in its Multiboot header");
    tags[2] = 0x201000;
    tags[8] = 0x1fffff;
    put_tags(tags, sizeof(tags));
    expect_bad(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE, "has an entry point outside its segments");
}

/* ---- One kind for another
 * ----------------------------------------------------------------------------------- */

static void wrong_kind(void **state)
{
    (void)state;
    image_bzimage(image);
    expect_bad(CONFIG_BOOT_MULTIBOOT, BZIMAGE_SIZE, "is a Linux kernel, but boot = multiboot");
    expect_bad(CONFIG_BOOT_MULTIBOOT2, BZIMAGE_SIZE, "is a Linux kernel, but boot = multiboot2");
    expect_bad(CONFIG_BOOT_ELF, BZIMAGE_SIZE, "is a Linux kernel, but boot = elf");
    image_elf32(image);
    image_put_multiboot(image, 0x1000, 0x3);
    expect_bad(CONFIG_BOOT_LINUX, ELF_SIZE, "is a Multiboot 1 kernel, but boot = linux");
    expect_bad(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE, "is a Multiboot 1 kernel, but boot = multiboot2");
    image_elf32(image);
    image_put_multiboot2(image, 0x1000);
    expect_bad(CONFIG_BOOT_LINUX, ELF_SIZE, "is a Multiboot2 kernel, but boot = linux");
    expect_bad(CONFIG_BOOT_MULTIBOOT, ELF_SIZE, "is a Multiboot2 kernel, but boot = multiboot");
    /* A file may be of two kinds. */
    image_put_multiboot(image, 0x1100, 0x3);
    expect_good(CONFIG_BOOT_MULTIBOOT, ELF_SIZE);
    expect_good(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    expect_good(CONFIG_BOOT_ELF, ELF_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bzimage),
        cmocka_unit_test(bzimage_places),
        cmocka_unit_test(bzimage_limits),
        cmocka_unit_test(bzimage_mistakes),
        cmocka_unit_test(elf),
        cmocka_unit_test(elf_sections),
        cmocka_unit_test(elf_limits),
        cmocka_unit_test(elf_mistakes),
        cmocka_unit_test(multiboot),
        cmocka_unit_test(multiboot_addresses),
        cmocka_unit_test(multiboot_mistakes),
        cmocka_unit_test(multiboot2),
        cmocka_unit_test(multiboot2_tags),
        cmocka_unit_test(multiboot2_tag_mistakes),
        cmocka_unit_test(multiboot2_addresses),
        cmocka_unit_test(wrong_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
