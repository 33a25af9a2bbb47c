// SPDX-License-Identifier: BSD-2-Clause
/*
 * The access matrix (SDM vol. 3, "Paging"): paging modes, control bits, bits of the entries at each level,
 * kinds of access, privilege levels, and for each what came of it: done or #PF with which error code and CR2,
 * the bytes seen and written, A and D of all entries afterwards. A shard, which is a mode with one set of
 * control bits, says
 *
 *     VALUE matrix-SHARD hash                of all observations in their order
 *     VALUE matrix-SHARD-observations count
 *     PASS matrix-SHARD-as-documented        each is what the SDM says (engine.c: what it leaves open), and
 *                                            entries that no access went through are as before
 *     BENCH matrix-SHARD-ticks ...
 *
 * so that machines are compared line by line. Shards that want what CPUID does not have are left out. Words:
 *
 *     part=K/N     the K-th N-th of the combinations of each shard (K from 0)
 *     keys         only the shards with protection keys
 *     show=SHARD   this shard alone, and its hash after each block of observations
 *     block=K      and the observations of block K
 *
 * Four levels: rights (R/W, U/S, NX) at each level in all their combinations, for 4K, 2M and 1G pages; and
 * each other thing that an entry can have (A, D, G, PAT, ignored bits, absent, reserved bits, PS where it is
 * reserved) at one level at a time, with rights of the others among four. Five levels: the same, with three
 * entries at most that do not grant everything. Two levels and PAE: the product of all. A user's page has
 * protection key 1 or 0.
 *
 * Left out: a PDPTE of PAE with reserved bits, which is a #GP of MOV to CR3; memory types other than
 * write-back; CR4.PGE = 0; implicit supervisor accesses under SMAP with EFLAGS.AC = 1, which SMAP forbids
 * (SDM vol. 3, "Determination of Access Rights"), but Bochs 2.7 lets AC permit; supervisor accesses to data
 * where PKRU's AD is set, which forbids them (SDM vol. 3, "Protection Keys"), but not for Bochs 2.7; keys of
 * supervisor pages, which count for nothing (ibidem), but for Bochs 2.7 do.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/guest.h"
#include "tests/guests/matrix/matrix.h"

/* ---- Memory ------------------------------------------------------------------------------------------- */

/* The tables of the entries under test, one a level; roots and what else the modes need to run. */
#define TABLES       GUEST_PLAYGROUND
#define ROOT         (GUEST_PLAYGROUND + 0x10000)
#define DIRECTORIES  (GUEST_PLAYGROUND + 0x11000) /* PAE: two */
#define IDENTITY     (GUEST_PLAYGROUND + 0x20000) /* two levels: page tables */

/* The identity map and its alias for ring 3 reach so far; as in the framework's map (guest.h). */
#define MAPPED       MIB(32)
#define USER_OFFSET  0x40000000

/* Where the page is in the address space. */
#define LINEAR_32    (0x80000000UL + FRAME_OFFSET)
#define LINEAR_4     (0x10000000000UL + FRAME_OFFSET)
#define LINEAR_5     (BIT(48) + LINEAR_4)

#define COMBINATIONS 32768
static struct matrix_combination combinations[COMBINATIONS];
static struct matrix_observation kept[BLOCK_SIZE];
static struct matrix_shard shard;

/* ---- Processor ---------------------------------------------------------------------------------------- */

static struct {
    bool nx, smep, smap, keys, gigabyte_pages, five_levels;
    unsigned physical_bits;
} features;

static void features_init(void)
{
    const struct cpuid seven = cpuid(0, 0).eax >= 7 ? cpuid(7, 0) : (struct cpuid){0};
    const struct cpuid extended = cpuid(0x80000001, 0);

    features.nx = (extended.edx & BIT(20)) != 0;
    features.gigabyte_pages = (extended.edx & BIT(26)) != 0;
    features.smep = (seven.ebx & BIT(7)) != 0;
    features.smap = (seven.ebx & BIT(20)) != 0;
    features.keys = (seven.ecx & BIT(3)) != 0;
    features.five_levels = (seven.ecx & BIT(16)) != 0;
    features.physical_bits = cpuid(0x80000008, 0).eax & 0xff;
}

