// SPDX-License-Identifier: BSD-2-Clause
#include "drivers/acpi_tables.h"

#include "arch/x86/cpu.h"
#include "lib/string.h"
#include "mm/address_space.h"
#include "mm/physmap.h"

struct rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} __packed;

struct table {
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem[6];
    char oem_table[8];
    uint32_t oem_revision;
    char creator[4];
    uint32_t creator_revision;
} __packed;

/* Longer than any; what claims more is no table. */
#define TABLE_LENGTH_MAX MIB(16)

/* FADT: byte offsets of the fields used (ACPI 6.4, table 5.9). */
enum {
    FADT_DSDT = 40,
    FADT_PM1A_CONTROL = 64,
    FADT_PM1B_CONTROL = 68,
    FADT_FLAGS = 112,
    FADT_RESET_REGISTER = 116,
    FADT_RESET_VALUE = 128,
    FADT_X_DSDT = 140,
};
#define FADT_FLAG_RESET BIT(10)

enum {
    MADT_ENTRIES = 44,
    MADT_LOCAL_APIC = 0,
    MADT_IOAPIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LOCAL_X2APIC = 9,
};
#define MADT_ENABLED         BIT(0)

#define PM1_SLEEP_ENABLE     BIT(13)
#define PM1_SLEEP_TYPE_SHIFT 10

static uint64_t read_le(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, at, size);
    return value;
}

/* A `size`-byte field at `offset` of `table`, 0 where the table is too short to have it. */
static uint64_t field(const struct table *table, uint32_t offset, unsigned size)
{
    return offset + size <= table->length ? read_le((const uint8_t *)table + offset, size) : 0;
}

static bool sums_to_zero(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint8_t sum = 0;

    while (size-- > 0)
        sum = (uint8_t)(sum + *bytes++);
    return sum == 0;
}

/* Some firmware keeps its tables in memory that it calls no more than reserved. */
static bool reach(uint64_t address, uint64_t size)
{
    return address_space_is_mapped(HPA(address), size) ||
           (address + size > address && address_space_map_memory(HPA(address), size) == 0);
}

/* The table at `address` if its length and checksum are right, else NULL. */
static const struct table *table_at(uint64_t address)
{
    if (address == 0 || !reach(address, sizeof(struct table)))
        return NULL;

    const struct table *table = physmap_pointer(HPA(address));
    if (table->length < sizeof(*table) || table->length > TABLE_LENGTH_MAX ||
        !reach(address, table->length) || !sums_to_zero(table, table->length))
        return NULL;
    return table;
}

static const struct table *find_table(const struct rsdp *rsdp, const char *signature)
{
    bool extended = rsdp->revision >= 2 && rsdp->xsdt != 0;
    const struct table *root = table_at(extended ? rsdp->xsdt : rsdp->rsdt);
    unsigned width = extended ? 8 : 4;

    if (root == NULL)
        return NULL;
    for (uint32_t offset = sizeof(*root); offset + width <= root->length; offset += width) {
        const struct table *table = table_at(field(root, offset, width));
        if (table != NULL && memcmp(table->signature, signature, 4) == 0)
            return table;
    }
    return NULL;
}

/* Firmware may list a processor twice, by a local APIC and an x2APIC entry. */
static void add_processor(struct acpi_machine *machine, uint32_t apic_id)
{
    for (unsigned i = 0; i < machine->processor_count; i++)
        if (machine->processors[i] == apic_id)
            return;
    if (machine->processor_count < ACPI_PROCESSORS_MAX)
        machine->processors[machine->processor_count++] = apic_id;
    else
        machine->processors_ignored++;
}

/* One MADT entry of `size` bytes (ACPI 6.4, section 5.2.12). */
static void read_madt_entry(struct acpi_machine *machine, const uint8_t *entry, unsigned size)
{
    unsigned kind = entry[0];

    if (kind == MADT_LOCAL_APIC && size >= 8 && (entry[4] & MADT_ENABLED) != 0) {
        if (entry[3] != UINT8_MAX) /* the broadcast id, no processor's */
            add_processor(machine, entry[3]);
    } else if (kind == MADT_LOCAL_X2APIC && size >= 16 && (entry[8] & MADT_ENABLED) != 0) {
        if (read_le(entry + 4, 4) != UINT32_MAX)
            add_processor(machine, (uint32_t)read_le(entry + 4, 4));
    } else if (kind == MADT_IOAPIC && size >= 12) {
        if (machine->ioapic_count < ACPI_IOAPICS_MAX)
            machine->ioapics[machine->ioapic_count++] =
                (struct acpi_ioapic){HPA(read_le(entry + 4, 4)), (uint32_t)read_le(entry + 8, 4)};
    } else if (kind == MADT_OVERRIDE && size >= 10 && entry[3] < 16) {
        unsigned flags = (unsigned)read_le(entry + 8, 2);
        machine->isa_irqs[entry[3]].gsi = (uint32_t)read_le(entry + 4, 4);
        machine->isa_irqs[entry[3]].active_low = (flags & 3) == 3;
        machine->isa_irqs[entry[3]].level = (flags >> 2 & 3) == 3;
    }
}

