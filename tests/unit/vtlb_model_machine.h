// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A guest on a virtual TLB, and all that it can do there: what it loads, toggles, invalidates, writes and
 * accesses, each checked against the model (vtlb_model.h) at once.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "mm/p2m.h"
#include "mm/vtlb.h"
#include "mm/vtlb_audit.h"
#include "tests/unit/vtlb_model_guest.h"

#define OWNER     (FRAME_OWNER_PARTITION + 1)
#define QUOTA_MAX 1024
#define TRACE     48

enum operation {
    ACCESS,
    WRITE_ENTRY,
    REMAP,
    RELINK,
    ELSEWHERE,
    LOOK_AHEAD,
    LOAD_ROOT,
    INVLPG,
    INVPCID,
    TOGGLE,
    DROP,
    CLEAN,
};

static const char *const operation_names[] = {
    "access",
    "write entry",
    "remap",
    "relink",
    "invalidate elsewhere",
    "hardware looks ahead",
    "MOV to CR3",
    "INVLPG",
    "INVPCID",
    "toggle",
    "drop",
    "clean",
};

struct counts {
    uint64_t operations, accesses, misses, stale, faults, no_memory, general_protection, evictions, rounds;
};

struct test {
    struct model model;
    struct random random;
    uint64_t seed, step;

    struct frame_extent extents[8];
    struct frame_pool pool;
    struct p2m_region p2m_regions[16];
    struct p2m p2m;
    struct stage_chain memory, chain;
    struct walk_x86 walk;
    unsigned char *reservation; /* the guest's memory, see guest_layout, */
    unsigned char *quota;       /* and the engine's */
    struct vtlb vtlb;
    struct vtlb_table tables[QUOTA_MAX];
    struct vtlb_context *context;
    enum vtlb_mode mode;
    enum model_format paged; /* the format when paging is on */
    struct hardware hardware;
    /* Pages that allow more than the guest's tables do, for one instruction: it has no more than two. */
    struct {
        uint64_t linear;
        unsigned shift;
    } transient[2];

    uint64_t recent[32]; /* linear addresses */
    struct {
        enum operation operation;
        uint64_t a, b, c;
    } trace[TRACE];
    struct counts counts;
};

static const struct paging_format *const sources[] = {
    [MODEL_32BIT] = &paging_x86_32bit,
    [MODEL_PAE] = &paging_x86_pae,
    [MODEL_4LEVEL] = &paging_x86_4level,
    [MODEL_5LEVEL] = &paging_x86_5level,
};

static const struct paging_format *const targets[] = {
    [MODEL_NONE] = &paging_x86_pae,      [MODEL_32BIT] = &paging_x86_pae,     [MODEL_PAE] = &paging_x86_pae,
    [MODEL_4LEVEL] = &paging_x86_4level, [MODEL_5LEVEL] = &paging_x86_5level,
};

/* ---- What to do when something is wrong ---- */

static inline void give_up(struct test *test, const char *what)
{
    struct model_era *now = model_now(&test->model);

    fprintf(stderr, "round with seed %#llx, step %llu: %s\n", (unsigned long long)test->seed,
            (unsigned long long)test->step, what);
    fprintf(stderr, "%s mode, format %d, CR0 %#llx CR3 %#llx CR4 %#llx EFER %#llx PKRU %#x tag %u\n",
            test->mode == VTLB_BASE ? "base" : "cached", now->format, (unsigned long long)now->registers.cr0,
            (unsigned long long)now->registers.cr3, (unsigned long long)now->registers.cr4,
            (unsigned long long)now->registers.efer, now->registers.pkru, now->tag);
    for (uint64_t i = test->step < TRACE ? 0 : test->step - TRACE + 1; i <= test->step; i++)
        fprintf(stderr, "%8llu %-20s %#llx %#llx %#llx\n", (unsigned long long)i,
                operation_names[test->trace[i % TRACE].operation],
                (unsigned long long)test->trace[i % TRACE].a, (unsigned long long)test->trace[i % TRACE].b,
                (unsigned long long)test->trace[i % TRACE].c);
    fail();
}

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            give_up(test, #condition);                                                                       \
    } while (0)

