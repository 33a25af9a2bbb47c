// SPDX-License-Identifier: BSD-2-Clause
#include "mm/vtlb_tables.h"

#include "lib/string.h"

/* ---- Pages ----------------------------------------------------------------------------------------------
 */

static void list_push(struct vtlb_list *list, struct vtlb_table *table)
{
    table->previous = NULL;
    table->next = list->first;
    if (list->first != NULL)
        list->first->previous = table;
    else
        list->last = table;
    list->first = table;
    list->count++;
}

static void list_append(struct vtlb_list *list, struct vtlb_table *table)
{
    table->next = NULL;
    table->previous = list->last;
    if (list->last != NULL)
        list->last->next = table;
    else
        list->first = table;
    list->last = table;
    list->count++;
}

static void list_remove(struct vtlb_list *list, struct vtlb_table *table)
{
    if (table->previous != NULL)
        table->previous->next = table->next;
    else
        list->first = table->next;
    if (table->next != NULL)
        table->next->previous = table->previous;
    else
        list->last = table->previous;
    list->count--;
}

void vtlb_tables_init(struct vtlb *vtlb)
{
    memset(physmap_pointer(vtlb->base), 0, vtlb->pages * PAGE_SIZE);
    for (uint32_t i = vtlb->pages; i-- > 0;) {
        vtlb->tables[i] = (struct vtlb_table){0};
        vtlb->tables[i].entries_at = physmap_pointer(vtlb_table_address(vtlb, &vtlb->tables[i]));
        list_push(&vtlb->clean, &vtlb->tables[i]);
    }
}

uint32_t vtlb_clean(struct vtlb *vtlb, uint32_t budget)
{
    uint32_t cleaned = 0;

    while (cleaned < budget && vtlb->dirty.count > 0) {
        struct vtlb_table *table = vtlb->dirty.first;
        uint64_t *entries = vtlb_table_entries(table);

        list_remove(&vtlb->dirty, table);
        for_each_used(slot, table)
            entries[slot] = 0;
        memset(table->used, 0, sizeof(table->used));
        table->words = 0;
        list_push(&vtlb->clean, table);
        cleaned++;
    }
    return cleaned;
}

static void count_used(struct vtlb *vtlb)
{
    struct vtlb_statistics *statistics = &vtlb->statistics;

    if (++statistics->tables_used > statistics->tables_peak)
        statistics->tables_peak = statistics->tables_used;
}

/* A clean page; NULL: none. */
static struct vtlb_table *take_clean(struct vtlb *vtlb)
{
    struct vtlb_table *table;

    if (unlikely(vtlb->clean.count == 0)) {
        if (vtlb_clean(vtlb, 1) == 0)
            return NULL;
        vtlb->statistics.cleaned_late++;
    }
    table = vtlb->clean.first;
    list_remove(&vtlb->clean, table);
    count_used(vtlb);
    return table;
}

/* A page for a snapshot, which need not be clean: rather one that was a snapshot before. NULL: none. */
static struct vtlb_table *take_any(struct vtlb *vtlb)
{
    struct vtlb_list *list = vtlb->dirty.count > 0 ? &vtlb->dirty : &vtlb->clean;
    struct vtlb_table *page = list->last;

    if (page == NULL)
        return NULL;
    list_remove(list, page);
    count_used(vtlb);
    return page;
}

/* The table's `used` says what is to be cleared. */
static void give_table_back(struct vtlb *vtlb, struct vtlb_table *table)
{
    list_push(table->entries > 0 ? &vtlb->dirty : &vtlb->clean, table);
    vtlb->statistics.tables_used--;
}

static void give_snapshot_back(struct vtlb *vtlb, struct vtlb_table *page)
{
    memset(page->used, 0xff, sizeof(page->used));
    list_append(&vtlb->dirty, page);
    vtlb->statistics.tables_used--;
}

struct vtlb_table *vtlb_table_take(struct vtlb *vtlb, const struct vtlb_family *family, unsigned level,
                                   bool with_snapshot)
{
    struct vtlb_table *table = take_clean(vtlb);
    struct vtlb_table *snapshot = NULL;

    if (table == NULL)
        return NULL;
    if (with_snapshot && (snapshot = take_any(vtlb)) == NULL) {
        table->entries = 0;
        give_table_back(vtlb, table);
        return NULL;
    }
    table->next = NULL;
    table->snapshot = snapshot;
    table->family = *family;
    table->layout = &family->target->level[level];
    table->page_bits = level == 1 ? UINT64_MAX : table->layout->maps_page ? family->target->large : 0;
    table->guest = NULL;
    table->guest_memory = false;
    table->time = table->made = vtlb->time;
    table->references = 0;
    table->entries = 0;
    table->locals = 0;
    table->prefetched = 0;
    table->prefetched_anew = false;
    table->level = (uint8_t)level;
    table->shared = false;
    return table;
}

/* ---- The tables that stand for a guest's ----------------------------------------------------------------
 */

static struct vtlb_table **bucket_of(const struct vtlb *vtlb, uint64_t guest_table, uint64_t base)
{
    const uint64_t mixed = (guest_table / PAGE_SIZE ^ base / PAGE_SIZE) * 0x9e3779b97f4a7c15;

    return (struct vtlb_table **)&vtlb->hash[mixed >> 32 & (VTLB_HASH_BUCKETS - 1)];
}

static bool family_equal(const struct vtlb_family *a, const struct vtlb_family *b)
{
    return a->chain == b->chain && a->source == b->source && a->target == b->target && a->role == b->role &&
           a->tag == b->tag && a->behind == b->behind;
}

