// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A partition: memory, a board, virtual processors, and a life. It is built from its section of the
 * configuration; starting it loads its boot image and lets its first processor run, as often as the operator
 * wants. Who may call what from which processor is in docs/design/partitions.md: here *housekeeper* means
 * pCPU 0 outside exits, *home* the pCPU that runs the vCPU, *anybody* any of them.
 */
#include "core/config/config.h"
#include "core/config/kernel.h"
#include "core/hypercall.h"
#include "core/scheduler.h"
#include "core/shared.h"
#include "core/trace.h"
#include "core/vdev/platform.h"
#include "mm/frame.h"
#include "mm/guest_memory.h"
#include "mm/overlay.h"
#include "mm/p2m.h"
#include "mm/vtlb.h"
#include "mm/walk_x86.h"
#include "vmx/apicv.h"
#include "vmx/policy_cpuid.h"
#include "vmx/policy_cr.h"
#include "vmx/policy_msr.h"
#include "vmx/reasons.h"
#include "vmx/vcpu.h"

#define PARTITION_PIECES_MAX 64 /* pieces of machine memory that one partition may be made of */
#define PARTITION_REASON_MAX 160
#define PARTITION_VTLB_PAGES                                                                                 \
    64 /* quota of table pages for a vCPU with EPT; with 2M pages enough for 60 GiB */
#define GUEST_MTRR_VARIABLE 8

enum partition_state {
    PARTITION_REFUSED, /* could not be built; never runs */
    PARTITION_STOPPED,
    PARTITION_STARTING, /* its memory is being cleared and loaded */
    PARTITION_RUNNING,
    PARTITION_PAUSED,
    PARTITION_CRASHED, /* stopped by what its guest did; kept for inspection */
};

/* What is to happen to a partition as soon as all its vCPUs are parked. */
enum partition_request {
    PARTITION_REQUEST_NONE,
    PARTITION_REQUEST_STOP,  /* its guest powered it off, or the operator did */
    PARTITION_REQUEST_RESET, /* likewise: load and start again */
    PARTITION_REQUEST_CRASH,
    PARTITION_REQUEST_PAUSE,
};

/* What the home of a vCPU is asked to do: bits of its mail. */
enum partition_mail {
    MAIL_START = 1,     /* schedule it; the housekeeper has prepared it */
    MAIL_PARK = 2,      /* take it out of the schedule, whole in memory */
    MAIL_EVENTS = 4,    /* its local APIC's mailbox has something */
    MAIL_DEADLINE = 8,  /* a device whose time it keeps was touched */
    MAIL_SNAPSHOT = 16, /* fill in its snapshot */
    MAIL_SCHEDULE = 32, /* its weight or cap has changed */
    MAIL_PARKED = 64,   /* not asked: it is parked, and nobody reads its mail */
};

/* Why a vCPU does not run though its partition does. */
enum partition_vcpu_wait {
    VCPU_WAIT_NOT,
    VCPU_WAIT_HALTED,
    VCPU_WAIT_SIPI, /* for a start-up message: after INIT, or since the start if it is not the first */
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
struct partition_vcpu;
struct nested_guest;

/* Where a guest hypervisor has a say in what its guest's level does. */
struct partition_level_ops {
    /* The guest's CR0, CR3, CR4, IA32_EFER and CS.L: as it has them, whatever a read shadow shows it. */
    void (*read_control)(struct partition_vcpu *v, struct cr_state *state);
    void (*write_control)(struct partition_vcpu *v, const struct cr_state *state);
    /* The guest's MOV of `operand` to CR0 or CR4 (`number`): as policy_cr0_write and policy_cr4_write. */
    enum cr_answer (*move_to_cr)(struct partition_vcpu *v, unsigned number, struct cr_state *state,
                                 uint64_t operand, unsigned *effects);
    /*
     * The guest is about to get an exception. `qualification`: the address of a page fault. True: the guest
     * hypervisor has it instead, and runs.
     */
    bool (*takes_exception)(struct partition_vcpu *v, uint8_t vector, uint32_t error_code,
                            uint64_t qualification);
    void (*triple_fault)(struct partition_vcpu *v);
    /* An access that the guest makes at `gla` ended in a fault of a stage that is not its own page tables. */
    void (*memory_fault)(struct partition_vcpu *v, gla_t gla, const struct stage_fault *fault);
};

/*
 * A level of a vCPU: the partition's own guest (Lv1), or the guest of a guest hypervisor (Lv2;
 * core/nested_guest.h). Each has a VMCS and linear addresses of its own.
 */
struct partition_level {
    struct vcpu *vcpu;                     /* by its VMCS */
    const struct partition_level_ops *ops; /* NULL: nobody else has a say */
    struct walk_x86 walk;                  /* its linear addresses, by its own registers */
    struct stage_chain memory;             /* its guest-physical addresses, devices' pages left out */
    struct stage_chain linear;             /* walk, then that: for instructions that Umbra emulates */
    struct stage_chain linear_view; /* walk, then memory as the processor finds it: what shadow tables are
                                       filled from */
    uint64_t behind;                /* of these spaces, as vtlb_space.behind, */
    uint32_t role;                  /* and what entries mean beside what the guest's registers say */
    struct vtlb *vtlb;              /* what those are in */
    struct vtlb_context *ept;     /* what the processor uses in the regime EPT; NULL: it is never in that, */
    struct vtlb_context *context; /* and uses now */
    uint64_t vtlb_seen;           /* vtlb_generation when the hardware was last told to forget */
    uint64_t transient_rip;       /* of the instruction that something was granted for, for one access only */
    bool stepping;                /* it runs alone: RFLAGS.TF is Umbra's */
};

struct partition_vcpu {
    struct vcpu vcpu;
    struct partition *partition;
    unsigned number;

