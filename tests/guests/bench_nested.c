// SPDX-License-Identifier: BSD-2-Clause
/*
 * What nesting costs, in ticks of the TSC: the difference of two RDTSCs around an operation, less that of two
 * around nothing. On a bare processor the same rows are the cost of a single level.
 */
#include "tests/guests/lib/pc.h"
#include "tests/guests/lib/vmx.h"

#define SAMPLES  2000
#define UART_LSR 0x3fd

static uint64_t samples[SAMPLES];
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

/* The least sample of a loop around nothing. */
static uint64_t overhead;

static bool run_loop(const char *code)
{
    for (unsigned turn = 0; turn < 2; turn++) { /* the second time nothing is cold */
        vmx_registers.r8 = (uint64_t)samples;
        vmx_registers.r9 = SAMPLES;
        vmx_run_at(code);
        if (vmx_exit.outcome != VMX_SUCCEED || vmx_exit.reason != REASON_VMCALL)
            return false;
    }
    return true;
}

static void finish_row(const char *name)
{
    while ((inb(UART_LSR) & 0x40) == 0)
        pause();
    guest_bench(name, samples, SAMPLES, overhead);
}

static void bench_loop(const char *name, const char *code)
{
    if (run_loop(code))
        finish_row(name);
    else
        vmx_expect(name, REASON_VMCALL);
}

static uint64_t least(void)
{
    uint64_t value = samples[0];

    for (unsigned i = 1; i < SAMPLES; i++)
        value = min_u64(value, samples[i]);
    return value;
}

static void prepare(void)
{
    vmx_prepare();
    vmx_set(VMCS_HOST_RIP, (uint64_t)smallest_handler);
    if (vmx_may_set(PRIMARY_TPR_SHADOW)) {
        vmx_control(PRIMARY_TPR_SHADOW, true);
        vmx_set(VMCS_VIRTUAL_APIC, (uint64_t)virtual_apic);
        vmx_set(VMCS_TPR_THRESHOLD, 0);
    }
}

static void lv2_rows(void)
{
    static const struct {
        const char *name, *code;
    } rows[] = {
        {"lv2-cpuid", loop_cpuid},   {"lv2-cr0-ts", loop_ts},         {"lv2-cr0-mp", loop_mp},
        {"lv2-cr0-em", loop_em},     {"lv2-clts", loop_clts},         {"lv2-read-cr0", loop_read_cr0},
        {"lv2-cr4-pge", loop_pge},   {"lv2-read-cr4", loop_read_cr4}, {"lv2-cr3", loop_cr3},
        {"lv2-invlpg", loop_invlpg}, {"lv2-read-cr8", loop_read_cr8}, {"lv2-write-cr8", loop_write_cr8},
    };

    prepare();
    CHECK("lv2-nothing", run_loop(loop_nothing));
    overhead = least();
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        prepare();
        bench_loop(rows[i].name, rows[i].code);
    }
}

/* Identity but for the first 2 MiB of the playground. */
static void ept_rows(void)
{
    static uint64_t root[512] __aligned(4096), pointers[512] __aligned(4096), directory[512] __aligned(4096);
    const uint64_t all = 7, large = BIT(7) | 6 << 3 | all;

    if (!vmx_may_set(SECONDARY_EPT))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(directory); i++)
        directory[i] = MIB(2) * i == GUEST_PLAYGROUND ? 0 : MIB(2) * i | large;
    pointers[0] = (uint64_t)directory | all;
    root[0] = (uint64_t)pointers | all;
    prepare();
    vmx_control(SECONDARY_EPT, true);
    vmx_set(VMCS_EPTP, (uint64_t)root | 3 << 3 | 6);
    bench_loop("lv2-cpuid-with-ept", loop_cpuid);
    bench_loop("lv2-cr4-pge-with-ept", loop_pge);
    vmx_set(VMCS_HOST_RIP, (uint64_t)smallest_ept_handler);
    bench_loop("lv2-ept-violation", loop_missing);
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

static void measure(void (*volatile act)(void))
{
    void (*call)(void) = act;

    for (unsigned i = 0; i < SAMPLES; i++) {
        uint64_t start = rdtsc();
        call();
        samples[i] = rdtsc() - start;
    }
}

static void lv1_rows(void)
{
    static const struct {
        const char *name;
        void (*act)(void);
    } rows[] = {
        {"entry-and-exit", do_entry_and_exit},
        {"vmread", do_vmread},
        {"vmread-reason", do_vmread_reason},
        {"vmwrite", do_vmwrite},
        {"vmwrite-rare", do_vmwrite_rare},
        {"vmptrst", do_vmptrst},
        {"vmptrld-same", do_vmptrld_same},
        {"vmptrld-two", do_vmptrld_two},
        {"vmclear", do_vmclear},
    };

    vmx_prepare();
    vmx_run_at(lv2_nothing);
    vmx_expect("entry-and-exit-runs", REASON_VMCALL);
    vmx_clear((uint64_t)vmx_regions[2]);
    measure(do_nothing);
    overhead = least();
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        measure(rows[i].act);
        measure(rows[i].act);
        finish_row(rows[i].name);
    }
}

void guest_main(void)
{
    CHECK("vmx", vmx_exists());
    vmx_enable();
    lv2_rows();
    ept_rows();
    lv1_rows();
    vmx_off();
}
