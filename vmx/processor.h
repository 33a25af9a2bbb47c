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

/* Leaves VMX operation if this processor is in it. No VMCS is in use any more. */
void vmx_processor_disable(void);

/* Whether `a` and `b` describe the same VT-x; how far firmware has switched it on does not count. */
bool vmx_processor_same(const struct vmx_capabilities *a, const struct vmx_capabilities *b);

/*
 * Takes every other processor out of VMX operation and stops it for good, whatever it does, and waits until
 * it has stopped (or a while: one that is dead does not matter any more). For what ends Umbra: reset (INIT is
 * blocked in VMX operation), power-off, panic. Any processor, any context. What the others did is left as it
 * is in the middle: no lock may be taken afterwards.
 */
void vmx_processor_stop_others(void);
