// SPDX-License-Identifier: BSD-2-Clause
/*
 * The exits of a guest hypervisor's guest (Lv2): nested/owner.h says whose each is. What Umbra does of its
 * own, or because the guest hypervisor (Lv1) lets it through and the partition's policy does not, the
 * handlers for Lv1 do on Lv2's level; here is what they have to ask Lv1's VMCS, and what is different.
 */
#include "arch/x86/exception.h"
#include "arch/x86/msr.h"
#include "core/exits/exits.h"
#include "core/exits/qualifications.h"
#include "core/nested_guest.h"
#include "core/run.h"
#include "nested/merge.h"
#include "nested/owner.h"
#include "vmx/events.h"

/* The address of a bitmap that Lv1 has for `index`, and what its place in it is. */
#define MSR_BITMAP_HALF   0x1fffu
#define MSR_BITMAP_HIGH   0x400
#define MSR_BITMAP_WRITES 0x800

static struct vcpu *lv2(struct partition_vcpu *v)
{
    return &v->nested->nested.vcpu02;
}

/* ---- Lv1's bitmaps ---------------------------------------------------------------------------------------
 */

static bool bit_at(struct partition_vcpu *v, uint64_t address, unsigned bit)
{
    uint8_t byte;

    return guest_memory_read(&v->view_chain, GPA(address + bit / 8), &byte, sizeof(byte), NULL) != 0 ||
           (byte >> bit % 8 & 1) != 0;
}

static bool lv1_msr_bit(void *context, uint32_t index, bool write)
{
    struct partition_vcpu *v = context;
    const uint64_t bitmaps = vmcs12_read(&v->nested->nested.vmcs12, VMCS_MSR_BITMAPS);
    const uint64_t part = (write ? MSR_BITMAP_WRITES : 0) + (index > MSR_BITMAP_HALF ? MSR_BITMAP_HIGH : 0);

    return bit_at(v, bitmaps + part, index & MSR_BITMAP_HALF);
}

static bool lv1_io_bit(void *context, uint16_t port, unsigned size)
{
    struct partition_vcpu *v = context;
    const struct vmcs12 *vmcs12 = &v->nested->nested.vmcs12;

    for (unsigned p = port; p < (unsigned)port + size; p++) {
        const bool low = p < 0x8000;
        if (bit_at(v, vmcs12_read(vmcs12, low ? VMCS_IO_BITMAP_A : VMCS_IO_BITMAP_B), p & 0x7fff))
            return true;
    }
    return false;
}

static const struct nested_owner_ops owner_ops = {.lv1_msr_bit = lv1_msr_bit, .lv1_io_bit = lv1_io_bit};

/* ---- What Lv1 has a say in --------------------------------------------------------------------------------
 */

static void read_control(struct partition_vcpu *v, struct cr_state *state)
{
    nested_read_control_state(&v->nested->nested, state);
}

static void write_control(struct partition_vcpu *v, const struct cr_state *state)
{
    nested_write_control_state(&v->nested->nested, state);
}

static enum cr_answer move_to_cr(struct partition_vcpu *v, unsigned number, struct cr_state *state,
                                 uint64_t operand, unsigned *effects)
{
    const struct nested_vcpu *n = &v->nested->nested;

    return number == 0 ? nested_cr0_write(n, state, operand, effects)
                       : nested_cr4_write(n, state, operand, effects);
}

/* By the exception bitmap. */
static bool takes_exception(struct partition_vcpu *v, uint8_t vector, uint32_t error_code,
                            uint64_t qualification)
{
    const bool has_error_code = (X86_EXCEPTIONS_WITH_ERROR_CODE & BIT(vector)) != 0;
    const struct nested_owner_exit exit = {
        .reason = EXIT_REASON_EXCEPTION_OR_NMI,
        .interruption = EVENT_VALID | VCPU_EVENT_HARDWARE_EXCEPTION << 8 |
                        (has_error_code ? EVENT_HAS_ERROR_CODE : 0) | vector,
        .error_code = error_code,
        .vmcs12 = &v->nested->nested.vmcs12,
        .ops = &owner_ops,
        .context = v,
    };
    struct nested_exit_information information = {
        .reason = exit.reason,
        .interruption = exit.interruption,
        .interruption_error_code = error_code,
        .qualification = qualification,
    };

    if (nested_owner_find(&exit)->owner != NESTED_LV1)
        return false;
    /* A fault of an IRET that had unblocked NMIs, which the processor told Umbra. */
    if (vcpu_fetched(lv2(v), VMCS_EXIT_REASON) == EXIT_REASON_EXCEPTION_OR_NMI && lv2(v)->injection == 0 &&
        vector != X86_VECTOR_DF)
        information.interruption |=
            (uint32_t)vcpu_read(lv2(v), VMCS_EXIT_INTERRUPTION_INFO) & EVENT_NMI_UNBLOCKED;
    nested_guest_leave(v, &information);
    return true;
}

static void triple_fault(struct partition_vcpu *v)
{
    struct nested_exit_information information = {.reason = EXIT_REASON_TRIPLE_FAULT};

    nested_guest_leave(v, &information);
}

