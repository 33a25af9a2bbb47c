// SPDX-License-Identifier: BSD-2-Clause
/*
 * vmx/state.c with registers that are variables here, and vmx/barriers.c on several processors. What makes
 * each test fail stands at the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The table itself is under test: each of its rows is taken out in turn. */
#include "vmx/state.c"

#include "tests/unit/processors.h"
#include "vmx/policy_msr.h"

/* ---- The processor ------------------------------------------------------------------------------------ */

#define FAKE_MSRS   16
#define FXSAVE_SIZE 512
#define COMPONENTS  10 /* up to PKRU */
#define HOST_EFER   (X86_EFER_NXE | X86_EFER_LME | X86_EFER_LMA)

struct fake_msr {
    uint32_t number;
    uint64_t value;
};

static struct {
    uint64_t cr2, dr[4], dr6, xcr0;
    struct fake_msr msrs[FAKE_MSRS];
    unsigned msr_count;
    uint8_t extended[VCPU_XSAVE_AREA_SIZE - 64]; /* without the header */
    bool ts;
    unsigned barriers, fills, flushes;
    bool refuses_spec_ctrl;
    uint64_t arch_capabilities;
} cpu;

static struct cpuid_registers changed_leaf_7;
static uint64_t all_components = 0xe7;
static uint32_t standard, compacted; /* CPUID.0DH.0:EBX and .1:EBX with them in XCR0; 0: as recorded */

uint64_t percpu_offset;

struct cpuid_registers cpu_cpuid(uint32_t leaf, uint32_t subleaf)
{
    if (leaf == 7 && subleaf == 0 && changed_leaf_7.edx != 0)
        return changed_leaf_7;
    /* Not recorded: two threads a core, BHI_DIS_S. */
    if (leaf == 0xb)
        return (struct cpuid_registers){.ebx = 2};
    if (leaf == 7 && subleaf == 2)
        return (struct cpuid_registers){.edx = 0x10};
    if (leaf == 0xd && subleaf == 1)
        return (struct cpuid_registers){.eax = 0xf, .ebx = cpu.xcr0 == all_components ? compacted : 0x240};
    if (leaf == 0xd && subleaf == 0 && cpu.xcr0 == all_components && standard != 0) {
        struct cpuid_registers r = processor_cpuid(leaf, subleaf);

        r.ebx = standard;
        return r;
    }
    return processor_cpuid(leaf, subleaf);
}

static uint64_t *msr_find(uint32_t number)
{
    for (unsigned i = 0; i < cpu.msr_count; i++)
        if (cpu.msrs[i].number == number)
            return &cpu.msrs[i].value;
    return NULL;
}

uint64_t cpu_rdmsr(uint32_t number)
{
    assert_non_null(msr_find(number));
    return *msr_find(number);
}

void cpu_wrmsr(uint32_t number, uint64_t value)
{
    if (number == MSR_IA32_PRED_CMD) {
        assert_int_equal(value, 1);
        cpu.barriers++;
    } else if (number == MSR_IA32_FLUSH_CMD) {
        assert_int_equal(value, 1);
        cpu.flushes++;
    } else {
        assert_non_null(msr_find(number));
        *msr_find(number) = value;
    }
}

bool trap_rdmsr_safe(uint32_t number, uint64_t *value)
{
    if (number == MSR_IA32_ARCH_CAPABILITIES) {
        *value = cpu.arch_capabilities;
        return true;
    }
    if (number == MSR_IA32_SPEC_CTRL) {
        *value = 0;
        return !cpu.refuses_spec_ctrl;
    }
    if (msr_find(number) != NULL)
        *value = *msr_find(number);
    return msr_find(number) != NULL;
}

void vcpu_fill_return_stack(void)
{
    cpu.fills++;
}

unsigned vcpu_enter(struct vcpu *vcpu, bool launched)
{
    (void)vcpu, (void)launched;
    return 0;
}

unsigned vcpu_enter_clearing(struct vcpu *vcpu, bool launched)
{
    (void)vcpu, (void)launched;
    return 1;
}

const char vcpu_exit[1], vcpu_exit_filling[1];

uint64_t cpu_read_cr2(void)
{
    return cpu.cr2;
}

void cpu_write_cr2(uint64_t value)
{
    cpu.cr2 = value;
}

