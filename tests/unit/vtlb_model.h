// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A model of what a processor may translate an address to, with a TLB that keeps all it may and fills
 * whatever it may, whenever it may. It remembers a guest's page tables as they were at every moment since
 * everything was last invalidated, the registers they were used with, and what was invalidated when. A
 * translation is legal if a walk at one of these moments gave it (with A set along the path: a processor
 * caches no other) and no invalidation since then covers it.
 *
 * The walk is written from the SDM (vol. 3, "Paging"), and shares nothing with mm/ but the struct that holds
 * the registers. Slow and plain on purpose. Needs <cmocka.h>.
 */
#include "arch/x86/registers.h"
#include "mm/stage.h"
#include "mm/walk_x86.h"

#define MODEL_TABLE_FRAMES 64 /* from guest-physical 0: the only memory that is written */
#define MODEL_WORDS        (MODEL_TABLE_FRAMES * 512)
#define MODEL_CHANGES      4096
#define MODEL_ERAS         512
#define MODEL_INVALIDATED  2048
#define MODEL_TAGS         4
#define MODEL_SPARE        128 /* of each, for one operation of the guest's */
#define MODEL_REGIONS      8

enum model_format { MODEL_NONE, MODEL_32BIT, MODEL_PAE, MODEL_4LEVEL, MODEL_5LEVEL, MODEL_FORMATS };

struct model_region {
    uint64_t gpa, size;
    unsigned char *memory; /* its host-physical address too */
    uint8_t rights;        /* R, W, X */
};

/* A word of the tables was something else before `time`. */
struct model_change {
    uint64_t before;
    uint32_t time;
    uint32_t word;
    int32_t older; /* change of the same word; -1: none */
};

/* From `time` on the registers were these. */
struct model_era {
    uint32_t time;
    uint16_t tag;
    enum model_format format;
    struct walk_x86_registers registers;
};

/* At `time` the translations of a linear address went, in `tag`, and globals if `globals`. */
struct model_invalidated {
    uint32_t time;
    uint16_t tag;
    bool globals;
    uint64_t address;
};

struct model {
    struct model_region regions[MODEL_REGIONS];
    size_t region_count;

    /* The state at time t is the one after the t-th event. Time starts again when everything is invalidated.
     */
    uint32_t time;
    uint64_t words[MODEL_WORDS]; /* of the tables, now */
    int32_t newest[MODEL_WORDS]; /* change of the word; -1: none */
    struct model_change changes[MODEL_CHANGES];
    size_t change_count;
    struct model_era eras[MODEL_ERAS]; /* the last is now */
    size_t era_count;
    struct model_invalidated invalidated[MODEL_INVALIDATED];
    size_t invalidated_count;
    uint32_t tag_invalidated[MODEL_TAGS]; /* all but globals, when */
};

/* What the guest's tables say of an address. */
struct model_walk {
    bool present; /* else `error` is what the walk gives to the error code: P and RSVD */
    unsigned error;
    uint64_t gpa;
    unsigned shift; /* log2 of the page */
    bool user, write, execute, global;
    bool accessed; /* in every entry */
    bool dirty;
    unsigned key;
    unsigned type; /* that the PAT says */
    unsigned entries;
    uint64_t entry[5]; /* addresses of those read, from the top */
    uint32_t since;    /* it said so from this time on */
};

static inline struct model_era *model_now(struct model *model)
{
    return &model->eras[model->era_count - 1];
}

static inline const struct model_region *model_region_at(const struct model *model, uint64_t gpa)
{
    for (size_t i = 0; i < model->region_count; i++)
        if (gpa >= model->regions[i].gpa && gpa - model->regions[i].gpa < model->regions[i].size)
            return &model->regions[i];
    return NULL;
}

/* ---- Time ---- */

/* Everything was invalidated: what was before does not count any more. */
static inline void model_forget(struct model *model)
{
    for (size_t i = 0; i < model->change_count; i++)
        model->newest[model->changes[i].word] = -1;
    model->eras[0] = *model_now(model);
    model->eras[0].time = 0;
    model->era_count = 1;
    model->change_count = 0;
    model->invalidated_count = 0;
    model->time = 0;
    for (unsigned tag = 0; tag < MODEL_TAGS; tag++)
        model->tag_invalidated[tag] = 0;
}

