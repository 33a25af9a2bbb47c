// SPDX-License-Identifier: BSD-2-Clause
#include "nested/instructions.h"

#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "lib/errors.h"
#include "lib/string.h"
#include "nested/away.h"
#include "nested/shadow.h"
#include "vmx/events.h"
#include "vmx/instructions.h"

/* VM-exit instruction information (SDM vol. 3, tables of "Information for VM Exits Due to Instruction
 * Execution"). */
#define INFORMATION_SCALE          3u
#define INFORMATION_REGISTER_SHIFT 3 /* register operand of VMREAD and VMWRITE */
#define INFORMATION_ADDRESS_SHIFT  7
#define INFORMATION_REGISTER       BIT(10) /* the operand is a register, not memory */
#define INFORMATION_SEGMENT_SHIFT  15
#define INFORMATION_INDEX_SHIFT    18
#define INFORMATION_NO_INDEX       BIT(22)
#define INFORMATION_BASE_SHIFT     23
#define INFORMATION_NO_BASE        BIT(27)
#define INFORMATION_SECOND_SHIFT   28 /* the other operand, a register */

/* Access rights of segments in a VMCS. */
#define RIGHTS_DPL_SHIFT           5
#define RIGHTS_LONG                BIT(13)

/* The flags that tell how an instruction ended (SDM vol. 3, "Conventions"). */
#define STATUS_FLAGS                                                                                         \
    (X86_RFLAGS_CF | X86_RFLAGS_PF | X86_RFLAGS_AF | X86_RFLAGS_ZF | X86_RFLAGS_SF | X86_RFLAGS_OF)

/* ---- How an instruction ends ------------------------------------------------------------------------- */

static void set_status(struct nested_vcpu *n, uint64_t flags)
{
    uint64_t rflags = vcpu_read(n->vcpu01, VMCS_GUEST_RFLAGS);

    vcpu_write(n->vcpu01, VMCS_GUEST_RFLAGS, (rflags & ~STATUS_FLAGS) | flags);
}

void nested_succeed(struct nested_vcpu *n)
{
    set_status(n, 0);
}

void nested_fail(struct nested_vcpu *n, enum vm_instruction_error error)
{
    if (n->current == NESTED_NO_VMCS) {
        set_status(n, X86_RFLAGS_CF);
        return;
    }
    set_status(n, X86_RFLAGS_ZF);
    vmcs12_write(&n->vmcs12, VMCS_VM_INSTRUCTION_ERROR, error);
}

static enum nested_answer succeed(struct nested_vcpu *n)
{
    nested_succeed(n);
    return NESTED_DONE;
}

static enum nested_answer fail(struct nested_vcpu *n, enum vm_instruction_error error)
{
    nested_fail(n, error);
    return NESTED_DONE;
}

/* VMfailInvalid where a VMCS may be current all the same. */
static enum nested_answer fail_invalid(struct nested_vcpu *n)
{
    set_status(n, X86_RFLAGS_CF);
    return NESTED_DONE;
}

static enum nested_answer undefined_opcode(struct nested_operands *operands)
{
    operands->fault = (struct nested_fault){.vector = X86_VECTOR_UD};
    return NESTED_FAULT;
}

static enum nested_answer general_protection(struct nested_operands *operands)
{
    operands->fault = (struct nested_fault){.vector = X86_VECTOR_GP, .has_error_code = true};
    return NESTED_FAULT;
}

/* ---- Operands ---------------------------------------------------------------------------------------- */

void nested_operands_from_exit(struct nested_operands *operands, struct nested_vcpu *n)
{
    operands->instruction = (enum exit_reason)(vcpu_read(n->vcpu01, VMCS_EXIT_REASON) & EXIT_REASON_BASIC);
    if (operands->instruction == EXIT_REASON_VMLAUNCH || operands->instruction == EXIT_REASON_VMRESUME)
        return;
    operands->information = (uint32_t)vcpu_read(n->vcpu01, VMCS_EXIT_INSTRUCTION_INFO);
    if ((operands->instruction != EXIT_REASON_VMREAD && operands->instruction != EXIT_REASON_VMWRITE) ||
        (operands->information & INFORMATION_REGISTER) == 0)
        operands->displacement = vcpu_read(n->vcpu01, VMCS_EXIT_QUALIFICATION);
}

