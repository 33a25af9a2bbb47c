// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A walker over a guest's own page tables (SDM vol. 3, "Paging"): paging off, 32-bit with PSE and PSE-36,
 * PAE, 4-level, 5-level. It reads the tables through guest memory, checks the access as the processor would
 * (U/S, W, NX, WP, SMEP, SMAP, protection keys, reserved bits), makes the error code, and sets A and D bits
 * by compare-and-swap once the access is allowed. It is a stage: linear → guest-physical.
 */
#include "lib/types.h"
#include "mm/guest_memory.h"
#include "mm/stage.h"

/* A page fault's error code (SDM vol. 3, "Page-Fault Exceptions"). */
#define PAGE_FAULT_PRESENT  BIT(0)
#define PAGE_FAULT_WRITE    BIT(1)
#define PAGE_FAULT_USER     BIT(2)
#define PAGE_FAULT_RESERVED BIT(3)
#define PAGE_FAULT_FETCH    BIT(4)
#define PAGE_FAULT_KEY      BIT(5)

/* The registers that decide how a guest's addresses are translated, as the guest sees them. */
struct walk_x86_registers {
    uint64_t cr0, cr3, cr4, efer;
    uint64_t pat;          /* IA32_PAT */
    uint32_t pkru;         /* used if CR4.PKE is 1 */
    uint8_t physical_bits; /* MAXPHYADDR as the guest's CPUID tells it */
    bool gigabyte_pages;   /* CPUID tells of 1-GByte pages */
    uint64_t pdpte[4]; /* PAE paging: the four registers that CR3 was loaded into (walk_x86_load_pdptes) */
};

struct walk_x86 {
    struct stage stage;
    const struct stage_chain *memory; /* the space that the tables are in; borrowed */
    unsigned table_access; /* what the processor's reads of the tables are to that space: PAGING_READ; with
                              PAGING_WRITE where it is behind EPT with A and D (mm/walk_ept.h) */
    const struct paging_format *format; /* NULL: paging is off */
    struct walk_x86_registers registers;
    uint64_t reserved[PAGING_LEVELS_MAX + 1][2]; /* bits, by level; [1] where an entry maps a page */
};

/* A walker over tables in `memory` (borrowed as long as it is used). Paging is off until walk_x86_set. */
void walk_x86_init(struct walk_x86 *walk, const struct stage_chain *memory);

/* Takes the registers over; the paging mode follows from them. They must be ones that the processor accepts.
 */
void walk_x86_set(struct walk_x86 *walk, const struct walk_x86_registers *registers);

/*
 * Reads the four page-directory-pointer-table entries as a load of CR3 with PAE paging does, into `pdpte`
 * (4), with CR3 and MAXPHYADDR of `registers`. 0; -EINVAL: reserved bits are set, the load is a #GP(0);
 * -EFAULT: no memory there.
 */
int walk_x86_load_pdptes(const struct stage_chain *memory, const struct walk_x86_registers *registers,
                         uint64_t pdpte[4]) __must_check;
