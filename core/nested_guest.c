// SPDX-License-Identifier: BSD-2-Clause
#include "core/nested_guest.h"

#include "arch/x86/cpuid.h"
#include "arch/x86/exception.h"
#include "arch/x86/paging_ept.h"
#include "arch/x86/registers.h"
#include "arch/x86/trap.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/paging.h"
#include "core/run.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "nested/entry.h"
#include "nested/instructions.h"
#include "vmx/events.h"

#define ACTIVITY_HLT           1
#define ACTIVITY_WAIT_FOR_SIPI 3

#define EVENT_EXTERNAL(vector) (EVENT_VALID | VCPU_EVENT_EXTERNAL_INTERRUPT << 8 | (unsigned)(vector))
#define EVENT_NMI              (EVENT_VALID | VCPU_EVENT_NMI << 8 | X86_VECTOR_NMI)

/* ---- What nested/ asks for -------------------------------------------------------------------------------
 */

static bool load_control_state(void *context, const struct cr_state *state)
{
    struct partition_vcpu *v = context;
    const unsigned pdptes = policy_cr_uses_pdptes(state) ? CR_EFFECT_PDPTES : 0;

    return paging_write_control(v, state, CR_EFFECT_FLUSH | pdptes);
}

static bool write_msr(void *context, uint32_t index, uint64_t value)
{
    struct partition_vcpu *v = context;
    const struct msr_policy_row *row = policy_msr_find(index);
    struct vmcs_field field;

    if (policy_msr_on_write(row, v->partition->msr_features, v->vcpu.regime) != POLICY_THROUGH ||
        row->handler != MSR_HANDLER_NONE)
        return exit_write_msr(v, index, value);
    if (index == MSR_IA32_SPEC_CTRL)
        return vcpu_state_write_spec_ctrl(v->vcpu.state, value);
    if (!nested_msr_field(index, &field))
        return trap_wrmsr_safe(index, value);
    if (index != MSR_IA32_SYSENTER_CS && !linear_is_canonical(v, value))
        return false;
    vcpu_write(&v->vcpu, field, index == MSR_IA32_SYSENTER_CS ? (uint32_t)value : value);
    return true;
}

static bool read_msr(void *context, uint32_t index, uint64_t *value)
{
    struct partition_vcpu *v = context;
    const struct msr_policy_row *row = policy_msr_find(index);
    struct vmcs_field field;

    if (policy_msr_on_read(row, v->partition->msr_features, v->vcpu.regime) != POLICY_THROUGH ||
        row->handler != MSR_HANDLER_NONE)
        return exit_read_msr(v, index, value);
    if (index == MSR_IA32_SPEC_CTRL)
        return vcpu_state_read_spec_ctrl(v->vcpu.state, value);
    if (!nested_msr_field(index, &field))
        return trap_rdmsr_safe(index, value);
    *value = vcpu_read(&v->vcpu, field);
    return true;
}

static void invalidate_ept(void *context, const uint64_t *eptp)
{
    struct partition_vcpu *v = context;

    for (struct nested_space *s = v->nested->spaces; s < &v->nested->spaces[NESTED_SPACES]; s++)
        if (s->last_use != 0 && (eptp == NULL || ((s->eptp ^ *eptp) & EPTP_ADDRESS) == 0))
            vtlb_flush(&s->context, VTLB_FLUSH_ALL);
}

static void invalidate_vpid(void *context, uint16_t vpid, const uint64_t *address, bool keep_globals)
{
    struct partition_vcpu *v = context;

    (void)vpid, (void)address, (void)keep_globals; /* more than was asked for is always right */
    v->nested->vpid12 = 0;
}

static const struct nested_ops ops = {
    .load_control_state = load_control_state,
    .write_msr = write_msr,
    .read_msr = read_msr,
    .invalidate_ept = invalidate_ept,
    .invalidate_vpid = invalidate_vpid,
};

/* ---- Lv2's own queue of events ---------------------------------------------------------------------------
 */

/* Interrupts of the vCPU's local APIC are Lv2's only if Lv1 takes none. */
static bool takes_interrupts(const struct partition_vcpu *v)
{
    return !vmcs12_has_pin(&v->nested->nested.vmcs12, VMX_PIN_EXTERNAL_INTERRUPT_EXITING);
}

static int guest_interrupt_pending(void *context)
{
    struct partition_vcpu *v = context;

    return takes_interrupts(v) ? v->vcpu.interrupt_ops->pending(v) : -1;
}

