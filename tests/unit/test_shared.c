// SPDX-License-Identifier: BSD-2-Clause
/* core/shared.c: who gets which memory and which number, who hears whom, and what is given back. */
#include "core/shared.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GUESTS 3
#define POOL   MIB(16)
#define APIC   0xfee00000ULL
#define NAMED(n, s)                                                                                          \
    {                                                                                                        \
        .name = {n, sizeof(n) - 1}, .size = (s)                                                              \
    }

static struct frame_extent extents[256];
static struct frame_pool pool;
static uint8_t *memory;

static struct guest {
    struct shared_ends ends;
    struct p2m p2m;
    struct p2m_region regions[8];
    struct pci pci;
    unsigned delivered;
    struct lapic_message last;
} guests[GUESTS];

static void deliver(void *context, const struct lapic_message *message)
{
    struct guest *guest = context;

    guest->last = *message;
    guest->delivered++;
}

static int build(unsigned n, const struct config_partition *config)
{
    static const struct msix_ops ops = {.deliver = deliver};
    struct guest *guest = &guests[n];
    const struct shared_partition partition = {
        .frames = &pool, .p2m = &guest->p2m, .pci = &guest->pci, .msix_ops = &ops, .msix_context = guest};
    const char *why = NULL;
    int error;

    memset(guest, 0, sizeof(*guest));
    p2m_init(&guest->p2m, guest->regions, ARRAY_SIZE(guest->regions), &pool,
             (uint16_t)(FRAME_OWNER_PARTITION + n));
    pci_init(&guest->pci);
    error = shared_build(&guest->ends, config, &partition, &why);
    assert_true(error == 0 || (why != NULL && strlen(why) > 10));
    return error;
}

static int set_up(void **state)
{
    (void)state;
    memory = aligned_alloc(MIB(2), POOL);
    memset(memory, 0xa5, POOL);
    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), NULL);
    assert_int_equal(frame_pool_add(&pool, HPA((uintptr_t)memory), POOL, FRAME_OWNER_FREE), 0);
    return 0;
}

/* Fails when a region or a frame of one is left over. */
static int tear_down(void **state)
{
    struct shared_report report;

    (void)state;
    for (unsigned i = 0; i < GUESTS; i++)
        shared_release(&guests[i].ends, &pool);
    assert_false(shared_report(0, &report));
    while (frame_scrub_step(&pool, UINT64_MAX) != 0)
        ;
    assert_int_equal(frame_total(&pool, FRAME_OWNER_FREE), POOL / PAGE_SIZE);
    free(memory);
    return 0;
}

/* Programs and unmasks vector `vector` of the function of `guest` number `index`, as its driver would. */
static void arm(struct guest *guest, unsigned index, unsigned vector, uint32_t data)
{
    struct pci_function *function = &guest->ends.ends[index].device.function;
    gpa_t entry = GPA(function->bars[IVSHMEM_BAR_MSIX].address + 16 * vector);

    assert_true(pci_mmio_write(&guest->pci, entry, 8, APIC));
    assert_true(pci_mmio_write(&guest->pci, GPA(entry.value + 8), 8, data));
    pci_write(&guest->pci, 0, 4, 0x80000000 | (index + 1) << 11 | function->msix_capability);
    pci_write(&guest->pci, 6, 2, MSIX_ENABLE);
}

static void write_doorbell(struct guest *guest, unsigned index, uint32_t value)
{
    uint64_t regs = guest->ends.ends[index].device.function.bars[IVSHMEM_BAR_REGS].address;

    assert_true(pci_mmio_write(&guest->pci, GPA(regs + IVSHMEM_DOORBELL), 4, value));
}

static uint64_t host_address(const struct guest *guest, unsigned index)
{
    struct translation t;

    assert_true(p2m_lookup(&guest->p2m, ivshmem_memory_address(&guest->ends.ends[index].device), &t));
    return t.address;
}

