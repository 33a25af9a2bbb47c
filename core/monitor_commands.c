// SPDX-License-Identifier: BSD-2-Clause
/* The commands. */
#include "core/monitor_private.h"
#include "lib/printf.h"
#include "lib/string.h"

#define SCREEN_CLEAR "\x1b[H\x1b[2J"
#define SCREEN_HOME  "\x1b[H"
#define ERASE_TO_END "\x1b[K"
#define ERASE_BELOW  "\x1b[J"

/* ---- list ------------------------------------------------------------------------------------ */

static const char *state_name(enum monitor_state state)
{
    static const char *const names[] = {
        [MONITOR_ABSENT] = "absent",     [MONITOR_REFUSED] = "refused",   [MONITOR_STOPPED] = "stopped",
        [MONITOR_STARTING] = "starting", [MONITOR_RUNNING] = "running",   [MONITOR_HALTED] = "halted",
        [MONITOR_PAUSED] = "paused",     [MONITOR_STOPPING] = "stopping", [MONITOR_CRASHED] = "crashed",
    };

    return names[state];
}

/* "256M", in the largest unit that divides it. */
static const char *size_text(uint64_t bytes, char *text, size_t size)
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    unsigned unit = 0;

    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < ARRAY_SIZE(units)) {
        bytes /= 1024;
        unit++;
    }
    format_text(text, size, "%lu%s", bytes, units[unit]);
    return text;
}

/* Bytes of the longest text of 64 processors, "0,2-3,5-6,…,62-63*", and its terminator; and a little more. */
#define CPUS_TEXT_MAX 128

/* "1,3-5", with a star behind if others may be there; "-" for none. `size` is CPUS_TEXT_MAX. */
static const char *cpus_text(uint64_t cpus, bool shared, char *text, size_t size)
{
    size_t length = 0;

    if (cpus == 0)
        return "-";
    while (cpus != 0 && length < size) {
        unsigned first = (unsigned)__builtin_ctzll(cpus);
        uint64_t run = ~(cpus >> first);
        unsigned count = run == 0 ? 64 : (unsigned)__builtin_ctzll(run);
        length += (size_t)format_text(text + length, size - length, count == 1 ? "%s%u" : "%s%u-%u",
                                      length == 0 ? "" : ",", first, first + count - 1);
        cpus &= count == 64 ? 0 : ~((BIT(count) - 1) << first);
    }
    if (shared && length < size)
        format_text(text + length, size - length, "*");
    return text;
}

/* Partition numbers have gaps where one was destroyed: `line` counts rows, the partitions that are there. */
static bool row_at(struct monitor *m, unsigned line, unsigned *partition, struct monitor_partition *row)
{
    for (*partition = 0; m->ops->partition(m->context, *partition, row); ++*partition)
        if (row->state != MONITOR_ABSENT && line-- == 0)
            return true;
    return false;
}

static bool list_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    struct monitor_partition row;
    char memory[24], cpus[CPUS_TEXT_MAX];
    unsigned partition;

    if (number == 0) {
        format_text(line, size, "%3s %-16s %-8s %5s %-7s %8s %12s  %s", "no.", "name", "state", "vcpus",
                    "cpus", "memory", "exits", "reason");
        return true;
    }
    if (!row_at(m, number - 1, &partition, &row))
        return false;
    bool told = row.reason != NULL && row.reason[0] != '\0';
    format_text(
        line, size, "%3u %-16.*s %-8s %5u %-7s %8s %12lu%s%s", partition + 1, SLICE_ARGUMENTS(row.name),
        state_name(row.state), row.vcpus, cpus_text(row.cpus, row.shared, cpus, sizeof(cpus)),
        size_text(row.memory, memory, sizeof(memory)), row.exits, told ? "  " : "", told ? row.reason : "");
    return true;
}

/* ---- Commands that print what an op yields --------------------------------------------------- */

static bool dump_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    return m->ops->dump_line(m->context, m->partition, m->vcpu, number, line, size);
}

