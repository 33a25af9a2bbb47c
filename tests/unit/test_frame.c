// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/frame.c: fixed cases, and random streams of operations against a model with one array element a frame.
 * Fails when a frame has another owner than the model says, when extents are unsorted, unmerged or
 * overlapping, when an error leaves a change behind, when an allocation is not the lowest that fits, when a
 * frame becomes free before it was cleared, or when memory that is only dirty is not told from none.
 */
#include "mm/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t random_below(uint64_t limit)
{
    return (random_next() >> 11) % limit;
}

/* ---- The model ---- */

#define MODEL_FIRST  128 /* frame number: half of the model lies below 1 MiB */
#define MODEL_FRAMES 256
#define LOW_FRAMES   (FRAME_LOW_MEMORY / PAGE_SIZE)

static uint16_t model[MODEL_FRAMES];
static bool written[MODEL_FRAMES]; /* holds what an owner wrote */
static uint64_t zeroed;            /* frames cleared by the last step */

static hpa_t frame_address(uint64_t i)
{
    return HPA((MODEL_FIRST + i) * PAGE_SIZE);
}

static void model_zero(hpa_t base, uint64_t size)
{
    for (uint64_t at = base.value; at < base.value + size; at += PAGE_SIZE) {
        uint64_t i = at / PAGE_SIZE - MODEL_FIRST;
        assert_true(i < MODEL_FRAMES);
        assert_int_equal(model[i], FRAME_OWNER_DIRTY);
        written[i] = false;
        zeroed++;
    }
}

static size_t model_runs(void)
{
    size_t runs = 0;

    for (size_t i = 0; i < MODEL_FRAMES; i++)
        if (model[i] != FRAME_OWNER_NONE && (i == 0 || model[i] != model[i - 1]))
            runs++;
    return runs;
}

/* Makes [first, first + count) `owner`'s unless that needs more than `capacity` extents. */
static int model_assign(size_t first, size_t count, uint16_t owner, size_t capacity)
{
    uint16_t before[MODEL_FRAMES];

    memcpy(before, model, sizeof(model));
    for (size_t i = first; i < first + count; i++)
        model[i] = owner;
    if (model_runs() > capacity) {
        memcpy(model, before, sizeof(model));
        return -ENOSPC;
    }
    for (size_t i = first; i < first + count; i++)
        written[i] |= owner >= FRAME_OWNER_UMBRA;
    return 0;
}

static bool model_all(size_t first, size_t count, uint16_t owner, uint16_t or_owner)
{
    for (size_t i = first; i < first + count; i++)
        if (model[i] != owner && model[i] != or_owner)
            return false;
    return true;
}

/* The lowest run of frames that are free, or `or_owner`'s, in *first; false if there is none. */
static bool model_find(uint64_t frames, uint64_t alignment, uint64_t below, uint16_t or_owner, size_t *first)
{
    for (size_t i = 0; i + frames <= MODEL_FRAMES; i++) {
        uint64_t number = MODEL_FIRST + i;
        if (number % alignment != 0 || number + frames > below || (number < LOW_FRAMES && below > LOW_FRAMES))
            continue;
        if (model_all(i, frames, FRAME_OWNER_FREE, or_owner)) {
            *first = i;
            return true;
        }
    }
    return false;
}

static int model_allocate(uint64_t frames, uint64_t alignment, uint64_t below, size_t *first)
{
    size_t dirty;

    if (model_find(frames, alignment, below, FRAME_OWNER_FREE, first))
        return 0;
    return model_find(frames, alignment, below, FRAME_OWNER_DIRTY, &dirty) ? -EAGAIN : -ENOMEM;
}

static void assert_same(const struct frame_pool *pool)
{
    uint64_t at = 0;
    size_t i = 0;

    assert_int_equal(pool->count, model_runs());
    for (size_t e = 0; e < pool->count; e++) {
        const struct frame_extent *extent = &pool->extents[e];
        assert_true(extent->start >= at && extent->end > extent->start);
        assert_true(extent->start >= frame_address(0).value &&
                    extent->end <= frame_address(MODEL_FRAMES).value);
        at = extent->end;
        while (frame_address(i).value < extent->start)
            assert_int_equal(model[i++], FRAME_OWNER_NONE);
        while (i < MODEL_FRAMES && frame_address(i).value < extent->end)
            assert_int_equal(model[i++], extent->owner);
    }
    while (i < MODEL_FRAMES)
        assert_int_equal(model[i++], FRAME_OWNER_NONE);
}

