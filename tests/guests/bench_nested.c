// SPDX-License-Identifier: BSD-2-Clause
/*
 * What nesting costs: instructions by the TSC, and exits for whoever counts them outside (tests/guests/lib/
 * bench.h). On a bare processor the same rows are the cost of a single level.
 */
#include "tests/guests/lib/bench.h"
#include "tests/guests/lib/vmx.h"

#define OPERATIONS 2000

_Static_assert(OPERATIONS <= BENCH_SAMPLES, "a sample for each");

static uint32_t virtual_apic[1024] __aligned(4096);

/* ---- In Lv2 ------------------------------------------------------------------------------------------- */

/* R9 samples to R8. The operation may change RAX, RBX, RCX, RDX, R10 and R11. */
#define LV2_LOOP(name, prepare, operation)                                                                   \
    LV2(name, prepare "\n 1: rdtsc; movl %eax, %esi\n" operation                                             \
                      "\n rdtsc; subl %esi, %eax; movq %rax, (%r8); addq $8, %r8; decq %r9; jnz 1b")

LV2_LOOP(loop_nothing, "", "");
LV2_LOOP(loop_cpuid, "", "cpuid");
LV2_LOOP(loop_ts, "movq %cr0, %r10", "xorq $8, %r10; movq %r10, %cr0");
LV2_LOOP(loop_mp, "movq %cr0, %r10", "xorq $2, %r10; movq %r10, %cr0");
LV2_LOOP(loop_em, "movq %cr0, %r10", "xorq $4, %r10; movq %r10, %cr0");
LV2_LOOP(loop_clts, "", "clts");
LV2_LOOP(loop_read_cr0, "", "movq %cr0, %rax");
LV2_LOOP(loop_pge, "movq %cr4, %r10", "xorq $0x80, %r10; movq %r10, %cr4");
LV2_LOOP(loop_read_cr4, "", "movq %cr4, %rax");
LV2_LOOP(loop_cr3, "movq %cr3, %r10", "movq %r10, %cr3");
LV2_LOOP(loop_invlpg, "", "invlpg (%r8)");
LV2_LOOP(loop_read_cr8, "", "movq %cr8, %rax");
LV2_LOOP(loop_missing, "movq $0x1000000, %r11", "movq (%r11), %rax");
LV2_LOOP(loop_pages, "", "addq $0x1000, %r11; movq (%r11), %rax");
LV2_LOOP(loop_write_cr8, "xorl %r10d, %r10d", "xorl $1, %r10d; movq %r10, %cr8");

/*
 * The smallest handler: what the exit was, behind the instruction if it was CPUID, back. Anything else ends
 * the measurement. Uses what the loops leave to an operation.
 */
extern const char smallest_handler[];
__asm__(".text\n.balign 16\n"
        "smallest_handler: movl $0x4402, %eax; vmread %rax, %rcx; cmpl $10, %ecx; jne vmx_returned\n"
        "movl $0x681e, %eax; vmread %rax, %rcx; movl $0x440c, %edx; vmread %rdx, %rdx\n"
        "addq %rdx, %rcx; vmwrite %rcx, %rax; vmresume; ud2\n");

/* The same for EPT violations of a three-byte instruction, which is left out as if it were done. */
extern const char smallest_ept_handler[];
__asm__(".text\n.balign 16\n"
        "smallest_ept_handler: movl $0x4402, %eax; vmread %rax, %rcx; cmpl $48, %ecx; jne vmx_returned\n"
        "movl $0x681e, %eax; vmread %rax, %rcx; addq $3, %rcx; vmwrite %rcx, %rax; vmresume; ud2\n");

static const struct {
    const char *name, *code;
} loops[] = {
    {"lv2-nothing", loop_nothing},     {"lv2-cpuid", loop_cpuid},
    {"lv2-cr0-ts", loop_ts},           {"lv2-cr0-mp", loop_mp},
    {"lv2-cr0-em", loop_em},           {"lv2-clts", loop_clts},
    {"lv2-read-cr0", loop_read_cr0},   {"lv2-cr4-pge", loop_pge},
    {"lv2-read-cr4", loop_read_cr4},   {"lv2-cr3", loop_cr3},
    {"lv2-invlpg", loop_invlpg},       {"lv2-read-cr8", loop_read_cr8},
    {"lv2-write-cr8", loop_write_cr8}, {"lv2-missing", loop_missing},
    {"lv2-pages", loop_pages},
};

/* The places of those that are used by number. */
enum { NOTHING, CPUID_LOOP, PGE = 7, MISSING = 13, PAGES = 14 };

