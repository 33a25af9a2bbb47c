// SPDX-License-Identifier: BSD-2-Clause
/*
 * The life of a partition, with the test in the place of the vCPUs' homes: what they are mailed, in which
 * order, and that nothing happens before all have answered. Fails if a transition is made while a vCPU is not
 * parked, if one is left out or made twice, or if a clock goes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_machine.h"

#include "lib/errors.h"

/* A Multiboot kernel of a few bytes: its header, and where it is entered. */
static struct {
    uint32_t magic, flags, checksum, header, load, load_end, bss_end, entry;
    uint8_t code[16];
} kernel = {
    .magic = 0x1badb002,
    .flags = 1 << 16,
    .checksum = 0u - 0x1badb002 - (1 << 16),
    .header = 0x100000,
    .load = 0x100000,
    .load_end = 0x100000 + 48,
    .bss_end = 0x100000 + 48,
    .entry = 0x100020,
    .code = {0xf4},
};

static int find_kernel(struct config_files *files, struct slice path, const void **data, size_t *size)
{
    (void)files;
    if (!slice_is(path, "kernel"))
        return -ENOENT;
    *data = &kernel;
    *size = sizeof(kernel);
    return 0;
}

static struct config_files kernel_files = {.find = find_kernel};

/* ---- The homes ----------------------------------------------------------------------------------------- */

/* What run.c does with a vCPU's mail, as far as the housekeeper can tell. Returns what the mail was. */
static uint32_t read_mail(struct partition_vcpu *v)
{
    uint32_t mail = v->mail;

    v->mail = mail & MAIL_PARK ? MAIL_PARKED : 0;
    if (mail & MAIL_PARK)
        partition->parked++;
    return mail;
}

/* All homes read all mail: the union of what it was, if each vCPU got the same. */
static uint32_t read_all_mail(void)
{
    uint32_t mail = 0;

    for (unsigned i = 0; i < mailed_count; i++) {
        uint32_t this = read_mail(mailed[i]);

        assert_true(mail == 0 || mail == this);
        mail = this;
    }
    if (mail != 0)
        assert_int_equal(mailed_count, partition->vcpu_count);
    mailed_count = 0;
    return mail;
}

static struct config_partition *settings(void)
{
    return (struct config_partition *)partition->config;
}

static int two_vcpus(void **state)
{
    struct partition_machine machine;

    (void)state;
    guest_vcpus = 2;
    build_guest(VCPU_START_PROTECTED_32, CORE_POLICY_TPR_SHADOWING);
    machine = *partition_machine();
    machine.files = &kernel_files;
    partition_set_machine(&machine);
    settings()->kernel.path = SLICE("kernel");
    settings()->boot = CONFIG_BOOT_MULTIBOOT;
    partition->state = PARTITION_STOPPED;
    fake_cpu.current = NULL;
    for (unsigned i = 0; i < 2; i++)
        partition->vcpus[i].mail = MAIL_PARKED;
    mailed_count = 0;
    return 0;
}

static void start(void)
{
    unsigned steps = 0;

    assert_int_equal(partition_start(partition), 0);
    while (partition->state == PARTITION_STARTING) {
        assert_int_equal(mailed_count, 0);
        partition_step(partition);
        assert_true(++steps < 100);
    }
}

static void start_and_run(void)
{
    start();
    assert_int_equal(partition->state, PARTITION_RUNNING);
    assert_int_equal(read_all_mail(), MAIL_START | MAIL_EVENTS);
}

/* ---- Starting ------------------------------------------------------------------------------------------ */

static void test_start(void **state)
{
    uint8_t byte = 0x5a;

    (void)state;
    guest_put(0x200000, &byte, 1);
    start_and_run();
    guest_take(0x200000, &byte, 1);
    assert_int_equal(byte, 0); /* nothing of a former life is left */
    guest_take(0x100020, &byte, 1);
    assert_int_equal(byte, 0xf4);
    assert_int_equal(partition->starts, 1);
    assert_int_equal(partition->vcpus[0].wait, VCPU_WAIT_NOT);
    assert_int_equal(partition->vcpus[1].wait, VCPU_WAIT_SIPI);
    assert_int_equal(partition_start(partition), -EBUSY);
}

/* Memory is cleared a piece at a time: no step does it all. */
static void test_start_in_steps(void **state)
{
    unsigned steps = 0;

    (void)state;
    assert_int_equal(partition_start(partition), 0);
    for (; partition->state == PARTITION_STARTING; steps++) {
        assert_true(partition_step(partition) <= fake_cpu.tsc);
        assert_true(steps < 100);
    }
    assert_true(steps > GUEST_MEMORY / MIB(1));
}

