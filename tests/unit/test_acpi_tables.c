// SPDX-License-Identifier: BSD-2-Clause
/*
 * drivers/acpi_tables.c over tables made by hand (ACPI 6.4, chapter 5). Fails when a processor is missed,
 * counted twice or invented, when a broken table is believed, or when one outside the mapped memory is not
 * reached.
 */
#include "drivers/acpi_tables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "lib/errors.h"
#include "mm/address_space.h"

/* ---- Memory
 * ------------------------------------------------------------------------------------------------- */

static bool mapped, mappable;

bool address_space_is_mapped(hpa_t base, uint64_t size)
{
    (void)base, (void)size;
    return mapped;
}

int address_space_map_memory(hpa_t base, uint64_t size)
{
    (void)base, (void)size;
    mapped = mappable;
    return mappable ? 0 : -ENOMEM;
}

/* ---- Tables
 * ------------------------------------------------------------------------------------------------- */

enum { HEADER = 36, MADT_HEADER = 44 };

static uint8_t rsdp[36];
static uint8_t xsdt[HEADER + 8];
static uint8_t madt[65536];
static size_t madt_size;

static void checksum(uint8_t *bytes, size_t size, size_t at)
{
    uint8_t sum = 0;

    bytes[at] = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    bytes[at] = (uint8_t)-sum;
}

static void put_le(uint8_t *at, uint64_t value, unsigned size)
{
    memcpy(at, &value, size);
}

static void finish_table(uint8_t *table, const char *signature, size_t size)
{
    memcpy(table, signature, 4);
    put_le(table + 4, size, 4);
    checksum(table, size, 9);
}

static void add_entry(const uint8_t *entry, size_t size)
{
    memcpy(madt + madt_size, entry, size);
    madt_size += size;
}

static void add_local_apic(uint8_t id, uint32_t flags)
{
    uint8_t entry[8] = {0, 8, id, id};

    put_le(entry + 4, flags, 4);
    add_entry(entry, sizeof(entry));
}

static void add_x2apic(uint32_t id, uint32_t flags)
{
    uint8_t entry[16] = {9, 16};

    put_le(entry + 4, id, 4);
    put_le(entry + 8, flags, 4);
    add_entry(entry, sizeof(entry));
}

static struct acpi_machine machine;

static void read_tables(void)
{
    finish_table(madt, "APIC", madt_size);
    put_le(xsdt + HEADER, (uint64_t)(uintptr_t)madt, 8);
    finish_table(xsdt, "XSDT", sizeof(xsdt));
    memcpy(rsdp, "RSD PTR ", 8);
    rsdp[15] = 2;
    put_le(rsdp + 24, (uint64_t)(uintptr_t)xsdt, 8);
    checksum(rsdp, 20, 8);
    acpi_machine_read(&machine, rsdp);
}

static int start(void **state)
{
    (void)state;
    memset(rsdp, 0, sizeof(rsdp));
    memset(xsdt, 0, sizeof(xsdt));
    memset(madt, 0, sizeof(madt));
    madt_size = MADT_HEADER;
    mapped = mappable = true;
    return 0;
}

/* ---- Tests
 * -------------------------------------------------------------------------------------------------- */

static void assert_processors(const uint32_t *ids, unsigned count)
{
    assert_int_equal(machine.processor_count, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(machine.processors[i], ids[i]);
}

static void enabled_ones(void **state)
{
    static const uint32_t ids[] = {0, 4, 254, 256, 1000};

    (void)state;
    add_local_apic(0, 1);
    add_local_apic(2, 0); /* disabled */
    add_local_apic(3, 2); /* only to be enabled later */
    add_local_apic(4, 1 | 2);
    add_local_apic(254, 1);
    add_local_apic(255, 1); /* all processors, not one */
    add_x2apic(256, 1);
    add_x2apic(257, 0);
    add_x2apic(UINT32_MAX, 1);
    add_x2apic(1000, 1);
    read_tables();
    assert_true(machine.found);
    assert_processors(ids, ARRAY_SIZE(ids));
    assert_int_equal(machine.processors_ignored, 0);
}

static void each_once(void **state)
{
    static const uint32_t ids[] = {1, 0, 300};

    (void)state;
    add_local_apic(1, 1);
    add_local_apic(0, 1);
    add_x2apic(0, 1);
    add_x2apic(300, 1);
    add_x2apic(1, 1);
    add_x2apic(300, 1);
    read_tables();
    assert_processors(ids, ARRAY_SIZE(ids));
}

static void too_many(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < ACPI_PROCESSORS_MAX + 5; id++)
        add_x2apic(1000 + id, 1);
    add_x2apic(1000, 1);
    read_tables();
    assert_int_equal(machine.processor_count, ACPI_PROCESSORS_MAX);
    assert_int_equal(machine.processors[ACPI_PROCESSORS_MAX - 1], 1000 + ACPI_PROCESSORS_MAX - 1);
    assert_int_equal(machine.processors_ignored, 5);
}

