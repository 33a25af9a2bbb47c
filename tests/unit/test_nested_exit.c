// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/exit.c, between a VMCS02 and a VMCS01 of arrays. Fails when a field of VMCS12 or VMCS01 is not what
 * the SDM's chapter on VM exits makes of it after a logical exit, when any other field changes, when VMCS12
 * says of what the exit saved that Lv1 wrote it, when an event of Lv2's is lost or comes twice, when a failed
 * entry saves something of Lv2, when the steps come in another order, and when a value is fetched from VMCS02
 * that the exit reason does not define.
 */
#include "nested/exit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/msr.h"
#include "nested/away.h"
#include "nested/merge.h"
#include "nested/msr_list.h"
#include "tests/unit/fake_vmcs.h"

#define EVENT(type, vector) ((uint32_t)(BIT(31) | (type) << 8 | (vector)))
#define WITH_CODE           ((uint32_t)BIT(11))
#define LMA                 X86_EFER_LMA

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_value(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1d;
}

static bool coin(void)
{
    return random_value() >> 63;
}

/* ---- The machine ------------------------------------------------------------------------------------------
 */

static struct nested_vcpu n;
static struct vcpu vcpu01;
static uint64_t other_vmcs[VMCS_FIELD_COUNT]; /* of the one that is not current */
static bool current_is_01;

/* What Lv2's registers are, what Lv1's become, and what happens on the way. */
static struct {
    struct cr_state lv2, loaded;
    uint64_t xss;
    unsigned looks; /* at Lv2's control registers and IA32_XSS */
    bool bad_xss, bad_pdptes, bad_store, bad_leave;
    char log[8]; /* s: MSRs stored, c: control registers loaded, l: MSRs loaded */
} machine;

static void note(char what)
{
    assert_true(strlen(machine.log) + 1 < sizeof(machine.log));
    machine.log[strlen(machine.log)] = what;
}

static void switch_vmcs(void)
{
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const uint64_t value = fake_vmcs.values[i];
        fake_vmcs.values[i] = other_vmcs[i];
        other_vmcs[i] = value;
    }
    current_is_01 = !current_is_01;
}

/* To the other one of the two. */
void vcpu_switch(struct vcpu *from)
{
    assert_ptr_equal(from, current_is_01 ? &vcpu01 : &n.vcpu02);
    switch_vmcs();
}

void nested_read_control_state(struct nested_vcpu *nested, struct cr_state *state)
{
    assert_ptr_equal(nested, &n);
    assert_false(current_is_01);
    *state = machine.lv2;
    machine.looks++;
}

bool nested_msr_list_store(struct nested_vcpu *nested)
{
    assert_ptr_equal(nested, &n);
    assert_false(current_is_01);
    note('s');
    return !machine.bad_store;
}

bool nested_msr_list_leave(struct nested_vcpu *nested)
{
    assert_ptr_equal(nested, &n);
    assert_true(current_is_01);
    note('l');
    return !machine.bad_leave;
}

static bool load_control_state(void *context, const struct cr_state *state)
{
    assert_ptr_equal(context, &machine);
    assert_true(current_is_01);
    note('c');
    machine.loaded = *state;
    return !machine.bad_pdptes;
}

static bool read_msr(void *context, uint32_t index, uint64_t *value)
{
    assert_ptr_equal(context, &machine);
    assert_int_equal(index, MSR_IA32_XSS);
    *value = machine.xss;
    machine.looks++;
    return !machine.bad_xss;
}

static const struct nested_ops ops = {.load_control_state = load_control_state, .read_msr = read_msr};
static const struct register_policy registers; /* nothing is masked: Lv1's CR0 is the field */

/* All fields of both VMCSs and of VMCS12 have values of their own; controls are 0 but for those given. */
static int setup(void **state)
{
    (void)state;
    memset(&fake_vmcs, 0, sizeof(fake_vmcs));
    memset(&n, 0, sizeof(n));
    memset(&vcpu01, 0, sizeof(vcpu01));
    memset(&machine, 0, sizeof(machine));
    current_is_01 = false;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field field = vmcs_field_at(i);
        const uint64_t mask = vmcs_width_mask(vmcs_field_width(field));
        fake_vmcs.values[i] = random_value() & mask;
        other_vmcs[i] = random_value() & mask;
        n.vmcs12.values[i] = vmcs_field_class(field) == VMCS_CLASS_CONTROL ? 0 : random_value() & mask;
    }
    vcpu01.policy = n.vcpu02.policy = &registers;
    vcpu_events_reset(&vcpu01);
    vcpu_events_reset(&n.vcpu02);
    vcpu01.events_changed = false;
    for (unsigned i = 0; i < VCPU_REGISTERS; i++) {
        vcpu01.registers[i] = random_value();
        n.vcpu02.registers[i] = random_value();
    }
    n.vcpu01 = &vcpu01;
    n.ops = &ops;
    n.context = &machine;
    n.mode = NESTED_NON_ROOT;
    machine.lv2 = (struct cr_state){random_value(), random_value(), random_value(), random_value(), coin()};
    vmcs12_write(&n.vmcs12, VMCS_EXIT_CONTROLS, VMX_EXIT_HOST_64);
    vmcs12_forget_written(&n.vmcs12);
    return 0;
}

static uint64_t get12(struct vmcs_field field)
{
    return vmcs12_read(&n.vmcs12, field);
}

static void set12(struct vmcs_field field, uint64_t value)
{
    vmcs12_write(&n.vmcs12, field, value);
    vmcs12_forget_written(&n.vmcs12);
}

/* What the exit left away comes to VMCS12. VMCS02 is current. */
static void fetch(void)
{
    switch_vmcs();
    nested_away_fetch(&n);
    switch_vmcs();
    for (unsigned word = 0; word < VMCS12_FIELD_WORDS; word++)
        assert_int_equal(n.vmcs12.away[word], 0);
}

