// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/policy_cpuid.h"

#include "arch/x86/cpuid.h"
#include "arch/x86/registers.h"
#include "lib/string.h"

/* What an entry's registers are computed from while the guest runs. */
enum compute {
    COMPUTE_NONE,
    COMPUTE_FEATURES,  /* leaf 1: APIC id, APIC, OSXSAVE */
    COMPUTE_OSPKE,     /* leaf 7 */
    COMPUTE_TOPOLOGY,  /* leaf 0BH: x2APIC id, and beyond the levels the subleaf */
    COMPUTE_XSAVE,     /* leaf 0DH.0: bytes for what is in XCR0 */
    COMPUTE_COMPACTED, /* leaf 0DH.1: bytes for what is in XCR0 and IA32_XSS */
    COMPUTE_SYSCALL,   /* leaf 80000001H: SYSCALL is there in 64-bit mode only */
};

static const uint8_t needs[] = {
    [COMPUTE_FEATURES] = CPUID_NEEDS_APIC | CPUID_NEEDS_CR4,
    [COMPUTE_OSPKE] = CPUID_NEEDS_CR4,
    [COMPUTE_TOPOLOGY] = CPUID_NEEDS_APIC,
    [COMPUTE_XSAVE] = CPUID_NEEDS_XSAVE,
    [COMPUTE_COMPACTED] = CPUID_NEEDS_XSAVE,
    [COMPUTE_SYSCALL] = CPUID_NEEDS_MODE,
};

/* A row's condition beside the processor's own word. */
enum condition {
    ALWAYS,
    IF_RDTSCP,
    IF_INVPCID,
    IF_XSAVE,
    IF_COMPACTION,
    IF_XSAVES,
    IF_AVX,
    IF_AVX512,
    IF_PKRU,
    IF_VMX,
};

#define ALL         0xffffffffu

/*
 * The table: of register `reg` of a leaf, `mask` passes as the processor has it, `set` is 1 whatever it has.
 * Several rows of a register add up. What no row names is 0: the leaves and bits of VMX, SMX, MONITOR, debug
 * store, thermal and power management (5, 6), performance counters (0AH), RDT (0FH, 10H), SGX (12H),
 * processor trace (14H), PSN (3), DCA (9), MPX, CET, key locker, user interrupts, WAITPKG, ENQCMD, PCONFIG,
 * five-level paging, AMX, hybrid.
 */
