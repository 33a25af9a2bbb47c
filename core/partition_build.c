// SPDX-License-Identifier: BSD-2-Clause
#include "core/partition_build.h"

#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "arch/x86/registers.h"
#include "core/config/layout.h"
#include "core/console.h"
#include "core/nested_guest.h"
#include "core/paging.h"
#include "core/policy_keys.h"
#include "core/run.h"
#include "drivers/lapic.h"
#include "lib/errors.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "nested/shadow.h"
#include "vmx/events.h"

/* The end of legacy video memory: a hole in every PC's RAM. */
#define VIDEO_END             0xc0000

#define CPUID_80000001_EDX_1G BIT(26)

int partition_refuse(struct partition *partition, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    format_text_va(partition->reason, sizeof(partition->reason), format, arguments);
    va_end(arguments);
    return error;
}

/* Zeroed frames of what Umbra keeps for the partition, side by side; NULL if there are none. */
static void *allocate(const struct partition *partition, uint64_t bytes)
{
    hpa_t base;
    uint64_t frames = align_up(bytes, PAGE_SIZE) / PAGE_SIZE;

    if (frame_allocate(partition_machine()->frames, partition->kept_owner, frames, PAGE_SHIFT, FRAME_ANYWHERE,
                       &base) != 0)
        return NULL;
    return memset(physmap_pointer(base), 0, frames * PAGE_SIZE);
}

/* ---- Memory
 * ---------------------------------------------------------------------------------------------------- */

/* Maps [gpa, gpa + size) to `hpa`, without what lies in the video hole. */
static int map_around_hole(struct p2m *p2m, uint64_t gpa, uint64_t hpa, uint64_t size)
{
    struct p2m_region region = {
        .rights = PAGING_READ | PAGING_WRITE | PAGING_EXECUTE,
        .memory_type = MEMORY_TYPE_WB,
    };
    uint64_t end = gpa + size;
    int error = 0;

    if (gpa < LAYOUT_VIDEO_START) {
        region.gpa = GPA(gpa);
        region.hpa = HPA(hpa);
        region.size = min_u64(end, LAYOUT_VIDEO_START) - gpa;
        error = p2m_add(p2m, &region);
    }
    if (error == 0 && end > VIDEO_END) {
        uint64_t start = max_u64(gpa, VIDEO_END);
        region.gpa = GPA(start);
        region.hpa = HPA(hpa + (start - gpa));
        region.size = end - start;
        error = p2m_add(p2m, &region);
    }
    return error;
}

/* Lays the pieces out from address 0, and from 4 GiB on what does not fit below the devices. */
static int map_pieces(struct partition *partition, const struct frame_piece *pieces, size_t count)
{
    const uint64_t low = layout_low_memory(partition->memory);
    uint64_t offset = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t base = pieces[i].base.value;
        uint64_t left = pieces[i].size;

        while (left > 0) {
            uint64_t gpa = offset < low ? offset : GIB(4) + (offset - low);
            uint64_t size = offset < low ? min_u64(left, low - offset) : left;
            int error = map_around_hole(&partition->p2m, gpa, base, size);
            if (error != 0)
                return error;
            base += size;
            left -= size;
            offset += size;
        }
    }
    return 0;
}

/* Memory wherever there is some. */
static int build_ordinary_memory(struct partition *partition)
{
    struct frame_pool *frames = partition_machine()->frames;
    struct frame_piece pieces[PARTITION_PIECES_MAX];
    size_t count;
    int error = frame_allocate_partition(frames, partition->frame_owner, partition->memory / PAGE_SIZE,
                                         pieces, PARTITION_PIECES_MAX, &count);

    if (error != 0)
        return partition_refuse(partition, error,
                                "memory: needs %lu KiB, %lu KiB are free, %lu KiB of them in one piece",
                                partition->memory / 1024, frame_total(frames, FRAME_OWNER_FREE) * 4,
                                frame_largest_free(frames) * 4);
    return map_pieces(partition, pieces, count);
}

