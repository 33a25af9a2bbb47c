// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the architecture says of translations that a processor keeps (SDM vol. 3, "Caching Translation
 * Information"): after each kind of invalidation the new one is seen. No row depends on what a processor
 * happens to keep: where it may see the old as well as the new, nothing is asked.
 */
#include "lib/printf.h"
#include "tests/guests/lib/pc.h"
#include "tests/guests/lib/space.h"

/* ---- INVLPG and large pages --------------------------------------------------------------------------- */

static void large_rows(void)
{
    /* One execution is enough for a page of any size, wherever in it ("Recommended Invalidation"). */
    space_reset();
    space_one.directory[0] = SPACE_A | SPACE_FULL | PAGE_LARGE;
    space_load(&space_one);
    guest_equal("2m-all-of-it", space_wrong(SPACE_BASE, SPACE_A), 0);
    space_one.directory[0] = SPACE_B | SPACE_FULL | PAGE_LARGE;
    invlpg((char *)SPACE_BASE + 0x123456);
    guest_equal("2m-moved-invlpg-inside", space_wrong(SPACE_BASE, SPACE_B), 0);
    space_one.directory[0] = space_refer(space_one.table);
    invlpg((char *)SPACE_BASE + 0x1fffff);
    guest_equal("2m-to-table-invlpg", space_wrong(SPACE_BASE, SPACE_A), 0);
    space_one.directory[0] = SPACE_B | SPACE_FULL | PAGE_LARGE;
    for (unsigned n = 0; n < SPACE_PAGES; n++)
        invlpg(space_page(n));
    guest_equal("table-to-2m-invlpg-each", space_wrong(SPACE_BASE, SPACE_B), 0);
    space_one.directory[0] = space_refer(space_one.table);
    space_load(&space_one);
    guest_equal("2m-to-table-cr3", space_wrong(SPACE_BASE, SPACE_A), 0);
    space_one.directory[0] = 0;
    space_load(&space_one);
    space_refuse("2m-removed-cr3", space_page(5), READ, 0);

    /* Memory below 1 MiB is of several kinds: a page of 2 MiB there may be kept in pieces. */
    *(volatile uint64_t *)0x9000 = 0x9000;
    *(volatile uint64_t *)0x80000 = 0x80000;
    space_one.directory[0] = SPACE_FULL | PAGE_LARGE;
    space_load(&space_one);
    space_frame("splintered-9", space_page(9), 0x9000);
    space_frame("splintered-128", space_page(128), 0x80000);
    space_allow("splintered-screen", space_page(0xb8), READ);
    space_allow("splintered-firmware", space_page(0xf0), READ);
    space_allow("splintered-image", space_page(0x100), READ);
    space_one.directory[0] = SPACE_B | SPACE_FULL | PAGE_LARGE;
    invlpg((char *)SPACE_BASE + 0x1ff000);
    guest_equal("splintered-invlpg-elsewhere", space_wrong(SPACE_BASE, SPACE_B), 0);
    space_one.directory[0] = SPACE_FULL | PAGE_LARGE;
    invlpg(space_page(9));
    space_frame("splintered-again", space_page(128), 0x80000);
    space_one.directory[0] = space_refer(space_one.table);
    invlpg(space_page(128));
    guest_equal("splintered-to-table-invlpg", space_wrong(SPACE_BASE, SPACE_A), 0);

    /* A device's page in a large space_one. */
    space_one.directory[0] = LAPIC_BASE | SPACE_FULL | PAGE_LARGE | PAGE_UNCACHED;
    space_load(&space_one);
    guest_equal("2m-of-devices", *(volatile uint32_t *)(SPACE_BASE + LAPIC_VERSION),
                lapic_read(LAPIC_VERSION));
    space_one.directory[0] = SPACE_B | SPACE_FULL | PAGE_LARGE;
    invlpg(space_page(17));
    guest_equal("2m-of-devices-to-memory", space_wrong(SPACE_BASE, SPACE_B), 0);

    if ((cpuid(0x80000001, 0).edx & BIT(26)) == 0)
        return;
    space_reset();
    space_one.pointers[0] = SPACE_FULL | PAGE_LARGE;
    space_load(&space_one);
    guest_equal("1g-a", space_wrong(SPACE_BASE + SPACE_A, SPACE_A), 0);
    guest_equal("1g-b", space_wrong(SPACE_BASE + SPACE_B, SPACE_B), 0);
    space_one.directory[SPACE_A >> 21] = SPACE_B | SPACE_FULL | PAGE_LARGE;
    space_one.directory[SPACE_B >> 21] = space_refer(space_one.table);
    space_one.pointers[0] = space_refer(space_one.directory);
    invlpg((char *)SPACE_BASE + MIB(700));
    guest_equal("1g-to-2m-invlpg-elsewhere", space_wrong(SPACE_BASE + SPACE_A, SPACE_B), 0);
    guest_equal("1g-to-4k-invlpg-elsewhere", space_wrong(SPACE_BASE + SPACE_B, SPACE_A), 0);
}