#define DEBUG_REGISTER(n)                                                                                    \
    uint64_t cpu_read_dr##n(void)                                                                            \
    {                                                                                                        \
        return cpu.dr[n];                                                                                    \
    }                                                                                                        \
    void cpu_write_dr##n(uint64_t value)                                                                     \
    {                                                                                                        \
        cpu.dr[n] = value;                                                                                   \
    }
DEBUG_REGISTER(0)
DEBUG_REGISTER(1)
DEBUG_REGISTER(2)
DEBUG_REGISTER(3)

uint64_t cpu_read_dr6(void)
{
    return cpu.dr6;
}

void cpu_write_dr6(uint64_t value)
{
    cpu.dr6 = value;
}

uint64_t cpu_xgetbv(uint32_t index)
{
    assert_int_equal(index, 0);
    return cpu.xcr0;
}

void cpu_xsetbv(uint32_t index, uint64_t value)
{
    assert_int_equal(index, 0);
    assert_true(value & X86_XCR0_X87);
    cpu.xcr0 = value;
}

void cpu_clear_ts(void)
{
    cpu.ts = false;
}

void cpu_fxsave(void *area)
{
    assert_false(cpu.ts);
    memcpy(area, cpu.extended, FXSAVE_SIZE);
}

void cpu_fxrstor(const void *area)
{
    assert_false(cpu.ts);
    memcpy(cpu.extended, area, FXSAVE_SIZE);
}

/* Where a component lies in the standard format (SDM vol. 1, "Managing state using XSAVE", CPUID 0DH). */
static void component_place(unsigned component, size_t *offset, size_t *size)
{
    struct cpuid_registers r;

    *offset = component == 0 ? 0 : 160;
    *size = component == 0 ? 160 : FXSAVE_SIZE - 160;
    if (component < 2)
        return;
    r = processor_cpuid(0xd, component);
    *offset = r.ebx;
    *size = r.eax;
}

void cpu_xsave(void *area)
{
    uint8_t *bytes = area;

    assert_false(cpu.ts);
    for (unsigned i = 0; i < COMPONENTS; i++) {
        size_t offset, size;
        if ((cpu.xcr0 & BIT(i)) == 0)
            continue;
        component_place(i, &offset, &size);
        assert_true(offset + size <= sizeof(cpu.extended));
        memcpy(bytes + offset, cpu.extended + offset, size);
        bytes[FXSAVE_SIZE + i / 8] |= (uint8_t)BIT(i % 8);
    }
}

void cpu_xrstor(const void *area)
{
    const uint8_t *bytes = area;

    assert_false(cpu.ts);
    for (unsigned i = 0; i < COMPONENTS; i++) {
        size_t offset, size;
        if ((cpu.xcr0 & BIT(i)) == 0)
            continue;
        component_place(i, &offset, &size);
        if (bytes[FXSAVE_SIZE + i / 8] & BIT(i % 8))
            memcpy(cpu.extended + offset, bytes + offset, size);
        else
            memset(cpu.extended + offset, 0, size);
    }
}

__noreturn void panic_at(const char *file, int line, const char *format, ...)
{
    (void)format;
    print_error("panic at %s:%d\n", file, line);
    abort();
}

/* ---- What a guest leaves in it ------------------------------------------------------------------------ */

/* The MSRs that a guest of this machine reaches and that live in the processor. */
static const uint32_t guest_msrs[] = {
    MSR_IA32_STAR,           MSR_IA32_LSTAR,   MSR_IA32_CSTAR, MSR_IA32_FMASK,
    MSR_IA32_KERNEL_GS_BASE, MSR_IA32_TSC_AUX, MSR_IA32_XSS,
};

static struct vcpu_state states[2];

/* `efer`: IA32_EFER is among what is switched here, which then begins as Umbra's. */
static void machine_begin_with(unsigned recorded, bool efer)
{
    memset(&cpu, 0, sizeof(cpu));
    cpu.xcr0 = X86_XCR0_X87;
    memset(&changed_leaf_7, 0, sizeof(changed_leaf_7));
    processor = &processors[recorded];
    for (size_t i = 0; i < ARRAY_SIZE(guest_msrs); i++)
        cpu.msrs[cpu.msr_count++].number = guest_msrs[i];
    if (efer)
        cpu.msrs[cpu.msr_count++] = (struct fake_msr){MSR_IA32_EFER, HOST_EFER};
    last_owner = 0;
    vcpu_state_probe(!efer);
    for (unsigned i = 0; i < 2; i++) {
        if (states[i].xsave_area == NULL)
            states[i].xsave_area = aligned_alloc(PAGE_SIZE, VCPU_XSAVE_AREA_SIZE);
        assert_non_null(states[i].xsave_area);
        states[i].owner = i + 1;
        vcpu_state_reset(&states[i]);
    }
}

