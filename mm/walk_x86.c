// SPDX-License-Identifier: BSD-2-Clause
#include "mm/walk_x86.h"

#include "arch/x86/paging_x86.h"
#include "arch/x86/registers.h"
#include "lib/errors.h"
#include "mm/walk_tables.h"

/* One walk: the entries that it went through, and what they say together. */
struct path {
    struct stage_trail *trail;
    unsigned top;    /* first level with an entry that has A */
    uint64_t grants; /* bits GRANTS, 1 where all of them leave the right; and A, if it is set in all */
};

/* The bits of an entry that are rights, of which NX takes one away, and A. */
#define GRANTS (PTE_USER | PTE_WRITE | PTE_NO_EXECUTE | PTE_ACCESSED)

/* The entry that maps the page. */
static uint64_t leaf_of(const struct path *path)
{
    return path->trail->step[path->trail->leaf].value;
}

static bool path_is_user(const struct path *path)
{
    return (path->grants & PTE_USER) != 0;
}

static bool path_is_writable(const struct path *path)
{
    return (path->grants & PTE_WRITE) != 0;
}

static bool path_is_executable(const struct path *path)
{
    return (path->grants & PTE_NO_EXECUTE) != 0;
}

/* `grants` as rights, and back, for a path with A. Reading is always granted. */
static uint8_t rights_of(uint64_t grants)
{
    return (uint8_t)((grants & PTE_WRITE) / PTE_WRITE * PAGING_WRITE |
                     (grants & PTE_USER) / PTE_USER * PAGING_USER |
                     (grants & PTE_NO_EXECUTE) / PTE_NO_EXECUTE * PAGING_EXECUTE);
}

static uint64_t grants_of(uint8_t rights)
{
    return PTE_ACCESSED | (rights & PAGING_WRITE ? PTE_WRITE : 0) | (rights & PAGING_USER ? PTE_USER : 0) |
           (rights & PAGING_EXECUTE ? PTE_NO_EXECUTE : 0);
}

/*
 * What an entry leaves of them, among bits that mean nothing; a set NX is reserved, and so refused before,
 * unless EFER.NXE is 1.
 */
static uint64_t entry_grants(uint64_t value)
{
    return value ^ PTE_NO_EXECUTE;
}

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

static bool keys_count(const struct walk_x86 *walk)
{
    return cr4_has(walk, X86_CR4_PKE) && walk->format->levels >= 4;
}

/* Of a page with the entry `leaf`. */
static uint8_t page_key(const struct walk_x86 *walk, uint64_t leaf)
{
    return keys_count(walk) ? (leaf >> PTE_KEY_SHIFT) & 15 : 0;
}

/* What PKRU denies of the page that the path leads to: KEY_*; nothing if it is a supervisor's. */
static unsigned denied_by_key(const struct walk_x86 *walk, const struct path *path)
{
    if (!keys_count(walk) || !path_is_user(path))
        return 0;
    return walk->registers.pkru >> (2 * page_key(walk, leaf_of(path))) &
           (KEY_ACCESS_DISABLE | KEY_WRITE_DISABLE);
}

/* Whether a key that has `denied` forbids the access. */
static bool key_forbids(const struct walk_x86 *walk, unsigned denied, unsigned access)
{
    if (likely(denied == 0) || is_fetch(access))
        return false;
    return (denied & KEY_ACCESS_DISABLE) != 0 ||
           ((access & PAGING_WRITE) != 0 && (is_user_access(access) || write_protect(walk)));
}

/* ---- The access (SDM vol. 3, "Determination of Access Rights") ---- */

static bool supervisor_may(const struct walk_x86 *walk, const struct path *path, unsigned access)
{
    if (is_fetch(access))
        return path_is_executable(path) && !(path_is_user(path) && cr4_has(walk, X86_CR4_SMEP));
    if (path_is_user(path) && cr4_has(walk, X86_CR4_SMAP) &&
        (access & (STAGE_ACCESS_AC | STAGE_ACCESS_IMPLICIT)) != STAGE_ACCESS_AC)
        return false;
    return (access & PAGING_WRITE) == 0 || path_is_writable(path) || !write_protect(walk);
}

static bool user_may(const struct path *path, unsigned access)
{
    if (!path_is_user(path))
        return false;
    if (is_fetch(access))
        return path_is_executable(path);
    return (access & PAGING_WRITE) == 0 || path_is_writable(path);
}

/* ---- The walk ---- */