// clang-format off
static const struct cpuid_row {
    uint32_t leaf;
    uint8_t subleaf;
    uint8_t reg; /* enum cpuid_register */
    uint8_t condition;
    uint32_t mask;
    uint32_t set;
} rows[] = {
    /* The vendor is the processor's: guests choose their drivers by it. EAX is set below. */
    {0, 0, CPUID_EBX, ALWAYS, ALL, 0},
    {0, 0, CPUID_ECX, ALWAYS, ALL, 0},
    {0, 0, CPUID_EDX, ALWAYS, ALL, 0},

    /* Family, model, stepping; brand index and CLFLUSH size. The rest of EBX is the partition's. */
    {1, 0, CPUID_EAX, ALWAYS, ALL, 0},
    {1, 0, CPUID_EBX, ALWAYS, 0xffff, 0},
    {1, 0, CPUID_ECX, ALWAYS,
     CPUID_1_ECX_SSE3 | CPUID_1_ECX_PCLMULQDQ | CPUID_1_ECX_SSSE3 | CPUID_1_ECX_CX16 | CPUID_1_ECX_PCID |
     CPUID_1_ECX_SSE4_1 | CPUID_1_ECX_SSE4_2 | CPUID_1_ECX_MOVBE | CPUID_1_ECX_POPCNT | CPUID_1_ECX_AES |
     CPUID_1_ECX_RDRAND,
     /* The local APIC is virtual, so these two need nothing of the processor's. */
     CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR},
    {1, 0, CPUID_ECX, IF_XSAVE, CPUID_1_ECX_XSAVE, 0},
    {1, 0, CPUID_ECX, IF_VMX, CPUID_1_ECX_VMX, 0},
    {1, 0, CPUID_ECX, IF_AVX, CPUID_1_ECX_AVX | CPUID_1_ECX_FMA | CPUID_1_ECX_F16C, 0},
    {1, 0, CPUID_EDX, ALWAYS,
     CPUID_1_EDX_FPU | CPUID_1_EDX_VME | CPUID_1_EDX_DE | CPUID_1_EDX_PSE | CPUID_1_EDX_TSC |
     CPUID_1_EDX_MSR | CPUID_1_EDX_PAE | CPUID_1_EDX_MCE | CPUID_1_EDX_CX8 | CPUID_1_EDX_SEP |
     CPUID_1_EDX_MTRR | CPUID_1_EDX_PGE | CPUID_1_EDX_MCA | CPUID_1_EDX_CMOV | CPUID_1_EDX_PAT |
     CPUID_1_EDX_PSE36 | CPUID_1_EDX_CLFSH | CPUID_1_EDX_MMX | CPUID_1_EDX_FXSR | CPUID_1_EDX_SSE |
     CPUID_1_EDX_SSE2 | CPUID_1_EDX_SS,
     0},

    /* Caches and TLBs, in the old form. */
    {2, 0, CPUID_EAX, ALWAYS, ALL, 0},
    {2, 0, CPUID_EBX, ALWAYS, ALL, 0},
    {2, 0, CPUID_ECX, ALWAYS, ALL, 0},
    {2, 0, CPUID_EDX, ALWAYS, ALL, 0},

    /* The virtual APIC timer never stops. */
    {6, 0, CPUID_EAX, ALWAYS, 0, CPUID_6_EAX_ARAT},
    {7, 0, CPUID_EBX, ALWAYS,
     CPUID_7_EBX_FSGSBASE | CPUID_7_EBX_BMI1 | CPUID_7_EBX_HLE | CPUID_7_EBX_FDP_EXCPTN_ONLY |
     CPUID_7_EBX_SMEP | CPUID_7_EBX_BMI2 | CPUID_7_EBX_ERMS | CPUID_7_EBX_RTM | CPUID_7_EBX_FPCSDS |
     CPUID_7_EBX_RDSEED | CPUID_7_EBX_ADX | CPUID_7_EBX_SMAP | CPUID_7_EBX_CLFLUSHOPT | CPUID_7_EBX_CLWB |
     CPUID_7_EBX_SHA,
     /* The TSC's offset is Umbra's work. */
     CPUID_7_EBX_TSC_ADJUST},
    {7, 0, CPUID_EBX, IF_INVPCID, CPUID_7_EBX_INVPCID, 0},
    {7, 0, CPUID_EBX, IF_AVX, CPUID_7_EBX_AVX2, 0},
    {7, 0, CPUID_EBX, IF_AVX512,
     CPUID_7_EBX_AVX512F | CPUID_7_EBX_AVX512DQ | CPUID_7_EBX_AVX512_IFMA | CPUID_7_EBX_AVX512PF |
     CPUID_7_EBX_AVX512ER | CPUID_7_EBX_AVX512CD | CPUID_7_EBX_AVX512BW | CPUID_7_EBX_AVX512VL,
     0},
    {7, 0, CPUID_ECX, ALWAYS,
     CPUID_7_ECX_PREFETCHWT1 | CPUID_7_ECX_UMIP | CPUID_7_ECX_GFNI | CPUID_7_ECX_CLDEMOTE |
     CPUID_7_ECX_MOVDIRI | CPUID_7_ECX_MOVDIR64B,
     0},
    {7, 0, CPUID_ECX, IF_RDTSCP, CPUID_7_ECX_RDPID, 0},
    {7, 0, CPUID_ECX, IF_PKRU, CPUID_7_ECX_PKU, 0},
    {7, 0, CPUID_ECX, IF_AVX, CPUID_7_ECX_VAES | CPUID_7_ECX_VPCLMULQDQ, 0},
    {7, 0, CPUID_ECX, IF_AVX512,
     CPUID_7_ECX_AVX512_VBMI | CPUID_7_ECX_AVX512_VBMI2 | CPUID_7_ECX_AVX512_VNNI |
     CPUID_7_ECX_AVX512_BITALG | CPUID_7_ECX_AVX512_VPOPCNTDQ,
     0},
    {7, 0, CPUID_EDX, ALWAYS,
     CPUID_7_EDX_FSRM | CPUID_7_EDX_MD_CLEAR | CPUID_7_EDX_SERIALIZE | CPUID_7_EDX_SPEC_CTRL |
     CPUID_7_EDX_STIBP | CPUID_7_EDX_L1D_FLUSH | CPUID_7_EDX_ARCH_CAPABILITIES | CPUID_7_EDX_SSBD,
     0},
    {7, 0, CPUID_EDX, IF_AVX512,
     CPUID_7_EDX_AVX512_4VNNIW | CPUID_7_EDX_AVX512_4FMAPS | CPUID_7_EDX_VP2INTERSECT |
     CPUID_7_EDX_AVX512_FP16,
     0},
    {7, 1, CPUID_EAX, ALWAYS, CPUID_7_1_EAX_FZLRM | CPUID_7_1_EAX_FSRS | CPUID_7_1_EAX_FSRCS, 0},
    {7, 1, CPUID_EAX, IF_AVX, CPUID_7_1_EAX_AVX_VNNI, 0},
    {7, 1, CPUID_EAX, IF_AVX512, CPUID_7_1_EAX_AVX512_BF16, 0},
    {0xd, 1, CPUID_EAX, IF_XSAVE, CPUID_D1_EAX_XSAVEOPT | CPUID_D1_EAX_XGETBV_1, 0},
    {0xd, 1, CPUID_EAX, IF_COMPACTION, CPUID_D1_EAX_XSAVEC, 0},
    {0xd, 1, CPUID_EAX, IF_XSAVES, CPUID_D1_EAX_XSAVES, 0},
    {0x80000001, 0, CPUID_EAX, ALWAYS, ALL, 0},
    {0x80000001, 0, CPUID_ECX, ALWAYS,
     CPUID_EXT1_ECX_LAHF | CPUID_EXT1_ECX_LZCNT | CPUID_EXT1_ECX_PREFETCHW,
     0},
    {0x80000001, 0, CPUID_EDX, ALWAYS,
     CPUID_EXT1_EDX_SYSCALL | CPUID_EXT1_EDX_NX | CPUID_EXT1_EDX_PAGE_1G | CPUID_EXT1_EDX_LM,
     0},
    {0x80000001, 0, CPUID_EDX, IF_RDTSCP, CPUID_EXT1_EDX_RDTSCP, 0},

    /* The name, and the caches once more. */
    {0x80000002, 0, CPUID_EAX, ALWAYS, ALL, 0},
    {0x80000002, 0, CPUID_EBX, ALWAYS, ALL, 0},
    {0x80000002, 0, CPUID_ECX, ALWAYS, ALL, 0},
    {0x80000002, 0, CPUID_EDX, ALWAYS, ALL, 0},
    {0x80000003, 0, CPUID_EAX, ALWAYS, ALL, 0},
    {0x80000003, 0, CPUID_EBX, ALWAYS, ALL, 0},
    {0x80000003, 0, CPUID_ECX, ALWAYS, ALL, 0},
    {0x80000003, 0, CPUID_EDX, ALWAYS, ALL, 0},
    {0x80000004, 0, CPUID_EAX, ALWAYS, ALL, 0},
    {0x80000004, 0, CPUID_EBX, ALWAYS, ALL, 0},
    {0x80000004, 0, CPUID_ECX, ALWAYS, ALL, 0},
    {0x80000004, 0, CPUID_EDX, ALWAYS, ALL, 0},
    {0x80000006, 0, CPUID_ECX, ALWAYS, ALL, 0},

    /* Every clock of a partition is computed from its TSC, so that is invariant by definition. */
    {0x80000007, 0, CPUID_EDX, ALWAYS, 0, CPUID_EXT7_EDX_INVARIANT_TSC},
    {0x80000008, 0, CPUID_EAX, ALWAYS, 0xffff, 0},
    {0x80000008, 0, CPUID_EBX, ALWAYS, CPUID_EXT8_EBX_WBNOINVD, 0},
};
// clang-format on

