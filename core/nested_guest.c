// SPDX-License-Identifier: BSD-2-Clause
#include "core/nested_guest.h"

#include "arch/x86/cpuid.h"
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "arch/x86/trap.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/paging.h"
#include "core/run.h"
#include "lib/errors.h"
#include "lib/string.h"
#include "mm/physmap.h"
#include "nested/entry.h"
#include "nested/instructions.h"
#include "nested/shadow.h"
#include "vmx/events.h"

/* Bit 31 of a revision identifier: a shadow VMCS (SDM vol. 3, "Format of the VMCS Region"). */
#define VMCS_SHADOW            BIT(31)

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
    /* Without VPIDs an exit flushes (SDM vol. 3, "Operations that Invalidate TLBs and Paging-Structure
     * Caches").
     */
    const bool flushes = !vmcs12_has_secondary(&v->nested->nested.vmcs12, VMX_SECONDARY_VPID);

    return paging_write_control(v, state, (flushes ? CR_EFFECT_FLUSH : 0) | pdptes);
}

bool nested_guest_write_msr(struct partition_vcpu *v, uint32_t index, uint64_t value)
{
    const struct msr_policy_row *row = policy_msr_find(index);
    struct vcpu *vcpu = v->level->vcpu;
    struct vmcs_field field;

    if (policy_msr_on_write(row, v->partition->msr_features, vcpu->regime) != POLICY_THROUGH ||
        row->handler != MSR_HANDLER_NONE)
        return exit_write_msr(v, index, value);
    if (index == MSR_IA32_SPEC_CTRL)
        return vcpu_state_write_spec_ctrl(vcpu->state, value);
    if (!nested_msr_field(index, &field))
        return trap_wrmsr_safe(index, value);
    if (index != MSR_IA32_SYSENTER_CS && !linear_is_canonical(v, value))
        return false;
    vcpu_write(vcpu, field, index == MSR_IA32_SYSENTER_CS ? (uint32_t)value : value);
    return true;
}

bool nested_guest_read_msr(struct partition_vcpu *v, uint32_t index, uint64_t *value)
{
    const struct msr_policy_row *row = policy_msr_find(index);
    struct vcpu *vcpu = v->level->vcpu;
    struct vmcs_field field;

    if (policy_msr_on_read(row, v->partition->msr_features, vcpu->regime) != POLICY_THROUGH ||
        row->handler != MSR_HANDLER_NONE)
        return exit_read_msr(v, index, value);
    if (index == MSR_IA32_SPEC_CTRL)
        return vcpu_state_read_spec_ctrl(vcpu->state, value);
    if (!nested_msr_field(index, &field))
        return trap_rdmsr_safe(index, value);
    *value = vcpu_read(vcpu, field);
    return true;
}

static bool write_msr(void *context, uint32_t index, uint64_t value)
{
    return nested_guest_write_msr(context, index, value);
}

static bool read_msr(void *context, uint32_t index, uint64_t *value)
{
    return nested_guest_read_msr(context, index, value);
}

static void invalidate_ept(void *context, const uint64_t *eptp)
{
    struct partition_vcpu *v = context;

    nested_memory_invalidate_ept(&v->nested->memory, eptp);
}

