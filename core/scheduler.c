// SPDX-License-Identifier: BSD-2-Clause
#include "core/scheduler.h"

#include "lib/muldiv.h"

/* Debt is counted finely enough that a tick is worth more than nothing at every weight. */
#define DEBT_SCALE BIT(14)

_Static_assert(DEBT_SCALE > SCHEDULER_WEIGHT_MAX, "a tick's debt must not round to 0");

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a + b < a ? UINT64_MAX : a + b;
}

static uint64_t difference(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* What `ticks` of service cost an entity. */
static uint64_t cost(const struct scheduler_entity *e, uint64_t ticks)
{
    return muldiv_up_u64(ticks, DEBT_SCALE, e->weight);
}

/* Ticks of each period that it may have; UINT64_MAX if it has no cap. */
static uint64_t budget(const struct scheduler *s, const struct scheduler_entity *e)
{
    return e->cap == 0 ? UINT64_MAX : muldiv_u64(s->period, e->cap, 100);
}

static bool throttled(const struct scheduler *s, const struct scheduler_entity *e)
{
    return e->used >= budget(s, e);
}

/* It wants to run, and may. */
static bool competes(const struct scheduler *s, const struct scheduler_entity *e)
{
    return !e->blocked && !throttled(s, e);
}

static void end_slice(struct scheduler *s)
{
    s->current = NULL;
    s->slice_left = 0;
}

static void count_waiting(struct scheduler_entity *e, uint64_t until)
{
    if (e->blocked || until <= e->waiting_since)
        return;
    e->waited += until - e->waiting_since;
    e->waiting_since = until;
}

/* Takes the least debt of those who compete, and of `with` if not NULL, off everybody's. */
static void settle(struct scheduler *s, const struct scheduler_entity *with)
{
    uint64_t least = with != NULL ? with->debt : UINT64_MAX;
    bool found = with != NULL;

    for (const struct scheduler_entity *e = s->first; e != NULL; e = e->next) {
        if (competes(s, e)) {
            least = min_u64(least, e->debt);
            found = true;
        }
    }
    if (!found)
        return;
    for (struct scheduler_entity *e = s->first; e != NULL; e = e->next)
        e->debt = difference(e->debt, least);
}

/* Begins the period of `now`. What was run in those that have ended is forgotten, but for what went beyond
 * the cap. */
static void begin_period(struct scheduler *s, uint64_t now)
{
    if (now < s->period_start || now - s->period_start < s->period)
        return;

    uint64_t ended = (now - s->period_start) / s->period;
    s->period_start += ended * s->period;
    for (struct scheduler_entity *e = s->first; e != NULL; e = e->next)
        e->used = difference(e->used, muldiv_u64(budget(s, e), ended, 1));
}

static void wake_due(struct scheduler *s, uint64_t now)
{
    for (struct scheduler_entity *e = s->first; e != NULL; e = e->next) {
        if (!e->blocked || e->wake_time > now)
            continue;
        e->blocked = false;
        e->woken = true;
        e->waiting_since = max_u64(e->waiting_since, e->wake_time);
    }
}

static void append(struct scheduler *s, struct scheduler_entity *e)
{
    struct scheduler_entity **link = &s->first;

    while (*link != NULL)
        link = &(*link)->next;
    *link = e;
    e->next = NULL;
}

static void unlink_entity(struct scheduler *s, struct scheduler_entity *e)
{
    struct scheduler_entity **link = &s->first;

    while (*link != e)
        link = &(*link)->next;
    *link = e->next;
    e->next = NULL;
}

void scheduler_init(struct scheduler *s, uint64_t quantum, uint64_t period)
{
    *s = (struct scheduler){.quantum = quantum, .period = period};
}

static void set_share(struct scheduler_entity *e, unsigned weight, unsigned cap)
{
    e->weight = weight;
    e->cap = cap < 100 ? cap : 0;
}

void scheduler_add(struct scheduler *s, struct scheduler_entity *e, unsigned weight, unsigned cap,
                   uint64_t now)
{
    /* The next pick wakes it: what has run until then does not count against it. */
    *e = (struct scheduler_entity){
        .run_time = e->run_time,
        .waited = e->waited,
        .blocked = true,
        .wake_time = now,
        .waiting_since = now,
    };
    set_share(e, weight, cap);
    append(s, e);
    s->weights += weight;
    s->count++;
}

void scheduler_remove(struct scheduler *s, struct scheduler_entity *e, uint64_t now)
{
    count_waiting(e, now);
    if (s->current == e)
        end_slice(s);
    unlink_entity(s, e);
    s->weights -= e->weight;
    s->count--;
}

void scheduler_set(struct scheduler *s, struct scheduler_entity *e, unsigned weight, unsigned cap)
{
    s->weights += weight;
    s->weights -= e->weight;
    /* The service that it has had too much stays the same number of ticks. */
    e->debt = muldiv_u64(e->debt, e->weight, weight);
    set_share(e, weight, cap);
    /* A cap that is new or lower throttles it to the end of this period, not longer. */
    e->used = min_u64(e->used, budget(s, e));
}

void scheduler_block(struct scheduler *s, struct scheduler_entity *e, uint64_t now, uint64_t wake_time)
{
    count_waiting(e, now);
    e->blocked = true;
    e->woken = false;
    e->yielded = false;
    e->wake_time = wake_time;
    e->waiting_since = now;
    if (s->current == e)
        end_slice(s);
}

void scheduler_wake(struct scheduler *s, struct scheduler_entity *e, uint64_t now)
{
    (void)s;
    if (e->blocked)
        e->wake_time = min_u64(e->wake_time, now);
}

void scheduler_yield(struct scheduler *s, struct scheduler_entity *e)
{
    e->yielded = true;
    if (s->current == e)
        end_slice(s);
}

bool scheduler_contended(const struct scheduler *s, const struct scheduler_entity *e)
{
    for (const struct scheduler_entity *other = s->first; other != NULL; other = other->next)
        if (other != e && competes(s, other))
            return true;
    return false;
}

static bool precedes(const struct scheduler_entity *a, const struct scheduler_entity *b)
{
    if (a->yielded != b->yielded)
        return b->yielded;
    if (a->debt != b->debt)
        return a->debt < b->debt;
    return a->woken && !b->woken;
}

/* Whose turn it is by debts alone; among equals, who has had none for longest. NULL: nobody competes. */
static struct scheduler_entity *find_next(const struct scheduler *s)
{
    struct scheduler_entity *next = NULL;

    for (struct scheduler_entity *e = s->first; e != NULL; e = e->next)
        if (competes(s, e) && (next == NULL || precedes(e, next)))
            next = e;
    return next;
}

/*
 * Whether who runs goes on with his slice, although it is the turn of `next`: only one who has woken since,
 * and owes no more (else it would not be his turn), interrupts it.
 */
static bool keeps_turn(const struct scheduler *s, const struct scheduler_entity *next)
{
    return s->current != NULL && s->slice_left != 0 && competes(s, s->current) && !next->woken;
}

/*
 * `chosen` goes before those who yielded. Their credit against it is a quantum of its time at most: a spinner
 * cannot save the processor up, nor make `chosen` owe more than it can work off.
 */
static void pass_over(struct scheduler *s, const struct scheduler_entity *chosen)
{
    for (struct scheduler_entity *e = s->first; e != NULL; e = e->next) {
        if (!e->yielded)
            continue;
        e->yielded = false;
        if (e != chosen)
            e->debt = max_u64(e->debt, difference(chosen->debt, cost(chosen, s->quantum)));
    }
    settle(s, NULL);
}

static void begin_slice(struct scheduler *s, struct scheduler_entity *e)
{
    pass_over(s, e);
    unlink_entity(s, e);
    append(s, e);
    s->current = e;
    s->slice_left = s->quantum;
}

/* The earliest moment at which somebody other than `chosen` (may be NULL) could begin to compete. */
static uint64_t next_event(const struct scheduler *s, const struct scheduler_entity *chosen)
{
    uint64_t next = UINT64_MAX;

    for (const struct scheduler_entity *e = s->first; e != NULL; e = e->next) {
        if (e == chosen)
            continue;
        if (e->blocked)
            next = min_u64(next, e->wake_time);
        else if (throttled(s, e))
            next = min_u64(next, sum(s->period_start, s->period));
    }
    return next;
}

struct scheduler_entity *scheduler_pick(struct scheduler *s, uint64_t now, uint64_t *until)
{
    begin_period(s, now);
    wake_due(s, now);
    settle(s, NULL);

    struct scheduler_entity *e = find_next(s);
    *until = next_event(s, e);
    if (e == NULL) {
        end_slice(s);
        return NULL;
    }
    if (keeps_turn(s, e))
        e = s->current;
    else
        begin_slice(s, e);
    *until = next_event(s, e);
    if (scheduler_contended(s, e))
        *until = min_u64(*until, sum(now, s->slice_left));
    if (e->cap != 0)
        *until = min_u64(*until, min_u64(sum(now, budget(s, e) - e->used), s->period_start + s->period));
    count_waiting(e, now);
    return e;
}

void scheduler_ran(struct scheduler *s, struct scheduler_entity *e, uint64_t from, uint64_t to)
{
    uint64_t ticks = difference(to, from);

    count_waiting(e, from);
    e->waiting_since = max_u64(e->waiting_since, to);
    e->woken = false;
    e->run_time += ticks;
    e->used = sum(e->used, ticks);
    e->debt = sum(e->debt, cost(e, ticks));
    if (s->current == e)
        s->slice_left = difference(s->slice_left, ticks);
    /* Who ran alone owes nobody for it, not even if this was the end of his budget. */
    settle(s, e);
}