static void test_start_without_kernel(void **state)
{
    (void)state;
    settings()->kernel.path = SLICE("nothing");
    start();
    assert_int_equal(partition->state, PARTITION_STOPPED);
    assert_non_null(strstr(partition->reason, "no such file"));
    assert_int_equal(mailed_count, 0);
    settings()->kernel.path = SLICE("kernel");
    start_and_run();
    assert_string_equal(partition->reason, "");
}

/* ---- Homes --------------------------------------------------------------------------------------------- */

static void test_dedicated_homes(void **state)
{
    (void)state;
    settings()->cpus = (struct config_cpus){.dedicated = true, .set = BIT(1) | BIT(3), .weight = 100};
    start_and_run();
    assert_int_equal(partition->vcpus[0].home, 1);
    assert_int_equal(partition->vcpus[1].home, 3);
}

static void test_shared_homes(void **state)
{
    (void)state;
    start_and_run();
    assert_int_equal(partition->vcpus[0].home, 0);
    assert_int_equal(partition->vcpus[1].home, 1); /* the least loaded */
    assert_int_equal(partition_stop(partition, 0), 0);
    partition_step(partition);
    read_all_mail();
    partition_step(partition);
    settings()->cpus.set = BIT(2);
    start_and_run();
    assert_int_equal(partition->vcpus[0].home, 2);
    assert_int_equal(partition->vcpus[1].home, 2);
}

/* ---- Ends ---------------------------------------------------------------------------------------------- */

/* Nothing is done before the last vCPU is parked, and then at once. */
static void park_one_by_one(enum partition_state before, enum partition_state after)
{
    partition_step(partition);
    assert_int_equal(mailed_count, 2);
    partition_step(partition);
    assert_int_equal(mailed_count, 2); /* asked once */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(partition->state, before);
        assert_int_equal(read_mail(mailed[i]), MAIL_PARK);
        partition_step(partition);
    }
    mailed_count = 0;
    assert_int_equal(partition->state, after);
}

static void test_power_off(void **state)
{
    (void)state;
    start_and_run();
    partition_request(partition, PARTITION_REQUEST_STOP);
    partition_request(partition, PARTITION_REQUEST_RESET); /* the first stands */
    assert_true(fake_cpu.slice_ends > 0 && fake_cpu.attentions > 0);
    park_one_by_one(PARTITION_RUNNING, PARTITION_STOPPED);
    assert_int_equal(partition_step(partition), UINT64_MAX);
    start_and_run();
}

static void test_guest_reset(void **state)
{
    (void)state;
    start_and_run();
    partition_request(partition, PARTITION_REQUEST_RESET);
    park_one_by_one(PARTITION_RUNNING, PARTITION_STARTING);
    while (partition->state == PARTITION_STARTING)
        partition_step(partition);
    assert_int_equal(read_all_mail(), MAIL_START | MAIL_EVENTS);
    assert_int_equal(partition->starts, 2);
}

static void test_crash(void **state)
{
    (void)state;
    start_and_run();
    partition_crash(&partition->vcpus[1], "first %u", 1u);
    partition_crash(&partition->vcpus[0], "second");
    park_one_by_one(PARTITION_RUNNING, PARTITION_CRASHED);
    assert_string_equal(partition->reason, "first 1");
    start_and_run();
}

static void test_machine_check(void **state)
{
    hpa_t inside = partition->regions[0].hpa;
    hpa_t outside = HPA(physmap_address(partition).value);

    (void)state;
    start_and_run();
    assert_false(partition_take_machine_check(outside));
    assert_true(partition_take_machine_check(inside));
    park_one_by_one(PARTITION_RUNNING, PARTITION_CRASHED);
    assert_non_null(strstr(partition->reason, "machine check"));
}

/* The guest does not listen to the button: force comes at once; a guest that does gets its time. */
static void test_stop(void **state)
{
    struct acpi_pm *pm;
    uint64_t deadline;

    (void)state;
    assert_int_equal(partition_stop(partition, 1), -EINVAL);
    start_and_run();
    assert_int_equal(partition_stop(partition, 5), 0);
    park_one_by_one(PARTITION_RUNNING, PARTITION_STOPPED);

    start_and_run();
    pm = &partition->platform.acpi_pm;
    acpi_pm_write(pm, 2, 2, 1 << 8); /* PM1_EN.PWRBTN_EN */
    assert_int_equal(partition_stop(partition, 5), 0);
    read_all_mail(); /* the button's interrupt */
    deadline = partition_step(partition);
    assert_int_equal(deadline, fake_cpu.tsc + 5 * HOST_TSC_HZ);
    fake_cpu.tsc = deadline - 1;
    partition_step(partition);
    assert_int_equal(mailed_count, 0);
    fake_cpu.tsc = deadline;
    park_one_by_one(PARTITION_RUNNING, PARTITION_STOPPED);
}

