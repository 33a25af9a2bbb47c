// SPDX-License-Identifier: BSD-2-Clause
/*
 * Instructions that can take a processor out of Lv2 (SDM vol. 3, "Instructions That Cause VM Exits"), ports
 * and MSRs: with the control on it exits, with the reason, qualification and length that are due; with the
 * control off it does not, and does what it always does. Control registers are lv1_registers.c's.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"
#include "tests/guests/lib/vmx.h"

#define PORT_NOBODY   0x5540 /* nobody answers there */
#define PORT_NOBODY_B 0xa2f0

static uint8_t io_bitmap_a[4096] __aligned(4096), io_bitmap_b[4096] __aligned(4096);
static uint8_t msr_bitmap[4096] __aligned(4096);

extern uint64_t lv2_memory[16];
uint64_t lv2_memory[16] __aligned(16);

/* ---- Instructions that a control decides about -------------------------------------------------------- */

LV2(lv2_hlt, "hlt");
LV2(lv2_invlpg, "invlpg 0x12345678");
LV2(lv2_mwait, "xorl %eax, %eax; xorl %ecx, %ecx; mwait");
LV2(lv2_rdpmc, "xorl %ecx, %ecx; rdpmc");
LV2(lv2_rdtsc, "rdtsc");
LV2(lv2_rdtscp, "rdtscp");
LV2(lv2_mov_to_cr3, "movq %cr3, %rsi; movq %rsi, %cr3");
LV2(lv2_mov_from_cr3, "movq %cr3, %r9");
LV2(lv2_mov_to_cr8, "movl $3, %r10d; movq %r10, %cr8");
LV2(lv2_mov_from_cr8, "movq %cr8, %r11");
LV2(lv2_mov_to_dr, "movq %rdi, %dr3");
LV2(lv2_mov_from_dr, "movq %dr6, %r15");
LV2(lv2_monitor, "movl $lv2_memory, %eax; xorl %ecx, %ecx; xorl %edx, %edx; monitor");
LV2(lv2_pause, "pause");
LV2(lv2_wbinvd, "wbinvd");
LV2(lv2_rdrand, "rdrand %r12");
LV2(lv2_rdseed, "rdseed %edx");
LV2(lv2_in_imm8, "inb $0x80, %al");
LV2(lv2_sgdt, "sgdt lv2_memory");
LV2(lv2_sidt, "sidt lv2_memory");
LV2(lv2_sldt, "sldt %eax");
LV2(lv2_str, "str %ecx");
LV2(lv2_lldt, "xorl %eax, %eax; lldt %ax");
LV2(lv2_invpcid, "xorl %eax, %eax; movq $0, lv2_memory; movq $0, lv2_memory + 8; invpcid lv2_memory, %rax");
LV2(lv2_rdmsr, "movl $0x174, %ecx; rdmsr");
LV2(lv2_wrmsr, "movl $0x174, %ecx; xorl %eax, %eax; xorl %edx, %edx; wrmsr");

#define ANY    0xfee1deadUL /* the qualification is another row's */
#define NO_OFF true         /* off, it needs what a processor may not have */