/* ---- Tables changed ----------------------------------------------------------------------------------- */

static void table_rows(void)
{
    for (unsigned level = 1; level <= 4; level++) {
        char name[40];
        space_reset();
        volatile uint64_t *pointers = space_above(0, space_above(0, space_one.table_b));
        const uint64_t changed[] = {SPACE_B | SPACE_FULL, space_refer(space_one.table_b), pointers[0],
                                    space_refer(pointers)};
        volatile uint64_t *entry = space_entry(&space_one, level);
        uint64_t was = *entry;

        space_frame("before", space_page(0), SPACE_A);
        *entry = changed[level - 1];
        invlpg(space_page(0));
        format_text(name, sizeof(name), "entry-%u-changed-invlpg", level);
        space_frame(name, space_page(0), SPACE_B);
        *entry = was;
        space_load(&space_one);
        format_text(name, sizeof(name), "entry-%u-changed-cr3", level);
        space_frame(name, space_page(0), SPACE_A);
        *entry = 0;
        invlpg(space_page(0));
        format_text(name, sizeof(name), "entry-%u-removed-invlpg", level);
        space_refuse(name, space_page(0), READ, 0);
        *entry = was;
        format_text(name, sizeof(name), "entry-%u-present-without-invalidation", level);
        space_allow(name, space_page(0), READ);
        space_load(&space_two);
        *entry = changed[level - 1];
        space_load(&space_one);
        format_text(name, sizeof(name), "entry-%u-changed-while-elsewhere", level);
        space_frame(name, space_page(0), SPACE_B);
        if (level > 1)
            guest_equal("all-of-it", space_wrong(SPACE_BASE, SPACE_B), 0);
    }

    /* A page that is a table of the second space, and data of the first. */
    space_reset();
    space_one.table[3] = (uint64_t)space_two.table | SPACE_FULL;
    space_load(&space_two);
    space_frame("table-is-data-before", space_page(7), SPACE_C + 7 * PAGE_SIZE);
    space_load(&space_one);
    space_page(3)[7] = SPACE_B | SPACE_FULL;
    space_load(&space_two);
    space_frame("table-is-data-after", space_page(7), SPACE_B);

    /* A root that is a table of itself: entries are changed through the address that they have thereby. */
    space_reset();
    space_one.root[5] = (uint64_t)space_one.root | PAGE_PRESENT | PAGE_WRITE;
    space_load(&space_one);
    volatile uint64_t *mapped = (volatile uint64_t *)(5UL << 39 | (SPACE_BASE >> 9 & 0x7ffffff000));
    guest_equal("recursive-entry", mapped[1] & ~(uint64_t)SPACE_FLAGS, (SPACE_A + PAGE_SIZE) | SPACE_FULL);
    space_frame("recursive-before", space_page(1), SPACE_A + PAGE_SIZE);
    mapped[1] = SPACE_B | SPACE_FULL;
    invlpg(space_page(1));
    space_frame("recursive-after", space_page(1), SPACE_B);
    guest_equal("recursive-dirty", space_one.directory[0] & SPACE_FLAGS, SPACE_FLAGS);
    mapped[1] = 0;
    invlpg(space_page(1));
    space_refuse("recursive-removed", space_page(1), READ, 0);
}

