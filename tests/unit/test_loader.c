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

static int plain_read(struct loader_memory *memory, gpa_t address, void *to, size_t size)
{
    struct plain_memory *plain = container_of(memory, struct plain_memory, memory);
    int error = plain_range(plain, address, size);

    if (!error)
        memcpy(to, plain->bytes + address.value, size);
    return error;
}

static struct plain_memory guest = {.memory = {plain_write, plain_fill, plain_read}};

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

static struct layout_range map[] = {
    {0, 0xa0000, 1},
    {0xe0000, 0x20000, 2},
    {MIB(1), MEMORY_SIZE - MIB(1), 1},
};

static void set_memory(uint64_t size)
{
    map[2].size = size - MIB(1);
}

/* A request for the kernel in `kernel`, on memory that nobody has written. */
static struct loader_request request_of(enum config_boot boot, size_t size)
{
    const char *why;

    guest.calls = 0;
    guest.fail_at = 0;
    set_memory(MEMORY_SIZE);
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

/* What firmware would have left, and nothing beside it up to the descriptor table. */
static void expect_firmware(void)
{
    static const uint8_t wanted[0x15] = {0xf8, 0x03, [0x11] = 0x02, [0x13] = 0x80, 0x02};

    for (uint64_t at = 0; at < 0x400; at += 4)
        assert_int_equal(peek(at, 4), 0xf000ff53);
    assert_int_equal(guest.bytes[0xfff53], 0xcf);
    expect_all(0xfff54, MIB(1), UNTOUCHED);
    assert_memory_equal(guest.bytes + 0x400, wanted, sizeof(wanted));
    expect_all(0x415, 0x500, 0);
    expect_all(0x500, LAYOUT_GDT, UNTOUCHED);
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
    assert_int_equal(entry.cr3, LAYOUT_PAGE_TABLES);
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
    expect_firmware();
    expect_all(LAYOUT_GDT + 32, LAYOUT_LINUX_PARAMS, UNTOUCHED);
    expect_all(LAYOUT_LINUX_PARAMS + 0x1000, LAYOUT_PAGE_TABLES, UNTOUCHED);
    expect_all(LAYOUT_PAGE_TABLES + 0x6000, LAYOUT_LINUX_CMDLINE, UNTOUCHED);
    expect_all(LAYOUT_LINUX_CMDLINE + 20, 0xfff53, UNTOUCHED);
    expect_all(MIB(1), MIB(16), UNTOUCHED);
    expect_all(MIB(16) + 0x1000, ramdisk, UNTOUCHED);
    expect_all(ramdisk + sizeof(initrd), MEMORY_SIZE, UNTOUCHED);
}

/* A kernel that can be moved, in memory that begins elsewhere: code, entry point and initrd move along. */
static void linux_moved(void **state)
{
    static const struct layout_range elsewhere[] = {
        {0, 0xa0000, 1}, {0xa0000, 0x60000, 2}, {MIB(19) + 0x1000, MIB(3), 1}};
    const struct loader_file file = {initrd, sizeof(initrd), {NULL, 0}};
    struct loader_request request;

    (void)state;
    memset(initrd, 0x1d, sizeof(initrd));
    image_bzimage(kernel);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.map = elsewhere;
    request.map_count = ARRAY_SIZE(elsewhere);
    request.files = &file;
    request.file_count = 1;
    expect_loaded(&request);
    assert_int_equal(entry.rip, MIB(20) + 0x200);
    assert_memory_equal(guest.bytes + MIB(20), kernel + 0x400, 0x1000);
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x218, 4), MIB(22) + 0x1000 - 0x3000);
    expect_all(MIB(1), MIB(20), UNTOUCHED);

    /* One that cannot be moved. */
    image_put(kernel, 0x234, 0, 1);
    request = request_of(CONFIG_BOOT_LINUX, BZIMAGE_SIZE);
    request.map = elsewhere;
    request.map_count = ARRAY_SIZE(elsewhere);
    expect_error(&request, -ENXIO, "wants to be loaded where the partition has no memory");
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
    set_memory(MIB(17) + 0x2345);
    expect_loaded(&request);
    assert_int_equal(peek(LAYOUT_LINUX_PARAMS + 0x218, 4), MIB(17));
    set_memory(MIB(17) + 0x2344);
    expect_error(&request, -ENOSPC, "kernel and files do not fit into the partition's memory");
    request.file_count = 0;
    set_memory(MIB(17) - 1);
    expect_error(&request, -ENOSPC, "kernel and files do not fit into the partition's memory");
    set_memory(MEMORY_SIZE);
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
    expect_firmware();
    expect_all(LAYOUT_GDT + 32, LAYOUT_MULTIBOOT_INFO, UNTOUCHED);
    expect_all(LAYOUT_LOW_END, 0xfff53, UNTOUCHED);
}

