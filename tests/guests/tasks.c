// SPDX-License-Identifier: BSD-2-Clause
/*
 * Hardware task switches (SDM vol. 3, "Task Management"), in 32-bit protected mode with 32-bit and with PAE
 * paging: CALL, JMP and IRET, task gates in GDT and IDT for instructions, faults, interrupts and NMIs; busy
 * bits, back link, NT; what is saved and what is loaded; 16-bit tasks, tasks in ring 3 and in virtual-8086
 * mode; bad tasks.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/tasks32.h"

static void row(const char *scenario, const char *what, uint64_t seen, uint64_t expected)
{
    char name[64];

    format_text(name, sizeof(name), "%s-%s-%s", tasks32_mode->name, scenario, what);
    guest_equal(name, seen, expected);
}

/* PASS if nothing but what was asked for came to pass. */
static void ran(const char *scenario, unsigned expected)
{
    char name[64];

    format_text(name, sizeof(name), "%s-%s-runs", tasks32_mode->name, scenario);
    guest_check(recorded == expected && trap32.vector == (uint32_t)NO_VECTOR, name,
                "%u records, not %u; trap %d: %#x %#x %#x", recorded, expected, (int)trap32.vector,
                trap32.stack[0], trap32.stack[1], trap32.stack[2]);
}

static unsigned type_of(uint16_t selector)
{
    return guest_gdt[selector / 8] >> 40 & 0x1f;
}

static uint32_t place(const char *label)
{
    return (uint32_t)(uint64_t)label;
}

/* What a task that came from MAIN by CALL or an event finds. */
static void nested_rows(const char *scenario)
{
    const struct record *r = &records[0];

    row(scenario, "task-register", r->tr, TASK);
    row(scenario, "link", tss_task.link, MAIN);
    row(scenario, "nt", r->eflags & RFLAGS_NT, RFLAGS_NT);
    row(scenario, "ts", r->cr0 & CR0_TS, CR0_TS);
    row(scenario, "busy-main", r->type_main, TYPE_PRESENT | TYPE_TSS32 | TYPE_BUSY);
    row(scenario, "busy-task", r->type_task, TYPE_PRESENT | TYPE_TSS32 | TYPE_BUSY);
}

/* And what is left when it has returned, and the second record is MAIN's. */
static void returned_rows(const char *scenario)
{
    const struct record *r = &records[1];

    row(scenario, "back-task-register", r->tr, MAIN);
    row(scenario, "back-nt", r->eflags & RFLAGS_NT, 0);
    row(scenario, "back-busy-main", r->type_main, TYPE_PRESENT | TYPE_TSS32 | TYPE_BUSY);
    row(scenario, "back-busy-task", r->type_task, TYPE_PRESENT | TYPE_TSS32);
    row(scenario, "back-saved-nt", tss_task.eflags & RFLAGS_NT, 0);
}

CODE32(main_calls, "lcall $0x58, $0x12345678\nmain_calls_next: " OBSERVE LEAVE);
extern const char main_calls_next[];

static void call_rows(void)
{
    tasks32_prepare(task_returns);
    tasks32_run(main_calls);
    ran("call", 2);
    nested_rows("call");
    returned_rows("call");

    const struct record *task = &records[0], *back = &records[1];
    row("call", "eax", task->eax, 0xa0a0a0a0);
    row("call", "ecx", task->ecx, 0xa1a1a1a1);
    row("call", "edx", task->edx, 0xa2a2a2a2);
    row("call", "ebx", task->ebx, 0xa3a3a3a3);
    row("call", "esp", task->top == 0 ? task->esp : 0, STACK_TOP(task_stack) - 12);
    row("call", "ebp", task->ebp, 0xa5a5a5a5);
    row("call", "esi", task->esi, 0xa6a6a6a6);
    row("call", "edi", task->edi, 0xa7a7a7a7);
    row("call", "fs", task->fs, SELECTOR_DATA);
    row("call", "ldtr", task->ldtr, 0);
    row("call", "back-ebx", back->ebx, 0xb0b0b0b0);
    row("call", "back-ebp", back->ebp, 0xb1b1b1b1);
    row("call", "back-esi", back->esi, 0xb2b2b2b2);
    row("call", "back-fs", back->fs, 0);
    row("call", "saved-eip", tss_main.eip, place(main_calls_next));
    row("call", "saved-esp", tss_main.esp, STACK_TOP(main_stack));
    row("call", "saved-cs", tss_main.cs, SELECTOR_CODE32);
    row("call", "saved-ss", tss_main.ss, SELECTOR_DATA);
    row("call", "saved-cr3-is-not", tss_main.cr3, tasks32_space(0));
    row("call", "saved-iret", tss_task.eip, place(task_returns) + 8);
}

