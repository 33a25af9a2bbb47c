// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/report.c over partitions and a machine of its own. Fails when a line is missing, twice, of another
 * vCPU, or says something else than the counters and snapshots that it is made of.
 */
#include "core/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/nested_guest.h"

static struct partition_machine machine;
static struct config_partition config = {.name = {"linux-2", 5}};
static struct partition partition;
static struct partition_vcpu *vcpus;
static struct vcpu_snapshot snapshot;
static struct nested_guest nested;

const struct partition_machine *partition_machine(void)
{
    return &machine;
}

const char *partition_state_name(const struct partition *p)
{
    assert_ptr_equal(p, &partition);
    return "crashed";
}

const char *nested_merge_rule(struct vmcs_field field)
{
    return field.index == VMCS_INDEX_GUEST_RIP ? "Lv1's" : "rule";
}

const struct nested_check_row *nested_check_at(unsigned number)
{
    static const struct nested_check_row row = {.name = "CR3-target count"};

    assert_int_equal(number, 7);
    return &row;
}

static int start(void **state)
{
    (void)state;
    memset(&partition, 0, sizeof(partition));
    memset(&snapshot, 0, sizeof(snapshot));
    memset(&nested, 0, sizeof(nested));
    config.nested = false;
    vcpus = calloc(2, sizeof(*vcpus));
    partition.config = &config;
    partition.vcpus = vcpus;
    partition.vcpu_count = 2;
    partition.paging = CONFIG_PAGING_EPT;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    free(vcpus);
    return 0;
}

/* ---- dump ------------------------------------------------------------------------------------ */

static void expect_dump(unsigned vcpu, unsigned number, const char *text)
{
    char line[160];

    assert_true(report_dump_line(&partition, vcpu, &snapshot, number, line, sizeof(line)));
    assert_string_equal(line, text);
}

static void dump(void **state)
{
    char line[160], text[80];
    unsigned number = 6;

    (void)state;
    strcpy(partition.reason, "triple fault");
    snapshot.valid = true;
    for (unsigned i = 0; i < VCPU_REGISTERS; i++)
        snapshot.registers[i] = i * 0x1111111111111111ULL;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        snapshot.values[i] = i + 1;
    snapshot.known[VMCS_INDEX_GUEST_RIP / 64] = BIT(VMCS_INDEX_GUEST_RIP % 64);
    trace_add(&vcpus[1].trace, 100, EXIT_REASON_CPUID, 0x7c00, 1);

    expect_dump(1, 0, "linux: crashed: triple fault");
    expect_dump(1, 1, "vcpu 1 of 2, paging ept");
    expect_dump(1, 2,
                "rax 0000000000000000  rcx 1111111111111111  rdx 2222222222222222  rbx 3333333333333333");
    expect_dump(1, 3,
                "rsp 4444444444444444  rbp 5555555555555555  rsi 6666666666666666  rdi 7777777777777777");
    expect_dump(1, 5,
                "r12 cccccccccccccccc  r13 dddddddddddddddd  r14 eeeeeeeeeeeeeeee  r15 ffffffffffffffff");
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        struct vmcs_field field = vmcs_field_at(i);
        if (!vmcs_field_exists(field, &machine.capabilities))
            continue;
        if (i == VMCS_INDEX_GUEST_RIP)
            snprintf(text, sizeof(text), "%-34s %016x", vmcs_field_name(field), i + 1);
        else
            snprintf(text, sizeof(text), "%-34s -", vmcs_field_name(field));
        expect_dump(1, number++, text);
    }
    assert_in_range(number, 90, 6 + VMCS_FIELD_COUNT);
    expect_dump(1, number, "-1   +0            rip 0000000000007c00 qualification 0 detail 1 CPUID");
    assert_false(report_dump_line(&partition, 1, &snapshot, number + 1, line, sizeof(line)));
    assert_false(report_dump_line(&partition, 0, &snapshot, number, line, sizeof(line)));
    assert_false(report_dump_line(&partition, 2, &snapshot, 1, line, sizeof(line)));
    partition.paging = CONFIG_PAGING_VTLB;
    expect_dump(0, 1, "vcpu 0 of 2, paging vtlb (cached)");
    partition.paging = CONFIG_PAGING_VTLB_BASE;
    expect_dump(0, 1, "vcpu 0 of 2, paging vtlb (base)");
}

