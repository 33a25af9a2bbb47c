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
    char actions[400]; /* what was asked for, a letter and the partition each */
    unsigned again;    /* times that the next action answers MONITOR_AGAIN */
    unsigned complaints;
    char created[MONITOR_SECTION_MAX + 1];
    uint64_t now;
    uint64_t memory_end; /* guest memory is from 0x1000 to here; byte n is n & 0xff */
    struct trace traces[2];
};

static struct world world;
static struct monitor monitor;

static const struct monitor_partition rows[] = {
    {SLICE("linux"), MONITOR_RUNNING, 2, BIT(2) | BIT(3), false, MIB(256), 123456, NULL},
    {SLICE("lfs-and-more-than-16"), MONITOR_CRASHED, 4, 0x3b, false, GIB(2), 7, "triple fault"},
    {{"lfs-", 3}, MONITOR_REFUSED, 1, 0, false, 1048577, 0, "no file vmlinuz"},
    {SLICE("xen"), MONITOR_STOPPED, 2, 0, true, KIB(1500), 0, ""},
    {SLICE("gone"), MONITOR_ABSENT, 0, 0, false, 0, 0, NULL},
    {SLICE("quiet"), MONITOR_HALTED, 32, BIT(1), true, GIB(3) / 2, UINT64_MAX, NULL},
    {SLICE("all"), MONITOR_PAUSED, 1, UINT64_MAX, true, 0, 0, NULL},
    {SLICE("new"), MONITOR_STARTING, 1, BIT(63), false, 0, 0, NULL},
    /* The widest row: no other set of processors takes more characters. */
    {SLICE("old-and-as-long-as-names-can-be"), MONITOR_STOPPING, 43, 0xdb6db6db6db6db6d, true, UINT64_MAX,
     UINT64_MAX, "as asked for"},
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

/* Whatever is asked for takes world.again steps. */
static enum monitor_result answer(char letter, unsigned partition, bool again, struct monitor_error *error)
{
    static bool waited;

    assert_true(!again || waited);
    if (!again)
        note(letter, partition);
    waited = world.again > 0;
    if (world.again > 0) {
        world.again--;
        return MONITOR_AGAIN;
    }
    if (world.error == NULL)
        return MONITOR_DONE;
    snprintf(error->text, sizeof(error->text), "%s", world.error);
    return MONITOR_FAILED;
}

static enum monitor_result op_act(void *context, enum monitor_action action, unsigned partition, bool again,
                                  struct monitor_error *error)
{
    (void)context;
    return answer("shrpudf"[action], partition, again, error);
}

static enum monitor_result op_create(void *context, const char *text, size_t length, bool again,
                                     struct monitor_error *error)
{
    struct world *w = context;
    enum monitor_result result = answer('c', 0, again, error);

    assert_in_range(length, 0, MONITOR_SECTION_MAX);
    memcpy(w->created, text, length);
    w->created[length] = '\0';
    for (unsigned n = 0; result == MONITOR_FAILED && n < w->complaints; n++)
        monitor_complain(&monitor, n + 2, 5, "that is no key");
    return result;
}

static const char *op_set_key(void *context, unsigned number)
{
    static const char *const keys[] = {"weight", "cap", "on-stop", NULL};

    (void)context;
    return keys[number];
}

static bool op_set(void *context, unsigned partition, struct slice key, struct slice value,
                   struct monitor_error *error)
{
    char text[64];

    (void)context;
    snprintf(text, sizeof(text), "%.*s=%.*s@", SLICE_ARGUMENTS(key), SLICE_ARGUMENTS(value));
    strcat(world.actions, text);
    return answer('=', partition, false, error) == MONITOR_DONE;
}

static enum monitor_result op_snapshot(void *context, unsigned partition, unsigned vcpu, bool again,
                                       struct monitor_error *error)
{
    (void)context;
    return answer((char)('0' + vcpu), partition, again, error);
}

static void op_frame(void *context, unsigned partition, unsigned vcpu, struct monitor_frame *frame)
{
    (void)context, (void)partition;
    *frame = (struct monitor_frame){.rip = 0x7c00 + vcpu, .rbp = 0x2000, .width = 8};
}

static bool op_read_physical(void *context, unsigned partition, uint64_t address, void *bytes, size_t size)
{
    struct world *w = context;

    (void)partition;
    if (address < 0x1000 || address >= w->memory_end || size > w->memory_end - address)
        return false;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)(address + i);
    return true;
}

