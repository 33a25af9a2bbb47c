// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/paging_ept.h"

/*
 * A set with write but without read is a misconfiguration (SDM vol. 3, "EPT Misconfigurations"): not
 * expressible.
 */
#define RIGHTS(user)                                                                                         \
    [PAGING_READ | (user)] = EPT_READ, [PAGING_EXECUTE | (user)] = EPT_EXECUTE,                              \
                   [PAGING_READ | PAGING_WRITE | (user)] = EPT_READ | EPT_WRITE,                             \
                   [PAGING_READ | PAGING_EXECUTE | (user)] = EPT_READ | EPT_EXECUTE,                         \
                   [PAGING_READ | PAGING_WRITE | PAGING_EXECUTE | (user)] =                                  \
                       EPT_READ | EPT_WRITE | EPT_EXECUTE

const struct paging_format paging_ept = {
    .name = "EPT",
    .levels = 4,
    .address_bits = 48,
    .entry_size = 8,
    .present = EPT_READ | EPT_WRITE | EPT_EXECUTE,
    .large = EPT_LARGE,
    .address = 0x000ffffffffff000,
    .accessed = EPT_ACCESSED,
    .dirty = EPT_DIRTY,
    .grant_set = EPT_READ | EPT_WRITE | EPT_EXECUTE,
    .table_rights = EPT_READ | EPT_WRITE | EPT_EXECUTE,
    .level =
        {
            [5] = {.shift = 48, .index_mask = 511, .table_reserved = 0xf8}, /* not in `levels` */
            [4] = {.shift = 39, .index_mask = 511, .table_reserved = 0xf8},
            [3] = {.shift = 30,
                   .index_mask = 511,
                   .maps_page = true,
                   .table_reserved = 0x78,
                   .page_reserved = 0x3ffff000},
            [2] = {.shift = 21,
                   .index_mask = 511,
                   .maps_page = true,
                   .table_reserved = 0x78,
                   .page_reserved = 0x1ff000},
            [1] = {.shift = 12, .index_mask = 511, .maps_page = true},
        },
    .rights = {RIGHTS(0), RIGHTS(PAGING_USER)},
    .memory_type =
        {
            [MEMORY_TYPE_UC] = MEMORY_TYPE_UC << EPT_MEMORY_TYPE_SHIFT,
            [MEMORY_TYPE_WC] = MEMORY_TYPE_WC << EPT_MEMORY_TYPE_SHIFT,
            [MEMORY_TYPE_WT] = MEMORY_TYPE_WT << EPT_MEMORY_TYPE_SHIFT,
            [MEMORY_TYPE_WP] = MEMORY_TYPE_WP << EPT_MEMORY_TYPE_SHIFT,
            [MEMORY_TYPE_WB] = MEMORY_TYPE_WB << EPT_MEMORY_TYPE_SHIFT,
        },
};
