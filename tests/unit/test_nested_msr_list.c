// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/msr_list.c. Fails when a register that a list may not name is loaded or stored, when a bad entry is
 * not the one that is named, when the entries before it are not done, when a list of any length is gone
 * through, and when the registers that VMCS02 holds come from elsewhere.
 */
#include "nested/msr_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/fake_vmcs.h"
#include "tests/unit/flat_memory.h"

#define LIST 0x1ff0 /* its second entry is on another page */

/* What the vCPU was asked for. */
static struct {
    unsigned writes, reads;
    uint32_t last_index;
    uint64_t last_value;
    uint32_t refused; /* #GP */
} machine;

static struct nested_vcpu nested;
static struct nested_policy policy;
static struct register_policy registers;

static bool write_msr(void *context, uint32_t index, uint64_t value)
{
    assert_ptr_equal(context, &machine);
    if (index == machine.refused)
        return false;
    machine.writes++;
    machine.last_index = index;
    machine.last_value = value;
    return true;
}

static bool read_msr(void *context, uint32_t index, uint64_t *value)
{
    assert_ptr_equal(context, &machine);
    machine.reads++;
    *value = 0x1000000 + index;
    return index != machine.refused;
}

static const struct nested_ops ops = {.write_msr = write_msr, .read_msr = read_msr};

static int setup(void **state)
{
    (void)state;
    memset(&fake_vmcs, 0, sizeof(fake_vmcs));
    memset(&nested, 0, sizeof(nested));
    memset(&machine, 0, sizeof(machine));
    flat_memory_reset();
    machine.refused = UINT32_MAX;
    registers = (struct register_policy){.efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_NXE};
    policy = (struct nested_policy){.registers = &registers};
    nested.policy = &policy;
    nested.ops = &ops;
    nested.context = &machine;
    nested.memory = &flat_memory_chain;
    return 0;
}

static void put(uint64_t list, unsigned number, uint64_t index, uint64_t value)
{
    const uint64_t entry[] = {index, value};

    flat_memory_put(list + (number - 1) * sizeof(entry), entry, sizeof(entry));
}

static uint64_t stored(uint64_t list, unsigned number)
{
    uint64_t value;

    memcpy(&value, flat_memory + list + (number - 1) * 16 + 8, sizeof(value));
    return value;
}

static void set_lists(uint64_t address, uint64_t count)
{
    const struct vmcs_field addresses[] = {VMCS_ENTRY_MSR_LOAD_ADDRESS, VMCS_EXIT_MSR_LOAD_ADDRESS,
                                           VMCS_EXIT_MSR_STORE_ADDRESS};
    const struct vmcs_field counts[] = {VMCS_ENTRY_MSR_LOAD_COUNT, VMCS_EXIT_MSR_LOAD_COUNT,
                                        VMCS_EXIT_MSR_STORE_COUNT};

    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        vmcs12_write(&nested.vmcs12, addresses[i], address);
        vmcs12_write(&nested.vmcs12, counts[i], count);
    }
}

static struct nested_list_values values;
static struct cr_state control;

static unsigned enter(void)
{
    control = (struct cr_state){.cr0 = X86_CR0_PE | X86_CR0_PG, .efer = X86_EFER_LME | X86_EFER_LMA};
    return nested_msr_list_enter(&nested, &control, &values);
}

/* Nothing to do: nothing is read, wherever the list is. */
static void test_empty(void **state)
{
    (void)state;
    set_lists(GIB(1), 0);
    assert_int_equal(enter(), 0);
    assert_int_equal(values.present, 0);
    assert_true(nested_msr_list_store(&nested));
    assert_true(nested_msr_list_leave(&nested));
}

static void test_load(void **state)
{
    (void)state;
    set_lists(LIST, 3);
    put(LIST, 1, MSR_IA32_KERNEL_GS_BASE, 1);
    put(LIST, 2, MSR_IA32_LSTAR, 2);
    put(LIST, 3, MSR_IA32_STAR, 3);
    assert_int_equal(enter(), 0);
    assert_int_equal(machine.writes, 3);
    assert_int_equal(machine.last_index, MSR_IA32_STAR);
    assert_int_equal(machine.last_value, 3);
    assert_int_equal(values.present, 0);
    assert_true(nested_msr_list_leave(&nested));
    assert_int_equal(machine.writes, 6);
}