static bool op_read_linear(void *context, unsigned partition, unsigned vcpu, uint64_t address, void *bytes,
                           size_t size)
{
    const uint64_t frame[] = {0, 0xffffffff81000000};

    (void)context, (void)partition, (void)vcpu;
    assert_int_equal(size, sizeof(frame));
    if (address == 0x2000)
        memcpy(bytes, frame, sizeof(frame));
    return address == 0x2000;
}

static const struct trace *op_trace(void *context, unsigned partition, unsigned vcpu)
{
    struct world *w = context;

    (void)partition;
    return vcpu < ARRAY_SIZE(w->traces) ? &w->traces[vcpu] : NULL;
}

static bool op_trace_switch(void *context, unsigned partition, bool on, struct monitor_error *error)
{
    (void)context;
    return answer(on ? '+' : '-', partition, false, error) == MONITOR_DONE;
}

/* vCPU 0 of linux has half of pCPU 1 for itself, and exits a hundred times a second. */
static void op_sample(void *context, struct monitor_sample *sample)
{
    struct world *w = context;

    assert_int_equal(sample->vcpu_count, 0);
    sample->time = w->now;
    sample->cpu_count = 2;
    sample->idle[0] = w->now;
    sample->vcpu_count = 1;
    sample->vcpus[0] = (struct monitor_sample_vcpu){.name = "linux", .cpu = 1, .ran = w->now / 2};
    sample->vcpus[0].exits[MONITOR_EXIT_IO] = w->now / 10;
}

static uint64_t op_now(void *context)
{
    return ((struct world *)context)->now;
}

static uint64_t op_tick_hz(void *context)
{
    (void)context;
    return 1000;
}

/* Ten lines that say whose they are. */
static bool some_line(const char *what, unsigned partition, unsigned number, char *line, size_t size)
{
    snprintf(line, size, "%s %u %u", what, partition, number);
    return number < 10;
}

static bool op_dump_line(void *context, unsigned partition, unsigned vcpu, unsigned number, char *line,
                         size_t size)
{
    (void)context, (void)vcpu;
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
    .partition = op_partition,
    .act = op_act,
    .create = op_create,
    .set_key = op_set_key,
    .set = op_set,
    .snapshot = op_snapshot,
    .dump_line = op_dump_line,
    .frame = op_frame,
    .read_linear = op_read_linear,
    .read_physical = op_read_physical,
    .trace = op_trace,
    .trace_switch = op_trace_switch,
    .stats_line = op_stats_line,
    .memory_line = op_memory_line,
    .cpu_line = op_cpu_line,
    .log_line = op_log_line,
    .sample = op_sample,
    .now = op_now,
    .tick_hz = op_tick_hz,
    .poweroff = op_poweroff,
    .reboot = op_reboot,
    .room = op_room,
    .write = op_write,
};

