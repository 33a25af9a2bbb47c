// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/walk_ept.c against a second walker, plain and slow, written here from the SDM's prose: every mix of
 * rights of the last two entries, page size, kind of access, execute-only and A/D, with the other bits at
 * random; then each misconfiguration, each EPTP, races, holes, and the chains that it is made for. Fails when
 * an access is judged otherwise, an error code, address, right or memory type differs, or an entry is changed
 * in another way than A and D demand.
 */
#include "mm/walk_ept.h"

#include "arch/x86/paging_ept.h"
#include "lib/errors.h"
#include "mm/walk_x86.h"
#include "tests/unit/vtlb_machine.h"
#include "tests/unit/walk_meddler.h"

#define GUEST_SIZE MIB(8)
#define ROM        MIB(6) /* the last 2 MiB are read-only memory */
#define EVERYTHING                                                                                           \
    (VMX_EPT_EXECUTE_ONLY | VMX_EPT_WALK_4 | VMX_EPT_WALK_5 | VMX_EPT_MEMORY_UC | VMX_EPT_MEMORY_WB |        \
     VMX_EPT_PAGE_2M | VMX_EPT_PAGE_1G | VMX_EPT_ACCESSED_DIRTY)

static const struct walk_ept_features everything = {.capabilities = EVERYTHING, .physical_bits = 40};

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1d;
}

/* ---- A guest hypervisor: memory that its tables are in, [5] at 0x1000, [4] at 0x2000 … [1] at 0x5000 ----
 */

struct guest {
    struct machine *machine;
    unsigned char *memory;
    struct stage_chain tables;
    struct walk_ept walk;
};

#define EPTP_4    0x201e /* write-back, four levels */
#define EPTP_5    0x1026
#define EPTP_4_AD 0x205e

static void guest_make(struct guest *guest)
{
    guest->memory = aligned_alloc(MIB(2), GUEST_SIZE);
    assert_non_null(guest->memory);
    memset(guest->memory, 0, GUEST_SIZE);

    const uint64_t hpa = (uint64_t)(uintptr_t)guest->memory;
    guest->machine = machine_make(hpa, hpa + GUEST_SIZE, 32, true, true);
    machine_map(guest->machine, 0, hpa, ROM, RWX, MEMORY_TYPE_WB);
    machine_map(guest->machine, ROM, hpa + ROM, GUEST_SIZE - ROM, PAGING_READ | PAGING_EXECUTE,
                MEMORY_TYPE_WB);
    guest->tables = (struct stage_chain){.stages = {&guest->machine->p2m.stage}, .count = 1};
    walk_ept_init(&guest->walk, &guest->tables);
}

static void guest_free(struct guest *guest)
{
    free(guest->memory);
    machine_free(guest->machine);
}

static uint64_t *entry_at(const struct guest *guest, uint64_t table, unsigned slot)
{
    return (uint64_t *)(void *)(guest->memory + table) + slot;
}

static uint64_t *entry_for(const struct guest *guest, unsigned level, uint64_t gpa)
{
    return entry_at(guest, 0x6000 - 0x1000 * (uint64_t)level, gpa >> (3 + 9 * level) & 511);
}

static enum stage_outcome ask(const struct guest *guest, uint64_t gpa, unsigned access, struct translation *t,
                              struct stage_fault *fault)
{
    return guest->walk.stage.walk(&guest->walk.stage, gpa, access, t, fault);
}

/* ---- The second walker ---- */

struct setup {
    struct walk_ept_features features;
    unsigned levels;
    bool accessed_dirty;
    uint64_t entry[6]; /* by level */
    uint64_t gpa;
    unsigned access;
};

struct verdict {
    bool fault;
    uint64_t error;
    uint64_t address;
    unsigned rights, type, shift;
    uint64_t after[6];
};

static bool bit(uint64_t value, unsigned n)
{
    return (value >> n & 1) != 0;
}

/* Bits `high` down to `low`, both included, as the SDM writes them. */
static uint64_t bits(uint64_t value, unsigned high, unsigned low)
{
    return high < low ? 0 : (value >> low) & (~0ULL >> (63 - (high - low)));
}

static bool misconfigured(const struct setup *s, unsigned level, bool page)
{
    const uint64_t e = s->entry[level], offered = s->features.capabilities;
    const unsigned type = (unsigned)bits(e, 5, 3);

    if (bits(e, 2, 0) == 2 || bits(e, 2, 0) == 6 || (bits(e, 2, 0) == 4 && !bit(offered, 0)))
        return true;
    if (bits(e, 51, s->features.physical_bits) != 0)
        return true;
    if (page && (type == 2 || type == 3 || type == 7))
        return true;
    switch (level) {
    case 5:
    case 4:
        return bits(e, 7, 3) != 0;
    case 3:
        return page ? !bit(offered, 17) || bits(e, 29, 12) != 0 : bits(e, 6, 3) != 0;
    case 2:
        return page ? !bit(offered, 16) || bits(e, 20, 12) != 0 : bits(e, 6, 3) != 0;
    default:
        return false;
    }
}

