// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/config: what a good text gives, and for each mistake its message at its place. Fails when a message is
 * lost, stands elsewhere, causes another one, or does not refuse the partition that it is about.
 */
#include "core/config/config.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/config/values.h"
#include "lib/errors.h"

static const struct config_policy_key policy_keys[] = {
    {"tpr", {"shadowing", "intercept"}},
    {"cr0", {"through", "intercept", "shadowing"}},
    {.name = NULL},
};

/* A whole partition, on lines 1 to 4. */
#define GOOD "[partition p]\nmemory = 64M\nboot = linux\nkernel = k\n"

/* ---- Collecting errors
 * -------------------------------------------------------------------------------------- */

struct collector {
    struct config_reporter reporter;
    char text[8192];
    size_t used;
    unsigned count;
};

static void collect(struct config_reporter *reporter, struct config_place place, const char *message)
{
    struct collector *collector = container_of(reporter, struct collector, reporter);

    collector->used +=
        (size_t)snprintf(collector->text + collector->used, sizeof(collector->text) - collector->used,
                         "%u:%u: %s\n", place.line, place.column, message);
    assert_true(collector->used < sizeof(collector->text));
    collector->count++;
}

static struct config config;
static struct collector found;

static unsigned parse_bytes(const char *text, size_t length)
{
    unsigned errors;

    found = (struct collector){.reporter = {collect}};
    errors = config_parse(&config, text, length, policy_keys, &found.reporter);
    assert_int_equal(errors, found.count);
    return errors;
}

static void expect(const char *text, const char *errors)
{
    parse_bytes(text, strlen(text));
    assert_string_equal(found.text, errors);
}

static void expect_slice(struct slice text, const char *wanted)
{
    assert_int_equal(text.length, strlen(wanted));
    assert_memory_equal(text.start, wanted, text.length);
}

/* ---- Good texts
 * --------------------------------------------------------------------------------------------- */

static void nothing(void **state)
{
    (void)state;
    assert_int_equal(config_parse(&config, NULL, 0, policy_keys, NULL), 0);
    assert_int_equal(config.partition_count, 0);
    assert_int_equal(config.console_port, 0x3f8);
    assert_int_equal(config.console_baud, 115200);
    assert_int_equal(config.escape, 1);
    expect(" \n# comment\n\t# caf\xc3\xa9 \x01\n\n", "");
}

static void defaults(void **state)
{
    const struct config_partition *partition = &config.partitions[0];

    (void)state;
    expect(GOOD, "");
    assert_int_equal(config.partition_count, 1);
    expect_slice(partition->name, "p");
    assert_int_equal(partition->place.line, 1);
    assert_int_equal(partition->place.column, 12);
    assert_int_equal(partition->memory, MIB(64));
    assert_false(partition->memory_fixed);
    assert_int_equal(partition->vcpus, 1);
    assert_false(partition->cpus.dedicated);
    assert_true(partition->cpus.set == 0);
    assert_int_equal(partition->cpus.weight, CONFIG_WEIGHT_DEFAULT);
    assert_int_equal(partition->cpus.cap, 0);
    assert_int_equal(partition->cpus.place.line, 0);
    assert_int_equal(partition->paging, CONFIG_PAGING_AUTO);
    assert_int_equal(partition->paging_place.line, 0);
    assert_false(partition->nested);
    assert_int_equal(partition->shared_count, 0);
    assert_int_equal(partition->timeout, 30);
    assert_false(partition->start_manually);
    assert_true(partition->in_use);
    assert_int_equal(partition->boot, CONFIG_BOOT_LINUX);
    expect_slice(partition->kernel.path, "k");
    assert_int_equal(partition->initrd.path.length, 0);
    assert_int_equal(partition->module_count, 0);
    assert_int_equal(partition->cmdline.length, 0);
    assert_true(partition->console_uart);
    assert_int_equal(partition->on_stop, CONFIG_ON_STOP_STAY);
    assert_int_equal(partition->policies[0], 0);
    assert_false(partition->refused);
    assert_false(config.partitions[1].in_use);
}

static void every_key(void **state)
{
    const struct config_partition *partition = &config.partitions[0];

    (void)state;
    expect("\xef\xbb\xbf[umbra]\r\n"
           "console=com2 9600\r\n"
           "\tescape\t=\t^b # not A\r\n"
           "nmi = dom-0_x\r\n"
           "[ partition  dom-0_x ] # comment\r\n"
           "memory = 0x10000k\r\n"
           "vcpus = 0x2\r\n"
           "cpus = shared  cap 25%  on 1,0x3-4 weight 300\r\n"
           "start = manual\r\n"
           "paging = vtlb\t base # the reference\r\n"
           "timeout = 0\r\n"
           "shared = one 4M\r\n"
           "doorbell = two\r\n"
           "shared = three 0x1000\r\n"
           "boot = multiboot\r\n"
           "kernel = dir/k\r\n"
           "module = one\r\n"
           "module = two  and its  arguments # comment\r\n"
           "cmdline = root=/dev/ram0 a#b \"c\" # comment\r\n"
           "console = none\r\n"
           "on-stop = poweroff\r\n"
           "policy.cr0 = shadowing\r\n"
           "policy.tpr = intercept\r",
           "");
    assert_int_equal(config.console_port, 0x2f8);
    assert_int_equal(config.console_baud, 9600);
    assert_int_equal(config.escape, 2);
    expect_slice(config.nmi, "dom-0_x");
    assert_int_equal(config.nmi_place.line, 4);
    expect_slice(partition->name, "dom-0_x");
    assert_int_equal(partition->memory, MIB(64));
    assert_int_equal(partition->vcpus, 2);
    assert_false(partition->cpus.dedicated);
    assert_true(partition->cpus.set == (BIT(1) | BIT(3) | BIT(4)));
    assert_int_equal(partition->cpus.weight, 300);
    assert_int_equal(partition->cpus.cap, 25);
    assert_int_equal(partition->cpus.place.column, 8);
    assert_true(partition->start_manually);
    assert_int_equal(partition->paging, CONFIG_PAGING_VTLB_BASE);
    assert_int_equal(partition->paging_place.line, 10);
    assert_int_equal(partition->paging_place.column, 10);
    assert_int_equal(partition->timeout, 0);
    assert_int_equal(partition->shared_count, 3);
    expect_slice(partition->shared[0].name, "one");
    assert_true(partition->shared[0].size == MIB(4));
    assert_int_equal(partition->shared[0].place.column, 10);
    expect_slice(partition->shared[1].name, "two");
    assert_true(partition->shared[1].size == 0);
    assert_true(partition->shared[2].size == KIB(4));
    assert_int_equal(partition->boot, CONFIG_BOOT_MULTIBOOT);
    expect_slice(partition->kernel.path, "dir/k");
    assert_int_equal(partition->module_count, 2);
    expect_slice(partition->modules[0].path, "one");
    expect_slice(partition->modules[0].arguments, "");
    expect_slice(partition->modules[1].path, "two");
    expect_slice(partition->modules[1].arguments, "and its  arguments");
    expect_slice(partition->cmdline, "root=/dev/ram0 a#b \"c\"");
    assert_false(partition->console_uart);
    assert_int_equal(partition->on_stop, CONFIG_ON_STOP_POWEROFF);
    assert_int_equal(partition->policies[0], 1);
    assert_int_equal(partition->policies[1], 2);
}

