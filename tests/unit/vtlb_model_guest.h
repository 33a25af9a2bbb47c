// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What a guest that does everything at random has in its memory and its tables: good entries most of the
 * time, so that walks get through, and each kind of bad one now and then.
 */
#include "arch/x86/paging_x86.h"
#include "tests/unit/vtlb_model.h"
#include "tests/unit/vtlb_model_hardware.h"

#define GUEST_ROOTS     3 /* frames that serve as top tables */
#define GUEST_ROM       MIB(1)
#define GUEST_ROM_SIZE  KIB(256)
#define GUEST_PROTECTED MIB(16)
#define GUEST_HOST_SIZE GIB(3) /* of what `offset` below counts in; its start is aligned to 1 GiB */

/* Guest-physical memory; what is between is none. Only the tables at 0 are ever written. */
static const struct {
    uint64_t gpa, size, offset;
    uint8_t rights;
} guest_layout[] = {
    {0, MIB(1), 0, PAGING_READ | PAGING_WRITE | PAGING_EXECUTE},
    {GUEST_ROM, GUEST_ROM_SIZE, MIB(1), PAGING_READ | PAGING_EXECUTE}, /* has tables too */
    {MIB(2), MIB(4), MIB(4), PAGING_READ | PAGING_WRITE | PAGING_EXECUTE},
    /* Large pages have to be taken apart. */
    {MIB(8), MIB(4), MIB(9) + PAGE_SIZE, PAGING_READ | PAGING_WRITE | PAGING_EXECUTE},
    /* Its protection changes. */
    {GUEST_PROTECTED, MIB(2), MIB(16), PAGING_READ | PAGING_WRITE | PAGING_EXECUTE},
    {GIB(1), GIB(1), GIB(1), PAGING_READ | PAGING_WRITE | PAGING_EXECUTE},
    {GIB(4), MIB(4), GIB(2), PAGING_READ | PAGING_WRITE},
};

/* Of the same host memory, what may have another type than write-back: parts of pages that are used together.
 */
static const struct {
    uint64_t offset, size;
} guest_typed[HARDWARE_RANGES] = {
    {16 * PAGE_SIZE, 8 * PAGE_SIZE}, /* tables, which are mapped as well */
    {40 * PAGE_SIZE, PAGE_SIZE},     {MIB(5), 3 * PAGE_SIZE},     {MIB(10), MIB(2)},
    {GIB(1) + MIB(4), MIB(2)},       {GIB(2) - MIB(1), KIB(512)},
};

static inline unsigned guest_access(struct random *random)
{
    static const unsigned kinds[] = {PAGING_READ, PAGING_READ, PAGING_WRITE, PAGING_WRITE, PAGING_EXECUTE};
    const unsigned access = kinds[pick(random, ARRAY_SIZE(kinds))];

    switch (pick(random, 8)) {
    case 0:
        return access;
    case 1:
        return access == PAGING_EXECUTE ? access : access | STAGE_ACCESS_IMPLICIT | PAGING_USER;
    case 2:
    case 3:
        return access == PAGING_EXECUTE ? access : access | STAGE_ACCESS_AC;
    default:
        return access | PAGING_USER;
    }
}

/* A linear address among some hundreds of pages, whose tables' entries lie side by side and far apart. */
static inline uint64_t guest_linear(struct random *random, enum model_format format)
{
    static const unsigned narrow_directory[] = {0, 1, 2, 256, 768, 1023};
    static const unsigned wide_directory[] = {0, 1, 2, 511};
    static const unsigned top[] = {0, 1, 511};
    const uint64_t offset = random_next(random) & 0xfff;
    uint64_t linear;
    unsigned slot;

    if (format == MODEL_NONE) {
        const size_t i = pick(random, ARRAY_SIZE(guest_layout) - 1);
        return guest_layout[i].gpa + random_next(random) % (guest_layout[i].size + PAGE_SIZE);
    }
    if (format == MODEL_32BIT) {
        slot = rarely(random, 8) ? 1023 : pick(random, 12) + (rarely(random, 4) ? 508 : 0);
        return (uint64_t)narrow_directory[pick(random, 6)] << 22 | (uint64_t)slot << 12 | offset;
    }
    slot = rarely(random, 8) ? 511 : pick(random, rarely(random, 2) ? 8 : 20);
    linear = (uint64_t)wide_directory[pick(random, 4)] << 21 | (uint64_t)slot << 12 | offset;
    linear |= (uint64_t)(format == MODEL_PAE ? pick(random, 4) : top[pick(random, 3)]) << 30;
    if (format == MODEL_PAE)
        return linear;
    linear |= (uint64_t)top[pick(random, 3)] << 39;
    if (format == MODEL_4LEVEL)
        return (uint64_t)((int64_t)(linear << 16) >> 16); /* canonical */
    linear |= (uint64_t)top[pick(random, 3)] << 48;
    return (uint64_t)((int64_t)(linear << 7) >> 7);
}

