// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A machine for the exit handlers: a recorded Skylake-X in the place of the processor, plain memory as its
 * frames, and one partition on it that the production code built, at its first instruction. A test brings
 * about exits and looks at what the next entry would find. Include after <cmocka.h>, in one file of a
 * program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#include "arch/x86/descriptor.h"
#include "arch/x86/percpu.h"
#include "arch/x86/trap.h"
#include "core/exits/exits.h"
#include "core/paging.h"
#include "core/partition_build.h"
#include "core/policy_keys.h"
#include "core/run.h"
#include "drivers/lapic.h"
#include "mm/physmap.h"
#include "tests/unit/fake_vmcs.h"
#include "tests/unit/processors.h"
#include "vmx/barriers.h"

#define GUEST_MEMORY MIB(8)
#define GUEST_RIP    0x100000
#define GUEST_RSP    0x40003 /* also the value of a control register */
#define HOST_TSC_HZ  3500000000ULL
#define HOST_TSC     1000000000ULL /* when the partition started */

/* ---- The processor ------------------------------------------------------------------------------------ */

static struct {
    uint64_t cr2;
    uint64_t dr[4], dr6;
    uint64_t xcr0;
    uint64_t cr4;
    uint32_t pkru;
    uint64_t tsc;
    unsigned nmis;       /* handed to Umbra's own handler */
    unsigned dispatched; /* vector of the last external interrupt */
    unsigned slice_ends, attentions, yields;
    bool any_msr; /* registers that no test of a handler reaches can be read and written */
    const struct partition_vcpu *current; /* the one that runs */
} fake_cpu;

struct cpuid_registers cpu_cpuid(uint32_t leaf, uint32_t subleaf)
{
    return processor_cpuid(leaf, subleaf);
}

uint64_t cpu_rdtsc(void)
{
    return fake_cpu.tsc;
}

/* Only host state is made of these. */
uint64_t cpu_rdmsr(uint32_t msr)
{
    (void)msr;
    return 0;
}

bool trap_rdmsr_safe(uint32_t msr, uint64_t *value)
{
    *value = 0x5a00000000ULL + msr;
    return msr == MSR_IA32_PLATFORM_ID || fake_cpu.any_msr;
}

/* No test here writes one: what an MSR list of a guest hypervisor may write is tested by guests. */
bool trap_wrmsr_safe(uint32_t msr, uint64_t value)
{
    (void)msr, (void)value;
    assert_true(fake_cpu.any_msr);
    return true;
}

uint64_t cpu_read_cr0(void)
{
    return 0;
}

uint64_t cpu_read_cr3(void)
{
    return 0;
}

uint64_t cpu_read_cr4(void)
{
    return fake_cpu.cr4;
}

void cpu_write_cr4(uint64_t value)
{
    fake_cpu.cr4 = value;
}

uint32_t cpu_rdpkru(void)
{
    assert_true((fake_cpu.cr4 & X86_CR4_PKE) != 0);
    return fake_cpu.pkru;
}

void cpu_write_cr2(uint64_t value)
{
    fake_cpu.cr2 = value;
}

uint64_t cpu_read_dr0(void)
{
    return fake_cpu.dr[0];
}

uint64_t cpu_read_dr1(void)
{
    return fake_cpu.dr[1];
}

uint64_t cpu_read_dr2(void)
{
    return fake_cpu.dr[2];
}

uint64_t cpu_read_dr3(void)
{
    return fake_cpu.dr[3];
}

void cpu_write_dr0(uint64_t value)
{
    fake_cpu.dr[0] = value;
}

void cpu_write_dr1(uint64_t value)
{
    fake_cpu.dr[1] = value;
}

void cpu_write_dr2(uint64_t value)
{
    fake_cpu.dr[2] = value;
}

void cpu_write_dr3(uint64_t value)
{
    fake_cpu.dr[3] = value;
}

uint64_t cpu_read_dr6(void)
{
    return fake_cpu.dr6;
}

void cpu_write_dr6(uint64_t value)
{
    fake_cpu.dr6 = value;
}

uint64_t cpu_xgetbv(uint32_t index)
{
    assert_int_equal(index, 0);
    return fake_cpu.xcr0;
}

void cpu_xsetbv(uint32_t index, uint64_t value)
{
    assert_int_equal(index, 0);
    fake_cpu.xcr0 = value;
}

void cpu_handle_nmi(void)
{
    fake_cpu.nmis++;
}

void trap_dispatch(uint8_t vector)
{
    fake_cpu.dispatched = vector;
}

uint64_t percpu_offset;
unsigned percpu_count = 4;

uint64_t descriptor_gdt_base(void)
{
    return 0;
}

uint64_t descriptor_idt_base(void)
{
    return 0;
}