static void run_loop(unsigned n, unsigned m)
{
    (void)m;
    vmx_registers.r8 = (uint64_t)bench_samples;
    vmx_registers.r9 = OPERATIONS;
    vmx_run_at(loops[n].code);
    vmx_expect(loops[n].name, REASON_VMCALL);
    bench_taken = OPERATIONS;
}

/* The first time everything is cold. */
static void warm_up(unsigned n)
{
    run_loop(n, 0);
    bench_taken = 0;
}

static void prepare_lv2(void)
{
    vmx_prepare();
    vmx_set(VMCS_HOST_RIP, (uint64_t)smallest_handler);
    if (vmx_may_set(PRIMARY_TPR_SHADOW)) {
        vmx_control(PRIMARY_TPR_SHADOW, true);
        vmx_set(VMCS_VIRTUAL_APIC, (uint64_t)virtual_apic);
        vmx_set(VMCS_TPR_THRESHOLD, 0);
    }
}

static void prepare_loop(unsigned n, unsigned m)
{
    (void)m;
    prepare_lv2();
    warm_up(n);
}

/* With EPT: identity but for the first 2 MiB of the playground. */
static void prepare_ept(unsigned n, unsigned m)
{
    static uint64_t root[512] __aligned(4096), pointers[512] __aligned(4096), directory[512] __aligned(4096);
    const uint64_t all = 7, large = BIT(7) | 6 << 3 | all;

    (void)m;
    for (unsigned i = 0; i < ARRAY_SIZE(directory); i++)
        directory[i] = MIB(2) * i == GUEST_PLAYGROUND ? 0 : MIB(2) * i | large;
    pointers[0] = (uint64_t)directory | all;
    root[0] = (uint64_t)pointers | all;
    prepare_lv2();
    vmx_control(SECONDARY_EPT, true);
    vmx_set(VMCS_EPTP, (uint64_t)root | 3 << 3 | 6);
    if (n == MISSING)
        vmx_set(VMCS_HOST_RIP, (uint64_t)smallest_ept_handler);
    warm_up(n);
}

/*
 * By EPT with 4-KByte pages, all there: Lv2 comes to each page of the playground for the first time, which is
 * an exit that Umbra keeps. After the warming up every entry becomes another that says the same.
 */
static void prepare_fill(unsigned n, unsigned m)
{
    static uint64_t root[512] __aligned(4096), pointers[512] __aligned(4096), directory[512] __aligned(4096);
    static uint64_t pages[GUEST_PLAYGROUND_SIZE / PAGE_SIZE] __aligned(4096);
    const uint64_t all = 7, write_back = 6 << 3, large = BIT(7), ignored = BIT(11);

    (void)m;
    for (unsigned i = 0; i < ARRAY_SIZE(directory); i++)
        directory[i] = MIB(2) * i | large | write_back | all;
    for (unsigned i = 0; i < GUEST_PLAYGROUND_SIZE / MIB(2); i++)
        directory[GUEST_PLAYGROUND / MIB(2) + i] = (uint64_t)&pages[i * 512] | all;
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
        pages[i] = (GUEST_PLAYGROUND + i * PAGE_SIZE) | write_back | all;
    pointers[0] = (uint64_t)directory | all;
    root[0] = (uint64_t)pointers | all;
    prepare_lv2();
    vmx_control(SECONDARY_EPT, true);
    vmx_set(VMCS_EPTP, (uint64_t)root | 3 << 3 | 6);
    vmx_registers.r11 = GUEST_PLAYGROUND - PAGE_SIZE;
    warm_up(n);
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
        pages[i] |= ignored;
    vmx_invept(2, 0, 0);
    vmx_registers.r11 = GUEST_PLAYGROUND - PAGE_SIZE;
}

/* ---- In Lv1 ------------------------------------------------------------------------------------------- */

static void do_nothing(void)
{
}

static void do_vmread(void)
{
    uint64_t value;

    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)VMCS_GUEST_RIP) : "cc");
}

static void do_vmread_reason(void)
{
    uint64_t value;

    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)VMCS_EXIT_REASON) : "cc");
}

static void do_vmwrite(void)
{
    __asm__ volatile("vmwrite %0, %1" : : "r"((uint64_t)lv2_nothing), "r"((uint64_t)VMCS_GUEST_RIP) : "cc");
}

static void do_vmwrite_rare(void)
{
    __asm__ volatile("vmwrite %0, %1" : : "r"(0UL), "r"((uint64_t)VMCS_TSC_OFFSET) : "cc");
}