/* ---- Random operations, each on both ---- */

static uint16_t random_owner(void)
{
    return (uint16_t)(FRAME_OWNER_UMBRA + random_below(6));
}

static void random_range(size_t *first, size_t *count)
{
    *first = random_below(MODEL_FRAMES);
    *count = 1 + random_below(min_u64(MODEL_FRAMES - *first, random_below(4) == 0 ? MODEL_FRAMES : 12));
}

static void do_claim(struct frame_pool *pool)
{
    size_t first, count;
    uint16_t owner = random_owner();
    int expected = -EBUSY;

    random_range(&first, &count);
    uint64_t skip = random_below(PAGE_SIZE); /* rounded outward */
    uint64_t cut = count > 1 ? random_below(PAGE_SIZE) : 0;
    uint64_t size = count * PAGE_SIZE - skip - cut;
    if (model_all(first, count, FRAME_OWNER_FREE, owner))
        expected = model_assign(first, count, owner, pool->capacity);
    assert_int_equal(frame_claim(pool, HPA(frame_address(first).value + skip), size, owner), expected);
}

static void do_allocate(struct frame_pool *pool)
{
    uint64_t frames = 1 + random_below(random_below(4) == 0 ? 64 : 5);
    unsigned shift = (unsigned)random_below(5);
    uint64_t below =
        random_below(3) == 0 ? MODEL_FIRST + random_below(MODEL_FRAMES + 1) : UINT64_MAX / PAGE_SIZE;
    hpa_t limit = below == UINT64_MAX / PAGE_SIZE ? FRAME_ANYWHERE : HPA(below * PAGE_SIZE);
    uint16_t owner = random_owner();
    size_t first = 0;
    hpa_t base = HPA(0);

    int expected = model_allocate(frames, 1ULL << shift, below, &first);
    if (expected == 0)
        expected = model_assign(first, frames, owner, pool->capacity);
    assert_int_equal(frame_allocate(pool, owner, frames, shift == 0 ? 0 : PAGE_SHIFT + shift, limit, &base),
                     expected);
    if (expected == 0)
        assert_int_equal(base.value, frame_address(first).value);
}

static void do_allocate_partition(struct frame_pool *pool)
{
    struct frame_piece pieces[4];
    uint64_t frames = 1 + random_below(40);
    uint16_t owner = (uint16_t)(FRAME_OWNER_PARTITION + random_below(3));
    uint64_t available = 0, dirty = 0, total = 0;
    size_t count = 0;

    for (size_t i = LOW_FRAMES - MODEL_FIRST; i < MODEL_FRAMES; i++) {
        available += model[i] == FRAME_OWNER_FREE;
        dirty += model[i] == FRAME_OWNER_DIRTY;
    }
    int result = frame_allocate_partition(pool, owner, frames, pieces, ARRAY_SIZE(pieces), &count);
    if (available + dirty < frames)
        assert_int_equal(result, -ENOMEM);
    else if (available < frames)
        assert_int_equal(result, -EAGAIN);
    else if (result != 0)
        assert_int_equal(result, dirty > 0 ? -EAGAIN : -ENOSPC);
    if (result != 0)
        return;
    for (size_t p = 0; p < count; p++) {
        size_t first = pieces[p].base.value / PAGE_SIZE - MODEL_FIRST;
        size_t n = pieces[p].size / PAGE_SIZE;
        assert_true(pieces[p].base.value >= FRAME_LOW_MEMORY && first + n <= MODEL_FRAMES);
        assert_true(model_all(first, n, FRAME_OWNER_FREE, FRAME_OWNER_FREE));
        assert_int_equal(model_assign(first, n, owner, MODEL_FRAMES), 0);
        total += n;
    }
    assert_int_equal(total, frames);
}

static void do_allocate_at(struct frame_pool *pool)
{
    struct frame_obstacle obstacle = {HPA(0), 0};
    uint16_t owner = random_owner();
    size_t first, count, bad;
    int expected;

    random_range(&first, &count);
    for (bad = first; bad < first + count && model_all(bad, 1, FRAME_OWNER_FREE, FRAME_OWNER_DIRTY);)
        bad++;
    if (bad < first + count)
        expected = -EBUSY;
    else if (!model_all(first, count, FRAME_OWNER_FREE, FRAME_OWNER_FREE))
        expected = -EAGAIN;
    else
        expected = model_assign(first, count, owner, pool->capacity);
    assert_int_equal(frame_allocate_at(pool, owner, frame_address(first), count * PAGE_SIZE, &obstacle),
                     expected);
    if (expected == -EBUSY) {
        assert_int_equal(obstacle.frame.value, frame_address(bad).value);
        assert_int_equal(obstacle.owner, model[bad]);
    }
}