/* What an EPT violation says of the access, from what the walk of EPT12 says and from what else is known. */
static void leave_by_violation(struct partition_vcpu *v, struct nested_exit_information *information,
                               const struct stage_fault *fault, uint64_t qualification)
{
    const bool violation = fault->error_code != EPT_FAULT_MISCONFIGURATION;

    information->reason = violation ? EXIT_REASON_EPT_VIOLATION : EXIT_REASON_EPT_MISCONFIGURATION;
    information->qualification =
        violation ? (qualification & ~EPT_FAULT_QUALIFICATION) | (fault->error_code & EPT_FAULT_QUALIFICATION)
                  : 0;
    information->physical_address = fault->address;
    nested_guest_leave(v, information);
}

/* Of an access that Umbra made for Lv2. */
static void memory_fault(struct partition_vcpu *v, gla_t gla, const struct stage_fault *fault)
{
    struct nested_exit_information information = {
        .instruction_length = (uint32_t)vcpu_read(lv2(v), VMCS_EXIT_INSTRUCTION_LENGTH),
        .linear_address = gla.value,
    };

    uint64_t qualification = VIOLATION_LINEAR_VALID | (fault->in_tables ? 0 : VIOLATION_NOT_TABLES);

    if (vcpu_read(lv2(v), VMCS_EXIT_REASON) == EXIT_REASON_EXCEPTION_OR_NMI) /* its bit is the same */
        qualification |= vcpu_read(lv2(v), VMCS_EXIT_INTERRUPTION_INFO) & EVENT_NMI_UNBLOCKED;
    leave_by_violation(v, &information, fault, qualification);
}

const struct partition_level_ops nested_guest_level_ops = {
    .read_control = read_control,
    .write_control = write_control,
    .move_to_cr = move_to_cr,
    .takes_exception = takes_exception,
    .triple_fault = triple_fault,
    .memory_fault = memory_fault,
};

/* ---- Memory ----------------------------------------------------------------------------------------------
 */

static void ept_violation(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    struct vcpu *vcpu = lv2(v);
    const uint64_t qualification = vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION);
    const uint64_t address = vcpu_read(vcpu, VMCS_GUEST_PHYSICAL_ADDRESS);
    const unsigned rights = violation_access(qualification);
    const bool in_tables = violation_is_in_tables(qualification);
    struct nested_exit_information information;
    struct vtlb_result result;
    unsigned access = rights;

    /* With A and D, the processor's accesses to Lv2's page tables count as writes (mm/walk_ept.h). */
    if (in_tables && nested_memory_has_ept(&g->memory) && g->memory.walk.accessed_dirty)
        access |= PAGING_READ | PAGING_WRITE;
    switch (nested_memory_miss(&g->memory, address, access, &result)) {
    case VTLB_FILLED:
        vcpu_restore_nmi_blocking(vcpu, qualification);
        break;
    case VTLB_NO_MEMORY:
        vcpu_restore_nmi_blocking(vcpu, qualification);
        if (in_tables && vcpu->injection == 0 && (rights & PAGING_EXECUTE) == 0)
            partition_crash(v, "a guest hypervisor's guest: page tables at %#lx, where it has no memory",
                            result.fault.address);
        else
            exit_no_memory(v, GPA(result.fault.address), rights);
        break;
    case VTLB_GUEST_FAULT:
        nested_exit_information(&g->nested, &information);
        leave_by_violation(v, &information, &result.fault, qualification);
        break;
    }
}

/* Who caused it, only the tables know. */
static void memory_exit(struct partition_vcpu *v, uint32_t reason)
{
    if (reason == EXIT_REASON_EPT_VIOLATION)
        ept_violation(v);
    else
        exit_page_fault(v);
}

/* ---- What Lv1 lets through -------------------------------------------------------------------------------
 */

/* Whether a logical entry and exit switch the register: Lv2 has one of its own. */
static bool is_switched(uint32_t index)
{
    struct vmcs_field field;

    return index == MSR_IA32_EFER || nested_msr_field(index, &field);
}

static uint64_t lv1_tsc_offset(const struct nested_vcpu *n)
{
    return vmcs12_has_primary(&n->vmcs12, VMX_PRIMARY_TSC_OFFSETTING)
               ? vmcs12_read(&n->vmcs12, VMCS_TSC_OFFSET)
               : 0;
}

/*
 * A register that Lv1 lets through. One that is not Lv2's own is the vCPU's, as Lv1 has it: its handler may
 * look at Lv1's VMCS and change it, so that has to be the current one.
 */
static bool access_msr(struct partition_vcpu *v, uint32_t index, bool write, uint64_t *value)
{
    struct nested_vcpu *n = &v->nested->nested;
    struct partition_level *level = v->level;
    bool done;

    if (index == MSR_IA32_TSC && !write) {
        *value = partition_tsc(v->partition) + v->msrs.tsc_adjust + lv1_tsc_offset(n);
        return true;
    }
    if (is_switched(index))
        return write ? nested_guest_write_msr(v, index, *value) : nested_guest_read_msr(v, index, value);
    vcpu_switch(level->vcpu);
    partition_vcpu_set_level(v, &v->lv1);
    done = write ? nested_guest_write_msr(v, index, *value) : nested_guest_read_msr(v, index, value);
    partition_vcpu_set_level(v, level);
    vcpu_switch(&v->vcpu);
    nested_merge_tsc_offset(n);
    return done;
}

