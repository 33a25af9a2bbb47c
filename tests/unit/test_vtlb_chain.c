// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/vtlb*.c over a chain of two stages, a guest's own page tables and the p2m, in targets of x86 formats.
 * Fails when rights, memory types or page sizes are not those of both stages, when D is not waited for, when
 * a guest's fault is not the guest's, or when what the guest takes away is not told by the generation.
 */
#include "mm/walk_x86.h"

#include "arch/x86/paging_x86.h"
#include "arch/x86/registers.h"
#include "tests/unit/vtlb_machine.h"

#define GUEST_FRAMES 2048 /* 8 MiB, the first 2 MiB of them for page tables */

struct guest {
    unsigned char *memory; /* 2-MiB aligned; guest-physical 0 */
    struct walk_x86 walk;
    struct stage_chain tables;
    struct walk_x86_registers registers;
};

static struct machine *machine_with_guest(struct guest *guest)
{
    guest->memory = aligned_alloc(MIB(2), GUEST_FRAMES * PAGE_SIZE);
    assert_non_null(guest->memory);
    memset(guest->memory, 0, GUEST_FRAMES * PAGE_SIZE);

    uint64_t hpa = (uint64_t)(uintptr_t)guest->memory;
    struct machine *machine = machine_make(hpa, hpa + GUEST_FRAMES * PAGE_SIZE, 32, true, true);
    machine_map(machine, 0, hpa, GUEST_FRAMES * PAGE_SIZE - MIB(2), RWX, MEMORY_TYPE_WB);
    /* The last 2 MiB are a read-only memory. */
    machine_map(machine, GUEST_FRAMES * PAGE_SIZE - MIB(2), hpa + GUEST_FRAMES * PAGE_SIZE - MIB(2), MIB(2),
                PAGING_READ | PAGING_EXECUTE, MEMORY_TYPE_WB);
    guest->tables = (struct stage_chain){.stages = {&machine->p2m.stage}, .count = 1};
    walk_x86_init(&guest->walk, &guest->tables);
    machine->chain = (struct stage_chain){.stages = {&guest->walk.stage, &machine->p2m.stage}, .count = 2};
    guest->registers = (struct walk_x86_registers){
        .cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP,
        .cr3 = 0x1000,
        .cr4 = X86_CR4_PAE | X86_CR4_PGE,
        .efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE,
        .pat = 0x0007040600070406,
        .physical_bits = 40,
        .gigabyte_pages = true,
    };
    walk_x86_set(&guest->walk, &guest->registers);
    return machine;
}

static uint64_t *guest_entry(const struct guest *guest, uint64_t table, unsigned slot)
{
    return (uint64_t *)(void *)(guest->memory + table) + slot;
}