static int guest_interrupt_take(void *context)
{
    struct partition_vcpu *v = context;

    return v->vcpu.interrupt_ops->take(v);
}

static uint8_t guest_tpr_threshold(void *context)
{
    struct partition_vcpu *v = context;
    const uint8_t own = takes_interrupts(v) ? v->vcpu.interrupt_ops->tpr_threshold(v) : 0;

    return nested_merge_tpr_threshold(&v->nested->nested, own);
}

static const struct vcpu_interrupt_ops interrupt_ops = {
    .pending = guest_interrupt_pending,
    .take = guest_interrupt_take,
    .tpr_threshold = guest_tpr_threshold,
};

/* ---- Set-up ----------------------------------------------------------------------------------------------
 */

const char *nested_guest_obstacle(const struct partition *partition)
{
    const struct vmx_capabilities *capabilities = &partition_machine()->capabilities;

    if (partition->paging != CONFIG_PAGING_EPT)
        return "nested: a guest hypervisor runs only with EPT (paging = ept)";
    if (!vmx_controls_available(capabilities, VMX_WORD_PIN, VMX_PIN_PREEMPTION_TIMER))
        return "nested: this processor has no VMX-preemption timer";
    if ((capabilities->ept_vpid & VMX_EPT_INVEPT_ALL) == 0)
        return "nested: this processor cannot invalidate all of EPT at once";
    if ((capabilities->misc >> VMX_MISC_CR3_TARGETS_SHIFT & VMX_MISC_CR3_TARGETS_MASK) < 4)
        return "nested: this processor has less than four CR3-target values";
    return NULL;
}

static void build_policy(const struct partition *partition, struct nested_policy *policy)
{
    const struct vmx_capabilities *hardware = &partition_machine()->capabilities;
    const struct cpuid_registers extended = cpuid_image_find(&partition->cpuid, 0x80000001, 0)->registers;
    const struct cpuid_registers seven = cpuid_image_find(&partition->cpuid, 7, 0)->registers;
    const struct cpuid_registers xsave = cpuid_image_find(&partition->cpuid, 0xd, 1)->registers;
    const struct nested_capabilities_settings settings = {
        .hardware = hardware,
        .ept = true,
        .execute_only = (hardware->ept_vpid & VMX_EPT_EXECUTE_ONLY) != 0,
        .unrestricted_guest = partition->unrestricted,
        .vpid = true,
        .rdtscp = (extended.edx & CPUID_EXT1_EDX_RDTSCP) != 0,
        .invpcid = (seven.ebx & CPUID_7_EBX_INVPCID) != 0,
        .xsaves = (xsave.eax & CPUID_D1_EAX_XSAVES) != 0,
        .cr4 = cpuid_image_cr4(&partition->cpuid),
    };

    nested_capabilities_derive(&policy->capabilities, &settings);
    policy->hardware = hardware;
    policy->registers = &partition->policies[VCPU_REGIME_EPT];
    policy->physical_bits = partition->physical_bits;
    policy->linear_bits = 48;
    policy->rtm = (seven.ebx & CPUID_7_EBX_RTM) != 0;
}

int nested_guest_build(struct partition_vcpu *v, struct nested_guest *g,
                       const struct nested_guest_memory *memory)
{
    const struct partition *partition = v->partition;
    const struct partition_machine *machine = partition_machine();
    const struct vcpu_settings settings = {
        .capabilities = &machine->capabilities,
        .controls[VCPU_REGIME_EPT] = &partition->controls[VCPU_REGIME_EPT],
        .policy[VCPU_REGIME_EPT] = &partition->policies[VCPU_REGIME_EPT],
        .msr_bitmap[VCPU_REGIME_EPT] = partition->apicv.msr_bitmap[VCPU_REGIME_EPT],
        .regime = VCPU_REGIME_EPT,
        .root = paging_first_root(v),
        .interrupt_ops = &interrupt_ops,
        .interrupt_context = v,
        .vmcs = memory->vmcs,
        .virtual_apic = physmap_address(partition_vcpu_lapic(v)->page),
        .vpid = memory->vpid,
        .beside = &v->vcpu,
    };

    build_policy(partition, &g->policy);
    g->input = (struct nested_merge_input){.vpid = memory->vpid, .msr_bitmap = memory->msr_bitmap};
    memset(physmap_pointer(memory->msr_bitmap), 0xff, PAGE_SIZE);
    walk_ept_init(&g->walk, &v->view_chain);
    g->ept_view = (struct stage_chain){.stages = {&g->walk.stage, &v->view.stage}, .count = 2};
    if (vtlb_init(&g->vtlb, memory->quota, memory->pages, memory->tables, &machine->vtlb_hardware,
                  VTLB_CACHED) != 0)
        return -ENOMEM;
    for (unsigned i = 0; i < NESTED_SPACES; i++)
        if (vtlb_context_init(&g->spaces[i].context, &g->vtlb, &g->ept_view, &paging_ept) != 0)
            return -ENOMEM;
    g->nested.policy = &g->policy;
    g->nested.ops = &ops;
    g->nested.context = v;
    g->nested.memory = &v->view_chain;
    g->nested.vcpu01 = &v->vcpu;
    if (vcpu_init(&g->nested.vcpu02, &settings) != 0)
        return -EIO;
    vcpu_unload(&g->nested.vcpu02);
    v->nested = g;
    nested_guest_reset(v);
    return 0;
}