static void emulate_msr(struct partition_vcpu *v, bool write)
{
    struct vcpu *vcpu = lv2(v);
    uint64_t *registers = vcpu->registers;
    uint64_t value = registers[VCPU_RDX] << 32 | (uint32_t)registers[VCPU_RAX];

    if (!access_msr(v, (uint32_t)registers[VCPU_RCX], write, &value)) {
        exit_inject(v, X86_VECTOR_GP);
        return;
    }
    if (!write) {
        registers[VCPU_RAX] = (uint32_t)value;
        registers[VCPU_RDX] = value >> 32;
    }
    vcpu_skip_instruction(vcpu);
}

static void emulate_halt(struct partition_vcpu *v)
{
    vcpu_skip_instruction(lv2(v));
    vcpu_events_changed(lv2(v));
    vcpu_events_changed(&v->vcpu);
    if (nested_guest_would_wake(v))
        return;
    v->nested->halted = true;
    v->wait = VCPU_WAIT_HALTED;
    run_interrupt_slice();
}

static void crash_unexpected(struct partition_vcpu *v, uint32_t reason)
{
    partition_crash(v,
                    "unexpected exit %u (%s) of a guest hypervisor's guest at rip %#lx, qualification %#lx",
                    reason & EXIT_REASON_BASIC, vmx_exit_reason_name(reason & EXIT_REASON_BASIC),
                    vcpu_read(lv2(v), VMCS_GUEST_RIP), vcpu_read(lv2(v), VMCS_EXIT_QUALIFICATION));
}

/* As for Lv1 itself, but for what is a matter of both. */
static void emulate(struct partition_vcpu *v, uint32_t reason)
{
    switch (reason) {
    case EXIT_REASON_RDMSR:
    case EXIT_REASON_WRMSR:
        emulate_msr(v, reason == EXIT_REASON_WRMSR);
        break;
    case EXIT_REASON_HLT:
        emulate_halt(v);
        break;
    default:
        exit_handlers[reason](v);
        break;
    }
}

/* ---- All of them -----------------------------------------------------------------------------------------
 */

/*
 * What Umbra itself waits for: the deadline that the preemption timer stands for is always its own as well;
 * about windows only the exits by them ask.
 */
static unsigned own_wants(struct partition_vcpu *v, uint32_t reason)
{
    struct vcpu *vcpu = lv2(v);
    unsigned wants = NESTED_LV0_WANTS_TIMER;

    if (vcpu->regime == VCPU_REGIME_SHADOW)
        wants |= NESTED_LV0_WANTS_PAGE_FAULTS;
    if (v->level->stepping)
        wants |= NESTED_LV0_WANTS_STEP;
    if (likely(reason != EXIT_REASON_INTERRUPT_WINDOW && reason != EXIT_REASON_NMI_WINDOW))
        return wants;
    if (vcpu->deferred_interrupt >= 0 || vcpu->interrupt_ops->pending(vcpu->interrupt_context) >= 0)
        wants |= NESTED_LV0_WANTS_INTERRUPT_WINDOW;
    if (vcpu->nmi_pending) {
        wants |= NESTED_LV0_WANTS_NMI_WINDOW;
        /* In the shadow of STI it waits for the other window (vmx/events.c). */
        if ((vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI) == 0)
            wants |= NESTED_LV0_WANTS_INTERRUPT_WINDOW;
    }
    return wants;
}

void nested_guest_handle_exit(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    struct nested_exit_information information;
    struct nested_owner_exit exit = {
        .ops = &owner_ops,
        .context = v,
    };

    nested_exit_describe(&g->nested, &exit);
    const uint32_t reason = exit.reason & EXIT_REASON_BASIC;
    exit.lv0_wants = own_wants(v, reason);
    const enum nested_owner owner = (enum nested_owner)nested_owner_find(&exit)->owner;
    if (reason < EXIT_REASON_COUNT) {
        v->exits[reason]++;
        g->statistics.by_reason[reason]++;
    }
    switch (owner) {
    case NESTED_LV1:
        nested_exit_information(&g->nested, &information);
        nested_guest_leave(v, &information);
        break;
    case NESTED_LV0_MEMORY:
        memory_exit(v, reason);
        break;
    case NESTED_LV0:
    case NESTED_LV0_CR:
        exit_handlers[reason](v);
        break;
    case NESTED_LV0_EMULATE:
        emulate(v, reason);
        break;
    case NESTED_LV0_UNDEFINED:
        exit_inject(v, X86_VECTOR_UD);
        break;
    default:
        crash_unexpected(v, exit.reason);
        break;
    }
    /* Whoever's it was: what Umbra made of it may be an exit to Lv1 after all. */
    if (nested_guest_runs(v))
        g->statistics.kept[owner]++;
    else
        g->statistics.passed++;
}
