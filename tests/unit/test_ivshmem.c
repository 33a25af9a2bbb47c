// SPDX-License-Identifier: BSD-2-Clause
/* core/vdev/ivshmem.c on a bus: what drivers look for, the registers, the memory where it is emulated. */
#include "core/vdev/ivshmem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PEER 5
#define SIZE KIB(64)

static struct pci pci;
static struct ivshmem ivshmem;
static uint8_t region[SIZE + 8] __aligned(PAGE_SIZE);
static unsigned rings, rung_peer, rung_vector, delivered;

static void ring(struct ivshmem *who, unsigned peer, unsigned vector)
{
    assert_ptr_equal(who, &ivshmem);
    rings++;
    rung_peer = peer;
    rung_vector = vector;
}

static void deliver(void *context, const struct lapic_message *message)
{
    assert_ptr_equal(context, &pci);
    delivered = message->vector;
}

static void build(void *memory, uint64_t size)
{
    static const struct ivshmem_ops ops = {.ring = ring};
    static const struct msix_ops msix_ops = {.deliver = deliver};
    const struct ivshmem_settings settings = {.peer = PEER,
                                              .memory = memory,
                                              .size = size,
                                              .ops = &ops,
                                              .msix_ops = &msix_ops,
                                              .msix_context = &pci};

    rings = delivered = 0;
    memset(region, 0, sizeof(region));
    pci_init(&pci);
    ivshmem_init(&ivshmem, &settings);
    assert_int_equal(pci_add(&pci, &ivshmem.function), 0);
}

static int set_up(void **state)
{
    (void)state;
    build(region, SIZE);
    return 0;
}

static uint32_t config(unsigned index)
{
    pci_write(&pci, 0, 4, 0x80000800 | index);
    return pci_read(&pci, 4, 4);
}

static void config_write(unsigned index, uint32_t value)
{
    (void)config(index);
    pci_write(&pci, 4, 4, value);
}

static uint64_t bar(unsigned n)
{
    return ivshmem.function.bars[n].address;
}

static uint64_t read(uint64_t address, unsigned size)
{
    uint64_t value = 0xdead;

    assert_true(pci_mmio_read(&pci, GPA(address), size, &value));
    return value;
}

static void write(uint64_t address, unsigned size, uint64_t value)
{
    assert_true(pci_mmio_write(&pci, GPA(address), size, value));
}

/* Fails when drivers for the device of that name would not bind: numbers, class, revision, BARs, MSI-X. */
static void identity(void **state)
{
    (void)state;
    assert_int_equal(config(0x00), 0x11101af4);
    assert_int_equal(config(0x08), 0x05000001);
    assert_int_equal(config(0x2c), 0x11001af4);
    assert_int_equal(config(0x34), 0x40);
    assert_int_equal(config(0x40), (IVSHMEM_VECTORS - 1) << 16 | 0x11);
    assert_int_equal(config(0x10) & 0xf, 0);
    assert_int_equal(config(0x18) & 0xf, 0xc);
    assert_true(ivshmem_memory_address(&ivshmem).value == (config(0x18) & ~0xfu));
    config_write(0x10, 0xffffffff);
    assert_int_equal(config(0x10), 0xffffff00);
    config_write(0x18, 0xffffffff);
    assert_int_equal(config(0x18), (uint32_t)(0 - SIZE) | 0xc);
}

/* Fails when a register is elsewhere, or answers to what the specification does not allow. */
static void registers(void **state)
{
    (void)state;
    for (unsigned at = 0; at < IVSHMEM_REGS_SIZE; at += 4)
        assert_int_equal(read(bar(0) + at, 4), at == 8 ? PEER : 0);
    assert_int_equal(read(bar(0) + 8, 1), 0);
    assert_int_equal(read(bar(0) + 8, 8), 0);
    for (unsigned at = 0; at < IVSHMEM_REGS_SIZE; at++) {
        for (unsigned size = 1; size <= 8 && at + size <= IVSHMEM_REGS_SIZE; size *= 2) {
            if (at != 12 || size != 4)
                write(bar(0) + at, size, 0x00030002);
        }
    }
    assert_int_equal(rings, 0);
    write(bar(0) + 12, 4, 0x00030002);
    assert_int_equal(rings, 1);
    assert_int_equal(rung_peer, 3);
    assert_int_equal(rung_vector, 2);
    write(bar(0) + 12, 4, 0xfffffffe);
    assert_int_equal(rung_peer, 0xffff);
    assert_int_equal(rung_vector, 0xfffe);
    assert_int_equal(read(bar(0) + 12, 4), 0);
}

/* Fails when an access to the memory misses it by a byte, or touches more than it says. */
static void memory(void **state)
{
    (void)state;
    static const uint8_t text[16] = "0123456789abcdef";
    const uint64_t moved = GIB(8);

    config_write(0x1c, (uint32_t)(moved >> 32));
    config_write(0x18, (uint32_t)moved);
    memcpy(region, text, sizeof(text));
    for (unsigned at = 0; at < 8; at++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            uint64_t expected = 0;

            memcpy(&expected, &text[at], size);
            assert_true(read(moved + at, size) == expected);
            memset(region, 0, sizeof(region));
            write(moved + at, size, UINT64_MAX);
            for (unsigned i = 0; i < 16; i++)
                assert_int_equal(region[i], i >= at && i < at + size ? 0xff : 0);
            memcpy(region, text, sizeof(text));
        }
    }
    write(moved + SIZE - 1, 1, 0x77);
    assert_int_equal(region[SIZE - 1], 0x77);
    assert_false(pci_mmio_write(&pci, GPA(moved + SIZE - 4), 8, UINT64_MAX));
    assert_int_equal(region[SIZE], 0);
}

/* Fails when a doorbell alone lacks the BAR that drivers want, or remembers what is written there. */
static void doorbell_alone(void **state)
{
    (void)state;
    build(NULL, 0);
    config_write(0x18, 0xffffffff);
    assert_int_equal(config(0x18), 0xfffff00c);
    pci_reset(&pci);
    for (unsigned at = 0; at < PAGE_SIZE; at += 8) {
        write(bar(2) + at, 8, UINT64_MAX);
        assert_int_equal(read(bar(2) + at, 8), 0);
    }
    assert_int_equal(read(bar(0) + 8, 4), PEER);
    write(bar(0) + 12, 4, 7);
    assert_int_equal(rings, 1);
}

/* Fails when a peer's ring does not come out as the message that the guest has written for the vector. */
static void interrupts(void **state)
{
    (void)state;
    for (unsigned i = 0; i < IVSHMEM_VECTORS; i++) {
        write(bar(1) + 16 * i, 8, 0xfee00000);
        write(bar(1) + 16 * i + 8, 8, 0x40 + i);
    }
    config_write(0x40, 0x80000000);
    for (unsigned i = 0; i < IVSHMEM_VECTORS; i++) {
        ivshmem_interrupt(&ivshmem, i);
        assert_int_equal(delivered, 0x40 + i);
    }
    delivered = 0;
    ivshmem_interrupt(&ivshmem, IVSHMEM_VECTORS);
    pci_reset(&pci);
    ivshmem_interrupt(&ivshmem, 0);
    assert_int_equal(delivered, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(identity, set_up),   cmocka_unit_test_setup(registers, set_up),
        cmocka_unit_test_setup(memory, set_up),     cmocka_unit_test_setup(doorbell_alone, set_up),
        cmocka_unit_test_setup(interrupts, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
