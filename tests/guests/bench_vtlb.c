// SPDX-License-Identifier: BSD-2-Clause
/*
 * What address translation costs a guest that keeps its own tables: faults, flushes, address spaces, a
 * process that is forked and ends.
 *
 * The memory, from the playground on: tables, pages that are mapped, pages for copies.
 */
#include "lib/string.h"
#include "tests/guests/lib/bench.h"

#define TABLES     (GUEST_PLAYGROUND)
#define DATA       (GUEST_PLAYGROUND + MIB(2))
#define COPIES     (GUEST_PLAYGROUND + MIB(6))
#define DATA_4K    1024                         /* pages there; page n is mapped to frame n modulo this */
#define BASE       0x10000000000UL              /* entry 2 of a root: its own pages */
#define GLOBALS    0x18000000000UL              /* entry 3: pages that all roots share */
#define USED       (PAGE_ACCESSED | PAGE_DIRTY) /* as kernels map what is about to be written */
#define FULL       (PAGE_PRESENT | PAGE_WRITE | PAGE_USER)
#define FRAME      0xffffffffff000UL /* address bits of an entry */
#define FAULTS     1024
#define GROUP      8 /* pages of "8 pages touched in order" */
#define SWITCHES   1000
#define COPIED     512 /* pages: as many as there is room for */
#define REGIONS    64  /* places of what is mapped and unmapped again */
#define FORKS      16
#define FORK_PAGES 64 /* that the parent has below each page table */

/* ---- Address spaces ----------------------------------------------------------------------------------- */

static uint64_t next_table;
static uint64_t root_a, root_b, root_child, root_current;

static inline void load_root(uint64_t root)
{
    root_current = root;
    write_cr3(root);
}

static uint64_t table_new(void)
{
    uint64_t table = next_table;

    next_table += PAGE_SIZE;
    memset((void *)table, 0, PAGE_SIZE);
    return table;
}

/* A root that has what the framework maps, and nothing else. */
static uint64_t root_new(void)
{
    uint64_t root = table_new();

    *(volatile uint64_t *)root = guest_page_tables[0];
    return root;
}

/* The page-table entry of `address` below `root`; tables that are missing are made. */
static volatile uint64_t *entry_of(uint64_t root, uint64_t address)
{
    volatile uint64_t *table = (volatile uint64_t *)root;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        volatile uint64_t *entry = &table[address >> shift & 511];
        if ((*entry & PAGE_PRESENT) == 0)
            *entry = table_new() | FULL | PAGE_ACCESSED;
        table = (volatile uint64_t *)(*entry & FRAME);
    }
    return &table[address >> 12 & 511];
}

static uint64_t page_of(unsigned n)
{
    return BASE + (uint64_t)n * PAGE_SIZE;
}

static uint64_t frame_of(unsigned n)
{
    return DATA + (uint64_t)(n % DATA_4K) * PAGE_SIZE;
}

static void map_pages(uint64_t root, unsigned first, unsigned count, uint64_t bits)
{
    for (unsigned n = first; n < first + count; n++)
        *entry_of(root, page_of(n)) = frame_of(n) | bits;
}

static void touch(uint64_t address)
{
    *(volatile uint8_t *)address = 1;
}

static void touch_pages(unsigned count)
{
    for (unsigned n = 0; n < count; n++)
        touch(page_of(n));
}

/* Everything anew: tables, the two roots, what was cached of them. */
static void spaces_reset(void)
{
    next_table = TABLES;
    load_root((uint64_t)guest_page_tables);
    root_a = root_new();
    root_b = root_new();
    load_root(root_b);
    load_root(root_a);
}

/* ---- Page faults: a kernel's ----------------------------------------------------------------------------
 */

static unsigned faults, not_deserved;
static uint64_t next_copy;

/* Maps what is missing, copies what is read-only. A fault that the tables permit is nobody's. */
static void on_page_fault(struct guest_frame *frame)
{
    uint64_t address = read_cr2();
    volatile uint64_t *entry = entry_of(root_current, address);

    faults++;
    if ((*entry & PAGE_PRESENT) == 0) {
        *entry = frame_of((unsigned)(address - BASE) / PAGE_SIZE) | FULL | USED;
        return;
    }
    if ((frame->error & PF_WRITE) == 0 || (*entry & PAGE_WRITE) != 0) {
        not_deserved++;
        return;
    }
    memcpy((void *)next_copy, (void *)(*entry & FRAME), PAGE_SIZE);
    *entry = next_copy | FULL | USED;
    next_copy += PAGE_SIZE;
    invlpg((void *)address);
}

