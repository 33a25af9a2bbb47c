// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/state.h"

#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/registers.h"
#include "lib/string.h"

#define CPUID_1_ECX_XSAVE         BIT(26)
#define CPUID_80000001_EDX_RDTSCP BIT(27)
#define CPUID_7_EDX_SPEC_CTRL     (BIT(26) | BIT(27) | BIT(31)) /* IBRS, STIBP, SSBD */
#define XSAVE_MXCSR_OFFSET        24
#define XSTATE_BV_OFFSET          512
#define MXCSR_RESET               0x1f80
#define FCW_RESET                 0x037f /* as FNINIT leaves it */

/* MSRs that a guest writes without an exit and Umbra never uses (seed 000: classes vector and user). */
static const struct {
    uint32_t msr;
    /* The register exists if EDX of CPUID `leaf` has one of `bits`; leaf 0: always. */
    uint32_t leaf;
    uint32_t bits;
} switched_msrs[VCPU_SWITCHED_MSRS] = {
    {MSR_IA32_STAR, 0, 0},
    {MSR_IA32_LSTAR, 0, 0},
    {MSR_IA32_CSTAR, 0, 0},
    {MSR_IA32_FMASK, 0, 0},
    {MSR_IA32_KERNEL_GS_BASE, 0, 0},
    {MSR_IA32_TSC_AUX, 0x80000001, CPUID_80000001_EDX_RDTSCP},
    {MSR_IA32_SPEC_CTRL, 7, CPUID_7_EDX_SPEC_CTRL},
};

/* What this machine's processors have, found out once: CPUID is too dear for every switch. */
static struct {
    uint64_t components; /* that XSAVE switches; 0: there is no XSAVE */
    bool msrs[VCPU_SWITCHED_MSRS];
} machine;

void vcpu_state_probe(void)
{
    /* The components that the area has room for; a guest is offered no other. */
    const uint64_t known =
        X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX | X86_XCR0_OPMASK | X86_XCR0_ZMM_HI256 | X86_XCR0_HI16_ZMM;
    bool has_xsave = (cpu_cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE) != 0;

    machine.components = has_xsave ? cpu_xcr0_supported() & known : 0;
    for (unsigned i = 0; i < VCPU_SWITCHED_MSRS; i++)
        machine.msrs[i] = switched_msrs[i].leaf == 0 ||
                          (cpu_cpuid(switched_msrs[i].leaf, 0).edx & switched_msrs[i].bits) != 0;
}

void vcpu_state_reset(struct vcpu_state *state)
{
    void *area = state->xsave_area;
    uint16_t fcw = FCW_RESET;
    uint32_t mxcsr = MXCSR_RESET;
    uint64_t components = X86_XCR0_X87 | X86_XCR0_SSE;

    *state = (struct vcpu_state){.xsave_area = area, .dr6 = X86_DR6_INIT, .xcr0 = X86_XCR0_X87};
    memset(area, 0, VCPU_XSAVE_AREA_SIZE);
    memcpy(area, &fcw, sizeof(fcw));
    memcpy((char *)area + XSAVE_MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
    /* x87 and SSE are there, all else is in its initial configuration. */
    memcpy((char *)area + XSTATE_BV_OFFSET, &components, sizeof(components));
}

void vcpu_state_save(struct vcpu_state *state)
{
    state->cr2 = cpu_read_cr2();
    state->dr[0] = cpu_read_dr0();
    state->dr[1] = cpu_read_dr1();
    state->dr[2] = cpu_read_dr2();
    state->dr[3] = cpu_read_dr3();
    state->dr6 = cpu_read_dr6();
    for (unsigned i = 0; i < VCPU_SWITCHED_MSRS; i++)
        if (machine.msrs[i])
            state->msrs[i] = cpu_rdmsr(switched_msrs[i].msr);

    cpu_clear_ts();
    if (machine.components != 0) {
        state->xcr0 = cpu_xgetbv(0);
        /* Everything that the guest may have touched under an earlier XCR0 is saved, not only what is enabled
         * now. */
        cpu_xsetbv(0, machine.components);
        __asm__ volatile("xsave64 (%0)" : : "r"(state->xsave_area), "a"(-1), "d"(-1) : "memory");
    } else {
        __asm__ volatile("fxsave64 (%0)" : : "r"(state->xsave_area) : "memory");
    }
}

void vcpu_state_load(const struct vcpu_state *state)
{
    cpu_write_cr2(state->cr2);
    cpu_write_dr0(state->dr[0]);
    cpu_write_dr1(state->dr[1]);
    cpu_write_dr2(state->dr[2]);
    cpu_write_dr3(state->dr[3]);
    cpu_write_dr6(state->dr6);
    for (unsigned i = 0; i < VCPU_SWITCHED_MSRS; i++)
        if (machine.msrs[i])
            cpu_wrmsr(switched_msrs[i].msr, state->msrs[i]);

    cpu_clear_ts();
    if (machine.components != 0) {
        cpu_xsetbv(0, machine.components);
        __asm__ volatile("xrstor64 (%0)" : : "r"(state->xsave_area), "a"(-1), "d"(-1) : "memory");
        cpu_xsetbv(0, state->xcr0);
    } else {
        __asm__ volatile("fxrstor64 (%0)" : : "r"(state->xsave_area) : "memory");
    }
}
