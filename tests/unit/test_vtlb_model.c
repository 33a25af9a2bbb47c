// SPDX-License-Identifier: BSD-2-Clause
/*
 * The virtual TLB under random operations, against a model of what a processor may show (vtlb_model.h). The
 * guest rewrites its tables at random, invalidates at random, and accesses through the tables that the engine
 * built, walked as the hardware walks them, behind a hardware TLB that keeps all that it need not forget.
 *
 * Fails when an access shows what no TLB could have shown; when a fault reaches the guest that its tables do
 * not give now, or in another form; when anything in the guest's memory changes but the A and D bits of the
 * path; when the hardware would reach a frame that is not the partition's, or a table that is not of the
 * quota; when a filled miss does not suffice; when vtlb_audit finds a broken invariant; when address spaces
 * that the guest left alone have to be filled again.
 *
 * VTLB_MODEL_OPERATIONS (default 10,000,000) and VTLB_MODEL_SEED (default 1) say how long and from where. A
 * failure names the seed of its round: VTLB_MODEL_SEED=it VTLB_MODEL_OPERATIONS=1 runs that round alone.
 */
#include "tests/unit/vtlb_model_machine.h"

#define ROUND 20000 /* operations with one set-up */

/* ---- Random operations ---- */

/* Most often an address that came before. */
static uint64_t random_linear(struct test *test)
{
    if (rarely(&test->random, 8))
        test->recent[pick(&test->random, ARRAY_SIZE(test->recent))] =
            guest_linear(&test->random, model_now(&test->model)->format);
    return test->recent[pick(&test->random, ARRAY_SIZE(test->recent))];
}

static uint64_t random_root(struct test *test)
{
    const uint64_t root = pick(&test->random, GUEST_ROOTS) * PAGE_SIZE;

    return model_now(&test->model)->format == MODEL_PAE ? root + pick(&test->random, 3) * 32 : root;
}

static void load_random_root(struct test *test)
{
    const bool pcids = has_pcids(test);

    load_root(test, random_root(test), pcids ? pick(&test->random, MODEL_TAGS) : 0,
              !pcids || rarely(&test->random, 2));
}

static bool is_pdpte(const struct test *test, uint64_t gpa)
{
    return test->paged == MODEL_PAE && gpa < GUEST_ROOTS * PAGE_SIZE && gpa % PAGE_SIZE < 96;
}

/* One of any table, most often one that is in use. */
static void write_entry(struct test *test)
{
    uint64_t gpa =
        pick(&test->random, MODEL_TABLE_FRAMES) * PAGE_SIZE + pick(&test->random, 20) * entry_size(test);
    uint64_t entry = 0;

    if (!rarely(&test->random, 4)) {
        const struct model_walk walk =
            model_walk(&test->model, model_now(&test->model),
                       test->recent[pick(&test->random, ARRAY_SIZE(test->recent))], test->model.time);
        if (walk.entries > 0) {
            const unsigned last = rarely(&test->random, 2) ? walk.entries : 1;
            gpa = walk.entry[walk.entries - 1 - pick(&test->random, last)];
        }
    }
    if (gpa / 8 >= MODEL_WORDS)
        return;
    memcpy(&entry, (unsigned char *)&test->model.words[gpa / 8] + gpa % 8, entry_size(test));
    entry =
        is_pdpte(test, gpa) ? guest_pdpte(&test->random) : guest_mutate(&test->random, test->paged, entry);
    note(test, WRITE_ENTRY, gpa, entry, 0);
    store_entry(test, gpa, entry);
}

/* The entry at `gpa` of the guest's tables; false: they are not to be written there. */
static bool load_entry(struct test *test, uint64_t gpa, uint64_t *entry)
{
    *entry = 0;
    if (gpa / 8 >= MODEL_WORDS || is_pdpte(test, gpa))
        return false;
    memcpy(entry, (unsigned char *)&test->model.words[gpa / 8] + gpa % 8, entry_size(test));
    return true;
}

