// SPDX-License-Identifier: BSD-2-Clause
#include "nested/vmcs12.h"

_Static_assert(offsetof(struct vmcs12, launched) == 0 && offsetof(struct vmcs12, values) == 8 &&
                   sizeof(((struct vmcs12 *)0)->values) + 8 == VMCS12_IMAGE_SIZE,
               "launch state and values are the image");
_Static_assert(VMCS12_REGION_SIZE <= PAGE_SIZE, "a region is a page");
_Static_assert((VMCS12_REVISION >> 31) == 0, "bit 31 says that it is a shadow VMCS");

/* The table is in the order of the encodings: fields of one width are side by side. */
#define FIRST_64      VMCS_INDEX_IO_BITMAP_A
#define FIRST_32      VMCS_INDEX_PIN_CONTROLS
#define FIRST_NATURAL VMCS_INDEX_CR0_MASK

#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE)                                                           \
    _Static_assert(VMCS_WIDTH_##WIDTH == (VMCS_INDEX_##NAME < (int)FIRST_64        ? VMCS_WIDTH_16           \
                                          : VMCS_INDEX_##NAME < (int)FIRST_32      ? VMCS_WIDTH_64           \
                                          : VMCS_INDEX_##NAME < (int)FIRST_NATURAL ? VMCS_WIDTH_32           \
                                                                                   : VMCS_WIDTH_NATURAL),    \
                   #NAME " stands among fields of another width");
VMCS_FIELDS(X)
#undef X

void vmcs12_accept(struct vmcs12 *vmcs)
{
    vmcs->launched = vmcs->launched != 0;
#pragma GCC unroll 4
    for (unsigned i = 0; i < FIRST_64; i++)
        vmcs->values[i] &= vmcs_width_mask(VMCS_WIDTH_16);
#pragma GCC unroll 4
    for (unsigned i = FIRST_32; i < FIRST_NATURAL; i++)
        vmcs->values[i] &= vmcs_width_mask(VMCS_WIDTH_32);
    for (unsigned word = 0; word < VMCS12_FIELD_WORDS; word++) {
        vmcs->written[word] = VMCS12_BITS_BELOW(VMCS_FIELD_COUNT, word);
        vmcs->away[word] = 0;
    }
    vmcs->changed = false;
}
