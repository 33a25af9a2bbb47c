// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/paging_x86.h"

#define BITS(high, low) (((2ULL << (high)) - 1) & ~((1ULL << (low)) - 1))

/*
 * Without read there is no entry. Where the format has no NX bit (`nx` is 0), whatever can be read can be
 * executed.
 */
#define RIGHTS(nx)                                                                                           \
    {                                                                                                        \
        [PAGING_READ] = PTE_PRESENT | (nx), [PAGING_READ | PAGING_WRITE] = PTE_PRESENT | PTE_WRITE | (nx),   \
        [PAGING_READ | PAGING_EXECUTE] = PTE_PRESENT,                                                        \
        [PAGING_READ | PAGING_WRITE | PAGING_EXECUTE] = PTE_PRESENT | PTE_WRITE,                             \
        [PAGING_USER | PAGING_READ] = PTE_PRESENT | PTE_USER | (nx),                                         \
        [PAGING_USER | PAGING_READ | PAGING_WRITE] = PTE_PRESENT | PTE_USER | PTE_WRITE | (nx),              \
        [PAGING_USER | PAGING_READ | PAGING_EXECUTE] = PTE_PRESENT | PTE_USER,                               \
        [PAGING_USER | PAGING_READ | PAGING_WRITE | PAGING_EXECUTE] = PTE_PRESENT | PTE_USER | PTE_WRITE,    \
    }

/*
 * What IA32_PAT has after reset: PWT and PCD choose WB, WT, UC-, UC. WC and WP are missing: UC keeps their
 * promises.
 */
#define MEMORY_TYPES_OF_RESET                                                                                \
    {                                                                                                        \
        [MEMORY_TYPE_UC] = PTE_PCD | PTE_PWT, [MEMORY_TYPE_WC] = PTE_PCD | PTE_PWT,                          \
        [MEMORY_TYPE_WT] = PTE_PWT, [MEMORY_TYPE_WP] = PTE_PCD | PTE_PWT, [MEMORY_TYPE_WB] = 0,              \
        [MEMORY_TYPE_UC_MINUS] = PTE_PCD,                                                                    \
    }

#define TABLE_RIGHTS (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)

/* What the three formats with 8-byte entries have in common. */
#define WIDE                                                                                                 \
    .entry_size = 8, .present = PTE_PRESENT, .large = PTE_LARGE, .address = BITS(51, 12),                    \
    .accessed = PTE_ACCESSED, .dirty = PTE_DIRTY, .global = PTE_GLOBAL,                                      \
    .grant_set = PTE_PRESENT | PTE_WRITE | PTE_USER, .grant_clear = PTE_NO_EXECUTE, .user = PTE_USER,        \
    .table_rights = TABLE_RIGHTS, .page_preset = PTE_ACCESSED | PTE_DIRTY, .rights = RIGHTS(PTE_NO_EXECUTE), \
    .memory_type = MEMORY_TYPES_OF_RESET

#define LEVEL_1                                                                                              \
    {                                                                                                        \
        .shift = 12, .index_mask = 511, .maps_page = true                                                    \
    }
#define LEVEL_2                                                                                              \
    {                                                                                                        \
        .shift = 21, .index_mask = 511, .maps_page = true, .page_reserved = BITS(20, 13)                     \
    }
#define LEVEL_3                                                                                              \
    {                                                                                                        \
        .shift = 30, .index_mask = 511, .maps_page = true, .page_reserved = BITS(29, 13)                     \
    }
#define LEVEL_4                                                                                              \
    {                                                                                                        \
        .shift = 39, .index_mask = 511, .table_reserved = PTE_LARGE                                          \
    }
#define LEVEL_5                                                                                              \
    {                                                                                                        \
        .shift = 48, .index_mask = 511, .table_reserved = PTE_LARGE                                          \
    }

/*
 * SDM vol. 3, "32-Bit Paging". The page-directory entry of a 4-MByte page has address bits 39:32 in 20:13
 * (PSE-36).
 */
const struct paging_format paging_x86_32bit = {
    .name = "32-bit",
    .levels = 2,
    .address_bits = 32,
    .entry_size = 4,
    .present = PTE_PRESENT,
    .large = PTE_LARGE,
    .address = BITS(31, 12),
    .accessed = PTE_ACCESSED,
    .dirty = PTE_DIRTY,
    .global = PTE_GLOBAL,
    .grant_set = PTE_PRESENT | PTE_WRITE | PTE_USER,
    .user = PTE_USER,
    .table_rights = TABLE_RIGHTS,
    .page_preset = PTE_ACCESSED | PTE_DIRTY,
    .level =
        {
            [2] = {.shift = 22, .index_mask = 1023, .maps_page = true, .page_reserved = BIT(21)},
            [1] = {.shift = 12, .index_mask = 1023, .maps_page = true},
        },
    .rights = RIGHTS(0),
    .memory_type = MEMORY_TYPES_OF_RESET,
};

/*
 * SDM vol. 3, "PAE Paging". Bits 62:52 are reserved here, ignored in the formats below. The four entries of
 * level 3 take no right away and have no A bit.
 */
const struct paging_format paging_x86_pae = {
    .name = "PAE",
    .levels = 3,
    .address_bits = 32,
    WIDE,
    .level =
        {
            [3] = {.shift = 30, .index_mask = 3, .table_reserved = BITS(63, 52) | BITS(8, 5) | BITS(2, 1)},
            [2] = {.shift = 21,
                   .index_mask = 511,
                   .maps_page = true,
                   .table_reserved = BITS(62, 52),
                   .page_reserved = BITS(62, 52) | BITS(20, 13)},
            [1] = {.shift = 12, .index_mask = 511, .maps_page = true, .page_reserved = BITS(62, 52)},
        },
};

/* SDM vol. 3, "4-Level Paging and 5-Level Paging". */
const struct paging_format paging_x86_4level = {
    .name = "4-level",
    .levels = 4,
    .address_bits = 48,
    .key = BIT(PTE_KEY_SHIFT),
    WIDE,
    .level = {[4] = LEVEL_4, [3] = LEVEL_3, [2] = LEVEL_2, [1] = LEVEL_1},
};

const struct paging_format paging_x86_5level = {
    .name = "5-level",
    .levels = 5,
    .address_bits = 57,
    .key = BIT(PTE_KEY_SHIFT),
    WIDE,
    .level = {[5] = LEVEL_5, [4] = LEVEL_4, [3] = LEVEL_3, [2] = LEVEL_2, [1] = LEVEL_1},
};

uint64_t paging_x86_page_address(const struct paging_format *format, unsigned level, uint64_t entry)
{
    const uint64_t high = format == &paging_x86_32bit && level == 2 ? (entry & BITS(20, 13)) << (32 - 13) : 0;

    return (entry & format->address & ~(BIT(format->level[level].shift) - 1)) | high;
}

uint64_t paging_x86_reserved(const struct paging_format *format, unsigned level, bool maps_page,
                             unsigned physical_bits, bool no_execute)
{
    const struct paging_level *l = &format->level[level];
    uint64_t reserved = maps_page ? l->page_reserved : l->table_reserved;

    if (format->entry_size == 4) {
        /*
         * PSE-36 has address bits up to 39: those above MAXPHYADDR are reserved at their place from bit 13
         * on.
         */
        if (maps_page && level == 2 && physical_bits < 40)
            reserved |= BITS(20, 13 + (physical_bits - 32));
        return reserved;
    }
    if (physical_bits < 52)
        reserved |= BITS(51, physical_bits);
    return no_execute ? reserved : reserved | PTE_NO_EXECUTE;
}