static bool stats_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    return m->ops->stats_line(m->context, m->partition, number, line, size);
}

static bool memory_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    return m->ops->memory_line(m->context, number, line, size);
}

static bool cpu_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    return m->ops->cpu_line(m->context, number, line, size);
}

/* What the user has seen by `log` is not shown a second time. */
static bool log_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    if (number == 0)
        m->list_position = 0;
    if (m->ops->log_line(m->context, &m->list_position, line, size))
        return true;
    m->log_position = max_u64(m->log_position, m->list_position);
    return false;
}

static void run_list(struct monitor *m)
{
    monitor_print(m, list_line);
}

static void run_stats(struct monitor *m)
{
    monitor_print(m, stats_line);
}

static void run_cpu(struct monitor *m)
{
    monitor_print(m, cpu_line);
}

static void run_log(struct monitor *m)
{
    monitor_print(m, log_line);
}

/* ---- Commands that act on a partition -------------------------------------------------------- */

static const struct {
    const char *verb; /* what it was to do, when it fails */
    const char *done; /* what to say when it is done, or NULL */
} actions[] = {
    [MONITOR_START] = {"start", "started"},
    [MONITOR_STOP] = {"stop", "stopped"},
    [MONITOR_RESET] = {"reset", "reset"},
    [MONITOR_PAUSE] = {"pause", "paused"},
    [MONITOR_RESUME] = {"resume", "resumed"},
    [MONITOR_DESTROY] = {"destroy", "destroyed"},
    [MONITOR_FOCUS] = {"show the console of", NULL},
};

static enum monitor_result poll_action(struct monitor *m, bool again, struct monitor_error *error)
{
    struct monitor_error why = {.text = ""};
    enum monitor_result result = m->ops->act(m->context, m->action, m->partition, again, &why);

    if (result == MONITOR_FAILED)
        format_text(error->text, sizeof(error->text), "cannot %s %s: %s", actions[m->action].verb, m->name,
                    why.text);
    return result;
}

static void say_done(struct monitor *m)
{
    if (actions[m->action].done != NULL && !monitor_is_plain(m))
        monitor_say(m, "%s %s", m->name, actions[m->action].done);
}

static void act(struct monitor *m, enum monitor_action action)
{
    m->action = action;
    monitor_wait(m, poll_action, say_done);
}

static void run_start(struct monitor *m)
{
    act(m, MONITOR_START);
}

static void run_stop(struct monitor *m)
{
    act(m, MONITOR_STOP);
}

static void run_reset(struct monitor *m)
{
    act(m, MONITOR_RESET);
}

static void run_pause(struct monitor *m)
{
    act(m, MONITOR_PAUSE);
}

static void run_resume(struct monitor *m)
{
    act(m, MONITOR_RESUME);
}

static void run_destroy(struct monitor *m)
{
    act(m, MONITOR_DESTROY);
}

static void run_console(struct monitor *m)
{
    act(m, MONITOR_FOCUS);
}

static void run_set(struct monitor *m)
{
    struct monitor_error why = {.text = ""};

    if (!m->ops->set(m->context, m->partition, m->arguments[1], m->arguments[2], &why))
        monitor_fail(m, "cannot set %.*s of %s: %s", SLICE_ARGUMENTS(m->arguments[1]), m->name, why.text);
}

/* ---- A look into a guest --------------------------------------------------------------------- */

/* A number, decimal or after 0x hexadecimal. */
static bool parse_number(struct slice text, uint64_t *number)
{
    bool hex = text.length > 2 && text.start[0] == '0' && (text.start[1] | 0x20) == 'x';
    uint64_t base = hex ? 16 : 10;

    *number = 0;
    for (size_t i = hex ? 2 : 0; i < text.length; i++) {
        char c = text.start[i];
        char letter = (char)(c | 0x20);
        uint64_t digit = c >= '0' && c <= '9'             ? (uint64_t)(c - '0')
                         : letter >= 'a' && letter <= 'f' ? (uint64_t)(letter - 'a' + 10)
                                                          : 16;
        if (digit >= base || *number > (UINT64_MAX - digit) / base)
            return false;
        *number = *number * base + digit;
    }
    return text.length > 0;
}

