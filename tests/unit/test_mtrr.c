// SPDX-License-Identifier: BSD-2-Clause
/*
 * arch/x86/mtrr.c against a model that asks for each 4 KiB page by itself, with the rules of SDM vol. 3,
 * "Memory type range registers", one after the other. Fails when a type, a precedence or a boundary is wrong.
 */
#include "arch/x86/mtrr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arch/x86/msr.h"

/* The type of one page, rule by rule. */
static uint8_t model_type(const struct mtrr *m, uint64_t page)
{
    unsigned seen = 0;

    if (!m->enabled)
        return MEMORY_TYPE_UC;
    if (m->fixed_enabled && page < 0x80000)
        return (uint8_t)(m->fixed[0] >> (page / 0x10000 * 8));
    if (m->fixed_enabled && page < 0xc0000)
        return (uint8_t)(m->fixed[1 + (page - 0x80000) / 0x20000] >>
                         ((page - 0x80000) % 0x20000 / 0x4000 * 8));
    if (m->fixed_enabled && page < 0x100000)
        return (uint8_t)(m->fixed[3 + (page - 0xc0000) / 0x8000] >> ((page - 0xc0000) % 0x8000 / 0x1000 * 8));
    for (unsigned i = 0; i < m->variable_count; i++) {
        uint64_t mask = m->variable[i].mask & m->address_mask & ~0xfffULL;
        if ((m->variable[i].mask & MTRR_PHYSMASK_VALID) != 0 && (page & mask) == (m->variable[i].base & mask))
            seen |= 1U << (m->variable[i].base & 0xff);
    }
    if (seen == 0)
        return m->default_type;
    if ((seen & (seen - 1)) == 0)
        return (uint8_t)__builtin_ctz(seen);
    return seen == (1U << MEMORY_TYPE_WT | 1U << MEMORY_TYPE_WB) ? MEMORY_TYPE_WT : MEMORY_TYPE_UC;
}

static uint8_t random_type(void)
{
    static const uint8_t types[] = {MEMORY_TYPE_UC, MEMORY_TYPE_WC, MEMORY_TYPE_WT, MEMORY_TYPE_WP,
                                    MEMORY_TYPE_WB};

    return types[rand() % 5];
}

static void fill_randomly(struct mtrr *m)
{
    *m = (struct mtrr){
        .enabled = rand() % 16 != 0,
        .fixed_enabled = rand() % 2 == 0,
        .default_type = random_type(),
        .variable_count = (unsigned)rand() % 5,
        .address_mask = BIT(36) - 1,
    };
    for (unsigned i = 0; i < MTRR_FIXED_COUNT; i++)
        for (unsigned byte = 0; byte < 8; byte++)
            m->fixed[i] |= (uint64_t)random_type() << (8 * byte);
    for (unsigned i = 0; i < m->variable_count; i++) {
        uint64_t size = BIT(12 + rand() % 12);
        m->variable[i].base = ((uint64_t)rand() % 4096 << 12 & ~(size - 1)) | random_type();
        m->variable[i].mask = ((~(size - 1)) & m->address_mask) | (rand() % 4 != 0 ? MTRR_PHYSMASK_VALID : 0);
    }
}

static void agrees_with_the_model(void **state)
{
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        struct mtrr m;
        fill_randomly(&m);
        uint64_t base = (uint64_t)rand() % 2048 << 12;
        uint64_t pages = 1 + (uint64_t)rand() % 300;
        uint8_t first = model_type(&m, base), type;
        bool uniform = true;
        for (uint64_t i = 1; i < pages; i++)
            uniform = uniform && model_type(&m, base + i * PAGE_SIZE) == first;
        assert_int_equal(mtrr_type(&m, HPA(base), pages * PAGE_SIZE, &type), uniform);
        if (uniform)
            assert_int_equal(type, first);
    }
}

/* A range of all memory, whose mask is empty, must not make the walk stand still. */
static void takes_an_empty_mask(void **state)
{
    (void)state;
    struct mtrr m = {.enabled = true, .variable_count = 1, .address_mask = BIT(36) - 1};
    uint8_t type;

    m.variable[0].base = MEMORY_TYPE_WB;
    m.variable[0].mask = MTRR_PHYSMASK_VALID;
    assert_true(mtrr_type(&m, HPA(0), GIB(4), &type));
    assert_int_equal(type, MEMORY_TYPE_WB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_model),
        cmocka_unit_test(takes_an_empty_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
