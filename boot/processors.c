// SPDX-License-Identifier: BSD-2-Clause
#include "boot/processors.h"

#include "arch/x86/cpu.h"
#include "arch/x86/cpuid.h"
#include "arch/x86/descriptor.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/trap.h"
#include "drivers/lapic.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/address_space.h"
#include "mm/physmap.h"
#include "vmx/processor.h"

/*
 * The waits of the start-up protocol (SDM vol. 3, "Typical BSP initialization sequence"), in microseconds.
 * The pause after INIT is for processors older than any with VT-x: the first attempt goes without, and only
 * one that fails is followed by one with it.
 */
#define INIT_PAUSE     10000
#define STARTUP_PAUSE  200
#define ANSWER_LIMIT   100000
#define PREPARED_LIMIT 5000000

/* How often the two time stamp counters are compared. */
#define TSC_ROUNDS     4

/* What the processor that starts and the first one tell each other, in this order. */
enum stage {
    STAGE_CALLED,   /* the start-up interrupt is on its way */
    STAGE_ANSWERED, /* it runs Umbra's code */
    STAGE_ASKED,    /* the first one wants its time stamp */
    STAGE_TOLD,     /* it is in `tsc` */
    STAGE_PREPARE,  /* it may go on */
    STAGE_PREPARED, /* it is ready, or has an obstacle */
    STAGE_RUN,      /* it belongs to Umbra */
    STAGE_PARK,     /* it does not: it halts for good */
    STAGE_DONE,     /* it has heard which */
};

/* What makes processors alike, as far as guests and Umbra can tell them apart. */
static const struct {
    uint32_t leaf, subleaf;
    struct cpuid_registers mask;
} compared[] = {
    {1, 0, {0, 0, ~(uint32_t)CPUID_1_ECX_OSXSAVE, ~0U}},
    {7, 0, {0, ~0U, ~(uint32_t)CPUID_7_ECX_OSPKE, ~0U}},
    {0xd, 0, {~0U, 0, 0, ~0U}}, /* EBX follows XCR0 */
    {0xd, 1, {~0U, 0, ~0U, ~0U}},
    {0x80000001, 0, {0, 0, ~0U, ~0U}},
};

struct features {
    struct cpuid_registers leaves[ARRAY_SIZE(compared)];
};

/* One start at a time. */
static struct {
    uint32_t stage; /* enum stage; what it says is written before it */

    /* For the processor that starts. */
    unsigned number;
    uint64_t offset;
    uint64_t ists[IST_COUNT];
    hpa_t vmxon_region;
    struct features features;

    /* From it. */
    uint64_t tsc;
    const char *obstacle; /* NULL: it is ready */
    bool mtrrs_differ;
    unsigned left_errors;
} start;

/* Read by ap_entry.S. */
extern uint64_t processors_stack_top;
uint64_t processors_stack_top;

static const struct processors_settings *settings;
static unsigned different_mtrrs; /* processors whose MTRRs are not the first one's */

extern const char ap_trampoline[], ap_trampoline_end[];
extern const char ap_trampoline_gdt[], ap_trampoline_jump_32[], ap_trampoline_jump_64[], ap_trampoline_root[];
extern const char percpu_start[], percpu_end[];

__noreturn void processors_main(void);

/* ---- Both sides -----------------------------------------------------------------------------------------
 */

static void enter_stage(enum stage stage)
{
    __atomic_store_n(&start.stage, stage, __ATOMIC_RELEASE);
}

static enum stage current_stage(void)
{
    return __atomic_load_n(&start.stage, __ATOMIC_ACQUIRE);
}

/* The time now, neither earlier nor later in the program. */
static uint64_t time_stamp(void)
{
    uint64_t tsc;

    cpu_fence();
    tsc = cpu_rdtsc();
    cpu_fence();
    return tsc;
}

