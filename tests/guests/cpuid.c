// SPDX-License-Identifier: BSD-2-Clause
/*
 * CPUID: that leaves agree with each other, with the control registers and with what instructions do (SDM
 * vol. 2, CPUID), and that what programs see of the processor is the same in a partition. Bits that belong to
 * the owner of the platform are gathered in rows that may differ.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/guest.h"

static bool same(struct cpuid a, struct cpuid b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

static bool is_zero(struct cpuid r)
{
    return same(r, (struct cpuid){0});
}

/* ---- Feature bits ------------------------------------------------------------------------------------- */

/*
 * In `own` are the bits that software uses without asking the platform; each gets a row. The others
 * (monitoring, power, debug store, virtualisation, counters, x2APIC, TSC deadline, hypervisor present) make
 * one word that may differ.
 */
static const struct {
    const char *name;
    uint32_t leaf;
    unsigned word; /* 0: EAX … 3: EDX */
    uint32_t own;
} registers[] = {
    {"1-ecx", 1, 2,
     0x76da3203}, /* SSE3 PCLMULQDQ SSSE3 FMA CX16 PCID SSE4 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
    {"1-edx", 1, 3, 0x0f8bfdff & ~0x200U}, /* without APIC, see below */
    {"7-ebx", 7, 1,
     0xf1bf07bd}, /* FSGSBASE BMI HLE AVX2 SMEP ERMS INVPCID RTM RDSEED ADX SMAP CLFLUSHOPT CLWB AVX-512 */
    {"80000001-ecx", 0x80000001, 2, 0x00000121},
    {"80000001-edx", 0x80000001, 3, 0x2c100800},
};

static uint32_t word_of(struct cpuid r, unsigned word)
{
    const uint32_t words[] = {r.eax, r.ebx, r.ecx, r.edx};

    return words[word];
}

static void feature_rows(void)
{
    char name[48];

    for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
        uint32_t seen = word_of(cpuid(registers[i].leaf, 0), registers[i].word);

        for (unsigned bit = 0; bit < 32; bit++) {
            if ((registers[i].own & BIT(bit)) == 0)
                continue;
            format_text(name, sizeof(name), "%s-bit-%02u", registers[i].name, bit);
            guest_value(name, seen >> bit & 1);
        }
    }
    /* Leaf 80000001 has no others. */
    guest_differs("1-ecx-platform", cpuid(1, 0).ecx & ~registers[0].own);
    guest_differs("1-edx-platform", cpuid(1, 0).edx & ~registers[1].own);
    guest_differs("7-ebx-platform", cpuid(7, 0).ebx & ~registers[2].own);
}

/* ---- Leaves ------------------------------------------------------------------------------------------- */