/* These very frames, at their own addresses; and the first MiB, without which no PC boots, from elsewhere. */
static int build_fixed_memory(struct partition *partition)
{
    struct frame_pool *frames = partition_machine()->frames;
    const hpa_t base = HPA(partition->config->memory_base);
    struct frame_obstacle obstacle;
    char ranges[96];
    hpa_t low;
    int error = frame_allocate_at(frames, partition->frame_owner, base, partition->memory, &obstacle);

    if (error == -EBUSY)
        return partition_refuse(partition, error, "memory: %#lx is of %s; free is %s", obstacle.frame.value,
                                frame_owner_text(obstacle.owner),
                                frame_free_text(frames, ranges, sizeof(ranges)));
    if (error == 0)
        error = frame_allocate(frames, partition->frame_owner, CONFIG_MEMORY_LOW / PAGE_SIZE, PAGE_SHIFT,
                               FRAME_ANYWHERE, &low);
    if (error == 0)
        error = map_around_hole(&partition->p2m, 0, low.value, CONFIG_MEMORY_LOW);
    return error != 0 ? error : map_around_hole(&partition->p2m, base.value, base.value, partition->memory);
}

static int build_memory(struct partition *partition)
{
    int error;

    p2m_init(&partition->p2m, partition->regions, ARRAY_SIZE(partition->regions), partition_machine()->frames,
             partition->frame_owner);
    partition->memory_chain = (struct stage_chain){.stages = {&partition->p2m.stage}, .count = 1};
    if (partition->config->memory_fixed)
        error = build_fixed_memory(partition);
    else
        error = build_ordinary_memory(partition);
    if (error != 0 && partition->reason[0] == '\0')
        partition_refuse(partition, error, "memory: cannot be had or mapped (error %d)", -error);
    return error;
}

/* ---- Policies
 * -------------------------------------------------------------------------------------------------- */

static int build_bitmap(struct partition *partition, hpa_t *bitmap)
{
    void *frame = allocate(partition, PAGE_SIZE);

    if (frame == NULL)
        return partition_refuse(partition, -ENOMEM, "no memory for the MSR bitmaps");
    *bitmap = physmap_address(frame);
    return 0;
}

/* What the processor does of the local APICs by itself, and the MSR bitmaps, which depend on it. */
static int build_apicv(struct partition *partition)
{
    const struct partition_machine *machine = partition_machine();
    struct apicv *apicv = &partition->apicv;

    apicv_choose(apicv, &machine->capabilities, &partition->controls[paging_first_regime(partition)]);
    /*
     * With shadow tables a delivery by the processor often exits, at the IDT or the stack, and then an
     * emulator loses it (docs/notes/bochs.md). Umbra's own injections it keeps.
     */
    if (partition->regimes[VCPU_REGIME_SHADOW])
        apicv->delivery = apicv->posted = false;
    /* What is pending has to be known while the guest hypervisor's guest runs, by another VMCS. */
    if (partition->config->nested)
        apicv->delivery = apicv->posted = false;
    for (unsigned regime = 0; regime < VCPU_REGIMES; regime++) {
        int error;

        if (!partition->regimes[regime])
            continue;
        error = build_bitmap(partition, &apicv->msr_bitmap[regime]);
        if (error == 0)
            error = build_bitmap(partition, &apicv->msr_bitmap_x2apic[regime]);
        if (error != 0)
            return error;
        policy_msr_bitmap(physmap_pointer(apicv->msr_bitmap[regime]), partition->msr_features,
                          (enum vcpu_regime)regime);
        policy_msr_bitmap_x2apic(physmap_pointer(apicv->msr_bitmap_x2apic[regime]), partition->msr_features,
                                 (enum vcpu_regime)regime, apicv->delivery);
    }
    if (!apicv->accesses)
        return 0;
    /* The partition's own: its guest may get at it if it moves its APIC away. */
    if (frame_allocate(machine->frames, partition->frame_owner, 1, PAGE_SHIFT, FRAME_ANYWHERE,
                       &apicv->access_page) != 0)
        return partition_refuse(partition, -ENOMEM, "no memory for the APIC-access page");
    memset(physmap_pointer(apicv->access_page), 0, PAGE_SIZE);
    return 0;
}

