// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Hypercalls: what a partition may ask of Umbra by VMCALL. docs/hypercalls.md is the contract with guests;
 * the numbers and structures here are what it says, and never change their meaning.
 *
 * RAX holds the number, RBX, RCX, RDX and RSI the arguments; RAX gets the result, a value or a negative error
 * number, and nothing else changes. Outside 64-bit mode it is the lower halves. Only CPL 0 may call.
 *
 * Each call is bounded: at most HYPERCALL_CONSOLE_MAX bytes of guest memory are touched. Guest memory is
 * reached by its physical address, copied once. Pure: what is not computation is asked of struct
 * hypercall_ops.
 */
#include "mm/guest_memory.h"

#define HYPERCALL_VERSION     0x00010000 /* major << 16 | minor */
#define HYPERCALL_CONSOLE_MAX 4096
#define HYPERCALL_NAME_SIZE   32

enum hypercall_number {
    HYPERCALL_GET_VERSION,
    HYPERCALL_GET_INFO,
    HYPERCALL_GET_TIME,
    HYPERCALL_YIELD,
    HYPERCALL_DOORBELL,
    HYPERCALL_STEAL_TIME,
    HYPERCALL_CONSOLE_WRITE,
    HYPERCALL_POWER,
    HYPERCALL_COUNT,
};

/* All of them, as CPUID leaf 40000001H tells: bit n is number n. */
#define HYPERCALL_ALL (BIT(HYPERCALL_COUNT) - 1)

enum hypercall_power {
    HYPERCALL_POWER_OFF,
    HYPERCALL_POWER_RESET,
};

/* What HYPERCALL_GET_INFO writes. Later versions append. */
struct hypercall_info {
    uint32_t size;   /* of this structure as Umbra has it, bytes */
    uint32_t number; /* of the partition, from 0 */
    uint32_t vcpus;
    uint32_t vcpu;    /* who asks, from 0 */
    uint64_t memory;  /* bytes */
    uint64_t tsc_hz;  /* ticks of the partition's TSC a second */
    uint32_t regions; /* shared regions and doorbells */
    uint32_t reserved;
    uint64_t hypercalls;            /* bit n: number n is there */
    char name[HYPERCALL_NAME_SIZE]; /* of the partition, zero-terminated */
};

/* What HYPERCALL_GET_TIME writes: a moment by both clocks, and how the TSC comes about. */
struct hypercall_time {
    uint32_t size;
    uint32_t reserved;
    uint64_t tsc;       /* the partition's TSC, without the vCPU's IA32_TSC_ADJUST */
    int64_t wall_clock; /* seconds since 1970, UTC, then */
    uint64_t tsc_hz;
    uint64_t tsc_offset;     /* tsc = (TSC of the machine * multiplier >> 48) + tsc_offset */
    uint64_t tsc_multiplier; /* 2^48: not scaled */
};

/*
 * What HYPERCALL_STEAL_TIME has Umbra keep, one for each vCPU, aligned to its size. A reader reads `version`,
 * then the rest, then `version` again, and starts over if it was odd or has changed.
 */
struct hypercall_steal {
    uint32_t version;
    uint32_t reserved;
    uint64_t stolen;  /* ticks of the partition's TSC in which the vCPU wanted to run and did not */
    uint64_t updated; /* the partition's TSC when this was written */
    uint64_t reserved_too[5];
};

_Static_assert(sizeof(struct hypercall_info) == 80 && sizeof(struct hypercall_time) == 48 &&
                   sizeof(struct hypercall_steal) == 64,
               "documented sizes");

/* What a vCPU has asked for. Part of the vCPU; hypercall_reset at its power-on and INIT. */
struct hypercall_vcpu {
    bool steal_enabled;
    gpa_t steal_page;
    uint32_t steal_version; /* as last written; even */
};

/* What a call is made with. */
struct hypercall_ops {
    /* Fill in all but `size`, `hypercalls` and what is reserved, which are zero. */
    void (*info)(void *context, struct hypercall_info *info);
    void (*time)(void *context, struct hypercall_time *time);
    /* The calling vCPU lets others run. */
    void (*yield)(void *context);
    /* As shared_ring. */
    int (*doorbell)(void *context, uint64_t region, uint64_t peer, uint64_t vector);
    /* Text for the partition's console. */
    void (*console_write)(void *context, const char *text, size_t length);
    /* Takes effect when the exit has been handled. */
    void (*power)(void *context, enum hypercall_power what);
};

/* Who calls: the ops' context, its memory by guest-physical addresses, and what the call may change. */
struct hypercall_caller {
    const struct hypercall_ops *ops;
    void *context;
    const struct stage_chain *memory;
    struct hypercall_vcpu *vcpu;
};

/*
 * Carries out call `number` with `arguments` (RBX, RCX, RDX, RSI, already cut to the caller's mode). Returns
 * the result: -ENOSYS for a number that there is not. Exit path; bounded.
 */
int64_t hypercall_execute(const struct hypercall_caller *caller, uint64_t number,
                          const uint64_t arguments[4]);

/* The vCPU forgets what it asked for. */
void hypercall_reset(struct hypercall_vcpu *vcpu);

/*
 * Brings the vCPU's steal time up to date, if it asked for it: `stolen` ticks since it was started, at
 * partition TSC `now`. Called by its home when it schedules the vCPU in, before its next entry.
 */
void hypercall_steal_update(struct hypercall_vcpu *vcpu, const struct stage_chain *memory, uint64_t stolen,
                            uint64_t now);