static int start(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    world.room = SIZE_MAX;
    world.partitions = ARRAY_SIZE(rows);
    world.log = "";
    world.now = 1000;
    world.memory_end = 0x10000;
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
    command("help", "help     [COMMAND]          this, or one line of it\r\n"
                    "list                        the partitions\r\n"
                    "start    NAME               start a partition\r\n"
                    "stop     NAME               press its power button; by force after its timeout\r\n"
                    "reset    NAME               stop it by force and start it\r\n"
                    "pause    NAME               let it stand still\r\n"
                    "resume   NAME               let it go on\r\n"
                    "destroy  NAME               give back all that a stopped one has\r\n"
                    "create                      make one of the lines that follow, up to `end`\r\n"
                    "set      NAME KEY VALUE     change what may change while it lives\r\n"
                    "console  NAME               give it the console\r\n"
                    "dump     NAME [VCPU]        registers, VMCS and last exits\r\n"
                    "where    NAME [VCPU]        back-trace by frame pointers\r\n"
                    "memory   [NAME GPA LENGTH]  who owns the memory; or what is in a guest's\r\n"
                    "stats    NAME               its counters\r\n"
                    "top      [once]             who uses the processors, each second\r\n"
                    "trace    NAME on|off|save   time all exits; keep the last; print them\r\n"
                    "cpu                         the processors and what they can do\r\n"
                    "log                         what Umbra has reported\r\n"
                    "plain    on|off             talk to a program; also --plain COMMAND\r\n"
                    "poweroff                    stop everything and power the machine off\r\n"
                    "reboot                      stop everything and reset the machine\r\n");
    command("help list", "list                        the partitions\r\n");
    command("help set", "set      NAME KEY VALUE     change what may change while it lives\r\n");
    /* Not `log: …`, which a program takes for a line of the log. */
    command("help log", "log                         what Umbra has reported\r\n");
    command("help frob", "error: no command named frob (help lists them)\r\n");
}

static void list(void **state)
{
    (void)state;
    command("list", "no. name             state    vcpus cpus      memory        exits  reason\r\n"
                    "  1 linux            running      2 2-3         256M       123456\r\n"
                    "  2 lfs-and-more-than-16 crashed      4 0-1,3-5       2G            7  triple fault\r\n"
                    "  3 lfs              refused      1 -        1048577            0  no file vmlinuz\r\n"
                    "  4 xen              stopped      2 -          1500K            0\r\n"
                    "  6 quiet            halted      32 1*         1536M 18446744073709551615\r\n"
                    "  7 all              paused       1 0-63*          0            0\r\n"
                    "  8 new              starting     1 63             0            0\r\n"
                    "  9 old-and-as-long-as-names-can-be stopping    43 "
                    "0,2-3,5-6,8-9,11-12,14-15,17-18,20-21,23-24,26-27,29-30,32-33,35-36,"
                    "38-39,41-42,44-45,47-48,50-51,53-54,56-57,59-60,62-63*"
                    " 18446744073709551615 18446744073709551615  as asked for\r\n");
    world.partitions = 0;
    command("list", "no. name             state    vcpus cpus      memory        exits  reason\r\n");
}

static void actions(void **state)
{
    (void)state;
    command("start xen", "xen started\r\n");
    command("stop linux", "linux stopped\r\n");
    command("  reset   quiet  ", "quiet reset\r\n");
    command("console lfs", "");
    command("pause linux", "linux paused\r\n");
    command("resume linux", "linux resumed\r\n");
    command("destroy xen", "xen destroyed\r\n");
    command("poweroff", "");
    command("reboot", "");
    expect_actions("s3 h0 r5 f2 p0 u0 d3 p0 b0 ");

    world.error = "it runs already";
    command("start linux", "error: cannot start linux: it runs already\r\n");
    command("stop xen", "error: cannot stop xen: it runs already\r\n");
    command("reset xen", "error: cannot reset xen: it runs already\r\n");
    command("console xen", "error: cannot show the console of xen: it runs already\r\n");
    expect_actions("s0 h3 r3 f3 ");
}

static void set(void **state)
{
    (void)state;
    command("set linux weight 200", "");
    command("set xen  cap   50 %  ", "");
    expect_actions("weight=200@=0 cap=50 %@=3 ");
    command("set linux memory 1G", "error: no key named memory may be set (Tab shows them)\r\n");
    command("set linux weight", "error: usage: set NAME KEY VALUE\r\n");
    expect_actions("");
    world.error = "it is too heavy";
    command("set linux weight 9", "error: cannot set weight of linux: it is too heavy\r\n");
}

