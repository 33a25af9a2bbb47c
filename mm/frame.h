// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The frames of the machine and their owners. Every 4 KiB frame has exactly one owner; frames of one owner
 * that lie side by side are one extent, so what this costs grows with the number of ranges and not with the
 * amount of memory.
 *
 * The life of a frame: free → owned (by Umbra or a partition) → dirty (released) → scrubbed, free again.
 * Nobody is ever given a frame that still holds what another owner wrote. What is free may still hold what
 * was there before Umbra started: whoever must not see that clears it.
 *
 * Who gets -EAGAIN from here wants what is there but dirty: after frame_scrub_step it comes free.
 *
 * A pool is changed by one processor at a time; its owner sees to that. Nothing here is called on the exit
 * path.
 */
#include "lib/types.h"

#define FRAME_SHARED_MAX 32 /* regions that partitions share, of the machine */

/* Owners. A shared region's is FRAME_OWNER_SHARED + its number, a partition's FRAME_OWNER_PARTITION + its
 * number. */
enum frame_owner {
    FRAME_OWNER_NONE,   /* no memory known there: the gaps between extents */
    FRAME_OWNER_FREE,   /* memory that anybody may be given */
    FRAME_OWNER_DIRTY,  /* released, not scrubbed yet */
    FRAME_OWNER_DEVICE, /* not memory: firmware, device registers, bad memory */
    FRAME_OWNER_UMBRA,  /* image, stacks, tables */
    FRAME_OWNER_MODULE, /* what the boot loader left for Umbra */
    FRAME_OWNER_SHARED,
    FRAME_OWNER_PARTITION = FRAME_OWNER_SHARED + FRAME_SHARED_MAX,
};

/* As `below`: anywhere. */
#define FRAME_ANYWHERE   HPA(UINT64_MAX)

/*
 * Memory below this is given only to who asks for memory below it (start-up code of other processors, BIOS
 * data).
 */
#define FRAME_LOW_MEMORY MIB(1)

/* Frames [start, end), by address; both multiples of PAGE_SIZE. */
struct frame_extent {
    uint64_t start;
    uint64_t end;
    uint16_t owner;
};

struct frame_pool {
    struct frame_extent
        *extents; /* caller's; sorted by address, none empty, none overlapping, neighbours merged */
    size_t count;
    size_t capacity;
    void (*zero)(hpa_t base, uint64_t size); /* clears memory that is being scrubbed */
    uint64_t scrub_start;                    /* of the extent that is being scrubbed; */
    uint64_t scrub_next;                     /* from scrub_start to here it is done */
};

/* What stands in the way of frame_allocate_at. */
struct frame_obstacle {
    hpa_t frame;    /* the first frame that cannot be had */
    uint16_t owner; /* FRAME_OWNER_NONE: there is no memory */
};

/* A piece of memory that frame_allocate_partition handed out. */
struct frame_piece {
    hpa_t base;
    uint64_t size; /* bytes, a multiple of PAGE_SIZE */
};

/*
 * Makes an empty pool over `extents` (caller's, `capacity` of them, kept as long as the pool). `zero` clears
 * memory for frame_scrub_step; NULL: through the physical map.
 */
void frame_pool_init(struct frame_pool *pool, struct frame_extent *extents, size_t capacity,
                     void (*zero)(hpa_t base, uint64_t size));

/*
 * Adds one range of the machine's memory map, in any order, overlapping or not. `owner` is FRAME_OWNER_FREE
 * for memory: it is rounded inward to whole frames and gives way to all that was or will be added as
 * something else; or FRAME_OWNER_DEVICE: it is rounded outward and wins. Before the first allocation only.
 * -EINVAL: empty, wrapping, or another owner. -ENOSPC: extents have run out, nothing changed.
 */
int frame_pool_add(struct frame_pool *pool, hpa_t base, uint64_t size, enum frame_owner owner) __must_check;

/*
 * Takes the frames that hold [base, base + size), which have something in them already (image, boot modules),
 * for `owner`. A frame may be claimed again by the same owner: two modules may share one. -EINVAL: empty or
 * wrapping. -EBUSY: part of it is neither free nor `owner`'s. -ENOSPC. On errors nothing changed.
 */
int frame_claim(struct frame_pool *pool, hpa_t base, uint64_t size, uint16_t owner) __must_check;

