// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The virtual TLB. A context caches what a chain of stages (mm/stage.h) says, in tables of a target format
 * that the processor walks. It starts empty, is filled on misses, and loses what is flushed; what it lost
 * comes back by the next miss, so dropping more than needed is never wrong.
 *
 * Its tables are pages of a fixed quota. When they run out, a whole context's tables are dropped, the one
 * that missed least recently first; the quota never grows. Pages are cleared when the quota is handed in, in
 * vtlb_clean, or, only if that was not called in time, one at a time when needed.
 *
 * One `struct vtlb` belongs to one vCPU, with its contexts and its share of the partition's quota. Only the
 * processor that runs the vCPU calls it, one call at a time: no locks. What other processors change reaches
 * it as a request to that one.
 */
#include "arch/x86/paging.h"
#include "lib/types.h"
#include "mm/stage.h"

/* What the target's hardware offers, and what Umbra knows of the machine. Fixed once handed in. */
struct vtlb_hardware {
    bool pages_2m; /* large pages may be used: at level 2, */
    bool pages_1g; /* and at level 3 */
    /*
     * The type that the MTRRs give `address`; lowers *page_shift (log2 bytes) until it holds on all of the
     * naturally aligned page around it. Bounded. NULL: all memory is write-back.
     */
    uint8_t (*memory_type)(void *data, hpa_t address, uint8_t *page_shift);
    void *data; /* for memory_type */
};

/* Why something was flushed, for the statistics. */
enum vtlb_flush_cause {
    VTLB_FLUSH_ROOT,    /* the guest loaded a root or changed a paging mode */
    VTLB_FLUSH_ADDRESS, /* the guest invalidated addresses */
    VTLB_FLUSH_P2M,     /* the partition's memory or its protection changed */
    VTLB_FLUSH_RECLAIM, /* pages of the quota were needed elsewhere */
    VTLB_FLUSH_DESTROY, /* the context is given up */
    VTLB_FLUSH_CAUSES,
};

/* Page sizes in statistics: 4K, 2M (also 4M), 1G. */
#define VTLB_PAGE_SIZES 3

/* Counters since the start. Read only outside. */
struct vtlb_statistics {
    uint64_t misses;                 /* calls of vtlb_miss: the sum of the next four */
    uint64_t filled;                 /* hidden faults: the guest does not see them */
    uint64_t guest_faults;           /* the guest's own */
    uint64_t no_memory;              /* MMIO, or a right that the p2m does not give */
    uint64_t again;                  /* the guest's tables would not stand still */
    uint64_t fills[VTLB_PAGE_SIZES]; /* entries written, by size; `filled` less `stale` */
    uint64_t stale;      /* misses whose entry was there already: the processor's own TLB was behind */
    uint64_t raised;     /* entries whose rights grew */
    uint64_t splintered; /* large entries taken apart */
    uint64_t flushes[VTLB_FLUSH_CAUSES]; /* by cause */
    uint64_t flushed_entries;            /* pages' entries dropped by flushes, whatever the cause */
    uint64_t evictions;                  /* contexts that lost their tables for want of pages */
    uint64_t cleaned_late;               /* tables cleared during a miss */
    uint32_t tables_used;                /* pages that hold tables now, roots among them */
    uint32_t tables_peak;
};

/* One page of the quota. Private to mm/vtlb*. */
struct vtlb_table {
    struct vtlb_table *next, *previous; /* in the list that it is in: its context's, clean or dirty */
    struct vtlb_table *parent;          /* NULL: a root */
    uint16_t slot;                      /* in the parent */
    uint16_t entries;                   /* that are not 0 */
    uint8_t level;
};

struct vtlb_list {
    struct vtlb_table *first, *last;
    uint32_t count;
};

struct vtlb {
    struct vtlb_hardware hardware;
    hpa_t base;                /* of the quota */
    uint32_t pages;            /* in it */
    uint32_t roots;            /* of them never reclaimed */
    struct vtlb_table *tables; /* one per page, caller's */
    struct vtlb_list clean;    /* free, all zero */
    struct vtlb_list dirty;    /* free, not cleared yet */
    struct vtlb_context *contexts;
    struct vtlb_statistics statistics;
};