/* Entries of other kinds are passed over by their length; one without a length, or too long, ends the table.
 */
static void other_entries(void **state)
{
    static const uint8_t unknown[] = {0x7f, 3, 0}, ioapic[] = {1, 12, 9, 0, 0, 0, 0xc0, 0xfe, 24, 0, 0, 0};
    static const uint8_t override[] = {2, 10, 0, 9, 20, 0, 0, 0, 0x0f, 0}, endless[] = {0, 0};
    static const uint32_t ids[] = {7, 8};

    (void)state;
    add_entry(unknown, sizeof(unknown));
    add_local_apic(7, 1);
    add_entry(ioapic, sizeof(ioapic));
    add_entry(override, sizeof(override));
    add_local_apic(8, 1);
    add_entry(endless, sizeof(endless));
    add_local_apic(9, 1);
    read_tables();
    assert_processors(ids, ARRAY_SIZE(ids));
    assert_int_equal(machine.ioapic_count, 1);
    assert_int_equal(machine.ioapics[0].base.value, 0xfec00000);
    assert_int_equal(machine.ioapics[0].gsi_base, 24);
    assert_int_equal(machine.isa_irqs[9].gsi, 20);
    assert_true(machine.isa_irqs[9].level);
    assert_true(machine.isa_irqs[9].active_low);

    madt_size -= sizeof(endless) + 8 + 4; /* the last entry is cut */
    read_tables();
    assert_processors(ids, 1);
}

static void short_entries(void **state)
{
    static const uint8_t local_apic[] = {0, 5, 1, 1, 1}, x2apic[] = {9, 9, 0, 0, 1, 0, 0, 0, 1};

    (void)state;
    add_entry(local_apic, sizeof(local_apic));
    add_entry(x2apic, sizeof(x2apic));
    read_tables();
    assert_int_equal(machine.processor_count, 0);
}

static void broken_tables(void **state)
{
    (void)state;
    acpi_machine_read(&machine, NULL);
    assert_false(machine.found);
    assert_int_equal(machine.isa_irqs[4].gsi, 4);

    add_local_apic(1, 1);
    read_tables();
    assert_true(machine.found);
    madt[10] ^= 1;
    acpi_machine_read(&machine, rsdp);
    assert_false(machine.found);
    madt[10] ^= 1;
    xsdt[9] ^= 1;
    acpi_machine_read(&machine, rsdp);
    assert_false(machine.found);
    xsdt[9] ^= 1;
    rsdp[9] ^= 1;
    acpi_machine_read(&machine, rsdp);
    assert_false(machine.found);
}

/* Some firmware calls the memory that its tables are in no more than reserved. */
static void in_reserved_memory(void **state)
{
    (void)state;
    add_local_apic(1, 1);
    mapped = false;
    read_tables();
    assert_int_equal(machine.processor_count, 1);
    mapped = mappable = false;
    acpi_machine_read(&machine, rsdp);
    assert_false(machine.found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(enabled_ones, start),       cmocka_unit_test_setup(each_once, start),
        cmocka_unit_test_setup(too_many, start),           cmocka_unit_test_setup(other_entries, start),
        cmocka_unit_test_setup(short_entries, start),      cmocka_unit_test_setup(broken_tables, start),
        cmocka_unit_test_setup(in_reserved_memory, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
