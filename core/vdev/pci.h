// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * PCI configuration space by mechanism 1 (PCI 3.0, section 3.2.2.3.2): the address at port 0xCF8, the data at
 * 0xCFC. Bus 0 has the host bridge 00:00.0 and nothing else; who is not there reads as all ones.
 */
#include "core/vdev/vdev.h"

#define PCI_CONFIG_ADDRESS 0xcf8
#define PCI_CONFIG_DATA    0xcfc
#define PCI_CONFIG_PORTS   8 /* ports from PCI_CONFIG_ADDRESS */

struct pci {
    uint32_t address; /* as written: enable, bus, device, function, register */
};

void pci_init(struct pci *pci);

/*
 * `size` 1, 2 or 4 bytes at `offset` (0-7, not reaching beyond 8) from PCI_CONFIG_ADDRESS. The address
 * register answers only to four bytes at offset 0.
 */
uint32_t pci_read(const struct pci *pci, unsigned offset, unsigned size);
void pci_write(struct pci *pci, unsigned offset, unsigned size, uint32_t value);