static const struct {
    const char *name;
    unsigned word, bit;
    const char *code;
    unsigned reason;
    uint64_t qualification;
    unsigned length, before; /* of the instruction, and of what stands before it */
    bool no_off;
} instructions[] = {
    {"hlt", PRIMARY_HLT, lv2_hlt, REASON_HLT, 0, 1, 0, NO_OFF},
    {"invlpg", PRIMARY_INVLPG, lv2_invlpg, REASON_INVLPG, 0x12345678, 8, 0, false},
    {"mwait", PRIMARY_MWAIT, lv2_mwait, REASON_MWAIT, ANY, 3, 4, NO_OFF},
    {"rdpmc", PRIMARY_RDPMC, lv2_rdpmc, REASON_RDPMC, 0, 2, 2, NO_OFF},
    {"rdtsc", PRIMARY_RDTSC, lv2_rdtsc, REASON_RDTSC, 0, 2, 0, false},
    {"mov-to-cr3", PRIMARY_CR3_LOAD, lv2_mov_to_cr3, REASON_CR, 3 | 0 << 4 | 6 << 8, 3, 3, false},
    {"mov-from-cr3", PRIMARY_CR3_STORE, lv2_mov_from_cr3, REASON_CR, 3 | 1 << 4 | 9 << 8, 4, 0, false},
    {"mov-to-cr8", PRIMARY_CR8_LOAD, lv2_mov_to_cr8, REASON_CR, 8 | 0 << 4 | 10 << 8, 4, 6, false},
    {"mov-from-cr8", PRIMARY_CR8_STORE, lv2_mov_from_cr8, REASON_CR, 8 | 1 << 4 | 11 << 8, 4, 0, false},
    {"mov-to-dr", PRIMARY_MOV_DR, lv2_mov_to_dr, REASON_DR, 3 | 0 << 4 | 7 << 8, 3, 0, false},
    {"mov-from-dr", PRIMARY_MOV_DR, lv2_mov_from_dr, REASON_DR, 6 | 1 << 4 | 15 << 8, 4, 0, false},
    {"monitor", PRIMARY_MONITOR, lv2_monitor, REASON_MONITOR, 0, 3, 9, NO_OFF},
    {"pause", PRIMARY_PAUSE, lv2_pause, REASON_PAUSE, 0, 2, 0, false},
    {"wbinvd", SECONDARY_WBINVD, lv2_wbinvd, REASON_WBINVD, 0, 2, 0, false},
    {"rdrand", SECONDARY_RDRAND, lv2_rdrand, REASON_RDRAND, 0, 4, 0, false},
    {"rdseed", SECONDARY_RDSEED, lv2_rdseed, REASON_RDSEED, 0, 3, 0, false},
    {"in", PRIMARY_IO, lv2_in_imm8, REASON_IO, 0 | 1 << 3 | 1 << 6 | 0x80 << 16, 2, 0, false},
    {"sgdt", SECONDARY_DESCRIPTOR, lv2_sgdt, REASON_GDTR_IDTR, 0, 8, 0, false},
    {"sidt", SECONDARY_DESCRIPTOR, lv2_sidt, REASON_GDTR_IDTR, 0, 8, 0, false},
    {"sldt", SECONDARY_DESCRIPTOR, lv2_sldt, REASON_LDTR_TR, 0, 3, 0, false},
    {"str", SECONDARY_DESCRIPTOR, lv2_str, REASON_LDTR_TR, 0, 3, 0, false},
    {"lldt", SECONDARY_DESCRIPTOR, lv2_lldt, REASON_LDTR_TR, 0, 3, 2, false},
};

static void instruction_rows(void)
{
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(instructions); i++) {
        const char *what = instructions[i].name;
        unsigned word = instructions[i].word, bit = instructions[i].bit;
        uint64_t qualification = instructions[i].qualification;

        if (!vmx_offered(what, word, bit))
            continue;
        vmx_prepare();
        vmx_control(word, bit, true);
        vmx_run_at(instructions[i].code);
        if (instructions[i].reason == REASON_GDTR_IDTR)
            qualification = (uint64_t)lv2_memory; /* the displacement */
        format_text(name, sizeof(name), "%s-exits", what);
        if (qualification == ANY)
            vmx_expect(name, instructions[i].reason);
        else
            vmx_expect_qualification(name, instructions[i].reason, qualification);
        format_text(name, sizeof(name), "%s-length", what);
        guest_equal(name, vmx_exit.length, instructions[i].length);
        format_text(name, sizeof(name), "%s-rip", what);
        guest_equal(name, vmx_exit.rip - (uint64_t)instructions[i].code, instructions[i].before);
        vmx_run_on();
        format_text(name, sizeof(name), "%s-skipped", what);
        vmx_expect(name, WENT_THROUGH);
        if (instructions[i].no_off || !vmx_may_clear(word, bit))
            continue;
        vmx_control(word, bit, false);
        vmx_run_at(instructions[i].code);
        format_text(name, sizeof(name), "%s-off", what);
        vmx_expect(name, WENT_THROUGH);
    }
    write_cr8(0);
}

