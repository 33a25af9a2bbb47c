// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The machine's 8254, used once: to measure the TSC when nothing better says how fast it runs.
 */
#include "lib/types.h"

/* Ticks of the TSC a second, measured over about 10 ms of channel 2; 0 if the 8254 does not count. Interrupts
 * off. */
uint64_t pit_measure_tsc(void);
