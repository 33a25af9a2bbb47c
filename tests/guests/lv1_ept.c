// SPDX-License-Identifier: BSD-2-Clause
/*
 * EPT and VPID as a guest hypervisor uses them (SDM vol. 3, "The Extended Page Table Mechanism"): rights,
 * violations and what is told about them, misconfigurations, accessed and dirty flags, page sizes, and what
 * the invalidating instructions accept and do.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/vmx.h"

/* IA32_VMX_EPT_VPID_CAP. */
#define CAP_EXECUTE_ONLY  BIT(0)
#define CAP_1G            BIT(17)
#define CAP_2M            BIT(16)
#define CAP_INVEPT        BIT(20)
#define CAP_FLAGS         BIT(21)
#define CAP_INVEPT_SINGLE BIT(25)
#define CAP_INVEPT_ALL    BIT(26)
#define CAP_INVVPID       BIT(32)

#define EPT_READ          BIT(0)
#define EPT_WRITE         BIT(1)
#define EPT_EXECUTE       BIT(2)
#define EPT_ALL           (EPT_READ | EPT_WRITE | EPT_EXECUTE)
#define EPT_TYPE(t)       ((uint64_t)(t) << 3)
#define EPT_WB            EPT_TYPE(6)
#define EPT_LEAF          BIT(7)
#define EPT_ACCESSED      BIT(8)
#define EPT_DIRTY         BIT(9)
#define EPTP_FLAGS        BIT(6)

/* Exit qualification of a violation (table 27-7): the access, then what the translation allows. */
#define WHY_READ          BIT(0)
#define WHY_WRITE         BIT(1)
#define WHY_FETCH         BIT(2)
#define WHY_ALLOWED(r)    ((uint64_t)(r) << 3)
#define WHY_LINEAR        BIT(7)
#define WHY_FINAL         BIT(8) /* else a walk of Lv2's own tables */
#define WHY_MASK          0x1ffUL

static uint64_t capabilities;

/* ---- Tables ------------------------------------------------------------------------------------------- */

/* Two roots over the same lower levels, but for the piece under test, which has pages of its own in each. */
static uint64_t roots[2][512] __aligned(4096), pointers[2][512] __aligned(4096);
static uint64_t low[2][512] __aligned(4096), high[512] __aligned(4096), pages[2][512] __aligned(4096);

/* The piece: 2 MiB of 4 KiB pages, where the playground begins. */
#define PIECE   GUEST_PLAYGROUND
#define PAGE(n) (PIECE + (n)*PAGE_SIZE)
/* What a 2 MiB page is tested with. */
#define LARGE_A (GUEST_PLAYGROUND + MIB(2))
#define LARGE_B (GUEST_PLAYGROUND + MIB(4))

static uint64_t eptp_of(unsigned n)
{
    return (uint64_t)roots[n] | 3 << 3 | 6;
}

static void build(void)
{
    for (unsigned n = 0; n < 2; n++) {
        for (unsigned i = 0; i < 512; i++) {
            low[n][i] = MIB(2) * i | EPT_LEAF | EPT_WB | EPT_ALL;
            high[i] = (GIB(3) + MIB(2) * i) | EPT_LEAF | EPT_ALL; /* devices: uncached */
            pages[n][i] = PAGE(i) | EPT_WB | EPT_ALL;
        }
        low[n][PIECE / MIB(2)] = (uint64_t)pages[n] | EPT_ALL;
        memset(pointers[n], 0, sizeof(pointers[n]));
        memset(roots[n], 0, sizeof(roots[n]));
        pointers[n][0] = (uint64_t)low[n] | EPT_ALL;
        pointers[n][3] = (uint64_t)high | EPT_ALL;
        roots[n][0] = (uint64_t)pointers[n] | EPT_ALL;
    }
}

