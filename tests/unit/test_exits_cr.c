// SPDX-License-Identifier: BSD-2-Clause
/*
 * Accesses to CR0, CR4 and CR8 that exit, XSETBV, and what CPUID makes of them. Fails when a register is not
 * what the guest wrote, when the hardware's holds what VMX forbids, when long mode does not follow, or when a
 * bad value is not #GP or changes anything.
 */
#include "core/exits/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_machine.h"

#define LENGTH   3
#define MOV_TO   0
#define MOV_FROM 1
#define CLTS     2
#define LMSW     3

/* SDM vol. 3, table "Exit qualification for control-register accesses". */
static void access(unsigned number, unsigned type, unsigned gpr, uint16_t lmsw)
{
    run_to_exit(EXIT_REASON_CR_ACCESS, number | type << 4 | gpr << 8 | (uint64_t)lmsw << 16, LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    fake_vmcs.linear_flushes = 0;
    take_snapshot(&snapshot);
    handle();
}

static void write_exit(unsigned number, uint64_t value)
{
    guest->vcpu.registers[VCPU_RBX] = value;
    access(number, MOV_TO, VCPU_RBX, 0);
}

static void writes(unsigned number, uint64_t value)
{
    write_exit(number, value);
    assert_done(GUEST_RIP + LENGTH);
}

static void refused(unsigned number, uint64_t value)
{
    write_exit(number, value);
    assert_fault(X86_VECTOR_GP, 0);
}

/* What the guest reads, and what the hardware has. */
static uint64_t guest_cr0(void)
{
    uint64_t mask = fake_get(VMCS_CR0_MASK);

    return (fake_get(VMCS_GUEST_CR0) & ~mask) | (fake_get(VMCS_CR0_READ_SHADOW) & mask);
}

static uint64_t guest_cr4(void)
{
    uint64_t mask = fake_get(VMCS_CR4_MASK);

    return (fake_get(VMCS_GUEST_CR4) & ~mask) | (fake_get(VMCS_CR4_READ_SHADOW) & mask);
}

static void cr0(void **state)
{
    (void)state;
    const uint64_t pe = X86_CR0_PE | X86_CR0_ET;

    assert_int_equal(guest_cr0(), pe);
    writes(0, pe | X86_CR0_CD | X86_CR0_NW);
    assert_int_equal(guest_cr0(), pe | X86_CR0_CD | X86_CR0_NW);
    assert_int_equal(fake_get(VMCS_GUEST_CR0), pe | X86_CR0_NE); /* the caches stay on */
    writes(0, pe | X86_CR0_PG);
    assert_int_equal(guest_cr0(), pe | X86_CR0_PG);
    assert_int_equal(fake_get(VMCS_GUEST_CR0), pe | X86_CR0_NE | X86_CR0_PG);
    assert_int_equal(fake_vmcs.linear_flushes, 1);
    writes(0, pe | X86_CR0_PG | X86_CR0_TS);
    assert_int_equal(fake_vmcs.linear_flushes, 0);
    refused(0, X86_CR0_PG);             /* PG without PE */
    refused(0, pe | X86_CR0_NW);        /* NW without CD */
    writes(0, pe | 0xffffffff00000000); /* outside 64-bit mode the operand has 32 bits */
    assert_int_equal(guest_cr0(), pe);

    /* RSP as the operand is the VMCS's. */
    access(0, MOV_TO, VCPU_RSP, 0);
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(guest_cr0(), pe | X86_CR0_MP | X86_CR0_AM);
}

/* Fails when the vCPU does not enter and leave long mode with CR0.PG. */
static void long_mode(void **state)
{
    (void)state;
    const uint64_t pe = X86_CR0_PE | X86_CR0_ET;

    run_to_exit(EXIT_REASON_CPUID, 0, 2);
    fake_set(VMCS_GUEST_EFER, X86_EFER_LME);
    handle();
    refused(0, pe | X86_CR0_PG); /* without PAE */
    writes(4, X86_CR4_PAE);
    writes(0, pe | X86_CR0_PG);
    assert_int_equal(fake_get(VMCS_GUEST_EFER), X86_EFER_LME | X86_EFER_LMA);
    assert_int_not_equal(fake_get(VMCS_ENTRY_CONTROLS) & VMX_ENTRY_IA32E_GUEST, 0);
    refused(4, 0); /* PAE has to stay */
    writes(0, pe);
    assert_int_equal(fake_get(VMCS_GUEST_EFER), X86_EFER_LME);
    assert_int_equal(fake_get(VMCS_ENTRY_CONTROLS) & VMX_ENTRY_IA32E_GUEST, 0);

    start_64(state);
    refused(0, pe); /* not from 64-bit code */
    refused(0, BIT(32) | pe | X86_CR0_PG);
}

static void cr4(void **state)
{
    (void)state;
    writes(4, X86_CR4_PGE | X86_CR4_MCE);
    assert_int_equal(guest_cr4(), X86_CR4_PGE | X86_CR4_MCE);
    assert_int_equal(fake_get(VMCS_GUEST_CR4), X86_CR4_PGE | X86_CR4_MCE | X86_CR4_VMXE);
    assert_int_equal(fake_vmcs.linear_flushes, 1);
    writes(4, 0);
    assert_int_equal(guest_cr4(), 0);
    assert_int_equal(fake_get(VMCS_GUEST_CR4), X86_CR4_MCE | X86_CR4_VMXE); /* 0 would shut down */
    refused(4, X86_CR4_VMXE);
    refused(4, X86_CR4_CET);
    refused(4, X86_CR4_LA57);
    refused(4, X86_CR4_PCIDE); /* outside long mode */
}

/* PAE paging loads four registers; fails when bad ones are taken, or good ones are not. */
static void pdptes(void **state)
{
    (void)state;
    const uint64_t pe = X86_CR0_PE | X86_CR0_ET;

    run_to_exit(EXIT_REASON_CPUID, 0, 2);
    fake_set(VMCS_GUEST_CR3, 0x20020); /* 32-byte aligned is enough */
    handle();
    writes(4, X86_CR4_PAE);
    for (uint64_t i = 0; i < 4; i++)
        guest_put64(0x20020 + i * 8, (0x30000 + i * PAGE_SIZE) | 1);
    guest_put64(0x20020 + 24, 0x30000 | 1 | BIT(1)); /* reserved */
    refused(0, pe | X86_CR0_PG);
    guest_put64(0x20020 + 24, 0xfff0 | BIT(63)); /* not present: nothing is reserved */
    writes(0, pe | X86_CR0_PG);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fake_get(vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i)), (0x30000 + i * PAGE_SIZE) | 1);
    assert_int_equal(fake_get(VMCS_GUEST_PDPTE3), 0xfff0 | BIT(63));

    /* A change of CR4 loads them as well. */
    guest_put64(0x20020, 0x38000 | 1);
    writes(4, X86_CR4_PAE | X86_CR4_PGE);
    assert_int_equal(fake_get(VMCS_GUEST_PDPTE0), 0x38001);
    guest_put64(0x20020, 0x38000 | 0x1e0 | 1);
    refused(4, X86_CR4_PAE);
    /* So does one of CR0's cache bits; other bits do not look at them. */
    refused(0, pe | X86_CR0_PG | X86_CR0_CD);
    writes(0, pe | X86_CR0_PG | X86_CR0_TS);
    assert_int_equal(fake_get(VMCS_GUEST_PDPTE0), 0x38001);
}

