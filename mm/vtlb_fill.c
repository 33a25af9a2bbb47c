// SPDX-License-Identifier: BSD-2-Clause
/*
 * The virtual TLB's entries: what they say, and the tables on the way to them.
 */
#include "mm/vtlb_space.h"
#include "mm/vtlb_tables.h"

/* Where no memory is, all bits read as 1. */
static const unsigned char hole[PAGE_SIZE] __aligned(8) = {[0 ... PAGE_SIZE - 1] = 0xff};

/* How many of the guest's entries of level 1 are looked at together; a power of two. */
#define NEIGHBOURS 8

/* ---- Translations ---------------------------------------------------------------------------------------
 */

/* What the MTRRs say; lowers *page_shift as struct vtlb_hardware says. */
static uint8_t type_of_memory(struct vtlb *vtlb, uint64_t address, uint8_t *page_shift)
{
    const struct vtlb_hardware *hardware = &vtlb->hardware;

    if (hardware->memory_type == NULL)
        return MEMORY_TYPE_WB;
    if (vtlb->typed_shift == 0 || (address ^ vtlb->typed_address) >> vtlb->typed_shift != 0) {
        vtlb->typed_shift = PAGE_SHIFT_1G;
        vtlb->typed = hardware->memory_type(hardware->data, HPA(address), &vtlb->typed_shift);
        vtlb->typed_address = address;
    }
    if (vtlb->typed_shift < *page_shift)
        *page_shift = vtlb->typed_shift;
    return vtlb->typed;
}

/* Whether what was found last does for this as well. */
static bool carried_before(const struct vtlb_context *context, uint64_t gpa, unsigned access,
                           struct translation *below)
{
    const struct vtlb *vtlb = context->vtlb;
    const uint64_t within = BIT(vtlb->carried.page_shift) - 1;

    /* Spaces with other tables behind their walker may be of the same chain. */
    if (context->family.behind != 0 || vtlb->carried_chain != context->family.chain ||
        ((gpa ^ vtlb->carried_from) & ~within) != 0 ||
        (access & PAGING_RIGHTS & ~(unsigned)vtlb->carried.rights) != 0)
        return false;
    *below = vtlb->carried;
    below->address = (vtlb->carried.address & ~within) | (gpa & within);
    return true;
}

enum stage_outcome vtlb_carry(const struct vtlb_context *context, uint64_t gpa, unsigned access,
                              struct translation *below, struct stage_fault *fault)
{
    struct vtlb *vtlb = context->vtlb;
    enum stage_outcome outcome;

    if (carried_before(context, gpa, access, below))
        return STAGE_DONE;
    *below = (struct translation){
        .address = gpa,
        .rights = PAGING_RIGHTS,
        .memory_type = MEMORY_TYPE_WB,
        .page_shift = PAGE_SHIFT_1G,
    };
    outcome = stage_chain_continue(&context->chain, context->chain.count > 1 ? 1 : 0, access, below, fault);
    if (outcome != STAGE_DONE)
        return outcome;
    below->memory_type =
        memory_type_combine(below->memory_type, type_of_memory(vtlb, below->address, &below->page_shift));
    if (context->family.source != NULL && context->family.behind == 0) {
        vtlb->carried_chain = context->family.chain;
        vtlb->carried_from = gpa;
        vtlb->carried = *below;
    }
    return STAGE_DONE;
}

/* Has *above say what both say together. */
static void combine(struct translation *above, const struct translation *below)
{
    above->address = below->address;
    above->rights &= below->rights;
    above->memory_type = memory_type_combine(above->memory_type, below->memory_type);
    if (below->page_shift < above->page_shift)
        above->page_shift = below->page_shift;
}

/*
 * The entry of a page of `level` that says `translation`; 0 if the target cannot express its rights. D only
 * where it may be written: a page that has D and not W is a shadow stack to some processors.
 */
