// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Two address spaces whose every page says which frame it is, and accesses to them: for guests that test what
 * a processor keeps of translations. They use the playground, all of it.
 */
#include "tests/guests/lib/guest.h"

/* Three pieces of 2 MiB. The first word of each page is its address; 16 bytes on is an INT VECTOR_LEAVE. */
#define SPACE_A       (GUEST_PLAYGROUND)
#define SPACE_B       (GUEST_PLAYGROUND + MIB(2))
#define SPACE_C       (GUEST_PLAYGROUND + MIB(4))
#define SPACE_TABLES  (GUEST_PLAYGROUND + MIB(6))

#define SPACE_BASE    0x10000000000UL /* entry 2 of a root: a space's own 512 pages */
#define SPACE_GLOBALS 0x18000000000UL /* entry 3: 512 global pages, in both */
#define SPACE_PAGES   512
#define SPACE_FULL    (PAGE_PRESENT | PAGE_WRITE | PAGE_USER)
#define SPACE_FLAGS   (PAGE_ACCESSED | PAGE_DIRTY)

/* The tables that a space has below entry 2 of its root; table_b, which nothing refers to, has SPACE_B. */
struct space {
    volatile uint64_t *root, *pointers, *directory, *table, *table_b;
};

/* Of SPACE_A, and of SPACE_C. */
extern struct space space_one, space_two;
/* The page table at SPACE_GLOBALS, of SPACE_A. */
extern volatile uint64_t *space_globals;

/* Makes the pages say who they are. First of all, and whenever a test has written to those words. */
void space_init(void);
/* Two new spaces of which nothing is cached; the first one is current. */
void space_reset(void);
/* Without spaces: forgets them, and leaves their tables' room to space_table(). */
void space_leave(void);
/* Makes `space` current, by MOV to CR3. */
void space_load(const struct space *space);

/* A table without entries; one with an entry at `slot` that refers to `table`; such an entry. */
volatile uint64_t *space_table(void);
volatile uint64_t *space_above(unsigned slot, volatile uint64_t *table);
uint64_t space_refer(volatile uint64_t *table);
/* The entry for page 0 of `space` at `level` (4: the root). */
volatile uint64_t *space_entry(const struct space *space, unsigned level);

static inline volatile uint64_t *space_page(unsigned n)
{
    return (volatile uint64_t *)(SPACE_BASE + n * PAGE_SIZE);
}

static inline volatile uint64_t *space_global(unsigned n)
{
    return (volatile uint64_t *)(SPACE_GLOBALS + n * PAGE_SIZE);
}

/* How many of the 512 pages from `base` on are not the frames from `frames` on. */
unsigned space_wrong(uint64_t base, uint64_t frames);
/* PASS if the page at `address` is `frame`. */
void space_frame(const char *name, volatile uint64_t *address, uint64_t frame);

enum access { READ, WRITE, FETCH, USER_READ, USER_WRITE, USER_FETCH };

/* One access to the page at `address`, by TRY or guest_run: guest_fault says what came. */
void space_touch(volatile uint64_t *address, enum access access);
/* Whether it raised something of its own. */
bool space_refused(void);
/* PASS if the access is possible; if it is a page fault with this error code. */
void space_allow(const char *name, volatile uint64_t *address, enum access access);
void space_refuse(const char *name, volatile uint64_t *address, enum access access, uint64_t error);

static inline void set_cr0(uint64_t bits, bool on)
{
    write_cr0(on ? read_cr0() | bits : read_cr0() & ~bits);
}

static inline void set_cr4(uint64_t bits, bool on)
{
    write_cr4(on ? read_cr4() | bits : read_cr4() & ~bits);
}

static inline void set_nxe(bool on)
{
    wrmsr(MSR_EFER, on ? rdmsr(MSR_EFER) | EFER_NXE : rdmsr(MSR_EFER) & ~EFER_NXE);
}
