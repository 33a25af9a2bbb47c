// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/mtrr.h"

#include "arch/x86/msr.h"

#define FIXED_END MIB(1)

/* The fixed ranges: where each group starts, how large one range is, which register is the first. */
static const struct {
    uint64_t start, size;
    unsigned first;
} fixed_groups[] = {
    {0x00000, KIB(64), 0},
    {0x80000, KIB(16), 1},
    {0xc0000, KIB(4), 3},
};

uint32_t mtrr_fixed_msr(unsigned index)
{
    static const uint32_t msrs[] = {MSR_IA32_MTRR_FIX64K_00000, MSR_IA32_MTRR_FIX16K_80000,
                                    MSR_IA32_MTRR_FIX16K_A0000};

    return index < ARRAY_SIZE(msrs) ? msrs[index] : MSR_IA32_MTRR_FIX4K_C0000 + index - 3;
}

/* The type at `address` below 1 MiB, and where the range that gives it ends. */
static uint8_t fixed_type(const struct mtrr *mtrr, uint64_t address, uint64_t *end)
{
    unsigned group = address >= fixed_groups[2].start ? 2 : address >= fixed_groups[1].start ? 1 : 0;
    uint64_t index = (address - fixed_groups[group].start) / fixed_groups[group].size;

    *end = fixed_groups[group].start + (index + 1) * fixed_groups[group].size;
    return (uint8_t)(mtrr->fixed[fixed_groups[group].first + index / 8] >> (index % 8 * 8));
}

/* Two overlapping variable ranges (SDM vol. 3, "Example base and mask calculations", precedences). */
static uint8_t combine(uint8_t a, uint8_t b)
{
    if (a == b)
        return a;
    if ((a == MEMORY_TYPE_WT && b == MEMORY_TYPE_WB) || (a == MEMORY_TYPE_WB && b == MEMORY_TYPE_WT))
        return MEMORY_TYPE_WT;
    return MEMORY_TYPE_UC;
}

/* The type at `address`; `end` comes down to where it may change (the nearest end or start of a variable
 * range). */
static uint8_t variable_type(const struct mtrr *mtrr, uint64_t address, uint64_t *end)
{
    bool found = false;
    uint8_t type = mtrr->default_type;

    for (unsigned i = 0; i < mtrr->variable_count; i++) {
        if ((mtrr->variable[i].mask & MTRR_PHYSMASK_VALID) == 0)
            continue;

        uint64_t mask = mtrr->variable[i].mask & mtrr->address_mask & ~(PAGE_SIZE - 1);
        uint64_t base = mtrr->variable[i].base & mask;
        uint64_t granule =
            mask & -mask; /* the size of the range if its mask has no holes, else of a part of it */

        if (mask != 0)
            *end = min_u64(*end, align_down(address, granule) + granule);
        if ((address & mask) == base) {
            uint8_t mine = (uint8_t)mtrr->variable[i].base;
            type = found ? combine(type, mine) : mine;
            found = true;
        }
    }
    return type;
}

bool mtrr_type(const struct mtrr *mtrr, hpa_t base, uint64_t size, uint8_t *type)
{
    uint64_t address = base.value;
    uint64_t last = base.value + size;
    bool first = true;

    *type = MEMORY_TYPE_UC;
    if (!mtrr->enabled)
        return true;
    while (address < last) {
        uint64_t end = last;
        uint8_t here = mtrr->fixed_enabled && address < FIXED_END ? fixed_type(mtrr, address, &end)
                                                                  : variable_type(mtrr, address, &end);
        if (!first && here != *type)
            return false;
        first = false;
        *type = here;
        address = end;
    }
    return true;
}
