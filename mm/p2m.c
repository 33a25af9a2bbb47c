// SPDX-License-Identifier: BSD-2-Clause
#include "mm/p2m.h"

#include "lib/errors.h"
#include "lib/string.h"

/* What four levels of EPT translate, and the widest physical address that an entry can hold. */
#define GPA_LIMIT BIT(48)
#define HPA_LIMIT BIT(52)

/* The first region that begins above `address`; p2m->count if there is none. */
static size_t region_above(const struct p2m *p2m, uint64_t address)
{
    size_t low = 0;
    size_t high = p2m->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (p2m->regions[middle].gpa.value > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* True if `b` goes on where `a` ends, in both spaces and in kind, so that one region can say both. */
static bool continues(const struct p2m *p2m, const struct p2m_region *a, const struct p2m_region *b)
{
    return a->gpa.value + a->size == b->gpa.value && a->hpa.value + a->size == b->hpa.value &&
           a->rights == b->rights && a->memory_type == b->memory_type &&
           frame_owner_of(p2m->pool, a->hpa) == frame_owner_of(p2m->pool, b->hpa);
}

static bool region_is_valid(const struct p2m_region *region)
{
    switch (region->memory_type) {
    case MEMORY_TYPE_UC:
    case MEMORY_TYPE_WC:
    case MEMORY_TYPE_WT:
    case MEMORY_TYPE_WP:
    case MEMORY_TYPE_WB:
        break;
    default:
        return false;
    }
    return region->size != 0 && is_aligned(region->gpa.value | region->hpa.value | region->size, PAGE_SIZE) &&
           region->gpa.value < GPA_LIMIT && region->size <= GPA_LIMIT - region->gpa.value &&
           region->hpa.value < HPA_LIMIT && region->size <= HPA_LIMIT - region->hpa.value &&
           (region->rights & ~(PAGING_READ | PAGING_WRITE | PAGING_EXECUTE)) == 0 &&
           (region->rights & PAGING_READ) != 0;
}

/* Adds `region`, all of whose frames are to be `owner`'s. */
static int add(struct p2m *p2m, const struct p2m_region *region, uint16_t owner)
{
    struct p2m_region *regions = p2m->regions;
    struct p2m_region added = *region;
    size_t at;
    bool joins_previous, joins_next;

    if (!region_is_valid(region))
        return -EINVAL;

    at = region_above(p2m, region->gpa.value);
    if (at > 0 && regions[at - 1].gpa.value + regions[at - 1].size > region->gpa.value)
        return -EEXIST;
    if (at < p2m->count && region->gpa.value + region->size > regions[at].gpa.value)
        return -EEXIST;
    if (!frame_is_owned(p2m->pool, region->hpa, region->size, owner))
        return -EPERM;

    joins_previous = at > 0 && continues(p2m, &regions[at - 1], region);
    joins_next = at < p2m->count && continues(p2m, region, &regions[at]);
    if (!joins_previous && !joins_next && p2m->count == p2m->capacity)
        return -ENOSPC;

    /* The new region replaces those that it joins. */
    size_t first = at - (joins_previous ? 1 : 0);
    size_t after = at + (joins_next ? 1 : 0);
    if (joins_previous) {
        added = regions[at - 1];
        added.size += region->size;
    }
    if (joins_next)
        added.size += regions[at].size;
    memmove(&regions[first + 1], &regions[after], (p2m->count - after) * sizeof(*regions));
    regions[first] = added;
    p2m->count = p2m->count + 1 - (after - first);
    return 0;
}

int p2m_add(struct p2m *p2m, const struct p2m_region *region)
{
    return add(p2m, region, p2m->owner);
}

static bool is_shared(uint16_t owner)
{
    return owner >= FRAME_OWNER_SHARED && owner < FRAME_OWNER_PARTITION;
}

int p2m_add_shared(struct p2m *p2m, const struct p2m_region *region, uint16_t owner)
{
    return is_shared(owner) ? add(p2m, region, owner) : -EINVAL;
}

bool p2m_region_is_shared(const struct p2m *p2m, const struct p2m_region *region)
{
    return is_shared(frame_owner_of(p2m->pool, region->hpa));
}

const struct p2m_region *p2m_find(const struct p2m *p2m, gpa_t gpa)
{
    size_t above = region_above(p2m, gpa.value);

    if (above == 0 || gpa.value - p2m->regions[above - 1].gpa.value >= p2m->regions[above - 1].size)
        return NULL;
    return &p2m->regions[above - 1];
}

/*
 * True if one page of 1 << shift bytes maps what `region` says around `gpa`: aligned in both spaces, wholly
 * inside.
 */
static bool page_fits(const struct p2m_region *region, uint64_t gpa, unsigned shift)
{
    const uint64_t offset = gpa & (BIT(shift) - 1);
    const uint64_t inside = gpa - region->gpa.value;

    return is_aligned(region->gpa.value ^ region->hpa.value, BIT(shift)) && inside >= offset &&
           region->size - (inside - offset) >= BIT(shift);
}

bool p2m_lookup(const struct p2m *p2m, gpa_t gpa, struct translation *translation)
{
    const struct p2m_region *region = p2m_find(p2m, gpa);

    if (region == NULL)
        return false;
    translation->address = region->hpa.value + (gpa.value - region->gpa.value);
    translation->rights = region->rights | PAGING_USER;
    translation->memory_type = region->memory_type;
    translation->key = 0;
    translation->global = false;
    translation->transient = false;
    if (page_fits(region, gpa.value, PAGE_SHIFT_1G))
        translation->page_shift = PAGE_SHIFT_1G;
    else if (page_fits(region, gpa.value, PAGE_SHIFT_2M))
        translation->page_shift = PAGE_SHIFT_2M;
    else
        translation->page_shift = PAGE_SHIFT;
    return true;
}

static enum stage_outcome p2m_walk(const struct stage *stage, uint64_t address, unsigned access,
                                   struct translation *translation, struct stage_fault *fault)
{
    const struct p2m *p2m = container_of(stage, struct p2m, stage);

    if (likely(p2m_lookup(p2m, GPA(address), translation)) &&
        likely((access & PAGING_RIGHTS & ~translation->rights) == 0))
        return STAGE_DONE;
    *fault = (struct stage_fault){.stage = stage, .address = address};
    return STAGE_NO_MEMORY;
}

void p2m_init(struct p2m *p2m, struct p2m_region *regions, size_t capacity, const struct frame_pool *pool,
              uint16_t owner)
{
    *p2m = (struct p2m){
        .stage = {.walk = p2m_walk},
        .regions = regions,
        .capacity = capacity,
        .pool = pool,
        .owner = owner,
    };
}
