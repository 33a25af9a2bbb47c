// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * VMX operation of this processor (SDM vol. 3, "Enabling and entering VMX operation").
 */
#include "lib/types.h"
#include "vmx/controls.h"

/* What this processor can do, read from its MSRs and CPUID. */
void vmx_processor_capabilities(struct vmx_capabilities *capabilities);

/*
 * Enters VMX root operation with `region` (a frame, the caller's, for as long as VMX is on) as VMXON region.
 * -EPERM if firmware locked VMX off, -EIO if VMXON fails. `capabilities` have no obstacle. Start-up of a
 * processor.
 */
int vmx_processor_enable(const struct vmx_capabilities *capabilities, hpa_t region) __must_check;

/* Leaves VMX operation. No VMCS is in use any more. */
void vmx_processor_disable(void);
