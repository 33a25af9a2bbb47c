// SPDX-License-Identifier: BSD-2-Clause
#include "mm/walk_tables.h"

enum stage_outcome walk_table_find(const struct stage_chain *memory, unsigned access, unsigned offset,
                                   unsigned level, struct stage_trail *trail, struct stage_fault *fault)
{
    const uint64_t place = trail->step[level].table + offset;
    struct translation t;
    enum stage_outcome outcome = stage_chain_walk(memory, place, access, &t, fault);

    /* It counts as a write to the tables of a stage in between only: memory itself is read. */
    if (outcome == STAGE_NO_MEMORY && access != PAGING_READ)
        outcome = stage_chain_walk(memory, place, PAGING_READ, &t, fault);
    trail->step[level].writable = outcome == STAGE_DONE && (t.rights & PAGING_WRITE) != 0;
    if (outcome == STAGE_DONE)
        trail->step[level].host = physmap_pointer(HPA(align_down(t.address, PAGE_SIZE)));
    else
        fault->in_tables = true;
    return outcome;
}

/*
 * Replaces the entry at `offset` of the trail's table of `level` by `desired` if it still is *expected, which
 * else becomes what is there. A write to memory that cannot be written is lost.
 */
static enum stage_outcome exchange(const struct walk_tables *tables, const struct stage_trail *trail,
                                   unsigned level, unsigned offset, uint64_t *expected, uint64_t desired,
                                   bool *exchanged, struct stage_fault *fault)
{
    const unsigned size = tables->format->entry_size;
    enum stage_outcome outcome;

    if (likely(trail->step[level].writable)) {
        *exchanged = guest_memory_exchange_at(trail->step[level].host + offset, size, expected, desired);
        return STAGE_DONE;
    }
    outcome = guest_memory_exchange(tables->memory, GPA(trail->step[level].table + offset), size, expected,
                                    desired, exchanged, fault);
    if (outcome == STAGE_NO_MEMORY) {
        *exchanged = true;
        return STAGE_DONE;
    }
    if (outcome != STAGE_DONE)
        fault->in_tables = true;
    return outcome;
}

enum stage_outcome walk_trail_mark(const struct walk_tables *tables, struct stage_trail *trail, unsigned top,
                                   uint64_t address, bool writes, struct stage_fault *fault)
{
    const uint64_t accessed = tables->format->accessed, dirty = tables->format->dirty;

    for (unsigned level = top; level >= trail->leaf; level--) {
        const uint64_t wanted = accessed | (level == trail->leaf && writes ? dirty : 0);
        uint64_t *value = &trail->step[level].value;

        while (unlikely((*value & wanted) != wanted)) {
            const unsigned offset = walk_entry_offset(tables->format, level, address);
            uint64_t now = *value;
            bool exchanged;
            enum stage_outcome outcome =
                exchange(tables, trail, level, offset, &now, *value | wanted, &exchanged, fault);

            if (outcome != STAGE_DONE)
                return outcome;
            if (exchanged) {
                *value |= wanted;
            } else if (((now ^ *value) & ~(accessed | dirty)) == 0 && (now & ~*value) != 0) {
                *value = now; /* another processor set one of the two: at most twice */
            } else {
                *fault = (struct stage_fault){
                    .stage = tables->stage, .address = trail->step[level].table + offset, .in_tables = true};
                return STAGE_AGAIN;
            }
        }
    }
    return STAGE_DONE;
}
