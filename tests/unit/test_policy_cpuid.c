// SPDX-License-Identifier: BSD-2-Clause
/*
 * vmx/policy_cpuid.c over recorded processors. Fails when a partition is offered what the processor has not
 * or Umbra does not carry out, when TSC rate and leaf 15H disagree, when a size of the XSAVE area is wrong,
 * or when a leaf outside the ranges is not answered as Intel's processors do.
 */
#include "vmx/policy_cpuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpuid.h"
#include "arch/x86/registers.h"
#include "tests/unit/processors.h"

static struct cpuid_image image;
static bool without_places; /* CPUID does not tell of AVX-512's last component and PKRU where they are */

static struct cpuid_registers told(uint32_t leaf, uint32_t subleaf)
{
    if (without_places && leaf == 0xd && (subleaf == 7 || subleaf == 9))
        return (struct cpuid_registers){0};
    return processor_cpuid(leaf, subleaf);
}

static const struct cpuid_settings full = {.vcpus = 1,
                                           .tsc_hz = 100000000,
                                           .xcr0 = ~0ULL,
                                           .rdtscp = true,
                                           .invpcid = true,
                                           .xsaves = true,
                                           .compaction = true};

static const struct cpuid_state running = {
    .apic_enabled = true, .mode_64 = true, .cr4 = X86_CR4_OSXSAVE, .xcr0 = X86_XCR0_X87};

static void build(unsigned which, const struct cpuid_settings *settings)
{
    processor = &processors[which];
    cpuid_policy_build(&image, told, settings);
}

static struct cpuid_registers ask(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_registers r;

    cpuid_image_query(&image, &running, leaf, subleaf, &r);
    return r;
}

static bool same(struct cpuid_registers a, struct cpuid_registers b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

/* Bits that must never be offered, whatever the processor has: leaf, subleaf, register, bit. */
static void never_offered(void **state)
{
    (void)state;
    static const struct {
        uint32_t leaf;
        enum cpuid_register reg;
        uint32_t bits;
        const char *what;
    } hidden[] = {
        {1, CPUID_ECX, 1u << 2 | 1u << 4 | 1u << 11 | 1u << 15,
         "debug store, debug interface, PMU capabilities"},
        {1, CPUID_ECX, 1u << 3, "MONITOR"},
        {1, CPUID_ECX, 1u << 5 | 1u << 6, "VMX, SMX"},
        {1, CPUID_ECX, 1u << 7 | 1u << 8 | 1u << 10 | 1u << 14 | 1u << 18, "EST, TM2, CNXT-ID, xTPR, DCA"},
        {1, CPUID_EDX, 1u << 18 | 1u << 21 | 1u << 22 | 1u << 29 | 1u << 31, "PSN, DS, ACPI, TM, PBE"},
        {7, CPUID_EBX, 1u << 2 | 1u << 12 | 1u << 14 | 1u << 15 | 1u << 25, "SGX, RDT, MPX, PT"},
        {7, CPUID_ECX,
         1u << 5 | 1u << 7 | 1u << 13 | 1u << 16 | 1u << 23 | 1u << 24 | 1u << 29 | 1u << 30 | 1u << 31,
         "WAITPKG, CET, TME, LA57, KL, bus lock, ENQCMD, SGX_LC, PKS"},
        {7, CPUID_EDX,
         1u << 5 | 1u << 9 | 1u << 11 | 1u << 13 | 1u << 15 | 1u << 16 | 1u << 18 | 1u << 19 | 1u << 20 |
             1u << 22 | 1u << 24 | 1u << 25 | 1u << 30,
         "UINTR, SRBDS, RTM abort, hybrid, TSXLDTRK, PCONFIG, LBR, IBT, AMX, core capabilities"},
    };

    for (unsigned which = 0; which < PROCESSORS; which++) {
        build(which, &full);
        for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
            struct cpuid_registers r = ask(hidden[i].leaf, 0);

            if (cpuid_register(&r, hidden[i].reg) & hidden[i].bits)
                fail_msg("%s: %s", processor->name, hidden[i].what);
        }
        for (uint32_t leaf = 3; leaf <= 0x14; leaf++) {
            struct cpuid_registers r = ask(leaf, 0);

            if (leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd)
                continue;
            r.eax &= leaf == 6 ? ~4u : ~0u;
            assert_true(same(r, (struct cpuid_registers){0}));
        }
        assert_int_equal(ask(6, 0).eax, CPUID_6_EAX_ARAT);
    }
}

