// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The checks that a VM entry makes of its VMCS (SDM vol. 3, 27.2 "Checks on VMX controls and host-state
 * area", 27.3 "Checking and loading guest state"), as tables of named rows. There is a row for each thing
 * that the SDM forbids and the reserved bits of the control words do not: what Lv1 is not offered needs none.
 * Pure; guest memory is reached by the context's `read` only.
 *
 *   nested_check_controls   a row that does not hold: VMfailValid(7)
 *   nested_check_host       VMfailValid(8)
 *   nested_check_guest      an exit with reason 33, exit qualification in the row
 *
 * Rows are in groups, by the fields that they look at. A group whose fields nobody wrote since it last held
 * holds still, and is left out:
 *
 *   groups = nested_check_groups(&context, &checked);
 *   … the three functions with `groups`; what they return decides …
 *   all hold: nested_check_passed(&context, &checked), vmcs12_forget_written(vmcs)
 */
#include "lib/types.h"
#include "nested/capabilities.h"
#include "nested/vmcs12.h"

/* What an entry is checked against. Nothing of it is kept. */
struct nested_check_context {
    const struct vmcs12 *vmcs;
    const struct nested_capabilities *capabilities; /* what Lv1 was offered */
    uint64_t current;                               /* the current-VMCS pointer */
    uint64_t efer;         /* bits of IA32_EFER that software may set; LMA need not be there */
    uint64_t debugctl;     /* likewise of IA32_DEBUGCTL */
    uint8_t physical_bits; /* MAXPHYADDR, at most 52 */
    uint8_t linear_bits;   /* the widest linear addresses that there are: 48 or 57 */
    bool ia32e_mode;       /* Lv1 is in IA-32e mode: its IA32_EFER.LMA */
    bool rtm;              /* CPUID tells of RTM */
    /*
     * Copies `size` bytes of Lv1's guest-physical memory at `address` to `to`. False: some of them are not
     * there; the checks take all of them for ones then, as on a bus that nothing answers on.
     */
    bool (*read)(void *context, uint64_t address, void *to, size_t size);
    void *context;
    /*
     * Gets the four PDPTEs that nested_check_guest read from guest memory and found good, if it had to (PAE
     * paging without EPT): the entry loads these, it does not read them again. Else left alone.
     */
    uint64_t *pdptes;
};

/* Groups of rows; a set of them has BIT(group). In the order in which they are checked. */
enum nested_check_group {
    /* nested_check_controls */
    NESTED_CHECK_EXECUTION,   /* the words of VM-execution controls, and what they ask of each other */
    NESTED_CHECK_ADDRESSES,   /* what VM-execution controls refer to: addresses, EPTP, VPID, TPR threshold */
    NESTED_CHECK_VIRTUAL_TPR, /* in memory */
    NESTED_CHECK_EXIT,        /* VM-exit controls */
    NESTED_CHECK_ENTRY,       /* VM-entry controls */
    NESTED_CHECK_EVENT,       /* VM-entry controls for event injection */
    /* nested_check_host */
    NESTED_CHECK_HOST_REGISTERS, /* control registers and MSRs */
    NESTED_CHECK_HOST_SEGMENTS,  /* segment and descriptor-table registers */
    NESTED_CHECK_ADDRESS_SPACE,  /* IA-32e mode before, in and after the guest */
    /* nested_check_guest */
    NESTED_CHECK_REGISTERS, /* control registers, debug registers, MSRs */
    NESTED_CHECK_ES,        /* the eight segment registers, in the order of their fields */
    NESTED_CHECK_CS,
    NESTED_CHECK_SS,
    NESTED_CHECK_DS,
    NESTED_CHECK_FS,
    NESTED_CHECK_GS,
    NESTED_CHECK_LDTR,
    NESTED_CHECK_TR,
    NESTED_CHECK_TABLES,       /* GDTR, IDTR */
    NESTED_CHECK_RIP,          /* RIP and RFLAGS */
    NESTED_CHECK_NON_REGISTER, /* activity, interruptibility, pending debug exceptions */
    NESTED_CHECK_LINK,         /* the VMCS link pointer, and the region in memory that it points to */
    NESTED_CHECK_PDPTES,       /* the fields, with EPT */
    NESTED_CHECK_PDPTE_TABLE,  /* in memory, without */
    NESTED_CHECK_GROUPS,
};