CODE32(main_jumps, "ljmp $0x58, $0\nmain_jumps_next: " OBSERVE LEAVE);
extern const char main_jumps_next[];
CODE32(task_jumps, OBSERVE "ljmp $0x50, $0");
CODE32(main_calls_gate, "lcall $0x70, $0\n" OBSERVE LEAVE);
CODE32(main_jumps_gate, "ljmp $0x70, $0\n" OBSERVE LEAVE);
/* An IRET into a task: through a link that the program made up. */
CODE32(main_returns, "movl $0x58, tss_main; pushfl; orl $0x4000, (%esp); popfl; iret\n"
                     "main_returns_next: " OBSERVE LEAVE);
extern const char main_returns_next[];

static void jump_rows(void)
{
    tasks32_prepare(task_jumps);
    tasks32_run(main_jumps);
    ran("jmp", 2);
    row("jmp", "task-register", records[0].tr, TASK);
    row("jmp", "nt", records[0].eflags & RFLAGS_NT, 0);
    row("jmp", "ts", records[0].cr0 & CR0_TS, CR0_TS);
    row("jmp", "link-is-not", tss_task.link, 0);
    row("jmp", "busy-main", records[0].type_main, TYPE_PRESENT | TYPE_TSS32);
    row("jmp", "busy-task", records[0].type_task, TYPE_PRESENT | TYPE_TSS32 | TYPE_BUSY);
    row("jmp", "back-busy-main", records[1].type_main, TYPE_PRESENT | TYPE_TSS32 | TYPE_BUSY);
    row("jmp", "back-busy-task", records[1].type_task, TYPE_PRESENT | TYPE_TSS32);
    row("jmp", "saved-eip", tss_main.eip, place(main_jumps_next));

    tasks32_prepare(task_returns);
    tasks32_run(main_calls_gate);
    ran("call-gate", 2);
    nested_rows("call-gate");
    returned_rows("call-gate");

    tasks32_prepare(task_jumps);
    tasks32_run(main_jumps_gate);
    ran("jmp-gate", 2);
    row("jmp-gate", "nt", records[0].eflags & RFLAGS_NT, 0);
    row("jmp-gate", "busy-main", records[0].type_main, TYPE_PRESENT | TYPE_TSS32);

    tasks32_prepare(task_leaves);
    guest_gdt[TASK / 8] |= SEGMENT_TYPE(TYPE_BUSY);
    tasks32_run(main_returns);
    ran("iret", 1);
    row("iret", "task-register", records[0].tr, TASK);
    row("iret", "nt", records[0].eflags & RFLAGS_NT, 0);
    row("iret", "busy-main", records[0].type_main, TYPE_PRESENT | TYPE_TSS32);
    row("iret", "busy-task", records[0].type_task, TYPE_PRESENT | TYPE_TSS32 | TYPE_BUSY);
    row("iret", "saved-eip", tss_main.eip, place(main_returns_next));
    row("iret", "saved-nt", tss_main.eflags & RFLAGS_NT, 0);
}

/* ---- Events ----------------------------------------------------------------------------------------- */

CODE32(main_int, "int $0x41\nmain_next: " OBSERVE LEAVE);
extern const char main_next[];
CODE32(main_int3, "int3\nmain_int3_next: " OBSERVE LEAVE);
extern const char main_int3_next[];
CODE32(main_divides, "xorl %ecx, %ecx\nmain_divides_at: divl %ecx\n" OBSERVE LEAVE);
extern const char main_divides_at[];
CODE32(main_touches, "movl $0xa0000000, %ecx\nmain_touches_at: movl %eax, (%ecx)\n" OBSERVE LEAVE);
extern const char main_touches_at[];
CODE32(main_selects, "movl $0x23f, %ecx\nmain_selects_at: movl %ecx, %es\n" OBSERVE LEAVE);
extern const char main_selects_at[];
/* Steps over the two bytes that faulted. */
CODE32(task_skips, "1: " OBSERVE "addl $2, tss_main + 32; iret; jmp 1b");
CODE32(task_skips_error, "1: " OBSERVE "addl $4, %esp; addl $2, tss_main + 32; iret; jmp 1b");