/* In IA-32e mode only 64-bit mode has got beyond the checks for #UD. */
static bool in_64_bit_mode(struct nested_vcpu *n)
{
    return (vcpu_read_efer(n->vcpu01) & X86_EFER_LMA) != 0;
}

/* Register operands of VMX instructions have 64 bits in 64-bit mode and 32 elsewhere. */
static uint64_t read_register(struct nested_vcpu *n, unsigned number)
{
    uint64_t value = vcpu_read_register(n->vcpu01, number);

    return in_64_bit_mode(n) ? value : (uint32_t)value;
}

static uint64_t read_second_register(struct nested_vcpu *n, const struct nested_operands *operands)
{
    return read_register(n, operands->information >> INFORMATION_SECOND_SHIFT);
}

static unsigned register_operand(const struct nested_operands *operands)
{
    return operands->information >> INFORMATION_REGISTER_SHIFT & 15;
}

static enum decode_segment memory_segment(const struct nested_operands *operands)
{
    return (enum decode_segment)(operands->information >> INFORMATION_SEGMENT_SHIFT & 7);
}

/* The displacement of an operand relative to RIP has RIP in it. */
static uint64_t memory_offset(struct nested_vcpu *n, const struct nested_operands *operands)
{
    const uint32_t information = operands->information;
    const unsigned address_size = 16 << (information >> INFORMATION_ADDRESS_SHIFT & 3);
    uint64_t offset = operands->displacement;

    if (!(information & INFORMATION_NO_BASE))
        offset += vcpu_read_register(n->vcpu01, information >> INFORMATION_BASE_SHIFT & 15);
    if (!(information & INFORMATION_NO_INDEX))
        offset += vcpu_read_register(n->vcpu01, information >> INFORMATION_INDEX_SHIFT & 15)
                  << (information & INFORMATION_SCALE);
    return address_size < 64 ? offset & (BIT(address_size) - 1) : offset;
}

static enum nested_answer answer_access(enum nested_access access)
{
    switch (access) {
    case NESTED_ACCESS_DONE:
        return NESTED_DONE;
    case NESTED_ACCESS_FAULT:
        return NESTED_FAULT;
    case NESTED_ACCESS_AGAIN:
        break;
    }
    return NESTED_RETRY;
}

static enum nested_answer read_memory(struct nested_vcpu *n, struct nested_operands *operands, void *to,
                                      unsigned size)
{
    return answer_access(operands->ops->read(operands->context, memory_segment(operands),
                                             memory_offset(n, operands), to, size, &operands->fault));
}

static enum nested_answer write_memory(struct nested_vcpu *n, struct nested_operands *operands,
                                       const void *from, unsigned size)
{
    return answer_access(operands->ops->write(operands->context, memory_segment(operands),
                                              memory_offset(n, operands), from, size, &operands->fault));
}

/* ---- Regions ----------------------------------------------------------------------------------------- */

/* Whether a VMXON region or a VMCS can be at `address`. */
static bool is_region(const struct nested_vcpu *n, uint64_t address)
{
    return is_aligned(address, PAGE_SIZE) && address >> n->policy->physical_bits == 0;
}

/* Of one page. Where no memory is, all bits read as 1. False: not now, *to is as it was. */
static bool read_region(struct nested_vcpu *n, uint64_t address, void *to, size_t size)
{
    const int error = guest_memory_read(n->memory, GPA(address), to, size, NULL);

    if (error == -EFAULT)
        memset(to, 0xff, size);
    return error != -EAGAIN;
}

/* Where no memory is, or none that can be written, it is lost. False: not now. */
static bool write_region(struct nested_vcpu *n, uint64_t address, const void *from, size_t size)
{
    return guest_memory_write(n->memory, GPA(address), from, size, NULL) != -EAGAIN;
}

