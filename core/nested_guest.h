// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A vCPU's virtual VT-x, bound to its partition (docs/design/nested.md): entries and exits of its guest, that
 * guest's memory, and the events that reach one or the other. Lv1 is the guest hypervisor, Lv2 its guest.
 * Called by the vCPU's home, with the VMCS of whichever of the two runs current, unless said otherwise.
 */
#include "core/nested_memory.h"
#include "core/partition.h"
#include "nested/exit.h"
#include "nested/merge.h"
#include "nested/nested.h"
#include "nested/owner.h"
#include "nested/snapshot.h"

/* Counted since the vCPU was reset, beside entries. */
struct nested_statistics {
    uint64_t refused;             /* entries that failed by a control or by host state: VMfail */
    uint64_t failed;              /* by guest state or the list of MSRs: reasons 33 and 34 */
    uint64_t left;                /* runs of Lv2 that ended: Lv1 got an exit, or an event of its own */
    uint64_t passed;              /* exits of Lv2 that Lv1 got */
    uint64_t kept[NESTED_OWNERS]; /* the others, after which Lv2 went on: by whose they were */
    uint64_t by_reason[EXIT_REASON_COUNT];
    uint32_t by_check[NESTED_CHECK_ROWS_MAX]; /* refused and failed: by the row that did not hold */
};

/* What a vCPU with `nested = yes` has beside its own VMCS. */
struct nested_guest {
    struct nested_vcpu nested;
    struct nested_policy policy;
    struct partition_level level; /* Lv2's */
    uint16_t
        shadow_vpid; /* shadow tables: Lv1's VPID that they are of; 0: what they hold is to be looked at */

    struct nested_memory memory; /* of Lv2s */
    struct nested_merge_input input;
    uint64_t timer;    /* host TSC at which Lv1's VMX-preemption timer for Lv2 runs out; VDEV_NEVER */
    bool hurry;        /* the next run of Lv2 is to be as short as can be */
    bool halted;       /* Lv2 rests in the HLT state */
    bool init_pending; /* an INIT that came in VMX operation */
    uint64_t entries;  /* of Lv2, logical ones */
    struct nested_statistics statistics;
    struct nested_snapshot snapshot; /* taken with the vCPU's own, and as valid */

    /* The partition's TSC offset when `timer` was set: it is another one when a pause is over. */
    uint64_t timer_offset;
};

/* What a nested guest is made of, the caller's for as long as the vCPU lives. */
struct nested_guest_memory {
    hpa_t vmcs, msr_bitmap;    /* frames */
    struct vcpu_shadow shadow; /* likewise, for VMCS shadowing; vmcs 0: there is none */
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

/* RDMSR of IA32_FEATURE_CONTROL or of a capability register by Lv1. False: #GP. Anybody. */
bool nested_guest_read_capability(const struct partition_vcpu *v, uint32_t msr, uint64_t *value) __must_check;

/*
 * RDMSR and WRMSR as the guest of the level that runs would execute them, of any register: what exits is
 * emulated, what is through is done. False: #GP.
 */
bool nested_guest_read_msr(struct partition_vcpu *v, uint32_t index, uint64_t *value) __must_check;
bool nested_guest_write_msr(struct partition_vcpu *v, uint32_t index, uint64_t value) __must_check;

/* In VMX operation some bits of CR0 and CR4 are fixed: false if Lv1 may not load these values now. */
bool nested_guest_allows_cr0(const struct partition_vcpu *v, uint64_t cr0) __must_check;
bool nested_guest_allows_cr4(const struct partition_vcpu *v, uint64_t cr4) __must_check;

static inline bool nested_guest_runs(const struct partition_vcpu *v)
{
    return v->runs_lv2;
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

/* What Lv1 has a say in while Lv2 runs. */
extern const struct partition_level_ops nested_guest_level_ops;

/* Lv1's instructions of VMX. */
void exit_vmx_instruction(struct partition_vcpu *v);