/* What a guest does after a fault: there is a page now, by good entries where the walk ended. */
static void map(struct test *test, uint64_t linear)
{
    const uint64_t good = PTE_PRESENT | PTE_WRITE | PTE_USER;

    for (unsigned i = 0; i < PAGING_LEVELS_MAX; i++) {
        const struct model_walk walk =
            model_walk(&test->model, model_now(&test->model), linear, test->model.time);
        uint64_t entry;

        if (walk.present || walk.entries == 0 || !load_entry(test, walk.entry[walk.entries - 1], &entry))
            return;
        store_entry(test, walk.entry[walk.entries - 1],
                    good | pick(&test->random, MODEL_TABLE_FRAMES) * PAGE_SIZE | (entry & PTE_GLOBAL));
    }
}

/*
 * What a guest does that changes a page and tells the processor so: it uses the page, writes its last entry,
 * invalidates any address of the page, and uses it again.
 */
static void remap(struct test *test)
{
    const unsigned at = pick(&test->random, ARRAY_SIZE(test->recent));
    const uint64_t linear = test->recent[at];
    struct model_walk walk;
    uint64_t entry, gpa, within;

    if (!access_address(test, linear, guest_access(&test->random)))
        return;
    walk = model_walk(&test->model, model_now(&test->model), linear, test->model.time);
    if (walk.entries == 0)
        return;
    gpa = walk.entry[walk.entries - 1];
    if (!load_entry(test, gpa, &entry))
        return;
    store_entry(test, gpa, guest_mutate(&test->random, test->paged, entry));
    within = random_next(&test->random) & (BIT(walk.shift) - 1);
    if (rarely(&test->random, 2))
        within &= ~0x1e0000ULL; /* among those that are used, in either half of a 4-MByte page */
    test->recent[(at + 1) % ARRAY_SIZE(test->recent)] = linear ^ within;
    invlpg(test, linear ^ within);
    note(test, REMAP, linear, linear ^ within, gpa);
    access_address(test, linear, guest_access(&test->random));
}

/*
 * What a guest with PCIDs does that changes a page of an address space it is not in: it uses the page, writes
 * its last entry, goes elsewhere, invalidates the address or the whole tag, perhaps many other addresses too,
 * and comes back without a flush.
 */
static void invalidate_elsewhere(struct test *test)
{
    const uint64_t linear = test->recent[pick(&test->random, ARRAY_SIZE(test->recent))];
    const uint64_t root = align_down(model_now(&test->model)->registers.cr3, PAGE_SIZE);
    const uint16_t tag = model_now(&test->model)->tag;
    const unsigned others = rarely(&test->random, 2) ? 0 : VTLB_LOG - 2 + pick(&test->random, 4);
    struct model_walk walk;
    uint64_t within;

    if (!has_pcids(test) || !access_address(test, linear, guest_access(&test->random)))
        return;
    walk = model_walk(&test->model, model_now(&test->model), linear, test->model.time);
    if (walk.entries == 0 || walk.entry[walk.entries - 1] / 8 >= MODEL_WORDS)
        return;
    store_entry(test, walk.entry[walk.entries - 1], guest_entry(&test->random, test->paged));
    load_root(test, pick(&test->random, GUEST_ROOTS) * PAGE_SIZE, (tag + 1) % MODEL_TAGS,
              rarely(&test->random, 2));
    within = random_next(&test->random) & (walk.present ? BIT(walk.shift) - 1 : 0);
    if (rarely(&test->random, 3))
        invlpg(test, linear ^ within); /* concerns the other only if it is global there */
    else
        invpcid(test, pick(&test->random, 2), tag, linear ^ within);
    for (unsigned i = 0; i < others; i++)
        invlpg(test, guest_linear(&test->random, test->paged));
    load_root(test, root, tag, false);
    note(test, ELSEWHERE, linear, walk.entry[walk.entries - 1], others);
    access_address(test, linear, guest_access(&test->random));
}

