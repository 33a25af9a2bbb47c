// SPDX-License-Identifier: BSD-2-Clause
/* The bus: configuration mechanism 1, the host bridge, and which function an address belongs to. */
#include "core/vdev/pci.h"

#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/string.h"

#define ADDRESS_ENABLE      BIT(31)
#define ADDRESS_WRITABLE    0x80fffffc
#define ADDRESS_ELSEWHERE   0x00ff0700 /* another bus, or a function that no device has */
#define ADDRESS_REGISTER    0x000000fc
#define ALL_ONES            UINT32_MAX

#define STATUS_CAPABILITIES 0x0010
#define COMMAND_NO_INTX     0x0400
#define CAPABILITY_MSIX     0x11
#define MSIX_CONTROL        2 /* words and double words of the capability */
#define MSIX_TABLE          4
#define MSIX_PBA            8
#define BAR_FLAGS           0xfULL

/*
 * 00:00.0, in the guise of the bridge that every system has a line for (Intel 440FX). It needs nothing
 * configured, so all of it is read-only; what is not named reads as zero.
 */
static const uint32_t host_bridge[PCI_CONFIG_SIZE / 4] = {
    [0x00 / 4] = 0x12378086, /* device, vendor */
    [0x04 / 4] = 0x00000006, /* status; command: bus master, memory space */
    [0x08 / 4] = 0x06000002, /* class: host bridge; revision */
};

/* The `size` bytes at `at` as a number, and back. */
static uint64_t get(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, at, size);
    return value;
}

static void put(uint8_t *at, unsigned size, uint64_t value)
{
    memcpy(at, &value, size);
}

/* ---- A function ---------------------------------------------------------------------------------------- */