/* Whoever wants it stopped does not want it to begin anew: the guest's own reset ends in the stop. */
static void test_stop_of_resetting(void **state)
{
    (void)state;
    start_and_run();
    partition_request(partition, PARTITION_REQUEST_RESET);
    assert_int_equal(partition_stop(partition, 5), 0);
    park_one_by_one(PARTITION_RUNNING, PARTITION_STOPPED);
    assert_int_equal(partition_step(partition), UINT64_MAX);
}

/* ---- Restarts ------------------------------------------------------------------------------------------ */

static void live_and_die(uint64_t ticks)
{
    read_all_mail();
    fake_cpu.tsc += ticks;
    partition_request(partition, PARTITION_REQUEST_STOP);
    partition_step(partition);
    read_all_mail();
    partition_step(partition);
    assert_int_equal(partition->state, PARTITION_STOPPED);
}

/* Each short life makes the next wait twice as long; a long one forgives. */
static void test_restart_delay(void **state)
{
    uint64_t delay = HOST_TSC_HZ / 10;

    (void)state;
    settings()->on_stop = CONFIG_ON_STOP_RESTART;
    start_and_run();
    for (unsigned i = 0; i < 12; i++) {
        live_and_die(HOST_TSC_HZ);
        assert_int_equal(partition_step(partition), fake_cpu.tsc + delay);
        fake_cpu.tsc += delay - 1;
        partition_step(partition);
        assert_int_equal(partition->state, PARTITION_STOPPED);
        fake_cpu.tsc++;
        while (partition->state != PARTITION_RUNNING)
            partition_step(partition);
        delay = min_u64(2 * delay, 60 * HOST_TSC_HZ);
    }
    live_and_die(11 * HOST_TSC_HZ);
    assert_int_equal(partition_step(partition), fake_cpu.tsc + HOST_TSC_HZ / 10);
    assert_int_equal(partition_stop(partition, 0), 0); /* the operator calls the restart off */
    assert_int_equal(partition_step(partition), UINT64_MAX);
}

/* ---- Pause --------------------------------------------------------------------------------------------- */

static void test_pause(void **state)
{
    uint64_t before;

    (void)state;
    assert_int_equal(partition_pause(partition), -EINVAL);
    assert_int_equal(partition_resume(partition), -EINVAL);
    start_and_run();
    fake_cpu.tsc += 1000;
    assert_int_equal(partition_pause(partition), 0);
    park_one_by_one(PARTITION_RUNNING, PARTITION_PAUSED);
    before = partition_tsc(partition);
    assert_int_equal(partition_start(partition), -EBUSY);
    fake_cpu.tsc += 5 * HOST_TSC_HZ;
    assert_int_equal(partition_resume(partition), 0);
    assert_int_equal(partition_tsc(partition), before); /* its clock stood still */
    assert_int_equal(read_all_mail(), MAIL_START | MAIL_EVENTS);
    assert_int_equal(partition->starts, 1);
    assert_int_equal(partition_pause(partition), 0);
    park_one_by_one(PARTITION_RUNNING, PARTITION_PAUSED);
    assert_int_equal(partition_stop(partition, 9), 0);
    assert_int_equal(partition->state, PARTITION_STOPPED);
}

/* What the guest does until it stands still is not forgotten. */
static void test_power_off_while_pausing(void **state)
{
    (void)state;
    start_and_run();
    assert_int_equal(partition_pause(partition), 0);
    partition_request(partition, PARTITION_REQUEST_STOP);
    park_one_by_one(PARTITION_RUNNING, PARTITION_STOPPED);
}

/* Bad memory ends a partition that stands still as well, and one that is about to begin anew. */
static void test_machine_check_at_rest(void **state)
{
    hpa_t inside = partition->regions[0].hpa;

    (void)state;
    start_and_run();
    assert_int_equal(partition_pause(partition), 0);
    park_one_by_one(PARTITION_RUNNING, PARTITION_PAUSED);
    assert_true(partition_take_machine_check(inside));
    partition_step(partition);
    assert_int_equal(partition->state, PARTITION_CRASHED);
    start_and_run();
    partition_request(partition, PARTITION_REQUEST_RESET);
    assert_true(partition_take_machine_check(inside));
    park_one_by_one(PARTITION_RUNNING, PARTITION_CRASHED);
}