/* RDTSCP and INVPCID want two controls: one to exist, one to exit (25.1.3). */
static void double_rows(void)
{
    vmx_prepare();
    if (vmx_offered("rdtscp", SECONDARY_RDTSCP)) {
        vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_UD));
        vmx_run_at(lv2_rdtscp);
        vmx_expect_event("rdtscp-not-enabled", EVENT_EXCEPTION | VECTOR_UD, 0);
        vmx_control(PRIMARY_RDTSC, true);
        vmx_run_at(lv2_rdtscp);
        vmx_expect_event("rdtscp-not-enabled-exiting", EVENT_EXCEPTION | VECTOR_UD, 0);
        vmx_control(SECONDARY_RDTSCP, true);
        vmx_run_at(lv2_rdtscp);
        vmx_expect_qualification("rdtscp-exits", REASON_RDTSCP, 0);
        guest_equal("rdtscp-length", vmx_exit.length, 3);
        vmx_control(PRIMARY_RDTSC, false);
        wrmsr(MSR_TSC_AUX, 0x77);
        vmx_run_at(lv2_rdtscp);
        vmx_expect("rdtscp-off", WENT_THROUGH);
        guest_equal("rdtscp-aux", vmx_registers.rcx, 0x77);
    }
    vmx_prepare();
    if (vmx_offered("invpcid", SECONDARY_INVPCID)) {
        vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_UD));
        vmx_run_at(lv2_invpcid);
        vmx_expect_event("invpcid-not-enabled", EVENT_EXCEPTION | VECTOR_UD, 0);
        vmx_control(PRIMARY_INVLPG, true);
        vmx_run_at(lv2_invpcid);
        vmx_expect_event("invpcid-not-enabled-exiting", EVENT_EXCEPTION | VECTOR_UD, 0);
        vmx_control(SECONDARY_INVPCID, true);
        vmx_run_at(lv2_invpcid);
        vmx_expect_qualification("invpcid-exits", REASON_INVPCID, (uint64_t)lv2_memory);
        vmx_control(PRIMARY_INVLPG, false);
        vmx_run_at(lv2_invpcid);
        vmx_expect("invpcid-off", WENT_THROUGH);
    }
}

/* ---- Instructions that always exit (25.1.2) ----------------------------------------------------------- */

LV2(lv2_cpuid, "cpuid");
LV2(lv2_invd, "invd");
LV2(lv2_xsetbv, "xorl %ecx, %ecx; movl $1, %eax; xorl %edx, %edx; xsetbv");
LV2(lv2_vmclear, "vmclear lv2_memory");
LV2(lv2_vmptrld, "vmptrld lv2_memory");
LV2(lv2_vmptrst, "vmptrst lv2_memory");
LV2(lv2_vmxon, "vmxon lv2_memory");
LV2(lv2_vmread, "vmread %rdx, %rax");
LV2(lv2_vmwrite, "vmwrite %rax, %rdx");
LV2(lv2_vmlaunch, "vmlaunch");
LV2(lv2_vmresume, "vmresume");
LV2(lv2_vmxoff, "vmxoff");
LV2(lv2_invept, "invept lv2_memory, %rax");
LV2(lv2_invvpid, "invvpid lv2_memory, %rax");

static void unconditional_rows(void)
{
    static const struct {
        const char *name, *code;
        unsigned reason, length, before;
        bool memory; /* the qualification is a displacement */
    } rows[] = {
        {"cpuid", lv2_cpuid, REASON_CPUID, 2, 0, false},
        {"invd", lv2_invd, REASON_INVD, 2, 0, false},
        {"vmclear", lv2_vmclear, REASON_VMCLEAR, 9, 0, true},
        {"vmptrld", lv2_vmptrld, REASON_VMPTRLD, 8, 0, true},
        {"vmptrst", lv2_vmptrst, REASON_VMPTRST, 8, 0, true},
        {"vmxon", lv2_vmxon, REASON_VMXON, 9, 0, true},
        {"vmread", lv2_vmread, REASON_VMREAD, 3, 0, false},
        {"vmwrite", lv2_vmwrite, REASON_VMWRITE, 3, 0, false},
        {"vmlaunch", lv2_vmlaunch, REASON_VMLAUNCH, 3, 0, false},
        {"vmresume", lv2_vmresume, REASON_VMRESUME, 3, 0, false},
        {"vmxoff", lv2_vmxoff, REASON_VMXOFF, 3, 0, false},
        {"invept", lv2_invept, REASON_INVEPT, 10, 0, true},
        {"invvpid", lv2_invvpid, REASON_INVVPID, 10, 0, true},
    };
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].reason == REASON_INVEPT && !vmx_may_set(SECONDARY_EPT))
            continue;
        if (rows[i].reason == REASON_INVVPID && !vmx_may_set(SECONDARY_VPID))
            continue;
        vmx_prepare();
        vmx_run_at(rows[i].code);
        format_text(name, sizeof(name), "always-%s", rows[i].name);
        vmx_expect_qualification(name, rows[i].reason, rows[i].memory ? (uint64_t)lv2_memory : 0);
        format_text(name, sizeof(name), "always-%s-length", rows[i].name);
        guest_equal(name, vmx_exit.length, rows[i].length);
        vmx_run_on();
        format_text(name, sizeof(name), "always-%s-skipped", rows[i].name);
        vmx_expect(name, WENT_THROUGH);
    }

    vmx_prepare();
    vmx_set(VMCS_GUEST_CR4, read_cr4() | CR4_OSXSAVE);
    vmx_run_at(lv2_xsetbv);
    vmx_expect_qualification("always-xsetbv", REASON_XSETBV, 0);
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_UD));
    vmx_set(VMCS_GUEST_CR4, read_cr4());
    vmx_run_at(lv2_xsetbv);
    vmx_expect_event("xsetbv-without-osxsave", EVENT_EXCEPTION | VECTOR_UD, 0);
}

