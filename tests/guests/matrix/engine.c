// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/matrix/matrix.h"

/*
 * Runs one shard: for each combination of entries, each access; compares what is observed with what the SDM
 * says, and takes everything into one hash.
 *
 * Nothing stale plays a role. After each change of an entry, be it the processor's own of A and D, the
 * address is invalidated: by INVLPG, or, now and then and if no entry is global, by loading CR3. Where an
 * access changed nothing, the next one meets what the TLB has kept of those before it, which must be as good.
 * No other address is used through these entries.
 *
 * What the SDM leaves open is compared between machines by the hash, but not with the SDM: whether a faulting
 * access has set A in entries on its way; whether loading a segment register, which reads and then marks a
 * descriptor, is a read or a write where it faults (and so, whether a key forbids it), and at which of the
 * descriptor's bytes.
 */

#define SELECTOR_CODE      0x08
#define SELECTOR_DATA      0x10
#define SELECTOR_USER_DATA 0x23
#ifdef __x86_64__
#define SELECTOR_RING_0 SELECTOR_CODE
#define SELECTOR_RING_3 0x2b
#else
#define SELECTOR_RING_0 0x38
#define SELECTOR_RING_3 0x1b
#endif

#define FLAGS_FIXED 2
#define FLAGS_AC    BIT(18)

#define VECTOR_PF   14
#define PF_PRESENT  BIT(0)
#define PF_WRITE    BIT(1)
#define PF_USER     BIT(2)
#define PF_RESERVED BIT(3)
#define PF_FETCH    BIT(4)
#define PF_KEY      BIT(5)

/* ---- The kinds of access ---- */

/*
 * `kept` is the word of a frame that the access changes, or would; in frame N it holds `initial` + N * `step`
 * before. `seen` + N is what a done access has in EAX (0: nothing).
 */
static const struct kind {
    const char *code;
    bool write, fetch, implicit;
    uint32_t offset; /* where in the page */
    uint32_t seen;
    uint32_t kept, initial, step;
} kinds[KINDS] = {
    [KIND_READ] = {matrix_read, false, false, false, FRAME_READ, SEEN_READ, FRAME_READ, SEEN_READ, 1},
    [KIND_WRITE] = {matrix_write, true, false, false, FRAME_WRITE, 0, FRAME_WRITE, KEPT_WRITE, 1},
    [KIND_MODIFY] = {matrix_modify, true, false, false, FRAME_MODIFY, 0, FRAME_MODIFY, KEPT_COUNT, 1},
    [KIND_EXECUTE] = {matrix_execute, false, true, false, FRAME_CODE, SEEN_CODE, FRAME_READ, SEEN_READ, 1},
    [KIND_LOOK] = {matrix_look, false, false, true, FRAME_DESCRIPTOR, SEEN_LIMIT, FRAME_READ, SEEN_READ, 1},
    [KIND_LOAD] = {matrix_load, true, false, true, FRAME_DESCRIPTOR, 0, FRAME_DESCRIPTOR + 4, DESCRIPTOR_HIGH,
                   DESCRIPTOR_STEP},
};

static const uint32_t frames[FRAMES] = {FRAME_0, FRAME_1, FRAME_2};

static volatile uint32_t *word(uint32_t address)
{
    return (volatile uint32_t *)(unsigned long)address;
}

static void memory_restore(const struct kind *kind)
{
    for (unsigned frame = 0; frame < FRAMES; frame++)
        *word(frames[frame] + kind->kept) = kind->initial + frame * kind->step;
}

static void memory_init(void)
{
    for (unsigned kind = 0; kind < KINDS; kind++)
        memory_restore(&kinds[kind]);
    for (unsigned frame = 0; frame < FRAMES; frame++) {
        const uint32_t code = SEEN_CODE + frame;
        /* mov $code, %eax; int $MATRIX_LEAVE */
        *word(frames[frame] + FRAME_CODE) = 0xb8 | code << 8;
        *word(frames[frame] + FRAME_CODE + 4) = code >> 24 | 0xcd << 8 | MATRIX_LEAVE << 16;
        *word(frames[frame] + FRAME_DESCRIPTOR) = SEEN_LIMIT + frame;
    }
}