static struct verdict judge(const struct setup *s)
{
    const unsigned wants = s->access & 7;
    struct verdict v = {.fault = true, .error = wants, .rights = 7};
    unsigned level = s->levels;

    memcpy(v.after, s->entry, sizeof(v.after));
    if (bits(s->gpa, 63, 12 + 9 * s->levels) != 0)
        return v;
    for (;; level--) {
        const uint64_t e = s->entry[level];
        const bool page = level == 1 || (level <= 3 && bit(e, 7));

        if (bits(e, 2, 0) == 0)
            return v;
        if (misconfigured(s, level, page)) {
            v.error = 1ULL << 32;
            return v;
        }
        v.rights &= (unsigned)bits(e, 2, 0);
        if (page)
            break;
    }
    if ((wants & ~v.rights) != 0) {
        v.error |= v.rights << 3;
        return v;
    }
    v.fault = false;
    if (s->accessed_dirty) {
        for (unsigned l = level; l <= s->levels; l++)
            v.after[l] |= 1 << 8;
        if (wants & 2)
            v.after[level] |= 1 << 9;
        if (!bit(v.after[level], 9))
            v.rights &= ~2U;
    }
    v.rights |= 8;
    v.type = (unsigned)bits(s->entry[level], 5, 3);
    v.shift = 3 + 9 * level;
    v.address = bits(s->entry[level], 51, v.shift) << v.shift | bits(s->gpa, v.shift - 1, 0);
    return v;
}

/* ---- Both on the same ---- */

static void compare(struct guest *guest, const struct setup *s)
{
    const uint64_t eptp =
        6 | (s->levels - 1) << 3 | (s->accessed_dirty ? 0x40 : 0) | 0x1000 * (6 - s->levels);
    const struct verdict v = judge(s);
    struct translation t = {0};
    struct stage_fault fault = {0};

    assert_int_equal(walk_ept_set(&guest->walk, eptp, &s->features), 0);
    for (unsigned level = 1; level <= s->levels; level++)
        *entry_for(guest, level, s->gpa) = s->entry[level];

    /* A look changes nothing and says the same. */
    for (int look = 1; look >= 0; look--) {
        const enum stage_outcome outcome =
            ask(guest, s->gpa, s->access | (look ? STAGE_ACCESS_PROBE : 0), &t, &fault);
        assert_int_equal(outcome, v.fault ? STAGE_FAULT : STAGE_DONE);
        if (v.fault) {
            assert_int_equal(fault.error_code, v.error);
            assert_int_equal(fault.address, s->gpa);
            assert_ptr_equal(fault.stage, &guest->walk.stage);
            assert_false(fault.in_tables);
        } else {
            assert_int_equal(t.address, v.address);
            assert_int_equal(t.rights, v.rights);
            assert_int_equal(t.memory_type, v.type);
            assert_int_equal(t.page_shift, v.shift);
            assert_false(t.global || t.transient || t.key != 0);
        }
        for (unsigned level = 1; level <= s->levels; level++)
            assert_int_equal(*entry_for(guest, level, s->gpa), look ? s->entry[level] : v.after[level]);
    }
    for (unsigned level = 1; level <= s->levels; level++)
        *entry_for(guest, level, s->gpa) = 0;
}

/* An entry that refers to the table of the next level; ignored bits at random. */
static uint64_t table_entry(unsigned level, unsigned rights)
{
    return (0x6000 - 0x1000 * (uint64_t)(level - 1)) | rights | (random_bits() & 0xfff0000000000f00);
}

/* One that maps a page of 40 bits of address; ignored bits, A, D and ignore-PAT at random. */
static uint64_t page_entry(unsigned level, unsigned rights, unsigned type)
{
    const unsigned shift = 3 + 9 * level;

    return (random_bits() & ((1ULL << 40) - (1ULL << shift))) | rights | type << 3 |
           (random_bits() & 0xfff0000000000f40) | (level > 1 ? 0x80 : random_bits() & 0x80);
}

static struct setup make_setup(unsigned levels, unsigned leaf, unsigned type, unsigned access)
{
    struct setup s = {.features = everything, .levels = levels, .access = access};

    s.gpa = random_bits() & ((1ULL << (levels == 5 ? 52 : 48)) - 1);
    for (unsigned level = levels; level > leaf; level--)
        s.entry[level] = table_entry(level, 7);
    s.entry[leaf] = page_entry(leaf, 7, type);
    return s;
}

static const unsigned accesses[] = {PAGING_READ, PAGING_WRITE, PAGING_EXECUTE, PAGING_READ | PAGING_WRITE};
static const unsigned types[] = {0, 1, 4, 5, 6};

