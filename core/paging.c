// SPDX-License-Identifier: BSD-2-Clause
#include "core/paging.h"

#include "arch/x86/cpu.h"
#include "arch/x86/paging_ept.h"
#include "arch/x86/paging_x86.h"
#include "arch/x86/registers.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "vmx/events.h"

#define QUOTA_UNPAGED           128 /* with EPT that needs paging: for the while that the guest has none */
#define QUOTA_MIN               512
#define QUOTA_MAX               4096
#define QUOTA_FRACTION          64 /* of the partition's memory */

/*
 * A role is all that changes what entries mean, but the format: these bits, which stand at different places
 * of CR4, CR0 and IA32_EFER. The second set matters only to pages that CR0.WP = 0 makes the supervisor's.
 */
#define ROLE_CR4                (X86_CR4_PSE | X86_CR4_PGE | X86_CR4_PKE)
#define ROLE_CR4_NO_WP          (X86_CR4_SMEP | X86_CR4_SMAP)
#define ROLE_CR0                X86_CR0_WP
#define ROLE_EFER               X86_EFER_NXE
/* And of EPT that the guest's tables are read through, by a bit of none of those. */
#define ROLE_EPT_ACCESSED_DIRTY 1u
_Static_assert(((ROLE_CR4 | ROLE_CR4_NO_WP) & (ROLE_CR0 | ROLE_EFER)) == 0 && (ROLE_CR0 & ROLE_EFER) == 0,
               "a bit for each");

/* ---- Set-up ----------------------------------------------------------------------------------------------
 */

int paging_choose(struct partition *partition, const char **why)
{
    const struct vmx_capabilities *capabilities = &partition_machine()->capabilities;
    const bool has_ept = vmx_capabilities_have_ept(capabilities);
    const bool unrestricted = has_ept && vmx_capabilities_have_unrestricted_guest(capabilities);

    partition->paging = partition->config->paging;
    if (partition->paging == CONFIG_PAGING_AUTO)
        partition->paging = has_ept ? CONFIG_PAGING_EPT : CONFIG_PAGING_VTLB;
    if (partition->paging == CONFIG_PAGING_EPT && !has_ept) {
        *why = "paging = ept: this processor has no EPT";
        return -EOPNOTSUPP;
    }
    if (partition->vcpu_count > 1 && !unrestricted) {
        *why =
            "vcpus: further processors start in real mode, which this one cannot run (it lacks unrestricted "
            "guest)";
        return -EOPNOTSUPP;
    }
    partition->unrestricted = unrestricted;
    partition->regimes[VCPU_REGIME_EPT] = partition->paging == CONFIG_PAGING_EPT || unrestricted;
    partition->regimes[VCPU_REGIME_SHADOW] = partition->paging != CONFIG_PAGING_EPT || !unrestricted;
    return 0;
}

uint32_t paging_quota_shadow(const struct partition *partition)
{
    const uint64_t share = partition->memory / PAGE_SIZE / QUOTA_FRACTION / partition->vcpu_count;

    return (uint32_t)min_u64(max_u64(share, QUOTA_MIN), QUOTA_MAX);
}

uint32_t paging_quota(const struct partition *partition)
{
    if (!partition->regimes[VCPU_REGIME_SHADOW])
        return PARTITION_VTLB_PAGES;
    if (partition->paging == CONFIG_PAGING_EPT)
        return QUOTA_UNPAGED;
    return paging_quota_shadow(partition);
}

void paging_set_memory(struct partition_vcpu *v, struct partition_level *level, const struct walk_ept *ept,
                       uint64_t behind)
{
    const struct stage *const p2m = &v->partition->p2m.stage, *const walk = &level->walk.stage;
    const bool accessed_dirty = ept != NULL && ept->accessed_dirty;

    level->behind = behind;
    level->role = accessed_dirty ? ROLE_EPT_ACCESSED_DIRTY : 0;
    level->walk.table_access = accessed_dirty ? PAGING_READ | PAGING_WRITE : PAGING_READ;
    if (ept == NULL) {
        level->memory = (struct stage_chain){.stages = {p2m}, .count = 1};
        level->linear = (struct stage_chain){.stages = {walk, p2m}, .count = 2};
        level->linear_view = (struct stage_chain){.stages = {walk, &v->view.stage}, .count = 2};
    } else {
        level->memory = (struct stage_chain){.stages = {&ept->stage, p2m}, .count = 2};
        level->linear = (struct stage_chain){.stages = {walk, &ept->stage, p2m}, .count = 3};
        level->linear_view = (struct stage_chain){.stages = {walk, &ept->stage, &v->view.stage}, .count = 3};
    }
}