/* The words of all frames that the access may have changed, as one number. */
static uint32_t memory_sum(const struct kind *kind)
{
    uint32_t sum = 0;

    for (unsigned frame = 0; frame < FRAMES; frame++)
        sum = sum * 31 + *word(frames[frame] + kind->kept);
    return sum;
}

/* That number after the access has been done in frame `done`; before, if there is no such frame. */
static uint32_t memory_expected(const struct kind *kind, unsigned done)
{
    uint32_t sum = 0;

    for (unsigned frame = 0; frame < FRAMES; frame++) {
        uint32_t value = kind->initial + frame * kind->step;
        if (frame == done && kind == &kinds[KIND_WRITE])
            value = SELECTOR_PROBE;
        else if (frame == done && kind == &kinds[KIND_MODIFY])
            value += SELECTOR_PROBE;
        else if (frame == done && kind == &kinds[KIND_LOAD])
            value |= DESCRIPTOR_ACCESSED;
        sum = sum * 31 + value;
    }
    return sum;
}

/* ---- Entries ---- */

static uint64_t entry_read(const struct matrix_shard *shard, unsigned level, unsigned index)
{
    if (shard->form.entry_size == 4)
        return *word(shard->table[level] + 4 * index);
    return *(volatile uint64_t *)(unsigned long)(shard->table[level] + 8 * index);
}

static void entry_write(const struct matrix_shard *shard, unsigned level, uint64_t value)
{
    if (shard->form.entry_size == 4)
        *word(shard->table[level] + 4 * shard->index[level]) = (uint32_t)value;
    else
        *(volatile uint64_t *)(unsigned long)(shard->table[level] + 8 * shard->index[level]) = value;
}

static void entries_write(const struct matrix_shard *shard, const struct matrix_combination *combination)
{
    for (unsigned level = 0; level < shard->form.levels; level++)
        entry_write(shard, level, combination->entry[level]);
}

/* A (bit 0) and D (bit 1). */
static uint32_t flags_of(uint64_t entry)
{
    return (uint32_t)entry / ENTRY_ACCESSED & 3;
}

/* A and D of all entries as they are now, and whether anything else of them was changed. */
static uint32_t entries_flags(const struct matrix_shard *shard, const struct matrix_combination *combination,
                              bool *changed)
{
    uint32_t flags = 0;

    *changed = false;
    for (unsigned level = 0; level < shard->form.levels; level++) {
        const uint64_t now = entry_read(shard, level, shard->index[level]);
        const uint64_t difference = now ^ combination->entry[level];
        flags |= flags_of(now) << 2 * level;
        if (difference != 0)
            *changed = true;
        if ((difference & ~(ENTRY_ACCESSED | ENTRY_DIRTY)) != 0)
            flags |= (uint32_t)DAMAGE;
    }
    return flags;
}

/* The entries beside those of the combination, which the hardware may read ahead but not change. */
static uint64_t neighbours_sum(const struct matrix_shard *shard)
{
    uint64_t sum = 0;

    for (unsigned level = 1; level < shard->form.levels; level++)
        for (unsigned i = 1; i < 8; i++)
            sum = sum * 31 + entry_read(shard, level, shard->index[level] ^ i);
    return sum;
}

static bool is_user(const struct matrix_observation *o)
{
    return (o->access / ACCESS_USER & 1) != 0;
}

static bool has_ac(const struct matrix_observation *o)
{
    return (o->access / ACCESS_AC & 1) != 0;
}

static void load_cr3(const struct matrix_shard *shard)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"((unsigned long)shard->cr3) : "memory");
}