bool nested_write_back(struct nested_vcpu *n)
{
    if (n->current == NESTED_NO_VMCS)
        return true;
    nested_shadow_collect(n);
    nested_away_fetch(n);
    if (!n->vmcs12.changed)
        return true;
    if (!write_region(n, n->current + VMCS12_LAUNCH_STATE, &n->vmcs12.launched, VMCS12_IMAGE_SIZE))
        return false;
    n->vmcs12.changed = false;
    return true;
}

void nested_reset(struct nested_vcpu *n)
{
    n->mode = NESTED_OFF;
    n->vmxon_pointer = NESTED_NO_VMCS;
    n->current = NESTED_NO_VMCS;
    n->shadow_linked = false;
    memset(n->vmcs12.away, 0, sizeof(n->vmcs12.away));
    nested_forget_pages(n);
}

/* ---- VMXON, VMXOFF ----------------------------------------------------------------------------------- */

static enum nested_answer execute_vmxon(struct nested_vcpu *n, struct nested_operands *operands)
{
    const struct nested_capabilities *capabilities = &n->policy->capabilities;
    const uint64_t permission = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON_OUTSIDE_SMX;
    enum nested_answer answer;
    uint64_t pointer;
    uint32_t revision;

    if (n->mode != NESTED_OFF)
        return fail(n, VM_ERROR_VMXON_IN_ROOT);
    if (!nested_capabilities_cr0_valid(capabilities, vcpu_read_cr0(n->vcpu01)) ||
        !nested_capabilities_cr4_valid(capabilities, vcpu_read_cr4(n->vcpu01)) ||
        (capabilities->offered.feature_control & permission) != permission)
        return general_protection(operands);

    answer = read_memory(n, operands, &pointer, sizeof(pointer));
    if (answer != NESTED_DONE)
        return answer;
    if (!is_region(n, pointer))
        return fail_invalid(n);
    if (!read_region(n, pointer, &revision, sizeof(revision)))
        return NESTED_RETRY;
    if (revision != VMCS12_REVISION)
        return fail_invalid(n);

    n->mode = NESTED_ROOT;
    n->vmxon_pointer = pointer;
    return succeed(n);
}

static enum nested_answer execute_vmxoff(struct nested_vcpu *n, struct nested_operands *operands)
{
    (void)operands;
    if (!nested_write_back(n))
        return NESTED_RETRY;
    n->current = NESTED_NO_VMCS;
    nested_shadow_link(n);
    nested_reset(n);
    return succeed(n);
}

/* ---- VMCLEAR, VMPTRLD, VMPTRST ----------------------------------------------------------------------- */

/* The VMCS at `pointer`, which is not the current one, is clear; nothing else of it is anywhere but there. */
static bool clear_other(struct nested_vcpu *n, uint64_t pointer)
{
    static const uint64_t clear;

    return write_region(n, pointer + VMCS12_LAUNCH_STATE, &clear, sizeof(clear));
}

static bool clear_current(struct nested_vcpu *n)
{
    struct vmcs12 *vmcs12 = &n->vmcs12;
    const uint64_t launched = vmcs12->launched;
    const bool changed = vmcs12->changed;

    vmcs12->launched = 0;
    vmcs12->changed |= launched != 0;
    if (!nested_write_back(n)) {
        vmcs12->launched = launched;
        vmcs12->changed = changed;
        return false;
    }
    n->current = NESTED_NO_VMCS;
    nested_shadow_link(n);
    return true;
}

static enum nested_answer execute_vmclear(struct nested_vcpu *n, struct nested_operands *operands)
{
    enum nested_answer answer;
    uint64_t pointer;

    answer = read_memory(n, operands, &pointer, sizeof(pointer));
    if (answer != NESTED_DONE)
        return answer;
    if (!is_region(n, pointer))
        return fail(n, VM_ERROR_VMCLEAR_ADDRESS);
    if (pointer == n->vmxon_pointer)
        return fail(n, VM_ERROR_VMCLEAR_VMXON_POINTER);
    if (!(pointer == n->current ? clear_current(n) : clear_other(n, pointer)))
        return NESTED_RETRY;
    return succeed(n);
}