struct vtlb_table *vtlb_table_find(const struct vtlb *vtlb, const struct vtlb_identity *identity)
{
    struct vtlb_table *table = *bucket_of(vtlb, identity->guest_table, identity->base);

    while (table != NULL &&
           (table->guest_table != identity->guest_table || table->base != identity->base ||
            table->level != identity->level || table->rights != identity->rights ||
            vtlb_table_host(table) != identity->host || !family_equal(&table->family, identity->family)))
        table = table->next;
    return table;
}

struct vtlb_table *vtlb_table_make(struct vtlb *vtlb, const struct vtlb_identity *identity)
{
    struct vtlb_table **bucket = bucket_of(vtlb, identity->guest_table, identity->base);
    struct vtlb_table *table = vtlb_table_take(vtlb, identity->family, identity->level, true);

    if (table == NULL)
        return NULL;
    table->guest_table = identity->guest_table;
    table->base = identity->base;
    table->rights = identity->rights;
    table->shared = true;
    table->next = *bucket;
    *bucket = table;
    return table;
}

static void forget(struct vtlb *vtlb, struct vtlb_table *table)
{
    struct vtlb_table **link = bucket_of(vtlb, table->guest_table, table->base);

    while (*link != table)
        link = &(*link)->next;
    *link = table->next;
}

/* ---- Entries --------------------------------------------------------------------------------------------
 */

static void mark_used(struct vtlb_table *table, unsigned slot)
{
    table->used[slot / 64] |= BIT(slot % 64);
    table->words |= (uint8_t)BIT(slot / 64);
    table->entries++;
}

void vtlb_table_link(struct vtlb *vtlb, struct vtlb_table *parent, unsigned slot, struct vtlb_table *child)
{
    child->references++;
    mark_used(parent, slot);
    vtlb_entry_write(
        &vtlb_table_entries(parent)[slot],
        paging_table_entry(parent->family.target, parent->level, vtlb_table_address(vtlb, child)));
}

/* A page's entry is no longer what it was: `entry`. */
static void uncount(struct vtlb *vtlb, struct vtlb_table *table, uint64_t entry)
{
    const struct paging_format *target = table->family.target;

    if ((entry & target->global) == 0)
        table->locals--;
    if (table->prefetched > 0 && (entry & VTLB_PREFETCHED) != 0) {
        table->prefetched--;
        if ((entry & target->accessed) != 0)
            vtlb->statistics.prefetched_used++;
    }
}

void vtlb_page_write(struct vtlb *vtlb, struct vtlb_table *table, unsigned slot, uint64_t entry)
{
    uint64_t *place = &vtlb_table_entries(table)[slot];

    if (*place == 0)
        mark_used(table, slot);
    else
        uncount(vtlb, table, *place);
    if ((entry & table->family.target->global) == 0)
        table->locals++;
    vtlb_entry_write(place, entry);
}

void vtlb_table_settle(struct vtlb *vtlb, struct vtlb_table *table)
{
    uint64_t *entries = vtlb_table_entries(table);

    for_each_used(slot, table) {
        const uint64_t entry = entries[slot];
        if ((entry & VTLB_PREFETCHED) == 0 || (entry & table->family.target->accessed) == 0)
            continue;
        vtlb_entry_write(&entries[slot], entry & ~VTLB_PREFETCHED);
        table->prefetched--;
        vtlb->statistics.prefetched_used++;
    }
}

/* What becomes of what `entry`, which was in `table`, stood for. Returns how many pages' entries went. */
static uint64_t release_entry(struct vtlb *vtlb, const struct vtlb_table *table, uint64_t entry)
{
    if (vtlb_maps_page(table, entry))
        return 1;
    return vtlb_table_release(vtlb, vtlb_table_of(vtlb, table->family.target, entry));
}

uint64_t vtlb_table_release(struct vtlb *vtlb, struct vtlb_table *table)
{
    uint64_t dropped = 0;

    if (--table->references > 0)
        return 0;
    if (table->prefetched > 0)
        vtlb_table_settle(vtlb, table);
    if (table->level == 1) {
        dropped = table->entries;
    } else {
        const uint64_t *entries = vtlb_table_entries(table);
        for_each_used(slot, table)
            dropped += release_entry(vtlb, table, entries[slot]);
    }
    if (table->shared)
        forget(vtlb, table);
    table->shared = false;
    if (table->snapshot != NULL)
        give_snapshot_back(vtlb, table->snapshot);
    give_table_back(vtlb, table);
    return dropped;
}

uint64_t vtlb_entry_drop(struct vtlb *vtlb, struct vtlb_table *table, unsigned slot)
{
    uint64_t *place = &vtlb_table_entries(table)[slot];
    const uint64_t entry = *place;

    if (entry == 0)
        return 0;
    vtlb->generation++;
    vtlb_entry_write(place, 0);
    if ((table->used[slot / 64] &= ~BIT(slot % 64)) == 0)
        table->words &= (uint8_t)~BIT(slot / 64);
    table->entries--;
    if (vtlb_maps_page(table, entry))
        uncount(vtlb, table, entry);
    return release_entry(vtlb, table, entry);
}

uint64_t vtlb_table_empty(struct vtlb *vtlb, struct vtlb_table *table)
{
    uint64_t dropped = 0;

    for_each_used(slot, table)
        dropped += vtlb_entry_drop(vtlb, table, slot);
    return dropped;
}