static void fault_rows(const char *name, unsigned vector, const char *scenario, const char *at,
                       bool has_error, uint32_t error)
{
    tasks32_prepare(has_error ? task_skips_error : task_skips);
    tasks32_gate(vector, TASK);
    tasks32_run(scenario);
    ran(name, 2);
    nested_rows(name);
    returned_rows(name);
    row(name, "saved-eip", tss_main.eip, place(at) + 2);
    row(name, "saved-rf", tss_main.eflags & RFLAGS_RF, RFLAGS_RF);
    row(name, "esp", records[0].esp, STACK_TOP(task_stack) - 12 - (has_error ? 4 : 0));
    if (has_error)
        row(name, "error-code", records[0].top, error);
}

static void event_rows(void)
{
    tasks32_prepare(task_returns);
    tasks32_run(main_int);
    ran("int", 2);
    nested_rows("int");
    returned_rows("int");
    row("int", "saved-eip", tss_main.eip, place(main_next));
    row("int", "no-error-code", records[0].esp, STACK_TOP(task_stack) - 12);

    tasks32_prepare(task_returns);
    tasks32_gate(VECTOR_BP, TASK);
    tasks32_run(main_int3);
    ran("int3", 2);
    nested_rows("int3");
    row("int3", "saved-eip", tss_main.eip, place(main_int3_next));

    fault_rows("de", VECTOR_DE, main_divides, main_divides_at, false, 0);
    fault_rows("pf", VECTOR_PF, main_touches, main_touches_at, true, PF_WRITE);
    row("pf", "cr2", records[0].cr2, 0xa0000000);
    fault_rows("gp", VECTOR_GP, main_selects, main_selects_at, true, 0x23c);
}

/* An NMI that comes while one is handled waits for the IRET, which here is a task switch. */
CODE32(main_nmi, "movl 0xfee00020, %eax; movl %eax, 0xfee00310; movl $0x4400, 0xfee00300\n"
                 "1: cmpl $0, nmis_seen; je 1b; " OBSERVE LEAVE);
CODE32(task_nmi, "1: " OBSERVE "incl nmis_seen; cmpl $1, nmis_seen; jne 2f; movl $0x4400, 0xfee00300\n"
                 "movl $1000, %ecx; 3: loop 3b; " OBSERVE "2: iret; jmp 1b");
extern uint32_t nmis_seen;
uint32_t nmis_seen;

CODE32(main_interrupt, "movl $0x1ff, 0xfee000f0; sti; movl $0x40041, 0xfee00300\n"
                       "1: cmpl $0, interrupts_seen; je 1b; cli; " OBSERVE LEAVE);
CODE32(task_interrupt, "1: " OBSERVE "incl interrupts_seen; movl $0, 0xfee000b0; iret; jmp 1b");
extern uint32_t interrupts_seen;
uint32_t interrupts_seen;

static void outside_rows(void)
{
    tasks32_prepare(task_nmi);
    tasks32_gate(VECTOR_NMI, TASK);
    nmis_seen = 0;
    tasks32_run(main_nmi);
    ran("nmi", 4);
    nested_rows("nmi");
    row("nmi", "waits-for-iret", records[1].eip != records[0].eip, 1);
    row("nmi", "comes-after-iret", records[2].eip, records[0].eip);
    row("nmi", "handled", nmis_seen, 2);
    row("nmi", "back-task-register", records[3].tr, MAIN);

    tasks32_prepare(task_interrupt);
    interrupts_seen = 0;
    tasks32_run(main_interrupt);
    ran("interrupt", 2);
    nested_rows("interrupt");
    row("interrupt", "if", records[0].eflags & RFLAGS_IF, 0);
    row("interrupt", "saved-if", tss_main.eflags & RFLAGS_IF, RFLAGS_IF);
    row("interrupt", "back-if", interrupts_seen, 1);
}

/* ---- What a switch loads ---------------------------------------------------------------------------- */

CODE32(task_traps, "nop\ntask_traps_next: nop; " LEAVE);
extern const char task_traps_next[];
CODE32(main_debug,
       "movl $0x6000000, %eax; movl %eax, %dr0; movl %eax, %dr1; movl %eax, %dr2; movl %eax, %dr3\n"
       "movl $0x7ff, %eax; movl %eax, %dr7; lcall $0x58, $0; " OBSERVE LEAVE);