void pci_function_init(struct pci_function *function, const struct pci_identity *identity,
                       const struct pci_function_ops *ops)
{
    *function = (struct pci_function){.ops = ops, .free = PCI_FIRST_FREE};
    put(&function->power_on[PCI_VENDOR_ID], 2, identity->vendor);
    put(&function->power_on[PCI_DEVICE_ID], 2, identity->device);
    put(&function->power_on[PCI_REVISION], 1, identity->revision);
    put(&function->power_on[PCI_CLASS], 3, identity->class);
    put(&function->power_on[PCI_SUBSYSTEM_VENDOR], 2, identity->subsystem_vendor);
    put(&function->power_on[PCI_SUBSYSTEM_ID], 2, identity->subsystem);
    put(&function->power_on[PCI_COMMAND], 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    put(&function->writable[PCI_COMMAND], 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | COMMAND_NO_INTX);
}

void pci_function_add_bar(struct pci_function *function, unsigned bar, uint64_t size, uint32_t flags)
{
    unsigned bytes = flags & PCI_BAR_64 ? 8 : 4;

    invariant(bar + bytes / 4 <= PCI_BARS && size >= 16 && (size & (size - 1)) == 0);
    function->bars[bar].size = size;
    put(&function->power_on[PCI_BAR(bar)], bytes, flags);
    put(&function->writable[PCI_BAR(bar)], bytes, ~(size - 1));
}

unsigned pci_function_add_capability(struct pci_function *function, uint8_t id, unsigned size)
{
    unsigned at = function->free;

    invariant(at + size <= PCI_CONFIG_SIZE);
    put(&function->power_on[at], 2, id);
    if (function->capability == 0) {
        put(&function->power_on[PCI_CAPABILITIES], 1, at);
        put(&function->power_on[PCI_STATUS], 2, STATUS_CAPABILITIES);
    } else {
        put(&function->power_on[function->capability + 1], 1, at);
    }
    function->capability = (uint8_t)at;
    function->free = (uint16_t)align_up(at + size, 4);
    return at;
}

void pci_function_add_msix(struct pci_function *function, struct msix *msix, unsigned bar)
{
    unsigned at = pci_function_add_capability(function, CAPABILITY_MSIX, 12);

    pci_function_add_bar(function, bar, MSIX_PAGE_SIZE, 0);
    put(&function->power_on[at + MSIX_CONTROL], 2, msix->count - 1);
    put(&function->writable[at + MSIX_CONTROL], 2, MSIX_ENABLE | MSIX_MASK_ALL);
    put(&function->power_on[at + MSIX_TABLE], 4, MSIX_TABLE_OFFSET | bar);
    put(&function->power_on[at + MSIX_PBA], 4, MSIX_PBA_OFFSET | bar);
    function->msix = msix;
    function->msix_capability = (uint8_t)at;
    function->msix_bar = (uint8_t)bar;
}

/* The registers have changed: what follows from them. */
static void apply(struct pci_function *function)
{
    if (function->msix != NULL)
        msix_set_control(function->msix,
                         (uint16_t)get(&function->config[function->msix_capability + MSIX_CONTROL], 2),
                         (get(&function->config[PCI_COMMAND], 2) & PCI_COMMAND_MASTER) != 0);
}

static void reset_function(struct pci_function *function)
{
    memcpy(function->config, function->power_on, sizeof(function->config));
    if (function->msix != NULL)
        msix_reset(function->msix);
    apply(function);
}

static void write_function(struct pci_function *function, unsigned at, unsigned size, uint32_t value)
{
    for (unsigned i = at; i < at + size; i++, value >>= 8)
        function->config[i] =
            (uint8_t)((function->config[i] & ~function->writable[i]) | (value & function->writable[i]));
    apply(function);
}

/* ---- Configuration space by ports ---------------------------------------------------------------------- */

static struct pci_function *addressed(const struct pci *pci)
{
    if ((pci->address & ADDRESS_ENABLE) == 0 || (pci->address & ADDRESS_ELSEWHERE) != 0)
        return NULL;
    return pci->devices[pci->address >> 11 & (PCI_DEVICES_MAX - 1)];
}

static uint32_t ones(unsigned size)
{
    return ALL_ONES >> (32 - 8 * size);
}

uint32_t pci_read(const struct pci *pci, unsigned offset, unsigned size)
{
    const struct pci_function *function = addressed(pci);
    unsigned index = pci->address & ADDRESS_REGISTER;

    if (offset < 4)
        return offset == 0 && size == 4 ? pci->address : ones(size);
    if ((pci->address & ~ADDRESS_REGISTER) == ADDRESS_ENABLE)
        return host_bridge[index / 4] >> 8 * (offset - 4) & ones(size);
    return function == NULL ? ones(size) : (uint32_t)get(&function->config[index + offset - 4], size);
}

void pci_write(struct pci *pci, unsigned offset, unsigned size, uint32_t value)
{
    struct pci_function *function = addressed(pci);

    if (offset == 0 && size == 4)
        pci->address = value & ADDRESS_WRITABLE;
    else if (offset >= 4 && function != NULL)
        write_function(function, (pci->address & ADDRESS_REGISTER) + offset - 4, size, value);
}

/* ---- Memory -------------------------------------------------------------------------------------------- */

/* Where the guest has put `bar`. */
static uint64_t bar_base(const struct pci_function *function, unsigned bar)
{
    const uint8_t *at = &function->config[PCI_BAR(bar)];

    return get(at, *at & PCI_BAR_64 ? 8 : 4) & ~BAR_FLAGS;
}

/* The BAR of `function` that holds all `size` bytes at `address`, with the offset in it; PCI_BARS if none
 * does. */
static unsigned find_bar(const struct pci_function *function, uint64_t address, unsigned size,
                         uint64_t *offset)
{
    if ((get(&function->config[PCI_COMMAND], 2) & PCI_COMMAND_MEMORY) == 0)
        return PCI_BARS;
    for (unsigned bar = 0; bar < PCI_BARS; bar++) {
        uint64_t length = function->bars[bar].size;

        if (length == 0)
            continue;
        *offset = address - bar_base(function, bar);
        if (*offset < length && size <= length - *offset)
            return bar;
    }
    return PCI_BARS;
}

static struct pci_function *find_function(const struct pci *pci, uint64_t address, unsigned size,
                                          unsigned *bar, uint64_t *offset)
{
    for (unsigned i = 1; i < PCI_DEVICES_MAX && pci->devices[i] != NULL; i++) {
        *bar = find_bar(pci->devices[i], address, size, offset);
        if (*bar < PCI_BARS)
            return pci->devices[i];
    }
    return NULL;
}

bool pci_mmio_read(const struct pci *pci, gpa_t gpa, unsigned size, uint64_t *value)
{
    unsigned bar;
    uint64_t offset;
    struct pci_function *function = find_function(pci, gpa.value, size, &bar, &offset);

    if (function == NULL)
        return false;
    if (function->msix != NULL && bar == function->msix_bar)
        *value = msix_read(function->msix, (unsigned)offset, size);
    else
        *value = function->ops->read(function, bar, offset, size);
    return true;
}

bool pci_mmio_write(const struct pci *pci, gpa_t gpa, unsigned size, uint64_t value)
{
    unsigned bar;
    uint64_t offset;
    struct pci_function *function = find_function(pci, gpa.value, size, &bar, &offset);

    if (function == NULL)
        return false;
    if (function->msix != NULL && bar == function->msix_bar)
        msix_write(function->msix, (unsigned)offset, size, value);
    else
        function->ops->write(function, bar, offset, size, value);
    return true;
}

/* ---- Putting functions on the bus ---------------------------------------------------------------------- */

/* What a BAR occupies: systems hand BARs to programs by pages, so no two share one. */
static uint64_t span(const struct pci_bar *bar)
{
    return max_u64(bar->size, PAGE_SIZE);
}

/* The lowest address that `function` has assigned in [start, end); `end` if none. */
static uint64_t lowest_in(const struct pci_function *function, uint64_t start, uint64_t end)
{
    uint64_t lowest = end;

    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &function->bars[i];
        if (bar->address != 0 && bar->address < end && bar->address + span(bar) > start)
            lowest = min_u64(lowest, bar->address);
    }
    return lowest;
}