static void reports(void **state)
{
    (void)state;
    command("stats lfs", "stats 2 0\r\n");
    command("memory", "memory 0 0\r\n");
    command("cpu", "cpu 0 0\r\n");
    command("dump xen", "dump 3 0\r\ndump 3 1\r\ndump 3 2\r\ndump 3 3\r\ndump 3 4\r\n"
                        "dump 3 5\r\ndump 3 6\r\ndump 3 7\r\ndump 3 8\r\ndump 3 9\r\n");
    expect_actions("03 ");
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
    command("stop gone", "error: no partition named gone\r\n");
    command("plain maybe", "error: usage: plain on|off\r\n");
    command("top twice", "error: usage: top [once]\r\n");
    command("trace linux", "error: usage: trace NAME on|off|save\r\n");
    command("trace linux on now", "error: usage: trace NAME on|off|save\r\n");
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
    type("\t"); /* any partition */
    expect("\a");
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
    type("re\t"); /* reset, resume, reboot */
    expect("re\a");
    type("\x15po\t");
    type("\r");
    expect_actions("p0 ");
    world.shown_length = 0;
    type("set q\t\t"); /* the name; then no key is certain */
    expect("set quiet \a");
    type("w\t1\t");
    expect("weight 1\a");
    type("\x15");
    world.shown_length = 0;
    type("trace x\to\t"); /* on, off */
    expect("trace xen o\a");
    type("f\t\t");
    expect("ff \a");
    type("\x15");
    world.shown_length = 0;
    type("--plain he\tsto\t");
    expect("--plain help stop ");
    type("\x15");
    world.shown_length = 0;
    type("stop g\t"); /* it is gone */
    expect("stop g\a");
}

/* A command that takes its time is asked once a step; nothing typed is taken meanwhile, and the log appears.
 */
