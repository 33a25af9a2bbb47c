// SPDX-License-Identifier: BSD-2-Clause
#include "core/run.h"

#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "core/exits/exits.h"
#include "drivers/lapic.h"
#include "lib/panic.h"
#include "vmx/events.h"
#include "vmx/instructions.h"

/* Of so many exits, the duration of one is measured. */
#define SAMPLED_EXIT 64

/* The vCPUs that take turns on this processor, in the order of their turns. */
struct turns {
    struct partition_vcpu *vcpus[CONFIG_PARTITIONS_MAX];
    unsigned count;
    unsigned next;
};

PERCPU static struct turns turns;
PERCPU static bool slice_over;
PERCPU static uint64_t armed; /* host TSC that the local APIC's timer was last set to */
static const struct run_hooks *run_hooks;
static uint64_t quantum;

void run_add(struct partition_vcpu *vcpu)
{
    struct turns *t = this_cpu_pointer(turns);

    invariant(t->count < CONFIG_PARTITIONS_MAX);
    t->vcpus[t->count++] = vcpu;
}

void run_remove(struct partition_vcpu *vcpu)
{
    struct turns *t = this_cpu_pointer(turns);

    for (unsigned i = 0; i < t->count; i++) {
        if (t->vcpus[i] != vcpu)
            continue;
        t->vcpus[i] = t->vcpus[--t->count];
        if (t->next >= t->count)
            t->next = 0;
        return;
    }
}

void run_interrupt_slice(void)
{
    this_cpu(slice_over) = true;
}

void run_power_off(void)
{
    run_hooks->power_off();
}

static void arm_timer(uint64_t tsc)
{
    if (this_cpu(armed) == tsc)
        return;
    this_cpu(armed) = tsc;
    lapic_timer_arm(tsc);
}

/* The host TSC at partition TSC `time`. What lies beyond the end of the host's is never. */
static uint64_t host_time(const struct partition *partition, uint64_t time)
{
    uint64_t since_start = 0 - partition->tsc_offset; /* host TSC at partition TSC 0 */

    return time > VDEV_NEVER - since_start ? VDEV_NEVER : time + since_start;
}

static void update_deadline(struct partition_vcpu *v)
{
    uint64_t deadline = platform_deadline(&v->partition->platform, v->number);

    v->deadline_changed = false;
    v->deadline = host_time(v->partition, deadline);
}

/* Lets the devices of `v` do what is due at host TSC `now`. */
static void expire_devices(struct partition_vcpu *v, uint64_t now)
{
    if (v->deadline_changed)
        update_deadline(v);
    if (now < v->deadline)
        return;
    platform_expire(&v->partition->platform, v->number, now + v->partition->tsc_offset);
    update_deadline(v);
}

/* True if a halted vCPU has something to wake up for. */
static bool may_run(struct partition_vcpu *v, uint64_t now)
{
    if (!v->halted)
        return true;
    expire_devices(v, now);
    if (!vcpu_events_would_wake(&v->vcpu))
        return false;
    v->halted = false;
    return true;
}

static void flush_hardware_if_needed(struct partition_vcpu *v)
{
    uint64_t generation = vtlb_generation(&v->context);

    if (likely(generation == v->context_generation))
        return;
    v->context_generation = generation;
    if (!vmx_invept(INVEPT_CONTEXT, vcpu_read(&v->vcpu, VMCS_EPT_POINTER)) && !vmx_invept(INVEPT_ALL, 0))
        panic("INVEPT failed");
}