    uint32_t mail;                    /* enum partition_mail; atomic */
    struct partition_vcpu *next_mail; /* in its home's list of those that have some */
    unsigned home;                    /* pCPU; changed by the housekeeper while it is parked */
    struct scheduler_entity schedule;

    enum partition_vcpu_wait wait;
    uint64_t deadline; /* host TSC at which its devices want attention; VDEV_NEVER */
    bool deadline_changed;

    /* Translation (core/paging.h). */
    struct vtlb vtlb;              /* of Lv1 */
    uint32_t vtlb_pages;           /* its quota */
    struct overlay view;           /* guest-physical addresses as this vCPU has them */
    struct stage_chain view_chain; /* that alone: what EPT is filled from */
    struct vtlb_context ept;       /* regime EPT, where the processor has it */
    struct partition_level lv1;
    struct partition_level *level; /* the one that runs: what exit handlers work on; */
    bool runs_lv2;                 /* it is not lv1, in a form that is asked quickly */

    struct nested_guest *nested; /* its virtual VT-x (core/nested_guest.h); NULL: it has none */

    struct hypercall_vcpu hypercall;
    struct partition_msrs msrs;
    struct cpuid_state cpuid_state; /* apic_id; the rest is filled when a leaf needs it */

    struct trace trace;
    struct trace kept_trace; /* while tracing is off: what there was */
    uint64_t exits[EXIT_REASON_COUNT];
    uint64_t sampled_exits; /* exits whose duration was measured, */
    uint64_t sampled_ticks; /* and their sum in ticks of the TSC */
    uint64_t injected;      /* interrupts */
    uint64_t mmio;          /* emulated memory accesses */
    uint64_t first_entry;   /* host TSC of the first entry since start; 0: none yet */
    uint64_t switches;      /* times that its home came to it from another vCPU */

    struct vcpu_snapshot snapshot; /* the housekeeper's, but between MAIL_SNAPSHOT and its being valid */
};

struct partition {
    const struct config_partition *config;
    unsigned number;   /* from 0: its slot in the configuration */
    uint64_t identity; /* from 1; no other partition ever has the same */
    enum partition_state state;
    uint32_t request;                  /* enum partition_request; atomic */
    char reason[PARTITION_REASON_MAX]; /* why it is refused or crashed, or did not start */
    uint64_t
        bad_memory; /* host-physical address of a machine check that nobody has acted on; 0: none; atomic */
    uint64_t starts;
    uint64_t scrub_ticks; /* of the last start, spent on clearing memory */

    /* Its life; the housekeeper's (partition_life.c). */
    unsigned parked;     /* vCPUs that are; atomic */
    bool parking;        /* all have been asked to */
    bool stopping;       /* the operator wants it to stop */
    size_t scrub_region; /* STARTING: where clearing has got to, in p2m.regions */
    uint64_t scrub_offset;
    uint64_t started_at;    /* host TSC */
    uint64_t paused_at;     /* host TSC */
    uint64_t stop_deadline; /* host TSC at which force follows the power button, if `stopping` */
    uint64_t restart_at;    /* host TSC; 0: it is not waiting for a restart */
    unsigned restart_delay; /* tenths of a second that the next restart waits */

    uint64_t memory;      /* bytes */
    uint64_t tsc_offset;  /* partition TSC less host TSC; a vCPU's IA32_TSC_ADJUST comes on top */
    uint16_t frame_owner; /* of its memory, */
    uint16_t kept_owner;  /* and of what Umbra keeps for it: both go when it is destroyed */
    struct p2m p2m;
    struct p2m_region regions[PARTITION_PIECES_MAX + CONFIG_SHARED_MAX + 4];
    struct stage_chain memory_chain; /* the p2m alone */

    enum config_paging paging;  /* what was chosen: not CONFIG_PAGING_AUTO */
    bool regimes[VCPU_REGIMES]; /* that its vCPUs may come into */
    bool unrestricted;          /* EPT runs its guests without paging as well */
    struct cpuid_image cpuid;
    struct register_policy policies[VCPU_REGIMES];
    uint8_t physical_bits; /* MAXPHYADDR, as CPUID tells it */
    bool gigabyte_pages;   /* likewise */
    uint32_t msr_features;
    struct vmx_controls controls[VCPU_REGIMES];
    struct apicv apicv;

