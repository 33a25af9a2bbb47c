// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/policy_msr.h"

#include "arch/x86/cpuid.h"
#include "lib/string.h"

/* IA32_MTRRCAP: eight variable ranges, fixed ranges, write combining; no SMRRs. */
#define MTRRCAP_VALUE (8 | MTRRCAP_FIX | MTRRCAP_WC)

/*
 * Bits of IA32_ARCH_CAPABILITIES that only state what the processor is not vulnerable to or does by itself
 * (SDM vol. 4, table 2-2). Not among them: those that announce further registers, such as TSX_CTRL.
 */
#define ARCH_CAPABILITIES_STATEMENTS                                                                         \
    (BIT(0) /* RDCL_NO */ | BIT(1) /* IBRS_ALL */ | BIT(2) /* RSBA */ | BIT(3) /* SKIP_L1DFL_VMENTRY */ |    \
     BIT(4) /* SSB_NO */ | BIT(5) /* MDS_NO */ | BIT(6) /* IF_PSCHANGE_MC_NO */ | BIT(8) /* TAA_NO */ |      \
     BIT(13) /* SBDR_SSDP_NO */ | BIT(14) /* FBSDP_NO */ | BIT(15) /* PSDP_NO */ | BIT(17) /* FB_CLEAR */ |  \
     BIT(19) /* RRSBA */ | BIT(20) /* BHI_NO */ | BIT(24) /* PBRSB_NO */ | BIT(26) /* GDS_NO */ |            \
     BIT(27) /* RFDS_NO */ | BIT(28) /* RFDS_CLEAR */)

/* After reset: fast strings on; no counters, hence neither BTS nor PEBS; no MONITOR, no SpeedStep. */
#define MISC_ENABLE_VALUE                                                                                    \
    (MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE)

/*
 * X(first, last, ROW, "name", READ, WRITE, HANDLER, FEATURE, CLASS, value, "reason"), ascending. The first
 * table is of registers below MSR_LOW_END, the second of those from MSR_HIGH_FIRST. READ and WRITE are
 * policies; THROUGH_EPT: through in the EPT regime, an intercept in the other, where the hardware's is
 * Umbra's.
 */
#define MSR_LOW_END    0xe00
#define MSR_HIGH_FIRST 0xc0000080
#define MSR_HIGH_END   0xc0000104

