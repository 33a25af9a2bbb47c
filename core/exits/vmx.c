// SPDX-License-Identifier: BSD-2-Clause
/* The VMX instructions of a guest hypervisor: nested/instructions.h executes them; here are their memory
 * operands. */
#include "arch/x86/cpu.h"
#include "arch/x86/exception.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/nested_guest.h"
#include "nested/instructions.h"

/* What has become of an access through the vCPU's page tables. */
static enum nested_access outcome(int error, const struct guest_transfer *transfer,
                                  struct nested_fault *fault)
{
    if (error == 0)
        return NESTED_ACCESS_DONE;
    if (transfer->outcome == STAGE_AGAIN)
        return NESTED_ACCESS_AGAIN;
    /* Where no memory is, nothing answers: what Umbra's devices have there is no place for an operand of VMX.
     */
    *fault = transfer->outcome == STAGE_FAULT
                 ? (struct nested_fault){.vector = X86_VECTOR_PF,
                                         .has_error_code = true,
                                         .error_code = (uint32_t)transfer->fault.error_code,
                                         .address = transfer->fault.address}
                 : (struct nested_fault){.vector = X86_VECTOR_GP, .has_error_code = true};
    return NESTED_ACCESS_FAULT;
}

static bool to_linear(struct partition_vcpu *v, enum decode_segment segment, uint64_t offset, unsigned size,
                      bool write, gla_t *gla, struct nested_fault *fault)
{
    *fault = (struct nested_fault){.has_error_code = true};
    return linear_address(v, segment, offset, size, write, gla, &fault->vector);
}

static enum nested_access operand_read(void *context, enum decode_segment segment, uint64_t offset, void *to,
                                       unsigned size, struct nested_fault *fault)
{
    struct partition_vcpu *v = context;
    struct guest_transfer transfer;
    gla_t gla;

    if (!to_linear(v, segment, offset, size, false, &gla, fault))
        return NESTED_ACCESS_FAULT;
    return outcome(guest_linear_read(&v->lv1.linear, gla, to, size, linear_prepare(v), &transfer), &transfer,
                   fault);
}

static enum nested_access operand_write(void *context, enum decode_segment segment, uint64_t offset,
                                        const void *from, unsigned size, struct nested_fault *fault)
{
    struct partition_vcpu *v = context;
    struct guest_transfer transfer;
    gla_t gla;

    if (!to_linear(v, segment, offset, size, true, &gla, fault))
        return NESTED_ACCESS_FAULT;
    const unsigned how = linear_prepare(v);
    int error = guest_linear_check(&v->lv1.linear, gla, size, how | PAGING_WRITE, &transfer);
    if (error == 0) /* all of it, or none */
        error = guest_linear_write(&v->lv1.linear, gla, from, size, how, &transfer);
    return outcome(error, &transfer, fault);
}

static const struct nested_operand_ops operand_ops = {.read = operand_read, .write = operand_write};

static void inject(struct partition_vcpu *v, const struct nested_fault *fault)
{
    if (fault->vector == X86_VECTOR_PF)
        exit_inject_page_fault(v, fault->address, fault->error_code);
    else
        exit_inject_error(v, fault->vector, fault->error_code);
}

void exit_vmx_instruction(struct partition_vcpu *v)
{
    struct nested_operands operands = {.ops = &operand_ops, .context = v};

    if (v->nested == NULL) {
        exit_undefined_opcode(v);
        return;
    }
    nested_operands_from_exit(&operands, &v->nested->nested);
    switch (nested_instruction(&v->nested->nested, &operands)) {
    case NESTED_DONE:
        vcpu_skip_instruction(&v->vcpu);
        nested_guest_executed(v);
        break;
    case NESTED_FAULT:
        inject(v, &operands.fault);
        break;
    case NESTED_ENTER:
        nested_guest_enter(v);
        break;
    case NESTED_RETRY:
        break;
    }
}
