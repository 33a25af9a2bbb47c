// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/instructions.c: how VMX instructions fail. Fails when a failure (SDM vol. 3, "VMX Instruction
 * Reference") is not found, gives another fault, flag or error number, leaves something changed, or is found
 * after one that the SDM looks for later.
 */
#include "nested/instructions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/nested_lv1.h"

/* ---- Every failure of every instruction -------------------------------------------------------------- */

static void outside(void)
{
    nested_reset(&n);
}

static void without_vmxe(void)
{
    fake_set(VMCS_CR4_READ_SHADOW, 0);
}

/* Both are left when IA-32e mode is entered. */
static void real_mode(void)
{
    set_mode(false, false);
    fake_set(VMCS_GUEST_CR0, fake_get(VMCS_GUEST_CR0) & ~X86_CR0_PE);
}

static void virtual_8086(void)
{
    set_mode(false, false);
    fake_set(VMCS_GUEST_RFLAGS, fake_get(VMCS_GUEST_RFLAGS) | X86_RFLAGS_VM);
}

static void compatibility_mode(void)
{
    set_mode(true, false);
}

static void cpl_3(void)
{
    fake_set(VMCS_GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
}

static void cpl_1(void)
{
    fake_set(VMCS_GUEST_SS_ACCESS_RIGHTS, 0xc0b3);
}

static void without_ne(void)
{
    fake_set(VMCS_GUEST_CR0, fake_get(VMCS_GUEST_CR0) & ~X86_CR0_NE);
}

static void without_paging(void)
{
    fake_set(VMCS_GUEST_CR0, fake_get(VMCS_GUEST_CR0) & ~X86_CR0_PG);
}

static void with_la57(void)
{
    fake_set(VMCS_GUEST_CR4, fake_get(VMCS_GUEST_CR4) | X86_CR4_LA57);
}

static void unlocked(void)
{
    policy.capabilities.offered.feature_control = FEATURE_CONTROL_VMXON_OUTSIDE_SMX;
}

static void locked_off(void)
{
    policy.capabilities.offered.feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON_INSIDE_SMX;
}

static void without_ept(void)
{
    policy.capabilities.offered.ept_vpid &= ~VMX_EPT_INVEPT;
}

static void without_vpid(void)
{
    policy.capabilities.offered.ept_vpid &= ~VMX_VPID_INVVPID;
}

static void no_vmcs(void)
{
    n.current = NESTED_NO_VMCS;
}

static void page_fault(void)
{
    run.access = NESTED_ACCESS_FAULT;
}

static void mov_ss(void)
{
    fake_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
}

static void launched(void)
{
    n.vmcs12.launched = true;
}

static void never_launched(void)
{
}

/* The operand is at fault. */
static void nothing(void)
{
}

enum outcome {
    UD,
    GP,
    PF,
    INVALID, /* VMfailInvalid */
    VALID,   /* VMfailValid with a number, or VMfailInvalid where no VMCS is current */
};

#define NO_OPERAND 0, 0, 0

/*
 * One failure: how it comes about, and what it looks like. Those of one instruction are in the order in which
 * the SDM looks for them; `step` is equal where it looks for them at once or they exclude each other.
 */
struct failure {
    enum exit_reason instruction;
    unsigned step;
    void (*arrange)(void);
    uint64_t low, high; /* the memory operand; 0 if it does not matter */
    uint64_t second;    /* the second register operand; likewise */
    enum outcome outcome;
    unsigned error;
};

// clang-format off
#define COMMON(I)                                                                                            \
    {I, 0, outside, NO_OPERAND, UD, 0},                                                                      \
    {I, 0, real_mode, NO_OPERAND, UD, 0},                                                                    \
    {I, 0, virtual_8086, NO_OPERAND, UD, 0},                                                                 \
    {I, 0, compatibility_mode, NO_OPERAND, UD, 0},                                                           \
    {I, 1, cpl_3, NO_OPERAND, GP, 0},                                                                        \
    {I, 1, cpl_1, NO_OPERAND, GP, 0}
// clang-format on

static const struct failure failures[] = {
    COMMON(EXIT_REASON_VMCLEAR),
    {EXIT_REASON_VMCLEAR, 2, page_fault, NO_OPERAND, PF, 0},
    {EXIT_REASON_VMCLEAR, 3, nothing, AT(PAGE_B) + 8, 0, 0, VALID, 2},
    {EXIT_REASON_VMCLEAR, 3, nothing, BIT(PHYSICAL_BITS), 0, 0, VALID, 2},
    {EXIT_REASON_VMCLEAR, 3, nothing, BIT(63), 0, 0, VALID, 2},
    {EXIT_REASON_VMCLEAR, 4, nothing, AT(PAGE_VMXON), 0, 0, VALID, 3},

    COMMON(EXIT_REASON_VMPTRLD),
    {EXIT_REASON_VMPTRLD, 2, page_fault, NO_OPERAND, PF, 0},
    {EXIT_REASON_VMPTRLD, 3, nothing, AT(PAGE_B) + 0x800, 0, 0, VALID, 9},
    {EXIT_REASON_VMPTRLD, 3, nothing, BIT(PHYSICAL_BITS) | AT(PAGE_B), 0, 0, VALID, 9},
    {EXIT_REASON_VMPTRLD, 4, nothing, AT(PAGE_VMXON), 0, 0, VALID, 10},
    {EXIT_REASON_VMPTRLD, 5, nothing, AT(PAGE_BAD_REVISION), 0, 0, VALID, 11},
    {EXIT_REASON_VMPTRLD, 5, nothing, AT(PAGE_SHADOW), 0, 0, VALID, 11},
    {EXIT_REASON_VMPTRLD, 5, nothing, AT(PAGE_HOLE), 0, 0, VALID, 11},

    COMMON(EXIT_REASON_VMPTRST),
    {EXIT_REASON_VMPTRST, 2, page_fault, NO_OPERAND, PF, 0},

    COMMON(EXIT_REASON_VMREAD),
    {EXIT_REASON_VMREAD, 2, no_vmcs, NO_OPERAND, INVALID, 0},
    {EXIT_REASON_VMREAD, 3, nothing, 0, 0, 0x482c, VALID, 12},
    {EXIT_REASON_VMREAD, 3, nothing, 0, 0, 0x681f, VALID, 12}, /* a high half that is none */
    {EXIT_REASON_VMREAD, 3, nothing, 0, 0, 0x2032, VALID, 12}, /* of TSC scaling */
    {EXIT_REASON_VMREAD, 3, nothing, 0, 0, BIT(32) | 0x681e, VALID, 12},
    {EXIT_REASON_VMREAD, 3, nothing, 0, 0, BIT(16) | 0x681e, VALID, 12},
    {EXIT_REASON_VMREAD, 4, page_fault, 0, 0, 0, PF, 0},

    COMMON(EXIT_REASON_VMWRITE),
    {EXIT_REASON_VMWRITE, 2, no_vmcs, NO_OPERAND, INVALID, 0},
    {EXIT_REASON_VMWRITE, 3, page_fault, NO_OPERAND, PF, 0},
    {EXIT_REASON_VMWRITE, 4, nothing, 0, 0, 0x482c, VALID, 12},
    {EXIT_REASON_VMWRITE, 4, nothing, 0, 0, 0x2032, VALID, 12},
    {EXIT_REASON_VMWRITE, 4, nothing, 0, 0, BIT(63) | 0x681e, VALID, 12},
    {EXIT_REASON_VMWRITE, 5, nothing, 0, 0, 0x4402, VALID, 13},
    {EXIT_REASON_VMWRITE, 5, nothing, 0, 0, 0x2401, VALID, 13},

    COMMON(EXIT_REASON_VMLAUNCH),
    {EXIT_REASON_VMLAUNCH, 2, no_vmcs, NO_OPERAND, INVALID, 0},
    {EXIT_REASON_VMLAUNCH, 3, mov_ss, NO_OPERAND, VALID, 26},
    {EXIT_REASON_VMLAUNCH, 4, launched, NO_OPERAND, VALID, 4},

    COMMON(EXIT_REASON_VMRESUME),
    {EXIT_REASON_VMRESUME, 2, no_vmcs, NO_OPERAND, INVALID, 0},
    {EXIT_REASON_VMRESUME, 3, mov_ss, NO_OPERAND, VALID, 26},
    {EXIT_REASON_VMRESUME, 4, never_launched, NO_OPERAND, VALID, 5},

    COMMON(EXIT_REASON_VMXOFF),

    /* Outside of VMX operation. */
    {EXIT_REASON_VMXON, 0, without_vmxe, NO_OPERAND, UD, 0},
    {EXIT_REASON_VMXON, 0, real_mode, NO_OPERAND, UD, 0},
    {EXIT_REASON_VMXON, 0, virtual_8086, NO_OPERAND, UD, 0},
    {EXIT_REASON_VMXON, 0, compatibility_mode, NO_OPERAND, UD, 0},
    {EXIT_REASON_VMXON, 1, cpl_3, NO_OPERAND, GP, 0},
    {EXIT_REASON_VMXON, 1, cpl_1, NO_OPERAND, GP, 0},
    {EXIT_REASON_VMXON, 1, without_ne, NO_OPERAND, GP, 0},
    {EXIT_REASON_VMXON, 1, without_paging, NO_OPERAND, GP, 0},
    {EXIT_REASON_VMXON, 1, with_la57, NO_OPERAND, GP, 0},
    {EXIT_REASON_VMXON, 1, unlocked, NO_OPERAND, GP, 0},
    {EXIT_REASON_VMXON, 1, locked_off, NO_OPERAND, GP, 0},
    {EXIT_REASON_VMXON, 2, page_fault, NO_OPERAND, PF, 0},
    {EXIT_REASON_VMXON, 3, nothing, AT(PAGE_VMXON) + 1, 0, 0, INVALID, 0},
    {EXIT_REASON_VMXON, 3, nothing, BIT(PHYSICAL_BITS) | AT(PAGE_VMXON), 0, 0, INVALID, 0},
    {EXIT_REASON_VMXON, 4, nothing, AT(PAGE_BAD_REVISION), 0, 0, INVALID, 0},
    {EXIT_REASON_VMXON, 4, nothing, AT(PAGE_SHADOW), 0, 0, INVALID, 0},
    {EXIT_REASON_VMXON, 4, nothing, AT(PAGE_HOLE), 0, 0, INVALID, 0},

    {EXIT_REASON_INVEPT, 0, without_ept, NO_OPERAND, UD, 0},
    COMMON(EXIT_REASON_INVEPT),
    {EXIT_REASON_INVEPT, 2, nothing, 0, 0, 3, VALID, 28},
    {EXIT_REASON_INVEPT, 2, nothing, 0, 0, 64, VALID, 28},
    {EXIT_REASON_INVEPT, 2, nothing, 0, 0, BIT(32) | 1, VALID, 28},
    {EXIT_REASON_INVEPT, 3, page_fault, NO_OPERAND, PF, 0},
    {EXIT_REASON_INVEPT, 4, nothing, 0x12345019, 0, 1, VALID, 28},
    {EXIT_REASON_INVEPT, 4, nothing, BIT(PHYSICAL_BITS) | 0x1e, 0, 1, VALID, 28},

    {EXIT_REASON_INVVPID, 0, without_vpid, NO_OPERAND, UD, 0},
    COMMON(EXIT_REASON_INVVPID),
    {EXIT_REASON_INVVPID, 2, nothing, 0, 0, 4, VALID, 28},
    {EXIT_REASON_INVVPID, 2, nothing, 0, 0, BIT(40), VALID, 28},
    {EXIT_REASON_INVVPID, 3, page_fault, NO_OPERAND, PF, 0},
    {EXIT_REASON_INVVPID, 4, nothing, 0x10001, 0, 2, VALID, 28},
    {EXIT_REASON_INVVPID, 4, nothing, BIT(63) | 1, 0, 1, VALID, 28},
    {EXIT_REASON_INVVPID, 5, nothing, 0, 1, 1, VALID, 28}, /* VPID 0 */
    {EXIT_REASON_INVVPID, 5, nothing, 0, 1, 3, VALID, 28},
    {EXIT_REASON_INVVPID, 6, nothing, 7, BIT(47), 0, VALID, 28}, /* type 0 */
};

static bool has_operand(const struct failure *f)
{
    return f->arrange == nothing;
}

static void arrange(const struct failure *f)
{
    f->arrange();
    if (has_operand(f)) {
        run.operand[0] = f->low;
        run.operand[1] = f->high;
        vcpu01.registers[VCPU_RBX] = f->second;
    }
    memset(vcpu01.known, 0, sizeof(vcpu01.known));
    memset(vcpu01.known_lasting, 0, sizeof(vcpu01.known_lasting));
}

static void assert_fault(const char *name, unsigned vector, bool has_code, uint32_t code, uint64_t address)
{
    const struct nested_fault *fault = &run.operands.fault;

    if (fault->vector != vector || fault->has_error_code != has_code || fault->error_code != code ||
        fault->address != address)
        fail_msg("%s: exception %u", name, fault->vector);
    assert_same_but(name);
}

/* The instruction fails as `f` says, and nothing else happens. */
static void assert_failure(const char *name, const struct failure *f, enum nested_answer answer)
{
    const bool invalid = f->outcome == INVALID || before.current == NESTED_NO_VMCS;
    uint64_t expected = invalid ? X86_RFLAGS_CF : X86_RFLAGS_ZF;

    switch (f->outcome) {
    case UD:
        assert_int_equal(answer, NESTED_FAULT);
        assert_fault(name, 6, false, 0, 0);
        return;
    case GP:
        assert_int_equal(answer, NESTED_FAULT);
        assert_fault(name, 13, true, 0, 0);
        return;
    case PF:
        assert_int_equal(answer, NESTED_FAULT);
        assert_fault(name, 14, true, 5, 0x1234);
        return;
    case INVALID:
    case VALID:
        assert_int_equal(answer, NESTED_DONE);
        if (flags() != expected)
            fail_msg("%s: flags %#lx", name, flags());
        before.fields[VMCS_INDEX_GUEST_RFLAGS] &= ~FLAGS;
        before.fields[VMCS_INDEX_GUEST_RFLAGS] |= expected;
        if (!invalid)
            vmcs12_write(&before.vmcs12, VMCS_VM_INSTRUCTION_ERROR, f->error);
        before.vmcs12.changed = false; /* as take_picture has it */
        assert_same_but(name);
        return;
    }
}

static bool needs_vmcs(enum exit_reason instruction)
{
    return instruction == EXIT_REASON_VMREAD || instruction == EXIT_REASON_VMWRITE ||
           instruction == EXIT_REASON_VMLAUNCH || instruction == EXIT_REASON_VMRESUME;
}

static void each_failure(void **state)
{
    char name[80];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
        const struct failure *f = &failures[i];

        for (unsigned current = 0; current < 2; current++) {
            prepare(f->instruction);
            arrange(f);
            /* The same without a current VMCS, where there need not be one. */
            if (current == 1 && !needs_vmcs(f->instruction))
                n.current = NESTED_NO_VMCS;
            take_picture(&before);
            snprintf(name, sizeof(name), "row %zu (%s)", i, vmx_exit_reason_name(f->instruction));
            assert_failure(name, f, nested_instruction(&n, &run.operands));
        }
    }
}