static void waiting(void **state)
{
    (void)state;
    world.again = 3;
    for (const char *key = "start xen\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    expect(PROMPT "start xen\r\n");
    assert_int_equal(world.again, 2);
    assert_false(monitor_input(&monitor, 'x'));
    assert_int_equal(monitor_deadline(&monitor), 1010);
    world.log = "news\n";
    monitor_step(&monitor);
    expect("news\r\n");
    monitor_focused(&monitor);
    expect("");
    monitor_step(&monitor);
    monitor_step(&monitor);
    expect("xen started\r\n" PROMPT);
    expect_actions("s3 ");
    assert_int_equal(monitor_deadline(&monitor), UINT64_MAX);

    world.again = 3;
    world.error = "its kernel is no kernel";
    command("start xen", "error: cannot start xen: its kernel is no kernel\r\n");
}

/* ^C ends the waiting, and whatever is printed. */
static void interrupts(void **state)
{
    (void)state;
    world.again = 1;
    for (const char *key = "stop linux\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    world.shown_length = 0;
    world.room = 511;
    assert_true(monitor_input(&monitor, '\x03'));
    monitor_step(&monitor);
    expect(""); /* there is no room to say so */
    assert_int_equal(monitor_deadline(&monitor), 0);
    world.room = SIZE_MAX;
    monitor_step(&monitor);
    expect("error: interrupted\r\n" PROMPT);
    world.again = 0;
    for (unsigned steps = 0; steps < 5; steps++)
        monitor_step(&monitor);
    expect("");

    for (const char *key = "help\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    monitor_step(&monitor);
    assert_true(monitor_input(&monitor, '\x03'));
    world.shown_length = 0;
    monitor_step(&monitor);
    expect("error: interrupted\r\n" PROMPT);
    command("start xen", "xen started\r\n");
}

/* A section is taken line by line, whatever it says, up to its end. */
static void create(void **state)
{
    (void)state;
    world.shown_length = 0;
    type("create\r");
    expect("create\r\nthe section's lines, then `end` (^C: never mind)\r\n\rcreate> \x1b[K");
    type("[partition new]\r\n");
    expect("[partition new]\r\n\rcreate> \x1b[K");
    type("\tmemory\t= 1M\r"); /* a tab is a blank */
    type("# list\r\rlist\r");
    expect_actions("");
    world.again = 2;
    world.shown_length = 0;
    type(" end \r");
    expect(" end \r\ncreated\r\n" PROMPT);
    assert_string_equal(world.created, "[partition new]\n memory = 1M\n# list\n\nlist\n");
    expect_actions("c0 ");

    /* what it is wrong with it comes first */
    type("create\r[partition new]\rkernel\r");
    world.shown_length = 0;
    world.error = "2 errors";
    world.complaints = 2;
    type(".\r");
    expect(".\r\n2:5: that is no key\r\n3:5: that is no key\r\n"
           "error: cannot create it: 2 errors\r\n" PROMPT);
    type("create\r");
    world.complaints = MONITOR_COMPLAINTS + 3;
    world.shown_length = 0;
    type("end\r");
    assert_non_null(strstr(world.shown, "9:5: that is no key\r\nand 3 more\r\nerror: "));
    world.shown_length = 0;
    world.actions[0] = '\0';

    /* ^C: nothing is made */
    type("create\r[partition new]\r");
    world.shown_length = 0;
    type("kern\x03");
    expect("kern^C\r\nerror: interrupted\r\n" PROMPT);
    expect_actions("");

    /* too long: refused, but read to its end */
    type("create\r");
    for (unsigned n = 0; n < MONITOR_SECTION_MAX / 45; n++)
        type("cmdline = console=ttyS0 and so on and so forth..\r");
    type("poweroff\rpoweroff\rpoweroff\r");
    world.shown_length = 0;
    type("end\r");
    expect("end\r\nerror: cannot create it: the section has more than 4096 bytes\r\n" PROMPT);
    expect_actions("");
}

/* While lines are taken, what is new in the log appears above them. */
static void create_and_log(void **state)
{
    (void)state;
    type("create\rke");
    world.shown_length = 0;
    world.log = "news\n";
    monitor_step(&monitor);
    expect("\r\x1b[Knews\r\n\rcreate> ke\x1b[K");
    assert_int_equal(monitor_deadline(&monitor), UINT64_MAX);
}

static void guest_memory(void **state)
{
    (void)state;
    command("memory linux 0x1040 20",
            "0000000000001040  40 41 42 43 44 45 46 47  48 49 4a 4b 4c 4d 4e 4f  |@ABCDEFGHIJKLMNO|\r\n"
            "0000000000001050  50 51 52 53                                       |PQRS|\r\n");
    command("memory linux 65532 8",
            "000000000000fffc  fc fd fe ff ?? ?? ?? ??                           |........|\r\n");
    command("memory linux 0xfffffffffffffff0 0x10",
            "fffffffffffffff0  ?? ?? ?? ?? ?? ?? ?? ??  ?? ?? ?? ?? ?? ?? ?? ??  |................|\r\n");
    command("memory linux 0xfffffffffffffff0 0x11", "error: there are no such addresses\r\n");
    command("memory linux 0 0", "");
    command("memory linux 0", "error: usage: memory [NAME GPA LENGTH]\r\n");
    command("memory linux 10 1f", "error: 1f is no number (decimal, or 0x and hexadecimal)\r\n");
    command("memory linux 0xfffffffffffffffff 1",
            "error: 0xfffffffffffffffff is no number (decimal, or 0x and hexadecimal)\r\n");
    command("memory linux 0x 1", "error: 0x is no number (decimal, or 0x and hexadecimal)\r\n");
}

static void where(void **state)
{
    (void)state;
    world.again = 1;
    command("where linux 1", "#0  0000000000007c01\r\n"
                             "#1  ffffffff81000000  frame 0000000000002000\r\n"
                             "end: frame 0000000000000000 ends the chain\r\n");
    expect_actions("10 ");
    command("where linux 2", "error: linux has 2 virtual processors, counted from 0\r\n");
    world.error = "it never ran";
    command("dump linux 1", "error: cannot look at linux: it never ran\r\n");
}

static void traces(void **state)
{
    char start[] = "--plain trace linux save\r";

    (void)state;
    command("trace linux on", "");
    command("trace xen off", "");
    expect_actions("+0 -3 ");
    trace_add(&world.traces[0], 1, 10, 2, 3);
    trace_add(&world.traces[0], 4, 12, 5, 6);
    trace_add(&world.traces[1], 7, 30, 8, 9);
    command("trace linux save", "trace-begin partition=linux vcpus=2 tsc_hz=1000\r\n"
                                "trace 0 1 a 2 0 3 0\r\ntrace 0 4 c 5 0 6 0\r\n"
                                "trace 1 7 1e 8 0 9 0\r\n"
                                "trace-end records=3 lost=0\r\n");
    memset(world.traces, 0, sizeof(world.traces));
    command("trace linux save", "trace-begin partition=linux vcpus=2 tsc_hz=1000\r\n"
                                "trace-end records=0 lost=0\r\n");

    /* a vCPU that goes on: what it overwrites before it is printed is lost, what is new is not begun */
    for (unsigned n = 0; n < TRACE_RECORDS / 2; n++)
        trace_add(&world.traces[0], n, 0, 0, 0);
    for (const char *key = start; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    monitor_step(&monitor); /* begin, and three records */
    for (unsigned n = 0; n < TRACE_RECORDS - 1; n++)
        trace_add(&world.traces[0], n, 0, 0, 0);
    world.shown_length = 0;
    for (unsigned steps = 0; steps < 5; steps++)
        monitor_step(&monitor);
    expect("trace-end records=3 lost=125\r\nok\r\n" PROMPT);
}

#define TABLE_HEAD "cpu partition    vcpu  share  exits/s   irq    io   mem   msr cpuid  halt other"
#define TABLE_CPU0 "  0 idle            -  100.0%"
#define TABLE_CPU1 "  1 linux           0   50.0%      100     0   100     0     0     0     0     0"
#define TABLE_IDLE "  1 idle            -    0.0%"

static void top_once(void **state)
{
    (void)state;
    world.shown_length = 0;
    type("top once\r");
    expect("top once\r\n");
    assert_int_equal(monitor_deadline(&monitor), 2000);
    world.now = 1999;
    monitor_step(&monitor);
    expect("");
    world.now = 2000;
    for (unsigned steps = 0; steps < 5; steps++)
        monitor_step(&monitor);
    expect("2 processors, 1.000 s\r\n" TABLE_HEAD "\r\n" TABLE_CPU0 "\r\n" TABLE_CPU1 "\r\n" TABLE_IDLE
           "\r\n\r\nmemory 0 0\r\n" PROMPT);
    /* the next command has times of its own */
    world.again = 1;
    for (const char *key = "start xen\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    world.now = 5000;
    assert_int_equal(monitor_deadline(&monitor), 5010);
}

/* The table is redrawn each second until a key is pressed, which does nothing else. */
static void top_live(void **state)
{
    (void)state;
    world.shown_length = 0;
    type("top\r");
    expect("top\r\n\x1b[H\x1b[2J");
    for (unsigned second = 0; second < 3; second++) {
        monitor_step(&monitor);
        expect("");
        world.now += second == 1 ? 2500 : 1000;
        for (unsigned steps = 0; steps < 5; steps++)
            monitor_step(&monitor);
        world.shown[world.shown_length] = '\0';
        assert_non_null(strstr(world.shown, second == 1 ? "\x1b[H2 processors, 2.500 s\x1b[K\r\n"
                                                        : "\x1b[H2 processors, 1.000 s\x1b[K\r\n"));
        assert_non_null(strstr(world.shown, TABLE_CPU1 "\x1b[K\r\n" TABLE_IDLE "\x1b[K\r\n\x1b[K\r\n"
                                                       "memory 0 0\x1b[K\r\n\x1b[J"));
        assert_int_equal(monitor_deadline(&monitor), world.now + 1000);
        world.shown_length = 0;
    }
    world.log = "news\n";
    monitor_step(&monitor);
    expect("");
    assert_true(monitor_input(&monitor, 'q'));
    monitor_step(&monitor);
    expect(PROMPT);
    monitor_step(&monitor);
    expect("\r\x1b[Knews\r\n" PROMPT);
}

/* To a program: no prompt, no echo, no escape sequences; one last line; the log between commands. */
static void plain(void **state)
{
    (void)state;
    command("--plain start xen", "ok\r\n");
    command("--plain frob", "error: no command named frob (help lists them)\r\n");
    command("--plain", "");
    world.shown_length = 0;
    type("plain on\r");
    expect("plain on\r\nok\r\n");
    type("start xen\r");
    expect("ok\r\n");
    type("\r  \r");
    expect("");
    type("stats lfs\r\n");
    expect("stats 2 0\r\nok\r\n");
    type("lixt\x7f\x7fst linux\r");
    expect("error: list takes no argument\r\n");
    monitor_focused(&monitor);
    expect("");

    /* the log waits for the end of a command */
    for (const char *key = "dump xen\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    world.log = "one\ntwo\n";
    monitor_step(&monitor);
    expect("dump 3 0\r\ndump 3 1\r\ndump 3 2\r\ndump 3 3\r\n");
    for (unsigned steps = 0; steps < 5; steps++)
        monitor_step(&monitor);
    expect("dump 3 4\r\ndump 3 5\r\ndump 3 6\r\ndump 3 7\r\ndump 3 8\r\ndump 3 9\r\nok\r\n"
           "log: one\r\nlog: two\r\n");
    type("log\r");
    expect("one\r\ntwo\r\nok\r\n");
    world.again = 1000;
    for (const char *key = "start xen\r"; *key != '\0'; key++)
        assert_true(monitor_input(&monitor, *key));
    world.log = "one\ntwo\nthree\n";
    monitor_step(&monitor);
    expect("");
    assert_true(monitor_input(&monitor, '\x03'));
    for (unsigned steps = 0; steps < 5; steps++)
        monitor_step(&monitor);
    expect("error: interrupted\r\nlog: three\r\n");
    world.again = 0;

    type("create\r[partition x]\rend\r");
    expect("ok\r\n");
    type("create\r[partition x]\x03");
    expect("error: interrupted\r\n");
    type("top\r");
    world.now += 1000;
    type("");
    expect("2 processors, 1.000 s\r\n" TABLE_HEAD "\r\n" TABLE_CPU0 "\r\n" TABLE_CPU1 "\r\n" TABLE_IDLE
           "\r\n\r\nmemory 0 0\r\nok\r\n");
    type("plain off\r");
    expect("ok\r\n" PROMPT);
    command("start xen", "xen started\r\n");
    command("plain off", "");
    command("--plain plain off", "ok\r\n");
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
        cmocka_unit_test_setup(prompt, start),       cmocka_unit_test_setup(help, start),
        cmocka_unit_test_setup(list, start),         cmocka_unit_test_setup(actions, start),
        cmocka_unit_test_setup(set, start),          cmocka_unit_test_setup(reports, start),
        cmocka_unit_test_setup(errors, start),       cmocka_unit_test_setup(completion, start),
        cmocka_unit_test_setup(bounds, start),       cmocka_unit_test_setup(focus, start),
        cmocka_unit_test_setup(log_appears, start),  cmocka_unit_test_setup(log_command, start),
        cmocka_unit_test_setup(waiting, start),      cmocka_unit_test_setup(interrupts, start),
        cmocka_unit_test_setup(create, start),       cmocka_unit_test_setup(create_and_log, start),
        cmocka_unit_test_setup(guest_memory, start), cmocka_unit_test_setup(where, start),
        cmocka_unit_test_setup(traces, start),       cmocka_unit_test_setup(top_once, start),
        cmocka_unit_test_setup(top_live, start),     cmocka_unit_test_setup(plain, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
