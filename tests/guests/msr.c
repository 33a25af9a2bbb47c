// SPDX-License-Identifier: BSD-2-Clause
/*
 * Model-specific registers (SDM vol. 4, "Architectural MSRs"): what exists can be read, takes good values and
 * keeps them, refuses bad ones with #GP(0) and keeps the old; what does not exist is #GP(0). What CPUID says
 * of an MSR and what RDMSR does must agree.
 */
#include "lib/printf.h"
#include "tests/guests/lib/guest.h"

static uint64_t try_read(uint32_t msr)
{
    uint32_t low = 0, high = 0;

    TRY("rdmsr", : "+a"(low), "+d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}

static void try_write(uint32_t msr, uint64_t value)
{
    TRY("wrmsr", : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

/* ---- Values ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t msr;
    uint64_t value;
    bool good;
} values[] = {
    {"star", MSR_STAR, 0x1b0008ffffffffUL, true},
    {"star-ones", MSR_STAR, ~0UL, true},
    {"lstar", MSR_LSTAR, 0x7fffffffffffUL, true},
    {"lstar-high", MSR_LSTAR, 0xffff800000000000UL, true},
    {"lstar-non-canonical", MSR_LSTAR, 0x800000000000UL, false},
    {"lstar-non-canonical-high", MSR_LSTAR, 0xffff7fffffffffffUL, false},
    {"cstar", MSR_CSTAR, 0x123456789abcUL, true},
    {"cstar-non-canonical", MSR_CSTAR, NON_CANONICAL, false},
    {"fmask", MSR_FMASK, 0x47700, true},
    {"fs-base", MSR_FS_BASE, 0xffffffff80000000UL, true},
    {"fs-base-non-canonical", MSR_FS_BASE, NON_CANONICAL, false},
    {"gs-base", MSR_GS_BASE, 0x7ffffffff000UL, true},
    {"gs-base-non-canonical", MSR_GS_BASE, 0x800000000000UL, false},
    {"kernel-gs-base", MSR_KERNEL_GS_BASE, 0xffff888000000000UL, true},
    {"kernel-gs-base-non-canonical", MSR_KERNEL_GS_BASE, NON_CANONICAL, false},
    {"sysenter-cs", MSR_SYSENTER_CS, 0x10, true},
    {"sysenter-esp", MSR_SYSENTER_ESP, 0xffff800012345678UL, true},
    {"sysenter-esp-non-canonical", MSR_SYSENTER_ESP, NON_CANONICAL, false},
    {"sysenter-eip", MSR_SYSENTER_EIP, 0xffffffff81000000UL, true},
    {"sysenter-eip-non-canonical", MSR_SYSENTER_EIP, 0x1000000000000UL, false},
    {"tsc-aux", MSR_TSC_AUX, 0x89abcdef, true},
    {"pat-reset", MSR_PAT, 0x0007040600070406UL, true},
    {"pat-linux", MSR_PAT, 0x0407050600070106UL, true},
    {"pat-type-2", MSR_PAT, 0x0007040600070402UL, false},
    {"pat-type-3", MSR_PAT, 0x0007040600070306UL, false},
    {"pat-type-8-last", MSR_PAT, 0x0807040600070406UL, false},
    {"pat-reserved-bit", MSR_PAT, 0x0007040610070406UL, false},
    {"mtrrcap-read-only", MSR_MTRRCAP, 0, false},
};

static void value_rows(void)
{
    guest_equal("pat-at-start", rdmsr(MSR_PAT), 0x0007040600070406UL);
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        uint64_t before = rdmsr(values[i].msr);
        char name[48];

        try_write(values[i].msr, values[i].value);
        guest_expect(values[i].name, values[i].good ? NO_VECTOR : VECTOR_GP, 0, 0);
        format_text(name, sizeof(name), "%s-readback", values[i].name);
        guest_equal(name, rdmsr(values[i].msr), values[i].good ? values[i].value : before);
        if (values[i].good)
            wrmsr(values[i].msr, before);
    }
}

/* ---- EFER --------------------------------------------------------------------------------------------- */

static void efer_rows(void)
{
    uint64_t efer = rdmsr(MSR_EFER);

    guest_equal("efer-at-start", efer, EFER_LME | EFER_LMA);
    for (unsigned bit = 0; bit < 64; bit++) {
        bool changes = bit == 0 || (bit == 11 && (cpuid(0x80000001, 0).edx & BIT(20)) != 0);
        bool kept = changes || bit == 10; /* LMA is read-only: writes of it are ignored */
        char name[48];

        try_write(MSR_EFER, efer ^ BIT(bit));
        format_text(name, sizeof(name), "efer-bit-%02u", bit);
        guest_expect(name, kept ? NO_VECTOR : VECTOR_GP, 0, 0);
        format_text(name, sizeof(name), "efer-bit-%02u-readback", bit);
        guest_equal(name, rdmsr(MSR_EFER), changes ? efer ^ BIT(bit) : efer);
        wrmsr(MSR_EFER, efer);
    }
}

/* ---- What need not exist ------------------------------------------------------------------------------ */

static const uint32_t missing[] = {
    0x2,        0x3,        0x5,        0x8,        0x9,        0xf,        0x18,       0x100,
    0x300,      0x3fe,      0x47f,      0x5000,     0x10000,    0x4b564d00, 0x4b564d01, 0x40000000,
    0x40000001, 0x7fffffff, 0x80000000, 0xbfffffff, 0xc0000085, 0xc0000104, 0xc0000200, 0xc0001fff,
    0xc0002000, 0xc0010000, 0xc0010015, 0xc0010114, 0xc001001f, 0xc0011029, 0xffffffff,
};

static void existence_row(const char *name, bool exists, uint32_t msr)
{
    (void)try_read(msr);
    guest_expect(name, exists ? NO_VECTOR : VECTOR_GP, 0, 0);
}

static void existence_rows(void)
{
    char name[48];
    struct cpuid one = cpuid(1, 0);
    bool vmx = (one.ecx & BIT(5)) != 0;

    for (size_t i = 0; i < ARRAY_SIZE(missing); i++) {
        format_text(name, sizeof(name), "missing-read-%08x", missing[i]);
        existence_row(name, false, missing[i]);
        try_write(missing[i], 0);
        format_text(name, sizeof(name), "missing-write-%08x", missing[i]);
        guest_expect(name, VECTOR_GP, 0, 0);
    }

    (void)try_read(0x3a);
    CHECK("feature-control-if-vmx", !vmx || guest_fault.vector == NO_VECTOR);
    existence_row("vmx-basic-by-vmx", vmx, 0x480);
    existence_row("vmx-cr4-fixed1-by-vmx", vmx, 0x489);
    existence_row("pat-by-cpuid", (one.edx & BIT(16)) != 0, MSR_PAT);
    existence_row("mtrrcap-by-cpuid", (one.edx & BIT(12)) != 0, MSR_MTRRCAP);
    existence_row("mtrr-def-type-by-cpuid", (one.edx & BIT(12)) != 0, MSR_MTRR_DEF_TYPE);
    existence_row("mtrr-fix-64k", (one.edx & BIT(12)) != 0, 0x250);
    existence_row("mtrr-fix-4k-f8000", (one.edx & BIT(12)) != 0, 0x26f);
    existence_row("tsc-deadline-by-cpuid", (one.ecx & BIT(24)) != 0, MSR_TSC_DEADLINE);
    existence_row("tsc-aux-by-cpuid", (cpuid(0x80000001, 0).edx & BIT(27)) != 0, MSR_TSC_AUX);
    existence_row("tsc-adjust-by-cpuid", (cpuid(7, 0).ebx & BIT(1)) != 0, 0x3b);

    /* The emulator lacks these three, which the SDM has on every processor of this family. */
    (void)try_read(MSR_MISC_ENABLE);
    guest_differs("misc-enable-exists", guest_fault.vector == NO_VECTOR);
    (void)try_read(0x17);
    guest_differs("platform-id-exists", guest_fault.vector == NO_VECTOR);
    (void)try_read(0x8b);
    guest_differs("bios-signature-exists", guest_fault.vector == NO_VECTOR);

    if ((rdmsr(MSR_MTRRCAP) & 0xff) > 0) {
        existence_row("mtrr-first-base", true, 0x200);
        existence_row("mtrr-last-mask", true, (uint32_t)(0x1ff + 2 * (rdmsr(MSR_MTRRCAP) & 0xff)));
    }

    /* No register answers with anything but its value or #GP(0). */
    unsigned wrong = 0;
    for (uint32_t i = 0; i < 0x4000; i++) {
        (void)try_read(i < 0x2000 ? i : 0xc0000000 + (i - 0x2000));
        wrong +=
            guest_fault.vector != NO_VECTOR && (guest_fault.vector != VECTOR_GP || guest_fault.error != 0);
    }
    guest_equal("sweep", wrong, 0);
}

/* ---- APIC base, x2APIC registers, time stamp ---------------------------------------------------------- */

static void apic_rows(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);
    unsigned wrong = 0;

    guest_equal("apic-base", base, 0xfee00900); /* bootstrap processor, enabled, xAPIC */
    try_write(MSR_APIC_BASE, base);
    guest_expect("apic-base-same", NO_VECTOR, 0, 0);
    try_write(MSR_APIC_BASE, base | 1);
    guest_expect("apic-base-bit-0", VECTOR_GP, 0, 0);
    try_write(MSR_APIC_BASE, base | BIT(9));
    guest_expect("apic-base-bit-9", VECTOR_GP, 0, 0);
    try_write(MSR_APIC_BASE, base | BIT(cpuid(0x80000008, 0).eax & 0xff));
    guest_expect("apic-base-beyond-physical", VECTOR_GP, 0, 0);
    try_write(MSR_APIC_BASE, (base & ~BIT(11)) | BIT(10));
    guest_expect("apic-base-x2apic-disabled", VECTOR_GP, 0, 0);
    guest_equal("apic-base-kept", rdmsr(MSR_APIC_BASE), base);
    for (uint32_t msr = MSR_X2APIC; msr < MSR_X2APIC + 0x40; msr++) {
        (void)try_read(msr);
        wrong += guest_fault.vector != VECTOR_GP;
        try_write(msr, 0);
        wrong += guest_fault.vector != VECTOR_GP;
    }
    guest_equal("x2apic-registers-in-xapic-mode", wrong, 0);
}

static void tsc_rows(void)
{
    uint64_t start = rdtsc(), read = rdmsr(MSR_TSC), end = rdtsc();

    CHECK("tsc-msr-is-rdtsc", start <= read && read <= end);
    wrmsr(MSR_TSC, 0x123456789abcdef0UL);
    read = rdtsc();
    CHECK("tsc-write", read >= 0x123456789abcdef0UL && read < 0x123456789abcdef0UL + 1000000);
    if ((cpuid(7, 0).ebx & BIT(1)) != 0) {
        uint64_t adjust = rdmsr(0x3b);
        CHECK("tsc-write-moves-adjust", adjust > 0x1230000000000000UL);
        wrmsr(0x3b, 0);
        CHECK("tsc-adjust-moves-tsc", rdtsc() >= start && rdtsc() < 0x1230000000000000UL);
    } else {
        wrmsr(MSR_TSC, end);
    }
    wrmsr(MSR_TSC, end);
    CHECK("tsc-back", rdtsc() >= end && rdtsc() < end + 1000000);
    guest_equal("tsc-deadline-at-start", rdmsr(MSR_TSC_DEADLINE), 0);

    uint64_t rax = ~0UL, rdx = ~0UL;
    __asm__ volatile("rdmsr" : "+a"(rax), "+d"(rdx) : "c"((uint32_t)MSR_PAT));
    CHECK("rdmsr-clears-upper-halves", rax >> 32 == 0 && rdx >> 32 == 0);
    rax = rdx = ~0UL;
    __asm__ volatile("rdtsc" : "+a"(rax), "+d"(rdx));
    CHECK("rdtsc-clears-upper-halves", rax >> 32 == 0 && rdx >> 32 == 0);
    rax = rdx = ~0UL;
    uint64_t rcx = MSR_STAR | 0xffffffff00000000UL;
    TRY("rdmsr", : "+a"(rax), "+d"(rdx) : "c"(rcx) : "memory");
    guest_expect("rdmsr-ignores-upper-rcx", NO_VECTOR, 0, 0);
    wrmsr(MSR_TSC_AUX, 0x1234);
    uint32_t aux;
    __asm__ volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
    guest_equal("rdtscp-aux", aux, 0x1234);
    /* SDM vol. 4: bits 63:32 are reserved. The emulator takes them, so a register that passes through does.
     */
    try_write(MSR_TSC_AUX, BIT(32));
    guest_value("tsc-aux-high-vector", (uint64_t)(int64_t)guest_fault.vector);
    wrmsr(MSR_STAR, 0);
    __asm__ volatile("wrmsr" : : "a"(0xdeadbeef00000001UL), "d"(0xfeedface00000002UL), "c"(rcx));
    guest_equal("wrmsr-ignores-upper-halves", rdmsr(MSR_STAR), 0x200000001UL);
}

void guest_main(void)
{
    value_rows();
    efer_rows();
    existence_rows();
    apic_rows();
    tsc_rows();
}
