// SPDX-License-Identifier: BSD-2-Clause
#include "core/emulate_alu.h"

#include "arch/x86/registers.h"

#define FLAGS_ARITHMETIC                                                                                     \
    (X86_RFLAGS_CF | X86_RFLAGS_PF | X86_RFLAGS_AF | X86_RFLAGS_ZF | X86_RFLAGS_SF | X86_RFLAGS_OF)

static void set_flags(uint64_t *rflags, uint64_t which, uint64_t value)
{
    *rflags = (*rflags & ~which) | (value & which);
}

/* ZF, SF and PF: what the result alone tells. */
static uint64_t flags_of_result(uint64_t result, unsigned size)
{
    uint64_t flags = 0;

    if ((result & mask_of(size)) == 0)
        flags |= X86_RFLAGS_ZF;
    if (result & sign_of(size))
        flags |= X86_RFLAGS_SF;
    if (!__builtin_parity((unsigned)result & 0xff))
        flags |= X86_RFLAGS_PF;
    return flags;
}

/* a + b + carry. The carry out of every bit position: where two of three ones met. */
static uint64_t add(uint64_t a, uint64_t b, bool carry, unsigned size, uint64_t *flags)
{
    uint64_t result = a + b + carry;
    uint64_t carries = (a & b) | ((a | b) & ~result);

    *flags = flags_of_result(result, size);
    if (carries & sign_of(size))
        *flags |= X86_RFLAGS_CF;
    if (carries & 0x8)
        *flags |= X86_RFLAGS_AF;
    if ((a ^ result) & (b ^ result) & sign_of(size))
        *flags |= X86_RFLAGS_OF;
    return result;
}

/* a - b - borrow, likewise. */
static uint64_t subtract(uint64_t a, uint64_t b, bool borrow, unsigned size, uint64_t *flags)
{
    uint64_t result = a - b - borrow;
    uint64_t borrows = (~a & b) | ((~a | b) & result);

    *flags = flags_of_result(result, size);
    if (borrows & sign_of(size))
        *flags |= X86_RFLAGS_CF;
    if (borrows & 0x8)
        *flags |= X86_RFLAGS_AF;
    if ((a ^ b) & (a ^ result) & sign_of(size))
        *flags |= X86_RFLAGS_OF;
    return result;
}

static uint64_t logic(uint64_t result, unsigned size, uint64_t *flags)
{
    *flags = flags_of_result(result, size);
    return result;
}

/* BT, BTS, BTR, BTC: SDM vol. 2. Only CF. */
static uint64_t bit_test(enum decode_operation operation, unsigned size, uint64_t a, uint64_t b,
                         uint64_t *rflags)
{
    uint64_t bit = BIT(b % (8 * size));

    set_flags(rflags, X86_RFLAGS_CF, a & bit ? X86_RFLAGS_CF : 0);
    switch (operation) {
    case DECODE_BTS:
        return a | bit;
    case DECODE_BTR:
        return a & ~bit;
    case DECODE_BTC:
        return a ^ bit;
    default:
        return a;
    }
}

/* What the processor uses of a shift count. */
static unsigned count_of(uint64_t b, unsigned size)
{
    return (unsigned)b & (size == 8 ? 63 : 31);
}

/* SHL, SHR, SAR. A byte or word can be shifted by more than its bits; AF is undefined, and clear. */
static uint64_t shift(enum decode_operation operation, unsigned size, uint64_t a, uint64_t b,
                      uint64_t *rflags)
{
    unsigned count = count_of(b, size);
    unsigned bits = 8 * size;
    uint64_t result;
    bool carry, overflow;

    if (count == 0)
        return a;
    if (operation == DECODE_SHL) {
        result = a << count;
        carry = count <= bits && a >> (bits - count) & 1;
        overflow = carry != !!(result & sign_of(size));
    } else if (operation == DECODE_SHR) {
        result = a >> count;
        carry = a >> (count - 1) & 1;
        overflow = count == 1 && a & sign_of(size);
    } else {
        int64_t value = (int64_t)sign_extend(a, size);
        result = (uint64_t)(value >> count);
        carry = value >> (count - 1) & 1;
        overflow = false;
    }
    set_flags(rflags, FLAGS_ARITHMETIC,
              flags_of_result(result, size) | (carry ? X86_RFLAGS_CF : 0) | (overflow ? X86_RFLAGS_OF : 0));
    return result;
}

/* ROL, ROR, RCL, RCR, bit by bit: the carry is one more bit of the last two. They change only CF and OF. */
static uint64_t rotate(enum decode_operation operation, unsigned size, uint64_t a, uint64_t b,
                       uint64_t *rflags)
{
    bool left = operation == DECODE_ROL || operation == DECODE_RCL;
    bool through_carry = operation == DECODE_RCL || operation == DECODE_RCR;
    bool carry = *rflags & X86_RFLAGS_CF;
    unsigned top = 8 * size - 1;
    unsigned count = count_of(b, size);

    if (count == 0)
        return a;
    for (unsigned n = 0; n < count; n++) {
        bool out = left ? a >> top & 1 : a & 1;
        uint64_t in = through_carry ? carry : out;
        a = left ? (a << 1 | in) & mask_of(size) : a >> 1 | in << top;
        carry = out;
    }
    bool overflow = (a >> top & 1) != (left ? carry : a >> (top - 1) & 1);
    set_flags(rflags, X86_RFLAGS_CF | X86_RFLAGS_OF,
              (carry ? X86_RFLAGS_CF : 0) | (overflow ? X86_RFLAGS_OF : 0));
    return a;
}

