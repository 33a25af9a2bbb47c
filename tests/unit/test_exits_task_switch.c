// SPDX-License-Identifier: BSD-2-Clause
/*
 * The exit of a hardware task switch: core/exits/task_switch.c on a vCPU. Fails when a register is not
 * written back, when an event is delivered twice or lost, when a fault of the switch is not the guest's, or
 * when something of the old task stays pending. test_task_switch.c has the switch itself.
 */
#include "core/task_switch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_machine.h"

#define GDT       0x2000u
#define OLD       0x4000u
#define NEW       0x5000u
#define CODE      0x08
#define DATA      0x10
#define TSS_OLD   0x28
#define TSS_NEW   0x30
#define GDT_LIMIT 0x37u
#define BEYOND    0x48u
#define UNUSABLE  BIT(16)
#define WORD_CODE 0x00cf9a000000ffffULL
#define WORD_DATA 0x00cf92000000ffffULL

/* An available 32-bit TSS. */
static uint64_t tss_word(uint32_t base)
{
    return 0x0000890000000067ULL | (uint64_t)base << 16;
}

#define LENGTH          7
#define QUALIFY(source) (TSS_NEW | (uint64_t)(source) << 30)

/* A vCPU in protected mode without paging, and a task to switch to. */
static int start_tasks(void **state)
{
    const uint64_t gdt[] = {0, WORD_CODE, WORD_DATA, 0, 0, tss_word(OLD) | 2ULL << 40, tss_word(NEW)};
    uint32_t tss[26] = {0};

    start_32(state);
    guest_put(GDT, gdt, sizeof(gdt));
    tss[8] = 0x4321;
    tss[9] = 0x2;
    tss[14] = 0x8000;
    for (unsigned i = 0; i < TASK_SEGMENTS; i++)
        tss[18 + i] = i == DECODE_CS ? CODE : DATA;
    guest_put(NEW, tss, sizeof(tss));
    return 0;
}

static void exit_by(enum task_source source, uint32_t event)
{
    run_to_exit(EXIT_REASON_TASK_SWITCH, QUALIFY(source), LENGTH);
    fake_set(VMCS_IDT_VECTORING_INFO, event);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    fake_set(VMCS_GUEST_GDTR_BASE, GDT);
    fake_set(VMCS_GUEST_GDTR_LIMIT, GDT_LIMIT);
    fake_set(VMCS_GUEST_TR_SELECTOR, TSS_OLD);
    fake_set(VMCS_GUEST_TR_BASE, OLD);
    fake_set(VMCS_GUEST_TR_LIMIT, 0x67);
    fake_set(VMCS_GUEST_TR_ACCESS_RIGHTS, 0x8b);
    fake_set(VMCS_GUEST_DR7, 0x7ff);
    fake_set(VMCS_GUEST_PENDING_DEBUG, X86_DR6_BS);
    if (source != TASK_SOURCE_GATE)
        fake_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
    handle();
}

static uint32_t saved(unsigned word)
{
    uint32_t value;

    guest_take(OLD + 4 * word, &value, 4);
    return value;
}

/* Fails when a register is not written back, or what the old task left stays pending. */
static void exit_call(void **state)
{
    (void)state;
    exit_by(TASK_SOURCE_CALL, 0);
    assert_done(0x4321);
    assert_int_equal(saved(8), GUEST_RIP + LENGTH);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), 0x8000);
    assert_int_equal(fake_get(VMCS_GUEST_TR_SELECTOR), TSS_NEW);
    assert_int_equal(fake_get(VMCS_GUEST_TR_ACCESS_RIGHTS), 0x8b);
    assert_int_equal(fake_get(VMCS_GUEST_CS_SELECTOR), CODE);
    assert_int_equal(fake_get(VMCS_GUEST_GS_SELECTOR), DATA);
    assert_int_equal(fake_get(VMCS_GUEST_LDTR_ACCESS_RIGHTS), UNUSABLE);
    assert_int_equal(fake_get(VMCS_GUEST_RFLAGS), 2 | X86_RFLAGS_NT);
    assert_int_equal(fake_get(VMCS_GUEST_DR7), 0x6aa);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), 0);
    assert_int_equal(fake_get(VMCS_GUEST_PENDING_DEBUG), 0);
    assert_int_not_equal(vcpu_read_cr0(&guest->vcpu) & X86_CR0_TS, 0);
}

#define EVENT(type, vector) (uint32_t)(EVENT_VALID | (type) << 8 | (vector))

/* Fails when an event is delivered again, or EIP and RF of the old task do not suit it. */
static void exit_events(void **state)
{
    static const struct {
        uint32_t event;
        bool skips, resumes;
    } rows[] = {
        {EVENT(VCPU_EVENT_EXTERNAL_INTERRUPT, 0x41), false, false},
        {EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_DE), false, true},
        {EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_DB), false, false},
        {EVENT(VCPU_EVENT_SOFTWARE_INTERRUPT, 0x41), true, false},
        {EVENT(VCPU_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION, X86_VECTOR_DB), true, false},
        {EVENT(VCPU_EVENT_SOFTWARE_EXCEPTION, X86_VECTOR_BP), true, false},
        {EVENT(VCPU_EVENT_NMI, X86_VECTOR_NMI), false, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        start_tasks(state);
        exit_by(TASK_SOURCE_GATE, rows[i].event);
        assert_done(0x4321);
        assert_int_equal(saved(8), GUEST_RIP + (rows[i].skips ? LENGTH : 0));
        assert_int_equal((saved(9) & X86_RFLAGS_RF) != 0, rows[i].resumes);
        assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY),
                         EVENT_TYPE(rows[i].event) == VCPU_EVENT_NMI ? BLOCKING_BY_NMI : 0);
    }

    /* The error code. */
    start_tasks(state);
    fake_set(VMCS_IDT_VECTORING_ERROR_CODE, 0xabc);
    exit_by(TASK_SOURCE_GATE, EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_GP) | EVENT_HAS_ERROR_CODE);
    assert_done(0x4321);
    uint32_t pushed;
    guest_take(0x7ffc, &pushed, 4);
    assert_int_equal(pushed, 0xabc);
}

