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
    bool pages_2m;       /* EPT may map large pages: at level 2, */
    bool pages_1g;       /* and at level 3 */
    bool page_tables_1g; /* page tables may at level 3; at level 2 they always may */
    /*
     * The type that the MTRRs give `address`; lowers *page_shift (log2 bytes) until it holds on all of the
     * naturally aligned page around it. Bounded. NULL: all memory is write-back.
     */
    uint8_t (*memory_type)(void *data, hpa_t address, uint8_t *page_shift);
    void *data; /* for memory_type */
};

/* Why something was flushed, for the statistics. */
enum vtlb_flush_cause {
    VTLB_FLUSH_ROOT,    /* the guest loaded a root */
    VTLB_FLUSH_ADDRESS, /* the guest invalidated an address, */
    VTLB_FLUSH_TAG,     /* a tag, or all but globals, */
    VTLB_FLUSH_ALL,     /* or everything */
    VTLB_FLUSH_P2M,     /* the partition's memory or its protection changed */
    VTLB_FLUSH_RECLAIM, /* pages of the quota were needed elsewhere */
    VTLB_FLUSH_DESTROY, /* the context is given up */
    VTLB_FLUSH_CAUSES,
};

/* Page sizes in statistics: 4K, 2M (also 4M), 1G. */
#define VTLB_PAGE_SIZES 3

/* Counters since the start. Read only outside. "Entries" are those that map pages. */
struct vtlb_statistics {
    uint64_t misses;                 /* calls of vtlb_miss: the sum of the next four */
    uint64_t filled;                 /* hidden faults: the guest does not see them */
    uint64_t guest_faults;           /* the guest's own */
    uint64_t no_memory;              /* MMIO, or a right that the p2m does not give */
    uint64_t again;                  /* the guest's tables would not stand still */
    uint64_t fills[VTLB_PAGE_SIZES]; /* entries written by misses, by size; `filled` less `stale` */
    uint64_t prefetched;             /* entries written beside those */
    uint64_t prefetched_used; /* of them used, as far as known: counted when one goes or is compared for the
                                 first time */
    uint64_t stale;           /* misses whose entry was there already: the processor's own TLB was behind */
    uint64_t raised;          /* entries whose rights grew */
    uint64_t splintered;      /* large entries taken apart */
    uint64_t transient;       /* entries for one access only */
    uint64_t flushes[VTLB_FLUSH_CAUSES]; /* by cause */
    uint64_t flushed_entries;  /* dropped by flushes, whatever the cause, that are not comparisons */
    uint64_t compared;         /* entries of tables, of any kind, compared with the guest's */
    uint64_t changed;          /* entries dropped because the guest's had changed */
    uint64_t hits;             /* switches to a context that was there */
    uint64_t contexts_made;    /* by the others */
    uint64_t contexts_evicted; /* to make room for those */
    uint64_t evictions;        /* contexts that lost their tables for want of pages */
    uint64_t cleaned_late;     /* pages cleared during a miss */
    uint32_t tables_used;      /* pages in use now: tables, roots among them, and snapshots */
    uint32_t tables_peak;
};

enum vtlb_mode {
    VTLB_CACHED, /* address spaces are kept, and looked through when the guest flushes them */
    VTLB_BASE,   /* none is kept, and a flush drops all but globals: the reference */
};

/* What entries mean: those of one family only may be shared. Private to mm/vtlb*, as are the structs below.
 */
struct vtlb_family {
    const struct stage_chain *chain;
    const struct paging_format *source, *target;
    uint64_t behind, tag;
    uint32_t role;
};

/*
 * One page of the quota.
 *
 * A table *stands for* a table of the guest's, or for a part of it if that one is wider. Its snapshot holds
 * for every entry in use the guest's entry that it was made from, and contexts that meet the same guest's
 * table at the same linear address share it. Other tables have one parent: what is below a large page of the
 * guest's, above the guest's top level, or has nothing to do with tables of a guest's.
 */