/* New tables, of which nothing is cached, and an Lv2 that uses the first of them. */
static void prepare(void)
{
    build();
    if ((capabilities & CAP_INVEPT_ALL) != 0)
        vmx_invept(2, 0, 0);
    vmx_prepare();
    vmx_control(SECONDARY_EPT, true);
    vmx_set(VMCS_EPTP, eptp_of(0));
}

/* Changes an entry, and what is cached of it is gone. */
static void change(uint64_t *entry, uint64_t value)
{
    *(volatile uint64_t *)entry = value;
    vmx_invept(1, eptp_of(0), 0);
    vmx_invept(1, eptp_of(1), 0);
}

LV2(lv2_read, "movq (%rdi), %rax");
LV2(lv2_write, "movq %rsi, 8(%rdi)");
LV2(lv2_fetch, "jmp *%rdi");

enum access { READ, WRITE, FETCH, ACCESSES };

static const struct {
    const char *name, *code;
    uint64_t right, why, offset;
} accesses[ACCESSES] = {
    [READ] = {"read", lv2_read, EPT_READ, WHY_READ, 0},
    [WRITE] = {"write", lv2_write, EPT_WRITE, WHY_WRITE, 8},
    [FETCH] = {"fetch", lv2_fetch, EPT_EXECUTE, WHY_FETCH, 0},
};

/* Pages of the piece begin with a VMCALL, so that a fetch comes back as the others do. */
static void access(enum access how, uint64_t address)
{
    vmx_registers.rdi = address;
    vmx_registers.rsi = 0x1122334455667788;
    vmx_run_at(accesses[how].code);
}

static void expect_violation(const char *name, uint64_t why, uint64_t physical, uint64_t linear)
{
    bool good = vmx_exit.outcome == VMX_SUCCEED && vmx_exit.reason == REASON_EPT_VIOLATION &&
                (vmx_exit.qualification & WHY_MASK) == why && vmx_get(VMCS_PHYSICAL_ADDRESS) == physical &&
                vmx_exit.linear == linear;

    guest_check(good, name,
                "outcome %#lx reason %#lx qualification %#lx physical %#lx linear %#lx, not %#lx %#lx %#lx",
                vmx_exit.outcome, vmx_exit.reason, vmx_exit.qualification, vmx_get(VMCS_PHYSICAL_ADDRESS),
                vmx_exit.linear, why, physical, linear);
}

/* ---- Rights ------------------------------------------------------------------------------------------- */

static bool is_misconfigured(uint64_t rights)
{
    return (rights & (EPT_READ | EPT_WRITE)) == EPT_WRITE ||
           (rights == EPT_EXECUTE && (capabilities & CAP_EXECUTE_ONLY) == 0);
}

/* All rights at a leaf, and at the entry above it. */
static void rights_rows(void)
{
    static const struct {
        const char *name;
        uint64_t *entry;
    } levels[] = {{"page", &pages[0][3]}, {"directory", &low[0][PIECE / MIB(2)]}};
    char name[64];

    for (unsigned level = 0; level < ARRAY_SIZE(levels); level++)
        for (uint64_t rights = 0; rights < 8; rights++)
            for (enum access how = READ; how < ACCESSES; how++) {
                uint64_t *entry = levels[level].entry;
                const uint64_t address = PAGE(3) + accesses[how].offset;

                prepare();
                change(entry, (*entry & ~EPT_ALL) | rights);
                access(how, PAGE(3));
                format_text(name, sizeof(name), "%s-rights-%lu-%s", levels[level].name, rights,
                            accesses[how].name);
                if (is_misconfigured(rights)) {
                    vmx_expect(name, REASON_EPT_MISCONFIGURATION);
                    format_text(name, sizeof(name), "%s-rights-%lu-%s-address", levels[level].name, rights,
                                accesses[how].name);
                    guest_equal(name, vmx_get(VMCS_PHYSICAL_ADDRESS), address);
                } else if ((rights & accesses[how].right) != 0) {
                    vmx_expect(name, REASON_VMCALL);
                } else {
                    expect_violation(name, accesses[how].why | WHY_ALLOWED(rights) | WHY_LINEAR | WHY_FINAL,
                                     address, address);
                }
            }
}

