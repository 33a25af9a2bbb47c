// SPDX-License-Identifier: BSD-2-Clause
#include "mm/address_space.h"

#include "arch/x86/cpu.h"
#include "arch/x86/registers.h"
#include "lib/errors.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/physmap.h"

#define UMBRA_BASE            0xffffffff80000000ULL
#define STACK_BASE            0xffffa00000000000ULL
#define DEVICE_BASE           0xffffb00000000000ULL

/* Page-table entries of Umbra's own 4-level tables (SDM vol. 3, "4-level paging"). */
#define ENTRY_PRESENT         BIT(0)
#define ENTRY_WRITABLE        BIT(1)
#define ENTRY_UNCACHED        (BIT(3) | BIT(4)) /* PWT and PCD: entry 3 of the reset value of IA32_PAT */
#define ENTRY_LARGE           BIT(7)
#define ENTRY_GLOBAL          BIT(8)
#define ENTRY_NO_EXECUTE      BIT(63)
#define ENTRY_ADDRESS         0x000ffffffffff000ULL

#define CPUID_7_EBX_SMEP      BIT(7)
#define CPUID_7_EBX_SMAP      BIT(20)
#define CPUID_7_ECX_UMIP      BIT(2)
#define CPUID_80000001_EDX_1G BIT(26)

/* From the linker script: the image's parts at their link address, the whole at its physical one. */
extern const char image_physical_start[], image_physical_end[];
extern const char image_text_start[], image_text_end[];
extern const char image_rodata_start[], image_rodata_end[];
extern const char image_data_start[], image_data_end[];

static struct frame_pool *frames;
static hpa_t root;
static bool has_1g_pages;
static uint64_t next_stack = STACK_BASE;
static uint64_t next_device = DEVICE_BASE;

static unsigned table_index(uint64_t address, unsigned level)
{
    return (unsigned)(address >> (PAGE_SHIFT + 9 * (level - 1))) & 511;
}

