// SPDX-License-Identifier: BSD-2-Clause
/*
 * mm/walk_x86.c and the x86 paging formats against a second walker, plain and slow, written here from the
 * SDM's prose: every mix of the rights bits of the last two levels, a reserved bit and D, of WP, SMEP, SMAP,
 * NXE and EFLAGS.AC, and of kinds of access, in every paging mode and page size; the other bits at random.
 * Fails when an access is judged otherwise, an error code, address, right or memory type differs, or an entry
 * is changed in another way than A and D demand.
 */
#include "mm/walk_x86.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mm/p2m.h"
#include "tests/unit/walk_meddler.h"

#define OWNER       FRAME_OWNER_PARTITION
#define GUEST_PAGES 16
#define GUEST_SIZE  (GUEST_PAGES * PAGE_SIZE)

static uint64_t random_state = 0xda3e39cb94b95bdb;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1d;
}

static uint64_t random_below(uint64_t limit)
{
    return (random_bits() >> 11) % limit;
}

/* ---- A guest: a few pages that its tables lie in ---- */

struct guest {
    unsigned char *memory;
    struct frame_extent extents[4];
    struct frame_pool pool;
    struct p2m_region regions[4];
    struct p2m p2m;
    struct stage_chain chain;
    struct walk_x86 walk;
};

static struct guest *make_guest(void)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    assert_non_null(guest);
    guest->memory = aligned_alloc(PAGE_SIZE, GUEST_SIZE);
    assert_non_null(guest->memory);
    memset(guest->memory, 0, GUEST_SIZE);

    hpa_t base = HPA((uint64_t)(uintptr_t)guest->memory);
    frame_pool_init(&guest->pool, guest->extents, ARRAY_SIZE(guest->extents), NULL);
    assert_int_equal(frame_pool_add(&guest->pool, base, GUEST_SIZE, FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&guest->pool, base, GUEST_SIZE, OWNER), 0);
    p2m_init(&guest->p2m, guest->regions, ARRAY_SIZE(guest->regions), &guest->pool, OWNER);
    /* The last page is read-only memory. */
    struct p2m_region ram = {GPA(0), base, GUEST_SIZE - PAGE_SIZE, PAGING_READ | PAGING_WRITE,
                             MEMORY_TYPE_WB};
    struct p2m_region rom = {GPA(GUEST_SIZE - PAGE_SIZE), HPA(base.value + GUEST_SIZE - PAGE_SIZE), PAGE_SIZE,
                             PAGING_READ, MEMORY_TYPE_WB};
    assert_int_equal(p2m_add(&guest->p2m, &ram), 0);
    assert_int_equal(p2m_add(&guest->p2m, &rom), 0);
    guest->chain = (struct stage_chain){.stages = {&guest->p2m.stage}, .count = 1};
    walk_x86_init(&guest->walk, &guest->chain);
    return guest;
}

static void free_guest(struct guest *guest)
{
    free(guest->memory);
    free(guest);
}

/* ---- The second walker ---- */

enum mode { MODE_32, MODE_32_PSE, MODE_PAE, MODE_4_LEVEL, MODE_5_LEVEL, MODES };

/* One case: registers, the entries on the path by level ([1] is the page table's), and the access. */
struct setup {
    enum mode mode;
    bool wp, smep, smap, nxe, pke, pge, gigabyte;
    unsigned physical_bits;
    uint32_t pkru;
    uint64_t pat;
    uint64_t entry[6];
    unsigned levels;
    uint64_t linear;
    bool write, fetch, user, implicit, ac;
};

struct verdict {
    bool fault;
    unsigned error;
    unsigned leaf; /* level of the entry that maps the page */
    uint64_t physical;
    unsigned shift;
    unsigned rights;
    unsigned memory_type;
    bool global;
    bool transient;
    unsigned key;
    uint64_t after[6]; /* the entries */
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

/* Whether the entry of `level` maps a page. */
static bool is_leaf(const struct setup *s, unsigned level)
{
    uint64_t e = s->entry[level];

    switch (level) {
    case 1:
        return true;
    case 2:
        return bit(e, 7) && s->mode != MODE_32; /* CR4.PSE = 0 ignores it */
    case 3:
        return bit(e, 7) && s->mode >= MODE_4_LEVEL && s->gigabyte;
    default:
        return false;
    }
}

/* SDM vol. 3, the figures of each mode's entries: bits that are marked reserved, or lie above MAXPHYADDR. */
static bool has_reserved(const struct setup *s, unsigned level)
{
    uint64_t e = s->entry[level];
    unsigned m = s->physical_bits;
    bool leaf = is_leaf(s, level);

    if (s->mode <= MODE_32_PSE) {
        if (level != 2 || !leaf)
            return false;
        if (m >= 40)
            return bit(e, 21);
        return bits(e, 21, m - 19) != 0;
    }
    if (bits(e, 51, m) != 0)
        return true;
    if (!s->nxe && bit(e, 63))
        return true;
    if (s->mode == MODE_PAE && bits(e, 62, 52) != 0)
        return true;
    switch (level) {
    case 5:
    case 4:
        return bit(e, 7);
    case 3:
        return bit(e, 7) && (!leaf || bits(e, 29, 13) != 0);
    case 2:
        return leaf && bits(e, 20, 13) != 0;
    default:
        return false;
    }
}

static struct verdict judge(const struct setup *s)
{
    struct verdict v = {0};
    bool wide = s->mode >= MODE_PAE;
    bool nx_counts = wide && s->nxe;
    bool user_mode = s->user && !s->implicit;
    bool all_user = true, all_write = true, any_nx = false, key_violation = false, key_denies_write = false;
    unsigned level = s->levels;

