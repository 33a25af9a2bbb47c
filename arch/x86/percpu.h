// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Data that each processor has of its own. A room declares its variables with PERCPU; the linker collects
 * them in one section, all zero at start. Processor 0 uses the section itself, every other one a zeroed copy,
 * and GS holds the distance from the section to the copy.
 */
#include "lib/types.h"

#define PERCPU             __attribute__((section(".bss.percpu")))

/* This processor's `variable`, as an lvalue. */
#define this_cpu(variable) (*(__typeof__(variable) __seg_gs *)(uintptr_t) & (variable))

/* Distance from the section to this processor's copy (its GS base), and the processor's number from 0. */
extern uint64_t percpu_offset;
extern unsigned percpu_number;

/* The ordinary address of this processor's `variable`. */
#define this_cpu_pointer(variable)                                                                           \
    ((__typeof__(variable) *)((uintptr_t) & (variable) + this_cpu(percpu_offset)))

/*
 * How many processors run, at most PERCPU_PROCESSORS_MAX, numbered from 0 without a gap; where the copy of
 * each is, and the id of its local APIC. Set at start-up, one processor after the other.
 */
#define PERCPU_PROCESSORS_MAX 64
extern unsigned percpu_count;
extern uint64_t percpu_offsets[PERCPU_PROCESSORS_MAX];
extern uint32_t percpu_apic_ids[PERCPU_PROCESSORS_MAX];

/* The ordinary address of processor `number`'s `variable`. */
#define that_cpu_pointer(variable, number)                                                                   \
    ((__typeof__(variable) *)((uintptr_t) & (variable) + percpu_offsets[number]))
