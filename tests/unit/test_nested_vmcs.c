// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/instructions.c: what VMX instructions do. Fails when a VMCS is lost or mixed up between cache and
 * guest memory, when VMREAD or VMWRITE of any encoding differ from the width rules, when a memory operand is
 * sought elsewhere than where the instruction information says, when another invalidation is asked for, and
 * when an instruction that is to be retried has changed something.
 */
#include "nested/instructions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/nested_lv1.h"

/* ---- VMX operation ----------------------------------------------------------------------------------- */

static void vmxon_vmxoff(void **state)
{
    (void)state;
    nested_reset(&n);
    assert_int_equal(n.mode, NESTED_OFF);
    policy.capabilities.offered.feature_control |= FEATURE_CONTROL_VMXON_INSIDE_SMX; /* does not matter */
    assert_int_equal(execute(EXIT_REASON_VMXON, AT(PAGE_VMXON), 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(n.mode, NESTED_ROOT);
    assert_int_equal(n.vmxon_pointer, AT(PAGE_VMXON));
    assert_int_equal(n.current, NESTED_NO_VMCS);

    /* Once more: no operand is read; then with a VMCS, too. */
    run.access = NESTED_ACCESS_FAULT;
    assert_int_equal(execute(EXIT_REASON_VMXON, AT(PAGE_B), 0), NESTED_DONE);
    assert_int_equal(flags(), X86_RFLAGS_CF);
    run.access = NESTED_ACCESS_DONE;
    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_B), 0), NESTED_DONE);
    fake_set(VMCS_GUEST_CR0, 0x80000011); /* NE is not asked for again */
    assert_int_equal(execute(EXIT_REASON_VMXON, AT(PAGE_B), 0), NESTED_DONE);
    assert_int_equal(flags(), X86_RFLAGS_ZF);
    assert_int_equal(vmcs12_read(&n.vmcs12, VMCS_VM_INSTRUCTION_ERROR), 15);
    assert_int_equal(n.vmxon_pointer, AT(PAGE_VMXON));
    fake_set(VMCS_GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
    memset(vcpu01.known, 0, sizeof(vcpu01.known));
    assert_int_equal(execute(EXIT_REASON_VMXON, AT(PAGE_B), 0), NESTED_FAULT);
    assert_int_equal(run.operands.fault.vector, 13);
    fake_set(VMCS_GUEST_SS_ACCESS_RIGHTS, 0xc093);
    memset(vcpu01.known, 0, sizeof(vcpu01.known));

    /* The current VMCS is in memory afterwards, launch state included. */
    assert_int_equal(execute(EXIT_REASON_VMXOFF, 0, 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(n.mode, NESTED_OFF);
    assert_int_equal(n.current, NESTED_NO_VMCS);
    assert_int_equal(n.vmxon_pointer, NESTED_NO_VMCS);
    assert_int_equal(get(PAGE_B, 16 + 8 * VMCS_INDEX_VM_INSTRUCTION_ERROR, 8), 15);
    assert_int_equal(get(PAGE_B, VMCS12_LAUNCH_STATE, 8), 1);
}

/* Two VMCSs and the way of their contents between cache and memory. */
static void switching(void **state)
{
    (void)state;
    put(PAGE_B, 16 + 8 * VMCS_INDEX_GUEST_RIP, 0xbbbb, 8);
    put(PAGE_B, VMCS12_ABORT, 0xabcd, 4);
    run.operands.information = BY_REGISTER;
    vcpu01.registers[VCPU_RDI] = 0xaaaa;
    assert_int_equal(execute(EXIT_REASON_VMWRITE, 0, 0x681e), NESTED_DONE);
    n.vmcs12.launched = true;
    assert_int_equal(get(PAGE_A, 16 + 8 * VMCS_INDEX_GUEST_RIP, 8), 0); /* in the cache alone */

    run.operands.information = INFORMATION;
    vmcs12_forget_written(&n.vmcs12);
    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_B), 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(n.current, AT(PAGE_B));
    assert_true(n.vmcs12.launched);
    assert_int_equal(vmcs12_read(&n.vmcs12, VMCS_GUEST_RIP), 0xbbbb);
    assert_true(vmcs12_is_written(&n.vmcs12, VMCS_GUEST_RIP));
    assert_int_equal(get(PAGE_A, 16 + 8 * VMCS_INDEX_GUEST_RIP, 8), 0xaaaa);
    assert_int_equal(get(PAGE_A, VMCS12_LAUNCH_STATE, 8), 1);
    assert_int_equal(get(PAGE_A, 0, 4), VMCS12_REVISION);

    /* The same one again: what is cached stays, whatever memory says by now. */
    vmcs12_write(&n.vmcs12, VMCS_GUEST_RIP, 0xcccc);
    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_B), 0), NESTED_DONE);
    assert_int_equal(vmcs12_read(&n.vmcs12, VMCS_GUEST_RIP), 0xcccc);
    assert_int_equal(get(PAGE_B, 16 + 8 * VMCS_INDEX_GUEST_RIP, 8), 0xbbbb);

    run.operand[1] = 0x5555;
    assert_int_equal(execute(EXIT_REASON_VMPTRST, 0, 0), NESTED_DONE);
    assert_int_equal(run.operand[0], AT(PAGE_B));
    assert_int_equal(run.operand[1], 0x5555);

    /* VMCLEAR of another: only its launch state, and only in memory. */
    assert_int_equal(execute(EXIT_REASON_VMCLEAR, AT(PAGE_A), 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(n.current, AT(PAGE_B));
    assert_true(n.vmcs12.launched);
    assert_int_equal(get(PAGE_A, VMCS12_LAUNCH_STATE, 8), 0);
    assert_int_equal(get(PAGE_A, 16 + 8 * VMCS_INDEX_GUEST_RIP, 8), 0xaaaa);

    /* Of the current one: all that was cached, clear; the head stays. */
    assert_int_equal(execute(EXIT_REASON_VMCLEAR, AT(PAGE_B), 0), NESTED_DONE);
    assert_int_equal(n.current, NESTED_NO_VMCS);
    assert_int_equal(get(PAGE_B, VMCS12_LAUNCH_STATE, 8), 0);
    assert_int_equal(get(PAGE_B, 16 + 8 * VMCS_INDEX_GUEST_RIP, 8), 0xcccc);
    assert_int_equal(get(PAGE_B, VMCS12_ABORT, 4), 0xabcd);
    assert_int_equal(get(PAGE_B, 0, 4), VMCS12_REVISION);
    assert_int_equal(execute(EXIT_REASON_VMPTRST, 0, 0), NESTED_DONE);
    assert_int_equal(run.operand[0], UINT64_MAX);

    /* Nothing of B's is left over in a fresh one. */
    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_A), 0), NESTED_DONE);
    assert_false(n.vmcs12.launched);
    assert_int_equal(vmcs12_read(&n.vmcs12, VMCS_GUEST_RIP), 0xaaaa);
}

