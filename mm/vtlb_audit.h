// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The invariants of a virtual TLB, checked by looking at every table: for tests and for the monitor's debug
 * commands.
 */
#include "mm/p2m.h"
#include "mm/vtlb.h"

/*
 * Checks that every page of the quota is in exactly one place and the counts are exact; that clean pages are
 * zero; that every table is referred to once, at its level, by its parent; that every leaf lies within `p2m`,
 * with no right that the region there does not give, or is the context's extra page, and on frames that its
 * partition owns; that no leaf maps a page of the quota. NULL if all holds, otherwise the name of what does
 * not. Slow; not on the exit path.
 */
const char *vtlb_audit(const struct vtlb *vtlb, const struct p2m *p2m);
