// SPDX-License-Identifier: BSD-2-Clause
/* EPT violations: a page that the vTLB has not filled yet, or a device register, whose access is emulated. */
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "core/emulate.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "lib/string.h"
#include "vmx/events.h"

/* Exit qualification for EPT violations (SDM vol. 3, table 28-7). */
#define QUALIFICATION_READ         BIT(0)
#define QUALIFICATION_WRITE        BIT(1)
#define QUALIFICATION_FETCH        BIT(2)
#define QUALIFICATION_LINEAR_VALID BIT(7)
#define QUALIFICATION_NOT_TABLES   BIT(8)

static bool op_linear(void *context, enum decode_segment segment, uint64_t offset, unsigned size, bool write,
                      gla_t *gla, struct emulate_fault *fault)
{
    uint8_t vector;

    if (linear_address(context, segment, offset, size, write, gla, &vector))
        return true;
    *fault = (struct emulate_fault){.vector = vector, .has_error_code = true};
    return false;
}

/* What the emulator is told of an access to guest memory that ended as `transfer` says. */
static enum emulate_access access_result(int error, const struct guest_transfer *transfer,
                                         struct emulate_fault *fault)
{
    if (error == 0)
        return EMULATE_ACCESS_DONE;
    if (transfer->outcome == STAGE_AGAIN)
        return EMULATE_ACCESS_AGAIN;
    if (transfer->outcome != STAGE_FAULT)
        return EMULATE_ACCESS_NOT_MEMORY;
    *fault = (struct emulate_fault){
        .vector = X86_VECTOR_PF,
        .has_error_code = true,
        .error_code = (uint32_t)transfer->fault.error_code,
        .address = transfer->fault.address,
    };
    return EMULATE_ACCESS_FAULT;
}

static void op_mmio_read(void *context, gpa_t gpa, unsigned size, uint64_t *value)
{
    struct partition_vcpu *v = context;

    if (!platform_mmio_read(&v->partition->platform, v->number, gpa, size, value))
        *value = UINT64_MAX;
}

static void op_mmio_write(void *context, gpa_t gpa, unsigned size, uint64_t value)
{
    struct partition_vcpu *v = context;

    /* An EOI or a lower TPR lets through what waited in the local APIC. */
    vcpu_events_changed(&v->vcpu);
    /* What nobody decodes is lost, as on a bus. */
    (void)platform_mmio_write(&v->partition->platform, v->number, gpa, size, value);
}

/*
 * The instruction's other operand may be a device's, too, or lie in a hole: whole, or it is as if there were
 * nothing. True if that is so, and where.
 */
static bool is_no_memory(int error, const struct guest_transfer *transfer, gpa_t *gpa)
{
    *gpa = GPA(transfer->fault.address);
    return error != 0 && transfer->outcome == STAGE_NO_MEMORY && transfer->done == 0;
}

static enum emulate_access op_memory_read(void *context, gla_t gla, unsigned size, uint64_t *value,
                                          struct emulate_fault *fault)
{
    struct partition_vcpu *v = context;
    struct guest_transfer transfer;
    unsigned how = linear_prepare(v);
    int error;
    gpa_t gpa;

    *value = 0;
    error = guest_linear_read(&v->linear, gla, value, size, how, &transfer);
    if (!is_no_memory(error, &transfer, &gpa))
        return access_result(error, &transfer, fault);
    op_mmio_read(v, gpa, size, value);
    return EMULATE_ACCESS_DONE;
}

static enum emulate_access op_memory_write(void *context, gla_t gla, unsigned size, uint64_t value,
                                           struct emulate_fault *fault)
{
    struct partition_vcpu *v = context;
    struct guest_transfer transfer;
    unsigned how = linear_prepare(v);
    int error = guest_linear_write(&v->linear, gla, &value, size, how, &transfer);
    gpa_t gpa;

    if (!is_no_memory(error, &transfer, &gpa))
        return access_result(error, &transfer, fault);
    op_mmio_write(v, gpa, size, value);
    return EMULATE_ACCESS_DONE;
}

static const struct emulate_ops emulate_ops = {
    .linear = op_linear,
    .memory_read = op_memory_read,
    .memory_write = op_memory_write,
    .mmio_read = op_mmio_read,
    .mmio_write = op_mmio_write,
};

/* The bytes at RIP. False: the guest got a fault instead. */
static bool fetch(struct partition_vcpu *v, uint8_t *bytes, size_t *length)
{
    struct guest_transfer transfer;
    uint64_t rip = vcpu_read(&v->vcpu, VMCS_GUEST_RIP);
    bool is_64 = linear_mode(v) == DECODE_MODE_64;
    uint64_t start = is_64 ? rip : (uint32_t)(vcpu_read(&v->vcpu, VMCS_GUEST_CS_BASE) + rip);
    unsigned how = linear_prepare(v) | PAGING_EXECUTE;
    int error = guest_linear_read(&v->linear, GLA(start), bytes, DECODE_LENGTH_MAX, how, &transfer);

    *length = transfer.done;
    if (error == 0 || transfer.done > 0)
        return true;
    if (transfer.outcome == STAGE_FAULT)
        exit_inject_page_fault(v, transfer.fault.address, (uint32_t)transfer.fault.error_code);
    else if (transfer.outcome != STAGE_AGAIN) /* else the guest tries once more */
        partition_crash(v, "device access by an instruction outside its memory, at rip %#lx", rip);
    return false;
}