/* ---- Destruction --------------------------------------------------------------------------------------- */

static void test_destroy(void **state)
{
    struct frame_pool *frames = partition_machine()->frames;
    uint64_t umbra = frame_total(frames, FRAME_OWNER_UMBRA);

    (void)state;
    start_and_run();
    assert_int_equal(partition_destroy(partition), -EBUSY);
    partition_request(partition, PARTITION_REQUEST_STOP);
    park_one_by_one(PARTITION_RUNNING, PARTITION_STOPPED);
    assert_int_equal(partition_destroy(partition), 0);
    assert_null(partition_at(0));
    assert_int_equal(frame_total(frames, FRAME_OWNER_PARTITION), 0);
    assert_int_equal(frame_total(frames, FRAME_OWNER_UMBRA), umbra);
    assert_int_equal(partition_create(0), -EAGAIN); /* all is dirty */
    while (frame_scrub_step(frames, 1000) > 0)
        ;
    assert_int_equal(partition_create(0), 0);
    /* Its memory, and the APIC-access page. */
    assert_int_equal(frame_total(frames, FRAME_OWNER_PARTITION), GUEST_MEMORY / PAGE_SIZE + 1);
}

/* ---- A vCPU's start by messages ------------------------------------------------------------------------ */

static void test_startup_message(void **state)
{
    struct partition_vcpu *v = &partition->vcpus[1];

    (void)state;
    start_and_run();
    partition_vcpu_take_startup(v, 0x9a);
    assert_int_equal(v->wait, VCPU_WAIT_NOT);
    assert_int_equal(vcpu_read(&v->vcpu, VMCS_GUEST_CS_BASE), 0x9a000);
    assert_int_equal(vcpu_read(&v->vcpu, VMCS_GUEST_CS_SELECTOR), 0x9a00);
    assert_int_equal(vcpu_read(&v->vcpu, VMCS_GUEST_RIP), 0);
    assert_int_equal(vcpu_read_cr0(&v->vcpu), X86_CR0_ET | X86_CR0_CD | X86_CR0_NW);
    v->vcpu.registers[VCPU_RAX] = 77;
    partition_vcpu_take_startup(v, 0x12); /* only the first counts */
    assert_int_equal(vcpu_read(&v->vcpu, VMCS_GUEST_CS_BASE), 0x9a000);
    partition_vcpu_take_init(v);
    assert_int_equal(v->wait, VCPU_WAIT_SIPI);
    assert_int_equal(v->vcpu.registers[VCPU_RAX], 0);
    assert_int_equal(vcpu_read(&v->vcpu, VMCS_GUEST_RIP), 0xfff0);
    partition_vcpu_take_startup(v, 0x12);
    assert_int_equal(vcpu_read(&v->vcpu, VMCS_GUEST_CS_BASE), 0x12000);
}

/* The first processor's INIT leads to the firmware: the partition begins anew. */
static void test_init_of_first(void **state)
{
    (void)state;
    start_and_run();
    partition_vcpu_take_init(&partition->vcpus[0]);
    park_one_by_one(PARTITION_RUNNING, PARTITION_STARTING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_start, two_vcpus),
        cmocka_unit_test_setup(test_start_in_steps, two_vcpus),
        cmocka_unit_test_setup(test_start_without_kernel, two_vcpus),
        cmocka_unit_test_setup(test_dedicated_homes, two_vcpus),
        cmocka_unit_test_setup(test_shared_homes, two_vcpus),
        cmocka_unit_test_setup(test_power_off, two_vcpus),
        cmocka_unit_test_setup(test_guest_reset, two_vcpus),
        cmocka_unit_test_setup(test_crash, two_vcpus),
        cmocka_unit_test_setup(test_machine_check, two_vcpus),
        cmocka_unit_test_setup(test_stop, two_vcpus),
        cmocka_unit_test_setup(test_stop_of_resetting, two_vcpus),
        cmocka_unit_test_setup(test_restart_delay, two_vcpus),
        cmocka_unit_test_setup(test_pause, two_vcpus),
        cmocka_unit_test_setup(test_power_off_while_pausing, two_vcpus),
        cmocka_unit_test_setup(test_machine_check_at_rest, two_vcpus),
        cmocka_unit_test_setup(test_destroy, two_vcpus),
        cmocka_unit_test_setup(test_startup_message, two_vcpus),
        cmocka_unit_test_setup(test_init_of_first, two_vcpus),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