/* The instruction information of some operands (table 27-8 and on). */
LV2(lv2_vmread_form, "vmread %r9, 0x20(%rbx, %rcx, 4)");
LV2(lv2_vmptrld_form, "vmptrld 8(%r13)");

static void information_rows(void)
{
    vmx_prepare();
    vmx_run_at(lv2_vmread);
    guest_equal("information-vmread-register", vmx_exit.information & 0xf0000478,
                BIT(10) | 0 << 3 | 2UL << 28);
    vmx_run_at(lv2_vmread_form);
    vmx_expect_qualification("vmread-memory", REASON_VMREAD, 0x20);
    guest_equal("information-vmread-memory", vmx_exit.information & 0xffff8783,
                2UL | 2UL << 7 | 3UL << 15 | 1UL << 18 | 3UL << 23 | 9UL << 28);
    vmx_run_at(lv2_vmptrld_form);
    vmx_expect_qualification("vmptrld-memory", REASON_VMPTRLD, 8);
    guest_equal("information-vmptrld-memory", vmx_exit.information & 0x0fc38380,
                2UL << 7 | 3UL << 15 | BIT(22) | 13UL << 23);
}

/* ---- Ports -------------------------------------------------------------------------------------------- */

LV2(lv2_in8, "movl %edi, %edx; inb %dx, %al");
LV2(lv2_in16, "movl %edi, %edx; inw %dx, %ax");
LV2(lv2_in32, "movl %edi, %edx; inl %dx, %eax");
LV2(lv2_out8, "movl %edi, %edx; outb %al, %dx");
LV2(lv2_out16, "movl %edi, %edx; outw %ax, %dx");
LV2(lv2_out32, "movl %edi, %edx; outl %eax, %dx");
LV2(lv2_out_imm8, "outb %al, $0x80");
LV2(lv2_ins, "movl $0x5540, %edx; movl $lv2_memory, %edi; insb");
LV2(lv2_rep_outs, "movl $0x5540, %edx; movl $lv2_memory, %esi; movl $3, %ecx; rep outsw");

static void port_rows(void)
{
    static const struct {
        const char *name, *code;
        uint64_t qualification;
        unsigned length;
    } rows[] = {
        {"in8", lv2_in8, 0 | 1 << 3, 1},
        {"in16", lv2_in16, 1 | 1 << 3, 2},
        {"in32", lv2_in32, 3 | 1 << 3, 1},
        {"out8", lv2_out8, 0, 1},
        {"out16", lv2_out16, 1, 2},
        {"out32", lv2_out32, 3, 1},
        {"out-imm8", lv2_out_imm8, 1 << 6, 2},
    };
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t port = rows[i].code == lv2_out_imm8 ? 0x80 : PORT_NOBODY;

        vmx_prepare();
        vmx_control(PRIMARY_IO, true);
        vmx_run_with(rows[i].code, port);
        format_text(name, sizeof(name), "port-%s", rows[i].name);
        vmx_expect_qualification(name, REASON_IO, rows[i].qualification | port << 16);
        format_text(name, sizeof(name), "port-%s-length", rows[i].name);
        guest_equal(name, vmx_exit.length, rows[i].length);
    }
    vmx_run_at(lv2_ins);
    vmx_expect_qualification("port-ins", REASON_IO, 1 << 3 | 1 << 4 | (uint64_t)PORT_NOBODY << 16);
    guest_equal("port-ins-linear", vmx_exit.linear, (uint64_t)lv2_memory);
    vmx_run_at(lv2_rep_outs);
    vmx_expect_qualification("port-rep-outs", REASON_IO, 1 | 1 << 4 | 1 << 5 | (uint64_t)PORT_NOBODY << 16);
    guest_equal("port-rep-outs-linear", vmx_exit.linear, (uint64_t)lv2_memory);
    guest_equal("port-rep-outs-count", vmx_registers.rcx, 3);
}

