// SPDX-License-Identifier: BSD-2-Clause
#include "mm/vtlb.h"

#include "arch/x86/paging_ept.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "mm/vtlb_space.h"
#include "mm/vtlb_tables.h"

/* ---- Set-up ---------------------------------------------------------------------------------------------
 */

int vtlb_init(struct vtlb *vtlb, hpa_t base, uint32_t pages, struct vtlb_table *tables,
              const struct vtlb_hardware *hardware, enum vtlb_mode mode)
{
    if (pages < VTLB_PAGES_MIN)
        return -EINVAL;
    *vtlb = (struct vtlb){
        .hardware = *hardware,
        .mode = mode,
        .base = base,
        .pages = pages,
        .tables = tables,
        .generation = 1, /* a processor that has seen none, 0, knows the pages from other uses */
    };
    vtlb_tables_init(vtlb);
    return 0;
}

/*
 * The highest level of `target` whose entries map pages of at most 1 << page_shift bytes, as the hardware has
 * them.
 */
static uint8_t level_for(const struct vtlb_hardware *hardware, const struct paging_format *target,
                         unsigned page_shift)
{
    const bool ept = target == &paging_ept;

    if ((ept ? hardware->pages_1g : hardware->page_tables_1g) && target->level[3].maps_page &&
        page_shift >= PAGE_SHIFT_1G)
        return 3;
    return (!ept || hardware->pages_2m) && page_shift >= PAGE_SHIFT_2M ? 2 : 1;
}

bool vtlb_context_open(struct vtlb_context *context, struct vtlb *vtlb, const struct vtlb_family *family)
{
    const unsigned levels = family->target->levels;
    struct vtlb_table *root =
        vtlb_table_take(vtlb, family, levels, family->source != NULL && family->source->levels >= levels);

    if (root == NULL)
        return false;
    root->references = 1;
    root->base = 0;
    root->rights = PAGING_RIGHTS;
    *context = (struct vtlb_context){
        .vtlb = vtlb,
        .chain = *family->chain,
        .family = *family,
        .root = root,
        .last_use = ++vtlb->uses,
    };
    for (unsigned shift = 0; shift < ARRAY_SIZE(context->level_for_shift); shift++)
        context->level_for_shift[shift] = level_for(&vtlb->hardware, family->target, shift);
    return true;
}

int vtlb_context_init(struct vtlb_context *context, struct vtlb *vtlb, const struct stage_chain *chain,
                      const struct paging_format *target)
{
    const struct vtlb_family family = {.chain = chain, .target = target};

    if (chain->count == 0 || chain->count > STAGES_MAX || target->entry_size != sizeof(uint64_t))
        return -EINVAL;
    if (!vtlb_root_fits(vtlb))
        return -ENOMEM;
    while (!vtlb_context_open(context, vtlb, &family))
        vtlb_reclaim(vtlb, NULL);
    context->next = vtlb->contexts;
    vtlb->contexts = context;
    vtlb->roots++;
    return 0;
}

void vtlb_context_destroy(struct vtlb_context *context)
{
    struct vtlb *vtlb = context->vtlb;
    struct vtlb_context **link = &vtlb->contexts;

    vtlb_context_empty(context, VTLB_FLUSH_DESTROY);
    while (*link != context)
        link = &(*link)->next;
    *link = context->next;
    vtlb_table_release(vtlb, context->root);
    vtlb->roots--;
}

hpa_t vtlb_root(const struct vtlb_context *context)
{
    return vtlb_table_address(context->vtlb, context->root);
}