/* The smallest handler: steps over the three bytes of the access in fault_cost(). */
extern const char step_over[];
__asm__(".pushsection .text\n.balign 16\nstep_over: addq $8, %rsp; addq $3, (%rsp); iretq\n.popsection");

static void handler_minimal(void)
{
    uint64_t address = (uint64_t)step_over;

    guest_idt[VECTOR_PF].offset_low = (uint16_t)address;
    guest_idt[VECTOR_PF].offset_middle = (uint16_t)(address >> 16);
}

/* ---- The phases; `n` and `m` are the table's ------------------------------------------------------------
 */

static void touch_group(unsigned first)
{
    for (unsigned n = first; n < first + GROUP; n++)
        touch(page_of(n));
}

static void prepare_demand(unsigned n, unsigned m)
{
    (void)m;
    spaces_reset();
    (void)entry_of(root_a, page_of(n - 1));
}

/* A kernel's first touch of each of `n` pages, page i · m modulo n: ascending if m is 1. */
static void run_demand(unsigned n, unsigned m)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t address = page_of(i * m % n);
        bench_sample_begin();
        touch(address);
        bench_sample_end();
    }
}

/* `n` pages that the guest has mapped, and nobody has touched yet. */
static void prepare_mapped(unsigned n, unsigned m)
{
    (void)m;
    spaces_reset();
    map_pages(root_a, 0, n, FULL | USED);
}

/* One flush, then group by group in order. */
static void run_groups(unsigned n, unsigned m)
{
    (void)m;
    load_root(root_a);
    for (unsigned i = 0; i < n; i += GROUP) {
        bench_sample_begin();
        touch_group(i);
        bench_sample_end();
    }
}

static void prepare_touched(unsigned n, unsigned m)
{
    prepare_mapped(n, m);
    touch_pages(n);
}

/* A flush before every group, of pages that were touched before it. */
static void run_flush_groups(unsigned n, unsigned m)
{
    (void)m;
    for (unsigned i = 0; i < n; i += GROUP) {
        bench_sample_begin();
        load_root(root_a);
        touch_group(i);
        bench_sample_end();
    }
}

static void prepare_switch(unsigned n, unsigned m)
{
    (void)m;
    spaces_reset();
    map_pages(root_a, 0, n, FULL | USED);
    map_pages(root_b, 0, n, FULL | USED);
    for (unsigned i = 0; i < 2; i++) {
        load_root(root_b);
        touch_pages(n);
        load_root(root_a);
        touch_pages(n);
    }
}

/* From A to B and back `m` times, `n` pages touched in each; a sample is one load of CR3. */
static void run_switch(unsigned n, unsigned m)
{
    for (unsigned i = 0; i < m; i++) {
        bench_sample_begin();
        load_root(root_b);
        bench_sample_end();
        touch_pages(n);
        bench_sample_begin();
        load_root(root_a);
        bench_sample_end();
        touch_pages(n);
    }
}

/*
 * The same with `n` tables of one page for each of the two spaces, of which the guest changes `m` while the
 * other space is current; all are touched afterwards.
 */
static void prepare_changed(unsigned n, unsigned m)
{
    (void)m;
    spaces_reset();
    for (unsigned t = 0; t < n; t++) {
        map_pages(root_a, t * 512, 1, FULL | USED);
        map_pages(root_b, t * 512, 1, FULL | USED);
    }
    for (unsigned i = 0; i < 4; i++) {
        load_root((i & 1) == 0 ? root_b : root_a);
        for (unsigned t = 0; t < n; t++)
            touch(page_of(t * 512));
    }
}