static void quotes(void **state)
{
    (void)state;
    expect(GOOD "cmdline = \" a # b = [c] \" # comment\n", "");
    expect_slice(config.partitions[0].cmdline, " a # b = [c] ");
    expect(GOOD "cmdline = \"\"\n", "");
    assert_int_equal(config.partitions[0].cmdline_place.line, 5);
    expect("[partition p]\nmemory = \"64M\"\nboot = \"multiboot\"\nkernel = \"k\"\nmodule = \" m  x y\"\n",
           "");
    expect_slice(config.partitions[0].modules[0].path, "m");
    expect_slice(config.partitions[0].modules[0].arguments, "x y");
    assert_int_equal(config.partitions[0].modules[0].place.column, 12);
    expect(GOOD "initrd = \"\"\n", "5:11: 'initrd' has no value\n");
    expect(GOOD "initrd = \"  \"\n", "5:11: initrd names no file\n");
    expect(GOOD "cmdline = \"a\n", "5:11: the value is not closed by a second \"\n");
    expect(GOOD "cmdline = \"a\" b\n", "5:15: text after the value's second \"\n");
    expect(GOOD "cmdline = \"a\"#b\n", "5:14: text after the value's second \"\n");
}

static void umbra_values(void **state)
{
    static const struct {
        const char *text;
        unsigned port, baud;
    } consoles[] = {
        {"com1", 0x3f8, 115200},  {"com3 57600", 0x3e8, 57600},   {"com4 2", 0x2e8, 2},
        {"0x4f8", 0x4f8, 115200}, {"1016 115200", 0x3f8, 115200}, {"0xfff8", 0xfff8, 115200},
    };
    static const struct {
        const char *text;
        int escape;
    } escapes[] = {{"^A", 1},  {"^a", 1},   {"^a", 1},  {"^z", 26},
                   {"^]", 29}, {"^\\", 28}, {"^^", 30}, {"^_", 31}};
    char text[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(consoles); i++) {
        snprintf(text, sizeof(text), "[umbra]\nconsole = %s\n", consoles[i].text);
        expect(text, "");
        assert_int_equal(config.console_port, consoles[i].port);
        assert_int_equal(config.console_baud, consoles[i].baud);
    }
    for (size_t i = 0; i < ARRAY_SIZE(escapes); i++) {
        snprintf(text, sizeof(text), "[umbra]\nescape = %s", escapes[i].text);
        expect(text, "");
        assert_int_equal(config.escape, escapes[i].escape);
    }
}

/* ---- Mistakes
 * ----------------------------------------------------------------------------------------------- */

static void form(void **state)
{
    (void)state;
    expect("x = 1\n  y\n[umbra]\n",
           "1:1: text before the first section\n2:3: text before the first section\n");
    expect("[umbra]\n  nothing # = 1\n", "2:3: not 'key = value': there is no =\n");
    expect("[umbra]\n  = 1\n", "2:3: not 'key = value': there is no key before the =\n");
    expect("[umbra]\nescape =\n", "2:9: 'escape' has no value\n");
    expect("[umbra]\nescape = # ^A\n", "2:10: 'escape' has no value\n");
    expect("[umbra\nescape = ^B\n", "1:1: the section's name is not closed by ]\n");
    assert_int_equal(config.escape, 2);
    expect("[umbra] x\n", "1:9: text after the section's ]\n");
    expect("[umbra]\nescape = ^\x01\n", "2:11: byte 0x01 is neither printable ASCII nor a tab\n");
    expect("[umbra]\nescape = ^A\rx\n", "2:12: byte 0x0d is neither printable ASCII nor a tab\n");
    expect("[umbra]\nes\xc3\xa9"
           "cape = \xff\n",
           "2:3: byte 0xc3 is neither printable ASCII nor a tab\n");
    expect("[umbra]\nescape = ^A\x7f\nescape = ^B\n", "2:12: byte 0x7f is neither printable ASCII nor a "
                                                      "tab\n3:1: 'escape' is given twice, first in line 2\n");
    assert_int_equal(parse_bytes("[umbra]\nescape = ^\0", 19), 1);
    assert_string_equal(found.text, "2:11: byte 0x00 is neither printable ASCII nor a tab\n");
}

static void sections(void **state)
{
    (void)state;
    expect("[]\n", "1:2: unknown section ''; there are [umbra] and [partition NAME]\n");
    expect("[ Umbra]\nanything = 1\nnothing\n",
           "1:3: unknown section 'Umbra'; there are [umbra] and [partition NAME]\n"
           "3:1: not 'key = value': there is no =\n");
    expect("[umbra x]\n", "1:8: text after 'umbra'\n");
    expect("[umbra]\n[umbra]\nescape = ^B\n", "2:2: a section [umbra] exists already, in line 1\n");
    expect("[um\x80"
           "bra]\n",
           "1:4: byte 0x80 is neither printable ASCII nor a tab\n");
}

