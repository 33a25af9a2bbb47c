// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/vtlb_fill.c, vtlb_tables.c and vtlb_audit.c, on a guest with tables of its own: which entries are made
 * and how, the pages that they lie in, and what is counted of them. Fails when an entry is prefetched that a
 * processor could not have cached, when what is for one access outlives it, when a page of the quota is
 * cleared that is clean, or one is not that has to be, when a count is not exact, or when the audit misses
 * what it is to find.
 */
#include "tests/unit/vtlb_guest.h"

/* ---- Prefetch ---- */

static void prefetched(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    guest->machine->ranges[guest->machine->range_count++] = (struct type_range){
        guest->hpa + MIB(2) + 15 * PAGE_SIZE, guest->hpa + MIB(2) + 16 * PAGE_SIZE, MEMORY_TYPE_UC};
    *entry_at(guest, PT_A, 9) &= ~1ULL;             /* not present */
    *entry_at(guest, PT_A, 10) &= ~0x20ULL;         /* not accessed */
    *entry_at(guest, PT_A, 11) &= ~0x40ULL;         /* clean */
    *entry_at(guest, PT_A, 12) = MIB(64) | USER_RW; /* no memory */
    *entry_at(guest, PT_A, 14) |= 1ULL << 50;       /* reserved */
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(vtlb_miss(guest->context, USER + 13 * PAGE_SIZE, PAGING_READ, &result), VTLB_FILLED);

    static const bool present[] = {[8] = true, [11] = true, [13] = true, [63] = false};
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(look(guest, USER + i * PAGE_SIZE).present, present[i]);
    assert_int_equal(look(guest, USER + 8 * PAGE_SIZE).rights, PAGING_RIGHTS);
    assert_int_equal(look(guest, USER + 11 * PAGE_SIZE).rights, PAGING_RIGHTS & ~PAGING_WRITE);
    assert_int_equal(*entry_at(guest, PT_A, 10) & 0x20, 0);
    assert_int_equal(guest->s->prefetched, 2);
    assert_int_equal(guest->s->fills[0], 1);

    /* Used or not is known when it goes, or is looked at. */
    touch(guest, USER + 8 * PAGE_SIZE);
    assert_int_equal(guest->s->prefetched_used, 0);
    vtlb_invalidate_address(guest->vtlb, 0, USER + 11 * PAGE_SIZE);
    assert_int_equal(guest->s->prefetched_used, 0);
    vtlb_invalidate_address(guest->vtlb, 0, USER + 8 * PAGE_SIZE);
    assert_int_equal(guest->s->prefetched_used, 1);
    touch(guest, USER + 13 * PAGE_SIZE);
    assert_int_equal(guest->s->prefetched, 2); /* what is there already stays */
    vtlb_invalidate_address(guest->vtlb, 0, USER + 13 * PAGE_SIZE);
    touch(guest, USER + 13 * PAGE_SIZE);
    touch(guest, USER + 11 * PAGE_SIZE);
    assert_int_equal(guest->s->prefetched, 4);
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(guest->s->prefetched_used, 2);
    /* It is looked at once: what is used later counts when it goes. */
    touch(guest, USER + 8 * PAGE_SIZE);
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(guest->s->prefetched_used, 2);
    /* A write to a prefetched clean page. */
    assert_int_equal(vtlb_miss(guest->context, USER + 11 * PAGE_SIZE, PAGING_WRITE, &result), VTLB_FILLED);
    assert_int_equal(guest->s->raised, 1);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* ---- For one access only ---- */

static void transients(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    const unsigned write = PAGING_WRITE | STAGE_ACCESS_AC;
    struct vtlb_result result;
    (void)state;

    guest->registers.cr0 &= ~X86_CR0_WP;
    guest->registers.cr4 |= X86_CR4_SMAP;
    for (unsigned i = 0; i < 8; i++)
        *entry_at(guest, PT_A, i) = (MIB(2) + i * PAGE_SIZE) | 0x25;
    load(guest, ROOT_A, 0, 0, true);
    assert_false(vtlb_has_transient(guest->vtlb));
    vtlb_end_transient(guest->vtlb);
    assert_int_equal(vtlb_miss(guest->context, USER, write, &result), VTLB_FILLED);
    assert_true(result.translation.transient && vtlb_has_transient(guest->vtlb));
    assert_int_equal(look(guest, USER).rights & (PAGING_USER | PAGING_WRITE), PAGING_WRITE);
    assert_int_equal(guest->s->prefetched, 0);
    assert_sound(guest->machine);
    /* An access may be to two pages. */
    assert_int_equal(vtlb_miss(guest->context, USER + PAGE_SIZE, write, &result), VTLB_FILLED);
    assert_true(look(guest, USER).present && look(guest, USER + PAGE_SIZE).present);
    vtlb_end_transient(guest->vtlb);
    assert_false(vtlb_has_transient(guest->vtlb));
    assert_false(look(guest, USER).present || look(guest, USER + PAGE_SIZE).present);

    /* One that takes more cannot keep all. */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vtlb_miss(guest->context, USER + i * PAGE_SIZE, write, &result), VTLB_FILLED);
    assert_false(look(guest, USER).present);
    assert_true(look(guest, USER + 2 * PAGE_SIZE).present);
    load(guest, ROOT_A, 0, 0, false);
    assert_false(look(guest, USER + 2 * PAGE_SIZE).present);
    assert_int_equal(guest->s->transient, 5);
    /* With all entries those for one access go. */
    assert_int_equal(vtlb_miss(guest->context, USER, write, &result), VTLB_FILLED);
    vtlb_drop(guest->vtlb, VTLB_FLUSH_P2M);
    assert_false(vtlb_has_transient(guest->vtlb));
    free_guest(guest);
}

