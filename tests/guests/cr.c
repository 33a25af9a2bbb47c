// SPDX-License-Identifier: BSD-2-Clause
/*
 * Control registers (SDM vol. 3, "Control Registers"): every bit of CR0, CR4 and CR8, what each does when it
 * is on, and XCR0. Whether a CR4 bit exists is what CPUID says.
 */
#include "lib/printf.h"
#include "tests/guests/lib/guest.h"

#define APIC_TPR 0xfee00080UL

static void try_cr0(uint64_t value)
{
    TRY("movq %0, %%cr0", : : "r"(value) : "memory");
}

static void try_cr3(uint64_t value)
{
    TRY("movq %0, %%cr3", : : "r"(value) : "memory");
}

static void try_cr4(uint64_t value)
{
    TRY("movq %0, %%cr4", : : "r"(value) : "memory");
}

/* ---- CR0 ---------------------------------------------------------------------------------------------- */

#define CR0_AT_START (CR0_PG | CR0_NE | CR0_ET | CR0_MP | CR0_PE)

static void cr0_rows(void)
{
    /* Flipping these alone: works; is ignored (reserved and fixed bits below 32); anything else is #GP. */
    const uint64_t flips = CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_CD;
    const uint64_t refuses = CR0_PE | CR0_NW | CR0_PG | 0xffffffff00000000UL;
    char name[48];

    guest_equal("cr0-at-start", read_cr0(), CR0_AT_START);
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t value = CR0_AT_START ^ BIT(bit);

        try_cr0(value);
        uint64_t seen = read_cr0();
        write_cr0(CR0_AT_START);
        format_text(name, sizeof(name), "cr0-bit-%02u", bit);
        guest_expect(name, (refuses & BIT(bit)) != 0 ? VECTOR_GP : NO_VECTOR, 0, 0);
        format_text(name, sizeof(name), "cr0-bit-%02u-readback", bit);
        guest_equal(name, seen, (flips & BIT(bit)) != 0 ? value : CR0_AT_START);
    }
    guest_equal("cr0-back", read_cr0(), CR0_AT_START);

    try_cr0(CR0_AT_START | CR0_CD | CR0_NW);
    guest_expect("cr0-cd-nw", NO_VECTOR, 0, 0);
    guest_equal("cr0-cd-nw-readback", read_cr0(), CR0_AT_START | CR0_CD | CR0_NW);
    __asm__ volatile("wbinvd");
    write_cr0(CR0_AT_START);

    write_cr0(CR0_AT_START | CR0_TS);
    TRY_PLAIN("clts");
    guest_expect("clts", NO_VECTOR, 0, 0);
    guest_equal("clts-clears-ts", read_cr0(), CR0_AT_START);
    TRY("lmsw %w0", : : "r"(0xf) : "memory");
    guest_equal("lmsw-sets", read_cr0(), CR0_AT_START | CR0_EM | CR0_TS);
    TRY("lmsw %w0", : : "r"(0) : "memory");
    guest_equal("lmsw-clears-all-but-pe", read_cr0(), CR0_AT_START & ~CR0_MP);
    TRY("lmsw %w0", : : "r"(0xfff2) : "memory");
    guest_equal("lmsw-four-bits-only", read_cr0(), CR0_AT_START);
    uint16_t word = 8;
    TRY("lmsw %0", : : "m"(word) : "memory");
    guest_equal("lmsw-memory", read_cr0(), (CR0_AT_START & ~CR0_MP) | CR0_TS);
    write_cr0(CR0_AT_START);
    uint64_t seen = ~0UL;
    __asm__ volatile("smsw %0" : "=r"(seen));
    guest_equal("smsw-register", seen, CR0_AT_START);
    __asm__ volatile("smsw %0" : "=m"(word));
    guest_equal("smsw-memory", word, CR0_AT_START & 0xffff);
    seen = ~0UL;
    __asm__ volatile("smsw %w0" : "+r"(seen));
    guest_equal("smsw-16-bit", seen, (~0UL & ~0xffffUL) | (CR0_AT_START & 0xffff));

    unsigned wrong = 0;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t value =
            CR0_AT_START ^ ((i & 1 ? CR0_TS : 0) | (i & 2 ? CR0_EM : 0) | (i & 4 ? CR0_MP : 0) |
                            (i & 8 ? CR0_WP : 0) | (i & 16 ? CR0_AM : 0) | (i & 32 ? CR0_NE : 0));
        write_cr0(value);
        wrong += read_cr0() != value;
    }
    write_cr0(CR0_AT_START);
    guest_equal("cr0-toggles", wrong, 0);
}

