// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/vtlb_space.c: a guest's address spaces, kept, shared, looked through and invalidated, on a guest with
 * tables of its own. What no processor may show is tested at random by test_vtlb_model.c; here it is tested
 * that no more is dropped than must be, and the counters that tell. Fails when a switch back refills what the
 * guest left alone, when a changed entry survives what the guest flushes it with, or an unchanged one does
 * not, when a table is not shared or outlives its last reference, or when a count is not exact.
 */
#include "tests/unit/vtlb_guest.h"

/* ---- Kept, shared, looked through ---- */

static void warm_switches(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    touch_pages(guest, USER);
    touch_pages(guest, KERNEL);
    assert_int_equal(guest->s->misses, 2 * PAGES / 8);
    assert_int_equal(guest->s->prefetched, 2 * PAGES * 7 / 8);
    assert_int_equal(guest->s->tables_used, 2 * 7);

    /* B: its own root and user tables; the kernel's are there. */
    load(guest, ROOT_B, 0, 0, true);
    assert_false(look(guest, USER).present);
    touch(guest, KERNEL);
    assert_int_equal(guest->s->misses, 2 * PAGES / 8 + 1);
    touch_pages(guest, KERNEL);
    assert_int_equal(guest->s->misses, 2 * PAGES / 8 + 1);
    touch_pages(guest, USER);
    assert_int_equal(guest->s->tables_used, 2 * 11);
    assert_int_equal(look(guest, USER).hpa, guest->hpa + MIB(4));
    assert_sound(guest->machine);

    /* Back and forth: nothing has to be filled, each is looked through once. */
    const uint64_t misses = guest->s->misses, compared = guest->s->compared;
    for (unsigned i = 0; i < 10; i++) {
        load(guest, ROOT_A, 0, 0, true);
        touch_pages(guest, USER);
        touch_pages(guest, KERNEL);
        assert_int_equal(look(guest, USER + 5).hpa, guest->hpa + MIB(2) + 5);
        load(guest, ROOT_B, 0, 0, true);
        touch_pages(guest, USER);
    }
    assert_int_equal(guest->s->misses, misses);
    assert_int_equal(guest->s->changed, 0);
    assert_int_equal(guest->s->hits, 20);
    assert_int_equal(guest->s->contexts_made, 2);
    assert_int_equal(guest->s->compared - compared, 20 * (2 + 2 + 2 + 2 * PAGES));
    assert_int_equal(guest->s->prefetched, 3 * PAGES * 7 / 8);
    assert_int_equal(guest->s->prefetched_used, guest->s->prefetched);

    /* What the guest changed while it was away: just that. A alone, or D, set by another processor is no
     * change. */
    *entry_at(guest, PT_A, 3) = MIB(7) | USER_RW;
    *entry_at(guest, PT_A, 9) &= ~1ULL;
    *entry_at(guest, PT_A, 20) &= ~0x20ULL; /* A cleared: it must be set again by the next use */
    *entry_at(guest, PT_A, 21) &= ~0x40ULL; /* D too */
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(guest->s->changed, 4);
    assert_false(look(guest, USER + 3 * PAGE_SIZE).present || look(guest, USER + 9 * PAGE_SIZE).present);
    assert_false(look(guest, USER + 20 * PAGE_SIZE).present || look(guest, USER + 21 * PAGE_SIZE).present);
    assert_true(look(guest, USER + 4 * PAGE_SIZE).present && look(guest, USER + 22 * PAGE_SIZE).present);
    touch(guest, USER + 3 * PAGE_SIZE);
    assert_int_equal(look(guest, USER + 3 * PAGE_SIZE).hpa, guest->hpa + MIB(7));

    /* A table that the guest takes away goes whole; one whose root goes lives on where it is shared. */
    *entry_at(guest, 0x11000, 2) = 0;
    *entry_at(guest, ROOT_A, 511) = 0;
    const uint32_t used = guest->s->tables_used;
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(guest->s->tables_used, used - 2 * 3); /* the way down to PT_A is empty */
    assert_false(look(guest, USER).present || look(guest, KERNEL).present);
    load(guest, ROOT_B, 0, 0, true);
    assert_true(look(guest, KERNEL).present);
    free_guest(guest);
}

/* A clean page, read: D that another processor sets is no change, and the entry does not grow by itself. */
static void dirty_elsewhere(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    *entry_at(guest, PT_A, 0) &= ~0x40ULL;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    *entry_at(guest, PT_A, 0) |= 0x40;
    load(guest, ROOT_A, 0, 0, true);
    assert_true(look(guest, USER).present);
    assert_int_equal(look(guest, USER).rights & PAGING_WRITE, 0);
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_WRITE, &result), VTLB_FILLED);
    assert_true((look(guest, USER).rights & PAGING_WRITE) != 0);
    assert_int_equal(guest->s->raised, 1);
    assert_sound(guest->machine);
    free_guest(guest);
}

/*
 * A supervisor's page that becomes a user's is no longer the supervisor's under SMEP and SMAP, and a
 * processor may hold more of a large page than the fault that tells of it makes it forget.
 */
static void becomes_users(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    uint64_t generation;
    (void)state;

    *entry_at(guest, PT_A, 0) &= ~4ULL;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    assert_int_equal(look(guest, USER).rights & PAGING_USER, 0);
    *entry_at(guest, PT_A, 0) |= 4;
    generation = vtlb_generation(guest->vtlb);
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_READ | PAGING_USER, &result), VTLB_FILLED);
    assert_true((look(guest, USER).rights & PAGING_USER) != 0);
    assert_true(vtlb_generation(guest->vtlb) > generation);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* ---- Globals ---- */