    memcpy(v.after, s->entry, sizeof(v.after));
    v.error = (s->write ? 2 : 0) | (user_mode ? 4 : 0) | (s->fetch && (s->smep || nx_counts) ? 16 : 0);
    if (s->mode == MODE_PAE) {
        if (!bit(s->entry[3], 0)) {
            v.fault = true;
            return v;
        }
        level = 2;
    }
    unsigned top = level;
    for (;; level--) {
        uint64_t e = s->entry[level];
        if (!bit(e, 0)) {
            v.fault = true;
            return v;
        }
        if (has_reserved(s, level)) {
            v.fault = true;
            v.error |= 1 | 8;
            return v;
        }
        if (!bit(e, 1))
            all_write = false;
        if (!bit(e, 2))
            all_user = false;
        if (nx_counts && bit(e, 63))
            any_nx = true;
        if (is_leaf(s, level))
            break;
    }
    v.leaf = level;
    uint64_t e = s->entry[level];

    bool allowed;
    if (user_mode) {
        allowed = all_user && (!s->write || all_write) && (!s->fetch || !any_nx);
    } else if (s->fetch) {
        allowed = !any_nx && !(s->smep && all_user);
    } else {
        bool smap_allows = !all_user || !s->smap || (s->ac && !s->implicit);
        allowed = smap_allows && (!s->write || !s->wp || all_write);
    }
    if (s->pke && s->mode >= MODE_4_LEVEL && all_user && !s->fetch) {
        unsigned key = (unsigned)bits(e, 62, 59);
        bool access_disable = bit(s->pkru, 2 * key), write_disable = bit(s->pkru, 2 * key + 1);
        key_denies_write = write_disable;
        key_violation = access_disable || (write_disable && s->write && (user_mode || s->wp));
    }
    if (!allowed || key_violation) {
        v.fault = true;
        v.error |= 1 | (key_violation ? 32 : 0);
        return v;
    }

    for (unsigned l = top; l >= v.leaf; l--)
        v.after[l] |= 0x20;
    if (s->write)
        v.after[v.leaf] |= 0x40;

