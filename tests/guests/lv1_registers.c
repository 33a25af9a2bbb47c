// SPDX-License-Identifier: BSD-2-Clause
/*
 * Control registers, the TPR and the APIC's page as an Lv2 sees them (SDM vol. 3, "Changes to Instruction
 * Behavior in VMX Non-Root Operation", "APIC Virtualization"): guest/host masks and read shadows, CR3
 * targets, the TPR shadow and its threshold.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"
#include "tests/guests/lib/vmx.h"

static uint8_t msr_bitmap[4096] __aligned(4096);
static uint32_t virtual_apic[1024] __aligned(4096);

extern uint64_t lv2_memory[16];
uint64_t lv2_memory[16] __aligned(16);

/* ---- Control registers -------------------------------------------------------------------------------- */

LV2(lv2_to_cr0, "movq %rdi, %cr0");
LV2(lv2_from_cr0, "movq %cr0, %rax");
LV2(lv2_smsw, "smsw %rax");
LV2(lv2_lmsw, "lmsw %di");
LV2(lv2_lmsw_memory, "lmsw lv2_memory");
LV2(lv2_clts, "clts");
LV2(lv2_to_cr4, "movq %rdi, %cr4");
LV2(lv2_from_cr4, "movq %cr4, %rax");
LV2(lv2_mov_to_cr3, "movq %cr3, %rsi; movq %rsi, %cr3");

static void masked(uint64_t field_mask, uint64_t mask, uint64_t shadow)
{
    vmx_set(field_mask, mask);
    vmx_set(field_mask + 4, shadow); /* VMCS_CR0_SHADOW, VMCS_CR4_SHADOW */
}

/* One bit of CR0 or CR4, all ways of masking and shadowing it. */
static void bit_rows(const char *what, unsigned reg, uint64_t bit)
{
    const uint64_t field = reg == 0 ? VMCS_GUEST_CR0 : VMCS_GUEST_CR4;
    const uint64_t mask = reg == 0 ? VMCS_CR0_MASK : VMCS_CR4_MASK;
    const char *to = reg == 0 ? lv2_to_cr0 : lv2_to_cr4, *from = reg == 0 ? lv2_from_cr0 : lv2_from_cr4;
    const uint64_t off = (reg == 0 ? read_cr0() : read_cr4()) & ~bit, on = off | bit;
    const uint64_t qualification = reg | 7 << 8;
    char name[48];

    if (reg == 4 && (rdmsr(MSR_VMX_CR4_FIXED1) & bit) == 0)
        return;
    /* Lv1 does not care: Lv2's are its own. */
    vmx_prepare();
    vmx_set(field, off);
    vmx_run_with(to, on);
    format_text(name, sizeof(name), "%s-own-set", what);
    vmx_expect(name, WENT_THROUGH);
    format_text(name, sizeof(name), "%s-own-set-value", what);
    guest_equal(name, vmx_get(field), on);
    vmx_run_with(from, 0);
    format_text(name, sizeof(name), "%s-own-read", what);
    guest_equal(name, vmx_registers.rax, on);
    vmx_run_with(to, off);
    format_text(name, sizeof(name), "%s-own-clear", what);
    vmx_expect(name, WENT_THROUGH);
    format_text(name, sizeof(name), "%s-own-clear-value", what);
    guest_equal(name, vmx_get(field), off);

    /* Masked: what is read is the shadow, what is written is compared with it. */
    for (unsigned i = 0; i < 4; i++) {
        bool real = i & 1, shadow = i & 2;

        vmx_prepare();
        vmx_set(field, real ? on : off);
        masked(mask, bit, shadow ? on : off);
        vmx_run_with(from, 0);
        format_text(name, sizeof(name), "%s-%d-shadow-%d-read", what, real, shadow);
        guest_equal(name, vmx_registers.rax, shadow ? on : off);
        vmx_run_with(to, shadow ? on : off);
        format_text(name, sizeof(name), "%s-%d-shadow-%d-same", what, real, shadow);
        vmx_expect(name, WENT_THROUGH);
        format_text(name, sizeof(name), "%s-%d-shadow-%d-kept", what, real, shadow);
        guest_equal(name, vmx_get(field), real ? on : off);
        vmx_run_with(to, shadow ? off : on);
        format_text(name, sizeof(name), "%s-%d-shadow-%d-other", what, real, shadow);
        vmx_expect_qualification(name, REASON_CR, qualification);
        format_text(name, sizeof(name), "%s-%d-shadow-%d-other-kept", what, real, shadow);
        guest_equal(name, vmx_get(field), real ? on : off);
    }
}