/* Without a snapshot there are the exits; without vCPUs, only what the partition is. */
static void dump_of_nothing(void **state)
{
    char line[160];

    (void)state;
    trace_add(&vcpus[0].trace, 100, EXIT_REASON_HLT, 1, 2);
    expect_dump(0, 0, "linux: crashed");
    expect_dump(0, 2, "-1   +0            rip 0000000000000001 qualification 0 detail 2 HLT");
    partition.vcpus = NULL;
    expect_dump(0, 0, "linux: crashed");
    assert_false(report_dump_line(&partition, 0, &snapshot, 1, line, sizeof(line)));
}

static void known(enum nested_snapshot_vmcs vmcs, unsigned index, uint64_t value)
{
    nested.snapshot.values[vmcs][index] = value;
    nested.snapshot.known[vmcs][index / 64] |= BIT(index % 64);
}

/* With a virtual VT-x: all three VMCSs, `-` for what one of them has not got. Fails when a column is another
 * VMCS's, and when a field that only Lv1 has is left out. */
static void dump_of_three(void **state)
{
    const unsigned only_lv1s = VMCS_INDEX_GUEST_FRED_SSP3; /* this machine has no FRED */
    char line[160], name[40];
    unsigned found = 0;

    (void)state;
    vcpus[1].nested = &nested;
    snapshot.valid = true;
    nested.snapshot.mode = NESTED_NON_ROOT;
    nested.snapshot.vmxon_pointer = 0x5000;
    nested.snapshot.current = 0x6000;
    known(NESTED_VMCS01, VMCS_INDEX_GUEST_RIP, 0x101);
    known(NESTED_VMCS12, VMCS_INDEX_GUEST_RIP, 0x102);
    known(NESTED_VMCS02, VMCS_INDEX_GUEST_RIP, 0x103);
    known(NESTED_VMCS02, VMCS_INDEX_GUEST_RSP, 0xfedcba9876543210);
    known(NESTED_VMCS12, only_lv1s, 4);
    expect_dump(1, 6, "nested: Lv2 runs, VMXON region 0x5000, VMCS12 0x6000");
    expect_dump(1, 7,
                "field                              rule         VMCS01           VMCS12           VMCS02");
    for (unsigned number = 8; report_dump_line(&partition, 1, &snapshot, number, line, sizeof(line));
         number++) {
        found++;
        assert_int_equal(sscanf(line, "%39s", name), 1);
        if (strcmp(name, "GUEST_RIP") == 0)
            assert_string_equal(line, "GUEST_RIP                          Lv1's        0000000000000101 "
                                      "0000000000000102 0000000000000103");
        else if (strcmp(name, "GUEST_RSP") == 0)
            assert_string_equal(line, "GUEST_RSP                          rule         -                "
                                      "-                fedcba9876543210");
        else if (strcmp(name, "GUEST_FRED_SSP3") == 0)
            assert_string_equal(line, "GUEST_FRED_SSP3                    rule         -                "
                                      "0000000000000004 -");
        else
            found--;
    }
    assert_int_equal(found, 3);
    nested.snapshot.mode = NESTED_ROOT;
    expect_dump(1, 6, "nested: Lv1 runs, in VMX root operation, VMXON region 0x5000, VMCS12 0x6000");
    nested.snapshot.current = NESTED_NO_VMCS;
    expect_dump(1, 6, "nested: Lv1 runs, in VMX root operation, VMXON region 0x5000");
    nested.snapshot.mode = NESTED_OFF;
    expect_dump(1, 6, "nested: VMX is off");
}

