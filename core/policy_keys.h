// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The policy rows that a partition's configuration may override, as keys `policy.NAME`; the first value is
 * the default. Handed to config_parse, on the machine and on the host alike.
 */
#include "core/config/config.h"

enum core_policy {
    CORE_POLICY_TPR, /* index in struct config_partition's policies */
};

/* Values of `policy.tpr`. */
enum core_policy_tpr {
    CORE_POLICY_TPR_SHADOWING,
    CORE_POLICY_TPR_INTERCEPT,
};

extern const struct config_policy_key core_policy_keys[];
