// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The board: every device of a partition, wired as a PC has them. The rest of core/ talks to this struct only.
 */
#include "core/vdev/acpi.h"
#include "core/vdev/acpi_pm.h"
#include "core/vdev/ioapic.h"
#include "core/vdev/lapic.h"
#include "core/vdev/pci.h"
#include "core/vdev/pic.h"
#include "core/vdev/pit.h"
#include "core/vdev/rtc.h"
#include "core/vdev/uart.h"
#include "core/vdev/vdev.h"

#define PLATFORM_VCPUS_MAX 32

struct platform_settings {
    unsigned vcpus;
    uint64_t memory_low;  /* bytes of RAM below 4 GiB, for CMOS */
    uint64_t memory_high; /* bytes of RAM above 4 GiB */
    int64_t wall_clock;   /* seconds since 1970 at the time of init */
    bool console_uart;
    bool lapic_tpr_shadow; /* the TPR lives in the virtual-APIC page and the hardware may change it */
};

struct platform {
    struct vdev_host host;  /* what the platform was given */
    struct vdev_host inner; /* what its devices are given: set_irq fans out to PIC and IO-APIC here */
    struct platform_settings settings;
    struct lapic lapics[PLATFORM_VCPUS_MAX];
    struct ioapic ioapic;
    struct pic pic;
    struct pit pit;
    struct rtc rtc;
    struct uart uart;
    struct acpi_pm acpi_pm;
    struct pci pci;
};

/*
 * Brings the board to its power-on state. `apic_pages` are settings->vcpus zeroed 4 KiB pages (the caller's, for as
 * long as the platform lives): the register pages of the local APICs.
 */
void platform_init(struct platform *platform, const struct vdev_host *host,
                   const struct platform_settings *settings, void *const *apic_pages);

/* Back to the power-on state, as the reset line does. */
void platform_reset(struct platform *platform);

/* Port I/O of `size` 1, 2 or 4 bytes. An address that nobody decodes reads as all ones and ignores writes. */
uint32_t platform_port_read(struct platform *platform, uint16_t port, unsigned size);
void platform_port_write(struct platform *platform, uint16_t port, unsigned size, uint32_t value);

/*
 * Memory-mapped I/O by vCPU `vcpu` at `gpa`, 1, 2, 4 or 8 bytes: local APIC (where its base says), IO-APIC. False if
 * nobody decodes the address: reads as all ones, writes are lost.
 */
bool platform_mmio_read(struct platform *platform, unsigned vcpu, gpa_t gpa, unsigned size, uint64_t *value);
bool platform_mmio_write(struct platform *platform, unsigned vcpu, gpa_t gpa, unsigned size, uint64_t value);

/* The earliest partition TSC at which a device of vCPU `vcpu` (or, for vCPU 0, of the board) wants platform_expire. */
uint64_t platform_deadline(const struct platform *platform, unsigned vcpu);
void platform_expire(struct platform *platform, unsigned vcpu, uint64_t now);

/*
 * The vector that vCPU `vcpu` would take now if its RFLAGS.IF and interruptibility let it, or -1. platform_interrupt_take
 * acknowledges it (local APIC: IRR to ISR; 8259 by LINT0 in ExtINT mode: INTA cycle) and returns it.
 */
int platform_interrupt_pending(struct platform *platform, unsigned vcpu);
int platform_interrupt_take(struct platform *platform, unsigned vcpu);

/* A byte typed at the partition's console. False if the receiver is full: offer it again after the next exit. */
bool platform_console_input(struct platform *platform, char byte);