/* ---- Modes -------------------------------------------------------------------------------------------- */

#define NO_LEAF MATRIX_LEVELS_MAX

static const struct matrix_form forms[MODES] = {
    [MODE_NONE] = {"none", 0, 4, {0}, NO_LEAF, false, false},
    [MODE_32] = {"32-bit", 2, 4, {22, 12}, NO_LEAF, false, false},
    [MODE_PSE] = {"32-bit-pse", 2, 4, {22, 12}, 0, false, false},
    [MODE_PAE] = {"pae", 3, 8, {30, 21, 12}, 1, true, true},
    [MODE_4LEVEL] = {"4-level", 4, 8, {39, 30, 21, 12}, 1, true, false},
    [MODE_5LEVEL] = {"5-level", 5, 8, {48, 39, 30, 21, 12}, 2, true, false},
};

static bool is_long(enum matrix_mode mode)
{
    return mode == MODE_4LEVEL || mode == MODE_5LEVEL;
}

/* The tables that a mode runs on but for the page under test: identity and alias. */
static uint32_t make_root(enum matrix_mode mode)
{
    volatile uint32_t *directory = (volatile uint32_t *)ROOT;
    volatile uint64_t *root = (volatile uint64_t *)ROOT;
    volatile uint64_t *directories = (volatile uint64_t *)DIRECTORIES;

    memset((void *)TABLES, 0, IDENTITY - TABLES);
    switch (mode) {
    case MODE_NONE:
        return 0;
    case MODE_32:
    case MODE_PSE:
        for (uint32_t i = 0; i < MAPPED / PAGE_SIZE; i++) {
            volatile uint32_t *tables = (volatile uint32_t *)IDENTITY;
            tables[i] = i << PAGE_SHIFT | ENTRY_PRESENT | ENTRY_WRITE;
            tables[i + MAPPED / PAGE_SIZE] = i << PAGE_SHIFT | ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER;
        }
        for (uint32_t i = 0; i < MAPPED >> 22; i++) {
            directory[i] = (uint32_t)(IDENTITY + i * PAGE_SIZE) | ENTRY_PRESENT | ENTRY_WRITE;
            directory[i + (USER_OFFSET >> 22)] = (uint32_t)(IDENTITY + (i + (MAPPED >> 22)) * PAGE_SIZE) |
                                                 ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER;
        }
        return ROOT;
    case MODE_PAE:
        for (uint64_t i = 0; i < MAPPED >> 21; i++) {
            directories[i] = i << 21 | ENTRY_SIZE | ENTRY_PRESENT | ENTRY_WRITE;
            directories[i + 512] = directories[i] | ENTRY_USER;
        }
        root[0] = DIRECTORIES | ENTRY_PRESENT;
        root[1] = (DIRECTORIES + PAGE_SIZE) | ENTRY_PRESENT;
        return ROOT;
    case MODE_4LEVEL:
        return (uint32_t)(uint64_t)guest_page_tables;
    default:
        root[0] = (uint64_t)guest_page_tables | ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER;
        return ROOT;
    }
}

/*
 * The entries beside the one under test in the page table and in the directory: what somebody who fills ahead
 * must leave as it is.
 */
static void make_neighbours(void)
{
    static const uint64_t bits[8] = {
        [1] = ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER | ENTRY_ACCESSED | ENTRY_DIRTY,
        [2] = ENTRY_PRESENT | ENTRY_USER | ENTRY_ACCESSED,
        [3] = ENTRY_PRESENT | ENTRY_WRITE | ENTRY_ACCESSED,
        [4] = ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER,
        [5] = ENTRY_WRITE | ENTRY_USER,
        [6] = ENTRY_PRESENT | ENTRY_ACCESSED | ENTRY_GLOBAL,
        [7] = ENTRY_PRESENT | ENTRY_DIRTY,
    };

    for (unsigned level = 1; level < shard.form.levels; level++)
        for (unsigned i = 1; i < 8; i++) {
            const uint64_t page = align_down(FRAME_1, BIT(shard.form.shift[level]));
            const uint64_t entry =
                bits[i] | page |
                (level >= shard.form.first_leaf && level + 1 < shard.form.levels ? ENTRY_SIZE : 0);
            const unsigned index = shard.index[level] ^ i;
            if (shard.form.entry_size == 4)
                ((volatile uint32_t *)(uint64_t)shard.table[level])[index] = (uint32_t)entry;
            else
                ((volatile uint64_t *)(uint64_t)shard.table[level])[index] = entry;
        }
}