struct vtlb_table {
    struct vtlb_table *next, *previous; /* in the list of free pages; `next`: in the hash of shared tables */
    uint64_t *entries_at;               /* where Umbra reaches the page; never changes */
    struct vtlb_table *snapshot;        /* its page; NULL: it stands for no table of a guest's */
    struct vtlb_family family;
    const struct paging_level *layout; /* the target's, of `level` */
    uint64_t page_bits;                /* an entry that is not 0 maps a page if it has one of these */
    const unsigned char *guest; /* the first of the guest's entries that it stands for; NULL: not known yet */
    uint64_t guest_table;       /* the address of the guest's table */
    uint64_t base;              /* the first linear address that it translates */
    uint64_t time;              /* what was invalidated up to then is out of it and of what is below */
    uint64_t made;              /* when it was, or was emptied last for want of trust (`doubted`) */
    uint64_t used[8];     /* a bit for every entry that is not 0; dirty: for every one that may not be */
    uint32_t audited;     /* references that the audit has seen */
    uint16_t references;  /* entries that refer to it; a root: its context */
    uint16_t entries;     /* that are not 0 */
    uint16_t locals;      /* of them those that map a page and are not global */
    uint16_t prefetched;  /* of them those marked so */
    bool prefetched_anew; /* some of those since it was looked through last */
    uint8_t words;        /* in use: a bit for every word of `used` that is not 0 */
    uint8_t level;
    uint8_t rights;      /* that the path above leaves (struct stage_trail) */
    bool shared;         /* it is in the hash */
    bool guest_memory;   /* `guest` is memory of the guest's, */
    bool guest_writable; /* where A and D can be set */
};

struct vtlb_list {
    struct vtlb_table *first, *last;
    uint32_t count;
};

struct vtlb_context {
    struct vtlb *vtlb;         /* NULL: one of vtlb_switch's that is free */
    struct vtlb_context *next; /* of those that are there for good */
    struct stage_chain chain;
    struct vtlb_family family;
    uint64_t guest_root;
    const uint64_t *registers;
    struct vtlb_table *root;
    uint64_t last_use; /* number of the last miss or switch: who used it least recently is reclaimed first */
    uint8_t level_for_shift[PAGE_SHIFT_1G + 1]; /* where to fill a page of 1 << n bytes */
};

/* An address that was invalidated. */
struct vtlb_invalidation {
    uint64_t time, address, tag;
};

#define VTLB_CONTEXTS     16
#define VTLB_LOG          64  /* a power of two */
#define VTLB_HASH_BUCKETS 256 /* a power of two */
#define VTLB_TAGS         64  /* a power of two */
#define VTLB_TRANSIENTS   2

struct vtlb {
    struct vtlb_hardware hardware;
    enum vtlb_mode mode;
    hpa_t base;                                 /* of the quota */
    uint32_t pages;                             /* in it */
    uint32_t roots;                             /* of them never reclaimed */
    struct vtlb_table *tables;                  /* one per page, caller's */
    struct vtlb_list clean;                     /* free, all zero */
    struct vtlb_list dirty;                     /* free, not cleared yet: tables first, snapshots last */
    struct vtlb_table *hash[VTLB_HASH_BUCKETS]; /* tables that stand for a guest's, but roots */
    struct vtlb_context *contexts;              /* those of vtlb_context_init */
    struct vtlb_context slots[VTLB_CONTEXTS];   /* those of vtlb_switch */
    struct vtlb_context *current;               /* of these; NULL: none */
    uint64_t uses;                              /* misses and switches */
    uint64_t generation;                        /* see vtlb_generation */
    /* Invalidations have times: they are numbered. */
    uint64_t time;                   /* of the last one */
    uint64_t all_invalid;            /* of the last one of everything, */
    uint64_t locals_invalid;         /* of everything but globals, */
    uint64_t tag_invalid[VTLB_TAGS]; /* and of a tag but globals; tags that share a place go together */
    uint64_t log_lost;               /* of the last one that the log has no longer */
    uint64_t faulted;                /* of the last guest fault since the current context is; 0: none */
    uint64_t doubted;                /* of the last fault of a stage behind a walker */
    struct vtlb_invalidation log[VTLB_LOG];
    uint32_t log_next; /* counts on */
    /* The entries that were granted for one access: wherever their tables hang by now. */
    struct vtlb_grant {
        struct vtlb_table *table;
        unsigned slot;
    } transients[VTLB_TRANSIENTS];
    unsigned transient_count;
    /* What vtlb_carry found last for a space of vtlb_switch's, and for which address. */
    const struct stage_chain *carried_chain; /* NULL: nothing */
    uint64_t carried_from;
    struct translation carried;
    /* The memory type of some naturally aligned piece of memory, as asked for last. */
    uint64_t typed_address;
    uint8_t typed_shift; /* 0: none yet */
    uint8_t typed;
    struct vtlb_statistics statistics;
};