/* Memory that takes no writes, and none at all. */
static void lost_writes(void **state)
{
    (void)state;
    assert_int_equal(execute(EXIT_REASON_VMCLEAR, AT(PAGE_HOLE), 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(execute(EXIT_REASON_VMCLEAR, BIT(PHYSICAL_BITS) - PAGE_SIZE, 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_READ_ONLY), 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_HOLE), 0), NESTED_DONE); /* no revision is found */
    assert_int_equal(flags(), X86_RFLAGS_ZF);
    assert_int_equal(vmcs12_read(&n.vmcs12, VMCS_VM_INSTRUCTION_ERROR), 11);
    vmcs12_write(&n.vmcs12, VMCS_GUEST_RIP, 1);
    take_picture(&before);
    assert_int_equal(execute(EXIT_REASON_VMCLEAR, AT(PAGE_READ_ONLY), 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(n.current, NESTED_NO_VMCS);
    assert_memory_equal(memory, before.memory, sizeof(memory));
}

/* Whatever would not stand still, the instruction is as if it had not been. */
static void retries(void **state)
{
    static const struct {
        enum exit_reason instruction;
        uint64_t operand;
        unsigned walks; /* of guest memory, at each of which it may be so: 0: none */
    } rows[] = {
        {EXIT_REASON_VMCLEAR, AT(PAGE_B), 1},
        {EXIT_REASON_VMCLEAR, AT(PAGE_A), 1},
        {EXIT_REASON_VMPTRLD, AT(PAGE_B), 3}, /* revision, the old one's way back, the new one */
        {EXIT_REASON_VMPTRLD, AT(PAGE_A), 1},
        {EXIT_REASON_VMXOFF, 0, 1},
        {EXIT_REASON_VMXON, AT(PAGE_VMXON), 1},
        {EXIT_REASON_VMPTRST, 0, 0},
        {EXIT_REASON_VMREAD, 0, 0},
        {EXIT_REASON_VMWRITE, 0, 0},
        {EXIT_REASON_INVEPT, GOOD_EPTP, 0},
        {EXIT_REASON_INVVPID, 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned walks = 0; walks <= rows[i].walks; walks++) {
            prepare(rows[i].instruction);
            if (rows[i].operand == AT(PAGE_A))
                n.vmcs12.launched = true;
            run.operand[0] = rows[i].operand;
            n.memory = &restless_chain;
            walks_left = walks;
            take_picture(&before);
            enum nested_answer answer = nested_instruction(&n, &run.operands);
            if (walks == rows[i].walks) {
                assert_int_equal(answer, NESTED_DONE);
                continue;
            }
            assert_int_equal(answer, NESTED_RETRY);
            assert_same_but(vmx_exit_reason_name(rows[i].instruction));
        }
        if (rows[i].instruction == EXIT_REASON_VMXOFF)
            continue;
        prepare(rows[i].instruction);
        run.operand[0] = rows[i].operand;
        run.access = NESTED_ACCESS_AGAIN;
        take_picture(&before);
        assert_int_equal(nested_instruction(&n, &run.operands), NESTED_RETRY);
        assert_same_but(vmx_exit_reason_name(rows[i].instruction));
    }
}

/* ---- Operands ---------------------------------------------------------------------------------------- */

#define BASE(r)    ((r##u) << 23)
#define INDEX(r)   ((r##u) << 18)
#define SEGMENT(s) ((s##u) << 15)
#define ADDRESS_16 0
#define ADDRESS_32 (1u << 7)
#define ADDRESS_64 (2u << 7)
#define NO_BASE    (1u << 27)
#define NO_INDEX   (1u << 22)

static void memory_operands(void **state)
{
    static const struct {
        uint32_t information;
        uint64_t displacement, offset;
        enum decode_segment segment;
    } rows[] = {
        {ADDRESS_64 | NO_BASE | NO_INDEX | SEGMENT(3), 0x1234567890, 0x1234567890, DECODE_DS},
        {ADDRESS_64 | NO_BASE | NO_INDEX | SEGMENT(3), -8ULL, -8ULL, DECODE_DS},
        {ADDRESS_32 | NO_BASE | NO_INDEX | SEGMENT(0), -8ULL, 0xfffffff8, DECODE_ES},
        {ADDRESS_16 | NO_BASE | NO_INDEX | SEGMENT(1), -8ULL, 0xfff8, DECODE_CS},
        {ADDRESS_64 | BASE(0) | NO_INDEX | SEGMENT(5), 0x10, 0xffffffff80000010, DECODE_GS},
        {ADDRESS_32 | BASE(0) | NO_INDEX | SEGMENT(4), 0x10, 0x80000010, DECODE_FS},
        {ADDRESS_64 | BASE(4) | NO_INDEX | SEGMENT(2), 0, 0x7000, DECODE_SS}, /* RSP */
        {ADDRESS_64 | BASE(1) | INDEX(15) | SEGMENT(3), 0, 0x1100, DECODE_DS},
        {ADDRESS_64 | BASE(1) | INDEX(15) | SEGMENT(3) | 1, 0, 0x1200, DECODE_DS},
        {ADDRESS_64 | BASE(1) | INDEX(15) | SEGMENT(3) | 2, 1, 0x1401, DECODE_DS},
        {ADDRESS_64 | NO_BASE | INDEX(15) | SEGMENT(3) | 3, 2, 0x802, DECODE_DS},
        {ADDRESS_32 | BASE(0) | INDEX(0) | SEGMENT(3) | 1, 3, 0x80000003, DECODE_DS},
        {ADDRESS_16 | BASE(2) | INDEX(1) | SEGMENT(3), 0, 0x0fff, DECODE_DS},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        prepare(EXIT_REASON_VMPTRST);
        vcpu01.registers[0] = 0xffffffff80000000;
        vcpu01.registers[1] = 0x1000;
        vcpu01.registers[2] = 0xffff;
        vcpu01.registers[15] = 0x100;
        fake_set(VMCS_GUEST_RSP, 0x7000);
        run.operands.instruction = EXIT_REASON_CPUID;
        fake_set(VMCS_EXIT_REASON, EXIT_REASON_VMPTRST | EXIT_FLAG_BUS_LOCK);
        fake_set(VMCS_EXIT_INSTRUCTION_INFO, rows[i].information);
        fake_set(VMCS_EXIT_QUALIFICATION, rows[i].displacement);
        nested_operands_from_exit(&run.operands, &n);
        assert_int_equal(nested_instruction(&n, &run.operands), NESTED_DONE);
        assert_int_equal(run.segment, rows[i].segment);
        assert_int_equal(run.offset, rows[i].offset);
        assert_int_equal(run.size, 8);
        assert_int_equal(run.writes, 1);
        assert_int_equal(run.reads, 0);
    }
}

/* ---- VMREAD, VMWRITE --------------------------------------------------------------------------------- */

static uint64_t pattern(unsigned index)
{
    return (index + 1) * 0x9e3779b97f4a7c15;
}

/* The rules of the SDM's "Accessing VMCS Fields", by the bits of the encoding. */
static uint64_t field_mask(unsigned encoding)
{
    static const uint64_t masks[] = {0xffff, ~0ULL, 0xffffffff, ~0ULL};

    return masks[encoding >> 13 & 3];
}

static const struct vmcs_field *field_of(unsigned encoding)
{
    static struct vmcs_field field;

    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        field = vmcs_field_at(i);
        if (field.encoding == (encoding & ~1u) && ((encoding & 1) == 0 || (encoding >> 13 & 3) == 1))
            return vmcs_field_exists(field, &policy.capabilities.offered) ? &field : NULL;
    }
    return NULL;
}

/* Every encoding of 16 bits, in both modes, from and to register and memory. */
static void every_encoding(void **state)
{
    const uint64_t value = 0xfedcba9876543210;
    unsigned found = 0;

    (void)state;
    for (unsigned way = 0; way < 8; way++) {
        const bool long_mode = way & 1, in_register = way & 2, writes = way & 4;
        const uint64_t mode_mask = long_mode ? ~0ULL : 0xffffffff;
        const enum exit_reason instruction = writes ? EXIT_REASON_VMWRITE : EXIT_REASON_VMREAD;

        set_up(NULL);
        set_mode(long_mode, long_mode);
        run.operands.information = in_register ? BY_REGISTER : INFORMATION;
        for (unsigned encoding = 0; encoding <= 0xffff; encoding++) {
            const struct vmcs_field *field = field_of(encoding);
            const bool high = encoding & 1;
            /* Upper halves of registers are not looked at outside of 64-bit mode. */
            const uint64_t second = long_mode ? encoding : encoding | 0xabcdef0000000000;
            uint64_t expected, result;

            memset(&n.vmcs12, 0, sizeof(n.vmcs12));
            if (field != NULL)
                n.vmcs12.values[field->index] = pattern(field->index) & field_mask(encoding);
            vcpu01.registers[VCPU_RDI] = value;
            assert_int_equal(execute(instruction, value, second), NESTED_DONE);

            if (field == NULL || (writes && (encoding >> 10 & 3) == 1)) {
                assert_int_equal(flags(), X86_RFLAGS_ZF);
                assert_int_equal(vmcs12_read(&n.vmcs12, VMCS_VM_INSTRUCTION_ERROR), field == NULL ? 12 : 13);
                assert_int_equal(vcpu01.registers[VCPU_RDI], value);
                assert_int_equal(run.operand[0], value);
                continue;
            }
            found++;
            assert_succeeded();
            expected = pattern(field->index) & field_mask(encoding);
            if (!writes) {
                if (high)
                    expected >>= 32;
                expected &= mode_mask;
                if (!in_register)
                    expected |= value & ~mode_mask; /* what is beyond is not written */
                result = in_register ? vcpu01.registers[VCPU_RDI] : run.operand[0];
                assert_int_equal(result, expected);
                continue;
            }
            if (high)
                expected = (expected & 0xffffffff) | value << 32;
            else
                expected = value & mode_mask & field_mask(encoding);
            assert_int_equal(vmcs12_read(&n.vmcs12, *field), expected);
            for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
                assert_int_equal(vmcs12_is_written(&n.vmcs12, vmcs_field_at(i)), i == field->index);
        }
    }
    assert_true(found > 8 * 100);
}

/* RSP is a register like any other, and 32 bits of it where there are no more. */
static void stack_pointer(void **state)
{
    (void)state;
    vmcs12_write(&n.vmcs12, VMCS_GUEST_RIP, 0x123456789a);
    run.operands.information = 3u << 28 | 1u << 10 | 4u << 3;
    fake_set(VMCS_GUEST_RSP, 0x7000);
    assert_int_equal(execute(EXIT_REASON_VMREAD, 0, 0x681e), NESTED_DONE);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), 0x123456789a);
    assert_int_equal(execute(EXIT_REASON_VMWRITE, 0, 0x6820), NESTED_DONE);
    assert_int_equal(vmcs12_read(&n.vmcs12, VMCS_GUEST_RFLAGS), 0x123456789a);
    set_mode(false, false);
    assert_int_equal(execute(EXIT_REASON_VMREAD, 0, 0x681e), NESTED_DONE);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), 0x3456789a);
}

