// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/loader and core/config/layout.c on a guest memory of plain bytes. Fails when a byte that the protocol
 * wants is elsewhere or another, when anything is written outside what the layout allots, and when what does
 * not fit is loaded.
 */
#include "core/loader/loader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/config/layout.h"
#include "lib/errors.h"
#include "tests/unit/kernel_images.h"

/* ---- Guest memory
 * ------------------------------------------------------------------------------------------- */

#define MEMORY_SIZE MIB(24)
#define UNTOUCHED   0xee

struct plain_memory {
    struct loader_memory memory;
    uint8_t *bytes;
    unsigned calls;
    unsigned fail_at; /* this call fails; 0: none */
};

static int plain_range(struct plain_memory *plain, gpa_t address, size_t size)
{
    assert_true(size > 0 && address.value <= MEMORY_SIZE && size <= MEMORY_SIZE - address.value);
    return ++plain->calls == plain->fail_at ? -EFAULT : 0;
}

static int plain_write(struct loader_memory *memory, gpa_t address, const void *from, size_t size)
{
    struct plain_memory *plain = container_of(memory, struct plain_memory, memory);
    int error = plain_range(plain, address, size);

    if (!error)
        memcpy(plain->bytes + address.value, from, size);
    return error;
}

static int plain_fill(struct loader_memory *memory, gpa_t address, uint8_t byte, size_t size)
{
    struct plain_memory *plain = container_of(memory, struct plain_memory, memory);
    int error = plain_range(plain, address, size);

    if (!error)
        memset(plain->bytes + address.value, byte, size);
    return error;
}

static struct plain_memory guest = {.memory = {plain_write, plain_fill, MEMORY_SIZE}};

static uint64_t peek(uint64_t address, size_t size)
{
    uint64_t value = 0;

    memcpy(&value, guest.bytes + address, size);
    return value;
}

/* Every byte of [from, to) is `byte`. */
static void expect_all(uint64_t from, uint64_t to, uint8_t byte)
{
    for (uint64_t at = from; at < to; at++)
        if (guest.bytes[at] != byte)
            fail_msg("at 0x%llx: 0x%02x", (unsigned long long)at, guest.bytes[at]);
}

/* ---- Requests
 * ----------------------------------------------------------------------------------------------- */

static uint8_t kernel[0x3000];
static struct kernel_image image;
static struct loader_entry entry;

static const struct loader_range map[] = {
    {0, 0xa0000, 1},
    {0xe0000, 0x20000, 2},
    {MIB(1), MEMORY_SIZE - MIB(1), 1},
};

/* A request for the kernel in `kernel`, on memory that nobody has written. */
static struct loader_request request_of(enum config_boot boot, size_t size)
{
    const char *why;

    guest.calls = 0;
    guest.fail_at = 0;
    guest.memory.low_size = MEMORY_SIZE;
    memset(guest.bytes, UNTOUCHED, MEMORY_SIZE);
    if (kernel_probe(boot, kernel, size, &image, &why))
        fail_msg("refused: %s", why);
    return (struct loader_request){
        .image = &image,
        .kernel = {.data = kernel, .size = size},
        .cmdline = SLICE("console=ttyS0 quiet"),
        .map = map,
        .map_count = ARRAY_SIZE(map),
        .rsdp = GPA(0xe0000),
    };
}

static void expect_loaded(const struct loader_request *request)
{
    const char *why = "";

    if (loader_load(&guest.memory, request, &entry, &why))
        fail_msg("refused: %s", why);
}

static void expect_error(const struct loader_request *request, int error, const char *wanted)
{
    const char *why = "";

    assert_int_equal(loader_load(&guest.memory, request, &entry, &why), error);
    assert_string_equal(why, wanted);
}

static void expect_descriptors(uint64_t code)
{
    assert_int_equal(entry.gdt_base, LAYOUT_GDT);
    assert_int_equal(entry.gdt_limit, 31);
    assert_int_equal(peek(entry.gdt_base, 8), 0);
    assert_int_equal(peek(entry.gdt_base + 8, 8), 0);
    assert_int_equal(peek(entry.gdt_base + LOADER_CODE_SELECTOR, 8), code);
    assert_int_equal(peek(entry.gdt_base + LOADER_DATA_SELECTOR, 8), 0x00cf93000000ffff);
}

