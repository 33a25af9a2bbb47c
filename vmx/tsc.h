// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * TSC scaling (SDM vol. 3, "TSC scaling"): the processor shows a guest (TSC * multiplier >> 48) + offset. The
 * multiplier is a fixed-point number of 16.48 bits. Pure arithmetic, exact by 128-bit products.
 */
#include "lib/muldiv.h"
#include "lib/types.h"

#define TSC_MULTIPLIER_SHIFT 48
#define TSC_MULTIPLIER_ONE   BIT(TSC_MULTIPLIER_SHIFT)

/*
 * The multiplier that makes a TSC of host_hz count guest_hz, rounded to the nearest; 0 if it is out of range
 * (either rate 0, or a ratio that 16.48 bits do not hold). Any context.
 */
static inline uint64_t tsc_multiplier(uint64_t guest_hz, uint64_t host_hz)
{
    unsigned __int128 product = ((unsigned __int128)guest_hz << TSC_MULTIPLIER_SHIFT) + host_hz / 2;

    if (host_hz == 0 || (uint64_t)(product >> 64) >= host_hz)
        return 0;
    return divide_u128(product, host_hz);
}

/* What the processor makes of the host's `tsc`, modulo 2^64 as it does. Any context. */
static inline uint64_t tsc_scale(uint64_t tsc, uint64_t multiplier)
{
    return (uint64_t)((unsigned __int128)tsc * multiplier >> TSC_MULTIPLIER_SHIFT);
}

/*
 * The first host TSC at which tsc_scale shows `scaled` or more; UINT64_MAX if it never does before the host's
 * wraps, or the multiplier is 0. For deadlines: waking there is never too early. Any context.
 */
static inline uint64_t tsc_unscale(uint64_t scaled, uint64_t multiplier)
{
    uint64_t before; /* the last that shows less */

    if (scaled == 0)
        return 0;
    before = divide_u128(((unsigned __int128)scaled << TSC_MULTIPLIER_SHIFT) - 1, multiplier);
    return before == UINT64_MAX ? UINT64_MAX : before + 1;
}
