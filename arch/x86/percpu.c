// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/percpu.h"

PERCPU uint64_t percpu_offset;
PERCPU unsigned percpu_number;

unsigned percpu_count = 1;
uint64_t percpu_offsets[PERCPU_PROCESSORS_MAX];
uint32_t percpu_apic_ids[PERCPU_PROCESSORS_MAX];
