// SPDX-License-Identifier: BSD-2-Clause
/*
 * Address translation (SDM vol. 3, "Paging"): rights at every level against every access, reserved bits,
 * large pages, accessed and dirty flags, invalidation, and the two 32-bit formats from a short visit to
 * legacy mode.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/guest.h"

/* Four tables of its own under entry 2 of the PML4; `chain[0]` is that entry, `chain[3]` the page-table
 * entry. */
#define TABLES (GUEST_PLAYGROUND)
#define DATA   (GUEST_PLAYGROUND + 0x100000)
#define BASE   0x10000000000UL
#define FULL   (PAGE_PRESENT | PAGE_WRITE | PAGE_USER)

static volatile uint64_t *const chain[] = {
    &guest_page_tables[2],
    (volatile uint64_t *)TABLES,
    (volatile uint64_t *)(TABLES + PAGE_SIZE),
    (volatile uint64_t *)(TABLES + 2 * PAGE_SIZE),
};

static volatile uint64_t *const data = (volatile uint64_t *)DATA;
static volatile uint64_t *const page = (volatile uint64_t *)BASE;

static void flush(void)
{
    write_cr3(read_cr3());
}

static void chain_reset(void)
{
    for (unsigned level = 0; level < 3; level++)
        *chain[level] = (TABLES + level * PAGE_SIZE) | FULL;
    *chain[3] = DATA | FULL;
    flush();
}

SNIPPET(user_read, 64, "movq (%rsi), %rax");
SNIPPET(user_write, 64, "movb $0x5a, 8(%rsi)");
SNIPPET(user_call, 64, "jmp *%rsi");

enum access { READ, WRITE, FETCH, USER_READ, USER_WRITE, USER_FETCH, ACCESSES };

static const char *const access_names[] = {"read", "write", "fetch", "user-read", "user-write", "user-fetch"};

/* The access to `page`; what was fetched there is INT VECTOR_LEAVE. */
static void touch(enum access access)
{
    uint64_t seen;

    switch (access) {
    case READ:
        TRY("movq (%1), %0", : "=r"(seen) : "r"(page) : "memory");
        break;
    case WRITE:
        TRY("movb $0x5a, 8(%0)", : : "r"(page) : "memory");
        break;
    case FETCH:
        TRY("jmp *%0", : : "r"(page) : "memory");
        break;
    case USER_READ:
        guest_run(SELECTOR_USER_CODE, user_read, 0, BASE, 0);
        break;
    case USER_WRITE:
        guest_run(SELECTOR_USER_CODE, user_write, 0, BASE, 0);
        break;
    default:
        guest_run(SELECTOR_USER_CODE, user_call, 0, BASE, 0);
        break;
    }
}

static bool is_user(enum access access)
{
    return access >= USER_READ;
}

/* Whether the last access went through, or what it raised. */
static void expect_access(const char *name, enum access access, bool good, uint64_t error)
{
    bool leaves = is_user(access) || access == FETCH;

    guest_expect_vector(name, good ? leaves ? VECTOR_LEAVE : NO_VECTOR : VECTOR_PF, good ? 0 : error);
    if (!good && guest_fault.vector == VECTOR_PF && (guest_fault.cr2 & ~8UL) != BASE)
        guest_check(false, name, "cr2 %#lx", guest_fault.cr2);
}