/* What the guest's processor offers. */
static void build_cpuid(struct partition *partition)
{
    const struct partition_machine *machine = partition_machine();
    const struct vmx_capabilities *capabilities = &machine->capabilities;

    /* What the controls give decides what CPUID offers; what CPUID offers decides what CR4 may hold. */
    const struct cpuid_settings settings = {
        .vcpus = partition->vcpu_count,
        .tsc_hz = machine->tsc_hz,
        .xcr0 = vcpu_state_components(),
        .rdtscp = vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_RDTSCP),
        .invpcid = vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_INVPCID),
        .xsaves = vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_XSAVES),
        .compaction = vcpu_state_compacts(),
        .vmx = partition->config->nested,
        .hypercall_version = HYPERCALL_VERSION,
        .hypercalls = HYPERCALL_ALL,
    };
    cpuid_policy_build(&partition->cpuid, cpu_cpuid, &settings);
    partition->physical_bits = (uint8_t)cpuid_image_find(&partition->cpuid, 0x80000008, 0)->registers.eax;
    partition->gigabyte_pages =
        (cpuid_image_find(&partition->cpuid, 0x80000001, 0)->registers.edx & CPUID_80000001_EDX_1G) != 0;
    partition->msr_features = policy_msr_features(&partition->cpuid);
}

/* The registers' policies in one regime, and the controls that they and the scheduler ask for. */
static int build_regime(struct partition *partition, enum vcpu_regime regime)
{
    const struct vmx_capabilities *capabilities = &partition_machine()->capabilities;
    const bool real_mode_only = regime == VCPU_REGIME_EPT && partition->paging != CONFIG_PAGING_EPT;
    struct register_policy_settings settings = {
        .instance = regime == VCPU_REGIME_SHADOW ? CR_INSTANCE_SHADOW
                    : partition->unrestricted    ? CR_INSTANCE_UNRESTRICTED
                                                 : CR_INSTANCE_RESTRICTED,
        .cr0_fixed0 = capabilities->cr0_fixed0,
        .cr0_fixed1 = capabilities->cr0_fixed1,
        .cr4_fixed0 = capabilities->cr4_fixed0,
        .cr4_fixed1 = capabilities->cr4_fixed1,
        .cr4_offered = cpuid_image_cr4(&partition->cpuid),
        .efer_offered = cpuid_image_efer(&partition->cpuid),
    };
    struct vmx_demands demands = {{0}};
    const char *culprit;

    core_policy_overrides(partition->config->policies, &settings.overrides);
    if (real_mode_only)
        settings.overrides.cr0 |= X86_CR0_PE;
    if (policy_cr_derive(&partition->policies[regime], &settings, &culprit) != 0)
        return partition_refuse(partition, -EOPNOTSUPP,
                                "policy: this processor cannot do what the row %s wants", culprit);
    policy_register_demand(&partition->policies[regime], &demands);
    /* Whoever spins on a shared processor may be waiting for one that does not run. */
    if (!partition->config->cpus.dedicated &&
        vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_PAUSE_LOOP_EXITING))
        demands.words[VMX_WORD_SECONDARY] |= VMX_SECONDARY_PAUSE_LOOP_EXITING;
    if (vmx_controls_compute(&partition->controls[regime], capabilities, &demands, &culprit) != 0)
        return partition_refuse(partition, -EOPNOTSUPP, "this processor lacks the control \"%s\"", culprit);
    return 0;
}

static int build_policies(struct partition *partition)
{
    const char *why;
    int error = paging_choose(partition, &why);

    if (error == 0 && partition->config->nested) {
        why = nested_guest_obstacle(partition);
        error = why == NULL ? 0 : -EOPNOTSUPP;
    }
    if (error != 0)
        return partition_refuse(partition, error, "%s", why);
    build_cpuid(partition);
    for (unsigned regime = 0; error == 0 && regime < VCPU_REGIMES; regime++)
        if (partition->regimes[regime])
            error = build_regime(partition, (enum vcpu_regime)regime);
    return error == 0 ? build_apicv(partition) : error;
}