/* Lv1 mends what is missing and lets Lv2 try again: the same instruction, once. */
static void fill_rows(void)
{
    prepare();
    change(&pages[0][4], 0);
    access(WRITE, PAGE(4));
    expect_violation("fill-missing", WHY_WRITE | WHY_LINEAR | WHY_FINAL, PAGE(4) + 8, PAGE(4) + 8);
    guest_equal("fill-rip", vmx_exit.rip, (uint64_t)lv2_write);
    guest_equal("fill-not-written", *(volatile uint64_t *)(PAGE(4) + 8), 0);
    *(volatile uint64_t *)&pages[0][4] = PAGE(4) | EPT_WB | EPT_ALL; /* more rights: nothing to invalidate */
    vmx_run();
    vmx_expect("fill-goes-on", REASON_VMCALL);
    guest_equal("fill-written", *(volatile uint64_t *)(PAGE(4) + 8), 0x1122334455667788);
    *(volatile uint64_t *)(PAGE(4) + 8) = 0;

    change(&pages[0][4], PAGE(4) | EPT_WB | EPT_READ);
    access(READ, PAGE(4));
    vmx_expect("fill-read-only", REASON_VMCALL);
    access(WRITE, PAGE(4));
    expect_violation("fill-write-protected", WHY_WRITE | WHY_ALLOWED(EPT_READ) | WHY_LINEAR | WHY_FINAL,
                     PAGE(4) + 8, PAGE(4) + 8);
    change(&pages[0][4], PAGE(4) | EPT_WB | EPT_ALL);
    vmx_run();
    vmx_expect("fill-write-allowed", REASON_VMCALL);
    *(volatile uint64_t *)(PAGE(4) + 8) = 0;
}

/* A page is what Lv1 says it is. */
static void remap_rows(void)
{
    prepare();
    *(volatile uint64_t *)(PAGE(5) + 16) = 0x5555;
    *(volatile uint64_t *)(PAGE(6) + 16) = 0x6666;
    access(READ, PAGE(5) + 16);
    guest_equal("remap-before", vmx_registers.rax, 0x5555);
    change(&pages[0][5], PAGE(6) | EPT_WB | EPT_ALL);
    access(READ, PAGE(5) + 16);
    guest_equal("remap-behind-invept", vmx_registers.rax, 0x6666);
    pages[0][5] = PAGE(7) | EPT_WB | EPT_ALL;
    *(volatile uint64_t *)(PAGE(7) + 16) = 0x7777;
    guest_equal("invept-all", vmx_invept(2, 0, 0), VMX_SUCCEED);
    access(READ, PAGE(5) + 16);
    guest_equal("remap-behind-invept-all", vmx_registers.rax, 0x7777);

    /* Another EPTP is another memory. */
    vmx_set(VMCS_EPTP, eptp_of(1));
    access(READ, PAGE(5) + 16);
    guest_equal("other-eptp", vmx_registers.rax, 0x5555);
    vmx_set(VMCS_EPTP, eptp_of(0));
    access(READ, PAGE(5) + 16);
    guest_equal("first-eptp-again", vmx_registers.rax, 0x7777);
    vmx_control(SECONDARY_EPT, false);
    access(READ, PAGE(5) + 16);
    guest_equal("without-ept", vmx_registers.rax, 0x5555);

    /* Beyond what EPT maps. */
    prepare();
    change(&pointers[0][3], 0);
    access(READ, 0xfee00020);
    expect_violation("no-devices", WHY_READ | WHY_LINEAR | WHY_FINAL, 0xfee00020, 0xfee00020);
}

/* ---- Lv2's own tables --------------------------------------------------------------------------------- */

#define WALK_LINEAR 0x8000000000UL /* entry 1 of the root */