/* Makes the processor forget what it knows of the address. PAE's first level is read by MOV to CR3 only. */
static void flush(struct matrix_shard *shard, uint32_t number, const struct matrix_combination *combination)
{
    const uint64_t leaf = combination->entry[combination->leaf];
    const bool by_cr3 = number % 8 == 0 && (leaf & ENTRY_GLOBAL) == 0;

    shard->result.flushes++;
    static uint64_t loaded; /* PAE: the first level as it was loaded last */

    if (by_cr3 || (shard->form.has_pointers && combination->entry[0] != loaded)) {
        loaded = combination->entry[0];
        load_cr3(shard);
    }
    if (!by_cr3)
        __asm__ volatile("invlpg (%0)" : : "r"((unsigned long)shard->linear) : "memory");
}

/* ---- What the SDM says ---- */

struct walk {
    bool good;
    uint32_t error; /* not good: P and RSVD of the error code */
    bool user, write, execute, key;
    unsigned leaf;
    unsigned frame;
    uint32_t accessed; /* flags that a walk to the end sets, in the form of an observation's */
};

static bool maps_page(const struct matrix_shard *shard, unsigned level, uint64_t entry)
{
    if (level == shard->form.levels - 1)
        return true;
    if (level < shard->form.first_leaf || (entry & ENTRY_SIZE) == 0)
        return false;
    return shard->form.shift[level] < 30 || shard->gigabyte_pages;
}

/* SDM vol. 3, "Paging": the reserved bits of an entry, but for those of PAE's first level, which are always
 * 0. */
static uint64_t reserved_bits(const struct matrix_shard *shard, unsigned level, bool leaf)
{
    const unsigned shift = shard->form.shift[level];
    const bool large = leaf && level != shard->form.levels - 1;

    if (shard->form.has_pointers && level == 0)
        return 0;
    if (shard->form.entry_size == 4)
        return large ? BIT(21) : 0;
    return shard->reserved | ((shard->controls & CONTROL_NXE) != 0 ? 0 : ENTRY_NX) |
           (large ? BIT(shift) - BIT(13) : 0) | (!leaf && level != shard->form.levels - 1 ? ENTRY_SIZE : 0);
}

static unsigned frame_of(const struct matrix_shard *shard, unsigned level, uint64_t entry)
{
    const uint32_t mask = ((uint32_t)1 << shard->form.shift[level]) - 1;
    const uint32_t page = ((uint32_t)entry & ~mask) | ((uint32_t)shard->linear & mask & ~0xfffu);
    unsigned frame = 0;

    while (frame < FRAMES && frames[frame] != (page & ~0xfffu))
        frame++;
    return frame;
}

/* SDM vol. 3, "Paging": from the root to the page, or to the entry that ends the walk. */
static void walk_entries(const struct matrix_shard *shard, const struct matrix_combination *combination,
                         struct walk *walk)
{
    *walk = (struct walk){.good = true, .user = true, .write = true, .execute = true};
    for (unsigned level = 0; level < shard->form.levels; level++) {
        const uint64_t entry = combination->entry[level];
        const bool leaf = maps_page(shard, level, entry);

        if ((entry & ENTRY_PRESENT) == 0 || (entry & reserved_bits(shard, level, leaf)) != 0) {
            walk->good = false;
            walk->error = (entry & ENTRY_PRESENT) != 0 ? PF_PRESENT | PF_RESERVED : 0;
            return;
        }
        if (level == 0 && shard->form.has_pointers)
            continue;
        walk->accessed |= 1u << 2 * level;
        walk->user &= (entry & ENTRY_USER) != 0;
        walk->write &= (entry & ENTRY_WRITE) != 0;
        walk->execute &= (entry & ENTRY_NX) == 0;
        if (leaf) {
            walk->leaf = level;
            walk->key = (entry & ENTRY_KEY) != 0;
            walk->frame = frame_of(shard, level, entry);
            return;
        }
    }
}

#define REFUSED ((uint32_t)BIT(31))

