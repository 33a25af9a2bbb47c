// SPDX-License-Identifier: BSD-2-Clause
#include "core/config/layout.h"

#include "lib/errors.h"

#define NOWHERE UINT64_MAX

/* [start, end) */
struct span {
    uint64_t start;
    uint64_t end;
};

/* Kernel, sections and files are placed one after the other in what the ones before have left. */
struct plan {
    const struct layout_range *map;
    unsigned map_count;
    bool packed; /* everything as low as it can be */
    struct span taken[2 + CONFIG_MODULES_MAX];
    unsigned taken_count;
    bool kernel_placed;
};

unsigned layout_map(const struct config_partition *partition, struct layout_range map[LAYOUT_MAP_MAX])
{
    const uint64_t low = layout_low_memory(partition->memory);
    unsigned count = 0;

    map[count++] = (struct layout_range){0, LAYOUT_VIDEO_START, LAYOUT_RAM};
    map[count++] = (struct layout_range){LAYOUT_VIDEO_START, MIB(1) - LAYOUT_VIDEO_START, LAYOUT_RESERVED};
    if (partition->memory_fixed) {
        map[count++] = (struct layout_range){partition->memory_base, partition->memory, LAYOUT_RAM};
        return count;
    }
    if (low > MIB(1))
        map[count++] = (struct layout_range){MIB(1), low - MIB(1), LAYOUT_RAM};
    if (partition->memory > low)
        map[count++] = (struct layout_range){GIB(4), partition->memory - low, LAYOUT_RAM};
    return count;
}

/* The part of [from, limit) that is RAM of this range; false if there is none. */
static bool clip(const struct layout_range *range, uint64_t from, uint64_t limit, struct span *ram)
{
    if (range->type != LAYOUT_RAM || range->base >= limit)
        return false;
    ram->start = max_u64(range->base, from);
    ram->end = range->base + min_u64(range->size, limit - range->base);
    return ram->start <= ram->end;
}

static const struct span *find_taken(const struct plan *plan, uint64_t at, uint64_t size)
{
    for (unsigned i = 0; i < plan->taken_count; i++)
        if (at < plan->taken[i].end && plan->taken[i].start < at + size)
            return &plan->taken[i];
    return NULL;
}

/* The lowest multiple of `alignment` where `size` bytes inside [from, limit) are RAM and free, or NOWHERE. */
static uint64_t find_lowest(const struct plan *plan, uint64_t size, uint64_t alignment, uint64_t from,
                            uint64_t limit)
{
    for (unsigned i = 0; i < plan->map_count; i++) {
        const struct span *met;
        struct span ram;

        if (!clip(&plan->map[i], from, limit, &ram))
            continue;
        for (uint64_t at = align_up(ram.start, alignment); at <= ram.end && size <= ram.end - at;
             at = align_up(met->end, alignment)) {
            met = find_taken(plan, at, size);
            if (met == NULL)
                return at;
        }
    }
    return NOWHERE;
}

/* The highest one. */
static uint64_t find_highest(const struct plan *plan, uint64_t size, uint64_t alignment, uint64_t from,
                             uint64_t limit)
{
    for (unsigned i = plan->map_count; i > 0; i--) {
        const struct span *met;
        struct span ram;

        if (!clip(&plan->map[i - 1], from, limit, &ram))
            continue;
        for (uint64_t top = ram.end; size <= top && align_down(top - size, alignment) >= ram.start;
             top = met->start) {
            met = find_taken(plan, align_down(top - size, alignment), size);
            if (met == NULL)
                return align_down(top - size, alignment);
        }
    }
    return NOWHERE;
}

static void take(struct plan *plan, uint64_t at, uint64_t size)
{
    plan->taken[plan->taken_count++] = (struct span){at, at + size};
}

/* Whether all of the kernel can be where its segments say. */
static bool own_place_is_ram(const struct plan *plan, const struct kernel_image *image, uint64_t *missing)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct kernel_segment *segment = &image->segments[i];
        uint64_t end = segment->address + segment->memory_size;

        if (find_lowest(plan, segment->memory_size, 1, segment->address, end) == NOWHERE) {
            *missing = segment->address;
            return false;
        }
    }
    return true;
}

static bool own_place_is_allowed(const struct kernel_image *image)
{
    const struct kernel_place *place = &image->place;

    return place->preference == KERNEL_ANYWHERE && is_aligned(image->start, place->alignment) &&
           image->start >= place->lowest && image->end - 1 <= place->highest;
}

