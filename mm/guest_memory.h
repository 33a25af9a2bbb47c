// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The one accessor to guest memory. A guest's addresses are followed through a chain of stages (mm/stage.h)
 * that ends in the partition's p2m, so no byte outside the partition's own memory is reached, and none
 * without the right to.
 *
 *   chain              address
 *   p2m                GPA of the partition
 *   EPT of Lv1 · p2m   GPA of its guest
 *   x86 tables · …     GLA
 *
 * Every byte is read or written once: a caller checks the copy that it got and never looks at the guest's
 * memory again. Accesses may cross pages and regions. They go in ascending order and stop at the first byte
 * that cannot be reached: what comes before it has been done. A write that must not be half done is asked for
 * first with guest_memory_check.
 *
 * Any context; bounded by the size asked for.
 */
#include "lib/types.h"
#include "mm/stage.h"

/* How far an access came, and why no further. */
struct guest_transfer {
    size_t done;                /* bytes */
    enum stage_outcome outcome; /* of the byte after them; STAGE_DONE if there is none */
    struct stage_fault fault;   /* if `outcome` is another */
};

/*
 * Copies `size` bytes of guest memory at `address` to `to`, or from `from` to guest memory, or sets them all
 * to `byte`. `transfer` tells more than the result does; NULL if that is enough. 0; -EFAULT: a byte cannot be
 * reached (no memory, no right, a fault of the guest's); -EAGAIN: STAGE_AGAIN.
 */
int guest_memory_read(const struct stage_chain *memory, gpa_t address, void *to, size_t size,
                      struct guest_transfer *transfer) __must_check;
int guest_memory_write(const struct stage_chain *memory, gpa_t address, const void *from, size_t size,
                       struct guest_transfer *transfer) __must_check;
int guest_memory_fill(const struct stage_chain *memory, gpa_t address, uint8_t byte, size_t size,
                      struct guest_transfer *transfer) __must_check;

/* Whether `access` (enum paging_right) to all of [address, address + size) would go through. Errors as above.
 */
int guest_memory_check(const struct stage_chain *memory, gpa_t address, size_t size,
                       unsigned access) __must_check;

/*
 * The same for linear addresses. `how` says how the guest makes the access: PAGING_EXECUTE for the bytes of
 * an instruction, PAGING_USER at CPL 3, and enum stage_access. Reading and writing are implied.
 */
int guest_linear_read(const struct stage_chain *linear, gla_t address, void *to, size_t size, unsigned how,
                      struct guest_transfer *transfer) __must_check;
int guest_linear_write(const struct stage_chain *linear, gla_t address, const void *from, size_t size,
                       unsigned how, struct guest_transfer *transfer) __must_check;

/* Whether such an access would go through; here `how` also says PAGING_READ or PAGING_WRITE. */
int guest_linear_check(const struct stage_chain *linear, gla_t address, size_t size, unsigned how,
                       struct guest_transfer *transfer) __must_check;

/*
 * One naturally aligned entry of `size` bytes (4 or 8) of a table in guest memory, read in one piece.
 * STAGE_DONE, or what the chain answered, with *fault.
 */
enum stage_outcome guest_memory_load(const struct stage_chain *memory, gpa_t address, unsigned size,
                                     uint64_t *value, struct stage_fault *fault);

/*
 * Replaces such an entry by `desired` if it still is *expected, in one piece, as the processor sets A and D
 * bits; otherwise *expected becomes what is there. *exchanged tells which. STAGE_DONE, or what the chain
 * answered, with *fault.
 */
enum stage_outcome guest_memory_exchange(const struct stage_chain *memory, gpa_t address, unsigned size,
                                         uint64_t *expected, uint64_t desired, bool *exchanged,
                                         struct stage_fault *fault);

/* The same for an entry of a table that the processor knows by linear address (GDT, LDT): a supervisor's
 * access. */
enum stage_outcome guest_linear_exchange(const struct stage_chain *linear, gla_t address, unsigned size,
                                         uint64_t *expected, uint64_t desired, bool *exchanged,
                                         struct stage_fault *fault);

/* The same for an entry that the caller has found at `place` by following a chain, with the right to write.
 */
bool guest_memory_exchange_at(void *place, unsigned size, uint64_t *expected, uint64_t desired);