static void invalidate_vpid(void *context, uint16_t vpid, const uint64_t *address, bool keep_globals)
{
    struct partition_vcpu *v = context;

    nested_memory_invalidate_vpid(&v->nested->memory, vpid, address, keep_globals);
    v->nested->shadow_vpid = 0;
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

/* Whether an interrupt waits for Lv1, which may have been acknowledged already when Lv2 was entered. */
static bool has_interrupt(const struct partition_vcpu *v)
{
    return !takes_interrupts(v) && (v->vcpu.deferred_interrupt >= 0 ||
                                    v->vcpu.interrupt_ops->pending(v->vcpu.interrupt_context) >= 0);
}

/* Its vector, acknowledged; -1: it has gone. */
static int take_interrupt(struct partition_vcpu *v)
{
    const int deferred = v->vcpu.deferred_interrupt;

    v->vcpu.deferred_interrupt = -1;
    return deferred >= 0 ? deferred : v->vcpu.interrupt_ops->take(v->vcpu.interrupt_context);
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

    if (partition->paging == CONFIG_PAGING_EPT && (capabilities->ept_vpid & VMX_EPT_INVEPT_ALL) == 0)
        return "nested: this processor cannot invalidate all of EPT at once";
    if ((capabilities->misc >> VMX_MISC_CR3_TARGETS_SHIFT & VMX_MISC_CR3_TARGETS_MASK) < 4)
        return "nested: this processor has less than four CR3-target values";
    return NULL;
}

/* Of Lv2, whose paging is always on where its hypervisor does not have unrestricted guest. */
static enum vcpu_regime lv2_regime(const struct partition *partition)
{
    return partition->paging == CONFIG_PAGING_EPT ? VCPU_REGIME_EPT : VCPU_REGIME_SHADOW;
}

static void build_policy(const struct partition *partition, struct nested_policy *policy)
{
    const struct vmx_capabilities *hardware = &partition_machine()->capabilities;
    const bool shadow = lv2_regime(partition) == VCPU_REGIME_SHADOW;
    const struct cpuid_registers extended = cpuid_image_find(&partition->cpuid, 0x80000001, 0)->registers;
    const struct cpuid_registers seven = cpuid_image_find(&partition->cpuid, 7, 0)->registers;
    const struct cpuid_registers xsave = cpuid_image_find(&partition->cpuid, 0xd, 1)->registers;
    const struct nested_capabilities_settings settings = {
        .hardware = hardware,
        .ept = true,
        .execute_only = !shadow && (hardware->ept_vpid & VMX_EPT_EXECUTE_ONLY) != 0,
        .unrestricted_guest = !shadow && partition->unrestricted, /* Lv2 stays in one regime */
        .vpid = true,
        .rdtscp = (extended.edx & CPUID_EXT1_EDX_RDTSCP) != 0,
        .invpcid = (seven.ebx & CPUID_7_EBX_INVPCID) != 0,
        .xsaves = (xsave.eax & CPUID_D1_EAX_XSAVES) != 0,
        .cr4 = cpuid_image_cr4(&partition->cpuid),
    };

    nested_capabilities_derive(&policy->capabilities, &settings);
    policy->hardware = hardware;
    policy->registers = &partition->policies[lv2_regime(partition)];
    policy->physical_bits = partition->physical_bits;
    policy->linear_bits = 48;
    policy->rtm = (seven.ebx & CPUID_7_EBX_RTM) != 0;
}

/* False: VMX refuses the shadow VMCS. */
static bool build_shadow(struct nested_guest *g, struct partition_vcpu *v, const struct vcpu_shadow *shadow)
{
    uint32_t *region = physmap_pointer(shadow->vmcs);

    memset(region, 0, PAGE_SIZE);
    region[0] = (uint32_t)(partition_machine()->capabilities.basic & VMX_BASIC_REVISION) | VMCS_SHADOW;
    nested_shadow_build(&g->policy.capabilities, physmap_pointer(shadow->vmread_bitmap),
                        physmap_pointer(shadow->vmwrite_bitmap));
    v->vcpu.shadow = *shadow;
    return vmx_clear(shadow->vmcs);
}

int nested_guest_build(struct partition_vcpu *v, struct nested_guest *g,
                       const struct nested_guest_memory *memory)
{
    const struct partition *partition = v->partition;
    const enum vcpu_regime regime = lv2_regime(partition);
    struct vcpu_settings settings = {
        .capabilities = &partition_machine()->capabilities,
        .regime = regime,
        .root = regime == VCPU_REGIME_EPT ? paging_first_root(v) : HPA(0),
        .interrupt_ops = &interrupt_ops,
        .interrupt_context = v,
        .vmcs = memory->vmcs,
        .virtual_apic = physmap_address(partition_vcpu_lapic(v)->page),
        .vpid = memory->vpid,
        .beside = &v->vcpu,
    };

    settings.controls[regime] = &partition->controls[regime];
    settings.policy[regime] = &partition->policies[regime];
    settings.msr_bitmap[regime] = partition->apicv.msr_bitmap[regime];
    build_policy(partition, &g->policy);
    g->input = (struct nested_merge_input){
        .vpid = memory->vpid, .msr_bitmap = memory->msr_bitmap, .pdptes = g->level.walk.registers.pdpte};
    memset(physmap_pointer(memory->msr_bitmap), 0xff, PAGE_SIZE);
    if (nested_memory_init(&g->memory, v, &g->nested, memory->quota, memory->pages, memory->tables) != 0)
        return -ENOMEM;
    g->nested.policy = &g->policy;
    g->nested.ops = &ops;
    g->nested.context = v;
    g->nested.memory = &v->view_chain;
    g->nested.vcpu01 = &v->vcpu;
    if (vcpu_init(&g->nested.vcpu02, &settings) != 0)
        return -EIO;
    vcpu_unload(&g->nested.vcpu02);
    paging_init_level(v, &g->level, &g->nested.vcpu02, &g->memory.vtlb);
    g->level.ops = &nested_guest_level_ops;
    if (memory->shadow.vmcs.value != 0 && !build_shadow(g, v, &memory->shadow))
        return -EIO;
    v->nested = g;
    nested_guest_reset(v);
    return 0;
}

void nested_guest_reset(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;

    nested_reset(&g->nested);
    partition_vcpu_set_level(v, &v->lv1);
    g->level.stepping = false;
    g->shadow_vpid = 0;
    vcpu_events_reset(&g->nested.vcpu02);
    nested_memory_reset(&g->memory);
    g->timer = VDEV_NEVER;
    g->init_pending = g->hurry = g->halted = false;
    g->entries = 0;
    g->statistics = (struct nested_statistics){0};
}

bool nested_guest_read_capability(const struct partition_vcpu *v, uint32_t msr, uint64_t *value)
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

/* ---- Entry and exit --------------------------------------------------------------------------------------
 */

/* Lv2's addresses are translated as the entry has chosen, and it is what exits concern. */
static void enter_level(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    const struct vmcs12 *vmcs12 = &g->nested.vmcs12;
    const uint16_t vpid =
        vmcs12_has_secondary(vmcs12, VMX_SECONDARY_VPID) ? (uint16_t)vmcs12_read(vmcs12, VMCS_VPID) : 0;

    partition_vcpu_set_level(v, &g->level);
    paging_set_memory(v, &g->level, nested_memory_has_ept(&g->memory) ? &g->memory.walk : NULL,
                      nested_memory_behind(&g->memory));
    g->level.ept = g->level.context = g->memory.context;
    if (g->nested.vcpu02.regime != VCPU_REGIME_SHADOW)
        return;
    g->level.vtlb_seen = 0; /* the processor may have others by this VPID of its own */
    paging_enter_level(v, vpid == 0 || vpid != g->shadow_vpid ? VTLB_SCOPE_ALL : VTLB_SCOPE_NONE);
    g->shadow_vpid = vpid;
}

/* Lv1 gets `information`; what came of its first step is `cause`. Its VMCS is current. */
static void load_lv1(struct partition_vcpu *v, const struct nested_exit_information *information,
                     enum nested_abort cause)
{
    enum nested_abort second;

    partition_vcpu_set_level(v, &v->lv1);
    second = nested_exit_load(&v->nested->nested, information);
    v->nested->timer = VDEV_NEVER;
    v->nested->halted = false;
    v->wait = VCPU_WAIT_NOT;
    vcpu_events_changed(&v->vcpu);
    if (cause == NESTED_ABORT_NONE)
        cause = second;
    if (cause != NESTED_ABORT_NONE)
        partition_crash(v, "VMX abort: %s", nested_abort_name(cause));
}

/* Ticks of the TSC in one of the timer's are 1 << this. */
static unsigned timer_shift(const struct nested_guest *g)
{
    return (unsigned)(g->policy.capabilities.offered.misc & VMX_MISC_TIMER_SHIFT);
}

static void start_timer(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    const uint64_t value = vmcs12_read(&g->nested.vmcs12, VMCS_PREEMPTION_TIMER_VALUE);

    g->timer = vmcs12_has_pin(&g->nested.vmcs12, VMX_PIN_PREEMPTION_TIMER)
                   ? cpu_rdtsc() + (value << timer_shift(g))
                   : VDEV_NEVER;
    g->timer_offset = v->partition->tsc_offset;
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

    nested_memory_choose(&g->memory, &g->input);
    const enum nested_entry_result result = nested_enter(n, &g->input, &failure);
    if (failure.row != NULL)
        g->statistics.by_check[nested_check_number(failure.row)]++;
    if (result == NESTED_ENTRY_VMFAIL) {
        g->statistics.refused++;
        vcpu_skip_instruction(&v->vcpu);
        return;
    }
    if (result == NESTED_ENTRY_FAILED) {
        g->statistics.failed++;
        struct nested_exit_information information = {.reason = failure.reason,
                                                      .qualification = failure.qualification};
        const enum nested_abort cause = nested_exit_save(n, &information);
        load_lv1(v, &information, cause);
        return;
    }
    enter_level(v);
    g->entries++;
    start_timer(v);
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

    g->statistics.left++;
    information->activity = g->halted ? ACTIVITY_HLT : v->wait == VCPU_WAIT_SIPI ? ACTIVITY_WAIT_FOR_SIPI : 0;
    information->preemption_timer = timer_left(g);
    if (unlikely(g->level.stepping))
        paging_end_step(&g->level);
    if (g->nested.vcpu02.regime == VCPU_REGIME_SHADOW)
        information->pdptes = g->level.walk.registers.pdpte;
    cause = nested_exit_save(&g->nested, information);
    vcpu_switch(&g->nested.vcpu02);
    load_lv1(v, information, cause);
}

/* ---- Running ---------------------------------------------------------------------------------------------
 */

void nested_guest_resume(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;

    /* While the partition was paused its time stood still, and so did this timer. */
    if (g->timer != VDEV_NEVER)
        g->timer += g->timer_offset - v->partition->tsc_offset;
    g->timer_offset = v->partition->tsc_offset;
    vcpu_switch(&v->vcpu);
    nested_merge_tsc_offset(&g->nested);
    vcpu_flush_linear(&g->nested.vcpu02);
    g->level.vtlb_seen = 0;
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
    if (has_interrupt(v)) {
        uint32_t interruption = 0;

        if (vmcs12_has_exit(vmcs12, VMX_EXIT_ACKNOWLEDGE_INTERRUPT)) {
            const int vector = take_interrupt(v);
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
    if (v->vcpu.deferred_interrupt >= 0 && lv2->deferred_interrupt < 0) { /* and interrupts */
        lv2->deferred_interrupt = v->vcpu.deferred_interrupt;
        v->vcpu.deferred_interrupt = -1;
    }
    g->halted = false; /* Lv2 goes on */
    vcpu_events_changed(lv2);
    return false;
}

bool nested_guest_would_wake(struct partition_vcpu *v)
{
    struct nested_guest *g = v->nested;
    bool wakes = g->init_pending || cpu_rdtsc() >= g->timer || v->vcpu.nmi_pending || has_interrupt(v) ||
                 v->vcpu.deferred_interrupt >= 0;

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

    vcpu_events_before_entry(lv2);
    if (unlikely(g->level.stepping) && lv2->injection != 0)
        paging_end_step(&g->level); /* the event comes first */
    if (likely(lv2->regime == VCPU_REGIME_EPT))
        nested_memory_before_run(&g->memory);
    else if (vtlb_generation(g->level.vtlb) != g->level.vtlb_seen)
        paging_flush_hardware(&g->level);
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