/* The groups that look at fields that may be away (nested/away.h). */
#define NESTED_CHECKS_OF_AWAY                                                                                \
    (BIT(NESTED_CHECK_REGISTERS) | BIT(NESTED_CHECK_ES) | BIT(NESTED_CHECK_CS) | BIT(NESTED_CHECK_SS) |      \
     BIT(NESTED_CHECK_DS) | BIT(NESTED_CHECK_FS) | BIT(NESTED_CHECK_GS) | BIT(NESTED_CHECK_LDTR) |           \
     BIT(NESTED_CHECK_TR) | BIT(NESTED_CHECK_TABLES))

#define NESTED_CHECK_ALL                  (BIT(NESTED_CHECK_GROUPS) - 1)

/* Exit qualifications of an entry that fails by its guest state (SDM vol. 3, 27.8). */
#define NESTED_CHECK_QUALIFICATION_PDPTES 2
#define NESTED_CHECK_QUALIFICATION_NMI    3
#define NESTED_CHECK_QUALIFICATION_LINK   4

struct nested_check_row {
    const char *name;    /* short, unique, and stays what it is */
    const char *section; /* of the SDM's volume 3 */
    /* Whether what the row is about is as it has to be. `field` is the row's. */
    bool (*holds)(const struct nested_check_context *context, unsigned field);
    uint16_t field; /* the one that the row is about: enum vmcs_index */
    uint8_t qualification;
    uint8_t word;  /* the row is asked only if control `mask` (VMX_PRIMARY_… and so on) of this word, */
    uint32_t mask; /* an enum vmx_word, is 1; 0: always */
};

/*
 * The first row of `groups` that does not hold, or NULL. A set of groups may have groups of all three
 * functions. Exit path of VMLAUNCH and VMRESUME.
 */
const struct nested_check_row *nested_check_controls(const struct nested_check_context *context,
                                                     uint32_t groups) __must_check;
const struct nested_check_row *nested_check_host(const struct nested_check_context *context,
                                                 uint32_t groups) __must_check;
const struct nested_check_row *nested_check_guest(const struct nested_check_context *context,
                                                  uint32_t groups) __must_check;

/*
 * What the last entry that passed was like, as far as many groups depend on it: one for each cached VMCS12.
 * Any value will do as long as all of its fields count as written.
 */
struct nested_checked {
    uint32_t modes; /* nested_check_groups' own */
};

/*
 * The groups that may not hold any more: those with fields that the VMCS says were written, and those that
 * look at memory. `checked` is of the last entry that passed with this VMCS.
 */
uint32_t nested_check_groups(const struct nested_check_context *context,
                             const struct nested_checked *checked);

/* Every row holds, those of groups that were left out included. */
void nested_check_passed(const struct nested_check_context *context, struct nested_checked *checked);

/* For listings and tests: the rows of a group, *count of them; the group's name; the groups that look at a
 * field (enum vmcs_index). */
const struct nested_check_row *nested_check_rows(enum nested_check_group group, size_t *count);
/* All rows have numbers below this, from 0 on. */
#define NESTED_CHECK_ROWS_MAX 256

/* The row of a number, NULL past the last; and the other way round: how many there are, if it is none. */
const struct nested_check_row *nested_check_at(unsigned number);
unsigned nested_check_number(const struct nested_check_row *row);
const char *nested_check_group_name(enum nested_check_group group);
uint32_t nested_check_field_groups(unsigned field);