/* What is offered beyond the processor is only what Umbra carries out itself. */
static void nothing_invented(void **state)
{
    (void)state;
    static const struct {
        uint32_t leaf;
        enum cpuid_register reg;
        uint32_t own;
    } leaves[] = {
        {1, CPUID_ECX,
         CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR | CPUID_1_ECX_OSXSAVE},
        {1, CPUID_EDX, CPUID_1_EDX_APIC},
        {7, CPUID_EBX, CPUID_7_EBX_TSC_ADJUST},
        {7, CPUID_ECX, 0},
        {7, CPUID_EDX, 0},
        {0x80000001, CPUID_ECX, 0},
        {0x80000001, CPUID_EDX, 0},
        {0x80000007, CPUID_EDX, CPUID_EXT7_EDX_INVARIANT_TSC},
    };

    for (unsigned which = 0; which < PROCESSORS; which++) {
        build(which, &full);
        for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
            struct cpuid_registers host = {0}, guest = ask(leaves[i].leaf, 0);

            if (leaves[i].leaf >= 0x80000000 || leaves[i].leaf <= processor_cpuid(0, 0).eax)
                host = processor_cpuid(leaves[i].leaf, 0);
            assert_int_equal(cpuid_register(&guest, leaves[i].reg) & ~cpuid_register(&host, leaves[i].reg) &
                                 ~leaves[i].own,
                             0);
            assert_int_equal(
                leaves[i].leaf == 1 && leaves[i].reg == CPUID_ECX
                    ? guest.ecx & (CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR)
                    : 0,
                leaves[i].leaf == 1 && leaves[i].reg == CPUID_ECX
                    ? CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR
                    : 0);
        }
        assert_int_equal(ask(0x80000007, 0).edx, CPUID_EXT7_EDX_INVARIANT_TSC);
    }
}

/* Skylake-X whole, as a partition with everything sees it: written down, not computed. */
static void skylake(void **state)
{
    (void)state;
    build(SKYLAKE_X, &full);
    struct cpuid_registers r = ask(0, 0);

    assert_true(same(r, (struct cpuid_registers){0x16, 0x756e6547, 0x6c65746e, 0x49656e69}));
    r = ask(1, 0);
    assert_int_equal(r.eax, 0x00050654);
    assert_int_equal(r.ebx, 0x00000800);
    assert_int_equal(r.ecx, 0xfffa3203);
    assert_int_equal(r.edx, 0x0f8bfbff);
    assert_true(same(ask(2, 0), (struct cpuid_registers){0x76036301, 0x00f0b5ff, 0, 0x00c30000}));
    assert_true(same(ask(4, 0), (struct cpuid_registers){0x121, 0x01c0003f, 0x3f, 0}));
    assert_true(same(ask(4, 3), (struct cpuid_registers){0x163, 0x0280003f, 0x2fff, 4}));
    assert_true(same(ask(4, 4), (struct cpuid_registers){0}));
    assert_true(same(ask(4, 77), (struct cpuid_registers){0}));
    assert_true(same(ask(7, 0), (struct cpuid_registers){0, 0xd19f27eb, 0, 0}));
    assert_true(same(ask(7, 1), (struct cpuid_registers){0}));
    assert_true(same(ask(0xd, 0), (struct cpuid_registers){0xe7, 0x240, 0xa80, 0}));
    assert_true(same(ask(0xd, 1), (struct cpuid_registers){0xf, 0x240, 0, 0}));
    assert_true(same(ask(0xd, 2), (struct cpuid_registers){0x100, 0x240, 0, 0}));
    assert_true(same(ask(0xd, 3), (struct cpuid_registers){0}));
    assert_true(same(ask(0xd, 7), (struct cpuid_registers){0x400, 0x680, 0, 0}));
    assert_true(same(ask(0xd, 8), (struct cpuid_registers){0}));
    assert_true(same(ask(0xd, 9), (struct cpuid_registers){0}));
    assert_true(same(ask(0x80000000, 0), (struct cpuid_registers){0x80000008, 0, 0, 0}));
    assert_true(same(ask(0x80000001, 0), (struct cpuid_registers){0, 0, 0x121, 0x2c100800}));
    assert_true(
        same(ask(0x80000003, 0), (struct cpuid_registers){0x37692029, 0x3038372d, 0x43205830, 0x40205550}));
    assert_true(same(ask(0x80000005, 0), (struct cpuid_registers){0}));
    assert_true(same(ask(0x80000006, 0), (struct cpuid_registers){0, 0, 0x01006040, 0}));
    assert_true(same(ask(0x80000008, 0), (struct cpuid_registers){0x3028, 0, 0, 0}));

    /* Subleaves do not matter where the leaf has none. */
    assert_true(same(ask(1, 0), ask(1, 5)));
    assert_true(same(ask(0x80000001, 0), ask(0x80000001, ~0u)));
}