/* TS, EM and MP in all combinations: WAIT, x87, SSE (SDM vol. 3, tables 2-2 and 9-3). */
static void float_rows(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR);
    for (unsigned i = 0; i < 8; i++) {
        bool ts = i & 1, em = i & 2, mp = i & 4;
        char name[48];

        write_cr0((CR0_AT_START & ~CR0_MP) | (ts ? CR0_TS : 0) | (em ? CR0_EM : 0) | (mp ? CR0_MP : 0));
        TRY_PLAIN("fnop");
        format_text(name, sizeof(name), "x87-ts%d-em%d-mp%d", ts, em, mp);
        guest_expect(name, ts || em ? VECTOR_NM : NO_VECTOR, 0, 0);
        TRY_PLAIN("fwait");
        format_text(name, sizeof(name), "wait-ts%d-em%d-mp%d", ts, em, mp);
        guest_expect(name, ts && mp ? VECTOR_NM : NO_VECTOR, 0, 0);
        TRY_PLAIN("xorps %%xmm0, %%xmm0");
        format_text(name, sizeof(name), "sse-ts%d-em%d-mp%d", ts, em, mp);
        guest_expect(name, em ? VECTOR_UD : ts ? VECTOR_NM : NO_VECTOR, 0, 0);
    }
    write_cr0(CR0_AT_START);
    write_cr4(read_cr4() & ~CR4_OSFXSR);
}

/* ---- CR4 ---------------------------------------------------------------------------------------------- */

static uint64_t cr4_by_cpuid(void)
{
    struct cpuid one = cpuid(1, 0), seven = cpuid(7, 0);
    uint64_t bits = 0;

    bits |= one.edx & BIT(1) ? CR4_VME | CR4_PVI : 0;
    bits |= one.edx & BIT(4) ? CR4_TSD : 0;
    bits |= one.edx & BIT(2) ? CR4_DE : 0;
    bits |= one.edx & BIT(3) ? CR4_PSE : 0;
    bits |= one.edx & BIT(7) ? CR4_MCE : 0;
    bits |= one.edx & BIT(13) ? CR4_PGE : 0;
    bits |= CR4_PCE;
    bits |= one.edx & BIT(24) ? CR4_OSFXSR : 0;
    bits |= one.edx & BIT(25) ? CR4_OSXMMEXCPT : 0;
    bits |= seven.ecx & BIT(2) ? CR4_UMIP : 0;
    bits |= one.ecx & BIT(5) ? CR4_VMXE : 0;
    bits |= one.ecx & BIT(6) ? CR4_SMXE : 0;
    bits |= seven.ebx & BIT(0) ? CR4_FSGSBASE : 0;
    bits |= one.ecx & BIT(17) ? CR4_PCIDE : 0;
    bits |= one.ecx & BIT(26) ? CR4_OSXSAVE : 0;
    bits |= seven.ebx & BIT(7) ? CR4_SMEP : 0;
    bits |= seven.ebx & BIT(20) ? CR4_SMAP : 0;
    bits |= seven.ecx & BIT(3) ? CR4_PKE : 0;
    return bits;
}

static void cr4_rows(void)
{
    uint64_t exists = cr4_by_cpuid();
    char name[48];

    guest_equal("cr4-at-start", read_cr4(), CR4_PAE);
    for (unsigned bit = 0; bit < 64; bit++) {
        bool good = (exists & BIT(bit)) != 0;

        try_cr4(CR4_PAE ^ BIT(bit));
        uint64_t seen = read_cr4();
        write_cr4(CR4_PAE);
        format_text(name, sizeof(name), "cr4-bit-%02u-by-cpuid", bit);
        guest_expect(name, good ? NO_VECTOR : VECTOR_GP, 0, 0);
        format_text(name, sizeof(name), "cr4-bit-%02u-readback", bit);
        guest_equal(name, seen, good ? CR4_PAE ^ BIT(bit) : CR4_PAE);
    }
    uint64_t most = (exists | CR4_PAE) & ~(CR4_SMXE | CR4_VMXE);
    try_cr4(most);
    guest_expect("cr4-all", NO_VECTOR, 0, 0);
    guest_equal("cr4-all-readback", read_cr4(), most);
    try_cr4(CR4_PAE);
    guest_equal("cr4-all-back", read_cr4(), CR4_PAE);

    unsigned wrong = 0;
    static const uint64_t toggles[] = {CR4_TSD, CR4_DE,  CR4_PSE,    CR4_MCE,
                                       CR4_PGE, CR4_PCE, CR4_OSFXSR, CR4_OSXMMEXCPT};
    for (unsigned i = 0; i < 1024; i++) {
        uint64_t value = CR4_PAE;
        for (unsigned j = 0; j < ARRAY_SIZE(toggles); j++)
            value |= i >> j & 1 ? toggles[j] : 0;
        write_cr4(value);
        wrong += read_cr4() != value;
    }
    write_cr4(CR4_PAE);
    guest_equal("cr4-toggles", wrong, 0);
}

