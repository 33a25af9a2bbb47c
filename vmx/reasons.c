// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/reasons.h"

static const char *const reason_names[EXIT_REASON_COUNT] = {
#define X(NUMBER, NAME, TEXT) [NUMBER] = TEXT,
    EXIT_REASONS(X)
#undef X
};

static const char *const error_texts[VM_ERROR_COUNT] = {
#define X(NUMBER, NAME, TEXT) [NUMBER] = TEXT,
    VM_INSTRUCTION_ERRORS(X)
#undef X
};

/* The numbers run from 0 without a gap exactly if there are as many rows as the last number says. */
#define X(NUMBER, NAME, TEXT) +1
_Static_assert(0 EXIT_REASONS(X) == EXIT_REASON_COUNT, "an exit reason has no row");
#undef X

const char *vmx_exit_reason_name(unsigned basic_reason)
{
    return basic_reason < EXIT_REASON_COUNT ? reason_names[basic_reason] : "unknown exit reason";
}

const char *vmx_instruction_error_text(unsigned number)
{
    const char *text = number < VM_ERROR_COUNT ? error_texts[number] : NULL;

    return text != NULL ? text : "unknown VM-instruction error";
}