/* ---- Rights ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint64_t bit;
} rights[] = {
    {"absent", PAGE_PRESENT}, {"read-only", PAGE_WRITE}, {"supervisor", PAGE_USER}, {"nx", PAGE_NX}};

static uint64_t error_of(enum access access, bool present)
{
    bool nxe = (rdmsr(MSR_EFER) & EFER_NXE) != 0;

    return (present ? PF_PRESENT : 0) | (is_user(access) ? PF_USER : 0) |
           (access == WRITE || access == USER_WRITE ? PF_WRITE : 0) |
           ((access == FETCH || access == USER_FETCH) && nxe ? PF_FETCH : 0);
}

static bool allowed(enum access access, uint64_t missing, bool wp)
{
    if (missing == PAGE_PRESENT)
        return false;
    if (missing == PAGE_USER)
        return !is_user(access);
    if (missing == PAGE_WRITE)
        return access != USER_WRITE && !(access == WRITE && wp);
    return access != FETCH && access != USER_FETCH;
}

static void rights_rows(void)
{
    memcpy((void *)DATA, "\xcd\x40", 2);
    for (unsigned wp = 0; wp < 2; wp++) {
        write_cr0((read_cr0() & ~CR0_WP) | (wp ? CR0_WP : 0));
        for (unsigned level = 0; level < 4; level++)
            for (size_t i = 0; i < ARRAY_SIZE(rights); i++)
                for (enum access access = READ; access < ACCESSES; access++) {
                    char name[64];
                    chain_reset();
                    *chain[level] ^= rights[i].bit;
                    flush();
                    touch(access);
                    format_text(name, sizeof(name), "%s-level-%u-%s-wp%u", rights[i].name, 4 - level,
                                access_names[access], wp);
                    expect_access(name, access, allowed(access, rights[i].bit, wp != 0),
                                  error_of(access, rights[i].bit != PAGE_PRESENT));
                }
    }
    write_cr0(read_cr0() & ~CR0_WP);
}

/* ---- Reserved bits ------------------------------------------------------------------------------------ */

static void reserved_row(const char *what, unsigned level, uint64_t entry)
{
    char name[64];

    chain_reset();
    *chain[level] = entry;
    flush();
    touch(READ);
    format_text(name, sizeof(name), "reserved-level-%u-%s", 4 - level, what);
    guest_expect(name, VECTOR_PF, PF_PRESENT | PF_RESERVED, 0);
    touch(WRITE);
    format_text(name, sizeof(name), "reserved-level-%u-%s-write", 4 - level, what);
    guest_expect(name, VECTOR_PF, PF_PRESENT | PF_RESERVED | PF_WRITE, 0);
    touch(USER_READ);
    format_text(name, sizeof(name), "reserved-level-%u-%s-user", 4 - level, what);
    guest_expect(name, VECTOR_PF, PF_PRESENT | PF_RESERVED | PF_USER, 0);
}

static void reserved_rows(void)
{
    uint64_t beyond = BIT(cpuid(0x80000008, 0).eax & 0xff);

    for (unsigned level = 0; level < 4; level++) {
        chain_reset();
        reserved_row("address", level, *chain[level] | beyond);
        reserved_row("address-51", level, (*chain[level] & ~beyond) | BIT(51));
    }
    reserved_row("size", 0, TABLES | FULL | PAGE_LARGE);
    reserved_row("2m-address-13", 2, 0x1000000 | FULL | PAGE_LARGE | BIT(13));
    reserved_row("2m-address-20", 2, 0x1000000 | FULL | PAGE_LARGE | BIT(20));
    if ((cpuid(0x80000001, 0).edx & BIT(26)) != 0) {
        reserved_row("1g-address-13", 1, FULL | PAGE_LARGE | BIT(13));
        reserved_row("1g-address-29", 1, FULL | PAGE_LARGE | BIT(29));
    }
    chain_reset();
    *chain[3] |= PAGE_GLOBAL | BIT(9) | BIT(10) | BIT(11) | BIT(52) | BIT(58);
    flush();
    touch(READ);
    guest_expect("ignored-bits", NO_VECTOR, 0, 0);
}

/* ---- Accessed and dirty ------------------------------------------------------------------------------- */

#define FLAGS (PAGE_ACCESSED | PAGE_DIRTY)

static void flag_row(const char *name, uint64_t pml4e, uint64_t pdpte, uint64_t pde, uint64_t pte)
{
    const uint64_t expected[] = {pml4e, pdpte, pde, pte};
    uint64_t seen[4];

    for (unsigned level = 0; level < 4; level++)
        seen[level] = *chain[level] & FLAGS;
    guest_check(memcmp(seen, expected, sizeof(seen)) == 0, name, "%#lx %#lx %#lx %#lx", seen[0], seen[1],
                seen[2], seen[3]);
}

