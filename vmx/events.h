// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What a vCPU takes at its next entry: an event whose delivery an exit interrupted, an exception, an NMI or
 * an external interrupt (SDM vol. 3, "Event injection", "Information for VM exits that occur during event
 * delivery"). One event an entry; for the others a window is asked for, so that none is lost and none comes
 * late.
 */
#include "vmx/vcpu.h"

/* Event types of the interruption-information fields. */
enum vcpu_event_type {
    VCPU_EVENT_EXTERNAL_INTERRUPT = 0,
    VCPU_EVENT_NMI = 2,
    VCPU_EVENT_HARDWARE_EXCEPTION = 3,
    VCPU_EVENT_SOFTWARE_INTERRUPT = 4,
    VCPU_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION = 5,
    VCPU_EVENT_SOFTWARE_EXCEPTION = 6,
    VCPU_EVENT_OTHER = 7,
};

/*
 * What vcpu_interrupt_ops.pending answers for an interrupt that does not come through the local APIC, and has
 * no vector yet: it is injected also where the processor delivers the local APIC's by itself (vmx/apicv.h).
 */
#define VCPU_INTERRUPT_EXTERNAL   256

/* Fields of an interruption information. */
#define EVENT_VECTOR(information) ((unsigned)(information)&0xff)
#define EVENT_TYPE(information)   ((unsigned)(information) >> 8 & 7)
#define EVENT_HAS_ERROR_CODE      BIT(11)
#define EVENT_NMI_UNBLOCKED                                                                                  \
    BIT(12) /* exit interruption information, exit qualification of EPT violations                           \
             */
#define EVENT_VALID        BIT(31)

/* Bits of the guest's interruptibility state. */
#define BLOCKING_BY_STI    BIT(0)
#define BLOCKING_BY_MOV_SS BIT(1)
#define BLOCKING_BY_NMI    BIT(3)

/* The rare part of vcpu_events_after_exit. */
void vcpu_events_interrupted(struct vcpu *vcpu);

/*
 * Takes note, right after an exit, of an event whose delivery the exit interrupted: it will be delivered
 * again, unless something that overrides it is queued meanwhile. Exit path.
 */
static inline void vcpu_events_after_exit(struct vcpu *vcpu)
{
    if (unlikely((vcpu_fetched(vcpu, VMCS_IDT_VECTORING_INFO) & EVENT_VALID) != 0))
        vcpu_events_interrupted(vcpu);
    else
        vcpu->injection = 0;
}

/*
 * Queues an exception for the next entry. If one is queued already, or one was being delivered, both become
 * what the processor makes of them: the second alone, a double fault or a triple fault. False: a triple
 * fault; the vCPU cannot go on.
 */
bool vcpu_queue_exception(struct vcpu *vcpu, uint8_t vector, bool has_error_code,
                          uint32_t error_code) __must_check;

/*
 * Queues an exception that an exit intercepted, as it was: its type, error code and, for software ones,
 * instruction length.
 */
void vcpu_requeue_event(struct vcpu *vcpu, uint64_t information, uint64_t error_code,
                        uint64_t instruction_length);

/*
 * The event whose delivery the last exit interrupted has been delivered in the processor's place: it is not
 * delivered again, and if it was an NMI, others are blocked now.
 */
void vcpu_event_delivered(struct vcpu *vcpu);

/*
 * An exit whose `information` (exit interruption information, or qualification of an EPT violation) has
 * EVENT_NMI_UNBLOCKED interrupted an IRET that had unblocked NMIs already: they are blocked until it is run
 * again (SDM vol. 3, "Resuming guest software after handling an exception").
 */
void vcpu_restore_nmi_blocking(struct vcpu *vcpu, uint64_t information);

/* Queues an NMI. One that arrives while another waits is lost, as on the processor. */
void vcpu_queue_nmi(struct vcpu *vcpu);

/* Something that events depend on has changed: the next entry looks again. */
static inline void vcpu_events_changed(struct vcpu *vcpu)
{
    vcpu->events_changed = true;
}

/* The part of vcpu_events_before_entry that has something to decide. */
void vcpu_events_decide(struct vcpu *vcpu);

/* Decides what is injected at the entry that follows at once, and which windows are open. Exit path. */
static inline void vcpu_events_before_entry(struct vcpu *vcpu)
{
    if (unlikely(vcpu->events_changed))
        vcpu_events_decide(vcpu);
}

/* True if something waits that would end a HLT: an exception, a debug trap, an NMI that is not blocked, an
 * interrupt with IF = 1. */
bool vcpu_events_would_wake(struct vcpu *vcpu);

/* Forgets all that is queued. For a vCPU that is reset. */
void vcpu_events_reset(struct vcpu *vcpu);
