// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The machine's battery clock (MC146818), read once at start.
 */
#include "lib/types.h"

/* Seconds since 1970-01-01 00:00 UTC, if the clock runs in UTC; 0 if it does not answer sensibly. Start-up.
 */
int64_t cmos_clock_read(void);
