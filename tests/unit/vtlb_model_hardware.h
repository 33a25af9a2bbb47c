// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A processor that runs a guest on the tables that the virtual TLB builds: CR0.WP = 1 and EFER.NXE = 1, SMEP,
 * SMAP and PKE as the guest has them while its paging is on. It has a TLB and paging-structure caches that
 * keep all that they need not forget, and looks ahead whenever it is told to: so what the engine takes away
 * without saying so is still seen.
 *
 * Written from the SDM (vol. 3, "Paging" and "Caching Translation Information"). Needs <cmocka.h>.
 */
#include <stdlib.h>

#include "arch/x86/msr.h"
#include "arch/x86/registers.h"
#include "mm/stage.h"
#include "mm/walk_x86.h"

/* ---- Random numbers (xorshift64*, Marsaglia and Vigna) ---- */

struct random {
    uint64_t state; /* not 0 */
};

static inline uint64_t random_next(struct random *random)
{
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return (random->state * 0x2545f4914f6cdd1dULL) >> 16;
}

/* 0 to n - 1. */
static inline unsigned pick(struct random *random, unsigned n)
{
    return (unsigned)(random_next(random) % n);
}

/* Once in n times. */
static inline bool rarely(struct random *random, unsigned n)
{
    return pick(random, n) == 0;
}

/* ---- How long, and from where ---- */

/* The number that the environment has for `variable`. */
static inline uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);

    return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

/* ---- The processor ---- */

/* What a TLB entry says. */
struct hardware_page {
    bool used;
    uint64_t page; /* linear >> 12 */
    uint64_t hpa;  /* of these 4 KiB */
    bool user, write, execute;
    unsigned key, type; /* type: that the PAT gives */
};

/* An entry of the paging-structure caches: the table of `level` for the addresses with `prefix`. */
struct hardware_structure {
    unsigned level; /* 0: unused */
    uint64_t prefix;
    uint64_t table;
};

/* Memory of another type than write-back. */
struct hardware_range {
    uint64_t start, end;
    uint8_t type;
};

#define HARDWARE_RANGES 6

struct hardware {
    struct random *random;
    struct hardware_range ranges[HARDWARE_RANGES]; /* of the MTRRs, apart from each other */
    uint64_t tables, tables_size;                  /* where tables may be, */
    uint64_t memory, memory_size;                  /* and pages */
    uint64_t root, generation;                     /* as of the last entry */
    unsigned levels;                               /* of the tables: 3 (PAE), 4, 5 */
    bool paging;                                   /* the guest's is on */
    bool keys;                                     /* CR4.PKE = 1, in long mode */
    const char *broken;                            /* what the tables must not have, once seen */
    struct hardware_page pages[256];
    struct hardware_structure structures[32];
};

/* What the MTRRs say of `address`. */
static inline unsigned hardware_memory_type(const struct hardware *hardware, uint64_t address)
{
    for (unsigned i = 0; i < HARDWARE_RANGES; i++)
        if (address >= hardware->ranges[i].start && address < hardware->ranges[i].end)
            return hardware->ranges[i].type;
    return MEMORY_TYPE_WB;
}

/* Whether they say the same of all of the 1 << shift bytes around it (SDM vol. 3, "Large Page Size
 * Considerations"). */
static inline bool hardware_has_one_type(const struct hardware *hardware, uint64_t address, unsigned shift)
{
    const uint64_t start = address >> shift << shift, end = start + (1ULL << shift);

    for (unsigned i = 0; i < HARDWARE_RANGES; i++) {
        const struct hardware_range *range = &hardware->ranges[i];
        const bool apart = range->end <= start || range->start >= end;
        const bool around = range->start <= start && range->end >= end;

        if (range->type != MEMORY_TYPE_WB && !apart && !around)
            return false;
    }
    return true;
}

#define HARDWARE_CHECK(hardware, condition)                                                                  \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            (hardware)->broken = #condition;                                                                 \
    } while (0)

/* INVVPID of all that it has cached. */
static inline void hardware_invalidate(struct hardware *hardware)
{
    memset(hardware->pages, 0, sizeof(hardware->pages));
    memset(hardware->structures, 0, sizeof(hardware->structures));
}

/* A VM entry: everything goes if the engine's generation or the root says so, and nothing otherwise. */
static inline void hardware_enter(struct hardware *hardware, uint64_t root, uint64_t generation)
{
    if (generation != hardware->generation || root != hardware->root)
        hardware_invalidate(hardware);
    hardware->root = root;
    hardware->generation = generation;
}

/* Which bits of an address select the table of `level`. */
static inline uint64_t hardware_prefix(unsigned level, uint64_t linear)
{
    return linear >> (12 + 9 * level);
}

static inline struct hardware_page *hardware_page_slot(struct hardware *hardware, uint64_t linear)
{
    const uint64_t hash = linear >> 12 ^ linear >> 21 ^ linear >> 30 ^ linear >> 36;

    return &hardware->pages[hash % ARRAY_SIZE(hardware->pages)];
}

static inline struct hardware_structure *hardware_structure_slot(struct hardware *hardware, unsigned level,
                                                                 uint64_t linear)
{
    return &hardware
                ->structures[(level * 7 + hardware_prefix(level, linear)) % ARRAY_SIZE(hardware->structures)];
}

/*
 * One step of a walk, in the table of `level` at `table`: false if no entry is present there; true with
 * *page, or with *next, the table below.
 */