static void run_changed(unsigned n, unsigned m)
{
    uint64_t current = root_a, other = root_b;

    for (unsigned i = 0; i < SWITCHES; i++) {
        for (unsigned t = 0; t < m; t++)
            *entry_of(other, page_of(t * 512)) = frame_of(i + t) | FULL | USED;
        bench_sample_begin();
        load_root(other);
        bench_sample_end();
        for (unsigned t = 0; t < n; t++)
            touch(page_of(t * 512));
        uint64_t was = current;
        current = other;
        other = was;
    }
    load_root(root_a);
}

/*
 * A process with `tables` page tables forks. Its child reads a page below each, writes `copied` pages, and
 * ends; the parent then writes what the child had written. The way a kernel does it without PCID: the load of
 * the child's root flushes what was write-protected, that of the parent's what was freed.
 */
static void fork_and_exit(unsigned tables, unsigned copied)
{
    unsigned each = copied / tables;

    next_copy = COPIES;
    for (unsigned t = 0; t < tables; t++) {
        volatile uint64_t *parent = entry_of(root_a, page_of(t * 512));
        volatile uint64_t *child = entry_of(root_child, page_of(t * 512));
        for (unsigned k = 0; k < FORK_PAGES; k++) {
            parent[k] &= ~PAGE_WRITE;
            child[k] = parent[k] & ~PAGE_ACCESSED;
        }
    }
    load_root(root_child);
    for (unsigned t = 0; t < tables; t++) {
        (void)*(volatile uint8_t *)page_of(t * 512 + FORK_PAGES - 1);
        for (unsigned k = 0; k < each; k++)
            touch(page_of(t * 512 + k));
    }
    for (unsigned t = 0; t < tables; t++) {
        volatile uint64_t *parent = entry_of(root_a, page_of(t * 512));
        volatile uint64_t *child = entry_of(root_child, page_of(t * 512));
        for (unsigned k = 0; k < FORK_PAGES; k++) {
            child[k] = 0;
            parent[k] |= PAGE_WRITE;
        }
    }
    load_root(root_a);
    for (unsigned t = 0; t < tables; t++)
        for (unsigned k = 0; k < each; k++)
            touch(page_of(t * 512 + k));
}

static void prepare_fork(unsigned n, unsigned m)
{
    spaces_reset();
    for (unsigned t = 0; t < n; t++)
        map_pages(root_a, t * 512, FORK_PAGES, FULL | USED);
    for (unsigned t = 0; t < n; t++)
        for (unsigned k = 0; k < FORK_PAGES; k++)
            touch(page_of(t * 512 + k));
    root_child = root_new();
    for (unsigned t = 0; t < n; t++)
        (void)entry_of(root_child, page_of(t * 512));
    fork_and_exit(n, m);
}

static void run_fork(unsigned n, unsigned m)
{
    for (unsigned i = 0; i < FORKS; i++) {
        bench_sample_begin();
        fork_and_exit(n, m);
        bench_sample_end();
    }
}

/* `n` pages, each touched three times and far from the one before, between two flushes. */
static void run_distinct(unsigned n, unsigned m)
{
    load_root(root_a);
    for (unsigned i = 0; i < 3 * n; i++) {
        bench_sample_begin();
        touch(page_of(i * m % n));
        bench_sample_end();
    }
    load_root(root_a);
}

/* `n` global pages in a table that both spaces have. */
static void prepare_globals(unsigned n, unsigned m)
{
    (void)m;
    spaces_reset();
    write_cr4(read_cr4() | CR4_PGE);
    for (unsigned k = 0; k < n; k++)
        *entry_of(root_a, GLOBALS + k * PAGE_SIZE) = frame_of(k) | FULL | USED | PAGE_GLOBAL;
    ((volatile uint64_t *)root_b)[3] = ((volatile uint64_t *)root_a)[3];
    for (unsigned i = 0; i < 4; i++) {
        load_root((i & 1) == 0 ? root_b : root_a);
        for (unsigned k = 0; k < n; k++)
            touch(GLOBALS + k * PAGE_SIZE);
    }
}

/* All of them after each load of CR3: of the same root, or, if `m`, of the two by turns. */
static void run_globals(unsigned n, unsigned m)
{
    for (unsigned i = 0; i < SWITCHES; i++) {
        load_root((i & 1) == 0 && m != 0 ? root_b : root_a);
        bench_sample_begin();
        for (unsigned k = 0; k < n; k++)
            touch(GLOBALS + k * PAGE_SIZE);
        bench_sample_end();
    }
}