static void load_rows(void)
{
    tasks32_prepare(task_returns);
    tss_task.cr3 = tasks32_space(1);
    tasks32_run(main_calls);
    ran("cr3", 2);
    row("cr3", "loaded", records[0].cr3, tasks32_space(1));
    row("cr3", "translates", records[0].probe, PROBE_THERE);
    row("cr3", "back", records[1].cr3, tasks32_space(0));
    row("cr3", "back-translates", records[1].probe, PROBE_HERE);
    row("cr3", "not-saved", tss_task.cr3, tasks32_space(1));

    tasks32_prepare(task_leaves);
    tss_task.eflags = (uint32_t)(0xffc08028 | RFLAGS_ZF | BIT(21) | RFLAGS_IOPL);
    tasks32_run(main_calls);
    ran("eflags", 1);
    row("eflags", "defined-bits", records[0].eflags,
        RFLAGS_FIXED | RFLAGS_ZF | BIT(21) | RFLAGS_IOPL | RFLAGS_NT);

    tasks32_prepare(task_traps);
    tss_task.trap = 1;
    tasks32_run(main_calls);
    row("t-bit", "traps", trap32.vector, VECTOR_DB);
    row("t-bit", "before-first-instruction", trap32.stack[0], place(task_traps));
    row("t-bit", "in-task", records[0].tr, TASK);
    row("t-bit", "dr6", records[0].dr6 & 0xe00f, BIT(15));

    tasks32_prepare(task_traps);
    tss_task.eflags |= RFLAGS_TF;
    tasks32_run(main_calls);
    row("tf", "traps", trap32.vector, VECTOR_DB);
    row("tf", "after-first-instruction", trap32.stack[0], place(task_traps_next));
    row("tf", "dr6", records[0].dr6 & 0xe00f, BIT(14));

    tasks32_prepare(task_returns);
    tasks32_run(main_debug);
    ran("dr7", 2);
    row("dr7", "no-local", records[0].dr7 & 0x3ff, 0x2aa);

    /* DS and ES of a local table; a null FS; conforming code in GS. */
    tasks32_prepare(task_leaves);
    tss_task.ldt = LOCAL;
    local_table[1] = guest_gdt[FRESH / 8];
    tss_task.ds = 8 | 4;
    tss_task.es = FRESH;
    tss_task.fs = 3;
    tss_task.gs = CONFORMING_3;
    tasks32_run(main_calls);
    ran("segments", 1);
    row("segments", "ldtr", records[0].ldtr, LOCAL);
    row("segments", "ds", records[0].ds, 8 | 4);
    row("segments", "es", records[0].es, FRESH);
    row("segments", "fs", records[0].fs, 3);
    row("segments", "gs", records[0].gs, CONFORMING_3);
    row("segments", "local-accessed", local_table[1] & ACCESSED, ACCESSED);
    row("segments", "accessed", guest_gdt[FRESH / 8] & ACCESSED, ACCESSED);

    tasks32_prepare(task_leaves);
    tss_task.cs = CONFORMING;
    tasks32_run(main_calls);
    ran("conforming", 1);
    row("conforming", "cs", records[0].cs, CONFORMING);
}

/* ---- Other tasks ------------------------------------------------------------------------------------ */

CODE32(task_user, "movl %esp, %eax; int $0x42");
CODE32(main_calls16, "lcall $0x68, $0; " OBSERVE LEAVE);
CODE32(task_of_16, "movzwl %sp, %esp; " OBSERVE "iret");
CODE32(task_of_16_leaves, "movzwl %sp, %esp; " OBSERVE LEAVE);

#define V86_CODE 0x20000UL

static struct tss16 task16_at(const char *entry)
{
    guest_segment(CODE16, place(entry), 0xffff, CODE_32); /* it begins at 0 */
    guest_segment(STACK16, (uint32_t)(uint64_t)task_stack, 0xffff, DATA_32 & ~SEGMENT_BIG);
    return (struct tss16){
        .flags = RFLAGS_FIXED,
        .ax = 0xc0c0,
        .cx = 0xc1c1,
        .dx = 0xc2c2,
        .bx = 0xc3c3,
        .sp = STACK_SIZE,
        .bp = 0xc5c5,
        .si = 0xc6c6,
        .di = 0xc7c7,
        .es = SELECTOR_DATA,
        .cs = CODE16,
        .ss = STACK16,
        .ds = SELECTOR_DATA,
    };
}