uint64_t descriptor_tss_base(void)
{
    return 0;
}

void vcpu_state_reset(struct vcpu_state *state)
{
    *state = (struct vcpu_state){.xsave_area = state->xsave_area, .dr6 = X86_DR6_INIT, .xcr0 = X86_XCR0_X87};
}

void vcpu_state_save(struct vcpu_state *state)
{
    (void)state;
}

void vcpu_state_load(const struct vcpu_state *state)
{
    fake_cpu.cr2 = state->cr2;
    fake_cpu.dr6 = state->dr6;
    fake_cpu.xcr0 = state->xcr0;
}

/* Only for a processor whose VMCSs do not switch IA32_EFER. */
void vcpu_state_write_efer(uint64_t efer)
{
    (void)efer;
    assert_false(vmx_capabilities_switch_efer(&partition_machine()->capabilities));
}

const char vcpu_exit[1], vcpu_exit_filling[1];

unsigned vcpu_enter_clearing(struct vcpu *vcpu, bool launched)
{
    (void)vcpu, (void)launched;
    fail();
    return 1;
}

uint64_t vcpu_state_components(void)
{
    return VCPU_STATE_COMPONENTS;
}

bool vcpu_state_compacts(void)
{
    return true;
}

const struct vcpu_barriers *vcpu_state_barriers(void)
{
    static const struct vcpu_barriers none;

    return &none;
}

bool vcpu_state_write_spec_ctrl(struct vcpu_state *state, uint64_t value)
{
    (void)state, (void)value;
    assert_true(fake_cpu.any_msr);
    return true;
}

bool vcpu_state_read_spec_ctrl(const struct vcpu_state *state, uint64_t *value)
{
    (void)state;
    assert_true(fake_cpu.any_msr);
    *value = 0;
    return true;
}

struct vcpu_msr_lists vcpu_state_msr_lists(const struct vcpu_state *state)
{
    (void)state;
    return (struct vcpu_msr_lists){.count = 0};
}

/* ---- The run loop's part ------------------------------------------------------------------------------ */

/* vCPUs with mail, in the order in which they got it: a test plays their home. */
static struct partition_vcpu *mailed[8];
static unsigned mailed_count;

void run_deliver(struct partition_vcpu *vcpu)
{
    assert_true(mailed_count < ARRAY_SIZE(mailed));
    mailed[mailed_count++] = vcpu;
}

void run_attend(unsigned number)
{
    assert_int_equal(number, 0);
    fake_cpu.attentions++;
}

bool run_is_current(const struct partition_vcpu *vcpu)
{
    return vcpu == fake_cpu.current;
}

bool run_is_running(const struct partition_vcpu *vcpu)
{
    return vcpu == fake_cpu.current;
}

uint32_t percpu_apic_ids[PERCPU_PROCESSORS_MAX];

void lapic_send_vector(uint32_t apic_id, uint8_t vector)
{
    (void)apic_id, (void)vector;
    fail();
}

void run_yield(void)
{
    fake_cpu.yields++;
}

void run_interrupt_slice(void)
{
    fake_cpu.slice_ends++;
}

void run_power_off(void)
{
    fail();
    abort();
}

/* ---- The partition ------------------------------------------------------------------------------------ */

static struct partition *partition;
static struct partition_vcpu *guest;
static char guest_console[256];

static void machine_console_write(unsigned number, char byte)
{
    size_t length = strlen(guest_console);

    (void)number;
    if (length < sizeof(guest_console) - 1)
        guest_console[length] = byte;
}

static int64_t machine_wall_clock(void)
{
    return 0;
}

static unsigned guest_vcpus = 1;
static bool guest_nested;                      /* with a virtual VT-x */
static enum config_paging guest_paging;        /* how its addresses are translated, */
static unsigned machine_processor = SKYLAKE_X; /* and on which processor */