void paging_init_level(struct partition_vcpu *v, struct partition_level *level, struct vcpu *vcpu,
                       struct vtlb *vtlb)
{
    level->vcpu = vcpu;
    level->vtlb = vtlb;
    walk_x86_init(&level->walk, &level->memory);
    paging_set_memory(v, level, NULL, 0);
}

int paging_init(struct partition_vcpu *v, hpa_t quota, struct vtlb_table *tables)
{
    const struct partition *partition = v->partition;
    const enum vtlb_mode mode = partition->paging == CONFIG_PAGING_VTLB_BASE ? VTLB_BASE : VTLB_CACHED;
    int error = vtlb_init(&v->vtlb, quota, v->vtlb_pages, tables, &partition_machine()->vtlb_hardware, mode);

    overlay_init(&v->view, &partition->p2m.stage);
    v->view_chain = (struct stage_chain){.stages = {&v->view.stage}, .count = 1};
    paging_init_level(v, &v->lv1, &v->vcpu, &v->vtlb);
    partition_vcpu_set_level(v, &v->lv1);
    if (error == 0 && partition->regimes[VCPU_REGIME_EPT])
        error = vtlb_context_init(&v->ept, &v->vtlb, &v->view_chain, &paging_ept);
    v->lv1.ept = v->lv1.context = partition->regimes[VCPU_REGIME_EPT] ? &v->ept : NULL;
    return error == 0 ? 0 : -ENOMEM;
}

enum vcpu_regime paging_first_regime(const struct partition *partition)
{
    return partition->regimes[VCPU_REGIME_EPT] ? VCPU_REGIME_EPT : VCPU_REGIME_SHADOW;
}

hpa_t paging_first_root(const struct partition_vcpu *v)
{
    return v->lv1.ept != NULL ? vtlb_root(v->lv1.ept) : HPA(0);
}

/* ---- The hardware's own TLB ------------------------------------------------------------------------------
 */

void paging_flush_hardware(struct partition_level *level)
{
    level->vtlb_seen = vtlb_generation(level->vtlb);
    if (level->vcpu->regime == VCPU_REGIME_SHADOW)
        vcpu_flush_linear(level->vcpu);
    else if (!vmx_invept(INVEPT_CONTEXT, vcpu_read(level->vcpu, VMCS_EPT_POINTER)) &&
             !vmx_invept(INVEPT_ALL, 0))
        panic("INVEPT failed");
}

/* The processor is about to use other tables, or its own TLB may be behind these. */
static void distrust_hardware(struct partition_level *level)
{
    level->vtlb_seen = 0;
}

/* ---- Registers -------------------------------------------------------------------------------------------
 */

/* The guest's PKRU, which stays loaded; it can be read only with CR4.PKE = 1, which Umbra has no use for
 * itself. */
static uint32_t read_pkru(void)
{
    const uint64_t cr4 = cpu_read_cr4();

    cpu_write_cr4(cr4 | X86_CR4_PKE);
    const uint32_t value = cpu_rdpkru();
    cpu_write_cr4(cr4);
    return value;
}

void paging_read_control(struct partition_vcpu *v, struct cr_state *state)
{
    if (unlikely(v->level->ops != NULL))
        v->level->ops->read_control(v, state);
    else
        vcpu_read_control_state(v->level->vcpu, state);
}

static void write_control(struct partition_vcpu *v, const struct cr_state *state)
{
    if (unlikely(v->level->ops != NULL))
        v->level->ops->write_control(v, state);
    else
        vcpu_write_control_state(v->level->vcpu, state);
}

static struct walk_x86_registers registers_of(struct partition_vcpu *v, const struct cr_state *state)
{
    const struct partition_level *level = v->level;
    struct walk_x86_registers registers = {
        .cr0 = state->cr0,
        .cr3 = state->cr3,
        .cr4 = state->cr4,
        .efer = state->efer,
        .pat = vcpu_read_pat(level->vcpu),
        .pkru = (state->cr4 & X86_CR4_PKE) != 0 ? read_pkru() : 0,
        .physical_bits = v->partition->physical_bits,
        .gigabyte_pages = v->partition->gigabyte_pages,
    };