static void crash_undecoded(struct partition_vcpu *v, gpa_t gpa, const uint8_t *bytes, size_t length)
{
    uint64_t first = 0;

    memcpy(&first, bytes, length < sizeof(first) ? length : sizeof(first));
    partition_crash(
        v, "access to %#lx by an instruction that Umbra does not emulate, at rip %#lx (first bytes %016lx)",
        gpa.value, vcpu_read(&v->vcpu, VMCS_GUEST_RIP), __builtin_bswap64(first));
}

static void finish(struct partition_vcpu *v, enum emulate_result result, const struct emulate *emulate,
                   const struct decode_instruction *instruction)
{
    switch (result) {
    case EMULATE_DONE:
        /* The exit gives no length for what is no instruction of its own: it is known from decoding. */
        vcpu_skip_bytes(&v->vcpu, instruction->length);
        break;
    case EMULATE_AGAIN:
        vcpu_end_step(&v->vcpu);
        break;
    case EMULATE_FAULT:
        if (emulate->fault.vector == X86_VECTOR_PF)
            exit_inject_page_fault(v, emulate->fault.address, emulate->fault.error_code);
        else
            exit_inject_error(v, emulate->fault.vector, emulate->fault.error_code);
        break;
    case EMULATE_RETRY:
    case EMULATE_UNSUPPORTED:
        break;
    }
}

void exit_emulate_access(struct partition_vcpu *v, gpa_t gpa, bool write)
{
    uint8_t bytes[DECODE_LENGTH_MAX];
    size_t length;
    struct decode_instruction instruction;
    uint64_t rflags = vcpu_read(&v->vcpu, VMCS_GUEST_RFLAGS);
    struct emulate emulate = {
        .ops = &emulate_ops,
        .context = v,
        .registers = v->vcpu.registers,
        .rflags = &rflags,
        .rip = vcpu_read(&v->vcpu, VMCS_GUEST_RIP),
        .stack_size = (uint8_t)linear_stack_size(v),
        .gpa = gpa,
        .write = write,
    };

    if (!fetch(v, bytes, &length))
        return;
    if (decode_instruction_bytes(&instruction, linear_mode(v), bytes, length) != 0) {
        crash_undecoded(v, gpa, bytes, length);
        return;
    }
    v->mmio++;
    v->deadline_changed = true;
    v->vcpu.registers[VCPU_RSP] = vcpu_read(&v->vcpu, VMCS_GUEST_RSP);
    enum emulate_result result = emulate_instruction(&emulate, &instruction);
    if (result == EMULATE_UNSUPPORTED) {
        crash_undecoded(v, gpa, bytes, length);
        return;
    }
    vcpu_write(&v->vcpu, VMCS_GUEST_RSP, v->vcpu.registers[VCPU_RSP]);
    /* Such an exit saves RF = 1, which an instruction that has come to its end clears. */
    if (result == EMULATE_DONE)
        rflags &= ~X86_RFLAGS_RF;
    vcpu_write(&v->vcpu, VMCS_GUEST_RFLAGS, rflags);
    finish(v, result, &emulate, &instruction);
}

void exit_no_memory(struct partition_vcpu *v, gpa_t gpa, unsigned access)
{
    if (v->vcpu.injection != 0)
        partition_crash(v, "event delivery through %#lx, where it has no memory", gpa.value);
    else if ((access & PAGING_EXECUTE) != 0)
        exit_inject(v, X86_VECTOR_UD); /* nobody answers: all ones, which is no instruction */
    else
        exit_emulate_access(v, gpa, (access & PAGING_WRITE) != 0);
}

void exit_ept_violation(struct partition_vcpu *v)
{
    uint64_t qualification = vcpu_read(&v->vcpu, VMCS_EXIT_QUALIFICATION);
    gpa_t gpa = GPA(vcpu_read(&v->vcpu, VMCS_GUEST_PHYSICAL_ADDRESS));
    unsigned access = (qualification & QUALIFICATION_READ ? PAGING_READ : 0) |
                      (qualification & QUALIFICATION_WRITE ? PAGING_WRITE : 0) |
                      (qualification & QUALIFICATION_FETCH ? PAGING_EXECUTE : 0);
    const unsigned in_tables = qualification & (QUALIFICATION_LINEAR_VALID | QUALIFICATION_NOT_TABLES);
    struct vtlb_result result;

    vcpu_restore_nmi_blocking(&v->vcpu, qualification);
    if (vtlb_miss(&v->ept, gpa.value, access, &result) == VTLB_FILLED)
        return;
    if (in_tables == QUALIFICATION_LINEAR_VALID && v->vcpu.injection == 0 && (access & PAGING_EXECUTE) == 0)
        partition_crash(v, "page tables at %#lx, where it has no memory", gpa.value);
    else
        exit_no_memory(v, gpa, access);
}

void exit_ept_misconfiguration(struct partition_vcpu *v)
{
    partition_crash(v, "EPT misconfiguration at %#lx", vcpu_read(&v->vcpu, VMCS_GUEST_PHYSICAL_ADDRESS));
}