static void port_bit(unsigned port, bool on)
{
    uint8_t *byte = port < 0x8000 ? &io_bitmap_a[port / 8] : &io_bitmap_b[(port - 0x8000) / 8];

    *byte = (uint8_t)(on ? *byte | 1 << port % 8 : *byte & ~(1 << port % 8));
}

/* One port's bit on: which accesses exit. */
static void io_bitmap_rows(void)
{
    static const uint16_t ports[] = {PORT_NOBODY, PORT_NOBODY_B, 0x7ffe, 0x8001};
    char name[48];

    if (!vmx_offered("io-bitmaps", PRIMARY_IO_BITMAPS))
        return;
    vmx_prepare();
    vmx_control(PRIMARY_IO_BITMAPS, true);
    vmx_control(PRIMARY_IO, true); /* is ignored then */
    vmx_set(VMCS_IO_BITMAP_A, (uint64_t)io_bitmap_a);
    vmx_set(VMCS_IO_BITMAP_B, (uint64_t)io_bitmap_b);
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
        unsigned wrong = 0;

        port_bit(ports[i], true);
        for (int distance = -4; distance <= 4; distance++) {
            static const struct {
                const char *code;
                int size;
            } accesses[] = {{lv2_in8, 1},  {lv2_in16, 2},  {lv2_in32, 4},
                            {lv2_out8, 1}, {lv2_out16, 2}, {lv2_out32, 4}};

            for (unsigned j = 0; j < ARRAY_SIZE(accesses); j++) {
                bool touches = distance <= 0 && distance + accesses[j].size > 0;

                vmx_run_with(accesses[j].code, (uint64_t)(ports[i] + distance));
                wrong += vmx_exit.reason != (touches ? REASON_IO : WENT_THROUGH);
            }
        }
        port_bit(ports[i], false);
        format_text(name, sizeof(name), "io-bitmap-%04x", ports[i]);
        guest_equal(name, wrong, 0);
    }
    /* An access that wraps around the ports' end exits whatever the bitmaps say (25.1.3). */
    vmx_run_with(lv2_in16, 0xffff);
    vmx_expect_qualification("io-bitmap-wraps", REASON_IO, 1 | 1 << 3 | 0xffffUL << 16);
    vmx_run_with(lv2_in32, 0xfffd);
    vmx_expect("io-bitmap-wraps-32", REASON_IO);
    vmx_run_with(lv2_in32, 0xfffc);
    vmx_expect("io-bitmap-last", WENT_THROUGH);
    vmx_run_at(lv2_rep_outs);
    vmx_expect("io-bitmap-string", WENT_THROUGH);
    guest_equal("io-bitmap-string-done", vmx_registers.rcx, 0);
}

/* ---- MSRs --------------------------------------------------------------------------------------------- */

LV2(lv2_rdmsr_rdi, "movl %edi, %ecx; rdmsr");
LV2(lv2_wrmsr_rdi, "movl %edi, %ecx; movl %esi, %eax; xorl %edx, %edx; wrmsr");

static void msr_bit(uint32_t msr, bool write, bool on)
{
    unsigned at = (write ? 2048U : 0U) + (msr >= 0xc0000000 ? 1024U : 0U) + (msr & 0x1fff) / 8;

    msr_bitmap[at] = (uint8_t)(on ? msr_bitmap[at] | 1 << msr % 8 : msr_bitmap[at] & ~(1 << msr % 8));
}

