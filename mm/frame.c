// SPDX-License-Identifier: BSD-2-Clause
#include "mm/frame.h"

#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/physmap.h"

static void zero_by_physmap(hpa_t base, uint64_t size)
{
    memset(physmap_pointer(base), 0, size);
}

void frame_pool_init(struct frame_pool *pool, struct frame_extent *extents, size_t capacity,
                     void (*zero)(hpa_t base, uint64_t size))
{
    *pool = (struct frame_pool){
        .extents = extents,
        .capacity = capacity,
        .zero = zero != NULL ? zero : zero_by_physmap,
    };
}

/* The first extent that ends after `address`; pool->count if there is none. */
static size_t extent_after(const struct frame_pool *pool, uint64_t address)
{
    size_t low = 0;
    size_t high = pool->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (pool->extents[middle].end > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/*
 * Makes [start, end) `owner`'s, whatever it was. The extents that overlap or touch it are replaced by at most
 * three: what is left of the first, the new one, what is left of the last; a rest of the same owner melts
 * into the new one.
 */
static int pool_assign(struct frame_pool *pool, uint64_t start, uint64_t end, uint16_t owner)
{
    struct frame_extent *extents = pool->extents;
    struct frame_extent pieces[3];
    size_t n = 0;
    size_t low = extent_after(pool, start);
    size_t high;

    if (low > 0 && extents[low - 1].end == start)
        low--;
    for (high = low; high < pool->count && extents[high].start <= end;)
        high++;

    struct frame_extent middle = {start, end, owner};
    struct frame_extent right = {end, end, FRAME_OWNER_NONE};

    if (low < high) {
        const struct frame_extent *first = &extents[low];
        const struct frame_extent *last = &extents[high - 1];

        if (first->start < start && first->owner == owner)
            middle.start = first->start;
        else if (first->start < start)
            pieces[n++] = (struct frame_extent){first->start, start, first->owner};
        if (last->end > end && last->owner == owner)
            middle.end = last->end;
        else if (last->end > end)
            right = (struct frame_extent){end, last->end, last->owner};
    }
    pieces[n++] = middle;
    if (right.end > right.start)
        pieces[n++] = right;

    if (pool->count - (high - low) + n > pool->capacity)
        return -ENOSPC;
    memmove(&extents[low + n], &extents[high], (pool->count - high) * sizeof(*extents));
    memcpy(&extents[low], pieces, n * sizeof(*extents));
    pool->count = pool->count - (high - low) + n;
    return 0;
}

/* The whole frames around [base, base + size). */
static int round_outward(hpa_t base, uint64_t size, uint64_t *start, uint64_t *end)
{
    if (size == 0 || base.value > UINT64_MAX - size || base.value + size > UINT64_MAX - PAGE_SIZE)
        return -EINVAL;
    *start = align_down(base.value, PAGE_SIZE);
    *end = align_up(base.value + size, PAGE_SIZE);
    return 0;
}

/* Memory fills the gaps of [start, end) and leaves alone what is known already. */
static int add_memory(struct frame_pool *pool, uint64_t start, uint64_t end)
{
    size_t gaps = 0;

    /* Count first, so that nothing is changed unless all of it can be. A gap costs one extent at most. */
    for (uint64_t at = start; at < end;) {
        size_t i = extent_after(pool, at);
        uint64_t gap_end = i < pool->count ? pool->extents[i].start : end;
        if (gap_end > at)
            gaps++;
        at = i < pool->count ? pool->extents[i].end : end;
    }
    if (pool->count + gaps > pool->capacity)
        return -ENOSPC;

    for (uint64_t at = start; at < end;) {
        size_t i = extent_after(pool, at);
        uint64_t gap_end = i < pool->count ? min_u64(pool->extents[i].start, end) : end;
        uint64_t next = i < pool->count ? pool->extents[i].end : end;
        if (gap_end > at) {
            int error = pool_assign(pool, at, gap_end, FRAME_OWNER_FREE);
            invariant(error == 0);
        }
        at = next;
    }
    return 0;
}

int frame_pool_add(struct frame_pool *pool, hpa_t base, uint64_t size, enum frame_owner owner)
{
    uint64_t start, end;

    if (round_outward(base, size, &start, &end) != 0)
        return -EINVAL;
    if (owner == FRAME_OWNER_DEVICE)
        return pool_assign(pool, start, end, FRAME_OWNER_DEVICE);
    if (owner != FRAME_OWNER_FREE)
        return -EINVAL;

    start = align_up(base.value, PAGE_SIZE);
    end = align_down(base.value + size, PAGE_SIZE);
    return start < end ? add_memory(pool, start, end) : 0;
}

int frame_claim(struct frame_pool *pool, hpa_t base, uint64_t size, uint16_t owner)
{
    uint64_t start, end;

    if (owner < FRAME_OWNER_UMBRA || round_outward(base, size, &start, &end) != 0)
        return -EINVAL;
    for (uint64_t at = start; at < end;) {
        size_t i = extent_after(pool, at);
        if (i == pool->count || pool->extents[i].start > at)
            return -EBUSY;
        if (pool->extents[i].owner != FRAME_OWNER_FREE && pool->extents[i].owner != owner)
            return -EBUSY;
        at = pool->extents[i].end;
    }
    return pool_assign(pool, start, end, owner);
}

static bool is_free_or_dirty(const struct frame_extent *extent)
{
    return extent->owner == FRAME_OWNER_FREE || extent->owner == FRAME_OWNER_DIRTY;
}

/*
 * The run of free and dirty extents, side by side, that begins with extent number `*i`; moves *i to the last
 * of them.
 */
static struct frame_extent usable_run(const struct frame_pool *pool, size_t *i)
{
    struct frame_extent run = pool->extents[*i];

    while (*i + 1 < pool->count && pool->extents[*i + 1].start == run.end &&
           is_free_or_dirty(&pool->extents[*i + 1]))
        run.end = pool->extents[++*i].end;
    return run;
}

/* Whether `bytes` at a multiple of `alignment` lie in `run` between `lowest` and `below`; where, in *start.
 */
static bool fits_into(const struct frame_extent *run, uint64_t bytes, uint64_t alignment, uint64_t lowest,
                      uint64_t below, uint64_t *start)
{
    const uint64_t from = max_u64(run->start, lowest);
    const uint64_t end = min_u64(run->end, below);

    if (from > UINT64_MAX - alignment)
        return false;
    *start = align_up(from, alignment);
    return *start < end && end - *start >= bytes;
}

int frame_allocate(struct frame_pool *pool, uint16_t owner, uint64_t frames, unsigned alignment_shift,
                   hpa_t below, hpa_t *base)
{
    const uint64_t lowest = below.value <= FRAME_LOW_MEMORY ? 0 : FRAME_LOW_MEMORY;
    uint64_t alignment, start;

    if (owner < FRAME_OWNER_UMBRA || frames == 0 || frames > UINT64_MAX / PAGE_SIZE || alignment_shift > 63)
        return -EINVAL;
    alignment = BIT(alignment_shift > PAGE_SHIFT ? alignment_shift : PAGE_SHIFT);
    for (size_t i = extent_after(pool, lowest); i < pool->count; i++) {
        if (pool->extents[i].owner != FRAME_OWNER_FREE ||
            !fits_into(&pool->extents[i], frames * PAGE_SIZE, alignment, lowest, below.value, &start))
            continue;
        *base = HPA(start);
        return pool_assign(pool, start, start + frames * PAGE_SIZE, owner);
    }
    for (size_t i = extent_after(pool, lowest); i < pool->count; i++) {
        if (!is_free_or_dirty(&pool->extents[i]))
            continue;
        const struct frame_extent run = usable_run(pool, &i);
        if (fits_into(&run, frames * PAGE_SIZE, alignment, lowest, below.value, &start))
            return -EAGAIN;
    }
    return -ENOMEM;
}

int frame_allocate_at(struct frame_pool *pool, uint16_t owner, hpa_t base, uint64_t size,
                      struct frame_obstacle *obstacle)
{
    const uint64_t end = base.value + size;
    bool dirty = false;

    if (owner < FRAME_OWNER_UMBRA || size == 0 || !is_aligned(base.value | size, PAGE_SIZE) ||
        end < base.value)
        return -EINVAL;
    for (uint64_t at = base.value; at < end;) {
        const size_t i = extent_after(pool, at);
        const bool known = i < pool->count && pool->extents[i].start <= at;

        if (!known || !is_free_or_dirty(&pool->extents[i])) {
            *obstacle = (struct frame_obstacle){
                HPA(at),
                known ? pool->extents[i].owner : (uint16_t)FRAME_OWNER_NONE,
            };
            return -EBUSY;
        }
        dirty |= pool->extents[i].owner == FRAME_OWNER_DIRTY;
        at = pool->extents[i].end;
    }
    return dirty ? -EAGAIN : pool_assign(pool, base.value, end, owner);
}

/*
 * What of `extent` is free, not low, and begins at a multiple of `alignment`; empty (start >= end) if
 * nothing.
 */
static struct frame_extent aligned_part(const struct frame_extent *extent, uint64_t alignment)
{
    const uint64_t start = max_u64(extent->start, FRAME_LOW_MEMORY);

    if (extent->owner != FRAME_OWNER_FREE || start > UINT64_MAX - alignment)
        return (struct frame_extent){0};
    return (struct frame_extent){align_up(start, alignment), extent->end, FRAME_OWNER_FREE};
}

/*
 * Chooses the next piece for `size` bytes, beginning at a multiple of `alignment`: all of it from the
 * smallest extent that holds it, or else as many multiples of `alignment` as the extent with most of them
 * has.
 */
static bool choose_piece(const struct frame_pool *pool, uint64_t size, uint64_t alignment,
                         struct frame_piece *piece)
{
    const struct frame_extent none = {0};
    struct frame_extent whole = none;
    struct frame_extent part = none;

    for (size_t i = 0; i < pool->count; i++) {
        const struct frame_extent room = aligned_part(&pool->extents[i], alignment);
        if (room.start >= room.end)
            continue;

        const uint64_t bytes = room.end - room.start;
        if (bytes >= size && (whole.end == 0 || bytes <= whole.end - whole.start))
            whole = room;
        if (bytes >= alignment && bytes >= part.end - part.start)
            part = room;
    }
    if (whole.end != 0) {
        *piece = (struct frame_piece){HPA(align_down(whole.end - size, alignment)), size};
        return true;
    }
    if (part.end != 0) {
        *piece = (struct frame_piece){HPA(part.start), align_down(part.end - part.start, alignment)};
        return true;
    }
    return false;
}

/* How many frames `owner` has at or above FRAME_LOW_MEMORY. */
static uint64_t total_above_low(const struct frame_pool *pool, uint16_t owner)
{
    uint64_t frames = 0;

    for (size_t i = extent_after(pool, FRAME_LOW_MEMORY); i < pool->count; i++)
        if (pool->extents[i].owner == owner)
            frames += (pool->extents[i].end - max_u64(pool->extents[i].start, FRAME_LOW_MEMORY)) / PAGE_SIZE;
    return frames;
}

int frame_allocate_partition(struct frame_pool *pool, uint16_t owner, uint64_t frames,
                             struct frame_piece *pieces, size_t most, size_t *count)
{
    static const uint8_t shifts[] = {PAGE_SHIFT_1G, PAGE_SHIFT_2M, PAGE_SHIFT};
    const uint64_t available = total_above_low(pool, FRAME_OWNER_FREE);
    const uint64_t dirty = total_above_low(pool, FRAME_OWNER_DIRTY);
    size_t n = 0;
    int error;

    if (owner < FRAME_OWNER_PARTITION || frames == 0 || frames > UINT64_MAX / PAGE_SIZE)
        return -EINVAL;
    if (available < frames)
        return available + dirty < frames ? -ENOMEM : -EAGAIN;
    for (uint64_t left = frames * PAGE_SIZE; left > 0; left -= pieces[n++].size) {
        bool found = false;

        error = -ENOSPC;
        if (n == most)
            goto give_back;
        for (size_t i = 0; i < ARRAY_SIZE(shifts) && !found; i++)
            found = left >= BIT(shifts[i]) && choose_piece(pool, left, BIT(shifts[i]), &pieces[n]);
        invariant(found);
        error = pool_assign(pool, pieces[n].base.value, pieces[n].base.value + pieces[n].size, owner);
        if (error != 0)
            goto give_back;
    }
    *count = n;
    return 0;

give_back:
    /* Nobody has written to them. Each was cut out of one free extent, so giving it back needs no extent. */
    while (n-- > 0) {
        int failed =
            pool_assign(pool, pieces[n].base.value, pieces[n].base.value + pieces[n].size, FRAME_OWNER_FREE);
        invariant(failed == 0);
    }
    return dirty > 0 ? -EAGAIN : error;
}

int frame_release(struct frame_pool *pool, hpa_t base, uint64_t size, uint16_t owner)
{
    if (owner < FRAME_OWNER_UMBRA || !is_aligned(base.value | size, PAGE_SIZE) || size == 0)
        return -EINVAL;
    if (!frame_is_owned(pool, base, size, owner))
        return -EPERM;
    return pool_assign(pool, base.value, base.value + size, FRAME_OWNER_DIRTY);
}

uint64_t frame_release_all(struct frame_pool *pool, uint16_t owner)
{
    uint64_t released = 0;

    if (owner < FRAME_OWNER_UMBRA)
        return 0;
    for (size_t i = 0; i < pool->count; i++) {
        const struct frame_extent extent = pool->extents[i];
        if (extent.owner != owner)
            continue;
        int error = pool_assign(pool, extent.start, extent.end, FRAME_OWNER_DIRTY);
        invariant(error == 0);
        released += (extent.end - extent.start) / PAGE_SIZE;
        i = extent_after(pool, extent.start);
    }
    return released;
}

/* The extent to go on scrubbing: the one begun, unless it has grown downward since; else the first dirty one.
 */
static const struct frame_extent *extent_to_scrub(struct frame_pool *pool)
{
    size_t i = extent_after(pool, pool->scrub_start);

    if (i < pool->count && pool->extents[i].owner == FRAME_OWNER_DIRTY &&
        pool->extents[i].start == pool->scrub_start)
        return &pool->extents[i];
    for (i = 0; i < pool->count; i++) {
        if (pool->extents[i].owner == FRAME_OWNER_DIRTY) {
            pool->scrub_start = pool->extents[i].start;
            pool->scrub_next = pool->scrub_start;
            return &pool->extents[i];
        }
    }
    return NULL;
}

uint64_t frame_scrub_step(struct frame_pool *pool, uint64_t budget)
{
    uint64_t cleared = 0;

    while (cleared < budget) {
        const struct frame_extent *extent = extent_to_scrub(pool);
        if (extent == NULL)
            break;

        const uint64_t frames = min_u64(budget - cleared, (extent->end - pool->scrub_next) / PAGE_SIZE);
        pool->zero(HPA(pool->scrub_next), frames * PAGE_SIZE);
        pool->scrub_next += frames * PAGE_SIZE;
        cleared += frames;
        if (pool->scrub_next == extent->end) {
            int error = pool_assign(pool, extent->start, extent->end, FRAME_OWNER_FREE);
            invariant(error == 0);
            pool->scrub_start = pool->scrub_next = UINT64_MAX;
        }
    }
    return cleared;
}

uint16_t frame_owner_of(const struct frame_pool *pool, hpa_t address)
{
    size_t i = extent_after(pool, address.value);

    return i < pool->count && pool->extents[i].start <= address.value ? pool->extents[i].owner
                                                                      : FRAME_OWNER_NONE;
}

bool frame_is_owned(const struct frame_pool *pool, hpa_t base, uint64_t size, uint16_t owner)
{
    size_t i = extent_after(pool, base.value);

    /* Neighbours of one owner are merged, so one extent holds it all or there is none. */
    return size != 0 && size <= UINT64_MAX - base.value && i < pool->count &&
           pool->extents[i].start <= base.value && base.value + size <= pool->extents[i].end &&
           pool->extents[i].owner == owner;
}

uint64_t frame_total(const struct frame_pool *pool, uint16_t owner)
{
    uint64_t frames = 0;

    for (size_t i = 0; i < pool->count; i++)
        if (pool->extents[i].owner == owner)
            frames += (pool->extents[i].end - pool->extents[i].start) / PAGE_SIZE;
    return frames;
}

uint64_t frame_largest_free(const struct frame_pool *pool)
{
    uint64_t largest = 0;

    for (size_t i = 0; i < pool->count; i++) {
        const struct frame_extent part = aligned_part(&pool->extents[i], PAGE_SIZE);
        if (part.start < part.end)
            largest = max_u64(largest, (part.end - part.start) / PAGE_SIZE);
    }
    return largest;
}

bool frame_free_range(const struct frame_pool *pool, size_t n, hpa_t *base, uint64_t *size)
{
    for (size_t i = 0; i < pool->count; i++) {
        if (!is_free_or_dirty(&pool->extents[i]))
            continue;
        const struct frame_extent run = usable_run(pool, &i);
        if (n-- == 0) {
            *base = HPA(run.start);
            *size = run.end - run.start;
            return true;
        }
    }
    return false;
}

const char *frame_free_text(const struct frame_pool *pool, char *text, size_t size)
{
    static const char more[] = ", ...";
    char range[48];
    size_t used = 0;
    hpa_t base;
    uint64_t bytes;

    format_text(text, size, "none");
    for (size_t n = 0; frame_free_range(pool, n, &base, &bytes); n++) {
        hpa_t next_base;
        uint64_t next_bytes;
        const bool last = !frame_free_range(pool, n + 1, &next_base, &next_bytes);
        const size_t length =
            (size_t)format_text(range, sizeof(range), "%s0x%llx to 0x%llx", n == 0 ? "" : ", ",
                                (unsigned long long)base.value, (unsigned long long)(base.value + bytes - 1));

        /* Unless it is the last, room for the mark must be left behind it. */
        if (used + length + (last ? 1 : sizeof(more)) > size) {
            format_text(text + used, size - used, "%s", n == 0 ? more + 2 : more);
            break;
        }
        memcpy(text + used, range, length + 1);
        used += length;
    }
    return text;
}

const char *frame_owner_text(uint16_t owner)
{
    static const char *const texts[] = {
        [FRAME_OWNER_NONE] = "no memory",
        [FRAME_OWNER_FREE] = "free",
        [FRAME_OWNER_DIRTY] = "to be cleared",
        [FRAME_OWNER_DEVICE] = "the firmware or a device",
        [FRAME_OWNER_UMBRA] = "Umbra",
        [FRAME_OWNER_MODULE] = "a boot module",
        [FRAME_OWNER_SHARED] = "a shared region",
    };

    if (owner >= FRAME_OWNER_PARTITION)
        return "a partition";
    return texts[min_u64(owner, FRAME_OWNER_SHARED)];
}
