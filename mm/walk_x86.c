// SPDX-License-Identifier: BSD-2-Clause
#include "mm/walk_x86.h"

#include "arch/x86/paging_x86.h"
#include "arch/x86/registers.h"
#include "lib/errors.h"

/*
 * How often a walk begins again because the guest changed an entry between its reading and the setting of A
 * or D.
 */
#define ATTEMPTS_MAX 8

/* One walk: the entries that it went through, from the top, and what they say together. */
struct path {
    struct {
        gpa_t address;
        uint64_t value;
    } entry[PAGING_LEVELS_MAX + 1]; /* by level */
    unsigned top;                   /* first level with an entry that has A */
    unsigned leaf;                  /* level of the last entry, which maps the page */
    bool user, write, execute;
};

/* ---- What the registers say ---- */

static bool no_execute_enabled(const struct walk_x86 *walk)
{
    return (walk->registers.efer & X86_EFER_NXE) != 0 && walk->format->entry_size == 8;
}

static bool cr4_has(const struct walk_x86 *walk, uint64_t bit)
{
    return (walk->registers.cr4 & bit) != 0;
}

static bool write_protect(const struct walk_x86 *walk)
{
    return (walk->registers.cr0 & X86_CR0_WP) != 0;
}

static bool is_user_access(unsigned access)
{
    return (access & (PAGING_USER | STAGE_ACCESS_IMPLICIT)) == PAGING_USER;
}

static bool is_fetch(unsigned access)
{
    return (access & PAGING_EXECUTE) != 0;
}

/* Whether an entry of `level` with PS = 1 maps a page on this guest's processor (SDM vol. 3, "Paging Modes").
 */
static bool large_is_used(const struct walk_x86 *walk, unsigned level)
{
    if (!walk->format->level[level].maps_page)
        return false;
    if (level == 2)
        return walk->format != &paging_x86_32bit || cr4_has(walk, X86_CR4_PSE);
    return walk->registers.gigabyte_pages;
}

/* ---- Faults ---- */

/* SDM vol. 3, "Page-Fault Exceptions": `error_code` has P, RSVD and PK; the access gives the rest. */
static enum stage_outcome page_fault(const struct walk_x86 *walk, uint64_t address, unsigned access,
                                     uint64_t error_code, struct stage_fault *fault)
{
    if (is_fetch(access)) {
        if (cr4_has(walk, X86_CR4_SMEP) || no_execute_enabled(walk))
            error_code |= PAGE_FAULT_FETCH;
    } else if (access & PAGING_WRITE) {
        error_code |= PAGE_FAULT_WRITE;
    }
    if (is_user_access(access))
        error_code |= PAGE_FAULT_USER;
    *fault = (struct stage_fault){.stage = &walk->stage, .address = address, .error_code = error_code};
    return STAGE_FAULT;
}

/* ---- Protection keys (SDM vol. 3, "Protection Keys") ---- */

#define KEY_ACCESS_DISABLE 1
#define KEY_WRITE_DISABLE  2

static uint8_t page_key(const struct walk_x86 *walk, const struct path *path)
{
    if (!cr4_has(walk, X86_CR4_PKE) || walk->format->levels < 4)
        return 0;
    return (path->entry[path->leaf].value >> PTE_KEY_SHIFT) & 15;
}

static bool key_forbids(const struct walk_x86 *walk, const struct path *path, unsigned access)
{
    unsigned denied;

    if (!cr4_has(walk, X86_CR4_PKE) || walk->format->levels < 4 || !path->user || is_fetch(access))
        return false;
    denied = walk->registers.pkru >> (2 * page_key(walk, path));
    return (denied & KEY_ACCESS_DISABLE) != 0 ||
           ((denied & KEY_WRITE_DISABLE) != 0 && (access & PAGING_WRITE) != 0 &&
            (is_user_access(access) || write_protect(walk)));
}

/* ---- The access (SDM vol. 3, "Determination of Access Rights") ---- */

static bool supervisor_may(const struct walk_x86 *walk, const struct path *path, unsigned access)
{
    if (is_fetch(access))
        return path->execute && !(path->user && cr4_has(walk, X86_CR4_SMEP));
    if (path->user && cr4_has(walk, X86_CR4_SMAP) &&
        (access & (STAGE_ACCESS_AC | STAGE_ACCESS_IMPLICIT)) != STAGE_ACCESS_AC)
        return false;
    return (access & PAGING_WRITE) == 0 || path->write || !write_protect(walk);
}

static bool user_may(const struct path *path, unsigned access)
{
    if (!path->user)
        return false;
    if (is_fetch(access))
        return path->execute;
    return (access & PAGING_WRITE) == 0 || path->write;
}

/* ---- The walk ---- */

