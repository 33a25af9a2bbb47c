// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/config/check.c: files, memory, processors, regions. Fails when a message is lost or stands elsewhere,
 * when something is kept for a partition that is refused, when two get what only one can have, or when a good
 * partition is refused.
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

static void expect_on(unsigned processors, const char *text, uint64_t memory, const char *errors)
{
    struct config_reporter reporter = {collect};
    struct config_files files = {find};
    unsigned count = 0, lines = 0;

    found[0] = '\0';
    count += config_parse(&config, text, strlen(text), core_policy_keys, &reporter);
    count += config_check(&config, &files, memory, processors, &reporter);
    assert_string_equal(found, errors);
    for (const char *at = errors; *at; at++)
        lines += *at == '\n';
    assert_int_equal(count, lines);
}

static void expect(const char *text, uint64_t memory, const char *errors)
{
    expect_on(0, text, memory, errors);
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
    expect(KERNEL("multiboot2", "mb2"), 0, "");
    expect(KERNEL("multiboot2", "mb"), 0, "4:10: mb: is a Multiboot 1 kernel, but boot = multiboot2\n");
    assert_true(config.partitions[0].refused);
    expect(KERNEL("elf", "elf"), 0, "");
    expect(KERNEL("elf", "bz"), 0, "4:10: bz: is a Linux kernel, but boot = elf\n");
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

/* Memory at fixed places: the kernel has to get there, two cannot be at one, and 1M comes on top. */
static void fixed_memory(void **state)
{
#define AT(name, size, base) MULTIBOOT(name, size " at " base)
    (void)state;
    expect(AT("a", "4M", "1M"), 0, "");
    expect(AT("a", "1M", "1M"), 0, "2:10: memory = 1M: kernel and files need 2M\n");
    expect(AT("a", "4M", "1M") "module = 1m\nmodule = 1m\n", 0, "");
    expect(AT("a", "4M", "1M") "module = 1m\nmodule = 1m\nmodule = 1m\n", 0,
           "2:10: memory = 4M: kernel and files need 5M\n");
    expect(AT("a", "4M", "1G"), 0,
           "2:10: memory = 4M: the kernel has to be at 0x100000, and no memory is there\n");
    /* A kernel that can be moved goes there. */
    expect(LINUX("a", "32M at 1G") "initrd = 1m\n", MIB(33), "");
    expect(LINUX("a", "32M at 1G"), MIB(33) - KIB(4), "2:10: partition 'a' needs 33M, only 33788K is free\n");

    expect(LINUX("a", "32M at 1G") LINUX("b", "32M at 1056M") LINUX("c", "32M at 992M"), 0, "");
    expect(LINUX("a", "32M at 1G") LINUX("b", "32M at 1052M") LINUX("c", "64M at 992M") LINUX("d", "32M"), 0,
           "6:10: partition 'b' cannot have memory at 0x41c00000, where partition 'a' has some\n"
           "10:10: partition 'c' cannot have memory at 0x40000000, where partition 'a' has some\n");
    assert_false(config.partitions[0].refused);
    assert_true(config.partitions[1].refused);
    /* One that is refused is in nobody's way. */
    expect(LINUX("a", "32M at 1G") "vcpus = 0\n" LINUX("b", "32M at 1G"), 0,
           "5:9: vcpus = 0: a partition has 1 to 32 processors\n");
    assert_false(config.partitions[1].refused);
#undef AT
}

static void processors(void **state)
{
#define ON(name, cpus) LINUX(name, "32M") "cpus = " cpus "\n"
    (void)state;
    expect_on(4, ON("a", "2-3") ON("b", "shared on 0-1 weight 3") ON("c", "shared on 1") ON("d", "shared"), 0,
              "");
    expect_on(64, ON("a", "63"), 0, "");
    expect_on(63, ON("a", "63"), 0,
              "5:8: cpus: there is no processor 63; the machine has 63, and the first is 0\n");
    expect_on(100, ON("a", "63"), 0, "");
    expect_on(0, ON("a", "32-63"), 0, "");
    expect_on(2, ON("a", "1-3"), 0,
              "5:8: cpus: there is no processor 2; the machine has 2, and the first is 0\n");
    expect_on(2, ON("a", "shared on 0,5"), 0,
              "5:8: cpus: there is no processor 5; the machine has 2, and the first is 0\n");
    expect(ON("a", "0"), 0, "5:8: cpus: processor 0 is the housekeeper's, and can only be shared\n");

    expect(ON("a", "1-2") ON("b", "2-3") ON("c", "3"), 0,
           "10:8: partition 'b' cannot have processor 2, which 'a' has to itself\n");
    assert_false(config.partitions[0].refused);
    assert_true(config.partitions[1].refused);
    assert_false(config.partitions[2].refused);
    expect(ON("a", "1-2") ON("b", "shared on 0-1"), 0,
           "10:8: partition 'b' cannot share processor 1, which 'a' has to itself\n");
    expect(ON("b", "shared on 0-1") ON("a", "1-2") ON("c", "2"), 0,
           "10:8: partition 'a' cannot have processor 1 to itself: 'b' shares it\n");
    /* Who names no processor runs where there is one. */
    expect(ON("a", "shared") ON("b", "1"), 0, "");
}

static void regions(void **state)
{
    (void)state;
    expect(
        LINUX("a", "32M") "shared = x 4M\ndoorbell = y\n" LINUX("b", "32M") "shared = x 4M\ndoorbell = y\n",
        MIB(68), "");
    expect(LINUX("a", "32M") "shared = x 4M\n" LINUX("b", "32M") "shared = x 4M\nshared = y 4K\n", MIB(68),
           "7:10: partition 'b' needs 32772K, only 32M is free\n");
    expect(
        LINUX("a", "32M") "doorbell = y\nshared = x 4M\n" LINUX("b", "32M") "shared = x 8M\nshared = y 4K\n",
        0,
        "11:10: 'x' is 8M here, but 4M in partition 'a'\n"
        "12:10: 'y' is 4K here, but a doorbell in partition 'a'\n");
    assert_false(config.partitions[0].refused);
    expect(LINUX("a", "32M") "vcpus = 0\nshared = x 4M\n" LINUX("b", "32M") "shared = x 8M\n", 0,
           "5:9: vcpus = 0: a partition has 1 to 32 processors\n");
    expect(LINUX("a", "32M") "shared = x 8589934592G\nshared = y 8589934592G\n", MIB(64),
           "2:10: partition 'a' needs 18014398509481980K, only 64M is free\n");
    /* Without a good `memory` there is nothing to compare. */
    expect(LINUX("a", "1") "shared = x 4M\n", MIB(1), "2:10: memory = 1: a partition needs at least 1M\n");
}

/* One partition beside those that live. */
static void one_more(void **state)
{
    struct config_reporter reporter = {collect};
    struct config_files files = {find};
    static const char text[] = ON("n", "2") "shared = x 4M\n";
    unsigned slot;

    (void)state;
    expect(ON("a", "1-2") ON("b", "shared on 3") "shared = x 4M\n", 0, "");
    assert_int_equal(
        config_parse_section(&config, SLICE(""), text, strlen(text), core_policy_keys, &reporter, &slot), 0);
    assert_int_equal(slot, 2);
    assert_int_equal(config_check_partition(&config, 2, &files, MIB(31), 2, &reporter), 3);
    assert_string_equal(found, "5:8: cpus: there is no processor 2; the machine has 2, and the first is 0\n"
                               "5:8: partition 'n' cannot have processor 2, which 'a' has to itself\n"
                               "2:10: partition 'n' needs 32M, only 31M is free\n");
    assert_true(config.partitions[2].refused);

    /* Later slots count as well as earlier ones, and none twice. */
    config_remove(&config, 0);
    assert_int_equal(
        config_parse_section(&config, SLICE(""), text, strlen(text) - 1, core_policy_keys, &reporter, &slot),
        -EINVAL);
    config_remove(&config, 2);
    found[0] = '\0';
    assert_int_equal(
        config_parse_section(&config, SLICE(""), text, strlen(text), core_policy_keys, &reporter, &slot), 0);
    assert_int_equal(slot, 0);
    assert_int_equal(config_check_partition(&config, 0, &files, MIB(32), 4, &reporter), 0);
    config.partitions[1].shared[0].size = MIB(8);
    config.partitions[1].cpus.set = BIT(2);
    assert_int_equal(config_check_partition(&config, 0, &files, 0, 4, &reporter), 2);
    assert_string_equal(found, "5:8: partition 'n' cannot have processor 2 to itself: 'b' shares it\n"
                               "6:10: 'x' is 4M here, but 8M in partition 'b'\n");
    found[0] = '\0';
    config.partitions[1].refused = true;
    config.partitions[0].refused = false;
    assert_int_equal(config_check_partition(&config, 0, &files, 0, 4, &reporter), 0);
    assert_false(config.partitions[0].refused);
#undef ON
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
        cmocka_unit_test(good),       cmocka_unit_test(files),
        cmocka_unit_test(kinds),      cmocka_unit_test(command_line),
        cmocka_unit_test(layout),     cmocka_unit_test(layout_of_the_unknown),
        cmocka_unit_test(memory),     cmocka_unit_test(fixed_memory),
        cmocka_unit_test(processors), cmocka_unit_test(regions),
        cmocka_unit_test(one_more),
    };
    return cmocka_run_group_tests(tests, make_images, NULL);
}