/* Linear WALK_LINEAR is page 12, by tables in pages 8 to 11 from the top: the PDPT, the directory, the table.
 */
static void walk_prepare(uint64_t flags)
{
    prepare();
    memset((void *)PAGE(8), 0, 4 * PAGE_SIZE);
    guest_page_tables[1] = PAGE(8) | PAGE_PRESENT | PAGE_WRITE | flags;
    *(volatile uint64_t *)PAGE(8) = PAGE(9) | PAGE_PRESENT | PAGE_WRITE | flags;
    *(volatile uint64_t *)PAGE(9) = PAGE(10) | PAGE_PRESENT | PAGE_WRITE | flags;
    *(volatile uint64_t *)PAGE(10) =
        PAGE(12) | PAGE_PRESENT | PAGE_WRITE | flags | (flags != 0 ? PAGE_DIRTY : 0);
    *(volatile uint64_t *)PAGE(12) = 0xcccc;
}

static void walk_rows(void)
{
    char name[48];

    walk_prepare(PAGE_ACCESSED);
    access(READ, WALK_LINEAR);
    vmx_expect("walk", REASON_VMCALL);
    guest_equal("walk-value", vmx_registers.rax, 0xcccc);
    for (unsigned n = 8; n <= 10; n++) {
        walk_prepare(PAGE_ACCESSED);
        change(&pages[0][n], 0);
        access(READ, WALK_LINEAR);
        format_text(name, sizeof(name), "walk-missing-%u", n);
        expect_violation(name, WHY_READ | WHY_LINEAR, PAGE(n), WALK_LINEAR);
        access(WRITE, WALK_LINEAR);
        format_text(name, sizeof(name), "walk-missing-%u-for-write", n);
        expect_violation(name, WHY_READ | WHY_LINEAR, PAGE(n), WALK_LINEAR + 8);
        change(&pages[0][n], PAGE(n) | EPT_WB | EPT_READ);
        access(WRITE, WALK_LINEAR);
        format_text(name, sizeof(name), "walk-read-only-%u", n);
        vmx_expect(name, REASON_VMCALL);
    }
    /* A flag to be set in a table that is read-only. */
    walk_prepare(0);
    change(&pages[0][10], PAGE(10) | EPT_WB | EPT_READ);
    access(READ, WALK_LINEAR);
    guest_differs("walk-accessed-flag", vmx_exit.reason);
    guest_page_tables[1] = 0;

    /* What Lv2's tables refuse is a page fault of its own, whatever EPT says. */
    walk_prepare(PAGE_ACCESSED);
    change(&pages[0][12], 0);
    *(volatile uint64_t *)PAGE(10) = 0;
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_PF));
    access(READ, WALK_LINEAR);
    vmx_expect_event("walk-own-page-fault", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_PF, 0);
    guest_page_tables[1] = 0;
    write_cr3(read_cr3());
}

/* ---- Misconfigurations (28.2.3.1) --------------------------------------------------------------------- */

