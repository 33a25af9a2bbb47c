// SPDX-License-Identifier: BSD-2-Clause
/*
 * The virtual TLB's view of a guest's address spaces: which context is in use, and what the guest
 * invalidates.
 *
 * Invalidations are numbered: that number is the time. A table's time says up to when it, and all below, has
 * been rid of what was invalidated; the root in use is always of now. What another one missed is made up for
 * when it comes into use again, and likewise what a single table missed when another context links it.
 */
#include "mm/vtlb_space.h"

#include "lib/panic.h"
#include "mm/vtlb_tables.h"

/* ---- Looking through ------------------------------------------------------------------------------------
 */

/* One look through a table and what is below it. */
struct pass {
    struct vtlb *vtlb;
    uint64_t since;    /* tables of this time or later need none */
    bool all;          /* globals too */
    uint32_t compared; /* entries so far */
    uint64_t dropped;
};

/* One look compares about so many entries at most: a guest must not keep its processor in one exit for long.
 */
#define COMPARED_MAX 16384

/* Entries of 8 bytes that are compared together; a divisor of 64. */
#define LINE         8

/* Drops what is not global, or all. */
static void drop_pages(struct pass *pass, struct vtlb_table *table)
{
    struct vtlb *vtlb = pass->vtlb;
    const struct paging_format *target = table->family.target;
    const uint64_t *entries = vtlb_table_entries(table);

    for_each_used(slot, table) {
        const uint64_t entry = entries[slot];

        if (!vtlb_maps_page(table, entry)) {
            struct vtlb_table *child = vtlb_table_of(vtlb, target, entry);
            drop_pages(pass, child);
            if (child->entries > 0 && vtlb_table_is_trusted(vtlb, child))
                continue;
        } else if (!pass->all && (entry & target->global) != 0) {
            continue;
        }
        pass->dropped += vtlb_entry_drop(vtlb, table, slot);
    }
}

static void look_through(struct pass *pass, struct vtlb_table *table);

/* The same for the table, if it is one, that entry `slot` of `table` refers to. One that is empty then goes.
 */
static inline void look_below(struct pass *pass, struct vtlb_table *table, unsigned slot)
{
    const uint64_t entry = vtlb_table_entries(table)[slot];

    if (vtlb_maps_page(table, entry))
        return;

    struct vtlb_table *child = vtlb_table_of(pass->vtlb, table->family.target, entry);
    const bool due = child->time < pass->since;
    const bool enough = pass->compared >= COMPARED_MAX || (due && !vtlb_table_is_trusted(pass->vtlb, child));
    if (due && !enough)
        look_through(pass, child);
    if (enough || child->entries == 0)
        pass->dropped += vtlb_entry_drop(pass->vtlb, table, slot);
}

/* True if the guest's eight entries from `slot` on, of 8 bytes each, are bit for bit what they were. */
static bool line_is_same(const struct vtlb_table *table, unsigned slot)
{
    const uint64_t *before = vtlb_table_entries(table->snapshot) + slot;
    const uint64_t *now = (const uint64_t *)(const void *)table->guest + slot;
    uint64_t differences = 0;

#pragma GCC unroll 8
    for (unsigned i = 0; i < LINE; i++)
        differences |= before[i] ^ __atomic_load_n(&now[i], __ATOMIC_RELAXED);
    return differences == 0;
}

/*
 * Of `used`, the entries in use of a table of pages from slot `first` on, those that are not seen at once to
 * be the same: lines that are wholly in use, as prefetching leaves them, are compared in one.
 */
static uint64_t may_differ(const struct vtlb_table *table, unsigned first, uint64_t used)
{
    uint64_t whole = used & used >> 4;

    whole &= whole >> 2;
    whole &= whole >> 1;
    for (whole &= UINT64_MAX / (BIT(LINE) - 1); whole != 0; whole &= whole - 1) {
        const unsigned line = (unsigned)__builtin_ctzll(whole);
        if (line_is_same(table, first + line))
            used &= ~((BIT(LINE) - 1) << line);
    }
    return used;
}

/* Compares the entries of `table` with the guest's; those that no longer say the same go, with what is below.
 */
static void compare(struct pass *pass, struct vtlb_table *table)
{
    const struct paging_format *source = table->family.source;
    const uint64_t *snapshot = vtlb_table_entries(table->snapshot);
    const bool pages = table->level == 1;

    pass->compared += table->entries;
    for (unsigned words = table->words; words != 0; words &= words - 1) {
        const unsigned first = (unsigned)__builtin_ctz(words) * 64;
        uint64_t rest = table->used[first / 64];

        if (pages && source->entry_size == sizeof(uint64_t))
            rest = may_differ(table, first, rest);
        for (; rest != 0; rest &= rest - 1) {
            const unsigned slot = first + (unsigned)__builtin_ctzll(rest);
            const uint64_t before = snapshot[slot], now = vtlb_guest_entry(table, slot);

            if (!vtlb_unchanged(source, before, now))
                pass->dropped += vtlb_entry_drop(pass->vtlb, table, slot);
            else if (!pages)
                look_below(pass, table, slot);
        }
    }
}

