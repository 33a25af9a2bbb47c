// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the processor does all day: vCPUs by turns, each from entry to exit to entry until its quantum is over
 * or it has nothing to do; between turns the console and the monitor, in bounded steps; and sleep when there
 * is no work.
 */
#include "core/partition.h"

/* How long a vCPU runs before the next one's turn, and so how long the monitor waits at most. */
#define RUN_QUANTUM_MS 10

/* What the loop needs from above. Set once, before run_forever. */
struct run_hooks {
    /* One bounded step of console and monitor. True if there is more to do at once. */
    bool (*housekeeping)(void);
    /* Ends the machine's work for good: powers it off or resets it. */
    __noreturn void (*power_off)(void);
    /* No interrupt tells of typed input: sleep no longer than a quantum at a time. */
    bool polled_input;
};

/* The loop. `tsc_hz`: ticks of the host's TSC a second. Does not return. */
__noreturn void run_forever(const struct run_hooks *hooks, uint64_t tsc_hz);

/* Adds a vCPU to those that take turns, or takes it out. Not from within an exit of that vCPU. */
void run_add(struct partition_vcpu *vcpu);
void run_remove(struct partition_vcpu *vcpu);

/* The running vCPU goes back to the loop after this exit. */
void run_interrupt_slice(void);

/* Powers the machine off, as the hook does it. */
__noreturn void run_power_off(void);