void nested_guest_reset(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;

    nested_reset(&g->nested);
    vcpu_events_reset(&g->nested.vcpu02);
    for (unsigned i = 0; i < NESTED_SPACES; i++) {
        vtlb_flush(&g->spaces[i].context, VTLB_FLUSH_P2M);
        g->spaces[i].last_use = 0;
    }
    g->timer = VDEV_NEVER;
    g->init_pending = g->hurry = g->halted = false;
    nested_guest_moved(v);
    g->entries = g->kept = 0;
}

void nested_guest_forget_memory(struct partition_vcpu *v)
{
    invalidate_ept(v, NULL);
}

bool nested_guest_read_msr(const struct partition_vcpu *v, uint32_t msr, uint64_t *value)
{
    return nested_capabilities_read_msr(&v->nested->policy.capabilities, msr, value);
}

bool nested_guest_allows_cr0(const struct partition_vcpu *v, uint64_t cr0)
{
    return v->nested->nested.mode == NESTED_OFF ||
           nested_capabilities_cr0_valid(&v->nested->policy.capabilities, cr0);
}

bool nested_guest_allows_cr4(const struct partition_vcpu *v, uint64_t cr4)
{
    return v->nested->nested.mode == NESTED_OFF ||
           nested_capabilities_cr4_valid(&v->nested->policy.capabilities, cr4);
}

/* ---- Memory of Lv2 ---------------------------------------------------------------------------------------
 */

/* The space of `eptp`: there already, or else the one that was used least recently, emptied. */
static struct nested_space *find_space(struct nested_guest *g, uint64_t eptp)
{
    struct nested_space *oldest = g->spaces;

    for (struct nested_space *s = g->spaces; s < &g->spaces[NESTED_SPACES]; s++) {
        if (s->last_use != 0 && s->eptp == eptp)
            return s;
        if (s->last_use < oldest->last_use)
            oldest = s;
    }
    vtlb_flush(&oldest->context, VTLB_FLUSH_RECLAIM);
    oldest->eptp = eptp;
    return oldest;
}

/* Chooses what Lv2's addresses are translated by. An EPTP that an entry refuses is left to its checks. */
static void choose_memory(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    const struct vmcs12 *vmcs12 = &g->nested.vmcs12;
    const uint64_t eptp = vmcs12_read(vmcs12, VMCS_EPT_POINTER);
    const struct walk_ept_features features = {
        .capabilities = g->policy.capabilities.offered.ept_vpid,
        .physical_bits = g->policy.physical_bits,
    };

    g->context = &v->ept;
    if (vmcs12_has_secondary(vmcs12, VMX_SECONDARY_EPT) && walk_ept_set(&g->walk, eptp, &features) == 0) {
        struct nested_space *space = find_space(g, eptp);
        space->last_use = g->entries + 1;
        g->context = &space->context;
    }
    g->input.root = vtlb_root(g->context);
}

/* What the processor has cached by Lv2's tables must not outlive them. */
static void flush_stale(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;

    if (likely(vtlb_generation(&g->vtlb) == g->vtlb_seen))
        return;
    g->vtlb_seen = vtlb_generation(&g->vtlb);
    if (!vmx_invept(INVEPT_ALL, 0))
        panic("INVEPT failed");
}

/* ---- Entry and exit --------------------------------------------------------------------------------------
 */

/* Lv1 gets `information`; what came of its first step is `cause`. Its VMCS is current. */
static void load_lv1(struct partition_vcpu *v, const struct nested_exit_information *information,
                     enum nested_abort cause)
{
    const enum nested_abort second = nested_exit_load(&v->nested->nested, information);
    const enum nested_abort first = cause != NESTED_ABORT_NONE ? cause : second;

