// SPDX-License-Identifier: BSD-2-Clause
/* EPT violations: a page that the vTLB has not filled yet, or a device register, whose access is emulated. */
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "core/emulate.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/exits/qualifications.h"
#include "lib/string.h"
#include "vmx/events.h"

/* An instruction that is emulated. */
struct operation {
    struct partition_vcpu *v;
    gla_t gla;                /* of an access that could not be made, */
    struct stage_fault fault; /* and why */
};

static bool op_linear(void *context, enum decode_segment segment, uint64_t offset, unsigned size, bool write,
                      gla_t *gla, struct emulate_fault *fault)
{
    const struct operation *o = context;
    uint8_t vector;

    if (linear_address(o->v, segment, offset, size, write, gla, &vector))
        return true;
    *fault = (struct emulate_fault){.vector = vector, .has_error_code = true};
    return false;
}

static void read_device(struct partition_vcpu *v, gpa_t gpa, unsigned size, uint64_t *value)
{
    if (!platform_mmio_read(&v->partition->platform, v->number, gpa, size, value))
        *value = UINT64_MAX;
}

static void write_device(struct partition_vcpu *v, gpa_t gpa, unsigned size, uint64_t value)
{
    /* An EOI or a lower TPR lets through what waited in the local APIC. */
    vcpu_events_changed(&v->vcpu);
    /* What nobody decodes is lost, as on a bus. */
    (void)platform_mmio_write(&v->partition->platform, v->number, gpa, size, value);
}

static void op_mmio_read(void *context, gpa_t gpa, unsigned size, uint64_t *value)
{
    read_device(((const struct operation *)context)->v, gpa, size, value);
}

static void op_mmio_write(void *context, gpa_t gpa, unsigned size, uint64_t value)
{
    write_device(((const struct operation *)context)->v, gpa, size, value);
}

/* An access to a linear address that the emulation makes for the guest. */
struct access {
    unsigned how; /* enum paging_right | enum stage_access: what the guest must have the right to */
    bool write;
    uint8_t *bytes; /* of the operand */
};

/*
 * What the emulator is told when the chain answered otherwise than with memory, or none, to an access at
 * `gla`. It calls any fault a page fault; whose it is, and what it becomes, is kept in *o.
 */
static enum emulate_access refuse(struct operation *o, gla_t gla, const struct guest_transfer *transfer,
                                  struct emulate_fault *fault)
{
    if (transfer->outcome == STAGE_AGAIN)
        return EMULATE_ACCESS_AGAIN;
    o->gla = GLA(gla.value + transfer->done);
    o->fault = transfer->fault;
    *fault = (struct emulate_fault){.vector = X86_VECTOR_PF, .has_error_code = true};
    return EMULATE_ACCESS_FAULT;
}

/* `size` bytes at `gpa`, where no memory is, `unit` (1, 2, 4 or 8) at a time. */
static void access_device(struct partition_vcpu *v, const struct access *access, gpa_t gpa, uint8_t *bytes,
                          unsigned size, unsigned unit)
{
    for (unsigned i = 0; i < size; i += unit) {
        uint64_t value = 0;

        if (access->write) {
            memcpy(&value, bytes + i, unit);
            write_device(v, GPA(gpa.value + i), unit, value);
        } else {
            read_device(v, GPA(gpa.value + i), unit, &value);
            memcpy(bytes + i, &value, unit);
        }
    }
}

/* Bytes within one page: of memory, or of what is there in its place. */
static enum emulate_access access_page(struct operation *o, const struct access *access, gla_t gla,
                                       uint8_t *bytes, unsigned size, unsigned unit,
                                       struct emulate_fault *fault)
{
    const struct stage_chain *linear = &o->v->level->linear;
    struct guest_transfer transfer;
    int error = access->write ? guest_linear_write(linear, gla, bytes, size, access->how, &transfer)
                              : guest_linear_read(linear, gla, bytes, size, access->how, &transfer);

    if (error == 0)
        return EMULATE_ACCESS_DONE;
    if (transfer.outcome != STAGE_NO_MEMORY)
        return refuse(o, gla, &transfer, fault);
    access_device(o->v, access, GPA(transfer.fault.address), bytes, size, unit);
    return EMULATE_ACCESS_DONE;
}

/* Whether the guest may make the access to the page of `gla`, whatever is there. */
static enum emulate_access check_page(struct operation *o, const struct access *access, gla_t gla,
                                      struct emulate_fault *fault)
{
    struct guest_transfer transfer;

    if (guest_linear_check(&o->v->level->linear, gla, 1, access->how, &transfer) == 0 ||
        transfer.outcome == STAGE_NO_MEMORY)
        return EMULATE_ACCESS_DONE;
    return refuse(o, gla, &transfer, fault);
}

/*
 * `size` bytes of linear addresses. In one page that is one access; across the end of a page each side has
 * its own, after both are known to be allowed, and a device gets its bytes one by one. Only a guest whose
 * other processor withdraws the second page in between is left with half an access.
 */
