// SPDX-License-Identifier: BSD-2-Clause
#include "mm/vtlb.h"

#include "lib/errors.h"
#include "lib/panic.h"
#include "mm/vtlb_tables.h"

/* ---- Set-up ---- */

int vtlb_init(struct vtlb *vtlb, hpa_t base, uint32_t pages, struct vtlb_table *tables,
              const struct vtlb_hardware *hardware)
{
    if (pages < VTLB_PAGES_MIN)
        return -EINVAL;
    *vtlb = (struct vtlb){.hardware = *hardware, .base = base, .pages = pages, .tables = tables};
    vtlb_tables_init(vtlb);
    return 0;
}

/*
 * Drops the tables of the context that missed least recently; during a miss that is the one that missed only
 * if no other has any. The caller has seen that no page is free although some are not roots, so there is such
 * a context.
 */
static void reclaim(struct vtlb *vtlb)
{
    struct vtlb_context *victim = NULL;

    for (struct vtlb_context *c = vtlb->contexts; c != NULL; c = c->next)
        if (c->tables.count > 0 && (victim == NULL || c->last_miss < victim->last_miss))
            victim = c;
    invariant(victim != NULL);
    vtlb->statistics.evictions++;
    vtlb_flush(victim, VTLB_FLUSH_RECLAIM);
}

/*
 * The highest level of `target` whose entries map pages of at most 1 << page_shift bytes, as the hardware has
 * them.
 */
static uint8_t level_for(const struct vtlb_hardware *hardware, const struct paging_format *target,
                         unsigned page_shift)
{
    if (hardware->pages_1g && target->level[3].maps_page && page_shift >= PAGE_SHIFT_1G)
        return 3;
    return hardware->pages_2m && page_shift >= PAGE_SHIFT_2M ? 2 : 1;
}

int vtlb_context_init(struct vtlb_context *context, struct vtlb *vtlb, const struct stage_chain *chain,
                      const struct paging_format *target)
{
    struct vtlb_table *root;

    if (chain->count == 0 || chain->count > STAGES_MAX || target->entry_size != sizeof(uint64_t))
        return -EINVAL;
    if (!vtlb_root_fits(vtlb))
        return -ENOMEM;
    while ((root = vtlb_root_take(vtlb, target->levels)) == NULL)
        reclaim(vtlb);
    *context = (struct vtlb_context){
        .vtlb = vtlb,
        .next = vtlb->contexts,
        .chain = *chain,
        .target = target,
        .root = root,
        .root_first = UINT16_MAX,
        .generation = 1, /* a processor that has seen none, 0, knows the root's page from other uses */
    };
    for (unsigned shift = 0; shift < ARRAY_SIZE(context->level_for_shift); shift++)
        context->level_for_shift[shift] = level_for(&vtlb->hardware, target, shift);
    vtlb->contexts = context;
    return 0;
}

void vtlb_context_destroy(struct vtlb_context *context)
{
    struct vtlb *vtlb = context->vtlb;
    struct vtlb_context **link = &vtlb->contexts;

    vtlb_flush(context, VTLB_FLUSH_DESTROY);
    while (*link != context)
        link = &(*link)->next;
    *link = context->next;
    vtlb_root_release(vtlb, context->root);
}

/* ---- Misses ---- */

/* Narrows what the chain said to what the hardware and its MTRRs allow. Returns the level to fill at. */
static unsigned fit_to_hardware(const struct vtlb_context *context, struct translation *translation)
{
    const struct vtlb_hardware *hardware = &context->vtlb->hardware;
    unsigned level = context->level_for_shift[translation->page_shift];

    translation->page_shift = context->target->level[level].shift;
    if (hardware->memory_type != NULL) {
        const uint8_t below =
            hardware->memory_type(hardware->data, HPA(translation->address), &translation->page_shift);
        translation->memory_type = memory_type_combine(translation->memory_type, below);
        level = context->level_for_shift[translation->page_shift];
        translation->page_shift = context->target->level[level].shift;
    }
    return level;
}

/* Makes `*entry`, which refers to no table, refer to a new one. False: the quota is used up. */
static bool make_table(struct vtlb_context *context, uint64_t *entry)
{
    struct vtlb *vtlb = context->vtlb;
    struct vtlb_table *table = vtlb_table_holding(vtlb, entry);
    const unsigned slot = vtlb_entry_slot(entry);

    if (*entry != 0) {
        /* A large page that smaller ones replace: what they do not say yet will be asked for again. */
        vtlb->statistics.splintered++;
        context->generation++;
        vtlb_entry_drop(context, table, slot);
    }
    return vtlb_table_link(context, table, slot) != NULL;
}

/* The entry of `level` for `address`, with the tables above it made as needed; NULL: the quota is used up. */
static uint64_t *descend(struct vtlb_context *context, uint64_t address, unsigned level)
{
    const struct paging_format *target = context->target;
    uint64_t *entries = vtlb_table_entries(context->vtlb, context->root);

    for (unsigned l = target->levels;; l--) {
        uint64_t *entry = &entries[paging_index(target, l, address)];

        if (l == level)
            return entry;
        if ((*entry == 0 || paging_maps_page(target, l, *entry)) && !make_table(context, entry))
            return NULL;
        entries = physmap_pointer(HPA(*entry & target->address));
    }
}

/* The entry of a page of `level` that says `translation`; 0 if the target cannot express its rights. */
static uint64_t page_entry(const struct paging_format *target, unsigned level,
                           const struct translation *translation)
{
    const uint64_t rights = target->rights[translation->rights & PAGING_RIGHTS];

    if (unlikely(rights == 0))
        return 0;
    return align_down(translation->address, BIT(target->level[level].shift)) | rights |
           target->memory_type[translation->memory_type] | target->page_preset |
           (level > 1 ? target->large : 0) | (translation->global ? target->global : 0) |
           translation->key * target->key;
}