static void make_mode(enum matrix_mode mode)
{
    memset(&shard, 0, sizeof(shard));
    shard.form = forms[mode];
    shard.linear = mode == MODE_NONE     ? FRAME_0
                   : mode == MODE_5LEVEL ? LINEAR_5
                   : mode == MODE_4LEVEL ? LINEAR_4
                                         : LINEAR_32;
    shard.reserved = BIT(is_long(mode) ? 52 : 63) - BIT(features.physical_bits);
    shard.user_offset = mode == MODE_NONE ? 0 : USER_OFFSET;
    shard.gigabyte_pages = features.gigabyte_pages;
    shard.cr3 = make_root(mode);
    for (unsigned level = 0; level < shard.form.levels; level++) {
        shard.table[level] = level == 0 ? shard.cr3 : (uint32_t)(TABLES + level * PAGE_SIZE);
        shard.index[level] =
            shard.linear >> shard.form.shift[level] & (PAGE_SIZE / shard.form.entry_size - 1);
    }
    make_neighbours();
}

/* ---- Combinations ------------------------------------------------------------------------------------- */

#define P_W_U (ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER)

/*
 * What an entry may have beside the address: all rights; rights among the basic ones; others; or something
 * odd. With an odd one the others of a combination are basic or full.
 */
struct variant {
    uint64_t bits;
    enum { FULL, BASIC, RIGHTS, ODD } sort;
};

#define VARIANTS_MAX 64
static struct variant variants[MATRIX_LEVELS_MAX][VARIANTS_MAX];
static unsigned variant_count[MATRIX_LEVELS_MAX];

static void add_variant(unsigned level, uint64_t bits, int sort)
{
    variants[level][variant_count[level]++] = (struct variant){bits, sort};
}

/* R/W, U/S and NX in all combinations, with `others`. */
static void add_rights(unsigned level, uint64_t others, bool odd)
{
    for (unsigned i = 0; i < (shard.form.has_nx ? 8 : 4); i++) {
        const uint64_t bits = (i & 1 ? ENTRY_WRITE : 0) | (i & 2 ? ENTRY_USER : 0) | (i & 4 ? ENTRY_NX : 0);
        const bool basic = i == 1 || i == 2 || i == 7; /* supervisor's, read-only, no code */
        add_variant(level, ENTRY_PRESENT | bits | others, odd ? ODD : i == 3 ? FULL : basic ? BASIC : RIGHTS);
    }
}

/* Bits that are reserved in some formats and ignored in others, with `others`. */
static void add_reserved(unsigned level, uint64_t others)
{
    if (shard.form.entry_size == 4)
        return;
    add_variant(level, P_W_U | others | BIT(features.physical_bits), ODD);
    add_variant(level, ENTRY_PRESENT | others | BIT(51), ODD);
    add_variant(level, P_W_U | others | BIT(52), ODD);
}

static void add_table_variants(unsigned level)
{
    if (level == 0 && shard.form.has_pointers) {
        add_variant(level, ENTRY_PRESENT, FULL);
        add_variant(level, 0, ODD);
        return;
    }
    add_rights(level, 0, false);
    add_variant(level, P_W_U | ENTRY_ACCESSED, ODD);
    add_variant(level, P_W_U | ENTRY_DIRTY | ENTRY_GLOBAL | BIT(9) | BIT(10) | BIT(11), ODD);
    add_variant(level, P_W_U & ~ENTRY_PRESENT, ODD);
    if (level < shard.form.first_leaf)
        add_variant(level, P_W_U | ENTRY_SIZE, ODD);
    add_reserved(level, 0);
}