static void machine_begin(unsigned recorded)
{
    machine_begin_with(recorded, false);
}

/* The value that vCPU `who` leaves in register `what` on its `turn`th turn. */
static uint64_t pattern(unsigned who, unsigned turn, unsigned what)
{
    return (who + 1) * 0x0101010101010101ULL ^ (uint64_t)turn << 40 ^ (uint64_t)what * 0x9e3779b97f4a7c15ULL;
}

static bool has_row(const char *name)
{
    for (unsigned i = 0; i < machine.switched_count; i++)
        if (strcmp(machine.switched[i]->name, name) == 0)
            return true;
    return false;
}

static uint64_t guest_xcr0(unsigned who, unsigned turn)
{
    static const uint64_t values[] = {X86_XCR0_X87, X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX,
                                      X86_XCR0_X87 | X86_XCR0_SSE};

    return values[(who + turn) % 3];
}

/* Bytes of extended state that the machine switches, by its components. */
static bool extended_exists(size_t byte)
{
    if (machine.components == 0)
        return byte < FXSAVE_SIZE;
    for (unsigned i = 0; i < COMPONENTS; i++) {
        size_t offset, size;
        if ((machine.components & BIT(i)) == 0)
            continue;
        component_place(i, &offset, &size);
        if (byte >= offset && byte < offset + size)
            return true;
    }
    return false;
}

static void guest_fill(unsigned who, unsigned turn)
{
    unsigned what = 0;

    cpu.cr2 = pattern(who, turn, what++);
    for (unsigned i = 0; i < 4; i++)
        cpu.dr[i] = pattern(who, turn, what++);
    cpu.dr6 = pattern(who, turn, what++);
    for (unsigned i = 0; i < cpu.msr_count; i++)
        cpu.msrs[i].value = pattern(who, turn, what++);
    if (machine.components != 0)
        cpu.xcr0 = guest_xcr0(who, turn);
    for (size_t i = 0; i < sizeof(cpu.extended); i++)
        if (extended_exists(i))
            cpu.extended[i] = (uint8_t)(pattern(who, turn, what + (unsigned)i) >> 16);
    cpu.ts = true;
}

/* Whether everything is as that vCPU left it. */
static bool guest_verify(unsigned who, unsigned turn)
{
    unsigned what = 0;
    bool same = cpu.cr2 == pattern(who, turn, what++);

    for (unsigned i = 0; i < 4; i++)
        same &= cpu.dr[i] == pattern(who, turn, what++);
    same &= cpu.dr6 == pattern(who, turn, what++);
    for (unsigned i = 0; i < cpu.msr_count; i++)
        same &= cpu.msrs[i].value == pattern(who, turn, what++);
    if (machine.components != 0)
        same &= cpu.xcr0 == guest_xcr0(who, turn);
    for (size_t i = 0; i < sizeof(cpu.extended); i++)
        if (extended_exists(i))
            same &= cpu.extended[i] == (uint8_t)(pattern(who, turn, what + (unsigned)i) >> 16);
    return same;
}

/* Two vCPUs by turns: true if each always finds what it left. */
static bool guests_survive(unsigned turns)
{
    bool same = true;

    for (unsigned turn = 0; turn < turns; turn++) {
        for (unsigned who = 0; who < 2; who++) {
            vcpu_state_load(&states[who]);
            if (turn != 0)
                same &= guest_verify(who, turn - 1);
            guest_fill(who, turn);
            vcpu_state_save(&states[who]);
        }
    }
    return same;
}

/* ---- The switch --------------------------------------------------------------------------------------- */

/* Fails when a register is not saved, not restored, or restored in the wrong order. */
static void all_is_switched(void **state)
{
    (void)state;
    machine_begin(SKYLAKE_X);
    assert_int_equal(machine.components, 0xe7);
    assert_int_equal(machine.switched_count, 15);
    assert_true(guests_survive(50));
}

