// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/barriers.h"

#include "arch/x86/cpuid.h"
#include "arch/x86/descriptor.h"
#include "arch/x86/msr.h"
#include "lib/printf.h"

_Static_assert(SELECTOR_DATA == 0x10, "entry.S: what VERW is given");

/* Leaf 7, subleaf 2, EDX: IA32_SPEC_CTRL has BHI_DIS_S. */
#define CPUID_7_2_EDX_BHI_CTRL BIT(4)

/* IA32_ARCH_CAPABILITIES (SDM vol. 4, table 2-2). */
#define RDCL_NO                BIT(0)
#define IBRS_ALL               BIT(1)
#define SKIP_L1DFL_VMENTRY     BIT(3)
#define MDS_NO                 BIT(5)
#define TAA_NO                 BIT(8)
#define SBDR_SSDP_NO           BIT(13)
#define FBSDP_NO               BIT(14)
#define PSDP_NO                BIT(15)
#define FB_CLEAR               BIT(17)
#define BHI_NO                 BIT(20)
#define PBRSB_NO               BIT(24)
#define RFDS_NO                BIT(27)
#define RFDS_CLEAR             BIT(28)

/*
 * Buffers that leak to a guest, and that VERW clears on this processor. Each row: vulnerable unless the
 * capabilities have all of `immune`; VERW helps if CPUID.7 EDX has `verw_edx` and they have
 * `verw_capability`; only with `needs_ebx`, if that is not 0.
 */
static const struct {
    uint64_t immune;
    uint32_t verw_edx;
    uint64_t verw_capability;
    uint32_t needs_ebx;
    bool across_threads;
    const char *reason;
} leaks[] = {
    {MDS_NO, CPUID_7_EDX_MD_CLEAR, 0, 0, true, "microarchitectural data sampling"},
    {TAA_NO, CPUID_7_EDX_MD_CLEAR, 0, CPUID_7_EBX_RTM, true, "the same by an aborted transaction"},
    {SBDR_SSDP_NO | FBSDP_NO | PSDP_NO, 0, FB_CLEAR, 0, true, "stale data in fill buffers, by MMIO"},
    {RFDS_NO, 0, RFDS_CLEAR, 0, false, "stale data in register files"},
};

static void decide_buffers(const struct vcpu_barrier_facts *facts, struct vcpu_barriers *barriers)
{
    for (unsigned i = 0; i < ARRAY_SIZE(leaks); i++) {
        bool immune = (facts->arch_capabilities & leaks[i].immune) == leaks[i].immune;
        bool helps = (facts->leaf_7_edx & leaks[i].verw_edx) == leaks[i].verw_edx &&
                     (facts->arch_capabilities & leaks[i].verw_capability) == leaks[i].verw_capability;

        if (immune || !helps || (facts->leaf_7_ebx & leaks[i].needs_ebx) != leaks[i].needs_ebx)
            continue;
        barriers->buffers = true;
        barriers->siblings |= leaks[i].across_threads;
    }
}

static void decide_predictors(const struct vcpu_barrier_facts *facts, struct vcpu_barriers *barriers)
{
    const uint32_t any = CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_STIBP | CPUID_7_EDX_SSBD;
    bool has_ibrs = (facts->leaf_7_edx & CPUID_7_EDX_SPEC_CTRL) != 0;
    bool enhanced = (facts->arch_capabilities & IBRS_ALL) != 0;

    barriers->spec_ctrl = (facts->leaf_7_edx & any) != 0;
    if (!has_ibrs)
        return;
    /*
     * Umbra is compiled with plain indirect branches. With IBRS set in root operation none of them follows
     * what a guest has trained; without the enhanced form the write itself, after each exit, is what counts,
     * and the list makes it.
     */
    barriers->host_spec_ctrl = SPEC_CTRL_IBRS;
    if ((facts->leaf_7_2_edx & CPUID_7_2_EDX_BHI_CTRL) != 0 && (facts->arch_capabilities & BHI_NO) == 0)
        barriers->host_spec_ctrl |= SPEC_CTRL_BHI_DIS_S;
    barriers->predictors = true;
    /*
     * Enhanced IBRS keeps Umbra from returning to a guest's entries, but on some processors for the first
     * unmatched return.
     */
    barriers->return_stack_exit = !enhanced || (facts->arch_capabilities & PBRSB_NO) == 0;
}

struct vcpu_barriers vcpu_barriers_decide(const struct vcpu_barrier_facts *facts)
{
    struct vcpu_barriers barriers = {0};

    decide_predictors(facts, &barriers);
    decide_buffers(facts, &barriers);
    /*
     * A guest's own page tables can make a processor that is subject to RDCL read its first-level cache past
     * EPT (L1 terminal fault).
     */
    barriers.cache = (facts->leaf_7_edx & CPUID_7_EDX_L1D_FLUSH) != 0 &&
                     (facts->arch_capabilities & (RDCL_NO | SKIP_L1DFL_VMENTRY)) == 0;
    barriers.siblings = (barriers.siblings || barriers.cache) && facts->threads > 1;
    return barriers;
}

void vcpu_barriers_describe(const struct vcpu_barriers *b, char *text, size_t size)
{
    const struct {
        bool active;
        const char *text;
    } words[] = {
        {(b->host_spec_ctrl & SPEC_CTRL_IBRS) != 0, "IBRS in Umbra"},
        {(b->host_spec_ctrl & SPEC_CTRL_BHI_DIS_S) != 0, "BHI_DIS_S in Umbra"},
        {b->return_stack_exit, "return stack at exits"},
        {b->buffers, "VERW at entries"},
        {b->predictors, "IBPB between partitions"},
        {b->cache, "L1D flush between partitions"},
        {b->siblings, "a core's threads are not isolated"},
    };
    size_t length = (size_t)format_text(text, size, "barriers:");
    const char *separator = " ";

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        if (!words[i].active || length >= size)
            continue;
        length += (size_t)format_text(text + length, size - length, "%s%s", separator, words[i].text);
        separator = ", ";
    }
    if (separator[0] == ' ' && length < size)
        format_text(text + length, size - length, " the processor announces none");
}
