// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the parts of the virtual TLB do for each other. Private to mm/vtlb*.
 */
#include "mm/vtlb.h"

/* Visits the contexts of vtlb_switch, those that are free among them. */
#define for_each_slot(c, vtlb)                                                                               \
    for (struct vtlb_context *c = (vtlb)->slots; c != (vtlb)->slots + VTLB_CONTEXTS; c++)

/*
 * Makes `context` an empty one of `vtlb` for `family`, whose chain it copies. False: no page is free for its
 * root.
 */
bool vtlb_context_open(struct vtlb_context *context, struct vtlb *vtlb, const struct vtlb_family *family);

/* Drops all entries of `context` but keeps its root. */
void vtlb_context_empty(struct vtlb_context *context, enum vtlb_flush_cause cause);

/* Gives back all that `context`, one of vtlb_switch's, has. */
void vtlb_slot_close(struct vtlb_context *context, enum vtlb_flush_cause cause);

/*
 * Frees pages: the context that was used least recently loses its tables, and if it is one of vtlb_switch's
 * that is not in use, all it has. `asking` (or NULL) only if no other has any.
 */
void vtlb_reclaim(struct vtlb *vtlb, struct vtlb_context *asking);

/*
 * Takes out of `table`, which belongs to `context` or is about to, and of what is below it, all that the
 * guest invalidated since this was done last.
 */
void vtlb_catch_up(const struct vtlb_context *context, struct vtlb_table *table);

/*
 * The guest's access to `address` by the context in use is a page fault of its own: the processor forgets
 * what it had for the address (SDM vol. 3, "Operations that Invalidate TLBs and Paging-Structure Caches").
 * `table` is on the way there, and all above it is as the guest has it. `behind`: it is a fault of a stage
 * behind the walker, and what the processor had for an address of that stage's is forgotten, too; it may be
 * that of a page or table of any other linear address, whose entry lasts until that is invalidated.
 */
void vtlb_forget_faulted(struct vtlb *vtlb, struct vtlb_table *table, uint64_t address, bool behind);

/*
 * Where the guest's tables lie, and what lies behind their entries, may have changed for spaces with
 * `behind`, one of which is current: tables are found anew by each walk from now on, and what an invalidation
 * concerns goes without a look.
 */
void vtlb_doubt(struct vtlb *vtlb);

/*
 * Follows the chain after the stage that led to `gpa`, and asks for the memory type: *below holds on the
 * naturally aligned piece of 1 << below->page_shift bytes around it.
 */
enum stage_outcome vtlb_carry(const struct vtlb_context *context, uint64_t gpa, unsigned access,
                              struct translation *below, struct stage_fault *fault);

/*
 * The guest's tables were read on the way to `address` as far as `trail` says, and led to a page fault:
 * makes tables that stand for them, so that the next walk, which often is the one that fills, need not find
 * them again. `table` as below.
 */
void vtlb_fill_tables(struct vtlb_context *context, struct vtlb_table *table, uint64_t address,
                      const struct stage_trail *trail);

/*
 * Makes the target say for `address` what *above, which `trail` led to, and *below say together; *above
 * becomes that. Then looks at the guest's neighbouring entries. `table`, on the way, is right, and `trail`
 * has the steps from there on. False: pages have run out, and the same is to be asked for once more.
 */
bool vtlb_fill(struct vtlb_context *context, struct vtlb_table *table, uint64_t address,
               const struct stage_trail *trail, const struct translation *below, struct translation *above);