/*
 * The highest free place in the window for `bar` of `function`, or 0. From the top down small ones gather
 * there, and leave the large their alignment below. The window's start is aligned to whatever fits into it.
 */
static uint64_t find_place(const struct pci *pci, const struct pci_function *function,
                           const struct pci_bar *bar)
{
    const uint64_t size = span(bar);
    uint64_t free_end = PCI_WINDOW_END;

    while (free_end >= PCI_WINDOW_START + size) {
        uint64_t start = align_down(free_end - size, size);
        uint64_t end = start + size;

        free_end = lowest_in(function, start, end);
        for (unsigned i = 1; i < PCI_DEVICES_MAX && pci->devices[i] != NULL; i++)
            free_end = min_u64(free_end, lowest_in(pci->devices[i], start, end));
        if (free_end == end)
            return start;
    }
    return 0;
}

int pci_add(struct pci *pci, struct pci_function *function)
{
    unsigned device = 1;

    while (device < PCI_DEVICES_MAX && pci->devices[device] != NULL)
        device++;
    if (device == PCI_DEVICES_MAX)
        return -ENOSPC;
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bars[i];

        if (bar->size == 0)
            continue;
        bar->address = find_place(pci, function, bar);
        if (bar->address == 0)
            return -ENOSPC;
        put(&function->power_on[PCI_BAR(i)], 4, bar->address | function->power_on[PCI_BAR(i)]);
    }
    pci->devices[device] = function;
    reset_function(function);
    return 0;
}

void pci_reset(struct pci *pci)
{
    pci->address = 0;
    for (unsigned i = 1; i < PCI_DEVICES_MAX && pci->devices[i] != NULL; i++)
        reset_function(pci->devices[i]);
}

void pci_init(struct pci *pci)
{
    *pci = (struct pci){0};
}
