// SPDX-License-Identifier: BSD-2-Clause
#include "core/nested_memory.h"

#include "arch/x86/paging_ept.h"
#include "lib/errors.h"
#include "lib/panic.h"

int nested_memory_init(struct nested_memory *m, struct partition_vcpu *v, struct nested_vcpu *nested,
                       hpa_t quota, uint32_t pages, struct vtlb_table *tables)
{
    m->v = v;
    m->nested = nested;
    m->context = &v->ept;
    walk_ept_init(&m->walk, &v->view_chain);
    m->ept_view = (struct stage_chain){.stages = {&m->walk.stage, &v->view.stage}, .count = 2};
    if (vtlb_init(&m->vtlb, quota, pages, tables, &partition_machine()->vtlb_hardware, VTLB_CACHED) != 0)
        return -ENOMEM;
    return 0;
}

void nested_memory_reset(struct nested_memory *m)
{
    nested_memory_forget(m);
    nested_memory_moved(m);
}

void nested_memory_forget(struct nested_memory *m)
{
    vtlb_drop(&m->vtlb, VTLB_FLUSH_P2M);
    nested_forget_pages(m->nested);
}

void nested_memory_moved(struct nested_memory *m)
{
    m->seen = 0;
    for (unsigned i = 0; i < NESTED_VPIDS; i++)
        m->vpids[i].last_use = 0;
}

/* ---- Linear addresses ------------------------------------------------------------------------------------
 */

static uint16_t hardware_vpid(const struct nested_memory *m, const struct nested_vpid *vpid)
{
    return (uint16_t)(m->v->vcpu.vpid + (vpid - m->vpids + 1) * NESTED_VPID_STRIDE);
}

/* The processor forgets what it has for `vpid`: what `type` says, or all where it does not know that type. */
static void forget_linear(struct nested_memory *m, const struct nested_vpid *vpid, enum invvpid_type type,
                          uint64_t address)
{
    const uint16_t hardware = hardware_vpid(m, vpid);

    if (!vmx_controls_have(&m->nested->vcpu02.controls, VMX_WORD_SECONDARY, VMX_SECONDARY_VPID))
        return; /* each entry and exit does that */
    if (!vmx_invvpid(type, hardware, GLA(address)) && !vmx_invvpid(INVVPID_CONTEXT, hardware, GLA(0)) &&
        !vmx_invvpid(INVVPID_ALL, 0, GLA(0)))
        panic("INVVPID failed");
}

/*
 * What stands for `vpid12`: what did already, or else what was used least recently. Of that nothing is kept,
 * nor of what Lv2s without VPID left behind.
 */
static struct nested_vpid *find_vpid(struct nested_memory *m, uint16_t vpid12)
{
    struct nested_vpid *oldest = m->vpids, *found = NULL;

    for (struct nested_vpid *vpid = m->vpids; vpid < &m->vpids[NESTED_VPIDS]; vpid++) {
        if (vpid->last_use != 0 && vpid->vpid12 == vpid12)
            found = vpid;
        if (vpid->last_use < oldest->last_use)
            oldest = vpid;
    }
    if (found != NULL && vpid12 != 0)
        return found;
    if (found == NULL)
        found = oldest;
    found->vpid12 = vpid12;
    forget_linear(m, found, INVVPID_CONTEXT, 0);
    return found;
}

void nested_memory_invalidate_vpid(struct nested_memory *m, uint16_t vpid, const uint64_t *address,
                                   bool keep_globals)
{
    const enum invvpid_type type = address != NULL ? INVVPID_ADDRESS
                                   : keep_globals  ? INVVPID_CONTEXT_BUT_GLOBAL
                                                   : INVVPID_CONTEXT;

    for (struct nested_vpid *kept = m->vpids; kept < &m->vpids[NESTED_VPIDS]; kept++)
        if (kept->last_use != 0 && (vpid == 0 || kept->vpid12 == vpid))
            forget_linear(m, kept, type, address != NULL ? *address : 0);
}

/* ---- Guest-physical addresses ----------------------------------------------------------------------------
 */

static bool is_shadowed(const struct nested_memory *m)
{
    return m->nested->vcpu02.regime == VCPU_REGIME_SHADOW;
}

/*
 * Lv2's memory is what `eptp` says. False: an entry refuses it. Where shadow tables stand in for Lv2's own,
 * EPT12 is behind these (core/paging.h), and has no space.
 */
static bool bind_ept(struct nested_memory *m, uint64_t eptp)
{
    const struct vtlb_space space = {
        .chain = &m->ept_view,
        .source = &paging_ept,
        .target = &paging_ept,
        .root = eptp & EPTP_ADDRESS,
        .role = (uint32_t)(eptp & ~EPTP_ADDRESS),
        .tag = eptp & EPTP_ADDRESS,
    };
    const struct walk_ept_features features = {
        .capabilities = m->nested->policy->capabilities.offered.ept_vpid,
        .physical_bits = m->nested->policy->physical_bits,
    };

    if (eptp == m->eptp)
        return true;
    if (walk_ept_set(&m->walk, eptp, &features) != 0)
        return false;
    m->eptp = eptp;
    if (!is_shadowed(m))
        m->space = vtlb_switch(&m->vtlb, &space, VTLB_SCOPE_NONE);
    return true;
}

/*
 * Where Lv1 has A and D the processor has them, too, if it can: its accesses to Lv2's page tables are writes
 * then, and miss where such a write was not granted yet.
 */
static uint64_t root_flags(const struct nested_memory *m)
{
    return nested_memory_has_ept(m) &&
                   (partition_machine()->capabilities.ept_vpid & VMX_EPT_ACCESSED_DIRTY) != 0
               ? m->eptp & EPTP_ACCESSED_DIRTY
               : 0;
}

void nested_memory_choose(struct nested_memory *m, struct nested_merge_input *in)
{
    const struct vmcs12 *vmcs12 = &m->nested->vmcs12;
    struct nested_vpid *vpid;

    m->has_ept =
        vmcs12_has_secondary(vmcs12, VMX_SECONDARY_EPT) && bind_ept(m, vmcs12_read(vmcs12, VMCS_EPT_POINTER));
    if (!is_shadowed(m)) {
        m->context = m->has_ept ? m->space : &m->v->ept;
        in->root = HPA(vtlb_root(m->context).value | root_flags(m));
    }

    vpid = find_vpid(
        m, vmcs12_has_secondary(vmcs12, VMX_SECONDARY_VPID) ? (uint16_t)vmcs12_read(vmcs12, VMCS_VPID) : 0);
    vpid->last_use = ++m->entries;
    in->vpid = hardware_vpid(m, vpid);
}

void nested_memory_before_run(struct nested_memory *m)
{
    if (likely(vtlb_generation(&m->vtlb) == m->seen))
        return;
    m->seen = vtlb_generation(&m->vtlb);
    if (!vmx_invept(INVEPT_ALL, 0))
        panic("INVEPT failed");
}

void nested_memory_invalidate_ept(struct nested_memory *m, const uint64_t *eptp)
{
    const uint64_t address = eptp != NULL ? *eptp & EPTP_ADDRESS : 0;

    /* Lv2 does not run: what Lv1 goes on to write before it does is not stale then. */
    vtlb_leave(&m->vtlb);
    m->eptp = 0;
    vtlb_invalidate(&m->vtlb, eptp != NULL ? VTLB_SCOPE_TAG : VTLB_SCOPE_ALL, address);
    vtlb_invalidate_behind(&m->vtlb, eptp != NULL ? address | 1 : 0);
}
