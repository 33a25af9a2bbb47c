// SPDX-License-Identifier: BSD-2-Clause
#include "core/partition_build.h"

#include "arch/x86/cpu.h"
#include "arch/x86/paging_ept.h"
#include "arch/x86/registers.h"
#include "core/config/layout.h"
#include "core/loader/loader.h"
#include "core/policy_keys.h"
#include "lib/errors.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/events.h"

/* Legacy video memory: a hole in every PC's RAM. */
#define VIDEO_START           0xa0000
#define VIDEO_END             0xc0000

#define CPUID_80000001_EDX_1G BIT(26)

static int refuse(struct partition *partition, int error, const char *format, ...) __printf_format(3, 4);

static int refuse(struct partition *partition, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    format_text_va(partition->reason, sizeof(partition->reason), format, arguments);
    va_end(arguments);
    return error;
}

/* Zeroed frames of Umbra's own, side by side; NULL if there are none. */
static void *allocate(uint64_t bytes)
{
    hpa_t base;
    uint64_t frames = align_up(bytes, PAGE_SIZE) / PAGE_SIZE;

    if (frame_allocate(partition_machine()->frames, FRAME_OWNER_UMBRA, frames, PAGE_SHIFT, FRAME_ANYWHERE,
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

    if (gpa < VIDEO_START) {
        region.gpa = GPA(gpa);
        region.hpa = HPA(hpa);
        region.size = min_u64(end, VIDEO_START) - gpa;
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

static int build_memory(struct partition *partition)
{
    struct frame_pool *frames = partition_machine()->frames;
    struct frame_piece pieces[PARTITION_PIECES_MAX];
    size_t count;
    int error = frame_allocate_partition(frames, partition->frame_owner, partition->memory / PAGE_SIZE,
                                         pieces, PARTITION_PIECES_MAX, &count);

    if (error != 0)
        return refuse(partition, error,
                      "memory: needs %lu KiB, %lu KiB are free, %lu KiB of them in one piece",
                      partition->memory / 1024, frame_total(frames, FRAME_OWNER_FREE) * 4,
                      frame_largest_free(frames) * 4);

    p2m_init(&partition->p2m, partition->regions, ARRAY_SIZE(partition->regions), frames,
             partition->frame_owner);
    error = map_pieces(partition, pieces, count);
    if (error != 0)
        return refuse(partition, error, "memory: cannot be mapped (error %d)", -error);
    partition->memory_chain = (struct stage_chain){.stages = {&partition->p2m.stage}, .count = 1};
    return 0;
}

/* ---- Policies
 * -------------------------------------------------------------------------------------------------- */

static int build_policies(struct partition *partition)
{
    const struct partition_machine *machine = partition_machine();
    const struct vmx_capabilities *capabilities = &machine->capabilities;
    struct vmx_demands demands = {{0}};
    const char *culprit;
    bool tpr_intercept = partition->config->policies[CORE_POLICY_TPR] != 0;

    /* What the controls give decides what CPUID offers; what CPUID offers decides what CR4 may hold. */
    const struct cpuid_settings cpuid_settings = {
        .vcpus = partition->vcpu_count,
        .tsc_hz = machine->tsc_hz,
        .xcr0 = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX | X86_XCR0_OPMASK | X86_XCR0_ZMM_HI256 |
                X86_XCR0_HI16_ZMM,
        .rdtscp = vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_RDTSCP),
        .invpcid = vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_INVPCID),
        .xsaves = vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_XSAVES),
    };
    cpuid_policy_build(&partition->cpuid, cpu_cpuid, &cpuid_settings);
    partition->physical_bits = (uint8_t)cpuid_image_find(&partition->cpuid, 0x80000008, 0)->registers.eax;
    partition->gigabyte_pages =
        (cpuid_image_find(&partition->cpuid, 0x80000001, 0)->registers.edx & CPUID_80000001_EDX_1G) != 0;

    const struct register_policy_settings policy_settings = {
        .instance = CR_INSTANCE_UNRESTRICTED,
        .overrides = {.tpr = tpr_intercept},
        .cr0_fixed0 = capabilities->cr0_fixed0,
        .cr0_fixed1 = capabilities->cr0_fixed1,
        .cr4_fixed0 = capabilities->cr4_fixed0,
        .cr4_fixed1 = capabilities->cr4_fixed1,
        .cr4_offered = cpuid_image_cr4(&partition->cpuid),
        .efer_offered = cpuid_image_efer(&partition->cpuid),
    };
    if (policy_cr_derive(&partition->policy, &policy_settings, &culprit) != 0)
        return refuse(partition, -EOPNOTSUPP, "policy: this processor cannot do what the row %s wants",
                      culprit);

    policy_register_demand(&partition->policy, &demands);
    if (vmx_controls_compute(&partition->controls, capabilities, &demands, &culprit) != 0)
        return refuse(partition, -EOPNOTSUPP, "this processor lacks the control \"%s\"", culprit);

    partition->msr_features = policy_msr_features(&partition->cpuid);
    void *bitmap = allocate(PAGE_SIZE);
    if (bitmap == NULL)
        return refuse(partition, -ENOMEM, "no memory for the MSR bitmap");
    policy_msr_bitmap(bitmap, partition->msr_features);
    partition->msr_bitmap = physmap_address(bitmap);
    return 0;
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

    /* That suffices for a halted vCPU too: it is asked at each turn. */
    vcpu_events_changed(&partition->vcpus[vcpu].vcpu);
}

static void board_ipi(void *context, unsigned vcpu, enum vdev_ipi kind, uint8_t vector)
{
    struct partition *partition = context;

    (void)vector;
    /* INIT and start-up messages concern processors beside the first, which no partition has yet. */
    if (kind != VDEV_IPI_NMI)
        return;
    vcpu_queue_nmi(&partition->vcpus[vcpu].vcpu);
}

static const struct vdev_ops board_ops = {
    .now = board_now,
    .power = board_power,
    .console_write = board_console_write,
    .wake = board_wake,
    .ipi = board_ipi,
};

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
        pages[i] = allocate(PAGE_SIZE);
        if (pages[i] == NULL)
            return refuse(partition, -ENOMEM, "no memory for a local APIC");
    }
    platform_init(&partition->platform, &host, &settings, pages);
    return 0;
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

