// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/console.c with a terminal and receivers of its own. Fails when a byte goes to the wrong place or is
 * lost without being counted, when a step moves more than its bound, or when print() appears where it should
 * not.
 */
#define _GNU_SOURCE
#include "core/console.h"

#include "lib/errors.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LINUX        1
#define XEN          3 /* the second partition has no console */
#define ABSENT       2

#define MONITOR_SIZE 4096
#define LOG_SIZE     64

/* What surrounds the console. */
struct world {
    const char *typed;  /* still to be read */
    char shown[200000]; /* on the terminal */
    size_t shown_length;
    size_t room;
    size_t longest_write;
    char taken[CONSOLE_CHANNELS][2048]; /* by each channel's receiver */
    size_t taken_length[CONSOLE_CHANNELS];
    size_t takes[CONSOLE_CHANNELS]; /* how many bytes more it takes */
    bool off[CONSOLE_CHANNELS];     /* it does not run */
    unsigned focused;               /* times that the monitor was told */
};

/* A console with its buffers: a new one for each test, for ever, because print() keeps its sinks. */
struct subject {
    struct console console;
    char monitor[MONITOR_SIZE];
    char log[LOG_SIZE];
    char linux_ring[CONSOLE_RING_SIZE];
    char xen_ring[CONSOLE_RING_SIZE];
};

static struct world world;
static struct console *console;

/* ---- The world ------------------------------------------------------------------------------- */

static bool op_read(void *context, char *byte)
{
    struct world *w = context;

    if (w->typed == NULL || *w->typed == '\0')
        return false;
    *byte = *w->typed++;
    return true;
}

static size_t op_room(void *context)
{
    return ((struct world *)context)->room;
}

static void op_write(void *context, const char *bytes, size_t length)
{
    struct world *w = context;

    assert_true(length <= w->room && w->shown_length + length < sizeof(w->shown));
    memcpy(w->shown + w->shown_length, bytes, length);
    w->shown_length += length;
    w->longest_write = max_u64(w->longest_write, length);
}

static enum console_input op_input(void *context, unsigned channel, char byte)
{
    struct world *w = context;

    if (w->off[channel])
        return CONSOLE_LOST;
    if (w->takes[channel] == 0)
        return CONSOLE_LATER;
    w->takes[channel]--;
    w->taken[channel][w->taken_length[channel]++] = byte;
    return CONSOLE_TAKEN;
}

static void op_monitor_focused(void *context)
{
    ((struct world *)context)->focused++;
    console_put(console, CONSOLE_MONITOR, '>');
}

static const struct console_ops ops = {op_read, op_room, op_write, op_input, op_monitor_focused};

static int start(void **state)
{
    struct subject *subject = malloc(sizeof(*subject));

    (void)state;
    memset(subject, 0x55, sizeof(*subject)); /* what lies behind the channels is none */
    memset(&world, 0, sizeof(world));
    world.room = SIZE_MAX;
    for (unsigned channel = 0; channel < CONSOLE_CHANNELS; channel++)
        world.takes[channel] = SIZE_MAX;
    console = &subject->console;
    console_init(console, &ops, &world, 'A' & 0x1f, subject->monitor, MONITOR_SIZE, subject->log, LOG_SIZE);
    console_add_partition(console, LINUX - 1, SLICE("linux"), subject->linux_ring);
    console_add_partition(console, XEN - 1, SLICE("xen-with-a-name-that-is-far-too-long"), subject->xen_ring);
    return 0;
}

static void put(unsigned channel, const char *text)
{
    while (*text != '\0')
        console_put(console, channel, *text++);
}

/* Steps until nothing moves any more. */
static void settle(void)
{
    do
        console_step(console);
    while (console_has_work(console) && world.room > 0);
}

/* Types at the terminal. */
static void type(const char *keys)
{
    world.typed = keys;
    do
        settle();
    while (*world.typed != '\0');
}

/* The terminal shows exactly `text` since the last time. */
static void expect(const char *text)
{
    world.shown[world.shown_length] = '\0';
    assert_string_equal(world.shown, text);
    world.shown_length = 0;
}

