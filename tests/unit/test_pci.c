// SPDX-License-Identifier: BSD-2-Clause
/* core/vdev/pci.c: the host bridge at every width and nobody anywhere else; functions, their registers and
 * BARs. */
#include "core/vdev/pci.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

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

/* ---- A function with everything ------------------------------------------------------------------------ */

#define BAR_SMALL  0
#define BAR_MSIX   1
#define BAR_LARGE  2
#define LARGE_SIZE MIB(64)

static struct pci_function device;
static struct msix msix;
static unsigned delivered;
static struct {
    unsigned bar, size;
    uint64_t offset, value;
    unsigned reads, writes;
} seen;

static uint64_t device_read(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size)
{
    assert_ptr_equal(function, &device);
    seen.bar = bar;
    seen.offset = offset;
    seen.size = size;
    seen.reads++;
    return offset ^ 0x5a;
}

static void device_write(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size,
                         uint64_t value)
{
    (void)device_read(function, bar, offset, size);
    seen.reads--;
    seen.writes++;
    seen.value = value;
}

static void deliver(void *context, const struct lapic_message *message)
{
    (void)context;
    assert_int_equal(message->vector, 0x41);
    delivered++;
}

static int set_up_device(void **state)
{
    static const struct pci_function_ops ops = {.read = device_read, .write = device_write};
    static const struct msix_ops msix_ops = {.deliver = deliver};
    static const struct pci_identity identity = {0x1234, 0x5678, 0x9abc, 0xdef0, 0x42, 0x050607};

    (void)state;
    memset(&seen, 0, sizeof(seen));
    delivered = 0;
    pci_init(&pci);
    msix_init(&msix, 4, &msix_ops, NULL);
    pci_function_init(&device, &identity, &ops);
    pci_function_add_bar(&device, BAR_SMALL, 256, 0);
    assert_int_equal(pci_function_add_capability(&device, 9, 7), 0x40);
    pci_function_add_msix(&device, &msix, BAR_MSIX);
    pci_function_add_bar(&device, BAR_LARGE, LARGE_SIZE, PCI_BAR_64 | PCI_BAR_PREFETCH);
    assert_int_equal(pci_add(&pci, &device), 0);
    return 0;
}

static void put(unsigned index, unsigned size, uint32_t value)
{
    (void)config(0, 1, 0, index & 0xfc);
    pci_write(&pci, DATA + (index & 3), size, value);
}

static uint32_t take(unsigned index, unsigned size)
{
    (void)config(0, 1, 0, index & 0xfc);
    return pci_read(&pci, DATA + (index & 3), size);
}

/* Fails when a register of the header or the capability list is not where systems look for it. */
static void header(void **state)
{
    (void)state;
    assert_int_equal(config(0, 1, 0, 0x00), 0x56781234);
    assert_int_equal(config(0, 1, 0, 0x04), 0x00100006);
    assert_int_equal(config(0, 1, 0, 0x08), 0x05060742);
    assert_int_equal(config(0, 1, 0, 0x0c), 0);
    assert_int_equal(config(0, 1, 0, 0x2c), 0xdef09abc);
    assert_int_equal(config(0, 1, 0, 0x34), 0x40);
    assert_int_equal(config(0, 1, 0, 0x3c), 0); /* no interrupt pin */
    assert_int_equal(config(0, 1, 0, 0x40), 0x00004809);
    assert_int_equal(config(0, 1, 0, 0x48), 0x00030011); /* four vectors */
    assert_int_equal(config(0, 1, 0, 0x4c), MSIX_TABLE_OFFSET | BAR_MSIX);
    assert_int_equal(config(0, 1, 0, 0x50), MSIX_PBA_OFFSET | BAR_MSIX);
    assert_int_equal(config(0, 1, 1, 0x00), 0xffffffff); /* one function */
    assert_int_equal(config(0, 2, 0, 0x00), 0xffffffff);
    assert_int_equal(config(0, 17, 0, 0x00), 0xffffffff); /* not the same by fewer bits of the number */
    assert_int_equal(config(1, 1, 0, 0x00), 0xffffffff);
    assert_int_equal(take(0x09, 1), 0x07);
    assert_int_equal(take(0x0a, 2), 0x0506);
}