static inline uint64_t page_entry(const struct paging_format *target, unsigned level,
                                  const struct translation *translation)
{
    const uint64_t rights = target->rights[translation->rights & PAGING_RIGHTS];
    const uint64_t dirty = (translation->rights & PAGING_WRITE) != 0 ? 0 : target->dirty;

    if (unlikely(rights == 0))
        return 0;
    return align_down(translation->address, BIT(target->level[level].shift)) | rights |
           target->memory_type[translation->memory_type] | (target->page_preset & ~dirty) |
           (level > 1 ? target->large : 0) | (translation->global ? target->global : 0) |
           translation->key * target->key;
}

/* ---- The way down ---------------------------------------------------------------------------------------
 */

/* Whether the guest's tables have an entry of `level` on the way. */
static bool has_step(const struct stage_trail *trail, unsigned level)
{
    return level >= trail->leaf && level <= trail->top;
}

/* Lets `table` know where the guest's table is that it stands for. */
static void find_guest(struct vtlb_table *table, const struct stage_trail *trail)
{
    const struct paging_format *source = table->family.source;
    const unsigned char *page = trail->step[table->level].host;

    table->guest_memory = page != NULL;
    table->guest_writable = trail->step[table->level].writable;
    table->guest = (page != NULL ? page : hole) +
                   (size_t)paging_index(source, table->level, table->base) * source->entry_size;
}

/* Whether `child`, which entry `slot` of `table` refers to, is what belongs there. */
static bool child_fits(const struct vtlb_table *table, unsigned slot, const struct vtlb_table *child,
                       const struct stage_trail *trail)
{
    if (has_step(trail, child->level))
        return child->snapshot != NULL && child->guest_table == trail->step[child->level].table &&
               child->rights == trail->step[child->level].rights &&
               vtlb_table_host(child) == trail->step[child->level].host;
    return child->snapshot == NULL &&
           (table->snapshot == NULL ||
            vtlb_unchanged(table->family.source, vtlb_table_entries(table->snapshot)[slot],
                           trail->step[table->level].value));
}

/* The table for what `table` refers to on the way to `address`: found or new. NULL: pages have run out. */
static struct vtlb_table *find_child(struct vtlb_context *context, const struct vtlb_table *table,
                                     uint64_t address, const struct stage_trail *trail)
{
    struct vtlb *vtlb = context->vtlb;
    const struct paging_format *target = context->family.target;
    const unsigned level = table->level - 1U;

    if (!has_step(trail, level))
        return vtlb_table_take(vtlb, &context->family, level, false);

    const struct vtlb_identity identity = {
        .family = &context->family,
        .guest_table = trail->step[level].table,
        .base = address & (BIT(target->address_bits) - BIT(table->layout->shift)),
        .host = trail->step[level].host,
        .level = (uint8_t)level,
        .rights = trail->step[level].rights,
    };
    struct vtlb_table *child = vtlb_table_find(vtlb, &identity);

    if (child != NULL) {
        vtlb_catch_up(context, child);
    } else {
        child = vtlb_table_make(vtlb, &identity);
        if (child != NULL)
            find_guest(child, trail);
    }
    return child;
}

/* The table below `table` on the way to `address`, linked there if it was not. NULL: pages have run out. */
static struct vtlb_table *step_down(struct vtlb_context *context, struct vtlb_table *table, uint64_t address,
                                    const struct stage_trail *trail)
{
    struct vtlb *vtlb = context->vtlb;
    const unsigned slot = vtlb_slot(table, address);
    const uint64_t entry = vtlb_table_entries(table)[slot];
    struct vtlb_table *child = NULL;

    if (entry != 0) {
        if (vtlb_maps_page(table, entry)) {
            /* A large page that smaller ones replace: what they do not say yet will be asked for again. */
            vtlb->statistics.splintered++;
        } else {
            child = vtlb_table_of(vtlb, context->family.target, entry);
            if (!child_fits(table, slot, child, trail))
                child = NULL;
        }
        if (child == NULL)
            vtlb_entry_drop(vtlb, table, slot);
    }
    if (child == NULL) {
        child = find_child(context, table, address, trail);
        if (child == NULL)
            return NULL;
        vtlb_table_link(vtlb, table, slot, child);
    }
    if (table->snapshot != NULL)
        vtlb_table_entries(table->snapshot)[slot] = trail->step[table->level].value;
    return child;
}