static void expect_taken(unsigned channel, const char *text)
{
    world.taken[channel][world.taken_length[channel]] = '\0';
    assert_string_equal(world.taken[channel], text);
    world.taken_length[channel] = 0;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

/* The channel in focus goes straight out, the others' output waits for the focus. */
static void focus(void **state)
{
    (void)state;
    put(CONSOLE_MONITOR, "umbra> ");
    put(LINUX, "booting\r\n");
    settle();
    expect("umbra> ");
    type("\x01"
         "1");
    expect("\r\n[linux]\r\nbooting\r\n");
    put(LINUX, "login: ");
    put(CONSOLE_MONITOR, "news");
    settle();
    expect("login: ");
    type("\x01"
         "c");
    expect("\r\n[monitor]\r\nnews>");
    assert_int_equal(world.focused, 1);
    type("\x01"
         "3");
    expect("\r\n[xen-with-a-name-that-is-far-too]\r\n");
    type("\x01"
         "1");
    expect("\r\n[linux]\r\n");
}

static void keys(void **state)
{
    (void)state;
    assert_int_equal(console_focus(console, LINUX), 0);
    settle();
    world.shown_length = 0;

    type("ls\x01\x01!"); /* the escape key twice sends it once */
    expect_taken(LINUX, "ls\x01!");
    type("\x01?");
    expect("\r\n[^A then c: monitor, 1-9: partition, n/p: next/previous, ^A: send ^A, ?: this]\r\n");
    type("\x01x");
    expect("\r\n[^A x means nothing; ^A ? helps]\r\n");
    type("\x01\x02");
    expect("\r\n[^A ^B means nothing; ^A ? helps]\r\n");
    type("\x01\xc3");
    expect("\r\n[^A that means nothing; ^A ? helps]\r\n");
    type("\x01"
         "2");
    expect("\r\n[partition 2 has no console]\r\n");
    type("\x01"
         "0");
    expect("\r\n[^A 0 means nothing; ^A ? helps]\r\n");
    type("still here");
    expect_taken(LINUX, "still here");
    expect_taken(CONSOLE_MONITOR, "");
    type("\x01"
         "chelp\r");
    expect_taken(CONSOLE_MONITOR, "help\r");
}

/* The next and the previous partition that has a console, round and round; the monitor is none. */
static void neighbours(void **state)
{
    static const char *const next[] = {"\r\n[linux]\r\n", "\r\n[xen-with-a-name-that-is-far-too]\r\n"};

    (void)state;
    for (unsigned n = 0; n < 4; n++) {
        type("\x01n");
        expect(next[n % 2]);
    }
    for (unsigned n = 0; n < 3; n++) {
        type("\x01p");
        expect(next[n % 2]);
    }
    console_focus(console, CONSOLE_MONITOR);
    settle();
    world.shown_length = 0;
    type("\x01p");
    expect(next[1]);
    console_remove_partition(console, XEN - 1);
    console_remove_partition(console, LINUX - 1);
    settle();
    world.shown_length = 0;
    type("\x01n");
    expect("\r\n[no partition has a console]\r\n");
}

/* A partition that goes takes its channel along; another one may come in its place. */
static void removed(void **state)
{
    static char ring[CONSOLE_RING_SIZE];

    (void)state;
    world.takes[LINUX] = 0;
    console_focus(console, LINUX);
    type("xy");
    for (unsigned n = 0; n < CONSOLE_RING_SIZE + 10; n++)
        console_put(console, LINUX, 'x');
    console_focus(console, LINUX); /* tells of the ten that are lost */
    settle();
    put(LINUX, "unseen");
    world.shown_length = 0;
    world.focused = 0;
    console_remove_partition(console, LINUX - 1);
    assert_int_equal(console->input_waiting, 0);
    settle();
    expect("\r\n[monitor]\r\n>");
    assert_int_equal(world.focused, 1);
    assert_false(console_put(console, LINUX, 'x'));
    assert_int_equal(console_focus(console, LINUX), -ENOENT);
    console_remove_partition(console, XEN - 1); /* not in focus: it stays where it is */
    settle();
    expect("");

    world.takes[LINUX] = SIZE_MAX;
    console_add_partition(console, LINUX - 1, SLICE("other"), ring);
    put(LINUX, "new");
    type("\x01"
         "1z");
    expect("\r\n[other]\r\nnew");
    expect_taken(LINUX, "z");
}

/* What is typed at a partition that does not run is lost; that is said once, until it runs or is looked at
 * anew. */
static void lost(void **state)
{
    const char *said = "\r\n[linux does not run: what is typed is lost]\r\n";

    (void)state;
    console_focus(console, LINUX);
    settle();
    world.shown_length = 0;
    world.off[LINUX] = true;
    type("abc");
    expect(said);
    expect_taken(LINUX, "");
    world.off[LINUX] = false;
    type("d");
    expect("");
    expect_taken(LINUX, "d");
    world.off[LINUX] = true;
    type("e");
    expect(said);
    console_focus(console, LINUX);
    type("f");
    expect("\r\n[linux]\r\n\r\n[linux does not run: what is typed is lost]\r\n");

    /* what waited when it stopped */
    world.off[LINUX] = false;
    world.takes[LINUX] = 0;
    type("gh");
    world.off[LINUX] = true;
    type("");
    assert_int_equal(console->input_waiting, 0);
}

/* ^C does not wait behind what a busy monitor has not taken. */
static void interrupt(void **state)
{
    (void)state;
    world.takes[CONSOLE_MONITOR] = 0;
    type("list\r");
    world.takes[CONSOLE_MONITOR] = 1;
    world.typed = "\x03";
    console->input_waiting = 0; /* nothing is offered again before it is typed */
    settle();
    expect_taken(CONSOLE_MONITOR, "\x03");
    world.takes[CONSOLE_MONITOR] = SIZE_MAX;
    settle();
    expect_taken(CONSOLE_MONITOR, "");

    /* to a guest it is a byte like others */
    console_focus(console, LINUX);
    world.takes[LINUX] = 0;
    type("a\x03");
    world.takes[LINUX] = SIZE_MAX;
    settle();
    expect_taken(LINUX, "a\x03");
}

/* Only the first byte that waits in the channel in focus is worth waking anybody for. */
static void wakes(void **state)
{
    (void)state;
    assert_false(console_put(console, LINUX, 'a'));
    assert_true(console_put(console, CONSOLE_MONITOR, 'a'));
    assert_false(console_put(console, CONSOLE_MONITOR, 'b'));
    settle();
    assert_true(console_put(console, CONSOLE_MONITOR, 'c'));
    console_focus(console, LINUX);
    assert_false(console_put(console, LINUX, 'b'));
    assert_false(console_put(console, CONSOLE_MONITOR, 'd'));
    settle();
    assert_true(console_put(console, LINUX, 'c'));
}

/* ---- Two processors -------------------------------------------------------------------------- */

#define WRITTEN 400000u

static void *writer(void *console_pointer)
{
    /* numbers in four bytes of a base that no byte of another place has: whoever reads in the middle knows */
    for (unsigned n = 0; n < WRITTEN / 4; n++)
        for (unsigned place = 0; place < 4; place++)
            console_put(console_pointer, LINUX, (char)(place << 6 | (n >> (6 * place) & 0x3f)));
    return NULL;
}

/*
 * One processor writes as fast as it can, the other shows: every byte is shown, in order, or counted as lost,
 * and no bytes are lost but the oldest. Fails when the ring is used without its lock.
 */
static void two_processors(void **state)
{
    uint64_t shown = 0, gaps = 0;
    unsigned expected = 0; /* place in the stream of the next byte, modulo 2^26 */
    pthread_t thread;
    bool running = true;

    (void)state;
    console_focus(console, LINUX);
    settle();
    world.shown_length = 0;
    assert_int_equal(pthread_create(&thread, NULL, writer, console), 0);
    while (running || console_has_work(console)) {
        if (running && pthread_tryjoin_np(thread, NULL) == 0)
            running = false;
        console_step(console);
        for (size_t i = 0; i < world.shown_length; i++) {
            unsigned char byte = (unsigned char)world.shown[i];
            /* at the place where it should be, or some bytes further on: then bytes were dropped */
            unsigned at = expected;
            while ((at % 4) != byte >> 6 || (at / 4 >> (6 * (at % 4)) & 0x3f) != (byte & 0x3f))
                at++;
            gaps += at - expected;
            expected = at + 1;
        }
        shown += world.shown_length;
        world.shown_length = 0;
    }
    assert_int_equal(shown + console->channels[LINUX].output.dropped, WRITTEN);
    assert_int_equal(console->channels[LINUX].output.tail, WRITTEN);
    assert_int_equal(expected, WRITTEN);
    assert_int_equal(gaps, console->channels[LINUX].output.dropped);
}

static void absent(void **state)
{
    (void)state;
    assert_int_equal(console_focus(console, ABSENT), -ENOENT);
    assert_int_equal(console_focus(console, CONSOLE_CHANNELS), -ENOENT);
    assert_int_equal(console->focus, CONSOLE_MONITOR);
    put(ABSENT, "lost");
    put(CONSOLE_CHANNELS, "lost");
    settle();
    expect("");
}

/* A full ring keeps the newest bytes; how many were lost is said once. */
static void overflow(void **state)
{
    (void)state;
    for (unsigned n = 0; n < CONSOLE_RING_SIZE + 1000; n++)
        console_put(console, LINUX, n < 1000 ? 'o' : 'n');
    type("\x01"
         "1");
    const char *said = "\r\n[linux, 1000 bytes lost]\r\n";
    assert_int_equal(world.shown_length, strlen(said) + CONSOLE_RING_SIZE);
    assert_memory_equal(world.shown, said, strlen(said));
    assert_int_equal(world.shown[strlen(said)], 'n');
    assert_int_equal(world.shown[world.shown_length - 1], 'n');
    world.shown_length = 0;
    type("\x01"
         "c\x01"
         "1");
    assert_int_equal(world.shown_length, strlen("\r\n[monitor]\r\n\r\n[linux]\r\n"));
}

/* A step moves at most so much, and no more than the terminal takes. */
static void bounds(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 4000; n++)
        console_put(console, CONSOLE_MONITOR, 'x');
    console_step(console);
    assert_int_equal(world.shown_length, CONSOLE_STEP_OUTPUT);
    world.room = 10;
    console_step(console);
    assert_int_equal(world.shown_length, CONSOLE_STEP_OUTPUT + 10);
    world.room = 0;
    console_step(console);
    assert_int_equal(world.shown_length, CONSOLE_STEP_OUTPUT + 10);
    assert_true(console_has_work(console));
    assert_int_equal(console_monitor_room(console), MONITOR_SIZE - 4000 + CONSOLE_STEP_OUTPUT + 10);

    char line[CONSOLE_STEP_INPUT + 2];
    memset(line, 'k', sizeof(line));
    line[sizeof(line) - 1] = '\0';
    world.typed = line;
    console_step(console);
    assert_int_equal(world.taken_length[CONSOLE_MONITOR], CONSOLE_STEP_INPUT);
    console_step(console);
    assert_int_equal(world.taken_length[CONSOLE_MONITOR], CONSOLE_STEP_INPUT + 1);
}

