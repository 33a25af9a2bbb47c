// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Exception 21. To a processor with CET it is #CP and has an error code; to Lv1's processor, which has no CET
 * and no "injection with any error code", it is one of the reserved ones and has none (SDM vol. 3, "VM-entry
 * controls for event injection"). Where VMCS02 cannot have such an event, a privileged software exception of
 * length 0 stands for it: it is delivered the same way, and Lv2 cannot bring it about by itself. Pure.
 */
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "vmx/controls.h"
#include "vmx/events.h"

#define STAND_IN_REAL (EVENT_VALID | VCPU_EVENT_HARDWARE_EXCEPTION << 8 | X86_VECTOR_CP)
#define STAND_IN      (EVENT_VALID | VCPU_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION << 8 | X86_VECTOR_CP)

/* What VMCS02 is to inject for `event`, an event of VMCS12's that has passed its checks. */
static inline uint64_t nested_stand_in(const struct vmx_capabilities *hardware, uint64_t event)
{
    const bool wants_code =
        (hardware->cr4_fixed1 & X86_CR4_CET) != 0 && (hardware->basic & VMX_BASIC_ANY_ERROR_CODE) == 0;

    return wants_code && event == STAND_IN_REAL ? STAND_IN : event;
}

/* What Lv1 knows `event`, one of VMCS02's, as. */
static inline uint64_t nested_stand_in_real(uint64_t event)
{
    return event == STAND_IN ? STAND_IN_REAL : event;
}