    bool trace_off;     /* the monitor shows what the vCPUs' traces were then */
    char *console_ring; /* CONSOLE_RING_SIZE bytes */

    struct kernel_image image;
    struct platform platform;
    struct shared_ends shared; /* regions and doorbells */
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
void partition_build_all(struct config *config);

/* The slots for partitions, and the one with this number: NULL for an empty slot, or past the last.
 * Housekeeper.
 */
unsigned partition_slots(void);
struct partition *partition_at(unsigned number);

/* The pCPUs that partitions have to themselves, a bit each. Housekeeper. */
uint64_t partition_dedicated(void);

/*
 * Builds the partition of the configuration's slot `number`, which is in use. On errors it is there, refused,
 * with its reason; -EAGAIN: freed memory has to be cleared first, so try again. Housekeeper.
 */
int partition_create(unsigned number);

/*
 * Gives everything back that the partition has; its slot is empty then. 0, or -EBUSY: it is neither stopped,
 * crashed nor refused. Housekeeper.
 */
int partition_destroy(struct partition *partition) __must_check;

/* ---- Life: partition_life.c. All housekeeper, none waits: partition_step does the work. ---------------- */

/*
 * Begins to start it: its state is STARTING, then RUNNING, or STOPPED with a reason. 0, -EBUSY: it runs
 * already; -EPERM: it was refused.
 */
int partition_start(struct partition *partition) __must_check;

/*
 * Presses its power button, and stops it by force after `timeout` seconds; at once if that is 0 or the guest
 * does not listen to the button. -EINVAL: it does not run.
 */
int partition_stop(struct partition *partition, unsigned timeout) __must_check;

/* Stops and starts it. -EPERM: it was refused. */
int partition_reset(struct partition *partition) __must_check;

/* Its clocks and processors stand still, and go on. -EINVAL: it does not run, or is not paused. */
int partition_pause(struct partition *partition) __must_check;
int partition_resume(struct partition *partition) __must_check;

/* Gives its vCPUs the weight and cap that its configuration says now. */
void partition_update_schedule(struct partition *partition);

/*
 * Carries on with what the partition's life asks for: a bounded step. Returns the host TSC at which it wants
 * to be called again at the latest: UINT64_MAX: not before something happens.
 */
uint64_t partition_step(struct partition *partition);

/* ---- From an exit, by the vCPU's home -------------------------------------------------------------------
 */

/* Asks for `request`; the partition's vCPUs are parked. The first request stands. Anybody. */
void partition_request(struct partition *partition, enum partition_request request);

/*
 * The guest did what it cannot go on from: the reason is kept, and it stops with the present exit. Everything
 * else goes on.
 */
void partition_crash(struct partition_vcpu *vcpu, const char *format, ...) __printf_format(2, 3);

/*
 * The machine's memory at `address` has gone bad. True if it is a partition's, which crashes for it. Anybody,
 * between any two instructions of Umbra's.
 */
bool partition_take_machine_check(hpa_t address);

/* Asks the vCPU's home for what `bits` say (enum partition_mail). Anybody. */
void partition_vcpu_post(struct partition_vcpu *vcpu, uint32_t bits);

/* From now on `level` is the one that runs. */
static inline void partition_vcpu_set_level(struct partition_vcpu *vcpu, struct partition_level *level)
{
    vcpu->level = level;
    vcpu->runs_lv2 = level != &vcpu->lv1;
}

/* A device's register may have been written: when the board wants attention next has to be asked again. */
static inline void partition_vcpu_touch_devices(struct partition_vcpu *vcpu)
{
    vcpu->deadline_changed = true;
    if (unlikely(vcpu->number != 0))
        partition_vcpu_post(vcpu - vcpu->number, MAIL_DEADLINE); /* the first keeps the board's time */
}

/* The partition's TSC now: the time of its devices. */
uint64_t partition_tsc(const struct partition *partition);

/* Writes the vCPU's TSC offset: the partition's, and its own adjustment. Its VMCS is current. */
void partition_vcpu_apply_tsc(struct partition_vcpu *vcpu);

/* The vCPU takes an INIT, and a start-up message with `vector`. Its home; loads its VMCS. */
void partition_vcpu_take_init(struct partition_vcpu *vcpu);
void partition_vcpu_take_startup(struct partition_vcpu *vcpu, uint8_t vector);

/* Whether its vCPUs have homes. */
static inline bool partition_is_placed(const struct partition *partition)
{
    return partition->state == PARTITION_RUNNING || partition->state == PARTITION_PAUSED;
}

/* Whether each of its vCPUs waits for something. */
static inline bool partition_is_waiting(const struct partition *partition)
{
    for (unsigned i = 0; i < partition->vcpu_count; i++)
        if (partition->vcpus[i].wait == VCPU_WAIT_NOT)
            return false;
    return true;
}

/* The vCPU's local APIC. Its registers are its home's. */
static inline struct lapic *partition_vcpu_lapic(const struct partition_vcpu *vcpu)
{
    return &vcpu->partition->platform.lapics[vcpu->number];
}

/* The name of a state, e.g. "running". */
const char *partition_state_name(const struct partition *partition);