/* ---- Global pages ------------------------------------------------------------------------------------- */

static void global_rows(void)
{
    space_reset();
    set_cr4(CR4_PGE, true);
    guest_equal("global-first", space_wrong(SPACE_GLOBALS, SPACE_A), 0);
    space_load(&space_two);
    guest_equal("global-in-the-other-root", space_wrong(SPACE_GLOBALS, SPACE_A), 0);
    space_globals[1] = SPACE_B | SPACE_FULL | PAGE_GLOBAL;
    invlpg(space_global(1));
    space_frame("global-invlpg-there", space_global(1), SPACE_B);
    space_load(&space_one);
    space_frame("global-invlpg-here", space_global(1), SPACE_B);
    space_globals[2] = 0;
    invlpg(space_global(2));
    space_refuse("global-removed", space_global(2), READ, 0);
    space_load(&space_two);
    space_refuse("global-removed-there", space_global(2), READ, 0);
    space_globals[3] = SPACE_B | SPACE_FULL | PAGE_GLOBAL;
    set_cr4(CR4_PGE, false);
    space_frame("global-pge-cleared", space_global(3), SPACE_B);
    space_globals[3] = SPACE_C | SPACE_FULL | PAGE_GLOBAL;
    space_load(&space_two);
    space_frame("global-without-pge-cr3", space_global(3), SPACE_C);
    space_globals[3] = SPACE_A | SPACE_FULL | PAGE_GLOBAL;
    set_cr4(CR4_PGE, true);
    space_frame("global-pge-set", space_global(3), SPACE_A);
    space_globals[3] = SPACE_B | SPACE_FULL;
    invlpg(space_global(3));
    space_frame("global-no-more", space_global(3), SPACE_B);
    space_globals[3] = SPACE_C | SPACE_FULL;
    space_load(&space_two);
    space_frame("global-no-more-cr3", space_global(3), SPACE_C);

    /* The bit of an entry that refers to a table is ignored. */
    space_two.directory[0] |= PAGE_GLOBAL;
    space_load(&space_two);
    space_frame("global-table-first", space_page(0), SPACE_C);
    space_two.table[0] = SPACE_A | SPACE_FULL;
    space_load(&space_two);
    space_frame("global-table-cr3", space_page(0), SPACE_A);

    space_two.directory[0] = SPACE_A | SPACE_FULL | PAGE_LARGE | PAGE_GLOBAL;
    space_load(&space_two);
    guest_equal("global-2m", space_wrong(SPACE_BASE, SPACE_A), 0);
    space_two.directory[0] = SPACE_B | SPACE_FULL | PAGE_LARGE | PAGE_GLOBAL;
    invlpg(space_page(300));
    guest_equal("global-2m-invlpg", space_wrong(SPACE_BASE, SPACE_B), 0);
    set_cr4(CR4_PGE, false);
}

/* ---- Process-context identifiers ----------------------------------------------------------------------- */

#define CR3_KEEP BIT(63)

enum invpcid { ADDRESS, CONTEXT, ALL, ALL_BUT_GLOBALS };

#define INVPCID(type, pcid, linear)                                                                          \
    TRY("invpcid %0, %1", : : "m"(((const uint64_t[2]){pcid, linear})), "r"((uint64_t)(type)) : "memory")

static void load_pcid(const struct space *space, uint64_t pcid)
{
    write_cr3((uint64_t)space->root | pcid);
}

/* In `two` as PCID 2, an entry of `one` as PCID 1 is changed and invalidated; then `one` comes back as it was
 * kept. */
