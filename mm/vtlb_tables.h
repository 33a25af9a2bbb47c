// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The pages of a virtual TLB's quota and the tables that they hold: taking, finding, linking, dropping.
 * Private to mm/vtlb*.
 */
#include "mm/physmap.h"
#include "mm/vtlb.h"

/* In a page's entry, where the processor ignores it: prefetched, and not known yet to have been used or not.
 */
#define VTLB_PREFETCHED BIT(9)

/* The address of the page that holds `table`. */
static inline hpa_t vtlb_table_address(const struct vtlb *vtlb, const struct vtlb_table *table)
{
    return HPA(vtlb->base.value + (uint64_t)(table - vtlb->tables) * PAGE_SIZE);
}

/* Its entries; of a snapshot what it holds. */
static inline uint64_t *vtlb_table_entries(const struct vtlb_table *table)
{
    return table->entries_at;
}

/* Which entry of `table` translates `address`. */
static inline unsigned vtlb_slot(const struct vtlb_table *table, uint64_t address)
{
    return (unsigned)(address >> table->layout->shift) & table->layout->index_mask;
}

/* True if `entry`, one of `table` that is not 0, maps a page; false if it refers to a table. */
static inline bool vtlb_maps_page(const struct vtlb_table *table, uint64_t entry)
{
    return (entry & table->page_bits) != 0;
}

/* The table that `entry`, one of a table for `target` that refers to a table, refers to. */
static inline struct vtlb_table *vtlb_table_of(const struct vtlb *vtlb, const struct paging_format *target,
                                               uint64_t entry)
{
    return &vtlb->tables[((entry & target->address) - vtlb->base.value) / PAGE_SIZE];
}

/* Writes one entry, in one piece: the processor may be walking. */
static inline void vtlb_entry_write(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELAXED);
}

static inline bool vtlb_slot_used(const struct vtlb_table *table, unsigned slot)
{
    return (table->used[slot / 64] >> (slot % 64) & 1) != 0;
}

/*
 * The first entry in use from `slot` on; VTLB_SLOTS: none. `for_each_used` visits all; the body may drop the
 * one that it is at.
 */
#define VTLB_SLOTS 512

static inline unsigned vtlb_next_used(const struct vtlb_table *table, unsigned slot)
{
    for (; slot < VTLB_SLOTS; slot = (slot / 64 + 1) * 64) {
        const uint64_t rest = table->used[slot / 64] >> (slot % 64);
        if (rest != 0)
            return slot + (unsigned)__builtin_ctzll(rest);
    }
    return VTLB_SLOTS;
}

#define for_each_used(slot, table)                                                                           \
    for (unsigned slot = vtlb_next_used(table, 0); slot < VTLB_SLOTS; slot = vtlb_next_used(table, slot + 1))

/* The page of the guest's table that `table` stands for, where Umbra reaches it; NULL: no memory is there. */
static inline const unsigned char *vtlb_table_host(const struct vtlb_table *table)
{
    return table->guest_memory ? (const unsigned char *)align_down((uintptr_t)table->guest, PAGE_SIZE) : NULL;
}

/*
 * Whether what is known of where the guest's table of `table` lies, and of what lies behind its entries, may
 * be relied on after an invalidation.
 */
static inline bool vtlb_table_is_trusted(const struct vtlb *vtlb, const struct vtlb_table *table)
{
    return likely(table->family.behind == 0) || table->made >= vtlb->doubted;
}

/* The guest's entry, as it is now, that entry `slot` of `table` is made from. */
static inline uint64_t vtlb_guest_entry(const struct vtlb_table *table, unsigned slot)
{
    const struct paging_format *source = table->family.source;
    const unsigned level = table->level;

    if (source->entry_size == sizeof(uint64_t))
        return __atomic_load_n((const uint64_t *)(const void *)table->guest + slot, __ATOMIC_RELAXED);
    slot >>= source->level[level].shift - table->family.target->level[level].shift;
    return __atomic_load_n((const uint32_t *)(const void *)table->guest + slot, __ATOMIC_RELAXED);
}

/*
 * Whether what was made of the guest's entry when it was `before` still is what a walk would make of `now`: A
 * and D may have been set since, but not cleared.
 */
static inline bool vtlb_unchanged(const struct paging_format *source, uint64_t before, uint64_t now)
{
    return likely(before == now) ||
           ((before & ~now) | ((before ^ now) & ~(source->accessed | source->dirty))) == 0;
}

/* Makes all pages of the quota clean, and clears them. */
void vtlb_tables_init(struct vtlb *vtlb);

/* True if the quota has room for one more root for good: one address space with one path must fit besides. */
static inline bool vtlb_root_fits(const struct vtlb *vtlb)
{
    return vtlb->roots + 1 + VTLB_PAGES_MIN <= vtlb->pages;
}

/* A new table without entries and references, of now; with a snapshot if asked for. NULL: pages have run out.
 */
struct vtlb_table *vtlb_table_take(struct vtlb *vtlb, const struct vtlb_family *family, unsigned level,
                                   bool with_snapshot);

/*
 * Gives a reference up; with the last one `table` goes, and what only it refers to. Returns how many pages'
 * entries went.
 */
uint64_t vtlb_table_release(struct vtlb *vtlb, struct vtlb_table *table);

/* Which guest's table a table stands for. */
struct vtlb_identity {
    const struct vtlb_family *family;
    uint64_t guest_table, base;
    const unsigned char
        *host; /* where Umbra reaches the guest's table: the same address may lead elsewhere */
    uint8_t level, rights;
};

/* The table that stands for this one in any context, or NULL. */
struct vtlb_table *vtlb_table_find(const struct vtlb *vtlb, const struct vtlb_identity *identity);

/* A new table that stands for it; `guest` is still to be set. NULL: pages have run out. */
struct vtlb_table *vtlb_table_make(struct vtlb *vtlb, const struct vtlb_identity *identity);

/* Makes entry `slot` of `parent`, which is 0, refer to `child`. */
void vtlb_table_link(struct vtlb *vtlb, struct vtlb_table *parent, unsigned slot, struct vtlb_table *child);

/* Makes entry `slot` of `table`, which is 0 or maps a page, `entry`, which maps one. */
void vtlb_page_write(struct vtlb *vtlb, struct vtlb_table *table, unsigned slot, uint64_t entry);

/*
 * Makes entry `slot` of `table`, whatever it is, 0, and drops what lies below it unless it is referred to
 * from elsewhere; the generation grows. The table that it is in stays, even if empty. Returns how many pages'
 * entries went.
 */
uint64_t vtlb_entry_drop(struct vtlb *vtlb, struct vtlb_table *table, unsigned slot);

/* The same for all entries. */
uint64_t vtlb_table_empty(struct vtlb *vtlb, struct vtlb_table *table);

/* Looks which prefetched entries of `table` were used, and counts them. */
void vtlb_table_settle(struct vtlb *vtlb, struct vtlb_table *table);