static void do_release(struct frame_pool *pool)
{
    size_t first, count;

    random_range(&first, &count);
    uint16_t owner = random_below(8) == 0 ? random_owner() : model[first];
    int expected = -EPERM;
    if (owner < FRAME_OWNER_UMBRA)
        expected = -EINVAL;
    else if (model_all(first, count, owner, owner))
        expected = model_assign(first, count, FRAME_OWNER_DIRTY, pool->capacity);
    assert_int_equal(frame_release(pool, frame_address(first), count * PAGE_SIZE, owner), expected);
}

static void do_release_all(struct frame_pool *pool)
{
    uint16_t owner = random_owner();
    uint64_t count = 0;

    for (size_t i = 0; i < MODEL_FRAMES; i++) {
        if (model[i] == owner) {
            model[i] = FRAME_OWNER_DIRTY;
            count++;
        }
    }
    assert_int_equal(frame_release_all(pool, owner), count);
}

static void do_scrub(struct frame_pool *pool)
{
    uint64_t budget = random_below(20);
    bool dirty = false;

    zeroed = 0;
    uint64_t cleared = frame_scrub_step(pool, budget);
    assert_int_equal(cleared, zeroed);
    assert_true(cleared <= budget);
    for (size_t i = 0; i < MODEL_FRAMES; i++) {
        if (model[i] != FRAME_OWNER_DIRTY)
            continue;
        model[i] = frame_owner_of(pool, frame_address(i));
        assert_true(model[i] == FRAME_OWNER_DIRTY || (model[i] == FRAME_OWNER_FREE && !written[i]));
        dirty |= model[i] == FRAME_OWNER_DIRTY;
    }
    assert_true(cleared == budget || !dirty);
}

static void do_ask(struct frame_pool *pool)
{
    size_t first, count;
    uint64_t counted = 0, run = 0, largest = 0;

    random_range(&first, &count);
    uint16_t owner = model[first];
    assert_int_equal(frame_owner_of(pool, HPA(frame_address(first).value + random_below(PAGE_SIZE))), owner);
    assert_int_equal(frame_is_owned(pool, frame_address(first), count * PAGE_SIZE, owner),
                     owner != FRAME_OWNER_NONE && model_all(first, count, owner, owner));
    for (size_t i = 0; i < MODEL_FRAMES; i++) {
        counted += model[i] == owner;
        run = model[i] == FRAME_OWNER_FREE && MODEL_FIRST + i >= LOW_FRAMES ? run + 1 : 0;
        largest = max_u64(largest, run);
    }
    assert_int_equal(frame_total(pool, owner), owner == FRAME_OWNER_NONE ? 0 : counted);
    assert_int_equal(frame_largest_free(pool), largest);
}

/* The ranges that could be had, and their text, cut or not. */
static void do_list(struct frame_pool *pool)
{
    char whole[MODEL_FRAMES * 24] = "", text[200], *part;
    size_t n = 0, size = 8 + random_below(sizeof(text) - 8);
    hpa_t base;
    uint64_t bytes;

    for (size_t i = 0; i < MODEL_FRAMES;) {
        size_t end = i;
        while (end < MODEL_FRAMES && model_all(end, 1, FRAME_OWNER_FREE, FRAME_OWNER_DIRTY))
            end++;
        if (end > i) {
            assert_true(frame_free_range(pool, n++, &base, &bytes));
            assert_int_equal(base.value, frame_address(i).value);
            assert_int_equal(bytes, (end - i) * PAGE_SIZE);
            sprintf(whole + strlen(whole), "%s0x%lx to 0x%lx", n > 1 ? ", " : "", base.value,
                    base.value + bytes - 1);
        }
        i = end + 1;
    }
    assert_false(frame_free_range(pool, n, &base, &bytes));

    part = malloc(size); /* one byte more is an ASan error */
    assert_non_null(part);
    assert_ptr_equal(frame_free_text(pool, part, size), part);
    if (n == 0) {
        assert_string_equal(part, "none");
    } else if (strlen(whole) < size) {
        assert_string_equal(part, whole);
    } else {
        size_t cut = strlen(part);
        assert_true(cut < size && cut >= 3);
        assert_string_equal(part + cut - 3, "...");
        assert_memory_equal(part, whole, cut - 3);
    }
    free(part);
}

