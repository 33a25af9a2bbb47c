// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Who translates a vCPU's addresses, and from what: the binding of its registers to the virtual TLB
 * (docs/design/vtlb.md). The regime follows the guest's CR0, the context its CR3 and paging modes. The guest
 * is that of the level that runs. Called by the vCPU's home with that level's VMCS current, unless said
 * otherwise.
 */
#include "core/partition.h"
#include "mm/walk_ept.h"

/*
 * Decides what the partition's vCPUs need of the processor: `paging` (AUTO resolved), `regimes`,
 * `unrestricted`. 0; -EOPNOTSUPP: it asks for EPT and there is none; *why is a sentence then. While it is
 * built.
 */
int paging_choose(struct partition *partition, const char **why) __must_check;

/* Pages of vTLB quota for each vCPU of the partition, once paging_choose has decided. */
uint32_t paging_quota(const struct partition *partition);

/* Likewise where tables of a guest's are shadowed, a guest hypervisor's EPT among them. */
uint32_t paging_quota_shadow(const struct partition *partition);

/*
 * Sets up the vCPU's vTLB, chains and walker over `quota` (vcpu->vtlb_pages frames, below 4 GiB) and `tables`
 * (one for each). -ENOMEM: too small a quota. While it is built; the VMCS need not be there yet.
 */
int paging_init(struct partition_vcpu *v, hpa_t quota, struct vtlb_table *tables) __must_check;

/*
 * Sets up a level of the vCPU's: the VMCS by `vcpu`, its shadow tables in `vtlb`, its guest-physical
 * addresses the partition's. While it is built.
 */
void paging_init_level(struct partition_vcpu *v, struct partition_level *level, struct vcpu *vcpu,
                       struct vtlb *vtlb);

/*
 * From now on the level's guest-physical addresses become the partition's by `ept` (NULL: they are these
 * already); `behind` is what vtlb_space.behind has to be for that. Any time.
 */
void paging_set_memory(struct partition_vcpu *v, struct partition_level *level, const struct walk_ept *ept,
                       uint64_t behind);

/*
 * The level that runs, whose registers are its guest's already (the PDPTEs in its walk), begins to: in the
 * shadow regime its context is chosen. `flushed`: as for vtlb_switch.
 */
void paging_enter_level(struct partition_vcpu *v, enum vtlb_scope flushed);

/* The regime in which a vCPU begins, and the root of its tables then: what vcpu_init wants. */
enum vcpu_regime paging_first_regime(const struct partition *partition);
hpa_t paging_first_root(const struct partition_vcpu *v);

/* vcpu_start, in the regime that `start` needs, with nothing cached. A mode that cannot be run here crashes
 * the partition. */
void paging_start(struct partition_vcpu *v, const struct vcpu_start *start);

/*
 * Gives the vCPU the control registers `state`, which a policy_…_write accepted with `effects`: PDPTEs,
 * regime, context, flushes. False: the PDPTEs are bad, the write is a #GP, and nothing has changed.
 */
bool paging_write_control(struct partition_vcpu *v, const struct cr_state *state,
                          unsigned effects) __must_check;

/* MOV to CR3 of `value`, bit 63 included. False: it is a #GP, and nothing has changed. Any regime. */
bool paging_move_to_cr3(struct partition_vcpu *v, uint64_t value) __must_check;

/*
 * Loads CR3 with `value` as a task switch does: always with a flush. False: PDPTEs or reserved bits are bad,
 * and nothing has changed. Any regime.
 */
bool paging_load_cr3(struct partition_vcpu *v, uint64_t value) __must_check;

/* The guest invalidates: INVLPG, INVPCID. Regime shadow. */
void paging_invalidate_address(struct partition_vcpu *v, uint16_t tag, uint64_t address);
void paging_invalidate(struct partition_vcpu *v, enum vtlb_scope scope, uint16_t tag);

/*
 * Something was granted for one access only (translation.transient), by the instruction at RIP: it runs alone
 * where it can, by a single step that the guest does not see, but for the TF that a PUSHF pushes which is
 * itself the access. Where it cannot (an event is being delivered, the guest steps itself, an interrupt
 * shadow), the grant goes with the next exit that concerns paging.
 */
void paging_begin_transient(struct partition_level *level);

/* The step has been made, or something comes before it: RFLAGS.TF is the guest's again, the grant is taken
 * back. */
void paging_end_step(struct partition_level *level);

/* Takes the grant back, unless the instruction at RIP is still the one that it was for. */
static inline void paging_end_transient(struct partition_level *level)
{
    if (unlikely(vtlb_has_transient(level->vtlb)) &&
        level->transient_rip != vcpu_read(level->vcpu, VMCS_GUEST_RIP))
        vtlb_end_transient(level->vtlb);
}

/* The tag that the vCPU's addresses have now: its PCID, or 0. Regime shadow. */
uint16_t paging_tag(const struct partition_vcpu *v);

/* IA32_PAT is `value` now (the caller has checked it): memory types are others. Any regime. */
void paging_write_pat(struct partition_vcpu *v, uint64_t value);

/* The page at guest-physical `address` of this vCPU's view is `page` (NULL: none) instead of any before. */
void paging_set_overlay(struct partition_vcpu *v, uint64_t address, const struct translation *page);

/* The processor forgets all that it has cached of the level, before the next entry. Exit path. */
void paging_flush_hardware(struct partition_level *level);

/* CR0, CR3, CR4, IA32_EFER and CS.L, as the guest of the level that runs has them. */
void paging_read_control(struct partition_vcpu *v, struct cr_state *state);

/* Its CR4 alone. */
static inline uint64_t paging_read_cr4(struct partition_vcpu *v)
{
    struct cr_state state;

    if (likely(v->level->ops == NULL))
        return vcpu_read_cr4(v->level->vcpu);
    paging_read_control(v, &state);
    return state.cr4;
}

/*
 * Brings v->level->walk up to date with the guest's registers. In the shadow regime it has them already, but
 * for PKRU, which the guest writes without an exit. Any regime; the vCPU's state is loaded.
 */
void paging_update_walk(struct partition_vcpu *v);

/* The guest's registers as walk_x86_set wants them, by the VMCS and what Umbra keeps; PAE's PDPTEs included.
 */
struct walk_x86_registers paging_registers(struct partition_vcpu *v);