/*
 * SDM vol. 3, "Determination of Access Rights" and "Protection Keys": 0 if the access is allowed, or REFUSED
 * and P, RSVD and PK of the error code.
 */
static uint32_t refusal(const struct matrix_shard *shard, const struct walk *walk, const struct kind *kind,
                        bool user, bool ac)
{
    const bool write = kind->write && (user || (shard->controls & CONTROL_WP) != 0);
    uint32_t error = 0;

    if (!walk->good)
        return walk->error | REFUSED;
    if (shard->form.levels == 0)
        return 0;
    if (user && !walk->user)
        error = PF_PRESENT;
    if (kind->fetch && (!walk->execute || (!user && walk->user && (shard->controls & CONTROL_SMEP) != 0)))
        error = PF_PRESENT;
    if (write && !walk->write)
        error = PF_PRESENT;
    if (!user && !kind->fetch && walk->user && (shard->controls & CONTROL_SMAP) != 0 &&
        (kind->implicit || !ac))
        error = PF_PRESENT;
    if (walk->key && walk->user && !kind->fetch)
        if ((shard->controls & CONTROL_KEY_AD) != 0 || ((shard->controls & CONTROL_KEY_WD) != 0 && write))
            error = PF_PRESENT | PF_KEY;
    return error != 0 ? error | REFUSED : 0;
}

static void expect(const struct matrix_shard *shard, const struct matrix_combination *combination,
                   const struct walk *walk, struct matrix_observation *o)
{
    const struct kind *kind = &kinds[o->access % KINDS];
    const bool user = is_user(o) && !kind->implicit;
    const uint32_t error = refusal(shard, walk, kind, user, has_ac(o));

    o->vector = error != 0 ? VECTOR_PF : MATRIX_LEAVE;
    o->error = 0;
    o->cr2 = 0;
    o->seen = MATRIX_UNTOUCHED;
    o->memory = memory_expected(kind, error != 0 ? FRAMES : walk->frame);
    o->flags = 0;
    for (unsigned level = 0; level < shard->form.levels; level++)
        o->flags |= flags_of(combination->entry[level]) << 2 * level;
    if (error != 0) {
        const bool fetch_is_told = (shard->controls & CONTROL_SMEP) != 0 ||
                                   (shard->form.entry_size == 8 && (shard->controls & CONTROL_NXE) != 0);
        o->error = (error & ~REFUSED) | (user ? PF_USER : 0) | (kind->write ? PF_WRITE : 0) |
                   (kind->fetch && fetch_is_told ? PF_FETCH : 0);
        o->cr2 = shard->linear + kind->offset;
        return;
    }
    if (kind->seen != 0)
        o->seen = kind->seen + walk->frame;
    o->flags |= walk->accessed;
    if (kind->write && shard->form.levels != 0)
        o->flags |= 2u << 2 * walk->leaf;
}

static bool as_expected(const struct matrix_observation *seen, const struct matrix_observation *expected)
{
    const bool fault = seen->vector == VECTOR_PF;
    uint32_t error = seen->error ^ expected->error;
    uint64_t cr2 = seen->cr2 ^ expected->cr2;
    uint32_t flags = seen->flags ^ expected->flags;

    if (fault && seen->access % KINDS == KIND_LOAD) {
        error &= ~(uint32_t)(PF_WRITE | PF_KEY);
        cr2 &= ~7ULL;
    }
    if (fault)
        flags &= ~(seen->flags & 0x55555555);
    return seen->vector == expected->vector && error == 0 && cr2 == 0 && flags == 0 &&
           seen->seen == expected->seen && seen->memory == expected->memory;
}

/* ---- One observation ---- */

