// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The local APIC of one vCPU (SDM vol. 3, chapter "Advanced Programmable Interrupt Controller").
 *
 * Its registers live in a 4 KiB page at their xAPIC offsets, so that the page can be the virtual-APIC page of
 * a VMCS. The hardware may change TPR, IRR and ISR in it without telling (vmx/apicv.h): what depends on them
 * reads them there each time.
 *
 * A local APIC belongs to its owner, the processor that runs its vCPU: all functions here are the owner's,
 * but for those that say "any processor". Others leave their requests in its mailbox and wake it; the owner
 * takes them by lapic_receive. To find out whom a message is for, and who has the lowest priority, a sender
 * reads destination registers, TPR and enable bits of all APICs as they are at the moment, as messages on a
 * bus would find them.
 *
 * What this APIC is: version 14H, six LVT entries (no CMCI), x2APIC, TSC-deadline timer, suppression of EOI
 * broadcasts, ID fixed (writes to the ID register are ignored). There is no SMM in a partition: SMIs are
 * dropped.
 *
 * Whoever runs the vCPU asks lapic_pending before an entry; vdev_ops.wake says when it has to receive and to
 * ask again.
 */
#include "core/vdev/vdev.h"

#define LAPIC_BASE_DEFAULT     0xfee00000ULL
#define LAPIC_COUNT_MAX        64
#define LAPIC_BROADCAST        UINT32_MAX /* destination: every APIC */

/* Bits of IA32_APIC_BASE. */
#define LAPIC_BASE_BSP         BIT(8)
#define LAPIC_BASE_X2APIC      BIT(10)
#define LAPIC_BASE_ENABLE      BIT(11)

/* MSRs that are the local APIC's: these two and the x2APIC range. */
#define LAPIC_MSR_BASE         0x1b
#define LAPIC_MSR_TSC_DEADLINE 0x6e0
#define LAPIC_MSR_X2APIC       0x800
#define LAPIC_MSR_X2APIC_LAST  0x8ff

/* Register offsets in the page. */
enum lapic_register {
    LAPIC_ID = 0x020,
    LAPIC_VERSION = 0x030,
    LAPIC_TPR = 0x080,
    LAPIC_APR = 0x090,
    LAPIC_PPR = 0x0a0,
    LAPIC_EOI = 0x0b0,
    LAPIC_RRD = 0x0c0,
    LAPIC_LDR = 0x0d0,
    LAPIC_DFR = 0x0e0,
    LAPIC_SVR = 0x0f0,
    LAPIC_ISR = 0x100, /* eight registers each, 10H apart */
    LAPIC_TMR = 0x180,
    LAPIC_IRR = 0x200,
    LAPIC_ESR = 0x280,
    LAPIC_ICR = 0x300,
    LAPIC_ICR_HIGH = 0x310,
    LAPIC_LVT_TIMER = 0x320,
    LAPIC_LVT_THERMAL = 0x330,
    LAPIC_LVT_PERFORMANCE = 0x340,
    LAPIC_LVT_LINT0 = 0x350,
    LAPIC_LVT_LINT1 = 0x360,
    LAPIC_LVT_ERROR = 0x370,
    LAPIC_INITIAL_COUNT = 0x380,
    LAPIC_CURRENT_COUNT = 0x390,
    LAPIC_DIVIDE = 0x3e0,
    LAPIC_SELF_IPI = 0x3f0,
};

/* Delivery modes, as the ICR, the LVT and the IO-APIC's redirection entries encode them. */
enum lapic_delivery_mode {
    LAPIC_FIXED = 0,
    LAPIC_LOWEST_PRIORITY = 1,
    LAPIC_SMI = 2,
    LAPIC_NMI = 4,
    LAPIC_INIT = 5,
    LAPIC_SIPI = 6,
    LAPIC_EXTINT = 7,
};