static void frames(void **state)
{
    struct monitor_frame frame;

    (void)state;
    snapshot.registers[VCPU_RBP] = 0x2000;
    snapshot.values[VMCS_INDEX_GUEST_RIP] = 0x100;
    snapshot.values[VMCS_INDEX_GUEST_CS_BASE] = 0x7c00;
    snapshot.values[VMCS_INDEX_GUEST_SS_BASE] = 0x9000;
    snapshot.values[VMCS_INDEX_GUEST_CS_ACCESS_RIGHTS] = 0x209b; /* L without EFER.LMA means nothing */
    report_snapshot_frame(&snapshot, &frame);
    assert_int_equal(frame.rip, 0x7d00);
    assert_int_equal(frame.rbp, 0x2000);
    assert_int_equal(frame.code_base, 0x7c00);
    assert_int_equal(frame.stack_base, 0x9000);
    assert_int_equal(frame.width, 2);
    snapshot.values[VMCS_INDEX_GUEST_SS_ACCESS_RIGHTS] = 0x4093;
    report_snapshot_frame(&snapshot, &frame);
    assert_int_equal(frame.width, 4);
    snapshot.values[VMCS_INDEX_GUEST_EFER] = 0xd01;
    report_snapshot_frame(&snapshot, &frame);
    assert_int_equal(frame.width, 8);
    assert_int_equal(frame.rip, 0x100);
    assert_int_equal(frame.stack_base, 0);
    snapshot.values[VMCS_INDEX_GUEST_CS_ACCESS_RIGHTS] = 0x409b; /* compatibility mode */
    report_snapshot_frame(&snapshot, &frame);
    assert_int_equal(frame.width, 4);
}

/* ---- stats ----------------------------------------------------------------------------------- */

static char text[20000];

static void all_stats(void)
{
    char line[160];

    text[0] = '\n';
    text[1] = '\0';
    for (unsigned number = 0; report_stats_line(&partition, number, line, sizeof(line)); number++) {
        assert_true(number < 200);
        strcat(text, line);
        strcat(text, "\n");
    }
}

static void expect_stat(const char *line)
{
    char whole[100];

    snprintf(whole, sizeof(whole), "\n%s\n", line);
    char *found = strstr(text, whole);
    if (found == NULL)
        fail_msg("no line \"%s\" in %s", line, text);
    assert_null(strstr(found + 1, whole));
}

static void stats(void **state)
{
    (void)state;
    partition.starts = 3;
    partition.scrub_ticks = 4;
    for (unsigned i = 0; i < 2; i++) {
        struct partition_vcpu *v = &vcpus[i];
        v->trace.count = 1000 * (i + 1);
        v->sampled_exits = 10;
        v->sampled_ticks = 100 + 300 * i;
        v->first_entry = 500 - 100 * i;
        v->injected = 5 + i;
        v->switches = 30 + i;
        v->exits[EXIT_REASON_CPUID] = 7 + i;
        v->vtlb.statistics.flushes[0] = 1;
        v->vtlb.statistics.flushes[VTLB_FLUSH_CAUSES - 1] = 1;
        v->vtlb.statistics.fills[1] = 2;
        v->vtlb.statistics.tables_used = 20;
    }
    vcpus[1].exits[EXIT_REASON_IO_INSTRUCTION] = 9;
    all_stats();
    expect_stat("starts 3");
    expect_stat("scrub_ticks 4");
    expect_stat("exits 3000");
    expect_stat("exits_sampled 20");
    expect_stat("ticks_per_exit 25");
    expect_stat("first_entry_tsc 400");
    expect_stat("interrupts_injected 11");
    expect_stat("switches 61");
    expect_stat("vcpu1_switches 31");
    expect_stat("vtlb_flushes 4");
    expect_stat("vtlb_fills_2m 4");
    expect_stat("vtlb_tables 40");
    expect_stat("exits_CPUID 15");
    expect_stat("exits_I_O_instruction 9");
    expect_stat("vcpu0_exits 1000");
    expect_stat("vcpu1_exits 2000");
    expect_stat("vcpu0_ticks_per_exit 10");
    expect_stat("vcpu1_ticks_per_exit 40");
    expect_stat("vcpu0_exits_CPUID 7");
    expect_stat("vcpu1_exits_CPUID 8");
    expect_stat("vcpu1_exits_I_O_instruction 9");
    assert_null(strstr(text, "vcpu0_exits_I_O"));
    assert_null(strstr(text, "HLT"));

    /* one alone is the sum */
    partition.vcpu_count = 1;
    all_stats();
    expect_stat("exits 1000");
    assert_null(strstr(text, "vcpu0"));
    partition.vcpus = NULL;
    all_stats();
    assert_string_equal(text, "\n");
}