#define XCR0_BASE   (X86_XCR0_X87 | X86_XCR0_SSE)
#define XCR0_AVX    (X86_XCR0_SSE | X86_XCR0_AVX)
#define XCR0_AVX512 (XCR0_AVX | X86_XCR0_OPMASK | X86_XCR0_ZMM_HI256 | X86_XCR0_HI16_ZMM)

/* The state that is ever offered: what MPX, AMX and others add is not. */
#define XCR0_KNOWN  (X86_XCR0_X87 | XCR0_AVX512 | X86_XCR0_PKRU)

/* ---- Building -------------------------------------------------------------------------------------------
 */

struct builder {
    struct cpuid_image *image;
    struct cpuid_registers (*cpuid)(uint32_t leaf, uint32_t subleaf);
    const struct cpuid_settings *settings;
    uint32_t basic_last; /* of the processor */
    uint32_t extended_last;
};

/* The processor's own answer; zeros for a leaf that it does not have. */
static struct cpuid_registers hardware(const struct builder *builder, uint32_t leaf, uint32_t subleaf)
{
    uint32_t last = leaf >= CPUID_EXTENDED_BASE ? builder->extended_last : builder->basic_last;

    return leaf <= last ? builder->cpuid(leaf, subleaf) : (struct cpuid_registers){0};
}