uint64_t emulate_alu_compute(enum decode_operation operation, unsigned size, uint64_t a, uint64_t b,
                             uint64_t *rflags)
{
    bool carry = *rflags & X86_RFLAGS_CF;
    uint64_t changed = FLAGS_ARITHMETIC;
    uint64_t flags = 0;
    uint64_t result;

    switch (operation) {
    case DECODE_ADD:
    case DECODE_XADD:
        result = add(a, b, false, size, &flags);
        break;
    case DECODE_ADC:
        result = add(a, b, carry, size, &flags);
        break;
    case DECODE_INC:
        result = add(a, 1, false, size, &flags);
        changed &= ~X86_RFLAGS_CF;
        break;
    case DECODE_SUB:
    case DECODE_CMP:
    case DECODE_CMPS:
    case DECODE_SCAS:
        result = subtract(a, b, false, size, &flags);
        break;
    case DECODE_SBB:
        result = subtract(a, b, carry, size, &flags);
        break;
    case DECODE_DEC:
        result = subtract(a, 1, false, size, &flags);
        changed &= ~X86_RFLAGS_CF;
        break;
    case DECODE_NEG:
        result = subtract(0, a, false, size, &flags);
        break;
    case DECODE_OR:
        result = logic(a | b, size, &flags);
        break;
    case DECODE_AND:
    case DECODE_TEST:
        result = logic(a & b, size, &flags);
        break;
    case DECODE_XOR:
        result = logic(a ^ b, size, &flags);
        break;
    case DECODE_NOT:
        return ~a;
    case DECODE_BT:
    case DECODE_BTS:
    case DECODE_BTR:
    case DECODE_BTC:
        return bit_test(operation, size, a, b, rflags);
    case DECODE_ROL:
    case DECODE_ROR:
    case DECODE_RCL:
    case DECODE_RCR:
        return rotate(operation, size, a, b, rflags);
    case DECODE_SHL:
    case DECODE_SHR:
    case DECODE_SAR:
        return shift(operation, size, a, b, rflags);
    case DECODE_IMUL:
        return emulate_alu_multiply(true, size, a, b, NULL, rflags);
    default:
        return b;
    }
    set_flags(rflags, changed, flags);
    return result;
}

uint64_t emulate_alu_multiply(bool is_signed, unsigned size, uint64_t a, uint64_t b, uint64_t *high,
                              uint64_t *rflags)
{
    __uint128_t product = (__uint128_t)a * b;

    if (is_signed)
        product = (__uint128_t)((__int128_t)(int64_t)sign_extend(a, size) * (int64_t)sign_extend(b, size));
    uint64_t low = (uint64_t)product & mask_of(size);
    uint64_t other = (uint64_t)(product >> 8 * size) & mask_of(size);
    bool fits = other == (is_signed && low & sign_of(size) ? mask_of(size) : 0);

    set_flags(rflags, FLAGS_ARITHMETIC,
              flags_of_result(low, size) | (fits ? 0 : X86_RFLAGS_CF | X86_RFLAGS_OF));
    if (high != NULL)
        *high = other;
    return low;
}

/*
 * Long division, since a 128-bit one would want the compiler's library. The quotient's bits take the places
 * that the dividend leaves in *low. False if the quotient has more than 64 bits, or there is none.
 */
static bool divide(uint64_t *high, uint64_t *low, uint64_t divisor)
{
    if (*high >= divisor)
        return false;
    for (unsigned n = 0; n < 64; n++) {
        bool out = *high >> 63;
        *high = *high << 1 | *low >> 63;
        *low <<= 1;
        if (out || *high >= divisor) {
            *high -= divisor;
            *low |= 1;
        }
    }
    return true;
}

bool emulate_alu_divide(bool is_signed, unsigned size, uint64_t *high, uint64_t *low, uint64_t divisor)
{
    bool negative = is_signed && *high & sign_of(size);
    bool negative_divisor = is_signed && divisor & sign_of(size);
    bool negative_quotient = negative != negative_divisor;
    __uint128_t dividend = (__uint128_t)*high << 8 * size | *low;
    uint64_t most = mask_of(size);

    /* By magnitudes; the remainder has the dividend's sign. */
    if (negative)
        dividend = -dividend & ~(__uint128_t)0 >> (128 - 16 * size);
    if (negative_divisor)
        divisor = -divisor & mask_of(size);
    if (is_signed)
        most = sign_of(size) - !negative_quotient;

    uint64_t remainder = (uint64_t)(dividend >> 64);
    uint64_t quotient = (uint64_t)dividend;
    if (!divide(&remainder, &quotient, divisor) || quotient > most)
        return false;
    *high = negative ? -remainder : remainder;
    *low = negative_quotient ? -quotient : quotient;
    return true;
}

bool emulate_alu_condition(unsigned opcode, uint64_t rflags)
{
    /* O, B, Z, BE, S, P, L, LE (SDM vol. 1, appendix B). The last two ask for more than a flag. */
    static const uint64_t any[8] = {
        X86_RFLAGS_OF,
        X86_RFLAGS_CF,
        X86_RFLAGS_ZF,
        X86_RFLAGS_CF | X86_RFLAGS_ZF,
        X86_RFLAGS_SF,
        X86_RFLAGS_PF,
        0,
        X86_RFLAGS_ZF,
    };
    unsigned which = opcode >> 1 & 7;
    bool less = !(rflags & X86_RFLAGS_SF) != !(rflags & X86_RFLAGS_OF);
    bool holds = (rflags & any[which]) || (which >= 6 && less);

    return holds != (opcode & 1);
}