static void rights_and_sizes(void **state)
{
    struct guest guest;
    (void)state;

    guest_make(&guest);
    for (unsigned n = 0; n < 2 * 3 * 8 * 8 * 4 * 2 * 2 * 4; n++) {
        const unsigned levels = 4 + n % 2, leaf = 1 + n / 2 % 3, rights = n / 6 % 8, above = n / 48 % 8;
        struct setup s = make_setup(levels, leaf, types[random_bits() % 5], accesses[n / 384 % 4]);

        s.accessed_dirty = n / 1536 % 2;
        if (n / 3072 % 2)
            s.features.capabilities &= ~(uint64_t)VMX_EPT_EXECUTE_ONLY;
        s.entry[leaf] = (s.entry[leaf] & ~7ULL) | rights;
        s.entry[leaf + 1 + random_bits() % (levels - leaf)] &= ~7ULL | above;
        compare(&guest, &s);
    }
    guest_free(&guest);
}

/* Every bit of every entry of every path, turned over; each memory type; large pages that are not offered. */
static void misconfigurations(void **state)
{
    struct guest guest;
    (void)state;

    guest_make(&guest);
    for (unsigned levels = 4; levels <= 5; levels++) {
        for (unsigned leaf = 1; leaf <= 3; leaf++) {
            for (unsigned level = leaf; level <= levels; level++) {
                for (unsigned n = 0; n < 64; n++) {
                    struct setup s = make_setup(levels, leaf, types[n % 5], accesses[random_bits() % 4]);
                    s.features.physical_bits = 40 + n % 2 * 6;
                    /* Another frame would be another table; all but pages and reserved bits are kept. */
                    if (level > leaf && n >= 12 && n < s.features.physical_bits)
                        continue;
                    if (level > leaf && n == 7 && level <= 3)
                        s.entry[level] |= MIB(2) + 0x1000; /* a page now, and not aligned */
                    s.entry[level] ^= 1ULL << n;
                    compare(&guest, &s);
                }
            }
            for (unsigned type = 0; type < 8; type++) {
                struct setup s = make_setup(levels, leaf, type, PAGING_READ);
                compare(&guest, &s);
            }
            struct setup s = make_setup(levels, leaf, 6, PAGING_READ);
            s.features.capabilities &= ~(uint64_t)VMX_EPT_PAGE_1G;
            compare(&guest, &s);
            s.features.capabilities = EVERYTHING & ~VMX_EPT_PAGE_2M;
            compare(&guest, &s);
            /* An entry that is not present says nothing else; it comes before what is wrong below it. */
            s = make_setup(levels, leaf, 6, PAGING_WRITE);
            s.entry[leaf] = ~7ULL;
            compare(&guest, &s);
            s.entry[leaf] = 2;
            s.entry[leaf + 1] = 0;
            compare(&guest, &s);
            /* What is wrong below comes before a right that is missing above. */
            s = make_setup(levels, leaf, 7, PAGING_WRITE);
            s.entry[levels] &= ~2ULL;
            compare(&guest, &s);
        }
        struct setup s = make_setup(levels, 1, 6, PAGING_READ);
        s.gpa |= 1ULL << (levels == 5 ? 57 : 48);
        compare(&guest, &s);
    }
    guest_free(&guest);
}

static void pointers(void **state)
{
    static const struct {
        uint64_t eptp, capabilities;
        unsigned physical_bits;
        int error;
    } cases[] = {
        {0x2018, EVERYTHING, 40, 0},
        {0x201e, EVERYTHING, 40, 0},
        {0x205e, EVERYTHING, 40, 0},
        {0x2026, EVERYTHING, 40, 0},
        {0x2018, EVERYTHING & ~VMX_EPT_MEMORY_UC, 40, -EINVAL},
        {0x201e, EVERYTHING & ~VMX_EPT_MEMORY_WB, 40, -EINVAL},
        {0x201e, EVERYTHING & ~VMX_EPT_WALK_4, 40, -EINVAL},
        {0x2026, EVERYTHING & ~VMX_EPT_WALK_5, 40, -EINVAL},
        {0x205e, EVERYTHING & ~VMX_EPT_ACCESSED_DIRTY, 40, -EINVAL},
        {0x201e, EVERYTHING & ~VMX_EPT_ACCESSED_DIRTY, 40, 0},
        {0x2019, EVERYTHING, 40, -EINVAL}, /* memory types */
        {0x201a, EVERYTHING, 40, -EINVAL},
        {0x201b, EVERYTHING, 40, -EINVAL},
        {0x201c, EVERYTHING, 40, -EINVAL},
        {0x201d, EVERYTHING, 40, -EINVAL},
        {0x201f, EVERYTHING, 40, -EINVAL},
        {0x2006, EVERYTHING, 40, -EINVAL}, /* lengths */
        {0x200e, EVERYTHING, 40, -EINVAL},
        {0x2016, EVERYTHING, 40, -EINVAL},
        {0x202e, EVERYTHING, 40, -EINVAL},
        {0x2036, EVERYTHING, 40, -EINVAL},
        {0x203e, EVERYTHING, 40, -EINVAL},
        {0x209e, EVERYTHING, 40, -EINVAL}, /* reserved bits */
        {0x211e, EVERYTHING, 40, -EINVAL},
        {0x221e, EVERYTHING, 40, -EINVAL},
        {0x241e, EVERYTHING, 40, -EINVAL},
        {0x281e, EVERYTHING, 40, -EINVAL},
        {1ULL << 39 | 0x1e, EVERYTHING, 40, 0}, /* MAXPHYADDR */
        {1ULL << 40 | 0x1e, EVERYTHING, 40, -EINVAL},
        {1ULL << 51 | 0x1e, EVERYTHING, 52, 0},
        {1ULL << 52 | 0x1e, EVERYTHING, 52, -EINVAL},
        {1ULL << 63 | 0x1e, EVERYTHING, 52, -EINVAL},
    };
    struct guest guest;
    struct translation t;
    struct stage_fault fault;
    (void)state;

    guest_make(&guest);
    *entry_at(&guest, 0x7000, 0) = 0x3007;
    *entry_at(&guest, 0x3000, 0) = 0x87 | 6 << 3;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct walk_ept_features features = {.capabilities = cases[i].capabilities,
                                                   .physical_bits = (uint8_t)cases[i].physical_bits};
        assert_int_equal(walk_ept_set(&guest.walk, 0x701e, &everything), 0);
        assert_int_equal(walk_ept_set(&guest.walk, cases[i].eptp, &features), cases[i].error);
        /* One that is refused leaves what was bound. */
        if (cases[i].error != 0)
            assert_int_equal(ask(&guest, 0x1234, PAGING_READ, &t, &fault), STAGE_DONE);
        else
            assert_int_equal(ask(&guest, 0x1234, PAGING_READ, &t, &fault), STAGE_FAULT);
    }
    guest_free(&guest);
}

