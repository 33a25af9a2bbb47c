// SPDX-License-Identifier: BSD-2-Clause
/*
 * vmx/apicv.c, and what vmx/events.c does where the processor delivers interrupts by itself. Fails when a
 * control is on that the processor or the mode does not allow, when the MSR bitmap of x2APIC mode is in force
 * without that mode's control, when RVI, SVI or the EOI-exit bitmap differ from a search of the page, and
 * when an interrupt of the local APIC is injected that the processor delivers.
 */
#include "vmx/apicv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mm/physmap.h"
#include "tests/unit/fake_vmcs.h"
#include "tests/unit/processors.h"
#include "vmx/events.h"

/* Bits of the secondary controls, by the SDM. */
#define ACCESSES  BIT(0)
#define X2APIC    BIT(4)
#define REGISTERS BIT(8)
#define DELIVERY  BIT(9)
#define MODES     (ACCESSES | X2APIC | REGISTERS | DELIVERY)
#define POSTED    BIT(7) /* pin-based */

#define OTHERS    0x0010208aULL
#define PLAIN     0x1000 /* and as far again, that of the shadow regime */
#define X2_BITMAP 0x8000

static uint32_t page[PAGE_SIZE / 4] __aligned(PAGE_SIZE);
static struct vcpu vcpu;
static int pending = -1, taken;

static int source_pending(void *context)
{
    (void)context;
    return pending;
}

static int source_take(void *context)
{
    (void)context;
    taken++;
    pending = -1;
    return 0x20;
}

static uint8_t source_threshold(void *context)
{
    (void)context;
    return 3;
}

static const struct vcpu_interrupt_ops source = {source_pending, source_take, source_threshold};

static int setup(void **state)
{
    (void)state;
    memset(&fake_vmcs, 0, sizeof(fake_vmcs));
    memset(&vcpu, 0, sizeof(vcpu));
    memset(page, 0, sizeof(page));
    pending = -1;
    taken = 0;
    vcpu.interrupt_ops = &source;
    vcpu.controls.words[VMX_WORD_PRIMARY] = VMX_PRIMARY_TPR_SHADOW;
    fake_set(VMCS_SECONDARY_CONTROLS, OTHERS);
    fake_set(VMCS_PIN_CONTROLS, 0x3f);
    fake_set(VMCS_VIRTUAL_APIC_ADDRESS, physmap_address(page).value);
    fake_set(VMCS_GUEST_CR0, X86_CR0_PE);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF);
    vcpu_events_reset(&vcpu);
    return 0;
}

static struct apicv choose(bool tpr_shadow, uint64_t secondary, uint64_t pin)
{
    const struct vmx_capabilities capabilities = {
        .controls = {[VMX_WORD_SECONDARY] = secondary << 32, [VMX_WORD_PIN] = pin << 32}};
    const struct vmx_controls controls = {
        .words = {[VMX_WORD_PRIMARY] = tpr_shadow ? VMX_PRIMARY_TPR_SHADOW : 0}};
    struct apicv apicv;

    memset(&apicv, 0xff, sizeof(apicv));
    apicv_choose(&apicv, &capabilities, &controls);
    apicv.access_page = HPA(0x3000);
    for (unsigned regime = 0; regime < VCPU_REGIMES; regime++) {
        apicv.msr_bitmap[regime] = HPA((1 + regime) * PLAIN);
        apicv.msr_bitmap_x2apic[regime] = HPA((1 + regime) * X2_BITMAP);
    }
    return apicv;
}

/* Every subset of the five capabilities, with and without the TPR shadow, in every order of two modes, in
 * both regimes. */
