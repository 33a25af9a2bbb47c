// SPDX-License-Identifier: BSD-2-Clause
#include "core/policy_keys.h"

const struct config_policy_key core_policy_keys[] = {
    [CORE_POLICY_TPR] =
        {"tpr", {[CORE_POLICY_TPR_SHADOWING] = "shadowing", [CORE_POLICY_TPR_INTERCEPT] = "intercept"}},
    {.name = NULL},
};
