// SPDX-License-Identifier: BSD-2-Clause
/*
 * The lives of partitions: docs/design/partitions.md has the picture. The housekeeper makes every transition,
 * a bounded step at a time; the homes of the vCPUs only park them and take them up again.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "core/partition_build.h"
#include "core/run.h"
#include "lib/errors.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/events.h"

/* How much memory one step clears. */
#define SCRUB_STEP          MIB(1)

/* Restarts wait, in tenths of a second: at first, at most; and what counts as a long life, in seconds. */
#define RESTART_DELAY_FIRST 1
#define RESTART_DELAY_MOST  600
#define LONG_LIFE           10

static uint64_t seconds(uint64_t n)
{
    return n * partition_machine()->tsc_hz;
}

static uint32_t requested(const struct partition *partition)
{
    return __atomic_load_n(&partition->request, __ATOMIC_ACQUIRE);
}

/* ---- vCPUs --------------------------------------------------------------------------------------------- */

/* The weight of what is scheduled on each pCPU. */
static uint64_t load_of(unsigned processor)
{
    uint64_t load = 0;

    for (unsigned i = 0; i < partition_slots(); i++) {
        const struct partition *other = partition_at(i);
        bool placed = other != NULL && partition_is_placed(other);

        for (unsigned n = 0; placed && n < other->vcpu_count; n++)
            if (other->vcpus[n].home == processor)
                load += other->config->cpus.weight;
    }
    return load;
}

/* Each vCPU's home: its own pCPU, or the least loaded of those it may share. */
static void choose_homes(struct partition *partition)
{
    const struct config_cpus *cpus = &partition->config->cpus;
    uint64_t loads[PERCPU_PROCESSORS_MAX];
    uint64_t allowed = cpus->set != 0 ? cpus->set : ~partition_dedicated();

    for (unsigned i = 0; i < percpu_count; i++)
        loads[i] = load_of(i);
    for (unsigned n = 0; n < partition->vcpu_count; n++) {
        /* There is one: a set of its own has as many as vCPUs, and pCPU 0 is shared (core/config/check.c). */
        unsigned best = (unsigned)__builtin_ctzll(allowed);

        for (unsigned i = best + 1; i < percpu_count; i++)
            if ((allowed & BIT(i)) != 0 && loads[i] < loads[best])
                best = i;
        partition->vcpus[n].home = best;
        loads[best] += cpus->weight;
        if (cpus->dedicated)
            allowed &= ~BIT(best);
    }
}

/* Sends its vCPUs, which are parked, home. */
static void unpark(struct partition *partition)
{
    __atomic_store_n(&partition->request, PARTITION_REQUEST_NONE, __ATOMIC_RELEASE);
    partition->parking = false;
    partition->parked = 0;
    partition->state = PARTITION_RUNNING;
    shared_listen(&partition->shared, true);
    for (unsigned i = 0; i < partition->vcpu_count; i++) {
        __atomic_store_n(&partition->vcpus[i].mail, 0, __ATOMIC_RELEASE);
        partition_vcpu_post(&partition->vcpus[i], MAIL_START | MAIL_EVENTS);
    }
}

void partition_update_schedule(struct partition *partition)
{
    for (unsigned i = 0; i < partition->vcpu_count; i++)
        if (partition->state == PARTITION_RUNNING)
            partition_vcpu_post(&partition->vcpus[i], MAIL_SCHEDULE);
}

/* ---- Starting ------------------------------------------------------------------------------------------ */

/* A new life. No vCPU runs. */
static void begin(struct partition *partition)
{
    partition->reason[0] = '\0';
    partition->restart_at = 0;
    partition->scrub_region = 0;
    partition->scrub_offset = 0;
    partition->scrub_ticks = 0;
    partition->state = PARTITION_STARTING;
}

int partition_start(struct partition *partition)
{
    if (partition->state == PARTITION_REFUSED)
        return -EPERM;
    if (partition->state != PARTITION_STOPPED && partition->state != PARTITION_CRASHED)
        return -EBUSY;
    begin(partition);
    return 0;
}