/* ---- Entries that change under the walk ---- */

static enum stage_outcome walk_meddled(uint64_t flip, unsigned times, unsigned access, uint64_t *entry_after,
                                       struct translation *t, unsigned *writes)
{
    struct guest guest;
    struct meddler meddler = {.stage = {.walk = meddle}, .flip = flip, .times = times};
    struct stage_fault fault;

    guest_make(&guest);
    guest.tables = (struct stage_chain){.stages = {&meddler.stage, &guest.machine->p2m.stage}, .count = 2};
    *entry_at(&guest, 0x2000, 0) = 0x3107;
    *entry_at(&guest, 0x3000, 0) = 0x4107;
    *entry_at(&guest, 0x4000, 0) = 0x5107;
    *entry_at(&guest, 0x5000, 0) = 0x6037;
    meddler.entry = entry_at(&guest, 0x5000, 0);
    assert_int_equal(walk_ept_set(&guest.walk, EPTP_4_AD, &everything), 0);
    const enum stage_outcome outcome = ask(&guest, 0, access, t, &fault);
    if (outcome == STAGE_AGAIN)
        assert_true(fault.in_tables && fault.address == 0x5000 && fault.stage == &guest.walk.stage);
    *entry_after = *meddler.entry;
    *writes = meddler.writes;
    guest_free(&guest);
    return outcome;
}

static void entries_that_change(void **state)
{
    struct translation t;
    uint64_t entry;
    unsigned writes;
    (void)state;

    /* Another processor sets A, or A and D, first: nothing is lost. */
    assert_int_equal(walk_meddled(0x100, 1, PAGING_WRITE, &entry, &t, &writes), STAGE_DONE);
    assert_int_equal(entry, 0x6337);
    assert_int_equal(writes, 2);
    assert_int_equal(walk_meddled(0x300, 1, PAGING_WRITE, &entry, &t, &writes), STAGE_DONE);
    assert_int_equal(entry, 0x6337);
    assert_int_equal(writes, 1);
    /* Another frame: the new one is walked to. */
    assert_int_equal(walk_meddled(0x1000, 1, PAGING_READ, &entry, &t, &writes), STAGE_DONE);
    assert_int_equal(entry, 0x7137);
    assert_int_equal(t.address, 0x7000);
    /* Taken away: the violation is the guest's. */
    assert_int_equal(walk_meddled(0x7, 1, PAGING_READ, &entry, &t, &writes), STAGE_FAULT);
    assert_int_equal(entry, 0x6030);
    /* It never stands still: the walk gives up, and sets nothing. */
    assert_int_equal(walk_meddled(0x1000, UINT32_MAX, PAGING_READ, &entry, &t, &writes), STAGE_AGAIN);
    assert_int_equal(entry & 0x300, 0);
    assert_int_equal(writes, 8);
    /* A processor that keeps clearing A is not waited for either. */
    assert_int_equal(walk_meddled(0x100, UINT32_MAX, PAGING_WRITE, &entry, &t, &writes), STAGE_AGAIN);
    assert_true(writes < 32);
}

/* Tables where no memory is are misconfigured, at every level; those in read-only memory keep A and D as
 * they are. */
