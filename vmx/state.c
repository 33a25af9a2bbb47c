// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/state.h"

#include "arch/x86/cpu.h"
#include "arch/x86/cpuid.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/trap.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/policy.h"

#define XSAVE_MXCSR_OFFSET 24
#define XSTATE_BV_OFFSET   512
#define XSAVE_HEADER_END   576

/* IBRS, STIBP, SSBD: what every processor with the register takes. */
#define SPEC_CTRL_COMMON   7ULL
#define MXCSR_RESET        0x1f80
#define FCW_RESET          0x037f /* as FNINIT leaves it */

/* One entry of a VMCS's MSR list (SDM vol. 3, "VM-exit controls for MSRs"). */
struct msr_entry {
    uint32_t index;
    uint32_t reserved;
    uint64_t value;
};

/* The frame that a state's xsave_area points to. */
struct area {
    uint8_t xsave[VCPU_XSAVE_AREA_SIZE - 64];
    struct msr_entry guest_list[1]; /* 16-byte aligned, as lists must be */
    uint8_t reserved[16];
    struct msr_entry host_list[1];
    uint8_t reserved_too[16];
};
_Static_assert(sizeof(struct area) == VCPU_XSAVE_AREA_SIZE, "the area fills its frame");

/* Place in struct vcpu_state's `msrs`. */
#define MSR_PLACE_EFER 7

