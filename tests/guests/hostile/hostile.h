// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/* The parts of tests/guests/hostile_nested.c, which says what they are for. */
#include "tests/guests/lib/smp.h"
#include "tests/guests/lib/vmx.h"

/* ---- The memory --------------------------------------------------------------------------------------- */

#define ARENA           GUEST_PLAYGROUND
#define ARENA_PAGES     96
#define ROOTS           4 /* of page tables, the first pages; then as many of EPT, and their second level */
#define ZONE            (ARENA + MIB(2))
#define MAPS            (ARENA + MIB(4))
#define RUBBLE          0xccccccccccccccccUL
#define FRAME           0xffffffffff000UL
#define PLAYERS         4 /* processors at most */

/* Pages of the zone. */
#define ZONE_VMCS       1 /* VMCSS for each processor */
#define VMCSS           4
#define ZONE_VMXON      20 /* one for each */
#define ZONE_BITMAPS    24
#define ZONE_APIC       28
#define ZONE_LISTS      32
#define ZONE_OF_A_KIND  4
#define ZONE_STACKS     40
#define ZONE_PAGES      48

/* Pages of the maps. */
#define MAPS_ROOT       0
#define MAPS_POINTERS   1
#define MAPS_DIRECTORY  2
#define MAPS_EPT        3
#define MAPS_EPT_SECOND 4
#define MAPS_EPT_THIRD  5

/* Lv2's addresses from here on lead to where only EPT tables in the arena may have something. */
#define WINDOW          MIB(32)
#define WINDOW_SIDE     4 /* gigabytes, and places in each */

#define EPT_ALL         7UL
#define EPT_READ_FETCH  5UL
#define EPT_WRITE_BACK  (6UL << 3)

static inline volatile uint64_t *page_at(uint64_t base, uint64_t n)
{
    return (volatile uint64_t *)(base + n * PAGE_SIZE);
}

/* Fills in maps and arena, and empties the zone. First of all. */
void make_memory(void);

/* ---- Chance ------------------------------------------------------------------------------------------- */

#define MUTATIONS 4

/* What each processor has of its own. */
struct self {
    uint64_t resume_rsp;            /* offset 0: code below knows it, */
    struct vmx_registers registers; /* and that this follows */
    uint64_t random;
    volatile uint64_t operations, exits, failures, faults;
    unsigned number;
    bool gentle;
    uint64_t image[512]; /* what a good VMCS looks like in memory when it is clear */
    struct {
        uint32_t field;
        uint64_t value;
    } spoilt[MUTATIONS];
    unsigned spoilt_count;
} __aligned(64);

uint64_t random(struct self *self);
uint64_t below(struct self *self, uint64_t limit);
bool one_in(struct self *self, unsigned n);

/* Where no memory is: behind it, where others and Umbra have theirs; far away; the last addresses that there
 * are; more than there are. */
uint64_t random_hole(struct self *self);
/* For a table of either kind: flags of a page table that are rights in EPT as well. */
uint64_t random_entry(struct self *self);
/* A word of a page, but the first; mostly few of them, so that addresses hit them. */
unsigned random_slot(struct self *self);
/* What Lv2 is to touch: by tables of the arena, by EPT of the arena, the arena itself, the zone, the island.
 */
uint64_t random_address(struct self *self);
/* A page for VMX to use: of some kind (ZONE_…) in the zone, of the arena, none at all, no page. */
uint64_t random_page(struct self *self, unsigned kind);

/* ---- Lv2 ---------------------------------------------------------------------------------------------- */

extern struct gate lv2_idt[256];

/* Once. */
void make_lv2(void);
/* Where it is to begin. */
const char *random_code(struct self *self);
void random_registers(struct self *self);
uint32_t random_msr(struct self *self);