/* With a virtual VT-x, exits of both levels and by owner. Fails when a counter is another's, when the levels
 * do not add up, and when the lines are there without one. */
static void nested_stats(void **state)
{
    struct nested_statistics *n = &nested.statistics;

    (void)state;
    partition.vcpu_count = 1;
    vcpus[0].trace.count = 1000;
    vcpus[0].exits[EXIT_REASON_CPUID] = 70;
    vcpus[0].exits[EXIT_REASON_HLT] = 3;
    all_stats();
    assert_null(strstr(text, "nested"));
    assert_null(strstr(text, "lv1"));

    config.nested = true;
    vcpus[0].nested = &nested;
    nested.entries = 40;
    *n = (struct nested_statistics){.refused = 2, .failed = 3, .left = 30, .passed = 25};
    for (unsigned i = 0; i < NESTED_OWNERS; i++)
        n->kept[i] = i + 1;
    n->kept[NESTED_LV1] = 0;
    n->by_reason[EXIT_REASON_CPUID] = 60;
    n->by_reason[EXIT_REASON_HLT] = 3;
    n->by_check[7] = 5;
    nested.memory.vtlb.statistics.misses = 9;
    all_stats();
    expect_stat("exits 1000");
    expect_stat("lv1_exits 954");
    expect_stat("nested_entries 40");
    expect_stat("nested_entries_refused 2");
    expect_stat("nested_entries_failed 3");
    expect_stat("nested_entries_ended 30");
    expect_stat("nested_exits 46");
    expect_stat("nested_exits_passed 25");
    expect_stat("nested_exits_kept 21");
    expect_stat("nested_exits_kept_own 1");
    expect_stat("nested_exits_kept_memory 2");
    expect_stat("nested_exits_kept_cr 3");
    expect_stat("nested_exits_kept_emulated 4");
    expect_stat("nested_exits_kept_undefined 5");
    expect_stat("exits_CPUID 70");
    expect_stat("lv1_exits_CPUID 10");
    expect_stat("nested_exits_CPUID 60");
    expect_stat("exits_HLT 3");
    expect_stat("nested_exits_HLT 3");
    assert_null(strstr(text, "lv1_exits_HLT"));
    expect_stat("nested_check_CR3_target_count 5");
    expect_stat("vtlb_misses 9");
}

