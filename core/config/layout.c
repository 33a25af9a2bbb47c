// SPDX-License-Identifier: BSD-2-Clause
#include "core/config/layout.h"

#include "lib/errors.h"

/* A file larger than the address space fits nowhere; below that no sum wraps. */
#define FILE_SIZE_MAX KERNEL_ADDRESS_MAX

/* Modules one after the other behind the kernel. */
static int place_modules(struct layout *layout, const struct kernel_image *image, const uint64_t *sizes,
                         unsigned count)
{
    uint64_t next = image->end;

    for (unsigned i = 0; i < count; i++) {
        layout->files[i] = align_up(next, PAGE_SIZE);
        if (sizes[i] > FILE_SIZE_MAX)
            return -E2BIG;
        next = layout->files[i] + sizes[i];
    }
    layout->needed = next;
    return next > LAYOUT_LOW_MEMORY_MAX ? -E2BIG : 0;
}

/* The initrd as high as memory and kernel allow. */
static int place_initrd(struct layout *layout, const struct kernel_image *image, uint64_t low_memory,
                        uint64_t size)
{
    uint64_t lowest = align_up(image->end, PAGE_SIZE);
    uint64_t ceiling = min_u64(image->initrd_max + 1, LAYOUT_LOW_MEMORY_MAX);

    if (size > ceiling || lowest > ceiling - size)
        return -E2BIG;
    layout->needed = lowest + size;
    ceiling = min_u64(ceiling, low_memory);
    if (layout->needed <= ceiling)
        layout->files[0] = align_down(ceiling - size, PAGE_SIZE);
    return 0;
}

int layout_plan(struct layout *layout, const struct kernel_image *image, uint64_t low_memory,
                const uint64_t *sizes, unsigned count)
{
    bool is_linux = image->kind == KERNEL_LINUX_BZIMAGE || image->kind == KERNEL_LINUX_ELF;
    int error = 0;

    *layout = (struct layout){.needed = image->end};
    if (image->end > LAYOUT_LOW_MEMORY_MAX || count > (is_linux ? 1 : CONFIG_MODULES_MAX))
        return -E2BIG;
    if (is_linux && count)
        error = place_initrd(layout, image, low_memory, sizes[0]);
    else
        error = place_modules(layout, image, sizes, count);
    if (error)
        return error;
    return layout->needed > low_memory ? -ENOSPC : 0;
}
