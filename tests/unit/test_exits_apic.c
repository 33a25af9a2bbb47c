// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/exits/apic.c: a guest whose local APIC the processor virtualises. Fails when a mode's controls or the
 * APIC-access page are not where the mode wants them, when an access that the processor leaves to Umbra does
 * something else than on a board without APIC virtualisation, and when an interrupt waits that the processor
 * has not been told of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mm/vtlb_audit.h"
#include "tests/unit/fake_machine.h"

#define LAPIC        LAPIC_BASE_DEFAULT
#define BASE         (LAPIC | APIC_BASE_BSP | APIC_BASE_ENABLE)
#define ACCESSES     BIT(0)
#define X2APIC       BIT(4)
#define DELIVERY     (BIT(8) | BIT(9))
#define MODES        (ACCESSES | X2APIC | DELIVERY)
#define DATA_FETCH   (4 | BIT(7) | BIT(8))
#define STATUS(s, r) ((s) << 8 | (r))

static struct lapic *lapic;

static int start(void **state)
{
    start_32(state);
    lapic = &partition->platform.lapics[0];
    exit_apic_mode_changed(guest);
    lapic_mmio_write(lapic, LAPIC_SVR, 4, 0x1ff);
    return 0;
}

static void write_base(uint64_t value)
{
    guest->vcpu.registers[VCPU_RCX] = MSR_IA32_APIC_BASE;
    guest->vcpu.registers[VCPU_RAX] = (uint32_t)value;
    guest->vcpu.registers[VCPU_RDX] = value >> 32;
    take_exit(EXIT_REASON_WRMSR, 0, 2);
}

/* Where the guest's memory ends up at `gpa`; 0: nowhere, or not so. */
static uint64_t mapped(uint64_t gpa, unsigned access)
{
    struct vtlb_result result;

    if (vtlb_miss(&guest->ept, gpa, access, &result) != VTLB_FILLED)
        return 0;
    return result.translation.address;
}

static void modes(void **state)
{
    (void)state;
    const uint64_t page = partition->apicv.access_page.value;

    assert_true(frame_is_owned(partition_machine()->frames, HPA(page), PAGE_SIZE, partition->frame_owner));
    assert_int_equal(fake_get(VMCS_APIC_ACCESS_ADDRESS), page);
    assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS) & MODES, ACCESSES | DELIVERY);
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), partition->apicv.msr_bitmap[VCPU_REGIME_EPT].value);
    assert_int_equal(mapped(LAPIC + 0x80, PAGING_WRITE), page + 0x80);
    assert_int_equal(mapped(LAPIC + PAGE_SIZE, PAGING_READ), 0);
    assert_null(vtlb_audit(&guest->vtlb, &partition->p2m));

    /* Elsewhere: the page follows, and stands no more where it was. */
    write_base(0xd0000000 | APIC_BASE_BSP | APIC_BASE_ENABLE);
    assert_int_equal(mapped(LAPIC, PAGING_READ), 0);
    assert_int_equal(mapped(0xd0000000, PAGING_READ), page);
    assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS) & MODES, ACCESSES | DELIVERY);
    write_base(BASE);

    uint64_t generation = vtlb_generation(&guest->vtlb);
    assert_int_equal(mapped(LAPIC, PAGING_READ), page);
    write_base(BASE | APIC_BASE_X2APIC);
    assert_true(vtlb_generation(&guest->vtlb) > generation);
    assert_int_equal(mapped(LAPIC, PAGING_READ), 0);
    assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS) & MODES, X2APIC | DELIVERY);
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), partition->apicv.msr_bitmap_x2apic[VCPU_REGIME_EPT].value);

    write_base(LAPIC | APIC_BASE_BSP);
    assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS) & MODES, 0);
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), partition->apicv.msr_bitmap[VCPU_REGIME_EPT].value);
    assert_int_equal(mapped(LAPIC, PAGING_READ), 0);
    write_base(BASE);
    assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS) & MODES, ACCESSES | DELIVERY);

    /* A write that is refused changes nothing. */
    write_base(BASE | 1);
    assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS) & MODES, ACCESSES | DELIVERY);

    /* Nobody executes there. */
    start(state);
    run_to_exit(EXIT_REASON_EPT_VIOLATION, DATA_FETCH, 0);
    fake_set(VMCS_GUEST_PHYSICAL_ADDRESS, LAPIC);
    handle();
    assert_int_equal(next_injection(), 0x80000306);
}

/* By the policy "intercept" nothing is virtualised. */
static void intercepted(void **state)
{
    (void)state;
    build_guest(VCPU_START_PROTECTED_32, CORE_POLICY_TPR_INTERCEPT);
    exit_apic_mode_changed(guest);
    assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS) & MODES, 0);
    assert_int_equal(mapped(LAPIC, PAGING_READ), 0);
    write_base(BASE | APIC_BASE_X2APIC);
    assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS) & MODES, 0);
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), partition->apicv.msr_bitmap[VCPU_REGIME_EPT].value);
}

