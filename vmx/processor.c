// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/processor.h"

#include "arch/x86/cpu.h"
#include "arch/x86/registers.h"
#include "lib/errors.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "vmx/instructions.h"
#include "vmx/state.h"

#define CPUID_1_ECX_XSAVE BIT(26)

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

    vcpu_state_probe();
    memset(physmap_pointer(region), 0, PAGE_SIZE);
    *(uint32_t *)physmap_pointer(region) = (uint32_t)(capabilities->basic & VMX_BASIC_REVISION);
    if (!vmx_on(region))
        return -EIO;
    /* What an earlier user of VMX left in the translation caches has the tags that Umbra will use. */
    if ((capabilities->ept_vpid & VMX_EPT_INVEPT_ALL) != 0 && !vmx_invept(INVEPT_ALL, 0))
        return -EIO;
    if ((capabilities->ept_vpid & VMX_VPID_INVVPID_ALL) != 0 && !vmx_invvpid(INVVPID_ALL, 0, GLA(0)))
        return -EIO;
    return 0;
}

void vmx_processor_disable(void)
{
    vmx_off();
    cpu_write_cr4(cpu_read_cr4() & ~X86_CR4_VMXE);
}