/* Every counter of the virtual TLB is a line of its own, the sum over the vCPUs, and then each one's. */
static void vtlb_stats(void **state)
{
    static const char *const names[] = {
        "guest_faults", "again",          "prefetched",      "prefetched_used", "raised",
        "splintered",   "transient",      "flushes_root",    "flushes_address", "flushes_tag",
        "flushes_all",  "flushes_memory", "flushes_reclaim", "flushes_destroy", "flushed_entries",
        "compared",     "changed",        "contexts_hit",    "contexts_made",   "contexts_evicted",
        "cleaned_late",
    };
    char line[80];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct vtlb_statistics *t = &vcpus[i].vtlb.statistics;
        uint64_t *const counters[] = {
            &t->guest_faults,
            &t->again,
            &t->prefetched,
            &t->prefetched_used,
            &t->raised,
            &t->splintered,
            &t->transient,
            &t->flushes[VTLB_FLUSH_ROOT],
            &t->flushes[VTLB_FLUSH_ADDRESS],
            &t->flushes[VTLB_FLUSH_TAG],
            &t->flushes[VTLB_FLUSH_ALL],
            &t->flushes[VTLB_FLUSH_P2M],
            &t->flushes[VTLB_FLUSH_RECLAIM],
            &t->flushes[VTLB_FLUSH_DESTROY],
            &t->flushed_entries,
            &t->compared,
            &t->changed,
            &t->hits,
            &t->contexts_made,
            &t->contexts_evicted,
            &t->cleaned_late,
        };
        _Static_assert(ARRAY_SIZE(counters) == ARRAY_SIZE(names), "a name for each");

        t->misses = 1000 + i;
        t->filled = 1100 + i;
        t->no_memory = 1200 + i;
        t->fills[0] = 1300 + i;
        t->fills[2] = 1400 + i;
        t->stale = 1500 + i;
        t->evictions = 1600 + i;
        t->tables_used = 1700 + i;
        t->tables_peak = 1800 + i;
        vcpus[i].vtlb.pages = 1900 + i;
        for (unsigned n = 0; n < ARRAY_SIZE(counters); n++)
            *counters[n] = 10 * (n + 1) + i;
    }
    for (unsigned shadow = 0; shadow < 2; shadow++) {
        partition.regimes[VCPU_REGIME_SHADOW] = shadow != 0;
        all_stats();
        expect_stat("vtlb_misses 2001");
        expect_stat("vtlb_filled 2201");
        expect_stat("vtlb_no_memory 2401");
        expect_stat("vtlb_fills_4k 2601");
        expect_stat("vtlb_fills_1g 2801");
        expect_stat("vtlb_stale 3001");
        expect_stat("vtlb_evictions 3201");
        expect_stat("vtlb_tables 3401");
        expect_stat("vtlb_tables_peak 3601");
        expect_stat("vtlb_tables_quota 3801");
        expect_stat("vcpu1_vtlb_tables_quota 1901");
        expect_stat("vtlb_flushes 1547");
        for (unsigned n = 0; n < ARRAY_SIZE(names); n++) {
            snprintf(line, sizeof(line), "vtlb_%s %u", names[n], 20 * (n + 1) + 1);
            if (shadow != 0) {
                expect_stat(line);
                snprintf(line, sizeof(line), "vcpu0_vtlb_%s %u", names[n], 10 * (n + 1));
                expect_stat(line);
            } else {
                snprintf(line, sizeof(line), "vtlb_%s ", names[n]);
                assert_null(strstr(text, line));
            }
        }
    }
}

/* Every exit is of one kind. */
static void kinds(void **state)
{
    uint64_t exits[EXIT_REASON_COUNT] = {0}, counted[MONITOR_EXIT_KINDS] = {0};
    uint64_t sum = 0;

    (void)state;
    exits[EXIT_REASON_IO_INSTRUCTION] = 3;
    exits[EXIT_REASON_EPT_VIOLATION] = 4;
    exits[EXIT_REASON_EXCEPTION_OR_NMI] = 1; /* the first row */
    exits[EXIT_REASON_INVPCID] = 2;
    exits[EXIT_REASON_INVLPG] = 8;
    exits[EXIT_REASON_CR_ACCESS] = 5;
    exits[EXIT_REASON_RDMSR] = 6;
    exits[EXIT_REASON_WRMSR] = 7;
    report_exit_kinds(exits, counted);
    report_exit_kinds(exits, counted);
    assert_int_equal(counted[MONITOR_EXIT_IO], 6);
    assert_int_equal(counted[MONITOR_EXIT_MEMORY], 30);
    assert_int_equal(counted[MONITOR_EXIT_OTHER], 10);
    assert_int_equal(counted[MONITOR_EXIT_MSR], 26);
    for (unsigned r = 0; r < EXIT_REASON_COUNT; r++)
        exits[r] = 1;
    memset(counted, 0, sizeof(counted));
    report_exit_kinds(exits, counted);
    for (unsigned k = 0; k < MONITOR_EXIT_KINDS; k++) {
        assert_true(counted[k] > 0);
        sum += counted[k];
    }
    assert_int_equal(sum, EXIT_REASON_COUNT);
}

/* ---- memory, cpu ----------------------------------------------------------------------------- */

