// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memory of a guest hypervisor's guest under random operations, against a model of what a processor may show.
 * Lv1 rewrites its EPT at random, executes INVEPT and INVVPID at random, and lets Lv2 run on one EPTP or
 * another, with A and D enabled or not. Either the processor walks the composed EPT for Lv2 (by
 * core/nested_memory.c), or it walks shadow tables of {Lv2's page tables · EPT12 · p2m}, while Lv2 rewrites
 * its tables, loads CR3 and executes INVLPG. The processor keeps all that it has cached until it is told to
 * forget.
 *
 * The model keeps, for every page, all that a processor could have cached of it since it had to forget last:
 * what the tables said at moments when Lv2 ran. Fails when an access shows anything else; when a fault
 * reaches Lv1 or Lv2 that the tables do not give, or in another form; when a bit of their tables changes that
 * is not A or D, or not of the path, or one is missing; when a filled miss does not suffice; when vtlb_audit
 * finds a broken invariant; when the spaces that Lv1 left alone have to be filled again.
 *
 * VTLB_MODEL_OPERATIONS (default 1,000,000) and VTLB_MODEL_SEED (default 1) as in test_vtlb_model.c.
 */
#include "core/nested_memory.h"

#include "arch/x86/paging_ept.h"
#include "arch/x86/paging_x86.h"
#include "arch/x86/registers.h"
#include "tests/unit/vtlb_machine.h"
#include "tests/unit/vtlb_model_hardware.h"

#define ROUND      5000
#define QUOTA      256
#define ARENA      MIB(8) /* Lv1's memory, at 0 */
#define HOLE       (64 * PAGE_SIZE)
#define ROM        (68 * PAGE_SIZE)
#define ROM_END    (72 * PAGE_SIZE)
#define LARGE      MIB(2) /* from here on pages of 2 MiB may be mapped */
#define EPT_FRAMES 24     /* tables of EPT12, from 0 on, */
#define PT_FRAMES  12     /* and of Lv2 behind them; what follows up to the hole is data */
#define SPACES     4      /* EPTPs: two addresses, each without and with A and D */
#define PAGES2     48     /* of Lv2's guest-physical memory */
#define LINEAR     24     /* pages of Lv2's linear addresses */
#define KEPT       24
#define FRAME      0x000ffffffffff000ULL

/* What a processor may have cached for a page. */
struct kept {
    uint64_t gpa; /* of Lv1's, of the page */
    uint8_t rights, type;
    bool global;
};

struct set {
    struct kept kept[KEPT];
    unsigned count;
};

static struct test {
    struct machine *machine;
    unsigned char *memory;
    struct random random;
    uint64_t seed, step;
    struct partition_vcpu v;
    struct nested_vcpu nested;
    struct nested_policy policy;
    struct nested_memory lv2;
    bool shadow;          /* Lv2 runs on shadow tables */
    struct walk_x86 walk; /* of Lv2's, then, */
    struct stage_chain linear;
    struct walk_x86_registers registers;
    struct vtlb_context *context;
    unsigned space; /* in which Lv2 runs */

    struct set physical[SPACES][PAGES2]; /* guest-physical mappings, */
    struct set combined[SPACES][LINEAR]; /* and those of linear addresses */
    bool loose[SPACES][LINEAR];          /* more than the sets can hold */
    bool tangled[SPACES];                /* likewise: a table of Lv2's lies in one of EPT12's */
    bool full; /* a set is: everything has to be invalidated before it says anything again */
    uint64_t version, sampled[SPACES]; /* of the tables; of what the sets were made of */

    struct {
        uint64_t root, page;
        struct seen seen;
    } tlb[256];
    uint64_t generation, root; /* at the last entry, shadow */
    struct {
        uint64_t accesses, misses, stale, violations, faults, no_memory, misconfigurations, fills;
    } counts;
} test;

/* ---- What core/nested_memory.c is linked with: the processor ---- */

static struct partition_machine machine;

const struct partition_machine *partition_machine(void)
{
    return &machine;
}

bool vmx_invept(enum invept_type type, uint64_t eptp)
{
    assert_int_equal(type, INVEPT_ALL);
    (void)eptp;
    memset(test.tlb, 0, sizeof(test.tlb));
    return true;
}

bool vmx_invvpid(enum invvpid_type type, uint16_t vpid, gla_t address)
{
    (void)type, (void)vpid, (void)address; /* linear addresses: test_nested_memory.c */
    return true;
}

static void give_up(const char *what)
{
    fprintf(stderr, "round with seed %#llx, step %llu, space %u, %s: %s\n", (unsigned long long)test.seed,
            (unsigned long long)test.step, test.space, test.shadow ? "shadow" : "EPT", what);
    fail();
}

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            give_up(#condition);                                                                             \
    } while (0)

/* ---- Lv1's memory ---- */

static uint64_t eptp_of(unsigned space)
{
    return (uint64_t)(space / 2) * (EPT_FRAMES / 2) * PAGE_SIZE | 0x1e | (space % 2 != 0 ? 0x40 : 0);
}

static bool has_marks(unsigned space)
{
    return space % 2 != 0;
}

/* The rights that memory has at `gpa`; 0: there is none. */
static unsigned memory_rights(uint64_t gpa)
{
    if (gpa >= ARENA || (gpa >= HOLE && gpa < ROM))
        return 0;
    return gpa >= ROM && gpa < ROM_END ? PAGING_READ | PAGING_EXECUTE : RWX;
}

static uint64_t load(uint64_t gpa)
{
    uint64_t value = UINT64_MAX;

    if (memory_rights(gpa) != 0)
        memcpy(&value, test.memory + gpa, sizeof(value));
    return value;
}

static void store(uint64_t gpa, uint64_t value)
{
    if ((memory_rights(gpa) & PAGING_WRITE) == 0 || load(gpa) == value)
        return;
    memcpy(test.memory + gpa, &value, sizeof(value));
    test.version++;
}

static uint64_t gpa2_at(unsigned i)
{
    static const unsigned directory[] = {0, 1, 3};

    return (uint64_t)(i / 24) << 39 | (uint64_t)directory[i / 8 % 3] << 21 | (uint64_t)(i % 8) << 12;
}

/* Which page of Lv2's that is; PAGES2: none that is kept account of. */
static unsigned page2_of(uint64_t gpa2)
{
    static const uint8_t directory[] = {0, 1, PAGES2, 2};
    const uint64_t page = gpa2 >> 12;

    if ((page & ~(1ULL << 27 | 3ULL << 9 | 7)) != 0 || (page >> 9 & 3) == 2)
        return PAGES2;
    return (unsigned)(page >> 27) * 24 + directory[page >> 9 & 3] * 8U + (page & 7);
}

static uint64_t linear_at(unsigned i)
{
    return (uint64_t)(i / 12) << 39 | (uint64_t)(i / 6 % 2) << 21 | (uint64_t)(i % 6) << 12;
}

/* ---- EPT12: SDM vol. 3, "The Extended Page Table Mechanism" ---- */

struct walk2 {
    uint64_t error; /* 0: there is a page */
    uint64_t gpa;
    uint8_t rights, type;
    bool accessed, dirty;
    unsigned entries;
    uint64_t entry[4]; /* where those are that were used, from the top */
};

static struct walk2 walk2(unsigned space, uint64_t gpa2, unsigned access)
{
    struct walk2 walk = {.rights = 7, .accessed = true};
    uint64_t table = eptp_of(space) & FRAME;

    for (unsigned shift = 39;; shift -= 9) {
        const uint64_t at = table + (gpa2 >> shift & 511) * 8, entry = load(at);
        const bool large = shift > 12 && (entry & 0x80) != 0;
        const bool page = shift == 12 || large;
        const unsigned type = entry >> 3 & 7;
        uint64_t reserved = FRAME & ~((1ULL << 40) - 1);

        if ((entry & 7) == 0) {
            walk.error = access & 7;
            return walk;
        }
        if (!page)
            reserved |= 0x78;
        else if (shift > 12)
            reserved |= ((1ULL << shift) - 1) & ~0xfffULL;
        if (shift == 39)
            reserved |= 0xf8;
        if ((entry & 3) == 2 || ((entry & 7) == 4 && test.shadow) || (entry & reserved) != 0 ||
            (page && (type == 2 || type == 3 || type == 7))) {
            walk.error = EPT_FAULT_MISCONFIGURATION;
            return walk;
        }
        walk.entry[walk.entries++] = at;
        walk.rights &= entry & 7;
        walk.accessed &= entry >> 8 & 1;
        if (page) {
            walk.dirty = entry >> 9 & 1;
            walk.type = (uint8_t)type;
            walk.gpa = (entry & FRAME & ~((1ULL << shift) - 1)) | (gpa2 & ((1ULL << shift) - 1));
            break;
        }
        table = entry & FRAME;
    }
    if ((access & 7 & ~walk.rights) != 0)
        walk.error = (access & 7) | (uint64_t)walk.rights << 3;
    return walk;
}

/* ---- What may be cached ---- */

static void keep(struct set *set, struct kept kept)
{
    for (unsigned i = 0; i < set->count; i++)
        if (set->kept[i].gpa == kept.gpa && set->kept[i].rights == kept.rights &&
            set->kept[i].type == kept.type && set->kept[i].global == kept.global)
            return;
    if (set->count == KEPT)
        test.full = true;
    else
        set->kept[set->count++] = kept;
}

/* The page that EPT12 gives now, as a processor caches it that knows D; false: it must not. */
static bool cacheable(unsigned space, const struct walk2 *walk, struct kept *kept)
{
    const bool marks = has_marks(space);

    if ((walk->error != 0 && walk->gpa == 0) || walk->error == EPT_FAULT_MISCONFIGURATION ||
        (marks && !walk->accessed))
        return false;
    *kept = (struct kept){.gpa = align_down(walk->gpa, PAGE_SIZE),
                          .rights = walk->rights & (marks && !walk->dirty ? ~PAGING_WRITE : 7),
                          .type = walk->type};
    return true;
}

enum outcome { PAGE, PAGE_FAULT, VIOLATION, MISCONFIGURATION, NO_MEMORY };

/* Where a walk of Lv2's tables may lead that finds its tables and its page by what is cached, or by EPT12. */
struct result {
    enum outcome outcome;
    uint64_t value; /* address in Lv1's memory; error code; address of Lv2's */
    uint64_t error; /* of a violation */
    uint8_t rights, type;
    bool global, accessed;
};

struct results {
    struct result result[64];
    unsigned count;
    bool loose; /* there are more */
};

static void add(struct results *to, struct result result)
{
    if (to->count == ARRAY_SIZE(to->result))
        to->loose = true;
    else
        to->result[to->count++] = result;
}

/* The pages that Lv2's page at `gpa2` may be taken for by `access`; failures are results. */
static struct set pages_of(uint64_t gpa2, unsigned access, bool cached_only, struct results *results)
{
    const unsigned i = page2_of(gpa2);
    struct walk2 walk;
    struct set set;

    set.count = 0;
    if (i == PAGES2) {
        results->loose = true;
        return set;
    }
    for (unsigned k = 0; k < test.physical[test.space][i].count; k++)
        if ((access & 7 & ~test.physical[test.space][i].kept[k].rights) == 0)
            set.kept[set.count++] = test.physical[test.space][i].kept[k];
    if (cached_only)
        return set;
    walk = walk2(test.space, gpa2, access);
    if (walk.error == EPT_FAULT_MISCONFIGURATION)
        add(results, (struct result){.outcome = MISCONFIGURATION, .value = gpa2});
    else if (walk.error != 0)
        add(results, (struct result){.outcome = VIOLATION, .value = gpa2, .error = walk.error});
    else
        keep(&set,
             (struct kept){
                 align_down(walk.gpa, PAGE_SIZE),
                 walk.rights &
                     (has_marks(test.space) && !walk.dirty && !(access & PAGING_WRITE) ? ~PAGING_WRITE : 7),
                 walk.type, false});
    return set;
}

/* What the path so far leaves. */
struct path {
    uint64_t linear;
    unsigned access; /* 0: whatever may be cached */
    uint8_t rights;
    bool accessed;
    unsigned unmarked; /* entries without A, whose table cannot be written as it is cached: */
    uint64_t place[4];
};

static uint64_t fault_code(const struct path *path, uint64_t code)
{
    return code | (path->access & PAGING_WRITE ? 2 : 0) | (path->access & PAGING_USER ? 4 : 0) |
           (path->access & PAGING_EXECUTE ? 16 : 0);
}

/* Shadow tables have the PAT of reset: neither WC nor WP, whose promises UC keeps. */
static uint8_t shadow_type(uint8_t type)
{
    return type == MEMORY_TYPE_WB || type == MEMORY_TYPE_WT ? type : MEMORY_TYPE_UC;
}

static void explore_page(const struct path *path, uint64_t gpa2, uint64_t entry, struct results *results)
{
    const unsigned access = path->access, needs = access & (PAGING_WRITE | PAGING_EXECUTE | PAGING_USER);
    const bool dirty = (entry & 0x40) != 0 || (access & PAGING_WRITE) != 0;
    struct set set;

    if (access != 0 && (needs & ~path->rights) != 0) {
        add(results, (struct result){.outcome = PAGE_FAULT, .value = fault_code(path, 1)});
        return;
    }
    for (unsigned i = 0; access != 0 && i < path->unmarked; i++) {
        const struct walk2 walk = walk2(test.space, path->place[i], PAGING_READ | PAGING_WRITE);

        if (walk.error != 0) {
            add(results,
                (struct result){.outcome =
                                    walk.error == EPT_FAULT_MISCONFIGURATION ? MISCONFIGURATION : VIOLATION,
                                .value = path->place[i],
                                .error = walk.error});
            return;
        }
    }
    set = pages_of(gpa2, access & 7, access == 0, results);
    for (unsigned i = 0; i < set.count; i++) {
        const unsigned memory = memory_rights(set.kept[i].gpa);
        const uint64_t gpa = set.kept[i].gpa | (gpa2 & 0xfff);
        const uint8_t rights =
            path->rights & (dirty ? PAGING_RIGHTS : ~PAGING_WRITE) & (set.kept[i].rights | PAGING_USER);

        if ((access & 7 & ~memory) != 0 || memory == 0)
            add(results, (struct result){.outcome = NO_MEMORY, .value = gpa});
        else
            add(results, (struct result){.outcome = PAGE,
                                         .value = gpa,
                                         .rights = rights & (uint8_t)(memory | PAGING_USER),
                                         .type = shadow_type(set.kept[i].type),
                                         .global = (entry & 0x100) != 0,
                                         .accessed = path->accessed});
    }
}

/*
 * Whether A counts as set in an entry of the table cached so. A processor that may not write there asks EPT12
 * anew where the table is, and what is there and the same gets A; or the write is lost.
 */
static bool is_marked(const struct kept *table, uint64_t place, uint64_t entry)
{
    const bool writes = (table->rights & PAGING_WRITE) != 0;
    const uint64_t gpa =
        writes ? table->gpa : align_down(walk2(test.space, place, PAGING_WRITE).gpa, PAGE_SIZE);
    const uint64_t there = load(gpa | (place & 0xfff));

    return (entry & 0x20) != 0 || (memory_rights(gpa) & PAGING_WRITE) == 0 ||
           ((there & 0x20) != 0 && ((there ^ entry) & ~0x60ULL) == 0);
}

/* SDM vol. 3, "4-Level Paging". */
static void explore(struct path path, unsigned level, uint64_t table, struct results *results)
{
    const unsigned shift = 3 + 9 * level;
    const uint64_t place = table + (path.linear >> shift & 511) * 8;
    const unsigned reads = has_marks(test.space) ? PAGING_READ | PAGING_WRITE : PAGING_READ;
    const struct set tables = pages_of(place, reads, path.access == 0, results);

    for (unsigned i = 0; i < tables.count; i++) {
        const uint64_t entry = load(tables.kept[i].gpa | (place & 0xfff));
        const bool page = level == 1 || (level < 4 && (entry & 0x80) != 0);
        const uint64_t offset = (1ULL << shift) - 1;
        uint64_t reserved = FRAME & ~((1ULL << 40) - 1);
        struct path below = path;

        /* In what is a table of EPT12, too, A and D of one change the other under the walk. */
        if (tables.kept[i].gpa < EPT_FRAMES * PAGE_SIZE || tables.kept[i].gpa >= LARGE)
            results->loose = test.tangled[test.space] = true;
        if (level == 4)
            reserved |= 0x80;
        else if (page && level > 1)
            reserved |= offset & ~0x1fffULL;
        if ((entry & 1) == 0 || (entry & reserved) != 0) {
            if (path.access != 0)
                add(results, (struct result){.outcome = PAGE_FAULT,
                                             .value = fault_code(&path, (entry & 1) != 0 ? 9 : 0)});
            continue;
        }
        below.accessed &= is_marked(&tables.kept[i], place, entry);
        if ((tables.kept[i].rights & PAGING_WRITE) == 0 &&
            ((entry & 0x20) == 0 || (page && (path.access & PAGING_WRITE) != 0 && (entry & 0x40) == 0)))
            below.place[below.unmarked++] = place;
        below.rights &= (entry & 2 ? PAGING_RIGHTS : ~PAGING_WRITE) &
                        (entry & 4 ? PAGING_RIGHTS : ~PAGING_USER) &
                        (entry >> 63 ? ~PAGING_EXECUTE : PAGING_RIGHTS);
        if (page)
            explore_page(&below, (entry & FRAME & ~offset) | (path.linear & offset), entry, results);
        else
            explore(below, level - 1, entry & FRAME, results);
    }
}

static void explore_linear(uint64_t linear, unsigned access, struct results *results)
{
    results->count = 0;
    results->loose = test.tangled[test.space];
    explore((struct path){.linear = linear, .access = access, .rights = PAGING_RIGHTS, .accessed = true}, 4,
            test.registers.cr3, results);
}

/* Lv2 runs: whatever the tables say now may be cached. */
static void sample(void)
{
    struct results results;

    if (test.sampled[test.space] == test.version)
        return;
    test.sampled[test.space] = test.version;
    for (unsigned i = 0; i < PAGES2; i++) {
        const struct walk2 walk = walk2(test.space, gpa2_at(i), 0);
        struct kept kept;

        if (walk.error == 0 && walk.entries > 0 && cacheable(test.space, &walk, &kept))
            keep(&test.physical[test.space][i], kept);
    }
    for (unsigned i = 0; test.shadow && i < LINEAR; i++) {
        explore_linear(linear_at(i), 0, &results);
        test.loose[test.space][i] |= results.loose;
        for (unsigned k = 0; k < results.count; k++)
            if (results.result[k].outcome == PAGE && results.result[k].accessed)
                keep(&test.combined[test.space][i],
                     (struct kept){align_down(results.result[k].value, PAGE_SIZE), results.result[k].rights,
                                   results.result[k].type, results.result[k].global});
    }
}

static void forget_linear(unsigned i, bool globals)
{
    for (unsigned space = 0; space < SPACES; space++) {
        struct set *set = &test.combined[space][i];
        unsigned left = 0;

        for (unsigned k = 0; k < set->count; k++)
            if (set->kept[k].global && !globals)
                set->kept[left++] = set->kept[k];
        set->count = left;
        if (globals)
            test.loose[space][i] = false;
        test.sampled[space] = 0;
    }
}

static void forget_space(unsigned space)
{
    for (unsigned i = 0; i < PAGES2; i++)
        test.physical[space][i].count = 0;
    for (unsigned i = 0; i < LINEAR; i++)
        test.combined[space][i].count = 0, test.loose[space][i] = false;
    test.tangled[space] = false;
    test.sampled[space] = 0;
}

/* ---- Lv1 and Lv2 change what is used ---- */

/* VMRESUME of what runs on `space`; `flushed`: Lv2 loads CR3 instead. */
static void enter_flushed(unsigned space, enum vtlb_scope flushed)
{
    test.space = space;
    if (test.shadow) {
        const struct walk_ept_features features = {.capabilities = test.policy.capabilities.offered.ept_vpid,
                                                   .physical_bits = test.policy.physical_bits};
        const struct vtlb_space shadow = {
            .chain = &test.linear,
            .source = &paging_x86_4level,
            .target = &paging_x86_4level,
            .root = test.registers.cr3,
            .role = has_marks(space),
            .behind = (eptp_of(space) & EPTP_ADDRESS) | 1,
        };

        assert_int_equal(walk_ept_set(&test.lv2.walk, eptp_of(space), &features), 0);
        test.walk.table_access = PAGING_READ | (has_marks(space) ? PAGING_WRITE : 0);
        walk_x86_set(&test.walk, &test.registers);
        test.context = vtlb_switch(&test.lv2.vtlb, &shadow, flushed);
    } else {
        struct nested_merge_input in;

        vmcs12_write(&test.nested.vmcs12, VMCS_EPT_POINTER, eptp_of(space));
        nested_memory_choose(&test.lv2, &in);
        nested_memory_before_run(&test.lv2);
        test.context = test.lv2.context;
        MUST(in.root.value == (vtlb_root(test.context).value | (eptp_of(space) & 0x40)));
        MUST(nested_memory_has_ept(&test.lv2) && nested_memory_chain(&test.lv2) == &test.lv2.ept_view);
    }
    sample();
}

static void enter(unsigned space)
{
    enter_flushed(space, VTLB_SCOPE_NONE);
}

/* Before Lv2 goes on: the processor forgets what the engine says. */
static void refresh(void)
{
    if (!test.shadow) {
        nested_memory_before_run(&test.lv2);
        return;
    }
    if (test.generation != vtlb_generation(&test.lv2.vtlb) || test.root != vtlb_root(test.context).value)
        memset(test.tlb, 0, sizeof(test.tlb));
    test.generation = vtlb_generation(&test.lv2.vtlb);
    test.root = vtlb_root(test.context).value;
}

static void invept(bool all)
{
    const uint64_t eptp = eptp_of(pick(&test.random, SPACES));

    nested_memory_invalidate_ept(&test.lv2, all ? NULL : &eptp);
    for (unsigned space = 0; space < SPACES; space++)
        if (all || (eptp_of(space) & FRAME) == (eptp & FRAME))
            forget_space(space);
    if (all)
        test.full = false;
}

static void invvpid(void)
{
    if (test.shadow) {
        vtlb_leave(&test.lv2.vtlb);
        vtlb_invalidate(&test.lv2.vtlb, VTLB_SCOPE_ALL, 0);
    } else {
        nested_memory_invalidate_vpid(&test.lv2, 1, NULL, false);
    }
    for (unsigned i = 0; i < LINEAR; i++)
        forget_linear(i, true);
}

/* MOV to CR3 by Lv2. */
static void load_root(void)
{
    test.registers.cr3 = gpa2_at(pick(&test.random, 2));
    for (unsigned i = 0; i < LINEAR; i++)
        forget_linear(i, false);
    enter_flushed(test.space, VTLB_SCOPE_TAG);
}

static void invlpg(unsigned i)
{
    vtlb_invalidate_address(&test.lv2.vtlb, 0, linear_at(i));
    forget_linear(i, true);
    sample();
}

/* ---- Accesses ---- */

static unsigned random_access(void)
{
    return 1U << pick(&test.random, 3);
}

/* What the processor finds for a page, most often by what it has cached. */
static struct seen translate(uint64_t address, bool walks)
{
    const uint64_t root = vtlb_root(test.context).value, page = address / PAGE_SIZE;
    const size_t slot = (page ^ page >> 9 ^ page >> 27 ^ root / PAGE_SIZE * 7) % ARRAY_SIZE(test.tlb);
    struct seen seen;

    if (!walks && test.tlb[slot].root == root && test.tlb[slot].page == page && test.tlb[slot].seen.present)
        return test.tlb[slot].seen;
    seen = test.shadow ? walk_pages(HPA(root), false, address) : walk_ept(HPA(root), address);
    test.tlb[slot].root = root;
    test.tlb[slot].page = page;
    test.tlb[slot].seen = seen;
    test.tlb[slot].seen.hpa = align_down(seen.hpa, PAGE_SIZE);
    return test.tlb[slot].seen;
}

static bool grants(const struct seen *seen, unsigned access)
{
    return seen->present && (access & PAGING_RIGHTS & ~seen->rights) == 0;
}

static uint64_t host(uint64_t gpa)
{
    return (uint64_t)(uintptr_t)test.memory + gpa;
}

/* Whether what is seen is among what may be cached. */
static bool is_kept(const struct set *set, const struct seen *seen, unsigned access)
{
    for (unsigned i = 0; i < set->count; i++)
        if (host(set->kept[i].gpa) == seen->hpa && set->kept[i].type == seen->type &&
            (access & PAGING_RIGHTS & ~set->kept[i].rights) == 0)
            return true;
    return false;
}

static void forget_cached(uint64_t address)
{
    const uint64_t root = vtlb_root(test.context).value;

    for (size_t i = 0; i < ARRAY_SIZE(test.tlb); i++)
        if (test.tlb[i].root == root && test.tlb[i].page == address / PAGE_SIZE)
            test.tlb[i].seen.present = false;
}

/* An EPT violation for Lv1: what the processor had for the address by this EPT is gone. */
static void note_violation(uint64_t gpa2)
{
    const unsigned i = page2_of(gpa2);

    test.counts.violations++;
    if (i == PAGES2)
        return;
    test.physical[test.space][i].count = 0;
    test.physical[test.space ^ 1][i].count = 0; /* of the same address */
    test.sampled[test.space] = test.sampled[test.space ^ 1] = 0;
}

static unsigned char before[HOLE];

/* Nothing but A and D was set in any table since `before`, and as `may` says. */
static void check_marks(uint64_t may)
{
    for (uint64_t at = 0; at < HOLE; at += 8) {
        uint64_t was, is;

        if (at % PAGE_SIZE == 0 && memcmp(before + at, test.memory + at, PAGE_SIZE) == 0) {
            at += PAGE_SIZE - 8;
            continue;
        }
        memcpy(&was, before + at, sizeof(was));
        memcpy(&is, test.memory + at, sizeof(is));
        if (was != is) {
            MUST((was & ~is) == 0);
            MUST(((was ^ is) & ~may) == 0);
        }
    }
}

static void miss_physical(unsigned page, unsigned access)
{
    const uint64_t gpa2 = gpa2_at(page) | pick(&test.random, PAGE_SIZE);
    const struct walk2 walk = walk2(test.space, gpa2, access);
    const bool looks = rarely(&test.random, 32);
    struct vtlb_result result;

    if (looks)
        memcpy(before, test.memory, sizeof(before));
    const enum vtlb_outcome outcome = nested_memory_miss(&test.lv2, gpa2, access, &result);

    if (walk.error != 0) {
        MUST(outcome == VTLB_GUEST_FAULT);
        MUST(result.fault.stage == &test.lv2.walk.stage && !result.fault.in_tables);
        MUST(result.fault.address == gpa2);
        MUST(result.fault.error_code == walk.error);
        if (walk.error == EPT_FAULT_MISCONFIGURATION)
            test.counts.misconfigurations++;
        else
            note_violation(gpa2);
        if (looks)
            check_marks(0);
        return;
    }
    for (unsigned i = 0; i < walk.entries; i++) {
        const uint64_t marks = 0x100 | (i + 1 == walk.entries && (access & PAGING_WRITE) ? 0x200 : 0);
        uint64_t old;

        if (has_marks(test.space) && (memory_rights(walk.entry[i]) & PAGING_WRITE) != 0)
            MUST((load(walk.entry[i]) & marks) == marks);
        if (looks && walk.entry[i] < HOLE) {
            memcpy(&old, before + walk.entry[i], sizeof(old));
            old |= has_marks(test.space) ? marks : 0;
            memcpy(before + walk.entry[i], &old, sizeof(old));
        }
    }
    if (looks)
        check_marks(0);
    test.version += has_marks(test.space);
    if ((access & ~memory_rights(walk.gpa)) != 0) {
        MUST(outcome == VTLB_NO_MEMORY);
        MUST(result.fault.address == walk.gpa);
        test.counts.no_memory++;
    } else {
        MUST(outcome == VTLB_FILLED);
        test.counts.fills++;
    }
}

/* Which of the results the engine's answer is; NULL: none of them. */
static const struct result *among(const struct results *results, const struct vtlb_result *result,
                                  enum vtlb_outcome outcome, uint64_t linear, unsigned access)
{
    const struct stage_fault *fault = &result->fault;

    for (unsigned i = 0; i < results->count; i++) {
        const struct result *r = &results->result[i];
        const bool by_ept = outcome == VTLB_GUEST_FAULT && fault->stage == &test.lv2.walk.stage;

        if ((r->outcome == PAGE && outcome == VTLB_FILLED && result->translation.address == host(r->value) &&
             (access & PAGING_RIGHTS & ~r->rights) == 0) ||
            (r->outcome == NO_MEMORY && outcome == VTLB_NO_MEMORY && fault->address == r->value) ||
            (r->outcome == PAGE_FAULT && outcome == VTLB_GUEST_FAULT && !by_ept && fault->address == linear &&
             fault->error_code == r->value) ||
            (r->outcome == VIOLATION && by_ept && fault->address == r->value &&
             fault->error_code == r->error) ||
            (r->outcome == MISCONFIGURATION && by_ept && fault->address == r->value &&
             fault->error_code == EPT_FAULT_MISCONFIGURATION))
            return r;
    }
    return NULL;
}

static void print_results(const struct results *results, const struct vtlb_result *result,
                          enum vtlb_outcome outcome, uint64_t linear, unsigned access)
{
    fprintf(stderr, "%#llx, access %#x, CR3 %#llx: outcome %d, page %#llx, fault at %#llx, error %#llx%s%s\n",
            (unsigned long long)linear, access, (unsigned long long)test.registers.cr3, outcome,
            (unsigned long long)(result->translation.address - host(0)),
            (unsigned long long)result->fault.address, (unsigned long long)result->fault.error_code,
            result->fault.stage == &test.lv2.walk.stage ? " of EPT" : "",
            result->fault.in_tables ? " in tables" : "");
    for (unsigned i = 0; i < results->count; i++)
        fprintf(stderr, "  may be %d: %#llx, error %#llx, rights %#x type %u\n", results->result[i].outcome,
                (unsigned long long)results->result[i].value, (unsigned long long)results->result[i].error,
                results->result[i].rights, results->result[i].type);
}

static void miss_linear(unsigned page, unsigned access)
{
    const uint64_t linear = linear_at(page) | pick(&test.random, PAGE_SIZE);
    const bool looks = rarely(&test.random, 32);
    const uint64_t marks = has_marks(test.space) ? 0x300 : 0, again = test.lv2.vtlb.statistics.again;
    struct results results;
    struct vtlb_result result;

    explore_linear(linear, access, &results);
    if (looks)
        memcpy(before, test.memory, sizeof(before));
    enum vtlb_outcome outcome = vtlb_miss(test.context, linear, access, &result);
    if (test.lv2.vtlb.statistics.again > again) /* where a table lies has changed: Lv2 misses once more */
        outcome = vtlb_miss(test.context, linear, access, &result);
    MUST(test.lv2.vtlb.statistics.again <= again + 1);

    const struct result *const found = among(&results, &result, outcome, linear, access);
    if (found == NULL && !results.loose) {
        print_results(&results, &result, outcome, linear, access);
        give_up("what a miss gives is not what the tables say");
    }
    if (looks)
        check_marks(0x60 | marks);
    test.version++;
    if (outcome == VTLB_FILLED) {
        test.counts.fills++;
        if (found != NULL)
            keep(&test.combined[test.space][page], (struct kept){align_down(found->value, PAGE_SIZE),
                                                                 found->rights, found->type, found->global});
    } else if (outcome == VTLB_NO_MEMORY) {
        test.counts.no_memory++;
    } else if (result.fault.stage != &test.lv2.walk.stage) {
        test.counts.faults++;
        test.combined[test.space][page].count = 0;
    } else if (result.fault.error_code == EPT_FAULT_MISCONFIGURATION) {
        test.counts.misconfigurations++;
    } else {
        note_violation(result.fault.address);
        test.combined[test.space][page].count = 0;
    }
}

/* Lv2 accesses a page. False: it does not get through. */
static bool access_page(unsigned page, unsigned access)
{
    const uint64_t address = test.shadow ? linear_at(page) : gpa2_at(page);
    const struct set *set = test.shadow ? &test.combined[test.space][page] : &test.physical[test.space][page];
    struct seen seen;

    refresh();
    sample();
    test.counts.accesses++;
    seen = translate(address, rarely(&test.random, 8));
    if (!grants(&seen, access)) {
        const uint64_t filled = test.counts.fills;

        forget_cached(address);
        test.counts.misses++;
        if (test.shadow)
            miss_linear(page, access);
        else
            miss_physical(page, access);
        refresh();
        sample();
        if (test.counts.fills == filled)
            return false;
        seen = translate(address, true);
        MUST(grants(&seen, access)); /* one miss is enough */
    }
    if (!test.shadow) {
        const struct walk2 walk = walk2(test.space, address, access);
        test.counts.stale += walk.error != 0 || host(walk.gpa) != seen.hpa;
    }
    if (!is_kept(set, &seen, access) && !test.full && !test.tangled[test.space] &&
        !(test.shadow && test.loose[test.space][page])) {
        fprintf(stderr, "%#llx, access %#x: %#llx, rights %#x, type %u\n", (unsigned long long)address,
                access, (unsigned long long)(seen.hpa - host(0)), seen.rights, seen.type);
        for (unsigned i = 0; i < set->count; i++)
            fprintf(stderr, "  may be %#llx, rights %#x, type %u%s\n", (unsigned long long)set->kept[i].gpa,
                    set->kept[i].rights, set->kept[i].type, set->kept[i].global ? ", global" : "");
        give_up("no processor could have cached this");
    }
    return true;
}

/* ---- Random tables ---- */

static uint64_t data_frame(void)
{
    const unsigned frame = EPT_FRAMES + pick(&test.random, 64 - EPT_FRAMES);

    return rarely(&test.random, 16) ? HOLE + pick(&test.random, 8) * PAGE_SIZE : frame * PAGE_SIZE;
}

static uint64_t ept_entry(bool page, unsigned level)
{
    static const unsigned types[] = {MEMORY_TYPE_UC, MEMORY_TYPE_WB, MEMORY_TYPE_WB, MEMORY_TYPE_WB};
    const unsigned kind = pick(&test.random, 24);
    uint64_t entry = pick(&test.random, 4) == 0 ? 0x300 : pick(&test.random, 2) * 0x100ULL;

    entry |= kind == 0   ? 0
             : kind == 1 ? 1
             : kind == 2 ? 5
             : kind == 3 ? 3
             : kind == 4 ? pick(&test.random, 8)
                         : 7;
    if (kind == 5)
        entry |= 1ULL << (rarely(&test.random, 2) ? 3 + pick(&test.random, 9) : 40 + pick(&test.random, 12));
    if (page)
        entry |= types[pick(&test.random, 4)] << 3;
    if (page && level > 1)
        return entry | 0x80 | (LARGE + pick(&test.random, 3) * MIB(2));
    return entry | (page ? data_frame() : pick(&test.random, EPT_FRAMES) * PAGE_SIZE);
}

/* Lv1 writes an entry on the way to one of Lv2's pages: anything, or its bits, most often the last. */
static void write_ept(void)
{
    const unsigned space = pick(&test.random, SPACES);
    const struct walk2 walk = walk2(space, gpa2_at(pick(&test.random, PAGES2)), 0);
    unsigned i;

    if (walk.entries == 0)
        return;
    i = rarely(&test.random, 12) ? pick(&test.random, walk.entries) : walk.entries - 1;
    const uint64_t at = walk.entry[i], old = load(at);

    if (at >= EPT_FRAMES * PAGE_SIZE && !rarely(&test.random, 8))
        return;
    switch (pick(&test.random, 4)) {
    case 0:
        store(at, old ^ 1ULL << pick(&test.random, 10));
        break;
    case 1:
        store(at, old & ~0x300ULL);
        break;
    default:
        store(at, i + 1 == walk.entries && walk.error == 0
                      ? ept_entry(true, rarely(&test.random, 8) && i == 3 ? 1 : 4 - i)
                      : ept_entry(false, 4 - i));
    }
}

/* EPT12 as a hypervisor has it: each of Lv2's pages at a frame. */
static void map_ept(unsigned space, unsigned page, uint64_t frame)
{
    const uint64_t base = (uint64_t)(space / 2) * (EPT_FRAMES / 2) * PAGE_SIZE, gpa2 = gpa2_at(page);
    const uint64_t top = gpa2 >> 39, directory = gpa2 >> 21 & 3;
    const uint64_t pointers = base + (1 + top) * PAGE_SIZE, pd = base + (3 + top) * PAGE_SIZE;
    const uint64_t pt = base + (5 + top * 3 + (directory == 3 ? 2 : directory)) * PAGE_SIZE;

    store(base + top * 8, pointers | 7);
    store(pointers, pd | 7);
    store(pd + directory * 8, pt | 7);
    store(pt + (gpa2 >> 12 & 511) * 8, frame | 0x37);
}

static uint64_t lv2_frame(unsigned page)
{
    return (EPT_FRAMES + page % (64 - EPT_FRAMES)) * PAGE_SIZE;
}

static uint64_t pt_entry(bool table)
{
    const uint64_t page = table ? pick(&test.random, PT_FRAMES) : pick(&test.random, PAGES2);
    uint64_t flags = 7 | pick(&test.random, 4) << 5;

    if (rarely(&test.random, 8))
        flags ^= 1ULL << pick(&test.random, 9);
    if (rarely(&test.random, 16))
        flags ^= 1ULL << 63;
    return gpa2_at((unsigned)page) | (flags & ~0x98ULL) | (rarely(&test.random, 6) ? 0x100 : 0);
}

/* Lv2 writes an entry of its own tables, wherever they lie now. */
static void write_pt(void)
{
    const uint64_t linear = linear_at(pick(&test.random, LINEAR));
    uint64_t table = test.registers.cr3;

    for (unsigned level = 4;; level--) {
        const uint64_t place = table + (linear >> (3 + 9 * level) & 511) * 8;
        const struct walk2 walk = walk2(test.space, place, PAGING_READ);
        const uint64_t entry = walk.error == 0 ? load(walk.gpa) : 0;

        if (walk.error != 0 || walk.gpa < EPT_FRAMES * PAGE_SIZE)
            return;
        if (level == 1 || (entry & 1) == 0 || rarely(&test.random, 8)) {
            store(walk.gpa, pt_entry(level > 1));
            return;
        }
        table = entry & FRAME;
    }
}

/* What Lv1 does after a violation: there is a page now. Most need no INVEPT for that. */
static void repair(unsigned page)
{
    map_ept(test.space, page, lv2_frame(page));
}

/*
 * Lv1 takes one of Lv2's tables away, and when Lv2 has missed it gives it back elsewhere, and not as it was:
 * without INVEPT, which is not due for what a violation has made the processor forget.
 */
static void move_table(void)
{
    const unsigned page = pick(&test.random, PT_FRAMES), space = test.space;
    const struct walk2 walk = walk2(space, gpa2_at(page), 0);
    const uint64_t frame = (EPT_FRAMES + pick(&test.random, 64 - EPT_FRAMES)) * PAGE_SIZE;

    if (walk.error != 0 || walk.entries < 4 || walk.entry[3] >= EPT_FRAMES * PAGE_SIZE || walk.gpa >= HOLE)
        return;
    store(walk.entry[3], 0);
    enter(space);
    for (unsigned i = 0; i < 4; i++)
        access_page(pick(&test.random, LINEAR), PAGING_READ);
    for (unsigned slot = 0; slot < 8; slot++)
        store(frame + slot * 8,
              rarely(&test.random, 4) ? pt_entry(rarely(&test.random, 2)) : load(walk.gpa + slot * 8));
    map_ept(space, page, frame);
    enter(space);
    for (unsigned i = 0; i < 4; i++)
        access_page(pick(&test.random, LINEAR), PAGING_READ);
}

/* ---- Rounds ---- */

static void begin(uint64_t seed, bool shadow)
{
    const uint64_t capabilities = VMX_EPT_WALK_4 | VMX_EPT_MEMORY_WB | VMX_EPT_PAGE_2M | VMX_EPT_PAGE_1G |
                                  VMX_EPT_ACCESSED_DIRTY | (shadow ? 0 : VMX_EPT_EXECUTE_ONLY);

    if (test.memory == NULL) {
        test.memory = mmap(NULL, ARENA + MIB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(test.memory != MAP_FAILED);
        test.memory = (unsigned char *)(uintptr_t)align_up((uint64_t)(uintptr_t)test.memory, MIB(2));
    }
    memset(test.memory, 0, ARENA);
    memset(test.physical, 0, sizeof(test.physical));
    memset(test.combined, 0, sizeof(test.combined));
    memset(test.loose, 0, sizeof(test.loose));
    memset(test.tangled, 0, sizeof(test.tangled));
    memset(test.tlb, 0, sizeof(test.tlb));
    memset(test.sampled, 0, sizeof(test.sampled));
    test.random.state = seed * 0x9e3779b97f4a7c15ULL | 1;
    test.seed = seed;
    test.shadow = shadow;
    test.full = false;
    test.version = 1;
    test.generation = test.root = 0;

    if (test.machine != NULL)
        machine_free(test.machine);
    test.machine = machine_make(host(0), host(ARENA), QUOTA, true, false);
    machine_map(test.machine, 0, host(0), HOLE, RWX, MEMORY_TYPE_WB);
    machine_map(test.machine, ROM, host(ROM), ROM_END - ROM, PAGING_READ | PAGING_EXECUTE, MEMORY_TYPE_WB);
    machine_map(test.machine, ROM_END, host(ROM_END), ARENA - ROM_END, RWX, MEMORY_TYPE_WB);

    machine.vtlb_hardware = (struct vtlb_hardware){.pages_2m = !rarely(&test.random, 3)};
    machine.capabilities.ept_vpid = VMX_EPT_ACCESSED_DIRTY;
    memset(&test.v, 0, sizeof(test.v));
    memset(&test.nested, 0, sizeof(test.nested));
    memset(&test.lv2, 0, sizeof(test.lv2));
    overlay_init(&test.v.view, &test.machine->p2m.stage);
    test.v.view_chain = (struct stage_chain){.stages = {&test.v.view.stage}, .count = 1};
    test.policy.capabilities.offered.ept_vpid = capabilities;
    test.policy.physical_bits = 40;
    test.nested.policy = &test.policy;
    vmcs12_write(&test.nested.vmcs12, VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);
    vmcs12_write(&test.nested.vmcs12, VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_EPT | VMX_SECONDARY_VPID);
    vmcs12_write(&test.nested.vmcs12, VMCS_VPID, 1);
    const uint32_t pages =
        VTLB_PAGES_MIN + pick(&test.random, rarely(&test.random, 3) ? 20 : QUOTA - VTLB_PAGES_MIN);
    memset(test.machine->quota, 0xa5, QUOTA * PAGE_SIZE);
    assert_int_equal(nested_memory_init(&test.lv2, &test.v, &test.nested,
                                        HPA((uint64_t)(uintptr_t)test.machine->quota), pages,
                                        test.machine->tables),
                     0);
    walk_x86_init(&test.walk, &test.lv2.ept_view);
    test.linear = (struct stage_chain){.stages = {&test.walk.stage, &test.lv2.walk.stage, &test.v.view.stage},
                                       .count = 3};
    test.registers = (struct walk_x86_registers){
        .cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP,
        .cr4 = X86_CR4_PAE | X86_CR4_PGE,
        .efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE,
        .pat = 0x0007040600070406,
        .physical_bits = 40,
        .gigabyte_pages = true,
    };

    for (unsigned space = 0; space < SPACES; space += 2)
        for (unsigned page = 0; page < PAGES2; page++)
            map_ept(space, page, lv2_frame(page));
    for (unsigned frame = 0; shadow && frame < PT_FRAMES; frame++)
        for (unsigned slot = 0; slot < 8; slot++)
            store((EPT_FRAMES + frame) * PAGE_SIZE + slot * 8, pt_entry(!rarely(&test.random, 3)));
    enter(0);
}

static void audit(void)
{
    const char *broken = vtlb_audit(&test.lv2.vtlb, &test.machine->p2m);

    if (broken != NULL)
        give_up(broken);
}

static void operate(void)
{
    const unsigned page = pick(&test.random, test.shadow ? LINEAR : PAGES2);

    switch (pick(&test.random, test.shadow ? 64 : 52)) {
    case 0:
    case 1:
    case 2:
        write_ept();
        if (rarely(&test.random, 2))
            write_ept();
        enter(test.space);
        break;
    case 3:
        write_ept();
        invept(rarely(&test.random, 3));
        if (rarely(&test.random, 2))
            write_ept(); /* before Lv2 runs again: nobody has cached what was */
        enter(pick(&test.random, SPACES));
        break;
    case 4:
        enter(pick(&test.random, SPACES));
        break;
    case 5:
        if (rarely(&test.random, 4)) {
            invvpid();
            enter(test.space);
        }
        break;
    case 6:
        vtlb_clean(&test.lv2.vtlb, pick(&test.random, 8));
        break;
    case 7:
        translate(test.shadow ? linear_at(page) : gpa2_at(page), true); /* it looks ahead */
        break;
    case 52:
    case 53:
    case 54:
        write_pt();
        sample();
        break;
    case 55:
        if (rarely(&test.random, 2))
            move_table();
        else
            load_root();
        break;
    case 56:
        write_pt();
        invlpg(page);
        break;
    default:
        if (!access_page(page,
                         random_access() | (test.shadow && !rarely(&test.random, 4) ? PAGING_USER : 0)) &&
            rarely(&test.random, 2)) {
            if (test.shadow) {
                repair(pick(&test.random, PAGES2));
                write_pt();
            } else {
                repair(page);
            }
            enter(test.space);
        }
    }
}

static void random_operations(void **state)
{
    const uint64_t operations = number_from("VTLB_MODEL_OPERATIONS", 1000000);
    const uint64_t seed = number_from("VTLB_MODEL_SEED", 1);
    uint64_t done = 0;
    (void)state;

    memset(&test.counts, 0, sizeof(test.counts));
    for (uint64_t round = 0; done < operations; round++) {
        begin(seed + round, (seed + round) % 2 != 0);
        for (test.step = 0; test.step < ROUND; test.step++, done++) {
            if (test.full) {
                invept(true);
                invvpid();
                enter(test.space);
            }
            operate();
            if (test.step % 1024 == 0)
                audit();
        }
        audit();
    }
    printf("%llu operations: %llu accesses, %llu misses, %llu fills, %llu stale, %llu violations, %llu "
           "misconfigurations, %llu page faults, %llu without memory\n",
           (unsigned long long)done, (unsigned long long)test.counts.accesses,
           (unsigned long long)test.counts.misses, (unsigned long long)test.counts.fills,
           (unsigned long long)test.counts.stale, (unsigned long long)test.counts.violations,
           (unsigned long long)test.counts.misconfigurations, (unsigned long long)test.counts.faults,
           (unsigned long long)test.counts.no_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