/* ---- Tables that come and go ---- */

/* What the tables below `root` say of an address. */
static struct model_walk walk_from(struct test *test, uint64_t root, uint64_t linear)
{
    struct model_era era = *model_now(&test->model);

    era.registers.cr3 = root;
    if (era.format == MODEL_PAE &&
        !model_load_pdptes(&test->model, root, era.registers.physical_bits, era.registers.pdpte))
        return (struct model_walk){0};
    return model_walk(&test->model, &era, linear, test->model.time);
}

static uint64_t root_now(struct test *test)
{
    const struct model_era *now = model_now(&test->model);

    return now->format == MODEL_PAE ? now->registers.cr3 & 0xffffffe0
                                    : align_down(now->registers.cr3, PAGE_SIZE);
}

/* The space below `to` gets what the one below `from` has for an address, at some level. */
static void share_table(struct test *test, uint64_t from, uint64_t to, uint64_t linear)
{
    const struct model_walk old = walk_from(test, to, linear), new = walk_from(test, from, linear);
    const unsigned common = old.entries < new.entries ? old.entries : new.entries;
    uint64_t entry, other;

    if (common == 0)
        return;
    const unsigned i = pick(&test->random, common);
    if (load_entry(test, new.entry[i], &entry) && load_entry(test, old.entry[i], &other))
        store_entry(test, old.entry[i], entry);
}

/* Most often with the INVLPG that is due. */
static void change_entry(struct test *test, uint64_t gpa, uint64_t entry, uint64_t linear)
{
    store_entry(test, gpa, entry);
    if (!rarely(&test->random, 4))
        invlpg(test, linear);
}

static void load_other(struct test *test, uint64_t root)
{
    load_root(test, root, model_now(&test->model)->tag, !has_pcids(test) || rarely(&test->random, 2));
}

/*
 * What a guest does with tables that two address spaces have in common, with PCIDs also of one tag and
 * without a flush in between: an entry above the page's is taken out, the page changes meanwhile, and the
 * table comes back: there, by another entry, or in the other space. All steps are invalidated by INVLPG most
 * of the time, and each may be missing.
 */
static void relink(struct test *test)
{
    const uint64_t linear = test->recent[pick(&test->random, ARRAY_SIZE(test->recent))];
    const uint64_t other = random_root(test);
    uint64_t home, entry, gone;

    if (!access_address(test, linear, guest_access(&test->random)))
        return;
    home = root_now(test);
    if (!rarely(&test->random, 4))
        share_table(test, home, other, linear);
    if (rarely(&test->random, 2)) {
        load_other(test, other);
        access_address(test, linear, guest_access(&test->random));
    }

    const struct model_walk walk =
        model_walk(&test->model, model_now(&test->model), linear, test->model.time);
    const uint64_t page = linear ^ (rarely(&test->random, 2) ? 0 : pick(&test->random, 16) * PAGE_SIZE);
    const uint64_t leaf =
        walk_from(test, root_now(test), page).entry[walk.entries > 0 ? walk.entries - 1 : 0];
    const uint64_t out = walk.entries > 1 ? walk.entry[pick(&test->random, walk.entries - 1)] : leaf;

    if (!walk.present)
        return;
    note(test, RELINK, linear, out, leaf);
    access_address(test, page, guest_access(&test->random));
    if (load_entry(test, out, &gone))
        change_entry(test, out, gone & ~1ULL, linear);
    for (unsigned turn = 1 + pick(&test->random, 3); turn > 0; turn--) {
        if (!rarely(&test->random, 4) && load_entry(test, leaf, &entry))
            change_entry(test, leaf, guest_mutate(&test->random, test->paged, entry), page);
        switch (pick(&test->random, 6)) {
        case 0:
        case 1:
            if (load_entry(test, out, &entry))
                change_entry(test, out, gone, linear);
            break;
        case 2:
        case 3:
            share_table(test, root_now(test) == home ? other : home, root_now(test), linear);
            if (!rarely(&test->random, 4))
                invlpg(test, linear);
            break;
        case 4:
            load_other(test, root_now(test) == home ? other : home);
            break;
        default:
            invpcid(test, rarely(&test->random, 4) ? 2 : pick(&test->random, 2), model_now(&test->model)->tag,
                    page);
            break;
        }
        access_address(test, linear, guest_access(&test->random));
        access_address(test, page, guest_access(&test->random));
    }
}