/* A value that is there already is no news for the next entry. */
static void unchanged(void **state)
{
    (void)state;
    vmcs12_write(&n.vmcs12, VMCS_GUEST_RIP, 0x1000);
    vmcs12_forget_written(&n.vmcs12);
    assert_int_equal(execute(EXIT_REASON_VMWRITE, 0x1000, 0x681e), NESTED_DONE);
    assert_succeeded();
    assert_false(vmcs12_is_written(&n.vmcs12, VMCS_GUEST_RIP));
    assert_int_equal(execute(EXIT_REASON_VMWRITE, 0x1001, 0x681e), NESTED_DONE);
    assert_true(vmcs12_is_written(&n.vmcs12, VMCS_GUEST_RIP));
}

/* ---- INVEPT, INVVPID --------------------------------------------------------------------------------- */

static void invalidations(void **state)
{
    (void)state;
    run.operand[1] = 0x1111; /* ignored: the SDM's description has no check of it */
    assert_int_equal(execute(EXIT_REASON_INVEPT, GOOD_EPTP, 1), NESTED_DONE);
    assert_succeeded();
    assert_true(invalidated.ept == 1 && invalidated.has_eptp && invalidated.eptp == GOOD_EPTP);
    assert_int_equal(run.size, 16);
    assert_int_equal(execute(EXIT_REASON_INVEPT, 1, 2), NESTED_DONE); /* no EPTP is looked at */
    assert_succeeded();
    assert_true(invalidated.ept == 2 && !invalidated.has_eptp);

    run.operand[1] = 0xffff800000001234;
    assert_int_equal(execute(EXIT_REASON_INVVPID, 0xfffe, 0), NESTED_DONE);
    assert_succeeded();
    assert_true(invalidated.vpid == 1 && invalidated.tag == 0xfffe && invalidated.has_address &&
                invalidated.address == 0xffff800000001234 && !invalidated.keep_globals);
    assert_int_equal(run.size, 16);
    run.operand[1] = BIT(60); /* an address only where one is wanted */
    assert_int_equal(execute(EXIT_REASON_INVVPID, 7, 1), NESTED_DONE);
    assert_true(invalidated.vpid == 2 && invalidated.tag == 7 && !invalidated.has_address &&
                !invalidated.keep_globals);
    assert_int_equal(execute(EXIT_REASON_INVVPID, 0, 2), NESTED_DONE);
    assert_true(invalidated.vpid == 3 && invalidated.tag == 0 && !invalidated.has_address &&
                !invalidated.keep_globals);
    assert_int_equal(execute(EXIT_REASON_INVVPID, 7, 2), NESTED_DONE);
    assert_true(invalidated.vpid == 4 && invalidated.tag == 0);
    assert_int_equal(execute(EXIT_REASON_INVVPID, 7, 3), NESTED_DONE);
    assert_true(invalidated.vpid == 5 && invalidated.tag == 7 && !invalidated.has_address &&
                invalidated.keep_globals);
    assert_succeeded();

    /* Canonical by the width that CPUID tells. */
    run.operand[1] = BIT(50);
    assert_int_equal(execute(EXIT_REASON_INVVPID, 7, 0), NESTED_DONE);
    assert_int_equal(flags(), X86_RFLAGS_ZF);
    policy.linear_bits = 57;
    assert_int_equal(execute(EXIT_REASON_INVVPID, 7, 0), NESTED_DONE);
    assert_succeeded();

    run.operand[1] = 0;
    assert_int_equal(execute(EXIT_REASON_INVVPID, 0xffff, 0), NESTED_DONE);
    assert_succeeded();

    /* Each type is there as it is offered; others there are none. */
    policy.capabilities.offered.ept_vpid = ~0ULL;
    assert_int_equal(execute(EXIT_REASON_INVEPT, GOOD_EPTP, 3), NESTED_DONE);
    assert_int_equal(flags(), X86_RFLAGS_ZF);
    assert_int_equal(execute(EXIT_REASON_INVVPID, 7, 4), NESTED_DONE);
    assert_int_equal(flags(), X86_RFLAGS_ZF);
    for (unsigned type = 0; type < 4; type++) {
        set_up(NULL);
        policy.capabilities.offered.ept_vpid &= ~(BIT(40 + type) | BIT(24 + type));
        for (unsigned other = 0; other < 4; other++) {
            assert_int_equal(execute(EXIT_REASON_INVVPID, 7, other), NESTED_DONE);
            assert_int_equal(flags(), other == type ? X86_RFLAGS_ZF : 0);
            assert_int_equal(execute(EXIT_REASON_INVEPT, GOOD_EPTP, other), NESTED_DONE);
            assert_int_equal(flags(), other == type || other == 0 || other == 3 ? X86_RFLAGS_ZF : 0);
        }
    }
}