#define NAME_RULE " is no name: a letter, then letters, digits, - and _, at most 31 in all\n"

static void names(void **state)
{
#define REST "\nmemory = 64M\nboot = linux\nkernel = k\n"
    (void)state;
    expect("[partition]" REST, "1:2: a partition needs a name: [partition NAME]\n");
    assert_true(config.partitions[0].refused);
    expect("[partition 1]" REST, "1:12: '1'" NAME_RULE);
    expect("[partition a.b]" REST, "1:12: 'a.b'" NAME_RULE);
    expect("[partition a12345678901234567890123456789x]" REST, "");
    expect("[partition a123456789012345678901234567890x]" REST,
           "1:12: 'a123456789012345678901234567890x'" NAME_RULE);
    expect("[partition a b c]" REST, "1:14: text after the partition's name\n");
    expect("[partition a]" REST "[partition b]" REST "[partition a]" REST,
           "9:12: a partition 'a' exists already, in line 1\n");
    assert_int_equal(config.partition_count, 3);
    assert_false(config.partitions[0].refused);
    assert_false(config.partitions[1].refused);
    assert_true(config.partitions[2].refused);
    assert_string_equal(config.partitions[2].reason, "a partition 'a' exists already, in line 1");
    expect("[partition a\x80]" REST, "1:13: byte 0x80 is neither printable ASCII nor a tab\n");
    assert_true(config.partitions[0].refused);
    assert_int_equal(config.partitions[0].name.length, 0);
    expect("[partition a" REST, "1:1: the section's name is not closed by ]\n");
    assert_true(config.partitions[0].refused);
#undef REST
}

#define PARTITION_KEYS                                                                                       \
    "; a partition has memory, vcpus, cpus, paging, nested, vmcs-shadowing, boot, kernel, initrd, "          \
    "module, cmdline, "                                                                                      \
    "console, "                                                                                              \
    "shared, "                                                                                               \
    "doorbell, start, on-stop, timeout, policy.NAME\n"

static void unknown_and_duplicate_keys(void **state)
{
    (void)state;
    expect("[umbra]\nmemory = 1M\n", "2:1: unknown key 'memory'; [umbra] has console, escape, nmi\n");
    expect("[umbra]\npolicy.tpr = intercept\n",
           "2:1: unknown key 'policy.tpr'; [umbra] has console, escape, nmi\n");
    expect(GOOD "Memory = 1M\n", "5:1: unknown key 'Memory'" PARTITION_KEYS);
    expect(GOOD "policy. = 1\n", "5:1: unknown key 'policy.'" PARTITION_KEYS);
    expect(GOOD "memory = x\n", "5:1: 'memory' is given twice, first in line 2\n");
    assert_int_equal(config.partitions[0].memory, MIB(64));
    expect(GOOD "policy.tpr = shadowing\n policy.tpr = intercept\n",
           "6:2: 'policy.tpr' is given twice, first in line 5\n");
    assert_int_equal(config.partitions[0].policies[0], 0);
    expect(GOOD "qolicy.tpr = shadowing\n", "5:1: unknown key 'qolicy.tpr'" PARTITION_KEYS);
    /* A key counts from its section on. */
    expect(GOOD "policy.tpr = intercept\n[partition q]\nmemory = 1M\nboot = elf\nkernel = k\npolicy.tpr = "
                "shadowing\n",
           "");
    assert_int_equal(config.partitions[0].policies[0], 1);
    assert_int_equal(config.partitions[1].policies[0], 0);
}

static void missing_keys(void **state)
{
    (void)state;
    expect("[partition p]\n[partition q]\nboot = linux\nmemory = 12\n",
           "1:12: 'memory' is missing: a partition needs it\n"
           "1:12: 'boot' is missing: a partition needs it\n"
           "1:12: 'kernel' is missing: a partition needs it\n"
           "4:10: memory = 12: a partition needs at least 1M\n"
           "2:12: 'kernel' is missing: a partition needs it\n");
    assert_string_equal(config.partitions[0].reason, "'memory' is missing: a partition needs it");
    assert_string_equal(config.partitions[1].reason, "memory = 12: a partition needs at least 1M");
}

static void keys_by_boot(void **state)
{
#define START "[partition p]\nmemory = 64M\nkernel = k\ninitrd = i\nmodule = a\nmodule = b\nboot = "
    (void)state;
    expect(START "linux\n", "5:1: 'module' is not for boot = linux\n6:1: 'module' is not for boot = linux\n");
    expect(START "multiboot\n", "4:1: 'initrd' is not for boot = multiboot\n");
    expect(START "multiboot2\n", "4:1: 'initrd' is not for boot = multiboot2\n");
    expect(START "elf\n", "4:1: 'initrd' is not for boot = elf\n");
    expect(START "linus\n", "7:8: boot = linus: must be linux, multiboot, multiboot2 or elf\n");
#undef START
}