static void invpcid_row(const char *name, enum invpcid type, volatile uint64_t *address,
                        volatile uint64_t *entry, uint64_t bits)
{
    uint64_t was = *entry;

    load_pcid(&space_one, 1);
    (void)*address;
    load_pcid(&space_two, 2 | CR3_KEEP);
    (void)*space_page(0);
    *entry = SPACE_B | bits;
    INVPCID(type, 1, (uint64_t)address);
    load_pcid(&space_one, 1 | CR3_KEEP);
    space_frame(name, address, SPACE_B);
    *entry = was;
    INVPCID(ALL, 0, 0);
}

static void invpcid_rows(void)
{
    space_reset();
    set_cr4(CR4_PCIDE | CR4_PGE, true);
    invpcid_row("invpcid-address", ADDRESS, space_page(0), &space_one.table[0], SPACE_FULL);
    invpcid_row("invpcid-address-of-global-bit-absent", ADDRESS, space_page(9), &space_one.table[9],
                SPACE_FULL);
    invpcid_row("invpcid-context", CONTEXT, space_page(0), &space_one.table[0], SPACE_FULL);
    invpcid_row("invpcid-all", ALL, space_page(0), &space_one.table[0], SPACE_FULL);
    invpcid_row("invpcid-all-global", ALL, space_global(4), &space_globals[4], SPACE_FULL | PAGE_GLOBAL);
    invpcid_row("invpcid-all-but-globals", ALL_BUT_GLOBALS, space_page(0), &space_one.table[0], SPACE_FULL);
    INVPCID(4, 0, 0);
    guest_expect("invpcid-type-4", VECTOR_GP, 0, 0);
    INVPCID(ADDRESS, 4096, SPACE_BASE);
    guest_expect("invpcid-reserved", VECTOR_GP, 0, 0);
    INVPCID(ADDRESS, 1, NON_CANONICAL);
    guest_expect("invpcid-non-canonical", VECTOR_GP, 0, 0);
    INVPCID(CONTEXT, 1, NON_CANONICAL);
    guest_expect("invpcid-context-any-address", NO_VECTOR, 0, 0);
    space_load(&space_one);
    set_cr4(CR4_PCIDE | CR4_PGE, false);
    INVPCID(ADDRESS, 1, SPACE_BASE);
    guest_expect("invpcid-without-pcide", VECTOR_GP, 0, 0);
    INVPCID(ADDRESS, 0, SPACE_BASE);
    guest_expect("invpcid-0-without-pcide", NO_VECTOR, 0, 0);
}

