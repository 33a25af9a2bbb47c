// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/monitor.c in scripted sessions with ops of its own. Fails when a command prints or does other than
 * written here, when a step prints more than its bound or more than there is room for, or when a typed byte
 * is taken too early.
 */
#include "core/monitor.h"

#include "lib/printf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PROMPT "\rumbra> \x1b[K"

/* What the monitor sees of the machine. */
struct world {
    char shown[20000];
    size_t shown_length;
    size_t room;
    unsigned partitions;
    const char *log;   /* lines, each ended by \n; the position is an index */
    const char *error; /* what the next action fails with */
    char actions[200]; /* what was asked for, a letter and the partition each */
};

static struct world world;
static struct monitor monitor;

static const struct monitor_partition rows[] = {
    {SLICE("linux"), MONITOR_RUNNING, 1, MIB(256), 123456, NULL},
    {SLICE("lfs-and-more-than-16"), MONITOR_CRASHED, 4, GIB(2), 7, "triple fault"},
    {{"lfs-", 3}, MONITOR_REFUSED, 1, 1048577, 0, "no file vmlinuz"},
    {SLICE("xen"), MONITOR_STOPPED, 2, KIB(1500), 0, ""},
    {SLICE("quiet"), MONITOR_HALTED, 32, GIB(3) / 2, UINT64_MAX, NULL},
};

static bool op_partition(void *context, unsigned partition, struct monitor_partition *row)
{
    struct world *w = context;

    if (partition >= w->partitions)
        return false;
    *row = rows[partition];
    return true;
}

static void note(char letter, unsigned partition)
{
    char text[8];

    snprintf(text, sizeof(text), "%c%u ", letter, partition);
    strcat(world.actions, text);
}

static bool act(char letter, unsigned partition, struct monitor_error *error)
{
    note(letter, partition);
    if (world.error == NULL)
        return true;
    snprintf(error->text, sizeof(error->text), "%s", world.error);
    return false;
}

static bool op_start(void *context, unsigned partition, struct monitor_error *error)
{
    (void)context;
    return act('s', partition, error);
}

static bool op_stop(void *context, unsigned partition, struct monitor_error *error)
{
    (void)context;
    return act('h', partition, error);
}

static bool op_reset(void *context, unsigned partition, struct monitor_error *error)
{
    (void)context;
    return act('r', partition, error);
}

static bool op_focus(void *context, unsigned partition, struct monitor_error *error)
{
    (void)context;
    return act('f', partition, error);
}

/* Ten lines that say whose they are. */
static bool some_line(const char *what, unsigned partition, unsigned number, char *line, size_t size)
{
    snprintf(line, size, "%s %u %u", what, partition, number);
    return number < 10;
}

static bool op_dump_line(void *context, unsigned partition, unsigned number, char *line, size_t size)
{
    (void)context;
    return some_line("dump", partition, number, line, size);
}

static bool op_stats_line(void *context, unsigned partition, unsigned number, char *line, size_t size)
{
    (void)context;
    return some_line("stats", partition, number, line, size) && number < 1;
}

static bool op_memory_line(void *context, unsigned number, char *line, size_t size)
{
    (void)context;
    return some_line("memory", 0, number, line, size) && number < 1;
}

static bool op_cpu_line(void *context, unsigned number, char *line, size_t size)
{
    (void)context;
    return some_line("cpu", 0, number, line, size) && number < 1;
}

static bool op_log_line(void *context, uint64_t *position, char *line, size_t size)
{
    struct world *w = context;
    const char *from = w->log + *position;
    const char *end = strchr(from, '\n');

    assert_true(*position <= strlen(w->log));
    if (end == NULL)
        return false;
    snprintf(line, size, "%.*s", (int)(end - from), from);
    *position = (uint64_t)(end + 1 - w->log);
    return true;
}

static void op_poweroff(void *context)
{
    (void)context;
    note('p', 0);
}

static void op_reboot(void *context)
{
    (void)context;
    note('b', 0);
}

static size_t op_room(void *context)
{
    return ((struct world *)context)->room;
}

static void op_write(void *context, const char *text, size_t length)
{
    struct world *w = context;

    assert_true(w->shown_length + length < sizeof(w->shown));
    if (w->room != SIZE_MAX) {
        assert_true(length <= w->room); /* the ring would lose some */
        w->room -= length;
    }
    memcpy(w->shown + w->shown_length, text, length);
    w->shown_length += length;
}

static const struct monitor_ops ops = {
    op_partition,   op_start,    op_stop,     op_reset,    op_focus,  op_dump_line, op_stats_line,
    op_memory_line, op_cpu_line, op_log_line, op_poweroff, op_reboot, op_room,      op_write,
};