/* Clears the next piece of its memory. False when all is done. */
static bool scrub(struct partition *partition)
{
    uint64_t start = cpu_rdtsc();

    if (partition->scrub_region == partition->p2m.count)
        return !shared_clear_step(&partition->shared, SCRUB_STEP);

    const struct p2m_region *region = &partition->regions[partition->scrub_region];
    uint64_t size = min_u64(SCRUB_STEP, region->size - partition->scrub_offset);
    if (!p2m_region_is_shared(&partition->p2m, region))
        memset(physmap_pointer(HPA(region->hpa.value + partition->scrub_offset)), 0, size);
    partition->scrub_offset += size;
    if (partition->scrub_offset == region->size) {
        partition->scrub_region++;
        partition->scrub_offset = 0;
    }
    partition->scrub_ticks += cpu_rdtsc() - start;
    return true;
}

/* One step of STARTING. */
static void go_on_starting(struct partition *partition)
{
    if (scrub(partition))
        return;
    if (partition_load(partition) != 0) {
        partition->state = PARTITION_STOPPED;
        print("partition %.*s: does not start: %s\n", SLICE_ARGUMENTS(partition->config->name),
              partition->reason);
        return;
    }
    partition->starts++;
    partition->started_at = cpu_rdtsc();
    choose_homes(partition);
    unpark(partition);
}

/* ---- Stopping ------------------------------------------------------------------------------------------ */

int partition_stop(struct partition *partition, unsigned timeout)
{
    bool awaits_restart = partition->state == PARTITION_STOPPED && partition->restart_at != 0;

    /* Its vCPUs are parked: it cannot hear the button. */
    if (partition->state == PARTITION_STARTING || partition->state == PARTITION_PAUSED || awaits_restart) {
        partition->restart_at = 0;
        partition->state = PARTITION_STOPPED;
        return 0;
    }
    if (partition->state != PARTITION_RUNNING)
        return -EINVAL;
    partition->stopping = true;
    partition->stop_deadline = cpu_rdtsc() + seconds(timeout);
    if (timeout == 0 || !platform_press_power_button(&partition->platform))
        partition_request(partition, PARTITION_REQUEST_STOP);
    return 0;
}

int partition_reset(struct partition *partition)
{
    partition->stopping = false;
    if (partition->state == PARTITION_RUNNING) {
        partition_request(partition, PARTITION_REQUEST_RESET);
        return 0;
    }
    if (partition->state == PARTITION_PAUSED || partition->state == PARTITION_STARTING)
        partition->state = PARTITION_STOPPED;
    return partition_start(partition);
}

int partition_pause(struct partition *partition)
{
    if (partition->state != PARTITION_RUNNING)
        return -EINVAL;
    partition_request(partition, PARTITION_REQUEST_PAUSE);
    return 0;
}

/* The partition's clock goes on from where it stopped. */
int partition_resume(struct partition *partition)
{
    if (partition->state != PARTITION_PAUSED)
        return -EINVAL;
    partition->tsc_offset -= cpu_rdtsc() - partition->paused_at;
    unpark(partition);
    return 0;
}

/* The end of a life: a short one makes the next begin later. */
static void schedule_restart(struct partition *partition)
{
    uint64_t now = cpu_rdtsc();

    if (now - partition->started_at > seconds(LONG_LIFE) || partition->restart_delay == 0)
        partition->restart_delay = RESTART_DELAY_FIRST;
    partition->restart_at = now + seconds(partition->restart_delay) / 10;
    partition->restart_delay = (unsigned)min_u64(2 * partition->restart_delay, RESTART_DELAY_MOST);
}

/* Whether a partition lives, or will again without anybody's doing. */
static bool is_alive(const struct partition *partition)
{
    return partition_is_placed(partition) || partition->state == PARTITION_STARTING ||
           partition->restart_at != 0;
}