static bool holds(const struct builder *builder, enum condition condition)
{
    uint64_t xcr0 = builder->image->xcr0;

    switch (condition) {
    case ALWAYS:
        return true;
    case IF_RDTSCP:
        return builder->settings->rdtscp;
    case IF_INVPCID:
        return builder->settings->invpcid;
    case IF_XSAVE:
        return xcr0 != 0;
    case IF_COMPACTION:
        return xcr0 != 0 && builder->settings->compaction;
    case IF_XSAVES:
        return xcr0 != 0 && builder->settings->compaction && builder->settings->xsaves;
    case IF_AVX:
        return (xcr0 & XCR0_AVX) == XCR0_AVX;
    case IF_AVX512:
        return (xcr0 & XCR0_AVX512) == XCR0_AVX512;
    case IF_PKRU: /* its own instructions are enough: XCR0 need not offer it */
        return builder->settings->xcr0 & X86_XCR0_PKRU;
    case IF_VMX:
        return builder->settings->vmx;
    }
    __builtin_unreachable();
}

/* A leaf as the table has it. */
static struct cpuid_registers by_table(const struct builder *builder, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_registers host = hardware(builder, leaf, subleaf);
    struct cpuid_registers guest = {0};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct cpuid_row *row = &rows[i];
        enum cpuid_register reg = (enum cpuid_register)row->reg;

        if (row->leaf == leaf && row->subleaf == subleaf && holds(builder, (enum condition)row->condition))
            *cpuid_register_pointer(&guest, reg) |= (cpuid_register(&host, reg) & row->mask) | row->set;
    }
    return guest;
}

/* Appends an entry. CPUID_ENTRIES_MAX is enough for every leaf with all its subleaves. */
static void append(const struct builder *builder, struct cpuid_registers registers, enum compute compute)
{
    struct cpuid_image *image = builder->image;

    image->entries[image->entry_count++] =
        (struct cpuid_entry){.registers = registers, .compute = compute, .needs = needs[compute]};
}

/* Begins a leaf of `count` subleaves; the entries appended next are its own, then one for the subleaves
 * beyond. */
static void begin(const struct builder *builder, struct cpuid_leaf *leaf, unsigned count)
{
    *leaf = (struct cpuid_leaf){
        .first = (uint8_t)builder->image->entry_count, .count = (uint8_t)count, .beyond = (uint8_t)count};
}

/* A leaf that does not look at the subleaf. */
static void put(const struct builder *builder, struct cpuid_leaf *leaf, struct cpuid_registers registers,
                enum compute compute)
{
    begin(builder, leaf, 1);
    leaf->beyond = 0;
    append(builder, registers, compute);
}

static const struct cpuid_registers nothing;

/* The smallest number of APIC id bits that tells `vcpus` processors apart. */
static unsigned id_bits(unsigned vcpus)
{
    unsigned bits = 0;

    while ((1u << bits) < vcpus)
        bits++;
    return bits;
}

static void build_features(const struct builder *builder)
{
    struct cpuid_registers r = by_table(builder, 1, 0);

    if (builder->settings->vcpus > 1) {
        r.ebx |= 1u << id_bits(builder->settings->vcpus) << 16;
        r.edx |= CPUID_1_EDX_HTT;
    }
    put(builder, &builder->image->basic[1], r, COMPUTE_FEATURES);
}

/*
 * Caches: their shapes are the processor's, who shares them is the partition's: all its processors are cores
 * of one package, with levels 1 and 2 of their own.
 */
