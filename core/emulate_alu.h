// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The arithmetic of core/emulate.h: values in, value and flags out (SDM vol. 1, 3.4.3.1 and vol. 2 of each
 * instruction). Sizes are in bytes: 1, 2, 4 or 8. Any context.
 */
#include "arch/x86/decode.h"
#include "lib/types.h"

/* All ones in the low `size` bytes. */
static inline uint64_t mask_of(unsigned size)
{
    return UINT64_MAX >> (64 - 8 * size);
}

static inline uint64_t sign_of(unsigned size)
{
    return BIT(8 * size - 1);
}

static inline uint64_t sign_extend(uint64_t value, unsigned size)
{
    return ((value & mask_of(size)) ^ sign_of(size)) - sign_of(size);
}

/*
 * The new value of an operand of `size` bytes, whose old one is `a`, by `operation` with `b`; neither has
 * bits above `size`, the result may. *rflags gets the flags. For operations that compute with no more than
 * these; of one that only moves the result is `b`.
 */
uint64_t emulate_alu_compute(enum decode_operation operation, unsigned size, uint64_t a, uint64_t b,
                             uint64_t *rflags);

/*
 * The low half of a * b, and in *high, unless that is NULL, the other half. Sets CF and OF of *rflags if the
 * low half alone is not the product.
 */
uint64_t emulate_alu_multiply(bool is_signed, unsigned size, uint64_t a, uint64_t b, uint64_t *high,
                              uint64_t *rflags);

/*
 * Divides *high:*low, each of `size` bytes, by `divisor`: the quotient goes to *low, the remainder to *high.
 * False, and nothing is changed, if the divisor is 0 or the quotient too large: the processor's #DE.
 */
__must_check bool emulate_alu_divide(bool is_signed, unsigned size, uint64_t *high, uint64_t *low,
                                     uint64_t divisor);

/* Whether the condition that the low four bits of a Jcc, SETcc or CMOVcc opcode name holds in `rflags`. */
bool emulate_alu_condition(unsigned opcode, uint64_t rflags);
