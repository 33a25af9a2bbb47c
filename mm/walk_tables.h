// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the walkers over tables that a space's owner keeps have in common, whatever the format: an entry is
 * read where it is found, or where a trail knows it to be, and gets A and D by compare-and-swap. Private to
 * mm/walk_*.
 */
#include "mm/guest_memory.h"
#include "mm/physmap.h"
#include "mm/stage.h"

/*
 * How often a walk begins again because the owner changed an entry between its reading and the setting of A
 * or D.
 */
#define WALK_ATTEMPTS_MAX 8

/* The tables of one space. */
struct walk_tables {
    const struct stage *stage;          /* that translates by them: whose faults they make */
    const struct stage_chain *memory;   /* the space that they are in */
    const struct paging_format *format; /* a walk may begin above its `levels`, where it describes them */
};

static inline unsigned walk_entry_offset(const struct paging_format *format, unsigned level, uint64_t address)
{
    return paging_index(format, level, address) * format->entry_size;
}

/* Finds the page of the table that the trail has at `level`, as walk_entry_read does when it does not know.
 */
enum stage_outcome walk_table_find(const struct stage_chain *memory, unsigned access, unsigned offset,
                                   unsigned level, struct stage_trail *trail, struct stage_fault *fault);

/*
 * Reads the entry of `size` bytes at `offset` of the table that the trail has at `level`, and finds the table
 * first if need be, which is an `access` (PAGING_READ, perhaps PAGING_WRITE) to `memory`. Where no memory is,
 * nobody answers: all bits are 1.
 */
static inline enum stage_outcome walk_entry_read(const struct stage_chain *memory, unsigned access,
                                                 unsigned size, unsigned offset, unsigned level,
                                                 struct stage_trail *trail, struct stage_fault *fault)
{
    if (trail->step[level].host == NULL) {
        const enum stage_outcome outcome = walk_table_find(memory, access, offset, level, trail, fault);

        if (outcome == STAGE_NO_MEMORY)
            trail->step[level].value = size == 4 ? UINT32_MAX : UINT64_MAX;
        if (outcome != STAGE_DONE)
            return outcome == STAGE_NO_MEMORY ? STAGE_DONE : outcome;
    }

    const void *entry = trail->step[level].host + offset;
    trail->step[level].value = size == 4 ? __atomic_load_n((const uint32_t *)entry, __ATOMIC_RELAXED)
                                         : __atomic_load_n((const uint64_t *)entry, __ATOMIC_RELAXED);
    return STAGE_DONE;
}

/*
 * Sets A along the trail to `address`, from level `top` to its leaf, and D in the last entry if it `writes`,
 * as the processor does: each by a compare-and-swap against the value that the walk relied on (SDM vol. 3,
 * "Accessed and Dirty Flags", "Accessed and Dirty Flags for EPT"). A write to memory that cannot be written
 * is lost. STAGE_AGAIN: an entry has become another; else STAGE_DONE, or what the chain answered.
 */
enum stage_outcome walk_trail_mark(const struct walk_tables *tables, struct stage_trail *trail, unsigned top,
                                   uint64_t address, bool writes, struct stage_fault *fault);
