// SPDX-License-Identifier: BSD-2-Clause
#include "core/run.h"

#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "core/exits/exits.h"
#include "core/nested_guest.h"
#include "core/paging.h"
#include "drivers/lapic.h"
#include "lib/panic.h"
#include "vmx/events.h"
#include "vmx/instructions.h"

#define TABLES_CLEANED 8 /* after a turn */

PERCPU static struct scheduler scheduler;
PERCPU static struct partition_vcpu *current; /* the vCPU that is running, or NULL */
PERCPU static struct partition_vcpu *inbox;   /* vCPUs with mail, the newest first; atomic */
PERCPU static bool attention;                 /* the loop is to be gone round again; atomic */
PERCPU static uint64_t armed;                 /* host TSC that the local APIC's timer was last set to */
PERCPU static uint64_t started;               /* host TSC */
static const struct run_hooks *run_hooks;
static uint64_t quantum;

/* ---- Attention ----------------------------------------------------------------------------------------- */

void run_interrupt_slice(void)
{
    this_cpu(attention) = true;
}

void run_yield(void)
{
    scheduler_yield(this_cpu_pointer(scheduler), &this_cpu(current)->schedule);
    run_interrupt_slice();
}

void run_attend(unsigned number)
{
    /* Whoever has said so before and was not heard yet has sent an interrupt, or is that processor itself. */
    if (__atomic_exchange_n(that_cpu_pointer(attention, number), true, __ATOMIC_SEQ_CST))
        return;
    if (number != this_cpu(percpu_number))
        lapic_send_vector(percpu_apic_ids[number], VECTOR_KICK);
}

