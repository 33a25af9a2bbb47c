// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/lib/tasks32.h"

#include "lib/string.h"

struct tss32 tss_main __aligned(4096), tss_task __aligned(4096), tss_handler __aligned(4096);
struct tss16 tss_task16 __aligned(4096);
char main_stack[STACK_SIZE] __aligned(16), task_stack[STACK_SIZE] __aligned(16);
char handler_stack[STACK_SIZE] __aligned(16), inner_stack[STACK_SIZE] __aligned(16);
uint64_t local_table[2] __aligned(16);
static uint64_t idt32[256] __aligned(16);

/* ---- Long mode and back ----------------------------------------------------------------------------- */

/* What enter32 loads; and where it comes back to. */
extern struct mode32 {
    uint32_t cr0, cr3, cr4;
} mode32;
struct mode32 mode32;
extern struct descriptor_pointer idt32_pointer;
struct descriptor_pointer idt32_pointer;
extern uint64_t saved_rsp, saved_cr4;
uint64_t saved_rsp, saved_cr4;

struct record records[RECORDS_MAX];
unsigned recorded;
extern uint32_t record_next;
uint32_t record_next;
struct trap32 trap32;

void enter32(uint64_t entry);
extern const char traps32[];

__asm__(".text\n.global observe32, leave32\n"
        /* Runs 32-bit code at RDI, in the mode that mode32 says, as task MAIN; returns when it comes to
           leave32. */
        "enter32:\n"
        "pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
        "movq %rsp, saved_rsp\n"
        "movq %cr4, %rax; movq %rax, saved_cr4\n"
        "lidt idt32_pointer\n"
        "pushq $0x38; pushq $1f; lretq\n"
        ".code32\n"
        "1: movl %cr0, %eax; andl $0x7fffffff, %eax; movl %eax, %cr0\n"
        "movl $0xc0000080, %ecx; rdmsr; andl $~0x100, %eax; wrmsr\n"
        "movl mode32 + 8, %eax; movl %eax, %cr4\n"
        "movl mode32 + 4, %eax; movl %eax, %cr3\n"
        "movl mode32, %eax; movl %eax, %cr0\n"
        "ljmp $0x38, $2f\n"
        "2: movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss\n"
        "movl $(main_stack + 2048), %esp\n"
        "xorl %eax, %eax; movl %eax, %fs; movl %eax, %gs; lldt %ax\n"
        "movl $0x50, %eax; ltr %ax\n"
        "movl $records, record_next\n"
        "movl $0xb0b0b0b0, %ebx; movl $0xb1b1b1b1, %ebp; movl $0xb2b2b2b2, %esi\n"
        "jmp *%edi\n"

        /* Long mode cannot be entered with a 16-bit TSS (SDM vol. 3, "Initializing IA-32e Mode"). */
        "leave32:\n"
        "movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss\n"
        "andb $~2, guest_gdt + 0x55; movl $0x50, %eax; ltr %ax\n"
        "movl %cr0, %eax; andl $0x7fffffff, %eax; movl %eax, %cr0\n"
        "movl saved_cr4, %eax; movl %eax, %cr4\n"
        "movl $guest_page_tables, %eax; movl %eax, %cr3\n"
        "movl $0xc0000080, %ecx; rdmsr; orl $0x100, %eax; wrmsr\n"
        "movl %cr0, %eax; andl $~8, %eax; orl $0x80000000, %eax; movl %eax, %cr0\n"
        "ljmp $0x08, $3f\n"
        ".code64\n"
        "3: movq saved_rsp, %rsp\n"
        "pushq $2; popfq\n"
        "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx\n"
        "ret\n"

        /* By a far call from ring 0, whatever its segments are. Changes nothing. */
        ".code32\n"
        "observe32: pushfl; pushal; pushl %ds; pushl %es\n"
        "movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; cld\n"
        "movl record_next, %edi; leal 8(%esp), %esi; movl $12, %ecx\n"
        "rep movsl %ss:(%esi), %es:(%edi)\n"
        "movzwl (%esp), %eax; stosl; movzwl 4(%esp), %eax; stosl\n"
        "movl %fs, %eax; stosl; movl %gs, %eax; stosl; movl %ss, %eax; stosl\n"
        "xorl %eax, %eax; str %ax; stosl; sldt %ax; stosl\n"
        "movl %cr0, %eax; stosl; movl %cr2, %eax; stosl; movl %cr3, %eax; stosl\n"
        "movl %dr6, %eax; stosl; movl %dr7, %eax; stosl\n"
        "movzbl guest_gdt + 0x55, %eax; stosl; movzbl guest_gdt + 0x5d, %eax; stosl\n"
        "movl 0x80000000, %eax; stosl\n"
        "movl %edi, record_next\n"
        "popl %es; popl %ds; popal; popfl; lret\n"

        /* One stub a vector, 8 bytes apart. */
        ".balign 8\n"
        "traps32: vector = 0\n"
        ".rept 256\n .balign 8\n pushl $vector\n jmp trap_common\n vector = vector + 1\n .endr\n"
        "trap_common: movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; cld\n"
        "movl $trap32, %edi; movl %esp, %esi; movl $11, %ecx\n"
        "rep movsl %ss:(%esi), %es:(%edi)\n"
        "lcall $0x38, $observe32; ljmp $0x38, $leave32\n"
        ".code64\n");