static void save(struct nested_exit_information *information)
{
    assert_int_equal(nested_exit_save(&n, information), NESTED_ABORT_NONE);
}

static void load(const struct nested_exit_information *information)
{
    switch_vmcs();
    assert_int_equal(nested_exit_load(&n, information), NESTED_ABORT_NONE);
}

/* ---- Saving -----------------------------------------------------------------------------------------------
 */

/* Guest state that VMCS12 gets from VMCS02 at every exit, by encoding. */
static bool is_copied(unsigned encoding)
{
    return (encoding >= 0x800 && encoding <= 0x80e) ||   /* selectors */
           (encoding >= 0x4800 && encoding <= 0x4822) || /* limits, access rights */
           encoding == 0x482a ||                         /* IA32_SYSENTER_CS */
           (encoding >= 0x6806 && encoding <= 0x6818) || /* bases */
           (encoding >= 0x681c && encoding <= 0x6826);   /* RSP, RIP, RFLAGS, pending debug, SYSENTER */
}

/* VMCS12's value of a field after an exit by CPUID of 2 bytes without any event. */
static uint64_t expected12(unsigned index, const struct vmcs12 *before, const uint64_t *pdptes)
{
    const struct vmcs_field field = vmcs_field_at(index);
    const uint64_t old = before->values[index], new = fake_vmcs.values[index];
    const uint64_t exits = vmcs12_read(before, VMCS_EXIT_CONTROLS);
    const bool shadow = n.vcpu02.regime == VCPU_REGIME_SHADOW;
    const bool pae = (machine.lv2.cr0 & X86_CR0_PG) != 0 && (machine.lv2.cr4 & X86_CR4_PAE) != 0 &&
                     (machine.lv2.efer & LMA) == 0;

    switch (index) {
    case VMCS_INDEX_EXIT_REASON:
        return EXIT_REASON_CPUID;
    case VMCS_INDEX_EXIT_QUALIFICATION:
    case VMCS_INDEX_EXIT_INTERRUPTION_INFO:
    case VMCS_INDEX_IDT_VECTORING_INFO:
        return 0;
    case VMCS_INDEX_EXIT_INSTRUCTION_LENGTH:
        return 2;
    case VMCS_INDEX_ENTRY_INTERRUPTION_INFO:
        return old & 0x7fffffff;
    case VMCS_INDEX_ENTRY_CONTROLS:
        return (old & ~(uint64_t)BIT(9)) | ((machine.lv2.efer & LMA) != 0 ? BIT(9) : 0);
    case VMCS_INDEX_GUEST_CR0:
        return machine.lv2.cr0;
    case VMCS_INDEX_GUEST_CR3:
        return machine.lv2.cr3;
    case VMCS_INDEX_GUEST_CR4:
        return machine.lv2.cr4;
    case VMCS_INDEX_GUEST_EFER:
        return exits & BIT(20) ? machine.lv2.efer : old;
    case VMCS_INDEX_GUEST_PAT:
        return !(exits & BIT(18)) ? old : shadow ? n.vcpu02.guest.pat : new;
    case VMCS_INDEX_GUEST_DR7:
    case VMCS_INDEX_GUEST_DEBUGCTL:
        return exits & BIT(2) ? new : old;
    case VMCS_INDEX_PREEMPTION_TIMER_VALUE:
        return exits & BIT(22) ? 12345 : old;
    case VMCS_INDEX_GUEST_INTERRUPTIBILITY:
        return new;
    case VMCS_INDEX_GUEST_ACTIVITY:
        return 1;
    case VMCS_INDEX_GUEST_INTERRUPT_STATUS:
        return vmcs12_has_secondary(before, VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY) ? new : old;
    case VMCS_INDEX_GUEST_PDPTE0:
    case VMCS_INDEX_GUEST_PDPTE1:
    case VMCS_INDEX_GUEST_PDPTE2:
    case VMCS_INDEX_GUEST_PDPTE3:
        if (!pae || !vmcs12_has_secondary(before, VMX_SECONDARY_EPT))
            return old;
        return pdptes != NULL ? pdptes[index - VMCS_INDEX_GUEST_PDPTE0] : new;
    default:
        return is_copied(field.encoding) ? new : old;
    }
}

/* Every field, under any of the controls that matter; none counts as written by Lv1. */
static void saves_every_field(void **state)
{
    static const uint64_t pdptes[4] = {0x1001, 0x2001, 0, 0x4001};
    unsigned with_pdptes = 0;

    for (unsigned run = 0; run < 2000; run++) {
        struct nested_exit_information information = {
            .reason = EXIT_REASON_CPUID, .instruction_length = 2, .activity = 1, .preemption_timer = 12345};
        struct vmcs12 before;

        setup(state);
        set12(VMCS_EXIT_CONTROLS, random_value() & UINT32_MAX);
        set12(VMCS_ENTRY_CONTROLS, random_value() & UINT32_MAX);
        set12(VMCS_ENTRY_INTERRUPTION_INFO, random_value() & UINT32_MAX);
        set12(VMCS_PRIMARY_CONTROLS, random_value() & UINT32_MAX);
        set12(VMCS_SECONDARY_CONTROLS, random_value() & UINT32_MAX);
        if (coin()) {
            n.vcpu02.regime = VCPU_REGIME_SHADOW;
            n.vcpu02.guest.pat = random_value();
        }
        if (coin())
            information.pdptes = pdptes;
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) /* some are as they were */
            if (coin() && vmcs_field_class(vmcs_field_at(i)) == VMCS_CLASS_GUEST)
                n.vmcs12.values[i] = fake_vmcs.values[i];
        before = n.vmcs12;

        save(&information);
        assert_true(n.vmcs12.changed);
        fetch();
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
            const uint64_t expected = expected12(i, &before, information.pdptes);
            if (n.vmcs12.values[i] != expected)
                fail_msg("run %u: %s is %#lx, not %#lx", run, vmcs_field_name(vmcs_field_at(i)),
                         n.vmcs12.values[i], expected);
            assert_false(vmcs12_is_written(&n.vmcs12, vmcs_field_at(i)));
        }
        with_pdptes += n.vmcs12.values[VMCS_INDEX_GUEST_PDPTE1] != before.values[VMCS_INDEX_GUEST_PDPTE1];
        assert_int_equal(information.kept.cr0, machine.lv2.cr0);
        assert_int_equal(information.kept.efer, machine.lv2.efer);
        if (!vmcs12_has_exit(&before, VMX_EXIT_LOAD_PAT))
            assert_int_equal(information.kept.pat, n.vcpu02.regime == VCPU_REGIME_SHADOW
                                                       ? n.vcpu02.guest.pat
                                                       : fake_get(VMCS_GUEST_PAT));
        assert_memory_equal(&n.state02, &machine.lv2, sizeof(n.state02));
        assert_memory_equal(vcpu01.registers, n.vcpu02.registers, sizeof(vcpu01.registers));
        assert_string_equal(machine.log, "s");
        assert_int_equal(fake_vmcs.writes, 0);
    }
    assert_true(with_pdptes > 20);
}