/* The history is nearly full: everything has to be invalidated soon. */
static inline bool model_is_full(const struct model *model)
{
    return model->change_count + MODEL_SPARE > MODEL_CHANGES || model->era_count + MODEL_SPARE > MODEL_ERAS ||
           model->invalidated_count + MODEL_SPARE > MODEL_INVALIDATED;
}

/* A word of the tables has become `value`. */
static inline void model_write(struct model *model, uint32_t word, uint64_t value)
{
    if (model->words[word] == value)
        return;
    model->changes[model->change_count] =
        (struct model_change){model->words[word], ++model->time, word, model->newest[word]};
    model->newest[word] = (int32_t)model->change_count++;
    model->words[word] = value;
}

/* The registers change: the caller writes what is returned. */
static inline struct model_era *model_change_registers(struct model *model)
{
    struct model_era *era = &model->eras[model->era_count++];

    *era = era[-1];
    era->time = ++model->time;
    return era;
}

static inline void model_invalidate_tag(struct model *model, uint16_t tag)
{
    model->tag_invalidated[tag] = ++model->time;
}

static inline void model_invalidate_address(struct model *model, uint16_t tag, bool globals, uint64_t address)
{
    model->invalidated[model->invalidated_count++] =
        (struct model_invalidated){++model->time, tag, globals, address};
}

/* ---- The walk ---- */

/*
 * An entry of `size` bytes as it was at `time`; where no memory is, nobody drives the bus and all bits are 1.
 * *since: at least the time from which on it has been so.
 */
static inline uint64_t model_entry(const struct model *model, uint64_t gpa, unsigned size, uint32_t time,
                                   uint32_t *since)
{
    const struct model_region *region = model_region_at(model, gpa);
    uint64_t word;

    if (region == NULL)
        return size == 4 ? UINT32_MAX : UINT64_MAX;
    if (gpa / 8 < MODEL_WORDS) {
        int32_t change = model->newest[gpa / 8];

        word = model->words[gpa / 8];
        for (; change >= 0 && model->changes[change].time > time; change = model->changes[change].older)
            word = model->changes[change].before;
        if (change >= 0 && model->changes[change].time > *since)
            *since = model->changes[change].time;
    } else {
        memcpy(&word, region->memory + align_down(gpa - region->gpa, 8), sizeof(word));
    }
    return size == 8 ? word : gpa % 8 == 4 ? word >> 32 : word & UINT32_MAX;
}

/* Takes an entry that is not the last of the path into account; false: the walk ends here. */
static inline bool model_step(struct model_walk *walk, uint64_t entry, uint64_t reserved)
{
    if ((entry & 1) == 0) {
        walk->error = 0;
        return false;
    }
    if ((entry & reserved) != 0) {
        walk->error = PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED;
        return false;
    }
    walk->write &= entry >> 1 & 1;
    walk->user &= entry >> 2 & 1;
    walk->accessed &= entry >> 5 & 1;
    walk->execute &= (entry >> 63) == 0;
    return true;
}

static inline void model_page(struct model_walk *walk, const struct walk_x86_registers *registers,
                              uint64_t entry, unsigned shift, uint64_t gpa)
{
    const unsigned pat_bit = shift == 12 ? 7 : 12;
    const unsigned pat = (entry >> 3 & 1) | (entry >> 4 & 1) << 1 | (entry >> pat_bit & 1) << 2;

    walk->present = true;
    walk->shift = shift;
    walk->gpa = gpa;
    walk->dirty = entry >> 6 & 1;
    walk->global = (entry >> 8 & 1) && (registers->cr4 & X86_CR4_PGE) != 0;
    walk->type = registers->pat >> 8 * pat & 7;
}