CODE32(task_returns, "1: " OBSERVE "iret; jmp 1b");
CODE32(task_leaves, OBSERVE LEAVE);

/* ---- Address spaces: all below 16 MiB and the local APIC as it is, and the window ------------------- */

static uint32_t directory32[2][1024] __aligned(4096), window32[2][1024] __aligned(4096);
static uint64_t pointers_pae[2][4] __aligned(32);
static uint64_t directory_pae[2][3][512] __aligned(4096), window_pae[2][512] __aligned(4096);
static uint32_t probe_pages[2][1024] __aligned(4096);

#define APIC       0xfee00000u
#define TABLE      (PAGE_PRESENT | PAGE_WRITE | PAGE_USER)
#define IMAGE_SIZE MIB(16)

void tasks32_init(void)
{
    for (unsigned s = 0; s < 2; s++) {
        for (uint64_t at = 0; at < IMAGE_SIZE; at += MIB(4))
            directory32[s][at / MIB(4)] = (uint32_t)(at | TABLE | PAGE_LARGE);
        directory32[s][WINDOW >> 22] = (uint32_t)((uint64_t)window32[s] | TABLE);
        directory32[s][APIC >> 22] = (APIC & ~0x3fffffu) | TABLE | PAGE_LARGE | PAGE_UNCACHED;

        for (uint64_t at = 0; at < IMAGE_SIZE; at += MIB(2))
            directory_pae[s][0][at / MIB(2)] = at | TABLE | PAGE_LARGE;
        directory_pae[s][1][0] = (uint64_t)window_pae[s] | TABLE;
        directory_pae[s][2][APIC >> 21 & 511] = (APIC & ~0x1fffffu) | TABLE | PAGE_LARGE | PAGE_UNCACHED;
        pointers_pae[s][0] = (uint64_t)directory_pae[s][0] | PAGE_PRESENT;
        pointers_pae[s][2] = (uint64_t)directory_pae[s][1] | PAGE_PRESENT;
        pointers_pae[s][3] = (uint64_t)directory_pae[s][2] | PAGE_PRESENT;
    }
    probe_pages[0][0] = PROBE_HERE;
    probe_pages[1][0] = PROBE_THERE;
}

void tasks32_map(unsigned page, uint64_t entry)
{
    for (unsigned s = 0; s < 2; s++) {
        window32[s][page] = (uint32_t)entry;
        window_pae[s][page] = entry;
    }
}
const struct tasks32_mode tasks32_modes[TASKS32_MODES] = {{"32", CR4_PSE}, {"pae", CR4_PAE}};

const struct tasks32_mode *tasks32_mode;

uint32_t tasks32_space(unsigned number)
{
    return tasks32_mode->cr4 == CR4_PAE ? (uint32_t)(uint64_t)pointers_pae[number]
                                        : (uint32_t)(uint64_t)directory32[number];
}
/* ---- Scenarios -------------------------------------------------------------------------------------- */

static void interrupt_gate(unsigned vector)
{
    const uint32_t at = (uint32_t)(uint64_t)traps32 + 8 * vector;

    idt32[vector] = (uint64_t)(at >> 16) << 48 | 0xeeULL << 40 | SELECTOR_CODE32 << 16 | (at & 0xffff);
}

void tasks32_gate(unsigned vector, uint16_t task)
{
    idt32[vector] = (uint64_t)(TYPE_PRESENT | 0x60 | TYPE_TASK_GATE) << 40 | (uint64_t)task << 16;
}

void tasks32_descriptor(uint16_t selector, uint32_t base, uint32_t limit, unsigned type)
{
    guest_segment(selector, base, limit, SEGMENT_PRESENT | SEGMENT_TYPE(type));
}

