// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/vtlb*.c: the tables that it builds are walked by a walker written here from the SDM and compared with
 * what the p2m and the MTRRs of a model say; an adversarial TLB keeps every entry that it ever saw until it
 * is told to invalidate. Fails when an entry is wrong, misconfigured or larger than all that it covers, when
 * a flush leaves something, when taking something away is not told by the generation, when the quota is
 * exceeded or a page of it lost, or a count is not exact.
 */
#include "mm/vtlb.h"

#include <errno.h>

#include "arch/x86/paging_ept.h"
#include "arch/x86/paging_x86.h"
#include "tests/unit/vtlb_machine.h"

static uint64_t random_state = 0x853c49e6748fea9b;

static uint64_t random_below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % limit;
}

/* ---- EPT: fixed cases ---- */

static void ept_entries(void **state)
{
    static const struct {
        uint64_t gpa;
        bool has_2m, has_1g;
        unsigned level;
        uint64_t entry;
    } cases[] = {
        {0x5123, true, true, 1, 0x40005037},  /* RWX, WB */
        {0xc0000, true, true, 1, 0x400c0035}, /* ROM: no write */
        {0x200000, true, true, 2, 0x402000b7},
        {0x200000, false, true, 1, 0x40200037},
        {GIB(1) + 0x12345678, true, true, 3, 0x800000b7},
        {GIB(1) + 0x12345678, true, false, 2, 0x922000b7},
        {GIB(1) + 0x12345678, false, true, 3, 0x800000b7},
        {GIB(1) + 0x12345678, false, false, 1, 0x92345037},
        {0xfe000000, true, true, 2, 0x100000083}, /* a device: UC, no execute */
        {0xfe200000, true, true, 2, 0x10020008b}, /* a frame buffer: WC over the MTRR's UC */
        {BIT(47) + 0x1000, true, true, 1, 0x40001037},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct machine *machine = machine_make(GIB(1), GIB(5), 12, cases[i].has_2m, cases[i].has_1g);
        struct vtlb_context context;
        struct vtlb_result result;

        machine->ranges[machine->range_count++] = (struct type_range){GIB(4), GIB(5), MEMORY_TYPE_UC};
        machine_map(machine, 0, GIB(1), 0xa0000, RWX, MEMORY_TYPE_WB);
        machine_map(machine, 0xc0000, GIB(1) + 0xc0000, 0x40000, PAGING_READ | PAGING_EXECUTE,
                    MEMORY_TYPE_WB);
        machine_map(machine, 0x100000, GIB(1) + 0x100000, GIB(2) - 0x100000, RWX, MEMORY_TYPE_WB);
        machine_map(machine, 0xfe000000, GIB(4), MIB(2), PAGING_READ | PAGING_WRITE, MEMORY_TYPE_UC);
        machine_map(machine, 0xfe200000, GIB(4) + MIB(2), MIB(2), PAGING_READ | PAGING_WRITE, MEMORY_TYPE_WC);
        machine_map(machine, BIT(47), GIB(1), MIB(1), RWX, MEMORY_TYPE_WB);
        assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_ept), 0);
        assert_int_equal(vtlb_root(&context).value % PAGE_SIZE, 0);
        assert_false(walk_ept(vtlb_root(&context), cases[i].gpa).present);

        assert_int_equal(vtlb_miss(&context, cases[i].gpa, PAGING_READ, &result), VTLB_FILLED);
        uint64_t table = vtlb_root(&context).value, entry = 0;
        for (unsigned level = 4; level >= cases[i].level; level--) {
            entry = ((uint64_t *)(uintptr_t)table)[cases[i].gpa >> (9 * level + 3) & 511];
            table = entry & 0xffffffffff000;
            if (level > cases[i].level)
                assert_int_equal(entry & 0xfff, 7);
        }
        assert_int_equal(entry, cases[i].entry);
        assert_int_equal(machine->vtlb.statistics.fills[cases[i].level - 1], 1);
        assert_int_equal(result.translation.page_shift, 9 * cases[i].level + 3);
        assert_int_equal(machine->vtlb.statistics.tables_used, 5 - cases[i].level);
        assert_int_equal(vtlb_generation(&machine->vtlb), 1); /* only what appears needs no invalidation */
        assert_sound(machine);
        machine_free(machine);
    }
}