static void add_leaf_variants(unsigned level)
{
    const unsigned shift = shard.form.shift[level];
    const uint64_t size = shift == PAGE_SHIFT ? 0 : ENTRY_SIZE;

    add_rights(level, size, false);
    add_rights(level, size | ENTRY_ACCESSED, true);
    add_rights(level, size | ENTRY_DIRTY, true);
    add_rights(level, size | ENTRY_ACCESSED | ENTRY_DIRTY, true);
    add_rights(level, size | ENTRY_GLOBAL, true);
    add_variant(level, P_W_U | size | (size != 0 ? BIT(12) : BIT(7)), ODD); /* PAT: write-back, too */
    add_variant(level, P_W_U | size | BIT(9) | BIT(10) | BIT(11), ODD);
    add_variant(level, 0, ODD);
    add_variant(level, (P_W_U & ~ENTRY_PRESENT) | size | ENTRY_ACCESSED | ENTRY_GLOBAL, ODD);
    if (shift == 22)
        add_variant(level, P_W_U | size | BIT(21), ODD);
    else if (size != 0) {
        add_variant(level, P_W_U | size | BIT(13), ODD);
        add_variant(level, P_W_U | size | BIT(shift - 1), ODD);
    }
    add_reserved(level, size);
}

/* The address in an entry: the next table, or a frame: by turns another one, so that a stale one shows. */
static uint64_t address_of(unsigned level, bool leaf)
{
    static const uint32_t small[] = {FRAME_0, FRAME_1}, large[] = {FRAME_0, FRAME_2};
    const unsigned shift = shard.form.shift[level];

    if (!leaf)
        return shard.table[level + 1];
    return align_down((shift == 22 ? large : small)[shift < 30 ? shard.count % 2 : 0], BIT(shift));
}

static void add_combination(const unsigned *chosen, unsigned leaf)
{
    struct matrix_combination *combination = &combinations[shard.count];
    bool user = true;

    if (shard.count == COMBINATIONS) {
        guest_check(false, "matrix-combinations", "more than %u", COMBINATIONS);
        guest_finish();
    }
    memset(combination, 0, sizeof(*combination));
    combination->leaf = leaf;
    for (unsigned level = 0; level <= leaf; level++) {
        combination->entry[level] = variants[level][chosen[level]].bits | address_of(level, level == leaf);
        user &= (combination->entry[level] & ENTRY_USER) != 0;
    }
    /* Protection key 1, which is ignored where there are no keys. */
    if (shard.form.levels >= 4 && user && shard.count % 3 != 0)
        combination->entry[leaf] |= ENTRY_KEY;
    shard.count++;
}

static bool is_wanted(const unsigned *chosen, unsigned leaf)
{
    unsigned odd = 0, not_basic = 0, not_full = 0;

    for (unsigned level = 0; level <= leaf; level++) {
        odd += variants[level][chosen[level]].sort == ODD;
        not_basic += variants[level][chosen[level]].sort == RIGHTS;
        not_full += variants[level][chosen[level]].sort != FULL;
    }
    if (shard.form.levels > 4 && not_full > 3)
        return false;
    return shard.form.levels < 4 || odd == 0 || (odd == 1 && not_basic == 0);
}

/* All wanted combinations whose page is mapped at level `leaf`. */
static void add_combinations(unsigned leaf)
{
    unsigned chosen[MATRIX_LEVELS_MAX] = {0};
    unsigned level;

    for (level = 0; level <= leaf; level++) {
        variant_count[level] = 0;
        if (level == leaf)
            add_leaf_variants(level);
        else
            add_table_variants(level);
    }
    do {
        if (is_wanted(chosen, leaf))
            add_combination(chosen, leaf);
        for (level = 0; level <= leaf && ++chosen[level] == variant_count[level]; level++)
            chosen[level] = 0;
    } while (level <= leaf);
}