static void chain_to_four_levels(void **state)
{
    struct guest guest;
    struct machine *machine = machine_with_guest(&guest);
    struct vtlb_statistics *statistics = &machine->vtlb.statistics;
    uint64_t hpa = (uint64_t)(uintptr_t)guest.memory;
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    /*
     * 0: page 0x300000, clean. 0x1000: read-only. 2M: a large page. 4M: a large page over the read-only
     * memory and beyond.
     */
    *guest_entry(&guest, 0x1000, 0) = 0x2007;
    *guest_entry(&guest, 0x2000, 0) = 0x3007;
    *guest_entry(&guest, 0x3000, 0) = 0x4007;
    *guest_entry(&guest, 0x3000, 1) = 0x200000 | 0x83 | 0x100;
    *guest_entry(&guest, 0x3000, 2) = 0x600000 | 0x87 | 0x60;
    *guest_entry(&guest, 0x3000, 3) = 0x40000000 | 0x87;
    *guest_entry(&guest, 0x4000, 0) = 0x300007 | 1ULL << 63;
    *guest_entry(&guest, 0x4000, 1) = 0x301005;
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_x86_4level), 0);
    hpa_t root = vtlb_root(&context);

    /* A read does not make it writable: D has to be set first. */
    assert_int_equal(vtlb_miss(&context, 0x123, PAGING_READ | PAGING_USER, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, false, 0x123),
                (struct seen){true, hpa + 0x300123, PAGING_READ | PAGING_USER, MEMORY_TYPE_WB, 12, false});
    assert_int_equal(*guest_entry(&guest, 0x4000, 0), 0x300027 | 1ULL << 63);
    assert_int_equal(vtlb_miss(&context, 0x123, PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, false, 0x123),
                (struct seen){true, hpa + 0x300123, PAGING_READ | PAGING_WRITE | PAGING_USER, MEMORY_TYPE_WB,
                              12, false});
    assert_int_equal(*guest_entry(&guest, 0x4000, 0), 0x300067 | 1ULL << 63);
    assert_int_equal(statistics->raised, 1);
    assert_int_equal(vtlb_generation(&machine->vtlb), 1);

    /* The guest's own faults; nothing is built. */
    assert_int_equal(vtlb_miss(&context, 0x123, PAGING_EXECUTE, &result), VTLB_GUEST_FAULT);
    assert_int_equal(result.fault.error_code, PAGE_FAULT_PRESENT | PAGE_FAULT_FETCH);
    assert_int_equal(vtlb_miss(&context, 0x1000, PAGING_WRITE | PAGING_USER, &result), VTLB_GUEST_FAULT);
    assert_int_equal(result.fault.error_code, PAGE_FAULT_PRESENT | PAGE_FAULT_WRITE | PAGE_FAULT_USER);
    assert_int_equal(vtlb_miss(&context, 0x2000, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_int_equal(result.fault.error_code, 0);
    assert_int_equal(result.fault.address, 0x2000);
    assert_int_equal(statistics->guest_faults, 3);

    /*
     * CR0.WP = 0 lets the supervisor write a user's read-only page: it is the supervisor's until a user reads
     * it again.
     */
    guest.registers.cr0 &= ~X86_CR0_WP;
    walk_x86_set(&guest.walk, &guest.registers);
    assert_int_equal(vtlb_miss(&context, 0x1008, PAGING_READ | PAGING_USER, &result), VTLB_FILLED);
    assert_int_equal(vtlb_miss(&context, 0x1008, PAGING_WRITE, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, false, 0x1008).rights, PAGING_READ | PAGING_WRITE | PAGING_EXECUTE);
    assert_int_equal(vtlb_generation(&machine->vtlb), 2);
    assert_int_equal(vtlb_miss(&context, 0x1008, PAGING_READ | PAGING_USER, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, false, 0x1008).rights, PAGING_READ | PAGING_EXECUTE | PAGING_USER);
    assert_int_equal(vtlb_generation(&machine->vtlb), 3);

    /* Large pages: whole, global; over read-only memory rights are those of both. */
    assert_int_equal(vtlb_miss(&context, 0x212345, PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, false, 0x212345),
                (struct seen){true, hpa + 0x212345, RWX, MEMORY_TYPE_WB, 21, true});
    assert_int_equal(vtlb_miss(&context, 0x400000, PAGING_READ, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, false, 0x400000),
                (struct seen){true, hpa + 0x600000, PAGING_READ | PAGING_EXECUTE | PAGING_USER,
                              MEMORY_TYPE_WB, 21, false});
    assert_int_equal(vtlb_miss(&context, 0x400000, PAGING_WRITE, &result), VTLB_NO_MEMORY);
    assert_int_equal(result.fault.address, 0x600000);
    assert_int_equal(vtlb_miss(&context, 0x601234, PAGING_READ, &result), VTLB_NO_MEMORY);
    assert_int_equal(result.fault.address, 0x40001234);
    assert_sound(machine);

    /* Of a large page a table, of a table a large page: what was there goes, and the processor is told. */
    uint64_t generation = vtlb_generation(&machine->vtlb);
    *guest_entry(&guest, 0x3000, 1) = 0x4007;
    assert_int_equal(vtlb_miss(&context, 0x200000, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(statistics->splintered, 1);
    assert_int_equal(vtlb_generation(&machine->vtlb), generation + 1);
    assert_false(walk_pages(root, false, 0x212345).present);
    uint32_t used = statistics->tables_used;
    *guest_entry(&guest, 0x3000, 1) = 0x200000 | 0x83;
    assert_int_equal(vtlb_miss(&context, 0x200000, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(statistics->tables_used, used - 1);
    assert_int_equal(vtlb_generation(&machine->vtlb), generation + 2);
    assert_int_equal(walk_pages(root, false, 0x212345).shift, 21);
    assert_sound(machine);

    /* Another frame in a page's entry, seen without a flush. */
    *guest_entry(&guest, 0x4000, 0) = 0x302007;
    assert_int_equal(vtlb_miss(&context, 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, false, 0).hpa, hpa + 0x302000);
    assert_int_equal(vtlb_generation(&machine->vtlb), generation + 3);

    /* No execute takes a right away; its end gives one. */
    assert_int_equal(vtlb_miss(&context, 0, PAGING_EXECUTE, &result), VTLB_FILLED);
    *guest_entry(&guest, 0x4000, 0) |= 1ULL << 63;
    assert_int_equal(vtlb_miss(&context, 0, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, false, 0).rights & PAGING_EXECUTE, 0);
    assert_int_equal(vtlb_generation(&machine->vtlb), generation + 4);
    *guest_entry(&guest, 0x4000, 0) &= ~(1ULL << 63);
    assert_int_equal(vtlb_miss(&context, 0, PAGING_EXECUTE, &result), VTLB_FILLED);
    assert_int_equal(vtlb_generation(&machine->vtlb), generation + 4);

    /* Tables in a hole read as all ones. */
    *guest_entry(&guest, 0x1000, 0) = 0x8000000007;
    assert_int_equal(vtlb_miss(&context, 0x3000, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_int_equal(result.fault.error_code, PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED);

    /* High halves are below the same root. */
    *guest_entry(&guest, 0x1000, 511) = 0x2007;
    assert_int_equal(vtlb_miss(&context, 0xffffff8000200000, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, false, 0xffffff8000200000).hpa, hpa + 0x200000);
    vtlb_flush_range(&context, 0xffffff8000200fff, 1, VTLB_FLUSH_ADDRESS);
    assert_false(walk_pages(root, false, 0xffffff8000200000).present);
    assert_true(walk_pages(root, false, 0x200000).present);
    assert_sound(machine);
    free(guest.memory);
    machine_free(machine);
}

/*
 * A large page of the guest's over memory that the host maps by small ones, and no paging, in PAE-shaped
 * tables.
 */
static void chain_to_pae(void **state)
{
    struct guest guest;
    struct machine *machine = machine_with_guest(&guest);
    uint64_t hpa = (uint64_t)(uintptr_t)guest.memory;
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    machine->ranges[machine->range_count++] =
        (struct type_range){hpa + 0x404000, hpa + 0x405000, MEMORY_TYPE_UC};
    guest.registers.cr4 = X86_CR4_PSE;
    guest.registers.efer = 0;
    walk_x86_set(&guest.walk, &guest.registers);
    ((uint32_t *)(void *)(guest.memory + 0x1000))[1] = 0x400000 | 0x83;
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_x86_pae), 0);
    hpa_t root = vtlb_root(&context);

    assert_int_equal(vtlb_miss(&context, 0x404008, PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, true, 0x404008),
                (struct seen){true, hpa + 0x404008, RWX, MEMORY_TYPE_UC, 12, false});
    assert_int_equal(vtlb_miss(&context, 0x405000, PAGING_READ, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, true, 0x405000),
                (struct seen){true, hpa + 0x405000, RWX, MEMORY_TYPE_WB, 12, false});
    assert_int_equal(vtlb_miss(&context, 0x700000, PAGING_READ, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, true, 0x700000),
                (struct seen){true, hpa + 0x700000, PAGING_READ | PAGING_EXECUTE, MEMORY_TYPE_WB, 21, false});
    assert_sound(machine);

    /* The guest's PCD = 1, PWT = 1 is uncached, whatever the memory is; its WT over the MTRR's UC too. */
    ((uint32_t *)(void *)(guest.memory + 0x1000))[2] = 0x400000 | 0x9b;
    assert_int_equal(vtlb_miss(&context, 0x800000, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, true, 0x800000).type, MEMORY_TYPE_UC);
    ((uint32_t *)(void *)(guest.memory + 0x1000))[2] = 0x400000 | 0x8b;
    assert_int_equal(vtlb_miss(&context, 0x801000, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, true, 0x801000).type, MEMORY_TYPE_WT);
    assert_int_equal(vtlb_miss(&context, 0x804000, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_pages(root, true, 0x804000).type, MEMORY_TYPE_UC);

    /* A large page of the guest's where the p2m has the memory out of step: fragments. */
    machine_map(machine, 0xc00000, hpa + 0x201000, MIB(4), RWX, MEMORY_TYPE_WB);
    ((uint32_t *)(void *)(guest.memory + 0x1000))[3] = 0xc00000 | 0x83;
    assert_int_equal(vtlb_miss(&context, 0xc12345, PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, true, 0xc12345),
                (struct seen){true, hpa + 0x213345, RWX, MEMORY_TYPE_WB, 12, false});
    assert_false(walk_pages(root, true, 0xc13345).present);

    vtlb_flush(&context, VTLB_FLUSH_ROOT);
    guest.registers.cr0 = X86_CR0_PE;
    walk_x86_set(&guest.walk, &guest.registers);
    assert_int_equal(vtlb_miss(&context, 0x212345, PAGING_WRITE | PAGING_USER, &result), VTLB_FILLED);
    assert_seen(walk_pages(root, true, 0x212345),
                (struct seen){true, hpa + 0x212345, PAGING_RIGHTS, MEMORY_TYPE_WB, 21, false});
    assert_int_equal(vtlb_miss(&context, 0x80000000, PAGING_READ, &result), VTLB_NO_MEMORY);
    assert_sound(machine);
    free(guest.memory);
    machine_free(machine);
}

/* PAE-shaped tables have no 1-GiB pages: where all stages have one, 2-MiB pages are used. */
static void chain_without_paging(void **state)
{
    struct machine *machine = machine_make(GIB(1), GIB(3), 12, true, true);
    struct stage_chain tables = machine->chain;
    struct walk_x86 walk;
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    walk_x86_init(&walk, &tables);
    machine->chain = (struct stage_chain){.stages = {&walk.stage, &machine->p2m.stage}, .count = 2};
    machine_map(machine, GIB(2), GIB(1), GIB(2), RWX, MEMORY_TYPE_WB);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_x86_pae), 0);
    assert_int_equal(vtlb_miss(&context, GIB(3) + 0x212345, PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_pages(vtlb_root(&context), true, GIB(3) + 0x212345),
                (struct seen){true, GIB(2) + 0x212345, PAGING_RIGHTS, MEMORY_TYPE_WB, 21, false});
    vtlb_flush_range(&context, GIB(1), GIB(1), VTLB_FLUSH_ADDRESS);
    assert_true(walk_pages(vtlb_root(&context), true, GIB(3) + 0x212345).present);
    vtlb_flush_range(&context, GIB(3), GIB(1), VTLB_FLUSH_ADDRESS);
    assert_false(walk_pages(vtlb_root(&context), true, GIB(3) + 0x212345).present);
    assert_sound(machine);
    machine_free(machine);
}

/* The guest's protection keys are in the target's entries, for its hardware to check. */
static void chain_keeps_keys(void **state)
{
    struct guest guest;
    struct machine *machine = machine_with_guest(&guest);
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    *guest_entry(&guest, 0x1000, 0) = 0x2007;
    *guest_entry(&guest, 0x2000, 0) = 0x3007;
    *guest_entry(&guest, 0x3000, 1) = 0x200000 | 0x87 | 0xbULL << 59;
    guest.registers.cr4 |= X86_CR4_PKE;
    walk_x86_set(&guest.walk, &guest.registers);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_x86_4level), 0);
    assert_int_equal(vtlb_miss(&context, 0x200000, PAGING_WRITE, &result), VTLB_FILLED);

    uint64_t table = vtlb_root(&context).value, entry = 0;
    for (int level = 0; level < 3; level++, table = entry & 0xffffffffff000)
        entry = ((uint64_t *)(uintptr_t)table)[level == 2 ? 1 : 0];
    assert_int_equal(entry >> 59 & 15, 0xb);
    assert_sound(machine);
    free(guest.memory);
    machine_free(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_to_four_levels),
        cmocka_unit_test(chain_to_pae),
        cmocka_unit_test(chain_without_paging),
        cmocka_unit_test(chain_keeps_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
