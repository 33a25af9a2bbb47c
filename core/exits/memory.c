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

/* An access to a linear address that the emulation makes for the guest. */
struct access {
    unsigned how; /* enum paging_right | enum stage_access: what the guest must have the right to */
    bool write;
    uint8_t *bytes; /* of the operand */
};

/* What the emulator is told when the chain answered otherwise than with memory, or none. */
static enum emulate_access refuse(const struct guest_transfer *transfer, struct emulate_fault *fault)
{
    if (transfer->outcome == STAGE_AGAIN)
        return EMULATE_ACCESS_AGAIN;
    *fault = (struct emulate_fault){
        .vector = X86_VECTOR_PF,
        .has_error_code = true,
        .error_code = (uint32_t)transfer->fault.error_code,
        .address = transfer->fault.address,
    };
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
            op_mmio_write(v, GPA(gpa.value + i), unit, value);
        } else {
            op_mmio_read(v, GPA(gpa.value + i), unit, &value);
            memcpy(bytes + i, &value, unit);
        }
    }
}

/* Bytes within one page: of memory, or of what is there in its place. */
static enum emulate_access access_page(struct partition_vcpu *v, const struct access *access, gla_t gla,
                                       uint8_t *bytes, unsigned size, unsigned unit,
                                       struct emulate_fault *fault)
{
    struct guest_transfer transfer;
    int error = access->write ? guest_linear_write(&v->linear, gla, bytes, size, access->how, &transfer)
                              : guest_linear_read(&v->linear, gla, bytes, size, access->how, &transfer);

    if (error == 0)
        return EMULATE_ACCESS_DONE;
    if (transfer.outcome != STAGE_NO_MEMORY)
        return refuse(&transfer, fault);
    access_device(v, access, GPA(transfer.fault.address), bytes, size, unit);
    return EMULATE_ACCESS_DONE;
}

/* Whether the guest may make the access to the page of `gla`, whatever is there. */
static enum emulate_access check_page(struct partition_vcpu *v, const struct access *access, gla_t gla,
                                      struct emulate_fault *fault)
{
    struct guest_transfer transfer;

    if (guest_linear_check(&v->linear, gla, 1, access->how, &transfer) == 0 ||
        transfer.outcome == STAGE_NO_MEMORY)
        return EMULATE_ACCESS_DONE;
    return refuse(&transfer, fault);
}

/*
 * `size` bytes of linear addresses. In one page that is one access; across the end of a page each side has
 * its own, after both are known to be allowed, and a device gets its bytes one by one. Only a guest whose
 * other processor withdraws the second page in between is left with half an access.
 */
static enum emulate_access access_linear(struct partition_vcpu *v, const struct access *access, gla_t gla,
                                         unsigned size, struct emulate_fault *fault)
{
    const unsigned first = (unsigned)min_u64(size, PAGE_SIZE - gla.value % PAGE_SIZE);
    gla_t next = GLA(gla.value + first);
    enum emulate_access result;

    if (first == size)
        return access_page(v, access, gla, access->bytes, size, size, fault);

    if (linear_mode(v) != DECODE_MODE_64)
        next = GLA((uint32_t)next.value);
    result = check_page(v, access, gla, fault);
    if (result == EMULATE_ACCESS_DONE)
        result = check_page(v, access, next, fault);
    if (result == EMULATE_ACCESS_DONE)
        result = access_page(v, access, gla, access->bytes, first, 1, fault);
    if (result == EMULATE_ACCESS_DONE)
        result = access_page(v, access, next, access->bytes + first, size - first, 1, fault);
    return result;
}

static enum emulate_access op_memory_read(void *context, gla_t gla, unsigned size, bool modify,
                                          uint64_t *value, struct emulate_fault *fault)
{
    struct partition_vcpu *v = context;
    const struct access access = {
        .how = linear_prepare(v) | PAGING_READ | (modify ? PAGING_WRITE : 0),
        .bytes = (uint8_t *)value,
    };

    *value = 0;
    return access_linear(v, &access, gla, size, fault);
}

static enum emulate_access op_memory_write(void *context, gla_t gla, unsigned size, uint64_t value,
                                           struct emulate_fault *fault)
{
    struct partition_vcpu *v = context;
    const struct access access = {
        .how = linear_prepare(v) | PAGING_WRITE,
        .write = true,
        .bytes = (uint8_t *)&value,
    };

    return access_linear(v, &access, gla, size, fault);
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
