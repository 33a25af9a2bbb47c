// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Where host-physical memory can be touched. In the hypervisor all memory of the boot map stands at a
 * constant offset (mm/address_space.h); on the host the offset is zero, so that a test's frames are plain
 * memory of the test.
 */
#include "lib/types.h"

#if __STDC_HOSTED__
#define PHYSMAP_BASE 0ULL
#else
#define PHYSMAP_BASE 0xffff800000000000ULL
#endif

/* The place where Umbra reaches host-physical `address`. Any context. */
static inline void *physmap_pointer(hpa_t address)
{
    return (void *)(uintptr_t)(PHYSMAP_BASE + address.value);
}

/* The host-physical address of `pointer`, which must point into the physical map. Any context. */
static inline hpa_t physmap_address(const void *pointer)
{
    return HPA((uint64_t)(uintptr_t)pointer - PHYSMAP_BASE);
}