    if (!wide) {
        v.shift = level == 2 ? 22 : 12;
        v.physical = level == 2 ? bits(e, 31, 22) << 22 | bits(e, 20, 13) << 32 | bits(s->linear, 21, 0)
                                : bits(e, 31, 12) << 12 | bits(s->linear, 11, 0);
    } else {
        v.shift = 3 + 9 * level;
        v.physical = bits(e, 51, v.shift) << v.shift | bits(s->linear, v.shift - 1, 0);
    }
    v.memory_type = s->pat >> (8 * (bit(e, 3) + 2 * bit(e, 4) + 4 * bit(e, level == 1 ? 7 : 12))) & 7;
    v.global = s->pge && bit(e, 8);
    v.key = all_user && s->pke && s->mode >= MODE_4_LEVEL ? (unsigned)bits(e, 62, 59) : 0;
    v.rights = PAGING_READ | (all_user ? PAGING_USER : 0) | (any_nx ? 0 : PAGING_EXECUTE);
    if (all_write && bit(v.after[v.leaf], 6))
        v.rights |= PAGING_WRITE;
    /* Hardware with CR0.WP = 1 would refuse what this guest's processor allows. */
    if (s->write && (!all_write || key_denies_write)) {
        v.rights = (v.rights | PAGING_WRITE) & ~PAGING_USER;
        v.transient = all_user && (s->smap || (s->pke && s->mode >= MODE_4_LEVEL));
        v.key = 0;
        if (s->smep && all_user)
            v.rights &= ~PAGING_EXECUTE;
    }
    return v;
}

/* ---- Both on the same ---- */

/* Tables are at 0x2000 for the top level, 0x3000 for the next and so on. */
static uint64_t table_of_level(const struct setup *s, unsigned level)
{
    return 0x2000 + (uint64_t)(s->levels - level) * 0x1000;
}

static void *place_of_entry(const struct guest *guest, const struct setup *s, unsigned level)
{
    uint64_t table = table_of_level(s, level);

    if (s->mode <= MODE_32_PSE)
        return guest->memory + table + 4 * bits(s->linear, level == 2 ? 31 : 21, level == 2 ? 22 : 12);
    if (s->mode == MODE_PAE && level == 3)
        return guest->memory + table + 8 * bits(s->linear, 31, 30);
    return guest->memory + table + 8 * bits(s->linear, 11 + 9 * level, 3 + 9 * level);
}

static void load_registers(struct guest *guest, const struct setup *s)
{
    struct walk_x86_registers r = {
        .cr0 = 1ULL << 31 | 1 | (s->wp ? 1ULL << 16 : 0),
        .cr3 = 0x2000,
        .cr4 = (s->mode == MODE_32_PSE || (s->mode >= MODE_PAE && bit(s->linear, 12)) ? 1ULL << 4 : 0) |
               (s->mode >= MODE_PAE ? 1ULL << 5 : 0) | (s->pge ? 1ULL << 7 : 0) |
               (s->mode == MODE_5_LEVEL ? 1ULL << 12 : 0) | (s->smep ? 1ULL << 20 : 0) |
               (s->smap ? 1ULL << 21 : 0) | (s->pke ? 1ULL << 22 : 0),
        .efer = (s->mode >= MODE_4_LEVEL ? 1ULL << 10 | 1ULL << 8 : 0) | (s->nxe ? 1ULL << 11 : 0),
        .pat = s->pat,
        .pkru = s->pkru,
        .physical_bits = (uint8_t)s->physical_bits,
        .gigabyte_pages = s->gigabyte,
    };

    if (s->mode == MODE_PAE)
        for (int i = 0; i < 4; i++)
            r.pdpte[i] = i == (int)bits(s->linear, 31, 30) ? s->entry[3] : 0;
    walk_x86_set(&guest->walk, &r);
}

static void compare(struct guest *guest, const struct setup *s)
{
    const size_t size = s->mode <= MODE_32_PSE ? 4 : 8;
    const unsigned top = s->mode == MODE_PAE ? 2 : s->levels;
    struct verdict v = judge(s);
    struct translation t = {0};
    struct stage_fault fault = {0};
    unsigned access = (s->fetch   ? PAGING_EXECUTE
                       : s->write ? PAGING_WRITE
                                  : PAGING_READ) |
                      (s->user ? PAGING_USER : 0) | (s->implicit ? STAGE_ACCESS_IMPLICIT : 0) |
                      (s->ac ? STAGE_ACCESS_AC : 0);

    for (unsigned level = 1; level <= top; level++)
        memcpy(place_of_entry(guest, s, level), &s->entry[level], size);
    load_registers(guest, s);

    /* A look changes nothing and says the same. */
    enum stage_outcome probed =
        guest->walk.stage.walk(&guest->walk.stage, s->linear, access | STAGE_ACCESS_PROBE, &t, &fault);
    assert_int_equal(probed, v.fault ? STAGE_FAULT : STAGE_DONE);
    if (!v.fault)
        assert_int_equal(t.rights, v.rights);
    for (unsigned level = 1; level <= top; level++)
        assert_memory_equal(place_of_entry(guest, s, level), &s->entry[level], size);

    enum stage_outcome outcome = guest->walk.stage.walk(&guest->walk.stage, s->linear, access, &t, &fault);
    assert_int_equal(outcome, v.fault ? STAGE_FAULT : STAGE_DONE);
    if (v.fault) {
        assert_int_equal(fault.error_code, v.error);
        assert_int_equal(fault.address, s->mode >= MODE_4_LEVEL ? s->linear : (uint32_t)s->linear);
        assert_ptr_equal(fault.stage, &guest->walk.stage);
        assert_false(fault.in_tables);
    } else {
        assert_int_equal(t.address, v.physical);
        assert_int_equal(t.page_shift, v.shift);
        assert_int_equal(t.rights, v.rights);
        assert_int_equal(t.memory_type, v.memory_type);
        assert_int_equal(t.global, v.global);
        assert_int_equal(t.transient, v.transient);
        assert_int_equal(t.key, v.key);
    }
    for (unsigned level = 1; level <= top; level++) {
        assert_memory_equal(place_of_entry(guest, s, level), &v.after[level], size);
        memset(place_of_entry(guest, s, level), 0, size);
    }
}

/* Rights bits as the matrix counts them, spread over an entry: P, W, U, NX, and from the second level up PS.
 */
static uint64_t entry_of(unsigned combination, bool wide)
{
    return (combination & 1) | (combination & 2) | (combination & 4) |
           (wide && (combination & 8) ? 1ULL << 63 : 0);
}

/* Bits that do not decide about rights, at random: PWT, PCD, A, G, ignored ones. */
static uint64_t decoration(void)
{
    return random_bits() & 0xf38;
}

/* The address of a page of 1 << shift bytes, at random. */
static uint64_t page_address(unsigned physical_bits, unsigned shift)
{
    return random_bits() & ((1ULL << physical_bits) - (1ULL << shift));
}

/* A reserved bit of the leaf of `leaf_level`, chosen at random; 0 where the mode has none. */
static uint64_t reserved_bit(const struct setup *s, unsigned leaf_level)
{
    if (s->mode <= MODE_32_PSE)
        return s->mode == MODE_32_PSE && leaf_level == 2 ? 1ULL << 21 : 0;
    if (leaf_level == 2 && random_below(2))
        return 1ULL << (13 + random_below(8));
    if (leaf_level == 3 && random_below(2))
        return 1ULL << (13 + random_below(17));
    if (s->mode == MODE_PAE && random_below(2))
        return 1ULL << (52 + random_below(11));
    return s->physical_bits < 52 ? 1ULL << (s->physical_bits + random_below(52 - s->physical_bits)) : 0;
}

static void one_case(struct guest *guest, enum mode mode, unsigned leaf_level, unsigned leaf, unsigned parent,
                     unsigned registers, unsigned kind)
{
    static const uint8_t widths[] = {36, 39, 40, 46, 52};
    static const unsigned levels[MODES] = {2, 2, 3, 4, 5};
    const bool wide = mode >= MODE_PAE;
    struct setup s = {
        .mode = mode,
        .wp = registers & 1,
        .smep = registers & 2,
        .smap = registers & 4,
        .nxe = registers & 8,
        .ac = registers & 16,
        .pke = mode >= MODE_4_LEVEL && random_below(4) == 0,
        .pge = random_below(2),
        .gigabyte = random_below(8) != 0,
        .physical_bits = widths[random_below(ARRAY_SIZE(widths))],
        .pkru = (uint32_t)(random_bits() & random_bits()),
        .pat = 0x0007040600070406 ^ (random_below(2) ? 0x0501000000000000 : 0),
        .levels = levels[mode],
        .linear = random_bits(),
        .write = kind % 3 == 1,
        .fetch = kind % 3 == 2,
        .user = kind / 3 % 2,
        .implicit = kind / 6,
    };

    /* Canonical; in the narrow modes bits above 31 must not matter. */
    if (mode >= MODE_4_LEVEL)
        s.linear = (uint64_t)((int64_t)(s.linear << (mode == MODE_5_LEVEL ? 7 : 16)) >>
                              (mode == MODE_5_LEVEL ? 7 : 16));

    for (unsigned level = s.levels; level > leaf_level; level--) {
        /* Above the last two levels an entry mostly grants all. */
        unsigned rights = level == leaf_level + 1 ? parent : random_below(8) ? 7 : (unsigned)random_below(16);
        uint64_t next = table_of_level(&s, level - 1);
        s.entry[level] = entry_of(rights, wide) | (decoration()) | next;
        if (mode == MODE_PAE && level == 3)
            s.entry[level] = next | (rights & 1); /* the rest is reserved, and checked elsewhere */
        else if (random_below(64) == 0)
            s.entry[level] |= 0x80; /* a page where there cannot be one, or an ignored bit, or a large page */
    }
    s.entry[leaf_level] = entry_of(leaf & 15, wide) | decoration() | (leaf & 16 ? 0x40 : 0);
    if (wide)
        s.entry[leaf_level] |= page_address(s.physical_bits, 3 + 9 * leaf_level);
    if (leaf_level > 1)
        s.entry[leaf_level] |= 0x80 | (random_below(2) ? 0x1000 : 0);
    else
        s.entry[leaf_level] |= random_bits() & 0x80;
    if (!wide && leaf_level == 1)
        s.entry[leaf_level] |= page_address(32, 12);
    if (mode == MODE_32_PSE && leaf_level == 2)
        s.entry[2] |= random_bits() & 0xffc00000;
    if (mode == MODE_32_PSE && leaf_level == 2 && random_below(2))
        s.entry[2] |= 1ULL << (13 + random_below(8)); /* PSE-36 */
    if (mode >= MODE_4_LEVEL)
        s.entry[leaf_level] |= random_bits() & 0x7ffULL << 52;
    if (leaf & 32)
        s.entry[leaf_level] |= reserved_bit(&s, leaf_level);
    if (!wide)
        for (unsigned level = 1; level <= 2; level++)
            s.entry[level] = (uint32_t)s.entry[level];
    compare(guest, &s);
}

static void matrix(struct guest *guest, enum mode mode, unsigned leaf_level)
{
    for (unsigned leaf = 0; leaf < 64; leaf++)
        for (unsigned parent = 0; parent < 16; parent++)
            for (unsigned registers = 0; registers < 32; registers++)
                for (unsigned kind = 0; kind < 12; kind++)
                    one_case(guest, mode, leaf_level, leaf, parent, registers, kind);
}

#define MATRIX(name, mode, leaf_level)                                                                       \
    static void name(void **state)                                                                           \
    {                                                                                                        \
        struct guest *guest = make_guest();                                                                  \
        (void)state;                                                                                         \
        matrix(guest, mode, leaf_level);                                                                     \
        free_guest(guest);                                                                                   \
    }

MATRIX(matrix_32bit_4k, MODE_32, 1)
MATRIX(matrix_32bit_4m, MODE_32_PSE, 2)
MATRIX(matrix_32bit_4k_pse, MODE_32_PSE, 1)
MATRIX(matrix_pae_4k, MODE_PAE, 1)
MATRIX(matrix_pae_2m, MODE_PAE, 2)
MATRIX(matrix_4level_4k, MODE_4_LEVEL, 1)
MATRIX(matrix_4level_2m, MODE_4_LEVEL, 2)
MATRIX(matrix_4level_1g, MODE_4_LEVEL, 3)
MATRIX(matrix_5level_4k, MODE_5_LEVEL, 1)
MATRIX(matrix_5level_2m, MODE_5_LEVEL, 2)
MATRIX(matrix_5level_1g, MODE_5_LEVEL, 3)

/* ---- What the matrix does not reach ---- */

static void paging_off(void **state)
{
    struct guest *guest = make_guest();
    struct translation t;
    struct stage_fault fault;
    (void)state;

    assert_int_equal(
        guest->walk.stage.walk(&guest->walk.stage, 0x1fec00010, PAGING_WRITE | PAGING_USER, &t, &fault),
        STAGE_DONE);
    assert_int_equal(t.address, 0xfec00010);
    assert_int_equal(t.rights, PAGING_RIGHTS);
    assert_int_equal(t.page_shift, PAGE_SHIFT_1G);
    assert_int_equal(t.memory_type, MEMORY_TYPE_WB);

    /* Turned off after it was on, with other flags in CR0. */
    const struct walk_x86_registers on = {.cr0 = 1ULL << 31 | 1, .cr4 = 1 << 5, .physical_bits = 40};
    const struct walk_x86_registers off = {.cr0 = 1ULL << 16 | 1, .cr4 = 1 << 5, .physical_bits = 36};
    walk_x86_set(&guest->walk, &on);
    assert_int_equal(guest->walk.stage.walk(&guest->walk.stage, 0x1010, PAGING_READ, &t, &fault),
                     STAGE_FAULT);
    walk_x86_set(&guest->walk, &off);
    assert_int_equal(guest->walk.stage.walk(&guest->walk.stage, 0x1010, PAGING_READ, &t, &fault), STAGE_DONE);
    assert_int_equal(t.address, 0x1010);

    /* No tables on the way, whatever the trail said before. */
    struct stage_trail trail = {.top = 4, .leaf = 2};
    assert_int_equal(
        guest->walk.stage.walk_trail(&guest->walk.stage, 0x1000, PAGING_READ, &t, &trail, &fault),
        STAGE_DONE);
    assert_int_equal(trail.top, 0);
    assert_int_equal(trail.leaf, 0);
    free_guest(guest);
}

/*
 * What is reserved follows each of the registers that it hangs on, changed alone. Fails when it is kept
 * across the change of one.
 */
static void reserved_follows(void **state)
{
    struct guest *guest = make_guest();
    struct walk_x86_registers r = {.cr0 = 1ULL << 31 | 1, .cr3 = 0x2000, .physical_bits = 40};
    uint64_t *pages = (uint64_t *)(void *)guest->memory;
    const uint64_t bit_40 = 1ULL << 40, nx = 1ULL << 63;
    const struct {
        uint64_t cr4, efer;
        uint8_t physical_bits;
        uint64_t extra; /* in the PDE, which maps a large page */
        bool reserved;
    } cases[] = {
        {0, 0x800, 40, 0, false}, /* 32-bit without PSE: PS is ignored */
        {1 << 5, 0x800, 40, bit_40, true},
        {1 << 5, 0x800, 41, bit_40, false}, /* the width alone */
        {1 << 5, 0x800, 40, bit_40, true},
        {1 << 5, 0x800, 40, nx, false},
        {1 << 5, 0, 40, nx, true}, /* EFER alone */
        {1 << 5, 0x800, 40, nx, false},
        {1 << 5, 0x800, 40, 1ULL << 60, true}, /* PAE alone has these */
        {1 << 5, 0xd00, 40, 1ULL << 60, false},
        {1 << 5, 0xd00, 40, bit_40, true},
        {1 << 5 | 1 << 12, 0xd00, 40, 1ULL << 60, false},
        {1 << 5 | 1 << 12, 0xd00, 40, bit_40, true},
    };
    struct translation t;
    struct stage_fault fault;
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const bool wide = (cases[i].cr4 & 1 << 5) != 0, is_long = (cases[i].efer & 0x400) != 0;
        uint64_t table = 0x2000;

        memset(guest->memory, 0, GUEST_SIZE);
        r.cr4 = cases[i].cr4;
        r.efer = cases[i].efer;
        r.physical_bits = cases[i].physical_bits;
        r.pdpte[0] = 0x2001;
        if (is_long)
            for (unsigned level = (r.cr4 & 1 << 12) != 0 ? 5 : 4; level > 2; level--, table += PAGE_SIZE)
                pages[table / 8] = (table + PAGE_SIZE) | 7;
        pages[table / 8] = wide ? 0x87 | cases[i].extra : 0x8087;
        pages[0x8000 / 8] = 0x9007;
        walk_x86_set(&guest->walk, &r);
        enum stage_outcome outcome = guest->walk.stage.walk(&guest->walk.stage, 0, PAGING_READ, &t, &fault);
        assert_int_equal(outcome, cases[i].reserved ? STAGE_FAULT : STAGE_DONE);
        if (cases[i].reserved)
            assert_int_equal(fault.error_code, PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED);
    }
    free_guest(guest);
}

