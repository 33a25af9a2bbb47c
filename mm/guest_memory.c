// SPDX-License-Identifier: BSD-2-Clause
#include "mm/guest_memory.h"

#include "lib/errors.h"
#include "lib/string.h"
#include "mm/physmap.h"

/* What is done with each part of a range that is contiguous in the host. */
struct operation {
    void (*run)(const struct operation *operation, unsigned char *memory, size_t offset, size_t size);
    void *to;         /* of a read */
    const void *from; /* of a write */
    uint8_t byte;     /* of a fill */
};

static void run_read(const struct operation *operation, unsigned char *memory, size_t offset, size_t size)
{
    memcpy((unsigned char *)operation->to + offset, memory, size);
}

static void run_write(const struct operation *operation, unsigned char *memory, size_t offset, size_t size)
{
    memcpy(memory, (const unsigned char *)operation->from + offset, size);
}

static void run_fill(const struct operation *operation, unsigned char *memory, size_t offset, size_t size)
{
    (void)offset;
    memset(memory, operation->byte, size);
}

static void run_nothing(const struct operation *operation, unsigned char *memory, size_t offset, size_t size)
{
    (void)operation, (void)memory, (void)offset, (void)size;
}

/* Runs `operation` on [address, address + size), translated page by page, as large as the pages are. */
static int for_each_part(const struct stage_chain *chain, uint64_t address, size_t size, unsigned access,
                         const struct operation *operation, struct guest_transfer *transfer)
{
    struct guest_transfer ignored;

    if (transfer == NULL)
        transfer = &ignored;
    transfer->done = 0;
    transfer->outcome = STAGE_DONE;
    while (transfer->done < size) {
        struct translation t;

        transfer->outcome = stage_chain_walk(chain, address + transfer->done, access, &t, &transfer->fault);
        if (transfer->outcome != STAGE_DONE)
            return transfer->outcome == STAGE_AGAIN ? -EAGAIN : -EFAULT;

        const uint64_t page_rest = BIT(t.page_shift) - (t.address & (BIT(t.page_shift) - 1));
        const size_t part = (size_t)min_u64(page_rest, size - transfer->done);
        operation->run(operation, physmap_pointer(HPA(t.address)), transfer->done, part);
        transfer->done += part;
    }
    return 0;
}

int guest_memory_read(const struct stage_chain *memory, gpa_t address, void *to, size_t size,
                      struct guest_transfer *transfer)
{
    const struct operation operation = {.run = run_read, .to = to};

    return for_each_part(memory, address.value, size, PAGING_READ, &operation, transfer);
}

int guest_memory_write(const struct stage_chain *memory, gpa_t address, const void *from, size_t size,
                       struct guest_transfer *transfer)
{
    const struct operation operation = {.run = run_write, .from = from};

    return for_each_part(memory, address.value, size, PAGING_WRITE, &operation, transfer);
}

int guest_memory_fill(const struct stage_chain *memory, gpa_t address, uint8_t byte, size_t size,
                      struct guest_transfer *transfer)
{
    const struct operation operation = {.run = run_fill, .byte = byte};

    return for_each_part(memory, address.value, size, PAGING_WRITE, &operation, transfer);
}

int guest_memory_check(const struct stage_chain *memory, gpa_t address, size_t size, unsigned access)
{
    const struct operation operation = {.run = run_nothing};

    return for_each_part(memory, address.value, size, access, &operation, NULL);
}

int guest_linear_read(const struct stage_chain *linear, gla_t address, void *to, size_t size, unsigned how,
                      struct guest_transfer *transfer)
{
    const struct operation operation = {.run = run_read, .to = to};

    return for_each_part(linear, address.value, size, PAGING_READ | how, &operation, transfer);
}

int guest_linear_write(const struct stage_chain *linear, gla_t address, const void *from, size_t size,
                       unsigned how, struct guest_transfer *transfer)
{
    const struct operation operation = {.run = run_write, .from = from};

    return for_each_part(linear, address.value, size, PAGING_WRITE | how, &operation, transfer);
}

int guest_linear_check(const struct stage_chain *linear, gla_t address, size_t size, unsigned how,
                       struct guest_transfer *transfer)
{
    const struct operation operation = {.run = run_nothing};

    return for_each_part(linear, address.value, size, how, &operation, transfer);
}

enum stage_outcome guest_memory_load(const struct stage_chain *memory, gpa_t address, unsigned size,
                                     uint64_t *value, struct stage_fault *fault)
{
    struct translation t;
    enum stage_outcome outcome = stage_chain_walk(memory, address.value, PAGING_READ, &t, fault);

    if (outcome != STAGE_DONE)
        return outcome;
    if (size == 4)
        *value = __atomic_load_n((const uint32_t *)physmap_pointer(HPA(t.address)), __ATOMIC_RELAXED);
    else
        *value = __atomic_load_n((const uint64_t *)physmap_pointer(HPA(t.address)), __ATOMIC_RELAXED);
    return STAGE_DONE;
}

bool guest_memory_exchange_at(void *place, unsigned size, uint64_t *expected, uint64_t desired)
{
    uint32_t narrow = (uint32_t)*expected;
    bool exchanged;

    if (size == 8)
        return __atomic_compare_exchange_n((uint64_t *)place, expected, desired, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    exchanged = __atomic_compare_exchange_n((uint32_t *)place, &narrow, (uint32_t)desired, false,
                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    *expected = narrow;
    return exchanged;
}

static enum stage_outcome exchange(const struct stage_chain *chain, uint64_t address, unsigned size,
                                   uint64_t *expected, uint64_t desired, bool *exchanged, unsigned access,
                                   struct stage_fault *fault)
{
    struct translation t;
    enum stage_outcome outcome =
        stage_chain_walk(chain, address, PAGING_READ | PAGING_WRITE | access, &t, fault);

    if (outcome == STAGE_DONE)
        *exchanged = guest_memory_exchange_at(physmap_pointer(HPA(t.address)), size, expected, desired);
    return outcome;
}

enum stage_outcome guest_memory_exchange(const struct stage_chain *memory, gpa_t address, unsigned size,
                                         uint64_t *expected, uint64_t desired, bool *exchanged,
                                         struct stage_fault *fault)
{
    return exchange(memory, address.value, size, expected, desired, exchanged, 0, fault);
}

enum stage_outcome guest_linear_exchange(const struct stage_chain *linear, gla_t address, unsigned size,
                                         uint64_t *expected, uint64_t desired, bool *exchanged,
                                         struct stage_fault *fault)
{
    return exchange(linear, address.value, size, expected, desired, exchanged, STAGE_ACCESS_IMPLICIT, fault);
}