static inline void note(struct test *test, enum operation operation, uint64_t a, uint64_t b, uint64_t c)
{
    test->trace[test->step % TRACE].operation = operation;
    test->trace[test->step % TRACE].a = a;
    test->trace[test->step % TRACE].b = b;
    test->trace[test->step % TRACE].c = c;
}

/* ---- The guest's registers ---- */

static inline void enter(struct test *test)
{
    hardware_enter(&test->hardware, vtlb_root(test->context).value, vtlb_generation(&test->vtlb));
}

/* What one instruction was allowed beyond the guest's tables is taken back before another goes on. */
static inline void end_transient(struct test *test)
{
    memset(test->transient, 0, sizeof(test->transient));
    if (!vtlb_has_transient(&test->vtlb))
        return;
    vtlb_end_transient(&test->vtlb);
    enter(test);
}

static inline bool is_transient(const struct test *test, uint64_t linear)
{
    for (size_t i = 0; i < ARRAY_SIZE(test->transient); i++)
        if (test->transient[i].shift != 0 &&
            (linear ^ test->transient[i].linear) >> test->transient[i].shift == 0)
            return true;
    return false;
}

/* One page more, or the same again. */
static inline void note_transient(struct test *test, uint64_t linear, unsigned shift)
{
    for (size_t i = 0; i < ARRAY_SIZE(test->transient); i++)
        if (test->transient[i].shift != 0 && (linear ^ test->transient[i].linear) >> PAGE_SHIFT == 0)
            return;
    test->transient[1] = test->transient[0];
    test->transient[0].linear = linear;
    test->transient[0].shift = shift;
}

/* Makes what the registers say the engine's current space; the guest has invalidated `flushed` by that. */
static inline void select_space(struct test *test, enum vtlb_scope flushed)
{
    const struct model_era *now = model_now(&test->model);
    const struct walk_x86_registers *registers = &now->registers;
    const bool wp = (registers->cr0 & X86_CR0_WP) != 0;
    struct vtlb_space space = {
        .chain = &test->chain,
        .source = sources[now->format],
        .target = targets[now->format],
        .tag = now->tag,
        .role = (uint32_t)now->format | (wp ? BIT(3) : 0) | (registers->cr4 & X86_CR4_PSE ? BIT(4) : 0) |
                (registers->cr4 & X86_CR4_PGE ? BIT(5) : 0) | (registers->cr4 & X86_CR4_PKE ? BIT(6) : 0) |
                (!wp && (registers->cr4 & X86_CR4_SMEP) ? BIT(7) : 0) |
                (!wp && (registers->cr4 & X86_CR4_SMAP) ? BIT(8) : 0) |
                (registers->efer & X86_EFER_NXE ? BIT(9) : 0),
    };

    /* What was transient ends by itself. */
    memset(test->transient, 0, sizeof(test->transient));
    walk_x86_set(&test->walk, registers);
    if (now->format == MODEL_PAE) {
        space.root = registers->cr3 & 0xffffffe0;
        space.registers = test->walk.registers.pdpte;
    } else if (now->format != MODEL_NONE) {
        space.root = registers->cr3 & sources[now->format]->address;
    }
    test->hardware.levels = targets[now->format]->levels;
    test->hardware.paging = now->format != MODEL_NONE;
    test->hardware.keys = now->format >= MODEL_4LEVEL && (registers->cr4 & X86_CR4_PKE) != 0;
    test->context = vtlb_switch(&test->vtlb, &space, flushed);
    enter(test);
}

/* PAE: what a load of the four registers from `cr3` does; false: a #GP. The others load nothing. */
static inline bool load_pdptes(struct test *test, uint64_t cr3, uint64_t pdpte[4])
{
    struct walk_x86_registers registers = model_now(&test->model)->registers;
    uint64_t loaded[4];

    if (model_now(&test->model)->format != MODEL_PAE)
        return true;
    registers.cr3 = cr3;
    if (!model_load_pdptes(&test->model, cr3, registers.physical_bits, pdpte)) {
        MUST(walk_x86_load_pdptes(&test->memory, &registers, loaded) != 0);
        test->counts.general_protection++;
        return false;
    }
    MUST(walk_x86_load_pdptes(&test->memory, &registers, loaded) == 0);
    MUST(memcmp(loaded, pdpte, sizeof(loaded)) == 0);
    return true;
}