static void tables_without_memory(void **state)
{
    static const struct walk_ept_features widest = {.capabilities = EVERYTHING, .physical_bits = 52};
    struct guest guest;
    struct translation t;
    struct stage_fault fault;
    (void)state;

    guest_make(&guest);
    for (unsigned level = 1; level <= 5; level++) {
        assert_int_equal(walk_ept_set(&guest.walk, level == 5 ? GUEST_SIZE | 0x26 : EPTP_5, &widest), 0);
        for (unsigned above = 5; above > level; above--)
            *entry_for(&guest, above, 0) =
                (above == level + 1 ? GUEST_SIZE : 0x6000 - 0x1000 * (uint64_t)(above - 1)) | 7;
        assert_int_equal(ask(&guest, 0x123, PAGING_READ, &t, &fault), STAGE_FAULT);
        assert_int_equal(fault.error_code, EPT_FAULT_MISCONFIGURATION);
        assert_int_equal(fault.address, 0x123);
        assert_ptr_equal(fault.stage, &guest.walk.stage);
        assert_false(fault.in_tables);
    }

    *entry_at(&guest, 0x2000, 0) = ROM | 7;
    *entry_at(&guest, ROM, 0) = 0xb7;
    assert_int_equal(walk_ept_set(&guest.walk, EPTP_4_AD, &everything), 0);
    assert_int_equal(ask(&guest, 0x123, PAGING_WRITE, &t, &fault), STAGE_DONE);
    assert_int_equal(t.rights, PAGING_RIGHTS);
    assert_int_equal(t.page_shift, PAGE_SHIFT_1G);
    assert_int_equal(*entry_at(&guest, 0x2000, 0), ROM | 0x107);
    assert_int_equal(*entry_at(&guest, ROM, 0), 0xb7);
    guest_free(&guest);
}

/* A fault of the space that the tables are in, when they are read and when A is set: told as what it is. */
static void tables_out_of_reach(void **state)
{
    static const unsigned kinds[] = {PAGING_READ, PAGING_WRITE};
    struct guest guest;
    struct meddler meddler = {.stage = {.walk = meddle}};
    struct translation t;
    struct stage_fault fault;
    (void)state;

    guest_make(&guest);
    guest.tables = (struct stage_chain){.stages = {&meddler.stage, &guest.machine->p2m.stage}, .count = 2};
    *entry_at(&guest, 0x2000, 1) = 0x5107;
    *entry_at(&guest, MEDDLED, 3) = 0xb7;
    assert_int_equal(walk_ept_set(&guest.walk, EPTP_4_AD, &everything), 0);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        meddler.forbids = kinds[i];
        assert_int_equal(ask(&guest, GIB(515), PAGING_READ, &t, &fault), STAGE_FAULT);
        assert_true(fault.in_tables && fault.stage == &meddler.stage && fault.address == MEDDLED + 0x18);
        assert_int_equal(*entry_at(&guest, MEDDLED, 3), 0xb7);
    }
    guest_free(&guest);
}

/* What a walk went through; fails when a table, an entry as it was left, or the rights above one is another.
 */