static void out_of_range(void **state)
{
    (void)state;
    static const uint32_t leaves[] = {0x17,       0x1f,       0x3fffffff, 0x40000011, 0x40000100,
                                      0x7fffffff, 0x80000009, 0x8fffffff, 0xc0000000, 0xffffffff};
    for (unsigned which = 0; which < PROCESSORS; which++) {
        build(which, &full);
        for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
            assert_true(same(ask(leaves[i], 1), ask(0x16, 1)));
    }
}

static void hypervisor_leaves(void **state)
{
    (void)state;
    struct cpuid_settings s = full;
    char signature[13] = {0};

    s.tsc_hz = 2095123456;
    s.hypercall_version = 0x00010002;
    s.hypercalls = 0x12345;
    build(TIGER_LAKE, &s);
    struct cpuid_registers r = ask(0x40000000, 0);
    memcpy(signature, &r.ebx, 4);
    memcpy(signature + 4, &r.ecx, 4);
    memcpy(signature + 8, &r.edx, 4);
    assert_string_equal(signature, CPUID_SIGNATURE);
    assert_int_equal(strlen(CPUID_SIGNATURE), 12);
    assert_int_equal(r.eax, 0x40000010);
    assert_true(same(ask(0x40000001, 0), (struct cpuid_registers){0x00010002, 0x12345, 0, 0}));
    for (uint32_t leaf = 0x40000002; leaf < 0x40000010; leaf++)
        assert_true(same(ask(leaf, 0), (struct cpuid_registers){0}));
    assert_true(same(ask(0x40000010, 0), (struct cpuid_registers){2095123, 2095123, 0, 0}));
}

/* Linux' arithmetic: whole kHz of the crystal, times EBX, over EAX, in 32 bits. */
static void rates(void **state)
{
    (void)state;
    static const struct {
        uint64_t tsc_hz, apic_hz;
    } cases[] = {
        {100000000, 0},           {3500000000, 0},        {2095123457, 0},        {4294967295, 0},
        {4294967296, 0},          {5200000001, 0},        {9000000000, 0},        {1, 0},
        {2400000000, 38400000},   {3500000000, 25000000}, {2419200000, 38400000}, {100000000, 100000000},
        {3500000000, 1000000000}, {3000000000, 24000000},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cpuid_settings s = full;
        uint64_t crystal = cases[i].apic_hz != 0 ? cases[i].apic_hz : cpuid_crystal_hz(cases[i].tsc_hz);
        struct cpuid_registers r;
        uint64_t told;
        uint32_t khz;

        s.tsc_hz = cases[i].tsc_hz;
        s.apic_hz = cases[i].apic_hz;
        build(SKYLAKE_X, &s);
        r = ask(0x15, 0);
        assert_int_equal(r.ecx, crystal);
        assert_true(r.eax != 0 && r.ebx != 0);
        told = (uint64_t)((unsigned __int128)r.ecx * r.ebx / r.eax);
        assert_true(told <= cases[i].tsc_hz && cases[i].tsc_hz - told <= cases[i].tsc_hz >> 32);
        khz = (uint32_t)(r.ecx / 1000 * r.ebx) / r.eax;
        assert_true(cases[i].tsc_hz / 1000 - khz <= cases[i].tsc_hz >> 32);
        r = ask(0x16, 0);
        assert_int_equal(r.eax, (cases[i].tsc_hz + 500000) / 1000000);
    }
}

