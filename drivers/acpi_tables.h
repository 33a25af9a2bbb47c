// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The few facts that Umbra takes from the machine's ACPI tables (ACPI 6.4, chapter 5): interrupt controllers,
 * power management ports. Firmware's tables are checked (checksum, length) before they are believed; AML is
 * not run.
 */
#include "lib/types.h"

#define ACPI_IOAPICS_MAX    8
#define ACPI_PROCESSORS_MAX 256

struct acpi_ioapic {
    hpa_t base;
    uint32_t gsi_base;
};

struct acpi_machine {
    bool found;
    unsigned processor_count;
    uint32_t processors[ACPI_PROCESSORS_MAX]; /* local APIC ids of the enabled ones, each once */
    unsigned processors_ignored;              /* enabled ones for which there was no room */
    unsigned ioapic_count;
    struct acpi_ioapic ioapics[ACPI_IOAPICS_MAX];
    struct {
        uint32_t gsi;
        bool level, active_low;
    } isa_irqs[16];
    uint16_t pm1a_control, pm1b_control; /* ports; 0: none */
    uint16_t sleep_type_s5a, sleep_type_s5b;
    bool has_s5;
    bool has_reset;
    uint8_t reset_space; /* generic address space of the reset register: 0 memory, 1 ports */
    uint64_t reset_address;
    uint8_t reset_value;
};

/*
 * Reads the tables below `rsdp` (as the boot loader copied it) into `machine`; NULL leaves the PC's defaults.
 * Tables are reached through the physical map. Start-up only.
 */
void acpi_machine_read(struct acpi_machine *machine, const void *rsdp);

/* Powers the machine off, or resets it, by every way known, the surest first. Returns only if none worked. */
void acpi_machine_power_off(const struct acpi_machine *machine);
void acpi_machine_reset(const struct acpi_machine *machine);