static void pae_registers(void **state)
{
    static const struct {
        uint64_t entry;
        unsigned physical_bits;
        int error;
    } cases[] = {
        {0x3001, 36, 0},
        {0x3e19, 36, 0},
        {0x3003, 36, -EINVAL},
        {0x3005, 36, -EINVAL},
        {0x3021, 36, -EINVAL},
        {0x3041, 36, -EINVAL},
        {0x3081, 36, -EINVAL},
        {0x3101, 36, -EINVAL},
        {0x31e6, 36, 0}, /* not present */
        {1ULL << 36 | 1, 36, -EINVAL},
        {1ULL << 36 | 1, 37, 0},
        {1ULL << 52 | 1, 52, -EINVAL},
        {1ULL << 63 | 1, 52, -EINVAL},
    };
    struct guest *guest = make_guest();
    struct walk_x86_registers r = {.cr3 = 0x1fe0 | 0x18};
    uint64_t pdpte[4];
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t entries[4] = {0x4001, 0, 0x5001, 0x6001};
        entries[i % 4] = cases[i].entry;
        memcpy(guest->memory + 0x1fe0, entries, sizeof(entries));
        memset(pdpte, 0xff, sizeof(pdpte));
        r.physical_bits = (uint8_t)cases[i].physical_bits;
        assert_int_equal(walk_x86_load_pdptes(&guest->chain, &r, pdpte), cases[i].error);
        if (cases[i].error == 0)
            assert_memory_equal(pdpte, entries, sizeof(entries));
        else
            assert_int_equal(pdpte[0], UINT64_MAX);
    }
    r.cr3 = GUEST_SIZE;
    assert_int_equal(walk_x86_load_pdptes(&guest->chain, &r, pdpte), -EFAULT);
    free_guest(guest);
}