/* Reads the path to `address` from the top; STAGE_DONE when it ends at an entry that maps a page. */
static enum stage_outcome read_path(const struct walk_x86 *walk, uint64_t address, unsigned access,
                                    struct path *path, struct stage_fault *fault)
{
    const struct paging_format *format = walk->format;
    const bool nxe = no_execute_enabled(walk);
    uint64_t table = walk->registers.cr3 & format->address;

    path->top = format->levels;
    if (format == &paging_x86_pae) {
        /* The top level is in registers, was checked when they were loaded, and has neither rights nor A. */
        const uint64_t pdpte = walk->registers.pdpte[paging_index(format, 3, address)];
        if ((pdpte & PTE_PRESENT) == 0)
            return page_fault(walk, address, access, 0, fault);
        table = pdpte & format->address;
        path->top = 2;
    }

    for (path->leaf = path->top;; path->leaf--) {
        const unsigned level = path->leaf;
        const gpa_t at = GPA(table + (uint64_t)paging_index(format, level, address) * format->entry_size);
        uint64_t value;
        enum stage_outcome outcome = guest_memory_load(walk->memory, at, format->entry_size, &value, fault);

        if (outcome != STAGE_DONE) {
            fault->in_tables = true;
            return outcome;
        }
        path->entry[level].address = at;
        path->entry[level].value = value;
        if ((value & PTE_PRESENT) == 0)
            return page_fault(walk, address, access, 0, fault);

        /*
         * Where PS = 1 cannot map a page it is reserved, but in 32-bit paging without CR4.PSE, which ignores
         * it.
         */
        const bool maps_page = level == 1 || ((value & PTE_LARGE) != 0 && large_is_used(walk, level));
        uint64_t reserved = paging_x86_reserved(format, level, maps_page, walk->registers.physical_bits, nxe);
        if (!maps_page && level > 1 && format->entry_size == 8)
            reserved |= PTE_LARGE;
        if ((value & reserved) != 0)
            return page_fault(walk, address, access, PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED, fault);

        path->user &= (value & PTE_USER) != 0;
        path->write &= (value & PTE_WRITE) != 0;
        path->execute &= (value & PTE_NO_EXECUTE) == 0; /* reserved, and so refused, unless EFER.NXE is 1 */
        if (maps_page)
            return STAGE_DONE;
        table = value & format->address;
    }
}

/*
 * Sets A along the path, and D in its last entry for a write, as the processor does: each by a
 * compare-and-swap against the value that the walk relied on (SDM vol. 3, "Accessed and Dirty Flags").
 * STAGE_AGAIN: an entry has become another.
 */
static enum stage_outcome mark_path(const struct walk_x86 *walk, struct path *path, unsigned access,
                                    struct stage_fault *fault)
{
    for (unsigned level = path->top; level >= path->leaf; level--) {
        const bool dirties = level == path->leaf && (access & PAGING_WRITE) != 0;
        const uint64_t wanted = PTE_ACCESSED | (dirties ? PTE_DIRTY : 0);
        uint64_t *value = &path->entry[level].value;

        while ((*value & wanted) != wanted) {
            uint64_t now = *value;
            bool exchanged;
            enum stage_outcome outcome =
                guest_memory_exchange(walk->memory, path->entry[level].address, walk->format->entry_size,
                                      &now, *value | wanted, &exchanged, fault);
            if (outcome != STAGE_DONE) {
                fault->in_tables = true;
                return outcome;
            }
            if (exchanged) {
                *value |= wanted;
            } else if (((now ^ *value) & ~(PTE_ACCESSED | PTE_DIRTY)) == 0 && (now & ~*value) != 0) {
                *value = now; /* another processor set one of the two: at most twice */
            } else {
                *fault = (struct stage_fault){
                    .stage = &walk->stage, .address = path->entry[level].address.value, .in_tables = true};
                return STAGE_AGAIN;
            }
        }
    }
    return STAGE_DONE;
}

/*
 * The memory type that the page's PAT, PCD and PWT bits choose (SDM vol. 3, "Selecting a Memory Type from the
 * PAT").
 */
static uint8_t page_memory_type(const struct walk_x86 *walk, const struct path *path)
{
    const uint64_t value = path->entry[path->leaf].value;
    const uint64_t pat = path->leaf == 1 ? PTE_PAT : PTE_LARGE_PAT;
    const unsigned index =
        ((value & PTE_PWT) ? 1 : 0) + ((value & PTE_PCD) ? 2 : 0) + ((value & pat) ? 4 : 0);

    return walk->registers.pat >> (8 * index) & 7;
}

/*
 * What a target may grant, whose hardware has CR0.WP = 1 and knows nothing of the guest's D bit: no write
 * while D is 0. (Keys are its hardware's to check.) A supervisor write that only CR0.WP = 0 allows makes it a
 * supervisor's writable page, until a user access makes it the user's again; SMEP, which then no longer sees
 * a user's page, is kept by no execute. SMAP cannot be kept so: with CR4.SMAP = 1 too, such a translation
 * must not outlive the access.
 */
