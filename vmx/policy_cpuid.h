// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The CPUID policy: what a partition's processor says of itself. A table of masks is applied once to the
 * hardware's leaves; the result is a flat image that answers a query in a few dozen instructions. Pure.
 */
#include "arch/x86/cpu.h"
#include "lib/types.h"

/* The leaves that are answered; every other one as the highest basic one (SDM vol. 2, CPUID). */
#define CPUID_BASIC_LAST       0x16
#define CPUID_HYPERVISOR_BASE  0x40000000
#define CPUID_HYPERVISOR_CALLS 0x40000001 /* which hypercalls there are (docs/hypercalls.md) */
#define CPUID_HYPERVISOR_LAST  0x40000010
#define CPUID_EXTENDED_BASE    0x80000000
#define CPUID_EXTENDED_LAST    0x80000008

/* EBX, ECX, EDX of leaf 0x40000000. */
#define CPUID_SIGNATURE        "UmbraUmbraUm"

struct cpuid_settings {
    unsigned vcpus;  /* 1 or more; APIC ids are 0 to vcpus - 1 */
    uint64_t tsc_hz; /* ticks of the partition's TSC a second */
    uint64_t
        apic_hz; /* the local APIC timer's input clock, told as the core crystal clock; 0: cpuid_crystal_hz */
    uint64_t xcr0;              /* state components that may be offered: vcpu_state_components() */
    bool rdtscp;                /* the control "enable RDTSCP" was obtained */
    bool invpcid;               /* likewise "enable INVPCID" */
    bool xsaves;                /* likewise "enable XSAVES/XRSTORS" */
    bool vmx;                   /* the partition's vCPUs have VT-x */
    bool compaction;            /* vcpu_state_compacts() */
    uint32_t hypercall_version; /* what leaf 40000001H tells: the interface's version, */
    uint32_t hypercalls;        /* and bit n for each number that is there */
};

/* The state of a vCPU that some leaves depend on. */
struct cpuid_state {
    uint32_t apic_id;
    bool apic_enabled; /* IA32_APIC_BASE.EN */
    bool mode_64;      /* the guest is in 64-bit mode */
    uint64_t cr4;      /* as the guest sees it */
    uint64_t xcr0;
    uint64_t xss;
};

/* Which members of struct cpuid_state an entry is computed from; 0 for most. */
#define CPUID_NEEDS_APIC  1u /* apic_id, apic_enabled */
#define CPUID_NEEDS_CR4   2u
#define CPUID_NEEDS_XSAVE 4u /* xcr0, xss */
#define CPUID_NEEDS_MODE  8u

struct cpuid_entry {
    struct cpuid_registers registers;
    uint8_t compute; /* private to policy_cpuid.c */
    uint8_t needs;   /* CPUID_NEEDS_… */
};

/* Where the subleaves of one leaf are: entries[first + subleaf], or entries[first + beyond] from `count` on.
 */
struct cpuid_leaf {
    uint8_t first;
    uint8_t count;
    uint8_t beyond;
};

#define CPUID_ENTRIES_MAX 64

/* A partition's CPUID. Made by cpuid_policy_build, constant afterwards. */
struct cpuid_image {
    struct cpuid_leaf basic[CPUID_BASIC_LAST + 1];
    struct cpuid_leaf hypervisor[CPUID_HYPERVISOR_LAST - CPUID_HYPERVISOR_BASE + 1];
    struct cpuid_leaf extended[CPUID_EXTENDED_LAST - CPUID_EXTENDED_BASE + 1];
    struct cpuid_entry entries[CPUID_ENTRIES_MAX];
    unsigned entry_count;
    uint64_t xcr0; /* the components that the partition may enable in XCR0 */
    struct {
        uint16_t offset; /* in the standard format of XSAVE, bytes */
        uint16_t size;
        bool align; /* to 64 bytes in the compacted format */
    } component[32];
};

/*
 * The input clock of the local APIC timer that makes leaf 15H exact: tsc_hz over the smallest integer for
 * which it fits in 32 bits (1 below 4.29 GHz).
 */
uint64_t cpuid_crystal_hz(uint64_t tsc_hz);

/* Builds the image from the hardware's leaves, read by `cpuid` (cpu_cpuid on the machine). When a partition
 * is built. */
void cpuid_policy_build(struct cpuid_image *image,
                        struct cpuid_registers (*cpuid)(uint32_t leaf, uint32_t subleaf),
                        const struct cpuid_settings *settings);

/*
 * The entry that answers CPUID with EAX = leaf, ECX = subleaf; never NULL. If its `needs` is 0, its registers
 * are the answer; else the caller fetches what it needs and calls cpuid_entry_compute. The CPUID exit uses
 * these two.
 */
const struct cpuid_entry *cpuid_image_find(const struct cpuid_image *image, uint32_t leaf, uint32_t subleaf);
void cpuid_entry_compute(const struct cpuid_image *image, const struct cpuid_entry *entry, uint32_t subleaf,
                         const struct cpuid_state *state, struct cpuid_registers *out);

/* Both in one, for callers that have the whole state at hand. */
void cpuid_image_query(const struct cpuid_image *image, const struct cpuid_state *state, uint32_t leaf,
                       uint32_t subleaf, struct cpuid_registers *out);

/* What the offered features let a guest set in CR4, IA32_EFER and XCR0. */
uint64_t cpuid_image_cr4(const struct cpuid_image *image);
uint64_t cpuid_image_efer(const struct cpuid_image *image);
static inline uint64_t cpuid_image_xcr0(const struct cpuid_image *image)
{
    return image->xcr0;
}

/*
 * Whether XSETBV may set XCR0 to `value` (SDM vol. 1, 13.3): offered components only, x87 always, AVX only
 * with SSE, the three of AVX-512 together and with AVX.
 */
bool cpuid_image_xcr0_valid(const struct cpuid_image *image, uint64_t value) __must_check;
