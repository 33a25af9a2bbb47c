// SPDX-License-Identifier: BSD-2-Clause
/* PCI configuration mechanism 1 and the host bridge. */
#include "core/vdev/pci.h"

#define ADDRESS_ENABLE   BIT(31)
#define ADDRESS_WRITABLE 0x80fffffc
#define ADDRESS_FUNCTION 0x00ffff00 /* bus, device and function */
#define ADDRESS_REGISTER 0x000000fc
#define ALL_ONES         UINT32_MAX

/*
 * 00:00.0, in the guise of the bridge that every system has a line for (Intel 440FX). It needs nothing
 * configured, so all of it is read-only; what is not named reads as zero.
 */
static const uint32_t host_bridge[64] = {
    [0x00 / 4] = 0x12378086, /* device, vendor */
    [0x04 / 4] = 0x00000006, /* status; command: bus master, memory space */
    [0x08 / 4] = 0x06000002, /* class: host bridge; revision */
};

static uint32_t pci_config_read(uint32_t address)
{
    if (!(address & ADDRESS_ENABLE) || address & ADDRESS_FUNCTION)
        return ALL_ONES;
    return host_bridge[(address & ADDRESS_REGISTER) / 4];
}

static uint32_t ones(unsigned size)
{
    return ALL_ONES >> (32 - 8 * size);
}

uint32_t pci_read(const struct pci *pci, unsigned offset, unsigned size)
{
    if (offset >= 4)
        return pci_config_read(pci->address) >> (offset - 4) * 8 & ones(size);
    if (offset == 0 && size == 4)
        return pci->address;
    return ones(size);
}

void pci_write(struct pci *pci, unsigned offset, unsigned size, uint32_t value)
{
    if (offset == 0 && size == 4)
        pci->address = value & ADDRESS_WRITABLE;
}

void pci_init(struct pci *pci)
{
    *pci = (struct pci){0};
}
