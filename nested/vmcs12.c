// SPDX-License-Identifier: BSD-2-Clause
#include "nested/vmcs12.h"

#include "lib/string.h"

/* Where the region has the values of all fields. */
#define VALUES 16

_Static_assert(VALUES + 8 * VMCS_FIELD_COUNT == VMCS12_REGION_SIZE, "the region is something else");
_Static_assert(VMCS12_REGION_SIZE <= PAGE_SIZE, "a region is a page");
_Static_assert((VMCS12_REVISION >> 31) == 0, "bit 31 says that it is a shadow VMCS");

void vmcs12_forget_written(struct vmcs12 *vmcs)
{
    memset(vmcs->written, 0, sizeof(vmcs->written));
}

void vmcs12_unpack(struct vmcs12 *vmcs, const uint8_t *region)
{
    uint64_t launch_state;

    memcpy(&launch_state, region + VMCS12_LAUNCH_STATE, sizeof(launch_state));
    vmcs->launched = launch_state != 0;
    memcpy(vmcs->values, region + VALUES, sizeof(vmcs->values));
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        struct vmcs_field field = vmcs_field_at(i);

        vmcs12_write(vmcs, field, vmcs12_read(vmcs, field) & vmcs_width_mask(vmcs_field_width(field)));
    }
}

void vmcs12_pack(const struct vmcs12 *vmcs, uint8_t *region)
{
    const uint64_t launch_state = vmcs->launched;

    memcpy(region + VMCS12_LAUNCH_STATE, &launch_state, sizeof(launch_state));
    memcpy(region + VALUES, vmcs->values, sizeof(vmcs->values));
}