/* How often each operation comes, of 256. The rest are accesses. */
static const struct {
    enum operation operation;
    unsigned weight;
} weights[] = {
    {REMAP, 10},    {RELINK, 8}, {ELSEWHERE, 2}, {WRITE_ENTRY, 36}, {LOOK_AHEAD, 22},
    {LOAD_ROOT, 8}, {INVLPG, 8}, {INVPCID, 5},   {TOGGLE, 3},       {CLEAN, 3},
};

static enum operation random_operation(struct test *test)
{
    unsigned at = pick(&test->random, 256);

    if (rarely(&test->random, 1500))
        return DROP;
    for (size_t i = 0; i < ARRAY_SIZE(weights); i++) {
        if (at < weights[i].weight)
            return weights[i].operation;
        at -= weights[i].weight;
    }
    return ACCESS;
}

static void operate(struct test *test)
{
    unsigned at;

    switch (random_operation(test)) {
    case ACCESS:
        at = pick(&test->random, ARRAY_SIZE(test->recent));
        if (rarely(&test->random, 8))
            test->recent[at] = guest_linear(&test->random, model_now(&test->model)->format);
        if (!access_address(test, test->recent[at], guest_access(&test->random))) {
            if (rarely(&test->random, 3))
                test->recent[at] = guest_linear(&test->random, model_now(&test->model)->format);
            else if (rarely(&test->random, 2))
                map(test, test->recent[at]);
        }
        if (test->transient[0].shift != 0 && rarely(&test->random, 2)) {
            /* Nothing of it may be left after a moment in another role. */
            toggle(test, TOGGLE_WP);
            toggle(test, TOGGLE_WP);
            access_address(test, test->recent[at], PAGING_READ);
        }
        break;
    case WRITE_ENTRY:
        write_entry(test);
        break;
    case REMAP:
        remap(test);
        break;
    case RELINK:
        relink(test);
        break;
    case ELSEWHERE:
        invalidate_elsewhere(test);
        break;
    case LOOK_AHEAD: {
        const uint64_t linear = random_linear(test);
        note(test, LOOK_AHEAD, linear, 0, 0);
        hardware_walk(&test->hardware, linear);
        break;
    }
    case LOAD_ROOT:
        load_random_root(test);
        break;
    case INVLPG:
        invlpg(test, random_linear(test));
        break;
    case INVPCID:
        /* Types 2 and 3 forget much: less often. */
        invpcid(test, rarely(&test->random, 12) ? 2 + pick(&test->random, 2) : pick(&test->random, 2),
                has_pcids(test) ? pick(&test->random, MODEL_TAGS) : 0, random_linear(test));
        break;
    case TOGGLE:
        toggle(test, rarely(&test->random, 2)   ? pick(&test->random, 5)
                     : rarely(&test->random, 4) ? pick(&test->random, TOGGLES)
                                                : TOGGLE_WP);
        break;
    case DROP:
        drop(test);
        break;
    case CLEAN:
        note(test, CLEAN, 0, 0, 0);
        vtlb_clean(&test->vtlb, pick(&test->random, 8));
        break;
    }
}

/* ---- Rounds ---- */

static uint64_t random_word(struct test *test, uint64_t set)
{
    const uint64_t word = guest_entry(&test->random, test->paged) | set;

    if (test->paged != MODEL_32BIT)
        return word;
    return (word & UINT32_MAX) | (guest_entry(&test->random, test->paged) | set) << 32;
}

