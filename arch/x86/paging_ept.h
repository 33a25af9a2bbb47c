// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Extended page tables (SDM vol. 3, "The Extended Page Table Mechanism (EPT)"): four levels, 48 bits of
 * guest-physical address.
 */
#include "arch/x86/paging.h"

#define EPT_READ              BIT(0)
#define EPT_WRITE             BIT(1)
#define EPT_EXECUTE           BIT(2)
#define EPT_MEMORY_TYPE_SHIFT 3
#define EPT_MEMORY_TYPE       (7ULL << EPT_MEMORY_TYPE_SHIFT)
#define EPT_IGNORE_PAT        BIT(6)
#define EPT_LARGE             BIT(7)
#define EPT_ACCESSED          BIT(8)
#define EPT_DIRTY             BIT(9)

/*
 * Four levels. Level 5, which only a walker meets, in a guest hypervisor's tables, is described beside them.
 */
extern const struct paging_format paging_ept;
