// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * One VMCS as an array, in the place of the processor's: the VMX instructions that vmx/instructions.h leaves
 * to a test, and the checks that the processor makes of an entry as far as events go. Include after
 * <cmocka.h>, in one file of a program.
 */
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "vmx/events.h"
#include "vmx/fields.h"
#include "vmx/instructions.h"

static struct {
    uint64_t values[VMCS_FIELD_COUNT];
    unsigned reads;
    unsigned writes;
    unsigned linear_flushes;
    const struct vmx_capabilities *processor; /* fields that it lacks cannot be reached; NULL: it has all */
} fake_vmcs;

/*
 * A second VMCS, for a test that gives its address in `vmcs`: vmx_load exchanges it with the one above. 0:
 * there is one VMCS only, whatever is loaded; with `wanted`, the first other one that is loaded is it.
 */
static struct {
    bool wanted;
    bool takes_all;   /* it is a shadow VMCS: exit information may be written */
    uint64_t vmcs;    /* of the one that is not current */
    uint64_t current; /* of the other */
    uint64_t values[VMCS_FIELD_COUNT];
} fake_beside;

static inline uint64_t fake_get(struct vmcs_field field)
{
    return fake_vmcs.values[field.index];
}

/* As the processor itself changes a field. */
static inline void fake_set(struct vmcs_field field, uint64_t value)
{
    fake_vmcs.values[field.index] = value;
}

static inline bool fake_has(struct vmcs_field field)
{
    return fake_vmcs.processor == NULL || vmcs_field_exists(field, fake_vmcs.processor);
}

bool vmx_read(uint64_t encoding, uint64_t *value)
{
    struct vmcs_field field;
    bool high;

    assert_true(vmcs_field_find(encoding, &field, &high));
    assert_false(high);
    if (!fake_has(field))
        return false;
    fake_vmcs.reads++;
    *value = fake_get(field);
    return true;
}

/* Stricter than the processor: a value that does not fit is an error here, and is cut off there. */
bool vmx_write(uint64_t encoding, uint64_t value)
{
    struct vmcs_field field;
    bool high;

    assert_true(vmcs_field_find(encoding, &field, &high));
    assert_false(high);
    assert_true(vmcs_field_class(field) != VMCS_CLASS_INFORMATION || fake_beside.takes_all);
    assert_int_equal(value & ~vmcs_width_mask(vmcs_field_width(field)), 0);
    if (!fake_has(field))
        return false;
    fake_vmcs.writes++;
    fake_set(field, value);
    return true;
}

bool vmx_clear(hpa_t vmcs)
{
    (void)vmcs;
    return true;
}

bool vmx_load(hpa_t vmcs)
{
    if (fake_beside.wanted && fake_beside.vmcs == 0 && fake_beside.current != 0 &&
        vmcs.value != fake_beside.current)
        fake_beside.vmcs = vmcs.value;
    if (fake_beside.vmcs != 0 && vmcs.value == fake_beside.vmcs) {
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
            const uint64_t value = fake_vmcs.values[i];

            fake_vmcs.values[i] = fake_beside.values[i];
            fake_beside.values[i] = value;
        }
        fake_beside.vmcs = fake_beside.current;
    }
    fake_beside.current = vmcs.value;
    return true;
}

bool vmx_invept(enum invept_type type, uint64_t eptp)
{
    (void)type, (void)eptp;
    return true;
}

bool vmx_invvpid(enum invvpid_type type, uint16_t vpid, gla_t address)
{
    (void)type, (void)vpid, (void)address;
    fake_vmcs.linear_flushes++;
    return true;
}

/* What the guest and the exit do, where a test has no other moment for it. NULL: nothing. */
static void (*fake_guest)(struct vcpu *vcpu);

/*
 * The guest has run by now: between the look at what is injected and this a test does what the guest and the
 * exit do.
 */
unsigned vcpu_enter(struct vcpu *vcpu, bool launched)
{
    (void)launched;
    if (fake_guest != NULL)
        fake_guest(vcpu);
    fake_set(VMCS_ENTRY_INTERRUPTION_INFO, fake_get(VMCS_ENTRY_INTERRUPTION_INFO) & ~BIT(31));
    return 0;
}

/* Vectors that push an error code, as the SDM lists them; the last one where there is CET. */
static inline bool fake_pushes_error_code(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

/* The interruption information of what the next entry injects: 0 if nothing. */
static inline uint32_t fake_injection(void)
{
    uint64_t information = fake_get(VMCS_ENTRY_INTERRUPTION_INFO);

    return information & BIT(31) ? (uint32_t)information : 0;
}

/*
 * What the processor asks of the injected event and of the guest's interruptibility before it enters (SDM
 * vol. 3, "VM-entry control fields", "Checks on guest RIP, RFLAGS" and "Checks on guest non-register state").
 */
static inline void fake_check_entry(void)
{
    uint32_t information = fake_injection();
    unsigned vector = information & 0xff;
    unsigned type = information >> 8 & 7;
    uint64_t blocking = fake_get(VMCS_GUEST_INTERRUPTIBILITY);
    bool enabled = fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_IF;
    bool sti = blocking & 1, mov_ss = blocking & 2, nmi = blocking & 8;

    assert_int_equal(blocking & ~0xbULL, 0); /* neither SMI blocking nor enclaves here */
    assert_false(sti && mov_ss);
    assert_false(sti && !enabled);
    if (information == 0)
        return;

    assert_int_equal(information & 0x7ffff000, 0);
    assert_int_not_equal(type, 1);
    assert_int_not_equal(type, 7);
    if (type == 2)
        assert_int_equal(vector, 2);
    if (type == 3)
        assert_true(vector <= 31);

    bool protected_mode = fake_get(VMCS_GUEST_CR0) & X86_CR0_PE;
    bool wants_code = type == 3 && protected_mode && fake_pushes_error_code(vector);
    assert_int_equal((information & BIT(11)) != 0, wants_code);
    if (wants_code)
        assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE) >> 16, 0);
    if (type >= 4) {
        assert_true(fake_get(VMCS_ENTRY_INSTRUCTION_LENGTH) >= 1);
        assert_true(fake_get(VMCS_ENTRY_INSTRUCTION_LENGTH) <= 15);
    }
    if (type == 0)
        assert_true(enabled && !sti && !mov_ss);
    if (type == 2)
        assert_false(sti || mov_ss || nmi);
}
