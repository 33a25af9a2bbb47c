// SPDX-License-Identifier: BSD-2-Clause
#include "core/partition.h"

#include "arch/x86/cpu.h"
#include "arch/x86/mtrr.h"
#include "core/partition_build.h"
#include "core/run.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/events.h"

static struct partition_machine machine;
static struct partition *partitions;
static unsigned count;

void partition_set_machine(const struct partition_machine *m)
{
    machine = *m;
}

const struct partition_machine *partition_machine(void)
{
    return &machine;
}

unsigned partition_count(void)
{
    return count;
}

struct partition *partition_at(unsigned number)
{
    return number < count ? &partitions[number] : NULL;
}

uint64_t partition_tsc(const struct partition *partition)
{
    return cpu_rdtsc() + partition->tsc_offset;
}

void partition_vcpu_apply_tsc(struct partition_vcpu *vcpu)
{
    vcpu_write(&vcpu->vcpu, VMCS_TSC_OFFSET, vcpu->partition->tsc_offset + vcpu->msrs.tsc_adjust);
}

const char *partition_state_name(const struct partition *partition)
{
    static const char *const names[] = {
        [PARTITION_REFUSED] = "refused",
        [PARTITION_STOPPED] = "stopped",
        [PARTITION_RUNNING] = "running",
        [PARTITION_CRASHED] = "crashed",
    };

    if (partition->state == PARTITION_RUNNING && partition->vcpus[0].halted)
        return "halted";
    return names[partition->state];
}

void partition_build_all(const struct config *config)
{
    const uint64_t frames_needed =
        align_up(config->partition_count * sizeof(*partitions), PAGE_SIZE) / PAGE_SIZE;
    hpa_t base;

    if (config->partition_count == 0)
        return;
    if (frame_allocate(machine.frames, FRAME_OWNER_UMBRA, frames_needed, PAGE_SHIFT, FRAME_ANYWHERE, &base) !=
        0)
        panic("no memory for %u partitions", config->partition_count);
    partitions = memset(physmap_pointer(base), 0, frames_needed * PAGE_SIZE);
    count = config->partition_count;

    for (unsigned i = 0; i < count; i++) {
        struct partition *partition = &partitions[i];
        partition->config = &config->partitions[i];
        partition->number = i;
        if (partition->config->refused) {
            partition->state = PARTITION_REFUSED;
            format_text(partition->reason, sizeof(partition->reason), "%s", partition->config->reason);
            continue;
        }
        partition->state = partition_build(partition) == 0 ? PARTITION_STOPPED : PARTITION_REFUSED;
    }
}

void partition_vcpu_reset(struct partition_vcpu *vcpu)
{
    struct partition_msrs *msrs = &vcpu->msrs;

    vcpu->halted = false;
    vcpu->deadline = VDEV_NEVER;
    vcpu->deadline_changed = true;
    vcpu->first_entry = 0;
    memset(vcpu->exits, 0, sizeof(vcpu->exits));
    vcpu->trace.count = 0;
    vcpu->sampled_exits = 0;
    vcpu->sampled_ticks = 0;
    vcpu->injected = 0;
    vcpu->mmio = 0;
    *msrs = (struct partition_msrs){
        .misc_enable = policy_msr_reset_value(policy_msr_find(MSR_IA32_MISC_ENABLE)),
        .mtrr_default = MTRR_DEF_TYPE_ENABLE | MTRR_DEF_TYPE_FIXED_ENABLE | MEMORY_TYPE_WB,
    };
    /* As firmware leaves them: RAM write-back, the video hole and the devices below 4 GiB uncached. */
    for (unsigned i = 0; i < MTRR_FIXED_COUNT; i++)
        msrs->mtrr_fixed[i] =
            mtrr_fixed_msr(i) == MSR_IA32_MTRR_FIX16K_A0000 ? 0 : 0x0101010101010101ULL * MEMORY_TYPE_WB;
    msrs->mtrr_variable[0] = GIB(3) | MEMORY_TYPE_UC;
    msrs->mtrr_variable[1] =
        (~(GIB(1) - 1) & (BIT(vcpu->partition->physical_bits) - 1)) | MTRR_PHYSMASK_VALID;
    vcpu->cpuid_state = (struct cpuid_state){.apic_id = vcpu->number};
}

int partition_start(struct partition *partition)
{
    int error;

    if (partition->state == PARTITION_REFUSED)
        return -EPERM;
    if (partition->state == PARTITION_RUNNING)
        return -EBUSY;
    error = partition_load(partition);
    if (error != 0)
        return error;
    partition->reason[0] = '\0';
    partition->request = PARTITION_REQUEST_NONE;
    partition->starts++;
    partition->state = PARTITION_RUNNING;
    run_add(&partition->vcpus[0]);
    return 0;
}

void partition_stop(struct partition *partition)
{
    if (partition->state != PARTITION_RUNNING)
        return;
    run_remove(&partition->vcpus[0]);
    vcpu_unload(&partition->vcpus[0].vcpu);
    partition->state = PARTITION_STOPPED;
}

void partition_request(struct partition *partition, enum partition_request request)
{
    if (partition->request != PARTITION_REQUEST_NONE)
        return;
    partition->request = request;
    run_interrupt_slice();
}

void partition_crash(struct partition_vcpu *vcpu, const char *format, ...)
{
    struct partition *partition = vcpu->partition;
    va_list arguments;

    if (partition->request == PARTITION_REQUEST_CRASH)
        return;
    va_start(arguments, format);
    format_text_va(partition->reason, sizeof(partition->reason), format, arguments);
    va_end(arguments);
    partition->request = PARTITION_REQUEST_CRASH;
    run_interrupt_slice();
}

static void restart(struct partition *partition)
{
    if (partition_start(partition) != 0)
        print("partition %.*s: does not start: %s\n", SLICE_ARGUMENTS(partition->config->name),
              partition->reason);
}

/* A guest that stopped by itself: what its configuration wants then. */
static void after_stop(struct partition *partition)
{
    switch (partition->config->on_stop) {
    case CONFIG_ON_STOP_STAY:
        break;
    case CONFIG_ON_STOP_RESTART:
        restart(partition);
        break;
    case CONFIG_ON_STOP_POWEROFF:
        for (unsigned i = 0; i < count; i++)
            if (partitions[i].state == PARTITION_RUNNING)
                return;
        run_power_off();
        break;
    }
}

bool partition_serve_request(struct partition *partition)
{
    enum partition_request request = partition->request;

    if (likely(request == PARTITION_REQUEST_NONE))
        return true;
    partition->request = PARTITION_REQUEST_NONE;
    partition_stop(partition);
    switch (request) {
    case PARTITION_REQUEST_RESET:
        restart(partition);
        break;
    case PARTITION_REQUEST_CRASH:
        partition->state = PARTITION_CRASHED;
        print("partition %.*s: crashed: %s\n", SLICE_ARGUMENTS(partition->config->name), partition->reason);
        break;
    default:
        print("partition %.*s: stopped\n", SLICE_ARGUMENTS(partition->config->name));
        after_stop(partition);
        break;
    }
    return false;
}