static void trails(void **state)
{
    static const struct {
        uint64_t table, value;
        uint8_t rights;
    } steps[] = {
        [4] = {0x2000, 0x3107, RWX},
        [3] = {0x3000, 0x4105, RWX},
        [2] = {0x4000, 0x5107, PAGING_READ | PAGING_EXECUTE},
        [1] = {0x5000, 0x6133, PAGING_READ | PAGING_EXECUTE},
    };
    const uint64_t gpa = GIB(1) + MIB(4) + 3 * PAGE_SIZE + 5;
    struct guest guest;
    struct stage_trail trail;
    struct stage_fault fault;
    struct translation t;
    (void)state;

    guest_make(&guest);
    const struct stage *stage = &guest.walk.stage;
    *entry_at(&guest, 0x2000, 0) = 0x3007;
    *entry_at(&guest, 0x3000, 1) = 0x4005;
    *entry_at(&guest, 0x4000, 2) = 0x5007;
    *entry_at(&guest, 0x5000, 3) = 0x6033;
    assert_int_equal(walk_ept_set(&guest.walk, EPTP_4_AD, &everything), 0);

    /* What a trail held before does not count, unless it is said to be known. Without A in the entry above,
     * no table is reached for those that follow; with it, each is. */
    for (unsigned turn = 0; turn < 2; turn++) {
        memset(&trail, 0xff, sizeof(trail));
        trail.known = 0;
        assert_int_equal(stage->walk_trail(stage, gpa, PAGING_READ, &t, &trail, &fault), STAGE_DONE);
        assert_int_equal(t.rights, PAGING_READ | PAGING_USER);
        assert_int_equal(trail.top, 4);
        assert_int_equal(trail.leaf, 1);
        assert_int_equal(trail.reached, turn == 0 ? 4 : 1);
        for (unsigned level = 1; level <= 4; level++) {
            assert_int_equal(trail.step[level].table, steps[level].table);
            assert_int_equal(trail.step[level].value, steps[level].value);
            assert_int_equal(trail.step[level].rights, steps[level].rights);
            assert_ptr_equal(trail.step[level].host, guest.memory + steps[level].table);
            assert_true(trail.step[level].writable);
            assert_int_equal(*entry_at(&guest, steps[level].table, level == 4 ? 0 : 4 - level),
                             steps[level].value);
        }
    }
    /* Where A is not enabled it is not missed: 0x4000 is reached although nothing has it. */
    *entry_at(&guest, 0x3000, 1) = 0x4005;
    assert_int_equal(walk_ept_set(&guest.walk, EPTP_4, &everything), 0);
    *entry_at(&guest, 0x4000, 2) = 0;
    assert_int_equal(stage->walk_trail(stage, gpa, PAGING_READ, &t, &trail, &fault), STAGE_FAULT);
    assert_int_equal(trail.reached, 2);
    assert_int_equal(walk_ept_set(&guest.walk, EPTP_4_AD, &everything), 0);
    assert_int_equal(stage->walk_trail(stage, gpa, PAGING_READ, &t, &trail, &fault), STAGE_FAULT);
    assert_int_equal(trail.reached, 3);

    /* Known down to a table: it begins there, with the rights that are left, and marks nothing above. */
    trail.known = 1;
    trail.step[1].table = 0x7000;
    trail.step[1].host = guest.memory + 0x7000;
    trail.step[1].rights = PAGING_RIGHTS; /* a root's say more than EPT knows */
    *entry_at(&guest, 0x7000, 3) = 0x8037;
    *entry_at(&guest, 0x2000, 0) = 0;
    assert_int_equal(stage->walk_trail(stage, gpa, PAGING_WRITE, &t, &trail, &fault), STAGE_DONE);
    assert_int_equal(t.address, 0x8005);
    assert_int_equal(t.rights, PAGING_RIGHTS);
    assert_int_equal(*entry_at(&guest, 0x7000, 3), 0x8337);
    assert_int_equal(trail.step[1].value, 0x8337);
    assert_int_equal(*entry_at(&guest, 0x2000, 0), 0);
    assert_int_equal(trail.top, 4);
    assert_int_equal(trail.leaf, 1);
    for (unsigned right = PAGING_READ; right <= PAGING_EXECUTE; right <<= 1) {
        trail.known = 1;
        trail.step[1].rights = (uint8_t)right;
        assert_int_equal(stage->walk_trail(stage, gpa, right, &t, &trail, &fault), STAGE_DONE);
        assert_int_equal(t.rights, right | PAGING_USER);
        assert_int_equal(stage->walk_trail(stage, gpa, right ^ 7, &t, &trail, &fault), STAGE_FAULT);
    }

    /* Beyond what EPT translates nothing is read. */
    memset(&trail, 0xff, sizeof(trail));
    assert_int_equal(stage->walk_trail(stage, BIT(48), PAGING_READ, &t, &trail, &fault), STAGE_FAULT);
    assert_int_equal(fault.error_code, EPT_FAULT_READ);
    assert_int_equal(trail.top + trail.leaf + trail.reached, 0);
    guest_free(&guest);
}

/* ---- Chains ---- */

/*
 * A guest of the guest hypervisor with page tables of its own: at 0x1000 to 0x4000, which EPT maps to
 * 0x11000 to 0x14000. The page 0x5000 is at 0x300000, uncached; 0x6000 is at 0x301000, read-only.
 */
