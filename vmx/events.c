// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/events.h"

#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "vmx/apicv.h"

/* Of the pending debug exceptions: a single step, or an enabled breakpoint. */
#define PENDING_DEBUG_TRAPS (X86_DR6_BS | BIT(12))

/* Of an interruption information: valid, type and vector. */
#define EVENT_IDENTITY      (EVENT_VALID | 0x7ff)

/* What an event that is to be injected looks like; 0: none. */
static void set_injection(struct vcpu *vcpu, uint64_t information, uint64_t error_code, uint64_t length)
{
    vcpu->injection = (uint32_t)information;
    vcpu->injection_error_code = (uint32_t)error_code;
    vcpu->injection_length = (uint32_t)length;
}

static bool is_software_event(uint64_t information)
{
    unsigned type = EVENT_TYPE(information);

    return type == VCPU_EVENT_SOFTWARE_INTERRUPT || type == VCPU_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION ||
           type == VCPU_EVENT_SOFTWARE_EXCEPTION;
}

/*
 * The event whose delivery the exit interrupted. An external interrupt that was not injected is the
 * processor's own delivery, of the vector in service; Bochs names another (docs/notes/bochs.md).
 */
static uint64_t interrupted_event(struct vcpu *vcpu)
{
    uint64_t vectoring = vcpu_read(vcpu, VMCS_IDT_VECTORING_INFO);

    if (EVENT_TYPE(vectoring) != VCPU_EVENT_EXTERNAL_INTERRUPT || !apicv_delivers(vcpu) ||
        (vectoring & EVENT_IDENTITY) == (vcpu->injection & EVENT_IDENTITY))
        return vectoring;
    return (vectoring & ~(uint64_t)0xff) | (vcpu_read(vcpu, VMCS_GUEST_INTERRUPT_STATUS) >> 8 & 0xff);
}

void vcpu_events_interrupted(struct vcpu *vcpu)
{
    uint64_t vectoring = interrupted_event(vcpu);

    /*
     * The bits of the two fields agree but for bit 12, which is undefined here. A delivery of an NMI that
     * failed leaves blocking by NMI set; the injection sets it again, and must find it clear (SDM vol. 3,
     * "Checks on guest non-register state").
     */
    vectoring &= ~EVENT_NMI_UNBLOCKED;
    set_injection(vcpu, vectoring,
                  vectoring & EVENT_HAS_ERROR_CODE ? vcpu_read(vcpu, VMCS_IDT_VECTORING_ERROR_CODE) : 0,
                  is_software_event(vectoring) ? vcpu_read(vcpu, VMCS_EXIT_INSTRUCTION_LENGTH) : 0);
    if (EVENT_TYPE(vectoring) == VCPU_EVENT_NMI)
        vcpu_write(vcpu, VMCS_GUEST_INTERRUPTIBILITY,
                   vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) & ~BLOCKING_BY_NMI);
    vcpu->events_changed = true;
}

/* The classes of exceptions that can make a double fault (SDM vol. 3, table "Interrupt and exception
 * classes"). */
static bool is_contributory(unsigned vector)
{
    return vector == X86_VECTOR_DE || (vector >= X86_VECTOR_TS && vector <= X86_VECTOR_GP) ||
           vector == X86_VECTOR_CP;
}

static bool is_page_fault(unsigned vector)
{
    return vector == X86_VECTOR_PF || vector == X86_VECTOR_VE;
}

/* Real mode knows no error codes, and the entry would fail (SDM vol. 3, "Checks on VMX controls"). */
static uint64_t error_code_flag(struct vcpu *vcpu)
{
    return vcpu_read(vcpu, VMCS_GUEST_CR0) & X86_CR0_PE ? EVENT_HAS_ERROR_CODE : 0;
}

static void inject(struct vcpu *vcpu)
{
    /* The processor clears the valid bit at each exit. */
    vcpu_write(vcpu, VMCS_ENTRY_INTERRUPTION_INFO, vcpu->injection);
    if (vcpu->injection & EVENT_HAS_ERROR_CODE)
        vcpu_write(vcpu, VMCS_ENTRY_EXCEPTION_ERROR_CODE, vcpu->injection_error_code);
    if (is_software_event(vcpu->injection))
        vcpu_write(vcpu, VMCS_ENTRY_INSTRUCTION_LENGTH, vcpu->injection_length);
}