static void globals_stay(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    for (unsigned i = 0; i < PAGES; i++)
        *entry_at(guest, PT_K, i) |= PTE_GLOBAL;
    load(guest, ROOT_A, 0, 0, true);
    touch_pages(guest, KERNEL);
    touch_pages(guest, USER);
    assert_true(look(guest, KERNEL).global && !look(guest, USER).global);

    /* A flush that leaves globals does not even look at a table of globals only. */
    const uint64_t compared = guest->s->compared;
    *entry_at(guest, PT_K, 5) = 0;
    *entry_at(guest, PT_A, 5) = 0;
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(guest->s->compared - compared, 2 + 2 + 2 + PAGES);
    assert_true(look(guest, KERNEL + 5 * PAGE_SIZE).present);
    assert_false(look(guest, USER + 5 * PAGE_SIZE).present);
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_NOT_GLOBALS, 0);
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_TAG, 0);
    assert_true(look(guest, KERNEL + 5 * PAGE_SIZE).present);

    /* B links the kernel's table: what is stale there may stay, as its global entries would. */
    load(guest, ROOT_B, 0, 0, true);
    touch(guest, KERNEL);
    assert_true(look(guest, KERNEL + 5 * PAGE_SIZE).present);
    /* INVLPG takes it, and from A too. */
    vtlb_invalidate_address(guest->vtlb, 0, KERNEL + 5 * PAGE_SIZE + 77);
    assert_false(look(guest, KERNEL + 5 * PAGE_SIZE).present);
    assert_true(look(guest, KERNEL + 4 * PAGE_SIZE).present);
    load(guest, ROOT_A, 0, 0, true);
    assert_false(look(guest, KERNEL + 5 * PAGE_SIZE).present);

    *entry_at(guest, PT_K, 6) = 0;
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_ALL, 0);
    assert_false(look(guest, KERNEL + 6 * PAGE_SIZE).present);
    assert_true(look(guest, KERNEL + 7 * PAGE_SIZE).present);
    /* What was invalidated whole counts once: the next flush leaves globals again. */
    *entry_at(guest, PT_K, 7) = 0;
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_TAG, 0);
    assert_true(look(guest, KERNEL + 7 * PAGE_SIZE).present);
    assert_int_equal(guest->s->flushes[VTLB_FLUSH_ALL], 1);
    assert_int_equal(guest->s->flushes[VTLB_FLUSH_TAG], 3);
    assert_int_equal(guest->s->flushes[VTLB_FLUSH_ADDRESS], 1);
    assert_int_equal(guest->s->flushes[VTLB_FLUSH_ROOT], 4);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* ---- Tags and the log ---- */

static void tags(void **state)
{
    struct guest *guest = make_guest(128, VTLB_CACHED);
    (void)state;

    *entry_at(guest, PT_K, 1) |= PTE_GLOBAL;
    load(guest, ROOT_A, 1, 0, true);
    touch_pages(guest, USER);
    touch_pages(guest, KERNEL);
    load(guest, ROOT_B, 2, 0, true);
    touch_pages(guest, USER);
    touch_pages(guest, KERNEL);
    assert_int_equal(guest->s->tables_used, 2 * 14); /* nothing is shared between tags */

    /* Without a flush nothing is even compared. */
    const uint64_t compared = guest->s->compared;
    *entry_at(guest, PT_A, 0) = 0;
    load(guest, ROOT_A, 1, 0, false);
    assert_true(look(guest, USER).present);
    assert_int_equal(guest->s->compared, compared);

    /* What INVPCID says of a tag that is not loaded takes effect when it is. */
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_TAG, 2);
    assert_true(look(guest, USER).present);
    *entry_at(guest, PT_B, 0) = 0;
    load(guest, ROOT_B, 2, 0, false);
    assert_false(look(guest, USER).present);
    assert_true(look(guest, USER + PAGE_SIZE).present);

    /* Addresses: of the tag, and globals in every tag. */
    vtlb_invalidate_address(guest->vtlb, 2, USER + 2 * PAGE_SIZE);
    vtlb_invalidate_address(guest->vtlb, 1, USER + 3 * PAGE_SIZE);
    vtlb_invalidate_address(guest->vtlb, 2, KERNEL + PAGE_SIZE);
    vtlb_invalidate_address(guest->vtlb, 2, KERNEL + 2 * PAGE_SIZE);
    assert_false(look(guest, USER + 2 * PAGE_SIZE).present);
    assert_true(look(guest, USER + 3 * PAGE_SIZE).present);
    assert_false(look(guest, KERNEL + PAGE_SIZE).present || look(guest, KERNEL + 2 * PAGE_SIZE).present);
    load(guest, ROOT_A, 1, 0, false);
    assert_true(look(guest, USER + 2 * PAGE_SIZE).present);
    assert_false(look(guest, USER + 3 * PAGE_SIZE).present);
    assert_false(look(guest, KERNEL + PAGE_SIZE).present);
    assert_true(look(guest, KERNEL + 2 * PAGE_SIZE).present);
    assert_true(look(guest, USER).present); /* stale since long, and never flushed */

    /* More than the log holds: whoever missed some is looked through whole. */
    *entry_at(guest, PT_B, 7) = 0;
    *entry_at(guest, PT_K, 1) = 0;
    for (unsigned i = 0; i < VTLB_LOG; i++)
        vtlb_invalidate_address(guest->vtlb, 1, 0x7000000000);
    load(guest, ROOT_B, 2, 0, false);
    assert_true(look(guest, USER + 7 * PAGE_SIZE).present);
    load(guest, ROOT_A, 1, 0, false);
    for (unsigned i = 0; i < VTLB_LOG + 1; i++)
        vtlb_invalidate_address(guest->vtlb, 1, 0x7000000000);
    assert_true(look(guest, USER).present);
    load(guest, ROOT_B, 2, 0, false);
    assert_false(look(guest, USER + 7 * PAGE_SIZE).present || look(guest, KERNEL + PAGE_SIZE).present);
    free_guest(guest);
}