/* The multiplexer's words come before output, also when the terminal takes little at a time. */
static void narrow(void **state)
{
    (void)state;
    put(LINUX, "output");
    console_focus(console, LINUX);
    for (world.room = 1; console_has_work(console);)
        console_step(console);
    assert_int_equal(world.longest_write, 1);
    expect("\r\n[linux]\r\noutput");
}

/* What a receiver does not take waits in order, whoever has the focus; past the ring it is refused aloud. */
static void slow_receiver(void **state)
{
    char line[CONSOLE_INPUT_SIZE + 11];

    (void)state;
    console_focus(console, LINUX);
    settle();
    world.shown_length = 0;
    world.takes[LINUX] = 2;
    type("abcdef");
    expect_taken(LINUX, "ab");
    assert_false(console_has_work(console));
    type("\x01"
         "3xyz");
    expect_taken(XEN, "xyz");
    world.takes[LINUX] = 1;
    settle();
    expect_taken(LINUX, "c");
    world.takes[LINUX] = SIZE_MAX;
    settle();
    expect_taken(LINUX, "def");

    console_focus(console, LINUX);
    settle();
    world.shown_length = 0;
    world.takes[LINUX] = 0;
    memset(line, 'p', sizeof(line));
    line[sizeof(line) - 1] = '\0';
    type(line);
    expect("\a\a\a\a\a\a\a\a\a\a");
    assert_int_equal(console->channels[LINUX].input_refused, 10);
    world.takes[LINUX] = SIZE_MAX;
    world.typed = "q"; /* behind those that wait, though there is room for it now */
    for (unsigned n = 0; n <= CONSOLE_INPUT_SIZE / CONSOLE_STEP_INPUT; n++) {
        assert_int_equal(world.taken_length[LINUX], n * CONSOLE_STEP_INPUT);
        console_step(console);
    }
    assert_int_equal(world.taken_length[LINUX], CONSOLE_INPUT_SIZE + 1);
    assert_int_equal(world.taken[LINUX][CONSOLE_INPUT_SIZE], 'q');
    assert_int_equal(console->input_waiting, 0);
}