void processors_read_mtrrs(struct mtrr *mtrr)
{
    uint64_t capabilities, defaults;
    unsigned address_bits = cpu_cpuid(0x80000008, 0).eax & 0xff;

    memset(mtrr, 0, sizeof(*mtrr));
    mtrr->address_mask = BIT(address_bits) - 1;
    if ((cpu_cpuid(1, 0).edx & CPUID_1_EDX_MTRR) == 0) {
        /* No MTRRs: everything is write-back but for what the tables say. */
        mtrr->enabled = true;
        mtrr->default_type = MEMORY_TYPE_WB;
        return;
    }
    capabilities = cpu_rdmsr(MSR_IA32_MTRRCAP);
    defaults = cpu_rdmsr(MSR_IA32_MTRR_DEF_TYPE);
    mtrr->enabled = (defaults & MTRR_DEF_TYPE_ENABLE) != 0;
    mtrr->fixed_enabled = (capabilities & MTRRCAP_FIX) != 0 && (defaults & MTRR_DEF_TYPE_FIXED_ENABLE) != 0;
    mtrr->default_type = (uint8_t)defaults;
    mtrr->variable_count = (unsigned)min_u64(capabilities & MTRRCAP_VCNT, MTRR_VARIABLE_MAX);
    for (unsigned i = 0; i < mtrr->variable_count; i++) {
        mtrr->variable[i].base = cpu_rdmsr(MSR_IA32_MTRR_PHYSBASE0 + 2 * i);
        mtrr->variable[i].mask = cpu_rdmsr(MSR_IA32_MTRR_PHYSMASK0 + 2 * i);
    }
    if (mtrr->fixed_enabled)
        for (unsigned i = 0; i < MTRR_FIXED_COUNT; i++)
            mtrr->fixed[i] = cpu_rdmsr(mtrr_fixed_msr(i));
}

static void read_features(struct features *features)
{
    for (unsigned i = 0; i < ARRAY_SIZE(compared); i++) {
        const struct cpuid_registers *mask = &compared[i].mask;
        uint32_t last = cpu_cpuid(compared[i].leaf & 0x80000000, 0).eax;
        struct cpuid_registers r = {0, 0, 0, 0};

        if (compared[i].leaf <= last)
            r = cpu_cpuid(compared[i].leaf, compared[i].subleaf);
        features->leaves[i] = (struct cpuid_registers){r.eax & mask->eax, r.ebx & mask->ebx,
                                                       r.ecx & mask->ecx, r.edx & mask->edx};
    }
}

/* ---- The processor that starts --------------------------------------------------------------------------
 */

/* Waits for `stage` or a later one, and returns which. */
static enum stage wait_for(enum stage stage)
{
    enum stage now;

    while ((now = current_stage()) < stage)
        __builtin_ia32_pause();
    return now;
}

/* Enters VMX operation as the first processor has. NULL, or why not. */
static const char *start_vmx(void)
{
    struct vmx_capabilities capabilities;
    const char *obstacle;

    vmx_processor_capabilities(&capabilities);
    if (!vmx_processor_same(&capabilities, settings->capabilities))
        return "its VT-x differs from the first processor's";
    obstacle = vmx_capabilities_obstacle(&capabilities);
    if (obstacle != NULL)
        return obstacle;
    return vmx_processor_enable(&capabilities, start.vmxon_region) == 0 ? NULL : "VMXON fails";
}

/* Makes this processor like the first one. NULL, or why it cannot be used. */
static const char *prepare(void)
{
    struct features features;
    struct mtrr mtrr;

    read_features(&features);
    if (memcmp(&features, &start.features, sizeof(features)) != 0)
        return "its CPUID differs from the first processor's";
    cpu_wrmsr(MSR_IA32_PAT, PAT_RESET);
    processors_read_mtrrs(&mtrr);
    start.mtrrs_differ = memcmp(&mtrr, settings->mtrr, sizeof(mtrr)) != 0;
    lapic_enable();
    return settings->capabilities == NULL ? NULL : start_vmx();
}

/* From ap_entry.S, on the stack that was made for it. */
void processors_main(void)
{
    cpu_wrmsr(MSR_IA32_GS_BASE, start.offset);
    this_cpu(percpu_offset) = start.offset;
    this_cpu(percpu_number) = start.number;
    address_space_activate(); /* and the trampoline is gone */
    descriptor_load(start.ists);
    enter_stage(STAGE_ANSWERED);

    for (unsigned round = 0; round < TSC_ROUNDS; round++) {
        while (current_stage() != STAGE_ASKED)
            __builtin_ia32_pause();
        start.tsc = time_stamp();
        enter_stage(STAGE_TOLD);
    }
    wait_for(STAGE_PREPARE);
    start.left_errors = trap_enable_machine_checks();
    start.obstacle = prepare();
    enter_stage(STAGE_PREPARED);

    enum stage verdict = wait_for(STAGE_RUN);
    enter_stage(STAGE_DONE);
    if (verdict == STAGE_PARK)
        cpu_stop();
    settings->run();
}