/* Outside of IA-32e mode, as a 32-bit hypervisor has it. */
static void legacy_mode(void **state)
{
    (void)state;
    set_mode(false, false);
    run.operands.information = 3u << 28 | 6u << 23 | 1u << 22 | 3u << 15 | 1u << 7;
    assert_int_equal(execute(EXIT_REASON_INVEPT, GOOD_EPTP, 0xffffffff00000001), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(run.offset, 0x12345678);
    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_B), 0), NESTED_DONE);
    assert_succeeded();
    assert_int_equal(run.size, 8); /* pointers have 64 bits in any mode */
    assert_int_equal(n.current, AT(PAGE_B));
}

/* Fields that an exit left in VMCS02: VMREAD finds them there, VMWRITE replaces them, and VMCLEAR takes all
 * of them to memory. */
static void away(void **state)
{
    const struct vmcs_field read = VMCS_GUEST_ES_LIMIT, written = VMCS_GUEST_CS_LIMIT,
                            left = VMCS_GUEST_SS_LIMIT;

    (void)state;
    for (unsigned i = VMCS_INDEX_GUEST_ES_LIMIT; i <= VMCS_INDEX_GUEST_SS_LIMIT; i++) {
        vmcs02[i] = 0x1000 + i;
        n.vmcs12.away[i / 64] |= BIT(i % 64);
    }
    run.operands.information = BY_REGISTER;
    assert_int_equal(execute(EXIT_REASON_VMREAD, 0, read.encoding), NESTED_DONE);
    assert_int_equal(vcpu01.registers[VCPU_RDI], 0x1000 + read.index);
    vcpu01.registers[VCPU_RDI] = 77;
    assert_int_equal(execute(EXIT_REASON_VMWRITE, 0, written.encoding), NESTED_DONE);
    assert_true(vmcs12_is_away(&n.vmcs12, left));
    run.operands.information = INFORMATION;
    assert_int_equal(execute(EXIT_REASON_VMCLEAR, AT(PAGE_A), 0), NESTED_DONE);
    assert_int_equal(get(PAGE_A, 16 + 8 * read.index, 8), 0x1000 + read.index);
    assert_int_equal(get(PAGE_A, 16 + 8 * written.index, 8), 77);
    assert_int_equal(get(PAGE_A, 16 + 8 * left.index, 8), 0x1000 + left.index);
}