static void ept_outcomes(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(2), 12, true, true);
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    machine_map(machine, 0, GIB(1), MIB(4), RWX, MEMORY_TYPE_WB);
    machine_map(machine, MIB(4), GIB(1) + MIB(4), MIB(4), PAGING_READ, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_ept), 0);

    assert_int_equal(vtlb_miss(&context, 0xfec00010, PAGING_WRITE, &result), VTLB_NO_MEMORY);
    assert_int_equal(result.fault.address, 0xfec00010);
    assert_ptr_equal(result.fault.stage, &machine->p2m.stage);
    assert_false(result.fault.in_tables);
    assert_int_equal(vtlb_miss(&context, MIB(5), PAGING_WRITE, &result), VTLB_NO_MEMORY);
    assert_int_equal(vtlb_miss(&context, MIB(5), PAGING_EXECUTE, &result), VTLB_NO_MEMORY);
    assert_int_equal(machine->vtlb.statistics.tables_used, 1); /* nothing was built for them */
    assert_int_equal(vtlb_miss(&context, MIB(5), PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(&context, MIB(5) + 8, PAGING_READ, &result), VTLB_FILLED);

    const struct vtlb_statistics *s = &machine->vtlb.statistics;
    assert_int_equal(s->misses, 5);
    assert_int_equal(s->filled, 2);
    assert_int_equal(s->no_memory, 3);
    assert_int_equal(s->stale, 1);
    assert_int_equal(s->fills[0] + s->fills[1] + s->fills[2], 1);
    assert_sound(machine);
    machine_free(machine);
}

static void bad_arguments(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(2), VTLB_PAGES_MIN + 2, true, true);
    struct vtlb_context a, b, c;
    const struct stage *p2m = &machine->p2m.stage;
    const struct stage_chain none = {.count = 0}, many = {.count = STAGES_MAX + 1};
    const struct stage_chain longest = {.stages = {p2m, p2m, p2m}, .count = STAGES_MAX};
    struct vtlb small;
    (void)state;

    assert_int_equal(
        vtlb_init(&small, HPA(0), VTLB_PAGES_MIN - 1, machine->tables, &machine->vtlb.hardware, VTLB_CACHED),
        -EINVAL);
    machine_free(machine_make(GIB(1), GIB(2), VTLB_PAGES_MIN, true, true)); /* just enough */
    assert_int_equal(vtlb_context_init(&a, &machine->vtlb, &none, &paging_ept), -EINVAL);
    assert_int_equal(vtlb_context_init(&a, &machine->vtlb, &many, &paging_ept), -EINVAL);
    assert_int_equal(vtlb_context_init(&a, &machine->vtlb, &machine->chain, &paging_x86_32bit), -EINVAL);
    assert_int_equal(vtlb_context_init(&a, &machine->vtlb, &machine->chain, &paging_ept), 0);
    assert_int_equal(vtlb_context_init(&b, &machine->vtlb, &longest, &paging_ept), 0);
    /* Besides, a guest's address space with its longest path must fit. */
    assert_int_equal(vtlb_context_init(&c, &machine->vtlb, &machine->chain, &paging_ept), -ENOMEM);
    vtlb_context_destroy(&a);
    assert_int_equal(vtlb_context_init(&c, &machine->vtlb, &machine->chain, &paging_ept), 0);
    assert_sound(machine);
    machine_free(machine);
}

