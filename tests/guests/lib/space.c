// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/lib/space.h"

#include "lib/string.h"

struct space space_one, space_two;
volatile uint64_t *space_globals;

static uint64_t next_table;

volatile uint64_t *space_table(void)
{
    volatile uint64_t *table = (volatile uint64_t *)next_table;

    memset((void *)next_table, 0, PAGE_SIZE);
    next_table += PAGE_SIZE;
    return table;
}

uint64_t space_refer(volatile uint64_t *table)
{
    return (uint64_t)table | SPACE_FULL;
}

volatile uint64_t *space_above(unsigned slot, volatile uint64_t *table)
{
    volatile uint64_t *above = space_table();

    above[slot] = space_refer(table);
    return above;
}

void space_load(const struct space *space)
{
    write_cr3((uint64_t)space->root);
}

static void space_make(struct space *space, uint64_t frames)
{
    space->table = space_table();
    space->table_b = space_table();
    for (unsigned n = 0; n < SPACE_PAGES; n++) {
        space->table[n] = (frames + n * PAGE_SIZE) | SPACE_FULL;
        space->table_b[n] = (SPACE_B + n * PAGE_SIZE) | SPACE_FULL;
    }
    space->directory = space_above(0, space->table);
    space->pointers = space_above(0, space->directory);
    space->root = space_above(2, space->pointers);
    space->root[0] = guest_page_tables[0];
}

void space_leave(void)
{
    write_cr3((uint64_t)guest_page_tables);
    next_table = SPACE_TABLES;
}

void space_reset(void)
{
    space_leave();
    space_make(&space_one, SPACE_A);
    space_make(&space_two, SPACE_C);
    space_globals = space_table();
    for (unsigned n = 0; n < SPACE_PAGES; n++)
        space_globals[n] = (SPACE_A + n * PAGE_SIZE) | SPACE_FULL | PAGE_GLOBAL;
    space_one.root[3] = space_two.root[3] = space_refer(space_above(0, space_above(0, space_globals)));
    /* Either way CR4.PGE changes, nothing is left: globals, and other PCIDs, neither. */
    uint64_t cr4 = read_cr4();
    write_cr4(cr4 ^ CR4_PGE);
    write_cr4(cr4);
    space_load(&space_one);
}

volatile uint64_t *space_entry(const struct space *space, unsigned level)
{
    switch (level) {
    case 4:
        return &space->root[2];
    case 3:
        return &space->pointers[0];
    case 2:
        return &space->directory[0];
    default:
        return &space->table[0];
    }
}

unsigned space_wrong(uint64_t base, uint64_t frames)
{
    unsigned count = 0;

    for (uint64_t offset = 0; offset < SPACE_PAGES * PAGE_SIZE; offset += PAGE_SIZE)
        if (*(volatile uint64_t *)(base + offset) != frames + offset)
            count++;
    return count;
}

void space_frame(const char *name, volatile uint64_t *address, uint64_t frame)
{
    guest_equal(name, *address, frame);
}

/* ---- Accesses ----------------------------------------------------------------------------------------- */

SNIPPET(user_read, 64, "movq (%rsi), %rax");
SNIPPET(user_write, 64, "movq %rdi, 8(%rsi)");
SNIPPET(user_call, 64, "addq $16, %rsi; jmp *%rsi");

/* The first word is read, the second written, and what is executed comes behind them. */
void space_touch(volatile uint64_t *address, enum access access)
{
    uint64_t seen;

    switch (access) {
    case READ:
        TRY("movq (%1), %0", : "=r"(seen) : "r"(address) : "memory");
        break;
    case WRITE:
        TRY("movq %0, 8(%0)", : : "r"(address) : "memory");
        break;
    case FETCH:
        TRY("jmp *%0", : : "r"((uint64_t)address + 16) : "memory");
        break;
    case USER_READ:
        guest_run(SELECTOR_USER_CODE, user_read, 0, (uint64_t)address, 0);
        break;
    case USER_WRITE:
        guest_run(SELECTOR_USER_CODE, user_write, 0, (uint64_t)address, 0);
        break;
    default:
        guest_run(SELECTOR_USER_CODE, user_call, 0, (uint64_t)address, 0);
        break;
    }
}

bool space_refused(void)
{
    return guest_fault.vector != NO_VECTOR && guest_fault.vector != VECTOR_LEAVE;
}

void space_allow(const char *name, volatile uint64_t *address, enum access access)
{
    space_touch(address, access);
    guest_check(!space_refused(), name, "vector %d error %#lx cr2 %#lx", guest_fault.vector,
                guest_fault.error, guest_fault.cr2);
}

void space_refuse(const char *name, volatile uint64_t *address, enum access access, uint64_t error)
{
    space_touch(address, access);
    guest_expect_vector(name, VECTOR_PF, error);
}

void space_init(void)
{
    for (uint64_t frame = SPACE_A; frame < SPACE_TABLES; frame += PAGE_SIZE) {
        *(volatile uint64_t *)frame = frame;
        memcpy((void *)(frame + 16), "\xcd\x40", 2); /* INT VECTOR_LEAVE */
    }
}