/* SDM vol. 3, "32-Bit Paging". */
static inline void model_walk_32bit(const struct model *model, const struct walk_x86_registers *registers,
                                    uint64_t linear, uint32_t time, struct model_walk *walk)
{
    const uint64_t pde_at = (registers->cr3 & 0xfffff000) + (linear >> 22) * 4;
    const uint64_t pde = model_entry(model, pde_at, 4, time, &walk->since);
    const bool large = (pde >> 7 & 1) && (registers->cr4 & X86_CR4_PSE) != 0;
    const unsigned bits = registers->physical_bits < 40 ? registers->physical_bits : 40;

    walk->entry[walk->entries++] = pde_at;
    /* Of a 4-MByte page, bits 12 + (bits - 32) to 13 are address bits, from there to 21 all are reserved. */
    if (!model_step(walk, pde, large ? 0x3fffff & ~((1ULL << (13 + bits - 32)) - 1) : 0))
        return;
    if (large) {
        const uint64_t high = pde >> 13 & 0xff;
        model_page(walk, registers, pde, 22, high << 32 | (pde & 0xffc00000) | (linear & 0x3fffff));
        return;
    }

    const uint64_t pte_at = (pde & 0xfffff000) + (linear >> 12 & 1023) * 4;
    const uint64_t pte = model_entry(model, pte_at, 4, time, &walk->since);
    walk->entry[walk->entries++] = pte_at;
    if (model_step(walk, pte, 0))
        model_page(walk, registers, pte, 12, (pte & 0xfffff000) | (linear & 0xfff));
}

/* SDM vol. 3, "PAE Paging" and "4-Level Paging and 5-Level Paging". */
static inline void model_walk_wide(const struct model *model, enum model_format format,
                                   const struct walk_x86_registers *registers, uint64_t linear, uint32_t time,
                                   struct model_walk *walk)
{
    const uint64_t frame_mask = 0x000ffffffffff000;
    const uint64_t above = frame_mask & ~((1ULL << registers->physical_bits) - 1);
    const uint64_t nx = (registers->efer & X86_EFER_NXE) != 0 ? 0 : 1ULL << 63;
    const uint64_t ignored = format == MODEL_PAE ? 0x7ff0000000000000 : 0; /* reserved there, ignored else */
    uint64_t table = registers->cr3 & frame_mask;
    unsigned level = format == MODEL_5LEVEL ? 5 : 4;

    if (format == MODEL_PAE) {
        const uint64_t pdpte = registers->pdpte[linear >> 30 & 3];
        if ((pdpte & 1) == 0) {
            walk->error = 0;
            return;
        }
        table = pdpte & frame_mask;
        level = 2;
    }
    for (;; level--) {
        const unsigned shift = 12 + 9 * (level - 1);
        const uint64_t at = table + (linear >> shift & 511) * 8;
        const uint64_t entry = model_entry(model, at, 8, time, &walk->since);
        const bool page_size = entry >> 7 & 1;
        bool page = level == 1;
        uint64_t reserved = above | nx | ignored;

        walk->entry[walk->entries++] = at;
        if (level >= 4 || (level == 3 && !registers->gigabyte_pages))
            reserved |= 1ULL << 7;
        else if (level > 1 && page_size) {
            page = true;
            reserved |= ((1ULL << shift) - 1) & ~0x1fffULL;
        }
        if (!model_step(walk, entry, reserved))
            return;
        if (page) {
            const uint64_t offset = (1ULL << shift) - 1;
            if (format != MODEL_PAE && (registers->cr4 & X86_CR4_PKE) != 0)
                walk->key = entry >> 59 & 15;
            model_page(walk, registers, entry, shift, (entry & frame_mask & ~offset) | (linear & offset));
            return;
        }
        table = entry & frame_mask;
    }
}

/* What the guest's tables said at `time`, with the registers of `era`. */
static inline struct model_walk model_walk(const struct model *model, const struct model_era *era,
                                           uint64_t linear, uint32_t time)
{
    struct model_walk walk = {.user = true, .write = true, .execute = true, .accessed = true};

    if (era->format == MODEL_NONE) {
        walk.present = walk.dirty = true;
        walk.gpa = linear;
        walk.shift = 12;
        walk.type = MEMORY_TYPE_WB;
    } else if (era->format == MODEL_32BIT) {
        model_walk_32bit(model, &era->registers, linear, time, &walk);
    } else {
        model_walk_wide(model, era->format, &era->registers, linear, time, &walk);
    }
    return walk;
}

