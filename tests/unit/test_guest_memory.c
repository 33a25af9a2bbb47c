// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/guest_memory.c against a plain array with a mask of what may be reached. Fails when a byte outside the
 * map or without the right is touched, when an access ends elsewhere than at the first such byte, or when
 * pieces land at wrong places.
 */
#include "mm/guest_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mm/p2m.h"

#define OWNER      FRAME_OWNER_PARTITION
#define PAGES      64 /* of guest-physical space that the test uses */
#define GUEST_SIZE (PAGES * PAGE_SIZE)
#define RW         (PAGING_READ | PAGING_WRITE)

static uint64_t random_state = 0x9ddfea08eb382d69;

static uint64_t random_below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % limit;
}

struct guest {
    unsigned char *host; /* frames, mapped in another order */
    struct frame_extent extents[4];
    struct frame_pool pool;
    struct p2m_region regions[PAGES];
    struct p2m p2m;
    struct stage_chain memory;
    uint8_t rights[PAGES]; /* 0: a hole */
    unsigned char model[GUEST_SIZE];
};

static void map_pages(struct guest *guest, unsigned first, unsigned count, unsigned host_page, uint8_t rights)
{
    struct p2m_region region = {GPA(first * PAGE_SIZE),
                                HPA((uint64_t)(uintptr_t)guest->host + host_page * PAGE_SIZE),
                                count * PAGE_SIZE, rights, MEMORY_TYPE_WB};

    assert_int_equal(p2m_add(&guest->p2m, &region), 0);
    memset(&guest->rights[first], rights, count);
}

static struct guest *make_guest(void)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    assert_non_null(guest);
    guest->host = aligned_alloc(PAGE_SIZE, GUEST_SIZE);
    assert_non_null(guest->host);
    memset(guest->host, 0, GUEST_SIZE);
    frame_pool_init(&guest->pool, guest->extents, ARRAY_SIZE(guest->extents), NULL);
    hpa_t base = HPA((uint64_t)(uintptr_t)guest->host);
    assert_int_equal(frame_pool_add(&guest->pool, base, GUEST_SIZE, FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&guest->pool, base, GUEST_SIZE, OWNER), 0);
    p2m_init(&guest->p2m, guest->regions, PAGES, &guest->pool, OWNER);
    guest->memory = (struct stage_chain){.stages = {&guest->p2m.stage}, .count = 1};

    map_pages(guest, 0, 10, 40, RW);
    map_pages(guest, 10, 2, 20, PAGING_READ);
    map_pages(guest, 12, 4, 4, RW);
    /* 16 to 19, 38 to 59: holes */
    map_pages(guest, 20, 18, 22, RW); /* begins with the pages after those at 10 */
    map_pages(guest, 60, 4, 0, RW);
    return guest;
}

static void free_guest(struct guest *guest)
{
    free(guest->host);
    free(guest);
}

/* How many of [address, address + size) come before the first that `right` does not reach. */
static size_t reachable(const struct guest *guest, uint64_t address, size_t size, uint8_t right)
{
    size_t n = 0;

    while (n < size && address + n < GUEST_SIZE && (guest->rights[(address + n) / PAGE_SIZE] & right) != 0)
        n++;
    return n;
}

static void check_transfer(const struct guest *guest, const struct guest_transfer *transfer, uint64_t address,
                           size_t size, size_t expected)
{
    assert_int_equal(transfer->done, expected);
    assert_int_equal(transfer->outcome, expected == size ? STAGE_DONE : STAGE_NO_MEMORY);
    if (expected < size) {
        assert_int_equal(transfer->fault.address, address + expected);
        assert_ptr_equal(transfer->fault.stage, &guest->p2m.stage);
    }
}