/* A guest that stopped by itself: what its configuration wants then. */
static void after_stop(struct partition *partition)
{
    switch (partition->config->on_stop) {
    case CONFIG_ON_STOP_STAY:
        break;
    case CONFIG_ON_STOP_RESTART:
        schedule_restart(partition);
        break;
    case CONFIG_ON_STOP_POWEROFF:
        for (unsigned i = 0; i < partition_slots(); i++) {
            const struct partition *other = partition_at(i);
            if (other != NULL && is_alive(other))
                return;
        }
        run_power_off();
        break;
    }
}

/* All its vCPUs are parked. */
static void act(struct partition *partition)
{
    struct slice name = partition->config->name;
    bool by_operator = partition->stopping;
    enum partition_request request = (enum partition_request)requested(partition);

    /* Who wants it to stop does not want it to begin anew, or to stand still on its way. */
    if (by_operator && request != PARTITION_REQUEST_CRASH)
        request = PARTITION_REQUEST_STOP;
    shared_listen(&partition->shared, false);
    partition->state = PARTITION_STOPPED;
    partition->parking = false;
    partition->stopping = false;
    switch (request) {
    case PARTITION_REQUEST_PAUSE:
        partition->paused_at = cpu_rdtsc();
        partition->state = PARTITION_PAUSED;
        break;
    case PARTITION_REQUEST_RESET:
        begin(partition);
        break;
    case PARTITION_REQUEST_CRASH:
        partition->state = PARTITION_CRASHED;
        print("partition %.*s: crashed: %s\n", SLICE_ARGUMENTS(name), partition->reason);
        break;
    default:
        print("partition %.*s: stopped\n", SLICE_ARGUMENTS(name));
        if (!by_operator)
            after_stop(partition);
        break;
    }
}

/* Carries on with parking, which a request has begun. */
static void go_on_parking(struct partition *partition)
{
    if (!partition->parking) {
        partition->parking = true;
        for (unsigned i = 0; i < partition->vcpu_count; i++)
            partition_vcpu_post(&partition->vcpus[i], MAIL_PARK);
    }
    /* The last one to be parked calls for attention. */
    if (__atomic_load_n(&partition->parked, __ATOMIC_ACQUIRE) == partition->vcpu_count)
        act(partition);
}

/* The host TSC at which the partition's life goes on by itself; UINT64_MAX: it does not. */
static uint64_t appointment(const struct partition *partition)
{
    if (partition->state == PARTITION_RUNNING && partition->stopping)
        return partition->stop_deadline;
    if (partition->state == PARTITION_STOPPED && partition->restart_at != 0)
        return partition->restart_at;
    return UINT64_MAX;
}

/* Its memory has gone bad, whatever it was doing. */
static void crash_for_memory(struct partition *partition)
{
    uint64_t address = __atomic_exchange_n(&partition->bad_memory, 0, __ATOMIC_ACQ_REL);

    format_text(partition->reason, sizeof(partition->reason),
                "machine check: its memory is bad at %#lx of the machine", address);
    if (partition->state == PARTITION_RUNNING)
        __atomic_store_n(&partition->request, PARTITION_REQUEST_CRASH, __ATOMIC_RELEASE);
    else if (partition->state != PARTITION_REFUSED)
        partition->state = PARTITION_CRASHED;
}

uint64_t partition_step(struct partition *partition)
{
    const enum partition_state before = partition->state;
    uint64_t now = cpu_rdtsc();

    if (unlikely(__atomic_load_n(&partition->bad_memory, __ATOMIC_ACQUIRE) != 0))
        crash_for_memory(partition);
    if (partition->state == PARTITION_STARTING) {
        go_on_starting(partition);
        return now;
    }
    if (partition->state == PARTITION_RUNNING && now >= appointment(partition))
        partition_request(partition, PARTITION_REQUEST_STOP);
    if (partition->state == PARTITION_RUNNING && requested(partition) != PARTITION_REQUEST_NONE)
        go_on_parking(partition);
    else if (partition->state == PARTITION_STOPPED && now >= appointment(partition))
        begin(partition);
    /* Something has changed: there may be more to do, and something to say. */
    return partition->state != before ? now : appointment(partition);
}