void vtlb_reclaim(struct vtlb *vtlb, struct vtlb_context *asking)
{
    struct vtlb_context *victim = NULL;

    for (struct vtlb_context *c = vtlb->contexts; c != NULL; c = c->next)
        if (c != asking && c->root->entries > 0 && (victim == NULL || c->last_use < victim->last_use))
            victim = c;
    for (unsigned i = 0; i < VTLB_CONTEXTS; i++) {
        struct vtlb_context *c = &vtlb->slots[i];
        if (c != asking && c->vtlb != NULL && (c != vtlb->current || c->root->entries > 0) &&
            (victim == NULL || c->last_use < victim->last_use))
            victim = c;
    }
    if (victim == NULL)
        victim = asking;
    invariant(victim != NULL);
    vtlb->statistics.evictions++;
    if (victim >= vtlb->slots && victim < &vtlb->slots[VTLB_CONTEXTS] && victim != vtlb->current)
        vtlb_slot_close(victim, VTLB_FLUSH_RECLAIM);
    else
        vtlb_context_empty(victim, VTLB_FLUSH_RECLAIM);
}

/* ---- Misses ---------------------------------------------------------------------------------------------
 */

/*
 * The table below `table` on the way to `address`, if the guest's entry there is what it was when the context
 * last met it; else NULL.
 */
static struct vtlb_table *known_child(const struct vtlb *vtlb, const struct vtlb_table *table,
                                      uint64_t address)
{
    const unsigned slot = vtlb_slot(table, address);
    const uint64_t entry = vtlb_table_entries(table)[slot];

    if (entry == 0 || vtlb_maps_page(table, entry))
        return NULL;

    struct vtlb_table *child = vtlb_table_of(vtlb, table->family.target, entry);
    if (!child->guest_memory || !vtlb_table_is_trusted(vtlb, child) ||
        (table->snapshot != NULL &&
         vtlb_table_entries(table->snapshot)[slot] != vtlb_guest_entry(table, slot)))
        return NULL;
    return child;
}

/*
 * Goes down as far as that is so, and notes for the walker where it can begin. Returns the table where its
 * knowledge ends.
 */
static struct vtlb_table *follow_known(const struct vtlb_context *context, uint64_t address,
                                       struct stage_trail *trail)
{
    struct vtlb_table *table = context->root, *child;

    while ((child = known_child(context->vtlb, table, address)) != NULL)
        table = child;
    trail->known = 0;
    if (table->guest_memory && vtlb_table_is_trusted(context->vtlb, table)) {
        const unsigned level = table->level;

        trail->known = (uint8_t)level;
        trail->step[level].table = table->guest_table;
        trail->step[level].host = (unsigned char *)(uintptr_t)vtlb_table_host(table);
        trail->step[level].rights = table->rights;
        trail->step[level].writable = table->guest_writable;
    }
    return table;
}

/* Asks the first stage, unless it is the last. *table: the last on the way that is known to be right. */
static enum stage_outcome ask_first(const struct vtlb_context *context, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_trail *trail,
                                    struct vtlb_table **table, struct stage_fault *fault)
{
    const struct stage *first = context->chain.stages[0];

    trail->top = trail->leaf = trail->reached = 0;
    *table = context->root;
    if (context->family.source != NULL) {
        *table = follow_known(context, address, trail);
        return first->walk_trail(first, address, access, translation, trail, fault);
    }
    if (context->chain.count > 1)
        return first->walk(first, address, access, translation, fault);
    *translation = (struct translation){
        .address = address,
        .rights = PAGING_RIGHTS,
        .memory_type = MEMORY_TYPE_WB,
        .page_shift = PAGE_SHIFT_1G,
    };
    return STAGE_DONE;
}

/* Asks the chain and fills; on a fault of the guest's forgets and learns what is to be. */
static enum stage_outcome ask_and_fill(struct vtlb_context *context, uint64_t address, unsigned access,
                                       struct vtlb_result *result)
{
    struct translation below;
    struct stage_trail trail;
    struct vtlb_table *table;
    enum stage_outcome outcome;

