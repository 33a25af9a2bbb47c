// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/exits/hypercall.c: VMCALL in each mode and at each level. Fails when registers are cut wrongly or
 * others change, when a program gets what only a system may have, or an answer is not the partition's own.
 */
#include "core/exits/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_machine.h"

#define LENGTH 3
#define PLACE  0x20000

/* Executes VMCALL, and returns RAX. Every other register must be as it was. */
static uint64_t vmcall(uint64_t rax, uint64_t rbx, uint64_t rcx, uint64_t rdx)
{
    uint64_t *registers = guest->vcpu.registers;
    uint64_t before[VCPU_REGISTERS];
    uint64_t rip = fake_get(VMCS_GUEST_RIP);

    registers[VCPU_RAX] = rax;
    registers[VCPU_RBX] = rbx;
    registers[VCPU_RCX] = rcx;
    registers[VCPU_RDX] = rdx;
    run_to_exit(EXIT_REASON_VMCALL, 0, LENGTH);
    memcpy(before, registers, sizeof(before));
    handle();
    assert_int_equal(next_injection(), 0);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), rip + LENGTH);
    before[VCPU_RAX] = registers[VCPU_RAX];
    assert_memory_equal(registers, before, sizeof(before));
    return registers[VCPU_RAX];
}

static void by_mode(void **state)
{
    const uint64_t high = 0xffffffff00000000;

    start_64(state);
    assert_true(vmcall(HYPERCALL_GET_VERSION, 0, 0, 0) == HYPERCALL_VERSION);
    assert_true(vmcall(high, 0, 0, 0) == (uint64_t)-38);
    assert_true(vmcall(HYPERCALL_GET_INFO, high | PLACE, 80, 0) == (uint64_t)-14);
    assert_true(vmcall(HYPERCALL_GET_INFO, PLACE, 80, 0) == 80);
    start_32(state);
    assert_true(vmcall(high | HYPERCALL_GET_VERSION, 0, 0, 0) == HYPERCALL_VERSION);
    assert_true(vmcall(HYPERCALL_GET_INFO, high | PLACE, high | 80, high) == 80);
    assert_true(vmcall(HYPERCALL_COUNT, 0, 0, 0) == (uint32_t)-38);
}

/* SDM vol. 3, "Checking and Enforcing the Privilege Level": the level is SS.DPL. */
static void by_level(void **state)
{
    for (uint64_t level = 1; level <= 3; level++) {
        start_64(state);
        fake_set(VMCS_GUEST_SS_ACCESS_RIGHTS, fake_get(VMCS_GUEST_SS_ACCESS_RIGHTS) | level << 5);
        assert_true(vmcall(HYPERCALL_GET_VERSION, 0, 0, 0) == (uint64_t)-1);
        assert_true(vmcall(HYPERCALL_POWER, 0, 0, 0) == (uint64_t)-1);
        assert_true(vmcall(HYPERCALL_COUNT, 0, 0, 0) == (uint64_t)-1);
        assert_int_equal(partition->request, PARTITION_REQUEST_NONE);
    }
}

static void own_answers(void **state)
{
    struct hypercall_info info;
    struct hypercall_time time;

    start_64(state);
    fake_cpu.tsc = HOST_TSC + 12345;
    assert_int_equal(vmcall(HYPERCALL_GET_INFO, PLACE, sizeof(info), 0), sizeof(info));
    guest_take(PLACE, &info, sizeof(info));
    assert_string_equal(info.name, "guest");
    assert_int_equal(info.number, partition->number);
    assert_int_equal(info.vcpus, 1);
    assert_int_equal(info.vcpu, 0);
    assert_int_equal(info.memory, GUEST_MEMORY);
    assert_int_equal(info.tsc_hz, HOST_TSC_HZ);
    assert_int_equal(info.regions, 0);
    assert_int_equal(vmcall(HYPERCALL_GET_TIME, PLACE, sizeof(time), 0), sizeof(time));
    guest_take(PLACE, &time, sizeof(time));
    assert_int_equal(time.tsc, 12345);
    assert_int_equal(time.tsc_hz, HOST_TSC_HZ);
    assert_true(time.tsc_offset == 0 - HOST_TSC);
    assert_true(time.tsc_multiplier == BIT(48));
    assert_int_equal(time.wall_clock, machine_wall_clock());
}

static void effects(void **state)
{
    static const char text[] = "hello, console";

    start_64(state);
    guest_put(PLACE, text, sizeof(text));
    assert_int_equal(vmcall(HYPERCALL_CONSOLE_WRITE, PLACE, sizeof(text) - 1, 0), sizeof(text) - 1);
    assert_string_equal(guest_console, text);
    unsigned yields = fake_cpu.yields;
    assert_int_equal(vmcall(HYPERCALL_YIELD, 0, 0, 0), 0);
    assert_int_equal(fake_cpu.yields, yields + 1);
    assert_true(vmcall(HYPERCALL_DOORBELL, 0, 0, 0) == (uint64_t)-22);
    assert_int_equal(vmcall(HYPERCALL_STEAL_TIME, PLACE, 1, 0), 0);
    assert_true(guest->hypercall.steal_enabled);
    assert_int_equal(guest->hypercall.steal_page.value, PLACE);
    assert_int_equal(partition->request, PARTITION_REQUEST_NONE);
    assert_int_equal(vmcall(HYPERCALL_POWER, HYPERCALL_POWER_RESET, 0, 0), 0);
    assert_int_equal(partition->request, PARTITION_REQUEST_RESET);
    start_64(state);
    assert_int_equal(vmcall(HYPERCALL_POWER, HYPERCALL_POWER_OFF, 0, 0), 0);
    assert_int_equal(partition->request, PARTITION_REQUEST_STOP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_mode),
        cmocka_unit_test(by_level),
        cmocka_unit_test(own_answers),
        cmocka_unit_test(effects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