/* ---- Board
 * ----------------------------------------------------------------------------------------------------- */

static uint64_t board_now(void *context)
{
    return partition_tsc(context);
}

static void board_power(void *context, enum vdev_power what)
{
    partition_request(context, what == VDEV_POWER_OFF ? PARTITION_REQUEST_STOP : PARTITION_REQUEST_RESET);
}

static void board_console_write(void *context, char byte)
{
    struct partition *partition = context;

    partition_machine()->console_write(partition->number, byte);
}

static void board_wake(void *context, unsigned vcpu)
{
    struct partition *partition = context;
    struct partition_vcpu *target = &partition->vcpus[vcpu];

    /* The one that is running here looks again before its next entry. */
    if (run_is_current(target))
        vcpu_events_changed(&target->vcpu);
    else
        partition_vcpu_post(target, MAIL_EVENTS);
}

/*
 * Only interrupts came. The processor that runs the vCPU takes them without an exit; while it does not run it
 * is mailed. A vCPU that is about to stop running looks once more after it has said so (core/run.c).
 */
static void board_posted(void *context, unsigned vcpu)
{
    struct partition *partition = context;
    struct partition_vcpu *target = &partition->vcpus[vcpu];

    if (partition->apicv.posted && !run_is_current(target) && run_is_running(target))
        lapic_send_vector(percpu_apic_ids[target->home], VECTOR_POSTED);
    else
        board_wake(context, vcpu);
}

/* Called by the target's home, when it receives what was sent (platform_receive). */
static void board_ipi(void *context, unsigned vcpu, enum vdev_ipi kind, uint8_t vector)
{
    struct partition *partition = context;
    struct partition_vcpu *target = &partition->vcpus[vcpu];

    switch (kind) {
    case VDEV_IPI_NMI:
        vcpu_queue_nmi(&target->vcpu);
        break;
    case VDEV_IPI_INIT:
        partition_vcpu_take_init(target);
        break;
    case VDEV_IPI_SIPI:
        partition_vcpu_take_startup(target, vector);
        break;
    }
}

static const struct vdev_ops board_ops = {
    .now = board_now,
    .power = board_power,
    .console_write = board_console_write,
    .wake = board_wake,
    .posted = board_posted,
    .ipi = board_ipi,
};

/* What a device's message-signalled interrupt is to the local APICs. */
static void deliver_message(void *context, const struct lapic_message *message)
{
    struct partition *partition = context;

    (void)lapic_deliver(partition->platform.lapics, partition->vcpu_count, message);
}

static const struct msix_ops msix_ops = {.deliver = deliver_message};

/* Regions and doorbells that it shares with others. */
static int build_shared(struct partition *partition)
{
    const struct shared_partition settings = {
        .frames = partition_machine()->frames,
        .p2m = &partition->p2m,
        .pci = &partition->platform.pci,
        .msix_ops = &msix_ops,
        .msix_context = partition,
    };
    const char *why = "";
    int error = shared_build(&partition->shared, partition->config, &settings, &why);

    return error == 0 ? 0 : partition_refuse(partition, error, "shared memory: %s", why);
}

static int build_board(struct partition *partition)
{
    const struct partition_machine *machine = partition_machine();
    const struct vdev_host host = {.ops = &board_ops, .context = partition, .tsc_hz = machine->tsc_hz};
    const uint64_t low = layout_low_memory(partition->memory);
    const struct platform_settings settings = {
        .vcpus = partition->vcpu_count,
        .memory_low = low,
        .memory_high = partition->memory - low,
        .wall_clock = machine->wall_clock(),
        .console_uart = partition->config->console_uart,
        .lapic_timer_hz = cpuid_crystal_hz(machine->tsc_hz),
        .physical_address_bits = partition->physical_bits,
    };
    void *pages[PLATFORM_VCPUS_MAX];

    for (unsigned i = 0; i < partition->vcpu_count; i++) {
        pages[i] = allocate(partition, PAGE_SIZE);
        if (pages[i] == NULL)
            return partition_refuse(partition, -ENOMEM, "no memory for a local APIC");
    }
    platform_init(&partition->platform, &host, &settings, pages);
    return build_shared(partition);
}