/* INVLPG and a table that another context holds: it obeys when it is linked. */
static void log_and_sharing(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    for (unsigned i = 0; i < PAGES; i++)
        *entry_at(guest, PT_K, i) |= PTE_GLOBAL;
    load(guest, ROOT_A, 0, 0, true);
    touch_pages(guest, KERNEL);
    load(guest, ROOT_B, 0, 0, true);
    vtlb_invalidate_address(guest->vtlb, 0, KERNEL + 5 * PAGE_SIZE); /* B does not have it */
    *entry_at(guest, PT_K, 5) = 0;
    touch(guest, KERNEL);
    assert_true(look(guest, KERNEL + 4 * PAGE_SIZE).present);
    assert_false(look(guest, KERNEL + 5 * PAGE_SIZE).present);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* What was invalidated before a table was made does not concern it, whoever links it. */
static void made_after(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    for (unsigned i = 0; i < PAGES; i++)
        *entry_at(guest, PT_K, i) |= PTE_GLOBAL;
    load(guest, ROOT_A, 0, 0, true);
    vtlb_invalidate_address(guest->vtlb, 0, KERNEL + 20 * PAGE_SIZE);
    for (unsigned i = 1; i < VTLB_LOG; i++) /* the log is full, and nothing is lost */
        vtlb_invalidate_address(guest->vtlb, 0, USER + i * PAGE_SIZE);
    touch_pages(guest, KERNEL);
    load(guest, ROOT_B, 0, 0, false);
    touch(guest, KERNEL);
    assert_true(look(guest, KERNEL + 20 * PAGE_SIZE).present);
    assert_int_equal(guest->s->compared, 0);
    free_guest(guest);
}

/* A new space links a table that was filled before the flush that its root was loaded with: not as it was. */
static void flushed_by_a_new_space(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    touch_pages(guest, KERNEL);
    *entry_at(guest, PT_K, 20) = MIB(7) | KERNEL_RW;
    load(guest, ROOT_B, 0, 0, true);
    touch(guest, KERNEL);
    assert_true(look(guest, KERNEL + 21 * PAGE_SIZE).present);
    assert_false(look(guest, KERNEL + 20 * PAGE_SIZE).present);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* Each address of a full log is obeyed by who comes back, whatever was flushed in between. */
static void whole_log(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    assert_int_equal(PAGES, VTLB_LOG);
    for (unsigned i = 0; i < PAGES; i++)
        *entry_at(guest, PT_K, i) |= PTE_GLOBAL;
    load(guest, ROOT_A, 1, 0, true);
    touch_pages(guest, KERNEL);
    load(guest, ROOT_B, 2, 0, true);
    for (unsigned i = 0; i < PAGES; i++)
        vtlb_invalidate_address(guest->vtlb, 2, KERNEL + i * PAGE_SIZE);
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_NOT_GLOBALS, 0);
    load(guest, ROOT_A, 1, 0, false);
    for (unsigned i = 0; i < PAGES; i++)
        assert_false(look(guest, KERNEL + i * PAGE_SIZE).present);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* A table that two spaces have is looked at once for both. */
static void looked_at_once(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    touch_pages(guest, KERNEL);
    load(guest, ROOT_B, 0, 0, true);
    touch(guest, KERNEL);
    load(guest, ROOT_A, 0, 0, true);
    const uint64_t compared = guest->s->compared;
    load(guest, ROOT_B, 0, 0, false);
    assert_int_equal(guest->s->compared - compared, 1); /* B's top table has one entry */
    load(guest, ROOT_A, 0, 0, false);
    assert_int_equal(guest->s->compared - compared, 1);
    free_guest(guest);
}

/* What happens in one tag, a flush or a fault, makes nobody look at tables of another. */
static void other_tags(void **state)
{
    struct guest *guest = make_guest(128, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    load(guest, ROOT_A, 2, 0, true);
    load(guest, ROOT_A, 1, 0, true);
    touch(guest, KERNEL);
    const uint64_t compared = guest->s->compared;
    load(guest, ROOT_A, 2, 0, true); /* it is empty */
    *entry_at(guest, PT_A, 0) = 0;
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_READ, &result), VTLB_GUEST_FAULT);
    load(guest, ROOT_B, 1, 0, false);
    touch(guest, KERNEL);
    touch(guest, KERNEL + PAGE_SIZE);
    assert_int_equal(guest->s->compared, compared);
    assert_sound(guest->machine);
    free_guest(guest);
}

/*
 * Pieces of a large page: INVLPG of any address in it takes all of them, but in another tag only if it is
 * global there. Fails when one survives that, or goes by what does not concern it.
 */
static void pieces(void **state)
{
    const uint64_t plain = MIB(6), global = MIB(8);
    struct guest *guest = make_guest(128, VTLB_CACHED);
    (void)state;

    machine_map(guest->machine, MIB(16), guest->hpa + MIB(2) + PAGE_SIZE, MIB(4), RWX, MEMORY_TYPE_WB);
    *entry_at(guest, DIRECTORY_A, 3) = MIB(16) | USER_RW | PTE_LARGE;
    *entry_at(guest, DIRECTORY_A, 4) = MIB(18) | USER_RW | PTE_LARGE | PTE_GLOBAL;
    load(guest, ROOT_A, 1, 0, true);
    for (unsigned i = 0; i < 3; i++) {
        touch(guest, plain + i * PAGE_SIZE);
        touch(guest, global + i * PAGE_SIZE);
    }
    assert_int_equal(look(guest, plain).shift, PAGE_SHIFT);
    load(guest, ROOT_B, 2, 0, true);
    vtlb_invalidate_address(guest->vtlb, 2, plain + MIB(1));
    vtlb_invalidate_address(guest->vtlb, 2, global + MIB(1));
    const uint64_t flushed = guest->s->flushed_entries;
    load(guest, ROOT_A, 1, 0, false);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(look(guest, plain + i * PAGE_SIZE).present);
        assert_false(look(guest, global + i * PAGE_SIZE).present);
    }
    assert_int_equal(guest->s->flushed_entries, flushed + 3);
    vtlb_invalidate_address(guest->vtlb, 1, plain + MIB(1));
    for (unsigned i = 0; i < 3; i++)
        assert_false(look(guest, plain + i * PAGE_SIZE).present);
    assert_int_equal(guest->s->flushed_entries, flushed + 6);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* INVLPG of a large page leaves the one beside it. */
static void large_pages_side_by_side(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    *entry_at(guest, DIRECTORY_A, 4) = MIB(2) | USER_RW | PTE_LARGE;
    *entry_at(guest, DIRECTORY_A, 5) = MIB(4) | USER_RW | PTE_LARGE;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, MIB(8));
    touch(guest, MIB(10));
    assert_int_equal(look(guest, MIB(8)).shift, PAGE_SHIFT_2M);
    vtlb_invalidate_address(guest->vtlb, 0, MIB(9));
    assert_false(look(guest, MIB(8)).present);
    assert_true(look(guest, MIB(10)).present);
    free_guest(guest);
}