/*
 * A processor with protection keys: PKRU is a component that XCR0 need not cover. Fails when one guest finds
 * another's, and when a processor is trusted that would have XSAVE write behind the area.
 */
static void keys_are_switched(void **state)
{
    (void)state;
    machine_begin(TIGER_LAKE);
    assert_int_equal(vcpu_state_components(), 0x2e7);
    assert_true(guests_survive(50));
    all_components = 0x2e7;
    standard = sizeof(((struct area *)0)->xsave);
    machine_begin(TIGER_LAKE);
    assert_int_equal(vcpu_state_components(), 0x2e7);
    standard++;
    machine_begin(TIGER_LAKE);
    assert_int_equal(vcpu_state_components(), 0);
    standard = 0;
    all_components = 0xe7;
}

/* A processor without XSAVE: fails when XSETBV is used, or FXSAVE is not. */
static void without_xsave(void **state)
{
    (void)state;
    machine_begin(LYNNFIELD);
    assert_int_equal(machine.components, 0);
    assert_false(has_row("XCR0"));
    assert_false(has_row("IA32_XSS"));
    cpu.msr_count--; /* IA32_XSS */
    assert_true(guests_survive(10));
}

/*
 * A processor whose VMCSs do not switch IA32_EFER: SCE is each guest's own, and all else of it stays Umbra's.
 * Fails when the row is forgotten, when a guest begins with another's SCE, and when a register that the VMCS
 * switches is touched on a processor where it does.
 */
static void efer_by_software(void **state)
{
    (void)state;
    machine_begin_with(PENRYN, true);
    assert_true(has_row("IA32_EFER.SCE"));
    vcpu_state_load(&states[0]);
    assert_int_equal(cpu_rdmsr(MSR_IA32_EFER), HOST_EFER);
    vcpu_state_write_efer(X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA);
    assert_int_equal(cpu_rdmsr(MSR_IA32_EFER), HOST_EFER | X86_EFER_SCE);
    vcpu_state_save(&states[0]);
    vcpu_state_load(&states[1]);
    assert_int_equal(cpu_rdmsr(MSR_IA32_EFER), HOST_EFER);
    vcpu_state_save(&states[1]);
    vcpu_state_load(&states[0]);
    assert_int_equal(cpu_rdmsr(MSR_IA32_EFER), HOST_EFER | X86_EFER_SCE);
    vcpu_state_write_efer(0);
    assert_int_equal(cpu_rdmsr(MSR_IA32_EFER), HOST_EFER);
    vcpu_state_write_efer(X86_EFER_SCE);
    vcpu_state_reset(&states[0]);
    vcpu_state_load(&states[0]);
    assert_int_equal(cpu_rdmsr(MSR_IA32_EFER), HOST_EFER);

    machine_begin_with(SKYLAKE_X, true);
    vcpu_state_probe(true);
    assert_false(has_row("IA32_EFER.SCE"));
}

/* Fails when a row of the table could be left out without the test above noticing. */
static void every_row_counts(void **state)
{
    (void)state;
    machine_begin(SKYLAKE_X);
    for (unsigned i = 0, count = machine.switched_count; i < count; i++) {
        machine_begin(SKYLAKE_X);
        memmove(&machine.switched[i], &machine.switched[i + 1],
                (count - i - 1) * sizeof(machine.switched[0]));
        machine.switched_count--;
        assert_false(guests_survive(3));
    }
}

/* After the load of a vCPU at reset nothing is left of the one before. Fails when any byte is. */
static void nothing_remains(void **state)
{
    (void)state;
    for (unsigned recorded = 0; recorded < 3; recorded++) {
        machine_begin(recorded == 2 ? TIGER_LAKE : recorded == 1 ? SKYLAKE_X : LYNNFIELD);
        vcpu_state_load(&states[0]);
        guest_fill(0, 7);
        vcpu_state_save(&states[0]);
        vcpu_state_load(&states[1]);

        assert_int_equal(cpu.cr2, 0);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(cpu.dr[i], 0);
        assert_int_equal(cpu.dr6, 0xffff0ff0);
        if (machine.components != 0)
            assert_int_equal(cpu.xcr0, X86_XCR0_X87);
        for (unsigned i = 0; i < cpu.msr_count - (recorded == 0); i++)
            assert_int_equal(cpu.msrs[i].value, 0);
        assert_int_equal(cpu.extended[0] | cpu.extended[1] << 8, 0x37f);
        assert_int_equal(cpu.extended[24] | cpu.extended[25] << 8, 0x1f80);
        for (size_t i = 0; i < sizeof(cpu.extended); i++)
            if (i > 1 && i != 24 && i != 25)
                assert_int_equal(cpu.extended[i], 0);
    }
}

