// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The processor's own paging modes (SDM vol. 3, "Paging"): 32-bit, PAE, 4-level and 5-level.
 */
#include "arch/x86/paging.h"

#define PTE_PRESENT    BIT(0)
#define PTE_WRITE      BIT(1)
#define PTE_USER       BIT(2)
#define PTE_PWT        BIT(3)
#define PTE_PCD        BIT(4)
#define PTE_ACCESSED   BIT(5)
#define PTE_DIRTY      BIT(6)
#define PTE_LARGE      BIT(7) /* above level 1 */
#define PTE_PAT        BIT(7) /* at level 1 */
#define PTE_GLOBAL     BIT(8)
#define PTE_LARGE_PAT  BIT(12) /* in an entry that maps a large page */
#define PTE_KEY_SHIFT  59
#define PTE_NO_EXECUTE BIT(63)

extern const struct paging_format paging_x86_32bit;
extern const struct paging_format paging_x86_pae;
extern const struct paging_format paging_x86_4level;
extern const struct paging_format paging_x86_5level;

/*
 * The address of the page that `entry` of a table of `level` maps (PSE-36's bits included), without the
 * offset in it.
 */
uint64_t paging_x86_page_address(const struct paging_format *format, unsigned level, uint64_t entry);

/*
 * The bits that must be 0 in a present entry of a table of `level`, on a processor whose physical addresses
 * have `physical_bits` bits. `maps_page` says which kind of entry it is, `no_execute` whether EFER.NXE is 1.
 */
uint64_t paging_x86_reserved(const struct paging_format *format, unsigned level, bool maps_page,
                             unsigned physical_bits, bool no_execute);