static inline bool has_pcids(struct test *test)
{
    return (model_now(&test->model)->registers.cr4 & X86_CR4_PCIDE) != 0;
}

static inline void load_root(struct test *test, uint64_t root, uint16_t tag, bool flush)
{
    uint64_t pdpte[4] = {0};
    struct model_era *era;

    note(test, LOAD_ROOT, root, tag, flush);
    if (!load_pdptes(test, root, pdpte))
        return;
    if (rarely(&test->random, 2))
        end_transient(test);
    era = model_change_registers(&test->model);
    era->registers.cr3 = root | tag;
    memcpy(era->registers.pdpte, pdpte, sizeof(pdpte));
    era->tag = tag;
    if (flush)
        test->model.tag_invalidated[tag] = era->time;
    select_space(test, flush ? VTLB_SCOPE_TAG : VTLB_SCOPE_NONE);
}

enum toggle {
    TOGGLE_WP,
    TOGGLE_NXE,
    TOGGLE_SMAP,
    TOGGLE_PKE,
    TOGGLE_PKRU,
    TOGGLE_SMEP,
    TOGGLE_PGE,
    TOGGLE_PSE,
    TOGGLE_PCIDE,
    TOGGLE_PAT,
    TOGGLE_PAGING,
    TOGGLES,
};

/* What toggles by one bit, and whether that invalidates everything; WP last: it comes often. */
static const struct {
    uint64_t cr0, cr4, efer;
    bool all;
} toggles[TOGGLES] = {
    [TOGGLE_WP] = {.cr0 = X86_CR0_WP},
    [TOGGLE_NXE] = {.efer = X86_EFER_NXE},
    [TOGGLE_SMAP] = {.cr4 = X86_CR4_SMAP},
    [TOGGLE_PKE] = {.cr4 = X86_CR4_PKE},
    [TOGGLE_SMEP] = {.cr4 = X86_CR4_SMEP},
    [TOGGLE_PGE] = {.cr4 = X86_CR4_PGE, .all = true},
    [TOGGLE_PSE] = {.cr4 = X86_CR4_PSE, .all = true},
    [TOGGLE_PCIDE] = {.cr4 = X86_CR4_PCIDE},
    [TOGGLE_PAGING] = {.cr0 = X86_CR0_PG, .all = true},
};

static inline void toggle(struct test *test, enum toggle what)
{
    const struct model_era *now = model_now(&test->model);
    bool all = toggles[what].all;
    uint64_t pdpte[4];
    struct model_era *era;

    note(test, TOGGLE, what, 0, 0);
    memcpy(pdpte, now->registers.pdpte, sizeof(pdpte));
    if (what == TOGGLE_PCIDE && (now->format < MODEL_4LEVEL || (!has_pcids(test) && now->tag != 0)))
        return;
    if (what == TOGGLE_PAGING && test->paged >= MODEL_4LEVEL)
        return; /* it would be two changes, by way of EFER */
    if ((toggles[what].cr4 & (X86_CR4_PGE | X86_CR4_PSE | X86_CR4_SMEP)) != 0 &&
        !load_pdptes(test, now->registers.cr3, pdpte))
        return;

    if (rarely(&test->random, 2))
        end_transient(test);
    era = model_change_registers(&test->model);
    era->registers.cr0 ^= toggles[what].cr0;
    era->registers.cr4 ^= toggles[what].cr4;
    era->registers.efer ^= toggles[what].efer;
    memcpy(era->registers.pdpte, pdpte, sizeof(pdpte));
    if (what == TOGGLE_PKRU)
        era->registers.pkru = (uint32_t)random_next(&test->random) & (uint32_t)random_next(&test->random);
    else if (what == TOGGLE_SMEP)
        all = (era->registers.cr4 & X86_CR4_SMEP) != 0;
    else if (what == TOGGLE_PCIDE && (era->registers.cr4 & X86_CR4_PCIDE) == 0)
        all = true, era->tag = 0, era->registers.cr3 &= ~0xfffULL;
    else if (what == TOGGLE_PAGING)
        era->format = (era->registers.cr0 & X86_CR0_PG) != 0 ? test->paged : MODEL_NONE;
    else if (what == TOGGLE_PAT)
        era->registers.pat = rarely(&test->random, 2) ? 0x0007040600070406 : 0x0105040600070406;

    if (what == TOGGLE_PAGING && era->format == MODEL_PAE) {
        /* Without four good registers the guest stays where it was. */
        if (!load_pdptes(test, era->registers.cr3, era->registers.pdpte)) {
            era->format = MODEL_NONE;
            era->registers.cr0 ^= X86_CR0_PG;
        }
    }
    if (what == TOGGLE_PAT) {
        /* Whoever changes the PAT has to invalidate; Umbra need not wait for that. */
        vtlb_drop(&test->vtlb, VTLB_FLUSH_ROOT);
        model_forget(&test->model);
    } else if (all) {
        model_forget(&test->model);
    }
    select_space(test, all ? VTLB_SCOPE_ALL : VTLB_SCOPE_NONE);
}

