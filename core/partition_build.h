// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Building and loading, as the other files of the partition use them. The housekeeper's.
 */
#include "core/partition.h"

/*
 * Gives `partition` memory, policies, a board and vCPUs by its configuration. A negative errno with
 * partition->reason set, and nothing kept, if that cannot be; -EAGAIN: not before freed memory is cleared.
 */
int partition_build(struct partition *partition) __must_check;

/* Gives back what it was built of. None of its vCPUs is loaded anywhere. */
void partition_unbuild(struct partition *partition);

/*
 * Brings the board to power-on, writes the partition's ACPI tables, loads its boot image and puts its first
 * vCPU at the entry, the others where they wait for a start-up message. Its memory is clear, its vCPUs are
 * parked. A negative errno with partition->reason set if the image does not load.
 */
int partition_load(struct partition *partition) __must_check;

/* The registers of a vCPU that Umbra keeps for it, as after reset. */
void partition_vcpu_reset(struct partition_vcpu *vcpu);

/* Notes why the partition cannot be built or does not start, and returns `error`. */
int partition_refuse(struct partition *partition, int error, const char *format, ...) __printf_format(3, 4);