/* The number that argument `place` is, or a failure. */
static bool number_argument(struct monitor *m, unsigned place, uint64_t *number)
{
    if (parse_number(m->arguments[place], number))
        return true;
    monitor_fail(m, "%.*s is no number (decimal, or 0x and hexadecimal)",
                 SLICE_ARGUMENTS(m->arguments[place]));
    return false;
}

static enum monitor_result poll_snapshot(struct monitor *m, bool again, struct monitor_error *error)
{
    struct monitor_error why = {.text = ""};
    enum monitor_result result = m->ops->snapshot(m->context, m->partition, m->vcpu, again, &why);

    if (result == MONITOR_FAILED)
        format_text(error->text, sizeof(error->text), "cannot look at %s: %s", m->name, why.text);
    return result;
}

/* Has the vCPU that argument 1 names, or the first, copied; then calls `then`. */
static void look(struct monitor *m, void (*then)(struct monitor *))
{
    struct monitor_partition row = {.vcpus = 0};
    uint64_t vcpu = 0;

    if (m->argument_count > 1 && !number_argument(m, 1, &vcpu))
        return;
    if (!m->ops->partition(m->context, m->partition, &row) || vcpu >= row.vcpus) {
        monitor_fail(m, "%s has %u virtual processors, counted from 0", m->name, row.vcpus);
        return;
    }
    m->vcpu = (unsigned)vcpu;
    monitor_wait(m, poll_snapshot, then);
}

static void print_dump(struct monitor *m)
{
    monitor_print(m, dump_line);
}

static void run_dump(struct monitor *m)
{
    look(m, print_dump);
}

static bool read_linear(void *context, uint64_t address, void *bytes, size_t size)
{
    struct monitor *m = context;

    return m->ops->read_linear(m->context, m->partition, m->vcpu, address, bytes, size);
}

static bool read_physical(void *context, uint64_t address, void *bytes, size_t size)
{
    struct monitor *m = context;

    return m->ops->read_physical(m->context, m->partition, address, bytes, size);
}

static bool where_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    const struct monitor_memory memory = {read_linear, m};

    (void)number;
    return monitor_backtrace_line(&m->backtrace, &memory, line, size);
}

static void print_where(struct monitor *m)
{
    struct monitor_frame frame = {.width = 8};

    m->ops->frame(m->context, m->partition, m->vcpu, &frame);
    monitor_backtrace_begin(&m->backtrace, &frame);
    monitor_print(m, where_line);
}

static void run_where(struct monitor *m)
{
    look(m, print_where);
}

static bool guest_memory_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    const struct monitor_memory memory = {read_physical, m};

    (void)number;
    if (m->length == 0)
        return false;
    uint64_t count = min_u64(m->length, MONITOR_DUMP_BYTES);
    monitor_memory_line(&memory, m->address, count, line, size);
    m->address += count;
    m->length -= count;
    return true;
}

static void run_memory(struct monitor *m)
{
    if (m->argument_count == 0) {
        monitor_print(m, memory_line);
        return;
    }
    if (m->argument_count < 3) {
        monitor_fail(m, "usage: memory [NAME GPA LENGTH]");
        return;
    }
    if (!number_argument(m, 1, &m->address) || !number_argument(m, 2, &m->length))
        return;
    if (m->length > 0 && m->address + m->length - 1 < m->address)
        monitor_fail(m, "there are no such addresses");
    else
        monitor_print(m, guest_memory_line);
}

/* ---- trace ----------------------------------------------------------------------------------- */