/* ---- Exit information --------------------------------------------------------------------------------- */

static bool is_among(unsigned reason, const uint8_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == reason)
            return true;
    return false;
}

#define AMONG(reason, ...)                                                                                   \
    is_among(reason, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Each reason, with all values there: those that the SDM's lists have for it come through, to VMCS12 as well;
 * the others are 0 or as they were. */
static void information_by_reason(void **state)
{
    static const uint8_t cr_accesses[] = {0x03, 0x70, 0x30, 0x40}; /* the second is LMSW of memory */

    for (unsigned reason = 0; reason <= EXIT_REASON_COUNT; reason++) {
        const bool io = reason == EXIT_REASON_IO_INSTRUCTION, cr = reason == EXIT_REASON_CR_ACCESS;
        const bool either = AMONG(reason, 23, 25, 47); /* an operand in a register, or with a displacement */
        for (unsigned variant = 0; variant < (io || either ? 2 : cr ? 4 : 1); variant++) {
            const bool q = AMONG(reason, 0, 4, 9, 14, 19, 21, 22, 23, 25, 27, 28, 29, 30, 33, 34, 36, 44, 45,
                                 46, 47, 48, 50, 53, 56, 58, 62, 63, 64, 66, 72, 73, 75);
            const bool length = !AMONG(reason, 1, 2, 3, 4, 5, 6, 7, 8, 33, 34, 35, 37, 38, 41, 42, 43, 45, 52,
                                       56, 62, 71, 74, 75, 76, 77, 78);
            const bool instruction = AMONG(reason, 19, 21, 22, 23, 25, 27, 46, 47, 50, 53, 57, 58, 61, 63, 64,
                                           67, 68, 69, 72, 73) ||
                                     (io && variant != 0);
            const bool linear = AMONG(reason, 48, 66) || ((io || cr) && variant == 1);
            const bool physical = AMONG(reason, 48, 49, 66);
            const bool in_register = either && variant == 1;
            struct nested_exit_information information;
            struct vmcs12 before;

            setup(state);
            fake_set(VMCS_EXIT_REASON, reason);
            fake_set(VMCS_EXIT_QUALIFICATION, io   ? 0x700000 | variant << 4
                                              : cr ? cr_accesses[variant]
                                                   : 0x33);
            fake_set(VMCS_EXIT_INTERRUPTION_INFO, EVENT(3U, 6));
            fake_set(VMCS_EXIT_INSTRUCTION_INFO, in_register ? 0x12345678 | BIT(10) : 0x12345278);
            nested_exit_information(&n, &information);
            assert_int_equal(fake_vmcs.reads,
                             1 + q + length + instruction + linear + physical + (reason <= 1 ? 1 : 0));
            assert_int_equal(information.reason, reason);
            const uint64_t qualification = q && !in_register ? fake_get(VMCS_EXIT_QUALIFICATION) : 0;
            assert_int_equal(information.qualification, qualification);
            assert_int_equal(information.interruption, reason <= 1 ? EVENT(3U, 6) : 0);
            assert_int_equal(information.linear_address, linear ? fake_get(VMCS_GUEST_LINEAR_ADDRESS) : 0);

            before = n.vmcs12;
            save(&information);
            assert_int_equal(get12(VMCS_EXIT_QUALIFICATION), qualification);
            const struct {
                struct vmcs_field field;
                bool defined;
            } fields[] = {
                {VMCS_EXIT_INSTRUCTION_LENGTH, length},     {VMCS_EXIT_INSTRUCTION_INFO, instruction},
                {VMCS_GUEST_LINEAR_ADDRESS, linear},        {VMCS_GUEST_PHYSICAL_ADDRESS, physical},
                {VMCS_EXIT_INTERRUPTION_ERROR_CODE, false}, {VMCS_IDT_VECTORING_ERROR_CODE, false},
            };
            for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
                if (get12(fields[i].field) !=
                    (fields[i].defined ? fake_get(fields[i].field) : vmcs12_read(&before, fields[i].field)))
                    fail_msg("%s: %s", vmx_exit_reason_name(reason), vmcs_field_name(fields[i].field));
        }
    }
}

/* An exception with an error code has it in VMCS12. */
static void exception_information(void **state)
{
    struct nested_exit_information information;

    (void)state;
    fake_set(VMCS_EXIT_REASON, EXIT_REASON_EXCEPTION_OR_NMI);
    fake_set(VMCS_EXIT_INTERRUPTION_INFO, EVENT(3U, 14) | WITH_CODE);
    nested_exit_information(&n, &information);
    assert_int_equal(information.interruption_error_code, fake_get(VMCS_EXIT_INTERRUPTION_ERROR_CODE));
    save(&information);
    assert_int_equal(get12(VMCS_EXIT_INTERRUPTION_INFO), EVENT(3U, 14) | WITH_CODE);
    assert_int_equal(get12(VMCS_EXIT_INTERRUPTION_ERROR_CODE), fake_get(VMCS_EXIT_INTERRUPTION_ERROR_CODE));
    assert_int_equal(get12(VMCS_EXIT_QUALIFICATION), fake_get(VMCS_EXIT_QUALIFICATION));
}

/* ---- What the owner is asked about -------------------------------------------------------------------- */

static struct nested_owner_exit describe(unsigned reason)
{
    struct nested_owner_exit exit = {0};

    memset(n.vcpu02.known, 0, sizeof(n.vcpu02.known));
    fake_set(VMCS_EXIT_REASON, reason);
    fake_vmcs.reads = 0;
    nested_exit_describe(&n, &exit);
    assert_int_equal(exit.reason, reason);
    assert_ptr_equal(exit.vmcs12, &n.vmcs12);
    return exit;
}

static void descriptions(void **state)
{
    struct nested_owner_exit exit;

    (void)state;
    exit = describe(EXIT_REASON_CPUID);
    assert_int_equal(fake_vmcs.reads, 1); /* the reason */
    assert_int_equal(machine.looks, 0);
    assert_int_equal(exit.qualification | exit.operand | exit.interruption, 0);

    /* MOV to CR4 from RSP: 64 bits in 64-bit mode, else 32. */
    fake_set(VMCS_EXIT_QUALIFICATION, 4 << 8 | 4);
    for (unsigned mode = 0; mode < 4; mode++) {
        fake_set(VMCS_GUEST_CS_ACCESS_RIGHTS, mode & 1 ? 0xa09b : 0xc09b);
        fake_set(VMCS_GUEST_EFER, mode & 2 ? LMA : ~LMA);
        exit = describe(EXIT_REASON_CR_ACCESS);
        assert_int_equal(exit.qualification, 4 << 8 | 4);
        assert_int_equal(exit.operand,
                         mode == 3 ? fake_get(VMCS_GUEST_RSP) : (uint32_t)fake_get(VMCS_GUEST_RSP));
    }
    fake_set(VMCS_EXIT_QUALIFICATION, 9 << 8 | 8); /* from R9 */
    assert_int_equal(describe(EXIT_REASON_CR_ACCESS).operand, n.vcpu02.registers[9]);

    assert_int_equal(describe(EXIT_REASON_RDMSR).operand, (uint32_t)n.vcpu02.registers[VCPU_RCX]);
    assert_int_equal(describe(EXIT_REASON_WRMSR).operand, (uint32_t)n.vcpu02.registers[VCPU_RCX]);
    assert_int_equal(describe(EXIT_REASON_ENCLS).operand, (uint32_t)n.vcpu02.registers[VCPU_RAX]);
    machine.xss = 0x1234;
    exit = describe(EXIT_REASON_XSAVES);
    assert_int_equal(exit.operand,
                     n.vcpu02.registers[VCPU_RDX] << 32 | (uint32_t)n.vcpu02.registers[VCPU_RAX]);
    assert_int_equal(exit.xss, 0x1234);
    machine.bad_xss = true;
    assert_int_equal(describe(EXIT_REASON_XRSTORS).xss, 0);
    assert_int_equal(describe(EXIT_REASON_GETSEC).cr4, machine.lv2.cr4);
    fake_set(VMCS_EXIT_QUALIFICATION, 2 << 4); /* CLTS */
    assert_int_equal(describe(EXIT_REASON_CR_ACCESS).operand, 0);

    fake_set(VMCS_EXIT_INTERRUPTION_INFO, EVENT(3U, 13) | WITH_CODE);
    exit = describe(EXIT_REASON_EXCEPTION_OR_NMI);
    assert_int_equal(exit.interruption, EVENT(3U, 13) | WITH_CODE);
    assert_int_equal(exit.error_code, fake_get(VMCS_EXIT_INTERRUPTION_ERROR_CODE));
    fake_set(VMCS_EXIT_INTERRUPTION_INFO, EVENT(3U, 6));
    assert_int_equal(describe(EXIT_REASON_EXCEPTION_OR_NMI).error_code, 0);
}

/* ---- Events ------------------------------------------------------------------------------------------- */

/* What the queue holds, what exits, and what Lv1 reads as IDT-vectoring information. */
static void queued_events(void **state)
{
    static const struct {
        uint32_t queued;
        uint32_t reason, interruption;
        uint32_t vectoring;
        bool code, length, nmi;
    } cases[] = {
        {0, EXIT_REASON_EPT_VIOLATION, 0, 0, false, false, false},
        {EVENT(0U, 0x30), EXIT_REASON_EPT_VIOLATION, 0, EVENT(0U, 0x30), false, false, false},
        {EVENT(0U, 0x30), EXIT_REASON_EXTERNAL_INTERRUPT, 0, EVENT(0U, 0x30), false, false, false},
        {EVENT(2U, 2), EXIT_REASON_EPT_VIOLATION, 0, EVENT(2U, 2), false, false, true},
        {EVENT(3U, 13) | WITH_CODE, EXIT_REASON_EPT_VIOLATION, 0, EVENT(3U, 13) | WITH_CODE, true, false,
         false},
        {EVENT(3U, 6), EXIT_REASON_EXCEPTION_OR_NMI, EVENT(3U, 14), EVENT(3U, 6), false, false, false},
        {EVENT(4U, 0x80), EXIT_REASON_TASK_SWITCH, 0, EVENT(4U, 0x80), false, true, false},
        {EVENT(5U, 1), EXIT_REASON_EPT_VIOLATION, 0, EVENT(5U, 1), false, true, false},
        {EVENT(6U, 3), EXIT_REASON_EPT_VIOLATION, 0, EVENT(6U, 3), false, true, false},
        /* The event came to its end in the exit. */
        {EVENT(3U, 14) | WITH_CODE, EXIT_REASON_TRIPLE_FAULT, 0, 0, false, false, false},
        {EVENT(3U, 14) | WITH_CODE, EXIT_REASON_EXCEPTION_OR_NMI, EVENT(3U, 8) | WITH_CODE, 0, false, false,
         false},
        {EVENT(7U, 0), EXIT_REASON_EXTERNAL_INTERRUPT, 0, 0, false, false,
         false}, /* MTF that came too late */
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct nested_exit_information information = {
            .reason = cases[i].reason, .interruption = cases[i].interruption, .instruction_length = 9};
        uint64_t old_code;

        setup(state);
        fake_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
        set12(VMCS_GUEST_INTERRUPTIBILITY, cases[i].nmi ? BLOCKING_BY_NMI : 0);
        old_code = get12(VMCS_IDT_VECTORING_ERROR_CODE);
        vcpu_requeue_event(&n.vcpu02, cases[i].queued, 0x4321, 3);
        save(&information);
        assert_int_equal(get12(VMCS_IDT_VECTORING_INFO), cases[i].vectoring);
        assert_int_equal(get12(VMCS_IDT_VECTORING_ERROR_CODE), cases[i].code ? 0x4321 : old_code);
        if (cases[i].length)
            assert_int_equal(get12(VMCS_EXIT_INSTRUCTION_LENGTH), 3);
        /* Without it in VMCS02, it has to be written there at the next entry. */
        assert_int_equal(get12(VMCS_GUEST_INTERRUPTIBILITY), cases[i].nmi ? BLOCKING_BY_NMI : 0);
        assert_int_equal(vmcs12_is_written(&n.vmcs12, VMCS_GUEST_INTERRUPTIBILITY), cases[i].nmi);
        assert_int_equal(n.vcpu02.injection, 0);
    }
}

/* Interrupts and NMIs that wait: Lv1's own go to Lv1, those that Lv1 injected end. */
static void waiting_events(void **state)
{
    for (unsigned controls = 0; controls < 4; controls++) {
        struct nested_exit_information information = {.reason = EXIT_REASON_CPUID};
        const bool interrupts = controls & 1, nmis = controls & 2;

        setup(state);
        set12(VMCS_PIN_CONTROLS,
              (interrupts ? VMX_PIN_EXTERNAL_INTERRUPT_EXITING : 0) | (nmis ? VMX_PIN_NMI_EXITING : 0));
        n.vcpu02.deferred_interrupt = 0x41;
        n.vcpu02.nmi_pending = true;
        save(&information);
        assert_int_equal(vcpu01.deferred_interrupt, interrupts ? -1 : 0x41);
        assert_int_equal(vcpu01.nmi_pending, !nmis);
        assert_int_equal(n.vcpu02.deferred_interrupt, -1);
        assert_false(n.vcpu02.nmi_pending);
    }
    /* What Lv1 has waiting itself stays. */
    struct nested_exit_information information = {.reason = EXIT_REASON_CPUID};
    setup(state);
    vcpu01.deferred_interrupt = 0;
    n.vcpu02.deferred_interrupt = 0x41;
    vcpu01.nmi_pending = true;
    save(&information);
    assert_int_equal(vcpu01.deferred_interrupt, 0);
    assert_true(vcpu01.nmi_pending);
}

/* ---- Loading ------------------------------------------------------------------------------------------ */

/* A segment register after an exit: by what the SDM says of its attributes. */
static uint64_t data_rights(uint64_t selector)
{
    const uint64_t type = 3, s = BIT(4), p = BIT(7), db = BIT(14), g = BIT(15);

    return selector == 0 ? BIT(16) : type | s | p | db | g;
}

/* VMCS01's value of a field after an exit. CR0, CR3, CR4, IA32_EFER are others' to write here. */
static uint64_t expected01(unsigned index, const uint64_t *before, uint64_t blocking, uint64_t pat)
{
    const bool long_mode = vmcs12_has_exit(&n.vmcs12, VMX_EXIT_HOST_64);
    static const struct {
        uint16_t guest, host;
    } same[] = {
        {0x800, 0xc00},   {0x802, 0xc02},   {0x804, 0xc04},   {0x806, 0xc06},   {0x808, 0xc08},
        {0x80a, 0xc0a},   {0x80e, 0xc0c},   {0x482a, 0x4c00}, {0x680e, 0x6c06}, {0x6810, 0x6c08},
        {0x6814, 0x6c0a}, {0x6816, 0x6c0c}, {0x6818, 0x6c0e}, {0x6824, 0x6c10}, {0x6826, 0x6c12},
        {0x681c, 0x6c14}, {0x681e, 0x6c16},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(same); i++) {
        struct vmcs_field host;
        bool high;
        if (same[i].guest == vmcs_field_at(index).encoding) {
            assert_true(vmcs_field_find(same[i].host, &host, &high));
            return get12(host);
        }
    }
    switch (index) {
    case VMCS_INDEX_GUEST_LDTR_SELECTOR:
    case VMCS_INDEX_GUEST_LDTR_BASE:
    case VMCS_INDEX_GUEST_LDTR_LIMIT:
    case VMCS_INDEX_GUEST_ES_BASE:
    case VMCS_INDEX_GUEST_CS_BASE:
    case VMCS_INDEX_GUEST_SS_BASE:
    case VMCS_INDEX_GUEST_DS_BASE:
    case VMCS_INDEX_GUEST_DEBUGCTL:
    case VMCS_INDEX_GUEST_PENDING_DEBUG:
    case VMCS_INDEX_GUEST_ACTIVITY:
        return 0;
    case VMCS_INDEX_GUEST_ES_LIMIT:
    case VMCS_INDEX_GUEST_CS_LIMIT:
    case VMCS_INDEX_GUEST_SS_LIMIT:
    case VMCS_INDEX_GUEST_DS_LIMIT:
    case VMCS_INDEX_GUEST_FS_LIMIT:
    case VMCS_INDEX_GUEST_GS_LIMIT:
        return 0xffffffff;
    case VMCS_INDEX_GUEST_TR_LIMIT:
        return 0x67;
    case VMCS_INDEX_GUEST_GDTR_LIMIT:
    case VMCS_INDEX_GUEST_IDTR_LIMIT:
        return 0xffff;
    case VMCS_INDEX_GUEST_CS_ACCESS_RIGHTS: /* type 11, S, P, G, and L or D */
        return 11 | BIT(4) | BIT(7) | BIT(15) | (long_mode ? BIT(13) : BIT(14));
    case VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS:
        return data_rights(get12(VMCS_HOST_ES_SELECTOR));
    case VMCS_INDEX_GUEST_SS_ACCESS_RIGHTS:
        return data_rights(get12(VMCS_HOST_SS_SELECTOR));
    case VMCS_INDEX_GUEST_DS_ACCESS_RIGHTS:
        return data_rights(get12(VMCS_HOST_DS_SELECTOR));
    case VMCS_INDEX_GUEST_FS_ACCESS_RIGHTS:
        return data_rights(get12(VMCS_HOST_FS_SELECTOR));
    case VMCS_INDEX_GUEST_GS_ACCESS_RIGHTS:
        return data_rights(get12(VMCS_HOST_GS_SELECTOR));
    case VMCS_INDEX_GUEST_LDTR_ACCESS_RIGHTS:
        return BIT(16);
    case VMCS_INDEX_GUEST_TR_ACCESS_RIGHTS: /* type 11, P */
        return 11 | BIT(7);
    case VMCS_INDEX_GUEST_RFLAGS:
        return 2;
    case VMCS_INDEX_GUEST_DR7:
        return 0x400;
    case VMCS_INDEX_GUEST_INTERRUPTIBILITY:
        return blocking;
    case VMCS_INDEX_GUEST_PAT:
        return pat;
    default:
        return before[index];
    }
}

/* The bits of CR0 that an exit loads. */
#define CR0_LOADED                                                                                           \
    (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_PG)

/* Every field of VMCS01 and the control registers, after exits and after failed entries. */
static void loads_every_field(void **state)
{
    for (unsigned run = 0; run < 2000; run++) {
        const bool failed = coin();
        struct nested_exit_information information = {
            .reason = failed ? EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE
                             : EXIT_REASON_CPUID};
        uint64_t before[VMCS_FIELD_COUNT], cr0, efer, pat, expected, blocking;

        setup(state);
        set12(VMCS_EXIT_CONTROLS, random_value() & UINT32_MAX);
        set12(VMCS_PIN_CONTROLS, random_value() & UINT32_MAX);
        if (!vmcs12_has_exit(&n.vmcs12, VMX_EXIT_HOST_64))
            machine.lv2.efer &= ~LMA;
        for (unsigned i = VMCS_INDEX_HOST_ES_SELECTOR; i <= VMCS_INDEX_HOST_TR_SELECTOR; i++)
            if (random_value() % 4 == 0)
                n.vmcs12.values[i] = 0;
        if (failed) {
            switch_vmcs();
            save(&information);
            switch_vmcs();
        } else {
            save(&information);
        }
        const uint64_t controls = get12(VMCS_EXIT_CONTROLS);
        memcpy(before, other_vmcs, sizeof(before));
        cr0 = failed ? before[VMCS_INDEX_GUEST_CR0] : machine.lv2.cr0;
        efer = failed ? before[VMCS_INDEX_GUEST_EFER] : machine.lv2.efer;
        pat = failed ? before[VMCS_INDEX_GUEST_PAT] : fake_get(VMCS_GUEST_PAT);
        if (failed)
            blocking = before[VMCS_INDEX_GUEST_INTERRUPTIBILITY] & 8;
        else if (vmcs12_has_pin(&n.vmcs12, VMX_PIN_VIRTUAL_NMIS))
            blocking = 0;
        else
            blocking = fake_get(VMCS_GUEST_INTERRUPTIBILITY) & 8;

        load(&information);
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
            expected = expected01(i, before, blocking, controls & BIT(19) ? get12(VMCS_HOST_PAT) : pat);
            if (fake_vmcs.values[i] != expected)
                fail_msg("run %u: %s is %#lx, not %#lx", run, vmcs_field_name(vmcs_field_at(i)),
                         fake_vmcs.values[i], expected);
        }
        assert_int_equal(machine.loaded.cr0, (get12(VMCS_HOST_CR0) & CR0_LOADED) | (cr0 & ~CR0_LOADED));
        assert_int_equal(machine.loaded.cr3, get12(VMCS_HOST_CR3));
        assert_int_equal(machine.loaded.cr4, controls & BIT(9) ? get12(VMCS_HOST_CR4) | X86_CR4_PAE
                                                               : get12(VMCS_HOST_CR4) & ~X86_CR4_PCIDE);
        expected = controls & BIT(9) ? efer | 0x500 : efer & ~(uint64_t)0x500;
        assert_int_equal(machine.loaded.efer, controls & BIT(21) ? get12(VMCS_HOST_EFER) : expected);
        assert_int_equal(machine.loaded.cs_l, (controls & BIT(9)) != 0);
        assert_int_equal(n.mode, NESTED_ROOT);
        assert_true(vcpu01.events_changed);
        assert_string_equal(machine.log, failed ? "cl" : "scl");
    }
}

