// SPDX-License-Identifier: BSD-2-Clause
#include "mm/walk_ept.h"

#include "arch/x86/paging_ept.h"
#include "lib/errors.h"
#include "mm/walk_tables.h"

/* Present is what grants any of these. */
#define EPT_RIGHTS (EPT_READ | EPT_WRITE | EPT_EXECUTE)

/* Bits 51:12; which of them are reserved depends on MAXPHYADDR. */
#define EPT_FRAME  EPTP_ADDRESS

/* The memory types that an entry may have; 2, 3 and 7 are reserved. */
#define TYPES_ALLOWED                                                                                        \
    (BIT(MEMORY_TYPE_UC) | BIT(MEMORY_TYPE_WC) | BIT(MEMORY_TYPE_WT) | BIT(MEMORY_TYPE_WP) |                 \
     BIT(MEMORY_TYPE_WB))

/* Entries, accesses and exit qualifications number the three rights alike. */
_Static_assert(EPT_READ == PAGING_READ && EPT_WRITE == PAGING_WRITE && EPT_EXECUTE == PAGING_EXECUTE,
               "rights in entries are those of enum paging_right");
_Static_assert(EPT_FAULT_READ == PAGING_READ && EPT_FAULT_WRITE == PAGING_WRITE &&
                   EPT_FAULT_FETCH == PAGING_EXECUTE,
               "accesses in qualifications are those of enum paging_right");

/* One walk: the entries that it went through, and what they say together. */
struct path {
    struct stage_trail *trail;
    unsigned top;    /* the first level that it read */
    uint64_t grants; /* EPT_RIGHTS that all of them leave; EPT_ACCESSED, if all have it or need none */
};

/* The entry that maps the page. */
static uint64_t leaf_of(const struct path *path)
{
    return path->trail->step[path->trail->leaf].value;
}

static unsigned level_shift(unsigned level)
{
    return paging_ept.level[level].shift;
}

/* ---- Faults ---- */

static enum stage_outcome fail(const struct walk_ept *walk, uint64_t address, uint64_t error_code,
                               struct stage_fault *fault)
{
    *fault = (struct stage_fault){.stage = &walk->stage,
                                  .address = address,
                                  .error_code = error_code,
                                  .keeps = error_code == EPT_FAULT_MISCONFIGURATION};
    return STAGE_FAULT;
}

static enum stage_outcome violation(const struct walk_ept *walk, uint64_t address, unsigned access,
                                    uint64_t rights, struct stage_fault *fault)
{
    return fail(walk, address, (access & EPT_RIGHTS) | rights << EPT_FAULT_PERMISSION_SHIFT, fault);
}

/* ---- The walk ---- */

/* SDM vol. 3, "EPT Misconfigurations", of an entry that is present. */
static bool is_misconfigured(const struct walk_ept *walk, unsigned level, bool maps_page, uint64_t value)
{
    const unsigned type = (value & EPT_MEMORY_TYPE) >> EPT_MEMORY_TYPE_SHIFT;

    if ((value & (EPT_READ | EPT_WRITE)) == EPT_WRITE)
        return true;
    if ((value & EPT_RIGHTS) == EPT_EXECUTE && !walk->execute_only)
        return true;
    if ((value & walk->reserved[level][maps_page]) != 0)
        return true;
    return maps_page && (TYPES_ALLOWED >> type & 1) == 0;
}

/* Reads the path to `address`; STAGE_DONE when it ends at an entry that maps a page. */
static enum stage_outcome read_path(const struct walk_ept *walk, uint64_t address, unsigned access,
                                    struct path *path, struct stage_fault *fault)
{
    const uint64_t needs_none = walk->accessed_dirty ? 0 : EPT_ACCESSED;
    struct stage_trail *trail = path->trail;