/*
 * It ends as well where the guest has taken the table out of the way meanwhile, and another space has it;
 * with INVLPG of another of its pages the way there is gone.
 */
static void transient_in_a_shared_table(void **state)
{
    (void)state;

    for (unsigned cut = 0; cut < 2; cut++) {
        struct guest *guest = make_guest(64, VTLB_CACHED);
        struct vtlb_result result;

        guest->registers.cr0 &= ~X86_CR0_WP;
        guest->registers.cr4 |= X86_CR4_SMAP;
        *entry_at(guest, PT_A, 0) = MIB(2) | 0x25;
        *entry_at(guest, DIRECTORY_B, 2) = PT_A | USER_RW;
        load(guest, ROOT_A, 1, 0, true);
        assert_int_equal(vtlb_miss(guest->context, USER, PAGING_READ | PAGING_USER, &result), VTLB_FILLED);
        load(guest, ROOT_B, 1, 0, false);
        assert_int_equal(vtlb_miss(guest->context, USER, PAGING_WRITE | STAGE_ACCESS_AC, &result),
                         VTLB_FILLED);
        assert_true(result.translation.transient);
        *entry_at(guest, DIRECTORY_B, 2) = 0;
        if (cut) {
            vtlb_invalidate_address(guest->vtlb, 1, USER + 40 * PAGE_SIZE);
            assert_false(look(guest, USER).present);
        }
        vtlb_end_transient(guest->vtlb);
        load(guest, ROOT_A, 1, 0, false);
        assert_int_equal(look(guest, USER).rights & PAGING_WRITE, 0);
        assert_sound(guest->machine);
        free_guest(guest);
    }
}

/* One instruction's two pages may have the same place in their tables. */
static void transients_of_two_tables(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    guest->registers.cr0 &= ~X86_CR0_WP;
    guest->registers.cr4 |= X86_CR4_SMAP;
    *entry_at(guest, PT_A, 0) = MIB(2) | 0x25;
    *entry_at(guest, PT_K, 0) = MIB(6) | 0x25;
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_WRITE | STAGE_ACCESS_AC, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(guest->context, KERNEL, PAGING_WRITE | STAGE_ACCESS_AC, &result), VTLB_FILLED);
    assert_true(look(guest, USER).present && look(guest, KERNEL).present);
    vtlb_end_transient(guest->vtlb);
    assert_false(look(guest, USER).present || look(guest, KERNEL).present);
    free_guest(guest);
}

