// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The logical VM entry: VMLAUNCH and VMRESUME of Lv1, once nested/instructions.h has found nothing against
 * the instruction itself (docs/design/nested.md, "An entry"; seed 004, Fig. 10).
 */
#include "nested/merge.h"
#include "nested/nested.h"

enum nested_entry_result {
    NESTED_ENTERED,          /* Lv2 runs: vcpu02 is what the next entry enters, and its VMCS is current */
    NESTED_ENTERED_INACTIVE, /* the same, but Lv2 is in the activity state that VMCS12 has, and not active */
    NESTED_ENTRY_VMFAIL,     /* the instruction failed, and says so: Lv1 goes on after it */
    NESTED_ENTRY_FAILED, /* the entry failed, *failure says how: the caller makes the logical exit of it */
};

/* Why an entry did not happen. */
struct nested_entry_failure {
    /* The exit that it makes (SDM vol. 3, "VM-entry failures during or after loading guest state"): only with
     * NESTED_ENTRY_FAILED. */
    uint32_t reason; /* with bit 31 */
    uint64_t qualification;
    const struct nested_check_row *row; /* the check that did not hold; NULL: none of them */
};

/*
 * Enters Lv2. VMCS01 is current, and stays so unless the result is one of the first two. The next entry of
 * vcpu02 looks at events.
 */
enum nested_entry_result nested_enter(struct nested_vcpu *n, const struct nested_merge_input *in,
                                      struct nested_entry_failure *failure) __must_check;