static int start(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    world.room = SIZE_MAX;
    world.partitions = ARRAY_SIZE(rows);
    world.log = "";
    monitor_init(&monitor, &ops, &world);
    assert_int_equal(world.shown_length, 0);
    monitor_focused(&monitor);
    return 0;
}

/* Types, stepping until each byte is taken. */
static void type(const char *keys)
{
    for (; *keys != '\0'; keys++) {
        for (unsigned steps = 0; !monitor_input(&monitor, *keys); steps++) {
            assert_true(steps < 100);
            monitor_step(&monitor);
        }
    }
    for (unsigned steps = 0; steps < 10; steps++)
        monitor_step(&monitor);
}

static void expect(const char *text)
{
    world.shown[world.shown_length] = '\0';
    assert_string_equal(world.shown, text);
    world.shown_length = 0;
}

/* Types a command at the prompt: `text` appears between it and the next prompt. */
static void command(const char *line, const char *text)
{
    char keys[100], all[4000];

    world.shown_length = 0;
    snprintf(keys, sizeof(keys), "%s\r", line);
    snprintf(all, sizeof(all), "%s\r\n%s" PROMPT, line, text);
    type(keys);
    expect(all);
}

static void expect_actions(const char *actions)
{
    assert_string_equal(world.actions, actions);
    world.actions[0] = '\0';
}

/* ---- Sessions -------------------------------------------------------------------------------- */

static void prompt(void **state)
{
    (void)state;
    expect(PROMPT);
    command("", "");
    command("   ", "");
}

static void help(void **state)
{
    (void)state;
    command("help", "help           this\r\n"
                    "list           the partitions\r\n"
                    "start    NAME  start a partition\r\n"
                    "stop     NAME  stop it\r\n"
                    "reset    NAME  stop and start it\r\n"
                    "dump     NAME  its registers, VMCS and last exits\r\n"
                    "stats    NAME  its counters\r\n"
                    "console  NAME  give it the console\r\n"
                    "log            what Umbra has reported\r\n"
                    "memory         who owns the machine's memory\r\n"
                    "cpu            what the processor can do\r\n"
                    "poweroff       stop everything and power the machine off\r\n"
                    "reboot         stop everything and reset the machine\r\n");
}

static void list(void **state)
{
    (void)state;
    command("list", "no. name             state    vcpus   memory        exits  reason\r\n"
                    "  1 linux            running      1     256M       123456\r\n"
                    "  2 lfs-and-more-than-16 crashed      4       2G            7  triple fault\r\n"
                    "  3 lfs              refused      1  1048577            0  no file vmlinuz\r\n"
                    "  4 xen              stopped      2    1500K            0\r\n"
                    "  5 quiet            halted      32    1536M 18446744073709551615\r\n");
    world.partitions = 0;
    command("list", "no. name             state    vcpus   memory        exits  reason\r\n");
}

static void actions(void **state)
{
    (void)state;
    command("start xen", "xen started\r\n");
    command("stop linux", "linux stopped\r\n");
    command("  reset   quiet  ", "quiet reset\r\n");
    command("console lfs", "");
    command("poweroff", "");
    command("reboot", "");
    expect_actions("s3 h0 r4 f2 p0 b0 ");

    world.error = "it runs already";
    command("start linux", "error: cannot start linux: it runs already\r\n");
    command("stop xen", "error: cannot stop xen: it runs already\r\n");
    command("reset xen", "error: cannot reset xen: it runs already\r\n");
    command("console xen", "error: cannot show the console of xen: it runs already\r\n");
    expect_actions("s0 h3 r3 f3 ");
}

static void reports(void **state)
{
    (void)state;
    command("stats lfs", "stats 2 0\r\n");
    command("memory", "memory 0 0\r\n");
    command("cpu", "cpu 0 0\r\n");
    command("dump xen", "dump 3 0\r\ndump 3 1\r\ndump 3 2\r\ndump 3 3\r\ndump 3 4\r\n"
                        "dump 3 5\r\ndump 3 6\r\ndump 3 7\r\ndump 3 8\r\ndump 3 9\r\n");
    expect_actions("");
}

static void errors(void **state)
{
    (void)state;
    command("frob", "error: no command named frob (help lists them)\r\n");
    command("LIST", "error: no command named LIST (help lists them)\r\n");
    command("list linux", "error: list takes no argument\r\n");
    command("start", "error: start takes the name of one partition\r\n");
    command("start linux xen", "error: start takes the name of one partition\r\n");
    command("stop x", "error: no partition named x\r\n");
    command("stop linu", "error: no partition named linu\r\n");
    command("stop linuxx", "error: no partition named linuxx\r\n");
    world.partitions = 0;
    command("dump linux", "error: no partition named linux\r\n");
    expect_actions("");
}

