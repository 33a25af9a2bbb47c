// SPDX-License-Identifier: BSD-2-Clause
/*
 * RDMSR and WRMSR that exit, by each kind of handler. Fails when a register reads or keeps another value than
 * the processor's would, when a bad access is not #GP, or when one that is changes anything.
 */
#include "core/exits/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_machine.h"

#define LENGTH 2

static void rdmsr_exit(uint32_t msr)
{
    run_to_exit(EXIT_REASON_RDMSR, 0, LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    guest->vcpu.registers[VCPU_RCX] = 0xffffffff00000000 | msr;
    guest->vcpu.registers[VCPU_RAX] = guest->vcpu.registers[VCPU_RDX] = UINT64_MAX;
    take_snapshot(&snapshot);
    handle();
}

static uint64_t rdmsr(uint32_t msr)
{
    rdmsr_exit(msr);
    assert_done(GUEST_RIP + LENGTH);
    assert_int_equal(guest->vcpu.registers[VCPU_RAX] >> 32, 0);
    assert_int_equal(guest->vcpu.registers[VCPU_RDX] >> 32, 0);
    return guest->vcpu.registers[VCPU_RDX] << 32 | guest->vcpu.registers[VCPU_RAX];
}

static void rdmsr_refused(uint32_t msr)
{
    rdmsr_exit(msr);
    assert_fault(X86_VECTOR_GP, 0);
}

static void wrmsr_exit(uint32_t msr, uint64_t value)
{
    run_to_exit(EXIT_REASON_WRMSR, 0, LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    guest->vcpu.registers[VCPU_RCX] = 0xffffffff00000000 | msr;
    guest->vcpu.registers[VCPU_RAX] = 0xffffffff00000000 | (uint32_t)value;
    guest->vcpu.registers[VCPU_RDX] = 0xffffffff00000000 | value >> 32;
    take_snapshot(&snapshot);
    handle();
}

static void wrmsr(uint32_t msr, uint64_t value)
{
    wrmsr_exit(msr, value);
    assert_done(GUEST_RIP + LENGTH);
}

static void wrmsr_refused(uint32_t msr, uint64_t value)
{
    wrmsr_exit(msr, value);
    assert_fault(X86_VECTOR_GP, 0);
}

/* Fails when a register that no row names, or one of a row out of force, is anything but #GP. */
static void unknown(void **state)
{
    (void)state;
    static const uint32_t none[] = {
        0x2,
        0x11,
        0x1c9,
        0x210,
        0x24f,
        0x251,
        0x25a,
        0x270,
        0x480,
        0xc80,
        0xe00,
        0x1fffffff,
        0x40000000,
        0xc0000000,
        0xc0000104,
        0xffffffff,
        /* Features that this processor has not: ARCH_CAPABILITIES, SPEC_CTRL. */
        MSR_IA32_ARCH_CAPABILITIES,
        MSR_IA32_SPEC_CTRL,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        rdmsr_refused(none[i]);
        wrmsr_refused(none[i], 0);
    }
    /* Registers of one direction. */
    rdmsr_refused(MSR_IA32_BIOS_UPDT_TRIG);
    wrmsr(MSR_IA32_BIOS_UPDT_TRIG, 0x1000);
    wrmsr_refused(MSR_IA32_MTRRCAP, 0);
    wrmsr_refused(MSR_IA32_FEATURE_CONTROL, 5);
}

static void constants(void **state)
{
    (void)state;
    assert_int_equal(rdmsr(MSR_IA32_FEATURE_CONTROL), FEATURE_CONTROL_LOCKED);
    assert_int_equal(rdmsr(MSR_IA32_MTRRCAP), 8 | MTRRCAP_FIX | MTRRCAP_WC);
    assert_int_equal(rdmsr(MSR_IA32_P5_MC_TYPE), 0);
    wrmsr(MSR_IA32_P5_MC_TYPE, 7);
    assert_int_equal(rdmsr(MSR_IA32_P5_MC_TYPE), 0);

    /* The processor's own, and 0 where it faults. */
    assert_int_equal(rdmsr(MSR_IA32_PLATFORM_ID), 0x5a00000000ULL + MSR_IA32_PLATFORM_ID);
    assert_int_equal(rdmsr(MSR_IA32_BIOS_SIGN_ID), 0);

    assert_int_equal(rdmsr(MSR_IA32_XSS), 0);
    wrmsr(MSR_IA32_XSS, 0);
    wrmsr_refused(MSR_IA32_XSS, 0x100);
    assert_int_equal(rdmsr(MSR_IA32_MCG_STATUS), 0);
    wrmsr_refused(MSR_IA32_MCG_STATUS, 1);
}

/* Fails when TSC, IA32_TSC_ADJUST and the VMCS's offset do not move together. */
static void tsc(void **state)
{
    (void)state;
    fake_cpu.tsc += 1000;
    assert_int_equal(rdmsr(MSR_IA32_TSC), 1000);
    wrmsr(MSR_IA32_TSC, 5000);
    assert_int_equal(rdmsr(MSR_IA32_TSC), 5000);
    assert_int_equal(rdmsr(MSR_IA32_TSC_ADJUST), 4000);
    assert_int_equal(fake_get(VMCS_TSC_OFFSET), 4000 - HOST_TSC);
    fake_cpu.tsc += 1;
    assert_int_equal(rdmsr(MSR_IA32_TSC), 5001);
    wrmsr(MSR_IA32_TSC_ADJUST, (uint64_t)-1);
    assert_int_equal(rdmsr(MSR_IA32_TSC), 1000);
    assert_int_equal(fake_get(VMCS_TSC_OFFSET), (uint64_t)-1 - HOST_TSC);
    assert_int_equal(partition_tsc(partition), 1001); /* the devices' time stands above that */
}

/* A timer interrupt waits at the local APIC. */
static bool timer_fired(void)
{
    const struct lapic *lapic = &partition->platform.lapics[0];
    bool fired = (lapic->page[LAPIC_IRR / 4 + 0x40 / 32 * 4] & BIT(0x40 % 32)) != 0;

    partition->platform.lapics[0].page[LAPIC_IRR / 4 + 0x40 / 32 * 4] = 0;
    return fired;
}

static void use_deadline_mode(void)
{
    lapic_mmio_write(&partition->platform.lapics[0], LAPIC_LVT_TIMER, 4, 2 << 17 | 0x40);
}

/* Fails when an armed deadline does not stay at its value of the guest's own TSC. */
static void deadline(void **state)
{
    (void)state;
    struct lapic *lapic = &partition->platform.lapics[0];

    wrmsr(MSR_IA32_TSC_DEADLINE, 1000);
    assert_int_equal(rdmsr(MSR_IA32_TSC_DEADLINE), 0); /* another mode: ignored */
    use_deadline_mode();
    fake_cpu.tsc += 100;
    guest->deadline_changed = false;
    wrmsr(MSR_IA32_TSC_DEADLINE, 1000);
    assert_true(guest->deadline_changed);
    assert_int_equal(lapic_deadline(lapic), 1000);

    /* The TSC goes back by 40: the deadline is 40 ticks farther. */
    guest->deadline_changed = false;
    wrmsr(MSR_IA32_TSC, 60);
    assert_true(guest->deadline_changed);
    assert_int_equal(lapic_deadline(lapic), 1040);
    assert_int_equal(rdmsr(MSR_IA32_TSC_DEADLINE), 1000);
    wrmsr(MSR_IA32_TSC_ADJUST, 500);
    assert_int_equal(lapic_deadline(lapic), 500);
    assert_int_equal(rdmsr(MSR_IA32_TSC_DEADLINE), 1000);
    assert_false(timer_fired());

    /* It goes forward beyond the deadline, which lies before the beginning of the devices' time then. */
    wrmsr(MSR_IA32_TSC, 1000000);
    assert_true(timer_fired());
    assert_int_equal(rdmsr(MSR_IA32_TSC_DEADLINE), 0);
    wrmsr(MSR_IA32_TSC_DEADLINE, 10);
    assert_true(timer_fired());
    wrmsr(MSR_IA32_TSC_DEADLINE, 999900);
    assert_true(timer_fired());
    wrmsr(MSR_IA32_TSC_DEADLINE, 1000001);
    assert_false(timer_fired());
    assert_int_equal(lapic_deadline(lapic), 101);
    wrmsr(MSR_IA32_TSC_DEADLINE, 0);
    assert_int_equal(lapic_deadline(lapic), VDEV_NEVER);
    wrmsr(MSR_IA32_TSC_ADJUST, 0); /* nothing is armed by that */
    assert_int_equal(lapic_deadline(lapic), VDEV_NEVER);

    /* "Never" does not wrap into the past where the TSC was set back. */
    wrmsr(MSR_IA32_TSC_ADJUST, (uint64_t)-50);
    wrmsr(MSR_IA32_TSC_DEADLINE, UINT64_MAX);
    assert_false(timer_fired());
}

/* Fails when IA32_EFER takes a bit that is not offered, LME changes under paging, or LMA is not the guest's.
 */
static void efer(void **state)
{
    (void)state;
    assert_int_equal(rdmsr(MSR_IA32_EFER), 0);
    wrmsr(MSR_IA32_EFER, X86_EFER_SCE | X86_EFER_NXE | X86_EFER_LME | X86_EFER_LMA);
    assert_int_equal(rdmsr(MSR_IA32_EFER), X86_EFER_SCE | X86_EFER_NXE | X86_EFER_LME);
    assert_int_equal(fake_get(VMCS_GUEST_EFER), X86_EFER_SCE | X86_EFER_NXE | X86_EFER_LME);
    assert_int_equal(fake_get(VMCS_ENTRY_CONTROLS) & VMX_ENTRY_IA32E_GUEST, 0);
    for (unsigned bit = 0; bit < 64; bit++)
        if ((BIT(bit) & (X86_EFER_SCE | X86_EFER_NXE | X86_EFER_LME | X86_EFER_LMA)) == 0)
            wrmsr_refused(MSR_IA32_EFER, BIT(bit));

    start_64(state);
    wrmsr_refused(MSR_IA32_EFER, X86_EFER_SCE);
    wrmsr(MSR_IA32_EFER, X86_EFER_LME | X86_EFER_SCE);
    assert_int_equal(rdmsr(MSR_IA32_EFER), X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE);
    assert_int_not_equal(fake_get(VMCS_ENTRY_CONTROLS) & VMX_ENTRY_IA32E_GUEST, 0);
}

static void misc_enable(void **state)
{
    (void)state;
    const uint64_t fixed = MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE;

    assert_int_equal(rdmsr(MSR_IA32_MISC_ENABLE), fixed | MISC_ENABLE_FAST_STRINGS);
    wrmsr(MSR_IA32_MISC_ENABLE, UINT64_MAX);
    assert_int_equal(rdmsr(MSR_IA32_MISC_ENABLE), fixed | MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_LIMIT_CPUID);
    wrmsr(MSR_IA32_MISC_ENABLE, 0);
    assert_int_equal(rdmsr(MSR_IA32_MISC_ENABLE), fixed);
}

static void debugctl(void **state)
{
    (void)state;
    wrmsr(MSR_IA32_DEBUGCTL, DEBUGCTL_BTF);
    assert_int_equal(fake_get(VMCS_GUEST_DEBUGCTL), DEBUGCTL_BTF);
    assert_int_equal(rdmsr(MSR_IA32_DEBUGCTL), DEBUGCTL_BTF);
    wrmsr_refused(MSR_IA32_DEBUGCTL, DEBUGCTL_LBR);
    wrmsr_refused(MSR_IA32_DEBUGCTL, BIT(63));
    wrmsr(MSR_IA32_DEBUGCTL, 0);
    assert_int_equal(rdmsr(MSR_IA32_DEBUGCTL), 0);
}

/* SDM vol. 3, "Memory type range registers". Fails when a reserved bit or type is taken, or a good one not.
 */
static void mtrrs(void **state)
{
    (void)state;
    static const bool types[] = {[0] = true, [1] = true, [4] = true, [5] = true, [6] = true, [255] = false};
    const uint64_t address = (BIT(partition->physical_bits) - 1) & ~0xfffULL;

    for (unsigned type = 0; type < 256; type++) {
        uint32_t msrs[] = {MSR_IA32_MTRR_DEF_TYPE, MSR_IA32_MTRR_PHYSBASE0 + 14};
        for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
            if (types[type])
                wrmsr(msrs[i], type);
            else
                wrmsr_refused(msrs[i], type);
        }
        for (unsigned byte = 0; byte < 8; byte++) {
            uint64_t value = (uint64_t)type << (8 * byte);
            if (types[type])
                wrmsr(MSR_IA32_MTRR_FIX4K_F8000, value);
            else
                wrmsr_refused(MSR_IA32_MTRR_FIX4K_F8000, value);
        }
    }
    for (unsigned bit = 8; bit < 64; bit++) {
        struct {
            uint32_t msr;
            uint64_t good;
        } registers[] = {
            {MSR_IA32_MTRR_DEF_TYPE, MTRR_DEF_TYPE_ENABLE | MTRR_DEF_TYPE_FIXED_ENABLE},
            {MSR_IA32_MTRR_PHYSBASE0, address},
            {MSR_IA32_MTRR_PHYSMASK0, address | MTRR_PHYSMASK_VALID},
        };
        for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
            if (registers[i].good & BIT(bit)) {
                wrmsr(registers[i].msr, BIT(bit));
                assert_int_equal(rdmsr(registers[i].msr), BIT(bit));
            } else {
                wrmsr_refused(registers[i].msr, BIT(bit));
            }
        }
    }
    wrmsr_refused(MSR_IA32_MTRR_PHYSMASK0, 1);

    /* Each register is one of its own. */
    for (uint32_t i = 0; i < 16; i++)
        wrmsr(MSR_IA32_MTRR_PHYSBASE0 + i, (uint64_t)(i + 1) << 20);
    for (uint32_t i = 0; i < 8; i++)
        wrmsr(MSR_IA32_MTRR_FIX4K_C0000 + i, 0x0606060606060600 | (i & 1));
    wrmsr(MSR_IA32_MTRR_FIX64K_00000, 0x0404040404040404);
    wrmsr(MSR_IA32_MTRR_FIX16K_80000, 0x0505050505050505);
    wrmsr(MSR_IA32_MTRR_FIX16K_A0000, 0x0101010101010101);
    wrmsr(MSR_IA32_MTRR_DEF_TYPE, MTRR_DEF_TYPE_ENABLE | MEMORY_TYPE_WB);
    for (uint32_t i = 0; i < 16; i++)
        assert_int_equal(rdmsr(MSR_IA32_MTRR_PHYSBASE0 + i), (uint64_t)(i + 1) << 20);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(rdmsr(MSR_IA32_MTRR_FIX4K_C0000 + i), 0x0606060606060600 | (i & 1));
    assert_int_equal(rdmsr(MSR_IA32_MTRR_FIX64K_00000), 0x0404040404040404);
    assert_int_equal(rdmsr(MSR_IA32_MTRR_FIX16K_80000), 0x0505050505050505);
    assert_int_equal(rdmsr(MSR_IA32_MTRR_FIX16K_A0000), 0x0101010101010101);
    assert_int_equal(rdmsr(MSR_IA32_MTRR_DEF_TYPE), MTRR_DEF_TYPE_ENABLE | MEMORY_TYPE_WB);
}