static void load(const uint32_t *region)
{
    uint64_t address = (uint64_t)region;

    __asm__ volatile("vmptrld %0" : : "m"(address) : "cc", "memory");
}

/* Of the VMCS that is current; then of two in turn. */
static void do_vmptrld_same(void)
{
    load(vmx_regions[1]);
}

static void do_vmptrld_two(void)
{
    load(vmx_regions[2]);
    load(vmx_regions[1]);
}

static void do_vmclear(void)
{
    uint64_t address = (uint64_t)vmx_regions[2];

    __asm__ volatile("vmclear %0" : : "m"(address) : "cc", "memory");
}

static void do_vmptrst(void)
{
    uint64_t address;

    __asm__ volatile("vmptrst %0" : "=m"(address) : : "cc", "memory");
}

/* Lv2 stands before a VMCALL all the time: an entry, an exit, and Lv1's general registers. */
static void do_entry_and_exit(void)
{
    vmx_switch(true);
}

static void (*const acts[])(void) = {
    do_nothing,      do_entry_and_exit, do_vmread,       do_vmread_reason, do_vmwrite,
    do_vmwrite_rare, do_vmptrst,        do_vmptrld_same, do_vmptrld_two,   do_vmclear,
};

static void run_act(unsigned n, unsigned m)
{
    void (*volatile act)(void) = acts[n];

    (void)m;
    for (unsigned i = 0; i < OPERATIONS; i++) {
        void (*call)(void) = act;

        bench_sample_begin();
        call();
        bench_sample_end();
    }
}

static void prepare_act(unsigned n, unsigned m)
{
    vmx_prepare();
    vmx_run_at(lv2_nothing);
    vmx_expect("entry-and-exit-runs", REASON_VMCALL);
    vmx_clear((uint64_t)vmx_regions[2]);
    run_act(n, m);
}

/* ---- All of them -------------------------------------------------------------------------------------- */

#define LOOP(NAME, N)                                                                                        \
    {                                                                                                        \
        NAME, OPERATIONS, N, 0, prepare_loop, run_loop                                                       \
    }
#define EPT(NAME, N)                                                                                         \
    {                                                                                                        \
        NAME, OPERATIONS, N, 0, prepare_ept, run_loop                                                        \
    }
#define ACT(NAME, N)                                                                                         \
    {                                                                                                        \
        NAME, OPERATIONS, N, 0, prepare_act, run_act                                                         \
    }

static const struct bench_phase lv2_phases[] = {
    LOOP("lv2-cpuid", 1), LOOP("lv2-cr0-ts", 2),   LOOP("lv2-cr0-mp", 3),    LOOP("lv2-cr0-em", 4),
    LOOP("lv2-clts", 5),  LOOP("lv2-read-cr0", 6), LOOP("lv2-cr4-pge", 7),   LOOP("lv2-read-cr4", 8),
    LOOP("lv2-cr3", 9),   LOOP("lv2-invlpg", 10),  LOOP("lv2-read-cr8", 11), LOOP("lv2-write-cr8", 12),
};

static const struct bench_phase ept_phases[] = {
    EPT("lv2-cpuid-with-ept", CPUID_LOOP),
    EPT("lv2-cr4-pge-with-ept", PGE),
    EPT("lv2-ept-violation", MISSING),
    {"lv2-ept-fill", OPERATIONS, PAGES, 0, prepare_fill, run_loop},
};

static const struct bench_phase lv1_phases[] = {
    ACT("entry-and-exit", 1), ACT("vmread", 2),       ACT("vmread-reason", 3),
    ACT("vmwrite", 4),        ACT("vmwrite-rare", 5), ACT("vmptrst", 6),
    ACT("vmptrld-same", 7),   ACT("vmptrld-two", 8),  ACT("vmclear", 9),
};

static void run(const struct bench_phase *phases, size_t count, uint64_t overhead)
{
    for (size_t i = 0; i < count; i++)
        bench_run(&phases[i], overhead);
}

void guest_main(void)
{
    uint64_t overhead;

    bench_init();
    CHECK("vmx", vmx_exists());
    vmx_enable();
    prepare_loop(NOTHING, 0);
    run_loop(NOTHING, 0);
    overhead = bench_least();
    run(lv2_phases, ARRAY_SIZE(lv2_phases), overhead);
    if (vmx_may_set(SECONDARY_EPT))
        run(ept_phases, ARRAY_SIZE(ept_phases), overhead);
    run_act(0, 0);
    overhead = bench_least();
    run(lv1_phases, ARRAY_SIZE(lv1_phases), overhead);
    bench_end();
    vmx_off();
}