/* ---- Entries that change under the walk ---- */

static unsigned meddler_reads; /* of the last walk */

/* What a function that is called next and forgets to set a variable finds in it. */
static __attribute__((noinline)) void fill_stack(uint8_t byte)
{
    volatile uint8_t stack[4096];

    for (size_t i = 0; i < sizeof(stack); i++)
        stack[i] = byte;
}

static enum stage_outcome walk_meddled(uint64_t flip, unsigned times, unsigned access, uint64_t *entry_after,
                                       struct translation *t, unsigned *writes)
{
    struct guest *guest = make_guest();
    struct meddler meddler = {.stage = {.walk = meddle}, .flip = flip, .times = times};
    struct stage_chain tables = {.stages = {&meddler.stage, &guest->p2m.stage}, .count = 2};
    struct walk_x86_registers r = {
        .cr0 = 1ULL << 31 | 1, .cr3 = 0x2000, .cr4 = 1 << 5, .efer = 0xd00, .physical_bits = 40};
    uint64_t *pages = (uint64_t *)(void *)guest->memory;
    struct stage_fault fault;

    pages[0x2000 / 8] = 0x3027;
    pages[0x3000 / 8] = 0x4027;
    pages[0x4000 / 8] = 0x5027;
    pages[0x5000 / 8] = 0x6003;
    meddler.entry = &pages[0x5000 / 8];
    walk_x86_init(&guest->walk, &tables);
    walk_x86_set(&guest->walk, &r);
    fill_stack(0xff);
    enum stage_outcome outcome = guest->walk.stage.walk(&guest->walk.stage, 0, access, t, &fault);
    if (outcome == STAGE_AGAIN)
        assert_true(fault.in_tables && fault.address == 0x5000 && fault.stage == &guest->walk.stage);
    *entry_after = *meddler.entry;
    *writes = meddler.writes;
    meddler_reads = meddler.reads;
    free_guest(guest);
    return outcome;
}