static void other_rows(void)
{
    tasks32_prepare(task_user);
    tss_task.cs = SELECTOR_USER_CODE32;
    tss_task.ss = tss_task.ds = tss_task.es = tss_task.fs = tss_task.gs = SELECTOR_USER_DATA;
    tasks32_run(main_calls);
    row("user", "traps", trap32.vector, VECTOR_TRAP);
    row("user", "cs", trap32.stack[1], SELECTOR_USER_CODE32);
    row("user", "esp", trap32.stack[3], STACK_TOP(task_stack));
    row("user", "ss", trap32.stack[4], SELECTOR_USER_DATA);
    row("user", "inner-stack", records[0].esp, STACK_TOP(inner_stack) - 24 - 12);

    /* INT VECTOR_TRAP with IOPL 3 leaves virtual-8086 mode by the gate. */
    tasks32_prepare(task_user);
    memcpy((void *)V86_CODE, "\xcd\x42", 2);
    tss_task.eflags |= (uint32_t)(BIT(17) | RFLAGS_IOPL);
    tss_task.cs = V86_CODE >> 4;
    tss_task.eip = 0;
    tss_task.ss = tss_task.ds = 0x3000;
    tss_task.es = 0x1234;
    tss_task.fs = 0x2345;
    tss_task.gs = 0x3456;
    tss_task.esp = 0x800;
    tasks32_run(main_calls);
    row("v86", "traps", trap32.vector, VECTOR_TRAP);
    row("v86", "eip", trap32.stack[0], 2);
    row("v86", "cs", trap32.stack[1], V86_CODE >> 4);
    row("v86", "eflags", trap32.stack[2] & (BIT(17) | RFLAGS_NT), BIT(17) | RFLAGS_NT);
    row("v86", "esp", trap32.stack[3], 0x800);
    row("v86", "ss", trap32.stack[4], 0x3000);
    row("v86", "es", trap32.stack[5], 0x1234);
    row("v86", "ds", trap32.stack[6], 0x3000);
    row("v86", "gs", trap32.stack[8], 0x3456);

    /*
     * A 16-bit TSS. No rows about the upper halves of its task's registers: the SDM does not say what is
     * there.
     */
    tasks32_prepare(task_returns);
    tss_task16 = task16_at(task_of_16);
    tasks32_run(main_calls16);
    ran("16-bit", 2);
    row("16-bit", "task-register", records[0].tr, TASK16);
    row("16-bit", "link", tss_task16.link, MAIN);
    row("16-bit", "eip", records[0].eip, 10);
    row("16-bit", "nt", records[0].eflags & RFLAGS_NT, RFLAGS_NT);
    row("16-bit", "ax", records[0].eax & 0xffff, 0xc0c0);
    row("16-bit", "di", records[0].edi & 0xffff, 0xc7c7);
    row("16-bit", "sp", records[0].esp, STACK_SIZE - 12);
    row("16-bit", "fs", records[0].fs, 0);
    row("16-bit", "cr3", records[0].cr3, tasks32_space(0));
    row("16-bit", "saved-ip", tss_task16.ip, 11);
    row("16-bit", "saved-si", tss_task16.si, 0xc6c6);
    row("16-bit", "saved-ss", tss_task16.ss, STACK16);
    row("16-bit", "back-ebx", records[1].ebx, 0xb0b0b0b0);
    row("16-bit", "back-available", type_of(TASK16), TYPE_TSS16);

    tasks32_prepare(task_returns);
    tss_task16 = task16_at(task_of_16_leaves);
    tasks32_gate(VECTOR_GP, TASK16);
    tasks32_run(main_selects);
    ran("16-bit-error-code", 1);
    row("16-bit", "error-code-sp", records[0].esp, STACK_SIZE - 12 - 2);
    row("16-bit", "error-code", records[0].top & 0xffff, 0x23c);
}

/* ---- Bad tasks -------------------------------------------------------------------------------------- */

#define FIELD(name) (offsetof(struct tss32, name) / 4)