/* A memory map in random order: memory inward, devices outward and on top. */
static void do_map(struct frame_pool *pool)
{
    bool device[MODEL_FRAMES] = {0};

    memset(model, 0, sizeof(model));
    memset(written, 0, sizeof(written));
    for (int n = 0; n < 8; n++) {
        size_t first, count;
        random_range(&first, &count);
        uint64_t skip = random_below(2) * random_below(PAGE_SIZE);
        uint64_t cut = random_below(2) * random_below(PAGE_SIZE);
        uint64_t size = count * PAGE_SIZE;
        size = size > skip + cut ? size - skip - cut : 1;
        hpa_t base = HPA(frame_address(first).value + skip);
        bool is_device = random_below(3) == 0;

        assert_int_equal(frame_pool_add(pool, base, size, is_device ? FRAME_OWNER_DEVICE : FRAME_OWNER_FREE),
                         0);
        for (size_t i = 0; i < MODEL_FRAMES; i++) {
            uint64_t start = frame_address(i).value, end = start + PAGE_SIZE;
            if (is_device && start < base.value + size && end > base.value)
                device[i] = true;
            if (!is_device && start >= base.value && end <= base.value + size)
                model[i] = FRAME_OWNER_FREE;
        }
    }
    for (size_t i = 0; i < MODEL_FRAMES; i++)
        if (device[i])
            model[i] = FRAME_OWNER_DEVICE;
}

static void random_streams(void **state)
{
    static void (*const operations[])(struct frame_pool *) = {
        do_claim, do_allocate, do_allocate, do_allocate, do_release, do_release, do_scrub, do_scrub,
    };
    (void)state;

    random_state = 0x9e3779b97f4a7c15;
    for (int stream = 0; stream < 1000; stream++) {
        struct frame_extent *extents = calloc(64, sizeof(*extents));
        struct frame_pool pool;

        frame_pool_init(&pool, extents, 64, model_zero);
        do_map(&pool);
        assert_same(&pool);
        /* From here on extents are scarce, exactly as many as were allocated: one more is an ASan error. */
        pool.capacity = pool.count + random_below(10);
        pool.extents = realloc(extents, (pool.capacity > 0 ? pool.capacity : 1) * sizeof(*extents));
        assert_non_null(pool.extents);
        for (int n = 0; n < 1000; n++) {
            uint64_t choice = random_below(100);
            if (choice == 0)
                do_release_all(&pool);
            else if (choice < 4)
                do_allocate_partition(&pool);
            else if (choice < 10)
                do_ask(&pool);
            else if (choice < 11)
                do_list(&pool);
            else if (choice < 18)
                do_allocate_at(&pool);
            else
                operations[choice % ARRAY_SIZE(operations)](&pool);
            assert_same(&pool);
        }
        free(pool.extents);
    }
}

/* ---- Fixed cases ---- */

static void never_called(hpa_t base, uint64_t size)
{
    (void)base, (void)size;
    fail();
}

static void do_nothing(hpa_t base, uint64_t size)
{
    (void)base, (void)size;
}

/*
 * A partition's memory: one piece with the largest alignment that holds it; or the largest aligned pieces
 * there are.
 */
