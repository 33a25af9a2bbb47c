// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The protocol of the guests that measure. One phase after the other, each of which says
 *
 *     PHASE name operations     what is needed is there
 *     END name                  done: so many operations
 *     OWN name ports halts      port accesses and halts that are the protocol's, from the one to the other
 *     BENCH name …              instructions of one operation, by the TSC; bare, the same without exits
 *
 * and last `PHASE end 0`. With the word `wait` the guest halts behind each PHASE and each END until a byte
 * comes on the serial line: so that somebody outside can count while nothing happens. What exits from the one
 * halt to the other is the phase and what OWN says. The halt ends by an interrupt of the UART through the
 * 8259, which costs port accesses only. Samples leave out what stands between the operations; exits do not.
 */
#include "tests/guests/lib/guest.h"

#define BENCH_SAMPLES 4096 /* of one phase, at most */

struct bench_phase {
    const char *name;
    unsigned operations;
    unsigned n, m; /* for the two functions */
    void (*prepare)(unsigned n, unsigned m);
    void (*run)(unsigned n, unsigned m);
};

extern uint64_t bench_samples[BENCH_SAMPLES];
extern unsigned bench_taken;
extern uint64_t bench_began;

static inline void bench_sample_begin(void)
{
    bench_began = rdtsc();
}

static inline void bench_sample_end(void)
{
    bench_samples[bench_taken++] = rdtsc() - bench_began;
}

/* First of all. The local APIC passes the 8259's interrupts on from now on, whether the guest will wait or
 * not: it is measured in one state. */
void bench_init(void);

/* The least sample of those that there are, which it takes away. */
uint64_t bench_least(void);

/* What a sample of nothing costs. */
uint64_t bench_overhead(void);

/* Prepares the phase, forgets the samples, waits, runs, waits, says what it found, less `overhead` each. */
void bench_run(const struct bench_phase *phase, uint64_t overhead);

/* Says that there are no more phases. */
void bench_end(void);
