// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/vtlb_space.c: a guest's address spaces, kept, shared, looked through and invalidated, on a guest with
 * tables of its own. What no processor may show is tested at random by test_vtlb_model.c; here it is tested
 * that no more is dropped than must be, and the counters that tell. Fails when a switch back refills what the
 * guest left alone, when a changed entry survives what the guest flushes it with, or an unchanged one does
 * not, when a table is not shared or outlives its last reference, or when a count is not exact.
 */
#include "arch/x86/paging_x86.h"
#include "arch/x86/registers.h"
#include "mm/walk_x86.h"
#include "tests/unit/vtlb_machine.h"

#define GUEST_FRAMES 2048 /* 8 MiB: the tables are in the first MiB, each 2 MiB above are what is mapped */
#define KERNEL       0xffffff8000000000ULL
#define USER         0x400000ULL
#define PAGES        64 /* that each half maps from there on */

enum {
    USER_RW = 0x67, /* P W U A D */
    KERNEL_RW = 0x63,
};

/* Two processes, A and B, with a kernel half in common. */
#define ROOT_A 0x1000ULL
#define ROOT_B 0x2000ULL
#define PT_A   0x12000ULL
#define PT_B   0x22000ULL
#define PT_K   0x32000ULL

struct guest {
    struct machine *machine;
    unsigned char *memory;
    uint64_t hpa;
    struct walk_x86 walk;
    struct stage_chain tables, chain;
    struct walk_x86_registers registers;
    struct vtlb *vtlb;
    struct vtlb_statistics *s;
    struct vtlb_context *context;
};

static uint64_t *entry_at(const struct guest *guest, uint64_t table, unsigned slot)
{
    return (uint64_t *)(void *)(guest->memory + table) + slot;
}

static void link_tables(const struct guest *guest, uint64_t root, unsigned top_slot, uint64_t tables,
                        unsigned pd_slot)
{
    *entry_at(guest, root, top_slot) = tables | USER_RW;
    *entry_at(guest, tables, 0) = (tables + 0x1000) | USER_RW;
    *entry_at(guest, tables + 0x1000, pd_slot) = (tables + 0x2000) | USER_RW;
}

static struct guest *make_guest(uint32_t pages, enum vtlb_mode mode)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    assert_non_null(guest);
    guest->memory = aligned_alloc(MIB(2), GUEST_FRAMES * PAGE_SIZE);
    assert_non_null(guest->memory);
    memset(guest->memory, 0, GUEST_FRAMES * PAGE_SIZE);
    guest->hpa = (uint64_t)(uintptr_t)guest->memory;
    guest->machine =
        machine_make_in_mode(guest->hpa, guest->hpa + GUEST_FRAMES * PAGE_SIZE, pages, true, true, mode);
    guest->vtlb = &guest->machine->vtlb;
    guest->s = &guest->vtlb->statistics;
    machine_map(guest->machine, 0, guest->hpa, GUEST_FRAMES * PAGE_SIZE, RWX, MEMORY_TYPE_WB);

    link_tables(guest, ROOT_A, 0, 0x10000, 2);
    link_tables(guest, ROOT_B, 0, 0x20000, 2);
    link_tables(guest, ROOT_A, 511, 0x30000, 0);
    *entry_at(guest, ROOT_B, 511) = 0x30000 | USER_RW;
    for (unsigned i = 0; i < PAGES; i++) {
        *entry_at(guest, PT_A, i) = (MIB(2) + i * PAGE_SIZE) | USER_RW;
        *entry_at(guest, PT_B, i) = (MIB(4) + i * PAGE_SIZE) | USER_RW;
        *entry_at(guest, PT_K, i) = (MIB(6) + i * PAGE_SIZE) | KERNEL_RW;
    }
    guest->tables = (struct stage_chain){.stages = {&guest->machine->p2m.stage}, .count = 1};
    walk_x86_init(&guest->walk, &guest->tables);
    guest->chain =
        (struct stage_chain){.stages = {&guest->walk.stage, &guest->machine->p2m.stage}, .count = 2};
    guest->registers = (struct walk_x86_registers){
        .cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP,
        .cr4 = X86_CR4_PAE | X86_CR4_PGE,
        .efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE,
        .pat = 0x0007040600070406,
        .physical_bits = 40,
        .gigabyte_pages = true,
    };
    return guest;
}

static void free_guest(struct guest *guest)
{
    machine_free(guest->machine);
    free(guest->memory);
    free(guest);
}