/* One line of a partition and the message that it earns. */
static void values(void **state)
{
    static const struct {
        const char *line;
        const char *error;
    } rows[] = {
        {"memory = 0", "5:10: memory = 0: a partition needs at least 1M\n"},
        {"memory = 1023K", "5:10: memory = 1023K: a partition needs at least 1M\n"},
        {"memory = 1048577", "5:10: memory = 1048577: not a multiple of 4K\n"},
        {"memory = 1026K", "5:10: memory = 1026K: not a multiple of 4K\n"},
        {"memory = M", "5:10: memory = M: not a size, which is a number and K, M or G, as in 256M\n"},
        {"memory = 0x", "5:10: memory = 0x: not a size, which is a number and K, M or G, as in 256M\n"},
        {"memory = -1M", "5:10: memory = -1M: not a size, which is a number and K, M or G, as in 256M\n"},
        {"memory = 64 M", "5:10: memory = 64 M: not a size, which is a number and K, M or G, as in 256M\n"},
        {"memory = 64MB", "5:10: memory = 64MB: not a size, which is a number and K, M or G, as in 256M\n"},
        {"memory = 18446744073709551616", "5:10: memory = 18446744073709551616: does not fit into 64 bits\n"},
        {"memory = 17179869184G", "5:10: memory = 17179869184G: does not fit into 64 bits\n"},
        {"vcpus = 0", "5:9: vcpus = 0: a partition has 1 to 32 processors\n"},
        {"vcpus = 33", "5:9: vcpus = 33: a partition has 1 to 32 processors\n"},
        {"vcpus = 99999999999999999999",
         "5:9: vcpus = 99999999999999999999: a partition has 1 to 32 processors\n"},
        {"vcpus = two", "5:9: vcpus = two: not a number\n"},
        {"vcpus = 0x1g", "5:9: vcpus = 0x1g: not a number\n"},
        {"memory = 64M at", "5:16: memory = 64M at: has no address, as in 0x40000000\n"},
        {"memory = 64M at x", "5:17: memory: at x: not an address, as in 0x40000000\n"},
        {"memory = 64M at 1G 2", "5:17: memory: at 1G 2: not an address, as in 0x40000000\n"},
        {"memory = x at 1G", "5:10: memory = x: not a size, which is a number and K, M or G, as in 256M\n"},
        {"memory = at 1G", "5:10: memory = at 1G: not a size, which is a number and K, M or G, as in 256M\n"},
        {"memory = 12 at 1G", "5:10: memory = 12: a partition needs at least 1M\n"},
        {"memory = 1025K at 1G", "5:10: memory = 1025K: not a multiple of 4K\n"},
        {"memory = 64M at 0x40000800", "5:17: memory: at 0x40000800: not a multiple of 4K\n"},
        {"memory = 64M at 1020K",
         "5:17: memory = 64M at 1020K: below 1M, where a partition's memory cannot be fixed\n"},
        {"memory = 64M at 3009M", "5:17: memory = 64M at 3009M: a partition's devices are from 3G to 4G\n"},
        {"memory = 64M at 4095M", "5:17: memory = 64M at 4095M: a partition's devices are from 3G to 4G\n"},
        {"memory = 64M at 0xffffffc001000",
         "5:17: memory = 64M at 0xffffffc001000: no machine has addresses of more than 52 bits\n"},
        {"memory = 64M at 0x20000000000000", "5:17: memory = 64M at 0x20000000000000: no machine has "
                                             "addresses of more than 52 bits\n"},
        {"memory = 17179869180G at 0x20000000000000", "5:26: memory = 17179869180G at 0x20000000000000: no "
                                                      "machine has addresses of more than 52 bits\n"},
        {"cpus = share", "5:8: cpus = share: not processors, as in 2-3,5, and not shared\n"},
        {"cpus = -1", "5:8: cpus = -1: not processors, as in 2-3,5, and not shared\n"},
        {"cpus = 1,", "5:10: cpus = 1,: not processors, as in 2-3,5, and not shared\n"},
        {"cpus = 1-", "5:8: cpus = 1-: not processors, as in 2-3,5, and not shared\n"},
        {"cpus = 1-2-3", "5:8: cpus = 1-2-3: not processors, as in 2-3,5, and not shared\n"},
        {"cpus = 1,2, 3", "5:12: cpus = 1,2,: not processors, as in 2-3,5, and not shared\n"},
        {"cpus = 1,2 3", "5:12: cpus: text after the processors\n"},
        {"cpus = 1,64", "5:10: cpus = 64: processors are 0 to 63\n"},
        {"cpus = 63-64", "5:8: cpus = 63-64: processors are 0 to 63\n"},
        {"cpus = 64-1", "5:8: cpus = 64-1: processors are 0 to 63\n"},
        {"cpus = 1-99999999999999999999", "5:8: cpus = 1-99999999999999999999: processors are 0 to 63\n"},
        {"cpus = 3,2-1", "5:10: cpus = 2-1: the lower number comes first\n"},
        {"cpus = 1-3,3", "5:12: cpus = 3: processor 3 is listed already\n"},
        {"cpus = 31,30-63", "5:11: cpus = 30-63: processor 31 is listed already\n"},
        {"cpus = 31-63", "5:8: cpus lists 33 processors; a partition has 1 to 32 processors\n"},
        {"cpus = shared 1", "5:15: cpus: unknown '1'; shared has on, weight, cap\n"},
        {"cpus = shared on", "5:15: cpus: 'on' has no value\n"},
        {"cpus = shared on x", "5:18: on = x: not processors, as in 2-3,5\n"},
        {"cpus = shared weight 0", "5:22: weight = 0: must be 1 to 10000\n"},
        {"cpus = shared weight 10001", "5:22: weight = 10001: must be 1 to 10000\n"},
        {"cpus = shared weight 1k", "5:22: weight = 1k: must be 1 to 10000\n"},
        {"cpus = shared cap 0%", "5:19: cap = 0%: must be 1% to 100%\n"},
        {"cpus = shared cap 101%", "5:19: cap = 101%: must be 1% to 100%\n"},
        {"cpus = shared cap 50", "5:19: cap = 50: must be 1% to 100%\n"},
        {"cpus = shared cap %", "5:19: cap = %: must be 1% to 100%\n"},
        {"cpus = shared cap 1% cap 2%", "5:22: cpus: 'cap' is given twice\n"},
        {"cpus = shared weight 0 on",
         "5:22: weight = 0: must be 1 to 10000\n5:24: cpus: 'on' has no value\n"},
        {"shared = 1 4M", "5:10: '1'" NAME_RULE},
        {"shared = x", "5:11: shared = x: has no size, as in shared = x 4M\n"},
        {"shared = x y", "5:12: shared = y: not a size, which is a number and K, M or G, as in 256M\n"},
        {"shared = x 16777216T",
         "5:12: shared = 16777216T: not a size, which is a number and K, M or G, as in 256M\n"},
        {"shared = x 2048", "5:12: shared = 2048: must be a power of two, at least 4K\n"},
        {"shared = x 0", "5:12: shared = 0: must be a power of two, at least 4K\n"},
        {"shared = x 3M", "5:12: shared = 3M: must be a power of two, at least 4K\n"},
        {"doorbell = x 4M", "5:14: doorbell: text after the name\n"},
        {"doorbell = x.y", "5:12: 'x.y'" NAME_RULE},
        {"timeout = 3601", "5:11: timeout = 3601: must be 0 to 3600 seconds\n"},
        {"timeout = -1", "5:11: timeout = -1: must be 0 to 3600 seconds\n"},
        {"start = no", "5:9: start = no: must be auto or manual\n"},
        {"boot = Linux", "5:8: boot = Linux: must be linux, multiboot, multiboot2 or elf\n"},
        {"paging = shadow", "5:10: paging = shadow: must be auto, ept, vtlb or vtlb base\n"},
        {"paging = ept base", "5:10: paging = ept base: must be auto, ept, vtlb or vtlb base\n"},
        {"paging = base", "5:10: paging = base: must be auto, ept, vtlb or vtlb base\n"},
        {"paging = vtlb based", "5:10: paging = vtlb based: must be auto, ept, vtlb or vtlb base\n"},
        {"paging = vtlb base now", "5:10: paging = vtlb base now: must be auto, ept, vtlb or vtlb base\n"},
        {"nested = maybe", "5:10: nested = maybe: must be no or yes\n"},
        {"vmcs-shadowing = 1", "5:18: vmcs-shadowing = 1: must be no or yes\n"},
        {"paging =", "5:9: 'paging' has no value\n"},
        {"console = com1", "5:11: console = com1: must be none or uart\n"},
        {"on-stop = halt", "5:11: on-stop = halt: must be stay, restart or poweroff\n"},
        {"policy.tpr = through", "5:14: policy.tpr = through: must be shadowing or intercept\n"},
        {"policy.cr0 =  x", "5:15: policy.cr0 = x: must be through, intercept or shadowing\n"},
        {"policy.tpr = \"\"", "5:15: 'policy.tpr' has no value\n"},
        {"policy.tpr =", "5:13: 'policy.tpr' has no value\n"},
        {"kernel = k  quiet  x",
         "5:13: kernel: text after the file name; a kernel's arguments are its cmdline\n"},
        {"initrd = i j", "5:12: initrd: text after the file name; a kernel's arguments are its cmdline\n"},
        {"module =", "5:9: 'module' has no value\n"},
        {"cmdline =", "5:10: 'cmdline' has no value\n"},
    };
    static const char *const others[] = {"memory = 64M", "boot = linux", "kernel = k"};
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t key = strcspn(rows[i].line, " ");

        /* The line under test is the fifth; of the others, those with another key stand before it. */
        strcpy(text, "[partition p]\n");
        for (size_t j = 0; j < ARRAY_SIZE(others); j++)
            if (strncmp(others[j], rows[i].line, key + 1) != 0)
                strcat(strcat(text, others[j]), "\n");
            else
                strcat(text, "\n");
        expect(strcat(strcat(text, rows[i].line), "\n"), rows[i].error);
        assert_true(config.partitions[0].refused);
        assert_non_null(strstr(rows[i].error, config.partitions[0].reason));
    }
}