/* An interrupt message, as it crosses the bus between IO-APIC and local APICs. */
struct lapic_message {
    uint32_t destination; /* a sender with an 8-bit field turns FFH into LAPIC_BROADCAST */
    bool logical;         /* destination mode */
    bool level;           /* trigger mode */
    uint8_t mode;         /* enum lapic_delivery_mode */
    uint8_t vector;
};

/* What a local APIC is told once; its values are copied. */
struct lapic_settings {
    const struct vdev_host *host; /* kept */
    struct lapic *all;            /* the array of all local APICs of the partition, kept */
    unsigned count;               /* how many these are, at most LAPIC_COUNT_MAX */
    uint64_t timer_hz; /* input clock of the timer's divider: the crystal of CPUID 15H, at most tsc_hz */
    unsigned physical_address_bits; /* MAXPHYADDR of the partition: IA32_APIC_BASE may have no bits from there
                                       on */
    /* An interrupt with vector `vector` that was accepted as level-triggered has ended. `context`: the
     * host's. */
    void (*eoi)(void *context, uint8_t vector);
};

/*
 * Edge-triggered vectors that others have requested, as a processor with posted interrupts takes them from
 * there by itself (SDM vol. 3, "Posted-interrupt processing": the descriptor).
 */
struct lapic_posted {
    uint64_t requests[4]; /* bit n of all: vector n */
    uint32_t control; /* bit 0: outstanding notification; bit 1: suppress it; 23:16: notification vector */
    uint32_t destination; /* of notifications that devices send; unused */
    uint64_t available[3];
};

#define LAPIC_POSTED_OUTSTANDING BIT(0)

/* All that others may write of a local APIC, by atomic operations only. */
struct lapic_mailbox {
    struct lapic_posted posted __aligned(64);
    uint64_t levels[4]; /* likewise: level-triggered vectors, which only software takes */
    uint32_t mail; /* everything else: enum lapic_mail in lapic_private.h; bits 15:8: the SIPI's vector */
};

/* Bits 11:10 of IA32_APIC_BASE. */
enum lapic_mode {
    LAPIC_MODE_DISABLED = 0,
    LAPIC_MODE_INVALID = 1, /* no write leads there */
    LAPIC_MODE_XAPIC = 2,
    LAPIC_MODE_X2APIC = 3,
};

struct lapic {
    struct lapic_mailbox mailbox;
    uint32_t *page; /* the registers; page[offset / 4] */
    struct lapic_settings settings;
    unsigned id;          /* vCPU number and APIC ID; its index in settings.all */
    uint64_t base;        /* IA32_APIC_BASE */
    uint64_t deadline;    /* partition TSC at which the timer expires; VDEV_NEVER if it is disarmed */
    uint64_t timer_start; /* one-shot and periodic: timer clock at which the present period began */
    uint32_t errors;      /* seen since ESR was last written: what it will show next */
    bool extint;          /* an ExtINT message came and was not taken yet */
    uint8_t lint[2];      /* levels of the LINT0 and LINT1 pins, others' to write */
    uint32_t copy[LAPIC_SELF_IPI / 16 + 1]; /* of each register, what was last put there by this model */
};

/*
 * Brings settings->all[id] to its power-on state. `page` is 4 KiB, aligned so, for as long as the APIC lives,
 * the caller's; it is cleared. APIC 0 is the bootstrap processor's.
 */
void lapic_init(struct lapic *lapic, const struct lapic_settings *settings, unsigned id, void *page);

/* Power-up or RESET: also IA32_APIC_BASE goes back to its default, and the mailbox is emptied: nobody may
 * post meanwhile. */
void lapic_reset(struct lapic *lapic);

/* The vCPU takes an INIT: all registers but IA32_APIC_BASE (and so mode and ID) go to their power-on state.
 */
void lapic_reset_by_init(struct lapic *lapic);

/*
 * Firmware's hand-over in virtual wire mode: APIC enabled, LINT0 ExtINT, LINT1 NMI. For the bootstrap
 * processor of a partition that boots without firmware.
 */
void lapic_enable_virtual_wire(struct lapic *lapic);

