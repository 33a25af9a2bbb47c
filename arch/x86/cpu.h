// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The processor's instructions that C cannot name, one inline function each. Nothing here decides anything.
 */
#include "lib/types.h"

struct cpuid_registers {
    uint32_t eax, ebx, ecx, edx;
};

#if __STDC_HOSTED__
/* On the host these are privileged, or speak of the wrong processor: a test that needs them has its own. */
struct cpuid_registers cpu_cpuid(uint32_t leaf, uint32_t subleaf);
uint64_t cpu_rdmsr(uint32_t msr);
void cpu_wrmsr(uint32_t msr, uint64_t value);
uint64_t cpu_rdtsc(void);
uint64_t cpu_read_cr0(void);
uint64_t cpu_read_cr2(void);
uint64_t cpu_read_cr3(void);
uint64_t cpu_read_cr4(void);
void cpu_write_cr0(uint64_t value);
void cpu_write_cr2(uint64_t value);
void cpu_write_cr3(uint64_t value);
void cpu_write_cr4(uint64_t value);
uint32_t cpu_rdpkru(void);
uint64_t cpu_read_dr0(void);
uint64_t cpu_read_dr1(void);
uint64_t cpu_read_dr2(void);
uint64_t cpu_read_dr3(void);
uint64_t cpu_read_dr6(void);
void cpu_write_dr0(uint64_t value);
void cpu_write_dr1(uint64_t value);
void cpu_write_dr2(uint64_t value);
void cpu_write_dr3(uint64_t value);
void cpu_write_dr6(uint64_t value);
uint64_t cpu_xgetbv(uint32_t index);
void cpu_xsetbv(uint32_t index, uint64_t value);
void cpu_clear_ts(void);
void cpu_xsave(void *area);
void cpu_xrstor(const void *area);
void cpu_fxsave(void *area);
void cpu_fxrstor(const void *area);
void cpu_handle_nmi(void);
#else
static inline struct cpuid_registers cpu_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_registers r;

    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

static inline uint64_t cpu_rdmsr(uint32_t msr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void cpu_wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static inline uint64_t cpu_rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

#define CPU_CONTROL_REGISTER(n)                                                                              \
    static inline uint64_t cpu_read_cr##n(void)                                                              \
    {                                                                                                        \
        uint64_t value;                                                                                      \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value));                                                \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void cpu_write_cr##n(uint64_t value)                                                       \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%cr" #n : : "r"(value) : "memory");                                       \
    }

CPU_CONTROL_REGISTER(0)
CPU_CONTROL_REGISTER(2)
CPU_CONTROL_REGISTER(3)
CPU_CONTROL_REGISTER(4)
#undef CPU_CONTROL_REGISTER

/* PKRU. CR4.PKE is 1. */
static inline uint32_t cpu_rdpkru(void)
{
    uint32_t value;

    __asm__ volatile("rdpkru" : "=a"(value) : "c"(0) : "edx");
    return value;
}

#define CPU_DEBUG_REGISTER(n)                                                                                \
    static inline uint64_t cpu_read_dr##n(void)                                                              \
    {                                                                                                        \
        uint64_t value;                                                                                      \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(value));                                                \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void cpu_write_dr##n(uint64_t value)                                                       \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%dr" #n : : "r"(value));                                                  \
    }

CPU_DEBUG_REGISTER(0)
CPU_DEBUG_REGISTER(1)
CPU_DEBUG_REGISTER(2)
CPU_DEBUG_REGISTER(3)
CPU_DEBUG_REGISTER(6)
#undef CPU_DEBUG_REGISTER

static inline uint64_t cpu_xgetbv(uint32_t index)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
    return (uint64_t)high << 32 | low;
}

static inline void cpu_xsetbv(uint32_t index, uint64_t value)
{
    __asm__ volatile("xsetbv" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

/* CR0.TS := 0, so that extended state can be saved and loaded. */
static inline void cpu_clear_ts(void)
{
    __asm__ volatile("clts");
}

/*
 * Extended state to and from `area`, aligned to 64 bytes, for FX… to 16: all components that XCR0 enables, in
 * the standard format. CR0.TS is clear.
 */
static inline void cpu_xsave(void *area)
{
    __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(-1), "d"(-1) : "memory");
}

static inline void cpu_xrstor(const void *area)
{
    __asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(-1), "d"(-1) : "memory");
}

static inline void cpu_fxsave(void *area)
{
    __asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

static inline void cpu_fxrstor(const void *area)
{
    __asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

/* Runs this processor's own NMI handler, whose IRET ends the blocking of NMIs. */
static inline void cpu_handle_nmi(void)
{
    __asm__ volatile("int $2" : : : "memory");
}
#endif

/* The components that XCR0 may have on this processor. */
static inline uint64_t cpu_xcr0_supported(void)
{
    struct cpuid_registers r = cpu_cpuid(0xd, 0);

    return (uint64_t)r.edx << 32 | r.eax;
}

static inline uint8_t cpu_in8(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void cpu_out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void cpu_out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

/*
 * Whatever was read or written before has been, for all processors, before anything comes after: also before
 * what does not wait by itself, such as RDTSC and the WRMSRs of the APIC (SDM vol. 3, "Extended XAPIC
 * (x2APIC)").
 */
static inline void cpu_fence(void)
{
    __asm__ volatile("mfence; lfence" : : : "memory");
}

/* Stops this processor for good. */
static inline __noreturn void cpu_stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt" : : : "memory");
}

/* Waits for an interrupt with interrupts on for just that long; one that is already pending is not missed. */
static inline void cpu_wait_for_interrupt(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

/* Takes the interrupts that are pending now. STI holds them back for one more instruction. */
static inline void cpu_take_interrupts(void)
{
    __asm__ volatile("sti; nop; cli" : : : "memory");
}
