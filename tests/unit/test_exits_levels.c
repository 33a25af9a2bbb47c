// SPDX-License-Identifier: BSD-2-Clause
/*
 * Exits of a level in which a guest hypervisor has a say: the handlers for Lv1, on another level. Fails when
 * what the guest is to get is not offered to the guest hypervisor first, when something changes although it
 * took it, when a fault behind the guest's own tables is a page fault, or when control registers go past it.
 */
#include "core/exits/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/paging.h"
#include "mm/walk_x86.h"
#include "tests/unit/fake_machine.h"

#define UART       0x3f8
#define OUTS       (BIT(4) | (uint64_t)UART << 16) /* of a byte */
#define ADDRESS_64 (2ULL << 7)
#define SEGMENT_DS (3ULL << 15)
#define CLTS       (2 << 4)
#define REFUSED    0x150000ULL /* 4 KiB that the stage behind the guest's tables does not give */

/* ---- The guest hypervisor ----------------------------------------------------------------------------- */

static struct partition_level level;
static bool wants[32]; /* exceptions that it takes */
static struct {
    unsigned asked, faults, triples, moves;
    uint8_t vectors[4];
    uint32_t error_code;
    uint64_t qualification, gla, physical;
    bool in_tables;
} seen;

static void read_control(struct partition_vcpu *v, struct cr_state *state)
{
    vcpu_read_control_state(&v->vcpu, state);
    state->cr4 |= X86_CR4_DE; /* which its read shadow hides */
}

static void write_control(struct partition_vcpu *v, const struct cr_state *state)
{
    assert_true((state->cr4 & X86_CR4_DE) != 0);
    vcpu_write_control_state(&v->vcpu, state);
}

static enum cr_answer move_to_cr(struct partition_vcpu *v, unsigned number, struct cr_state *state,
                                 uint64_t operand, unsigned *effects)
{
    assert_int_equal(number, 0);
    seen.moves++;
    return policy_cr0_write(v->vcpu.policy, state, operand | X86_CR0_MP, effects); /* a flag that it masks */
}

static bool takes_exception(struct partition_vcpu *v, uint8_t vector, uint32_t error_code,
                            uint64_t qualification)
{
    assert_ptr_equal(v->level, &level);
    assert_true(seen.asked < ARRAY_SIZE(seen.vectors));
    seen.vectors[seen.asked++] = vector;
    seen.error_code = error_code;
    seen.qualification = qualification;
    return wants[vector];
}

static void triple_fault(struct partition_vcpu *v)
{
    (void)v;
    seen.triples++;
}

static void memory_fault(struct partition_vcpu *v, gla_t gla, const struct stage_fault *fault)
{
    (void)v;
    seen.faults++;
    seen.gla = gla.value;
    seen.physical = fault->address;
    seen.in_tables = fault->in_tables;
}

static const struct partition_level_ops ops = {
    .read_control = read_control,
    .write_control = write_control,
    .move_to_cr = move_to_cr,
    .takes_exception = takes_exception,
    .triple_fault = triple_fault,
    .memory_fault = memory_fault,
};

static enum stage_outcome walk_behind(const struct stage *stage, uint64_t address, unsigned access,
                                      struct translation *translation, struct stage_fault *fault)
{
    (void)access;
    if (align_down(address, PAGE_SIZE) == REFUSED) {
        *fault = (struct stage_fault){.stage = stage, .address = address};
        return STAGE_FAULT;
    }
    *translation =
        (struct translation){.address = address, .rights = PAGING_RIGHTS, .page_shift = PAGE_SHIFT};
    return STAGE_DONE;
}

static const struct stage behind = {.walk = walk_behind};

static int start(void **state)
{
    start_64(state);
    memset(&seen, 0, sizeof(seen));
    memset(wants, 0, sizeof(wants));
    paging_init_level(guest, &level, &guest->vcpu, &guest->vtlb);
    level.ops = &ops;
    level.memory = (struct stage_chain){.stages = {&behind, &partition->p2m.stage}, .count = 2};
    level.linear =
        (struct stage_chain){.stages = {&level.walk.stage, &behind, &partition->p2m.stage}, .count = 3};
    partition_vcpu_set_level(guest, &level);
    return 0;
}