/* The table of `level` on the way from `table` to `address`; NULL: pages have run out. */
static struct vtlb_table *descend(struct vtlb_context *context, struct vtlb_table *table, uint64_t address,
                                  unsigned level, const struct stage_trail *trail)
{
    if (unlikely(table->snapshot != NULL && table->guest == NULL)) {
        find_guest(table, trail);
    } else if (unlikely(table == context->root && context->family.behind != 0 && context->registers == NULL &&
                        has_step(trail, table->level) &&
                        vtlb_table_host(table) != trail->step[table->level].host)) {
        vtlb_table_empty(context->vtlb, table);
        find_guest(table, trail);
    }
    while (table != NULL && table->level > level)
        table = step_down(context, table, address, trail);
    return table;
}

void vtlb_fill_tables(struct vtlb_context *context, struct vtlb_table *table, uint64_t address,
                      const struct stage_trail *trail)
{
    descend(context, table, address, trail->reached, trail); /* short of pages, it can wait for the fill */
}

/* ---- Pages ----------------------------------------------------------------------------------------------
 */

/* Makes entry `slot` of `table`, whatever it is, `entry`, which maps a page. */
static void write_page(struct vtlb *vtlb, struct vtlb_table *table, unsigned slot, uint64_t entry)
{
    const struct paging_format *target = table->family.target;
    const uint64_t ours = target->accessed | target->dirty; /* an own bookkeeping, no promise to the guest */
    const uint64_t old = vtlb_table_entries(table)[slot];

    if (old != 0 && !vtlb_maps_page(table, old)) {
        vtlb_entry_drop(vtlb, table, slot);
    } else if (old != 0) {
        const uint64_t before = (old & ~(table->prefetched > 0 ? VTLB_PREFETCHED : 0)) | ours;

        if (before == (entry | ours)) {
            vtlb->statistics.stale++;
            return;
        }
        if (paging_only_grants(target, before, entry | ours))
            vtlb->statistics.raised++;
        else
            vtlb->generation++;
    }
    vtlb_page_write(vtlb, table, slot, entry);
    vtlb->statistics.fills[table->level - 1]++;
}

/*
 * The entry for `address` that the guest's entry `value`, beside the one that `trail` leads to, calls for; 0:
 * none. Its page must be one that a processor could have cached by now, and plain memory. *same: how far the
 * same entry, but for the frame, goes for others that differ from `value` in the frame alone.
 */
static uint64_t peek_entry(const struct vtlb_context *context, uint64_t address, uint64_t value,
                           const struct stage_trail *trail, uint8_t *same)
{
    const struct paging_format *target = context->family.target;
    const struct stage *stage = context->chain.stages[0];
    struct translation page, below;
    struct stage_fault fault;

    if (!stage->peek(stage, address, value, trail, &page) ||
        vtlb_carry(context, page.address, PAGING_READ | STAGE_ACCESS_AHEAD, &below, &fault) != STAGE_DONE ||
        below.memory_type != MEMORY_TYPE_WB)
        return 0;
    *same = below.page_shift;
    combine(&page, &below);
    const uint64_t entry = page_entry(target, 1, &page);
    return entry == 0 ? 0 : (entry & ~target->accessed) | VTLB_PREFETCHED;
}

