// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Whose turn it is on one processor. Pure: no globals, no clock, no allocation; one struct scheduler a
 * processor, touched by that processor alone, and one struct scheduler_entity inside each of its vCPUs.
 *
 * Fair by weight: each entity has a *debt*, the service that it has had beyond that of the least served
 * entity that competes now, divided by its weight. The one with the least debt is next, for a quantum. Debts
 * are relative: whatever the least served one has is taken off everybody's. So a debt cannot grow for ever,
 * nor wrap, and who sleeps sees his own melt away to nothing but never below: sleep earns no credit, and a
 * sleeper who wakes is first in the queue unless he has used more than his share of late.
 *
 * A cap limits the ticks that an entity gets within each *period*; periods stand on multiples of their
 * length. Who has used his up is *throttled* until the next one, which is shortened by what he ran too long.
 *
 * Times are ticks of the host's TSC, which does not wrap, or durations in these ticks. The order in use:
 *
 *     e = scheduler_pick(s, now, &until)      run e, at most until then
 *     scheduler_ran(s, e, from, to)           account for it, whatever ended it
 *     scheduler_wake, _block, _yield, _add, _remove, _set as need be; and pick again
 *
 * Wakes and additions may also come before scheduler_ran: they take effect at the next pick. A pick in the
 * middle of a slice (an interrupt has woken somebody, say) does not end the slice: who runs is picked again
 * until his quantum is used, unless somebody has woken who owes less.
 *
 * While everybody honours `until`, an entity that wants to run and may is picked after the others have had,
 * each, 1 + k * (its weight) / (the entity's own) quanta at most; k is 1, or 2 for one who has just run in
 * the place of somebody who yielded.
 */
#include "lib/types.h"

/* The largest weight; the smallest is 1. */
#define SCHEDULER_WEIGHT_MAX 10000

/* One vCPU as its processor's scheduler sees it. scheduler_add fills it; the statistics are for anybody to
 * read, all else is the scheduler's. */
struct scheduler_entity {
    uint64_t run_time; /* statistics: ticks that it has run since it was added */
    uint64_t waited;   /* statistics: ticks that it would have run and did not, for others or for its cap: the
                          stolen time. Current when it is picked. */

    struct scheduler_entity *next; /* in the order of their last turns */
    uint32_t weight;
    uint32_t cap;           /* per cent of a period; 0: none */
    uint64_t debt;          /* service beyond the least served one's; in units of 2^-14 ticks by weight */
    uint64_t used;          /* ticks run in this period, and those run too long in the ones before */
    uint64_t wake_time;     /* while blocked: when it wakes by itself, UINT64_MAX: never */
    uint64_t waiting_since; /* while it wants to run: `waited` is right up to here */
    bool blocked;
    bool woken;   /* has not run since it woke: goes before its equals */
    bool yielded; /* lets the others go first, once */
};

struct scheduler {
    struct scheduler_entity *first;   /* all that were added, the one with the latest turn last */
    struct scheduler_entity *current; /* the last one picked, while its slice is not over; or NULL */
    uint64_t quantum;
    uint64_t period;
    uint64_t period_start;
    uint64_t slice_left; /* ticks of current's */
    uint64_t weights;    /* sum of all: how loaded the processor is */
    unsigned count;
};

/*
 * `quantum`: ticks that one may run while others wait; `period`: ticks in which a cap is kept, not less than
 * a quantum and at least 100. Neither is 0.
 */
void scheduler_init(struct scheduler *s, uint64_t quantum, uint64_t period);

/*
 * Takes `e`, which must be in no scheduler, in as one that wants to run. `weight` is 1 to
 * SCHEDULER_WEIGHT_MAX, `cap` the per cent of each period that it gets at most: 1 to 99; 0 or 100 and more:
 * no cap.
 */
void scheduler_add(struct scheduler *s, struct scheduler_entity *e, unsigned weight, unsigned cap,
                   uint64_t now);

/* Takes `e` out; its statistics stay as they are. Not between a pick of `e` and its scheduler_ran. */
void scheduler_remove(struct scheduler *s, struct scheduler_entity *e, uint64_t now);

/* Gives `e` another weight and cap, from now on; ranges as in scheduler_add. */
void scheduler_set(struct scheduler *s, struct scheduler_entity *e, unsigned weight, unsigned cap);

/*
 * `e` does not want to run before host TSC `wake_time` (UINT64_MAX: never) unless it is woken. For an entity
 * that is blocked already it sets the time anew, and takes back a wake that no pick has seen yet: look
 * whether there is something to run for, then block, then take messages in that may wake it.
 */
void scheduler_block(struct scheduler *s, struct scheduler_entity *e, uint64_t now, uint64_t wake_time);

/* `e` wants to run from `now` on. Nothing changes if it does already. */
void scheduler_wake(struct scheduler *s, struct scheduler_entity *e, uint64_t now);

/*
 * The entity to run at `now`, or NULL if there is none. `*until` is when to ask again at the latest: the end
 * of its slice (if anybody else wants to run) or of its cap's budget, or the earliest moment at which another
 * could want to; UINT64_MAX: no such moment, or with NULL: nothing happens until somebody is woken.
 *
 * An entity whose wake time has come counts as awake. A caller who finds that it has nothing to run for
 * blocks it again and picks anew. O(number of entities).
 */
struct scheduler_entity *scheduler_pick(struct scheduler *s, uint64_t now, uint64_t *until);

/* `e`, the last one picked, has run from host TSC `from` to `to`. To be called before the next pick. */
void scheduler_ran(struct scheduler *s, struct scheduler_entity *e, uint64_t from, uint64_t to);

/*
 * `e` runs but waits for another (it spins): its slice is over, and the next pick prefers any other that
 * wants to run. It keeps its place, with the credit of a quantum at most.
 */
void scheduler_yield(struct scheduler *s, struct scheduler_entity *e);

/* Whether another than `e` wants to run and may: whether it is worth while that `e` yields. */
bool scheduler_contended(const struct scheduler *s, const struct scheduler_entity *e);
