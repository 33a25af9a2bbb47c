// SPDX-License-Identifier: BSD-2-Clause
/*
 * Hardware task switches, which all exit (SDM vol. 3, "Treatment of Task Switches"): core/task_switch.c bound
 * to a vCPU; those of a guest hypervisor's guest are that one's to make. The processor has checked
 * privileges, the gate and the new TSS's descriptor.
 */
#include "core/task_switch.h"

#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/paging.h"
#include "vmx/events.h"

/* Exit qualification for task switches (SDM vol. 3, table of that name). */
#define QUALIFICATION_SELECTOR(q) ((uint16_t)(q))
#define QUALIFICATION_SOURCE(q)   ((enum task_source)((q) >> 30 & 3))

/* ---- Memory ----------------------------------------------------------------------------------------- */

/* The walkers of 32-bit and PAE paging look at 32 bits of an address: a table that goes on at 0 does so by
 * itself. */
static enum task_access access_result(enum stage_outcome outcome, const struct stage_fault *stage_fault,
                                      struct task_fault *fault)
{
    switch (outcome) {
    case STAGE_DONE:
        return TASK_ACCESS_DONE;
    case STAGE_FAULT:
        *fault = (struct task_fault){
            .vector = X86_VECTOR_PF,
            .error_code = (uint32_t)stage_fault->error_code,
            .address = (uint32_t)stage_fault->address,
        };
        return TASK_ACCESS_FAULT;
    case STAGE_AGAIN:
        return TASK_ACCESS_AGAIN;
    default:
        return TASK_ACCESS_NO_MEMORY;
    }
}

static enum task_access op_check(void *context, uint32_t address, size_t size, unsigned how,
                                 struct task_fault *fault)
{
    struct partition_vcpu *v = context;
    struct guest_transfer t;

    linear_prepare(v);
    if (guest_linear_check(&v->lv1.linear, GLA(address), size, how, &t) == 0)
        return TASK_ACCESS_DONE;
    return access_result(t.outcome, &t.fault, fault);
}

static enum task_access op_read(void *context, uint32_t address, void *to, size_t size, unsigned how,
                                struct task_fault *fault)
{
    struct partition_vcpu *v = context;
    struct guest_transfer t;

    linear_prepare(v);
    if (guest_linear_read(&v->lv1.linear, GLA(address), to, size, how, &t) == 0)
        return TASK_ACCESS_DONE;
    return access_result(t.outcome, &t.fault, fault);
}

static enum task_access op_write(void *context, uint32_t address, const void *from, size_t size, unsigned how,
                                 struct task_fault *fault)
{
    struct partition_vcpu *v = context;
    struct guest_transfer t;

    linear_prepare(v);
    if (guest_linear_write(&v->lv1.linear, GLA(address), from, size, how, &t) == 0)
        return TASK_ACCESS_DONE;
    return access_result(t.outcome, &t.fault, fault);
}

static enum task_access op_exchange(void *context, uint32_t address, uint32_t *expected, uint32_t desired,
                                    bool *exchanged, struct task_fault *fault)
{
    struct partition_vcpu *v = context;
    struct stage_fault stage_fault;
    uint64_t value = *expected;

    linear_prepare(v);
    const enum stage_outcome outcome = guest_linear_exchange(&v->lv1.linear, GLA(address), sizeof(*expected),
                                                             &value, desired, exchanged, &stage_fault);
    *expected = (uint32_t)value;
    return access_result(outcome, &stage_fault, fault);
}

static bool op_load_cr3(void *context, uint32_t value)
{
    return paging_load_cr3(context, value);
}

static const struct task_ops task_ops = {
    .check = op_check,
    .read = op_read,
    .write = op_write,
    .exchange = op_exchange,
    .load_cr3 = op_load_cr3,
};

/* ---- Registers -------------------------------------------------------------------------------------- */

/* The fields of LDTR and TR follow those of the segment registers. */
#define SEGMENT_LDTR TASK_SEGMENTS
#define SEGMENT_TR   (TASK_SEGMENTS + 1)