    for (;;) {
        outcome = ask_first(context, address, access, &result->translation, &trail, &table, &result->fault);
        if (outcome == STAGE_DONE)
            outcome = vtlb_carry(context, result->translation.address, access, &below, &result->fault);
        if (outcome == STAGE_FAULT) {
            const bool behind = result->fault.stage != context->chain.stages[0];

            if (context == context->vtlb->current && !result->fault.keeps)
                vtlb_forget_faulted(context->vtlb, table, address, behind);
            if (trail.reached != 0 && !behind) /* else one of these may be where it faulted */
                vtlb_fill_tables(context, table, address, &trail);
        }
        if (outcome == STAGE_AGAIN && context->family.behind != 0)
            vtlb_doubt(context->vtlb); /* a table may lie elsewhere by now */
        if (outcome != STAGE_DONE || vtlb_fill(context, table, address, &trail, &below, &result->translation))
            return outcome;
        /* Pages have run out. Not for ever: once this context has lost its own tables, too, one path fits. */
        vtlb_reclaim(context->vtlb, context);
    }
}

enum vtlb_outcome vtlb_miss(struct vtlb_context *context, uint64_t address, unsigned access,
                            struct vtlb_result *result)
{
    struct vtlb *vtlb = context->vtlb;
    struct vtlb_statistics *statistics = &vtlb->statistics;

    statistics->misses++;
    context->last_use = ++vtlb->uses;
    switch (ask_and_fill(context, address, access, result)) {
    case STAGE_DONE:
        statistics->filled++;
        return VTLB_FILLED;
    case STAGE_FAULT:
        statistics->guest_faults++;
        return VTLB_GUEST_FAULT;
    case STAGE_NO_MEMORY:
        statistics->no_memory++;
        return VTLB_NO_MEMORY;
    case STAGE_AGAIN:
        break;
    }
    /* The guest makes the same access once more, and misses once more: nothing was granted. */
    statistics->again++;
    result->translation.transient = false;
    return VTLB_FILLED;
}

/* ---- Flushes of contexts that are there for good --------------------------------------------------------
 */

static void account_flush(struct vtlb *vtlb, enum vtlb_flush_cause cause, uint64_t dropped)
{
    vtlb->statistics.flushes[cause]++;
    vtlb->statistics.flushed_entries += dropped;
}

void vtlb_context_empty(struct vtlb_context *context, enum vtlb_flush_cause cause)
{
    account_flush(context->vtlb, cause, vtlb_table_empty(context->vtlb, context->root));
}

void vtlb_flush(struct vtlb_context *context, enum vtlb_flush_cause cause)
{
    vtlb_context_empty(context, cause);
}

/*
 * Drops what `table` holds for [first, last], which lies within what it covers. Returns how many pages'
 * entries.
 */
static uint64_t drop_range(struct vtlb *vtlb, struct vtlb_table *table, uint64_t first, uint64_t last)
{
    const struct paging_format *target = table->family.target;
    const unsigned shift = target->level[table->level].shift;
    const unsigned last_slot = vtlb_slot(table, last);
    uint64_t dropped = 0;

    for (unsigned slot = vtlb_slot(table, first); slot <= last_slot && table->entries > 0;
         slot++, first = align_down(first, BIT(shift)) + BIT(shift)) {
        const uint64_t entry = vtlb_table_entries(table)[slot];
        const uint64_t slot_last = min_u64(last, first | (BIT(shift) - 1));

        if (entry == 0)
            continue;
        if (!vtlb_maps_page(table, entry)) {
            struct vtlb_table *child = vtlb_table_of(vtlb, target, entry);
            dropped += drop_range(vtlb, child, first, slot_last);
            if (child->entries > 0)
                continue;
        }
        dropped += vtlb_entry_drop(vtlb, table, slot);
    }
    return dropped;
}

void vtlb_flush_range(struct vtlb_context *context, uint64_t address, uint64_t size,
                      enum vtlb_flush_cause cause)
{
    const uint64_t space = BIT(context->family.target->address_bits);
    const uint64_t first = address & (space - 1);
    const uint64_t last = (address + size - 1) & (space - 1);

    if (size == 0)
        return;
    if (size >= space || last < first)
        vtlb_flush(context, cause);
    else
        account_flush(context->vtlb, cause, drop_range(context->vtlb, context->root, first, last));
}
