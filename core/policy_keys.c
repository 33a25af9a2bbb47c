// SPDX-License-Identifier: BSD-2-Clause
#include "core/policy_keys.h"

#include "arch/x86/registers.h"

_Static_assert(CORE_POLICIES_COUNT <= CONFIG_POLICIES_MAX, "a configuration holds as many");

/* What the others are by default depends on who translates the guest's addresses. */
const struct config_policy_key core_policy_keys[] = {
#define X(NAME, KEY, MEMBER, BITS) [CORE_POLICY_##NAME] = {KEY, {"default", "intercept"}},
    CORE_POLICIES(X)
#undef X
        [CORE_POLICY_TPR] =
            {"tpr", {[CORE_POLICY_TPR_SHADOWING] = "shadowing", [CORE_POLICY_TPR_INTERCEPT] = "intercept"}},
    {.name = NULL},
};

void core_policy_overrides(const uint8_t policies[CONFIG_POLICIES_MAX], struct policy_overrides *overrides)
{
    *overrides = (struct policy_overrides){.tpr = policies[CORE_POLICY_TPR] == CORE_POLICY_TPR_INTERCEPT};
#define X(NAME, KEY, MEMBER, BITS)                                                                           \
    if (policies[CORE_POLICY_##NAME] != 0)                                                                   \
        overrides->MEMBER |= (BITS);
    CORE_POLICIES(X)
#undef X
}