static void misconfiguration_rows(void)
{
    static const struct {
        const char *name;
        bool directory;
        uint64_t value;
    } rows[] = {
        {"type-2", false, PAGE(3) | EPT_TYPE(2) | EPT_ALL},
        {"type-3", false, PAGE(3) | EPT_TYPE(3) | EPT_ALL},
        {"type-7", false, PAGE(3) | EPT_TYPE(7) | EPT_ALL},
        {"page-beyond", false, PAGE(3) | BIT(51) | EPT_WB | EPT_ALL},
        {"directory-beyond", true, BIT(51) | EPT_ALL},
        {"directory-reserved", true, BIT(3) | EPT_ALL},
        {"large-reserved", true, PIECE | BIT(13) | EPT_LEAF | EPT_WB | EPT_ALL},
        {"large-type", true, PIECE | EPT_LEAF | EPT_TYPE(2) | EPT_ALL},
    };
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        prepare();
        if (rows[i].directory)
            change(&low[0][PIECE / MIB(2)],
                   rows[i].value | ((rows[i].value & EPT_LEAF) == 0 ? (uint64_t)pages[0] : 0));
        else
            change(&pages[0][3], rows[i].value);
        access(READ, PAGE(3));
        format_text(name, sizeof(name), "misconfigured-%s", rows[i].name);
        vmx_expect(name, REASON_EPT_MISCONFIGURATION);
        format_text(name, sizeof(name), "misconfigured-%s-address", rows[i].name);
        guest_equal(name, vmx_get(VMCS_PHYSICAL_ADDRESS), PAGE(3));
    }
    /* An entry without rights is not there, whatever else it says. */
    prepare();
    change(&pages[0][3], PAGE(3) | EPT_TYPE(2) | BIT(51));
    access(READ, PAGE(3));
    expect_violation("not-present-is-none", WHY_READ | WHY_LINEAR | WHY_FINAL, PAGE(3), PAGE(3));
    prepare();
    change(&pages[0][3], PAGE(3) | EPT_TYPE(0) | EPT_ALL);
    access(READ, PAGE(3));
    vmx_expect("uncached", REASON_VMCALL);
}

/* ---- Accessed and dirty flags (28.2.4) ---------------------------------------------------------------- */

static void flag_rows(void)
{
    const uint64_t flags = EPT_ACCESSED | EPT_DIRTY;
    uint64_t *directory = &low[0][PIECE / MIB(2)];

    prepare();
    access(WRITE, PAGE(3));
    guest_equal("flags-off", (pages[0][3] | *directory | pointers[0][0] | roots[0][0]) & flags, 0);
    if ((capabilities & CAP_FLAGS) == 0) {
        guest_differs("flags-not-offered", 1);
        return;
    }
    prepare();
    vmx_set(VMCS_EPTP, eptp_of(0) | EPTP_FLAGS);
    vmx_run_at(lv2_nothing);
    vmx_expect("flags-on", REASON_VMCALL);
    guest_equal("flags-untouched", (pages[0][3] | *directory) & flags, 0);
    guest_equal("flags-root", roots[0][0] & flags, EPT_ACCESSED);
    guest_equal("flags-pointer", pointers[0][0] & flags, EPT_ACCESSED);
    access(READ, PAGE(3));
    guest_equal("flags-read", pages[0][3] & flags, EPT_ACCESSED);
    guest_equal("flags-read-directory", *directory & flags, EPT_ACCESSED);
    access(WRITE, PAGE(3));
    guest_equal("flags-write", pages[0][3] & flags, EPT_ACCESSED | EPT_DIRTY);
    guest_equal("flags-write-directory", *directory & flags, EPT_ACCESSED);
    access(FETCH, PAGE(2));
    guest_equal("flags-fetch", pages[0][2] & flags, EPT_ACCESSED);
    access(WRITE, LARGE_A);
    guest_equal("flags-large", low[0][LARGE_A / MIB(2)] & flags, EPT_ACCESSED | EPT_DIRTY);
    access(READ, LARGE_B);
    guest_equal("flags-large-read", low[0][LARGE_B / MIB(2)] & flags, EPT_ACCESSED);
    /* Cleared, and nothing cached: set again. */
    pages[0][3] &= ~flags;
    vmx_invept(1, eptp_of(0) | EPTP_FLAGS, 0);
    access(READ, PAGE(3));
    guest_equal("flags-again", pages[0][3] & flags, EPT_ACCESSED);
    /* A walk of Lv2's tables counts as a write to them (28.2.3.2). */
    walk_prepare(PAGE_ACCESSED);
    vmx_set(VMCS_EPTP, eptp_of(0) | EPTP_FLAGS);
    access(READ, WALK_LINEAR);
    vmx_expect("flags-walk", REASON_VMCALL);
    guest_equal("flags-walk-table", pages[0][10] & flags, EPT_ACCESSED | EPT_DIRTY);
    guest_equal("flags-walk-page", pages[0][12] & flags, EPT_ACCESSED);
    walk_prepare(PAGE_ACCESSED);
    vmx_set(VMCS_EPTP, eptp_of(0) | EPTP_FLAGS);
    pages[0][10] = PAGE(10) | EPT_WB | EPT_READ;
    vmx_invept(1, eptp_of(0) | EPTP_FLAGS, 0);
    access(READ, WALK_LINEAR);
    vmx_expect("flags-walk-read-only", REASON_EPT_VIOLATION);
    guest_equal("flags-walk-read-only-why", vmx_exit.qualification & (WHY_WRITE | WHY_LINEAR | WHY_FINAL),
                WHY_WRITE | WHY_LINEAR);
    guest_page_tables[1] = 0;
    write_cr3(read_cr3());
}