/*
 * A list full of commands that take the processor long gives each of them twice, the second time behind
 * everything else; with another value they are not that command, and each is one that fails or not.
 */
static void test_commands(void **state)
{
    const unsigned limit = nested_msr_list_limit(&nested);

    (void)state;
    set_lists(LIST, limit);
    for (unsigned number = 1; number <= limit; number++)
        put(LIST, number, number % 2 ? MSR_IA32_PRED_CMD : MSR_IA32_FLUSH_CMD, 1);
    put(LIST, limit, MSR_IA32_LSTAR, 5);
    assert_int_equal(enter(), 0);
    assert_int_equal(machine.writes, 5);
    assert_int_equal(machine.last_index, MSR_IA32_FLUSH_CMD);
    assert_true(nested_msr_list_leave(&nested));
    assert_int_equal(machine.writes, 10);

    set_lists(LIST, 3);
    for (unsigned number = 1; number <= 3; number++)
        put(LIST, number, MSR_IA32_PRED_CMD, 2);
    assert_int_equal(enter(), 0);
    assert_int_equal(machine.writes, 13);
    machine.refused = MSR_IA32_PRED_CMD;
    put(LIST, 1, MSR_IA32_PRED_CMD, 1);
    assert_int_equal(enter(), 1);
}

/* Each entry that fails, at each place: the ones before it are done. */
static void assert_entry_fails(uint64_t index, bool also_store)
{
    for (unsigned place = 1; place <= 3; place++) {
        set_lists(LIST, 3);
        for (unsigned number = 1; number <= 3; number++)
            put(LIST, number, number == place ? index : MSR_IA32_LSTAR, 7);
        machine.writes = machine.reads = 0;
        assert_int_equal(enter(), place);
        assert_int_equal(machine.writes, place - 1);
        machine.writes = 0;
        assert_false(nested_msr_list_leave(&nested));
        assert_int_equal(machine.writes, place - 1);
        assert_int_equal(nested_msr_list_store(&nested), !also_store);
    }
}

static void test_forbidden(void **state)
{
    (void)state;
    assert_entry_fails(MSR_IA32_FS_BASE, false);
    assert_entry_fails(MSR_IA32_GS_BASE, false);
    assert_entry_fails(0x800, true);
    assert_entry_fails(0x808, true);
    assert_entry_fails(0x8ff, true);
    assert_entry_fails(MSR_IA32_SMM_MONITOR_CTL, false);
    assert_entry_fails(MSR_IA32_SMBASE, true);
    assert_entry_fails(MSR_IA32_BIOS_UPDT_TRIG, false);
    assert_entry_fails(MSR_IA32_BIOS_SIGN_ID, false);
    assert_entry_fails(BIT(32) | MSR_IA32_LSTAR, true);
    assert_entry_fails(BIT(63) | MSR_IA32_LSTAR, true);
    machine.refused = 0x12345;
    assert_entry_fails(0x12345, true);
}

/* The neighbours of what is forbidden. */
static void test_allowed(void **state)
{
    static const uint32_t allowed[] = {0x7ff, 0x900, 0xc00000ff, MSR_IA32_KERNEL_GS_BASE, 0x9a, 0x8c};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++) {
        set_lists(LIST, 1);
        put(LIST, 1, allowed[i], 0);
        assert_int_equal(enter(), 0);
        assert_true(nested_msr_list_leave(&nested));
        assert_true(nested_msr_list_store(&nested));
    }
}

static void test_memory(void **state)
{
    (void)state;
    set_lists(FLAT_MEMORY_SIZE - 16, 2);
    put(FLAT_MEMORY_SIZE - 16, 1, MSR_IA32_LSTAR, 7);
    assert_int_equal(enter(), 2);
    assert_false(nested_msr_list_leave(&nested));
    assert_false(nested_msr_list_store(&nested));
    /* What cannot be written is not stored. */
    set_lists(0x2000, 1);
    put(0x2000, 1, MSR_IA32_LSTAR, 7);
    flat_memory_read_only = 0x2000;
    assert_false(nested_msr_list_store(&nested));
    assert_int_equal(enter(), 0);
}