/* SDM vol. 3, "Interactions" of the load of CR3 with PAE paging: false if it is a #GP. */
static inline bool model_load_pdptes(const struct model *model, uint64_t cr3, unsigned physical_bits,
                                     uint64_t pdpte[4])
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t since = 0;

        pdpte[i] = model_entry(model, (cr3 & 0xffffffe0) + 8 * i, 8, model->time, &since);
        if ((pdpte[i] & 1) != 0 &&
            ((pdpte[i] & 0x1e6) != 0 || pdpte[i] >> (physical_bits < 63 ? physical_bits : 63) != 0))
            return false;
    }
    return true;
}

/* ---- The access: SDM vol. 3, "Access Rights" and "Protection Keys" ---- */

/* Whether the protection key forbids it. */
static inline bool model_key_forbids(const struct model_era *era, const struct model_walk *walk,
                                     unsigned access, bool by_user)
{
    const struct walk_x86_registers *registers = &era->registers;
    const unsigned denied = registers->pkru >> 2 * walk->key & 3;

    if (era->format < MODEL_4LEVEL || (registers->cr4 & X86_CR4_PKE) == 0 || !walk->user ||
        (access & PAGING_EXECUTE) != 0)
        return false;
    if ((denied & 1) != 0)
        return true;
    return (denied & 2) != 0 && (access & PAGING_WRITE) != 0 &&
           (by_user || (registers->cr0 & X86_CR0_WP) != 0);
}

/* Whether the rights of a path allow an access; *error: the error code if not. */
static inline bool model_allows(const struct model_era *era, const struct model_walk *walk, unsigned access,
                                uint64_t *error)
{
    const struct walk_x86_registers *registers = &era->registers;
    const bool by_user = (access & PAGING_USER) != 0 && (access & STAGE_ACCESS_IMPLICIT) == 0;
    const bool ac = (access & STAGE_ACCESS_AC) != 0 && (access & STAGE_ACCESS_IMPLICIT) == 0;
    const bool fetch = (access & PAGING_EXECUTE) != 0, write = (access & PAGING_WRITE) != 0;
    const bool wp = (registers->cr0 & X86_CR0_WP) != 0, smep = (registers->cr4 & X86_CR4_SMEP) != 0;
    const bool smap = (registers->cr4 & X86_CR4_SMAP) != 0;
    const bool nxe = (registers->efer & X86_EFER_NXE) != 0 && era->format >= MODEL_PAE;
    const bool key = walk->present && model_key_forbids(era, walk, access, by_user);
    bool allowed = walk->present && !key;

    if (era->format == MODEL_NONE)
        return true;
    if (by_user)
        allowed = allowed && walk->user && (!write || walk->write) && (!fetch || walk->execute);
    else if (fetch)
        allowed = allowed && walk->execute && !(walk->user && smep);
    else
        allowed = allowed && (!walk->user || !smap || ac) && (!write || walk->write || !wp);

    *error = walk->present ? PAGE_FAULT_PRESENT : walk->error;
    *error |= (write && !fetch ? PAGE_FAULT_WRITE : 0) | (by_user ? PAGE_FAULT_USER : 0) |
              (fetch && (nxe || smep) ? PAGE_FAULT_FETCH : 0) | (key ? PAGE_FAULT_KEY : 0);
    return allowed;
}

/* ---- What may be seen ---- */

/* An access went through, to this byte of the host's. */
struct model_observation {
    uint64_t linear;
    unsigned access;
    uint64_t hpa;
    unsigned mtrr; /* the type that the MTRRs give to it */
    unsigned type; /* the type that resulted */
};