/* Fails when members do not see the same memory, others do, or it is not where and how BAR2 says. */
static void same_memory(void **state)
{
    static const struct config_partition two = {.shared = {NAMED("mail", MIB(4)), NAMED("news", KIB(4))},
                                                .shared_count = 2};
    static const struct config_partition one = {.shared = {NAMED("news", KIB(4))}, .shared_count = 1};
    struct shared_report report;

    (void)state;
    assert_int_equal(build(0, &two), 0);
    assert_int_equal(build(1, &one), 0);
    assert_int_equal(build(2, &two), 0);
    assert_true(host_address(&guests[0], 0) == host_address(&guests[2], 0));
    assert_true(host_address(&guests[0], 1) == host_address(&guests[1], 0));
    assert_true(host_address(&guests[0], 1) == host_address(&guests[2], 1));
    assert_true(is_aligned(host_address(&guests[0], 0), MIB(2)));
    assert_int_equal(guests[1].p2m.count, 1);
    assert_int_equal(guests[0].p2m.count, 2);
    assert_int_equal(guests[0].regions[0].size + guests[0].regions[1].size, MIB(4) + KIB(4));

    assert_true(shared_report(0, &report));
    assert_string_equal(report.name, "mail");
    assert_int_equal(report.size, MIB(4));
    assert_int_equal(report.members, 2);
    assert_true(report.base.value == host_address(&guests[0], 0));
    assert_true(shared_report(1, &report));
    assert_string_equal(report.name, "news");
    assert_int_equal(report.members, 3);
    assert_false(shared_report(2, &report));
    assert_int_equal(frame_total(&pool, FRAME_OWNER_SHARED), MIB(4) / PAGE_SIZE);
    assert_int_equal(frame_total(&pool, FRAME_OWNER_SHARED + 1), 1);

    /* In the order in which they came. */
    for (unsigned i = 0; i < GUESTS; i++)
        assert_int_equal(guests[i].ends.ends[i == 1 ? 0 : 1].peer, i);
    assert_int_equal(guests[2].ends.ends[0].peer, 1);

    /* Where a guest has moved the BAR, the device reaches the same bytes. */
    pci_write(&guests[1].pci, 0, 4, 0x8000081c);
    pci_write(&guests[1].pci, 4, 4, 1);
    uint64_t moved = BIT(32) | guests[1].ends.ends[0].device.function.bars[2].address;
    assert_true(pci_mmio_write(&guests[1].pci, GPA(moved + 8), 8, 0x1122334455667788));
    assert_true(*(uint64_t *)(uintptr_t)(host_address(&guests[0], 1) + 8) == 0x1122334455667788);
}

/* Fails when memory of before is seen, what members have written is lost, or a step does more than it may. */
static void cleared_once(void **state)
{
    static const struct config_partition two = {
        .shared = {NAMED("a", KIB(64)), NAMED("b", 0), NAMED("c", KIB(64))}, .shared_count = 3};
    static const uint8_t zeros[KIB(64)];
    uint8_t *a, *c;
    unsigned steps = 1;

    (void)state;
    assert_int_equal(build(0, &two), 0);
    a = (uint8_t *)(uintptr_t)host_address(&guests[0], 0);
    c = (uint8_t *)(uintptr_t)host_address(&guests[0], 2);
    assert_false(shared_clear_step(&guests[0].ends, 0));
    assert_false(shared_clear_step(&guests[0].ends, KIB(24)));
    assert_int_equal(a[KIB(24) - 1], 0);
    assert_int_equal(a[KIB(24)], 0xa5);
    while (!shared_clear_step(&guests[0].ends, KIB(24)))
        steps++;
    assert_int_equal(steps, 5);
    assert_memory_equal(a, zeros, sizeof(zeros));
    assert_memory_equal(c, zeros, sizeof(zeros));

    a[5] = 5;
    assert_true(shared_clear_step(&guests[0].ends, 0));
    assert_int_equal(build(1, &two), 0);
    assert_true(shared_clear_step(&guests[1].ends, UINT64_MAX));
    shared_release(&guests[0].ends, &pool);
    assert_int_equal(build(0, &two), 0);
    assert_true(shared_clear_step(&guests[0].ends, UINT64_MAX));
    assert_int_equal(a[5], 5);
    assert_true(a == (uint8_t *)(uintptr_t)host_address(&guests[0], 0));

    /* With the last member it goes; what comes next under the name is clear again. */
    shared_release(&guests[0].ends, &pool);
    shared_release(&guests[1].ends, &pool);
    assert_int_equal(frame_total(&pool, FRAME_OWNER_DIRTY), 2 * KIB(64) / PAGE_SIZE);
    while (frame_scrub_step(&pool, UINT64_MAX) != 0)
        ;
    assert_int_equal(build(2, &two), 0);
    assert_false(shared_clear_step(&guests[2].ends, 1));
}

/* Fails when a ring reaches somebody else, nobody, or a partition that does not listen; or its number moves.
 */