static void paging(void **state)
{
    static const struct {
        const char *value;
        enum config_paging paging;
    } rows[] = {
        {"auto", CONFIG_PAGING_AUTO},
        {"ept", CONFIG_PAGING_EPT},
        {"vtlb", CONFIG_PAGING_VTLB},
        {"vtlb base", CONFIG_PAGING_VTLB_BASE},
        {"\"vtlb  base\"", CONFIG_PAGING_VTLB_BASE},
    };
    const struct config_partition *partition = &config.partitions[0];
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        snprintf(text, sizeof(text), GOOD "paging = %s\n", rows[i].value);
        expect(text, "");
        assert_int_equal(partition->paging, rows[i].paging);
        assert_int_equal(partition->paging_place.line, 5);
    }
    expect(GOOD "nested = yes\n", "");
    assert_true(partition->nested);
    expect(GOOD "nested = no\n", "");
    assert_false(partition->nested);
    assert_false(partition->no_vmcs_shadowing);
    expect(GOOD "vmcs-shadowing = no\n", "");
    assert_true(partition->no_vmcs_shadowing);
    expect(GOOD "vmcs-shadowing = yes\n", "");
    assert_false(partition->no_vmcs_shadowing);
    expect(GOOD "paging = vtlb\npaging = ept\n", "6:1: 'paging' is given twice, first in line 5\n");
    assert_int_equal(partition->paging, CONFIG_PAGING_VTLB);
    expect(GOOD "paging = VTLB\n", "5:10: paging = VTLB: must be auto, ept, vtlb or vtlb base\n");
    assert_true(partition->refused);
    assert_int_equal(partition->paging, CONFIG_PAGING_AUTO);
    assert_int_equal(partition->paging_place.line, 0);
    /* Each partition has its own. */
    expect(GOOD "paging = vtlb\n[partition q]\nmemory = 1M\nboot = elf\nkernel = k\n", "");
    assert_int_equal(config.partitions[1].paging, CONFIG_PAGING_AUTO);
}