/* Which of the guest's NEIGHBOURS entries of `size` bytes at `line` have all bits `wanted`. */
static __always_inline unsigned neighbours_in_use(const unsigned char *line, unsigned size, uint64_t wanted)
{
    unsigned found = 0;

#pragma GCC unroll 8
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        const uint64_t value =
            size == 4 ? __atomic_load_n((const uint32_t *)(const void *)line + i, __ATOMIC_RELAXED)
                      : __atomic_load_n((const uint64_t *)(const void *)line + i, __ATOMIC_RELAXED);
        found |= (unsigned)((value & wanted) == wanted) << i;
    }
    return found;
}

/*
 * Fills the free entries around the one for `address` in `table`, of level 1, as far as the guest's entries
 * allow. They have A = 0: the processor tells whether it used them.
 */
static void prefetch(const struct vtlb_context *context, struct vtlb_table *table, uint64_t address,
                     const struct stage_trail *trail)
{
    struct vtlb *vtlb = context->vtlb;
    const struct paging_format *source = table->family.source;
    const uint64_t wanted = source->present | source->accessed;
    const unsigned first = vtlb_slot(table, address) & ~(NEIGHBOURS - 1U);
    uint64_t *snapshot = vtlb_table_entries(table->snapshot);
    unsigned free = ~(unsigned)(table->used[first / 64] >> (first % 64));
    uint64_t last = 0, last_entry = 0, same = 0; /* the one before, and where it does for others */

    if (source->entry_size == 4)
        free &= neighbours_in_use(table->guest + first * 4, 4, wanted);
    else
        free &= neighbours_in_use(table->guest + first * 8, 8, wanted);
    address = align_down(address, NEIGHBOURS * PAGE_SIZE);
    for (; free != 0; free &= free - 1) {
        const unsigned i = (unsigned)__builtin_ctz(free), slot = first + i;
        const uint64_t value = vtlb_guest_entry(table, slot);
        uint64_t entry;

        if (same != 0 && ((value ^ last) & ~same) == 0) {
            entry = last_entry + (value & source->address) - (last & source->address);
        } else {
            uint8_t shift;

            entry = peek_entry(context, address + i * PAGE_SIZE, value, trail, &shift);
            if (entry == 0)
                continue;
            last = value;
            last_entry = entry;
            same = source->address & (BIT(shift) - 1);
        }
        vtlb_page_write(vtlb, table, slot, entry);
        snapshot[slot] = value;
        table->prefetched++;
        table->prefetched_anew = true;
        vtlb->statistics.prefetched++;
    }
}

/* Remembers what has to be taken back; more than one instruction can use at a time is not kept. */
static void note_transient(struct vtlb *vtlb, struct vtlb_table *table, unsigned slot)
{
    vtlb->statistics.transient++;
    for (unsigned i = 0; i < vtlb->transient_count; i++)
        if (vtlb->transients[i].table == table && vtlb->transients[i].slot == slot)
            return;
    if (vtlb->transient_count == VTLB_TRANSIENTS)
        vtlb_end_transient(vtlb);
    vtlb->transients[vtlb->transient_count++] = (struct vtlb_grant){table, slot};
}

bool vtlb_fill(struct vtlb_context *context, struct vtlb_table *table, uint64_t address,
               const struct stage_trail *trail, const struct translation *below, struct translation *above)
{
    const struct paging_format *target = context->family.target;

    combine(above, below);
    const unsigned level = context->level_for_shift[above->page_shift];
    above->page_shift = target->level[level].shift;

    const uint64_t entry = page_entry(target, level, above);

    if (unlikely(entry == 0))
        return true;
    if (table->level > level) {
        table = descend(context, table, address, level, trail);
        if (unlikely(table == NULL))
            return false;
    }

    const unsigned slot = vtlb_slot(table, address);
    if (unlikely(above->transient))
        note_transient(context->vtlb, table, slot);
    write_page(context->vtlb, table, slot, entry);
    if (table->snapshot == NULL)
        return true;
    vtlb_table_entries(table->snapshot)[slot] = trail->step[level].value;
    if (level == 1 && table->guest_memory && target->page_preset != 0 && !above->transient)
        prefetch(context, table, address, trail);
    return true;
}