static uint64_t level_size(unsigned level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

/* A zeroed frame below 4 GiB, where the boot tables reach it too. */
static int new_table(hpa_t *table)
{
    int error = frame_allocate(frames, FRAME_OWNER_UMBRA, 1, 0, HPA(GIB(4)), table);

    if (error == 0)
        memset(physmap_pointer(*table), 0, PAGE_SIZE);
    return error;
}

/* The entry for `address` in the table of `level` below `top`, with the tables above it made as needed; NULL
 * without memory. */
static uint64_t *entry_below(hpa_t top, uint64_t address, unsigned level)
{
    hpa_t table = top;

    for (unsigned l = 4; l > level; l--) {
        uint64_t *entry = (uint64_t *)physmap_pointer(table) + table_index(address, l);
        if (*entry == 0) {
            hpa_t lower;
            if (new_table(&lower) != 0)
                return NULL;
            *entry = lower.value | ENTRY_PRESENT | ENTRY_WRITABLE;
        }
        invariant((*entry & ENTRY_LARGE) == 0);
        table = HPA(*entry & ENTRY_ADDRESS);
    }
    return (uint64_t *)physmap_pointer(table) + table_index(address, level);
}

static uint64_t *entry_at(uint64_t address, unsigned level)
{
    return entry_below(root, address, level);
}

/* Maps [physical, physical + size) at `address` with the largest pages up to `level_max` that fit. */
static int map(uint64_t address, uint64_t physical, uint64_t size, uint64_t flags, unsigned level_max)
{
    while (size > 0) {
        unsigned level = level_max;
        while (level > 1 && (!is_aligned(address | physical, level_size(level)) || size < level_size(level)))
            level--;

        uint64_t *entry = entry_at(address, level);
        if (entry == NULL)
            return -ENOMEM;
        *entry = physical | flags | ENTRY_PRESENT | ENTRY_GLOBAL | (level > 1 ? ENTRY_LARGE : 0);
        address += level_size(level);
        physical += level_size(level);
        size -= level_size(level);
    }
    return 0;
}

static int map_image_part(const char *start, const char *end, uint64_t flags)
{
    return map((uint64_t)start, address_space_image_address(start).value, (uint64_t)(end - start), flags, 1);
}

int address_space_init(struct frame_pool *pool)
{
    int error;

    frames = pool;
    has_1g_pages = (cpu_cpuid(0x80000001, 0).edx & CPUID_80000001_EDX_1G) != 0;
    error = new_table(&root);
    if (error == 0)
        error = map_image_part(image_text_start, image_text_end, 0);
    if (error == 0)
        error = map_image_part(image_rodata_start, image_rodata_end, ENTRY_NO_EXECUTE);
    if (error == 0)
        error = map_image_part(image_data_start, image_data_end, ENTRY_WRITABLE | ENTRY_NO_EXECUTE);
    return error;
}

int address_space_map_memory(hpa_t base, uint64_t size)
{
    const uint64_t image_start = (uint64_t)image_physical_start;
    const uint64_t image_end = (uint64_t)image_physical_end;
    const unsigned level_max = has_1g_pages ? 3 : 2;
    uint64_t start = align_down(base.value, PAGE_SIZE);
    uint64_t end = align_up(base.value + size, PAGE_SIZE);
    int error;

    /* The image would be writable here, so it is left out. */
    if (start < image_end && end > image_start) {
        if (start < image_start) {
            error = address_space_map_memory(HPA(start), image_start - start);
            if (error != 0)
                return error;
        }
        return end > image_end ? address_space_map_memory(HPA(image_end), end - image_end) : 0;
    }
    /* Ranges of the memory map may meet within a page, or overlap: what is mapped already stays as it is. */
    while (start < end && address_space_is_mapped(HPA(start), PAGE_SIZE))
        start += PAGE_SIZE;
    while (start < end && address_space_is_mapped(HPA(end - PAGE_SIZE), PAGE_SIZE))
        end -= PAGE_SIZE;
    return map(PHYSMAP_BASE + start, start, end - start, ENTRY_WRITABLE | ENTRY_NO_EXECUTE, level_max);
}

void address_space_activate(void)
{
    struct cpuid_registers features = cpu_cpuid(7, 0);
    uint64_t cr4 = cpu_read_cr4() | X86_CR4_PGE;

    if (features.ebx & CPUID_7_EBX_SMEP)
        cr4 |= X86_CR4_SMEP;
    if (features.ebx & CPUID_7_EBX_SMAP)
        cr4 |= X86_CR4_SMAP;
    if (features.ecx & CPUID_7_ECX_UMIP)
        cr4 |= X86_CR4_UMIP;
    cpu_write_cr0(cpu_read_cr0() | X86_CR0_WP);
    cpu_write_cr3(root.value);
    cpu_write_cr4(cr4);
}

/* Gives back the tables of `level` and below that only a start root has: those of the lower half. */
static void drop_tables(hpa_t table, unsigned level)
{
    const uint64_t *entries = physmap_pointer(table);

    for (unsigned i = 0; level > 1 && i < (level == 4 ? 256 : 512); i++)
        if (entries[i] != 0)
            drop_tables(HPA(entries[i] & ENTRY_ADDRESS), level - 1);
    invariant(frame_release(frames, table, PAGE_SIZE, FRAME_OWNER_UMBRA) == 0);
}

int address_space_new_start_root(hpa_t page, hpa_t *start_root)
{
    int error = new_table(start_root);
    uint64_t *entry;

    if (error != 0)
        return error;
    memcpy(physmap_pointer(*start_root), physmap_pointer(root), PAGE_SIZE);
    entry = entry_below(*start_root, page.value, 1);
    if (entry == NULL) {
        drop_tables(*start_root, 4);
        return -ENOMEM;
    }
    *entry = page.value | ENTRY_PRESENT; /* not global: it is to go with the next load of CR3 */
    return 0;
}

void address_space_drop_start_root(hpa_t start_root)
{
    drop_tables(start_root, 4);
}

bool address_space_is_mapped(hpa_t base, uint64_t size)
{
    uint64_t address = PHYSMAP_BASE + align_down(base.value, PAGE_SIZE);
    uint64_t end = PHYSMAP_BASE + base.value + size;

    if (base.value + size < base.value || end < PHYSMAP_BASE)
        return false;
    while (address < end) {
        hpa_t table = root;
        unsigned level = 4;
        uint64_t entry;

        for (;; level--) {
            entry = ((uint64_t *)physmap_pointer(table))[table_index(address, level)];
            if ((entry & ENTRY_PRESENT) == 0)
                return false;
            if (level == 1 || (entry & ENTRY_LARGE) != 0)
                break;
            table = HPA(entry & ENTRY_ADDRESS);
        }
        address = align_down(address, level_size(level)) + level_size(level);
    }
    return true;
}

uint64_t address_space_new_stack(unsigned pages)
{
    uint64_t bottom = next_stack + PAGE_SIZE; /* the page below stays unmapped */

    for (unsigned i = 0; i < pages; i++) {
        hpa_t frame;
        if (new_table(&frame) != 0 ||
            map(bottom + i * PAGE_SIZE, frame.value, PAGE_SIZE, ENTRY_WRITABLE | ENTRY_NO_EXECUTE, 1) != 0)
            panic("no memory for a stack");
    }
    next_stack = bottom + pages * PAGE_SIZE;
    return next_stack;
}

void *address_space_map_device(hpa_t base, uint64_t size)
{
    uint64_t offset = base.value & (PAGE_SIZE - 1);
    uint64_t bytes = align_up(offset + size, PAGE_SIZE);
    uint64_t address = next_device;

    if (map(address, base.value - offset, bytes, ENTRY_WRITABLE | ENTRY_UNCACHED | ENTRY_NO_EXECUTE, 1) != 0)
        panic("no memory to map a device");
    next_device += bytes;
    return (void *)(address + offset);
}

hpa_t address_space_image_address(const void *pointer)
{
    return HPA((uint64_t)pointer - UMBRA_BASE);
}