/* The least quota: a root and one path below it, each page with its snapshot. */
#define VTLB_PAGES_MIN (2 * PAGING_LEVELS_MAX)

enum vtlb_outcome {
    VTLB_FILLED,      /* let the guest go on */
    VTLB_GUEST_FAULT, /* deliver result.fault to the guest */
    VTLB_NO_MEMORY,   /* emulate the access at result.fault.address */
};

struct vtlb_result {
    struct translation
        translation; /* VTLB_FILLED: what the entry says; only `transient`, if statistics.again grew */
    struct stage_fault fault; /* the other two */
};

/* ---- Set-up ---------------------------------------------------------------------------------------------
 */

/*
 * Sets up `vtlb` over a quota of `pages` frames that begins at `base` (the partition's share of Umbra's own
 * frames, used for ever; cleared here) with one of `tables` (caller's) for each. `mode` concerns vtlb_switch
 * alone. -EINVAL: less than VTLB_PAGES_MIN. Start-up of a vCPU.
 */
int vtlb_init(struct vtlb *vtlb, hpa_t base, uint32_t pages, struct vtlb_table *tables,
              const struct vtlb_hardware *hardware, enum vtlb_mode mode) __must_check;

/*
 * Makes `context` (caller's, until vtlb_context_destroy) an empty cache of `chain` (copied; its stages
 * borrowed) in the form `target`: one that is there for good, for a chain without tables of the guest's
 * (EPT). -EINVAL: no stage, or a target that tables cannot be built in; -ENOMEM: the quota is too small for
 * one more root. Not on the exit path.
 */
int vtlb_context_init(struct vtlb_context *context, struct vtlb *vtlb, const struct stage_chain *chain,
                      const struct paging_format *target) __must_check;

/* Gives the context's pages back to the quota. The processor must not use its root any more. */
void vtlb_context_destroy(struct vtlb_context *context);

/* The root table's address: what the EPT pointer or CR3 is made of. It does not change while the context is
 * in use. */
hpa_t vtlb_root(const struct vtlb_context *context);

/*
 * A number that grows whenever an entry was taken away or narrowed that a processor may have cached, in
 * whichever context. It begins at 1. A processor that is about to use a context and has not invalidated since
 * it last saw this number (0: it never did), or used another context meanwhile, must invalidate all that its
 * own TLB holds of the vCPU (INVEPT, INVVPID). Entries that only appear or grow need no invalidation: the
 * fault that asked for them has done it (SDM vol. 3, "Guidelines for Use of the INVEPT Instruction").
 */
static inline uint64_t vtlb_generation(const struct vtlb *vtlb)
{
    return vtlb->generation;
}

/* ---- A guest's address spaces ---------------------------------------------------------------------------
 */

/* One of them, as the guest's registers choose it. */
struct vtlb_space {
    const struct stage_chain *chain;    /* a walker over the guest's tables, then the space that these are in:
                                           memory, or with `behind` a walker over other tables, then memory */
    const struct paging_format *source; /* of the guest's tables; NULL: paging is off */
    const struct paging_format *target;
    uint64_t root; /* address of the guest's top table, in the space behind the walker; 0 if paging is off */
    const uint64_t *registers; /* PAE: the four PDPTEs in use, where the walker has them; else NULL */
    uint32_t role;             /* whatever else changes what the guest's entries mean */
    uint64_t tag;              /* its PCID, or whatever else it is invalidated by */
    uint64_t behind;           /* which tables the second of three stages goes by: not 0; else 0 */
};

