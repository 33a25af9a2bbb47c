// SPDX-License-Identifier: BSD-2-Clause
/*
 * From the boot loader's hand-over to the first guest: every room is set up here, in order, and told of the
 * others what it has to know.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/cpuid.h"
#include "arch/x86/descriptor.h"
#include "arch/x86/machine_check.h"
#include "arch/x86/mtrr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/trap.h"
#include "boot/multiboot2.h"
#include "boot/processors.h"
#include "core/config/config.h"
#include "core/operator.h"
#include "core/partition.h"
#include "core/policy_keys.h"
#include "core/report.h"
#include "core/run.h"
#include "drivers/acpi_tables.h"
#include "drivers/cmos_clock.h"
#include "drivers/ioapic.h"
#include "drivers/lapic.h"
#include "drivers/pit.h"
#include "drivers/serial.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/address_space.h"
#include "mm/frame.h"
#include "mm/physmap.h"
#include "vmx/barriers.h"
#include "vmx/processor.h"
#include "vmx/state.h"

#define UMBRA_VERSION  "0.1"

#define FRAME_EXTENTS  1024
#define LEGACY_END     MIB(1)
#define CPUID_15_VALID (BIT(0) | BIT(1) | BIT(2))

/* How far a measured TSC frequency may be off what CPUID says for CPUID to be believed: 1 in 500. */
#define TSC_TOLERANCE  500

__noreturn void boot_main(uint32_t magic, uint32_t information_address);
__noreturn void boot_switch_stack(uint64_t top, void (*function)(void));

extern const char image_physical_start[], image_physical_end[];

static struct boot_information information;
static struct frame_extent extents[FRAME_EXTENTS];
static struct frame_pool frames;
static struct acpi_machine acpi;
static struct config config;
static struct mtrr mtrr;
static uint64_t tsc_hz, tsc_at_hand_over, tsc_at_clock;
static int64_t clock_at_start;
static const char *vmx_obstacle;

/* ---- Configuration
 * ---------------------------------------------------------------------------------------------- */

static void ignore_error(struct config_reporter *reporter, struct config_place place, const char *message)
{
    (void)reporter, (void)place, (void)message;
}

static void print_error(struct config_reporter *reporter, struct config_place place, const char *message)
{
    (void)reporter;
    print("config:%u:%u: %s\n", place.line, place.column, message);
}

static int find_module(struct config_files *files, struct slice path, const void **data, size_t *size)
{
    const struct boot_module *module = boot_module_find(&information, path);

    (void)files;
    if (module == NULL)
        return -ENOENT;
    *data = physmap_pointer(module->base);
    *size = module->size;
    return 0;
}

static struct config_files module_files = {.find = find_module};

/* Parses the module `config`; without one the defaults hold and there are no partitions. */
static void read_config(void (*error)(struct config_reporter *, struct config_place, const char *))
{
    struct config_reporter reporter = {.error = error};
    const struct boot_module *module = boot_module_find(&information, SLICE("config"));

    config_parse(&config, module == NULL ? "" : physmap_pointer(module->base),
                 module == NULL ? 0 : module->size, core_policy_keys, &reporter);
}

/* ---- Memory
 * ----------------------------------------------------------------------------------------------------- */

static void must(int error, const char *what)
{
    if (error != 0)
        panic("%s: error %d", what, -error);
}

static void build_frame_pool(void)
{
    frame_pool_init(&frames, extents, FRAME_EXTENTS, NULL);
    for (unsigned i = 0; i < information.memory_count; i++) {
        const struct boot_memory_range *range = &information.memory[i];
        bool ram = range->type == BOOT_MEMORY_RAM;
        if (range->size > 0)
            must(frame_pool_add(&frames, range->base, range->size,
                                ram ? FRAME_OWNER_FREE : FRAME_OWNER_DEVICE),
                 "memory map");
    }
    /* What BIOS keeps in the first frame it looks at again when the machine is reset. */
    must(frame_pool_add(&frames, HPA(0), PAGE_SIZE, FRAME_OWNER_DEVICE), "memory map");
    must(frame_claim(&frames, HPA((uint64_t)image_physical_start),
                     (uint64_t)image_physical_end - (uint64_t)image_physical_start, FRAME_OWNER_UMBRA),
         "image");
    must(frame_claim(&frames, information.base, information.size, FRAME_OWNER_MODULE), "boot information");
    for (unsigned i = 0; i < information.module_count; i++)
        if (information.modules[i].size > 0)
            must(frame_claim(&frames, information.modules[i].base, information.modules[i].size,
                             FRAME_OWNER_MODULE),
                 "boot module");
}