static void pcid_rows(void)
{
    if ((cpuid(1, 0).ecx & BIT(17)) == 0)
        return;
    space_reset();
    write_cr3((uint64_t)space_one.root | 8);
    TRY("movq %0, %%cr4", : : "r"(read_cr4() | CR4_PCIDE) : "memory");
    guest_expect("pcide-with-low-bits-in-cr3", VECTOR_GP, 0, 0);
    space_load(&space_one);
    set_cr4(CR4_PCIDE, true);
    TRY("movq %0, %%cr0", : : "r"(read_cr0() & ~CR0_PG) : "memory");
    guest_expect("pcide-paging-off", VECTOR_GP, 0, 0);

    for (unsigned i = 0; i < 3; i++) {
        load_pcid(&space_one, 1 | CR3_KEEP);
        guest_equal("pcid-1", space_wrong(SPACE_BASE, SPACE_A), 0);
        load_pcid(&space_two, 2 | CR3_KEEP);
        guest_equal("pcid-2", space_wrong(SPACE_BASE, SPACE_C), 0);
    }
    guest_equal("pcid-in-cr3", read_cr3(), (uint64_t)space_two.root | 2);
    space_one.table[0] = SPACE_B | SPACE_FULL;
    load_pcid(&space_one, 1);
    space_frame("pcid-cr3-flushes", space_page(0), SPACE_B);
    load_pcid(&space_two, 1);
    space_frame("pcid-other-root", space_page(0), SPACE_C);
    load_pcid(&space_one, 3);
    space_frame("pcid-other-number", space_page(0), SPACE_B);
    load_pcid(&space_one, 1);
    space_one.table[0] = SPACE_A | SPACE_FULL;
    invlpg(space_page(0));
    space_frame("pcid-invlpg", space_page(0), SPACE_A);
    load_pcid(&space_one, 3);
    space_frame("pcid-invlpg-other-number", space_page(0), SPACE_A);
    load_pcid(&space_two, 2);
    space_frame("pcid-two-before", space_page(0), SPACE_C);
    load_pcid(&space_one, 0);
    space_two.table[0] = SPACE_B | SPACE_FULL;
    space_one.table[0] = SPACE_C | SPACE_FULL;
    set_cr4(CR4_PCIDE, false);
    space_frame("pcide-cleared-flushes", space_page(0), SPACE_C);
    set_cr4(CR4_PCIDE, true);
    load_pcid(&space_two, 2 | CR3_KEEP);
    space_frame("pcide-cleared-flushes-all", space_page(0), SPACE_B);

    /* A global entry is everybody's. */
    set_cr4(CR4_PGE, true);
    load_pcid(&space_one, 1);
    space_frame("pcid-global", space_global(5), SPACE_A + 5 * PAGE_SIZE);
    load_pcid(&space_two, 2);
    space_globals[5] = SPACE_B | SPACE_FULL | PAGE_GLOBAL;
    invlpg(space_global(5));
    load_pcid(&space_one, 1 | CR3_KEEP);
    space_frame("pcid-global-invlpg", space_global(5), SPACE_B);
    space_load(&space_one);
    set_cr4(CR4_PCIDE | CR4_PGE, false);
    if ((cpuid(7, 0).ebx & BIT(10)) != 0)
        invpcid_rows();
}

/* ---- Memory types ---------------------------------------------------------------------------------------
 */

static void pat_rows(void)
{
    /* As after reset; write-combining and write-protected at the end; everything uncached. */
    static const uint64_t pats[] = {0x0007040600070406, 0x0105040600070406, 0};
    uint64_t was = rdmsr(MSR_PAT);

    space_reset();
    for (unsigned n = 0; n < 8; n++)
        space_one.table[n] |= (uint64_t)(n & 3) << 3 | (uint64_t)(n >> 2) << 7;
    for (size_t i = 0; i < ARRAY_SIZE(pats); i++) {
        char name[32];
        unsigned good = 0;
        wrmsr(MSR_PAT, pats[i]);
        space_load(&space_one);
        for (unsigned n = 0; n < 8; n++) {
            *(space_page(n) + 1) = i * 8 + n;
            __asm__ volatile("mfence" : : : "memory");
            good += *(space_page(n) + 1) == i * 8 + n && *space_page(n) == SPACE_A + n * PAGE_SIZE;
        }
        format_text(name, sizeof(name), "pat-%lu", i);
        guest_equal(name, good, 8);
    }
    wrmsr(MSR_PAT, was);
    space_load(&space_one);
    space_frame("pat-back", space_page(7), SPACE_A + 7 * PAGE_SIZE);
}

/* ---- PAE: the page-directory-pointer registers ------------------------------------------------------------
 */

/* What pae_visit is told and tells, by 32-bit offsets. */
struct visit {
    uint32_t cr3, pdpte;         /* 0, 4: the table; where its second entry is */
    uint32_t first, second;      /* 8, 12: what it is in turn */
    uint32_t from;               /* 16: the page that is read */
    uint32_t seen[6];            /* 20 … 40 */
    uint32_t long_cr3, long_cr4; /* 44, 48 */
};

/*
 * Out of long mode into PAE paging. There the second entry is changed behind the registers that were loaded
 * from it (SDM vol. 3, "PDPTE Registers"): seen by nothing but MOV to CR3, or to CR4 where that changes PGE.
 */