/* Fails when what a context that is given up had is not told of to the processor, or not given back. */
static void destroyed(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(3), 16, true, true);
    struct vtlb_statistics *statistics = &machine->vtlb.statistics;
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    machine_map(machine, 0, GIB(1), KIB(32), RWX, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_ept), 0);
    assert_int_equal(vtlb_miss(&context, 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(&context, PAGE_SIZE, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(vtlb_generation(&machine->vtlb), 1);
    vtlb_context_destroy(&context);
    assert_true(vtlb_generation(&machine->vtlb) > 1);
    assert_int_equal(statistics->flushes[VTLB_FLUSH_DESTROY], 1);
    assert_int_equal(statistics->flushed_entries, 2);
    assert_int_equal(statistics->tables_used, 0);
    assert_sound(machine);
    machine_free(machine);
}

/* EPT's large pages and page tables' are offered apart. Fails when one's offer counts for the other. */
static void large_pages_of_each(void **state)
{
    (void)state;
    for (unsigned offer = 0; offer < 4; offer++) {
        struct machine *machine = machine_make(GIB(1), GIB(4), 32, true, true);
        struct vtlb_context ept, pages;
        struct vtlb_result result;

        machine->vtlb.hardware.pages_1g = offer & 1;
        machine->vtlb.hardware.page_tables_1g = offer & 2;
        machine_map(machine, 0, GIB(1), GIB(2), RWX, MEMORY_TYPE_WB);
        assert_int_equal(vtlb_context_init(&ept, &machine->vtlb, &machine->chain, &paging_ept), 0);
        assert_int_equal(vtlb_context_init(&pages, &machine->vtlb, &machine->chain, &paging_x86_4level), 0);
        assert_int_equal(vtlb_miss(&ept, GIB(1), PAGING_READ, &result), VTLB_FILLED);
        assert_int_equal(result.translation.page_shift, offer & 1 ? PAGE_SHIFT_1G : PAGE_SHIFT_2M);
        assert_int_equal(vtlb_miss(&pages, GIB(1), PAGING_READ, &result), VTLB_FILLED);
        assert_int_equal(result.translation.page_shift, offer & 2 ? PAGE_SHIFT_1G : PAGE_SHIFT_2M);
        assert_int_equal(walk_ept(vtlb_root(&ept), GIB(1)).shift, offer & 1 ? 30 : 21);
        assert_int_equal(walk_pages(vtlb_root(&pages), false, GIB(1)).shift, offer & 2 ? 30 : 21);
        assert_sound(machine);
        machine_free(machine);
    }
}

/*
 * A processor with A and D flags in EPT sets them in entries, where one of them has the place of a mark for
 * page tables. Fails when that is taken for the mark.
 */
static void ept_flags_of_the_processor(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(3), 16, true, true);
    struct vtlb_statistics *statistics = &machine->vtlb.statistics;
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    machine_map(machine, 0, GIB(1), KIB(32), PAGING_READ | PAGING_WRITE, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_ept), 0);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(vtlb_miss(&context, i * PAGE_SIZE, PAGING_WRITE, &result), VTLB_FILLED);
    uint64_t *entry = (uint64_t *)(uintptr_t)vtlb_root(&context).value;
    for (int level = 4; level > 1; level--)
        entry = (uint64_t *)(uintptr_t)(entry[0] & 0xffffffffff000);
    for (unsigned i = 0; i < 8; i++)
        entry[i] |= EPT_ACCESSED | EPT_DIRTY;
    assert_sound(machine);

    /* The same again, one page alone, and all with their table. */
    assert_int_equal(vtlb_miss(&context, 0, PAGING_WRITE, &result), VTLB_FILLED);
    assert_int_equal(statistics->stale, 1);
    assert_int_equal(vtlb_generation(&machine->vtlb), 1);
    vtlb_flush_range(&context, PAGE_SIZE, 1, VTLB_FLUSH_P2M);
    assert_sound(machine);
    vtlb_flush(&context, VTLB_FLUSH_P2M);
    assert_int_equal(statistics->flushed_entries, 8);
    assert_int_equal(statistics->prefetched_used, 0);
    assert_sound(machine);
    machine_free(machine);
}