/* ---- Linux
 * -------------------------------------------------------------------------------------------------- */

static uint8_t initrd[0x2345];

/* The tables map the first 4 GiB to themselves and nothing else. */
static void expect_identity_map(uint64_t cr3)
{
    const uint64_t flags = 0xfff;

    for (unsigned i = 0; i < 2048 * 4; i++) {
        uint64_t address = (uint64_t)i << 21;
        uint64_t top = peek(cr3 + (address >> 39) * 8, 8);
        uint64_t second = peek((top & ~flags) + (address >> 30 & 511) * 8, 8);

        assert_int_equal(top & flags, 3);
        if (address >= GIB(4)) {
            assert_int_equal(second, 0);
            continue;
        }
        assert_int_equal(second & flags, 3);
        assert_int_equal(peek((second & ~flags) + (address >> 21 & 511) * 8, 8), address | 0x83);
    }
    expect_all(cr3 + 8, cr3 + PAGE_SIZE, 0);
}

static void linux_bzimage(void **state)
{
    struct loader_request request;
    const struct loader_file file = {initrd, sizeof(initrd), {NULL, 0}};
    uint64_t ramdisk;

    (void)state;
    memset(initrd, 0x1d, sizeof(initrd));
    image_bzimage(kernel);
    image_put(kernel, 0x218, 0x12345678, 4);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.files = &file;
    request.file_count = 1;
    expect_loaded(&request);

    assert_int_equal(entry.mode, LOADER_LONG_64);
    assert_int_equal(entry.rip, MIB(16) + 0x200);
    assert_int_equal(entry.rsi, LAYOUT_LINUX_PARAMS);
    assert_int_equal(entry.cr3, LAYOUT_LINUX_PAGE_TABLES);
    assert_int_equal(entry.rax | entry.rbx, 0);
    expect_descriptors(0x00af9b000000ffff);
    expect_identity_map(entry.cr3);

    /* boot_params: all of it written, the header as in the file but for what a loader fills in. */
    expect_all(entry.rsi, entry.rsi + 0x70, 0);
    assert_int_equal(peek(entry.rsi + 0x70, 8), 0xe0000);
    assert_int_equal(peek(entry.rsi + 0x1e8, 1), 3);
    assert_int_equal(peek(entry.rsi + 0x1ef, 1), 0);
    assert_memory_equal(guest.bytes + entry.rsi + 0x1f1, kernel + 0x1f1, 0x210 - 0x1f1);
    assert_int_equal(peek(entry.rsi + 0x210, 1), 0xff);
    assert_memory_equal(guest.bytes + entry.rsi + 0x211, kernel + 0x211, 0x218 - 0x211);
    assert_memory_equal(guest.bytes + entry.rsi + 0x22c, kernel + 0x22c, 0x268 - 0x22c);
    for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
        assert_int_equal(peek(entry.rsi + 0x2d0 + i * 20, 8), map[i].base);
        assert_int_equal(peek(entry.rsi + 0x2d8 + i * 20, 8), map[i].size);
        assert_int_equal(peek(entry.rsi + 0x2e0 + i * 20, 4), map[i].type);
    }
    expect_all(entry.rsi + 0x2d0 + 60, entry.rsi + 0x1000, 0);
    assert_int_equal(peek(entry.rsi + 0x228, 4), LAYOUT_LINUX_CMDLINE);
    assert_string_equal(guest.bytes + LAYOUT_LINUX_CMDLINE, "console=ttyS0 quiet");

    /* Code and initrd, each whole; nothing beside them. */
    assert_memory_equal(guest.bytes + MIB(16), kernel + 0x400, 0x1000);
    ramdisk = peek(entry.rsi + 0x218, 4);
    assert_int_equal(ramdisk, MEMORY_SIZE - 0x3000);
    assert_int_equal(peek(entry.rsi + 0x21c, 4), sizeof(initrd));
    assert_memory_equal(guest.bytes + ramdisk, initrd, sizeof(initrd));
    expect_all(0, LAYOUT_GDT, UNTOUCHED);
    expect_all(LAYOUT_GDT + 32, LAYOUT_LINUX_PARAMS, UNTOUCHED);
    expect_all(LAYOUT_LINUX_PARAMS + 0x1000, LAYOUT_LINUX_PAGE_TABLES, UNTOUCHED);
    expect_all(LAYOUT_LINUX_PAGE_TABLES + 0x6000, LAYOUT_LINUX_CMDLINE, UNTOUCHED);
    expect_all(LAYOUT_LINUX_CMDLINE + 20, MIB(16), UNTOUCHED);
    expect_all(MIB(16) + 0x1000, ramdisk, UNTOUCHED);
    expect_all(ramdisk + sizeof(initrd), MEMORY_SIZE, UNTOUCHED);
}