static void partition_pieces(void **state)
{
    struct frame_extent extents[16];
    struct frame_piece pieces[8];
    struct frame_pool pool;
    size_t count;
    (void)state;

    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), never_called);
    assert_int_equal(frame_pool_add(&pool, HPA(0), KIB(640), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(1)), MIB(2047), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_pool_add(&pool, HPA(GIB(4)), GIB(2), FRAME_OWNER_FREE), 0);

    /* The smaller extent that holds it, from its top. */
    assert_int_equal(
        frame_allocate_partition(&pool, FRAME_OWNER_PARTITION, MIB(256) / PAGE_SIZE, pieces, 8, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(pieces[0].base.value, MIB(2048 - 256));
    assert_int_equal(pieces[0].size, MIB(256));

    /* 1.5 GiB in one piece on a multiple of 1 GiB. */
    assert_int_equal(
        frame_allocate_partition(&pool, FRAME_OWNER_PARTITION + 1, MIB(1536) / PAGE_SIZE, pieces, 8, &count),
        0);
    assert_int_equal(count, 1);
    assert_int_equal(pieces[0].base.value, GIB(4));

    /* What is left: 1 MiB to 1792 MiB, and 5.5 GiB to 6 GiB. 2 GiB and a page of it. */
    assert_int_equal(frame_allocate_partition(&pool, FRAME_OWNER_PARTITION + 2, MIB(2048) / PAGE_SIZE + 1,
                                              pieces, 8, &count),
                     0);
    assert_int_equal(count, 2);
    assert_int_equal(pieces[0].base.value, MIB(2));
    assert_int_equal(pieces[0].size, MIB(1790));
    assert_int_equal(pieces[1].base.value, GIB(6) - MIB(260));
    assert_int_equal(pieces[1].size, MIB(258) + PAGE_SIZE);

    /* Too much, or in too many pieces: nothing changes, nothing becomes dirty. */
    size_t before = pool.count;
    uint64_t left = frame_total(&pool, FRAME_OWNER_FREE) - KIB(640) / PAGE_SIZE;
    assert_int_equal(frame_allocate_partition(&pool, FRAME_OWNER_PARTITION + 3, left + 1, pieces, 8, &count),
                     -ENOMEM);
    assert_int_equal(frame_allocate_partition(&pool, FRAME_OWNER_PARTITION + 3, left, pieces, 1, &count),
                     -ENOSPC);
    assert_int_equal(pool.count, before);
    assert_int_equal(frame_total(&pool, FRAME_OWNER_DIRTY), 0);
    assert_int_equal(frame_allocate_partition(&pool, FRAME_OWNER_PARTITION + 3, left, pieces, 8, &count), 0);
    assert_int_equal(frame_total(&pool, FRAME_OWNER_FREE), KIB(640) / PAGE_SIZE);
}

/* Memory at a fixed place: the whole of it, cleared if it was used, and a refusal that says why. */
static void fixed_place(void **state)
{
    struct frame_extent extents[16];
    struct frame_obstacle obstacle;
    struct frame_piece pieces[4];
    struct frame_pool pool;
    char text[128];
    size_t count;
    (void)state;

    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), never_called);
    assert_string_equal(frame_free_text(&pool, text, sizeof(text)), "none");
    assert_int_equal(frame_pool_add(&pool, HPA(0), KIB(640), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(1)), MIB(63), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&pool, HPA(MIB(2)), MIB(2), FRAME_OWNER_UMBRA), 0);
    assert_string_equal(frame_free_text(&pool, text, sizeof(text)),
                        "0x0 to 0x9ffff, 0x100000 to 0x1fffff, 0x400000 to 0x3ffffff");
    assert_string_equal(frame_free_text(&pool, text, 60),
                        "0x0 to 0x9ffff, 0x100000 to 0x1fffff, 0x400000 to 0x3ffffff");
    assert_string_equal(frame_free_text(&pool, text, 59), "0x0 to 0x9ffff, 0x100000 to 0x1fffff, ...");
    assert_string_equal(frame_free_text(&pool, text, 8), "...");

    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_PARTITION, HPA(MIB(1)), MIB(8), &obstacle), -EBUSY);
    assert_int_equal(obstacle.frame.value, MIB(2));
    assert_string_equal(frame_owner_text(obstacle.owner), "Umbra");
    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_PARTITION, HPA(MIB(60)), MIB(8), &obstacle),
                     -EBUSY);
    assert_int_equal(obstacle.frame.value, MIB(64));
    assert_string_equal(frame_owner_text(obstacle.owner), "no memory");
    assert_string_equal(frame_owner_text(FRAME_OWNER_SHARED + 3), "a shared region");
    assert_string_equal(frame_owner_text(FRAME_OWNER_PARTITION + 3), "a partition");

    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_PARTITION, HPA(MIB(8)), MIB(8), &obstacle), 0);
    assert_true(frame_is_owned(&pool, HPA(MIB(8)), MIB(8), FRAME_OWNER_PARTITION));
    assert_int_equal(frame_release_all(&pool, FRAME_OWNER_PARTITION), MIB(8) / PAGE_SIZE);

    /* Dirty: nobody gets it, whichever way he asks, until it is cleared. */
    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_PARTITION, HPA(MIB(15)), MIB(8), &obstacle),
                     -EAGAIN);
    assert_int_equal(
        frame_allocate_partition(&pool, FRAME_OWNER_PARTITION, MIB(60) / PAGE_SIZE, pieces, 4, &count),
        -EAGAIN);
    assert_int_equal(
        frame_allocate_partition(&pool, FRAME_OWNER_PARTITION, MIB(53) / PAGE_SIZE, pieces, 2, &count),
        -EAGAIN);
    assert_int_equal(
        frame_allocate_partition(&pool, FRAME_OWNER_PARTITION, MIB(62) / PAGE_SIZE, pieces, 4, &count),
        -ENOMEM);
    hpa_t base;
    assert_int_equal(frame_allocate(&pool, FRAME_OWNER_UMBRA, MIB(50) / PAGE_SIZE, 0, FRAME_ANYWHERE, &base),
                     -EAGAIN);
    assert_int_equal(frame_allocate(&pool, FRAME_OWNER_UMBRA, MIB(61) / PAGE_SIZE, 0, FRAME_ANYWHERE, &base),
                     -ENOMEM);
    assert_string_equal(frame_free_text(&pool, text, sizeof(text)),
                        "0x0 to 0x9ffff, 0x100000 to 0x1fffff, 0x400000 to 0x3ffffff");
    pool.zero = do_nothing;
    while (frame_scrub_step(&pool, 100) > 0)
        ;
    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_PARTITION, HPA(MIB(15)), MIB(8), &obstacle), 0);
}