static void make_combinations(void)
{
    shard.combinations = (uint32_t)(uint64_t)combinations;
    shard.count = 0;
    if (shard.form.levels == 0) {
        memset(&combinations[0], 0, sizeof(combinations[0]));
        shard.count = 1;
        return;
    }
    for (unsigned leaf = 0; leaf < shard.form.levels; leaf++)
        if (leaf >= shard.form.first_leaf || leaf == shard.form.levels - 1)
            add_combinations(leaf);
}

/* ---- Shards ------------------------------------------------------------------------------------------- */

extern struct descriptor_pointer matrix_idt_pointer;
extern const char matrix_stubs[], legacy_matrix_stubs[];

/* The TSS of 32-bit modes, of which only the stack of ring 0 counts. */
static struct {
    uint32_t link, esp0, ss0, others[23];
} tss_32;
static char stack_32[1024] __aligned(16);

/* Gates of 8 or 16 bytes to the stubs of the mode, and its TSS and LDT: the latter is the page under test. */
static void make_descriptors(bool is_64)
{
    static union {
        struct gate wide[MATRIX_VECTORS];
        uint64_t narrow[MATRIX_VECTORS];
    } idt __aligned(16);
    const uint64_t tss = is_64 ? (uint64_t)&guest_tss : (uint64_t)&tss_32;

    for (unsigned vector = 0; vector < MATRIX_VECTORS; vector++) {
        const uint64_t stub = (uint64_t)(is_64 ? matrix_stubs : legacy_matrix_stubs) + 16UL * vector;
        const uint8_t attributes = GATE_INTERRUPT | (vector == MATRIX_LEAVE ? GATE_DPL3 : 0);
        if (is_64)
            idt.wide[vector] = (struct gate){.offset_low = (uint16_t)stub,
                                             .selector = SELECTOR_CODE,
                                             .attributes = attributes,
                                             .offset_middle = (uint16_t)(stub >> 16)};
        else
            idt.narrow[vector] =
                (stub & 0xffff) | SELECTOR_CODE32 << 16 | (uint64_t)attributes << 40 | (stub >> 16) << 48;
    }
    matrix_idt_pointer = (struct descriptor_pointer){
        .limit = (uint16_t)(is_64 ? sizeof(idt.wide) : sizeof(idt.narrow)) - 1, .base = (uint64_t)&idt};

    tss_32.esp0 = (uint32_t)(uint64_t)stack_32 + sizeof(stack_32);
    tss_32.ss0 = SELECTOR_DATA;
    guest_segment(SELECTOR_MATRIX_TSS, (uint32_t)tss, sizeof(tss_32) - 1, SEGMENT_PRESENT | SEGMENT_TYPE(9));
    guest_gdt[SELECTOR_MATRIX_TSS / 8 + 1] = 0;
    guest_segment(SELECTOR_MATRIX_LDT, (uint32_t)shard.linear, PAGE_SIZE - 1,
                  SEGMENT_PRESENT | SEGMENT_TYPE(2));
    guest_gdt[SELECTOR_MATRIX_LDT / 8 + 1] = shard.linear >> 32;
}

static const struct {
    const char *name;
    uint32_t bit;
    const bool *feature;
} controls[] = {
    {"wp", CONTROL_WP, NULL},
    {"nxe", CONTROL_NXE, &features.nx},
    {"smep", CONTROL_SMEP, &features.smep},
    {"smap", CONTROL_SMAP, &features.smap},
    {"key-ad", CONTROL_KEY_AD, &features.keys},
    {"key-wd", CONTROL_KEY_WD, &features.keys},
};

#define CONTROL_KEYS (uint32_t)(CONTROL_KEY_AD | CONTROL_KEY_WD)

/* Whether there is a shard of `mode` with this set of control bits. */
static bool has_shard(enum matrix_mode mode, uint32_t set)
{
    uint32_t all = 0;

    for (size_t i = 0; i < ARRAY_SIZE(controls); i++)
        if (controls[i].feature == NULL || *controls[i].feature)
            all |= controls[i].bit;
    if (!is_long(mode))
        all &= ~CONTROL_KEYS;
    if (mode == MODE_NONE) /* where none of them means anything */
        return set == 0 || set == all;
    return (set & ~all) == 0;
}