    v->nested->timer = VDEV_NEVER;
    v->nested->halted = false;
    v->wait = VCPU_WAIT_NOT;
    vcpu_flush_linear(&v->vcpu);
    vcpu_events_changed(&v->vcpu);
    if (first != NESTED_ABORT_NONE)
        partition_crash(v, "VMX abort: %s", nested_abort_name(first));
}

/* Ticks of the TSC in one of the timer's are 1 << this. */
static unsigned timer_shift(const struct nested_guest *g)
{
    return (unsigned)(g->policy.capabilities.offered.misc & VMX_MISC_TIMER_SHIFT);
}

static void start_timer(struct nested_guest *g)
{
    const uint64_t value = vmcs12_read(&g->nested.vmcs12, VMCS_PREEMPTION_TIMER_VALUE);

    g->timer = vmcs12_has_pin(&g->nested.vmcs12, VMX_PIN_PREEMPTION_TIMER)
                   ? cpu_rdtsc() + (value << timer_shift(g))
                   : VDEV_NEVER;
}

static uint32_t timer_left(const struct nested_guest *g)
{
    const uint64_t now = cpu_rdtsc();

    return g->timer == VDEV_NEVER || g->timer <= now ? 0 : (uint32_t)((g->timer - now) >> timer_shift(g));
}

void nested_guest_enter(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    struct nested_vcpu *n = &g->nested;
    struct nested_entry_failure failure;

    choose_memory(v);
    const enum nested_entry_result result = nested_enter(n, &g->input, &failure);
    if (result == NESTED_ENTRY_VMFAIL) {
        vcpu_skip_instruction(&v->vcpu);
        return;
    }
    if (result == NESTED_ENTRY_FAILED) {
        struct nested_exit_information information = {.reason = failure.reason,
                                                      .qualification = failure.qualification};
        const enum nested_abort cause = nested_exit_save(n, &information);
        load_lv1(v, &information, cause);
        return;
    }
    const uint16_t vpid12 = vmcs12_has_secondary(&n->vmcs12, VMX_SECONDARY_VPID)
                                ? (uint16_t)vmcs12_read(&n->vmcs12, VMCS_VPID)
                                : 0;
    if (vpid12 == 0 || vpid12 != g->vpid12)
        vcpu_flush_linear(&n->vcpu02);
    g->vpid12 = vpid12;
    g->entries++;
    start_timer(g);
    /* An event that a reset of the partition overtook may still stand there. */
    vcpu_write(&n->vcpu02, VMCS_ENTRY_INTERRUPTION_INFO, 0);
    vcpu_events_changed(&n->vcpu02);
    /* What is there for Lv1 already ends this run before it begins, or after the entry's own event. */
    vcpu_events_changed(&v->vcpu);
    if (result == NESTED_ENTERED_INACTIVE) {
        g->halted = vmcs12_read(&n->vmcs12, VMCS_GUEST_ACTIVITY) == ACTIVITY_HLT;
        v->wait = g->halted ? VCPU_WAIT_HALTED : VCPU_WAIT_SIPI;
        run_interrupt_slice();
    }
}

void nested_guest_executed(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;

    if (g->nested.mode != NESTED_OFF || !g->init_pending)
        return;
    g->init_pending = false;
    partition_vcpu_take_init(v);
}

void nested_guest_leave(struct partition_vcpu *v, struct nested_exit_information *information)
{
    struct nested_guest *g = v->nested;
    enum nested_abort cause;

    information->activity = g->halted ? ACTIVITY_HLT : v->wait == VCPU_WAIT_SIPI ? ACTIVITY_WAIT_FOR_SIPI : 0;
    information->preemption_timer = timer_left(g);
    cause = nested_exit_save(&g->nested, information);
    vcpu_switch(&g->nested.vcpu02);
    load_lv1(v, information, cause);
}

/* ---- Running ---------------------------------------------------------------------------------------------
 */

void nested_guest_resume(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;

    vcpu_switch(&v->vcpu);
    nested_merge_tsc_offset(&g->nested);
    vcpu_flush_linear(&g->nested.vcpu02);
}

static void leave_for(struct partition_vcpu *v, uint32_t reason, uint32_t interruption)
{
    struct nested_exit_information information = {.reason = reason, .interruption = interruption};

    nested_guest_leave(v, &information);
}