struct vtlb_context {
    struct vtlb *vtlb;
    struct vtlb_context *next;
    struct stage_chain chain;
    const struct paging_format *target;
    uint8_t level_for_shift[PAGE_SHIFT_1G + 1]; /* where to fill a page of 1 << n bytes */
    struct vtlb_table *root;
    uint16_t root_first, root_last; /* the root's entries in use lie between these, inclusive */
    struct vtlb_list tables;        /* all but the root */
    uint64_t leaves;                /* entries that map a page */
    uint64_t last_miss;  /* number of the last miss: who missed least recently is reclaimed first */
    uint64_t generation; /* see vtlb_generation */
    bool has_extra;      /* a page beyond the chain: see vtlb_insert */
    uint64_t extra_address;
    struct translation extra;
};

/* The least quota: a root and one path below it. */
#define VTLB_PAGES_MIN PAGING_LEVELS_MAX

enum vtlb_outcome {
    VTLB_FILLED,      /* let the guest go on */
    VTLB_GUEST_FAULT, /* deliver result.fault to the guest */
    VTLB_NO_MEMORY,   /* emulate the access at result.fault.address; if in_tables, the policy says what */
};

struct vtlb_result {
    struct translation translation; /* VTLB_FILLED, unless statistics.again grew: what the entry says */
    struct stage_fault fault;       /* the other two */
};

/*
 * Sets up `vtlb` over a quota of `pages` frames that begins at `base` (the partition's share of Umbra's own
 * frames, used for ever; cleared here) with one of `tables` (caller's) for each. -EINVAL: less than
 * VTLB_PAGES_MIN. Start-up of a vCPU.
 */
int vtlb_init(struct vtlb *vtlb, hpa_t base, uint32_t pages, struct vtlb_table *tables,
              const struct vtlb_hardware *hardware) __must_check;

/*
 * Makes `context` (caller's, until vtlb_context_destroy) an empty cache of `chain` (copied; its stages
 * borrowed) in the form `target`. -EINVAL: no stage, or a target that tables cannot be built in; -ENOMEM: the
 * quota is too small for one more root. Not on the exit path.
 */
int vtlb_context_init(struct vtlb_context *context, struct vtlb *vtlb, const struct stage_chain *chain,
                      const struct paging_format *target) __must_check;

/* Gives the context's pages back to the quota. The processor must not use its root any more. */
void vtlb_context_destroy(struct vtlb_context *context);

/* The root table's address: what the EPT pointer or CR3 is made of. It never changes. */
static inline hpa_t vtlb_root(const struct vtlb_context *context)
{
    return HPA(context->vtlb->base.value + (uint64_t)(context->root - context->vtlb->tables) * PAGE_SIZE);
}

/*
 * A number that grows whenever an entry was taken away or narrowed that a processor may have cached. It
 * begins at 1. A processor that is about to use the context and has not invalidated since it last saw this
 * number (0: it never did) must invalidate all that its own TLB holds of the root (INVEPT, INVVPID). Entries
 * that only appear or grow need no invalidation: the fault that asked for them has done it (SDM vol. 3,
 * "Guidelines for Use of the INVEPT Instruction").
 */
static inline uint64_t vtlb_generation(const struct vtlb_context *context)
{
    return context->generation;
}

/*
 * The processor found no entry for `access` (enum paging_right | enum stage_access) to `address`, or not the
 * right: asks the chain, and fills. Exit path; bounded.
 */
enum vtlb_outcome vtlb_miss(struct vtlb_context *context, uint64_t address, unsigned access,
                            struct vtlb_result *result);

/* Drops all entries. Constant time, but for the part of the root that was in use. Exit path. */
void vtlb_flush(struct vtlb_context *context, enum vtlb_flush_cause cause);

/*
 * Drops the entries that cover any of [address, address + size), and tables that this empties. Touches only
 * tables that exist on the way. Exit path if the range is small.
 */
void vtlb_flush_range(struct vtlb_context *context, uint64_t address, uint64_t size,
                      enum vtlb_flush_cause cause);

/*
 * Has the context, from its next miss there on, map the 4 KiB at `address` as `translation` says (page_shift:
 * 12) wherever the chain says that no memory is there: a page of the partition's that is not in its p2m, such
 * as an APIC-access page. It survives flushes. A context has one such page at most: another takes its place.
 */
void vtlb_insert(struct vtlb_context *context, uint64_t address, const struct translation *translation);

/* Takes that page away again, if there is one. Exit path. */
void vtlb_remove(struct vtlb_context *context);

/* Clears at most `budget` dropped pages ahead of need. Returns how many it cleared. Housekeeping. */
uint32_t vtlb_clean(struct vtlb *vtlb, uint32_t budget);