static void flag_rows(void)
{
    const uint64_t a = PAGE_ACCESSED, ad = FLAGS;

    chain_reset();
    flag_row("flags-untouched", 0, 0, 0, 0);
    touch(READ);
    flag_row("flags-read", a, a, a, a);
    touch(WRITE);
    flag_row("flags-write-after-read", a, a, a, ad);
    chain_reset();
    touch(WRITE);
    flag_row("flags-write", a, a, a, ad);
    chain_reset();
    touch(FETCH);
    flag_row("flags-fetch", a, a, a, a);
    chain_reset();
    touch(USER_WRITE);
    flag_row("flags-user-write", a, a, a, ad);
    touch(READ);
    for (unsigned level = 0; level < 4; level++)
        *chain[level] &= ~FLAGS;
    flush();
    touch(READ);
    flag_row("flags-cleared-and-read", a, a, a, a);
    *chain[3] &= ~FLAGS;
    invlpg(page);
    touch(WRITE);
    flag_row("flags-cleared-invlpg-write", a, a, a, ad);
    chain_reset();
    *chain[3] = 0;
    flush();
    touch(WRITE);
    CHECK("flags-absent-page-not-dirty", (*chain[3] & FLAGS) == 0);
    chain_reset();
    write_cr0(read_cr0() | CR0_WP);
    *chain[3] &= ~PAGE_WRITE;
    flush();
    touch(WRITE);
    CHECK("flags-refused-write-not-dirty", (*chain[3] & PAGE_DIRTY) == 0);
    write_cr0(read_cr0() & ~CR0_WP);
    touch(WRITE);
    CHECK("flags-write-without-wp-dirty", (*chain[3] & PAGE_DIRTY) != 0);
    __asm__ volatile("lock addq $0, (%0)" : : "r"(page) : "memory", "cc");
    chain_reset();
    __asm__ volatile("lock addq $0, (%0)" : : "r"(page) : "memory", "cc");
    flag_row("flags-read-modify-write", a, a, a, ad);
}

/* ---- Large pages -------------------------------------------------------------------------------------- */

static void large_rows(void)
{
    *data = 0x1122334455667788UL;
    chain_reset();
    *chain[2] = 0x1000000 | FULL | PAGE_LARGE;
    flush();
    volatile uint64_t *large = (volatile uint64_t *)(BASE + (DATA & 0x1fffff));
    guest_equal("2m-read", *large, 0x1122334455667788UL);
    CHECK("2m-accessed-not-dirty", (*chain[2] & FLAGS) == PAGE_ACCESSED);
    *large = 1;
    guest_equal("2m-write", *data, 1);
    CHECK("2m-dirty", (*chain[2] & FLAGS) == FLAGS);
    *chain[2] = 0x1000000 | PAGE_PRESENT | PAGE_LARGE;
    invlpg(large + 1000);
    guest_run(SELECTOR_USER_CODE, user_read, 0, (uint64_t)large, 0);
    guest_expect_vector("2m-supervisor", VECTOR_PF, PF_PRESENT | PF_USER);
    if ((cpuid(0x80000001, 0).edx & BIT(26)) != 0) {
        chain_reset();
        *chain[1] = 0 | FULL | PAGE_LARGE;
        flush();
        large = (volatile uint64_t *)(BASE + DATA);
        guest_equal("1g-read", *large, 1);
        CHECK("1g-accessed-not-dirty", (*chain[1] & FLAGS) == PAGE_ACCESSED);
        *large = 2;
        guest_equal("1g-write", *data, 2);
        CHECK("1g-dirty", (*chain[1] & FLAGS) == FLAGS);
    }
    /* From a large page to small ones at the same address. */
    chain_reset();
    *chain[2] = 0x1000000 | FULL | PAGE_LARGE;
    flush();
    uint64_t before = *page;
    data[0] = 0xabcd;
    chain_reset();
    CHECK("2m-to-4k", *page == 0xabcd && before != 0xabcd);
}

/* ---- Invalidation ------------------------------------------------------------------------------------- */

