// SPDX-License-Identifier: BSD-2-Clause
/*
 * The exits of a guest hypervisor's guest (Lv2): nested/owner.h says whose each is. Here is what Umbra does
 * of its own, and what it does for Lv2 where the guest hypervisor (Lv1) lets it through and the partition's
 * policy does not.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/exception.h"
#include "arch/x86/machine_check.h"
#include "arch/x86/registers.h"
#include "arch/x86/trap.h"
#include "core/exits/exits.h"
#include "core/nested_guest.h"
#include "core/run.h"
#include "nested/merge.h"
#include "nested/owner.h"
#include "vmx/events.h"

/* Exit qualification of a control-register access (SDM vol. 3, table 28-3). */
#define CR_NUMBER(q)           ((unsigned)(q)&15)
#define CR_ACCESS(q)           ((unsigned)((q) >> 4) & 3)
#define CR_REGISTER(q)         ((unsigned)((q) >> 8) & 15)
#define CR_LMSW(q)             ((uint16_t)((q) >> 16))
#define CR_ACCESS_FROM         1
#define CR_ACCESS_CLTS         2
#define CR_ACCESS_LMSW         3

/* Of an EPT violation (table 28-7). */
#define VIOLATION_READ         BIT(0)
#define VIOLATION_WRITE        BIT(1)
#define VIOLATION_FETCH        BIT(2)
#define VIOLATION_LINEAR_VALID BIT(7)
#define VIOLATION_NOT_TABLES   BIT(8)

/* Of an I/O instruction (table 28-5). */
#define IO_SIZE(q)             ((unsigned)((q)&7) + 1)
#define IO_IN                  BIT(3)
#define IO_STRING              BIT(4)
#define IO_PORT(q)             ((uint16_t)((q) >> 16))

/* The address of a bitmap that Lv1 has for `index`, and what its place in it is. */
#define MSR_BITMAP_HALF        0x1fffu
#define MSR_BITMAP_HIGH        0x400
#define MSR_BITMAP_WRITES      0x800

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

/* ---- Exceptions that Umbra makes for Lv2 ------------------------------------------------------------------
 */

/* Lv2 gets an exception, unless Lv1 wants it to exit. `qualification`: the address of a page fault. */
static void inject(struct partition_vcpu *v, uint8_t vector, uint32_t error_code)
{
    struct nested_vcpu *n = &v->nested->nested;
    const bool has_error_code = (X86_EXCEPTIONS_WITH_ERROR_CODE & BIT(vector)) != 0;
    const struct nested_owner_exit exit = {
        .reason = EXIT_REASON_EXCEPTION_OR_NMI,
        .interruption = EVENT_VALID | VCPU_EVENT_HARDWARE_EXCEPTION << 8 |
                        (has_error_code ? EVENT_HAS_ERROR_CODE : 0) | vector,
        .error_code = error_code,
        .vmcs12 = &n->vmcs12,
        .ops = &owner_ops,
        .context = v,
    };

    if (nested_owner_find(&exit)->owner == NESTED_LV1) {
        struct nested_exit_information information = {
            .reason = exit.reason,
            .interruption = exit.interruption,
            .interruption_error_code = error_code,
        };
        nested_guest_leave(v, &information);
    } else if (!vcpu_queue_exception(lv2(v), vector, has_error_code, error_code)) {
        struct nested_exit_information information = {.reason = EXIT_REASON_TRIPLE_FAULT};
        nested_guest_leave(v, &information);
    }
}

/* ---- Umbra's own -----------------------------------------------------------------------------------------
 */

static void own_exception(struct partition_vcpu *v)
{
    const uint64_t information = vcpu_read(lv2(v), VMCS_EXIT_INTERRUPTION_INFO);

    if (EVENT_TYPE(information) == VCPU_EVENT_NMI)
        cpu_handle_nmi();
    else if (!machine_check_handle(true)) /* the owner's table keeps nothing else */
        partition_crash(v, "machine check: the processor cannot go on at rip %#lx",
                        vcpu_read(lv2(v), VMCS_GUEST_RIP));
}