static void topology(void **state)
{
    (void)state;
    for (unsigned vcpus = 1; vcpus <= 32; vcpus++) {
        struct cpuid_settings s = full;
        struct cpuid_state vcpu = running;
        struct cpuid_registers r;
        unsigned bits = 0;

        while (1u << bits < vcpus)
            bits++;
        s.vcpus = vcpus;
        build(TIGER_LAKE, &s);
        for (vcpu.apic_id = 0; vcpu.apic_id < vcpus; vcpu.apic_id++) {
            cpuid_image_query(&image, &vcpu, 1, 0, &r);
            assert_int_equal(r.ebx >> 24, vcpu.apic_id);
            assert_int_equal(r.ebx >> 16 & 0xff, vcpus > 1 ? 1u << bits : 0);
            assert_int_equal((r.edx & CPUID_1_EDX_HTT) != 0, vcpus > 1);
            cpuid_image_query(&image, &vcpu, 0xb, 0, &r);
            assert_true(same(r, (struct cpuid_registers){0, 1, 0x100, vcpu.apic_id}));
            cpuid_image_query(&image, &vcpu, 0xb, 1, &r);
            assert_true(same(r, (struct cpuid_registers){bits, vcpus, 0x201, vcpu.apic_id}));
            cpuid_image_query(&image, &vcpu, 0xb, 0x1234, &r);
            assert_true(same(r, (struct cpuid_registers){0, 0, 0x34, vcpu.apic_id}));
        }
        assert_true(1u << ask(0xb, 1).eax >= vcpus);
        /* Level 1 is a core's own, level 3 everybody's. */
        assert_int_equal(ask(4, 0).eax >> 14 & 0xfff, 0);
        assert_int_equal(ask(4, 3).eax >> 14 & 0xfff, (1u << bits) - 1);
        assert_int_equal(ask(4, 3).eax >> 26, (1u << bits) - 1);
    }
}

static void computed(void **state)
{
    (void)state;
    struct cpuid_state vcpu = {0};
    struct cpuid_registers r;

    build(TIGER_LAKE, &full);
    cpuid_image_query(&image, &vcpu, 1, 0, &r);
    assert_false(r.ecx & CPUID_1_ECX_OSXSAVE);
    assert_false(r.edx & CPUID_1_EDX_APIC);
    vcpu.cr4 = X86_CR4_OSXSAVE;
    vcpu.apic_enabled = true;
    cpuid_image_query(&image, &vcpu, 1, 0, &r);
    assert_true(r.ecx & CPUID_1_ECX_OSXSAVE);
    assert_true(r.edx & CPUID_1_EDX_APIC);
    cpuid_image_query(&image, &vcpu, 7, 0, &r);
    assert_false(r.ecx & CPUID_7_ECX_OSPKE);
    vcpu.cr4 = X86_CR4_PKE;
    cpuid_image_query(&image, &vcpu, 7, 0, &r);
    assert_true(r.ecx & CPUID_7_ECX_OSPKE);
    cpuid_image_query(&image, &vcpu, 0x80000001, 0, &r);
    assert_false(r.edx & CPUID_EXT1_EDX_SYSCALL);
    vcpu.mode_64 = true;
    cpuid_image_query(&image, &vcpu, 0x80000001, 0, &r);
    assert_true(r.edx & CPUID_EXT1_EDX_SYSCALL);

    /* Entries that need nothing say so, and are the whole answer. */
    for (uint32_t leaf = 0; leaf <= 0x16; leaf++) {
        const struct cpuid_entry *entry = cpuid_image_find(&image, leaf, 0);

        if (entry->needs == 0)
            assert_true(same(entry->registers, ask(leaf, 0)));
        assert_int_equal(entry->needs != 0, leaf == 1 || leaf == 7 || leaf == 0xb || leaf == 0xd);
    }
}

/* Sizes that a Tiger Lake gives for its own components: x87+SSE, AVX, AVX-512, protection keys. */
static void xsave_sizes(void **state)
{
    (void)state;
    static const struct {
        uint64_t xcr0;
        uint32_t standard, compacted;
    } cases[] = {
        {0x1, 576, 576},    {0x3, 576, 576},     {0x7, 832, 832},
        {0xe7, 2688, 2432}, {0x2e7, 2696, 2440}, {0x203, 2696, 584},
    };
    struct cpuid_state vcpu = running;
    struct cpuid_registers r;

    build(TIGER_LAKE, &full);
    assert_int_equal(cpuid_image_xcr0(&image), 0x2e7);
    assert_int_equal(ask(0xd, 0).ecx, 0xa88);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        vcpu.xcr0 = cases[i].xcr0;
        cpuid_image_query(&image, &vcpu, 0xd, 0, &r);
        assert_int_equal(r.ebx, cases[i].standard);
        cpuid_image_query(&image, &vcpu, 0xd, 1, &r);
        assert_int_equal(r.ebx, cases[i].compacted);
    }
    assert_true(cpuid_image_xcr0_valid(&image, 0x1));
    assert_true(cpuid_image_xcr0_valid(&image, 0x2e7));
    assert_true(cpuid_image_xcr0_valid(&image, 0x203));
    assert_false(cpuid_image_xcr0_valid(&image, 0x0));
    assert_false(cpuid_image_xcr0_valid(&image, 0x6));
    assert_false(cpuid_image_xcr0_valid(&image, 0x5));
    assert_false(cpuid_image_xcr0_valid(&image, 0x27));
    assert_false(cpuid_image_xcr0_valid(&image, 0xe3));
    assert_false(cpuid_image_xcr0_valid(&image, 0x1f));
    assert_false(cpuid_image_xcr0_valid(&image, 1ULL << 62 | 1));
}