/* What does not follow from one line: numbers of processors, names of regions, whom NMIs are for. */
static void values_together(void **state)
{
    const struct config_partition *partition = &config.partitions[0];

    (void)state;
    expect(GOOD "cpus = 2-3,5\n", "");
    assert_true(partition->cpus.dedicated && partition->cpus.set == (BIT(2) | BIT(3) | BIT(5)));
    assert_int_equal(partition->vcpus, 3);
    expect(GOOD "vcpus = 3\ncpus = 5,2-3\n", "");
    expect(GOOD "cpus = 32-63\n", "");
    assert_true(partition->cpus.set == 0xffffffff00000000);
    assert_int_equal(partition->vcpus, 32);
    expect(GOOD "cpus = shared on 0-63\n", "");
    assert_true(partition->cpus.set == UINT64_MAX);
    expect(GOOD "vcpus = 32\ncpus = shared\n", "");
    assert_int_equal(partition->vcpus, 32);
    expect(GOOD "vcpus = 2\ncpus = 1\n", "5:9: vcpus = 2, but cpus lists 1, one for each\n");
    assert_true(partition->refused);
    expect(GOOD "vcpus = x\ncpus = 1-2\n", "5:9: vcpus = x: not a number\n");
    assert_int_equal(partition->vcpus, 2);
    /* A bad value leaves the default, whole. */
    expect(GOOD "cpus = shared on 2 weight 7 cap 0%\n", "5:33: cap = 0%: must be 1% to 100%\n");
    assert_true(partition->cpus.set == 0 && partition->cpus.weight == CONFIG_WEIGHT_DEFAULT);
    assert_int_equal(partition->cpus.place.line, 0);

    expect("[partition p]\nmemory = 0x20000000 at 1G # here\nboot = elf\nkernel = k\n", "");
    assert_true(partition->memory_fixed && partition->memory == MIB(512));
    assert_true(partition->memory_base == GIB(1));
    assert_int_equal(partition->memory_place.column, 10);
    expect("[partition p]\nmemory = 3071M at 1M\nboot = elf\nkernel = k\n", "");
    expect("[partition p]\nmemory = 1M at 4G\nboot = elf\nkernel = k\n", "");
    expect("[partition p]\nmemory = 64M at 0xffffffc000000\nboot = elf\nkernel = k\n", "");
    assert_true(partition->memory_base + partition->memory == BIT(52));

    expect(GOOD "shared = a 4K\ndoorbell = b\ndoorbell = a\nshared = b 1G\nshared = c 8K\ndoorbell = d\n"
                "shared = e 4K\n",
           "7:12: 'a' is named already, in line 5\n8:10: 'b' is named already, in line 6\n"
           "11:10: more than 4 shared regions and doorbells\n");
    assert_int_equal(partition->shared_count, 4);

    expect("[umbra]\nnmi = monitor\n" GOOD, "");
    assert_int_equal(config.nmi.length, 0);
    expect("[umbra]\nnmi = q\n" GOOD "cpus = 70\n",
           "7:8: cpus = 70: processors are 0 to 63\n2:7: nmi = q: must be monitor or a partition's name\n");
    assert_int_equal(config.nmi.length, 0);
    assert_string_equal(partition->reason, "cpus = 70: processors are 0 to 63");
    expect(GOOD "[umbra]\nnmi = p\n", "");
    expect_slice(config.nmi, "p");
}

/* ---- Partitions that come, change and go
 * --------------------------------------------------------------------- */

/* Parses `text` as a section called `name`, and gives the slot that it got, or -1. */
static int create(const char *name, const char *text, const char *errors)
{
    unsigned index = 99, count = config.partition_count;
    int error;

    found = (struct collector){.reporter = {collect}};
    error = config_parse_section(&config, slice_of(name), text, strlen(text), policy_keys, &found.reporter,
                                 &index);
    assert_string_equal(found.text, errors);
    assert_int_equal(error, errors[0] ? -EINVAL : 0);
    assert_int_equal(config.partition_count, count + (error == 0));
    if (error)
        assert_int_equal(index, 99);
    return error ? -1 : (int)index;
}

#define SECTION(name) "[partition " name "]\nmemory = 64M\nboot = linux\nkernel = k\n"
#define LINES         "memory = 64M\nboot = linux\nkernel = k\n"

static void created(void **state)
{
    static struct config before;

    (void)state;
    expect("[umbra]\nescape = ^B\nnmi = p\n" GOOD, "");
    assert_int_equal(create("", SECTION("q") "cpus = 1\n", ""), 1);
    expect_slice(config.partitions[1].name, "q");
    assert_true(config.partitions[1].in_use && config.partitions[1].cpus.dedicated);
    assert_int_equal(config.partitions[1].place.column, 12);
    assert_int_equal(create("r", LINES, ""), 2);
    expect_slice(config.partitions[2].name, "r");
    assert_int_equal(create("s", "\n# again\n" SECTION("s"), ""), 3);
    assert_int_equal(config.partitions[3].place.line, 3);

    /* On errors the slots are as before. */
    before = config;
    create("", "", "1:1: there is no section [partition NAME]\n");
    create("", "# nothing\n", "1:1: there is no section [partition NAME]\n");
    create("", LINES,
           "1:1: text before the first section\n2:1: text before the first section\n"
           "3:1: text before the first section\n");
    create("t", "",
           "1:1: 'memory' is missing: a partition needs it\n1:1: 'boot' is missing: a partition "
           "needs it\n1:1: 'kernel' is missing: a partition needs it\n");
    create("t", LINES "vcpus = 0\n", "4:9: vcpus = 0: a partition has 1 to 32 processors\n");
    create("t", LINES "paging = npt\n", "4:10: paging = npt: must be auto, ept, vtlb or vtlb base\n");
    create("t.", LINES, "1:1: 't.'" NAME_RULE);
    create("p", LINES, "1:1: a partition 'p' exists already\n");
    create("", SECTION("r"), "1:12: a partition 'r' exists already\n");
    create("t", SECTION("u"), "1:12: the partition is called 'u' here, and 't' before\n");
    create("t", "[partition]\n" LINES, "1:2: the partition is called '' here, and 't' before\n");
    create("", "[partition t u]\n" LINES, "1:14: text after the partition's name\n");
    create("", "[partition]\n" LINES, "1:2: a partition needs a name: [partition NAME]\n");
    create("", SECTION("t") SECTION("u") "bad = 1\n",
           "5:2: only one section, [partition NAME], can stand here\n");
    create("t", "memory = 1M\n" SECTION("t"),
           "2:2: only one section, [partition NAME], can stand here\n1:1: 'boot' is missing: a partition "
           "needs it\n1:1: 'kernel' is missing: a partition needs it\n");
    create("", "[umbra]\nescape = ^C\n", "1:2: only one section, [partition NAME], can stand here\n");
    create("t", "[umbra]\nescape = ^C\n",
           "1:2: only one section, [partition NAME], can stand here\n1:1: 'memory' is missing: a partition "
           "needs it\n1:1: 'boot' is missing: a partition needs it\n1:1: 'kernel' is missing: a partition "
           "needs it\n");
    create("", "[part\x80]\n", "1:6: byte 0x80 is neither printable ASCII nor a tab\n");
    assert_memory_equal(&config, &before, sizeof(config));
}