/* A table that was given back with a grant in it is nobody's any more. */
static void transient_in_a_lost_table(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    uint64_t generation;
    (void)state;

    guest->registers.cr0 &= ~X86_CR0_WP;
    guest->registers.cr4 |= X86_CR4_SMAP;
    *entry_at(guest, PT_A, 0) = MIB(2) | 0x25;
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(vtlb_miss(guest->context, USER, PAGING_WRITE | STAGE_ACCESS_AC, &result), VTLB_FILLED);
    *entry_at(guest, DIRECTORY_A, 2) = 0;
    vtlb_invalidate_address(guest->vtlb, 0, USER + 40 * PAGE_SIZE);
    generation = vtlb_generation(guest->vtlb);
    vtlb_end_transient(guest->vtlb);
    assert_int_equal(vtlb_generation(guest->vtlb), generation);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* ---- The reference ---- */

static void base_mode(void **state)
{
    struct guest *guest = make_guest(64, VTLB_BASE);
    (void)state;

    for (unsigned i = 0; i < PAGES; i += 2)
        *entry_at(guest, PT_K, i) |= PTE_GLOBAL;
    load(guest, ROOT_A, 0, 0, true);
    touch_pages(guest, USER);
    touch_pages(guest, KERNEL);
    load(guest, ROOT_A, 0, 0, true);
    assert_false(look(guest, USER).present);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(look(guest, KERNEL + i * PAGE_SIZE).present, i % 2 == 0);
    assert_int_equal(guest->s->flushed_entries, PAGES + PAGES / 2);
    touch_pages(guest, USER);
    vtlb_invalidate_address(guest->vtlb, 0, USER + PAGE_SIZE);
    assert_false(look(guest, USER + PAGE_SIZE).present);
    assert_true(look(guest, USER).present);
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_NOT_GLOBALS, 0);
    assert_false(look(guest, USER).present);
    assert_true(look(guest, KERNEL).present);
    vtlb_invalidate(guest->vtlb, VTLB_SCOPE_ALL, 0);
    assert_false(look(guest, KERNEL).present);
    assert_int_equal(guest->s->tables_used, 2);

    /* Another root is a new context, and so is the first one then. */
    touch_pages(guest, USER);
    load(guest, ROOT_B, 0, 0, false);
    assert_false(look(guest, USER).present);
    load(guest, ROOT_A, 0, 0, false);
    assert_false(look(guest, USER).present);
    assert_int_equal(guest->s->contexts_made, 3);
    assert_int_equal(guest->s->compared, 0);
    free_guest(guest);
}

/* ---- The audit ---- */