/* ---- Page sizes --------------------------------------------------------------------------------------- */

static void size_rows(void)
{
    *(volatile uint64_t *)(LARGE_A + 0x54320) = 0xaaaa;
    *(volatile uint64_t *)(LARGE_B + 0x54320) = 0xbbbb;
    prepare();
    access(READ, LARGE_A + 0x54320);
    guest_equal("2m", vmx_registers.rax, 0xaaaa);
    change(&low[0][LARGE_A / MIB(2)], LARGE_B | EPT_LEAF | EPT_WB | EPT_ALL);
    access(READ, LARGE_A + 0x54320);
    guest_equal("2m-remapped", vmx_registers.rax, 0xbbbb);
    change(&low[0][LARGE_A / MIB(2)], LARGE_B | EPT_LEAF | EPT_WB | EPT_READ);
    access(WRITE, LARGE_A + 0x54320);
    expect_violation("2m-violation", WHY_WRITE | WHY_ALLOWED(EPT_READ) | WHY_LINEAR | WHY_FINAL,
                     LARGE_A + 0x54328, LARGE_A + 0x54328);
    if ((capabilities & CAP_1G) == 0) {
        guest_differs("1g-not-offered", 1);
        return;
    }
    prepare();
    change(&pointers[0][0], EPT_LEAF | EPT_WB | EPT_ALL);
    access(READ, LARGE_B + 0x54320);
    vmx_expect("1g", REASON_VMCALL);
    guest_equal("1g-value", vmx_registers.rax, 0xbbbb);
    change(&pointers[0][0], BIT(20) | EPT_LEAF | EPT_WB | EPT_ALL);
    access(READ, LARGE_B);
    vmx_expect("1g-reserved", REASON_EPT_MISCONFIGURATION);
}

/* ---- An event under way ------------------------------------------------------------------------------- */

static void delivery_rows(void)
{
    prepare();
    change(&pages[0][20], 0);
    vmx_set(VMCS_ENTRY_EVENT, EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP);
    vmx_set(VMCS_ENTRY_EVENT_ERROR, 0x30);
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_set(VMCS_GUEST_RSP, PAGE(21));
    vmx_run();
    vmx_expect("delivery-violates", REASON_EPT_VIOLATION);
    guest_equal("delivery-vectoring", vmx_exit.vectoring & ~EVENT_UNDEFINED,
                EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP);
    guest_equal("delivery-vectoring-error", vmx_exit.vectoring_error, 0x30);
    guest_equal("delivery-why", vmx_exit.qualification & WHY_MASK, WHY_WRITE | WHY_LINEAR | WHY_FINAL);
    guest_equal("delivery-rip", vmx_exit.rip, (uint64_t)lv2_nothing);
    guest_equal("delivery-rsp", vmx_get(VMCS_GUEST_RSP), PAGE(21));
    /* And an ordinary violation is no delivery. */
    prepare();
    change(&pages[0][3], 0);
    access(READ, PAGE(3));
    guest_equal("no-delivery-vectoring", vmx_exit.vectoring & EVENT_VALID, 0);
}

