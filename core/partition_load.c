// SPDX-License-Identifier: BSD-2-Clause
/* A start's contents: the board at power-on, ACPI tables, kernel and files, and the vCPUs at their entry. */
#include "arch/x86/cpu.h"
#include "core/config/layout.h"
#include "core/exits/exits.h"
#include "core/loader/loader.h"
#include "core/paging.h"
#include "core/partition_build.h"
#include "lib/errors.h"
#include "mm/physmap.h"
#include "vmx/events.h"

struct guest_memory_target {
    struct loader_memory memory;
    struct partition *partition;
};

static int load_write(struct loader_memory *memory, gpa_t address, const void *from, size_t size)
{
    struct guest_memory_target *target = container_of(memory, struct guest_memory_target, memory);

    return guest_memory_write(&target->partition->memory_chain, address, from, size, NULL);
}

static int load_read(struct loader_memory *memory, gpa_t address, void *to, size_t size)
{
    struct guest_memory_target *target = container_of(memory, struct guest_memory_target, memory);

    return guest_memory_read(&target->partition->memory_chain, address, to, size, NULL);
}

static int load_fill(struct loader_memory *memory, gpa_t address, uint8_t byte, size_t size)
{
    struct guest_memory_target *target = container_of(memory, struct guest_memory_target, memory);

    return guest_memory_fill(&target->partition->memory_chain, address, byte, size, NULL);
}

static int find_file(struct partition *partition, const struct config_file *named, struct loader_file *file)
{
    struct config_files *files = partition_machine()->files;
    size_t size = 0;

    if (files->find(files, named->path, &file->data, &size) != 0)
        return partition_refuse(partition, -ENOENT, "%.*s: no such file", SLICE_ARGUMENTS(named->path));
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
        return partition_refuse(partition, size, "the ACPI tables do not fit");
    return guest_memory_write(&partition->memory_chain, GPA(ACPI_TABLES_BASE), tables, (size_t)size, NULL);
}

/* Puts the first vCPU at the entry, and the others where they wait to be started. */
static void start_vcpus(struct partition *partition, const struct loader_entry *entry)
{
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

    for (unsigned i = 0; i < partition->vcpu_count; i++) {
        struct partition_vcpu *vcpu = &partition->vcpus[i];

        partition_vcpu_reset(vcpu);
        vcpu_load(&vcpu->vcpu);
        vcpu_reset(&vcpu->vcpu);
        if (i == 0)
            paging_start(vcpu, &start);
        else
            partition_vcpu_take_init(vcpu);
        exit_apic_mode_changed(vcpu);
        vcpu_unload(&vcpu->vcpu);
    }
}

int partition_load(struct partition *partition)
{
    const struct config_partition *config = partition->config;
    struct guest_memory_target target = {
        .memory = {.write = load_write, .fill = load_fill, .read = load_read},
        .partition = partition,
    };
    struct layout_range map[LAYOUT_MAP_MAX];
    struct loader_file files[CONFIG_MODULES_MAX];
    struct loader_request request = {
        .image = &partition->image,
        .files = files,
        .cmdline = config->cmdline,
        .map = map,
        .map_count = layout_map(config, map),
    };
    struct loader_entry entry;
    const char *why = "it does not fit into guest memory";
    int error = find_file(partition, &config->kernel, &request.kernel);

    if (error != 0)
        return error;
    if (kernel_probe(config->boot, request.kernel.data, request.kernel.size, &partition->image, &why) != 0)
        return partition_refuse(partition, -ENOEXEC, "%.*s: %s", SLICE_ARGUMENTS(config->kernel.path), why);
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

    partition->tsc_offset = 0 - cpu_rdtsc();
    platform_reset(&partition->platform, partition_machine()->wall_clock());
    error = write_acpi(partition, &request.rsdp);
    if (error != 0)
        return error;
    error = loader_load(&target.memory, &request, &entry, &why);
    if (error != 0)
        return partition_refuse(partition, error, "%.*s: %s", SLICE_ARGUMENTS(config->kernel.path), why);
    start_vcpus(partition, &entry);
    return 0;
}
