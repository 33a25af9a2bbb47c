// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The memory of a guest hypervisor's guests (docs/design/nested.md, "Memory of Lv2"): what Lv2's addresses
 * are translated by, what is kept of it, and what Lv1's INVEPT and INVVPID take away. One of these belongs to
 * one vCPU with a virtual VT-x. Called by the vCPU's home, on the exit path, unless said otherwise.
 */
#include "core/partition.h"
#include "mm/walk_ept.h"
#include "nested/merge.h"
#include "nested/nested.h"

/* How many of Lv1's VPIDs keep their translations in the processor at a time. */
#define NESTED_VPIDS       4

/* From a vCPU's own VPID to the first that stands for one of these, and on to the next: those of all vCPUs
 * lie between. */
#define NESTED_VPID_STRIDE (CONFIG_PARTITIONS_MAX * PLATFORM_VCPUS_MAX)

struct nested_memory {
    struct partition_vcpu *v;   /* whose it is */
    struct nested_vcpu *nested; /* its virtual VT-x */

    /* Where Lv1 has EPT: spaces whose source is EPT12 and whose tag is its address, behind it Lv1's view. */
    struct vtlb vtlb;
    struct walk_ept walk;
    struct stage_chain ept_view;  /* walk, then Lv1's view */
    uint64_t eptp;                /* that `walk` is of, and `space`; 0: there is none */
    struct vtlb_context *space;   /* the vTLB's current one, in the regime EPT */
    bool has_ept;                 /* the Lv2 that runs or ran last has Lv1's EPT, not Lv1's own memory */
    struct vtlb_context *context; /* what the processor finds its memory by, in the regime EPT */

    uint64_t seen; /* vtlb_generation when the hardware was last told to forget */
    struct nested_vpid {
        uint16_t vpid12;   /* 0: Lv2s without VPID */
        uint64_t last_use; /* number of an entry; 0: nothing is kept */
    } vpids[NESTED_VPIDS];
    uint64_t entries;
};

/* Sets `m` up, zeroed, over `pages` frames at `quota`, below 4 GiB, and as many `tables`, both the caller's
 * for as long as the vCPU lives. -ENOMEM: too small a quota. While the vCPU is built. */
int nested_memory_init(struct nested_memory *m, struct partition_vcpu *v, struct nested_vcpu *nested,
                       hpa_t quota, uint32_t pages, struct vtlb_table *tables) __must_check;

/* Lv1's own memory is another than before: what Lv2s had of it is forgotten. */
void nested_memory_forget(struct nested_memory *m);

/* As after a reset: nothing is kept. The vCPU is loaded nowhere. */
void nested_memory_reset(struct nested_memory *m);

/* The vCPU may have run elsewhere: what this processor has cached of its Lv2s is not to be trusted. */
void nested_memory_moved(struct nested_memory *m);

/*
 * Lv1 is about to enter what its current VMCS12 says: chooses what Lv2's guest-physical addresses are
 * translated by, and what its linear ones are tagged with: root and VPID of *in. An EPTP that an entry
 * refuses is left to the entry's checks.
 */
void nested_memory_choose(struct nested_memory *m, struct nested_merge_input *in);

/* Before each run of Lv2: what the processor has cached by Lv2's tables must not outlive them. */
void nested_memory_before_run(struct nested_memory *m);

/* What the Lv2 that runs has for EPT: true if Lv1's, false if Lv1 leaves it its own memory. */
static inline bool nested_memory_has_ept(const struct nested_memory *m)
{
    return m->has_ept;
}

/* Leads from the guest-physical addresses of the Lv2 that runs to memory. */
static inline const struct stage_chain *nested_memory_chain(const struct nested_memory *m)
{
    return nested_memory_has_ept(m) ? &m->ept_view : &m->v->view_chain;
}

/*
 * What a space of Lv2's own page tables over that chain has for vtlb_space.behind: INVEPT takes those of the
 * EPT that it names out of m->vtlb. 0: it is Lv1's own memory. Whether A and D are enabled is not in it, and
 * belongs to the space's role; where they are, walk_x86.table_access has PAGING_WRITE.
 */
static inline uint64_t nested_memory_behind(const struct nested_memory *m)
{
    return nested_memory_has_ept(m) ? (m->eptp & EPTP_ADDRESS) | 1 : 0;
}

/* Lv2 misses `address` of its guest-physical memory for `access`: as vtlb_miss. */
static inline enum vtlb_outcome nested_memory_miss(struct nested_memory *m, uint64_t address, unsigned access,
                                                   struct vtlb_result *result)
{
    return vtlb_miss(m->context, address, access, result);
}

/* INVEPT and INVVPID of Lv1: see struct nested_ops. */
void nested_memory_invalidate_ept(struct nested_memory *m, const uint64_t *eptp);
void nested_memory_invalidate_vpid(struct nested_memory *m, uint16_t vpid, const uint64_t *address,
                                   bool keep_globals);
