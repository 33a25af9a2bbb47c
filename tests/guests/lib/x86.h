// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The processor as guests use it: single instructions, without any checking. Kept apart from the hypervisor's
 * own arch/x86 on purpose: a constant that is wrong there must not be wrong in what tests it.
 */
#include "lib/types.h"

enum {
    VECTOR_DE = 0,
    VECTOR_DB = 1,
    VECTOR_NMI = 2,
    VECTOR_BP = 3,
    VECTOR_OF = 4,
    VECTOR_BR = 5,
    VECTOR_UD = 6,
    VECTOR_NM = 7,
    VECTOR_DF = 8,
    VECTOR_TS = 10,
    VECTOR_NP = 11,
    VECTOR_SS = 12,
    VECTOR_GP = 13,
    VECTOR_PF = 14,
    VECTOR_MF = 16,
    VECTOR_AC = 17,
    VECTOR_XM = 19,
};

/* Error code of #PF, and the low bits of one that names a selector. */
#define PF_PRESENT         BIT(0)
#define PF_WRITE           BIT(1)
#define PF_USER            BIT(2)
#define PF_RESERVED        BIT(3)
#define PF_FETCH           BIT(4)
#define ERROR_EXT          BIT(0)
#define ERROR_IDT          BIT(1)

#define CR0_PE             BIT(0)
#define CR0_MP             BIT(1)
#define CR0_EM             BIT(2)
#define CR0_TS             BIT(3)
#define CR0_ET             BIT(4)
#define CR0_NE             BIT(5)
#define CR0_WP             BIT(16)
#define CR0_AM             BIT(18)
#define CR0_NW             BIT(29)
#define CR0_CD             BIT(30)
#define CR0_PG             BIT(31)

#define CR4_VME            BIT(0)
#define CR4_PVI            BIT(1)
#define CR4_TSD            BIT(2)
#define CR4_DE             BIT(3)
#define CR4_PSE            BIT(4)
#define CR4_PAE            BIT(5)
#define CR4_MCE            BIT(6)
#define CR4_PGE            BIT(7)
#define CR4_PCE            BIT(8)
#define CR4_OSFXSR         BIT(9)
#define CR4_OSXMMEXCPT     BIT(10)
#define CR4_UMIP           BIT(11)
#define CR4_LA57           BIT(12)
#define CR4_VMXE           BIT(13)
#define CR4_SMXE           BIT(14)
#define CR4_FSGSBASE       BIT(16)
#define CR4_PCIDE          BIT(17)
#define CR4_OSXSAVE        BIT(18)
#define CR4_SMEP           BIT(20)
#define CR4_SMAP           BIT(21)
#define CR4_PKE            BIT(22)

#define RFLAGS_FIXED       BIT(1)
#define RFLAGS_ZF          BIT(6)
#define RFLAGS_TF          BIT(8)
#define RFLAGS_IF          BIT(9)
#define RFLAGS_DF          BIT(10)
#define RFLAGS_IOPL        (3UL << 12)
#define RFLAGS_NT          BIT(14)
#define RFLAGS_RF          BIT(16)
#define RFLAGS_AC          BIT(18)

#define MSR_TSC            0x10
#define MSR_APIC_BASE      0x1b
#define MSR_MTRRCAP        0xfe
#define MSR_SYSENTER_CS    0x174
#define MSR_SYSENTER_ESP   0x175
#define MSR_SYSENTER_EIP   0x176
#define MSR_MISC_ENABLE    0x1a0
#define MSR_PAT            0x277
#define MSR_MTRR_DEF_TYPE  0x2ff
#define MSR_TSC_DEADLINE   0x6e0
#define MSR_X2APIC         0x800
#define MSR_EFER           0xc0000080
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_CSTAR          0xc0000083
#define MSR_FMASK          0xc0000084
#define MSR_FS_BASE        0xc0000100
#define MSR_GS_BASE        0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX        0xc0000103

#define EFER_SCE           BIT(0)
#define EFER_LME           BIT(8)
#define EFER_LMA           BIT(10)
#define EFER_NXE           BIT(11)

/* An address that 48-bit paging cannot have. */
#define NON_CANONICAL      0x8000000000000000UL

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;

    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

#define X86_REGISTER(name)                                                                                   \
    static inline uint64_t read_##name(void)                                                                 \
    {                                                                                                        \
        uint64_t value;                                                                                      \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(value) : : "memory");                                  \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void write_##name(uint64_t value)                                                          \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory");                                      \
    }

X86_REGISTER(cr0)
X86_REGISTER(cr2)
X86_REGISTER(cr3)
X86_REGISTER(cr4)
X86_REGISTER(cr8)
X86_REGISTER(dr0)
X86_REGISTER(dr1)
X86_REGISTER(dr2)
X86_REGISTER(dr3)
X86_REGISTER(dr6)
X86_REGISTER(dr7)

#define X86_PORT(suffix, type)                                                                               \
    static inline type in##suffix(uint16_t port)                                                             \
    {                                                                                                        \
        type value;                                                                                          \
        __asm__ volatile("in %1, %0" : "=a"(value) : "Nd"(port) : "memory");                                 \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void out##suffix(uint16_t port, type value)                                                \
    {                                                                                                        \
        __asm__ volatile("out %0, %1" : : "a"(value), "Nd"(port) : "memory");                                \
    }

X86_PORT(b, uint8_t)
X86_PORT(w, uint16_t)
X86_PORT(l, uint32_t)

static inline uint64_t read_flags(void)
{
    uint64_t flags;

    __asm__ volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
    return flags;
}

static inline void write_flags(uint64_t flags)
{
    __asm__ volatile("pushq %0; popfq" : : "r"(flags) : "memory", "cc");
}

static inline void invlpg(const volatile void *address)
{
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline void cli(void)
{
    __asm__ volatile("cli" : : : "memory");
}

/* Opens interrupts for two instructions; all that is pending is taken there. */
static inline void take_pending_interrupts(void)
{
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

static inline void sti_hlt_cli(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline void pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}