/* CLTS and LMSW, where a bit of theirs is intercepted. */
static void low_bits(void **state)
{
    (void)state;
    const uint64_t pe = X86_CR0_PE | X86_CR0_ET;

    writes(0, pe | X86_CR0_TS | X86_CR0_EM);
    access(0, CLTS, 0, 0);
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(guest_cr0(), pe | X86_CR0_EM);
    access(0, LMSW, 0, 0xfff0 | X86_CR0_TS | X86_CR0_MP); /* it cannot clear PE, and knows four bits */
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(guest_cr0(), pe | X86_CR0_TS | X86_CR0_MP);

    /* What no policy of this partition lets exit. */
    access(4, MOV_FROM, VCPU_RAX, 0);
    assert_crashed("unexpected exit 28");
}

static void cr8(void **state)
{
    (void)state;
    struct lapic *lapic;

    build_guest(VCPU_START_LONG_64, CORE_POLICY_TPR_INTERCEPT);
    lapic = &partition->platform.lapics[0];
    assert_false(vmx_controls_have(&guest->vcpu.controls, VMX_WORD_PRIMARY, VMX_PRIMARY_TPR_SHADOW));
    guest->vcpu.registers[VCPU_R8 + 3] = 0xd;
    access(8, MOV_TO, VCPU_R8 + 3, 0);
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(lapic_cr8_read(lapic), 0xd);
    refused(8, 0x10);
    refused(8, BIT(63));
    assert_int_equal(lapic_cr8_read(lapic), 0xd);
    access(8, MOV_FROM, VCPU_RSP, 0);
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), 0xd);

    /* An interrupt that waits for a lower TPR comes with the write. */
    const struct lapic_message message = {.vector = 0x55};
    run_to_exit(EXIT_REASON_CPUID, 0, 2);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF);
    handle();
    assert_true(lapic_deliver(lapic, 1, &message));
    assert_int_equal(next_injection(), 0);
    write_exit(8, 4);
    assert_int_equal(next_injection(), 0x80000055);
}