static void set_registers(enum matrix_mode mode, uint32_t set)
{
    const uint32_t implicit = BIT(KIND_LOOK) | BIT(KIND_LOAD);
    const uint64_t changing = CR4_PSE | CR4_PAE | CR4_LA57 | CR4_SMEP | CR4_SMAP | CR4_PKE;

    shard.controls = set;
    shard.cr0 = (uint32_t)((read_cr0() & ~(CR0_PG | CR0_WP)) | (mode == MODE_NONE ? 0 : CR0_PG) |
                           (set & CONTROL_WP ? CR0_WP : 0));
    shard.cr4 = (uint32_t)((read_cr4() & ~changing) | CR4_PGE | (mode == MODE_PSE ? CR4_PSE : 0) |
                           (shard.form.entry_size == 8 ? CR4_PAE : 0) | (mode == MODE_5LEVEL ? CR4_LA57 : 0) |
                           (set & CONTROL_SMEP ? CR4_SMEP : 0) | (set & CONTROL_SMAP ? CR4_SMAP : 0) |
                           (set & CONTROL_KEYS ? CR4_PKE : 0));
    shard.efer = (uint32_t)((rdmsr(MSR_EFER) & ~(EFER_LME | EFER_LMA | EFER_NXE)) |
                            (is_long(mode) ? EFER_LME : 0) | (set & CONTROL_NXE ? EFER_NXE : 0));
    shard.accesses = BIT(ACCESS_AC) - 1;
    if ((set & CONTROL_SMAP) != 0) {
        const uint32_t explicit = BIT(KIND_LOOK) - 1;
        shard.accesses |= explicit << ACCESS_AC | explicit << (ACCESS_AC + ACCESS_USER);
    }
    if ((set & CONTROL_KEY_AD) != 0) {
        const uint32_t supervisor =
            BIT(KIND_READ) | BIT(KIND_WRITE) | BIT(KIND_MODIFY) | implicit | implicit << ACCESS_USER;
        shard.accesses &= ~(supervisor | supervisor << ACCESS_AC);
    }
    if ((set & CONTROL_KEYS) != 0) {
        const uint32_t pkru = (set & CONTROL_KEY_AD ? BIT(2) : 0) | (set & CONTROL_KEY_WD ? BIT(3) : 0);
        write_cr4(read_cr4() | CR4_PKE);
        __asm__ volatile("wrpkru" : : "a"(pkru), "c"(0), "d"(0));
    }
}

/* ---- Rows --------------------------------------------------------------------------------------------- */

static void print_observation(const char *what, const struct matrix_observation *o)
{
    static const char *const kinds[] = {"read", "write", "modify", "execute", "look", "load"};
    const struct matrix_combination *combination = &combinations[o->combination];

    print("%s %u", what, o->combination);
    for (unsigned level = 0; level < shard.form.levels; level++)
        print(" %lx", combination->entry[level]);
    print(" cpl%u%s %s: vector %u error %#x cr2 %#lx at %#x eax %#x memory %#x flags %#x\n",
          o->access / ACCESS_USER & 1 ? 3 : 0, o->access >= ACCESS_AC ? " ac" : "", kinds[o->access % KINDS],
          o->vector, o->error, o->cr2, o->where, o->seen, o->memory, o->flags);
}

static void print_blocks(const char *name, int64_t block)
{
    const uint32_t blocks = (shard.result.observations + BLOCK_SIZE - 1) / BLOCK_SIZE;

    for (uint32_t i = 0; i < blocks && i < BLOCKS_MAX; i++)
        print("VALUE matrix-%s-block-%u %#lx\n", name, i, shard.result.block_hash[i]);
    if (block >= 0 && block < blocks)
        for (uint32_t i = 0; i < BLOCK_SIZE && block * BLOCK_SIZE + i < shard.result.observations; i++)
            print_observation("OBSERVATION", &kept[i]);
}