static void slots(void **state)
{
    char name[8];

    (void)state;
    expect(GOOD SECTION("q") SECTION("r"), "");
    assert_int_equal(config_find(&config, SLICE("q")), 1);
    assert_int_equal(config_find(&config, SLICE("Q")), CONFIG_PARTITIONS_MAX);
    config_remove(&config, 1);
    assert_int_equal(config.partition_count, 2);
    assert_int_equal(config_find(&config, SLICE("q")), CONFIG_PARTITIONS_MAX);
    assert_int_equal(config_find(&config, SLICE("")), CONFIG_PARTITIONS_MAX);
    assert_int_equal(config_next(&config, 0), 0);
    assert_int_equal(config_next(&config, 1), 2);
    assert_int_equal(config_next(&config, 3), CONFIG_PARTITIONS_MAX);
    assert_int_equal(config_next(&config, CONFIG_PARTITIONS_MAX + 1), CONFIG_PARTITIONS_MAX);
    expect_slice(config.partitions[2].name, "r");
    assert_int_equal(create("q", LINES, ""), 1);
    for (int i = 3; i < CONFIG_PARTITIONS_MAX; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        assert_int_equal(create(name, LINES, ""), i);
        /* The name lives no longer than this turn. */
        config.partitions[i].name = SLICE("other");
    }
    create("t", LINES, "1:1: more than 16 partitions\n");
    create("", SECTION("t"), "1:2: more than 16 partitions\n");
    config_remove(&config, 0);
    assert_int_equal(create("t", LINES, ""), 0);
}

static void dedicated_processors(void **state)
{
    (void)state;
    expect(SECTION("a") "cpus = 1,3\n" SECTION("b") "cpus = shared on 2\n" SECTION("c") "cpus = 5\n" SECTION(
               "d") "cpus = 6\n",
           "");
    config.partitions[2].refused = true;
    config_remove(&config, 3);
    assert_true(config_dedicated(&config) == (BIT(1) | BIT(3)));
}

static void set(const char *key, const char *value, int error, const char *reason)
{
    struct config_partition *partition = &config.partitions[0], before = *partition;
    char text[CONFIG_REASON_MAX] = "";

    assert_int_equal(config_set(partition, slice_of(key), slice_of(value), text), error);
    assert_string_equal(text, reason);
    if (error)
        assert_memory_equal(partition, &before, sizeof(before));
}

static void changed(void **state)
{
    struct config_partition *partition = &config.partitions[0];

    (void)state;
    expect(GOOD "cpus = shared on 1\n", "");
    set("weight", "300", 0, "");
    set("cap", "25%", 0, "");
    set("on-stop", "restart", 0, "");
    set("timeout", "5", 0, "");
    assert_int_equal(partition->cpus.weight, 300);
    assert_int_equal(partition->cpus.cap, 25);
    assert_int_equal(partition->on_stop, CONFIG_ON_STOP_RESTART);
    assert_int_equal(partition->timeout, 5);
    assert_true(partition->cpus.set == BIT(1));

#define CHANGEABLE "' cannot be changed; weight, cap, on-stop and timeout can"
    set("memory", "1M", -ENOENT, "'memory" CHANGEABLE);
    set("paging", "ept", -ENOENT, "'paging" CHANGEABLE);
    set("", "", -ENOENT, "'" CHANGEABLE);
    set("weight", "", -EINVAL, "'weight' has no value");
    set("weight", "0", -EINVAL, "weight = 0: must be 1 to 10000");
    set("cap", "25", -EINVAL, "cap = 25: must be 1% to 100%");
    set("on-stop", "halt", -EINVAL, "on-stop = halt: must be stay, restart or poweroff");
    set("timeout", "1h", -EINVAL, "timeout = 1h: must be 0 to 3600 seconds");

    /* One that is refused can be changed too, and stays refused. */
    partition->refused = true;
    strcpy(partition->reason, "why");
    set("timeout", "6", 0, "");
    set("timeout", "x", -EINVAL, "timeout = x: must be 0 to 3600 seconds");
    assert_string_equal(partition->reason, "why");
    assert_int_equal(partition->timeout, 6);

    expect(GOOD "cpus = 1\n", "");
    set("weight", "5", -EINVAL, "weight is for shared processors, and the partition has its own");
    set("cap", "5%", -EINVAL, "cap is for shared processors, and the partition has its own");
}

static void umbra_mistakes(void **state)
{
    static const struct {
        const char *line;
        const char *error;
    } rows[] = {
        {"console = com5",
         "2:11: console = com5: not com1, com2, com3, com4 or a port number such as 0x3f8\n"},
        {"console = 0", "2:11: console = 0: no port, which is 1 to 0xfff8\n"},
        {"console = 0xfff9", "2:11: console = 0xfff9: no port, which is 1 to 0xfff8\n"},
        {"console = com1 115201", "2:16: console: speed 115201 does not divide 115200\n"},
        {"console = com1 1", "2:16: console: speed 1 does not divide 115200\n"},
        {"console = com1  0", "2:17: console: speed 0 does not divide 115200\n"},
        {"console = com1 fast", "2:16: console: speed fast does not divide 115200\n"},
        {"console = com1 9600 8n1", "2:21: console: text after the speed\n"},
        {"console = com7 7",
         "2:11: console = com7: not com1, com2, com3, com4 or a port number such as 0x3f8\n"
         "2:16: console: speed 7 does not divide 115200\n"},
        {"escape = A", "2:10: escape = A: not a control character, as in ^A\n"},
        {"escape = ^1", "2:10: escape = ^1: not a control character, as in ^A\n"},
        {"escape = ^@", "2:10: escape = ^@: not a control character, as in ^A\n"},
        {"escape = ^AA", "2:10: escape = ^AA: not a control character, as in ^A\n"},
        {"escape = ^m", "2:10: escape = ^m: a key of its own (Backspace, Tab, Enter or Escape) sends that\n"},
        {"escape = ^h", "2:10: escape = ^h: a key of its own (Backspace, Tab, Enter or Escape) sends that\n"},
        {"escape = ^I", "2:10: escape = ^I: a key of its own (Backspace, Tab, Enter or Escape) sends that\n"},
        {"escape = ^J", "2:10: escape = ^J: a key of its own (Backspace, Tab, Enter or Escape) sends that\n"},
        {"escape = ^[", "2:10: escape = ^[: a key of its own (Backspace, Tab, Enter or Escape) sends that\n"},
    };
    char text[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        snprintf(text, sizeof(text), "[umbra]\n%s\n", rows[i].line);
        expect(text, rows[i].error);
        assert_int_equal(config.escape, 1);
        assert_true(config.console_port == 0x3f8);
    }
}