/* `n` pages that lie GROUP apart, with `m` neighbours each, and nobody has touched yet. */
static void prepare_fill(unsigned n, unsigned m, uint64_t bits)
{
    spaces_reset();
    for (unsigned i = 0; i < n; i++)
        map_pages(root_a, i * GROUP, m + 1, FULL | bits);
    load_root(root_a);
}

static void prepare_fill_used(unsigned n, unsigned m)
{
    prepare_fill(n, m, USED);
}

static void prepare_fill_unused(unsigned n, unsigned m)
{
    prepare_fill(n, m, 0);
}

static void run_fill(unsigned n, unsigned m)
{
    (void)m;
    for (unsigned i = 0; i < n; i++) {
        uint64_t address = page_of(i * GROUP);
        bench_sample_begin();
        touch(address);
        bench_sample_end();
    }
}

/* The first store to `n` pages that were read: D is to be set. */
static void prepare_first_store(unsigned n, unsigned m)
{
    prepare_fill(n, m, PAGE_ACCESSED);
    for (unsigned i = 0; i < n; i++)
        (void)*(volatile uint8_t *)page_of(i * GROUP);
}

static void prepare_fault(unsigned n, unsigned m)
{
    (void)n;
    (void)m;
    spaces_reset();
    (void)entry_of(root_a, BASE);
    handler_minimal();
}

/* A page that is not there, and a handler that does nothing but go on behind the access. */
static void run_fault(unsigned n, unsigned m)
{
    (void)m;
    for (unsigned i = 0; i < n; i++) {
        uint64_t seen;
        bench_sample_begin();
        __asm__ volatile(".byte 0x48, 0x8b, 0x07" /* movq (%%rdi), %%rax */
                         : "=a"(seen)
                         : "D"(BASE)
                         : "memory", "cc");
        bench_sample_end();
    }
    guest_gate_reset(VECTOR_PF);
}

/* `n` pages that may not be written, though the kernel's handler will copy them, and that have been read. */
static void prepare_copies(unsigned n, unsigned m)
{
    (void)m;
    spaces_reset();
    next_copy = COPIES;
    map_pages(root_a, 0, n, PAGE_PRESENT | PAGE_USER | PAGE_ACCESSED);
    for (unsigned i = 0; i < n; i++)
        (void)*(volatile uint8_t *)page_of(i);
}

static void run_copies(unsigned n, unsigned m)
{
    (void)m;
    for (unsigned i = 0; i < n; i++) {
        bench_sample_begin();
        touch(page_of(i));
        bench_sample_end();
    }
}

static void prepare_regions(unsigned n, unsigned m)
{
    (void)n;
    spaces_reset();
    (void)entry_of(root_a, page_of(REGIONS * m - 1));
}

/* `n` times: `m` pages are mapped, touched, and unmapped again, each with its INVLPG. */
static void run_regions(unsigned n, unsigned m)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned first = i % REGIONS * m;
        bench_sample_begin();
        map_pages(root_a, first, m, FULL | USED);
        for (unsigned k = first; k < first + m; k++)
            touch(page_of(k));
        for (unsigned k = first; k < first + m; k++) {
            *entry_of(root_a, page_of(k)) = 0;
            invlpg((void *)page_of(k));
        }
        bench_sample_end();
    }
}

/* A page that is in use, so that it is filled again before the next; or one that is not. */
static void run_invlpg(unsigned n, unsigned m)
{
    for (unsigned i = 0; i < n; i++) {
        void *address = (void *)page_of(i % 64);
        if (m != 0)
            touch((uint64_t)address);
        bench_sample_begin();
        invlpg(address);
        bench_sample_end();
    }
}

static void run_cr3(unsigned n, unsigned m)
{
    (void)m;
    for (unsigned i = 0; i < n; i++) {
        bench_sample_begin();
        load_root(root_a);
        bench_sample_end();
    }
}

/* `m` more pages are in use meanwhile, and touched after each. */
static void run_toggle_wp(unsigned n, unsigned m)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t cr0 = read_cr0() ^ CR0_WP;
        bench_sample_begin();
        write_cr0(cr0);
        bench_sample_end();
        touch_pages(m);
    }
}