static void build_caches(const struct builder *builder)
{
    uint32_t ids = (1u << id_bits(builder->settings->vcpus)) - 1;
    struct cpuid_registers caches[8];
    unsigned count = 0;

    while (count < ARRAY_SIZE(caches)) {
        struct cpuid_registers r = hardware(builder, 4, count);
        bool shared = (r.eax >> 5 & 7) >= 3;

        if ((r.eax & 0x1f) == 0)
            break;
        r.eax = (r.eax & 0x3fff) | (shared ? (ids & 0xfff) << 14 : 0) | (ids & 0x3f) << 26;
        caches[count++] = r;
    }
    begin(builder, &builder->image->basic[4], count);
    for (unsigned i = 0; i < count; i++)
        append(builder, caches[i], COMPUTE_NONE);
    append(builder, nothing, COMPUTE_NONE);
}

static void build_extended_features(const struct builder *builder)
{
    struct cpuid_registers r = by_table(builder, 7, 0);
    unsigned last = hardware(builder, 7, 0).eax >= 1 ? 1 : 0;

    r.eax = last;
    begin(builder, &builder->image->basic[7], last + 1);
    append(builder, r, COMPUTE_OSPKE);
    if (last == 1)
        append(builder, by_table(builder, 7, 1), COMPUTE_NONE);
    append(builder, nothing, COMPUTE_NONE);
}

/* One thread a core, the cores in one package (SDM vol. 2, leaf 0BH). */
static void build_topology(const struct builder *builder)
{
    unsigned vcpus = builder->settings->vcpus;

    begin(builder, &builder->image->basic[0xb], 2);
    append(builder, (struct cpuid_registers){.eax = 0, .ebx = 1, .ecx = 1 << 8 | 0}, COMPUTE_TOPOLOGY);
    append(builder, (struct cpuid_registers){.eax = id_bits(vcpus), .ebx = vcpus, .ecx = 2 << 8 | 1},
           COMPUTE_TOPOLOGY);
    append(builder, nothing, COMPUTE_TOPOLOGY);
}

/* The area up to the end of the last component of `components`, in the standard format. */
static uint32_t standard_size(const struct cpuid_image *image, uint64_t components)
{
    uint32_t size = 512 + 64; /* legacy region and header */

    for (unsigned i = 2; i < ARRAY_SIZE(image->component); i++) {
        if ((components & BIT(i)) && image->component[i].offset + image->component[i].size > size)
            size = image->component[i].offset + image->component[i].size;
    }
    return size;
}

static uint32_t compacted_size(const struct cpuid_image *image, uint64_t components)
{
    uint32_t size = 512 + 64;

    for (unsigned i = 2; i < ARRAY_SIZE(image->component); i++) {
        if (!(components & BIT(i)))
            continue;
        if (image->component[i].align)
            size = (uint32_t)align_up(size, 64);
        size += image->component[i].size;
    }
    return size;
}

/* Which components there are, before anything that depends on them is built. */
static void find_components(const struct builder *builder)
{
    struct cpuid_image *image = builder->image;
    struct cpuid_registers r = hardware(builder, 0xd, 0);

    if (!(hardware(builder, 1, 0).ecx & CPUID_1_ECX_XSAVE))
        return;
    image->xcr0 = ((uint64_t)r.edx << 32 | r.eax) & builder->settings->xcr0 & XCR0_KNOWN;
    if ((image->xcr0 & XCR0_BASE) != XCR0_BASE)
        image->xcr0 = 0;
    for (unsigned i = 2; i < ARRAY_SIZE(image->component); i++) {
        if (!(image->xcr0 & BIT(i)))
            continue;
        r = hardware(builder, 0xd, i);
        image->component[i].size = (uint16_t)r.eax;
        image->component[i].offset = (uint16_t)r.ebx;
        image->component[i].align = r.ecx & 2;
        /* One without a place would be written where no guest expects it (docs/notes/bochs.md). */
        if (r.eax == 0)
            image->xcr0 &= ~BIT(i);
    }
    if ((image->xcr0 & XCR0_AVX512) != XCR0_AVX512)
        image->xcr0 &= ~(XCR0_AVX512 & ~XCR0_AVX);
}

