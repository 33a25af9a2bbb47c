// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/percpu.h"

PERCPU uint64_t percpu_offset;
PERCPU unsigned percpu_number;