/* Makes the VMCS at `pointer` the current one instead of another, if any. False: not now. */
static bool load(struct nested_vcpu *n, uint64_t pointer)
{
    if (!nested_write_back(n) ||
        !read_region(n, pointer + VMCS12_LAUNCH_STATE, &n->vmcs12.launched, VMCS12_IMAGE_SIZE))
        return false;
    vmcs12_accept(&n->vmcs12);
    n->current = pointer;
    nested_shadow_link(n);
    return true;
}

static enum nested_answer execute_vmptrld(struct nested_vcpu *n, struct nested_operands *operands)
{
    enum nested_answer answer;
    uint64_t pointer;
    uint32_t revision;

    answer = read_memory(n, operands, &pointer, sizeof(pointer));
    if (answer != NESTED_DONE)
        return answer;
    if (!is_region(n, pointer))
        return fail(n, VM_ERROR_VMPTRLD_ADDRESS);
    if (pointer == n->vmxon_pointer)
        return fail(n, VM_ERROR_VMPTRLD_VMXON_POINTER);
    if (!read_region(n, pointer, &revision, sizeof(revision)))
        return NESTED_RETRY;
    /* Bit 31 is that of a shadow VMCS, which is not offered. */
    if (revision != VMCS12_REVISION)
        return fail(n, VM_ERROR_VMPTRLD_REVISION);
    if (pointer != n->current && !load(n, pointer))
        return NESTED_RETRY;
    return succeed(n);
}

static enum nested_answer execute_vmptrst(struct nested_vcpu *n, struct nested_operands *operands)
{
    enum nested_answer answer = write_memory(n, operands, &n->current, sizeof(n->current));

    return answer == NESTED_DONE ? succeed(n) : answer;
}

/* ---- VMREAD, VMWRITE --------------------------------------------------------------------------------- */

/* The field that the second register operand names, if Lv1's processor has it. */
static bool find_field(struct nested_vcpu *n, const struct nested_operands *operands,
                       struct vmcs_field *field, bool *high)
{
    return vmcs_field_find(read_second_register(n, operands), field, high) &&
           nested_capabilities_have_field(&n->policy->capabilities, *field);
}

static enum nested_answer execute_vmread(struct nested_vcpu *n, struct nested_operands *operands)
{
    const unsigned size = in_64_bit_mode(n) ? 8 : 4;
    enum nested_answer answer = NESTED_DONE;
    struct vmcs_field field;
    uint64_t value;
    bool high;

    if (n->current == NESTED_NO_VMCS)
        return fail_invalid(n);
    if (!find_field(n, operands, &field, &high))
        return fail(n, VM_ERROR_UNSUPPORTED_FIELD);

    nested_away_fetch_field(n, field);
    value = vmcs12_read(&n->vmcs12, field);
    if (high)
        value >>= 32;
    if (!(operands->information & INFORMATION_REGISTER))
        answer = write_memory(n, operands, &value, size);
    else
        vcpu_write_register(n->vcpu01, register_operand(operands), size == 8 ? value : (uint32_t)value);
    return answer == NESTED_DONE ? succeed(n) : answer;
}

static enum nested_answer execute_vmwrite(struct nested_vcpu *n, struct nested_operands *operands)
{
    struct vmcs_field field;
    uint64_t value = 0;
    bool high;

    if (n->current == NESTED_NO_VMCS)
        return fail_invalid(n);
    if (!(operands->information & INFORMATION_REGISTER)) {
        enum nested_answer answer = read_memory(n, operands, &value, in_64_bit_mode(n) ? 8 : 4);

        if (answer != NESTED_DONE)
            return answer;
    } else {
        value = read_register(n, register_operand(operands));
    }
    if (!find_field(n, operands, &field, &high))
        return fail(n, VM_ERROR_UNSUPPORTED_FIELD);
    if (vmcs_field_class(field) == VMCS_CLASS_INFORMATION)
        return fail(n, VM_ERROR_READ_ONLY_FIELD);

    nested_away_fetch_field(n, field);
    if (high)
        value = value << 32 | (uint32_t)vmcs12_read(&n->vmcs12, field);
    value &= vmcs_width_mask(vmcs_field_width(field));
    /* A value that is there already spares the entry a check and the merge. */
    if (vmcs12_read(&n->vmcs12, field) != value)
        vmcs12_write(&n->vmcs12, field, value);
    nested_shadow_publish_field(n, field);
    return succeed(n);
}