static struct tss32 task_at(const char *entry, char *stack)
{
    return (struct tss32){
        .inner = {{STACK_TOP(inner_stack), SELECTOR_DATA}},
        .cr3 = tasks32_space(0),
        .eip = (uint32_t)(uint64_t)entry,
        .eflags = RFLAGS_FIXED,
        .eax = 0xa0a0a0a0,
        .ecx = 0xa1a1a1a1,
        .edx = 0xa2a2a2a2,
        .ebx = 0xa3a3a3a3,
        .esp = STACK_TOP(stack),
        .ebp = 0xa5a5a5a5,
        .esi = 0xa6a6a6a6,
        .edi = 0xa7a7a7a7,
        .es = SELECTOR_DATA,
        .cs = SELECTOR_CODE32,
        .ss = SELECTOR_DATA,
        .ds = SELECTOR_DATA,
        .fs = SELECTOR_DATA,
        .gs = SELECTOR_DATA,
        .io_map = sizeof(struct tss32),
    };
}

void tasks32_prepare(const char *entry)
{
    mode32 = (struct mode32){
        .cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE, .cr3 = tasks32_space(0), .cr4 = tasks32_mode->cr4};
    tss_task = task_at(entry, task_stack);
    tss_handler = task_at(task_leaves, handler_stack);
    memset(&tss_main, 0, sizeof(tss_main));
    tss_main.cr3 = tasks32_space(0);
    tss_main.inner[0].esp = STACK_TOP(inner_stack);
    tss_main.inner[0].ss = SELECTOR_DATA;

    tasks32_descriptor(MAIN, (uint32_t)(uint64_t)&tss_main, TSS32_LIMIT, TYPE_TSS32);
    tasks32_descriptor(TASK, (uint32_t)(uint64_t)&tss_task, TSS32_LIMIT, TYPE_TSS32);
    tasks32_descriptor(HANDLER, (uint32_t)(uint64_t)&tss_handler, TSS32_LIMIT, TYPE_TSS32);
    tasks32_descriptor(TASK16, (uint32_t)(uint64_t)&tss_task16, TSS16_LIMIT, TYPE_TSS16);
    guest_segment(GATE, TASK, 0, SEGMENT_PRESENT | SEGMENT_TYPE(TYPE_TASK_GATE));
    guest_gdt[GATE / 8] = SEGMENT_PRESENT | SEGMENT_TYPE(TYPE_TASK_GATE) | (uint64_t)TASK << 16;
    guest_segment(LOCAL, (uint32_t)(uint64_t)local_table, sizeof(local_table) - 1,
                  SEGMENT_PRESENT | SEGMENT_TYPE(TYPE_LDT));
    guest_segment(ABSENT_DATA, 0, FLAT, (DATA_32 | SEGMENT_PAGES) & ~SEGMENT_PRESENT);
    guest_segment(ABSENT_CODE, 0, FLAT, (CODE_32 | SEGMENT_PAGES) & ~SEGMENT_PRESENT);
    guest_segment(ABSENT_LOCAL, (uint32_t)(uint64_t)local_table, sizeof(local_table) - 1,
                  SEGMENT_TYPE(TYPE_LDT));
    guest_segment(READ_ONLY, 0, FLAT, (DATA_32 | SEGMENT_PAGES) & ~SEGMENT_TYPE(2));
    guest_segment(EXECUTE_ONLY, 0, FLAT, (CODE_32 | SEGMENT_PAGES) & ~SEGMENT_TYPE(2));
    guest_segment(CONFORMING, 0, FLAT, CODE_32 | SEGMENT_PAGES | SEGMENT_TYPE(4));
    guest_segment(CONFORMING_3, 0, FLAT, CODE_32 | SEGMENT_PAGES | SEGMENT_TYPE(4) | SEGMENT_DPL(3));
    guest_segment(FRESH, 0, FLAT, DATA_32 | SEGMENT_PAGES);

    for (unsigned vector = 0; vector < 256; vector++)
        interrupt_gate(vector);
    tasks32_gate(VECTOR_TASK, TASK);
    idt32_pointer = (struct descriptor_pointer){sizeof(idt32) - 1, (uint64_t)idt32};

    for (unsigned s = 0; s < 2; s++) {
        window32[s][0] = (uint32_t)((uint64_t)probe_pages[s] | TABLE);
        window_pae[s][0] = (uint64_t)probe_pages[s] | TABLE;
    }
    for (unsigned page = 1; page < 4; page++)
        tasks32_map(page, 0);
    memset(records, 0, sizeof(records));
    trap32.vector = (uint32_t)NO_VECTOR;
    write_dr6(0xffff0ff0);
}

void tasks32_run(const char *scenario)
{
    enter32((uint64_t)scenario);
    guest_idt_load(sizeof(guest_idt) - 1);
    guest_tss_load(sizeof(guest_tss) - 1);
    write_dr7(0x400);
    recorded = (record_next - (uint32_t)(uint64_t)records) / sizeof(struct record);
}