/* SDM vol. 3, "Effective Page-Level Memory Types": what the PAT's type is over memory of the MTRRs' type. */
static inline unsigned model_effective_type(unsigned pat, unsigned mtrr)
{
    enum { UC = MEMORY_TYPE_UC, WC = MEMORY_TYPE_WC, WT = MEMORY_TYPE_WT };
    enum { WP = MEMORY_TYPE_WP, WB = MEMORY_TYPE_WB, UC_ = MEMORY_TYPE_UC_MINUS };
    static const uint8_t effective[MEMORY_TYPES][MEMORY_TYPES] = {
        /* by MTRR and PAT */
        [UC] = {[UC] = UC, [UC_] = UC, [WC] = WC, [WT] = UC, [WB] = UC, [WP] = UC},
        [WC] = {[UC] = UC, [UC_] = WC, [WC] = WC, [WT] = UC, [WB] = WC, [WP] = UC},
        [WT] = {[UC] = UC, [UC_] = UC, [WC] = WC, [WT] = WT, [WB] = WT, [WP] = WP},
        [WB] = {[UC] = UC, [UC_] = UC, [WC] = WC, [WT] = WT, [WB] = WB, [WP] = WP},
        [WP] = {[UC] = UC, [UC_] = WC, [WC] = WC, [WT] = WT, [WB] = WP, [WP] = WP},
    };

    return effective[mtrr][pat];
}

/*
 * What becomes of one of the guest's memory types in a target with the PAT of reset: WC and WP are not among
 * its types, and UC keeps their promises.
 */
static inline unsigned model_type(unsigned type)
{
    return type == MEMORY_TYPE_WB || type == MEMORY_TYPE_WT ? type : MEMORY_TYPE_UC;
}

/* Whether the walk explains the observation, with the access rights as the registers have it now. */
static inline bool model_explains(struct model *model, const struct model_walk *walk,
                                  const struct model_observation *seen)
{
    const struct model_region *region;
    uint64_t error;

    if (!walk->present || !walk->accessed || ((seen->access & PAGING_WRITE) != 0 && !walk->dirty) ||
        !model_allows(model_now(model), walk, seen->access, &error))
        return false;
    region = model_region_at(model, walk->gpa);
    return region != NULL && seen->hpa == (uint64_t)(uintptr_t)region->memory + walk->gpa - region->gpa &&
           (seen->access & ~region->rights & (PAGING_READ | PAGING_WRITE | PAGING_EXECUTE)) == 0 &&
           model_type(model_effective_type(walk->type, seen->mtrr)) == seen->type;
}

/* Whether a TLB entry made by `walk` at `time`, in an era with `tag`, may still be there. */
static inline bool model_may_be_kept(struct model *model, const struct model_walk *walk, uint16_t tag,
                                     uint64_t linear, uint32_t time)
{
    if (!walk->global && (tag != model_now(model)->tag || model->tag_invalidated[tag] > time))
        return false;
    for (size_t i = model->invalidated_count; i-- > 0 && model->invalidated[i].time > time;) {
        const struct model_invalidated *what = &model->invalidated[i];

        /* One that covers a large page's address covers the page, in however many pieces it is kept. */
        if (what->address >> walk->shift == linear >> walk->shift &&
            (walk->global ? what->globals : what->tag == tag))
            return false;
    }
    return true;
}

/* A stretch of time in which the registers and what the tables say of an address did not change. */
struct model_moment {
    size_t era;
    uint32_t time; /* the last of it */
    struct model_walk walk;
};

/* The stretch that is now. */
static inline struct model_moment model_latest(const struct model *model, uint64_t linear)
{
    const size_t era = model->era_count - 1;

    return (struct model_moment){era, model->time, model_walk(model, &model->eras[era], linear, model->time)};
}

/* Goes on to the stretch before; false: there is none. */
static inline bool model_earlier(const struct model *model, uint64_t linear, struct model_moment *moment)
{
    if (moment->walk.since > model->eras[moment->era].time) {
        moment->time = moment->walk.since - 1;
    } else {
        if (moment->era == 0)
            return false;
        moment->time = model->eras[moment->era--].time - 1;
    }
    moment->walk = model_walk(model, &model->eras[moment->era], linear, moment->time);
    return true;
}

/* Whether some TLB could have shown this. */
static inline bool model_is_legal(struct model *model, const struct model_observation *seen)
{
    struct model_moment moment = model_latest(model, seen->linear);

    do {
        if (model_explains(model, &moment.walk, seen) &&
            model_may_be_kept(model, &moment.walk, model->eras[moment.era].tag, seen->linear, moment.time))
            return true;
    } while (model_earlier(model, seen->linear, &moment));
    return false;
}