// clang-format off
#define MSRS_LOW(X) \
    X(0x000, 0x001, P5_MC, "IA32_P5_MC_ADDR/TYPE", SHADOWING, SHADOWING, CONSTANT, ALWAYS, USER, 0, \
      "no machine check is ever reported by them") \
    X(0x010, 0x010, TSC, "IA32_TIME_STAMP_COUNTER", THROUGH, INTERCEPT, TSC, ALWAYS, USER, 0, \
      "RDMSR adds the TSC offset as RDTSC does") \
    X(0x017, 0x017, PLATFORM_ID, "IA32_PLATFORM_ID", SHADOWING, RESERVED, PROCESSOR, ALWAYS, USER, 0, \
      "which microcode fits") \
    X(0x01b, 0x01b, APIC_BASE, "IA32_APIC_BASE", INTERCEPT, INTERCEPT, APIC_BASE, ALWAYS, STRUCTURE, 0, \
      "the local APIC is virtual") \
    X(0x034, 0x034, SMI_COUNT, "MSR_SMI_COUNT", SHADOWING, RESERVED, CONSTANT, ALWAYS, USER, 0, \
      "a partition sees no SMI") \
    X(0x03a, 0x03a, FEATURE_CONTROL, "IA32_FEATURE_CONTROL", SHADOWING, RESERVED, VMX, ALWAYS, MODE, \
      FEATURE_CONTROL_LOCKED, "locked, and VMX is on where it is offered; a write to a locked one is #GP") \
    X(0x03b, 0x03b, TSC_ADJUST, "IA32_TSC_ADJUST", INTERCEPT, INTERCEPT, TSC_ADJUST, TSC_ADJUST, USER, 0, \
      "part of the TSC offset") \
    X(0x048, 0x048, SPEC_CTRL, "IA32_SPEC_CTRL", THROUGH, THROUGH, NONE, SPEC_CTRL, USER, 0, \
      "written often; switched with the vCPU") \
    X(0x049, 0x049, PRED_CMD, "IA32_PRED_CMD", RESERVED, THROUGH, NONE, PRED_CMD, USER, 0, \
      "a command without state") \
    X(0x079, 0x079, BIOS_UPDT_TRIG, "IA32_BIOS_UPDT_TRIG", RESERVED, SHADOWING, CONSTANT, ALWAYS, USER, 0, \
      "the microcode is not the guest's: an update that does not fit is ignored") \
    X(0x08b, 0x08b, BIOS_SIGN_ID, "IA32_BIOS_SIGN_ID", SHADOWING, SHADOWING, PROCESSOR, ALWAYS, USER, 0, \
      "the microcode's revision; software clears it before it asks") \
    X(0x0ce, 0x0ce, PLATFORM_INFO, "MSR_PLATFORM_INFO", SHADOWING, RESERVED, CONSTANT, ALWAYS, USER, 0, \
      "rates are told by CPUID 15H; no turbo, no CPUID faulting") \
    X(0x0fe, 0x0fe, MTRRCAP, "IA32_MTRRCAP", SHADOWING, RESERVED, CONSTANT, MTRR, STRUCTURE, MTRRCAP_VALUE, \
      "eight variable ranges and the fixed ones") \
    X(0x10a, 0x10a, ARCH_CAPABILITIES, "IA32_ARCH_CAPABILITIES", SHADOWING, RESERVED, PROCESSOR_AND, \
      ARCH_CAPABILITIES, USER, ARCH_CAPABILITIES_STATEMENTS, "statements pass, further registers do not") \
    X(0x10b, 0x10b, FLUSH_CMD, "IA32_FLUSH_CMD", RESERVED, THROUGH, NONE, L1D_FLUSH, USER, 0, \
      "a command without state") \
    X(0x174, 0x176, SYSENTER, "IA32_SYSENTER_CS/ESP/EIP", THROUGH, THROUGH, NONE, SYSENTER, VECTOR, 0, \
      "in the VMCS") \
    X(0x179, 0x179, MCG_CAP, "IA32_MCG_CAP", SHADOWING, RESERVED, CONSTANT, MCA, STRUCTURE, 0, \
      "no banks: machine checks are Umbra's") \
    X(0x17a, 0x17a, MCG_STATUS, "IA32_MCG_STATUS", SHADOWING, INTERCEPT, MCG_STATUS, MCA, USER, 0, \
      "no machine check is in progress") \
    X(0x198, 0x198, PERF_STATUS, "IA32_PERF_STATUS", SHADOWING, RESERVED, CONSTANT, ALWAYS, USER, 0, \
      "no performance states") \
    X(0x1a0, 0x1a0, MISC_ENABLE, "IA32_MISC_ENABLE", INTERCEPT, INTERCEPT, MISC_ENABLE, ALWAYS, MODE, \
      MISC_ENABLE_VALUE, "written by every kernel; what it turns on is not offered") \
    X(0x1d9, 0x1d9, DEBUGCTL, "IA32_DEBUGCTL", INTERCEPT, INTERCEPT, DEBUGCTL, ALWAYS, MODE, DEBUGCTL_BTF, \
      "single-stepping on branches; no branch records, no traces") \
    X(0x1fc, 0x1fc, POWER_CTL, "MSR_POWER_CTL", SHADOWING, SHADOWING, CONSTANT, ALWAYS, USER, 0, \
      "power is not the guest's") \
    X(0x200, 0x20f, MTRR_PHYS, "IA32_MTRR_PHYSBASE/MASK", SHADOWING, SHADOWING, MTRR, MTRR, STRUCTURE, 0, \
      "memory types come from EPT and PAT") \
    X(0x250, 0x250, MTRR_FIX64K, "IA32_MTRR_FIX64K", SHADOWING, SHADOWING, MTRR, MTRR, STRUCTURE, 0, \
      "memory types come from EPT and PAT") \
    X(0x258, 0x259, MTRR_FIX16K, "IA32_MTRR_FIX16K", SHADOWING, SHADOWING, MTRR, MTRR, STRUCTURE, 0, \
      "memory types come from EPT and PAT") \
    X(0x268, 0x26f, MTRR_FIX4K, "IA32_MTRR_FIX4K", SHADOWING, SHADOWING, MTRR, MTRR, STRUCTURE, 0, \
      "memory types come from EPT and PAT") \
    X(0x277, 0x277, PAT, "IA32_PAT", THROUGH_EPT, THROUGH_EPT, PAT, PAT, STRUCTURE, PAT_RESET, "in the VMCS") \
    X(0x2ff, 0x2ff, MTRR_DEF_TYPE, "IA32_MTRR_DEF_TYPE", SHADOWING, SHADOWING, MTRR, MTRR, STRUCTURE, 0, \
      "memory types come from EPT and PAT") \
    X(0x480, 0x491, VMX, "IA32_VMX_*", SHADOWING, RESERVED, VMX, VMX, STRUCTURE, 0, \
      "the virtual VT-x is what these say") \
    X(0x6e0, 0x6e0, TSC_DEADLINE, "IA32_TSC_DEADLINE", INTERCEPT, INTERCEPT, TSC_DEADLINE, TSC_DEADLINE, \
      USER, 0, "the local APIC is virtual") \
    X(0x800, 0x8ff, X2APIC, "x2APIC registers", INTERCEPT, INTERCEPT, X2APIC, X2APIC, STRUCTURE, 0, \
      "the local APIC is virtual") \
    X(0xda0, 0xda0, XSS, "IA32_XSS", INTERCEPT, INTERCEPT, XSS, XSAVES, STRUCTURE, 0, \
      "no supervisor state component is offered")

