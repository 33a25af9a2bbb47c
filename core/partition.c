// SPDX-License-Identifier: BSD-2-Clause
/* The table of partitions, and what an exit may ask of its own. Their lives are in partition_life.c. */
#include "core/partition.h"

#include "arch/x86/cpu.h"
#include "arch/x86/mtrr.h"
#include "core/nested_guest.h"
#include "core/paging.h"
#include "core/partition_build.h"
#include "core/run.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/events.h"

static struct partition_machine machine;
static struct config *config;
static struct partition *partitions; /* CONFIG_PARTITIONS_MAX of them */

void partition_set_machine(const struct partition_machine *m)
{
    machine = *m;
}

const struct partition_machine *partition_machine(void)
{
    return &machine;
}

/* ---- The table ----------------------------------------------------------------------------------------- */

unsigned partition_slots(void)
{
    return partitions == NULL ? 0 : CONFIG_PARTITIONS_MAX;
}

struct partition *partition_at(unsigned number)
{
    return number < partition_slots() && partitions[number].config != NULL ? &partitions[number] : NULL;
}

uint64_t partition_dedicated(void)
{
    return config_dedicated(config);
}

int partition_create(unsigned number)
{
    struct partition *partition = &partitions[number];
    int error = -EPERM;

    memset(partition, 0, sizeof(*partition));
    partition->config = &config->partitions[number];
    partition->number = number;
    if (partition->config->refused)
        format_text(partition->reason, sizeof(partition->reason), "%s", partition->config->reason);
    else
        error = partition_build(partition);
    partition->state = error == 0 ? PARTITION_STOPPED : PARTITION_REFUSED;
    return error;
}

int partition_destroy(struct partition *partition)
{
    if (partition->state != PARTITION_STOPPED && partition->state != PARTITION_CRASHED &&
        partition->state != PARTITION_REFUSED)
        return -EBUSY;
    partition_unbuild(partition);
    partition->config = NULL;
    return 0;
}

void partition_build_all(struct config *c)
{
    const uint64_t frames = align_up(CONFIG_PARTITIONS_MAX * sizeof(*partitions), PAGE_SIZE) / PAGE_SIZE;
    hpa_t base;

    if (frame_allocate(machine.frames, FRAME_OWNER_UMBRA, frames, PAGE_SHIFT, FRAME_ANYWHERE, &base) != 0)
        panic("no memory for the table of partitions");
    partitions = memset(physmap_pointer(base), 0, frames * PAGE_SIZE);
    config = c;
    /* Those first that want these very frames. A partition says itself why it is refused. */
    for (unsigned i = config_next(c, 0); i < CONFIG_PARTITIONS_MAX; i = config_next(c, i + 1))
        if (c->partitions[i].memory_fixed)
            (void)partition_create(i);
    for (unsigned i = config_next(c, 0); i < CONFIG_PARTITIONS_MAX; i = config_next(c, i + 1))
        if (!c->partitions[i].memory_fixed)
            (void)partition_create(i);
}

const char *partition_state_name(const struct partition *partition)
{
    static const char *const names[] = {
        [PARTITION_REFUSED] = "refused", [PARTITION_STOPPED] = "stopped", [PARTITION_STARTING] = "starting",
        [PARTITION_RUNNING] = "running", [PARTITION_PAUSED] = "paused",   [PARTITION_CRASHED] = "crashed",
    };

    if (partition->state != PARTITION_RUNNING)
        return names[partition->state];
    if (partition->stopping)
        return "stopping";
    return partition_is_waiting(partition) ? "halted" : names[PARTITION_RUNNING];
}

/* ---- Time ---------------------------------------------------------------------------------------------- */

uint64_t partition_tsc(const struct partition *partition)
{
    return cpu_rdtsc() + partition->tsc_offset;
}

void partition_vcpu_apply_tsc(struct partition_vcpu *vcpu)
{
    vcpu_write(&vcpu->vcpu, VMCS_TSC_OFFSET, vcpu->partition->tsc_offset + vcpu->msrs.tsc_adjust);
}

/* ---- From an exit -------------------------------------------------------------------------------------- */

void partition_vcpu_post(struct partition_vcpu *vcpu, uint32_t bits)
{
    if (__atomic_fetch_or(&vcpu->mail, bits, __ATOMIC_ACQ_REL) == 0)
        run_deliver(vcpu);
}