static void linux_without_initrd(void **state)
{
    struct loader_request request;

    (void)state;
    image_bzimage(kernel);
    image_put(kernel, 0x218, 0x12345678, 4);
    image_put(kernel, 0x21c, 0x12345678, 4);
    image_put(kernel, 0x206, 0x020d, 2);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.cmdline = SLICE("");
    expect_loaded(&request);
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x218, 8), 0);
    assert_int_equal(guest.bytes[LAYOUT_LINUX_CMDLINE], 0);
    /* Before protocol 2.14 the place of the ACPI root pointer has no such meaning. */
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x70, 8), 0);
    image_put(kernel, 0x206, 0x020e, 2);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    expect_loaded(&request);
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x70, 8), 0xe0000);
}

static void linux_elf(void **state)
{
    struct loader_request request;

    (void)state;
    image_elf64(kernel);
    request = request_of(CONFIG_BOOT_LINUX, ELF_SIZE);
    expect_loaded(&request);
    assert_int_equal(entry.mode, LOADER_LONG_64);
    assert_int_equal(entry.rip, MIB(1) + 0x10);
    assert_int_equal(entry.rsi, LAYOUT_LINUX_PARAMS);
    assert_int_equal(peek(entry.rsi + 0x70, 8), 0xe0000);
    assert_int_equal(peek(entry.rsi + 0x1fe, 2), 0xaa55);
    assert_int_equal(peek(entry.rsi + 0x202, 4), 0x53726448);
    assert_int_equal(peek(entry.rsi + 0x206, 2), 0x020f);
    assert_int_equal(peek(entry.rsi + 0x210, 2), 0x01ff);
    assert_int_equal(peek(entry.rsi + 0x228, 4), LAYOUT_LINUX_CMDLINE);
    expect_all(MIB(1), MIB(1) + 0x800, 0xcd);
    expect_all(MIB(1) + 0x800, MIB(2), UNTOUCHED);
    expect_all(MIB(2), MIB(2) + 0x100, 0xda);
    expect_all(MIB(2) + 0x100, MIB(2) + 0x3000, 0);
    expect_all(MIB(2) + 0x3000, MEMORY_SIZE, UNTOUCHED);
}

static void linux_refusals(void **state)
{
    static char long_line[0x80000];
    struct loader_request request;
    struct loader_file files[2] = {{initrd, sizeof(initrd), {NULL, 0}}, {initrd, 1, {NULL, 0}}};

    (void)state;
    memset(long_line, 'x', sizeof(long_line));
    image_bzimage(kernel);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.cmdline = (struct slice){long_line, 2048};
    expect_error(&request, -E2BIG, "the command line is longer than this kernel takes");
    request.cmdline.length = 2047;
    expect_loaded(&request);
    /* A kernel may claim to take more than there is room for. */
    image_put(kernel, 0x238, UINT32_MAX, 4);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.cmdline = (struct slice){long_line, LAYOUT_LOW_END - LAYOUT_LINUX_CMDLINE};
    expect_error(&request, -E2BIG, "the command line is longer than this kernel takes");
    request.cmdline.length--;
    expect_loaded(&request);
    assert_int_equal(guest.bytes[LAYOUT_LOW_END - 1], 0);
    assert_int_equal(guest.bytes[LAYOUT_LOW_END], UNTOUCHED);

    image_bzimage(kernel);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.files = files;
    request.file_count = 1;
    guest.memory.low_size = MIB(17) + 0x2345;
    expect_loaded(&request);
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x218, 4), MIB(17));
    guest.memory.low_size--;
    expect_error(&request, -ENOSPC, "kernel and files do not fit into the partition's memory");
    request.file_count = 0;
    guest.memory.low_size = MIB(17) - 1;
    expect_error(&request, -ENOSPC, "kernel and files do not fit into the partition's memory");
    guest.memory.low_size = MEMORY_SIZE;
    request.file_count = 2;
    expect_error(&request, -E2BIG, "kernel and files are too large for any memory");
    request.file_count = 0;
    request.kernel.size--;
    expect_error(&request, -EINVAL, "kernel, files and memory map are not what was checked");
    request.kernel.size++;
    request.map_count = LOADER_RANGES_MAX + 1;
    expect_error(&request, -EINVAL, "kernel, files and memory map are not what was checked");

    /* An initrd below the kernel's limit, though there is memory above it. */
    image_put(kernel, 0x22c, MIB(20) - 1, 4);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.files = files;
    request.file_count = 1;
    expect_loaded(&request);
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x218, 4), MIB(20) - 0x3000);
    image_put(kernel, 0x22c, MIB(17) + 0x2343, 4);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.files = files;
    request.file_count = 1;
    expect_error(&request, -E2BIG, "kernel and files are too large for any memory");
}

