// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/config/check.c: files and memory. Fails when a message is lost or stands elsewhere, when memory is
 * counted for a partition that is refused, or when a good partition is refused.
 */
#include "core/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/policy_keys.h"
#include "lib/errors.h"
#include "tests/unit/kernel_images.h"

/* ---- Files and errors
 * --------------------------------------------------------------------------------------- */

static uint8_t bzimage[BZIMAGE_SIZE], elf[ELF_SIZE], multiboot[ELF_SIZE], multiboot2[ELF_SIZE];

static const struct {
    const char *name;
    const void *data;
    size_t size;
    int error;
} known[] = {
    {"bz", bzimage, sizeof(bzimage), 0},
    {"elf", elf, sizeof(elf), 0},
    {"mb", multiboot, sizeof(multiboot), 0},
    {"mb2", multiboot2, sizeof(multiboot2), 0},
    {"empty", "", 0, 0},
    {"1m", bzimage, MIB(1), 0}, /* nobody reads the content of a file beside the kernel */
    {"3g", bzimage, GIB(3), 0},
    {"broken", NULL, 0, -EIO},
};

static int find(struct config_files *files __unused, struct slice path, const void **data, size_t *size)
{
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (slice_is(path, known[i].name)) {
            *data = known[i].data;
            *size = known[i].size;
            return known[i].error;
        }
    }
    return -ENOENT;
}

static char found[4096];
static struct config config;

static void collect(struct config_reporter *reporter __unused, struct config_place place, const char *message)
{
    size_t used = strlen(found);

    snprintf(found + used, sizeof(found) - used, "%u:%u: %s\n", place.line, place.column, message);
}

static void expect(const char *text, uint64_t memory, const char *errors)
{
    struct config_reporter reporter = {collect};
    struct config_files files = {find};
    unsigned count = 0, lines = 0;

    found[0] = '\0';
    count += config_parse(&config, text, strlen(text), core_policy_keys, &reporter);
    count += config_check(&config, &files, memory, &reporter);
    assert_string_equal(found, errors);
    for (const char *at = errors; *at; at++)
        lines += *at == '\n';
    assert_int_equal(count, lines);
}

#define LINUX(name, size)     "[partition " name "]\nmemory = " size "\nboot = linux\nkernel = bz\n"
#define MULTIBOOT(name, size) "[partition " name "]\nmemory = " size "\nboot = multiboot\nkernel = mb\n"

/* ---- Tests
 * -------------------------------------------------------------------------------------------------- */

static void good(void **state)
{
    (void)state;
    expect(LINUX("a", "32M") "initrd = 1m\n" MULTIBOOT("b", "16M") "module = 1m x\nmodule = empty\n", MIB(48),
           "");
    expect(LINUX("a", "18M") "initrd = 1m\n", 0, "");
    assert_false(config.partitions[0].refused);
    expect("[partition e]\nmemory = 8M\nboot = linux\nkernel = elf\n", MIB(8), "");
    expect("", MIB(8), "");
}

static void files(void **state)
{
    (void)state;
    expect("[partition a]\nmemory = 32M\nboot = linux\nkernel = ./none\ninitrd = nil\n", 0,
           "4:10: ./none: no such file\n5:10: nil: no such file\n");
    assert_true(config.partitions[0].refused);
    assert_string_equal(config.partitions[0].reason, "./none: no such file");
    expect(MULTIBOOT("b", "16M") "module = mb\nmodule = n1 x\nmodule = broken\n", 0,
           "6:10: n1: no such file\n7:10: broken: cannot be read (error 5)\n");
    /* A partition that is refused already is looked at all the same. */
    expect(LINUX("a", "32M") "initrd = none\nmodule = nil\nvcpus = 0\n", 0,
           "7:9: vcpus = 0: a partition has 1 to 32 processors\n6:1: 'module' is not for boot = linux\n"
           "5:10: none: no such file\n6:10: nil: no such file\n");
    expect("[partition a]\nmemory = 32M\nkernel = none\n", 0,
           "1:12: 'boot' is missing: a partition needs it\n3:10: none: no such file\n");
    expect("[partition a]\nmemory = 32M\nboot = x\nkernel = mb\n", 0,
           "3:8: boot = x: must be linux, multiboot, multiboot2 or elf\n");
}