bool vcpu_queue_exception(struct vcpu *vcpu, uint8_t vector, bool has_error_code, uint32_t error_code)
{
    const uint64_t exception = EVENT_VALID | VCPU_EVENT_HARDWARE_EXCEPTION << 8;
    const bool alone = vcpu->injection == 0 && !vcpu->events_changed;

    vcpu->events_changed = true;
    if (vcpu->injection != 0 && EVENT_TYPE(vcpu->injection) == VCPU_EVENT_HARDWARE_EXCEPTION) {
        unsigned first = EVENT_VECTOR(vcpu->injection);
        if (first == X86_VECTOR_DF && (is_contributory(vector) || is_page_fault(vector)))
            return false;
        if ((is_contributory(first) && is_contributory(vector)) ||
            (is_page_fault(first) && (is_contributory(vector) || is_page_fault(vector)))) {
            set_injection(vcpu, exception | error_code_flag(vcpu) | X86_VECTOR_DF, 0, 0);
            return true;
        }
    }
    /*
     * The instruction or delivery that faulted will be run again. An interrupt or NMI whose delivery faulted
     * is not the instruction's doing: it must not be lost, so it goes back to its queue.
     */
    if (vcpu->injection != 0 && EVENT_TYPE(vcpu->injection) == VCPU_EVENT_NMI)
        vcpu->nmi_pending = true;
    if (vcpu->injection != 0 && EVENT_TYPE(vcpu->injection) == VCPU_EVENT_EXTERNAL_INTERRUPT)
        vcpu->deferred_interrupt = (int)EVENT_VECTOR(vcpu->injection);
    set_injection(vcpu, exception | (has_error_code ? error_code_flag(vcpu) : 0) | vector, error_code, 0);
    /* A fault pushes RF = 1, so that an instruction breakpoint does not hit twice. What #DB pushes is there
     * already. */
    if (vector != X86_VECTOR_DB)
        vcpu_write(vcpu, VMCS_GUEST_RFLAGS, vcpu_read(vcpu, VMCS_GUEST_RFLAGS) | X86_RFLAGS_RF);
    if (alone) {
        /* What waits, and the windows that are open for it, are as they were decided last. */
        inject(vcpu);
        vcpu->events_changed = false;
    }
    return true;
}

void vcpu_requeue_event(struct vcpu *vcpu, uint64_t information, uint64_t error_code,
                        uint64_t instruction_length)
{
    information &= ~EVENT_NMI_UNBLOCKED;
    set_injection(vcpu, information, error_code, is_software_event(information) ? instruction_length : 0);
    vcpu->events_changed = true;
}

void vcpu_event_delivered(struct vcpu *vcpu)
{
    if (EVENT_TYPE(vcpu->injection) == VCPU_EVENT_NMI)
        vcpu_write(vcpu, VMCS_GUEST_INTERRUPTIBILITY,
                   vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_BY_NMI);
    set_injection(vcpu, 0, 0, 0);
    vcpu->events_changed = true;
}

void vcpu_restore_nmi_blocking(struct vcpu *vcpu, uint64_t information)
{
    if ((information & EVENT_NMI_UNBLOCKED) == 0 || vcpu->injection != 0)
        return;
    vcpu_write(vcpu, VMCS_GUEST_INTERRUPTIBILITY,
               vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_BY_NMI);
}

void vcpu_queue_nmi(struct vcpu *vcpu)
{
    vcpu->nmi_pending = true;
    vcpu->events_changed = true;
}

static void set_windows(struct vcpu *vcpu, uint64_t windows)
{
    const uint64_t both = VMX_PRIMARY_INTERRUPT_WINDOW_EXITING | VMX_PRIMARY_NMI_WINDOW_EXITING;

    vcpu_write(vcpu, VMCS_PRIMARY_CONTROLS,
               (vcpu_read(vcpu, VMCS_PRIMARY_CONTROLS) & ~both) | windows | vcpu->windows);
}

