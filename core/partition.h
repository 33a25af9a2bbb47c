// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A partition: memory, a board, virtual processors, and a life. It is built once from its section of the
 * configuration; starting it loads its boot image and lets its first processor run, as often as the operator
 * wants.
 */
#include "core/config/config.h"
#include "core/config/kernel.h"
#include "core/trace.h"
#include "core/vdev/platform.h"
#include "mm/frame.h"
#include "mm/guest_memory.h"
#include "mm/p2m.h"
#include "mm/vtlb.h"
#include "mm/walk_x86.h"
#include "vmx/policy_cpuid.h"
#include "vmx/policy_cr.h"
#include "vmx/policy_msr.h"
#include "vmx/reasons.h"
#include "vmx/vcpu.h"

#define PARTITION_PIECES_MAX 64 /* pieces of machine memory that one partition may be made of */
#define PARTITION_REASON_MAX 160
#define PARTITION_VTLB_PAGES 64 /* quota of table pages for each vCPU; with 2M pages enough for 60 GiB */
#define GUEST_MTRR_VARIABLE  8

enum partition_state {
    PARTITION_REFUSED, /* could not be built; never runs */
    PARTITION_STOPPED,
    PARTITION_RUNNING,
    PARTITION_CRASHED, /* stopped by what its guest did; kept for inspection */
};

/* What is to happen to a partition as soon as none of its vCPUs is in the middle of an exit. */
enum partition_request {
    PARTITION_REQUEST_NONE,
    PARTITION_REQUEST_STOP,  /* its guest powered it off, or the operator did */
    PARTITION_REQUEST_RESET, /* likewise: load and start again */
    PARTITION_REQUEST_CRASH,
};

/* MSRs of a vCPU that Umbra keeps for it. */
struct partition_msrs {
    uint64_t tsc_adjust;
    uint64_t misc_enable;
    uint64_t mtrr_default;
    uint64_t mtrr_fixed[11];
    uint64_t mtrr_variable[2 * GUEST_MTRR_VARIABLE];
};

struct partition;

struct partition_vcpu {
    struct vcpu vcpu;
    struct partition *partition;
    unsigned number;

    bool halted;
    uint64_t deadline; /* host TSC at which its devices want attention; VDEV_NEVER */
    bool deadline_changed;

    struct vtlb vtlb;
    struct vtlb_table vtlb_tables[PARTITION_VTLB_PAGES];
    struct vtlb_context context; /* GPA to HPA, in EPT form */
    uint64_t context_generation; /* of `context` when the hardware was last told to forget */
    struct walk_x86 walk;        /* its linear addresses, for instructions that Umbra emulates */
    struct stage_chain linear;   /* walk, then the p2m */

    struct partition_msrs msrs;
    struct cpuid_state cpuid_state; /* apic_id; the rest is filled when a leaf needs it */

    struct trace trace;
    uint64_t exits[EXIT_REASON_COUNT];
    uint64_t sampled_exits; /* exits whose duration was measured, */
    uint64_t sampled_ticks; /* and their sum in ticks of the TSC */
    uint64_t injected;      /* interrupts */
    uint64_t mmio;          /* emulated memory accesses */
    uint64_t first_entry;   /* host TSC of the first entry since start; 0: none yet */
};

struct partition {
    const struct config_partition *config;
    unsigned number; /* from 0, in the order of the configuration */
    enum partition_state state;
    enum partition_request request;
    char reason[PARTITION_REASON_MAX]; /* why it is refused or crashed */
    uint64_t starts;
    uint64_t scrub_ticks; /* of the last start, spent on clearing memory */

    uint64_t memory;     /* bytes */
    uint64_t tsc_offset; /* partition TSC less host TSC; a vCPU's IA32_TSC_ADJUST comes on top */
    uint16_t frame_owner;
    struct p2m p2m;
    struct p2m_region regions[PARTITION_PIECES_MAX + 4];
    struct stage_chain memory_chain; /* the p2m alone */

    struct cpuid_image cpuid;
    struct register_policy policy;
    uint8_t physical_bits; /* MAXPHYADDR, as CPUID tells it */
    bool gigabyte_pages;   /* likewise */
    uint32_t msr_features;
    struct vmx_controls controls;
    hpa_t msr_bitmap;

    struct kernel_image image;
    struct platform platform;
    unsigned vcpu_count;
    struct partition_vcpu *vcpus;
};

/* What partitions are built with. Set by boot/ before the first is built. */
struct partition_machine {
    struct frame_pool *frames;
    struct vmx_capabilities capabilities;
    struct vtlb_hardware vtlb_hardware;
    struct config_files *files; /* how kernels and initrds are found */
    uint64_t tsc_hz;
    int64_t (*wall_clock)(void); /* seconds since 1970 */
    void (*console_write)(unsigned partition, char byte);
};

void partition_set_machine(const struct partition_machine *machine);
const struct partition_machine *partition_machine(void);

/*
 * Builds all partitions of `config` (borrowed for ever). One that cannot be built is refused, with its
 * reason; the others are stopped. Start-up.
 */
void partition_build_all(const struct config *config);

/* How many partitions there are, and the one with this number (NULL past the last). */
unsigned partition_count(void);
struct partition *partition_at(unsigned number);

/*
 * Scrubs memory, loads the boot image and makes the first vCPU runnable. 0, or a negative errno with
 * partition->reason set: -EBUSY: it runs already; -EPERM: it was refused. Never from within an exit of the
 * same partition.
 */
int partition_start(struct partition *partition) __must_check;

/* Stops it at once. Never from within an exit of the same partition. */
void partition_stop(struct partition *partition);

/* Asks for `request` once the present exit has been handled. The first request stands. */
void partition_request(struct partition *partition, enum partition_request request);

/*
 * The guest did what it cannot go on from: the reason is kept, and it stops with the present exit. Everything
 * else goes on.
 */
void partition_crash(struct partition_vcpu *vcpu, const char *format, ...) __printf_format(2, 3);

/* Carries out what was requested. True if the partition still runs. Called by the run loop between exits. */
bool partition_serve_request(struct partition *partition);

/* The partition's TSC now: the time of its devices. */
uint64_t partition_tsc(const struct partition *partition);

/* Writes the vCPU's TSC offset: the partition's, and its own adjustment. Its VMCS is current. */
void partition_vcpu_apply_tsc(struct partition_vcpu *vcpu);

/* The name of a state, e.g. "running". */
const char *partition_state_name(const struct partition *partition);
