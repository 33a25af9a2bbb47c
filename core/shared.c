// SPDX-License-Identifier: BSD-2-Clause
#include "core/shared.h"

#include "lib/errors.h"
#include "lib/string.h"
#include "mm/physmap.h"

struct shared_member {
    struct spinlock lock;   /* for `listens`, and whoever rings holds it until the peer has been told */
    struct shared_end *end; /* NULL: the number is free. The housekeeper's */
    bool listens;
};

struct shared_region {
    char name[CONFIG_NAME_MAX + 1];
    uint64_t size; /* bytes; 0: a doorbell alone */
    hpa_t base;
    uint64_t cleared;      /* bytes from the start */
    unsigned member_count; /* 0: the region is free */
    struct shared_member members[CONFIG_PARTITIONS_MAX];
};

static struct shared_region regions[SHARED_REGIONS_MAX];

static uint16_t region_owner(const struct shared_region *region)
{
    return (uint16_t)(FRAME_OWNER_SHARED + (region - regions));
}

/* ---- Ringing ------------------------------------------------------------------------------------------- */

static int ring(struct shared_region *region, uint64_t peer, unsigned vector)
{
    struct shared_member *member;
    bool listens;

    if (peer >= ARRAY_SIZE(region->members))
        return -ENOENT;
    member = &region->members[peer];
    spinlock_acquire(&member->lock);
    listens = member->listens;
    if (listens)
        ivshmem_interrupt(&member->end->device, vector);
    spinlock_release(&member->lock);
    return listens ? 0 : -ENOENT;
}

static void device_rings(struct ivshmem *device, unsigned peer, unsigned vector)
{
    /* What the device's specification has no answer for is silently lost. */
    (void)ring(container_of(device, struct shared_end, device)->region, peer, vector);
}

static const struct ivshmem_ops device_ops = {.ring = device_rings};

int shared_ring(struct shared_ends *ends, uint64_t index, uint64_t peer, uint64_t vector)
{
    if (index >= ends->count || vector >= IVSHMEM_VECTORS)
        return -EINVAL;
    return ring(ends->ends[index].region, peer, (unsigned)vector);
}

void shared_listen(struct shared_ends *ends, bool listen)
{
    for (unsigned i = 0; i < ends->count; i++) {
        struct shared_member *member = &ends->ends[i].region->members[ends->ends[i].peer];

        spinlock_acquire(&member->lock);
        member->listens = listen;
        spinlock_release(&member->lock);
    }
}

/* ---- Regions and their members ------------------------------------------------------------------------- */

static struct shared_region *find_region(struct slice name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++) {
        if (regions[i].member_count != 0 && slice_is(name, regions[i].name))
            return &regions[i];
    }
    return NULL;
}

/* log2 of the alignment that lets the largest pages map a region of `size`, a power of two. */
static unsigned alignment_shift(uint64_t size)
{
    unsigned shift = (unsigned)__builtin_ctzll(size);

    return shift < PAGE_SHIFT_1G ? shift : PAGE_SHIFT_1G;
}

/* A region without members, in the first place that is free. */
static int create_region(const struct config_shared *config, struct frame_pool *frames,
                         struct shared_region **created, const char **why)
{
    struct shared_region *region = regions;
    int error = 0;

    while (region < &regions[SHARED_REGIONS_MAX] && region->member_count != 0)
        region++;
    *why = "there are too many shared regions";
    if (region == &regions[SHARED_REGIONS_MAX])
        return -ENOSPC;
    *why = "its name is too long for a shared region";
    if (config->name.length > CONFIG_NAME_MAX)
        return -EINVAL;
    *region = (struct shared_region){.size = config->size};
    memcpy(region->name, config->name.start, config->name.length);
    *why = "there is no free memory in one piece for a shared region";
    if (config->size != 0)
        error = frame_allocate(frames, region_owner(region), config->size / PAGE_SIZE,
                               alignment_shift(config->size), FRAME_ANYWHERE, &region->base);
    *created = region;
    return error;
}

