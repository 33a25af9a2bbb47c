// SPDX-License-Identifier: BSD-2-Clause
#include "mm/vtlb_audit.h"

#include "arch/x86/paging_ept.h"
#include "arch/x86/paging_x86.h"
#include "mm/overlay.h"
#include "mm/vtlb_tables.h"

/* What the tables on the way to an entry say. */
struct way {
    uint64_t address;            /* linear, of the first byte that the entry translates */
    uint8_t rights;              /* that the guest's entries so far leave: U, W, X; of EPT R, W, X */
    const uint64_t *guest_entry; /* the snapshot of the guest's that maps the page; NULL: not met yet */
    unsigned guest_level;        /* its level */
};

struct audit {
    const struct vtlb *vtlb;
    const struct p2m *p2m;
    const struct overlay *overlay; /* of the context that is looked at */
    const struct stage *memory;    /* the last stage of its chain */
    uint32_t used;                 /* pages */
};

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return #condition;                                                                               \
    } while (0)

/* ---- Pages' entries -------------------------------------------------------------------------------------
 */

/* True if `entry`, a page's, gives no right that `rights` has not. */
static bool within_rights(const struct paging_format *target, uint64_t entry, uint8_t rights)
{
    const uint64_t most = target->rights[(rights | PAGING_READ) & PAGING_RIGHTS];

    return (entry & target->present) != 0 && (entry & ~most & target->grant_set) == 0 &&
           (~entry & most & target->grant_clear) == 0;
}

/* The leaf lies in memory of the partition's. */
static const char *audit_memory(const struct audit *audit, const struct paging_format *target, uint64_t size,
                                uint64_t entry)
{
    const struct p2m *p2m = audit->p2m;
    const struct vtlb *vtlb = audit->vtlb;
    const uint64_t leaf = entry & target->address & ~(size - 1);
    const bool leaf_aligned = (entry & target->address & (size - 1)) == 0;
    const bool leaf_apart_from_quota =
        leaf + size <= vtlb->base.value || leaf >= vtlb->base.value + vtlb->pages * PAGE_SIZE;
    bool leaf_owned = frame_is_owned(p2m->pool, HPA(leaf), size, p2m->owner);
    bool leaf_within_region = false;

    for (size_t i = 0; i < p2m->count; i++) {
        const struct p2m_region *region = &p2m->regions[i];
        if (leaf >= region->hpa.value && leaf + size <= region->hpa.value + region->size &&
            within_rights(target, entry, region->rights | PAGING_USER)) {
            leaf_within_region = true;
            leaf_owned |= p2m_region_is_shared(p2m, region) &&
                          frame_is_owned(p2m->pool, HPA(leaf), size, frame_owner_of(p2m->pool, region->hpa));
        }
    }
    if (audit->overlay != NULL && audit->overlay->present && size == PAGE_SIZE &&
        leaf == audit->overlay->page.address)
        leaf_within_region = within_rights(target, entry, audit->overlay->page.rights);
    CHECK(leaf_aligned);
    CHECK(leaf_owned);
    CHECK(leaf_apart_from_quota);
    CHECK(leaf_within_region);
    return NULL;
}

/* The leaf says what the guest's entries said. */
static const char *audit_guest(const struct audit *audit, const struct vtlb_table *table,
                               const struct way *way, uint64_t entry)
{
    const struct paging_format *source = table->family.source, *target = table->family.target;
    const struct paging_level *level = &source->level[way->guest_level];
    const uint64_t value = *way->guest_entry, within = BIT(level->shift) - 1;
    const bool ept = source == &paging_ept;
    const uint64_t gpa =
        (ept ? value & source->address & ~within : paging_x86_page_address(source, way->guest_level, value)) |
        (way->address & within);
    const uint64_t size = BIT(target->level[table->level].shift);
    struct translation t;
    struct stage_fault fault;

    if (!ept) { /* whether that has A and D only its walker knows */
        CHECK((value & source->accessed) != 0);
        CHECK((entry & PTE_WRITE) == 0 || (value & source->dirty) != 0);
    }
    /* Writable where the guest's entries are not: a supervisor's page, by CR0.WP = 0 or a protection key. */
    CHECK(within_rights(target, entry, way->rights) ||
          (!ept && (entry & PTE_USER) == 0 && within_rights(target, entry, way->rights | PAGING_WRITE)));
    if (table->family.behind != 0)
        return NULL; /* what is behind may say something else by now */
    CHECK(audit->memory->walk(audit->memory, gpa, PAGING_READ, &t, &fault) == STAGE_DONE);
    CHECK((entry & target->address & ~(size - 1)) == t.address);
    return NULL;
}