static inline enum lapic_mode lapic_mode(const struct lapic *lapic)
{
    return (enum lapic_mode)(lapic->base >> 10 & 3);
}

/* True if an access to `gpa` is one to the register page: xAPIC mode, and the page is where IA32_APIC_BASE
 * says. */
bool lapic_decodes(const struct lapic *lapic, gpa_t gpa);

/*
 * Access to the register page at byte `offset` below 4096 in xAPIC mode, `size` 1, 2, 4 or 8. A read may
 * touch part of a register; bytes 4 to 15 of each read as zero. Only aligned 32-bit writes have an effect.
 */
uint64_t lapic_mmio_read(struct lapic *lapic, unsigned offset, unsigned size);
void lapic_mmio_write(struct lapic *lapic, unsigned offset, unsigned size, uint64_t value);

/*
 * The processor has virtualised a write to the register at `offset` (bits 11:4 count): the value is in the
 * page already, whole, and what follows from it is to be done (SDM vol. 3, "APIC-write VM exits").
 */
void lapic_write_virtualized(struct lapic *lapic, unsigned offset);

/* RDMSR and WRMSR of one of the LAPIC_MSR_... above. -EINVAL: the guest gets #GP(0), and nothing has changed.
 */
int lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *value) __must_check;
int lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value) __must_check;

/* MOV from and to CR8: the task-priority class, 0 to 15 (more is the caller's #GP). */
uint8_t lapic_cr8_read(const struct lapic *lapic);
void lapic_cr8_write(struct lapic *lapic, uint8_t value);

/* The vector that the processor would be offered now, by IRR and PPR, or -1. */
int lapic_pending(const struct lapic *lapic);

/* Acknowledges what lapic_pending returned (it must not be -1): IRR to ISR. Returns the vector. */
uint8_t lapic_take(struct lapic *lapic);

/* End of interrupt, as a write to the EOI register does it. */
void lapic_eoi(struct lapic *lapic);

/* The processor has virtualised the EOI of `vector`, out of ISR already: the rest of it, if it was
 * level-triggered. */
void lapic_eoi_virtualized(struct lapic *lapic, uint8_t vector);

/*
 * The VMCS TPR threshold: the class that the guest's TPR has to fall below for an interrupt that waits for
 * just that; 0 if none does (SDM vol. 3, "TPR Virtualization").
 */
uint8_t lapic_tpr_threshold(const struct lapic *lapic);

/* The partition TSC at which lapic_expire must be called, or VDEV_NEVER. */
static inline uint64_t lapic_deadline(const struct lapic *lapic)
{
    return lapic->deadline;
}

/* Lets the timer expire if its time has come; does nothing before. `now`: partition TSC. */
void lapic_expire(struct lapic *lapic, uint64_t now);

/*
 * True if a request of the 8259 reaches this vCPU as an external interrupt: by LINT0 in ExtINT mode, by an
 * ExtINT message from the IO-APIC, or because the local APIC is disabled by IA32_APIC_BASE.
 */
bool lapic_accepts_extint(const struct lapic *lapic);

/* The vCPU has made the INTA cycle: an ExtINT message is used up. */
void lapic_extint_taken(struct lapic *lapic);

/* The level of pin LINT0 or LINT1 (`pin` 0 or 1): the output of the 8259, and NMI. Any processor, one at a
 * time. */
void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level);

/*
 * Posts `message` to those of the `count` APICs in `all` that it is meant for. True if at least one is there
 * to take it. Any processor. A level-triggered message that an APIC refuses after all, because it has been
 * disabled meanwhile, is answered by lapic_settings.eoi when it is received.
 */
bool lapic_deliver(struct lapic *all, unsigned count, const struct lapic_message *message);

/*
 * Takes what is in the mailbox: vectors into IRR and TMR, changes of the pins, ExtINT; then vdev_ops.ipi for
 * NMI, INIT and start-up, in this order. Called when vdev_ops.wake or `posted` was, before the next entry.
 */
void lapic_receive(struct lapic *lapic);