    trail->top = walk->levels;
    trail->leaf = trail->reached = 0;
    path->top = trail->known;
    if (trail->known == 0) {
        path->top = walk->levels;
        trail->step[path->top].table = walk->root;
        trail->step[path->top].host = NULL;
        trail->step[path->top].rights = EPT_RIGHTS;
    }
    path->grants = (trail->step[path->top].rights & EPT_RIGHTS) | EPT_ACCESSED;
    for (unsigned level = path->top;; level--) {
        enum stage_outcome outcome =
            walk_entry_read(walk->memory, PAGING_READ, sizeof(uint64_t),
                            walk_entry_offset(&paging_ept, level, address), level, trail, fault);
        if (outcome != STAGE_DONE)
            return outcome;
        if ((path->grants & EPT_ACCESSED) != 0)
            trail->reached = (uint8_t)level;

        const uint64_t value = trail->step[level].value;
        if ((value & EPT_RIGHTS) == 0)
            return violation(walk, address, access, 0, fault);

        const bool maps_page = paging_maps_page(&paging_ept, level, value);
        if (is_misconfigured(walk, level, maps_page, value))
            return fail(walk, address, EPT_FAULT_MISCONFIGURATION, fault);

        path->grants &= value | needs_none;
        if (maps_page) {
            trail->leaf = (uint8_t)level;
            return STAGE_DONE;
        }
        trail->step[level - 1].table = value & EPT_FRAME;
        trail->step[level - 1].host = NULL;
        trail->step[level - 1].rights = path->grants & EPT_RIGHTS;
    }
}

/* Whether the path has A, and for a write D, as far as they are enabled. */
static bool is_marked(const struct walk_ept *walk, const struct path *path, bool writes)
{
    return !walk->accessed_dirty ||
           ((path->grants & EPT_ACCESSED) != 0 && (!writes || (leaf_of(path) & EPT_DIRTY) != 0));
}

/*
 * What a path that leaves `rights`, and whose last entry is `leaf` of `level`, says for `address`. Whoever
 * caches it knows nothing of D: while that is enabled and 0, no write is granted.
 */
static struct translation translation_of(const struct walk_ept *walk, uint64_t rights, unsigned level,
                                         uint64_t leaf, uint64_t address)
{
    const unsigned shift = level_shift(level);

    if (walk->accessed_dirty && (leaf & EPT_DIRTY) == 0)
        rights &= ~(uint64_t)PAGING_WRITE;
    return (struct translation){
        .address = align_down(leaf & EPT_FRAME, BIT(shift)) | (address & (BIT(shift) - 1)),
        .rights = (uint8_t)((rights & EPT_RIGHTS) | PAGING_USER),
        .memory_type = (leaf & EPT_MEMORY_TYPE) >> EPT_MEMORY_TYPE_SHIFT,
        .page_shift = (uint8_t)shift,
    };
}

static enum stage_outcome walk_once(const struct walk_ept *walk, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_trail *trail,
                                    struct stage_fault *fault)
{
    const bool writes = (access & PAGING_WRITE) != 0;
    struct path path = {.trail = trail};
    enum stage_outcome outcome = read_path(walk, address, access, &path, fault);

    if (outcome != STAGE_DONE)
        return outcome;
    if ((access & EPT_RIGHTS & ~path.grants) != 0)
        return violation(walk, address, access, path.grants & EPT_RIGHTS, fault);
    if (!is_marked(walk, &path, writes) && (access & STAGE_ACCESS_PROBE) == 0) {
        if ((access & STAGE_ACCESS_AHEAD) != 0)
            return STAGE_AGAIN;
        const struct walk_tables tables = {&walk->stage, walk->memory, &paging_ept};

        outcome = walk_trail_mark(&tables, trail, path.top, address, writes, fault);
        if (outcome != STAGE_DONE)
            return outcome;
    }
    /* A look that asks for a write is told what the write would find. */
    *translation =
        translation_of(walk, path.grants, trail->leaf, leaf_of(&path) | (writes ? EPT_DIRTY : 0), address);
    return STAGE_DONE;
}

static enum stage_outcome walk_trail(const struct stage *stage, uint64_t address, unsigned access,
                                     struct translation *translation, struct stage_trail *trail,
                                     struct stage_fault *fault)
{
    const struct walk_ept *walk = container_of(stage, struct walk_ept, stage);
    const unsigned address_bits = level_shift(walk->levels) + 9;
    enum stage_outcome outcome;