static void walker_over_ept(void **state)
{
    const struct walk_x86_registers registers = {.cr0 = 1ULL << 31 | 1ULL << 16 | 1,
                                                 .cr3 = 0x1000,
                                                 .cr4 = 1 << 5,
                                                 .efer = 0xd00,
                                                 .pat = 0x0007040600070406,
                                                 .physical_bits = 40};
    struct guest guest;
    struct walk_x86 walk_x86;
    struct translation t;
    struct stage_fault fault;
    (void)state;

    guest_make(&guest);
    const uint64_t hpa = (uint64_t)(uintptr_t)guest.memory;
    const struct stage_chain physical = {.stages = {&guest.walk.stage, &guest.machine->p2m.stage},
                                         .count = 2};
    const struct stage_chain linear = {
        .stages = {&walk_x86.stage, &guest.walk.stage, &guest.machine->p2m.stage}, .count = 3};
    walk_x86_init(&walk_x86, &physical);
    walk_x86_set(&walk_x86, &registers);
    for (unsigned level = 2; level <= 4; level++)
        *entry_for(&guest, level, 0) = (0x6000 - 0x1000 * (uint64_t)(level - 1)) | 7;
    for (unsigned page = 1; page <= 4; page++)
        *entry_at(&guest, 0x5000, page) = (0x10000 + 0x1000 * (uint64_t)page) | 0x37;
    *entry_at(&guest, 0x5000, 5) = 0x300007;
    *entry_at(&guest, 0x5000, 6) = 0x301035;
    *entry_at(&guest, 0x5000, 8) = 0x37 | GUEST_SIZE;
    for (unsigned page = 1; page <= 3; page++)
        *entry_at(&guest, 0x10000 + 0x1000 * (uint64_t)page, 0) = (0x1000 + 0x1000 * (uint64_t)page) | 7;
    for (unsigned page = 0; page < 4; page++)
        *entry_at(&guest, 0x14000, page) = (0x5000 + 0x1000 * (uint64_t)page) | 7;
    *entry_at(&guest, 0x13000, 1) = 0x7007; /* a page table that EPT does not map */
    assert_int_equal(walk_ept_set(&guest.walk, EPTP_4_AD, &everything), 0);

    assert_int_equal(stage_chain_walk(&linear, 0x123, PAGING_WRITE, &t, &fault), STAGE_DONE);
    assert_int_equal(t.address, hpa + 0x300123);
    assert_int_equal(t.rights, PAGING_RIGHTS);
    assert_int_equal(t.memory_type, MEMORY_TYPE_UC);
    assert_int_equal(t.page_shift, PAGE_SHIFT);
    /* A and D of both: the guest's tables were written, when their A was set. */
    assert_int_equal(*entry_at(&guest, 0x14000, 0), 0x5067);
    assert_int_equal(*entry_at(&guest, 0x11000, 0), 0x2027);
    assert_int_equal(*entry_at(&guest, 0x5000, 4), 0x14337);
    assert_int_equal(*entry_at(&guest, 0x5000, 5), 0x300307);
    assert_int_equal(*entry_at(&guest, 0x2000, 0), 0x3107);

    /* Not the guest's faults but the guest hypervisor's: of a page, */
    assert_int_equal(stage_chain_walk(&linear, 0x1123, PAGING_READ, &t, &fault), STAGE_DONE);
    assert_int_equal(t.rights, PAGING_READ | PAGING_EXECUTE | PAGING_USER);
    assert_int_equal(stage_chain_walk(&linear, 0x1123, PAGING_WRITE, &t, &fault), STAGE_FAULT);
    assert_ptr_equal(fault.stage, &guest.walk.stage);
    assert_int_equal(fault.address, 0x6123);
    assert_int_equal(fault.error_code, EPT_FAULT_WRITE | EPT_FAULT_READABLE | EPT_FAULT_EXECUTABLE);
    assert_false(fault.in_tables);
    /* of a page table that is not there, and of one that is read-only, */
    assert_int_equal(stage_chain_walk(&linear, MIB(2) + 0x3000, PAGING_EXECUTE, &t, &fault), STAGE_FAULT);
    assert_ptr_equal(fault.stage, &guest.walk.stage);
    assert_int_equal(fault.address, 0x7018);
    assert_int_equal(fault.error_code, EPT_FAULT_READ);
    assert_true(fault.in_tables);
    *entry_at(&guest, 0x5000, 4) &= ~2ULL;
    *entry_at(&guest, 0x14000, 0) = 0x5007;
    assert_int_equal(stage_chain_walk(&linear, 0x123, PAGING_EXECUTE, &t, &fault), STAGE_FAULT);
    assert_int_equal(fault.address, 0x4000);
    assert_int_equal(fault.error_code,
                     EPT_FAULT_READ | EPT_FAULT_WRITE | EPT_FAULT_READABLE | EPT_FAULT_EXECUTABLE);
    assert_true(fault.in_tables);
    /* The guest's own, and no memory behind both. */
    assert_int_equal(stage_chain_walk(&linear, 0x4000, PAGING_READ, &t, &fault), STAGE_FAULT);
    assert_ptr_equal(fault.stage, &walk_x86.stage);
    *entry_at(&guest, 0x5000, 4) |= 2;
    assert_int_equal(stage_chain_walk(&linear, 0x3123, PAGING_READ, &t, &fault), STAGE_NO_MEMORY);
    assert_int_equal(fault.address, GUEST_SIZE + 0x123);
    guest_free(&guest);
}

