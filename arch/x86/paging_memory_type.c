// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/paging.h"

#define UC       MEMORY_TYPE_UC
#define WC       MEMORY_TYPE_WC
#define WT       MEMORY_TYPE_WT
#define WP       MEMORY_TYPE_WP
#define WB       MEMORY_TYPE_WB
#define UC_MINUS MEMORY_TYPE_UC_MINUS

/*
 * SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More Recent Processor Families": [what
 * lies below, the MTRR][what is above, the PAT]. A type that cannot be below (UC-) or does not exist is UC.
 */
static const uint8_t effective[MEMORY_TYPES][MEMORY_TYPES] = {
    [UC] = {[UC] = UC, [UC_MINUS] = UC, [WC] = WC, [WT] = UC, [WP] = UC, [WB] = UC},
    [WC] = {[UC] = UC, [UC_MINUS] = WC, [WC] = WC, [WT] = UC, [WP] = UC, [WB] = WC},
    [WT] = {[UC] = UC, [UC_MINUS] = UC, [WC] = WC, [WT] = WT, [WP] = WP, [WB] = WT},
    [WP] = {[UC] = UC, [UC_MINUS] = WC, [WC] = WC, [WT] = WT, [WP] = WP, [WB] = WP},
    [WB] = {[UC] = UC, [UC_MINUS] = UC, [WC] = WC, [WT] = WT, [WP] = WP, [WB] = WB},
    [UC_MINUS] = {[UC] = UC, [UC_MINUS] = UC, [WC] = WC, [WT] = UC, [WP] = UC, [WB] = UC},
};

uint8_t memory_type_combine(uint8_t above, uint8_t below)
{
    return effective[below % MEMORY_TYPES][above % MEMORY_TYPES];
}