/* Below 4 GiB, where roots of PAE tables have to be. */
static inline void *machine_memory(uint64_t size)
{
    char *memory =
        mmap(NULL, size + MIB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory + (align_up((uintptr_t)memory, MIB(2)) - (uintptr_t)memory);
}

/* Builds the partition anew, at GUEST_RIP in `mode`; `tpr`: enum core_policy_tpr. */
static inline void build_guest(enum vcpu_start_mode mode, uint8_t tpr)
{
    static const struct vmx_msr_ops msr_ops = {processor_rdmsr, processor_cpuid};
    static struct config config;
    static struct frame_extent extents[16];
    static struct frame_pool pool;
    static void *memory;
    const uint64_t size = MIB(16);
    struct partition_machine machine = {
        .frames = &pool,
        .tsc_hz = HOST_TSC_HZ,
        .wall_clock = machine_wall_clock,
        .console_write = machine_console_write,
        .vtlb_hardware = {.pages_2m = true},
    };
    const struct vcpu_start start = {.mode = mode,
                                     .rip = GUEST_RIP,
                                     .rsp = GUEST_RSP,
                                     .cr3 = 0x10000,
                                     .code_selector = 8,
                                     .data_selector = 16};

    memset(&fake_vmcs, 0, sizeof(fake_vmcs));
    memset(&fake_beside, 0, sizeof(fake_beside));
    fake_beside.wanted = guest_nested;
    memset(&fake_cpu, 0, sizeof(fake_cpu));
    memset(guest_console, 0, sizeof(guest_console));
    fake_cpu.tsc = HOST_TSC;
    processor = &processors[machine_processor];
    vmx_capabilities_read(&machine.capabilities, &msr_ops);

    if (memory == NULL)
        memory = machine_memory(size);
    memset(memory, 0, size);
    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), NULL);
    assert_int_equal(frame_pool_add(&pool, physmap_address(memory), size, FRAME_OWNER_FREE), 0);

    config.partition_count = 1;
    config.partitions[0] = (struct config_partition){.in_use = true,
                                                     .name = SLICE("guest"),
                                                     .memory = GUEST_MEMORY,
                                                     .vcpus = guest_vcpus,
                                                     .cpus = {.weight = 100},
                                                     .paging = guest_paging,
                                                     .nested = guest_nested,
                                                     .console_uart = true};
    config.partitions[0].policies[CORE_POLICY_TPR] = tpr;
    partition_set_machine(&machine);
    partition_build_all(&config);
    partition = partition_at(0);
    assert_string_equal(partition->reason, "");
    assert_int_equal(partition->state, PARTITION_STOPPED);
    partition->state = PARTITION_RUNNING;
    partition->tsc_offset = 0 - HOST_TSC;
    guest = &partition->vcpus[0];
    guest->mail = 0;
    fake_cpu.current = guest;
    mailed_count = 0;
    partition_vcpu_reset(guest);
    vcpu_load(&guest->vcpu);
    vcpu_reset(&guest->vcpu);
    paging_start(guest, &start);
    partition_vcpu_apply_tsc(guest);
}

static __unused int start_32(void **state)
{
    (void)state;
    build_guest(VCPU_START_PROTECTED_32, CORE_POLICY_TPR_SHADOWING);
    return 0;
}

/* ---- Guest memory ------------------------------------------------------------------------------------- */

static inline void guest_put(uint64_t gpa, const void *from, size_t size)
{
    assert_int_equal(guest_memory_write(&partition->memory_chain, GPA(gpa), from, size, NULL), 0);
}

static inline void guest_put64(uint64_t gpa, uint64_t value)
{
    guest_put(gpa, &value, sizeof(value));
}

static __unused void guest_take(uint64_t gpa, void *to, size_t size)
{
    assert_int_equal(guest_memory_read(&partition->memory_chain, GPA(gpa), to, size, NULL), 0);
}

/*
 * The tables that CR3 of the 64-bit start points to: the first 2 MiB in pages of 4 KiB, the other RAM in ones
 * of 2 MiB, the devices from 3 GiB in one of 1 GiB; all for supervisor and user.
 */
#define GUEST_TABLES 0x10000ULL

static __unused int start_64(void **state)
{
    const uint64_t table = 0x7, large = 0x87;

    (void)state;
    build_guest(VCPU_START_LONG_64, CORE_POLICY_TPR_SHADOWING);
    guest_put64(GUEST_TABLES, (GUEST_TABLES + 0x1000) | table);
    guest_put64(GUEST_TABLES + 0x1000, (GUEST_TABLES + 0x2000) | table);
    guest_put64(GUEST_TABLES + 0x1000 + 3 * 8, GIB(3) | large);
    guest_put64(GUEST_TABLES + 0x2000, (GUEST_TABLES + 0x3000) | table);
    for (uint64_t i = 1; i < GUEST_MEMORY / MIB(2); i++)
        guest_put64(GUEST_TABLES + 0x2000 + i * 8, i * MIB(2) | large);
    for (uint64_t i = 0; i < 512; i++)
        guest_put64(GUEST_TABLES + 0x3000 + i * 8, i * PAGE_SIZE | table);
    return 0;
}

/* Takes the page of `address` (below 2 MiB) out of them. */
static __unused void guest_unmap(uint64_t address)
{
    guest_put64(GUEST_TABLES + 0x3000 + address / PAGE_SIZE * 8, 0);
}

/* ---- Exits -------------------------------------------------------------------------------------------- */