// clang-format off
#define IN_VMCS(NAME, CLASS)             {.name = NAME, .place = STATE_IN_VMCS, .class = CLASS_##CLASS}
#define MSR_IN_VMCS(NAME, CLASS, FIRST, LAST) \
    {.name = NAME, .place = STATE_IN_VMCS, .class = CLASS_##CLASS, .index = FIRST, .last = LAST}
#define CLEARED(NAME)                    {.name = NAME, .place = STATE_CLEARED, .class = CLASS_USER}
#define SWITCHED(NAME, CLASS, ACCESS, INDEX, MEMBER) \
    .name = NAME, .place = STATE_AT_SWITCH, .class = CLASS_##CLASS, .access = STATE_ACCESS_##ACCESS, \
    .index = INDEX, .offset = offsetof(struct vcpu_state, MEMBER)
#define SWITCHED_MSR(NAME, CLASS, NUMBER, PLACE) \
    SWITCHED(NAME, CLASS, MSR, NUMBER, msrs[PLACE]), .last = NUMBER
#define IF(LEAF, SUBLEAF, REG, BITS)     .leaf = LEAF, .subleaf = SUBLEAF, .reg = CPUID_##REG, .bits = BITS

/*
 * What of the guest's is where (seed 000: the classes; seed 001: the whole of it is switched). The rows of
 * STATE_AT_SWITCH are saved in this order and loaded in the opposite one: XCR0 is known before the extended
 * state is saved under all of its components, and comes back after that was loaded.
 */
static const struct vcpu_state_row rows[] = {
    {.name = "RAX-R15 but RSP", .place = STATE_AT_ENTRY, .class = CLASS_USER},
    IN_VMCS("RIP, RSP, RFLAGS", USER),
    IN_VMCS("CR0, CR4", MODE),
    IN_VMCS("CR3, PDPTEs", STRUCTURE),
    IN_VMCS("CR8, local APIC", USER),
    IN_VMCS("segment registers, LDTR, TR", STRUCTURE),
    IN_VMCS("GDTR", STRUCTURE),
    IN_VMCS("IDTR", VECTOR),
    IN_VMCS("DR7", MODE),
    IN_VMCS("activity, interruptibility, pending debug exceptions", USER),
    MSR_IN_VMCS("TSC", USER, MSR_IA32_TSC, MSR_IA32_TSC),
    MSR_IN_VMCS("IA32_EFER", MODE, MSR_IA32_EFER, MSR_IA32_EFER),
    MSR_IN_VMCS("IA32_PAT", STRUCTURE, MSR_IA32_PAT, MSR_IA32_PAT),
    MSR_IN_VMCS("IA32_DEBUGCTL", MODE, MSR_IA32_DEBUGCTL, MSR_IA32_DEBUGCTL),
    MSR_IN_VMCS("IA32_SYSENTER_CS/ESP/EIP", VECTOR, MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_EIP),
    MSR_IN_VMCS("IA32_FS_BASE/GS_BASE", STRUCTURE, MSR_IA32_FS_BASE, MSR_IA32_GS_BASE),
    {.name = "IA32_SPEC_CTRL", .place = STATE_IN_LISTS, .class = CLASS_USER, .index = MSR_IA32_SPEC_CTRL,
     .last = MSR_IA32_SPEC_CTRL,
     IF(7, 0, EDX, CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_STIBP | CPUID_7_EDX_SSBD)},
    {SWITCHED("CR2", USER, CR2, 0, cr2)},
    {SWITCHED("DR0", STRUCTURE, DR, 0, dr[0])},
    {SWITCHED("DR1", STRUCTURE, DR, 1, dr[1])},
    {SWITCHED("DR2", STRUCTURE, DR, 2, dr[2])},
    {SWITCHED("DR3", STRUCTURE, DR, 3, dr[3])},
    {SWITCHED("DR6", USER, DR6, 0, dr6)},
    {SWITCHED_MSR("IA32_STAR", VECTOR, MSR_IA32_STAR, 0)},
    {SWITCHED_MSR("IA32_LSTAR", VECTOR, MSR_IA32_LSTAR, 1)},
    {SWITCHED_MSR("IA32_CSTAR", VECTOR, MSR_IA32_CSTAR, 2)},
    {SWITCHED_MSR("IA32_FMASK", VECTOR, MSR_IA32_FMASK, 3)},
    {SWITCHED_MSR("IA32_KERNEL_GS_BASE", STRUCTURE, MSR_IA32_KERNEL_GS_BASE, 4)},
    {SWITCHED_MSR("IA32_TSC_AUX", USER, MSR_IA32_TSC_AUX, 5), IF(0x80000001, 0, EDX, CPUID_EXT1_EDX_RDTSCP)},
    {SWITCHED_MSR("IA32_XSS", STRUCTURE, MSR_IA32_XSS, 6), IF(0xd, 1, EAX, CPUID_D1_EAX_XSAVES)},
    {SWITCHED_MSR("IA32_EFER.SCE", MODE, MSR_IA32_EFER, MSR_PLACE_EFER), .without_vmcs = true},
    {SWITCHED("XCR0", STRUCTURE, XCR0, 0, xcr0), IF(1, 0, ECX, CPUID_1_ECX_XSAVE)},
    {SWITCHED("x87, XMM, YMM, ZMM, opmasks, MXCSR, PKRU", USER, EXTENDED, 0, xsave_area)},
    CLEARED("branch predictors, return stack"),
    CLEARED("first-level data cache"),
    CLEARED("fill, load and store buffers"),
};
// clang-format on

/* What this machine's processors have, found out once: CPUID is too dear for every switch. */
static struct {
    uint64_t components; /* that XSAVE switches; 0: there is no XSAVE */
    bool compacts;       /* vcpu_state_compacts */
    uint64_t efer;       /* Umbra's own, without SCE; 0: the VMCS switches it */
    const struct vcpu_state_row *switched[ARRAY_SIZE(rows)];
    unsigned switched_count;
    struct vcpu_barriers barriers;
} machine;

/* Whose vCPU was loaded last. */
PERCPU static uint64_t last_owner;

const struct vcpu_state_row *vcpu_state_rows(size_t *count)
{
    *count = ARRAY_SIZE(rows);
    return rows;
}

uint64_t vcpu_state_components(void)
{
    return machine.components;
}

bool vcpu_state_compacts(void)
{
    return machine.compacts;
}

const struct vcpu_barriers *vcpu_state_barriers(void)
{
    return &machine.barriers;
}

/* Beyond the last leaf of its range CPUID answers with another one. */
static bool has_leaf(uint32_t leaf)
{
    return cpu_cpuid(leaf & (uint32_t)BIT(31), 0).eax >= leaf;
}

static bool announced(const struct vcpu_state_row *row)
{
    struct cpuid_registers r;

    if (row->bits == 0)
        return true;
    if (!has_leaf(row->leaf))
        return false;
    r = cpu_cpuid(row->leaf, row->subleaf);
    return (cpuid_register(&r, (enum cpuid_register)row->reg) & row->bits) != 0;
}

/* An MSR that CPUID announces and RDMSR refuses (an emulator's) is none. */
static bool exists(const struct vcpu_state_row *row)
{
    uint64_t value;

    return announced(row) && (!row->without_vmcs || machine.efer != 0) &&
           (row->access != STATE_ACCESS_MSR || trap_rdmsr_safe(row->index, &value));
}

static struct vcpu_barriers probe_barriers(void)
{
    const uint32_t speculation =
        CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_STIBP | CPUID_7_EDX_SSBD | CPUID_7_EDX_L1D_FLUSH;
    struct vcpu_barrier_facts facts = {0};
    uint64_t value;

    if (has_leaf(7)) {
        struct cpuid_registers r = cpu_cpuid(7, 0);

        facts.leaf_7_ebx = r.ebx;
        facts.leaf_7_edx = r.edx;
        facts.leaf_7_2_edx = r.eax >= 2 ? cpu_cpuid(7, 2).edx : 0;
        /* The commands cannot be read; they come with the register that can. */
        if ((r.edx & speculation) != 0 && !trap_rdmsr_safe(MSR_IA32_SPEC_CTRL, &value))
            facts.leaf_7_edx &= ~speculation;
        if ((r.edx & CPUID_7_EDX_ARCH_CAPABILITIES) != 0 &&
            trap_rdmsr_safe(MSR_IA32_ARCH_CAPABILITIES, &value))
            facts.arch_capabilities = value;
    }
    /* Logical processors of a core: the level of threads is subleaf 0. */
    if (has_leaf(0xb))
        facts.threads = cpu_cpuid(0xb, 0).ebx & 0xffff;
    return vcpu_barriers_decide(&facts);
}

/* CPUID.0DH.`subleaf`:EBX with `components` in XCR0 and none in IA32_XSS: bytes that an image of them takes.
 */
static uint32_t image_size(uint64_t components, uint32_t subleaf)
{
    const uint64_t xcr0 = cpu_xgetbv(0);
    uint32_t size;

    cpu_xsetbv(0, components);
    size = cpu_cpuid(0xd, subleaf).ebx;
    cpu_xsetbv(0, xcr0);
    return size;
}

/* What XSAVE switches, if that goes into the area (SDM vol. 1, 13.4.2); else nothing of it. */
static uint64_t probe_components(void)
{
    uint64_t components;

    if ((cpu_cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE) == 0)
        return 0;
    components = cpu_xcr0_supported() & VCPU_STATE_COMPONENTS;
    return image_size(components, 0) <= sizeof(((struct area *)0)->xsave) ? components : 0;
}

/* SDM vol. 1, 13.4.3. */
static bool probe_compaction(uint64_t components)
{
    uint32_t size = XSAVE_HEADER_END;

    if (components == 0)
        return false;
    for (unsigned i = 2; i < 64; i++) {
        struct cpuid_registers leaf;

        if ((components & BIT(i)) == 0)
            continue;
        leaf = cpu_cpuid(0xd, i);
        if ((leaf.ecx & CPUID_D_ECX_ALIGNED) != 0)
            size = (uint32_t)align_up(size, 64);
        size += leaf.eax;
    }
    return image_size(components, 1) == size;
}

void vcpu_state_probe(bool efer_in_vmcs)
{
    machine.components = probe_components();
    machine.compacts = probe_compaction(machine.components);
    machine.efer = efer_in_vmcs ? 0 : cpu_rdmsr(MSR_IA32_EFER) & ~X86_EFER_SCE;
    machine.barriers = probe_barriers();
    machine.switched_count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].place == STATE_AT_SWITCH && exists(&rows[i]))
            machine.switched[machine.switched_count++] = &rows[i];
}