/* Tasks whose own contents are bad: the switch is made, and the fault is theirs. */
static const struct {
    const char *name;
    unsigned field;
    uint32_t value;
    unsigned vector;
    uint32_t error;
} bad_tasks[] = {
    {"ldt-local", FIELD(ldt), LOCAL | 4, VECTOR_TS, LOCAL | 4},
    {"ldt-beyond", FIELD(ldt), BEYOND, VECTOR_TS, BEYOND},
    {"ldt-type", FIELD(ldt), SELECTOR_DATA, VECTOR_TS, SELECTOR_DATA},
    {"ldt-absent", FIELD(ldt), ABSENT_LOCAL, VECTOR_TS, ABSENT_LOCAL},
    {"cs-null", FIELD(cs), 0, VECTOR_TS, 0},
    {"cs-beyond", FIELD(cs), BEYOND, VECTOR_TS, BEYOND},
    {"cs-no-ldt", FIELD(cs), 8 | 4, VECTOR_TS, 8 | 4},
    {"cs-data", FIELD(cs), SELECTOR_DATA, VECTOR_TS, SELECTOR_DATA},
    {"cs-tss", FIELD(cs), HANDLER, VECTOR_TS, HANDLER},
    {"cs-absent", FIELD(cs), ABSENT_CODE, VECTOR_NP, ABSENT_CODE},
    {"cs-dpl", FIELD(cs), SELECTOR_USER_CODE32 & ~3, VECTOR_TS, SELECTOR_USER_CODE32 & ~3},
    {"cs-conforming-dpl", FIELD(cs), CONFORMING_3, VECTOR_TS, CONFORMING_3},
    {"ss-null", FIELD(ss), 0, VECTOR_TS, 0},
    {"ss-beyond", FIELD(ss), BEYOND, VECTOR_TS, BEYOND},
    {"ss-code", FIELD(ss), SELECTOR_CODE32, VECTOR_TS, SELECTOR_CODE32},
    {"ss-read-only", FIELD(ss), READ_ONLY, VECTOR_TS, READ_ONLY},
    {"ss-absent", FIELD(ss), ABSENT_DATA, VECTOR_SS, ABSENT_DATA},
    {"ss-rpl", FIELD(ss), SELECTOR_DATA | 3, VECTOR_TS, SELECTOR_DATA},
    {"ss-dpl", FIELD(ss), SELECTOR_USER_DATA & ~3, VECTOR_TS, SELECTOR_USER_DATA & ~3},
    {"ds-beyond", FIELD(ds), BEYOND, VECTOR_TS, BEYOND},
    {"ds-execute-only", FIELD(ds), EXECUTE_ONLY, VECTOR_TS, EXECUTE_ONLY},
    {"ds-tss", FIELD(ds), HANDLER, VECTOR_TS, HANDLER},
    {"ds-absent", FIELD(ds), ABSENT_DATA, VECTOR_NP, ABSENT_DATA},
    {"ds-rpl", FIELD(ds), SELECTOR_DATA | 3, VECTOR_TS, SELECTOR_DATA},
    {"gs-absent", FIELD(gs), ABSENT_DATA, VECTOR_NP, ABSENT_DATA},
};

static void bad_rows(const char *name, const char *scenario, unsigned vector, uint32_t error)
{
    for (unsigned v = VECTOR_DF; v <= VECTOR_GP; v++)
        tasks32_gate(v, v == vector ? HANDLER : MAIN); /* another vector finds a busy task: a triple fault */
    tasks32_run(scenario);
    ran(name, 1);
    row(name, "handler", records[0].tr, HANDLER);
    row(name, "in-task", tss_handler.link, TASK);
    row(name, "error-code", records[0].top, error);
    row(name, "eip", tss_task.eip, place(task_returns));
    row(name, "task-busy", records[0].type_task, TYPE_PRESENT | TYPE_TSS32 | TYPE_BUSY);
}

CODE32(main_undefined, "ud2");