/* The last that the run loop does before it enters, and what the processor checks then. */
static inline void prepare_entry(void)
{
    const struct lapic *lapic = &partition->platform.lapics[0];

    platform_receive(&partition->platform, 0);
    vcpu_events_before_entry(&guest->vcpu);
    fake_check_entry();
    /* SDM vol. 3, "VM-execution control fields": the threshold is not above the TPR. */
    if (vmx_controls_have(&guest->vcpu.controls, VMX_WORD_PRIMARY, VMX_PRIMARY_TPR_SHADOW))
        assert_true(fake_get(VMCS_TPR_THRESHOLD) <= lapic_cr8_read(lapic));
}

/* The guest runs until it exits so. What else it and the exit did, a test says by fake_set before handle().
 */
static inline void run_to_exit(unsigned reason, uint64_t qualification, unsigned length)
{
    prepare_entry();
    fake_set(VMCS_EXIT_REASON, reason);
    fake_set(VMCS_EXIT_QUALIFICATION, qualification);
    fake_set(VMCS_EXIT_INSTRUCTION_LENGTH, length);
    fake_set(VMCS_IDT_VECTORING_INFO, 0);
}

/* What the run loop does with it. */
static inline void handle(void)
{
    assert_int_equal(vcpu_run(&guest->vcpu, 0), VCPU_RAN);
    vcpu_events_after_exit(&guest->vcpu);
    if (fake_get(VMCS_EXIT_REASON) < EXIT_REASON_COUNT)
        exit_handlers[fake_get(VMCS_EXIT_REASON)](guest);
    else
        exit_flagged(guest, (uint32_t)fake_get(VMCS_EXIT_REASON));
}

static inline void take_exit(unsigned reason, uint64_t qualification, unsigned length)
{
    run_to_exit(reason, qualification, length);
    handle();
}

/* What the next entry injects. */
static inline uint32_t next_injection(void)
{
    prepare_entry();
    return fake_injection();
}

/* Everything that an instruction could change. */
struct guest_snapshot {
    uint64_t fields[VMCS_FIELD_COUNT];
    uint64_t registers[VCPU_REGISTERS];
    struct partition_msrs msrs;
    uint64_t apic_base, deadline, cr2, xcr0;
};

static struct guest_snapshot snapshot;

static inline void take_snapshot(struct guest_snapshot *s)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        enum vmcs_class class = vmcs_field_class(vmcs_field_at(i));
        bool of_entry = i == VMCS_INDEX_ENTRY_INTERRUPTION_INFO || i == VMCS_INDEX_ENTRY_EXCEPTION_ERROR_CODE;
        if (class != VMCS_CLASS_INFORMATION && !of_entry)
            s->fields[i] = fake_vmcs.values[i];
    }
    s->fields[VMCS_INDEX_GUEST_RFLAGS] &= ~(uint64_t)X86_RFLAGS_RF;
    memcpy(s->registers, guest->vcpu.registers, sizeof(s->registers));
    s->registers[VCPU_RSP] = 0;                       /* in the VMCS */
    s->fields[VMCS_INDEX_PREEMPTION_TIMER_VALUE] = 0; /* every entry writes it */
    s->msrs = guest->msrs;
    s->apic_base = partition->platform.lapics[0].base;
    s->deadline = partition->platform.lapics[0].deadline;
    s->cr2 = fake_cpu.cr2;
    s->xcr0 = fake_cpu.xcr0;
}

/* The guest gets fault `vector` with `error_code`, and nothing else has changed since `snapshot`. */
static inline void assert_fault(unsigned vector, uint32_t error_code)
{
    struct guest_snapshot now;
    uint32_t information = next_injection();

    assert_int_equal(information & ~(uint32_t)BIT(11), BIT(31) | 3 << 8 | vector);
    if (information & BIT(11))
        assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), error_code);
    take_snapshot(&now);
    if (vector == X86_VECTOR_PF)
        now.cr2 = snapshot.cr2;
    assert_memory_equal(now.fields, snapshot.fields, sizeof(now.fields));
    assert_memory_equal(now.registers, snapshot.registers, sizeof(now.registers));
    assert_memory_equal(&now.msrs, &snapshot.msrs, sizeof(now.msrs));
    assert_memory_equal(&now, &snapshot, sizeof(now));
}

/* The instruction was executed: the guest goes on at `rip`, without an event. */
static inline void assert_done(uint64_t rip)
{
    assert_int_equal(partition->request, PARTITION_REQUEST_NONE);
    assert_int_equal(next_injection(), 0);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), rip);
}

/* The partition ends with a reason that has `text` in it. */
static inline void assert_crashed(const char *text)
{
    assert_int_equal(partition->request, PARTITION_REQUEST_CRASH);
    assert_non_null(strstr(partition->reason, text));
    assert_true(fake_cpu.slice_ends > 0);
}