    /* Four levels translate 48 bits of address; nothing is mapped beyond. */
    if (address >> address_bits != 0) {
        trail->top = trail->leaf = trail->reached = 0;
        return violation(walk, address, access, 0, fault);
    }
    for (unsigned attempt = 0; attempt < WALK_ATTEMPTS_MAX; attempt++) {
        outcome = walk_once(walk, address, access, translation, trail, fault);
        if (outcome != STAGE_AGAIN)
            break;
    }
    return outcome;
}

static enum stage_outcome walk_ept(const struct stage *stage, uint64_t address, unsigned access,
                                   struct translation *translation, struct stage_fault *fault)
{
    struct stage_trail trail;

    trail.known = 0;
    return walk_trail(stage, address, access, translation, &trail, fault);
}

/* ---- The EPTP ---- */

/* What must be 0 in an entry of `level`. Where a large page is not offered, its bit is reserved. */
static uint64_t find_reserved(unsigned level, bool maps_page, const struct walk_ept_features *features)
{
    const uint64_t offer = level == 2 ? VMX_EPT_PAGE_2M : level == 3 ? VMX_EPT_PAGE_1G : 0;
    const struct paging_level *format = &paging_ept.level[level];
    uint64_t reserved = maps_page ? format->page_reserved : format->table_reserved;

    if (maps_page && (features->capabilities & offer) != offer)
        reserved |= EPT_LARGE;
    return reserved | (EPT_FRAME & ~(BIT(features->physical_bits) - 1));
}

/* SDM vol. 3, "VM-Execution Control Fields". */
static bool eptp_is_valid(uint64_t eptp, const struct walk_ept_features *features)
{
    static const uint64_t offers_type[EPTP_MEMORY_TYPE + 1] = {
        [MEMORY_TYPE_UC] = VMX_EPT_MEMORY_UC,
        [MEMORY_TYPE_WB] = VMX_EPT_MEMORY_WB,
    };
    static const uint64_t offers_levels[8 + 1] = {
        [4] = VMX_EPT_WALK_4,
        [5] = VMX_EPT_WALK_5,
    };
    const uint64_t offered = features->capabilities;
    const unsigned levels = (eptp >> EPTP_WALK_SHIFT & 7) + 1;
    const uint64_t defined = EPTP_MEMORY_TYPE | 7ULL << EPTP_WALK_SHIFT | EPTP_ACCESSED_DIRTY |
                             (EPTP_ADDRESS & (BIT(features->physical_bits) - 1));

    return (offered & offers_type[eptp & EPTP_MEMORY_TYPE]) != 0 && (offered & offers_levels[levels]) != 0 &&
           ((eptp & EPTP_ACCESSED_DIRTY) == 0 || (offered & VMX_EPT_ACCESSED_DIRTY) != 0) &&
           (eptp & ~defined) == 0;
}

void walk_ept_init(struct walk_ept *walk, const struct stage_chain *memory)
{
    *walk = (struct walk_ept){.stage = {.walk = walk_ept, .walk_trail = walk_trail}, .memory = memory};
}

int walk_ept_set(struct walk_ept *walk, uint64_t eptp, const struct walk_ept_features *features)
{
    if (!eptp_is_valid(eptp, features))
        return -EINVAL;
    walk->root = eptp & EPTP_ADDRESS;
    walk->levels = (uint8_t)((eptp >> EPTP_WALK_SHIFT & 7) + 1);
    walk->accessed_dirty = (eptp & EPTP_ACCESSED_DIRTY) != 0;
    walk->execute_only = (features->capabilities & VMX_EPT_EXECUTE_ONLY) != 0;
    for (unsigned level = 1; level <= PAGING_LEVELS_MAX; level++)
        for (unsigned maps_page = 0; maps_page < 2; maps_page++)
            walk->reserved[level][maps_page] = find_reserved(level, maps_page != 0, features);
    return 0;
}