static void outs(uint64_t from)
{
    run_to_exit(EXIT_REASON_IO_INSTRUCTION, OUTS, 1);
    fake_set(VMCS_EXIT_INSTRUCTION_INFO, ADDRESS_64 | SEGMENT_DS);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    guest->vcpu.registers[VCPU_RSI] = from;
    handle();
}

/* ---- Memory ------------------------------------------------------------------------------------------- */

static void faults_behind(void **state)
{
    (void)state;
    outs(REFUSED + 7);
    assert_done(GUEST_RIP);
    assert_int_equal(guest->vcpu.registers[VCPU_RSI], REFUSED + 7);
    assert_int_equal(seen.faults, 1);
    assert_int_equal(seen.asked, 0);
    assert_int_equal(seen.gla, REFUSED + 7);
    assert_int_equal(seen.physical, REFUSED + 7);
    assert_false(seen.in_tables);

    /* The entry for 1 MiB, in a table that is where nothing is given. */
    guest_put64(GUEST_TABLES + 0x2000, REFUSED | 7);
    outs(0x100008);
    assert_done(GUEST_RIP);
    assert_int_equal(seen.faults, 2);
    assert_int_equal(seen.gla, 0x100008);
    assert_int_equal(seen.physical, REFUSED + 8 * 0x100);
    assert_true(seen.in_tables);
}

static void page_faults(void **state)
{
    (void)state;
    guest_unmap(0x140000);
    take_snapshot(&snapshot);
    fake_cpu.cr2 = snapshot.cr2 = 0x1234;
    wants[X86_VECTOR_PF] = true;
    outs(0x140010);
    assert_int_equal(seen.asked, 1);
    assert_int_equal(seen.vectors[0], X86_VECTOR_PF);
    assert_int_equal(seen.qualification, 0x140010);
    assert_int_equal(seen.error_code, 0);
    assert_int_equal(fake_cpu.cr2, 0x1234); /* an exit leaves it */
    assert_done(GUEST_RIP);

    wants[X86_VECTOR_PF] = false;
    outs(0x140010);
    assert_int_equal(seen.asked, 2);
    assert_int_equal(fake_cpu.cr2, 0x140010);
    assert_int_equal(next_injection(), 0x80000b0e);
}

/* ---- Exceptions --------------------------------------------------------------------------------------- */

/* Two make a double fault, and three are the end. */
static void exceptions_meet(void **state)
{
    static const uint32_t delivered[] = {0x80000b0e, 0x80000b08}; /* #PF, #DF */

    (void)state;
    guest_unmap(0x140000);
    for (unsigned n = 0; n < 2; n++) {
        start(state);
        guest_unmap(0x140000);
        run_to_exit(EXIT_REASON_IO_INSTRUCTION, OUTS, 1);
        fake_set(VMCS_EXIT_INSTRUCTION_INFO, ADDRESS_64 | SEGMENT_DS);
        fake_set(VMCS_IDT_VECTORING_INFO, delivered[n]);
        guest->vcpu.registers[VCPU_RSI] = 0x140000;
        handle();
        assert_int_equal(seen.asked, n == 0 ? 2 : 1);
        assert_int_equal(seen.vectors[0], X86_VECTOR_PF);
        if (n == 0)
            assert_int_equal(seen.vectors[1], X86_VECTOR_DF);
        assert_int_equal(seen.triples, n);
        if (n == 0)
            assert_int_equal(next_injection(), 0x80000b08);
    }
}

/* ---- Control registers -------------------------------------------------------------------------------- */

static void control_registers(void **state)
{
    struct cr_state control;

    (void)state;
    assert_true((paging_read_cr4(guest) & X86_CR4_DE) != 0);
    paging_read_control(guest, &control);
    assert_true((control.cr4 & X86_CR4_DE) != 0);
    take_exit(EXIT_REASON_CR_ACCESS, CLTS, 2);
    assert_int_equal(seen.moves, 1);
    assert_true((vcpu_read_cr0(&guest->vcpu) & X86_CR0_MP) != 0);

    partition_vcpu_set_level(guest, &guest->lv1);
    assert_int_equal(paging_read_cr4(guest) & X86_CR4_DE, X86_CR4_DE); /* as it was written */
    take_exit(EXIT_REASON_CR_ACCESS, CLTS, 2);
    assert_int_equal(seen.moves, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(faults_behind, start),
        cmocka_unit_test_setup(page_faults, start),
        cmocka_unit_test_setup(exceptions_meet, start),
        cmocka_unit_test_setup(control_registers, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
