// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/processor.h"

#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "arch/x86/registers.h"
#include "arch/x86/trap.h"
#include "drivers/lapic.h"
#include "lib/errors.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/instructions.h"
#include "vmx/state.h"

#define CPUID_1_ECX_XSAVE BIT(26)

/* How long to wait for the others to stop: a moment on any processor. */
#define STOP_TICKS        BIT(28)

PERCPU static bool enabled;
PERCPU static bool stopped;

void vmx_processor_capabilities(struct vmx_capabilities *capabilities)
{
    static const struct vmx_msr_ops ops = {.rdmsr = cpu_rdmsr, .cpuid = cpu_cpuid};

    vmx_capabilities_read(capabilities, &ops);
}

int vmx_processor_enable(const struct vmx_capabilities *capabilities, hpa_t region)
{
    uint64_t cr4 = cpu_read_cr4() | X86_CR4_VMXE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;

    if ((capabilities->feature_control & FEATURE_CONTROL_LOCKED) == 0)
        cpu_wrmsr(MSR_IA32_FEATURE_CONTROL,
                  capabilities->feature_control | FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON_OUTSIDE_SMX);
    else if ((capabilities->feature_control & FEATURE_CONTROL_VMXON_OUTSIDE_SMX) == 0)
        return -EPERM;

    /* The guests' extended state is switched with XSAVE; the fixed bits must be right before VMXON. */
    if (cpu_cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE)
        cr4 |= X86_CR4_OSXSAVE;
    cpu_write_cr0((cpu_read_cr0() | capabilities->cr0_fixed0) & capabilities->cr0_fixed1);
    cpu_write_cr4((cr4 | capabilities->cr4_fixed0) & capabilities->cr4_fixed1);

    if (this_cpu(percpu_number) == 0)
        vcpu_state_probe(vmx_capabilities_switch_efer(capabilities));
    memset(physmap_pointer(region), 0, PAGE_SIZE);
    *(uint32_t *)physmap_pointer(region) = (uint32_t)(capabilities->basic & VMX_BASIC_REVISION);
    if (!vmx_on(region))
        return -EIO;
    this_cpu(enabled) = true;
    /* What an earlier user of VMX left in the translation caches has the tags that Umbra will use. */
    if ((capabilities->ept_vpid & VMX_EPT_INVEPT_ALL) != 0 && !vmx_invept(INVEPT_ALL, 0))
        return -EIO;
    if ((capabilities->ept_vpid & VMX_VPID_INVVPID_ALL) != 0 && !vmx_invvpid(INVVPID_ALL, 0, GLA(0)))
        return -EIO;
    return 0;
}

void vmx_processor_disable(void)
{
    if (!this_cpu(enabled))
        return;
    this_cpu(enabled) = false;
    vmx_off();
    cpu_write_cr4(cpu_read_cr4() & ~X86_CR4_VMXE);
}

bool vmx_processor_same(const struct vmx_capabilities *a, const struct vmx_capabilities *b)
{
    return a->intel_vmx == b->intel_vmx && a->smx == b->smx && a->basic == b->basic && a->misc == b->misc &&
           a->cr0_fixed0 == b->cr0_fixed0 && a->cr0_fixed1 == b->cr0_fixed1 &&
           a->cr4_fixed0 == b->cr4_fixed0 && a->cr4_fixed1 == b->cr4_fixed1 && a->vmcs_enum == b->vmcs_enum &&
           a->ept_vpid == b->ept_vpid && a->vmfunc == b->vmfunc &&
           memcmp(a->controls, b->controls, sizeof(a->controls)) == 0;
}

/* In the NMI handler of a processor that another one stops. */
static __noreturn void stop(void)
{
    vmx_processor_disable();
    __atomic_store_n(this_cpu_pointer(stopped), true, __ATOMIC_RELEASE);
    cpu_stop();
}

static bool is_other(unsigned number)
{
    return percpu_offsets[number] != this_cpu(percpu_offset);
}

static bool has_stopped(unsigned number)
{
    return __atomic_load_n(that_cpu_pointer(stopped, number), __ATOMIC_ACQUIRE);
}

void vmx_processor_stop_others(void)
{
    uint64_t start = cpu_rdtsc();

    trap_stop_on_nmi(stop);
    for (unsigned number = 0; number < percpu_count; number++)
        if (is_other(number) && !has_stopped(number))
            lapic_send_nmi(percpu_apic_ids[number]);
    for (unsigned number = 0; number < percpu_count; number++)
        while (is_other(number) && !has_stopped(number) && cpu_rdtsc() - start < STOP_TICKS)
            __builtin_ia32_pause();
}
