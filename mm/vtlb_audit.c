// SPDX-License-Identifier: BSD-2-Clause
#include "mm/vtlb_audit.h"

#include "mm/vtlb_tables.h"

struct audit {
    const struct vtlb *vtlb;
    const struct vtlb_context *context;
    const struct p2m *p2m;
    uint32_t tables; /* seen below the root of the context */
    uint64_t leaves;
};

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return #condition;                                                                               \
    } while (0)

/* True if `entry`, a page's of `level`, gives no right that `rights` has not. */
static bool leaf_within_rights(const struct paging_format *target, uint64_t entry, uint8_t rights)
{
    const uint64_t most = target->rights[rights & PAGING_RIGHTS];

    return (entry & target->present) != 0 && (entry & ~most & target->grant_set) == 0 &&
           (~entry & most & target->grant_clear) == 0;
}

static const char *audit_leaf(const struct audit *audit, unsigned level, uint64_t entry)
{
    const struct paging_format *target = audit->context->target;
    const struct p2m *p2m = audit->p2m;
    const struct vtlb *vtlb = audit->vtlb;
    const uint64_t size = BIT(target->level[level].shift);
    const uint64_t leaf = entry & target->address;
    const bool leaf_aligned = is_aligned(leaf, size);
    const bool leaf_apart_from_quota =
        leaf + size <= vtlb->base.value || leaf >= vtlb->base.value + vtlb->pages * PAGE_SIZE;
    bool leaf_owned = frame_is_owned(p2m->pool, HPA(leaf), size, p2m->owner);
    bool leaf_within_region = false;

    for (size_t i = 0; i < p2m->count; i++) {
        const struct p2m_region *region = &p2m->regions[i];
        if (leaf >= region->hpa.value && leaf + size <= region->hpa.value + region->size &&
            leaf_within_rights(target, entry, region->rights | PAGING_USER)) {
            leaf_within_region = true;
            leaf_owned |= p2m_region_is_shared(p2m, region) &&
                          frame_is_owned(p2m->pool, HPA(leaf), size, frame_owner_of(p2m->pool, region->hpa));
        }
    }
    if (audit->context->has_extra && size == PAGE_SIZE && leaf == audit->context->extra.address)
        leaf_within_region = leaf_within_rights(target, entry, audit->context->extra.rights | PAGING_USER);
    CHECK(leaf_aligned);
    CHECK(leaf_owned);
    CHECK(leaf_apart_from_quota);
    CHECK(leaf_within_region);
    return NULL;
}

static const char *audit_table(struct audit *audit, const struct vtlb_table *table)
{
    const struct paging_format *target = audit->context->target;
    const uint64_t *entries = vtlb_table_entries(audit->vtlb, table);
    const char *broken = NULL;
    unsigned used = 0;

    for (unsigned slot = 0; slot < PAGE_SIZE / sizeof(*entries) && broken == NULL; slot++) {
        const uint64_t entry = entries[slot];
        const uint64_t address = entry & target->address;

        if (entry == 0)
            continue;
        used++;
        CHECK(slot <= target->level[table->level].index_mask);
        if (paging_maps_page(target, table->level, entry)) {
            audit->leaves++;
            broken = audit_leaf(audit, table->level, entry);
            continue;
        }
        CHECK(entry == paging_table_entry(target, table->level, HPA(address)));
        CHECK(address >= audit->vtlb->base.value);
        CHECK((address - audit->vtlb->base.value) / PAGE_SIZE < audit->vtlb->pages);

        const struct vtlb_table *child = vtlb_table_of(audit->context, entry);
        CHECK(child->parent == table);
        CHECK(child->slot == slot);
        CHECK(child->level + 1 == table->level);
        CHECK(child->entries > 0);
        audit->tables++;
        broken = audit_table(audit, child);
    }
    if (broken != NULL)
        return broken;
    CHECK(used == table->entries);
    return NULL;
}

/* Walks a list; its length must be its count. */
static const char *audit_list(const struct vtlb_list *list)
{
    const struct vtlb_table *previous = NULL;
    uint32_t length = 0;

    for (const struct vtlb_table *table = list->first; table != NULL; table = table->next) {
        CHECK(table->previous == previous);
        CHECK(length < list->count);
        length++;
        previous = table;
    }
    CHECK(list->last == previous);
    CHECK(length == list->count);
    return NULL;
}

static const char *audit_context(struct audit *audit)
{
    const struct vtlb_context *context = audit->context;
    const uint64_t *root = vtlb_table_entries(audit->vtlb, context->root);
    const char *broken = audit_list(&context->tables);

    if (broken == NULL)
        broken = audit_table(audit, context->root);
    if (broken != NULL)
        return broken;
    CHECK(audit->tables == context->tables.count);
    CHECK(audit->leaves == context->leaves);
    CHECK(context->root->entries > 0 || context->root_first > context->root_last);
    for (unsigned slot = 0; slot < PAGE_SIZE / sizeof(*root); slot++)
        CHECK(root[slot] == 0 || (slot >= context->root_first && slot <= context->root_last));
    return NULL;
}

const char *vtlb_audit(const struct vtlb *vtlb, const struct p2m *p2m)
{
    const struct vtlb_statistics *statistics = &vtlb->statistics;
    uint32_t used = 0, roots = 0;
    const char *broken;

    broken = audit_list(&vtlb->clean);
    if (broken == NULL)
        broken = audit_list(&vtlb->dirty);
    if (broken != NULL)
        return broken;
    for (const struct vtlb_table *table = vtlb->clean.first; table != NULL; table = table->next) {
        const uint64_t *clean = vtlb_table_entries(vtlb, table);
        for (unsigned slot = 0; slot < PAGE_SIZE / sizeof(*clean); slot++)
            CHECK(clean[slot] == 0);
    }
    for (const struct vtlb_context *context = vtlb->contexts; context != NULL; context = context->next) {
        struct audit audit = {.vtlb = vtlb, .context = context, .p2m = p2m};
        broken = audit_context(&audit);
        if (broken != NULL)
            return broken;
        used += 1 + context->tables.count;
        roots++;
    }
    CHECK(roots == vtlb->roots);
    CHECK(used == statistics->tables_used);
    CHECK(used <= statistics->tables_peak);
    CHECK(used + vtlb->clean.count + vtlb->dirty.count == vtlb->pages);
    CHECK(statistics->misses ==
          statistics->filled + statistics->guest_faults + statistics->no_memory + statistics->again);
    return NULL;
}
