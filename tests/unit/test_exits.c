// SPDX-License-Identifier: BSD-2-Clause
/*
 * The exit table, and the exits that need little. Fails when a reason has no handler, when an intercepted
 * exception does not reach the guest as the processor would have delivered it, when a HLT sleeps through what
 * should end it, or when a crash does not say why.
 */
#include "core/exits/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_machine.h"

#define LENGTH 3

/* Fails when a row of the table is missing. */
static void table_is_total(void **state)
{
    (void)state;
    for (unsigned reason = 0; reason < EXIT_REASON_COUNT; reason++)
        assert_non_null(exit_handlers[reason]);
}

/* Instructions that a guest does not have, and ones that do nothing. */
static void refused_and_skipped(void **state)
{
    (void)state;
    static const struct {
        unsigned reason;
        int fault; /* -1: skipped */
    } cases[] = {
        {EXIT_REASON_VMXON, X86_VECTOR_UD},
        {EXIT_REASON_VMLAUNCH, X86_VECTOR_UD},
        {EXIT_REASON_INVEPT, X86_VECTOR_UD},
        {EXIT_REASON_GETSEC, X86_VECTOR_UD},
        {EXIT_REASON_RSM, X86_VECTOR_UD},
        {EXIT_REASON_MONITOR, X86_VECTOR_UD},
        {EXIT_REASON_MWAIT, X86_VECTOR_UD},
        {EXIT_REASON_RDPMC, X86_VECTOR_GP},
        {EXIT_REASON_WBINVD, -1},
        {EXIT_REASON_INVD, -1},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        start_32(state);
        run_to_exit(cases[i].reason, 0, LENGTH);
        take_snapshot(&snapshot);
        handle();
        if (cases[i].fault < 0)
            assert_done(GUEST_RIP + LENGTH);
        else
            assert_fault((unsigned)cases[i].fault, 0);
    }
}

/* Fails when an exit that asks for nothing changes something. */
static void nothing_to_do(void **state)
{
    (void)state;
    static const unsigned reasons[] = {EXIT_REASON_PREEMPTION_TIMER, EXIT_REASON_INIT,
                                       EXIT_REASON_INTERRUPT_WINDOW, EXIT_REASON_NMI_WINDOW,
                                       EXIT_REASON_TPR_BELOW_THRESHOLD};

    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
        take_exit(reasons[i], 0, 0);
        assert_done(GUEST_RIP);
    }
}

/* Fails when a loop of PAUSE keeps the processor from those who could end it, or does not go on. */
static void pause_loop(void **state)
{
    (void)state;
    unsigned yields = fake_cpu.yields;

    take_exit(EXIT_REASON_PAUSE, 0, 2);
    assert_int_equal(fake_cpu.yields, yields + 1);
    assert_done(GUEST_RIP);
}

/* Fails when the next instruction's address is wrong at the end of what an instruction pointer can be. */
static void instruction_pointer(void **state)
{
    (void)state;
    run_to_exit(EXIT_REASON_WBINVD, 0, 2);
    fake_set(VMCS_GUEST_RIP, 0xffffffff);
    fake_set(VMCS_GUEST_CS_ACCESS_RIGHTS, 0xa09b); /* CS.L means nothing outside long mode */
    handle();
    assert_done(1);
    start_64(state);
    run_to_exit(EXIT_REASON_WBINVD, 0, 2);
    fake_set(VMCS_GUEST_RIP, 0xffffffff);
    handle();
    assert_done(0x100000001);
    run_to_exit(EXIT_REASON_WBINVD, 0, 2);
    fake_set(VMCS_GUEST_RIP, 0xffffffff);
    fake_set(VMCS_GUEST_CS_ACCESS_RIGHTS, 0xc09b); /* compatibility mode */
    handle();
    assert_done(1);
}

/* ---- Events ------------------------------------------------------------------------------------------- */

static void exception_exit(uint32_t information, uint64_t qualification, unsigned length)
{
    run_to_exit(EXIT_REASON_EXCEPTION_OR_NMI, qualification, length);
    fake_set(VMCS_EXIT_INTERRUPTION_INFO, information);
}

/* A debug exception updates DR6, DR7 and IA32_DEBUGCTL, which one that exits has not (SDM vol. 3,
 * "Architectural state before a VM exit"). */
static void debug_exceptions(void **state)
{
    (void)state;
    fake_cpu.dr6 = X86_DR6_INIT | X86_DR6_B(3) | X86_DR6_BT;
    exception_exit(0x80000301, X86_DR6_B(0) | X86_DR6_BS, 0);
    fake_set(VMCS_GUEST_DR7, X86_DR7_RESERVED | X86_DR7_GD | X86_DR7_L(0));
    fake_set(VMCS_GUEST_DEBUGCTL, DEBUGCTL_BTF);
    handle();
    assert_int_equal(next_injection(), 0x80000301);
    assert_int_equal(fake_cpu.dr6, X86_DR6_INIT | X86_DR6_B(0) | X86_DR6_BS | X86_DR6_BT);
    assert_int_equal(fake_get(VMCS_GUEST_DR7), X86_DR7_RESERVED | X86_DR7_L(0));
    assert_int_equal(fake_get(VMCS_GUEST_DEBUGCTL), 0);
    assert_int_equal(fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_RF, 0);

    exception_exit(0x80000301, X86_DR6_BD | X86_DR6_RTM, 0);
    handle();
    assert_int_equal(fake_cpu.dr6, (X86_DR6_INIT & ~X86_DR6_RTM) | X86_DR6_BD | X86_DR6_BS | X86_DR6_BT);

    /* INT1 has a length, and is delivered after it. */
    exception_exit(0x80000501, 0, 1);
    handle();
    assert_int_equal(next_injection(), 0x80000501);
    assert_int_equal(fake_get(VMCS_ENTRY_INSTRUCTION_LENGTH), 1);
}

