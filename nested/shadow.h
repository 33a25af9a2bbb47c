// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The shadow VMCS (SDM vol. 3, "VMCS types: ordinary and shadow", "VMREAD", "VMWRITE"): while Lv1 runs with a
 * current VMCS, VMCS01 links to it, and Lv1's VMREAD and VMWRITE of the fields below go there without an
 * exit. Where the processor has no shadowing all of them exit, and nothing here does anything.
 *
 * VMCS12 stays the truth. What Lv1 may write is taken over from the shadow VMCS where somebody is about to
 * look: at an entry, and before VMCS12 goes back to guest memory. What a logical exit, or another VMCS12, has
 * changed is brought to the shadow VMCS before Lv1 goes on.
 */
#include "nested/nested.h"

/*
 * X(FIELD, ACCESS): READ, Lv1 reads it; WRITE, and writes it. A field costs a comparison at each exit, and
 * what is written another one at each entry, so they are those that a guest hypervisor touches in the course
 * of an ordinary exit: what the exit was, the registers that it emulates by, and what it injects. None has an
 * encoding for its upper half that would be written: that one exits.
 */
#define NESTED_SHADOW_FIELDS(X)                                                                              \
    X(EXIT_REASON, READ)                                                                                     \
    X(EXIT_QUALIFICATION, READ)                                                                              \
    X(EXIT_INTERRUPTION_INFO, READ)                                                                          \
    X(EXIT_INTERRUPTION_ERROR_CODE, READ)                                                                    \
    X(IDT_VECTORING_INFO, READ)                                                                              \
    X(IDT_VECTORING_ERROR_CODE, READ)                                                                        \
    X(EXIT_INSTRUCTION_LENGTH, READ)                                                                         \
    X(EXIT_INSTRUCTION_INFO, READ)                                                                           \
    X(GUEST_LINEAR_ADDRESS, READ)                                                                            \
    X(GUEST_PHYSICAL_ADDRESS, READ)                                                                          \
    X(GUEST_CS_ACCESS_RIGHTS, READ)                                                                          \
    X(GUEST_SS_ACCESS_RIGHTS, READ)                                                                          \
    X(GUEST_RIP, WRITE)                                                                                      \
    X(GUEST_RSP, WRITE)                                                                                      \
    X(GUEST_RFLAGS, WRITE)                                                                                   \
    X(GUEST_INTERRUPTIBILITY, WRITE)                                                                         \
    X(PRIMARY_CONTROLS, WRITE)                                                                               \
    X(ENTRY_INTERRUPTION_INFO, WRITE)                                                                        \
    X(ENTRY_EXCEPTION_ERROR_CODE, WRITE)                                                                     \
    X(ENTRY_INSTRUCTION_LENGTH, WRITE)                                                                       \
    X(TPR_THRESHOLD, WRITE)                                                                                  \
    X(PREEMPTION_TIMER_VALUE, WRITE)

/* Whether the processor can do it: the control, VMWRITE to the fields of exit information, and all fields. */
bool nested_shadow_possible(const struct vmx_capabilities *hardware);

/*
 * Makes the VMREAD and VMWRITE bitmaps (physmap pointers to frames) for Lv1 with these capabilities: a field
 * is through if it is in the table and Lv1's VMCSs have it. When the vCPU is built.
 */
void nested_shadow_build(const struct nested_capabilities *capabilities, uint8_t *vmread, uint8_t *vmwrite);

/*
 * A VMCS12 has become the current one (n->current says which), or none is any more: VMCS01 links to the
 * shadow VMCS, or does not. VMCS01 is current.
 */
void nested_shadow_link(struct nested_vcpu *n);

/* What Lv1 wrote without an exit comes to VMCS12, and counts as written. VMCS01 is current. Exit path. */
void nested_shadow_collect(struct nested_vcpu *n);

/* What of VMCS12 is not in the shadow VMCS yet goes there. VMCS01 is current. Exit path. */
void nested_shadow_publish(struct nested_vcpu *n);

/* The same after a VMWRITE of `field` that exited: of one that Lv1 only reads there, or of any other. */
void nested_shadow_publish_field(struct nested_vcpu *n, struct vmcs_field field);