/* Each thing that it is to find in a guest's tables, put there, found by name, and taken away again. */
static void audit_finds(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    *entry_at(guest, PT_A, 1) &= ~0x40ULL;
    *entry_at(guest, PT_A, 2) &= ~0x2ULL;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    touch(guest, KERNEL);
    load(guest, ROOT_B, 0, 0, true);
    touch(guest, KERNEL);

    load(guest, ROOT_A, 0, 0, true);
    struct vtlb *vtlb = guest->vtlb;
    uint64_t *entry = (uint64_t *)(uintptr_t)vtlb_root(guest->context).value;
    for (int level = 4; level > 1; level--)
        entry = (uint64_t *)(uintptr_t)(entry[level == 2 ? 2 : 0] & 0xffffffffff000);
    struct vtlb_table *table = &vtlb->tables[((uint64_t)(uintptr_t)entry - vtlb->base.value) / PAGE_SIZE];
    uint64_t *snapshot =
        (uint64_t *)(uintptr_t)(vtlb->base.value + (uint64_t)(table->snapshot - vtlb->tables) * PAGE_SIZE);
    const struct {
        uint64_t *place, flip;
        const char *found;
    } words[] = {
        {&entry[1], 0x2, "(entry & PTE_WRITE) == 0 || (value & source->dirty) != 0"},
        {&entry[2], 0x2, NULL},
        {&entry[0], 0x1000, "(entry & target->address & ~(size - 1)) == t.address"},
        {&entry[0], 0x100, "locals == table->locals"},
        {&entry[1], 0x200, "prefetched == table->prefetched"},
        {&snapshot[0], 0x20, "(value & source->accessed) != 0"},
        {&snapshot[0], 0x40, "(entry & PTE_WRITE) == 0 || (value & source->dirty) != 0"},
        {&snapshot[0], 0x4, NULL},
        {&snapshot[0], 1ULL << 63, NULL},
        {&snapshot[0], 0x2000, "(entry & target->address & ~(size - 1)) == t.address"},
        {&table->used[7], 1ULL << 63, "(entry != 0) == vtlb_slot_used(table, slot)"},
        {&table->guest_table, 0x1000,
         "child->guest_table == (vtlb_table_entries(table->snapshot)[slot] & source->address)"},
        {&table->base, 0x200000, "child->base == way.address"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        *words[i].place ^= words[i].flip;
        const char *found = vtlb_audit(vtlb, &guest->machine->p2m);
        assert_non_null(found);
        if (words[i].found != NULL)
            assert_string_equal(found, words[i].found);
        *words[i].place ^= words[i].flip;
        assert_sound(guest->machine);
    }
    table->rights ^= PAGING_WRITE;
    assert_string_equal(vtlb_audit(vtlb, &guest->machine->p2m), "child->rights == way.rights");
    table->rights ^= PAGING_WRITE;
    table->references++;
    assert_non_null(vtlb_audit(vtlb, &guest->machine->p2m));
    table->references--;
    guest->context->root->time--;
    assert_non_null(vtlb_audit(vtlb, &guest->machine->p2m));
    guest->context->root->time++;
    for (unsigned i = 0; i < VTLB_HASH_BUCKETS; i++) {
        struct vtlb_table *first = vtlb->hash[i];
        if (first == NULL)
            continue;
        vtlb->hash[i] = first->next;
        assert_string_equal(vtlb_audit(vtlb, &guest->machine->p2m), "hashed == shared");
        vtlb->hash[i] = first;
        assert_sound(guest->machine);
    }
    free_guest(guest);
}

/* A walker whose peeks are counted. */
struct watched {
    struct stage stage;
    const struct stage *walker;
    unsigned peeks;
};

static enum stage_outcome watched_trail(const struct stage *stage, uint64_t address, unsigned access,
                                        struct translation *translation, struct stage_trail *trail,
                                        struct stage_fault *fault)
{
    const struct stage *walker = container_of(stage, struct watched, stage)->walker;

    return walker->walk_trail(walker, address, access, translation, trail, fault);
}

static bool watched_peek(const struct stage *stage, uint64_t address, uint64_t value,
                         const struct stage_trail *trail, struct translation *translation)
{
    struct watched *watched = container_of(stage, struct watched, stage);

    watched->peeks++;
    return watched->walker->peek(watched->walker, address, value, trail, translation);
}

/*
 * Neighbours that differ in the frame alone are looked at once, as far as their memory goes. Fails when each
 * is, when one is that was not accessed, or when one gets the memory of another.
 */
static void neighbours(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct watched watched = {.stage = {.walk_trail = watched_trail, .peek = watched_peek},
                              .walker = &guest->walk.stage};
    (void)state;

    guest->chain.stages[0] = &watched.stage;
    *entry_at(guest, PT_A, 5) &= ~PTE_ACCESSED;
    for (uint64_t i = 0; i < 8; i++) { /* memory in another order */
        machine_map(guest->machine, MIB(16) + i * PAGE_SIZE, guest->hpa + MIB(4) + (7 - i) * PAGE_SIZE,
                    PAGE_SIZE, RWX, MEMORY_TYPE_WB);
        *entry_at(guest, PT_A, 8 + (unsigned)i) = (MIB(16) + i * PAGE_SIZE) | USER_RW;
    }
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    assert_int_equal(watched.peeks, 1);
    assert_int_equal(guest->s->prefetched, 6);
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(look(guest, USER + i * PAGE_SIZE).hpa,
                         i == 5 ? 0 : guest->hpa + MIB(2) + i * PAGE_SIZE);
    touch(guest, USER + 8 * PAGE_SIZE);
    assert_int_equal(watched.peeks, 1 + 7);
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(look(guest, USER + (8 + i) * PAGE_SIZE).hpa,
                         guest->hpa + MIB(4) + (7 - i) * PAGE_SIZE);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* The processor may miss a prefetched page once more: nothing changes by that. */
static void prefetched_and_missed(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct vtlb_result result;
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    assert_int_equal(vtlb_miss(guest->context, USER + PAGE_SIZE, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(guest->s->stale, 1);
    assert_int_equal(guest->s->fills[0], 1);
    assert_int_equal(vtlb_generation(guest->vtlb), 1);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* Prefetched pages are counted as used as well when their whole table goes. */
static void used_until_the_end(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    touch(guest, USER + PAGE_SIZE);
    touch(guest, USER + 7 * PAGE_SIZE);
    assert_int_equal(guest->s->prefetched, 7);
    assert_int_equal(guest->s->prefetched_used, 0);
    *entry_at(guest, DIRECTORY_A, 2) = 0;
    vtlb_invalidate_address(guest->vtlb, 0, USER);
    assert_int_equal(guest->s->prefetched_used, 2);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* ---- The way down ---- */

/* Memory whose translations are counted. */
struct counted {
    struct stage stage;
    const struct stage *below;
    unsigned walks;
};

static enum stage_outcome count_walk(const struct stage *stage, uint64_t address, unsigned access,
                                     struct translation *translation, struct stage_fault *fault)
{
    struct counted *counted = container_of(stage, struct counted, stage);

    counted->walks++;
    return counted->below->walk(counted->below, address, access, translation, fault);
}

/* The guest's tables are looked for once: a miss begins where the way is no longer known. */
static void known_way(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct counted counted = {.stage = {.walk = count_walk}, .below = &guest->machine->p2m.stage};
    (void)state;

    guest->tables.stages[0] = &counted.stage;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    assert_int_equal(counted.walks, 4);
    touch(guest, USER + 8 * PAGE_SIZE);
    assert_int_equal(counted.walks, 4);
    touch(guest, KERNEL);
    assert_int_equal(counted.walks, 7);

    /* What was another entry when it was met is read again, and what is below. */
    *entry_at(guest, DIRECTORY_A, 2) = PT_B | USER_RW;
    touch(guest, USER + 16 * PAGE_SIZE);
    assert_int_equal(counted.walks, 8);
    assert_int_equal(look(guest, USER + 16 * PAGE_SIZE).hpa, guest->hpa + MIB(4) + 16 * PAGE_SIZE);
    free_guest(guest);
}

/* Where memory lies is asked once for all of a large piece of it, however the accesses are made. */
static void known_memory(void **state)
{
    const unsigned how = STAGE_ACCESS_AC | STAGE_ACCESS_IMPLICIT;
    struct guest *guest = make_guest(64, VTLB_CACHED);
    struct counted counted = {.stage = {.walk = count_walk}, .below = &guest->machine->p2m.stage};
    struct vtlb_result result;
    (void)state;

    guest->chain.stages[1] = &counted.stage;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    assert_int_equal(counted.walks, 1);
    touch(guest, USER + 8 * PAGE_SIZE);
    assert_int_equal(vtlb_miss(guest->context, USER + 16 * PAGE_SIZE, PAGING_WRITE | how, &result),
                     VTLB_FILLED);
    assert_int_equal(counted.walks, 1);
    touch(guest, KERNEL);
    assert_int_equal(counted.walks, 2);
    free_guest(guest);
}

/*
 * A page table in read-only memory, in a page that once stood for a table in other memory: what is known of
 * the way does not make it writable.
 */
static void known_table_in_rom(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    (void)state;

    machine_map(guest->machine, MIB(16), guest->hpa + 0x50000, PAGE_SIZE, PAGING_READ, MEMORY_TYPE_WB);
    for (unsigned i = 0; i < 32; i++)
        *entry_at(guest, 0x50000, i) = (MIB(2) + i * PAGE_SIZE) | (USER_RW & ~PTE_ACCESSED);
    *entry_at(guest, DIRECTORY_A, 3) = MIB(16) | USER_RW;
    for (unsigned i = 0; i < guest->vtlb->pages; i++)
        guest->vtlb->tables[i].guest_writable = true;
    load(guest, ROOT_A, 0, 0, true);
    for (unsigned i = 0; i < 32; i++) {
        touch(guest, MIB(6) + i * PAGE_SIZE);
        assert_int_equal(*entry_at(guest, 0x50000, i), (MIB(2) + i * PAGE_SIZE) | (USER_RW & ~PTE_ACCESSED));
    }
    free_guest(guest);
}

/*
 * A large page of the guest's in pieces that becomes another: a new piece may come before the guest
 * invalidates it, and no old one stays when it has.
 */
static void pieces_of_two_pages(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    const uint64_t large = MIB(6);
    (void)state;

    machine_map(guest->machine, MIB(16), guest->hpa + MIB(2) + PAGE_SIZE, MIB(2), RWX, MEMORY_TYPE_WB);
    machine_map(guest->machine, MIB(18), guest->hpa + MIB(4) + PAGE_SIZE, MIB(2), RWX, MEMORY_TYPE_WB);
    *entry_at(guest, DIRECTORY_A, 3) = MIB(16) | USER_RW | PTE_LARGE;
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, large);
    touch(guest, large + PAGE_SIZE);
    *entry_at(guest, DIRECTORY_A, 3) = MIB(18) | USER_RW | PTE_LARGE;
    touch(guest, large + 2 * PAGE_SIZE);
    assert_int_equal(look(guest, large + 2 * PAGE_SIZE).hpa, guest->hpa + MIB(4) + 3 * PAGE_SIZE);
    load(guest, ROOT_A, 0, 0, true);
    assert_false(look(guest, large).present || look(guest, large + PAGE_SIZE).present);
    assert_true(look(guest, large + 2 * PAGE_SIZE).present);
    free_guest(guest);
}

static enum stage_outcome walk_again(const struct stage *stage, uint64_t address, unsigned access,
                                     struct translation *translation, struct stage_fault *fault)
{
    (void)stage, (void)address, (void)access, (void)translation, (void)fault;
    return STAGE_AGAIN;
}

/* Tables that would not stand still: the guest makes its access once more. Fails when that is not counted. */
static void not_standing_still(void **state)
{
    struct guest *guest = make_guest(64, VTLB_CACHED);
    const struct stage restless = {.walk = walk_again};
    const struct stage_chain chain = {.stages = {&restless, &guest->machine->p2m.stage}, .count = 2};
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    assert_int_equal(vtlb_context_init(&context, guest->vtlb, &chain, &paging_ept), 0);
    assert_int_equal(vtlb_miss(&context, 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(guest->s->again, 1);
    assert_false(walk_ept(vtlb_root(&context), 0).present);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* ---- Pages of the quota ---- */

/* One page table at more addresses than the hash has places: each has a table of its own, found again. */
static void many_in_the_hash(void **state)
{
    const unsigned tables = VTLB_HASH_BUCKETS + 40;
    struct guest *guest = make_guest(2 * tables + 16, VTLB_CACHED);
    (void)state;

    for (unsigned slot = 0; slot < tables; slot++)
        *entry_at(guest, DIRECTORY_A, slot) = PT_A | USER_RW;
    load(guest, ROOT_A, 0, 0, true);
    for (unsigned slot = 0; slot < tables; slot++)
        touch(guest, slot * MIB(2));
    assert_int_equal(guest->s->tables_used, 2 * (3 + tables));
    assert_sound(guest->machine);
    /* Another root, of the same tables, finds them all. */
    *entry_at(guest, POINTERS_B, 0) = DIRECTORY_A | USER_RW;
    load(guest, ROOT_B, 0, 0, true);
    for (unsigned slot = 0; slot < tables; slot++)
        touch(guest, slot * MIB(2));
    assert_int_equal(guest->s->tables_used, 2 * (3 + 2 + tables));
    assert_int_equal(guest->s->misses, tables + 1);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* Fails when the context in use, which has no table to give, is chosen to give some. */
static void reclaim_from_others(void **state)
{
    struct guest *guest = make_guest(VTLB_PAGES_MIN + 1, VTLB_CACHED);
    const struct stage_chain memory = {.stages = {&guest->machine->p2m.stage}, .count = 1};
    struct vtlb_context ept;
    struct vtlb_result result;
    (void)state;

    for (uint64_t i = 1; i < 5; i++)
        machine_map(guest->machine, i << 39, guest->hpa + MIB(2), PAGE_SIZE, RWX, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&ept, guest->vtlb, &memory, &paging_ept), 0);
    load(guest, ROOT_A, 0, 0, true);
    for (uint64_t i = 1; i < 4; i++)
        assert_int_equal(vtlb_miss(&ept, i << 39, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(guest->s->evictions, 1); /* its own: eight pages for paths of three */
    assert_true(walk_ept(vtlb_root(&ept), 3ULL << 39).present);
    assert_sound(guest->machine);

    /* With tables it is, if it was used less recently. */
    touch(guest, USER);
    assert_int_equal(guest->s->evictions, 2);
    assert_int_equal(vtlb_miss(&ept, 1ULL << 39, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(guest->s->evictions, 3);
    assert_false(look(guest, USER).present);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* The space that is left is no longer in use when the next one needs pages: all that it has is given. */
static void reclaim_from_the_one_before(void **state)
{
    struct guest *guest = make_guest(12, VTLB_CACHED);
    const struct stage_chain memory = {.stages = {&guest->machine->p2m.stage}, .count = 1};
    struct vtlb_context ept;
    struct vtlb_result result;
    (void)state;

    machine_map(guest->machine, MIB(16), guest->hpa + MIB(2), PAGE_SIZE, RWX, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&ept, guest->vtlb, &memory, &paging_ept), 0);
    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    assert_int_equal(vtlb_miss(&ept, MIB(16), PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(guest->s->tables_used, 12);
    load(guest, ROOT_B, 0, 0, true);
    assert_int_equal(guest->s->evictions, 1);
    assert_int_equal(guest->s->tables_used, 4 + 2);
    assert_true(walk_ept(vtlb_root(&ept), MIB(16)).present);
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(guest->s->contexts_made, 3);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* A table for which no snapshot is left is given back as it was: clean, whatever it held in former times. */
static void no_snapshot_left(void **state)
{
    struct guest *guest = make_guest(11, VTLB_CACHED);
    (void)state;

    load(guest, ROOT_A, 0, 0, true);
    touch(guest, USER);
    for (struct vtlb_table *free = guest->vtlb->clean.first; free != NULL; free = free->next)
        free->entries = 5;
    /* Two pages for a table, one for half of the next; then there are two clean ones, for three tables. */
    touch(guest, KERNEL);
    assert_int_equal(guest->s->evictions, 1);
    assert_int_equal(guest->s->cleaned_late, 1);
    assert_sound(guest->machine);
    free_guest(guest);
}

/* ---- Bounds ---- */

/* A look compares so many entries and no more: what is left over goes unseen. */
static void long_look(void **state)
{
    /* What is compared before the last of those tables that are looked at adds up to the limit. */
    const unsigned tables = 38, limit = 16384, first = 512 - (512 - 2 - 38);
    struct guest *guest = make_guest(2 * tables + 16, VTLB_CACHED);
    (void)state;

    for (unsigned i = 0; i < 512; i++)
        *entry_at(guest, PT_A, i) = (MIB(2) + i * PAGE_SIZE) | USER_RW;
    for (unsigned slot = 0; slot < tables; slot++)
        *entry_at(guest, DIRECTORY_A, slot) = PT_A | USER_RW;
    load(guest, ROOT_A, 0, 0, true);
    for (uint64_t page = first; page < tables * 512; page++)
        touch(guest, page * PAGE_SIZE);
    load(guest, ROOT_A, 0, 0, true);
    assert_int_equal(guest->s->compared, limit);
    assert_true(look(guest, first * PAGE_SIZE).present && look(guest, PAGE_SIZE * 512).present);
    assert_false(look(guest, (tables - 1) * MIB(2)).present);
    const uint64_t misses = guest->s->misses;
    touch(guest, (tables - 1) * MIB(2));
    assert_int_equal(guest->s->misses, misses + 1);
    assert_sound(guest->machine);
    free_guest(guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefetched),
        cmocka_unit_test(transients),
        cmocka_unit_test(transient_in_a_shared_table),
        cmocka_unit_test(transients_of_two_tables),
        cmocka_unit_test(transient_in_a_lost_table),
        cmocka_unit_test(base_mode),
        cmocka_unit_test(audit_finds),
        cmocka_unit_test(many_in_the_hash),
        cmocka_unit_test(reclaim_from_others),
        cmocka_unit_test(no_snapshot_left),
        cmocka_unit_test(reclaim_from_the_one_before),
        cmocka_unit_test(long_look),
        cmocka_unit_test(used_until_the_end),
        cmocka_unit_test(known_way),
        cmocka_unit_test(neighbours),
        cmocka_unit_test(prefetched_and_missed),
        cmocka_unit_test(known_table_in_rom),
        cmocka_unit_test(pieces_of_two_pages),
        cmocka_unit_test(known_memory),
        cmocka_unit_test(not_standing_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
