// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A vCPU of a recorded Skylake-X with its VMCS01, a VMCS12 that may be entered, and the VMCS02 of both, under
 * each instance of the policy. Include after <cmocka.h>, in one file of a program.
 */
#include <string.h>

#include "arch/x86/descriptor.h"
#include "arch/x86/percpu.h"
#include "nested/merge.h"
#include "tests/unit/fake_vmcs.h"
#include "tests/unit/flat_memory.h"
#include "tests/unit/processors.h"
#include "vmx/barriers.h"
#include "vmx/policy_msr.h"

/* ---- The processor ------------------------------------------------------------------------------------- */

uint64_t percpu_offset;

/* Only host state is made of these. */
uint64_t cpu_rdmsr(uint32_t msr)
{
    return 0xabc000 + msr;
}

uint64_t cpu_read_cr0(void)
{
    return 0x80010031;
}

uint64_t cpu_read_cr3(void)
{
    return 0x7000;
}

uint64_t cpu_read_cr4(void)
{
    return 0x2020;
}

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

void cpu_write_cr2(uint64_t value)
{
    (void)value;
}

void cpu_write_dr0(uint64_t value)
{
    (void)value;
}

void cpu_write_dr1(uint64_t value)
{
    (void)value;
}

void cpu_write_dr2(uint64_t value)
{
    (void)value;
}

void cpu_write_dr3(uint64_t value)
{
    (void)value;
}

void cpu_write_dr6(uint64_t value)
{
    (void)value;
}

void vcpu_state_reset(struct vcpu_state *state)
{
    (void)state;
}

void vcpu_state_save(struct vcpu_state *state)
{
    (void)state;
}

void vcpu_state_load(const struct vcpu_state *state)
{
    (void)state;
}

void vcpu_state_write_efer(uint64_t efer)
{
    (void)efer;
    fail();
}

const struct vcpu_barriers *vcpu_state_barriers(void)
{
    static const struct vcpu_barriers none;

    return &none;
}

struct vcpu_msr_lists vcpu_state_msr_lists(const struct vcpu_state *state)
{
    (void)state;
    return (struct vcpu_msr_lists){.guest = HPA(0x9000), .host = HPA(0xa000), .count = 1};
}

const char vcpu_exit[1], vcpu_exit_filling[1];

unsigned vcpu_enter_clearing(struct vcpu *vcpu, bool launched)
{
    (void)vcpu, (void)launched;
    fail();
    return 1;
}

/* ---- Lv0 and Lv1 --------------------------------------------------------------------------------------- */

#define LV1_TSC_OFFSET 0x1000000
#define LV1_APIC_PAGE  0xfee1000
#define LV1_VIRTUAL    0xfee2000
#define VPID_LV2       9

/* Pages of Lv1's memory, and one that is not there. */
#define PAGE_APIC      0x1000
#define PAGE_ACCESS    0x2000
#define PAGE_BITMAP    0x3000
#define PAGE_LIST      0x4000
#define PAGE_PDPT      0x5020
#define NOWHERE        FLAT_MEMORY_SIZE

static struct vmx_capabilities hardware;
static struct register_policy registers;
static struct nested_policy policy;
static struct nested_vcpu n;
static struct vcpu vcpu01;
static struct nested_merge_input input;
static uint64_t kept_pdptes[4]; /* Lv2's, in the shadow regime */
static struct nested_merge_entry entry;
static uint8_t frames[4][PAGE_SIZE] __aligned(PAGE_SIZE); /* VMCS01, VMCS02, Umbra's bitmap, VMCS02's */
static unsigned list_writes;
static uint32_t refused_msr;

static bool write_msr(void *context, uint32_t index, uint64_t value)
{
    (void)context, (void)value;
    list_writes++;
    return index != refused_msr;
}

static const struct nested_ops nested_ops = {.write_msr = write_msr};

static int no_interrupt(void *context)
{
    (void)context;
    return -1;
}

static uint8_t no_threshold(void *context)
{
    (void)context;
    return nested_merge_tpr_threshold(&n, 0);
}

