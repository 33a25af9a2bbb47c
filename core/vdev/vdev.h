// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What every device model shares. A model is pure C: a struct, an init function, read and write functions,
 * and where it keeps time a pair of `..._deadline` / `..._expire`. It knows neither VMX nor the partition;
 * what it needs from above it asks through struct vdev_ops, one instance for all devices of a partition.
 *
 * Time is the partition's TSC. A device of the board is touched by one processor at a time, which holds the
 * board's lock (core/vdev/platform.h); a local APIC by its owner, the processor that runs its vCPU.
 */
#include "lib/types.h"

#define VDEV_NEVER UINT64_MAX

enum vdev_power {
    VDEV_POWER_OFF,
    VDEV_POWER_RESET,
};

/* Interprocessor messages that are not ordinary vectors (SDM vol. 3, "Local APIC": delivery modes). */
enum vdev_ipi {
    VDEV_IPI_NMI,
    VDEV_IPI_INIT,
    VDEV_IPI_SIPI,
};

struct vdev_ops {
    /* The partition's TSC now. */
    uint64_t (*now)(void *context);
    /* An ISA interrupt line (0-15, or a GSI up to 23) changes its level. */
    void (*set_irq)(void *context, unsigned line, bool level);
    /* The guest asks to be powered off or reset. Takes effect when the current exit has been handled. */
    void (*power)(void *context, enum vdev_power what);
    /* The guest's console writes a byte. */
    void (*console_write)(void *context, char byte);
    /*
     * vCPU `vcpu` may have a new interrupt to take, or its local APIC's mailbox something to receive: receive
     * and re-evaluate before its next entry, wake it if it is halted. From any processor.
     */
    void (*wake)(void *context, unsigned vcpu);
    /*
     * The same, if all that came is in the part of the mailbox that has the layout of a posted-interrupt
     * descriptor: a vCPU that runs with posted interrupts takes it without an exit when its processor gets
     * the notification vector. NULL: `wake` is called instead.
     */
    void (*posted)(void *context, unsigned vcpu);
    /*
     * vCPU `vcpu` takes an NMI, INIT or start-up message (`vector`: the SIPI's). Always from its owner; of an
     * INIT the callee resets the local APIC (lapic_reset_by_init) as well.
     */
    void (*ipi)(void *context, unsigned vcpu, enum vdev_ipi kind, uint8_t vector);
};

/* Handed to each device at init, and kept by it. */
struct vdev_host {
    const struct vdev_ops *ops;
    void *context;
    uint64_t tsc_hz; /* ticks of the partition's TSC a second */
};

static inline uint64_t vdev_now(const struct vdev_host *host)
{
    return host->ops->now(host->context);
}

static inline void vdev_set_irq(const struct vdev_host *host, unsigned line, bool level)
{
    host->ops->set_irq(host->context, line, level);
}
