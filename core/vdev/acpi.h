// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The ACPI tables that describe a partition's board to its operating system: RSDP, RSDT, XSDT, FADT, FACS,
 * MADT, the DSDT (compiled from dsdt.asl) and an SSDT with the processors.
 */
#include "lib/types.h"

/* Where guests look for the RSDP (ACPI 6.3, section 5.2.5.1), and how much room there is. */
#define ACPI_TABLES_BASE 0xe0000
#define ACPI_TABLES_SIZE 0x20000

struct acpi_settings {
    unsigned vcpus; /* at least 1; vCPU n has the local APIC ID n */
};

/*
 * Writes all tables into `buffer`, `size` bytes that the guest will see at `base` (64-byte aligned, below 4
 * GiB), and the address of the RSDP, which is `base`, to `*rsdp`. The rest of the buffer stays as it is.
 * Returns the number of bytes used; -ENOSPC if they do not fit; -EINVAL for a base or settings out of range.
 */
int acpi_build(const struct acpi_settings *settings, uint8_t *buffer, size_t size, gpa_t base, gpa_t *rsdp);