/* ---- Multiboot
 * ---------------------------------------------------------------------------------------------- */

static void multiboot(void **state)
{
    static const uint8_t one[0x1001] = {[0 ... 0x1000] = 0x11}, two[5] = {[0 ... 4] = 0x22};
    const struct loader_file files[] = {
        {one, sizeof(one), SLICE("first module")},
        {two, sizeof(two), SLICE("")},
    };
    struct loader_request request;
    uint64_t info, modules, ranges;

    (void)state;
    image_elf32(kernel);
    image_put_multiboot(kernel, 0x1000, 0x3);
    request = request_of(CONFIG_BOOT_MULTIBOOT, ELF_SIZE);
    request.files = files;
    request.file_count = ARRAY_SIZE(files);
    expect_loaded(&request);

    assert_int_equal(entry.mode, LOADER_PROTECTED_32);
    assert_int_equal(entry.rip, MIB(1) + 0x10);
    assert_int_equal(entry.rax, 0x2badb002);
    assert_int_equal(entry.rsi | entry.cr3, 0);
    expect_descriptors(0x00cf9b000000ffff);
    assert_memory_equal(guest.bytes + MIB(1), kernel + 0x1000, 0x800);
    expect_all(MIB(2) + 0x100, MIB(2) + 0x3000, 0);

    info = entry.rbx;
    assert_int_equal(peek(info, 4), 0x24d);
    assert_int_equal(peek(info + 4, 4), 640);
    assert_int_equal(peek(info + 8, 4), (MEMORY_SIZE - MIB(1)) / 1024);
    assert_int_equal(peek(info + 12, 4), 0);
    assert_string_equal(guest.bytes + peek(info + 16, 4), "console=ttyS0 quiet");
    assert_string_equal(guest.bytes + peek(info + 64, 4), "Umbra");

    assert_int_equal(peek(info + 20, 4), 2);
    modules = peek(info + 24, 4);
    assert_int_equal(peek(modules, 4), MIB(2) + 0x3000);
    assert_int_equal(peek(modules + 4, 4), MIB(2) + 0x4001);
    assert_string_equal(guest.bytes + peek(modules + 8, 4), "first module");
    assert_int_equal(peek(modules + 12, 4), 0);
    assert_int_equal(peek(modules + 16, 4), MIB(2) + 0x5000);
    assert_int_equal(peek(modules + 20, 4), MIB(2) + 0x5005);
    assert_string_equal(guest.bytes + peek(modules + 24, 4), "");
    expect_all(MIB(2) + 0x3000, MIB(2) + 0x4001, 0x11);
    expect_all(MIB(2) + 0x4001, MIB(2) + 0x5000, UNTOUCHED);
    expect_all(MIB(2) + 0x5000, MIB(2) + 0x5005, 0x22);
    expect_all(MIB(2) + 0x5005, MEMORY_SIZE, UNTOUCHED);

    assert_int_equal(peek(info + 44, 4), ARRAY_SIZE(map) * 24);
    ranges = peek(info + 48, 4);
    for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
        assert_int_equal(peek(ranges + i * 24, 4), 20);
        assert_int_equal(peek(ranges + i * 24 + 4, 8), map[i].base);
        assert_int_equal(peek(ranges + i * 24 + 12, 8), map[i].size);
        assert_int_equal(peek(ranges + i * 24 + 20, 4), map[i].type);
    }
    expect_all(0, LAYOUT_GDT, UNTOUCHED);
    expect_all(LAYOUT_GDT + 32, LAYOUT_MULTIBOOT_INFO, UNTOUCHED);
    expect_all(LAYOUT_LOW_END, MIB(1), UNTOUCHED);
}

