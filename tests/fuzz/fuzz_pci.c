// SPDX-License-Identifier: BSD-2-Clause
/*
 * Two partitions that share a region and a doorbell, and any sequence of accesses to configuration space,
 * BARs and doorbells. Fails on an access outside the region, undefined behaviour, a read-only bit that
 * changes, a message that no local APIC could get, or one from a peer to a partition that does not listen.
 */
#include "core/shared.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define GUESTS 2
#define POOL   KIB(32)
#define REGION KIB(8)

static void require(bool condition)
{
    if (!condition)
        abort();
}

static struct guest {
    struct shared_ends ends;
    struct p2m p2m;
    struct p2m_region regions[4];
    struct pci pci;
    bool listens;
} guests[GUESTS];

static const struct guest *acting;

static void deliver(void *context, const struct lapic_message *message)
{
    const struct guest *guest = context;

    /* What waited comes by the guest's own unmasking. */
    require(guest->listens || guest == acting);
    require(message->mode <= LAPIC_EXTINT && message->mode != 3 && message->mode != LAPIC_SIPI);
    require(message->destination <= 0xfe || message->destination == LAPIC_BROADCAST);
}

/* The stream of choices: zeros when it has run out. */
struct stream {
    const uint8_t *data;
    size_t size;
};

static uint64_t next(struct stream *stream, unsigned bytes)
{
    uint64_t value = 0;

    if (stream->size < bytes)
        bytes = (unsigned)stream->size;
    memcpy(&value, stream->data, bytes);
    stream->data += bytes;
    stream->size -= bytes;
    return value;
}

static void config_access(struct guest *guest, struct stream *stream, uint8_t how)
{
    unsigned access = 1u << (how & 3) % 3;
    unsigned offset = (unsigned)next(stream, 1) % (PCI_CONFIG_PORTS - access + 1);

    if (how & 4)
        pci_write(&guest->pci, 0, 4, 0x80000000 | (how >> 3 & 3) << 11 | (uint32_t)next(stream, 1));
    if (how & 0x20)
        pci_write(&guest->pci, offset, access, (uint32_t)next(stream, access));
    else
        require(access == 4 || pci_read(&guest->pci, offset, access) >> 8 * access == 0);
}

/* Near a BAR where it was assigned, or wherever the guest says. */
static void memory_access(struct guest *guest, struct stream *stream, uint8_t how)
{
    unsigned access = 1u << (how & 3);
    const struct shared_end *end = &guest->ends.ends[how >> 2 & 1];
    uint64_t address =
        end->device.function.bars[(how >> 3 & 3) % 3].address + next(stream, 2) % (REGION + 64);
    uint64_t value = 0;

    if (how & 0x20)
        address = next(stream, 8);
    if (how & 0x40)
        (void)pci_mmio_write(&guest->pci, GPA(address), access, next(stream, access));
    else if (pci_mmio_read(&guest->pci, GPA(address), access, &value))
        require(access == 8 || value >> 8 * access == 0);
}

static void check_constants(struct guest *guest)
{
    for (unsigned i = 0; i < guest->ends.count; i++) {
        const struct pci_function *function = &guest->ends.ends[i].device.function;

        for (unsigned at = 0; at < PCI_CONFIG_SIZE; at++)
            require(((function->config[at] ^ function->power_on[at]) & ~function->writable[at]) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct config_partition config = {
        .shared = {{.name = {"bell", 4}}, {.name = {"memory", 6}, .size = REGION}}, .shared_count = 2};
    static const struct msix_ops ops = {.deliver = deliver};
    struct frame_extent extents[16];
    struct frame_pool pool;
    struct stream stream = {data, size};
    static uint8_t memory[POOL] __aligned(PAGE_SIZE), before[POOL];
    const char *why;

    memset(memory, 0x5a, POOL);
    memset(before, 0x5a, POOL);
    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), NULL);
    require(frame_pool_add(&pool, HPA((uintptr_t)memory), POOL, FRAME_OWNER_FREE) == 0);
    for (unsigned i = 0; i < GUESTS; i++) {
        struct guest *guest = &guests[i];
        const struct shared_partition partition = {
            .frames = &pool, .p2m = &guest->p2m, .pci = &guest->pci, .msix_ops = &ops, .msix_context = guest};

        memset(guest, 0, sizeof(*guest));
        p2m_init(&guest->p2m, guest->regions, ARRAY_SIZE(guest->regions), &pool,
                 (uint16_t)(FRAME_OWNER_PARTITION + i));
        pci_init(&guest->pci);
        require(shared_build(&guest->ends, &config, &partition, &why) == 0);
    }

    while (stream.size != 0) {
        uint8_t what = (uint8_t)next(&stream, 1), how = (uint8_t)next(&stream, 1);
        struct guest *guest = &guests[what & 1];

        acting = guest;
        switch (what >> 1 & 7) {
        case 0:
        case 1:
        case 2:
            config_access(guest, &stream, how);
            break;
        case 3:
        case 4:
        case 5:
            memory_access(guest, &stream, how);
            break;
        case 6:
            require(shared_ring(&guest->ends, how & 3, next(&stream, 1) & 3, next(&stream, 1) & 15) <= 0);
            break;
        default:
            if (how & 2)
                pci_reset(&guest->pci);
            guest->listens |= how & 1;
            shared_listen(&guest->ends, how & 1);
            guest->listens = how & 1;
            break;
        }
    }
    for (unsigned i = 0; i < GUESTS; i++)
        check_constants(&guests[i]);
    /* Nothing but the region has changed. */
    size_t start = (size_t)(guests[0].regions[0].hpa.value - (uintptr_t)memory);
    require(memcmp(memory, before, start) == 0);
    require(memcmp(&memory[start + REGION], before, POOL - REGION - start) == 0);
    for (unsigned i = 0; i < GUESTS; i++)
        shared_release(&guests[i].ends, &pool);
    require(frame_total(&pool, FRAME_OWNER_DIRTY) == REGION / PAGE_SIZE);
    return 0;
}