/* What Lv1 would get now, in the order of the processor's priorities. True: it got it. */
static bool deliver_to_lv1(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    const struct vmcs12 *vmcs12 = &g->nested.vmcs12;

    if (g->init_pending) {
        g->init_pending = false;
        leave_for(v, EXIT_REASON_INIT, 0);
        return true;
    }
    if (v->wait == VCPU_WAIT_SIPI)
        return false; /* all else is blocked */
    if (cpu_rdtsc() >= g->timer) {
        leave_for(v, EXIT_REASON_PREEMPTION_TIMER, 0);
        return true;
    }
    if (v->vcpu.nmi_pending && vmcs12_has_pin(vmcs12, VMX_PIN_NMI_EXITING)) {
        v->vcpu.nmi_pending = false;
        leave_for(v, EXIT_REASON_EXCEPTION_OR_NMI, EVENT_NMI);
        return true;
    }
    if (!takes_interrupts(v) && v->vcpu.interrupt_ops->pending(v) >= 0) {
        uint32_t interruption = 0;

        if (vmcs12_has_exit(vmcs12, VMX_EXIT_ACKNOWLEDGE_INTERRUPT)) {
            const int vector = v->vcpu.interrupt_ops->take(v);
            if (vector < 0)
                return false;
            interruption = EVENT_EXTERNAL(vector);
        }
        leave_for(v, EXIT_REASON_EXTERNAL_INTERRUPT, interruption);
        return true;
    }
    return false;
}

bool nested_guest_events(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    struct vcpu *lv2 = &g->nested.vcpu02;

    v->vcpu.events_changed = false;
    /* The event of a logical entry is delivered before anything else may come: then Umbra looks again. */
    if (lv2->injection != 0) {
        v->vcpu.events_changed = true;
        g->hurry = true;
        return false;
    }
    if (deliver_to_lv1(v))
        return true;
    if (v->vcpu.nmi_pending) { /* Lv1 lets NMIs through */
        v->vcpu.nmi_pending = false;
        vcpu_queue_nmi(lv2);
    }
    g->halted = false; /* Lv2 goes on */
    vcpu_events_changed(lv2);
    return false;
}

bool nested_guest_would_wake(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    bool wakes = g->init_pending || cpu_rdtsc() >= g->timer || v->vcpu.nmi_pending ||
                 (!takes_interrupts(v) && v->vcpu.interrupt_ops->pending(v) >= 0);

    if (!wakes) {
        vcpu_load(&g->nested.vcpu02);
        wakes = vcpu_events_would_wake(&g->nested.vcpu02);
    }
    if (wakes)
        vcpu_events_changed(&v->vcpu); /* whose it is decides before Lv2 goes on */
    return wakes;
}

uint64_t nested_guest_run(struct partition_vcpu *v, uint64_t timer)
{
    struct nested_guest *g = v->nested;
    struct vcpu *lv2 = &g->nested.vcpu02;

    flush_stale(v);
    vcpu_events_before_entry(lv2);
    enum vcpu_run_result result = vcpu_run(lv2, g->hurry ? 0 : timer);
    const uint64_t exited = cpu_rdtsc();

    g->hurry = false;
    trace_add(&v->trace, exited, (uint32_t)vcpu_fetched(lv2, VMCS_EXIT_REASON),
              vcpu_fetched(lv2, VMCS_GUEST_RIP), lv2->registers[VCPU_RAX]);
    if (result != VCPU_RAN) {
        partition_crash(v, "VM entry of a guest hypervisor's guest failed: %s",
                        vmx_instruction_error_text((unsigned)vcpu_read(lv2, VMCS_VM_INSTRUCTION_ERROR)));
        return exited;
    }
    vcpu_events_after_exit(lv2);
    nested_guest_handle_exit(v);
    if (exited >= g->timer)
        vcpu_events_changed(&v->vcpu);
    return exited;
}

bool nested_guest_takes_init(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;

    if (g->nested.mode == NESTED_OFF)
        return false;
    g->init_pending = true;
    vcpu_events_changed(&v->vcpu);
    return true;
}

bool nested_guest_takes_startup(struct partition_vcpu *v, uint8_t vector)
{
    struct nested_exit_information information = {.reason = EXIT_REASON_SIPI, .qualification = vector};

    if (!nested_guest_runs(v))
        return v->nested->nested.mode != NESTED_OFF;
    if (v->wait == VCPU_WAIT_SIPI) {
        vcpu_load(&v->nested->nested.vcpu02);
        nested_guest_leave(v, &information);
    }
    return true;
}