/* ---- What the guest invalidates ---- */

static inline void invlpg(struct test *test, uint64_t linear)
{
    const uint16_t tag = model_now(&test->model)->tag;

    note(test, INVLPG, linear, tag, 0);
    end_transient(test);
    vtlb_invalidate_address(&test->vtlb, tag, linear);
    model_invalidate_address(&test->model, tag, true, linear);
    enter(test);
}

static inline void invpcid(struct test *test, unsigned type, uint16_t tag, uint64_t linear)
{
    note(test, INVPCID, type, tag, linear);
    end_transient(test);
    switch (type) {
    case 0:
        vtlb_invalidate_address(&test->vtlb, tag, linear);
        model_invalidate_address(&test->model, tag, true, linear);
        break;
    case 1:
        vtlb_invalidate(&test->vtlb, VTLB_SCOPE_TAG, tag);
        model_invalidate_tag(&test->model, tag);
        break;
    case 2:
        vtlb_invalidate(&test->vtlb, VTLB_SCOPE_ALL, 0);
        model_forget(&test->model);
        break;
    case 3:
        vtlb_invalidate(&test->vtlb, VTLB_SCOPE_NOT_GLOBALS, 0);
        for (uint16_t t = 0; t < MODEL_TAGS; t++)
            model_invalidate_tag(&test->model, t);
        break;
    }
    enter(test);
}

/* ---- Accesses ---- */

/* What memory must be after a walk that the guest's tables allowed: A along the path, D for a write. */
static inline void expect_marks(struct test *test, const struct model_walk *walk, unsigned access)
{
    const unsigned size = model_now(&test->model)->format == MODEL_32BIT ? 4 : 8;

    for (unsigned i = 0; i < walk->entries; i++) {
        const uint64_t mark = i + 1 == walk->entries && (access & PAGING_WRITE) != 0 ? 0x60 : 0x20;
        const uint32_t word = (uint32_t)(walk->entry[i] / 8);

        if (walk->entry[i] / 8 < MODEL_WORDS)
            model_write(&test->model, word,
                        test->model.words[word] | mark << (size == 4 && walk->entry[i] % 8 == 4 ? 32 : 0));
    }
    for (unsigned i = 0; i < walk->entries; i++)
        if (walk->entry[i] / 8 < MODEL_WORDS)
            MUST(memcmp(test->reservation + align_down(walk->entry[i], 8),
                        &test->model.words[walk->entry[i] / 8], 8) == 0);
}

