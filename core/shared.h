// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Regions that partitions share, and the doorbells between them. A region comes into being with the first
 * partition that names it, and goes with the last; each partition's end of it is a PCI function (ivshmem.h).
 *
 * A region's members are numbered from 0, in the order in which they came; the number stays as long as the
 * member does, and is the peer number that others ring it by.
 *
 * Regions are made and given back by the housekeeper alone. Ringing is anybody's: it takes the lock of the
 * peer that is rung, inside the ringer's board lock if there is one, and nothing inside it; so it never waits
 * for a partition, only for others who ring the same peer. A ring that reaches no member, or one that does
 * not run, is lost.
 */
#include "arch/x86/spinlock.h"
#include "core/config/config.h"
#include "core/vdev/ivshmem.h"
#include "mm/p2m.h"

#define SHARED_REGIONS_MAX FRAME_SHARED_MAX

struct shared_region;

/* A partition's end of a region. */
struct shared_end {
    struct shared_region *region;
    unsigned peer; /* its number among the members */
    struct ivshmem device;
};

/* All ends of a partition, in the order of its configuration. Part of the partition; zeroed: none. */
struct shared_ends {
    struct shared_end ends[CONFIG_SHARED_MAX];
    unsigned count;
};

/* What a partition's ends are built on; all of it must live until shared_release. */
struct shared_partition {
    struct frame_pool *frames;
    struct p2m *p2m;
    struct pci *pci;
    const struct msix_ops *msix_ops; /* delivery to its local APICs: by any processor, taking no lock */
    void *msix_context;
};

/*
 * Makes `partition` a member of each region that `config` names and puts their functions on its bus, the
 * memory in its p2m. On errors nothing is left but functions on the bus, which is then to be thrown away, and
 * *why is a sentence for the operator: -EINVAL: others use the name with another size; -EEXIST: named twice;
 * -ENOMEM: no such run of free frames; -ENOSPC: too many regions, or no room below 4 GiB; and what
 * p2m_add_shared returns. Housekeeper.
 */
int shared_build(struct shared_ends *ends, const struct config_partition *config,
                 const struct shared_partition *partition, const char **why) __must_check;

/*
 * The partition leaves all its regions; the memory of those that have lost their last member goes back to the
 * pool. It is not listening any more. Housekeeper; the partition never runs again.
 */
void shared_release(struct shared_ends *ends, struct frame_pool *frames);

/*
 * Clears at most `budget` bytes of the partition's regions that nobody has cleared yet. True when there is
 * nothing left to clear: before that no vCPU of the partition may run. Housekeeper.
 */
bool shared_clear_step(struct shared_ends *ends, uint64_t budget);

/*
 * From now on the partition hears rings, or does not: when shared_listen(…, false) has returned, nobody
 * delivers to its local APICs on behalf of a peer. Off until told otherwise. Housekeeper.
 */
void shared_listen(struct shared_ends *ends, bool listen);

/*
 * Rings `vector` of member `peer` of the partition's region number `index`. -EINVAL: no such region of its,
 * or no such vector; -ENOENT: no such member, or it does not run. Any processor that runs the partition.
 */
int shared_ring(struct shared_ends *ends, uint64_t index, uint64_t peer, uint64_t vector) __must_check;

/* For the operator: a region, by number from 0. False from the last on. */
struct shared_report {
    const char *name;
    uint64_t size; /* bytes; 0: a doorbell alone */
    hpa_t base;
    uint16_t owner; /* of its frames */
    unsigned members;
};

bool shared_report(unsigned number, struct shared_report *report);