/* Features that go with what was not obtained or not allowed. */
static void withheld(void **state)
{
    (void)state;
    struct cpuid_settings s = full;

    s.rdtscp = s.invpcid = s.xsaves = false;
    s.xcr0 = X86_XCR0_X87 | X86_XCR0_SSE;
    build(TIGER_LAKE, &s);
    assert_false(ask(1, 0).ecx & (CPUID_1_ECX_AVX | CPUID_1_ECX_FMA | CPUID_1_ECX_F16C));
    assert_true(ask(1, 0).ecx & CPUID_1_ECX_XSAVE);
    assert_false(ask(7, 0).ebx & (CPUID_7_EBX_AVX2 | CPUID_7_EBX_AVX512F | CPUID_7_EBX_INVPCID));
    assert_false(ask(7, 0).ecx & (CPUID_7_ECX_PKU | CPUID_7_ECX_RDPID | CPUID_7_ECX_VAES));
    assert_false(ask(0xd, 1).eax & CPUID_D1_EAX_XSAVES);
    assert_int_equal(ask(0xd, 0).eax, 3);
    assert_false(ask(0x80000001, 0).edx & CPUID_EXT1_EDX_RDTSCP);
    assert_false(cpuid_image_cr4(&image) & X86_CR4_PKE);

    s.xcr0 = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX | X86_XCR0_OPMASK; /* AVX-512 only whole */
    build(TIGER_LAKE, &s);
    assert_int_equal(cpuid_image_xcr0(&image), 7);
    s.xcr0 = 0;
    build(TIGER_LAKE, &s);
    assert_false(ask(1, 0).ecx & CPUID_1_ECX_XSAVE);
    assert_true(same(ask(0xd, 0), (struct cpuid_registers){0}));
    assert_false(cpuid_image_cr4(&image) & X86_CR4_OSXSAVE);

    /* What has no place is not offered in XCR0; keys do without. */
    without_places = true;
    build(TIGER_LAKE, &full);
    assert_int_equal(cpuid_image_xcr0(&image), 7);
    assert_int_equal(ask(0xd, 0).ecx, 832);
    assert_true(ask(7, 0).ecx & CPUID_7_ECX_PKU);
    assert_true(cpuid_image_cr4(&image) & X86_CR4_PKE);
    without_places = false;

    s = full;
    s.compaction = false;
    build(TIGER_LAKE, &s);
    assert_int_equal(ask(0xd, 1).eax, CPUID_D1_EAX_XSAVEOPT | CPUID_D1_EAX_XGETBV_1);
    assert_int_equal(ask(0xd, 1).ebx, 0);
}

static void permissions(void **state)
{
    (void)state;
    const uint64_t old = X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE |
                         X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    const uint64_t skylake_bits =
        old | X86_CR4_PCIDE | X86_CR4_OSXSAVE | X86_CR4_FSGSBASE | X86_CR4_SMEP | X86_CR4_SMAP;
    const uint64_t efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    static const unsigned order[] = {PENRYN, LYNNFIELD, SKYLAKE_X, TIGER_LAKE};
    const uint64_t expected[] = {old | X86_CR4_OSXSAVE, old, skylake_bits,
                                 skylake_bits | X86_CR4_UMIP | X86_CR4_PKE};

    for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
        build(order[i], &full);
        assert_int_equal(cpuid_image_cr4(&image), expected[i]);
        assert_int_equal(cpuid_image_efer(&image), efer);
        assert_true(image.entry_count <= CPUID_ENTRIES_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_offered), cmocka_unit_test(nothing_invented),  cmocka_unit_test(skylake),
        cmocka_unit_test(out_of_range),  cmocka_unit_test(hypervisor_leaves), cmocka_unit_test(rates),
        cmocka_unit_test(topology),      cmocka_unit_test(computed),          cmocka_unit_test(xsave_sizes),
        cmocka_unit_test(withheld),      cmocka_unit_test(permissions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