/* ---- Print ----------------------------------------------------------------------------------- */

static char printed[256];

static void print_write(struct print_sink *sink, const char *text, size_t length)
{
    (void)sink;
    strncat(printed, text, length);
}

static void log_lines(void **state)
{
    uint64_t position = 0;
    char line[32];

    (void)state;
    print("first %d\n", 1);
    print("sec");
    assert_true(console_log_line(console, &position, line, sizeof(line)));
    assert_string_equal(line, "first 1");
    assert_false(console_log_line(console, &position, line, sizeof(line)));
    print("ond\n\n");
    assert_true(console_log_line(console, &position, line, 4));
    assert_string_equal(line, "sec"); /* cut */
    assert_true(console_log_line(console, &position, line, sizeof(line)));
    assert_string_equal(line, "");
    assert_false(console_log_line(console, &position, line, sizeof(line)));

    /* 64 bytes hold the last of them; the one whose beginning is gone is passed over */
    for (unsigned n = 0; n < 20; n++)
        print("number %u\n", n);
    assert_true(console_log_line(console, &position, line, sizeof(line)));
    assert_string_equal(line, "number 14");
    position = 0;
    assert_true(console_log_line(console, &position, line, sizeof(line)));
    assert_string_equal(line, "number 14");
    for (unsigned n = 15; n < 20; n++)
        assert_true(console_log_line(console, &position, line, sizeof(line)));
    assert_string_equal(line, "number 19");
    assert_false(console_log_line(console, &position, line, sizeof(line)));

    /* one line longer than the log: there is no whole one */
    for (unsigned n = 0; n < 100; n++)
        print("x");
    assert_false(console_log_line(console, &position, line, sizeof(line)));
    position = 0;
    assert_false(console_log_line(console, &position, line, sizeof(line)));
}