/* ---- Tables ---------------------------------------------------------------------------------------------
 */

/* Narrows `way` to what the guest's entry `value` in a table of `level` leaves. */
static void take_guest_entry(struct way *way, const uint64_t *value, const struct vtlb_table *table)
{
    const struct paging_format *source = table->family.source;

    way->guest_entry = value;
    way->guest_level = table->level;
    if (source == &paging_x86_pae && table->level == 3)
        return;
    if (source == &paging_ept) {
        way->rights &= *value;
        return;
    }
    if ((*value & PTE_WRITE) == 0)
        way->rights &= ~PAGING_WRITE;
    if ((*value & PTE_USER) == 0)
        way->rights &= ~PAGING_USER;
    if (source->entry_size == 8 && (*value & PTE_NO_EXECUTE) != 0)
        way->rights &= ~PAGING_EXECUTE;
}

static const char *audit_entries(struct audit *audit, struct vtlb_table *table, struct way way);

/* What entry `slot` of `table` refers to, for the first time or again. */
static const char *audit_link(struct audit *audit, struct vtlb_table *table, unsigned slot, uint64_t entry,
                              struct way way)
{
    const struct vtlb *vtlb = audit->vtlb;
    const struct paging_format *target = table->family.target, *source = table->family.source;
    const uint64_t address = entry & target->address;

    CHECK((entry | target->accessed) == (paging_table_entry(target, table->level, HPA(address)) |
                                         target->accessed)); /* the processor sets A */
    CHECK(address >= vtlb->base.value);
    CHECK((address - vtlb->base.value) / PAGE_SIZE < vtlb->pages);

    struct vtlb_table *child = vtlb_table_of(vtlb, target, entry);
    CHECK(child->level + 1 == table->level);
    CHECK(child->family.target == target);
    CHECK(child->family.source == source);
    CHECK(child->family.tag == table->family.tag && child->family.role == table->family.role);
    CHECK(child->family.behind == table->family.behind);
    CHECK(child->references > 0);
    if (child->snapshot != NULL) {
        CHECK(child->shared);
        CHECK(child->base == way.address);
        CHECK(child->rights == way.rights);
        if (table->snapshot != NULL)
            CHECK(child->guest_table == (vtlb_table_entries(table->snapshot)[slot] & source->address));
        if (source != &paging_ept && (source != &paging_x86_pae || table->level < 3))
            CHECK(table->snapshot == NULL ||
                  (vtlb_table_entries(table->snapshot)[slot] & source->accessed) != 0);
    } else {
        CHECK(!child->shared);
        CHECK(child->references == 1);
    }
    if (child->audited++ == 0)
        return audit_entries(audit, child, way);
    return NULL;
}

static const char *audit_entries(struct audit *audit, struct vtlb_table *table, struct way way)
{
    const struct paging_format *target = table->family.target;
    const uint64_t *entries = vtlb_table_entries(table);
    unsigned used = 0, words = 0, locals = 0, prefetched = 0;

    audit->used++;
    if (table->snapshot != NULL) {
        CHECK(table->snapshot->audited == 0);
        table->snapshot->audited++;
        audit->used++;
    }
    for (unsigned slot = 0; slot < VTLB_SLOTS; slot++) {
        const uint64_t entry = entries[slot];
        struct way next = way;
        const char *broken;

        CHECK((entry != 0) == vtlb_slot_used(table, slot));
        if (entry == 0)
            continue;
        used++;
        words |= 1U << slot / 64;
        CHECK(slot <= target->level[table->level].index_mask);
        next.address += (uint64_t)slot << target->level[table->level].shift;
        if (table->snapshot != NULL)
            take_guest_entry(&next, &vtlb_table_entries(table->snapshot)[slot], table);
        if (!paging_maps_page(target, table->level, entry)) {
            broken = audit_link(audit, table, slot, entry, next);
        } else {
            locals += (entry & target->global) == 0;
            prefetched += table->prefetched > 0 && (entry & VTLB_PREFETCHED) != 0;
            broken = audit_memory(audit, target, BIT(target->level[table->level].shift), entry);
            if (broken == NULL && next.guest_entry != NULL)
                broken = audit_guest(audit, table, &next, entry);
        }
        if (broken != NULL)
            return broken;
    }
    CHECK(used == table->entries);
    CHECK(words == table->words);
    CHECK(locals == table->locals);
    CHECK(prefetched == table->prefetched);
    return NULL;
}

