// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The hardware task switch, as the processor makes it outside IA-32e mode (SDM vol. 3, "Task Switching"):
 * from one task-state segment to another, 32-bit or 16-bit, with all the checks and exceptions of the table
 * "Exception Conditions Checked During a Task Switch". In VMX non-root operation it exits ("Treatment of Task
 * Switches"), so Umbra makes it. Pure: registers are a struct, memory is reached through functions.
 *
 * A switch has a commit point. What fails before it leaves registers and memory as they were, and the fault
 * is the old task's; what fails after it is the new task's fault, before its first instruction.
 */
#include "arch/x86/decode.h"
#include "lib/types.h"

#define TASK_SEGMENTS 6 /* by enum decode_segment */

/* A segment register, with its hidden part in the form of a VMCS. */
struct task_segment {
    uint16_t selector;
    uint32_t base, limit; /* bytes */
    uint32_t rights;      /* access rights */
};

/* All that a task switch saves, loads or looks at. The general registers are in the processor's order. */
struct task_registers {
    uint32_t eip; /* of the old task: where it will go on */
    uint32_t eflags;
    uint32_t general[8];
    struct task_segment segment[TASK_SEGMENTS];
    struct task_segment ldtr, tr;
    uint32_t gdt_base, gdt_limit;
    uint32_t cr3;
    bool paging; /* CR0.PG: CR3 is loaded */
};

/* Why the task is switched: as bits 31:30 of the exit qualification have it. */
enum task_source {
    TASK_SOURCE_CALL,
    TASK_SOURCE_IRET,
    TASK_SOURCE_JMP,
    TASK_SOURCE_GATE, /* a task gate in the IDT */
};

struct task_switch {
    enum task_source source;
    uint16_t selector;   /* of the new task's TSS */
    bool external;       /* an interrupt or exception that no instruction asked for: EXT of error codes */
    bool has_error_code; /* the event's error code goes to the new task's stack */
    uint32_t error_code;
};

/* An exception. `address`: of a page fault, CR2. */
struct task_fault {
    uint8_t vector;
    uint32_t error_code;
    uint32_t address;
};

/* How an access to memory ended. */
enum task_access {
    TASK_ACCESS_DONE,
    TASK_ACCESS_FAULT,     /* *fault is the guest's */
    TASK_ACCESS_NO_MEMORY, /* a device, or nothing, is there */
    TASK_ACCESS_AGAIN,     /* the page tables changed under it: try once more later */
};

/*
 * Accesses to linear addresses, which wrap at 4 GiB, under the CR3 that is in force. `how` is PAGING_USER and
 * enum stage_access of mm/stage.h; `check` is asked with PAGING_READ and PAGING_WRITE as well.
 */
struct task_ops {
    enum task_access (*check)(void *context, uint32_t address, size_t size, unsigned how,
                              struct task_fault *fault);
    enum task_access (*read)(void *context, uint32_t address, void *to, size_t size, unsigned how,
                             struct task_fault *fault);
    enum task_access (*write)(void *context, uint32_t address, const void *from, size_t size, unsigned how,
                              struct task_fault *fault);
    /* Replaces the four bytes at `address`, a multiple of 4, by `desired` if they are *expected, in one
     * piece; else *expected is what is there, and *exchanged false. A supervisor's access. */
    enum task_access (*exchange)(void *context, uint32_t address, uint32_t *expected, uint32_t desired,
                                 bool *exchanged, struct task_fault *fault);
    /* Loads CR3, with PDPTEs and flushes. False: it cannot be, and nothing has changed. */
    bool (*load_cr3)(void *context, uint32_t value);
};

enum task_result {
    TASK_SWITCHED,       /* *registers is the new task's */
    TASK_SWITCHED_FAULT, /* likewise, and it takes *fault before its first instruction */
    TASK_REFUSED,        /* *registers has not changed; the old task takes *fault */
    TASK_AGAIN,          /* nothing has changed; what asked for the switch is to be run again */
    TASK_IMPOSSIBLE,     /* a table is where no memory is, or never stands still: the guest cannot go on */
};

/* What else the switch was: `trap`: the T bit of the new TSS, after TASK_SWITCHED a #DB with DR6.BT. */
struct task_outcome {
    struct task_fault fault;
    bool trap;
};

/* Bits of DR7 that every task switch clears: L0 to L3 and LE. */
#define TASK_DR7_LOCAL 0x155

/*
 * Makes the switch that `request` asks for. Privileges have been checked (the processor does so before it
 * exits). The caller sets CR0.TS, clears TASK_DR7_LOCAL, and delivers faults and traps.
 */
enum task_result task_switch(const struct task_ops *ops, void *context, const struct task_switch *request,
                             struct task_registers *registers, struct task_outcome *outcome) __must_check;