static void rings(void **state)
{
    static const struct config_partition two = {.shared = {NAMED("x", 0), NAMED("y", KIB(4))},
                                                .shared_count = 2};

    (void)state;
    for (unsigned i = 0; i < GUESTS; i++) {
        assert_int_equal(build(i, &two), 0);
        arm(&guests[i], 0, 3, 0x40 + i);
        arm(&guests[i], 1, 3, 0x50 + i);
    }
    /* Nobody listens yet. */
    assert_int_equal(shared_ring(&guests[0].ends, 0, 1, 3), -ENOENT);
    write_doorbell(&guests[0], 0, 1 << 16 | 3);
    assert_int_equal(guests[1].delivered, 0);
    for (unsigned i = 0; i < GUESTS; i++)
        shared_listen(&guests[i].ends, true);
    for (unsigned from = 0; from < GUESTS; from++) {
        for (unsigned to = 0; to < GUESTS; to++) {
            for (unsigned region = 0; region < 2; region++) {
                unsigned before[GUESTS];

                for (unsigned i = 0; i < GUESTS; i++)
                    before[i] = guests[i].delivered;
                if ((from + to) % 2 == 0)
                    assert_int_equal(shared_ring(&guests[from].ends, region, to, 3), 0);
                else
                    write_doorbell(&guests[from], region, to << 16 | 3);
                for (unsigned i = 0; i < GUESTS; i++)
                    assert_int_equal(guests[i].delivered, before[i] + (i == to));
                assert_int_equal(guests[to].last.vector, 0x40 + 0x10 * region + to);
            }
        }
    }
    /* Arguments beyond everything. */
    unsigned before = guests[0].delivered + guests[1].delivered + guests[2].delivered;
    assert_int_equal(shared_ring(&guests[0].ends, 2, 1, 3), -EINVAL);
    assert_int_equal(shared_ring(&guests[0].ends, BIT(32), 1, 3), -EINVAL);
    assert_int_equal(shared_ring(&guests[0].ends, 0, 1, IVSHMEM_VECTORS), -EINVAL);
    assert_int_equal(shared_ring(&guests[0].ends, 0, 1, BIT(32) | 3), -EINVAL);
    assert_int_equal(shared_ring(&guests[0].ends, 0, 3, 3), -ENOENT);
    assert_int_equal(shared_ring(&guests[0].ends, 0, CONFIG_PARTITIONS_MAX, 3), -ENOENT);
    assert_int_equal(shared_ring(&guests[0].ends, 0, BIT(32) | 1, 3), -ENOENT);
    assert_int_equal(shared_ring(&guests[0].ends, 0, 1, 2), 0); /* masked: it waits */
    write_doorbell(&guests[0], 0, 0xffff0003);
    write_doorbell(&guests[0], 0, 0x00010008);
    assert_int_equal(guests[0].delivered + guests[1].delivered + guests[2].delivered, before);

    /* One stops listening, one leaves; the third keeps its number, and the free one is given again. */
    shared_listen(&guests[1].ends, false);
    assert_int_equal(shared_ring(&guests[0].ends, 0, 1, 3), -ENOENT);
    shared_release(&guests[0].ends, &pool);
    assert_int_equal(shared_ring(&guests[1].ends, 0, 0, 3), -ENOENT);
    assert_int_equal(shared_ring(&guests[1].ends, 0, 2, 3), 0);
    assert_int_equal(shared_ring(&guests[0].ends, 0, 2, 3), -EINVAL);
    assert_int_equal(build(0, &two), 0);
    assert_int_equal(guests[0].ends.ends[0].peer, 0);
    assert_int_equal(guests[0].delivered, 0);
}

/* Fails when a partition that cannot have a region gets it half, or leaves something behind. */
static void refusals(void **state)
{
    static const struct config_partition good = {.shared = {NAMED("a", KIB(64))}, .shared_count = 1};
    static const struct config_partition bad[] = {
        {.shared = {NAMED("b", KIB(4)), NAMED("a", KIB(128))}, .shared_count = 2},
        {.shared = {NAMED("b", KIB(4)), NAMED("a", 0)}, .shared_count = 2},
        {.shared = {NAMED("b", KIB(4)), NAMED("b", KIB(4))}, .shared_count = 2},
        {.shared = {NAMED("b", KIB(4)), NAMED("c", MIB(32))}, .shared_count = 2},
        {.shared = {NAMED("b", KIB(4)), NAMED("a-name-that-no-parser-lets-through", 0)}, .shared_count = 2},
    };
    static const int errors[] = {-EINVAL, -EINVAL, -EEXIST, -ENOMEM, -EINVAL};
    static struct guest crowd[CONFIG_PARTITIONS_MAX];
    struct shared_report report;

    (void)state;
    assert_int_equal(build(0, &good), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(build(1, &bad[i]), errors[i]);
        assert_int_equal(guests[1].ends.count, 0);
        assert_true(shared_report(0, &report));
        assert_int_equal(report.members, 1);
        assert_false(shared_report(1, &report));
        while (frame_scrub_step(&pool, UINT64_MAX) != 0)
            ;
        assert_int_equal(frame_total(&pool, FRAME_OWNER_FREE), (POOL - KIB(64)) / PAGE_SIZE);
    }

    /* More than one region has room for, and the bus of one that is full. */
    const char *why;
    for (unsigned i = 0; i < ARRAY_SIZE(crowd); i++) {
        const struct shared_partition partition = {
            .frames = &pool, .p2m = &crowd[i].p2m, .pci = &crowd[i].pci};

        p2m_init(&crowd[i].p2m, crowd[i].regions, ARRAY_SIZE(crowd[i].regions), &pool, FRAME_OWNER_PARTITION);
        pci_init(&crowd[i].pci);
        assert_int_equal(shared_build(&crowd[i].ends, &good, &partition, &why),
                         i + 1 < ARRAY_SIZE(crowd) ? 0 : -ENOSPC);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(crowd); i++)
        shared_release(&crowd[i].ends, &pool);
    const struct shared_partition small = {.frames = &pool, .p2m = &guests[1].p2m, .pci = &guests[1].pci};
    p2m_init(&guests[1].p2m, guests[1].regions, 0, &pool, FRAME_OWNER_PARTITION);
    pci_init(&guests[1].pci);
    assert_int_equal(shared_build(&guests[1].ends, &good, &small, &why), -ENOSPC);
    pci_init(&guests[1].pci);
    static struct pci_function other[PCI_DEVICES_MAX];
    static const struct pci_identity identity = {.vendor = 1};
    for (unsigned i = 0; i < PCI_DEVICES_MAX - 1; i++) {
        pci_function_init(&other[i], &identity, NULL);
        assert_int_equal(pci_add(&guests[1].pci, &other[i]), 0);
    }
    assert_int_equal(shared_build(&guests[1].ends, &good, &small, &why), -ENOSPC);
    assert_true(shared_report(0, &report));
    assert_int_equal(report.members, 1);
}