static void own_exit(struct partition_vcpu *v, uint32_t reason)
{
    switch (reason) {
    case EXIT_REASON_EXCEPTION_OR_NMI:
        own_exception(v);
        break;
    case EXIT_REASON_EXTERNAL_INTERRUPT:
        trap_dispatch((uint8_t)EVENT_VECTOR(vcpu_read(lv2(v), VMCS_EXIT_INTERRUPTION_INFO)));
        break;
    case EXIT_REASON_PREEMPTION_TIMER: /* the run loop looks at the time itself */
    case EXIT_REASON_INIT:
    case EXIT_REASON_SIPI:
        break;
    default:
        vcpu_events_changed(lv2(v));
        break;
    }
}

static void crash_memory(struct partition_vcpu *v, uint64_t address)
{
    partition_crash(
        v, "a guest hypervisor's guest at rip %#lx: access to %#lx, where the partition has no memory",
        vcpu_read(lv2(v), VMCS_GUEST_RIP), address);
}

static void ept_violation(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    struct vcpu *vcpu = lv2(v);
    const uint64_t qualification = vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION);
    const uint64_t address = vcpu_read(vcpu, VMCS_GUEST_PHYSICAL_ADDRESS);
    const bool in_tables =
        (qualification & (VIOLATION_LINEAR_VALID | VIOLATION_NOT_TABLES)) == VIOLATION_LINEAR_VALID;
    unsigned access = (qualification & VIOLATION_READ ? PAGING_READ : 0) |
                      (qualification & VIOLATION_WRITE ? PAGING_WRITE : 0) |
                      (qualification & VIOLATION_FETCH ? PAGING_EXECUTE : 0);
    struct nested_exit_information information;
    struct vtlb_result result;

    /* With A and D, the processor's accesses to Lv2's page tables count as writes (mm/walk_ept.h). */
    if (in_tables && g->context != &v->ept && g->walk.accessed_dirty)
        access |= PAGING_READ | PAGING_WRITE;
    switch (vtlb_miss(g->context, address, access, &result)) {
    case VTLB_FILLED:
        vcpu_restore_nmi_blocking(vcpu, qualification);
        return;
    case VTLB_NO_MEMORY:
        crash_memory(v, address);
        return;
    case VTLB_GUEST_FAULT:
        break;
    }
    nested_exit_information(&g->nested, &information);
    if (result.fault.error_code == EPT_FAULT_MISCONFIGURATION) {
        information.reason = EXIT_REASON_EPT_MISCONFIGURATION;
        information.qualification = 0;
    } else {
        information.qualification =
            (qualification & ~EPT_FAULT_QUALIFICATION) | (result.fault.error_code & EPT_FAULT_QUALIFICATION);
    }
    nested_guest_leave(v, &information);
}

static void memory_exit(struct partition_vcpu *v, uint32_t reason)
{
    if (reason == EXIT_REASON_EPT_VIOLATION)
        ept_violation(v);
    else
        partition_crash(v, "EPT misconfiguration at %#lx", vcpu_read(lv2(v), VMCS_GUEST_PHYSICAL_ADDRESS));
}

/* ---- CR0 and CR4 -----------------------------------------------------------------------------------------
 */

/* Loads Lv2's PDPTEs by `state`. False: they are bad. */
static bool load_pdptes(struct partition_vcpu *v, const struct cr_state *state)
{
    const struct nested_guest *g = v->nested;
    const struct walk_x86_registers registers = {
        .cr3 = state->cr3,
        .physical_bits = v->partition->physical_bits,
    };
    uint64_t pdpte[4];

    if (walk_x86_load_pdptes(g->context == &v->ept ? &v->view_chain : &g->ept_view, &registers, pdpte) != 0)
        return false;
    for (unsigned i = 0; i < 4; i++)
        vcpu_write(lv2(v), vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i), pdpte[i]);
    return true;
}

static void update_cr(struct partition_vcpu *v)
{
    struct nested_vcpu *n = &v->nested->nested;
    struct vcpu *vcpu = lv2(v);
    const uint64_t qualification = vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION);
    const unsigned access = CR_ACCESS(qualification);
    struct nested_owner_exit exit;
    struct cr_state state;
    unsigned effects = 0;
    enum cr_answer answer;
    uint64_t operand;

    nested_exit_describe(n, &exit);
    nested_read_control_state(n, &state);
    operand = access == CR_ACCESS_CLTS   ? policy_cr0_clts(state.cr0)
              : access == CR_ACCESS_LMSW ? policy_cr0_lmsw(state.cr0, CR_LMSW(qualification))
                                         : exit.operand;
    if (CR_NUMBER(qualification) == 4)
        answer = nested_cr4_write(n, &state, operand, &effects);
    else
        answer = nested_cr0_write(n, &state, operand, &effects);
    if (answer == CR_GP || ((effects & CR_EFFECT_PDPTES) != 0 && !load_pdptes(v, &state))) {
        inject(v, X86_VECTOR_GP, 0);
        return;
    }
    nested_write_control_state(n, &state);
    if ((effects & CR_EFFECT_FLUSH) != 0)
        vcpu_flush_linear(vcpu);
    vcpu_skip_instruction(vcpu);
}