static void invalidate_rows(void)
{
    volatile uint64_t *other = (volatile uint64_t *)(DATA + PAGE_SIZE);

    data[0] = 1;
    other[0] = 2;
    chain_reset();
    guest_equal("map-first", *page, 1);
    *chain[3] = (DATA + PAGE_SIZE) | FULL;
    invlpg(page);
    guest_equal("map-after-invlpg", *page, 2);
    *chain[3] = DATA | FULL;
    flush();
    guest_equal("map-after-cr3", *page, 1);
    *chain[3] = 0;
    invlpg((volatile char *)page + 123);
    touch(READ);
    guest_expect("unmapped-after-invlpg-inside", VECTOR_PF, 0, 0);
    *chain[3] = DATA | FULL;
    touch(READ);
    guest_expect("mapped-without-invlpg", NO_VECTOR, 0, 0);
    *chain[3] = DATA | FULL | PAGE_WRITE;
    write_cr4(read_cr4() | CR4_PGE);
    *chain[3] = DATA | FULL | PAGE_GLOBAL;
    flush();
    guest_equal("global-first", *page, 1);
    *chain[3] = (DATA + PAGE_SIZE) | FULL | PAGE_GLOBAL;
    invlpg(page);
    guest_equal("global-after-invlpg", *page, 2);
    *chain[3] = DATA | FULL | PAGE_GLOBAL;
    write_cr4(read_cr4() & ~CR4_PGE);
    guest_equal("global-after-pge-clear", *page, 1);
    *chain[1] = 0;
    flush();
    touch(READ);
    guest_expect("table-removed-after-cr3", VECTOR_PF, 0, 0);
    chain_reset();
    guest_equal("table-back", *page, 1);
    if ((cpuid(7, 0).ebx & BIT(10)) != 0) {
        struct {
            uint64_t pcid, address;
        } descriptor = {0, BASE};
        *chain[3] = (DATA + PAGE_SIZE) | FULL;
        __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(0UL) : "memory");
        guest_equal("map-after-invpcid-address", *page, 2);
        *chain[3] = DATA | FULL;
        __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(2UL) : "memory");
        guest_equal("map-after-invpcid-all", *page, 1);
        TRY("invpcid %0, %1", : : "m"(descriptor), "r"(4UL) : "memory");
        guest_expect("invpcid-type-4", VECTOR_GP, 0, 0);
    }

    /* One access on two pages, the second of which refuses it. */
    chain_reset();
    guest_map(0, DATA | FULL);
    guest_map(1, (DATA + PAGE_SIZE) | PAGE_PRESENT);
    write_cr0(read_cr0() | CR0_WP);
    uint64_t split = GUEST_WINDOW + PAGE_SIZE - 4;
    TRY("movq %0, (%1)", : : "r"(~0UL), "r"(split) : "memory");
    guest_expect("two-pages-second-read-only", VECTOR_PF, PF_PRESENT | PF_WRITE, 0);
    guest_equal("two-pages-cr2", guest_fault.cr2, GUEST_WINDOW + PAGE_SIZE);
    guest_equal("two-pages-nothing-written", *(volatile uint32_t *)(DATA + PAGE_SIZE - 4), 0);
    write_cr0(read_cr0() & ~CR0_WP);
}

/* ---- Legacy mode -------------------------------------------------------------------------------------- */

/* What legacy_visit is told and tells, by 32-bit offsets. */
struct visit {
    uint32_t cr3, cr4;      /* 0, 4: of the format under test */
    uint32_t paging;        /* 8: CR0.PG, or 0: paging off */
    uint32_t from, to;      /* 12, 16: addresses that are read and written there */
    uint32_t seen, written; /* 20, 24: what was read; what is written */
    uint32_t long_cr3, long_cr4;
};

/*
 * Out of long mode, into the format, one read and one write, and back. The IDT stays the 64-bit one, so
 * nothing may fault; the identity map of the format covers this code and the struct.
 */
SNIPPET(legacy_visit, 32,
        "movl %cr0, %eax; andl $0x7fffffff, %eax; movl %eax, %cr0\n"
        "movl $0xc0000080, %ecx; rdmsr; andl $~0x100, %eax; wrmsr\n"
        "movl 0(%edi), %eax; movl %eax, %cr3; movl 4(%edi), %eax; movl %eax, %cr4\n"
        "movl %cr0, %eax; orl 8(%edi), %eax; movl %eax, %cr0; jmp 1f; 1:\n"
        "movl 12(%edi), %esi; movl (%esi), %eax; movl %eax, 20(%edi)\n"
        "movl 16(%edi), %esi; movl 24(%edi), %eax; movl %eax, (%esi)\n"
        "movl %cr0, %eax; andl $0x7fffffff, %eax; movl %eax, %cr0; jmp 2f; 2:\n"
        "movl 32(%edi), %eax; movl %eax, %cr4; movl 28(%edi), %eax; movl %eax, %cr3\n"
        "movl $0xc0000080, %ecx; rdmsr; orl $0x100, %eax; wrmsr\n"
        "movl %cr0, %eax; orl $0x80000000, %eax; movl %eax, %cr0; jmp 3f; 3:");