/*
 * Control registers that Lv1 has already are not loaded again, unless PDPTEs come from memory, or the exit
 * has to flush, or memory types are others, or the processor has Lv2's IA32_EFER by now; each is looked at.
 */
static void loads_control_registers_once(void **state)
{
    static const struct {
        uint16_t field; /* of VMCS01, with a value of its own; 0: none */
        bool pae, no_vpid, no_efer, loads;
    } cases[] = {
        {0},
        {VMCS_INDEX_GUEST_CR0, .loads = true},
        {VMCS_INDEX_GUEST_CR3, .loads = true},
        {VMCS_INDEX_GUEST_CR4, .loads = true},
        {VMCS_INDEX_GUEST_EFER, .loads = true},
        {VMCS_INDEX_GUEST_PAT, .loads = true},
        {.pae = true, .loads = true},
        {.no_vpid = true, .loads = true},
        {.no_efer = true, .loads = true},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct nested_exit_information information = {.reason = EXIT_REASON_CPUID};
        const uint64_t efer = cases[i].pae ? 0 : X86_EFER_LME | LMA;

        setup(state);
        set12(VMCS_EXIT_CONTROLS, cases[i].pae ? 0 : VMX_EXIT_HOST_64);
        set12(VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
        set12(VMCS_SECONDARY_CONTROLS, cases[i].no_vpid ? 0 : VMX_SECONDARY_VPID);
        vcpu01.controls.words[VMX_WORD_ENTRY] = cases[i].no_efer ? 0 : VMX_ENTRY_LOAD_EFER;
        n.vmcs12.values[VMCS_INDEX_HOST_CR0] = machine.lv2.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE;
        n.vmcs12.values[VMCS_INDEX_HOST_CR4] = X86_CR4_PAE | X86_CR4_VMXE;
        machine.lv2.efer = efer;
        other_vmcs[VMCS_INDEX_GUEST_CR0] = machine.lv2.cr0;
        other_vmcs[VMCS_INDEX_GUEST_CR3] = get12(VMCS_HOST_CR3);
        other_vmcs[VMCS_INDEX_GUEST_CR4] = get12(VMCS_HOST_CR4);
        other_vmcs[VMCS_INDEX_GUEST_EFER] = efer;
        other_vmcs[VMCS_INDEX_GUEST_PAT] = fake_get(VMCS_GUEST_PAT);
        if (cases[i].field != 0)
            other_vmcs[cases[i].field] ^= BIT(3);
        save(&information);
        load(&information);
        assert_string_equal(machine.log, cases[i].loads ? "scl" : "sl");
    }
}

/* What an exit loads follows VMCS12's host state when Lv1 writes that, and only then. */
static void host_state_is_prepared(void **state)
{
    struct nested_exit_information information = {.reason = EXIT_REASON_CPUID};

    (void)state;
    save(&information);
    load(&information);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field field = vmcs_field_at(i);

        if (vmcs_field_class(field) != VMCS_CLASS_HOST && i != VMCS_INDEX_EXIT_CONTROLS)
            continue;
        vmcs12_write(&n.vmcs12, field, get12(field) ^ (i == VMCS_INDEX_EXIT_CONTROLS ? VMX_EXIT_HOST_64 : 1));
        nested_exit_prepare(&n);
        vmcs12_forget_written(&n.vmcs12);
    }
    memset(machine.log, 0, sizeof(machine.log));
    machine.lv2.efer &= ~LMA;
    switch_vmcs();
    save(&information);
    load(&information);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), get12(VMCS_HOST_RIP));
    assert_int_equal(fake_get(VMCS_GUEST_RSP), get12(VMCS_HOST_RSP));
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(fake_vmcs.values[VMCS_INDEX_GUEST_ES_SELECTOR + i],
                         n.vmcs12.values[VMCS_INDEX_HOST_ES_SELECTOR + i]);
    assert_int_equal(fake_get(VMCS_GUEST_TR_SELECTOR), get12(VMCS_HOST_TR_SELECTOR));
    assert_int_equal(fake_get(VMCS_GUEST_FS_BASE), get12(VMCS_HOST_FS_BASE));
    assert_int_equal(fake_get(VMCS_GUEST_GS_BASE), get12(VMCS_HOST_GS_BASE));
    assert_int_equal(fake_get(VMCS_GUEST_TR_BASE), get12(VMCS_HOST_TR_BASE));
    assert_int_equal(fake_get(VMCS_GUEST_GDTR_BASE), get12(VMCS_HOST_GDTR_BASE));
    assert_int_equal(fake_get(VMCS_GUEST_IDTR_BASE), get12(VMCS_HOST_IDTR_BASE));
    assert_int_equal(fake_get(VMCS_GUEST_SYSENTER_CS), get12(VMCS_HOST_SYSENTER_CS));
    assert_int_equal(fake_get(VMCS_GUEST_SYSENTER_ESP), get12(VMCS_HOST_SYSENTER_ESP));
    assert_int_equal(fake_get(VMCS_GUEST_SYSENTER_EIP), get12(VMCS_HOST_SYSENTER_EIP));
    assert_int_equal(fake_get(VMCS_GUEST_CS_ACCESS_RIGHTS), 11 | BIT(4) | BIT(7) | BIT(15) | BIT(14));
}