/* ---- VMLAUNCH, VMRESUME ------------------------------------------------------------------------------ */

static enum nested_answer execute_entry(struct nested_vcpu *n, struct nested_operands *operands)
{
    const bool launch = operands->instruction == EXIT_REASON_VMLAUNCH;

    if (n->current == NESTED_NO_VMCS)
        return fail_invalid(n);
    if (vcpu_read(n->vcpu01, VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_MOV_SS)
        return fail(n, VM_ERROR_ENTRY_MOV_SS);
    if (launch && n->vmcs12.launched)
        return fail(n, VM_ERROR_VMLAUNCH_NOT_CLEAR);
    if (!launch && !n->vmcs12.launched)
        return fail(n, VM_ERROR_VMRESUME_NOT_LAUNCHED);
    nested_shadow_collect(n);
    return NESTED_ENTER;
}

/* ---- INVEPT, INVVPID --------------------------------------------------------------------------------- */

struct descriptor {
    uint64_t low, high;
};

/*
 * Reads the type of an invalidation and its descriptor; the type is one of those that bits of
 * IA32_VMX_EPT_VPID_CAP offer, from bit `first` on, `count` of them. *supported says whether.
 */
static enum nested_answer read_invalidation(struct nested_vcpu *n, struct nested_operands *operands,
                                            unsigned first, unsigned count, uint64_t *type, bool *supported,
                                            struct descriptor *descriptor)
{
    *type = read_second_register(n, operands);
    *supported = *type < count && (n->policy->capabilities.offered.ept_vpid >> first >> *type & 1) != 0;
    return *supported ? read_memory(n, operands, descriptor, sizeof(*descriptor)) : NESTED_DONE;
}

/* Type 0 is not defined: its bit is never 1. */
#define INVEPT_FIRST 24
#define INVEPT_TYPES 3
_Static_assert(BIT(INVEPT_FIRST + INVEPT_CONTEXT) == VMX_EPT_INVEPT_SINGLE &&
                   BIT(INVEPT_FIRST + INVEPT_ALL) == VMX_EPT_INVEPT_ALL,
               "the bits are in the order of the types");

static enum nested_answer execute_invept(struct nested_vcpu *n, struct nested_operands *operands)
{
    enum nested_answer answer;
    struct descriptor descriptor;
    uint64_t type;
    bool supported;

    answer = read_invalidation(n, operands, INVEPT_FIRST, INVEPT_TYPES, &type, &supported, &descriptor);
    if (answer != NESTED_DONE)
        return answer;
    if (!supported)
        return fail(n, VM_ERROR_INVEPT_INVVPID_OPERAND);
    if (type == INVEPT_CONTEXT &&
        !nested_capabilities_eptp_valid(&n->policy->capabilities, descriptor.low, n->policy->physical_bits))
        return fail(n, VM_ERROR_INVEPT_INVVPID_OPERAND);
    n->ops->invalidate_ept(n->context, type == INVEPT_CONTEXT ? &descriptor.low : NULL);
    return succeed(n);
}

#define INVVPID_FIRST 40
#define INVVPID_TYPES 4
_Static_assert(BIT(INVVPID_FIRST + INVVPID_ADDRESS) == VMX_VPID_INVVPID_ADDRESS &&
                   BIT(INVVPID_FIRST + INVVPID_CONTEXT) == VMX_VPID_INVVPID_SINGLE &&
                   BIT(INVVPID_FIRST + INVVPID_ALL) == VMX_VPID_INVVPID_ALL &&
                   BIT(INVVPID_FIRST + INVVPID_CONTEXT_BUT_GLOBAL) == VMX_VPID_INVVPID_RETAIN_GLOBALS,
               "the bits are in the order of the types");

static bool is_canonical(const struct nested_vcpu *n, uint64_t address)
{
    const unsigned unused = 64 - n->policy->linear_bits;

    return (uint64_t)((int64_t)(address << unused) >> unused) == address;
}

static enum nested_answer execute_invvpid(struct nested_vcpu *n, struct nested_operands *operands)
{
    enum nested_answer answer;
    struct descriptor descriptor;
    uint64_t type;
    uint16_t vpid;
    bool supported;