static void other_events(void **state)
{
    (void)state;
    exception_exit(0x80000b11, 0, 0);
    fake_set(VMCS_EXIT_INTERRUPTION_ERROR_CODE, 0);
    handle();
    assert_int_equal(next_injection(), 0x80000b11);

    /* One that came while another was being delivered: a page fault's is delivered instead of it. */
    exception_exit(0x80000b11, 0, 0);
    fake_set(VMCS_IDT_VECTORING_INFO, 0x80000b0e);
    handle();
    assert_int_equal(next_injection(), 0x80000b11);

    /* The IRET that unblocked NMIs is run again. */
    exception_exit(0x80001b11, 0, 0);
    handle();
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);

    /* The machine's own. */
    start_32(state);
    exception_exit(0x80000202, 0, 0);
    handle();
    assert_done(GUEST_RIP);
    assert_int_equal(fake_cpu.nmis, 1);
    run_to_exit(EXIT_REASON_EXTERNAL_INTERRUPT, 0, 0);
    fake_set(VMCS_EXIT_INTERRUPTION_INFO, 0x800000ef);
    handle();
    assert_done(GUEST_RIP);
    assert_int_equal(fake_cpu.dispatched, 0xef);
}

static void double_and_triple_fault(void **state)
{
    (void)state;
    run_to_exit(EXIT_REASON_RDPMC, 0, 2);
    fake_set(VMCS_IDT_VECTORING_INFO, 0x80000b0d); /* as if it were part of a delivery */
    handle();
    assert_int_equal(next_injection(), 0x80000b08);
    run_to_exit(EXIT_REASON_RDPMC, 0, 2);
    fake_set(VMCS_IDT_VECTORING_INFO, 0x80000b08);
    handle();
    assert_crashed("triple fault at rip 0x100000");

    start_32(state);
    take_exit(EXIT_REASON_TRIPLE_FAULT, 0, 0);
    assert_crashed("triple fault at rip 0x100000");
}

/* ---- HLT ---------------------------------------------------------------------------------------------- */

static void halt_exit(uint64_t rflags)
{
    run_to_exit(EXIT_REASON_HLT, 0, 1);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | rflags);
    /* STI; HLT: the shadow ends with it. */
    fake_set(VMCS_GUEST_INTERRUPTIBILITY, rflags & X86_RFLAGS_IF ? BLOCKING_BY_STI : 0);
    handle();
    assert_int_equal(fake_get(VMCS_GUEST_RIP), GUEST_RIP + 1);
}

/* Fails when the vCPU sleeps with something to do, or keeps its turn with nothing to do. */
static void halts(void **state)
{
    (void)state;
    const struct lapic_message message = {.vector = 0x55};

    halt_exit(X86_RFLAGS_IF);
    assert_int_equal(guest->wait, VCPU_WAIT_HALTED);
    assert_int_equal(fake_cpu.slice_ends, 1);

    start_32(state);
    assert_true(lapic_deliver(partition->platform.lapics, 1, &message));
    halt_exit(X86_RFLAGS_IF);
    assert_int_equal(guest->wait, VCPU_WAIT_NOT);
    assert_int_equal(next_injection(), 0x80000055);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), 0);
    assert_int_equal(guest->injected, 1);

    start_32(state);
    assert_true(lapic_deliver(partition->platform.lapics, 1, &message));
    halt_exit(0);
    assert_int_equal(guest->wait, VCPU_WAIT_HALTED);

    /* A single step's trap ends it as well. */
    start_32(state);
    halt_exit(X86_RFLAGS_TF);
    assert_int_equal(guest->wait, VCPU_WAIT_NOT);
    assert_int_equal(fake_get(VMCS_GUEST_PENDING_DEBUG), X86_DR6_BS);
}

/* ---- Reasons of a crash ------------------------------------------------------------------------------- */

static void crashes(void **state)
{
    (void)state;
    take_exit(EXIT_REASON_RDTSC, 0x5000, LENGTH);
    assert_crashed("unexpected exit 16 (");
    assert_crashed("at rip 0x100000, qualification 0x5000");
    take_exit(EXIT_REASON_TRIPLE_FAULT, 0, 0);
    assert_crashed("unexpected exit 16 ("); /* the first reason stands */

    start_32(state);
    take_exit(0x80000000 | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE, 4, 0);
    assert_crashed("VM entry failed: ");
    start_32(state);
    take_exit(EXIT_REASON_COUNT, 0, 0);
    assert_crashed("unexpected exit ");

    start_32(state);
    fake_set(VMCS_VM_INSTRUCTION_ERROR, 7);
    exit_instruction_failure(guest);
    assert_crashed("VM entry failed: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_total),
        cmocka_unit_test_setup(refused_and_skipped, start_32),
        cmocka_unit_test_setup(nothing_to_do, start_32),
        cmocka_unit_test_setup(pause_loop, start_32),
        cmocka_unit_test_setup(instruction_pointer, start_32),
        cmocka_unit_test_setup(debug_exceptions, start_32),
        cmocka_unit_test_setup(other_events, start_32),
        cmocka_unit_test_setup(double_and_triple_fault, start_32),
        cmocka_unit_test_setup(halts, start_32),
        cmocka_unit_test_setup(crashes, start_32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