static inline bool hardware_step(struct hardware *hardware, unsigned level, uint64_t table, uint64_t linear,
                                 struct hardware_page *page, uint64_t *next)
{
    /* Of the PAT after reset. */
    static const unsigned pat[] = {MEMORY_TYPE_WB, MEMORY_TYPE_WT, MEMORY_TYPE_UC_MINUS, MEMORY_TYPE_UC};
    const unsigned shift = 12 + 9 * (level - 1);
    const uint64_t offset = (1ULL << shift) - 1;
    const bool pae_top = hardware->levels == 3 && level == 3;
    uint64_t *place, entry, address;

    HARDWARE_CHECK(hardware, table % PAGE_SIZE == 0 && table - hardware->tables < hardware->tables_size);
    if (hardware->broken != NULL)
        return false;
    place = &((uint64_t *)(uintptr_t)table)[linear >> shift & (pae_top ? 3 : 511)];
    entry = *place;
    if ((entry & 1) == 0)
        return false;
    address = entry & 0xffffffffff000;
    if (pae_top) {
        HARDWARE_CHECK(hardware, (entry & 0xfff00000000001e6) == 0);
        *next = address;
        return true;
    }
    HARDWARE_CHECK(hardware, hardware->levels > 3 || (entry & 0x7ff0000000000000) == 0);
    if (level > 1 && (entry & 0x80) == 0) {
        /* No right is taken away here, and nothing is left for the processor to write. */
        HARDWARE_CHECK(hardware, (entry & 0x26) == 0x26 && entry >> 63 == 0);
        *next = address;
        return true;
    }
    HARDWARE_CHECK(hardware, level <= 3);
    HARDWARE_CHECK(hardware, (entry & 0x42) == 0 || (entry & 0x42) == 0x42); /* D where it may be written */
    HARDWARE_CHECK(hardware, (address & offset) == 0);
    HARDWARE_CHECK(hardware, hardware_has_one_type(hardware, address, shift));
    HARDWARE_CHECK(hardware, address - hardware->memory < hardware->memory_size &&
                                 hardware->memory_size - (address - hardware->memory) > offset);
    *place = entry | 0x20;
    *page = (struct hardware_page){
        .used = true,
        .page = linear >> 12,
        .hpa = address | (linear & offset & ~0xfffULL),
        .user = (entry & 4) != 0,
        .write = (entry & 2) != 0,
        .execute = entry >> 63 == 0,
        .key = hardware->levels > 3 ? entry >> 59 & 15 : 0,
        .type = pat[entry >> 3 & 3],
    };
    return true;
}

/* Walks, from the root or any table that it remembers, and caches what it finds. */
static inline struct hardware_page hardware_walk(struct hardware *hardware, uint64_t linear)
{
    uint64_t table = hardware->root;
    unsigned level = hardware->levels;
    struct hardware_page page = {0};

    for (unsigned l = 1; l < hardware->levels; l++) {
        const struct hardware_structure *known = hardware_structure_slot(hardware, l, linear);

        if (known->level == l && known->prefix == hardware_prefix(l, linear) && rarely(hardware->random, 2)) {
            table = known->table;
            level = l;
            break;
        }
    }
    for (;; level--) {
        uint64_t next = 0;

        if (!hardware_step(hardware, level, table, linear, &page, &next))
            return page;
        if (page.used)
            break;
        *hardware_structure_slot(hardware, level - 1, linear) =
            (struct hardware_structure){level - 1, hardware_prefix(level - 1, linear), next};
        table = next;
    }
    *hardware_page_slot(hardware, linear) = page;
    return page;
}

/* Translates by the TLB if it knows the address, nearly always. */
static inline struct hardware_page hardware_translate(struct hardware *hardware, uint64_t linear)
{
    const struct hardware_page *known = hardware_page_slot(hardware, linear);

    if (known->used && known->page == linear >> 12 && !rarely(hardware->random, 8))
        return *known;
    return hardware_walk(hardware, linear);
}

/* A page fault forgets what was known of the address. */
static inline void hardware_fault(struct hardware *hardware, uint64_t linear)
{
    struct hardware_page *page = hardware_page_slot(hardware, linear);

    if (page->page == linear >> 12)
        page->used = false;
    for (unsigned l = 1; l < hardware->levels; l++) {
        struct hardware_structure *known = hardware_structure_slot(hardware, l, linear);

        if (known->prefix == hardware_prefix(l, linear))
            known->level = 0;
    }
}

/* Whether the access (enum paging_right | enum stage_access) goes through, with the guest's `registers`. */
static inline bool hardware_allows(const struct hardware *hardware, const struct hardware_page *page,
                                   unsigned access, const struct walk_x86_registers *registers)
{
    const bool user = (access & PAGING_USER) != 0 && (access & STAGE_ACCESS_IMPLICIT) == 0;
    const bool fetch = (access & PAGING_EXECUTE) != 0, write = (access & PAGING_WRITE) != 0;
    const unsigned denied = registers->pkru >> 2 * page->key & 3;

    if (!page->used || (write && !page->write) || (fetch && !page->execute) || (user && !page->user))
        return false;
    if (!page->user || !hardware->paging)
        return true;
    if (hardware->keys && !fetch && (denied & (write ? 3 : 1)) != 0)
        return false;
    if (user)
        return true;
    if (fetch)
        return (registers->cr4 & X86_CR4_SMEP) == 0;
    return (registers->cr4 & X86_CR4_SMAP) == 0 ||
           (access & (STAGE_ACCESS_AC | STAGE_ACCESS_IMPLICIT)) == STAGE_ACCESS_AC;
}