static void flush_ranges(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(3), 16, true, true);
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    machine_map(machine, 0, GIB(1), KIB(32), RWX, MEMORY_TYPE_WB);
    machine_map(machine, MIB(2), GIB(1) + MIB(2), MIB(6), RWX, MEMORY_TYPE_WB);
    machine_map(machine, BIT(40), GIB(1), KIB(32), RWX, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_ept), 0);
    hpa_t root = vtlb_root(&context);

    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(vtlb_miss(&context, i * PAGE_SIZE, PAGING_READ, &result), VTLB_FILLED);
        assert_int_equal(vtlb_miss(&context, BIT(40) + i * PAGE_SIZE, PAGING_READ, &result), VTLB_FILLED);
    }
    for (uint64_t i = 1; i < 4; i++)
        assert_int_equal(vtlb_miss(&context, MIB(2) * i, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(machine->vtlb.statistics.tables_used, 7);

    /* Nothing there: nothing to invalidate. */
    uint64_t generation = vtlb_generation(&machine->vtlb);
    vtlb_flush_range(&context, GIB(2), GIB(1), VTLB_FLUSH_P2M);
    vtlb_flush_range(&context, 0, 0, VTLB_FLUSH_P2M);
    assert_int_equal(vtlb_generation(&machine->vtlb), generation);

    /* One byte takes the page that holds it; a byte of a large page takes the large page. */
    vtlb_flush_range(&context, 3 * PAGE_SIZE + 17, 1, VTLB_FLUSH_P2M);
    vtlb_flush_range(&context, 6 * PAGE_SIZE, PAGE_SIZE, VTLB_FLUSH_P2M);
    vtlb_flush_range(&context, MIB(4) + 5, 1, VTLB_FLUSH_P2M);
    assert_true(vtlb_generation(&machine->vtlb) > generation);
    assert_false(walk_ept(root, 3 * PAGE_SIZE).present || walk_ept(root, 6 * PAGE_SIZE).present);
    assert_true(walk_ept(root, 5 * PAGE_SIZE).present && walk_ept(root, 7 * PAGE_SIZE).present);
    assert_true(walk_ept(root, 2 * PAGE_SIZE).present && walk_ept(root, 4 * PAGE_SIZE).present);
    assert_false(walk_ept(root, MIB(4)).present);
    assert_true(walk_ept(root, MIB(2)).present && walk_ept(root, MIB(6)).present);
    assert_sound(machine);

    /* The last entries go, and with them their tables. */
    vtlb_flush_range(&context, 0, MIB(8), VTLB_FLUSH_P2M);
    assert_int_equal(machine->vtlb.statistics.tables_used, 4);
    assert_int_equal(machine->vtlb.dirty.count, 0); /* what is given back empty need not be cleared */
    assert_true(walk_ept(root, BIT(40)).present);
    assert_int_equal(machine->vtlb.statistics.flushed_entries, 11);
    assert_sound(machine);

    /* A range around the end of the address space, or longer than it, is all. */
    vtlb_flush_range(&context, BIT(48) - PAGE_SIZE, 2 * PAGE_SIZE, VTLB_FLUSH_ADDRESS);
    assert_int_equal(machine->vtlb.statistics.tables_used, 1);
    assert_int_equal(machine->vtlb.statistics.flushes[VTLB_FLUSH_ADDRESS], 1);
    vtlb_flush_range(&context, 5, UINT64_MAX, VTLB_FLUSH_ADDRESS);
    assert_int_equal(vtlb_miss(&context, MIB(2), PAGING_READ, &result), VTLB_FILLED);
    vtlb_flush_range(&context, 0, BIT(48) + 1, VTLB_FLUSH_ADDRESS);
    assert_false(walk_ept(root, MIB(2)).present);
    assert_int_equal(machine->vtlb.statistics.flushed_entries, 20);
    assert_int_equal(machine->vtlb.statistics.cleaned_late, 0);
    assert_sound(machine);
    machine_free(machine);
}

/* ---- EPT: the quota ---- */

static void quota_reclaim(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(9), 16, true, false);
    struct vtlb_statistics *statistics = &machine->vtlb.statistics;
    struct vtlb_context contexts[4];
    struct vtlb_result result;
    (void)state;

    for (uint64_t i = 0; i < 8; i++)
        machine_map(machine, i << 39, GIB(1 + i), PAGE_SIZE, RWX, MEMORY_TYPE_WB);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(vtlb_context_init(&contexts[i], &machine->vtlb, &machine->chain, &paging_ept), 0);

    /* Twelve pages for paths of three tables. */
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(vtlb_miss(&contexts[i], 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(statistics->evictions, 0);
    assert_int_equal(statistics->tables_used, 16);

    /* The fifth path: the context that missed least recently loses its own, and its processor is told so. */
    assert_int_equal(vtlb_miss(&contexts[0], 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(&contexts[2], 1ULL << 39, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(statistics->evictions, 1);
    assert_int_equal(statistics->flushes[VTLB_FLUSH_RECLAIM], 1);
    assert_true(vtlb_generation(&machine->vtlb) > 1);
    assert_false(walk_ept(vtlb_root(&contexts[1]), 0).present);
    assert_true(walk_ept(vtlb_root(&contexts[3]), 0).present);
    assert_true(walk_ept(vtlb_root(&contexts[0]), 0).present);
    assert_int_equal(statistics->cleaned_late, 3);
    assert_sound(machine);

    /* One context alone goes round through more than the quota holds: it evicts the others, then itself. */
    for (uint64_t n = 0; n < 100; n++) {
        uint64_t gpa = (n % 8) << 39;
        assert_int_equal(vtlb_miss(&contexts[0], gpa, PAGING_WRITE, &result), VTLB_FILLED);
        assert_seen(walk_ept(vtlb_root(&contexts[0]), gpa), expected_at(machine, gpa));
        assert_true(statistics->tables_used <= 16);
        assert_sound(machine);
    }
    assert_true(statistics->evictions > 15);
    assert_int_equal(statistics->tables_peak, 16);

    /* Dropped pages are cleared ahead of need when there is time. */
    vtlb_flush(&contexts[0], VTLB_FLUSH_ROOT);
    uint64_t late = statistics->cleaned_late;
    uint32_t dirty = machine->vtlb.dirty.count;
    assert_true(dirty > 1);
    assert_int_equal(vtlb_clean(&machine->vtlb, 1), 1);
    assert_sound(machine);
    assert_int_equal(vtlb_clean(&machine->vtlb, 100), dirty - 1);
    assert_int_equal(vtlb_clean(&machine->vtlb, 100), 0);
    assert_int_equal(vtlb_miss(&contexts[0], 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(statistics->cleaned_late, late);

    /* A new root takes a page from somebody's tables. */
    for (uint64_t n = 0; n < 4; n++)
        assert_int_equal(vtlb_miss(&contexts[0], n << 39, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(statistics->tables_used, 16);
    const uint64_t evictions = statistics->evictions;
    struct vtlb_context fifth;
    assert_int_equal(vtlb_context_init(&fifth, &machine->vtlb, &machine->chain, &paging_ept), 0);
    assert_int_equal(statistics->evictions, evictions + 1);
    assert_sound(machine);
    vtlb_context_destroy(&contexts[1]);
    vtlb_context_destroy(&fifth);
    vtlb_context_destroy(&contexts[0]);
    vtlb_context_destroy(&contexts[2]);
    vtlb_context_destroy(&contexts[3]);
    assert_int_equal(statistics->tables_used, 0);
    assert_sound(machine);
    machine_free(machine);
}

/* ---- EPT: random streams ---- */

#define GUEST_SIZE GIB(4)
#define TLB_SIZE   64

/* A TLB that keeps what it saw until it is told to invalidate. */
struct tlb {
    struct {
        uint64_t gpa;
        struct seen seen;
    } entries[TLB_SIZE];
    unsigned next;
    uint64_t generation;
};

static void tlb_check(struct tlb *tlb, const struct vtlb_context *context)
{
    if (tlb->generation != vtlb_generation(context->vtlb)) {
        memset(tlb, 0, sizeof(*tlb));
        tlb->generation = vtlb_generation(context->vtlb);
    }
    for (unsigned i = 0; i < TLB_SIZE; i++)
        if (tlb->entries[i].seen.present)
            assert_seen(walk_ept(vtlb_root(context), tlb->entries[i].gpa), tlb->entries[i].seen);
}

static void tlb_load(struct tlb *tlb, uint64_t gpa, struct seen seen)
{
    tlb->entries[tlb->next].gpa = gpa;
    tlb->entries[tlb->next].seen = seen;
    tlb->next = (tlb->next + 1) % TLB_SIZE;
}

static uint64_t random_address(void)
{
    /* Mostly from a few 2-MiB pages, so that things meet. */
    if (random_below(3) == 0)
        return random_below(GUEST_SIZE);
    return random_below(8) * MIB(512) + random_below(2) * MIB(2) + random_below(16) * PAGE_SIZE +
           random_below(PAGE_SIZE);
}

static void random_machine(struct machine *machine)
{
    static const uint8_t types[] = {MEMORY_TYPE_UC, MEMORY_TYPE_WC, MEMORY_TYPE_WT, MEMORY_TYPE_WP,
                                    MEMORY_TYPE_WB};
    static const uint8_t rights[] = {RWX, RWX, PAGING_READ, PAGING_READ | PAGING_EXECUTE,
                                     PAGING_READ | PAGING_WRITE};

    for (int n = 0; n < 24; n++) {
        uint64_t unit = random_below(3) == 0 ? GIB(1) : random_below(2) == 0 ? MIB(2) : PAGE_SIZE;
        uint64_t gpa = align_down(random_address(), unit);
        uint64_t offset = random_below(4) == 0 ? PAGE_SIZE : random_below(3) == 0 ? MIB(2) : 0;
        struct p2m_region region = {GPA(gpa), HPA(GIB(8) + gpa + offset), unit * (1 + random_below(3)),
                                    rights[random_below(ARRAY_SIZE(rights))],
                                    random_below(3) == 0 ? types[random_below(ARRAY_SIZE(types))]
                                                         : MEMORY_TYPE_WB};
        int result = p2m_add(&machine->p2m, &region);
        assert_true(result == 0 || result == -EEXIST);
    }
    for (machine->range_count = 0; machine->range_count < random_below(6); machine->range_count++) {
        uint64_t start = GIB(8) + align_down(random_address(), random_below(2) ? PAGE_SIZE : MIB(2));
        machine->ranges[machine->range_count] = (struct type_range){
            start, start + (1 + random_below(600)) * PAGE_SIZE, types[random_below(ARRAY_SIZE(types))]};
    }
}

static void ept_random(void **state)
{
    (void)state;

    for (int round = 0; round < 60; round++) {
        struct machine *machine = machine_make(GIB(8), GIB(16), (uint32_t)(12 + random_below(40)),
                                               random_below(4) != 0, random_below(2) != 0);
        struct vtlb_context contexts[2];
        struct tlb tlbs[2] = {0};

        random_machine(machine);
        for (int i = 0; i < 2; i++)
            assert_int_equal(vtlb_context_init(&contexts[i], &machine->vtlb, &machine->chain, &paging_ept),
                             0);
        for (int n = 0; n < 1500; n++) {
            unsigned which = random_below(4) == 0;
            struct vtlb_context *context = &contexts[which];
            hpa_t root = vtlb_root(context);
            uint64_t gpa = random_address();
            uint64_t choice = random_below(100);

            if (choice < 2) {
                vtlb_flush(context, VTLB_FLUSH_P2M);
                assert_false(walk_ept(root, gpa).present);
            } else if (choice < 10) {
                uint64_t size = random_below(2) ? 1 + random_below(KIB(32)) : random_below(MIB(600));
                vtlb_flush_range(context, gpa, size, VTLB_FLUSH_P2M);
                for (int k = 0; k < 20 && size > 0; k++)
                    assert_false(walk_ept(root, gpa + random_below(size)).present);
            } else if (choice < 12) {
                vtlb_clean(&machine->vtlb, (uint32_t)random_below(4));
            } else {
                unsigned access = 1U << random_below(3);
                struct seen expected = expected_at(machine, gpa);
                bool allowed = expected.present && (expected.rights & access) != 0;
                struct vtlb_result result;

                assert_int_equal(vtlb_miss(context, gpa, access, &result),
                                 allowed ? VTLB_FILLED : VTLB_NO_MEMORY);
                if (allowed) {
                    assert_seen(walk_ept(root, gpa), expected);
                    assert_int_equal(result.translation.address, expected.hpa);
                    tlb_load(&tlbs[which], gpa, expected);
                } else {
                    assert_int_equal(result.fault.address, gpa);
                }
            }
            for (int i = 0; i < 2; i++)
                tlb_check(&tlbs[i], &contexts[i]);
            if (n % 8 == 0)
                assert_sound(machine);
            /* Whatever is there, says the same as a fill would. */
            uint64_t other = random_address();
            struct seen seen = walk_ept(root, other);
            if (seen.present)
                assert_seen(seen, expected_at(machine, other));
        }
        assert_sound(machine);
        machine_free(machine);
    }
}

/* The audit itself: each thing that it is to find, put there, found by name, and taken away again. */
static void audit_finds(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(2), 16, true, true);
    struct vtlb *vtlb = &machine->vtlb;
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    machine_map(machine, 0, GIB(1), KIB(64), RWX, MEMORY_TYPE_WB);
    machine_map(machine, KIB(64), GIB(1) + KIB(64), KIB(64), PAGING_READ, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&context, vtlb, &machine->chain, &paging_ept), 0);
    assert_int_equal(vtlb_miss(&context, 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(&context, KIB(64), PAGING_READ, &result), VTLB_FILLED);
    assert_sound(machine);

    uint64_t *entry = (uint64_t *)(uintptr_t)vtlb_root(&context).value;
    for (int level = 4; level > 1; level--)
        entry = (uint64_t *)(uintptr_t)(*entry & 0xffffffffff000);
    struct vtlb_table *leaf_table =
        &machine->tables[((uint64_t)(uintptr_t)entry - vtlb->base.value) / PAGE_SIZE];
    uint64_t *clean = (uint64_t *)(uintptr_t)(vtlb->base.value +
                                              (uint64_t)(vtlb->clean.first - machine->tables) * PAGE_SIZE);
    const uint64_t good = entry[0];

    const struct {
        uint64_t *place, value;
        const char *found;
    } entries[] = {
        {&entry[0], 0, "(entry != 0) == vtlb_slot_used(table, slot)"},
        {&entry[1], good + PAGE_SIZE, "(entry != 0) == vtlb_slot_used(table, slot)"},
        {&entry[0], good + KIB(128), "leaf_within_region"}, /* the partition's, not mapped */
        {&entry[0], good + GIB(1), "leaf_owned"},
        {&entry[16], good + KIB(64), "leaf_within_region"}, /* a right too many */
        {&entry[0], vtlb->base.value | (good & 4095), "leaf_owned"},
        {&clean[9], 1, "page[slot] == 0 || vtlb_slot_used(table, slot)"},
        {&clean[511], 1ULL << 63, "page[slot] == 0 || vtlb_slot_used(table, slot)"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
        const uint64_t before = *entries[i].place;
        *entries[i].place = entries[i].value;
        const char *found = vtlb_audit(vtlb, &machine->p2m);
        assert_non_null(found);
        assert_string_equal(found, entries[i].found);
        *entries[i].place = before;
        assert_sound(machine);
    }

    leaf_table->level++;
    assert_string_equal(vtlb_audit(vtlb, &machine->p2m), "child->level + 1 == table->level");
    leaf_table->level--;
    const struct {
        uint16_t *place;
        const char *found;
    } counts[] = {
        {&leaf_table->entries, "used == table->entries"},
        {&leaf_table->locals, "locals == table->locals"},
        {&leaf_table->prefetched, "prefetched == table->prefetched"},
        {&leaf_table->references, "child->references == 1"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        ++*counts[i].place;
        assert_string_equal(vtlb_audit(vtlb, &machine->p2m), counts[i].found);
        --*counts[i].place;
    }
    leaf_table->words ^= 0x80;
    assert_string_equal(vtlb_audit(vtlb, &machine->p2m), "words == table->words");
    leaf_table->words ^= 0x80;
    leaf_table->shared = true;
    assert_string_equal(vtlb_audit(vtlb, &machine->p2m), "!child->shared");
    leaf_table->shared = false;
    assert_sound(machine);
    vtlb->statistics.tables_used++;
    assert_string_equal(vtlb_audit(vtlb, &machine->p2m), "audit.used == statistics->tables_used");
    vtlb->statistics.tables_used--;
    vtlb->statistics.misses++;
    assert_non_null(vtlb_audit(vtlb, &machine->p2m));
    vtlb->statistics.misses--;
    vtlb->clean.count--;
    assert_string_equal(vtlb_audit(vtlb, &machine->p2m), "length < list->count");
    vtlb->clean.count++;
    assert_sound(machine);
    machine_free(machine);
}

/* Fails when the audit takes a shared region that is mapped for somebody else's memory, or the other way
 * round. */
static void audit_shared(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(1) + MIB(16), 16, true, false);
    const struct p2m_region shared = {GPA(GIB(3)), HPA(GIB(2)), MIB(4), RWX, MEMORY_TYPE_WB};
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    assert_int_equal(frame_pool_add(&machine->pool, HPA(GIB(2)), MIB(8), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&machine->pool, HPA(GIB(2)), MIB(4), FRAME_OWNER_SHARED), 0);
    assert_int_equal(frame_claim(&machine->pool, HPA(GIB(2) + MIB(4)), MIB(4), FRAME_OWNER_SHARED + 1), 0);
    assert_int_equal(p2m_add_shared(&machine->p2m, &shared, FRAME_OWNER_SHARED), 0);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_ept), 0);
    assert_int_equal(vtlb_miss(&context, GIB(3), PAGING_WRITE, &result), VTLB_FILLED);
    assert_int_equal(result.translation.page_shift, PAGE_SHIFT_2M);
    assert_sound(machine);

    frame_release_all(&machine->pool, FRAME_OWNER_SHARED);
    assert_string_equal(vtlb_audit(&machine->vtlb, &machine->p2m), "leaf_owned");
    machine_free(machine);
}

static unsigned types_asked;

static uint8_t count_types(void *data, hpa_t address, uint8_t *page_shift)
{
    types_asked++;
    return machine_memory_type(data, address, page_shift);
}

/*
 * The MTRRs are asked once for all of a piece of memory of one type. Fails when they are asked again, when
 * the answer is taken for another piece's, or when it outlives the change of the types.
 */
static void types_remembered(void **state)
{
    struct machine *machine = machine_make(0, MIB(16), 16, false, false);
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    machine->vtlb.hardware.memory_type = count_types;
    machine->ranges[0] = (struct type_range){5 * PAGE_SIZE, 6 * PAGE_SIZE, MEMORY_TYPE_UC};
    machine->range_count = 1;
    machine_map(machine, 0, 0, MIB(16), RWX, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_ept), 0);
    static const struct {
        uint64_t gpa;
        uint8_t type;
        unsigned asked;
    } first[] = {
        {5 * PAGE_SIZE, MEMORY_TYPE_UC, 1},      {0, MEMORY_TYPE_WB, 2},          {MIB(4), MEMORY_TYPE_WB, 3},
        {MIB(4) + PAGE_SIZE, MEMORY_TYPE_WB, 3}, {MIB(6) - 1, MEMORY_TYPE_WB, 3}, {MIB(6), MEMORY_TYPE_WB, 4},
    };
    types_asked = 0;
    for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
        assert_int_equal(vtlb_miss(&context, first[i].gpa, PAGING_READ, &result), VTLB_FILLED);
        assert_int_equal(walk_ept(vtlb_root(&context), first[i].gpa).type, first[i].type);
        assert_int_equal(types_asked, first[i].asked);
    }

    machine->ranges[0] = (struct type_range){MIB(6), MIB(8), MEMORY_TYPE_WT};
    vtlb_drop(&machine->vtlb, VTLB_FLUSH_P2M);
    vtlb_flush(&context, VTLB_FLUSH_P2M);
    assert_int_equal(vtlb_miss(&context, MIB(6), PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_ept(vtlb_root(&context), MIB(6)).type, MEMORY_TYPE_WT);
    machine_free(machine);
}

/* SDM vol. 3, table "Effective Page-Level Memory Types": rows by MTRR, columns UC UC- WC WT WB WP by PAT. */
static void memory_types(void **state)
{
    static const uint8_t pat[] = {0, 7, 1, 4, 6, 5};
    static const struct {
        uint8_t mtrr, effective[6];
    } rows[] = {
        {0, {0, 0, 1, 0, 0, 0}}, {1, {0, 1, 1, 0, 1, 0}}, {4, {0, 0, 1, 4, 4, 5}},
        {6, {0, 0, 1, 4, 6, 5}}, {5, {0, 1, 1, 4, 5, 5}},
    };
    (void)state;

    for (size_t r = 0; r < ARRAY_SIZE(rows); r++)
        for (size_t p = 0; p < ARRAY_SIZE(pat); p++)
            assert_int_equal(memory_type_combine(pat[p], rows[r].mtrr), rows[r].effective[p]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_types),
        cmocka_unit_test(ept_entries),
        cmocka_unit_test(ept_outcomes),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(flush_ranges),
        cmocka_unit_test(quota_reclaim),
        cmocka_unit_test(ept_random),
        cmocka_unit_test(audit_finds),
        cmocka_unit_test(audit_shared),
        cmocka_unit_test(destroyed),
        cmocka_unit_test(types_remembered),
        cmocka_unit_test(large_pages_of_each),
        cmocka_unit_test(ept_flags_of_the_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
