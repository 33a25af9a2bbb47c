// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * a * b / c with a 128-bit product: exact conversion between clocks that do not divide one another. The
 * compiler would call a library for a 128-bit division, where the processor has an instruction for the case
 * at hand.
 */
#include "lib/types.h"

/* dividend / divisor, rounded down; UINT64_MAX if that does not fit in 64 bits or the divisor is 0. Any
 * context. */
static inline uint64_t divide_u128(unsigned __int128 dividend, uint64_t divisor)
{
    uint64_t high = (uint64_t)(dividend >> 64);
    uint64_t quotient, remainder;

    /* Just then DIV would raise #DE. */
    if (unlikely(high >= divisor))
        return UINT64_MAX;
    __asm__("divq %4"
            : "=a"(quotient), "=d"(remainder)
            : "0"((uint64_t)dividend), "1"(high), "r"(divisor)
            : "cc");
    return quotient;
}

/* a * b / c rounded down; UINT64_MAX if that does not fit in 64 bits or `c` is 0. Any context. */
static inline uint64_t muldiv_u64(uint64_t a, uint64_t b, uint64_t c)
{
    return divide_u128((unsigned __int128)a * b, c);
}

/* The same, rounded up. Any context. */
static inline uint64_t muldiv_up_u64(uint64_t a, uint64_t b, uint64_t c)
{
    return divide_u128((unsigned __int128)a * b + (c - 1), c);
}