static void random_tables(struct test *test)
{
    for (uint32_t word = 0; word < MODEL_WORDS; word++)
        test->model.words[word] =
            is_pdpte(test, word * 8ULL) ? guest_pdpte(&test->random) : random_word(test, 0);
    memcpy(test->reservation, test->model.words, sizeof(test->model.words));
    /* The ROM's tables have all A and D bits: a processor that had to set them there could not. */
    for (uint32_t word = 0; word < GUEST_ROM_SIZE / 8; word++) {
        const uint64_t value = random_word(test, PTE_ACCESSED | PTE_DIRTY);
        memcpy(test->reservation + GUEST_ROM + word * 8, &value, sizeof(value));
    }
}

static void run_round(struct test *test, uint64_t seed)
{
    struct vtlb_hardware offered = {0};
    enum model_format format;
    struct model_era *era;

    test->seed = seed;
    test->random.state = seed * 0x9e3779b97f4a7c15ULL | 1;
    for (int i = 0; i < 4; i++)
        random_next(&test->random);
    offered.pages_2m = !rarely(&test->random, 3);
    offered.pages_1g = offered.page_tables_1g = rarely(&test->random, 2);
    format = MODEL_32BIT + pick(&test->random, 4);
    begin(test, format, rarely(&test->random, 4) ? VTLB_BASE : VTLB_CACHED,
          VTLB_PAGES_MIN + pick(&test->random, rarely(&test->random, 3) ? 40 : QUOTA_MAX - VTLB_PAGES_MIN),
          &offered);
    random_tables(test);
    change_memory_types(test);
    era = model_now(&test->model);
    era->registers.physical_bits = rarely(&test->random, 2) ? 36 : 46;
    era->registers.gigabyte_pages = !rarely(&test->random, 3);
    if (format >= MODEL_4LEVEL && !rarely(&test->random, 3))
        era->registers.cr4 |= X86_CR4_PCIDE;
    select_space(test, VTLB_SCOPE_TAG);

    for (test->step = 0; test->step < ROUND; test->step++) {
        if (model_is_full(&test->model))
            invpcid(test, 2, 0, 0);
        else
            operate(test);
        if (test->hardware.broken != NULL)
            give_up(test, test->hardware.broken);
        if (test->step % 2048 == 0)
            check_everything(test);
    }
    check_everything(test);
    test->counts.operations += ROUND;
    test->counts.evictions += test->vtlb.statistics.evictions;
    test->counts.rounds++;
}

static void random_operations(void **state)
{
    const uint64_t operations = number_from("VTLB_MODEL_OPERATIONS", 10000000);
    const uint64_t seed = number_from("VTLB_MODEL_SEED", 1);
    struct test *test = prepare();
    const struct counts *counts = &test->counts;
    (void)state;

    while (counts->operations < operations)
        run_round(test, seed + counts->rounds);
    printf("%llu operations: %llu accesses, %llu misses, %llu stale hits, %llu faults of the guest's, "
           "%llu without memory, %llu refused PDPTEs, %llu evictions\n",
           (unsigned long long)counts->operations, (unsigned long long)counts->accesses,
           (unsigned long long)counts->misses, (unsigned long long)counts->stale,
           (unsigned long long)counts->faults, (unsigned long long)counts->no_memory,
           (unsigned long long)counts->general_protection, (unsigned long long)counts->evictions);
    /* The model was really asked. */
    if (counts->rounds >= 50) {
        assert_true(counts->stale > counts->accesses / 1000);
        assert_true(counts->misses > counts->faults + counts->no_memory);
        assert_true(counts->misses < counts->accesses);
        assert_true(counts->faults > 0 && counts->no_memory > 0 && counts->evictions > 0);
    }
}

/* ---- What is not random: the costs that a cache is for ---- */

#define WARM_PAGES 40 /* five times the eight that are prefetched together */
#define WARM_START MIB(4)