/* An MSR that CPUID announces and the (emulated) processor lacks: fails when it is touched. */
static void missing_registers(void **state)
{
    (void)state;
    machine_begin(SKYLAKE_X);
    cpu.msr_count--; /* IA32_XSS */
    cpu.refuses_spec_ctrl = true;
    changed_leaf_7 = processor_cpuid(7, 0);
    changed_leaf_7.edx = CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_STIBP | CPUID_7_EDX_SSBD | CPUID_7_EDX_L1D_FLUSH;
    vcpu_state_probe(true);
    assert_false(has_row("IA32_XSS"));
    assert_int_equal(vcpu_state_msr_lists(&states[0]).count, 0);
    assert_true(guests_survive(3));
    assert_int_equal(cpu.barriers + cpu.flushes, 0);
}

/*
 * A guest hypervisor's IA32_SPEC_CTRL goes to the lists, and is what its entry loads. Fails when it goes to
 * the register, which is Umbra's, when a value passes that an entry may refuse, or when a processor without
 * the register takes one.
 */
static void spec_ctrl_by_lists(void **state)
{
    const struct area *area;
    uint64_t value;

    (void)state;
    machine_begin(SKYLAKE_X);
    changed_leaf_7 = processor_cpuid(7, 0);
    changed_leaf_7.edx = CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_STIBP | CPUID_7_EDX_SSBD;
    vcpu_state_probe(true);
    area = states[0].xsave_area;
    assert_true(vcpu_state_write_spec_ctrl(&states[0], 5));
    assert_int_equal(area->guest_list[0].value, 5);
    assert_false(vcpu_state_write_spec_ctrl(&states[0], 8));
    assert_true(vcpu_state_read_spec_ctrl(&states[0], &value));
    assert_int_equal(value, 5);
    machine_begin(LYNNFIELD);
    assert_false(vcpu_state_write_spec_ctrl(&states[0], 1));
    assert_false(vcpu_state_read_spec_ctrl(&states[0], &value));
}

/*
 * 576 bytes, then AVX (256), opmasks (64), ZMM_Hi256 (512) and Hi16_ZMM (1024); without gaps, for none is
 * aligned. Fails when a processor that describes another format is trusted, when the probe leaves XCR0
 * changed, or when it asks with the wrong components enabled.
 */
static void compacted_format(void **state)
{
    (void)state;
    compacted = 576 + 256 + 64 + 512 + 1024;
    machine_begin(SKYLAKE_X);
    assert_true(vcpu_state_compacts());
    cpu.xcr0 = X86_XCR0_X87 | X86_XCR0_SSE;
    vcpu_state_probe(true);
    assert_int_equal(cpu.xcr0, X86_XCR0_X87 | X86_XCR0_SSE);
    assert_true(vcpu_state_compacts());
    compacted = 0xa80; /* the standard format's */
    machine_begin(SKYLAKE_X);
    assert_false(vcpu_state_compacts());
    machine_begin(LYNNFIELD);
    assert_false(vcpu_state_compacts());

    /* And PKRU (8). */
    all_components = 0x2e7;
    compacted = 576 + 256 + 64 + 512 + 1024 + 8;
    machine_begin(TIGER_LAKE);
    assert_true(vcpu_state_compacts());
    all_components = 0xe7;
}

/* Every MSR that a guest reaches without an exit is in the table. Fails when one is let through and
 * forgotten. */