/* What a guest invalidates. */
enum vtlb_scope {
    VTLB_SCOPE_NONE,
    VTLB_SCOPE_TAG,         /* all of one tag but globals */
    VTLB_SCOPE_NOT_GLOBALS, /* all of every tag but globals */
    VTLB_SCOPE_ALL,
};

/*
 * The guest has made `space` (copied, what it points to borrowed) the current one: returns its context,
 * cached or new, which stays in use until the next call. `flushed`: what the guest has invalidated by this
 * (of the space's tag, if by tag: MOV to CR3 without bit 63). It goes from the context that is left as well,
 * whose tag a processor could no longer fill for by then. What was invalidated while the context was not in
 * use takes effect. Exit path: bounded by the quota.
 */
struct vtlb_context *vtlb_switch(struct vtlb *vtlb, const struct vtlb_space *space, enum vtlb_scope flushed);

/*
 * No space is in use until the next vtlb_switch, and no context that it made is used: what is invalidated
 * meanwhile is looked through only then, because until then nothing could have been cached anew. Exit path.
 */
void vtlb_leave(struct vtlb *vtlb);

/*
 * The guest has invalidated `scope` (of `tag`, if by tag): nothing that a walk would not give now is seen
 * hereafter. What it invalidates by choosing another space is vtlb_switch's. Exit path.
 */
void vtlb_invalidate(struct vtlb *vtlb, enum vtlb_scope scope, uint64_t tag);

/* The same for one linear address, in `tag`, and in all tags where it is global (INVLPG, INVPCID type 0). */
void vtlb_invalidate_address(struct vtlb *vtlb, uint64_t tag, uint64_t address);

/*
 * The tables behind the walker of spaces with `behind` (0: of all that have some) are invalidated: drops what
 * was made by them. The context in use stays valid, empty. Exit path: bounded by the quota.
 */
void vtlb_invalidate_behind(struct vtlb *vtlb, uint64_t behind);

/*
 * Drops every entry of every context that vtlb_switch made: the partition's memory, its protection or the
 * meaning of memory types changed. The next vtlb_switch begins anew; the context in use stays valid, empty.
 */
void vtlb_drop(struct vtlb *vtlb, enum vtlb_flush_cause cause);

/*
 * Takes back what misses of the context in use granted for one access only (translation.transient): the
 * guest's access has been made, or something else came first. Before each entry that does not follow a miss.
 * Exit path.
 */
void vtlb_end_transient(struct vtlb *vtlb);

static inline bool vtlb_has_transient(const struct vtlb *vtlb)
{
    return vtlb->transient_count != 0;
}

/* ---- Misses and flushes, of any context -----------------------------------------------------------------
 */

/*
 * The processor found no entry for `access` (enum paging_right | enum stage_access) to `address`, or not the
 * right: asks the chain, and fills. Exit path; bounded.
 */
enum vtlb_outcome vtlb_miss(struct vtlb_context *context, uint64_t address, unsigned access,
                            struct vtlb_result *result);

/* Drops all entries of a context that vtlb_context_init made. Exit path. */
void vtlb_flush(struct vtlb_context *context, enum vtlb_flush_cause cause);

/*
 * Drops the entries of such a context that cover any of [address, address + size), and tables that this
 * empties. Touches only tables that exist on the way. Exit path if the range is small.
 */
void vtlb_flush_range(struct vtlb_context *context, uint64_t address, uint64_t size,
                      enum vtlb_flush_cause cause);

/* Clears at most `budget` dropped pages ahead of need. Returns how many it cleared. Housekeeping. */
uint32_t vtlb_clean(struct vtlb *vtlb, uint32_t budget);