/* Of two failures at once, the one that the SDM looks for first. */
static void order(void **state)
{
    char name[80];
    unsigned pairs = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
        for (size_t j = i + 1; j < ARRAY_SIZE(failures); j++) {
            const struct failure *first = &failures[i], *second = &failures[j];

            if (first->instruction != second->instruction)
                continue;
            assert_true(first->step <= second->step);
            /* There can be but one operand. */
            if (first->step == second->step || (has_operand(first) && has_operand(second)))
                continue;
            prepare(first->instruction);
            arrange(second);
            arrange(first);
            take_picture(&before);
            snprintf(name, sizeof(name), "rows %zu and %zu (%s)", i, j,
                     vmx_exit_reason_name(first->instruction));
            assert_failure(name, first, nested_instruction(&n, &run.operands));
            pairs++;
        }
    }
    assert_true(pairs > 500);
}

/* What every table above is a departure from. */
static void each_success(void **state)
{
    (void)state;
    for (unsigned instruction = 0; instruction < EXIT_REASON_COUNT; instruction++) {
        bool known = false;

        for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
            known |= failures[i].instruction == instruction;
        prepare(instruction);
        if (instruction == EXIT_REASON_VMRESUME)
            launched();
        /* Other blocking than by MOV SS is in nobody's way. */
        fake_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI | BLOCKING_BY_NMI);
        take_picture(&before);
        enum nested_answer answer = nested_instruction(&n, &run.operands);

        if (!known) {
            assert_int_equal(answer, NESTED_FAULT);
            assert_fault("not a VMX instruction", 6, false, 0, 0);
        } else if (instruction == EXIT_REASON_VMLAUNCH || instruction == EXIT_REASON_VMRESUME) {
            assert_int_equal(answer, NESTED_ENTER);
            assert_same_but("a VM entry");
        } else {
            assert_int_equal(answer, NESTED_DONE);
            assert_succeeded();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failure),
        cmocka_unit_test(order),
        cmocka_unit_test(each_success),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
