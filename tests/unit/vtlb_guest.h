// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A guest on a virtual TLB for tests of single cases: two processes in 4-level paging whose tables the test
 * writes, and a look at what the processor would find.
 */
#include <sys/mman.h>

#include "arch/x86/paging_ept.h"
#include "arch/x86/paging_x86.h"
#include "arch/x86/registers.h"
#include "mm/walk_x86.h"
#include "tests/unit/vtlb_machine.h"

#define GUEST_FRAMES 2048 /* 8 MiB: the tables are in the first MiB, each 2 MiB above are what is mapped */
#define MAPPING_SIZE (GUEST_FRAMES * PAGE_SIZE + MIB(4))
#define KERNEL       0xffffff8000000000ULL
#define USER         0x400000ULL
#define PAGES        64 /* that each half maps from there on */

enum {
    USER_RW = 0x67, /* P W U A D */
    KERNEL_RW = 0x63,
};

/* Two processes, A and B, with a kernel half in common. */
#define ROOT_A      0x1000ULL
#define ROOT_B      0x2000ULL
#define POINTERS_A  0x10000ULL
#define POINTERS_B  0x20000ULL
#define DIRECTORY_A 0x11000ULL
#define DIRECTORY_B 0x21000ULL
#define DIRECTORY_K 0x31000ULL
#define PT_A        0x12000ULL
#define PT_B        0x22000ULL
#define PT_K        0x32000ULL

struct guest {
    struct machine *machine;
    void *mapping; /* that `memory` is in: what is behind its end cannot be reached */
    unsigned char *memory;
    uint64_t hpa;
    struct walk_x86 walk;
    struct stage_chain tables, chain;
    struct walk_x86_registers registers;
    struct vtlb *vtlb;
    struct vtlb_statistics *s;
    struct vtlb_context *context;
};

static inline uint64_t *entry_at(const struct guest *guest, uint64_t table, unsigned slot)
{
    return (uint64_t *)(void *)(guest->memory + table) + slot;
}

static inline void link_tables(const struct guest *guest, uint64_t root, unsigned top_slot, uint64_t tables,
                               unsigned pd_slot)
{
    *entry_at(guest, root, top_slot) = tables | USER_RW;
    *entry_at(guest, tables, 0) = (tables + 0x1000) | USER_RW;
    *entry_at(guest, tables + 0x1000, pd_slot) = (tables + 0x2000) | USER_RW;
}

static inline struct guest *make_guest(uint32_t pages, enum vtlb_mode mode)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    assert_non_null(guest);
    guest->mapping = mmap(NULL, MAPPING_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(guest->mapping, MAP_FAILED);
    guest->hpa = align_up((uintptr_t)guest->mapping, MIB(2));
    guest->memory = (unsigned char *)(uintptr_t)guest->hpa;
    assert_int_equal(mprotect(guest->memory, GUEST_FRAMES * PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
    guest->machine =
        machine_make_in_mode(guest->hpa, guest->hpa + GUEST_FRAMES * PAGE_SIZE, pages, true, true, mode);
    guest->vtlb = &guest->machine->vtlb;
    guest->s = &guest->vtlb->statistics;
    machine_map(guest->machine, 0, guest->hpa, GUEST_FRAMES * PAGE_SIZE, RWX, MEMORY_TYPE_WB);

    link_tables(guest, ROOT_A, 0, POINTERS_A, 2);
    link_tables(guest, ROOT_B, 0, POINTERS_B, 2);
    link_tables(guest, ROOT_A, 511, 0x30000, 0);
    *entry_at(guest, ROOT_B, 511) = 0x30000 | USER_RW;
    for (unsigned i = 0; i < PAGES; i++) {
        *entry_at(guest, PT_A, i) = (MIB(2) + i * PAGE_SIZE) | USER_RW;
        *entry_at(guest, PT_B, i) = (MIB(4) + i * PAGE_SIZE) | USER_RW;
        *entry_at(guest, PT_K, i) = (MIB(6) + i * PAGE_SIZE) | KERNEL_RW;
    }
    guest->tables = (struct stage_chain){.stages = {&guest->machine->p2m.stage}, .count = 1};
    walk_x86_init(&guest->walk, &guest->tables);
    guest->chain =
        (struct stage_chain){.stages = {&guest->walk.stage, &guest->machine->p2m.stage}, .count = 2};
    guest->registers = (struct walk_x86_registers){
        .cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP,
        .cr4 = X86_CR4_PAE | X86_CR4_PGE,
        .efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE,
        .pat = 0x0007040600070406,
        .physical_bits = 40,
        .gigabyte_pages = true,
    };
    return guest;
}

static inline void free_guest(struct guest *guest)
{
    machine_free(guest->machine);
    munmap(guest->mapping, MAPPING_SIZE);
    free(guest);
}

static inline void load(struct guest *guest, uint64_t root, uint16_t tag, uint32_t role, bool flush)
{
    const struct vtlb_space space = {
        .chain = &guest->chain,
        .source = &paging_x86_4level,
        .target = &paging_x86_4level,
        .root = root,
        .role = role,
        .tag = tag,
    };

    guest->registers.cr3 = root;
    walk_x86_set(&guest->walk, &guest->registers);
    guest->context = vtlb_switch(guest->vtlb, &space, flush);
    assert_sound(guest->machine);
}

static inline struct seen look(const struct guest *guest, uint64_t linear)
{
    return walk_pages(vtlb_root(guest->context), false, linear);
}

/* What a guest's access takes: a miss if the entry is not there. Marks what the processor would. */
static inline void touch(struct guest *guest, uint64_t linear)
{
    struct vtlb_result result;

    if (!look(guest, linear).present)
        assert_int_equal(vtlb_miss(guest->context, linear, PAGING_READ, &result), VTLB_FILLED);
    assert_true(look(guest, linear).present);
    uint64_t table = vtlb_root(guest->context).value, *entry = NULL;
    for (int level = 4; level > 0; level--, table = *entry & 0xffffffffff000)
        entry = (uint64_t *)(uintptr_t)table + (linear >> (9 * level + 3) & 511);
    *entry |= PTE_ACCESSED;
}

static inline void touch_pages(struct guest *guest, uint64_t linear)
{
    for (unsigned i = 0; i < PAGES; i++)
        touch(guest, linear + i * PAGE_SIZE);
}