static struct task_segment read_segment(struct vcpu *vcpu, unsigned number)
{
    return (struct task_segment){
        .selector = (uint16_t)vcpu_read(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_SELECTOR + number)),
        .base = (uint32_t)vcpu_read(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_BASE + number)),
        .limit = (uint32_t)vcpu_read(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_LIMIT + number)),
        .rights = (uint32_t)vcpu_read(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + number)),
    };
}

static void write_segment(struct vcpu *vcpu, unsigned number, const struct task_segment *segment)
{
    vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_SELECTOR + number), segment->selector);
    vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_BASE + number), segment->base);
    vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_LIMIT + number), segment->limit);
    vcpu_write(vcpu, vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + number), segment->rights);
}

static void read_registers(struct vcpu *vcpu, struct task_registers *r)
{
    struct cr_state state;

    vcpu_read_control_state(vcpu, &state);
    *r = (struct task_registers){
        .eip = (uint32_t)vcpu_read(vcpu, VMCS_GUEST_RIP),
        .eflags = (uint32_t)vcpu_read(vcpu, VMCS_GUEST_RFLAGS),
        .ldtr = read_segment(vcpu, SEGMENT_LDTR),
        .tr = read_segment(vcpu, SEGMENT_TR),
        .gdt_base = (uint32_t)vcpu_read(vcpu, VMCS_GUEST_GDTR_BASE),
        .gdt_limit = (uint32_t)vcpu_read(vcpu, VMCS_GUEST_GDTR_LIMIT),
        .cr3 = (uint32_t)state.cr3,
        .paging = (state.cr0 & X86_CR0_PG) != 0,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(r->general); i++)
        r->general[i] = (uint32_t)vcpu_read_register(vcpu, i);
    for (unsigned i = 0; i < TASK_SEGMENTS; i++)
        r->segment[i] = read_segment(vcpu, i);
}

/* All but CR3, which is loaded. */
static void write_registers(struct vcpu *vcpu, const struct task_registers *r)
{
    struct cr_state state;

    vcpu_read_control_state(vcpu, &state);
    state.cr0 |= X86_CR0_TS;
    vcpu_write_control_state(vcpu, &state);
    vcpu_write(vcpu, VMCS_GUEST_DR7, vcpu_read(vcpu, VMCS_GUEST_DR7) & ~(uint64_t)TASK_DR7_LOCAL);
    vcpu_write(vcpu, VMCS_GUEST_RIP, r->eip);
    vcpu_write(vcpu, VMCS_GUEST_RFLAGS, r->eflags);
    for (unsigned i = 0; i < ARRAY_SIZE(r->general); i++)
        vcpu_write_register(vcpu, i, r->general[i]);
    for (unsigned i = 0; i < TASK_SEGMENTS; i++)
        write_segment(vcpu, i, &r->segment[i]);
    write_segment(vcpu, SEGMENT_LDTR, &r->ldtr);
    write_segment(vcpu, SEGMENT_TR, &r->tr);
}

/* ---- The switch ------------------------------------------------------------------------------------- */

/* An instruction that the old task will find behind it: CALL, JMP, IRET, or one that raised the event. */
static bool is_instruction(enum task_source source, uint64_t event)
{
    const unsigned type = EVENT_TYPE(event);

    return source != TASK_SOURCE_GATE || type == VCPU_EVENT_SOFTWARE_INTERRUPT ||
           type == VCPU_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION || type == VCPU_EVENT_SOFTWARE_EXCEPTION;
}

/* INT n, INT3 and INTO are the program's own doing (SDM vol. 3, "Error Code"; vol. 2, INT). */
static bool is_external(enum task_source source, uint64_t event)
{
    return source == TASK_SOURCE_GATE && EVENT_TYPE(event) != VCPU_EVENT_SOFTWARE_INTERRUPT &&
           EVENT_TYPE(event) != VCPU_EVENT_SOFTWARE_EXCEPTION;
}