static int interrupt_pending(struct vcpu *vcpu)
{
    if (vcpu->deferred_interrupt >= 0)
        return vcpu->deferred_interrupt;
    return vcpu->interrupt_ops->pending(vcpu->interrupt_context);
}

/* The same, but only what has to be injected: -1 for a vector that the processor delivers by itself. */
static int interrupt_to_inject(struct vcpu *vcpu, bool delivers)
{
    int vector = interrupt_pending(vcpu);

    return delivers && vector < VCPU_INTERRUPT_EXTERNAL && vcpu->deferred_interrupt < 0 ? -1 : vector;
}

static int interrupt_take(struct vcpu *vcpu)
{
    int vector = vcpu->deferred_interrupt;

    if (vector < 0)
        return vcpu->interrupt_ops->take(vcpu->interrupt_context);
    vcpu->deferred_interrupt = -1;
    return vector;
}

static bool interrupt_allowed(struct vcpu *vcpu, uint64_t blocking)
{
    return (vcpu_read(vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_IF) != 0 &&
           (blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) == 0;
}

static bool nmi_allowed(uint64_t blocking)
{
    /* Some processors refuse an NMI right after STI: wait there too (SDM vol. 3, "Checks on guest
     * non-register state"). */
    return (blocking & (BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS | BLOCKING_BY_STI)) == 0;
}

void vcpu_events_decide(struct vcpu *vcpu)
{
    uint64_t windows = 0;
    const bool delivers = apicv_delivers(vcpu);
    int pending = interrupt_to_inject(vcpu, delivers);

    vcpu->events_changed = false;

    uint64_t blocking = vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY);
    if (vcpu->injection == 0 && vcpu->nmi_pending && nmi_allowed(blocking)) {
        vcpu->nmi_pending = false;
        set_injection(vcpu, EVENT_VALID | VCPU_EVENT_NMI << 8 | X86_VECTOR_NMI, 0, 0);
    }
    if (vcpu->injection == 0 && pending >= 0 && interrupt_allowed(vcpu, blocking)) {
        int vector = interrupt_take(vcpu);
        if (vector >= 0)
            set_injection(vcpu, EVENT_VALID | VCPU_EVENT_EXTERNAL_INTERRUPT << 8 | (unsigned)vector, 0, 0);
        pending = interrupt_to_inject(vcpu, delivers);
    }
    if (vcpu->injection != 0)
        inject(vcpu);
    if (vcpu->nmi_pending && vcpu->injection == 0 && (blocking & BLOCKING_BY_STI) != 0) {
        /*
         * The NMI window may be open in this shadow, and would exit for ever. The interrupt window opens when
         * the shadow ends, unless the next instruction clears IF: then the next exit will do.
         */
        windows |= VMX_PRIMARY_INTERRUPT_WINDOW_EXITING;
        vcpu->events_changed = true;
    } else if (vcpu->nmi_pending) {
        windows |= VMX_PRIMARY_NMI_WINDOW_EXITING;
    }
    if (pending >= 0)
        windows |= VMX_PRIMARY_INTERRUPT_WINDOW_EXITING;
    set_windows(vcpu, windows);
    if (delivers)
        apicv_before_entry(vcpu);
    else if (vmx_controls_have(&vcpu->controls, VMX_WORD_PRIMARY, VMX_PRIMARY_TPR_SHADOW))
        vcpu_write(vcpu, VMCS_TPR_THRESHOLD, vcpu->interrupt_ops->tpr_threshold(vcpu->interrupt_context));
}

bool vcpu_events_would_wake(struct vcpu *vcpu)
{
    if (vcpu->injection != 0 || (vcpu_read(vcpu, VMCS_GUEST_PENDING_DEBUG) & PENDING_DEBUG_TRAPS) != 0)
        return true;
    if (vcpu->nmi_pending && (vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI) == 0)
        return true;
    return (vcpu_read(vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_IF) != 0 && interrupt_pending(vcpu) >= 0;
}

void vcpu_events_reset(struct vcpu *vcpu)
{
    set_injection(vcpu, 0, 0, 0);
    vcpu->deferred_interrupt = -1;
    vcpu->nmi_pending = false;
    vcpu->events_changed = true;
}