static void modes(void **state)
{
    for (unsigned n = 0; n < 128; n++) {
        const unsigned regime = n / 64;
        const uint64_t may =
            (n & 1 ? ACCESSES : 0) | (n & 2 ? X2APIC : 0) | (n & 4 ? REGISTERS : 0) | (n & 8 ? DELIVERY : 0);
        const bool tpr_shadow = n & 32;
        const uint64_t both = (n & 12) == 12 ? REGISTERS | DELIVERY : 0;
        const struct apicv apicv = choose(tpr_shadow, may, n & 16 ? POSTED : 0);

        for (unsigned order = 0; order < 9; order++) {
            const enum apicv_mode mode = order % 3;
            uint64_t wanted = 0;

            setup(state);
            vcpu.regime = regime;
            apicv_init(&apicv, &vcpu, HPA(0x4040));
            assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS), OTHERS);
            assert_int_equal(fake_get(VMCS_MSR_BITMAPS), (1 + regime) * PLAIN);
            apicv_set_mode(&apicv, &vcpu, order / 3);
            vcpu.events_changed = false;
            apicv_set_mode(&apicv, &vcpu, mode);
            assert_true(vcpu.events_changed);

            if (tpr_shadow && mode == APICV_XAPIC && (may & ACCESSES))
                wanted = ACCESSES | both;
            if (tpr_shadow && mode == APICV_X2APIC && (may & X2APIC))
                wanted = X2APIC | both;
            assert_int_equal(fake_get(VMCS_SECONDARY_CONTROLS), OTHERS | wanted);
            const uint64_t bitmap = wanted & X2APIC ? X2_BITMAP : PLAIN;
            assert_int_equal(fake_get(VMCS_MSR_BITMAPS), (1 + regime) * bitmap);
            for (unsigned i = 0; i < VCPU_REGIMES; i++) /* what vcpu_set_regime takes */
                assert_int_equal(vcpu.msr_bitmaps[i].value, (1 + i) * bitmap);
            assert_int_equal(apicv_delivers(&vcpu), (wanted & DELIVERY) != 0);
            assert_int_equal(fake_get(VMCS_PIN_CONTROLS),
                             0x3f | ((wanted & DELIVERY) && (n & 16) ? POSTED : 0));
            if (fake_get(VMCS_PIN_CONTROLS) & POSTED) {
                assert_int_equal(fake_get(VMCS_POSTED_INTERRUPT_VECTOR), 0xf2);
                assert_int_equal(fake_get(VMCS_POSTED_INTERRUPT_DESCRIPTOR), 0x4040);
            }
            if (wanted & ACCESSES)
                assert_int_equal(fake_get(VMCS_APIC_ACCESS_ADDRESS), 0x3000);
        }
    }
}

static void recorded_processors(void **state)
{
    (void)state;
    static const struct vmx_msr_ops ops = {processor_rdmsr, processor_cpuid};
    const struct vmx_controls controls = {.words = {[VMX_WORD_PRIMARY] = VMX_PRIMARY_TPR_SHADOW}};
    static const struct {
        bool accesses, x2apic, delivery, posted;
    } features[PROCESSORS] = {
        [PENRYN] = {true, false, false, false},      [LYNNFIELD] = {true, true, false, false},
        [SANDY_BRIDGE] = {true, true, false, false}, [SKYLAKE_X] = {true, true, true, true},
        [TIGER_LAKE] = {true, true, true, true},     [KVM_NESTED] = {true, true, false, false},
    };

    for (unsigned i = 0; i < PROCESSORS; i++) {
        struct vmx_capabilities capabilities;
        struct apicv apicv;

        processor = &processors[i];
        vmx_capabilities_read(&capabilities, &ops);
        apicv_choose(&apicv, &capabilities, &controls);
        assert_int_equal(apicv.accesses, features[i].accesses);
        assert_int_equal(apicv.x2apic, features[i].x2apic);
        assert_int_equal(apicv.delivery, features[i].delivery);
        assert_int_equal(apicv.posted, features[i].posted);
    }
}

static void deliver_by_processor(void)
{
    const struct apicv apicv = choose(true, MODES, 0);

    apicv_init(&apicv, &vcpu, HPA(0));
    apicv_set_mode(&apicv, &vcpu, APICV_XAPIC);
}

