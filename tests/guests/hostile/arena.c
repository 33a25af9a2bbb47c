// SPDX-License-Identifier: BSD-2-Clause
#include "lib/string.h"
#include "tests/guests/hostile/hostile.h"

/* ---- Chance ------------------------------------------------------------------------------------------- */

/* xorshift64* */
uint64_t random(struct self *self)
{
    self->random ^= self->random >> 12;
    self->random ^= self->random << 25;
    self->random ^= self->random >> 27;
    return self->random * 0x2545f4914f6cdd1dUL >> 8; /* the lowest bits are the poorest */
}

uint64_t below(struct self *self, uint64_t limit)
{
    return random(self) % limit;
}

bool one_in(struct self *self, unsigned n)
{
    return below(self, n) == 0;
}

/* Width of physical addresses. */
static unsigned width;

uint64_t random_hole(struct self *self)
{
    switch (below(self, 4)) {
    case 0:
        return guest_memory_size() + MIB(2) + (below(self, MIB(512)) & FRAME);
    case 1:
        return (GIB(4) + below(self, GIB(60))) & FRAME;
    case 2:
        return (BIT(width) - MIB(4) + below(self, MIB(4))) & FRAME;
    default:
        return (random(self) | BIT(width)) & FRAME;
    }
}

uint64_t random_entry(struct self *self)
{
    uint64_t flags = PAGE_PRESENT | PAGE_WRITE | PAGE_USER;

    if (one_in(self, 24))
        return RUBBLE;
    if (one_in(self, 16))
        flags = (random(self) & 0xf7f & ~PAGE_LARGE) | PAGE_PRESENT;
    if (one_in(self, 32))
        flags |= below(self, 0x1000) << 52;
    if (one_in(self, 8))
        return (one_in(self, 2) ? ARENA : ZONE) | flags | PAGE_LARGE | (one_in(self, 2) ? EPT_WRITE_BACK : 0);
    if (one_in(self, 64))
        return random_hole(self) | flags;
    return (ARENA + below(self, ARENA_PAGES) * PAGE_SIZE) | flags;
}

unsigned random_slot(struct self *self)
{
    return one_in(self, 4) ? 1 + (unsigned)below(self, 511) : 1 + (unsigned)below(self, 7);
}

uint64_t random_address(struct self *self)
{
    const uint64_t offset = random_slot(self) * 8;
    uint64_t address = 0;

    switch (below(self, 8)) {
    case 0:
        return ARENA + below(self, ARENA_PAGES) * PAGE_SIZE + offset;
    case 1:
        return ZONE + (1 + below(self, ZONE_PAGES - 1)) * PAGE_SIZE + offset;
    case 2:
        return below(self, MIB(16)) & ~7UL;
    case 3:
    case 4:
        for (unsigned level = 0; level < 4; level++)
            address = address << 9 | random_slot(self);
        address = address << 12 | offset;
        return (uint64_t)((int64_t)(address << 16) >> 16);
    default:
        return WINDOW + below(self, WINDOW_SIDE * WINDOW_SIDE) * MIB(2) + random_slot(self) * PAGE_SIZE +
               offset;
    }
}

uint64_t random_page(struct self *self, unsigned kind)
{
    switch (below(self, 8)) {
    case 0:
        return ARENA + below(self, ARENA_PAGES) * PAGE_SIZE;
    case 1:
        return random_hole(self);
    case 2:
        return ZONE + (1 + below(self, ZONE_PAGES - 1)) * PAGE_SIZE;
    case 3:
        return one_in(self, 8) ? random(self) | BIT(55) : ZONE + (kind << PAGE_SHIFT) + 8;
    default:
        return ZONE + (kind + below(self, ZONE_OF_A_KIND)) * PAGE_SIZE;
    }
}

/* ---- The memory --------------------------------------------------------------------------------------- */

static void make_maps(void)
{
    const uint64_t table = PAGE_PRESENT | PAGE_WRITE | PAGE_USER | PAGE_ACCESSED;
    const uint64_t leaf = PAGE_PRESENT | PAGE_USER | PAGE_ACCESSED | PAGE_DIRTY | PAGE_LARGE;
    volatile uint64_t *directory = page_at(MAPS, MAPS_DIRECTORY), *third = page_at(MAPS, MAPS_EPT_THIRD);

    memset((void *)MAPS, 0, 6 * PAGE_SIZE);
    page_at(MAPS, MAPS_ROOT)[0] = (MAPS + MAPS_POINTERS * PAGE_SIZE) | table;
    page_at(MAPS, MAPS_POINTERS)[0] = (MAPS + MAPS_DIRECTORY * PAGE_SIZE) | table;
    page_at(MAPS, MAPS_EPT)[0] = (MAPS + MAPS_EPT_SECOND * PAGE_SIZE) | EPT_ALL;
    page_at(MAPS, MAPS_EPT_SECOND)[0] = (MAPS + MAPS_EPT_THIRD * PAGE_SIZE) | EPT_ALL;
    for (uint64_t i = 0; i < 8; i++) {
        directory[i] = i * MIB(2) | leaf;
        third[i] = i * MIB(2) | EPT_READ_FETCH | EPT_WRITE_BACK | PAGE_LARGE;
    }
    for (uint64_t address = ARENA; address <= MAPS; address += MIB(2)) {
        if (address != MAPS)
            directory[address / MIB(2)] = address | leaf | PAGE_WRITE;
        third[address / MIB(2)] = address | EPT_ALL | EPT_WRITE_BACK | PAGE_LARGE;
    }
    for (uint64_t i = 0; i < WINDOW_SIDE * WINDOW_SIDE; i++)
        directory[WINDOW / MIB(2) + i] =
            ((1 + i / WINDOW_SIDE) * GIB(1) + (1 + i % WINDOW_SIDE) * MIB(2)) | leaf | PAGE_WRITE;
}

static void make_arena(void)
{
    struct self first = {.random = 1};

    for (unsigned n = 0; n < MIB(2) / PAGE_SIZE; n++)
        page_at(ARENA, n)[0] = page_at(ZONE, n)[0] = RUBBLE;
    for (unsigned n = 0; n < ARENA_PAGES; n++)
        for (unsigned slot = 1; slot < 512; slot++)
            page_at(ARENA, n)[slot] = random_entry(&first);
    for (unsigned n = 0; n < ROOTS; n++) {
        page_at(ARENA, n)[0] = page_at(MAPS, MAPS_ROOT)[0];
        page_at(ARENA, ROOTS + n)[0] = (ARENA + (2 * ROOTS + n) * PAGE_SIZE) | EPT_ALL;
        page_at(ARENA, 2 * ROOTS + n)[0] = page_at(MAPS, MAPS_EPT_SECOND)[0];
    }
    for (unsigned n = ZONE_BITMAPS; n < ZONE_LISTS + ZONE_OF_A_KIND; n++)
        memset((void *)page_at(ZONE, n), 0, PAGE_SIZE);
}

void make_memory(void)
{
    width = cpuid(0x80000008, 0).eax & 0xff;
    make_maps();
    make_arena();
}