static void msr_rows(void)
{
    static const uint32_t msrs[] = {MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_PAT,           MSR_STAR,
                                    MSR_LSTAR,       MSR_FS_BASE,      MSR_KERNEL_GS_BASE};
    static const uint32_t outside[] = {0x2000, 0x40000000, 0xbfffffff, 0xc0002000, 0xffffffff};
    char name[48];

    vmx_prepare();
    vmx_run_at(lv2_rdmsr);
    vmx_expect_qualification("rdmsr-without-bitmap", REASON_RDMSR, 0);
    guest_equal("rdmsr-length", vmx_exit.length, 2);
    vmx_run_at(lv2_wrmsr);
    vmx_expect_qualification("wrmsr-without-bitmap", REASON_WRMSR, 0);
    guest_equal("wrmsr-length", vmx_exit.length, 2);
    if (!vmx_offered("msr-bitmap", PRIMARY_MSR_BITMAPS))
        return;
    vmx_control(PRIMARY_MSR_BITMAPS, true);
    vmx_set(VMCS_MSR_BITMAP, (uint64_t)msr_bitmap);
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        uint64_t value = rdmsr(msrs[i]);

        vmx_registers.rsi = (uint32_t)value;
        vmx_run_with(lv2_rdmsr_rdi, msrs[i]);
        format_text(name, sizeof(name), "rdmsr-%x-off", msrs[i]);
        vmx_expect(name, WENT_THROUGH);
        if (msrs[i] != MSR_PAT) { /* whose value has a high half */
            vmx_registers.rsi = (uint32_t)value;
            vmx_run_with(lv2_wrmsr_rdi, msrs[i]);
            format_text(name, sizeof(name), "wrmsr-%x-off", msrs[i]);
            vmx_expect(name, WENT_THROUGH);
        }
        msr_bit(msrs[i], false, true);
        vmx_run_with(lv2_rdmsr_rdi, msrs[i]);
        format_text(name, sizeof(name), "rdmsr-%x-exits", msrs[i]);
        vmx_expect(name, REASON_RDMSR);
        msr_bit(msrs[i], false, false);
        msr_bit(msrs[i], true, true);
        vmx_run_with(lv2_wrmsr_rdi, msrs[i]);
        format_text(name, sizeof(name), "wrmsr-%x-exits", msrs[i]);
        vmx_expect(name, REASON_WRMSR);
        vmx_run_with(lv2_rdmsr_rdi, msrs[i]);
        format_text(name, sizeof(name), "rdmsr-%x-while-writes-exit", msrs[i]);
        vmx_expect(name, WENT_THROUGH);
        msr_bit(msrs[i], true, false);
        wrmsr(msrs[i], value);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(outside); i++) {
        vmx_run_with(lv2_rdmsr_rdi, outside[i]);
        format_text(name, sizeof(name), "rdmsr-%x-exits-always", outside[i]);
        vmx_expect(name, REASON_RDMSR);
        vmx_run_with(lv2_wrmsr_rdi, outside[i]);
        format_text(name, sizeof(name), "wrmsr-%x-exits-always", outside[i]);
        vmx_expect(name, REASON_WRMSR);
    }
    /* An MSR that is not there, passed: #GP in Lv2, and Lv1 sees it by its exception bitmap. */
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP));
    vmx_run_with(lv2_rdmsr_rdi, 0x1ffe);
    vmx_expect_event("rdmsr-absent-passed", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
    /* What Lv2 writes through is there for Lv1. */
    vmx_set(VMCS_EXCEPTION_BITMAP, 0);
    vmx_registers.rsi = 0x00230008;
    vmx_run_with(lv2_wrmsr_rdi, MSR_STAR);
    vmx_expect("wrmsr-star", WENT_THROUGH);
    guest_equal("wrmsr-star-value", rdmsr(MSR_STAR), 0x00230008);
    wrmsr(MSR_STAR, 0);
    /* And what the VMCS holds is not. */
    vmx_registers.rsi = 0x1230;
    vmx_run_with(lv2_wrmsr_rdi, MSR_SYSENTER_EIP);
    vmx_expect("wrmsr-sysenter", WENT_THROUGH);
    guest_equal("wrmsr-sysenter-saved", vmx_get(VMCS_GUEST_SYSENTER_EIP), 0x1230);
    guest_equal("wrmsr-sysenter-host", rdmsr(MSR_SYSENTER_EIP), 0);
    vmx_registers.rsi = 0x5670;
    vmx_run_with(lv2_wrmsr_rdi, MSR_FS_BASE);
    vmx_expect("wrmsr-fs-base", WENT_THROUGH);
    guest_equal("wrmsr-fs-base-saved", vmx_get(VMCS_GUEST_FS_BASE), 0x5670);
    guest_equal("wrmsr-fs-base-host", rdmsr(MSR_FS_BASE), 0);
}