/* Maps the page at `linear` by tables of their own below `root`; *free is the next frame for one. */
static void map_page(struct test *test, uint64_t root, uint64_t *free, uint64_t linear, uint64_t entry)
{
    const struct paging_format *format = sources[test->paged];
    uint64_t table = root;

    for (unsigned level = format->levels;; level--) {
        const uint64_t at = table + (uint64_t)paging_index(format, level, linear) * format->entry_size;
        uint64_t value = 0;

        if (level == 1) {
            store_entry(test, at, entry);
            return;
        }
        memcpy(&value, test->reservation + at, format->entry_size);
        if (value == 0) {
            value = *free | PTE_PRESENT | (test->paged == MODEL_PAE && level == 3 ? 0 : PTE_WRITE | PTE_USER);
            *free += PAGE_SIZE;
            store_entry(test, at, value);
        }
        table = value & format->address;
    }
}

/* Accesses all pages in order, and says how many misses that took. */
static uint64_t touch_all(struct test *test, unsigned access)
{
    const uint64_t before = test->counts.misses;

    for (uint64_t i = 0; i < WARM_PAGES; i++)
        access_address(test, WARM_START + i * PAGE_SIZE, access);
    return test->counts.misses - before;
}

/*
 * Two address spaces, used in turn. Each page is filled once; neither mode has to fill globals again after
 * MOV to CR3, the cached mode nothing at all; what the guest has used before is filled by eights; and to
 * invalidate an address, or another tag, costs no other page.
 */
static void warm_spaces(void **state)
{
    const struct vtlb_hardware offered = {0};
    struct test *test = prepare();
    (void)state;

    for (unsigned i = 0; i < 2 * 2 * 4; i++) {
        const enum model_format format = MODEL_32BIT + i / 4;
        const enum vtlb_mode mode = i % 2 ? VTLB_BASE : VTLB_CACHED;
        const uint64_t global = i / 2 % 2 ? PTE_GLOBAL : 0;
        uint64_t free = 16 * PAGE_SIZE;

        test->random.state = 1;
        begin(test, format, mode, QUOTA_MAX, &offered);
        for (uint64_t page = 0; page < WARM_PAGES; page++)
            for (uint64_t root = 0; root < 2; root++)
                map_page(test, root * PAGE_SIZE, &free, WARM_START + page * PAGE_SIZE,
                         (20 + page) * PAGE_SIZE | global | PTE_PRESENT | PTE_WRITE | PTE_USER);
        for (uint64_t root = 0; root < 2; root++) {
            load_root(test, root * PAGE_SIZE, 0, true);
            assert_int_equal(touch_all(test, PAGING_WRITE), WARM_PAGES);
            assert_int_equal(touch_all(test, PAGING_READ), 0);
            load_root(test, root * PAGE_SIZE, 0, true);
            assert_int_equal(touch_all(test, PAGING_WRITE | PAGING_USER),
                             mode == VTLB_BASE && global == 0 ? WARM_PAGES / 8 : 0);
            /* What is invalidated goes, and no more. */
            invlpg(test, WARM_START + 3 * PAGE_SIZE);
            assert_int_equal(touch_all(test, PAGING_READ), 1);
            invpcid(test, 0, 1, WARM_START + 3 * PAGE_SIZE);
            assert_int_equal(touch_all(test, PAGING_READ), global != 0);
            invpcid(test, 1, 1, 0);
            assert_int_equal(touch_all(test, PAGING_READ), 0);
        }
        /* The first has the address to fill again that was invalidated in the second: they have one tag. */
        load_root(test, 0, 0, true);
        touch_all(test, PAGING_READ);
        for (unsigned turn = 1; turn < 10; turn++) {
            load_root(test, turn % 2 * PAGE_SIZE, 0, true);
            assert_int_equal(touch_all(test, PAGING_WRITE), mode == VTLB_BASE ? WARM_PAGES / 8 : 0);
        }
        check_everything(test);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_spaces),
        cmocka_unit_test(random_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