/* All records of all vCPUs, between a line that says whose they are and one that says how many. */
static bool save_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    struct trace_record record;
    const struct trace *trace;
    uint32_t duration;

    if (number == 0) {
        unsigned vcpus = 0;
        while (m->ops->trace(m->context, m->partition, vcpus) != NULL)
            vcpus++;
        format_text(line, size, "trace-begin partition=%s vcpus=%u tsc_hz=%lu", m->name, vcpus,
                    m->ops->tick_hz(m->context));
        return true;
    }
    while (!m->save.ended && (trace = m->ops->trace(m->context, m->partition, m->save.vcpu)) != NULL) {
        if (m->save.position == 0)
            m->save.end = trace->count;
        uint64_t wanted = m->save.position;
        if (trace_read(trace, &m->save.position, &record, &duration) && m->save.position <= m->save.end) {
            /* Where it did not begin with, what is missing is lost. */
            if (wanted > 0)
                m->save.lost += m->save.position - 1 - wanted;
            m->save.records++;
            trace_format_saved(&record, m->save.vcpu, duration, line, size);
            return true;
        }
        if (wanted > 0 && wanted < m->save.end)
            m->save.lost += m->save.end - wanted;
        m->save.vcpu++;
        m->save.position = 0;
    }
    if (m->save.ended)
        return false;
    m->save.ended = true;
    format_text(line, size, "trace-end records=%lu lost=%lu", m->save.records, m->save.lost);
    return true;
}

static void run_trace(struct monitor *m)
{
    struct monitor_error why = {.text = ""};
    bool on = slice_is(m->arguments[1], "on");

    if (slice_is(m->arguments[1], "save")) {
        memset(&m->save, 0, sizeof(m->save));
        monitor_print(m, save_line);
    } else if (!m->ops->trace_switch(m->context, m->partition, on, &why)) {
        monitor_fail(m, "cannot trace %s: %s", m->name, why.text);
    }
}

/* ---- top ------------------------------------------------------------------------------------- */

static void take_sample(struct monitor *m)
{
    m->top.newest ^= 1;
    struct monitor_sample *sample = &m->top.samples[m->top.newest];
    memset(sample, 0, sizeof(*sample));
    m->ops->sample(m->context, sample);
    m->top.next = sample->time + m->ops->tick_hz(m->context);
}

/* The table, and below it who owns the memory. On a live screen each line covers the one of the last table.
 */
static bool top_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    const char *first = m->top.live && number == 0 ? SCREEN_HOME : "";
    size_t length = (size_t)format_text(line, size, "%s", first);
    size_t room = size - length - (sizeof(ERASE_TO_END) - 1);

    if (monitor_top_line(&m->top.table, number, line + length, room)) {
        m->top.own_lines = number + 1;
    } else if (number == m->top.own_lines) {
        line[length] = '\0';
    } else if (!m->ops->memory_line(m->context, number - m->top.own_lines - 1, line + length, room)) {
        return false;
    }
    if (m->top.live) {
        length = strlen(line);
        format_text(line + length, size - length, "%s", ERASE_TO_END);
    }
    return true;
}

static enum monitor_result poll_top(struct monitor *m, bool again, struct monitor_error *error)
{
    (void)again, (void)error;
    return m->ops->now(m->context) < m->top.next ? MONITOR_AGAIN : MONITOR_DONE;
}

static void show_top(struct monitor *m)
{
    const struct monitor_sample *before = &m->top.samples[m->top.newest];

    take_sample(m);
    monitor_top_compare(&m->top.table, before, &m->top.samples[m->top.newest], m->ops->tick_hz(m->context));
    monitor_print(m, top_line);
}

static void next_top(struct monitor *m)
{
    m->ops->write(m->context, ERASE_BELOW, sizeof(ERASE_BELOW) - 1);
    monitor_wait(m, poll_top, show_top);
}

static void run_top(struct monitor *m)
{
    m->top.live = m->argument_count == 0 && !monitor_is_plain(m);
    if (m->top.live) {
        m->ops->write(m->context, SCREEN_CLEAR, sizeof(SCREEN_CLEAR) - 1);
        m->more = next_top;
    }
    take_sample(m);
    monitor_wait(m, poll_top, show_top);
}

/* ---- The rest -------------------------------------------------------------------------------- */

static void run_poweroff(struct monitor *m)
{
    m->ops->poweroff(m->context);
}

