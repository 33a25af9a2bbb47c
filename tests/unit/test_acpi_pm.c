// SPDX-License-Identifier: BSD-2-Clause
/* core/vdev/acpi_pm.c: PM1 registers at every width, the SCI, the timer's exactness, all ways to off and
 * reset. */
#include "core/vdev/acpi_pm.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/fake_host.h"

#define IRQ    9
#define TSC_HZ 2999999929ULL

/* Offsets from ACPI_PM_BASE. */
enum { STATUS = 0, ENABLE = 2, CONTROL = 4, TIMER = 8 };

static struct fake_host fake;
static struct acpi_pm pm;

static int set_up(void **state)
{
    (void)state;
    fake_host_init(&fake, TSC_HZ);
    acpi_pm_init(&pm, &fake.host, IRQ);
    return 0;
}

/* Fails when a bit is kept that does not exist, or an access of another width differs from the bytes. */
static void registers(void **state)
{
    (void)state;
    assert_int_equal(acpi_pm_read(&pm, STATUS, 4), 0);
    assert_int_equal(acpi_pm_read(&pm, CONTROL, 2), ACPI_PM_SCI_EN);
    acpi_pm_write(&pm, ENABLE, 2, 0xffff);
    assert_int_equal(acpi_pm_read(&pm, ENABLE, 2), 0x0521);
    assert_int_equal(acpi_pm_read(&pm, ENABLE, 1), 0x21);
    assert_int_equal(acpi_pm_read(&pm, ENABLE + 1, 1), 0x05);
    assert_int_equal(acpi_pm_read(&pm, STATUS, 4), 0x05210000);
    acpi_pm_write(&pm, ENABLE, 1, 0);
    assert_int_equal(acpi_pm_read(&pm, ENABLE, 2), 0x0500);
    acpi_pm_write(&pm, ENABLE + 1, 1, 1);
    assert_int_equal(acpi_pm_read(&pm, ENABLE, 2), 0x0100);
    acpi_pm_write(&pm, STATUS, 4, 0);
    assert_int_equal(acpi_pm_read(&pm, ENABLE, 2), 0);
    /* One access over two registers. */
    acpi_pm_write(&pm, ENABLE, 4, 0x04020020);
    assert_int_equal(acpi_pm_read(&pm, ENABLE, 4), 0x04030020);
    /* SCI_EN stays, the write-only bits read as zero, SLP_TYP is kept. */
    acpi_pm_write(&pm, CONTROL, 2, 0xdffe);
    assert_int_equal(acpi_pm_read(&pm, CONTROL, 2), 0x1c03);
    acpi_pm_write(&pm, CONTROL, 4, 0);
    assert_int_equal(acpi_pm_read(&pm, CONTROL, 4), 0x0001);
    assert_int_equal(fake.powers[VDEV_POWER_OFF], 0);
}

/* Fails when anything but SLP_EN with the type of S5 turns the power off, at any width. */
static void power_off(void **state)
{
    (void)state;
    acpi_pm_write(&pm, CONTROL, 2, ACPI_PM_SLP_EN | 5 << ACPI_PM_SLP_TYP_SHIFT);
    acpi_pm_write(&pm, CONTROL, 1, 0x20);
    acpi_pm_write(&pm, STATUS, 4, 0x20002000);
    acpi_pm_write(&pm, TIMER, 4, 0xffffffff);
    assert_int_equal(fake.powers[VDEV_POWER_OFF], 0);
    acpi_pm_write(&pm, CONTROL, 2, ACPI_PM_SLP_EN);
    assert_int_equal(fake.powers[VDEV_POWER_OFF], 1);
    acpi_pm_write(&pm, CONTROL + 1, 1, ACPI_PM_SLP_EN >> 8);
    assert_int_equal(fake.powers[VDEV_POWER_OFF], 2);
    acpi_pm_write(&pm, CONTROL, 4, ACPI_PM_SLP_EN);
    assert_int_equal(fake.powers[VDEV_POWER_OFF], 3);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 0);
}

/* Fails when the SCI is not the level of status and enable, or status is not cleared by writing ones. */
static void power_button(void **state)
{
    (void)state;
    assert_false(acpi_pm_press_power_button(&pm));
    assert_false(fake.irq[IRQ]);
    acpi_pm_write(&pm, ENABLE, 2, ACPI_PM_PWRBTN);
    assert_true(fake.irq[IRQ]);
    acpi_pm_write(&pm, STATUS, 2, (uint16_t)~ACPI_PM_PWRBTN);
    assert_true(fake.irq[IRQ]);
    acpi_pm_write(&pm, STATUS, 2, ACPI_PM_PWRBTN);
    assert_false(fake.irq[IRQ]);
    assert_true(acpi_pm_press_power_button(&pm));
    assert_true(fake.irq[IRQ]);
    assert_int_equal(acpi_pm_read(&pm, STATUS, 2), ACPI_PM_PWRBTN);
    /* Another byte's ones do not reach it. */
    acpi_pm_write(&pm, STATUS, 1, 0xff);
    assert_true(fake.irq[IRQ]);
    acpi_pm_write(&pm, STATUS + 1, 1, 0xff);
    assert_false(fake.irq[IRQ]);

    acpi_pm_signal_rtc(&pm);
    assert_false(fake.irq[IRQ]);
    assert_int_equal(acpi_pm_read(&pm, STATUS, 2), ACPI_PM_RTC);
    acpi_pm_write(&pm, ENABLE, 2, ACPI_PM_RTC);
    assert_true(fake.irq[IRQ]);
}