static void observe(const struct matrix_shard *shard, struct matrix_observation *o)
{
    const struct kind *kind = &kinds[o->access % KINDS];
    const bool user = is_user(o);
    const unsigned long code = (unsigned long)kind->code + (user ? shard->user_offset : 0);
    static char kernel_stack[1024] __aligned(16);
    struct matrix_visit visit = {
        .ip = code,
        .cs = user ? SELECTOR_RING_3 : SELECTOR_RING_0,
        .flags = FLAGS_FIXED | (has_ac(o) ? FLAGS_AC : 0),
        .sp = (unsigned long)kernel_stack + sizeof(kernel_stack),
        .ss = user ? SELECTOR_USER_DATA : SELECTOR_DATA,
        .address = (unsigned long)shard->linear,
        .value = SELECTOR_PROBE,
    };

    matrix_visit(&visit);
    o->vector = (uint32_t)visit.vector;
    o->error = (uint32_t)visit.error;
    o->where = visit.where - visit.address < PAGE_SIZE ? (uint32_t)~0 : (uint32_t)(visit.where - code);
    o->seen = (uint32_t)visit.seen;
    o->cr2 = o->vector == VECTOR_PF ? visit.cr2 : 0;
    o->memory = memory_sum(kind);
}

static void mix(uint64_t *hash, uint64_t value)
{
    *hash = (*hash ^ value) * 0x9e3779b97f4a7c15ULL;
    *hash ^= *hash >> 32;
}

static void account(struct matrix_shard *shard, const struct matrix_observation *o,
                    const struct matrix_observation *expected)
{
    const uint32_t block = shard->result.observations / BLOCK_SIZE;

    mix(&shard->result.hash, o->vector | o->error << 8 | (uint64_t)o->where << 32);
    mix(&shard->result.hash, o->seen | (uint64_t)o->memory << 32);
    mix(&shard->result.hash, o->cr2);
    mix(&shard->result.hash, o->flags);
    if (block < BLOCKS_MAX)
        shard->result.block_hash[block] = shard->result.hash;
    if (block == shard->block)
        ((struct matrix_observation *)(unsigned long)shard->kept)[shard->result.observations % BLOCK_SIZE] =
            *o;
    shard->result.observations++;
    if (o->vector == VECTOR_PF)
        shard->result.faults++;
    if (!as_expected(o, expected) && shard->result.wrong++ == 0) {
        shard->result.seen = *o;
        shard->result.expected = *expected;
    }
}

static void run_combination(struct matrix_shard *shard, uint32_t number,
                            const struct matrix_combination *combination)
{
    struct matrix_observation seen = {.combination = number}, expected = {.combination = number};
    const uint64_t neighbours = neighbours_sum(shard);
    struct walk walk;
    bool changed;

    walk_entries(shard, combination, &walk);
    entries_write(shard, combination);
    flush(shard, number, combination);
    for (unsigned i = 0; i < ACCESSES; i++) {
        /* Each combination begins with another access, so that each comes after each. */
        seen.access = expected.access = (number + i) % ACCESSES;
        if ((shard->accesses >> seen.access & 1) == 0)
            continue;
        observe(shard, &seen);
        seen.flags = entries_flags(shard, combination, &changed);
        if (changed) {
            entries_write(shard, combination);
            flush(shard, number, combination);
        }
        expect(shard, combination, &walk, &expected);
        account(shard, &seen, &expected);
        if (seen.vector == MATRIX_LEAVE)
            memory_restore(&kinds[seen.access % KINDS]);
    }
    if (neighbours_sum(shard) != neighbours)
        shard->result.neighbours_changed++;
}

static uint64_t ticks(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

void matrix_run(struct matrix_shard *shard)
{
    const struct matrix_combination *combinations = (const void *)(unsigned long)shard->combinations;
    const uint64_t start = ticks();

    memory_init();
    for (uint32_t i = 0; i < shard->count; i++)
        if ((i * 2654435761u >> 16) % shard->parts == shard->part)
            run_combination(shard, i, &combinations[i]);
    for (unsigned level = 0; level < shard->form.levels; level++)
        entry_write(shard, level, 0);
    load_cr3(shard);
    __asm__ volatile("invlpg (%0)" : : "r"((unsigned long)shard->linear) : "memory");
    shard->result.ticks = ticks() - start;
}