static void map_memory(void)
{
    must(address_space_map_memory(HPA(0), LEGACY_END), "physical map");
    for (unsigned i = 0; i < information.memory_count; i++) {
        const struct boot_memory_range *range = &information.memory[i];
        bool memory = range->type == BOOT_MEMORY_RAM || range->type == BOOT_MEMORY_ACPI ||
                      range->type == BOOT_MEMORY_NVS;
        uint64_t start = max_u64(range->base.value, LEGACY_END);
        uint64_t end = range->base.value + range->size;
        if (range->type == BOOT_MEMORY_RAM)
            end = align_down(end, PAGE_SIZE); /* the rest of the page may be another range's */
        if (memory && end > start)
            must(address_space_map_memory(HPA(start), end - start), "physical map");
    }
}

/* ---- Processor
 * -------------------------------------------------------------------------------------------------- */

/* For the virtual TLB: the type at `address`, and the largest page around it on which it holds. */
static uint8_t host_memory_type(void *data, hpa_t address, uint8_t *page_shift)
{
    static const uint8_t shifts[] = {PAGE_SHIFT_1G, PAGE_SHIFT_2M, PAGE_SHIFT};
    uint8_t type = MEMORY_TYPE_UC;

    for (unsigned i = 0; i < ARRAY_SIZE(shifts); i++) {
        if (shifts[i] > *page_shift)
            continue;
        if (mtrr_type(data, HPA(align_down(address.value, BIT(shifts[i]))), BIT(shifts[i]), &type)) {
            *page_shift = shifts[i];
            return type;
        }
    }
    *page_shift = PAGE_SHIFT;
    return type;
}

static bool has_gigabyte_pages(void)
{
    return (cpu_cpuid(0x80000001, 0).edx & CPUID_EXT1_EDX_PAGE_1G) != 0;
}

/*
 * The TSC's rate: what CPUID says, if a measurement agrees (emulators repeat what the real processor would
 * say), else what was measured.
 */
static void find_tsc_rate(void)
{
    uint64_t measured = pit_measure_tsc();

    if (cpu_cpuid(0, 0).eax >= 0x15) {
        struct cpuid_registers r = cpu_cpuid(0x15, 0);
        uint64_t told = r.eax == 0 ? 0 : (uint64_t)r.ecx * r.ebx / r.eax;
        uint64_t difference = told > measured ? told - measured : measured - told;
        if (told != 0 && (measured == 0 || difference < told / TSC_TOLERANCE)) {
            tsc_hz = told;
            return;
        }
    }
    if (measured == 0)
        panic("nothing tells how fast the time stamp counter runs");
    tsc_hz = measured;
}

static int64_t wall_clock(void)
{
    return clock_at_start + (int64_t)((cpu_rdtsc() - tsc_at_clock) / tsc_hz);
}

/* ---- Interrupts
 * ------------------------------------------------------------------------------------------------- */

static void on_serial(void)
{
    serial_interrupt();
    lapic_end_of_interrupt();
    run_interrupt_slice();
}

static void on_timer(void)
{
    lapic_end_of_interrupt();
}

/* The interrupt itself is the message: whoever was halted or in a guest looks at what he was sent. */
static void on_kick(void)
{
    lapic_end_of_interrupt();
    run_interrupt_slice();
}

/* What was posted is taken at the next entry. */
static void on_posted(void)
{
    lapic_end_of_interrupt();
}

/* A spurious interrupt is not in service: there is nothing to end. */
static void on_spurious(void)
{
}

static bool has_large_ids(void)
{
    for (unsigned i = 0; i < acpi.processor_count; i++)
        if (acpi.processors[i] > LAPIC_XAPIC_ID_MAX)
            return true;
    return false;
}