    if (level->vcpu->regime == VCPU_REGIME_SHADOW)
        memcpy(registers.pdpte, level->walk.registers.pdpte, sizeof(registers.pdpte));
    else if (policy_cr_uses_pdptes(state))
        for (unsigned i = 0; i < ARRAY_SIZE(registers.pdpte); i++)
            registers.pdpte[i] = vcpu_read(level->vcpu, vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i));
    return registers;
}

struct walk_x86_registers paging_registers(struct partition_vcpu *v)
{
    struct cr_state state;

    paging_read_control(v, &state);
    return registers_of(v, &state);
}

void paging_update_walk(struct partition_vcpu *v)
{
    struct walk_x86_registers *known = &v->level->walk.registers;

    if (v->level->vcpu->regime != VCPU_REGIME_SHADOW) {
        const struct walk_x86_registers registers = paging_registers(v);

        walk_x86_set(&v->level->walk, &registers);
    } else if ((known->cr4 & X86_CR4_PKE) != 0) {
        known->pkru = read_pkru();
    }
}

/* The PDPTEs that a load of state->cr3 would load. False: they are bad. */
static bool read_pdptes(struct partition_vcpu *v, const struct cr_state *state, uint64_t pdpte[4])
{
    const struct walk_x86_registers registers = {
        .cr3 = state->cr3,
        .physical_bits = v->partition->physical_bits,
    };

    return walk_x86_load_pdptes(&v->level->memory, &registers, pdpte) == 0;
}

static void write_pdptes(struct partition_level *level, const uint64_t pdpte[4])
{
    for (unsigned i = 0; i < 4; i++) {
        if (level->vcpu->regime == VCPU_REGIME_SHADOW)
            level->walk.registers.pdpte[i] = pdpte[i];
        else
            vcpu_write(level->vcpu, vmcs_field_at(VMCS_INDEX_GUEST_PDPTE0 + i), pdpte[i]);
    }
}

/* ---- Contexts --------------------------------------------------------------------------------------------
 */

static uint16_t tag_of(uint64_t cr4, uint64_t cr3)
{
    return cr4 & X86_CR4_PCIDE ? cr3 & X86_CR3_PCID : 0;
}

uint16_t paging_tag(const struct partition_vcpu *v)
{
    return tag_of(v->level->walk.registers.cr4, v->level->walk.registers.cr3);
}

static uint32_t role_of(const struct walk_x86_registers *registers)
{
    const uint64_t cr4 = (registers->cr0 & X86_CR0_WP) != 0 ? ROLE_CR4 : ROLE_CR4 | ROLE_CR4_NO_WP;

    return (uint32_t)((registers->cr4 & cr4) | (registers->cr0 & ROLE_CR0) | (registers->efer & ROLE_EFER));
}

/* The target's format and the guest's root, by the guest's format (SDM vol. 3, tables "Use of CR3 with …").
 */
static struct vtlb_space space_of(const struct partition_level *level)
{
    const struct walk_x86_registers *registers = &level->walk.registers;
    const struct paging_format *source = level->walk.format;
    struct vtlb_space space = {
        .chain = &level->linear_view,
        .source = source,
        .target = source == NULL || source->levels < 4 ? &paging_x86_pae : source,
        .behind = level->behind,
    };

    if (source == NULL)
        return space;
    space.root = registers->cr3 & (source == &paging_x86_pae ? 0xffffffe0 : source->address);
    space.registers = source == &paging_x86_pae ? registers->pdpte : NULL;
    space.role = role_of(registers) | level->role;
    space.tag = tag_of(registers->cr4, registers->cr3);
    return space;
}

/* The context that the walker's registers choose becomes the processor's; with them the guest has invalidated
 * `flushed`. */
static void enter_context(struct partition_level *level, enum vtlb_scope flushed)
{
    const struct vtlb_space space = space_of(level);
    struct vtlb_context *context = vtlb_switch(level->vtlb, &space, flushed);
    const hpa_t root = vtlb_root(context);

    if (context != level->context || root.value != vcpu_read(level->vcpu, VMCS_GUEST_CR3))
        distrust_hardware(level);
    level->context = context;
    vcpu_set_root(level->vcpu, root);
}

