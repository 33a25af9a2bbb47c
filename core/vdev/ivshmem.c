// SPDX-License-Identifier: BSD-2-Clause
#include "core/vdev/ivshmem.h"

#include "lib/string.h"

static const struct pci_identity identity = {
    .vendor = IVSHMEM_VENDOR,
    .device = IVSHMEM_DEVICE,
    .subsystem_vendor = IVSHMEM_VENDOR,
    .subsystem = 0x1100, /* as drivers know it from QEMU */
    .revision = IVSHMEM_REVISION,
    .class = 0x050000, /* memory controller: RAM */
};

/* An aligned access to the memory is one access there too, as others may look at the same time. */
static uint64_t memory_read(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;

    if (!is_aligned((uintptr_t)at, size)) {
        memcpy(&value, at, size);
        return value;
    }
    switch (size) {
    case 1:
        return __atomic_load_n(at, __ATOMIC_RELAXED);
    case 2:
        return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_RELAXED);
    case 4:
        return __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_RELAXED);
    default:
        return __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
    }
}

static void memory_write(uint8_t *at, unsigned size, uint64_t value)
{
    if (!is_aligned((uintptr_t)at, size)) {
        memcpy(at, &value, size);
        return;
    }
    switch (size) {
    case 1:
        __atomic_store_n(at, (uint8_t)value, __ATOMIC_RELAXED);
        break;
    case 2:
        __atomic_store_n((uint16_t *)(void *)at, (uint16_t)value, __ATOMIC_RELAXED);
        break;
    case 4:
        __atomic_store_n((uint32_t *)(void *)at, (uint32_t)value, __ATOMIC_RELAXED);
        break;
    default:
        __atomic_store_n((uint64_t *)(void *)at, value, __ATOMIC_RELAXED);
        break;
    }
}

static uint64_t read_bar(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size)
{
    const struct ivshmem *ivshmem = container_of(function, struct ivshmem, function);

    if (bar == IVSHMEM_BAR_REGS)
        return offset == IVSHMEM_POSITION && size == 4 ? ivshmem->settings.peer : 0;
    if (ivshmem->settings.memory == NULL)
        return 0;
    return memory_read((const uint8_t *)ivshmem->settings.memory + offset, size);
}

static void write_bar(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size,
                      uint64_t value)
{
    struct ivshmem *ivshmem = container_of(function, struct ivshmem, function);

    if (bar == IVSHMEM_BAR_MEMORY && ivshmem->settings.memory != NULL)
        memory_write((uint8_t *)ivshmem->settings.memory + offset, size, value);
    else if (bar == IVSHMEM_BAR_REGS && offset == IVSHMEM_DOORBELL && size == 4)
        ivshmem->settings.ops->ring(ivshmem, (uint32_t)value >> 16, value & 0xffff);
}

static const struct pci_function_ops function_ops = {.read = read_bar, .write = write_bar};

void ivshmem_init(struct ivshmem *ivshmem, const struct ivshmem_settings *settings)
{
    ivshmem->settings = *settings;
    msix_init(&ivshmem->msix, IVSHMEM_VECTORS, settings->msix_ops, settings->msix_context);
    pci_function_init(&ivshmem->function, &identity, &function_ops);
    pci_function_add_bar(&ivshmem->function, IVSHMEM_BAR_REGS, IVSHMEM_REGS_SIZE, 0);
    pci_function_add_msix(&ivshmem->function, &ivshmem->msix, IVSHMEM_BAR_MSIX);
    pci_function_add_bar(&ivshmem->function, IVSHMEM_BAR_MEMORY, max_u64(settings->size, PAGE_SIZE),
                         PCI_BAR_64 | PCI_BAR_PREFETCH);
}

gpa_t ivshmem_memory_address(const struct ivshmem *ivshmem)
{
    return GPA(ivshmem->function.bars[IVSHMEM_BAR_MEMORY].address);
}

void ivshmem_interrupt(struct ivshmem *ivshmem, unsigned vector)
{
    msix_raise(&ivshmem->msix, vector);
}
