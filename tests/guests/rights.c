// SPDX-License-Identifier: BSD-2-Clause
/*
 * Whose rights a translation gives, where a processor keeps some of them: rights that are added cost one page
 * fault too many at most, those that are taken are gone, and what two parents, two kinds of access or two
 * settings of CR0.WP, SMEP, SMAP and EFER.NXE say of one page stays apart (SDM vol. 3, "Determination of
 * Access Rights", "Optional Invalidation"). Accessed and dirty flags likewise.
 */
#include "lib/printf.h"
#include "tests/guests/lib/space.h"

/* ---- Rights added: one fault too many at most ("Optional Invalidation") ----------------------------------
 */

static const struct {
    const char *name;
    uint64_t bit;
    enum access access;
} added[] = {
    {"write", PAGE_WRITE, WRITE},   {"user-write", PAGE_WRITE, USER_WRITE},
    {"user", PAGE_USER, USER_READ}, {"user-fetch", PAGE_USER, USER_FETCH},
    {"fetch", PAGE_NX, FETCH},
};

static void added_rows(void)
{
    set_cr0(CR0_WP, true);
    set_nxe(true);
    for (size_t i = 0; i < ARRAY_SIZE(added); i++)
        for (unsigned level = 1; level <= 4; level++) {
            char name[48];
            unsigned faults = 0;
            space_reset();
            *space_entry(&space_one, level) ^= added[i].bit;
            space_load(&space_one);
            (void)*space_page(0);
            space_touch(space_page(0), added[i].access);
            format_text(name, sizeof(name), "without-%s-%u", added[i].name, level);
            guest_check(guest_fault.vector == VECTOR_PF, name, "vector %d", guest_fault.vector);
            *space_entry(&space_one, level) ^= added[i].bit;
            for (space_touch(space_page(0), added[i].access); space_refused() && faults < 2; faults++)
                space_touch(space_page(0), added[i].access);
            format_text(name, sizeof(name), "added-%s-%u", added[i].name, level);
            guest_check(faults <= 1, name, "%u faults", faults);
            *space_entry(&space_one, level) ^= added[i].bit;
            invlpg(space_page(0));
            space_touch(space_page(0), added[i].access);
            format_text(name, sizeof(name), "taken-%s-%u", added[i].name, level);
            guest_check(guest_fault.vector == VECTOR_PF, name, "vector %d", guest_fault.vector);
        }
    set_cr0(CR0_WP, false);
    set_nxe(false);
}

/* ---- Accessed and dirty ------------------------------------------------------------------------------- */

static void flag_row(const char *name, volatile uint64_t *entry, uint64_t flags)
{
    guest_equal(name, *entry & SPACE_FLAGS, flags);
}

