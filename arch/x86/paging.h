// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The shape that every paging format of the processor is described in: x86's four (arch/x86/paging_x86.h) and
 * EPT (arch/x86/paging_ept.h). A walker reads tables of a format and the virtual TLB builds them, both by the
 * descriptor alone.
 */
#include "arch/x86/msr.h"
#include "lib/types.h"

#define PAGING_LEVELS_MAX 5

/* Rights that a translation grants. The same bits, in an access, say what it needs. */
enum paging_right {
    PAGING_READ = 1 << 0,
    PAGING_WRITE = 1 << 1,
    PAGING_EXECUTE = 1 << 2,
    PAGING_USER = 1 << 3, /* a user-mode access may use it; as an access: it is one */
    PAGING_RIGHTS = PAGING_READ | PAGING_WRITE | PAGING_EXECUTE | PAGING_USER,
};

/* How many memory types can be encoded (arch/x86/msr.h: MEMORY_TYPE_*); MTRRs, PAT and EPT number them alike.
 */
#define MEMORY_TYPES 8

/* One level of tables. Level 1 is the one whose every entry maps a page. */
struct paging_level {
    uint8_t shift;           /* log2 of the bytes that one entry covers */
    uint16_t index_mask;     /* the number of entries, a power of two, less one */
    bool maps_page;          /* an entry may map a page (above level 1: with the `large` bit) */
    uint64_t table_reserved; /* must be 0 in an entry that refers to a table; above MAXPHYADDR comes on top */
    uint64_t page_reserved;  /* must be 0 in an entry that maps a page */
};

struct paging_format {
    const char *name;
    uint8_t levels;
    uint8_t address_bits;  /* of the addresses that it translates */
    uint8_t entry_size;    /* bytes */
    uint64_t present;      /* an entry with none of these is not present */
    uint64_t large;        /* above level 1: the entry maps a page */
    uint64_t address;      /* where the address of a frame or table is */
    uint64_t accessed;     /* 0: the format has none */
    uint64_t dirty;        /* 0: the format has none */
    uint64_t global;       /* 0: the format has none */
    uint64_t key;          /* lowest bit of the protection key; 0: the format has none */
    uint64_t grant_set;    /* bits that grant a right where they are 1, */
    uint64_t grant_clear;  /* and where they are 0 */
    uint64_t user;         /* of grant_set: SMEP and SMAP take from the supervisor what it gives */
    uint64_t table_rights; /* of an entry that refers to a table, as Umbra writes it: all (see
                              paging_table_entry) */
    uint64_t page_preset;  /* A and D in every page's entry that Umbra writes: it tracks them by itself */
    struct paging_level level[PAGING_LEVELS_MAX + 1]; /* [1] to [levels] */
    /* A page's entry for a set of rights; 0 (not present) where the format cannot express the set. */
    uint64_t rights[PAGING_RIGHTS + 1];
    /* A page's entry for a memory type. */
    uint64_t memory_type[MEMORY_TYPES];
};

/* Which entry of a table of `level` translates `address`. */
static inline unsigned paging_index(const struct paging_format *format, unsigned level, uint64_t address)
{
    const struct paging_level *l = &format->level[level];

    return (unsigned)(address >> l->shift) & l->index_mask;
}

/* True if `entry`, present in a table of `level`, maps a page; false if it refers to a table. */
static inline bool paging_maps_page(const struct paging_format *format, unsigned level, uint64_t entry)
{
    return level == 1 || (format->level[level].maps_page && (entry & format->large) != 0);
}

/* The entry of a table of `level` that refers to the table at `address` and takes no right away. */
static inline uint64_t paging_table_entry(const struct paging_format *format, unsigned level, hpa_t address)
{
    return address.value | (format->table_rights & ~format->level[level].table_reserved);
}

/*
 * True if changing a page's entry from `before` to `after` takes nothing away that a processor may have
 * cached.
 */
static inline bool paging_only_grants(const struct paging_format *format, uint64_t before, uint64_t after)
{
    const uint64_t revoked = (before & ~after & format->grant_set) | (after & ~before & format->grant_clear);
    const uint64_t moved = (before ^ after) & ~((format->grant_set & ~format->user) | format->grant_clear);

    return (revoked | moved) == 0;
}

/*
 * The memory type that results when `above` is what the page's own translation says and `below` what lies
 * under it: PAT over MTRR, PAT over EPT, EPT over MTRR (SDM vol. 3, "Effective Page-Level Memory Types"; for
 * EPT, "Memory Type Used for Translated Guest-Physical Addresses"). `above` and `below` are values of enum
 * memory_type; unassigned ones count as UC.
 */
uint8_t memory_type_combine(uint8_t above, uint8_t below);