/* Tab goes on as far as it is certain. */
static void completion(void **state)
{
    (void)state;
    world.shown_length = 0;
    type("he\t");
    expect("help ");
    type("\x15");
    world.shown_length = 0;
    type("sta\t"); /* start, stats */
    expect("sta\a");
    type("r\t");
    expect("rt ");
    type("l\t"); /* linux, lfs-and-more-than-16, lfs */
    expect("l\a");
    type("f\t");
    expect("fs");
    type("\t"); /* nothing after the name */
    expect("\a");
    type("\x15");
    world.shown_length = 0;
    type("list \t");
    expect("list \a");
    type("\x15");
    world.shown_length = 0;
    type("re\t");
    expect("re\a");
    type("\x15p\t");
    type("\r");
    expect_actions("p0 ");
}

/* While a command prints, nothing typed is taken; each step prints a few lines, and none without room. */
static void bounds(void **state)
{
    (void)state;
    for (const char *key = "dump linux\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    world.shown_length = 0;
    assert_false(monitor_input(&monitor, 'x'));
    monitor_step(&monitor);
    expect("dump 0 0\r\ndump 0 1\r\ndump 0 2\r\ndump 0 3\r\n");
    world.room = 511;
    monitor_step(&monitor);
    expect("");
    world.room = 512 + 5;
    monitor_step(&monitor);
    expect("dump 0 4\r\n");
    world.room = SIZE_MAX;
    monitor_step(&monitor);
    expect("dump 0 5\r\ndump 0 6\r\ndump 0 7\r\ndump 0 8\r\n");
    assert_false(monitor_input(&monitor, 'x'));
    monitor_step(&monitor);
    expect("dump 0 9\r\n" PROMPT);
    world.room = 511;
    assert_false(monitor_input(&monitor, 'x'));
    world.room = SIZE_MAX;
    assert_true(monitor_input(&monitor, 'x'));
    expect("x");
}

/* Focus in the middle of a command's output does not draw a prompt into it. */
static void focus(void **state)
{
    (void)state;
    for (const char *key = "dump linux\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    world.shown_length = 0;
    monitor_focused(&monitor);
    expect("");
    type("x");
    world.shown_length = 0;
    monitor_focused(&monitor);
    expect("\rumbra> x\x1b[K");
}

/* New lines of the log appear above the prompt, once; what the log held at first does not. */
static void log_appears(void **state)
{
    (void)state;
    monitor_init(&monitor, &ops, &world);
    world.log = "old\n";
    monitor_focused(&monitor);
    expect(PROMPT PROMPT);
    world.log = "old\nnew\nnewer\npart";
    monitor_step(&monitor);
    expect("\r\x1b[Knew\r\nnewer\r\n" PROMPT);
    monitor_step(&monitor);
    expect("");
    assert_true(monitor_input(&monitor, 'l'));
    world.log = "old\nnew\nnewer\npart of it\n1\n2\n3\n4\n";
    world.shown_length = 0;
    monitor_step(&monitor);
    expect("\r\x1b[Kpart of it\r\n1\r\n2\r\n3\r\n\rumbra> l\x1b[K");
    world.room = 511;
    monitor_step(&monitor);
    expect("");
    world.room = SIZE_MAX;
    monitor_step(&monitor);
    expect("\r\x1b[K4\r\n\rumbra> l\x1b[K");
}

/* The log command shows all of it, and what it has shown does not appear again. */
static void log_command(void **state)
{
    (void)state;
    world.log = "one\ntwo\n";
    type("");
    for (const char *key = "log\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    world.log = "one\ntwo\nthree\n";
    world.shown_length = 0;
    for (unsigned steps = 0; steps < 5; steps++)
        monitor_step(&monitor);
    expect("one\r\ntwo\r\nthree\r\n" PROMPT);
    command("log", "one\r\ntwo\r\nthree\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(prompt, start),      cmocka_unit_test_setup(help, start),
        cmocka_unit_test_setup(list, start),        cmocka_unit_test_setup(actions, start),
        cmocka_unit_test_setup(reports, start),     cmocka_unit_test_setup(errors, start),
        cmocka_unit_test_setup(completion, start),  cmocka_unit_test_setup(bounds, start),
        cmocka_unit_test_setup(focus, start),       cmocka_unit_test_setup(log_appears, start),
        cmocka_unit_test_setup(log_command, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