static inline uint64_t guest_flags(struct random *random, enum model_format format)
{
    uint64_t flags = random_next(random) & 0xe00;

    flags |= rarely(random, 30) ? 0 : PTE_PRESENT;
    flags |= rarely(random, 16) ? 0 : PTE_WRITE;
    flags |= rarely(random, 20) ? 0 : PTE_USER;
    flags |= rarely(random, 12) ? PTE_PWT : 0;
    flags |= rarely(random, 12) ? PTE_PCD : 0;
    flags |= rarely(random, 2) ? PTE_ACCESSED : 0;
    flags |= rarely(random, 2) ? PTE_DIRTY : 0;
    flags |= rarely(random, 10) ? PTE_LARGE : 0;
    flags |= rarely(random, 3) ? PTE_GLOBAL : 0;
    if (format == MODEL_32BIT)
        return flags;
    flags |= rarely(random, 16) ? PTE_NO_EXECUTE : 0;
    flags |= rarely(random, 150) ? BIT(36 + pick(random, 26)) : 0; /* reserved, mostly */
    if (format >= MODEL_4LEVEL && rarely(random, 2))
        flags |= (uint64_t)pick(random, 16) << PTE_KEY_SHIFT;
    return flags;
}

static inline uint64_t guest_frame(struct random *random, enum model_format format)
{
    const size_t i = pick(random, ARRAY_SIZE(guest_layout));
    const uint64_t gpa = guest_layout[i].gpa + random_next(random) % (guest_layout[i].size + MIB(1));

    if (!rarely(random, 16))
        return pick(random, MODEL_TABLE_FRAMES) * PAGE_SIZE;
    return (format == MODEL_32BIT ? gpa & UINT32_MAX : gpa) & ~0xfffULL;
}

static inline uint64_t guest_entry(struct random *random, enum model_format format)
{
    static const uint64_t large[] = {0, MIB(2), MIB(4), MIB(8), MIB(16), GIB(1), GIB(1) + MIB(4), MIB(12)};
    uint64_t entry = guest_flags(random, format);

    if (rarely(random, 60))
        return rarely(random, 2) ? 0 : random_next(random) << 1;
    if ((entry & PTE_LARGE) == 0 || rarely(random, 6))
        return entry | guest_frame(random, format);
    entry |= large[pick(random, ARRAY_SIZE(large))] | (rarely(random, 8) ? PTE_LARGE_PAT : 0);
    if (format == MODEL_32BIT && !rarely(random, 8))
        entry &= ~BIT(21);                                                       /* reserved */
    return format == MODEL_32BIT && rarely(random, 4) ? entry | BIT(13) : entry; /* PSE-36 */
}

/* One of the four that CR3 refers to with PAE paging. */
static inline uint64_t guest_pdpte(struct random *random)
{
    if (rarely(random, 60))
        return guest_entry(random, MODEL_PAE);
    return pick(random, MODEL_TABLE_FRAMES) * PAGE_SIZE | (rarely(random, 8) ? 0 : PTE_PRESENT) |
           (random_next(random) & 0xe18);
}

/* What a guest may make of an entry: another, one that refers elsewhere, one bit different, or a good one. */
static inline uint64_t guest_mutate(struct random *random, enum model_format format, uint64_t entry)
{
    static const uint8_t bits[] = {0, 0, 1, 1, 2, 2, 3, 4, 5, 5, 5, 6, 6, 6, 7, 8, 8, 63, 63, 59, 60, 36};
    const uint64_t good = PTE_PRESENT | PTE_WRITE | PTE_USER;

    switch (pick(random, 6)) {
    case 0:
        return guest_entry(random, format);
    case 1:
        return (entry & ~0xffffff000ULL) | guest_frame(random, format);
    case 2:
        return (entry & 0xfff & ~PTE_LARGE) | good | guest_frame(random, format);
    case 3:
        return (entry & 0xffffff0ff) | good;
    default:
        return entry ^ BIT(bits[pick(random, ARRAY_SIZE(bits))] & (format == MODEL_32BIT ? 31 : 63));
    }
}