/* ---- CR3 ---------------------------------------------------------------------------------------------- */

static void cr3_rows(void)
{
    uint64_t cr3 = read_cr3();
    unsigned width = cpuid(0x80000008, 0).eax & 0xff;

    try_cr3(cr3 | BIT(3) | BIT(4));
    guest_equal("cr3-pwt-pcd", read_cr3(), cr3 | BIT(3) | BIT(4));
    try_cr3(cr3 | BIT(width));
    guest_expect("cr3-beyond-physical", VECTOR_GP, 0, 0);
    try_cr3(cr3 | BIT(63));
    guest_expect("cr3-bit-63-without-pcide", VECTOR_GP, 0, 0);
    write_cr3(cr3);
    if ((cr4_by_cpuid() & CR4_PCIDE) == 0)
        return;
    write_cr3(cr3 | BIT(3));
    try_cr4(CR4_PAE | CR4_PCIDE);
    guest_expect("pcide-needs-pcid-0", VECTOR_GP, 0, 0);
    write_cr3(cr3);
    write_cr4(CR4_PAE | CR4_PCIDE);
    try_cr3(cr3 | 0x123);
    guest_expect("cr3-pcid", NO_VECTOR, 0, 0);
    guest_equal("cr3-pcid-readback", read_cr3(), cr3 | 0x123);
    try_cr3(cr3 | 0x123 | BIT(63));
    guest_expect("cr3-no-flush", NO_VECTOR, 0, 0);
    guest_equal("cr3-no-flush-reads-0", read_cr3(), cr3 | 0x123);
    try_cr0(read_cr0() & ~CR0_PG);
    guest_expect("pg-clear-with-pcide", VECTOR_GP, 0, 0);
    write_cr3(cr3);
    write_cr4(CR4_PAE);
}

/* ---- CR8 and the TPR ---------------------------------------------------------------------------------- */

static void cr8_rows(void)
{
    volatile uint32_t *tpr = (volatile uint32_t *)APIC_TPR;
    char name[48];

    guest_equal("cr8-at-start", read_cr8(), 0);
    for (uint64_t value = 0; value < 16; value++) {
        write_cr8(value);
        format_text(name, sizeof(name), "cr8-%02lu-readback", value);
        guest_equal(name, read_cr8(), value);
        format_text(name, sizeof(name), "cr8-%02lu-tpr", value);
        guest_equal(name, *tpr, value << 4);
    }
    for (unsigned bit = 4; bit < 64; bit++) {
        TRY("movq %0, %%cr8", : : "r"(BIT(bit)) : "memory");
        format_text(name, sizeof(name), "cr8-bit-%02u", bit);
        guest_expect(name, VECTOR_GP, 0, 0);
    }
    guest_equal("cr8-kept", read_cr8(), 15);
    for (uint32_t value = 0; value < 0x100; value += 0x35) {
        *tpr = value;
        format_text(name, sizeof(name), "tpr-%02x-readback", value);
        guest_equal(name, *tpr, value);
        format_text(name, sizeof(name), "tpr-%02x-cr8", value);
        guest_equal(name, read_cr8(), value >> 4);
    }
    *tpr = 0x5f;
    write_cr8(5);
    guest_equal("cr8-clears-tpr-subclass", *tpr, 0x50);
    unsigned wrong = 0;
    for (unsigned i = 0; i < 1000; i++) {
        write_cr8(i & 15);
        wrong += read_cr8() != (i & 15);
    }
    write_cr8(0);
    guest_equal("cr8-toggles", wrong, 0);
}

/* ---- What the bits do --------------------------------------------------------------------------------- */