    answer = read_invalidation(n, operands, INVVPID_FIRST, INVVPID_TYPES, &type, &supported, &descriptor);
    if (answer != NESTED_DONE)
        return answer;
    if (!supported || descriptor.low > UINT16_MAX)
        return fail(n, VM_ERROR_INVEPT_INVVPID_OPERAND);
    vpid = type == INVVPID_ALL ? 0 : (uint16_t)descriptor.low;
    if (type != INVVPID_ALL && vpid == 0)
        return fail(n, VM_ERROR_INVEPT_INVVPID_OPERAND);
    if (type == INVVPID_ADDRESS && !is_canonical(n, descriptor.high))
        return fail(n, VM_ERROR_INVEPT_INVVPID_OPERAND);
    n->ops->invalidate_vpid(n->context, vpid, type == INVVPID_ADDRESS ? &descriptor.high : NULL,
                            type == INVVPID_CONTEXT_BUT_GLOBAL);
    return succeed(n);
}

/* ---- All of them ------------------------------------------------------------------------------------- */

/* By exit reason; `offered` is the bit of IA32_VMX_EPT_VPID_CAP without which there is no such instruction.
 */
static const struct instruction {
    enum nested_answer (*execute)(struct nested_vcpu *n, struct nested_operands *operands);
    uint64_t offered;
} instructions[EXIT_REASON_COUNT] = {
    [EXIT_REASON_VMCLEAR] = {execute_vmclear, 0},
    [EXIT_REASON_VMLAUNCH] = {execute_entry, 0},
    [EXIT_REASON_VMPTRLD] = {execute_vmptrld, 0},
    [EXIT_REASON_VMPTRST] = {execute_vmptrst, 0},
    [EXIT_REASON_VMREAD] = {execute_vmread, 0},
    [EXIT_REASON_VMRESUME] = {execute_entry, 0},
    [EXIT_REASON_VMWRITE] = {execute_vmwrite, 0},
    [EXIT_REASON_VMXOFF] = {execute_vmxoff, 0},
    [EXIT_REASON_VMXON] = {execute_vmxon, 0},
    [EXIT_REASON_INVEPT] = {execute_invept, VMX_EPT_INVEPT},
    [EXIT_REASON_INVVPID] = {execute_invvpid, VMX_VPID_INVVPID},
};

/* What makes all of them undefined, and what one of them. */
static bool is_undefined(struct nested_vcpu *n, const struct nested_operands *operands)
{
    const struct instruction *instruction = &instructions[operands->instruction];
    const uint64_t ept_vpid = n->policy->capabilities.offered.ept_vpid;

    if (instruction->execute == NULL || (instruction->offered & ~ept_vpid) != 0)
        return true;
    if (operands->instruction == EXIT_REASON_VMXON ? (vcpu_read_cr4(n->vcpu01) & X86_CR4_VMXE) == 0
                                                   : n->mode == NESTED_OFF)
        return true;
    if ((vcpu_read_efer(n->vcpu01) & X86_EFER_LMA) != 0) /* so protected mode, and no virtual-8086 mode */
        return (vcpu_read(n->vcpu01, VMCS_GUEST_CS_ACCESS_RIGHTS) & RIGHTS_LONG) == 0;
    return (vcpu_read_cr0(n->vcpu01) & X86_CR0_PE) == 0 ||
           (vcpu_read(n->vcpu01, VMCS_GUEST_RFLAGS) & X86_RFLAGS_VM) != 0;
}

enum nested_answer nested_instruction(struct nested_vcpu *n, struct nested_operands *operands)
{
    if (is_undefined(n, operands))
        return undefined_opcode(operands);
    if ((vcpu_read(n->vcpu01, VMCS_GUEST_SS_ACCESS_RIGHTS) >> RIGHTS_DPL_SHIFT & 3) != 0)
        return general_protection(operands);
    return instructions[operands->instruction].execute(n, operands);
}