static const struct vcpu_interrupt_ops interrupt_ops = {no_interrupt, no_interrupt, no_threshold};

static inline uint64_t get12(struct vmcs_field field)
{
    return vmcs12_read(&n.vmcs12, field);
}

static void set12(struct vmcs_field field, uint64_t value)
{
    vmcs12_write(&n.vmcs12, field, value);
}

static inline void add12(struct vmcs_field field, uint64_t bits)
{
    set12(field, get12(field) | bits);
}

static inline void drop12(struct vmcs_field field, uint64_t bits)
{
    set12(field, get12(field) & ~bits);
}

static void set_segment(unsigned segment, uint64_t selector, uint64_t limit, uint64_t rights)
{
    set12(vmcs_field_at(VMCS_INDEX_GUEST_ES_SELECTOR + segment), selector);
    set12(vmcs_field_at(VMCS_INDEX_GUEST_ES_LIMIT + segment), limit);
    set12(vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + segment), rights);
}

/* A VMCS12 that may be entered: Lv2 in 64-bit mode, of an Lv1 that uses as little as it can. */
static void good_vmcs12(void)
{
    const struct vmx_capabilities *offered = &policy.capabilities.offered;
    const struct {
        struct vmcs_field field;
        uint64_t value;
    } values[] = {
        {VMCS_PIN_CONTROLS, vmx_controls_must(offered, VMX_WORD_PIN)},
        {VMCS_PRIMARY_CONTROLS, vmx_controls_must(offered, VMX_WORD_PRIMARY)},
        {VMCS_EXIT_CONTROLS, vmx_controls_must(offered, VMX_WORD_EXIT) | VMX_EXIT_HOST_64},
        {VMCS_ENTRY_CONTROLS, vmx_controls_must(offered, VMX_WORD_ENTRY) | VMX_ENTRY_IA32E_GUEST},
        {VMCS_HOST_CR0, 0x80000031},
        {VMCS_HOST_CR4, X86_CR4_VMXE | X86_CR4_PAE},
        {VMCS_HOST_CS_SELECTOR, 8},
        {VMCS_HOST_TR_SELECTOR, 16},
        {VMCS_GUEST_CR0, 0x80000031},
        {VMCS_GUEST_CR3, 0x8000},
        {VMCS_GUEST_CR4, X86_CR4_VMXE | X86_CR4_PAE},
        {VMCS_GUEST_DR7, 0x400},
        {VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF},
        {VMCS_GUEST_RIP, 0x1234},
        {VMCS_GUEST_RSP, 0x5678},
        {VMCS_VMCS_LINK_POINTER, UINT64_MAX},
    };

    memset(&n.vmcs12, 0, sizeof(n.vmcs12));
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        set12(vmcs_field_at(i), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
        set12(values[i].field, values[i].value);
    for (unsigned segment = 0; segment < 6; segment++)
        set_segment(segment, 16, UINT32_MAX, 0xc093);
    set_segment(1, 8, UINT32_MAX, 0xa09b);
    set_segment(6, 0, 0, 0x10000);
    set_segment(7, 24, 0x67, 0x8b);
}

static void init_vcpu(struct vcpu *vcpu, enum vcpu_regime regime, const struct vmx_controls *controls,
                      void *frame, struct vcpu *beside)
{
    const struct vcpu_settings settings = {
        .capabilities = &hardware,
        .controls = {controls, controls},
        .policy = {&registers, &registers},
        .msr_bitmap = {physmap_address(frames[2]), physmap_address(frames[2])},
        .regime = regime,
        .root = HPA(0x11000),
        .interrupt_ops = &interrupt_ops,
        .vmcs = physmap_address(frame),
        .virtual_apic = HPA(LV1_VIRTUAL),
        .vpid = 1,
        .owner = 1,
        .beside = beside,
    };

    assert_int_equal(vcpu_init(vcpu, &settings), 0);
}

static void set_up(enum cr_instance instance, bool intercept_tpr)
{
    static const struct vmx_msr_ops msr_ops = {processor_rdmsr, processor_cpuid};
    const enum vcpu_regime regime = instance == CR_INSTANCE_SHADOW ? VCPU_REGIME_SHADOW : VCPU_REGIME_EPT;
    const struct register_policy_settings settings = {
        .instance = instance,
        .overrides.tpr = intercept_tpr,
        .cr0_fixed0 = 0x80000021,
        .cr0_fixed1 = 0xffffffff,
        .cr4_fixed0 = X86_CR4_VMXE,
        .cr4_fixed1 = 0x3727ff,
        .cr4_offered = 0x3727ff,
        .efer_offered = X86_EFER_SCE | X86_EFER_LME | X86_EFER_NXE,
    };
    struct vmx_demands demands = {.words[VMX_WORD_SECONDARY] = VMX_SECONDARY_PAUSE_LOOP_EXITING};
    struct vmx_controls controls;

    vcpu_unload_current();
    memset(&fake_vmcs, 0, sizeof(fake_vmcs));
    memset(&fake_beside, 0, sizeof(fake_beside));
    memset(&n, 0, sizeof(n));
    memset(&entry, 0, sizeof(entry));
    flat_memory_reset();
    list_writes = 0;
    refused_msr = UINT32_MAX;
    processor = &processors[SKYLAKE_X];
    vmx_capabilities_read(&hardware, &msr_ops);
    fake_vmcs.processor = &hardware;
    assert_int_equal(policy_cr_derive(&registers, &settings, NULL), 0);
    policy_register_demand(&registers, &demands);
    assert_int_equal(vmx_controls_compute(&controls, &hardware, &demands, NULL), 0);

    const struct nested_capabilities_settings offer = {
        .hardware = &hardware,
        .ept = true,
        .unrestricted_guest = instance == CR_INSTANCE_UNRESTRICTED,
        .vpid = true,
        .rdtscp = true,
        .invpcid = true,
        .xsaves = true,
        .cr4 = 0x3727ff,
    };
    policy = (struct nested_policy){
        .hardware = &hardware, .registers = &registers, .physical_bits = 36, .linear_bits = 48};
    nested_capabilities_derive(&policy.capabilities, &offer);

    n.policy = &policy;
    n.ops = &nested_ops;
    n.memory = &flat_memory_chain;
    n.vcpu01 = &vcpu01;
    n.mode = NESTED_ROOT;
    n.current = 0x6000;
    policy_msr_bitmap(frames[2], UINT32_MAX, regime);
    memset(frames[3], 0xff, PAGE_SIZE);
    init_vcpu(&vcpu01, regime, &controls, frames[0], NULL);
    fake_beside.vmcs = physmap_address(frames[1]).value;
    init_vcpu(&n.vcpu02, regime, &controls, frames[1], &vcpu01);
    vcpu_load(&vcpu01);

    /* Lv1, in 64-bit mode. */
    const struct cr_state lv1 = {.cr0 = 0xc0000031, /* with CD */
                                 .cr3 = 0x1000,
                                 .cr4 = X86_CR4_PAE | X86_CR4_VMXE,
                                 .efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE};
    vcpu_write_control_state(&vcpu01, &lv1);
    vcpu_write_pat(&vcpu01, 0x0606060606060606);
    vcpu_write(&vcpu01, VMCS_GUEST_DR7, 0x455);
    vcpu_write(&vcpu01, VMCS_GUEST_DEBUGCTL, DEBUGCTL_BTF);
    vcpu_write(&vcpu01, VMCS_TSC_OFFSET, LV1_TSC_OFFSET);
    for (unsigned i = 0; i < VCPU_REGISTERS; i++)
        vcpu01.registers[i] = 100 + i;
    good_vmcs12();
    input = (struct nested_merge_input){HPA(0x22000), VPID_LV2, physmap_address(frames[3]), kept_pdptes};
}

static int setup(void **state)
{
    (void)state;
    set_up(CR_INSTANCE_UNRESTRICTED, false);
    return 0;
}

static inline uint64_t get02(struct vmcs_field field)
{
    assert_int_equal(fake_beside.current, n.vcpu02.vmcs.value);
    return fake_get(field);
}
