// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A vCPU's virtual VT-x, bound to its partition (docs/design/nested.md): entries and exits of its guest, that
 * guest's memory, and the events that reach one or the other. Lv1 is the guest hypervisor, Lv2 its guest.
 * Called by the vCPU's home, with the VMCS of whichever of the two runs current, unless said otherwise.
 */
#include "core/partition.h"
#include "mm/walk_ept.h"
#include "nested/exit.h"
#include "nested/merge.h"
#include "nested/nested.h"

/* Of Lv2s' memory that a vCPU keeps translated at a time. */
#define NESTED_SPACES 4

/* What a vCPU with `nested = yes` has beside its own VMCS. */
struct nested_guest {
    struct nested_vcpu nested;
    struct nested_policy policy;

    /* Memory of Lv2 where Lv1 has EPT: spaces by EPTP, filled from EPT12 and then as Lv1's own memory. */
    struct vtlb vtlb;
    struct nested_space {
        struct vtlb_context context;
        uint64_t eptp;
        uint64_t last_use; /* number of an entry; 0: it is free */
    } spaces[NESTED_SPACES];
    uint64_t vtlb_seen; /* vtlb_generation when the hardware was last told to forget */
    struct walk_ept walk;
    struct stage_chain ept_view;  /* walk, then Lv1's view */
    struct vtlb_context *context; /* of the Lv2 that runs */
    uint16_t vpid12; /* that the processor's linear translations of Lv2 are of; 0: of none that may stay */

    struct nested_merge_input input;
    uint64_t timer;    /* host TSC at which Lv1's VMX-preemption timer for Lv2 runs out; VDEV_NEVER */
    bool hurry;        /* the next run of Lv2 is to be as short as can be */
    bool halted;       /* Lv2 rests in the HLT state */
    bool init_pending; /* an INIT that came in VMX operation */
    uint64_t entries;  /* of Lv2, logical ones */
    uint64_t kept;     /* exits of Lv2 that Lv1 has not seen */
};

/* What a nested guest is made of, the caller's for as long as the vCPU lives. */
struct nested_guest_memory {
    hpa_t vmcs, msr_bitmap;    /* frames */
    uint32_t pages;            /* paging_quota_shadow() */
    hpa_t quota;               /* `pages` frames, below 4 GiB, */
    struct vtlb_table *tables; /* and one of these for each */
    uint16_t vpid;
};

/* Why no vCPU of the partition can have a virtual VT-x, a sentence; NULL if they can. While it is built. */
const char *nested_guest_obstacle(const struct partition *partition);

/*
 * Gives a vCPU, built otherwise and loaded nowhere, its virtual VT-x: fills in *g, zeroed. -ENOMEM: too small
 * a quota; -EIO: VMX refuses. While it is built.
 */
int nested_guest_build(struct partition_vcpu *v, struct nested_guest *g,
                       const struct nested_guest_memory *memory) __must_check;

/* As after a reset: outside of VMX operation. The vCPU is loaded nowhere. */
void nested_guest_reset(struct partition_vcpu *v);

/* Lv1's own memory is another than before: what Lv2s had of it is forgotten. */
void nested_guest_forget_memory(struct partition_vcpu *v);

/* RDMSR of IA32_FEATURE_CONTROL or of a capability register by Lv1. False: #GP. Anybody. */
bool nested_guest_read_msr(const struct partition_vcpu *v, uint32_t msr, uint64_t *value) __must_check;

/* In VMX operation some bits of CR0 and CR4 are fixed: false if Lv1 may not load these values now. */
bool nested_guest_allows_cr0(const struct partition_vcpu *v, uint64_t cr0) __must_check;
bool nested_guest_allows_cr4(const struct partition_vcpu *v, uint64_t cr4) __must_check;

static inline bool nested_guest_runs(const struct partition_vcpu *v)
{
    return v->nested != NULL && v->nested->nested.mode == NESTED_NON_ROOT;
}

/* The vCPU whose VMCS is current while the virtual processor is loaded. */
static inline struct vcpu *nested_guest_current(struct partition_vcpu *v)
{
    return nested_guest_runs(v) ? &v->nested->nested.vcpu02 : &v->vcpu;
}

/* The vCPU may have run elsewhere: what this processor has cached of its Lv2s is not to be trusted. */
static inline void nested_guest_moved(struct partition_vcpu *v)
{
    v->nested->vtlb_seen = 0;
    v->nested->vpid12 = 0;
}

/* ---- Entry and exit --------------------------------------------------------------------------------------
 */

/* VMLAUNCH or VMRESUME of Lv1, whose instruction has passed its checks. */
void nested_guest_enter(struct partition_vcpu *v);

/* A VMX instruction of Lv1 has been executed: what waited for the end of VMX operation happens if it was
 * that. */
void nested_guest_executed(struct partition_vcpu *v);

/* Lv2's run ends, Lv1 gets `information`. */
void nested_guest_leave(struct partition_vcpu *v, struct nested_exit_information *information);

/* ---- Running ---------------------------------------------------------------------------------------------
 */

/* The vCPU, on which Lv2 runs, has come to this processor or back to it. Lv1's VMCS is current; Lv2's
 * afterwards. */
void nested_guest_resume(struct partition_vcpu *v);

/*
 * Something may be there for Lv1 while Lv2 runs. True: it ended Lv2's run, and Lv1's events are still to be
 * looked at. False: Lv2 goes on with what it gets, or waits (v->wait).
 */
bool nested_guest_events(struct partition_vcpu *v);

/* Something waits that ends a wait of Lv2's. */
bool nested_guest_would_wake(struct partition_vcpu *v);

/*
 * Runs Lv2 until its next exit, for `timer` ticks of the TSC at most where there is a VMX-preemption timer,
 * and answers that exit. Returns the host TSC after it.
 */
uint64_t nested_guest_run(struct partition_vcpu *v, uint64_t timer);

/* An INIT or a start-up message came: true if VMX operation keeps it from taking effect. Any VMCS of the
 * vCPU's is current. */
bool nested_guest_takes_init(struct partition_vcpu *v);
bool nested_guest_takes_startup(struct partition_vcpu *v, uint8_t vector);

/* ---- For the exits of Lv2 (core/exits/nested.c) -----------------------------------------------------------
 */

/* The exit that Lv2's VMCS holds: answered, or passed on to Lv1. */
void nested_guest_handle_exit(struct partition_vcpu *v);

/* Lv1's instructions of VMX. */
void exit_vmx_instruction(struct partition_vcpu *v);