static void build_xsave(const struct builder *builder)
{
    struct cpuid_image *image = builder->image;
    unsigned count = image->xcr0 == 0 ? 0 : 64 - (unsigned)__builtin_clzll(image->xcr0);

    if (count == 0) {
        put(builder, &image->basic[0xd], nothing, COMPUTE_NONE);
        return;
    }
    if (count < 2)
        count = 2;
    begin(builder, &image->basic[0xd], count);
    append(builder,
           (struct cpuid_registers){.eax = (uint32_t)image->xcr0,
                                    .ecx = standard_size(image, image->xcr0),
                                    .edx = (uint32_t)(image->xcr0 >> 32)},
           COMPUTE_XSAVE);
    append(builder, by_table(builder, 0xd, 1), COMPUTE_COMPACTED);
    for (unsigned i = 2; i < count; i++) {
        struct cpuid_registers r = nothing;

        if (image->xcr0 & BIT(i)) {
            r.eax = image->component[i].size;
            r.ebx = image->component[i].offset;
            r.ecx = image->component[i].align ? 2 : 0;
        }
        append(builder, r, COMPUTE_NONE);
    }
    append(builder, nothing, COMPUTE_NONE);
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

uint64_t cpuid_crystal_hz(uint64_t tsc_hz)
{
    return tsc_hz / (tsc_hz / (1ULL << 32) + 1);
}

/*
 * TSC rate = ECX * EBX / EAX (SDM vol. 2, leaf 15H); leaf 16H in MHz. A ratio that is whole but for the
 * rounding of the crystal's rate is told as such: systems multiply it with kHz in 32 bits.
 */
static void build_rates(const struct builder *builder, uint64_t apic_hz)
{
    uint64_t tsc_hz = builder->settings->tsc_hz;
    uint64_t ratio = tsc_hz / apic_hz;
    uint64_t divisor = tsc_hz - ratio * apic_hz < ratio ? apic_hz : greatest_common_divisor(tsc_hz, apic_hz);
    uint32_t mhz = (uint32_t)((tsc_hz + 500000) / 1000000);

    put(builder, &builder->image->basic[0x15],
        (struct cpuid_registers){.eax = (uint32_t)(apic_hz / divisor),
                                 .ebx = (uint32_t)(tsc_hz / divisor),
                                 .ecx = (uint32_t)apic_hz},
        COMPUTE_NONE);
    put(builder, &builder->image->basic[0x16],
        (struct cpuid_registers){.eax = mhz, .ebx = mhz, .ecx = (uint32_t)((apic_hz + 500000) / 1000000)},
        COMPUTE_NONE);
}

static void build_hypervisor(const struct builder *builder, uint64_t apic_hz)
{
    struct cpuid_image *image = builder->image;
    struct cpuid_registers r = {.eax = CPUID_HYPERVISOR_LAST};

    memcpy(&r.ebx, CPUID_SIGNATURE, 4);
    memcpy(&r.ecx, &CPUID_SIGNATURE[4], 4);
    memcpy(&r.edx, &CPUID_SIGNATURE[8], 4);
    for (unsigned i = 1; i < ARRAY_SIZE(image->hypervisor); i++)
        image->hypervisor[i] = image->basic[3];
    put(builder, &image->hypervisor[0], r, COMPUTE_NONE);
    put(builder, &image->hypervisor[CPUID_HYPERVISOR_CALLS - CPUID_HYPERVISOR_BASE],
        (struct cpuid_registers){.eax = builder->settings->hypercall_version,
                                 .ebx = builder->settings->hypercalls},
        COMPUTE_NONE);
    /* The leaf at which hypervisors by convention tell the rates of TSC and local APIC, in kHz. */
    put(builder, &image->hypervisor[CPUID_HYPERVISOR_LAST - CPUID_HYPERVISOR_BASE],
        (struct cpuid_registers){.eax = (uint32_t)(builder->settings->tsc_hz / 1000),
                                 .ebx = (uint32_t)(apic_hz / 1000)},
        COMPUTE_NONE);
}

static void build_extended(const struct builder *builder)
{
    struct cpuid_image *image = builder->image;
    struct cpuid_registers r;

    put(builder, &image->extended[0], (struct cpuid_registers){.eax = CPUID_EXTENDED_LAST}, COMPUTE_NONE);
    put(builder, &image->extended[1], by_table(builder, 0x80000001, 0), COMPUTE_SYSCALL);
    for (uint32_t leaf = 0x80000002; leaf < CPUID_EXTENDED_LAST; leaf++)
        put(builder, &image->extended[leaf - CPUID_EXTENDED_BASE], by_table(builder, leaf, 0), COMPUTE_NONE);

    /* Address widths: five-level paging is not offered. A processor without the leaf has 36 and 32 bits
     * or 48. */
    r = by_table(builder, 0x80000008, 0);
    if ((r.eax >> 8 & 0xff) > 48)
        r.eax = (r.eax & 0xff) | 48 << 8;
    put(builder, &image->extended[8], r, COMPUTE_NONE);
}

void cpuid_policy_build(struct cpuid_image *image,
                        struct cpuid_registers (*cpuid)(uint32_t leaf, uint32_t subleaf),
                        const struct cpuid_settings *settings)
{
    struct builder builder = {.image = image, .cpuid = cpuid, .settings = settings};
    uint64_t apic_hz = settings->apic_hz != 0 ? settings->apic_hz : cpuid_crystal_hz(settings->tsc_hz);
    struct cpuid_registers r;

    *image = (struct cpuid_image){0};
    builder.basic_last = cpuid(0, 0).eax;
    builder.extended_last = cpuid(CPUID_EXTENDED_BASE, 0).eax;
    find_components(&builder);

    /* Leaves that say nothing share an entry. */
    put(&builder, &image->basic[3], nothing, COMPUTE_NONE);
    for (unsigned i = 0; i <= CPUID_BASIC_LAST; i++)
        image->basic[i] = image->basic[3];

    r = by_table(&builder, 0, 0);
    r.eax = CPUID_BASIC_LAST;
    put(&builder, &image->basic[0], r, COMPUTE_NONE);
    build_features(&builder);
    put(&builder, &image->basic[2], by_table(&builder, 2, 0), COMPUTE_NONE);
    build_caches(&builder);
    put(&builder, &image->basic[6], by_table(&builder, 6, 0), COMPUTE_NONE);
    build_extended_features(&builder);
    build_topology(&builder);
    build_xsave(&builder);
    build_rates(&builder, apic_hz);
    build_hypervisor(&builder, apic_hz);
    build_extended(&builder);
}

/* ---- Answering ------------------------------------------------------------------------------------------
 */

const struct cpuid_entry *cpuid_image_find(const struct cpuid_image *image, uint32_t leaf, uint32_t subleaf)
{
    const struct cpuid_leaf *where;

    if (leaf <= CPUID_BASIC_LAST)
        where = &image->basic[leaf];
    else if (leaf - CPUID_EXTENDED_BASE < ARRAY_SIZE(image->extended))
        where = &image->extended[leaf - CPUID_EXTENDED_BASE];
    else if (leaf - CPUID_HYPERVISOR_BASE < ARRAY_SIZE(image->hypervisor))
        where = &image->hypervisor[leaf - CPUID_HYPERVISOR_BASE];
    else
        where = &image->basic[CPUID_BASIC_LAST];
    return &image->entries[where->first + (subleaf < where->count ? subleaf : where->beyond)];
}

void cpuid_entry_compute(const struct cpuid_image *image, const struct cpuid_entry *entry, uint32_t subleaf,
                         const struct cpuid_state *state, struct cpuid_registers *out)
{
    *out = entry->registers;
    switch ((enum compute)entry->compute) {
    case COMPUTE_NONE:
        break;
    case COMPUTE_FEATURES:
        out->ebx |= state->apic_id << 24;
        if (state->apic_enabled)
            out->edx |= CPUID_1_EDX_APIC;
        if (state->cr4 & X86_CR4_OSXSAVE)
            out->ecx |= CPUID_1_ECX_OSXSAVE;
        break;
    case COMPUTE_OSPKE:
        if (state->cr4 & X86_CR4_PKE)
            out->ecx |= CPUID_7_ECX_OSPKE;
        break;
    case COMPUTE_TOPOLOGY:
        out->ecx = (out->ecx & 0xff00) | (subleaf & 0xff);
        out->edx = state->apic_id;
        break;
    case COMPUTE_XSAVE:
        out->ebx = standard_size(image, state->xcr0);
        break;
    case COMPUTE_COMPACTED:
        if (out->eax & (CPUID_D1_EAX_XSAVEC | CPUID_D1_EAX_XSAVES))
            out->ebx = compacted_size(image, state->xcr0 | state->xss);
        break;
    case COMPUTE_SYSCALL:
        if (!state->mode_64)
            out->edx &= ~(uint32_t)CPUID_EXT1_EDX_SYSCALL;
        break;
    }
}

void cpuid_image_query(const struct cpuid_image *image, const struct cpuid_state *state, uint32_t leaf,
                       uint32_t subleaf, struct cpuid_registers *out)
{
    cpuid_entry_compute(image, cpuid_image_find(image, leaf, subleaf), subleaf, state, out);
}

/* ---- What the features permit ---------------------------------------------------------------------------
 */

/* A bit of a control register belongs to a feature: where any bit of `mask` is offered, it may be set. */
static const struct permission {
    uint64_t bit;
    uint32_t leaf;
    uint8_t reg; /* enum cpuid_register */
    uint32_t mask;
} cr4_permissions[] = {
    {X86_CR4_VME | X86_CR4_PVI, 1, CPUID_EDX, CPUID_1_EDX_VME},
    {X86_CR4_TSD, 1, CPUID_EDX, CPUID_1_EDX_TSC},
    {X86_CR4_DE, 1, CPUID_EDX, CPUID_1_EDX_DE},
    {X86_CR4_PSE, 1, CPUID_EDX, CPUID_1_EDX_PSE},
    {X86_CR4_PAE, 1, CPUID_EDX, CPUID_1_EDX_PAE},
    {X86_CR4_MCE, 1, CPUID_EDX, CPUID_1_EDX_MCE},
    {X86_CR4_PGE, 1, CPUID_EDX, CPUID_1_EDX_PGE},
    {X86_CR4_PCE, 1, CPUID_EDX, CPUID_1_EDX_MMX}, /* RDPMC came with MMX */
    {X86_CR4_OSFXSR, 1, CPUID_EDX, CPUID_1_EDX_FXSR},
    {X86_CR4_OSXMMEXCPT, 1, CPUID_EDX, CPUID_1_EDX_SSE},
    {X86_CR4_VMXE, 1, CPUID_ECX, CPUID_1_ECX_VMX},
    {X86_CR4_PCIDE, 1, CPUID_ECX, CPUID_1_ECX_PCID},
    {X86_CR4_OSXSAVE, 1, CPUID_ECX, CPUID_1_ECX_XSAVE},
    {X86_CR4_FSGSBASE, 7, CPUID_EBX, CPUID_7_EBX_FSGSBASE},
    {X86_CR4_SMEP, 7, CPUID_EBX, CPUID_7_EBX_SMEP},
    {X86_CR4_SMAP, 7, CPUID_EBX, CPUID_7_EBX_SMAP},
    {X86_CR4_UMIP, 7, CPUID_ECX, CPUID_7_ECX_UMIP},
    {X86_CR4_PKE, 7, CPUID_ECX, CPUID_7_ECX_PKU},
};

static const struct permission efer_permissions[] = {
    {X86_EFER_SCE, 0x80000001, CPUID_EDX, CPUID_EXT1_EDX_SYSCALL},
    {X86_EFER_LME | X86_EFER_LMA, 0x80000001, CPUID_EDX, CPUID_EXT1_EDX_LM},
    {X86_EFER_NXE, 0x80000001, CPUID_EDX, CPUID_EXT1_EDX_NX},
};

static uint64_t permitted(const struct cpuid_image *image, const struct permission *permissions, size_t count)
{
    uint64_t bits = 0;

    for (size_t i = 0; i < count; i++) {
        const struct cpuid_entry *entry = cpuid_image_find(image, permissions[i].leaf, 0);

        if (cpuid_register(&entry->registers, (enum cpuid_register)permissions[i].reg) & permissions[i].mask)
            bits |= permissions[i].bit;
    }
    return bits;
}

uint64_t cpuid_image_cr4(const struct cpuid_image *image)
{
    return permitted(image, cr4_permissions, ARRAY_SIZE(cr4_permissions));
}

uint64_t cpuid_image_efer(const struct cpuid_image *image)
{
    return permitted(image, efer_permissions, ARRAY_SIZE(efer_permissions));
}

bool cpuid_image_xcr0_valid(const struct cpuid_image *image, uint64_t value)
{
    uint64_t avx512 = value & (XCR0_AVX512 & ~XCR0_AVX);

    if ((value & ~image->xcr0) || !(value & X86_XCR0_X87))
        return false;
    if ((value & X86_XCR0_AVX) && !(value & X86_XCR0_SSE))
        return false;
    return avx512 == 0 || (value & XCR0_AVX512) == XCR0_AVX512;
}