static enum emulate_access access_linear(struct operation *o, const struct access *access, gla_t gla,
                                         unsigned size, struct emulate_fault *fault)
{
    const unsigned first = (unsigned)min_u64(size, PAGE_SIZE - gla.value % PAGE_SIZE);
    gla_t next = GLA(gla.value + first);
    enum emulate_access result;

    if (first == size)
        return access_page(o, access, gla, access->bytes, size, size, fault);

    if (linear_mode(o->v) != DECODE_MODE_64)
        next = GLA((uint32_t)next.value);
    result = check_page(o, access, gla, fault);
    if (result == EMULATE_ACCESS_DONE)
        result = check_page(o, access, next, fault);
    if (result == EMULATE_ACCESS_DONE)
        result = access_page(o, access, gla, access->bytes, first, 1, fault);
    if (result == EMULATE_ACCESS_DONE)
        result = access_page(o, access, next, access->bytes + first, size - first, 1, fault);
    return result;
}

static enum emulate_access op_memory_read(void *context, gla_t gla, unsigned size, bool modify,
                                          uint64_t *value, struct emulate_fault *fault)
{
    struct operation *o = context;
    const struct access access = {
        .how = linear_prepare(o->v) | PAGING_READ | (modify ? PAGING_WRITE : 0),
        .bytes = (uint8_t *)value,
    };

    *value = 0;
    return access_linear(o, &access, gla, size, fault);
}

static enum emulate_access op_memory_write(void *context, gla_t gla, unsigned size, uint64_t value,
                                           struct emulate_fault *fault)
{
    struct operation *o = context;
    const struct access access = {
        .how = linear_prepare(o->v) | PAGING_WRITE,
        .write = true,
        .bytes = (uint8_t *)&value,
    };

    return access_linear(o, &access, gla, size, fault);
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
    uint64_t rip = vcpu_read(v->level->vcpu, VMCS_GUEST_RIP);
    bool is_64 = linear_mode(v) == DECODE_MODE_64;
    uint64_t start = is_64 ? rip : (uint32_t)(vcpu_read(v->level->vcpu, VMCS_GUEST_CS_BASE) + rip);
    unsigned how = linear_prepare(v) | PAGING_EXECUTE;
    int error = guest_linear_read(&v->level->linear, GLA(start), bytes, DECODE_LENGTH_MAX, how, &transfer);

    *length = transfer.done;
    if (error == 0 || transfer.done > 0)
        return true;
    if (transfer.outcome == STAGE_FAULT)
        exit_inject_access_fault(v, GLA(start), &transfer.fault);
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
        gpa.value, vcpu_read(v->level->vcpu, VMCS_GUEST_RIP), __builtin_bswap64(first));
}

static void finish(const struct operation *o, enum emulate_result result, const struct emulate *emulate,
                   const struct decode_instruction *instruction)
{
    struct partition_vcpu *v = o->v;

    switch (result) {
    case EMULATE_DONE:
        /* The exit gives no length for what is no instruction of its own: it is known from decoding. */
        vcpu_skip_bytes(v->level->vcpu, instruction->length);
        break;
    case EMULATE_AGAIN:
        vcpu_end_step(v->level->vcpu);
        break;
    case EMULATE_FAULT:
        if (emulate->fault.vector == X86_VECTOR_PF)
            exit_inject_access_fault(v, o->gla, &o->fault);
        else
            exit_inject_error(v, emulate->fault.vector, emulate->fault.error_code);
        break;
    case EMULATE_RETRY:
        break;
    }
}

void exit_emulate_access(struct partition_vcpu *v, gpa_t gpa, bool write)
{
    uint8_t bytes[DECODE_LENGTH_MAX];
    size_t length;
    struct decode_instruction instruction;
    struct vcpu *vcpu = v->level->vcpu;
    struct operation operation = {.v = v};
    uint64_t rflags = vcpu_read(vcpu, VMCS_GUEST_RFLAGS);
    struct emulate emulate = {
        .ops = &emulate_ops,
        .context = &operation,
        .registers = vcpu->registers,
        .rflags = &rflags,
        .rip = vcpu_read(vcpu, VMCS_GUEST_RIP),
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
    vcpu->registers[VCPU_RSP] = vcpu_read(vcpu, VMCS_GUEST_RSP);
    enum emulate_result result = emulate_instruction(&emulate, &instruction);
    vcpu_write(vcpu, VMCS_GUEST_RSP, vcpu->registers[VCPU_RSP]);
    /* Such an exit saves RF = 1, which an instruction that has come to its end clears. */
    if (result == EMULATE_DONE)
        rflags &= ~X86_RFLAGS_RF;
    vcpu_write(vcpu, VMCS_GUEST_RFLAGS, rflags);
    finish(&operation, result, &emulate, &instruction);
}

void exit_no_memory(struct partition_vcpu *v, gpa_t gpa, unsigned access)
{
    if (v->level->vcpu->injection != 0)
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
    const unsigned access = violation_access(qualification);
    struct vtlb_result result;

    vcpu_restore_nmi_blocking(&v->vcpu, qualification);
    if (vtlb_miss(&v->ept, gpa.value, access, &result) == VTLB_FILLED)
        return;
    if (violation_is_in_tables(qualification) && v->vcpu.injection == 0 && (access & PAGING_EXECUTE) == 0)
        partition_crash(v, "page tables at %#lx, where it has no memory", gpa.value);
    else
        exit_no_memory(v, gpa, access);
}

void exit_ept_misconfiguration(struct partition_vcpu *v)
{
    partition_crash(v, "EPT misconfiguration at %#lx", vcpu_read(&v->vcpu, VMCS_GUEST_PHYSICAL_ADDRESS));
}
