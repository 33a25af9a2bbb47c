// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A partition's map from guest-physical to host-physical addresses. It is fixed once the partition is built,
 * so all processors read it without a lock. It maps no frame that the partition does not own, but for the
 * shared regions that were added as such.
 */
#include "lib/types.h"
#include "mm/frame.h"
#include "mm/stage.h"

struct p2m_region {
    gpa_t gpa;
    hpa_t hpa;
    uint64_t size;  /* bytes; like both addresses a multiple of PAGE_SIZE */
    uint8_t rights; /* PAGING_READ, and PAGING_WRITE and PAGING_EXECUTE or not */
    uint8_t
        memory_type; /* MEMORY_TYPE_WB for memory: the machine's MTRRs still apply. Or as a device wants it */
};

struct p2m {
    struct stage stage; /* guest-physical to host-physical: the last stage of every chain of this partition */
    struct p2m_region *regions; /* caller's; sorted by guest-physical address, not overlapping */
    size_t count;
    size_t capacity;
    const struct frame_pool *pool;
    uint16_t owner;
};

/*
 * An empty map for the partition that owns frames of `pool` as `owner`. `regions` (room for `capacity`) and
 * `pool` are borrowed for as long as the map is used.
 */
void p2m_init(struct p2m *p2m, struct p2m_region *regions, size_t capacity, const struct frame_pool *pool,
              uint16_t owner);

/*
 * Adds a region; it is merged with neighbours that it continues. While the partition is built only.
 * -EINVAL: empty, not whole pages, beyond 48 (guest) or 52 (host) bits of address, no right to read, or a
 * memory type that EPT has not; -EEXIST: overlaps a region; -EPERM: a frame is not the partition's; -ENOSPC:
 * regions have run out. On errors nothing changed.
 */
int p2m_add(struct p2m *p2m, const struct p2m_region *region) __must_check;

/*
 * Adds a region of the frames that `owner` has, which is a shared region's (FRAME_OWNER_SHARED + number).
 * Errors as above, and -EINVAL for another kind of owner; -EPERM: a frame is not `owner`'s.
 */
int p2m_add_shared(struct p2m *p2m, const struct p2m_region *region, uint16_t owner) __must_check;

/*
 * Whether others see the memory of `region` as well: it is not the partition's to clear or to load into.
 * Where the pool may be read.
 */
bool p2m_region_is_shared(const struct p2m *p2m, const struct p2m_region *region);

/* The region that holds `gpa`, or NULL: no memory there. Any context. */
const struct p2m_region *p2m_find(const struct p2m *p2m, gpa_t gpa);

/*
 * Translates `gpa` whatever the access: the host-physical address, the region's rights (PAGING_USER always
 * among them) and memory type, and the largest page (4K, 2M, 1G) by which the hardware may map it. False: no
 * memory there. Any context.
 */
bool p2m_lookup(const struct p2m *p2m, gpa_t gpa, struct translation *translation);