/* ---- Privilege first ---------------------------------------------------------------------------------- */

LV2(lv2_invlpg_user, "invlpg (%rsi)");
LV2(lv2_to_cr3_user, "movq %rsi, %cr3");
LV2(lv2_in_user, "inb $0x80, %al");
LV2(lv2_to_cr0_user, "movq %rdi, %cr0");
LV2(lv2_clts_user, "clts");
LV2(lv2_lmsw_user, "lmsw %di");
LV2(lv2_to_cr8_user, "movq %rdi, %cr8");

/*
 * At CPL 3 what is privileged is #GP, whatever Lv1 wants to exit (25.1.1); what is not exits as ever. MOV DR
 * alone exits before its privilege is looked at (25.1.3).
 */
static void user_rows(void)
{
    static const struct {
        const char *name, *code;
        unsigned reason; /* REASON_EXCEPTION: #GP */
    } rows[] = {
        {"hlt", lv2_hlt, REASON_EXCEPTION},
        {"invlpg", lv2_invlpg_user, REASON_EXCEPTION},
        {"mov-to-cr3", lv2_to_cr3_user, REASON_EXCEPTION},
        {"mov-from-cr3", lv2_mov_from_cr3, REASON_EXCEPTION},
        {"mov-to-cr0", lv2_to_cr0_user, REASON_EXCEPTION},
        {"clts", lv2_clts_user, REASON_EXCEPTION},
        {"lmsw", lv2_lmsw_user, REASON_EXCEPTION},
        {"mov-to-cr8", lv2_to_cr8_user, REASON_EXCEPTION},
        {"mov-to-dr", lv2_mov_to_dr, REASON_DR},
        {"rdmsr", lv2_rdmsr_rdi, REASON_EXCEPTION},
        {"wrmsr", lv2_wrmsr_rdi, REASON_EXCEPTION},
        {"invd", lv2_invd, REASON_EXCEPTION},
        {"in", lv2_in_user, REASON_EXCEPTION},
        {"cpuid", lv2_cpuid, REASON_CPUID},
        {"rdtsc", lv2_rdtsc, REASON_RDTSC},
        {"pause", lv2_pause, REASON_PAUSE},
        {"vmcall", lv2_nothing, REASON_VMCALL},
        {"vmxoff", lv2_vmxoff, REASON_VMXOFF},
        {"vmlaunch", lv2_vmlaunch, REASON_VMLAUNCH},
    };
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        vmx_prepare();
        vmx_control(PRIMARY_HLT, true);
        vmx_control(PRIMARY_INVLPG, true);
        vmx_control(PRIMARY_CR3_LOAD, true);
        vmx_control(PRIMARY_CR3_STORE, true);
        vmx_control(PRIMARY_CR8_LOAD, true);
        vmx_control(PRIMARY_MOV_DR, true);
        vmx_control(PRIMARY_IO, true);
        vmx_control(PRIMARY_RDTSC, true);
        vmx_control(PRIMARY_PAUSE, true);
        vmx_set(VMCS_CR0_MASK, CR0_TS);
        vmx_set(VMCS_CR0_SHADOW, CR0_TS);
        vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP));
        vmx_set(VMCS_GUEST_CS, SELECTOR_USER_CODE);
        vmx_set(VMCS_GUEST_CS_RIGHTS, 0xa0fb);
        vmx_set(VMCS_GUEST_SS, SELECTOR_USER_DATA);
        vmx_set(VMCS_GUEST_SS_RIGHTS, 0xc0f3);
        vmx_run_with((const char *)guest_user(rows[i].code), 0);
        format_text(name, sizeof(name), "user-%s", rows[i].name);
        if (rows[i].reason == REASON_EXCEPTION)
            vmx_expect_event(name, EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
        else
            vmx_expect(name, rows[i].reason);
    }
    /* CR4.TSD comes before "RDTSC exiting". */
    vmx_set(VMCS_GUEST_CR4, read_cr4() | CR4_TSD);
    vmx_run_at((const char *)guest_user(lv2_rdtsc));
    vmx_expect_event("user-rdtsc-tsd", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
}

void guest_main(void)
{
    CHECK("vmx", vmx_exists());
    vmx_enable();
    instruction_rows();
    double_rows();
    unconditional_rows();
    information_rows();
    port_rows();
    io_bitmap_rows();
    msr_rows();
    user_rows();
    vmx_off();
}