static void flag_rows(void)
{
    space_reset();
    *(space_page(0) + 1) = 1;
    flag_row("written", &space_one.table[0], SPACE_FLAGS);
    space_one.table[0] &= ~PAGE_DIRTY;
    invlpg(space_page(0));
    (void)*space_page(0);
    flag_row("cleaned-and-read", &space_one.table[0], PAGE_ACCESSED);
    *(space_page(0) + 1) = 2;
    flag_row("cleaned-and-written", &space_one.table[0], SPACE_FLAGS);
    space_one.table[0] &= ~PAGE_DIRTY;
    space_load(&space_two);
    space_load(&space_one);
    *(space_page(0) + 1) = 3;
    flag_row("cleaned-cr3-and-written", &space_one.table[0], SPACE_FLAGS);
    for (unsigned level = 1; level <= 4; level++)
        *space_entry(&space_one, level) &= ~SPACE_FLAGS;
    space_load(&space_one);
    (void)*space_page(0);
    for (unsigned level = 1; level <= 4; level++)
        flag_row("forgotten-and-read", space_entry(&space_one, level), PAGE_ACCESSED);
    for (unsigned level = 1; level <= 4; level++)
        *space_entry(&space_one, level) &= ~SPACE_FLAGS;
    invlpg(space_page(0));
    *(space_page(0) + 1) = 4;
    for (unsigned level = 1; level <= 4; level++)
        flag_row("forgotten-and-written", space_entry(&space_one, level),
                 level == 1 ? SPACE_FLAGS : PAGE_ACCESSED);

    /* Two entries for one frame. */
    space_one.table[1] = SPACE_A | SPACE_FULL;
    space_one.table[0] = SPACE_A | SPACE_FULL;
    space_load(&space_one);
    *(space_page(1) + 1) = 5;
    flag_row("alias-written", &space_one.table[1], SPACE_FLAGS);
    (void)*space_page(0);
    flag_row("alias-read", &space_one.table[0], PAGE_ACCESSED);
    guest_equal("alias-same", *(space_page(0) + 1), 5);

    space_one.directory[0] = SPACE_A | SPACE_FULL | PAGE_LARGE;
    space_load(&space_one);
    (void)*space_page(4);
    flag_row("2m-read", &space_one.directory[0], PAGE_ACCESSED);
    *(space_page(5) + 1) = 6;
    flag_row("2m-written", &space_one.directory[0], SPACE_FLAGS);
    space_one.directory[0] &= ~SPACE_FLAGS;
    invlpg(space_page(6));
    (void)*space_page(4);
    flag_row("2m-forgotten-and-read", &space_one.directory[0], PAGE_ACCESSED);
    *(space_page(5) + 1) = 7;
    flag_row("2m-forgotten-and-written", &space_one.directory[0], SPACE_FLAGS);

    set_cr4(CR4_PGE, true);
    *(space_global(0) + 1) = 8;
    space_globals[0] &= ~SPACE_FLAGS;
    invlpg(space_global(0));
    (void)*space_global(0);
    flag_row("global-forgotten-and-read", &space_globals[0], PAGE_ACCESSED);
    *(space_global(0) + 1) = 9;
    flag_row("global-forgotten-and-written", &space_globals[0], SPACE_FLAGS);
    set_cr4(CR4_PGE, false);

    /* What fork does to a dirty page. */
    space_reset();
    set_cr0(CR0_WP, true);
    *(space_page(2) + 1) = 1;
    space_one.table[2] &= ~PAGE_WRITE;
    space_load(&space_one);
    space_refuse("protected-write", space_page(2), WRITE, PF_PRESENT | PF_WRITE);
    flag_row("protected-still-dirty", &space_one.table[2], SPACE_FLAGS);
    space_one.table[2] = (SPACE_B | SPACE_FULL) & ~PAGE_WRITE;
    invlpg(space_page(2));
    space_refuse("clean-write", space_page(2), WRITE, PF_PRESENT | PF_WRITE);
    CHECK("clean-not-dirty", (space_one.table[2] & PAGE_DIRTY) == 0);
    set_cr0(CR0_WP, false);
}

/* ---- One table under two parents ------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    uint64_t bit;
    enum access access;
    uint64_t error;
} parents[] = {
    {"write", PAGE_WRITE, WRITE, PF_PRESENT | PF_WRITE},
    {"user-write", PAGE_WRITE, USER_WRITE, PF_PRESENT | PF_WRITE | PF_USER},
    {"user", PAGE_USER, USER_READ, PF_PRESENT | PF_USER},
    {"fetch", PAGE_NX, FETCH, PF_PRESENT | PF_FETCH},
};

static void parent_row(size_t i, unsigned level, bool poor_first)
{
    char name[64];
    volatile uint64_t *rich = space_entry(&space_one, level), *poor = rich + 1;
    volatile uint64_t *there = (volatile uint64_t *)(SPACE_BASE + (1UL << (12 + 9 * (level - 1))));

    space_reset();
    rich = space_entry(&space_one, level);
    /* The root's next entry is that of the global pages. */
    poor = rich + 1;
    *poor = *rich ^ parents[i].bit;
    space_load(&space_one);
    if (poor_first)
        (void)*there;
    format_text(name, sizeof(name), "parents-%s-%u%s", parents[i].name, level,
                poor_first ? "-poor-first" : "");
    for (unsigned turn = 0; turn < 2; turn++) {
        space_allow(name, space_page(0), parents[i].access);
        space_refuse(name, there, parents[i].access, parents[i].error);
        space_frame(name, there, SPACE_A);
    }
    CHECK("parents-accessed", (*rich & *poor & PAGE_ACCESSED) != 0);
    invlpg(there);
    invlpg(space_page(0));
    space_one.table[0] = SPACE_B | SPACE_FULL;
    invlpg(there);
    invlpg(space_page(0));
    space_frame(name, there, SPACE_B);
    space_frame(name, space_page(0), SPACE_B);
}

static void parent_rows(void)
{
    set_cr0(CR0_WP, true);
    set_nxe(true);
    for (size_t i = 0; i < ARRAY_SIZE(parents); i++)
        for (unsigned level = 2; level <= 4; level++) {
            parent_row(i, level, false);
            parent_row(i, level, true);
        }
    set_cr0(CR0_WP, false);
    set_nxe(false);
}

/* ---- CR0.WP, SMEP, SMAP ---------------------------------------------------------------------------------
 */

static void write_with_ac(volatile uint64_t *address)
{
    TRY("stac; movq %0, 8(%0); clac", : : "r"(address) : "memory");
}