/* One field that is away, while Lv1 runs: it comes, no other does, and Lv1's VMCS is current again. */
static void fetches_a_field(void **state)
{
    struct nested_exit_information information = {.reason = EXIT_REASON_CPUID};
    const uint64_t limit = fake_get(VMCS_GUEST_ES_LIMIT);

    (void)state;
    save(&information);
    load(&information);
    fake_vmcs.reads = 0;
    nested_away_fetch_field(&n, VMCS_GUEST_RIP);
    assert_int_equal(fake_vmcs.reads, 0);
    assert_true(vmcs12_is_away(&n.vmcs12, VMCS_GUEST_ES_LIMIT));
    nested_away_fetch_field(&n, VMCS_GUEST_ES_LIMIT);
    assert_int_equal(fake_vmcs.reads, 1);
    assert_true(current_is_01);
    assert_int_equal(get12(VMCS_GUEST_ES_LIMIT), limit);
    assert_false(vmcs12_is_away(&n.vmcs12, VMCS_GUEST_ES_LIMIT));
    assert_true(vmcs12_is_away(&n.vmcs12, VMCS_GUEST_CS_LIMIT));
    assert_false(vmcs12_is_written(&n.vmcs12, VMCS_GUEST_ES_LIMIT));
}

/* An exit by an NMI blocks NMIs in Lv1, whatever Lv2 had. */
static void blocking_by_nmi(void **state)
{
    for (unsigned pin = 0; pin < 2; pin++) {
        struct nested_exit_information information = {.reason = EXIT_REASON_EXCEPTION_OR_NMI,
                                                      .interruption = EVENT(2U, 2)};

        setup(state);
        set12(VMCS_PIN_CONTROLS, VMX_PIN_NMI_EXITING | (pin ? VMX_PIN_VIRTUAL_NMIS : 0));
        fake_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
        save(&information);
        load(&information);
        assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    }
}