static void multiboot_memory_sizes(void **state)
{
    static const struct layout_range pieces[] = {
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
    set_memory(MIB(5));
    expect_error(&request, -ENOSPC, "kernel and files do not fit into the partition's memory");
    files[0].size = UINT64_MAX;
    expect_error(&request, -E2BIG, "kernel and files are too large for any memory");
    request.file_count = CONFIG_MODULES_MAX + 1;
    expect_error(&request, -EINVAL, "kernel, files and memory map are not what was checked");
}

/* ---- Multiboot2 and flat ELF
 * ---------------------------------------------------------------------------------------------- */

static const uint8_t rsdp_2[64] = {
    'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ', 0x11, 'U', 'm', 'b', 'r', 'a',  ' ', 2, 1, 2,    3,
    4,   36,  0,   0,   0,   5,   6,   7,   8,    9,   10,  11,  12,  0x22, 0,   0, 0, 0xff,
};

/* The next tag of the information must be of this type and size; the address of what follows its header. */
static uint64_t expect_tag(uint64_t *at, uint32_t type, uint32_t size)
{
    uint64_t content = *at + 8;

    assert_int_equal(*at % 8, 0);
    assert_int_equal(peek(*at, 4), type);
    assert_int_equal(peek(*at + 4, 4), size);
    expect_all(*at + size, align_up(*at + size, 8), 0);
    *at = align_up(*at + size, 8);
    return content;
}

/* The tags that tell of command line, loader and memory. */
static void expect_first_tags(uint64_t *at, uint32_t upper)
{
    uint64_t tag = expect_tag(at, 1, 8 + 20);

    assert_string_equal(guest.bytes + tag, "console=ttyS0 quiet");
    tag = expect_tag(at, 2, 8 + 6);
    assert_string_equal(guest.bytes + tag, "Umbra");
    tag = expect_tag(at, 4, 16);
    assert_int_equal(peek(tag, 4), 640);
    assert_int_equal(peek(tag + 4, 4), upper);
    tag = expect_tag(at, 6, 16 + 24 * ARRAY_SIZE(map));
    assert_int_equal(peek(tag, 8), 24);
    for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
        assert_int_equal(peek(tag + 8 + i * 24, 8), map[i].base);
        assert_int_equal(peek(tag + 16 + i * 24, 8), map[i].size);
        assert_int_equal(peek(tag + 24 + i * 24, 8), map[i].type);
    }
}

static void expect_last_tags(uint64_t *at)
{
    uint64_t tag = expect_tag(at, 14, 8 + 20);

    assert_memory_equal(guest.bytes + tag, rsdp_2, 20);
    tag = expect_tag(at, 15, 8 + 36);
    assert_memory_equal(guest.bytes + tag, rsdp_2, 36);
}

static void expect_end(uint64_t info, uint64_t at)
{
    expect_tag(&at, 0, 8);
    assert_int_equal(peek(info, 8), at - info);
    expect_all(at, LAYOUT_LOW_END, UNTOUCHED);
}