/* As many entries as are recommended, and not one more, whatever the count says. */
static void test_length(void **state)
{
    (void)state;
    for (unsigned number = 1; number <= 1100; number++)
        put(0x2000, number, MSR_IA32_LSTAR, number);
    set_lists(0x2000, 512);
    assert_int_equal(enter(), 0);
    set_lists(0x2000, UINT32_MAX);
    assert_int_equal(enter(), 513);
    assert_false(nested_msr_list_leave(&nested));
    assert_false(nested_msr_list_store(&nested));
    policy.capabilities.offered.misc = BIT(25);
    assert_int_equal(nested_msr_list_limit(&nested), 1024);
    assert_int_equal(enter(), 1025);
}

/* Registers that an entry loads from VMCS12 before: the merge gets to know. */
static void test_entry_values(void **state)
{
    static const struct {
        uint32_t index;
        enum nested_list_register which;
    } kept[] = {
        {MSR_IA32_SYSENTER_CS, NESTED_LIST_SYSENTER_CS},
        {MSR_IA32_SYSENTER_ESP, NESTED_LIST_SYSENTER_ESP},
        {MSR_IA32_SYSENTER_EIP, NESTED_LIST_SYSENTER_EIP},
        {MSR_IA32_DEBUGCTL, NESTED_LIST_DEBUGCTL},
        {MSR_IA32_PAT, NESTED_LIST_PAT},
    };

    (void)state;
    assert_int_equal(ARRAY_SIZE(kept), NESTED_LIST_REGISTERS);
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++) {
        set_lists(LIST, 2);
        put(LIST, 1, kept[i].index, 0x1111);
        put(LIST, 2, kept[i].index, 0x2222 + i);
        assert_int_equal(enter(), 0);
        assert_int_equal(values.present, BIT(kept[i].which));
        assert_int_equal(values.values[kept[i].which], 0x2222 + i);
        machine.refused = kept[i].index;
        assert_int_equal(enter(), 1);
        assert_int_equal(values.present, 0);
        machine.refused = UINT32_MAX;
    }
}

/* IA32_EFER is checked against what Lv2 begins with, not against Lv1's. */
static void test_entry_efer(void **state)
{
    (void)state;
    set_lists(LIST, 1);
    put(LIST, 1, MSR_IA32_EFER, X86_EFER_LME | X86_EFER_NXE);
    assert_int_equal(enter(), 0);
    assert_int_equal(control.efer, X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE);
    assert_int_equal(machine.writes, 0);
    put(LIST, 1, MSR_IA32_EFER, X86_EFER_NXE); /* with paging, LME cannot change */
    assert_int_equal(enter(), 1);
    put(LIST, 1, MSR_IA32_EFER, X86_EFER_LME | BIT(1));
    assert_int_equal(enter(), 1);
}

static void test_store(void **state)
{
    static const uint32_t indices[] = {
        MSR_IA32_EFER,        MSR_IA32_PAT,          MSR_IA32_DEBUGCTL,
        MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
        MSR_IA32_FS_BASE,     MSR_IA32_GS_BASE,      MSR_IA32_LSTAR,
    };
    const uint64_t list = 0x2ff0;

    (void)state;
    fake_set(VMCS_GUEST_EFER, 1);
    fake_set(VMCS_GUEST_PAT, 2);
    fake_set(VMCS_GUEST_DEBUGCTL, 3);
    fake_set(VMCS_GUEST_SYSENTER_CS, 4);
    fake_set(VMCS_GUEST_SYSENTER_ESP, 5);
    fake_set(VMCS_GUEST_SYSENTER_EIP, 6);
    fake_set(VMCS_GUEST_FS_BASE, 7);
    fake_set(VMCS_GUEST_GS_BASE, 8);
    set_lists(list, ARRAY_SIZE(indices));
    for (unsigned i = 0; i < ARRAY_SIZE(indices); i++)
        put(list, i + 1, indices[i], 99);
    assert_true(nested_msr_list_store(&nested));
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(stored(list, i + 1), i + 1);
    assert_int_equal(stored(list, 9), 0x1000000 + MSR_IA32_LSTAR);
    assert_int_equal(machine.reads, 1);
    assert_int_equal(machine.writes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_empty, setup),      cmocka_unit_test_setup(test_load, setup),
        cmocka_unit_test_setup(test_commands, setup),   cmocka_unit_test_setup(test_forbidden, setup),
        cmocka_unit_test_setup(test_allowed, setup),    cmocka_unit_test_setup(test_memory, setup),
        cmocka_unit_test_setup(test_length, setup),     cmocka_unit_test_setup(test_entry_values, setup),
        cmocka_unit_test_setup(test_entry_efer, setup), cmocka_unit_test_setup(test_store, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
