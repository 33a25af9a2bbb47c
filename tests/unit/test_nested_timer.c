// SPDX-License-Identifier: BSD-2-Clause
/*
 * Lv1's VMX-preemption timer for Lv2, which Umbra keeps as one of its deadlines (core/nested_guest.c). Fails
 * when it does not end Lv2's run at its time, ends it before, or runs on while the partition is paused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/nested_guest.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/nested_good.h"

#define TICKS  1000 /* of the timer */
#define PAUSED 123456789ULL

static struct nested_vcpu *nested(void)
{
    return &guest->nested->nested;
}

/* TSC ticks in one of the timer's. */
static uint64_t tick(void)
{
    return BIT(guest->nested->policy.capabilities.offered.misc & VMX_MISC_TIMER_SHIFT);
}

/* Lv2 runs, and its timer. */
static int start(void **state)
{
    guest_nested = true;
    start_64(state);
    fake_cpu.any_msr = true;
    nested_good_vmcs12(&nested()->vmcs12, &guest->nested->policy.capabilities.offered, GUEST_RIP,
                       GUEST_TABLES);
    vmcs12_write(&nested()->vmcs12, VMCS_PIN_CONTROLS,
                 vmcs12_read(&nested()->vmcs12, VMCS_PIN_CONTROLS) | VMX_PIN_PREEMPTION_TIMER);
    vmcs12_write(&nested()->vmcs12, VMCS_PREEMPTION_TIMER_VALUE, TICKS);
    nested()->mode = NESTED_ROOT;
    nested()->current = 0x18000;
    nested_guest_enter(guest);
    assert_true(nested_guest_runs(guest));
    vcpu_events_before_entry(&nested()->vcpu02);
    return 0;
}

/* What the run loop does with a vCPU that comes to its processor. */
static void come_back(void)
{
    vcpu_unload(&nested()->vcpu02);
    vcpu_load(&guest->vcpu);
    nested_guest_resume(guest);
}

/* Not yet, and then so. */
static void assert_runs_out_in(uint64_t ticks)
{
    fake_cpu.tsc += ticks - 1;
    assert_false(nested_guest_events(guest));
    assert_true(nested_guest_runs(guest));
    fake_cpu.tsc++;
    assert_true(nested_guest_events(guest));
    assert_false(nested_guest_runs(guest));
    assert_int_equal(vmcs12_read(&nested()->vmcs12, VMCS_EXIT_REASON), EXIT_REASON_PREEMPTION_TIMER);
}

static void runs_out(void **state)
{
    (void)state;
    assert_runs_out_in(TICKS * tick());
}

static void stands_still(void **state)
{
    (void)state;
    for (unsigned pauses = 0; pauses < 2; pauses++) {
        fake_cpu.tsc += 10 * tick();
        fake_cpu.tsc += PAUSED;
        partition->tsc_offset -= PAUSED;
        come_back();
    }
    assert_runs_out_in((TICKS - 20) * tick());
}

/* Another processor of the machine's is no pause. */
static void moves(void **state)
{
    (void)state;
    fake_cpu.tsc += 10 * tick();
    come_back();
    assert_runs_out_in((TICKS - 10) * tick());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(runs_out, start),
        cmocka_unit_test_setup(stands_still, start),
        cmocka_unit_test_setup(moves, start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