/* ---- What Lv1 lets through -------------------------------------------------------------------------------
 */

static void emulate_cr8(struct partition_vcpu *v)
{
    struct lapic *lapic = partition_vcpu_lapic(v);
    struct vcpu *vcpu = lv2(v);
    const uint64_t qualification = vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION);
    const unsigned number = CR_REGISTER(qualification);

    if (CR_ACCESS(qualification) == CR_ACCESS_FROM) {
        vcpu_write_register(vcpu, number, lapic_cr8_read(lapic));
    } else {
        const uint64_t value = vcpu_read_register(vcpu, number);
        if (value > 15) {
            inject(v, X86_VECTOR_GP, 0);
            return;
        }
        lapic_cr8_write(lapic, (uint8_t)value);
        vcpu_events_changed(&v->vcpu);
    }
    vcpu_skip_instruction(vcpu);
}

static void emulate_io(struct partition_vcpu *v)
{
    struct vcpu *vcpu = lv2(v);
    struct platform *platform = &v->partition->platform;
    const uint64_t qualification = vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION);
    const uint16_t port = IO_PORT(qualification);
    const unsigned size = IO_SIZE(qualification);
    const uint64_t mask = size == 4 ? UINT32_MAX : BIT(8 * size) - 1;
    uint64_t *rax = &vcpu->registers[VCPU_RAX];

    if ((qualification & IO_STRING) != 0) {
        partition_crash(v, "a guest hypervisor's guest at rip %#lx: string I/O to port %#x of the partition",
                        vcpu_read(vcpu, VMCS_GUEST_RIP), port);
        return;
    }
    if ((qualification & IO_IN) != 0)
        *rax = (platform_port_read(platform, port, size) & mask) | (size == 4 ? 0 : *rax & ~mask);
    else
        platform_port_write(platform, port, size, (uint32_t)(*rax & mask));
    partition_vcpu_touch_devices(v);
    vcpu_skip_instruction(vcpu);
}

/* IA32_EFER of Lv2 itself; a read of it is let through. */
static bool write_efer(struct partition_vcpu *v, uint64_t value)
{
    struct nested_vcpu *n = &v->nested->nested;
    struct cr_state state;
    unsigned effects = 0;

    nested_read_control_state(n, &state);
    if (policy_efer_write(n->policy->registers, &state, value, &effects) == CR_GP ||
        ((effects & CR_EFFECT_PDPTES) != 0 && !load_pdptes(v, &state)))
        return false;
    nested_write_control_state(n, &state);
    if ((effects & CR_EFFECT_FLUSH) != 0)
        vcpu_flush_linear(&n->vcpu02);
    return true;
}

static bool access_debugctl(struct partition_vcpu *v, bool write, uint64_t *value)
{
    if (!write)
        *value = vcpu_read(lv2(v), VMCS_GUEST_DEBUGCTL);
    else if ((*value & ~policy_msr_find(MSR_IA32_DEBUGCTL)->value) == 0)
        vcpu_write(lv2(v), VMCS_GUEST_DEBUGCTL, *value);
    else
        return false;
    return true;
}

/*
 * A register that Lv1 lets through. Those that a logical entry and exit switch are Lv2's own; the others are
 * the vCPU's, as Lv1 has them: their handlers may look at Lv1's VMCS and change it, so it has to be the
 * current one.
 */
