// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The logical VM exit, from Lv2 to Lv1 (SDM vol. 3, chapter "VM Exits"; seed 004, Fig. 9), in two steps:
 *
 *   nested_exit_save   VMCS02 is current: exit information and Lv2's state go to the VMCS12 (or stay away in
 *                      VMCS02: nested/away.h), the exit MSR-store list to memory (S1300 to S1360)
 *   nested_exit_load   VMCS01 is current: Lv1 gets the VMCS12's host state and the exit MSR-load list (S1370,
 *                      S1380)
 *
 * Between them the caller makes VMCS01 current. A failed entry (EXIT_REASON_ENTRY_FAILURE) goes the same way;
 * of Lv2's state nothing is saved then, since nothing of it was loaded.
 *
 * Events. At a logical exit nothing that the queue of `vcpu02` holds is lost:
 *   - What is to be injected (vcpu02.injection) has not been delivered: the exit interrupted its delivery, or
 *     comes before the entry that would have begun it. Lv1 gets it as IDT-vectoring information. Exceptions
 *     are a triple fault and a #DF that exits: the event came to its end in them (SDM vol. 3, "Information
 *     for VM exits that occur during event delivery"); and an injected MTF exit that another exit precedes.
 *   - An interrupt or an NMI that waits for its window is Lv1's own if Lv1 takes none as exits: it goes to
 *     the queue of `vcpu01`, unless an interrupt waits there already. Else Lv1 injected it, and a fault
 *     overtook its delivery: it ends there, as on a processor.
 */
#include "nested/nested.h"
#include "nested/owner.h"

/* Why Lv1 cannot go on: the VMX-abort indicators (SDM vol. 3, "VMX Aborts"). */
enum nested_abort {
    NESTED_ABORT_NONE = 0,
    NESTED_ABORT_STORE_MSRS = 1,
    NESTED_ABORT_HOST_PDPTES = 2,
    NESTED_ABORT_LOAD_MSRS = 4,
    NESTED_ABORT_HOST_SIZE = 6, /* from IA-32e mode to a host of 32 bits */
};

/*
 * What Lv1 is told, and what of Lv2's state only the caller knows. A value that the exit reason does not
 * define is 0, or ignored.
 */
struct nested_exit_information {
    uint32_t reason; /* with EXIT_REASON_ENTRY_FAILURE for a failed entry */
    uint32_t interruption;
    uint32_t interruption_error_code;
    uint32_t instruction_length;
    uint32_t instruction_information;
    uint64_t qualification;
    uint64_t linear_address;
    uint64_t physical_address; /* of Lv2 */

    uint32_t activity;         /* the state that Lv2 was in: 0 active, 1 HLT, 2 shutdown, 3 wait-for-SIPI */
    uint32_t preemption_timer; /* what is left of Lv1's, in its own ticks */
    const uint64_t *pdptes;    /* Lv2's four, where Lv0 keeps them; NULL: they are in VMCS02 */

    /* What nested_exit_save leaves for nested_exit_load: registers of which host state has not every bit. */
    struct {
        uint64_t cr0, efer, pat;
    } kept;
};

/*
 * The information of the exit that VMCS02 holds, for one that Lv1 gets as it is. All else in *information is
 * 0. VMCS02 is current, and as the exit left it. Exit path.
 */
void nested_exit_information(struct nested_vcpu *n, struct nested_exit_information *information);

/*
 * Fills in what nested_owner_find needs for the exit that VMCS02 holds; ops, context and lv0_wants are the
 * caller's. VMCS02 is current. Exit path.
 */
void nested_exit_describe(struct nested_vcpu *n, struct nested_owner_exit *exit);

/* The first step. VMCS02 is current; but for a failed entry that was found before VMCS02 had its turn. Exit
 * path. */
enum nested_abort nested_exit_save(struct nested_vcpu *n,
                                   struct nested_exit_information *information) __must_check;

/*
 * The second step; Lv1 runs from here on, also after a failure, where the caller crashes the partition.
 * VMCS01 is current. Exit path.
 */
enum nested_abort nested_exit_load(struct nested_vcpu *n,
                                   const struct nested_exit_information *information) __must_check;

/* Makes ready what exits load of VMCS12's host state, if that was written. Before vmcs12_forget_written. */
void nested_exit_prepare(struct nested_vcpu *n);

/* The name of a VMX abort, for the partition's last message. */
const char *nested_abort_name(enum nested_abort cause);