static void start_interrupts(void)
{
    pic_disable();
    for (unsigned i = 0; i < acpi.ioapic_count; i++)
        ioapic_add(acpi.ioapics[i].base, acpi.ioapics[i].gsi_base);
    lapic_choose_mode(has_large_ids());
    lapic_enable();
    trap_set_handler(VECTOR_TIMER, on_timer);
    trap_set_handler(VECTOR_KICK, on_kick);
    trap_set_handler(VECTOR_POSTED, on_posted);
    trap_set_handler(VECTOR_SERIAL, on_serial);
    trap_set_handler(VECTOR_SPURIOUS, on_spurious);
    trap_set_unhandled(lapic_end_of_interrupt);

    int irq = serial_irq();
    if (irq < 0)
        return;
    if (ioapic_route(acpi.isa_irqs[irq].gsi, VECTOR_SERIAL, lapic_id(), acpi.isa_irqs[irq].level,
                     acpi.isa_irqs[irq].active_low) == 0)
        serial_enable_interrupts();
}

/* ---- Panic
 * ------------------------------------------------------------------------------------------------------ */

/* The last exits of every partition that ran. */
static void show_last_exits(struct panic_hook *hook)
{
    char line[160];

    (void)hook;
    for (unsigned i = 0; i < partition_slots(); i++) {
        const struct partition *partition = partition_at(i);

        for (unsigned n = 0; partition != NULL && partition->vcpus != NULL && n < partition->vcpu_count;
             n++) {
            const struct trace *trace = &partition->vcpus[n].trace;
            unsigned length = trace_length(trace);

            print("last exits of %.*s, vCPU %u:\n", SLICE_ARGUMENTS(partition->config->name), n);
            for (unsigned r = length > 16 ? length - 16 : 0; r < length; r++)
                if (trace_format(trace, r, report_reason_name, line, sizeof(line)))
                    print("%s\n", line);
        }
    }
}

static uint64_t this_processor(void)
{
    return this_cpu(percpu_offset) | 1;
}

static const struct panic_processors panic_processors = {
    .self = this_processor,
    .stop_others = vmx_processor_stop_others,
    .stop = cpu_stop,
};

/* ---- Processors
 * ------------------------------------------------------------------------------------------------- */

static const struct run_hooks hooks = {.housekeeping = operator_step, .power_off = operator_power_off};
static struct vmx_capabilities capabilities;

static void start_vmx(void)
{
    hpa_t region;

    vmx_processor_capabilities(&capabilities);
    vmx_obstacle = vmx_capabilities_obstacle(&capabilities);
    if (vmx_obstacle != NULL)
        return;
    must(frame_allocate(&frames, FRAME_OWNER_UMBRA, 1, PAGE_SHIFT, FRAME_ANYWHERE, &region), "VMXON region");
    if (vmx_processor_enable(&capabilities, region) != 0)
        vmx_obstacle = "VMXON fails";
    else if (!vmx_capabilities_have_ept(&capabilities))
        print("umbra: this processor has no EPT: guests run by shadow paging, none in real mode\n");
    else if (!vmx_capabilities_have_unrestricted_guest(&capabilities))
        print("umbra: this processor has no unrestricted guest: none runs in real mode\n");
}

/* What every processor but the first does from its start on. */
static __noreturn void run_processor(void)
{
    run_forever(&hooks, tsc_hz);
}

static void start_processors(void)
{
    const struct processors_settings settings = {
        .frames = &frames,
        .acpi = &acpi,
        .capabilities = vmx_obstacle == NULL ? &capabilities : NULL,
        .mtrr = &mtrr,
        .tsc_hz = tsc_hz,
        .run = run_processor,
    };
    char line[240];

    processors_start(&settings);
    machine_check_set_owner(partition_take_machine_check);
    if (vmx_obstacle == NULL) {
        vcpu_barriers_describe(vcpu_state_barriers(), line, sizeof(line));
        print("umbra: %s\n", line);
    }
}

/* ---- Partitions
 * ------------------------------------------------------------------------------------------------- */

static void refuse_all(const char *why)
{
    for (unsigned i = 0; i < CONFIG_PARTITIONS_MAX; i++) {
        config.partitions[i].refused = true;
        format_text(config.partitions[i].reason, sizeof(config.partitions[i].reason), "%s", why);
    }
}