void run_deliver(struct partition_vcpu *vcpu)
{
    struct partition_vcpu **list = that_cpu_pointer(inbox, vcpu->home);
    struct partition_vcpu *first = __atomic_load_n(list, __ATOMIC_RELAXED);

    do
        vcpu->next_mail = first;
    while (!__atomic_compare_exchange_n(list, &first, vcpu, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    /* Who found the list empty has told its owner. */
    if (first == NULL)
        run_attend(vcpu->home);
}

bool run_is_current(const struct partition_vcpu *vcpu)
{
    return this_cpu(current) == vcpu;
}

bool run_is_running(const struct partition_vcpu *vcpu)
{
    return __atomic_load_n(that_cpu_pointer(current, vcpu->home), __ATOMIC_SEQ_CST) == vcpu;
}

uint64_t run_started(unsigned number)
{
    return *that_cpu_pointer(started, number);
}

void run_power_off(void)
{
    run_hooks->power_off();
}

/* ---- Accounts ----------------------------------------------------------------------------------------- */

/* What a processor has done so far, and what it is doing. Written by itself, read by the housekeeper. */
struct account {
    uint32_t version;                  /* odd while the rest changes */
    const struct partition_vcpu *vcpu; /* whose turn it is, or NULL */
    uint64_t since;                    /* host TSC, of that turn or of the sleep; 0: neither */
    uint64_t slept;                    /* ticks, up to when it last woke */
};

PERCPU static struct account account;

/* From `now` on `vcpu` has its turn, or with NULL the processor sleeps. */
static void account_enter(const struct partition_vcpu *vcpu, uint64_t now)
{
    struct account *a = this_cpu_pointer(account);

    __atomic_store_n(&a->version, a->version + 1, __ATOMIC_SEQ_CST);
    a->vcpu = vcpu;
    a->since = now;
    __atomic_store_n(&a->version, a->version + 1, __ATOMIC_SEQ_CST);
}

/* What began has ended at `now`; a vCPU's turn counts in its schedule. */
static void account_leave(struct partition_vcpu *vcpu, uint64_t now)
{
    struct account *a = this_cpu_pointer(account);

    __atomic_store_n(&a->version, a->version + 1, __ATOMIC_SEQ_CST);
    if (vcpu != NULL)
        scheduler_ran(this_cpu_pointer(scheduler), &vcpu->schedule, a->since, now);
    else
        a->slept += now - a->since;
    a->vcpu = NULL;
    a->since = 0;
    __atomic_store_n(&a->version, a->version + 1, __ATOMIC_SEQ_CST);
}

/* A consistent copy of processor `number`'s account, and of the run time of a vCPU whose home it is, if not
 * NULL. */
static struct account account_read(unsigned number, const struct partition_vcpu *vcpu, uint64_t *ran)
{
    const struct account *a = that_cpu_pointer(account, number);
    struct account copy;
    uint32_t version;

    do {
        version = __atomic_load_n(&a->version, __ATOMIC_SEQ_CST);
        copy = *a;
        if (vcpu != NULL)
            *ran = vcpu->schedule.run_time;
    } while ((version & 1) != 0 || __atomic_load_n(&a->version, __ATOMIC_SEQ_CST) != version);
    return copy;
}

uint64_t run_vcpu_ticks(const struct partition_vcpu *vcpu)
{
    uint64_t ran;
    struct account copy = account_read(vcpu->home, vcpu, &ran);

    return copy.vcpu == vcpu ? ran + (cpu_rdtsc() - copy.since) : ran;
}

uint64_t run_idle_ticks(unsigned number)
{
    struct account copy = account_read(number, NULL, NULL);

    return copy.vcpu == NULL && copy.since != 0 ? copy.slept + (cpu_rdtsc() - copy.since) : copy.slept;
}

/* ---- Time ---------------------------------------------------------------------------------------------- */

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

/* ---- Mail ---------------------------------------------------------------------------------------------- */

/* Messages that came for its local APIC; an INIT, a start-up message and an NMI among them take effect here.
 */
static void receive_events(struct partition_vcpu *v)
{
    platform_receive(&v->partition->platform, v->number);
}

/* The vCPU has come to this processor, or back to it: others may have had its tags here meanwhile. */
static void start(struct partition_vcpu *v)
{
    const struct config_cpus *cpus = &v->partition->config->cpus;

    vcpu_load(&v->vcpu);
    partition_vcpu_apply_tsc(v);
    vcpu_flush_linear(&v->vcpu);
    paging_flush_hardware(&v->lv1);
    if (v->nested != NULL)
        nested_memory_moved(&v->nested->memory);
    if (nested_guest_runs(v))
        nested_guest_resume(v);
    v->deadline_changed = true;
    scheduler_add(this_cpu_pointer(scheduler), &v->schedule, cpus->weight, cpus->cap, cpu_rdtsc());
}

/* Of whoever runs on it: a guest hypervisor, or its guest. */
static void take_snapshot(struct partition_vcpu *v)
{
    vcpu_load(v->level->vcpu);
    if (v->nested != NULL)
        nested_snapshot_take(&v->nested->nested, &v->nested->snapshot);
    vcpu_take_snapshot(v->level->vcpu, &v->snapshot);
}

static void park(struct partition_vcpu *v)
{
    scheduler_remove(this_cpu_pointer(scheduler), &v->schedule, cpu_rdtsc());
    take_snapshot(v);
    vcpu_unload(v->level->vcpu);
}

/* Takes the mail: what it was. A vCPU that is to be parked gets none any more from the same moment on. */
static uint32_t take_mail(struct partition_vcpu *v)
{
    uint32_t mail = __atomic_load_n(&v->mail, __ATOMIC_RELAXED);

    while (!__atomic_compare_exchange_n(&v->mail, &mail, mail & MAIL_PARK ? MAIL_PARKED : 0, true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        ;
    return mail;
}

static void read_mail(struct partition_vcpu *v)
{
    struct scheduler *s = this_cpu_pointer(scheduler);
    uint32_t mail = take_mail(v);

    if (mail & MAIL_START)
        start(v);
    if (mail & MAIL_SCHEDULE)
        scheduler_set(s, &v->schedule, v->partition->config->cpus.weight, v->partition->config->cpus.cap);
    if (mail & MAIL_DEADLINE)
        v->deadline_changed = true;
    if (mail & (MAIL_EVENTS | MAIL_START))
        vcpu_events_changed(&v->vcpu);
    if (mail & (MAIL_EVENTS | MAIL_DEADLINE))
        scheduler_wake(s, &v->schedule, cpu_rdtsc());
    if (mail & MAIL_SNAPSHOT) {
        take_snapshot(v);
        run_attend(0);
    }
    if (mail & MAIL_PARK) {
        park(v);
        __atomic_fetch_add(&v->partition->parked, 1, __ATOMIC_RELEASE);
        run_attend(0);
    }
}

static void read_all_mail(void)
{
    struct partition_vcpu *v = __atomic_exchange_n(this_cpu_pointer(inbox), NULL, __ATOMIC_ACQUIRE);

    while (v != NULL) {
        struct partition_vcpu *next = v->next_mail; /* once its mail is taken it may be in the list again */

        read_mail(v);
        v = next;
    }
}

/* ---- Turns --------------------------------------------------------------------------------------------- */

/* Its partition is about to stop, pause or begin anew: it waits for the mail that parks it. */
static bool is_leaving(const struct partition_vcpu *v)
{
    return __atomic_load_n(&v->partition->request, __ATOMIC_ACQUIRE) != PARTITION_REQUEST_NONE;
}

/* True if the vCPU has something to run for. */
static bool may_run(struct partition_vcpu *v, uint64_t now)
{
    if (is_leaving(v))
        return false;
    expire_devices(v, now);
    if (v->wait == VCPU_WAIT_NOT)
        return true;
    receive_events(v);
    if (v->wait == VCPU_WAIT_HALTED &&
        (nested_guest_runs(v) ? nested_guest_would_wake(v) : vcpu_events_would_wake(&v->vcpu)))
        v->wait = VCPU_WAIT_NOT;
    return v->wait == VCPU_WAIT_NOT;
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

/* What waits for the vCPU's next entry. False: it does not go on. */
static __noinline bool prepare_events(struct partition_vcpu *v)
{
    receive_events(v);
    if (v->wait != VCPU_WAIT_NOT)
        return false;
    if (nested_guest_runs(v) && !nested_guest_events(v))
        return v->wait == VCPU_WAIT_NOT; /* it is for Lv2, and done */
    vcpu_events_decide(&v->vcpu);
    if (unlikely(v->lv1.stepping) && v->vcpu.injection != 0)
        paging_end_step(&v->lv1); /* the event comes first */
    return true;
}

/* One vCPU's turn: until host TSC `end`, it waits, or somebody asks for the processor. */
static void run_slice(struct partition_vcpu *v, uint64_t end)
{
    uint64_t now = cpu_rdtsc();
    const uint64_t begin = now;

    if (vcpu_load(v->level->vcpu))
        v->switches++;
    account_enter(v, begin);
    __atomic_store_n(this_cpu_pointer(current), v, __ATOMIC_SEQ_CST);
    if (v->partition->apicv.posted)
        vcpu_events_changed(&v->vcpu); /* what was posted when its last turn ended */
    if (unlikely(v->hypercall.steal_enabled))
        hypercall_steal_update(&v->hypercall, &v->partition->memory_chain, v->schedule.waited,
                               now + v->partition->tsc_offset);
    this_cpu(armed) = UINT64_MAX; /* the timer may have fired since */
    if (v->first_entry == 0)
        v->first_entry = now;
    while (!this_cpu(attention) && now < end) {
        if (v->deadline_changed || now >= v->deadline)
            expire_devices(v, now);
        if (unlikely(v->vcpu.events_changed) && !prepare_events(v))
            break;
        /* An event may have changed what its guest's addresses are: this comes last. */
        if (unlikely(vtlb_generation(&v->vtlb) != v->lv1.vtlb_seen))
            paging_flush_hardware(&v->lv1);

        uint64_t stop = min_u64(end, v->deadline);
        if (unlikely(nested_guest_runs(v))) {
            stop = min_u64(stop, v->nested->timer);
            if (!v->vcpu.has_preemption_timer)
                arm_timer(v->nested->hurry ? now : stop);
            now = nested_guest_run(v, stop > now ? stop - now : 0);
            continue;
        }
        if (!v->vcpu.has_preemption_timer)
            arm_timer(stop);

        enum vcpu_run_result result = vcpu_run(&v->vcpu, stop > now ? stop - now : 0);
        uint64_t exited = cpu_rdtsc();
        if (likely(result == VCPU_RAN))
            handle_exit(v, exited);
        else
            exit_instruction_failure(v);
        if (likely(!trace_is_timed(&v->trace))) {
            /* The time of the exit does for the next entry: it is late by what the handler took, no more. */
            now = exited;
            continue;
        }
        now = cpu_rdtsc();
        v->sampled_exits++;
        v->sampled_ticks += now - exited;
        trace_timed(&v->trace, now - exited);
    }
    __atomic_store_n(this_cpu_pointer(current), NULL, __ATOMIC_SEQ_CST);
    /* Table pages that were dropped are cleared here rather than when the next miss needs one. */
    vtlb_clean(&v->vtlb, TABLES_CLEANED);

    now = cpu_rdtsc();
    account_leave(v, now);
}

/* When a vCPU that waits has to be looked at again. */
static uint64_t wake_time(const struct partition_vcpu *v)
{
    return nested_guest_runs(v) ? min_u64(v->deadline, v->nested->timer) : v->deadline;
}

/* The vCPU whose turn it is, and until when; or NULL, and until when there will be none. */
static struct partition_vcpu *pick(uint64_t *until)
{
    struct scheduler *s = this_cpu_pointer(scheduler);

    for (;;) {
        uint64_t now = cpu_rdtsc();
        struct scheduler_entity *entity = scheduler_pick(s, now, until);
        struct partition_vcpu *v = container_of(entity, struct partition_vcpu, schedule);

        if (entity == NULL)
            return NULL;
        if (may_run(v, now))
            return v;
        scheduler_block(s, entity, now, is_leaving(v) ? UINT64_MAX : wake_time(v));
    }
}

/* Sleeps until an interrupt, or `deadline`. */
static void idle(uint64_t deadline)
{
    this_cpu(armed) = deadline;
    lapic_timer_arm(deadline);
    account_enter(NULL, cpu_rdtsc());
    /* Whoever wants attention sends an interrupt after he has said so. */
    if (!__atomic_load_n(this_cpu_pointer(attention), __ATOMIC_SEQ_CST))
        cpu_wait_for_interrupt();
    account_leave(NULL, cpu_rdtsc());
}

void run_forever(const struct run_hooks *hooks, uint64_t tsc_hz)
{
    const bool housekeeper = this_cpu(percpu_number) == 0;
    uint64_t until;

    this_cpu(started) = cpu_rdtsc();
    run_hooks = hooks;
    quantum = tsc_hz / 1000 * RUN_QUANTUM_MS;
    scheduler_init(this_cpu_pointer(scheduler), quantum, tsc_hz / 1000 * RUN_PERIOD_MS);
    for (;;) {
        __atomic_store_n(this_cpu_pointer(attention), false, __ATOMIC_SEQ_CST);
        read_all_mail();
        uint64_t errand = housekeeper ? hooks->housekeeping() : UINT64_MAX;
        struct partition_vcpu *v = pick(&until);
        uint64_t now = cpu_rdtsc();

        /*
         * Whoever is alone has no slice, but comes here once in a while nevertheless: the monitor wants its
         * turn, and Bochs does not let every interrupt through to a guest (docs/notes/bochs.md).
         */
        if (v != NULL)
            run_slice(v, min_u64(until, now + quantum));
        else if (errand > now)
            idle(min_u64(until, errand));
        /*
         * A guest that never opens its interrupt flag keeps Bochs from exiting for an interrupt;
         * docs/notes/bochs.md. What is pending is taken here at the latest.
         */
        cpu_take_interrupts();
    }
}