/* A partition that starts and stops over and over: every time the same frames, and all come back. */
static void lives(void **state)
{
    struct frame_extent extents[8];
    struct frame_piece pieces[4];
    struct frame_pool pool;
    size_t count;
    (void)state;

    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), do_nothing);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(1)), MIB(20), FRAME_OWNER_FREE), 0);
    for (int n = 0; n < 1000; n++) {
        int error;
        while ((error = frame_allocate_partition(&pool, FRAME_OWNER_PARTITION, MIB(16) / PAGE_SIZE, pieces, 4,
                                                 &count)) == -EAGAIN)
            assert_true(frame_scrub_step(&pool, 1000) > 0);
        assert_int_equal(error, 0);
        assert_int_equal(pieces[0].base.value, MIB(4));
        assert_int_equal(frame_total(&pool, FRAME_OWNER_FREE), MIB(4) / PAGE_SIZE);
        assert_int_equal(frame_release_all(&pool, FRAME_OWNER_PARTITION), MIB(16) / PAGE_SIZE);
    }
    assert_int_equal(frame_total(&pool, FRAME_OWNER_FREE) + frame_total(&pool, FRAME_OWNER_DIRTY),
                     MIB(20) / PAGE_SIZE);
}

static void bad_arguments(void **state)
{
    struct frame_obstacle obstacle;
    struct frame_extent extents[4];
    struct frame_piece piece;
    struct frame_pool pool;
    size_t count;
    hpa_t base;
    (void)state;

    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), never_called);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(1)), MIB(1), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(8)), 0, FRAME_OWNER_FREE), -EINVAL);
    assert_int_equal(frame_pool_add(&pool, HPA(UINT64_MAX - 100), 200, FRAME_OWNER_DEVICE), -EINVAL);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(8)), MIB(1), FRAME_OWNER_UMBRA), -EINVAL);
    assert_int_equal(frame_claim(&pool, HPA(MIB(1)), PAGE_SIZE, FRAME_OWNER_DIRTY), -EINVAL);
    assert_int_equal(frame_claim(&pool, HPA(MIB(2) - PAGE_SIZE), 2 * PAGE_SIZE, FRAME_OWNER_MODULE), -EBUSY);
    assert_int_equal(frame_allocate(&pool, FRAME_OWNER_FREE, 1, 0, FRAME_ANYWHERE, &base), -EINVAL);
    assert_int_equal(frame_allocate(&pool, FRAME_OWNER_UMBRA, 0, 0, FRAME_ANYWHERE, &base), -EINVAL);
    assert_int_equal(frame_allocate(&pool, FRAME_OWNER_UMBRA, 1, 64, FRAME_ANYWHERE, &base), -EINVAL);
    assert_int_equal(frame_allocate(&pool, FRAME_OWNER_UMBRA, 1, 63, FRAME_ANYWHERE, &base), -ENOMEM);
    assert_int_equal(
        frame_allocate(&pool, FRAME_OWNER_UMBRA, UINT64_MAX / PAGE_SIZE + 1, 0, FRAME_ANYWHERE, &base),
        -EINVAL);
    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_FREE, HPA(MIB(1)), PAGE_SIZE, &obstacle), -EINVAL);
    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_UMBRA, HPA(MIB(1)), 0, &obstacle), -EINVAL);
    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_UMBRA, HPA(MIB(1)), 1, &obstacle), -EINVAL);
    assert_int_equal(frame_allocate_at(&pool, FRAME_OWNER_UMBRA, HPA(MIB(1) + 1), PAGE_SIZE, &obstacle),
                     -EINVAL);
    assert_int_equal(
        frame_allocate_at(&pool, FRAME_OWNER_UMBRA, HPA(MIB(1)), UINT64_MAX - PAGE_SIZE + 1, &obstacle),
        -EINVAL);
    assert_int_equal(frame_allocate_partition(&pool, FRAME_OWNER_UMBRA, 1, &piece, 1, &count), -EINVAL);
    assert_int_equal(frame_allocate_partition(&pool, FRAME_OWNER_PARTITION, 0, &piece, 1, &count), -EINVAL);
    assert_int_equal(frame_release(&pool, HPA(MIB(1) + 1), PAGE_SIZE, FRAME_OWNER_UMBRA), -EINVAL);
    assert_int_equal(frame_release(&pool, HPA(MIB(1)), 0, FRAME_OWNER_UMBRA), -EINVAL);
    assert_int_equal(frame_release_all(&pool, FRAME_OWNER_FREE), 0);
    assert_false(frame_is_owned(&pool, HPA(MIB(1)), 0, FRAME_OWNER_FREE));
    assert_false(frame_is_owned(&pool, HPA(MIB(1)), UINT64_MAX, FRAME_OWNER_FREE));
    assert_int_equal(pool.count, 1);
}