static void load(struct guest *guest, uint64_t root, uint16_t tag, uint32_t role, bool flush)
{
    const struct vtlb_space space = {
        .chain = &guest->chain,
        .source = &paging_x86_4level,
        .target = &paging_x86_4level,
        .root = root,
        .role = role,
        .tag = tag,
    };

    guest->registers.cr3 = root;
    walk_x86_set(&guest->walk, &guest->registers);
    guest->context = vtlb_switch(guest->vtlb, &space, flush);
    assert_sound(guest->machine);
}

static struct seen look(const struct guest *guest, uint64_t linear)
{
    return walk_pages(vtlb_root(guest->context), false, linear);
}

/* What a guest's access takes: a miss if the entry is not there. Marks what the processor would. */
static void touch(struct guest *guest, uint64_t linear)
{
    struct vtlb_result result;

    if (!look(guest, linear).present)
        assert_int_equal(vtlb_miss(guest->context, linear, PAGING_READ, &result), VTLB_FILLED);
    uint64_t table = vtlb_root(guest->context).value, *entry = NULL;
    for (int level = 4; level > 0; level--, table = *entry & 0xffffffffff000)
        entry = (uint64_t *)(uintptr_t)table + (linear >> (9 * level + 3) & 511);
    *entry |= PTE_ACCESSED;
}

static void touch_pages(struct guest *guest, uint64_t linear)
{
    for (unsigned i = 0; i < PAGES; i++)
        touch(guest, linear + i * PAGE_SIZE);
}

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
    assert_int_equal(guest->s->flushes[VTLB_FLUSH_ALL], 1);
    assert_int_equal(guest->s->flushes[VTLB_FLUSH_TAG], 2);
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
    vtlb_invalidate_address(guest->vtlb, 0, large + MIB(3));
    assert_false(walk_pages(root, true, large).present || walk_pages(root, true, large + MIB(2)).present);
    directory[0x301] = 0;
    directory[0x300] = 0;
    guest->context = vtlb_switch(guest->vtlb, &space, true);
    assert_false(walk_pages(root, true, small + PAGE_SIZE).present);
    assert_int_equal(guest->s->tables_used, 1);
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
    free_guest(guest);
}

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
    assert_string_equal(vtlb_audit(vtlb, &guest->machine->p2m),
                        "child->rights == (way.rights & ~PAGING_READ)");
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

/* ---- A page table that two directories share, and one gives up and takes back ---- */

#define DIRECTORY_A 0x11000ULL
#define DIRECTORY_B 0x21000ULL
#define POINTERS_B  0x20000ULL
#define ELSEWHERE   MIB(7)

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

/* ---- Bounds ---- */

/* A look compares so many entries and no more: what is left over goes unseen. */
static void long_look(void **state)
{
    const unsigned tables = 40, limit = 16384;
    struct guest *guest = make_guest(2 * tables + 16, VTLB_CACHED);
    (void)state;

    for (unsigned i = 0; i < 512; i++)
        *entry_at(guest, PT_A, i) = (MIB(2) + i * PAGE_SIZE) | USER_RW;
    for (unsigned slot = 0; slot < tables; slot++)
        *entry_at(guest, DIRECTORY_A, slot) = PT_A | USER_RW;
    load(guest, ROOT_A, 0, 0, true);
    for (uint64_t page = 0; page < tables * 512; page++)
        touch(guest, page * PAGE_SIZE);
    load(guest, ROOT_A, 0, 0, true);
    assert_true(guest->s->compared >= limit && guest->s->compared < limit + 3 * 512);
    assert_true(look(guest, 0).present && look(guest, PAGE_SIZE * 512).present);
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
        cmocka_unit_test(warm_switches),
        cmocka_unit_test(dirty_elsewhere),
        cmocka_unit_test(globals_stay),
        cmocka_unit_test(tags),
        cmocka_unit_test(log_and_sharing),
        cmocka_unit_test(roles),
        cmocka_unit_test(many_roots),
        cmocka_unit_test(quota),
        cmocka_unit_test(plain_32_bit),
        cmocka_unit_test(registers_of_pae),
        cmocka_unit_test(prefetched),
        cmocka_unit_test(transients),
        cmocka_unit_test(base_mode),
        cmocka_unit_test(audit_finds),
        cmocka_unit_test(faults_forget),
        cmocka_unit_test(table_to_large_page),
        cmocka_unit_test(relinked),
        cmocka_unit_test(switched_back),
        cmocka_unit_test(switched_back_after_all),
        cmocka_unit_test(long_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