static bool access_msr(struct partition_vcpu *v, uint32_t index, bool write, uint64_t *value)
{
    struct nested_vcpu *n = &v->nested->nested;
    bool done;

    if (index == MSR_IA32_EFER && write)
        return write_efer(v, *value);
    if (index == MSR_IA32_DEBUGCTL)
        return access_debugctl(v, write, value);
    vcpu_switch(lv2(v));
    done = write ? n->ops->write_msr(n->context, index, *value) : n->ops->read_msr(n->context, index, value);
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
        inject(v, X86_VECTOR_GP, 0);
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

/* One that Umbra alone intercepts: Lv2 gets it as it was. */
static void deliver_exception(struct partition_vcpu *v)
{
    struct vcpu *vcpu = lv2(v);
    const uint64_t information = vcpu_read(vcpu, VMCS_EXIT_INTERRUPTION_INFO);
    const uint8_t vector = (uint8_t)EVENT_VECTOR(information);

    vcpu_restore_nmi_blocking(vcpu, information);
    if (vector == X86_VECTOR_DB) {
        exit_update_debug_registers(vcpu, vcpu_read(vcpu, VMCS_EXIT_QUALIFICATION));
        exit_settle_single_step(vcpu);
    }
    if (EVENT_TYPE(information) == VCPU_EVENT_HARDWARE_EXCEPTION)
        inject(v, vector, (uint32_t)vcpu_read(vcpu, VMCS_EXIT_INTERRUPTION_ERROR_CODE));
    else
        vcpu_requeue_event(vcpu, information, 0, vcpu_read(vcpu, VMCS_EXIT_INSTRUCTION_LENGTH));
}

static void crash_unexpected(struct partition_vcpu *v, uint32_t reason)
{
    partition_crash(v,
                    "unexpected exit %u (%s) of a guest hypervisor's guest at rip %#lx, qualification %#lx",
                    reason & EXIT_REASON_BASIC, vmx_exit_reason_name(reason & EXIT_REASON_BASIC),
                    vcpu_read(lv2(v), VMCS_GUEST_RIP), vcpu_read(lv2(v), VMCS_EXIT_QUALIFICATION));
}

static void emulate(struct partition_vcpu *v, uint32_t reason)
{
    switch (reason) {
    case EXIT_REASON_CR_ACCESS:
        emulate_cr8(v); /* CR3 never exits for Umbra here */
        break;
    case EXIT_REASON_IO_INSTRUCTION:
        emulate_io(v);
        break;
    case EXIT_REASON_RDMSR:
    case EXIT_REASON_WRMSR:
        emulate_msr(v, reason == EXIT_REASON_WRMSR);
        break;
    case EXIT_REASON_EXCEPTION_OR_NMI:
        deliver_exception(v);
        break;
    case EXIT_REASON_HLT:
        emulate_halt(v);
        break;
    case EXIT_REASON_PAUSE:
        run_yield();
        break;
    case EXIT_REASON_WBINVD:
        vcpu_skip_instruction(lv2(v)); /* memory is coherent */
        break;
    case EXIT_REASON_RDPMC:
        inject(v, X86_VECTOR_GP, 0); /* there are no counters */
        break;
    default:
        crash_unexpected(v, reason);
        break;
    }
}

/* ---- All of them -----------------------------------------------------------------------------------------
 */

/* What Umbra itself waits for: the deadline that the preemption timer stands for is always its own as well.
 */
static unsigned own_wants(struct partition_vcpu *v)
{
    struct vcpu *vcpu = lv2(v);
    unsigned wants = NESTED_LV0_WANTS_TIMER;

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
        .lv0_wants = own_wants(v),
    };

    nested_exit_describe(&g->nested, &exit);
    const enum nested_owner owner = (enum nested_owner)nested_owner_find(&exit)->owner;
    const uint32_t reason = exit.reason & EXIT_REASON_BASIC;
    if (reason < EXIT_REASON_COUNT)
        v->exits[reason]++;
    if (owner == NESTED_LV1) {
        nested_exit_information(&g->nested, &information);
        nested_guest_leave(v, &information);
        return;
    }
    g->kept++;
    switch (owner) {
    case NESTED_LV0:
        own_exit(v, reason);
        break;
    case NESTED_LV0_MEMORY:
        memory_exit(v, reason);
        break;
    case NESTED_LV0_CR:
        update_cr(v);
        break;
    case NESTED_LV0_EMULATE:
        emulate(v, reason);
        break;
    case NESTED_LV0_UNDEFINED:
        inject(v, X86_VECTOR_UD, 0);
        break;
    default:
        crash_unexpected(v, exit.reason);
        break;
    }
}