/* The hardware found no way: what the engine answers must be what the guest's tables say now. */
static inline enum vtlb_outcome miss(struct test *test, uint64_t linear, unsigned access)
{
    const struct model_walk walk =
        model_walk(&test->model, model_now(&test->model), linear, test->model.time);
    uint64_t error = 0;
    const bool allowed = model_allows(model_now(&test->model), &walk, access, &error);
    const struct model_region *region = model_region_at(&test->model, walk.gpa);
    struct vtlb_result result;
    enum vtlb_outcome outcome;

    test->counts.misses++;
    if (rarely(&test->random, 2))
        end_transient(test);
    outcome = vtlb_miss(test->context, linear, access, &result);
    enter(test);
    if (!allowed) {
        MUST(outcome == VTLB_GUEST_FAULT);
        MUST(result.fault.address == linear);
        MUST(result.fault.error_code == error);
        test->counts.faults++;
        /* SDM vol. 3, "Operations that Invalidate TLBs": page faults too, their address in the current PCID.
         */
        model_invalidate_address(&test->model, model_now(&test->model)->tag, false, linear);
        return outcome;
    }
    MUST(outcome != VTLB_GUEST_FAULT); /* passed on although the guest's tables permit it */
    expect_marks(test, &walk, access);
    if (region == NULL || (access & ~region->rights & (PAGING_READ | PAGING_WRITE | PAGING_EXECUTE)) != 0) {
        MUST(outcome == VTLB_NO_MEMORY);
        MUST(result.fault.address == walk.gpa);
        test->counts.no_memory++;
        return outcome;
    }
    MUST(outcome == VTLB_FILLED);
    MUST(result.translation.address == (uint64_t)(uintptr_t)region->memory + walk.gpa - region->gpa);
    if (result.translation.transient)
        note_transient(test, linear, result.translation.page_shift);
    return outcome;
}

/* Tells what the model knows of an access that it cannot explain: each that a walk gave, the last first. */
static inline void print_history(struct test *test, const struct model_observation *seen)
{
    struct model *model = &test->model;
    struct model_moment moment = model_latest(model, seen->linear);

    fprintf(stderr, "%#llx, access %#x: %#llx (offset %#llx), type %u\n", (unsigned long long)seen->linear,
            seen->access, (unsigned long long)seen->hpa,
            (unsigned long long)(seen->hpa - (uint64_t)(uintptr_t)test->reservation), seen->type);
    do {
        const struct model_era *era = &model->eras[moment.era];
        const struct model_walk *walk = &moment.walk;

        fprintf(stderr, "%6u CR3 %#llx tag %u: %s%#llx >> %u %s%s%s%s%s%s type %u: %s, %s\n", moment.time,
                (unsigned long long)era->registers.cr3, era->tag, walk->present ? "" : "not present ",
                (unsigned long long)walk->gpa, walk->shift, walk->user ? "U" : "-", walk->write ? "W" : "-",
                walk->execute ? "X" : "-", walk->accessed ? "A" : "-", walk->dirty ? "D" : "-",
                walk->global ? "G" : "-", walk->type,
                model_explains(model, walk, seen) ? "explains it" : "another",
                model_may_be_kept(model, walk, era->tag, seen->linear, moment.time) ? "kept" : "invalidated");
    } while (model_earlier(model, seen->linear, &moment));
}

/* Makes an access, and judges it. False: it did not go through. */
static inline bool access_address(struct test *test, uint64_t linear, unsigned access)
{
    struct hardware_page page = hardware_translate(&test->hardware, linear);
    struct model_observation seen = {.linear = linear, .access = access};
    bool missed = false;
    struct model_walk walk;

    note(test, ACCESS, linear, access, 0);
    test->counts.accesses++;
    if (!hardware_allows(&test->hardware, &page, access, &model_now(&test->model)->registers)) {
        hardware_fault(&test->hardware, linear);
        if (miss(test, linear, access) != VTLB_FILLED)
            return false;
        missed = true;
        page = hardware_walk(&test->hardware, linear);
        MUST(hardware_allows(&test->hardware, &page, access,
                             &model_now(&test->model)->registers)); /* one miss is enough */
    }
    seen.hpa = page.hpa | (linear & 0xfff);
    seen.mtrr = hardware_memory_type(&test->hardware, seen.hpa);
    seen.type = model_effective_type(page.type, seen.mtrr);
    walk = model_walk(&test->model, model_now(&test->model), linear, test->model.time);
    if (model_explains(&test->model, &walk, &seen))
        return true;
    note(test, ACCESS, linear, access, seen.hpa);
    MUST(!missed); /* it was filled with something else than the tables say */
    if (is_transient(test, linear))
        return true;
    test->counts.stale++;
    if (!model_is_legal(&test->model, &seen)) {
        print_history(test, &seen);
        give_up(test, "no TLB could have shown this");
    }
    return true;
}