static void multiboot_memory_sizes(void **state)
{
    static const struct loader_range pieces[] = {
        {0, 0x80000, 1},     {0x80000, 0x10000, 1}, {0x90000, 0x1000, 2}, {MIB(1), MIB(1), 1},
        {MIB(2), MIB(1), 1}, {MIB(3), MIB(1), 2},   {MIB(4), MIB(20), 1}, {GIB(4), GIB(1), 1},
    };
    struct loader_request request;

    (void)state;
    image_elf32(kernel);
    image_put_multiboot(kernel, 0x1000, 0x3);
    request = request_of(CONFIG_BOOT_MULTIBOOT, ELF_SIZE);
    request.map = pieces;
    request.map_count = ARRAY_SIZE(pieces);
    expect_loaded(&request);
    assert_int_equal(peek(entry.rbx, 4), 0x245);
    assert_int_equal(peek(entry.rbx + 4, 4), 0x90000 / 1024);
    assert_int_equal(peek(entry.rbx + 8, 4), 2048);
    assert_int_equal(peek(entry.rbx + 20, 8), 0);
}

static void multiboot_refusals(void **state)
{
    static char long_line[LAYOUT_LOW_END - LAYOUT_MULTIBOOT_INFO];
    struct loader_file files[CONFIG_MODULES_MAX + 1] = {{initrd, MIB(3), {NULL, 0}}};
    struct loader_request request;

    (void)state;
    memset(long_line, 'x', sizeof(long_line));
    image_elf32(kernel);
    image_put_multiboot(kernel, 0x1000, 0x3);
    request = request_of(CONFIG_BOOT_MULTIBOOT, ELF_SIZE);
    request.cmdline = (struct slice){long_line, sizeof(long_line)};
    expect_error(&request, -E2BIG, "command line and module arguments are too long");
    expect_all(0xa0000, MIB(1), UNTOUCHED);
    request.cmdline = SLICE("x");
    request.files = files;
    request.file_count = 1;
    guest.memory.low_size = MIB(5);
    expect_error(&request, -ENOSPC, "kernel and files do not fit into the partition's memory");
    files[0].size = UINT64_MAX;
    expect_error(&request, -E2BIG, "kernel and files are too large for any memory");
    request.file_count = CONFIG_MODULES_MAX + 1;
    expect_error(&request, -EINVAL, "kernel, files and memory map are not what was checked");
}

/* ---- Every kind -----------------------------------------------------------------------------------------
 */

/* What the layout says at its limits: an initrd that fills all that the kernel allows, modules up to the end.
 */
static void layout_limits(void **state)
{
    struct kernel_image linux_image = {
        .kind = KERNEL_LINUX_ELF, .end = MIB(16) - 1, .initrd_max = 0x7fffffff};
    struct kernel_image other_image = {.kind = KERNEL_MULTIBOOT, .end = MIB(2)};
    uint64_t sizes[CONFIG_MODULES_MAX] = {GIB(2) - MIB(16)};
    struct layout layout;

    (void)state;
    assert_int_equal(layout_plan(&layout, &linux_image, GIB(3), sizes, 1), 0);
    assert_int_equal(layout.files[0], MIB(16));
    assert_int_equal(layout.needed, GIB(2));
    sizes[0]++;
    assert_int_equal(layout_plan(&layout, &linux_image, GIB(3), sizes, 1), -E2BIG);
    linux_image.end = 0;
    sizes[0] = GIB(2);
    assert_int_equal(layout_plan(&layout, &linux_image, GIB(2), sizes, 1), 0);
    assert_int_equal(layout.files[0], 0);
    sizes[0] = UINT64_MAX;
    assert_int_equal(layout_plan(&layout, &linux_image, GIB(3), sizes, 1), -E2BIG);

    sizes[0] = GIB(3) - MIB(2);
    assert_int_equal(layout_plan(&layout, &other_image, GIB(3), sizes, 1), 0);
    sizes[0]++;
    assert_int_equal(layout_plan(&layout, &other_image, GIB(3), sizes, 1), -E2BIG);
    other_image.end = GIB(3);
    assert_int_equal(layout_plan(&layout, &other_image, GIB(3), sizes, 0), 0);
    assert_int_equal(layout_plan(&layout, &other_image, GIB(3) - 1, sizes, 0), -ENOSPC);
    assert_int_equal(layout.needed, GIB(3));
    other_image.end++;
    assert_int_equal(layout_plan(&layout, &other_image, GIB(3), sizes, 0), -E2BIG);
}

