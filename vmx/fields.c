// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/fields.h"

/* A field exists where a control may be 1 (word and mask), or another one; where it always does, mask is 0.
 */
struct field_row {
    struct vmcs_field field;
    uint8_t word;
    uint8_t word_or;
    uint32_t mask;
    uint32_t mask_or;
    const char *name;
};

/* VM functions stand in a word of their own, behind those of the controls. */
#define VMX_WORD_VMFUNC           VMX_WORDS
#define VMX_VMFUNC_EPTP_SWITCHING 1u

#define ALWAYS                    .mask = 0
#define IF(W, C)                  .word = VMX_WORD_##W, .mask = VMX_##W##_##C
#define OR(W, C)                  .word_or = VMX_WORD_##W, .mask_or = VMX_##W##_##C
#define EITHER(W, C, V, D)        IF(W, C), OR(V, D)

// clang-format off
static const struct field_row rows[VMCS_FIELD_COUNT] = {
#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE) \
    [VMCS_INDEX_##NAME] = {.field = {ENCODING, VMCS_INDEX_##NAME}, .name = #NAME, EXISTENCE},
    VMCS_FIELDS(X)
#undef X
};
// clang-format on

/* The declared width and class are those of the encoding, and the encoding is of full access. */
#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE)                                                           \
    _Static_assert(((ENCODING) >> 13 & 3) == VMCS_WIDTH_##WIDTH &&                                           \
                       ((ENCODING) >> 10 & 3) == VMCS_CLASS_##CLASS && ((ENCODING)&0x9001) == 0,             \
                   #NAME ": the encoding says otherwise");
VMCS_FIELDS(X)
#undef X

/*
 * Every encoding's place in the table plus one, or 0. An encoding is squeezed into a slot by leaving out the
 * access bit and the reserved one: width and class make 16 groups, and no group has as many as 64 fields.
 */
#define GROUP_SIZE 64
#define SLOT(ENCODING)                                                                                       \
    ((((ENCODING) >> 13 & 3) * 4 + ((ENCODING) >> 10 & 3)) * GROUP_SIZE + ((ENCODING) >> 1 & 0x1ff))

_Static_assert(VMCS_FIELD_COUNT < 255, "a place does not fit in a byte");

static const uint8_t places[16 * GROUP_SIZE] = {
#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE) [SLOT(ENCODING)] = VMCS_INDEX_##NAME + 1,
    VMCS_FIELDS(X)
#undef X
};

struct vmcs_field vmcs_field_at(unsigned index)
{
    return rows[index].field;
}

bool vmcs_field_find(uint64_t encoding, struct vmcs_field *field, bool *high)
{
    unsigned place;

    if (encoding > UINT16_MAX || (encoding >> 1 & 0x1ff) >= GROUP_SIZE)
        return false;
    // cppcheck-suppress arrayIndexOutOfBoundsCond ; the line above has sent away what would be
    place = places[SLOT(encoding)];
    if (place == 0 || (rows[place - 1].field.encoding ^ encoding) > 1)
        return false;
    *field = rows[place - 1].field;
    *high = encoding & 1;
    return !*high || vmcs_field_width(*field) == VMCS_WIDTH_64;
}

static bool may_be_1(const struct vmx_capabilities *capabilities, unsigned word, uint32_t mask)
{
    uint64_t may =
        word == VMX_WORD_VMFUNC ? capabilities->vmfunc : vmx_controls_may(capabilities, (enum vmx_word)word);

    return (may & mask) != 0;
}

bool vmcs_field_exists(struct vmcs_field field, const struct vmx_capabilities *capabilities)
{
    const struct field_row *row = &rows[field.index];

    return row->mask == 0 || may_be_1(capabilities, row->word, row->mask) ||
           may_be_1(capabilities, row->word_or, row->mask_or);
}

const char *vmcs_field_name(struct vmcs_field field)
{
    return rows[field.index].name;
}