/* ---- The first processor --------------------------------------------------------------------------------
 */

/* True when the other side has come to `stage`, false when it has not within `microseconds`. */
static bool await(enum stage stage, uint64_t microseconds)
{
    const uint64_t limit = settings->tsc_hz / 1000000 * microseconds;
    const uint64_t begin = cpu_rdtsc();

    while (current_stage() != stage) {
        if (cpu_rdtsc() - begin >= limit)
            return false;
        __builtin_ia32_pause();
    }
    return true;
}

static void must_allocate(uint64_t count, hpa_t below, hpa_t *base)
{
    if (frame_allocate(settings->frames, FRAME_OWNER_UMBRA, count, PAGE_SHIFT, below, base) != 0)
        panic("no memory to start a processor");
}

/* The copy's place for something of the trampoline. */
static void *copied(hpa_t page, const char *symbol)
{
    return (char *)physmap_pointer(page) + ((uint64_t)symbol - (uint64_t)ap_trampoline);
}

static void relocate(hpa_t page, const char *symbol)
{
    uint32_t offset;

    memcpy(&offset, copied(page, symbol), sizeof(offset));
    offset += (uint32_t)page.value;
    memcpy(copied(page, symbol), &offset, sizeof(offset));
}

static void make_trampoline(hpa_t *page, hpa_t *root)
{
    must_allocate(1, HPA(FRAME_LOW_MEMORY), page);
    if (address_space_new_start_root(*page, root) != 0)
        panic("no memory to start a processor");

    uint32_t root_address = (uint32_t)root->value;
    memcpy(physmap_pointer(*page), ap_trampoline, (uint64_t)ap_trampoline_end - (uint64_t)ap_trampoline);
    relocate(*page, ap_trampoline_gdt + 2); /* behind the limit */
    relocate(*page, ap_trampoline_jump_32);
    relocate(*page, ap_trampoline_jump_64);
    memcpy(copied(*page, ap_trampoline_root), &root_address, sizeof(root_address));
}

/* Sets aside what the next processor has of its own. One that cannot be used keeps it. */
static void make_processor(void)
{
    uint64_t size = align_up((uint64_t)percpu_end - (uint64_t)percpu_start, PAGE_SIZE);
    hpa_t copy;

    must_allocate(size / PAGE_SIZE, FRAME_ANYWHERE, &copy);
    memset(physmap_pointer(copy), 0, size);
    start.number = percpu_count;
    start.offset = (uint64_t)physmap_pointer(copy) - (uint64_t)percpu_start;
    processors_stack_top = address_space_new_stack(PROCESSOR_STACK_PAGES);
    for (unsigned i = 0; i < IST_COUNT; i++)
        start.ists[i] = address_space_new_stack(PROCESSOR_IST_PAGES);
    if (settings->capabilities != NULL)
        must_allocate(1, FRAME_ANYWHERE, &start.vmxon_region);
    start.obstacle = NULL;
}

static void pause_for(uint64_t microseconds)
{
    const uint64_t begin = cpu_rdtsc();

    while (cpu_rdtsc() - begin < settings->tsc_hz / 1000000 * microseconds)
        __builtin_ia32_pause();
}

/* INIT, start-up, start-up. */
static bool call(uint32_t apic_id, hpa_t trampoline, uint64_t init_pause)
{
    lapic_send_init(apic_id);
    pause_for(init_pause);
    enter_stage(STAGE_CALLED); /* whatever it may have said before */
    lapic_send_startup(apic_id, trampoline);
    if (await(STAGE_ANSWERED, STARTUP_PAUSE))
        return true;
    lapic_send_startup(apic_id, trampoline);
    return await(STAGE_ANSWERED, ANSWER_LIMIT);
}

/*
 * Compares the two time stamp counters: the other one's value, taken between two of ours, has to lie between
 * them. Returns by how many ticks it is ahead at least, negative if it is behind; 0 if nothing can be told.
 * False if it has fallen silent.
 */