/*
 * Takes out of `table`, which is due, and of what is below it whatever a walk would not give now; what is
 * global need not be looked at unless asked for. What is below a large page of the guest's hangs on the entry
 * above. The depth is that of the tables.
 */
static void look_through(struct pass *pass, struct vtlb_table *table)
{
    table->time = pass->vtlb->time;
    if (table->prefetched_anew) {
        table->prefetched_anew = false;
        vtlb_table_settle(pass->vtlb, table);
    }
    if (table->snapshot != NULL) {
        if (table->level > 1 || table->locals > 0 || pass->all)
            compare(pass, table);
    } else if (table->family.source != NULL && table->level > table->family.source->levels) {
        for_each_used(slot, table)
            look_below(pass, table, slot);
    }
}

/* ---- Single addresses -----------------------------------------------------------------------------------
 */

/*
 * Drops the page that `table` and those down to level `lowest` hold for `address`, and if it is a piece of a
 * large page of the guest's all that hangs on the same entry; with `globals` only if it is global, else also
 * a table that the guest no longer has there. Returns how many pages' entries went.
 */
static uint64_t drop_page(struct vtlb *vtlb, struct vtlb_table *table, uint64_t address, bool globals,
                          unsigned lowest)
{
    const struct paging_format *target = table->family.target, *source = table->family.source;

    while (table->level >= lowest) {
        const unsigned slot = vtlb_slot(table, address);
        const uint64_t entry = vtlb_table_entries(table)[slot];

        if (entry == 0)
            return 0;
        if (vtlb_maps_page(table, entry))
            return globals && (entry & target->global) == 0 ? 0 : vtlb_entry_drop(vtlb, table, slot);

        struct vtlb_table *child = vtlb_table_of(vtlb, target, entry);
        if (table->snapshot != NULL) {
            const uint64_t before = vtlb_table_entries(table->snapshot)[slot];
            const bool is_page = child->snapshot == NULL;
            if (globals ? is_page && (before & source->global) != 0
                        : is_page || !vtlb_unchanged(source, before, vtlb_guest_entry(table, slot)))
                return vtlb_entry_drop(vtlb, table, slot);
        }
        table = child;
    }
    return 0;
}

/* Whether a large page of the guest's has two entries of the target's: those of a 32-bit guest. */
static bool has_twins(const struct vtlb_family *family)
{
    return family->source != NULL && family->source->level[2].shift > family->target->level[2].shift;
}

/* Drops what `table`, and all below it, holds for `address`; with `globals` only what is global. */
static void drop_address(struct vtlb *vtlb, struct vtlb_table *table, uint64_t address, bool globals)
{
    const struct vtlb_family *family = &table->family;
    uint64_t dropped = drop_page(vtlb, table, address, globals, 1);

    if (has_twins(family))
        dropped += drop_page(vtlb, table, address ^ BIT(family->target->level[2].shift), globals, 2);
    vtlb->statistics.flushed_entries += dropped;
}

/* Whether `address` is among those that `table` translates. */
static bool covers(const struct vtlb_context *context, const struct vtlb_table *table, uint64_t address)
{
    const struct paging_format *target = table->family.target;

    return table == context->root ||
           ((address ^ table->base) &
            (BIT(target->address_bits) - BIT(target->level[table->level + 1].shift))) == 0;
}

/* ---- Keeping up -----------------------------------------------------------------------------------------
 */

/* Where the time is kept when what `tag` has but globals was invalidated last. */
static uint64_t *tag_place(struct vtlb *vtlb, uint64_t tag)
{
    return &vtlb->tag_invalid[(tag ^ tag / VTLB_TAGS ^ tag / PAGE_SIZE ^ tag / PAGE_SIZE / VTLB_TAGS) %
                              VTLB_TAGS];
}

/* Where the guest's top table lies is to be found anew. Its root, empty, stays in use. */
static void forget_place(const struct vtlb_context *context)
{
    context->root->guest_memory = false;
    if (context->registers == NULL)
        context->root->guest = NULL;
}