/* Fails when a guest can change a bit that it must not, or cannot change one that it may. */
static void writable_bits(void **state)
{
    (void)state;
    static const struct {
        unsigned index;
        uint32_t mask;
    } writable[] = {
        {0x04, 0x00000406}, {0x10, 0xffffff00}, {0x14, 0xfffff000},
        {0x18, 0xfc000000}, {0x1c, 0xffffffff}, {0x48, 0xc0000000},
    };

    for (unsigned index = 0; index < 0x100; index += 4) {
        uint32_t mask = 0;

        for (size_t i = 0; i < ARRAY_SIZE(writable); i++)
            mask |= writable[i].index == index ? writable[i].mask : 0;
        uint32_t before = take(index, 4);
        put(index, 4, 0xffffffff);
        assert_int_equal(take(index, 4), before | mask);
        put(index, 4, 0);
        assert_int_equal(take(index, 4), before & ~mask);
        for (unsigned byte = 0; byte < 4; byte++)
            put(index + byte, 1, before >> 8 * byte & 0xff);
        assert_int_equal(take(index, 4), before);
    }
    /* By halves, and each byte alone. */
    put(0x12, 2, 0x1234);
    assert_int_equal(take(0x10, 4) >> 16, 0x1234);
    put(0x11, 1, 0x77);
    assert_int_equal(take(0x10, 4), 0x12347700);
}

/* Fails when BARs overlap, are not aligned, leave the window, or hide the flags that sizing looks at. */
static void assigned(void **state)
{
    (void)state;
    assert_int_equal(take(0x10, 4), PCI_WINDOW_END - 0x1000);
    assert_int_equal(take(0x14, 4), PCI_WINDOW_END - 0x2000);
    assert_int_equal(take(0x18, 4), 0xf8000000 | 0xc);
    assert_int_equal(take(0x1c, 4), 0);
    put(0x10, 4, 0xffffffff);
    assert_int_equal(take(0x10, 4), 0xffffff00);
    put(0x18, 4, 0xffffffff);
    put(0x1c, 4, 0xffffffff);
    assert_int_equal(take(0x18, 4), 0xfc00000c);
    assert_int_equal(take(0x1c, 4), 0xffffffff);
}