static uint8_t granted_rights(const struct walk_x86 *walk, const struct path *path, unsigned access)
{
    const bool writes = (access & PAGING_WRITE) != 0;
    const bool dirty = writes || (path->entry[path->leaf].value & PTE_DIRTY) != 0;
    uint8_t rights = PAGING_READ;

    if (path->user)
        rights |= PAGING_USER;
    if (path->execute)
        rights |= PAGING_EXECUTE;
    if (path->write && dirty)
        rights |= PAGING_WRITE;
    if (writes && !path->write) {
        rights = (rights | PAGING_WRITE) & ~PAGING_USER;
        if (path->user && cr4_has(walk, X86_CR4_SMEP))
            rights &= ~PAGING_EXECUTE;
    }
    return rights;
}

static enum stage_outcome walk_once(const struct walk_x86 *walk, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_fault *fault)
{
    struct path path = {.user = true, .write = true, .execute = true};
    enum stage_outcome outcome = read_path(walk, address, access, &path, fault);

    if (outcome != STAGE_DONE)
        return outcome;

    const bool key_violated = key_forbids(walk, &path, access);
    const bool allowed =
        is_user_access(access) ? user_may(&path, access) : supervisor_may(walk, &path, access);
    if (!allowed || key_violated)
        return page_fault(walk, address, access, PAGE_FAULT_PRESENT | (key_violated ? PAGE_FAULT_KEY : 0),
                          fault);
    if ((access & STAGE_ACCESS_PROBE) == 0) {
        outcome = mark_path(walk, &path, access, fault);
        if (outcome != STAGE_DONE)
            return outcome;
    }

    const uint64_t leaf = path.entry[path.leaf].value;
    const unsigned shift = walk->format->level[path.leaf].shift;
    *translation = (struct translation){
        .address = paging_x86_page_address(walk->format, path.leaf, leaf) | (address & (BIT(shift) - 1)),
        .rights = granted_rights(walk, &path, access),
        .memory_type = page_memory_type(walk, &path),
        .page_shift = (uint8_t)shift,
        .key = page_key(walk, &path),
        .global = (leaf & PTE_GLOBAL) != 0 && cr4_has(walk, X86_CR4_PGE),
    };
    return STAGE_DONE;
}

static enum stage_outcome walk_x86(const struct stage *stage, uint64_t address, unsigned access,
                                   struct translation *translation, struct stage_fault *fault)
{
    const struct walk_x86 *walk = container_of(stage, struct walk_x86, stage);
    enum stage_outcome outcome;

    /* Outside 64-bit mode linear addresses have 32 bits. */
    if (walk->format == NULL || walk->format->levels < 4)
        address &= UINT32_MAX;
    if (walk->format == NULL) {
        *translation = (struct translation){
            .address = address,
            .rights = PAGING_RIGHTS,
            .memory_type = MEMORY_TYPE_WB,
            .page_shift = PAGE_SHIFT_1G,
        };
        return STAGE_DONE;
    }
    for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        outcome = walk_once(walk, address, access, translation, fault);
        if (outcome != STAGE_AGAIN)
            break;
    }
    return outcome;
}

void walk_x86_init(struct walk_x86 *walk, const struct stage_chain *memory)
{
    *walk = (struct walk_x86){.stage = {.walk = walk_x86}, .memory = memory};
}

void walk_x86_set(struct walk_x86 *walk, const struct walk_x86_registers *registers)
{
    walk->registers = *registers;
    if ((registers->cr0 & X86_CR0_PG) == 0)
        walk->format = NULL;
    else if ((registers->cr4 & X86_CR4_PAE) == 0)
        walk->format = &paging_x86_32bit;
    else if ((registers->efer & X86_EFER_LMA) == 0)
        walk->format = &paging_x86_pae;
    else
        walk->format = (registers->cr4 & X86_CR4_LA57) != 0 ? &paging_x86_5level : &paging_x86_4level;
}

int walk_x86_load_pdptes(const struct stage_chain *memory, const struct walk_x86_registers *registers,
                         uint64_t pdpte[4])
{
    const uint64_t reserved = paging_x86_reserved(&paging_x86_pae, 3, false, registers->physical_bits, false);
    const gpa_t table = GPA(registers->cr3 & 0xffffffe0);
    uint64_t loaded[4];

    if (guest_memory_read(memory, table, loaded, sizeof(loaded), NULL) != 0)
        return -EFAULT;
    for (unsigned i = 0; i < ARRAY_SIZE(loaded); i++)
        if ((loaded[i] & PTE_PRESENT) != 0 && (loaded[i] & reserved) != 0)
            return -EINVAL;
    for (unsigned i = 0; i < ARRAY_SIZE(loaded); i++)
        pdpte[i] = loaded[i];
    return 0;
}
