// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What the tests of the virtual TLB share: walkers over the tables that it builds, written from the SDM, and
 * a machine with memory, memory types and one partition.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "mm/p2m.h"
#include "mm/vtlb.h"
#include "mm/vtlb_audit.h"

#define OWNER (FRAME_OWNER_PARTITION + 1)
#define RWX   (PAGING_READ | PAGING_WRITE | PAGING_EXECUTE)

/* ---- Independent walkers ---- */

struct seen {
    bool present;
    uint64_t hpa;
    unsigned rights; /* enum paging_right */
    unsigned type;
    unsigned shift;
    bool global;
};

/*
 * SDM vol. 3, "The Extended Page Table Mechanism": what the processor finds; asserts that nothing is
 * misconfigured.
 */
static inline struct seen walk_ept(hpa_t root, uint64_t gpa)
{
    uint64_t table = root.value;
    unsigned rights = 7;

    for (int shift = 39;; shift -= 9) {
        uint64_t entry = ((const uint64_t *)(uintptr_t)table)[gpa >> shift & 511];

        if ((entry & 7) == 0)
            return (struct seen){0};
        assert_int_not_equal(entry & 3, 2); /* write without read */
        rights &= entry & 7;
        if (shift == 12 || (entry & 0x80) != 0) {
            unsigned type = entry >> 3 & 7;
            uint64_t offset = (1ULL << shift) - 1;
            assert_true(shift <= 30);
            assert_true(type == 0 || type == 1 || type == 4 || type == 5 || type == 6);
            assert_int_equal(entry & offset & 0xffffffffff000, 0);
            assert_int_equal(entry & 0x40, 0); /* the guest's PAT counts */
            return (struct seen){
                true, (entry & 0xffffffffff000) + (gpa & offset), rights, type, (unsigned)shift, false};
        }
        assert_int_equal(entry & 0xf8, 0);
        table = entry & 0xffffffffff000;
    }
}

/* SDM vol. 3, "4-Level Paging" and "PAE Paging", EFER.NXE = 1, IA32_PAT as after reset. */
static inline struct seen walk_pages(hpa_t root, bool pae, uint64_t linear)
{
    static const unsigned pat[] = {6, 4, 7, 0};
    uint64_t table = root.value;
    unsigned rights = PAGING_RIGHTS;

    for (int shift = pae ? 30 : 39;; shift -= 9) {
        uint64_t entry =
            ((const uint64_t *)(uintptr_t)table)[linear >> shift & (pae && shift == 30 ? 3 : 511)];

        if ((entry & 1) == 0)
            return (struct seen){0};
        if (pae && shift == 30) {
            assert_int_equal(entry & 0x1e6, 0);
        } else {
            /* A is set, but where a prefetched page waits for its first use (bit 9 says so). */
            assert_true((entry & 0x20) != 0 || (entry & 0x200) != 0);
            if ((entry & 2) == 0)
                rights &= ~PAGING_WRITE;
            if ((entry & 4) == 0)
                rights &= ~PAGING_USER;
            if (entry >> 63)
                rights &= ~PAGING_EXECUTE;
        }
        if (shift == 12 || (entry & 0x80) != 0) {
            uint64_t offset = (1ULL << shift) - 1;
            assert_true(shift <= (pae ? 21 : 30));
            assert_int_equal(entry >> 6 & 1, entry >> 1 & 1); /* D where it may be written, else none */
            assert_int_equal(entry & offset & 0xffffffffff000, 0);
            return (struct seen){true,
                                 (entry & 0xffffffffff000) + (linear & offset),
                                 rights,
                                 pat[entry >> 3 & 3],
                                 (unsigned)shift,
                                 (entry & 0x100) != 0};
        }
        table = entry & 0xffffffffff000;
    }
}

/* ---- The machine ---- */

/* Ranges of another type than write-back, as MTRRs would give them. */
struct type_range {
    uint64_t start, end;
    uint8_t type;
};

struct machine {
    struct frame_extent extents[8];
    struct frame_pool pool;
    struct p2m_region regions[64];
    struct p2m p2m;
    struct stage_chain chain;
    struct type_range ranges[8];
    size_t range_count;
    struct vtlb vtlb;
    struct vtlb_table *tables;
    void *quota;
};

static inline uint8_t type_at(const struct machine *machine, uint64_t address)
{
    for (size_t i = 0; i < machine->range_count; i++)
        if (address >= machine->ranges[i].start && address < machine->ranges[i].end)
            return machine->ranges[i].type;
    return MEMORY_TYPE_WB;
}

/*
 * Whether the 1 << shift bytes around `address` have one type. Slow and plain: looks at both sides of every
 * edge.
 */
static inline bool type_is_uniform(const struct machine *machine, uint64_t address, unsigned shift)
{
    uint64_t start = align_down(address, BIT(shift)), end = start + BIT(shift);

    for (size_t i = 0; i < machine->range_count; i++) {
        uint64_t edges[] = {machine->ranges[i].start, machine->ranges[i].end};
        for (int e = 0; e < 2; e++)
            if (edges[e] > start && edges[e] < end &&
                type_at(machine, edges[e] - 1) != type_at(machine, edges[e]))
                return false;
    }
    return true;
}

