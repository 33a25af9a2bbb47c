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
};

enum stage_outcome {
    STAGE_DONE,
    STAGE_FAULT,     /* the space's owner forbids it: the fault is for the guest */
    STAGE_NO_MEMORY, /* no memory there, or none that may be accessed so */
    STAGE_AGAIN,     /* the tables changed under the walk time and again: let the guest try once more */
};

struct translation {
    uint64_t address;    /* in the space that the stage leads to */
    uint8_t rights;      /* enum paging_right: what may be granted until the tables change */
    uint8_t memory_type; /* MEMORY_TYPE_* */
    uint8_t
        page_shift; /* log2 of the naturally aligned page around the address on which this holds: 12 to 30 */
    uint8_t key;    /* protection key of the guest's, 0 if it uses none; the first stage's */
    bool global;    /* holds in every address space of the guest; the first stage's */
};

/* Why there is no translation. */
struct stage_fault {
    const struct stage *stage; /* which one refused */
    uint64_t address;          /* in the space that this stage translates from */
    uint64_t error_code;       /* STAGE_FAULT: in the form of the stage (x86: a page fault's) */
    bool in_tables;            /* it is the address of an entry of a table that an earlier stage reads */
};

struct stage {
    /*
     * Translates `address` for `access` (enum paging_right | enum stage_access). Fills *translation if
     * STAGE_DONE, with rights that cover the access, and *fault otherwise. It runs on the exit path: its work
     * is bounded whatever the guest does.
     */
    enum stage_outcome (*walk)(const struct stage *stage, uint64_t address, unsigned access,
                               struct translation *translation, struct stage_fault *fault);
};

#define STAGES_MAX 3

/* From a guest's addresses to host-physical ones: stages[0] translates first, the last is a p2m. */
struct stage_chain {
    const struct stage *stages[STAGES_MAX]; /* borrowed */
    unsigned count;
};

/*
 * Follows the chain: the outcome of the first stage that does not answer STAGE_DONE, with *fault filled; or
 * STAGE_DONE with *translation: the host-physical address, rights that every stage grants, the smallest page,
 * memory types combined from the last stage to the first.
 */
enum stage_outcome stage_chain_walk(const struct stage_chain *chain, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_fault *fault);