/*
 * Gives `owner` a run of `frames` free frames, aligned to 1 << alignment_shift bytes (a shift below
 * PAGE_SHIFT means PAGE_SHIFT) and wholly below `below`: the lowest that there is. Memory below
 * FRAME_LOW_MEMORY is given only if `below` is no higher than that. The frames are not cleared: free memory
 * may hold what was there before Umbra started. -EINVAL: no frames, or an owner that cannot own. -EAGAIN: no
 * such run, but there is one with dirty frames in it. -ENOMEM: no such run. -ENOSPC: extents have run out.
 */
int frame_allocate(struct frame_pool *pool, uint16_t owner, uint64_t frames, unsigned alignment_shift,
                   hpa_t below, hpa_t *base) __must_check;

/*
 * Gives `owner` `frames` frames in as few and as aligned pieces as the free memory allows, so that large
 * pages can map them: first what can begin at a multiple of 1 GiB, then of 2 MiB, then the rest; never below
 * FRAME_LOW_MEMORY. Writes the pieces to `pieces` (room for `most`) in the order in which they are to be laid
 * out, and their number to *count. All but the last few are multiples of 1 GiB or 2 MiB. Not cleared, as
 * above. All or nothing: -EINVAL; -ENOMEM: not so much is there; -EAGAIN: part of it is dirty, or it is free
 * in too many pieces while other memory is dirty; -ENOSPC: more than `most` pieces needed, or extents have
 * run out.
 */
int frame_allocate_partition(struct frame_pool *pool, uint16_t owner, uint64_t frames,
                             struct frame_piece *pieces, size_t most, size_t *count) __must_check;

/*
 * Gives `owner` these very frames, [base, base + size), wherever they are. Not cleared, as above. -EINVAL:
 * not whole frames, none, wrapping, or an owner that cannot own; -EBUSY: one of them is neither free nor
 * dirty, and *obstacle (not NULL) says which is the first; -EAGAIN: some are dirty; -ENOSPC: extents have run
 * out. On errors nothing changed.
 */
int frame_allocate_at(struct frame_pool *pool, uint16_t owner, hpa_t base, uint64_t size,
                      struct frame_obstacle *obstacle) __must_check;

/*
 * Takes the frames [base, base + size) back from `owner`; they become dirty. -EINVAL: not whole frames, or an
 * owner that cannot own; -EPERM: part of it is not `owner`'s; -ENOSPC: extents have run out. On errors
 * nothing changed.
 */
int frame_release(struct frame_pool *pool, hpa_t base, uint64_t size, uint16_t owner) __must_check;

/*
 * Takes back every frame of `owner`. It never needs an extent, so it cannot fail. Returns the number of
 * frames.
 */
uint64_t frame_release_all(struct frame_pool *pool, uint16_t owner);

/*
 * Clears at most `budget` dirty frames. An extent becomes free when all of it is cleared. Returns how many
 * frames were cleared: 0 when none is dirty. Housekeeping; bounded by its budget.
 */
uint64_t frame_scrub_step(struct frame_pool *pool, uint64_t budget);

/* The owner of the frame that holds `address`. */
uint16_t frame_owner_of(const struct frame_pool *pool, hpa_t address);

/* True if all of [base, base + size) is `owner`'s; false if it is empty or wraps. */
bool frame_is_owned(const struct frame_pool *pool, hpa_t base, uint64_t size, uint16_t owner);

/* How many frames `owner` has; with FRAME_OWNER_FREE, the frames below FRAME_LOW_MEMORY too. */
uint64_t frame_total(const struct frame_pool *pool, uint16_t owner);

/* The longest run of free frames at or above FRAME_LOW_MEMORY. */
uint64_t frame_largest_free(const struct frame_pool *pool);

/*
 * The range number `n`, from 0, in which all frames are free or dirty, in the order of addresses; false if
 * there are no more than `n`. What a frame_allocate_at within it can refuse is a matter of scrubbing alone.
 */
bool frame_free_range(const struct frame_pool *pool, size_t n, hpa_t *base, uint64_t *size);

/*
 * Lists these ranges in `text` (`size` bytes, at least 8; always terminated), as in "0x1000 to 0x9ffff,
 * 0x100000 to 0x3ffffff"; ranges that do not fit become ", ...", and no range at all "none". Returns `text`.
 */
const char *frame_free_text(const struct frame_pool *pool, char *text, size_t size);

/* Who `owner` is, for a message: "Umbra", "a device", "a partition" and the like. */
const char *frame_owner_text(uint16_t owner);