/* The same for the registers `state`. */
static void select_context(struct partition_vcpu *v, const struct cr_state *state, enum vtlb_scope flushed)
{
    const struct walk_x86_registers registers = registers_of(v, state);

    if (registers.pat != v->level->walk.registers.pat)
        vtlb_drop(v->level->vtlb, VTLB_FLUSH_P2M); /* entries have the types that it gave */
    walk_x86_set(&v->level->walk, &registers);
    enter_context(v->level, flushed);
}

void paging_enter_level(struct partition_vcpu *v, enum vtlb_scope flushed)
{
    struct cr_state state;

    if (v->level->vcpu->regime != VCPU_REGIME_SHADOW)
        return;
    paging_read_control(v, &state);
    select_context(v, &state, flushed);
}

/* ---- Regimes ---------------------------------------------------------------------------------------------
 */

/* The regime of a guest with this CR0. False: the processor cannot run it. */
static bool choose_regime(const struct partition *partition, uint64_t cr0, enum vcpu_regime *regime)
{
    const bool ept =
        partition->paging == CONFIG_PAGING_EPT && (partition->unrestricted || (cr0 & X86_CR0_PG) != 0);
    const bool real = (cr0 & X86_CR0_PE) == 0;

    *regime = ept || real ? VCPU_REGIME_EPT : VCPU_REGIME_SHADOW;
    return !real || partition->unrestricted;
}

/*
 * What shadow tables hold is of no use after a while of EPT: nobody has seen what the guest invalidated. The
 * tags of the hardware's TLB stay the same, so it forgets all.
 */
static void enter_regime(struct partition_level *level, enum vcpu_regime regime)
{
    distrust_hardware(level);
    if (regime == VCPU_REGIME_SHADOW) {
        vtlb_drop(level->vtlb, VTLB_FLUSH_ROOT);
        level->context = NULL;
        vcpu_set_regime(level->vcpu, regime, HPA(0)); /* select_context follows */
    } else {
        level->context = level->ept;
        vcpu_set_regime(level->vcpu, regime, vtlb_root(level->ept));
    }
}

static void crash_in_real_mode(struct partition_vcpu *v)
{
    partition_crash(v, "real mode, which this processor cannot run (it lacks unrestricted guest)");
}

void paging_start(struct partition_vcpu *v, const struct vcpu_start *start)
{
    static const uint64_t cr0[] = {
        [VCPU_START_PROTECTED_32] = X86_CR0_PE,
        [VCPU_START_LONG_64] = X86_CR0_PE | X86_CR0_PG,
        [VCPU_START_REAL] = 0,
    };
    enum vcpu_regime regime;
    struct cr_state state;

    if (!choose_regime(v->partition, cr0[start->mode], &regime)) {
        crash_in_real_mode(v);
        return;
    }
    v->lv1.stepping = false;
    enter_regime(&v->lv1, regime);
    vcpu_start(&v->vcpu, start);
    if (regime == VCPU_REGIME_SHADOW) {
        vcpu_read_control_state(&v->vcpu, &state);
        select_context(v, &state, VTLB_SCOPE_NONE);
    }
}

bool paging_write_control(struct partition_vcpu *v, const struct cr_state *state, unsigned effects)
{
    enum vcpu_regime regime;
    uint64_t pdpte[4];

    if ((effects & CR_EFFECT_PDPTES) != 0 && !read_pdptes(v, state, pdpte))
        return false;
    if (!choose_regime(v->partition, state->cr0, &regime)) {
        crash_in_real_mode(v);
        return true;
    }
    if (regime != v->level->vcpu->regime)
        enter_regime(v->level, regime);
    write_control(v, state);
    if ((effects & CR_EFFECT_PDPTES) != 0)
        write_pdptes(v->level, pdpte);
    if (regime == VCPU_REGIME_SHADOW)
        select_context(v, state, (effects & CR_EFFECT_FLUSH) != 0 ? VTLB_SCOPE_ALL : VTLB_SCOPE_NONE);
    else if ((effects & CR_EFFECT_FLUSH) != 0)
        vcpu_flush_linear(v->level->vcpu);
    return true;
}

/* ---- CR3 and invalidation --------------------------------------------------------------------------------
 */