/* In Lv1's shadow regime its IA32_PAT is not a field. */
static void pat_of_shadow_regime(void **state)
{
    struct nested_exit_information information = {.reason = EXIT_REASON_CPUID};
    uint64_t field;

    (void)state;
    set12(VMCS_EXIT_CONTROLS, VMX_EXIT_HOST_64 | VMX_EXIT_LOAD_PAT);
    vcpu01.regime = VCPU_REGIME_SHADOW;
    save(&information);
    field = other_vmcs[VMCS_INDEX_GUEST_PAT];
    load(&information);
    assert_int_equal(vcpu01.guest.pat, get12(VMCS_HOST_PAT));
    assert_int_equal(fake_get(VMCS_GUEST_PAT), field);
}

/* ---- Failures ----------------------------------------------------------------------------------------- */

/* A failed entry changes two fields of VMCS12, and no register; nothing stays queued for Lv2. */
static void failed_entry(void **state)
{
    struct nested_exit_information information = {
        .reason = EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_MSR_LOADING, .qualification = 5};
    const struct vmcs12 before = n.vmcs12;
    uint64_t registers_before[VCPU_REGISTERS];

    (void)state;
    memcpy(registers_before, vcpu01.registers, sizeof(registers_before));
    vcpu_requeue_event(&n.vcpu02, EVENT(0U, 0x30), 0, 0);
    switch_vmcs();
    save(&information);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const uint64_t expected = i == VMCS_INDEX_EXIT_REASON          ? 0x80000022
                                  : i == VMCS_INDEX_EXIT_QUALIFICATION ? 5
                                                                       : before.values[i];
        assert_int_equal(n.vmcs12.values[i], expected);
    }
    assert_memory_equal(vcpu01.registers, registers_before, sizeof(registers_before));
    assert_int_equal(n.vcpu02.injection, 0);
    assert_int_equal(fake_vmcs.reads + fake_vmcs.writes, 0);
    assert_string_equal(machine.log, "");
}