static void entries_that_change(void **state)
{
    struct translation t;
    uint64_t entry;
    unsigned writes;
    (void)state;

    /* Another processor sets A, or A and D, first: nothing is lost. */
    assert_int_equal(walk_meddled(0x20, 1, PAGING_WRITE, &entry, &t, &writes), STAGE_DONE);
    assert_int_equal(entry, 0x6063);
    assert_int_equal(writes, 2);
    assert_int_equal(meddler_reads, 4); /* the walk goes on where it is */
    assert_int_equal(walk_meddled(0x60, 1, PAGING_WRITE, &entry, &t, &writes), STAGE_DONE);
    assert_int_equal(entry, 0x6063);
    assert_int_equal(writes, 1);
    assert_int_equal(meddler_reads, 4);
    /* Another frame: the new one is walked to, and the old one's entry gets no A. */
    assert_int_equal(walk_meddled(0x1000, 1, PAGING_READ, &entry, &t, &writes), STAGE_DONE);
    assert_int_equal(entry, 0x7023);
    assert_int_equal(t.address, 0x7000);
    /* Taken away: the fault is the guest's. */
    assert_int_equal(walk_meddled(0x1, 1, PAGING_READ, &entry, &t, &writes), STAGE_FAULT);
    assert_int_equal(entry, 0x6002);
    /* It never stands still: the walk gives up, and sets nothing. */
    assert_int_equal(walk_meddled(0x1000, UINT32_MAX, PAGING_READ, &entry, &t, &writes), STAGE_AGAIN);
    assert_int_equal(entry & 0x60, 0);
    assert_int_equal(writes, 8);
    assert_int_equal(meddler_reads, 8 * 4);
    /* A processor that keeps clearing A is not waited for either. */
    assert_int_equal(walk_meddled(0x20, UINT32_MAX, PAGING_WRITE, &entry, &t, &writes), STAGE_AGAIN);
    assert_true(writes < 32);
}

/* The space that the tables are in may refuse: its fault, which says that it is about tables. */
static void refused_tables(void **state)
{
    static const unsigned kinds[] = {PAGING_READ, PAGING_WRITE};
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct guest *guest = make_guest();
        struct meddler meddler = {.stage = {.walk = meddle}, .forbids = kinds[i]};
        struct stage_chain tables = {.stages = {&meddler.stage, &guest->p2m.stage}, .count = 2};
        struct walk_x86_registers r = {
            .cr0 = 1ULL << 31 | 1, .cr3 = 0x2000, .cr4 = 1 << 5, .efer = 0xd00, .physical_bits = 40};
        uint64_t *pages = (uint64_t *)(void *)guest->memory;
        struct stage_fault fault = {0};
        struct translation t;

        pages[0x2000 / 8] = 0x3027;
        pages[0x3000 / 8] = 0x4027;
        pages[0x4000 / 8] = 0x5027;
        pages[0x5000 / 8 + 3] = 0x6003;
        walk_x86_init(&guest->walk, &tables);
        walk_x86_set(&guest->walk, &r);
        assert_int_equal(guest->walk.stage.walk(&guest->walk.stage, 0x3123, PAGING_READ, &t, &fault),
                         STAGE_FAULT);
        assert_true(fault.in_tables);
        assert_ptr_equal(fault.stage, &meddler.stage);
        assert_int_equal(fault.address, 0x5018);
        assert_int_equal(fault.error_code, 0x123);
        assert_int_equal(pages[0x5000 / 8 + 3], 0x6003);
        free_guest(guest);
    }
}

/*
 * Tables where the guest has no memory read as all ones: reserved bits, but in the plainest mode another
 * table and a page. In read-only memory the setting of A and D is lost. Neither stops the walk.
 */
static void tables_without_memory(void **state)
{
    struct guest *guest = make_guest();
    struct walk_x86_registers r = {
        .cr0 = 1ULL << 31 | 1, .cr3 = 0x2000, .cr4 = 1 << 5, .efer = 0xd00, .physical_bits = 40};
    uint64_t *pages = (uint64_t *)(void *)guest->memory;
    const struct stage *stage = &guest->walk.stage;
    const uint64_t rom = GUEST_SIZE - PAGE_SIZE;
    struct stage_trail trail = {0};
    struct stage_fault fault;
    struct translation t;
    (void)state;

    walk_x86_set(&guest->walk, &r);
    pages[0x2000 / 8] = 0x3007;
    pages[0x3000 / 8] = GUEST_SIZE | 7;
    assert_int_equal(stage->walk(stage, 5 << 21, PAGING_READ, &t, &fault), STAGE_FAULT);
    assert_int_equal(fault.error_code, PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED);
    assert_int_equal(fault.address, 5 << 21);
    assert_ptr_equal(fault.stage, stage);
    assert_false(fault.in_tables);
    assert_int_equal(pages[0x2000 / 8], 0x3007);

    pages[0x3000 / 8] = rom | 7;
    pages[rom / 8] = 0x40000087;
    fill_stack(0);
    assert_int_equal(stage->walk_trail(stage, 0, PAGING_WRITE, &t, &trail, &fault), STAGE_DONE);
    assert_int_equal(t.rights, PAGING_RIGHTS);
    assert_int_equal(pages[rom / 8], 0x40000087);
    assert_int_equal(pages[0x2000 / 8], 0x3027);
    assert_int_equal(trail.top, 4);
    assert_int_equal(trail.leaf, 2);
    assert_false(trail.step[2].writable);
    assert_ptr_equal(trail.step[2].host, guest->memory + rom);

    r = (struct walk_x86_registers){.cr0 = 1ULL << 31 | 1, .cr3 = 0x70000000, .physical_bits = 40};
    memset(&trail, 0xff, sizeof(trail));
    trail.known = 0;
    walk_x86_set(&guest->walk, &r);
    assert_int_equal(stage->walk_trail(stage, 0x12345678, PAGING_WRITE, &t, &trail, &fault), STAGE_DONE);
    assert_int_equal(t.address, 0xfffff678);
    assert_int_equal(t.rights, PAGING_RIGHTS);
    assert_null(trail.step[2].host);
    assert_false(trail.step[2].writable || trail.step[1].writable);
    assert_int_equal(trail.step[2].value, UINT32_MAX);
    assert_int_equal(trail.step[1].table, 0xfffff000);
    assert_int_equal(trail.step[1].value, UINT32_MAX);
    free_guest(guest);
}