#define MSRS_HIGH(X) \
    X(0xc0000080, 0xc0000080, EFER, "IA32_EFER", THROUGH_EPT, INTERCEPT, EFER, EFER, MODE, 0, \
      "in the VMCS; a write is checked, and long mode follows it") \
    X(0xc0000081, 0xc0000084, SYSCALL, "IA32_STAR/LSTAR/CSTAR/FMASK", THROUGH, THROUGH, NONE, LONG_MODE, \
      VECTOR, 0, "switched by software") \
    X(0xc0000100, 0xc0000101, FS_GS_BASE, "IA32_FS_BASE/GS_BASE", THROUGH, THROUGH, NONE, LONG_MODE, \
      STRUCTURE, 0, "in the VMCS") \
    X(0xc0000102, 0xc0000102, KERNEL_GS_BASE, "IA32_KERNEL_GS_BASE", THROUGH, THROUGH, NONE, LONG_MODE, \
      STRUCTURE, 0, "switched by software") \
    X(0xc0000103, 0xc0000103, TSC_AUX, "IA32_TSC_AUX", THROUGH, THROUGH, NONE, RDTSCP, USER, 0, \
      "switched by software")
// clang-format on

/* Places in the table below; 0 is the row of all registers that have none. */
enum row_index {
    ROW_NONE,
#define X(FIRST, LAST, ROW, ...) ROW_##ROW,
    MSRS_LOW(X) MSRS_HIGH(X)
#undef X
};

// clang-format off
/* A policy in each regime. */
#define IN_ALL(WHAT)       {[0 ... VCPU_REGIMES - 1] = POLICY_##WHAT}
#define ACCESS_THROUGH     IN_ALL(THROUGH)
#define ACCESS_INTERCEPT   IN_ALL(INTERCEPT)
#define ACCESS_SHADOWING   IN_ALL(SHADOWING)
#define ACCESS_RESERVED    IN_ALL(RESERVED)
#define ACCESS_THROUGH_EPT {[VCPU_REGIME_EPT] = POLICY_THROUGH, [VCPU_REGIME_SHADOW] = POLICY_INTERCEPT}