static unsigned search(unsigned offset)
{
    for (unsigned vector = 255; vector > 0; vector--) {
        if (page[(offset + vector / 32 * 16) / 4] >> vector % 32 & 1)
            return vector;
    }
    return 0;
}

static void status(void **state)
{
    (void)state;
    uint64_t seed = 1;

    deliver_by_processor();
    for (unsigned round = 0; round < 20000; round++) {
        for (unsigned i = 0; i < 3; i++) {
            static const unsigned places[] = {0x100, 0x180, 0x200};
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            unsigned vector = 16 + seed % 240;
            page[(places[i] + vector / 32 * 16) / 4] ^= 1u << vector % 32;
            if (seed >> 60 == 0)
                memset(&page[places[i] / 4], 0, 0x80);
        }
        fake_set(VMCS_GUEST_INTERRUPT_STATUS, 0xffff); /* the processor has changed it */
        vcpu.known[VMCS_INDEX_GUEST_INTERRUPT_STATUS / 64] = 0;
        vcpu_events_changed(&vcpu);
        vcpu_events_before_entry(&vcpu);
        assert_int_equal(fake_get(VMCS_GUEST_INTERRUPT_STATUS), search(0x100) << 8 | search(0x200));
        for (unsigned vector = 0; vector < 256; vector++) {
            uint64_t bitmap = fake_get(vmcs_field_at(VMCS_INDEX_EOI_EXIT_BITMAP0 + vector / 64));
            assert_int_equal(bitmap >> vector % 64 & 1,
                             page[(0x180 + vector / 32 * 16) / 4] >> vector % 32 & 1);
        }
    }
    /* When nothing has changed, nothing is written. */
    unsigned writes = fake_vmcs.writes;
    vcpu_events_before_entry(&vcpu);
    assert_int_equal(fake_vmcs.writes, writes);
}

static void events(void **state)
{
    (void)state;
    deliver_by_processor();
    pending = 0x55;
    page[0x220 / 4] = 1u << (0x55 - 0x40);
    vcpu_events_before_entry(&vcpu);
    assert_int_equal(fake_injection(), 0);
    assert_int_equal(taken, 0);
    assert_int_equal(fake_get(VMCS_PRIMARY_CONTROLS), 0); /* no window: the processor waits by itself */
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPT_STATUS), 0x55);
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 0);
    assert_true(vcpu_events_would_wake(&vcpu));

    /* One that comes past the local APIC is injected as ever, when the guest lets it. */
    pending = VCPU_INTERRUPT_EXTERNAL;
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED);
    vcpu.known[VMCS_INDEX_GUEST_RFLAGS / 64] = 0;
    vcpu_events_changed(&vcpu);
    vcpu_events_before_entry(&vcpu);
    assert_int_equal(fake_injection(), 0);
    assert_int_equal(fake_get(VMCS_PRIMARY_CONTROLS), VMX_PRIMARY_INTERRUPT_WINDOW_EXITING);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF);
    vcpu.known[VMCS_INDEX_GUEST_RFLAGS / 64] = 0;
    vcpu_events_changed(&vcpu);
    vcpu_events_before_entry(&vcpu);
    assert_int_equal(fake_injection(), 0x80000020);
    assert_int_equal(fake_get(VMCS_PRIMARY_CONTROLS), 0);

    /* So is one whose delivery an exception overtook: it is in service already. */
    setup(state);
    deliver_by_processor();
    vcpu.deferred_interrupt = 0x61;
    vcpu_events_before_entry(&vcpu);
    assert_int_equal(fake_injection(), 0x80000061);

    /* Without delivery by the processor, all is injected. */
    setup(state);
    pending = 0x55;
    vcpu_events_before_entry(&vcpu);
    assert_int_equal(fake_injection(), 0x80000020);
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(modes, setup),
        cmocka_unit_test(recorded_processors),
        cmocka_unit_test_setup(status, setup),
        cmocka_unit_test_setup(events, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