/* Where the path begins: at the top, or where the caller knows the rest. False: nothing is there. */
static bool begin_path(const struct walk_x86 *walk, uint64_t address, struct path *path)
{
    const struct paging_format *format = walk->format;
    struct stage_trail *trail = path->trail;
    uint64_t table = walk->registers.cr3 & format->address;

    trail->top = format->levels;
    trail->leaf = trail->reached = 0;
    path->top = format->levels;
    if (trail->known != 0) {
        path->grants = grants_of(trail->step[trail->known].rights);
        path->top = trail->known;
        return true;
    }
    if (format == &paging_x86_pae) {
        /* The top level is in registers, was checked when they were loaded, and has neither rights nor A. */
        const uint64_t pdpte = walk->registers.pdpte[paging_index(format, 3, address)];

        trail->step[3].table = walk->registers.cr3;
        trail->step[3].value = pdpte;
        trail->step[3].host = NULL;
        trail->step[3].rights = rights_of(path->grants);
        if ((pdpte & PTE_PRESENT) == 0)
            return false;
        table = pdpte & format->address;
        path->top = 2;
    }
    trail->step[path->top].table = table;
    trail->step[path->top].host = NULL;
    trail->step[path->top].rights = rights_of(path->grants);
    return true;
}

/* Reads the path to `address`; STAGE_DONE when it ends at an entry that maps a page. */
static enum stage_outcome read_path(const struct walk_x86 *walk, uint64_t address, unsigned access,
                                    struct path *path, struct stage_fault *fault)
{
    struct stage_trail *trail = path->trail;

    if (!begin_path(walk, address, path))
        return page_fault(walk, address, access, 0, fault);
    for (unsigned level = path->top;; level--) {
        enum stage_outcome outcome =
            walk_entry_read(walk->memory, walk->table_access, walk->format->entry_size,
                            walk_entry_offset(walk->format, level, address), level, trail, fault);
        if (outcome != STAGE_DONE)
            return outcome;
        if ((path->grants & PTE_ACCESSED) != 0)
            trail->reached = (uint8_t)level;

        const uint64_t value = trail->step[level].value;
        if ((value & PTE_PRESENT) == 0)
            return page_fault(walk, address, access, 0, fault);

        const bool maps_page = level == 1 || ((value & PTE_LARGE) != 0 && large_is_used(walk, level));
        if ((value & walk->reserved[level][maps_page]) != 0)
            return page_fault(walk, address, access, PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED, fault);

        path->grants &= entry_grants(value);
        if (maps_page) {
            trail->leaf = (uint8_t)level;
            return STAGE_DONE;
        }
        trail->step[level - 1].table = value & walk->format->address;
        trail->step[level - 1].host = NULL;
        trail->step[level - 1].rights = rights_of(path->grants);
    }
}

/* Whether the path has A, and for a write D, already. */
static bool is_marked(const struct path *path, bool writes)
{
    return (path->grants & PTE_ACCESSED) != 0 && (!writes || (leaf_of(path) & PTE_DIRTY) != 0);
}

/*
 * The memory type that the PAT, PCD and PWT bits of a page's entry choose (SDM vol. 3, "Selecting a Memory
 * Type from the PAT").
 */
static uint8_t page_memory_type(const struct walk_x86 *walk, unsigned level, uint64_t value)
{
    const uint64_t pat = level == 1 ? value / PTE_PAT : value / PTE_LARGE_PAT;
    const unsigned index = (value / PTE_PWT & 3) | (pat & 1) << 2; /* PCD is the bit above PWT */

    return walk->registers.pat >> (8 * index) & 7;
}

/*
 * The target's hardware has CR0.WP = 1. A supervisor write that only the guest's CR0.WP = 0 allows, whether
 * the entries or a protection key deny it otherwise, makes the page a supervisor's and writable, until a user
 * access makes it the user's again. SMEP, which then no longer sees a user's page, is kept by no execute.
 * SMAP and keys, which may forbid the next access to a user's page, cannot be kept so: where they are in use,
 * it is for this one access.
 */
static void grant_write(const struct walk_x86 *walk, const struct path *path, struct translation *translation)
{
    translation->rights = (translation->rights | PAGING_WRITE) & ~PAGING_USER;
    translation->key = 0; /* for nothing on a supervisor's page, but on an emulator's (docs/notes/bochs.md) */
    if (!path_is_user(path))
        return;
    if (cr4_has(walk, X86_CR4_SMEP))
        translation->rights &= ~PAGING_EXECUTE;
    translation->transient = cr4_has(walk, X86_CR4_SMAP) || keys_count(walk);
}

/*
 * What a path that leaves `grants`, and whose last entry is `leaf` of `level`, says for `address`. The target
 * knows nothing of the guest's D bit: no write while D is 0. (Keys are its hardware's to check.)
 */
static inline void translate(const struct walk_x86 *walk, uint64_t grants, unsigned level, uint64_t leaf,
                             uint64_t address, struct translation *translation)
{
    const unsigned shift = walk->format->level[level].shift;

    if ((leaf & PTE_DIRTY) == 0)
        grants &= ~PTE_WRITE;
    translation->address =
        level == 1 ? leaf & walk->format->address : paging_x86_page_address(walk->format, level, leaf);
    translation->address |= address & (BIT(shift) - 1);
    translation->rights = PAGING_READ | rights_of(grants);
    translation->memory_type = page_memory_type(walk, level, leaf);
    translation->page_shift = (uint8_t)shift;
    translation->key = (grants & PTE_USER) != 0 ? page_key(walk, leaf) : 0; /* as in grant_write */
    translation->global = (leaf & PTE_GLOBAL) != 0 && cr4_has(walk, X86_CR4_PGE);
    translation->transient = false;
}

