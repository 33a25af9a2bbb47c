// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Tasks in 32-bit protected mode, for guests that test hardware task switches (SDM vol. 3, "Task
 * Management").
 *
 * A scenario is a piece of 32-bit code that tasks32_run() goes to from long mode, with tasks that it switches
 * to. Whoever calls observe32 leaves a record; a scenario ends at leave32, by itself or by a trap that it did
 * not expect, and is judged afterwards from records, task-state segments and descriptors.
 */
#include "tests/guests/lib/guest.h"

enum {
    MAIN = SELECTOR_FREE,
    TASK = SELECTOR_FREE + 0x08,    /* the one that is switched to */
    HANDLER = SELECTOR_FREE + 0x10, /* takes the faults of bad tasks */
    TASK16 = SELECTOR_FREE + 0x18,
    GATE = SELECTOR_FREE + 0x20, /* to TASK */
    LOCAL = SELECTOR_FREE + 0x28,
    CODE16 = SELECTOR_FREE + 0x30,
    STACK16 = SELECTOR_FREE + 0x38,
    ABSENT_DATA = SELECTOR_FREE + 0x40,
    ABSENT_CODE = SELECTOR_FREE + 0x48,
    ABSENT_LOCAL = SELECTOR_FREE + 0x50,
    READ_ONLY = SELECTOR_FREE + 0x58,
    EXECUTE_ONLY = SELECTOR_FREE + 0x60,
    CONFORMING = SELECTOR_FREE + 0x68,
    CONFORMING_3 = SELECTOR_FREE + 0x70,
    FRESH = SELECTOR_FREE + 0x78, /* data that nobody has accessed */
    BEYOND = GDT_SLOTS * 8,
};

#define TYPE_TSS32     9
#define TYPE_TSS16     1
#define TYPE_BUSY      2
#define TYPE_TASK_GATE 5
#define TYPE_LDT       2
#define TYPE_PRESENT   0x80
#define TSS32_LIMIT    0x67
#define TSS16_LIMIT    0x2b
#define FLAT           0xfffff
#define CODE_32        (SEGMENT_PRESENT | SEGMENT_CODE_DATA | SEGMENT_BIG | SEGMENT_TYPE(10))
#define DATA_32        (SEGMENT_PRESENT | SEGMENT_CODE_DATA | SEGMENT_BIG | SEGMENT_TYPE(2))
#define ACCESSED       BIT(40)

#define VECTOR_TASK    0x41 /* task gate to TASK, DPL 3 */
#define VECTOR_TRAP    0x42 /* interrupt gate that ends the scenario, DPL 3 */

struct tss32 {
    uint32_t link;
    struct {
        uint32_t esp, ss;
    } inner[3];
    uint32_t cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, io_map;
};

struct tss16 {
    uint16_t link, inner[6];
    uint16_t ip, flags;
    uint16_t ax, cx, dx, bx, sp, bp, si, di;
    uint16_t es, cs, ss, ds, ldt;
};

/* In pages of their own, so that a scenario can have them elsewhere. TASK16's is the guest's to fill in. */
extern struct tss32 tss_main, tss_task, tss_handler;
extern struct tss16 tss_task16;

#define STACK_SIZE 2048
extern char main_stack[STACK_SIZE], task_stack[STACK_SIZE], handler_stack[STACK_SIZE],
    inner_stack[STACK_SIZE];
#define STACK_TOP(stack) ((uint32_t)(uint64_t)(stack) + STACK_SIZE)

extern uint64_t local_table[2];

/* What one who calls observe32 finds; the order is the code's. */
struct record {
    uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax, eflags;
    uint32_t eip, cs;
    uint32_t top; /* of its stack */
    uint32_t es, ds, fs, gs, ss;
    uint32_t tr, ldtr, cr0, cr2, cr3, dr6, dr7;
    uint32_t type_main, type_task; /* of the descriptors */
    uint32_t probe;                /* at PROBE */
};

#define RECORDS_MAX 8
extern struct record records[RECORDS_MAX];
extern unsigned recorded; /* of the last run */

/* An exception or interrupt without a task gate; its stack begins with the error code, if it has one. */
extern struct trap32 {
    uint32_t vector;
    uint32_t stack[10];
} trap32;

/* The page whose content tells address spaces apart, then pages for tasks. */
#define WINDOW      0x80000000u
#define PROBE       WINDOW
#define WINDOW_TASK (WINDOW + 0x1000)
#define WINDOW_OLD  (WINDOW + 0x2000)
#define PROBE_HERE  0x11111111
#define PROBE_THERE 0x22222222

#define CODE32(name, code)                                                                                   \
    extern const char name[];                                                                                \
    __asm__(".pushsection .text\n.code32\n.global " #name "\n" #name ": " code "\n.code64\n.popsection")
#define OBSERVE "lcall $0x38, $observe32\n"
#define LEAVE   "ljmp $0x38, $leave32\n"

/* Observes and returns; observes and leaves. */
extern const char task_returns[], task_leaves[];

struct tasks32_mode {
    const char *name;
    uint32_t cr4;
};

/* 32-bit paging and PAE paging; and the one that is being tested. */
#define TASKS32_MODES 2
extern const struct tasks32_mode tasks32_modes[TASKS32_MODES];
extern const struct tasks32_mode *tasks32_mode;

/* Makes the address spaces. Once. */
void tasks32_init(void);

/* What CR3 is for address space 0, where the window shows PROBE_HERE, or 1. */
uint32_t tasks32_space(unsigned number);

/* Maps page `page` of the window (not 0) in both. */
void tasks32_map(unsigned page, uint64_t entry);

/* Points vector's gate of the 32-bit IDT at `task`. */
void tasks32_gate(unsigned vector, uint16_t task);

/* An available TSS of `type`. */
void tasks32_descriptor(uint16_t selector, uint32_t base, uint32_t limit, unsigned type);

/* Everything as a scenario expects it: TASK runs `entry`, HANDLER leaves; all vectors but VECTOR_TASK trap.
 */
void tasks32_prepare(const char *entry);

/* Runs `scenario` as MAIN, and is in long mode again. */
void tasks32_run(const char *scenario);