static void too_many(void **state)
{
    char text[4096] = "";
    size_t used = 0;

    (void)state;
    for (int i = 0; i < CONFIG_PARTITIONS_MAX + 1; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used,
                                 "[partition p%d]\nmemory = 1M\nboot = linux\nkernel = k\n", i);
    snprintf(text + used, sizeof(text) - used, "vcpus = 0\n[umbra]\nescape = ^B\n");
    expect(text, "65:2: more than 16 partitions\n69:9: vcpus = 0: a partition has 1 to 32 processors\n");
    assert_int_equal(config.partition_count, CONFIG_PARTITIONS_MAX);
    for (int i = 0; i < CONFIG_PARTITIONS_MAX; i++)
        assert_false(config.partitions[i].refused);
    assert_int_equal(config.escape, 2);

    strcpy(text, "[partition p]\nmemory = 1M\nboot = multiboot\nkernel = k\n");
    for (int i = 0; i < CONFIG_MODULES_MAX + 2; i++)
        strcat(text, "module = m\n");
    expect(text, "21:10: more than 16 modules\n22:10: more than 16 modules\n");
    assert_int_equal(config.partitions[0].module_count, CONFIG_MODULES_MAX);
}

/* A message never outgrows its place, however long the text that it quotes. */
static void long_text(void **state)
{
    char text[1024];

    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text, "[umbra]\n", 8);
    memcpy(text + 600, "=", 1);
    assert_int_equal(parse_bytes(text, sizeof(text)), 1);
    assert_true(found.used < CONFIG_REASON_MAX + 16);
    assert_non_null(strstr(found.text, "[umbra] has console, escape, nmi\n"));
}

/* Names of all the characters there may be in one. */
static void name_characters(void **state)
{
    static const char *const good[] = {"a", "z", "A", "Z", "za0-9_Z", "AZ"};
    static const char *const bad[] = {"-a", "_", "0", "@", "a[", "a`", "a{", "a/", "a:"};
    char text[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        snprintf(text, sizeof(text), "[partition %s]\nmemory = 64M\nboot = linux\nkernel = k\n", good[i]);
        expect(text, "");
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(text, sizeof(text), "[partition %s]\nmemory = 64M\nboot = linux\nkernel = k\n", bad[i]);
        assert_int_equal(parse_bytes(text, strlen(text)), 1);
    }
}

static void numbers(void **state)
{
    static const struct {
        const char *text;
        int error;
        uint64_t value;
    } rows[] = {
        {"0", 0, 0},
        {"0123456789", 0, 123456789},
        {"0x0123456789", 0, 0x123456789},
        {"0XabcdefABCDEF", 0, 0xabcdefabcdef},
        {"18446744073709551615", 0, UINT64_MAX},
        {"0xffffffffffffffff", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"0x10000000000000000", -ERANGE, 0},
        {"99999999999999999999z", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"0x", -EINVAL, 0},
        {"1x2", -EINVAL, 0},
        {"a", -EINVAL, 0},
        {"0xg", -EINVAL, 0},
        {"0x@", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"1/", -EINVAL, 0},
        {"1:", -EINVAL, 0},
    };
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(config_number(slice_of(rows[i].text), &value), rows[i].error);
        if (!rows[i].error)
            assert_true(value == rows[i].value);
    }
    assert_int_equal(config_size(SLICE("3g"), &value), 0);
    assert_true(value == GIB(3));
    assert_int_equal(config_size(SLICE("5k"), &value), 0);
    assert_true(value == KIB(5));
    assert_int_equal(config_size(SLICE("7"), &value), 0);
    assert_true(value == 7);
}

static void sizes_as_text(void **state)
{
    char text[CONFIG_SIZE_TEXT];

    (void)state;
    assert_string_equal(config_size_text(text, 0), "0");
    assert_string_equal(config_size_text(text, 1023), "1023");
    assert_string_equal(config_size_text(text, KIB(4)), "4K");
    assert_string_equal(config_size_text(text, MIB(1) + KIB(4)), "1028K");
    assert_string_equal(config_size_text(text, MIB(1536)), "1536M");
    assert_string_equal(config_size_text(text, GIB(2)), "2G");
    assert_string_equal(config_size_text(text, UINT64_MAX), "18446744073709551615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing),
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key),
        cmocka_unit_test(quotes),
        cmocka_unit_test(umbra_values),
        cmocka_unit_test(form),
        cmocka_unit_test(sections),
        cmocka_unit_test(names),
        cmocka_unit_test(unknown_and_duplicate_keys),
        cmocka_unit_test(missing_keys),
        cmocka_unit_test(keys_by_boot),
        cmocka_unit_test(values),
        cmocka_unit_test(paging),
        cmocka_unit_test(values_together),
        cmocka_unit_test(created),
        cmocka_unit_test(slots),
        cmocka_unit_test(dedicated_processors),
        cmocka_unit_test(changed),
        cmocka_unit_test(umbra_mistakes),
        cmocka_unit_test(too_many),
        cmocka_unit_test(long_text),
        cmocka_unit_test(name_characters),
        cmocka_unit_test(numbers),
        cmocka_unit_test(sizes_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
