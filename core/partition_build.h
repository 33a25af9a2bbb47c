// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Building and loading, as core/partition.c uses them. Start-up and starts of partitions only.
 */
#include "core/partition.h"

/*
 * Gives `partition` memory, policies, a board and vCPUs by its configuration. A negative errno with
 * partition->reason set, and nothing kept, if that cannot be.
 */
int partition_build(struct partition *partition) __must_check;

/*
 * Scrubs the partition's memory, writes its ACPI tables, loads its boot image and puts its first vCPU at the
 * entry. A negative errno with partition->reason set if the image does not load.
 */
int partition_load(struct partition *partition) __must_check;

/* The registers of a vCPU that Umbra keeps for it, as after reset. */
void partition_vcpu_reset(struct partition_vcpu *vcpu);
