// SPDX-License-Identifier: BSD-2-Clause
#include "mm/vtlb_tables.h"

#include "lib/panic.h"
#include "lib/string.h"

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

/* Moves all of `from` in front of `to`. */
static void list_splice(struct vtlb_list *to, struct vtlb_list *from)
{
    if (from->count == 0)
        return;
    from->last->next = to->first;
    if (to->first != NULL)
        to->first->previous = from->last;
    else
        to->last = from->last;
    to->first = from->first;
    to->count += from->count;
    *from = (struct vtlb_list){0};
}

void vtlb_tables_init(struct vtlb *vtlb)
{
    memset(physmap_pointer(vtlb->base), 0, vtlb->pages * PAGE_SIZE);
    for (uint32_t i = vtlb->pages; i-- > 0;) {
        vtlb->tables[i] = (struct vtlb_table){0};
        list_push(&vtlb->clean, &vtlb->tables[i]);
    }
}

uint32_t vtlb_clean(struct vtlb *vtlb, uint32_t budget)
{
    uint32_t cleaned = 0;

    while (cleaned < budget && vtlb->dirty.count > 0) {
        struct vtlb_table *table = vtlb->dirty.first;
        list_remove(&vtlb->dirty, table);
        memset(vtlb_table_entries(vtlb, table), 0, PAGE_SIZE);
        list_push(&vtlb->clean, table);
        cleaned++;
    }
    return cleaned;
}

/* A page off the clean list; NULL: none. */
static struct vtlb_table *page_take(struct vtlb *vtlb)
{
    struct vtlb_statistics *statistics = &vtlb->statistics;
    struct vtlb_table *table;

    if (unlikely(vtlb->clean.count == 0)) {
        if (vtlb_clean(vtlb, 1) == 0)
            return NULL;
        statistics->cleaned_late++;
    }
    table = vtlb->clean.first;
    list_remove(&vtlb->clean, table);
    statistics->tables_used++;
    if (statistics->tables_used > statistics->tables_peak)
        statistics->tables_peak = statistics->tables_used;
    return table;
}

struct vtlb_table *vtlb_root_take(struct vtlb *vtlb, uint8_t level)
{
    struct vtlb_table *root = page_take(vtlb);

    if (root == NULL)
        return NULL;
    *root = (struct vtlb_table){.level = level};
    vtlb->roots++;
    return root;
}

void vtlb_root_release(struct vtlb *vtlb, struct vtlb_table *root)
{
    invariant(root->entries == 0);
    list_push(&vtlb->clean, root);
    vtlb->roots--;
    vtlb->statistics.tables_used--;
}

struct vtlb_table *vtlb_table_link(struct vtlb_context *context, struct vtlb_table *parent, unsigned slot)
{
    struct vtlb *vtlb = context->vtlb;
    struct vtlb_table *table = page_take(vtlb);
    uint64_t entry;

    if (table == NULL)
        return NULL;
    table->parent = parent;
    table->slot = (uint16_t)slot;
    table->entries = 0;
    table->level = parent->level - 1;
    list_push(&context->tables, table);

    entry = paging_table_entry(context->target, parent->level, vtlb_table_address(vtlb, table));
    vtlb_entry_write(&vtlb_table_entries(vtlb, parent)[slot], entry);
    parent->entries++;
    if (parent == context->root) {
        if (slot < context->root_first)
            context->root_first = (uint16_t)slot;
        if (slot > context->root_last)
            context->root_last = (uint16_t)slot;
    }
    return table;
}

/* The root's entries in use begin and end nowhere. */
static void root_span_reset(struct vtlb_context *context)
{
    context->root_first = UINT16_MAX;
    context->root_last = 0;
}

uint64_t vtlb_entry_drop(struct vtlb_context *context, struct vtlb_table *table, unsigned slot)
{
    struct vtlb *vtlb = context->vtlb;
    uint64_t *entry = &vtlb_table_entries(vtlb, table)[slot];
    const uint64_t old = *entry;
    uint64_t dropped = 0;

    if (old == 0)
        return 0;
    vtlb_entry_write(entry, 0);
    table->entries--;
    if (table == context->root && table->entries == 0)
        root_span_reset(context);
    if (paging_maps_page(context->target, table->level, old)) {
        context->leaves--;
        return 1;
    }

    struct vtlb_table *child = vtlb_table_of(context, old);
    for (unsigned i = 0; child->entries > 0; i++)
        dropped += vtlb_entry_drop(context, child, i);
    /* Entry by entry it has become zero. */
    list_remove(&context->tables, child);
    list_push(&vtlb->clean, child);
    vtlb->statistics.tables_used--;
    return dropped;
}

uint64_t vtlb_tables_drop_all(struct vtlb_context *context)
{
    struct vtlb *vtlb = context->vtlb;
    uint64_t *entries = vtlb_table_entries(vtlb, context->root);
    const uint64_t dropped = context->leaves;

    for (unsigned i = context->root_first; i <= context->root_last; i++)
        vtlb_entry_write(&entries[i], 0);
    context->root->entries = 0;
    root_span_reset(context);
    vtlb->statistics.tables_used -= context->tables.count;
    list_splice(&vtlb->dirty, &context->tables);
    context->leaves = 0;
    return dropped;
}
