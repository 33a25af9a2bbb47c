// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Guest memory as one array, from guest-physical address 0: a chain of one stage for what reaches memory
 * through the accessor. Include after <cmocka.h>, in one file of a program.
 */
#include <string.h>

#include "mm/physmap.h"
#include "mm/stage.h"

#define FLAT_MEMORY_SIZE KIB(64)

static uint8_t flat_memory[FLAT_MEMORY_SIZE] __aligned(PAGE_SIZE);
static uint64_t flat_memory_read_only; /* a page that may not be written; 0: none */

static enum stage_outcome flat_memory_walk(const struct stage *stage, uint64_t address, unsigned access,
                                           struct translation *translation, struct stage_fault *fault)
{
    if (address >= FLAT_MEMORY_SIZE || ((access & PAGING_WRITE) && flat_memory_read_only != 0 &&
                                        align_down(address, PAGE_SIZE) == flat_memory_read_only)) {
        *fault = (struct stage_fault){.stage = stage, .address = address};
        return STAGE_NO_MEMORY;
    }
    *translation = (struct translation){
        .address = physmap_address(flat_memory + address).value,
        .rights = PAGING_READ | PAGING_WRITE | PAGING_EXECUTE | PAGING_USER,
        .memory_type = MEMORY_TYPE_WB,
        .page_shift = PAGE_SHIFT,
    };
    return STAGE_DONE;
}

static const struct stage flat_memory_stage = {.walk = flat_memory_walk};
static const struct stage_chain flat_memory_chain = {.stages = {&flat_memory_stage}, .count = 1};

static inline void flat_memory_reset(void)
{
    memset(flat_memory, 0, sizeof(flat_memory));
    flat_memory_read_only = 0;
}

static inline void flat_memory_put(uint64_t address, const void *from, size_t size)
{
    assert_true(address + size <= FLAT_MEMORY_SIZE);
    memcpy(flat_memory + address, from, size);
}
