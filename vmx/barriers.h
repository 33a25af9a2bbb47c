// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Processor state that nobody can read but that tells others of what was done: branch predictors, return
 * stack, fill buffers, first-level cache. What of it has to be cleared, and when, on a processor as it
 * describes itself. Pure, but for the addresses of the ways in and out in entry.S.
 *
 * Who is kept from whom:
 * - Umbra from a guest that trains predictors for it: at each exit, the VMCS's own MSR list sets
 *   IA32_SPEC_CTRL to Umbra's value, and where the return stack would keep the guest's entries the exit goes
 *   through vcpu_exit_filling.
 * - A partition from the one before on the same processor: when another partition's vCPU is loaded,
 * predictors (IBPB), return stack and first-level data cache are cleared.
 * - Umbra's own data, and others' that it handled, from a guest: where buffers leak, each entry goes through
 *   vcpu_enter_clearing. The first-level cache is not flushed at every entry, only for another partition.
 * - What the two threads of a core see of each other is the operator's business: he gives cores, not threads,
 * to partitions that distrust each other. The log says so where it matters.
 *
 * A processor that announces none of the means executes not one instruction for any of this.
 */
#include "lib/types.h"

struct vcpu;

/* What is known of a processor. */
struct vcpu_barrier_facts {
    uint32_t leaf_7_ebx, leaf_7_edx; /* of CPUID, subleaf 0 */
    uint32_t leaf_7_2_edx;           /* subleaf 2; 0 if there is none */
    uint64_t arch_capabilities;      /* IA32_ARCH_CAPABILITIES; 0 if there is none */
    unsigned threads;                /* logical processors of a core; 0 or 1: no others */
};

/* What is done on it. */
struct vcpu_barriers {
    bool spec_ctrl;          /* IA32_SPEC_CTRL exists, and is exchanged at each entry and exit */
    uint64_t host_spec_ctrl; /* Umbra's value of it */
    bool predictors;         /* cleared for another partition: IBPB, and the return stack filled */
    bool return_stack_exit;  /* the return stack is filled at each exit */
    bool buffers;            /* cleared at each entry: VERW */
    bool cache;              /* first-level data cache flushed for another partition */
    bool siblings;           /* a core's threads can see each other's data */
};

/* Decides. Total: every combination of facts has an answer. Any context. */
struct vcpu_barriers vcpu_barriers_decide(const struct vcpu_barrier_facts *facts);

/* One line for the log, without a line end, into `text` (`size` bytes, 160 are enough). Any context. */
void vcpu_barriers_describe(const struct vcpu_barriers *barriers, char *text, size_t size);

/*
 * The ways in and out, in entry.S (vmx/vcpu.h tells how they are called). The first of each pair does nothing
 * but what must be done anyhow.
 */
unsigned vcpu_enter(struct vcpu *vcpu, bool launched);
unsigned vcpu_enter_clearing(struct vcpu *vcpu, bool launched);
extern const char vcpu_exit[], vcpu_exit_filling[];

/* Fills the return stack with entries that lead nowhere; in entry.S. Interrupts off. */
void vcpu_fill_return_stack(void);

/* The ones that `barriers` want: what vcpu_run calls, and what goes to VMCS_HOST_RIP. */
static inline unsigned (*vcpu_barriers_way_in(const struct vcpu_barriers *barriers))(struct vcpu *, bool)
{
    return barriers->buffers ? vcpu_enter_clearing : vcpu_enter;
}

static inline uint64_t vcpu_barriers_way_out(const struct vcpu_barriers *barriers)
{
    return (uint64_t)(uintptr_t)(barriers->return_stack_exit ? vcpu_exit_filling : vcpu_exit);
}