/* Fails when there is no end to regions, or the 65th takes another's place. */
static void many_regions(void **state)
{
    static struct guest crowd[SHARED_REGIONS_MAX + 1];
    const char *why;
    struct shared_report report;

    (void)state;
    for (unsigned i = 0; i <= SHARED_REGIONS_MAX; i++) {
        char name[] = {(char)('a' + i / 10), (char)('0' + i % 10)};
        const struct config_partition config = {.shared = {{.name = {name, 2}, .size = PAGE_SIZE}},
                                                .shared_count = 1};
        const struct shared_partition partition = {
            .frames = &pool, .p2m = &crowd[i].p2m, .pci = &crowd[i].pci};

        p2m_init(&crowd[i].p2m, crowd[i].regions, 1, &pool, FRAME_OWNER_PARTITION);
        pci_init(&crowd[i].pci);
        assert_int_equal(shared_build(&crowd[i].ends, &config, &partition, &why),
                         i < SHARED_REGIONS_MAX ? 0 : -ENOSPC);
        assert_true(shared_report(0, &report));
        assert_string_equal(report.name, "a0");
    }
    for (unsigned i = 0; i <= SHARED_REGIONS_MAX; i++)
        shared_release(&crowd[i].ends, &pool);
}

static bool race_over;

static void *ring_for_ever(void *argument)
{
    while (!__atomic_load_n(&race_over, __ATOMIC_SEQ_CST)) {
        int error = shared_ring(argument, 0, 1, 3);

        assert_true(error == 0 || error == -ENOENT);
        sched_yield();
    }
    return NULL;
}

/* Fails (the address sanitizer sees it) when somebody is still ringing a partition that has left. */
static void leaving_under_rings(void **state)
{
    static const struct config_partition config = {.shared = {NAMED("x", 0)}, .shared_count = 1};
    static const struct msix_ops ops = {.deliver = deliver};
    pthread_t ringer;
    const char *why;

    (void)state;
    assert_int_equal(build(0, &config), 0);
    race_over = false;
    assert_int_equal(pthread_create(&ringer, NULL, ring_for_ever, &guests[0].ends), 0);
    for (unsigned i = 0; i < 500; i++) {
        struct guest *guest = calloc(1, sizeof(*guest));
        const struct shared_partition partition = {
            .frames = &pool, .p2m = &guest->p2m, .pci = &guest->pci, .msix_ops = &ops, .msix_context = guest};

        pci_init(&guest->pci);
        assert_int_equal(shared_build(&guest->ends, &config, &partition, &why), 0);
        assert_int_equal(guest->ends.ends[0].peer, 1);
        arm(guest, 0, 3, 0x41);
        shared_listen(&guest->ends, true);
        while (__atomic_load_n(&guest->delivered, __ATOMIC_RELAXED) < 3)
            sched_yield();
        shared_listen(&guest->ends, false);
        unsigned delivered = guest->delivered;
        sched_yield();
        assert_int_equal(guest->delivered, delivered);
        shared_release(&guest->ends, &pool);
        free(guest);
    }
    __atomic_store_n(&race_over, true, __ATOMIC_SEQ_CST);
    pthread_join(ringer, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cleared_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_regions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leaving_under_rings, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