SNIPPET(user_sgdt, 64, "sgdt -64(%rsp)");
SNIPPET(user_sidt, 64, "sidt -64(%rsp)");
SNIPPET(user_sldt, 64, "sldt %ax");
SNIPPET(user_str, 64, "str %ax");
SNIPPET(user_smsw, 64, "smsw %ax");
SNIPPET(user_rdtsc, 64, "rdtsc");
SNIPPET(user_rdtscp, 64, "rdtscp");
SNIPPET(user_wrfsbase, 64, "wrfsbase %rax");
SNIPPET(user_xsetbv, 64, "movl $1, %eax; xorl %ecx, %ecx; xorl %edx, %edx; xsetbv");
SNIPPET(plain_return, 64, "ret");

static void effect_rows(void)
{
    static const struct {
        const char *name;
        const char *code;
    } umip[] = {{"sgdt", user_sgdt},
                {"sidt", user_sidt},
                {"sldt", user_sldt},
                {"str", user_str},
                {"smsw", user_smsw}};
    uint64_t exists = cr4_by_cpuid();
    volatile uint64_t *page = guest_map(0, GUEST_PLAYGROUND | PAGE_PRESENT);
    uint64_t *user = (uint64_t *)guest_user((void *)GUEST_PLAYGROUND), seen = 0;
    char name[48];

    TRY("movq $1, (%0)", : : "r"(page) : "memory");
    guest_expect("wp-clear-write", NO_VECTOR, 0, 0);
    write_cr0(CR0_AT_START | CR0_WP);
    TRY("movq $2, (%0)", : : "r"(page) : "memory");
    guest_expect("wp-set-write", VECTOR_PF, PF_PRESENT | PF_WRITE, 0);
    guest_equal("wp-set-not-written", *page, 1);
    write_cr0(CR0_AT_START);
    TRY("movq $3, (%0)", : : "r"(page) : "memory");
    guest_expect("wp-cleared-write", NO_VECTOR, 0, 0);

    if (exists & CR4_SMEP) {
        write_cr4(CR4_PAE | CR4_SMEP);
        TRY("call *%0", : : "r"(guest_user(plain_return)) : "memory");
        guest_expect_vector("smep", VECTOR_PF, PF_PRESENT | PF_FETCH);
        TRY("movq (%1), %0", : "=r"(seen) : "r"(user) : "memory");
        guest_expect("smep-data", NO_VECTOR, 0, 0);
    }
    write_cr4(CR4_PAE);
    TRY("call *%0", : : "r"(guest_user(plain_return)) : "memory");
    guest_expect_vector("without-smep", NO_VECTOR, 0);
    if (exists & CR4_SMAP) {
        write_cr4(CR4_PAE | CR4_SMAP);
        TRY("movq (%1), %0", : "=r"(seen) : "r"(user) : "memory");
        guest_expect("smap-read", VECTOR_PF, PF_PRESENT, 0);
        TRY("movq %0, (%1)", : : "r"(seen), "r"(user) : "memory");
        guest_expect("smap-write", VECTOR_PF, PF_PRESENT | PF_WRITE, 0);
        TRY("stac; movq (%1), %0; clac", : "=r"(seen) : "r"(user) : "memory");
        guest_expect("smap-stac", NO_VECTOR, 0, 0);
        guest_run(SELECTOR_USER_CODE, user_rdtsc, 0, 0, 0);
        guest_expect("smap-user", VECTOR_LEAVE, 0, 4);
        write_cr4(CR4_PAE);
    }
    TRY("movq (%1), %0", : "=r"(seen) : "r"(user) : "memory");
    guest_expect("without-smap", NO_VECTOR, 0, 0);

    for (size_t i = 0; i < ARRAY_SIZE(umip); i++) {
        write_cr4(CR4_PAE);
        guest_run(SELECTOR_USER_CODE, umip[i].code, 0, 0, 0);
        format_text(name, sizeof(name), "user-%s", umip[i].name);
        guest_expect_vector(name, VECTOR_LEAVE, 0);
        if ((exists & CR4_UMIP) == 0)
            continue;
        write_cr4(CR4_PAE | CR4_UMIP);
        guest_run(SELECTOR_USER_CODE, umip[i].code, 0, 0, 0);
        format_text(name, sizeof(name), "user-%s-umip", umip[i].name);
        guest_expect(name, VECTOR_GP, 0, 0);
    }
    write_cr4(CR4_PAE | CR4_TSD);
    guest_run(SELECTOR_USER_CODE, user_rdtsc, 0, 0, 0);
    guest_expect("tsd-rdtsc", VECTOR_GP, 0, 0);
    guest_run(SELECTOR_USER_CODE, user_rdtscp, 0, 0, 0);
    guest_expect("tsd-rdtscp", VECTOR_GP, 0, 0);
    write_cr4(CR4_PAE);
    guest_run(SELECTOR_USER_CODE, user_rdtscp, 0, 0, 0);
    guest_expect("without-tsd-rdtscp", VECTOR_LEAVE, 0, 5);
    guest_run(SELECTOR_USER_CODE, user_wrfsbase, 0, 0, 0);
    guest_expect("user-wrfsbase-without-fsgsbase", VECTOR_UD, 0, 0);

    if ((rdmsr(MSR_EFER) & EFER_NXE) == 0) {
        page = guest_map(0, GUEST_PLAYGROUND | PAGE_PRESENT | PAGE_NX);
        TRY("movq (%1), %0", : "=r"(seen) : "r"(page) : "memory");
        guest_expect("nx-reserved-without-nxe", VECTOR_PF, PF_PRESENT | PF_RESERVED, 0);
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
        invlpg(page);
        TRY("movq (%1), %0", : "=r"(seen) : "r"(page) : "memory");
        guest_expect("nx-read-with-nxe", NO_VECTOR, 0, 0);
        TRY("call *%0", : : "r"(page) : "memory");
        guest_expect_vector("nx-fetch-with-nxe", VECTOR_PF, PF_PRESENT | PF_FETCH);
        guest_map(0, 0);
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_NXE);
    }
}

