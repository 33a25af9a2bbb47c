// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/p2m.c against a model with one array element a page. Fails when a lookup tells another frame, right or
 * type than was added, a page larger than what is alike and aligned in both spaces, or a smaller one than it
 * might; when an overlap or a frame of another owner gets in; when an error leaves a change behind.
 */
#include "mm/p2m.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OWNER     (FRAME_OWNER_PARTITION + 3)
#define ALL       (PAGING_READ | PAGING_WRITE | PAGING_EXECUTE)
#define PAGE_2M   MIB(2)
#define PAGES_2M  (MIB(2) / PAGE_SIZE)
#define GUEST_MAX (6 * PAGES_2M) /* pages of the random model's guest */

static uint64_t random_state = 0x2545f4914f6cdd1d;

static uint64_t random_below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % limit;
}

/* A pool where the partition owns [start, end) and another one the 16 MiB after it. */
static void make_pool(struct frame_pool *pool, struct frame_extent *extents, size_t capacity, uint64_t start,
                      uint64_t end)
{
    frame_pool_init(pool, extents, capacity, NULL);
    assert_int_equal(frame_pool_add(pool, HPA(start), end - start + MIB(16), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(pool, HPA(start), end - start, OWNER), 0);
    assert_int_equal(frame_claim(pool, HPA(end), MIB(16), OWNER + 1), 0);
}

struct page {
    bool present;
    uint64_t hpa;
    uint8_t rights, type;
};

static bool same_page(const struct page *pages, uint64_t first, uint64_t count)
{
    if (!is_aligned(pages[first].hpa, count * PAGE_SIZE))
        return false;
    for (uint64_t i = first; i < first + count; i++)
        if (!pages[i].present || pages[i].hpa != pages[first].hpa + (i - first) * PAGE_SIZE ||
            pages[i].rights != pages[first].rights || pages[i].type != pages[first].type)
            return false;
    return true;
}

static void check_against_model(const struct p2m *p2m, const struct page *pages)
{
    for (uint64_t i = 0; i < GUEST_MAX; i++) {
        uint64_t gpa = i * PAGE_SIZE + random_below(PAGE_SIZE);
        struct translation t, walked;
        struct stage_fault fault;

        assert_int_equal(p2m_lookup(p2m, GPA(gpa), &t), pages[i].present);
        assert_int_equal(p2m_find(p2m, GPA(gpa)) != NULL, pages[i].present);
        for (unsigned access = 1; access <= PAGING_RIGHTS; access++) {
            bool allowed = pages[i].present && (access & ALL & ~pages[i].rights) == 0;
            assert_int_equal(p2m->stage.walk(&p2m->stage, gpa, access, &walked, &fault),
                             allowed ? STAGE_DONE : STAGE_NO_MEMORY);
            if (!allowed) {
                assert_ptr_equal(fault.stage, &p2m->stage);
                assert_int_equal(fault.address, gpa);
            }
        }
        if (!pages[i].present)
            continue;
        assert_int_equal(t.address, pages[i].hpa + gpa % PAGE_SIZE);
        assert_int_equal(t.rights, pages[i].rights | PAGING_USER);
        assert_int_equal(t.memory_type, pages[i].type);
        bool large = same_page(pages, i / PAGES_2M * PAGES_2M, PAGES_2M);
        assert_int_equal(t.page_shift, large ? PAGE_SHIFT_2M : PAGE_SHIFT);
    }
}

static void random_regions(void **state)
{
    static const uint8_t types[] = {MEMORY_TYPE_WB, MEMORY_TYPE_WB, MEMORY_TYPE_UC, MEMORY_TYPE_WC};
    static const uint8_t rights[] = {ALL, ALL, ALL, PAGING_READ, PAGING_READ | PAGING_EXECUTE};
    const uint64_t host = GIB(1), host_end = GIB(1) + MIB(16);
    struct page *pages = calloc(GUEST_MAX, sizeof(*pages));
    (void)state;

    for (int round = 0; round < 300; round++) {
        struct frame_extent extents[8];
        struct frame_pool pool;
        size_t capacity = 1 + random_below(40);
        struct p2m_region *regions = calloc(capacity, sizeof(*regions));
        struct p2m p2m;

        memset(pages, 0, GUEST_MAX * sizeof(*pages));
        make_pool(&pool, extents, ARRAY_SIZE(extents), host, host_end);
        p2m_init(&p2m, regions, capacity, &pool, OWNER);
        for (int n = 0; n < 60; n++) {
            uint64_t first = random_below(GUEST_MAX);
            uint64_t count = 1 + random_below(random_below(2) ? 8 : PAGES_2M * 2);
            uint64_t hpa = host + (first % PAGES_2M) * PAGE_SIZE + random_below(7) * PAGE_2M;
            struct p2m_region region = {.rights = rights[random_below(ARRAY_SIZE(rights))],
                                        .memory_type = types[random_below(ARRAY_SIZE(types))]};
            int expected = 0;

            if (random_below(4) == 0)
                hpa = host + random_below(MIB(17) / PAGE_SIZE) * PAGE_SIZE; /* out of step, perhaps foreign */
            if (random_below(3) == 0 && p2m.count > 0) {
                /* Continue a region, so that there is something to merge. */
                const struct p2m_region *before = &p2m.regions[random_below(p2m.count)];
                first = (before->gpa.value + before->size) / PAGE_SIZE;
                hpa = before->hpa.value + before->size;
                region = *before;
            }
            if (first >= GUEST_MAX)
                continue;
            count = min_u64(count, GUEST_MAX - first);
            region.gpa = GPA(first * PAGE_SIZE);
            region.hpa = HPA(hpa);
            region.size = count * PAGE_SIZE;

            for (uint64_t i = first; i < first + count; i++)
                if (pages[i].present)
                    expected = -EEXIST;
            if (expected == 0 && (hpa < host || hpa + region.size > host_end))
                expected = -EPERM;

            struct p2m_region before[64];
            size_t count_before = p2m.count;
            memcpy(before, regions, count_before * sizeof(*regions));
            int result = p2m_add(&p2m, &region);
            if (expected == 0 && result == -ENOSPC)
                assert_int_equal(p2m.count, capacity);
            else
                assert_int_equal(result, expected);
            if (result != 0) {
                assert_int_equal(p2m.count, count_before);
                assert_memory_equal(regions, before, count_before * sizeof(*regions));
                continue;
            }
            for (uint64_t i = first; i < first + count; i++)
                pages[i] =
                    (struct page){true, hpa + (i - first) * PAGE_SIZE, region.rights, region.memory_type};
        }
        check_against_model(&p2m, pages);
        for (size_t i = 1; i < p2m.count; i++) {
            const struct p2m_region *a = &regions[i - 1], *b = &regions[i];
            assert_true(a->gpa.value + a->size <= b->gpa.value);
            /* What could be one region is one. */
            assert_false(a->gpa.value + a->size == b->gpa.value && a->hpa.value + a->size == b->hpa.value &&
                         a->rights == b->rights && a->memory_type == b->memory_type);
        }
        free(regions);
    }
    free(pages);
}

static void bad_regions(void **state)
{
    static const struct {
        struct p2m_region region;
        int error;
    } cases[] = {
        {{GPA(0), HPA(GIB(1)), 0, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(1), HPA(GIB(1)), PAGE_SIZE, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(0), HPA(GIB(1) + 8), PAGE_SIZE, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(0), HPA(GIB(1)), PAGE_SIZE + 1, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(BIT(48)), HPA(GIB(1)), PAGE_SIZE, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(BIT(48) - PAGE_SIZE), HPA(GIB(1)), 2 * PAGE_SIZE, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(PAGE_SIZE), HPA(GIB(1)), UINT64_MAX - PAGE_SIZE + 1, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(0), HPA(BIT(52)), PAGE_SIZE, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(0), HPA(BIT(52) - PAGE_SIZE), 2 * PAGE_SIZE, ALL, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(0), HPA(GIB(1)), PAGE_SIZE, PAGING_WRITE, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(0), HPA(GIB(1)), PAGE_SIZE, 0, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(0), HPA(GIB(1)), PAGE_SIZE, ALL | PAGING_USER, MEMORY_TYPE_WB}, -EINVAL},
        {{GPA(0), HPA(GIB(1)), PAGE_SIZE, ALL, MEMORY_TYPE_UC_MINUS}, -EINVAL},
        {{GPA(0), HPA(GIB(1)), PAGE_SIZE, ALL, 2}, -EINVAL},
        {{GPA(0), HPA(GIB(1)), PAGE_SIZE, ALL, 8}, -EINVAL},
        {{GPA(0), HPA(GIB(1) - PAGE_SIZE), PAGE_SIZE, ALL, MEMORY_TYPE_WB}, -EPERM},
        {{GPA(0), HPA(GIB(1) + MIB(16)), PAGE_SIZE, ALL, MEMORY_TYPE_WB}, -EPERM},
        {{GPA(0), HPA(GIB(1) + MIB(16) - PAGE_SIZE), PAGE_SIZE * 2, ALL, MEMORY_TYPE_WB}, -EPERM},
        {{GPA(0), HPA(GIB(1) + MIB(16) - PAGE_SIZE), PAGE_SIZE, ALL, MEMORY_TYPE_WB}, 0},
        {{GPA(BIT(48) - PAGE_SIZE), HPA(GIB(1)), PAGE_SIZE, ALL, MEMORY_TYPE_WB}, 0},
    };
    struct frame_extent extents[8];
    struct p2m_region regions[4];
    struct frame_pool pool;
    struct p2m p2m;
    struct translation t;
    (void)state;

    make_pool(&pool, extents, ARRAY_SIZE(extents), GIB(1), GIB(1) + MIB(16));
    p2m_init(&p2m, regions, ARRAY_SIZE(regions), &pool, OWNER);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(p2m_add(&p2m, &cases[i].region), cases[i].error);
    assert_int_equal(p2m.count, 2);
    assert_false(p2m_lookup(&p2m, GPA(UINT64_MAX), &t));
    assert_false(p2m_lookup(&p2m, GPA(PAGE_SIZE), &t));
}

/* 1-GiB pages: only where a whole one is alike and aligned. */
static void gigabyte_pages(void **state)
{
    static const struct {
        uint64_t gpa;
        unsigned shift; /* 0: no memory */
    } cases[] = {
        {0, PAGE_SHIFT},
        {0x9ffff, PAGE_SHIFT},
        {0xa0000, 0},
        {0x100000, PAGE_SHIFT},
        {0x1fffff, PAGE_SHIFT},
        {0x200000, PAGE_SHIFT_2M},
        {GIB(1) - 1, PAGE_SHIFT_2M},
        {GIB(1), PAGE_SHIFT_1G},
        {GIB(3) - 1, PAGE_SHIFT_1G},
        {GIB(3), 0},
        {GIB(4), PAGE_SHIFT_1G},
        {GIB(5), PAGE_SHIFT_2M},
        {GIB(5) + MIB(4) - 1, PAGE_SHIFT_2M},
        {GIB(5) + MIB(4), PAGE_SHIFT},
        {GIB(5) + MIB(4) + KIB(8), 0},
        {GIB(8), PAGE_SHIFT_2M}, /* aligned to 2 MiB, not to 1 GiB, in the host */
        {GIB(8) + GIB(1), PAGE_SHIFT_2M},
    };
    struct frame_extent extents[8];
    struct p2m_region regions[8];
    struct frame_pool pool;
    struct p2m p2m;
    (void)state;

    make_pool(&pool, extents, ARRAY_SIZE(extents), GIB(2), GIB(16));
    p2m_init(&p2m, regions, ARRAY_SIZE(regions), &pool, OWNER);
    const struct p2m_region added[] = {
        {GPA(0), HPA(GIB(2)), 0xa0000, ALL, MEMORY_TYPE_WB},
        {GPA(0x100000), HPA(GIB(2) + 0x100000), GIB(3) - 0x100000, ALL, MEMORY_TYPE_WB},
        {GPA(GIB(4)), HPA(GIB(8)), GIB(1) + MIB(4) + KIB(8), ALL, MEMORY_TYPE_WB},
        {GPA(GIB(8)), HPA(GIB(10) + MIB(2)), GIB(3), ALL, MEMORY_TYPE_WB},
    };
    for (size_t i = 0; i < ARRAY_SIZE(added); i++)
        assert_int_equal(p2m_add(&p2m, &added[i]), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct translation t = {0};
        assert_int_equal(p2m_lookup(&p2m, GPA(cases[i].gpa), &t), cases[i].shift != 0);
        assert_int_equal(t.page_shift, cases[i].shift);
    }
}

/* Fails when a shared region gets in as the partition's own or as another's, or melts into what lies beside
 * it. */
static void shared_regions(void **state)
{
    const uint16_t owner = FRAME_OWNER_SHARED + 7;
    const uint64_t own = GIB(1), shared = GIB(1) + MIB(4), other = GIB(1) + MIB(8);
    struct frame_extent extents[8];
    struct p2m_region regions[8];
    struct frame_pool pool;
    struct p2m p2m;
    struct translation t;
    (void)state;

    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), NULL);
    assert_int_equal(frame_pool_add(&pool, HPA(own), MIB(16), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&pool, HPA(own), MIB(4), OWNER), 0);
    assert_int_equal(frame_claim(&pool, HPA(shared), MIB(4), owner), 0);
    assert_int_equal(frame_claim(&pool, HPA(other), MIB(4), owner + 1), 0);
    p2m_init(&p2m, regions, ARRAY_SIZE(regions), &pool, OWNER);

    struct p2m_region region = {GPA(GIB(3)), HPA(shared), MIB(4), ALL, MEMORY_TYPE_WB};
    assert_int_equal(p2m_add(&p2m, &region), -EPERM);
    assert_int_equal(p2m_add_shared(&p2m, &region, owner + 1), -EPERM);
    assert_int_equal(p2m_add_shared(&p2m, &region, OWNER), -EINVAL);
    assert_int_equal(p2m_add_shared(&p2m, &region, FRAME_OWNER_UMBRA), -EINVAL);
    assert_int_equal(p2m_add_shared(&p2m, &region, FRAME_OWNER_SHARED - 1), -EINVAL);
    assert_int_equal(p2m_add_shared(&p2m, &region, FRAME_OWNER_PARTITION), -EINVAL);
    region.size += PAGE_SIZE;
    assert_int_equal(p2m_add_shared(&p2m, &region, owner), -EPERM);
    region.size -= PAGE_SIZE;
    assert_int_equal(p2m.count, 0);

    /* Memory of three owners that goes on in both spaces: three regions. */
    region = (struct p2m_region){GPA(GIB(3) - MIB(4)), HPA(own), MIB(4), ALL, MEMORY_TYPE_WB};
    assert_int_equal(p2m_add(&p2m, &region), 0);
    region = (struct p2m_region){GPA(GIB(3) + MIB(4)), HPA(other), MIB(4), ALL, MEMORY_TYPE_WB};
    assert_int_equal(p2m_add_shared(&p2m, &region, owner + 1), 0);
    region = (struct p2m_region){GPA(GIB(3)), HPA(shared), MIB(4), ALL, MEMORY_TYPE_WB};
    assert_int_equal(p2m_add_shared(&p2m, &region, owner), 0);
    assert_int_equal(p2m_add_shared(&p2m, &region, owner), -EEXIST);
    assert_int_equal(p2m.count, 3);
    assert_false(p2m_region_is_shared(&p2m, p2m_find(&p2m, GPA(GIB(3) - 1))));
    assert_true(p2m_region_is_shared(&p2m, p2m_find(&p2m, GPA(GIB(3)))));
    assert_true(p2m_region_is_shared(&p2m, p2m_find(&p2m, GPA(GIB(3) + MIB(4)))));
    assert_true(p2m_lookup(&p2m, GPA(GIB(3) + 5), &t));
    assert_true(t.address == shared + 5 && t.page_shift == PAGE_SHIFT_2M);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_regions),
        cmocka_unit_test(gigabyte_pages),
        cmocka_unit_test(shared_regions),
        cmocka_unit_test(random_regions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