/* CR3 where its policy is overridden: with EPT it is the guest's own all the same. */
static void cr3(void **state)
{
    (void)state;
    build_guest(VCPU_START_LONG_64, CORE_POLICY_TPR_SHADOWING);
    writes(3, 0x5000);
    assert_int_equal(fake_get(VMCS_GUEST_CR3), 0x5000);
    assert_int_equal(fake_vmcs.linear_flushes, 1);
    access(3, MOV_FROM, VCPU_RCX, 0);
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(guest->vcpu.registers[VCPU_RCX], 0x5000);
    refused(3, BIT(63) | 0x6000); /* without PCIDs the bit is reserved */
    refused(3, BIT(partition->physical_bits));
    assert_int_equal(fake_get(VMCS_GUEST_CR3), 0x5000);
    fake_set(VMCS_GUEST_CR4, fake_get(VMCS_GUEST_CR4) | X86_CR4_PCIDE);
    writes(3, BIT(63) | 0x6001);
    assert_int_equal(fake_get(VMCS_GUEST_CR3), 0x6001);
}

/* ---- CPUID and XSETBV --------------------------------------------------------------------------------- */

static void cpuid(uint32_t leaf, uint32_t subleaf)
{
    run_to_exit(EXIT_REASON_CPUID, 0, 2);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    guest->vcpu.registers[VCPU_RAX] = 0xffffffff00000000 | leaf;
    guest->vcpu.registers[VCPU_RCX] = 0xffffffff00000000 | subleaf;
    guest->vcpu.registers[VCPU_RBX] = guest->vcpu.registers[VCPU_RDX] = UINT64_MAX;
    handle();
    assert_done(GUEST_RIP + 2);
}

static uint64_t reg(unsigned number)
{
    return guest->vcpu.registers[number];
}

/* Fails when CPUID does not follow CR4, XCR0, the mode or the local APIC, or leaves upper halves. */
static void cpuid_dynamic(void **state)
{
    const uint64_t osxsave = BIT(27), apic = BIT(9), syscall = BIT(11);
    const uint64_t base = LAPIC_BASE_DEFAULT | APIC_BASE_BSP;

    cpuid(0, 0);
    assert_int_equal(reg(VCPU_RAX), 0x16);
    assert_int_equal(reg(VCPU_RBX), 0x756e6547);
    assert_int_equal(reg(VCPU_RCX), 0x6c65746e);
    assert_int_equal(reg(VCPU_RDX), 0x49656e69);
    cpuid(1, 0);
    assert_int_equal(reg(VCPU_RCX) & osxsave, 0);
    assert_int_equal(reg(VCPU_RDX) & apic, apic);
    writes(4, X86_CR4_OSXSAVE);
    cpuid(1, 0);
    assert_int_equal(reg(VCPU_RCX) & osxsave, osxsave);
    assert_int_equal(lapic_msr_write(&partition->platform.lapics[0], MSR_IA32_APIC_BASE, base), 0);
    cpuid(1, 0);
    assert_int_equal(reg(VCPU_RDX) & apic, 0);

    cpuid(0xd, 0);
    assert_int_equal(reg(VCPU_RBX), 576);
    fake_cpu.xcr0 = 7;
    cpuid(0xd, 0);
    assert_int_equal(reg(VCPU_RBX), 832);

    cpuid(0x80000001, 0);
    assert_int_equal(reg(VCPU_RDX) & syscall, 0);
    start_64(state);
    cpuid(0x80000001, 0);
    assert_int_equal(reg(VCPU_RDX) & syscall, syscall);
}

static void xsetbv_exit(uint32_t index, uint64_t value)
{
    run_to_exit(EXIT_REASON_XSETBV, 0, LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    guest->vcpu.registers[VCPU_RCX] = index;
    guest->vcpu.registers[VCPU_RAX] = 0xffffffff00000000 | (uint32_t)value;
    guest->vcpu.registers[VCPU_RDX] = 0xffffffff00000000 | value >> 32;
    take_snapshot(&snapshot);
    handle();
}

static void xsetbv(void **state)
{
    static const struct {
        uint32_t index;
        uint64_t value;
        bool good;
    } cases[] = {
        {0, 0x1, true},  {0, 0x3, true},  {0, 0x7, true},          {0, 0xe7, true},
        {0, 0, false},   {0, 0x2, false}, {0, 0x5, false},         {0, 0x27, false},
        {1, 0x1, false}, {0, 0x9, false}, {0, BIT(32) | 1, false},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        xsetbv_exit(cases[i].index, cases[i].value);
        if (cases[i].good) {
            assert_done(GUEST_RIP + LENGTH);
            assert_int_equal(fake_cpu.xcr0, cases[i].value);
        } else {
            assert_fault(X86_VECTOR_GP, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(cr0, start_32),      cmocka_unit_test_setup(long_mode, start_32),
        cmocka_unit_test_setup(cr4, start_32),      cmocka_unit_test_setup(pdptes, start_32),
        cmocka_unit_test_setup(low_bits, start_32), cmocka_unit_test_setup(cr3, start_32),
        cmocka_unit_test_setup(cr8, start_32),      cmocka_unit_test_setup(cpuid_dynamic, start_32),
        cmocka_unit_test_setup(xsetbv, start_32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