/*
 * Fails when the local APIC is reached in the wrong mode, or an interrupt waits after the EOI that frees it;
 * where nothing of it is virtualised.
 */
static void local_apic(void **state)
{
    (void)state;
    build_guest(VCPU_START_PROTECTED_32, CORE_POLICY_TPR_INTERCEPT);
    struct lapic *lapic = &partition->platform.lapics[0];
    const uint64_t base = LAPIC_BASE_DEFAULT | APIC_BASE_BSP | APIC_BASE_ENABLE;

    assert_int_equal(rdmsr(MSR_IA32_APIC_BASE), base);
    rdmsr_refused(MSR_IA32_X2APIC_FIRST + 8);
    wrmsr_refused(MSR_IA32_X2APIC_FIRST + 8, 0);
    wrmsr_refused(MSR_IA32_APIC_BASE, base | 1);
    wrmsr_refused(MSR_IA32_APIC_BASE, base | BIT(partition->physical_bits));
    wrmsr(MSR_IA32_APIC_BASE, base | APIC_BASE_X2APIC);
    assert_int_equal(rdmsr(MSR_IA32_APIC_BASE), base | APIC_BASE_X2APIC);
    wrmsr_refused(MSR_IA32_APIC_BASE, base); /* there is no direct way back */
    wrmsr(MSR_IA32_X2APIC_FIRST + 8, 0x20);
    assert_int_equal(rdmsr(MSR_IA32_X2APIC_FIRST + 8), 0x20);
    wrmsr(MSR_IA32_X2APIC_FIRST + 8, 0);
    wrmsr_refused(MSR_IA32_X2APIC_FIRST + 8, 0x100);

    const struct lapic_message messages[] = {{.vector = 0x55}, {.vector = 0x51}};
    run_to_exit(EXIT_REASON_CPUID, 0, 2);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF);
    handle();
    assert_true(lapic_deliver(lapic, 1, &messages[0]));
    assert_int_equal(next_injection(), 0x80000055);
    assert_true(lapic_deliver(lapic, 1, &messages[1]));
    take_exit(EXIT_REASON_CPUID, 0, 2);
    assert_int_equal(next_injection(), 0); /* of the same class: it waits for the EOI */
    wrmsr_exit(MSR_IA32_X2APIC_FIRST + 0xb, 0);
    assert_int_equal(next_injection(), 0x80000051);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(unknown, start_32),    cmocka_unit_test_setup(constants, start_32),
        cmocka_unit_test_setup(tsc, start_32),        cmocka_unit_test_setup(deadline, start_32),
        cmocka_unit_test_setup(efer, start_32),       cmocka_unit_test_setup(misc_enable, start_32),
        cmocka_unit_test_setup(debugctl, start_32),   cmocka_unit_test_setup(mtrrs, start_32),
        cmocka_unit_test_setup(local_apic, start_32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