static void leaf_rows(void)
{
    struct cpuid zero = cpuid(0, 0), one = cpuid(1, 0), extended = cpuid(0x80000000, 0);
    char name[48];

    guest_differs("last-leaf", zero.eax);
    CHECK("last-leaf-has-xsave", zero.eax >= 0xd);
    guest_value("vendor-ebx", zero.ebx);
    guest_value("vendor-ecx", zero.ecx);
    guest_value("vendor-edx", zero.edx);
    guest_value("signature", one.eax);
    guest_value("clflush-brand", one.ebx & 0xffff);
    guest_equal("initial-apic-id", one.ebx >> 24, 0);
    guest_equal("extended-last-leaf", extended.eax, 0x80000008);
    guest_value("brand-matches",
                cpuid(0x80000002, 0).eax ^ cpuid(0x80000003, 0).ebx ^ cpuid(0x80000004, 0).edx);
    guest_value("address-sizes", cpuid(0x80000008, 0).eax);
    guest_equal("linear-address-bits", cpuid(0x80000008, 0).eax >> 8 & 0xff, 48);
    CHECK("physical-address-bits",
          (cpuid(0x80000008, 0).eax & 0xff) >= 32 && (cpuid(0x80000008, 0).eax & 0xff) <= 52);
    guest_equal("extended-signature", cpuid(0x80000001, 0).eax, 0);

    /* SDM vol. 2, CPUID: beyond the last basic leaf, the data of the last one. */
    static const uint32_t beyond[] = {0x18000000, 0x3fffffff, 0x7fffffff};
    for (size_t i = 0; i < ARRAY_SIZE(beyond); i++) {
        format_text(name, sizeof(name), "beyond-%08x-is-last", beyond[i]);
        guest_value(name, same(cpuid(beyond[i], 0), cpuid(zero.eax, 0)));
    }
    format_text(name, sizeof(name), "beyond-extended-is-last");
    guest_value(name, same(cpuid(extended.eax + 1, 0), cpuid(zero.eax, 0)));
    guest_value("beyond-ffffffff-is-last", same(cpuid(0xffffffff, 0), cpuid(zero.eax, 0)));

    /* Leaves that do not look at the subleaf. */
    static const uint32_t plain[] = {0, 1, 2, 6, 0x80000000, 0x80000001, 0x80000006, 0x80000008};
    for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
        format_text(name, sizeof(name), "subleaf-ignored-%08x", plain[i]);
        CHECK(name, same(cpuid(plain[i], 0), cpuid(plain[i], 0x12345678)));
    }

    CHECK("leaf-2-descriptors", (cpuid(2, 0).eax & 0xff) == 1);
    CHECK("leaf-7-subleaves", cpuid(7, 0).eax <= 2);
    CHECK("leaf-7-beyond", is_zero(cpuid(7, cpuid(7, 0).eax + 1)));

    /* Leaf 4: caches, ended by type 0; sizes from 16 KiB to 1 GiB, level rising. */
    unsigned caches = 0;
    bool sane = true;
    for (; caches < 8 && (cpuid(4, caches).eax & 0x1f) != 0; caches++) {
        struct cpuid c = cpuid(4, caches);
        uint64_t size = ((uint64_t)(c.ebx >> 22) + 1) * ((c.ebx >> 12 & 0x3ff) + 1) * ((c.ebx & 0xfff) + 1) *
                        ((uint64_t)c.ecx + 1);
        unsigned level = c.eax >> 5 & 7;
        sane &= level >= 1 && level <= 4 && size >= KIB(16) && size <= GIB(1);
    }
    guest_value("leaf-4-caches", caches);
    CHECK("leaf-4-sane", sane && caches < 8);

    /* No row for the kind of the first level: the emulator's answer has none. */
    struct cpuid topology = cpuid(0xb, 0);
    if (topology.ebx != 0) {
        guest_equal("leaf-b-x2apic-id", topology.edx, one.ebx >> 24);
        struct cpuid end = cpuid(0xb, 7);
        CHECK("leaf-b-end", (end.ecx & 0xff00) == 0 && (end.ecx & 0xff) == 7 && end.edx == topology.edx);
    }

    if (guest_under_umbra()) {
        struct cpuid hypervisor = cpuid(0x40000000, 0);
        guest_differs("hypervisor-leaves", hypervisor.eax);
    } else {
        guest_differs("hypervisor-leaves", 0);
    }
}

/* ---- What changes as the guest runs ------------------------------------------------------------------- */

