// SPDX-License-Identifier: BSD-2-Clause
/*
 * boot/multiboot2.c on tags made by hand. Fails when a tag is read wrongly, when a malformed one is followed,
 * or when a module is not found under the names that GRUB and a configuration give it.
 */
#include "boot/multiboot2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/errors.h"

struct builder {
    _Alignas(8) unsigned char bytes[4096];
    uint32_t size;
};

static void put_tag(struct builder *b, uint32_t type, const void *content, uint32_t length)
{
    uint32_t header[2] = {type, 8 + length};

    memcpy(b->bytes + b->size, header, 8);
    memcpy(b->bytes + b->size + 8, content, length);
    b->size = (b->size + 8 + length + 7) & ~7U;
    memcpy(b->bytes, &b->size, 4);
}

static void put_module(struct builder *b, uint32_t start, uint32_t end, const char *string)
{
    unsigned char content[256];

    memcpy(content, &start, 4);
    memcpy(content + 4, &end, 4);
    strcpy((char *)content + 8, string);
    put_tag(b, 3, content, 8 + (uint32_t)strlen(string) + 1);
}

static void begin(struct builder *b)
{
    memset(b, 0, sizeof(*b));
    b->size = 8;
}

static void reads_every_tag(void **state)
{
    (void)state;
    static struct boot_information information;
    struct builder b;
    struct __packed {
        uint32_t entry_size, version;
        uint64_t base, size;
        uint32_t type, zero;
    } map = {24, 0, MIB(1), MIB(63), 1, 0};
    struct __packed {
        uint64_t base;
        uint32_t pitch, width, height;
        uint8_t bits, kind;
    } framebuffer = {0xe0000000, 4096, 1024, 768, 32, 1};

    begin(&b);
    put_tag(&b, 1, "quiet", 6);
    put_tag(&b, 2, "GRUB", 5);
    put_module(&b, 0x100000, 0x101234, "/umbra/kernel/vmlinuz  a b");
    put_tag(&b, 6, &map, sizeof(map));
    put_tag(&b, 8, &framebuffer, sizeof(framebuffer));
    put_tag(&b, 14, "RSD PTR old", 12);
    put_tag(&b, 15, "RSD PTR new", 12);
    put_tag(&b, 0, "", 0);
    assert_int_equal(multiboot2_parse(&information, b.bytes, HPA(0x5000)), 0);
    assert_true(slice_is(information.command_line, "quiet"));
    assert_true(slice_is(information.loader_name, "GRUB"));
    assert_int_equal(information.module_count, 1);
    assert_true(slice_is(information.modules[0].name, "kernel/vmlinuz"));
    assert_true(slice_is(information.modules[0].arguments, "a b"));
    assert_int_equal(information.modules[0].base.value, 0x100000);
    assert_int_equal(information.modules[0].size, 0x1234);
    assert_int_equal(information.memory_count, 1);
    assert_int_equal(information.memory[0].base.value, MIB(1));
    assert_int_equal(information.memory[0].size, MIB(63));
    assert_int_equal(information.memory[0].type, BOOT_MEMORY_RAM);
    assert_true(information.has_framebuffer);
    assert_int_equal(information.framebuffer.width, 1024);
    assert_memory_equal(information.rsdp, "RSD PTR new", 12);
    assert_int_equal(information.size, b.size);
    assert_int_equal(information.base.value, 0x5000);
}

static void finds_modules_by_path(void **state)
{
    (void)state;
    static struct boot_information information;
    static const char *const given[] = {"config", "(hd0,msdos1)/umbra/build/a", "./build/b", "/build/c",
                                        "/umbra/d"};
    static const char *const named[] = {"config", "build/a", "./build/b", "/build/c", "d"};
    struct builder b;

    begin(&b);
    for (unsigned i = 0; i < 5; i++)
        put_module(&b, 0x1000 * (i + 1), 0x1000 * (i + 1) + 1, given[i]);
    put_tag(&b, 0, "", 0);
    assert_int_equal(multiboot2_parse(&information, b.bytes, HPA(0)), 0);
    for (unsigned i = 0; i < 5; i++) {
        const struct boot_module *module = boot_module_find(&information, slice_of(named[i]));
        assert_non_null(module);
        assert_int_equal(module->base.value, 0x1000 * (i + 1));
    }
    assert_null(boot_module_find(&information, SLICE("build")));
    assert_null(boot_module_find(&information, SLICE("config2")));
}

static void refuses_what_is_malformed(void **state)
{
    (void)state;
    static struct boot_information information;
    struct builder b;
    uint32_t size;

    begin(&b); /* no end tag */
    put_tag(&b, 1, "x", 2);
    assert_int_equal(multiboot2_parse(&information, b.bytes, HPA(0)), -EINVAL);

    begin(&b); /* a tag longer than the whole */
    put_tag(&b, 1, "x", 2);
    put_tag(&b, 0, "", 0);
    size = 4000;
    memcpy(b.bytes + 12, &size, 4);
    assert_int_equal(multiboot2_parse(&information, b.bytes, HPA(0)), -EINVAL);

    size = 4; /* and one shorter than its header */
    memcpy(b.bytes + 12, &size, 4);
    assert_int_equal(multiboot2_parse(&information, b.bytes, HPA(0)), -EINVAL);
}

static void counts_modules_beyond_the_table(void **state)
{
    (void)state;
    static struct boot_information information;
    static struct builder b;

    begin(&b);
    for (unsigned i = 0; i < BOOT_MODULES_MAX + 3; i++)
        put_module(&b, 0x1000, 0x1001, "m");
    put_tag(&b, 0, "", 0);
    assert_int_equal(multiboot2_parse(&information, b.bytes, HPA(0)), 0);
    assert_int_equal(information.module_count, BOOT_MODULES_MAX);
    assert_int_equal(information.modules_ignored, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_tag),
        cmocka_unit_test(finds_modules_by_path),
        cmocka_unit_test(refuses_what_is_malformed),
        cmocka_unit_test(counts_modules_beyond_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