/* ---- Memory ---- */

/* The bytes of an entry of the guest's tables. */
static inline unsigned entry_size(const struct test *test)
{
    return test->paged == MODEL_32BIT ? 4 : 8;
}

/* The guest writes an entry, by memory alone. */
static inline void store_entry(struct test *test, uint64_t gpa, uint64_t entry)
{
    uint64_t word = test->model.words[gpa / 8];

    memcpy((unsigned char *)&word + gpa % 8, &entry, entry_size(test));
    model_write(&test->model, (uint32_t)(gpa / 8), word);
    memcpy(test->reservation + align_down(gpa, 8), &word, sizeof(word));
}

/* The engine's way to ask for MTRRs. */
static inline uint8_t memory_type(void *data, hpa_t address, uint8_t *page_shift)
{
    const struct hardware *hardware = data;

    while (*page_shift > PAGE_SHIFT && !hardware_has_one_type(hardware, address.value, *page_shift))
        *page_shift = *page_shift == PAGE_SHIFT_1G ? PAGE_SHIFT_2M : PAGE_SHIFT;
    return (uint8_t)hardware_memory_type(hardware, address.value);
}

/* The MTRRs are written: whoever does that drops every entry. */
static inline void change_memory_types(struct test *test)
{
    static const uint8_t types[] = {MEMORY_TYPE_UC, MEMORY_TYPE_WC, MEMORY_TYPE_WT,
                                    MEMORY_TYPE_WP, MEMORY_TYPE_WB, MEMORY_TYPE_WB};

    for (unsigned i = 0; i < HARDWARE_RANGES; i++) {
        const uint64_t start = (uint64_t)(uintptr_t)test->reservation + guest_typed[i].offset;

        test->hardware.ranges[i] = (struct hardware_range){start, start + guest_typed[i].size,
                                                           types[pick(&test->random, ARRAY_SIZE(types))]};
    }
}

/* The partition's protection and memory types change, and every entry goes. */
static inline void drop(struct test *test)
{
    uint8_t rights = rarely(&test->random, 2) ? 7 : 5;

    note(test, DROP, rights, 0, 0);
    change_memory_types(test);
    for (size_t i = 0; i < test->p2m.count; i++)
        if (test->p2m_regions[i].gpa.value == GUEST_PROTECTED)
            test->p2m_regions[i].rights = rights;
    for (size_t i = 0; i < test->model.region_count; i++)
        if (test->model.regions[i].gpa == GUEST_PROTECTED)
            test->model.regions[i].rights = rights;
    end_transient(test);
    vtlb_drop(&test->vtlb, VTLB_FLUSH_P2M);
    enter(test);
    for (unsigned i = 0; i < ARRAY_SIZE(test->recent); i++)
        MUST(!hardware_translate(&test->hardware, test->recent[i]).used);
    if (rarely(&test->random, 2))
        select_space(test, VTLB_SCOPE_NONE);
}

/* ---- Set-up ---- */

