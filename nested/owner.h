// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Whose an exit from Lv2 is: Lv0's or Lv1's (seed 004, Fig. 8, made safe). One table in the order of the exit
 * reasons; the rows of a reason are asked from the first to the last, and the first that holds decides. Its
 * last row always holds, and the compiler refuses a reason without one. Within a reason the order is
 *
 *   1. Lv0's closed list: what is never Lv1's, or may be Lv0's own doing (S1290 is the processor's business)
 *   2. Lv1's controls: the exit is one that Lv1 asked for (S1210, S1220)
 *   3. an update of CR0 or CR4 that Lv0 alone intercepts (S1230, S1240)
 *   4. what is left is emulated for Lv2 (S1270), or does not exist for it
 *
 * Entry instructions (S1250) are Lv1's when Lv2 executes them, as all VMX instructions are. Pure.
 */
#include "lib/types.h"
#include "nested/vmcs12.h"
#include "vmx/reasons.h"

enum nested_owner {
    NESTED_LV0,            /* Umbra's own affair, as if Lv1 had been running: then Lv2 goes on */
    NESTED_LV0_MEMORY,     /* who caused it, only a walk of the tables can tell */
    NESTED_LV0_CR,         /* an update of CR0 or CR4 that Lv1 lets through: Fig. 13 */
    NESTED_LV0_EMULATE,    /* Lv1 lets it through and Lv0 does not: done for Lv2 as it would be for Lv1 */
    NESTED_LV0_UNDEFINED,  /* #UD for Lv2: Lv1 has not enabled the instruction, or it is not offered */
    NESTED_LV0_UNEXPECTED, /* cannot be: the partition is crashed */
    NESTED_LV1,            /* a logical VM exit */
    NESTED_OWNERS,
};

/* What Lv0 itself had asked the processor for when Lv2 was entered: a mask. */
enum nested_lv0_wants {
    NESTED_LV0_WANTS_INTERRUPT_WINDOW = 1,
    NESTED_LV0_WANTS_NMI_WINDOW = 2,
    NESTED_LV0_WANTS_TIMER = 4,       /* the deadline that is over is Lv0's (too) */
    NESTED_LV0_WANTS_STEP = 8,        /* it steps Lv2, by RFLAGS.TF: #DB is its own first */
    NESTED_LV0_WANTS_PAGE_FAULTS = 16 /* shadow paging: a page fault may be the virtual TLB's */
};

/* Questions that only Lv1's memory can answer. True also where that memory cannot be read. */
struct nested_owner_ops {
    /* The bit of Lv1's MSR bitmap for a RDMSR or WRMSR of `index`: one that the bitmap has a bit for. */
    bool (*lv1_msr_bit)(void *context, uint32_t index, bool write);
    /* Whether Lv1's I/O bitmaps have a bit set for one of `size` (1, 2, 4) ports from `port`; they do not
     * wrap. */
    bool (*lv1_io_bit)(void *context, uint16_t port, unsigned size);
};

/* What a rule may look at beside the reason, the VMCS12 and `lv0_wants`: nested_owner_needs says which. */
enum nested_owner_need {
    NESTED_NEEDS_QUALIFICATION = 1,
    NESTED_NEEDS_INTERRUPTION = 2, /* `interruption` and `error_code` */
    NESTED_NEEDS_OPERAND = 4,
    NESTED_NEEDS_CR4 = 8,
    NESTED_NEEDS_XSS = 16,
};

/* One exit. `operand` is what the instruction works on:
 *   MOV to CR0, CR3, CR4            the register's value, of 32 bits outside 64-bit mode
 *   RDMSR, WRMSR                    ECX
 *   XSAVES, XRSTORS                 EDX:EAX
 *   ENCLS, ENCLV, PCONFIG           EAX
 */
struct nested_owner_exit {
    uint32_t reason;       /* the whole field */
    uint32_t interruption; /* VM-exit interruption information */
    uint32_t error_code;   /* VM-exit interruption error code */
    uint64_t qualification;
    uint64_t operand;
    uint64_t cr4; /* Lv2's, as Lv1's processor has it: not by a read shadow */
    uint64_t xss; /* IA32_XSS, likewise */
    unsigned lv0_wants;
    const struct vmcs12 *vmcs12;
    const struct nested_owner_ops *ops;
    void *context;
};

struct nested_owner_row {
    uint8_t reason; /* basic exit reason; EXIT_REASON_COUNT: any other number */
    uint8_t owner;  /* enum nested_owner */
    uint8_t needs;  /* mask of enum nested_owner_need */
    bool (*holds)(const struct nested_owner_exit *exit, const struct nested_owner_row *row);
    uint32_t controls; /* for `holds`: controls of VMCS12 */
    const char *name;  /* the case, in words */
    const char *source;
};

/* What nested_owner_find looks at for an exit with this reason: mask of enum nested_owner_need. Exit path. */
unsigned nested_owner_needs(uint32_t reason);

/*
 * The row that decides about an exit of Lv2, or about an event that Lv0 would bring about in it: an exception
 * that it is to be given can be asked about as an exit by that exception. After a walk that NESTED_LV0_MEMORY
 * asked for, a page fault that is Lv2's own is asked about again, with the error code of Lv2's tables and
 * without NESTED_LV0_WANTS_PAGE_FAULTS; likewise #DB with what is left of its qualification. Never NULL. Exit
 * path.
 */
const struct nested_owner_row *nested_owner_find(const struct nested_owner_exit *exit);

/* The table, for those who list or test it; *count is its length. */
const struct nested_owner_row *nested_owner_rows(size_t *count);

/* "Lv0", "Lv1" and so on, for listings. */
const char *nested_owner_name(enum nested_owner owner);