static void build_partitions(void)
{
    struct config_reporter reporter = {.error = print_error};
    struct partition_machine machine = {
        .frames = &frames,
        .capabilities = capabilities,
        .vtlb_hardware = {.memory_type = host_memory_type,
                          .data = &mtrr,
                          .pages_2m = (capabilities.ept_vpid & VMX_EPT_PAGE_2M) != 0,
                          .pages_1g = (capabilities.ept_vpid & VMX_EPT_PAGE_1G) != 0,
                          .page_tables_1g = has_gigabyte_pages()},
        .files = &module_files,
        .tsc_hz = tsc_hz,
        .wall_clock = wall_clock,
        .console_write = operator_partition_write,
    };

    partition_set_machine(&machine);

    if (boot_module_find(&information, SLICE("config")) == NULL)
        print("umbra: no module named config: there are no partitions\n");
    config_check(&config, &module_files, frame_total(&frames, FRAME_OWNER_FREE) * PAGE_SIZE, percpu_count,
                 &reporter);
    if (vmx_obstacle != NULL) {
        print("umbra: no partition can run: %s\n", vmx_obstacle);
        refuse_all(vmx_obstacle);
    }
    operator_init(&config, &frames, &acpi);
    partition_build_all(&config);
}

/* How long it took from the boot loader's hand-over to here, in ticks of the TSC, and what of it was not
 * Umbra's own work. */
static void report_start(void)
{
    uint64_t total = cpu_rdtsc() - tsc_at_hand_over;
    uint64_t scrubbing = 0, console = serial_waited();

    for (unsigned i = 0; i < partition_slots(); i++)
        if (partition_at(i) != NULL)
            scrubbing += partition_at(i)->scrub_ticks;
    print("umbra: ready after %lu ticks: %lu own, %lu clearing memory, %lu waiting for the console\n", total,
          total - scrubbing - console, scrubbing, console);
}

/* The part of boot_main that runs on its own guarded stack. */
static void run(void)
{
    const uint64_t ists[IST_COUNT] = {
        address_space_new_stack(PROCESSOR_IST_PAGES),
        address_space_new_stack(PROCESSOR_IST_PAGES),
        address_space_new_stack(PROCESSOR_IST_PAGES),
    };

    descriptor_load(ists);
    unsigned left_errors = trap_enable_machine_checks();
    if (left_errors > 0)
        print("umbra: %u errors left in the machine-check banks\n", left_errors);
    acpi_machine_read(&acpi, information.rsdp);
    processors_read_mtrrs(&mtrr);
    find_tsc_rate();
    clock_at_start = cmos_clock_read();
    tsc_at_clock = cpu_rdtsc();
    start_interrupts();
    start_vmx();
    start_processors();
    build_partitions();
    operator_start_partitions();
    report_start();
    operator_start();
    run_forever(&hooks, tsc_hz);
}

void boot_main(uint32_t magic, uint32_t information_address)
{
    static struct panic_hook exits_hook = {.run = show_last_exits};

    tsc_at_hand_over = cpu_rdtsc();
    panic_processors_register(&panic_processors);
    panic_hook_register(&exits_hook);
    trap_register_panic_hook();
    if (magic != MULTIBOOT2_LOADER_MAGIC ||
        multiboot2_parse(&information, physmap_pointer(HPA(information_address)), HPA(information_address)) !=
            0) {
        serial_init(SERIAL_COM1, 115200);
        panic("not started by a Multiboot2 boot loader");
    }
    read_config(ignore_error);
    if (config.console_port != 0)
        serial_init(config.console_port, config.console_baud);
    print("\nUmbra " UMBRA_VERSION ", a microhypervisor, loaded by %.*s %.*s\n",
          SLICE_ARGUMENTS(information.loader_name), SLICE_ARGUMENTS(information.command_line));
    if (information.modules_ignored > 0 || information.memory_ignored > 0)
        print("umbra: too many boot modules (%u ignored) or memory ranges (%u ignored)\n",
              information.modules_ignored, information.memory_ignored);
    read_config(print_error);

    build_frame_pool();
    must(address_space_init(&frames), "address space");
    map_memory();
    cpu_wrmsr(MSR_IA32_PAT, PAT_RESET); /* what Umbra's own and its guests' shadow tables are written for */
    address_space_activate();
    boot_switch_stack(address_space_new_stack(PROCESSOR_STACK_PAGES), run);
}