/* print() reaches the terminal itself before the start and after the end, and only the log between. */
static void prints(void **state)
{
    static struct print_sink sink = {.write = print_write};
    uint64_t position = 0;
    char line[32];

    (void)state;
    print_sink_register(&sink);
    print("before\n");
    console_start(console);
    print("between\n");
    put(CONSOLE_MONITOR, "unseen");
    world.room = 0;
    console_step(console);
    expect("");
    world.room = SIZE_MAX;
    console_stop(console);
    expect("unseen");
    print("after\n");
    assert_string_equal(printed, "before\nafter\n");
    assert_true(console_log_line(console, &position, line, sizeof(line)));
    assert_true(console_log_line(console, &position, line, sizeof(line)));
    assert_string_equal(line, "between");

    /* as a panic does */
    print_divert(&console->sink);
    print("again between\n");
    console->panic_hook.run(&console->panic_hook);
    print("panic\n");
    assert_string_equal(printed, "before\nafter\npanic\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(focus, start),          cmocka_unit_test_setup(keys, start),
        cmocka_unit_test_setup(absent, start),         cmocka_unit_test_setup(overflow, start),
        cmocka_unit_test_setup(bounds, start),         cmocka_unit_test_setup(narrow, start),
        cmocka_unit_test_setup(slow_receiver, start),  cmocka_unit_test_setup(log_lines, start),
        cmocka_unit_test_setup(prints, start),         cmocka_unit_test_setup(neighbours, start),
        cmocka_unit_test_setup(removed, start),        cmocka_unit_test_setup(lost, start),
        cmocka_unit_test_setup(interrupt, start),      cmocka_unit_test_setup(wakes, start),
        cmocka_unit_test_setup(two_processors, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