/* ---- Invalidations ------------------------------------------------------------------------------------ */

static void invept_rows(void)
{
    prepare();
    guest_equal("invept-single", vmx_invept(1, eptp_of(0), 0), VMX_SUCCEED);
    guest_equal("invept-every", vmx_invept(2, 0, 0), VMX_SUCCEED);
    vmx_expect_error("invept-type-0", vmx_invept(0, eptp_of(0), 0), 28);
    vmx_expect_error("invept-type-3", vmx_invept(3, eptp_of(0), 0), 28);
    vmx_expect_error("invept-bad-type", vmx_invept(1, (eptp_of(0) & ~7UL) | 5, 0), 28);
    vmx_expect_error("invept-bad-walk", vmx_invept(1, (eptp_of(0) & ~0x38UL) | 2 << 3, 0), 28);
    vmx_expect_error("invept-reserved", vmx_invept(1, eptp_of(0) | BIT(8), 0), 28);
    vmx_expect_error("invept-beyond", vmx_invept(1, eptp_of(0) | BIT(55), 0), 28);
    TRY("invept (%0), %1", : : "r"(GUEST_UNMAPPED), "r"(2UL) : "memory", "cc");
    guest_expect("invept-absent", VECTOR_PF, 0, 0);
    TRY("invept (%0), %1", : : "r"(NON_CANONICAL), "r"(2UL) : "memory", "cc");
    guest_expect("invept-non-canonical", VECTOR_GP, 0, 0);
}

static void vpid_rows(void)
{
    static const char *const types[] = {"address", "single", "all", "but-global"};
    volatile uint64_t *mapped = (uint64_t *)(GUEST_WINDOW + 5 * PAGE_SIZE);
    char name[48];

    if (!vmx_may_set(SECONDARY_VPID) || (capabilities & CAP_INVVPID) == 0) {
        guest_differs("vpid-not-offered", 1);
        return;
    }
    vmx_prepare();
    for (unsigned type = 0; type < ARRAY_SIZE(types); type++) {
        format_text(name, sizeof(name), "invvpid-%s", types[type]);
        guest_equal(name, vmx_invvpid(type, 1, 0x1000), VMX_SUCCEED);
        format_text(name, sizeof(name), "invvpid-%s-vpid-0", types[type]);
        if (type == 2)
            guest_equal(name, vmx_invvpid(type, 0, 0), VMX_SUCCEED);
        else
            vmx_expect_error(name, vmx_invvpid(type, 0, 0x1000), 28);
        format_text(name, sizeof(name), "invvpid-%s-reserved", types[type]);
        vmx_expect_error(name, vmx_invvpid(type, 1 | BIT(16), 0x1000), 28);
        format_text(name, sizeof(name), "invvpid-%s-non-canonical", types[type]);
        if (type == 0)
            vmx_expect_error(name, vmx_invvpid(type, 1, NON_CANONICAL), 28);
        else
            guest_equal(name, vmx_invvpid(type, 1, NON_CANONICAL), VMX_SUCCEED);

        /* What it is for: Lv1 changes Lv2's tables, and says so. */
        vmx_prepare();
        vmx_control(SECONDARY_VPID, true);
        vmx_set(VMCS_VPID, 1);
        *(volatile uint64_t *)(PAGE(30) + 16) = 0x3030;
        *(volatile uint64_t *)(PAGE(31) + 16) = 0x3131;
        guest_map(5, PAGE(30) | PAGE_PRESENT | PAGE_WRITE);
        vmx_invvpid(2, 0, 0);
        access(READ, (uint64_t)mapped + 16);
        format_text(name, sizeof(name), "invvpid-%s-before", types[type]);
        guest_equal(name, vmx_registers.rax, 0x3030);
        guest_map(5, PAGE(31) | PAGE_PRESENT | PAGE_WRITE);
        vmx_invvpid(type, 1, (uint64_t)mapped);
        access(READ, (uint64_t)mapped + 16);
        format_text(name, sizeof(name), "invvpid-%s-behind", types[type]);
        guest_equal(name, vmx_registers.rax, 0x3131);
    }
    vmx_expect_error("invvpid-type-4", vmx_invvpid(4, 1, 0), 28);
    TRY("invvpid (%0), %1", : : "r"(GUEST_UNMAPPED), "r"(2UL) : "memory", "cc");
    guest_expect("invvpid-absent", VECTOR_PF, 0, 0);
    guest_map(5, 0);
}