static void read_madt(struct acpi_machine *machine, const struct table *madt)
{
    const uint8_t *bytes = (const uint8_t *)madt;

    for (uint32_t offset = MADT_ENTRIES; offset + 2 <= madt->length;) {
        unsigned size = bytes[offset + 1];
        if (size < 2 || size > madt->length - offset)
            break;
        read_madt_entry(machine, bytes + offset, size);
        offset += size;
    }
}

/* The integer at `*at` of an AML package: ZeroOp, OneOp or BytePrefix (ACPI 6.4, section 20.2.3). */
static bool read_aml_integer(const uint8_t **at, const uint8_t *end, uint16_t *value)
{
    enum { AML_ZERO = 0x00, AML_ONE = 0x01, AML_BYTE = 0x0a };

    if (*at >= end)
        return false;
    uint8_t op = *(*at)++;
    if (op == AML_ZERO || op == AML_ONE) {
        *value = op;
        return true;
    }
    if (op != AML_BYTE || *at >= end)
        return false;
    *value = *(*at)++;
    return true;
}

/*
 * Finds `Name (_S5, Package {a, b, …})` by its bytes: the sleep types are constants there in every known
 * firmware, and an AML interpreter has no place in a hypervisor.
 */
static void read_s5(struct acpi_machine *machine, const struct table *dsdt)
{
    enum { AML_PACKAGE = 0x12 };
    const uint8_t *bytes = (const uint8_t *)dsdt;
    const uint8_t *end = bytes + dsdt->length;

    for (const uint8_t *at = bytes + sizeof(*dsdt); at + 8 < end; at++) {
        if (memcmp(at, "_S5_", 4) != 0 || at[4] != AML_PACKAGE)
            continue;
        at += 5;
        at += 1 + (*at >> 6); /* package length: the top two bits count the bytes that follow */
        at++;                 /* number of elements */
        machine->has_s5 = read_aml_integer(&at, end, &machine->sleep_type_s5a) &&
                          read_aml_integer(&at, end, &machine->sleep_type_s5b);
        return;
    }
}

static void read_fadt(struct acpi_machine *machine, const struct table *fadt)
{
    uint64_t dsdt_address = field(fadt, FADT_X_DSDT, 8);
    const struct table *dsdt = table_at(dsdt_address != 0 ? dsdt_address : field(fadt, FADT_DSDT, 4));

    machine->pm1a_control = (uint16_t)field(fadt, FADT_PM1A_CONTROL, 4);
    machine->pm1b_control = (uint16_t)field(fadt, FADT_PM1B_CONTROL, 4);
    machine->has_reset = (field(fadt, FADT_FLAGS, 4) & FADT_FLAG_RESET) != 0;
    machine->reset_space = (uint8_t)field(fadt, FADT_RESET_REGISTER, 1);
    machine->reset_address = field(fadt, FADT_RESET_REGISTER + 4, 8);
    machine->reset_value = (uint8_t)field(fadt, FADT_RESET_VALUE, 1);
    if (dsdt != NULL)
        read_s5(machine, dsdt);
}

void acpi_machine_read(struct acpi_machine *machine, const void *rsdp_copy)
{
    const struct rsdp *rsdp = rsdp_copy;

    *machine = (struct acpi_machine){.found = false};
    for (unsigned irq = 0; irq < 16; irq++)
        machine->isa_irqs[irq].gsi = irq;
    if (rsdp == NULL || memcmp(rsdp->signature, "RSD PTR ", 8) != 0 || !sums_to_zero(rsdp, 20))
        return;

    const struct table *madt = find_table(rsdp, "APIC");
    const struct table *fadt = find_table(rsdp, "FACP");
    machine->found = madt != NULL || fadt != NULL;
    if (madt != NULL)
        read_madt(machine, madt);
    if (fadt != NULL)
        read_fadt(machine, fadt);
}

void acpi_machine_power_off(const struct acpi_machine *machine)
{
    if (machine->has_s5 && machine->pm1a_control != 0)
        cpu_out16(machine->pm1a_control,
                  (uint16_t)(PM1_SLEEP_ENABLE | machine->sleep_type_s5a << PM1_SLEEP_TYPE_SHIFT));
    if (machine->has_s5 && machine->pm1b_control != 0)
        cpu_out16(machine->pm1b_control,
                  (uint16_t)(PM1_SLEEP_ENABLE | machine->sleep_type_s5b << PM1_SLEEP_TYPE_SHIFT));
    /* Bochs without ACPI ends when it reads this at its own port. */
    for (const char *c = "Shutdown"; *c != '\0'; c++)
        cpu_out8(0x8900, (uint8_t)*c);
}

void acpi_machine_reset(const struct acpi_machine *machine)
{
    if (machine->has_reset && machine->reset_space == 1)
        cpu_out8((uint16_t)machine->reset_address, machine->reset_value);
    if (machine->has_reset && machine->reset_space == 0 &&
        address_space_is_mapped(HPA(machine->reset_address), 1))
        *(volatile uint8_t *)physmap_pointer(HPA(machine->reset_address)) = machine->reset_value;
    cpu_out8(0xcf9, 0x02); /* PIIX and ICH: a hard reset */
    cpu_out8(0xcf9, 0x06);
    cpu_out8(0x64, 0xfe); /* keyboard controller: pulse the reset line */
}