static void bad_task_rows(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad_tasks); i++) {
        tasks32_prepare(task_returns);
        ((uint32_t *)&tss_task)[bad_tasks[i].field] = bad_tasks[i].value;
        bad_rows(bad_tasks[i].name, main_calls, bad_tasks[i].vector, bad_tasks[i].error);
    }

    /* While an event is delivered: EXT, unless an instruction asked for it; and what makes a double fault. */
    tasks32_prepare(task_returns);
    tss_task.ds = ABSENT_DATA;
    bad_rows("int-ds-absent", main_int, VECTOR_NP, ABSENT_DATA);
    tasks32_prepare(task_returns);
    tss_task.ds = ABSENT_DATA;
    tasks32_gate(VECTOR_UD, TASK);
    bad_rows("ud-ds-absent", main_undefined, VECTOR_NP, ABSENT_DATA | ERROR_EXT);
    tasks32_prepare(task_returns);
    tss_task.ds = ABSENT_DATA;
    tasks32_gate(VECTOR_DE, TASK);
    bad_rows("de-ds-absent", main_divides, VECTOR_DF, 0);
}

/* Nothing has been switched: the fault is MAIN's. */
static void refused(const char *name, const char *scenario, const char *at, unsigned vector, uint32_t error)
{
    const uint64_t task = guest_gdt[TASK / 8];

    tasks32_run(scenario);
    row(name, "vector", trap32.vector, vector);
    row(name, "error-code", trap32.stack[0], error);
    row(name, "eip", trap32.stack[1], place(at));
    row(name, "task-register", records[0].tr, MAIN);
    row(name, "ts", records[0].cr0 & CR0_TS, 0);
    row(name, "busy-main", records[0].type_main, TYPE_PRESENT | TYPE_TSS32 | TYPE_BUSY);
    row(name, "task-descriptor", guest_gdt[TASK / 8], task);
    row(name, "link-is-not", tss_task.link, 0);
}

CODE32(main_returns_bad, "movl $0x58, tss_main; pushfl; orl $0x4000, (%esp); popfl\n"
                         "main_returns_bad_at: iret; " LEAVE);
extern const char main_returns_bad_at[];

static void refused_rows(void)
{
    tasks32_prepare(task_returns);
    guest_gdt[TASK / 8] |= SEGMENT_TYPE(TYPE_BUSY);
    refused("call-busy", main_calls, main_calls, VECTOR_GP, TASK);
    tasks32_prepare(task_returns);
    guest_gdt[TASK / 8] &= ~SEGMENT_PRESENT;
    refused("call-absent", main_calls, main_calls, VECTOR_NP, TASK);
    tasks32_prepare(task_returns);
    tasks32_descriptor(TASK, (uint32_t)(uint64_t)&tss_task, TSS32_LIMIT - 1, TYPE_TSS32);
    refused("call-short", main_calls, main_calls, VECTOR_TS, TASK);
    tasks32_prepare(task_returns);
    refused("iret-available", main_returns_bad, main_returns_bad_at, VECTOR_TS, TASK);

    /* Task-state segments in the window, and what is not mapped there. */
    tasks32_prepare(task_returns);
    tasks32_descriptor(TASK, WINDOW_TASK, TSS32_LIMIT, TYPE_TSS32);
    refused("new-unmapped", main_calls, main_calls, VECTOR_PF, 0);
    row("new-unmapped", "cr2", records[0].cr2, WINDOW_TASK);
    tasks32_prepare(task_returns);
    tasks32_descriptor(TASK, WINDOW_TASK, TSS32_LIMIT, TYPE_TSS32);
    tasks32_map(1, (uint64_t)&tss_task | PAGE_PRESENT);
    refused("new-read-only", main_calls, main_calls, VECTOR_PF, PF_PRESENT | PF_WRITE);
    row("new-read-only", "cr2", records[0].cr2, WINDOW_TASK);
    tasks32_prepare(task_returns);
    tasks32_descriptor(MAIN, WINDOW_OLD, TSS32_LIMIT, TYPE_TSS32);
    refused("old-unmapped", main_calls, main_calls, VECTOR_PF, PF_WRITE);
    row("old-unmapped", "cr2", records[0].cr2, WINDOW_OLD + offsetof(struct tss32, eip));
    /*
     * The same by JMP has no row: the bare emulator has cleared MAIN's busy bit by then, which a switch that
     * is not completed leaves as it was (SDM vol. 3, "Task Switching", the note behind step 13).
     */
}

void guest_main(void)
{
    tasks32_init();
    for (unsigned m = 0; m < TASKS32_MODES; m++) {
        tasks32_mode = &tasks32_modes[m];
        call_rows();
        jump_rows();
        event_rows();
        outside_rows();
        load_rows();
        other_rows();
        bad_task_rows();
        refused_rows();
    }
}