/* Makes the target say `translation` for `address`. */
static void fill(struct vtlb_context *context, uint64_t address, struct translation *translation)
{
    struct vtlb *vtlb = context->vtlb;
    const unsigned level = fit_to_hardware(context, translation);
    const uint64_t entry = page_entry(context->target, level, translation);
    uint64_t *place;

    if (unlikely(entry == 0))
        return;
    /* It ends: at the latest when this context has lost its own tables, there are pages for one path. */
    while (unlikely((place = descend(context, address, level)) == NULL))
        reclaim(vtlb);

    if (*place == entry) {
        vtlb->statistics.stale++;
        return;
    }
    if (*place != 0 && !paging_maps_page(context->target, level, *place)) {
        vtlb_entry_drop(context, vtlb_table_holding(vtlb, place), vtlb_entry_slot(place));
        context->generation++;
    }
    if (*place == 0) {
        vtlb_table_holding(vtlb, place)->entries++;
        context->leaves++;
    } else if (paging_only_grants(context->target, *place, entry)) {
        vtlb->statistics.raised++;
    } else {
        context->generation++;
    }
    vtlb_entry_write(place, entry);
    vtlb->statistics.fills[level - 1]++;
}

/* Whether the context's extra page answers for `access` to `address`, where no memory is; if so, how. */
static bool find_extra(const struct vtlb_context *context, uint64_t address, unsigned access,
                       struct translation *translation)
{
    if (!context->has_extra || align_down(address, PAGE_SIZE) != context->extra_address ||
        (access & PAGING_RIGHTS & ~(unsigned)context->extra.rights) != 0)
        return false;
    *translation = context->extra;
    translation->address |= address & (PAGE_SIZE - 1);
    return true;
}

enum vtlb_outcome vtlb_miss(struct vtlb_context *context, uint64_t address, unsigned access,
                            struct vtlb_result *result)
{
    struct vtlb_statistics *statistics = &context->vtlb->statistics;

    context->last_miss = ++statistics->misses;
    switch (stage_chain_walk(&context->chain, address, access, &result->translation, &result->fault)) {
    case STAGE_DONE:
        statistics->filled++;
        fill(context, address, &result->translation);
        return VTLB_FILLED;
    case STAGE_FAULT:
        statistics->guest_faults++;
        return VTLB_GUEST_FAULT;
    case STAGE_NO_MEMORY:
        if (find_extra(context, address, access, &result->translation)) {
            statistics->filled++;
            fill(context, address, &result->translation);
            return VTLB_FILLED;
        }
        statistics->no_memory++;
        return VTLB_NO_MEMORY;
    case STAGE_AGAIN:
        break;
    }
    /* The guest makes the same access once more, and misses once more. */
    statistics->again++;
    return VTLB_FILLED;
}

/* ---- Flushes ---- */

static void account_flush(struct vtlb_context *context, enum vtlb_flush_cause cause, uint64_t dropped)
{
    struct vtlb_statistics *statistics = &context->vtlb->statistics;

    statistics->flushes[cause]++;
    statistics->flushed_entries += dropped;
    if (dropped > 0)
        context->generation++;
}

void vtlb_flush(struct vtlb_context *context, enum vtlb_flush_cause cause)
{
    account_flush(context, cause, vtlb_tables_drop_all(context));
}

/*
 * Drops what `table` holds for [first, last], which lies within what it covers. Returns how many pages'
 * entries.
 */
static uint64_t drop_range(struct vtlb_context *context, struct vtlb_table *table, uint64_t first,
                           uint64_t last)
{
    const struct paging_format *target = context->target;
    const unsigned shift = target->level[table->level].shift;
    const uint64_t *entries = vtlb_table_entries(context->vtlb, table);
    const unsigned last_slot = paging_index(target, table->level, last);
    uint64_t dropped = 0;

    for (unsigned slot = paging_index(target, table->level, first); slot <= last_slot && table->entries > 0;
         slot++, first = align_down(first, BIT(shift)) + BIT(shift)) {
        const uint64_t entry = entries[slot];
        const uint64_t slot_last = min_u64(last, first | (BIT(shift) - 1));

        if (entry == 0)
            continue;
        if (!paging_maps_page(target, table->level, entry)) {
            struct vtlb_table *child = vtlb_table_of(context, entry);
            dropped += drop_range(context, child, first, slot_last);
            if (child->entries > 0)
                continue;
        }
        dropped += vtlb_entry_drop(context, table, slot);
    }
    return dropped;
}

void vtlb_flush_range(struct vtlb_context *context, uint64_t address, uint64_t size,
                      enum vtlb_flush_cause cause)
{
    const uint64_t space = BIT(context->target->address_bits);
    const uint64_t first = address & (space - 1);
    const uint64_t last = (address + size - 1) & (space - 1);

    if (size == 0)
        return;
    if (size >= space || last < first)
        vtlb_flush(context, cause);
    else
        account_flush(context, cause, drop_range(context, context->root, first, last));
}

/* ---- The extra page ---- */

void vtlb_insert(struct vtlb_context *context, uint64_t address, const struct translation *translation)
{
    vtlb_remove(context);
    context->has_extra = true;
    context->extra_address = align_down(address, PAGE_SIZE);
    context->extra = *translation;
}

void vtlb_remove(struct vtlb_context *context)
{
    if (!context->has_extra)
        return;
    context->has_extra = false;
    vtlb_flush_range(context, context->extra_address, PAGE_SIZE, VTLB_FLUSH_P2M);
}
