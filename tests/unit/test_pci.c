// SPDX-License-Identifier: BSD-2-Clause
/* core/vdev/pci.c: the host bridge at every width, and nobody anywhere else. */
#include "core/vdev/pci.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ADDRESS 0
#define DATA    4

static struct pci pci;

static int set_up(void **state)
{
    (void)state;
    pci_init(&pci);
    return 0;
}

static uint32_t config(unsigned bus, unsigned device, unsigned function, unsigned index)
{
    pci_write(&pci, ADDRESS, 4, 0x80000000 | bus << 16 | device << 11 | function << 8 | index);
    return pci_read(&pci, DATA, 4);
}

/* Fails when the bridge is not what Linux's and Xen's probes of mechanism 1 look for: a host bridge at
 * 00:00.0. */
static void host_bridge(void **state)
{
    (void)state;
    assert_int_equal(config(0, 0, 0, 0x00), 0x12378086);
    assert_int_equal(config(0, 0, 0, 0x08) >> 8, 0x060000);
    assert_int_equal(config(0, 0, 0, 0x0c), 0); /* one function, header type 0 */
    /* No window, no ROM, no capability, no interrupt: sizing finds nothing. */
    for (unsigned index = 0x10; index < 0x100; index += 4) {
        pci_write(&pci, ADDRESS, 4, 0x80000000 | index);
        pci_write(&pci, DATA, 4, 0xffffffff);
        assert_int_equal(pci_read(&pci, DATA, 4), 0);
    }
    /* The four bytes of a register, in every width. */
    config(0, 0, 0, 0x08);
    assert_int_equal(pci_read(&pci, DATA + 3, 1), 0x06);
    assert_int_equal(pci_read(&pci, DATA + 2, 2), 0x0600);
    assert_int_equal(pci_read(&pci, DATA, 2), 0x0002);
    config(0, 0, 0, 0x00);
    assert_int_equal(pci_read(&pci, DATA, 1), 0x86);
    assert_int_equal(pci_read(&pci, DATA + 2, 1), 0x37);
    assert_int_equal(pci_read(&pci, DATA + 1, 2), 0x3780);
}

/* Fails when any other bus, device or function answers. */
static void nobody_else(void **state)
{
    (void)state;
    for (unsigned bus = 0; bus < 256; bus++) {
        for (unsigned id = bus == 0; id < 256; id++) {
            assert_int_equal(config(bus, id >> 3, id & 7, 0), 0xffffffff);
            assert_int_equal(pci_read(&pci, DATA + 2, 2), 0xffff);
            assert_int_equal(pci_read(&pci, DATA + 1, 1), 0xff);
        }
    }
    pci_write(&pci, ADDRESS, 4, 0x00000000);
    assert_int_equal(pci_read(&pci, DATA, 4), 0xffffffff);
}

/* Fails when the address register takes less than four bytes, or keeps its reserved bits. */
static void address(void **state)
{
    (void)state;
    pci_write(&pci, ADDRESS, 4, 0xffffffff);
    assert_int_equal(pci_read(&pci, ADDRESS, 4), 0x80fffffc);
    pci_write(&pci, ADDRESS, 4, 0x80000000);
    /* Linux writes 1 to 0xCFB before it tries mechanism 1; Xen and it write zeros for mechanism 2. */
    pci_write(&pci, 3, 1, 1);
    pci_write(&pci, 0, 1, 0xff);
    pci_write(&pci, 2, 2, 0xffff);
    assert_int_equal(pci_read(&pci, ADDRESS, 4), 0x80000000);
    assert_int_equal(pci_read(&pci, 0, 1), 0xff);
    assert_int_equal(pci_read(&pci, 2, 2), 0xffff);
    assert_int_equal(pci_read(&pci, 2, 4), 0xffffffff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(host_bridge, set_up),
        cmocka_unit_test_setup(nobody_else, set_up),
        cmocka_unit_test_setup(address, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
