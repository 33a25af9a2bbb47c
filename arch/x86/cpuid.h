// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Names of CPUID's bits, as far as Umbra has an opinion on them (SDM vol. 2, CPUID), and access to a register
 * of an answer by number.
 */
#include "arch/x86/cpu.h"
#include "lib/types.h"

enum cpuid_register {
    CPUID_EAX,
    CPUID_EBX,
    CPUID_ECX,
    CPUID_EDX,
};

static inline uint32_t *cpuid_register_pointer(struct cpuid_registers *registers, enum cpuid_register reg)
{
    switch (reg) {
    case CPUID_EAX:
        return &registers->eax;
    case CPUID_EBX:
        return &registers->ebx;
    case CPUID_ECX:
        return &registers->ecx;
    case CPUID_EDX:
        return &registers->edx;
    }
    __builtin_unreachable();
}

static inline uint32_t cpuid_register(const struct cpuid_registers *registers, enum cpuid_register reg)
{
    struct cpuid_registers copy = *registers;

    return *cpuid_register_pointer(&copy, reg);
}

/* Leaf 1. */
#define CPUID_1_ECX_SSE3              BIT(0)
#define CPUID_1_ECX_PCLMULQDQ         BIT(1)
#define CPUID_1_ECX_VMX               BIT(5)
#define CPUID_1_ECX_SMX               BIT(6)
#define CPUID_1_ECX_SSSE3             BIT(9)
#define CPUID_1_ECX_FMA               BIT(12)
#define CPUID_1_ECX_CX16              BIT(13)
#define CPUID_1_ECX_PCID              BIT(17)
#define CPUID_1_ECX_SSE4_1            BIT(19)
#define CPUID_1_ECX_SSE4_2            BIT(20)
#define CPUID_1_ECX_X2APIC            BIT(21)
#define CPUID_1_ECX_MOVBE             BIT(22)
#define CPUID_1_ECX_POPCNT            BIT(23)
#define CPUID_1_ECX_TSC_DEADLINE      BIT(24)
#define CPUID_1_ECX_AES               BIT(25)
#define CPUID_1_ECX_XSAVE             BIT(26)
#define CPUID_1_ECX_OSXSAVE           BIT(27)
#define CPUID_1_ECX_AVX               BIT(28)
#define CPUID_1_ECX_F16C              BIT(29)
#define CPUID_1_ECX_RDRAND            BIT(30)
#define CPUID_1_ECX_HYPERVISOR        BIT(31)
#define CPUID_1_EDX_FPU               BIT(0)
#define CPUID_1_EDX_VME               BIT(1)
#define CPUID_1_EDX_DE                BIT(2)
#define CPUID_1_EDX_PSE               BIT(3)
#define CPUID_1_EDX_TSC               BIT(4)
#define CPUID_1_EDX_MSR               BIT(5)
#define CPUID_1_EDX_PAE               BIT(6)
#define CPUID_1_EDX_MCE               BIT(7)
#define CPUID_1_EDX_CX8               BIT(8)
#define CPUID_1_EDX_APIC              BIT(9)
#define CPUID_1_EDX_SEP               BIT(11)
#define CPUID_1_EDX_MTRR              BIT(12)
#define CPUID_1_EDX_PGE               BIT(13)
#define CPUID_1_EDX_MCA               BIT(14)
#define CPUID_1_EDX_CMOV              BIT(15)
#define CPUID_1_EDX_PAT               BIT(16)
#define CPUID_1_EDX_PSE36             BIT(17)
#define CPUID_1_EDX_CLFSH             BIT(19)
#define CPUID_1_EDX_MMX               BIT(23)
#define CPUID_1_EDX_FXSR              BIT(24)
#define CPUID_1_EDX_SSE               BIT(25)
#define CPUID_1_EDX_SSE2              BIT(26)
#define CPUID_1_EDX_SS                BIT(27)
#define CPUID_1_EDX_HTT               BIT(28)

/* Leaf 6. */
#define CPUID_6_EAX_ARAT              BIT(2)

