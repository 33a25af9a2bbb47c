// SPDX-License-Identifier: BSD-2-Clause
#include "mm/walk_ept.h"

#include "arch/x86/paging_ept.h"
#include "lib/errors.h"

/*
 * How often a walk begins again because the tables changed between the reading of an entry and the setting of
 * A or D.
 */
#define ATTEMPTS_MAX 8

/* Present is what grants any of these. */
#define EPT_RIGHTS   (EPT_READ | EPT_WRITE | EPT_EXECUTE)

/* Bits 51:12; which of them are reserved depends on MAXPHYADDR. */
#define EPT_FRAME    EPTP_ADDRESS

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

/* One walk: the entries that it went through, by level, and what they grant together. */
struct path {
    unsigned leaf; /* level of the last one, which maps the page */
    uint64_t rights;
    struct {
        uint64_t place; /* address, in the space that the tables are in */
        uint64_t value;
    } entry[PAGING_LEVELS_MAX + 1];
};

static unsigned level_shift(unsigned level)
{
    return paging_ept.level[level].shift;
}

/* ---- Faults ---- */

static enum stage_outcome fail(const struct walk_ept *walk, uint64_t address, uint64_t error_code,
                               struct stage_fault *fault)
{
    *fault = (struct stage_fault){.stage = &walk->stage, .address = address, .error_code = error_code};
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

/* Reads an entry in one piece. Where no memory is, nobody answers: all bits are 1. */
static enum stage_outcome read_entry(const struct walk_ept *walk, uint64_t place, uint64_t *value,
                                     struct stage_fault *fault)
{
    enum stage_outcome outcome = guest_memory_load(walk->memory, GPA(place), sizeof(*value), value, fault);

    if (outcome == STAGE_NO_MEMORY) {
        *value = UINT64_MAX;
        return STAGE_DONE;
    }
    if (outcome != STAGE_DONE)
        fault->in_tables = true;
    return outcome;
}

/* Reads the path to `address`; STAGE_DONE when it ends at an entry that maps a page. */
static enum stage_outcome read_path(const struct walk_ept *walk, uint64_t address, unsigned access,
                                    struct path *path, struct stage_fault *fault)
{
    uint64_t table = walk->root;

    path->rights = EPT_RIGHTS;
    for (unsigned level = walk->levels;; level--) {
        const uint64_t place = table + paging_index(&paging_ept, level, address) * sizeof(uint64_t);
        uint64_t value;
        enum stage_outcome outcome = read_entry(walk, place, &value, fault);

        if (outcome != STAGE_DONE)
            return outcome;
        if ((value & EPT_RIGHTS) == 0)
            return violation(walk, address, access, 0, fault);

        const bool maps_page = paging_maps_page(&paging_ept, level, value);
        if (is_misconfigured(walk, level, maps_page, value))
            return fail(walk, address, EPT_FAULT_MISCONFIGURATION, fault);

        path->rights &= value;
        path->entry[level].place = place;
        path->entry[level].value = value;
        if (maps_page) {
            path->leaf = level;
            return STAGE_DONE;
        }
        table = value & EPT_FRAME;
    }
}

/*
 * Sets A along the path, and D in its last entry for a write, as the processor does (SDM vol. 3, "Accessed
 * and Dirty Flags for EPT"): each by a compare-and-swap against the value that the walk relied on.
 * STAGE_AGAIN: an entry has become another.
 */
static enum stage_outcome mark_path(const struct walk_ept *walk, struct path *path, unsigned access,
                                    struct stage_fault *fault)
{
    for (unsigned level = walk->levels; level >= path->leaf; level--) {
        const bool dirties = level == path->leaf && (access & PAGING_WRITE) != 0;
        const uint64_t wanted = EPT_ACCESSED | (dirties ? EPT_DIRTY : 0);
        const uint64_t place = path->entry[level].place;
        uint64_t *value = &path->entry[level].value;

        while (unlikely((*value & wanted) != wanted)) {
            uint64_t now = *value;
            bool exchanged;
            enum stage_outcome outcome = guest_memory_exchange(walk->memory, GPA(place), sizeof(now), &now,
                                                               *value | wanted, &exchanged, fault);

            if (outcome == STAGE_NO_MEMORY) {
                *value |= wanted; /* lost */
            } else if (outcome != STAGE_DONE) {
                fault->in_tables = true;
                return outcome;
            } else if (exchanged) {
                *value |= wanted;
            } else if (((now ^ *value) & ~(EPT_ACCESSED | EPT_DIRTY)) == 0 && (now & ~*value) != 0) {
                *value = now; /* another processor set one of the two: at most twice */
            } else {
                *fault = (struct stage_fault){.stage = &walk->stage, .address = place, .in_tables = true};
                return STAGE_AGAIN;
            }
        }
    }
    return STAGE_DONE;
}

/*
 * What the path says for `address`. Whoever caches it knows nothing of D: while that is enabled and 0, no
 * write is granted.
 */
static struct translation translation_of(const struct walk_ept *walk, const struct path *path,
                                         uint64_t address)
{
    const uint64_t leaf = path->entry[path->leaf].value;
    const unsigned shift = level_shift(path->leaf);
    const uint64_t unwritten = walk->accessed_dirty && (leaf & EPT_DIRTY) == 0 ? (uint64_t)PAGING_WRITE : 0;

    return (struct translation){
        .address = align_down(leaf & EPT_FRAME, BIT(shift)) | (address & (BIT(shift) - 1)),
        .rights = (uint8_t)((path->rights & ~unwritten) | PAGING_USER),
        .memory_type = (leaf & EPT_MEMORY_TYPE) >> EPT_MEMORY_TYPE_SHIFT,
        .page_shift = (uint8_t)shift,
    };
}

static enum stage_outcome walk_once(const struct walk_ept *walk, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_fault *fault)
{
    struct path path;
    enum stage_outcome outcome = read_path(walk, address, access, &path, fault);

    if (outcome != STAGE_DONE)
        return outcome;
    if ((access & EPT_RIGHTS & ~path.rights) != 0)
        return violation(walk, address, access, path.rights, fault);
    if (walk->accessed_dirty && (access & STAGE_ACCESS_PROBE) == 0) {
        outcome = mark_path(walk, &path, access, fault);
        if (outcome != STAGE_DONE)
            return outcome;
    }
    /* A look that asks for a write is told what the write would find. */
    if ((access & PAGING_WRITE) != 0)
        path.entry[path.leaf].value |= EPT_DIRTY;
    *translation = translation_of(walk, &path, address);
    return STAGE_DONE;
}

static enum stage_outcome walk_ept(const struct stage *stage, uint64_t address, unsigned access,
                                   struct translation *translation, struct stage_fault *fault)
{
    const struct walk_ept *walk = container_of(stage, struct walk_ept, stage);
    const unsigned address_bits = level_shift(walk->levels) + 9;
    enum stage_outcome outcome;

    /* Four levels translate 48 bits of address; nothing is mapped beyond. */
    if (address >> address_bits != 0)
        return violation(walk, address, access, 0, fault);
    for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        outcome = walk_once(walk, address, access, translation, fault);
        if (outcome != STAGE_AGAIN)
            break;
    }
    return outcome;
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
    *walk = (struct walk_ept){.stage = {.walk = walk_ept}, .memory = memory};
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