/*
 * Claims the partition's next transition for `request`. False: another one came first; only a pause gives
 * way, as what the guest does until its vCPUs are parked must not be lost.
 */
static bool claim(struct partition *partition, uint32_t request)
{
    uint32_t present = PARTITION_REQUEST_NONE;

    while (!__atomic_compare_exchange_n(&partition->request, &present, request, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
        if (present != PARTITION_REQUEST_NONE &&
            (present != PARTITION_REQUEST_PAUSE || request == PARTITION_REQUEST_PAUSE))
            return false;
    return true;
}

/* Its vCPUs are parked by the housekeeper, but this processor's goes no further now. */
static void leave(void)
{
    run_interrupt_slice();
    run_attend(0);
}

void partition_request(struct partition *partition, enum partition_request request)
{
    if (claim(partition, request))
        leave();
}

void partition_crash(struct partition_vcpu *vcpu, const char *format, ...)
{
    struct partition *partition = vcpu->partition;
    va_list arguments;

    if (!claim(partition, PARTITION_REQUEST_CRASH))
        return;
    va_start(arguments, format);
    format_text_va(partition->reason, sizeof(partition->reason), format, arguments);
    va_end(arguments);
    leave();
}

bool partition_take_machine_check(hpa_t address)
{
    bool owned = false;

    for (unsigned i = 0; i < partition_slots(); i++) {
        struct partition *partition = partition_at(i);

        if (partition == NULL || partition->vcpus == NULL)
            continue;
        for (size_t n = 0; n < partition->p2m.count; n++) {
            const struct p2m_region *region = &partition->regions[n];

            if (address.value - region->hpa.value >= region->size)
                continue;
            __atomic_store_n(&partition->bad_memory, address.value, __ATOMIC_RELEASE);
            owned = true;
        }
    }
    if (owned)
        leave();
    return owned;
}

/* ---- A vCPU's start ------------------------------------------------------------------------------------ */

void partition_vcpu_reset(struct partition_vcpu *vcpu)
{
    struct partition_msrs *msrs = &vcpu->msrs;

    vcpu->wait = VCPU_WAIT_NOT;
    vcpu->schedule = (struct scheduler_entity){.run_time = 0};
    vcpu->deadline = VDEV_NEVER;
    vcpu->deadline_changed = true;
    vcpu->first_entry = 0;
    memset(vcpu->exits, 0, sizeof(vcpu->exits));
    hypercall_reset(&vcpu->hypercall);
    trace_reset(&vcpu->trace);
    vcpu->sampled_exits = 0;
    vcpu->sampled_ticks = 0;
    vcpu->injected = 0;
    vcpu->mmio = 0;
    vcpu->switches = 0;
    vcpu->snapshot.valid = false;
    if (vcpu->nested != NULL)
        nested_guest_reset(vcpu);
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

/* EDX of a processor after INIT: its signature, as CPUID 1 tells it in EAX. */
static uint64_t signature(const struct partition *partition)
{
    return cpuid_image_find(&partition->cpuid, 1, 0)->registers.eax;
}

void partition_vcpu_take_init(struct partition_vcpu *vcpu)
{
    const struct vcpu_start start = {
        .mode = VCPU_START_REAL,
        .rip = 0xfff0,
        .rdx = signature(vcpu->partition),
        .code_selector = 0xf000,
    };

    /* The first one would go to the firmware's entry, and so would begin anew. */
    if (vcpu->number == 0) {
        partition_request(vcpu->partition, PARTITION_REQUEST_RESET);
        return;
    }
    if (vcpu->nested != NULL && nested_guest_takes_init(vcpu))
        return;
    vcpu_load(&vcpu->vcpu);
    lapic_reset_by_init(partition_vcpu_lapic(vcpu));
    hypercall_reset(&vcpu->hypercall);
    paging_start(vcpu, &start);
    vcpu->wait = VCPU_WAIT_SIPI;
}

void partition_vcpu_take_startup(struct partition_vcpu *vcpu, uint8_t vector)
{
    const struct vcpu_start start = {
        .mode = VCPU_START_REAL,
        .rdx = signature(vcpu->partition),
        .code_selector = (uint16_t)(vector << 8),
    };

    if (vcpu->nested != NULL && nested_guest_takes_startup(vcpu, vector))
        return;
    if (vcpu->wait != VCPU_WAIT_SIPI)
        return;
    vcpu_load(&vcpu->vcpu);
    paging_start(vcpu, &start);
    vcpu->wait = VCPU_WAIT_NOT;
}