/* What a walk went through; fails when a table, an entry as it was left, or the rights above one is another.
 */
static void trails(void **state)
{
    static const uint8_t all = PAGING_USER | PAGING_WRITE | PAGING_EXECUTE;
    static const struct {
        uint64_t table, value;
        uint8_t rights;
    } steps[] = {
        [4] = {0x2000, 0x3027, PAGING_USER | PAGING_WRITE | PAGING_EXECUTE},
        [3] = {0x3000, 0x4023, PAGING_USER | PAGING_WRITE | PAGING_EXECUTE},
        [2] = {0x4000, 0x5025 | 1ULL << 63, PAGING_WRITE | PAGING_EXECUTE},
        [1] = {0x5000, 0x6027, 0},
    };
    const uint64_t linear = GIB(1) + MIB(4) + 3 * PAGE_SIZE + 5;
    struct guest *guest = make_guest();
    struct walk_x86_registers r = {
        .cr0 = 1ULL << 31 | 1, .cr3 = 0x2018, .cr4 = 1 << 5, .efer = 0xd00, .physical_bits = 40};
    uint64_t *pages = (uint64_t *)(void *)guest->memory;
    const struct stage *stage = &guest->walk.stage;
    struct stage_trail trail;
    struct stage_fault fault;
    struct translation t;
    (void)state;

    /* What a trail held before does not count, unless it is said to be known. */
    memset(&trail, 0xff, sizeof(trail));
    trail.known = 0;
    walk_x86_set(&guest->walk, &r);
    pages[0x2000 / 8] = 0x3007;
    pages[0x3000 / 8 + 1] = 0x4003;
    pages[0x4000 / 8 + 2] = 0x5005 | 1ULL << 63;
    pages[0x5000 / 8 + 3] = 0x6007;
    assert_int_equal(stage->walk_trail(stage, linear, PAGING_READ, &t, &trail, &fault), STAGE_DONE);
    assert_int_equal(trail.top, 4);
    assert_int_equal(trail.leaf, 1);
    for (unsigned level = 1; level <= 4; level++) {
        assert_int_equal(trail.step[level].table, steps[level].table);
        assert_int_equal(trail.step[level].value, steps[level].value);
        assert_int_equal(trail.step[level].rights, steps[level].rights);
        assert_ptr_equal(trail.step[level].host, guest->memory + steps[level].table);
        assert_true(trail.step[level].writable);
    }

    /* Known down to a table: it begins there, with the rights that are left. */
    trail.known = 1;
    trail.step[1].table = 0x7000;
    trail.step[1].host = guest->memory + 0x7000;
    trail.step[1].rights = PAGING_WRITE;
    pages[0x7000 / 8 + 3] = 0x8007;
    pages[0x2000 / 8] = 0;
    assert_int_equal(stage->walk_trail(stage, linear, PAGING_WRITE, &t, &trail, &fault), STAGE_DONE);
    assert_int_equal(t.address, 0x8005);
    assert_int_equal(t.rights, PAGING_READ | PAGING_WRITE);
    assert_int_equal(pages[0x7000 / 8 + 3], 0x8067);
    assert_int_equal(trail.step[1].value, 0x8067);
    assert_int_equal(trail.top, 4);
    assert_int_equal(trail.leaf, 1);

    /* Each of these rights by itself. */
    trail.known = 1;
    trail.step[1].rights = PAGING_USER;
    assert_int_equal(stage->walk_trail(stage, linear, PAGING_READ, &t, &trail, &fault), STAGE_DONE);
    assert_int_equal(t.rights, PAGING_READ | PAGING_USER);
    trail.step[1].rights = PAGING_EXECUTE;
    assert_int_equal(stage->walk_trail(stage, linear, PAGING_READ, &t, &trail, &fault), STAGE_DONE);
    assert_int_equal(t.rights, PAGING_READ | PAGING_EXECUTE);

    /* PAE: the top level is a register's. */
    r.efer = 0x800;
    r.pdpte[1] = 0x4001;
    memset(&trail, 0xff, sizeof(trail));
    trail.known = 0;
    walk_x86_set(&guest->walk, &r);
    assert_int_equal(stage->walk_trail(stage, linear, PAGING_READ, &t, &trail, &fault), STAGE_DONE);
    assert_int_equal(trail.top, 3);
    assert_int_equal(trail.step[3].table, 0x2018);
    assert_null(trail.step[3].host); /* no memory that it could be read from again */
    assert_int_equal(trail.step[3].rights, all);
    assert_int_equal(trail.step[3].value, 0x4001);
    assert_int_equal(trail.step[2].table, 0x4000);
    assert_int_equal(trail.step[2].rights, all);
    assert_int_equal(trail.step[1].rights, PAGING_USER);

    /* Where it is not present nothing is read, whatever is in memory. */
    r.pdpte[1] = 0;
    pages[0x2000 / 8 + 1] = 0x4007;
    memset(&trail, 0xff, sizeof(trail));
    trail.known = 0;
    walk_x86_set(&guest->walk, &r);
    assert_int_equal(stage->walk_trail(stage, linear, PAGING_READ, &t, &trail, &fault), STAGE_FAULT);
    assert_int_equal(fault.error_code, 0);
    assert_int_equal(trail.reached, 0);
    assert_int_equal(pages[0x2000 / 8 + 1], 0x4007);
    free_guest(guest);
}