static void visit(const char *name, uint32_t cr3, uint32_t cr4, uint32_t paging, uint32_t from, uint32_t to)
{
    static struct visit v;
    char row[48];

    data[0] = 0x0badf00d;
    data[1] = 0;
    v = (struct visit){cr3, cr4, paging, from, to, 0, 0xfeed, (uint32_t)read_cr3(), (uint32_t)read_cr4()};
    guest_run(SELECTOR_CODE32, legacy_visit, (uint64_t)&v, 0, 0);
    guest_expect_vector(name, VECTOR_LEAVE, 0);
    format_text(row, sizeof(row), "%s-read", name);
    guest_equal(row, v.seen, 0x0badf00d);
    format_text(row, sizeof(row), "%s-write", name);
    guest_equal(row, data[1], 0xfeed);
}

static void legacy_rows(void)
{
    volatile uint32_t *directory = (volatile uint32_t *)(TABLES + 0x10000);
    volatile uint32_t *table = (volatile uint32_t *)(TABLES + 0x11000);
    volatile uint64_t *pointers = (volatile uint64_t *)(TABLES + 0x12000);
    volatile uint64_t *directories = (volatile uint64_t *)(TABLES + 0x13000); /* two of them */
    volatile uint64_t *pae_table = (volatile uint64_t *)(TABLES + 0x15000);
    const uint32_t offset = DATA & 0x3fffff, bits = PAGE_PRESENT | PAGE_WRITE;

    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_NXE);
    visit("no-paging", 0, 0, 0, (uint32_t)DATA, (uint32_t)DATA + 8);

    /* 32-bit: 4 MiB pages for the identity and at 1 GiB, a 4 KiB page behind that. */
    for (unsigned i = 0; i < 8; i++)
        directory[i] = i << 22 | PAGE_LARGE | bits;
    directory[256] = (uint32_t)GUEST_PLAYGROUND | PAGE_LARGE | bits;
    directory[257] = (uint32_t)(uint64_t)table | bits;
    table[5] = (uint32_t)DATA | bits;
    visit("pse", (uint32_t)(uint64_t)directory, CR4_PSE, CR0_PG, 0x40000000 + offset,
          0x40000000 + offset + 8);
    CHECK("pse-flags", (directory[256] & FLAGS) == FLAGS);
    visit("32-bit", (uint32_t)(uint64_t)directory, CR4_PSE, CR0_PG, 0x40405000, 0x40405008);
    CHECK("32-bit-flags", (directory[257] & PAGE_ACCESSED) != 0 && (table[5] & FLAGS) == FLAGS);
    directory[256] |= PAGE_GLOBAL;
    visit("pse-global", (uint32_t)(uint64_t)directory, CR4_PSE | CR4_PGE, CR0_PG, 0x40000000 + offset,
          0x40000000 + offset + 8);

    /* PAE: the same with 2 MiB pages. */
    pointers[0] = (uint64_t)directories | PAGE_PRESENT;
    pointers[1] = ((uint64_t)directories + PAGE_SIZE) | PAGE_PRESENT;
    for (unsigned i = 0; i < 16; i++)
        directories[i] = (uint64_t)i << 21 | PAGE_LARGE | bits;
    directories[512] = GUEST_PLAYGROUND | PAGE_LARGE | bits;
    directories[513] = (uint64_t)pae_table | bits;
    pae_table[5] = DATA | bits;
    visit("pae", (uint32_t)(uint64_t)pointers, CR4_PAE, CR0_PG, 0x40000000 + offset, 0x40000000 + offset + 8);
    CHECK("pae-flags", (directories[512] & FLAGS) == FLAGS);
    visit("pae-4k", (uint32_t)(uint64_t)pointers, CR4_PAE, CR0_PG, 0x40205000, 0x40205008);
    CHECK("pae-4k-flags", (directories[513] & PAGE_ACCESSED) != 0 && (pae_table[5] & FLAGS) == FLAGS);
    guest_equal("long-mode-again", rdmsr(MSR_EFER) & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
}

void guest_main(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    rights_rows();
    reserved_rows();
    flag_rows();
    large_rows();
    invalidate_rows();
    legacy_rows();
}