static void unsupported_kinds(void **state)
{
    struct loader_request request;

    (void)state;
    image_elf32(kernel);
    request = request_of(CONFIG_BOOT_ELF, ELF_SIZE);
    expect_error(&request, -EOPNOTSUPP, "this version loads linux and multiboot");
    image_put_multiboot2(kernel, 0x1000);
    request = request_of(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    expect_error(&request, -EOPNOTSUPP, "this version loads linux and multiboot");
}

/* As many modules and ranges as there may be. */
static void full_tables(void **state)
{
    static struct loader_range ranges[LOADER_RANGES_MAX];
    struct loader_file files[CONFIG_MODULES_MAX];
    struct loader_request request;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        ranges[i] = (struct loader_range){MIB(i), MIB(1), 1};
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++)
        files[i] = (struct loader_file){initrd, 1, SLICE("x")};
    image_elf64(kernel);
    request = request_of(CONFIG_BOOT_LINUX, ELF_SIZE);
    request.map = ranges;
    request.map_count = ARRAY_SIZE(ranges);
    expect_loaded(&request);
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x1e8, 1), 128);
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x2d0 + 127 * 20, 8), MIB(127));

    image_put_multiboot(kernel, 0x1000, 0x3);
    request = request_of(CONFIG_BOOT_MULTIBOOT, ELF_SIZE);
    request.map = ranges;
    request.map_count = ARRAY_SIZE(ranges);
    request.files = files;
    request.file_count = ARRAY_SIZE(files);
    expect_loaded(&request);
    assert_int_equal(peek(entry.rbx + 20, 4), CONFIG_MODULES_MAX);
    assert_string_equal(guest.bytes + peek(entry.rbx + 16, 4), "console=ttyS0 quiet");
}

/* Whichever access fails, the error comes back. */
static void failing_memory(void **state)
{
    static const enum config_boot boots[] = {CONFIG_BOOT_LINUX, CONFIG_BOOT_MULTIBOOT};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(boots); i++) {
        struct loader_request request;
        unsigned calls;

        image_elf64(kernel);
        if (boots[i] == CONFIG_BOOT_MULTIBOOT)
            image_put_multiboot(kernel, 0x1000, 0x3);
        request = request_of(boots[i], ELF_SIZE);
        expect_loaded(&request);
        calls = guest.calls;
        for (unsigned call = 1; call <= calls; call++) {
            guest.calls = 0;
            guest.fail_at = call;
            expect_error(&request, -EFAULT, "the partition's memory cannot be written");
            assert_int_equal(guest.calls, call);
        }
    }
}

static int allocate(void **state)
{
    (void)state;
    guest.bytes = malloc(MEMORY_SIZE);
    return guest.bytes ? 0 : -1;
}

static int release(void **state)
{
    (void)state;
    free(guest.bytes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linux_bzimage),      cmocka_unit_test(linux_without_initrd),
        cmocka_unit_test(linux_elf),          cmocka_unit_test(linux_refusals),
        cmocka_unit_test(multiboot),          cmocka_unit_test(multiboot_memory_sizes),
        cmocka_unit_test(multiboot_refusals), cmocka_unit_test(layout_limits),
        cmocka_unit_test(unsupported_kinds),  cmocka_unit_test(full_tables),
        cmocka_unit_test(failing_memory),
    };
    return cmocka_run_group_tests(tests, allocate, release);
}