static enum stage_outcome walk_once(const struct walk_x86 *walk, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_trail *trail,
                                    struct stage_fault *fault)
{
    struct path path = {.trail = trail, .grants = GRANTS};
    enum stage_outcome outcome = read_path(walk, address, access, &path, fault);

    if (outcome != STAGE_DONE)
        return outcome;

    const bool writes = (access & PAGING_WRITE) != 0;
    const unsigned denied = denied_by_key(walk, &path);
    const bool key_violated = key_forbids(walk, denied, access);
    const bool allowed =
        is_user_access(access) ? user_may(&path, access) : supervisor_may(walk, &path, access);
    if (!allowed || key_violated)
        return page_fault(walk, address, access, PAGE_FAULT_PRESENT | (key_violated ? PAGE_FAULT_KEY : 0),
                          fault);
    if (!is_marked(&path, writes) && (access & STAGE_ACCESS_PROBE) == 0) {
        const struct walk_tables tables = {&walk->stage, walk->memory, walk->format};

        outcome = walk_trail_mark(&tables, trail, path.top, address, writes, fault);
        if (outcome != STAGE_DONE)
            return outcome;
    }

    translate(walk, path.grants, trail->leaf, leaf_of(&path) | (writes ? PTE_DIRTY : 0), address,
              translation);
    if (unlikely(writes && (!path_is_writable(&path) || denied != 0)))
        grant_write(walk, &path, translation);
    return STAGE_DONE;
}

static enum stage_outcome walk_trail(const struct stage *stage, uint64_t address, unsigned access,
                                     struct translation *translation, struct stage_trail *trail,
                                     struct stage_fault *fault)
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
        trail->top = trail->leaf = trail->reached = 0;
        return STAGE_DONE;
    }
    for (unsigned attempt = 0; attempt < WALK_ATTEMPTS_MAX; attempt++) {
        outcome = walk_once(walk, address, access, translation, trail, fault);
        if (outcome != STAGE_AGAIN)
            break;
    }
    return outcome;
}

static enum stage_outcome walk_x86(const struct stage *stage, uint64_t address, unsigned access,
                                   struct translation *translation, struct stage_fault *fault)
{
    struct stage_trail trail;

    trail.known = 0;
    return walk_trail(stage, address, access, translation, &trail, fault);
}

static bool peek(const struct stage *stage, uint64_t address, uint64_t value, const struct stage_trail *trail,
                 struct translation *translation)
{
    const struct walk_x86 *walk = container_of(stage, struct walk_x86, stage);

    if ((~value & (PTE_PRESENT | PTE_ACCESSED)) != 0 || (value & walk->reserved[1][true]) != 0)
        return false;
    translate(walk, grants_of(trail->step[1].rights) & entry_grants(value), 1, value, address, translation);
    return true;
}

void walk_x86_init(struct walk_x86 *walk, const struct stage_chain *memory)
{
    *walk = (struct walk_x86){.stage = {.walk = walk_x86, .walk_trail = walk_trail, .peek = peek},
                              .memory = memory,
                              .table_access = PAGING_READ};
}

/*
 * What must be 0 in the entries of each level. Where PS = 1 cannot map a page it is reserved, but in 32-bit
 * paging without CR4.PSE, which ignores it.
 */
static void find_reserved(struct walk_x86 *walk)
{
    const struct paging_format *format = walk->format;
    const bool nxe = no_execute_enabled(walk);

    for (unsigned level = 1; level <= format->levels; level++)
        for (unsigned maps_page = 0; maps_page < 2; maps_page++)
            walk->reserved[level][maps_page] =
                paging_x86_reserved(format, level, maps_page != 0, walk->registers.physical_bits, nxe) |
                (maps_page == 0 && format->entry_size == 8 ? PTE_LARGE : 0);
}

void walk_x86_set(struct walk_x86 *walk, const struct walk_x86_registers *registers)
{
    const struct paging_format *before = walk->format;
    const bool same =
        registers->efer == walk->registers.efer && registers->physical_bits == walk->registers.physical_bits;

    walk->registers = *registers;
    if ((registers->cr0 & X86_CR0_PG) == 0)
        walk->format = NULL;
    else if ((registers->cr4 & X86_CR4_PAE) == 0)
        walk->format = &paging_x86_32bit;
    else if ((registers->efer & X86_EFER_LMA) == 0)
        walk->format = &paging_x86_pae;
    else
        walk->format = (registers->cr4 & X86_CR4_LA57) != 0 ? &paging_x86_5level : &paging_x86_4level;
    if (walk->format != NULL && (walk->format != before || !same))
        find_reserved(walk);
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