static int build_vcpu(struct partition *partition, unsigned number)
{
    const struct partition_machine *machine = partition_machine();
    struct partition_vcpu *vcpu = &partition->vcpus[number];
    void *tables = allocate(PARTITION_VTLB_PAGES * PAGE_SIZE);
    void *vmcs = allocate(PAGE_SIZE);
    void *xsave = allocate(VCPU_XSAVE_AREA_SIZE);

    vcpu->partition = partition;
    vcpu->number = number;
    vcpu->cpuid_state.apic_id = number;
    if (tables == NULL || vmcs == NULL || xsave == NULL)
        return refuse(partition, -ENOMEM, "no memory for a vCPU");

    if (vtlb_init(&vcpu->vtlb, physmap_address(tables), PARTITION_VTLB_PAGES, vcpu->vtlb_tables,
                  &machine->vtlb_hardware) != 0 ||
        vtlb_context_init(&vcpu->context, &vcpu->vtlb, &partition->memory_chain, &paging_ept) != 0)
        return refuse(partition, -ENOMEM, "the virtual TLB's quota is too small");
    walk_x86_init(&vcpu->walk, &partition->memory_chain);
    vcpu->linear = (struct stage_chain){.stages = {&vcpu->walk.stage, &partition->p2m.stage}, .count = 2};

    const struct vcpu_settings settings = {
        .capabilities = &machine->capabilities,
        .controls = &partition->controls,
        .policy = &partition->policy,
        .interrupt_ops = &interrupt_ops,
        .interrupt_context = vcpu,
        .vmcs = physmap_address(vmcs),
        .msr_bitmap = partition->msr_bitmap,
        .virtual_apic = physmap_address(partition->platform.lapics[number].page),
        .ept_root = vtlb_root(&vcpu->context),
        .vpid = (uint16_t)(1 + partition->number * PLATFORM_VCPUS_MAX + number),
        .xsave_area = xsave,
    };
    if (vcpu_init(&vcpu->vcpu, &settings) != 0)
        return refuse(partition, -EIO, "VMX refuses the VMCS");
    return 0;
}

int partition_build(struct partition *partition)
{
    int error;

    partition->vcpu_count = partition->config->vcpus;
    partition->memory = partition->config->memory;
    partition->frame_owner = (uint16_t)(FRAME_OWNER_PARTITION + partition->number);
    error = build_memory(partition);
    if (error == 0)
        error = build_policies(partition);
    if (error == 0)
        error = build_board(partition);
    if (error == 0) {
        partition->vcpus = allocate(partition->vcpu_count * sizeof(*partition->vcpus));
        if (partition->vcpus == NULL)
            error = refuse(partition, -ENOMEM, "no memory for its vCPUs");
    }
    for (unsigned i = 0; error == 0 && i < partition->vcpu_count; i++)
        error = build_vcpu(partition, i);
    if (error != 0) {
        partition->vcpus = NULL; /* half built: nobody must look at them */
        frame_release_all(partition_machine()->frames, partition->frame_owner);
    }
    return error;
}

/* ---- Loading
 * --------------------------------------------------------------------------------------------------- */

struct guest_memory_target {
    struct loader_memory memory;
    struct partition *partition;
};