/* ---- Unrestricted guest ------------------------------------------------------------------------------- */

extern const char lv2_protected[];
__asm__(".pushsection .text\n.code32\n"
        "lv2_protected: movl %cr0, %eax; movl $0x12345678, %esi; vmcall; ud2\n.code64\n.popsection");

/* 32-bit code without paging, as no other Lv2 may run. */
static void unrestricted_rows(void)
{
    const uint64_t cr0 = CR0_PE | CR0_ET | CR0_NE;

    if (!vmx_may_set(SECONDARY_UNRESTRICTED)) {
        guest_differs("unrestricted-not-offered", 1);
        return;
    }
    prepare();
    vmx_control(ENTRY_IA32E, false);
    vmx_set(VMCS_GUEST_CR0, cr0);
    vmx_set(VMCS_GUEST_CS, SELECTOR_CODE32);
    vmx_set(VMCS_GUEST_CS_RIGHTS, 0xc09b);
    vmx_run_at(lv2_protected);
    guest_equal("restricted", vmx_exit.reason, REASON_ENTRY_FAILURE | REASON_GUEST_STATE);
    vmx_control(SECONDARY_UNRESTRICTED, true);
    vmx_run_at(lv2_protected);
    vmx_expect("unrestricted", REASON_VMCALL);
    guest_equal("unrestricted-cr0", vmx_registers.rax, cr0);
    guest_equal("unrestricted-ran", vmx_registers.rsi, 0x12345678);
    if (vmx_may_set(EXIT_SAVE_EFER)) {
        vmx_control(EXIT_SAVE_EFER, true);
        vmx_run_at(lv2_protected);
        guest_equal("unrestricted-efer", vmx_get(VMCS_GUEST_EFER) & EFER_LMA, 0);
    }
}

void guest_main(void)
{
    CHECK("vmx", vmx_exists());
    if (!vmx_may_set(SECONDARY_EPT)) {
        guest_differs("ept-not-offered", 1);
        return;
    }
    capabilities = rdmsr(MSR_VMX_EPT_VPID);
    CHECK("capability-walk-of-4", (capabilities & BIT(6)) != 0);
    CHECK("capability-uncached", (capabilities & BIT(8)) != 0);
    CHECK("capability-write-back", (capabilities & BIT(14)) != 0);
    CHECK("capability-2m", (capabilities & CAP_2M) != 0);
    CHECK("capability-invept", (capabilities & (CAP_INVEPT | CAP_INVEPT_SINGLE | CAP_INVEPT_ALL)) ==
                                   (CAP_INVEPT | CAP_INVEPT_SINGLE | CAP_INVEPT_ALL));
    guest_value("capability-execute-only", capabilities & CAP_EXECUTE_ONLY);
    for (unsigned n = 0; n < 64; n++)
        memcpy((void *)PAGE(n), "\x0f\x01\xc1", 3); /* VMCALL */
    vmx_enable();
    prepare();
    vmx_run_at(lv2_nothing);
    vmx_expect("identity", REASON_VMCALL);
    rights_rows();
    fill_rows();
    remap_rows();
    walk_rows();
    misconfiguration_rows();
    flag_rows();
    size_rows();
    delivery_rows();
    invept_rows();
    vpid_rows();
    unrestricted_rows();
    vmx_off();
}