/* EIP and RF as the old task's TSS gets them. RIP is that of an instruction which asked for the switch. */
static void settle_old_task(struct vcpu *vcpu, struct task_registers *r, enum task_source source,
                            uint64_t event)
{
    if (is_instruction(source, event)) {
        r->eip += (uint32_t)vcpu_read(vcpu, VMCS_EXIT_INSTRUCTION_LENGTH);
        r->eflags &= ~(uint32_t)X86_RFLAGS_RF;
    } else if (EVENT_TYPE(event) == VCPU_EVENT_HARDWARE_EXCEPTION && EVENT_VECTOR(event) != X86_VECTOR_DB) {
        r->eflags |= X86_RFLAGS_RF; /* a fault: what an instruction breakpoint must not hit twice */
    }
}

/*
 * What the old task's instruction or event leaves behind: no shadow of STI or MOV SS, no pending trap (the
 * new task's TF counts from its first instruction on), no HLT. An IRET unblocks NMIs even if it faults (SDM
 * vol. 3, "Handling Multiple NMIs").
 */
static void settle_state(struct vcpu *vcpu, enum task_source source)
{
    uint64_t blocking =
        vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) & ~(uint64_t)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);

    if (source == TASK_SOURCE_IRET)
        blocking &= ~(uint64_t)BLOCKING_BY_NMI;
    vcpu_write(vcpu, VMCS_GUEST_INTERRUPTIBILITY, blocking);
    vcpu_write(vcpu, VMCS_GUEST_PENDING_DEBUG, 0);
    vcpu_write(vcpu, VMCS_GUEST_ACTIVITY, 0);
    vcpu_events_changed(vcpu);
}

static void inject_fault(struct partition_vcpu *v, const struct task_fault *fault)
{
    if (fault->vector == X86_VECTOR_PF)
        exit_inject_page_fault(v, fault->address, fault->error_code);
    else
        exit_inject_error(v, fault->vector, fault->error_code);
}

/* The new task is there. `faults`: it takes outcome->fault first. */
static void finish_switch(struct partition_vcpu *v, const struct task_switch *request, uint64_t event,
                          const struct task_registers *registers, const struct task_outcome *outcome,
                          bool faults)
{
    write_registers(&v->vcpu, registers);
    settle_state(&v->vcpu, request->source);
    /* A fault in the delivery of an exception is a fault in it also here: it may make a double fault. */
    if (request->source == TASK_SOURCE_GATE &&
        (!faults || EVENT_TYPE(event) != VCPU_EVENT_HARDWARE_EXCEPTION))
        vcpu_event_delivered(&v->vcpu);
    if (faults) {
        inject_fault(v, &outcome->fault);
    } else if (outcome->trap) {
        exit_update_debug_registers(&v->vcpu, X86_DR6_BT);
        exit_inject(v, X86_VECTOR_DB);
    }
}

void exit_task_switch(struct partition_vcpu *v)
{
    struct vcpu *vcpu = &v->vcpu;
    const uint64_t qualification = vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION);
    const enum task_source source = QUALIFICATION_SOURCE(qualification);
    const uint64_t event = vcpu_read(vcpu, VMCS_IDT_VECTORING_INFO);
    const bool has_error_code = source == TASK_SOURCE_GATE && (event & EVENT_HAS_ERROR_CODE) != 0;
    const struct task_switch request = {
        .source = source,
        .selector = QUALIFICATION_SELECTOR(qualification),
        .external = is_external(source, event),
        .has_error_code = has_error_code,
        .error_code = has_error_code ? (uint32_t)vcpu_read(vcpu, VMCS_IDT_VECTORING_ERROR_CODE) : 0,
    };
    struct task_registers registers;
    struct task_outcome outcome;

    read_registers(vcpu, &registers);
    settle_old_task(vcpu, &registers, source, event);
    switch (task_switch(&task_ops, v, &request, &registers, &outcome)) {
    case TASK_SWITCHED:
        finish_switch(v, &request, event, &registers, &outcome, false);
        break;
    case TASK_SWITCHED_FAULT:
        finish_switch(v, &request, event, &registers, &outcome, true);
        break;
    case TASK_REFUSED:
        if (source == TASK_SOURCE_IRET)
            settle_state(vcpu, source);
        inject_fault(v, &outcome.fault);
        break;
    case TASK_AGAIN:
        break;
    case TASK_IMPOSSIBLE:
        partition_crash(v, "hardware task switch to selector %#x by tables that are no memory",
                        request.selector);
        break;
    }
}
