// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The invariants of a virtual TLB, checked by looking at every table: for tests and for the monitor's debug
 * commands.
 */
#include "mm/p2m.h"
#include "mm/vtlb.h"

/*
 * Checks
 * - that every page of the quota is in exactly one place, as a table, a snapshot or free; that clean pages
 * are zero, and free ones where their descriptor does not say that they may not be;
 * - that every count and every mark of an entry in use is exact, references above all, and the hash complete;
 * - that every leaf lies within `p2m`, or is the page of the overlay that the context's chain leads through,
 * with no right that is not given there, on frames that the partition owns and that are not of the quota;
 * - that a leaf made from a guest's entry says the address, the rights, D and A of the snapshots on its path.
 *
 * NULL if all holds, otherwise the name of what does not. Slow; not on the exit path. It notes in the tables
 * what it has seen, and so belongs where the vCPU runs.
 */
const char *vtlb_audit(const struct vtlb *vtlb, const struct p2m *p2m);