static bool load_cr3(struct partition_vcpu *v, struct cr_state *state, uint64_t value, bool flush)
{
    uint64_t pdpte[4];

    state->cr3 = value;
    if ((value >> v->partition->physical_bits) != 0)
        return false;
    if (policy_cr_uses_pdptes(state)) {
        if (!read_pdptes(v, state, pdpte))
            return false;
        write_pdptes(v->level, pdpte);
    }
    vcpu_write_cr3(v->level->vcpu, value);
    if (v->level->vcpu->regime == VCPU_REGIME_SHADOW) {
        v->level->walk.registers.cr3 = value;
        enter_context(v->level, flush ? VTLB_SCOPE_TAG : VTLB_SCOPE_NONE);
    } else {
        vcpu_flush_linear(v->level->vcpu);
    }
    return true;
}

bool paging_move_to_cr3(struct partition_vcpu *v, uint64_t value)
{
    const struct walk_x86_registers *registers = &v->level->walk.registers;
    struct cr_state state = {.cr0 = registers->cr0, .cr4 = registers->cr4, .efer = registers->efer};
    bool keep = false;

    if (v->level->vcpu->regime == VCPU_REGIME_EPT) /* where the policy of CR3 is overridden */
        paging_read_control(v, &state);
    if ((state.cr4 & X86_CR4_PCIDE) != 0) {
        keep = (value & X86_CR3_NO_FLUSH) != 0;
        value &= ~X86_CR3_NO_FLUSH;
    }
    return load_cr3(v, &state, value, !keep);
}

bool paging_load_cr3(struct partition_vcpu *v, uint64_t value)
{
    struct cr_state state;

    paging_read_control(v, &state);
    return load_cr3(v, &state, value, true);
}

void paging_begin_transient(struct partition_level *level)
{
    struct vcpu *vcpu = level->vcpu;
    const uint64_t rflags = vcpu_read(vcpu, VMCS_GUEST_RFLAGS);
    const uint64_t shadow =
        vcpu_read(vcpu, VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);

    level->transient_rip = vcpu_read(vcpu, VMCS_GUEST_RIP);
    if (level->stepping || vcpu->injection != 0 || (rflags & X86_RFLAGS_TF) != 0 || shadow != 0 ||
        (vcpu_read(vcpu, VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF) != 0)
        return;
    level->stepping = true;
    vcpu_intercept_exceptions(vcpu, true); /* the frame of another exception would have TF */
    vcpu_write(vcpu, VMCS_GUEST_RFLAGS, rflags | X86_RFLAGS_TF);
    vcpu_events_changed(vcpu); /* an interrupt that comes first would push TF: core/run.c looks */
}

void paging_end_step(struct partition_level *level)
{
    struct vcpu *vcpu = level->vcpu;

    level->stepping = false;
    vcpu_intercept_exceptions(vcpu, false);
    vcpu_write(vcpu, VMCS_GUEST_RFLAGS, vcpu_read(vcpu, VMCS_GUEST_RFLAGS) & ~(uint64_t)X86_RFLAGS_TF);
    vcpu_write(vcpu, VMCS_GUEST_PENDING_DEBUG, vcpu_read(vcpu, VMCS_GUEST_PENDING_DEBUG) & ~X86_DR6_BS);
    vtlb_end_transient(level->vtlb);
}

void paging_invalidate_address(struct partition_vcpu *v, uint16_t tag, uint64_t address)
{
    vtlb_invalidate_address(v->level->vtlb, tag, address);
}

void paging_invalidate(struct partition_vcpu *v, enum vtlb_scope scope, uint16_t tag)
{
    vtlb_invalidate(v->level->vtlb, scope, tag);
}

void paging_write_pat(struct partition_vcpu *v, uint64_t value)
{
    struct cr_state state;

    vcpu_write_pat(v->level->vcpu, value);
    if (v->level->vcpu->regime != VCPU_REGIME_SHADOW)
        return; /* the processor combines it with EPT's types by itself */
    paging_read_control(v, &state);
    select_context(v, &state, VTLB_SCOPE_NONE);
}

void paging_set_overlay(struct partition_vcpu *v, uint64_t address, const struct translation *page)
{
    const bool had = v->view.present;
    const uint64_t before = v->view.address;

    if (page != NULL)
        overlay_set(&v->view, address, page);
    else
        overlay_clear(&v->view);
    if (!had)
        return; /* where nothing was, nothing is cached */
    if (v->partition->regimes[VCPU_REGIME_EPT])
        vtlb_flush_range(&v->ept, before, PAGE_SIZE, VTLB_FLUSH_P2M);
    vtlb_drop(&v->vtlb, VTLB_FLUSH_P2M);
}