static void bad_new_task(void)
{
    const uint32_t absent = BEYOND;

    guest_put(NEW + 84, &absent, 4);
}

/* Fails when a fault of the new task is lost, lacks EXT, or makes no double fault where it must. */
static void exit_faults(void **state)
{
    bad_new_task();
    exit_by(TASK_SOURCE_CALL, 0);
    assert_int_equal(next_injection(), EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_TS) | BIT(11));
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), BEYOND);
    assert_int_equal(fake_get(VMCS_GUEST_TR_SELECTOR), TSS_NEW);

    start_tasks(state);
    bad_new_task();
    exit_by(TASK_SOURCE_GATE, EVENT(VCPU_EVENT_SOFTWARE_INTERRUPT, 0x41));
    assert_int_equal(next_injection(), EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_TS) | BIT(11));
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), BEYOND);

    start_tasks(state);
    bad_new_task();
    exit_by(TASK_SOURCE_GATE, EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_DE));
    assert_int_equal(next_injection(), EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_DF) | BIT(11));

    /* The interrupt was delivered: it does not come back. */
    start_tasks(state);
    bad_new_task();
    exit_by(TASK_SOURCE_GATE, EVENT(VCPU_EVENT_EXTERNAL_INTERRUPT, 0x41));
    assert_int_equal(next_injection(), EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_TS) | BIT(11));
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), BEYOND | 1);
    assert_int_equal(guest->vcpu.deferred_interrupt, -1);

    /* A refused one leaves the old task, but an IRET has unblocked NMIs. */
    start_tasks(state);
    fake_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    run_to_exit(EXIT_REASON_TASK_SWITCH, QUALIFY(TASK_SOURCE_IRET), LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    fake_set(VMCS_GUEST_GDTR_BASE, GDT);
    fake_set(VMCS_GUEST_GDTR_LIMIT, GDT_LIMIT);
    handle();
    assert_int_equal(next_injection(), EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_TS) | BIT(11));
    assert_int_equal(fake_get(VMCS_GUEST_RIP), GUEST_RIP);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), 0);

    /* Tables where no memory is. */
    start_tasks(state);
    run_to_exit(EXIT_REASON_TASK_SWITCH, QUALIFY(TASK_SOURCE_CALL), LENGTH);
    fake_set(VMCS_GUEST_GDTR_BASE, 0xd0000000);
    fake_set(VMCS_GUEST_GDTR_LIMIT, GDT_LIMIT);
    handle();
    assert_crashed("task switch");
}

/* Fails when the T bit does not trap with DR6.BT. */
static void exit_trap(void **state)
{
    const uint32_t trap = 1;

    (void)state;
    guest_put(NEW + 100, &trap, 4);
    fake_cpu.dr6 = X86_DR6_INIT | X86_DR6_B(0);
    exit_by(TASK_SOURCE_JMP, 0);
    assert_int_equal(next_injection(), EVENT(VCPU_EVENT_HARDWARE_EXCEPTION, X86_VECTOR_DB));
    assert_int_equal(fake_cpu.dr6, X86_DR6_INIT | X86_DR6_BT);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), 0x4321);
}

/* Fails when a TSS that wraps at 4 GiB is read elsewhere. */
static void exit_wraps(void **state)
{
    const uint64_t at_0 = 0x83, at_top = MIB(4) | 0x83; /* pages of 4 MiB */
    const uint32_t base = 0xffffffc0, tables = 0x20000;
    const uint64_t word = tss_word(0) | (uint64_t)(base & 0xffffff) << 16 | 0xffULL << 56;
    struct cr_state control;
    uint32_t tss[26];

    (void)state;
    guest_put(tables, &at_0, 4);
    guest_put(tables + 1023 * 4, &at_top, 4);
    guest_take(NEW, tss, sizeof(tss));
    tss[7] = tables;
    guest_put(MIB(8) - 0x40, tss, 0x40);
    guest_put(0, tss + 16, sizeof(tss) - 0x40);
    guest_put(GDT + TSS_NEW, &word, sizeof(word));
    vcpu_read_control_state(&guest->vcpu, &control);
    control.cr0 |= X86_CR0_PG;
    control.cr4 |= X86_CR4_PSE;
    vcpu_write_control_state(&guest->vcpu, &control);
    vcpu_write(&guest->vcpu, VMCS_GUEST_CR3, tables);
    exit_by(TASK_SOURCE_CALL, 0);
    assert_done(0x4321);
    assert_int_equal(fake_get(VMCS_GUEST_GS_SELECTOR), DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(exit_call, start_tasks),   cmocka_unit_test_setup(exit_events, start_tasks),
        cmocka_unit_test_setup(exit_faults, start_tasks), cmocka_unit_test_setup(exit_trap, start_tasks),
        cmocka_unit_test_setup(exit_wraps, start_tasks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