static void cr0_rows(void)
{
    const uint64_t cr0 = read_cr0();

    bit_rows("cr0-ts", 0, CR0_TS);
    bit_rows("cr0-mp", 0, CR0_MP);
    bit_rows("cr0-em", 0, CR0_EM);
    bit_rows("cr0-wp", 0, CR0_WP);
    bit_rows("cr0-am", 0, CR0_AM);

    /* An entry does not load all of CR0 (26.3.2.1). */
    vmx_prepare();
    vmx_set(VMCS_GUEST_CR0, cr0 | CR0_CD | CR0_NW);
    vmx_run_at(lv2_from_cr0);
    vmx_expect("cr0-cd-nw-in-vmcs", WENT_THROUGH);
    guest_equal("cr0-cd-nw-not-loaded", vmx_registers.rax, cr0);

    /* CLTS and LMSW (25.1.3). */
    vmx_prepare();
    vmx_set(VMCS_GUEST_CR0, cr0 | CR0_TS);
    vmx_run_at(lv2_clts);
    vmx_expect("clts-own", WENT_THROUGH);
    guest_equal("clts-own-value", vmx_get(VMCS_GUEST_CR0), cr0);
    vmx_set(VMCS_GUEST_CR0, cr0 | CR0_TS);
    masked(VMCS_CR0_MASK, CR0_TS, CR0_TS);
    vmx_run_at(lv2_clts);
    vmx_expect_qualification("clts-masked", REASON_CR, 2 << 4);
    guest_equal("clts-length", vmx_exit.length, 2);
    masked(VMCS_CR0_MASK, CR0_TS, 0);
    vmx_run_at(lv2_clts);
    vmx_expect("clts-shadow-0", WENT_THROUGH);
    guest_equal("clts-shadow-0-value", vmx_get(VMCS_GUEST_CR0), cr0 | CR0_TS);

    masked(VMCS_CR0_MASK, 0, 0);
    vmx_set(VMCS_GUEST_CR0, cr0);
    vmx_run_with(lv2_lmsw, CR0_TS | CR0_EM | CR0_PE);
    vmx_expect("lmsw-own", WENT_THROUGH);
    guest_equal("lmsw-own-value", vmx_get(VMCS_GUEST_CR0), (cr0 & ~CR0_MP) | CR0_TS | CR0_EM);
    vmx_set(VMCS_GUEST_CR0, cr0);
    masked(VMCS_CR0_MASK, CR0_TS, 0);
    vmx_run_with(lv2_lmsw, CR0_TS | CR0_PE);
    vmx_expect_qualification("lmsw-masked", REASON_CR, 3 << 4 | (CR0_TS | CR0_PE) << 16);
    guest_equal("lmsw-length", vmx_exit.length, 3);
    vmx_run_with(lv2_lmsw, CR0_MP | CR0_PE);
    vmx_expect("lmsw-masked-same", WENT_THROUGH);
    lv2_memory[0] = CR0_TS | CR0_MP;
    vmx_run_at(lv2_lmsw_memory);
    vmx_expect("lmsw-memory", REASON_CR);
    guest_equal("lmsw-memory-qualification", vmx_exit.qualification & 0xffff00ff,
                3 << 4 | 1 << 6 | (CR0_TS | CR0_MP) << 16);
    guest_equal("lmsw-memory-linear", vmx_exit.linear, (uint64_t)lv2_memory);
    /* LMSW cannot clear PE, whatever the shadow says: nothing to exit for. */
    masked(VMCS_CR0_MASK, CR0_PE, CR0_PE);
    vmx_run_with(lv2_lmsw, CR0_MP);
    vmx_expect("lmsw-pe-0", WENT_THROUGH);
    masked(VMCS_CR0_MASK, CR0_PE, 0);
    vmx_run_with(lv2_lmsw, CR0_MP | CR0_PE);
    vmx_expect("lmsw-pe-shadow-0", REASON_CR);
    masked(VMCS_CR0_MASK, 0xf, CR0_EM | CR0_PE);
    vmx_set(VMCS_GUEST_CR0, cr0 | CR0_TS);
    vmx_run_at(lv2_smsw);
    vmx_expect("smsw-never-exits", WENT_THROUGH);
    guest_equal("smsw-reads-shadow", vmx_registers.rax & 0xf, CR0_EM | CR0_PE);

    /* Bits that VMX operation fixes, Lv1 not masking them. */
    vmx_prepare();
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP));
    vmx_run_with(lv2_to_cr0, cr0 & ~CR0_NE);
    vmx_expect_event("cr0-ne-fixed", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
    vmx_run_with(lv2_to_cr0, cr0 & ~CR0_PE);
    vmx_expect_event("cr0-pe-fixed", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
    vmx_run_with(lv2_to_cr0, cr0 | BIT(32));
    vmx_expect_event("cr0-bit-32", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
    masked(VMCS_CR0_MASK, CR0_NE, CR0_NE);
    vmx_run_with(lv2_to_cr0, cr0 & ~CR0_NE);
    vmx_expect("cr0-ne-masked", REASON_CR);
}

static void cr4_rows(void)
{
    const uint64_t cr4 = read_cr4();

    bit_rows("cr4-vme", 4, CR4_VME);
    bit_rows("cr4-pvi", 4, CR4_PVI);
    bit_rows("cr4-tsd", 4, CR4_TSD);
    bit_rows("cr4-de", 4, CR4_DE);
    bit_rows("cr4-pse", 4, CR4_PSE);
    bit_rows("cr4-pge", 4, CR4_PGE);
    bit_rows("cr4-mce", 4, CR4_MCE);
    bit_rows("cr4-pce", 4, CR4_PCE);
    bit_rows("cr4-osfxsr", 4, CR4_OSFXSR);
    bit_rows("cr4-osxmmexcpt", 4, CR4_OSXMMEXCPT);
    bit_rows("cr4-umip", 4, CR4_UMIP);
    bit_rows("cr4-osxsave", 4, CR4_OSXSAVE);
    bit_rows("cr4-fsgsbase", 4, CR4_FSGSBASE);
    bit_rows("cr4-smep", 4, CR4_SMEP);
    bit_rows("cr4-smap", 4, CR4_SMAP);
    bit_rows("cr4-pke", 4, CR4_PKE);

    vmx_prepare();
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP));
    vmx_run_with(lv2_to_cr4, cr4 & ~CR4_VMXE);
    vmx_expect_event("cr4-vmxe-fixed", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
    vmx_run_with(lv2_to_cr4, cr4 | BIT(31));
    vmx_expect_event("cr4-reserved", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
    /* What every hypervisor does: VMXE is on, and its guest does not see it. */
    masked(VMCS_CR4_MASK, CR4_VMXE, 0);
    vmx_run_at(lv2_from_cr4);
    guest_equal("cr4-vmxe-hidden", vmx_registers.rax, cr4 & ~CR4_VMXE);
    vmx_run_with(lv2_to_cr4, (cr4 & ~CR4_VMXE) | CR4_TSD);
    vmx_expect("cr4-beside-vmxe", WENT_THROUGH);
    guest_equal("cr4-beside-vmxe-value", vmx_get(VMCS_GUEST_CR4), cr4 | CR4_TSD);
}

static void cr3_rows(void)
{
    const uint64_t cr3 = read_cr3();
    char name[48];

    if (!vmx_offered("cr3-load", PRIMARY_CR3_LOAD))
        return;
    /* The targets hold `cr3` at place i only. */
    for (unsigned count = 0; count <= 4; count++)
        for (unsigned place = 0; place < 4; place++) {
            vmx_prepare();
            vmx_control(PRIMARY_CR3_LOAD, true);
            vmx_set(VMCS_CR3_TARGET_COUNT, count);
            for (unsigned i = 0; i < 4; i++)
                vmx_set(VMCS_CR3_TARGET + 2 * i, i == place ? cr3 : cr3 + PAGE_SIZE * (i + 1));
            vmx_run_at(lv2_mov_to_cr3);
            format_text(name, sizeof(name), "cr3-target-%u-of-%u", place, count);
            vmx_expect(name, place < count ? WENT_THROUGH : REASON_CR);
        }
}

/* ---- The TPR ------------------------------------------------------------------------------------------ */

LV2(lv2_mov_to_cr8, "movl $3, %r10d; movq %r10, %cr8");
LV2(lv2_mov_from_cr8, "movq %cr8, %r11");
LV2(lv2_cr8_from_rdi, "movq %rdi, %cr8");
LV2(lv2_cr8_twice, "movq %rdi, %cr8; movq %cr8, %rax");

static void tpr_prepare(uint8_t tpr, unsigned threshold)
{
    vmx_prepare();
    vmx_control(PRIMARY_TPR_SHADOW, true);
    vmx_set(VMCS_VIRTUAL_APIC, (uint64_t)virtual_apic);
    vmx_set(VMCS_TPR_THRESHOLD, threshold);
    virtual_apic[0x80 / 4] = tpr;
}

static void tpr_rows(void)
{
    unsigned wrong = 0;

    lapic_init(false);
    vmx_prepare();
    write_cr8(0);
    vmx_run_with(lv2_cr8_twice, 5);
    vmx_expect("cr8-own", WENT_THROUGH);
    guest_equal("cr8-own-read", vmx_registers.rax, 5);
    guest_equal("cr8-is-the-processors", read_cr8(), 5);
    guest_equal("cr8-is-the-apics", lapic_read(LAPIC_TPR), 0x50);
    write_cr8(0);
    if (!vmx_offered("tpr-shadow", PRIMARY_TPR_SHADOW))
        return;
    tpr_prepare(0x90, 0);
    vmx_run_at(lv2_mov_from_cr8);
    vmx_expect("tpr-shadow-read", WENT_THROUGH);
    guest_equal("tpr-shadow-read-value", vmx_registers.r11, 9);
    vmx_run_with(lv2_cr8_twice, 0xb);
    vmx_expect("tpr-shadow-write", WENT_THROUGH);
    guest_equal("tpr-shadow-write-value", virtual_apic[0x80 / 4], 0xb0);
    guest_equal("tpr-shadow-write-readback", vmx_registers.rax, 0xb);
    guest_equal("tpr-shadow-leaves-the-real-one", read_cr8(), 0);

    for (unsigned threshold = 0; threshold < 16; threshold += 5)
        for (unsigned value = 0; value < 16; value++) {
            tpr_prepare((uint8_t)(threshold << 4), threshold);
            vmx_run_with(lv2_cr8_from_rdi, value);
            bool below = value < threshold;
            wrong += vmx_exit.reason != (below ? REASON_TPR_THRESHOLD : WENT_THROUGH);
            wrong += virtual_apic[0x80 / 4] != value << 4;
            /* It comes like a trap: the instruction is done. */
            wrong += below && vmx_exit.rip != (uint64_t)lv2_cr8_from_rdi + 4;
        }
    guest_equal("tpr-threshold", wrong, 0);
    tpr_prepare(0x20, 3);
    vmx_expect_error("tpr-below-threshold-at-entry", (vmx_run(), vmx_exit.outcome), 7);

    tpr_prepare(0x20, 0);
    vmx_control(PRIMARY_CR8_LOAD, true);
    vmx_run_with(lv2_mov_to_cr8, 0);
    vmx_expect("tpr-shadow-cr8-load", REASON_CR);
    vmx_control(PRIMARY_CR8_STORE, true);
    vmx_run_with(lv2_mov_from_cr8, 0);
    vmx_expect("tpr-shadow-cr8-store", REASON_CR);
    vmx_prepare();
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP));
    vmx_run_with(lv2_cr8_from_rdi, 0x10);
    vmx_expect_event("cr8-reserved", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
    tpr_prepare(0, 0);
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP));
    vmx_run_with(lv2_cr8_from_rdi, BIT(63));
    vmx_expect_event("cr8-reserved-shadow", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, 0);
}

