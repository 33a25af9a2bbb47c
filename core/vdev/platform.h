// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The board: every device of a partition, wired as a PC has them. The rest of core/ talks to this struct
 * only.
 *
 * A device's interrupt line n goes to input n of the 8259s and to pin n of the IO-APIC (IRQ 0 to pin 2);
 * lines 16 to 23 are the IO-APIC's alone. The output of the 8259s is LINT0 of every local APIC. There is no
 * firmware; what it would leave behind is part of the power-on state: CMOS filled in, vCPU 0 in virtual wire
 * mode.
 *
 * Each local APIC belongs to the processor that runs its vCPU, and needs no lock. All other devices are under
 * the board's lock, which the functions below take; so any of a partition's processors and the housekeeper
 * may call them, except where a function is said to be the owner's: by the vCPU itself. Of what the host is
 * asked for, `now`, `wake`, `posted`, `power` and `console_write` run under the lock: they must not call back
 * into the board. `ipi` never does.
 */
#include "arch/x86/spinlock.h"
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
    unsigned vcpus;          /* 1 to PLATFORM_VCPUS_MAX */
    uint64_t memory_low;     /* bytes of RAM below 4 GiB, for CMOS */
    uint64_t memory_high;    /* bytes of RAM above 4 GiB */
    int64_t wall_clock;      /* seconds since 1970 at the time of init */
    bool console_uart;       /* false: the serial port is there, but nothing is connected to it */
    uint64_t lapic_timer_hz; /* input clock of the local APIC timers: the crystal that CPUID 15H tells */
    unsigned physical_address_bits; /* MAXPHYADDR of the partition */
};

struct platform {
    struct spinlock lock;   /* of all that follows but the local APICs */
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
    uint8_t post_code; /* last written to port 0x80 */
};

/* One row of the map of I/O ports: who answers to ports `first` to `last`. */
struct platform_port_range {
    uint16_t first;
    uint16_t last;
    /* Takes accesses of 2 and 4 bytes whole; else they are made byte by byte, as an ISA bridge does. */
    bool wide;
    const char *name;
    uint32_t (*read)(struct platform *platform, uint16_t port, unsigned size);
    void (*write)(struct platform *platform, uint16_t port, unsigned size, uint32_t value);
};

/* The map: no two ranges overlap; those in most use are first. */
extern const struct platform_port_range platform_port_ranges[];
extern const unsigned platform_port_range_count;

/*
 * Brings the board to its power-on state. `host` is copied, what it points to is kept. `apic_pages` are
 * settings->vcpus 4 KiB pages, aligned so, the caller's for as long as the platform lives: the register pages
 * of the local APICs.
 */
void platform_init(struct platform *platform, const struct vdev_host *host,
                   const struct platform_settings *settings, void *const *apic_pages);

/*
 * Back to the power-on state, as the reset line does; of CMOS the memory stays. `wall_clock` as in the
 * settings. The partition's TSC may have been set back to zero before.
 */
void platform_reset(struct platform *platform, int64_t wall_clock);

/* Port I/O of `size` 1, 2 or 4 bytes. An address that nobody decodes reads as all ones and ignores writes. */
uint32_t platform_port_read(struct platform *platform, uint16_t port, unsigned size);
void platform_port_write(struct platform *platform, uint16_t port, unsigned size, uint32_t value);

/*
 * Whether reading `port` may bring platform_deadline nearer, as every write may: the UART's received byte
 * starts the time-out of the next, the RTC's register C re-arms what it had flagged.
 */
static inline bool platform_read_moves_deadline(uint16_t port)
{
    return port == 0x3f8 || port == 0x71;
}

/*
 * Memory-mapped I/O by vCPU `vcpu`, the owner, at `gpa`, 1, 2, 4 or 8 bytes: local APIC (where its base
 * says), IO-APIC. False if nobody decodes the address: reads as all ones, writes are lost.
 */
bool platform_mmio_read(struct platform *platform, unsigned vcpu, gpa_t gpa, unsigned size, uint64_t *value);
bool platform_mmio_write(struct platform *platform, unsigned vcpu, gpa_t gpa, unsigned size, uint64_t value);

/* The earliest partition TSC at which a device of vCPU `vcpu` (or, for vCPU 0, of the board) wants
 * platform_expire. Both are the owner's. */
uint64_t platform_deadline(struct platform *platform, unsigned vcpu);
void platform_expire(struct platform *platform, unsigned vcpu, uint64_t now);

/*
 * Takes what others have left for the local APIC of vCPU `vcpu`: to be called by the owner after `wake` or
 * `posted`, before it looks at events. May call `ipi`.
 */
static inline void platform_receive(struct platform *platform, unsigned vcpu)
{
    lapic_receive(&platform->lapics[vcpu]);
}

/*
 * The vector that vCPU `vcpu` (both are the owner's) would take now if its RFLAGS.IF and interruptibility let
 * it, or -1; a request of the 8259 by LINT0 in ExtINT mode, whose vector only the INTA cycle tells, is
 * PLATFORM_INTERRUPT_EXTERNAL. platform_interrupt_take acknowledges it (local APIC: IRR to ISR; 8259: INTA
 * cycle) and returns the vector, or -1 if there is none.
 */
#define PLATFORM_INTERRUPT_EXTERNAL 256
int platform_interrupt_pending(const struct platform *platform, unsigned vcpu);
int platform_interrupt_take(struct platform *platform, unsigned vcpu);

/* A byte typed at the partition's console. False if the receiver is full: offer it again after the next exit.
 */
bool platform_console_input(struct platform *platform, char byte);

/* The operator presses the power button. False if the guest has not enabled it, so that nobody will hear. */
bool platform_press_power_button(struct platform *platform);
