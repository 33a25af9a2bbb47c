// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A stage below the tables that a walker reads, for its tests: it changes an entry whenever one is to be
 * written, and may refuse.
 */
#include "mm/stage.h"

#define MEDDLED 0x5000ULL /* the page whose accesses may be faults */

struct meddler {
    struct stage stage;
    uint64_t *entry;
    uint64_t flip; /* in the entry, each time; */
    unsigned times;
    unsigned writes, reads;
    unsigned forbids; /* accesses of these kinds, to the page MEDDLED, are faults */
};

static inline enum stage_outcome meddle(const struct stage *stage, uint64_t address, unsigned access,
                                        struct translation *translation, struct stage_fault *fault)
{
    struct meddler *meddler = container_of(stage, struct meddler, stage);

    if ((access & meddler->forbids) != 0 && align_down(address, PAGE_SIZE) == MEDDLED) {
        *fault = (struct stage_fault){.stage = stage, .address = address, .error_code = 0x123};
        return STAGE_FAULT;
    }
    if ((access & PAGING_WRITE) != 0) {
        if (meddler->writes++ < meddler->times)
            *meddler->entry ^= meddler->flip;
    } else {
        meddler->reads++;
    }
    *translation = (struct translation){
        .address = address,
        .rights =
            PAGING_RIGHTS & ~((access & PAGING_WRITE) != 0 ? 0 : PAGING_WRITE), /* it wants to be asked */
        .memory_type = MEMORY_TYPE_WB,
        .page_shift = PAGE_SHIFT};
    return STAGE_DONE;
}