/* Memory of the map that fills several gaps, with too few extents for them: refused whole. */
static void map_needs_extents(void **state)
{
    struct frame_extent extents[5];
    struct frame_pool pool;
    (void)state;

    frame_pool_init(&pool, extents, 4, never_called);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(2)), MIB(1), FRAME_OWNER_DEVICE), 0);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(4)), MIB(1), FRAME_OWNER_DEVICE), 0);
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(1)), MIB(5), FRAME_OWNER_FREE), -ENOSPC);
    assert_int_equal(pool.count, 2);
    pool.capacity = 5;
    assert_int_equal(frame_pool_add(&pool, HPA(MIB(1)), MIB(5), FRAME_OWNER_FREE), 0);
    assert_int_equal(pool.count, 5);
    assert_int_equal(frame_total(&pool, FRAME_OWNER_FREE), MIB(3) / PAGE_SIZE);
}

/* Without a callback the memory itself is cleared, through the physical map. */
static void scrub_clears_memory(void **state)
{
    struct frame_extent extents[4];
    struct frame_pool pool;
    unsigned char *memory = aligned_alloc(PAGE_SIZE, 4 * PAGE_SIZE);
    hpa_t base = HPA((uint64_t)(uintptr_t)memory);
    (void)state;

    assert_non_null(memory);
    memset(memory, 0x5a, 4 * PAGE_SIZE);
    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), NULL);
    assert_int_equal(frame_pool_add(&pool, base, 4 * PAGE_SIZE, FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&pool, HPA(base.value + PAGE_SIZE), 2 * PAGE_SIZE, FRAME_OWNER_PARTITION),
                     0);
    assert_int_equal(frame_release_all(&pool, FRAME_OWNER_PARTITION), 2);
    assert_int_equal(frame_scrub_step(&pool, 1), 1);
    assert_int_equal(frame_total(&pool, FRAME_OWNER_DIRTY), 2);
    assert_int_equal(frame_scrub_step(&pool, 5), 1);
    assert_int_equal(frame_scrub_step(&pool, 5), 0);
    assert_int_equal(pool.count, 1);
    for (size_t i = 0; i < 4 * PAGE_SIZE; i++)
        assert_int_equal(memory[i], i / PAGE_SIZE == 1 || i / PAGE_SIZE == 2 ? 0 : 0x5a);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition_pieces),
        cmocka_unit_test(fixed_place),
        cmocka_unit_test(lives),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(map_needs_extents),
        cmocka_unit_test(scrub_clears_memory),
        cmocka_unit_test(random_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