SNIPPET(pae_visit, 32,
        "movl %cr0, %eax; andl $0x7fffffff, %eax; movl %eax, %cr0\n"
        "movl $0xc0000080, %ecx; rdmsr; andl $~0x100, %eax; wrmsr\n"
        "movl 0(%edi), %eax; movl %eax, %cr3; movl $0x20, %eax; movl %eax, %cr4\n"
        "movl %cr0, %eax; orl $0x80000000, %eax; movl %eax, %cr0; jmp 1f; 1:\n"
        "movl 16(%edi), %esi; movl 4(%edi), %ebx\n"
        "movl (%esi), %eax; movl %eax, 20(%edi)\n"
        "movl 12(%edi), %eax; movl %eax, (%ebx)\n"
        "movl 0x1000(%esi), %eax; movl %eax, 24(%edi)\n"
        "invlpg (%esi); movl (%esi), %eax; movl %eax, 28(%edi)\n"
        "movl %cr3, %eax; movl %eax, %cr3; movl (%esi), %eax; movl %eax, 32(%edi)\n"
        "movl 8(%edi), %eax; movl %eax, (%ebx)\n"
        "invlpg 0x1000(%esi); movl 0x1000(%esi), %eax; movl %eax, 36(%edi)\n"
        "movl $0xa0, %eax; movl %eax, %cr4; movl 0x1000(%esi), %eax; movl %eax, 40(%edi)\n"
        "movl %cr0, %eax; andl $0x7fffffff, %eax; movl %eax, %cr0; jmp 2f; 2:\n"
        "movl 48(%edi), %eax; movl %eax, %cr4; movl 44(%edi), %eax; movl %eax, %cr3\n"
        "movl $0xc0000080, %ecx; rdmsr; orl $0x100, %eax; wrmsr\n"
        "movl %cr0, %eax; orl $0x80000000, %eax; movl %eax, %cr0; jmp 3f; 3:");

static void pae_rows(void)
{
    static struct visit v;
    static const char *const names[] = {"pae-first",     "pae-registers-kept", "pae-invlpg-keeps",
                                        "pae-cr3-loads", "pae-kept-again",     "pae-pge-loads"};
    const uint64_t a = SPACE_A, b = SPACE_B;
    const uint64_t expected[] = {a, a + PAGE_SIZE, a, b, b + PAGE_SIZE, a + PAGE_SIZE};

    space_leave();
    volatile uint64_t *pointers = space_table(), *identity = space_table();
    volatile uint64_t *first = space_table(), *second = space_table();
    for (unsigned i = 0; i < 16; i++)
        identity[i] = (uint64_t)i << 21 | PAGE_PRESENT | PAGE_WRITE | PAGE_LARGE;
    first[0] = SPACE_A | PAGE_PRESENT | PAGE_WRITE | PAGE_LARGE;
    second[0] = SPACE_B | PAGE_PRESENT | PAGE_WRITE | PAGE_LARGE;
    pointers[0] = (uint64_t)identity | PAGE_PRESENT;
    pointers[1] = (uint64_t)first | PAGE_PRESENT;
    v = (struct visit){
        .cr3 = (uint32_t)(uint64_t)pointers,
        .pdpte = (uint32_t)(uint64_t)&pointers[1],
        .first = (uint32_t)pointers[1],
        .second = (uint32_t)(uint64_t)second | (uint32_t)PAGE_PRESENT,
        .from = 0x40000000,
        .long_cr3 = (uint32_t)read_cr3(),
        .long_cr4 = (uint32_t)read_cr4(),
    };
    guest_run(SELECTOR_CODE32, pae_visit, (uint64_t)&v, 0, 0);
    guest_expect_vector("pae", VECTOR_LEAVE, 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        guest_equal(names[i], v.seen[i], expected[i]);
}

void guest_main(void)
{
    space_init();
    large_rows();
    table_rows();
    global_rows();
    pcid_rows();
    pat_rows();
    pae_rows();
}