/* ---- The APIC's page and its registers (29.4, 29.5) --------------------------------------------------- */

LV2(lv2_rdmsr_rdi, "movl %edi, %ecx; rdmsr");
LV2(lv2_wrmsr_rdi, "movl %edi, %ecx; movl %esi, %eax; xorl %edx, %edx; wrmsr");
LV2(lv2_apic_read, "movl (%rdi), %eax");
LV2(lv2_apic_write, "movl %esi, (%rdi)");

static void apic_rows(void)
{
    const uint64_t page = GUEST_PLAYGROUND;

    if (vmx_offered("apic-access", SECONDARY_APIC_ACCESS)) {
        vmx_prepare();
        vmx_control(SECONDARY_APIC_ACCESS, true);
        vmx_set(VMCS_APIC_ACCESS, page);
        vmx_run_with(lv2_apic_read, page + 0x20);
        vmx_expect_qualification("apic-access-read", REASON_APIC_ACCESS, 0x20);
        vmx_run_with(lv2_apic_write, page + 0x300);
        vmx_expect_qualification("apic-access-write", REASON_APIC_ACCESS, 0x300 | 1 << 12);
        vmx_run_with(lv2_apic_read, page + 0x80);
        vmx_expect_qualification("apic-access-tpr", REASON_APIC_ACCESS, 0x80);
        vmx_run_with(lv2_apic_read, page + PAGE_SIZE);
        vmx_expect("apic-access-beside", WENT_THROUGH);
        vmx_set(VMCS_APIC_ACCESS, page + PAGE_SIZE);
        vmx_run_with(lv2_apic_read, page + 0x20);
        vmx_expect("apic-access-moved", WENT_THROUGH);
        if (vmx_offered("apic-access-shadow", PRIMARY_TPR_SHADOW)) {
            tpr_prepare(0x70, 0);
            vmx_control(SECONDARY_APIC_ACCESS, true);
            vmx_set(VMCS_APIC_ACCESS, page);
            vmx_run_with(lv2_apic_read, page + 0x80);
            vmx_expect("apic-tpr-read", WENT_THROUGH);
            guest_equal("apic-tpr-read-value", (uint32_t)vmx_registers.rax, 0x70);
            vmx_registers.rsi = 0x40;
            vmx_run_with(lv2_apic_write, page + 0x80);
            vmx_expect("apic-tpr-write", WENT_THROUGH);
            guest_equal("apic-tpr-write-value", virtual_apic[0x80 / 4], 0x40);
            vmx_set(VMCS_TPR_THRESHOLD, 4);
            vmx_registers.rsi = 0x30;
            vmx_run_with(lv2_apic_write, page + 0x80);
            vmx_expect("apic-tpr-below-threshold", REASON_TPR_THRESHOLD);
            vmx_set(VMCS_TPR_THRESHOLD, 0);
            vmx_run_with(lv2_apic_read, page + 0x20);
            vmx_expect_qualification("apic-others-exit", REASON_APIC_ACCESS, 0x20);
        }
    }
    if (vmx_offered("x2apic", SECONDARY_X2APIC) && vmx_offered("x2apic-bitmap", PRIMARY_MSR_BITMAPS)) {
        tpr_prepare(0x60, 0);
        vmx_control(SECONDARY_X2APIC, true);
        vmx_control(PRIMARY_MSR_BITMAPS, true);
        vmx_set(VMCS_MSR_BITMAP, (uint64_t)msr_bitmap);
        vmx_run_with(lv2_rdmsr_rdi, MSR_X2APIC + 8);
        vmx_expect("x2apic-tpr-read", WENT_THROUGH);
        guest_equal("x2apic-tpr-read-value", (uint32_t)vmx_registers.rax, 0x60);
        vmx_registers.rsi = 0xa0;
        vmx_run_with(lv2_wrmsr_rdi, MSR_X2APIC + 8);
        vmx_expect("x2apic-tpr-write", WENT_THROUGH);
        guest_equal("x2apic-tpr-write-value", virtual_apic[0x80 / 4], 0xa0);
        msr_bitmap[(MSR_X2APIC + 8) / 8] = 1; /* reads of 808H */
        vmx_run_with(lv2_rdmsr_rdi, MSR_X2APIC + 8);
        vmx_expect("x2apic-tpr-intercepted", REASON_RDMSR);
        msr_bitmap[(MSR_X2APIC + 8) / 8] = 0;
    }
}

void guest_main(void)
{
    CHECK("vmx", vmx_exists());
    vmx_enable();
    cr0_rows();
    cr4_rows();
    cr3_rows();
    tpr_rows();
    apic_rows();
    vmx_off();
}