static void aborts(void **state)
{
    struct nested_exit_information information = {.reason = EXIT_REASON_CPUID};

    machine.bad_store = true;
    assert_int_equal(nested_exit_save(&n, &information), NESTED_ABORT_STORE_MSRS);

    setup(state);
    machine.bad_pdptes = true;
    save(&information);
    switch_vmcs();
    assert_int_equal(nested_exit_load(&n, &information), NESTED_ABORT_HOST_PDPTES);
    assert_string_equal(machine.log, "sc");

    setup(state);
    machine.bad_leave = true;
    save(&information);
    switch_vmcs();
    assert_int_equal(nested_exit_load(&n, &information), NESTED_ABORT_LOAD_MSRS);

    for (unsigned variant = 0; variant < 4; variant++) {
        setup(state);
        set12(VMCS_EXIT_CONTROLS, variant & 1 ? VMX_EXIT_HOST_64 : 0);
        machine.lv2.efer = variant & 2 ? LMA | X86_EFER_LME : X86_EFER_LME;
        save(&information);
        switch_vmcs();
        assert_int_equal(nested_exit_load(&n, &information),
                         variant == 2 ? NESTED_ABORT_HOST_SIZE : NESTED_ABORT_NONE);
    }
    /* After a failed entry it is Lv1's own mode that counts, and the entry's checks have seen to that. */
    setup(state);
    information = (struct nested_exit_information){
        .reason = EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE, .kept.efer = LMA};
    set12(VMCS_EXIT_CONTROLS, 0);
    save(&information);
    load(&information);

    for (unsigned cause = 0; cause < 7; cause++)
        assert_true(nested_abort_name((enum nested_abort)cause)[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(saves_every_field, setup),
        cmocka_unit_test_setup(information_by_reason, setup),
        cmocka_unit_test_setup(exception_information, setup),
        cmocka_unit_test_setup(descriptions, setup),
        cmocka_unit_test_setup(queued_events, setup),
        cmocka_unit_test_setup(waiting_events, setup),
        cmocka_unit_test_setup(loads_every_field, setup),
        cmocka_unit_test_setup(loads_control_registers_once, setup),
        cmocka_unit_test_setup(host_state_is_prepared, setup),
        cmocka_unit_test_setup(fetches_a_field, setup),
        cmocka_unit_test_setup(blocking_by_nmi, setup),
        cmocka_unit_test_setup(pat_of_shadow_regime, setup),
        cmocka_unit_test_setup(failed_entry, setup),
        cmocka_unit_test_setup(aborts, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