static void wp_rows(void)
{
    space_reset();
    space_one.table[0] &= ~PAGE_WRITE;
    space_load(&space_one);
    for (unsigned turn = 0; turn < 3; turn++) {
        set_cr0(CR0_WP, false);
        space_allow("wp-0-write", space_page(0), WRITE);
        space_allow("wp-0-user-read", space_page(0), USER_READ);
        space_refuse("wp-0-user-write", space_page(0), USER_WRITE, PF_PRESENT | PF_WRITE | PF_USER);
        space_allow("wp-0-user-fetch", space_page(0), USER_FETCH);
        space_allow("wp-0-write-again", space_page(0), WRITE);
        set_cr0(CR0_WP, true);
        space_refuse("wp-1-write", space_page(0), WRITE, PF_PRESENT | PF_WRITE);
        space_allow("wp-1-read", space_page(0), READ);
        space_allow("wp-1-user-read", space_page(0), USER_READ);
    }
    set_cr0(CR0_WP, false);

    if ((cpuid(7, 0).ebx & BIT(7)) != 0) {
        space_one.table[1] = SPACE_A | SPACE_FULL;
        space_allow("smep-0-fetch", space_page(1), FETCH);
        space_one.table[9] = SPACE_B | SPACE_FULL;
        space_frame("smep-set-before", space_page(10), SPACE_A + 10 * PAGE_SIZE);
        space_one.table[10] = SPACE_B | SPACE_FULL;
        set_cr4(CR4_SMEP, true);
        space_frame("smep-set-flushes", space_page(10), SPACE_B);
        for (unsigned turn = 0; turn < 2; turn++) {
            space_allow("smep-write", space_page(0), WRITE);
            space_refuse("smep-fetch", space_page(0), FETCH, PF_PRESENT | PF_FETCH);
            space_allow("smep-user-fetch", space_page(0), USER_FETCH);
            space_refuse("smep-fetch-again", space_page(0), FETCH, PF_PRESENT | PF_FETCH);
            space_refuse("smep-fetch-writable", space_page(1), FETCH, PF_PRESENT | PF_FETCH);
        }
        set_cr4(CR4_SMEP, false);
        space_load(&space_one);
        space_allow("smep-cleared", space_page(0), FETCH);
    }

    if ((cpuid(7, 0).ebx & BIT(20)) != 0) {
        set_cr4(CR4_SMAP, true);
        for (unsigned turn = 0; turn < 2; turn++) {
            write_with_ac(space_page(0));
            guest_expect_vector("smap-write-with-ac", NO_VECTOR, 0);
            space_refuse("smap-write", space_page(0), WRITE, PF_PRESENT | PF_WRITE);
            space_refuse("smap-read", space_page(0), READ, PF_PRESENT);
            space_allow("smap-user-read", space_page(0), USER_READ);
            space_refuse("smap-user-write", space_page(0), USER_WRITE, PF_PRESENT | PF_WRITE | PF_USER);
            space_refuse("smap-read-again", space_page(0), READ, PF_PRESENT);
            set_cr0(CR0_WP, true);
            write_with_ac(space_page(0));
            guest_expect_vector("smap-write-with-ac-wp-1", VECTOR_PF, PF_PRESENT | PF_WRITE);
            set_cr0(CR0_WP, false);
        }
        set_cr4(CR4_SMAP, false);
        space_allow("smap-cleared", space_page(0), WRITE);
    }
}

/* ---- NX, and EFER.NXE -----------------------------------------------------------------------------------
 */

static void nx_rows(void)
{
    for (unsigned level = 1; level <= 4; level++) {
        char name[32];
        space_reset();
        set_nxe(true);
        *space_entry(&space_one, level) |= PAGE_NX;
        space_load(&space_one);
        for (unsigned turn = 0; turn < 2; turn++) {
            format_text(name, sizeof(name), "nx-read-%u", level);
            space_allow(name, space_page(0), READ);
            format_text(name, sizeof(name), "nx-fetch-%u", level);
            space_refuse(name, space_page(0), FETCH, PF_PRESENT | PF_FETCH);
            set_nxe(false);
            space_load(&space_one);
            format_text(name, sizeof(name), "nx-reserved-read-%u", level);
            space_refuse(name, space_page(0), READ, PF_PRESENT | PF_RESERVED);
            format_text(name, sizeof(name), "nx-reserved-write-%u", level);
            space_refuse(name, space_page(0), WRITE, PF_PRESENT | PF_RESERVED | PF_WRITE);
            format_text(name, sizeof(name), "nx-reserved-user-fetch-%u", level);
            space_refuse(name, space_page(0), USER_FETCH, PF_PRESENT | PF_RESERVED | PF_USER);
            set_nxe(true);
            space_load(&space_one);
        }
    }
    set_nxe(false);
}

void guest_main(void)
{
    space_init();
    added_rows();
    flag_rows();
    parent_rows();
    wp_rows();
    nx_rows();
}
