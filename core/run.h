// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What a processor does all day: it reads its vCPUs' mail, runs the vCPU whose turn it is from entry to exit
 * to entry, and sleeps when there is none. pCPU 0 also keeps house, in bounded steps, between turns.
 */
#include "core/partition.h"

/* How long a vCPU runs before the next one's turn, and so how long the monitor waits at most. */
#define RUN_QUANTUM_MS 10

/* The period in which a vCPU's cap holds. */
#define RUN_PERIOD_MS  100

/* What the loop needs from above. The same for all processors. */
struct run_hooks {
    /*
     * One bounded step of console, monitor and partitions' lives. Returns the host TSC at which it wants to
     * be called again, though nothing happens before; 0: at once.
     */
    uint64_t (*housekeeping)(void);
    /* Ends the machine's work for good: powers it off or resets it. */
    __noreturn void (*power_off)(void);
};

/* The loop of this processor. `tsc_hz`: ticks of the host's TSC a second. Does not return. */
__noreturn void run_forever(const struct run_hooks *hooks, uint64_t tsc_hz);

/* The running vCPU goes back to the loop after this exit. */
void run_interrupt_slice(void);

/* The running vCPU spins, waiting for another: it lets others go first. After this exit. */
void run_yield(void);

/* Processor `number` goes back to its loop soon. Anybody. */
void run_attend(unsigned number);

/* `vcpu`, whose mail was empty, has some: tells its home. From partition_vcpu_post only. */
void run_deliver(struct partition_vcpu *vcpu);

/* Whether `vcpu` is the one that this processor is running. */
bool run_is_current(const struct partition_vcpu *vcpu);

/* Whether it is the one that its home is running. Anybody; it may change at once. */
bool run_is_running(const struct partition_vcpu *vcpu);

/* Ticks that `vcpu` has had since its partition was started, its exits included. Anybody. */
uint64_t run_vcpu_ticks(const struct partition_vcpu *vcpu);

/* Host TSC at which processor `number` came to its loop. */
uint64_t run_started(unsigned number);

/* Ticks that processor `number` has slept. Anybody. */
uint64_t run_idle_ticks(unsigned number);

/* Powers the machine off, as the hook does it. */
__noreturn void run_power_off(void);
