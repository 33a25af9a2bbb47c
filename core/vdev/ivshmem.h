// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * One partition's end of a region that partitions share: a PCI function with the layout of QEMU's inter-VM
 * shared memory device (vendor 1AF4H, device 1110H), revision 1, so that drivers made for that one bind.
 *
 *   BAR0  256 bytes of registers: IVPosition, Doorbell
 *   BAR1  MSI-X
 *   BAR2  the memory, 64-bit prefetchable
 *
 * A doorbell alone has a BAR2 as well, since drivers refuse a function without: one page that reads as zero
 * and keeps nothing.
 *
 * The p2m maps the memory where BAR2 was assigned, so accesses there do not come here. They do if the guest
 * moves the BAR: right, but slow.
 */
#include "core/vdev/pci.h"

#define IVSHMEM_VENDOR     0x1af4
#define IVSHMEM_DEVICE     0x1110
#define IVSHMEM_REVISION   1
#define IVSHMEM_VECTORS    8

#define IVSHMEM_BAR_REGS   0
#define IVSHMEM_BAR_MSIX   1
#define IVSHMEM_BAR_MEMORY 2

/* Registers of BAR0, 4 bytes each. Of the others revision 1 says that they are reserved: zero, and kept so.
 */
#define IVSHMEM_POSITION   0x08 /* read: this end's peer number */
#define IVSHMEM_DOORBELL   0x0c /* write: peer << 16 | vector */
#define IVSHMEM_REGS_SIZE  0x100

struct ivshmem;

struct ivshmem_ops {
    /*
     * The guest rings `vector` of `peer`, both as it wrote them: whoever is not there hears nothing. Called
     * under the board's lock.
     */
    void (*ring)(struct ivshmem *ivshmem, unsigned peer, unsigned vector);
};

/* How an end is set up. */
struct ivshmem_settings {
    unsigned peer; /* its number, for IVPosition */
    void *memory;  /* the region as Umbra reaches it, kept; NULL: a doorbell alone */
    uint64_t size; /* of the memory, bytes: a power of two of at least PAGE_SIZE; 0 with a doorbell alone */
    const struct ivshmem_ops *ops;   /* kept */
    const struct msix_ops *msix_ops; /* kept: where its own interrupts go */
    void *msix_context;
};

struct ivshmem {
    struct pci_function function;
    struct msix msix;
    struct ivshmem_settings settings;
};

/* A function ready for pci_add. The struct does not move as long as it lives. */
void ivshmem_init(struct ivshmem *ivshmem, const struct ivshmem_settings *settings);

/* Where BAR2 was assigned, after pci_add. */
gpa_t ivshmem_memory_address(const struct ivshmem *ivshmem);

/* Somebody rings: interrupt `vector`. Any processor; the ivshmem must live as long as the call. */
void ivshmem_interrupt(struct ivshmem *ivshmem, unsigned vector);