static void multiboot2(void **state)
{
    static const uint8_t one[0x1001] = {[0 ... 0x1000] = 0x11}, two[5] = {[0 ... 4] = 0x22};
    const struct loader_file files[] = {
        {one, sizeof(one), SLICE("first module")},
        {two, sizeof(two), SLICE("")},
    };
    struct loader_request request;
    uint64_t at, tag;

    (void)state;
    image_elf64(kernel);
    image_put_multiboot2(kernel, 0x1000);
    request = request_of(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    memcpy(guest.bytes + 0xe0000, rsdp_2, sizeof(rsdp_2));
    request.files = files;
    request.file_count = ARRAY_SIZE(files);
    expect_loaded(&request);

    assert_int_equal(entry.mode, LOADER_PROTECTED_32);
    assert_int_equal(entry.rip, MIB(1) + 0x10);
    assert_int_equal(entry.rax, 0x36d76289);
    assert_int_equal(entry.rbx, LAYOUT_MULTIBOOT_INFO);
    assert_int_equal(entry.rsi | entry.cr3, 0);
    expect_descriptors(0x00cf9b000000ffff);
    assert_memory_equal(guest.bytes + MIB(1), kernel + 0x1000, 0x800);
    expect_all(MIB(2) + 0x100, MIB(2) + 0x3000, 0);

    at = entry.rbx + 8;
    expect_first_tags(&at, (MEMORY_SIZE - MIB(1)) / 1024);
    tag = expect_tag(&at, 3, 8 + 8 + 13);
    assert_int_equal(peek(tag, 4), MIB(2) + 0x3000);
    assert_int_equal(peek(tag + 4, 4), MIB(2) + 0x4001);
    assert_string_equal(guest.bytes + tag + 8, "first module");
    tag = expect_tag(&at, 3, 8 + 8 + 1);
    assert_int_equal(peek(tag, 4), MIB(2) + 0x5000);
    assert_int_equal(peek(tag + 4, 4), MIB(2) + 0x5005);
    assert_string_equal(guest.bytes + tag + 8, "");
    expect_last_tags(&at);
    expect_end(entry.rbx, at);
    expect_all(MIB(2) + 0x3000, MIB(2) + 0x4001, 0x11);
    expect_all(MIB(2) + 0x5000, MIB(2) + 0x5005, 0x22);
    expect_all(MIB(2) + 0x5005, MEMORY_SIZE, UNTOUCHED);
    expect_firmware();
    expect_all(LAYOUT_GDT + 32, LAYOUT_MULTIBOOT_INFO, UNTOUCHED);
}

/* Section headers, of either class; the content of those that no segment brings lies behind the kernel. */
static void multiboot2_sections(void **state)
{
    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        const uint64_t table = wide ? ELF64_SECTIONS_AT : ELF32_SECTIONS_AT, size = wide ? 64 : 40;
        const uint64_t address = wide ? 16 : 12, word = wide ? 8 : 4;
        struct loader_request request;
        uint64_t at, tag;

        (wide ? image_elf64 : image_elf32)(kernel);
        image_put_sections(kernel, wide);
        image_put_multiboot2(kernel, 0x1000);
        request = request_of(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
        request.rsdp = GPA(0);
        expect_loaded(&request);
        at = entry.rbx + 8;
        expect_first_tags(&at, (MEMORY_SIZE - MIB(1)) / 1024);
        tag = expect_tag(&at, 9, (uint32_t)(8 + 12 + ELF_SECTIONS * size));
        expect_end(entry.rbx, at);
        assert_int_equal(peek(tag, 4), ELF_SECTIONS);
        assert_int_equal(peek(tag + 4, 4), size);
        assert_int_equal(peek(tag + 8, 4), 3);
        tag += 12;
        assert_int_equal(peek(tag + 2 * size + address, word), MIB(2) + 0x3000);
        assert_int_equal(peek(tag + 3 * size + address, word), MIB(2) + 0x3030);
        image_put(kernel, table + 2 * size + address, MIB(2) + 0x3000, word);
        image_put(kernel, table + 3 * size + address, MIB(2) + 0x3030, word);
        assert_memory_equal(guest.bytes + tag, kernel + table, ELF_SECTIONS * size);
        expect_all(MIB(2) + 0x3000, MIB(2) + 0x3021, 0x5e);
        expect_all(MIB(2) + 0x3030, MIB(2) + 0x3040, 0x4a);
        expect_all(MIB(2) + 0x3040, MEMORY_SIZE, UNTOUCHED);
    }
}

/* A kernel that can be moved, and wants to be as high as possible. */
static void multiboot2_moved(void **state)
{
    static const uint32_t tags[] = {10, 24, MIB(2), 0xffffffff, MIB(1), 2, 0, 8};
    struct loader_request request;
    uint64_t at, tag;

    (void)state;
    image_elf32(kernel);
    image_put_multiboot2_tags(kernel, 0x1000, tags, sizeof(tags));
    request = request_of(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    request.rsdp = GPA(0);
    expect_loaded(&request);
    assert_int_equal(entry.rip, MIB(22) + 0x10);
    assert_memory_equal(guest.bytes + MIB(22), kernel + 0x1000, 0x800);
    expect_all(MIB(23), MIB(23) + 0x100, 0xda);
    expect_all(MIB(1), MIB(22), UNTOUCHED);
    at = entry.rbx + 8;
    expect_first_tags(&at, (MEMORY_SIZE - MIB(1)) / 1024);
    tag = expect_tag(&at, 21, 12);
    assert_int_equal(peek(tag, 4), MIB(22));
    expect_end(entry.rbx, at);
}

/* Root pointers that are not as long as the newer kind. */
static void multiboot2_old_rsdp(void **state)
{
    static const struct {
        uint8_t revision, length;
    } rows[] = {{0, 36}, {2, 65}};

    (void)state;
    image_elf32(kernel);
    image_put_multiboot2(kernel, 0x1000);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct loader_request request = request_of(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
        uint64_t at = LAYOUT_MULTIBOOT_INFO + 8;

        memcpy(guest.bytes + 0xe0000, rsdp_2, sizeof(rsdp_2));
        guest.bytes[0xe0000 + 15] = rows[i].revision;
        guest.bytes[0xe0000 + 20] = rows[i].length;
        expect_loaded(&request);
        expect_first_tags(&at, (MEMORY_SIZE - MIB(1)) / 1024);
        expect_tag(&at, 14, 8 + 20);
        expect_end(entry.rbx, at);
    }
}

static void multiboot2_refusals(void **state)
{
    static char long_line[LAYOUT_LOW_END - LAYOUT_MULTIBOOT_INFO];
    struct loader_request request;

    (void)state;
    memset(long_line, 'x', sizeof(long_line));
    image_elf32(kernel);
    image_put_multiboot2(kernel, 0x1000);
    request = request_of(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    request.rsdp = GPA(0);
    /* Behind the line there is just room for the other tags: name 16, memory 16 and 16 + 3 ranges, end 8. */
    request.cmdline = (struct slice){long_line, sizeof(long_line) - 8 - 8 - 1 - 16 - 16 - 88 - 8};
    expect_loaded(&request);
    assert_int_equal(peek(LAYOUT_LOW_END - 8, 8), 8ULL << 32);
    expect_all(LAYOUT_LOW_END, 0xfff53, UNTOUCHED);
    request.cmdline.length++;
    expect_error(&request, -E2BIG, "command line and module arguments are too long");
    expect_all(LAYOUT_LOW_END, 0xfff53, UNTOUCHED);
    image_put(kernel, ELF32_SEGMENT + 12, MEMORY_SIZE, 4);
    image_put(kernel, 24, MEMORY_SIZE, 4);
    request = request_of(CONFIG_BOOT_MULTIBOOT2, ELF_SIZE);
    expect_error(&request, -ENOSPC, "kernel and files do not fit into the partition's memory");
}

static void flat_elf(void **state)
{
    struct loader_request request;
    uint64_t at;

    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        (wide ? image_elf64 : image_elf32)(kernel);
        request = request_of(CONFIG_BOOT_ELF, ELF_SIZE);
        memcpy(guest.bytes + 0xe0000, rsdp_2, sizeof(rsdp_2));
        expect_loaded(&request);
        assert_int_equal(entry.mode, wide ? LOADER_LONG_64 : LOADER_PROTECTED_32);
        assert_int_equal(entry.rip, MIB(1) + 0x10);
        assert_int_equal(entry.rax, 0x36d76289);
        assert_int_equal(entry.rbx, LAYOUT_MULTIBOOT_INFO);
        assert_int_equal(entry.rsi, 0);
        assert_int_equal(entry.cr3, wide ? LAYOUT_PAGE_TABLES : 0);
        expect_descriptors(wide ? 0x00af9b000000ffff : 0x00cf9b000000ffff);
        if (wide)
            expect_identity_map(entry.cr3);
        at = entry.rbx + 8;
        expect_first_tags(&at, (MEMORY_SIZE - MIB(1)) / 1024);
        expect_last_tags(&at);
        expect_end(entry.rbx, at);
        expect_all(MIB(1), MIB(1) + 0x800, 0xcd);
        expect_all(MIB(2), MIB(2) + 0x100, 0xda);
        expect_all(MIB(2) + 0x100, MIB(2) + 0x3000, 0);
    }
}

/* ---- The layout
 * ---------------------------------------------------------------------------------------------- */

static void memory_maps(void **state)
{
    static const struct {
        uint64_t memory, base;
        bool fixed;
        unsigned count;
        struct layout_range ram[2]; /* behind the first MiB */
    } rows[] = {
        {MIB(1), 0, false, 2, {{0, 0, 0}}},
        {MIB(64), 0, false, 3, {{MIB(1), MIB(63), 1}}},
        {GIB(3), 0, false, 3, {{MIB(1), GIB(3) - MIB(1), 1}}},
        {GIB(3) + 4096, 0, false, 4, {{MIB(1), GIB(3) - MIB(1), 1}, {GIB(4), 4096, 1}}},
        {MIB(1), MIB(1), true, 3, {{MIB(1), MIB(1), 1}}},
        {MIB(512), GIB(1), true, 3, {{GIB(1), MIB(512), 1}}},
        {GIB(4), GIB(4), true, 3, {{GIB(4), GIB(4), 1}}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct config_partition partition = {
            .memory = rows[i].memory, .memory_base = rows[i].base, .memory_fixed = rows[i].fixed};
        struct layout_range got[LAYOUT_MAP_MAX];

        assert_int_equal(layout_map(&partition, got), rows[i].count);
        assert_true(got[0].base == 0 && got[0].size == 0xa0000 && got[0].type == LAYOUT_RAM);
        assert_true(got[1].base == 0xa0000 && got[1].size == 0x60000 && got[1].type == LAYOUT_RESERVED);
        for (unsigned j = 2; j < rows[i].count; j++) {
            assert_int_equal(got[j].base, rows[i].ram[j - 2].base);
            assert_int_equal(got[j].size, rows[i].ram[j - 2].size);
            assert_int_equal(got[j].type, LAYOUT_RAM);
        }
    }
}

static struct layout layout;

/* Plans in the RAM of a partition with `memory` bytes, from `base` if that is not 0. */
static int plan(const struct kernel_image *of, uint64_t memory, uint64_t base, const uint64_t *sizes,
                unsigned count)
{
    const struct config_partition partition = {
        .memory = memory, .memory_base = base, .memory_fixed = base != 0};
    struct layout_range ranges[LAYOUT_MAP_MAX];

    return layout_plan(&layout, of, ranges, layout_map(&partition, ranges), sizes, count);
}

static struct kernel_image image_at(enum kernel_kind kind, uint64_t start, uint64_t end)
{
    return (struct kernel_image){
        .kind = kind,
        .segments = {{0, 0, start, end - start}},
        .segment_count = 1,
        .start = start,
        .end = end,
        .entry = start,
        .initrd_max = 0x7fffffff,
    };
}

/* At the limits: an initrd that fills all that the kernel allows, modules up to the end. */
static void layout_limits(void **state)
{
    struct kernel_image linux_image = image_at(KERNEL_LINUX_ELF, MIB(1), MIB(16) - 1);
    struct kernel_image other_image = image_at(KERNEL_MULTIBOOT, MIB(1), MIB(2));
    uint64_t sizes[CONFIG_MODULES_MAX] = {GIB(2) - MIB(16)};

    (void)state;
    assert_int_equal(plan(&linux_image, GIB(3), 0, sizes, 1), 0);
    assert_int_equal(layout.files[0], MIB(16));
    assert_int_equal(plan(&linux_image, GIB(2) - 1, 0, sizes, 1), -ENOSPC);
    assert_int_equal(layout.end, GIB(2));
    sizes[0]++;
    assert_int_equal(plan(&linux_image, GIB(3), 0, sizes, 1), -E2BIG);
    sizes[0] = UINT64_MAX;
    assert_int_equal(plan(&linux_image, GIB(3), 0, sizes, 1), -E2BIG);
    assert_int_equal(plan(&linux_image, GIB(3), 0, sizes, 2), -E2BIG);

    sizes[0] = GIB(3) - MIB(2);
    assert_int_equal(plan(&other_image, GIB(3), 0, sizes, 1), 0);
    assert_int_equal(plan(&other_image, GIB(5), 0, sizes, 1), 0);
    sizes[0]++;
    assert_int_equal(plan(&other_image, GIB(3), 0, sizes, 1), -E2BIG);
    assert_int_equal(plan(&other_image, GIB(5), 0, sizes, 1), -E2BIG);
    sizes[0] = UINT64_MAX;
    assert_int_equal(plan(&other_image, GIB(3), 0, sizes, 1), -E2BIG);
    other_image = image_at(KERNEL_MULTIBOOT, MIB(2), GIB(3));
    assert_int_equal(plan(&other_image, GIB(3), 0, sizes, 0), 0);
    assert_int_equal(plan(&other_image, GIB(3) - 1, 0, sizes, 0), -ENOSPC);
    assert_int_equal(layout.end, GIB(3));
    other_image = image_at(KERNEL_MULTIBOOT, MIB(2), GIB(3) + 1);
    assert_int_equal(plan(&other_image, GIB(3), 0, sizes, 0), -ENXIO);
    assert_int_equal(layout.missing, MIB(2));
}

/* Modules stand behind the kernel, then in front of it; one without content takes nothing. */
static void layout_of_modules(void **state)
{
    static const struct layout_range with_hole[] = {
        {MIB(16), MIB(4), 1}, {MIB(20), MIB(4), 2}, {MIB(24), MIB(4), 1}};
    struct kernel_image high = image_at(KERNEL_MULTIBOOT2, MIB(16), MIB(18) + 1);
    const uint64_t sizes[] = {MIB(1), 0, MIB(14), MIB(1)};

    (void)state;
    high.sections.room = 0x10;
    assert_int_equal(plan(&high, MIB(32), 0, sizes, 4), 0);
    assert_int_equal(layout.shift, 0);
    assert_int_equal(layout.sections, MIB(18) + 0x10);
    assert_int_equal(layout.files[0], MIB(18) + 0x1000);
    assert_int_equal(layout.files[1], MIB(18) + 0x1000);
    assert_int_equal(layout.files[2], MIB(1));
    assert_int_equal(layout.files[3], MIB(19) + 0x1000);
    assert_int_equal(plan(&high, MIB(19), 0, sizes, 4), -ENOSPC);
    assert_int_equal(layout.end, MIB(34) + 0x1000);
    assert_int_equal(plan(&high, MIB(18), 0, sizes, 0), -ENOSPC);
    assert_int_equal(layout.end, MIB(18) + 0x20);

    assert_int_equal(
        layout_plan(&layout, &high, with_hole, ARRAY_SIZE(with_hole), &(const uint64_t){MIB(3)}, 1), 0);
    assert_int_equal(layout.files[0], MIB(24));
}

/* Kernels that can be moved, in a fixed range and elsewhere. */
static void layout_of_the_movable(void **state)
{
    const struct kernel_image linux_image = image_at(KERNEL_LINUX_BZIMAGE, MIB(16), MIB(30));
    struct kernel_image image_2 = image_at(KERNEL_MULTIBOOT2, MIB(2) + 0x800, MIB(4) + 0x800);
    struct kernel_image moving = linux_image;
    const uint64_t sizes[] = {MIB(2)};

    (void)state;
    moving.place = (struct kernel_place){MIB(2), MIB(16), GIB(4) - 1, KERNEL_LOWEST};
    assert_int_equal(plan(&moving, MIB(64), GIB(1) + MIB(1), sizes, 1), 0);
    assert_int_equal(MIB(16) + layout.shift, GIB(1) + MIB(2));
    assert_int_equal(layout.files[0], GIB(1) + MIB(63));
    assert_int_equal(plan(&moving, MIB(16), GIB(1) + MIB(1), sizes, 1), -ENOSPC);
    assert_int_equal(layout.end, GIB(1) + MIB(18));
    assert_int_equal(plan(&moving, MIB(64), MIB(1), sizes, 1), 0);
    assert_int_equal(layout.shift, 0);
    assert_int_equal(plan(&moving, MIB(64), GIB(2), sizes, 1), -E2BIG);
    assert_int_equal(plan(&moving, MIB(64), GIB(4), sizes, 1), -ENXIO);
    assert_int_equal(layout.missing, MIB(16));
    assert_int_equal(plan(&linux_image, MIB(64), GIB(1), sizes, 1), -ENXIO);
    assert_int_equal(layout.missing, MIB(16));

    /* Highest, and when that leaves the file no room, lowest. */
    image_2.place = (struct kernel_place){MIB(2), MIB(4), GIB(1) - 1, KERNEL_HIGHEST};
    assert_int_equal(plan(&image_2, GIB(2), 0, sizes, 1), 0);
    assert_int_equal(image_2.start + layout.shift, GIB(1) - MIB(2));
    assert_int_equal(layout.files[0], GIB(1));
    assert_int_equal(plan(&image_2, MIB(9), 0, sizes, 1), 0);
    assert_int_equal(image_2.start + layout.shift, MIB(6));
    assert_int_equal(layout.files[0], MIB(1));
    image_2.place.lowest = MIB(2);
    assert_int_equal(plan(&image_2, MIB(7) + KIB(512), 0, (const uint64_t[]){MIB(3) + KIB(512)}, 1), 0);
    assert_int_equal(image_2.start + layout.shift, MIB(2));
    assert_int_equal(layout.files[0], MIB(4));

    /* Where it is, if it may be there. */
    image_2.place = (struct kernel_place){0x800, MIB(2), MIB(4) + 0x7ff, KERNEL_ANYWHERE};
    assert_int_equal(plan(&image_2, MIB(64), 0, sizes, 0), 0);
    assert_int_equal(layout.shift, 0);
    image_2.place.highest--;
    image_2.place.lowest = MIB(1);
    assert_int_equal(plan(&image_2, MIB(64), 0, sizes, 0), 0);
    assert_int_equal(layout.shift, 0ULL - MIB(1) - 0x800);
    image_2.place.highest = MIB(64);
    image_2.place.lowest = MIB(3);
    assert_int_equal(plan(&image_2, MIB(64), 0, sizes, 0), 0);
    assert_int_equal(layout.shift, MIB(1) - 0x800);
    image_2.place.lowest = MIB(2);
    image_2.place.preference = KERNEL_LOWEST;
    assert_int_equal(plan(&image_2, MIB(64), 0, sizes, 0), 0);
    assert_int_equal(layout.shift, 0ULL - 0x800);
    image_2.place.preference = KERNEL_ANYWHERE;
    image_2.place.highest = GIB(4) - 1;
    image_2.place.alignment = 0x1000;
    assert_int_equal(plan(&image_2, MIB(64), 0, sizes, 0), 0);
    assert_int_equal(layout.shift, 0ULL - 0x800);
    image_2.place.lowest = MIB(3);
    assert_int_equal(plan(&image_2, MIB(64), 0, sizes, 0), 0);
    assert_int_equal(layout.shift, MIB(1) - 0x800);
    image_2.place.lowest = MIB(2);
    image_2.place.highest = MIB(3);
    assert_int_equal(plan(&image_2, MIB(64), 0, sizes, 0), -ENXIO);
}

/* ---- Every kind -----------------------------------------------------------------------------------------
 */

/* As many modules and ranges as there may be. */
static void full_tables(void **state)
{
    static struct layout_range ranges[LOADER_RANGES_MAX];
    struct loader_file files[CONFIG_MODULES_MAX];
    struct loader_request request;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        ranges[i] = (struct layout_range){MIB(i), MIB(1), 1};
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
    request.file_count++;
    expect_error(&request, -EINVAL, "kernel, files and memory map are not what was checked");
}

/* Whichever access fails, the error comes back. */
static void failing_memory(void **state)
{
    static const enum config_boot boots[] = {CONFIG_BOOT_LINUX, CONFIG_BOOT_MULTIBOOT, CONFIG_BOOT_MULTIBOOT2,
                                             CONFIG_BOOT_ELF};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(boots); i++) {
        struct loader_request request;
        unsigned calls;

        image_elf64(kernel);
        if (boots[i] == CONFIG_BOOT_MULTIBOOT)
            image_put_multiboot(kernel, 0x1000, 0x3);
        if (boots[i] == CONFIG_BOOT_MULTIBOOT2)
            image_put_multiboot2(kernel, 0x1000);
        image_put_sections(kernel, true);
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
        cmocka_unit_test(linux_bzimage),
        cmocka_unit_test(linux_moved),
        cmocka_unit_test(linux_without_initrd),
        cmocka_unit_test(linux_elf),
        cmocka_unit_test(linux_refusals),
        cmocka_unit_test(multiboot),
        cmocka_unit_test(multiboot_memory_sizes),
        cmocka_unit_test(multiboot_refusals),
        cmocka_unit_test(multiboot2),
        cmocka_unit_test(multiboot2_sections),
        cmocka_unit_test(multiboot2_moved),
        cmocka_unit_test(multiboot2_old_rsdp),
        cmocka_unit_test(multiboot2_refusals),
        cmocka_unit_test(flat_elf),
        cmocka_unit_test(memory_maps),
        cmocka_unit_test(layout_limits),
        cmocka_unit_test(layout_of_modules),
        cmocka_unit_test(layout_of_the_movable),
        cmocka_unit_test(full_tables),
        cmocka_unit_test(failing_memory),
    };
    return cmocka_run_group_tests(tests, allocate, release);
}