static const struct msr_policy_row rows[] = {
    [ROW_NONE] = {.name = "none", .read = ACCESS_RESERVED, .write = ACCESS_RESERVED, .reason = "not there"},
#define X(FIRST, LAST, ROW, NAME, READ, WRITE, HANDLER, FEATURE, CLASS, VALUE, REASON) \
    [ROW_##ROW] = {FIRST, LAST, NAME, ACCESS_##READ, ACCESS_##WRITE, MSR_HANDLER_##HANDLER, \
                   MSR_FEATURE_##FEATURE, CLASS_##CLASS, VALUE, REASON},
    MSRS_LOW(X)
    MSRS_HIGH(X)
#undef X
};

/* Each register's place in the table, so that a lookup is one load. Rows that overlap do not compile. */
static const uint8_t low[MSR_LOW_END] = {
#define X(FIRST, LAST, ROW, ...) [FIRST ... LAST] = ROW_##ROW,
    MSRS_LOW(X)
#undef X
};

static const uint8_t high[MSR_HIGH_END - MSR_HIGH_FIRST] = {
#define X(FIRST, LAST, ROW, ...) [(FIRST) - MSR_HIGH_FIRST ... (LAST) - MSR_HIGH_FIRST] = ROW_##ROW,
    MSRS_HIGH(X)
#undef X
};
// clang-format on

const struct msr_policy_row *policy_msr_rows(size_t *count)
{
    *count = ARRAY_SIZE(rows) - 1;
    return rows + 1;
}

const struct msr_policy_row *policy_msr_find(uint32_t msr)
{
    if (msr < MSR_LOW_END)
        return &rows[low[msr]];
    if (msr - MSR_HIGH_FIRST < ARRAY_SIZE(high))
        return &rows[high[msr - MSR_HIGH_FIRST]];
    return &rows[ROW_NONE];
}

/* Where CPUID offers a feature. Any bit of the mask suffices. */
// clang-format off
static const struct {
    uint8_t feature;
    uint8_t reg; /* enum cpuid_register */
    uint8_t subleaf;
    uint32_t leaf;
    uint32_t mask;
} offers[] = {
    {MSR_FEATURE_LONG_MODE, CPUID_EDX, 0, 0x80000001, CPUID_EXT1_EDX_LM},
    {MSR_FEATURE_RDTSCP, CPUID_EDX, 0, 0x80000001, CPUID_EXT1_EDX_RDTSCP},
    {MSR_FEATURE_RDTSCP, CPUID_ECX, 0, 7, CPUID_7_ECX_RDPID},
    {MSR_FEATURE_SYSENTER, CPUID_EDX, 0, 1, CPUID_1_EDX_SEP},
    {MSR_FEATURE_MTRR, CPUID_EDX, 0, 1, CPUID_1_EDX_MTRR},
    {MSR_FEATURE_PAT, CPUID_EDX, 0, 1, CPUID_1_EDX_PAT},
    {MSR_FEATURE_MCA, CPUID_EDX, 0, 1, CPUID_1_EDX_MCA},
    {MSR_FEATURE_X2APIC, CPUID_ECX, 0, 1, CPUID_1_ECX_X2APIC},
    {MSR_FEATURE_TSC_DEADLINE, CPUID_ECX, 0, 1, CPUID_1_ECX_TSC_DEADLINE},
    {MSR_FEATURE_TSC_ADJUST, CPUID_EBX, 0, 7, CPUID_7_EBX_TSC_ADJUST},
    {MSR_FEATURE_XSAVES, CPUID_EAX, 1, 0xd, CPUID_D1_EAX_XSAVES},
    {MSR_FEATURE_EFER, CPUID_EDX, 0, 0x80000001,
     CPUID_EXT1_EDX_SYSCALL | CPUID_EXT1_EDX_NX | CPUID_EXT1_EDX_LM},
    {MSR_FEATURE_SPEC_CTRL, CPUID_EDX, 0, 7, CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_STIBP | CPUID_7_EDX_SSBD},
    {MSR_FEATURE_PRED_CMD, CPUID_EDX, 0, 7, CPUID_7_EDX_SPEC_CTRL},
    {MSR_FEATURE_L1D_FLUSH, CPUID_EDX, 0, 7, CPUID_7_EDX_L1D_FLUSH},
    {MSR_FEATURE_VMX, CPUID_ECX, 0, 1, CPUID_1_ECX_VMX},
    {MSR_FEATURE_ARCH_CAPABILITIES, CPUID_EDX, 0, 7, CPUID_7_EDX_ARCH_CAPABILITIES},
};
// clang-format on

uint32_t policy_msr_features(const struct cpuid_image *image)
{
    uint32_t features = BIT(MSR_FEATURE_ALWAYS);

    for (unsigned i = 0; i < ARRAY_SIZE(offers); i++) {
        const struct cpuid_entry *entry = cpuid_image_find(image, offers[i].leaf, offers[i].subleaf);

        if (cpuid_register(&entry->registers, (enum cpuid_register)offers[i].reg) & offers[i].mask)
            features |= BIT(offers[i].feature);
    }
    return features;
}

/* Lets accesses to `msr` through in the run of bits at `run`: the low registers' or the high ones'. */
static void pass(uint8_t *run, uint32_t msr)
{
    run[(msr % MSR_BITMAP_RUN) / 8] &= (uint8_t) ~(1U << msr % 8);
}

void policy_msr_bitmap(void *bitmap, uint32_t features, enum vcpu_regime regime)
{
    uint8_t *bits = bitmap;

    memset(bits, 0xff, PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct msr_policy_row *row = &rows[i];
        bool is_high = row->first >= MSR_BITMAP_HIGH_FIRST;

        for (uint32_t msr = row->first; i != ROW_NONE && msr <= row->last; msr++) {
            if (policy_msr_on_read(row, features, regime) == POLICY_THROUGH)
                pass(bits + (is_high ? MSR_BITMAP_READ_HIGH : MSR_BITMAP_READ_LOW), msr);
            if (policy_msr_on_write(row, features, regime) == POLICY_THROUGH)
                pass(bits + (is_high ? MSR_BITMAP_WRITE_HIGH : MSR_BITMAP_WRITE_LOW), msr);
        }
    }
}

/*
 * x2APIC registers that the processor virtualises: reads of all that do not have to be computed, and the
 * three writes that it completes by itself. The others must exit: it would make them on its own APIC.
 */
static const struct {
    uint16_t first, last;
    bool read, write;
    bool tpr; /* also without APIC-register virtualization and virtual-interrupt delivery */
} x2apic_virtual[] = {
    {0x802, 0x803, true, false, false}, /* ID, version */
    {0x808, 0x808, true, true, true},   /* TPR */
    {0x80a, 0x80a, true, false, false}, /* PPR */
    {0x80b, 0x80b, false, true, false}, /* EOI */
    {0x80d, 0x80d, true, false, false}, /* LDR */
    {0x80f, 0x80f, true, false, false}, /* spurious-interrupt vector */
    {0x810, 0x828, true, false, false}, /* ISR, TMR, IRR, ESR */
    {0x830, 0x830, true, false, false}, /* ICR */
    {0x832, 0x838, true, false, false}, /* LVT, initial count */
    {0x83e, 0x83e, true, false, false}, /* divide configuration */
    {0x83f, 0x83f, false, true, false}, /* self-IPI */
};

void policy_msr_bitmap_x2apic(void *bitmap, uint32_t features, enum vcpu_regime regime, bool delivery)
{
    uint8_t *bits = bitmap;

    policy_msr_bitmap(bitmap, features, regime);
    if ((features & BIT(MSR_FEATURE_X2APIC)) == 0)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(x2apic_virtual); i++) {
        for (uint32_t msr = x2apic_virtual[i].first; msr <= x2apic_virtual[i].last; msr++) {
            if (x2apic_virtual[i].read && (delivery || x2apic_virtual[i].tpr))
                pass(bits + MSR_BITMAP_READ_LOW, msr);
            if (x2apic_virtual[i].write && (delivery || x2apic_virtual[i].tpr))
                pass(bits + MSR_BITMAP_WRITE_LOW, msr);
        }
    }
}