static void run_reboot(struct monitor *m)
{
    m->ops->reboot(m->context);
}

/* That it is off now is itself told in the old way. */
static void run_plain(struct monitor *m)
{
    m->plain_once |= m->plain;
    m->plain = slice_is(m->arguments[0], "on");
}

#define HELP_FORMAT "%-8s %-18s %s"

static bool help_line(struct monitor *m, unsigned number, char *line, size_t size)
{
    const struct monitor_command *c = &monitor_commands[number];

    (void)m;
    if (c->name == NULL)
        return false;
    format_text(line, size, HELP_FORMAT, c->name, c->usage, c->help);
    return true;
}

static void run_help(struct monitor *m)
{
    if (m->argument_count == 0) {
        monitor_print(m, help_line);
        return;
    }
    for (const struct monitor_command *c = monitor_commands; c->name != NULL; c++) {
        if (slice_is(m->arguments[0], c->name)) {
            monitor_say(m, HELP_FORMAT, c->name, c->usage, c->help);
            return;
        }
    }
    monitor_fail(m, "no command named %.*s (help lists them)", SLICE_ARGUMENTS(m->arguments[0]));
}

/* clang-format off */
const struct monitor_command monitor_commands[] = {
    {"help", "[COMMAND]", "this, or one line of it", {ARGUMENT_COMMAND}, 0, run_help},
    {"list", "", "the partitions", {0}, 0, run_list},
    {"start", "NAME", "start a partition", {ARGUMENT_PARTITION}, 1, run_start},
    {"stop", "NAME", "press its power button; by force after its timeout", {ARGUMENT_PARTITION}, 1, run_stop},
    {"reset", "NAME", "stop it by force and start it", {ARGUMENT_PARTITION}, 1, run_reset},
    {"pause", "NAME", "let it stand still", {ARGUMENT_PARTITION}, 1, run_pause},
    {"resume", "NAME", "let it go on", {ARGUMENT_PARTITION}, 1, run_resume},
    {"destroy", "NAME", "give back all that a stopped one has", {ARGUMENT_PARTITION}, 1, run_destroy},
    {"create", "", "make one of the lines that follow, up to `end`", {0}, 0, monitor_create},
    {"set", "NAME KEY VALUE", "change what may change while it lives",
     {ARGUMENT_PARTITION, ARGUMENT_KEY, ARGUMENT_REST}, 3, run_set},
    {"console", "NAME", "give it the console", {ARGUMENT_PARTITION}, 1, run_console},
    {"dump", "NAME [VCPU]", "registers, VMCS and last exits", {ARGUMENT_PARTITION, ARGUMENT_NUMBER}, 1, run_dump},
    {"where", "NAME [VCPU]", "back-trace by frame pointers", {ARGUMENT_PARTITION, ARGUMENT_NUMBER}, 1, run_where},
    {"memory", "[NAME GPA LENGTH]", "who owns the memory; or what is in a guest's",
     {ARGUMENT_PARTITION, ARGUMENT_NUMBER, ARGUMENT_NUMBER}, 0, run_memory},
    {"stats", "NAME", "its counters", {ARGUMENT_PARTITION}, 1, run_stats},
    {"top", "[once]", "who uses the processors, each second", {ARGUMENT_ONCE}, 0, run_top},
    {"trace", "NAME on|off|save", "time all exits; keep the last; print them",
     {ARGUMENT_PARTITION, ARGUMENT_TRACE}, 2, run_trace},
    {"cpu", "", "the processors and what they can do", {0}, 0, run_cpu},
    {"log", "", "what Umbra has reported", {0}, 0, run_log},
    {"plain", "on|off", "talk to a program; also --plain COMMAND", {ARGUMENT_ON_OFF}, 1, run_plain},
    {"poweroff", "", "stop everything and power the machine off", {0}, 0, run_poweroff},
    {"reboot", "", "stop everything and reset the machine", {0}, 0, run_reboot},
    {NULL, NULL, NULL, {0}, 0, NULL},
};
/* clang-format on */