static void xsetbv(uint64_t value)
{
    __asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static uint64_t xgetbv(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static void dynamic_rows(void)
{
    uint64_t rax = 0xffffffff00000000UL, rbx = ~0UL, rcx = 0xffffffff00000000UL, rdx = ~0UL;

    __asm__ volatile("cpuid" : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx));
    CHECK("clears-upper-halves", ((rax | rbx | rcx | rdx) >> 32) == 0);
    rax = 0xffffffff00000001UL;
    __asm__ volatile("cpuid" : "+a"(rax), "=b"(rbx), "=c"(rcx), "=d"(rdx));
    guest_equal("ignores-upper-rax", rax, cpuid(1, 0).eax);
    write_flags(RFLAGS_FIXED | 0x8d5);
    (void)cpuid(0, 0);
    guest_equal("keeps-flags", read_flags() & 0x8d5, 0x8d5);
    guest_equal("apic-bit", cpuid(1, 0).edx >> 9 & 1, rdmsr(MSR_APIC_BASE) >> 11 & 1);

    bool xsave = (cpuid(1, 0).ecx & BIT(26)) != 0;
    guest_value("xsave", xsave);
    guest_equal("osxsave-clear", cpuid(1, 0).ecx >> 27 & 1, 0);
    if (!xsave)
        return;
    for (unsigned i = 0; i < 3; i++) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        guest_equal("osxsave-follows-set", cpuid(1, 0).ecx >> 27 & 1, 1);
        write_cr4(read_cr4() & ~CR4_OSXSAVE);
        guest_equal("osxsave-follows-clear", cpuid(1, 0).ecx >> 27 & 1, 0);
    }
    write_cr4(read_cr4() | CR4_OSXSAVE | CR4_OSFXSR);
    guest_equal("xcr0-at-start", xgetbv(), 1);

    struct cpuid d = cpuid(0xd, 0);
    uint64_t offered = (uint64_t)d.edx << 32 | d.eax;
    guest_value("leaf-d-components", offered);
    guest_value("leaf-d-largest", d.ecx);
    guest_equal("leaf-d-size-x87", d.ebx, 576);
    xsetbv(3);
    guest_equal("leaf-d-size-sse", cpuid(0xd, 0).ebx, 576);
    if ((offered & 4) != 0) {
        xsetbv(7);
        guest_equal("leaf-d-size-avx", cpuid(0xd, 0).ebx, 832);
        guest_equal("leaf-d-avx-size", cpuid(0xd, 2).eax, 256);
        guest_equal("leaf-d-avx-offset", cpuid(0xd, 2).ebx, 576);
    }
    xsetbv(offered);
    guest_equal("leaf-d-size-all", cpuid(0xd, 0).ebx, d.ecx);
    bool components = true;
    for (unsigned i = 2; i < 63; i++)
        if ((offered & BIT(i)) == 0)
            components &= (cpuid(0xd, i).ecx & 1) != 0 || is_zero(cpuid(0xd, i));
        else
            components &= cpuid(0xd, i).eax + cpuid(0xd, i).ebx <= d.ecx;
    CHECK("leaf-d-subleaves", components);
    xsetbv(1);
    write_cr4(read_cr4() & ~CR4_OSXSAVE);
}

/* ---- Instructions are there exactly if their bit says so ---------------------------------------------- */

#define IMPLIES(name, bit, code)                                                                             \
    do {                                                                                                     \
        TRY("subq $4096, %%rsp; andq $-64, %%rsp; " code, : : : "memory", "cc", "rax", "rbx", "rcx", "rdx"); \
        guest_expect_vector(name, (bit) ? NO_VECTOR : VECTOR_UD, 0);                                         \
    } while (0)

