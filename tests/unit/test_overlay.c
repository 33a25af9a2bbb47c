// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/overlay.c. Fails when the page is not seen where the stage below has no memory, is seen where it has
 * some or beside its 4 KiB, gives more rights than it has, or outlives its removal.
 */
#include "mm/overlay.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MEMORY_END MIB(1)
#define PLACE      0xfee00000ULL

/* Memory below MEMORY_END, and nothing above. */
static enum stage_outcome walk_below(const struct stage *stage, uint64_t address, unsigned access,
                                     struct translation *translation, struct stage_fault *fault)
{
    (void)access;
    if (address >= MEMORY_END) {
        *fault = (struct stage_fault){.stage = stage, .address = address};
        return STAGE_NO_MEMORY;
    }
    *translation = (struct translation){
        .address = address + GIB(1), .rights = PAGING_RIGHTS, .page_shift = PAGE_SHIFT_2M};
    return STAGE_DONE;
}

static const struct stage below = {.walk = walk_below};

static const struct translation page = {.address = GIB(2),
                                        .rights = PAGING_READ | PAGING_WRITE,
                                        .memory_type = MEMORY_TYPE_WB,
                                        .page_shift = PAGE_SHIFT};

static enum stage_outcome walk(const struct overlay *overlay, uint64_t address, unsigned access,
                               struct translation *t, struct stage_fault *fault)
{
    return overlay->stage.walk(&overlay->stage, address, access, t, fault);
}

static void one_page(void **state)
{
    struct overlay overlay;
    struct stage_fault fault;
    struct translation t;
    (void)state;

    overlay_init(&overlay, &below);
    assert_ptr_equal(overlay_of(&overlay.stage), &overlay);
    assert_null(overlay_of(&below));
    assert_int_equal(walk(&overlay, PLACE, PAGING_READ, &t, &fault), STAGE_NO_MEMORY);
    assert_int_equal(walk(&overlay, 0, PAGING_READ, &t, &fault), STAGE_DONE);

    overlay_set(&overlay, PLACE + 0x123, &page);
    assert_int_equal(walk(&overlay, PLACE + 0xff8, PAGING_WRITE | PAGING_USER, &t, &fault), STAGE_DONE);
    assert_int_equal(t.address, GIB(2) + 0xff8);
    assert_int_equal(t.rights, PAGING_READ | PAGING_WRITE | PAGING_USER);
    assert_int_equal(t.page_shift, PAGE_SHIFT);
    /* How the access is made is no right. */
    const unsigned how = STAGE_ACCESS_AC | STAGE_ACCESS_IMPLICIT | STAGE_ACCESS_PROBE;
    assert_int_equal(walk(&overlay, PLACE, PAGING_READ | how, &t, &fault), STAGE_DONE);
    assert_int_equal(walk(&overlay, PLACE, PAGING_EXECUTE, &t, &fault), STAGE_NO_MEMORY);
    assert_int_equal(fault.address, PLACE);
    assert_ptr_equal(fault.stage, &below);
    assert_int_equal(walk(&overlay, PLACE - 1, PAGING_READ, &t, &fault), STAGE_NO_MEMORY);
    assert_int_equal(walk(&overlay, PLACE + PAGE_SIZE, PAGING_READ, &t, &fault), STAGE_NO_MEMORY);
    assert_int_equal(walk(&overlay, 0x5000, PAGING_READ, &t, &fault), STAGE_DONE);
    assert_int_equal(t.address, GIB(1) + 0x5000);

    /* Another place: no longer at the one before. Where there is memory, that counts. */
    overlay_set(&overlay, 0x5000, &page);
    assert_int_equal(walk(&overlay, PLACE, PAGING_READ, &t, &fault), STAGE_NO_MEMORY);
    assert_int_equal(walk(&overlay, 0x5000, PAGING_EXECUTE, &t, &fault), STAGE_DONE);
    assert_int_equal(t.address, GIB(1) + 0x5000);

    overlay_set(&overlay, PLACE, &page);
    assert_int_equal(walk(&overlay, PLACE, PAGING_READ, &t, &fault), STAGE_DONE);
    overlay_clear(&overlay);
    assert_int_equal(walk(&overlay, PLACE, PAGING_READ, &t, &fault), STAGE_NO_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