/* ---- vCPUs
 * ----------------------------------------------------------------------------------------------------- */

static int interrupt_pending(void *context)
{
    struct partition_vcpu *vcpu = context;

    return platform_interrupt_pending(&vcpu->partition->platform, vcpu->number);
}

static int interrupt_take(void *context)
{
    struct partition_vcpu *vcpu = context;

    vcpu->injected++;
    return platform_interrupt_take(&vcpu->partition->platform, vcpu->number);
}

static uint8_t interrupt_threshold(void *context)
{
    struct partition_vcpu *vcpu = context;

    return lapic_tpr_threshold(&vcpu->partition->platform.lapics[vcpu->number]);
}

static const struct vcpu_interrupt_ops interrupt_ops = {
    .pending = interrupt_pending,
    .take = interrupt_take,
    .tpr_threshold = interrupt_threshold,
};

/* Frames for a virtual TLB: below 4 GiB, where the roots of PAE tables have to be. */
static int allocate_quota(struct partition *partition, uint32_t pages, hpa_t *quota,
                          struct vtlb_table **tables)
{
    *tables = allocate(partition, pages * sizeof(**tables));
    if (*tables == NULL || frame_allocate(partition_machine()->frames, partition->kept_owner, pages,
                                          PAGE_SHIFT, HPA(GIB(4)), quota) != 0)
        return partition_refuse(partition, -ENOMEM, "no memory for a virtual TLB of %u KiB", pages * 4);
    return 0;
}

static int build_vtlb(struct partition_vcpu *vcpu)
{
    struct partition *partition = vcpu->partition;
    struct vtlb_table *tables;
    hpa_t quota;
    int error;

    vcpu->vtlb_pages = paging_quota(partition);
    error = allocate_quota(partition, vcpu->vtlb_pages, &quota, &tables);
    if (error == 0 && paging_init(vcpu, quota, tables) != 0)
        error = partition_refuse(partition, -ENOMEM, "the virtual TLB's quota is too small");
    return error;
}

/* Frames for VMCS shadowing, if the vCPU is to have it; false: there is no memory. */
static bool build_shadow(struct partition *partition, struct vcpu_shadow *shadow)
{
    hpa_t *const frames[] = {&shadow->vmcs, &shadow->vmread_bitmap, &shadow->vmwrite_bitmap};

    if (partition->config->no_vmcs_shadowing || !nested_shadow_possible(&partition_machine()->capabilities))
        return true;
    for (unsigned i = 0; i < ARRAY_SIZE(frames); i++) {
        void *frame = allocate(partition, PAGE_SIZE);
        if (frame == NULL)
            return false;
        *frames[i] = physmap_address(frame);
    }
    return true;
}

static int build_nested(struct partition_vcpu *vcpu)
{
    struct partition *partition = vcpu->partition;
    struct nested_guest *guest = allocate(partition, sizeof(*guest));
    void *vmcs = allocate(partition, PAGE_SIZE);
    struct nested_guest_memory memory = {
        /* Behind all that are vCPUs' own. */
        .vpid = (uint16_t)(vcpu->vcpu.vpid + CONFIG_PARTITIONS_MAX * PLATFORM_VCPUS_MAX),
        .pages = paging_quota_shadow(partition),
    };
    int error;

    if (guest == NULL || vmcs == NULL || build_bitmap(partition, &memory.msr_bitmap) != 0 ||
        !build_shadow(partition, &memory.shadow))
        return partition_refuse(partition, -ENOMEM, "no memory for a virtual VT-x");
    memory.vmcs = physmap_address(vmcs);
    error = allocate_quota(partition, memory.pages, &memory.quota, &memory.tables);
    if (error != 0)
        return error;
    error = nested_guest_build(vcpu, guest, &memory);
    return error == 0 ? 0 : partition_refuse(partition, error, "VMX refuses a virtual VT-x");
}