static inline void handle_exit(struct partition_vcpu *v, uint64_t now)
{
    uint32_t reason = (uint32_t)vcpu_fetched(&v->vcpu, VMCS_EXIT_REASON);
    struct trace_record *record = trace_add(&v->trace, now, reason, vcpu_fetched(&v->vcpu, VMCS_GUEST_RIP),
                                            v->vcpu.registers[VCPU_RAX]);

    vcpu_events_after_exit(&v->vcpu);
    if (likely(reason < EXIT_REASON_COUNT)) {
        v->exits[reason]++;
        exit_handlers[reason](v);
    } else {
        exit_flagged(v, reason);
    }
    /* The qualification costs a VMREAD: the trace has it where the handler wanted it. */
    if (vcpu_field_known(&v->vcpu, VMCS_EXIT_QUALIFICATION))
        record->qualification = vcpu_fetched(&v->vcpu, VMCS_EXIT_QUALIFICATION);
}

/* One vCPU's turn: until its quantum is over, it halts, or somebody asks for the processor. */
static void run_slice(struct partition_vcpu *v)
{
    const uint64_t slice_end = cpu_rdtsc() + quantum;
    uint64_t now = slice_end - quantum;

    vcpu_load(&v->vcpu);
    this_cpu(slice_over) = false;
    this_cpu(armed) = UINT64_MAX; /* the timer may have fired since */
    if (v->first_entry == 0)
        v->first_entry = now;
    while (!this_cpu(slice_over) && now < slice_end) {
        if (v->deadline_changed || now >= v->deadline)
            expire_devices(v, now);
        flush_hardware_if_needed(v);
        vcpu_events_before_entry(&v->vcpu);

        uint64_t stop = min_u64(slice_end, v->deadline);
        if (!v->vcpu.has_preemption_timer)
            arm_timer(stop);

        enum vcpu_run_result result = vcpu_run(&v->vcpu, stop > now ? stop - now : 0);
        uint64_t exited = cpu_rdtsc();
        if (likely(result == VCPU_RAN))
            handle_exit(v, exited);
        else
            exit_instruction_failure(v);
        if (likely(v->trace.count % SAMPLED_EXIT != 0)) {
            /* The time of the exit does for the next entry: it is late by what the handler took, no more. */
            now = exited;
            continue;
        }
        now = cpu_rdtsc();
        v->sampled_exits++;
        v->sampled_ticks += now - exited;
    }
    /* Table pages that were dropped are cleared here rather than when the next miss needs one. */
    vtlb_clean(&v->vtlb, 1);
    partition_serve_request(v->partition);
}

/* The next vCPU in turn that has something to do, or NULL. */
static struct partition_vcpu *pick(void)
{
    struct turns *t = this_cpu_pointer(turns);
    uint64_t now = cpu_rdtsc();

    for (unsigned i = 0; i < t->count; i++) {
        struct partition_vcpu *v = t->vcpus[(t->next + i) % t->count];
        if (may_run(v, now)) {
            t->next = (t->next + i + 1) % t->count;
            return v;
        }
    }
    return NULL;
}

/* Sleeps until an interrupt, or until a device of a halted vCPU has something to do. */
static void idle(void)
{
    struct turns *t = this_cpu_pointer(turns);
    uint64_t deadline = UINT64_MAX;

    for (unsigned i = 0; i < t->count; i++)
        deadline = min_u64(deadline, t->vcpus[i]->deadline);
    if (run_hooks->polled_input)
        deadline = min_u64(deadline, cpu_rdtsc() + quantum);
    this_cpu(armed) = deadline;
    lapic_timer_arm(deadline);
    cpu_wait_for_interrupt();
}

void run_forever(const struct run_hooks *hooks, uint64_t tsc_hz)
{
    run_hooks = hooks;
    quantum = tsc_hz / 1000 * RUN_QUANTUM_MS;
    for (;;) {
        bool busy = hooks->housekeeping();
        struct partition_vcpu *v = pick();

        if (v != NULL)
            run_slice(v);
        else if (!busy)
            idle();
        /*
         * A guest that never opens its interrupt flag keeps Bochs from exiting for an interrupt;
         * docs/notes/bochs.md. What is pending is taken here at the latest.
         */
        cpu_take_interrupts();
    }
}
