// SPDX-License-Identifier: BSD-2-Clause
/* Tables that more than one boot protocol wants. */
#include "core/loader/loader_private.h"
#include "lib/errors.h"

/* Page-table entries (SDM vol. 3, section 4.5). */
#define PTE_PRESENT 0x01
#define PTE_WRITE   0x02
#define PTE_LARGE   0x80
#define PTES        512

/* Consecutive entries at `table`, the first with `value`, each `step` more than the one before. */
static void put_entries(struct loader_writer *writer, uint64_t table, unsigned count, uint64_t value,
                        uint64_t step)
{
    uint64_t chunk[64];
    unsigned filled = 0;

    for (unsigned i = 0; i < count; i++) {
        chunk[filled++] = value + i * step;
        if (filled == ARRAY_SIZE(chunk) || i + 1 == count) {
            loader_put(writer, table, chunk, filled * sizeof(*chunk));
            table += filled * sizeof(*chunk);
            filled = 0;
        }
    }
}

/* One page with the top level, one with four entries, and four with the 2 MiB pages of 4 GiB. */
uint64_t loader_put_page_tables(struct loader_writer *writer)
{
    const uint64_t top = LAYOUT_PAGE_TABLES;
    const uint64_t second = top + PAGE_SIZE;
    const uint64_t third = second + PAGE_SIZE;
    const unsigned gigabytes = 4;

    loader_fill(writer, top, 2 * PAGE_SIZE);
    put_entries(writer, top, 1, second | PTE_PRESENT | PTE_WRITE, 0);
    put_entries(writer, second, gigabytes, third | PTE_PRESENT | PTE_WRITE, PAGE_SIZE);
    put_entries(writer, third, gigabytes * PTES, PTE_PRESENT | PTE_WRITE | PTE_LARGE, BIT(PAGE_SHIFT_2M));
    return top;
}

uint64_t loader_area_take(struct loader_area *area, uint64_t size)
{
    const uint64_t address = area->next;

    if (area->full || size > LAYOUT_LOW_END - address) {
        area->full = true;
        /* Whatever is still to be written belongs to information that nobody will see. */
        if (!area->writer->error)
            area->writer->error = -E2BIG;
        return address;
    }
    area->next += size;
    return address;
}

uint32_t loader_ram_from(const struct loader_request *request, uint64_t start, uint64_t limit)
{
    uint64_t end = start;

    for (unsigned i = 0; i < request->map_count; i++) {
        const struct layout_range *range = &request->map[i];

        if (range->type == LAYOUT_RAM && range->base <= end && range->base + range->size > end)
            end = range->base + range->size;
    }
    return (uint32_t)((min_u64(end, limit) - start) >> 10);
}
