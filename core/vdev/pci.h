// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * PCI bus 0 of a partition: configuration space by mechanism 1 (PCI 3.0, section 3.2.2.3.2), the address at
 * port 0xCF8, the data at 0xCFC; the host bridge 00:00.0, and the functions that are added, each a device of
 * its own. Who is not there reads as all ones.
 *
 * A function's configuration space is data: bytes, and which of their bits a guest may write. Its BARs are
 * memory; their addresses are assigned when it is added, as firmware would, and assigned again at each reset,
 * the function enabled. An access to memory finds its function by what the BARs say at that moment.
 *
 * Everything here is called under the board's lock, or while no vCPU of the partition runs.
 */
#include "core/vdev/msix.h"
#include "core/vdev/vdev.h"

#define PCI_CONFIG_ADDRESS   0xcf8
#define PCI_CONFIG_DATA      0xcfc
#define PCI_CONFIG_PORTS     8 /* ports from PCI_CONFIG_ADDRESS */

#define PCI_DEVICES_MAX      32
#define PCI_BARS             6
#define PCI_CONFIG_SIZE      256

/* Where BARs are assigned: what the DSDT gives the bus. It begins where RAM below 4 GiB ends at the latest.
 */
#define PCI_WINDOW_START     0xc0000000ULL
#define PCI_WINDOW_END       0xfec00000ULL

/* Registers of a header of type 0. */
#define PCI_VENDOR_ID        0x00
#define PCI_DEVICE_ID        0x02
#define PCI_COMMAND          0x04
#define PCI_STATUS           0x06
#define PCI_REVISION         0x08
#define PCI_CLASS            0x09 /* three bytes: interface, subclass, class */
#define PCI_BAR(n)           (0x10 + 4 * (n))
#define PCI_SUBSYSTEM_VENDOR 0x2c
#define PCI_SUBSYSTEM_ID     0x2e
#define PCI_CAPABILITIES     0x34
#define PCI_FIRST_FREE       0x40 /* capabilities stand from here on */

#define PCI_COMMAND_MEMORY   BIT(1)
#define PCI_COMMAND_MASTER   BIT(2)

/* Flags of a memory BAR, its low bits. */
#define PCI_BAR_64           0x4 /* takes the next BAR as well */
#define PCI_BAR_PREFETCH     0x8

struct pci_function;

struct pci_function_ops {
    /*
     * `size` 1, 2, 4 or 8 bytes at `offset` of the memory that BAR `bar` describes, all within it. A read
     * returns zeros above `size` bytes. A BAR that holds MSI-X is not asked for.
     */
    uint64_t (*read)(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size);
    void (*write)(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size,
                  uint64_t value);
};

struct pci_bar {
    uint64_t size;    /* bytes, a power of two of at least 16; 0: no BAR */
    uint64_t address; /* assigned by pci_add */
};

struct pci_function {
    const struct pci_function_ops *ops; /* NULL if no BAR needs any */
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t power_on[PCI_CONFIG_SIZE]; /* what config is at reset */
    uint8_t writable[PCI_CONFIG_SIZE]; /* bits that a guest may change */
    struct pci_bar bars[PCI_BARS];
    uint8_t capability; /* the last that was added, whose next byte is still 0; 0: none */
    uint16_t free;      /* where the next capability may stand */
    struct msix *msix;  /* NULL if it has none */
    uint8_t msix_capability;
    uint8_t msix_bar;
};

/* What is the same in every function of a kind. */
struct pci_identity {
    uint16_t vendor, device;
    uint16_t subsystem_vendor, subsystem;
    uint8_t revision;
    uint32_t class; /* class << 16 | subclass << 8 | interface */
};

struct pci {
    uint32_t address;                              /* as written: enable, bus, device, function, register */
    struct pci_function *devices[PCI_DEVICES_MAX]; /* function 0 of each, from device 1 on without gaps */
};

/* ---- A function, before it is added -------------------------------------------------------------------- */

/* A function without BARs and capabilities. `ops` is kept. */
void pci_function_init(struct pci_function *function, const struct pci_identity *identity,
                       const struct pci_function_ops *ops);

/* Gives it memory BAR `bar` of `size` bytes (a power of two of at least 16), with the flags PCI_BAR_…. */
void pci_function_add_bar(struct pci_function *function, unsigned bar, uint64_t size, uint32_t flags);

/*
 * Appends a capability of `size` bytes (with its header: id, next) to the list, all of it zero and read-only
 * but for the header. Returns where it stands. There must be room: PCI_CONFIG_SIZE - PCI_FIRST_FREE for all.
 */
unsigned pci_function_add_capability(struct pci_function *function, uint8_t id, unsigned size);

/* Gives it MSI-X by `msix` (initialised, kept) in BAR `bar`, which is added: one page. */
void pci_function_add_msix(struct pci_function *function, struct msix *msix, unsigned bar);

/* ---- The bus ------------------------------------------------------------------------------------------- */

/* An empty bus, but for the host bridge. */
void pci_init(struct pci *pci);

/*
 * Puts `function` (kept as long as the bus) on the bus as the next device and assigns its BARs, naturally
 * aligned and on pages of their own. -ENOSPC: no device or no address range is left; nothing changed.
 */
int pci_add(struct pci *pci, struct pci_function *function) __must_check;

/* RESET: every function to its power-on state, MSI-X off, BARs where pci_add put them, memory enabled. */
void pci_reset(struct pci *pci);

/*
 * `size` 1, 2 or 4 bytes at `offset` (0-7, not reaching beyond 8) from PCI_CONFIG_ADDRESS. The address
 * register answers only to four bytes at offset 0.
 */
uint32_t pci_read(const struct pci *pci, unsigned offset, unsigned size);
void pci_write(struct pci *pci, unsigned offset, unsigned size, uint32_t value);

/*
 * Memory access of `size` 1, 2, 4 or 8 bytes at `gpa`. False if no BAR that is enabled holds all of it:
 * nobody decodes the address.
 */
bool pci_mmio_read(const struct pci *pci, gpa_t gpa, unsigned size, uint64_t *value);
bool pci_mmio_write(const struct pci *pci, gpa_t gpa, unsigned size, uint64_t value);