static void random_accesses(void **state)
{
    struct guest *guest = make_guest();
    unsigned char *buffer = malloc(GUEST_SIZE);
    (void)state;

    for (int n = 0; n < 20000; n++) {
        uint64_t address = random_below(GUEST_SIZE);
        size_t size = random_below(random_below(3) == 0 ? 6 * PAGE_SIZE : 64);
        struct guest_transfer transfer;
        size_t expected;

        switch (random_below(4)) {
        case 0:
            expected = reachable(guest, address, size, PAGING_READ);
            memset(buffer, 0xee, size);
            assert_int_equal(guest_memory_read(&guest->memory, GPA(address), buffer, size, &transfer),
                             expected == size ? 0 : -EFAULT);
            assert_memory_equal(buffer, guest->model + address, expected);
            for (size_t i = expected; i < size; i++)
                assert_int_equal(buffer[i], 0xee);
            break;
        case 1:
            expected = reachable(guest, address, size, PAGING_WRITE);
            for (size_t i = 0; i < size; i++)
                buffer[i] = (unsigned char)random_below(256);
            assert_int_equal(guest_memory_write(&guest->memory, GPA(address), buffer, size, &transfer),
                             expected == size ? 0 : -EFAULT);
            memcpy(guest->model + address, buffer, expected);
            break;
        case 2:
            expected = reachable(guest, address, size, PAGING_WRITE);
            uint8_t byte = (uint8_t)random_below(256);
            assert_int_equal(guest_memory_fill(&guest->memory, GPA(address), byte, size, &transfer),
                             expected == size ? 0 : -EFAULT);
            memset(guest->model + address, byte, expected);
            break;
        default:
            expected = reachable(guest, address, size, PAGING_WRITE);
            assert_int_equal(guest_memory_check(&guest->memory, GPA(address), size, RW),
                             expected == size ? 0 : -EFAULT);
            continue;
        }
        check_transfer(guest, &transfer, address, size, expected);
    }

    /*
     * Every page, at its place in the host, is what the model says; host pages that nothing maps were not
     * touched.
     */
    for (unsigned page = 0; page < PAGES; page++) {
        struct translation t;
        if (p2m_lookup(&guest->p2m, GPA(page * PAGE_SIZE), &t))
            assert_memory_equal((void *)(uintptr_t)t.address, guest->model + page * PAGE_SIZE, PAGE_SIZE);
    }
    for (size_t i = 8 * PAGE_SIZE; i < 20 * PAGE_SIZE; i++)
        assert_int_equal(guest->host[i], 0);
    free(buffer);
    free_guest(guest);
}

static void ends_of_the_address_space(void **state)
{
    struct guest *guest = make_guest();
    unsigned char byte[2];
    (void)state;

    assert_int_equal(guest_memory_read(&guest->memory, GPA(UINT64_MAX), byte, 2, NULL), -EFAULT);
    assert_int_equal(guest_memory_read(&guest->memory, GPA(GUEST_SIZE - 1), byte, 2, NULL), -EFAULT);
    assert_int_equal(guest_memory_read(&guest->memory, GPA(GUEST_SIZE - 1), byte, 1, NULL), 0);
    assert_int_equal(guest_memory_write(&guest->memory, GPA(10 * PAGE_SIZE), byte, 1, NULL), -EFAULT);
    assert_int_equal(guest_memory_write(&guest->memory, GPA(16 * PAGE_SIZE), byte, 0, NULL), 0);
    assert_int_equal(guest_memory_check(&guest->memory, GPA(10 * PAGE_SIZE), 1, PAGING_READ), 0);
    assert_int_equal(guest_memory_check(&guest->memory, GPA(10 * PAGE_SIZE), 1, PAGING_EXECUTE), -EFAULT);
    free_guest(guest);
}

static void entries(void **state)
{
    struct guest *guest = make_guest();
    struct stage_fault fault;
    uint64_t value = 0, expected;
    bool exchanged;
    (void)state;

    value = 0x1122334455667788;
    assert_int_equal(guest_memory_write(&guest->memory, GPA(0xff8), &value, 8, NULL), 0);
    assert_int_equal(guest_memory_load(&guest->memory, GPA(0xff8), 8, &value, &fault), STAGE_DONE);
    assert_int_equal(value, 0x1122334455667788);
    assert_int_equal(guest_memory_load(&guest->memory, GPA(0xffc), 4, &value, &fault), STAGE_DONE);
    assert_int_equal(value, 0x11223344);

    expected = 0x1122334455667788;
    assert_int_equal(guest_memory_exchange(&guest->memory, GPA(0xff8), 8, &expected, 5, &exchanged, &fault),
                     STAGE_DONE);
    assert_true(exchanged);
    assert_int_equal(guest_memory_exchange(&guest->memory, GPA(0xff8), 8, &expected, 6, &exchanged, &fault),
                     STAGE_DONE);
    assert_false(exchanged);
    assert_int_equal(expected, 5);
    expected = 0;
    assert_int_equal(guest_memory_exchange(&guest->memory, GPA(0xffc), 4, &expected, 7, &exchanged, &fault),
                     STAGE_DONE);
    assert_true(exchanged);
    expected = 1;
    assert_int_equal(guest_memory_exchange(&guest->memory, GPA(0xffc), 4, &expected, 8, &exchanged, &fault),
                     STAGE_DONE);
    assert_false(exchanged);
    assert_int_equal(expected, 7);
    assert_int_equal(guest_memory_load(&guest->memory, GPA(0xff8), 8, &value, &fault), STAGE_DONE);
    assert_int_equal(value, 0x700000005);

    /* A read-only page can be loaded from, not exchanged in; a hole neither. */
    assert_int_equal(guest_memory_load(&guest->memory, GPA(10 * PAGE_SIZE), 8, &value, &fault), STAGE_DONE);
    expected = 0;
    assert_int_equal(
        guest_memory_exchange(&guest->memory, GPA(10 * PAGE_SIZE), 8, &expected, 1, &exchanged, &fault),
        STAGE_NO_MEMORY);
    assert_int_equal(guest_memory_load(&guest->memory, GPA(17 * PAGE_SIZE), 4, &value, &fault),
                     STAGE_NO_MEMORY);
    assert_int_equal(fault.address, 17 * PAGE_SIZE);
    free_guest(guest);
}