/* Where the processor has VMCS shadowing, VMCS01 links to the shadow VMCS while there is a current VMCS, and
 * what Lv1 wrote there goes where VMCS12 goes. */
static void shadowing(void **state)
{
    const struct vmcs_field rip = VMCS_GUEST_RIP, rights = VMCS_GUEST_CS_ACCESS_RIGHTS;

    (void)state;
    vcpu01.vmcs = HPA(0x8000);
    vcpu01.shadow = (struct vcpu_shadow){HPA(0x9000), HPA(0xa000), HPA(0xb000)};
    memset(&fake_beside, 0, sizeof(fake_beside));
    fake_beside.takes_all = true;
    fake_beside.vmcs = 0x9000;
    fake_beside.current = 0x8000;
    put(PAGE_B, 16 + 8 * rip.index, 0x1234, 8);
    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_B), 0), NESTED_DONE);
    assert_int_equal(fake_get(VMCS_VMCS_LINK_POINTER), 0x9000);
    assert_int_equal(fake_beside.values[rip.index], 0x1234);

    /* A VMWRITE that exits is read without one. */
    run.operands.information = BY_REGISTER;
    vcpu01.registers[VCPU_RDI] = 0xa09b;
    assert_int_equal(execute(EXIT_REASON_VMWRITE, 0, rights.encoding), NESTED_DONE);
    assert_int_equal(fake_beside.values[rights.index], 0xa09b);

    run.operands.information = INFORMATION;
    n.vmcs12.launched = true;
    fake_beside.values[rip.index] = 0x2345;
    assert_int_equal(execute(EXIT_REASON_VMRESUME, 0, 0), NESTED_ENTER);
    assert_int_equal(vmcs12_read(&n.vmcs12, rip), 0x2345);
    fake_beside.values[rip.index] = 0x3456;
    assert_int_equal(execute(EXIT_REASON_VMCLEAR, AT(PAGE_B), 0), NESTED_DONE);
    assert_int_equal(get(PAGE_B, 16 + 8 * rip.index, 8), 0x3456);
    assert_int_equal(fake_get(VMCS_VMCS_LINK_POINTER), UINT64_MAX);

    assert_int_equal(execute(EXIT_REASON_VMPTRLD, AT(PAGE_B), 0), NESTED_DONE);
    assert_int_equal(fake_get(VMCS_VMCS_LINK_POINTER), 0x9000);
    assert_int_equal(execute(EXIT_REASON_VMXOFF, 0, 0), NESTED_DONE);
    assert_int_equal(fake_get(VMCS_VMCS_LINK_POINTER), UINT64_MAX);
    memset(&fake_beside, 0, sizeof(fake_beside));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(vmxon_vmxoff, set_up),
        cmocka_unit_test_setup(switching, set_up),
        cmocka_unit_test_setup(lost_writes, set_up),
        cmocka_unit_test(retries),
        cmocka_unit_test(memory_operands),
        cmocka_unit_test(every_encoding),
        cmocka_unit_test_setup(stack_pointer, set_up),
        cmocka_unit_test_setup(unchanged, set_up),
        cmocka_unit_test_setup(invalidations, set_up),
        cmocka_unit_test_setup(legacy_mode, set_up),
        cmocka_unit_test_setup(away, set_up),
        cmocka_unit_test_setup(shadowing, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