static bool owner(unsigned number, struct report_owner *row)
{
    static const struct report_owner rows[] = {
        {SLICE("linux"), FRAME_OWNER_PARTITION},
        {SLICE("bus (shared)"), FRAME_OWNER_MODULE + 1},
    };

    if (number < ARRAY_SIZE(rows))
        *row = rows[number];
    return number < ARRAY_SIZE(rows);
}

static void memory(void **state)
{
    static const char *const lines[] = {
        "free                     1024 KiB", "being cleared               8 KiB",
        "umbra                     256 KiB", "modules                     4 KiB",
        "linux                    2048 KiB", "bus (shared)               64 KiB",
        "together                 3404 KiB", "largest free             1024 KiB",
    };
    struct frame_extent extents[] = {
        {0, MIB(1), FRAME_OWNER_DEVICE},
        {MIB(1), MIB(2), FRAME_OWNER_FREE},
        {MIB(2), MIB(2) + KIB(256), FRAME_OWNER_UMBRA},
        {MIB(2) + KIB(256), MIB(2) + KIB(264), FRAME_OWNER_DIRTY},
        {MIB(2) + KIB(264), MIB(2) + KIB(268), FRAME_OWNER_MODULE},
        {MIB(4), MIB(6), FRAME_OWNER_PARTITION},
        {MIB(6), MIB(6) + KIB(64), FRAME_OWNER_MODULE + 1},
    };
    struct frame_pool frame_pool = {
        .extents = extents, .count = ARRAY_SIZE(extents), .capacity = ARRAY_SIZE(extents)};
    char line[160];

    (void)state;
    for (unsigned n = 0; n < ARRAY_SIZE(lines); n++) {
        assert_true(report_memory_line(&frame_pool, owner, n, line, sizeof(line)));
        assert_string_equal(line, lines[n]);
    }
    assert_false(report_memory_line(&frame_pool, owner, ARRAY_SIZE(lines), line, sizeof(line)));
}

static bool processor(unsigned number, struct report_processor *p)
{
    static const struct report_processor rows[] = {
        {.apic_id = 0, .serves = "housekeeper", .elapsed = 1000, .idle = 969},
        {.apic_id = 0x1f, .serves = "linux", .elapsed = UINT64_MAX, .idle = 0},
        {.apic_id = 4, .serves = "", .elapsed = 0, .idle = 0},
    };

    if (number < ARRAY_SIZE(rows))
        *p = rows[number];
    return number < ARRAY_SIZE(rows);
}

static void cpu(void **state)
{
    static const char *const lines[] = {
        "cpu     apic    busy    idle  serves",
        "  0        0    3.1%   96.9%  housekeeper",
        "  1       1f  100.0%    0.0%  linux",
        "  2        4  100.0%    0.0%  ",
        "time stamp counter                       3500.123 MHz",
    };
    unsigned number = 0;
    char line[160];
    bool present;

    (void)state;
    machine.tsc_hz = 3500123456;
    for (; number < ARRAY_SIZE(lines); number++) {
        assert_true(report_cpu_line(processor, number, line, sizeof(line)));
        assert_string_equal(line, lines[number]);
    }
    for (unsigned n = 0; vmx_capabilities_describe(&machine.capabilities, n, &present) != NULL; n++)
        assert_true(report_cpu_line(processor, number++, line, sizeof(line)));
    assert_in_range(number, 20, 500);
    assert_false(report_cpu_line(processor, number, line, sizeof(line)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dump, start, stop),
        cmocka_unit_test_setup_teardown(dump_of_nothing, start, stop),
        cmocka_unit_test_setup_teardown(dump_of_three, start, stop),
        cmocka_unit_test_setup_teardown(frames, start, stop),
        cmocka_unit_test_setup_teardown(stats, start, stop),
        cmocka_unit_test_setup_teardown(nested_stats, start, stop),
        cmocka_unit_test_setup_teardown(vtlb_stats, start, stop),
        cmocka_unit_test(kinds),
        cmocka_unit_test(memory),
        cmocka_unit_test(cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
