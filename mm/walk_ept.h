// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A walker over EPT tables that a guest hypervisor keeps (SDM vol. 3, "The Extended Page Table Mechanism
 * (EPT)"): four or five levels. It reads the tables through the space that they are in, checks every entry as
 * the processor that the guest hypervisor sees would, and sets accessed and dirty flags by compare-and-swap
 * once the access is allowed. It is a stage: guest-physical addresses of that hypervisor's guest → its own.
 *
 * A table where no memory is reads as all ones, which is a misconfiguration. A write of A or D to memory that
 * cannot be written is lost.
 *
 * What a caller has to know:
 * - With A and D enabled, the processor's accesses to its guest's page tables count as writes. An access
 *   cannot say that it is one (enum stage_access): whoever translates for such an access adds PAGING_WRITE,
 *   and keeps PAGING_READ, if walk_ept.accessed_dirty.
 * - Memory types are told, "ignore PAT" (bit 6 of a page's entry) is not: the type that the guest's own page
 *   tables choose is combined with the entry's as if the bit were 0. So a page may be cached less than the
 *   guest hypervisor allows, and only where its guest asks for that.
 * - Mode-based execute control, sub-page permissions, supervisor shadow stacks and guest-paging verification
 *   are not offered: their bits are ignored in entries, reserved in the EPTP.
 */
#include "lib/types.h"
#include "mm/guest_memory.h"
#include "mm/stage.h"

/*
 * stage_fault.error_code of a STAGE_FAULT whose stage_fault.stage this is. An EPT violation: bits 5:0 as in
 * its exit qualification (SDM vol. 3, "Exit Qualification for EPT Violations"); of the others the caller
 * knows bit 7, and bit 8 is what stage_fault.in_tables denies. An EPT misconfiguration, whose exit has no
 * qualification: its bit alone.
 */
#define EPT_FAULT_READ             BIT(0) /* the access: a data read, */
#define EPT_FAULT_WRITE            BIT(1) /* a data write, */
#define EPT_FAULT_FETCH            BIT(2) /* an instruction fetch */
#define EPT_FAULT_PERMISSION_SHIFT 3
#define EPT_FAULT_READABLE         BIT(3) /* the entries that were used grant it, all of them; none of these */
#define EPT_FAULT_WRITABLE         BIT(4) /* three if one was not present */
#define EPT_FAULT_EXECUTABLE       BIT(5)
#define EPT_FAULT_QUALIFICATION    0x3fULL
#define EPT_FAULT_MISCONFIGURATION BIT(32)

/* The EPTP (SDM vol. 3, "Extended-Page-Table Pointer (EPTP)"). */
#define EPTP_MEMORY_TYPE           7ULL
#define EPTP_WALK_SHIFT            3 /* three bits: levels less one */
#define EPTP_ACCESSED_DIRTY        BIT(6)
#define EPTP_ADDRESS               0x000ffffffffff000ULL

/* The EPT of the processor that the guest hypervisor sees. */
struct walk_ept_features {
    uint64_t capabilities; /* IA32_VMX_EPT_VPID_CAP as it reads it (VMX_EPT_*) */
    uint8_t physical_bits; /* MAXPHYADDR as its CPUID tells it */
};

struct walk_ept {
    struct stage stage;
    const struct stage_chain *memory; /* the space that the tables are in; borrowed */
    uint64_t root;                    /* address of the top table, in that space */
    uint8_t levels;
    bool accessed_dirty;                         /* the EPTP enables A and D */
    bool execute_only;                           /* is offered */
    uint64_t reserved[PAGING_LEVELS_MAX + 1][2]; /* bits, by level; [1] where an entry maps a page */
};

/*
 * A walker over tables in `memory` (borrowed as long as it is used). It may be walked once walk_ept_set has
 * succeeded.
 */
void walk_ept_init(struct walk_ept *walk, const struct stage_chain *memory);

/*
 * Binds `walk` to the tables that `eptp` points to, on a processor with `features`. -EINVAL: a VM entry
 * refuses this EPTP (SDM vol. 3, "VM-Execution Control Fields"): memory type, length or flags that are not
 * offered, reserved bits, an address beyond MAXPHYADDR; nothing changed. Whoever caches translations has to
 * know that another EPTP is another space. The vCPU's home.
 */
int walk_ept_set(struct walk_ept *walk, uint64_t eptp, const struct walk_ept_features *features) __must_check;
