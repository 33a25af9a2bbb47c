// SPDX-License-Identifier: BSD-2-Clause
#include "mm/overlay.h"

static enum stage_outcome overlay_walk(const struct stage *stage, uint64_t address, unsigned access,
                                       struct translation *translation, struct stage_fault *fault)
{
    const struct overlay *overlay = container_of(stage, struct overlay, stage);
    enum stage_outcome outcome = overlay->below->walk(overlay->below, address, access, translation, fault);

    if (likely(outcome != STAGE_NO_MEMORY) || !overlay->present ||
        align_down(address, PAGE_SIZE) != overlay->address ||
        (access & PAGING_RIGHTS & ~(unsigned)overlay->page.rights) != 0)
        return outcome;
    *translation = overlay->page;
    translation->address |= address & (PAGE_SIZE - 1);
    return STAGE_DONE;
}

void overlay_init(struct overlay *overlay, const struct stage *below)
{
    *overlay = (struct overlay){.stage = {.walk = overlay_walk}, .below = below};
}

void overlay_set(struct overlay *overlay, uint64_t address, const struct translation *page)
{
    overlay->present = true;
    overlay->address = align_down(address, PAGE_SIZE);
    overlay->page = *page;
    overlay->page.rights |= PAGING_USER; /* who accesses it is a matter of the stages before */
}

void overlay_clear(struct overlay *overlay)
{
    overlay->present = false;
}

const struct overlay *overlay_of(const struct stage *stage)
{
    return stage->walk == overlay_walk ? container_of(stage, struct overlay, stage) : NULL;
}