/* A top table in read-only memory, whose page stood for another before: what is set there is lost. */
static void root_in_rom(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    machine_map(guest->machine, MIB(16), guest->hpa + 0x50000, PAGE_SIZE, PAGING_READ, MEMORY_TYPE_WB);
    *entry_at(guest, 0x50000, 0) = POINTERS_A | (USER_RW & ~PTE_ACCESSED);
    *entry_at(guest, 0x50000, 1) = POINTERS_B | (USER_RW & ~PTE_ACCESSED);
    *entry_at(guest, ROOT_A, 1) = POINTERS_A | PTE_PRESENT;
    for (unsigned i = 0; i < guest->vtlb->pages; i++)
        guest->vtlb->tables[i].guest_table = ROOT_A;
    load(guest, MIB(16), 0, 0, true);
    touch(guest, USER);
    touch(guest, USER | BIT(39));
    assert_int_equal(look(guest, USER).hpa, guest->hpa + MIB(2));
    assert_int_equal(look(guest, USER | BIT(39)).hpa, guest->hpa + MIB(4));
    assert_int_equal(*entry_at(guest, ROOT_A, 1), POINTERS_A | PTE_PRESENT);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* The partition's memory changes under the current space: a page, and its top table. */
static void dropped(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct p2m_region *page = &guest->machine->regions[1], *root = &guest->machine->regions[2];
    (void)state;

    machine_map(guest->machine, MIB(16), guest->hpa + MIB(2), PAGE_SIZE, RWX, MEMORY_TYPE_WB);
    machine_map(guest->machine, MIB(18), guest->hpa + ROOT_A, PAGE_SIZE, RWX, MEMORY_TYPE_WB);
    assert_int_equal(page->gpa.value, MIB(16));
    assert_int_equal(root->gpa.value, MIB(18));
    *entry_at(guest, PT_A, 0) = MIB(16) | USER_RW;
    *entry_at(guest, PT_B, 0) = MIB(16) | USER_RW;
    load(guest, MIB(18), 0, 0, true);
    touch(guest, USER);
    assert_int_equal(look(guest, USER).hpa, guest->hpa + MIB(2));

    page->hpa = HPA(guest->hpa + MIB(6));
    vtlb_drop(guest->vtlb, VTLB_FLUSH_P2M);
    assert_false(look(guest, USER).present);
    touch(guest, USER);
    assert_int_equal(look(guest, USER).hpa, guest->hpa + MIB(6));
    root->hpa = HPA(guest->hpa + ROOT_B);
    vtlb_drop(guest->vtlb, VTLB_FLUSH_P2M);
    touch(guest, USER + PAGE_SIZE);
    assert_int_equal(look(guest, USER + PAGE_SIZE).hpa, guest->hpa + MIB(4) + PAGE_SIZE);

    /* What counts from now on is the new table. */
    *entry_at(guest, ROOT_A, 0) = 0;
    load(guest, MIB(18), 0, 0, true);
    assert_true(look(guest, USER + PAGE_SIZE).present);
    *entry_at(guest, ROOT_B, 0) = 0;
    load(guest, MIB(18), 0, 0, true);
    assert_false(look(guest, USER + PAGE_SIZE).present);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* The same for the page that was asked for last: what was found then is not used again. */
static void dropped_last(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct p2m_region *page = &guest->machine->regions[1];
    (void)state;

    machine_map(guest->machine, MIB(16), guest->hpa + MIB(2), PAGE_SIZE, RWX, MEMORY_TYPE_WB);
    assert_int_equal(page->gpa.value, MIB(16));
    *entry_at(guest, PT_A, PAGES) = MIB(16) | USER_RW; /* there is none beside it */
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER + PAGES * PAGE_SIZE);
    page->hpa = HPA(guest->hpa + MIB(6));
    vtlb_drop(guest->vtlb, VTLB_FLUSH_P2M);
    touch(guest, USER + PAGES * PAGE_SIZE);
    assert_int_equal(look(guest, USER + PAGES * PAGE_SIZE).hpa, guest->hpa + MIB(6));
    free_guest(guest);
}

/* A page fault of the guest's makes the processor forget its address, in the tag: in other contexts too. */
static void faults_forget(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    load(guest, ROOT_A, 0, 1, true);
    touch_pages(guest, USER);
    load(guest, ROOT_A, 0, 0, false);
    touch_pages(guest, USER);
    *entry_at(guest, PT_A, 5) &= ~PTE_WRITE;
    *entry_at(guest, PT_A, 6) &= ~PTE_WRITE;
    assert_int_equal(vtlb_miss(guest->context, USER + 5 * PAGE_SIZE, PAGING_WRITE | PAGING_USER, &result),
                     VTLB_GUEST_FAULT);
    assert_int_equal(result.fault.error_code, PAGE_FAULT_PRESENT | PAGE_FAULT_WRITE | PAGE_FAULT_USER);
    assert_false(look(guest, USER + 5 * PAGE_SIZE).present);
    assert_true(look(guest, USER + 6 * PAGE_SIZE).present); /* stale, and no fault yet */
    load(guest, ROOT_A, 0, 1, false);
    assert_false(look(guest, USER + 5 * PAGE_SIZE).present);
    assert_true(look(guest, USER + 7 * PAGE_SIZE).present);
    free_guest(guest);
}

/* The tables that a walk has met before it ended in a fault are there for the next: as far as all have A. */
static void faults_leave_tables(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    *entry_at(guest, PT_A, 0) = 0;
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_int_equal(guest->s->tables_used, 2 * 4); /* each with its snapshot */
    assert_sound(guest->machine);
    *entry_at(guest, DIRECTORY_K, 0) &= ~PTE_ACCESSED;
    *entry_at(guest, PT_K, 0) = 0;
    assert_int_equal(vtlb_miss(guest->context, KERNEL, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_int_equal(guest->s->tables_used, 2 * 6);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* The memory of a guest that has a hypervisor of its own: addresses of pages, 0 for none. */
struct hypervisor {
    struct stage stage;
    uint64_t protected;       /* must not be written */
    uint64_t executable;      /* nor read */
    uint64_t missing;         /* is not there */
    uint64_t moved, moved_to; /* lies elsewhere */
};

static enum stage_outcome hypervise(const struct stage *stage, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_fault *fault)
{
    const struct hypervisor *hypervisor = container_of(stage, struct hypervisor, stage);
    const uint64_t page = align_down(address, PAGE_SIZE);
    const bool protected = page == hypervisor->protected;

    if (page == hypervisor->missing || (protected && (access & PAGING_WRITE) != 0)) {
        *fault = (struct stage_fault){.stage = stage, .address = address};
        return STAGE_FAULT;
    }
    *translation = (struct translation){
        .address = page == hypervisor->moved ? hypervisor->moved_to | (address - page) : address,
        .rights = page == hypervisor->executable ? PAGING_EXECUTE
                  : protected                    ? PAGING_RIGHTS & ~PAGING_WRITE
                                                 : PAGING_RIGHTS,
        .memory_type = MEMORY_TYPE_WB,
        .page_shift = PAGE_SHIFT,
    };
    return STAGE_DONE;
}

static void load_behind(struct guest *guest, const struct hypervisor *hypervisor)
{
    const struct vtlb_space space = {
        .chain = &guest->chain,
        .source = &paging_x86_4level,
        .target = &paging_x86_4level,
        .root = ROOT_A,
        .behind = 1,
    };

    guest->tables =
        (struct stage_chain){.stages = {&hypervisor->stage, &guest->machine->p2m.stage}, .count = 2};
    guest->chain = (struct stage_chain){
        .stages = {&guest->walk.stage, &hypervisor->stage, &guest->machine->p2m.stage},
        .count = 3,
    };
    guest->registers.cr3 = ROOT_A;
    walk_x86_set(&guest->walk, &guest->registers);
    guest->context = vtlb_switch(guest->vtlb, &space, VTLB_SCOPE_TAG);
}

/*
 * A must be set in a table that the context knows, and that must not be written: fails when that hypervisor
 * is not told which entry it was.
 */
static void protected_table(void **state)
{
    const struct hypervisor hypervisor = {.stage.walk = hypervise, .protected = PT_A};
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    *entry_at(guest, PT_A, 1) &= ~PTE_ACCESSED;
    load_behind(guest, &hypervisor);
    touch(guest, USER);
    touch(guest, KERNEL);
    assert_int_equal(vtlb_miss(guest->context, USER + PAGE_SIZE, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_ptr_equal(result.fault.stage, &hypervisor.stage);
    assert_int_equal(result.fault.address, PT_A + 8);
    assert_true(result.fault.in_tables);
    free_guest(guest);
}

/* Rights that tables of this form cannot express: nothing is filled, and nothing asked for twice. */
static void executable_page(void **state)
{
    const struct hypervisor hypervisor = {.stage.walk = hypervise, .executable = MIB(2)};
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    load_behind(guest, &hypervisor);
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_EXECUTE, &result), VTLB_FILLED);
    assert_false(look(guest, USER).present);
    assert_int_equal(guest->s->evictions, 0);
    free_guest(guest);
}

/*
 * The hypervisor has moved the top table, which shows after a fault of its own: all that the old one said
 * goes, once.
 */
static void moved_top_table(void **state)
{
    struct hypervisor hypervisor = {.stage.walk = hypervise, .missing = MIB(7)};
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    *entry_at(guest, PT_A, PAGES) = MIB(7) | USER_RW;
    load_behind(guest, &hypervisor);
    touch(guest, USER);
    touch(guest, KERNEL);
    hypervisor.moved = ROOT_A;
    hypervisor.moved_to = ROOT_B;
    assert_int_equal(vtlb_miss(guest->context, USER + PAGES * PAGE_SIZE, PAGING_READ, &result),
                     VTLB_GUEST_FAULT);
    assert_ptr_equal(result.fault.stage, &hypervisor.stage);
    assert_true(look(guest, KERNEL).present);
    touch(guest, USER + 8 * PAGE_SIZE);
    assert_int_equal(look(guest, USER + 8 * PAGE_SIZE).hpa, guest->hpa + MIB(4) + 8 * PAGE_SIZE);
    assert_false(look(guest, KERNEL).present);
    touch(guest, USER + 16 * PAGE_SIZE);
    assert_int_equal(look(guest, USER + 16 * PAGE_SIZE).hpa, guest->hpa + MIB(4) + 16 * PAGE_SIZE);
    assert_true(look(guest, USER + 8 * PAGE_SIZE).present);
    free_guest(guest);
}

/* Where the guest has put a large page in the place of a table, INVLPG of any address in it takes all of the
 * old. */
static void table_to_large_page(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    touch_pages(guest, USER);
    *entry_at(guest, 0x11000, 2) = MIB(4) | USER_RW | PTE_LARGE;
    assert_true(look(guest, USER).present);
    vtlb_invalidate_address(guest->vtlb, 0, USER + 5 * PAGE_SIZE);
    assert_false(look(guest, USER).present || look(guest, USER + 9 * PAGE_SIZE).present);
    struct vtlb_result result;
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(look(guest, USER).shift, PAGE_SHIFT_2M);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* ---- Roles, roots, other formats ---- */

static void roles(void **state)
{
    struct guest *guest = make_guest(128, VTLB_CACHED);
    (void)state;

    load(guest, ROOT_A, 0, 1, true);
    touch_pages(guest, USER);
    const uint64_t misses = guest->s->misses;
    load(guest, ROOT_A, 0, 0, false);
    assert_false(look(guest, USER).present);
    touch_pages(guest, USER);
    assert_int_equal(guest->s->misses, 2 * misses);
    load(guest, ROOT_A, 0, 1, false);
    touch_pages(guest, USER);
    load(guest, ROOT_A, 0, 0, false);
    touch_pages(guest, USER);
    assert_int_equal(guest->s->misses, 2 * misses);
    assert_int_equal(guest->s->compared, 0);
    free_guest(guest);
}

/* More roots than contexts: the least recently used goes. */
static void many_roots(void **state)
{
    struct guest *guest = make_guest(512, VTLB_CACHED);
    (void)state;

    for (unsigned i = 0; i <= VTLB_CONTEXTS; i++) {
        const uint64_t root = 0x40000 + i * PAGE_SIZE;
        *entry_at(guest, root, 0) = 0x10000 | USER_RW;
        load(guest, root, 0, 0, true);
        touch(guest, USER);
        if (i == VTLB_CONTEXTS - 1) {
            assert_int_equal(guest->s->contexts_evicted, 0);
            load(guest, 0x40000, 0, 0, true);
        }
    }
    /* The tables below are the same for all. */
    assert_int_equal(guest->s->tables_used, 2 * (VTLB_CONTEXTS + 3));
    assert_int_equal(guest->s->contexts_evicted, 1);
    const uint64_t made = guest->s->contexts_made;
    load(guest, 0x40000, 0, 0, true);
    assert_int_equal(guest->s->contexts_made, made);
    assert_true(look(guest, USER).present);
    load(guest, 0x41000, 0, 0, true);
    assert_int_equal(guest->s->contexts_made, made + 1);

    vtlb_drop(guest->vtlb, VTLB_FLUSH_P2M);
    assert_int_equal(guest->s->tables_used, 2);
    assert_sound(guest->machine);
    assert_false(look(guest, USER).present);
    touch(guest, USER);
    assert_sound(guest->machine);
    free_guest(guest);
}

static void quota(void **state)
{
    struct guest *guest = make_guest(VTLB_PAGES_MIN + 6, VTLB_CACHED);
    (void)state;

    for (unsigned n = 0; n < 200; n++) {
        load(guest, n % 3 == 0 ? ROOT_A : ROOT_B, 0, n % 5 == 0, n % 2 == 0);
        touch_pages(guest, n % 7 == 0 ? KERNEL : USER);
        touch(guest, n % 7 == 0 ? USER : KERNEL);
        assert_int_equal(look(guest, USER).hpa, guest->hpa + (n % 3 == 0 ? MIB(2) : MIB(4)));
        assert_sound(guest->machine);
        assert_true(guest->s->tables_used <= VTLB_PAGES_MIN + 6);
        if (n % 11 == 0)
            vtlb_clean(guest->vtlb, 2);
    }
    assert_true(guest->s->evictions > 10);
    assert_int_equal(guest->s->tables_peak, VTLB_PAGES_MIN + 6);
    free_guest(guest);
}

/* Where one path is all that fits, a miss that runs out of pages is filled all the same. */
static void least_quota(void **state)
{
    struct guest *guest = make_guest(VTLB_PAGES_MIN, VTLB_CACHED);
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    touch(guest, KERNEL);
    assert_int_equal(look(guest, KERNEL).hpa, guest->hpa + MIB(6));
    assert_false(look(guest, USER).present);
    assert_int_equal(guest->s->evictions, 1);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* A 32-bit guest with PSE: its tables are wider than the target's, its large pages two of the target's. */
static void plain_32_bit(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    uint32_t *directory = (uint32_t *)(void *)(guest->memory + ROOT_A);
    uint32_t *table = (uint32_t *)(void *)(guest->memory + PT_A);
    struct vtlb_result result;
    struct vtlb_space space = {
        .chain = &guest->chain, .source = &paging_x86_32bit, .target = &paging_x86_pae, .root = ROOT_A};
    (void)state;

    memset(guest->memory, 0, MIB(1));
    for (unsigned i = 0; i < 1024; i++)
        table[i] = (uint32_t)(MIB(2) + i % 512 * PAGE_SIZE) | USER_RW;
    directory[0x300] = PT_A | USER_RW;
    directory[0x301] = (uint32_t)MIB(4) | USER_RW | 0x80;
    guest->registers = (struct walk_x86_registers){.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP,
                                                   .cr3 = ROOT_A,
                                                   .cr4 = X86_CR4_PSE,
                                                   .pat = 0x0007040600070406,
                                                   .physical_bits = 36};
    walk_x86_set(&guest->walk, &guest->registers);
    guest->context = vtlb_switch(guest->vtlb, &space, true);
    assert_true(vtlb_root(guest->context).value < GIB(4));

    const hpa_t root = vtlb_root(guest->context);
    const uint64_t small = 0xc0000000, large = 0xc0400000;
    for (unsigned i = 0; i < 1024; i += 8)
        assert_int_equal(vtlb_miss(guest->context, small + i * PAGE_SIZE, PAGING_WRITE, &result),
                         VTLB_FILLED);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(walk_pages(root, true, small + i * PAGE_SIZE).hpa,
                         guest->hpa + MIB(2) + i % 512 * PAGE_SIZE);
    assert_int_equal(vtlb_miss(guest->context, large, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(guest->context, large + MIB(2), PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, true, large + MIB(3)).hpa, guest->hpa + MIB(7));
    assert_int_equal(walk_pages(root, true, large).shift, PAGE_SHIFT_2M);
    assert_int_equal(guest->s->tables_used, 1 + 2 + 2 + 2);
    assert_sound(guest->machine);

    /* Warm, but for one page in each half. */
    table[3] = 0;
    table[600] = 0;
    guest->context = vtlb_switch(guest->vtlb, &space, true);
    assert_int_equal(guest->s->changed, 2);
    assert_int_equal(guest->s->compared, 1024 + 4); /* one directory of four is there, with four entries */
    assert_false(walk_pages(root, true, small + 3 * PAGE_SIZE).present);
    assert_false(walk_pages(root, true, small + 600 * PAGE_SIZE).present);

    /* INVLPG anywhere in a large page takes all of it; one beside it does not. */
    vtlb_invalidate_address(guest->vtlb, 0, small);
    assert_true(walk_pages(root, true, large).present && walk_pages(root, true, small + PAGE_SIZE).present);
    const uint64_t flushed = guest->s->flushed_entries;
    vtlb_invalidate_address(guest->vtlb, 0, large + MIB(3));
    assert_int_equal(guest->s->flushed_entries, flushed + 2);
    assert_false(walk_pages(root, true, large).present || walk_pages(root, true, large + MIB(2)).present);
    directory[0x301] = 0;
    directory[0x300] = 0;
    guest->context = vtlb_switch(guest->vtlb, &space, true);
    assert_false(walk_pages(root, true, small + PAGE_SIZE).present);
    assert_int_equal(guest->s->tables_used, 1);
    assert_sound(guest->machine);
    free_guest(guest);
}

/*
 * Entries of four bytes are not what eight bytes of the snapshot say, even where they look it. Fails when a
 * page that the guest took away stays.
 */
static void narrow_entries(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    uint32_t *directory = (uint32_t *)(void *)(guest->memory + ROOT_A);
    uint32_t *table = (uint32_t *)(void *)(guest->memory + PT_A);
    struct vtlb_result result;
    struct vtlb_space space = {
        .chain = &guest->chain, .source = &paging_x86_32bit, .target = &paging_x86_pae, .root = ROOT_A};
    (void)state;

    memset(guest->memory, 0, MIB(1));
    directory[0] = PT_A | USER_RW;
    for (unsigned i = 0; i < 8; i++)
        table[i] = (uint32_t)(MIB(2) + i * PAGE_SIZE) | USER_RW;
    guest->registers.cr3 = ROOT_A;
    guest->registers.cr4 = 0;
    guest->registers.efer = 0;
    walk_x86_set(&guest->walk, &guest->registers);
    guest->context = vtlb_switch(guest->vtlb, &space, VTLB_SCOPE_TAG);
    assert_int_equal(vtlb_miss(guest->context, 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(guest->s->prefetched, 7);

    for (unsigned i = 8; i-- > 0;) {
        table[2 * i + 1] = 0;
        table[2 * i] = (uint32_t)(MIB(2) + i * PAGE_SIZE) | USER_RW;
    }
    guest->context = vtlb_switch(guest->vtlb, &space, VTLB_SCOPE_TAG);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(walk_pages(vtlb_root(guest->context), true, i * PAGE_SIZE).present, i == 0);
    free_guest(guest);
}

/* The guest's last page of memory as a page table: fails when more than its entries are read. */
static void last_table(void **state)
{
    const uint64_t last = (GUEST_FRAMES - 1) * PAGE_SIZE;
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    *entry_at(guest, DIRECTORY_A, 2) = last | USER_RW;
    for (unsigned i = 0; i < 8; i++)
        *entry_at(guest, last, 504 + i) = (MIB(2) + i * PAGE_SIZE) | USER_RW;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER + MIB(2) - PAGE_SIZE);
    assert_int_equal(guest->s->prefetched, 7);
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(look(guest, USER + MIB(2) - PAGE_SIZE).hpa, guest->hpa + MIB(2) + 7 * PAGE_SIZE);
    free_guest(guest);
}

/* A fault where a table has taken the place of a large page: no half of that one can be left. */
static void twin_of_a_fault(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    uint32_t *directory = (uint32_t *)(void *)(guest->memory + ROOT_A);
    uint32_t *table = (uint32_t *)(void *)(guest->memory + PT_A);
    struct vtlb_result result;
    struct vtlb_space space = {
        .chain = &guest->chain, .source = &paging_x86_32bit, .target = &paging_x86_pae, .root = ROOT_A};
    (void)state;

    memset(guest->memory, 0, MIB(1));
    directory[0] = (uint32_t)MIB(4) | USER_RW | PTE_LARGE;
    guest->registers.cr3 = ROOT_A;
    guest->registers.cr4 = X86_CR4_PSE;
    guest->registers.efer = 0;
    walk_x86_set(&guest->walk, &guest->registers);
    guest->context = vtlb_switch(guest->vtlb, &space, VTLB_SCOPE_TAG);
    assert_int_equal(vtlb_miss(guest->context, 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(guest->context, MIB(2), PAGING_READ, &result), VTLB_FILLED);

    table[0] = (uint32_t)MIB(2) | USER_RW;
    directory[0] = PT_A | USER_RW;
    assert_int_equal(vtlb_miss(guest->context, 0, PAGING_READ, &result), VTLB_FILLED);
    assert_true(walk_pages(vtlb_root(guest->context), true, MIB(2)).present); /* the guest flushed nothing */
    assert_int_equal(vtlb_miss(guest->context, PAGE_SIZE, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_false(walk_pages(vtlb_root(guest->context), true, MIB(2)).present);
    assert_true(walk_pages(vtlb_root(guest->context), true, 0).present);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* PAE: the registers count, not the memory that they came from. */
static void registers_of_pae(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    uint64_t registers[4] = {0x11001, 0, 0, 0x31001};
    struct vtlb_result result;
    struct vtlb_space space = {.chain = &guest->chain,
                               .source = &paging_x86_pae,
                               .target = &paging_x86_pae,
                               .root = 0x5020,
                               .registers = registers};
    (void)state;

    guest->registers.efer = X86_EFER_NXE;
    memcpy(guest->registers.pdpte, registers, sizeof(registers));
    walk_x86_set(&guest->walk, &guest->registers);
    guest->context = vtlb_switch(guest->vtlb, &space, true);
    const hpa_t root = vtlb_root(guest->context);
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(guest->context, 0xc0000000, PAGING_READ, &result), VTLB_FILLED);
    guest->context = vtlb_switch(guest->vtlb, &space, true);
    assert_true(walk_pages(root, true, USER).present && walk_pages(root, true, 0xc0000000).present);
    assert_int_equal(walk_pages(root, true, 0xc0000000).hpa, guest->hpa + MIB(6));

    registers[0] = 0x21001;
    guest->registers.pdpte[0] = 0x21001;
    walk_x86_set(&guest->walk, &guest->registers);
    guest->context = vtlb_switch(guest->vtlb, &space, true);
    assert_false(walk_pages(root, true, USER).present);
    assert_true(walk_pages(root, true, 0xc0000000).present);
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, true, USER).hpa, guest->hpa + MIB(4));
    assert_sound(guest->machine);

    vtlb_drop(guest->vtlb, VTLB_FLUSH_P2M);
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_READ, &result), VTLB_FILLED);
    assert_sound(guest->machine);
    guest->context = vtlb_switch(guest->vtlb, &space, true);
    assert_true(walk_pages(root, true, USER).present); /* the registers are those that they were */
    free_guest(guest);
}

/* ---- A page table that two directories share, and one gives up and takes back ---- */

#define ELSEWHERE MIB(7)

static void unlink_from_b(struct guest *guest)
{
    *entry_at(guest, DIRECTORY_B, 2) = 0;
    vtlb_invalidate_address(guest->vtlb, 0, USER);
    assert_false(look(guest, USER).present);
}

static void change_page(struct guest *guest, unsigned page)
{
    *entry_at(guest, PT_A, page) = ELSEWHERE | USER_RW;
    vtlb_invalidate_address(guest->vtlb, 0, USER + page * PAGE_SIZE);
}

/* What was invalidated while the table hung nowhere in the current context is gone when it comes back: by
 * another directory that was looked through longer ago than the table, */
static void relinked(void **state)
{
    struct guest *guest = make_guest(128, VTLB_CACHED);
    (void)state;

    *entry_at(guest, DIRECTORY_B, 2) = PT_A | USER_RW;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    touch(guest, USER + 20 * PAGE_SIZE);
    load(guest, ROOT_B, 0, 0, true);
    touch(guest, USER);
    unlink_from_b(guest);
    change_page(guest, 20);
    *entry_at(guest, POINTERS_B, 0) = DIRECTORY_A | USER_RW;
    vtlb_invalidate_address(guest->vtlb, 0, USER);
    touch(guest, USER);
    touch(guest, USER + 20 * PAGE_SIZE);
    assert_int_equal(look(guest, USER + 20 * PAGE_SIZE).hpa, guest->hpa + ELSEWHERE);
    free_guest(guest);
}

/* in its first context without a flush, */
static void switched_back(void **state)
{
    struct guest *guest = make_guest(128, VTLB_CACHED);
    (void)state;

    *entry_at(guest, DIRECTORY_B, 2) = PT_A | USER_RW;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    load(guest, ROOT_B, 0, 0, true);
    touch(guest, USER);
    unlink_from_b(guest);
    change_page(guest, 0);
    load(guest, ROOT_A, 0, 0, false);
    touch(guest, USER);
    assert_int_equal(look(guest, USER).hpa, guest->hpa + ELSEWHERE);
    free_guest(guest);
}

/* or after everything was invalidated in between. */
static void switched_back_after_all(void **state)
{
    struct guest *guest = make_guest(128, VTLB_CACHED);
    (void)state;

    *entry_at(guest, DIRECTORY_B, 2) = PT_A | USER_RW;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    load(guest, ROOT_B, 0, 0, false);
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_ALL, 0);
    touch(guest, USER);
    unlink_from_b(guest);
    change_page(guest, 0);
    load(guest, ROOT_A, 0, 0, false);
    touch(guest, USER);
    assert_int_equal(look(guest, USER).hpa, guest->hpa + ELSEWHERE);
    free_guest(guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_switches),
        cmocka_unit_test(dirty_elsewhere),
        cmocka_unit_test(becomes_users),
        cmocka_unit_test(globals_stay),
        cmocka_unit_test(tags),
        cmocka_unit_test(log_and_sharing),
        cmocka_unit_test(looked_at_once),
        cmocka_unit_test(other_tags),
        cmocka_unit_test(pieces),
        cmocka_unit_test(whole_log),
        cmocka_unit_test(flushed_by_a_new_space),
        cmocka_unit_test(large_pages_side_by_side),
        cmocka_unit_test(root_in_rom),
        cmocka_unit_test(dropped),
        cmocka_unit_test(made_after),
        cmocka_unit_test(faults_forget),
        cmocka_unit_test(dropped_last),
        cmocka_unit_test(twin_of_a_fault),
        cmocka_unit_test(faults_leave_tables),
        cmocka_unit_test(last_table),
        cmocka_unit_test(narrow_entries),
        cmocka_unit_test(protected_table),
        cmocka_unit_test(executable_page),
        cmocka_unit_test(moved_top_table),
        cmocka_unit_test(least_quota),
        cmocka_unit_test(table_to_large_page),
        cmocka_unit_test(roles),
        cmocka_unit_test(many_roots),
        cmocka_unit_test(quota),
        cmocka_unit_test(plain_32_bit),
        cmocka_unit_test(registers_of_pae),
        cmocka_unit_test(relinked),
        cmocka_unit_test(switched_back),
        cmocka_unit_test(switched_back_after_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