static void run_toggle_pge(unsigned n, unsigned m)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t cr4 = read_cr4() ^ CR4_PGE;
        bench_sample_begin();
        write_cr4(cr4);
        bench_sample_end();
        touch_pages(m);
    }
}

static void prepare_toggles(unsigned n, unsigned m)
{
    (void)n;
    prepare_touched(m, 0);
    for (unsigned i = 0; i < 4; i++) {
        write_cr0(read_cr0() ^ CR0_WP);
        touch_pages(m);
    }
}

static const struct bench_phase phases[] = {
    {"demand-ascending", FAULTS, FAULTS, 1, prepare_demand, run_demand},
    {"demand-random", FAULTS, FAULTS, 197, prepare_demand, run_demand},
    {"touch-8-mapped", 4096 / GROUP, 4096, 0, prepare_mapped, run_groups},
    {"flush-touch-8", 4096 / GROUP, 4096, 0, prepare_touched, run_flush_groups},
    {"switch-8", SWITCHES, 8, SWITCHES, prepare_switch, run_switch},
    {"switch-64", SWITCHES, 64, SWITCHES, prepare_switch, run_switch},
    {"switch-512", SWITCHES / 2, 512, SWITCHES / 2, prepare_switch, run_switch},
    {"switch-4096", SWITCHES / 4, 4096, SWITCHES / 4, prepare_switch, run_switch},
    {"switch-changed-0", SWITCHES, 8, 0, prepare_changed, run_changed},
    {"switch-changed-1", SWITCHES, 8, 1, prepare_changed, run_changed},
    {"switch-changed-2", SWITCHES, 8, 2, prepare_changed, run_changed},
    {"copy-on-write", COPIED, COPIED, 0, prepare_copies, run_copies},
    {"map-touch-unmap-8", SWITCHES, SWITCHES, 8, prepare_regions, run_regions},
    {"fork-t1-c0", FORKS, 1, 0, prepare_fork, run_fork},
    {"fork-t4-c16", FORKS, 4, 16, prepare_fork, run_fork},
    {"fork-t16-c0", FORKS, 16, 0, prepare_fork, run_fork},
    {"fork-t16-c64", FORKS, 16, 64, prepare_fork, run_fork},
    {"distinct", FAULTS, FAULTS, 197, prepare_mapped, run_distinct},
    {"globals", SWITCHES, 64, 0, prepare_globals, run_globals},
    {"globals-two-roots", SWITCHES, 64, 1, prepare_globals, run_globals},
    {"fill", FAULTS, FAULTS, 0, prepare_fill_used, run_fill},
    {"fill-with-neighbours", FAULTS, FAULTS, GROUP - 1, prepare_fill_used, run_fill},
    {"fill-sets-a-d", FAULTS, FAULTS, 0, prepare_fill_unused, run_fill},
    {"first-store", FAULTS, FAULTS, 0, prepare_first_store, run_fill},
    {"fault-passed-on", FAULTS, FAULTS, 0, prepare_fault, run_fault},
    {"invlpg-unused", FAULTS, FAULTS, 0, prepare_mapped, run_invlpg},
    {"invlpg-used", FAULTS, FAULTS, 1, prepare_touched, run_invlpg},
    {"cr3-same", SWITCHES, SWITCHES, 0, prepare_touched, run_cr3},
    {"toggle-wp", SWITCHES, SWITCHES, 8, prepare_toggles, run_toggle_wp},
    {"toggle-pge", SWITCHES, SWITCHES, 8, prepare_toggles, run_toggle_pge},
};

/* ---- Their order -------------------------------------------------------------------------------------- */

static void run(const struct bench_phase *phase, uint64_t overhead)
{
    bench_run(phase, overhead);
    write_cr4(read_cr4() & ~CR4_PGE);
}

void guest_main(void)
{
    uint64_t overhead = bench_overhead();

    bench_init();
    write_cr0(read_cr0() | CR0_WP);
    guest_handlers[VECTOR_PF] = on_page_fault;
    for (size_t i = 0; i < ARRAY_SIZE(phases); i++)
        run(&phases[i], overhead);
    bench_end();
    guest_check(not_deserved == 0, "faults-deserved", "%u of %u page faults are not", not_deserved, faults);
}