static void policy_is_covered(void **state)
{
    size_t policies, count;
    const struct msr_policy_row *policy = policy_msr_rows(&policies);
    const struct vcpu_state_row *table = vcpu_state_rows(&count);

    (void)state;
    for (size_t i = 0; i < policies; i++) {
        bool is_command = policy[i].first == MSR_IA32_PRED_CMD || policy[i].first == MSR_IA32_FLUSH_CMD;
        bool through = false;
        for (unsigned regime = 0; regime < VCPU_REGIMES; regime++)
            through |= policy[i].read[regime] == POLICY_THROUGH || policy[i].write[regime] == POLICY_THROUGH;
        for (uint32_t msr = policy[i].first; through && !is_command && msr <= policy[i].last; msr++) {
            bool found = false;
            for (size_t j = 0; j < count; j++)
                found |= table[j].last != 0 && table[j].index <= msr && msr <= table[j].last;
            if (!found)
                fail_msg("MSR %#x (%s) is switched by nobody", msr, policy[i].name);
        }
    }
}

/* ---- Other owners ------------------------------------------------------------------------------------- */

/* Fails when a barrier is missing between two partitions, or made between two vCPUs of one. */
static void barriers_between_owners(void **state)
{
    (void)state;
    machine_begin(SKYLAKE_X);
    assert_true(guests_survive(3));
    assert_int_equal(cpu.barriers + cpu.fills + cpu.flushes, 0); /* this one announces nothing */

    machine_begin(SKYLAKE_X);
    changed_leaf_7 = processor_cpuid(7, 0);
    changed_leaf_7.edx = CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_L1D_FLUSH | CPUID_7_EDX_MD_CLEAR;
    vcpu_state_probe(true);
    assert_true(guests_survive(3));
    assert_int_equal(cpu.barriers, 6);
    assert_int_equal(cpu.fills, 6);
    assert_int_equal(cpu.flushes, 6);

    states[1].owner = states[0].owner;
    assert_true(guests_survive(3));
    assert_int_equal(cpu.barriers, 7); /* from the second to the first owner */

    states[0].owner = states[1].owner = 0;
    assert_true(guests_survive(3));
    assert_int_equal(cpu.barriers, 13);
}

/* Fails when the lists do not hold what an exit and an entry need, or SPEC_CTRL is switched twice. */
static void lists(void **state)
{
    const struct {
        uint32_t index, reserved;
        uint64_t value;
    } * guest, *host;

    (void)state;
    machine_begin(SKYLAKE_X);
    changed_leaf_7 = processor_cpuid(7, 0);
    changed_leaf_7.edx = CPUID_7_EDX_SPEC_CTRL;
    vcpu_state_probe(true);
    vcpu_state_reset(&states[0]);
    struct vcpu_msr_lists l = vcpu_state_msr_lists(&states[0]);

    assert_int_equal(l.count, 1);
    assert_true(is_aligned(l.guest.value, 16) && is_aligned(l.host.value, 16));
    guest = physmap_pointer(l.guest);
    host = physmap_pointer(l.host);
    assert_int_equal(guest->index, MSR_IA32_SPEC_CTRL);
    assert_int_equal(guest->reserved, 0);
    assert_int_equal(guest->value, 0);
    assert_int_equal(host->index, MSR_IA32_SPEC_CTRL);
    assert_int_equal(host->reserved, 0);
    assert_int_equal(host->value, 1);
    assert_true((const uint8_t *)guest >= (const uint8_t *)states[0].xsave_area + 2688);
    assert_true((const uint8_t *)(host + 1) <= (const uint8_t *)states[0].xsave_area + VCPU_XSAVE_AREA_SIZE);
    assert_null(msr_find(MSR_IA32_SPEC_CTRL)); /* so that an access would have failed */
    assert_true(guests_survive(2));
    assert_int_equal(guest->index, MSR_IA32_SPEC_CTRL);
}

/* Fails when a fact does not get from the processor to the decision. */
static void facts(void **state)
{
    (void)state;
    machine_begin(SKYLAKE_X);
    changed_leaf_7 = (struct cpuid_registers){
        .eax = 2,
        .edx = CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_MD_CLEAR | CPUID_7_EDX_ARCH_CAPABILITIES,
    };
    cpu.arch_capabilities = BIT(1) | BIT(24); /* IBRS_ALL, PBRSB_NO */
    vcpu_state_probe(true);
    assert_int_equal(vcpu_state_barriers()->host_spec_ctrl, 0x401);
    assert_true(vcpu_state_barriers()->siblings);
    assert_false(vcpu_state_barriers()->return_stack_exit);
    changed_leaf_7.eax = 1; /* there is no subleaf 2 */
    vcpu_state_probe(true);
    assert_int_equal(vcpu_state_barriers()->host_spec_ctrl, 1);
    changed_leaf_7.edx &= ~(uint32_t)CPUID_7_EDX_ARCH_CAPABILITIES; /* not to be believed then */
    vcpu_state_probe(true);
    assert_true(vcpu_state_barriers()->return_stack_exit);
}