static inline uint8_t machine_memory_type(void *data, hpa_t address, uint8_t *page_shift)
{
    const struct machine *machine = data;

    while (*page_shift > PAGE_SHIFT && !type_is_uniform(machine, address.value, *page_shift))
        *page_shift = *page_shift == PAGE_SHIFT_1G ? PAGE_SHIFT_2M : PAGE_SHIFT;
    return type_at(machine, address.value);
}

/* A partition that owns [start, end) of the host, without a p2m yet, and a vTLB of `pages` pages. */
static inline struct machine *machine_make_in_mode(uint64_t start, uint64_t end, uint32_t pages, bool has_2m,
                                                   bool has_1g, enum vtlb_mode mode)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    struct vtlb_hardware hardware = {.pages_2m = has_2m,
                                     .pages_1g = has_1g,
                                     .page_tables_1g = has_1g,
                                     .memory_type = machine_memory_type,
                                     .data = machine};

    assert_non_null(machine);
    frame_pool_init(&machine->pool, machine->extents, ARRAY_SIZE(machine->extents), NULL);
    assert_int_equal(frame_pool_add(&machine->pool, HPA(start), end - start, FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&machine->pool, HPA(start), end - start, OWNER), 0);
    p2m_init(&machine->p2m, machine->regions, ARRAY_SIZE(machine->regions), &machine->pool, OWNER);
    machine->chain = (struct stage_chain){.stages = {&machine->p2m.stage}, .count = 1};
    machine->tables = calloc(pages, sizeof(*machine->tables));
    /* Below 4 GiB, where a root of PAE paging can be, unless the partition's memory pretends to be there. */
    machine->quota = mmap(NULL, pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | (start >= GIB(8) ? MAP_32BIT : 0), -1, 0);
    assert_non_null(machine->tables);
    assert_true(machine->quota != MAP_FAILED);
    memset(machine->quota, 0xa5, pages * PAGE_SIZE); /* whoever reads it uncleared notices */
    assert_int_equal(vtlb_init(&machine->vtlb, HPA((uint64_t)(uintptr_t)machine->quota), pages,
                               machine->tables, &hardware, mode),
                     0);
    return machine;
}

static inline struct machine *machine_make(uint64_t start, uint64_t end, uint32_t pages, bool has_2m,
                                           bool has_1g)
{
    return machine_make_in_mode(start, end, pages, has_2m, has_1g, VTLB_CACHED);
}

static inline void machine_free(struct machine *machine)
{
    munmap(machine->quota, machine->vtlb.pages * PAGE_SIZE);
    free(machine->tables);
    free(machine);
}

static inline void machine_map(struct machine *machine, uint64_t gpa, uint64_t hpa, uint64_t size,
                               uint8_t rights, uint8_t type)
{
    const struct p2m_region region = {GPA(gpa), HPA(hpa), size, rights, type};

    assert_int_equal(p2m_add(&machine->p2m, &region), 0);
}

static inline void assert_sound(const struct machine *machine)
{
    const char *broken = vtlb_audit(&machine->vtlb, &machine->p2m);

    if (broken != NULL)
        fail_msg("invariant: %s", broken);
}

/* What the tables must say for `gpa` after a miss there. */
static inline struct seen expected_at(const struct machine *machine, uint64_t gpa)
{
    const struct p2m_region *region = p2m_find(&machine->p2m, GPA(gpa));
    const struct vtlb_hardware *hardware = &machine->vtlb.hardware;
    unsigned shift = hardware->pages_1g ? PAGE_SHIFT_1G : hardware->pages_2m ? PAGE_SHIFT_2M : PAGE_SHIFT;

    if (region == NULL)
        return (struct seen){0};
    uint64_t hpa = region->hpa.value + gpa - region->gpa.value;
    for (;; shift = shift == PAGE_SHIFT_1G && hardware->pages_2m ? PAGE_SHIFT_2M : PAGE_SHIFT) {
        uint64_t start = align_down(gpa, BIT(shift));
        bool inside = start >= region->gpa.value && start + BIT(shift) <= region->gpa.value + region->size;
        if (shift == PAGE_SHIFT ||
            (inside && (hpa - gpa) % BIT(shift) == 0 && type_is_uniform(machine, hpa, shift)))
            break;
    }
    return (struct seen){true,           hpa,
                         region->rights, memory_type_combine(region->memory_type, type_at(machine, hpa)),
                         shift,          false};
}

static inline void assert_seen(struct seen seen, struct seen expected)
{
    assert_int_equal(seen.present, expected.present);
    assert_int_equal(seen.hpa, expected.hpa);
    assert_int_equal(seen.rights, expected.rights);
    assert_int_equal(seen.type, expected.type);
    assert_int_equal(seen.shift, expected.shift);
    assert_int_equal(seen.global, expected.global);
}