static const char *audit_context(struct audit *audit, const struct vtlb_context *context)
{
    const struct stage_chain *chain = &context->chain;
    const bool ept = context->family.source == &paging_ept;
    const struct way way = {.rights = (ept ? PAGING_READ : PAGING_USER) | PAGING_WRITE | PAGING_EXECUTE};
    struct vtlb_table *root = context->root;

    CHECK(context->vtlb == audit->vtlb);
    CHECK(root->references == 1);
    CHECK(root->audited == 0);
    CHECK(!root->shared);
    CHECK(root->level == context->family.target->levels);
    CHECK(context != audit->vtlb->current || root->time == audit->vtlb->time);
    root->audited++;
    audit->memory = chain->stages[chain->count - 1];
    audit->overlay = overlay_of(audit->memory);
    return audit_entries(audit, root, way);
}

/* ---- Free pages and the hash ----------------------------------------------------------------------------
 */

/* Free pages are zero where `used` does not say otherwise; clean ones are so everywhere. */
static const char *audit_list(const struct vtlb_list *list, bool is_clean)
{
    struct vtlb_table *previous = NULL;
    uint32_t length = 0;

    for (struct vtlb_table *table = list->first; table != NULL; table = table->next) {
        const uint64_t *page = vtlb_table_entries(table);

        CHECK(table->previous == previous);
        CHECK(length < list->count);
        CHECK(table->audited == 0);
        table->audited++;
        for (unsigned slot = 0; slot < VTLB_SLOTS; slot++) {
            CHECK(!is_clean || !vtlb_slot_used(table, slot));
            CHECK(page[slot] == 0 || vtlb_slot_used(table, slot));
        }
        length++;
        previous = table;
    }
    CHECK(list->last == previous);
    CHECK(length == list->count);
    return NULL;
}

/* Every table that can be shared is found under what it stands for; nothing else is there. */
static const char *audit_hash(const struct vtlb *vtlb)
{
    uint32_t hashed = 0, shared = 0;

    for (unsigned i = 0; i < VTLB_HASH_BUCKETS; i++) {
        for (const struct vtlb_table *table = vtlb->hash[i]; table != NULL; table = table->next) {
            const struct vtlb_identity identity = {.family = &table->family,
                                                   .guest_table = table->guest_table,
                                                   .base = table->base,
                                                   .host = vtlb_table_host(table),
                                                   .level = table->level,
                                                   .rights = table->rights};
            CHECK(table->shared);
            CHECK(table->audited > 0);
            CHECK(vtlb_table_find(vtlb, &identity) == table);
            CHECK(hashed < vtlb->pages);
            hashed++;
        }
    }
    for (uint32_t i = 0; i < vtlb->pages; i++)
        shared += vtlb->tables[i].audited > 0 && vtlb->tables[i].shared;
    CHECK(hashed == shared);
    return NULL;
}

const char *vtlb_audit(const struct vtlb *vtlb, const struct p2m *p2m)
{
    const struct vtlb_statistics *statistics = &vtlb->statistics;
    struct audit audit = {.vtlb = vtlb, .p2m = p2m};
    uint32_t roots = 0;
    const char *broken;

    for (uint32_t i = 0; i < vtlb->pages; i++)
        vtlb->tables[i].audited = 0;
    broken = audit_list(&vtlb->clean, true);
    if (broken == NULL)
        broken = audit_list(&vtlb->dirty, false);
    for (const struct vtlb_context *c = vtlb->contexts; c != NULL && broken == NULL; c = c->next, roots++)
        broken = audit_context(&audit, c);
    for (unsigned i = 0; i < VTLB_CONTEXTS && broken == NULL; i++)
        if (vtlb->slots[i].vtlb != NULL)
            broken = audit_context(&audit, &vtlb->slots[i]);
    if (broken == NULL)
        broken = audit_hash(vtlb);
    if (broken != NULL)
        return broken;
    for (uint32_t i = 0; i < vtlb->pages; i++) {
        const struct vtlb_table *table = &vtlb->tables[i];
        CHECK(table->audited > 0);
        CHECK(table->audited == 1 || table->audited == table->references);
        CHECK(!table->shared || table->audited == table->references);
    }
    CHECK(roots == vtlb->roots);
    CHECK(audit.used == statistics->tables_used);
    CHECK(audit.used <= statistics->tables_peak);
    CHECK(audit.used + vtlb->clean.count + vtlb->dirty.count == vtlb->pages);
    CHECK(statistics->misses ==
          statistics->filled + statistics->guest_faults + statistics->no_memory + statistics->again);
    return NULL;
}
