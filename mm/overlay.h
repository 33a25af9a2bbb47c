// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A stage that lays one 4-KiB page over another stage where that one has no memory: a vCPU's own view of
 * guest-physical addresses, with its APIC-access page over the partition's p2m. All else is the stage below.
 */
#include "mm/stage.h"

struct overlay {
    struct stage stage;
    const struct stage *below; /* borrowed */
    bool present;
    uint64_t address; /* of the page, in the space that the stage translates from */
    struct translation page;
};

/* An overlay of nothing over `below` (borrowed as long as it is used). */
void overlay_init(struct overlay *overlay, const struct stage *below);

/*
 * From now on the 4 KiB at `address` (rounded down) are what `page` says (page_shift: 12), instead of any
 * before. Whoever caches translations has to forget the page's address, and the one before. The vCPU's home.
 */
void overlay_set(struct overlay *overlay, uint64_t address, const struct translation *page);

/* From now on there is none. */
void overlay_clear(struct overlay *overlay);

/* The overlay whose stage `stage` is; NULL: it is another kind. */
const struct overlay *overlay_of(const struct stage *stage);