static int load_write(struct loader_memory *memory, gpa_t address, const void *from, size_t size)
{
    struct guest_memory_target *target = container_of(memory, struct guest_memory_target, memory);

    return guest_memory_write(&target->partition->memory_chain, address, from, size, NULL);
}

static int load_fill(struct loader_memory *memory, gpa_t address, uint8_t byte, size_t size)
{
    struct guest_memory_target *target = container_of(memory, struct guest_memory_target, memory);

    return guest_memory_fill(&target->partition->memory_chain, address, byte, size, NULL);
}

static void scrub(struct partition *partition)
{
    uint64_t start = cpu_rdtsc();

    for (size_t i = 0; i < partition->p2m.count; i++)
        memset(physmap_pointer(partition->regions[i].hpa), 0, partition->regions[i].size);
    partition->scrub_ticks = cpu_rdtsc() - start;
}

static int find_file(struct partition *partition, const struct config_file *named, struct loader_file *file)
{
    struct config_files *files = partition_machine()->files;
    size_t size = 0;

    if (files->find(files, named->path, &file->data, &size) != 0)
        return refuse(partition, -ENOENT, "%.*s: no such file", SLICE_ARGUMENTS(named->path));
    file->size = size;
    file->arguments = named->arguments;
    return 0;
}

static int write_acpi(struct partition *partition, gpa_t *rsdp)
{
    static uint8_t tables[16384];
    const struct acpi_settings settings = {.vcpus = partition->vcpu_count};
    int size = acpi_build(&settings, tables, sizeof(tables), GPA(ACPI_TABLES_BASE), rsdp);

    if (size < 0)
        return refuse(partition, size, "the ACPI tables do not fit");
    return guest_memory_write(&partition->memory_chain, GPA(ACPI_TABLES_BASE), tables, (size_t)size, NULL);
}

static void start_vcpu(struct partition *partition, const struct loader_entry *entry)
{
    struct partition_vcpu *vcpu = &partition->vcpus[0];
    const struct vcpu_start start = {
        .mode = entry->mode == LOADER_LONG_64 ? VCPU_START_LONG_64 : VCPU_START_PROTECTED_32,
        .rip = entry->rip,
        .rax = entry->rax,
        .rbx = entry->rbx,
        .rsi = entry->rsi,
        .cr3 = entry->cr3,
        .gdt_base = entry->gdt_base,
        .gdt_limit = entry->gdt_limit,
        .code_selector = LOADER_CODE_SELECTOR,
        .data_selector = LOADER_DATA_SELECTOR,
    };

    partition_vcpu_reset(vcpu);
    vcpu_load(&vcpu->vcpu);
    vcpu_start(&vcpu->vcpu, &start);
    partition_vcpu_apply_tsc(vcpu);
}

int partition_load(struct partition *partition)
{
    const struct config_partition *config = partition->config;
    const uint64_t low = layout_low_memory(partition->memory);
    struct guest_memory_target target = {
        .memory = {.write = load_write, .fill = load_fill, .low_size = low},
        .partition = partition,
    };
    const struct loader_range map[] = {
        {0, VIDEO_START, 1},
        {VIDEO_START, MIB(1) - VIDEO_START, 2},
        {MIB(1), low - MIB(1), 1},
        {GIB(4), partition->memory - low, 1},
    };
    struct loader_file files[CONFIG_MODULES_MAX];
    struct loader_request request = {
        .image = &partition->image,
        .files = files,
        .cmdline = config->cmdline,
        .map = map,
        .map_count = partition->memory > low ? 4 : 3,
    };
    struct loader_entry entry;
    const char *why = "it does not fit into guest memory";
    int error = find_file(partition, &config->kernel, &request.kernel);

    if (error != 0)
        return error;
    if (kernel_probe(config->boot, request.kernel.data, request.kernel.size, &partition->image, &why) != 0)
        return refuse(partition, -ENOEXEC, "%.*s: %s", SLICE_ARGUMENTS(config->kernel.path), why);
    if (config->initrd.path.length > 0) {
        error = find_file(partition, &config->initrd, &files[request.file_count++]);
        if (error != 0)
            return error;
    }
    for (unsigned i = 0; i < config->module_count; i++) {
        error = find_file(partition, &config->modules[i], &files[request.file_count++]);
        if (error != 0)
            return error;
    }

    scrub(partition);
    partition->tsc_offset = 0 - cpu_rdtsc();
    platform_reset(&partition->platform, partition_machine()->wall_clock());
    error = write_acpi(partition, &request.rsdp);
    if (error != 0)
        return error;
    error = loader_load(&target.memory, &request, &entry, &why);
    if (error != 0)
        return refuse(partition, error, "%.*s: %s", SLICE_ARGUMENTS(config->kernel.path), why);
    start_vcpu(partition, &entry);
    return 0;
}
