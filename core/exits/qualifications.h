// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/* Exit qualifications, taken apart (SDM vol. 3, "Exit Qualification" and the tables it refers to). */
#include "arch/x86/paging.h"
#include "lib/types.h"

/* ---- Control-register accesses (table 28-3) -------------------------------------------------------------
 */

enum cr_access {
    CR_ACCESS_MOV_TO,
    CR_ACCESS_MOV_FROM,
    CR_ACCESS_CLTS,
    CR_ACCESS_LMSW,
};

#define CR_ACCESS_NUMBER(q)    ((unsigned)(q)&15)
#define CR_ACCESS_TYPE(q)      ((enum cr_access)((q) >> 4 & 3))
#define CR_ACCESS_GPR(q)       ((unsigned)((q) >> 8) & 15)
#define CR_ACCESS_SOURCE(q)    ((uint16_t)((q) >> 16)) /* of LMSW */

/* ---- I/O instructions (table 28-5) ----------------------------------------------------------------------
 */

#define IO_SIZE(q)             ((unsigned)((q)&7) + 1)
#define IO_IN                  BIT(3)
#define IO_STRING              BIT(4)
#define IO_REPEAT              BIT(5)
#define IO_PORT(q)             ((uint16_t)((q) >> 16))

/* ---- EPT violations (table 28-7) ------------------------------------------------------------------------
 */

#define VIOLATION_READ         BIT(0)
#define VIOLATION_WRITE        BIT(1)
#define VIOLATION_FETCH        BIT(2)
#define VIOLATION_LINEAR_VALID BIT(7)
#define VIOLATION_NOT_TABLES   BIT(8) /* the access is one to the linear address, not to its tables */

/* What the access needed, as enum paging_right. */
static inline unsigned violation_access(uint64_t qualification)
{
    return (qualification & VIOLATION_READ ? PAGING_READ : 0) |
           (qualification & VIOLATION_WRITE ? PAGING_WRITE : 0) |
           (qualification & VIOLATION_FETCH ? PAGING_EXECUTE : 0);
}

static inline bool violation_is_in_tables(uint64_t qualification)
{
    return (qualification & (VIOLATION_LINEAR_VALID | VIOLATION_NOT_TABLES)) == VIOLATION_LINEAR_VALID;
}