/* ---- XCR0 --------------------------------------------------------------------------------------------- */

static void try_xsetbv(uint32_t index, uint64_t value)
{
    TRY("xsetbv", : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static void xcr0_rows(void)
{
    struct cpuid d = cpuid(0xd, 0);
    uint64_t offered = (uint64_t)d.edx << 32 | d.eax;
    uint32_t low, high;
    char name[48];

    if ((cr4_by_cpuid() & CR4_OSXSAVE) == 0)
        return;
    write_cr4(CR4_PAE);
    try_xsetbv(0, 1);
    guest_expect("ud-xsetbv-without-osxsave", VECTOR_UD, 0, 0);
    write_cr4(CR4_PAE | CR4_OSXSAVE | CR4_OSFXSR);
    for (unsigned bit = 1; bit < 64; bit++) {
        uint64_t value = bit == 2 ? 7 : 1 | BIT(bit);
        /* BNDREGS needs BNDCSR, the three of AVX-512 need each other: alone they are refused. */
        bool good = (offered & BIT(bit)) != 0 && (bit == 1 || bit == 2 || bit == 9);

        try_xsetbv(0, value);
        format_text(name, sizeof(name), "xcr0-bit-%02u", bit);
        guest_expect(name, good ? NO_VECTOR : VECTOR_GP, 0, 0);
    }
    try_xsetbv(0, 3);
    try_xsetbv(0, 2);
    guest_expect("xcr0-without-x87", VECTOR_GP, 0, 0);
    try_xsetbv(0, 5);
    guest_expect("xcr0-avx-without-sse", VECTOR_GP, 0, 0);
    try_xsetbv(0, 0);
    guest_expect("xcr0-zero", VECTOR_GP, 0, 0);
    try_xsetbv(1, 1);
    guest_expect("xcr1", VECTOR_GP, 0, 0);
    try_xsetbv(0, 0xe3 & (offered | 3));
    guest_expect("xcr0-avx512-without-avx", (offered & 0xe0) != 0 ? VECTOR_GP : NO_VECTOR, 0, 0);
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    guest_equal("xcr0-kept", (uint64_t)high << 32 | low, 3);
    TRY("xgetbv", : "=a"(low), "=d"(high) : "c"(0x12) : "memory");
    guest_expect("xgetbv-index", VECTOR_GP, 0, 0);
    guest_run(SELECTOR_USER_CODE, user_xsetbv, 0, 0, 0);
    guest_expect("user-xsetbv", VECTOR_GP, 0, 9);
    try_xsetbv(0, 1);
    write_cr4(CR4_PAE);
}

void guest_main(void)
{
    cr0_rows();
    float_rows();
    cr4_rows();
    cr3_rows();
    cr8_rows();
    effect_rows();
    xcr0_rows();
}