static void leave(struct shared_end *end, struct frame_pool *frames)
{
    struct shared_region *region = end->region;

    region->members[end->peer].end = NULL;
    region->member_count--;
    if (region->member_count == 0)
        frame_release_all(frames, region_owner(region));
}

/* Makes `end` a member of the region that `config` names. */
static int join(struct shared_end *end, const struct config_shared *config, struct frame_pool *frames,
                const char **why)
{
    struct shared_region *region = find_region(config->name);
    int error;

    if (region == NULL) {
        error = create_region(config, frames, &region, why);
        if (error != 0)
            return error;
    } else if (region->size != config->size) {
        *why = "another partition has the shared region with another size";
        return -EINVAL;
    }
    *why = "there are too many members in a shared region";
    for (unsigned peer = 0; peer < ARRAY_SIZE(region->members); peer++) {
        if (region->members[peer].end != NULL)
            continue;
        region->members[peer].end = end;
        region->member_count++;
        end->region = region;
        end->peer = peer;
        return 0;
    }
    return -ENOSPC;
}

/* The member's function on the bus, the memory where its BAR was assigned. */
static int wire(struct shared_end *end, const struct shared_partition *partition, const char **why)
{
    const struct shared_region *region = end->region;
    const struct ivshmem_settings settings = {
        .peer = end->peer,
        .memory = region->size != 0 ? physmap_pointer(region->base) : NULL,
        .size = region->size,
        .ops = &device_ops,
        .msix_ops = partition->msix_ops,
        .msix_context = partition->msix_context,
    };
    int error;

    ivshmem_init(&end->device, &settings);
    *why = "there is no room below 4 GiB for a shared region";
    error = pci_add(partition->pci, &end->device.function);
    if (error != 0 || region->size == 0)
        return error;
    const struct p2m_region memory = {
        .gpa = ivshmem_memory_address(&end->device),
        .hpa = region->base,
        .size = region->size,
        .rights = PAGING_READ | PAGING_WRITE | PAGING_EXECUTE,
        .memory_type = MEMORY_TYPE_WB,
    };
    *why = "a shared region does not fit into its memory map";
    return p2m_add_shared(partition->p2m, &memory, region_owner(region));
}

static bool named_twice(const struct config_partition *config, unsigned index)
{
    for (unsigned i = 0; i < index; i++) {
        if (slice_equal(config->shared[i].name, config->shared[index].name))
            return true;
    }
    return false;
}

int shared_build(struct shared_ends *ends, const struct config_partition *config,
                 const struct shared_partition *partition, const char **why)
{
    int error = 0;

    ends->count = 0;
    for (unsigned i = 0; error == 0 && i < config->shared_count; i++) {
        *why = "it names a shared region twice";
        error = named_twice(config, i) ? -EEXIST : 0;
        if (error == 0)
            error = join(&ends->ends[i], &config->shared[i], partition->frames, why);
        if (error == 0) {
            ends->count = i + 1;
            error = wire(&ends->ends[i], partition, why);
        }
    }
    if (error != 0)
        shared_release(ends, partition->frames);
    return error;
}

void shared_release(struct shared_ends *ends, struct frame_pool *frames)
{
    shared_listen(ends, false);
    for (unsigned i = 0; i < ends->count; i++)
        leave(&ends->ends[i], frames);
    ends->count = 0;
}

bool shared_clear_step(struct shared_ends *ends, uint64_t budget)
{
    for (unsigned i = 0; i < ends->count; i++) {
        struct shared_region *region = ends->ends[i].region;
        uint64_t size = min_u64(budget, region->size - region->cleared);

        if (size != 0)
            memset(physmap_pointer(HPA(region->base.value + region->cleared)), 0, size);
        region->cleared += size;
        budget -= size;
        if (region->cleared < region->size)
            return false;
    }
    return true;
}

bool shared_report(unsigned number, struct shared_report *report)
{
    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++) {
        const struct shared_region *region = &regions[i];

        if (region->member_count == 0 || number-- != 0)
            continue;
        *report = (struct shared_report){region->name, region->size, region->base, region_owner(region),
                                         region->member_count};
        return true;
    }
    return false;
}