/* Fails when the timer is not floor(TSC * 3579545 / frequency), however far away and however often it was
 * read. */
static void timer(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 5000; i++) {
        fake.now = i * i * i * 8191;
        assert_int_equal(acpi_pm_read(&pm, TIMER, 4),
                         (uint32_t)((unsigned __int128)fake.now * ACPI_PM_TIMER_HZ / TSC_HZ));
    }
    fake.now = TSC_HZ;
    assert_int_equal(acpi_pm_read(&pm, TIMER, 4), ACPI_PM_TIMER_HZ);
    assert_int_equal(acpi_pm_read(&pm, TIMER, 2), ACPI_PM_TIMER_HZ & 0xffff);
    assert_int_equal(acpi_pm_read(&pm, TIMER + 2, 1), ACPI_PM_TIMER_HZ >> 16);
    fake.now--;
    assert_int_equal(acpi_pm_read(&pm, TIMER, 4), ACPI_PM_TIMER_HZ - 1);
}

/* Fails when TMR_STS does not come with each change of bit 31, just then, and with an SCI if that is enabled.
 */
static void timer_status(void **state)
{
    (void)state;
    assert_true(acpi_pm_deadline(&pm) == VDEV_NEVER);
    acpi_pm_write(&pm, ENABLE, 2, ACPI_PM_TMR);
    for (uint64_t half = 1; half <= 4; half++) {
        fake.now = acpi_pm_deadline(&pm) - 1;
        acpi_pm_expire(&pm, fake.now);
        assert_false(fake.irq[IRQ]);
        assert_int_equal(acpi_pm_read(&pm, TIMER, 4), (uint32_t)(half << 31) - 1);
        fake.now++;
        acpi_pm_expire(&pm, fake.now);
        assert_true(fake.irq[IRQ]);
        assert_int_equal(acpi_pm_read(&pm, TIMER, 4), (uint32_t)(half << 31));
        assert_true(acpi_pm_deadline(&pm) == VDEV_NEVER);
        acpi_pm_write(&pm, STATUS, 2, ACPI_PM_TMR);
        assert_false(fake.irq[IRQ]);
    }
    /* Without the enable nobody waits, but the status is there for who looks. */
    acpi_pm_write(&pm, ENABLE, 2, 0);
    fake.now += 700 * TSC_HZ;
    assert_int_equal(acpi_pm_read(&pm, STATUS, 2), ACPI_PM_TMR);
}

/* Fails when one of the three ways does not reset, or something else written there does. */
static void resets(void **state)
{
    (void)state;
    acpi_pm_write_reset(&pm, 0x02);
    assert_int_equal(acpi_pm_read_reset(&pm), 0x02);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 0);
    acpi_pm_write_reset(&pm, ACPI_PM_RESET_NOW);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 1);
    acpi_pm_write_reset(&pm, 0x06); /* no edge */
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 1);
    acpi_pm_write_reset(&pm, 0x00);
    acpi_pm_write_reset(&pm, 0x0e);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 2);

    assert_int_equal(acpi_pm_read_fast_reset(&pm), 0x02);
    acpi_pm_write_fast_reset(&pm, 0x00);
    acpi_pm_write_fast_reset(&pm, 0xfe);
    assert_int_equal(acpi_pm_read_fast_reset(&pm), 0x02);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 2);
    acpi_pm_write_fast_reset(&pm, 0x03);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 3);

    for (unsigned command = 0; command < 256; command++)
        acpi_pm_write_keyboard(&pm, (uint8_t)command);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 3 + 8); /* F0, F2, ... FE */
    acpi_pm_write_keyboard(&pm, 0xfe);
    assert_int_equal(fake.powers[VDEV_POWER_RESET], 12);
    assert_int_equal(fake.powers[VDEV_POWER_OFF], 0);
}

/* Fails when a reset leaves a register or the SCI. */
static void reset(void **state)
{
    struct acpi_pm fresh = pm;

    (void)state;
    acpi_pm_write(&pm, ENABLE, 4, 0x1c020521);
    acpi_pm_press_power_button(&pm);
    acpi_pm_write_reset(&pm, 0x06);
    fake.now = 700 * TSC_HZ;
    acpi_pm_expire(&pm, fake.now);
    assert_true(fake.irq[IRQ]);
    fake.now = 0; /* the TSC starts anew */
    acpi_pm_reset(&pm);
    assert_false(fake.irq[IRQ]);
    assert_memory_equal(&pm, &fresh, sizeof(pm));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(registers, set_up),    cmocka_unit_test_setup(power_off, set_up),
        cmocka_unit_test_setup(power_button, set_up), cmocka_unit_test_setup(timer, set_up),
        cmocka_unit_test_setup(timer_status, set_up), cmocka_unit_test_setup(resets, set_up),
        cmocka_unit_test_setup(reset, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