/* Fails when an access reaches the wrong register, or one that is switched off or not wholly inside. */
static void memory(void **state)
{
    (void)state;
    const uint64_t small = PCI_WINDOW_END - 0x1000, large = 0xf8000000;
    uint64_t value;

    assert_true(pci_mmio_read(&pci, GPA(small + 0x0c), 4, &value));
    assert_int_equal(value, 0x0c ^ 0x5a);
    assert_int_equal(seen.bar, BAR_SMALL);
    assert_int_equal(seen.size, 4);
    assert_true(pci_mmio_write(&pci, GPA(large + LARGE_SIZE - 8), 8, 0x1122334455667788));
    assert_int_equal(seen.bar, BAR_LARGE);
    assert_true(seen.offset == LARGE_SIZE - 8 && seen.value == 0x1122334455667788 && seen.size == 8);
    assert_int_equal(seen.reads, 1);
    assert_int_equal(seen.writes, 1);

    assert_false(pci_mmio_read(&pci, GPA(small - 0x1001), 1, &value));
    assert_false(pci_mmio_read(&pci, GPA(small + 0x100), 1, &value));
    assert_false(pci_mmio_read(&pci, GPA(small + 0xfd), 4, &value));
    assert_false(pci_mmio_write(&pci, GPA(large - 1), 1, 0));
    assert_false(pci_mmio_write(&pci, GPA(large + LARGE_SIZE), 1, 0));
    assert_false(pci_mmio_write(&pci, GPA(large + LARGE_SIZE - 4), 8, 0));
    assert_false(pci_mmio_read(&pci, GPA(0), 4, &value));
    assert_false(pci_mmio_read(&pci, GPA(UINT64_MAX), 1, &value));

    /* The guest moves the large one above 4 GiB, the small one to the end of the address space of 32 bits. */
    put(0x1c, 4, 0x12);
    put(0x10, 4, 0xffffff00);
    assert_false(pci_mmio_read(&pci, GPA(large), 4, &value));
    assert_true(pci_mmio_read(&pci, GPA(0x1200000000ULL | large), 4, &value));
    assert_int_equal(seen.offset, 0);
    assert_true(pci_mmio_read(&pci, GPA(0xfffffff8), 8, &value));
    assert_int_equal(seen.offset, 0xf8);
    assert_false(pci_mmio_read(&pci, GPA(0xfffffffc), 8, &value));

    put(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    assert_false(pci_mmio_read(&pci, GPA(0xffffff00), 4, &value));
    assert_false(pci_mmio_write(&pci, GPA(0xffffff00), 4, 0));
    assert_int_equal(seen.reads, 3);
    assert_int_equal(seen.writes, 1);

    /* Reset brings everything back. */
    pci_reset(&pci);
    assert_int_equal(pci_read(&pci, ADDRESS, 4), 0);
    assigned(NULL);
    pci_reset(&pci);
    assert_true(pci_mmio_read(&pci, GPA(large), 4, &value));
}

/* Fails when the table is not in its BAR, or enable, mask and bus master do not reach it. */
static void message_signalled(void **state)
{
    (void)state;
    const gpa_t table = GPA(PCI_WINDOW_END - 0x2000);
    uint64_t value;

    assert_true(pci_mmio_write(&pci, GPA(table.value + 16), 8, 0xfee00000));
    assert_true(pci_mmio_write(&pci, GPA(table.value + 24), 8, 0x41));
    assert_true(pci_mmio_read(&pci, GPA(table.value + 16), 8, &value));
    assert_int_equal(value, 0xfee00000);
    msix_raise(&msix, 1);
    assert_int_equal(delivered, 0);
    put(0x4b, 1, 0x80);
    msix_raise(&msix, 1);
    assert_int_equal(delivered, 1);
    put(0x4a, 2, 0xc000);
    msix_raise(&msix, 1);
    assert_int_equal(delivered, 1);
    assert_true(pci_mmio_read(&pci, GPA(table.value + MSIX_PBA_OFFSET), 8, &value));
    assert_int_equal(value, 2);
    put(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    put(0x48, 4, 0x80000000);
    assert_int_equal(delivered, 1);
    put(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    assert_int_equal(delivered, 2);
    assert_int_equal(take(0x48, 4), 0x80030011);
    pci_reset(&pci);
    msix_raise(&msix, 1);
    assert_int_equal(delivered, 2);
    assert_true(pci_mmio_read(&pci, GPA(table.value + 24), 8, &value));
    assert_true(value == BIT(32));
    assert_int_equal(seen.reads + seen.writes, 0);
}

/* Fails when the window is used badly, twice, or beyond its ends, or a bus takes more than it has devices. */
static void places(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {MIB(512), KIB(4), MIB(256), KIB(64), MIB(128), 16, MIB(64)};
    static struct pci_function functions[PCI_DEVICES_MAX], too_large;
    static const struct pci_identity identity = {.vendor = 1};

    pci_init(&pci);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        pci_function_init(&functions[i], &identity, NULL);
        pci_function_add_bar(&functions[i], 0, 256, 0);
        pci_function_add_bar(&functions[i], 4, sizes[i], PCI_BAR_64);
        assert_int_equal(pci_add(&pci, &functions[i]), 0);
        for (size_t j = 0; j <= i; j++) {
            const struct pci_bar *a = &functions[i].bars[4], *b = &functions[j].bars[4],
                                 *c = &functions[j].bars[0];

            assert_true(a->address >= PCI_WINDOW_START && a->address + a->size <= PCI_WINDOW_END);
            assert_true(is_aligned(a->address, max_u64(a->size, PAGE_SIZE)));
            assert_true(i == j || align_down(a->address, PAGE_SIZE) >= b->address + b->size ||
                        b->address >= a->address + a->size);
            assert_true(c->address >= a->address + a->size ||
                        align_up(c->address + 1, PAGE_SIZE) <= a->address);
        }
    }
    pci_function_init(&too_large, &identity, NULL);
    pci_function_add_bar(&too_large, 0, MIB(64), 0);
    assert_int_equal(pci_add(&pci, &too_large), -ENOSPC);
    pci_function_init(&too_large, &identity, NULL);
    pci_function_add_bar(&too_large, 0, GIB(4), PCI_BAR_64);
    assert_int_equal(pci_add(&pci, &too_large), -ENOSPC);
    pci_function_init(&too_large, &identity, NULL);
    pci_function_add_bar(&too_large, 0, BIT(63), PCI_BAR_64);
    assert_int_equal(pci_add(&pci, &too_large), -ENOSPC);
    assert_int_equal(config(0, ARRAY_SIZE(sizes) + 1, 0, 0), 0xffffffff);

    for (size_t i = ARRAY_SIZE(sizes); i < PCI_DEVICES_MAX - 1; i++) {
        pci_function_init(&functions[i], &identity, NULL);
        assert_int_equal(pci_add(&pci, &functions[i]), 0);
        assert_int_equal(config(0, (unsigned)i + 1, 0, 0), 1);
    }
    pci_function_init(&too_large, &identity, NULL);
    assert_int_equal(pci_add(&pci, &too_large), -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(host_bridge, set_up),
        cmocka_unit_test_setup(nobody_else, set_up),
        cmocka_unit_test_setup(address, set_up),
        cmocka_unit_test_setup(header, set_up_device),
        cmocka_unit_test_setup(writable_bits, set_up_device),
        cmocka_unit_test_setup(assigned, set_up_device),
        cmocka_unit_test_setup(memory, set_up_device),
        cmocka_unit_test_setup(message_signalled, set_up_device),
        cmocka_unit_test_setup(places, set_up_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