/* ---- Linear addresses: a stage of the test, which turns pages round and answers as it is told ---- */

struct mirror {
    struct stage stage;
    uint64_t refused_page;
    enum stage_outcome outcome;
    unsigned last_access;
};

static enum stage_outcome mirror_walk(const struct stage *stage, uint64_t address, unsigned access,
                                      struct translation *translation, struct stage_fault *fault)
{
    struct mirror *mirror = container_of(stage, struct mirror, stage);

    mirror->last_access = access;
    if (address / PAGE_SIZE == mirror->refused_page) {
        *fault = (struct stage_fault){.stage = stage, .address = address, .error_code = 5};
        return mirror->outcome;
    }
    *translation = (struct translation){
        .address = (9 - address / PAGE_SIZE) * PAGE_SIZE + address % PAGE_SIZE,
        .rights = PAGING_RIGHTS,
        .memory_type = MEMORY_TYPE_WB,
        .page_shift = PAGE_SHIFT,
    };
    return STAGE_DONE;
}

static void linear_addresses(void **state)
{
    struct guest *guest = make_guest();
    struct mirror mirror = {.stage = {.walk = mirror_walk}, .refused_page = 3, .outcome = STAGE_FAULT};
    struct stage_chain linear = {.stages = {&mirror.stage, &guest->p2m.stage}, .count = 2};
    struct guest_transfer transfer;
    unsigned char buffer[16] = "0123456789abcde";
    unsigned char back[16] = {0};
    (void)state;

    assert_int_equal(guest_linear_write(&linear, GLA(0xffc), buffer, 16, PAGING_USER, &transfer), 0);
    assert_int_equal(mirror.last_access, PAGING_WRITE | PAGING_USER);
    assert_int_equal(guest_memory_read(&guest->memory, GPA(9 * PAGE_SIZE + 0xffc), back, 4, NULL), 0);
    assert_int_equal(guest_memory_read(&guest->memory, GPA(8 * PAGE_SIZE), back + 4, 12, NULL), 0);
    assert_memory_equal(back, buffer, 16);
    memset(back, 0, sizeof(back));
    assert_int_equal(guest_linear_read(&linear, GLA(0xffc), back, 16, STAGE_ACCESS_AC, &transfer), 0);
    assert_int_equal(mirror.last_access, PAGING_READ | STAGE_ACCESS_AC);
    assert_memory_equal(back, buffer, 16);

    /* The bytes before a fault are there, and the fault says where it was. */
    assert_int_equal(guest_linear_read(&linear, GLA(0x2ffb), back, 15, 0, &transfer), -EFAULT);
    assert_int_equal(transfer.done, 5);
    assert_int_equal(transfer.outcome, STAGE_FAULT);
    assert_int_equal(transfer.fault.address, 0x3000);
    assert_int_equal(transfer.fault.error_code, 5);
    assert_int_equal(guest_linear_check(&linear, GLA(0x2ffb), 15, PAGING_WRITE | PAGING_USER, &transfer),
                     -EFAULT);
    assert_int_equal(transfer.done, 5);
    assert_int_equal(mirror.last_access, PAGING_WRITE | PAGING_USER);
    assert_int_equal(guest_linear_check(&linear, GLA(0x2ffb), 5, PAGING_WRITE, NULL), 0);
    assert_int_equal(guest_linear_read(&linear, GLA(0x2ffb), back, 5, 0, NULL), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(back[i], 0); /* the check wrote nothing */
    mirror.outcome = STAGE_AGAIN;
    assert_int_equal(guest_linear_read(&linear, GLA(0x2ffb), back, 15, 0, &transfer), -EAGAIN);
    /* A fetch needs the right to execute from the p2m too, which gives none here. */
    assert_int_equal(guest_linear_read(&linear, GLA(0), back, 15, PAGING_EXECUTE, &transfer), -EFAULT);
    assert_ptr_equal(transfer.fault.stage, &guest->p2m.stage);
    free_guest(guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_accesses),
        cmocka_unit_test(ends_of_the_address_space),
        cmocka_unit_test(entries),
        cmocka_unit_test(linear_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
