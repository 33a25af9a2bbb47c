// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The pages of a virtual TLB's quota and the tables that they hold: taking, linking, dropping. Private to
 * mm/vtlb*.
 */
#include "mm/physmap.h"
#include "mm/vtlb.h"

/* The address of the page that holds `table`. */
static inline hpa_t vtlb_table_address(const struct vtlb *vtlb, const struct vtlb_table *table)
{
    return HPA(vtlb->base.value + (uint64_t)(table - vtlb->tables) * PAGE_SIZE);
}

/* Its entries. */
static inline uint64_t *vtlb_table_entries(const struct vtlb *vtlb, const struct vtlb_table *table)
{
    return physmap_pointer(vtlb_table_address(vtlb, table));
}

/* The table that the entry at `entry` is in, and its place there. */
static inline struct vtlb_table *vtlb_table_holding(const struct vtlb *vtlb, const uint64_t *entry)
{
    return &vtlb->tables[(physmap_address(entry).value - vtlb->base.value) / PAGE_SIZE];
}

static inline unsigned vtlb_entry_slot(const uint64_t *entry)
{
    return (uintptr_t)entry % PAGE_SIZE / sizeof(*entry);
}

/* The table that `entry`, one of a context's that refers to a table, refers to. */
static inline struct vtlb_table *vtlb_table_of(const struct vtlb_context *context, uint64_t entry)
{
    const struct vtlb *vtlb = context->vtlb;

    return &vtlb->tables[((entry & context->target->address) - vtlb->base.value) / PAGE_SIZE];
}

/* Writes one entry, in one piece: the processor may be walking. */
static inline void vtlb_entry_write(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELAXED);
}

/* Makes all pages of the quota clean, and clears them. */
void vtlb_tables_init(struct vtlb *vtlb);

/* True if the quota has room for one more root, and one path of tables below some root besides. */
static inline bool vtlb_root_fits(const struct vtlb *vtlb)
{
    return vtlb->roots + VTLB_PAGES_MIN <= vtlb->pages;
}

/* A root without entries; NULL: no page is free. */
struct vtlb_table *vtlb_root_take(struct vtlb *vtlb, uint8_t level);

/* Gives a root back. The tables below must have been dropped. */
void vtlb_root_release(struct vtlb *vtlb, struct vtlb_table *root);

/* A new empty table below `parent`, linked there at `slot`, which is 0; NULL: the quota is used up. */
struct vtlb_table *vtlb_table_link(struct vtlb_context *context, struct vtlb_table *parent, unsigned slot);

/*
 * Makes entry `slot` of `table`, whatever it is, 0, and drops what lies below it: a page's entry, or a table
 * and all its entries. The table that it is in stays, even if empty. Returns how many pages' entries were
 * dropped.
 */
uint64_t vtlb_entry_drop(struct vtlb_context *context, struct vtlb_table *table, unsigned slot);

/* Drops all below the root, as one list. Returns how many pages' entries were dropped. */
uint64_t vtlb_tables_drop_all(struct vtlb_context *context);