void vtlb_catch_up(const struct vtlb_context *context, struct vtlb_table *table)
{
    struct vtlb *vtlb = context->vtlb;
    const uint64_t time = table->time;
    const uint64_t all = max_u64(vtlb->all_invalid, vtlb->log_lost);
    const uint64_t locals = max_u64(vtlb->locals_invalid, *tag_place(vtlb, context->family.tag));
    struct pass pass = {
        .vtlb = vtlb,
        .since = max_u64(max_u64(all, locals), vtlb->faulted),
        .all = time < all,
    };
    const bool looks = time < pass.since;

    /* What single addresses are due as well is found by the same look, in tables that have missed the last of
     * them. */
    if (looks)
        pass.since = max_u64(pass.since, vtlb->log[(vtlb->log_next - 1) % VTLB_LOG].time);
    if (looks && !vtlb_table_is_trusted(vtlb, table)) {
        vtlb->statistics.flushed_entries += vtlb_table_empty(vtlb, table);
        table->made = vtlb->time;
        if (table == context->root)
            forget_place(context);
    } else if (looks && vtlb->mode == VTLB_CACHED) {
        look_through(&pass, table);
        vtlb->statistics.compared += pass.compared;
        vtlb->statistics.changed += pass.dropped;
    } else if (looks) {
        drop_pages(&pass, table);
        vtlb->statistics.flushed_entries += pass.dropped;
    }
    for (uint32_t i = 1; i <= VTLB_LOG && !pass.all; i++) {
        const struct vtlb_invalidation *past = &vtlb->log[(vtlb->log_next - i) % VTLB_LOG];
        if (past->time <= time)
            break;
        if (covers(context, table, past->address))
            drop_address(vtlb, table, past->address, looks || past->tag != context->family.tag);
    }
    table->time = vtlb->time;
}

/* `scope` (of `tag`, if by tag) is invalid from now on. */
static void note_invalid(struct vtlb *vtlb, enum vtlb_scope scope, uint64_t tag)
{
    const uint64_t now = ++vtlb->time;

    if (scope == VTLB_SCOPE_ALL)
        vtlb->all_invalid = now;
    else if (scope == VTLB_SCOPE_NOT_GLOBALS)
        vtlb->locals_invalid = now;
    else
        *tag_place(vtlb, tag) = now;
}

void vtlb_invalidate(struct vtlb *vtlb, enum vtlb_scope scope, uint64_t tag)
{
    if (scope == VTLB_SCOPE_NONE)
        return;
    note_invalid(vtlb, scope, tag);
    vtlb->statistics.flushes[scope == VTLB_SCOPE_ALL ? VTLB_FLUSH_ALL : VTLB_FLUSH_TAG]++;
    if (vtlb->current != NULL)
        vtlb_catch_up(vtlb->current, vtlb->current->root);
}

void vtlb_invalidate_address(struct vtlb *vtlb, uint64_t tag, uint64_t address)
{
    struct vtlb_invalidation *next = &vtlb->log[vtlb->log_next++ % VTLB_LOG];

    vtlb->log_lost = next->time;
    *next = (struct vtlb_invalidation){.time = ++vtlb->time, .address = address, .tag = tag};
    vtlb->statistics.flushes[VTLB_FLUSH_ADDRESS]++;
    if (vtlb->current == NULL)
        return;
    /* Its root was of the moment before: there is no more to catch up with. */
    drop_address(vtlb, vtlb->current->root, address, tag != vtlb->current->family.tag);
    vtlb->current->root->time = vtlb->time;
}

void vtlb_doubt(struct vtlb *vtlb)
{
    vtlb->doubted = ++vtlb->time;
    vtlb->current->root->time = vtlb->time;
}

void vtlb_forget_faulted(struct vtlb *vtlb, struct vtlb_table *table, uint64_t address, bool behind)
{
    vtlb->faulted = ++vtlb->time;
    if (behind)
        vtlb_doubt(vtlb);
    /* The twin of what a large page was may be left over beside `table`. */
    drop_address(vtlb, has_twins(&table->family) ? vtlb->current->root : table, address, false);
    vtlb->current->root->time = vtlb->time;
}

/*
 * Other contexts of the current one's tag, which is no longer that, may have what faults in it made the
 * processor forget. All but what is global is not to be trusted there: this is rare where each switch
 * flushes, or each space has a tag of its own.
 */
static void distrust_others(struct vtlb *vtlb)
{
    if (vtlb->current == NULL || vtlb->faulted == 0)
        return;
    uint64_t *place = tag_place(vtlb, vtlb->current->family.tag);
    *place = max_u64(*place, vtlb->faulted);
    vtlb->faulted = 0;
}

/*
 * Drops them where they were made: the guest may have taken their tables out of the current context
 * meanwhile, and another one may have them. A table that was given back and taken again has other entries
 * there: no loss.
 */
void vtlb_end_transient(struct vtlb *vtlb)
{
    for (; vtlb->transient_count > 0; vtlb->transient_count--) {
        const struct vtlb_grant *grant = &vtlb->transients[vtlb->transient_count - 1];

        if (grant->table->references > 0 &&
            vtlb_maps_page(grant->table, vtlb_table_entries(grant->table)[grant->slot]))
            vtlb->statistics.flushed_entries += vtlb_entry_drop(vtlb, grant->table, grant->slot);
    }
}