static int build_vcpu(struct partition *partition, unsigned number)
{
    const struct partition_machine *machine = partition_machine();
    const enum vcpu_regime first = paging_first_regime(partition);
    struct partition_vcpu *vcpu = &partition->vcpus[number];
    void *vmcs = allocate(partition, PAGE_SIZE);
    void *xsave = allocate(partition, VCPU_XSAVE_AREA_SIZE);
    int error;

    vcpu->partition = partition;
    vcpu->number = number;
    vcpu->cpuid_state.apic_id = number;
    if (vmcs == NULL || xsave == NULL)
        return partition_refuse(partition, -ENOMEM, "no memory for a vCPU");
    error = build_vtlb(vcpu);
    if (error != 0)
        return error;

    struct vcpu_settings settings = {
        .capabilities = &machine->capabilities,
        .interrupt_ops = &interrupt_ops,
        .interrupt_context = vcpu,
        .vmcs = physmap_address(vmcs),
        .virtual_apic = physmap_address(partition->platform.lapics[number].page),
        .regime = first,
        .root = paging_first_root(vcpu),
        .vpid = (uint16_t)(1 + partition->number * PLATFORM_VCPUS_MAX + number),
        .xsave_area = xsave,
        .owner = partition->identity,
    };
    for (unsigned regime = 0; regime < VCPU_REGIMES; regime++) {
        if (!partition->regimes[regime])
            continue;
        settings.controls[regime] = &partition->controls[regime];
        settings.policy[regime] = &partition->policies[regime];
        settings.msr_bitmap[regime] = partition->apicv.msr_bitmap[regime];
    }
    if (vcpu_init(&vcpu->vcpu, &settings) != 0)
        return partition_refuse(partition, -EIO, "VMX refuses the VMCS");
    apicv_init(&partition->apicv, &vcpu->vcpu,
               physmap_address(&partition->platform.lapics[number].mailbox.posted));
    vcpu_unload(&vcpu->vcpu); /* its home will load it */
    vcpu->mail = MAIL_PARKED;
    return partition->config->nested ? build_nested(vcpu) : 0;
}

void partition_unbuild(struct partition *partition)
{
    partition->vcpus = NULL;
    shared_release(&partition->shared, partition_machine()->frames);
    frame_release_all(partition_machine()->frames, partition->frame_owner);
    frame_release_all(partition_machine()->frames, partition->kept_owner);
}

int partition_build(struct partition *partition)
{
    const struct frame_pool *frames = partition_machine()->frames;
    static uint64_t builds;
    bool cleaning = frame_total(frames, FRAME_OWNER_DIRTY) > 0;
    int error;

    partition->identity = ++builds;
    partition->vcpu_count = partition->config->vcpus;
    partition->memory = partition->config->memory;
    partition->frame_owner = (uint16_t)(FRAME_OWNER_PARTITION + partition->number);
    partition->kept_owner = (uint16_t)(partition->frame_owner + CONFIG_PARTITIONS_MAX);
    error = build_memory(partition);
    if (error == 0)
        error = build_policies(partition);
    if (error == 0)
        error = build_board(partition);
    if (error == 0) {
        partition->console_ring = allocate(partition, CONSOLE_RING_SIZE);
        partition->vcpus = allocate(partition, partition->vcpu_count * sizeof(*partition->vcpus));
        if (partition->vcpus == NULL || partition->console_ring == NULL)
            error = partition_refuse(partition, -ENOMEM, "no memory for its vCPUs");
    }
    for (unsigned i = 0; error == 0 && i < partition->vcpu_count; i++)
        error = build_vcpu(partition, i);
    if (error != 0)
        partition_unbuild(partition); /* half built: nobody must look at it */
    return error == -ENOMEM && cleaning ? -EAGAIN : error;
}
