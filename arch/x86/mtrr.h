// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Memory types by physical address (SDM vol. 3, "Memory type range registers"). Pure: the registers come in a
 * struct, so that the host can test the rules and a partition's virtual MTRRs can use them too.
 */
#include "lib/types.h"

#define MTRR_VARIABLE_MAX 32
#define MTRR_FIXED_COUNT  11

struct mtrr {
    bool enabled;
    bool fixed_enabled;
    uint8_t default_type;
    uint64_t
        fixed[MTRR_FIXED_COUNT]; /* FIX64K_00000, FIX16K_80000, FIX16K_A0000, FIX4K_C0000 … FIX4K_F8000 */
    unsigned variable_count;
    struct {
        uint64_t base;
        uint64_t mask;
    } variable[MTRR_VARIABLE_MAX];
    uint64_t address_mask; /* of the processor's physical addresses */
};

/* The MSR of fixed-range register `index`. */
uint32_t mtrr_fixed_msr(unsigned index);

/*
 * The memory type of [base, base + size); false if it is not the same all over. Registers whose ranges
 * overlap in a way that the SDM leaves undefined count as UC.
 */
bool mtrr_type(const struct mtrr *mtrr, hpa_t base, uint64_t size, uint8_t *type);