/* ---- Contexts -------------------------------------------------------------------------------------------
 */

void vtlb_slot_close(struct vtlb_context *context, enum vtlb_flush_cause cause)
{
    struct vtlb *vtlb = context->vtlb;

    vtlb_context_empty(context, cause);
    vtlb_table_release(vtlb, context->root);
    context->vtlb = NULL;
}

static struct vtlb_context *find(struct vtlb *vtlb, const struct vtlb_space *space)
{
    for_each_slot(c, vtlb)
        if (c->guest_root == space->root && c->vtlb != NULL && c->family.tag == space->tag &&
            c->family.behind == space->behind && c->family.role == space->role &&
            c->family.source == space->source && c->family.target == space->target &&
            c->family.chain == space->chain)
            return c;
    return NULL;
}

/* A slot without a context: the one of that used least recently if there is none. */
static struct vtlb_context *free_slot(struct vtlb *vtlb)
{
    struct vtlb_context *oldest = &vtlb->slots[0];

    for_each_slot(c, vtlb) {
        if (c->vtlb == NULL)
            return c;
        if (c->last_use < oldest->last_use)
            oldest = c;
    }
    vtlb->statistics.contexts_evicted++;
    vtlb_slot_close(oldest, VTLB_FLUSH_RECLAIM);
    return oldest;
}

static struct vtlb_context *make(struct vtlb *vtlb, const struct vtlb_space *space)
{
    const struct vtlb_family family = {
        .chain = space->chain,
        .source = space->source,
        .target = space->target,
        .behind = space->behind,
        .tag = space->tag,
        .role = space->role,
    };
    struct vtlb_context *context;

    vtlb->statistics.contexts_made++;
    if (vtlb->mode == VTLB_BASE)
        for_each_slot(c, vtlb)
            if (c->vtlb != NULL)
                vtlb_slot_close(c, VTLB_FLUSH_ROOT);
    context = free_slot(vtlb);
    while (!vtlb_context_open(context, vtlb, &family))
        vtlb_reclaim(vtlb, NULL);
    context->guest_root = space->root;
    context->root->guest_table = space->root;
    return context;
}

struct vtlb_context *vtlb_switch(struct vtlb *vtlb, const struct vtlb_space *space, enum vtlb_scope flushed)
{
    struct vtlb_context *context;

    if (vtlb_has_transient(vtlb))
        vtlb_end_transient(vtlb);
    if (flushed != VTLB_SCOPE_NONE) {
        note_invalid(vtlb, flushed, space->tag);
        vtlb->statistics.flushes[flushed == VTLB_SCOPE_TAG ? VTLB_FLUSH_ROOT : VTLB_FLUSH_ALL]++;
    }
    context = find(vtlb, space);
    if (context != vtlb->current)
        distrust_others(vtlb);
    vtlb->current = NULL;
    if (context != NULL)
        vtlb->statistics.hits++;
    else
        context = make(vtlb, space);
    context->registers = space->registers;
    if (space->registers != NULL)
        context->root->guest = (const unsigned char *)space->registers;
    context->last_use = ++vtlb->uses;
    vtlb->current = context;
    vtlb_catch_up(context, context->root);
    /* CR3 has 32 bits where linear addresses have. */
    invariant(space->target->address_bits > 32 || vtlb_root(context).value <= UINT32_MAX);
    return context;
}

void vtlb_leave(struct vtlb *vtlb)
{
    vtlb_end_transient(vtlb);
    distrust_others(vtlb);
    vtlb->current = NULL;
}

/* Empties what vtlb_switch made, all but the context in use for good. */
static void drop_context(struct vtlb *vtlb, struct vtlb_context *context, enum vtlb_flush_cause cause)
{
    if (context != vtlb->current) {
        vtlb_slot_close(context, cause);
        return;
    }
    vtlb_context_empty(context, cause);
    forget_place(context);
}

void vtlb_drop(struct vtlb *vtlb, enum vtlb_flush_cause cause)
{
    vtlb->transient_count = 0;
    vtlb->typed_shift = 0;
    vtlb->carried_chain = NULL;
    for_each_slot(c, vtlb)
        if (c->vtlb != NULL)
            drop_context(vtlb, c, cause);
}

void vtlb_invalidate_behind(struct vtlb *vtlb, uint64_t behind)
{
    for_each_slot(c, vtlb)
        if (c->vtlb != NULL && c->family.behind != 0 && (behind == 0 || c->family.behind == behind))
            drop_context(vtlb, c, VTLB_FLUSH_ALL);
}