/*
 * How far tables may be made for a walk that ended in a fault: fails when one would be made below an entry
 * without A, or none where one could be.
 */
static void reached_tables(void **state)
{
    static const struct {
        uint64_t entries[5]; /* by level */
        unsigned reached;
    } cases[] = {
        {{[4] = 0x3006}, 4},
        {{[4] = 0x3007, [3] = 0x4026}, 4},
        {{[4] = 0x3027, [3] = 0x4006}, 3},
        {{[4] = 0x3007, [3] = 0x4027, [2] = 0x5027, [1] = 0x6026}, 4},
        {{[4] = 0x3027, [3] = 0x4007, [2] = 0x5027, [1] = 0x6026}, 3},
        {{[4] = 0x3027, [3] = 0x4027, [2] = 0x5007, [1] = 0x6026}, 2},
        {{[4] = 0x3027, [3] = 0x4027, [2] = 0x5027, [1] = 0x6026}, 1},
    };
    struct guest *guest = make_guest();
    struct walk_x86_registers r = {
        .cr0 = 1ULL << 31 | 1, .cr3 = 0x2000, .cr4 = 1 << 5, .efer = 0xd00, .physical_bits = 40};
    uint64_t *pages = (uint64_t *)(void *)guest->memory;
    const struct stage *stage = &guest->walk.stage;
    (void)state;

    walk_x86_set(&guest->walk, &r);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct stage_trail trail;
        struct stage_fault fault;
        struct translation t;

        memset(&trail, 0xff, sizeof(trail));
        trail.known = 0;
        for (unsigned level = 1; level <= 4; level++)
            pages[(6 - level) * PAGE_SIZE / 8] = cases[i].entries[level];
        assert_int_equal(stage->walk_trail(stage, 0, PAGING_READ, &t, &trail, &fault), STAGE_FAULT);
        assert_int_equal(trail.reached, cases[i].reached);
        assert_in_range(trail.leaf, 0, trail.reached);
    }
    free_guest(guest);
}

/* What an entry says to a processor that looks ahead. */
static void peeks(void **state)
{
    static const struct {
        uint64_t value;
        uint8_t above; /* rights that the path leaves */
        bool may;
        uint8_t rights;
    } cases[] = {
        {0x6067, PAGING_RIGHTS, true, PAGING_RIGHTS},
        {0x6027, PAGING_RIGHTS, true, PAGING_USER | PAGING_READ | PAGING_EXECUTE}, /* D = 0 */
        {0x6067, PAGING_WRITE, true, PAGING_READ | PAGING_WRITE},
        {0x6067, PAGING_USER, true, PAGING_READ | PAGING_USER},
        {0x6063 | 1ULL << 63, PAGING_RIGHTS, true, PAGING_READ | PAGING_WRITE},
        {0x6065, PAGING_RIGHTS, true, PAGING_READ | PAGING_EXECUTE | PAGING_USER},
        {0x6066, PAGING_RIGHTS, false, 0},              /* not present */
        {0x6047, PAGING_RIGHTS, false, 0},              /* A = 0 */
        {0x6067 | 1ULL << 45, PAGING_RIGHTS, false, 0}, /* reserved */
    };
    struct guest *guest = make_guest();
    struct walk_x86_registers r = {.cr0 = 1ULL << 31 | 1,
                                   .cr3 = 0x2000,
                                   .cr4 = 1 << 5 | 1 << 7,
                                   .efer = 0xd00,
                                   .pat = 0x000704060007040e, /* of 8 bits only three say the type */
                                   .physical_bits = 40};
    const struct stage *stage = &guest->walk.stage;
    (void)state;

    walk_x86_set(&guest->walk, &r);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct stage_trail trail = {.top = 4, .leaf = 1, .step[1].rights = cases[i].above};
        struct translation t;

        assert_int_equal(stage->peek(stage, 0x7123, cases[i].value, &trail, &t), cases[i].may);
        if (!cases[i].may)
            continue;
        assert_int_equal(t.address, 0x6123);
        assert_int_equal(t.rights, cases[i].rights);
        assert_int_equal(t.memory_type, MEMORY_TYPE_WB);
        assert_int_equal(t.page_shift, PAGE_SHIFT);
        assert_false(t.global || t.transient);
    }
    free_guest(guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paging_off),
        cmocka_unit_test(reserved_follows),
        cmocka_unit_test(refused_tables),
        cmocka_unit_test(pae_registers),
        cmocka_unit_test(entries_that_change),
        cmocka_unit_test(tables_without_memory),
        cmocka_unit_test(trails),
        cmocka_unit_test(reached_tables),
        cmocka_unit_test(peeks),
        cmocka_unit_test(matrix_32bit_4k),
        cmocka_unit_test(matrix_32bit_4m),
        cmocka_unit_test(matrix_32bit_4k_pse),
        cmocka_unit_test(matrix_pae_4k),
        cmocka_unit_test(matrix_pae_2m),
        cmocka_unit_test(matrix_4level_4k),
        cmocka_unit_test(matrix_4level_2m),
        cmocka_unit_test(matrix_4level_1g),
        cmocka_unit_test(matrix_5level_4k),
        cmocka_unit_test(matrix_5level_2m),
        cmocka_unit_test(matrix_5level_1g),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