static bool compare_time(int64_t *ahead)
{
    *ahead = 0;
    for (unsigned round = 0; round < TSC_ROUNDS; round++) {
        uint64_t before = time_stamp();
        enter_stage(STAGE_ASKED);
        if (!await(STAGE_TOLD, ANSWER_LIMIT))
            return false;
        uint64_t after = time_stamp();
        if ((int64_t)(start.tsc - before) < 0)
            *ahead = (int64_t)(start.tsc - before);
        else if ((int64_t)(after - start.tsc) < 0)
            *ahead = (int64_t)(start.tsc - after);
    }
    return true;
}

static void report_differences(uint32_t apic_id, int64_t ahead)
{
    if (ahead != 0)
        print("umbra: processor %u (APIC id %u): its time stamp counter is %s by %lu ticks\n", start.number,
              apic_id, ahead > 0 ? "ahead" : "behind", (uint64_t)(ahead > 0 ? ahead : -ahead));
    if (start.mtrrs_differ)
        different_mtrrs++;
    if (start.left_errors > 0)
        print("umbra: processor %u (APIC id %u): %u errors left in its machine-check banks\n", start.number,
              apic_id, start.left_errors);
}

/* Through the stages up to STAGE_PREPARED. NULL if the processor can be used, or why not. */
static const char *bring_up(uint32_t apic_id, hpa_t trampoline)
{
    int64_t ahead;

    if (!call(apic_id, trampoline, 0) && !call(apic_id, trampoline, INIT_PAUSE))
        return "it does not answer";
    if (!compare_time(&ahead))
        return "it has fallen silent";
    enter_stage(STAGE_PREPARE);
    if (!await(STAGE_PREPARED, PREPARED_LIMIT))
        return "it has fallen silent";
    if (start.obstacle == NULL)
        report_differences(apic_id, ahead);
    return start.obstacle;
}

/* Starts one processor. NULL if it runs, or why it does not. */
static const char *start_one(uint32_t apic_id, hpa_t trampoline)
{
    if (!lapic_reaches(apic_id))
        return "its APIC id needs x2APIC mode";
    make_processor();

    const char *why = bring_up(apic_id, trampoline);
    if (why != NULL && current_stage() != STAGE_PREPARED) {
        lapic_send_init(apic_id); /* so that it does not come late, in the place of the next one */
        return why;
    }
    if (why == NULL) {
        percpu_offsets[percpu_count] = start.offset;
        percpu_apic_ids[percpu_count] = apic_id;
        __atomic_store_n(&percpu_count, percpu_count + 1, __ATOMIC_RELEASE);
    }
    enter_stage(why == NULL ? STAGE_RUN : STAGE_PARK);
    if (!await(STAGE_DONE, PREPARED_LIMIT))
        panic("the processor with APIC id %u has fallen silent", apic_id);
    return why;
}

void processors_start(const struct processors_settings *given)
{
    static struct processors_settings kept;
    const struct acpi_machine *acpi = given->acpi;
    unsigned machine = 1;
    hpa_t trampoline, root;

    kept = *given;
    settings = &kept;
    percpu_apic_ids[0] = lapic_id();
    read_features(&start.features);

    make_trampoline(&trampoline, &root);
    for (unsigned i = 0; i < acpi->processor_count; i++) {
        uint32_t apic_id = acpi->processors[i];
        if (apic_id == percpu_apic_ids[0])
            continue;
        machine++;
        const char *why = percpu_count == PERCPU_PROCESSORS_MAX ? NULL : start_one(apic_id, trampoline);
        if (why != NULL)
            print("umbra: processor with APIC id %u is not used: %s\n", apic_id, why);
    }
    address_space_drop_start_root(root);
    if (frame_release(settings->frames, trampoline, PAGE_SIZE, FRAME_OWNER_UMBRA) != 0)
        panic("the trampoline's frame is not Umbra's");

    if (different_mtrrs > 0)
        print("umbra: the MTRRs of %u processors differ from the first one's\n", different_mtrrs);
    machine += acpi->processors_ignored;
    if (percpu_count == machine)
        print("umbra: %u processor%s\n", machine, machine == 1 ? "" : "s");
    else
        print("umbra: %u of %u processors\n", percpu_count, machine);
}