/* An interrupt of the local APIC is told, not injected; HLT finds it in the model. */
static void interrupts(void **state)
{
    (void)state;
    const struct lapic_message message = {.vector = 0x55}, level = {.vector = 0x91, .level = true};

    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF);
    assert_true(lapic_deliver(lapic, 1, &message));
    assert_int_equal(next_injection(), 0);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPT_STATUS), STATUS(0, 0x55));
    assert_int_equal(guest->injected, 0);
    take_exit(EXIT_REASON_HLT, 0, 1);
    assert_int_equal(guest->wait, VCPU_WAIT_NOT);

    assert_true(lapic_deliver(lapic, 1, &level));
    assert_int_equal(next_injection(), 0);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPT_STATUS), STATUS(0, 0x91));
    assert_int_equal(fake_get(VMCS_EOI_EXIT_BITMAP2), BIT(0x91 - 0x80));
}

/* The processor has taken the vector, and its EOI: the IO-APIC hears of it. */
static void virtualized_eoi(void **state)
{
    (void)state;
    struct platform *platform = &partition->platform;

    platform->ioapic.redirection[9] = BIT(15) | BIT(14) | 0x91;
    lapic->page[(LAPIC_TMR + 0x91 / 32 * 16) / 4] = 1u << 0x91 % 32;
    take_exit(EXIT_REASON_VIRTUALIZED_EOI, 0x90, 0);
    assert_int_equal(platform->ioapic.redirection[9], BIT(15) | BIT(14) | 0x91);
    take_exit(EXIT_REASON_VIRTUALIZED_EOI, 0x91, 0);
    assert_int_equal(platform->ioapic.redirection[9], BIT(15) | 0x91);
    assert_done(GUEST_RIP);
}

/* The value is in the page before the exit, which comes after the instruction. */
static void apic_write(void **state)
{
    (void)state;
    lapic->page[LAPIC_LVT_TIMER / 4] = 0x20055;
    take_exit(EXIT_REASON_APIC_WRITE, LAPIC_LVT_TIMER, 0);
    lapic->page[LAPIC_INITIAL_COUNT / 4] = 1000;
    guest->deadline_changed = false;
    take_exit(EXIT_REASON_APIC_WRITE, LAPIC_INITIAL_COUNT, 0);
    assert_int_not_equal(lapic_deadline(lapic), VDEV_NEVER);
    assert_true(guest->deadline_changed);
    assert_done(GUEST_RIP);

    lapic->page[LAPIC_ICR / 4] = 0x4054; /* to itself, by its ID: one exit */
    take_exit(EXIT_REASON_APIC_WRITE, LAPIC_ICR, 0);
    assert_int_equal(next_injection(), 0);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPT_STATUS), STATUS(0, 0x54));
}

static void apic_access(void **state)
{
    (void)state;
    const uint8_t read_ppr[] = {0xa1, 0xa0, 0x00, 0xe0, 0xfe}; /* mov eax, [PPR] */
    const uint8_t write_eoi[] = {0x66, 0xa3, 0xb0, 0x00, 0xe0, 0xfe};

    lapic->page[LAPIC_TPR / 4] = 0x77;
    guest_put(GUEST_RIP, read_ppr, sizeof(read_ppr));
    take_exit(EXIT_REASON_APIC_ACCESS, 0x0a0, 0);
    assert_done(GUEST_RIP + sizeof(read_ppr));
    assert_int_equal((uint32_t)guest->vcpu.registers[VCPU_RAX], 0x77);

    start(state);
    guest_put(GUEST_RIP, write_eoi, sizeof(write_eoi));
    take_exit(EXIT_REASON_APIC_ACCESS, 1 << 12 | 0x0b0, 0);
    assert_done(GUEST_RIP + sizeof(write_eoi));

    start(state);
    take_exit(EXIT_REASON_APIC_ACCESS, 2 << 12 | 0x0b0, 0);
    assert_int_equal(next_injection(), 0x80000306);

    static const struct {
        unsigned type;
        const char *text;
    } crashes[] = {{3, "event delivery"}, {10, "event delivery"}, {15, "page tables"}};
    for (size_t i = 0; i < ARRAY_SIZE(crashes); i++) {
        start(state);
        take_exit(EXIT_REASON_APIC_ACCESS, crashes[i].type << 12 | 0x100, 0);
        assert_crashed(crashes[i].text);
        assert_crashed("0xfee00100");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(modes, start),      cmocka_unit_test_setup(intercepted, start),
        cmocka_unit_test_setup(interrupts, start), cmocka_unit_test_setup(virtualized_eoi, start),
        cmocka_unit_test_setup(apic_write, start), cmocka_unit_test_setup(apic_access, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