/* Leaf 7, subleaf 0. */
#define CPUID_7_EBX_FSGSBASE          BIT(0)
#define CPUID_7_EBX_TSC_ADJUST        BIT(1)
#define CPUID_7_EBX_BMI1              BIT(3)
#define CPUID_7_EBX_HLE               BIT(4)
#define CPUID_7_EBX_AVX2              BIT(5)
#define CPUID_7_EBX_FDP_EXCPTN_ONLY   BIT(6)
#define CPUID_7_EBX_SMEP              BIT(7)
#define CPUID_7_EBX_BMI2              BIT(8)
#define CPUID_7_EBX_ERMS              BIT(9)
#define CPUID_7_EBX_INVPCID           BIT(10)
#define CPUID_7_EBX_RTM               BIT(11)
#define CPUID_7_EBX_FPCSDS            BIT(13)
#define CPUID_7_EBX_AVX512F           BIT(16)
#define CPUID_7_EBX_AVX512DQ          BIT(17)
#define CPUID_7_EBX_RDSEED            BIT(18)
#define CPUID_7_EBX_ADX               BIT(19)
#define CPUID_7_EBX_SMAP              BIT(20)
#define CPUID_7_EBX_AVX512_IFMA       BIT(21)
#define CPUID_7_EBX_CLFLUSHOPT        BIT(23)
#define CPUID_7_EBX_CLWB              BIT(24)
#define CPUID_7_EBX_AVX512PF          BIT(26)
#define CPUID_7_EBX_AVX512ER          BIT(27)
#define CPUID_7_EBX_AVX512CD          BIT(28)
#define CPUID_7_EBX_SHA               BIT(29)
#define CPUID_7_EBX_AVX512BW          BIT(30)
#define CPUID_7_EBX_AVX512VL          BIT(31)
#define CPUID_7_ECX_PREFETCHWT1       BIT(0)
#define CPUID_7_ECX_AVX512_VBMI       BIT(1)
#define CPUID_7_ECX_UMIP              BIT(2)
#define CPUID_7_ECX_PKU               BIT(3)
#define CPUID_7_ECX_OSPKE             BIT(4)
#define CPUID_7_ECX_AVX512_VBMI2      BIT(6)
#define CPUID_7_ECX_GFNI              BIT(8)
#define CPUID_7_ECX_VAES              BIT(9)
#define CPUID_7_ECX_VPCLMULQDQ        BIT(10)
#define CPUID_7_ECX_AVX512_VNNI       BIT(11)
#define CPUID_7_ECX_AVX512_BITALG     BIT(12)
#define CPUID_7_ECX_AVX512_VPOPCNTDQ  BIT(14)
#define CPUID_7_ECX_RDPID             BIT(22)
#define CPUID_7_ECX_CLDEMOTE          BIT(25)
#define CPUID_7_ECX_MOVDIRI           BIT(27)
#define CPUID_7_ECX_MOVDIR64B         BIT(28)
#define CPUID_7_EDX_AVX512_4VNNIW     BIT(2)
#define CPUID_7_EDX_AVX512_4FMAPS     BIT(3)
#define CPUID_7_EDX_FSRM              BIT(4)
#define CPUID_7_EDX_VP2INTERSECT      BIT(8)
#define CPUID_7_EDX_MD_CLEAR          BIT(10)
#define CPUID_7_EDX_SERIALIZE         BIT(14)
#define CPUID_7_EDX_AVX512_FP16       BIT(23)
#define CPUID_7_EDX_SPEC_CTRL         BIT(26)
#define CPUID_7_EDX_STIBP             BIT(27)
#define CPUID_7_EDX_L1D_FLUSH         BIT(28)
#define CPUID_7_EDX_ARCH_CAPABILITIES BIT(29)
#define CPUID_7_EDX_SSBD              BIT(31)

/* Leaf 7, subleaf 1. */
#define CPUID_7_1_EAX_AVX_VNNI        BIT(4)
#define CPUID_7_1_EAX_AVX512_BF16     BIT(5)
#define CPUID_7_1_EAX_FZLRM           BIT(10)
#define CPUID_7_1_EAX_FSRS            BIT(11)
#define CPUID_7_1_EAX_FSRCS           BIT(12)

/* Leaf 0DH, subleaf 1. */
#define CPUID_D_ECX_ALIGNED           BIT(1) /* in the compacted format; subleaves from 2 on */
#define CPUID_D1_EAX_XSAVEOPT         BIT(0)
#define CPUID_D1_EAX_XSAVEC           BIT(1)
#define CPUID_D1_EAX_XGETBV_1         BIT(2)
#define CPUID_D1_EAX_XSAVES           BIT(3)

/* Leaf 80000001H and beyond. */
#define CPUID_EXT1_ECX_LAHF           BIT(0)
#define CPUID_EXT1_ECX_LZCNT          BIT(5)
#define CPUID_EXT1_ECX_PREFETCHW      BIT(8)
#define CPUID_EXT1_EDX_SYSCALL        BIT(11)
#define CPUID_EXT1_EDX_NX             BIT(20)
#define CPUID_EXT1_EDX_PAGE_1G        BIT(26)
#define CPUID_EXT1_EDX_RDTSCP         BIT(27)
#define CPUID_EXT1_EDX_LM             BIT(29)
#define CPUID_EXT7_EDX_INVARIANT_TSC  BIT(8)
#define CPUID_EXT8_EBX_WBNOINVD       BIT(9)