static void kinds(void **state)
{
#define KERNEL(boot, file) "[partition a]\nmemory = 32M\nboot = " boot "\nkernel = " file "\n"
    (void)state;
    expect(KERNEL("linux", "mb"), 0, "4:10: mb: is a Multiboot 1 kernel, but boot = linux\n");
    expect(KERNEL("linux", "empty"), 0, "4:10: empty: is empty\n");
    expect(KERNEL("multiboot", "bz"), 0, "4:10: bz: is a Linux kernel, but boot = multiboot\n");
    expect(KERNEL("multiboot", "elf"), 0,
           "4:10: elf: not a Multiboot 1 kernel: no header in its first 8 KiB\n");
    expect(KERNEL("multiboot2", "mb2"), 0,
           "3:8: boot = multiboot2: this version loads linux and multiboot\n");
    assert_true(config.partitions[0].refused);
    expect(KERNEL("elf", "elf"), 0, "3:8: boot = elf: this version loads linux and multiboot\n");
    expect(KERNEL("elf", "bz"), 0,
           "4:10: bz: is a Linux kernel, but boot = elf\n"
           "3:8: boot = elf: this version loads linux and multiboot\n");
#undef KERNEL
}

static void command_line(void **state)
{
    char text[4096] = LINUX("a", "32M") "cmdline = ";
    size_t used = strlen(text);

    (void)state;
    memset(text + used, 'x', 2047);
    expect(text, 0, "");
    memset(text + used, 'x', 2048);
    expect(text, 0, "5:11: the command line has 2048 characters, and this kernel takes 2047\n");
}

static void layout(void **state)
{
    (void)state;
    expect(LINUX("a", "16M"), 0, "2:10: memory = 16M: kernel and files need 17M\n");
    expect(LINUX("a", "17M") "initrd = 1m\n", 0, "2:10: memory = 17M: kernel and files need 18M\n");
    expect(LINUX("a", "8G") "initrd = 3g\n", 0,
           "2:10: memory = 8G: kernel and files are too large for any memory\n");
    expect(MULTIBOOT("a", "2M"), 0, "2:10: memory = 2M: kernel and files need 3M\n");
    expect(MULTIBOOT("a", "4M") "module = 1m\nmodule = 1m\n", 0,
           "2:10: memory = 4M: kernel and files need 5M\n");
}

/* What is not known to be good is not measured: one mistake, one message. */
static void layout_of_the_unknown(void **state)
{
    (void)state;
    expect("[partition a]\nmemory = 32M\nboot = linux\nkernel = mb\ninitrd = 3g\n", 0,
           "4:10: mb: is a Multiboot 1 kernel, but boot = linux\n");
    expect(LINUX("a", "1") "initrd = 1m\n", MIB(64), "2:10: memory = 1: a partition needs at least 1M\n");
    expect(LINUX("a", "16M") "initrd = none\n", 0, "5:10: none: no such file\n");
    expect(LINUX("a", "32M") "module = 3g\n", 0, "5:1: 'module' is not for boot = linux\n");
    expect(MULTIBOOT("a", "32M") "initrd = 3g\n", 0, "5:1: 'initrd' is not for boot = multiboot\n");
}

static void memory(void **state)
{
    (void)state;
    expect(LINUX("a", "32M") LINUX("b", "32M") LINUX("c", "20M"), MIB(63),
           "6:10: partition 'b' needs 32M, only 31M is free\n");
    assert_false(config.partitions[0].refused);
    assert_true(config.partitions[1].refused);
    assert_string_equal(config.partitions[1].reason, "partition 'b' needs 32M, only 31M is free");
    assert_false(config.partitions[2].refused);
    /* The last byte; then nothing is left, which is not the same as not to know. */
    expect(LINUX("a", "32M") LINUX("b", "32M"), MIB(64), "");
    expect(LINUX("a", "32M") LINUX("b", "32M"), MIB(32), "6:10: partition 'b' needs 32M, only 0 is free\n");
    /* One that does not start uses nothing, but hears that it would not fit either. */
    expect(LINUX("a", "32M") "vcpus = 0\n" LINUX("b", "32M"), MIB(32),
           "5:9: vcpus = 0: a partition has 1 to 32 processors\n");
    assert_false(config.partitions[1].refused);
    expect(LINUX("a", "64M") "vcpus = 0\n", MIB(32) + KIB(4),
           "5:9: vcpus = 0: a partition has 1 to 32 processors\n"
           "2:10: partition 'a' needs 64M, only 32772K is free\n");
    expect(LINUX("a", "17179869183G") LINUX("b", "17179869183G"), MIB(32),
           "2:10: partition 'a' needs 17179869183G, only 32M is free\n"
           "6:10: partition 'b' needs 17179869183G, only 32M is free\n");
}

static int make_images(void **state)
{
    (void)state;
    image_bzimage(bzimage);
    image_elf64(elf);
    image_elf32(multiboot);
    image_put_multiboot(multiboot, 0x1000, 0x3);
    image_elf32(multiboot2);
    image_put_multiboot2(multiboot2, 0x1000);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),         cmocka_unit_test(files),  cmocka_unit_test(kinds),
        cmocka_unit_test(command_line), cmocka_unit_test(layout), cmocka_unit_test(layout_of_the_unknown),
        cmocka_unit_test(memory),
    };
    return cmocka_run_group_tests(tests, make_images, NULL);
}