/* ---- The decision ------------------------------------------------------------------------------------- */

#define EDX_2018 (CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_STIBP | CPUID_7_EDX_L1D_FLUSH | CPUID_7_EDX_SSBD)
#define EDX_2019 (EDX_2018 | CPUID_7_EDX_MD_CLEAR)
#define EDX_CAPS (EDX_2019 | CPUID_7_EDX_ARCH_CAPABILITIES)

/*
 * Processors as they announce themselves with current microcode, composed from Intel's tables of affected
 * processors but for Tiger Lake's leaf 7, which is recorded; and what is to be done on each. Fails when a
 * means is not used where it is needed, or used where it is not.
 */
static void decisions(void **state)
{
    static const struct {
        const char *name;
        struct vcpu_barrier_facts facts;
        struct vcpu_barriers expected;
        const char *text;
    } cases[] = {
        {"as Bochs describes Skylake-X",
         {.leaf_7_ebx = 0xd19f27eb},
         {0},
         "barriers: the processor announces none"},
        {"Skylake client, 2018",
         {.leaf_7_ebx = CPUID_7_EBX_RTM, .leaf_7_edx = EDX_2018, .threads = 1},
         {.spec_ctrl = true,
          .host_spec_ctrl = 1,
          .predictors = true,
          .return_stack_exit = true,
          .cache = true},
         "barriers: IBRS in Umbra, return stack at exits, IBPB between partitions, L1D flush between "
         "partitions"},
        {"Skylake client, 2019, two threads",
         {.leaf_7_ebx = CPUID_7_EBX_RTM, .leaf_7_edx = EDX_2019, .threads = 2},
         {.spec_ctrl = true,
          .host_spec_ctrl = 1,
          .predictors = true,
          .return_stack_exit = true,
          .buffers = true,
          .cache = true,
          .siblings = true},
         "barriers: IBRS in Umbra, return stack at exits, VERW at entries, IBPB between partitions, L1D "
         "flush "
         "between partitions, a core's threads are not isolated"},
        {"Cascade Lake: transactions leak", /* RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, MDS_NO */
         {.leaf_7_ebx = CPUID_7_EBX_RTM, .leaf_7_edx = EDX_CAPS, .arch_capabilities = 0x2b},
         {.spec_ctrl = true,
          .host_spec_ctrl = 1,
          .predictors = true,
          .return_stack_exit = true,
          .buffers = true},
         NULL},
        {"Cascade Lake without transactions",
         {.leaf_7_edx = EDX_CAPS, .arch_capabilities = 0x2b},
         {.spec_ctrl = true, .host_spec_ctrl = 1, .predictors = true, .return_stack_exit = true},
         NULL},
        {"Tiger Lake: MMIO leaks", /* the same, TAA_NO, FB_CLEAR; not the three of MMIO */
         {.leaf_7_ebx = 0xf3bfa7eb, .leaf_7_edx = 0xfc100510, .arch_capabilities = 0x2016b, .threads = 2},
         {.spec_ctrl = true,
          .host_spec_ctrl = 1,
          .predictors = true,
          .return_stack_exit = true,
          .buffers = true,
          .siblings = true},
         NULL},
        {"Sapphire Rapids: branch history", /* the three of MMIO too; BHI_DIS_S */
         {.leaf_7_ebx = CPUID_7_EBX_RTM,
          .leaf_7_edx = EDX_CAPS,
          .leaf_7_2_edx = 0x10,
          .arch_capabilities = 0xe16b,
          .threads = 2},
         {.spec_ctrl = true, .host_spec_ctrl = 0x401, .predictors = true, .return_stack_exit = true},
         "barriers: IBRS in Umbra, BHI_DIS_S in Umbra, return stack at exits, IBPB between partitions"},
        {"Gracemont: register files", /* and BHI_NO, PBRSB_NO, RFDS_CLEAR */
         {.leaf_7_edx = EDX_CAPS, .leaf_7_2_edx = 0x10, .arch_capabilities = 0x1110e16b, .threads = 1},
         {.spec_ctrl = true, .host_spec_ctrl = 1, .predictors = true, .buffers = true},
         NULL},
        {"immune to all", /* RFDS_NO instead */
         {.leaf_7_ebx = CPUID_7_EBX_RTM,
          .leaf_7_edx = EDX_CAPS,
          .leaf_7_2_edx = 0x10,
          .arch_capabilities = 0x0910e16b,
          .threads = 2},
         {.spec_ctrl = true, .host_spec_ctrl = 1, .predictors = true},
         "barriers: IBRS in Umbra, IBPB between partitions"},
        {"threads that leak by the first-level cache alone",
         {.leaf_7_edx = EDX_2018, .threads = 2},
         {.spec_ctrl = true,
          .host_spec_ctrl = 1,
          .predictors = true,
          .return_stack_exit = true,
          .cache = true,
          .siblings = true},
         NULL},
        {"RDCL_NO alone, and PBRSB_NO without enhanced IBRS",
         {.leaf_7_edx = EDX_2018, .arch_capabilities = BIT(0) | BIT(24)},
         {.spec_ctrl = true, .host_spec_ctrl = 1, .predictors = true, .return_stack_exit = true},
         NULL},
        {"SKIP_L1DFL_VMENTRY alone",
         {.leaf_7_edx = EDX_2018, .arch_capabilities = BIT(3)},
         {.spec_ctrl = true, .host_spec_ctrl = 1, .predictors = true, .return_stack_exit = true},
         NULL},
        {"some of the ways by MMIO",
         {.arch_capabilities = BIT(13) | BIT(14) | BIT(17)},
         {.buffers = true},
         NULL},
        {"register files are no thread's business",
         {.arch_capabilities = BIT(13) | BIT(14) | BIT(15) | BIT(28), .threads = 2},
         {.buffers = true},
         NULL},
        {"register files, and data sampling across threads",
         {.leaf_7_edx = CPUID_7_EDX_MD_CLEAR, .arch_capabilities = BIT(28), .threads = 2},
         {.buffers = true, .siblings = true},
         NULL},
        {"only SSBD",
         {.leaf_7_edx = CPUID_7_EDX_SSBD},
         {.spec_ctrl = true},
         "barriers: the processor announces none"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vcpu_barriers b = vcpu_barriers_decide(&cases[i].facts);
        const struct vcpu_barriers *e = &cases[i].expected;
        char text[160];

        print_message("   %s\n", cases[i].name);
        assert_int_equal(b.spec_ctrl, e->spec_ctrl);
        assert_int_equal(b.host_spec_ctrl, e->host_spec_ctrl);
        assert_int_equal(b.predictors, e->predictors);
        assert_int_equal(b.return_stack_exit, e->return_stack_exit);
        assert_int_equal(b.buffers, e->buffers);
        assert_int_equal(b.cache, e->cache);
        assert_int_equal(b.siblings, e->siblings);
        vcpu_barriers_describe(&b, text, sizeof(text));
        if (cases[i].text != NULL)
            assert_string_equal(text, cases[i].text);
        assert_int_equal(vcpu_barriers_way_in(&b)(NULL, false), e->buffers);
        assert_ptr_equal(vcpu_barriers_way_out(&b), e->return_stack_exit ? vcpu_exit_filling : vcpu_exit);
        /* A short line is cut, not overrun. */
        for (size_t size = 1; size < sizeof(text); size++) {
            char *cut = malloc(size);
            assert_non_null(cut);
            vcpu_barriers_describe(&b, cut, size);
            assert_int_equal(strncmp(cut, text, size - 1), 0);
            free(cut);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_switched),
        cmocka_unit_test(keys_are_switched),
        cmocka_unit_test(without_xsave),
        cmocka_unit_test(every_row_counts),
        cmocka_unit_test(efer_by_software),
        cmocka_unit_test(nothing_remains),
        cmocka_unit_test(missing_registers),
        cmocka_unit_test(compacted_format),
        cmocka_unit_test(spec_ctrl_by_lists),
        cmocka_unit_test(policy_is_covered),
        cmocka_unit_test(barriers_between_owners),
        cmocka_unit_test(lists),
        cmocka_unit_test(facts),
        cmocka_unit_test(decisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