/* The one guest there is, with its memory, before `begin`. */
static inline struct test *prepare(void)
{
    static struct test test;

    if (test.reservation == NULL) {
        unsigned char *memory = mmap(NULL, GUEST_HOST_SIZE + GIB(1), PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(memory != MAP_FAILED);
        test.reservation = (unsigned char *)(uintptr_t)align_up((uint64_t)(uintptr_t)memory, GIB(1));
        /* CR3 has 32 bits outside long mode. */
        test.quota = mmap(NULL, QUOTA_MAX * PAGE_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        assert_true(test.quota != MAP_FAILED);
    }
    memset(&test.counts, 0, sizeof(test.counts));
    return &test;
}

static inline void check_everything(struct test *test)
{
    const char *broken = vtlb_audit(&test->vtlb, &test->p2m);

    if (broken != NULL)
        give_up(test, broken);
    /* Nothing but A and D bits was written to the guest's memory. */
    MUST(memcmp(test->reservation, test->model.words, sizeof(test->model.words)) == 0);
}

/* A guest without anything in its tables, in `format`, and a virtual TLB for it. */
static inline void begin(struct test *test, enum model_format format, enum vtlb_mode mode, uint32_t pages,
                         const struct vtlb_hardware *offered)
{
    struct model_era *era = &test->model.eras[0];
    struct vtlb_hardware hardware = *offered;

    memset(&test->model, 0, sizeof(test->model));
    memset(test->model.newest, 0xff, sizeof(test->model.newest));
    memset(test->recent, 0, sizeof(test->recent));
    memset(test->reservation, 0, sizeof(test->model.words));
    test->hardware = (struct hardware){
        .random = &test->random,
        .tables = (uint64_t)(uintptr_t)test->quota,
        .tables_size = pages * PAGE_SIZE,
        .memory = (uint64_t)(uintptr_t)test->reservation,
        .memory_size = GUEST_HOST_SIZE,
    };
    test->step = 0;
    test->mode = mode;
    test->paged = format;

    frame_pool_init(&test->pool, test->extents, ARRAY_SIZE(test->extents), NULL);
    assert_int_equal(frame_pool_add(&test->pool, HPA((uint64_t)(uintptr_t)test->reservation), GUEST_HOST_SIZE,
                                    FRAME_OWNER_FREE),
                     0);
    assert_int_equal(
        frame_claim(&test->pool, HPA((uint64_t)(uintptr_t)test->reservation), GUEST_HOST_SIZE, OWNER), 0);
    p2m_init(&test->p2m, test->p2m_regions, ARRAY_SIZE(test->p2m_regions), &test->pool, OWNER);
    for (size_t i = 0; i < ARRAY_SIZE(guest_layout); i++) {
        unsigned char *memory = test->reservation + guest_layout[i].offset;
        const struct p2m_region region = {GPA(guest_layout[i].gpa), HPA((uint64_t)(uintptr_t)memory),
                                          guest_layout[i].size, guest_layout[i].rights, MEMORY_TYPE_WB};
        assert_int_equal(p2m_add(&test->p2m, &region), 0);
        test->model.regions[i] =
            (struct model_region){guest_layout[i].gpa, guest_layout[i].size, memory, guest_layout[i].rights};
    }
    test->model.region_count = ARRAY_SIZE(guest_layout);
    test->memory = (struct stage_chain){.stages = {&test->p2m.stage}, .count = 1};
    walk_x86_init(&test->walk, &test->memory);
    test->chain = (struct stage_chain){.stages = {&test->walk.stage, &test->p2m.stage}, .count = 2};

    memset(test->quota, 0xa5, pages * PAGE_SIZE); /* whoever reads it uncleared notices */
    hardware.memory_type = memory_type;
    hardware.data = &test->hardware;
    assert_int_equal(
        vtlb_init(&test->vtlb, HPA((uint64_t)(uintptr_t)test->quota), pages, test->tables, &hardware, mode),
        0);

    test->model.era_count = 1;
    era->format = format;
    era->registers = (struct walk_x86_registers){
        .cr0 = X86_CR0_PE | X86_CR0_WP | (format == MODEL_NONE ? 0 : X86_CR0_PG),
        .cr4 = X86_CR4_PGE | X86_CR4_PSE | (format >= MODEL_PAE ? X86_CR4_PAE : 0) |
               (format == MODEL_5LEVEL ? X86_CR4_LA57 : 0),
        .efer = format >= MODEL_4LEVEL ? X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE : X86_EFER_NXE,
        .pat = 0x0007040600070406,
        .physical_bits = 40,
        .gigabyte_pages = true,
    };
}