static void instruction_rows(void)
{
    struct cpuid one = cpuid(1, 0), seven = cpuid(7, 0), extended = cpuid(0x80000001, 0);

    write_cr4(read_cr4() | CR4_OSFXSR);
    IMPLIES("has-rdtscp", extended.edx & BIT(27), "rdtscp");
    IMPLIES("has-rdrand", one.ecx & BIT(30), "rdrand %%eax");
    IMPLIES("has-rdseed", seven.ebx & BIT(18), "rdseed %%eax");
    IMPLIES("has-popcnt", one.ecx & BIT(23), "popcnt %%eax, %%eax");
    IMPLIES("has-movbe", one.ecx & BIT(22), "movbe (%%rsp), %%eax");
    IMPLIES("has-cmpxchg16b", one.ecx & BIT(13), "cmpxchg16b (%%rsp)");
    IMPLIES("has-sse3", one.ecx & BIT(0), "lddqu (%%rsp), %%xmm0");
    IMPLIES("has-ssse3", one.ecx & BIT(9), "pabsb %%xmm0, %%xmm0");
    IMPLIES("has-sse4.1", one.ecx & BIT(19), "pminsb %%xmm0, %%xmm0");
    IMPLIES("has-sse4.2", one.ecx & BIT(20), "pcmpgtq %%xmm0, %%xmm0");
    IMPLIES("has-aes", one.ecx & BIT(25), "aesenc %%xmm0, %%xmm0");
    IMPLIES("has-pclmulqdq", one.ecx & BIT(1), "pclmulqdq $0, %%xmm0, %%xmm0");
    IMPLIES("has-clflush", one.edx & BIT(19), "clflush (%%rsp)");
    IMPLIES("has-clflushopt", seven.ebx & BIT(23), "clflushopt (%%rsp)");
    IMPLIES("has-clwb", seven.ebx & BIT(24), "clwb (%%rsp)");
    IMPLIES("has-adx", seven.ebx & BIT(19), "adcx %%eax, %%eax");
    IMPLIES("has-stac", seven.ebx & BIT(20), "stac; clac");
    IMPLIES("has-invpcid", seven.ebx & BIT(10),
            "movq $0, (%%rsp); movq $0, 8(%%rsp); movl $2, %%eax; invpcid (%%rsp), %%rax");
    IMPLIES("has-monitor", one.ecx & BIT(3),
            "movq %%rsp, %%rax; xorl %%ecx, %%ecx; xorl %%edx, %%edx; monitor");
    IMPLIES("has-lahf", extended.ecx & BIT(0), "lahf");
    IMPLIES("has-fxsave", one.edx & BIT(24), "fxsave (%%rsp)");
    if ((one.ecx & BIT(26)) == 0)
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    xsetbv(3);
    IMPLIES("has-no-avx-by-xcr0", false, "vpxor %%xmm0, %%xmm0, %%xmm0");
    IMPLIES("has-xsaveopt", cpuid(0xd, 1).eax & BIT(0),
            "movl $3, %%eax; xorl %%edx, %%edx; xsaveopt (%%rsp)");
    /* No control takes it away where the processor has it, and it is not offered. */
    TRY("subq $4096, %%rsp; andq $-64, %%rsp; movl $3, %%eax; xorl %%edx, %%edx; xsavec (%%rsp)",
        :
        :
        : "memory", "rax", "rdx");
    guest_check(guest_fault.vector == NO_VECTOR ||
                    ((cpuid(0xd, 1).eax & BIT(1)) == 0 && guest_fault.vector == VECTOR_UD),
                "has-xsavec", "vector %d", guest_fault.vector);
    IMPLIES("has-xgetbv-1", true, "xorl %%ecx, %%ecx; xgetbv");
    if ((cpuid(0xd, 0).eax & 4) != 0) {
        xsetbv(7);
        IMPLIES("has-avx", one.ecx & BIT(28), "vpxor %%xmm0, %%xmm0, %%xmm0");
        IMPLIES("has-avx2", seven.ebx & BIT(5), "vpxor %%ymm0, %%ymm0, %%ymm0");
        IMPLIES("has-fma", one.ecx & BIT(12), "vfmadd132ps %%xmm0, %%xmm0, %%xmm0");
        IMPLIES("has-f16c", one.ecx & BIT(29), "vcvtph2ps %%xmm0, %%xmm0");
        IMPLIES("has-bmi1", seven.ebx & BIT(3), "andn %%eax, %%eax, %%eax");
        IMPLIES("has-bmi2", seven.ebx & BIT(8), "pdep %%eax, %%eax, %%eax");
        IMPLIES("has-no-avx512-by-xcr0", false, "vpxord %%zmm0, %%zmm0, %%zmm0");
    }
    if ((cpuid(0xd, 0).eax & 0xe0) == 0xe0) {
        xsetbv(0xe7);
        IMPLIES("has-avx512f", seven.ebx & BIT(16), "vpxord %%zmm0, %%zmm0, %%zmm0");
    }
    xsetbv(1);
}

void guest_main(void)
{
    leaf_rows();
    feature_rows();
    dynamic_rows();
    instruction_rows();
}