/* What nesting runs a guest of the guest hypervisor on: both EPTs in one. */
static void merged_into_ept(void **state)
{
    struct guest guest;
    struct vtlb_context context;
    struct vtlb_result result;
    (void)state;

    guest_make(&guest);
    struct machine *machine = guest.machine;
    const uint64_t hpa = (uint64_t)(uintptr_t)guest.memory;
    machine->chain = (struct stage_chain){.stages = {&guest.walk.stage, &machine->p2m.stage}, .count = 2};
    *entry_at(&guest, 0x2000, 0) = 0x3007;
    *entry_at(&guest, 0x3000, 0) = 0x4007;
    *entry_at(&guest, 0x3000, 1) = 0xb7;
    *entry_at(&guest, 0x4000, 0) = 0x5007;
    *entry_at(&guest, 0x4000, 1) = MIB(2) | 0xb7;
    *entry_at(&guest, 0x4000, 2) = ROM | 0xb7;
    *entry_at(&guest, 0x4000, 3) = GUEST_SIZE | 0x87;
    *entry_at(&guest, 0x5000, 0) = 0x300037;
    *entry_at(&guest, 0x5000, 1) = 0x301034;
    *entry_at(&guest, 0x5000, 2) = 0x30200f;
    *entry_at(&guest, 0x5000, 3) = 0x303036;
    assert_int_equal(walk_ept_set(&guest.walk, EPTP_4_AD, &everything), 0);
    assert_int_equal(vtlb_context_init(&context, &machine->vtlb, &machine->chain, &paging_ept), 0);
    const hpa_t root = vtlb_root(&context);

    /* A read does not make it writable: the guest hypervisor's D has to be set first. */
    assert_int_equal(vtlb_miss(&context, 0x123, PAGING_READ, &result), VTLB_FILLED);
    assert_seen(walk_ept(root, 0x123),
                (struct seen){true, hpa + 0x300123, PAGING_READ | PAGING_EXECUTE, MEMORY_TYPE_WB, 12, false});
    assert_int_equal(*entry_at(&guest, 0x5000, 0), 0x300137);
    assert_int_equal(vtlb_miss(&context, 0x123, PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_ept(root, 0x123), (struct seen){true, hpa + 0x300123, RWX, MEMORY_TYPE_WB, 12, false});
    assert_int_equal(*entry_at(&guest, 0x5000, 0), 0x300337);
    assert_int_equal(machine->vtlb.statistics.raised, 1);

    /* Execute-only, write-combining, a large page whole, one over read-only memory, one larger than ours. */
    assert_int_equal(vtlb_miss(&context, 0x1123, PAGING_EXECUTE, &result), VTLB_FILLED);
    assert_seen(walk_ept(root, 0x1123),
                (struct seen){true, hpa + 0x301123, PAGING_EXECUTE, MEMORY_TYPE_WB, 12, false});
    assert_int_equal(vtlb_miss(&context, 0x2000, PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_ept(root, 0x2000), (struct seen){true, hpa + 0x302000, RWX, MEMORY_TYPE_WC, 12, false});
    assert_int_equal(vtlb_miss(&context, MIB(2) + 5, PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_ept(root, MIB(2) + 5),
                (struct seen){true, hpa + MIB(2) + 5, RWX, MEMORY_TYPE_WB, 21, false});
    assert_int_equal(vtlb_miss(&context, MIB(4), PAGING_READ, &result), VTLB_FILLED);
    assert_seen(walk_ept(root, MIB(4)),
                (struct seen){true, hpa + ROM, PAGING_READ | PAGING_EXECUTE, MEMORY_TYPE_WB, 21, false});
    assert_int_equal(vtlb_miss(&context, GIB(1) + MIB(3), PAGING_WRITE, &result), VTLB_FILLED);
    assert_seen(walk_ept(root, GIB(1) + MIB(3)),
                (struct seen){true, hpa + MIB(3), RWX, MEMORY_TYPE_WB, 21, false});
    assert_sound(machine);

    /* Umbra's to emulate, whatever the guest hypervisor allows; and what it gets itself. */
    assert_int_equal(vtlb_miss(&context, MIB(4) + 8, PAGING_WRITE, &result), VTLB_NO_MEMORY);
    assert_int_equal(result.fault.address, ROM + 8);
    assert_int_equal(vtlb_miss(&context, MIB(6) + 8, PAGING_READ, &result), VTLB_NO_MEMORY);
    assert_int_equal(result.fault.address, GUEST_SIZE + 8);
    assert_int_equal(vtlb_miss(&context, 0x1123, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_int_equal(result.fault.error_code, EPT_FAULT_READ | EPT_FAULT_EXECUTABLE);
    assert_int_equal(result.fault.address, 0x1123);
    assert_int_equal(vtlb_miss(&context, 0x3123, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_int_equal(result.fault.error_code, EPT_FAULT_MISCONFIGURATION);
    assert_int_equal(vtlb_miss(&context, 0x4123, PAGING_EXECUTE, &result), VTLB_GUEST_FAULT);
    assert_int_equal(result.fault.error_code, EPT_FAULT_FETCH);

    /* It took a page back, and told so. */
    *entry_at(&guest, 0x5000, 0) = 0;
    vtlb_flush(&context, VTLB_FLUSH_ROOT);
    assert_false(walk_ept(root, 0x123).present);
    assert_int_equal(vtlb_miss(&context, 0x123, PAGING_READ, &result), VTLB_GUEST_FAULT);
    assert_sound(machine);
    guest_free(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rights_and_sizes),
        cmocka_unit_test(misconfigurations),
        cmocka_unit_test(pointers),
        cmocka_unit_test(entries_that_change),
        cmocka_unit_test(tables_without_memory),
        cmocka_unit_test(tables_out_of_reach),
        cmocka_unit_test(trails),
        cmocka_unit_test(walker_over_ept),
        cmocka_unit_test(merged_into_ept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