static void print_result(const char *name)
{
    const struct matrix_result *result = &shard.result;
    char row[80];

    format_text(row, sizeof(row), "matrix-%s", name);
    guest_value(row, result->hash);
    format_text(row, sizeof(row), "matrix-%s-observations", name);
    guest_value(row, result->observations);
    format_text(row, sizeof(row), "matrix-%s-as-documented", name);
    guest_check(result->wrong == 0 && result->neighbours_changed == 0, row,
                "%u observations are not; %u combinations changed other entries", result->wrong,
                result->neighbours_changed);
    if (result->wrong != 0) {
        print_observation("SEEN", &result->seen);
        print_observation("EXPECTED", &result->expected);
    }
    format_text(row, sizeof(row), "matrix-%s-ticks", name);
    guest_bench(row, &(uint64_t){result->ticks}, 1, 0);
}

/* ---- Words -------------------------------------------------------------------------------------------- */

/* The number at `*text`, which moves behind it. */
static uint32_t number_at(const char **text)
{
    uint32_t number = 0;

    for (; **text >= '0' && **text <= '9'; (*text)++)
        number = 10 * number + (uint32_t)(**text - '0');
    return number;
}

static struct {
    uint32_t part, parts;
    bool keys;        /* only shards with them */
    const char *show; /* up to a space, or NULL */
    int64_t block;    /* or -1 */
} wanted = {.parts = 1, .block = -1};

static void words_init(void)
{
    const char *value = guest_argument_value("part=");

    if (value != NULL) {
        wanted.part = number_at(&value);
        if (*value++ == '/')
            wanted.parts = number_at(&value);
        CHECK("matrix-part", wanted.part < wanted.parts);
        if (wanted.part >= wanted.parts)
            guest_finish();
    }
    wanted.keys = guest_argument("keys");
    wanted.show = guest_argument_value("show=");
    value = guest_argument_value("block=");
    if (value != NULL)
        wanted.block = number_at(&value);
}

static bool is_shown(const char *name)
{
    const size_t length = strlen(name);

    return wanted.show == NULL ||
           (strnlen(wanted.show, length) == length && memcmp(wanted.show, name, length) == 0 &&
            (wanted.show[length] == '\0' || wanted.show[length] == ' '));
}

static struct {
    uint64_t observations, flushes, faults, ticks;
} total;

static void run_shard(enum matrix_mode mode, uint32_t set)
{
    char name[48];
    size_t length = (size_t)format_text(name, sizeof(name), "%s", forms[mode].name);

    for (size_t i = 0; i < ARRAY_SIZE(controls); i++)
        if ((set & controls[i].bit) != 0)
            length += (size_t)format_text(name + length, sizeof(name) - length, "-%s", controls[i].name);
    if (!is_shown(name))
        return;

    set_registers(mode, set);
    make_descriptors(is_long(mode));
    memset(&shard.result, 0, sizeof(shard.result));
    matrix_switch(&shard);
    guest_idt_load(sizeof(guest_idt) - 1);
    guest_tss_load(sizeof(guest_tss) - 1);

    if (wanted.show != NULL)
        print_blocks(name, wanted.block);
    print_result(name);
    total.observations += shard.result.observations;
    total.flushes += shard.result.flushes;
    total.faults += shard.result.faults;
    total.ticks += shard.result.ticks;
}

static void run_mode(enum matrix_mode mode)
{
    make_mode(mode);
    make_combinations();
    shard.part = wanted.part;
    shard.parts = wanted.parts;
    shard.kept = (uint32_t)(uint64_t)kept;
    shard.block = wanted.block >= 0 ? (uint32_t)wanted.block : ~0U;
    for (uint32_t set = 0; set < 1U << ARRAY_SIZE(controls); set++)
        if (has_shard(mode, set) && (!wanted.keys || (set & CONTROL_KEYS) != 0))
            run_shard(mode, set);
}

void guest_main(void)
{
    features_init();
    words_init();
    for (enum matrix_mode mode = 0; mode < MODES; mode++)
        if (mode != MODE_5LEVEL || features.five_levels)
            run_mode(mode);
    guest_value("matrix-observations", total.observations);
    guest_value("matrix-flushes", total.flushes);
    guest_value("matrix-faults", total.faults);
    guest_bench("matrix-ticks", &total.ticks, 1, 0);
}
