// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A stage translates addresses of one space into another: a guest's own page tables (mm/walk_x86.h), EPT
 * tables of a guest hypervisor, a partition's p2m (mm/p2m.h). A chain of stages that ends in a p2m leads to
 * host-physical memory; the virtual TLB (mm/vtlb.h) caches what a chain says, and the accessor to guest
 * memory (mm/guest_memory.h) follows it.
 */
#include "arch/x86/paging.h"
#include "lib/types.h"

/* What an access needs, besides enum paging_right: how it is made. */
enum stage_access {
    STAGE_ACCESS_AC = 1 << 4, /* supervisor access with EFLAGS.AC = 1, not implicit: SMAP does not apply */
    STAGE_ACCESS_IMPLICIT =
        1 << 5, /* the processor's own access to a table (GDT, TSS …): supervisor at any CPL */
    STAGE_ACCESS_PROBE = 1 << 6, /* look only: leave the accessed and dirty bits as they are */
    STAGE_ACCESS_AHEAD =
        1 << 7, /* the processor looks ahead: as a probe, and what has A = 0 is STAGE_AGAIN */
};

enum stage_outcome {
    STAGE_DONE,
    STAGE_FAULT,     /* the space's owner forbids it: the fault is for the guest */
    STAGE_NO_MEMORY, /* no memory there, or none that may be accessed so */
    STAGE_AGAIN,     /* the tables changed under the walk time and again: let the guest try once more */
};

/*
 * The way through the tables of a space's owner to one translation: what a virtual TLB needs to know which of
 * its entries came from which of theirs. Steps are indexed by level, of the owner's format.
 */
struct stage_trail {
    uint8_t top, leaf; /* levels of the first and the last entry that were used; 0, 0: no tables */
    uint8_t reached;   /* STAGE_FAULT: the level of the last table that was read, as far as A is set in all
                          entries on the way to it; 0: none. `leaf` is no higher then */
    uint8_t known; /* before: the level whose `table`, `host`, `writable` and `rights` are known; 0: none */
    struct {
        uint64_t table;      /* address of the table, in the space that the stage leads to */
        uint64_t value;      /* of the entry, as the walk left it: with the A and D bits that it set */
        unsigned char *host; /* where Umbra reaches the page of the table; NULL: no memory is there */
        uint8_t rights;      /* that the entries above this table leave: U, W, X of enum paging_right; of EPT
                                 R, W, X */
        bool writable;       /* A and D can be set at `host` */
    } step[PAGING_LEVELS_MAX + 1];
};

struct translation {
    uint64_t address;    /* in the space that the stage leads to */
    uint8_t rights;      /* enum paging_right: what may be granted until the tables change */
    uint8_t memory_type; /* MEMORY_TYPE_* */
    uint8_t
        page_shift; /* log2 of the naturally aligned page around the address on which this holds: 12 to 30 */
    uint8_t key;    /* protection key of the guest's, 0 if it uses none; the first stage's */
    bool global;    /* holds in every address space of the guest; the first stage's */
    bool transient; /* allows more than the guest's tables do: must not outlive the access; the first stage's
                     */
};

/* Why there is no translation. */
struct stage_fault {
    const struct stage *stage; /* which one refused */
    uint64_t address;          /* in the space that this stage translates from */
    uint64_t error_code;       /* STAGE_FAULT: in the form of the stage (x86: a page fault's) */
    bool in_tables;            /* it is the address of an entry of a table that an earlier stage reads */
    bool keeps; /* STAGE_FAULT: the processor forgets nothing by it (an EPT misconfiguration) */
};

struct stage {
    /*
     * Translates `address` for `access` (enum paging_right | enum stage_access). Fills *translation if
     * STAGE_DONE, with rights that cover the access, and *fault otherwise. It runs on the exit path: its work
     * is bounded whatever the guest does.
     */
    enum stage_outcome (*walk)(const struct stage *stage, uint64_t address, unsigned access,
                               struct translation *translation, struct stage_fault *fault);
    /*
     * For a stage that reads tables of the owner's, else NULL. The same, and on STAGE_DONE and STAGE_FAULT
     * *trail. If trail->known is not 0, the steps above are what a walk would find now, with A set: it begins
     * at that level.
     */
    enum stage_outcome (*walk_trail)(const struct stage *stage, uint64_t address, unsigned access,
                                     struct translation *translation, struct stage_trail *trail,
                                     struct stage_fault *fault);
    /*
     * Likewise: what the entry `value` of level 1, found beside the last one of `trail` (whose leaf is 1),
     * says for `address` to a processor that looks ahead: nothing is changed, no access is checked. False: it
     * must not be cached (not present, A = 0, reserved bits); without D there is no right to write. NULL:
     * nothing is looked at ahead.
     */
    bool (*peek)(const struct stage *stage, uint64_t address, uint64_t value, const struct stage_trail *trail,
                 struct translation *translation);
};

#define STAGES_MAX 3

/* From a guest's addresses to host-physical ones: stages[0] translates first, the last is a p2m. */
struct stage_chain {
    const struct stage *stages[STAGES_MAX]; /* borrowed */
    unsigned count;
};

/*
 * Carries a translation that stages before stages[first] have made on through the rest of the chain: narrows
 * *translation. Outcome and *fault as below.
 */
enum stage_outcome stage_chain_continue(const struct stage_chain *chain, unsigned first, unsigned access,
                                        struct translation *translation, struct stage_fault *fault);

/*
 * Follows the chain: the outcome of the first stage that does not answer STAGE_DONE, with *fault filled; or
 * STAGE_DONE with *translation: the host-physical address, rights that every stage grants, the smallest page,
 * memory types combined from the last stage to the first.
 */
enum stage_outcome stage_chain_walk(const struct stage_chain *chain, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_fault *fault);