void vcpu_state_reset(struct vcpu_state *state)
{
    struct area *area = state->xsave_area;
    uint16_t fcw = FCW_RESET;
    uint32_t mxcsr = MXCSR_RESET;
    uint64_t components = X86_XCR0_X87 | X86_XCR0_SSE;

    *state = (struct vcpu_state){
        .xsave_area = area, .owner = state->owner, .dr6 = X86_DR6_INIT, .xcr0 = X86_XCR0_X87};
    state->msrs[MSR_PLACE_EFER] = machine.efer;
    memset(area, 0, sizeof(*area));
    memcpy(area->xsave, &fcw, sizeof(fcw));
    memcpy(area->xsave + XSAVE_MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
    /* x87 and SSE are there, all else is in its initial configuration. */
    memcpy(area->xsave + XSTATE_BV_OFFSET, &components, sizeof(components));
    area->guest_list[0] = (struct msr_entry){.index = MSR_IA32_SPEC_CTRL};
    area->host_list[0] =
        (struct msr_entry){.index = MSR_IA32_SPEC_CTRL, .value = machine.barriers.host_spec_ctrl};
}

struct vcpu_msr_lists vcpu_state_msr_lists(const struct vcpu_state *state)
{
    const struct area *area = state->xsave_area;

    return (struct vcpu_msr_lists){
        .guest = physmap_address(area->guest_list),
        .host = physmap_address(area->host_list),
        .count = machine.barriers.spec_ctrl ? 1 : 0,
    };
}

/*
 * Everything that the guest may have touched under an earlier XCR0 is switched, not only what is enabled now;
 * the row of XCR0 puts that back.
 */
static void save_extended(void *area)
{
    cpu_clear_ts();
    if (machine.components == 0) {
        cpu_fxsave(area);
        return;
    }
    cpu_xsetbv(0, machine.components);
    cpu_xsave(area);
}

static void load_extended(const void *area)
{
    cpu_clear_ts();
    if (machine.components == 0) {
        cpu_fxrstor(area);
        return;
    }
    cpu_xsetbv(0, machine.components);
    cpu_xrstor(area);
}

static uint64_t read_dr(unsigned number)
{
    switch (number) {
    case 0:
        return cpu_read_dr0();
    case 1:
        return cpu_read_dr1();
    case 2:
        return cpu_read_dr2();
    default:
        return cpu_read_dr3();
    }
}

static void write_dr(unsigned number, uint64_t value)
{
    switch (number) {
    case 0:
        cpu_write_dr0(value);
        break;
    case 1:
        cpu_write_dr1(value);
        break;
    case 2:
        cpu_write_dr2(value);
        break;
    default:
        cpu_write_dr3(value);
        break;
    }
}

static void save(const struct vcpu_state_row *row, struct vcpu_state *state)
{
    uint64_t *value = (void *)((char *)state + row->offset);

    switch ((enum vcpu_state_access)row->access) {
    case STATE_ACCESS_CR2:
        *value = cpu_read_cr2();
        return;
    case STATE_ACCESS_DR:
        *value = read_dr(row->index);
        return;
    case STATE_ACCESS_DR6:
        *value = cpu_read_dr6();
        return;
    case STATE_ACCESS_MSR:
        *value = cpu_rdmsr(row->index);
        return;
    case STATE_ACCESS_XCR0:
        *value = cpu_xgetbv(0);
        return;
    case STATE_ACCESS_EXTENDED:
        save_extended(state->xsave_area);
        return;
    case STATE_ACCESS_NONE:
        break;
    }
    panic("%s is not switched by software", row->name);
}

static void load(const struct vcpu_state_row *row, const struct vcpu_state *state)
{
    const uint64_t *value = (const void *)((const char *)state + row->offset);

    switch ((enum vcpu_state_access)row->access) {
    case STATE_ACCESS_CR2:
        cpu_write_cr2(*value);
        return;
    case STATE_ACCESS_DR:
        write_dr(row->index, *value);
        return;
    case STATE_ACCESS_DR6:
        cpu_write_dr6(*value);
        return;
    case STATE_ACCESS_MSR:
        cpu_wrmsr(row->index, *value);
        return;
    case STATE_ACCESS_XCR0:
        cpu_xsetbv(0, *value);
        return;
    case STATE_ACCESS_EXTENDED:
        load_extended(state->xsave_area);
        return;
    case STATE_ACCESS_NONE:
        break;
    }
    panic("%s is not switched by software", row->name);
}

void vcpu_state_save(struct vcpu_state *state)
{
    for (unsigned i = 0; i < machine.switched_count; i++)
        save(machine.switched[i], state);
}

bool vcpu_state_write_spec_ctrl(struct vcpu_state *state, uint64_t value)
{
    struct area *area = state->xsave_area;

    if (!machine.barriers.spec_ctrl || (value & ~SPEC_CTRL_COMMON) != 0)
        return false;
    area->guest_list[0].value = value;
    return true;
}

bool vcpu_state_read_spec_ctrl(const struct vcpu_state *state, uint64_t *value)
{
    const struct area *area = state->xsave_area;

    *value = area->guest_list[0].value;
    return machine.barriers.spec_ctrl;
}

void vcpu_state_write_efer(uint64_t efer)
{
    cpu_wrmsr(MSR_IA32_EFER, machine.efer | (efer & X86_EFER_SCE));
}

/* Makes the processor forget what the former owner's vCPUs taught it and left in its caches. */
static void clear_traces(void)
{
    if (machine.barriers.predictors) {
        cpu_wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
        vcpu_fill_return_stack();
    }
    if (machine.barriers.cache)
        cpu_wrmsr(MSR_IA32_FLUSH_CMD, FLUSH_CMD_L1D);
}

void vcpu_state_load(const struct vcpu_state *state)
{
    for (unsigned i = machine.switched_count; i-- > 0;)
        load(machine.switched[i], state);
    if (state->owner == 0 || state->owner != this_cpu(last_owner)) {
        clear_traces();
        this_cpu(last_owner) = state->owner;
    }
}