static bool place_kernel(struct plan *plan, struct layout *layout, const struct kernel_image *image)
{
    const struct kernel_place *place = &image->place;
    const bool movable = place->alignment != 0;
    const uint64_t size = image->end - image->start;
    uint64_t at = NOWHERE;

    if ((!movable || own_place_is_allowed(image)) && own_place_is_ram(plan, image, &layout->missing)) {
        at = image->start;
    } else if (movable) {
        layout->missing = place->lowest;
        at = (place->preference == KERNEL_HIGHEST && !plan->packed ? find_highest : find_lowest)(
            plan, size, place->alignment, place->lowest, place->highest + 1);
    }
    if (at == NOWHERE)
        return false;
    layout->shift = at - image->start;
    take(plan, at, size);
    return true;
}

/* Room behind the kernel or, if there is none, anywhere above 1 MiB. */
static bool place_behind(struct plan *plan, uint64_t size, uint64_t alignment, uint64_t *at)
{
    *at = find_lowest(plan, size, alignment, plan->taken[0].end, KERNEL_ADDRESS_MAX);
    if (*at == NOWHERE)
        *at = find_lowest(plan, size, alignment, KERNEL_ADDRESS_MIN, KERNEL_ADDRESS_MAX);
    if (*at == NOWHERE)
        return false;
    take(plan, *at, size);
    return true;
}

static bool place_initrd(struct plan *plan, const struct kernel_image *image, uint64_t size, uint64_t *at)
{
    const uint64_t limit = min_u64(image->initrd_max, KERNEL_ADDRESS_MAX - 1) + 1;

    *at = (plan->packed ? find_lowest : find_highest)(plan, size, PAGE_SIZE, plan->taken[0].end, limit);
    if (*at == NOWHERE)
        return false;
    take(plan, *at, size);
    return true;
}

static bool is_linux(const struct kernel_image *image)
{
    return image->kind == KERNEL_LINUX_BZIMAGE || image->kind == KERNEL_LINUX_ELF;
}

static bool place_all(struct plan *plan, struct layout *layout, const struct kernel_image *image,
                      const uint64_t *sizes, unsigned count)
{
    plan->taken_count = 0;
    plan->kernel_placed = place_kernel(plan, layout, image);
    if (!plan->kernel_placed)
        return false;
    if (image->sections.room &&
        !place_behind(plan, image->sections.room, KERNEL_SECTION_ALIGN, &layout->sections))
        return false;
    for (unsigned i = 0; i < count; i++)
        if (!(is_linux(image) ? place_initrd(plan, image, sizes[i], &layout->files[i])
                              : place_behind(plan, sizes[i], PAGE_SIZE, &layout->files[i])))
            return false;
    return true;
}

/* What keeps kernel and files out, though they are packed, of as much memory as a partition may have there.
 */
static int find_obstacle(struct plan *plan, struct layout *layout, const struct kernel_image *image,
                         const uint64_t *sizes, unsigned count)
{
    struct layout_range grown[2];
    unsigned last = plan->map_count;

    while (last > 0 && plan->map[last - 1].type != LAYOUT_RAM)
        last--;
    if (last > 0 && plan->map[last - 1].base < LAYOUT_LOW_MEMORY_MAX) {
        grown[0] = plan->map[0];
        grown[1] = plan->map[last - 1];
        grown[1].size = max_u64(grown[1].size, LAYOUT_LOW_MEMORY_MAX - grown[1].base);
        plan->map = grown;
        plan->map_count = ARRAY_SIZE(grown);
        if (place_all(plan, layout, image, sizes, count)) {
            for (unsigned i = 0; i < plan->taken_count; i++)
                layout->end = max_u64(layout->end, plan->taken[i].end);
            return -ENOSPC;
        }
    }
    return plan->kernel_placed ? -E2BIG : -ENXIO;
}

int layout_plan(struct layout *layout, const struct kernel_image *image, const struct layout_range *map,
                unsigned map_count, const uint64_t *sizes, unsigned count)
{
    struct plan plan = {.map = map, .map_count = map_count};

    *layout = (struct layout){0};
    if (count > (is_linux(image) ? 1 : CONFIG_MODULES_MAX))
        return -E2BIG;
    /* What a kernel likes best may leave the files no room. */
    for (unsigned packed = 0; packed < 2; packed++) {
        plan.packed = packed;
        if (place_all(&plan, layout, image, sizes, count))
            return 0;
    }
    return find_obstacle(&plan, layout, image, sizes, count);
}
